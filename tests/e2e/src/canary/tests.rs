//! A search that finds nothing proves something only if it would have found something.

use super::*;

/// With characters that each form writes in its own way.
const SECRET: &str = "s3cr3t/+=\"\\ \u{e4}-of-which-every-piece-counts/42?&";
const JWT: &str = "eyJhbGciOiJFUzI1NiJ9.eyJpc3MiOiJodHRwczovL2NsdXN0ZXIuZXhhbXBsZS8iLCJzdWIiOiJzeXN0ZW06c2VydmljZWFjY291bnQ6dGVhbTp3ZWIifQ.dGhlLXNpZ25hdHVyZS1vZi10aGlzLXRva2Vu";

fn canaries() -> Canaries {
    let mut canaries = Canaries::default();
    canaries.add_bytes("the secret", SECRET.as_bytes());
    canaries
}

fn found(canaries: &Canaries, artefact: &str) -> Option<&'static str> {
    canaries.find(artefact.as_bytes()).map(|leak| leak.form)
}

fn hexadecimal(bytes: &[u8]) -> String {
    let digits: Vec<String> = bytes.iter().map(|byte| format!("{byte:02x}")).collect();
    digits.concat()
}

#[test]
fn canary_is_found_in_every_form() {
    let json = serde_json::Value::from(SECRET).to_string();
    let login = STANDARD.encode(format!("00000000-0000-0000-0000-000000000000:{SECRET}"));
    let hex = hexadecimal(SECRET.as_bytes());
    for (artefact, form) in [
        (format!("a line with {SECRET} in it"), "it is"),
        (STANDARD.encode(SECRET), "base64"),
        (STANDARD.encode(format!("a{SECRET}b")), "base64"),
        (URL_SAFE_NO_PAD.encode(format!("ab{SECRET}")), "base64"),
        (STANDARD.encode(format!("abc{login}")), "base64 in base64"),
        (format!("token={}", hex.to_uppercase()), "hexadecimal"),
        (hex, "hexadecimal"),
    ] {
        assert_eq!(found(&canaries(), &artefact), Some(form), "{artefact}");
    }
    // Of these a piece is as it is, so each is looked for where it differs.
    let written = "%2f%2b%3d%22%5c%20%c3%a4";
    let (upper, lower) = (written.to_uppercase(), written.to_owned());
    let escaped = json.replace('/', "\\/").get(7..24).unwrap().to_owned();
    for artefact in [upper, lower, escaped] {
        assert!(found(&canaries(), &artefact).is_some(), "{artefact}");
    }
}

#[test]
fn canary_of_which_sixteen_bytes_show_is_found_wherever_they_begin() {
    let canaries = canaries();
    for (form, bytes) in forms(SECRET.as_bytes()) {
        for fragment in bytes.windows(FRAGMENT) {
            for around in ["", "x", "a longer text around it"] {
                let artefact = [around.as_bytes(), fragment, around.as_bytes()].concat();
                let leak = canaries.find(&artefact).unwrap_or_else(|| panic!("{form}"));
                assert!(leak.length >= FRAGMENT && leak.at <= around.len());
            }
        }
    }
}

#[test]
fn canary_of_which_less_shows_is_not_found() {
    let canaries = canaries();
    for fragment in SECRET.as_bytes().windows(FRAGMENT - 1) {
        assert_eq!(canaries.find(fragment), None);
        assert_eq!(canaries.find(&[b"~", fragment, b"~"].concat()), None);
    }
    for artefact in ["", "short", "nothing of it, and longer than any gram or fragment"] {
        assert_eq!(canaries.find(artefact.as_bytes()), None);
    }
}

#[test]
fn canary_token_counts_by_its_signature_and_by_whole_segments() {
    let mut canaries = Canaries::default();
    canaries.add_token("the token", JWT);
    let [header, claims, signature] = JWT.split('.').collect::<Vec<_>>()[..] else {
        panic!("no token");
    };
    let decoded = URL_SAFE_NO_PAD.decode(signature).unwrap();
    let hex = hexadecimal(&decoded);
    for artefact in [
        JWT,
        header,
        claims,
        signature,
        signature.get(3..19).unwrap(),
        &hex,
        &STANDARD.encode(JWT),
        &STANDARD.encode(format!("Bearer {claims}")),
        std::str::from_utf8(&decoded).unwrap(),
    ] {
        assert!(found(&canaries, artefact).is_some(), "{artefact}");
    }
    for public in [
        "https://cluster.example/",
        "system:serviceaccount:team:web",
        claims.get(1..).unwrap(),
        header.get(..header.len() - 1).unwrap(),
    ] {
        assert_eq!(found(&canaries, public), None, "{public}");
    }
}

#[test]
fn canary_key_counts_by_its_number() {
    let key = rcgen::KeyPair::generate().unwrap();
    let mut canaries = Canaries::default();
    canaries.add_key_pem("the key", &key.serialize_pem());
    assert_eq!(found(&canaries, &key.serialize_pem()), Some("base64"));
    assert_eq!(
        canaries.find(key.serialized_der()).map(|leak| leak.form),
        Some("it is")
    );
    let other = rcgen::KeyPair::generate().unwrap();
    assert_eq!(found(&canaries, &other.serialize_pem()), None);
    assert_eq!(found(&canaries, &key.public_key_pem()), None);
}

#[test]
fn canary_leak_is_told_without_the_secret() {
    let mut canaries = Canaries::default();
    let planted = canaries.plant("a planted secret");
    let leak = canaries.find(format!("log: {planted}").as_bytes()).unwrap();
    assert_eq!(leak.to_string(), "64 bytes of a planted secret, as it is, at 5");
    assert!(canaries.find(leak.to_string().as_bytes()).is_none());
}

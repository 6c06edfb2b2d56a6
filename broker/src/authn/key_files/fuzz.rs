//! Files of kept keys: the keys of this source, recently confirmed, or nothing.

use hostile::{document, fuzz};

use super::*;

const NOW: u64 = 1_795_000_000;

#[test]
fn fuzz_kept_keys_a7_are_of_the_source_and_recent_or_refused() {
    let folder = tempfile::tempdir().unwrap();
    let files = KeyFiles::open(folder.path()).unwrap();
    let source = JwksUrl {
        url: "https://weu-7.example/keys".parse().unwrap(),
        ca_bundle: None,
        token_file: None,
    };
    let file = files.of(&Arc::from("weu-7"), &Arc::from("https://issuer.example"), &source);
    let good = r#"{"version":2,"cluster":"weu-7","issuer":"https://issuer.example","url":"https://weu-7.example/keys","caBundleSha256":"",
        "confirmedAt":1795000000,"countsSince":{},"keys":{"keys":[
        {"kty":"EC","crv":"P-256","kid":"1","x":"MKBCTNIcKUSDii11ySs3526iDZ8AiTo7Tu6KPAqv7D4","y":"4Etl6SRW2YiLUrN5vfvVHuhp7x8PxltmWWlbbM4IFyM"}]}}"#;
    let now = UNIX_EPOCH + Duration::from_secs(NOW);
    assert!(
        file.parse(good.as_bytes(), now).is_ok(),
        "the seed is a good file"
    );
    fuzz(document(&[good]), |text| {
        let Ok(kept) = file.parse(text.as_bytes(), now) else {
            return;
        };
        assert!(kept.at <= now + CLOCK_SKEW);
        assert!(now.duration_since(kept.at).unwrap_or_default() < KEPT_UNCONFIRMED);
        assert!((1..=16).contains(&kept.keys.thumbprints().count()));
        let again = file.content(&kept.keys, &kept.ages, kept.at).unwrap();
        let again = file.parse(&again, now).unwrap();
        assert!(
            again.keys.same_keys(&kept.keys) && again.at == kept.at,
            "what is kept is what was read"
        );
    });
}

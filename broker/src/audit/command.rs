//! `broker audit fingerprint`: from a token that somebody has found to what stands for it in the records.

use std::io::Read as _;

use base64::{Engine as _, engine::general_purpose::STANDARD};
use runtime::Failure;
use serde::Deserialize;
use serde_json::Value;
use zeroize::Zeroizing;

use super::FingerprintKey;
use crate::args::FingerprintArgs;

/// A Secret holds 1 MiB at most; more is neither a token nor a payload.
const MAX_INPUT_BYTES: u64 = 1024 * 1024;

#[derive(Deserialize)]
struct DockerConfig {
    auths: serde_json::Map<String, Value>,
}

/// Reads a token or a `.dockerconfigjson` from standard input and prints the fingerprint of each token in it.
///
/// # Errors
/// The key cannot be read or is too short (exit code 64); there is no token in the input (64).
#[expect(clippy::print_stdout, reason = "the answer of a command")]
pub fn fingerprint(args: &FingerprintArgs) -> Result<(), Failure> {
    let what = || format!("the key {}", args.key_file.display());
    let key = std::fs::read(&args.key_file)
        .map(Zeroizing::new)
        .map_err(|error| Failure::usage(what()).source(error))?;
    let key = FingerprintKey::new(&key).map_err(|error| Failure::usage(what()).source(error))?;
    let mut input = Zeroizing::new(String::new());
    std::io::stdin()
        .lock()
        .take(MAX_INPUT_BYTES)
        .read_to_string(&mut input)
        .map_err(|error| Failure::usage("standard input").source(error))?;
    let tokens = tokens(&input);
    if tokens.is_empty() {
        return Err(Failure::usage("there is no token on standard input")
            .remedy("give it a token, or the content of a pull Secret"));
    }
    for token in tokens {
        println!("{} {}", key.id(), key.fingerprint(&token));
    }
    Ok(())
}

/// The tokens of a `.dockerconfigjson`; whatever is no such thing is a token itself.
fn tokens(input: &str) -> Vec<Zeroizing<String>> {
    if let Ok(config) = serde_json::from_str::<DockerConfig>(input) {
        return config.auths.values().filter_map(token_of).collect();
    }
    let token = input.trim();
    if token.is_empty() {
        Vec::new()
    } else {
        vec![Zeroizing::new(token.to_owned())]
    }
}

/// What a kubelet would use: `auth` wins over `password`.
fn token_of(entry: &Value) -> Option<Zeroizing<String>> {
    let text = |field: &str| entry.get(field).and_then(Value::as_str);
    let of_pair = || {
        let pair = Zeroizing::new(STANDARD.decode(text("auth")?).ok()?);
        let (_user, password) = std::str::from_utf8(&pair).ok()?.split_once(':')?;
        Some(password.to_owned())
    };
    of_pair()
        .or_else(|| text("password").map(str::to_owned))
        .map(Zeroizing::new)
}

#[cfg(test)]
mod tests {
    use runtime::Secret;

    use super::*;
    use crate::docker_config;

    fn read(input: &str) -> Vec<String> {
        tokens(input).iter().map(|token| token.to_string()).collect()
    }

    #[test]
    fn o1_token_is_found_in_all_that_an_investigator_may_have() {
        let token = Secret::from("a.b.c".to_owned());
        let payload = docker_config::render(&"example.azurecr.io".parse().unwrap(), &token);
        assert_eq!(read(std::str::from_utf8(&payload).unwrap()), ["a.b.c"]);
        assert_eq!(read(" a.b.c\n"), ["a.b.c"]);
        assert_eq!(
            read(r#"{"auths":{"x":{"password":"p"},"y":{"auth":"dTp2"}}}"#),
            ["p", "v"]
        );
        assert!(read("\n").is_empty());
        assert!(read(r#"{"auths":{}}"#).is_empty());
    }
}

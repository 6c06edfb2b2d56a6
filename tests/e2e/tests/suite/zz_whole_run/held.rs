//! What the processes of a stack hold, and what Azure handed out to them: the secrets that are looked for.

use anyhow::ensure;
use e2e::{Canaries, Stack};

/// What faults make up as tokens is shorter.
const LEAST_TOKEN: usize = 40;
/// Where the charts mount what the processes hold.
const AUDIT_KEY: &str = "/etc/acrpull-broker/audit/key";
const CLIENT_KEY: &str = "/var/run/secrets/acrpull-syncer-client/tls.key";

/// In every stack: everything that Azure handed out, and what the processes hold of their own.
pub(crate) async fn by_all(stack: &Stack, canaries: &mut Canaries) -> anyhow::Result<()> {
    let issued = stack.azure().issued().await?;
    ensure!(issued.len() > 2, "nothing was handed out");
    for issued in issued.iter().filter(|issued| issued.secret.len() >= LEAST_TOKEN) {
        canaries.add_token(&issued.kind, &issued.secret);
    }
    let assertions = stack.azure().assertions().await?;
    ensure!(!assertions.is_empty(), "nothing was exchanged");
    for assertion in assertions.iter().filter(|token| token.len() >= LEAST_TOKEN) {
        canaries.add_token("an assertion", assertion);
    }
    for token in stack.minted_tokens() {
        canaries.add_token("a minted token", &token);
    }
    let own = std::fs::read_to_string(stack.syncer_token_file()?)?;
    canaries.add_token("the syncer's own token", &own);
    canaries.add_key_pem("the key of the broker's certificate", stack.broker_key_pem());
    let audit_key = std::fs::read(stack.broker().file(AUDIT_KEY)?)?;
    canaries.add_bytes("the audit key", &audit_key);
    Ok(())
}

/// Where the syncer has a certificate.
pub(crate) fn by_certified_syncer(stack: &Stack, canaries: &mut Canaries) -> anyhow::Result<()> {
    let key = std::fs::read_to_string(stack.syncer().file(CLIENT_KEY)?)?;
    canaries.add_key_pem("the key of the syncer's certificate", &key);
    Ok(())
}

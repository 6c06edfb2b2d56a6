//! Step 6: a token is replaced before it expires.

use std::time::Duration;

use anyhow::Context as _;
use azure_simulator::{LogEntry, Operation, Service};
use e2e::PullSecret;
use jiff::Timestamp;

use super::Walk;

/// The tokens are due after at most two thirds of their 90 s; the rest is patience with a busy machine.
const PATIENCE: Duration = Duration::from_secs(90);

/// The annotations that are compared.
const FINGERPRINT: &str = "acrpull.microsoft.com/fingerprint";
const EXPIRY: &str = "acr.microsoft.com/token.expiry";
const REFRESH_AT: &str = "acrpull.microsoft.com/refresh-at";

pub(super) async fn show(walk: &mut Walk<'_>) -> anyhow::Result<()> {
    walk.screen.step(
        "The token is replaced before it expires",
        "Tokens live 90 s here, an hour in Azure. The Secret is written in place, so there is no moment without one; \
         and the broker still has Entra's token and the registry's refresh token, so Azure is asked once.",
    );
    let before = walk.pull_secret().await?;
    let seq = walk.last_call().await?;
    let due_at = before.annotation(REFRESH_AT).unwrap_or("?").to_owned();
    let look = e2e::poll("the Secret holds another token", PATIENCE, async || {
        let now = walk.pull_secret().await?;
        let is_new = now.annotation(FINGERPRINT) != before.annotation(FINGERPRINT);
        Ok(if is_new { Ok(now) } else { Err("it is the same") })
    });
    let after = walk
        .screen
        .waiting(&format!("waiting for {due_at}, when the next token is due"), look)
        .await?;
    let seen_at = Timestamp::now();
    let calls = walk.credential_calls_since(seq).await?;
    walk.screen.output(&table(&before, &after, &calls));

    let ((old_version, old_uid), (new_version, new_uid)) = (before.version(), after.version());
    walk.screen.check(
        "it is the same Secret, written in place: its uid has not changed",
        old_uid == new_uid,
    );
    walk.screen
        .check("its resourceVersion has", old_version != new_version);
    let (old_expiry, new_expiry) = (expiry(&before)?, expiry(&after)?);
    walk.screen
        .check("the new token lives longer", new_expiry > old_expiry);
    walk.screen
        .check("it came before the old one expired", seen_at < old_expiry);
    let is_one_token = matches!(calls.as_slice(), [call] if is_access_token(call));
    walk.screen.check(
        "Azure was asked once, for an access token of the registry",
        is_one_token,
    );
    Ok(())
}

fn table(before: &PullSecret, after: &PullSecret, calls: &[LogEntry]) -> String {
    let row =
        |name: &str, of: &dyn Fn(&PullSecret) -> String| format!("{name:<18}{:<40}{}", of(before), of(after));
    let annotation =
        |name: &'static str| move |secret: &PullSecret| secret.annotation(name).unwrap_or("-").to_owned();
    let mut rows = vec![
        format!("{:<18}{:<40}AFTER", "", "BEFORE"),
        row("uid", &|secret| secret.version().1),
        row("resourceVersion", &|secret| secret.version().0),
        row("fingerprint", &annotation(FINGERPRINT)),
        row("token.expiry", &annotation(EXPIRY)),
        row("refresh-at", &annotation(REFRESH_AT)),
        String::new(),
        "Azure was asked meanwhile:".to_owned(),
    ];
    rows.extend(calls.iter().map(|call| {
        let status = call
            .status
            .map_or_else(|| "-".to_owned(), |status| status.to_string());
        format!("  {} {}{}  {status}", call.method, call.host, call.path)
    }));
    rows.join("\n")
}

fn is_access_token(call: &LogEntry) -> bool {
    call.service == Service::Acr && call.op == Operation::Token && call.status == Some(200)
}

fn expiry(secret: &PullSecret) -> anyhow::Result<Timestamp> {
    let text = secret
        .annotation(EXPIRY)
        .context("the Secret does not say when its token expires")?;
    text.parse().with_context(|| format!("{text} is no time"))
}

//! Step 4: the Secret that the syncer wrote.

use anyhow::Context as _;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use jiff::Timestamp;
use serde_json::{Value, json};

use super::Walk;
use crate::scene::{BINDING, NAMESPACE, REGISTRY, SCOPE};
use crate::token::TokenText;

/// The user name that stands for a token.
const NULL_GUID: &str = "00000000-0000-0000-0000-000000000000";

/// The key that a kubelet reads.
const KEY: &str = ".dockerconfigjson";

pub(super) async fn show(walk: &mut Walk<'_>) -> anyhow::Result<()> {
    walk.screen.step(
        "The Secret, decoded",
        "It holds a token for this one repository and nothing else. The token itself is not shown here, and is in no log.",
    );
    let arguments = format!("get secret acr-pull-{BINDING} --namespace {NAMESPACE}");
    walk.screen.command(&format!("kubectl {arguments} -o yaml"));
    walk.screen
        .note("the same, with the payload decoded and the token left out");
    let object: Value = serde_json::from_str(&walk.kubectl_quietly(&format!("{arguments} -o json")).await?)
        .context("kubectl printed no JSON")?;
    let secret = walk.pull_secret().await?;
    let login = secret.login(REGISTRY)?;
    let token = TokenText::read(&login.password)?;
    let text = serde_saphyr::to_string(&redacted(object, &token)).context("failed to write YAML")?;
    let is_leaked = text.contains(&login.password) || text.contains(&login.auth);
    if !is_leaked {
        walk.screen.output(&text);
    }

    walk.screen.check("what is shown holds no token", !is_leaked);
    walk.screen.check(
        &format!("its one login is for {REGISTRY}"),
        secret.logins.len() == 1,
    );
    walk.screen.check(
        "the user is the null GUID: the password is a token",
        login.username == NULL_GUID,
    );
    walk.screen
        .check("the token is for this registry", token.text("aud") == REGISTRY);
    walk.screen.check(
        &format!("it may do {SCOPE} and nothing else"),
        token.access() == [SCOPE],
    );
    let expires_at = token.expires_at();
    walk.screen.check(
        "it has not expired",
        expires_at.is_some_and(|at| at > Timestamp::now()),
    );
    let annotated = secret
        .annotation("acr.microsoft.com/token.expiry")
        .and_then(|at| at.parse::<Timestamp>().ok());
    walk.screen.check(
        "the annotation says when it does",
        annotated.is_some() && annotated == expires_at,
    );
    let labels = secret.object.metadata.labels.as_ref();
    let label = labels.and_then(|labels| labels.get("acr.microsoft.com/binding"));
    walk.screen.check(
        "the label names the binding",
        label.is_some_and(|label| label == BINDING),
    );
    let owners = secret
        .object
        .metadata
        .owner_references
        .as_deref()
        .unwrap_or_default();
    let is_owned = matches!(owners, [owner] if owner.kind == "AcrPullBinding" && owner.name == BINDING);
    walk.screen
        .check("the binding owns it, so it goes when the binding goes", is_owned);
    Ok(())
}

/// The object with the payload decoded, and in the token's place what the token says.
fn redacted(mut object: Value, token: &TokenText) -> Value {
    let payload = object.pointer("/data/.dockerconfigjson").and_then(Value::as_str);
    let payload = payload.and_then(|text| STANDARD.decode(text).ok());
    let mut payload: Value = payload
        .and_then(|bytes| serde_json::from_slice(&bytes).ok())
        .unwrap_or_default();
    for login in payload
        .pointer_mut("/auths")
        .and_then(Value::as_object_mut)
        .into_iter()
        .flat_map(|auths| auths.values_mut())
    {
        // Only what is known to be harmless is kept.
        let username = login.get("username").cloned();
        *login = json!({
            "username": username,
            "password": {"(token, not shown)": token.excerpt()},
            "auth": "(user and token in base64, not shown)",
        });
    }
    if let Some(data) = object.get_mut("data") {
        *data = json!({ KEY: payload });
    }
    object
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn redacted_secret_keeps_the_structure_and_no_token() {
        let part = |value: Value| base64::engine::general_purpose::URL_SAFE_NO_PAD.encode(value.to_string());
        let password = format!(
            "{}.{}.sig",
            part(json!({"alg": "RS256"})),
            part(json!({"aud": "r"}))
        );
        let auth = STANDARD.encode(format!("u:{password}"));
        let payload =
            json!({"auths": {"r": {"username": "u", "password": password, "auth": auth, "email": "e"}}});
        let object = json!({"kind": "Secret", "data": {KEY: STANDARD.encode(payload.to_string())}});
        let shown = redacted(object, &TokenText::read(&password).unwrap());
        assert_eq!(
            shown.pointer("/data/.dockerconfigjson/auths/r/username"),
            Some(&json!("u"))
        );
        let text = shown.to_string();
        assert!(!text.contains(&password) && !text.contains(&auth) && !text.contains("sig"));
    }
}

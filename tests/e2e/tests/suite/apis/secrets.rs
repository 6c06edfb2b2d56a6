//! What others do to the Secret of a binding.

use std::time::Duration;

use anyhow::Context as _;
use azure_simulator::{Operation, Service};
use e2e::{PullSecret, poll};
use futures::future::try_join_all;
use k8s_openapi::api::core::v1::Secret;
use kube::api::{DeleteParams, Patch, PatchParams, PostParams};
use kube::{Api, ResourceExt as _};
use serde_json::{Value, json};
use syncer::binding::ApiVersion;
use tokio::time::Instant;

use super::{ACCOUNT, OWN, SCOPE, Side, in_both_apis};
use crate::shared::{COUNTED, EITHER_API, SHORT_LIFE_S, SHORT_LIVED, beside_others};
use crate::side::in_each_api;

/// What stood in the way is gone: long before the next attempt would be due.
const SOON: Duration = Duration::from_secs(5);
/// A token is renewed before its end.
const SHORT_LIFE: Duration = Duration::from_secs(SHORT_LIFE_S);

/// As a person does it, with `kubectl`.
async fn edit(secrets: &Api<Secret>, name: &str, change: &Value) -> anyhow::Result<()> {
    let params = PatchParams::default();
    secrets.patch(name, &params, &Patch::Merge(change)).await?;
    Ok(())
}

fn label<'a>(secret: &'a PullSecret, key: &str) -> Option<&'a String> {
    secret.object.labels().get(key)
}

async fn ready(side: &Side<'_>) -> anyhow::Result<(Api<Secret>, String)> {
    side.create("one", &side.spec(ACCOUNT, SCOPE)).await?;
    side.ready("one").await?;
    Ok((side.team.api(), side.secret_name("one")))
}

/// Plays a scenario for a binding of each API at the same time, with tokens that are renewed within [`SHORT_LIFE`].
#[expect(clippy::needless_pass_by_value, reason = "the scenario is written in place")]
fn while_tokens_are_short_lived(
    scenario: impl AsyncFn(&Side<'_>, &Api<Secret>, &str) -> anyhow::Result<()>,
) -> anyhow::Result<()> {
    beside_others(async |stack| {
        let team = stack.team(SHORT_LIVED.prefix).await?;
        team.create_account(ACCOUNT, &[OWN], &[]).await?;
        let sides = ApiVersion::ALL.map(|api| Side::new(&team, api));
        try_join_all(sides.iter().map(async |side| {
            // A token for each.
            let scope = format!("repository:team/{}:pull", side.api.version());
            side.create("one", &side.spec_for(&SHORT_LIVED, ACCOUNT, &scope))
                .await?;
            side.ready("one").await?;
            let played = scenario(side, &side.team.api(), &side.secret_name("one")).await;
            played.with_context(|| side.api.as_str())
        }))
        .await?;
        Ok(())
    })
}

/// Waits until the Secret holds another token.
async fn renewed(side: &Side<'_>, before: &PullSecret) -> anyhow::Result<PullSecret> {
    let old = &before.login(SHORT_LIVED.registry)?.password;
    poll("the token is renewed", SHORT_LIFE, async || {
        let secret = side.secret("one").await?;
        let is_another = secret.login(SHORT_LIVED.registry)?.password != *old;
        Ok(is_another.then_some(secret).ok_or("it is the old one"))
    })
    .await
}

#[test]
fn b4_secret_with_a_label_of_somebody_is_renewed_and_keeps_it() -> anyhow::Result<()> {
    while_tokens_are_short_lived(async |side, secrets, name| {
        edit(secrets, name, &json!({"metadata": {"labels": {"team": "web"}}})).await?;
        let before = side.secret("one").await?;
        let renewed = renewed(side, &before).await?;
        assert_eq!(label(&renewed, "team").map(String::as_str), Some("web"));
        assert_eq!(renewed.version().1, before.version().1, "the Secret was replaced");
        Ok(())
    })
}

#[test]
fn b6_secret_gets_its_label_back_and_is_renewed_as_before() -> anyhow::Result<()> {
    while_tokens_are_short_lived(async |side, secrets, name| {
        let unlabel = json!({"metadata": {"labels": {"acr.microsoft.com/binding": null}}});
        edit(secrets, name, &unlabel).await?;
        let labelled = side
            .wait_secret("one", "has its label", |secret| {
                label(secret, "acr.microsoft.com/binding").is_some_and(|value| value == "one")
            })
            .await?;
        let renewed = renewed(side, &labelled).await?;
        assert_eq!(
            renewed.version().1,
            labelled.version().1,
            "the Secret was replaced"
        );
        Ok(())
    })
}

#[test]
fn b6_secret_of_somebody_else_is_not_touched_and_not_linked() -> anyhow::Result<()> {
    in_both_apis(async |_stack, side| {
        let foreign = json!({
            "apiVersion": "v1",
            "kind": "Secret",
            "metadata": {"name": side.secret_name("one")},
            "stringData": {"password": "of somebody else"},
        });
        let foreign: Secret = serde_json::from_value(foreign)?;
        let secrets = side.team.api::<Secret>();
        let before = secrets.create(&PostParams::default(), &foreign).await?;
        side.create("one", &side.spec(ACCOUNT, SCOPE)).await?;
        side.condition("one", "SecretSynced", "False").await?;
        assert_eq!(
            secrets.get(&side.secret_name("one")).await?,
            before,
            "it was touched"
        );
        assert_eq!(side.team.links(ACCOUNT).await?, [OWN]);
        Ok(())
    })
}

#[test]
fn b14_secret_with_another_payload_or_none_is_repaired_from_the_brokers_cache() -> anyhow::Result<()> {
    beside_others(async |stack| {
        in_each_api(stack, &COUNTED, &async |stack, side| {
            side.create("one", &side.spec_for(&COUNTED, ACCOUNT, SCOPE))
                .await?;
            side.ready("one").await?;
            let (secrets, name) = (side.team.api::<Secret>(), side.secret_name("one"));
            let client_id = COUNTED.identity().client_id;
            let asked = async || {
                let calls = stack.azure().calls().await?.filter(|call| {
                    call.host == COUNTED.registry || call.client_id.as_deref() == Some(&client_id)
                });
                anyhow::Ok(calls.count())
            };
            let before = asked().await?;
            assert!(before > 0, "those calls are counted");

            // {"auths":{}}
            let payload = json!({"data": {".dockerconfigjson": "eyJhdXRocyI6e319"}});
            let edited = Instant::now();
            edit(&secrets, &name, &payload).await?;
            let repaired = side
                .wait_secret("one", "is repaired", |secret| {
                    secret.login(COUNTED.registry).is_ok()
                })
                .await?;
            let took = soon("another payload", edited);
            println!(
                "{}: another payload was repaired after {took:?}",
                side.api.as_str()
            );

            let deleted = Instant::now();
            secrets.delete(&name, &DeleteParams::default()).await?;
            side.wait_secret("one", "is there again", |secret| {
                secret.object.uid() != repaired.object.uid() && secret.login(COUNTED.registry).is_ok()
            })
            .await?;
            let took = soon("no Secret", deleted);
            println!("{}: no Secret was repaired after {took:?}", side.api.as_str());
            side.ready("one").await?;
            assert_eq!(asked().await?, before, "Azure was asked");
            Ok(())
        })
        .await
    })
}

#[test]
fn b14_secret_whose_times_somebody_set_far_ahead_is_repaired() -> anyhow::Result<()> {
    in_both_apis(async |stack, side| {
        const FAR: &str = "2099-01-01T00:00:00Z";
        let scope = format!("repository:team/times-{}:pull", side.api.version());
        side.create("one", &side.spec(ACCOUNT, &scope)).await?;
        side.ready("one").await?;
        let (secrets, name) = (side.team.api::<Secret>(), side.secret_name("one"));
        let before = side.secret("one").await?;
        for time in [
            "acr.microsoft.com/token.expiry",
            "acrpull.microsoft.com/refresh-at",
        ] {
            let far = json!({"metadata": {"annotations": {time: FAR}}});
            let edited = Instant::now();
            edit(&secrets, &name, &far).await?;
            let repaired = side
                .wait_secret("one", &format!("has its own {time}"), |secret| {
                    secret.annotation(time).is_some_and(|value| value != FAR)
                })
                .await?;
            let took = soon(time, edited);
            println!("{}: {time} was repaired after {took:?}", side.api.as_str());
            assert_eq!(
                repaired.docker_config, before.docker_config,
                "a token was fetched for {time}"
            );
        }
        let calls = stack.azure().calls().await?.of(Service::Acr, Operation::Token);
        let calls = calls.filter(|call| {
            let mut fields = call.form.iter();
            fields.any(|(key, value)| key == "scope" && *value == scope)
        });
        assert_eq!(calls.count(), 1, "Azure was asked");
        Ok(())
    })
}

/// By them the token would stay for years, and the status would say that all is well.
#[test]
fn b14_secret_with_forged_times_gets_its_own_back() -> anyhow::Result<()> {
    const TIMES: [&str; 2] = [
        "acr.microsoft.com/token.expiry",
        "acrpull.microsoft.com/refresh-at",
    ];
    const FAR: &str = "2099-01-01T00:00:00Z";
    in_both_apis(async |_stack, side| {
        let (secrets, name) = ready(side).await?;
        let before = side.secret("one").await?;
        for time in TIMES {
            edit(
                &secrets,
                &name,
                &json!({"metadata": {"annotations": {time: FAR}}}),
            )
            .await?;
            let repaired = side
                .wait_secret("one", "has its own times", |secret| {
                    secret.annotation(time).is_some_and(|value| value != FAR)
                })
                .await?;
            assert_eq!(
                repaired.annotation(TIMES[0]),
                before.annotation(TIMES[0]),
                "another token was fetched"
            );
            assert_eq!(repaired.docker_config, before.docker_config);
        }

        // What is not about the token is nobody's business.
        let note = json!({"metadata": {"annotations": {"example.com/team": "web"}}});
        edit(&secrets, &name, &note).await?;
        let noted = side.secret("one").await?.version();
        side.ready("one").await?;
        assert_eq!(side.secret("one").await?.version(), noted, "it was written again");
        Ok(())
    })
}

#[test]
fn b6_secret_with_the_label_of_another_binding_gets_its_own_back() -> anyhow::Result<()> {
    in_both_apis(async |_stack, side| {
        let (secrets, name) = ready(side).await?;
        let relabel = json!({"metadata": {"labels": {"acr.microsoft.com/binding": "another"}}});
        edit(&secrets, &name, &relabel).await?;
        side.wait_secret("one", "has its label", |secret| {
            label(secret, "acr.microsoft.com/binding").is_some_and(|value| value == "one")
        })
        .await?;
        side.ready("one").await?;
        Ok(())
    })
}

#[test]
fn secret_that_is_immutable_is_a_conflict_until_somebody_deletes_it() -> anyhow::Result<()> {
    in_both_apis(async |_stack, side| {
        let (secrets, name) = ready(side).await?;
        edit(&secrets, &name, &json!({"immutable": true})).await?;
        let other = side.spec(ACCOUNT, "repository:team/other:pull");
        side.patch("one", &json!({ "spec": other })).await?;
        side.refused("one", "SecretSynced", "SecretConflict").await?;
        side.refused("one", "Ready", "SecretConflict").await?;
        assert!(side.secret("one").await?.login(EITHER_API.registry).is_ok());
        secrets.delete(&name, &DeleteParams::default()).await?;
        side.ready("one").await?;
        Ok(())
    })
}

#[test]
fn secret_of_a_wrong_type_is_a_conflict_until_somebody_deletes_it() -> anyhow::Result<()> {
    in_both_apis(async |_stack, side| {
        // With our label it counts as one of ours, and its type cannot be changed.
        let wrong = json!({
            "apiVersion": "v1",
            "kind": "Secret",
            "metadata": {
                "name": side.secret_name("one"),
                "labels": {"acr.microsoft.com/binding": "one"},
            },
            "type": "Opaque",
            "stringData": {"password": "of somebody"},
        });
        let wrong: Secret = serde_json::from_value(wrong)?;
        let secrets = side.team.api::<Secret>();
        let wrong = secrets.create(&PostParams::default(), &wrong).await?;
        side.create("one", &side.spec(ACCOUNT, SCOPE)).await?;
        side.condition("one", "SecretSynced", "False").await?;
        // Not even its owner: it would go with the binding.
        assert_eq!(secrets.get(&wrong.name_any()).await?, wrong, "it was touched");
        deleted(side, &secrets).await?;
        assert!(side.secret("one").await?.login(EITHER_API.registry).is_ok());
        Ok(())
    })
}

/// Deletes the Secret that is in the way, and waits until the binding has its own.
async fn deleted(side: &Side<'_>, secrets: &Api<Secret>) -> anyhow::Result<()> {
    let name = side.secret_name("one");
    secrets.delete(&name, &DeleteParams::default()).await?;
    let deleted = Instant::now();
    side.ready("one").await?;
    soon("a Secret of somebody", deleted);
    Ok(())
}

/// How long it took to repair `what`, which is soon.
fn soon(what: &str, since: Instant) -> Duration {
    let took = since.elapsed();
    assert!(took <= SOON, "{what}: it took {took:?}");
    took
}

//! Ends: a binding that is deleted while nobody looks, one that comes back under its name at once, a namespace that goes.

use std::collections::BTreeMap;
use std::time::Duration;

use e2e::{Stack, wait_for};
use k8s_openapi::api::core::v1::{Namespace, Secret};
use k8s_openapi::api::events::v1::Event;
use kube::Api;
use kube::api::{DeleteParams, ListParams};
use serde::Deserialize;
use syncer::binding::ApiVersion;

use super::{ACCOUNT, OWN, SCOPE, Side, in_both_apis};
use crate::shared::{EITHER_API, beside_others};
use crate::side::{PATIENCE, in_both_apis_alone};

/// A binding and its Secret, each pass once or twice: nobody logs more than this about them when they go.
const FEW: usize = 10;
/// What would go round in circles would have been round several times.
const QUIET: Duration = Duration::from_secs(1);

/// A line of a process's log.
#[derive(Deserialize)]
struct Line {
    level: String,
    message: String,
}

#[test]
fn b12_binding_that_is_deleted_while_the_syncer_is_down_leaves_no_link() -> anyhow::Result<()> {
    in_both_apis_alone(async |stack, side| {
        for name in ["gone", "kept"] {
            side.create(name, &side.spec(ACCOUNT, SCOPE)).await?;
            side.ready(name).await?;
        }
        let [gone, kept] = ["gone", "kept"].map(|name| side.secret_name(name));
        side.team.wait_links(ACCOUNT, &[OWN, &gone, &kept]).await?;
        let before = side.secret("kept").await?.version();
        stack.syncer().stop().await;
        side.delete("gone").await?;
        stack.syncer().start().await?;
        side.team.wait_links(ACCOUNT, &[OWN, &kept]).await?;
        assert_eq!(
            side.secret("kept").await?.version(),
            before,
            "what is fresh is written"
        );
        let secrets = side.team.api::<Secret>();
        wait_for("its Secret is gone", PATIENCE, async || {
            Ok(secrets.get_opt(&gone).await?.is_none())
        })
        .await
    })
}

#[test]
fn binding_that_is_created_again_at_once_owns_its_secret() -> anyhow::Result<()> {
    in_both_apis(async |_stack, side| {
        let spec = side.spec(ACCOUNT, SCOPE);
        side.create("one", &spec).await?;
        side.ready("one").await?;
        for _again in 0..3 {
            side.delete("one").await?;
            let created = side.create("one", &spec).await?;
            side.ready("one").await?;
            // The Secret of the earlier one may still go, with its owner; then another one comes.
            let uid = created.metadata.uid;
            side.wait_secret("one", "is that of the new binding", |secret| {
                let owners = secret.object.metadata.owner_references.as_deref();
                matches!(owners, Some([owner]) if Some(&owner.uid) == uid.as_ref())
            })
            .await?;
            side.team
                .wait_links(ACCOUNT, &[OWN, &side.secret_name("one")])
                .await?;
        }
        side.ready("one").await?;
        // What goes with its owner in the middle of a pass is no failure, and nobody is alarmed.
        let events = side.team.api::<Event>().list(&ListParams::default()).await?;
        let warnings = events
            .iter()
            .filter(|event| event.type_.as_deref() == Some("Warning"))
            .map(|event| (&event.reason, &event.note));
        let warnings: Vec<_> = warnings.collect();
        assert!(warnings.is_empty(), "{warnings:?}");
        Ok(())
    })
}

#[test]
fn namespace_that_is_deleted_takes_everything_along_without_a_storm() -> anyhow::Result<()> {
    beside_others(async |stack| {
        let team = stack.team(EITHER_API.prefix).await?;
        team.create_account(ACCOUNT, &[OWN], &[]).await?;
        let mut objects = 0;
        for api in ApiVersion::ALL {
            let side = Side::new(&team, api);
            for name in ["one", "two", "three"] {
                side.create(name, &side.spec(ACCOUNT, SCOPE)).await?;
                side.ready(name).await?;
                objects += 1;
            }
        }
        let namespaces: Api<Namespace> = Api::all(stack.client()?);
        namespaces
            .delete(team.namespace(), &DeleteParams::default())
            .await?;
        wait_for("the namespace is gone", PATIENCE, async || {
            Ok(namespaces.get_opt(team.namespace()).await?.is_none())
        })
        .await?;
        let complaints = complaints(stack, team.namespace())?;
        println!("a namespace with {objects} bindings went with these complaints: {complaints:?}");
        let count: usize = complaints.values().sum();
        assert!(count <= FEW * objects, "{complaints:?}");
        tokio::time::sleep(QUIET).await;
        let later: usize = self::complaints(stack, team.namespace())?.values().sum();
        assert_eq!(later, count, "it goes on about what is gone");
        Ok(())
    })
}

/// Warnings and errors of the syncer that are about a namespace, and how often each.
fn complaints(stack: &Stack, namespace: &str) -> anyhow::Result<BTreeMap<String, usize>> {
    let mut complaints = BTreeMap::new();
    for line in stack.syncer().logs()?.lines() {
        if !line.contains(namespace) {
            continue;
        }
        let Ok(Line { level, message }) = serde_json::from_str(line) else {
            continue;
        };
        if ["WARN", "ERROR"].contains(&&*level) {
            *complaints.entry(message).or_default() += 1;
        }
    }
    Ok(complaints)
}

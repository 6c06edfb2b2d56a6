//! A syncer whose connections broke, and which comes back to an API server that has forgotten what it saw last: its watches
//! are answered 410, and what changed meanwhile is told by no event.

use std::time::Duration;

use anyhow::Context as _;
use e2e::{Pod, PullSecret, Stack, Team, wait_for};
use k8s_openapi::api::core::v1::{Secret, ServiceAccount};
use kube::api::{Patch, PatchParams};
use rustix::process::Signal;
use serde_json::json;
use syncer::binding::ApiVersion;

use super::OTHER;
use crate::shared::{EITHER_API, ELSEWHERE, alone};
use crate::side::{SCOPE, Side};

/// The bindings of both APIs, ServiceAccounts, Secrets.
const WATCHES: usize = 4;
/// What the API server says of a version that it has forgotten, and the syncer of a watch that met it.
const FORGOTTEN: &str = "too old resource version";
const FAILED: &str = "a watch failed and is started again";
/// A watch that failed begins anew after a second or two.
const MET: Duration = Duration::from_secs(15);
/// What a team's syncer is told by its label.
const LABEL: (&str, &str) = (ELSEWHERE, "forgotten");

/// What is looked at again must cost nothing where nothing has changed.
struct Untouched {
    secret: (String, String),
    binding: Option<String>,
    account: Option<String>,
}

#[test]
fn api_server_that_has_forgotten_hides_no_change() -> anyhow::Result<()> {
    alone(async |stack| {
        let team = stack.team(EITHER_API.prefix).await?;
        let sides = ApiVersion::ALL.map(|api| Side::new(&team, api));
        let arguments = [
            format!("--label-selector={}={}", LABEL.0, LABEL.1),
            // The stack's syncer holds the Lease, and one that is held up would lose it.
            "--leader-elect=false".to_owned(),
        ];
        let syncer = stack
            .syncer()
            .another("acrpull-syncer-forgotten", &arguments)
            .await?;
        let result = play(stack, &team, &sides, &syncer).await;
        syncer.signal(Signal::CONT);
        syncer.stop().await;
        // Its watches met the same, and it comes back in pauses of its own: the next test needs its ServiceAccounts now.
        stack.plane().restart_controller_manager().await?;
        result
    })
}

async fn play(stack: &Stack, team: &Team<'_>, sides: &[Side<'_>; 2], syncer: &Pod) -> anyhow::Result<()> {
    for side in sides {
        for name in ["kept", "changed", "edited", "unlinked", "gone"] {
            let account = account(side, name);
            team.create_account(&account, &[], &[]).await?;
            side.create_labelled(name, &side.spec(&account, SCOPE), &[LABEL])
                .await?;
        }
    }
    for side in sides {
        for name in ["kept", "changed", "edited", "unlinked", "gone"] {
            side.ready(name).await?;
        }
    }
    let mut untouched = Vec::new();
    for side in sides {
        untouched.push(look(team, side).await?);
    }
    let before = syncer.logs()?.len();

    // It can neither read what comes nor connect again. The restart ends its connections before anything changes, so
    // that no event of what follows waits for it.
    syncer.signal(Signal::STOP);
    stack.plane().restart_api_server().await?;
    let mut edited = Vec::new();
    for side in sides {
        edited.push(change(team, side).await?);
    }
    let oldest = stack.plane().forget_history().await?;
    syncer.signal(Signal::CONT);

    wait_for(
        "each watch has met a version that is forgotten",
        MET,
        async || {
            let log = syncer.logs()?;
            let since = log.get(before..).unwrap_or_default();
            let met = since
                .lines()
                .filter(|line| line.contains(FAILED) && line.contains(FORGOTTEN));
            Ok(met.count() >= WATCHES)
        },
    )
    .await
    .with_context(|| format!("all before revision {oldest} is forgotten"))?;
    for (side, edited) in sides.iter().zip(&edited) {
        side.wait_secret("edited", "is as it was", |secret| {
            secret.docker_config == edited.docker_config
        })
        .await?;
        team.wait_links(&account(side, "unlinked"), &[&side.secret_name("unlinked")])
            .await?;
        team.wait_links(&account(side, "gone"), &[]).await?;
        side.wait("changed", "has a token for the other scope", |status| {
            status.granted_scope.as_deref() == Some(OTHER)
        })
        .await?;
        side.ready("changed").await?;
    }
    for (side, before) in sides.iter().zip(untouched) {
        let now = look(team, side).await?;
        let api = side.api.as_str();
        assert_eq!(now.secret, before.secret, "{api}: a Secret was written");
        assert_eq!(now.binding, before.binding, "{api}: a status was written");
        assert_eq!(now.account, before.account, "{api}: a ServiceAccount was written");
    }
    Ok(())
}

/// A ServiceAccount for each binding.
fn account(side: &Side<'_>, binding: &str) -> String {
    format!("web-{}-{binding}", side.api.version())
}

/// Everything that a change can be, for a binding each. The Secret as it is to be again.
async fn change(team: &Team<'_>, side: &Side<'_>) -> anyhow::Result<PullSecret> {
    let edited = side.secret("edited").await?;
    let (secrets, accounts) = (team.api::<Secret>(), team.api::<ServiceAccount>());
    let params = PatchParams::default();
    let empty = json!({"stringData": {".dockerconfigjson": "{\"auths\":{}}"}});
    secrets
        .patch(&side.secret_name("edited"), &params, &Patch::Merge(&empty))
        .await?;
    let unlink = json!({"imagePullSecrets": []});
    accounts
        .patch(&account(side, "unlinked"), &params, &Patch::Merge(&unlink))
        .await?;
    let spec = side.spec(&account(side, "changed"), OTHER);
    side.patch("changed", &json!({ "spec": spec })).await?;
    side.delete("gone").await?;
    Ok(edited)
}

async fn look(team: &Team<'_>, side: &Side<'_>) -> anyhow::Result<Untouched> {
    let account = team.api::<ServiceAccount>().get(&account(side, "kept")).await?;
    let (binding, _status) = side.get("kept").await?;
    Ok(Untouched {
        secret: side.secret("kept").await?.version(),
        binding: binding.metadata.resource_version,
        account: account.metadata.resource_version,
    })
}

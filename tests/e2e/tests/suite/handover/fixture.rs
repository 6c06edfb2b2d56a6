//! The hand-over from the very objects that the peer left on a real API server, whole: `fixtures/peer-left.yaml`. Their tokens
//! have expired long ago, as after a migration that took a night.

use anyhow::Context as _;
use e2e::{FEDERATION_AUDIENCE, PullSecret, Stack, Team};
use k8s_openapi::api::core::v1::{Secret, ServiceAccount};
use kube::ResourceExt as _;
use kube::api::{Api, ApiResource, DynamicObject, ObjectMeta, PostParams};
use serde_json::Value;
use syncer::binding::{ApiVersion, Binding};
use syncer::links::RECORD_ANNOTATION;
use syncer::pull_secret;

use super::peer::FINALIZER;
use crate::shared::{alone, peer_left};
use crate::side::Side;

const OBJECTS: &str = include_str!("../../../fixtures/peer-left.yaml");
/// Who wrote what comes from manifests, and who the rest.
const KUBECTL: &str = "kubectl-client-side-apply";
const PEER: &str = "manager";
const INPUTS: &str = "acr.microsoft.com/token.inputs";

/// Everything in the fixture, by kind.
struct Left {
    accounts: Vec<ServiceAccount>,
    bindings: Vec<(ApiVersion, DynamicObject)>,
    secrets: Vec<Secret>,
}

impl Left {
    fn read() -> anyhow::Result<Self> {
        let mut left = Self {
            accounts: Vec::new(),
            bindings: Vec::new(),
            secrets: Vec::new(),
        };
        for document in OBJECTS.split("\n---\n") {
            let object: Value = serde_saphyr::from_str(document)?;
            let field = |name: &str| object.get(name).and_then(Value::as_str).unwrap_or_default();
            match field("kind") {
                "ServiceAccount" => left.accounts.push(serde_json::from_value(object)?),
                "Secret" => left.secrets.push(serde_json::from_value(object)?),
                "AcrPullBinding" => {
                    let api = ApiVersion::ALL
                        .into_iter()
                        .find(|api| api.as_str() == field("apiVersion"));
                    let api = api.context("a binding of an unknown API")?;
                    left.bindings.push((api, serde_json::from_value(object)?));
                }
                other => anyhow::bail!("the fixture has a {other}"),
            }
        }
        Ok(left)
    }

    /// Re-creates it all in the team's namespace, each part by a request of whoever wrote it.
    async fn restore(&self, team: &Team<'_>) -> anyhow::Result<()> {
        for account in &self.accounts {
            restore_account(team, account).await?;
        }
        for (api, binding) in &self.bindings {
            let created = restore_binding(team, *api, binding).await?;
            let name = pull_secret::name_for(*api, &created.name_any());
            let secret = self.secrets.iter().find(|secret| secret.name_any() == name);
            let mut secret = secret.context("a binding has no Secret")?.clone();
            for owner in secret.metadata.owner_references.iter_mut().flatten() {
                owner.uid = created.uid().unwrap_or_default();
            }
            secret.metadata = ObjectMeta {
                owner_references: secret.metadata.owner_references.take(),
                ..restored(&secret.metadata)
            };
            team.api::<Secret>().create(&by(PEER), &secret).await?;
        }
        Ok(())
    }
}

/// What a server does not choose itself.
fn restored(metadata: &ObjectMeta) -> ObjectMeta {
    ObjectMeta {
        name: metadata.name.clone(),
        labels: metadata.labels.clone(),
        annotations: metadata.annotations.clone(),
        ..ObjectMeta::default()
    }
}

async fn restore_account(team: &Team<'_>, left: &ServiceAccount) -> anyhow::Result<()> {
    let accounts = team.api::<ServiceAccount>();
    let name = left.name_any();
    let mut account = if let Some(account) = accounts.get_opt(&name).await? {
        account
    } else {
        let new = ServiceAccount {
            metadata: restored(&left.metadata),
            ..ServiceAccount::default()
        };
        accounts.create(&by(KUBECTL), &new).await?
    };
    account.image_pull_secrets.clone_from(&left.image_pull_secrets);
    accounts.replace(&name, &by(PEER), &account).await?;
    Ok(())
}

async fn restore_binding(
    team: &Team<'_>,
    api: ApiVersion,
    left: &DynamicObject,
) -> anyhow::Result<DynamicObject> {
    let kind = ApiResource::erase::<Binding>(&api);
    let client = team.api::<Secret>().into_client();
    let bindings: Api<DynamicObject> = Api::namespaced_with(client, team.namespace(), &kind);
    let mut new = left.clone();
    let finalizers = left.metadata.finalizers.clone();
    new.metadata = restored(&left.metadata);
    let mut created = bindings.create(&by(KUBECTL), &new).await?;
    created.metadata.finalizers = finalizers;
    let name = created.name_any();
    let mut claimed = bindings.replace(&name, &by(PEER), &created).await?;
    claimed.data.clone_from(&left.data);
    Ok(bindings.replace_status(&name, &by(PEER), &claimed).await?)
}

fn by(manager: &str) -> PostParams {
    PostParams {
        field_manager: Some(manager.to_owned()),
        ..PostParams::default()
    }
}

#[test]
fn b26_objects_that_the_peer_left_on_a_real_server_are_taken_over_in_place() -> anyhow::Result<()> {
    alone(async |stack| {
        let left = Left::read()?;
        let team = stack.team(peer_left::PREFIX).await?;
        trust(stack, &team).await?;
        stack.syncer().stop().await;
        let restored = left.restore(&team).await;
        // As the peer ran: without a default identity, which its hash would cover.
        let arguments = [
            "--default-managed-identity-resource-id=".to_owned(),
            "--leader-elect=false".to_owned(),
        ];
        let syncer = stack
            .syncer()
            .another("acrpull-syncer-after-the-peer", &arguments)
            .await;
        let taken_over = async {
            restored?;
            let before = secrets(&team, &left).await?;
            let links = links(&team, &left).await?;
            let syncer = syncer?;
            let taken_over = taken_over(&team, &left, &before, &links).await;
            syncer.stop().await;
            taken_over
        }
        .await;
        stack.syncer().start().await?;
        taken_over
    })
}

/// The identity in the annotation of the ServiceAccount trusts it.
async fn trust(stack: &Stack, team: &Team<'_>) -> anyhow::Result<()> {
    let (issuer, client_id) = (stack.plane().issuer(), peer_left::federated().client_id);
    let subject = format!(
        "system:serviceaccount:{}:{}",
        team.namespace(),
        peer_left::FEDERATED
    );
    let trust = |state: &mut azure_simulator::State| {
        if let Some(principal) = state.principal_mut(&client_id) {
            *principal = principal.clone().federated(issuer, &subject, FEDERATION_AUDIENCE);
        }
    };
    stack.azure().update(trust).await
}

async fn secrets(team: &Team<'_>, left: &Left) -> anyhow::Result<Vec<PullSecret>> {
    let mut secrets = Vec::new();
    for (api, binding) in &left.bindings {
        secrets.push(Side::new(team, *api).secret(&binding.name_any()).await?);
    }
    Ok(secrets)
}

async fn links(team: &Team<'_>, left: &Left) -> anyhow::Result<Vec<Vec<String>>> {
    let mut links = Vec::new();
    for account in &left.accounts {
        links.push(team.links(&account.name_any()).await?);
    }
    Ok(links)
}

async fn taken_over(
    team: &Team<'_>,
    left: &Left,
    before: &[PullSecret],
    links_before: &[Vec<String>],
) -> anyhow::Result<()> {
    for (api, binding) in &left.bindings {
        let (side, name) = (Side::new(team, *api), binding.name_any());
        side.ready(&name).await.context(name.clone())?;
        let what = format!("{name} is released");
        e2e::wait_for(&what, crate::side::PATIENCE, async || {
            let (found, _status) = side.get(&name).await?;
            Ok(found.finalizers().iter().all(|one| one != FINALIZER))
        })
        .await?;
        let (found, _status) = side.get(&name).await?;
        assert_eq!(
            found.data.get("spec"),
            binding.data.get("spec"),
            "the spec was written"
        );
    }
    for (after, before) in secrets(team, left).await?.iter().zip(before) {
        let name = after.object.name_any();
        assert_eq!(after.version().1, before.version().1, "{name} was replaced");
        assert_ne!(after.docker_config, before.docker_config, "{name} has expired");
        assert_eq!(
            after.logins.keys().collect::<Vec<_>>(),
            before.logins.keys().collect::<Vec<_>>()
        );
        assert_eq!(
            after.annotation(INPUTS),
            before.annotation(INPUTS),
            "{name}: going back would cost a token"
        );
        assert_eq!(after.object.labels(), before.object.labels());
        let owners = |secret: &PullSecret| {
            let owners = secret.object.owner_references().iter();
            owners.map(|owner| owner.uid.clone()).collect::<Vec<_>>()
        };
        assert_eq!(owners(after), owners(before));
    }
    assert_eq!(links(team, left).await?, links_before, "an entry moved");
    for account in &left.accounts {
        let account = team.api::<ServiceAccount>().get(&account.name_any()).await?;
        assert!(
            account.annotations().contains_key(RECORD_ANNOTATION),
            "{}",
            account.name_any()
        );
    }
    Ok(())
}

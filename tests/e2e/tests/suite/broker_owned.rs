//! Identities of the broker: declared, granted, or denied.

use std::time::Duration;

use azure_simulator::{Operation, Service};
use e2e::{BROKER_AUDIENCE, NAMESPACE, Stack, VmIdentity, binding};
use syncer::crd::AcrPullBinding;

use crate::shared::{BY_CLIENT_ID, BY_RESOURCE_ID, Granted, NARROW, REGISTRY_WIDE, beside_others};
use crate::wire::{Wires, broker_owned};

const SCOPE: &str = "repository:team/web:pull";
/// The shortest life of a token.
const TEN_MINUTES: Duration = Duration::from_mins(10);

/// What is different about a request.
type Change = fn(&mut proto::v1::GetDockerConfigRequest);

#[test]
fn managed_identity_by_client_id_gets_a_secret() -> anyhow::Result<()> {
    beside_others(async |stack| {
        let VmIdentity { client_id, .. } = BY_CLIENT_ID.identity();
        let binding = binding::client_id("web", "web", BY_CLIENT_ID.registry, SCOPE, &client_id);
        becomes_ready(stack, &BY_CLIENT_ID, &binding).await
    })
}

#[test]
fn managed_identity_by_resource_id_gets_a_secret() -> anyhow::Result<()> {
    beside_others(async |stack| {
        let VmIdentity { resource_id, .. } = BY_RESOURCE_ID.identity();
        let binding = binding::resource_id("web", "web", BY_RESOURCE_ID.registry, SCOPE, &resource_id);
        becomes_ready(stack, &BY_RESOURCE_ID, &binding).await
    })
}

async fn becomes_ready(stack: &Stack, granted: &Granted, binding: &AcrPullBinding) -> anyhow::Result<()> {
    let team = stack.team(granted.prefix).await?;
    team.create_account("web", &[], &[]).await?;
    team.create(binding).await?;
    team.ready("web").await?;
    assert!(team.secret("web").await?.login(granted.registry).is_ok());
    assert_eq!(team.links("web").await?, ["acr-pull-web"]);
    let calls = stack.azure().calls().await?;
    assert!(
        calls
            .clone()
            .of(Service::Acr, Operation::Exchange)
            .host(granted.registry)
            .status(200)
            .count()
            >= 1
    );
    let asked = calls.of(Service::Imds, Operation::Token);
    let VmIdentity {
        client_id,
        resource_id,
        ..
    } = granted.identity();
    let asked = asked.filter(|call| {
        call.query
            .iter()
            .any(|(_name, value)| *value == client_id || *value == resource_id)
    });
    assert!(asked.count() >= 1, "the metadata service was not asked");
    Ok(())
}

#[test]
fn managed_identity_without_a_grant_is_denied_without_an_azure_call() -> anyhow::Result<()> {
    beside_others(async |stack| {
        let VmIdentity { client_id, .. } = NARROW.identity();
        // A namespace that no grant names, and one whose grant names another registry.
        for (prefix, registry) in [("ungranted", Some(NARROW.registry)), (NARROW.prefix, None)] {
            let team = stack.team(prefix).await?;
            team.create_account("web", &[], &[]).await?;
            let registry = registry.unwrap_or_else(|| team.registry());
            team.create(&binding::client_id("web", "web", registry, SCOPE, &client_id))
                .await?;
            let denied = team.refused("web", "CredentialIssued", "PolicyDenied").await?;
            assert!(
                denied.message.contains(team.namespace()) && denied.message.contains(registry),
                "{}",
                denied.message
            );
            assert!(team.pull_secret("web").await?.is_none());
            assert_eq!(
                team.links("web").await?,
                ["acr-pull-web"],
                "the link does not wait for the grant"
            );
            assert!(
                stack.azure().calls().await?.host(registry).is_empty(),
                "{registry} was asked"
            );
        }
        let calls = stack.azure().calls().await?.to(Service::Imds);
        let asked = calls.filter(|call| call.query.iter().any(|(_name, value)| *value == client_id));
        assert!(asked.is_empty(), "the metadata service was asked");
        Ok(())
    })
}

#[test]
fn grant_is_compared_with_the_whole_request() -> anyhow::Result<()> {
    beside_others(async |stack| {
        let wires = Wires::to(stack).await?;
        let bearer = stack
            .mint_token(NAMESPACE, "acrpull-syncer", BROKER_AUDIENCE, TEN_MINUTES)
            .await?;
        let VmIdentity { client_id, .. } = BY_CLIENT_ID.identity();
        let ask = async |change: &dyn Fn(&mut proto::v1::GetDockerConfigRequest)| {
            let mut request = broker_owned("client-id-any", BY_CLIENT_ID.registry, Some(SCOPE), &client_id);
            change(&mut request);
            wires.ask(Some(&bearer), &request).await
        };
        assert!(ask(&|_request| {}).await?.is_ok());
        let denied: [(&str, Change); 7] = [
            ("another namespace", |request| {
                request.binding.as_mut().unwrap().namespace = "client-id".to_owned();
            }),
            ("one of two accounts", |request| {
                request.service_accounts.push("admin".to_owned());
            }),
            ("another repository", |request| {
                request.scopes = vec!["repository:other/web:pull".to_owned()];
            }),
            ("one of two repositories", |request| {
                request.scopes.push("repository:other/web:pull".to_owned());
            }),
            ("another action", |request| {
                request.scopes = vec!["repository:team/web:pull,push".to_owned()];
            }),
            ("the catalog", |request| {
                request.scopes = vec!["registry:catalog:*".to_owned()];
            }),
            ("no scope", |request| request.scopes.clear()),
        ];
        for (what, change) in denied {
            assert_eq!(
                ask(&change).await?.err().as_deref(),
                Some("POLICY_DENIED"),
                "{what}"
            );
        }
        Ok(())
    })
}

#[test]
fn grant_registry_wide_allows_requests_without_a_scope_and_nothing_else() -> anyhow::Result<()> {
    beside_others(async |stack| {
        let wires = Wires::to(stack).await?;
        let bearer = stack
            .mint_token(NAMESPACE, "acrpull-syncer", BROKER_AUDIENCE, TEN_MINUTES)
            .await?;
        let VmIdentity { client_id, .. } = REGISTRY_WIDE.identity();
        let ask = async |scope| {
            let request = broker_owned("wide-any", REGISTRY_WIDE.registry, scope, &client_id);
            wires.ask(Some(&bearer), &request).await
        };
        let given = ask(None).await?;
        assert!(
            given.as_ref().is_ok_and(|given| given.granted_scopes.is_empty()),
            "{given:?}"
        );
        assert_eq!(ask(Some(SCOPE)).await?.err().as_deref(), Some("POLICY_DENIED"));
        Ok(())
    })
}

//! `broker grants test`: how a configuration would decide on a request, and what is in the way. Reads the file, asks nobody,
//! and decides nothing itself: the request is parsed and judged by the code that serves.

mod answer;

use std::{process::ExitCode, sync::Arc};

use proto::v1::{
    BindingReference, BrokerOwnedIdentity, CloudReference, FederatedIdentity, GetDockerConfigRequest,
    broker_owned_identity::Selector, get_docker_config_request::Identity as Wanted,
};
use runtime::Failure;

use crate::{
    args::{GrantsTestArgs, Who},
    authn::{Caller, Cluster, KeyStore, Subject},
    config::{self, ClusterConfig, Config, Identity},
    request::{DockerConfigRequest, InvalidField, RequestedIdentity, SubjectToken},
};
use answer::Answer;

/// There is no binding; the policy does not look at its name.
const BINDING: &str = "grants-test";

/// Prints the answer. The exit code says it too: 0 if the request would be let through, 1 if not.
///
/// # Errors
/// The configuration cannot be used, or there is no such request (exit code 64, whatever it is: 1 is an answer).
#[expect(clippy::print_stdout, reason = "the answer of a command")]
pub fn grants_test(args: &GrantsTestArgs) -> Result<ExitCode, Failure> {
    let path = &args.config.config;
    let config = config::load(path).config.map_err(|error| {
        Failure::usage(format!("configuration {}", path.display()))
            .remedy(
                "correct it; broker check-config says no more, docs/configuration.md explains every field",
            )
            .source(error)
    })?;
    let message = message(args, &config)?;
    let request = DockerConfigRequest::parse(message, SubjectToken::Optional)
        .map_err(|invalid| Failure::usage(format!("{} {}", flag(&invalid), invalid.problem)))?;
    let Config {
        clusters,
        clouds,
        policy,
        ..
    } = config;
    let caller = caller(clusters, &args.cluster)?;
    let subject = subject(&caller, &request);
    let answer = Answer::of(&caller, subject.as_ref(), &request, &clouds, &policy);
    print!("{}", answer.shown(args.output)?);
    Ok(if answer.is_allowed() {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    })
}

/// The request that a syncer would send.
fn message(args: &GrantsTestArgs, config: &Config) -> Result<GetDockerConfigRequest, Failure> {
    let Who {
        identity,
        client_id,
        resource_id,
        federated_client_id,
    } = &args.who;
    let declared = identity
        .as_deref()
        .map(|name| declared(config, name))
        .transpose()?;
    let owned = |selector| {
        Wanted::BrokerOwned(BrokerOwnedIdentity {
            selector: Some(selector),
        })
    };
    let wanted = match (declared, client_id, resource_id, federated_client_id) {
        (Some(identity), ..) => selector_of(identity).map(owned),
        (_, Some(id), ..) => Some(owned(Selector::ClientId(id.clone()))),
        (_, _, Some(id), _) => Some(owned(Selector::ResourceId(id.clone()))),
        (.., Some(id)) => Some(Wanted::Federated(FederatedIdentity {
            tenant_id: args.federated_tenant.clone().unwrap_or_default(),
            client_id: id.clone(),
            subject_token: String::new(),
        })),
        (None, None, None, None) => None,
    };
    let cloud = args
        .cloud
        .clone()
        .or_else(|| declared.map(|identity| identity.cloud.name.to_string()))
        .unwrap_or_default();
    Ok(GetDockerConfigRequest {
        binding: Some(BindingReference {
            namespace: args.namespace.clone(),
            name: BINDING.to_owned(),
            uid: String::new(),
        }),
        service_accounts: args.service_accounts.clone(),
        registry: args.registry.clone(),
        scopes: args.scopes.clone(),
        cloud: Some(CloudReference {
            name: cloud,
            authority_host: args.authority_host.clone().unwrap_or_default(),
        }),
        identity: wanted,
        ..GetDockerConfigRequest::default()
    })
}

fn declared<'a>(config: &'a Config, name: &str) -> Result<&'a Arc<Identity>, Failure> {
    let identities = &config.policy.identities;
    identities
        .iter()
        .find(|identity| *identity.name == *name)
        .ok_or_else(|| {
            let names: Vec<&str> = identities.iter().map(|identity| &*identity.name).collect();
            unknown("--identity", name, &names)
        })
}

/// One of the ways in which a binding can name it; the policy makes no difference between them.
fn selector_of(identity: &Identity) -> Option<Selector> {
    let by_client = identity.client_id.as_ref().map(ToString::to_string);
    let by_resource = identity.resource_id.as_ref().map(ToString::to_string);
    by_client
        .map(Selector::ClientId)
        .or_else(|| by_resource.map(Selector::ResourceId))
}

/// A syncer of the cluster. Its keys are not asked for.
fn caller(clusters: Vec<ClusterConfig>, name: &str) -> Result<Caller, Failure> {
    let names: Vec<Arc<str>> = clusters.iter().map(|cluster| Arc::clone(&cluster.name)).collect();
    let config = clusters
        .into_iter()
        .find(|cluster| *cluster.name == *name)
        .ok_or_else(|| {
            let names: Vec<&str> = names.iter().map(AsRef::as_ref).collect();
            unknown("--cluster", name, &names)
        })?;
    let subject = config
        .syncers
        .first()
        .map(String::as_str)
        .unwrap_or_default()
        .into();
    let keys = KeyStore::default();
    Ok(Caller {
        cluster: Arc::new(Cluster { config, keys }),
        subject,
        evidence: Arc::default(),
    })
}

/// The ServiceAccount whose token a federated request would show.
fn subject(caller: &Caller, request: &DockerConfigRequest) -> Option<Subject> {
    let (RequestedIdentity::Federated { .. }, Some(name)) =
        (&request.identity, request.service_accounts.first())
    else {
        return None;
    };
    Some(Subject {
        subject: format!("system:serviceaccount:{}:{name}", request.namespace).into(),
        audiences: caller.cluster.config.subject_audiences.as_slice().into(),
        namespace: request.namespace.as_str().into(),
        name: name.as_str().into(),
    })
}

/// The flag that a field of the request came from.
fn flag(invalid: &InvalidField) -> &'static str {
    match invalid.field {
        "binding.namespace" => "--namespace",
        "service_accounts" => "--service-account",
        "registry" => "--registry",
        "scopes" => "--scope",
        "federated.tenant_id" => "--federated-tenant",
        "federated.client_id" => "--federated-client-id",
        "broker_owned.client_id" => "--client-id",
        "broker_owned.resource_id" => "--resource-id",
        other => other,
    }
}

fn unknown(flag: &str, name: &str, known: &[&str]) -> Failure {
    let known = if known.is_empty() {
        "none".to_owned()
    } else {
        known.join(", ")
    };
    Failure::usage(format!(
        "{flag} {name:?} is not in the configuration; it has {known}"
    ))
}

//! What is found about bindings, one by one.

use kube::ResourceExt as _;
use proto::Reason;

use super::{Code, Finding, Severity};
use crate::{
    args::{PreflightArgs, ServiceAccountRef},
    finalizer,
    preflight::{
        assess::{Assessed, Readings},
        grants,
        object::{Object, printable},
        world::World,
    },
    problem::Problem,
    wanted::{Identity, Wanted},
};

/// About one binding.
pub(super) fn of(assessed: &Assessed, args: &PreflightArgs) -> Vec<Finding> {
    let object = Object::binding(assessed.binding.api, &assessed.binding.metadata);
    if assessed.is_leaving() {
        return hangs(object, assessed.binding.finalizers()).into_iter().collect();
    }
    let mut findings = Vec::new();
    if let Some(readings) = &assessed.readings {
        findings.push(readings_differ(
            &object,
            readings,
            assessed.is_peers(),
            args.service_account_ref,
        ));
    }
    match &assessed.wanted {
        Err(problem) => findings.push(refused(object.clone(), problem)),
        Ok(wanted) => {
            findings.extend(cloud(&object, wanted));
            findings.extend(scopes(&object, wanted));
            findings.extend(more_than_pull(&object, wanted));
        }
    }
    for target in assessed.targets.iter().filter(|target| target.account.is_none()) {
        let account = printable(&target.name);
        findings.push(Finding::new(
            Severity::Attention,
            Code::TargetAccountMissing,
            object.clone(),
            format!("ServiceAccount {account}, which is to pull, does not exist"),
            "create it, or delete the binding; the Secret is written all the same, and the link made when it is there",
        ));
    }
    findings
}

fn refused(object: Object, problem: &Problem) -> Finding {
    let (code, remedy) = if problem.reason == Reason::ServiceAccountNotFound {
        (
            Code::IdentityAccountMissing,
            "create it with the annotation azure.workload.identity/client-id, or correct serviceAccountRef",
        )
    } else if problem.reason == Reason::IdentityAnnotationMissing {
        (
            Code::IdentityAnnotationMissing,
            "annotate the ServiceAccount with the client ID of the identity that trusts it",
        )
    } else if problem.reason == Reason::RegistryNotAllowed {
        (
            Code::RegistryNotAllowed,
            "add its domain to --allowed-acr-server-suffixes, or correct the binding",
        )
    } else {
        (
            Code::SpecRefused,
            "correct the binding; what v1beta1 leaves out can be given by --default-acr-server and \
             --default-managed-identity-client-id",
        )
    };
    Finding::new(
        Severity::Blocker,
        code,
        object,
        printable(&problem.message),
        remedy,
    )
}

fn readings_differ(
    object: &Object,
    readings: &Readings,
    is_peers: bool,
    decided: Option<ServiceAccountRef>,
) -> Finding {
    let Readings {
        by_ref: (reference, by_ref),
        by_name: (name, by_name),
    } = readings;
    let ours = match decided {
        Some(ServiceAccountRef::Ignore) => "so does this syncer".to_owned(),
        Some(ServiceAccountRef::Use) | None => format!("this syncer by {reference}"),
    };
    let message = printable(&format!(
        "serviceAccountRef is {reference} ({}) and serviceAccountName {name} ({}): Azure/msi-acrpull proves the identity by {name}, \
         and {ours}",
        identity_in_words(by_ref),
        identity_in_words(by_name)
    ));
    let (severity, remedy) = match decided {
        Some(ServiceAccountRef::Ignore) => (
            Severity::Info,
            "run the syncer with --service-account-ref=ignore, as this was".to_owned(),
        ),
        Some(ServiceAccountRef::Use) => (
            Severity::Attention,
            format!(
                "let that identity trust system:serviceaccount:{}:{reference}",
                object.namespace
            ),
        ),
        None => (
            if is_peers {
                Severity::Blocker
            } else {
                Severity::Attention
            },
            format!(
                "decide: --service-account-ref=ignore keeps the peer's reading; --service-account-ref=use needs an identity \
                 that trusts system:serviceaccount:{}:{reference}",
                object.namespace
            ),
        ),
    };
    Finding::new(
        severity,
        Code::AccountRefDiffers,
        object.clone(),
        message,
        printable(&remedy),
    )
}

fn identity_in_words(wanted: &Result<Wanted, Problem>) -> String {
    match wanted {
        Ok(wanted) => match &wanted.identity {
            Identity::ClientId(client_id) | Identity::Federated { client_id, .. } => {
                format!("client ID {client_id}")
            }
            Identity::ResourceId(id) => id.to_string(),
        },
        Err(problem) if problem.reason == Reason::ServiceAccountNotFound => "which does not exist".to_owned(),
        Err(problem) if problem.reason == Reason::IdentityAnnotationMissing => {
            "which names no identity".to_owned()
        }
        Err(_problem) => "which names none that can be used".to_owned(),
    }
}

fn cloud(object: &Object, wanted: &Wanted) -> Option<Finding> {
    grants::undeclared_cloud(wanted).map(|why| {
        Finding::new(
            Severity::Attention,
            Code::CloudNotDeclared,
            object.clone(),
            printable(&why),
            "list it in `clouds` of the broker's configuration, and write the grant by hand",
        )
    })
}

fn scopes(object: &Object, wanted: &Wanted) -> Option<Finding> {
    if wanted.scopes.is_empty() {
        return Some(Finding::new(
            Severity::Attention,
            Code::RegistryWide,
            object.clone(),
            format!(
                "it names no scope: its token may do at {} whatever the identity may",
                wanted.registry
            ),
            "a grant with registryWide: true allows that, as printed below; a scope would be better",
        ));
    }
    let scope = grants::not_grantable(wanted)?;
    let (severity, remedy) = match wanted.identity {
        Identity::Federated { .. } => (
            Severity::Attention,
            "leave grants.federated of the cluster off, or ask for actions on repositories, all in lower case",
        ),
        Identity::ClientId(_) | Identity::ResourceId(_) => (
            Severity::Blocker,
            "ask for actions on repositories, all in lower case",
        ),
    };
    Some(Finding::new(
        severity,
        Code::ScopeNotGrantable,
        object.clone(),
        printable(&format!(
            "no grant can allow scope {scope}: grants are about repositories, and all in lower case"
        )),
        remedy,
    ))
}

/// The chart's policy on specs judges each that is written; the namespace's label is not looked at.
fn more_than_pull(object: &Object, wanted: &Wanted) -> Option<Finding> {
    let pulls = |action: &str| ["pull", "metadata_read", "metadataRead"].contains(&action);
    let mut scopes = wanted.scopes.iter();
    let scope = scopes.find(|scope| !scope.actions.iter().all(|action| pulls(action)))?;
    Some(Finding::new(
        Severity::Attention,
        Code::ScopeMoreThanPull,
        object.clone(),
        printable(&format!(
            "scope {scope} asks for more than pull: what is there goes on working, but the chart's admission policy refuses \
             such a spec when it is written again"
        )),
        "ask for pull only, or label its namespace acrpull/allow-push=true",
    ))
}

fn hangs(object: Object, finalizers: &[String]) -> Option<Finding> {
    if finalizers.is_empty() {
        return None;
    }
    let (severity, remedy) = if finalizers.iter().all(|name| name == finalizer::PEERS) {
        (
            Severity::Info,
            "nothing: the syncer removes that finalizer, and every link to the binding's Secret, unless --label-selector \
             leaves this binding out",
        )
    } else {
        (
            Severity::Attention,
            "find the controllers that have to remove their finalizers; the syncer removes that of Azure/msi-acrpull only",
        )
    };
    Some(Finding::new(
        severity,
        Code::DeletionHangs,
        object,
        printable(&format!(
            "it is being deleted and waits for {}",
            finalizers.join(", ")
        )),
        remedy,
    ))
}

/// About bindings that do not decode.
pub(super) fn unreadable(world: &World) -> impl Iterator<Item = Finding> {
    world.unreadable.iter().map(|unreadable| {
        let object = Object::binding(unreadable.api, &unreadable.metadata);
        let finalizers = unreadable.metadata.finalizers.as_deref().unwrap_or_default();
        let leaving = unreadable.metadata.deletion_timestamp.as_ref();
        leaving
            .and_then(|_since| hangs(object.clone(), finalizers))
            .unwrap_or_else(|| {
                Finding::new(
                    Severity::Blocker,
                    Code::Undecodable,
                    object,
                    printable(&format!("it does not decode: {}", unreadable.error)),
                    "write what the CRD of this version allows; the syncer skips it",
                )
            })
    })
}

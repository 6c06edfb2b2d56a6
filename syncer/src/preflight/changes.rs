//! What the syncer's first pass would change for each binding: its own plan, in words. Pure.

use serde::Serialize;

use super::{assess::Assessed, object::Object};
use crate::{
    plan::{Link, Step},
    pull_secret::{self, SecretState},
};

/// What would change for a binding.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Change {
    pub(super) binding: Object,
    /// Name of its Secret.
    pub(super) secret_name: String,
    pub(super) secret: SecretChange,
    /// Whether the broker is asked for a token at once.
    pub(super) is_token_fetched: bool,
    /// The ServiceAccount of its link.
    pub(super) service_account: String,
    pub(super) link: LinkChange,
    /// Whether the peer's finalizer goes.
    pub(super) is_finalizer_removed: bool,
}

/// What becomes of a Secret.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) enum SecretChange {
    /// There is none yet.
    Created,
    /// The peer's, or that of an earlier binding: it becomes ours, in place.
    TakenOver,
    /// It is ours and is due.
    Refreshed,
    /// It is ours and fresh.
    Kept,
    /// It belongs to somebody else.
    LeftAlone,
    /// There is none, and something is in the way of one.
    Missing,
    /// Secrets could not be looked at.
    Unknown,
}

/// What becomes of the link in the ServiceAccount.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) enum LinkChange {
    /// It is there and recorded.
    Kept,
    /// It is there, keeps its place, and is recorded as ours.
    Recorded,
    /// It is added at the end.
    Added,
    /// There is no such ServiceAccount: it waits.
    Waiting,
    /// The Secret belongs to somebody else.
    Withheld,
}

/// The changes, in the order of `assessed`. A binding that is being deleted has none.
pub(super) fn all(assessed: &[Assessed]) -> Vec<Change> {
    assessed
        .iter()
        .filter(|assessed| !assessed.is_leaving())
        .map(of)
        .collect()
}

fn of(assessed: &Assessed) -> Change {
    let binding = &assessed.binding;
    let secret_name = pull_secret::name_of(binding);
    Change {
        binding: Object::binding(binding.api, &binding.metadata),
        secret: secret(assessed),
        is_token_fetched: is_token_fetched(assessed),
        service_account: binding.spec.service_account_name.clone(),
        link: link(assessed, &secret_name),
        is_finalizer_removed: is_finalizer_removed(assessed),
        secret_name,
    }
}

fn secret(assessed: &Assessed) -> SecretChange {
    let is_fetched = is_token_fetched(assessed);
    let is_adopted = has_step(assessed, |step| matches!(step, Step::Adopt(_)));
    match &assessed.secret {
        None => SecretChange::Unknown,
        Some(SecretState::Foreign) => SecretChange::LeftAlone,
        Some(SecretState::Absent) if is_fetched => SecretChange::Created,
        Some(SecretState::Absent) => SecretChange::Missing,
        Some(SecretState::Ours(secret)) if is_adopted || is_fetched && secret.credential.is_none() => {
            SecretChange::TakenOver
        }
        Some(SecretState::Ours(_)) if is_fetched => SecretChange::Refreshed,
        Some(SecretState::Ours(_)) => SecretChange::Kept,
    }
}

fn is_token_fetched(assessed: &Assessed) -> bool {
    // A token of the peer's is replaced as soon as it is known that the peer is gone.
    let is_replaced = is_finalizer_removed(assessed)
        && matches!(&assessed.secret, Some(SecretState::Ours(secret)) if secret.peers.is_some());
    is_replaced || has_step(assessed, |step| matches!(step, Step::Issue(_)))
}

fn is_finalizer_removed(assessed: &Assessed) -> bool {
    has_step(assessed, |step| matches!(step, Step::Release))
}

fn has_step(assessed: &Assessed, is_it: impl Fn(&Step) -> bool) -> bool {
    assessed.plan.steps.iter().any(is_it)
}

fn link(assessed: &Assessed, secret_name: &str) -> LinkChange {
    match &assessed.plan.link {
        Link::Present => LinkChange::Kept,
        Link::NoAccount(_) => LinkChange::Waiting,
        Link::Withheld => LinkChange::Withheld,
        Link::Missing | Link::Contested(_) | Link::Failed(_) => {
            let account = assessed.targets.iter().find_map(|target| target.account.as_ref());
            let mut entries = account
                .iter()
                .flat_map(|account| account.image_pull_secrets.iter().flatten());
            if entries.any(|entry| entry.name == secret_name) {
                LinkChange::Recorded
            } else {
                LinkChange::Added
            }
        }
    }
}

impl Change {
    /// In one line, without the binding.
    pub(super) fn in_words(&self) -> String {
        let Self {
            binding: _,
            secret_name,
            secret,
            is_token_fetched,
            service_account,
            link,
            is_finalizer_removed,
        } = self;
        let mut words = vec![format!("Secret {secret_name} {}", secret.in_words())];
        if *is_token_fetched {
            words.push("one token fetched".to_owned());
        }
        words.push(format!(
            "link in ServiceAccount {service_account} {}",
            link.in_words()
        ));
        if *is_finalizer_removed {
            words.push("finalizer of Azure/msi-acrpull removed".to_owned());
        }
        words.join(", ")
    }
}

impl SecretChange {
    pub(super) fn in_words(self) -> &'static str {
        match self {
            Self::Created => "created",
            Self::TakenOver => "taken over in place",
            Self::Refreshed => "refreshed in place",
            Self::Kept => "kept as it is",
            Self::LeftAlone => "left alone",
            Self::Missing => "not created",
            Self::Unknown => "not looked at",
        }
    }
}

impl LinkChange {
    pub(super) fn in_words(self) -> &'static str {
        match self {
            Self::Kept => "kept",
            Self::Recorded => "kept in its place and recorded",
            Self::Added => "added",
            Self::Waiting => "waits for the ServiceAccount",
            Self::Withheld => "not made",
        }
    }
}

#[cfg(test)]
mod tests {
    use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;

    use super::*;
    use crate::{
        preflight::{
            assess::assess,
            scene::{empty, peers, peers_secret},
            world::{Look, World},
        },
        samples::{account, annotated_account, binding, now, workload_identity_spec},
    };

    /// The changes of a world with one binding, each as one line.
    fn changes(change: impl FnOnce(&mut World)) -> Vec<String> {
        let mut world = empty();
        world.add(binding("web", workload_identity_spec()));
        world.add_account(annotated_account("puller"));
        world.add_account(account("web"));
        change(&mut world);
        let changes = all(&assess(&world, None, now()));
        changes.iter().map(Change::in_words).collect()
    }

    #[test]
    fn change_of_a_new_binding_is_a_secret_and_a_link() {
        assert_eq!(
            changes(|_world| {}),
            ["Secret acr-pull-web created, one token fetched, link in ServiceAccount web added"]
        );
    }

    #[test]
    fn change_of_what_the_peer_left_keeps_its_place() {
        let mut world = peers();
        world.link("puller", "own");
        let changes = all(&assess(&world, None, now()));
        let web = changes
            .iter()
            .find(|change| change.binding.name == "web")
            .unwrap();
        assert_eq!(
            web.in_words(),
            "Secret acr-pull-web taken over in place, one token fetched, link in ServiceAccount puller kept in its place \
             and recorded, finalizer of Azure/msi-acrpull removed"
        );
    }

    #[test]
    fn change_of_a_binding_that_is_refused_is_no_token() {
        let refused = |world: &mut World| world.edit("web", |web| web.spec.acr.scope.clear());
        assert_eq!(
            changes(refused),
            ["Secret acr-pull-web not created, link in ServiceAccount web added"]
        );
        let of_the_peer = |world: &mut World| {
            refused(world);
            world.add_secret(peers_secret(&binding("web", workload_identity_spec())));
        };
        assert_eq!(
            changes(of_the_peer),
            ["Secret acr-pull-web kept as it is, link in ServiceAccount web added"]
        );
    }

    #[test]
    fn change_of_what_is_somebody_elses_or_not_seen_is_none() {
        let foreign = |world: &mut World| {
            let mut secret = peers_secret(&binding("web", workload_identity_spec()));
            secret.labels = None;
            secret.owner_references = None;
            world.add_secret(secret);
        };
        assert_eq!(
            changes(foreign),
            ["Secret acr-pull-web left alone, link in ServiceAccount web not made"]
        );
        let unseen = changes(|world| {
            world.secrets = Look::Denied;
            world.accounts.retain(|account, _found| account.name != "web");
        });
        assert_eq!(
            unseen,
            [
                "Secret acr-pull-web not looked at, one token fetched, link in ServiceAccount web waits for the ServiceAccount"
            ]
        );
    }

    #[test]
    fn change_of_a_binding_that_is_being_deleted_is_none() {
        let leaving = changes(|world| {
            world.edit("web", |web| web.metadata.deletion_timestamp = Some(Time(now())));
        });
        assert_eq!(leaving, [""; 0]);
    }
}

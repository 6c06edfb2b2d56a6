//! What the syncer would change for each binding: its own plan, in words. Pure.

use std::collections::BTreeMap;

use k8s_openapi::api::core::v1::ServiceAccount;
use serde::Serialize;

use super::{assess::Assessed, object::Object};
use crate::{
    links::{self, Target},
    plan::{Link, Plan, Step},
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
    /// Each ServiceAccount that is to pull.
    pub(super) links: Vec<LinkOf>,
    /// Whether the peer's finalizer goes.
    pub(super) is_finalizer_removed: bool,
    pub(super) token: Token,
}

/// The link of one ServiceAccount.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct LinkOf {
    pub(super) service_account: String,
    pub(super) change: LinkChange,
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

/// What becomes of the link in a ServiceAccount.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
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

/// When the broker is asked for a token.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) enum Token {
    /// Not before one is due.
    None,
    /// At once.
    Now,
    /// There is a valid one, and the peer may still be at work: when its finalizer has stayed away for a while.
    AfterFinalizer,
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
    let Assessed {
        binding,
        targets,
        secret: found,
        plan,
        plan_after,
        ..
    } = assessed;
    let secret_name = pull_secret::name_of(binding);
    let token = token(plan, plan_after.as_ref());
    Change {
        binding: Object::binding(binding.api, &binding.metadata),
        secret: secret(found.as_ref(), plan, token),
        links: targets
            .iter()
            .map(|target| LinkOf {
                service_account: target.name.clone(),
                change: link(target, plan, &secret_name),
            })
            .collect(),
        is_finalizer_removed: has_step(plan, |step| matches!(step, Step::Release)),
        token,
        secret_name,
    }
}

fn secret(found: Option<&SecretState>, plan: &Plan, token: Token) -> SecretChange {
    let is_fetched = token != Token::None;
    let is_adopted = has_step(plan, |step| matches!(step, Step::Adopt(_)));
    match found {
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

fn token(plan: &Plan, plan_after: Option<&Plan>) -> Token {
    let is_asked_by = |plan: &Plan| has_step(plan, |step| matches!(step, Step::Issue(_)));
    if is_asked_by(plan) {
        Token::Now
    } else if plan_after.is_some_and(is_asked_by) {
        Token::AfterFinalizer
    } else {
        Token::None
    }
}

fn has_step(plan: &Plan, is_it: impl Fn(&Step) -> bool) -> bool {
    plan.steps.iter().any(is_it)
}

fn link(target: &Target, plan: &Plan, secret_name: &str) -> LinkChange {
    let is_made = has_step(
        plan,
        |step| matches!(step, Step::Link(account) if *account == target.name),
    );
    match &target.account {
        _ if plan.link == Link::Withheld => LinkChange::Withheld,
        None => LinkChange::Waiting,
        Some(account) if is_made && lists(account, secret_name) => LinkChange::Recorded,
        Some(_) if is_made => LinkChange::Added,
        Some(_) => LinkChange::Kept,
    }
}

fn lists(account: &ServiceAccount, secret_name: &str) -> bool {
    let mut entries = account.image_pull_secrets.iter().flatten();
    entries.any(|entry| entry.name == secret_name)
}

impl Change {
    /// In one line, without the binding, in the order in which it happens.
    pub(super) fn in_words(&self) -> String {
        let Self {
            binding: _,
            secret_name,
            secret,
            links,
            is_finalizer_removed,
            token,
        } = self;
        let mut alike: BTreeMap<LinkChange, Vec<&str>> = BTreeMap::new();
        for link in links {
            alike.entry(link.change).or_default().push(&link.service_account);
        }
        let links = alike.into_iter().map(|(change, accounts)| {
            let noun = if accounts.len() == 1 { "link" } else { "links" };
            format!("{noun} in {} {}", links::named(&accounts), change.in_words())
        });
        let mut words: Vec<String> = links.collect();
        words.push(format!("Secret {secret_name} {}", secret.in_words()));
        if *is_finalizer_removed {
            words.push("finalizer of Azure/msi-acrpull removed".to_owned());
        }
        if *token != Token::None {
            words.push(format!("one token {}", token.in_words()));
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
    /// Of one link or of several.
    pub(super) fn in_words(self) -> &'static str {
        match self {
            Self::Kept => "kept",
            Self::Recorded => "kept in place and recorded",
            Self::Added => "added",
            Self::Waiting => "put off until there is such a ServiceAccount",
            Self::Withheld => "not made",
        }
    }
}

impl Token {
    /// Of one token or of several.
    pub(super) fn in_words(self) -> &'static str {
        match self {
            Self::None => "not fetched",
            Self::Now => "fetched at once",
            Self::AfterFinalizer => "fetched when the finalizer stays away",
        }
    }
}

#[cfg(test)]
mod tests;

//! What no write may do, in whatever state: each is judged as it takes effect.

use std::collections::BTreeSet;

use k8s_openapi::api::core::v1::{Secret, ServiceAccount};
use kube::ResourceExt as _;
use syncer::{binding::Binding, links, pull_secret::BINDING_LABEL};

use crate::{
    cases::place,
    fields::is_payload_ours,
    server::{Basis, Key, Refusal, Write, Written, listed, secret_key},
    world::World,
};

/// Whether the Secret under this binding's name is somebody else's.
pub(crate) fn is_foreign(secret: &Secret, slot: usize) -> bool {
    let ((api, name, _namespace), metadata) = (place(slot), &secret.metadata);
    let owners = metadata.owner_references.as_deref().unwrap_or_default();
    let label = metadata
        .labels
        .as_ref()
        .and_then(|labels| labels.get(BINDING_LABEL));
    let group = format!("{}/", api.group());
    let is_binding = owners.iter().all(|owner| {
        owner.kind == "AcrPullBinding" && owner.name == name && owner.api_version.starts_with(&group)
    });
    !is_binding || owners.is_empty() && label.is_none_or(|label| label != name)
}

pub(crate) fn payload(secret: &Secret) -> &[u8] {
    let payload = secret
        .data
        .as_ref()
        .and_then(|data| data.get(".dockerconfigjson"));
    payload.map(|payload| payload.0.as_slice()).unwrap_or_default()
}

impl World {
    /// Does it, and judges what came of it.
    pub(crate) fn judged(&mut self, write: &Write) -> Result<Written, Refusal> {
        match write {
            Write::SecretMetadata { basis, .. } | Write::Secret { basis, .. } => {
                let key = secret_key(basis.slot);
                if let Write::Secret { object, .. } = write {
                    assert_eq!(
                        key,
                        crate::server::key(&object.metadata),
                        "a Secret of another binding"
                    );
                }
                let before = self.server.objects.secrets.get(&key).cloned();
                let written = self.server.perform(write)?;
                self.judge_secret(basis, before.as_ref(), &self.server.objects.secrets[&key]);
                Ok(written)
            }
            Write::Account { key, claimed, .. } => {
                let before = self.server.objects.accounts.get(key).cloned();
                let written = self.server.perform(write)?;
                judge_account(key, claimed, &before.unwrap(), &self.server.objects.accounts[key]);
                Ok(written)
            }
            Write::Finalizer { slot, .. } => {
                let before = self.server.objects.bindings.get(slot).cloned();
                let written = self.server.perform(write)?;
                judge_binding(&before.unwrap(), &self.server.objects.bindings[slot]);
                Ok(written)
            }
            Write::Status { .. } => self.server.perform(write),
        }
    }

    fn judge_secret(&self, basis: &Basis, was: Option<&Secret>, is: &Secret) {
        let is_made_anew = was.is_none() && basis.is_over;
        assert!(
            !is_made_anew,
            "a Secret that was deleted is made anew by a write over it"
        );
        let is_over_another = was.is_some() && !basis.is_over;
        assert!(!is_over_another, "a Secret is written over by who saw none");
        if let Some(was) = was {
            assert!(!is_foreign(was, basis.slot), "a foreign Secret: {was:?}");
            assert_eq!(was.metadata.uid, is.metadata.uid, "it is written in place");
            assert_eq!(was.type_, is.type_);
        }
        let is_new_payload = was.and_then(|was| was.data.as_ref()) != is.data.as_ref();
        let token = self.broker.token(payload(is));
        if is_new_payload {
            let (token, meaning) = (token.unwrap(), basis.meaning.as_ref().unwrap());
            assert!(
                self.broker.has_granted(&token.payload, meaning),
                "a payload is one that was granted for {meaning:?}"
            );
            let old = was.filter(|was| is_payload_ours(was) && inputs(was) == basis.inputs.as_deref());
            let old = old.and_then(|was| {
                // Of one whose times somebody edited nobody knows when it ends.
                let old = self.broker.token(payload(was))?;
                told_end(was).filter(|told| *told == old.expires_at.to_string())?;
                Some(old)
            });
            let now = self.clock.right();
            if let Some(old) = old.filter(|old| old.expires_at > now && !basis.is_requested) {
                assert!(
                    token.expires_at >= old.expires_at,
                    "a token is replaced by an older one"
                );
            }
        }
        // Taking it over leaves the annotations as they are.
        if let Some(token) = token.filter(|_| basis.inputs.is_some() && is_payload_ours(is)) {
            assert_eq!(
                told_end(is),
                Some(token.expires_at.to_string().as_str()),
                "the annotations tell the end of the token"
            );
        }
    }
}

fn annotation<'a>(secret: &'a Secret, key: &str) -> Option<&'a str> {
    secret.annotations().get(key).map(String::as_str)
}

/// When a Secret says that its token ends.
fn told_end(secret: &Secret) -> Option<&str> {
    annotation(secret, "acr.microsoft.com/token.expiry")
}

/// For what a Secret says that its token is.
fn inputs(secret: &Secret) -> Option<&str> {
    annotation(secret, "acrpull.microsoft.com/inputs")
}

/// What was there stays where it is, unless it is recorded and no binding wants it; what is new is recorded, named like a
/// Secret of ours, and comes after what is somebody else's. Nothing else of the ServiceAccount changes.
fn judge_account(key: &Key, claimed: &BTreeSet<String>, before: &ServiceAccount, after: &ServiceAccount) {
    let (was, is) = (listed(before), listed(after));
    for name in was.iter().filter(|name| !is.contains(name)) {
        let may_go = links::record(before).contains(name) && !claimed.contains(name);
        assert!(may_go, "{name} was removed from {key:?}, claimed {claimed:?}");
    }
    let left: Vec<_> = is.iter().filter(|name| was.contains(name)).collect();
    let kept: Vec<_> = was.iter().filter(|name| is.contains(name)).collect();
    assert_eq!(left, kept, "entries of {key:?} that were there");
    let record = links::record(after);
    for (place, name) in is.iter().enumerate().filter(|(_place, name)| !was.contains(name)) {
        let is_ours = name.starts_with("acr-pull-") || name.ends_with("-msi-acrpull-secret");
        assert!(is_ours && record.contains(name), "{name} was added to {key:?}");
        assert!(
            is[place..].iter().all(|name| record.contains(name)),
            "{name} was put before what is somebody else's: {is:?}"
        );
    }
    let bare = |account: &ServiceAccount| {
        let mut account = account.clone();
        account.image_pull_secrets = None;
        account.metadata.resource_version = None;
        account.annotations_mut().remove(links::RECORD_ANNOTATION);
        account
    };
    assert_eq!(bare(before), bare(after), "nothing else is changed");
}

/// The peer's finalizer goes, and nothing else changes.
fn judge_binding(before: &Binding, after: &Binding) {
    let bare = |binding: &Binding| {
        let mut binding = binding.clone();
        binding.metadata.resource_version = None;
        let others = binding.metadata.finalizers.take().unwrap_or_default();
        let others = others
            .into_iter()
            .filter(|name| name != "msi-acrpull.microsoft.com");
        (others.collect::<Vec<_>>(), binding)
    };
    assert_eq!(bare(before), bare(after));
}

//! The pull Secret: its marks, whose it is, and the object itself; its names are in `pull_secret::name`. Pure.
//!
//! Labels, annotations and names of the peer keep the peer's meaning, so that either can take over from the other.
//! The syncer sees Secrets as metadata only: everything it must know about one stands in annotations.

mod name;
mod peers;
mod slim;
mod written;

use std::collections::BTreeMap;

use k8s_openapi::{
    ByteString,
    api::core::v1::Secret,
    apimachinery::pkg::apis::meta::v1::{ObjectMeta, OwnerReference},
    jiff::{SignedDuration, Timestamp},
};
use kube::{Resource as _, ResourceExt as _};
use proto::Fingerprint;

pub use name::{api_of_name, name_for, name_of};
pub use peers::PeersToken;
pub use slim::{is_ours, slim};

use self::{name::label_for, written::Writer};
use crate::{
    binding::{ApiVersion, Binding, BindingRef},
    inputs,
};

/// The peer's label; its value is the binding's name.
pub const BINDING_LABEL: &str = "acr.microsoft.com/binding";
/// The peer's annotation: when the token expires.
const EXPIRY: &str = "acr.microsoft.com/token.expiry";
/// The peer's annotation: when the token was fetched (not when it is due).
const REFRESH: &str = "acr.microsoft.com/token.refresh";
/// The peer's annotation: its hash over what it looks at.
const PEER_INPUTS: &str = "acr.microsoft.com/token.inputs";
/// When the next token is due.
const REFRESH_AT: &str = "acrpull.microsoft.com/refresh-at";
/// Hash over everything that the token depends on.
const INPUTS: &str = "acrpull.microsoft.com/inputs";
/// Fingerprint of the payload, in hexadecimal.
const FINGERPRINT: &str = "acrpull.microsoft.com/fingerprint";
/// On a binding: any new value asks for a fetch at once. On a Secret: the value that was last answered.
pub const REFRESH_REQUESTED: &str = "acrpull.microsoft.com/refresh-requested";
/// The field manager of everything in the Secret that is ours.
pub const FIELD_MANAGER: &str = "acrpull-syncer";

/// A token that lives longer than this was never given out: the broker believes none.
const LONGEST_LIFE: SignedDuration = SignedDuration::from_hours(24);
/// The type of a pull Secret, which is fixed when it is made.
pub const SECRET_TYPE: &str = "kubernetes.io/dockerconfigjson";
const PAYLOAD_KEY: &str = ".dockerconfigjson";

/// A Secret under the name that belongs to a binding.
#[derive(Debug, Clone, PartialEq, Eq)]
#[expect(clippy::large_enum_variant, reason = "nearly every binding has a Secret")]
pub enum SecretState {
    /// There is none.
    Absent,
    /// It belongs to somebody else and must not be touched.
    Foreign,
    /// It belongs to the binding, or to an earlier one of the same name.
    Ours(PullSecret),
}

/// What is known about our Secret.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PullSecret {
    /// Precondition of every patch.
    pub uid: String,
    /// The version that this was read from.
    pub resource_version: String,
    /// The one owner is this very binding, and the label is right.
    pub adopted: bool,
    /// What our last write says about the payload; none if either is not as we wrote it.
    pub credential: Option<Credential>,
    /// The token that the peer wrote, if the payload is the peer's.
    pub peers: Option<PeersToken>,
    /// The value of the refresh request that was last answered.
    pub answered_request: Option<String>,
}

/// The credential in a Secret.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Credential {
    /// Hash over what it was issued for.
    pub inputs: String,
    /// Names the payload.
    pub fingerprint: Fingerprint,
    /// When it was fetched.
    pub refreshed_at: Timestamp,
    /// When it expires.
    pub expires_at: Timestamp,
    /// When the next one is due.
    pub refresh_at: Timestamp,
}

impl Credential {
    /// Whether it works, and the next one is not due.
    pub fn is_fresh(&self, now: Timestamp) -> bool {
        now < self.refresh_at && now < self.expires_at
    }
}

impl SecretState {
    /// The credential in it, if it is ours and holds one.
    pub fn credential(&self) -> Option<&Credential> {
        match self {
            Self::Ours(secret) => secret.credential.as_ref(),
            Self::Absent | Self::Foreign => None,
        }
    }
}

impl Credential {
    /// Whether the times can all be true.
    pub fn is_consistent(&self) -> bool {
        is_life(self.refreshed_at, self.expires_at) && self.refresh_at <= self.expires_at
    }

    /// The same with times that can all be true. They are not where the clock of this machine is far behind: the expiry is
    /// by the clocks of Azure.
    fn made_consistent(self) -> Self {
        let earliest = self.expires_at.saturating_sub(LONGEST_LIFE);
        let earliest = earliest.unwrap_or(Timestamp::MIN);
        Self {
            refreshed_at: self.refreshed_at.clamp(earliest, self.expires_at),
            refresh_at: self.refresh_at.min(self.expires_at),
            ..self
        }
    }
}

/// Whether a token can have been fetched and expire then.
fn is_life(refreshed_at: Timestamp, expires_at: Timestamp) -> bool {
    let life = expires_at.duration_since(refreshed_at);
    !life.is_negative() && life <= LONGEST_LIFE
}

/// The binding that a Secret belongs to, by its owner or, for one that was orphaned, by its label and name.
pub fn binding_of(metadata: &ObjectMeta) -> Option<BindingRef> {
    let named = |api: ApiVersion, name: &str| {
        let namespace = metadata.namespace.as_deref().unwrap_or_default();
        BindingRef::new_with(name, api).within(namespace)
    };
    let mut owners = metadata.owner_references.iter().flatten();
    if let Some((api, owner)) = owners.find_map(|owner| Some((api_of(owner)?, owner))) {
        return Some(named(api, &owner.name));
    }
    let label = metadata.labels.as_ref()?.get(BINDING_LABEL)?;
    ApiVersion::ALL
        .into_iter()
        .find(|api| metadata.name.as_ref() == Some(&name_for(*api, label)))
        .map(|api| named(api, label))
}

/// Judges the Secret that has the binding's name for it.
///
/// Ours are those whose only owners are bindings of this name and API, whatever their uid: one that was deleted and
/// created again takes its Secret over in place. One without owner counts when it carries our label. Anything else, however
/// it is named, belongs to somebody whose pulls or data a forced write would destroy.
pub fn judge(metadata: &ObjectMeta, binding: &Binding) -> SecretState {
    let name = binding.name_any();
    let label = metadata
        .labels
        .as_ref()
        .and_then(|labels| labels.get(BINDING_LABEL));
    let label_fits = label.is_some_and(|value| *value == label_for(&name));
    let owners = metadata.owner_references.as_deref().unwrap_or_default();
    let (Some(uid), Some(resource_version)) = (&metadata.uid, &metadata.resource_version) else {
        return SecretState::Foreign;
    };
    if !belongs_to(metadata, binding.api, &name) {
        return SecretState::Foreign;
    }
    let this_owner = matches!(owners, [owner]
        if Some(&owner.uid) == binding.metadata.uid.as_ref() && owner.controller == Some(true));
    let annotations = metadata.annotations.as_ref();
    SecretState::Ours(PullSecret {
        uid: uid.clone(),
        resource_version: resource_version.clone(),
        adopted: this_owner && label_fits,
        credential: read_credential(metadata),
        peers: peers::read(metadata, binding),
        answered_request: annotations
            .and_then(|annotations| annotations.get(REFRESH_REQUESTED))
            .cloned(),
    })
}

/// Whether the only owners are bindings of this API and name, or there is none and the label is that of the name.
pub fn belongs_to(metadata: &ObjectMeta, api: ApiVersion, name: &str) -> bool {
    match metadata.owner_references.as_deref().unwrap_or_default() {
        [] => {
            let labels = metadata.labels.as_ref();
            labels.and_then(|labels| labels.get(BINDING_LABEL)) == Some(&label_for(name))
        }
        owners => owners
            .iter()
            .all(|owner| api_of(owner) == Some(api) && owner.name == name),
    }
}

fn api_of(owner: &OwnerReference) -> Option<ApiVersion> {
    ApiVersion::of_reference(&owner.api_version, &owner.kind)
}

/// What our last write says, if all of it is still ours. A time that somebody edited would keep a token in place that
/// the registry refuses, with a status that says that all is well.
fn read_credential(metadata: &ObjectMeta) -> Option<Credential> {
    let ours = [Writer::Applied, Writer::Updated];
    let is_ours = written::payload_is_by(metadata, Writer::Applied)
        && written::annotations_are_by(metadata, &written::ABOUT_THE_PAYLOAD, &ours);
    is_ours.then_some(())?;
    let annotations = metadata.annotations.as_ref()?;
    let time = |key: &str| annotations.get(key)?.parse::<Timestamp>().ok();
    let credential = Credential {
        inputs: annotations.get(INPUTS)?.clone(),
        fingerprint: Fingerprint::try_from(inputs::unhex(annotations.get(FINGERPRINT)?)?.as_slice()).ok()?,
        refreshed_at: time(REFRESH)?,
        expires_at: time(EXPIRY)?,
        refresh_at: time(REFRESH_AT)?,
    };
    credential.is_consistent().then_some(credential)
}

/// The annotations that say all about a credential.
pub fn annotations(
    binding: &Binding,
    credential: &Credential,
    answered_request: Option<&str>,
) -> BTreeMap<String, String> {
    let Credential {
        inputs,
        fingerprint,
        refreshed_at,
        expires_at,
        refresh_at,
    } = &credential.clone().made_consistent();
    let mut annotations = BTreeMap::from([
        (EXPIRY.to_owned(), seconds(*expires_at)),
        (REFRESH.to_owned(), seconds(*refreshed_at)),
        (PEER_INPUTS.to_owned(), inputs::peer(binding)),
        (REFRESH_AT.to_owned(), seconds(*refresh_at)),
        (INPUTS.to_owned(), inputs.clone()),
        (FINGERPRINT.to_owned(), inputs::hex(fingerprint.as_bytes())),
    ]);
    if let Some(value) = answered_request {
        annotations.insert(REFRESH_REQUESTED.to_owned(), value.to_owned());
    }
    annotations
}

/// RFC 3339 in UTC without fractions, as the peer writes and reads it.
fn seconds(time: Timestamp) -> String {
    Timestamp::from_second(time.as_second())
        .unwrap_or(time)
        .to_string()
}

/// Labels and owner, for a Secret that is being taken over.
pub fn adoption(binding: &Binding) -> ObjectMeta {
    ObjectMeta {
        labels: Some(BTreeMap::from([(
            BINDING_LABEL.to_owned(),
            label_for(&binding.name_any()),
        )])),
        owner_references: Some(vec![OwnerReference {
            api_version: binding.api.as_str().to_owned(),
            kind: Binding::kind(&binding.api).into_owned(),
            name: binding.name_any(),
            uid: binding.uid().unwrap_or_default(),
            controller: Some(true),
            // As the peer writes it: the policy of the peer's chart lets it change no owner, so after going back it could
            // not renew a Secret that was made here.
            block_owner_deletion: Some(true),
        }]),
        ..ObjectMeta::default()
    }
}

/// The whole Secret, for server-side apply.
pub fn object(binding: &Binding, payload: &[u8], annotations: BTreeMap<String, String>) -> Secret {
    Secret {
        metadata: ObjectMeta {
            name: Some(name_of(binding)),
            namespace: binding.namespace(),
            annotations: Some(annotations),
            ..adoption(binding)
        },
        type_: Some(SECRET_TYPE.to_owned()),
        data: Some(BTreeMap::from([(
            PAYLOAD_KEY.to_owned(),
            ByteString(payload.to_vec()),
        )])),
        ..Secret::default()
    }
}

#[cfg(test)]
mod tests;

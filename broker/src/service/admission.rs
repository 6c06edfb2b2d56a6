//! Who makes a call, and in which role: decided from the headers and the connection before the body is read, and once more
//! where the configuration has changed meanwhile.

use std::sync::Arc;

use http::{HeaderMap, header};
use proto::MAX_DEADLINE;
use runtime::Secret;
use tokio::time::Instant;

use super::Record;
use crate::{
    access::{self, Role},
    authn::{AuthnError, Caller, TokenError},
    channel::{self, Peer},
    error::CredentialError,
    grpc,
    live::Snapshot,
    metrics::WireFormat,
    throttle::{Taken, Throttle},
};

/// A call that the gate has let through: who makes it, and the configuration that let it through.
#[derive(Clone)]
pub struct Admitted {
    pub(super) caller: Caller,
    /// In which of its roles it makes this call.
    pub(super) role: Role,
    /// What it took of its cluster's rate.
    pub(super) taken: Taken,
    /// To authenticate it again, should the configuration change before a credential is answered.
    bearer: Secret,
    /// Over whose connection it came, for the same reason.
    peer: Option<Arc<Peer>>,
    /// Those that the call admits.
    roles: &'static [Role],
    live: Arc<Snapshot>,
    /// From when the headers were there; the body takes of it.
    pub(super) deadline: Instant,
    pub(super) record: Record,
}

impl Admitted {
    /// Admits the sender of `headers`, over the connection of `peer`, to a call that is for these roles.
    ///
    /// # Errors
    /// The token or the connection is not accepted, its owner has none of the roles, or it asks too often. All are in `record`.
    pub(super) fn by(
        wire: WireFormat,
        roles: &'static [Role],
        headers: &HeaderMap,
        peer: Option<Arc<Peer>>,
        live: Arc<Snapshot>,
        throttle: &Throttle,
        record: Record,
    ) -> Result<Self, CredentialError> {
        let bearer: Secret = bearer_token(headers)
            .map(|token| token.to_owned().into())
            .map_err(|error| AuthnError::Caller(error).into())
            .inspect_err(|error| record.turn_away(error))?;
        let caller = authenticated(&live, bearer.expose()).inspect_err(|error| record.turn_away(error))?;
        record.recognise(&caller, &bearer);
        // A token that is good and comes from elsewhere may be stolen: the record says whose it is.
        of_its_cluster(&caller, peer.as_deref()).inspect_err(|error| record.turn_away(error))?;
        let role = role_of(&caller, roles).inspect_err(|error| record.turn_away(error))?;
        record.note(|facts| facts.role = Some(role));
        let now = Instant::now();
        let taken = throttle
            .admit(&caller, now)
            .map_err(CredentialError::from)
            .inspect_err(|error| record.turn_away(error))?;
        let asked = match wire {
            WireFormat::Grpc => grpc::deadline(headers),
            WireFormat::Http => None,
        };
        Ok(Self {
            caller,
            role,
            taken,
            bearer,
            peer,
            roles,
            live,
            deadline: now + asked.unwrap_or(MAX_DEADLINE).min(MAX_DEADLINE),
            record,
        })
    }

    /// Who makes the call and in which role, by the configuration `live`: another one than that of then admits it anew, which
    /// is noted.
    ///
    /// # Errors
    /// It is not admitted any more.
    pub(super) fn again_by(&self, live: &Arc<Snapshot>) -> Result<(Caller, Role), CredentialError> {
        if Arc::ptr_eq(live, &self.live) {
            return Ok((self.caller.clone(), self.role));
        }
        let caller = authenticated(live, self.bearer.expose())?;
        self.record.recognise(&caller, &self.bearer);
        of_its_cluster(&caller, self.peer.as_deref())?;
        let role = role_of(&caller, self.roles)?;
        self.record.note(|facts| facts.role = Some(role));
        Ok((caller, role))
    }

    /// The cluster of the caller.
    pub fn cluster(&self) -> &Arc<str> {
        &self.caller.cluster.config.name
    }

    /// Where the outcome goes.
    pub fn record(&self) -> &Record {
        &self.record
    }
}

/// Who calls.
fn authenticated(live: &Snapshot, bearer: &str) -> Result<Caller, CredentialError> {
    let caller = live.authenticator.caller(bearer)?;
    let span = tracing::Span::current();
    span.record("acrpull.cluster", &*caller.cluster.config.name);
    span.record("acrpull.caller", &*caller.subject);
    Ok(caller)
}

/// Whether it calls over a connection of its cluster.
fn of_its_cluster(caller: &Caller, peer: Option<&Peer>) -> Result<(), CredentialError> {
    Ok(channel::check(&caller.cluster.config, peer)?)
}

/// As what it calls.
fn role_of(caller: &Caller, roles: &'static [Role]) -> Result<Role, CredentialError> {
    let role = access::check(caller, roles)?;
    tracing::Span::current().record("acrpull.caller.role", role.as_str());
    Ok(role)
}

/// The token of `authorization: Bearer <token>`; the scheme's case does not matter (RFC 9110 section 11.1). Of two such
/// headers none is taken: whoever stands in front of the broker may have looked at the other one.
fn bearer_token(headers: &HeaderMap) -> Result<&str, TokenError> {
    let mut sent = headers.get_all(header::AUTHORIZATION).iter();
    let (first, second) = (sent.next(), sent.next());
    if second.is_some() {
        return Err(TokenError::Several);
    }
    let (scheme, token) = first
        .and_then(|value| value.to_str().ok()?.split_once(' '))
        .ok_or(TokenError::Missing)?;
    if !scheme.eq_ignore_ascii_case("bearer") {
        return Err(TokenError::Missing);
    }
    Ok(token.trim())
}

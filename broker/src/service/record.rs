//! How one call ended: counted once, recorded once, and logged here if it was refused or failed, wherever that was
//! noticed.

use std::{
    sync::{
        Arc, Mutex, MutexGuard, OnceLock, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    time::{Duration, Instant},
};

use proto::{Reason, v1::ExplainResponse};
use runtime::Secret;

use crate::{
    access::Call,
    audit::{
        Audit, Begun, EndedCall, Line,
        facts::{Explained, Facts, Handed, Permission},
    },
    authn::Caller,
    authz::{
        Denied, Permit, TokenSource,
        grants::{AskedIdentity, Decision},
    },
    credentials::{Credential, Payload},
    error::CredentialError,
    metrics::{Metrics, Outcome, WireFormat},
};

/// The outcome of a call and what is known of it, shared by those that may settle it. The last one to let go counts it; a
/// call that nobody has settled by then was cancelled, because its caller went away.
#[derive(Clone)]
pub struct Record(Arc<Entry>);

struct Entry {
    metrics: Metrics,
    audit: Audit,
    begun: Begun,
    wire: WireFormat,
    call: Call,
    outcome: OnceLock<Outcome>,
    facts: Mutex<Facts>,
    /// Its record is made, or it is not to have one.
    is_recorded: AtomicBool,
    is_reported: AtomicBool,
    started_at: Instant,
}

/// A record that somebody waits to put in. If nobody waits any more, it goes in only if there is room at that moment.
struct Unwritten<'a> {
    audit: &'a Audit,
    line: Option<Line>,
}

impl Record {
    /// Starts the time. `facts` are those that are known before anybody looks at the caller.
    pub fn open(metrics: Metrics, audit: Audit, wire: WireFormat, call: Call, facts: Facts) -> Self {
        Self(Arc::new(Entry {
            metrics,
            begun: audit.begin_call(),
            audit,
            wire,
            call,
            outcome: OnceLock::new(),
            facts: Mutex::new(facts),
            is_recorded: AtomicBool::new(false),
            is_reported: AtomicBool::new(false),
            started_at: Instant::now(),
        }))
    }

    /// Adds to what is known of the call.
    pub fn note(&self, fact: impl FnOnce(&mut Facts)) {
        fact(&mut self.facts());
    }

    /// Notes who calls, and by which token.
    pub(super) fn recognise(&self, caller: &Caller, bearer: &Secret) {
        self.note(|facts| {
            facts.caller = Some(caller.clone());
            facts.role = None;
            facts.bearer = caller.evidence.token_id.is_none().then(|| bearer.clone());
        });
    }

    /// Notes what a request that is denied came to, as far as it did.
    pub(super) fn deny(&self, denied: &Denied, asked: Option<&AskedIdentity<'_>>) {
        self.note(|facts| match (denied, asked) {
            (Denied::TenantCeiling(tenant), _) => facts.tenant = Some(tenant.clone()),
            (_, Some(AskedIdentity::Federated { tenant, .. })) => facts.tenant = Some((*tenant).clone()),
            (_, Some(AskedIdentity::BrokerOwned(identity))) => {
                facts.identity = Some(Arc::clone(&identity.name));
            }
            (_, None) => {}
        });
    }

    /// Notes by what a request is allowed.
    pub(super) fn permit(&self, permit: &Permit) {
        self.note(|facts| {
            match permit.source() {
                TokenSource::Federated { tenant, .. } => facts.tenant = Some(tenant.clone()),
                TokenSource::BrokerOwned(identity) => facts.identity = Some(Arc::clone(&identity.name)),
            }
            facts.permission = Some(match permit.decision() {
                Decision::Granted(grant) => Permission::Grant(Arc::clone(grant)),
                Decision::NotNeeded => Permission::NotNeeded,
                Decision::ReportOnly => Permission::ReportOnly,
            });
        });
    }

    /// Notes what the caller is about to get.
    pub(super) fn hand_out(&self, credential: &Credential) {
        let token = credential.payload.as_ref().map(Payload::token);
        let handed = Handed {
            token_fingerprint: token.and_then(|token| self.0.begun.fingerprint(token.expose())),
            payload_fingerprint: credential.fingerprint,
            expires_at: credential.expires_at,
            granted: credential.granted.clone(),
            degraded: credential.degraded,
        };
        self.note(|facts| facts.credential = Some(handed));
    }

    /// Notes what an explanation came to.
    pub(super) fn explain(&self, explanation: &ExplainResponse) {
        let verdict = explanation.verdict().as_str_name();
        let explained = Explained {
            cluster: explanation.cluster.clone(),
            verdict: verdict.strip_prefix("VERDICT_").unwrap_or(verdict),
            reason: explanation.reason.clone(),
        };
        self.note(|facts| facts.explained = Some(explained));
    }

    /// Whether it is known how the call ended.
    pub fn is_settled(&self) -> bool {
        self.0.outcome.get().is_some()
    }

    /// Settles a call that is about to be answered, once its record is where the configuration wants it to be.
    ///
    /// # Errors
    /// It is not: then this call must not be answered.
    pub async fn answer(&self, outcome: Outcome) -> Result<(), CredentialError> {
        let line = self.line(outcome);
        let recorded = match line {
            Some(line) => self.0.audit.put_before_answer(line).await,
            None => Ok(()),
        };
        if let Err(unrecorded) = recorded {
            tracing::debug!("not answered: {unrecorded}");
            let refusal = CredentialError::titled(Reason::AuditUnavailable).retry_soon();
            self.fail(&refusal);
            // It has waited long enough.
            self.0.finish();
            return Err(refusal);
        }
        self.0.settle(outcome);
        self.0.is_recorded.store(true, Ordering::Relaxed);
        Ok(())
    }

    /// Settles a call that is refused before anything was asked: of somebody whom the broker does not know, who may not make
    /// it, or who asks too often. Nobody must be able to fill the logs, so only so many a second are recorded, and of those
    /// only who is known and not allowed is warned of. Metrics count all of them, and each answer says why.
    pub fn turn_away(&self, error: &CredentialError) {
        if !self.settle_error(error) {
            return;
        }
        let caller = self.facts().caller.clone();
        let is_to_be_recorded = self.0.audit.may_be_recorded(caller.as_ref(), error.reason);
        if !is_to_be_recorded {
            self.0.is_recorded.store(true, Ordering::Relaxed);
        }
        if is_to_be_recorded && caller.is_some() && error.reason != Reason::CallerThrottled {
            return self.warn(error);
        }
        tracing::debug!(
            call = self.0.call.as_str(),
            reason = error.reason.as_str(),
            "turned away: {error}"
        );
    }

    /// The same for a refusal or a failure of what a caller asked for.
    pub fn fail(&self, error: &CredentialError) {
        if error.reason == Reason::CallerThrottled {
            return self.turn_away(error);
        }
        self.settle_error(error);
        self.warn(error);
    }

    /// The one place where that is logged. Who asked for what is in the fields of the span.
    fn warn(&self, error: &CredentialError) {
        tracing::warn!(
            call = self.0.call.as_str(),
            reason = error.reason.as_str(),
            azure.request_id = error.azure_request_id,
            retry_after_s = error.retry_after.map(|wait| wait.as_secs()),
            "refused or failed: {error}"
        );
    }

    /// Notes that the call needs a grant, has none, and goes on all the same. Once for each call, however often the policy is
    /// asked on its way. Each is counted and has its record; only so many a second are warned of.
    pub fn report_missing_grant(&self, cluster: &Arc<str>) {
        if self.0.is_reported.swap(true, Ordering::Relaxed) {
            return;
        }
        self.0.metrics.policy().count_reported(cluster);
        if !self.0.audit.may_be_warned_of(cluster) {
            return;
        }
        tracing::warn!(
            call = self.0.call.as_str(),
            "no grant allows this, and it goes on: the grants of its cluster are only reported"
        );
    }

    /// Writes the record of a call that is settled and has none yet. For whoever is the last to have time for it: what is
    /// dropped without it gets its record only if there is room for it at that moment.
    pub async fn write(&self) {
        let Some(outcome) = self.0.outcome.get() else {
            return;
        };
        if self.0.is_recorded.swap(true, Ordering::Relaxed) {
            return;
        }
        let mut unwritten = Unwritten {
            audit: &self.0.audit,
            line: self.line(*outcome),
        };
        if let Some(line) = &mut unwritten.line {
            self.0.audit.put(line).await;
        }
        unwritten.line = None;
    }

    /// Whether this is how the call ended.
    fn settle_error(&self, error: &CredentialError) -> bool {
        let is_first = self.0.settle(Outcome::Failed(error.reason));
        if is_first {
            self.facts().error = Some(error.clone());
        }
        is_first
    }

    fn line(&self, outcome: Outcome) -> Option<Line> {
        let ended = self.0.ended(outcome, self.0.started_at.elapsed());
        self.0.audit.line(&self.0.begun, &ended, &self.facts())
    }

    fn facts(&self) -> MutexGuard<'_, Facts> {
        self.0.facts.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Entry {
    /// Says how it ended. The first word counts; whether this was it.
    fn settle(&self, outcome: Outcome) -> bool {
        self.outcome.set(outcome).is_ok()
    }

    fn ended(&self, outcome: Outcome, took: Duration) -> EndedCall {
        EndedCall {
            wire: self.wire,
            call: self.call,
            outcome,
            took,
        }
    }

    /// The record, without waiting for anything.
    fn finish(&self) {
        if self.is_recorded.swap(true, Ordering::Relaxed) {
            return;
        }
        let outcome = self.outcome.get().copied().unwrap_or(Outcome::Cancelled);
        let ended = self.ended(outcome, self.started_at.elapsed());
        let facts = self.facts.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(line) = self.audit.line(&self.begun, &ended, &facts) {
            self.audit.put_now(line);
        }
    }
}

impl Drop for Entry {
    fn drop(&mut self) {
        self.finish();
        let outcome = self.outcome.get().copied().unwrap_or(Outcome::Cancelled);
        self.metrics.observe_request(
            self.call,
            self.wire,
            outcome,
            self.started_at.elapsed().as_secs_f64(),
        );
    }
}

impl Drop for Unwritten<'_> {
    fn drop(&mut self) {
        if let Some(line) = self.line.take() {
            self.audit.put_now(line);
        }
    }
}

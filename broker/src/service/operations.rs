//! The calls that hand out no credential: to explain, to list, to drop. Each is decided by the configuration of the moment
//! in which its body is there (guarantee A6).

use std::sync::Arc;

use proto::{
    Reason,
    v1::{
        ExplainRequest, ExplainResponse, InvalidateRequest, InvalidateResponse, ListClustersRequest,
        ListClustersResponse,
    },
};

use super::{Admitted, Service};
use crate::{
    access::Role,
    audit::facts::Permission,
    authn::Caller,
    error::CredentialError,
    explain, fleet,
    live::Snapshot,
    request::{DockerConfigRequest, InvalidField, SubjectToken},
};

impl Service {
    /// `Explain`. Asks nobody, and changes nothing.
    ///
    /// # Errors
    /// There is nothing to explain, or the caller may not ask about this cluster.
    #[expect(clippy::unused_async, reason = "a call like the others")]
    pub async fn explain(
        self,
        admitted: Admitted,
        message: ExplainRequest,
    ) -> Result<ExplainResponse, CredentialError> {
        let ExplainRequest { request, cluster } = message;
        let live = self.0.live.current();
        let (caller, role) = admitted.again_by(&live)?;
        let request = request.ok_or_else(|| InvalidField::new("request", "must be set"))?;
        let asked = DockerConfigRequest::parse(request.clone(), SubjectToken::Optional);
        admitted.record.note(|facts| {
            facts.request = asked.ok().map(Arc::new);
            facts.permission = Some(Permission::Role);
        });
        let as_of = on_behalf_of(&caller, role, &cluster, &live)?;
        let explanation = explain::explain(role, &caller, &as_of, request, &live, |permit| {
            self.0.credentials.inspect(permit)
        });
        admitted.record.explain(&explanation);
        Ok(explanation)
    }

    /// `ListClusters`.
    ///
    /// # Errors
    /// The caller is not admitted any more.
    #[expect(clippy::unused_async, reason = "a call like the others")]
    pub async fn list_clusters(
        self,
        admitted: Admitted,
        message: ListClustersRequest,
    ) -> Result<ListClustersResponse, CredentialError> {
        let live = self.0.live.current();
        admitted.again_by(&live)?;
        admitted
            .record
            .note(|facts| facts.permission = Some(Permission::Role));
        Ok(fleet::clusters(
            live.authenticator.clusters(),
            &message.page_token,
        ))
    }

    /// `Invalidate`.
    ///
    /// # Errors
    /// The selection contradicts itself, selects nothing in particular, or names what there is not; or the caller is not
    /// admitted any more, and nothing is dropped.
    #[expect(clippy::unused_async, reason = "a call like the others")]
    pub async fn invalidate(
        self,
        admitted: Admitted,
        message: InvalidateRequest,
    ) -> Result<InvalidateResponse, CredentialError> {
        let live = self.0.live.current();
        let (caller, _operator) = admitted.again_by(&live)?;
        let selection = fleet::selection(message)?;
        let dropped = self.0.credentials.invalidate(&selection);
        if dropped == 0 {
            fleet::check_names(&selection, &live)?;
        }
        admitted.record.note(|facts| {
            facts.permission = Some(Permission::Role);
            facts.dropped = Some((selection.clone(), dropped));
        });
        tracing::info!(
            acrpull.caller = &*caller.subject,
            ?selection,
            entries_dropped = dropped,
            "cached tokens dropped"
        );
        Ok(InvalidateResponse {
            entries_dropped: u32::try_from(dropped).unwrap_or(u32::MAX),
        })
    }
}

/// Who a request is explained for: the caller, or for an operator the caller as if it were of the cluster named.
fn on_behalf_of(
    caller: &Caller,
    role: Role,
    cluster: &str,
    live: &Snapshot,
) -> Result<Caller, CredentialError> {
    if cluster.is_empty() || *cluster == *caller.cluster.config.name {
        return Ok(caller.clone());
    }
    if role != Role::Operator {
        return Err(CredentialError::new(
            Reason::CallerNotPermitted,
            "cluster names another cluster than the caller's own; that is for operators only",
        ));
    }
    let clusters = live.authenticator.clusters();
    let other = clusters
        .iter()
        .find(|other| *other.config.name == *cluster)
        .ok_or_else(|| InvalidField::new("cluster", "must be the name of a configured cluster"))?;
    Ok(Caller {
        cluster: Arc::clone(other),
        subject: Arc::clone(&caller.subject),
        evidence: Arc::clone(&caller.evidence),
    })
}

//! Whether a question to the broker is still the right one, after its binding has changed. Pure.

use k8s_openapi::api::core::v1::ServiceAccount;
use kube::ResourceExt as _;

use super::Issue;
use crate::{binding::Binding, finalizer, pull_secret::REFRESH_REQUESTED, wanted};

impl Issue {
    /// Whether nobody may have the answer any more: the binding that it is `asked_for` is gone or another one by now, or is
    /// the peer's again.
    pub fn is_void(&self, asked_for: &Binding, present: Option<&Binding>) -> bool {
        present.is_none_or(|present| {
            present.metadata.uid != asked_for.metadata.uid
                || present.metadata.deletion_timestamp.is_some()
                || finalizer::is_on(&present.metadata) && !finalizer::is_on(&asked_for.metadata)
        })
    }

    /// Whether nobody wants the answer any more: it [is void](Self::is_void), or the binding wants another credential by now.
    /// `account` is the ServiceAccount that names the identity of the present one.
    ///
    /// A request to refresh outdates a question that is not put by force. One that is cannot be outdone, so that requests
    /// that follow each other fast do not keep the first from being answered.
    pub fn is_outdated(
        &self,
        asked_for: &Binding,
        present: Option<&Binding>,
        account: Option<&ServiceAccount>,
    ) -> bool {
        let Some(present) = present.filter(|present| !self.is_void(asked_for, Some(present))) else {
            return true;
        };
        let request = present.annotations().get(REFRESH_REQUESTED);
        let is_requested_anew = request.is_some() && request != self.request.as_ref();
        let wants_the_same =
            || wanted::read(present, account).is_ok_and(|wanted| wanted.inputs == self.wanted.inputs);
        (is_requested_anew && !self.force) || !wants_the_same()
    }
}

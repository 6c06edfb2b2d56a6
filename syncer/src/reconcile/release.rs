//! The step that makes a binding of the peer's wholly ours, or asks whether the peer is still there.

use kube::ResourceExt as _;
use runtime::error_chain::ErrorChain;

use super::Pass;
use crate::{execute, finalizer};

/// What became of it in this pass.
#[derive(Debug, Default)]
pub(super) enum Release {
    /// It was not tried, or does not matter any more.
    #[default]
    Nothing,
    /// The finalizer is gone, in this version of the binding.
    Done(String),
    /// Somebody changed the binding at the same time, or Kubernetes did not answer.
    Again,
}

impl Pass<'_> {
    /// Removes the peer's finalizer.
    pub(super) async fn release(&mut self) {
        let _worker = self.context.limits.worker().await;
        let binding = &self.snapshot.binding;
        let namespace = binding.namespace().unwrap_or_default();
        let removed = execute::remove_finalizer(
            self.context,
            binding.api,
            &namespace,
            &binding.name_any(),
            &binding.metadata,
        )
        .await;
        let (now, draw) = (self.now(), rand::random());
        let known = self.snapshot.memory.handover.as_ref();
        match removed {
            Ok(version) => {
                tracing::info!("the finalizer of msi-acrpull was removed");
                let over = binding.resource_version().unwrap_or_default();
                self.snapshot.memory.handover = Some(finalizer::after_removal(known, over, now, draw));
                self.release = version.map_or(Release::Nothing, Release::Done);
            }
            // The binding went meanwhile.
            Err(error) if error.is_not_found() => {}
            Err(error) => {
                tracing::warn!(error = %ErrorChain(&error), "the finalizer of msi-acrpull could not be removed");
                if [403, 422].contains(&error.code()) {
                    self.snapshot.memory.handover = Some(finalizer::after_refusal(known, binding, now, draw));
                } else {
                    self.release = Release::Again;
                }
            }
        }
    }
}

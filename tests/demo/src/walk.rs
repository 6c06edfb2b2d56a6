//! The steps, in the order in which they are told. Each shows something and checks that what it shows is so.

mod account;
mod applied;
mod binding;
mod pull;
mod refused;
mod rotation;
mod secret;
mod started;
mod trace;

use anyhow::Context as _;
use azure_simulator::{LogEntry, Service};
use e2e::{PullSecret, Stack};
use k8s_openapi::api::core::v1::Secret;
use kube::Api;

use crate::folder::Folder;
use crate::scene::{BINDING, NAMESPACE, Scene};
use crate::screen::Screen;

/// Everything that a step needs.
pub(crate) struct Walk<'a> {
    /// What runs.
    pub(crate) stack: &'a Stack,
    /// What exists.
    pub(crate) scene: &'a Scene,
    /// Where manifests go.
    pub(crate) folder: &'a Folder,
    /// Where it is shown.
    pub(crate) screen: &'a mut Screen,
}

impl Walk<'_> {
    /// All steps.
    ///
    /// # Errors
    /// Something that has to be shown is not there.
    pub(crate) async fn all(mut self) -> anyhow::Result<()> {
        started::show(&mut self).await?;
        applied::show(&mut self).await?;
        binding::show(&mut self).await?;
        secret::show(&mut self).await?;
        account::show(&mut self).await?;
        rotation::show(&mut self).await?;
        trace::show(&mut self).await?;
        refused::show(&mut self).await?;
        pull::show(&mut self).await
    }

    /// Runs kubectl, and shows the command and what it prints.
    async fn kubectl(&self, arguments: &str) -> anyhow::Result<String> {
        self.screen.command(&format!("kubectl {arguments}"));
        let output = self.kubectl_quietly(arguments).await?;
        self.screen.output(&output);
        Ok(output)
    }

    /// Runs kubectl.
    async fn kubectl_quietly(&self, arguments: &str) -> anyhow::Result<String> {
        let arguments: Vec<&str> = arguments.split_whitespace().collect();
        self.stack.plane().kubectl(&arguments).await
    }

    /// Writes a manifest, shows it, and applies it.
    async fn apply(&self, file: &str, manifest: &str) -> anyhow::Result<String> {
        let path = self.folder.write(file, manifest)?;
        self.screen.command(&format!("cat {}", self.folder.shown(file)));
        self.screen.output(manifest);
        let flags = ["apply", "--server-side", "-f"];
        self.screen.command(&format!(
            "kubectl {} {}",
            flags.join(" "),
            self.folder.shown(file)
        ));
        // Not as one string: a folder may have a space in its name.
        let path = path.to_str().context("the folder's name is not UTF-8")?;
        let output = self
            .stack
            .plane()
            .kubectl(&[flags.as_slice(), &[path]].concat())
            .await?;
        self.screen.output(&output);
        Ok(output)
    }

    /// The pull Secret of the binding.
    async fn pull_secret(&self) -> anyhow::Result<PullSecret> {
        let api: Api<Secret> = Api::namespaced(self.stack.client()?, NAMESPACE);
        let name = format!("acr-pull-{BINDING}");
        let secret = api.get_opt(&name).await?;
        PullSecret::read(
            secret.with_context(|| format!("Secret {name} does not exist: somebody deleted it"))?,
        )
    }

    /// The number of the last call to Azure.
    async fn last_call(&self) -> anyhow::Result<u64> {
        let calls = self.stack.azure().admin().log(0).await?;
        Ok(calls.last().map_or(0, |call| call.seq))
    }

    /// Calls for credentials since a call; pulls go through the simulator as well and are left out.
    async fn credential_calls_since(&self, seq: u64) -> anyhow::Result<Vec<LogEntry>> {
        let mut calls = self.stack.azure().admin().log(seq).await?;
        calls.retain(|call| {
            call.service != Service::Proxy && call.method == "POST" || call.service == Service::Imds
        });
        Ok(calls)
    }
}

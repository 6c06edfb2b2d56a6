//! What exists before the first step: identities, a grant and a registry in Azure, two images; and the manifests that
//! the steps apply.

use anyhow::Context as _;
use azure_simulator::{Registry, Role, State};
use e2e::{Application, CLUSTER, SimulatorKind, Stack, StackOptions, TENANT, VmIdentity};
use serde_json::json;

/// The registry.
pub(crate) const REGISTRY: &str = "demo.azurecr.io";
/// The application team's namespace.
pub(crate) const NAMESPACE: &str = "web";
/// Its binding, which has the name of the ServiceAccount.
pub(crate) const BINDING: &str = "web";
/// The repository that the binding is about.
pub(crate) const REPOSITORY: &str = "team/web";
/// What the binding asks for.
pub(crate) const SCOPE: &str = "repository:team/web:pull";
/// A repository of the same registry that it is not about.
pub(crate) const OTHER_REPOSITORY: &str = "team/other";
/// The tag of both images.
pub(crate) const TAG: &str = "v1";
/// The binding that is refused, and its ServiceAccount.
pub(crate) const REFUSED_BINDING: &str = "batch";
/// The one namespace that the broker's own identity is granted to.
pub(crate) const GRANTED_NAMESPACE: &str = "data";
/// The identity that the broker owns.
pub(crate) const OWNED_IDENTITY: &str = "team-data";

/// Life of the registry's access tokens. Azure's live an hour; these are due after 45 to 60 s, so that a person sees
/// one replaced. Below 60 s the broker would hand none out.
const ACCESS_TTL_S: u64 = 90;

/// Names the identity of a ServiceAccount (Azure Workload Identity).
const CLIENT_ID_ANNOTATION: &str = "azure.workload.identity/client-id";

/// What was set up, and its ids.
pub(crate) struct Scene {
    /// The application that trusts the ServiceAccount.
    pub(crate) application: Application,
}

/// The identity of the broker's machine that step 8 asks for in vain.
pub(crate) fn owned_identity() -> VmIdentity {
    VmIdentity::numbered(OWNED_IDENTITY, 1)
}

/// Everything that has to be known before the start.
pub(crate) fn options() -> StackOptions {
    let mut registry = Registry::new(REGISTRY, TENANT).with_role(&owned_identity().object_id, Role::AcrPull);
    registry.access_ttl_s = ACCESS_TTL_S;
    StackOptions {
        name: "demo".to_owned(),
        simulator: SimulatorKind::Process,
        azure: State::default().with_registry(registry),
        identities: vec![owned_identity()],
        grants: vec![json!({
            "name": GRANTED_NAMESPACE,
            "clusters": [CLUSTER],
            "namespaces": [GRANTED_NAMESPACE],
            "serviceAccounts": ["*"],
            "identity": OWNED_IDENTITY,
            "registries": [REGISTRY],
            "repositories": ["team/*"],
        })],
        ..StackOptions::default()
    }
}

impl Scene {
    /// Makes the application, which trusts the ServiceAccount and may pull, and pushes the images.
    ///
    /// # Errors
    /// The simulator refuses, or the registry does not start.
    pub(crate) async fn set(stack: &Stack) -> anyhow::Result<Self> {
        let azure = stack.azure();
        let issuer = stack.plane().issuer();
        let application = azure.add_application(issuer, NAMESPACE, BINDING).await?;
        azure.grant_pull(REGISTRY, &application.object_id).await?;
        for repository in [REPOSITORY, OTHER_REPOSITORY] {
            let pushed = stack.images().push(azure, REGISTRY, repository, TAG).await;
            pushed.with_context(|| format!("failed to push {repository}:{TAG}"))?;
        }
        Ok(Self { application })
    }

    /// The application team's manifest: namespace, ServiceAccount, binding.
    pub(crate) fn manifest(&self) -> String {
        format!(
            "\
apiVersion: v1
kind: Namespace
metadata:
  name: {NAMESPACE}
---
apiVersion: v1
kind: ServiceAccount
metadata:
  name: {BINDING}
  namespace: {NAMESPACE}
  annotations:
    {CLIENT_ID_ANNOTATION}: {}
---
apiVersion: acrpull.microsoft.com/v1beta2
kind: AcrPullBinding
metadata:
  name: {BINDING}
  namespace: {NAMESPACE}
spec:
  acr:
    environment: PublicCloud
    server: {REGISTRY}
    scope: {SCOPE}
  auth:
    workloadIdentity:
      serviceAccountRef: {BINDING}
  serviceAccountName: {BINDING}
",
            self.application.client_id
        )
    }
}

/// A manifest of the same team that asks for an identity which it was not granted.
pub(crate) fn refused_manifest() -> String {
    let VmIdentity { client_id, .. } = owned_identity();
    format!(
        "\
apiVersion: v1
kind: ServiceAccount
metadata:
  name: {REFUSED_BINDING}
  namespace: {NAMESPACE}
---
apiVersion: acrpull.microsoft.com/v1beta2
kind: AcrPullBinding
metadata:
  name: {REFUSED_BINDING}
  namespace: {NAMESPACE}
spec:
  acr:
    environment: PublicCloud
    server: {REGISTRY}
    scope: {SCOPE}
  auth:
    managedIdentity:
      clientID: {client_id}
  serviceAccountName: {REFUSED_BINDING}
"
    )
}

//! A namespace of a test's own, deleted when the test is through with it.

use anyhow::{Context as _, anyhow};
use k8s_openapi::api::core::v1::{Namespace as NamespaceObject, ServiceAccount};
use kube::api::{DeleteParams, ObjectMeta, PostParams};
use kube::config::Kubeconfig;
use kube::{Api, Client};
use std::time::Duration;

use crate::plane::ControlPlane;

/// How long the controllers may take to give a namespace its default `ServiceAccount`.
const POPULATED_TIMEOUT: Duration = Duration::from_secs(30);

/// How often it is looked for.
const POPULATED_INTERVAL: Duration = Duration::from_millis(50);

/// How long a drop waits for the API server.
const DELETE_TIMEOUT: Duration = Duration::from_secs(5);

/// A namespace with a fresh name. Dropping it starts its deletion.
#[derive(Debug)]
pub struct Namespace {
    name: String,
    admin: Kubeconfig,
}

impl ControlPlane {
    /// Creates a namespace whose name begins with `prefix` and is otherwise new, and waits until pods could
    /// be created.
    ///
    /// # Errors
    /// The prefix is no beginning of a name, or the controllers do not populate the namespace in time.
    pub async fn namespace(&self, prefix: &str) -> anyhow::Result<Namespace> {
        let client = self.client()?;
        let object = NamespaceObject {
            metadata: ObjectMeta {
                generate_name: Some(format!("{prefix}-")),
                ..ObjectMeta::default()
            },
            ..NamespaceObject::default()
        };
        let namespaces: Api<NamespaceObject> = Api::all(client.clone());
        let created = namespaces
            .create(&PostParams::default(), &object)
            .await
            .with_context(|| format!("failed to create a namespace {prefix}-*"))?;
        let name = created
            .metadata
            .name
            .context("the API server created a namespace without a name")?;
        let namespace = Namespace {
            name,
            admin: self.admin().clone(),
        };
        let accounts: Api<ServiceAccount> = Api::namespaced(client, &namespace.name);
        let populated = async {
            while !matches!(accounts.get_opt("default").await, Ok(Some(_))) {
                tokio::time::sleep(POPULATED_INTERVAL).await;
            }
        };
        tokio::time::timeout(POPULATED_TIMEOUT, populated)
            .await
            .with_context(|| format!("namespace {} got no default ServiceAccount", namespace.name))?;
        Ok(namespace)
    }
}

impl Namespace {
    /// Its name.
    pub fn name(&self) -> &str {
        &self.name
    }
}

impl Drop for Namespace {
    fn drop(&mut self) {
        let (name, admin) = (self.name.clone(), self.admin.clone());
        // A drop cannot await, and the runtime around it may be ending: a thread and a runtime for this one
        // call. It fails when the plane is gone already, and then the namespace is gone as well.
        drop(std::thread::spawn(move || delete(&name, admin)).join());
    }
}

fn delete(name: &str, admin: Kubeconfig) -> anyhow::Result<()> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    runtime.block_on(async {
        let namespaces: Api<NamespaceObject> = Api::all(Client::try_from(admin)?);
        tokio::time::timeout(DELETE_TIMEOUT, namespaces.delete(name, &DeleteParams::default()))
            .await
            .map_err(|_elapsed| anyhow!("the API server did not answer"))??;
        Ok(())
    })
}

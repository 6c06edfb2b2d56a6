//! From a Deployment to a program that can be run: everything that a kubelet does before it starts a container.

use std::collections::BTreeMap;
use std::time::Duration;

use anyhow::Context as _;
use controlplane::{Program, free_ports};
use k8s_openapi::api::apps::v1::Deployment;
use k8s_openapi::api::core::v1::{Pod, ServiceAccount};
use kube::{Api, Client};

use super::template::{Places, Template, mounted};
use super::volumes::{Mounted, Owner};
use super::{Node, environment};
use crate::Clock;

/// A Pod that can be started.
pub(super) struct Prepared {
    pub(super) program: Program,
    pub(super) places: Places,
    /// Container ports by name.
    pub(super) ports: BTreeMap<String, u16>,
    /// Path and container port of the readiness probe.
    pub(super) readiness: Option<(String, u16)>,
    pub(super) grace: Duration,
    /// Filled.
    pub(super) volumes: Vec<Mounted>,
    pub(super) service_account: String,
}

impl Prepared {
    /// Prepares a Pod of a Deployment, with some arguments replaced.
    pub(super) async fn of(
        node: &Node,
        namespace: &str,
        deployment: &str,
        name: &str,
        arguments: &[String],
    ) -> anyhow::Result<Self> {
        let client = node.plane.client()?;
        let mut template = Template::read(pod_object(&client, namespace, deployment, name).await?)?;
        template.replace_arguments(arguments);
        let directory = node.plane.directory().join("pods").join(namespace).join(name);
        let owner = Owner {
            node,
            client: &client,
            namespace,
            service_account: &template.service_account,
        };
        let mut volumes = Vec::new();
        for volume in template.volumes.clone() {
            volumes.push(Mounted::create(volume, &directory)?);
        }
        let places = places(&template, &volumes)?;
        let mut program = program(&owner, &template, &places).await?;
        if wants_token(&owner, template.automount_token).await? {
            let volume = Mounted::api_server_token(&directory)?;
            let token = volume.path().join("token");
            let kubeconfig = match node.machine.api_server {
                Some(address) => node.plane.kubeconfig_by_way_of(address, &token)?,
                None => node.plane.kubeconfig_for_token_file(&token)?,
            };
            program = program.env("KUBECONFIG", kubeconfig);
            volumes.push(volume);
        }
        for volume in &mut volumes {
            volume.sync(&owner).await?;
        }
        let Template {
            ports,
            readiness,
            grace,
            service_account,
            ..
        } = template;
        Ok(Self {
            program,
            places,
            ports,
            readiness,
            grace,
            volumes,
            service_account,
        })
    }
}

/// Where the container's paths and ports are here.
fn places(template: &Template, volumes: &[Mounted]) -> anyhow::Result<Places> {
    let mut places = Places::default();
    for mount in &template.mounts {
        let volume = volumes.iter().find(|volume| volume.name == mount.name);
        let volume = volume.with_context(|| format!("mount {} refers to no volume", mount.name))?;
        places
            .mounts
            .push((mount.mount_path.clone(), mounted(mount, volume.path())?));
    }
    for port in template.listening_ports()? {
        let [local] = free_ports()?;
        places.ports.insert(port, local);
    }
    Ok(places)
}

async fn program(owner: &Owner<'_>, template: &Template, places: &Places) -> anyhow::Result<Program> {
    let mut program = Program::new(owner.node.binaries.path(&template.command)?).clear_env();
    for argument in &template.arguments {
        program = program.arg(places.argument(argument)?);
    }
    let object = serde_json::to_value(&template.pod)?;
    let environment = environment::resolve(
        owner.client,
        owner.namespace,
        &template.environment,
        &object,
        places,
    )
    .await?;
    let program = environment
        .into_iter()
        .fold(program, |program, (name, value)| program.env(name, value));
    let clock = owner.node.machine.clock.iter();
    Ok(clock
        .flat_map(Clock::environment)
        .fold(program, |program, (name, value)| program.env(name, value)))
}

/// The Pod that the Deployment's controller would create.
async fn pod_object(client: &Client, namespace: &str, deployment: &str, name: &str) -> anyhow::Result<Pod> {
    let deployment = Api::<Deployment>::namespaced(client.clone(), namespace)
        .get(deployment)
        .await?;
    let template = deployment.spec.context("the Deployment has no spec")?.template;
    let mut metadata = template.metadata.unwrap_or_default();
    metadata.name = Some(name.to_owned());
    metadata.namespace = Some(namespace.to_owned());
    Ok(Pod {
        metadata,
        spec: template.spec,
        ..Pod::default()
    })
}

/// Whether the container gets a token for the API server: the Pod decides, else its `ServiceAccount`, else yes.
async fn wants_token(owner: &Owner<'_>, of_pod: Option<bool>) -> anyhow::Result<bool> {
    let api = Api::<ServiceAccount>::namespaced(owner.client.clone(), owner.namespace);
    let account = api
        .get(owner.service_account)
        .await
        .context("the Pod's ServiceAccount")?;
    Ok(of_pod.or(account.automount_service_account_token).unwrap_or(true))
}

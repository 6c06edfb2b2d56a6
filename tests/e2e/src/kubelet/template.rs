//! What a pod template asks for, checked and reduced to what is run. Pure.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context as _, bail, ensure};
use k8s_openapi::api::core::v1::{Container, EnvVar, Pod, PodSpec, Volume, VolumeMount};
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;

/// What listens on all addresses in a container listens on a free loopback port here.
const ANY_ADDRESS: &str = "0.0.0.0:";

/// Kubernetes' own default.
const DEFAULT_GRACE_S: i64 = 30;

/// What is to be run.
#[derive(Debug)]
pub(super) struct Template {
    /// The Pod as an object, for `fieldRef`.
    pub(super) pod: Pod,
    pub(super) service_account: String,
    /// Unless the template says: the ServiceAccount does.
    pub(super) automount_token: Option<bool>,
    pub(super) grace: Duration,
    pub(super) volumes: Vec<Volume>,
    pub(super) mounts: Vec<VolumeMount>,
    pub(super) environment: Vec<EnvVar>,
    /// The first word is the program.
    pub(super) command: String,
    pub(super) arguments: Vec<String>,
    /// Container ports by name.
    pub(super) ports: BTreeMap<String, u16>,
    /// Path and container port of the readiness probe.
    pub(super) readiness: Option<(String, u16)>,
}

/// Where things of the container are on this machine.
#[derive(Debug, Default)]
pub(super) struct Places {
    /// Mount paths and their folders.
    pub(super) mounts: Vec<(String, PathBuf)>,
    /// Container ports and their stand-ins.
    pub(super) ports: BTreeMap<u16, u16>,
}

impl Template {
    pub(super) fn read(pod: Pod) -> anyhow::Result<Self> {
        let spec = pod.spec.clone().context("the pod template has no spec")?;
        let PodSpec {
            containers,
            init_containers,
            volumes,
            service_account_name,
            automount_service_account_token,
            termination_grace_period_seconds,
            ..
        } = spec;
        ensure!(
            init_containers.unwrap_or_default().is_empty(),
            "init containers are not supported"
        );
        let [container] = <[Container; 1]>::try_from(containers)
            .map_err(|containers| anyhow::anyhow!("one container is supported, not {}", containers.len()))?;
        ensure!(
            container.env_from.unwrap_or_default().is_empty(),
            "envFrom is not supported"
        );
        let mut words = container.command.unwrap_or_default().into_iter();
        let command = words.next().context("the container has no command")?;
        let arguments = words.chain(container.args.unwrap_or_default()).collect();
        let mut ports = BTreeMap::new();
        for port in container.ports.unwrap_or_default() {
            let number = u16::try_from(port.container_port).context("a container port is no port")?;
            ports.insert(port.name.context("a container port has no name")?, number);
        }
        let probe = container.readiness_probe.and_then(|probe| probe.http_get);
        let readiness = probe
            .map(|probe| {
                let port = match probe.port {
                    IntOrString::Int(number) => u16::try_from(number).ok(),
                    IntOrString::String(name) => ports.get(&name).copied(),
                };
                Ok::<_, anyhow::Error>((
                    probe.path.unwrap_or_default(),
                    port.context("the readiness probe's port is none of the container's")?,
                ))
            })
            .transpose()?;
        let grace =
            u64::try_from(termination_grace_period_seconds.unwrap_or(DEFAULT_GRACE_S)).unwrap_or_default();
        Ok(Self {
            pod,
            service_account: service_account_name.unwrap_or_else(|| "default".to_owned()),
            automount_token: automount_service_account_token,
            grace: Duration::from_secs(grace),
            volumes: volumes.unwrap_or_default(),
            mounts: container.volume_mounts.unwrap_or_default(),
            environment: container.env.unwrap_or_default(),
            command,
            arguments,
            ports,
            readiness,
        })
    }

    /// Puts arguments in the place of those with the same flag, or behind all others.
    pub(super) fn replace_arguments(&mut self, arguments: &[String]) {
        for argument in arguments {
            let (flag, _value) = value_of(argument);
            let same = |own: &&mut String| !flag.is_empty() && value_of(own).0 == flag;
            match self.arguments.iter_mut().find(same) {
                Some(own) => own.clone_from(argument),
                None => self.arguments.push(argument.clone()),
            }
        }
    }

    /// The ports that an argument listens on.
    pub(super) fn listening_ports(&self) -> anyhow::Result<Vec<u16>> {
        let listening = self
            .arguments
            .iter()
            .filter_map(|argument| value_of(argument).1.strip_prefix(ANY_ADDRESS));
        listening
            .map(|port| {
                port.parse()
                    .with_context(|| format!("{ANY_ADDRESS}{port} is no address"))
            })
            .collect()
    }
}

impl Places {
    /// An argument as the process gets it.
    pub(super) fn argument(&self, argument: &str) -> anyhow::Result<String> {
        let (flag, value) = value_of(argument);
        if let Some(port) = value.strip_prefix(ANY_ADDRESS) {
            let local = port.parse().ok().and_then(|port: u16| self.ports.get(&port));
            let local = local.with_context(|| format!("no port stands in for that of {argument}"))?;
            return Ok(format!("{flag}127.0.0.1:{local}"));
        }
        Ok(format!("{flag}{}", self.value(value)))
    }

    /// A value, with the mount path that it may begin with replaced.
    pub(super) fn value(&self, value: &str) -> String {
        match self.file(value) {
            Some(path) => path.display().to_string(),
            None => value.to_owned(),
        }
    }

    /// Where a path of the container is.
    pub(super) fn file(&self, path: &str) -> Option<PathBuf> {
        self.mounts.iter().find_map(|(mount, folder)| {
            let rest = Path::new(path).strip_prefix(mount).ok()?;
            Some(if rest.as_os_str().is_empty() {
                folder.clone()
            } else {
                folder.join(rest)
            })
        })
    }
}

/// Splits `--flag=value`; anything else is all value.
fn value_of(argument: &str) -> (&str, &str) {
    match argument.find('=') {
        Some(at) if argument.starts_with("--") => argument.split_at(at + 1),
        _ => ("", argument),
    }
}

/// A mount is the volume's folder, or something in it.
pub(super) fn mounted(mount: &VolumeMount, volume: &Path) -> anyhow::Result<PathBuf> {
    if mount.sub_path_expr.is_some() {
        bail!("subPathExpr is not supported");
    }
    Ok(mount
        .sub_path
        .as_ref()
        .map_or_else(|| volume.to_owned(), |path| volume.join(path)))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn places() -> Places {
        Places {
            mounts: vec![("/etc/broker".to_owned(), PathBuf::from("/tmp/x/config"))],
            ports: BTreeMap::from([(8443, 40_001)]),
        }
    }

    #[test]
    fn argument_with_a_mount_path_or_an_address_is_mapped() {
        for (argument, expected) in [
            ("run", "run"),
            (
                "--config=/etc/broker/config.yaml",
                "--config=/tmp/x/config/config.yaml",
            ),
            ("/etc/broker", "/tmp/x/config"),
            (
                "--listen-address=0.0.0.0:8443",
                "--listen-address=127.0.0.1:40001",
            ),
            (
                "--other=/etc/broker2/config.yaml",
                "--other=/etc/broker2/config.yaml",
            ),
            (
                "--broker-address=https://localhost:1",
                "--broker-address=https://localhost:1",
            ),
        ] {
            assert_eq!(places().argument(argument).unwrap(), expected);
        }
        assert!(places().argument("--admin-address=0.0.0.0:1").is_err());
    }

    #[test]
    fn argument_takes_the_place_of_the_one_with_its_flag() {
        let pod = serde_json::json!({"spec": {"containers": [
            {"name": "a", "command": ["a"], "args": ["run", "--workers=16", "--log-level=info"]},
        ]}});
        let mut template = Template::read(serde_json::from_value(pod).unwrap()).unwrap();
        template.replace_arguments(&["--workers=1", "--label-selector=a=b"].map(str::to_owned));
        assert_eq!(
            template.arguments,
            ["run", "--workers=1", "--log-level=info", "--label-selector=a=b"]
        );
    }

    #[test]
    fn template_that_cannot_be_run_is_refused() {
        let pod =
            |spec: serde_json::Value| serde_json::from_value(serde_json::json!({ "spec": spec })).unwrap();
        let one = serde_json::json!({"name": "a", "command": ["a"]});
        assert!(Template::read(pod(serde_json::json!({"containers": [one]}))).is_ok());
        for spec in [
            serde_json::json!({"containers": [one, one]}),
            serde_json::json!({"containers": [one], "initContainers": [one]}),
            serde_json::json!({"containers": [{"name": "a"}]}),
        ] {
            assert!(Template::read(pod(spec)).is_err());
        }
    }
}

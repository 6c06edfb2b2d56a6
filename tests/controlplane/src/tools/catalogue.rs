//! The seven tools: where their source is, how they are stamped, how they tell their version, what version
//! fits.
//!
//! The pinned versions are those of the `go.mod` files beside this crate and stand nowhere else.

use std::time::Duration;

use super::version::Version;

/// The oldest Kubernetes minor whose API has what the product's charts use
/// (`ValidatingAdmissionPolicy` is `admissionregistration.k8s.io/v1` since 1.30).
pub(super) const OLDEST_KUBERNETES_MINOR: u64 = 30;

/// A program that the control plane, its tests or the demo run.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Tool {
    /// The key-value store below the API server.
    Etcd,
    /// The API server.
    KubeApiserver,
    /// The controllers: garbage collection, namespaces, `ServiceAccount`s.
    KubeControllerManager,
    /// The command line client.
    Kubectl,
    /// The package manager of the charts.
    Helm,
    /// The image client.
    Crane,
    /// The CNCF distribution registry.
    Registry,
}

/// A Go module of this crate, in which tools are pinned together.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Module {
    /// The folder under `go/`.
    pub(super) folder: &'static str,
    go_mod: &'static str,
    go_sum: &'static str,
}

const ETCD: Module = Module {
    folder: "etcd",
    go_mod: include_str!("../../go/etcd/go.mod"),
    go_sum: include_str!("../../go/etcd/go.sum"),
};

const KUBERNETES: Module = Module {
    folder: "kubernetes",
    go_mod: include_str!("../../go/kubernetes/go.mod"),
    go_sum: include_str!("../../go/kubernetes/go.sum"),
};

const TOOLS: Module = Module {
    folder: "tools",
    go_mod: include_str!("../../go/tools/go.mod"),
    go_sum: include_str!("../../go/tools/go.sum"),
};

impl Tool {
    /// All of them, in the order in which they are built.
    pub const ALL: [Self; 7] = [
        Self::Etcd,
        Self::KubeApiserver,
        Self::KubeControllerManager,
        Self::Kubectl,
        Self::Crane,
        Self::Registry,
        Self::Helm,
    ];

    /// Those that must be of one Kubernetes minor.
    pub(super) const KUBERNETES: [Self; 3] =
        [Self::KubeApiserver, Self::KubeControllerManager, Self::Kubectl];

    /// The name of its binary.
    pub fn name(self) -> &'static str {
        match self {
            Self::Etcd => "etcd",
            Self::KubeApiserver => "kube-apiserver",
            Self::KubeControllerManager => "kube-controller-manager",
            Self::Kubectl => "kubectl",
            Self::Helm => "helm",
            Self::Crane => "crane",
            Self::Registry => "registry",
        }
    }

    /// The Go package of its command.
    pub(super) fn package(self) -> &'static str {
        match self {
            Self::Etcd => "go.etcd.io/etcd/server/v3",
            Self::KubeApiserver => "k8s.io/kubernetes/cmd/kube-apiserver",
            Self::KubeControllerManager => "k8s.io/kubernetes/cmd/kube-controller-manager",
            Self::Kubectl => "k8s.io/kubernetes/cmd/kubectl",
            Self::Helm => "helm.sh/helm/v3/cmd/helm",
            Self::Crane => "github.com/google/go-containerregistry/cmd/crane",
            Self::Registry => "github.com/distribution/distribution/v3/cmd/registry",
        }
    }

    pub(super) fn module(self) -> Module {
        match self {
            Self::Etcd => ETCD,
            Self::KubeApiserver | Self::KubeControllerManager | Self::Kubectl => KUBERNETES,
            Self::Helm | Self::Crane | Self::Registry => TOOLS,
        }
    }

    /// The version that its `go.mod` pins. `None` would be a `go.mod` that does not require the tool.
    pub(super) fn pinned(self) -> Option<Version> {
        let belongs = |path: &str| {
            self.package()
                .strip_prefix(path)
                .is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
        };
        self.module()
            .required()
            .find(|(path, _)| belongs(path))
            .map(|(_, version)| version)
    }

    /// The linker flags: without stamps Kubernetes and helm report versions that charts and skew checks refuse.
    pub(super) fn linker_flags(self, version: Version) -> String {
        let mut flags = "-s -w".to_owned();
        let mut stamp = |variable: &str, value: &dyn std::fmt::Display| {
            flags.push_str(" -X ");
            flags.push_str(variable);
            flags.push('=');
            flags.push_str(&value.to_string());
        };
        let tag = format!("v{version}");
        match self {
            Self::KubeApiserver | Self::KubeControllerManager | Self::Kubectl => {
                stamp("k8s.io/component-base/version.gitVersion", &tag);
                stamp("k8s.io/component-base/version.gitMajor", &version.major);
                stamp("k8s.io/component-base/version.gitMinor", &version.minor);
            }
            Self::Helm => {
                stamp("helm.sh/helm/v3/internal/version.version", &tag);
                // What `template` and `lint`, which ask no cluster, check a chart's kubeVersion against.
                if let Some(kubernetes) = Self::KubeApiserver.pinned() {
                    for package in ["helm.sh/helm/v3/pkg/chartutil", "helm.sh/helm/v3/pkg/lint/rules"] {
                        stamp(&format!("{package}.k8sVersionMajor"), &kubernetes.major);
                        stamp(&format!("{package}.k8sVersionMinor"), &kubernetes.minor);
                    }
                }
            }
            Self::Registry => stamp("github.com/distribution/distribution/v3/version.version", &tag),
            Self::Etcd | Self::Crane => {}
        }
        flags
    }

    /// How long it took to build from an empty build cache on two cores; only announced, never relied upon.
    pub(super) fn cold_build_time(self) -> Duration {
        Duration::from_secs(match self {
            Self::Etcd => 61,
            Self::KubeApiserver => 361,
            Self::KubeControllerManager => 82,
            Self::Kubectl => 36,
            Self::Crane => 20,
            Self::Registry | Self::Helm => 94,
        })
    }

    /// The arguments that make it print its version.
    pub(super) fn version_arguments(self) -> &'static [&'static str] {
        match self {
            Self::Etcd | Self::KubeApiserver | Self::KubeControllerManager | Self::Registry => &["--version"],
            Self::Kubectl => &["version", "--client"],
            Self::Helm => &["version", "--short"],
            Self::Crane => &["version"],
        }
    }

    /// Whether a binary found elsewhere can stand in for the pinned one. Kubernetes' own are chosen as a set
    /// instead.
    pub(super) fn fits(self, found: Version) -> bool {
        match self {
            Self::KubeApiserver | Self::KubeControllerManager | Self::Kubectl => {
                found.major == 1 && found.minor >= OLDEST_KUBERNETES_MINOR
            }
            // 3.5 and 3.6 are what these Kubernetes minors are released with.
            Self::Etcd => found.major == 3 && found.minor >= 5,
            // helm 4 has other flags; `jwks` in the registry's token authentication is new in 3.0; crane has
            // no 1.0.
            Self::Helm | Self::Registry | Self::Crane => self.pinned().is_some_and(|pinned| {
                found.major == pinned.major && (self != Self::Crane || found.minor >= pinned.minor)
            }),
        }
    }
}

impl Module {
    /// Everything that decides what a build yields.
    pub(super) fn content(self) -> [&'static str; 2] {
        [self.go_mod, self.go_sum]
    }

    /// The modules that `go.mod` requires, with their versions.
    fn required(self) -> impl Iterator<Item = (&'static str, Version)> {
        self.go_mod
            .lines()
            .filter(|line| !line.ends_with("// indirect"))
            .filter_map(|line| {
                let line = line.trim().trim_start_matches("require ");
                let (path, version) = line.split_once(' ')?;
                Some((path, Version::find(version)?))
            })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pinned_every_tool_has_a_version_that_fits_itself() {
        for tool in Tool::ALL {
            let pinned = tool
                .pinned()
                .unwrap_or_else(|| panic!("{} is not in its go.mod", tool.name()));
            assert!(tool.fits(pinned), "{} {pinned}", tool.name());
        }
    }

    #[test]
    fn pinned_kubernetes_is_read_from_require_and_not_from_replace() {
        let pinned = Tool::Kubectl.pinned().unwrap();
        assert_eq!((pinned.major, Tool::KubeApiserver.pinned()), (1, Some(pinned)));
    }

    #[test]
    fn fits_foreign_major_is_refused() {
        let version = |text| Version::find(text).unwrap();
        assert!(!Tool::Helm.fits(version("v4.0.1")));
        assert!(!Tool::Registry.fits(version("v2.8.3")));
        assert!(!Tool::Etcd.fits(version("2.3.8")));
        assert!(!Tool::KubeApiserver.fits(version("v1.29.9")));
        assert!(Tool::Helm.fits(version("v3.12.0")));
    }

    #[test]
    fn linker_flags_stamp_the_minor() {
        let flags = Tool::KubeApiserver.linker_flags(Version {
            major: 1,
            minor: 36,
            patch: 3,
        });
        assert!(flags.starts_with("-s -w -X "), "{flags}");
        assert!(
            flags.contains("gitVersion=v1.36.3 ") && flags.ends_with("gitMinor=36"),
            "{flags}"
        );
    }
}

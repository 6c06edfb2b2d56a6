//! Which binary is taken for each tool: pure, from what was found where.
//!
//! Places in order: `KUBEBUILDER_ASSETS`, the cache, `PATH`, a build. Kubernetes' three are chosen as a set
//! of one minor, because a controller manager must not be newer than its API server and the assets of envtest
//! have none at all.

use std::path::{Path, PathBuf};

use super::catalogue::Tool;
use super::version::Version;

/// Where a binary comes from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Source {
    /// The folder that `KUBEBUILDER_ASSETS` names.
    Assets,
    /// The user's cache folder, from an earlier build.
    Cache,
    /// `PATH`.
    Path,
    /// The cache folder, built just now.
    Built,
}

/// A binary that was found, with what it says it is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Candidate {
    pub(super) tool: Tool,
    pub(super) source: Source,
    pub(super) path: PathBuf,
    pub(super) version: Version,
}

/// What is to be used for one tool.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Choice {
    Use(Candidate),
    Build(Tool),
}

/// Chooses a binary for every tool, in the order of [`Tool::ALL`]. `found` is in the order of places.
pub(super) fn choose(found: &[Candidate], pinned_minor: u64) -> Vec<Choice> {
    let minor = kubernetes_minor(found, pinned_minor);
    Tool::ALL
        .into_iter()
        .map(|tool| {
            let fits = |candidate: &&Candidate| {
                candidate.tool == tool
                    && tool.fits(candidate.version)
                    && (!Tool::KUBERNETES.contains(&tool) || candidate.version.minor == minor)
            };
            found
                .iter()
                .find(fits)
                .cloned()
                .map_or(Choice::Build(tool), Choice::Use)
        })
        .collect()
}

/// The candidates from `KUBEBUILDER_ASSETS` that were not taken, for a note: the user put them there to be
/// used.
pub(super) fn passed_over<'a>(found: &'a [Candidate], choices: &[Choice]) -> Vec<&'a Candidate> {
    let taken = |path: &Path| {
        choices
            .iter()
            .any(|choice| matches!(choice, Choice::Use(candidate) if candidate.path == path))
    };
    found
        .iter()
        .filter(|candidate| candidate.source == Source::Assets && !taken(&candidate.path))
        .collect()
}

/// The minor of the set: the first that is complete without a build, in the order assets, pinned, `PATH`;
/// otherwise the pinned one, which a build completes.
fn kubernetes_minor(found: &[Candidate], pinned_minor: u64) -> u64 {
    let api_server = |source| {
        found
            .iter()
            .find(|candidate| candidate.tool == Tool::KubeApiserver && candidate.source == source)
            .filter(|candidate| candidate.tool.fits(candidate.version))
            .map(|candidate| candidate.version.minor)
    };
    let complete = |minor: &u64| {
        Tool::KUBERNETES.into_iter().all(|tool| {
            found
                .iter()
                .any(|candidate| candidate.tool == tool && candidate.version.minor == *minor)
        })
    };
    [
        api_server(Source::Assets),
        Some(pinned_minor),
        api_server(Source::Path),
    ]
    .into_iter()
    .flatten()
    .find(complete)
    .unwrap_or(pinned_minor)
}

#[cfg(test)]
mod tests {
    use super::*;

    const PINNED: u64 = 36;

    fn candidate(tool: Tool, source: Source, version: &str) -> Candidate {
        let path = PathBuf::from(format!("/{source:?}/{}", tool.name()));
        Candidate {
            tool,
            source,
            path,
            version: Version::find(version).unwrap(),
        }
    }

    fn kubernetes(source: Source, version: &str) -> Vec<Candidate> {
        Tool::KUBERNETES
            .map(|tool| candidate(tool, source, version))
            .to_vec()
    }

    /// The sources chosen for the API server, the controller manager and kubectl; `None` is a build.
    fn chosen(found: &[Candidate]) -> Vec<Option<(Source, u64)>> {
        choose(found, PINNED)
            .into_iter()
            .filter_map(|choice| match choice {
                Choice::Use(used) => Tool::KUBERNETES
                    .contains(&used.tool)
                    .then_some(Some((used.source, used.version.minor))),
                Choice::Build(tool) => Tool::KUBERNETES.contains(&tool).then_some(None),
            })
            .collect()
    }

    #[test]
    fn choose_nothing_found_builds_everything() {
        assert_eq!(choose(&[], PINNED), Tool::ALL.map(Choice::Build).to_vec());
    }

    #[test]
    fn choose_assets_of_the_pinned_minor_are_completed_from_the_cache() {
        let found = [
            candidate(Tool::KubeApiserver, Source::Assets, "1.36.0"),
            candidate(Tool::Kubectl, Source::Assets, "1.36.0"),
            candidate(Tool::KubeApiserver, Source::Cache, "1.36.3"),
            candidate(Tool::KubeControllerManager, Source::Cache, "1.36.3"),
        ];
        let assets = Some((Source::Assets, 36));
        assert_eq!(chosen(&found), [assets, Some((Source::Cache, 36)), assets]);
    }

    #[test]
    fn choose_assets_of_another_minor_without_a_controller_manager_are_passed_over_as_a_set() {
        let mut found = vec![
            candidate(Tool::KubeApiserver, Source::Assets, "1.33.0"),
            candidate(Tool::Kubectl, Source::Assets, "1.33.0"),
        ];
        assert_eq!(chosen(&found), [None, None, None]);
        found.extend(kubernetes(Source::Cache, "1.36.3"));
        assert_eq!(chosen(&found), [Some((Source::Cache, 36)); 3]);
        assert_eq!(passed_over(&found, &choose(&found, PINNED)).len(), 2);
    }

    #[test]
    fn choose_assets_of_another_minor_are_taken_when_path_completes_them() {
        let found = [
            candidate(Tool::KubeApiserver, Source::Assets, "1.33.0"),
            candidate(Tool::Kubectl, Source::Assets, "1.33.0"),
            candidate(Tool::KubeControllerManager, Source::Path, "1.33.5"),
        ];
        let assets = Some((Source::Assets, 33));
        assert_eq!(chosen(&found), [assets, Some((Source::Path, 33)), assets]);
    }

    #[test]
    fn choose_a_lone_kubectl_of_another_minor_on_path_is_not_mixed_in() {
        let found = [candidate(Tool::Kubectl, Source::Path, "1.35.1")];
        assert_eq!(chosen(&found), [None, None, None]);
    }

    #[test]
    fn choose_a_complete_set_on_path_saves_a_build_unless_it_is_too_old() {
        assert_eq!(
            chosen(&kubernetes(Source::Path, "1.35.1")),
            [Some((Source::Path, 35)); 3]
        );
        assert_eq!(chosen(&kubernetes(Source::Path, "1.28.1")), [None, None, None]);
    }

    #[test]
    fn choose_the_cache_comes_before_path() {
        let found = [
            candidate(Tool::Helm, Source::Cache, "3.22.0"),
            candidate(Tool::Helm, Source::Path, "3.30.0"),
            candidate(Tool::Crane, Source::Path, "0.1.0"),
        ];
        let choices = choose(&found, PINNED);
        assert!(choices.contains(&Choice::Use(candidate(Tool::Helm, Source::Cache, "3.22.0"))));
        assert!(choices.contains(&Choice::Build(Tool::Crane)));
    }
}

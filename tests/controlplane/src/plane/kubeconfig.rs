//! Kubeconfig files: one cluster, one user, one context. Written as JSON, which every reader of YAML reads.

use std::path::{Path, PathBuf};

use anyhow::Context as _;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use kube::config::{AuthInfo, Cluster, Context, Kubeconfig, NamedAuthInfo, NamedCluster, NamedContext};

use super::credentials::write_private;

/// The name of everything in a kubeconfig of ours.
const NAME: &str = "acrpull";

/// A cluster that is reached at `server` and proves itself by `ca_pem`.
pub(super) fn cluster(server: &str, ca_pem: &str) -> Cluster {
    Cluster {
        server: Some(server.to_owned()),
        certificate_authority_data: Some(STANDARD.encode(ca_pem)),
        ..Cluster::default()
    }
}

/// A user that proves itself by a token.
pub(super) fn token_user(token: &str) -> AuthInfo {
    AuthInfo {
        token: Some(token.to_owned().into()),
        ..AuthInfo::default()
    }
}

/// A user whose token is read again and again from a file, as in a pod.
pub(super) fn token_file_user(token_file: &Path) -> AuthInfo {
    AuthInfo {
        token_file: Some(token_file.display().to_string()),
        ..AuthInfo::default()
    }
}

/// A whole kubeconfig.
pub(super) fn kubeconfig(cluster: Cluster, user: AuthInfo) -> Kubeconfig {
    let context = Context {
        cluster: NAME.to_owned(),
        user: Some(NAME.to_owned()),
        ..Context::default()
    };
    Kubeconfig {
        api_version: Some("v1".to_owned()),
        kind: Some("Config".to_owned()),
        clusters: vec![NamedCluster {
            name: NAME.to_owned(),
            cluster: Some(cluster),
            ..NamedCluster::default()
        }],
        auth_infos: vec![NamedAuthInfo {
            name: NAME.to_owned(),
            auth_info: Some(user),
            ..NamedAuthInfo::default()
        }],
        contexts: vec![NamedContext {
            name: NAME.to_owned(),
            context: Some(context),
            ..NamedContext::default()
        }],
        current_context: Some(NAME.to_owned()),
        ..Kubeconfig::default()
    }
}

/// Writes one for this user's eyes only.
pub(super) fn write(path: &Path, kubeconfig: &Kubeconfig) -> anyhow::Result<PathBuf> {
    let text = serde_json::to_string_pretty(kubeconfig).context("failed to encode a kubeconfig")?;
    write_private(path, &text)
}

/// The cluster and the user of a kubeconfig's current context.
pub(super) fn current(kubeconfig: &Kubeconfig) -> anyhow::Result<(Cluster, AuthInfo)> {
    let name = kubeconfig
        .current_context
        .as_deref()
        .context("the kubeconfig has no current context")?;
    let context = kubeconfig
        .contexts
        .iter()
        .find(|context| context.name == name)
        .and_then(|context| context.context.as_ref())
        .with_context(|| format!("the kubeconfig's current context {name} is not in it"))?;
    let cluster = kubeconfig
        .clusters
        .iter()
        .find(|cluster| cluster.name == context.cluster)
        .and_then(|cluster| cluster.cluster.clone())
        .with_context(|| format!("the kubeconfig's cluster {} is not in it", context.cluster))?;
    let user = kubeconfig
        .auth_infos
        .iter()
        .find(|user| Some(&user.name) == context.user.as_ref())
        .and_then(|user| user.auth_info.clone())
        .unwrap_or_default();
    Ok((cluster, user))
}

/// The CA of a cluster as PEM, from the kubeconfig itself or from the file that it names.
pub(super) fn ca_pem(cluster: &Cluster) -> anyhow::Result<String> {
    let bytes = match (
        &cluster.certificate_authority_data,
        &cluster.certificate_authority,
    ) {
        (Some(data), _) => STANDARD
            .decode(data)
            .context("the kubeconfig's CA is not base64")?,
        (None, Some(path)) => {
            std::fs::read(path).with_context(|| format!("failed to read the CA file {path}"))?
        }
        (None, None) => anyhow::bail!("the kubeconfig names no CA: the product needs one to trust"),
    };
    String::from_utf8(bytes).context("the kubeconfig's CA is not PEM")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn kubeconfig_read_back_has_the_cluster_and_the_user() {
        let written = kubeconfig(cluster("https://127.0.0.1:6443", "PEM"), token_user("secret"));
        let read = Kubeconfig::from_yaml(&serde_json::to_string(&written).unwrap()).unwrap();
        let (cluster, user) = current(&read).unwrap();
        assert_eq!(cluster.server.as_deref(), Some("https://127.0.0.1:6443"));
        assert_eq!(ca_pem(&cluster).unwrap(), "PEM");
        assert!(user.token.is_some() && user.token_file.is_none());
    }

    #[test]
    fn current_context_that_is_missing_is_an_error() {
        let mut broken = kubeconfig(cluster("https://127.0.0.1:6443", "PEM"), AuthInfo::default());
        broken.current_context = Some("elsewhere".to_owned());
        let error = current(&broken).unwrap_err();
        assert_eq!(
            error.to_string(),
            "the kubeconfig's current context elsewhere is not in it"
        );
    }
}

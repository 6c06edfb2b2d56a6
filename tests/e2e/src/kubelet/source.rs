//! Where the files of a volume come from: `ConfigMap` and `Secret` objects, and tokens of the Pod's `ServiceAccount`.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Context as _, bail, ensure};
use k8s_openapi::api::core::v1::{
    ConfigMap, KeyToPath, ProjectedVolumeSource, Secret, ServiceAccountTokenProjection, Volume,
    VolumeProjection,
};
use kube::Api;
use tokio::time::Instant;

use super::swapped_folder::Files;
use super::volumes::Owner;

/// Kubernetes' own default for projected tokens, in seconds.
const DEFAULT_TOKEN_LIFETIME_S: i64 = 3600;

/// A kubelet renews a token when this share of its life has passed.
const RENEW_AFTER: f64 = 0.8;

/// Where files come from.
pub(super) enum Source {
    ConfigMap {
        name: String,
        items: Option<Vec<KeyToPath>>,
        optional: bool,
    },
    Secret {
        name: String,
        items: Option<Vec<KeyToPath>>,
        optional: bool,
    },
    Token {
        request: TokenRequest,
        held: Option<HeldToken>,
    },
}

pub(super) struct TokenRequest {
    audience: Option<String>,
    lifetime: Duration,
    path: PathBuf,
}

pub(super) struct HeldToken {
    token: String,
    renew_at: Instant,
}

impl Source {
    /// A token for the API server, as every container gets it unless it is told not to.
    pub(super) fn api_server_token() -> anyhow::Result<Self> {
        let request = TokenRequest {
            audience: None,
            lifetime: lifetime(DEFAULT_TOKEN_LIFETIME_S)?,
            path: PathBuf::from("token"),
        };
        Ok(Self::Token { request, held: None })
    }

    /// The files as they should be now.
    pub(super) async fn files(&mut self, owner: &Owner<'_>) -> anyhow::Result<Files> {
        match self {
            Self::ConfigMap {
                name,
                items,
                optional,
            } => {
                let api = Api::<ConfigMap>::namespaced(owner.client.clone(), owner.namespace);
                let Some(object) = api.get_opt(name).await? else {
                    ensure!(*optional, "ConfigMap {name} does not exist");
                    return Ok(Files::new());
                };
                let text = object
                    .data
                    .unwrap_or_default()
                    .into_iter()
                    .map(|(key, text)| (key, text.into_bytes()));
                let binary = object
                    .binary_data
                    .unwrap_or_default()
                    .into_iter()
                    .map(|(key, bytes)| (key, bytes.0));
                selected(text.chain(binary).collect(), items.as_deref(), *optional)
            }
            Self::Secret {
                name,
                items,
                optional,
            } => {
                let api = Api::<Secret>::namespaced(owner.client.clone(), owner.namespace);
                let Some(object) = api.get_opt(name).await? else {
                    ensure!(*optional, "Secret {name} does not exist");
                    return Ok(Files::new());
                };
                let data = object
                    .data
                    .unwrap_or_default()
                    .into_iter()
                    .map(|(key, bytes)| (key, bytes.0));
                selected(data.collect(), items.as_deref(), *optional)
            }
            Self::Token { request, held } => {
                let token = match held {
                    Some(held) if Instant::now() < held.renew_at => held,
                    Some(_) | None => held.insert(request.issue(owner).await?),
                };
                Ok(Files::from([(
                    request.path.clone(),
                    token.token.clone().into_bytes(),
                )]))
            }
        }
    }
}

impl TokenRequest {
    async fn issue(&self, owner: &Owner<'_>) -> anyhow::Result<HeldToken> {
        let audiences: Vec<&str> = self.audience.as_deref().into_iter().collect();
        let plane = &owner.node.plane;
        let token = plane
            .service_account_token(owner.namespace, owner.service_account, &audiences, self.lifetime)
            .await?;
        Ok(HeldToken {
            token,
            renew_at: Instant::now() + self.lifetime.mul_f64(RENEW_AFTER),
        })
    }
}

/// The sources of a volume; none for an `emptyDir`.
pub(super) fn sources(volume: Volume) -> anyhow::Result<Vec<Source>> {
    if let Some(source) = volume.config_map {
        let optional = source.optional.unwrap_or_default();
        return Ok(vec![Source::ConfigMap {
            name: source.name,
            items: source.items,
            optional,
        }]);
    }
    if let Some(source) = volume.secret {
        let name = source.secret_name.context("it names no Secret")?;
        let optional = source.optional.unwrap_or_default();
        return Ok(vec![Source::Secret {
            name,
            items: source.items,
            optional,
        }]);
    }
    if let Some(ProjectedVolumeSource { sources, .. }) = volume.projected {
        return sources.unwrap_or_default().into_iter().map(projected).collect();
    }
    if volume.empty_dir.is_some() {
        return Ok(Vec::new());
    }
    bail!("its kind is not supported")
}

fn projected(projection: VolumeProjection) -> anyhow::Result<Source> {
    if let Some(source) = projection.config_map {
        let optional = source.optional.unwrap_or_default();
        return Ok(Source::ConfigMap {
            name: source.name,
            items: source.items,
            optional,
        });
    }
    if let Some(source) = projection.secret {
        let optional = source.optional.unwrap_or_default();
        return Ok(Source::Secret {
            name: source.name,
            items: source.items,
            optional,
        });
    }
    if let Some(ServiceAccountTokenProjection {
        audience,
        expiration_seconds,
        path,
    }) = projection.service_account_token
    {
        let lifetime = lifetime(expiration_seconds.unwrap_or(DEFAULT_TOKEN_LIFETIME_S))?;
        return Ok(Source::Token {
            request: TokenRequest {
                audience,
                lifetime,
                path: path.into(),
            },
            held: None,
        });
    }
    bail!("a projected source is not supported")
}

fn lifetime(seconds: i64) -> anyhow::Result<Duration> {
    Ok(Duration::from_secs(
        u64::try_from(seconds).context("a token's life is negative")?,
    ))
}

/// All keys under their own names, or the listed ones under the names of the list.
fn selected(
    mut data: BTreeMap<String, Vec<u8>>,
    items: Option<&[KeyToPath]>,
    optional: bool,
) -> anyhow::Result<Files> {
    let Some(items) = items else {
        return Ok(data
            .into_iter()
            .map(|(key, content)| (PathBuf::from(key), content))
            .collect());
    };
    let mut files = Files::new();
    for KeyToPath { key, path, .. } in items {
        match data.remove(key) {
            Some(content) => drop(files.insert(PathBuf::from(path), content)),
            None => ensure!(optional, "key {key} does not exist"),
        }
    }
    Ok(files)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn selected_items_are_renamed_and_must_exist() {
        let data = || BTreeMap::from([("tls.crt".to_owned(), vec![1]), ("tls.key".to_owned(), vec![2])]);
        assert_eq!(selected(data(), None, false).unwrap().len(), 2);
        let item = |key: &str| {
            [KeyToPath {
                key: key.to_owned(),
                path: "a/b".to_owned(),
                mode: None,
            }]
        };
        let files = selected(data(), Some(&item("tls.key")), false).unwrap();
        assert_eq!(files, Files::from([(PathBuf::from("a/b"), vec![2])]));
        assert!(selected(data(), Some(&item("ca.crt")), false).is_err());
        assert!(selected(data(), Some(&item("ca.crt")), true).unwrap().is_empty());
    }

    #[test]
    fn volume_of_an_unsupported_kind_is_refused() {
        let volume = |source: serde_json::Value| serde_json::from_value::<Volume>(source).unwrap();
        assert!(
            sources(volume(serde_json::json!({"name": "v", "emptyDir": {}})))
                .unwrap()
                .is_empty()
        );
        assert!(
            sources(volume(
                serde_json::json!({"name": "v", "hostPath": {"path": "/"}})
            ))
            .is_err()
        );
    }
}

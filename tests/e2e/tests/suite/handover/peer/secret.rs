//! The pull Secret as the peer writes and reads it.

use anyhow::Context as _;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use e2e::{PullSecret, poll};
use jiff::{SignedDuration, Timestamp};
use k8s_openapi::api::core::v1::Secret;
use kube::ResourceExt as _;
use serde_json::{Value, json};
use syncer::binding::ApiVersion;
use syncer::inputs::base36_sha224;

use super::{Bound, PATIENCE, by_the_peer, second};

/// How long a token lives that the peer is said to have fetched.
const LIFE: SignedDuration = SignedDuration::from_mins(75);
/// So long before its end the peer renews a token of `v1beta1`.
const BUFFER: SignedDuration = SignedDuration::from_mins(30);

impl Bound<'_> {
    /// Writes the whole Secret, and drops whatever else is in it.
    pub(crate) async fn write_secret(&self, docker_config: &str) -> anyhow::Result<()> {
        let now = Timestamp::now();
        let object = self.written([now, now + LIFE], docker_config).await?;
        let secret: Secret = serde_json::from_value(object)?;
        let secrets = self.team.api::<Secret>();
        if secrets.get_opt(&self.secret_name()).await?.is_some() {
            secrets
                .replace(&self.secret_name(), &by_the_peer(), &secret)
                .await?;
        } else {
            secrets.create(&by_the_peer(), &secret).await?;
        }
        Ok(())
    }

    /// What it writes when it has fetched a token at the first of these times that expires at the second.
    async fn written(
        &self,
        [refreshed, expires]: [Timestamp; 2],
        docker_config: &str,
    ) -> anyhow::Result<Value> {
        let binding = self.bindings.get(self.name).await?;
        Ok(json!({
            "metadata": {
                "name": self.secret_name(),
                "labels": {"acr.microsoft.com/binding": self.name},
                "annotations": {
                    "acr.microsoft.com/token.expiry": second(expires),
                    "acr.microsoft.com/token.inputs": self.inputs_hash(),
                    "acr.microsoft.com/token.refresh": second(refreshed),
                },
                "ownerReferences": [{
                    "apiVersion": self.api.as_str(), "kind": "AcrPullBinding", "name": self.name,
                    "uid": binding.uid(), "controller": true, "blockOwnerDeletion": true,
                }],
            },
            "type": "kubernetes.io/dockerconfigjson",
            "data": {".dockerconfigjson": STANDARD.encode(docker_config)},
        }))
    }

    /// Panics unless a Secret that the program itself has written is what [`Self::write_secret`] would have written.
    pub(crate) async fn is_as_written_here(&self, secret: &PullSecret) -> anyhow::Result<()> {
        let times = [time(secret, "refresh")?, time(secret, "expiry")?];
        let mut expected = self.written(times, &secret.docker_config).await?;
        let mut found = serde_json::to_value(&secret.object)?;
        let metadata = found.get_mut("metadata").and_then(Value::as_object_mut);
        let metadata = metadata.context("it has no metadata")?;
        let managers = metadata
            .remove("managedFields")
            .context("nobody has written it")?;
        metadata.retain(|key, _value| {
            ["name", "labels", "annotations", "ownerReferences"].contains(&key.as_str())
        });
        for object in [&mut expected, &mut found] {
            let members = object.as_object_mut().context("it is no object")?;
            members.retain(|key, _value| ["metadata", "type"].contains(&key.as_str()));
        }
        assert_eq!(found, expected);
        let managers = managers.as_array().context("managers are a list")?;
        let writes = managers.iter().map(|one| [&one["manager"], &one["operation"]]);
        assert_eq!(writes.collect::<Vec<_>>(), [["manager", "Update"]]);
        Ok(())
    }

    /// Whether the policy of its chart lets the peer write this Secret: neither owner nor labels may be others than before.
    pub(crate) async fn may_write(&self, secret: &PullSecret) -> anyhow::Result<bool> {
        let written = self.written([Timestamp::now(); 2], "").await?;
        let written: Secret = serde_json::from_value(written)?;
        let found = &secret.object.metadata;
        Ok(written.metadata.owner_references == found.owner_references
            && written.metadata.labels == found.labels)
    }

    /// Whether the peer would ask for a token: the hash is another one, or it is time.
    pub(crate) fn would_mint(&self, secret: &PullSecret) -> anyhow::Result<bool> {
        let (refreshed, expires) = (time(secret, "refresh")?, time(secret, "expiry")?);
        let due = match self.api {
            ApiVersion::V1Beta2 => refreshed + expires.duration_since(refreshed) / 2,
            ApiVersion::V1Beta1 => expires - BUFFER,
        };
        let is_same = secret.annotation("acr.microsoft.com/token.inputs") == Some(&self.inputs_hash());
        Ok(!is_same || Timestamp::now() > due)
    }

    /// Waits until the Secret is as it should be.
    pub(crate) async fn wait_secret(
        &self,
        what: &str,
        is_so: impl Fn(&PullSecret) -> bool,
    ) -> anyhow::Result<PullSecret> {
        poll(
            &format!("the Secret of {} {what}", self.name),
            PATIENCE,
            async || {
                let secret = self.secret().await?;
                let annotations = secret.object.annotations().clone();
                Ok(if is_so(&secret) {
                    Ok(secret)
                } else {
                    Err(format!("{annotations:?}"))
                })
            },
        )
        .await
    }

    /// The versions of the binding and of its Secret.
    pub(crate) async fn versions(&self) -> anyhow::Result<[Option<String>; 2]> {
        let binding = self.bindings.get(self.name).await?;
        let (secret, _uid) = self.secret().await?.version();
        Ok([binding.resource_version(), Some(secret)])
    }

    /// The hash that the peer writes.
    fn inputs_hash(&self) -> String {
        base36_sha224(self.inputs.as_bytes())
    }
}

fn time(secret: &PullSecret, name: &str) -> anyhow::Result<Timestamp> {
    let value = secret.annotation(&format!("acr.microsoft.com/token.{name}"));
    Ok(value.context("the peer's annotation is missing")?.parse()?)
}

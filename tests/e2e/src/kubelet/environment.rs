//! The environment of a container: literal values, references, and `$(OTHER)` in values.

use anyhow::{Context as _, bail};
use k8s_openapi::api::core::v1::{ConfigMap, EnvVar, EnvVarSource, Secret};
use kube::{Api, Client};
use serde_json::Value;

use super::template::Places;

/// Resolves variables in their order.
pub(super) async fn resolve(
    client: &Client,
    namespace: &str,
    variables: &[EnvVar],
    pod: &Value,
    places: &Places,
) -> anyhow::Result<Vec<(String, String)>> {
    let mut resolved: Vec<(String, String)> = Vec::new();
    for EnvVar {
        name,
        value,
        value_from,
    } in variables
    {
        let value = match value_from {
            None => expand(value.as_deref().unwrap_or_default(), &resolved),
            Some(source) => match referenced(client, namespace, source, pod)
                .await
                .with_context(|| name.clone())?
            {
                Some(value) => value,
                None => continue,
            },
        };
        resolved.push((name.clone(), places.value(&value)));
    }
    Ok(resolved)
}

async fn referenced(
    client: &Client,
    namespace: &str,
    source: &EnvVarSource,
    pod: &Value,
) -> anyhow::Result<Option<String>> {
    if let Some(field) = &source.field_ref {
        let value = field
            .field_path
            .split('.')
            .try_fold(pod, |value, part| value.get(part));
        let value = value
            .and_then(Value::as_str)
            .with_context(|| format!("no field {}", field.field_path))?;
        return Ok(Some(value.to_owned()));
    }
    let (value, optional) = if let Some(key) = &source.config_map_key_ref {
        let object = Api::<ConfigMap>::namespaced(client.clone(), namespace)
            .get_opt(&key.name)
            .await?;
        (
            object.and_then(|object| object.data?.remove(&key.key)),
            key.optional,
        )
    } else if let Some(key) = &source.secret_key_ref {
        let object = Api::<Secret>::namespaced(client.clone(), namespace)
            .get_opt(&key.name)
            .await?;
        let bytes = object.and_then(|object| object.data?.remove(&key.key));
        (
            bytes.map(|bytes| String::from_utf8_lossy(&bytes.0).into_owned()),
            key.optional,
        )
    } else {
        bail!("this source of a variable is not supported");
    };
    if value.is_none() && optional != Some(true) {
        bail!("the ConfigMap, Secret or key does not exist");
    }
    Ok(value)
}

/// Replaces `$(NAME)` of variables that came earlier; others stay as they are. `$$(NAME)` is an escape.
fn expand(value: &str, earlier: &[(String, String)]) -> String {
    let mut expanded = String::new();
    let mut rest = value;
    while let Some((before, after)) = rest.split_once("$(") {
        expanded.push_str(before);
        let known = after.split_once(')').and_then(|(name, tail)| {
            Some((earlier.iter().rev().find(|(known, _value)| known == name)?, tail))
        });
        match known {
            _ if before.ends_with('$') => {
                expanded.push('(');
                rest = after;
            }
            Some(((_name, value), tail)) => {
                expanded.push_str(value);
                rest = tail;
            }
            None => {
                expanded.push_str("$(");
                rest = after;
            }
        }
    }
    expanded + rest
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn expand_replaces_what_came_earlier_and_nothing_else() {
        let earlier = [("POD_NAME".to_owned(), "broker-0".to_owned())];
        for (value, expected) in [
            ("k8s.pod.name=$(POD_NAME),a=b", "k8s.pod.name=broker-0,a=b"),
            ("$(UNKNOWN)-$(POD_NAME)", "$(UNKNOWN)-broker-0"),
            ("$$(POD_NAME)", "$(POD_NAME)"),
            ("$(POD_NAME", "$(POD_NAME"),
        ] {
            assert_eq!(expand(value, &earlier), expected);
        }
    }
}

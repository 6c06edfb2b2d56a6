//! What an API server makes of a merge patch, and of an apply.

use k8s_openapi::{api::core::v1::Secret, apimachinery::pkg::apis::meta::v1::ObjectMeta};
use serde::{Serialize, de::DeserializeOwned};
use serde_json::{Value, json};

use crate::{fields::is_anybody_elses, server::Refusal};

/// An apply over a Secret that is there.
pub(crate) fn over(before: &Secret, object: &Secret, is_forced: bool) -> Result<Secret, Refusal> {
    let (old, new) = (&before.metadata, &object.metadata);
    if new.uid.is_some() && new.uid != old.uid {
        return Err(Refusal(422));
    }
    if new.resource_version.is_some() && new.resource_version != old.resource_version {
        return Err(Refusal(409));
    }
    if !is_forced && is_anybody_elses(old) {
        return Err(Refusal(409));
    }
    if before.type_ != object.type_ || before.immutable == Some(true) && before.data != object.data {
        return Err(Refusal(422));
    }
    let mut owners = old.owner_references.clone().unwrap_or_default();
    for owner in new.owner_references.iter().flatten() {
        owners.retain(|other| other.uid != owner.uid);
        owners.push(owner.clone());
    }
    let controllers = owners.iter().filter(|owner| owner.controller == Some(true));
    if controllers.count() > 1 {
        return Err(Refusal(422));
    }
    let mut after = before.clone();
    after.data.clone_from(&object.data);
    let metadata = &mut after.metadata;
    metadata.owner_references = Some(owners);
    let (labels, annotations) = (new.labels.clone(), new.annotations.clone());
    metadata
        .labels
        .get_or_insert_default()
        .extend(labels.unwrap_or_default());
    metadata
        .annotations
        .get_or_insert_default()
        .extend(annotations.unwrap_or_default());
    Ok(after)
}

pub(crate) fn patched<T: Serialize + DeserializeOwned>(
    object: &T,
    metadata: &ObjectMeta,
    patch: &Value,
) -> Result<T, Refusal> {
    let document = serde_json::to_value(object).unwrap_or_default();
    merged(metadata, document, patch).map(decoded)
}

/// A merge patch, if its preconditions hold.
pub(crate) fn merged(metadata: &ObjectMeta, mut document: Value, patch: &Value) -> Result<Value, Refusal> {
    let wanted = &patch["metadata"];
    let fits = |field: &str, is: &Option<String>| {
        let wanted = wanted.get(field).filter(|wanted| !wanted.is_null());
        wanted.is_none_or(|wanted| wanted.as_str() == is.as_deref())
    };
    if !fits("uid", &metadata.uid) || !fits("resourceVersion", &metadata.resource_version) {
        return Err(Refusal(409));
    }
    merge(&mut document, patch);
    Ok(document)
}

/// RFC 7396.
pub(crate) fn merge(target: &mut Value, patch: &Value) {
    let Value::Object(changes) = patch else {
        *target = patch.clone();
        return;
    };
    if !target.is_object() {
        *target = json!({});
    }
    for (name, change) in changes {
        if change.is_null() {
            target.as_object_mut().unwrap().remove(name);
        } else {
            merge(&mut target[name.as_str()], change);
        }
    }
}

pub(crate) fn decoded<T: DeserializeOwned>(document: Value) -> T {
    serde_json::from_value(document).unwrap()
}

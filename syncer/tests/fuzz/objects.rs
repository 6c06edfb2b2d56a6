//! Kubernetes objects near real ones.

use hostile::document;
use k8s_openapi::{
    api::core::v1::ServiceAccount, apimachinery::pkg::apis::meta::v1::ObjectMeta, jiff::Timestamp,
};
use proptest::{
    prelude::{BoxedStrategy, Strategy},
    prop_oneof,
};
use serde::de::DeserializeOwned;
use syncer::{
    binding::{Binding, Defaults},
    crd::{AcrPullBinding, v1beta1},
};

const BINDINGS: [&str; 3] = [
    r#"{"apiVersion":"acrpull.microsoft.com/v1beta2","kind":"AcrPullBinding",
        "metadata":{"name":"web","namespace":"shop","uid":"u1","generation":3,"resourceVersion":"100",
            "annotations":{"acrpull.microsoft.com/refresh-requested":"one"}},
        "spec":{"acr":{"server":"prod.azurecr.io","scope":"repository:team/web:pull repository:b:push,pull","environment":"PublicCloud"},
            "auth":{"workloadIdentity":{"serviceAccountRef":"puller"}},"serviceAccountName":"web"},
        "status":{"tokenExpirationTime":"2026-11-21T13:00:00Z","conditions":[{"type":"Ready","status":"True","reason":"Ready","message":"","lastTransitionTime":"2026-11-21T11:00:00Z"}]}}"#,
    r#"{"apiVersion":"acrpull.microsoft.com/v1beta2","kind":"AcrPullBinding","metadata":{"name":"web","namespace":"shop","uid":"u1"},
        "spec":{"acr":{"server":"prod.azurecr.example","scope":"repository:a:pull","environment":"AirgappedCloud",
                "cloudConfig":{"entraAuthorityHost":"https://login.example","resourceManagerAudience":"https://arm.example"}},
            "auth":{"managedIdentity":{"clientID":"33333333-3333-3333-3333-000000000009"}},"serviceAccountName":"web"}}"#,
    r#"{"apiVersion":"acrpull.microsoft.com/v1beta2","kind":"AcrPullBinding","metadata":{"name":"web","namespace":"shop","uid":"u1"},
        "spec":{"acr":{"server":"prod.azurecr.io","scope":"repository:a:pull"},"serviceAccountName":"web",
            "auth":{"workloadIdentity":{"serviceAccountRef":"puller","clientID":"33333333-3333-3333-3333-000000000001","tenantID":"contoso.onmicrosoft.com"}}}}"#,
];
const OLDER_BINDINGS: [&str; 2] = [
    r#"{"apiVersion":"msi-acrpull.microsoft.com/v1beta1","kind":"AcrPullBinding","metadata":{"name":"web","namespace":"shop","uid":"u1"},
        "spec":{"acrServer":"prod.azurecr.io","scope":"","managedIdentityClientID":"33333333-3333-3333-3333-000000000009",
            "managedIdentityResourceID":"","serviceAccountName":"web"}}"#,
    r#"{"apiVersion":"msi-acrpull.microsoft.com/v1beta1","kind":"AcrPullBinding","metadata":{"name":"web","namespace":"shop","uid":"u1"},
        "spec":{"acrServer":"","scope":"repository:a:pull",
            "managedIdentityResourceID":"/subscriptions/s/resourceGroups/../resourceGroups/rg//providers/Microsoft.ManagedIdentity/userAssignedIdentities/puller"}}"#,
];
/// Metadata of pull Secrets: ours, ours with the syncer's own times that lie far ahead, the peer's, somebody else's.
const SECRETS: [&str; 6] = [
    r#"{"name":"acr-pull-web","namespace":"shop","uid":"s1","resourceVersion":"7","labels":{"acr.microsoft.com/binding":"web"},
        "ownerReferences":[{"apiVersion":"acrpull.microsoft.com/v1beta2","kind":"AcrPullBinding","name":"web","uid":"u1","controller":true}],
        "annotations":{"acr.microsoft.com/token.expiry":"2026-11-21T13:00:00Z","acr.microsoft.com/token.refresh":"2026-11-21T11:50:00Z",
            "acr.microsoft.com/token.inputs":"x","acrpull.microsoft.com/refresh-at":"2026-11-21T12:30:00Z","acrpull.microsoft.com/inputs":"x",
            "acrpull.microsoft.com/fingerprint":"00112233445566778899aabbccddeeff","acrpull.microsoft.com/refresh-requested":"zero"},
        "managedFields":[{"manager":"acrpull-syncer","operation":"Apply","apiVersion":"v1","fieldsType":"FieldsV1","fieldsV1":{"f:data":{"f:.dockerconfigjson":{}},
            "f:metadata":{"f:annotations":{"f:acr.microsoft.com/token.expiry":{},"f:acr.microsoft.com/token.refresh":{},
                "f:acrpull.microsoft.com/refresh-at":{},"f:acrpull.microsoft.com/inputs":{},"f:acrpull.microsoft.com/fingerprint":{}}}}}]}"#,
    r#"{"name":"acr-pull-web","namespace":"shop","uid":"s1","resourceVersion":"7","labels":{"acr.microsoft.com/binding":"web"},
        "annotations":{"acr.microsoft.com/token.expiry":"2026-11-22T12:00:00Z","acr.microsoft.com/token.refresh":"2026-11-21T12:00:00Z",
            "acrpull.microsoft.com/refresh-at":"2026-11-22T12:00:00Z","acrpull.microsoft.com/inputs":"x",
            "acrpull.microsoft.com/fingerprint":"00112233445566778899aabbccddeeff"},
        "managedFields":[{"manager":"acrpull-syncer","operation":"Apply","apiVersion":"v1","fieldsType":"FieldsV1","fieldsV1":{"f:data":{"f:.dockerconfigjson":{}},
            "f:metadata":{"f:annotations":{"f:acr.microsoft.com/token.expiry":{},"f:acr.microsoft.com/token.refresh":{},
                "f:acrpull.microsoft.com/refresh-at":{},"f:acrpull.microsoft.com/inputs":{},"f:acrpull.microsoft.com/fingerprint":{}}}}}]}"#,
    r#"{"name":"acr-pull-web","namespace":"shop","uid":"s1","resourceVersion":"7","labels":{"acr.microsoft.com/binding":"web"},
        "annotations":{"acr.microsoft.com/token.expiry":"2026-11-21T13:00:00Z","acr.microsoft.com/token.refresh":"2026-11-21T11:50:00Z",
            "acr.microsoft.com/token.inputs":"x"},
        "managedFields":[{"manager":"manager","operation":"Update","apiVersion":"v1","fieldsType":"FieldsV1","fieldsV1":{"f:data":{"f:.dockerconfigjson":{}},
            "f:metadata":{"f:annotations":{"f:acr.microsoft.com/token.expiry":{},"f:acr.microsoft.com/token.refresh":{}}}}}]}"#,
    r#"{"name":"acr-pull-web","namespace":"shop","uid":"s1","resourceVersion":"7","labels":{"acr.microsoft.com/binding":"web"},
        "annotations":{"acr.microsoft.com/token.expiry":"2026-11-21T13:00:00Z","acr.microsoft.com/token.refresh":"2026-11-21T11:50:00Z"}}"#,
    r#"{"name":"acr-pull-web","namespace":"shop","uid":"s1","resourceVersion":"7",
        "ownerReferences":[{"apiVersion":"apps/v1","kind":"Deployment","name":"web","uid":"d1"}]}"#,
    r#"{"name":"web-msi-acrpull-secret","namespace":"shop","uid":"s1","resourceVersion":"7","labels":{"acr.microsoft.com/binding":"web"},
        "ownerReferences":[{"apiVersion":"msi-acrpull.microsoft.com/v1beta1","kind":"AcrPullBinding","name":"web","uid":"u1","controller":true}]}"#,
];
const ACCOUNTS: [&str; 2] = [
    r#"{"apiVersion":"v1","kind":"ServiceAccount","metadata":{"name":"web","namespace":"shop","resourceVersion":"200",
            "annotations":{"acrpull.microsoft.com/linked-secrets":"acr-pull-web,acr-pull-gone"}},
        "imagePullSecrets":[{"name":"foreign"},{"name":"acr-pull-web"}]}"#,
    r#"{"apiVersion":"v1","kind":"ServiceAccount","metadata":{"name":"puller","namespace":"shop",
            "annotations":{"azure.workload.identity/client-id":"33333333-3333-3333-3333-000000000001","azure.workload.identity/tenant-id":"22222222-2222-2222-2222-222222222222"}}}"#,
];

pub(crate) fn now() -> Timestamp {
    "2026-11-21T12:00:00Z".parse().unwrap()
}

/// Bindings as the watches decode them; what does not decode is told apart before, and never gets further.
pub(crate) fn binding() -> BoxedStrategy<Binding> {
    let defaults = Defaults {
        acr_server: "default.azurecr.io".to_owned(),
        ..Defaults::default()
    };
    let current = decoded::<AcrPullBinding>(&BINDINGS).prop_map(Binding::from);
    let older = decoded::<v1beta1::AcrPullBinding>(&OLDER_BINDINGS)
        .prop_map(move |binding| defaults.complete(binding));
    let named = prop_oneof![current, older].prop_map(|mut binding| {
        // The one thing that no API server leaves out.
        binding.metadata.name.get_or_insert_with(|| "web".to_owned());
        binding
    });
    named.boxed()
}

pub(crate) fn secret() -> BoxedStrategy<ObjectMeta> {
    decoded(&SECRETS)
}

pub(crate) fn account() -> BoxedStrategy<ServiceAccount> {
    decoded(&ACCOUNTS)
}

fn decoded<T: DeserializeOwned + std::fmt::Debug + 'static>(seeds: &[&str]) -> BoxedStrategy<T> {
    document(seeds)
        .prop_filter_map("does not decode", |json| serde_json::from_str(&json).ok())
        .boxed()
}

//! A namespace as Azure/msi-acrpull leaves it: bindings of both APIs with its finalizer, their Secrets, and the links.

use std::collections::BTreeMap;

use anyhow::Context as _;
use e2e::Team;
use k8s_openapi::api::core::v1::{LocalObjectReference, Secret, ServiceAccount};
use kube::ResourceExt as _;
use kube::api::{Api, ApiResource, DynamicObject, ListParams, ObjectMeta, Patch, PatchParams, PostParams};
use serde_json::{Value, json};
use syncer::binding::{ApiVersion, Binding};
use syncer::pull_secret;

/// The field manager of the peer.
const PEER: &str = "manager";
const CLIENT_ID: &str = "33333333-3333-3333-3333-000000000001";

/// Its bindings, as a backup has them.
const BINDINGS: [(ApiVersion, &str); 2] = [
    (
        ApiVersion::V1Beta2,
        include_str!("../../../fixtures/peer-left-v1beta2.yaml"),
    ),
    (
        ApiVersion::V1Beta1,
        include_str!("../../../fixtures/peer-left-v1beta1.yaml"),
    ),
];

/// What the syncer will ask for each of them, as `broker grants test` takes it. The ServiceAccount whose token proves an identity
/// comes first.
pub(super) const REQUESTS: [&str; 5] = [
    "--service-account batch --registry reg1.azurecr.io --scope repository:team/batch:pull --client-id 33333333-3333-3333-3333-000000000002",
    "--service-account web --service-account batch --registry reg0.azurecr.io --scope repository:team/web:pull --federated-client-id 33333333-3333-3333-3333-000000000001",
    "--service-account web --registry reg0.azurecr.io --scope repository:team/web:pull --federated-client-id 33333333-3333-3333-3333-000000000001",
    "--service-account legacy --registry reg2.azurecr.io --client-id 33333333-3333-3333-3333-000000000003",
    "--service-account default --registry reg2.azurecr.io --resource-id /subscriptions/44444444-4444-4444-4444-444444444444/resourceGroups/rg/providers/Microsoft.ManagedIdentity/userAssignedIdentities/puller",
];

/// What was created.
pub(super) struct Left<'a> {
    team: &'a Team<'a>,
    bindings: Vec<(ApiVersion, String)>,
}

impl<'a> Left<'a> {
    pub(super) async fn create(team: &'a Team<'a>) -> anyhow::Result<Self> {
        let identity = [
            ("azure.workload.identity/client-id", CLIENT_ID),
            ("azure.workload.identity/tenant-id", e2e::TENANT),
        ];
        team.create_account("web", &["alpha-own", "zeta-own"], &identity)
            .await?;
        for name in ["batch", "legacy"] {
            team.create_account(name, &[], &[]).await?;
        }
        let mut left = Self {
            team,
            bindings: Vec::new(),
        };
        for (api, documents) in BINDINGS {
            for document in documents.split("\n---\n") {
                let object: DynamicObject = serde_saphyr::from_str(document)?;
                left.add(api, object).await?;
            }
        }
        // One more, in which the two ServiceAccounts differ.
        let kind = ApiResource::erase::<Binding>(&ApiVersion::V1Beta2);
        let mut mixed = DynamicObject::new("mixed", &kind).data(json!({"spec": {
            "acr": {"server": "reg0.azurecr.io", "scope": "repository:team/web:pull", "environment": "PublicCloud"},
            "auth": {"workloadIdentity": {"serviceAccountRef": "web"}},
            "serviceAccountName": "batch",
        }}));
        mixed.metadata.finalizers = Some(vec!["msi-acrpull.microsoft.com".to_owned()]);
        left.add(ApiVersion::V1Beta2, mixed).await?;
        Ok(left)
    }

    /// A binding, its Secret, and its link.
    async fn add(&mut self, api: ApiVersion, mut binding: DynamicObject) -> anyhow::Result<()> {
        let account = match binding
            .data
            .pointer("/spec/serviceAccountName")
            .and_then(Value::as_str)
        {
            Some(account) => account.to_owned(),
            None => "default".to_owned(),
        };
        binding.metadata = ObjectMeta {
            name: binding.metadata.name,
            finalizers: binding.metadata.finalizers,
            ..ObjectMeta::default()
        };
        let params = PostParams {
            field_manager: Some(PEER.to_owned()),
            ..PostParams::default()
        };
        let created = self.api(api).create(&params, &binding).await?;
        let name = created.name_any();
        let secret_name = pull_secret::name_for(api, &name);
        let secret: Secret = serde_json::from_value(json!({
            "metadata": {
                "name": secret_name,
                "labels": {"acr.microsoft.com/binding": name},
                "annotations": {
                    "acr.microsoft.com/token.expiry": "2026-11-21T11:13:15Z",
                    "acr.microsoft.com/token.refresh": "2026-11-21T09:58:15Z",
                    "acr.microsoft.com/token.inputs": "2qwxrlqgrwss3u2y4z7fdgjmw49xbgwfamhsb50wgl3z",
                },
                "ownerReferences": [{
                    "apiVersion": api.as_str(), "kind": "AcrPullBinding", "name": name,
                    "uid": created.uid(), "controller": true, "blockOwnerDeletion": true,
                }],
            },
            "type": "kubernetes.io/dockerconfigjson",
            "stringData": {".dockerconfigjson": "{\"auths\":{}}"},
        }))?;
        self.team.api::<Secret>().create(&params, &secret).await?;
        self.link(&account, &secret_name).await?;
        self.bindings.push((api, name));
        Ok(())
    }

    async fn link(&self, account: &str, secret: &str) -> anyhow::Result<()> {
        let accounts = self.team.api::<ServiceAccount>();
        let mut found = accounts.get(account).await?;
        let entry = LocalObjectReference {
            name: secret.to_owned(),
        };
        found.image_pull_secrets.get_or_insert_default().push(entry);
        accounts.replace(account, &PostParams::default(), &found).await?;
        Ok(())
    }

    /// The versions of all that a syncer writes to.
    pub(super) async fn versions(&self) -> anyhow::Result<BTreeMap<String, String>> {
        fn note(versions: &mut BTreeMap<String, String>, kind: &str, objects: Vec<ObjectMeta>) {
            for object in objects {
                let name = object.name.unwrap_or_default();
                versions.insert(
                    format!("{kind}/{name}"),
                    object.resource_version.unwrap_or_default(),
                );
            }
        }
        let params = ListParams::default();
        let mut versions = BTreeMap::new();
        for api in ApiVersion::ALL {
            let found = self.api(api).list(&params).await?;
            note(
                &mut versions,
                api.as_str(),
                found.items.into_iter().map(|found| found.metadata).collect(),
            );
        }
        let secrets = self.team.api::<Secret>().list(&params).await?;
        note(
            &mut versions,
            "secrets",
            secrets.items.into_iter().map(|found| found.metadata).collect(),
        );
        let accounts = self.team.api::<ServiceAccount>().list(&params).await?;
        note(
            &mut versions,
            "accounts",
            accounts.items.into_iter().map(|found| found.metadata).collect(),
        );
        Ok(versions)
    }

    /// Removes the finalizers.
    pub(super) async fn release(&self) -> anyhow::Result<()> {
        let nothing = Patch::Merge(json!({"metadata": {"finalizers": null}}));
        for (api, name) in &self.bindings {
            self.api(*api)
                .patch(name, &PatchParams::default(), &nothing)
                .await
                .with_context(|| format!("failed to release {name}"))?;
        }
        Ok(())
    }

    fn api(&self, api: ApiVersion) -> Api<DynamicObject> {
        let client = self.team.api::<Secret>().into_client();
        let kind = ApiResource::erase::<Binding>(&api);
        Api::namespaced_with(client, self.team.namespace(), &kind)
    }
}

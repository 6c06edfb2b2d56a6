//! Reads what is there once per cluster: CRDs, the peer's Deployment, policies, the issuer of tokens.

use std::collections::BTreeSet;

use k8s_openapi::{
    api::{admissionregistration::v1::ValidatingAdmissionPolicy, apps::v1::Deployment},
    apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition,
};
use kube::{
    Api, ResourceExt as _,
    api::{GetParams, ListParams},
    core::{PartialObjectMeta, Request},
};
use runtime::Failure;

use super::{Reader, look, unreadable};
use crate::{
    binding::ApiVersion,
    kube_calls::Verb,
    preflight::world::{Crd, Look, Name},
};

/// The container of the peer's Deployment, by its chart.
const PEER_CONTAINER: &str = "acrpull-controller";
/// In the name of the peer's images.
const PEER_IMAGE: &str = "msi-acrpull";
/// Where an API server says who issues its tokens (`OpenID` Connect Discovery).
const WELL_KNOWN: &str = "/.well-known";
const DISCOVERY: &str = "openid-configuration";

impl Reader {
    /// The CRD of an API.
    pub(super) async fn crd(&self, api: ApiVersion) -> Result<Look<Option<Crd>>, Failure> {
        let crds: Api<CustomResourceDefinition> = Api::all(self.client.clone());
        let name = Crd::name(api);
        let found = self
            .calls
            .call(Verb::Get, "customresourcedefinitions", crds.get_opt(&name))
            .await;
        match look(found).map_err(|error| unreadable("customresourcedefinitions", error))? {
            Look::Seen(crd) => Ok(Look::Seen(crd.map(|crd| Crd::of(&crd, api)))),
            Look::Denied => Ok(Look::Denied),
        }
    }

    /// Deployments of the peer that run.
    pub(super) async fn peers(&self) -> Result<Look<Vec<Name>>, Failure> {
        let deployments: Api<Deployment> = Api::all(self.client.clone());
        let page = async |params: &ListParams| deployments.list(params).await;
        let mut found = BTreeSet::new();
        let listed = self
            .list("deployments", &ListParams::default(), page, |deployment| {
                if is_running_peer(&deployment) {
                    found.insert(Name::of(&deployment.metadata));
                }
            })
            .await;
        match look(listed).map_err(|error| unreadable("deployments", error))? {
            Look::Seen(()) => Ok(Look::Seen(found.into_iter().collect())),
            Look::Denied => Ok(Look::Denied),
        }
    }

    /// The names of the admission policies; none if the server has no such API.
    pub(super) async fn policies(&self) -> Result<Look<Option<Vec<String>>>, Failure> {
        const RESOURCE: &str = "validatingadmissionpolicies";
        let policies: Api<ValidatingAdmissionPolicy> = Api::all(self.client.clone());
        let page = async |params: &ListParams| policies.list_metadata(params).await;
        let mut names = BTreeSet::new();
        let listed = self
            .list(
                RESOURCE,
                &ListParams::default(),
                page,
                |policy: PartialObjectMeta<_>| {
                    names.insert(policy.name_any());
                },
            )
            .await;
        match listed {
            Err(error) if error.is_not_found() => Ok(Look::Seen(None)),
            listed => match look(listed).map_err(|error| unreadable(RESOURCE, error))? {
                Look::Seen(()) => Ok(Look::Seen(Some(names.into_iter().collect()))),
                Look::Denied => Ok(Look::Denied),
            },
        }
    }

    /// Who issues the tokens. Few users may ask, and nothing depends on it.
    pub(super) async fn issuer(&self) -> Option<String> {
        let request = Request::new(WELL_KNOWN)
            .get(DISCOVERY, &GetParams::default())
            .ok()?;
        let asked = self.client.request::<serde_json::Value>(request);
        let document = self.calls.call(Verb::Get, DISCOVERY, asked).await.ok()?;
        document.get("issuer")?.as_str().map(str::to_owned)
    }
}

fn is_running_peer(deployment: &Deployment) -> bool {
    let Some(spec) = &deployment.spec else {
        return false;
    };
    let mut containers = spec.template.spec.iter().flat_map(|pod| &pod.containers);
    spec.replicas != Some(0)
        && containers.any(|container| {
            let image = container.image.as_deref().unwrap_or_default();
            container.name == PEER_CONTAINER || image.contains(PEER_IMAGE)
        })
}

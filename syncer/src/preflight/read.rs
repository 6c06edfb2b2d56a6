//! Asks the API server, and fills the world. Here and in `cluster` alone preflight does I/O: it gets and lists, each
//! call with a deadline, each list by pages, and keeps of each page only what matters.
//!
//! Bindings and ServiceAccounts are needed. What else the user may not look at is left out, and said.

mod cluster;

use std::{
    collections::{BTreeMap, BTreeSet},
    error::Error,
    fmt::Debug,
    sync::Arc,
};

use k8s_openapi::{
    NamespaceResourceScope,
    api::core::v1::{Secret, ServiceAccount},
};
use kube::{
    Api, Client, Config, Resource,
    api::ListParams,
    config::KubeConfigOptions,
    core::{DeserializeGuard, ObjectList, PartialObjectMeta},
};
use prometheus_client::registry::Registry;
use runtime::{Failure, SystemClock};
use serde::de::DeserializeOwned;

use super::world::{Look, Name, Unreadable, World};
use crate::{
    args::PreflightArgs,
    binding::{ApiVersion, Binding, Defaults},
    crd::{self, v1beta1},
    kube_calls::{KubeCalls, KubeError, Verb},
    kube_client, links,
    metrics::Metrics,
    namespaces::Namespaces,
    pull_secret,
};

/// Objects per page, as `kubectl` has it.
const PAGE: u32 = 500;

/// Asks.
struct Reader {
    client: Client,
    calls: KubeCalls,
    namespaces: Namespaces,
}

/// Looks at the cluster.
///
/// # Errors
/// There is no way to it, or bindings and ServiceAccounts cannot be listed.
pub(super) async fn world(args: &PreflightArgs) -> Result<World, Failure> {
    let client = client(args.context.as_deref()).await?;
    Reader::new(client, args).world(args).await
}

async fn client(context: Option<&str>) -> Result<Client, Failure> {
    let unusable = |source: Box<dyn Error + Send + Sync>| {
        Failure::unavailable("cannot use the configuration for Kubernetes")
            .remedy("let KUBECONFIG name a file, and --context one of its contexts")
            .source(source)
    };
    let config = match context {
        None => Config::infer().await.map_err(|error| unusable(error.into()))?,
        Some(context) => {
            let options = KubeConfigOptions {
                context: Some(context.to_owned()),
                ..KubeConfigOptions::default()
            };
            let config = Config::from_kubeconfig(&options).await;
            config.map_err(|error| unusable(error.into()))?
        }
    };
    kube_client::connect(config, Arc::new(SystemClock)).map_err(|error| unusable(error.into()))
}

impl Reader {
    fn new(client: Client, args: &PreflightArgs) -> Self {
        Self {
            client,
            // Counted, and shown by nobody: this process ends.
            calls: KubeCalls::new(Metrics::register(&mut Registry::default())),
            namespaces: args.namespaces.iter().cloned().collect(),
        }
    }

    async fn world(&self, args: &PreflightArgs) -> Result<World, Failure> {
        let selected = ListParams {
            label_selector: args.label_selector.as_query().map(str::to_owned),
            ..ListParams::default()
        };
        let mut world = World::empty(selected.label_selector.is_none());

        self.bindings::<crd::AcrPullBinding>(ApiVersion::V1Beta2, &selected, Binding::from, &mut world)
            .await?;
        let defaults = Defaults::from(args.defaults.clone());
        self.bindings::<v1beta1::AcrPullBinding>(
            ApiVersion::V1Beta1,
            &selected,
            |binding| defaults.complete(binding),
            &mut world,
        )
        .await?;
        world.bindings.sort_by_key(|binding| Name::of(&binding.metadata));
        self.accounts(&mut world).await?;
        self.secrets(&mut world).await?;
        for api in ApiVersion::ALL {
            *world.crds.of_mut(api) = self.crd(api).await?;
        }
        world.peers = self.peers().await?;
        world.policies = self.policies().await?;
        world.issuer = self.issuer().await;
        Ok(world)
    }

    /// The bindings of one API; none if it is not installed.
    async fn bindings<K>(
        &self,
        api: ApiVersion,
        selected: &ListParams,
        understand: impl Fn(K) -> Binding,
        world: &mut World,
    ) -> Result<(), Failure>
    where
        K: Resource<DynamicType = (), Scope = NamespaceResourceScope> + Clone + Debug + DeserializeOwned,
    {
        for bindings in self.apis::<DeserializeGuard<K>>() {
            let page = async |params: &ListParams| bindings.list(params).await;
            let listed = self
                .list("acrpullbindings", selected, page, |found| match found.0 {
                    Ok(binding) => world.bindings.push(Arc::new(understand(binding))),
                    Err(invalid) => world.unreadable.push(Unreadable {
                        api,
                        metadata: invalid.metadata,
                        error: invalid.error,
                    }),
                })
                .await;
            if let Err(error) = listed {
                if error.is_not_found() {
                    return Ok(());
                }
                return Err(unreadable(&format!("acrpullbindings.{}", api.group()), error));
            }
        }
        Ok(())
    }

    /// The ServiceAccounts of namespaces with bindings, and those that list a Secret named like ours.
    async fn accounts(&self, world: &mut World) -> Result<(), Failure> {
        let namespaces: BTreeSet<String> = world.all_bindings().map(|(_api, name)| name.namespace).collect();
        for accounts in self.apis::<ServiceAccount>() {
            let page = async |params: &ListParams| accounts.list(params).await;
            self.list("serviceaccounts", &ListParams::default(), page, |mut account| {
                let name = Name::of(&account.metadata);
                if namespaces.contains(&name.namespace) || our_entries(&account).next().is_some() {
                    links::slim(&mut account);
                    world.accounts.insert(name, Arc::new(account));
                }
            })
            .await
            .map_err(|error| unreadable("serviceaccounts", error))?;
        }
        Ok(())
    }

    /// Metadata of the Secrets that bindings have the names of, that are listed under such names, or that are marked.
    async fn secrets(&self, world: &mut World) -> Result<(), Failure> {
        let mut names: BTreeSet<Name> = world
            .all_bindings()
            .map(|(api, binding)| Name::new(&binding.namespace, &pull_secret::name_for(api, &binding.name)))
            .collect();
        for (account, found) in &world.accounts {
            names.extend(our_entries(found).map(|entry| Name::new(&account.namespace, entry)));
        }
        let mut kept = BTreeMap::new();
        for secrets in self.apis::<Secret>() {
            let page = async |params: &ListParams| secrets.list_metadata(params).await;
            let listed = self
                .list(
                    "secrets",
                    &ListParams::default(),
                    page,
                    |secret: PartialObjectMeta<Secret>| {
                        let mut metadata = secret.metadata;
                        let name = Name::of(&metadata);
                        if names.contains(&name) || pull_secret::binding_of(&metadata).is_some() {
                            pull_secret::slim(&mut metadata);
                            kept.insert(name, metadata);
                        }
                    },
                )
                .await;
            if let Look::Denied = look(listed).map_err(|error| unreadable("secrets", error))? {
                return Ok(());
            }
        }
        world.secrets = Look::Seen(kept);
        Ok(())
    }

    /// The one for all namespaces, or one for each that was named.
    fn apis<K>(&self) -> Vec<Api<K>>
    where
        K: Resource<DynamicType = (), Scope = NamespaceResourceScope>,
    {
        let parts = self.namespaces.parts(&self.client).into_iter();
        parts.map(|part| part.api).collect()
    }

    /// Reads a list page by page.
    async fn list<K: Clone>(
        &self,
        resource: &'static str,
        params: &ListParams,
        page: impl AsyncFn(&ListParams) -> Result<ObjectList<K>, kube::Error>,
        mut take: impl FnMut(K),
    ) -> Result<(), KubeError> {
        let mut params = params.clone().limit(PAGE);
        loop {
            let listed = self.calls.call(Verb::List, resource, page(&params)).await?;
            listed.items.into_iter().for_each(&mut take);
            match listed.metadata.continue_.filter(|token| !token.is_empty()) {
                Some(token) => params = params.continue_token(&token),
                None => return Ok(()),
            }
        }
    }
}

/// The names under which an account lists Secrets like ours.
fn our_entries(account: &ServiceAccount) -> impl Iterator<Item = &str> {
    let entries = account.image_pull_secrets.iter().flatten();
    entries
        .map(|entry| entry.name.as_str())
        .filter(|name| pull_secret::api_of_name(name).is_some())
}

fn look<T>(answer: Result<T, KubeError>) -> Result<Look<T>, KubeError> {
    match answer {
        Ok(seen) => Ok(Look::Seen(seen)),
        Err(error) if error.code() == 403 => Ok(Look::Denied),
        Err(error) => Err(error),
    }
}

fn unreadable(what: &str, error: KubeError) -> Failure {
    let remedy = match error.code() {
        401 | 403 => "run this as a user with the role of docs/preflight.md, or name namespaces with -n",
        _ => "check KUBECONFIG and the network, and try again",
    };
    Failure::unavailable(format!("cannot read {what}"))
        .remedy(remedy)
        .source(error)
}

#[cfg(test)]
mod tests;

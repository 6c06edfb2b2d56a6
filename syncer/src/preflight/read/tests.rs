//! What is asked of the API server, and what becomes of each of its answers.

mod server;

use kube::CustomResourceExt as _;
use serde_json::{Value, json};

use self::server::{Answer, Server};
use super::*;
use crate::preflight::scene::args;

const BINDINGS: &str = "/apis/acrpull.microsoft.com/v1beta2/acrpullbindings";
const OLDER_BINDINGS: &str = "/apis/msi-acrpull.microsoft.com/v1beta1/acrpullbindings";
const ACCOUNTS: &str = "/api/v1/serviceaccounts";
const SECRETS: &str = "/api/v1/secrets";
const CRD: &str =
    "/apis/apiextensions.k8s.io/v1/customresourcedefinitions/acrpullbindings.acrpull.microsoft.com";
const OLDER_CRD: &str =
    "/apis/apiextensions.k8s.io/v1/customresourcedefinitions/acrpullbindings.msi-acrpull.microsoft.com";
const DEPLOYMENTS: &str = "/apis/apps/v1/deployments";
const POLICIES: &str = "/apis/admissionregistration.k8s.io/v1/validatingadmissionpolicies";
const ISSUER: &str = "/.well-known/openid-configuration";

/// An empty cluster with everything that can be asked for.
fn cluster() -> Server {
    let server = Server::default();
    for path in [BINDINGS, OLDER_BINDINGS, ACCOUNTS, SECRETS, DEPLOYMENTS, POLICIES] {
        server.set(path, Answer::Pages(vec![Vec::new()]));
    }
    let crd = serde_json::to_value(crd::AcrPullBinding::crd()).unwrap();
    server.set(CRD, Answer::Object(crd));
    let crd = serde_json::to_value(v1beta1::AcrPullBinding::crd()).unwrap();
    server.set(OLDER_CRD, Answer::Object(crd));
    server.set(ISSUER, Answer::Object(json!({"issuer": "https://oidc.example"})));
    server
}

async fn read(server: &Server, arguments: &str) -> Result<World, Failure> {
    let args = args(arguments);
    Reader::new(server.client(), &args).world(&args).await
}

fn object(namespace: &str, name: &str) -> Value {
    json!({"metadata": {"namespace": namespace, "name": name, "uid": name, "resourceVersion": "1"}})
}

fn binding(name: &str) -> Value {
    let spec = serde_json::to_value(crate::samples::workload_identity_spec()).unwrap();
    let mut binding = object("shop", name);
    binding["spec"] = spec;
    binding
}

fn names(world: &World) -> Vec<String> {
    let bindings = world.bindings.iter();
    bindings
        .map(|binding| Name::of(&binding.metadata).to_string())
        .collect()
}

#[tokio::test]
async fn read_lists_every_page_and_asks_each_time_for_the_same() {
    let server = cluster();
    server.set(
        BINDINGS,
        Answer::Pages(vec![vec![binding("c")], vec![binding("a")], vec![binding("b")]]),
    );
    let world = read(&server, "--label-selector team=web").await.unwrap();
    assert_eq!(names(&world), ["shop/a", "shop/b", "shop/c"]);
    assert!(!world.is_whole);
    let made = server.made(BINDINGS);
    let asked = |key: &str| made.iter().map(|made| made.query.get(key)).collect::<Vec<_>>();
    let of_each = |value: &'static str| vec![value; 3];
    assert_eq!(
        asked("limit").into_iter().flatten().collect::<Vec<_>>(),
        of_each("500")
    );
    assert_eq!(
        asked("labelSelector").into_iter().flatten().collect::<Vec<_>>(),
        of_each("team%3Dweb")
    );
    let tokens: Vec<_> = asked("continue")
        .into_iter()
        .map(|token| token.map(String::as_str))
        .collect();
    assert_eq!(tokens, [None, Some("1"), Some("2")]);
    // The selector is about bindings only.
    assert!(!server.made(ACCOUNTS)[0].query.contains_key("labelSelector"));
}

#[tokio::test]
async fn read_keeps_a_binding_that_does_not_decode_beside_those_that_do() {
    let server = cluster();
    let mut moon = binding("moon");
    moon["spec"]["acr"]["environment"] = json!("MoonCloud");
    server.set(BINDINGS, Answer::Pages(vec![vec![moon, binding("web")]]));
    let world = read(&server, "").await.unwrap();
    assert_eq!(names(&world), ["shop/web"]);
    let [unreadable] = world.unreadable.as_slice() else {
        panic!("{:?}", world.unreadable)
    };
    assert_eq!(unreadable.metadata.name.as_deref(), Some("moon"));
    assert!(unreadable.error.contains("MoonCloud"), "{}", unreadable.error);
}

#[tokio::test]
async fn b29_read_of_a_server_without_one_of_the_apis_or_without_policies_goes_on() {
    for missing in [OLDER_BINDINGS, BINDINGS] {
        let server = cluster();
        server.set(BINDINGS, Answer::Pages(vec![vec![binding("web")]]));
        for path in [missing, CRD, POLICIES] {
            server.set(path, Answer::Code(404));
        }
        let world = read(&server, "").await.unwrap();
        assert_eq!(world.bindings.is_empty(), missing == BINDINGS, "{missing}");
        assert_eq!(world.crds.v1beta2, Look::Seen(None));
        assert!(matches!(&world.crds.v1beta1, Look::Seen(Some(crd)) if crd.lacks.is_empty()));
        assert_eq!(world.policies, Look::Seen(None));
        assert!(world.is_whole);
    }
}

#[tokio::test]
async fn read_of_what_the_role_does_not_allow_is_denied_and_the_rest_is_seen() {
    let server = cluster();
    server.set(BINDINGS, Answer::Pages(vec![vec![binding("web")]]));
    for path in [SECRETS, CRD, OLDER_CRD, DEPLOYMENTS, POLICIES, ISSUER] {
        server.set(path, Answer::Code(403));
    }
    let world = read(&server, "").await.unwrap();
    assert_eq!(names(&world), ["shop/web"]);
    assert!(world.secrets.seen().is_none());
    assert_eq!(
        (&world.crds.v1beta2, &world.crds.v1beta1),
        (&Look::Denied, &Look::Denied)
    );
    assert_eq!(world.peers, Look::Denied);
    assert_eq!(world.policies, Look::Denied);
    assert_eq!(world.issuer, None);
}

#[tokio::test]
async fn read_without_bindings_or_accounts_fails_and_names_what_is_needed() {
    for (path, code, told) in [
        (
            BINDINGS,
            403,
            ["acrpullbindings.acrpull.microsoft.com", "docs/preflight.md"],
        ),
        (
            OLDER_BINDINGS,
            500,
            ["acrpullbindings.msi-acrpull.microsoft.com", "try again"],
        ),
        (ACCOUNTS, 403, ["serviceaccounts", "docs/preflight.md"]),
        (SECRETS, 500, ["secrets", "try again"]),
        // The list was too long in the reading: its token has ended.
        (BINDINGS, 410, ["acrpullbindings", "try again"]),
    ] {
        let server = cluster();
        server.set(path, Answer::Code(code));
        let failure = read(&server, "").await.unwrap_err().to_string();
        for part in told {
            assert!(failure.contains(part), "{path} {code}: {failure}");
        }
    }
}

#[tokio::test]
async fn read_of_secrets_is_of_their_metadata_and_keeps_those_of_bindings() {
    let server = cluster();
    server.set(BINDINGS, Answer::Pages(vec![vec![binding("web")]]));
    let mut lister = object("data", "lister");
    lister["imagePullSecrets"] = json!([{"name": "acr-pull-gone"}, {"name": "login"}]);
    server.set(
        ACCOUNTS,
        Answer::Pages(vec![vec![
            object("shop", "web"),
            lister,
            object("data", "bystander"),
        ]]),
    );
    let mut marked = object("data", "acr-pull-marked");
    marked["metadata"]["labels"] = json!({"acr.microsoft.com/binding": "marked"});
    server.set(
        SECRETS,
        Answer::Pages(vec![
            vec![object("shop", "acr-pull-web"), object("data", "acr-pull-gone")],
            vec![marked, object("shop", "login"), object("data", "acr-pull-web")],
        ]),
    );
    let world = read(&server, "").await.unwrap();
    let accounts: Vec<_> = world.accounts.keys().map(Name::to_string).collect();
    assert_eq!(accounts, ["data/lister", "shop/web"]);
    let secrets: Vec<_> = world
        .secrets
        .seen()
        .unwrap()
        .keys()
        .map(Name::to_string)
        .collect();
    assert_eq!(
        secrets,
        ["data/acr-pull-gone", "data/acr-pull-marked", "shop/acr-pull-web"]
    );
    for made in server.made(SECRETS) {
        assert!(
            made.accept.contains("as=PartialObjectMetadataList"),
            "{}",
            made.accept
        );
    }
}

#[tokio::test]
async fn read_of_named_namespaces_lists_in_them_only() {
    let server = cluster();
    for path in [BINDINGS, OLDER_BINDINGS, ACCOUNTS, SECRETS] {
        server.set(path, Answer::Code(403));
        let (before, resource) = path.rsplit_once('/').unwrap();
        for namespace in ["data", "shop"] {
            let path = format!("{before}/namespaces/{namespace}/{resource}");
            server.set(&path, Answer::Pages(vec![Vec::new()]));
        }
    }
    let path = BINDINGS.replace("/acrpullbindings", "/namespaces/shop/acrpullbindings");
    server.set(&path, Answer::Pages(vec![vec![binding("web")]]));
    let world = read(&server, "-n shop,data -n shop").await.unwrap();
    assert_eq!(names(&world), ["shop/web"]);
    assert!(world.secrets.seen().is_some());
    assert_eq!(server.made(&path).len(), 1, "a namespace counts once");
    let paths = server.paths();
    for path in [BINDINGS, OLDER_BINDINGS, ACCOUNTS, SECRETS] {
        assert!(!paths.iter().any(|made| made == path), "{paths:?}");
    }
}

#[tokio::test]
async fn read_of_the_cluster_finds_the_peer_by_its_image_or_container_while_it_has_replicas() {
    let deployment = |name: &str, replicas: u32, container: &str, image: &str| {
        let mut deployment = object("acrpull", name);
        deployment["spec"] = json!({
            "replicas": replicas,
            "selector": {},
            "template": {"spec": {"containers": [{"name": container, "image": image}]}},
        });
        deployment
    };
    let server = cluster();
    server.set(
        DEPLOYMENTS,
        Answer::Pages(vec![
            vec![
                deployment("web", 1, "web", "prod.azurecr.io/web"),
                deployment("by-container", 1, "acrpull-controller", "mirror.example/acrpull"),
            ],
            vec![
                deployment("by-image", 2, "manager", "mcr.example/azure/msi-acrpull:v0.1.24"),
                deployment("ended", 0, "acrpull-controller", "mirror.example/acrpull"),
            ],
        ]),
    );
    server.set(
        POLICIES,
        Answer::Pages(vec![vec![object("", "b")], vec![object("", "a")]]),
    );
    let world = read(&server, "").await.unwrap();
    let peers = ["by-container", "by-image"].map(|name| Name::new("acrpull", name));
    assert_eq!(world.peers, Look::Seen(peers.into()));
    let policies = ["a", "b"].map(str::to_owned);
    assert_eq!(world.policies, Look::Seen(Some(policies.into())));
    assert_eq!(world.issuer.as_deref(), Some("https://oidc.example"));
}

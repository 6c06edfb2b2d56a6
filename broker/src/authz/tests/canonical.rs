//! Nothing matches by another spelling, and nothing that could mean something else matches at all.

use super::*;
use crate::authz::nearest::nearest;

/// A request for these scopes, where a grant lists any repository.
fn is_allowed(scopes: &str, actions: &[&str]) -> bool {
    let mut rig = rig();
    rig.policy.grants[0].repositories = vec![Pattern::new("*")];
    rig.policy.grants[0].actions = actions.iter().map(|action| (*action).to_owned()).collect();
    let request = DockerConfigRequest {
        scopes: ScopeSet::from_field(scopes).unwrap(),
        ..owned_request()
    };
    decide(&rig, None, &request).is_ok()
}

#[test]
fn a4_repository_in_another_form_matches_not_even_a_star() {
    for name in ["app", "team/app", "team/app/x.y_z-1"] {
        assert!(
            is_allowed(&format!("repository:{name}:pull"), &["pull"]),
            "{name}"
        );
    }
    for name in [
        "team/../secret",
        "..",
        "team//app",
        "/team/app",
        "team/app/",
        "team/./app",
        "Team/app",
        "team%2fapp",
        "team/%2e%2e/secret",
        "team/app?x=y",
        "team/app#x",
        "team@app",
    ] {
        assert!(
            !is_allowed(&format!("repository:{name}:pull"), &["pull"]),
            "{name}"
        );
    }
}

#[test]
fn a4_scope_of_another_kind_matches_nothing() {
    for scope in [
        "registry:catalog:*",
        "artifact-repository:app:pull",
        "repo:app:pull",
    ] {
        assert!(!is_allowed(scope, &["*", "pull"]), "{scope}");
    }
    // In these forms it does not even become a request.
    for scope in [
        "repository(plugin):app:pull",
        "Repository:app:pull",
        "repository:*:pull",
    ] {
        assert!(ScopeSet::from_field(scope).is_err(), "{scope}");
    }
}

#[test]
fn a4_action_matches_itself_only() {
    for (asked, listed, expected) in [
        ("*", "*", true),
        ("*", "pull", false),
        ("pull", "*", false),
        ("Pull", "pull", false),
        ("pull", "pull", true),
        ("pull,push", "pull", false),
    ] {
        let scope = format!("repository:app:{asked}");
        assert_eq!(is_allowed(&scope, &[listed]), expected, "{asked} of {listed}");
    }
}

#[test]
fn a4_scope_said_twice_is_one_with_all_of_its_actions() {
    let twice = "repository:app:pull repository:app:push";
    assert!(!is_allowed(twice, &["pull"]));
    assert!(is_allowed(twice, &["pull", "push"]));
}

#[test]
fn a4_scope_without_an_action_matches_nothing() {
    let rig = rig();
    let mut request = owned_request();
    let scope = proto::types::Scope {
        kind: "repository".into(),
        name: "team/app".into(),
        actions: std::collections::BTreeSet::new(),
    };
    request.scopes = [scope].into_iter().collect();
    assert!(decide(&rig, None, &request).is_err());
}

#[test]
fn a4_ids_match_in_any_case() {
    const MIXED: &str = "33333333-3333-3333-3333-00000000AbCd";
    let mut rig = rig();
    rig.policy.identities = vec![Arc::new(Identity {
        name: "team-web".into(),
        cloud: Arc::clone(rig.clouds.named("PublicCloud").unwrap()),
        tenant: TENANT.parse().unwrap(),
        client_id: Some(MIXED.parse().unwrap()),
        resource_id: None,
        source: IdentitySource::Imds,
        application: None,
    })];
    let id = MIXED.to_uppercase().parse().unwrap();
    let request = DockerConfigRequest {
        registry: "PROD.azurecr.IO".parse().unwrap(),
        identity: RequestedIdentity::BrokerOwned(IdentitySelector::ClientId(id)),
        ..owned_request()
    };
    assert!(decide(&rig, None, &request).is_ok());
}

#[test]
fn nearest_grants_come_first_and_are_bounded() {
    let mut rig = rig();
    rig.policy.grants[0].namespaces = vec![Pattern::new("data")];
    for (number, registry) in ["a.azurecr.io", "b.azurecr.io", "c.azurecr.io"]
        .into_iter()
        .enumerate()
    {
        rig.policy.grants.push(Grant {
            name: format!("far-{number}").into(),
            clusters: (0..20).map(|number| format!("weu-{number}00")).collect(),
            namespaces: vec![Pattern::new("web")],
            service_accounts: vec![Pattern::new("app")],
            identity: GrantedIdentity::BrokerOwned("team-web".into()),
            registries: vec![registry.parse().unwrap()],
            repositories: vec![Pattern::new("team/*")],
            actions: vec!["pull".into()],
            registry_wide: false,
        });
    }
    rig.policy.grants.reverse();
    let request = owned_request();
    let asked = asked(&rig.caller, None, &request, &rig.clouds, &rig.policy)
        .ok()
        .unwrap();
    let near = nearest(&rig.policy.grants, &asked, 2);
    let texts: Vec<String> = near.iter().map(ToString::to_string).collect();
    assert_eq!(
        texts,
        [
            "web misses namespaces (asked web, lists data)",
            "far-2 misses clusters (asked weu-7, lists weu-000, weu-100, weu-200, weu-300, weu-400, weu-500, \
             weu-600, weu-700, weu-800, weu-900 and 10 more) and registries (asked prod.azurecr.io, lists \
             c.azurecr.io)",
        ]
    );
}

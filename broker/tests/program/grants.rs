//! `broker grants test`: the answer, in both forms, and the exit code that scripts go by.

use std::process::{Command, Output};

use serde_json::{Value, json};

use crate::process::{Signer, configuration};

const TENANT: &str = "22222222-2222-2222-2222-222222222222";
const CLIENT: &str = "33333333-3333-3333-3333-000000000001";
/// A request that the grant allows.
const GOOD: &str = "--cluster weu-7 --namespace web --service-account app --registry prod.azurecr.io \
                    --scope repository:team/app:pull --identity team-web";

/// Runs the program on a configuration in which the cluster has these `modes`.
fn test(modes: &Value, arguments: &str) -> anyhow::Result<Output> {
    let mut configuration = configuration(
        &Signer::new()?,
        json!({
            "clouds": [{"name": "stack", "authority": "https://login.stack.example",
                        "registrySuffixes": ["azurecr.stack.example"]}],
            "identities": [{"name": "team-web", "tenant": TENANT, "clientId": CLIENT, "source": "imds"}],
            "grants": [
                {"name": "data", "clusters": ["weu-7"], "namespaces": ["data"], "serviceAccounts": ["app"],
                 "identity": "team-web", "registries": ["prod.azurecr.io"], "repositories": ["data/*"]},
                {"name": "web", "clusters": ["weu-7"], "namespaces": ["web", "web-*"], "serviceAccounts": ["app"],
                 "identity": "team-web", "registries": ["prod.azurecr.io"], "repositories": ["team/*"]},
                {"name": "apps", "clusters": ["weu-7"], "namespaces": ["web"], "serviceAccounts": ["app"],
                 "federated": {"tenants": [TENANT], "clientIds": [CLIENT]},
                 "registries": ["prod.azurecr.io"], "registryWide": true},
            ],
        }),
    )?;
    if let Some(cluster) = configuration
        .pointer_mut("/clusters/0")
        .and_then(Value::as_object_mut)
    {
        cluster.insert("grants".to_owned(), modes.clone());
        cluster.insert(
            "ceilings".to_owned(),
            json!({"registries": ["prod.azurecr.io", "old.azurecr.io", "prod.azurecr.stack.example"]}),
        );
    }
    let folder = tempfile::tempdir()?;
    let file = folder.path().join("config.yaml");
    std::fs::write(&file, configuration.to_string())?;
    Ok(Command::new(env!("CARGO_BIN_EXE_broker"))
        .env_clear()
        .args(["grants", "test", "--config"])
        .arg(file)
        .args(arguments.split_whitespace())
        .output()?)
}

fn printed(output: &Output) -> (Option<i32>, String) {
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    (output.status.code(), text)
}

#[test]
fn grants_test_says_which_grant_allows_a_request() -> anyhow::Result<()> {
    let (code, text) = printed(&test(&json!({}), GOOD)?);
    assert_eq!(
        text,
        "\
allowed by grant web
  cloud      passed       the broker's configuration lists it
  registry   passed       prod.azurecr.io is one that this cluster may use
  identity   passed       team-web is declared, in PublicCloud
  grant      passed       a grant allows all of it
"
    );
    assert_eq!(code, Some(0));
    Ok(())
}

#[test]
fn grants_test_says_by_what_each_grant_misses_a_request() -> anyhow::Result<()> {
    let asked = GOOD.replace("team/app:pull", "team/app:pull,push --service-account job");
    let (code, text) = printed(&test(&json!({}), &asked)?);
    assert_eq!(
        text,
        "\
denied
  cloud      passed       the broker's configuration lists it
  registry   passed       prod.azurecr.io is one that this cluster may use
  identity   passed       team-web is declared, in PublicCloud
  grant      denied       no grant allows namespace web this identity at registry prod.azurecr.io
grant web misses
  serviceAccounts: asked job; lists app
  actions: asked push; lists pull
grant data misses
  namespaces: asked web; lists data
  serviceAccounts: asked job; lists app
  repositories: asked repository:team/app; lists data/*
  actions: asked push; lists pull
"
    );
    assert_eq!(code, Some(1));
    let output = test(&json!({}), &format!("{asked} --output json"))?;
    let answer: Value = serde_json::from_slice(&output.stdout)?;
    assert_eq!(output.status.code(), Some(1));
    assert_eq!(answer.pointer("/allowed"), Some(&json!(false)));
    assert_eq!(answer.pointer("/decision"), Some(&json!("denied")));
    assert_eq!(
        answer.pointer("/grants/0"),
        Some(&json!({"grant": "web", "misses": [
            {"field": "serviceAccounts", "asked": "job", "lists": "app"},
            {"field": "actions", "asked": "push", "lists": "pull"},
        ]}))
    );
    Ok(())
}

#[test]
fn grants_test_ends_at_the_first_check_that_says_no() -> anyhow::Result<()> {
    let (code, text) = printed(&test(
        &json!({}),
        &GOOD.replace("prod.azurecr.io", "test.azurecr.io"),
    )?);
    assert_eq!(
        text,
        "\
denied
  cloud      passed       the broker's configuration lists it
  registry   denied       registry test.azurecr.io is not among those that this cluster may use
  identity   not reached
  grant      not reached
"
    );
    assert_eq!(code, Some(1));
    let undeclared = "33333333-3333-3333-3333-000000000009";
    let asked = GOOD.replace("--identity team-web", &format!("--client-id {undeclared}"));
    let (code, text) = printed(&test(&json!({"brokerOwned": "report"}), &asked)?);
    let line = format!(
        "  identity   denied       no identity with client id {undeclared} is declared for this cloud\n"
    );
    assert!(text.contains(&line), "{text}");
    assert_eq!(code, Some(1));
    Ok(())
}

#[test]
fn grants_test_rehearses_federated_identities_and_report() -> anyhow::Result<()> {
    let federated = "--cluster weu-7 --namespace web --service-account app --registry prod.azurecr.io \
                     --federated-client-id 33333333-3333-3333-3333-000000000001 --federated-tenant";
    let (good, other) = (
        format!("{federated} {TENANT}"),
        format!("{federated} contoso.com"),
    );
    for (modes, arguments, code, first_line) in [
        (json!({}), &other, 0, "allowed without a grant: Entra ID decides"),
        (json!({"federated": "enforce"}), &good, 0, "allowed by grant apps"),
        (json!({"federated": "enforce"}), &other, 1, "denied"),
        (
            json!({"federated": "report"}),
            &other,
            0,
            "allowed and reported: no grant allows it",
        ),
    ] {
        let (exit_code, text) = printed(&test(&modes, arguments)?);
        assert_eq!(
            (exit_code, text.lines().next()),
            (Some(code), Some(first_line)),
            "{text}"
        );
    }
    let (_code, text) = printed(&test(&json!({"federated": "report"}), &other)?);
    assert!(
        text.ends_with(&format!(
            "  grant      reported     no grant allows it: it would be denied, but the grants of this cluster are only \
             reported\ngrant apps misses\n  federated.tenants: asked contoso.com; lists {TENANT}\n"
        )),
        "{text}"
    );
    Ok(())
}

#[test]
fn grants_test_takes_the_authority_of_an_airgapped_binding() -> anyhow::Result<()> {
    let request = format!(
        "--cluster weu-7 --namespace web --service-account app --registry prod.azurecr.stack.example \
         --federated-client-id {CLIENT} --federated-tenant {TENANT} --cloud AirgappedCloud"
    );
    for (authority, code) in [
        ("--authority-host https://login.stack.example", 0),
        ("--authority-host https://login.other.example", 1),
        ("", 1),
    ] {
        let (exit_code, text) = printed(&test(&json!({}), &format!("{request} {authority}"))?);
        assert_eq!(exit_code, Some(code), "{authority}: {text}");
    }
    Ok(())
}

#[test]
fn grants_test_of_no_request_is_bad_usage() -> anyhow::Result<()> {
    for (from, to, named) in [
        (
            "--cluster weu-7",
            "--cluster weu-8",
            "--cluster \"weu-8\" is not in the configuration; it has weu-7",
        ),
        (
            "--identity team-web",
            "--identity team",
            "--identity \"team\" is not in the configuration; it has team-web",
        ),
        ("--identity team-web", "", "--identity"),
        (
            "--identity team-web",
            "--identity team-web --client-id x",
            "--client-id",
        ),
        (
            "--identity team-web",
            "--client-id x",
            "--client-id must be a GUID",
        ),
        (
            "--identity team-web",
            "--identity team-web --federated-tenant x",
            "--federated-tenant",
        ),
        ("--service-account app", "", "--service-account"),
        (
            "--namespace web",
            "--namespace Web",
            "--namespace must be the name of a namespace",
        ),
        ("repository:team/app:pull", "team/app", "--scope must be"),
        ("prod.azurecr.io", "https://prod.azurecr.io", "--registry must be"),
        ("--cluster", "--config none.yaml --cluster", "--config"),
    ] {
        let output = test(&json!({}), &GOOD.replacen(from, to, 1))?;
        let text = String::from_utf8_lossy(&output.stderr);
        assert!(text.contains(named) && text.lines().count() == 1, "{to}: {text}");
        assert_eq!(
            (output.status.code(), output.stdout.as_slice()),
            (Some(64), &b""[..]),
            "{to}"
        );
    }
    let output = test(&json!({"brokerOwned": "off"}), GOOD)?;
    assert_eq!(output.status.code(), Some(64), "a configuration that is wrong");
    Ok(())
}

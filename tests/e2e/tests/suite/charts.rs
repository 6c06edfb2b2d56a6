//! The charts as packages. That they work is what every other test shows.

use std::collections::BTreeSet;

use controlplane::{Helm, Release, Supervisor, Tools};
use e2e::chart;
use k8s_openapi::api::apps::v1::Deployment;
use kube::Api;

use crate::shared::beside_others;

const CHARTS: [&str; 3] = ["acrpull-broker", "acrpull-syncer", "acrpull"];

/// Helm is built without the Kubernetes version that it would otherwise assume.
const KUBE_VERSION: [&str; 2] = ["--kube-version", "1.36.3"];

/// The umbrella beside what is installed already: names of its own, and nothing that exists once per cluster.
const BESIDE: &str = r#"
broker:
  fullnameOverride: umbrella-broker
  tls: {existingSecret: umbrella-broker-tls}
  localCluster:
    syncers: ["system:serviceaccount:{{ .Release.Namespace }}:umbrella-syncer"]
syncer:
  fullnameOverride: umbrella-syncer
  broker:
    address: https://umbrella-broker-headless.{{ .Release.Namespace }}.svc:8443
    caBundle: {secret: umbrella-broker-tls}
  # its policy on bindings judges those of the whole cluster: it must not refuse what the others allow
  allowedRegistryDomains: [azurecr.io, azurecr.us, azurecr.cn, azurecr.airgap.example]
  crds: {enabled: false}
  rbac: {aggregate: false}
"#;

async fn helm() -> anyhow::Result<Helm> {
    Helm::new(Supervisor::new("charts")?, &Tools::resolve().await?, None)
}

fn release(name: &str, values: &str) -> Release {
    Release {
        name: name.to_owned(),
        chart: chart(name),
        namespace: "some".to_owned(),
        values: values.to_owned(),
    }
}

#[tokio::test]
async fn chart_of_each_kind_lints_and_renders_with_every_example() -> anyhow::Result<()> {
    let helm = helm().await?;
    for name in CHARTS {
        let examples = std::fs::read_dir(chart(name).join("ci"))?;
        for example in examples {
            let values = std::fs::read_to_string(example?.path())?;
            helm.lint(&chart(name), &values).await?;
            let rendered = helm.template(&release(name, &values), &KUBE_VERSION).await?;
            assert!(rendered.contains("kind: Deployment"), "{name}");
        }
    }
    Ok(())
}

#[tokio::test]
async fn chart_value_that_does_not_exist_is_refused_by_name() -> anyhow::Result<()> {
    let helm = helm().await?;
    for (name, values) in [
        ("acrpull-broker", "tls: {existingSecrt: x}"),
        ("acrpull-syncer", "broker: {adress: https://x}"),
        ("acrpull", "broker: {tls: {existingSecrt: x}}"),
        ("acrpull", "brokr: {}"),
    ] {
        let error = helm
            .template(&release(name, values), &KUBE_VERSION)
            .await
            .expect_err(values);
        let (error, typo) = (format!("{error:#}"), ["existingSecrt", "adress", "brokr"]);
        assert!(typo.iter().any(|typo| error.contains(typo)), "{error}");
    }
    Ok(())
}

#[tokio::test]
async fn chart_of_several_syncers_without_leader_election_is_refused() -> anyhow::Result<()> {
    const ALONE: &str = "broker: {address: 'https://x'}\nleaderElection: {enabled: false}\n";
    let helm = helm().await?;
    let refused = helm
        .template(&release("acrpull-syncer", ALONE), &KUBE_VERSION)
        .await;
    let refused = format!("{:#}", refused.expect_err("two replicas work at a time"));
    assert!(refused.contains("leaderElection.enabled"), "{refused}");
    let one = helm
        .template(
            &release("acrpull-syncer", &format!("{ALONE}replicas: 1")),
            &KUBE_VERSION,
        )
        .await?;
    assert!(one.contains("type: Recreate") && !one.contains("leases"), "{one}");
    Ok(())
}

#[tokio::test]
async fn chart_of_a_syncer_that_works_in_its_own_namespace_too_names_every_object_once() -> anyhow::Result<()>
{
    const VALUES: &str = "broker: {address: 'https://x'}\nnamespaces: [some, web]\n";
    let rendered = helm()
        .await?
        .template(&release("acrpull-syncer", VALUES), &KUBE_VERSION)
        .await?;
    let mut seen = BTreeSet::new();
    for document in rendered.split("\n---") {
        let line = |start: &str| document.lines().find(|line| line.starts_with(start));
        // The first of them are those of the object itself.
        let (Some(kind), Some(name)) = (line("kind: "), line("  name: ")) else {
            continue;
        };
        let object = (kind, name, line("  namespace: "));
        assert!(seen.insert(object), "{object:?} is there twice");
    }
    let roles = seen.iter().filter(|(kind, ..)| *kind == "kind: Role").count();
    assert_eq!(roles, 3, "one in each namespace, and one for the Lease");
    Ok(())
}

#[tokio::test]
async fn chart_values_of_a_syncer_that_contradict_each_other_are_refused_by_name() -> anyhow::Result<()> {
    const LEASE: &str = "leaderElection.leaseDuration=10s";
    const RETRY: &str = "leaderElection.retryPeriod=9s";
    const DEFAULT: &str = "v1beta1Defaults.acrServer=a.other.example";
    let helm = helm().await?;
    for (values, named) in [
        ("extraArgs: [--workers=3]", "set workers instead"),
        (
            "extraArgs: ['--metrics-bind-address=:9090']",
            "--metrics-bind-address",
        ),
        ("leaderElection: {leaseDuration: 10s}", LEASE),
        (
            "leaderElection: {leaseDuration: 15500ms}",
            "/leaderElection/leaseDuration",
        ),
        ("leaderElection: {retryPeriod: 9s}", RETRY),
        ("v1beta1Defaults: {acrServer: a.other.example}", DEFAULT),
        (
            "podDisruptionBudget: {maxUnavailable: 0%}",
            "/podDisruptionBudget/maxUnavailable",
        ),
    ] {
        let all = format!("broker: {{address: 'https://x'}}\n{values}\n");
        let refused = helm
            .template(&release("acrpull-syncer", &all), &KUBE_VERSION)
            .await;
        let refused = format!("{:#}", refused.expect_err(values));
        assert!(refused.contains(named), "{values}: {refused}");
    }
    let taken = "broker: {address: 'https://x'}\nextraArgs: [--ttl-rotation-fraction=0.5]\n\
                 v1beta1Defaults: {acrServer: prod.azurecr.io}\n";
    let rendered = helm
        .template(&release("acrpull-syncer", taken), &KUBE_VERSION)
        .await?;
    assert!(rendered.contains("--ttl-rotation-fraction=0.5"), "{rendered}");
    Ok(())
}

#[tokio::test]
async fn chart_role_of_a_syncer_may_create_events_and_not_change_them() -> anyhow::Result<()> {
    const VALUES: &str = "broker: {address: 'https://x'}\n";
    let rendered = helm()
        .await?
        .template(&release("acrpull-syncer", VALUES), &KUBE_VERSION)
        .await?;
    let rule = "- apiGroups: [events.k8s.io]\n  resources: [events]\n  verbs: [create]\n";
    assert!(rendered.contains(rule), "{rendered}");
    Ok(())
}

#[test]
fn chart_acrpull_installs_and_goes_without_a_trace() -> anyhow::Result<()> {
    beside_others(async |stack| {
        let team = stack.team("umbrella").await?;
        let helm = stack.plane().helm()?;
        let namespace = team.namespace().to_owned();
        let release = Release {
            name: "umbrella".to_owned(),
            chart: chart("acrpull"),
            namespace: namespace.clone(),
            values: BESIDE.to_owned(),
        };
        helm.install(&release).await?;
        let deployments: Api<Deployment> = team.api();
        for name in ["umbrella-broker", "umbrella-syncer"] {
            assert!(deployments.get_opt(name).await?.is_some(), "{name}");
        }
        helm.uninstall("umbrella", &namespace).await?;
        for name in ["umbrella-broker", "umbrella-syncer"] {
            assert!(deployments.get_opt(name).await?.is_none(), "{name}");
        }
        let left = stack
            .plane()
            .kubectl(&["get", "clusterrole,validatingadmissionpolicy", "-o", "name"])
            .await?;
        assert!(!left.contains("umbrella"), "{left}");
        Ok(())
    })
}

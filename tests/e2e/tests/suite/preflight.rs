//! `syncer preflight` on what Azure/msi-acrpull leaves in a namespace, as a user with the role of docs/preflight.md and no
//! other right: it says what is in the way, changes nothing, and prints grants that the broker takes and that allow just that.

mod left;

use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Context as _, ensure};
use controlplane::{Output, Program};
use e2e::{Binaries, Stack, TENANT, Team};
use k8s_openapi::api::rbac::v1::{ClusterRole, ClusterRoleBinding, RoleRef, Subject};
use kube::api::{Api, DeleteParams, ObjectMeta, PostParams};
use serde_json::Value;

use crate::bad_input::GOOD;
use crate::shared::alone;
use left::Left;

/// The role in the documents.
const DOCUMENT: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../../docs/preflight.md");
/// The ServiceAccount that looks.
const READER: &str = "reader";
const TIMEOUT: Duration = Duration::from_secs(60);
/// The cluster of [`GOOD`].
const CLUSTER: &str = "weu-7";

/// What is needed to run the programs as that user.
struct Bench<'a> {
    stack: &'a Stack,
    binaries: Binaries,
    kubeconfig: PathBuf,
}

#[test]
fn preflight_of_what_the_peer_left_changes_nothing_and_prints_grants_that_allow_just_that()
-> anyhow::Result<()> {
    alone(async |stack| {
        let team = stack.team("preflight").await?;
        // It would take over what is there.
        stack.syncer().stop().await;
        let result = look(stack, &team).await;
        stack.syncer().start().await?;
        result
    })
}

async fn look(stack: &Stack, team: &Team<'_>) -> anyhow::Result<()> {
    let left = Left::create(team).await?;
    let role = role(stack, team).await?;
    let bench = Bench::new(stack, team).await?;
    let before = left.versions().await?;
    let said = says(&bench, team).await;
    let granted = grants(&bench, team).await;
    let after = left.versions().await?;
    role.remove().await?;
    // Nobody else would remove the finalizers, and the namespace would stay for ever.
    left.release().await?;
    said?;
    granted?;
    ensure!(before == after, "something changed: {before:?} {after:?}");
    Ok(())
}

/// What is found, until everything is decided.
async fn says(bench: &Bench<'_>, team: &Team<'_>) -> anyhow::Result<()> {
    let undecided = bench.preflight(team, &["-v"]).await?;
    ensure!(undecided.status.code() == Some(1), "{undecided:?}");
    for line in [
        "Bindings    3 of acrpull.microsoft.com/v1beta2, 2 of msi-acrpull.microsoft.com/v1beta1".to_owned(),
        "In the way (1)".to_owned(),
        format!("AcrPullBinding.v1beta2 {}/mixed: AccountRefDiffers", team.namespace()),
        "bindings that carry it: 5 (".to_owned(),
        "link in ServiceAccount web kept in place and recorded, Secret acr-pull-web taken over in place, finalizer of \
         Azure/msi-acrpull removed, one token fetched at once"
            .to_owned(),
        format!("issuer    {}", bench.stack.plane().issuer()),
        format!("system:serviceaccount:{}:web", team.namespace()),
    ] {
        ensure!(undecided.stdout.contains(&line), "{line}\n{}", undecided.stdout);
    }
    // The role of the documents lets it look at everything.
    ensure!(!undecided.stdout.contains("NotLookedAt"), "{}", undecided.stdout);

    let decided = bench
        .preflight(team, &["-o", "json", "--service-account-ref=use"])
        .await?;
    let report: Value = serde_json::from_str(&decided.stdout).context(decided.stderr.clone())?;
    let findings = report.get("findings").and_then(Value::as_array);
    let findings = findings.context("no findings")?;
    ensure!(
        decided.status.code() == Some(0)
            && findings.iter().all(|finding| finding
                .get("severity")
                .is_some_and(|severity| severity != "blocker")),
        "{report:#}"
    );
    Ok(())
}

/// The grants, and what the broker makes of them.
async fn grants(bench: &Bench<'_>, team: &Team<'_>) -> anyhow::Result<()> {
    let printed = bench
        .preflight(
            team,
            &[
                "--grants-only",
                "--federated-grants",
                "--cluster",
                CLUSTER,
                "--tenant",
                TENANT,
            ],
        )
        .await?;
    let file = bench.stack.plane().directory().join("preflight-broker.yaml");
    let enforced = GOOD.replace(
        "  syncers:",
        &format!("  grants: {{federated: enforce}}\n  defaultTenant: {TENANT}\n  syncers:"),
    );
    std::fs::write(&file, format!("{enforced}{}", printed.stdout))?;
    let file = file.to_str().context("a path that is no text")?;
    let checked = bench
        .broker(&["check-config", "--config", file])
        .await?
        .success()?;
    ensure!(
        checked.contains("broker-owned identities: 3, grants: 4"),
        "{checked}"
    );

    let namespace = team.namespace();
    for (number, request) in left::REQUESTS.iter().enumerate() {
        let judge = async |namespace: &str, request: &str| {
            let words = [
                "grants",
                "test",
                "--config",
                file,
                "--cluster",
                CLUSTER,
                "--namespace",
                namespace,
            ];
            let arguments: Vec<&str> = words.into_iter().chain(request.split_whitespace()).collect();
            let Output {
                status,
                stdout,
                stderr,
            } = bench.broker(&arguments).await?;
            ensure!(stderr.is_empty(), "{stderr}");
            status.code().context("it was killed").map(|code| (code, stdout))
        };
        let (code, answer) = judge(namespace, request).await?;
        ensure!(code == 0, "{number}: {answer}");
        // Nothing broader: another namespace, account, registry, repository, action, or all of the registry.
        let (code, answer) = judge("other", request).await?;
        ensure!(code == 1, "{number}: {answer}");
        for (asked, other) in [
            ("--service-account ", "--service-account other-"),
            ("--registry reg", "--registry other"),
            ("repository:team/", "repository:other/"),
            (":pull", ":push"),
            ("-00000000000", "-0000000000f"),
        ] {
            if request.contains(asked) {
                let (code, answer) = judge(namespace, &request.replace(asked, other)).await?;
                ensure!(code == 1, "{number} with {other}: {answer}");
            }
        }
        if !request.contains("--scope") {
            let (code, answer) =
                judge(namespace, &format!("{request} --scope repository:team/web:pull")).await?;
            ensure!(code == 1, "{number} with a scope: {answer}");
        }
    }
    Ok(())
}

impl<'a> Bench<'a> {
    async fn new(stack: &'a Stack, team: &Team<'_>) -> anyhow::Result<Self> {
        let plane = stack.plane();
        let token = plane
            .service_account_token(team.namespace(), READER, &[], Duration::from_mins(10))
            .await?;
        let token_file = plane.directory().join("preflight-token");
        std::fs::write(&token_file, token)?;
        Ok(Self {
            stack,
            binaries: Binaries::of(&["broker", "syncer"]).await?,
            kubeconfig: plane.kubeconfig_for_token_file(&token_file)?,
        })
    }

    async fn preflight(&self, team: &Team<'_>, arguments: &[&str]) -> anyhow::Result<Output> {
        let program = Program::new(self.binaries.path("syncer")?)
            .clear_env()
            .env("KUBECONFIG", &self.kubeconfig)
            .args(["preflight", "-n", team.namespace()])
            .args(arguments);
        let output = self.stack.plane().supervisor().run(&program, TIMEOUT).await?;
        ensure!(output.stderr.is_empty(), "{}", output.stderr);
        Ok(output)
    }

    async fn broker(&self, arguments: &[&str]) -> anyhow::Result<Output> {
        let program = Program::new(self.binaries.path("broker")?)
            .clear_env()
            .args(arguments);
        self.stack.plane().supervisor().run(&program, TIMEOUT).await
    }
}

/// The role of the documents, and who has it.
struct Role {
    roles: Api<ClusterRole>,
    bindings: Api<ClusterRoleBinding>,
    name: String,
}

async fn role(stack: &Stack, team: &Team<'_>) -> anyhow::Result<Role> {
    team.create_account(READER, &[], &[]).await?;
    let document = std::fs::read_to_string(DOCUMENT)?;
    let (_before, rest) = document.rsplit_once("```yaml\n").context("no role")?;
    let (yaml, _after) = rest.split_once("```").context("no end of the role")?;
    let mut role: ClusterRole = serde_saphyr::from_str(yaml)?;
    let name = team.namespace().to_owned();
    role.metadata.name = Some(name.clone());
    let binding = ClusterRoleBinding {
        metadata: ObjectMeta {
            name: Some(name.clone()),
            ..ObjectMeta::default()
        },
        role_ref: RoleRef {
            api_group: "rbac.authorization.k8s.io".to_owned(),
            kind: "ClusterRole".to_owned(),
            name: name.clone(),
        },
        subjects: Some(vec![Subject {
            kind: "ServiceAccount".to_owned(),
            name: READER.to_owned(),
            namespace: Some(team.namespace().to_owned()),
            ..Subject::default()
        }]),
    };
    let roles = Api::all(stack.client()?);
    let bindings = Api::all(stack.client()?);
    roles.create(&PostParams::default(), &role).await?;
    bindings.create(&PostParams::default(), &binding).await?;
    Ok(Role {
        roles,
        bindings,
        name,
    })
}

impl Role {
    async fn remove(&self) -> anyhow::Result<()> {
        self.bindings.delete(&self.name, &DeleteParams::default()).await?;
        self.roles.delete(&self.name, &DeleteParams::default()).await?;
        Ok(())
    }
}

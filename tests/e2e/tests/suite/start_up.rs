//! What a start costs beside Secrets that are none of the syncer's business: Helm keeps a megabyte in each of its own.

use anyhow::Context as _;
use e2e::{Pod, Stack};
use futures::{StreamExt as _, TryStreamExt as _, stream};
use k8s_openapi::ByteString;
use k8s_openapi::api::core::v1::Secret;
use kube::api::{ObjectMeta, PostParams};
use syncer::binding::ApiVersion;

use crate::shared::{EITHER_API, ELSEWHERE, beside_others};
use crate::side::{ACCOUNT, OWN, SCOPE, Side};

const FOREIGN: usize = 200;
/// A little less than the API server takes.
const SIZE: usize = 1_000_000;
/// Written at a time.
const AT_ONCE: usize = 4;
/// What the most that a process has ever had in memory may differ by, from one start to the next.
const DIFFERENCE_KIB: u64 = 24 * 1024;
/// The same for what the API server sends. Others list Secrets meanwhile, small ones.
const ANSWERS: f64 = 20e6;

#[test]
fn b27_start_beside_200_secrets_of_a_megabyte_reads_none_of_them() -> anyhow::Result<()> {
    beside_others(async |stack| {
        let team = stack.team(EITHER_API.prefix).await?;
        team.create_account(ACCOUNT, &[OWN], &[]).await?;
        let sides = ApiVersion::ALL.map(|api| Side::new(&team, api));
        let arguments = [
            format!("--label-selector={ELSEWHERE}=start-up"),
            // Otherwise it would stand by: the stack's syncer holds the Lease.
            "--leader-elect=false".to_owned(),
        ];
        let syncer = stack
            .syncer()
            .another("acrpull-syncer-start-up", &arguments)
            .await?;
        works(&sides, "before").await?;
        let before = most_kib(&syncer)?;
        syncer.stop().await;

        let secrets = team.api::<Secret>();
        let params = PostParams::default();
        let foreign = (0..FOREIGN).map(async |number| {
            let secret = Secret {
                metadata: ObjectMeta {
                    name: Some(format!("release-{number}")),
                    ..ObjectMeta::default()
                },
                data: Some([("release".to_owned(), ByteString(vec![b'a'; SIZE]))].into()),
                ..Secret::default()
            };
            secrets.create(&params, &secret).await
        });
        stream::iter(foreign)
            .buffer_unordered(AT_ONCE)
            .try_for_each(async |_created| Ok(()))
            .await?;

        let sent = listed(stack).await?;
        syncer.start().await?;
        works(&sides, "after").await?;
        let (sent, after) = (listed(stack).await? - sent, most_kib(&syncer)?);
        syncer.stop().await;
        println!(
            "{before} KiB at most without them, {after} KiB with them; {sent} bytes of lists of Secrets"
        );
        assert!(
            after <= before + DIFFERENCE_KIB,
            "{after} KiB instead of {before} KiB"
        );
        assert!(sent <= ANSWERS, "{sent} bytes");
        Ok(())
    })
}

/// Everything has been read that is needed to serve a binding.
async fn works(sides: &[Side<'_>], name: &str) -> anyhow::Result<()> {
    for side in sides {
        side.create_labelled(name, &side.spec(ACCOUNT, SCOPE), &[(ELSEWHERE, "start-up")])
            .await?;
        side.ready(name).await?;
    }
    Ok(())
}

/// The most that the process has had in memory since its start.
fn most_kib(pod: &Pod) -> anyhow::Result<u64> {
    let pid = pod.pid().context("it does not run")?;
    let status = std::fs::read_to_string(format!("/proc/{pid}/status"))?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"));
    let number = line.context("no VmHWM")?.trim().trim_end_matches(" kB");
    Ok(number.parse()?)
}

/// How much the API server has sent in lists of Secrets, by its own count.
async fn listed(stack: &Stack) -> anyhow::Result<f64> {
    let metrics = stack.plane().kubectl(&["get", "--raw", "/metrics"]).await?;
    let lists = metrics.lines().filter(|line| {
        line.starts_with("apiserver_response_sizes_sum{")
            && line.contains("resource=\"secrets\"")
            && line.contains("verb=\"LIST\"")
    });
    let sizes: Vec<f64> = lists
        .filter_map(|line| line.rsplit(' ').next()?.parse().ok())
        .collect();
    anyhow::ensure!(!sizes.is_empty(), "the API server does not count its answers");
    Ok(sizes.iter().sum())
}

//! Renewal: in place, before the end, and not without need.

use std::time::Duration;

use azure_simulator::{Operation, Service};
use e2e::{Team, binding, wait_for};
use jiff::Timestamp;

use crate::shared::beside_others;

const SCOPE: &str = "repository:team/web:pull";

/// The shortest life that is handed out at all is 60 s; half to two thirds of it later comes the next token.
const SHORT_LIFE_S: u64 = 64;
const SHORT_LIFE: Duration = Duration::from_secs(SHORT_LIFE_S);

#[test]
fn refresh_of_a_short_token_rotates_the_secret_in_place() -> anyhow::Result<()> {
    beside_others(async |stack| {
        let team = stack.team("refresh").await?;
        stack
            .azure()
            .update(|state| state.registry_mut(team.registry()).unwrap().access_ttl_s = SHORT_LIFE_S)
            .await?;
        let application = team.federated_account("web").await?;
        team.create(&binding::workload_identity("web", "web", team.registry(), SCOPE))
            .await?;
        team.ready("web").await?;
        let first = team.secret("web").await?;
        let (_version, uid) = first.version();

        let password = &first.login(team.registry())?.password;
        wait_for("the token is rotated", SHORT_LIFE, async || {
            Ok(team.secret("web").await?.login(team.registry())?.password != *password)
        })
        .await?;
        let second = team.secret("web").await?;
        assert_eq!(second.version().1, uid, "the Secret was replaced");
        assert!(Timestamp::now() < expiry(&first)?, "the first token had expired");
        assert!(expiry(&second)? > expiry(&first)?);
        let ready = team.ready("web").await?;
        let became_ready = &e2e::condition(&ready, "Ready").unwrap().last_transition_time;
        assert!(
            became_ready.0 < Timestamp::now() - SHORT_LIFE / 4,
            "it was not Ready all the time"
        );

        // The refresh token outlives both access tokens.
        let calls = stack.azure().calls().await?;
        assert_eq!(
            calls
                .clone()
                .of(Service::Entra, Operation::Token)
                .client_id(&application.client_id)
                .count(),
            1
        );
        assert_eq!(
            calls
                .of(Service::Acr, Operation::Token)
                .host(team.registry())
                .count(),
            2
        );
        Ok(())
    })
}

#[test]
fn refresh_that_is_asked_for_too_early_is_answered_not_modified() -> anyhow::Result<()> {
    beside_others(async |stack| {
        let team = stack.team("refresh-early").await?;
        team.federated_account("web").await?;
        team.create(&binding::workload_identity("web", "web", team.registry(), SCOPE))
            .await?;
        team.ready("web").await?;
        let first = team.secret("web").await?;
        let not_modified = answered_not_modified(stack.broker()).await?;

        team.request_refresh("web", "now").await?;
        answered(&team, "web", "now").await?;
        let second = team.secret("web").await?;
        assert_eq!(second.docker_config, first.docker_config);
        assert_eq!(second.version().1, first.version().1);
        assert_eq!(expiry(&second)?, expiry(&first)?);
        assert!(answered_not_modified(stack.broker()).await? > not_modified);
        assert_eq!(
            stack
                .azure()
                .calls()
                .await?
                .of(Service::Acr, Operation::Token)
                .host(team.registry())
                .count(),
            1
        );
        Ok(())
    })
}

async fn answered(team: &Team<'_>, binding: &str, value: &str) -> anyhow::Result<()> {
    wait_for(
        "the request for a refresh is answered",
        Duration::from_secs(15),
        async || {
            let secret = team.secret(binding).await?;
            Ok(secret.annotation("acrpull.microsoft.com/refresh-requested") == Some(value))
        },
    )
    .await
}

fn expiry(secret: &e2e::PullSecret) -> anyhow::Result<Timestamp> {
    Ok(secret
        .annotation("acr.microsoft.com/token.expiry")
        .unwrap_or_default()
        .parse()?)
}

/// How often the broker has told a caller to keep what it has.
async fn answered_not_modified(broker: &e2e::Pod) -> anyhow::Result<u64> {
    let metrics = broker.metrics().await?;
    let counters = metrics
        .lines()
        .filter(|line| line.starts_with("acrpull_broker_requests_total{"));
    let counters = counters.filter(|line| line.contains(r#"="not_modified""#));
    Ok(counters
        .filter_map(|line| line.rsplit_once(' ')?.1.parse::<u64>().ok())
        .sum())
}

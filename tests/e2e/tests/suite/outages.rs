//! What goes away and comes back: the broker, the syncer, Azure.

use std::time::Duration;

use azure_simulator::{Action, Fault, HangAt, Service};
use e2e::binding::{self, condition};
use e2e::wait_for;
use jiff::{SignedDuration, Timestamp};

use crate::shared::{alone, beside_others};
use crate::side::{ACCOUNT, in_both_apis_alone};

const SCOPE: &str = "repository:team/web:pull";
/// A token younger than this is not renewed, whoever asks; one with less left is not handed out.
const YOUNG: Duration = Duration::from_secs(60);
const FLOOR: Duration = Duration::from_secs(60);
/// How long after that a refresh may be asked for, and be given up by the broker, in an Azure that says nothing.
const SLACK: Duration = Duration::from_secs(12);

#[test]
fn secret_survives_restarts_of_broker_and_syncer_without_a_write() -> anyhow::Result<()> {
    alone(async |stack| {
        let team = stack.team("restart").await?;
        let application = team.federated_account("web").await?;
        let later = team.federated_account("later").await?;
        team.create(&binding::workload_identity("web", "web", team.registry(), SCOPE))
            .await?;
        team.ready("web").await?;
        let before = team.secret("web").await?.version();
        let status = team.ready("web").await?.metadata.resource_version;

        stack.broker().restart().await?;
        stack.syncer().restart().await?;
        // By the time that another binding has made the whole way, the first one has been looked at.
        team.create(&binding::workload_identity(
            "later",
            "later",
            team.registry(),
            SCOPE,
        ))
        .await?;
        team.ready("later").await?;
        assert_eq!(
            team.secret("web").await?.version(),
            before,
            "the Secret was written"
        );
        assert_eq!(
            team.ready("web").await?.metadata.resource_version,
            status,
            "the status was written"
        );
        let calls = stack.azure().calls().await?;
        assert_eq!(
            calls
                .clone()
                .client_id(&application.client_id)
                .to(Service::Entra)
                .count(),
            1
        );
        assert_eq!(calls.client_id(&later.client_id).to(Service::Entra).count(), 1);
        Ok(())
    })
}

#[test]
fn binding_of_a_dead_broker_says_so_and_recovers_by_itself() -> anyhow::Result<()> {
    in_both_apis_alone(async |stack, side| {
        stack.broker().stop().await;
        let created = side.create("one", &side.spec(ACCOUNT, SCOPE)).await;
        let refused = side.refused("one", "CredentialIssued", "BrokerUnreachable").await;
        stack.broker().start().await?;
        created?;
        refused?;
        side.ready("one").await?;
        Ok(())
    })
}

#[test]
fn s5_stopped_broker_leaves_every_secret_as_it_is() -> anyhow::Result<()> {
    in_both_apis_alone(async |stack, side| {
        side.create("one", &side.spec(ACCOUNT, SCOPE)).await?;
        side.ready("one").await?;
        let before = side.secret("one").await?;

        stack.broker().stop().await;
        // Even where somebody insists on another one.
        side.request_refresh("one", "now").await?;
        let failing = side.condition("one", "RefreshDegraded", "True").await;
        let during = side.secret("one").await;
        stack.broker().start().await?;
        assert_eq!(during?.version(), before.version(), "the Secret was touched");
        let ready = failing?.conditions.into_iter().find(|one| one.type_ == "Ready");
        assert_eq!(ready.map(|ready| ready.status).as_deref(), Some("True"));
        side.condition("one", "RefreshDegraded", "False").await?;
        Ok(())
    })
}

#[test]
fn s4_black_hole_instead_of_azure_leaves_the_secret_valid_until_it_is_renewed() -> anyhow::Result<()> {
    beside_others(async |stack| {
        let team = stack.team("black-hole").await?;
        let life = YOUNG + FLOOR + SLACK;
        stack
            .azure()
            .update(|state| state.registry_mut(team.registry()).unwrap().access_ttl_s = life.as_secs())
            .await?;
        team.federated_account("web").await?;
        team.create(&binding::workload_identity("web", "web", team.registry(), SCOPE))
            .await?;
        team.ready("web").await?;
        let first = team.secret("web").await?;
        let black_hole = Fault {
            to: Some(Timestamp::now() + SignedDuration::try_from(YOUNG + SLACK / 2)?),
            ..Fault::new(Action::Hang { at: HangAt::Tls }).on_service(Service::Acr)
        };
        stack.azure().add_fault(black_hole.host(team.registry())).await?;

        let until_old = refreshed_at(&first)? + SignedDuration::try_from(YOUNG + Duration::from_secs(1))?;
        wait_for("the token is no longer young", life, async || {
            Ok(Timestamp::now() >= until_old)
        })
        .await?;
        team.request_refresh("web", "now").await?;
        let degraded = team
            .wait_binding("web", "says that nothing is renewed", SLACK, |binding| {
                condition(binding, "RefreshDegraded").is_some_and(|degraded| degraded.status == "True")
            })
            .await?;
        assert_eq!(condition(&degraded, "Ready").unwrap().status, "True");
        let during = team.secret("web").await?;
        // Its times may be written, and that the request was heard.
        assert_eq!(
            during.docker_config, first.docker_config,
            "the payload was touched"
        );
        assert_eq!(expiry(&during)?, expiry(&first)?);

        wait_for("the token is renewed", life, async || {
            Ok(team.secret("web").await?.docker_config != first.docker_config)
        })
        .await?;
        assert!(Timestamp::now() < expiry(&first)?, "the first token had expired");
        let healthy = team
            .wait_binding("web", "has recovered", SLACK, |binding| {
                condition(binding, "RefreshDegraded").is_some_and(|degraded| degraded.status == "False")
            })
            .await?;
        let became_ready = &condition(&healthy, "Ready").unwrap().last_transition_time;
        assert!(became_ready.0 < until_old, "it was not Ready all the time");
        Ok(())
    })
}

fn expiry(secret: &e2e::PullSecret) -> anyhow::Result<Timestamp> {
    Ok(secret
        .annotation("acr.microsoft.com/token.expiry")
        .unwrap_or_default()
        .parse()?)
}

fn refreshed_at(secret: &e2e::PullSecret) -> anyhow::Result<Timestamp> {
    Ok(secret
        .annotation("acr.microsoft.com/token.refresh")
        .unwrap_or_default()
        .parse()?)
}

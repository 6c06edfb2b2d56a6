//! Azure is dark for longer than a token lives.

use std::time::Duration;

use azure_simulator::{Action, Fault, HangAt, Service};
use e2e::{PullSecret, wait_for};
use futures::future::try_join_all;
use jiff::{SignedDuration, Timestamp};
use k8s_openapi::api::events::v1::Event;
use kube::api::ListParams;
use syncer::binding::ApiVersion;
use syncer::crd::AcrPullBindingStatus;

use crate::shared::{EXPIRING, SHORT_LIFE_S, beside_others};
use crate::side::{ACCOUNT, OWN, Side};

/// How long it stays dark after that.
const LONGER: Duration = Duration::from_secs(5);
/// Until the end of a token, and for a pass.
const EXPIRED: Duration = Duration::from_secs(SHORT_LIFE_S + 5);
/// The longest pause between two attempts, and for a pass.
const RECOVERED: Duration = Duration::from_secs(65);

#[test]
fn token_that_expires_in_the_dark_is_told_once_and_left_and_its_successor_is_told() -> anyhow::Result<()> {
    beside_others(async |stack| {
        let team = stack.team(EXPIRING.prefix).await?;
        team.create_account(ACCOUNT, &[OWN], &[]).await?;
        let sides = ApiVersion::ALL.map(|api| Side::new(&team, api));
        let before = try_join_all(sides.iter().map(async |side| {
            // A token for each.
            let scope = format!("repository:team/{}:pull", side.api.version());
            let spec = side.spec_for(&EXPIRING, ACCOUNT, &scope);
            side.create(side.api.version(), &spec).await?;
            side.ready(side.api.version()).await?;
            side.secret(side.api.version()).await
        }))
        .await?;
        let ends: Vec<Timestamp> = before.iter().map(expiry).collect::<Result<_, _>>()?;
        let light = ends
            .into_iter()
            .max()
            .map(|end| SignedDuration::try_from(LONGER).map(|more| end + more));
        let dark = Fault {
            to: light.transpose()?,
            ..Fault::new(Action::Hang {
                at: HangAt::BeforeHeaders,
            })
            .on_service(Service::Acr)
        };
        stack.azure().add_fault(dark.host(EXPIRING.registry)).await?;

        let all = async |is_so: &dyn Fn(&AcrPullBindingStatus) -> bool| {
            let found = try_join_all(sides.iter().map(|side| side.get(side.api.version()))).await?;
            anyhow::Ok(found.iter().all(|(_binding, status)| is_so(status)))
        };
        wait_for("both have expired", EXPIRED, async || {
            all(&|status| is(status, "Ready", "False") && is(status, "CredentialIssued", "False")).await
        })
        .await?;
        for (side, before) in sides.iter().zip(&before) {
            let during = side.secret(side.api.version()).await?;
            assert!(Timestamp::now() >= expiry(&during)?, "it is valid still");
            assert_eq!(
                during.docker_config, before.docker_config,
                "the payload was touched"
            );
            assert_eq!(expiry(&during)?, expiry(before)?);
            assert_eq!(during.version().1, before.version().1, "the Secret was replaced");
        }

        wait_for("both have recovered", RECOVERED, async || {
            all(&|status| is(status, "Ready", "True")).await
        })
        .await?;
        for (side, before) in sides.iter().zip(&before) {
            let after = side.secret(side.api.version()).await?;
            assert_ne!(after.docker_config, before.docker_config);
            assert_eq!(after.version().1, before.version().1, "the Secret was replaced");
            wait_for("the recovery is told", LONGER, async || {
                Ok(told(side, "CredentialRecovered").await? == 1)
            })
            .await?;
            assert_eq!(told(side, "CredentialExpired").await?, 1, "{}", side.api.as_str());
        }
        Ok(())
    })
}

fn expiry(secret: &PullSecret) -> anyhow::Result<Timestamp> {
    let time = secret.annotation("acr.microsoft.com/token.expiry");
    Ok(time.unwrap_or_default().parse()?)
}

fn is(status: &AcrPullBindingStatus, kind: &str, value: &str) -> bool {
    let mut conditions = status.conditions.iter();
    conditions.any(|condition| condition.type_ == kind && condition.status == value)
}

/// How often the side's binding was told about with this reason.
async fn told(side: &Side<'_>, reason: &str) -> anyhow::Result<i32> {
    let events = side.team.api::<Event>().list(&ListParams::default()).await?;
    let about = events.items.iter().filter(|event| {
        let regarding = event.regarding.as_ref();
        event.reason.as_deref() == Some(reason)
            && regarding.is_some_and(|regarding| regarding.name.as_deref() == Some(side.api.version()))
    });
    Ok(about
        .map(|event| event.series.as_ref().map_or(1, |series| series.count))
        .sum())
}

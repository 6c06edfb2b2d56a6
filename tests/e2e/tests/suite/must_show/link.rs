//! The link waits for nobody.

use std::time::Duration;

use e2e::Stack;
use rustix::process::Signal;
use tokio::time::Instant;

use crate::side::{ACCOUNT, OWN, SCOPE, Side, in_both_apis_alone};

/// The promise.
const LINKED: Duration = Duration::from_secs(1);

#[test]
fn b15_link_is_there_within_a_second_while_azure_is_dark() -> anyhow::Result<()> {
    in_both_apis_alone(async |stack, side| {
        // A broker that stands still asks nobody for anything: it is as dark as it gets.
        stack.broker().signal(Signal::STOP);
        let linked = linked_in_the_dark(stack, side).await;
        stack.broker().signal(Signal::CONT);
        let took = linked?;
        println!("{}: linked after {took:?} with Azure dark", side.api.as_str());
        assert!(took <= LINKED, "it took {took:?}");
        side.ready("one").await?;
        Ok(())
    })
}

async fn linked_in_the_dark(stack: &Stack, side: &Side<'_>) -> anyhow::Result<Duration> {
    let calls = stack.azure().calls().await?.count();
    let from = Instant::now();
    side.create("one", &side.spec(ACCOUNT, SCOPE)).await?;
    let links = [OWN, &side.secret_name("one")];
    side.team.wait_links(ACCOUNT, &links).await?;
    let took = from.elapsed();
    assert!(
        side.secret("one").await.is_err(),
        "there is a Secret although nobody was asked"
    );
    assert_eq!(stack.azure().calls().await?.count(), calls, "Azure was asked");
    Ok(took)
}

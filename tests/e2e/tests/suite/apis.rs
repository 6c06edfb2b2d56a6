//! Both APIs: whatever holds for the bindings of one holds for those of the other. Each scenario is played for both.

mod accounts;
mod contested;
mod defaults;
mod installed;
mod life;
mod neighbours;
mod secrets;
mod side;

use anyhow::Context as _;
use e2e::Stack;
use syncer::binding::ApiVersion;

use self::side::Side;
use crate::shared::{EITHER_API, beside_others};

/// The ServiceAccount of most scenarios, and what it lists before.
const ACCOUNT: &str = "web";
const OWN: &str = "own";
/// What most bindings ask for.
const SCOPE: &str = "repository:team/web:pull";

/// Plays a scenario for bindings of each API, one after the other, in a namespace of its own with a ServiceAccount [`ACCOUNT`].
#[expect(clippy::needless_pass_by_value, reason = "the scenario is written in place")]
fn in_both_apis(scenario: impl AsyncFn(&Stack, &Side<'_>) -> anyhow::Result<()>) -> anyhow::Result<()> {
    beside_others(async |stack| {
        for api in ApiVersion::ALL {
            let team = stack.team(EITHER_API.prefix).await?;
            team.create_account(ACCOUNT, &[OWN], &[]).await?;
            let side = Side::new(&team, api);
            scenario(stack, &side).await.with_context(|| api.as_str())?;
        }
        Ok(())
    })
}

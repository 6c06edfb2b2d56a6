//! One stack for all tests of this binary, and what its broker's configuration must know before any of them starts.
//!
//! Tests run side by side, each as a team with a namespace, a registry and identities of its own. A test that stops a
//! process or looks at all that happens takes the stack [`alone`], and one takes it [`last`]. Rust drops no statics: the stack ends with the process,
//! by its watchdogs.

pub(crate) mod life_events;
pub(crate) mod peer_left;

use std::sync::LazyLock;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use anyhow::{Context as _, anyhow};
use azure_simulator::{ArmPolicy, Cloud, Registry, Role, State};
use e2e::{ExtraCloud, Stack, StackOptions, TENANT, VmIdentity};
use serde_json::{Value, json};
use syncer::binding::Defaults;
use tokio::runtime::Runtime;
use tokio::sync::{OnceCell, RwLock};

use crate::cluster_tokens::NEIGHBOUR;

/// No test may hang the run.
const TIME_LIMIT: Duration = Duration::from_secs(180);

/// How often the last test looks whether others have ended.
const LOOK: Duration = Duration::from_millis(100);

/// Tests that have begun and not ended, those that wait for the stack included.
static UNDER_WAY: AtomicUsize = AtomicUsize::new(0);

/// Whether the last test has begun.
static IS_OVER: AtomicBool = AtomicBool::new(false);

/// One runtime for all, because clients and collectors work in the runtime that they were made in.
static RUNTIME: LazyLock<Result<Runtime, String>> =
    LazyLock::new(|| Runtime::new().map_err(|error| format!("no runtime: {error}")));

/// Started by the first test. What could not be started once is not tried again by every test.
static STACK: OnceCell<Result<RwLock<Stack>, String>> = OnceCell::const_new();

/// An identity of the broker that a grant allows for teams with a prefix, at one registry.
pub(crate) struct Granted {
    /// Beginning of the namespaces' names.
    pub(crate) prefix: &'static str,
    /// The registry.
    pub(crate) registry: &'static str,
    number: u8,
}

/// For the binding by client ID.
pub(crate) const BY_CLIENT_ID: Granted = Granted {
    prefix: "client-id",
    registry: "by-client-id.azurecr.io",
    number: 1,
};
/// For the binding by resource ID.
pub(crate) const BY_RESOURCE_ID: Granted = Granted {
    prefix: "resource-id",
    registry: "by-resource-id.azurecr.io",
    number: 2,
};
/// For what a grant does not allow.
pub(crate) const NARROW: Granted = Granted {
    prefix: "narrow",
    registry: "narrow.azurecr.io",
    number: 3,
};
/// For requests without a scope.
pub(crate) const REGISTRY_WIDE: Granted = Granted {
    prefix: "wide",
    registry: "wide.azurecr.io",
    number: 4,
};
/// For what holds for bindings of both APIs.
pub(crate) const EITHER_API: Granted = Granted {
    prefix: "either-api",
    registry: "either-api.azurecr.io",
    number: 16,
};
/// For bindings of `v1beta1` that leave everything out.
pub(crate) const V1BETA1_DEFAULT: Granted = Granted {
    prefix: "v1beta1-default",
    registry: "v1beta1-default.azurecr.io",
    number: 17,
};

/// For bindings that change over from [`EITHER_API`]: its namespaces have that grant as well.
pub(crate) const EITHER_API_NEXT: Granted = Granted {
    prefix: "either-api-next",
    registry: "either-api-next.azurecr.io",
    number: 64,
};
/// For a registry that takes no tokens for Azure Resource Manager.
pub(crate) const NO_ARM: Granted = Granted {
    prefix: "no-arm",
    registry: "no-arm.azurecr.io",
    number: 65,
};
/// For a registry that a test makes slow. Its namespaces have the grant of [`EITHER_API`] as well.
pub(crate) const SLOW: Granted = Granted {
    prefix: "either-api-slow",
    registry: "either-api-slow.azurecr.io",
    number: 71,
};
/// For an identity whose role on the registry comes late: a test assigns it.
pub(crate) const LATE_ROLE: Granted = Granted {
    prefix: "late-role",
    registry: "late-role.azurecr.io",
    number: 66,
};
/// For a registry whose tokens live for [`SHORT_LIFE_S`].
pub(crate) const SHORT_LIVED: Granted = Granted {
    prefix: "short-lived",
    registry: "short-lived.azurecr.io",
    number: 67,
};

/// The same, and a test makes the registry fail.
pub(crate) const FAILING: Granted = Granted {
    prefix: "failing",
    registry: "failing.azurecr.io",
    number: 68,
};

/// For a registry with tokens as short-lived, which goes dark until they have expired.
pub(crate) const EXPIRING: Granted = Granted {
    prefix: "expiring",
    registry: "expiring.azurecr.io",
    number: 69,
};
/// For a registry whose calls one test counts.
pub(crate) const COUNTED: Granted = Granted {
    prefix: "counted",
    registry: "counted.azurecr.io",
    number: 70,
};

/// For bindings that are looked at while a clock is wrong.
pub(crate) const STEPPED: Granted = Granted {
    prefix: "stepped",
    registry: "stepped.azurecr.io",
    number: 80,
};
/// The same with short-lived tokens. Its namespaces have the grant of [`STEPPED`] as well.
pub(crate) const STEPPED_SOON: Granted = Granted {
    prefix: "stepped-soon",
    registry: "stepped-soon.azurecr.io",
    number: 81,
};

/// Seconds. A token is handed out until 60 s before its end: this one is due for renewal after half of its life or a little more.
pub(crate) const SHORT_LIFE_S: u64 = 64;

/// A binding with this label is left alone by the stack's syncer: the test runs one of its own for it.
pub(crate) const ELSEWHERE: &str = "e2e.example/elsewhere";

/// A cloud that the broker's configuration adds, and its one tenant.
pub(crate) const PRIVATE_CLOUD: ExtraCloud = ExtraCloud {
    name: "private",
    authority: "login.private.example",
    registry_suffix: "azurecr.private.example",
};
pub(crate) const PRIVATE_TENANT: &str = "66666666-6666-6666-6666-666666666666";

/// For what Azure/msi-acrpull left.
pub(crate) const HANDOVER: Granted = Granted {
    prefix: "handover",
    registry: "handover.azurecr.io",
    number: 30,
};

/// Beginning of the names of namespaces whose ServiceAccounts may ask for themselves.
pub(crate) const WORKLOADS: &str = "itself";

/// A registry that the broker may ask and nobody serves: the way to it leads into the stack's trap.
pub(crate) const LURE: &str = "lure.azurecr.io";

/// Hosts that nobody may be sent to, as a broker's configuration names hosts. Bindings of tests ask for them.
const TRAPPED: [&str; 7] = [
    LURE,
    "thief.example",
    "*.thief.example",
    "*.azurecr.us",
    "*.azurecr.cn",
    "*.azurecr.airgap.example",
    "localhost",
];

/// One test of the stack, as long as it runs.
struct UnderWay;

/// Those at whose registries tokens live for [`SHORT_LIFE_S`].
const SHORT_LIVES: [&str; 5] = [
    SHORT_LIVED.prefix,
    FAILING.prefix,
    EXPIRING.prefix,
    STEPPED_SOON.prefix,
    life_events::CHANGING.prefix,
];

const ALL: [Granted; 17] = [
    BY_CLIENT_ID,
    BY_RESOURCE_ID,
    NARROW,
    REGISTRY_WIDE,
    EITHER_API,
    V1BETA1_DEFAULT,
    EITHER_API_NEXT,
    NO_ARM,
    SLOW,
    LATE_ROLE,
    SHORT_LIVED,
    FAILING,
    EXPIRING,
    COUNTED,
    STEPPED,
    STEPPED_SOON,
    HANDOVER,
];

impl UnderWay {
    fn begin() -> anyhow::Result<Self> {
        UNDER_WAY.fetch_add(1, Ordering::SeqCst);
        let begun = Self;
        anyhow::ensure!(
            !IS_OVER.load(Ordering::SeqCst),
            "this test runs after the search of the whole run: do not shuffle, and name its module to sort before zz_"
        );
        Ok(begun)
    }
}

impl Drop for UnderWay {
    fn drop(&mut self) {
        UNDER_WAY.fetch_sub(1, Ordering::SeqCst);
    }
}

impl Granted {
    /// The identity.
    pub(crate) fn identity(&self) -> VmIdentity {
        VmIdentity::numbered(self.prefix, self.number)
    }

    /// The registry, on which the identity may pull.
    fn simulated(&self) -> Registry {
        let registry = Registry::new(self.registry, TENANT);
        let object_id = self.identity().object_id;
        match self.prefix {
            prefix if prefix == LATE_ROLE.prefix => registry,
            prefix if prefix == NO_ARM.prefix => Registry {
                arm_policy: ArmPolicy::Disabled,
                ..registry.with_role(&object_id, Role::AcrPull)
            },
            prefix if SHORT_LIVES.contains(&prefix) => Registry {
                access_ttl_s: SHORT_LIFE_S,
                ..registry.with_role(&object_id, Role::AcrPull)
            },
            _ => registry.with_role(&object_id, Role::AcrPull),
        }
    }

    fn grant(&self) -> Value {
        let is_wide = [REGISTRY_WIDE.prefix, V1BETA1_DEFAULT.prefix].contains(&self.prefix);
        json!({
            "name": self.prefix,
            "clusters": [e2e::CLUSTER],
            "namespaces": [format!("{}-*", self.prefix)],
            "serviceAccounts": ["web*", "default"],
            "identity": self.prefix,
            "registries": [self.registry],
            "repositories": if is_wide { json!([]) } else { json!(["team/*"]) },
            "registryWide": is_wide,
        })
    }
}

/// Runs a test beside others.
pub(crate) fn beside_others(test: impl AsyncFnOnce(&Stack) -> anyhow::Result<()>) -> anyhow::Result<()> {
    run(async |stack| {
        let stack = stack.read().await;
        in_time(&stack, test).await
    })
}

/// Runs a test while no other runs.
pub(crate) fn alone(test: impl AsyncFnOnce(&Stack) -> anyhow::Result<()>) -> anyhow::Result<()> {
    run(async |stack| {
        let stack = stack.write().await;
        in_time(&stack, test).await
    })
}

/// Runs the one test that looks at what all others have done. It waits for those that have begun, and those that begin
/// later fail: nobody would look at what they do.
pub(crate) fn last(test: impl AsyncFnOnce(&Stack) -> anyhow::Result<()>) -> anyhow::Result<()> {
    run(async |stack| {
        while UNDER_WAY.load(Ordering::SeqCst) > 1 {
            tokio::time::sleep(LOOK).await;
        }
        let stack = stack.write().await;
        IS_OVER.store(true, Ordering::SeqCst);
        in_time(&stack, test).await
    })
}

async fn in_time(stack: &Stack, test: impl AsyncFnOnce(&Stack) -> anyhow::Result<()>) -> anyhow::Result<()> {
    let result = tokio::time::timeout(TIME_LIMIT, test(stack)).await;
    let result = result.unwrap_or_else(|_elapsed| Err(anyhow!("the test did not end within {TIME_LIMIT:?}")));
    result.inspect_err(|_error| stack.plane().keep_logs())
}

fn run(test: impl AsyncFnOnce(&'static RwLock<Stack>) -> anyhow::Result<()>) -> anyhow::Result<()> {
    let _under_way = UnderWay::begin()?;
    let runtime = RUNTIME.as_ref().map_err(|error| anyhow!("{error}"))?;
    runtime.block_on(async {
        let stack = STACK.get_or_init(async || {
            let started = Stack::start(options())
                .await
                .context("the shared stack did not start");
            started.map(RwLock::new).map_err(|error| format!("{error:#}"))
        });
        test(stack.await.as_ref().map_err(|error| anyhow!("{error}"))?).await
    })
}

fn options() -> StackOptions {
    let ExtraCloud {
        name,
        authority,
        registry_suffix,
    } = PRIVATE_CLOUD;
    let azure = State::default()
        .with_cloud(Cloud::named(name, authority, registry_suffix))
        .with_tenant_in(PRIVATE_TENANT, name);
    let all: Vec<&Granted> = ALL.iter().chain(&life_events::ALL).collect();
    let registries = all.iter().map(|granted| granted.simulated());
    let azure = registries
        .chain(peer_left::registries())
        .fold(azure, State::with_registry);
    let identities = all.iter().map(|granted| granted.identity());
    let grants = all.iter().map(|granted| granted.grant());
    StackOptions {
        name: "e2e".to_owned(),
        azure,
        identities: identities.chain([peer_left::puller()]).collect(),
        grants: grants.chain(peer_left::grants()).collect(),
        // The same issuer and another key: two clusters of a fleet.
        more_clusters: vec![NEIGHBOUR.cluster(controlplane::DEFAULT_ISSUER)],
        workloads: vec![format!("{WORKLOADS}-*")],
        registry_domains: [
            "azurecr.io",
            "azurecr.us",
            "azurecr.cn",
            "azurecr.airgap.example",
            PRIVATE_CLOUD.registry_suffix,
        ]
        .map(str::to_owned)
        .into(),
        clouds: vec![PRIVATE_CLOUD],
        label_selector: format!("!{ELSEWHERE}"),
        v1beta1_defaults: Defaults {
            acr_server: V1BETA1_DEFAULT.registry.to_owned(),
            managed_identity_client_id: String::new(),
            managed_identity_resource_id: V1BETA1_DEFAULT.identity().resource_id,
        },
        trapped_hosts: TRAPPED.map(str::to_owned).into(),
        // The most that they ever log, because all of it is searched for secrets.
        log_level: "trace".to_owned(),
        ..StackOptions::default()
    }
}

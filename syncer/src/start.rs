//! Starts the syncer: builds every part, hands it to those that need it, and waits for the end. Decides nothing else.

mod connections;

use std::{
    sync::{Arc, Once},
    time::Duration,
};

use client::{BrokerClient, ClientOptions};
use kube::Client;
use prometheus_client::registry::Registry;
use runtime::{
    Clock, Failure, Shutdown, SystemClock, Tasks, admin::Readiness, telemetry, telemetry::Telemetry,
};

use self::connections::Kubernetes;
use crate::{
    admin_listeners,
    args::{LeadershipArgs, RunArgs, ScopeArgs},
    context::{Context, Limits, Secrets},
    controller, events,
    guard_rails::GuardRails,
    kube_calls::KubeCalls,
    leadership::{Authority, Candidacy, Election, LeaseName, Timing},
    links::LinkKeeper,
    memory::Memory,
    metrics::Metrics,
    namespaces::Namespaces,
    probe,
    seldom::Seldom,
    watches,
};

/// The name in logs and traces.
const SERVICE: &str = "acrpull-syncer";
/// For passes that are in the middle of a write when the process is told to stop; a call takes 15 s at most.
const GRACE: Duration = Duration::from_secs(20);

/// The composition root: builds every part, hands it to those that need it, and waits for the end.
pub(crate) async fn run(args: RunArgs) -> Result<(), Failure> {
    let RunArgs {
        broker_address,
        broker_ca_file,
        broker_client_cert_file,
        broker_client_key_file,
        broker_token_file,
        service_account_token_audience,
        scope,
        service_account_ref,
        defaults,
        leadership,
        workers,
        listeners,
        peer,
        telemetry,
    } = args;
    let timing = leadership.timing()?;
    let ScopeArgs {
        label_selector,
        namespaces,
        allowed_acr_server_suffixes,
        secrets_access,
    } = scope;
    let namespaces: Namespaces = namespaces.into_iter().collect();
    let shutdown = Shutdown::on_signal()?;
    let broker = connections::broker(&ClientOptions {
        address: broker_address,
        ca_file: broker_ca_file,
        client_certificate: connections::certificate(broker_client_cert_file, broker_client_key_file),
        token_file: broker_token_file,
    })?;
    let listeners = admin_listeners::bind(&listeners)?;
    let clock: Arc<dyn Clock> = Arc::new(SystemClock);
    let Kubernetes { client, impatient } = connections::kubernetes(Arc::clone(&clock)).await?;
    // From here on there is something to log; a mistake above is one line and nothing else.
    let telemetry = telemetry::init(SERVICE, &telemetry)?;
    peer.warn();

    let (registry, metrics) = measured(&telemetry, &broker);
    let (election, authority) = elected(leadership, timing, impatient, &clock, &metrics, &shutdown);
    let calls = KubeCalls::new(metrics.clone()).with_authority(authority.clone());
    tokio::select! {
        probed = probe::probe(&client, &calls, &namespaces, &label_selector) => probed?,
        () = shutdown.started() => return Ok(()),
    }

    let guard_rails =
        GuardRails::new(client.clone(), calls.clone(), metrics.clone()).in_namespaces(namespaces.names());
    let (stores, writers) = watches::stores(secrets_access);
    let memory = Arc::new(Memory::new(stores.bindings.clone()));
    let (events, publisher) =
        events::channel(client.clone(), calls.clone(), Arc::clone(&clock), metrics.clone());
    let context = Arc::new(Context {
        events,
        broker,
        token_audience: service_account_token_audience,
        allowed_servers: allowed_acr_server_suffixes.into_iter().collect(),
        secrets: Secrets::of(stores.secrets.clone(), &guard_rails),
        links: LinkKeeper::new(
            stores.accounts.clone(),
            stores.bindings.clone(),
            Arc::clone(&memory),
        ),
        memory,
        news: Arc::default(),
        authority: authority.clone(),
        limits: Limits::new(workers.get()),
        calls,
        metrics,
        clock,
        shutdown: shutdown.clone(),
        older_crd: Once::new(),
        unwritten: Seldom::default(),
        client,
    });

    let readiness = Readiness::default();
    let tasks = Tasks::new(shutdown.clone());
    let wakes = watches::spawn(
        &tasks,
        &readiness,
        &context,
        &stores,
        writers,
        &watches::Scope {
            namespaces: &namespaces,
            selector: label_selector.as_query(),
            account_ref: service_account_ref.into(),
            defaults: defaults.into(),
        },
    );
    tasks.spawn("controller", controller::run(Arc::clone(&context), stores, wakes));
    tasks.spawn("events", publisher.run(shutdown.clone()));
    tasks.spawn("guard rails", guard_rails.watch(authority, shutdown.clone()));
    listeners.serve(&tasks, registry, readiness, shutdown)?;
    let work = tasks.run_until_done(GRACE);
    match election {
        Some(election) => election.during(work).await,
        None => work.await,
    }
}

/// All metrics of the process, and those of them that its own parts count into.
fn measured(telemetry: &Telemetry, broker: &BrokerClient) -> (Registry, Metrics) {
    let mut registry = Registry::default();
    telemetry.register(&mut registry);
    let metrics = Metrics::register(&mut registry);
    broker
        .metrics()
        .register(registry.sub_registry_with_prefix("acrpull_syncer_broker"));
    (registry, metrics)
}

/// The election, if there is one, and the authority that comes from it.
fn elected(
    args: LeadershipArgs,
    timing: Timing,
    client: Client,
    clock: &Arc<dyn Clock>,
    metrics: &Metrics,
    shutdown: &Shutdown,
) -> (Option<Election>, Authority) {
    if !args.leader_elect {
        metrics.leads(true);
        return (None, Authority::endless(Arc::clone(clock)));
    }
    let namespace = args
        .leader_election_namespace
        .unwrap_or_else(|| client.default_namespace().to_owned());
    let election = Election::new(Candidacy {
        client,
        lease: LeaseName {
            namespace,
            name: args.leader_election_id,
        },
        name: args.leader_election_identity,
        timing,
        clock: Arc::clone(clock),
        metrics: metrics.clone(),
        shutdown: shutdown.clone(),
    });
    let authority = election.authority();
    (Some(election), authority)
}

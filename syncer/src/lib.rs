//! The syncer: the only code that talks to Kubernetes.
//!
//! For every `AcrPullBinding` it asks the broker for a registry token, keeps it in a pull Secret, and links the
//! Secret to a ServiceAccount. It holds no Azure credential and knows nothing of Azure's protocols.
//!
//! The path of an event, readable by opening the files in this order: [`watches`] (what changed, and whom it
//! concerns) -> [`controller`] (one pass at a time per object) -> [`reconcile`] (the shell) -> [`snapshot`] (reads)
//! -> [`plan`] (decides, pure) -> [`execute`], [`links`], [`credential`] (do) -> [`status`] (says, pure). Of several
//! replicas one does it: [`leadership`].

mod admin_listeners;
pub mod allowed_servers;
pub mod args;
pub mod binding;
pub mod contest;
pub mod context;
pub mod controller;
pub mod crd;
pub mod credential;
pub mod events;
pub mod execute;
pub mod finalizer;
pub mod guard_rails;
pub mod indexed;
pub mod inputs;
pub mod kube_calls;
pub mod leadership;
pub mod links;
pub mod memory;
pub mod metrics;
pub mod namespaces;
pub mod plan;
mod preflight;
mod probe;
pub mod problem;
pub mod pull_secret;
pub mod reconcile;
#[cfg(test)]
mod samples;
pub mod schedule;
pub mod seldom;
pub mod snapshot;
pub mod status;
pub mod steady;
pub mod turns;
pub mod unread_secret;
pub mod wanted;
pub mod watches;

use std::{
    process::ExitCode,
    sync::{Arc, Once},
    time::Duration,
};

use client::{BrokerClient, ClientCertificate, ClientError, ClientOptions};
use kube::Client;
use prometheus_client::registry::Registry;
use runtime::{Clock, Failure, Shutdown, SystemClock, Tasks, admin::Readiness, telemetry};

use crate::{
    args::{Command, LeadershipArgs, RunArgs, ScopeArgs, SyncerArgs},
    context::{Context, Limits, Secrets},
    guard_rails::GuardRails,
    kube_calls::KubeCalls,
    leadership::{Authority, Candidacy, Election, LeaseName, Timing},
    links::LinkKeeper,
    memory::Memory,
    metrics::Metrics,
    namespaces::Namespaces,
    seldom::Seldom,
};

/// The name in logs and traces.
const SERVICE: &str = "acrpull-syncer";
/// For passes that are in the middle of a write when the process is told to stop; a call takes 15 s at most.
const GRACE: Duration = Duration::from_secs(20);
/// For so long may the API server say nothing on a connection that waits for it: a list has no deadline of its own, and a
/// watch, in which nothing may happen for as long as it lasts, is begun anew before this.
const SILENCE: Duration = Duration::from_secs(75);

/// Does what the command line says.
///
/// # Errors
/// The process cannot go on; the failure says why and what to do.
pub async fn run(args: SyncerArgs) -> Result<ExitCode, Failure> {
    match args.command {
        Command::Crd => print_crds()?,
        Command::Run(run) => synchronize(*run).await?,
        Command::Preflight(args) => return preflight::run(&args).await,
    }
    Ok(ExitCode::SUCCESS)
}

#[expect(clippy::print_stdout, reason = "printing is what the command is for")]
fn print_crds() -> Result<(), Failure> {
    let manifests =
        crd::manifests().map_err(|error| Failure::runtime("cannot print the CRDs").source(error))?;
    print!("{manifests}");
    Ok(())
}

/// The composition root: builds every part, hands it to those that need it, and waits for the end.
async fn synchronize(args: RunArgs) -> Result<(), Failure> {
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
    let client_certificate = broker_client_cert_file
        .zip(broker_client_key_file)
        .map(|(cert_file, key_file)| ClientCertificate { cert_file, key_file });
    let broker = broker(&ClientOptions {
        address: broker_address,
        ca_file: broker_ca_file,
        client_certificate,
        token_file: broker_token_file,
    })?;
    let listeners = admin_listeners::bind(&listeners)?;
    let client = kubernetes().await?;
    // From here on there is something to log; a mistake above is one line and nothing else.
    let telemetry = telemetry::init(SERVICE, &telemetry)?;
    peer.warn();

    let mut registry = Registry::default();
    telemetry.register(&mut registry);
    let metrics = Metrics::register(&mut registry);
    broker
        .metrics()
        .register(registry.sub_registry_with_prefix("acrpull_syncer_broker"));
    let clock: Arc<dyn Clock> = Arc::new(SystemClock);
    let election = leadership
        .leader_elect
        .then(|| election(leadership, timing, &client, &clock, &metrics, &shutdown));
    let authority = election.as_ref().map_or_else(
        || {
            metrics.leads(true);
            Authority::endless(Arc::clone(&clock))
        },
        Election::authority,
    );
    let calls = KubeCalls::new(metrics.clone()).with_authority(authority.clone());
    probe::probe(&client, &calls, &namespaces, &label_selector).await?;

    let guard_rails =
        GuardRails::new(client.clone(), calls.clone(), metrics.clone()).in_namespaces(namespaces.names());
    let (stores, writers) = watches::stores(secrets_access);
    let memory = Arc::new(Memory::new(stores.bindings.clone()));
    let (events, publisher) = events::channel(client.clone(), calls.clone(), Arc::clone(&clock));
    let context = Arc::new(Context {
        events,
        broker,
        token_audience: service_account_token_audience,
        allowed_servers: allowed_acr_server_suffixes.into_iter().collect(),
        secrets: stores.secrets.clone().map_or_else(
            || Secrets::Unread(Box::new(guard_rails.clone())),
            Secrets::Watched,
        ),
        links: LinkKeeper::new(
            stores.accounts.clone(),
            stores.bindings.clone(),
            Arc::clone(&memory),
        ),
        memory,
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
        watches::Scope {
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

fn election(
    args: LeadershipArgs,
    timing: Timing,
    client: &Client,
    clock: &Arc<dyn Clock>,
    metrics: &Metrics,
    shutdown: &Shutdown,
) -> Election {
    let namespace = args
        .leader_election_namespace
        .unwrap_or_else(|| client.default_namespace().to_owned());
    Election::new(Candidacy {
        client: client.clone(),
        lease: LeaseName {
            namespace,
            name: args.leader_election_id,
        },
        name: args.leader_election_identity,
        timing,
        clock: Arc::clone(clock),
        metrics: metrics.clone(),
        shutdown: shutdown.clone(),
    })
}

fn broker(options: &ClientOptions) -> Result<BrokerClient, Failure> {
    // Read when it is needed; looked at here so that a wrong path is told at once.
    if let Err(error) = std::fs::metadata(&options.token_file) {
        let what = format!(
            "cannot read the token file {} (--broker-token-file)",
            options.token_file.display()
        );
        return Err(Failure::runtime(what)
            .remedy("mount a ServiceAccount token for the broker's audience")
            .source(error));
    }
    BrokerClient::new(options).map_err(|error| match &error {
        ClientError::Address { .. } | ClientError::NotHttps { .. } | ClientError::Host { .. } => {
            Failure::usage("--broker-address").source(error)
        }
        ClientError::Ca(_) | ClientError::NoSystemRoots => Failure::runtime("--broker-ca-file")
            .remedy("give a file with the certificate of the authority that signed the broker's certificate")
            .source(error),
        ClientError::Certificate(_) => Failure::runtime("--broker-client-cert-file")
            .remedy("give a PEM certificate chain, and in --broker-client-key-file its key")
            .source(error),
        ClientError::Tls(_) => Failure::runtime("cannot set up the broker's client").source(error),
    })
}

async fn kubernetes() -> Result<Client, Failure> {
    const REMEDY: &str = "run in a Pod with a ServiceAccount, or let KUBECONFIG name a file";
    let mut config = kube::Config::infer().await.map_err(|error| {
        Failure::runtime("cannot find the configuration for Kubernetes")
            .remedy(REMEDY)
            .source(error)
    })?;
    config.read_timeout = Some(SILENCE);
    config.reset_reader_on_write = true;
    Client::try_from(config).map_err(|error| {
        Failure::runtime("cannot use the configuration for Kubernetes")
            .remedy(REMEDY)
            .source(error)
    })
}

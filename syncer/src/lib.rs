//! The syncer: the only code that talks to Kubernetes.
//!
//! For every `AcrPullBinding` it asks the broker for a registry token, keeps it in a pull Secret, and links the
//! Secret to a ServiceAccount. It holds no Azure credential and knows nothing of Azure's protocols.
//!
//! The path of an event, readable by opening the files in this order: [`watches`] (what changed, and whom it
//! concerns) -> [`controller`] (one pass at a time per object) -> [`reconcile`] (the shell) -> [`snapshot`] (reads)
//! -> [`plan`] (decides, pure) -> [`execute`], [`links`], [`credential`] (do) -> [`status`] (says, pure).

pub mod args;
pub mod binding;
pub mod context;
pub mod controller;
pub mod crd;
pub mod credential;
pub mod events;
pub mod execute;
pub mod guard_rails;
pub mod inputs;
pub mod kube_calls;
pub mod links;
pub mod memory;
pub mod metrics;
pub mod plan;
mod preflight;
pub mod problem;
pub mod pull_secret;
pub mod reconcile;
#[cfg(test)]
mod samples;
pub mod schedule;
pub mod snapshot;
pub mod status;
pub mod wanted;
pub mod watches;

use std::{
    process::ExitCode,
    sync::{Arc, Once},
    time::Duration,
};

use client::{BrokerClient, ClientCertificate, ClientError, ClientOptions};
use kube::{
    Api, Client,
    api::{ApiResource, DynamicObject, ListParams},
};
use prometheus_client::registry::Registry;
use runtime::{
    Failure, Shutdown, SystemClock, Tasks,
    admin::{self, Readiness},
    listen, telemetry,
};

use crate::{
    args::{Command, RunArgs, SyncerArgs},
    binding::{ApiVersion, Binding},
    context::{Context, Limits},
    guard_rails::GuardRails,
    kube_calls::{KubeCalls, KubeError, Verb},
    links::LinkKeeper,
    memory::Memory,
    metrics::Metrics,
};

/// The name in logs and traces.
const SERVICE: &str = "acrpull-syncer";
/// For passes that are in the middle of a write when the process is told to stop; a call takes 15 s at most.
const GRACE: Duration = Duration::from_secs(20);

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
        label_selector,
        defaults,
        workers,
        admin_address,
        telemetry,
    } = args;
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
    let listener = listen::bind("--admin-address", admin_address)?;
    let client = kubernetes().await?;
    // From here on there is something to log; a mistake above is one line and nothing else.
    let telemetry = telemetry::init(SERVICE, &telemetry)?;

    let mut registry = Registry::default();
    telemetry.register(&mut registry);
    let metrics = Metrics::register(&mut registry);
    broker
        .metrics()
        .register(registry.sub_registry_with_prefix("acrpull_syncer_broker"));
    let calls = KubeCalls::new(metrics.clone());
    probe(&client, &calls, label_selector.as_deref()).await?;

    let guard_rails = GuardRails::new(client.clone(), calls.clone(), metrics.clone());
    let (stores, writers) = watches::stores();
    let memory = Arc::new(Memory::default());
    let (events, publisher) = events::channel(client.clone(), calls.clone());
    let context = Arc::new(Context {
        events,
        broker,
        token_audience: service_account_token_audience,
        secrets: stores.secrets.clone(),
        links: LinkKeeper::new(
            stores.accounts.clone(),
            stores.bindings.clone(),
            Arc::clone(&memory),
        ),
        memory,
        limits: Limits::new(workers.get()),
        calls,
        metrics,
        clock: Arc::new(SystemClock),
        shutdown: shutdown.clone(),
        older_crd: Once::new(),
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
            selector: label_selector.as_deref(),
            defaults: defaults.into(),
        },
    );
    tasks.spawn("controller", controller::run(Arc::clone(&context), stores, wakes));
    tasks.spawn("events", publisher.run(shutdown.clone()));
    tasks.spawn("guard rails", guard_rails.watch(shutdown.clone()));
    let router = admin::router(registry, readiness, shutdown.clone());
    tasks.spawn_to_the_end("admin", admin::serve(listener, router)?);
    tasks.run_until_done(GRACE).await
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
    let config = kube::Config::infer().await.map_err(|error| {
        Failure::runtime("cannot find the configuration for Kubernetes")
            .remedy(REMEDY)
            .source(error)
    })?;
    Client::try_from(config).map_err(|error| {
        Failure::runtime("cannot use the configuration for Kubernetes")
            .remedy(REMEDY)
            .source(error)
    })
}

/// One call per API before anything starts: a wrong selector, a missing right or an unreachable server is told at once
/// and in one line. A missing CRD is no reason to end: the watches wait for it. Nor is a binding that does not decode:
/// only metadata is asked for.
async fn probe(client: &Client, calls: &KubeCalls, selector: Option<&str>) -> Result<(), Failure> {
    let mut params = ListParams::default().limit(1);
    params.label_selector = selector.map(str::to_owned);
    for api in ApiVersion::ALL {
        let kind = ApiResource::erase::<Binding>(&api);
        let bindings: Api<DynamicObject> = Api::all_with(client.clone(), &kind);
        let first = bindings.list_metadata(&params);
        match calls.call(Verb::List, "acrpullbindings", first).await {
            Ok(_first) => {}
            Err(error) if error.is_not_found() => {}
            Err(error) => return Err(refused(api, error)),
        }
    }
    Ok(())
}

fn refused(api: ApiVersion, error: KubeError) -> Failure {
    let failure = match error.code() {
        400 => Failure::usage("the API server does not accept --label-selector")
            .remedy("write it as kubectl's -l"),
        401 | 403 => {
            let what = format!(
                "the API server does not let this process list acrpullbindings of {}",
                api.group()
            );
            Failure::runtime(what).remedy("bind the syncer's role to its ServiceAccount")
        }
        _ => Failure::runtime("cannot reach the API server").remedy("check KUBECONFIG and the network"),
    };
    failure.source(error)
}

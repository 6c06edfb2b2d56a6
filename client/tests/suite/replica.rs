//! A replica of the broker as the client sees one: the service over TLS, in a runtime of its own, so that it can be killed
//! with everything that it has open.

use std::{
    net::SocketAddr,
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, AtomicU8, Ordering},
    },
    time::{Duration, Instant},
};

use proto::v1::{
    GetDockerConfigRequest, GetDockerConfigResponse,
    credential_service_server::{CredentialService, CredentialServiceServer},
};
use tokio::{net::TcpListener, runtime::Runtime, sync::oneshot};
use tokio_stream::wrappers::TcpListenerStream;
use tonic::{
    Request, Response, Status,
    transport::{Certificate, Identity, Server, ServerTlsConfig},
};

/// How long an answer takes, so that there is always something in flight under load.
const WORK: Duration = Duration::from_millis(5);
/// Each replica has an address of its own in 127.0.0.0/8: a port that is free for a moment during a restart can then not
/// become the source port of a connection.
static NEXT_ADDRESS: AtomicU8 = AtomicU8::new(10);

/// What happened to one request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum What {
    Asked,
    Answered,
    Cancelled,
}

/// One line of the log that all replicas of a test share.
#[derive(Debug, Clone)]
pub(crate) struct Event {
    pub(crate) at: Instant,
    pub(crate) replica: SocketAddr,
    /// Name of the binding in the request.
    pub(crate) call: String,
    pub(crate) authorization: String,
    pub(crate) timeout: Option<String>,
    pub(crate) what: What,
}

/// What all replicas of a test have seen.
#[derive(Debug, Clone, Default)]
pub(crate) struct Log(Arc<Mutex<Vec<Event>>>);

impl Log {
    pub(crate) fn events(&self) -> Vec<Event> {
        self.0.lock().unwrap().clone()
    }

    /// Requests that reached a replica.
    pub(crate) fn asked(&self, replica: SocketAddr) -> usize {
        let is_it = |event: &&Event| event.replica == replica && event.what == What::Asked;
        self.events().iter().filter(is_it).count()
    }
}

pub(crate) struct Replica {
    pub(crate) address: SocketAddr,
    identity: Identity,
    client_ca: Option<Certificate>,
    max_age: Option<Duration>,
    is_hanging: Arc<AtomicBool>,
    log: Log,
    process: Option<(Runtime, oneshot::Sender<()>, tokio::task::JoinHandle<()>)>,
}

impl Replica {
    /// Starts one at an address of its own. Connections are closed after `max_age`.
    pub(crate) async fn start(identity: Identity, log: &Log, max_age: Option<Duration>) -> Self {
        let number = NEXT_ADDRESS.fetch_add(1, Ordering::Relaxed);
        let mut replica = Self {
            address: SocketAddr::from(([127, 0, 0, number], 0)),
            identity,
            client_ca: None,
            max_age,
            is_hanging: Arc::default(),
            log: log.clone(),
            process: None,
        };
        replica.restart().await;
        replica
    }

    /// Starts it again where it was before.
    pub(crate) async fn restart(&mut self) {
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(1)
            .enable_all()
            .build()
            .unwrap();
        let address = self.address;
        let listener = runtime
            .spawn(async move { TcpListener::bind(address).await.unwrap() })
            .await
            .unwrap();
        self.address = listener.local_addr().unwrap();
        let service = Service {
            replica: self.address,
            is_hanging: Arc::clone(&self.is_hanging),
            log: self.log.clone(),
        };
        let mut tls = ServerTlsConfig::new().identity(self.identity.clone());
        if let Some(ca) = &self.client_ca {
            tls = tls.client_ca_root(ca.clone());
        }
        let mut server = Server::builder().tls_config(tls).unwrap();
        if let Some(age) = self.max_age {
            server = server.max_connection_age(age);
        }
        let (stop, stopped) = oneshot::channel();
        let serving = runtime.spawn(async move {
            server
                .add_service(CredentialServiceServer::new(service))
                .serve_with_incoming_shutdown(TcpListenerStream::new(listener), async {
                    stopped.await.unwrap_or_default();
                })
                .await
                .unwrap();
        });
        self.process = Some((runtime, stop, serving));
    }

    /// What SIGTERM does: nothing new is accepted, and what is in flight is answered.
    pub(crate) async fn drain(&mut self) {
        let (runtime, stop, serving) = self.process.take().unwrap();
        stop.send(()).unwrap();
        serving.await.unwrap();
        runtime.shutdown_background();
    }

    /// What SIGKILL does: all connections are gone, with whatever was in flight.
    pub(crate) fn kill(&mut self) {
        let (runtime, ..) = self.process.take().unwrap();
        runtime.shutdown_background();
    }

    /// From now on requests are taken and never answered, while the connection is well; or that ends.
    pub(crate) fn hang(&self, is_hanging: bool) {
        self.is_hanging.store(is_hanging, Ordering::Relaxed);
    }

    /// Another certificate, from the next start on.
    pub(crate) fn set_identity(&mut self, identity: Identity) {
        self.identity = identity;
    }

    /// From the next start on, clients need a certificate of one of these authorities.
    pub(crate) fn require_client_certificates(&mut self, ca_pem: &str) {
        self.client_ca = Some(Certificate::from_pem(ca_pem));
    }
}

impl Drop for Replica {
    fn drop(&mut self) {
        if self.process.is_some() {
            self.kill();
        }
    }
}

struct Service {
    replica: SocketAddr,
    is_hanging: Arc<AtomicBool>,
    log: Log,
}

/// Logs the end of a request, whichever it is.
struct InFlight {
    log: Log,
    event: Event,
}

impl InFlight {
    fn write(&self, what: What) {
        self.log.0.lock().unwrap().push(Event {
            at: Instant::now(),
            what,
            ..self.event.clone()
        });
    }
}

impl Drop for InFlight {
    fn drop(&mut self) {
        self.write(self.event.what);
    }
}

#[tonic::async_trait]
impl CredentialService for Service {
    async fn get_docker_config(
        &self,
        request: Request<GetDockerConfigRequest>,
    ) -> Result<Response<GetDockerConfigResponse>, Status> {
        let entry = |name: &str| {
            let value = request.metadata().get(name)?;
            Some(value.to_str().unwrap().to_owned())
        };
        let mut in_flight = InFlight {
            log: self.log.clone(),
            event: Event {
                at: Instant::now(),
                replica: self.replica,
                call: request.get_ref().binding.clone().unwrap_or_default().name,
                authorization: entry("authorization").unwrap_or_default(),
                timeout: entry("grpc-timeout"),
                what: What::Cancelled,
            },
        };
        in_flight.write(What::Asked);
        tokio::time::sleep(WORK).await;
        if self.is_hanging.load(Ordering::Relaxed) {
            std::future::pending::<()>().await;
        }
        in_flight.event.what = What::Answered;
        Ok(Response::new(GetDockerConfigResponse {
            fingerprint: self.replica.to_string().into_bytes().into(),
            ..GetDockerConfigResponse::default()
        }))
    }
}

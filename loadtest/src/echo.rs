//! The baseline of hits: a server that decodes the same request, checks nothing and answers with the same bytes, over
//! the same kind of TLS. What it needs is what gRPC, HTTP, TLS and the machine cost; the rest is the broker.

use std::path::Path;
use std::time::Duration;

use anyhow::Context as _;
use axum::routing::post;
use controlplane::{Process, Program, free_ports};
use e2e::{ServerCertificate, Stack};
use proto::v1::credential_service_server::{CredentialService, CredentialServiceServer};
use proto::v1::{GetDockerConfigRequest, GetDockerConfigResponse};
use tokio::net::TcpStream;
use tonic::service::Routes;
use tonic::transport::{Identity, Server, ServerTlsConfig};
use tonic::{Request, Response, Status};

use crate::args::EchoArgs;
use crate::target::Target;
use crate::tokens::caller_token;

/// How long its start may take.
const START_TIMEOUT: Duration = Duration::from_secs(10);

/// A running echo. It ends when this is dropped.
pub(crate) struct Echo {
    process: Process,
    url: String,
    ca_pem: String,
}

#[derive(Clone)]
struct Answer(GetDockerConfigResponse);

#[tonic::async_trait]
impl CredentialService for Answer {
    async fn get_docker_config(
        &self,
        _request: Request<GetDockerConfigRequest>,
    ) -> Result<Response<GetDockerConfigResponse>, Status> {
        Ok(Response::new(self.0.clone()))
    }
}

impl Echo {
    /// The echo as something to ask, in the way the broker is asked.
    ///
    /// # Errors
    /// The API server grants no token.
    pub(crate) async fn target(&self, stack: &Stack) -> anyhow::Result<Target> {
        let token = caller_token(stack).await?;
        Target::new(self.process.pid(), &self.url, &self.ca_pem, &token)
    }

    /// Starts this program once more, as the echo, in a process of its own.
    ///
    /// # Errors
    /// It does not start (with its last log lines).
    pub(crate) async fn start(stack: &Stack, answer: &GetDockerConfigResponse) -> anyhow::Result<Self> {
        let certificate = ServerCertificate::issue(&["localhost"])?;
        let folder = stack.plane().directory();
        let write = |name: &str, content: &str| {
            let path = folder.join(name);
            std::fs::write(&path, content).with_context(|| format!("failed to write {}", path.display()))?;
            anyhow::Ok(path)
        };
        let [port] = free_ports()?;
        let program = Program::new(std::env::current_exe().context("failed to find this program")?)
            .args(["echo", "--listen-address", &format!("127.0.0.1:{port}")])
            .arg("--tls-cert-file")
            .arg(write("echo.crt", &certificate.certificate_pem)?)
            .arg("--tls-key-file")
            .arg(write("echo.key", &certificate.key_pem)?)
            .arg("--answer-file")
            .arg(write("echo.json", &serde_json::to_string(answer)?)?);
        let process = stack.plane().supervisor().spawn("echo", &program)?;
        e2e::wait_for("the echo listens", START_TIMEOUT, async || {
            if process.exit_status().is_some() {
                return Err(process.failure());
            }
            Ok(TcpStream::connect(("127.0.0.1", port)).await.is_ok())
        })
        .await?;
        Ok(Self {
            process,
            url: format!("https://localhost:{port}"),
            ca_pem: certificate.ca_pem,
        })
    }
}

/// Serves until the process is killed.
///
/// # Errors
/// A file cannot be used, or the address is taken.
pub(crate) async fn serve(args: &EchoArgs) -> anyhow::Result<()> {
    let read = |path: &Path| {
        std::fs::read_to_string(path).with_context(|| format!("failed to read {}", path.display()))
    };
    let identity = Identity::from_pem(read(&args.tls_cert_file)?, read(&args.tls_key_file)?);
    let answer: GetDockerConfigResponse =
        serde_json::from_str(&read(&args.answer_file)?).context("the answer is not understood")?;
    Server::builder()
        .tls_config(ServerTlsConfig::new().identity(identity))?
        .add_routes(routes(answer))
        .serve(args.listen_address)
        .await
        .with_context(|| format!("failed to serve on {}", args.listen_address))
}

fn routes(answer: GetDockerConfigResponse) -> Routes {
    let json = answer.clone();
    let http = post(async move |_request: axum::Json<GetDockerConfigRequest>| axum::Json(json));
    let grpc = Routes::new(CredentialServiceServer::new(Answer(answer)));
    Routes::from(grpc.prepare().into_axum_router().route("/v1/docker-config", http))
}

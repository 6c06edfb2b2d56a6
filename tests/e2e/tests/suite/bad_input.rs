//! What a person sees who got something wrong: one line that names the thing and the remedy, and the exit code.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use anyhow::ensure;
use controlplane::{Output, Program, Supervisor};
use e2e::{Binaries, ServerCertificate};

/// A process that waits for anything has not noticed the mistake.
const TIMEOUT: Duration = Duration::from_secs(20);

/// A bad command line or bad content, and everything else.
const USAGE: i32 = 64;
const FAILURE: i32 = 1;

/// A configuration with which a broker starts.
pub(crate) const GOOD: &str = r#"apiVersion: config.acrpull.dev/v1alpha1
kind: BrokerConfiguration
clusters:
- name: weu-7
  issuer: https://kubernetes.default.svc.cluster.local
  jwks:
    inline: '{"keys":[{"kty":"EC","crv":"P-256","alg":"ES256","use":"sig","kid":"k","x":"MKBCTNIcKUSDii11ySs3526iDZ8AiTo7Tu6KPAqv7D4","y":"4Etl6SRW2YiLUrN5vfvVHuhp7x8PxltmWWlbbM4IFyM"}]}'
  callerAudiences: [acrpull-broker]
  subjectAudiences: [api://AzureCRTokenExchange]
  syncers: [system:serviceaccount:acrpull-system:acrpull-syncer]
"#;

/// A folder with good files, where each test puts its bad one.
struct Bench {
    supervisor: Arc<Supervisor>,
    binaries: Binaries,
}

impl Bench {
    async fn new() -> anyhow::Result<Self> {
        let bench = Self {
            supervisor: Supervisor::new("bad-input")?,
            binaries: Binaries::of(&["broker", "syncer"]).await?,
        };
        let certificate = ServerCertificate::issue(&["localhost"])?;
        for (name, content) in [
            ("good.yaml", GOOD),
            ("tls.crt", certificate.certificate_pem.as_str()),
            ("tls.key", &certificate.key_pem),
            ("ca.crt", &certificate.ca_pem),
            ("token", "a.b.c"),
        ] {
            bench.write(name, content)?;
        }
        Ok(bench)
    }

    fn write(&self, name: &str, content: &str) -> anyhow::Result<()> {
        Ok(std::fs::write(self.directory().join(name), content)?)
    }

    fn directory(&self) -> &Path {
        self.supervisor.directory()
    }

    async fn run(&self, program: &str, arguments: &[&str]) -> anyhow::Result<Output> {
        let program = Program::new(self.binaries.path(program)?)
            .clear_env()
            .args(arguments);
        self.supervisor.run(&program, TIMEOUT).await
    }

    /// Runs a program that must fail, and checks its code and its one line.
    async fn fails(&self, program: &str, arguments: &[&str], code: i32, line: &str) -> anyhow::Result<()> {
        let Output {
            status,
            stdout,
            stderr,
        } = self.run(program, arguments).await?;
        ensure!(
            status.code() == Some(code) && stderr.trim_end() == line && stdout.is_empty(),
            "{program} {}: {status}\n{stderr}{stdout}expected code {code} and\n{line}",
            arguments.join(" ")
        );
        Ok(())
    }
}

#[tokio::test]
async fn broker_configuration_that_is_wrong_is_named_in_one_line() -> anyhow::Result<()> {
    let bench = Bench::new().await?;
    bench.write("broken.yaml", "clusters: [\n")?;
    bench.write("unknown.yaml", &format!("{GOOD}clustrs: []\n"))?;
    bench.write("ca.yaml", &format!("{GOOD}egress: {{caBundle: nowhere.pem}}\n"))?;
    bench.write(
        "empty.yaml",
        "apiVersion: config.acrpull.dev/v1alpha1\nkind: BrokerConfiguration\n",
    )?;
    for (file, code, line) in [
        (
            "broken.yaml",
            USAGE,
            "broker: configuration broken.yaml: line 1 column 11: unclosed bracket '['; correct it; docs/configuration.md explains every field",
        ),
        (
            "unknown.yaml",
            USAGE,
            "broker: configuration unknown.yaml: line 11 column 1: unknown field `clustrs`, expected one of apiVersion, kind, clusters, clouds, identities, grants, limits, egress, audit; correct it; docs/configuration.md explains every field",
        ),
        (
            "empty.yaml",
            USAGE,
            "broker: configuration empty.yaml: clusters: name at least one: without a cluster nobody can ask for anything; correct it; docs/configuration.md explains every field",
        ),
        (
            "ca.yaml",
            FAILURE,
            "broker: configuration ca.yaml: cannot read nowhere.pem (egress.caBundle): No such file or directory (os error 2); correct the path, or put the file there",
        ),
        (
            "nowhere.yaml",
            FAILURE,
            "broker: configuration nowhere.yaml: cannot read nowhere.yaml (--config): No such file or directory (os error 2); correct the path, or put the file there",
        ),
    ] {
        bench
            .fails(
                "broker",
                &["check-config", "--config", file],
                checked_code(file, code),
                line,
            )
            .await?;
        let tls = ["--tls-cert-file", "tls.crt", "--tls-key-file", "tls.key"];
        bench
            .fails(
                "broker",
                &[&["run", "--config", file], tls.as_slice()].concat(),
                code,
                line,
            )
            .await?;
    }
    Ok(())
}

/// For who checks a configuration, a file that it names and that is not there is a mistake in it.
fn checked_code(file: &str, code: i32) -> i32 {
    if file == "ca.yaml" { USAGE } else { code }
}

#[tokio::test]
async fn broker_configuration_that_is_right_is_ok() -> anyhow::Result<()> {
    let bench = Bench::new().await?;
    let answer = bench
        .run("broker", &["check-config", "--config", "good.yaml"])
        .await?
        .success()?;
    assert_eq!(
        answer.lines().next(),
        Some("good.yaml: ok; clusters: 1, broker-owned identities: 0, grants: 0")
    );
    Ok(())
}

#[tokio::test]
async fn broker_that_cannot_start_says_why_in_one_line() -> anyhow::Result<()> {
    let bench = Bench::new().await?;
    let holder = std::net::TcpListener::bind("127.0.0.1:0")?;
    let taken = holder.local_addr()?.to_string();
    let run = [
        "run",
        "--config",
        "good.yaml",
        "--admin-address",
        "127.0.0.1:0",
        "--listen-address",
    ];
    let tls = ["--tls-cert-file", "tls.crt", "--tls-key-file", "tls.key"];
    bench
        .fails(
            "broker",
            &[run.as_slice(), &[&taken], &tls].concat(),
            FAILURE,
            &format!("broker: cannot listen on {taken} (--listen-address): Address already in use (os error 98); another process has the port: stop it or choose another with --listen-address"),
        )
        .await?;
    bench
        .fails(
            "broker",
            &[run.as_slice(), &["127.0.0.1:0", "--tls-cert-file", "no.crt", "--tls-key-file", "tls.key"]].concat(),
            FAILURE,
            "broker: cannot serve TLS: failed to read certificate no.crt: I/O error: No such file or directory (os error 2); --tls-cert-file and --tls-key-file must name a PEM certificate chain and its key",
        )
        .await?;
    bench
        .fails(
            "broker",
            &["run", "--config", "good.yaml"],
            USAGE,
            "broker: the following required arguments were not provided: --tls-cert-file <FILE> --tls-key-file <FILE>; see broker --help",
        )
        .await
}

#[tokio::test]
async fn syncer_that_cannot_start_says_why_in_one_line() -> anyhow::Result<()> {
    let bench = Bench::new().await?;
    let address = "https://localhost:8443";
    for (arguments, code, line) in [
        (
            [
                "--broker-address",
                "http://localhost:8443",
                "--broker-token-file",
                "token",
                "--broker-ca-file",
                "ca.crt",
            ],
            USAGE,
            r#"syncer: --broker-address: broker address "http://localhost:8443" must start with https:// and name a host"#,
        ),
        (
            [
                "--broker-address",
                address,
                "--broker-token-file",
                "nowhere",
                "--broker-ca-file",
                "ca.crt",
            ],
            FAILURE,
            "syncer: cannot read the token file nowhere (--broker-token-file): No such file or directory (os error 2); mount a ServiceAccount token for the broker's audience",
        ),
        (
            [
                "--broker-address",
                address,
                "--broker-token-file",
                "token",
                "--broker-ca-file",
                "nowhere.crt",
            ],
            FAILURE,
            "syncer: --broker-ca-file: cannot use the broker's CA file: failed to read certificate nowhere.crt: I/O error: No such file or directory (os error 2); give a file with the certificate of the authority that signed the broker's certificate",
        ),
        (
            [
                "--broker-address",
                address,
                "--broker-token-file",
                "token",
                "--workers",
                "0",
            ],
            USAGE,
            "syncer: invalid value '0' for '--workers <COUNT>': number would be zero for non-zero type; see syncer --help",
        ),
    ] {
        bench
            .fails("syncer", &[&["run"], arguments.as_slice()].concat(), code, line)
            .await?;
    }
    let holder = std::net::TcpListener::bind("127.0.0.1:0")?;
    let taken = holder.local_addr()?.to_string();
    let arguments = [
        "run",
        "--broker-address",
        address,
        "--broker-token-file",
        "token",
        "--broker-ca-file",
        "ca.crt",
        "--admin-address",
        &taken,
    ];
    let line = format!(
        "syncer: cannot listen on {taken} (--admin-address): Address already in use (os error 98); another process has the port: stop it or choose another with --admin-address"
    );
    bench.fails("syncer", &arguments, FAILURE, &line).await
}

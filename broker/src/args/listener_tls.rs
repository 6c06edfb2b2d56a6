//! How the main listener serves TLS, as the command line says it.

use std::path::PathBuf;

use clap::{Args, ValueEnum};
use runtime::{
    Failure,
    tls::server::{ClientAuth, ServerTls, TlsVersion},
};

/// How the main listener serves TLS.
#[derive(Debug, Args)]
pub struct ListenerTlsArgs {
    /// Certificate chain of the main listener (PEM); reloaded when it changes.
    #[arg(long, value_name = "FILE")]
    pub tls_cert_file: PathBuf,
    /// Key of that certificate (PEM).
    #[arg(long, value_name = "FILE")]
    pub tls_key_file: PathBuf,
    /// Authorities (PEM) that callers' certificates must chain to; reloaded with the certificate.
    #[arg(long, value_name = "FILE")]
    pub tls_client_ca_file: Option<PathBuf>,
    /// Whether callers prove themselves by a certificate, besides their token. Without --tls-client-ca-file none, with it
    /// require.
    #[arg(long, value_name = "MODE")]
    pub tls_client_auth: Option<ClientAuthMode>,
    /// Oldest version of TLS that the main listener speaks.
    #[arg(long, value_name = "VERSION", default_value = "1.3")]
    pub tls_min_version: TlsVersion,
}

/// Whether callers prove themselves by a certificate.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum ClientAuthMode {
    /// They are not asked.
    None,
    /// A certificate that is presented must be good; without one the connection is anonymous.
    Request,
    /// There is no connection without a good one.
    Require,
}

impl ListenerTlsArgs {
    /// What they mean together.
    ///
    /// # Errors
    /// Certificates are to be verified, and there is nothing to verify them by.
    pub fn into_server_tls(self) -> Result<ServerTls, Failure> {
        let Self {
            tls_cert_file,
            tls_key_file,
            tls_client_ca_file,
            tls_client_auth,
            tls_min_version,
        } = self;
        let clients = match (tls_client_auth, tls_client_ca_file) {
            (None | Some(ClientAuthMode::None), None) | (Some(ClientAuthMode::None), Some(_)) => {
                ClientAuth::None
            }
            (Some(ClientAuthMode::Request), Some(ca)) => ClientAuth::Request(ca),
            (None | Some(ClientAuthMode::Require), Some(ca)) => ClientAuth::Require(ca),
            (Some(ClientAuthMode::Request | ClientAuthMode::Require), None) => {
                return Err(Failure::usage("--tls-client-auth asks for certificates")
                    .remedy("say with --tls-client-ca-file which authorities sign them"));
            }
        };
        Ok(ServerTls {
            cert: tls_cert_file,
            key: tls_key_file,
            clients,
            min_version: tls_min_version,
        })
    }
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;

    #[derive(Debug, Parser)]
    struct Alone {
        #[command(flatten)]
        tls: ListenerTlsArgs,
    }

    const BASE: [&str; 3] = ["broker", "--tls-cert-file=c", "--tls-key-file=k"];

    fn parsed(more: &[&str]) -> ListenerTlsArgs {
        Alone::try_parse_from(BASE.iter().chain(more)).unwrap().tls
    }

    fn meant(more: &[&str]) -> ServerTls {
        parsed(more).into_server_tls().unwrap()
    }

    #[test]
    fn client_auth_follows_from_the_file_unless_it_is_said() {
        let clients = |more: &[&str]| meant(more).clients;
        let file = "--tls-client-ca-file=ca";
        assert_eq!(clients(&[]), ClientAuth::None);
        assert_eq!(clients(&["--tls-client-auth=none"]), ClientAuth::None);
        assert_eq!(clients(&[file]), ClientAuth::Require("ca".into()));
        assert_eq!(clients(&[file, "--tls-client-auth=none"]), ClientAuth::None);
        assert_eq!(
            clients(&[file, "--tls-client-auth=request"]),
            ClientAuth::Request("ca".into())
        );
        assert_eq!(
            clients(&[file, "--tls-client-auth=require"]),
            ClientAuth::Require("ca".into())
        );
    }

    #[test]
    fn client_auth_without_an_authority_is_refused() {
        for mode in ["--tls-client-auth=request", "--tls-client-auth=require"] {
            let refused = parsed(&[mode]).into_server_tls().unwrap_err().to_string();
            assert!(refused.contains("--tls-client-ca-file"), "{refused}");
        }
    }

    #[test]
    fn version_is_the_newest_unless_an_older_one_is_allowed() {
        assert_eq!(meant(&[]).min_version, TlsVersion::Tls13);
        let older = meant(&["--tls-min-version=1.2"]);
        assert_eq!(older.min_version, TlsVersion::Tls12);
        assert!(Alone::try_parse_from(BASE.iter().chain(&["--tls-min-version=1.1"])).is_err());
    }
}

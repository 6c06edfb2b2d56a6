//! The command line.

use std::{net::SocketAddr, path::PathBuf};

use clap::Parser;

/// Shown by `--help`: what it is, and a session to copy.
const SESSION: &str = r#"A session by hand:

  1. Write what exists, and start:

     cat > azure.json <<'END'
     {"tenants":    [{"id": "22222222-2222-2222-2222-222222222222", "cloud": "public"}],
      "issuers":    [{"url": "https://oidc.example/", "keys": {"simulated": {"kids": ["k1"]}}}],
      "principals": [{"kind": "app", "tenant": "22222222-2222-2222-2222-222222222222",
                      "client_id": "33333333-3333-3333-3333-333333333333", "object_id": "web-object",
                      "fics": [{"issuer": "https://oidc.example/", "subject": "system:serviceaccount:web:web",
                                "audience": "api://AzureCRTokenExchange"}]}],
      "registries": [{"host": "demo.azurecr.io", "tenant": "22222222-2222-2222-2222-222222222222",
                      "repositories": {"team/app": ["v1"]},
                      "roles": [{"object_id": "web-object", "role": "AcrPull"}]}]}
     END
     azure-simulator --state azure.json --proxy-address 127.0.0.1:10080 --admin-address 127.0.0.1:10090 \
         --ca-file azure-ca.pem

  2. Ask as a client would, through the egress proxy (other shell):

     export HTTPS_PROXY=http://127.0.0.1:10080 CURL_CA_BUNDLE=azure-ca.pem
     sim=http://127.0.0.1:10090/_sim
     assertion=$(curl -s $sim/sa-token -d '{"issuer": "https://oidc.example/", "ns": "web", "sa": "web",
         "audiences": ["api://AzureCRTokenExchange"]}' | jq -r .token)
     entra=$(curl -s https://login.microsoftonline.com/22222222-2222-2222-2222-222222222222/oauth2/v2.0/token \
         -d grant_type=client_credentials -d client_id=33333333-3333-3333-3333-333333333333 \
         -d client_assertion_type=urn:ietf:params:oauth:client-assertion-type:jwt-bearer \
         -d client_assertion=$assertion -d scope=https://containerregistry.azure.net/.default | jq -r .access_token)
     refresh=$(curl -s https://demo.azurecr.io/oauth2/exchange -d grant_type=access_token \
         -d service=demo.azurecr.io -d access_token=$entra | jq -r .refresh_token)
     curl -s https://demo.azurecr.io/oauth2/token -d grant_type=refresh_token -d service=demo.azurecr.io \
         -d scope=repository:team/app:pull -d refresh_token=$refresh

  3. See what was decided, and make it fail:

     curl -s $sim/log | jq '.[] | {seq, service, op, status, trace}'
     curl -s $sim/faults -d '{"match": {"service": "acr", "op": "exchange"}, "times": 3,
                              "action": {"type": "throttle", "retry_after": 7}}'
     curl -s -X DELETE $sim/faults

Admin API (http):
  GET|PUT  /_sim/state            what exists
  POST     /_sim/clock            {"advance_s": 60} or {"settings": {"offset_s": 0, "frozen": null}}
  POST     /_sim/faults           add one (FAULTS.md has all of them); DELETE removes all
  GET      /_sim/log?since=SEQ    every call with the checks that were made; secrets as SHA-256 and claims
  GET      /_sim/counters         calls by service, operation, status, client ID, host, fault; most in flight
  GET      /_sim/issued           every secret handed out, to search for leaks
  GET      /_sim/assertions       every assertion that came to Entra, to search for leaks
  POST     /_sim/sa-token         a ServiceAccount token of a simulated issuer
  GET      /_sim/issuer-jwks?issuer=URL, /_sim/acr-jwks, /_sim/ca.pem
  POST     /_sim/reset            everything as it was at the start

Exit code: 0 when told to stop (SIGTERM, SIGINT), 64 for a bad command line or state file, 1 for anything else."#;

/// Simulates the parts of Azure that give out pull credentials: Entra ID, the instance metadata service (IMDS),
/// and the token endpoints of Azure Container Registry.
#[derive(Debug, Parser)]
#[command(name = "azure-simulator", version, after_long_help = SESSION)]
pub(crate) struct Args {
    /// What exists, as JSON; nothing but the three clouds unless given
    #[arg(long, value_name = "FILE")]
    pub(crate) state: Option<PathBuf>,
    /// Entra ID, https
    #[arg(long, value_name = "ADDRESS", default_value = "127.0.0.1:0")]
    pub(crate) entra_address: SocketAddr,
    /// Every registry, https, told apart by host
    #[arg(long, value_name = "ADDRESS", default_value = "127.0.0.1:0")]
    pub(crate) acr_address: SocketAddr,
    /// The instance metadata service, http
    #[arg(long, value_name = "ADDRESS", default_value = "127.0.0.1:0")]
    pub(crate) imds_address: SocketAddr,
    /// Egress proxy (`HTTPS_PROXY`) that leads to this Azure and nowhere else
    #[arg(long, value_name = "ADDRESS", default_value = "127.0.0.1:0")]
    pub(crate) proxy_address: SocketAddr,
    /// Admin API, http
    #[arg(long, value_name = "ADDRESS", default_value = "127.0.0.1:0")]
    pub(crate) admin_address: SocketAddr,
    /// Write the certificate to trust to this file
    #[arg(long, value_name = "FILE")]
    pub(crate) ca_file: Option<PathBuf>,
    /// Write the keys that a registry behind this one must trust to this file (JWKS)
    #[arg(long, value_name = "FILE")]
    pub(crate) jwks_file: Option<PathBuf>,
    /// When ready, write the line with all addresses to this file instead of the screen
    #[arg(long, value_name = "FILE")]
    pub(crate) ready_file: Option<PathBuf>,
    /// Where chance starts from: the same seed, the same run
    #[arg(long, value_name = "NUMBER", default_value_t = 0)]
    pub(crate) seed: u64,
    /// What to log, in the syntax of `RUST_LOG`
    #[arg(long, value_name = "FILTER", default_value = "warn")]
    pub(crate) log_level: String,
}

//! Whom the broker believes that a cluster's signing keys are of. The system's roots are those that `SSL_CERT_FILE` names.

use anyhow::ensure;
use serde_json::json;

use crate::{
    kept_keys::{KeyServer, answer},
    process::{Broker, Setup, Signer, cluster, configuration},
};

#[tokio::test]
async fn e1_bundle_of_a_cluster_counts_instead_of_the_systems_roots() -> anyhow::Result<()> {
    let signer = Signer::new()?;
    let server = KeyServer::start(signer.jwks()?)?;
    let another = rcgen::generate_simple_self_signed(["127.0.0.1".to_owned()])?;
    let start = async |jwks| {
        let clusters = json!({"clusters": [cluster("weu-7", &jwks)]});
        let setup = Setup::default()
            .file("another.crt", another.cert.pem().as_bytes())
            .env("SSL_CERT_FILE", server.certificate());
        Broker::start_with(signer.clone(), &configuration(&signer, clusters)?, &[], setup).await
    };

    let by_the_system = start(json!({"url": server.url("/keys")})).await?;
    ensure!(
        answer(&by_the_system).await? == "POLICY_DENIED",
        "{}",
        by_the_system.log()?
    );
    let pinned = start(json!({"url": server.url("/keys"), "caBundle": "another.crt"})).await?;
    ensure!(answer(&pinned).await? == "CLUSTER_KEYS_UNAVAILABLE");
    pinned.has_logged("no fresh signing keys").await
}

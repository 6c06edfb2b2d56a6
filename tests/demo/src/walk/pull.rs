//! Step 9: the proof.

use e2e::IMAGE_FILE;

use super::Walk;
use crate::folder::AZURE_CA_FILE;
use crate::scene::{BINDING, NAMESPACE, OTHER_REPOSITORY, REGISTRY, REPOSITORY, TAG};

/// A payload without any login.
const NO_LOGINS: &str = r#"{"auths": {}}"#;

pub(super) async fn show(walk: &mut Walk<'_>) -> anyhow::Result<()> {
    walk.screen.step(
        "The image, pulled with the Secret",
        "The proof: a real client, given nothing but the Secret's own payload, pulls from a real registry, under its real \
         name and over verified TLS; what the token is not for stays closed.",
    );
    let (name, content) = IMAGE_FILE;
    let (ca_file, proxy) = (
        walk.folder.shown(AZURE_CA_FILE),
        walk.stack.azure().addresses().proxy,
    );
    walk.screen.command(&format!(
        "export SSL_CERT_FILE={ca_file} HTTPS_PROXY=http://{proxy}"
    ));
    walk.screen.command(&format!(
        "kubectl get secret acr-pull-{BINDING} --namespace {NAMESPACE} -o jsonpath='{{.data.\\.dockerconfigjson}}' \\\n      \
         | base64 -d > with/config.json"
    ));
    let payload = walk.pull_secret().await?.docker_config;
    let image = format!("{REGISTRY}/{REPOSITORY}:{TAG}");
    walk.screen.command(&format!(
        "DOCKER_CONFIG=with crane export {image} - | tar -xO {name}"
    ));
    let files = walk
        .stack
        .images()
        .pull(walk.stack.azure(), &image, &payload)
        .await?;
    let is_there = contains(&files, name.as_bytes()) && contains(&files, content.as_bytes());
    if is_there {
        walk.screen.output(content);
    }
    walk.screen
        .check("the image was pulled, and its file is what was pushed", is_there);

    walk.screen
        .command(&format!("DOCKER_CONFIG=without crane export {image} -"));
    refused(
        walk,
        &image,
        NO_LOGINS,
        "without the Secret the same pull is refused",
    )
    .await;

    let other = format!("{REGISTRY}/{OTHER_REPOSITORY}:{TAG}");
    walk.screen
        .command(&format!("DOCKER_CONFIG=with crane export {other} -"));
    refused(
        walk,
        &other,
        &payload,
        "with the Secret another repository of the same registry is refused",
    )
    .await;
    Ok(())
}

async fn refused(walk: &mut Walk<'_>, image: &str, payload: &str, what: &str) {
    let pulled = walk.stack.images().pull(walk.stack.azure(), image, payload).await;
    let error = pulled
        .err()
        .map(|error| error.root_cause().to_string())
        .unwrap_or_default();
    walk.screen.output(error.trim_start_matches("exit status: 1: "));
    walk.screen
        .check(what, error.contains("UNAUTHORIZED") || error.contains("DENIED"));
}

/// Whether the bytes have this piece in them: an archive of one small file is not compressed.
fn contains(bytes: &[u8], piece: &[u8]) -> bool {
    bytes.windows(piece.len()).any(|window| window == piece)
}

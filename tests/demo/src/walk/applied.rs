//! Step 2: what an application team writes.

use super::Walk;
use crate::scene::{BINDING, NAMESPACE};

pub(super) async fn show(walk: &mut Walk<'_>) -> anyhow::Result<()> {
    walk.screen.step(
        "What an application team writes",
        "One object says which registry, with whose identity, for which ServiceAccount. No password, and nothing that \
         has to be renewed by hand.",
    );
    let output = walk.apply("web.yaml", &walk.scene.manifest()).await?;
    let objects = [
        format!("namespace/{NAMESPACE}"),
        format!("serviceaccount/{BINDING}"),
        format!("acrpullbinding.acrpull.microsoft.com/{BINDING}"),
    ];
    let all_there = objects.iter().all(|object| output.contains(object.as_str()));
    walk.screen
        .check("the API server took all three objects", all_there);
    Ok(())
}

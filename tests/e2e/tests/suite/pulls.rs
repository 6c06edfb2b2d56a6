//! The proof that the payload works: a real client pulls a real image from a real registry with it.

use e2e::{IMAGE_FILE, binding};

use crate::shared::beside_others;

#[test]
fn pull_with_the_secret_works_for_its_repository_and_for_nothing_else() -> anyhow::Result<()> {
    beside_others(async |stack| {
        let team = stack.team("pull").await?;
        team.federated_account("web").await?;
        let (azure, images, registry) = (stack.azure(), stack.images(), team.registry());
        for repository in ["team/web", "team/other"] {
            images.push(azure, registry, repository, "v1").await?;
        }
        team.create(&binding::workload_identity(
            "web",
            "web",
            registry,
            "repository:team/web:pull",
        ))
        .await?;
        team.ready("web").await?;
        let docker_config = team.secret("web").await?.docker_config;

        let (name, content) = IMAGE_FILE;
        let files = images
            .pull(azure, &format!("{registry}/team/web:v1"), &docker_config)
            .await?;
        let files = String::from_utf8_lossy(&files);
        assert!(files.contains(name) && files.contains(content), "{files}");

        let anonymous = images
            .pull(azure, &format!("{registry}/team/web:v1"), r#"{"auths":{}}"#)
            .await;
        let refused = format!("{:#}", anonymous.expect_err("pulled without credentials"));
        assert!(
            refused.contains("401") || refused.to_lowercase().contains("unauthorized"),
            "{refused}"
        );
        let other = images
            .pull(azure, &format!("{registry}/team/other:v1"), &docker_config)
            .await;
        let refused = format!("{:#}", other.expect_err("pulled what the token is not for")).to_lowercase();
        assert!(
            ["401", "403", "unauthorized", "denied"]
                .iter()
                .any(|word| refused.contains(word)),
            "{refused}"
        );
        Ok(())
    })
}

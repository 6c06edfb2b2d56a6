//! A team with one workload identity, and questions that ask for it with real tokens.

use anyhow::Context as _;
use e2e::{Stack, Team};
use futures::{StreamExt as _, TryStreamExt as _, stream};

use crate::questions::{Question, Topic};
use crate::scene;
use crate::tokens::{TOKEN_SECONDS, federation_token};

/// Tokens that are requested at a time.
const MINTING: usize = 32;
/// The `ServiceAccount` whose identity is federated.
const ACCOUNT: &str = "web";

/// A namespace with a registry, and a `ServiceAccount` whose identity may pull from it.
pub(crate) struct Workload<'a> {
    team: Team<'a>,
    client_id: String,
}

impl<'a> Workload<'a> {
    /// Sets one up.
    ///
    /// # Errors
    /// The control plane or the simulator refuses.
    pub(crate) async fn new(stack: &'a Stack) -> anyhow::Result<Self> {
        let team = stack.team(scene::NAMESPACE_PREFIX).await?;
        let client_id = team.federated_account(ACCOUNT).await?.client_id;
        Ok(Self { team, client_id })
    }

    /// So many questions, each with a scope and a subject token of its own.
    ///
    /// # Errors
    /// The API server grants no token.
    pub(crate) async fn questions(&self, count: u32) -> anyhow::Result<Vec<Question>> {
        let topic = Topic {
            namespace: self.team.namespace(),
            account: ACCOUNT,
            registry: self.team.registry(),
        };
        let tokens = self.tokens(usize::try_from(count)?).await?;
        let question = |(number, token)| topic.federated(number, &self.client_id, token);
        Ok((0..count).zip(tokens).map(question).collect())
    }

    /// The same questions over and over, `count` in all, each with a subject token that the broker has never seen.
    ///
    /// # Errors
    /// The API server grants no token.
    pub(crate) async fn with_new_tokens(
        &self,
        questions: &[Question],
        count: usize,
    ) -> anyhow::Result<Vec<Question>> {
        let tokens = self.tokens(count).await?;
        let questions = questions.iter().cycle();
        Ok(questions
            .zip(tokens)
            .map(|(question, token)| question.with_subject_token(token))
            .collect())
    }

    async fn tokens(&self, count: usize) -> anyhow::Result<Vec<String>> {
        let accounts = self.team.api();
        stream::iter(0..count)
            .map(|_number| federation_token(&accounts, ACCOUNT, TOKEN_SECONDS.into()))
            .buffered(MINTING)
            .try_collect()
            .await
            .context("the subject tokens")
    }
}

//! Guarantee A1: who asks, and for whom, is checked on every request, over both wires, whatever is in the cache.

use std::time::Duration;

use e2e::{BROKER_AUDIENCE, FEDERATION_AUDIENCE, NAMESPACE, Stack, Team};
use jiff::Timestamp;
use serde_json::json;

use crate::cluster_tokens::{NEIGHBOUR, SigningKey, claims, with};
use crate::shared::{BY_CLIENT_ID, beside_others};
use crate::wire::{Answer, Wires, broker_owned, federated};

const SCOPE: &str = "repository:team/web:pull";
/// The shortest life of a token.
const TEN_MINUTES: Duration = Duration::from_mins(10);

/// A team whose credential is in the broker's cache.
struct Warm<'a> {
    stack: &'a Stack,
    team: Team<'a>,
    wires: Wires,
    cluster: SigningKey,
    client_id: String,
    bearer: String,
    subject: String,
}

impl<'a> Warm<'a> {
    async fn new(stack: &'a Stack, prefix: &str) -> anyhow::Result<Self> {
        let team = stack.team(prefix).await?;
        let client_id = team.federated_account("web").await?.client_id;
        let issuer = stack.plane().issuer();
        let cluster = SigningKey::of_cluster(stack)?;
        let bearer = cluster.sign(&claims(issuer, NAMESPACE, "acrpull-syncer", BROKER_AUDIENCE))?;
        let subject = cluster.sign(&claims(issuer, team.namespace(), "web", FEDERATION_AUDIENCE))?;
        let warm = Self {
            stack,
            team,
            wires: Wires::to(stack).await?,
            cluster,
            client_id,
            bearer,
            subject,
        };
        let first = warm.ask(&warm.bearer, &warm.subject).await?;
        assert!(first.is_ok(), "the good tokens must be good: {first:?}");
        Ok(warm)
    }

    async fn ask(&self, bearer: &str, subject: &str) -> anyhow::Result<Answer> {
        let request = federated(
            self.team.namespace(),
            self.team.registry(),
            SCOPE,
            &self.client_id,
            subject,
        );
        self.wires.ask(Some(bearer), &request).await
    }

    /// Calls to Azure that had to do with this team.
    async fn upstream_calls(&self) -> anyhow::Result<usize> {
        let calls = self.stack.azure().calls().await?;
        let entra = calls.clone().client_id(&self.client_id).count();
        Ok(entra + calls.host(self.team.registry()).count())
    }
}

/// An existing cluster does not hand out the key that expired and forged tokens must be signed with.
#[expect(clippy::print_stderr, reason = "a test that does not run must say so")]
fn keeps_its_key(stack: &Stack) -> bool {
    let keeps = stack.plane().service_account_signing_key_path().is_none();
    if keeps {
        eprintln!("skipped: the signing key of an existing cluster is not to be had");
    }
    keeps
}

#[test]
fn a1_wrong_bearer_on_a_warm_cache_is_refused() -> anyhow::Result<()> {
    beside_others(async |stack| {
        if keeps_its_key(stack) {
            return Ok(());
        }
        let warm = Warm::new(stack, "a1-bearer").await?;
        let issuer = stack.plane().issuer();
        let good = claims(issuer, NAMESPACE, "acrpull-syncer", BROKER_AUDIENCE);
        let now = Timestamp::now().as_second();
        let (cluster, unknown) = (&warm.cluster, SigningKey::unknown(warm.cluster.id())?);
        let before = warm.upstream_calls().await?;
        let cases = [
            (
                "expired",
                cluster.sign(&with(good.clone(), &json!({"exp": now - 1})))?,
                "CALLER_UNAUTHENTICATED",
            ),
            (
                "not yet valid",
                cluster.sign(&with(good.clone(), &json!({"nbf": now + 300})))?,
                "CALLER_UNAUTHENTICATED",
            ),
            (
                "other audience",
                cluster.sign(&with(good.clone(), &json!({"aud": ["vault"]})))?,
                "CALLER_UNAUTHENTICATED",
            ),
            (
                "both audiences",
                cluster.sign(&with(
                    good.clone(),
                    &json!({"aud": [BROKER_AUDIENCE, FEDERATION_AUDIENCE]}),
                ))?,
                "CALLER_UNAUTHENTICATED",
            ),
            ("a subject token", warm.subject.clone(), "CALLER_UNAUTHENTICATED"),
            ("unknown key", unknown.sign(&good)?, "CLUSTER_NOT_REGISTERED"),
            (
                "unknown issuer",
                cluster.sign(&with(good.clone(), &json!({"iss": "https://elsewhere.example"})))?,
                "CLUSTER_NOT_REGISTERED",
            ),
            ("alg none", cluster.unsigned(&good), "CALLER_UNAUTHENTICATED"),
            (
                "HS256 with the public key",
                cluster.confuse(&good)?,
                "CALLER_UNAUTHENTICATED",
            ),
            (
                "another ServiceAccount",
                cluster.sign(&claims(issuer, warm.team.namespace(), "web", BROKER_AUDIENCE))?,
                "CALLER_NOT_PERMITTED",
            ),
            (
                "another signature",
                spoiled(&warm.bearer),
                "CLUSTER_NOT_REGISTERED",
            ),
            ("no token at all", "nonsense".to_owned(), "CALLER_UNAUTHENTICATED"),
        ];
        for (what, bearer, reason) in cases {
            assert_eq!(
                warm.ask(&bearer, &warm.subject).await?.err().as_deref(),
                Some(reason),
                "{what}"
            );
        }
        let request = federated(
            warm.team.namespace(),
            warm.team.registry(),
            SCOPE,
            &warm.client_id,
            &warm.subject,
        );
        let anonymous = warm.wires.ask(None, &request).await?;
        assert_eq!(
            anonymous.err().as_deref(),
            Some("CALLER_UNAUTHENTICATED"),
            "no header"
        );
        assert_eq!(warm.upstream_calls().await?, before, "Azure was asked");
        assert!(warm.ask(&warm.bearer, &warm.subject).await?.is_ok());
        Ok(())
    })
}

#[test]
fn a1_wrong_subject_on_a_warm_cache_is_refused() -> anyhow::Result<()> {
    beside_others(async |stack| {
        if keeps_its_key(stack) {
            return Ok(());
        }
        let warm = Warm::new(stack, "a1-subject").await?;
        let issuer = stack.plane().issuer();
        let good = claims(issuer, warm.team.namespace(), "web", FEDERATION_AUDIENCE);
        let now = Timestamp::now().as_second();
        let (cluster, neighbour) = (&warm.cluster, NEIGHBOUR.signing_key()?);
        let elsewhere = stack.team("a1-elsewhere").await?;
        elsewhere.create_account("web", &[], &[]).await?;
        let before = warm.upstream_calls().await?;
        let cases = [
            (
                "expired",
                cluster.sign(&with(good.clone(), &json!({"exp": now - 1})))?,
            ),
            (
                "not yet valid",
                cluster.sign(&with(good.clone(), &json!({"nbf": now + 300})))?,
            ),
            (
                "other audience",
                cluster.sign(&with(good.clone(), &json!({"aud": ["vault"]})))?,
            ),
            ("the bearer token", warm.bearer.clone()),
            ("unknown key", SigningKey::unknown(cluster.id())?.sign(&good)?),
            (
                "unknown issuer",
                cluster.sign(&with(good.clone(), &json!({"iss": "https://elsewhere.example"})))?,
            ),
            (
                "the same account of another cluster with the same issuer",
                neighbour.sign(&good)?,
            ),
            ("alg none", cluster.unsigned(&good)),
            ("HS256 with the public key", cluster.confuse(&good)?),
            (
                "not a ServiceAccount",
                cluster.sign(&with(good.clone(), &json!({"sub": "admin"})))?,
            ),
            (
                "another namespace",
                stack
                    .mint_token(elsewhere.namespace(), "web", FEDERATION_AUDIENCE, TEN_MINUTES)
                    .await?,
            ),
            ("another signature", spoiled(&warm.subject)),
        ];
        for (what, subject) in cases {
            let answer = warm.ask(&warm.bearer, &subject).await?;
            assert_eq!(answer.err().as_deref(), Some("SUBJECT_TOKEN_REJECTED"), "{what}");
        }
        assert_eq!(warm.upstream_calls().await?, before, "Azure was asked");
        assert!(warm.ask(&warm.bearer, &warm.subject).await?.is_ok());
        Ok(())
    })
}

#[test]
fn a1_syncer_of_another_cluster_gets_nothing_of_this_one() -> anyhow::Result<()> {
    beside_others(async |stack| {
        if keeps_its_key(stack) {
            return Ok(());
        }
        let warm = Warm::new(stack, "a1-cluster").await?;
        let issuer = stack.plane().issuer();
        let neighbour =
            NEIGHBOUR
                .signing_key()?
                .sign(&claims(issuer, NAMESPACE, "acrpull-syncer", BROKER_AUDIENCE))?;
        let answer = warm.ask(&neighbour, &warm.subject).await?;
        assert_eq!(answer.err().as_deref(), Some("SUBJECT_TOKEN_REJECTED"));

        // The grant names the cluster, and the cluster is the one whose key signed.
        let namespace = format!("{}-any", BY_CLIENT_ID.prefix);
        let request = broker_owned(
            &namespace,
            BY_CLIENT_ID.registry,
            Some(SCOPE),
            &BY_CLIENT_ID.identity().client_id,
        );
        let answer = warm.wires.ask(Some(&neighbour), &request).await?;
        assert_eq!(answer.err().as_deref(), Some("POLICY_DENIED"));
        assert!(warm.wires.ask(Some(&warm.bearer), &request).await?.is_ok());
        Ok(())
    })
}

/// The token with its signature backwards.
fn spoiled(token: &str) -> String {
    let (body, signature) = token.rsplit_once('.').unwrap_or((token, ""));
    format!("{body}.{}", signature.chars().rev().collect::<String>())
}

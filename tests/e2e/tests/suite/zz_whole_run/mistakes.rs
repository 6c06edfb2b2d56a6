//! Requests that go wrong with a secret in them, over both wires, and all that comes back: status, headers, trailers,
//! details and body. A field may hold a token by mistake; whoever refuses it must not repeat it.

use anyhow::Context as _;
use e2e::{Canaries, Stack, Team};
use proto::v1::credential_service_client::CredentialServiceClient;
use proto::v1::get_docker_config_request::Identity;
use proto::v1::{CloudReference, FederatedIdentity, GetDockerConfigRequest};
use reqwest::header::HeaderMap;
use reqwest::{Client, Method, RequestBuilder};
use tonic::Status;
use tonic::transport::{Certificate, Channel, ClientTlsConfig, Endpoint};

use super::artefacts::Artefact;
use super::{PATIENCE, SCOPE};
use crate::wire::{broker_owned, federated};

/// A caller with a good token who does everything wrong.
pub(super) struct Mistakes {
    grpc: CredentialServiceClient<Channel>,
    http: Client,
    url: String,
    bearer: String,
    subject: String,
    good: GetDockerConfigRequest,
}

/// One request.
struct Mistake {
    name: String,
    bearer: Option<String>,
    request: GetDockerConfigRequest,
}

impl Mistakes {
    pub(super) async fn new(
        stack: &Stack,
        team: &Team<'_>,
        bearer: String,
        subject: String,
    ) -> anyhow::Result<Self> {
        let (url, ca) = (stack.broker_url()?, stack.broker_ca_pem());
        let tls = ClientTlsConfig::new().ca_certificate(Certificate::from_pem(ca));
        let channel = Endpoint::from_shared(url.clone())?
            .tls_config(tls)?
            .timeout(PATIENCE)
            .connect()
            .await?;
        let http = Client::builder()
            .tls_certs_only([reqwest::Certificate::from_pem(ca.as_bytes())?])
            .timeout(PATIENCE)
            .no_proxy()
            .build()?;
        let client_id = "33333333-3333-3333-3333-3333333333ff";
        let good = federated(team.namespace(), team.registry(), SCOPE, client_id, &subject);
        Ok(Self {
            grpc: CredentialServiceClient::new(channel),
            http,
            url,
            bearer,
            subject,
            good,
        })
    }

    /// Makes them all. Every answer is a refusal.
    pub(super) async fn make_all(&self, canaries: &mut Canaries) -> anyhow::Result<Vec<Artefact>> {
        let mut answers = Vec::new();
        let forged = canaries.plant("a token that is none");
        for mistake in self.of_tokens(&forged).into_iter().chain(self.of_fields()) {
            let name = &mistake.name;
            let status = self.over_grpc(&mistake).await;
            let status = status.with_context(|| format!("{name} over gRPC is no mistake"))?;
            answers.push(Artefact::ours(format!("gRPC, {name}"), everything(&status)));
            let post = self.authorized(Method::POST, "/v1/docker-config", mistake.bearer.as_deref());
            answers.push(self.over_http(name, post.json(&mistake.request)).await?);
        }
        answers.extend(self.of_http(&forged).await?);
        Ok(answers)
    }

    /// Tokens that are none, and good ones that are for something else.
    fn of_tokens(&self, forged: &str) -> Vec<Mistake> {
        let bearer = |name: &str, bearer: Option<String>| Mistake {
            name: name.to_owned(),
            bearer,
            request: self.good.clone(),
        };
        let subject = |name: &str, subject_token: String| Mistake {
            name: name.to_owned(),
            bearer: Some(self.bearer.clone()),
            request: self.with_identity(|identity| identity.subject_token = subject_token),
        };
        let (head, _signature) = self.bearer.rsplit_once('.').unwrap_or_default();
        vec![
            bearer("no caller's token", None),
            bearer("a caller's token that is none", Some(forged.to_owned())),
            bearer(
                "a caller's token with another signature",
                Some(format!("{head}.{forged}")),
            ),
            bearer("a subject token as the caller's", Some(self.subject.clone())),
            subject("a subject token that is none", forged.to_owned()),
            subject(
                "a subject token with another signature",
                format!("{head}.{forged}"),
            ),
            subject("the caller's token as the subject token", self.bearer.clone()),
        ]
    }

    /// A good token in every field but its own.
    fn of_fields(&self) -> Vec<Mistake> {
        let token = || self.subject.clone();
        let request = |change: &dyn Fn(&mut GetDockerConfigRequest)| {
            let mut request = self.good.clone();
            change(&mut request);
            request
        };
        let cloud = |name: String, authority_host: String| {
            request(&|request| {
                request.cloud = Some(CloudReference {
                    name: name.clone(),
                    authority_host: authority_host.clone(),
                });
            })
        };
        let (namespace, registry) = (&self.namespace(), &self.good.registry);
        let fields = [
            ("the registry", request(&|request| request.registry = token())),
            ("a scope", request(&|request| request.scopes = vec![token()])),
            (
                "a repository",
                request(&|request| request.scopes = vec![format!("repository:{}:pull", token())]),
            ),
            (
                "an account",
                request(&|request| request.service_accounts = vec![token()]),
            ),
            (
                "the namespace",
                request(&|request| request.binding.get_or_insert_default().namespace = token()),
            ),
            (
                "the name",
                request(&|request| request.binding.get_or_insert_default().name = token()),
            ),
            (
                "the tenant",
                self.with_identity(|identity| identity.tenant_id = token()),
            ),
            (
                "the client",
                self.with_identity(|identity| identity.client_id = token()),
            ),
            (
                "the client of the broker",
                broker_owned(namespace, registry, Some(SCOPE), &token()),
            ),
            ("the cloud", cloud(token(), String::new())),
            (
                "the authority",
                cloud("AirgappedCloud".to_owned(), format!("https://{}", token())),
            ),
            (
                "a fingerprint",
                request(&|request| request.rejected_fingerprint = token().into_bytes().into()),
            ),
        ];
        let mistakes = fields.map(|(field, request)| Mistake {
            name: format!("a token as {field}"),
            bearer: Some(self.bearer.clone()),
            request,
        });
        mistakes.into()
    }

    /// What only HTTP can get wrong.
    async fn of_http(&self, forged: &str) -> anyhow::Result<Vec<Artefact>> {
        let (token, path) = (&self.subject, "/v1/docker-config");
        let good = Some(self.bearer.as_str());
        let post = |bearer| self.authorized(Method::POST, path, bearer);
        let requests = [
            (
                "a token in the path",
                self.authorized(Method::GET, &format!("/v1/{token}"), None),
            ),
            (
                "a token in the query",
                self.authorized(Method::POST, &format!("{path}?access_token={token}"), None),
            ),
            (
                "a password",
                self.http
                    .post(format!("{}{path}", self.url))
                    .basic_auth("user", Some(forged)),
            ),
            ("a cookie", post(None).header("cookie", format!("token={token}"))),
            (
                "another method",
                self.authorized(Method::PUT, path, good).body(token.clone()),
            ),
            (
                "a body that is no JSON",
                post(good)
                    .header("content-type", "application/json")
                    .body(token.clone()),
            ),
            (
                "an unknown member",
                post(good).json(&serde_json::json!({ (token.as_str()): token, "subjectToken": token })),
            ),
            (
                "a member of another type",
                post(good).json(&serde_json::json!({"federated": token, "binding": [token]})),
            ),
            (
                "another content type",
                post(good)
                    .header("content-type", token.as_str())
                    .body(token.clone()),
            ),
            ("a long body", post(good).json(&vec![token; 1_000])),
        ];
        let mut answers = Vec::new();
        for (name, request) in requests {
            answers.push(self.over_http(name, request).await?);
        }
        Ok(answers)
    }

    fn namespace(&self) -> String {
        let binding = self.good.binding.as_ref();
        binding.map_or_else(String::new, |binding| binding.namespace.clone())
    }

    fn with_identity(&self, change: impl FnOnce(&mut FederatedIdentity)) -> GetDockerConfigRequest {
        let mut request = self.good.clone();
        if let Some(Identity::Federated(identity)) = &mut request.identity {
            change(identity);
        }
        request
    }

    fn authorized(&self, method: Method, path: &str, bearer: Option<&str>) -> RequestBuilder {
        let request = self.http.request(method, format!("{}{path}", self.url));
        match bearer {
            Some(token) => request.bearer_auth(token),
            None => request,
        }
    }

    /// The refusal; none if there is a credential.
    async fn over_grpc(&self, mistake: &Mistake) -> Option<Status> {
        let mut request = tonic::Request::new(mistake.request.clone());
        if let Some(token) = &mistake.bearer {
            let value = format!("Bearer {token}").parse().ok()?;
            request.metadata_mut().insert("authorization", value);
        }
        self.grpc.clone().get_docker_config(request).await.err()
    }

    async fn over_http(&self, name: &str, request: RequestBuilder) -> anyhow::Result<Artefact> {
        let answer = request.send().await?;
        let (status, headers) = (answer.status(), answer.headers().clone());
        let body = answer.bytes().await?;
        anyhow::ensure!(!status.is_success(), "{name} over HTTP is no mistake");
        let content = [head(&headers), status.to_string().into_bytes(), body.to_vec()].concat();
        Ok(Artefact::ours(format!("HTTP, {name}"), content))
    }
}

/// Text, headers and trailers, and the details as they are in them.
fn everything(status: &Status) -> Vec<u8> {
    [
        head(&status.metadata().clone().into_headers()),
        format!("{status:?}").into_bytes(),
        status.details().to_vec(),
    ]
    .concat()
}

fn head(headers: &HeaderMap) -> Vec<u8> {
    let lines = headers
        .iter()
        .flat_map(|(name, value)| [name.as_str().as_bytes(), b": ", value.as_bytes(), b"\n"].concat());
    lines.collect()
}

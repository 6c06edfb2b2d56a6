//! One small Azure, and a client that walks through it as a broker does.

use anyhow::{Context, Result};
use azure_simulator::{
    Action, Builder, Fault, Handle, Issuer, Operation, Principal, Registry, Role, Service,
    ServiceAccountToken, Simulator, State,
};
use reqwest::{Client, Response, StatusCode};
use serde_json::Value;

pub(crate) const TENANT: &str = "22222222-2222-2222-2222-222222222222";
pub(crate) const APP: &str = "33333333-3333-3333-3333-000000000001";
pub(crate) const APP_OBJECT: &str = "44444444-4444-4444-4444-000000000001";
pub(crate) const UAMI: &str = "33333333-3333-3333-3333-000000000002";
pub(crate) const UAMI_OBJECT: &str = "44444444-4444-4444-4444-000000000002";
pub(crate) const UAMI_RESOURCE: &str =
    "/subscriptions/s/resourceGroups/g/providers/Microsoft.ManagedIdentity/userAssignedIdentities/web";
pub(crate) const ISSUER: &str = "https://oidc.example/cluster/";
pub(crate) const AUDIENCE: &str = "api://AzureCRTokenExchange";
pub(crate) const HOST: &str = "demo.azurecr.io";
pub(crate) const SCOPE: &str = "repository:team/app:pull";
pub(crate) const ACR_SCOPE: &str = "https://containerregistry.azure.net/.default";
pub(crate) const ACR_RESOURCE: &str = "https://containerregistry.azure.net";

/// An application federated with `web/app`, a managed identity, and a registry that both may pull from.
pub(crate) fn state() -> State {
    State::default()
        .with_tenant(TENANT)
        .with_issuer(Issuer::simulated(ISSUER))
        .with_principal(Principal::app(TENANT, APP, APP_OBJECT).federated(
            ISSUER,
            "system:serviceaccount:web:app",
            AUDIENCE,
        ))
        .with_vm_identity(Principal::user_assigned(TENANT, UAMI, UAMI_OBJECT, UAMI_RESOURCE))
        .with_registry(
            Registry::new(HOST, TENANT)
                .with_role(APP_OBJECT, Role::AcrPull)
                .with_role(UAMI_OBJECT, Role::AcrPull)
                .with_repository("team/app", &["v1"]),
        )
}

/// A simulator with [`state`].
pub(crate) fn builder() -> Builder {
    Simulator::builder().state(state()).seed(1)
}

/// A client and the simulator that it talks to.
pub(crate) struct Walk {
    pub(crate) azure: Handle,
    pub(crate) http: Client,
}

impl Walk {
    pub(crate) async fn start() -> Result<Self> {
        Self::with(builder()).await
    }

    pub(crate) async fn with(builder: Builder) -> Result<Self> {
        let azure = builder.start().await?;
        let http = azure.client()?.build()?;
        Ok(Self { azure, http })
    }

    /// A ServiceAccount token for `web/app`.
    pub(crate) fn assertion(&self) -> Result<String> {
        Ok(self
            .azure
            .service_account_token(&ServiceAccountToken::new(ISSUER, "web", "app", AUDIENCE))?)
    }

    pub(crate) async fn entra(&self, assertion: &str, scope: &str) -> Result<Response> {
        let form = [
            ("grant_type", "client_credentials"),
            ("client_id", APP),
            (
                "client_assertion_type",
                "urn:ietf:params:oauth:client-assertion-type:jwt-bearer",
            ),
            ("client_assertion", assertion),
            ("scope", scope),
        ];
        let url = format!("https://login.microsoftonline.com/{TENANT}/oauth2/v2.0/token");
        Ok(self.http.post(url).form(&form).send().await?)
    }

    pub(crate) async fn entra_token(&self) -> Result<String> {
        token(self.entra(&self.assertion()?, ACR_SCOPE).await?, "access_token").await
    }

    pub(crate) async fn imds(&self, query: &[(&str, &str)]) -> Result<Response> {
        let url = format!(
            "http://{}/metadata/identity/oauth2/token",
            self.azure.addresses().imds
        );
        let request = self
            .azure
            .direct_client()?
            .build()?
            .get(url)
            .header("metadata", "true");
        Ok(request
            .query(&[("api-version", "2018-02-01")])
            .query(query)
            .send()
            .await?)
    }

    pub(crate) async fn exchange(&self, host: &str, entra_token: &str) -> Result<Response> {
        let form = [
            ("grant_type", "access_token"),
            ("service", host),
            ("access_token", entra_token),
        ];
        Ok(self
            .http
            .post(format!("https://{host}/oauth2/exchange"))
            .form(&form)
            .send()
            .await?)
    }

    pub(crate) async fn scoped(&self, refresh_token: &str, scope: &str) -> Result<Response> {
        let form = [
            ("grant_type", "refresh_token"),
            ("service", HOST),
            ("scope", scope),
            ("refresh_token", refresh_token),
        ];
        Ok(self
            .http
            .post(format!("https://{HOST}/oauth2/token"))
            .form(&form)
            .send()
            .await?)
    }

    /// The whole way of a federated identity, to an access token for [`SCOPE`].
    pub(crate) async fn access_token(&self) -> Result<String> {
        let entra_token = self.entra_token().await?;
        let refresh_token = token(self.exchange(HOST, &entra_token).await?, "refresh_token").await?;
        token(self.scoped(&refresh_token, SCOPE).await?, "access_token").await
    }

    pub(crate) async fn manifest(&self, name: &str, access_token: &str) -> Result<StatusCode> {
        let url = format!("https://{HOST}/v2/{name}/manifests/v1");
        Ok(self
            .http
            .get(url)
            .bearer_auth(access_token)
            .send()
            .await?
            .status())
    }
}

/// An exchange that the fault hits, with what became of it.
pub(crate) async fn exchange_with(walk: &Walk, action: Action) -> Result<reqwest::Result<Response>> {
    let entra_token = walk.entra_token().await?;
    walk.azure.clear_faults();
    walk.azure
        .add_fault(Fault::new(action).on(Service::Acr, Operation::Exchange))?;
    let form = [
        ("grant_type", "access_token"),
        ("service", HOST),
        ("access_token", entra_token.as_str()),
    ];
    let url = format!("https://{HOST}/oauth2/exchange");
    Ok(walk.http.post(url).form(&form).send().await)
}

/// The token in a successful answer.
pub(crate) async fn token(response: Response, member: &str) -> Result<String> {
    let status = response.status();
    let body: Value = response.json().await?;
    let token = body.get(member).and_then(Value::as_str);
    token
        .map(str::to_owned)
        .with_context(|| format!("no {member} in {status} {body}"))
}

/// Status and JSON body.
pub(crate) async fn answer(response: Response) -> Result<(u16, Value)> {
    Ok((response.status().as_u16(), response.json().await?))
}

//! A request, read completely, in the form in which decisions, faults and the log look at it.

use std::net::IpAddr;

use base64::{Engine, prelude::BASE64_STANDARD};
use bytes::Bytes;
use http::{HeaderMap, Method, header, request::Parts};

use crate::{Operation, Service, jwt::Parsed};

/// Names of parameters whose values are secrets.
const SECRET_PARAMETERS: [&str; 5] = [
    "client_assertion",
    "access_token",
    "refresh_token",
    "password",
    "client_secret",
];

/// Names and values of a query or a form, in order.
#[derive(Debug, Clone, Default)]
pub(crate) struct Parameters(pub(crate) Vec<(String, String)>);

/// One request.
#[derive(Debug, Clone)]
pub(crate) struct Request {
    pub(crate) service: Service,
    pub(crate) operation: Operation,
    pub(crate) method: Method,
    /// Lower case, without port.
    pub(crate) host: String,
    /// Host and port as the client wrote them.
    pub(crate) authority: String,
    pub(crate) path: String,
    pub(crate) query: Parameters,
    pub(crate) form: Parameters,
    pub(crate) headers: HeaderMap,
    pub(crate) peer: IpAddr,
}

/// Whom and what a request is about, as far as its text tells.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Subject {
    pub(crate) tenant: Option<String>,
    pub(crate) client_id: Option<String>,
    pub(crate) host: Option<String>,
    pub(crate) grant_type: Option<String>,
}

impl Parameters {
    /// Decodes `a=b&c=d`.
    pub(crate) fn decode(text: &[u8]) -> Self {
        Self(url::form_urlencoded::parse(text).into_owned().collect())
    }

    /// The first value, unless it is empty.
    pub(crate) fn get(&self, name: &str) -> Option<&str> {
        let first = self.0.iter().find(|(key, _)| key == name);
        first
            .map(|(_, value)| value.as_str())
            .filter(|value| !value.is_empty())
    }

    /// Every value.
    pub(crate) fn all<'a>(&'a self, name: &'a str) -> impl Iterator<Item = &'a str> {
        self.0
            .iter()
            .filter(move |(key, _)| key == name)
            .map(|(_, value)| value.as_str())
    }

    /// Whether the parameter of this name is a secret.
    pub(crate) fn is_secret(name: &str) -> bool {
        SECRET_PARAMETERS.contains(&name)
    }
}

impl Request {
    /// From a request's head and its body, which may be empty for requests that are passed on as a stream.
    pub(crate) fn new(service: Service, head: &Parts, body: &Bytes, peer: IpAddr) -> Self {
        let authority = head.uri.authority().map(ToString::to_string).or_else(|| {
            head.headers
                .get(header::HOST)
                .and_then(|host| host.to_str().ok())
                .map(str::to_owned)
        });
        let authority = authority.unwrap_or_default();
        let path = head.uri.path().to_owned();
        Self {
            service,
            operation: Operation::of(service, &path),
            method: head.method.clone(),
            host: without_port(&authority).to_ascii_lowercase(),
            authority,
            path,
            query: Parameters::decode(head.uri.query().unwrap_or_default().as_bytes()),
            form: if is_form(&head.headers) {
                Parameters::decode(body)
            } else {
                Parameters::default()
            },
            headers: head.headers.clone(),
            peer,
        }
    }

    /// A connection that has not brought a request yet.
    pub(crate) fn connection(service: Service, host: &str, peer: IpAddr) -> Self {
        Self {
            service,
            operation: Operation::Connect,
            method: Method::CONNECT,
            host: host.to_ascii_lowercase(),
            authority: host.to_owned(),
            path: String::new(),
            query: Parameters::default(),
            form: Parameters::default(),
            headers: HeaderMap::new(),
            peer,
        }
    }

    /// Whether its body is a form.
    pub(crate) fn has_form(&self) -> bool {
        is_form(&self.headers)
    }

    /// A header's text.
    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name)?.to_str().ok()
    }

    /// The token of `Authorization: Bearer`.
    pub(crate) fn bearer(&self) -> Option<&str> {
        let (scheme, token) = self.header("authorization")?.split_once(' ')?;
        scheme.eq_ignore_ascii_case("bearer").then_some(token.trim())
    }

    /// User and password of `Authorization: Basic`.
    pub(crate) fn basic(&self) -> Option<(String, String)> {
        let (scheme, encoded) = self.header("authorization")?.split_once(' ')?;
        if !scheme.eq_ignore_ascii_case("basic") {
            return None;
        }
        let text = String::from_utf8(BASE64_STANDARD.decode(encoded.trim()).ok()?).ok()?;
        let (user, password) = text.split_once(':')?;
        Some((user.to_owned(), password.to_owned()))
    }

    /// Every secret it carries, with the name of the place.
    pub(crate) fn secrets(&self) -> Vec<(String, String)> {
        let parameters = self.query.0.iter().chain(&self.form.0);
        let mut secrets: Vec<_> = parameters
            .filter(|(name, value)| Parameters::is_secret(name) && !value.is_empty())
            .cloned()
            .collect();
        let password = self.basic().map(|(_, password)| password);
        let token = self.bearer().map(str::to_owned).or(password);
        secrets.extend(token.map(|token| ("authorization".to_owned(), token)));
        secrets
    }

    /// Whom and what it is about.
    pub(crate) fn subject(&self) -> Subject {
        let parameter = |name| {
            self.form
                .get(name)
                .or_else(|| self.query.get(name))
                .map(str::to_owned)
        };
        let tenant = match self.service {
            Service::Entra => self.path.split('/').nth(1).map(str::to_owned),
            Service::Acr => parameter("tenant"),
            Service::Imds | Service::Proxy => None,
        };
        // A registry is told who calls by the tokens it is given.
        let presented = || {
            self.secrets().iter().find_map(|(_, token)| {
                Parsed::parse(token).and_then(|token| token.claim("appid").map(str::to_owned))
            })
        };
        let client_id = match self.service {
            Service::Acr => presented(),
            Service::Entra | Service::Imds | Service::Proxy => parameter("client_id"),
        };
        Subject {
            tenant,
            client_id,
            host: Some(self.host.clone()),
            grant_type: parameter("grant_type"),
        }
    }
}

fn is_form(headers: &HeaderMap) -> bool {
    headers
        .get(header::CONTENT_TYPE)
        .and_then(|value| value.to_str().ok())
        .is_some_and(|value| value.starts_with("application/x-www-form-urlencoded"))
}

/// Host of `host:port`.
fn without_port(authority: &str) -> &str {
    match authority.rsplit_once(':') {
        Some((host, port)) if port.bytes().all(|byte| byte.is_ascii_digit()) => host,
        _ => authority,
    }
}

#[cfg(test)]
impl Request {
    /// A request as a test needs it: `POST` with a form if there is one.
    pub(crate) fn sample(service: Service, url: &str, form: &[(&str, &str)]) -> Self {
        let method = if form.is_empty() {
            Method::GET
        } else {
            Method::POST
        };
        let (head, ()) = http::Request::builder()
            .method(method)
            .uri(url)
            .header(header::CONTENT_TYPE, "application/x-www-form-urlencoded")
            .body(())
            .unwrap()
            .into_parts();
        let body = url::form_urlencoded::Serializer::new(String::new())
            .extend_pairs(form)
            .finish();
        Self::new(service, &head, &Bytes::from(body), IpAddr::from([127, 0, 0, 1]))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn request_host_has_no_port_and_is_lower_case() {
        let request = Request::sample(Service::Acr, "https://Demo.AzureCR.io:10443/v2/", &[]);
        assert_eq!(
            (request.host.as_str(), request.authority.as_str()),
            ("demo.azurecr.io", "Demo.AzureCR.io:10443")
        );
    }

    #[test]
    fn request_secrets_are_found_in_form_and_header() {
        let mut request = Request::sample(
            Service::Acr,
            "https://a/oauth2/token?service=a",
            &[("refresh_token", "r"), ("scope", "s")],
        );
        request
            .headers
            .insert("authorization", "Basic dTpw".parse().unwrap());
        let secrets = request.secrets();
        assert_eq!(
            secrets,
            [
                ("refresh_token".into(), "r".into()),
                ("authorization".into(), "p".into())
            ]
        );
    }

    #[test]
    fn subject_of_entra_call_is_tenant_and_client() {
        let request = Request::sample(
            Service::Entra,
            "https://login/t1/oauth2/v2.0/token",
            &[("client_id", "c1"), ("grant_type", "client_credentials")],
        );
        let subject = request.subject();
        assert_eq!(subject.tenant.as_deref(), Some("t1"));
        assert_eq!(subject.client_id.as_deref(), Some("c1"));
        assert_eq!(subject.grant_type.as_deref(), Some("client_credentials"));
    }
}

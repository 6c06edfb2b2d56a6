//! The registry: what it refuses, and images that are made, pushed and pulled.

use std::net::SocketAddr;
use std::sync::Arc;

use anyhow::Context as _;
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use controlplane::{Crane, Registry, RegistryOptions, Supervisor, TokenAuth, Tools};
use jsonwebtoken::{Algorithm, EncodingKey, Header};
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

const SERVICE: &str = "demo.azurecr.io";
const ISSUER: &str = "Azure Container Registry";
const KEY_ID: &str = "key-1";
const FILES: [(&str, &str); 2] = [("hello.txt", "hello\n"), ("etc/motd", "welcome\n")];

/// Far in the future, in seconds since 1970: the registry has its own clock.
const EXPIRES_AT: u64 = 4_000_000_000;

struct TokenIssuer {
    key: rcgen::KeyPair,
}

impl TokenIssuer {
    fn new() -> anyhow::Result<Self> {
        Ok(Self {
            key: rcgen::KeyPair::generate()?,
        })
    }

    fn jwks(&self) -> anyhow::Result<String> {
        // An uncompressed point: 4, x, y.
        let point = self.key.public_key_raw();
        let coordinate =
            |range| Ok::<_, anyhow::Error>(URL_SAFE_NO_PAD.encode(point.get(range).context("no P-256 key")?));
        let (x, y) = (coordinate(1..33)?, coordinate(33..65)?);
        let key =
            json!({"kty": "EC", "crv": "P-256", "use": "sig", "alg": "ES256", "kid": KEY_ID, "x": x, "y": y});
        Ok(json!({ "keys": [key] }).to_string())
    }

    fn token(&self, audience: &str, repository: &str) -> anyhow::Result<String> {
        let access = json!([{"type": "repository", "name": repository, "actions": ["pull"]}]);
        let claims: Value = json!({"iss": ISSUER, "sub": "test", "aud": audience, "exp": EXPIRES_AT, "nbf": 0, "iat": 0,
            "jti": "1", "access": access});
        let header = Header {
            kid: Some(KEY_ID.to_owned()),
            ..Header::new(Algorithm::ES256)
        };
        let key = EncodingKey::from_ec_pem(self.key.serialize_pem().as_bytes())?;
        Ok(jsonwebtoken::encode(&header, &claims, &key)?)
    }
}

/// The status and the headers of a GET.
async fn get(address: SocketAddr, path: &str, token: Option<&str>) -> anyhow::Result<(u16, String)> {
    let authorization = token
        .map(|token| format!("Authorization: Bearer {token}\r\n"))
        .unwrap_or_default();
    let mut stream = TcpStream::connect(address).await?;
    let request =
        format!("GET {path} HTTP/1.1\r\nHost: {SERVICE}\r\n{authorization}Connection: close\r\n\r\n");
    stream.write_all(request.as_bytes()).await?;
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer).await?;
    let answer = String::from_utf8_lossy(&answer).into_owned();
    let status = answer.split(' ').nth(1).context("no status line")?.parse()?;
    Ok((status, answer))
}

#[tokio::test]
async fn registry_with_token_auth_serves_only_a_token_for_the_repository() -> anyhow::Result<()> {
    let issuer = TokenIssuer::new()?;
    let auth = TokenAuth {
        realm: "https://demo.azurecr.io/oauth2/token".to_owned(),
        service: SERVICE.to_owned(),
        issuer: ISSUER.to_owned(),
        jwks_json: issuer.jwks()?,
    };
    let registry = Registry::start(&RegistryOptions { auth: Some(auth) }).await?;
    let digest = registry.push_image("team/app", "v1", &FILES).await?;
    let path = format!("/v2/team/app/manifests/{digest}");

    let (status, headers) = get(registry.address(), &path, None).await?;
    assert_eq!(status, 401);
    let challenge = headers
        .lines()
        .find(|line| line.to_lowercase().starts_with("www-authenticate:"))
        .context("no challenge")?;
    assert!(
        challenge
            .contains(r#"Bearer realm="https://demo.azurecr.io/oauth2/token",service="demo.azurecr.io""#),
        "{challenge}"
    );
    assert!(
        challenge.contains(r#"scope="repository:team/app:pull""#),
        "{challenge}"
    );

    let attempts = [
        ("its own", issuer.token(SERVICE, "team/app")?, 200),
        ("another repository's", issuer.token(SERVICE, "team/other")?, 401),
        (
            "another service's",
            issuer.token("other.azurecr.io", "team/app")?,
            401,
        ),
        (
            "another issuer's key",
            TokenIssuer::new()?.token(SERVICE, "team/app")?,
            401,
        ),
    ];
    for (which, token, expected) in attempts {
        assert_eq!(
            get(registry.address(), &path, Some(&token)).await?.0,
            expected,
            "{which}"
        );
    }
    Ok(())
}

#[tokio::test]
async fn registry_without_auth_gives_back_what_was_pushed() -> anyhow::Result<()> {
    let registry = Registry::start(&RegistryOptions::default()).await?;
    let supervisor = Supervisor::new("crane")?;
    let crane = Crane::new(Arc::clone(&supervisor), &Tools::resolve().await?);
    let reference = format!("{}/team/app:v1", registry.address());
    let digest = crane.push_new(&reference, &FILES).await?;
    assert_eq!(crane.run(&["digest", &reference]).await?.trim(), digest);
    let files = crane.pull(&reference).await?;
    for (_, content) in FILES {
        assert!(
            files
                .windows(content.len())
                .any(|window| window == content.as_bytes())
        );
    }
    let error = crane
        .pull(&format!("{}/team/app:v2", registry.address()))
        .await
        .expect_err("there is no v2");
    assert!(format!("{error:#}").contains("MANIFEST_UNKNOWN"), "{error:#}");
    Ok(())
}

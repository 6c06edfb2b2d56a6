//! Answers whose content is wrong: headers, bodies, JSON, tokens.

use anyhow::{Context, Result};
use azure_simulator::{
    Action, BodyVariant, ClockChange, ExpiryAs, Fault, JsonQuirk, Operation, Service, TokenFault,
};
use base64::{Engine, prelude::BASE64_URL_SAFE_NO_PAD};
use serde_json::{Value, json};

use crate::azure::{ACR_SCOPE, HOST, Walk, exchange_with, token};

/// Whether a body is the variant that was asked for.
type Check = fn(&[u8]) -> bool;

#[tokio::test]
async fn body_is_replaced_by_each_variant() -> Result<()> {
    let walk = Walk::start().await?;
    let own = |bytes: &[u8]| bytes.windows(13).any(|window| window == b"refresh_token");
    let variants: [(BodyVariant, Check); 8] = [
        (BodyVariant::Raw("{}".to_owned()), |bytes| bytes == b"{}"),
        (BodyVariant::Empty, <[u8]>::is_empty),
        (BodyVariant::Html, |bytes| bytes.starts_with(b"<html>")),
        (BodyVariant::Huge(3_000_000), |bytes| bytes.len() == 3_000_000),
        (BodyVariant::Bom, |bytes| bytes.starts_with(b"\xef\xbb\xbf{")),
        (BodyVariant::InvalidUtf8, |bytes| {
            std::str::from_utf8(bytes).is_err()
        }),
        (BodyVariant::DuplicateKeys, |bytes| {
            String::from_utf8_lossy(bytes).matches("refresh_token").count() == 2
        }),
        (BodyVariant::DeepJson, |bytes| {
            bytes.starts_with(b"[[[") && bytes.len() == 20_000
        }),
    ];
    for (body, is_it) in variants {
        let keeps_own = matches!(body, BodyVariant::Bom | BodyVariant::DuplicateKeys);
        let response = exchange_with(&walk, Action::Body { body: body.clone() }).await??;
        assert_eq!(response.status(), 200);
        let bytes = response.bytes().await?;
        assert!(is_it(&bytes) && own(&bytes) == keeps_own, "{body:?}");
    }
    Ok(())
}

#[tokio::test]
async fn content_type_is_replaced_or_gone() -> Result<()> {
    let walk = Walk::start().await?;
    let html = Action::ContentType {
        value: Some("text/html".to_owned()),
    };
    let typed = exchange_with(&walk, html).await??;
    assert_eq!(typed.headers()["content-type"], "text/html");
    let untyped = exchange_with(&walk, Action::ContentType { value: None }).await??;
    assert!(untyped.headers().get("content-type").is_none());
    Ok(())
}

#[tokio::test]
async fn json_quirk_changes_members() -> Result<()> {
    let walk = Walk::start().await?;
    let missing = JsonQuirk {
        missing: vec!["refresh_token".to_owned()],
        ..JsonQuirk::default()
    };
    let quirky = exchange_with(&walk, Action::JsonQuirk(missing)).await??;
    assert_eq!(quirky.json::<Value>().await?, json!({}));

    let odd = JsonQuirk {
        expires_in_string: true,
        null_fields: true,
        extra_fields: true,
        ..JsonQuirk::default()
    };
    walk.azure
        .add_fault(Fault::new(Action::JsonQuirk(odd)).on(Service::Entra, Operation::Token))?;
    let body: Value = walk.entra(&walk.assertion()?, ACR_SCOPE).await?.json().await?;
    assert!(body["expires_in"].is_string(), "{body}");
    assert!(body["ext_expires_in"].is_null(), "{body}");
    assert!(body.get("x_unheard_of").is_some(), "{body}");
    Ok(())
}

/// The claims of a token, if it is one.
fn claims(token: &str) -> Option<Value> {
    let claims = token.split('.').nth(1)?;
    serde_json::from_slice(&BASE64_URL_SAFE_NO_PAD.decode(claims).ok()?).ok()
}

#[tokio::test]
async fn token_has_each_defect() -> Result<()> {
    let walk = Walk::start().await?;
    let spoilt = async |fault: TokenFault| {
        let response = exchange_with(&walk, Action::Token(fault)).await??;
        token(response, "refresh_token").await
    };
    let usual = TokenFault::default;
    let opaque = TokenFault {
        opaque: true,
        ..usual()
    };
    assert!(spoilt(opaque).await?.starts_with("opaque-"));
    let empty = TokenFault {
        empty: true,
        ..usual()
    };
    assert_eq!(spoilt(empty).await?, "");
    let large = TokenFault {
        size_bytes: Some(50_000),
        ..usual()
    };
    assert!(spoilt(large).await?.len() > 50_000);

    let now = jiff::Timestamp::now().as_second();
    let short = TokenFault {
        ttl_s: Some(10),
        ..usual()
    };
    let short = claims(&spoilt(short).await?).context("no claims")?;
    let exp = short["exp"].as_i64().context("no exp")?;
    assert!((5..=20).contains(&(exp - now)), "{short}");
    let past = TokenFault {
        exp_delta_s: -86_400,
        exp_as: ExpiryAs::Float,
        ..usual()
    };
    let past = claims(&spoilt(past).await?).context("no claims")?;
    let exp = past["exp"].to_string();
    let (seconds, _fraction) = exp.split_once('.').context("no fraction")?;
    assert!(seconds.parse::<i64>()? < now, "{past}");
    let endless = TokenFault {
        exp_as: ExpiryAs::Missing,
        ..usual()
    };
    let endless = claims(&spoilt(endless).await?).context("no claims")?;
    assert!(
        endless.get("exp").is_none() && endless["aud"] == HOST,
        "{endless}"
    );
    Ok(())
}

#[tokio::test]
async fn gzip_bomb_is_small_on_the_wire() -> Result<()> {
    let walk = Walk::start().await?;
    let bomb = exchange_with(&walk, Action::GzipBomb { bytes: 10_000_000 }).await??;
    assert_eq!(bomb.headers()["content-encoding"], "gzip");
    let body = bomb.bytes().await?;
    assert!(body.len() < 20_000, "{}", body.len());
    let became = std::io::copy(
        &mut flate2::read::MultiGzDecoder::new(body.as_ref()),
        &mut std::io::sink(),
    )?;
    assert!(became >= 10_000_000, "{became}");
    Ok(())
}

/// `Date` of an answer, as seconds ahead of this machine.
fn date_ahead_s(response: &reqwest::Response) -> Result<Option<i64>> {
    let Some(date) = response.headers().get("date") else {
        return Ok(None);
    };
    let date = jiff::fmt::rfc2822::parse(date.to_str()?)?.timestamp();
    Ok(Some(date.as_second() - jiff::Timestamp::now().as_second()))
}

#[tokio::test]
async fn date_is_the_services_time_unless_a_fault_moves_it() -> Result<()> {
    let walk = Walk::start().await?;
    walk.azure.change_clock(ClockChange::advance_s(1_000))?;
    let as_it_is = walk.entra(&walk.assertion()?, ACR_SCOPE).await?;
    let ahead = date_ahead_s(&as_it_is)?;
    assert!(
        ahead.is_some_and(|ahead| (990..=1_010).contains(&ahead)),
        "{ahead:?}"
    );
    let moved = exchange_with(
        &walk,
        Action::DateHeader {
            offset_s: Some(-5_000),
        },
    )
    .await??;
    let ahead = date_ahead_s(&moved)?;
    assert!(
        ahead.is_some_and(|ahead| (-4_010..=-3_990).contains(&ahead)),
        "{ahead:?}"
    );
    let absent = exchange_with(&walk, Action::DateHeader { offset_s: None }).await??;
    assert_eq!(date_ahead_s(&absent)?, None);
    Ok(())
}

#[tokio::test]
async fn wrong_realm_and_redirect_point_elsewhere() -> Result<()> {
    let walk = Walk::start().await?;
    let realm = Action::WrongRealm {
        host: "evil.example".to_owned(),
    };
    walk.azure
        .add_fault(Fault::new(realm).on(Service::Acr, Operation::Challenge))?;
    let response = walk.http.get(format!("https://{HOST}/v2/")).send().await?;
    let challenge = response.headers()["www-authenticate"].to_str()?.to_owned();
    assert!(
        challenge.contains(r#"realm="https://evil.example/oauth2/token""#),
        "{challenge}"
    );
    let redirect = exchange_with(
        &walk,
        Action::Redirect {
            to: "https://evil.example/".to_owned(),
        },
    )
    .await??;
    assert_eq!(
        (
            redirect.status().as_u16(),
            redirect.headers()["location"].to_str()?
        ),
        (307, "https://evil.example/")
    );
    Ok(())
}

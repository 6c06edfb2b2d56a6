//! No secret in any record, in no form.

use base64::{
    Engine as _,
    engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD},
};

use super::*;
use crate::test_scene::{OPERATOR, SYNCER, federated_request, granted_request, subject_token};

/// Shorter pieces may be in there by chance.
const FRAGMENT: usize = 16;

fn assert_absent(log: &str, what: &str, secret: &str) {
    assert!(secret.len() > FRAGMENT, "{what}");
    // The first two parts of a JWT say who and for what, and so do records; nobody writes them in this form.
    for form in [
        secret.to_owned(),
        STANDARD.encode(secret),
        URL_SAFE_NO_PAD.encode(secret),
    ] {
        for piece in form.as_bytes().windows(FRAGMENT) {
            let piece = std::str::from_utf8(piece).unwrap();
            assert!(!log.contains(piece), "{what}: {piece}");
        }
    }
}

#[tokio::test]
async fn l1_no_secret_is_in_any_record() {
    let scene = Scene::new().await;
    let own = subject_token("east", "system:serviceaccount:web:app");
    let mut elsewhere = federated_request(&own);
    elsewhere["binding"]["namespace"] = json!("other");
    let mut secrets = vec![
        ("the syncer's token", token(SYNCER)),
        ("the operator's token", token(OPERATOR)),
        ("the subject token", own.clone()),
    ];
    for wire in BOTH {
        ask(&scene, wire, Call::GetDockerConfig, SYNCER, &granted_request()).await;
        ask(&scene, wire, Call::GetDockerConfig, SYNCER, &elsewhere).await;
        // A caller token where a subject token belongs, and the reverse.
        let confused = federated_request(&token(SYNCER));
        ask(&scene, wire, Call::GetDockerConfig, SYNCER, &confused).await;
        scene
            .send(request(wire, Call::GetDockerConfig, &own, &granted_request()))
            .await;
        ask(
            &scene,
            wire,
            Call::Explain,
            OPERATOR,
            &json!({"request": elsewhere}),
        )
        .await;
    }
    for call in [Call::GetAccessToken, Call::GetDockerConfig] {
        let answer = ask(&scene, WireFormat::Http, call, SYNCER, &granted_request()).await;
        let answer = answer.json();
        let payload = answer.get("token").or_else(|| answer.get("dockerConfigJson"));
        secrets.push(("a payload", payload.unwrap().as_str().unwrap().to_owned()));
    }
    assert_eq!(scene.records().await.len(), 12);
    let log = scene.log().text();
    for (what, secret) in &secrets {
        assert_absent(&log, what, secret);
    }
}

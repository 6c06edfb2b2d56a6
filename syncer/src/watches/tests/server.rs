//! An API server that says what a test wants, without a network.

use std::{
    convert::Infallible,
    sync::{Arc, Mutex},
};

use axum::body::Body as Answered;
use futures::{StreamExt as _, stream};
use http::{Request, Response, header::ACCEPT};
use kube::{
    Client,
    client::Body,
    core::{Status, response::StatusSummary},
};
use serde_json::{Value, json};

/// What a request asks for.
#[derive(Debug, Clone)]
pub(super) enum Asked {
    /// A page of a list.
    List { page: Option<String> },
    /// What happened after a version.
    Watch { version: String },
}

/// A request that was made.
#[derive(Debug, Clone)]
pub(super) struct Made {
    pub(super) asked: Asked,
    pub(super) accept: String,
    query: String,
}

/// What is answered.
#[derive(Debug, Clone)]
pub(super) enum Answer {
    Whole(u16, Value),
    /// Events of a watch, after which nothing comes.
    Events(Vec<Value>),
    /// A watch in which nothing ever happens; it does not end either.
    Silence,
}

type Script = dyn FnMut(Asked) -> Answer + Send;

/// The server. Clones are the same.
#[derive(Clone)]
pub(super) struct Server {
    script: Arc<Mutex<Script>>,
    made: Arc<Mutex<Vec<Made>>>,
}

impl Server {
    pub(super) fn new(script: impl FnMut(Asked) -> Answer + Send + 'static) -> Self {
        Self {
            script: Arc::new(Mutex::new(script)),
            made: Arc::default(),
        }
    }

    pub(super) fn client(&self) -> Client {
        let server = self.clone();
        let service = tower::service_fn(move |request: Request<Body>| {
            let answer = server.answer(&request);
            async move { Ok::<_, Infallible>(answer.response()) }
        });
        Client::new(service, "default")
    }

    pub(super) fn requests(&self) -> Vec<Made> {
        self.made.lock().unwrap().clone()
    }

    fn answer(&self, request: &Request<Body>) -> Answer {
        let made = Made::of(request);
        self.made.lock().unwrap().push(made.clone());
        (self.script.lock().unwrap())(made.asked)
    }
}

impl Made {
    fn of(request: &Request<Body>) -> Self {
        let query = request.uri().query().unwrap_or_default().to_owned();
        let value = |name: &str| {
            let mut pairs = query.split('&').filter_map(|pair| pair.split_once('='));
            pairs.find_map(|(key, value)| (key == name).then(|| value.to_owned()))
        };
        let asked = match value("watch") {
            Some(_true) => Asked::Watch {
                version: value("resourceVersion").unwrap_or_default(),
            },
            None => Asked::List {
                page: value("continue"),
            },
        };
        Self {
            asked,
            accept: request.headers()[ACCEPT].to_str().unwrap().to_owned(),
            query,
        }
    }

    pub(super) fn has(&self, parameter: &str) -> bool {
        self.query.split('&').any(|pair| pair == parameter)
    }
}

impl Answer {
    /// A page with objects of these names; the last one if it names no other.
    pub(super) fn list(version: &str, next_page: Option<&str>, names: &[&str]) -> Self {
        let items: Vec<_> = names.iter().map(|name| object(version, name)).collect();
        Self::Whole(
            200,
            json!({
                "apiVersion": "meta.k8s.io/v1",
                "kind": "PartialObjectMetadataList",
                "metadata": {"resourceVersion": version, "continue": next_page},
                "items": items,
            }),
        )
    }

    /// A refusal or a failure.
    pub(super) fn status(code: u16) -> Self {
        Self::Whole(code, failure(code))
    }

    /// A refusal that names a time, in seconds.
    pub(super) fn throttle(code: u16, seconds: u32) -> Self {
        let mut refusal = failure(code);
        refusal["details"] = json!({"retryAfterSeconds": seconds});
        Self::Whole(code, refusal)
    }

    /// The same within a watch.
    pub(super) fn event(code: u16) -> Self {
        Self::Events(vec![json!({"type": "ERROR", "object": failure(code)})])
    }

    /// An object that is new, within a watch.
    pub(super) fn added(version: &str, name: &str) -> Self {
        Self::Events(vec![json!({"type": "ADDED", "object": object(version, name)})])
    }

    fn response(self) -> Response<Answered> {
        let events = |events: Vec<Value>| {
            let lines = events
                .into_iter()
                .map(|event| Ok::<_, Infallible>(format!("{event}\n")));
            Answered::from_stream(stream::iter(lines).chain(stream::pending()))
        };
        let (code, body) = match self {
            Self::Whole(code, body) => (code, Answered::from(body.to_string())),
            Self::Events(all) => (200, events(all)),
            Self::Silence => (200, events(Vec::new())),
        };
        Response::builder().status(code).body(body).unwrap()
    }
}

fn object(version: &str, name: &str) -> Value {
    json!({
        "apiVersion": "meta.k8s.io/v1",
        "kind": "PartialObjectMetadata",
        "metadata": {"name": name, "namespace": "shop", "resourceVersion": version, "uid": name},
    })
}

fn failure(code: u16) -> Value {
    let status = Status {
        status: Some(StatusSummary::Failure),
        ..Status::failure("on purpose", "OnPurpose")
    };
    serde_json::to_value(status.with_code(code)).unwrap()
}

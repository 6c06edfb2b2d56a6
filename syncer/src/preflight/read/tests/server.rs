//! An API server in this process, that has what a test gives it and nothing else. It opens no socket.

use std::{
    collections::BTreeMap,
    convert::Infallible,
    sync::{Arc, Mutex},
};

use http::{Method, Request, Response, StatusCode, header::ACCEPT};
use kube::{Client, client::Body, core::Status};
use serde_json::{Value, json};

/// What is answered at a path. Where there is nothing, it is 404, as of an API that is not installed.
#[derive(Debug, Clone)]
pub(super) enum Answer {
    /// A list, page by page; the token of each page is its number.
    Pages(Vec<Vec<Value>>),
    /// One object.
    Object(Value),
    /// A refusal or a failure.
    Code(u16),
}

/// A request that was made.
#[derive(Debug, Clone)]
pub(super) struct Made {
    pub(super) path: String,
    pub(super) query: BTreeMap<String, String>,
    pub(super) accept: String,
}

/// The server. Clones are the same.
#[derive(Debug, Clone, Default)]
pub(super) struct Server {
    answers: Arc<Mutex<BTreeMap<String, Answer>>>,
    made: Arc<Mutex<Vec<Made>>>,
}

impl Server {
    pub(super) fn set(&self, path: &str, answer: Answer) {
        self.answers.lock().unwrap().insert(path.to_owned(), answer);
    }

    pub(super) fn client(&self) -> Client {
        let server = self.clone();
        let service = tower::service_fn(move |request: Request<Body>| {
            let (code, answer) = server.answer(&request);
            let response = Response::builder().status(code);
            let response = response.body(Body::from(answer.to_string().into_bytes()));
            async move { Ok::<_, Infallible>(response.unwrap()) }
        });
        Client::new(service, "default")
    }

    /// The requests at a path.
    pub(super) fn made(&self, path: &str) -> Vec<Made> {
        let all = self.made.lock().unwrap();
        all.iter().filter(|made| made.path == path).cloned().collect()
    }

    /// The paths of all requests, each once.
    pub(super) fn paths(&self) -> Vec<String> {
        let mut paths: Vec<_> = self
            .made
            .lock()
            .unwrap()
            .iter()
            .map(|made| made.path.clone())
            .collect();
        paths.sort_unstable();
        paths.dedup();
        paths
    }

    fn answer(&self, request: &Request<Body>) -> (StatusCode, Value) {
        assert_eq!(request.method(), Method::GET, "it only reads");
        let made = Made::of(request);
        let answer = self.answers.lock().unwrap().get(&made.path).cloned();
        let number = made.query.get("continue").map_or(0, |page| page.parse().unwrap());
        self.made.lock().unwrap().push(made);
        match answer {
            None => failure(404),
            Some(Answer::Code(code)) => failure(code),
            Some(Answer::Object(object)) => (StatusCode::OK, object),
            Some(Answer::Pages(pages)) => (StatusCode::OK, page(&pages, number)),
        }
    }
}

impl Made {
    fn of(request: &Request<Body>) -> Self {
        let query = request.uri().query().unwrap_or_default();
        let pairs = query.split('&').filter_map(|pair| pair.split_once('='));
        Self {
            path: request.uri().path().to_owned(),
            query: pairs
                .map(|(key, value)| (key.to_owned(), value.to_owned()))
                .collect(),
            accept: request
                .headers()
                .get(ACCEPT)
                .map_or_else(String::new, |accept| accept.to_str().unwrap().to_owned()),
        }
    }
}

fn page(pages: &[Vec<Value>], number: usize) -> Value {
    let next = number + 1;
    json!({
        "apiVersion": "v1",
        "kind": "List",
        "metadata": {
            "resourceVersion": "1",
            "continue": if next < pages.len() { next.to_string() } else { String::new() },
        },
        "items": pages.get(number).cloned().unwrap_or_default(),
    })
}

fn failure(code: u16) -> (StatusCode, Value) {
    // By this the client tells an object that is missing.
    let reason = if code == 404 { "NotFound" } else { "" };
    let status = Status::failure("no", reason).with_code(code);
    (
        StatusCode::from_u16(code).unwrap(),
        serde_json::to_value(&status).unwrap(),
    )
}

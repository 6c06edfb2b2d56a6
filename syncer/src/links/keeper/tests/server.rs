//! An API server in this process: ServiceAccounts and bindings of one namespace, and whoever else writes them. It speaks
//! HTTP to a client and opens no socket.

use std::{
    collections::{BTreeMap, VecDeque},
    convert::Infallible,
    sync::{Arc, Mutex, MutexGuard},
};

use http::{Method, Request, Response, StatusCode};
use http_body_util::BodyExt as _;
use k8s_openapi::api::core::v1::ServiceAccount;
use kube::{Client, ResourceExt as _, client::Body, core::Status};
use serde_json::{Value, json};

use crate::binding::ApiVersion;

/// What happens to the next write of a ServiceAccount.
pub(super) enum Fault {
    /// Somebody else writes first, and adds this entry.
    Overtaken(&'static str),
    /// It is deleted first.
    Deleted,
    /// Somebody else writes after it was read, and then it is deleted.
    OvertakenAndDeleted,
    /// The server refuses, with this code.
    Refused(u16),
}

#[derive(Clone, Default)]
pub(super) struct Server(Arc<Mutex<State>>);

#[derive(Default)]
struct State {
    version: u64,
    accounts: BTreeMap<String, ServiceAccount>,
    /// As they are listed, by group.
    bindings: BTreeMap<&'static str, Vec<Value>>,
    /// The code of every list of bindings, if it is to fail.
    lists_fail: Option<u16>,
    faults: VecDeque<Fault>,
    /// `PATCH serviceaccounts`, `LIST acrpullbindings`, ... in the order in which they came.
    calls: Vec<String>,
    patches: Vec<Value>,
}

impl Server {
    pub(super) fn client(&self) -> Client {
        let server = self.clone();
        let service = tower::service_fn(move |request: Request<Body>| {
            let server = server.clone();
            async move {
                let (parts, body) = request.into_parts();
                let body = body.collect().await.map(http_body_util::Collected::to_bytes);
                // The others get their turn, as they would while a call is on its way.
                tokio::task::yield_now().await;
                let (code, answer) = server.answer(&parts, &body.unwrap());
                // And while the answer is.
                tokio::task::yield_now().await;
                let response = Response::builder()
                    .status(code)
                    .body(Body::from(answer.into_bytes()));
                Ok::<_, Infallible>(response.unwrap())
            }
        });
        Client::new(service, "shop")
    }

    /// Creates or replaces a ServiceAccount, and says how it is then.
    pub(super) fn put(&self, mut account: ServiceAccount) -> ServiceAccount {
        let mut state = self.state();
        state.version += 1;
        account.metadata.resource_version = Some(state.version.to_string());
        state.accounts.insert(account.name_any(), account.clone());
        account
    }

    pub(super) fn account(&self, name: &str) -> Option<ServiceAccount> {
        self.state().accounts.get(name).cloned()
    }

    pub(super) fn list_binding(&self, api: ApiVersion, binding: Value) {
        self.state()
            .bindings
            .entry(api.group())
            .or_default()
            .push(binding);
    }

    pub(super) fn fail_lists(&self, code: u16) {
        self.state().lists_fail = Some(code);
    }

    pub(super) fn fault(&self, fault: Fault) {
        self.state().faults.push_back(fault);
    }

    /// What was called since the last time, and what was sent.
    pub(super) fn calls(&self) -> (Vec<String>, Vec<Value>) {
        let mut state = self.state();
        (
            std::mem::take(&mut state.calls),
            std::mem::take(&mut state.patches),
        )
    }

    fn answer(&self, request: &http::request::Parts, body: &[u8]) -> (StatusCode, String) {
        let path: Vec<&str> = request.uri.path().split('/').skip(1).collect();
        match (&request.method, path.as_slice()) {
            (&Method::GET, ["apis", group, version, "namespaces", "shop", "acrpullbindings"]) => {
                self.state().list_bindings(group, version)
            }
            (&Method::GET, ["api", "v1", "namespaces", "shop", "serviceaccounts"]) => {
                let query = request.uri.query().unwrap_or_default();
                self.state().list_accounts(query)
            }
            (&Method::PATCH, ["api", "v1", "namespaces", "shop", "serviceaccounts", name]) => {
                self.state().patch(name, serde_json::from_slice(body).unwrap())
            }
            other => panic!("{other:?}"),
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap()
    }
}

impl State {
    fn list_bindings(&mut self, group: &str, version: &str) -> (StatusCode, String) {
        self.calls.push(format!("LIST acrpullbindings of {version}"));
        if let Some(code) = self.lists_fail {
            return failure(code);
        }
        let items = self.bindings.get(group).cloned().unwrap_or_default();
        list("AcrPullBindingList", &format!("{group}/{version}"), &json!(items))
    }

    fn list_accounts(&mut self, query: &str) -> (StatusCode, String) {
        self.calls.push("LIST serviceaccounts".to_owned());
        let items: Vec<_> = self
            .accounts
            .values()
            .filter(|account| query.contains(&format!("metadata.name%3D{}&", account.name_any())))
            .collect();
        list("ServiceAccountList", "v1", &json!(items))
    }

    fn patch(&mut self, name: &str, patch: Value) -> (StatusCode, String) {
        self.calls.push("PATCH serviceaccounts".to_owned());
        match self.faults.pop_front() {
            Some(Fault::Overtaken(entry)) => self.overtake(name, entry),
            Some(Fault::OvertakenAndDeleted) => {
                self.accounts.remove(name);
                return failure(409);
            }
            Some(Fault::Deleted) => drop(self.accounts.remove(name)),
            Some(Fault::Refused(code)) => return failure(code),
            None => {}
        }
        let Some(account) = self.accounts.get_mut(name) else {
            return failure(404);
        };
        let guard = patch["metadata"]["resourceVersion"]
            .as_str()
            .expect("every write is guarded");
        if account.resource_version().as_deref() != Some(guard) {
            return failure(409);
        }
        self.version += 1;
        let annotations = account.annotations_mut();
        for (key, value) in patch["metadata"]["annotations"].as_object().unwrap() {
            match value.as_str() {
                Some(value) => drop(annotations.insert(key.clone(), value.to_owned())),
                None => drop(annotations.remove(key)),
            }
        }
        account.image_pull_secrets = serde_json::from_value(patch["imagePullSecrets"].clone()).unwrap();
        account.metadata.resource_version = Some(self.version.to_string());
        let answer = serde_json::to_string(account).unwrap();
        self.patches.push(patch);
        (StatusCode::OK, answer)
    }

    fn overtake(&mut self, name: &str, entry: &str) {
        self.version += 1;
        let account = self.accounts.get_mut(name).unwrap();
        let entry = serde_json::from_value(json!({"name": entry})).unwrap();
        account.image_pull_secrets.get_or_insert_default().push(entry);
        account.metadata.resource_version = Some(self.version.to_string());
    }
}

fn list(kind: &str, api_version: &str, items: &Value) -> (StatusCode, String) {
    let list = json!({
        "kind": kind, "apiVersion": api_version, "metadata": {"resourceVersion": "1"}, "items": items,
    });
    (StatusCode::OK, list.to_string())
}

fn failure(code: u16) -> (StatusCode, String) {
    let status = Status::failure("no", "").with_code(code);
    (
        StatusCode::from_u16(code).unwrap(),
        serde_json::to_string(&status).unwrap(),
    )
}

#![allow(clippy::all, clippy::pedantic, clippy::restriction, missing_docs)]
use proto::{
    Fingerprint, Reason,
    v1::{credential_service_server::*, *},
};
use std::{
    collections::HashMap,
    sync::{Arc, Mutex},
    time::{Duration, SystemTime, UNIX_EPOCH},
};
use tonic::{
    Request, Response, Status,
    transport::{Identity, Server, ServerTlsConfig},
};
use tonic_types::{ErrorDetails, StatusExt};
#[derive(Default)]
struct Fake {
    cache: Mutex<HashMap<String, (Vec<u8>, u64)>>,
    calls: Mutex<HashMap<String, u32>>,
    life: u64,
}
fn now() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs()
}
fn err(reason: Reason, retry: Option<Duration>) -> Status {
    let mut d = ErrorDetails::with_error_info(
        reason.as_wire(),
        proto::ERROR_DOMAIN,
        HashMap::<String, String>::new(),
    );
    if let Some(r) = retry {
        d.set_retry_info(Some(r));
    }
    Status::with_error_details(reason.grpc_code(), reason.title(), d)
}
struct Shared(Arc<Fake>);
#[tonic::async_trait]
impl CredentialService for Shared {
    async fn get_docker_config(
        &self,
        request: Request<GetDockerConfigRequest>,
    ) -> Result<Response<GetDockerConfigResponse>, Status> {
        let tp = request
            .metadata()
            .get("traceparent")
            .map(|v| v.to_str().unwrap().to_owned());
        let r = request.into_inner();
        let n = {
            let mut c = self.0.calls.lock().unwrap();
            let n = c.entry(r.registry.clone()).or_default();
            *n += 1;
            *n
        };
        let sub = matches!(&r.identity, Some(get_docker_config_request::Identity::Federated(f)) if f.subject_token.len() > 100);
        println!(
            "{} {:?} {} call {n} held={} force={} subject={sub} traceparent={}",
            now(),
            r.binding.as_ref().unwrap().name,
            r.registry,
            r.held.is_some(),
            r.force,
            tp.is_some()
        );
        if r.registry.starts_with("denied") {
            return Err(err(Reason::PolicyDenied, None));
        }
        if r.registry.starts_with("late") && n <= 2 {
            return Err(err(Reason::RegistryUnauthorized, Some(Duration::from_secs(5))));
        }
        if r.registry.starts_with("hang") {
            tokio::time::sleep(Duration::from_secs(100)).await;
        }
        tokio::time::sleep(Duration::from_millis(100)).await;
        let key = format!("{}{:?}{:?}", r.registry, r.scopes, r.service_accounts);
        let mut cache = self.0.cache.lock().unwrap();
        let t = now();
        let entry = cache.entry(key).or_insert_with(|| (Vec::new(), 0));
        if entry.1 < t + self.0.life / 2 + 1 {
            *entry = (
                format!("{{\"auths\":{{\"{}\":{{\"auth\":\"dDp{t}\"}}}}}}", r.registry).into_bytes(),
                t + self.0.life,
            );
        }
        let fp = Fingerprint::of(&entry.0);
        let same = r
            .held
            .as_ref()
            .is_some_and(|h| h.fingerprint.as_ref() == fp.as_bytes());
        let ts = |s: u64| {
            Some(pbjson_types::Timestamp {
                seconds: s as i64,
                nanos: 0,
            })
        };
        Ok(Response::new(GetDockerConfigResponse {
            docker_config_json: if same {
                Default::default()
            } else {
                entry.0.clone().into()
            },
            not_modified: same,
            expire_time: ts(entry.1),
            refresh_time: ts(entry.1 - self.0.life / 2),
            granted_scopes: r.scopes,
            fingerprint: fp.as_bytes().to_vec().into(),
            degraded: false,
        }))
    }
}
#[tokio::main]
async fn main() {
    let a: Vec<String> = std::env::args().collect();
    runtime::tls::install_crypto_provider();
    let fake = Arc::new(Fake {
        life: a[3].parse().unwrap(),
        ..Default::default()
    });
    let id = Identity::from_pem(std::fs::read(&a[1]).unwrap(), std::fs::read(&a[2]).unwrap());
    Server::builder()
        .tls_config(ServerTlsConfig::new().identity(id))
        .unwrap()
        .add_service(CredentialServiceServer::new(Shared(fake)))
        .serve(a[4].parse().unwrap())
        .await
        .unwrap();
}

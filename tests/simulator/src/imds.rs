//! The instance metadata service: managed identity tokens for the one virtual machine.
//!
//! The decision is a function; what the service remembers (its limits and its token cache) is [`Memory`].

use std::{
    collections::HashMap,
    sync::{Mutex, PoisonError},
};

use http::{Method, StatusCode, header};
use jiff::Timestamp;
use serde_json::json;

use crate::{
    ExpiresIn, Operation, Principal,
    answer::{Answer, Steps},
    bucket::Bucket,
    entra::{Issued, Obtained, issue},
    request::Request,
    scene::Scene,
};

/// The oldest version with managed identities.
const OLDEST_API_VERSION: &str = "2018-02-01";

/// What the service remembers between requests.
#[derive(Default)]
pub(crate) struct Memory(Mutex<Remembered>);

#[derive(Default)]
struct Remembered {
    bucket: Bucket,
    cached: HashMap<(String, String), Cached>,
}

/// A token in the service's cache.
#[derive(Debug, Clone)]
struct Cached {
    issued: Issued,
    issued_at_s: i64,
}

/// Why the service refuses.
#[derive(Debug)]
struct Refusal {
    status: StatusCode,
    error: &'static str,
    text: &'static str,
    retry_after_s: Option<u32>,
}

impl Memory {
    /// Forgets limits and tokens.
    pub(crate) fn reset(&self) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = Remembered::default();
    }
}

/// Answers a request. `in_flight` counts the token requests that are being answered, this one included.
pub(crate) fn answer(
    request: &Request,
    memory: &Memory,
    (in_flight, real): (u64, Timestamp),
    scene: &Scene<'_>,
) -> Answer {
    if request.operation != Operation::Token || request.method != Method::GET {
        return Answer::empty(StatusCode::NOT_FOUND).because("no such route");
    }
    let mut steps = Steps::default();
    let mut remembered = memory.0.lock().unwrap_or_else(PoisonError::into_inner);
    let answer = match decide(
        request,
        &mut remembered.bucket,
        (in_flight, real),
        scene,
        &mut steps,
    ) {
        Ok((principal, resource)) => granted(principal, resource, &mut remembered.cached, scene, &mut steps),
        Err(refusal) => refusal.answer(),
    };
    answer.after(steps)
}

fn decide<'a, 'r>(
    request: &'r Request,
    bucket: &mut Bucket,
    (in_flight, real): (u64, Timestamp),
    scene: &Scene<'a>,
    steps: &mut Steps,
) -> Result<(&'a Principal, &'r str), Refusal> {
    let vm = &scene.state.vm;
    let has_metadata = request
        .header("metadata")
        .is_some_and(|value| value.eq_ignore_ascii_case("true"));
    steps.check(
        "metadata header",
        Refusal::unless(
            has_metadata,
            "bad_request_102",
            "Required metadata header not specified",
        ),
    )?;
    let forwarded = vm.refuse_forwarded && request.header("x-forwarded-for").is_some();
    steps.check(
        "not forwarded",
        Refusal::unless(!forwarded, "invalid_request", "Request must not be forwarded"),
    )?;
    let supported = request
        .query
        .get("api-version")
        .is_some_and(|version| version >= OLDEST_API_VERSION);
    steps.check(
        "api version",
        Refusal::unless(supported, "invalid_request", "The api-version is not supported"),
    )?;
    let resource = steps.check("resource", known_resource(request, scene))?;

    let within = in_flight <= u64::from(vm.imds_concurrency);
    steps.check(
        "concurrency",
        if within {
            Ok(())
        } else {
            Err(Refusal::throttled(vm.throttle_retry_after_s))
        },
    )?;
    let rate = f64::from(vm.imds_rps);
    let taken = bucket
        .take(rate, rate, real)
        .map_err(|_wait| Refusal::throttled(vm.throttle_retry_after_s));
    steps.check("rate", taken)?;
    let principal = steps.check("identity", identity(request, scene))?;
    Ok((principal, resource))
}

/// A resource that some cloud of this state knows: the machine's own cloud is the one of its identities.
fn known_resource<'r>(request: &'r Request, scene: &Scene<'_>) -> Result<&'r str, Refusal> {
    let text = "AADSTS50001: The application was not found in the tenant.";
    let refusal = || Refusal {
        error: "invalid_resource",
        ..Refusal::bad_request(text)
    };
    let resource = request.query.get("resource").ok_or_else(refusal)?;
    let known = scene.state.clouds.iter().any(|cloud| cloud.issues_for(resource));
    if known { Ok(resource) } else { Err(refusal()) }
}

/// The identity that is asked for, which must be the machine's.
fn identity<'a>(request: &Request, scene: &Scene<'a>) -> Result<&'a Principal, Refusal> {
    let (state, vm) = (scene.state, &scene.state.vm);
    let system = vm.system_assigned.as_ref();
    let user: Vec<&Principal> = vm
        .user_assigned
        .iter()
        .filter_map(|id| {
            state
                .principals
                .iter()
                .find(|principal| principal.has_resource_id(id))
        })
        .collect();
    let system = state
        .principals
        .iter()
        .find(|principal| Some(&principal.object_id) == system);
    let query = &request.query;
    let resource_id = query.get("msi_res_id").or_else(|| query.get("mi_res_id"));
    let selected = |wanted: &dyn Fn(&Principal) -> bool| {
        user.iter()
            .copied()
            .chain(system)
            .find(|principal| wanted(principal))
    };
    let found = match (query.get("client_id"), query.get("object_id"), resource_id) {
        (Some(id), _, _) => selected(&|principal| principal.client_id.eq_ignore_ascii_case(id)),
        (_, Some(id), _) => selected(&|principal| principal.object_id.eq_ignore_ascii_case(id)),
        (_, _, Some(id)) => selected(&|principal| principal.has_resource_id(id)),
        (None, None, None) => match (system, user.as_slice()) {
            (Some(system), _) => Some(system),
            (None, [single]) if vm.single_identity_is_default => Some(*single),
            (None, [_, _, ..]) => {
                return Err(Refusal::bad_request(
                    "Multiple user assigned identities exist, please specify the clientId / resourceId of the identity \
                     in the token request",
                ));
            }
            (None, _) => None,
        },
    };
    found
        .filter(|principal| principal.enabled)
        .ok_or_else(|| Refusal::bad_request("Identity not found"))
}

/// The cached token while it lasts, else a new one.
fn granted(
    principal: &Principal,
    resource: &str,
    cache: &mut HashMap<(String, String), Cached>,
    scene: &Scene<'_>,
    steps: &mut Steps,
) -> Answer {
    let vm = &scene.state.vm;
    let now = scene.now.as_second();
    let key = (principal.object_id.clone(), resource.to_owned());
    let usable = |cached: &&Cached| {
        scene.token_fault.is_none() && cached.issued.validity.exp - now > vm.cache_margin_s
    };
    let (cached, is_new) = match cache.get(&key).filter(usable) {
        Some(cached) => (cached.clone(), false),
        None => (
            Cached {
                issued: issue(principal, resource, Obtained::Metadata, scene),
                issued_at_s: now,
            },
            true,
        ),
    };
    steps.note(if is_new {
        "token issued"
    } else {
        "token from cache"
    });
    let Issued {
        token,
        validity,
        secret,
    } = &cached.issued;
    let expires_in = match vm.expires_in {
        ExpiresIn::Remaining => validity.exp - now,
        ExpiresIn::Lifetime => validity.exp - cached.issued_at_s,
    };
    let body = json!({
        "access_token": token,
        "client_id": principal.client_id,
        "expires_in": expires_in.to_string(),
        "expires_on": validity.exp.to_string(),
        "ext_expires_in": expires_in.to_string(),
        "not_before": validity.nbf.to_string(),
        "resource": resource,
        "token_type": "Bearer",
    });
    let mut answer = Answer::json(StatusCode::OK, &body);
    if is_new {
        answer.issued.push(secret.clone());
        // What a fault has spoilt must not outlive the fault.
        if scene.token_fault.is_none() {
            cache.insert(key, cached);
        }
    }
    answer
}

impl Refusal {
    fn bad_request(text: &'static str) -> Self {
        Self {
            status: StatusCode::BAD_REQUEST,
            error: "invalid_request",
            text,
            retry_after_s: None,
        }
    }

    fn unless(met: bool, error: &'static str, text: &'static str) -> Result<(), Self> {
        if met {
            Ok(())
        } else {
            Err(Self {
                error,
                ..Self::bad_request(text)
            })
        }
    }

    fn throttled(retry_after_s: Option<u32>) -> Self {
        let text = "Too many requests";
        Self {
            status: StatusCode::TOO_MANY_REQUESTS,
            error: "too_many_requests",
            text,
            retry_after_s,
        }
    }

    fn answer(&self) -> Answer {
        let mut answer = Answer::json(
            self.status,
            &json!({"error": self.error, "error_description": self.text}),
        );
        if let Some(seconds) = self.retry_after_s {
            answer.set(header::RETRY_AFTER, &seconds.to_string());
        }
        answer
    }
}

#[cfg(test)]
mod tests;

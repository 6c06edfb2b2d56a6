//! The broker and Azure behind it: what it answers, and what each payload that it ever sent was issued for.

use std::{
    collections::{BTreeMap, HashMap},
    time::Duration,
};

use k8s_openapi::jiff::Timestamp;
use pbjson_types::Timestamp as Time;
use proto::{Fingerprint, Reason, v1::GetDockerConfigResponse};
use syncer::{plan::Issue, problem::Problem, schedule::later, wanted::Wanted};

/// The shortest and the longest life of a token.
const SHORTEST: Duration = Duration::from_secs(75 * 60);
const LONGEST: Duration = Duration::from_secs(180 * 60);

/// How Azure is disposed.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Mood {
    Grants,
    Refuses(Reason),
    Throttles(Option<Duration>),
}

/// A token that was issued.
#[derive(Debug, Clone)]
pub(crate) struct Token {
    pub(crate) issued_for: String,
    pub(crate) expires_at: Timestamp,
    refresh_at: Timestamp,
    payload: Vec<u8>,
}

/// Two replicas that know nothing of each other.
#[derive(Debug)]
pub(crate) struct Broker {
    pub(crate) mood: Mood,
    pub(crate) issued: BTreeMap<Vec<u8>, Token>,
    cached: [HashMap<String, Token>; 2],
    pub(crate) questions: usize,
}

impl Default for Broker {
    fn default() -> Self {
        Self {
            mood: Mood::Grants,
            issued: BTreeMap::new(),
            cached: Default::default(),
            questions: 0,
        }
    }
}

/// All that a token depends on, and not by the hash that the product makes of it.
pub(crate) fn meaning(wanted: &Wanted) -> String {
    let Wanted {
        registry,
        scopes,
        cloud,
        identity,
        inputs: _,
    } = wanted;
    format!("{registry} {scopes:?} {cloud:?} {identity:?}")
}

impl Broker {
    /// A new token.
    pub(crate) fn mint(&mut self, issued_for: &str, now: Timestamp, draw: f64) -> Token {
        let life = SHORTEST + LONGEST.saturating_sub(SHORTEST).mul_f64(draw);
        let token = Token {
            issued_for: issued_for.to_owned(),
            expires_at: later(now, life),
            refresh_at: later(now, life / 2),
            payload: format!("{} for {issued_for}", self.issued.len()).into_bytes(),
        };
        self.issued.insert(token.payload.clone(), token.clone());
        token
    }

    pub(crate) fn answer(
        &mut self,
        issue: &Issue,
        now: Timestamp,
        draws: [f64; 2],
    ) -> Result<GetDockerConfigResponse, Problem> {
        self.questions += 1;
        match self.mood {
            Mood::Grants => {}
            Mood::Refuses(reason) => return Err(Problem::new(reason, "no")),
            Mood::Throttles(retry_after) => {
                return Err(Problem {
                    retry_after,
                    ..Problem::new(Reason::UpstreamThrottled, "too many")
                });
            }
        }
        let issued_for = meaning(&issue.wanted);
        let replica = usize::from(draws[0] < 0.5);
        let cached = self.cached[replica].get(&issued_for).cloned();
        let token = cached
            .filter(|token| !issue.force && now < token.refresh_at)
            .unwrap_or_else(|| self.mint(&issued_for, now, draws[1]));
        self.cached[replica].insert(issued_for, token.clone());
        Ok(response(&token, issue))
    }
}

impl Token {
    pub(crate) fn payload(&self) -> &[u8] {
        &self.payload
    }

    pub(crate) fn refresh_at(&self) -> Timestamp {
        self.refresh_at
    }
}

fn response(token: &Token, issue: &Issue) -> GetDockerConfigResponse {
    let fingerprint = Fingerprint::of(&token.payload);
    let not_modified = issue
        .held
        .as_ref()
        .is_some_and(|held| held.fingerprint == fingerprint);
    let time = |at: Timestamp| {
        Some(Time {
            seconds: at.as_second(),
            nanos: 0,
        })
    };
    GetDockerConfigResponse {
        docker_config_json: if not_modified {
            Vec::new()
        } else {
            token.payload.clone()
        }
        .into(),
        not_modified,
        expire_time: time(token.expires_at),
        refresh_time: time(token.refresh_at),
        granted_scopes: Vec::new(),
        fingerprint: fingerprint.as_bytes().to_vec().into(),
        degraded: false,
    }
}

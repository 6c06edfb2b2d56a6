//! The broker and Azure behind it: what it answers, and what each payload that it ever sent was granted for.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use k8s_openapi::jiff::Timestamp;
use pbjson_types::Timestamp as Time;
use proto::{Fingerprint, Reason, v1::GetDockerConfigResponse};
use syncer::{binding::Binding, plan::Issue, problem::Problem, schedule::later};

use crate::meaning::Meaning;

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
    pub(crate) expires_at: Timestamp,
    pub(crate) refresh_at: Timestamp,
    pub(crate) payload: Vec<u8>,
}

/// Two replicas that know nothing of each other.
#[derive(Debug)]
pub(crate) struct Broker {
    pub(crate) mood: Mood,
    issued: BTreeMap<Vec<u8>, Token>,
    granted: BTreeSet<(Vec<u8>, Meaning)>,
    cached: [BTreeMap<Meaning, Token>; 2],
    pub(crate) questions: usize,
}

impl Default for Broker {
    fn default() -> Self {
        Self {
            mood: Mood::Grants,
            issued: BTreeMap::new(),
            granted: BTreeSet::new(),
            cached: Default::default(),
            questions: 0,
        }
    }
}

impl Broker {
    /// A new token.
    pub(crate) fn mint(&mut self, meaning: &Meaning, now: Timestamp, draw: f64) -> Token {
        let life = SHORTEST + LONGEST.saturating_sub(SHORTEST).mul_f64(draw);
        // Times of tokens are in seconds.
        let (now, life) = (
            Timestamp::from_second(now.as_second()).unwrap(),
            Duration::from_secs(life.as_secs()),
        );
        let token = Token {
            expires_at: later(now, life),
            refresh_at: later(now, life / 2),
            payload: format!("token {}", self.issued.len()).into_bytes(),
        };
        self.issued.insert(token.payload.clone(), token.clone());
        self.granted.insert((token.payload.clone(), meaning.clone()));
        token
    }

    /// The token with this payload.
    pub(crate) fn token(&self, payload: &[u8]) -> Option<&Token> {
        self.issued.get(payload)
    }

    /// Whether this payload was ever the answer to a question for this.
    pub(crate) fn has_granted(&self, payload: &[u8], meaning: &Meaning) -> bool {
        self.granted.contains(&(payload.to_vec(), meaning.clone()))
    }

    pub(crate) fn answer(
        &mut self,
        binding: &Binding,
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
        let meaning = Meaning::asked(&issue.wanted, binding);
        let (replica, key) = (usize::from(draws[0] < 0.5), meaning.of_the_token());
        let cached = self.cached[replica].get(&key).cloned();
        let token = cached
            .filter(|token| !issue.force && now < token.refresh_at)
            .unwrap_or_else(|| self.mint(&meaning, now, draws[1]));
        self.granted.insert((token.payload.clone(), meaning));
        self.cached[replica].insert(key, token.clone());
        Ok(response(&token, issue))
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

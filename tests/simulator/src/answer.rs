//! What a service answers, with how it came to it and which secrets left with it.

use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue, StatusCode, header};
use serde_json::Value;

use crate::observation::IssuedSecret;

/// A service's answer before faults are laid over it.
#[derive(Debug, Clone)]
pub(crate) struct Answer {
    pub(crate) status: StatusCode,
    pub(crate) headers: HeaderMap,
    pub(crate) body: Bytes,
    /// Each check that was made, in order, with its result.
    pub(crate) trace: Vec<String>,
    pub(crate) issued: Vec<IssuedSecret>,
}

/// The checks of a decision, in the order in which they were made.
#[derive(Debug, Default)]
pub(crate) struct Steps(Vec<String>);

impl Steps {
    /// Notes how a check ended, and passes its result on.
    pub(crate) fn check<T, E>(&mut self, name: &str, result: Result<T, E>) -> Result<T, E> {
        self.0.push(format!(
            "{name} {}",
            if result.is_ok() { "ok" } else { "refused" }
        ));
        result
    }

    /// Adds a remark.
    pub(crate) fn note(&mut self, remark: impl Into<String>) {
        self.0.push(remark.into());
    }
}

impl Answer {
    /// A JSON answer.
    pub(crate) fn json(status: StatusCode, body: &Value) -> Self {
        let mut answer = Self::bare(status, Bytes::from(body.to_string()));
        answer.set(header::CONTENT_TYPE, "application/json; charset=utf-8");
        answer
    }

    /// An answer without a body.
    pub(crate) fn empty(status: StatusCode) -> Self {
        Self::bare(status, Bytes::new())
    }

    /// An answer in plain text.
    pub(crate) fn text(status: StatusCode, body: impl Into<String>) -> Self {
        let mut answer = Self::bare(status, Bytes::from(body.into()));
        answer.set(header::CONTENT_TYPE, "text/plain; charset=utf-8");
        answer
    }

    /// Sets a header. A value that cannot be one is left out.
    pub(crate) fn set(&mut self, name: HeaderName, value: &str) {
        if let Ok(value) = HeaderValue::from_str(value) {
            self.headers.insert(name, value);
        }
    }

    /// The same, in a chain.
    #[must_use]
    pub(crate) fn with(mut self, name: HeaderName, value: &str) -> Self {
        self.set(name, value);
        self
    }

    /// Says how it came about.
    #[must_use]
    pub(crate) fn after(mut self, steps: Steps) -> Self {
        self.trace = steps.0;
        self
    }

    /// Says it in one remark.
    #[must_use]
    pub(crate) fn because(mut self, remark: impl Into<String>) -> Self {
        self.trace.push(remark.into());
        self
    }

    fn bare(status: StatusCode, body: Bytes) -> Self {
        Self {
            status,
            headers: HeaderMap::new(),
            body,
            trace: Vec::new(),
            issued: Vec::new(),
        }
    }
}

#[cfg(test)]
impl Answer {
    /// The body, which must be JSON.
    pub(crate) fn value(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap()
    }
}

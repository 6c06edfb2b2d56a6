//! The answer of `broker grants test`: the verdict, each check, and how near each grant comes; for people and as JSON.

use std::fmt;

use runtime::Failure;
use serde::Serialize;

use crate::{
    args::OutputFormat,
    authn::{Caller, Subject},
    authz::{
        self, Permit,
        grants::{Asked, AskedIdentity, Decision},
        nearest::{Miss, Near, nearest},
    },
    config::{Clouds, Policy},
    explain::checks::{Check, undeclared},
    request::{DockerConfigRequest, RequestedIdentity},
};

/// How a request would fare.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Answer<'a> {
    allowed: bool,
    decision: Ruling,
    /// The one that allows it.
    #[serde(skip_serializing_if = "Option::is_none")]
    grant: Option<String>,
    checks: Vec<Judged>,
    /// Where none allows it: those that there are for the identity, the nearest first.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    grants: Vec<Near<'a>>,
}

/// How it is decided.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
enum Ruling {
    Granted,
    NotNeeded,
    ReportOnly,
    Denied,
}

/// A check with its verdict.
#[derive(Debug, Serialize)]
struct Judged {
    name: &'static str,
    verdict: Verdict,
    #[serde(skip_serializing_if = "String::is_empty")]
    detail: String,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
enum Verdict {
    Passed,
    /// It says no, and the request goes on.
    Reported,
    Denied,
    NotReached,
}

impl<'a> Answer<'a> {
    /// Decides, by the code that serves, and looks up why.
    pub(super) fn of(
        caller: &Caller,
        subject: Option<&Subject>,
        request: &DockerConfigRequest,
        clouds: &Clouds,
        policy: &'a Policy,
    ) -> Self {
        let permit = authz::permit(caller, subject, request, clouds, policy);
        let asked = authz::asked(caller, subject, request, clouds, policy).ok();
        let (decision, grant) = match permit.as_ref().map(Permit::decision) {
            Ok(Decision::NotNeeded) => (Ruling::NotNeeded, None),
            Ok(Decision::Granted(name)) => (Ruling::Granted, Some(name.to_string())),
            Ok(Decision::ReportOnly) => (Ruling::ReportOnly, None),
            Err(_denied) => (Ruling::Denied, None),
        };
        let is_owned = matches!(request.identity, RequestedIdentity::BrokerOwned(_));
        let mut checks: Vec<Judged> = Vec::new();
        for check in Check::of(request, caller) {
            if *check == Check::Grant && is_owned {
                checks.push(Judged::after(&checks, "identity", || {
                    identity(asked.as_ref(), request)
                }));
            }
            checks.push(Judged::after(&checks, check.as_str(), || match &permit {
                Err(denied) if Check::that_denies(denied) == *check => (Verdict::Denied, denied.to_string()),
                Err(_denied) => (Verdict::Passed, check.passed_text(request, None)),
                Ok(permit) => {
                    let is_reported = *check == Check::Grant && decision == Ruling::ReportOnly;
                    let verdict = if is_reported {
                        Verdict::Reported
                    } else {
                        Verdict::Passed
                    };
                    (verdict, check.passed_text(request, Some(permit)))
                }
            }));
        }
        let near = asked
            .filter(|_asked| matches!(decision, Ruling::Denied | Ruling::ReportOnly))
            .map(|asked| nearest(&policy.grants, &asked, usize::MAX));
        Self {
            allowed: permit.is_ok(),
            decision,
            grant,
            checks,
            grants: near.unwrap_or_default(),
        }
    }

    pub(super) fn is_allowed(&self) -> bool {
        self.allowed
    }

    /// As it is printed.
    pub(super) fn shown(&self, format: OutputFormat) -> Result<String, Failure> {
        match format {
            OutputFormat::Text => Ok(self.to_string()),
            OutputFormat::Json => serde_json::to_string_pretty(self)
                .map(|json| format!("{json}\n"))
                .map_err(|error| Failure::runtime("cannot write the answer as JSON").source(error)),
        }
    }
}

impl Judged {
    /// A check that is made unless an earlier one has said no.
    fn after(earlier: &[Self], name: &'static str, judge: impl FnOnce() -> (Verdict, String)) -> Self {
        let is_over = earlier.iter().any(|judged| judged.verdict == Verdict::Denied);
        let (verdict, detail) = if is_over {
            (Verdict::NotReached, String::new())
        } else {
            judge()
        };
        Self {
            name,
            verdict,
            detail,
        }
    }
}

/// Whether the identity is declared. A real request is told this and the grant as one: a caller must not learn it.
fn identity(asked: Option<&Asked<'_>>, request: &DockerConfigRequest) -> (Verdict, String) {
    match asked.map(|asked| &asked.identity) {
        Some(AskedIdentity::BrokerOwned(identity)) => {
            let (name, cloud) = (&identity.name, &identity.cloud.name);
            (Verdict::Passed, format!("{name} is declared, in {cloud}"))
        }
        Some(AskedIdentity::Federated { .. }) | None => (Verdict::Denied, undeclared(request)),
    }
}

impl fmt::Display for Answer<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (self.decision, &self.grant) {
            (Ruling::Granted, grant) => {
                writeln!(f, "allowed by grant {}", grant.as_deref().unwrap_or_default())?;
            }
            (Ruling::NotNeeded, _) => writeln!(f, "allowed without a grant: Entra ID decides")?,
            (Ruling::ReportOnly, _) => writeln!(f, "allowed and reported: no grant allows it")?,
            (Ruling::Denied, _) => writeln!(f, "denied")?,
        }
        for Judged {
            name,
            verdict,
            detail,
        } in &self.checks
        {
            let line = format!("  {name:<9}  {verdict:<11}  {detail}");
            writeln!(f, "{}", line.trim_end())?;
        }
        for Near { grant, misses } in &self.grants {
            writeln!(f, "grant {grant} misses")?;
            for Miss { field, asked, lists } in misses {
                writeln!(f, "  {field}: asked {asked}; lists {lists}")?;
            }
        }
        Ok(())
    }
}

impl fmt::Display for Verdict {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Passed => "passed",
            Self::Reported => "reported",
            Self::Denied => "denied",
            Self::NotReached => "not reached",
        })
    }
}

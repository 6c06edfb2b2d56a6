//! One row of the fault table: what goes wrong at which hop, and what a caller is promised then.

use std::time::Duration;

use anyhow::Context as _;
use azure_simulator::{Action, Calls, CloseAt, Fault, HangAt, Operation, Service};
use e2e::{Rig, Site};
use proto::v1::GetDockerConfigRequest;
use proto::{Reason, catalogue::RetryClass};
use serde_json::Value;

/// What no caller and no log may ever show: it is in what the spoilt Azure writes.
pub(crate) const CANARY: &str = "canary-of-upstream-prose";

/// The call to Azure that goes wrong.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Hop {
    /// A federated identity's token.
    Entra,
    /// A managed identity's token.
    Imds,
    /// A registry's refresh token.
    Exchange,
    /// A registry's access token.
    Token,
}

/// What a caller is promised.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) enum Meaning {
    /// A credential all the same.
    Served,
    /// No credential, for this reason. When to ask again follows from its class.
    Refused(Reason),
    /// No credential, and Azure itself has said when to ask again, in seconds.
    Paused(Reason, u64),
}

/// Which broker a row is played on. A metadata service that is silent, throttled or broken is so for all identities of a
/// broker, where every case has an authority and a registry to itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Company {
    /// That of all rows.
    Everyone,
    /// One that others use as well, in turns: it is soon over, and ends with a success.
    Turns,
    /// One of its own.
    Alone,
}

/// One row.
pub(crate) struct Row {
    /// Of the row and of its site.
    pub(crate) name: String,
    pub(crate) hop: Hop,
    /// As the simulator's admin API takes it.
    pub(crate) action: Value,
    pub(crate) meaning: Meaning,
}

impl Hop {
    pub(crate) const ALL: [Self; 4] = [Self::Entra, Self::Imds, Self::Exchange, Self::Token];

    pub(crate) fn as_str(self) -> &'static str {
        match self {
            Self::Entra => "entra",
            Self::Imds => "imds",
            Self::Exchange => "exchange",
            Self::Token => "token",
        }
    }

    /// The simulator's names for it.
    pub(crate) fn call(self) -> (Service, Operation) {
        match self {
            Self::Entra => (Service::Entra, Operation::Token),
            Self::Imds => (Service::Imds, Operation::Token),
            Self::Exchange => (Service::Acr, Operation::Exchange),
            Self::Token => (Service::Acr, Operation::Token),
        }
    }

    /// The reason when it cannot be reached.
    pub(crate) fn unreachable(self) -> Reason {
        match self {
            Self::Entra => Reason::EntraUnreachable,
            Self::Imds => Reason::IdentityEndpointUnreachable,
            Self::Exchange | Self::Token => Reason::RegistryUnreachable,
        }
    }

    /// The member of the answer that holds the token.
    pub(crate) fn token_member(self) -> &'static str {
        match self {
            Self::Entra | Self::Imds | Self::Token => "access_token",
            Self::Exchange => "refresh_token",
        }
    }

    /// A request that takes this hop.
    pub(crate) fn request(self, rig: &Rig, site: &Site) -> GetDockerConfigRequest {
        match self {
            Self::Imds => site.broker_owned(),
            Self::Entra | Self::Exchange | Self::Token => rig.federated(site),
        }
    }

    /// A fault that hits this hop of one site. Before TLS is done nobody knows which operation it will be.
    pub(crate) fn fault(self, site: &Site, action: Action) -> Fault {
        let is_before_http = matches!(
            action,
            Action::Tls { .. }
                | Action::Hang { at: HangAt::Tls }
                | Action::Close { at: CloseAt::Tls }
                | Action::Reset { at: CloseAt::Tls }
        );
        let (service, operation) = self.call();
        let fault = Fault::new(action);
        let fault = if is_before_http {
            fault.on_service(service)
        } else {
            fault.on(service, operation)
        };
        match self {
            Self::Entra => fault.host(&site.authority),
            Self::Imds => fault.client_id(&site.identity_client_id),
            Self::Exchange | Self::Token => fault.host(&site.registry),
        }
    }

    /// The calls at this hop of one site, those that got no further than TLS included.
    pub(crate) fn calls(self, rig: &Rig, site: &Site) -> Calls {
        let (service, operation) = self.call();
        let calls = rig.azure().calls().to(service);
        let calls = match self {
            Self::Entra => calls.host(&site.authority),
            Self::Imds => calls.client_id(&site.identity_client_id),
            Self::Exchange | Self::Token => calls.host(&site.registry),
        };
        calls.filter(|call| call.op == operation || call.op == Operation::Connect)
    }
}

impl Row {
    pub(crate) fn new(hop: Hop, name: &str, action: Value, meaning: Meaning) -> Self {
        Self {
            name: format!("{}-{name}", hop.as_str()),
            hop,
            action,
            meaning,
        }
    }

    /// The action, as the simulator reads it.
    pub(crate) fn action(&self) -> anyhow::Result<Action> {
        serde_json::from_value(self.action.clone())
            .with_context(|| format!("the simulator has no such action: {}", self.action))
    }

    pub(crate) fn company(&self) -> Company {
        match self.meaning {
            _ if self.hop != Hop::Imds => Company::Everyone,
            _ if self.is_silent() => Company::Alone,
            Meaning::Paused(..) | Meaning::Refused(Reason::UpstreamThrottled) => Company::Alone,
            // Second tries that fail count against one budget of the metadata service.
            Meaning::Refused(reason) if reason.retry_class() == RetryClass::Transient => Company::Turns,
            Meaning::Served | Meaning::Refused(_) => Company::Everyone,
        }
    }

    /// Whether Azure says nothing for so long that a deadline has to end it.
    pub(crate) fn is_silent(&self) -> bool {
        match self.action.get("type").and_then(Value::as_str) {
            Some("hang") => true,
            Some("slow_body") => self.meaning != Meaning::Served,
            _ => false,
        }
    }
}

/// How long what was said first holds: at least, and at most. A little is added by whoever spreads callers.
pub(crate) fn remembered(meaning: Meaning) -> Option<(Duration, Duration)> {
    let seconds = |least, most| Some((Duration::from_secs(least), Duration::from_secs(most)));
    match meaning {
        Meaning::Served => None,
        // A tenth or so more may be asked of callers, so that they do not all come in one second.
        Meaning::Paused(_, pause) => seconds(pause, pause + pause / 5 + 10),
        Meaning::Refused(reason) => match reason.retry_class() {
            RetryClass::Waiting => seconds(15, 19),
            RetryClass::Permanent => seconds(30, 37),
            RetryClass::Throttled => seconds(1, 72),
            RetryClass::Transient => seconds(0, 60),
            RetryClass::Denied | RetryClass::Caller => None,
        },
    }
}

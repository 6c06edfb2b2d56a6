//! Azure as far as pull credentials need it: Entra ID's token endpoint, the instance metadata service, and
//! the token endpoints of Azure Container Registry, with TLS, faults, counters and a log of every decision.
//!
//! Read it in this order: [`State`] is what exists, `listeners` or `in_process` bring a request to `serve`, `entra`,
//! `imds` and `acr` decide it (as functions of the request and a `Scene`), `faults` spoil it, `observation`
//! remembers it. Behaviour that nobody outside Azure has verified is a switch in the state, with its default
//! documented there.

mod acr;
mod admin;
mod admin_client;
mod answer;
mod bucket;
mod certificates;
mod chance;
mod clock;
mod egress_proxy;
mod entra;
mod faults;
mod handle;
mod imds;
mod in_process;
mod issuers;
mod jwt;
mod keys;
mod listeners;
mod observation;
mod request;
mod scene;
mod serve;
mod service;
mod simulator;
mod state;
mod tokens;
mod world;

pub use admin::ServiceAccountToken;
pub use admin_client::{AdminClient, AdminError};
pub use clock::{ClockChange, ClockSettings, TimeSource};
pub use faults::{
    Action, BodyVariant, CloseAt, ExpiryAs, Fault, FaultError, Flap, HangAt, JsonQuirk, Match, RetryAfter,
    RetryAfterText, TlsDefect, TokenFault,
};
pub use handle::Handle;
pub use in_process::InProcess;
pub use observation::{
    CallCount, Calls, Counters, InFlight, IssuedSecret, LogEntry, SecretSeen, ServiceCount,
};
pub use serve::Unanswered;
pub use service::{Operation, Service};
pub use simulator::{Addresses, Builder, Simulator};
pub use state::{
    ACR_AUDIENCE, AccessTokenAsBasic, ArmPolicy, ChallengeService, Cloud, Condition, ExpiresIn,
    FederatedCredential, InsufficientScope, Issuer, IssuerKeys, PasswordGrant, Principal, PrincipalKind,
    Registry, RegistrySwitches, Role, RoleAssignment, RoleMode, ShortLived, State, StateError, Tenant,
    VirtualMachine,
};
pub use world::TokenError;

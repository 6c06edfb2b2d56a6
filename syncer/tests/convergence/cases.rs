//! What a case is made of: the state that the syncer finds, and what happens to it then.

use std::time::Duration;

use proptest::{collection::vec, option, prelude::*, sample};
use proto::Reason;
use syncer::binding::ApiVersion;

use crate::{
    broker::Mood,
    server::{Fault, Key},
};

/// Bindings that there may be: each API, two names, two namespaces.
const SLOTS: usize = 8;
const NAMESPACES: [&str; 2] = ["shop", "stall"];
const BINDINGS: [&str; 2] = ["web", "api"];
pub(crate) const ACCOUNTS: [&str; 3] = ["web", "batch", "puller"];

#[derive(Debug, Clone)]
pub(crate) struct Case {
    pub(crate) bindings: Vec<Found>,
    /// Those of the first namespace, then those of the second.
    pub(crate) accounts: Vec<Option<Account>>,
    pub(crate) mood: Mood,
    /// What happens after so long, and how often in a row.
    pub(crate) events: Vec<(Duration, Disturbance, usize)>,
    pub(crate) dice: u64,
}

/// A binding as it is found.
#[derive(Debug, Clone)]
pub(crate) struct Found {
    pub(crate) slot: usize,
    pub(crate) spec: Spec,
    pub(crate) has_finalizer: bool,
    pub(crate) secret: Shape,
}

#[derive(Debug, Clone)]
pub(crate) struct Spec {
    pub(crate) scope: usize,
    /// By a ServiceAccount; the older API knows no such identity.
    pub(crate) is_federated: bool,
    pub(crate) account: &'static str,
    /// Two more ServiceAccounts than one.
    pub(crate) has_more: bool,
    pub(crate) is_valid: bool,
}

/// What a Secret may look like.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Shape {
    Absent,
    Fresh,
    Due,
    Expired,
    OtherInputs,
    Overwritten,
    LabelLost,
    StaleOwner,
    Orphaned,
    Peers { is_valid: bool },
    ForeignOwner,
    ForeignWithoutLabel,
    OtherType,
    Immutable,
}

#[derive(Debug, Clone)]
pub(crate) struct Account {
    pub(crate) is_annotated: bool,
    /// In this order; names of bindings' Secrets may be among them, as the peer or Git leaves them.
    pub(crate) listed: Vec<&'static str>,
    pub(crate) recorded: Vec<&'static str>,
}

#[derive(Debug, Clone)]
pub(crate) enum Disturbance {
    Nothing,
    DeleteSecret(usize),
    EditSecret(usize),
    /// Somebody sets its times far ahead.
    EditTimes(usize),
    Unlabel(usize),
    Orphan(usize),
    Steal(usize),
    PutForeign(usize),
    Freeze(usize),
    PeerWrites(usize),
    PeerReturns(usize),
    Unlink(Key),
    ForgetRecord(Key),
    Reverse(Key),
    ListForeign(Key, &'static str),
    DeleteAccount(Key),
    CreateAccount(Key, Account),
    Annotate(Key, bool),
    Edit(usize, Spec),
    Rescope(usize),
    DeleteBinding(usize),
    CreateBinding(usize, Spec),
    Recreate(usize),
    Request(usize, u32),
    Restart,
    ClockStep(Duration),
    Azure(Mood),
    Faults(Vec<Fault>),
}

pub(crate) fn place(slot: usize) -> (ApiVersion, &'static str, &'static str) {
    (
        ApiVersion::ALL[slot % 2],
        BINDINGS[slot / 2 % 2],
        NAMESPACES[slot / 4 % 2],
    )
}

pub(crate) fn account_key(index: usize) -> Key {
    let namespace = NAMESPACES[index / ACCOUNTS.len()];
    (namespace.to_owned(), ACCOUNTS[index % ACCOUNTS.len()].to_owned())
}

pub(crate) fn case() -> impl Strategy<Value = Case> {
    let found = |slot| {
        (Just(slot), spec(), prop::bool::weighted(0.3), shape()).prop_map(
            |(slot, spec, has_finalizer, secret)| Found {
                slot,
                spec,
                has_finalizer,
                secret,
            },
        )
    };
    let bindings = sample::subsequence((0..SLOTS).collect::<Vec<_>>(), 1..=4)
        .prop_flat_map(move |slots| slots.into_iter().map(found).collect::<Vec<_>>());
    bindings.prop_flat_map(|bindings| {
        let accounts = vec(
            option::weighted(0.8, account()),
            ACCOUNTS.len() * NAMESPACES.len(),
        );
        let slots: Vec<_> = bindings.iter().map(|found| found.slot).collect();
        (Just(bindings), accounts, mood(), events(&slots), any::<u64>()).prop_map(
            |(bindings, accounts, mood, events, dice)| Case {
                bindings,
                accounts,
                mood,
                events,
                dice,
            },
        )
    })
}

/// Most of them befall the bindings that are there.
fn events(slots: &[usize]) -> impl Strategy<Value = Vec<(Duration, Disturbance, usize)>> + use<> {
    let gap = prop_oneof![
        Just(Duration::ZERO),
        (1..60_u64).prop_map(Duration::from_secs),
        (1..40_u64).prop_map(|minutes| Duration::from_secs(minutes * 60)),
    ];
    let times = prop_oneof![4 => Just(1), 1 => 2..12_usize];
    vec((gap, disturbance(slots), times), 0..10)
}

fn spec() -> impl Strategy<Value = Spec> {
    let account = sample::select(&ACCOUNTS[..2]);
    (
        0..2_usize,
        any::<bool>(),
        account,
        any::<bool>(),
        prop::bool::weighted(0.9),
    )
        .prop_map(|(scope, is_federated, account, has_more, is_valid)| Spec {
            scope,
            is_federated,
            account,
            has_more,
            is_valid,
        })
}

fn shape() -> impl Strategy<Value = Shape> {
    sample::select(vec![
        Shape::Absent,
        Shape::Fresh,
        Shape::Due,
        Shape::Expired,
        Shape::OtherInputs,
        Shape::Overwritten,
        Shape::LabelLost,
        Shape::StaleOwner,
        Shape::Orphaned,
        Shape::Peers { is_valid: true },
        Shape::Peers { is_valid: false },
        Shape::ForeignOwner,
        Shape::ForeignWithoutLabel,
        Shape::OtherType,
        Shape::Immutable,
    ])
}

fn account() -> impl Strategy<Value = Account> {
    let names = [
        "theirs",
        "other",
        "acr-pull-web",
        "web-msi-acrpull-secret",
        "acr-pull-gone",
    ];
    let recorded = sample::subsequence(names[2..].to_vec(), 0..=3);
    (
        prop::bool::weighted(0.7),
        vec(sample::select(names.to_vec()), 0..5),
        recorded,
    )
        .prop_map(|(is_annotated, listed, recorded)| Account {
            is_annotated,
            listed,
            recorded,
        })
}

fn mood() -> impl Strategy<Value = Mood> {
    let reasons = [
        Reason::RegistryUnauthorized,
        Reason::TenantNotFound,
        Reason::PolicyDenied,
        Reason::SubjectTokenRejected,
        Reason::BrokerUnreachable,
        Reason::Overloaded,
    ];
    let hint = option::of((1..20_u64).prop_map(|minutes| Duration::from_secs(minutes * 60)));
    prop_oneof![
        2 => Just(Mood::Grants),
        1 => sample::select(reasons.to_vec()).prop_map(Mood::Refuses),
        1 => hint.prop_map(Mood::Throttles),
    ]
}

fn disturbance(slots: &[usize]) -> impl Strategy<Value = Disturbance> + use<> {
    let slot = || prop_oneof![3 => sample::select(slots.to_vec()), 1 => 0..SLOTS];
    let key = || (0..ACCOUNTS.len() * NAMESPACES.len()).prop_map(account_key);
    let codes = sample::select(vec![403, 409, 409, 500]);
    let fault = prop_oneof![
        Just(Fault::None),
        codes.prop_map(Fault::Refused),
        Just(Fault::Lost)
    ];
    let of_secrets = prop_oneof![
        slot().prop_map(Disturbance::DeleteSecret),
        slot().prop_map(Disturbance::EditSecret),
        slot().prop_map(Disturbance::EditTimes),
        slot().prop_map(Disturbance::Unlabel),
        slot().prop_map(Disturbance::Orphan),
        slot().prop_map(Disturbance::Steal),
        slot().prop_map(Disturbance::PutForeign),
        slot().prop_map(Disturbance::Freeze),
        slot().prop_map(Disturbance::PeerWrites),
    ];
    let of_accounts = prop_oneof![
        key().prop_map(Disturbance::Unlink),
        key().prop_map(Disturbance::ForgetRecord),
        key().prop_map(Disturbance::Reverse),
        (key(), sample::select(vec!["theirs", "new"]))
            .prop_map(|(key, name)| Disturbance::ListForeign(key, name)),
        key().prop_map(Disturbance::DeleteAccount),
        (key(), account()).prop_map(|(key, account)| Disturbance::CreateAccount(key, account)),
        (key(), any::<bool>()).prop_map(|(key, is_on)| Disturbance::Annotate(key, is_on)),
    ];
    let of_bindings = prop_oneof![
        slot().prop_map(Disturbance::PeerReturns),
        (slot(), spec()).prop_map(|(slot, spec)| Disturbance::Edit(slot, spec)),
        slot().prop_map(Disturbance::Rescope),
        slot().prop_map(Disturbance::DeleteBinding),
        (slot(), spec()).prop_map(|(slot, spec)| Disturbance::CreateBinding(slot, spec)),
        slot().prop_map(Disturbance::Recreate),
        (slot(), any::<u32>()).prop_map(|(slot, value)| Disturbance::Request(slot, value)),
    ];
    let of_the_process = prop_oneof![
        Just(Disturbance::Nothing),
        Just(Disturbance::Restart),
        (1..200_u64).prop_map(|minutes| Disturbance::ClockStep(Duration::from_secs(minutes * 60))),
        mood().prop_map(Disturbance::Azure),
        vec(fault, 1..6).prop_map(Disturbance::Faults),
    ];
    prop_oneof![3 => of_secrets, 2 => of_accounts, 2 => of_bindings, 2 => of_the_process]
}

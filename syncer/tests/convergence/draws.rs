//! How cases are drawn.

use std::time::Duration;

use proptest::{collection::vec, option, prelude::*, sample};
use proto::Reason;

use crate::{
    broker::Mood,
    cases::{
        ACCOUNTS, Account, Case, Change, Disturbance, Fate, Found, NAMESPACES, SLOTS, Shape, account_key,
    },
    server::Fault,
    written::{Named, Spec},
};

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
        let faults = prop_oneof![2 => Just(Vec::new()), 1 => vec(fault(), 1..6)];
        let after = (vec(change(), 1..4), minutes(1..300));
        (
            Just(bindings),
            accounts,
            mood(),
            events(&slots),
            (after, faults),
            any::<u64>(),
        )
            .prop_map(
                |(bindings, accounts, mood, events, ((changes, set_back), faults), dice)| Case {
                    bindings,
                    accounts,
                    mood,
                    faults,
                    events,
                    changes,
                    set_back,
                    dice,
                },
            )
    })
}

fn seconds(range: std::ops::Range<u64>) -> impl Strategy<Value = Duration> {
    range.prop_map(Duration::from_secs)
}

fn minutes(range: std::ops::Range<u64>) -> impl Strategy<Value = Duration> {
    range.prop_map(|minutes| Duration::from_secs(minutes * 60))
}

/// Most of them befall the bindings that are there.
fn events(slots: &[usize]) -> impl Strategy<Value = Vec<(Duration, Disturbance, usize)>> + use<> {
    let gap = prop_oneof![Just(Duration::ZERO), seconds(1..60), minutes(1..40)];
    let times = prop_oneof![4 => Just(1), 1 => 2..12_usize];
    vec((gap, disturbance(slots), times), 0..10)
}

fn spec() -> impl Strategy<Value = Spec> {
    let account = 0..ACCOUNTS.len();
    let named = prop_oneof![
        2 => (0..2_usize).prop_map(Named::Client),
        1 => (0..2_usize).prop_map(Named::Resource),
        2 => Just(Named::Annotated { account: 2 }),
        1 => account.clone().prop_map(|account| Named::Annotated { account }),
        1 => (account, 0..2_usize, 0..2_usize)
            .prop_map(|(account, client, tenant)| Named::InSpec { account, client, tenant }),
    ];
    (
        0..2_usize,
        0..3_usize,
        0..4_usize,
        named,
        0..2_usize,
        any::<bool>(),
        prop::bool::weighted(0.9),
    )
        .prop_map(
            |(server, scope, cloud, named, account, has_more, is_valid)| Spec {
                server,
                scope,
                cloud,
                named,
                account,
                has_more,
                is_valid,
            },
        )
}

fn change() -> impl Strategy<Value = Change> {
    (any::<usize>(), 0..100_usize, any::<bool>()).prop_map(|(binding, field, fails_first)| Change {
        binding,
        field,
        fails_first,
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
        Shape::StaleOwnerOtherInputs,
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
    prop_oneof![
        2 => Just(Mood::Grants),
        1 => sample::select(reasons.to_vec()).prop_map(Mood::Refuses),
        1 => option::of(minutes(1..20)).prop_map(Mood::Throttles),
    ]
}

fn disturbance(slots: &[usize]) -> impl Strategy<Value = Disturbance> + use<> {
    let slot = || prop_oneof![3 => sample::select(slots.to_vec()), 1 => 0..SLOTS];
    let key = || (0..ACCOUNTS.len() * NAMESPACES.len()).prop_map(account_key);
    let of_secrets = prop_oneof![
        slot().prop_map(Disturbance::DeleteSecret),
        slot().prop_map(Disturbance::EditSecret),
        (slot(), minutes(300..2000)).prop_map(|(slot, ahead)| Disturbance::EditTimes(slot, ahead)),
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
        slot().prop_map(Disturbance::Finalize),
        (slot(), spec()).prop_map(|(slot, spec)| Disturbance::Edit(slot, spec)),
        change().prop_map(Disturbance::Change),
        slot().prop_map(Disturbance::DeleteBinding),
        (slot(), spec()).prop_map(|(slot, spec)| Disturbance::CreateBinding(slot, spec)),
        slot().prop_map(Disturbance::Recreate),
        (slot(), any::<u32>()).prop_map(|(slot, value)| Disturbance::Request(slot, value)),
    ];
    let of_servers = prop_oneof![
        1 => Just(Disturbance::Nothing),
        2 => mood().prop_map(Disturbance::Azure),
        3 => vec(fault(), 1..6).prop_map(Disturbance::Faults),
    ];
    let of_processes = prop_oneof![
        3 => fate().prop_map(Disturbance::Process),
        2 => deposed(slots),
    ];
    prop_oneof![4 => of_secrets, 2 => of_accounts, 3 => of_bindings, 1 => of_servers, 4 => of_processes]
}

/// What gives a pass over this binding something to do, or makes what it does outdated.
fn of_one(slot: usize) -> impl Strategy<Value = Box<Disturbance>> {
    let disturbance = prop_oneof![
        2 => Just(Disturbance::DeleteSecret(slot)),
        1 => Just(Disturbance::EditSecret(slot)),
        1 => Just(Disturbance::Orphan(slot)),
        1 => Just(Disturbance::Steal(slot)),
        1 => Just(Disturbance::PutForeign(slot)),
        1 => Just(Disturbance::PeerWrites(slot)),
        1 => Just(Disturbance::Recreate(slot)),
        1 => Just(Disturbance::PeerReturns(slot)),
        1 => Just(Disturbance::Finalize(slot)),
        1 => Just(Disturbance::DeleteBinding(slot)),
        1 => spec().prop_map(move |spec| Disturbance::CreateBinding(slot, spec)),
        2 => spec().prop_map(move |spec| Disturbance::Edit(slot, spec)),
        1 => any::<u32>().prop_map(move |value| Disturbance::Request(slot, value)),
    ];
    disturbance.prop_map(Box::new)
}

fn deposed(slots: &[usize]) -> impl Strategy<Value = Disturbance> + use<> {
    let slot = sample::select(slots.to_vec());
    slot.prop_flat_map(|slot| {
        (of_one(slot), of_one(slot), seconds(0..90)).prop_map(move |(cause, meanwhile, after)| {
            Disturbance::Depose {
                slot,
                cause,
                meanwhile,
                after,
            }
        })
    })
}

fn fault() -> impl Strategy<Value = Fault> {
    let codes = sample::select(vec![403, 409, 409, 500]);
    prop_oneof![
        1 => Just(Fault::None),
        1 => codes.prop_map(Fault::Refused),
        1 => Just(Fault::Lost),
        1 => Just(Fault::Late),
    ]
}

fn fate() -> impl Strategy<Value = Fate> + use<> {
    let lag = || prop_oneof![1 => Just(Duration::ZERO), 2 => seconds(1..90)];
    let lags = (lag(), lag(), lag());
    let a_while = prop_oneof![seconds(1..90), minutes(1..60)];
    prop_oneof![
        1 => Just(Fate::Restart),
        2 => (a_while, any::<bool>()).prop_map(|(lasts, is_older_to_stop)| Fate::Second {
            lasts,
            is_older_to_stop
        }),
        3 => lags.prop_map(|(bindings, accounts, secrets)| {
            Fate::Lag([bindings, accounts, secrets])
        }),
        1 => Just(Fate::Relist),
        1 => minutes(1..200).prop_map(Fate::Sleep),
    ]
}

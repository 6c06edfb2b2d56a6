//! What a case is made of: the state that the syncer finds, and what happens to it then. How they are drawn is in
//! [`crate::draws`].

use std::time::Duration;

use syncer::binding::ApiVersion;

use crate::{
    broker::Mood,
    server::{Fault, Key},
    written::Spec,
};

/// Bindings that there may be: each API, two names, two namespaces.
pub(crate) const SLOTS: usize = 8;
pub(crate) const NAMESPACES: [&str; 2] = ["shop", "stall"];
const BINDINGS: [&str; 2] = ["web", "api"];
pub(crate) const ACCOUNTS: [&str; 3] = ["web", "batch", "puller"];

#[derive(Debug, Clone)]
pub(crate) struct Case {
    pub(crate) bindings: Vec<Found>,
    /// Those of the first namespace, then those of the second.
    pub(crate) accounts: Vec<Option<Account>>,
    pub(crate) mood: Mood,
    /// What the first writes come to.
    pub(crate) faults: Vec<Fault>,
    /// What happens after so long, and how often in a row.
    pub(crate) events: Vec<(Duration, Disturbance, usize)>,
    /// Once all is right: one thing that a binding says is changed, and nothing else happens.
    pub(crate) changes: Vec<Change>,
    /// After that the clock is set back so far.
    pub(crate) set_back: Duration,
    pub(crate) dice: u64,
}

/// One thing that somebody changes: which of the bindings that there are, and which of the things that it says.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Change {
    pub(crate) binding: usize,
    pub(crate) field: usize,
    /// Azure refuses until something else is changed as well.
    pub(crate) fails_first: bool,
}

/// A binding as it is found.
#[derive(Debug, Clone)]
pub(crate) struct Found {
    pub(crate) slot: usize,
    pub(crate) spec: Spec,
    pub(crate) has_finalizer: bool,
    pub(crate) secret: Shape,
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
    /// The same, of a binding that said something else.
    StaleOwnerOtherInputs,
    Orphaned,
    Peers {
        is_valid: bool,
    },
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
    /// Somebody sets its times so far ahead.
    EditTimes(usize, Duration),
    Unlabel(usize),
    Orphan(usize),
    Steal(usize),
    PutForeign(usize),
    Freeze(usize),
    PeerWrites(usize),
    PeerReturns(usize),
    /// Somebody else puts a finalizer of their own on it.
    Finalize(usize),
    Unlink(Key),
    ForgetRecord(Key),
    Reverse(Key),
    ListForeign(Key, &'static str),
    DeleteAccount(Key),
    CreateAccount(Key, Account),
    Annotate(Key, bool),
    Edit(usize, Spec),
    Change(Change),
    DeleteBinding(usize),
    CreateBinding(usize, Spec),
    Recreate(usize),
    Request(usize, u32),
    Process(Fate),
    /// Another process takes over while this one is in the middle of a pass, which it ends so much later.
    Depose {
        slot: usize,
        /// Why there is something to do in that pass.
        cause: Box<Self>,
        /// What happens before it ends.
        meanwhile: Box<Self>,
        after: Duration,
    },
    Azure(Mood),
    Faults(Vec<Fault>),
}

/// What befalls the processes of the syncer.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Fate {
    Restart,
    /// Another process works beside this one for so long; then the older of the two stops, or the newer.
    Second {
        lasts: Duration,
        is_older_to_stop: bool,
    },
    /// From now on the watches of bindings, ServiceAccounts and Secrets show each change up to so much later.
    Lag([Duration; 3]),
    /// The watches begin anew, with a list.
    Relist,
    /// The machine sleeps.
    Sleep(Duration),
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

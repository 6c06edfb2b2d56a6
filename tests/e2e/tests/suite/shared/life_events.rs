//! Grants for what happens to bindings in the course of their lives: each has a registry whose calls one test looks at.

use super::Granted;

/// For a pull Secret that is somebody else's at first.
pub(crate) const FOREIGN: Granted = Granted {
    prefix: "foreign",
    registry: "foreign.azurecr.io",
    number: 101,
};
/// For a registry whose tokens live for [`super::SHORT_LIFE_S`], and which fails when another one is asked for.
pub(crate) const CHANGING: Granted = Granted {
    prefix: "changing",
    registry: "changing.azurecr.io",
    number: 102,
};
/// For a registry that never answers.
pub(crate) const SILENT: Granted = Granted {
    prefix: "silent",
    registry: "silent.azurecr.io",
    number: 103,
};
/// For a registry that grants a part of what it is asked for.
pub(crate) const PARTLY: Granted = Granted {
    prefix: "partly-granted",
    registry: "partly-granted.azurecr.io",
    number: 104,
};
/// For a registry that says no in other words each time.
pub(crate) const WORDY: Granted = Granted {
    prefix: "wordy",
    registry: "wordy.azurecr.io",
    number: 105,
};

pub(super) const ALL: [Granted; 5] = [FOREIGN, CHANGING, SILENT, PARTLY, WORDY];

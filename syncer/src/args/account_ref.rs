//! How a binding's `serviceAccountRef` is read, as a flag.

use clap::ValueEnum;

use crate::binding::AccountRef;

/// See [`AccountRef`].
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, ValueEnum)]
pub enum ServiceAccountRef {
    /// It names the ServiceAccount whose identity is used
    #[default]
    Use,
    /// The ServiceAccount that is linked has the identity, whatever serviceAccountRef says
    Ignore,
}

impl From<ServiceAccountRef> for AccountRef {
    fn from(reading: ServiceAccountRef) -> Self {
        match reading {
            ServiceAccountRef::Use => Self::Use,
            ServiceAccountRef::Ignore => Self::Ignore,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn b9_account_ref_is_read_as_the_flag_says_and_used_by_default() {
        for (text, reading) in [("use", AccountRef::Use), ("ignore", AccountRef::Ignore)] {
            let parsed = ServiceAccountRef::from_str(text, false).unwrap();
            assert_eq!(AccountRef::from(parsed), reading);
        }
        assert_eq!(AccountRef::from(ServiceAccountRef::default()), AccountRef::Use);
    }
}

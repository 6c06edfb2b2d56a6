//! Which ServiceAccount says, and proves, which identity a binding uses. Pure.

use super::Binding;

/// How `spec.auth.workloadIdentity.serviceAccountRef` is read.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum AccountRef {
    /// It names the ServiceAccount.
    #[default]
    Use,
    /// It names nothing: the peer reads annotations from, and mints tokens of, the ServiceAccount that is to be linked.
    /// For clusters whose federated credentials were made to fit that.
    Ignore,
}

impl AccountRef {
    /// Where the ServiceAccount is named.
    pub const fn field(self) -> &'static str {
        match self {
            Self::Use => "spec.auth.workloadIdentity",
            Self::Ignore => "spec.serviceAccountName",
        }
    }
}

impl Binding {
    /// The ServiceAccount that says which identity to use and whose token proves it, if there is one.
    pub fn identity_account(&self) -> Option<&str> {
        let identity = self.spec.auth.workload_identity.as_ref()?;
        Some(match self.account_ref {
            AccountRef::Use => &identity.service_account_ref,
            AccountRef::Ignore => &self.spec.service_account_name,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::samples::{binding, managed_identity_spec, workload_identity_spec};

    #[test]
    fn b9_account_of_the_identity_is_the_one_that_the_ref_names_unless_it_is_ignored() {
        let mut named = binding("web", workload_identity_spec());
        assert_eq!(named.identity_account(), Some("puller"));
        named.account_ref = AccountRef::Ignore;
        assert_eq!(named.identity_account(), Some("web"));
        for account_ref in [AccountRef::Use, AccountRef::Ignore] {
            let mut none = binding("web", managed_identity_spec());
            none.account_ref = account_ref;
            assert_eq!(none.identity_account(), None);
        }
    }
}

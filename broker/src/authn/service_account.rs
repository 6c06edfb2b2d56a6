//! The name of a ServiceAccount, as the `sub` of its tokens spells it.

/// What every such `sub` begins with.
const PREFIX: &str = "system:serviceaccount:";

/// The two parts of `system:serviceaccount:<namespace>:<name>`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ServiceAccount<'a> {
    /// Its namespace.
    pub namespace: &'a str,
    /// Its name.
    pub name: &'a str,
}

impl<'a> ServiceAccount<'a> {
    /// Reads a `sub`. Nothing, if it is not exactly of that form.
    pub fn parse(sub: &'a str) -> Option<Self> {
        let (namespace, name) = sub.strip_prefix(PREFIX)?.split_once(':')?;
        let is_whole = !namespace.is_empty() && !name.is_empty() && !name.contains(':');
        is_whole.then_some(Self { namespace, name })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn service_account_is_read_from_exactly_its_form() {
        let (namespace, name) = ("web", "app");
        assert_eq!(
            ServiceAccount::parse("system:serviceaccount:web:app"),
            Some(ServiceAccount { namespace, name })
        );
        for other in [
            "",
            "web:app",
            "system:serviceaccount:web",
            "system:serviceaccount::app",
            "system:serviceaccount:web:",
            "system:serviceaccount:web:app:x",
            "system:node:n1",
            "System:serviceaccount:web:app",
        ] {
            assert_eq!(ServiceAccount::parse(other), None, "{other}");
        }
    }
}

//! What of the scope that a binding asks for the registry did not grant. A token with a part of it is valid, and pulls of
//! the rest fail: somebody has to be told. Pure.

use std::collections::BTreeSet;

use proto::types::{Scope, ScopeSet};

/// So many are named; a binding can ask for hundreds.
const NAMED: usize = 3;

/// In words, if there is any. `granted` is what the status says; nothing there says nothing.
pub(super) fn shortfall(asked: &str, granted: Option<&str>) -> Option<String> {
    let asked = ScopeSet::from_field(asked).ok()?;
    let granted = ScopeSet::from_field(granted?).ok()?;
    let missing: Vec<String> = asked
        .iter()
        .filter_map(|scope| missing(scope, &granted))
        .map(|scope| scope.to_string())
        .collect();
    let (named, others) = missing.split_at(missing.len().min(NAMED));
    if named.is_empty() {
        return None;
    }
    let named = named.join(" ");
    let others = match others.len() {
        0 => String::new(),
        count => format!(" and {count} more"),
    };
    Some(format!("the registry did not grant {named}{others}"))
}

fn missing(asked: &Scope, granted: &ScopeSet) -> Option<Scope> {
    let same = granted
        .iter()
        .find(|granted| granted.kind == asked.kind && granted.name == asked.name);
    let given = same.map(|granted| &granted.actions);
    if given.is_some_and(|given| given.contains("*")) {
        return None;
    }
    let actions: BTreeSet<String> = match given {
        Some(given) => asked.actions.difference(given).cloned().collect(),
        None => asked.actions.clone(),
    };
    (!actions.is_empty()).then(|| Scope {
        actions,
        ..asked.clone()
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn b20_shortfall_names_what_is_missing_and_not_what_was_granted() {
        let two = "repository:team/web:pull repository:team/app:pull,push";
        let said = |granted| shortfall(two, Some(granted));
        assert_eq!(
            said("repository:team/app:pull,push repository:team/web:pull"),
            None
        );
        assert_eq!(
            said("repository:team/app:* repository:team/web:pull,delete"),
            None
        );
        assert_eq!(
            said("repository:team/app:pull repository:team/web:pull").as_deref(),
            Some("the registry did not grant repository:team/app:push")
        );
        assert_eq!(
            said("repository:team/web:pull").as_deref(),
            Some("the registry did not grant repository:team/app:pull,push")
        );
    }

    #[test]
    fn b20_shortfall_of_many_is_short() {
        let asked: Vec<String> = (1..=9)
            .map(|number| format!("repository:r{number}:pull"))
            .collect();
        assert_eq!(
            shortfall(&asked.join(" "), Some("repository:r1:pull")).as_deref(),
            Some(
                "the registry did not grant repository:r2:pull repository:r3:pull repository:r4:pull and 5 more"
            )
        );
    }

    #[test]
    fn b20_shortfall_is_none_where_nothing_is_known_or_nothing_was_asked_for() {
        assert_eq!(shortfall("repository:team/web:pull", None), None);
        assert_eq!(shortfall("", Some("")), None);
    }
}

//! `--label-selector`, checked before anything is called: the API server's own answer to a mistake comes late and does
//! not say which part is wrong. The grammar is that of `kubectl -l`. Pure; what a selector matches the server decides.

use std::{fmt, str::FromStr};

/// Longest name of a label key, and longest value (Kubernetes, "Labels and Selectors").
const MAX_NAME: usize = 63;
/// Longest prefix of a label key, a DNS subdomain.
const MAX_PREFIX: usize = 253;

/// A selector that the API server accepts. The empty one selects everything.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct LabelSelector(String);

/// Which part of a text makes it no selector.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum LabelSelectorError {
    /// A comma with nothing on one of its sides.
    #[error("has a comma with nothing before or after it")]
    Empty,
    /// Parentheses that do not match, or something behind them.
    #[error("has unbalanced parentheses in {0:?}")]
    Parentheses(String),
    /// Not a key.
    #[error(
        "has {0:?} for a label key: a key is up to 63 letters, digits, '-', '_' and '.', with a letter or digit at \
         both ends, and may have a domain and a slash before it"
    )]
    Key(String),
    /// Not a value.
    #[error(
        "has {0:?} for a label value: a value is up to 63 letters, digits, '-', '_' and '.', with a letter or digit \
         at both ends"
    )]
    Value(String),
    /// Not a number where one is compared.
    #[error("compares with {0:?}, which is not a whole number")]
    Number(String),
    /// Words that no operator joins.
    #[error(
        "has {0:?}, which is none of: key, !key, key=value, key!=value, key in (a,b), key notin (a,b), key>1, key<1"
    )]
    Requirement(String),
}

impl LabelSelector {
    /// As it was written; none if it selects everything.
    pub fn as_query(&self) -> Option<&str> {
        (!self.0.is_empty()).then_some(self.0.as_str())
    }
}

impl fmt::Display for LabelSelector {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl FromStr for LabelSelector {
    type Err = LabelSelectorError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let text = text.trim();
        if !text.is_empty() {
            for requirement in requirements(text)? {
                check(requirement.trim())?;
            }
        }
        Ok(Self(text.to_owned()))
    }
}

/// Splits at the commas outside of parentheses.
fn requirements(text: &str) -> Result<Vec<&str>, LabelSelectorError> {
    let unbalanced = || LabelSelectorError::Parentheses(text.to_owned());
    let (mut parts, mut start, mut is_inside) = (Vec::new(), 0, false);
    for (at, character) in text.char_indices() {
        match character {
            '(' | ')' if is_inside == (character == '(') => return Err(unbalanced()),
            '(' | ')' => is_inside = character == '(',
            ',' if !is_inside => {
                parts.push(text.get(start..at).unwrap_or_default());
                start = at + 1;
            }
            _ => {}
        }
    }
    if is_inside {
        return Err(unbalanced());
    }
    parts.push(text.get(start..).unwrap_or_default());
    Ok(parts)
}

fn check(requirement: &str) -> Result<(), LabelSelectorError> {
    if requirement.is_empty() {
        return Err(LabelSelectorError::Empty);
    }
    if let Some(key) = requirement.strip_prefix('!') {
        return check_key(key.trim());
    }
    if let Some((head, tail)) = requirement.split_once('(') {
        return check_set(requirement, head, tail);
    }
    // The longer operators first: each begins or ends like a shorter one.
    for operator in ["!=", "==", "="] {
        if let Some((key, value)) = requirement.split_once(operator) {
            check_key(key.trim())?;
            return check_value(value.trim());
        }
    }
    if let Some((key, number)) = requirement.split_once(['>', '<']) {
        check_key(key.trim())?;
        let number = number.trim();
        return match number.parse::<i64>() {
            Ok(_number) => Ok(()),
            Err(_error) => Err(LabelSelectorError::Number(number.to_owned())),
        };
    }
    if requirement.contains(char::is_whitespace) {
        return Err(LabelSelectorError::Requirement(requirement.to_owned()));
    }
    check_key(requirement)
}

/// `key in (a, b)` and `key notin (a, b)`, split at the first parenthesis.
fn check_set(requirement: &str, head: &str, tail: &str) -> Result<(), LabelSelectorError> {
    let mut words = head.split_whitespace();
    let (Some(key), Some("in" | "notin"), None) = (words.next(), words.next(), words.next()) else {
        return Err(LabelSelectorError::Requirement(requirement.to_owned()));
    };
    check_key(key)?;
    let values = tail
        .strip_suffix(')')
        .ok_or_else(|| LabelSelectorError::Parentheses(requirement.to_owned()))?;
    if values.trim().is_empty() {
        return Err(LabelSelectorError::Requirement(requirement.to_owned()));
    }
    values.split(',').try_for_each(|value| check_value(value.trim()))
}

fn check_key(key: &str) -> Result<(), LabelSelectorError> {
    let (prefix, name) = key
        .rsplit_once('/')
        .map_or((None, key), |(prefix, name)| (Some(prefix), name));
    if is_name(name) && prefix.is_none_or(is_subdomain) {
        Ok(())
    } else {
        Err(LabelSelectorError::Key(key.to_owned()))
    }
}

fn check_value(value: &str) -> Result<(), LabelSelectorError> {
    if value.is_empty() || is_name(value) {
        Ok(())
    } else {
        Err(LabelSelectorError::Value(value.to_owned()))
    }
}

fn is_name(text: &str) -> bool {
    let has_ends = |text: &str| {
        text.starts_with(|first: char| first.is_ascii_alphanumeric())
            && text.ends_with(|last: char| last.is_ascii_alphanumeric())
    };
    text.len() <= MAX_NAME
        && has_ends(text)
        && text
            .bytes()
            .all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b'.'))
}

fn is_subdomain(text: &str) -> bool {
    let is_label = |label: &str| {
        !label.is_empty()
            && !label.starts_with('-')
            && !label.ends_with('-')
            && label
                .bytes()
                .all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-')
    };
    text.len() <= MAX_PREFIX && text.split('.').all(is_label)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn label_selector_of_kubectls_grammar_is_taken_as_it_is_written() {
        for text in [
            "team=web",
            "team==web,stage!=test",
            "team",
            "!team",
            "example.com/team in (web, shop),stage notin (test)",
            "team=",
            "a_b.c-d=E_f.G",
            "size>10,size<20",
            "team in (,web)",
        ] {
            let selector: LabelSelector = text.parse().unwrap_or_else(|error| panic!("{text}: {error}"));
            assert_eq!(selector.as_query(), Some(text));
        }
        assert_eq!(" ".parse::<LabelSelector>().unwrap().as_query(), None);
    }

    #[test]
    fn label_selector_that_is_none_names_the_part() {
        use LabelSelectorError as Error;
        let long = "x".repeat(64);
        for (text, error) in [
            ("team=web,", Error::Empty),
            (",team", Error::Empty),
            ("team=we b", Error::Value("we b".to_owned())),
            ("stage=test,team=-web", Error::Value("-web".to_owned())),
            ("team=a=b", Error::Value("a=b".to_owned())),
            ("=web", Error::Key(String::new())),
            ("Example.com/team", Error::Key("Example.com/team".to_owned())),
            ("a/b/c", Error::Key("a/b/c".to_owned())),
            ("!", Error::Key(String::new())),
            (&long, Error::Key(long.clone())),
            ("size>big", Error::Number("big".to_owned())),
            ("team web", Error::Requirement("team web".to_owned())),
            ("team of (web)", Error::Requirement("team of (web)".to_owned())),
            ("team in ()", Error::Requirement("team in ()".to_owned())),
            ("team in (web", Error::Parentheses("team in (web".to_owned())),
            (
                "team in (web) x",
                Error::Parentheses("team in (web) x".to_owned()),
            ),
            ("team)", Error::Parentheses("team)".to_owned())),
        ] {
            assert_eq!(text.parse::<LabelSelector>(), Err(error), "{text}");
        }
    }
}

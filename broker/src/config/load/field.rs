//! One field at a time: parse it, or refuse it by its name.

use std::{collections::BTreeSet, fmt::Display, str::FromStr};

use url::Url;

/// Why a configuration is refused.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// The file, or one that it names, cannot be read. Not a matter of content.
    #[error("cannot read {path} ({field})")]
    Read {
        /// Which field named it.
        field: String,
        /// The file.
        path: String,
        /// Why.
        #[source]
        source: std::io::Error,
    },
    /// Not YAML of the right shape; the text says where.
    #[error("{0}")]
    Syntax(String),
    /// The content is not what it must be.
    #[error("{field}: {problem}")]
    Content {
        /// Path of the field, such as `grants[2].identity`.
        field: String,
        /// What is wrong and what to do.
        problem: String,
    },
}

pub(super) fn unique<'a>(field: &str, names: impl Iterator<Item = &'a String>) -> Result<(), ConfigError> {
    let mut seen = BTreeSet::new();
    for name in names {
        if name.is_empty() {
            return Err(content(field, "every entry needs a name"));
        }
        if !seen.insert(name) {
            return Err(content(field, format!("the name {name:?} is used twice")));
        }
    }
    Ok(())
}

pub(super) fn indexed<A, B>(
    field: &str,
    entries: Vec<A>,
    mut convert: impl FnMut(&str, A) -> Result<B, ConfigError>,
) -> Result<Vec<B>, ConfigError> {
    entries
        .into_iter()
        .enumerate()
        .map(|(index, entry)| convert(&format!("{field}[{index}]"), entry))
        .collect()
}

pub(super) fn one<T: FromStr<Err: Display>>(field: &str, text: &str) -> Result<T, ConfigError> {
    text.parse()
        .map_err(|error: T::Err| content(field, format!("{text:?} {error}")))
}

pub(super) fn optional<T: FromStr<Err: Display>>(
    field: &str,
    text: Option<String>,
) -> Result<Option<T>, ConfigError> {
    text.map(|text| one(field, &text)).transpose()
}

pub(super) fn all<T: FromStr<Err: Display>>(field: &str, texts: &[String]) -> Result<Vec<T>, ConfigError> {
    texts.iter().map(|text| one(field, text)).collect()
}

/// An https URL as it is written everywhere: the parser would make one of `https:host`, `https:\\host` and `https://HÖST` too,
/// and what a person sees there is not where it leads.
pub(super) fn https(field: &str, text: &str) -> Result<Url, ConfigError> {
    Url::parse(text)
        .ok()
        .filter(|url| {
            let names_host = |host: &str| {
                let authority = text.strip_prefix("https://").and_then(|rest| {
                    let end = rest.find(['/', '?', '#']).unwrap_or(rest.len());
                    rest.get(..end)
                });
                let after = authority.and_then(|authority| {
                    let (written, after) = authority.split_at_checked(host.len())?;
                    written.eq_ignore_ascii_case(host).then_some(after)
                });
                after.is_some_and(|after| after.is_empty() || after.starts_with(':'))
            };
            text.bytes().all(|byte| byte.is_ascii_graphic() && byte != b'\\')
                && url.scheme() == "https"
                && url.host_str().is_some_and(names_host)
                && url.username().is_empty()
                && url.password().is_none()
        })
        .ok_or_else(|| {
            content(
                field,
                format!("{text:?} must be an https URL such as https://host.example/path, in ASCII and without white space"),
            )
        })
}

pub(super) fn content(field: impl Into<String>, problem: impl Display) -> ConfigError {
    ConfigError::Content {
        field: field.into(),
        problem: problem.to_string(),
    }
}

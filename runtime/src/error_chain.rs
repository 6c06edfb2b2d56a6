//! An error with its causes in one line: `failed to read x: permission denied`.
//!
//! Errors here never print their source in `Display` (a chain would print it twice); this is where it is added.

use std::{error::Error, fmt};

/// Displays an error followed by all its sources, separated by `: `.
#[derive(Debug)]
pub struct ErrorChain<'a>(pub &'a (dyn Error + 'static));

impl fmt::Display for ErrorChain<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.0)?;
        let mut printed = self.0.to_string();
        let mut source = self.0.source();
        while let Some(cause) = source {
            let text = cause.to_string();
            // Some libraries print their source in their own text; do not say it twice.
            if !printed.contains(&text) {
                write!(f, ": {text}")?;
                printed = text;
            }
            source = cause.source();
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Debug, thiserror::Error)]
    #[error("failed to read the configuration")]
    struct Outer(#[source] std::io::Error);

    #[test]
    fn error_chain_says_each_cause_once() {
        let error = Outer(std::io::Error::other("disk on fire"));
        assert_eq!(
            ErrorChain(&error).to_string(),
            "failed to read the configuration: disk on fire"
        );
    }
}

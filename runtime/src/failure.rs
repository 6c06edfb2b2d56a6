//! How a process ends when it cannot go on: one line that names the thing and the remedy, and an exit code.

use std::{error::Error, fmt, process::ExitCode};

use crate::error_chain::ErrorChain;

/// Exit code for a bad command line or a configuration whose content is wrong (`EX_USAGE` of sysexits.h).
const EXIT_USAGE: u8 = 64;
/// Exit code where 1 is an answer, for what kept the process from giving one (`EX_UNAVAILABLE` of sysexits.h).
const EXIT_UNAVAILABLE: u8 = 69;
/// Exit code for everything else.
const EXIT_FAILURE: u8 = 1;

/// Why the process ends.
#[derive(Debug)]
pub struct Failure {
    exit_code: u8,
    what: String,
    remedy: Option<String>,
    source: Option<Box<dyn Error + Send + Sync>>,
}

impl Failure {
    /// The command line or the content of the configuration is wrong.
    pub fn usage(what: impl Into<String>) -> Self {
        Self {
            exit_code: EXIT_USAGE,
            what: what.into(),
            remedy: None,
            source: None,
        }
    }

    /// Something in the environment is missing or failed.
    pub fn runtime(what: impl Into<String>) -> Self {
        Self {
            exit_code: EXIT_FAILURE,
            what: what.into(),
            remedy: None,
            source: None,
        }
    }

    /// Something that is needed for an answer cannot be reached; for commands whose exit code 1 is an answer.
    pub fn unavailable(what: impl Into<String>) -> Self {
        Self {
            exit_code: EXIT_UNAVAILABLE,
            ..Self::runtime(what)
        }
    }

    /// Adds what to do about it.
    #[must_use]
    pub fn remedy(mut self, remedy: impl Into<String>) -> Self {
        self.remedy = Some(remedy.into());
        self
    }

    /// Adds the cause.
    #[must_use]
    pub fn source(mut self, source: impl Into<Box<dyn Error + Send + Sync>>) -> Self {
        self.source = Some(source.into());
        self
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut line = self.what.clone();
        if let Some(source) = &self.source {
            line = format!("{line}: {}", ErrorChain(source.as_ref()));
        }
        if let Some(remedy) = &self.remedy {
            line = format!("{line}; {remedy}");
        }
        // One line, whatever a parser put into its message.
        f.write_str(&line.split_whitespace().collect::<Vec<_>>().join(" "))
    }
}

/// Ends `main`: prints the failure, if there is one, and turns it into an exit code.
#[expect(
    clippy::print_stderr,
    reason = "the last words of a process that may have no log yet"
)]
pub fn exit_code(program: &str, result: Result<(), Failure>) -> ExitCode {
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => {
            eprintln!("{program}: {failure}");
            ExitCode::from(failure.exit_code)
        }
    }
}

/// Parses the command line of `program`.
///
/// # Errors
/// The exit code to end with: 0 after `--help` and `--version`, 64 after a mistake. The text is printed already.
#[expect(clippy::print_stderr, reason = "this is the command line's own answer")]
pub fn parse_args<A: clap::Parser>(program: &str) -> Result<A, ExitCode> {
    A::try_parse().map_err(|error| {
        if error.use_stderr() {
            eprintln!("{program}: {}", one_line(&error.to_string(), program));
            ExitCode::from(EXIT_USAGE)
        } else {
            // Help and version are what was asked for: standard output, success.
            match error.print() {
                Ok(()) => ExitCode::SUCCESS,
                Err(_closed_pipe) => ExitCode::from(EXIT_FAILURE),
            }
        }
    })
}

/// The parser explains a mistake over many lines and repeats the usage; a log and a script want one.
fn one_line(text: &str, program: &str) -> String {
    // One or the other follows the mistake, depending on what it is.
    let mistake = ["\n\nUsage:", "\n\nFor more information"]
        .into_iter()
        .fold(text, |text, tail| {
            text.split_once(tail).map_or(text, |(mistake, _tail)| mistake)
        });
    let mistake = mistake.strip_prefix("error: ").unwrap_or(mistake);
    format!(
        "{}; see {program} --help",
        mistake.split_whitespace().collect::<Vec<_>>().join(" ")
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn mistake_on_the_command_line_is_one_line() {
        let text = "error: the following required arguments were not provided:\n  --config <FILE>\n\nUsage: broker run\n";
        assert_eq!(
            one_line(text, "broker"),
            "the following required arguments were not provided: --config <FILE>; see broker --help"
        );
    }

    #[test]
    fn mistake_in_a_value_is_one_line() {
        let text =
            "error: invalid value '0' for '--workers <COUNT>'\n\nFor more information, try '--help'.\n";
        assert_eq!(
            one_line(text, "syncer"),
            "invalid value '0' for '--workers <COUNT>'; see syncer --help"
        );
    }

    #[test]
    fn failure_is_one_line_with_cause_and_remedy() {
        let failure = Failure::usage("configuration file a.yaml")
            .source("line 3:\n  unknown field `x`")
            .remedy("remove the field");
        assert_eq!(
            failure.to_string(),
            "configuration file a.yaml: line 3: unknown field `x`; remove the field"
        );
    }
}

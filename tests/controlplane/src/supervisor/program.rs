//! What to run: a program, its arguments and its environment. Data only; `Supervisor` runs it.

use std::ffi::{OsStr, OsString};
use std::path::{Path, PathBuf};
use std::process::Command;

const LAUNCH_SCRIPT: &str = include_str!("launch.sh");

/// A program to be run under a [`Supervisor`](super::Supervisor).
#[derive(Debug, Clone)]
pub struct Program {
    executable: PathBuf,
    arguments: Vec<OsString>,
    environment: Vec<(OsString, Option<OsString>)>,
    inherits_environment: bool,
    directory: Option<PathBuf>,
}

impl Program {
    /// A program by its path; it inherits the environment.
    pub fn new(executable: impl Into<PathBuf>) -> Self {
        Self {
            executable: executable.into(),
            arguments: Vec::new(),
            environment: Vec::new(),
            inherits_environment: true,
            directory: None,
        }
    }

    /// Adds an argument.
    #[must_use]
    pub fn arg(mut self, argument: impl AsRef<OsStr>) -> Self {
        self.arguments.push(argument.as_ref().to_owned());
        self
    }

    /// Adds arguments.
    #[must_use]
    pub fn args(mut self, arguments: impl IntoIterator<Item = impl AsRef<OsStr>>) -> Self {
        self.arguments
            .extend(arguments.into_iter().map(|argument| argument.as_ref().to_owned()));
        self
    }

    /// Sets an environment variable.
    #[must_use]
    pub fn env(mut self, name: impl AsRef<OsStr>, value: impl AsRef<OsStr>) -> Self {
        self.environment
            .push((name.as_ref().to_owned(), Some(value.as_ref().to_owned())));
        self
    }

    /// Takes an inherited environment variable away.
    #[must_use]
    pub fn without_env(mut self, name: impl AsRef<OsStr>) -> Self {
        self.environment.push((name.as_ref().to_owned(), None));
        self
    }

    /// Inherits nothing: the program sees only what `env` sets.
    #[must_use]
    pub fn clear_env(mut self) -> Self {
        self.inherits_environment = false;
        self
    }

    /// Sets the working directory (otherwise the supervisor's own folder).
    #[must_use]
    pub fn current_dir(mut self, directory: impl Into<PathBuf>) -> Self {
        self.directory = Some(directory.into());
        self
    }

    /// The path of the program.
    pub fn executable(&self) -> &Path {
        &self.executable
    }

    /// The command that registers itself with the watchdog and then becomes this program.
    pub(super) fn launch_command(&self, default_directory: &Path) -> Command {
        let mut command = Command::new("/bin/sh");
        command
            .args(["-c", LAUNCH_SCRIPT, "launch"])
            .arg(&self.executable)
            .args(&self.arguments)
            .current_dir(self.directory.as_deref().unwrap_or(default_directory));
        if !self.inherits_environment {
            command.env_clear();
        }
        for (name, value) in &self.environment {
            match value {
                Some(value) => command.env(name, value),
                None => command.env_remove(name),
            };
        }
        command
    }
}

//! What a person sees: numbered steps with the reason for each, commands, their output, checks, and a summary.
//!
//! Colours only for a terminal, and not where `NO_COLOR` asks for none (no-color.org). Nothing is wider than [`WIDTH`]
//! but a command with a long path, which must stay one word. A screen that is gone leaves nobody to tell, so failed writes
//! are ignored.

use std::io::{IsTerminal as _, Stdout, Write as _};
use std::time::Duration;

use tokio::time::{Instant, MissedTickBehavior};

/// Columns of the widest line.
pub(crate) const WIDTH: usize = 110;

/// How far the output of a command is moved to the right.
const INDENT: &str = "    ";

/// How often something slow says that it still goes on.
const PROGRESS_INTERVAL: Duration = Duration::from_secs(10);

/// How a piece of text looks, as the parameter of an ANSI escape sequence.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Style {
    /// Headings.
    Bold,
    /// What may be passed over.
    Dim,
    /// What holds.
    Green,
    /// What does not.
    Red,
    /// What a person could type.
    Cyan,
}

/// The screen, and what was seen on it so far.
pub(crate) struct Screen {
    out: Stdout,
    has_colours: bool,
    started_at: Instant,
    steps: Vec<Step>,
}

/// A step that was shown.
struct Step {
    title: &'static str,
    started_at: Instant,
    passed: usize,
    failed: usize,
}

impl Screen {
    /// The standard output.
    pub(crate) fn new() -> Self {
        let may_colour = std::env::var_os("NO_COLOR").is_none_or(|value| value.is_empty());
        let out = std::io::stdout();
        Self {
            has_colours: may_colour && out.is_terminal(),
            out,
            started_at: Instant::now(),
            steps: Vec::new(),
        }
    }

    /// What this is.
    pub(crate) fn title(&self) {
        self.line("");
        self.line(&self.styled(Style::Bold, "From an AcrPullBinding to a pulled image"));
        self.text(
            "Everything runs on this machine and is real but Azure: a control plane, the charts, the broker, the syncer, a \
             registry and its clients. Azure is simulated, down to its tokens and certificates.",
        );
    }

    /// A new step, and why it matters.
    pub(crate) fn step(&mut self, title: &'static str, why: &str) {
        self.steps.push(Step {
            title,
            started_at: Instant::now(),
            passed: 0,
            failed: 0,
        });
        self.line("");
        self.line(&self.styled(Style::Bold, &format!("{}. {title}", self.steps.len())));
        self.text(why);
    }

    /// A command as a person would type it.
    pub(crate) fn command(&self, command: &str) {
        for (position, line) in command.lines().enumerate() {
            let prompt = if position == 0 { "$ " } else { "" };
            self.line(&format!(
                "  {}",
                self.styled(Style::Cyan, &format!("{prompt}{line}"))
            ));
        }
    }

    /// What a command printed, or anything that is looked at.
    pub(crate) fn output(&self, output: &str) {
        for line in output.trim_end().lines() {
            for piece in folded(line.trim_end(), WIDTH - INDENT.len()) {
                self.line(format!("{INDENT}{piece}").trim_end());
            }
        }
    }

    /// One line that may be passed over.
    pub(crate) fn note(&self, note: &str) {
        self.line(&self.styled(Style::Dim, &format!("  … {note}")));
    }

    /// Something that has to be so.
    pub(crate) fn check(&mut self, what: &str, holds: bool) {
        if let Some(step) = self.steps.last_mut() {
            *(if holds { &mut step.passed } else { &mut step.failed }) += 1;
        }
        let (style, mark) = if holds {
            (Style::Green, "✓")
        } else {
            (Style::Red, "✗")
        };
        let lines = folded(what, WIDTH - INDENT.len());
        for (position, line) in lines.iter().enumerate() {
            let mark = if position == 0 {
                self.styled(style, mark)
            } else {
                " ".to_owned()
            };
            self.line(&format!("  {mark} {line}"));
        }
    }

    /// Waits for something that may be slow, and says so while it is.
    pub(crate) async fn waiting<T>(&self, what: &str, work: impl Future<Output = T>) -> T {
        let started_at = Instant::now();
        let mut work = std::pin::pin!(work);
        let mut ticks = tokio::time::interval_at(started_at + PROGRESS_INTERVAL, PROGRESS_INTERVAL);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        self.note(what);
        loop {
            tokio::select! {
                done = &mut work => return done,
                _ = ticks.tick() => self.note(&format!("{what}: {} s", started_at.elapsed().as_secs())),
            }
        }
    }

    /// What was checked, how long it took, and whether all of it was so.
    pub(crate) fn summary(&self) -> bool {
        self.line("");
        self.line(&self.styled(Style::Bold, "Summary"));
        let now = Instant::now();
        let ends = self.steps.iter().skip(1).map(|step| step.started_at).chain([now]);
        for (position, (step, end)) in self.steps.iter().zip(ends).enumerate() {
            let (number, all) = (position + 1, step.passed + step.failed);
            let seconds = end.duration_since(step.started_at).as_secs_f64();
            let (style, mark) = if step.failed == 0 {
                (Style::Green, "✓")
            } else {
                (Style::Red, "✗")
            };
            let line = format!(
                "{number:>2}. {:<60} {:>2} of {all:>2} checks {seconds:>6.1} s",
                step.title, step.passed
            );
            self.line(&format!("  {} {line}", self.styled(style, mark)));
        }
        let failed: usize = self.steps.iter().map(|step| step.failed).sum();
        let passed: usize = self.steps.iter().map(|step| step.passed).sum();
        let seconds = self.started_at.elapsed().as_secs();
        let verdict = if failed == 0 {
            self.styled(
                Style::Green,
                &format!("All {passed} checks passed, in {seconds} s."),
            )
        } else {
            self.styled(
                Style::Red,
                &format!("{failed} of {} checks failed, in {seconds} s.", passed + failed),
            )
        };
        self.line(&format!("  {verdict}"));
        failed == 0
    }

    /// A paragraph.
    pub(crate) fn text(&self, text: &str) {
        for line in folded(text, WIDTH) {
            self.line(&line);
        }
    }

    /// A piece of text with a look, where the screen can show it.
    pub(crate) fn styled(&self, style: Style, text: &str) -> String {
        if !self.has_colours {
            return text.to_owned();
        }
        let code = match style {
            Style::Bold => "1",
            Style::Dim => "2",
            Style::Green => "32",
            Style::Red => "31",
            Style::Cyan => "36",
        };
        format!("\u{1b}[{code}m{text}\u{1b}[0m")
    }

    /// One line as it is.
    pub(crate) fn line(&self, line: &str) {
        drop(writeln!(self.out.lock(), "{line}"));
    }
}

/// Breaks a line at spaces; what follows is indented a little more than its beginning.
fn folded(line: &str, width: usize) -> Vec<String> {
    let mut rest: Vec<char> = line.chars().collect();
    let own_indent = rest.iter().take_while(|character| **character == ' ').count();
    // A line that begins in the right half would leave no room for its rest.
    let indent = if own_indent == 0 {
        0
    } else {
        (own_indent + 2).min(width / 2)
    };
    let mut lines = Vec::new();
    while rest.len() > width {
        let space = rest
            .iter()
            .take(width + 1)
            .rposition(|character| *character == ' ');
        let at = space.filter(|at| *at > indent.max(own_indent)).unwrap_or(width);
        let tail = rest.split_off(at);
        lines.push(String::from_iter(&rest).trim_end().to_owned());
        let tail = tail.into_iter().skip_while(|character| *character == ' ');
        rest = std::iter::repeat_n(' ', indent).chain(tail).collect();
    }
    lines.push(String::from_iter(rest));
    lines
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn folded_line_that_fits_stays_as_it_is() {
        assert_eq!(folded("  a  b", 6), ["  a  b"]);
        assert_eq!(folded("", 6), [""]);
    }

    #[test]
    fn folded_line_breaks_at_spaces_and_keeps_its_indent() {
        assert_eq!(folded("one two three", 8), ["one two", "three"]);
        assert_eq!(folded("  one two three", 10), ["  one two", "    three"]);
    }

    #[test]
    fn folded_line_without_spaces_breaks_anywhere() {
        assert_eq!(folded("abcdefgh", 3), ["abc", "def", "gh"]);
        assert!(
            folded("        abcdefgh", 6)
                .iter()
                .all(|line| line.chars().count() <= 6)
        );
    }
}

//! How figures are shown: a table for people, one JSON object per line for programs.

use std::io::Write as _;
use std::path::Path;

use anyhow::Context as _;
use comfy_table::presets::UTF8_FULL_CONDENSED;
use comfy_table::{Cell, CellAlignment, Table};
use serde::Serialize;

/// One number, beside that of the baseline in the same run if there is one.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Figure {
    pub(crate) name: String,
    pub(crate) unit: &'static str,
    pub(crate) value: f64,
    pub(crate) baseline: Option<f64>,
    /// What is promised of it.
    pub(crate) goal: Option<Goal>,
}

/// What a figure must be to keep a promise.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) enum Goal {
    /// The number itself.
    AtMost(f64),
    /// The number itself.
    AtLeast(f64),
    /// The number divided by the baseline's.
    RatioAtMost(f64),
}

/// Figures of one situation.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Group {
    /// For people.
    pub(crate) title: String,
    /// For programs: begins the name of each figure.
    pub(crate) id: String,
    pub(crate) figures: Vec<Figure>,
}

/// What one benchmark has found out.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Part {
    /// What the figures are about.
    pub(crate) title: &'static str,
    /// What the baseline is; empty where there is none.
    pub(crate) baseline: &'static str,
    /// What a reader must know besides.
    pub(crate) notes: Vec<&'static str>,
    pub(crate) groups: Vec<Group>,
}

/// All that a run has found out.
#[derive(Debug, Default)]
pub(crate) struct Report {
    parts: Vec<Part>,
}

/// A line of the file. `value` is in `unit`, and so is `baseline`.
#[derive(Serialize)]
struct Line<'a> {
    figure: String,
    value: f64,
    unit: &'a str,
    baseline: Option<f64>,
    ratio: Option<f64>,
    goal: Option<String>,
    met: Option<bool>,
}

impl Figure {
    /// A number by itself.
    pub(crate) fn alone(name: impl Into<String>, unit: &'static str, value: f64) -> Self {
        Self {
            name: name.into(),
            unit,
            value,
            baseline: None,
            goal: None,
        }
    }

    /// A number and what the baseline needed.
    pub(crate) fn beside(name: impl Into<String>, unit: &'static str, value: f64, baseline: f64) -> Self {
        Self {
            name: name.into(),
            unit,
            value,
            baseline: Some(baseline),
            goal: None,
        }
    }

    /// The same with what is promised of it.
    pub(crate) fn with_goal(self, goal: Goal) -> Self {
        Self {
            goal: Some(goal),
            ..self
        }
    }

    /// Whether the promise was kept, if there is one.
    fn is_met(&self) -> Option<bool> {
        Some(match self.goal? {
            Goal::AtMost(most) => self.value <= most,
            Goal::AtLeast(least) => self.value >= least,
            Goal::RatioAtMost(most) => self.ratio()? <= most,
        })
    }

    /// `value / baseline`, where that means something.
    fn ratio(&self) -> Option<f64> {
        self.baseline
            .filter(|baseline| *baseline > 0.0)
            .map(|baseline| self.value / baseline)
    }
}

impl Goal {
    fn text(self) -> String {
        match self {
            Self::AtMost(most) => format!("<= {}", readable(most)),
            Self::AtLeast(least) => format!(">= {}", readable(least)),
            Self::RatioAtMost(most) => format!("ratio <= {}", readable(most)),
        }
    }
}

impl Report {
    /// Shows a part on the screen and keeps it for the file.
    ///
    /// # Errors
    /// Standard output is closed.
    pub(crate) fn add(&mut self, part: Part) -> anyhow::Result<()> {
        let mut text = format!("\n{}\n{}\n", part.title, table(&part));
        for note in &part.notes {
            text.push_str(note);
            text.push('\n');
        }
        std::io::stdout()
            .write_all(text.as_bytes())
            .context("failed to write to standard output")?;
        self.parts.push(part);
        Ok(())
    }

    fn missed(&self) -> impl Iterator<Item = (&Group, &Figure)> {
        let groups = self.parts.iter().flat_map(|part| &part.groups);
        let figures = groups.flat_map(|group| group.figures.iter().map(move |figure| (group, figure)));
        figures.filter(|(_group, figure)| figure.is_met() == Some(false))
    }

    /// Writes the file, over that of an earlier run.
    ///
    /// # Errors
    /// It cannot be written.
    pub(crate) fn write(&self, path: &Path) -> anyhow::Result<()> {
        let failed = || format!("failed to write {}", path.display());
        if let Some(folder) = path.parent() {
            std::fs::create_dir_all(folder).with_context(failed)?;
        }
        let mut lines = String::new();
        for line in self.parts.iter().flat_map(|part| &part.groups).flat_map(lines_of) {
            lines.push_str(&serde_json::to_string(&line).with_context(failed)?);
            lines.push('\n');
        }
        std::fs::write(path, lines).with_context(failed)?;
        progress(&format!("figures written to {}", path.display()));
        for (group, figure) in self.missed() {
            progress(&format!("goal missed: {}/{}", group.id, figure.name));
        }
        Ok(())
    }
}

/// Tells whoever waits what is going on. Standard output is for results.
pub(crate) fn progress(text: &str) {
    drop(writeln!(std::io::stderr(), "loadtest: {text}"));
}

fn lines_of(group: &Group) -> impl Iterator<Item = Line<'_>> {
    group.figures.iter().map(|figure| Line {
        figure: format!("{}/{}", group.id, figure.name),
        value: rounded(figure.value),
        unit: figure.unit,
        baseline: figure.baseline.map(rounded),
        ratio: figure.ratio().map(rounded),
        goal: figure.goal.map(Goal::text),
        met: figure.is_met(),
    })
}

fn table(part: &Part) -> Table {
    let ratio = if part.baseline.is_empty() { "" } else { "ratio" };
    let mut table = Table::new();
    table
        .load_style(UTF8_FULL_CONDENSED)
        .set_header(["", "measured", part.baseline, ratio, "unit", "goal"]);
    for (index, group) in part.groups.iter().enumerate() {
        table.add_row_if(|_, _| index > 0, [""; 6]);
        table.add_row([group.title.as_str(), "", "", "", "", ""]);
        for figure in &group.figures {
            let number = |value: f64| Cell::new(readable(value)).set_alignment(CellAlignment::Right);
            let optional = |value: Option<f64>| value.map_or_else(|| Cell::new(""), number);
            table.add_row([
                Cell::new(format!("  {}", figure.name)),
                number(figure.value),
                optional(figure.baseline),
                optional(figure.ratio()),
                Cell::new(figure.unit),
                Cell::new(promise(figure)),
            ]);
        }
    }
    table
}

/// The goal, and whether it was missed.
fn promise(figure: &Figure) -> String {
    let goal = figure.goal.map(Goal::text).unwrap_or_default();
    if figure.is_met() == Some(false) {
        goal + ": missed"
    } else {
        goal
    }
}

/// Enough digits to compare, and no more than the measurement is worth.
fn readable(value: f64) -> String {
    match value {
        value if value.fract() == 0.0 || value.abs() >= 100.0 => format!("{value:.0}"),
        value if value.abs() >= 10.0 => format!("{value:.1}"),
        value => format!("{value:.2}"),
    }
}

fn rounded(value: f64) -> f64 {
    (value * 1000.0).round() / 1000.0
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn line_has_the_members_that_programs_read() {
        let group = Group {
            title: "t".to_owned(),
            id: "hits/grpc".to_owned(),
            figures: vec![
                Figure::beside("p50", "ms", 3.0, 2.0).with_goal(Goal::RatioAtMost(1.1)),
                Figure::alone("memory", "MiB", 12.3456),
            ],
        };
        let lines: Vec<String> = lines_of(&group)
            .map(|line| serde_json::to_string(&line).unwrap())
            .collect();
        assert_eq!(
            lines,
            [
                r#"{"figure":"hits/grpc/p50","value":3.0,"unit":"ms","baseline":2.0,"ratio":1.5,"goal":"ratio <= 1.10","met":false}"#,
                r#"{"figure":"hits/grpc/memory","value":12.346,"unit":"MiB","baseline":null,"ratio":null,"goal":null,"met":null}"#,
            ]
        );
    }

    #[test]
    fn ratio_to_nothing_is_none() {
        let figure = Figure::beside("calls", "", 3.0, 0.0).with_goal(Goal::RatioAtMost(1.0));
        assert_eq!((figure.ratio(), figure.is_met()), (None, None));
    }

    #[test]
    fn goals_are_met_at_their_bounds() {
        let met = |goal| Figure::beside("p99", "ms", 2.0, 1.0).with_goal(goal).is_met();
        for (goal, expected) in [
            (Goal::AtMost(2.0), true),
            (Goal::AtMost(1.9), false),
            (Goal::AtLeast(2.0), true),
            (Goal::AtLeast(2.1), false),
            (Goal::RatioAtMost(2.0), true),
            (Goal::RatioAtMost(1.9), false),
        ] {
            assert_eq!(met(goal), Some(expected), "{goal:?}");
        }
    }

    #[test]
    fn numbers_are_shown_with_few_digits() {
        for (value, expected) in [
            (0.123, "0.12"),
            (12.34, "12.3"),
            (22_700.4, "22700"),
            (100.0, "100"),
            (2.0, "2"),
        ] {
            assert_eq!(readable(value), expected);
        }
    }
}

//! The table of the page: `| id | promise | tests now | state |`. People write promise and state, the tests are found.

use std::collections::BTreeSet;

use crate::{IDS, sources::Tests};

/// One line of the table.
struct Row<'a> {
    id: &'a str,
    promise: &'a str,
    tests: &'a str,
    state: &'a str,
}

/// The page with its column of tests as the sources have them.
pub fn rewritten(page: &str, tests: &Tests) -> String {
    let lines = page.lines().map(|line| match Row::read(line) {
        Some(row) => row.with_tests(&cell(row.id, tests)),
        None => line.to_owned(),
    });
    lines.map(|line| line + "\n").collect()
}

/// All that is not true on the page, each with what to do about it.
pub fn problems(page: &str, tests: &Tests) -> Vec<String> {
    let rows: Vec<Row<'_>> = page.lines().filter_map(Row::read).collect();
    let mut problems = Vec::new();
    for id in IDS {
        let count = rows.iter().filter(|row| row.id == id).count();
        if count != 1 {
            problems.push(format!(
                "{id} has {count} rows: every promise has one, kept or not"
            ));
        }
    }
    let carried: BTreeSet<&str> = tests.keys().map(String::as_str).collect();
    for id in carried.iter().filter(|id| !IDS.contains(id)) {
        problems.push(format!(
            "no promise has the id {id}: rename {}, or add the promise",
            cell(id, tests)
        ));
    }
    for row in &rows {
        row.judge(tests, &mut problems);
    }
    problems
}

fn cell(id: &str, tests: &Tests) -> String {
    let names = tests.get(id).into_iter().flatten();
    names
        .map(|name| format!("`{name}`"))
        .collect::<Vec<_>>()
        .join(", ")
}

impl<'a> Row<'a> {
    fn read(line: &'a str) -> Option<Self> {
        let mut cells = line
            .strip_prefix('|')?
            .strip_suffix('|')?
            .split('|')
            .map(str::trim);
        let row = Self {
            id: cells.next()?,
            promise: cells.next()?,
            tests: cells.next()?,
            state: cells.next()?,
        };
        let is_heading = row.id == "id" || row.id.starts_with('-');
        (!is_heading && cells.next().is_none()).then_some(row)
    }

    fn with_tests(&self, tests: &str) -> String {
        let tests = if tests.is_empty() {
            String::new()
        } else {
            format!(" {tests}")
        };
        format!("| {} | {} |{tests} | {} |", self.id, self.promise, self.state)
    }

    fn judge(&self, tests: &Tests, problems: &mut Vec<String>) {
        let Self {
            id, promise, state, ..
        } = self;
        let found = cell(id, tests);
        if !IDS.contains(id) {
            problems.push(format!("{id} is no id of a promise"));
        }
        if promise.is_empty() {
            problems.push(format!("{id} promises nothing"));
        }
        if self.tests != found {
            problems.push(format!(
                "{id} does not list the tests that carry it: run `make guarantees`"
            ));
        }
        let is_open = state.starts_with("not yet");
        if is_open && !found.is_empty() {
            problems.push(format!(
                "{id} is \"not yet\" and has tests: say \"whole\", or \"part: what they leave open\""
            ));
        }
        if !is_open && found.is_empty() {
            problems.push(format!(
                "{id} is {state:?} and no test carries it: name one {}_..., or say \"not yet\"",
                id.to_lowercase()
            ));
        }
        let says_what_is_left = state
            .strip_prefix("part:")
            .is_some_and(|rest| !rest.trim().is_empty());
        if !is_open && *state != "whole" && !says_what_is_left {
            problems.push(format!(
                "{id} is {state:?}: say \"whole\", \"part: what is left open\" or \"not yet\""
            ));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A page on which all is well: nothing is kept, and nothing is claimed.
    fn page() -> String {
        let rows = IDS.map(|id| format!("| {id} | promise | | not yet |\n")).concat();
        format!(
            "# Guarantees\n\n| id | promise | tests now | state |\n|---|---|---|---|\n{rows}\nText | here.\n"
        )
    }

    fn found(id: &str, name: &str) -> Tests {
        Tests::from([(id.to_owned(), BTreeSet::from([name.to_owned()]))])
    }

    fn only_problem(page: &str, tests: &Tests) -> String {
        let problems = problems(page, tests);
        assert_eq!(problems.len(), 1, "{problems:?}");
        problems[0].clone()
    }

    #[test]
    fn page_that_is_true_has_no_problem_and_stays() {
        assert_eq!(problems(&page(), &Tests::new()), [""; 0]);
        assert_eq!(rewritten(&page(), &Tests::new()), page());
    }

    #[test]
    fn page_is_rewritten_with_the_tests_and_then_true() {
        let tests = found("S1", "s1_x");
        let claimed = page().replace(
            "| S1 | promise | | not yet |",
            "| S1 | promise | `s1_gone` | whole |",
        );
        assert!(only_problem(&claimed, &tests).contains("make guarantees"));
        let rewritten = rewritten(&claimed, &tests);
        assert!(rewritten.contains("| S1 | promise | `s1_x` | whole |\n"));
        assert_eq!(problems(&rewritten, &tests), [""; 0]);
    }

    #[test]
    fn page_with_a_wrong_claim_is_found_out() {
        let none = Tests::new();
        let state = |state: &str| {
            page().replace(
                "| S1 | promise | | not yet |",
                &format!("| S1 | promise | | {state} |"),
            )
        };
        assert!(only_problem(&state("whole"), &none).contains("no test carries it"));
        assert!(
            only_problem(&page().replace("| S1 | promise | | not yet |\n", ""), &none).contains("0 rows")
        );
        let tests = found("S1", "s1_x");
        assert!(only_problem(&rewritten(&page(), &tests), &tests).contains("has tests"));
        assert!(only_problem(&rewritten(&state("part"), &tests), &tests).contains("left open"));
        assert!(only_problem(&page(), &found("Z9", "z9_x")).contains("no promise has the id Z9"));
    }
}

//! Writes the tests column of `docs/guarantees.md` from the sources (`make guarantees`), then says what is still not true.

use std::{fs, process::ExitCode};

use anyhow::{Context as _, Result};
use guarantees::{page, page_path, repository, sources};

#[expect(clippy::print_stderr, reason = "the answer of a command")]
fn main() -> Result<ExitCode> {
    let path = page_path();
    let before = fs::read_to_string(&path).with_context(|| format!("cannot read {}", path.display()))?;
    let tests = sources::tests(&repository())?;
    let after = page::rewritten(&before, &tests);
    if after != before {
        fs::write(&path, &after).with_context(|| format!("cannot write {}", path.display()))?;
    }
    let problems = page::problems(&after, &tests);
    for problem in &problems {
        eprintln!("docs/guarantees.md: {problem}");
    }
    Ok(if problems.is_empty() {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    })
}

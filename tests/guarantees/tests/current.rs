//! The page as it is now.

use guarantees::{page, page_path, repository, sources};

#[test]
fn guarantees_page_says_what_the_tests_prove() {
    let text = std::fs::read_to_string(page_path()).unwrap();
    let tests = sources::tests(&repository()).unwrap();
    let problems = page::problems(&text, &tests);
    assert!(
        problems.is_empty(),
        "docs/guarantees.md:\n  {}",
        problems.join("\n  ")
    );
}

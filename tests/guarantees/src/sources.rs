//! Finds the tests that carry the id of a promise: `s3_...`, or `..._s3_...` where another word comes first.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    path::Path,
};

use anyhow::{Context as _, Result};

/// Folders with code. Everything else is documents, charts, or what a build left behind.
const FOLDERS: [&str; 7] = [
    "proto", "runtime", "broker", "client", "syncer", "loadtest", "tests",
];

/// Tests by the id that they carry, in capitals as on the page.
pub type Tests = BTreeMap<String, BTreeSet<String>>;

/// Reads all sources under `root`.
///
/// # Errors
/// A folder or a file cannot be read.
pub fn tests(root: &Path) -> Result<Tests> {
    let mut found = Tests::new();
    for folder in FOLDERS {
        visit(&root.join(folder), &mut found)?;
    }
    Ok(found)
}

fn visit(path: &Path, found: &mut Tests) -> Result<()> {
    let reading = || format!("cannot read {}", path.display());
    if path.is_dir() {
        for entry in fs::read_dir(path).with_context(reading)? {
            let entry = entry.with_context(reading)?;
            if entry.file_name() != "target" {
                visit(&entry.path(), found)?;
            }
        }
    } else if path.extension().is_some_and(|extension| extension == "rs") {
        let text = fs::read_to_string(path).with_context(reading)?;
        for name in test_names(&text) {
            for id in ids(name) {
                found.entry(id).or_default().insert(name.to_owned());
            }
        }
    }
    Ok(())
}

/// The tests of a file. One that is ignored proves nothing.
fn test_names(source: &str) -> Vec<&str> {
    let (mut is_test, mut is_ignored) = (false, false);
    let mut names = Vec::new();
    for line in source.lines().map(str::trim_start) {
        if line.starts_with("#[ignore") {
            is_ignored = true;
        } else if line.starts_with("#[") && !line.starts_with("#[cfg") {
            is_test |= line.contains("test]") || line.contains("test(");
        } else if let Some((before, rest)) = line.split_once("fn ")
            && matches!(before, "" | "async " | "pub(crate) ")
        {
            if is_test && !is_ignored {
                names.extend(rest.split(['(', '<']).next());
            }
            (is_test, is_ignored) = (false, false);
        }
    }
    names
}

/// The words of a name that are ids: one letter, one or two digits. Not those with a `b`, which are the cases of
/// `docs/migration.md` and no promises.
fn ids(name: &str) -> impl Iterator<Item = String> {
    let is_id = |word: &&str| {
        let digits = word.strip_prefix(|first: char| first.is_ascii_lowercase() && first != 'b');
        digits.is_some_and(|digits| {
            (1..=2).contains(&digits.len()) && digits.bytes().all(|digit| digit.is_ascii_digit())
        })
    };
    // The last word is never one: `..._from_v1` speaks of something else.
    let words = name.rsplit_once('_').map_or("", |(words, _last)| words);
    words.split('_').filter(is_id).map(str::to_uppercase)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tests_are_told_from_other_functions_and_ignored_ones() {
        // Written so that this file itself has no such tests.
        let source = "
            @[cfg(test)]
            fn s1_no_test() {}
            @[test]
            @[expect(clippy::panic, reason = \"x\")]
            fn s2_plain() {}
            @[tokio::test(start_paused = true)]
            async fn fuzz_host_e1_timed() {}
            @[test]
            @[ignore = \"slow\"]
            fn s3_ignored() {}
            @[test]
            fn s4_in_a_macro(text in \".*\") {}
            fn s5_beside_it() {}"
            .replace('@', "#");
        assert_eq!(
            test_names(&source),
            ["s2_plain", "fuzz_host_e1_timed", "s4_in_a_macro"]
        );
    }

    #[test]
    fn ids_are_whole_words() {
        for (name, expected) in [
            ("s3_old_token_stays", vec!["S3"]),
            ("fuzz_host_e1_is_bare", vec!["E1"]),
            ("c1_and_c2_hold", vec!["C1", "C2"]),
            ("b4_label_of_somebody_stays", vec![]),
            ("es256_key", vec![]),
            ("crd_from_v1", vec![]),
        ] {
            assert_eq!(ids(name).collect::<Vec<_>>(), expected, "{name}");
        }
    }
}

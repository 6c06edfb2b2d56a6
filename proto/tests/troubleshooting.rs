//! The troubleshooting guide explains every reason of the catalogue, and no reason that does not exist.

use std::collections::BTreeSet;

use proto::Reason;

#[test]
fn troubleshooting_guide_has_one_section_per_reason() {
    let guide =
        std::fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/../docs/troubleshooting.md")).unwrap();
    let reasons: BTreeSet<&str> = Reason::ALL.iter().map(|reason| reason.as_str()).collect();
    // A heading of one word in camel case is the section of a reason; others are prose.
    let sections: Vec<&str> = guide
        .lines()
        .filter_map(|line| line.strip_prefix("## "))
        .filter(|heading| !heading.contains(' '))
        .collect();
    for reason in &reasons {
        assert_eq!(
            sections.iter().filter(|section| *section == reason).count(),
            1,
            "{reason}"
        );
    }
    for section in sections {
        assert!(reasons.contains(section), "{section} is not in the catalogue");
    }
}

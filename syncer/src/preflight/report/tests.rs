//! The report as a whole. The text is the one that docs/preflight.md shows.

use std::sync::Arc;

use serde_json::Value;

use super::*;
use crate::{
    preflight::scene::{args, fresh, peers},
    samples::now,
};

const DOCUMENT: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../docs/preflight.md");
const COMMAND: &str = "syncer preflight -v --cluster weu-7 --tenant 22222222-2222-2222-2222-222222222222";

/// A cluster that the peer has served, with a few things that are wrong.
fn scene() -> World {
    let mut world = peers();
    world.edit("legacy", |legacy| legacy.spec.acr.server.clear());
    let batch = Arc::clone(world.bindings.first().unwrap());
    let mut secret = crate::preflight::scene::peers_secret(&batch);
    secret.owner_references = None;
    secret.labels = None;
    world.add_secret(secret);
    world
}

fn report(arguments: &str) -> (Report, PreflightArgs) {
    let args = args(arguments);
    (Report::of(&scene(), &args, now()), args)
}

#[test]
fn report_in_the_documents_is_what_is_printed() {
    let (report, args) = report(COMMAND.trim_start_matches("syncer preflight"));
    let shown = report.shown(&args).unwrap();
    let expected = format!("```console\n$ {COMMAND}\n{shown}```\n");
    let document = std::fs::read_to_string(DOCUMENT).unwrap();
    assert!(
        document.contains(&expected),
        "docs/preflight.md should show\n{expected}"
    );
}

#[test]
fn report_for_programs_says_the_same_in_both_forms() {
    let (report, json) = report("-o json");
    let yaml = args("-o yaml");
    let json: Value = serde_json::from_str(&report.shown(&json).unwrap()).unwrap();
    let yaml: Value = serde_saphyr::from_str(&report.shown(&yaml).unwrap()).unwrap();
    assert_eq!(json, yaml);
    assert_eq!(json["summary"]["bindings"]["acrpull.microsoft.com/v1beta2"], 3);
    assert_eq!(json["findings"][0]["severity"], "blocker");
    assert_eq!(json["changes"].as_array().unwrap().len(), 5);
    assert_eq!(json["grants"]["identities"][0]["source"], "imds");
    assert_eq!(
        json["federations"][0]["subjects"][0],
        "system:serviceaccount:shop:puller"
    );
}

#[test]
fn report_is_blocked_by_blockers_only() {
    let (blocked, _args) = report("");
    assert!(blocked.is_blocked());
    let report = Report::of(&fresh(), &args(""), now());
    assert!(!report.findings.is_empty() && !report.is_blocked());
    assert!(
        text::of(&report, false)
            .unwrap()
            .ends_with("\nNothing is in the way.\n")
    );
}

#[test]
fn report_for_people_lists_some_of_many_alike_and_for_programs_all() {
    let mut world = fresh();
    for number in 0..25 {
        let mut spec = crate::samples::workload_identity_spec();
        spec.acr.scope.clear();
        spec.service_account_name = "puller".to_owned();
        world.add(crate::samples::binding(&format!("many-{number:02}"), spec));
    }
    let (text, json) = (args(""), args("-o json"));
    let report = Report::of(&world, &text, now());
    let shown = report.shown(&text).unwrap();
    assert!(shown.contains("\nIn the way (25)\n"), "{shown}");
    assert_eq!(shown.matches(": SpecRefused\n").count(), 20);
    assert!(shown.contains("shop/many-19: ") && !shown.contains("shop/many-20: "));
    assert!(
        shown.contains("\n  and 5 more with SpecRefused (use -o json)\n"),
        "{shown}"
    );
    let all: Value = serde_json::from_str(&report.shown(&json).unwrap()).unwrap();
    let refused = all["findings"].as_array().unwrap().iter();
    assert_eq!(
        refused.filter(|finding| finding["code"] == "SpecRefused").count(),
        25
    );
}

#[test]
fn report_of_a_reading_follows_it_everywhere() {
    let args = args("--service-account-ref=ignore --federated-grants");
    let mut world = peers();
    world.add_account(crate::samples::annotated_account("batch"));
    let report = Report::of(&world, &args, now());
    let subjects: Vec<&String> = report.federations.iter().flat_map(|one| &one.subjects).collect();
    assert_eq!(
        subjects,
        [
            "system:serviceaccount:shop:batch",
            "system:serviceaccount:shop:puller"
        ]
    );
}

#[test]
fn report_grants_only_is_yaml_of_the_broker() {
    let (report, args) = report("--grants-only --cluster weu-7");
    let sections: Value = serde_saphyr::from_str(&report.shown(&args).unwrap()).unwrap();
    let names: Vec<&String> = sections.as_object().unwrap().keys().collect();
    assert_eq!(names, ["grants", "identities"]);
}

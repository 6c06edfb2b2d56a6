use k8s_openapi::api::core::v1::LocalObjectReference;

use super::*;
use crate::samples::account;

/// Links a Secret as the syncer does.
pub(crate) fn link(account: &mut ServiceAccount, name: &str) {
    account
        .image_pull_secrets
        .get_or_insert_default()
        .push(LocalObjectReference {
            name: name.to_owned(),
        });
    let mut names = record(account);
    names.insert(name.to_owned());
    let names = names.into_iter().collect::<Vec<_>>().join(",");
    account
        .annotations_mut()
        .insert(RECORD_ANNOTATION.to_owned(), names);
}

fn with(listed: &[&str], recorded: &[&str]) -> ServiceAccount {
    let mut account = account("web");
    account.image_pull_secrets = Some(
        listed
            .iter()
            .map(|name| LocalObjectReference {
                name: (*name).to_owned(),
            })
            .collect(),
    );
    account
        .annotations_mut()
        .insert(RECORD_ANNOTATION.to_owned(), recorded.join(","));
    account
}

fn names(names: &[&str]) -> BTreeSet<String> {
    names.iter().map(|name| (*name).to_owned()).collect()
}

fn changed(account: &ServiceAccount, wanted: &[&str], gone: &[&str]) -> Option<(Vec<String>, Vec<String>)> {
    let links = change(account, &names(wanted), &names(gone))?;
    Some((links.entries, links.record.into_iter().collect()))
}

fn lists(entries: &[&str], record: &[&str]) -> (Vec<String>, Vec<String>) {
    let owned = |names: &[&str]| names.iter().map(|name| (*name).to_owned()).collect();
    (owned(entries), owned(record))
}

#[test]
fn link_first_one_makes_the_list() {
    assert_eq!(
        changed(&account("web"), &["acr-pull-a"], &[]),
        Some(lists(&["acr-pull-a"], &["acr-pull-a"]))
    );
}

#[test]
fn b16_link_ours_come_last_and_foreign_ones_keep_their_order() {
    let account = with(&["z-user", "acr-pull-b", "a-user", "a-user"], &["acr-pull-b"]);
    assert_eq!(
        changed(&account, &["acr-pull-b", "acr-pull-a"], &[]),
        Some(lists(
            &["z-user", "acr-pull-b", "a-user", "a-user", "acr-pull-a"],
            &["acr-pull-a", "acr-pull-b"]
        ))
    );
}

#[test]
fn link_of_the_newer_api_comes_before_those_of_the_older_one() {
    let older = ["a-msi-acrpull-secret", "b-msi-acrpull-secret"];
    let account = with(&["user", older[0]], &[older[0]]);
    assert_eq!(
        changed(&account, &["acr-pull-z", older[0], older[1]], &[]),
        Some(lists(
            &["user", "acr-pull-z", older[0], older[1]],
            &[older[0], "acr-pull-z", older[1]]
        ))
    );
}

#[test]
fn link_of_the_newer_api_passes_nothing_that_is_not_ours() {
    // A user's entry comes after ours; and one that looks like ours is not recorded.
    for entry in ["user", "x-msi-acrpull-secret"] {
        let account = with(&["a-msi-acrpull-secret", entry], &["a-msi-acrpull-secret"]);
        assert_eq!(
            changed(&account, &["acr-pull-z"], &[]),
            Some(lists(
                &["a-msi-acrpull-secret", entry, "acr-pull-z"],
                &["a-msi-acrpull-secret", "acr-pull-z"]
            ))
        );
    }
}

#[test]
fn link_that_is_there_already_is_adopted_in_place() {
    let account = with(&["acr-pull-a", "user"], &[]);
    assert!(!has(&account, "acr-pull-a"));
    assert_eq!(
        changed(&account, &["acr-pull-a"], &[]),
        Some(lists(&["acr-pull-a", "user"], &["acr-pull-a"]))
    );
}

#[test]
fn link_settled_account_needs_no_write() {
    let account = with(&["user", "acr-pull-a"], &["acr-pull-a"]);
    assert!(has(&account, "acr-pull-a"));
    assert_eq!(changed(&account, &["acr-pull-a"], &[]), None);
}

#[test]
fn unlink_removes_recorded_names_only() {
    let account = with(&["acr-pull-theirs", "acr-pull-a", "user"], &["acr-pull-a"]);
    assert_eq!(
        changed(&account, &[], &["acr-pull-a", "acr-pull-theirs"]),
        Some(lists(&["acr-pull-theirs", "user"], &[]))
    );
}

#[test]
fn unlink_of_a_name_that_is_wanted_again_does_nothing() {
    let account = with(&["acr-pull-a"], &["acr-pull-a"]);
    assert_eq!(changed(&account, &["acr-pull-a"], &["acr-pull-a"]), None);
}

#[test]
fn unlink_of_a_name_that_a_user_removed_cleans_the_record() {
    let account = with(&["user"], &["acr-pull-a"]);
    assert_eq!(
        changed(&account, &[], &["acr-pull-a"]),
        Some(lists(&["user"], &[]))
    );
}

#[test]
fn link_patch_writes_list_and_record_over_one_version() {
    let links = change(&with(&["user"], &[]), &names(&["acr-pull-a"]), &BTreeSet::new()).unwrap();
    assert_eq!(
        links.merge_patch(Some("200")),
        json!({
            "metadata": {"resourceVersion": "200", "annotations": {RECORD_ANNOTATION: "acr-pull-a"}},
            "imagePullSecrets": [{"name": "user"}, {"name": "acr-pull-a"}],
        })
    );
    let empty = change(
        &with(&["acr-pull-a"], &["acr-pull-a"]),
        &BTreeSet::new(),
        &names(&["acr-pull-a"]),
    );
    let patch = empty.unwrap().merge_patch(None);
    assert_eq!(
        patch["metadata"]["annotations"][RECORD_ANNOTATION],
        Value::Null,
        "null deletes the key"
    );
}

#[test]
fn slim_account_keeps_what_decisions_need() {
    let mut account = with(&["user"], &["acr-pull-a"]);
    account
        .annotations_mut()
        .insert(crate::wanted::CLIENT_ID_ANNOTATION.to_owned(), "id".to_owned());
    account.annotations_mut().insert(
        "kubectl.kubernetes.io/last-applied-configuration".to_owned(),
        "{}".to_owned(),
    );
    slim(&mut account);
    assert_eq!(account.annotations().len(), 2);
    assert_eq!(account.resource_version().as_deref(), Some("200"));
}

#[test]
fn b12_link_of_the_peer_goes_like_one_of_ours_and_others_stay() {
    let account = with(&["own", "acr-pull-a", "acr-pull-b"], &["acr-pull-b"]);
    assert_eq!(
        changed(&account, &[], &["acr-pull-a"]),
        None,
        "no record, no removal"
    );
    let claimed = claimed(&account, "acr-pull-a");
    assert_eq!(
        changed(&claimed, &[], &["acr-pull-a"]),
        Some(lists(&["own", "acr-pull-b"], &["acr-pull-b"]))
    );
    assert_eq!(
        super::claimed(&account, "acr-pull-c"),
        account,
        "what is not listed is not claimed"
    );
}

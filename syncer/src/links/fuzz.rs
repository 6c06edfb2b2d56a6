//! ServiceAccounts as anybody may edit them: list and record disagree, names repeat, annotations hold anything.

use hostile::{document, fuzz};

use super::*;

const ACCOUNTS: [&str; 2] = [
    r#"{"metadata":{"name":"web","namespace":"shop","resourceVersion":"200",
            "annotations":{"acrpull.microsoft.com/linked-secrets":"acr-pull-web,acr-pull-gone"}},
        "imagePullSecrets":[{"name":"foreign"},{"name":"acr-pull-web"},{"name":"other"},{"name":"acr-pull-gone"}]}"#,
    r#"{"metadata":{"name":"web","namespace":"shop"},"imagePullSecrets":[{"name":"acr-pull-web"},{"name":"foreign"},{"name":"foreign"}]}"#,
];

/// Foreign entries keep their place and order, only recorded names go, what is wanted is there afterwards, and then
/// nothing is left to change.
#[test]
fn fuzz_links_keep_what_is_foreign() {
    let names = |name: &str| BTreeSet::from([name.to_owned()]);
    let (wanted, gone) = (names("acr-pull-web"), names("acr-pull-gone"));
    fuzz(document(&ACCOUNTS), |json| {
        let Ok(mut account) = serde_json::from_str::<ServiceAccount>(&json) else {
            return;
        };
        let recorded = record(&account);
        let before: Vec<String> = entries(&account).map(str::to_owned).collect();
        assert!(
            linked(&account)
                .iter()
                .all(|name| recorded.contains(name) && before.contains(name))
        );
        let Some(links) = change(&account, &wanted, &gone) else {
            assert!(has(&account, "acr-pull-web"));
            return;
        };
        let stays = |name: &&String| !(recorded.contains(*name) && gone.contains(*name));
        let kept: Vec<&String> = before.iter().filter(stays).collect();
        let (in_place, added) = links.entries.split_at(kept.len());
        assert_eq!(in_place.iter().collect::<Vec<_>>(), kept);
        assert!(added.iter().all(|name| wanted.contains(name)));

        let patch = links.merge_patch(None);
        account.image_pull_secrets = serde_json::from_value(patch["imagePullSecrets"].clone()).unwrap();
        account.annotations_mut().insert(
            RECORD_ANNOTATION.to_owned(),
            patch["metadata"]["annotations"][RECORD_ANNOTATION]
                .as_str()
                .unwrap()
                .to_owned(),
        );
        assert!(has(&account, "acr-pull-web"));
        assert_eq!(change(&account, &wanted, &gone), None);
    });
}

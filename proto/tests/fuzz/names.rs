//! The words of the contract: whatever is accepted is canonical, and means the same to everybody who reads it next.

use std::{fmt, net::IpAddr, str::FromStr};

use hostile::{fuzz, text};
use proptest::{prelude::any, sample::Index};
use proto::{
    Fingerprint,
    time::{from_duration, from_timestamp, to_timestamp},
    types::{AzureId, RegistryHost, ResourceId, Scope, ScopeSet, TenantId},
};
use url::Url;

const HOSTS: [&str; 4] = [
    "example.azurecr.io",
    "Name-A1b2.EastUS.geo.AzureCR.io",
    "https://user:secret@example.azurecr.io:443/team/app?x#y",
    "10.0.0.1.nip.io",
];
const GUIDS: [&str; 2] = [
    "1b461305-28be-5271-beda-bd9fd2e24251",
    "{1B461305-28BE-5271-BEDA-BD9FD2E24251}",
];
const TENANTS: [&str; 3] = [
    "22222222-2222-2222-2222-222222222222",
    "Contoso.OnMicrosoft.com",
    "organizations",
];
const RESOURCE_IDS: [&str; 2] = [
    "/subscriptions/0-1/resourceGroups/my-group/providers/Microsoft.ManagedIdentity/userAssignedIdentities/web",
    "/SUBSCRIPTIONS/s/RESOURCEGROUPS/g/PROVIDERS/MICROSOFT.MANAGEDIDENTITY/USERASSIGNEDIDENTITIES/n/more",
];
const SCOPES: [&str; 4] = [
    "repository:team/app:pull",
    "repository:b:push,pull  repository:a:metadata_read repository:b:pull,delete",
    "registry:catalog:*",
    "repository:team/*:pull",
];

/// Whatever is accepted prints as text that is accepted as the same, in the given alphabet and length. Returns it.
///
/// A refusal that is `Copy` holds nothing of its input, so it cannot quote it: a field may hold a secret by mistake.
fn canonical<T>(text: &str, max_chars: usize, is_allowed: fn(char) -> bool) -> Option<T>
where
    T: FromStr<Err: Copy + 'static> + fmt::Display + fmt::Debug + PartialEq,
{
    let parsed = text.parse::<T>().ok()?;
    let printed = parsed.to_string();
    assert_eq!(printed.parse::<T>().ok().as_ref(), Some(&parsed), "{printed}");
    assert!(
        printed.chars().all(is_allowed),
        "{printed:?} has characters that are not allowed"
    );
    assert!(!printed.is_empty() && printed.len() <= max_chars, "{printed:?}");
    Some(parsed)
}

fn is_host(character: char) -> bool {
    character.is_ascii_lowercase() || character.is_ascii_digit() || matches!(character, '-' | '.')
}

/// Guarantee E1: what the policy compared is what the HTTP client connects to.
#[test]
fn fuzz_registry_host_e1_is_the_host_that_a_url_parser_sees() {
    fuzz(text(&HOSTS), |text| {
        let Some(host) = canonical::<RegistryHost>(&text, 253, is_host) else {
            return;
        };
        assert_eq!(host.as_str(), text.to_ascii_lowercase());
        assert_eq!(host.as_str().parse::<IpAddr>().ok(), None);
        let url = Url::parse(&format!("https://{host}/oauth2/token")).unwrap();
        assert_eq!(url.domain(), Some(host.as_str()));
        assert_eq!((url.port(), url.username(), url.password()), (None, "", None));
        assert_eq!(
            (url.path(), url.query(), url.fragment()),
            ("/oauth2/token", None, None)
        );
        assert!(host.as_str().contains('.') && !host.as_str().ends_with('.'));
    });
}

#[test]
fn fuzz_registry_host_lies_under_a_suffix_at_label_boundaries_only() {
    fuzz(
        (text(&HOSTS), text(&["azurecr.io", "geo.azurecr.io"])),
        |(text, suffix)| {
            let Ok(host) = text.parse::<RegistryHost>() else {
                return;
            };
            let labels: Vec<&str> = host.as_str().split('.').collect();
            let is_under = (1..labels.len()).any(|first| labels[first..].join(".") == suffix);
            assert_eq!(host.is_under(&suffix), is_under, "{host} under {suffix:?}");
        },
    );
}

#[test]
fn fuzz_azure_id_is_a_lower_case_guid() {
    fuzz(text(&GUIDS), |text| {
        if canonical::<AzureId>(&text, 36, |c| {
            c.is_ascii_hexdigit() && !c.is_ascii_uppercase() || c == '-'
        })
        .is_some()
        {
            assert_eq!(text.to_ascii_uppercase().parse::<AzureId>(), text.parse());
        }
    });
}

/// A tenant becomes a segment of the path of a request to Entra ID.
#[test]
fn fuzz_tenant_is_one_segment_of_a_path() {
    fuzz(text(&TENANTS), |text| {
        let Some(tenant) = canonical::<TenantId>(&text, 253, is_host) else {
            return;
        };
        let url = Url::parse(&format!("https://login.example/{tenant}/oauth2/v2.0/token")).unwrap();
        let segments: Vec<&str> = url.path_segments().unwrap().collect();
        assert_eq!(segments, [tenant.as_str(), "oauth2", "v2.0", "token"]);
    });
}

#[test]
fn fuzz_resource_id_has_its_nine_parts() {
    fuzz(text(&RESOURCE_IDS), |text| {
        let is_allowed = |c: char| c.is_ascii_graphic() && !c.is_ascii_uppercase();
        if let Some(id) = canonical::<ResourceId>(&text, 1024, is_allowed) {
            assert_eq!(id.as_str().split('/').count(), 9);
            assert_eq!(text.to_ascii_uppercase().parse::<ResourceId>(), text.parse());
        }
    });
}

#[test]
fn fuzz_scope_reads_back_as_itself() {
    fuzz(text(&SCOPES), |text| {
        let is_allowed = |c: char| c.is_ascii_graphic() && c != '"' && c != '\\';
        if let Some(scope) = canonical::<Scope>(&text, Scope::MAX_CHARS, is_allowed) {
            assert!(!scope.actions.is_empty());
            assert!(!scope.name.contains('*'), "a wildcard in a name");
        }
    });
}

/// Two ways to say the same share one token: order, repetition and grouping do not matter.
#[test]
fn fuzz_scope_set_of_equal_meaning_is_equal() {
    let several = proptest::collection::vec((text(&SCOPES), any::<Index>()), 1..4);
    fuzz(several, |fields| {
        let scopes: Vec<Scope> = fields
            .iter()
            .filter_map(|(text, _)| ScopeSet::from_field(text).ok())
            .flat_map(|set| set.iter().cloned().collect::<Vec<_>>())
            .collect();
        let set: ScopeSet = scopes.iter().cloned().collect();
        assert_eq!(ScopeSet::from_field(&set.to_field()).unwrap(), set);

        let mut shuffled = scopes.clone();
        for (_, at) in &fields {
            if !shuffled.is_empty() {
                let again = shuffled[at.index(shuffled.len())].clone();
                shuffled.push(again);
                shuffled.rotate_left(at.index(scopes.len()));
            }
        }
        // One action at a time: merging is the set's own work.
        let one_by_one = shuffled.into_iter().flat_map(|scope| {
            let Scope { kind, name, actions } = scope;
            actions.into_iter().map(move |action| Scope {
                kind: kind.clone(),
                name: name.clone(),
                actions: [action].into(),
            })
        });
        assert_eq!(one_by_one.collect::<ScopeSet>(), set);

        // Nothing is lost and nothing is added.
        let resources: Vec<(&String, &String)> = set.iter().map(|scope| (&scope.kind, &scope.name)).collect();
        assert!(resources.is_sorted() && resources.windows(2).all(|pair| pair[0] != pair[1]));
        for scope in &scopes {
            let merged = set
                .iter()
                .find(|other| (&other.kind, &other.name) == (&scope.kind, &scope.name));
            assert!(merged.unwrap().actions.is_superset(&scope.actions));
        }
        for merged in set.iter() {
            let asked = scopes
                .iter()
                .filter(|scope| (&scope.kind, &scope.name) == (&merged.kind, &merged.name));
            assert!(
                merged
                    .actions
                    .iter()
                    .all(|action| asked.clone().any(|scope| scope.actions.contains(action)))
            );
        }
    });
}

#[test]
fn fuzz_fingerprint_has_16_bytes() {
    fuzz(
        hostile::bytes(&[b"0123456789abcdef"]),
        |bytes| match Fingerprint::try_from(bytes.as_slice()) {
            Ok(fingerprint) => assert_eq!(fingerprint.as_bytes(), bytes),
            Err(_) => assert_ne!(bytes.len(), Fingerprint::LEN),
        },
    );
}

#[test]
fn fuzz_time_reads_back_as_itself() {
    let edges = proptest::sample::select(vec![i64::MIN, -1, 0, 1, 4_102_444_800, i64::MAX]);
    let seconds = proptest::prop_oneof![edges, any::<i64>(), 0_i64..1 << 33];
    let nanos = proptest::prop_oneof![any::<i32>(), 0_i32..1_000_000_001];
    fuzz((seconds, nanos), |(seconds, nanos)| {
        let timestamp = pbjson_types::Timestamp { seconds, nanos };
        if let Some(at) = from_timestamp(&timestamp) {
            assert_eq!(to_timestamp(at), timestamp);
        }
        let is_span = seconds >= 0 && (0..1_000_000_000).contains(&nanos);
        let span = from_duration(&pbjson_types::Duration { seconds, nanos });
        assert_eq!(span.is_some(), is_span);
    });
}

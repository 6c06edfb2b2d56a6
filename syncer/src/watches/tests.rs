//! The watches beside an API server that restarts, forgets, throttles, fails or says nothing, in virtual time.

mod server;

use std::{collections::BTreeSet, pin::pin, time::Duration};

use futures::StreamExt as _;
use kube::ResourceExt as _;
use tokio::time::{Instant, timeout, timeout_at};

use self::server::{Answer, Asked, Server};
use super::*;

/// Follows the watch of Secrets for so long. Says which are known then.
async fn known_after(server: &Server, span: Duration) -> BTreeSet<String> {
    let mut writer = reflector::store::Writer::<PartialObjectMeta<Secret>>::default();
    let mut events = pin!(secrets_of(Api::all(server.client())));
    let end = Instant::now() + span;
    while let Ok(Some(event)) = timeout_at(end, events.next()).await {
        if let Ok(event) = event {
            writer.apply_watcher_event(&event);
        }
    }
    let known = writer.as_reader().state();
    known.iter().map(|secret| secret.name_any()).collect()
}

fn names<const N: usize>(names: [&str; N]) -> BTreeSet<String> {
    names.map(str::to_owned).into()
}

#[tokio::test(start_paused = true)]
async fn b27_secrets_are_listed_in_pages_with_our_label_and_as_metadata() {
    let server = Server::new(|asked| match asked {
        Asked::List { page: None } => Answer::list("1", Some("second"), &["one"]),
        Asked::List { .. } => Answer::list("1", None, &["two"]),
        Asked::Watch { .. } => Answer::Silence,
    });
    assert_eq!(
        known_after(&server, Duration::from_secs(5)).await,
        names(["one", "two"])
    );
    let requests = server.requests();
    assert_eq!(requests.len(), 3, "{requests:?}");
    for request in &requests {
        assert!(
            request.has("labelSelector=acr.microsoft.com%2Fbinding"),
            "{request:?}"
        );
        let kind = match request.asked {
            Asked::List { .. } => "as=PartialObjectMetadataList;",
            Asked::Watch { .. } => "as=PartialObjectMetadata;",
        };
        assert!(request.accept.contains(kind), "{request:?}");
    }
    assert!(requests[0].has("limit=500") && requests[1].has("limit=500"));
    assert!(requests[1].has("continue=second"));
    assert!(requests[2].has("timeoutSeconds=60"));
}

#[tokio::test(start_paused = true)]
async fn watch_whose_version_is_forgotten_reads_anew_what_it_missed() {
    for forgotten in [Answer::status(410), Answer::event(410)] {
        let mut lists = 0;
        let server = Server::new(move |asked| match asked {
            Asked::List { .. } => {
                lists += 1;
                match lists {
                    1 => Answer::list("1", None, &["old", "same"]),
                    _ => Answer::list("9", None, &["same", "new"]),
                }
            }
            Asked::Watch { version } if version == "1" => forgotten.clone(),
            Asked::Watch { .. } => Answer::Silence,
        });
        assert_eq!(
            known_after(&server, Duration::from_secs(5)).await,
            names(["same", "new"])
        );
        assert_eq!(server.requests().len(), 4);
    }
}

#[tokio::test(start_paused = true)]
async fn watch_that_was_refused_reads_anew_and_seldom_what_it_missed() {
    const REFUSED: Duration = Duration::from_secs(600);
    let start = Instant::now();
    let server = Server::new(move |asked| match asked {
        Asked::List { .. } if start.elapsed() < REFUSED => Answer::list("1", None, &["old"]),
        Asked::List { .. } => Answer::list("9", None, &["new"]),
        Asked::Watch { version } if version == "1" => Answer::status(403),
        Asked::Watch { .. } => Answer::Silence,
    });
    let known = known_after(&server, REFUSED + Duration::from_secs(20)).await;
    assert_eq!(known, names(["new"]));
    let requests = server.requests().len();
    assert!((120..260).contains(&requests), "{requests} requests");
}

#[tokio::test(start_paused = true)]
async fn watch_of_a_server_that_fails_pauses_longer_and_notices_when_it_is_back() {
    const AWAY: Duration = Duration::from_secs(600);
    for code in [429, 500, 503] {
        let start = Instant::now();
        let server = Server::new(move |asked| match asked {
            _ if start.elapsed() < AWAY => Answer::status(code),
            Asked::List { .. } => Answer::list("1", None, &["one"]),
            Asked::Watch { .. } => Answer::Silence,
        });
        let known = known_after(&server, AWAY + Duration::from_secs(10)).await;
        assert_eq!(known, names(["one"]), "{code}");
        let failed = server.requests().len() - 2;
        assert!((60..130).contains(&failed), "{failed} tries in {AWAY:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn watch_of_a_server_that_names_a_time_waits_that_long_and_no_longer_than_a_minute() {
    for (code, refuses_lists) in [(429, true), (429, false), (503, true), (503, false)] {
        for (named, tries) in [(30, 13..=22), (31_536_000, 6..=12)] {
            let server = Server::new(move |asked| match asked {
                Asked::List { .. } if !refuses_lists => Answer::list("1", None, &["one"]),
                Asked::List { .. } | Asked::Watch { .. } => Answer::throttle(code, named),
            });
            known_after(&server, Duration::from_secs(600)).await;
            let made = server.requests().len();
            assert!(
                tries.contains(&made),
                "{made} requests, told {named} s by a {code}"
            );
        }
    }
}

#[tokio::test(start_paused = true)]
async fn watch_that_fails_between_pages_keeps_what_was_known() {
    let mut requests = 0;
    let server = Server::new(move |asked| {
        requests += 1;
        match (requests, asked) {
            (1, _) => Answer::list("1", None, &["one", "two"]),
            (2, _) => Answer::event(410),
            // The first page of the second list, and never the last.
            (_, Asked::List { page: None }) => Answer::list("2", Some("more"), &["one"]),
            _ => Answer::status(500),
        }
    });
    let known = known_after(&server, Duration::from_secs(300)).await;
    assert_eq!(
        known,
        names(["one", "two"]),
        "half of a list was taken for the whole"
    );
}

#[tokio::test(start_paused = true)]
async fn watch_that_goes_silent_is_begun_anew_where_it_was() {
    let mut watches = 0;
    let server = Server::new(move |asked| match asked {
        Asked::List { .. } => Answer::list("1", None, &["one"]),
        Asked::Watch { .. } => {
            watches += 1;
            match watches {
                2 => Answer::added("2", "two"),
                _ => Answer::Silence,
            }
        }
    });
    let known = known_after(&server, Duration::from_secs(70)).await;
    assert_eq!(known, names(["one", "two"]));
    let lists = server.requests();
    let lists = lists
        .iter()
        .filter(|request| matches!(request.asked, Asked::List { .. }));
    assert_eq!(lists.count(), 1, "what was known was read again");
}

#[tokio::test(start_paused = true)]
async fn api_that_is_installed_later_is_found_within_ten_seconds() {
    let installed_at = Instant::now() + Duration::from_secs(1800);
    let server = Server::new(move |asked| match asked {
        _ if Instant::now() < installed_at => Answer::status(404),
        Asked::List { .. } => Answer::list("1", None, &["one"]),
        Asked::Watch { .. } => Answer::Silence,
    });
    let mut events = pin!(absent::as_empty(secrets_of(Api::all(server.client())), "a kind"));
    let found = async {
        while let Some(event) = events.next().await {
            if matches!(event, Ok(Event::InitApply(_))) {
                return;
            }
        }
    };
    timeout(Duration::from_secs(7200), found).await.unwrap();
    assert!(installed_at.elapsed() <= Duration::from_secs(10));
}

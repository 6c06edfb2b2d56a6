//! A kind that is not installed: its API may come later or never, and neither may hold up the work on the other one. As
//! long as the API server does not know it there are none of its objects, and nothing is wrong.

use futures::{Stream, StreamExt as _, stream};
use kube::runtime::watcher::{self, Event};

/// Events of a watch, where the absence of the kind is told as an empty list, once, and is no error.
pub(super) fn as_empty<K>(
    events: impl Stream<Item = watcher::Result<Event<K>>>,
    kind: &'static str,
) -> impl Stream<Item = watcher::Result<Event<K>>> {
    let mut presence = Presence {
        kind,
        is_absent: false,
        has_begun: false,
    };
    events.flat_map(move |event| stream::iter(presence.judge(event)))
}

/// What is known of the kind.
struct Presence {
    kind: &'static str,
    is_absent: bool,
    /// A list began while the kind was absent. Every try does, those that fail as well: it is told when something comes.
    has_begun: bool,
}

impl Presence {
    fn judge<K>(&mut self, event: watcher::Result<Event<K>>) -> Vec<watcher::Result<Event<K>>> {
        match event {
            Err(error) if is_not_found(&error) => {
                self.has_begun = false;
                if self.is_absent {
                    return Vec::new();
                }
                self.is_absent = true;
                tracing::info!(
                    kind = self.kind,
                    "the CustomResourceDefinition is not installed: waiting for it"
                );
                vec![Ok(Event::Init), Ok(Event::InitDone)]
            }
            Ok(Event::Init) if self.is_absent => {
                self.has_begun = true;
                Vec::new()
            }
            Ok(_) if self.is_absent => {
                self.is_absent = false;
                tracing::info!(kind = self.kind, "the CustomResourceDefinition is installed");
                let begun = std::mem::take(&mut self.has_begun).then_some(Ok(Event::Init));
                begun.into_iter().chain([event]).collect()
            }
            Ok(_) | Err(_) => vec![event],
        }
    }
}

fn is_not_found(error: &watcher::Error) -> bool {
    matches!(
        error,
        watcher::Error::InitialListFailed(kube::Error::Api(status))
        | watcher::Error::WatchStartFailed(kube::Error::Api(status)) if status.code == 404
    )
}

#[cfg(test)]
mod tests {
    use kube::core::Status;

    use super::*;

    type Told = Vec<&'static str>;

    fn refused(code: u16) -> watcher::Result<Event<()>> {
        // In plain text, so without a reason.
        let status = Status::failure("404 page not found", "").with_code(code);
        Err(watcher::Error::InitialListFailed(kube::Error::Api(Box::new(
            status,
        ))))
    }

    async fn told(events: Vec<watcher::Result<Event<()>>>) -> Told {
        as_empty(stream::iter(events), "acrpull.microsoft.com/v1beta2")
            .map(|event| match event {
                Ok(Event::Init) => "init",
                Ok(Event::InitApply(())) => "object",
                Ok(Event::InitDone) => "done",
                Ok(Event::Apply(())) => "applied",
                Ok(Event::Delete(())) => "deleted",
                Err(_) => "error",
            })
            .collect()
            .await
    }

    #[tokio::test]
    async fn b29_absent_kind_is_an_empty_list_told_once() {
        let events = vec![
            Ok(Event::Init),
            refused(404),
            Ok(Event::Init),
            refused(404),
            Ok(Event::Init),
            Ok(Event::InitApply(())),
            Ok(Event::InitDone),
            Ok(Event::Apply(())),
        ];
        assert_eq!(
            told(events).await,
            ["init", "init", "done", "init", "object", "done", "applied"]
        );
    }

    #[tokio::test]
    async fn b29_kind_that_goes_away_leaves_an_empty_list() {
        let gone = Status::failure("404 page not found", "").with_code(404);
        let gone = watcher::Error::WatchStartFailed(kube::Error::Api(Box::new(gone)));
        let events = vec![
            Ok(Event::Init),
            Ok(Event::InitDone),
            Ok(Event::Delete(())),
            Err(gone),
        ];
        assert_eq!(told(events).await, ["init", "done", "deleted", "init", "done"]);
    }

    #[tokio::test]
    async fn absent_says_nothing_but_a_404() {
        assert_eq!(told(vec![refused(403), refused(500)]).await, ["error", "error"]);
    }
}

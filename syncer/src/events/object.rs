//! An event as the API server takes it. Pure. Whatever it is about, it stays within the server's limits: an event that
//! is refused is one that nobody sees.

use k8s_openapi::{
    api::{core::v1::ObjectReference, events::v1::Event},
    apimachinery::pkg::apis::meta::v1::{MicroTime, ObjectMeta},
    jiff::Timestamp,
};

use crate::status::{Notice, Related};

/// Limits of the API server, in bytes: of a name, of the note, of each other text.
const LONGEST_NAME: usize = 253;
const LONGEST_NOTE: usize = 1024;
const LONGEST_WORD: usize = 128;

/// The event that tells `notice` about `regarding`. No two events of one object may have the same time: it is what
/// tells their names apart.
pub(super) fn event(
    notice: Notice,
    regarding: &ObjectReference,
    [controller, instance]: [&str; 2],
    at: Timestamp,
) -> Event {
    let Notice {
        warning,
        reason,
        action,
        note,
        related,
    } = notice;
    let suffix = format!(".{:x}", at.as_nanosecond());
    let name = regarding.name.as_deref().unwrap_or_default();
    let name = within(name, LONGEST_NAME - suffix.len()).trim_end_matches(['.', '-']);
    Event {
        metadata: ObjectMeta {
            namespace: regarding.namespace.clone(),
            name: Some(format!("{name}{suffix}")),
            ..ObjectMeta::default()
        },
        event_time: Some(MicroTime(at)),
        type_: Some(if warning { "Warning" } else { "Normal" }.to_owned()),
        reason: Some(within(&reason, LONGEST_WORD).to_owned()),
        action: Some(action.to_owned()),
        note: Some(within(&note, LONGEST_NOTE).to_owned()),
        regarding: Some(regarding.clone()),
        related: related.map(|related| reference(related, regarding)),
        reporting_controller: Some(controller.to_owned()),
        reporting_instance: Some(within(instance, LONGEST_WORD).to_owned()),
        ..Event::default()
    }
}

fn reference(related: Related, regarding: &ObjectReference) -> ObjectReference {
    let (kind, name) = match related {
        Related::Secret(name) => ("Secret", name),
        Related::ServiceAccount(name) => ("ServiceAccount", name),
    };
    ObjectReference {
        api_version: Some("v1".to_owned()),
        kind: Some(kind.to_owned()),
        name: Some(name),
        namespace: regarding.namespace.clone(),
        ..ObjectReference::default()
    }
}

/// The beginning of a text, cut between characters.
fn within(text: &str, limit: usize) -> &str {
    let end = text.floor_char_boundary(limit);
    text.get(..end).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::samples::now;

    fn regarding(name: &str) -> ObjectReference {
        ObjectReference {
            name: Some(name.to_owned()),
            namespace: Some("shop".to_owned()),
            ..ObjectReference::default()
        }
    }

    #[test]
    fn event_has_all_that_the_server_asks_for() {
        let notice = Notice::adopted("acr-pull-web");
        let event = event(notice, &regarding("web"), ["controller", "pod"], now());
        assert!(event.metadata.name.unwrap().starts_with("web."));
        assert_eq!(event.metadata.namespace.as_deref(), Some("shop"));
        assert_eq!(event.event_time, Some(MicroTime(now())));
        assert_eq!(event.type_.as_deref(), Some("Normal"));
        assert_eq!(event.reason.as_deref(), Some("SecretAdopted"));
        assert_eq!(event.action.as_deref(), Some("Adopt"));
        assert_eq!(event.reporting_controller.as_deref(), Some("controller"));
        assert_eq!(event.reporting_instance.as_deref(), Some("pod"));
        let related = event.related.unwrap();
        assert_eq!(related.kind.as_deref(), Some("Secret"));
        assert_eq!(related.name.as_deref(), Some("acr-pull-web"));
        assert_eq!(related.namespace.as_deref(), Some("shop"));
    }

    #[test]
    fn b7_event_of_a_binding_with_the_longest_name_is_within_the_limits() {
        let notice = Notice::warning(&"R".repeat(300), "Issue", "\u{e9}".repeat(1000));
        let name = format!("{}.{}", "a".repeat(235), "b".repeat(17));
        let event = event(notice, &regarding(&name), ["controller", &"p".repeat(300)], now());
        let name = event.metadata.name.unwrap();
        assert!(name.len() <= 253, "{name}");
        assert!(!name.contains(".."), "{name}");
        assert_eq!(event.note.unwrap().len(), 1024);
        assert_eq!(event.reason.unwrap().len(), 128);
        assert_eq!(event.reporting_instance.unwrap().len(), 128);
    }
}

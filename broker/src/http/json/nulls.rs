//! In the proto3 JSON mapping a member that is `null` is a member that is not there. The decoder of the messages does not
//! know that for texts, numbers and lists, so such members are left out before it sees them.
//!
//! They are overwritten with spaces: all else keeps its place, so that an error still names the right line and column, and
//! a member that is there twice is still found.

use std::borrow::Cow;

use serde::de::IgnoredAny;

const NULL: &[u8] = b"null";

/// The document without members that are `null`. One that is no JSON is returned as it is, for the decoder to refuse.
pub(super) fn left_out(json: &[u8]) -> Cow<'_, [u8]> {
    let has_null = json.windows(NULL.len()).any(|bytes| bytes == NULL);
    if !has_null || serde_json::from_slice::<IgnoredAny>(json).is_err() {
        return Cow::Borrowed(json);
    }
    let mut left = json.to_vec();
    for member in null_members(json) {
        // A comma goes with it: the one after it, or after the last member the one before it.
        let (start, mut end) = (member.start, member.end);
        if let Some(comma) = position_of_next(&left, end).filter(|at| left.get(*at) == Some(&b',')) {
            end = comma + 1;
        } else if let Some(comma) = position_of_last(&left, start).filter(|at| left.get(*at) == Some(&b',')) {
            blank(&mut left, comma..comma + 1);
        }
        blank(&mut left, start..end);
    }
    Cow::Owned(left)
}

/// Where members that are `null` are, from the quote of the name to the end of the value. The document is valid: `null`
/// outside of a text is the value, and what it belongs to is told by a colon before it.
fn null_members(json: &[u8]) -> Vec<std::ops::Range<usize>> {
    let mut members = Vec::new();
    let (mut name_at, mut follows_colon) = (0, false);
    let mut bytes = json.iter().enumerate();
    while let Some((at, byte)) = bytes.next() {
        match byte {
            b'"' => {
                if !follows_colon {
                    name_at = at;
                }
                follows_colon = false;
                skip_text(bytes.by_ref().map(|(_at, byte)| *byte));
            }
            b':' => follows_colon = true,
            b'n' if follows_colon => {
                members.push(name_at..at + NULL.len());
                follows_colon = false;
            }
            byte if byte.is_ascii_whitespace() => {}
            _ => follows_colon = false,
        }
    }
    members
}

/// To the end of a text whose first quote has been read.
fn skip_text(mut bytes: impl Iterator<Item = u8>) {
    while let Some(byte) = bytes.next() {
        match byte {
            b'\\' => {
                bytes.next();
            }
            b'"' => return,
            _ => {}
        }
    }
}

fn position_of_next(json: &[u8], from: usize) -> Option<usize> {
    let found = json
        .get(from..)?
        .iter()
        .position(|byte| !byte.is_ascii_whitespace())?;
    Some(from + found)
}

fn position_of_last(json: &[u8], before: usize) -> Option<usize> {
    json.get(..before)?
        .iter()
        .rposition(|byte| !byte.is_ascii_whitespace())
}

fn blank(json: &mut [u8], place: std::ops::Range<usize>) {
    for byte in json.get_mut(place).unwrap_or_default() {
        // A line stays a line.
        if !byte.is_ascii_whitespace() {
            *byte = b' ';
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::{collection, option, prelude::*};
    use serde_json::{Map, Value};

    use super::*;

    fn kept(json: &str) -> String {
        let left = left_out(json.as_bytes());
        assert_eq!(left.len(), json.len(), "everything keeps its place");
        String::from_utf8(left.into_owned()).unwrap().replace(' ', "")
    }

    #[test]
    fn nulls_of_members_are_left_out_with_their_comma() {
        for (json, expected) in [
            (r#"{"a": null}"#, "{}"),
            (r#"{"a": null, "b": 1}"#, r#"{"b":1}"#),
            (r#"{"b": 1, "a": null}"#, r#"{"b":1}"#),
            (r#"{"b": 1, "a": null, "c": null}"#, r#"{"b":1}"#),
            (r#"{"a": null, "b": 1, "c": null}"#, r#"{"b":1}"#),
            (
                r#"{"a": {"b": null}, "c": [{"d": null}]}"#,
                r#"{"a":{},"c":[{}]}"#,
            ),
            (r#"{"a\\": null, "b\"": null, "c": "null"}"#, r#"{"c":"null"}"#),
            (
                r#"{"a": "x:null", "b": ":", "c" : null}"#,
                r#"{"a":"x:null","b":":"}"#,
            ),
        ] {
            assert_eq!(kept(json), expected, "{json}");
        }
    }

    #[test]
    fn nulls_of_lists_and_of_what_is_no_json_stay() {
        for json in [
            r#"{"a":[null]}"#,
            r#"{"a":[1,null]}"#,
            "null",
            r#"{"a":null,}"#,
            r#"{,"a":null}"#,
            r#"{"a":null"#,
        ] {
            assert_eq!(kept(json), json);
        }
    }

    fn document() -> impl Strategy<Value = Value> {
        let leaf = prop_oneof![
            Just(Value::Null),
            any::<bool>().prop_map(Value::from),
            any::<i32>().prop_map(Value::from),
            r#"[a-c":,{}\[\]\\ nul]{0,8}"#.prop_map(Value::from),
        ];
        leaf.prop_recursive(4, 32, 4, |inner| {
            let members = collection::vec((r#"[a-c":,\\ ]{0,4}"#, inner.clone()), 0..4);
            prop_oneof![
                collection::vec(inner, 0..4).prop_map(Value::from),
                members.prop_map(|members| Value::Object(members.into_iter().collect())),
            ]
        })
    }

    fn without(value: Value) -> Value {
        match value {
            Value::Object(members) => members
                .into_iter()
                .filter(|(_name, value)| !value.is_null())
                .map(|(name, value)| (name, without(value)))
                .collect::<Map<_, _>>()
                .into(),
            Value::Array(entries) => entries.into_iter().map(without).collect(),
            plain @ (Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_)) => plain,
        }
    }

    proptest! {
        #[test]
        fn nulls_are_left_out_of_any_document(value in document(), is_pretty in option::of(Just(()))) {
            let json = match is_pretty {
                Some(()) => serde_json::to_string_pretty(&value).unwrap(),
                None => value.to_string(),
            };
            let left: Value = serde_json::from_slice(&left_out(json.as_bytes())).unwrap();
            prop_assert_eq!(left, without(value));
        }
    }
}

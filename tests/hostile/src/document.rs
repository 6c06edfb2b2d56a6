//! JSON documents of nearly the right shape: a seed with a few nodes replaced, wrapped, renamed or left out; or its text
//! broken like any other.

use proptest::{
    collection::vec,
    prelude::{BoxedStrategy, Just, Strategy, any, prop_oneof},
    sample::{Index, select},
};
use serde_json::{Map, Value, json};

use crate::edit::{STUMBLES, text};

/// Changed nodes of one document at most.
const MAX_CHANGES: usize = 3;
/// Deeper than the recursion limit of the JSON parser (128), so that both sides of it are seen.
const DEPTHS: [usize; 2] = [20, 200];

#[derive(Debug, Clone)]
enum Change {
    Replace(Value),
    Wrap,
    Rename(Index, String),
    Remove(Index),
}

/// The text of a document near one of `seeds`, each itself the text of one.
///
/// # Panics
/// A seed is not JSON.
pub fn document(seeds: &[&str]) -> BoxedStrategy<String> {
    let documents: Vec<Value> = seeds
        .iter()
        .map(|seed| serde_json::from_str(seed).expect("a seed must be JSON"))
        .collect();
    let change = prop_oneof![
        4 => select(values()).prop_map(Change::Replace),
        1 => Just(Change::Wrap),
        1 => (any::<Index>(), select(STUMBLES.to_vec()))
            .prop_map(|(which, name)| Change::Rename(which, name.to_owned())),
        2 => any::<Index>().prop_map(Change::Remove),
    ];
    let changed = (select(documents), vec((any::<Index>(), change), 0..=MAX_CHANGES)).prop_map(
        |(mut document, changes)| {
            for (at, change) in changes {
                let mut before_it = at.index(nodes(&document));
                visit(&mut document, &mut before_it, &change);
            }
            document.to_string()
        },
    );
    prop_oneof![3 => changed, 1 => text(seeds)].boxed()
}

/// What stands where something else was expected.
fn values() -> Vec<Value> {
    let mut values = vec![
        Value::Null,
        json!(true),
        json!(0),
        json!(-1),
        json!(0.5),
        json!(1e308),
        json!(u64::MAX),
        json!(i64::MIN),
        json!([]),
        json!({}),
        json!("0001-01-01T00:00:00Z"),
        json!("9999-12-31T23:59:59.999999999Z"),
        json!("-1s"),
        json!("315576000000s"),
        json!("AAAAAAAAAAAAAAAAAAAAAA=="),
        json!("x".repeat(2000)),
    ];
    values.extend(STUMBLES.map(Value::from));
    values.extend(DEPTHS.map(|depth| (0..depth).fold(Value::Null, |inner, _level| json!([inner]))));
    values
}

fn nodes(value: &Value) -> usize {
    let below = match value {
        Value::Array(items) => items.iter().map(nodes).sum(),
        Value::Object(fields) => fields.values().map(nodes).sum(),
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => 0,
    };
    1 + below
}

/// Changes the node that has `before_it` nodes before it, in the order of the text.
fn visit(value: &mut Value, before_it: &mut usize, change: &Change) {
    if *before_it == 0 {
        match change {
            Change::Replace(other) => *value = other.clone(),
            Change::Wrap => *value = json!([value.take()]),
            Change::Rename(which, name) => rename(value, *which, name),
            Change::Remove(which) => remove(value, *which),
        }
        *before_it = usize::MAX;
        return;
    }
    *before_it -= 1;
    let children: Box<dyn Iterator<Item = &mut Value>> = match value {
        Value::Array(items) => Box::new(items.iter_mut()),
        Value::Object(fields) => Box::new(fields.values_mut()),
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => return,
    };
    for child in children {
        visit(child, before_it, change);
    }
}

fn rename(value: &mut Value, which: Index, name: &str) {
    let Value::Object(fields) = value else { return };
    let Some(key) = chosen(fields, which) else { return };
    if let Some(child) = fields.remove(&key) {
        fields.insert(name.to_owned(), child);
    }
}

fn remove(value: &mut Value, which: Index) {
    match value {
        Value::Array(items) if !items.is_empty() => drop(items.remove(which.index(items.len()))),
        Value::Object(fields) => {
            if let Some(key) = chosen(fields, which) {
                fields.remove(&key);
            }
        }
        Value::Array(_) | Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => {}
    }
}

fn chosen(fields: &Map<String, Value>, which: Index) -> Option<String> {
    if fields.is_empty() {
        return None;
    }
    fields.keys().nth(which.index(fields.len())).cloned()
}

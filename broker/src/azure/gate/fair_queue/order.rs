//! Whose turn it is, among clusters or among the namespaces of one, by which of a host's two budgets is short. Pure.
//!
//! A call uses one start, and a place for as long as it takes. Who is refused in 5 ms could have every start and hold half
//! a place; who takes 10 s could have every place by three starts a second. So no single count is fair to both, and what
//! counts is what those who wait lack: in want of starts they go in turn, in want of places the fewest in flight first,
//! and in want of both in turn, but those last who hold more than their share. So whoever waits has as many starts as
//! anybody, or its share of the places (guarantee U6). Turns are numbers that only grow: who comes, or has started a call,
//! goes behind all who wait. So nobody saves them up.

use std::collections::BTreeMap;

/// Before it are those who have nothing in flight, and behind it no more than the host has places.
const WITH_ANY: Standing = Standing { held: 1, turn: 0 };

/// Place among clusters, or among the namespaces of one: who has the fewest calls in flight first, and then in turn.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Standing {
    pub(super) held: u32,
    pub(super) turn: u64,
}

/// Who goes first.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Order {
    /// There are starts for all: places are what they wait for.
    FewestFirst,
    /// There are too few starts, and places enough.
    InTurn,
    /// There are too few of both: those in turn who hold no more than their share of the places, then the others. Were all
    /// in turn, slow calls would fill the host; with the fewest in flight first, fast ones would have all starts.
    InTurnWithinShare,
}

impl Order {
    /// The order where those budgets are short.
    pub(super) const fn of(starts_are_short: bool, places_are_short: bool) -> Self {
        match (starts_are_short, places_are_short) {
            (false, _) => Self::FewestFirst,
            (true, false) => Self::InTurn,
            (true, true) => Self::InTurnWithinShare,
        }
    }

    /// The first one who may.
    pub(super) fn first<K>(self, waiting: &BTreeMap<Standing, K>, may: impl Fn(&K) -> bool) -> Option<&K> {
        match self {
            Self::FewestFirst => waiting.values().find(|key| may(key)),
            Self::InTurn => first_in_turn(waiting, u32::MAX, may),
            Self::InTurnWithinShare => {
                let share = held_by_all(waiting).checked_div(sharers(waiting))?;
                first_in_turn(waiting, share, &may).or_else(|| first_in_turn(waiting, u32::MAX, may))
            }
        }
    }
}

/// Whether who has so many calls in flight has its share of the places that those who wait hold together.
pub(super) fn is_a_share<K>(held: u32, waiting: &BTreeMap<Standing, K>) -> bool {
    held.saturating_mul(sharers(waiting)) >= held_by_all(waiting)
}

/// The first in turn of those who have no more than `most` calls in flight. Goes through those who have any, and these are
/// no more than the host has places, however many wait.
fn first_in_turn<K>(waiting: &BTreeMap<Standing, K>, most: u32, may: impl Fn(&K) -> bool) -> Option<&K> {
    let mut first = waiting.range(..WITH_ANY).find(|(_, key)| may(key));
    let with_any = waiting.range(WITH_ANY..);
    for one in with_any.take_while(|(standing, _)| standing.held <= most) {
        let is_earlier = first.is_none_or(|(standing, _)| one.0.turn < standing.turn);
        if is_earlier && may(one.1) {
            first = Some(one);
        }
    }
    first.map(|(_, key)| key)
}

fn held_by_all<K>(waiting: &BTreeMap<Standing, K>) -> u32 {
    waiting.range(WITH_ANY..).map(|(standing, _)| standing.held).sum()
}

fn sharers<K>(waiting: &BTreeMap<Standing, K>) -> u32 {
    u32::try_from(waiting.len()).unwrap_or(u32::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Who goes first of these, each with its calls in flight and its turn.
    fn first(order: Order, waiting: &[(u32, u64)], may: impl Fn(u64) -> bool) -> Option<u64> {
        let standing = |(held, turn)| (Standing { held, turn }, turn);
        let waiting = waiting.iter().copied().map(standing).collect();
        order.first(&waiting, |turn| may(*turn)).copied()
    }

    #[test]
    fn u6_fewest_go_first_for_places_and_whoever_is_in_turn_for_starts() {
        let waiting = [(0, 7), (0, 9), (1, 4), (3, 3), (4, 2), (9, 1)];
        for (order, expected) in [
            (Order::FewestFirst, 7),
            (Order::InTurn, 1),
            // 17 among six: two for each.
            (Order::InTurnWithinShare, 4),
        ] {
            assert_eq!(first(order, &waiting, |_| true), Some(expected), "{order:?}");
        }
    }

    #[test]
    fn u6_those_who_hold_more_than_their_share_go_in_turn_if_nobody_else_may() {
        for waiting in [&[(5, 8), (5, 3), (2, 1)][..], &[(0, 8), (0, 3), (0, 1)]] {
            let first = first(Order::InTurnWithinShare, waiting, |turn| turn != 1);
            assert_eq!(first, Some(3));
        }
        assert_eq!(first(Order::InTurnWithinShare, &[], |_| true), None);
        for order in [Order::FewestFirst, Order::InTurn, Order::InTurnWithinShare] {
            assert_eq!(first(order, &[(0, 1), (2, 2)], |_| false), None);
        }
    }
}

//! Nobody has more than its share of a host while others wait: any tenants, any lengths of calls, any rhythm.

use std::collections::{BTreeMap, BTreeSet};

use super::{
    crowd::{Asker, History, Start, run},
    *,
};

/// A cluster, or a namespace of one.
type Sharer = (usize, Option<usize>);

const LENGTH: usize = 8000;
const WINDOW: usize = 2000;

/// Up to seven askers in up to nine namespaces of up to three clusters, each with a rhythm of its own.
fn askers(takes: Vec<u32>) -> impl Strategy<Value = Vec<Asker>> {
    let rhythm = prop_oneof![
        3 => Just((0_usize, 1_usize)),
        1 => (1_usize..2000, 1_usize..4000),
    ];
    let asker = (0_usize..3, 0_usize..3, prop::sample::select(takes), rhythm);
    let asker = asker.prop_map(|(cluster, namespace, takes, (rests, asks))| Asker {
        cluster,
        namespace,
        takes,
        rests,
        asks,
    });
    prop::collection::vec(asker, 2..8)
}

fn kinds() -> impl Strategy<Value = HostKind> {
    prop::sample::select(HostKind::ALL.to_vec())
}

fn is_of(asker: &Asker, (cluster, namespace): Sharer) -> bool {
    asker.cluster == cluster && namespace.is_none_or(|namespace| asker.namespace == namespace)
}

/// How things stood before a call started, by sharer.
struct Scene<'a> {
    askers: &'a [Asker],
    places: Places,
    start: &'a Start,
}

impl Scene<'_> {
    fn sum(&self, counts: &[u32], of: Sharer) -> u32 {
        let own = self
            .askers
            .iter()
            .zip(counts)
            .filter(|(asker, _)| is_of(asker, of));
        own.map(|(_, count)| count).sum()
    }

    fn held(&self, by: Sharer) -> u32 {
        self.sum(&self.start.held, by)
    }

    fn waits(&self, sharer: Sharer) -> bool {
        self.sum(&self.start.waiting, sharer) > 0
    }

    /// Who shares with `sharer`, itself included.
    fn beside(&self, (cluster, namespace): Sharer) -> BTreeSet<Sharer> {
        self.askers
            .iter()
            .filter(|asker| namespace.is_none() || asker.cluster == cluster)
            .map(|asker| (asker.cluster, namespace.map(|_| asker.namespace)))
            .collect()
    }

    /// Whether it holds what is its share of `places`, of which those who do not wait leave less.
    fn has_its_share_of(&self, places: u32, sharer: Sharer) -> bool {
        let (waiting, others): (Vec<_>, Vec<_>) =
            self.beside(sharer).into_iter().partition(|one| self.waits(*one));
        let of_others: u32 = others.into_iter().map(|one| self.held(one)).sum();
        self.held(sharer) * u32::try_from(waiting.len()).unwrap() + of_others >= places
    }

    /// Whether it waits for a place: it has its share, or as many as one may have.
    fn lacks_places(&self, sharer: Sharer) -> bool {
        let Places {
            per_cluster,
            per_namespace,
            ..
        } = self.places;
        let cluster = (sharer.0, None);
        let its_cluster_does = self.has_its_share_of(per_cluster, cluster);
        if sharer.1.is_some() {
            let are_short = its_cluster_does || self.held(cluster) >= per_namespace;
            return self.held(sharer) >= per_namespace
                || (are_short && self.has_its_share_of(self.held(cluster), sharer));
        }
        let may_start = |asker: &Asker| {
            let own = (asker.cluster, Some(asker.namespace));
            asker.cluster == sharer.0 && self.waits(own) && self.held(own) < per_namespace
        };
        its_cluster_does || self.held(sharer) >= per_cluster || !self.askers.iter().any(may_start)
    }
}

/// Everybody who was passed over twice for the same other, between two calls of its own and for want of starts alone.
fn passed_over(askers: &[Asker], places: Places, history: &History) -> Vec<String> {
    let mut marks = BTreeMap::<(Sharer, Sharer), u32>::new();
    let mut found = Vec::new();
    for start in &history.starts {
        let scene = Scene {
            askers,
            places,
            start,
        };
        let Asker {
            cluster, namespace, ..
        } = askers[start.asker];
        for starter in [(cluster, None), (cluster, Some(namespace))] {
            marks.retain(|(waiting, _), _| *waiting != starter);
            for other in scene.beside(starter) {
                let wants_a_start = scene.waits(other) && !scene.lacks_places(other);
                if other != starter && start.starts_are_short && wants_a_start {
                    let mark = marks.entry((other, starter)).or_default();
                    *mark += 1;
                    if *mark > 1 {
                        found.push(format!("{} ms: {other:?} for {starter:?}", start.ms));
                    }
                }
            }
        }
    }
    found
}

/// Everybody who had more than a fifth and more than its fair share of the starts in a window of two seconds, while others
/// waited.
fn above_its_share(askers: &[Asker], history: &History, from: usize) -> Vec<String> {
    let own = |sharer: Sharer| -> Vec<usize> {
        let own = askers
            .iter()
            .enumerate()
            .filter(|(_, asker)| is_of(asker, sharer));
        own.map(|(number, _)| number).collect()
    };
    let starts = |sharer: Sharer| history.starts(&own(sharer), from, from + WINDOW);
    let waits = |sharer: Sharer| {
        let own = own(sharer);
        let within = |start: &&Start| (from..from + WINDOW).contains(&start.ms);
        let mut within = history.starts.iter().filter(within);
        within.all(|start| own.iter().any(|asker| start.waiting[*asker] > 0))
    };
    let mut found = Vec::new();
    let clusters: BTreeSet<Sharer> = askers.iter().map(|asker| (asker.cluster, None)).collect();
    let mut levels = vec![clusters.clone()];
    for (cluster, _) in clusters {
        let own = askers.iter().filter(|asker| asker.cluster == cluster);
        levels.push(own.map(|asker| (cluster, Some(asker.namespace))).collect());
    }
    for sharers in levels {
        let waiting = sharers.iter().filter(|sharer| waits(**sharer)).count();
        let all: usize = sharers.iter().map(|sharer| starts(*sharer)).sum();
        for sharer in sharers {
            // Beside those who wait all the time there is itself.
            let among = waiting + usize::from(!waits(sharer));
            let share = (all / 5).max(all.div_ceil(among.max(1)));
            if starts(sharer) > share + 2 {
                found.push(format!("{from} ms: {sharer:?} {} of {all}", starts(sharer)));
            }
        }
    }
    found
}

proptest! {
    // Each case is eight thousand steps.
    #![proptest_config(ProptestConfig::with_cases(32))]

    #[test]
    fn u6_whoever_waits_for_a_start_alone_is_passed_over_once_by_each_other(
        askers in askers(vec![2, 5, 20, 50, 100, 200, 400, 1000, 3000]),
        kind in kinds(),
    ) {
        let history = run(kind, &askers, LENGTH);
        let found = passed_over(&askers, kind.limits().places, &history);
        prop_assert!(found.is_empty(), "{found:?}");
    }

    #[test]
    fn u6_nobody_has_more_than_a_fifth_and_its_fair_share_of_the_starts_while_others_wait(
        // So that no cluster and no namespace needs more places for its share than it may have.
        askers in askers(vec![2, 5, 20, 50, 100, 150]),
        kind in kinds(),
    ) {
        let history = run(kind, &askers, LENGTH);
        for from in (0..LENGTH - WINDOW).step_by(250) {
            let found = above_its_share(&askers, &history, from);
            prop_assert!(found.is_empty(), "{found:?}");
        }
    }
}

//! When each of many bindings got how far, measured from one common start. Data and arithmetic, no I/O.

use std::time::Duration;

/// How far a binding has got.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Milestone {
    /// The binding exists.
    Created,
    /// Its `ServiceAccount` lists the Secret.
    Linked,
    /// The Secret is there.
    Secret,
    /// Its status says so.
    Ready,
}

/// The milestones after the creation, with their words.
pub(crate) const REACHED: [(Milestone, &str); 3] = [
    (Milestone::Linked, "linked"),
    (Milestone::Secret, "Secret"),
    (Milestone::Ready, "Ready"),
];

/// When each binding reached which milestone first.
#[derive(Debug, Clone)]
pub(crate) struct Timeline(Vec<[Option<Duration>; 4]>);

impl Timeline {
    /// Nothing has happened to so many bindings.
    pub(crate) fn new(bindings: usize) -> Self {
        Self(vec![[None; 4]; bindings])
    }

    /// Notes that a binding reached a milestone. Only the first time counts; what is out of range is nobody's.
    pub(crate) fn mark(&mut self, binding: usize, milestone: Milestone, at: Duration) {
        if let Some(moment) = self
            .0
            .get_mut(binding)
            .and_then(|moments| moments.get_mut(milestone as usize))
        {
            moment.get_or_insert(at);
        }
    }

    /// How many bindings have reached a milestone.
    pub(crate) fn reached(&self, milestone: Milestone) -> usize {
        self.moments(milestone).count()
    }

    /// Whether all have reached everything that comes after the creation.
    pub(crate) fn is_complete(&self) -> bool {
        REACHED
            .iter()
            .all(|&(milestone, _)| self.reached(milestone) == self.0.len())
    }

    /// When the last one reached a milestone, in seconds.
    pub(crate) fn last_s(&self, milestone: Milestone) -> f64 {
        self.moments(milestone).max().unwrap_or_default().as_secs_f64()
    }

    /// How long it took one binding from its own creation to a milestone, in seconds, at a quantile of all.
    pub(crate) fn since_creation_s(&self, milestone: Milestone, quantile: f64) -> f64 {
        let took = |moments: &[Option<Duration>; 4]| {
            let [created, ..] = *moments;
            // A watch may tell of a link before the answer to the creation has come.
            Some(
                moments
                    .get(milestone as usize)
                    .copied()??
                    .saturating_sub(created?),
            )
        };
        let mut all: Vec<Duration> = self.0.iter().filter_map(took).collect();
        all.sort_unstable();
        #[expect(
            clippy::cast_precision_loss,
            clippy::cast_possible_truncation,
            clippy::cast_sign_loss,
            reason = "a quantile of a few thousand is a small index"
        )]
        let index = (quantile * all.len().saturating_sub(1) as f64).round() as usize;
        all.get(index).copied().unwrap_or_default().as_secs_f64()
    }

    fn moments(&self, milestone: Milestone) -> impl Iterator<Item = Duration> {
        self.0
            .iter()
            .filter_map(move |moments| *moments.get(milestone as usize)?)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const fn s(seconds: u64) -> Duration {
        Duration::from_secs(seconds)
    }

    #[test]
    fn timeline_counts_from_each_bindings_own_creation() {
        let mut timeline = Timeline::new(2);
        for (binding, created, ready) in [(0, 1, 4), (1, 2, 10)] {
            timeline.mark(binding, Milestone::Created, s(created));
            timeline.mark(binding, Milestone::Ready, s(ready));
        }
        assert_eq!(timeline.last_s(Milestone::Ready).to_bits(), 10.0_f64.to_bits());
        assert_eq!(
            timeline.since_creation_s(Milestone::Ready, 0.0).to_bits(),
            3.0_f64.to_bits()
        );
        assert_eq!(
            timeline.since_creation_s(Milestone::Ready, 1.0).to_bits(),
            8.0_f64.to_bits()
        );
    }

    #[test]
    fn timeline_keeps_the_first_time() {
        let mut timeline = Timeline::new(1);
        timeline.mark(0, Milestone::Linked, s(3));
        timeline.mark(0, Milestone::Linked, s(5));
        timeline.mark(7, Milestone::Linked, s(9));
        assert_eq!(timeline.last_s(Milestone::Linked).to_bits(), 3.0_f64.to_bits());
    }

    #[test]
    fn timeline_is_complete_when_all_have_all() {
        let mut timeline = Timeline::new(1);
        for milestone in [Milestone::Linked, Milestone::Secret] {
            timeline.mark(0, milestone, s(1));
        }
        assert!(!timeline.is_complete());
        timeline.mark(0, Milestone::Ready, s(2));
        assert!(timeline.is_complete());
    }
}

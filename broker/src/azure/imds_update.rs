//! The metadata service says 410 while it is being updated, which takes 70 s at most; so the first of a row says until
//! when it is worth asking often (guarantee U3).

use std::time::Duration;

use tokio::time::Instant;

/// Longest update, as documented.
const LONGEST: Duration = Duration::from_secs(70);
/// How often to ask meanwhile, as Microsoft's own clients do.
const ASK_EVERY: Duration = Duration::from_secs(10);

/// A row of answers with 410.
#[derive(Debug, Default)]
pub(super) struct ImdsUpdate {
    row: Option<Row>,
}

#[derive(Debug, Clone, Copy)]
struct Row {
    first: Instant,
    last: Instant,
}

impl ImdsUpdate {
    /// One more; returns when to ask again, if it still looks like an update.
    pub(super) fn gone(&mut self, now: Instant) -> Option<Duration> {
        // Nobody asked for long: this is another one.
        let row = self
            .row
            .filter(|row| now.saturating_duration_since(row.last) < LONGEST)
            .map_or(
                Row {
                    first: now,
                    last: now,
                },
                |row| Row { last: now, ..row },
            );
        self.row = Some(row);
        (now.saturating_duration_since(row.first) < LONGEST).then_some(ASK_EVERY)
    }

    /// A success ends it; other refusals are said in the course of an update too.
    pub(super) fn over(&mut self) {
        self.row = None;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn u3_imds_that_is_gone_is_asked_every_ten_seconds_for_seventy() {
        let start = Instant::now();
        let mut update = ImdsUpdate::default();
        let asked: Vec<_> = (0..12)
            .map(|step| update.gone(start + step * ASK_EVERY).is_some())
            .collect();
        assert_eq!(asked.iter().filter(|often| **often).count(), 7);
        assert_eq!(asked.iter().position(|often| !often), Some(7));
        assert!(update.gone(start + 20 * LONGEST).is_some(), "another update");
        update.over();
        assert!(update.gone(start + 21 * LONGEST).is_some());
    }
}

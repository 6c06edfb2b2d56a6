//! How long an address is left alone that cannot be reached. Pure: the random number is passed in.

use std::time::Duration;

/// After the first failure at most this ...
const FIRST: Duration = Duration::from_millis(250);
/// ... and never more than this: a replica that is back must not stay idle for long.
const MOST: Duration = Duration::from_secs(10);

/// The pause after the `failures`th failure in a row: full jitter, so anything from nothing to a limit that doubles each time.
/// `draw` lies in [0, 1).
pub(super) fn pause(failures: u32, draw: f64) -> Duration {
    let Some(doublings) = failures.checked_sub(1) else {
        return Duration::ZERO;
    };
    let limit = 2_u32
        .checked_pow(doublings)
        .and_then(|factor| FIRST.checked_mul(factor))
        .map_or(MOST, |limit| limit.min(MOST));
    limit.mul_f64(draw)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn pause_doubles_up_to_ten_seconds() {
        let limits: Vec<_> = (0..9).map(|failures| pause(failures, 1.0).as_millis()).collect();
        assert_eq!(limits, [0, 250, 500, 1_000, 2_000, 4_000, 8_000, 10_000, 10_000]);
    }

    proptest! {
        #[test]
        fn pause_is_bounded_and_grows_with_the_draw(failures: u32, draw in 0.0_f64..1.0) {
            prop_assert!(pause(failures, draw) <= MOST);
            prop_assert!(pause(failures, draw / 2.0) <= pause(failures, draw));
        }
    }
}

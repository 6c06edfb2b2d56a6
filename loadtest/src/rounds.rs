//! Rounds of one measurement, and the figure that stands for them: the median, because a machine that others use
//! has a bad second now and then.

use crate::report::Figure;

/// The middle one.
pub(crate) fn median(values: impl IntoIterator<Item = f64>) -> f64 {
    let mut values: Vec<f64> = values.into_iter().collect();
    values.sort_by(f64::total_cmp);
    values.get(values.len() / 2).copied().unwrap_or_default()
}

/// The median of rounds beside that of the baseline's.
pub(crate) fn beside<T>(
    name: impl Into<String>,
    unit: &'static str,
    (ours, baseline): (&[T], &[T]),
    of: impl Fn(&T) -> f64,
) -> Figure {
    Figure::beside(
        name,
        unit,
        median(ours.iter().map(&of)),
        median(baseline.iter().map(&of)),
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn median_is_the_middle_one() {
        assert!((median([3.0, 100.0, 1.0]) - 3.0).abs() < f64::EPSILON);
    }

    #[test]
    fn beside_compares_medians_and_not_single_rounds() {
        let rounds = (&[4.0, 99.0, 2.0][..], &[2.0, 1.0, 50.0][..]);
        assert_eq!(
            beside("p50", "ms", rounds, |value| *value),
            Figure::beside("p50", "ms", 4.0, 2.0)
        );
    }
}

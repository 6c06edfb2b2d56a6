//! Which of several replicas gets a request. Pure: the random numbers are passed in.

/// The less busy of two drawn at random, the first of them if they are equally busy. Nearly as good as the least busy of all,
/// and many clients that decide on the same news do not all run to the same replica.
pub(super) fn of_two(loads: &[usize], draws: (usize, usize)) -> Option<usize> {
    let first = draws.0.checked_rem(loads.len())?;
    // From 1 to the number of the others, so that the second is never the first.
    let Some(distance) = draws.1.checked_rem(loads.len() - 1) else {
        return Some(first);
    };
    let second = (first + 1 + distance) % loads.len();
    if loads.get(second) < loads.get(first) {
        Some(second)
    } else {
        Some(first)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn choice_is_one_of_them_and_never_the_single_busiest(
            loads in prop::collection::vec(0_usize..50, 1..16),
            draws: (usize, usize),
        ) {
            let chosen = of_two(&loads, draws).unwrap();
            let most = *loads.iter().max().unwrap();
            let is_single_busiest = loads[chosen] == most && loads.iter().filter(|load| **load == most).count() == 1;
            prop_assert!(loads.len() == 1 || !is_single_busiest);
        }
    }

    #[test]
    fn choice_among_equals_reaches_each_of_them_equally() {
        let mut reached = [0; 4];
        for first in 0..4 {
            for second in 0..3 {
                reached[of_two(&[7; 4], (first, second)).unwrap()] += 1;
            }
        }
        assert_eq!(reached, [3; 4]);
        assert_eq!(of_two(&[], (1, 1)), None);
    }
}

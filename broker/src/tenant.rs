//! Who a request is served for, as far as fairness goes: limits and shares are kept per cluster, and within it per
//! namespace, never per address.

use std::sync::Arc;

/// A namespace of a cluster. Both parts are authenticated: the cluster by its key, the namespace by its syncer.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Tenant {
    /// Name of the cluster in the configuration.
    pub cluster: Arc<str>,
    /// Namespace of the binding.
    pub namespace: Arc<str>,
}

/// What one of so many has of a whole while the others want of it too: a fifth, or its fair share if that is more
/// (guarantee U6). Alone it has all.
pub const fn share(whole: u64, sharers: usize) -> u64 {
    let fair = match sharers {
        0 => whole,
        sharers => whole / sharers as u64,
    };
    let fifth = whole / 5;
    if fair > fifth { fair } else { fifth }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn u6_share_is_a_fifth_or_the_fair_share_if_that_is_more() {
        let shares = [1, 2, 4, 5, 6, 100].map(|sharers| share(20_000, sharers));
        assert_eq!(shares, [20_000, 10_000, 5_000, 4_000, 4_000, 4_000]);
    }
}

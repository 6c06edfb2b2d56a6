//! Where the replicas are: every address that a name has, up to a bound.

use std::{collections::BTreeSet, fmt::Debug, io, net::SocketAddr};

use futures::future::BoxFuture;
use rand::{Rng, seq::SliceRandom as _};

/// Replicas that one client is connected to at a time. More give no better balance and cost each replica a connection per
/// client.
const MAX_REPLICAS: usize = 16;

/// Turns a name into addresses.
pub trait Resolve: Debug + Send + Sync + 'static {
    /// All addresses that `host` has now. An empty answer counts as a failure: what was known before stays.
    fn resolve<'a>(&'a self, host: &'a str, port: u16) -> BoxFuture<'a, io::Result<Vec<SocketAddr>>>;
}

/// The resolver of this machine.
#[derive(Debug, Clone, Copy, Default)]
pub struct SystemResolver;

impl Resolve for SystemResolver {
    fn resolve<'a>(&'a self, host: &'a str, port: u16) -> BoxFuture<'a, io::Result<Vec<SocketAddr>>> {
        Box::pin(async move { Ok(tokio::net::lookup_host((host, port)).await?.collect()) })
    }
}

/// Which addresses to be connected to: those that are held and still there, filled up from the others at random, so that
/// clients spread over many replicas and none of them moves without need.
pub(crate) fn select(
    held: &BTreeSet<SocketAddr>,
    found: Vec<SocketAddr>,
    random: &mut impl Rng,
) -> BTreeSet<SocketAddr> {
    let found: BTreeSet<_> = found.into_iter().collect();
    let mut others: Vec<_> = found.difference(held).copied().collect();
    others.shuffle(random);
    found
        .intersection(held)
        .copied()
        .chain(others)
        .take(MAX_REPLICAS)
        .collect()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn addresses(numbers: &[u16]) -> Vec<SocketAddr> {
        numbers
            .iter()
            .map(|number| SocketAddr::from(([10, 0, 0, 1], *number)))
            .collect()
    }

    proptest! {
        #[test]
        fn selection_is_bounded_known_and_keeps_what_is_held(
            held in prop::collection::vec(0_u16..60, 0..16),
            found in prop::collection::vec(0_u16..60, 0..80),
        ) {
            let held: BTreeSet<_> = addresses(&held).into_iter().collect();
            let found = addresses(&found);
            let all: BTreeSet<_> = found.iter().copied().collect();
            let selected = select(&held, found, &mut rand::rng());
            prop_assert_eq!(selected.len(), all.len().min(MAX_REPLICAS));
            prop_assert!(selected.is_subset(&all));
            prop_assert!(held.intersection(&all).all(|address| selected.contains(address)));
        }
    }

    #[test]
    fn selections_of_two_clients_differ() {
        let many = addresses(&(1..=200).collect::<Vec<_>>());
        let select = || select(&BTreeSet::new(), many.clone(), &mut rand::rng());
        // Equal by chance: 1 in 10^23.
        assert_ne!(select(), select());
    }

    #[tokio::test]
    async fn resolver_takes_an_ip_address_as_it_is() {
        for (host, expected) in [("127.0.0.9", "127.0.0.9:8443"), ("::1", "[::1]:8443")] {
            let found = SystemResolver.resolve(host, 8443).await.unwrap();
            assert_eq!(found, [expected.parse::<SocketAddr>().unwrap()]);
        }
    }
}

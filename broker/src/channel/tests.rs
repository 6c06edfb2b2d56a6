//! Which peers may speak for which clusters. That certificates are verified is shown where the handshake is.

use super::*;
use crate::test_scene::{Shape, snapshot};

const EAST: Shape = Shape {
    east_certificates: &["east.example", "spiffe://fleet/east"],
    ..Shape::WHOLE
};

fn peer(names: &[&str]) -> Peer {
    Peer {
        names: names.iter().map(|name| name.parse().unwrap()).collect(),
    }
}

fn checked(shape: Shape, peer: Option<&Peer>) -> Result<(), ChannelError> {
    let east = Arc::clone(&snapshot(shape).authenticator.clusters()[0]);
    check(&east.config, peer)
}

#[test]
fn check_wants_one_of_the_names_and_nothing_where_there_are_none() {
    for names in [&["east.example"][..], &["other.example", "spiffe://fleet/east"]] {
        assert_eq!(checked(EAST, Some(&peer(names))), Ok(()), "{names:?}");
    }
    for names in [
        &[][..],
        &["x.east.example"],
        &["example"],
        &["spiffe://fleet/EAST"],
        &["spiffe://fleet/east/x"],
        // A URI is no DNS name, whatever its text.
        &["urn:east.example"],
    ] {
        assert!(
            matches!(
                checked(EAST, Some(&peer(names))),
                Err(ChannelError::OtherCertificate { .. })
            ),
            "{names:?}"
        );
    }
    assert!(matches!(
        checked(EAST, None),
        Err(ChannelError::NoCertificate { .. })
    ));
    assert_eq!(checked(Shape::WHOLE, None), Ok(()));
    assert_eq!(checked(Shape::WHOLE, Some(&peer(&["other.example"]))), Ok(()));
}

#[test]
fn refusal_names_a_few_of_many() {
    let many = peer(&["a.example", "b.example", "c.example", "d.example", "e.example"]);
    let refusal = checked(EAST, Some(&many)).unwrap_err().to_string();
    assert!(
        refusal.contains("for a.example, b.example, c.example, others, which"),
        "{refusal}"
    );
    let nobody = checked(EAST, Some(&peer(&[]))).unwrap_err().to_string();
    assert!(nobody.contains("is for nobody, which"), "{nobody}");
}

#[test]
fn check_possible_needs_somebody_who_asks() {
    let possible = |shape: Shape, clients: &ClientAuth| {
        let snapshot = snapshot(shape);
        let clusters = snapshot.authenticator.clusters();
        check_possible(clusters.iter().map(|cluster| &cluster.config), clients)
    };
    assert!(possible(Shape::WHOLE, &ClientAuth::None).is_ok());
    let refused = possible(EAST, &ClientAuth::None).unwrap_err().to_string();
    assert!(
        refused.starts_with("clusters[0].clientCertificates: ") && refused.contains("--tls-client-ca-file"),
        "{refused}"
    );
    for asking in [ClientAuth::Request("ca".into()), ClientAuth::Require("ca".into())] {
        assert!(possible(EAST, &asking).is_ok());
    }
}

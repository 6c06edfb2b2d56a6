use super::*;

const TIMING: Timing = Timing {
    lease: Duration::from_secs(15),
    renew_deadline: Duration::from_secs(10),
    retry: Duration::from_secs(2),
};

fn at(seconds: u64) -> Duration {
    Duration::from_secs(seconds)
}

fn record(version: &str, holder: Option<&str>) -> Record {
    Record {
        version: version.to_owned(),
        holder: holder.map(str::to_owned),
        lease: Some(TIMING.lease),
        transitions: 3,
    }
}

fn claim() -> Claim {
    Claim::new("me".to_owned(), TIMING)
}

/// One that has read this at 0 s.
fn claim_that_saw(record: Option<Record>) -> Claim {
    let mut claim = claim();
    claim.saw(record, at(0));
    claim
}

fn leader_since(sent: u64) -> Claim {
    let mut claim = claim();
    claim.wrote(record("1", Some("me")), at(sent));
    claim
}

fn take(version: &str) -> Move {
    Move::Take {
        version: version.to_owned(),
        transitions: 4,
    }
}

fn renew(version: &str) -> Move {
    Move::Renew {
        version: version.to_owned(),
    }
}

#[test]
fn claim_reads_before_it_decides() {
    assert_eq!(claim().next(at(0)), Move::Read);
    assert_eq!(claim().until(), None);
}

#[test]
fn claim_to_a_lease_that_nobody_holds_is_made_at_once() {
    for (seen, expected) in [
        (None, Move::Create),
        (Some(record("1", None)), take("1")),
        // The answer to an earlier write of ours was lost.
        (Some(record("1", Some("me"))), renew("1")),
    ] {
        let claim = claim_that_saw(seen);
        assert_eq!(claim.next(at(0)), expected);
        assert_eq!(claim.until(), None, "nothing is confirmed");
    }
}

#[test]
fn claim_waits_for_the_whole_lease_of_another() {
    let mut claim = claim_that_saw(Some(record("1", Some("other"))));
    for second in [0, 5, 14] {
        assert_eq!(claim.next(at(second)), Move::Wait, "{second}");
        claim.doubt();
        assert_eq!(claim.next(at(second)), Move::Read);
        claim.saw(Some(record("1", Some("other"))), at(second));
    }
    assert_eq!(claim.next(at(15)), take("1"));
}

#[test]
fn claim_waits_anew_when_the_lease_changes() {
    let mut claim = claim_that_saw(Some(record("1", Some("other"))));
    claim.doubt();
    claim.saw(Some(record("2", Some("other"))), at(14));
    assert_eq!(claim.next(at(28)), Move::Wait);
    assert_eq!(claim.next(at(29)), take("2"));
}

#[test]
fn claim_waits_as_long_as_the_holder_asked_for() {
    let longer = Record {
        lease: Some(at(60)),
        ..record("1", Some("other"))
    };
    let claim = claim_that_saw(Some(longer));
    assert_eq!(claim.next(at(59)), Move::Wait);
    assert_eq!(claim.next(at(60)), take("1"));
    let silent = Record {
        lease: None,
        ..record("1", Some("other"))
    };
    let claim = claim_that_saw(Some(silent));
    assert_eq!(claim.next(at(14)), Move::Wait);
    assert_eq!(claim.next(at(15)), take("1"));
}

#[test]
fn claim_of_a_leader_counts_from_before_its_last_confirmed_write() {
    let mut claim = leader_since(100);
    assert_eq!(claim.until(), Some(at(110)));
    assert_eq!(claim.next(at(109)), renew("1"));
    claim.wrote(record("2", Some("me")), at(105));
    assert_eq!(claim.until(), Some(at(115)));
    assert_eq!(claim.next(at(114)), renew("2"));
}

#[test]
fn claim_of_a_leader_is_lost_at_the_renew_deadline_even_if_nobody_wants_it() {
    assert_eq!(leader_since(100).next(at(110)), Move::Lost);
    // Whatever it reads then: it has been held up, and decides nothing any more.
    let mut held_up = leader_since(100);
    held_up.doubt();
    held_up.saw(Some(record("1", Some("me"))), at(110));
    assert_eq!(held_up.next(at(110)), Move::Lost);
}

#[test]
fn claim_of_a_leader_is_lost_when_another_has_the_lease() {
    let mut claim = leader_since(100);
    claim.doubt();
    claim.saw(Some(record("2", Some("other"))), at(101));
    assert_eq!(claim.next(at(101)), Move::Lost);
}

#[test]
fn claim_of_a_leader_outlives_a_stranger_who_releases_labels_or_deletes_the_lease() {
    for (seen, expected) in [
        (Some(record("2", Some("me"))), renew("2")),
        (Some(record("2", None)), take("2")),
        (None, Move::Create),
    ] {
        let mut claim = leader_since(100);
        claim.doubt();
        assert_eq!(claim.next(at(101)), Move::Read);
        claim.saw(seen, at(101));
        assert_eq!(claim.next(at(101)), expected);
        assert_eq!(claim.until(), Some(at(110)), "reading prolongs nothing");
    }
}

#[test]
fn timing_pauses_have_jitter_and_fit_the_deadline_several_times() {
    assert_eq!(TIMING.pause(0.0), at(2));
    assert_eq!(TIMING.longest_pause(), Duration::from_millis(2_400));
    assert_eq!(TIMING.call(), at(5));
}

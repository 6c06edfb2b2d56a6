//! What is remembered of hosts, for how long, and of whom first when there is no room.

use super::*;

#[test]
fn floor_that_is_full_forgets_who_is_idle_and_keeps_who_is_restrained() {
    let (mut floor, now) = (Floor::new(chance), Instant::now());
    let admit = |floor: &mut Floor<u32>, host: &str, at: Instant| {
        arrive(floor, visit(HostKind::Registry, host, 1, None), 0, at)
            .unwrap()
            .pop()
            .unwrap()
            .1
    };
    let paused = admit(&mut floor, "paused", now);
    let wait = Some(Duration::from_secs(3600));
    end(
        &mut floor,
        paused,
        Outcome::Throttled { wait, failure: None },
        now,
    );
    for number in 0..HOSTS + 300 {
        let at = now + MS * u32::try_from(number + 1).unwrap();
        let admission = admit(&mut floor, &format!("host{number}"), at + Duration::from_secs(60));
        end(
            &mut floor,
            admission,
            Outcome::Answered,
            at + Duration::from_secs(60),
        );
    }
    assert_eq!(floor.hosts.len(), HOSTS);
    let later = now + Duration::from_secs(600);
    let refused = arrive(&mut floor, visit(HostKind::Registry, "paused", 1, None), 0, later).unwrap_err();
    assert_eq!(refused.why, Why::Paused);
}

#[test]
fn floor_counts_open_circuits_by_kind() {
    let (mut floor, now) = (Floor::new(chance), Instant::now());
    for id in 0..5 {
        let (_, admission) = arrive(&mut floor, visit(HostKind::Entra, "login", 1, None), id, now)
            .unwrap()
            .pop()
            .unwrap();
        end(&mut floor, admission, failure(), now);
    }
    let expected = [(HostKind::Entra, 1), (HostKind::Imds, 0), (HostKind::Registry, 0)];
    assert_eq!(floor.open_circuits(now), expected);
    let refused = arrive(&mut floor, visit(HostKind::Entra, "login", 1, None), 9, now).unwrap_err();
    assert!(
        matches!(refused.why, Why::CircuitOpen(ref last) if matches!(**last, UpstreamError::Transport(_)))
    );
    let later = now + Duration::from_secs(60);
    let (_, trial) = arrive(&mut floor, visit(HostKind::Entra, "login", 1, None), 10, later)
        .unwrap()
        .pop()
        .unwrap();
    end(&mut floor, trial, Outcome::Answered, later);
    assert!(floor.open_circuits(later).iter().all(|(_, hosts)| *hosts == 0));
}

/// Asks a host until its circuit opens.
fn break_down(floor: &mut Floor<u32>, kind: HostKind, host: &str, now: Instant) {
    for id in 0..5 {
        let started = arrive(floor, visit(kind, host, 1, None), id, now).unwrap();
        for (_, admission) in started {
            end(floor, admission, failure(), now);
        }
    }
}

#[test]
fn floor_stops_counting_a_circuit_that_nobody_tries_any_more() {
    let (mut floor, now) = (Floor::new(chance), Instant::now());
    break_down(&mut floor, HostKind::Registry, "mistyped", now);
    let minutes = |minutes: u64| now + Duration::from_secs(60 * minutes);
    assert!(floor.open_circuits(minutes(1)).contains(&(HostKind::Registry, 1)));
    assert!(floor.open_circuits(minutes(4)).contains(&(HostKind::Registry, 0)));
    let (_, trial) = arrive(
        &mut floor,
        visit(HostKind::Registry, "mistyped", 1, None),
        9,
        minutes(5),
    )
    .unwrap()
    .pop()
    .unwrap();
    end(&mut floor, trial, failure(), minutes(5));
    assert!(floor.open_circuits(minutes(5)).contains(&(HostKind::Registry, 1)));
}

#[test]
fn u3_dead_names_push_out_each_other_and_never_the_metadata_service() {
    let (mut floor, now) = (Floor::new(chance), Instant::now());
    for (kind, host) in [
        (HostKind::Imds, "imds"),
        (HostKind::Entra, "login"),
        (HostKind::Registry, "live"),
    ] {
        let (_, admission) = arrive(&mut floor, visit(kind, host, 1, None), 0, now)
            .unwrap()
            .pop()
            .unwrap();
        end(&mut floor, admission, Outcome::Answered, now);
    }
    for number in 0..HOSTS - 3 {
        break_down(&mut floor, HostKind::Registry, &format!("dead{number}"), now);
    }
    // Nobody asks for them any more; the registry that works is asked now and then.
    let later = now + Duration::from_secs(600);
    let (_, admission) = arrive(&mut floor, visit(HostKind::Registry, "live", 1, None), 0, later)
        .unwrap()
        .pop()
        .unwrap();
    end(&mut floor, admission, Outcome::Answered, later);
    for number in 0..HOSTS / 2 {
        break_down(&mut floor, HostKind::Registry, &format!("new{number}"), later);
    }
    assert_eq!(floor.hosts.len(), HOSTS);
    for (kind, host) in [
        (HostKind::Imds, "imds"),
        (HostKind::Entra, "login"),
        (HostKind::Registry, "live"),
    ] {
        assert!(floor.hosts.contains_key(&(kind, host.into())), "{host}");
    }
    assert!(floor.failing.len() <= HOSTS);
}

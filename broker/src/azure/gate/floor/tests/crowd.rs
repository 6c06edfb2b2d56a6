//! A crowd that asks one host on and on, in steps of a millisecond: who waited, what each held, and what it started.

use super::{super::super::bucket::Bucket, *};

/// One that always has so many callers waiting while it asks: more than a host has places.
const CALLERS: u32 = 40;

/// Asks in its own rhythm for calls that take their own time.
#[derive(Debug, Clone)]
pub(super) struct Asker {
    pub(super) cluster: usize,
    pub(super) namespace: usize,
    /// How long a call takes, in ms; some take a quarter more.
    pub(super) takes: u32,
    /// First it rests for so long, in ms, ...
    pub(super) rests: usize,
    /// ... then it asks for so long, and so on.
    pub(super) asks: usize,
}

/// A call that started, and how things stood just before.
pub(super) struct Start {
    pub(super) ms: usize,
    pub(super) asker: usize,
    /// Whether there were fewer starts than places.
    pub(super) starts_are_short: bool,
    /// By asker.
    pub(super) waiting: Vec<u32>,
    pub(super) held: Vec<u32>,
}

/// What became of a crowd.
pub(super) struct History {
    pub(super) starts: Vec<Start>,
    /// By millisecond and asker, what each had in flight in the end of it.
    held: Vec<Vec<u32>>,
}

impl Asker {
    /// One that never rests.
    pub(super) fn on_and_on(cluster: usize, namespace: usize, takes: u32) -> Self {
        Self {
            cluster,
            namespace,
            takes,
            rests: 0,
            asks: 1,
        }
    }

    fn asks_at(&self, ms: usize) -> bool {
        ms % (self.rests + self.asks) >= self.rests
    }

    fn visit(&self, kind: HostKind) -> Visit {
        visit_of(kind, "host", self.cluster, self.namespace)
    }
}

/// Another cluster has all calls that a host of this kind allows at once, while nobody else is there.
pub(super) fn use_up_the_burst(floor: &mut Floor<u32>, kind: HostKind, now: Instant) {
    for _ in 0..kind.limits().burst {
        let early = visit_of(kind, "host", 1000, 0);
        let (_, admission) = arrive(floor, early, 0, now).unwrap().pop().unwrap();
        end(floor, admission, Outcome::Answered, now);
    }
}

/// Lets them ask for so many milliseconds a host that has no more than its rate to give.
pub(super) fn run(kind: HostKind, askers: &[Asker], length: usize) -> History {
    let (mut floor, start) = (Floor::new(chance), Instant::now());
    use_up_the_burst(&mut floor, kind, start);
    let limits = kind.limits();
    let mut bucket = Bucket::new(limits.burst, limits.interval);
    for _ in 0..limits.burst {
        bucket.take(start);
    }
    let (mut starts, mut held_by_ms) = (Vec::new(), Vec::new());
    let (mut waiting, mut held) = (vec![0; askers.len()], vec![0; askers.len()]);
    let mut running: Vec<(u32, usize, Admission)> = Vec::new();
    for (ms, step) in (0..length).zip(0..) {
        let now = start + MS * step;
        let mut replies = Vec::new();
        for (_, asker, admission) in running.extract_if(.., |(ends, ..)| *ends <= step) {
            held[asker] -= 1;
            floor.leave(admission, Some(Outcome::Answered), now, &mut replies);
        }
        for ((asker, waiting), id) in askers.iter().zip(&mut waiting).zip(0..) {
            while asker.asks_at(ms) && *waiting < CALLERS {
                floor.arrive(asker.visit(kind), id, now, &mut replies).unwrap();
                *waiting += 1;
            }
        }
        floor.dispatch(now, &mut replies);
        for (id, admission) in started(replies) {
            let asker = id as usize;
            starts.push(Start {
                ms,
                asker,
                starts_are_short: !bucket.has(limits.places.all, now),
                waiting: waiting.clone(),
                held: held.clone(),
            });
            bucket.take(now);
            waiting[asker] -= 1;
            held[asker] += 1;
            let takes = askers[asker].takes;
            // 7,919 is prime: all lengths, in no order.
            let more = u32::try_from(starts.len()).unwrap() * 7919 % (takes / 4 + 1);
            running.push((step + takes + more, asker, admission));
        }
        held_by_ms.push(held.clone());
    }
    History {
        starts,
        held: held_by_ms,
    }
}

impl History {
    /// How many calls these have started from the one millisecond on and before the other.
    pub(super) fn starts(&self, of: &[usize], from: usize, before: usize) -> usize {
        let counts = |start: &&Start| (from..before).contains(&start.ms) && of.contains(&start.asker);
        self.starts.iter().filter(counts).count()
    }

    /// How many calls it had in flight in the mean.
    pub(super) fn held(&self, asker: usize, from: usize, before: usize) -> f64 {
        let held: u32 = self.held[from..before].iter().map(|held| held[asker]).sum();
        f64::from(held) / f64::from(u32::try_from(before - from).unwrap())
    }
}

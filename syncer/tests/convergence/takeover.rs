//! What befalls the processes of the syncer: they end, are deposed in the middle of a pass, work beside each other although
//! they should not, sleep, and see late what happens.

use std::time::Duration;

use k8s_openapi::jiff::SignedDuration;

use crate::{cases::Fate, right, world::World};

impl World {
    pub(crate) fn befall(&mut self, fate: Fate) {
        let now = self.clock.monotonic();
        match fate {
            Fate::Restart => self.restart(),
            Fate::Second {
                lasts,
                is_older_to_stop,
            } => {
                self.stop_second(true);
                self.start();
                self.second_until = Some((now + lasts, is_older_to_stop));
            }
            Fate::Lag(lag) => self.lag(lag),
            Fate::Relist => {
                self.publish();
                for process in self.processes.iter_mut().filter(|process| process.is_alive) {
                    process.feeds.list(&self.server.objects, now);
                    process.deliver(now);
                }
            }
            Fate::Sleep(time) => {
                self.clock.sleep(time);
                self.wake_all();
            }
        }
    }

    /// Nothing more befalls them: one process leads, and sees at once what happens from now on.
    pub(crate) fn calm(&mut self) {
        self.stop_second(true);
        self.lag([Duration::ZERO; 3]);
    }

    /// Somebody sets the clock of the machine back.
    pub(crate) fn set_back(&mut self, by: Duration) {
        self.clock.set(-SignedDuration::try_from(by).unwrap());
        self.wake_all();
    }

    /// Of two processes that lead, one ends.
    pub(crate) fn stop_second(&mut self, is_older: bool) {
        self.second_until = None;
        let leading: Vec<_> = self.leading().map(|(index, _process)| index).collect();
        if let [older, newer] = leading[..] {
            let stopped = &mut self.processes[if is_older { older } else { newer }];
            (stopped.leads, stopped.is_alive) = (false, false);
        }
    }

    /// Another process takes over. It asks for nothing that is still good.
    fn restart(&mut self) {
        self.stop_second(true);
        let slots: Vec<_> = self.server.objects.bindings.keys().copied().collect();
        let served: Vec<_> = slots
            .into_iter()
            .filter(|slot| right::is_served(self, *slot))
            .collect();
        let old = self.leader();
        (self.processes[old].leads, self.processes[old].is_alive) = (false, false);
        self.start();
        let new = self.leader();
        for slot in served {
            let asked = self.broker.questions;
            self.look_at(new, slot);
            assert_eq!(
                self.broker.questions, asked,
                "binding {slot} was served, and is asked for after a restart"
            );
        }
    }

    /// The leader is deposed between what it read for a pass and what it does; it does that later all the same.
    pub(crate) fn depose(&mut self, slot: usize, after: Duration) {
        self.stop_second(true);
        let old = self.leader();
        let pass = self.begin(old, slot);
        self.processes[old].leads = false;
        self.processes[old].is_alive = pass.is_some();
        let at = self.clock.monotonic() + after;
        self.unfinished.extend(pass.map(|pass| (at, pass)));
        self.start();
    }

    fn lag(&mut self, lag: [Duration; 3]) {
        for process in &mut self.processes {
            process.feeds.lag(lag);
        }
    }

    /// As `watches::clock_steps`.
    fn wake_all(&mut self) {
        let now = self.clock.monotonic();
        for process in &mut self.processes {
            process.wake_all(now);
        }
    }
}

//! What a write of a pass means for the fights over the Secret and the links. What is held back because of them is decided
//! by `plan`.

use super::Pass;
use crate::{
    contest::Contest,
    plan::{Issue, Snapshot},
    snapshot,
};

impl Pass<'_> {
    /// A payload that was written where none of ours was: the first, or once more because somebody overwrote it.
    pub(super) fn count_repair(&mut self, issue: &Issue) {
        let (memory, inputs) = (&mut self.snapshot.memory, &issue.wanted.inputs);
        if memory.stored_inputs.as_ref() != Some(inputs) {
            memory.stored_inputs = Some(inputs.clone());
            memory.secret_contest = Contest::default();
        }
        if issue.restores(&self.snapshot) {
            self.count_write();
        }
        self.look_at_fights();
    }

    /// One more write that somebody may undo.
    pub(super) fn count_write(&mut self) {
        let now = self.context.clock.monotonic();
        self.snapshot.memory.secret_contest.wrote(now, rand::random());
    }

    /// What is fought over after a write, by the time of the binding: a credential may have put that right.
    pub(super) fn look_at_fights(&mut self) {
        let (context, moment) = (self.context, self.context.clock.moment());
        let Snapshot { binding, memory, .. } = &self.snapshot;
        let targets = snapshot::targets(context, binding, memory, moment);
        self.snapshot.secret_fight = snapshot::secret_fight(memory, moment);
        self.snapshot.targets = targets;
    }
}

//! The links of a ServiceAccount, as `links::keeper` writes them.

use std::{collections::BTreeSet, sync::Arc};

use kube::ResourceExt as _;
use syncer::{
    links::{change, has, record, slim},
    pull_secret,
};

use crate::{
    server::{Key, Refusal, Write, Written},
    world::World,
};

/// As in the product.
const MAX_CONFLICTS: usize = 5;

impl World {
    /// Brings the links of a ServiceAccount to what they should be, as far as the process knows.
    pub(crate) fn settle_links(
        &mut self,
        process: usize,
        key: &Key,
        secret_name: Option<&str>,
    ) -> Result<(), Refusal> {
        let Some(mut current) = self.processes[process].account(key) else {
            return Ok(());
        };
        if secret_name.is_some_and(|name| has(&current, name)) {
            return Ok(());
        }
        let mut refused = Ok(());
        for _attempt in 0..MAX_CONFLICTS {
            let (mut wanted, known) = self.known_links(process, key);
            let mut missing = wanted.clone();
            missing.retain(|name| !has(&current, name));
            let now = self.clock.monotonic();
            let contests = &self.processes[process].contests;
            let held_back = contests.held_back(&current, &missing, now);
            wanted.retain(|name| !held_back.contains(name));
            // The live look-up.
            let claimed = self.server.claims(key);
            let suspects: BTreeSet<_> = record(&current).difference(&known).cloned().collect();
            let gone: BTreeSet<_> = suspects.difference(&claimed).cloned().collect();
            let Some(links) = change(&current, &wanted, &gone) else {
                return Ok(());
            };
            let written = self.send(Write::Account {
                key: key.clone(),
                patch: links.merge_patch(current.resource_version().as_deref()),
                claimed,
            });
            match written {
                Ok(written) => {
                    let Written::Account(mut after) = written else {
                        panic!("not the answer to this write");
                    };
                    slim(&mut after);
                    let draw = self.draw();
                    let process = &mut self.processes[process];
                    let made = missing.difference(&held_back);
                    process.contests.wrote(&after, made, now, draw);
                    process.contests.removed(&after, &gone);
                    process.remember_account(key, current.resource_version(), *after);
                    return Ok(());
                }
                Err(Refusal(404)) => return Ok(()),
                Err(refusal @ Refusal(409)) => refused = Err(refusal),
                Err(refusal) => return Err(refusal),
            }
            let Some(live) = self.server.objects.accounts.get(key) else {
                return Ok(());
            };
            current = Arc::new(live.clone());
        }
        refused
    }

    /// The names that are to be linked, and with them those of which that is not known yet.
    fn known_links(&self, process: usize, (namespace, name): &Key) -> (BTreeSet<String>, BTreeSet<String>) {
        let process = &self.processes[process];
        let bindings = process
            .stores
            .bindings
            .in_namespace(namespace, |binding| binding.spec.is_for(name));
        let allowed = bindings
            .iter()
            .filter(|binding| process.memory.allows_link(binding));
        let name_of = |binding: &Arc<_>| pull_secret::name_of(binding);
        (
            allowed.map(name_of).collect(),
            bindings.iter().map(name_of).collect(),
        )
    }
}

//! What must hold, whatever happens. Each checker is a file; all look after every step, some only at rest.

mod bounds;
mod containers;
mod history;
mod owners;

use crate::{engine::Container, registry::Registry, store::Store};

/// The checkers of a run and what they remember.
#[derive(Default)]
pub(super) struct Checkers {
    history: history::History,
    bounds: bounds::Bounds,
}

impl Checkers {
    /// Follows a store from its start.
    pub(super) fn follow(&mut self, store: &Store) {
        self.history.follow(store);
    }

    /// The changes since the last time, as lines of the trace.
    pub(super) fn drain_history(&mut self) -> Vec<String> {
        self.history.drain()
    }

    /// Looks at a moment.
    pub(super) fn look(&mut self, registry: &Registry, containers: &[Container]) {
        self.bounds.look(registry);
        containers::at_most_one_runs(containers);
    }

    /// Looks when everything has converged.
    pub(super) fn at_rest(&mut self, registry: &Registry, containers: &[Container]) {
        owners::all_exist(registry);
        containers::each_has_its_pod(registry, containers);
    }
}

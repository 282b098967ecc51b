//! What must hold, whatever happens. Each checker is a file; all look after every step, some only at rest.

mod bounds;
mod containers;
mod history;
mod owners;
mod quiet;
mod restarts;
mod services;

use super::network::DataPlane;
use crate::{
    engine::{Container, fake::FakeEngine},
    registry::Registry,
    store::Store,
};

/// The checkers of a run and what they remember.
#[derive(Default)]
pub(super) struct Checkers {
    history: history::History,
    bounds: bounds::Bounds,
    restarts: restarts::Restarts,
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
        self.restarts.look(registry);
        containers::at_most_one_runs(containers);
    }
}

/// Looks when everything has converged, at the world and at the lines of the trace since nothing was to happen any more.
pub(super) fn at_rest(registry: &Registry, engine: &FakeEngine, data_plane: &DataPlane, lines: &[String]) {
    owners::all_exist(registry);
    containers::each_has_its_pod(registry, &engine.containers(), &engine.all_volumes());
    services::lead_to_ready_pods(registry, data_plane);
    quiet::nothing_happens(lines);
}

//! What must hold, whatever happens. Each checker is a file. Those that `see` are shown every single write, in its order and at its
//! time; those that `look` see the world after every step; some look only at rest.

mod containers;
mod deployers;
mod flood;
mod history;
mod model;
mod owners;
mod quiet;
pub(super) mod quotas;
mod restarts;
mod rollout;
mod services;
mod sizes;
mod workloads;

use super::{network::DataPlane, trace::Line};
use crate::{
    engine::fake::{Call, FakeEngine},
    registry::Registry,
};
use jiff::Timestamp;
use model::{Model, Moment};

/// The checkers of a run and what they remember.
#[derive(Default)]
pub(super) struct Checkers {
    history: history::History,
    model: Model,
    sizes: sizes::Sizes,
    owners: owners::Owners,
    rollouts: rollout::Rollouts,
    restarts: restarts::Restarts,
    flood: flood::Flood,
    quotas: quotas::Quotas,
}

impl Checkers {
    /// Follows a registry from its start.
    pub(super) fn follow(&mut self, registry: &Registry) {
        self.history.follow(registry.store());
        self.model = Model::of(registry);
        self.quotas = quotas::Quotas::of(registry);
        self.flood.start();
    }

    /// Waits for a change that was not seen yet.
    pub(super) async fn arrival(&mut self) {
        self.history.arrival().await;
    }

    /// Sees the changes since the last time, by the user or by the others, and tells them to the trace.
    pub(super) fn see(&mut self, now: Timestamp, is_users: bool, trace: &mut Vec<Line>) {
        while let Some(change) = self.history.next() {
            trace.push(Line::of(&change));
            self.flood.see(now, &change);
            self.quotas.see(now, &change);
            let Some(moved) = self.model.take(&change) else { continue };
            let moment = Moment { now, is_users };
            self.sizes.see(&self.model, &moved, moment);
            self.owners.see(&self.model, &moved, moment);
            self.rollouts.see(&self.model, &moved, moment);
            deployers::see(&self.model, &moved);
            workloads::see(&self.model, &moved);
        }
    }

    /// Sees what the engine was asked.
    pub(super) fn asked(&mut self, engine: &FakeEngine, calls: &[Call]) {
        calls.iter().for_each(|call| self.flood.asked(engine, call));
    }

    /// Looks at a moment.
    pub(super) fn look(&mut self, registry: &Registry, engine: &FakeEngine, now: Timestamp) {
        self.restarts.look(registry);
        self.owners.look(&self.model, now);
        rollout::Rollouts::look(&self.model, now);
        containers::at_most_one_runs(&engine.containers(), &engine.started_by_hand(), now);
    }
}

/// Looks when everything has converged, at the world and at the lines of the trace since nothing was to happen any more.
pub(super) fn at_rest(
    registry: &Registry,
    engine: &FakeEngine,
    data_plane: &DataPlane,
    now: Timestamp,
    lines: &[Line],
) {
    owners::all_exist(registry);
    owners::own_what_they_select(registry);
    rollout::are_told_exactly(registry, now);
    quotas::say_what_is_used(registry, now);
    containers::each_has_its_pod(registry, &engine.containers(), &engine.all_volumes());
    services::lead_to_ready_pods(registry, data_plane);
    quiet::nothing_happens(lines);
}

//! Keeps what the API said, and makes proxy and zone follow it.
//!
//! Fed by `feed`; tells `ack` which revision is in place, and `notice` what cannot be served.
//!
//! **Invariants**: nothing is applied before both kinds were listed, so a half-known state never takes a Service away. Changes
//! that wait together are applied together.

use super::{
    ack::Ack,
    feed::{Change, Delta, number},
    notice::Notice,
};
use crate::net::{
    plan::{PlanSettings, plan},
    proxy::{Leavers, Problem, Proxy},
    table::ForwardTable,
    zone::{Zone, ZoneSettings},
};
use k8s_openapi::api::{core::v1::Service, discovery::v1::EndpointSlice};
use kube::{Resource, ResourceExt as _};
use std::{collections::BTreeMap, collections::BTreeSet, sync::Arc, time::Duration};
use tokio::{
    sync::{mpsc, watch},
    time::sleep,
};
use tracing::{debug, info, warn};

/// How often listeners that could not be opened are tried again.
const RETRY_PERIOD: Duration = Duration::from_secs(2);

type Known<K> = BTreeMap<(String, String), K>;

/// What is known and what was made of it.
pub(super) struct Follower {
    plan: PlanSettings,
    zone_settings: ZoneSettings,
    proxy: Arc<Proxy>,
    zone: watch::Sender<Arc<Zone>>,
    acks: mpsc::UnboundedSender<Ack>,
    notices: mpsc::Sender<Notice>,
    services: Option<Known<Service>>,
    slices: Option<Known<EndpointSlice>>,
    /// The highest revision of EndpointSlices that is known.
    revision: u64,
    told: BTreeSet<Notice>,
    has_problems: bool,
}

impl Follower {
    pub(super) fn new(
        plan: PlanSettings,
        zone_settings: ZoneSettings,
        proxy: Arc<Proxy>,
        zone: watch::Sender<Arc<Zone>>,
        acks: mpsc::UnboundedSender<Ack>,
        notices: mpsc::Sender<Notice>,
    ) -> Self {
        Self {
            plan,
            zone_settings,
            proxy,
            zone,
            acks,
            notices,
            services: None,
            slices: None,
            revision: 0,
            told: BTreeSet::new(),
            has_problems: false,
        }
    }

    /// Follows until the feeds end.
    pub(super) async fn run(mut self, mut changed: mpsc::Receiver<Change>) {
        loop {
            tokio::select! { biased;
                change = changed.recv() => {
                    let Some(change) = change else { return };
                    self.take(change);
                    while let Ok(change) = changed.try_recv() {
                        self.take(change);
                    }
                    self.apply();
                }
                () = sleep(RETRY_PERIOD), if self.has_problems => self.retry(),
            }
        }
    }

    fn take(&mut self, change: Change) {
        match change {
            Change::Services(delta) => drop(merge(&mut self.services, delta)),
            Change::Slices(delta) => self.revision = self.revision.max(merge(&mut self.slices, delta)),
        }
    }

    fn apply(&mut self) {
        let (Some(services), Some(slices)) = (&self.services, &self.slices) else { return };
        let table = plan(services.values(), slices.values(), &self.plan);
        let applied = self.proxy.apply(&table);
        let zone = Zone::new(services.values(), slices.values(), self.zone_settings.clone());
        self.zone.send_replace(Arc::new(zone));
        debug!(component = "proxy", listeners = table.listeners.len(), revision = self.revision, "applied");
        self.tell(&table, &applied.problems);
        self.acknowledge(applied.left);
    }

    fn acknowledge(&self, left: Leavers) {
        // Without a receiver the process is ending.
        self.acks.send(Ack { revision: self.revision, left }).ok();
    }

    /// Tells each trouble once, and again when it comes back.
    fn tell(&mut self, table: &ForwardTable, problems: &[Problem]) {
        let refused = table.refusals.iter().map(Notice::of_refusal);
        let problems = problems.iter().filter(|problem| !problem.error.is_missing_ipv6());
        let current: BTreeSet<Notice> = problems.map(Notice::of_problem).chain(refused).collect();
        for notice in current.difference(&self.told) {
            warn!(component = "proxy", namespace = notice.namespace, name = notice.service, "{}", notice.message);
            if self.notices.try_send(notice.clone()).is_err() {
                warn!(component = "proxy", "too many events wait: this one is only in the log");
            }
        }
        self.has_problems = !current.is_empty();
        self.told = current;
    }

    fn retry(&mut self) {
        if self.proxy.retry() {
            info!(component = "proxy", "every listener is open");
            self.has_problems = false;
            self.told.clear();
        }
    }
}

/// Takes a change in; returns its revision.
fn merge<K: Resource>(known: &mut Option<Known<K>>, delta: Delta<K>) -> u64 {
    match delta {
        Delta::All(objects, revision) => {
            *known = Some(objects.into_iter().map(|object| (key(&object), object)).collect());
            revision
        }
        Delta::Set(object) => {
            let revision = revision(&object);
            known.get_or_insert_default().insert(key(&object), object);
            revision
        }
        Delta::Gone(object) => {
            known.get_or_insert_default().remove(&key(&object));
            revision(&object)
        }
    }
}

fn key<K: Resource>(object: &K) -> (String, String) {
    (object.namespace().unwrap_or_default(), object.name_any())
}

fn revision<K: Resource>(object: &K) -> u64 {
    number(&object.resource_version().unwrap_or_default())
}

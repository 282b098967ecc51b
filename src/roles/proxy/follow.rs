//! Keeps what the API said, and makes proxy and zone follow it.
//!
//! Fed by `feed`; tells `ack` which revision is in place, and `notice` what cannot be served.
//!
//! **Invariants**: nothing is applied before both kinds were listed, so a half-known state never takes a Service away. Changes
//! that wait together are applied together. Who does not lead yet knows everything and applies nothing. A revision in which endpoints
//! left is not told to be in place while they stand in for others that do not listen yet, for a bounded time.

use super::{
    access::AccessNow,
    ack::Ack,
    balancer::ToTell,
    feed::{Change, Delta, Kind, number},
    notice::Notice,
    probe::{Prober, accepting_now},
};
use crate::{
    api::agreements::STAND_IN_MAX,
    net::{
        balancer::to_tell,
        plan::{PlanSettings, plan},
        proxy::{Leavers, Problem, Proxy},
        table::{ForwardTable, Target},
        zone::{Zone, ZoneSettings},
    },
};
use k8s_openapi::api::{core::v1::Service, discovery::v1::EndpointSlice};
use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
    time::Duration,
};
use tokio::{
    sync::{mpsc, watch},
    time::{Instant, sleep, sleep_until},
};
use tracing::{debug, info, warn};

/// How often listeners that could not be opened are tried again.
const RETRY_PERIOD: Duration = Duration::from_secs(2);

/// How long a new leader looks who accepts connections. Clients wait meanwhile.
const FIRST_LOOK: Duration = Duration::from_millis(50);

type Objects<K> = BTreeMap<(String, String), K>;

/// Whom it tells what.
pub(super) struct Outlets {
    /// Names, for the name server.
    pub(super) zone: watch::Sender<Arc<Zone>>,
    /// Revisions that are in place.
    pub(super) acks: mpsc::UnboundedSender<Ack>,
    /// Troubles.
    pub(super) notices: mpsc::Sender<Notice>,
    /// What the status of Services does not say yet of their load balancers.
    pub(super) balancers: watch::Sender<ToTell>,
}

/// What the API has said.
#[derive(Default)]
pub(super) struct Known {
    services: Option<Objects<Service>>,
    slices: Option<Objects<EndpointSlice>>,
    /// The highest revision of EndpointSlices that is known.
    revision: u64,
}

impl Known {
    /// Takes changes in until something has happened.
    pub(super) async fn gather<T>(
        &mut self,
        changed: &mut mpsc::Receiver<Change>,
        happened: impl Future<Output = T>,
    ) -> T {
        let mut happened = std::pin::pin!(happened);
        loop {
            tokio::select! { biased;
                value = &mut happened => return value,
                Some(change) = changed.recv() => self.take(change),
            }
        }
    }

    fn take(&mut self, change: Change) {
        match change {
            Change::Services(delta) => drop(merge(&mut self.services, delta)),
            Change::Slices(delta) => self.revision = self.revision.max(merge(&mut self.slices, delta)),
        }
    }
}

/// What is known and what was made of it.
pub(super) struct Follower {
    known: Known,
    access: AccessNow,
    plan: PlanSettings,
    zone_settings: ZoneSettings,
    proxy: Arc<Proxy>,
    outlets: Outlets,
    /// What was applied last.
    table: ForwardTable,
    told: BTreeSet<Notice>,
    has_problems: bool,
    prober: Prober,
    /// The endpoints that were seen to accept a connection; nothing: it has not looked yet.
    accepting: Option<BTreeSet<Target>>,
    withheld: Withheld,
}

/// Acknowledgements that wait.
#[derive(Default)]
struct Withheld {
    left: Vec<Leavers>,
    /// Until when, since endpoints stand in for others.
    until: Option<Instant>,
}

impl Follower {
    pub(super) fn new(
        known: Known,
        access: AccessNow,
        plan: PlanSettings,
        zone_settings: ZoneSettings,
        proxy: Arc<Proxy>,
        outlets: Outlets,
    ) -> Self {
        Self {
            known,
            access,
            plan,
            zone_settings,
            proxy,
            outlets,
            table: ForwardTable::default(),
            told: BTreeSet::new(),
            has_problems: false,
            prober: Prober::default(),
            accepting: None,
            withheld: Withheld::default(),
        }
    }

    /// Follows until the feeds end.
    pub(super) async fn run(mut self, mut changed: mpsc::Receiver<Change>) {
        self.apply().await;
        loop {
            let release = self.withheld.until.filter(|_| !self.withheld.left.is_empty());
            tokio::select! { biased;
                change = changed.recv() => {
                    let Some(change) = change else { return };
                    self.known.take(change);
                    while let Ok(change) = changed.try_recv() {
                        self.known.take(change);
                    }
                    self.apply().await;
                }
                Ok(()) = self.access.changed() => self.apply().await,
                target = self.prober.accepted() => {
                    self.accepting.get_or_insert_default().insert(target);
                    self.apply().await;
                }
                () = sleep_until(release.unwrap_or_else(Instant::now)), if release.is_some() => self.release(),
                () = sleep(RETRY_PERIOD), if self.has_problems => self.retry(),
            }
        }
    }

    async fn apply(&mut self) {
        self.plan.api_server = Some(self.access.borrow_and_update().server);
        let (Some(services), Some(slices)) = (&self.known.services, &self.known.slices) else { return };
        let zone = Zone::new(services.values(), slices.values(), self.zone_settings.clone());
        let plan = |accepting: &_| plan(services.values(), slices.values(), &self.plan, accepting);
        let accepting = match self.accepting.take() {
            Some(accepting) => accepting,
            // Whoever served before may have let clients in already: who accepts is in the rotation from the start.
            None => accepting_now(&plan(&BTreeSet::new()).pending, FIRST_LOOK).await,
        };
        self.table = plan(&accepting);
        self.prober.look_at(&self.table.pending);
        self.accepting = Some(still_there(accepting, &self.table));
        let applied = self.proxy.apply(&self.table);
        self.proxy.forget_leftovers(|key| Some(key.address) == self.plan.dns);
        self.outlets.zone.send_replace(Arc::new(zone));
        debug!(component = "proxy", listeners = self.table.listeners.len(), revision = self.known.revision, "applied");
        self.conclude(&applied.problems);
        self.acknowledge(applied.left);
    }

    fn retry(&mut self) {
        let problems = self.proxy.retry(&self.table);
        if problems.is_empty() {
            info!(component = "proxy", "every port is taken");
        }
        self.conclude(&problems);
    }

    /// Tells what is in the way, and where load balancers answer.
    fn conclude(&mut self, problems: &[Problem]) {
        self.tell(problems);
        self.tell_balancers(problems);
    }

    fn tell_balancers(&self, problems: &[Problem]) {
        let Some(services) = &self.known.services else { return };
        let closed = problems.iter().map(|problem| problem.key).collect();
        let wanted = to_tell(services.values(), &self.table, &closed, &self.plan);
        self.outlets.balancers.send_if_modified(|last| {
            let is_new = *last != wanted;
            *last = wanted;
            is_new
        });
    }

    fn acknowledge(&mut self, left: Leavers) {
        self.withheld.left.push(left);
        if !self.table.stands_in {
            return self.release();
        }
        let until = *self.withheld.until.get_or_insert_with(|| Instant::now() + STAND_IN_MAX);
        if until <= Instant::now() {
            self.release();
        }
    }

    /// Tells that what is known is in place.
    fn release(&mut self) {
        for left in std::mem::take(&mut self.withheld.left) {
            // Without a receiver the process is ending.
            self.outlets.acks.send(Ack { revision: self.known.revision, left }).ok();
        }
        if !self.table.stands_in {
            self.withheld.until = None;
        }
    }

    /// Tells each trouble once, and again when it comes back.
    fn tell(&mut self, problems: &[Problem]) {
        let refused = self.table.refusals.iter().map(Notice::of_refusal);
        let problems = problems.iter().filter(|problem| !problem.error.is_missing_ipv6());
        let current: BTreeSet<Notice> = problems.map(Notice::of_problem).chain(refused).collect();
        for notice in current.difference(&self.told) {
            warn!(component = "proxy", namespace = notice.namespace, name = notice.service, "{}", notice.message);
            if self.outlets.notices.try_send(notice.clone()).is_err() {
                warn!(component = "proxy", "too many events wait: this one is only in the log");
            }
        }
        self.has_problems = !current.is_empty();
        self.told = current;
    }
}

/// Those of the accepting endpoints that are in a rotation: one that comes back is looked at again. Pure.
fn still_there(mut accepting: BTreeSet<Target>, table: &ForwardTable) -> BTreeSet<Target> {
    let current: BTreeSet<&Target> = table.rotations.values().flat_map(|rotation| &rotation.targets).collect();
    accepting.retain(|target| current.contains(target));
    accepting
}

/// Takes a change in; returns its revision.
fn merge<K: Kind>(known: &mut Option<Objects<K>>, delta: Delta<K>) -> u64 {
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

fn key<K: Kind>(object: &K) -> (String, String) {
    let metadata = object.metadata();
    (metadata.namespace.clone().unwrap_or_default(), metadata.name.clone().unwrap_or_default())
}

fn revision<K: Kind>(object: &K) -> u64 {
    object.metadata().resource_version.as_deref().map_or(0, number)
}

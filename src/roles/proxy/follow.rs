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
    feed::{Change, Delta, Kind, number},
    notice::Notice,
    probe::{Prober, accepting_now},
    statuses::{ToTell, of_balancer, of_router},
};
use crate::{
    api::{
        agreements::STAND_IN_MAX,
        router_certificates::{Certificates, DATA_KEY},
    },
    base::{
        chain::chain,
        clock::Clock,
        ordered::{CollectOrdered as _, Map, Set},
    },
    net::{
        balancer::to_tell,
        plan::{PlanSettings, plan},
        proxy::{Leavers, Problem, Proxy},
        router::{
            Bound, Router,
            objects::Route,
            plan::{self as routes, Planned},
            status,
            table::OwnerKind,
        },
        table::{ForwardTable, ListenKey, Target},
        zone::{Zone, ZoneSettings},
    },
};
use k8s_openapi::api::{
    core::v1::{Secret, Service},
    discovery::v1::EndpointSlice,
    networking::v1::{Ingress, IngressClass},
};
use std::{sync::Arc, time::Duration};
use tokio::{
    sync::{mpsc, watch},
    time::{Instant, sleep, sleep_until},
};
use tracing::{debug, info, warn};

/// How often listeners that could not be opened are tried again.
const RETRY_PERIOD: Duration = Duration::from_secs(2);

/// How long a new leader looks who accepts connections. Clients wait meanwhile.
const FIRST_LOOK: Duration = Duration::from_millis(50);

type Objects<K> = Map<(String, String), K>;

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
    /// What the status of Routes and Ingresses does not say yet of the router.
    pub(super) routed: watch::Sender<ToTell>,
}

/// Who serves.
pub(super) struct Served {
    pub(super) proxy: Arc<Proxy>,
    pub(super) router: Arc<Router>,
}

/// What the API has said.
#[derive(Default)]
pub(super) struct Known {
    services: Option<Objects<Service>>,
    slices: Option<Objects<EndpointSlice>>,
    routes: Option<Objects<Route>>,
    ingresses: Option<Objects<Ingress>>,
    classes: Option<Objects<IngressClass>>,
    /// The Secret with the router's certificates.
    certificates: Option<Objects<Secret>>,
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
            Change::Routes(delta) => drop(merge(&mut self.routes, delta)),
            Change::Ingresses(delta) => drop(merge(&mut self.ingresses, delta)),
            Change::Classes(delta) => drop(merge(&mut self.classes, delta)),
            Change::Certificates(delta) => drop(merge(&mut self.certificates, delta)),
        }
    }

    /// Whether everything was listed that the router needs.
    fn knows_routes(&self) -> bool {
        self.routes.is_some() && self.ingresses.is_some() && self.classes.is_some() && self.certificates.is_some()
    }

    /// The certificates that are kept for the router. Those that cannot be read are none.
    fn certificates(&self) -> Certificates {
        let secret = self.certificates.iter().flat_map(Map::values).next();
        let data = secret.and_then(|secret| secret.data.as_ref()?.get(DATA_KEY));
        let read = data.map(|bytes| serde_json::from_slice(&bytes.0)).transpose();
        read.unwrap_or_else(|err| {
            warn!(component = "proxy", err = chain(&err), "the router's certificates cannot be read");
            None
        })
        .unwrap_or_default()
    }
}

/// What is known and what was made of it.
pub(super) struct Follower {
    known: Known,
    access: AccessNow,
    plan: PlanSettings,
    zone_settings: ZoneSettings,
    proxy: Arc<Proxy>,
    router: Arc<Router>,
    clock: Clock,
    outlets: Outlets,
    /// What was applied last.
    table: ForwardTable,
    routed: Routed,
    told: Set<Notice>,
    has_problems: bool,
    prober: Prober,
    /// The endpoints that were seen to accept a connection; nothing: it has not looked yet.
    accepting: Option<Set<Target>>,
    withheld: Withheld,
}

/// What the router was told last, and what it said.
#[derive(Default)]
struct Routed {
    planned: Planned,
    certificates: Certificates,
    bound: Bound,
    problems: Vec<String>,
    /// Whether where it answers has changed and is to be told.
    is_news: bool,
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
        (served, clock): (Served, Clock),
        outlets: Outlets,
    ) -> Self {
        Self {
            known,
            access,
            plan,
            zone_settings,
            proxy: served.proxy,
            router: served.router,
            clock,
            outlets,
            table: ForwardTable::default(),
            routed: Routed::default(),
            told: Set::new(),
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
        self.plan.router = self.router.places();
        let routes = self.known.routes.iter().flat_map(Map::values);
        self.plan.routed = routes::routed_services(routes, self.known.ingresses.iter().flat_map(Map::values));
        let (Some(services), Some(slices)) = (&self.known.services, &self.known.slices) else { return };
        let zone = Zone::new(services.values(), slices.values(), self.zone_settings.clone());
        let plan = |accepting: &_| plan(services.values(), slices.values(), &self.plan, accepting);
        let accepting = match self.accepting.take() {
            Some(accepting) => accepting,
            // Whoever served before may have let clients in already: who accepts is in the rotation from the start.
            None => accepting_now(&plan(&Set::new()).pending, FIRST_LOOK).await,
        };
        self.table = plan(&accepting);
        self.prober.look_at(&self.table.pending);
        self.accepting = Some(still_there(accepting, &self.table));
        let applied = self.proxy.apply(&self.table);
        self.plan_routes();
        self.route();
        // What the router had is waited for until it is known what it needs.
        let waits_for_routes = !self.known.knows_routes();
        let may_want = |key: &ListenKey| waits_for_routes && self.router.may_take(key);
        self.proxy.forget_leftovers(|key| Some(key.address) == self.plan.dns || may_want(key));
        self.outlets.zone.send_replace(Arc::new(zone));
        debug!(component = "proxy", listeners = self.table.listeners.len(), revision = self.known.revision, "applied");
        self.conclude(&applied.problems);
        self.acknowledge(applied.left);
    }

    fn retry(&mut self) {
        let problems = self.proxy.retry(&self.table);
        self.route();
        if problems.is_empty() && self.routed.problems.is_empty() {
            info!(component = "proxy", "every port is taken");
        }
        self.conclude(&problems);
        if self.routed.is_news {
            self.acknowledge(Leavers::default());
        }
    }

    /// Plans what the router answers for.
    fn plan_routes(&mut self) {
        let known = &self.known;
        if !known.knows_routes() {
            return;
        }
        let certificates = known.certificates();
        let planned = routes::plan(&routes::Objects {
            routes: &values(&known.routes),
            ingresses: &values(&known.ingresses),
            classes: &values(&known.classes),
            services: &values(&known.services),
            slices: &values(&known.slices),
            certificates: &certificates,
            check: &|pair| self.router.check(pair),
        });
        self.routed.certificates = certificates;
        // What is as before stays the same value, with what was made of it.
        if self.routed.planned != planned {
            self.routed.planned = planned;
        }
    }

    /// Has the router answer for what was planned.
    fn route(&mut self) {
        if !self.known.knows_routes() {
            return;
        }
        let taken = self.table.listeners.keys().copied().collect();
        let (bound, problems) = self.router.apply(&self.routed.planned, &self.routed.certificates, &taken);
        if bound != self.routed.bound {
            info!(component = "proxy", http = bound.http, https = bound.https, "the router answers");
            self.routed.is_news = true;
        }
        for problem in problems.iter().filter(|problem| !self.routed.problems.contains(problem)) {
            warn!(component = "proxy", "the router: {problem}");
        }
        (self.routed.bound, self.routed.problems) = (bound, problems);
        self.tell_routes();
    }

    fn tell_routes(&self) {
        let (routes, ingresses) = (values(&self.known.routes), values(&self.known.ingresses));
        let (verdicts, bound) = (&self.routed.planned.verdicts, &self.routed.bound);
        let wanted = status::to_tell(routes, ingresses, verdicts, bound, self.clock.now());
        let wanted: ToTell = wanted.iter().map(of_router).collect_ordered();
        self.outlets.routed.send_if_modified(|last| replace(last, wanted));
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
        let wanted: ToTell = wanted.iter().map(of_balancer).collect_ordered();
        self.outlets.balancers.send_if_modified(|last| replace(last, wanted));
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
            let is_news = std::mem::take(&mut self.routed.is_news);
            // Without a receiver the process is ending.
            self.outlets.acks.send(Ack { revision: self.known.revision, left, is_news }).ok();
        }
        if !self.table.stands_in {
            self.withheld.until = None;
        }
    }

    /// Tells each trouble once, and again when it comes back.
    fn tell(&mut self, problems: &[Problem]) {
        let refused = self.table.refusals.iter().map(Notice::of_refusal);
        let problems = problems.iter().filter(|problem| !problem.error.is_missing_ipv6());
        let of_ingresses = self.routed.planned.verdicts.iter().filter(|(owner, _)| owner.kind == OwnerKind::Ingress);
        let rejected = of_ingresses.flat_map(|(owner, verdict)| {
            verdict.rejections.iter().map(|rejection| Notice::of_rejection(owner, rejection))
        });
        let retried = problems.map(Notice::of_problem).chain(refused);
        let mut current: Set<Notice> = retried.collect();
        self.has_problems = !current.is_empty() || !self.routed.problems.is_empty();
        current.extend(rejected);
        for notice in current.difference(&self.told) {
            warn!(component = "proxy", namespace = notice.namespace, name = notice.name, "{}", notice.message);
            if self.outlets.notices.try_send(notice.clone()).is_err() {
                warn!(component = "proxy", "too many events wait: this one is only in the log");
            }
        }
        self.told = current;
    }
}

/// Those of the accepting endpoints that are in a rotation: one that comes back is looked at again. Pure.
fn still_there(mut accepting: Set<Target>, table: &ForwardTable) -> Set<Target> {
    let current: Set<&Target> = table.rotations.values().flat_map(|rotation| &rotation.targets).collect();
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

/// All objects of a kind; none when it was not listed.
#[allow(clippy::ref_option, reason = "the follower holds the field")]
fn values<K>(known: &Option<Objects<K>>) -> Vec<&K> {
    known.iter().flat_map(Map::values).collect()
}

/// Replaces a value; whether it was another.
fn replace<T: PartialEq>(last: &mut T, wanted: T) -> bool {
    let is_new = *last != wanted;
    *last = wanted;
    is_new
}

fn key<K: Kind>(object: &K) -> (String, String) {
    let metadata = object.metadata();
    (metadata.namespace.clone().unwrap_or_default(), metadata.name.clone().unwrap_or_default())
}

fn revision<K: Kind>(object: &K) -> u64 {
    object.metadata().resource_version.as_deref().map_or(0, number)
}

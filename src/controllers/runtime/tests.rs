//! The loop and the executor on a registry in memory, with controllers made for the purpose.

use super::{
    Action, Controller, Decision, Done, Metrics, Planned, Step, Trigger,
    execute::{Executor, is_moved},
    metrics::Counters,
    run,
};
use crate::{
    api::{
        kinds::config_map::ConfigMaps, meta::ObjectKey, node_port_range::NodePortRange, service_range::ServiceRange,
    },
    base::{
        clock::Clock,
        rng::Rng,
        task::{self, DrainTrigger, drain_signal},
    },
    registry::{Registry, pipeline::Config},
    store::{Limits, Store, memory::MemoryBackend},
    testing,
};
use k8s_openapi::{
    api::core::v1::{ConfigMap, Namespace},
    apimachinery::pkg::apis::meta::v1::ObjectMeta,
};
use std::{
    collections::BTreeSet,
    net::Ipv4Addr,
    sync::{
        Arc, Mutex,
        atomic::{AtomicU32, Ordering::Relaxed},
    },
    time::Duration,
};
use tokio::time::sleep;

fn map(name: &str) -> ConfigMap {
    let metadata = ObjectMeta { namespace: Some("default".into()), name: Some(name.into()), ..ObjectMeta::default() };
    ConfigMap { metadata, ..ConfigMap::default() }
}

/// Notes the ConfigMaps that it sees, and does with each what a function says.
struct Probe {
    seen: Arc<Mutex<BTreeSet<String>>>,
    decide: fn(&ConfigMap) -> Decision,
}

impl Controller for Probe {
    type Key = ObjectKey;
    type Observed = Arc<ConfigMap>;

    fn name(&self) -> &'static str {
        "probe"
    }

    fn triggers(&self) -> Vec<Trigger<ObjectKey>> {
        vec![Trigger::itself::<ConfigMaps>()]
    }

    fn observe(&self, registry: &Registry, key: &ObjectKey) -> Option<Arc<ConfigMap>> {
        self.seen.lock().unwrap().insert(key.name.clone());
        registry.api::<ConfigMaps>().get(key)
    }

    fn decide(&self, observed: &Arc<ConfigMap>) -> Decision {
        (self.decide)(observed)
    }
}

struct Running {
    registry: Registry,
    seen: Arc<Mutex<BTreeSet<String>>>,
    metrics: Metrics,
    _trigger: DrainTrigger,
}

impl Running {
    fn start(registry: Registry, decide: fn(&ConfigMap) -> Decision) -> Self {
        let (seen, metrics) = (Arc::default(), Metrics::default());
        let (trigger, drain) = drain_signal();
        let probe = Probe { seen: Arc::clone(&seen), decide };
        task::spawn("probe", run(probe, registry.clone(), metrics.clone(), drain));
        Self { registry, seen, metrics, _trigger: trigger }
    }

    async fn create(&self, name: &str) {
        self.registry.api::<ConfigMaps>().create(map(name)).await.unwrap();
    }

    fn counters(&self) -> Arc<Counters> {
        self.metrics.of("probe")
    }
}

#[tokio::test(start_paused = true)]
async fn a_watch_that_cannot_keep_up_is_followed_by_a_new_list() {
    let limits = Limits { watcher_changes: 8, ..Limits::default() };
    let store = Store::open_with(MemoryBackend, false, limits).unwrap();
    let config = Config {
        services: ServiceRange::new([10, 245, 0, 0].into(), 16),
        dns_ip: Ipv4Addr::new(10, 245, 0, 10),
        node_ports: NodePortRange::default(),
    };
    let clock = Clock::simulated("2026-01-01T00:00:00Z".parse().unwrap());
    let registry = Registry::new(store, clock, Rng::seeded(1), config);
    let namespace: Namespace = testing::from_yaml("metadata: {name: default}").unwrap();
    registry.api::<crate::api::kinds::namespace::Namespaces>().create(namespace).await.unwrap();
    let running = Running::start(registry, |_| Decision::rest());
    sleep(Duration::from_millis(1)).await;
    // A memory store commits without giving way, so the loop sees none of these before the watch is full.
    for i in 0..50 {
        running.create(&format!("m{i}")).await;
    }
    sleep(Duration::from_millis(1)).await;
    assert_eq!(running.seen.lock().unwrap().len(), 50);
    assert_eq!(running.counters().relists.load(Relaxed), 1);
    running.create("after").await;
    sleep(Duration::from_millis(1)).await;
    assert!(running.seen.lock().unwrap().contains("after"));
}

#[tokio::test(start_paused = true)]
async fn a_pass_that_panics_is_tried_again_and_disturbs_no_other_key() {
    static PANICS: AtomicU32 = AtomicU32::new(0);
    let decide = |map: &ConfigMap| {
        let is_bad = map.metadata.name.as_deref() == Some("bad");
        assert!(!is_bad || PANICS.fetch_add(1, Relaxed) >= 2, "a bug");
        Decision::rest()
    };
    let running = Running::start(testing::registry().await, decide);
    running.create("bad").await;
    running.create("good").await;
    sleep(Duration::from_secs(1)).await;
    assert_eq!(running.counters().panics.load(Relaxed), 2);
    assert_eq!(PANICS.load(Relaxed), 3);
    assert!(running.seen.lock().unwrap().contains("good"));
}

#[tokio::test(start_paused = true)]
async fn a_conflict_is_decided_anew_at_once_and_is_no_failure() {
    let decide = |map: &ConfigMap| {
        let mut decision = Decision::default();
        if map.data.is_none() {
            // Two writes of the same state: the second finds that the world moved.
            let changed = ConfigMap { data: Some([("a".into(), "b".into())].into()), ..map.clone() };
            decision.then(Action::update::<ConfigMaps>(changed.clone()).because("first"));
            let other = ConfigMap { data: Some([("a".into(), "c".into())].into()), ..changed };
            decision.then(Action::update::<ConfigMaps>(other).because("second"));
        }
        decision
    };
    let running = Running::start(testing::registry().await, decide);
    running.create("m").await;
    sleep(Duration::from_millis(1)).await;
    assert_eq!((running.counters().moved.load(Relaxed), running.counters().failures.load(Relaxed)), (1, 0));
    let written = running.registry.api::<ConfigMaps>().get(&ObjectKey::new("default", "m")).unwrap();
    assert_eq!(written.data.as_ref().unwrap()["a"], "b");
}

#[tokio::test(start_paused = true)]
async fn what_is_due_at_a_time_does_not_wait_for_the_back_off() {
    // A set that may make no pods still counts those that become available meanwhile.
    static PASSES: AtomicU32 = AtomicU32::new(0);
    let decide = |map: &ConfigMap| {
        PASSES.fetch_add(1, Relaxed);
        let mut decision = Decision::default();
        decision.look_again_after(Duration::from_secs(7));
        let name = map.metadata.name.as_deref().unwrap_or_default();
        decision.then(Action::create::<ConfigMaps>(self::map(&format!("No name, {name}"))).because("it fails"));
        decision
    };
    let running = Running::start(testing::registry().await, decide);
    running.create("m").await;
    sleep(Duration::from_mins(10)).await;
    let (passes, failures) = (PASSES.load(Relaxed), running.counters().failures.load(Relaxed));
    assert!((85..=120).contains(&passes), "{passes}");
    assert_eq!(u64::from(passes), failures);
}

fn creation(name: &str) -> Planned {
    Action::create::<ConfigMaps>(map(name)).because("test")
}

async fn carried_out(registry: &Registry, steps: Vec<Step>) -> Done {
    Executor::new(registry.clone(), "test", Arc::default()).run(&steps, &[]).await
}

#[tokio::test(start_paused = true)]
async fn a_slow_start_stops_at_the_first_batch_that_fails() {
    let registry = testing::registry().await;
    let names = ["a", "b", "Not A Name", "d", "e", "f", "g", "h"];
    let done = carried_out(&registry, vec![Step::SlowStart(names.iter().map(|n| creation(n)).collect())]).await;
    // Batches of 1 and 2; the second has the bad one, so the remaining five are not tried.
    assert_eq!((done.results.len(), done.skipped), (3, 5));
    assert!(!is_moved(done.error().unwrap()));
    assert_eq!(registry.api::<ConfigMaps>().list("default").items.len(), 2);
}

#[tokio::test(start_paused = true)]
async fn a_step_that_fails_is_the_last_and_a_parallel_one_tries_all() {
    let registry = testing::registry().await;
    let parallel = Step::Parallel(vec![creation("Not A Name"), creation("a")]);
    let done = carried_out(&registry, vec![parallel, creation("b").into(), creation("c").into()]).await;
    assert_eq!((done.results.len(), done.skipped), (2, 2));
    assert!(done.succeeded("test"));
    let names: Vec<_> =
        registry.api::<ConfigMaps>().list("default").items.iter().map(|m| m.metadata.name.clone().unwrap()).collect();
    assert_eq!(names, ["a"]);
}

#[tokio::test(start_paused = true)]
async fn what_is_gone_already_counts_as_deleted_and_another_of_its_name_does_not() {
    let registry = testing::registry().await;
    let api = registry.api::<ConfigMaps>();
    let first = api.create(map("m")).await.unwrap();
    let delete = || Step::from(Action::delete::<ConfigMaps>(&first).because("test"));
    assert!(carried_out(&registry, vec![delete()]).await.error().is_none());
    assert!(carried_out(&registry, vec![delete()]).await.error().is_none());
    api.create(map("m")).await.unwrap();
    let done = carried_out(&registry, vec![delete()]).await;
    assert!(is_moved(done.error().expect("another object has the name")));
    assert!(api.get(&ObjectKey::new("default", "m")).is_some());
}

//! The simulated world: a disk, an engine, a clock, and a control plane over them that can be stopped, killed and started.

use super::{
    backend::SimDisk,
    checkers::{self, Checkers},
    fleet::SharedLoad,
    manifests::{SERVICES, service},
    network::{DataPlane, FakeNetwork},
    number,
    poison::{PLANNED, Poison},
    trace::Line,
};
use crate::{
    api::{
        kinds::{
            config_map::ConfigMaps, deployment::Deployments, pod::Pods, replica_set::ReplicaSets,
            replication_controller::ReplicationControllers, service::Services,
        },
        meta::controller_of,
        node_port_range::NodePortRange,
        pod_state,
    },
    app::{cidr::Plan, nodes::remove_beyond},
    base::{
        clock::Clock,
        rng::Rng,
        supervise::Supervisor,
        task::{self, Drain, DrainTrigger, Group, drain_signal},
    },
    controllers::{self, LeaseTimes, cluster_objects, horizontal_pod_autoscaler::Measures},
    engine::{
        CLUSTER_LABEL, Engine, NetworkSpec, Phase,
        fake::{Behaviour, FakeConfig, FakeEngine, Latencies},
    },
    node::{self, streams::PodStreams},
    registry::Registry,
    store::Store,
};
use k8s_openapi::api::apps::v1::ReplicaSet;
use serde_json::json;
use std::{
    collections::BTreeMap,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering::Relaxed},
    },
    time::Duration,
};
use tokio::sync::watch;

const CLUSTER: &str = "skiff";
const SANDBOX_IMAGE: &str = "skiff:sim";
const DEPLOYER_IMAGE: &str = "skiff:deployer";
/// Simulated time within which everything must have converged: longer than the longest back-off.
const CONVERGE_MAX: Duration = Duration::from_secs(900);
pub(super) const TICK: Duration = Duration::from_secs(1);
/// When all is as wanted, it takes this long until strays are swept and leftovers are collected: then nothing happens any more.
const REST: Duration = Duration::from_secs(100);
/// How long nothing must happen: longer than the node's signs of life are apart.
const QUIET: Duration = Duration::from_secs(70);
/// Simulated time within which a control plane that is asked to end must have ended.
const DRAIN_MAX: Duration = Duration::from_secs(60);

/// What is special about a world.
#[derive(Clone, Debug, Default)]
pub(super) struct Shape {
    /// How many nodes it is shown as; 0: one.
    pub(super) nodes: u32,
    /// What the pods use that an autoscaler looks at, in thousandths of a processor; `None`: nobody measures.
    pub(super) load: Option<Arc<AtomicU64>>,
    /// Whether the controllers run under their Lease, so that there may be a rival.
    pub(super) is_contested: bool,
}

/// The world of one run.
pub(super) struct World {
    pub(super) shape: Shape,
    pub(super) rng: Rng,
    pub(super) engine: FakeEngine,
    pub(super) disk: SimDisk,
    pub(super) data_plane: DataPlane,
    pub(super) clock: Clock,
    plan: Plan,
    running: Option<Running>,
    /// Controllers of another control plane that believes to lead too.
    rival: Option<Rival>,
    /// How many there were.
    rivals: u32,
    /// `None` in a world that is measured.
    checkers: Option<Checkers>,
    trace: Vec<Line>,
}

/// A control plane that runs.
struct Running {
    registry: Registry,
    trigger: DrainTrigger,
    tasks: Vec<tokio::task::JoinHandle<()>>,
    streams: Arc<dyn PodStreams>,
    group: Group,
}

/// The controllers of a second control plane over the same store.
struct Rival {
    trigger: DrainTrigger,
    task: tokio::task::JoinHandle<()>,
    group: Group,
    is_frozen: bool,
    /// Whether what it writes does not reach the store.
    is_cut: Arc<AtomicBool>,
}

/// How the controllers' Lease is kept: as client-go's leader election does by default.
const LEASE: LeaseTimes = LeaseTimes { renew_every: Duration::from_secs(2), lasts_secs: 15 };

impl World {
    /// A world with a control plane in it, everything in it drawn from the seed.
    pub(super) async fn new(seed: u64) -> Self {
        Self::shaped(seed, Shape::default()).await
    }

    /// The same, with something special about it.
    pub(super) async fn shaped(seed: u64, shape: Shape) -> Self {
        let clock = Clock::simulated("2026-01-01T00:00:00Z".parse().unwrap());
        let rng = Rng::seeded(seed);
        let engine = engine(&clock, &rng);
        let network = engine.create_network(&network()).await.unwrap();
        let mut world = Self {
            shape,
            engine,
            disk: SimDisk::default(),
            data_plane: DataPlane::default(),
            plan: Plan::of(&network).unwrap(),
            running: None,
            rival: None,
            rivals: 0,
            checkers: Some(Checkers::default()),
            trace: Vec::new(),
            clock,
            rng,
        };
        world.start().await;
        world.furnish().await;
        world
    }

    /// What the user has beside workloads: a Service for each of them, and settings that their pods read.
    async fn furnish(&self) {
        for name in SERVICES {
            self.registry().api::<Services>().create(service(name)).await.unwrap();
        }
        let settings = json!({"metadata": {"name": "settings", "namespace": "default"}, "data": {"colour": "blue"}});
        self.registry().api::<ConfigMaps>().create(serde_json::from_value(settings).unwrap()).await.unwrap();
    }

    /// The API.
    pub(super) fn registry(&self) -> &Registry {
        &self.running.as_ref().expect("the control plane runs").registry
    }

    /// The tasks of the control plane.
    pub(super) fn group(&self) -> &Group {
        &self.running.as_ref().expect("the control plane runs").group
    }

    /// The streams of its containers.
    pub(super) fn streams(&self) -> Arc<dyn PodStreams> {
        Arc::clone(&self.running.as_ref().expect("the control plane runs").streams)
    }

    /// Writes into the trace what the user does.
    pub(super) fn note(&mut self, what: String) {
        self.trace.push(Line::User(self.clock.now(), what));
    }

    /// What happened.
    pub(super) fn trace(mut self) -> Vec<Line> {
        self.collect();
        std::mem::take(&mut self.trace)
    }

    async fn start(&mut self) {
        let group = Group::default();
        let running = group.clone().enter(self.start_in(group)).await;
        if let Some(checkers) = &mut self.checkers {
            checkers.follow(&running.registry);
        }
        self.running = Some(running);
    }

    /// An API over a disk, with what every cluster has in it, and nobody who follows it.
    async fn open(&self, disk: SimDisk) -> Registry {
        let store = Store::open(disk, false).unwrap();
        let registry = Registry::new(
            store,
            self.clock.clone(),
            self.rng.clone(),
            self.plan.registry_config(NodePortRange::default()),
        );
        let place = cluster_objects::ApiPlace {
            service_ip: self.plan.api_service_ip(),
            node_ip: self.plan.node_ip,
            port: 6443,
        };
        cluster_objects::bring_about(&registry, place).await.unwrap();
        registry
    }

    /// An API of its own in which nothing happens: what writes alone cost is measured in it.
    pub(super) async fn deserted(&self) -> Registry {
        self.open(SimDisk::default()).await
    }

    async fn start_in(&self, group: Group) -> Running {
        let registry = self.open(self.disk.clone()).await;
        remove_beyond(&registry, CLUSTER, self.shape.nodes.max(1)).await.unwrap();
        let (trigger, drain) = drain_signal();
        let engine: Arc<dyn Engine> = Arc::new(self.engine.clone());
        let agent = node::Agent::new(registry.clone(), engine, self.node_config());
        let streams = agent.streams();
        let tasks = self.run(&registry, agent, &drain);
        Running { registry, trigger, tasks, streams, group }
    }

    fn node_config(&self) -> node::NodeConfig {
        node::NodeConfig {
            node_name: CLUSTER.to_owned(),
            nodes: self.shape.nodes.max(1),
            cluster: CLUSTER.to_owned(),
            sandbox_image: watch::channel(Some(SANDBOX_IMAGE.to_owned())).1,
            network: self.plan.network.clone(),
            node_ip: self.plan.node_ip,
            dns_ip: self.plan.dns_ip(),
            pods_max: number("SKIFF_SIM_SCALE").map_or(node::PODS_MAX, |n| u32::try_from(n).unwrap() * 2 + 10),
            net_probe: Arc::new(FakeNetwork(self.engine.clone())),
            tokens: Some(Arc::new(Poison)),
            ..node::NodeConfig::for_test()
        }
    }

    fn run(&self, registry: &Registry, agent: node::Agent, drain: &Drain) -> Vec<tokio::task::JoinHandle<()>> {
        let config = self.controllers_config(registry, "first");
        let (supervisor, events, ended) = (Supervisor::default(), registry.clone(), drain.clone());
        vec![
            supervisor.keep("events", drain.clone(), move || events.clone().run_events(ended.clone())),
            task::spawn("controllers", controllers::run_all(registry.clone(), config, drain.clone())),
            task::spawn("node", agent.run(drain.clone())),
            task::spawn("data-plane", self.data_plane.clone().run(registry.clone(), drain.clone())),
        ]
    }

    fn controllers_config(&self, registry: &Registry, identity: &str) -> controllers::ControllersConfig {
        controllers::ControllersConfig {
            image: Some(watch::channel(Some(DEPLOYER_IMAGE.to_owned())).1),
            measures: self
                .shape
                .load
                .clone()
                .map(|millis| -> Arc<dyn Measures> { Arc::new(SharedLoad { registry: registry.clone(), millis }) }),
            identity: self.shape.is_contested.then(|| identity.to_owned()),
            lease: LEASE,
            ..controllers::ControllersConfig::default()
        }
    }

    /// What happens to a second control plane whose controllers believe to lead: it starts, and takes the Lease from those that act and
    /// learn of it later; it hangs, wherever it is, and goes on with what it had decided when others act already; nothing that it writes reaches
    /// the store for a while, and then what it decides now; it ends, by itself or not.
    pub(super) async fn trouble_rival(&mut self) {
        let Some(mut rival) = self.rival.take() else { return self.start_rival().await };
        let (is_asked, is_killed) = (self.rng.one_in(4), self.rng.one_in(4));
        if !is_asked && !is_killed {
            if self.rng.one_in(2) {
                rival.is_cut.fetch_xor(true, Relaxed);
                self.rival = Some(rival);
                return;
            }
            rival.is_frozen = !rival.is_frozen;
            if rival.is_frozen {
                rival.group.freeze();
            } else {
                rival.group.thaw();
            }
            self.rival = Some(rival);
            return;
        }
        if is_asked {
            rival.group.thaw();
            rival.trigger.fire();
            tokio::time::timeout(DRAIN_MAX, &mut rival.task)
                .await
                .expect("every loop ends when it is told to")
                .unwrap();
        }
        rival.end();
    }

    async fn start_rival(&mut self) {
        self.rivals += 1;
        let (group, (trigger, drain)) = (Group::default(), drain_signal());
        let is_cut = Arc::<AtomicBool>::default();
        let registry = self.registry().partitioned(Arc::clone(&is_cut));
        let config = self.controllers_config(&registry, &format!("rival-{}", self.rivals));
        let run = controllers::run_all(registry, config, drain);
        let of = group.clone();
        let started = async { Rival { trigger, task: task::spawn("rival", run), group: of, is_frozen: false, is_cut } };
        self.rival = Some(group.enter(started).await);
    }

    /// Ends a rival at once, wherever it is.
    pub(super) fn end_rival(&mut self) {
        self.rival.take().into_iter().for_each(Rival::end);
    }

    /// Ends the control plane as Ctrl-C does, and starts it again.
    pub(super) async fn restart(&mut self) {
        self.end_rival();
        let running = self.running.take().expect("the control plane runs");
        running.trigger.fire();
        for task in running.tasks {
            tokio::time::timeout(DRAIN_MAX, task).await.expect("every loop ends when it is told to").unwrap();
        }
        self.collect();
        // What the drained loops left running ends with the process.
        running.group.abort();
        self.start().await;
    }

    /// Ends the control plane as `kill -9` does, wherever it is, and starts it again.
    pub(super) async fn kill_and_start(&mut self) {
        self.end_rival();
        self.running.take().expect("the control plane runs").group.abort();
        self.collect();
        self.start().await;
    }

    /// The control plane hangs for so long, whatever happens meanwhile; then a standby ends it and takes its place.
    pub(super) async fn take_over(&mut self, hung: Duration) {
        self.group().freeze();
        self.tick(hung).await;
        self.kill_and_start().await;
    }

    /// Lets some time go by; the checkers look at every second of it.
    pub(super) async fn pass_time(&mut self) {
        let millis = self.rng.between(0, 8000);
        let whole = millis / 1000;
        for _ in 0..whole {
            self.tick(TICK).await;
        }
        self.tick(Duration::from_millis(millis % 1000)).await;
    }

    /// Lets this much time go by; the checkers see every write in it, and look once.
    pub(super) async fn tick(&mut self, time: Duration) {
        let end = tokio::time::sleep(time);
        tokio::pin!(end);
        loop {
            tokio::select! {
                biased;
                () = arrival(&mut self.checkers) => self.see(false),
                () = &mut end => break,
            }
        }
        self.collect();
        let running = self.running.as_ref().expect("the control plane runs");
        let mut panics = running.group.panics();
        panics.extend(self.rival.iter().flat_map(|rival| rival.group.panics()));
        panics.retain(|panic| !panic.contains(PLANNED));
        assert_eq!(panics, [""; 0], "tasks panicked");
        if let Some(checkers) = &mut self.checkers {
            checkers.look(&running.registry, &self.engine, self.clock.now());
        }
    }

    /// From now on no checker looks: what the world itself costs is measured.
    pub(super) fn stop_watching(&mut self) {
        self.checkers = None;
    }

    /// Forgets what the engine was asked: in a world that is measured nobody reads it.
    pub(super) fn forget(&self) {
        drop(self.engine.take_calls());
    }

    fn see(&mut self, is_users: bool) {
        if let Some(checkers) = &mut self.checkers {
            checkers.see(self.clock.now(), is_users, &mut self.trace);
        }
    }

    /// What was written since the last look was written by the user.
    pub(super) fn user_wrote(&mut self) {
        self.see(true);
    }

    /// Takes over what happened since the last look.
    fn collect(&mut self) {
        self.see(false);
        let calls = self.engine.take_calls();
        if let Some(checkers) = &mut self.checkers {
            checkers.asked(&self.engine, &calls);
        }
        self.trace.extend(calls.into_iter().map(Line::Asked));
    }

    /// Waits until everything is as wanted.
    pub(super) async fn complete(&mut self) {
        let mut waited = Duration::ZERO;
        while let Err(why) = self.settled() {
            assert!(waited < CONVERGE_MAX, "not converged after {CONVERGE_MAX:?}: {why}\n{}", self.show());
            self.tick(TICK).await;
            waited += TICK;
        }
    }

    /// Waits until everything is as wanted, and checks that it stays so.
    pub(super) async fn converge(&mut self) {
        self.complete().await;
        self.tick(REST).await;
        let before = self.trace.len();
        self.tick(QUIET).await;
        if let Err(why) = self.settled() {
            panic!("it did not stay converged: {why}\n{}", self.show());
        }
        let lines = &self.trace[before..];
        checkers::at_rest(self.registry(), &self.engine, &self.data_plane, self.clock.now(), lines);
    }

    /// Whether every Deployment is complete, every set of its own has what it wants, and their pods are what runs.
    pub(super) fn settled(&self) -> Result<(), String> {
        let registry = self.registry();
        let mut wanted = 0;
        for deployment in registry.api::<Deployments>().list("").items {
            let name = deployment.metadata.name.clone().unwrap_or_default();
            let replicas = deployment.spec.replicas.unwrap_or(1);
            let status = deployment.status.clone().unwrap_or_default();
            let seen = [status.updated_replicas, status.available_replicas, status.replicas].map(|n| n.unwrap_or(0));
            if status.observed_generation != deployment.metadata.generation || seen != [replicas; 3] {
                return Err(format!("{name} wants {replicas} and has {seen:?}"));
            }
            wanted += usize::try_from(replicas).unwrap();
        }
        wanted += self.settled_sets()?;
        let pods = registry.api::<Pods>().list("default").items;
        let ready = pods.iter().filter(|p| pod_state::is_pod_ready(p)).count();
        if pods.len() != wanted || ready != wanted {
            return Err(format!("{wanted} pods are wanted, {} are there, {ready} are ready", pods.len()));
        }
        // Who looks into a pod that stays may go on looking.
        let is_wanted =
            |c: &&crate::engine::Container| c.phase == Phase::Running && !c.name.starts_with("k8s_debugger-");
        let running = self.engine.containers().iter().filter(is_wanted).count();
        if running != wanted * 2 {
            return Err(format!("{} containers are wanted, {running} run", wanted * 2));
        }
        Ok(())
    }

    /// Whether each set that belongs to no one has its pods; how many that are.
    fn settled_sets(&self) -> Result<usize, String> {
        let sets = self.registry().api::<ReplicaSets>().list("default").items;
        let alone = sets.iter().filter(|set| controller_of(&set.metadata).is_none());
        let of_status = |set: &ReplicaSet| set.status.as_ref().and_then(|s| s.available_replicas).unwrap_or(0);
        let mut all: Vec<_> = alone.map(|s| (&s.metadata.name, s.spec.replicas.unwrap_or(1), of_status(s))).collect();
        let controllers = self.registry().api::<ReplicationControllers>().list("default").items;
        all.extend(controllers.iter().map(|rc| {
            let available = rc.status.as_ref().and_then(|s| s.available_replicas).unwrap_or(0);
            (&rc.metadata.name, rc.spec.as_ref().and_then(|s| s.replicas).unwrap_or(1), available)
        }));
        let mut wanted = 0;
        for (name, replicas, available) in all {
            if available != replicas {
                return Err(format!("{name:?} wants {replicas} and has {available} available"));
            }
            wanted += usize::try_from(replicas).unwrap();
        }
        Ok(wanted)
    }

    /// What a person would look at.
    fn show(&self) -> String {
        let pods = self.registry().api::<Pods>().list("").items;
        let pods = pods
            .iter()
            .map(|p| format!("pod {:?} {}", p.metadata.name, serde_json::to_string(&p.status).unwrap_or_default()));
        let containers = self.engine.containers();
        let containers = containers.iter().map(|c| format!("container {} {:?}", c.name, c.phase));
        let last = self.trace.iter().rev().take(40).rev().map(|line| line.to_string().chars().take(200).collect());
        last.chain(pods).chain(containers).collect::<Vec<_>>().join("\n")
    }
}

impl Rival {
    fn end(self) {
        assert_eq!(self.group.panics(), [""; 0], "tasks of a rival panicked");
        self.group.abort();
    }
}

impl Drop for World {
    /// The replay of a seed that fails shows all that happened.
    fn drop(&mut self) {
        if std::thread::panicking() && super::is_replay() {
            // Without the checkers: one of them has just panicked.
            self.trace.extend(self.engine.take_calls().into_iter().map(Line::Asked));
            for line in &self.trace {
                eprintln!("{line}");
            }
        }
    }
}

/// Waits for a change that the checkers have not seen yet.
async fn arrival(checkers: &mut Option<Checkers>) {
    match checkers {
        Some(checkers) => checkers.arrival().await,
        None => std::future::pending().await,
    }
}

fn engine(clock: &Clock, rng: &Rng) -> FakeEngine {
    let config =
        FakeConfig { cluster: CLUSTER.to_owned(), latencies: Latencies::DOCKER, call_bound: Duration::from_secs(30) };
    let engine = FakeEngine::new(clock.clone(), rng.clone(), config);
    // Its sandboxes say when the pod's files are there.
    engine.add_image(SANDBOX_IMAGE, Behaviour { output: vec!["ready".to_owned()], ..Behaviour::pause() });
    // Deployers only end, soon or later, and not always well.
    let chance = rng.clone();
    engine.add_image_fn(
        DEPLOYER_IMAGE,
        Arc::new(move |_| {
            let after = Duration::from_millis(chance.between(100, 9000));
            Behaviour::exits(after, i32::from(chance.one_in(3)))
        }),
    );
    engine.add_image("app:1", Behaviour::server());
    engine.add_image("app:2", Behaviour::server());
    engine.add_image("app:slow", Behaviour::ready_after(Some(Duration::from_secs(7))));
    engine.add_image("app:stubborn", Behaviour::ignores_stop());
    engine.add_remote_image("app:remote", Behaviour::server(), 2);
    engine.add_image("app:crash", Behaviour::exits(Duration::from_secs(1), 1));
    engine.add_image("app:unready", Behaviour::ready_after(None));
    engine.add_image("app:broken", Behaviour::cannot_start("exec: \"/app\": no such file or directory"));
    engine
}

fn network() -> NetworkSpec {
    NetworkSpec {
        name: CLUSTER.to_owned(),
        labels: BTreeMap::from([(CLUSTER_LABEL.to_owned(), CLUSTER.to_owned())]),
        subnet: "10.244.0.0/15".to_owned(),
        ip_range: "10.244.0.0/16".to_owned(),
        gateway: "10.244.0.1".parse().unwrap(),
        bridge: CLUSTER.to_owned(),
    }
}

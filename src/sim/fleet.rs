//! A machine shown as several nodes, with budgets, an autoscaler and a standby: nodes are drained, go and come; pods are evicted; the load moves;
//! a control plane hangs and another takes its place, while what the first had asked of the engine still happens; another's controllers
//! believe to lead too, and hang and go on. No eviction breaks a
//! budget, and the autoscaler stays within its bounds; in the end every node has its pods and everything its size.

use super::{
    each_in_parallel, failure, faults, harm,
    manifests::one_of,
    seeds, simulate,
    world::{Shape, TICK, World},
};
use crate::{
    api::{
        kind::TypedKind,
        kinds::{
            config_map::ConfigMaps, daemon_set::DaemonSets, deployment::Deployments,
            horizontal_pod_autoscaler::HorizontalPodAutoscalers, node::Nodes, pod::Pods,
            pod_disruption_budget::PodDisruptionBudgets, stateful_set::StatefulSets,
        },
        meta::ObjectKey,
        pod_state,
        status::ApiError,
        usage::{ContainerUsage, PodUsage},
    },
    controllers::horizontal_pod_autoscaler::Measures,
    engine::Phase,
    registry::{
        Registry,
        pipeline::{DeleteOptions, Propagation},
    },
    server::evict,
};
use async_trait::async_trait;
use k8s_openapi::{
    api::core::v1::{ConfigMap, Pod, PodTemplateSpec},
    apimachinery::pkg::apis::meta::v1::OwnerReference,
};
use serde_json::{Value, json};
use std::{
    collections::BTreeSet,
    sync::{
        Arc,
        atomic::{AtomicU64, AtomicUsize, Ordering::Relaxed},
    },
    time::Duration,
};

/// Seeds of an ordinary test run.
const SEEDS: u64 = 8;
const STEPS: usize = 30;
/// How long everything may take to come to rest: an autoscaler goes down after five minutes.
const REST_MAX: u32 = 4000;
const NODES: u32 = 3;
const WEB: &str = "front";
const SET: &str = "db";
const DAEMON: &str = "log";
const LITTER: &str = "litter-";
/// What a pod of the set asks for, in thousandths of a processor; the autoscaler aims at all of it.
const REQUEST: u64 = 100;
const SIZES: (i32, i32) = (1, 5);
/// The load at the end, and the pods that it calls for.
const LAST_LOAD: (u64, i32) = (250, 3);

/// What the pods of the set use: a load that they share.
#[derive(Debug)]
pub(super) struct SharedLoad {
    pub(super) registry: Registry,
    pub(super) millis: Arc<AtomicU64>,
}

#[async_trait]
impl Measures for SharedLoad {
    async fn pods(&self) -> Result<Vec<PodUsage>, String> {
        let pods = ready(&self.registry, SET);
        let each = self.millis.load(Relaxed) * 1_000_000 / u64::try_from(pods.len().max(1)).unwrap_or(1);
        let at = self.registry.clock().now();
        let usage = |pod: &Arc<Pod>| PodUsage {
            key: ObjectKey::of(&pod.metadata),
            uid: pod.metadata.uid.clone().unwrap_or_default(),
            node: pod.spec.as_ref().and_then(|s| s.node_name.clone()).unwrap_or_default(),
            at,
            window: Duration::from_secs(15),
            containers: vec![ContainerUsage {
                name: "app".to_owned(),
                id: String::new(),
                image: String::new(),
                started_at: None,
                cpu_nano_cores: each,
                cpu_nanos: 0,
                memory_bytes: 0,
                working_set_bytes: 0,
                rss_bytes: 0,
                disks: Vec::new(),
            }],
        };
        Ok(pods.iter().map(usage).collect())
    }
}

/// The pods of an app.
fn of_app(registry: &Registry, app: &str) -> Vec<Arc<Pod>> {
    let mut pods = registry.api::<Pods>().list("default").items;
    let is_its = |pod: &Arc<Pod>| pod.metadata.labels.as_ref().and_then(|l| l.get("app")).is_some_and(|a| a == app);
    pods.retain(is_its);
    pods
}

/// Those that are ready and stay.
fn ready(registry: &Registry, app: &str) -> Vec<Arc<Pod>> {
    let mut pods = of_app(registry, app);
    pods.retain(|pod| pod_state::is_pod_ready(pod) && pod.metadata.deletion_timestamp.is_none());
    pods
}

#[derive(Clone, Copy, Debug)]
enum Action {
    MoveLoad,
    ScaleWeb,
    UpdateWeb,
    UpdateSet,
    Evict,
    Drain,
    Uncordon,
    ChangeNodes,
    DeleteNode,
    DeletePod,
    Litter,
    KillSomething,
    HangAndTakeOver,
    TroubleRival,
    RestartSkiff,
    KillSkiff,
    RestartDocker,
    FillDisk,
    EmptyDisk,
}

const ACTIONS: &[Action] = &[
    Action::MoveLoad,
    Action::MoveLoad,
    Action::MoveLoad,
    Action::ScaleWeb,
    Action::UpdateWeb,
    Action::UpdateSet,
    Action::Evict,
    Action::Evict,
    Action::Evict,
    Action::Drain,
    Action::Drain,
    Action::Uncordon,
    Action::Uncordon,
    Action::ChangeNodes,
    Action::DeleteNode,
    Action::DeletePod,
    Action::Litter,
    Action::Litter,
    Action::KillSomething,
    Action::KillSomething,
    Action::HangAndTakeOver,
    Action::HangAndTakeOver,
    Action::TroubleRival,
    Action::TroubleRival,
    Action::TroubleRival,
    Action::TroubleRival,
    Action::RestartSkiff,
    Action::KillSkiff,
    Action::RestartDocker,
    Action::FillDisk,
    Action::EmptyDisk,
    Action::EmptyDisk,
];

fn template(app: &str) -> Value {
    let resources = json!({ "requests": { "cpu": format!("{REQUEST}m") } });
    json!({
        "metadata": { "labels": { "app": app } },
        "spec": { "containers": [{ "name": "app", "image": "app:1", "resources": resources }] },
    })
}

fn selected(app: &str) -> Value {
    json!({ "matchLabels": { "app": app } })
}

struct User {
    world: World,
    load: Arc<AtomicU64>,
    /// Objects that were to become litter, and could not.
    kept: AtomicUsize,
}

impl User {
    async fn new(seed: u64) -> Self {
        let load = Arc::new(AtomicU64::new(REQUEST));
        let shape = Shape { nodes: NODES, load: Some(Arc::clone(&load)), is_contested: true };
        let user = Self { world: World::shaped(seed, shape).await, load, kept: AtomicUsize::new(0) };
        user.world.engine.land_calls();
        let named = |name: &str| json!({ "name": name, "namespace": "default" });
        let spec = |app: &str, replicas: Value| json!({ "replicas": replicas, "serviceName": app, "selector": selected(app), "template": template(app) });
        let plain = |app: &str| json!({ "replicas": 3, "selector": selected(app), "template": template(app) });
        user.create::<Deployments>(json!({ "metadata": named(WEB), "spec": plain(WEB) })).await;
        user.create::<StatefulSets>(json!({ "metadata": named(SET), "spec": spec(SET, json!(1)) })).await;
        let daemon = json!({ "selector": selected(DAEMON), "template": template(DAEMON) });
        user.create::<DaemonSets>(json!({ "metadata": named(DAEMON), "spec": daemon })).await;
        let budget = json!({ "maxUnavailable": 1, "selector": selected(WEB) });
        user.create::<PodDisruptionBudgets>(json!({ "metadata": named(WEB), "spec": budget })).await;
        let budget = json!({ "minAvailable": 1, "selector": selected(SET) });
        user.create::<PodDisruptionBudgets>(json!({ "metadata": named(SET), "spec": budget })).await;
        let target = json!({ "type": "Utilization", "averageUtilization": 100 });
        let scaler = json!({
            "scaleTargetRef": { "apiVersion": "apps/v1", "kind": "StatefulSet", "name": SET },
            "minReplicas": SIZES.0, "maxReplicas": SIZES.1,
            "metrics": [{ "type": "Resource", "resource": { "name": "cpu", "target": target } }],
        });
        user.create::<HorizontalPodAutoscalers>(json!({ "metadata": named(SET), "spec": scaler })).await;
        user
    }

    async fn create<K: TypedKind>(&self, object: Value) {
        self.world.registry().api::<K>().create(serde_json::from_value(object).unwrap()).await.unwrap();
    }

    async fn step(&mut self) {
        let action = *one_of(&self.world, ACTIONS).unwrap();
        self.world.note(format!("{action:?}"));
        let seconds = self.world.rng.between(1, 20);
        if matches!(action, Action::RestartSkiff | Action::KillSkiff | Action::HangAndTakeOver | Action::ChangeNodes) {
            // What is new at a start must be written: nobody starts on a full disk.
            self.world.disk.set_full(false);
        }
        let written = match action {
            Action::TroubleRival => return self.world.trouble_rival().await,
            Action::RestartSkiff => return self.world.restart().await,
            Action::KillSkiff => return self.world.kill_and_start().await,
            Action::HangAndTakeOver => return self.world.take_over(Duration::from_secs(seconds)).await,
            Action::ChangeNodes => {
                let nodes = u32::try_from(self.world.rng.between(1, u64::from(NODES) + 1)).unwrap();
                return self.show_nodes(nodes).await;
            }
            Action::RestartDocker => {
                return self.world.engine.restart_daemon(Duration::from_secs(3), self.world.rng.one_in(2));
            }
            Action::KillSomething => return harm::kill(&self.world),
            Action::FillDisk => return self.world.disk.set_full(true),
            Action::EmptyDisk => return self.world.disk.set_full(false),
            Action::MoveLoad => return self.load.store(self.world.rng.between(0, 700), Relaxed),
            Action::Evict => self.evict_any().await,
            Action::Drain => self.drain().await,
            _ => self.write(action).await,
        };
        self.world.user_wrote();
        if let Err(err) = written {
            self.world.note(format!("refused: {err}"));
        }
    }

    /// Starts the control plane anew with so many nodes.
    async fn show_nodes(&mut self, nodes: u32) {
        self.world.shape.nodes = nodes;
        self.world.restart().await;
    }

    async fn write(&self, action: Action) -> Result<(), ApiError> {
        let image = *one_of(&self.world, &["app:1", "app:2", "app:slow", "app:unready"]).unwrap();
        let n = i32::try_from(self.world.rng.between(0, 5)).unwrap();
        match action {
            Action::ScaleWeb => self.change::<Deployments>(WEB, |d| d.spec.replicas = Some(n)).await,
            Action::UpdateWeb => self.set_image::<Deployments>(WEB, image, |d| &mut d.spec.template).await,
            Action::UpdateSet => self.set_image::<StatefulSets>(SET, image, |s| &mut s.spec.template).await,
            Action::Uncordon => self.cordon(None, false).await,
            Action::DeleteNode => self.delete::<Nodes>("").await,
            Action::Litter => {
                let littered = self.litter().await;
                if littered.is_err() {
                    self.kept.fetch_add(2, Relaxed);
                }
                littered
            }
            _ => self.delete::<Pods>("default").await,
        }
    }

    async fn change<K: TypedKind>(
        &self,
        name: &str,
        change: impl Fn(&mut K::Object) + Send + Sync,
    ) -> Result<(), ApiError> {
        self.world.registry().api::<K>().modify(&ObjectKey::new("default", name), change).await.map(drop)
    }

    async fn set_image<K: TypedKind>(
        &self,
        name: &str,
        image: &str,
        template: fn(&mut K::Object) -> &mut PodTemplateSpec,
    ) -> Result<(), ApiError> {
        let set = |object: &mut K::Object| {
            template(object).spec.as_mut().unwrap().containers[0].image = Some(image.to_owned());
        };
        self.change::<K>(name, set).await
    }

    /// Deletes any object of a kind.
    async fn delete<K: TypedKind>(&self, namespace: &str) -> Result<(), ApiError> {
        let api = self.world.registry().api::<K>();
        let all = api.list(namespace).items;
        let Some(one) = one_of(&self.world, &all) else { return Ok(()) };
        api.delete(&ObjectKey::of(crate::api::object::Object::meta(&**one)), &DeleteOptions::default()).await
    }

    /// Makes objects that own each other and deletes one or both, and one whose owner never was: all of them are to go.
    async fn litter(&self) -> Result<(), ApiError> {
        let maps = self.world.registry().api::<ConfigMaps>();
        let owner = |name: &str, uid: &str| OwnerReference {
            api_version: "v1".to_owned(),
            kind: "ConfigMap".to_owned(),
            name: name.to_owned(),
            uid: uid.to_owned(),
            block_owner_deletion: Some(true),
            controller: None,
        };
        let make = |owners: Vec<OwnerReference>| {
            let mut map = ConfigMap::default();
            map.metadata.namespace = Some("default".to_owned());
            map.metadata.generate_name = Some(LITTER.to_owned());
            map.metadata.owner_references = Some(owners);
            maps.create(map)
        };
        make(vec![owner("nobody", "never-was")]).await?;
        let first = make(Vec::new()).await?;
        let of = |map: &ConfigMap| {
            owner(map.metadata.name.as_deref().unwrap_or_default(), map.metadata.uid.as_deref().unwrap_or_default())
        };
        let second = make(vec![of(&first)]).await?;
        let close = |map: &mut ConfigMap| map.metadata.owner_references = Some(vec![of(&second)]);
        maps.modify(&ObjectKey::of(&first.metadata), close).await?;
        let ways = [Propagation::Background, Propagation::Foreground];
        for map in [&first, &second].into_iter().take(1 + usize::from(self.world.rng.one_in(2))) {
            let propagation = one_of(&self.world, &ways).copied();
            let options = DeleteOptions { propagation, ..DeleteOptions::default() };
            maps.delete(&ObjectKey::of(&map.metadata), &options).await?;
        }
        Ok(())
    }

    /// Cordons a node, or all, or lets pods in again.
    async fn cordon(&self, only: Option<&str>, is: bool) -> Result<(), ApiError> {
        let nodes = self.world.registry().api::<Nodes>();
        for node in nodes.list("").items {
            let key = ObjectKey::of(&node.metadata);
            if only.is_none_or(|name| name == key.name) {
                nodes.modify(&key, |node| node.spec.get_or_insert_default().unschedulable = is.then_some(true)).await?;
            }
        }
        Ok(())
    }

    /// Cordons a node and evicts its pods, once each.
    async fn drain(&mut self) -> Result<(), ApiError> {
        self.world.tick(TICK).await;
        let nodes = self.world.registry().api::<Nodes>().list("").items;
        let Some(name) = one_of(&self.world, &nodes).and_then(|node| node.metadata.name.clone()) else { return Ok(()) };
        self.cordon(Some(&name), true).await?;
        let mut pods = of_app(self.world.registry(), WEB);
        pods.extend(of_app(self.world.registry(), SET));
        pods.retain(|pod| pod.spec.as_ref().is_some_and(|spec| spec.node_name.as_deref() == Some(&*name)));
        let mut last = Ok(());
        for pod in pods {
            last = self.evict(&pod).await.and(last);
        }
        last
    }

    async fn evict_any(&mut self) -> Result<(), ApiError> {
        self.world.tick(TICK).await;
        let mut pods = of_app(self.world.registry(), WEB);
        pods.extend(of_app(self.world.registry(), SET));
        match one_of(&self.world, &pods) {
            Some(pod) => self.evict(pod).await,
            None => Ok(()),
        }
    }

    /// Evicts a pod. One that serves goes only where its budget keeps enough beside it.
    async fn evict(&self, pod: &Pod) -> Result<(), ApiError> {
        let registry = self.world.registry();
        let app = pod.metadata.labels.as_ref().unwrap()["app"].clone();
        let had = ready(registry, &app);
        evict(registry, &ObjectKey::of(&pod.metadata), DeleteOptions::default()).await?;
        let least = if app == WEB { self.web_size() - 1 } else { 1 };
        let left = i32::try_from(ready(registry, &app).len()).unwrap();
        let served = had.iter().any(|had| had.metadata.uid == pod.metadata.uid);
        assert!(!served || left >= least, "the eviction of {:?} leaves {left} of {least}", pod.metadata.name);
        Ok(())
    }

    fn web_size(&self) -> i32 {
        let web = self.world.registry().api::<Deployments>().get(&ObjectKey::new("default", WEB)).unwrap();
        web.spec.replicas.unwrap()
    }

    /// The autoscaler never leaves its bounds.
    fn check(&self) {
        let set = self.world.registry().api::<StatefulSets>().get(&ObjectKey::new("default", SET)).unwrap();
        let replicas = set.spec.replicas.unwrap();
        assert!((SIZES.0..=SIZES.1).contains(&replicas), "{SET} is scaled to {replicas}");
    }

    /// Asks for something sound, and waits until all is as it should be.
    async fn settle(&mut self) {
        self.world.disk.set_full(false);
        self.show_nodes(NODES).await;
        self.load.store(LAST_LOAD.0, Relaxed);
        self.cordon(None, false).await.unwrap();
        self.change::<Deployments>(WEB, |d| d.spec.replicas = Some(3)).await.unwrap();
        self.set_image::<Deployments>(WEB, "app:2", |d| &mut d.spec.template).await.unwrap();
        self.set_image::<StatefulSets>(SET, "app:2", |s| &mut s.spec.template).await.unwrap();
        // A pod of a template that never becomes ready holds an ordered update up, unless it is of an abandoned revision.
        for pod in of_app(self.world.registry(), SET) {
            if pod.spec.as_ref().unwrap().containers[0].image.as_deref() == Some("app:unready") {
                let key = ObjectKey::of(&pod.metadata);
                drop(self.world.registry().api::<Pods>().delete(&key, &DeleteOptions::default()).await);
            }
        }
        self.world.user_wrote();
        for _ in 0..REST_MAX {
            if self.settled().is_ok() {
                break;
            }
            self.world.tick(Duration::from_secs(1)).await;
        }
        self.world.tick(Duration::from_secs(100)).await;
        self.settled().unwrap_or_else(|why| panic!("it does not come to rest: {why}"));
    }

    fn settled(&self) -> Result<(), String> {
        let registry = self.world.registry();
        let nodes: BTreeSet<_> =
            registry.api::<Nodes>().list("").items.iter().map(|n| n.metadata.name.clone()).collect();
        let mut n_pods = 0;
        for (app, wanted) in [(WEB, 3), (SET, LAST_LOAD.1), (DAEMON, i32::try_from(NODES).unwrap())] {
            let (pods, ready) = (of_app(registry, app), ready(registry, app));
            let is_new = |pod: &Arc<Pod>| {
                app == DAEMON || pod.spec.as_ref().unwrap().containers[0].image.as_deref() == Some("app:2")
            };
            let right = ready.iter().filter(|pod| is_new(pod)).count();
            if (i32::try_from(right), pods.len()) != (Ok(wanted), right) {
                return Err(format!(
                    "{app} is to have {wanted} pods: {} are there, {right} are ready and new",
                    pods.len()
                ));
            }
            let on: Vec<_> = pods.iter().map(|pod| pod.spec.as_ref().unwrap().node_name.clone()).collect();
            if let Some(stray) = on.iter().find(|name| !nodes.contains(*name)) {
                return Err(format!("a pod of {app} is on {stray:?}, of {nodes:?}"));
            }
            if app == DAEMON && on.iter().collect::<BTreeSet<_>>().len() != nodes.len() {
                return Err(format!("{app} is on {on:?}, of {nodes:?}"));
            }
            n_pods += pods.len();
        }
        let is_litter =
            |map: &Arc<ConfigMap>| map.metadata.name.as_deref().is_some_and(|name| name.starts_with(LITTER));
        let litter = registry.api::<ConfigMaps>().list("default").items.iter().filter(|map| is_litter(map)).count();
        // What a full disk kept from being a circle, or from being deleted, may stay.
        if litter > self.kept.load(Relaxed) {
            return Err(format!("{litter} objects are left that nobody wants"));
        }
        for (budget, allowed) in [(WEB, 1), (SET, LAST_LOAD.1 - 1)] {
            let budget = registry.api::<PodDisruptionBudgets>().get(&ObjectKey::new("default", budget)).unwrap();
            let told = budget.status.as_ref().and_then(|s| s.disruptions_allowed);
            if told != Some(allowed) {
                return Err(format!("{:?} allows {told:?}, not {allowed}", budget.metadata.name));
            }
        }
        let hpa = registry.api::<HorizontalPodAutoscalers>().get(&ObjectKey::new("default", SET)).unwrap();
        let told = hpa.status.as_ref().map(|s| (s.current_replicas, s.desired_replicas));
        if told != Some((Some(LAST_LOAD.1), LAST_LOAD.1)) {
            return Err(format!("the autoscaler says {told:?}"));
        }
        let running = self.world.engine.containers().iter().filter(|c| c.phase == Phase::Running).count();
        if running == n_pods * 2 { Ok(()) } else { Err(format!("{running} containers run for {n_pods} pods")) }
    }
}

async fn story(seed: u64) {
    let mut user = User::new(seed).await;
    if seed.is_multiple_of(2) {
        faults::arm(&user.world);
    }
    for _ in 0..STEPS {
        user.step().await;
        user.world.pass_time().await;
        user.check();
    }
    faults::disarm(&user.world);
    user.settle().await;
}

#[test]
fn nodes_go_and_come_and_budgets_and_bounds_hold() {
    each_in_parallel(seeds(SEEDS), |seed| {
        let why = failure(|| simulate(story(seed)))?;
        Some(format!("seed {seed} fails: {why}"))
    });
}

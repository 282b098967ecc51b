//! The controllers on a registry in memory, under paused time, with a stand-in for the node agent.

mod garbage;
mod workloads;

use super::{ControllersConfig, run_all};
use crate::{
    api::{
        agreements::SERVICE_NAME_LABEL,
        kind::TypedKind,
        kinds::{
            config_map::ConfigMaps, deployment::Deployments, endpoint_slice::EndpointSlices, endpoints::EndpointsKind,
            event::Events, namespace::Namespaces, node::Nodes, pod::Pods, replica_set::ReplicaSets,
            replication_controller::ReplicationControllers, service::Services, service_account::ServiceAccounts,
        },
        meta::ObjectKey,
        pod_state,
    },
    base::task::{self, DrainTrigger, drain_signal},
    registry::{
        Registry,
        pipeline::{DeleteOptions, Propagation},
    },
    testing,
};
use k8s_openapi::{
    api::{
        apps::v1::Deployment,
        core::v1::{ConfigMap, Event, Namespace, Node, NodeStatus, Pod, PodCondition, Service},
        discovery::v1::EndpointSlice,
    },
    apimachinery::pkg::apis::meta::v1::Time,
};
use std::{sync::Arc, time::Duration};
use tokio::time::{Instant, sleep, timeout};

/// A registry with all controllers, and a node agent that makes every assigned pod ready.
pub(super) struct Cluster {
    pub(super) registry: Registry,
    pub(super) config: ControllersConfig,
    _trigger: DrainTrigger,
}

impl Cluster {
    /// Everything runs; pods become ready as soon as they are assigned.
    pub(super) async fn start() -> Self {
        let cluster = Self::without_agent().await;
        let registry = cluster.registry.clone();
        task::spawn("agent", agent(registry));
        cluster
    }

    /// Everything but the node agent runs.
    pub(super) async fn without_agent() -> Self {
        Self::without_agent_as(ControllersConfig::default()).await
    }

    /// The same, with these settings.
    pub(super) async fn without_agent_as(config: ControllersConfig) -> Self {
        let registry = testing::registry().await;
        let (trigger, drain) = drain_signal();
        let config = ControllersConfig { root_ca: "a certificate".into(), ..config };
        let node = testing::from_yaml("{metadata: {name: skiff, labels: {kubernetes.io/hostname: skiff}}}").unwrap();
        let node: Arc<Node> = registry.api::<Nodes>().create(node).await.unwrap();
        let capacity = testing::from_yaml("{allocatable: {cpu: '4', memory: 8Gi, pods: '110'}}").unwrap();
        let capable = |node: &mut Node| node.status = Some(NodeStatus::clone(&capacity));
        registry.api::<Nodes>().modify_status(&ObjectKey::of(&node.metadata), capable).await.unwrap();
        task::spawn("events", registry.clone().run_events(drain.clone()));
        task::spawn("controllers", run_all(registry.clone(), config.clone(), drain));
        Self { registry, config, _trigger: trigger }
    }

    /// Creates an object from YAML.
    pub(super) async fn create<K: TypedKind>(&self, yaml: &str) -> Arc<K::Object> {
        self.registry.api::<K>().create(testing::from_yaml(yaml).unwrap()).await.unwrap()
    }

    pub(super) fn get<K: TypedKind>(&self, namespace: &str, name: &str) -> Option<Arc<K::Object>> {
        self.registry.api::<K>().get(&ObjectKey::new(namespace, name))
    }

    pub(super) fn list<K: TypedKind>(&self) -> Vec<Arc<K::Object>> {
        self.registry.api::<K>().list("").items
    }

    pub(super) async fn delete<K: TypedKind>(&self, namespace: &str, name: &str) {
        let key = ObjectKey::new(namespace, name);
        self.registry.api::<K>().delete(&key, &DeleteOptions::default()).await.unwrap();
    }

    /// The messages of all events of this reason, in the order of their names' creation.
    pub(super) fn events(&self, reason: &str) -> Vec<String> {
        let events = self.list::<Events>();
        let of_reason = events.iter().filter(|e| e.reason.as_deref() == Some(reason));
        of_reason.map(|e| e.message.clone().unwrap_or_default()).collect()
    }
}

/// Waits until `is` holds, for a minute of paused time at most; how long it took.
pub(super) async fn eventually(what: &str, is: impl Fn() -> bool) -> Duration {
    let start = Instant::now();
    let poll = async {
        while !is() {
            sleep(Duration::from_millis(1)).await;
        }
    };
    timeout(Duration::from_mins(1), poll).await.unwrap_or_else(|_| panic!("it never happened: {what}"));
    start.elapsed()
}

/// Lets everything that is ready to run, run.
pub(super) async fn settle() {
    sleep(Duration::from_millis(100)).await;
}

/// Makes assigned pods ready and removes marked ones, as the node agent does with containers.
async fn agent(registry: Registry) {
    let api = registry.api::<Pods>();
    let mut watch = api.watch(registry.store().revision()).unwrap();
    let mut ip = 1u8;
    while let Ok(change) = watch.next().await {
        let Some(pod) = change.after.as_ref().map(|entry| api.object(entry)) else { continue };
        let key = ObjectKey::of(&pod.metadata);
        sleep(Duration::from_millis(1)).await;
        if pod.metadata.deletion_timestamp.is_some() {
            let uid = pod.metadata.uid.clone();
            let options = DeleteOptions { grace_period_secs: Some(0), uid, ..DeleteOptions::default() };
            drop(api.delete(&key, &options).await);
        } else if is_to_start(&pod) {
            ip = ip.wrapping_add(1);
            let now = Time(registry.clock().now());
            drop(api.modify_status(&key, |pod| make_ready(pod, ip, &now)).await);
        }
    }
}

fn is_to_start(pod: &Pod) -> bool {
    let is_assigned = pod.spec.as_ref().is_some_and(|s| s.node_name.is_some());
    is_assigned && pod.status.as_ref().and_then(|s| s.phase.as_deref()) == Some("Pending")
}

/// Marks a pod as running and ready, at this address.
pub(super) fn make_ready(pod: &mut Pod, ip: u8, now: &Time) {
    let status = pod.status.get_or_insert_default();
    status.phase = Some("Running".into());
    status.pod_ip = Some(format!("10.244.0.{ip}"));
    status.pod_ips = Some(vec![k8s_openapi::api::core::v1::PodIP { ip: format!("10.244.0.{ip}") }]);
    set_condition(pod, "Ready", "True", now);
}

/// Sets a condition of a pod.
pub(super) fn set_condition(pod: &mut Pod, type_: &str, value: &str, now: &Time) {
    let conditions = pod.status.get_or_insert_default().conditions.get_or_insert_default();
    conditions.retain(|c| c.type_ != type_);
    conditions.push(PodCondition {
        type_: type_.into(),
        status: value.into(),
        last_transition_time: Some(now.clone()),
        ..PodCondition::default()
    });
}

/// A Deployment `web` in `default`.
pub(super) fn web(replicas: i32, image: &str) -> String {
    format!(
        "
metadata: {{name: web, namespace: default}}
spec:
  replicas: {replicas}
  selector: {{matchLabels: {{app: web}}}}
  template:
    metadata: {{labels: {{app: web}}}}
    spec: {{containers: [{{name: c, image: {image}}}]}}
"
    )
}

fn is_rolled_out(d: &Deployment) -> bool {
    let status = d.status.clone().unwrap_or_default();
    let wanted = d.spec.replicas.unwrap();
    let n = |n: Option<i32>| n.unwrap_or(0);
    status.observed_generation >= d.metadata.generation
        && n(status.updated_replicas) == wanted
        && n(status.replicas) == wanted
        && n(status.available_replicas) == wanted
}

impl Cluster {
    pub(super) async fn rolled_out(&self, name: &str) -> Duration {
        let is = || self.get::<Deployments>("default", name).is_some_and(|d| is_rolled_out(&d));
        eventually("the rollout is complete", is).await
    }
}

#[tokio::test(start_paused = true)]
async fn a_deployment_becomes_pods_and_tells_of_it() {
    let cluster = Cluster::start().await;
    cluster.create::<Deployments>(&web(3, "v1")).await;
    cluster.rolled_out("web").await;
    settle().await;
    let sets = cluster.list::<ReplicaSets>();
    assert_eq!(sets.len(), 1);
    let pods = cluster.list::<Pods>();
    assert_eq!(pods.len(), 3);
    let set_name = sets[0].metadata.name.clone().unwrap();
    assert!(pods.iter().all(|p| p.metadata.name.as_ref().unwrap().starts_with(&format!("{set_name}-"))));
    let d = cluster.get::<Deployments>("default", "web").unwrap();
    assert_eq!(d.metadata.annotations.as_ref().unwrap()["deployment.kubernetes.io/revision"], "1");
    let reasons: Vec<_> =
        d.status.as_ref().unwrap().conditions.iter().flatten().map(|c| c.reason.clone().unwrap()).collect();
    assert_eq!(reasons, ["MinimumReplicasAvailable", "NewReplicaSetAvailable"]);
    assert_eq!(cluster.events("ScalingReplicaSet"), [format!("Scaled up replica set {set_name} from 0 to 3")]);
    assert_eq!(cluster.events("SuccessfulCreate").len(), 3);
    let rests = |s: &(&str, &str, u64)| s.1 == "failures" || s.1 == "panics" || s.1 == "relists";
    for (controller, counter, n) in cluster.config.metrics.snapshot().iter().filter(|s| rests(s)) {
        assert_eq!(*n, 0, "{controller} {counter}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_rolling_update_replaces_every_pod_and_keeps_within_its_fence() {
    let cluster = Cluster::start().await;
    cluster.create::<Deployments>(&web(10, "v1")).await;
    cluster.rolled_out("web").await;
    let key = ObjectKey::new("default", "web");
    let image = |d: &mut Deployment| d.spec.template.spec.as_mut().unwrap().containers[0].image = Some("v2".into());
    cluster.registry.api::<Deployments>().modify(&key, image).await.unwrap();
    let in_fence = || {
        let pods = cluster.list::<Pods>();
        let active = pods.iter().filter(|p| pod_state::is_active(p)).count();
        let ready = pods.iter().filter(|p| pod_state::is_active(p) && pod_state::is_pod_ready(p)).count();
        assert!(active <= 13, "{active} pods");
        assert!(ready >= 8, "{ready} ready");
        cluster.get::<Deployments>("default", "web").is_some_and(|d| is_rolled_out(&d))
    };
    eventually("the rollout is complete", in_fence).await;
    settle().await;
    let images: Vec<_> =
        cluster.list::<Pods>().iter().map(|p| p.spec.as_ref().unwrap().containers[0].image.clone().unwrap()).collect();
    assert_eq!(images, vec!["v2"; 10]);
    let d = cluster.get::<Deployments>("default", "web").unwrap();
    assert_eq!(d.metadata.annotations.as_ref().unwrap()["deployment.kubernetes.io/revision"], "2");
}

#[tokio::test(start_paused = true)]
async fn a_pod_that_goes_is_replaced() {
    let cluster = Cluster::start().await;
    cluster.create::<Deployments>(&web(3, "v1")).await;
    cluster.rolled_out("web").await;
    let victim = cluster.list::<Pods>()[0].metadata.clone();
    cluster.delete::<Pods>("default", victim.name.as_deref().unwrap()).await;
    let replaced = || {
        let pods = cluster.list::<Pods>();
        pods.len() == 3 && pods.iter().all(|p| pod_state::is_pod_ready(p) && p.metadata.uid != victim.uid)
    };
    eventually("the pod is replaced", replaced).await;
}

#[tokio::test(start_paused = true)]
async fn at_rest_nothing_is_written_and_the_resync_finds_nothing() {
    let cluster = Cluster::start().await;
    cluster.create::<Deployments>(&web(5, "v1")).await;
    cluster.rolled_out("web").await;
    sleep(Duration::from_secs(5)).await;
    let revision = cluster.registry.store().revision();
    sleep(Duration::from_mins(25)).await;
    assert_eq!(cluster.registry.store().revision(), revision);
    let finds: u64 = cluster.config.metrics.snapshot().iter().filter(|s| s.1 == "resync_finds").map(|s| s.2).sum();
    assert_eq!(finds, 0);
}

#[tokio::test(start_paused = true)]
async fn a_namespace_that_does_not_exist_gets_no_pods() {
    let cluster = Cluster::start().await;
    assert!(cluster.get::<Namespaces>("", "nowhere").is_none());
    let wanted: Deployment =
        testing::from_yaml(&web(1, "v1").replace("namespace: default", "namespace: nowhere")).unwrap();
    assert!(cluster.registry.api::<Deployments>().create(wanted).await.is_err());
}

#[tokio::test(start_paused = true)]
async fn a_replication_controller_keeps_its_pods_too() {
    let cluster = Cluster::start().await;
    let rc = "
metadata: {name: old, namespace: default}
spec: {replicas: 2, selector: {app: old}, template: {metadata: {labels: {app: old}}, spec: {containers: [{name: c, image: i}]}}}
";
    cluster.create::<ReplicationControllers>(rc).await;
    let ready = || {
        let rc = cluster.get::<ReplicationControllers>("default", "old").unwrap();
        rc.status.as_ref().and_then(|s| s.ready_replicas) == Some(2)
    };
    eventually("its pods are ready", ready).await;
}

#[tokio::test(start_paused = true)]
async fn what_a_deleted_deployment_owned_goes_after_it() {
    let cluster = Cluster::start().await;
    cluster.create::<Deployments>(&web(3, "v1")).await;
    cluster.rolled_out("web").await;
    cluster.delete::<Deployments>("default", "web").await;
    assert!(cluster.get::<Deployments>("default", "web").is_none());
    let gone = || cluster.list::<ReplicaSets>().is_empty() && cluster.list::<Pods>().is_empty();
    eventually("sets and pods are gone", gone).await;
}

impl Cluster {
    async fn delete_with<K: TypedKind>(&self, name: &str, propagation: Propagation) {
        let options = DeleteOptions { propagation: Some(propagation), ..DeleteOptions::default() };
        self.registry.api::<K>().delete(&ObjectKey::new("default", name), &options).await.unwrap();
    }
}

#[tokio::test(start_paused = true)]
async fn a_foreground_deletion_takes_the_owned_first() {
    let cluster = Cluster::start().await;
    cluster.create::<Deployments>(&web(3, "v1")).await;
    cluster.rolled_out("web").await;
    cluster.delete_with::<Deployments>("web", Propagation::Foreground).await;
    let gone = || {
        let is_owned_left = !cluster.list::<ReplicaSets>().is_empty() || !cluster.list::<Pods>().is_empty();
        let owner = cluster.get::<Deployments>("default", "web");
        assert!(owner.is_some() || !is_owned_left, "the owner went before what it owned");
        owner.is_none()
    };
    eventually("the Deployment is gone", gone).await;
}

#[tokio::test(start_paused = true)]
async fn an_orphaning_deletion_leaves_the_owned_alone() {
    let cluster = Cluster::start().await;
    cluster.create::<Deployments>(&web(2, "v1")).await;
    cluster.rolled_out("web").await;
    cluster.delete_with::<Deployments>("web", Propagation::Orphan).await;
    eventually("the Deployment is gone", || cluster.get::<Deployments>("default", "web").is_none()).await;
    settle().await;
    let sets = cluster.list::<ReplicaSets>();
    assert_eq!(sets.len(), 1);
    assert_eq!(sets[0].metadata.owner_references, None);
    assert_eq!(cluster.list::<Pods>().len(), 2);
    // A Deployment of the same selector and template adopts what it finds.
    cluster.create::<Deployments>(&web(2, "v1")).await;
    cluster.rolled_out("web").await;
    assert_eq!(cluster.list::<ReplicaSets>().len(), 1);
    assert_eq!(cluster.list::<ReplicaSets>()[0].metadata.uid, sets[0].metadata.uid);
}

#[tokio::test(start_paused = true)]
async fn an_object_goes_only_when_all_its_owners_are_gone() {
    let cluster = Cluster::start().await;
    let map = |name: &str, owners: &[&ConfigMap]| {
        let owners: Vec<String> = owners
            .iter()
            .map(|o| {
                let (name, uid) = (o.metadata.name.as_ref().unwrap(), o.metadata.uid.as_ref().unwrap());
                format!("{{apiVersion: v1, kind: ConfigMap, name: {name}, uid: {uid}}}")
            })
            .collect();
        format!("metadata: {{name: {name}, namespace: default, ownerReferences: [{}]}}", owners.join(", "))
    };
    let a = cluster.create::<ConfigMaps>(&map("a", &[])).await;
    let b = cluster.create::<ConfigMaps>(&map("b", &[])).await;
    cluster.create::<ConfigMaps>(&map("owned", &[&a, &b])).await;
    let unknown = "metadata: {name: kept, namespace: default, ownerReferences: [{apiVersion: example.com/v1, kind: Thing, name: x, uid: x}]}";
    cluster.create::<ConfigMaps>(unknown).await;
    settle().await;
    cluster.delete::<ConfigMaps>("default", "a").await;
    settle().await;
    let owned = cluster.get::<ConfigMaps>("default", "owned").expect("another owner keeps it");
    assert_eq!(owned.metadata.owner_references.as_ref().unwrap().len(), 1);
    cluster.delete::<ConfigMaps>("default", "b").await;
    eventually("it is gone", || cluster.get::<ConfigMaps>("default", "owned").is_none()).await;
    assert!(cluster.get::<ConfigMaps>("default", "kept").is_some(), "an unknown owner counts as there");
    // An owner of the same name and another UID is not the owner.
    let stale = map("stale", &[&a]);
    cluster.create::<ConfigMaps>(&map("a", &[])).await;
    cluster.create::<ConfigMaps>(&stale).await;
    eventually("it is gone", || cluster.get::<ConfigMaps>("default", "stale").is_none()).await;
}

/// How many objects the passes of a controller looked at, and how many passes there were.
fn work(cluster: &Cluster, controller: &str) -> (u64, u64) {
    let all = cluster.config.metrics.snapshot();
    let count =
        |counter: &str| all.iter().find(|(c, n, _)| *c == controller && *n == counter).map_or(0, |(_, _, n)| *n);
    (count("looks"), count("reconciles"))
}

/// What it costs to remove an owner and this many objects that block it, one after the other.
async fn foreground_work(n: usize) -> (u64, u64) {
    let cluster = Cluster::without_agent().await;
    let owner = cluster.create::<ConfigMaps>("{metadata: {name: owner, namespace: default}}").await;
    let uid = owner.metadata.uid.as_ref().unwrap();
    for i in 0..n {
        let reference =
            format!("{{apiVersion: v1, kind: ConfigMap, name: owner, uid: {uid}, blockOwnerDeletion: true}}");
        let hold = "finalizers: [example.com/hold]";
        cluster
            .create::<ConfigMaps>(&format!(
                "{{metadata: {{name: c{i}, namespace: default, {hold}, ownerReferences: [{reference}]}}}}"
            ))
            .await;
    }
    settle().await;
    let before = work(&cluster, "garbagecollector");
    let options = DeleteOptions { propagation: Some(Propagation::Foreground), ..DeleteOptions::default() };
    let maps = cluster.registry.api::<ConfigMaps>();
    maps.delete(&ObjectKey::new("default", "owner"), &options).await.unwrap();
    settle().await;
    let marked = || cluster.list::<ConfigMaps>().iter().filter(|m| m.metadata.deletion_timestamp.is_some()).count();
    eventually("everything is marked", || marked() == n + 1).await;
    for i in 0..n {
        let key = ObjectKey::new("default", format!("c{i}"));
        // Somebody writes the owner meanwhile, as its controller does with its status.
        let touch = |map: &mut ConfigMap| map.data = Some([("i".to_owned(), i.to_string())].into());
        maps.modify(&ObjectKey::new("default", "owner"), touch).await.unwrap();
        assert!(cluster.get::<ConfigMaps>("default", "owner").is_some(), "it waits for all");
        maps.modify(&key, |map| map.metadata.finalizers = None).await.unwrap();
        sleep(Duration::from_millis(5)).await;
    }
    eventually("the owner is gone", || cluster.get::<ConfigMaps>("default", "owner").is_none()).await;
    let after = work(&cluster, "garbagecollector");
    (after.0 - before.0, after.1 - before.1)
}

#[tokio::test(start_paused = true)]
async fn foreground_deletion_of_four_times_as_much_costs_four_times_the_work() {
    let (few, many) = (foreground_work(25).await, foreground_work(100).await);
    assert!(many.0 <= 5 * few.0.max(25) && many.1 <= 5 * few.1, "{few:?} then {many:?}");
}

/// What it costs to remove a namespace whose objects go one after the other.
async fn namespace_work(n: usize) -> (u64, u64) {
    let cluster = Cluster::without_agent().await;
    cluster.create::<Namespaces>("metadata: {name: team}").await;
    let maps = cluster.registry.api::<ConfigMaps>();
    for i in 0..n {
        let held = format!("{{metadata: {{name: c{i}, namespace: team, finalizers: [example.com/hold]}}}}");
        cluster.create::<ConfigMaps>(&held).await;
    }
    settle().await;
    let before = work(&cluster, "namespace");
    cluster.delete::<Namespaces>("", "team").await;
    settle().await;
    for i in 0..n {
        let key = ObjectKey::new("team", format!("c{i}"));
        maps.modify(&key, |map| map.metadata.finalizers = None).await.unwrap();
        sleep(Duration::from_millis(5)).await;
    }
    eventually("the namespace is gone", || cluster.get::<Namespaces>("", "team").is_none()).await;
    let after = work(&cluster, "namespace");
    (after.0 - before.0, after.1 - before.1)
}

#[tokio::test(start_paused = true)]
async fn a_namespace_with_four_times_as_much_costs_four_times_the_work() {
    let (few, many) = (namespace_work(50).await, namespace_work(200).await);
    assert!(many.0 <= 5 * few.0 && many.1 <= 2 * few.1, "{few:?} then {many:?}");
    // Everything is gone over a few times, however much there is.
    assert!(many.0 <= 12 * 200, "{many:?}");
}

#[tokio::test(start_paused = true)]
async fn an_owner_waits_no_more_for_what_another_owner_keeps() {
    let cluster = Cluster::without_agent().await;
    let create = |name: &str| format!("{{metadata: {{name: {name}, namespace: default}}}}");
    let first = cluster.create::<ConfigMaps>(&create("first")).await;
    let second = cluster.create::<ConfigMaps>(&create("second")).await;
    let reference = |owner: &ConfigMap| {
        let (name, uid) = (owner.metadata.name.as_ref().unwrap(), owner.metadata.uid.as_ref().unwrap());
        format!("{{apiVersion: v1, kind: ConfigMap, name: {name}, uid: {uid}, blockOwnerDeletion: true}}")
    };
    let both = format!("[{}, {}]", reference(&first), reference(&second));
    cluster
        .create::<ConfigMaps>(&format!("{{metadata: {{name: owned, namespace: default, ownerReferences: {both}}}}}"))
        .await;
    settle().await;
    let options = DeleteOptions { propagation: Some(Propagation::Foreground), ..DeleteOptions::default() };
    cluster.registry.api::<ConfigMaps>().delete(&ObjectKey::new("default", "first"), &options).await.unwrap();
    eventually("it goes without what the other keeps", || cluster.get::<ConfigMaps>("default", "first").is_none())
        .await;
    let owned = cluster.get::<ConfigMaps>("default", "owned").unwrap();
    assert_eq!(owned.metadata.owner_references.as_ref().map(Vec::len), Some(1));
}

#[tokio::test(start_paused = true)]
async fn every_namespace_has_an_account_and_a_certificate() {
    let cluster = Cluster::start().await;
    cluster.create::<Namespaces>("metadata: {name: team}").await;
    for namespace in ["default", "kube-system", "team"] {
        let has = || {
            let certificate = cluster.get::<ConfigMaps>(namespace, "kube-root-ca.crt");
            let data = certificate.and_then(|c| c.data.as_ref()?.get("ca.crt").cloned());
            cluster.get::<ServiceAccounts>(namespace, "default").is_some() && data.as_deref() == Some("a certificate")
        };
        eventually("both are there", has).await;
    }
    cluster.delete::<ConfigMaps>("team", "kube-root-ca.crt").await;
    let has = || cluster.get::<ConfigMaps>("team", "kube-root-ca.crt").is_some();
    eventually("it is back", has).await;
}

#[tokio::test(start_paused = true)]
async fn a_namespace_goes_with_everything_in_it() {
    let cluster = Cluster::start().await;
    cluster.create::<Namespaces>("metadata: {name: team}").await;
    cluster.create::<Deployments>(&web(3, "v1").replace("namespace: default", "namespace: team")).await;
    cluster
        .create::<Services>(
            "{metadata: {name: web, namespace: team}, spec: {selector: {app: web}, ports: [{port: 80}]}}",
        )
        .await;
    let held = "{metadata: {name: held, namespace: team, finalizers: [example.com/hold]}}";
    cluster.create::<ConfigMaps>(held).await;
    let ready =
        || cluster.list::<Pods>().len() == 3 && cluster.list::<Pods>().iter().all(|p| pod_state::is_pod_ready(p));
    eventually("its pods are ready", ready).await;
    cluster.delete::<Namespaces>("", "team").await;
    let only_held = || {
        let namespace: Arc<Namespace> = cluster.get::<Namespaces>("", "team").expect("content keeps it");
        let conditions = namespace.status.as_ref().and_then(|s| s.conditions.clone()).unwrap_or_default();
        conditions.iter().any(|c| {
            c.reason.as_deref() == Some("SomeFinalizersRemain")
                && c.message.as_deref()
                    == Some("Some content in the namespace has finalizers remaining: example.com/hold in 1 resource instances")
        })
    };
    eventually("only the held object is left", only_held).await;
    let release = |map: &mut ConfigMap| map.metadata.finalizers = None;
    cluster.registry.api::<ConfigMaps>().modify(&ObjectKey::new("team", "held"), release).await.unwrap();
    eventually("the namespace is gone", || cluster.get::<Namespaces>("", "team").is_none()).await;
    settle().await;
    for kind in crate::api::kinds::KINDS.iter().filter(|k| k.info().is_namespaced() && k.info().stored_as.is_none()) {
        let left = cluster.registry.snapshot(*kind, "team", &Default::default()).entries.len();
        assert_eq!(left, 0, "{} are left", kind.info().plural);
    }
    assert!(cluster.get::<ServiceAccounts>("default", "default").is_some());
}

impl Cluster {
    /// The conditions of a Service's endpoints: `address ready serving terminating`.
    fn endpoints(&self, service: &str) -> Vec<(String, bool, bool, bool)> {
        let slices: Vec<Arc<EndpointSlice>> = self.list::<EndpointSlices>();
        let of_service = slices.iter().filter(|s| {
            s.metadata.labels.as_ref().and_then(|l| l.get(SERVICE_NAME_LABEL)).is_some_and(|n| n == service)
        });
        let mut all: Vec<_> = of_service
            .flat_map(|s| s.endpoints.iter().flatten())
            .map(|e| {
                let c = e.conditions.clone().unwrap();
                (e.addresses[0].clone(), c.ready.unwrap(), c.serving.unwrap(), c.terminating.unwrap())
            })
            .collect();
        all.sort();
        all
    }
}

#[tokio::test(start_paused = true)]
async fn endpoints_follow_readiness_within_a_millisecond() {
    let cluster = Cluster::without_agent().await;
    let service: Arc<Service> = cluster
        .create::<Services>(
            "{metadata: {name: web, namespace: default}, spec: {selector: {app: web}, ports: [{port: 80}]}}",
        )
        .await;
    cluster
        .create::<ReplicaSets>(
            "
metadata: {name: web, namespace: default}
spec:
  replicas: 1
  selector: {matchLabels: {app: web}}
  template: {metadata: {labels: {app: web}}, spec: {containers: [{name: c, image: i}]}}
",
        )
        .await;
    let assigned = || cluster.list::<Pods>().first().is_some_and(|p| p.spec.as_ref().unwrap().node_name.is_some());
    eventually("the pod has a node", assigned).await;
    let key = ObjectKey::of(&cluster.list::<Pods>()[0].metadata);
    let now = Time(cluster.registry.clock().now());
    let pods = cluster.registry.api::<Pods>();
    pods.modify_status(&key, |pod| make_ready(pod, 7, &now)).await.unwrap();
    let within = Duration::from_millis(1);
    let ready =
        eventually("it is ready", || cluster.endpoints("web") == [("10.244.0.7".to_owned(), true, true, false)]);
    assert!(ready.await <= within);
    pods.modify_status(&key, |pod| set_condition(pod, "Ready", "False", &now)).await.unwrap();
    let unready =
        eventually("it is not", || cluster.endpoints("web") == [("10.244.0.7".to_owned(), false, false, false)]);
    assert!(unready.await <= within);
    pods.modify_status(&key, |pod| set_condition(pod, "Ready", "True", &now)).await.unwrap();
    eventually("it is ready", || cluster.endpoints("web")[0].1).await;
    cluster.delete::<Pods>("default", &key.name).await;
    let goes = eventually("it goes", || {
        cluster.endpoints("web").first().is_some_and(|e| *e == ("10.244.0.7".to_owned(), false, true, true))
    });
    assert!(goes.await <= within);
    let endpoints = cluster.get::<EndpointsKind>("default", "web").unwrap();
    assert_eq!(endpoints.subsets, None);
    cluster.delete::<Services>("default", service.metadata.name.as_deref().unwrap()).await;
    let gone =
        || cluster.list::<EndpointSlices>().is_empty() && cluster.get::<EndpointsKind>("default", "web").is_none();
    eventually("slices and Endpoints go with the Service", gone).await;
}

#[tokio::test(start_paused = true)]
async fn an_unschedulable_pod_is_told_why_and_gets_its_node_when_it_can() {
    let cluster = Cluster::start().await;
    cluster.create::<Pods>("{metadata: {name: p, namespace: default}, spec: {nodeSelector: {disk: ssd}, containers: [{name: c, image: i}]}}").await;
    let told = || !cluster.events("FailedScheduling").is_empty();
    eventually("it is told why", told).await;
    let pod = cluster.get::<Pods>("default", "p").unwrap();
    let condition = pod_state::condition(&pod, "PodScheduled").unwrap();
    assert_eq!(condition.reason.as_deref(), Some("Unschedulable"));
    assert!(
        condition
            .message
            .as_ref()
            .unwrap()
            .starts_with("0/1 nodes are available: 1 node(s) didn't match Pod's node affinity/selector.")
    );
    let label =
        |node: &mut Node| drop(node.metadata.labels.get_or_insert_default().insert("disk".into(), "ssd".into()));
    cluster.registry.api::<Nodes>().modify(&ObjectKey::new("", "skiff"), label).await.unwrap();
    eventually("it is ready", || pod_state::is_pod_ready(&cluster.get::<Pods>("default", "p").unwrap())).await;
    settle().await;
    assert_eq!(cluster.events("Scheduled"), ["Successfully assigned default/p to skiff"]);
    assert_eq!(cluster.events("FailedScheduling").len(), 1);
}

#[tokio::test(start_paused = true)]
async fn events_are_kept_for_an_hour() {
    let cluster = Cluster::start().await;
    cluster.create::<Deployments>(&web(1, "v1")).await;
    cluster.rolled_out("web").await;
    settle().await;
    assert!(!cluster.list::<Events>().is_empty());
    sleep(Duration::from_mins(50)).await;
    let before: Vec<Arc<Event>> = cluster.list::<Events>();
    assert!(!before.is_empty());
    sleep(Duration::from_secs(1000)).await;
    assert_eq!(cluster.list::<Events>().len(), 0);
}

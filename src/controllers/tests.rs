//! The controllers on a registry in memory, under paused time, with a stand-in for the node agent.

use super::{ControllersConfig, run_all};
use crate::{
    api::{
        kind::Kind,
        kinds::{deployment::Deployments, event::Events, namespace::Namespaces, pod::Pods, replica_set::ReplicaSets},
        meta::ObjectKey,
    },
    base::task::{self, DrainTrigger, drain_signal},
    registry::{Registry, pipeline::DeleteOptions},
    testing,
};
use k8s_openapi::{
    api::{
        apps::v1::Deployment,
        core::v1::{Pod, PodCondition},
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
        let registry = testing::registry().await;
        let (trigger, drain) = drain_signal();
        let config = ControllersConfig {
            node_name: "skiff".into(),
            node_ip: "127.0.0.1".into(),
            root_ca: "a certificate".into(),
            ..ControllersConfig::default()
        };
        task::spawn("events", registry.clone().run_events(drain.clone()));
        task::spawn("controllers", run_all(registry.clone(), config.clone(), drain));
        Self { registry, config, _trigger: trigger }
    }

    /// Creates an object from YAML.
    pub(super) async fn create<K: Kind>(&self, yaml: &str) -> Arc<K::Object> {
        self.registry.api::<K>().create(serde_yaml::from_str(yaml).unwrap()).await.unwrap()
    }

    pub(super) fn get<K: Kind>(&self, namespace: &str, name: &str) -> Option<Arc<K::Object>> {
        self.registry.api::<K>().get(&ObjectKey::new(namespace, name))
    }

    pub(super) fn list<K: Kind>(&self) -> Vec<Arc<K::Object>> {
        self.registry.api::<K>().list("").items
    }

    pub(super) async fn delete<K: Kind>(&self, namespace: &str, name: &str) {
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
    timeout(Duration::from_secs(60), poll).await.unwrap_or_else(|_| panic!("it never happened: {what}"));
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
    spec:
      nodeName: skiff
      containers: [{{name: c, image: {image}}}]
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
        let active = pods.iter().filter(|p| super::pods::is_active(p)).count();
        let ready = pods.iter().filter(|p| super::pods::is_active(p) && super::pods::is_ready(p)).count();
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
        pods.len() == 3 && pods.iter().all(|p| super::pods::is_ready(p) && p.metadata.uid != victim.uid)
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
    sleep(Duration::from_secs(1500)).await;
    assert_eq!(cluster.registry.store().revision(), revision);
    let finds: u64 = cluster.config.metrics.snapshot().iter().filter(|s| s.1 == "resync_finds").map(|s| s.2).sum();
    assert_eq!(finds, 0);
}

#[tokio::test(start_paused = true)]
async fn a_namespace_that_does_not_exist_gets_no_pods() {
    let cluster = Cluster::start().await;
    assert!(cluster.get::<Namespaces>("", "nowhere").is_none());
    let wanted: Deployment =
        serde_yaml::from_str(&web(1, "v1").replace("namespace: default", "namespace: nowhere")).unwrap();
    assert!(cluster.registry.api::<Deployments>().create(wanted).await.is_err());
}

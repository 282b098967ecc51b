//! Evictions at the same time, on threads of their own, of pods that a budget protects, while controllers replace what goes. At no revision
//! of the store are fewer pods healthy than the budget wants; and the budget lets go what it can: each round some pods go.
//!
//! Here nothing is simulated: what is looked for happens between two threads.

use crate::{
    api::{
        kinds::{deployment::Deployments, node::Nodes, pod::Pods, pod_disruption_budget::PodDisruptionBudgets},
        meta::{ObjectKey, Revision},
        pod_state,
        status::ApiError,
    },
    base::{
        rng::Rng,
        task::{self, drain_signal},
    },
    controllers::{self, ControllersConfig},
    registry::{Registry, pipeline::DeleteOptions},
    server::evict,
    testing,
};
use futures::future::join_all;
use k8s_openapi::{
    api::core::v1::{Node, Pod},
    apimachinery::pkg::apis::meta::v1::Time,
};
use std::{collections::BTreeMap, sync::Arc, time::Duration};
use tokio::time::{Instant, sleep};

const PODS: usize = 8;
const LEAST: usize = 5;
const ROUNDS: usize = 8;
/// Evictions of a round.
const AT_ONCE: usize = 24;
const PATIENCE: Duration = Duration::from_secs(20);

const DEPLOYMENT: &str = "{metadata: {name: web, namespace: default}, spec: {replicas: 8, selector: {matchLabels: {app: web}}, \
                          template: {metadata: {labels: {app: web}}, spec: {terminationGracePeriodSeconds: 1, \
                          containers: [{name: c, image: v1}]}}}}";
const BUDGET: &str =
    "{metadata: {name: web, namespace: default}, spec: {minAvailable: 5, selector: {matchLabels: {app: web}}}}";

/// Makes assigned pods ready, and removes those that go.
async fn agent(registry: Registry, rng: Rng) {
    let api = registry.api::<Pods>();
    let mut watch = api.watch(Revision(0)).unwrap();
    while let Ok(change) = watch.next().await {
        let Some(pod) = change.after.as_ref().map(|entry| api.object(entry)) else { continue };
        let key = ObjectKey::of(&pod.metadata);
        sleep(Duration::from_micros(rng.between(0, 2000))).await;
        if pod.metadata.deletion_timestamp.is_some() {
            let (grace_period_secs, uid) = (Some(0), pod.metadata.uid.clone());
            drop(api.delete(&key, &DeleteOptions { grace_period_secs, uid, ..DeleteOptions::default() }).await);
        } else if pod.spec.as_ref().is_some_and(|s| s.node_name.is_some()) && pod_state::phase(&pod) == "Pending" {
            let now = Time(registry.clock().now()).0;
            let status = format!(
                "{{phase: Running, startTime: '{now}', conditions: [{{type: Ready, status: 'True', lastTransitionTime: '{now}'}}]}}"
            );
            let run = |pod: &mut Pod| pod.status = Some(testing::from_yaml(&status).unwrap());
            drop(api.modify_status(&key, run).await);
        }
    }
}

fn is_healthy(pod: &Pod) -> bool {
    pod_state::is_pod_ready(pod) && pod.metadata.deletion_timestamp.is_none()
}

fn healthy(registry: &Registry) -> Vec<Arc<Pod>> {
    let mut pods = registry.api::<Pods>().list("default").items;
    pods.retain(|pod| is_healthy(pod));
    pods
}

/// Follows every change of a pod; the least number of healthy pods after a revision.
async fn least_healthy(registry: &Registry, from: Revision) -> usize {
    let api = registry.api::<Pods>();
    let end = "{metadata: {name: end, namespace: default}, spec: {schedulerName: nobody, containers: [{name: c, image: v1}]}}";
    let end = api.create(testing::from_yaml(end).unwrap()).await.unwrap();
    let (mut watch, mut seen, mut least) = (api.watch(Revision(0)).unwrap(), BTreeMap::new(), usize::MAX);
    loop {
        let change = watch.next().await.expect("the history is long enough");
        let pod = change.after.as_ref().map(|entry| api.object(entry));
        if pod.as_ref().is_some_and(|pod| pod.metadata.uid == end.metadata.uid) {
            return least;
        }
        seen.insert(Arc::clone(&change.key), pod.is_some_and(|pod| is_healthy(&pod)));
        if change.revision > from {
            least = least.min(seen.values().filter(|is| **is).count());
        }
    }
}

/// Waits until the pods are all there and the budget has seen them.
async fn recovered(registry: &Registry) {
    let deadline = Instant::now() + PATIENCE;
    let is_seen = || {
        let budget = registry.api::<PodDisruptionBudgets>().get(&ObjectKey::new("default", "web"));
        let status = budget.and_then(|budget| budget.status.clone()).unwrap_or_default();
        usize::try_from(status.disruptions_allowed.unwrap_or(0)) == Ok(PODS - LEAST)
    };
    while healthy(registry).len() != PODS || !is_seen() {
        assert!(Instant::now() < deadline, "{} of {PODS} pods are healthy again", healthy(registry).len());
        sleep(Duration::from_millis(1)).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn evictions_at_the_same_time_break_no_budget() {
    let registry = testing::registry().await;
    let (_trigger, drain) = drain_signal();
    let node = testing::from_yaml("{metadata: {name: skiff, labels: {kubernetes.io/hostname: skiff}}}").unwrap();
    registry.api::<Nodes>().create(node).await.unwrap();
    let capable = |node: &mut Node| {
        node.status = Some(testing::from_yaml("{allocatable: {cpu: '4', memory: 8Gi, pods: '110'}}").unwrap());
    };
    registry.api::<Nodes>().modify_status(&ObjectKey::new("", "skiff"), capable).await.unwrap();
    task::spawn("controllers", controllers::run_all(registry.clone(), ControllersConfig::default(), drain));
    task::spawn("agent", agent(registry.clone(), Rng::seeded(1)));
    registry.api::<Deployments>().create(testing::from_yaml(DEPLOYMENT).unwrap()).await.unwrap();
    registry.api::<PodDisruptionBudgets>().create(testing::from_yaml(BUDGET).unwrap()).await.unwrap();
    recovered(&registry).await;
    let (rng, from) = (Rng::seeded(2), registry.store().revision());
    for round in 0..ROUNDS {
        let pods = healthy(&registry);
        let evictions = (0..AT_ONCE).map(|_| {
            let n = usize::try_from(rng.between(0, u64::try_from(pods.len()).unwrap())).unwrap();
            let (registry, key) = (registry.clone(), ObjectKey::of(&pods[n].metadata));
            let (tell, told) = tokio::sync::oneshot::channel();
            task::spawn("eviction", async move {
                drop(tell.send(evict(&registry, &key, DeleteOptions::default()).await));
            });
            told
        });
        let outcomes: Vec<Result<(), ApiError>> =
            join_all(evictions.collect::<Vec<_>>()).await.into_iter().map(|told| told.expect("no panic")).collect();
        let gone = outcomes.iter().filter(|outcome| outcome.is_ok()).count();
        let is_refusal = |err: &ApiError| matches!(err, ApiError::OverBudget { .. } | ApiError::NotFound { .. });
        let odd: Vec<_> = outcomes.iter().filter_map(|o| o.as_ref().err()).filter(|err| !is_refusal(err)).collect();
        assert!(odd.is_empty() && gone > 0, "round {round}: {gone} went; {odd:?}");
        recovered(&registry).await;
    }
    let least = least_healthy(&registry, from).await;
    assert!((LEAST..PODS).contains(&least), "{least} of {PODS} pods were healthy, {LEAST} must be");
}

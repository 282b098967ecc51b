//! The pod garbage collector: pods that nobody else would remove.
//!
//! - pods that have ended go, the oldest first, where there are more of them than a threshold;
//! - pods of nodes that there are not are failed and removed, after a while in which the node may come;
//! - pods that are deleted and have no node, or one that is out of service, are removed without waiting.
//!
//! A pod on a node that is gone and that is being deleted has its grace before: its containers may still end well, since all nodes are this
//! machine.
//!
//! **Invariants**: a node counts as gone only when an exact read finds none of its name, for [`QUARANTINE`]; a deletion names the UID.
//!
//! **Source**: `pkg/controller/podgc/gc_controller.go`, v1.37.

use super::runtime::{Action, Controller, Decision, Moved, Planned, Step, Trigger, stamp};
use crate::{
    api::{
        kinds::{node::Nodes, pod::Pods},
        meta::ObjectKey,
        selector::FieldSelector,
    },
    base::ordered::Map,
    registry::{
        Registry,
        pipeline::{DeleteOptions, Propagation, Selection},
    },
};
use jiff::Timestamp;
use k8s_openapi::api::core::v1::{Node, Pod, PodCondition};
use std::{
    sync::{Arc, Mutex},
    time::Duration,
};
use tokio::time::Instant;

/// How long a pod may wait for its node to show. Source: `quarantineTime`.
const QUARANTINE: Duration = Duration::from_secs(40);
/// The taint of a node that a user knows to be down.
const OUT_OF_SERVICE: &str = "node.kubernetes.io/out-of-service";

/// What is looked at.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Key {
    /// One pod, beside its node.
    Pod(ObjectKey),
    /// All pods that have ended.
    Ended,
}

/// All that a pass depends on.
#[derive(Clone, Debug)]
pub enum Observed {
    /// One pod.
    Pod {
        /// The pod.
        pod: Arc<Pod>,
        /// Its node, if it has one that is there.
        node: Option<Arc<Node>>,
        /// How long it has been seen without its node.
        alone: Duration,
        /// The time.
        now: Timestamp,
    },
    /// The pods that have ended.
    Ended {
        /// In no order.
        pods: Vec<Arc<Pod>>,
        /// How many may stay; 0: all.
        threshold: usize,
    },
}

/// The controller.
#[derive(Debug)]
pub struct PodGc {
    /// How many pods that have ended may stay; 0: all.
    threshold: usize,
    /// Since when each pod, by UID, is seen without its node.
    alone: Mutex<Map<String, Instant>>,
}

impl PodGc {
    /// One that lets so many pods stay that have ended; 0: all.
    pub fn new(threshold: usize) -> Self {
        Self { threshold, alone: Mutex::default() }
    }

    /// How long the pod has been without its node; forgotten once it has it again.
    fn alone(&self, pod: &Pod, is_alone: bool, now: Instant) -> Duration {
        let uid = pod.metadata.uid.clone().unwrap_or_default();
        let mut alone = self.alone.lock().expect("no one panics while looking");
        if !is_alone {
            alone.remove(&uid);
            return Duration::ZERO;
        }
        now.duration_since(*alone.entry(uid).or_insert(now))
    }
}

impl Controller for PodGc {
    type Key = Key;
    type Observed = Observed;

    fn name(&self) -> &'static str {
        "podgc"
    }

    fn triggers(&self) -> Vec<Trigger<Key>> {
        vec![
            Trigger::on::<Pods>(|registry, moved: &Moved<Pod>, keys| {
                let Some(pod) = &moved.after else { return };
                if has_ended(pod) && !moved.before.as_ref().is_some_and(|before| has_ended(before)) {
                    keys.push(Key::Ended);
                }
                let is_marked = pod.metadata.deletion_timestamp.is_some();
                if is_marked || node_of(pod).is_some_and(|name| node(registry, name).is_none()) {
                    keys.push(Key::Pod(ObjectKey::of(&pod.metadata)));
                }
            }),
            Trigger::on::<Nodes>(|registry, moved: &Moved<Node>, keys| {
                let is_out = |node: Option<&Arc<Node>>| node.is_some_and(|node| is_out_of_service(node));
                let is_news = moved.after.is_none() || is_out(moved.after.as_ref()) != is_out(moved.before.as_ref());
                if let Some(name) = moved.last().and_then(|n| n.metadata.name.as_deref()).filter(|_| is_news) {
                    keys.extend(pods_where(registry, "spec.nodeName", name).map(|pod| key_of(&pod)));
                }
            }),
        ]
    }

    fn observe(&self, registry: &Registry, key: &Key) -> Option<Observed> {
        match key {
            Key::Ended => {
                let ended = ["Succeeded", "Failed"].into_iter().flat_map(|p| pods_where(registry, "status.phase", p));
                Some(Observed::Ended { pods: ended.collect(), threshold: self.threshold })
            }
            Key::Pod(key) => {
                let pod = registry.api::<Pods>().get(key)?;
                let node = node_of(&pod).and_then(|name| node(registry, name));
                let is_alone = node.is_none() && node_of(&pod).is_some();
                let alone = self.alone(&pod, is_alone, registry.clock().mono());
                Some(Observed::Pod { pod, node, alone, now: registry.clock().now() })
            }
        }
    }

    fn weight(&self, observed: &Observed) -> usize {
        match observed {
            Observed::Pod { .. } => 0,
            Observed::Ended { pods, .. } => pods.len(),
        }
    }

    fn decide(&self, observed: &Observed) -> Decision {
        match observed {
            Observed::Pod { pod, node, alone, now } => of_pod(pod, node.as_deref(), *alone, *now),
            Observed::Ended { pods, threshold } => of_ended(pods, *threshold),
        }
    }
}

fn key_of(pod: &Pod) -> Key {
    Key::Pod(ObjectKey::of(&pod.metadata))
}

/// The pods that have this in a field that every write indexes: others are not decoded.
fn pods_where(registry: &Registry, field: &str, value: &str) -> impl Iterator<Item = Arc<Pod>> {
    let selection = Selection { fields: FieldSelector::equals(field, value), ..Selection::default() };
    registry.api::<Pods>().select("", &selection).items.into_iter()
}

fn node(registry: &Registry, name: &str) -> Option<Arc<Node>> {
    registry.api::<Nodes>().get(&ObjectKey::new("", name))
}

fn node_of(pod: &Pod) -> Option<&str> {
    pod.spec.as_ref()?.node_name.as_deref().filter(|name| !name.is_empty())
}

fn has_ended(pod: &Pod) -> bool {
    let phase = pod.status.as_ref().and_then(|s| s.phase.as_deref());
    matches!(phase, Some("Succeeded" | "Failed"))
}

/// Source: `gcTerminating`.
fn is_out_of_service(node: &Node) -> bool {
    let conditions = node.status.as_ref().and_then(|s| s.conditions.as_ref());
    let is_ready = conditions.into_iter().flatten().any(|c| c.type_ == "Ready" && c.status == "True");
    let taints = node.spec.as_ref().and_then(|s| s.taints.as_ref());
    !is_ready && taints.into_iter().flatten().any(|taint| taint.key == OUT_OF_SERVICE)
}

fn of_pod(pod: &Pod, node: Option<&Node>, alone: Duration, now: Timestamp) -> Decision {
    let marked = pod.metadata.deletion_timestamp.as_ref();
    match (node_of(pod), node) {
        (None, _) if marked.is_some() => removal(pod, None, "it goes and has no node", now),
        (Some(_), Some(node)) if marked.is_some() && is_out_of_service(node) => {
            removal(pod, None, "it goes and its node is out of service", now)
        }
        (None, _) | (Some(_), Some(_)) => Decision::rest(),
        (Some(_), None) => {
            let grace = marked.and_then(|at| Duration::try_from(at.0.duration_since(now)).ok()).unwrap_or_default();
            let left = QUARANTINE.saturating_sub(alone).max(grace);
            if left.is_zero() {
                return removal(pod, Some("PodGC: node no longer exists"), "its node is gone", now);
            }
            let mut decision = Decision::rest();
            decision.look_again_after(left);
            decision
        }
    }
}

/// The pod is failed, for one that nobody runs would never end, and removed. Source: `markFailedAndDeletePodWithCondition`.
fn removal(pod: &Pod, disruption: Option<&str>, why: &'static str, now: Timestamp) -> Decision {
    let mut decision = Decision::rest();
    if !has_ended(pod) {
        let mut failed = pod.clone();
        let status = failed.status.get_or_insert_default();
        status.phase = Some("Failed".to_owned());
        if let Some(message) = disruption {
            let condition = PodCondition {
                type_: "DisruptionTarget".to_owned(),
                status: "True".to_owned(),
                reason: Some("DeletionByPodGC".to_owned()),
                message: Some(message.to_owned()),
                last_transition_time: Some(stamp(now)),
                observed_generation: pod.metadata.generation,
                ..PodCondition::default()
            };
            let conditions = status.conditions.get_or_insert_default();
            conditions.retain(|c| c.type_ != condition.type_);
            conditions.push(condition);
        }
        decision.then(Action::update_status::<Pods>(failed).because(why));
    }
    if !is_let_go(pod) {
        decision.then(deletion(pod, why));
    }
    decision
}

/// Whether the pod is marked already, and waits for nothing but its finalizers.
fn is_let_go(pod: &Pod) -> bool {
    pod.metadata.deletion_timestamp.is_some() && pod.metadata.deletion_grace_period_seconds == Some(0)
}

fn deletion(pod: &Pod, why: &'static str) -> Planned {
    let options = DeleteOptions {
        grace_period_secs: Some(0),
        uid: pod.metadata.uid.clone(),
        propagation: Some(Propagation::Background),
        ..DeleteOptions::default()
    };
    let kind = super::runtime::erased::<Pods>();
    Action::Delete { kind, key: ObjectKey::of(&pod.metadata), options }.because(why)
}

/// Source: `gcTerminated`, `byEvictionAndCreationTimestamp`.
fn of_ended(pods: &[Arc<Pod>], threshold: usize) -> Decision {
    let mut decision = Decision::rest();
    let too_many = if threshold == 0 { 0 } else { pods.len().saturating_sub(threshold) };
    if too_many == 0 {
        return decision;
    }
    let mut pods: Vec<&Arc<Pod>> = pods.iter().collect();
    let is_evicted = |pod: &Pod| pod.status.as_ref().is_some_and(|s| s.reason.as_deref() == Some("Evicted"));
    pods.sort_by_cached_key(|pod| {
        let meta = &pod.metadata;
        (!is_evicted(pod), meta.creation_timestamp.as_ref().map(|at| at.0), meta.name.clone(), meta.namespace.clone())
    });
    let goes = pods[..too_many].iter().filter(|pod| !is_let_go(pod));
    let planned: Vec<Planned> = goes.map(|pod| deletion(pod, "more have ended than may stay")).collect();
    if !planned.is_empty() {
        decision.then(Step::Parallel(planned));
    }
    decision
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::from_yaml;
    use expect_test::{Expect, expect};

    const NOW: &str = "2026-01-01T00:10:00Z";

    fn pod(meta: &str, node: &str, status: &str) -> Pod {
        let text = format!(
            "{{metadata: {{name: web, namespace: default, uid: u, resourceVersion: '1', {meta}}}, spec: {{nodeName: '{node}', containers: []}}, \
             status: {status}}}"
        );
        from_yaml(&text).unwrap()
    }

    fn check(pod: &Pod, node: Option<&str>, alone: u64, expect: Expect) -> Decision {
        let node: Option<Node> = node.map(|node| from_yaml(node).unwrap());
        let decision = of_pod(pod, node.as_ref(), Duration::from_secs(alone), NOW.parse().unwrap());
        expect.assert_eq(&decision.to_text());
        decision
    }

    const GOES: &str = "deletionTimestamp: '2026-01-01T00:00:30Z', deletionGracePeriodSeconds: 30";
    const READY: &str = "{metadata: {name: n}, status: {conditions: [{type: Ready, status: 'True'}]}}";
    const OUT: &str = "{metadata: {name: n}, spec: {taints: [{key: node.kubernetes.io/out-of-service, effect: NoExecute}]}, \
                       status: {conditions: [{type: Ready, status: Unknown}]}}";

    #[test]
    fn a_pod_whose_node_is_gone_is_failed_and_removed_after_a_while() {
        let running = pod("", "n", "{phase: Running}");
        check(&running, Some(READY), 0, expect![""]);
        check(&running, None, 0, expect!["again after 40s"]);
        check(&running, None, 39, expect!["again after 1s"]);
        let decision = check(
            &running,
            None,
            40,
            expect![[r#"
                update status of Pod default/web (its node is gone)
                delete Pod default/web (its node is gone)"#]],
        );
        let failed = decision.planned().next().unwrap().action.object::<Pods>().unwrap().status.clone().unwrap();
        let condition = &failed.conditions.unwrap()[0];
        assert_eq!((failed.phase.as_deref(), condition.reason.as_deref()), (Some("Failed"), Some("DeletionByPodGC")));
        assert_eq!(condition.message.as_deref(), Some("PodGC: node no longer exists"));
        let ended = pod("", "n", "{phase: Succeeded}");
        check(&ended, None, 41, expect!["delete Pod default/web (its node is gone)"]);
    }

    #[test]
    fn a_pod_that_is_deleted_has_its_grace_on_a_node_that_is_gone_too() {
        let in_a_minute = "deletionTimestamp: '2026-01-01T00:11:00Z', deletionGracePeriodSeconds: 90";
        check(&pod(in_a_minute, "n", "{phase: Running}"), None, 50, expect!["again after 60s"]);
        check(
            &pod(GOES, "n", "{phase: Running}"),
            None,
            50,
            expect![[r#"
                update status of Pod default/web (its node is gone)
                delete Pod default/web (its node is gone)"#]],
        );
    }

    #[test]
    fn a_pod_that_is_deleted_and_that_no_node_has_goes_at_once() {
        check(
            &pod(GOES, "", "{phase: Pending}"),
            None,
            0,
            expect![[r#"
                update status of Pod default/web (it goes and has no node)
                delete Pod default/web (it goes and has no node)"#]],
        );
        check(
            &pod(GOES, "n", "{phase: Running}"),
            Some(OUT),
            0,
            expect![[r#"
                update status of Pod default/web (it goes and its node is out of service)
                delete Pod default/web (it goes and its node is out of service)"#]],
        );
        check(&pod(GOES, "n", "{phase: Running}"), Some(READY), 0, expect![""]);
        check(&pod("", "", "{phase: Pending}"), None, 99, expect![""]);
        let held = "deletionTimestamp: '2026-01-01T00:00:30Z', deletionGracePeriodSeconds: 0, finalizers: [a/b]";
        check(&pod(held, "", "{phase: Failed}"), None, 0, expect![""]);
    }

    #[test]
    fn the_oldest_of_too_many_that_have_ended_go_and_evicted_ones_first() {
        let ended = |name: &str, minute: u32, reason: &str| {
            let text = format!(
                "{{metadata: {{name: {name}, namespace: default, uid: {name}, creationTimestamp: '2026-01-01T00:0{minute}:00Z'}}, \
                 spec: {{containers: []}}, status: {{phase: Failed, reason: {reason}}}}}"
            );
            Arc::new(from_yaml::<Pod>(&text).unwrap())
        };
        let pods = [ended("c", 2, "Error"), ended("b", 1, "Error"), ended("a", 1, "Error"), ended("z", 9, "Evicted")];
        let gone = |threshold| of_ended(&pods, threshold).to_text();
        assert_eq!((gone(0), gone(4)), (String::new(), String::new()), "0 means that all may stay");
        expect![[r#"
            delete Pod default/z (more have ended than may stay)
            delete Pod default/a (more have ended than may stay)
            delete Pod default/b (more have ended than may stay)"#]]
        .assert_eq(&gone(1));
    }
}

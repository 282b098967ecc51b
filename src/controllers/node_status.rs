//! A node whose agent no longer renews its Lease is not known to be ready; conditions of a node show as taints.
//!
//! The age of a Lease is measured by the monotonic clock since its last change was seen, so that neither a restart nor a sleeping
//! laptop makes a node look dead. Pods are not evicted: there is no other node, and what runs, runs on.
//!
//! **Source**: `pkg/controller/nodelifecycle/node_lifecycle_controller.go`, v1.37.

use super::runtime::{Action, Controller, Decision, Moved, Trigger, stamp};
use crate::{
    api::{
        kinds::{lease::Leases, node::Nodes},
        meta::ObjectKey,
    },
    base::ordered::Map,
    registry::Registry,
};
use jiff::Timestamp;
use k8s_openapi::{
    api::{
        coordination::v1::{Lease, LeaseSpec},
        core::v1::{Node, NodeCondition, NodeSpec, Taint},
    },
    apimachinery::pkg::apis::meta::v1::MicroTime,
};
use std::{
    sync::{Arc, Mutex},
    time::Duration,
};
use tokio::time::Instant;

/// The namespace of the nodes' Leases.
const LEASES: &str = "kube-node-lease";
/// How long a Lease that does not say how long it lasts may go unrenewed. Source: `--node-monitor-grace-period`.
const GRACE: Duration = Duration::from_secs(50);
/// Conditions that nobody knows any more when the agent is silent.
const AGENT_CONDITIONS: [&str; 4] = ["Ready", "MemoryPressure", "DiskPressure", "PIDPressure"];
/// The taints that conditions show as: (condition, status, taint key). Source: `nodeConditionToTaintKeyStatusMap`.
const TAINTS: [(&str, &str, &str); 6] = [
    ("Ready", "False", "node.kubernetes.io/not-ready"),
    ("Ready", "Unknown", "node.kubernetes.io/unreachable"),
    ("MemoryPressure", "True", "node.kubernetes.io/memory-pressure"),
    ("DiskPressure", "True", "node.kubernetes.io/disk-pressure"),
    ("NetworkUnavailable", "True", "node.kubernetes.io/network-unavailable"),
    ("PIDPressure", "True", "node.kubernetes.io/pid-pressure"),
];
const UNSCHEDULABLE: &str = "node.kubernetes.io/unschedulable";

/// All that a pass over a node depends on.
#[derive(Clone, Debug)]
pub struct Observed {
    /// The node.
    pub node: Arc<Node>,
    /// How long ago its Lease was seen to change; `None`: it has none.
    pub silence: Option<Duration>,
    /// How long the Lease lasts without being renewed.
    pub grace: Duration,
    /// The time.
    pub now: Timestamp,
}

type Seen = Map<String, (Option<MicroTime>, Instant)>;

/// The controller.
#[derive(Debug, Default)]
pub struct NodeStatusController {
    /// When each node's Lease was last seen to change.
    seen: Mutex<Seen>,
}

impl Controller for NodeStatusController {
    /// A node's name.
    type Key = String;
    type Observed = Observed;

    fn name(&self) -> &'static str {
        "nodelifecycle"
    }

    fn event_source(&self) -> &'static str {
        "node-controller"
    }

    fn triggers(&self) -> Vec<Trigger<String>> {
        vec![
            Trigger::on::<Nodes>(|_, moved, keys| keys.extend(moved.last().and_then(|n| n.metadata.name.clone()))),
            Trigger::on::<Leases>(|_, moved: &Moved<Lease>, keys| {
                let of_node = moved.last().filter(|l| l.metadata.namespace.as_deref() == Some(LEASES));
                keys.extend(of_node.and_then(|l| l.metadata.name.clone()));
            }),
        ]
    }

    fn observe(&self, registry: &Registry, name: &String) -> Option<Observed> {
        let node = registry.api::<Nodes>().get(&ObjectKey::new("", name))?;
        let lease = registry.api::<Leases>().get(&ObjectKey::new(LEASES, name));
        let spec = lease.as_ref().and_then(|l| l.spec.as_ref());
        let silence = lease.as_ref().map(|_| self.silence(name, spec.and_then(|s| s.renew_time.clone()), registry));
        Some(Observed { node, silence, grace: grace(spec), now: registry.clock().now() })
    }

    fn decide(&self, observed: &Observed) -> Decision {
        decide(observed)
    }
}

impl NodeStatusController {
    fn silence(&self, name: &str, renewed: Option<MicroTime>, registry: &Registry) -> Duration {
        let now = registry.clock().mono();
        let mut seen = self.seen.lock().expect("no one panics while looking");
        let last = seen.entry(name.to_owned()).or_insert_with(|| (renewed.clone(), now));
        if last.0 != renewed {
            *last = (renewed, now);
        }
        now.duration_since(last.1)
    }
}

/// How long a Lease lasts, as whoever renews it says.
fn grace(lease: Option<&LeaseSpec>) -> Duration {
    let secs = lease.and_then(|l| u64::try_from(l.lease_duration_seconds?).ok());
    secs.map_or(GRACE, Duration::from_secs)
}

fn decide(observed: &Observed) -> Decision {
    let node = &*observed.node;
    let mut decision = Decision::default();
    match observed.silence.map(|silence| observed.grace.checked_sub(silence)) {
        None => {}
        Some(Some(left)) => decision.look_again_after(left + Duration::from_millis(1)),
        Some(None) => {
            if let Some(silent) = silenced(node, observed.now) {
                decision.then(Action::update_status::<Nodes>(silent).because("its agent is silent"));
                // The taints follow from the conditions, in the pass that this write wakes.
                return decision;
            }
        }
    }
    if let Some(tainted) = tainted(node, observed.now) {
        decision.then(Action::update::<Nodes>(tainted).because("its conditions changed"));
    }
    decision
}

fn condition<'a>(node: &'a Node, type_: &str) -> Option<&'a NodeCondition> {
    node.status.as_ref()?.conditions.iter().flatten().find(|c| c.type_ == type_)
}

/// The node with its agent's conditions unknown; `None` when they are already.
fn silenced(node: &Node, now: Timestamp) -> Option<Node> {
    let mut silent = node.clone();
    let conditions = silent.status.get_or_insert_default().conditions.get_or_insert_default();
    for type_ in AGENT_CONDITIONS {
        let unknown = NodeCondition {
            type_: type_.to_owned(),
            status: "Unknown".to_owned(),
            reason: Some("NodeStatusUnknown".to_owned()),
            message: Some("Kubelet stopped posting node status.".to_owned()),
            last_transition_time: Some(stamp(now)),
            last_heartbeat_time: condition(node, type_).and_then(|c| c.last_heartbeat_time.clone()),
        };
        match conditions.iter_mut().find(|c| c.type_ == type_) {
            Some(current) if current.status == "Unknown" => {}
            Some(current) => *current = unknown,
            None => conditions.push(unknown),
        }
    }
    (silent != *node).then_some(silent)
}

/// The node with the taints that its conditions and its being cordoned ask for; `None` when it has them.
fn tainted(node: &Node, now: Timestamp) -> Option<Node> {
    let spec = node.spec.clone().unwrap_or_default();
    let from_conditions =
        TAINTS.iter().filter(|(type_, status, _)| condition(node, type_).is_some_and(|c| c.status == *status));
    let mut wanted: Vec<&str> = from_conditions.map(|(_, _, key)| *key).collect();
    if spec.unschedulable == Some(true) {
        wanted.push(UNSCHEDULABLE);
    }
    let is_ours = |t: &Taint| {
        t.effect == "NoSchedule" && (t.key == UNSCHEDULABLE || TAINTS.iter().any(|(.., key)| t.key == *key))
    };
    let has = spec.taints.clone().unwrap_or_default();
    let mut taints: Vec<Taint> =
        has.iter().filter(|t| !is_ours(t) || wanted.contains(&t.key.as_str())).cloned().collect();
    for key in wanted {
        if !taints.iter().any(|t| t.key == key && t.effect == "NoSchedule") {
            let (key, effect) = (key.to_owned(), "NoSchedule".to_owned());
            taints.push(Taint { key, effect, time_added: Some(stamp(now)), ..Taint::default() });
        }
    }
    if taints == has {
        return None;
    }
    let taints = if taints.is_empty() { None } else { Some(taints) };
    Some(Node { spec: Some(NodeSpec { taints, ..spec }), ..node.clone() })
}

#[cfg(test)]
mod tests {
    use super::*;
    use expect_test::expect;

    fn node(ready: &str, spec: &str) -> Node {
        crate::testing::from_yaml(&format!(
            "{{metadata: {{name: skiff, resourceVersion: '1'}}, spec: {spec}, status: {{conditions: [{{type: Ready, status: '{ready}'}}]}}}}"
        ))
        .unwrap()
    }

    fn decided(node: Node, silence: u64) -> Decision {
        let now = "2026-01-01T00:00:00Z".parse().unwrap();
        decide(&Observed { node: Arc::new(node), silence: Some(Duration::from_secs(silence)), grace: GRACE, now })
    }

    fn written(decision: &Decision) -> Node {
        decision.planned().next().unwrap().action.object::<Nodes>().unwrap().clone()
    }

    fn taints(node: &Node) -> Vec<String> {
        node.spec.as_ref().unwrap().taints.iter().flatten().map(|t| t.key.clone()).collect()
    }

    #[test]
    fn a_silent_agents_node_becomes_unknown_then_tainted_and_recovers() {
        expect!["again after 20.001s"].assert_eq(&decided(node("True", "{}"), 30).to_text());
        let decision = decided(node("True", "{}"), 51);
        expect!["update status of Node skiff (its agent is silent)"].assert_eq(&decision.to_text());
        let silent = written(&decision);
        assert_eq!(condition(&silent, "Ready").unwrap().status, "Unknown");
        let tainted = written(&decided(silent, 52));
        assert_eq!(taints(&tainted), ["node.kubernetes.io/unreachable"]);
        let mut back = tainted;
        back.status.as_mut().unwrap().conditions.as_mut().unwrap()[0].status = "True".into();
        assert_eq!(taints(&written(&decided(back, 0))), Vec::<String>::new());
    }

    #[test]
    fn a_lease_lasts_as_long_as_it_says() {
        for (spec, secs) in [("{leaseDurationSeconds: 300}", 300), ("{}", 50), ("{leaseDurationSeconds: -1}", 50)] {
            let lease: LeaseSpec = crate::testing::from_yaml(spec).unwrap();
            assert_eq!(grace(Some(&lease)), Duration::from_secs(secs), "{spec}");
        }
    }

    #[test]
    fn taints_of_others_stay() {
        let spec = "{unschedulable: true, taints: [{key: mine, effect: NoSchedule}, {key: node.kubernetes.io/not-ready, effect: NoSchedule}]}";
        assert_eq!(taints(&written(&decided(node("True", spec), 1))), ["mine", UNSCHEDULABLE]);
        let settled = written(&decided(node("True", spec), 1));
        assert_eq!(decided(settled, 1).planned().count(), 0);
    }
}

//! Pods that do not bear a `NoExecute` taint of their node are deleted: at once, or when the time that they bear it is over.
//!
//! The time runs from when the taint was first seen beside the pod, by the monotonic clock; a restart of skiff begins it anew, as
//! upstream's does.
//! **Not here**: taints of nodes whose agent is silent (`node_status`); they keep new pods away and evict none, since there is no other
//! node for them.
//!
//! **Source**: `pkg/controller/tainteviction/taint_eviction.go`, v1.37.

use super::{
    runtime::{Action, Controller, Decision, EventDraft, Moved, Report, Trigger, stamp},
    taints::tolerated_for,
};
use crate::{
    api::{
        kinds::{node::Nodes, pod::Pods},
        meta::ObjectKey,
        selector::FieldSelector,
    },
    base::ordered::Map,
    registry::{Registry, pipeline::Selection},
};
use jiff::Timestamp;
use k8s_openapi::api::core::v1::{Node, Pod, PodCondition, Taint};
use std::{
    sync::{Arc, Mutex},
    time::Duration,
};
use tokio::time::Instant;

/// All that a pass over a pod depends on.
#[derive(Clone, Debug)]
pub struct Observed {
    pod: Arc<Pod>,
    /// The taints of its node that evict.
    taints: Vec<Taint>,
    /// How long these taints have been seen beside the pod.
    waited: Duration,
    now: Timestamp,
}

/// The controller.
#[derive(Debug, Default)]
pub struct TaintEviction {
    /// Since when each pod, by UID, is beside a taint that it bears for some time only.
    since: Mutex<Map<String, Instant>>,
}

impl Controller for TaintEviction {
    type Key = ObjectKey;
    type Observed = Observed;

    fn name(&self) -> &'static str {
        "taint-eviction-controller"
    }

    fn triggers(&self) -> Vec<Trigger<ObjectKey>> {
        vec![
            Trigger::itself::<Pods>(),
            Trigger::on::<Nodes>(|registry, moved: &Moved<Node>, keys| {
                let taints = |node: Option<&Arc<Node>>| node.map(|n| evicting(n)).unwrap_or_default();
                if taints(moved.before.as_ref()) == taints(moved.after.as_ref()) {
                    return;
                }
                if let Some(node) = moved.last().and_then(|n| n.metadata.name.as_deref()) {
                    keys.extend(pods_on(registry, node));
                }
            }),
        ]
    }

    fn observe(&self, registry: &Registry, key: &ObjectKey) -> Option<Observed> {
        let pod = registry.api::<Pods>().get(key)?;
        let node = node_of(&pod).and_then(|name| registry.api::<Nodes>().get(&ObjectKey::new("", name)));
        let taints = node.as_deref().map(evicting).unwrap_or_default();
        let waited = self.waited(&pod, &taints, registry.clock().mono());
        Some(Observed { pod, taints, waited, now: registry.clock().now() })
    }

    fn decide(&self, observed: &Observed) -> Decision {
        decide(observed)
    }
}

impl TaintEviction {
    /// How long the pod has waited, which is forgotten once it bears its taints for ever or goes.
    fn waited(&self, pod: &Pod, taints: &[Taint], now: Instant) -> Duration {
        let uid = pod.metadata.uid.clone().unwrap_or_default();
        let mut since = self.since.lock().expect("no one panics while looking");
        if tolerated_for(pod, taints).is_none() || pod.metadata.deletion_timestamp.is_some() {
            since.remove(&uid);
            return Duration::ZERO;
        }
        now.duration_since(*since.entry(uid).or_insert(now))
    }
}

/// The pods of a node, by the field that every write indexes: those of other nodes are not decoded.
fn pods_on(registry: &Registry, node: &str) -> Vec<ObjectKey> {
    let fields = FieldSelector::equals("spec.nodeName", node);
    let pods = registry.api::<Pods>().select("", &Selection { fields, ..Selection::default() }).items;
    pods.iter().map(|pod| ObjectKey::of(&pod.metadata)).collect()
}

fn node_of(pod: &Pod) -> Option<&str> {
    pod.spec.as_ref()?.node_name.as_deref()
}

/// The taints of a node that evict.
fn evicting(node: &Node) -> Vec<Taint> {
    let taints = node.spec.iter().flat_map(|s| s.taints.iter().flatten());
    taints.filter(|t| t.effect == "NoExecute").cloned().collect()
}

fn decide(observed: &Observed) -> Decision {
    let pod = &*observed.pod;
    let mut decision = Decision::rest();
    if pod.metadata.deletion_timestamp.is_some() {
        return decision;
    }
    let Some(bears) = tolerated_for(pod, &observed.taints) else { return decision };
    if let Some(left) = bears.checked_sub(observed.waited).filter(|left| !left.is_zero()) {
        decision.look_again_after(left);
        return decision;
    }
    let (namespace, name) =
        (pod.metadata.namespace.clone().unwrap_or_default(), pod.metadata.name.clone().unwrap_or_default());
    let text = format!("Marking for deletion Pod {namespace}/{name}");
    let event = EventDraft::normal::<Pods>(pod, "TaintManagerEviction", text);
    if let Some(marked) = disrupted(pod, observed.now) {
        decision.then(Action::update_status::<Pods>(marked).because("a taint disrupts it"));
        // The deletion follows in the pass that this write wakes.
        return decision;
    }
    let delete = Action::delete::<Pods>(pod).because("it does not bear its node's taint");
    decision.then(delete.telling(Report::OnSuccess(Box::new(event))));
    decision
}

/// The pod with the condition that says why it goes; `None` when it has it.
fn disrupted(pod: &Pod, now: Timestamp) -> Option<Pod> {
    let mut marked = pod.clone();
    let conditions = marked.status.get_or_insert_default().conditions.get_or_insert_default();
    let is_disruption = |c: &&mut PodCondition| c.type_ == "DisruptionTarget";
    let condition = PodCondition {
        type_: "DisruptionTarget".to_owned(),
        status: "True".to_owned(),
        reason: Some("DeletionByTaintManager".to_owned()),
        message: Some("Taint manager: deleting due to NoExecute taint".to_owned()),
        last_transition_time: Some(stamp(now)),
        ..PodCondition::default()
    };
    match conditions.iter_mut().find(is_disruption) {
        Some(there) if there.status == "True" => return None,
        Some(there) => *there = condition,
        None => conditions.push(condition),
    }
    Some(marked)
}

#[cfg(test)]
mod tests {
    use super::*;
    use expect_test::expect;

    fn decided(tolerations: &str, taints: &str, waited: u64) -> Decision {
        let yaml = format!(
            "{{metadata: {{name: web, namespace: default, uid: u, resourceVersion: '1'}}, spec: {{nodeName: n, containers: [], tolerations: {tolerations}}},
               status: {{conditions: [{{type: DisruptionTarget, status: 'True'}}]}}}}"
        );
        let pod = crate::testing::from_yaml(&yaml).unwrap();
        let node: Node =
            crate::testing::from_yaml(&format!("{{metadata: {{name: n}}, spec: {{taints: {taints}}}}}")).unwrap();
        let now = "2026-01-01T00:00:00Z".parse().unwrap();
        decide(&Observed { pod: Arc::new(pod), taints: evicting(&node), waited: Duration::from_secs(waited), now })
    }

    const EVICTED: &str = "delete Pod default/web (it does not bear its node's taint)
  TaintManagerEviction: Marking for deletion Pod default/web";

    #[test]
    fn only_the_effect_no_execute_evicts() {
        assert_eq!(
            decided("[]", "[{key: a, effect: NoSchedule}, {key: b, effect: PreferNoSchedule}]", 0).to_text(),
            ""
        );
        assert_eq!(decided("[]", "[{key: a, effect: NoExecute}]", 0).to_text(), EVICTED);
    }

    #[test]
    fn a_toleration_holds_for_its_seconds_and_the_shortest_counts() {
        let taints = "[{key: a, effect: NoExecute}, {key: b, effect: NoExecute}]";
        let both =
            "[{key: a, operator: Exists, tolerationSeconds: 60}, {key: b, operator: Exists, tolerationSeconds: 20}]";
        expect!["again after 15s"].assert_eq(&decided(both, taints, 5).to_text());
        assert_eq!(decided(both, taints, 20).to_text(), EVICTED);
        assert_eq!(decided("[{operator: Exists}]", taints, 1_000).to_text(), "");
        assert_eq!(decided("[{key: a, operator: Exists}]", taints, 0).to_text(), EVICTED, "one of two is not borne");
        let negative = "[{operator: Exists, tolerationSeconds: -3}]";
        assert_eq!(decided(negative, taints, 0).to_text(), EVICTED);
        let longest = format!("[{{operator: Exists, tolerationSeconds: {}}}]", i64::MAX);
        assert_eq!(decided(&longest, taints, 5).planned().count(), 0);
    }

    #[test]
    fn a_pod_says_why_it_goes_before_it_goes() {
        let pod = crate::testing::from_yaml(
            "{metadata: {name: web, namespace: default, resourceVersion: '1'}, spec: {containers: []}}",
        )
        .unwrap();
        let now = "2026-01-01T00:00:00Z".parse().unwrap();
        let taint = Taint { key: "a".into(), effect: "NoExecute".into(), ..Taint::default() };
        let decision = decide(&Observed { pod: Arc::new(pod), taints: vec![taint], waited: Duration::ZERO, now });
        expect!["update status of Pod default/web (a taint disrupts it)"].assert_eq(&decision.to_text());
        let marked = decision.planned().next().unwrap().action.object::<Pods>().unwrap().clone();
        assert_eq!(marked.status.unwrap().conditions.unwrap()[0].reason.as_deref(), Some("DeletionByTaintManager"));
    }
}

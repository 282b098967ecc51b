//! Decisions of the DaemonSet controller as tables, and a small world in which they are carried out.

use super::{DaemonSetController, Observed, nodes};
use crate::{
    api::{
        kinds::{controller_revision::ControllerRevisions, daemon_set::DaemonSets, pod::Pods},
        pod_state,
    },
    controllers::{
        revisions::POD_REVISION,
        runtime::{Action, Controller as _, Decision, Done},
    },
    testing::from_yaml,
};
use jiff::{SignedDuration, Timestamp};
use k8s_openapi::{
    api::{
        apps::v1::{ControllerRevision, DaemonSet, DaemonSetStatus},
        core::v1::{Node, Pod},
    },
    apimachinery::pkg::apis::meta::v1::Time,
};
use proptest::prelude::*;
use std::{collections::BTreeMap, sync::Arc};

fn set(fields: &str) -> DaemonSet {
    from_yaml(&format!(
        "
metadata: {{name: log, namespace: default, uid: set-uid, resourceVersion: '1', generation: 1}}
spec:
  selector: {{matchLabels: {{app: log}}}}
  updateStrategy: {{type: RollingUpdate, rollingUpdate: {{maxUnavailable: 1, maxSurge: 0}}}}
  template:
    metadata: {{labels: {{app: log}}}}
    spec: {{containers: [{{name: c, image: v1}}]{fields}}}
"
    ))
    .unwrap()
}

fn node(name: &str, spec: &str) -> Node {
    from_yaml(&format!("{{metadata: {{name: {name}, labels: {{disk: {name}}}}}, spec: {{{spec}}}}}")).unwrap()
}

struct World {
    set: DaemonSet,
    nodes: Vec<Node>,
    pods: BTreeMap<String, Pod>,
    revisions: BTreeMap<String, ControllerRevision>,
    now: Timestamp,
    made: usize,
    events: Vec<String>,
}

impl World {
    fn new(set: DaemonSet, nodes: Vec<Node>) -> Self {
        let now = "2026-01-01T12:00:00Z".parse().unwrap();
        Self { set, nodes, pods: BTreeMap::new(), revisions: BTreeMap::new(), now, made: 0, events: Vec::new() }
    }

    fn observed(&self) -> Observed {
        Observed {
            set: Arc::new(self.set.clone()),
            revisions: self.revisions.values().cloned().map(Arc::new).collect(),
            pods: self.pods.values().cloned().map(Arc::new).collect(),
            nodes: self.nodes.iter().cloned().map(Arc::new).collect(),
            namespace_goes: false,
            now: self.now,
        }
    }

    fn pass(&mut self) -> bool {
        let decision = DaemonSetController.decide(&self.observed());
        self.carry(&decision);
        let closing = DaemonSetController.conclude(&self.observed(), &Done::default());
        self.carry(&closing);
        !decision.is_rest() || !closing.is_rest()
    }

    fn carry(&mut self, decision: &Decision) {
        self.events.extend(decision.events.iter().map(|event| format!("{}: {}", event.reason, event.message)));
        for planned in decision.planned() {
            self.write(&planned.action);
        }
    }

    fn write(&mut self, action: &Action) {
        match action {
            Action::Create { .. } if action.read::<Pods>().is_some() => {
                let mut pod = action.read::<Pods>().unwrap();
                self.made += 1;
                let name = format!("log-{:03}", self.made);
                pod.metadata.name = Some(name.clone());
                pod.metadata.uid = Some(name.clone());
                pod.metadata.creation_timestamp =
                    Some(Time(self.now + SignedDuration::from_micros(i64::try_from(self.made).unwrap())));
                pod.status = from_yaml("{phase: Pending}").unwrap();
                self.pods.insert(name, pod);
            }
            Action::Create { .. } | Action::Update { .. } => {
                if let Some(mut revision) = action.read::<ControllerRevisions>() {
                    revision.metadata.resource_version = Some("1".into());
                    self.revisions.insert(revision.metadata.name.clone().unwrap(), revision);
                } else {
                    self.set = action.read::<DaemonSets>().unwrap();
                }
            }
            Action::Delete { kind, key, .. } if kind.info().kind == "Pod" => {
                self.pods.get_mut(&key.name).unwrap().metadata.deletion_timestamp = Some(Time(self.now));
            }
            Action::Delete { key, .. } => drop(self.revisions.remove(&key.name)),
            Action::Adopt { .. } | Action::Release { .. } => panic!("nothing changes hands here"),
        }
    }

    /// Pods run, and those that are marked are gone.
    fn run(&mut self) -> bool {
        let (before, now) = (self.pods.len(), self.now);
        self.pods.retain(|_, pod| pod.metadata.deletion_timestamp.is_none());
        let waiting = self.pods.values_mut().filter(|pod| pod_state::phase(pod) == "Pending");
        let started = waiting.map(|pod| {
            let status = format!(
                "{{phase: Running, conditions: [{{type: Ready, status: 'True', lastTransitionTime: '{now}'}}]}}"
            );
            pod.status = from_yaml(&status).unwrap();
        });
        started.count() > 0 || before != self.pods.len()
    }

    fn settle(&mut self) {
        let mut is_over = || {
            let (wanted, moved) = (self.pass(), self.run());
            !wanted && !moved
        };
        assert!((0..60).any(|_| is_over()), "it does not come to rest");
    }

    fn set_image(&mut self, image: &str) {
        self.set.spec.template.spec.as_mut().unwrap().containers[0].image = Some(image.to_owned());
    }

    /// The nodes and images of the pods that stay.
    fn pods(&self) -> String {
        let alive = self.pods.values().filter(|pod| pod.metadata.deletion_timestamp.is_none());
        let told = |pod: &Pod| {
            let image = pod.spec.as_ref().unwrap().containers[0].image.clone().unwrap();
            format!("{}:{image}", nodes::target(pod).unwrap())
        };
        let mut all: Vec<String> = alive.map(told).collect();
        all.sort();
        all.join(" ")
    }

    fn status(&self) -> DaemonSetStatus {
        self.set.status.clone().unwrap_or_default()
    }
}

#[test]
fn each_node_that_fits_has_one_pod_bound_to_it() {
    let taint = |effect: &str| format!("taints: [{{key: k, effect: {effect}}}]");
    let nodes = vec![
        node("a", ""),
        node("b", "unschedulable: true, taints: [{key: node.kubernetes.io/unschedulable, effect: NoSchedule}]"),
        node("c", &taint("NoSchedule")),
        node("d", &taint("NoExecute")),
    ];
    let mut world = World::new(set(""), nodes);
    world.settle();
    assert_eq!(world.pods(), "a:v1 b:v1");
    let status = world.status();
    assert_eq!((status.desired_number_scheduled, status.current_number_scheduled, status.number_ready), (2, 2, 2));
    assert_eq!(
        (status.number_available, status.number_unavailable, status.updated_number_scheduled),
        (Some(2), None, Some(2))
    );
    let pod = world.pods.values().next().unwrap();
    let tolerations = pod.spec.as_ref().unwrap().tolerations.as_ref().unwrap();
    let told: Vec<_> =
        tolerations.iter().map(|t| format!("{}:{}", t.key.as_ref().unwrap(), t.effect.as_ref().unwrap())).collect();
    assert_eq!(
        told.join(" "),
        "node.kubernetes.io/not-ready:NoExecute node.kubernetes.io/unreachable:NoExecute \
         node.kubernetes.io/disk-pressure:NoSchedule node.kubernetes.io/memory-pressure:NoSchedule \
         node.kubernetes.io/pid-pressure:NoSchedule node.kubernetes.io/unschedulable:NoSchedule"
    );
    world.nodes[0].spec = from_yaml("{taints: [{key: k, effect: NoSchedule}]}").unwrap();
    world.settle();
    assert_eq!((world.pods().as_str(), world.status().number_misscheduled), ("a:v1 b:v1", 1), "what runs may stay");
    world.nodes[0].spec = from_yaml("{taints: [{key: k, effect: NoExecute}]}").unwrap();
    world.settle();
    assert_eq!(world.pods(), "b:v1");
}

#[test]
fn selectors_pick_nodes() {
    let mut world = World::new(set(", nodeSelector: {disk: b}"), vec![node("a", ""), node("b", "")]);
    world.settle();
    assert_eq!(world.pods(), "b:v1");
    world.nodes[1].metadata.labels = None;
    world.settle();
    assert_eq!(world.pods(), "");
}

#[test]
fn an_update_replaces_as_many_as_may_be_missing() {
    let mut world = World::new(set(""), ["a", "b", "c"].map(|name| node(name, "")).into());
    world.settle();
    world.set_image("v2");
    world.pass();
    assert_eq!(world.pods().split(' ').count(), 2, "one goes at a time");
    world.pass();
    assert_eq!(world.made, 3, "none is made where the former has not gone");
    world.settle();
    assert_eq!(world.pods(), "a:v2 b:v2 c:v2");
    world.set.spec.update_strategy = from_yaml("{type: OnDelete}").unwrap();
    world.set_image("v3");
    world.settle();
    assert_eq!(world.pods(), "a:v2 b:v2 c:v2");
    assert_eq!(world.status().updated_number_scheduled, None);
}

#[test]
fn a_pod_is_available_once_it_was_ready_for_as_long_as_it_must() {
    let mut world = World::new(set(""), vec![node("a", ""), node("b", "")]);
    world.set.spec.min_ready_seconds = Some(10);
    world.settle();
    let told = |world: &World| (world.status().number_ready, world.status().number_available);
    assert_eq!(told(&world), (2, None));
    world.now += SignedDuration::from_secs(10);
    world.settle();
    assert_eq!(told(&world), (2, Some(2)));
    // An update goes on to the next node when the first one's is available.
    world.set_image("v2");
    world.settle();
    assert_eq!(world.pods.values().filter(|pod| pod.metadata.deletion_timestamp.is_none()).count(), 2);
    assert_eq!(world.status().updated_number_scheduled, Some(1));
    world.now += SignedDuration::from_secs(10);
    world.settle();
    world.now += SignedDuration::from_secs(10);
    world.settle();
    assert_eq!((world.pods(), told(&world)), ("a:v2 b:v2".to_owned(), (2, Some(2))));
}

#[test]
fn a_surge_makes_the_new_pod_before_the_old_one_goes() {
    let mut world = World::new(set(""), ["a", "b"].map(|name| node(name, "")).into());
    world.settle();
    world.set.spec.update_strategy =
        from_yaml("{type: RollingUpdate, rollingUpdate: {maxUnavailable: 0, maxSurge: 1}}").unwrap();
    world.set_image("v2");
    world.pass();
    assert_eq!(world.pods(), "a:v1 a:v2 b:v1");
    world.pass();
    assert_eq!(world.pods(), "a:v1 a:v2 b:v1", "it does not serve yet");
    world.settle();
    assert_eq!(world.pods(), "a:v2 b:v2");
}

#[test]
fn a_pod_that_ended_is_replaced_but_not_over_and_over() {
    let mut world = World::new(set(""), vec![node("a", "")]);
    world.settle();
    world.pods.values_mut().for_each(|pod| pod.status = from_yaml("{phase: Failed}").unwrap());
    let decision = DaemonSetController.decide(&world.observed());
    assert!(decision.is_rest() && decision.requeue_after.is_some(), "{decision:?}");
    world.now += SignedDuration::from_secs(11);
    world.settle();
    assert_eq!((world.pods().as_str(), world.made), ("a:v1", 2));
    assert_eq!(
        world.events,
        ["FailedDaemonPod: Found failed daemon pod default/log-001 on node a, will try to kill it"]
    );
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, cases: 64, ..ProptestConfig::default() })]

    /// Whatever happens in between, a node never has two pods of one template, and in the end each has one of the newest.
    #[test]
    fn a_node_has_one_pod(steps in prop::collection::vec(0..7u8, 0..60), surges: bool, n in 0..4usize) {
        let all: Vec<Node> = ["a", "b", "c", "d"].map(|name| node(name, "")).into();
        let mut world = World::new(set(""), all[..n].to_vec());
        if surges {
            world.set.spec.update_strategy = from_yaml("{type: RollingUpdate, rollingUpdate: {maxUnavailable: 0, maxSurge: 50%}}").unwrap();
        }
        for step in steps {
            world.now += SignedDuration::from_secs(20);
            match step {
                0..=2 => {
                    world.pass();
                }
                3 => {
                    world.run();
                }
                4 => world.set_image(&format!("v{}", world.made % 3)),
                5 => world.pods.values_mut().take(1).for_each(|pod| pod.status = from_yaml("{phase: Failed}").unwrap()),
                _ => world.nodes = all[..(world.made + n) % 5].to_vec(),
            }
            let mut seen = std::collections::BTreeSet::new();
            for pod in world.pods.values().filter(|pod| pod_state::is_active(pod)) {
                let place = (nodes::target(pod), pod.metadata.labels.as_ref().unwrap()[POD_REVISION].clone());
                prop_assert!(seen.insert(place.clone()), "{place:?} has two pods");
                prop_assert!(surges || seen.iter().filter(|(node, _)| *node == place.0).count() == 1, "{place:?} has two pods");
            }
        }
        world.nodes = all;
        world.now += SignedDuration::from_secs(20);
        world.settle();
        let image = world.set.spec.template.spec.as_ref().unwrap().containers[0].image.clone().unwrap();
        let wanted: Vec<_> = ["a", "b", "c", "d"].iter().map(|node| format!("{node}:{image}")).collect();
        prop_assert_eq!(world.pods(), wanted.join(" "));
    }
}

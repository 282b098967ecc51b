//! Decisions of the controller of pod sets as tables and snapshots, and a small world in which they are carried out at random.

#![allow(clippy::needless_raw_string_hashes, reason = "expect-test writes them")]

use super::{Observed, PodSetController, TOO_FEW, adapter::PodSet, rank};
use crate::{
    api::{
        kind::Kind,
        kinds::{pod::Pods, replica_set::ReplicaSets, replication_controller::ReplicationControllers},
        meta::controller_of,
        object::Object as _,
        status::ApiError,
    },
    controllers::runtime::{Action, Controller as _, Decision, Done, controller_reference, execute::StepResult},
};
use expect_test::{Expect, expect};
use jiff::{SignedDuration, Timestamp};
use k8s_openapi::{
    api::{
        apps::v1::ReplicaSet,
        core::v1::{Pod, ReplicationController},
    },
    apimachinery::pkg::apis::meta::v1::Time,
};
use proptest::prelude::*;
use std::{sync::Arc, time::Duration};

fn now() -> Timestamp {
    "2026-01-01T12:00:00Z".parse().unwrap()
}

fn replica_set(replicas: i32) -> ReplicaSet {
    crate::testing::from_yaml(&format!(
        "
metadata: {{name: web, namespace: default, uid: rs-uid, resourceVersion: '1', generation: 1}}
spec:
  replicas: {replicas}
  selector: {{matchLabels: {{app: web}}}}
  template:
    metadata: {{labels: {{app: web}}, annotations: {{note: x}}, finalizers: [example.com/hold]}}
    spec: {{containers: [{{name: c, image: v1}}]}}
"
    ))
    .unwrap()
}

/// A pod of `web` with this name and these changes to a ready, running one.
fn pod(name: &str, changes: &str) -> Pod {
    let mut pod: serde_json::Value = crate::testing::from_yaml(&format!(
        "
metadata: {{name: {name}, namespace: default, uid: uid-{name}, resourceVersion: '1', creationTimestamp: '2026-01-01T11:00:00Z', labels: {{app: web}}}}
spec: {{nodeName: n, containers: [{{name: c}}]}}
status:
  phase: Running
  conditions: [{{type: Ready, status: 'True', lastTransitionTime: '2026-01-01T11:00:00Z'}}]
"
    ))
    .unwrap();
    merge(&mut pod, crate::testing::from_yaml(changes).unwrap());
    let mut pod: Pod = serde_json::from_value(pod).unwrap();
    if pod.metadata.owner_references.is_none() {
        pod.metadata.owner_references = Some(vec![controller_reference(&ReplicaSets::INFO, &replica_set(1).metadata)]);
    }
    pod
}

fn merge(into: &mut serde_json::Value, from: serde_json::Value) {
    match (into, from) {
        (serde_json::Value::Object(into), serde_json::Value::Object(from)) => {
            for (key, value) in from {
                merge(into.entry(key).or_insert(serde_json::Value::Null), value);
            }
        }
        (into, from) => *into = from,
    }
}

fn observed<K: PodSet>(set: K::Object, pods: Vec<Pod>) -> Observed<K> {
    let selector = K::selector(&set);
    let pods = pods.into_iter().map(Arc::new).collect();
    Observed { set: Arc::new(set), selector, pods, namespace_goes: false, now: now() }
}

fn decide<K: PodSet>(observed: &Observed<K>) -> Decision {
    PodSetController::<K>::NEW.decide(observed)
}

fn conclude<K: PodSet>(observed: &Observed<K>, done: &Done) -> Decision {
    PodSetController::<K>::NEW.conclude(observed, done)
}

fn check<K: PodSet>(observed: &Observed<K>, expected: Expect) {
    expected.assert_eq(&decide(observed).to_text());
}

#[test]
fn pods_are_made_from_the_template() {
    let decision = decide(&observed::<ReplicaSets>(replica_set(2), vec![]));
    assert_eq!(decision.planned().count(), 2);
    let pod = decision.planned().next().unwrap().action.object::<Pods>().unwrap();
    expect![[r#"
        apiVersion: v1
        kind: Pod
        metadata:
          annotations:
            note: x
          finalizers:
          - example.com/hold
          generateName: web-
          labels:
            app: web
          namespace: default
          ownerReferences:
          - apiVersion: apps/v1
            blockOwnerDeletion: true
            controller: true
            kind: ReplicaSet
            name: web
            uid: rs-uid
        spec:
          containers:
          - image: v1
            name: c
    "#]]
    .assert_eq(&serde_yaml::to_string(pod).unwrap());
}

#[test]
fn a_replication_controller_is_served_by_the_same_rules() {
    let rc: ReplicationController = crate::testing::from_yaml(
        "
metadata: {name: old, namespace: default, uid: rc-uid, resourceVersion: '1', generation: 3}
spec: {replicas: 1, selector: {app: old}, template: {metadata: {labels: {app: old}}, spec: {containers: [{name: c}]}}}
",
    )
    .unwrap();
    let o = observed::<ReplicationControllers>(rc, vec![]);
    let decision = decide(&o);
    let made = decision.planned().next().unwrap().action.object::<Pods>().unwrap();
    assert_eq!(made.metadata.generate_name.as_deref(), Some("old-"));
    let owner = controller_of(&made.metadata).unwrap();
    assert_eq!((owner.api_version.as_str(), owner.kind.as_str()), ("v1", "ReplicationController"));
    let decision = conclude(&o, &Done::default());
    let status = decision.planned().next().unwrap().action.object::<ReplicationControllers>().unwrap();
    assert_eq!(status.status.as_ref().unwrap().observed_generation, Some(3));
}

#[test]
fn pods_that_ended_or_go_do_not_count_and_are_left_alone() {
    let pods = vec![
        pod("runs", "{}"),
        pod("failed", "{status: {phase: Failed}}"),
        pod("done", "{status: {phase: Succeeded}}"),
        pod("goes", "{metadata: {deletionTimestamp: '2026-01-01T11:59:59Z'}}"),
    ];
    assert_eq!(decide(&observed::<ReplicaSets>(replica_set(3), pods.clone())).planned().count(), 2);
    assert!(decide(&observed::<ReplicaSets>(replica_set(1), pods)).is_rest());
}

#[test]
fn orphans_are_adopted_and_relabelled_pods_released_before_anything_else() {
    let mut orphan = pod("orphan", "{}");
    orphan.metadata.owner_references = None;
    let relabelled = pod("relabelled", "{metadata: {labels: {app: other}}}");
    let other = pod(
        "other",
        "{metadata: {ownerReferences: [{apiVersion: apps/v1, kind: ReplicaSet, name: x, uid: x, controller: true}]}}",
    );
    let mut ended = pod("ended", "{status: {phase: Failed}}");
    ended.metadata.owner_references = None;
    check(
        &observed::<ReplicaSets>(replica_set(5), vec![orphan, relabelled, other, ended]),
        expect![[r#"
        adopt Pod default/orphan for ReplicaSet web (the selector selects an orphan)
        release Pod default/relabelled (the selector no longer selects it)"#]],
    );
}

#[test]
fn the_pods_that_matter_least_go_first() {
    let cost =
        |n: &str| format!("{{metadata: {{annotations: {{controller.kubernetes.io/pod-deletion-cost: '{n}'}}}}}}");
    // Each goes before the one after it.
    let in_order = vec![
        pod("unassigned", "{spec: {nodeName: null}}"),
        pod("pending", "{status: {phase: Pending}}"),
        pod("unknown", "{status: {phase: Unknown}}"),
        pod("not-ready", "{status: {conditions: [{type: Ready, status: 'False'}]}}"),
        pod("cheap", &cost("-5")),
        pod(
            "just-ready",
            "{status: {conditions: [{type: Ready, status: 'True', lastTransitionTime: '2026-01-01T11:59:59Z'}]}}",
        ),
        pod(
            "restarted",
            "{status: {containerStatuses: [{name: c, restartCount: 4, image: i, imageID: i, ready: true}]}}",
        ),
        pod("young", "{metadata: {creationTimestamp: '2026-01-01T11:59:59Z'}}"),
        pod("zz-same-as-plain-but-cost-is-nonsense", &cost("+7")),
        pod("dear", &cost("100")),
    ];
    let names = |pods: Vec<&Pod>| pods.iter().map(|p| p.metadata.name.clone().unwrap()).collect::<Vec<_>>();
    let expected = names(in_order.iter().collect());
    let backwards: Vec<&Pod> = in_order.iter().rev().collect();
    assert_eq!(names(rank::first_to_go(backwards, 100, now())), expected);
    let o = observed::<ReplicaSets>(replica_set(8), in_order.clone());
    check(
        &o,
        expect![[r#"
        delete Pod default/unassigned (there are too many pods)
        delete Pod default/pending (there are too many pods)"#]],
    );
}

#[test]
fn a_set_that_goes_or_whose_namespace_goes_makes_no_pods() {
    let mut goes = replica_set(3);
    goes.metadata.deletion_timestamp = Some(Time(now()));
    assert!(decide(&observed::<ReplicaSets>(goes, vec![])).is_rest());
    let mut o = observed::<ReplicaSets>(replica_set(3), vec![]);
    o.namespace_goes = true;
    assert!(decide(&o).is_rest());
}

#[test]
fn no_more_than_the_burst_is_made_or_deleted_at_once() {
    assert_eq!(decide(&observed::<ReplicaSets>(replica_set(2000), vec![])).planned().count(), 500);
    let pods = (0..700).map(|i| pod(&format!("p{i}"), "{}")).collect();
    assert_eq!(decide(&observed::<ReplicaSets>(replica_set(100), pods)).planned().count(), 500);
}

fn status_of(decision: &Decision) -> ReplicaSet {
    decision.planned().next().expect("the status is written").action.object::<ReplicaSets>().unwrap().clone()
}

#[test]
fn the_status_counts_pods_and_waits_for_the_next_to_become_available() {
    let mut set = replica_set(4);
    set.spec.min_ready_seconds = Some(30);
    let ready_at =
        |at: &str| format!("{{status: {{conditions: [{{type: Ready, status: 'True', lastTransitionTime: '{at}'}}]}}}}");
    let pods = vec![
        pod("long-ready", "{}"),
        pod("ready-for-20s", &ready_at("2026-01-01T11:59:40Z")),
        pod("ready-for-30s", &ready_at("2026-01-01T11:59:30Z")),
        pod("not-ready", "{metadata: {labels: {app: web, extra: y}}, status: {conditions: []}}"),
        pod("goes", "{metadata: {deletionTimestamp: '2026-01-01T11:59:59Z'}}"),
        pod("ended", "{metadata: {deletionTimestamp: '2026-01-01T11:59:59Z'}, status: {phase: Failed}}"),
    ];
    let o = observed::<ReplicaSets>(set, pods);
    let decision = conclude(&o, &Done::default());
    expect![[r#"
        availableReplicas: 2
        fullyLabeledReplicas: 4
        observedGeneration: 1
        readyReplicas: 3
        replicas: 4
        terminatingReplicas: 1
    "#]]
    .assert_eq(&serde_yaml::to_string(&status_of(&decision).status).unwrap());
    assert_eq!(decision.requeue_after, Some(Duration::from_secs(10)));
    let mut later = observed::<ReplicaSets>(status_of(&decision), o.pods.iter().map(|p| Pod::clone(p)).collect());
    later.now = now() + SignedDuration::from_secs(10);
    let decision = conclude(&later, &Done::default());
    assert_eq!(status_of(&decision).status.unwrap().available_replicas, Some(3));
    assert_eq!(decision.requeue_after, None);
}

#[test]
fn a_failure_to_make_pods_is_a_condition_until_it_works() {
    let failed = Done {
        results: vec![StepResult {
            why: TOO_FEW,
            name: String::new(),
            result: Err(ApiError::Forbidden { resource: "pods".into(), name: "web-".into(), why: "quota".into() }),
        }],
        skipped: 2,
    };
    let first = status_of(&conclude(&observed::<ReplicaSets>(replica_set(3), vec![]), &failed));
    let condition = first.status.as_ref().unwrap().conditions.as_ref().unwrap()[0].clone();
    assert_eq!(condition.type_.as_deref(), Some("ReplicaFailure"));
    assert_eq!(condition.reason.as_deref(), Some("FailedCreate"));
    assert_eq!(condition.message.as_deref(), Some("pods \"web-\" is forbidden: quota"));
    assert!(conclude(&observed::<ReplicaSets>(first.clone(), vec![]), &failed).is_rest());
    let healed = status_of(&conclude(&observed::<ReplicaSets>(first, vec![]), &Done::default()));
    assert_eq!(healed.status.unwrap().conditions, None);
}

/// What becomes of pods when decisions are carried out.
struct World {
    set: ReplicaSet,
    pods: Vec<Pod>,
    made: usize,
}

impl World {
    fn pass(&mut self) -> bool {
        let decision = decide(&observed::<ReplicaSets>(self.set.clone(), self.pods.clone()));
        for planned in decision.planned() {
            self.write(&planned.action);
        }
        let closing = conclude(&observed::<ReplicaSets>(self.set.clone(), self.pods.clone()), &Done::default());
        for planned in closing.planned() {
            self.set = planned.action.object::<ReplicaSets>().unwrap().clone();
        }
        !decision.is_rest() || !closing.is_rest()
    }

    fn write(&mut self, action: &Action) {
        let at = |pods: &[Pod], name: &str| pods.iter().position(|p| p.metadata.name.as_deref() == Some(name)).unwrap();
        match action {
            Action::Create { .. } => {
                self.made += 1;
                let mut pod = action.object::<Pods>().unwrap().clone();
                pod.metadata.name = Some(format!("made-{}", self.made));
                pod.metadata.uid = pod.metadata.name.clone();
                self.pods.push(pod);
            }
            Action::Delete { key, .. } => drop(self.pods.remove(at(&self.pods, &key.name))),
            Action::Adopt { key, owner, .. } => {
                let i = at(&self.pods, &key.name);
                self.pods[i].metadata.owner_references = Some(vec![owner.clone()]);
            }
            Action::Release { key, .. } => {
                let i = at(&self.pods, &key.name);
                self.pods[i].metadata.owner_references = None;
            }
            Action::Update { .. } => panic!("pods are not updated"),
        }
    }

    fn active(&self) -> usize {
        let uid = self.set.meta().uid.clone();
        let ours = |p: &&Pod| controller_of(&p.metadata).map(|o| o.uid.clone()) == uid;
        self.pods.iter().filter(ours).filter(|p| crate::api::pod_state::is_active(p)).count()
    }
}

fn any_pod() -> impl Strategy<Value = Pod> {
    let phase = prop_oneof![Just("Pending"), Just("Running"), Just("Failed"), Just("Unknown")];
    (phase, any::<bool>(), any::<bool>(), any::<bool>(), any::<u16>()).prop_map(
        |(phase, orphan, relabelled, goes, n)| {
            let mut p = pod(&format!("p{n}"), &format!("{{status: {{phase: {phase}}}}}"));
            if orphan {
                p.metadata.owner_references = None;
            }
            if relabelled {
                p.metadata.labels.as_mut().unwrap().insert("app".into(), "other".into());
            }
            if goes {
                p.metadata.deletion_timestamp = Some(Time(now()));
            }
            p
        },
    )
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn from_any_pods_it_converges_and_then_rests(replicas in 0..12i32, pods in prop::collection::vec(any_pod(), 0..12)) {
        let mut pods = pods;
        pods.dedup_by_key(|p| p.metadata.name.clone());
        let mut seen = std::collections::BTreeSet::new();
        pods.retain(|p| seen.insert(p.metadata.name.clone()));
        let mut world = World { set: replica_set(replicas), pods, made: 0 };
        for _ in 0..4 {
            world.pass();
        }
        prop_assert_eq!(world.active(), usize::try_from(replicas).unwrap());
        prop_assert!(!world.pass(), "at rest nothing is decided");
        prop_assert_eq!(world.set.status.unwrap().replicas, replicas);
    }
}

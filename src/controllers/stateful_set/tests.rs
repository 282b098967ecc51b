//! Decisions of the StatefulSet controller as tables, and a small world in which they are carried out while pods come and go at random.

use super::{Observed, StatefulSetController, claims::Claims, pods::POD_NAME};
use crate::{
    api::{
        kinds::{controller_revision::ControllerRevisions, pod::Pods, stateful_set::StatefulSets},
        pod_state,
    },
    controllers::{
        revisions::POD_REVISION,
        runtime::{Action, Controller as _, Decision, Done, Report},
    },
    testing::from_yaml,
};
use jiff::{SignedDuration, Timestamp};
use k8s_openapi::{
    api::{
        apps::v1::{ControllerRevision, StatefulSet, StatefulSetStatus},
        core::v1::{PersistentVolumeClaim, Pod},
    },
    apimachinery::pkg::apis::meta::v1::Time,
};
use proptest::prelude::*;
use std::{collections::BTreeMap, sync::Arc};

/// A set of so many pods with these fields in its spec.
fn set(replicas: i32, fields: &str) -> StatefulSet {
    from_yaml(&format!(
        "
metadata: {{name: db, namespace: default, uid: set-uid, resourceVersion: '1', generation: 1}}
spec:
  replicas: {replicas}
  serviceName: db
  selector: {{matchLabels: {{app: db}}}}
  podManagementPolicy: OrderedReady
  updateStrategy: {{type: RollingUpdate, rollingUpdate: {{partition: 0}}}}
  template:
    metadata: {{labels: {{app: db}}}}
    spec: {{containers: [{{name: c, image: v1}}]}}
{fields}"
    ))
    .unwrap()
}

/// What a store has.
struct World {
    set: StatefulSet,
    pods: BTreeMap<String, Pod>,
    revisions: BTreeMap<String, ControllerRevision>,
    claims: BTreeMap<String, PersistentVolumeClaim>,
    now: Timestamp,
    made: usize,
    events: Vec<String>,
}

impl World {
    fn new(set: StatefulSet) -> Self {
        Self {
            set,
            pods: BTreeMap::new(),
            revisions: BTreeMap::new(),
            claims: BTreeMap::new(),
            now: "2026-01-01T12:00:00Z".parse().unwrap(),
            made: 0,
            events: Vec::new(),
        }
    }

    fn observed(&self) -> Observed {
        Observed {
            set: Arc::new(self.set.clone()),
            revisions: self.revisions.values().cloned().map(Arc::new).collect(),
            pods: self.pods.values().cloned().map(Arc::new).collect(),
            claims: self.claims.values().cloned().map(Arc::new).collect(),
            namespace_goes: false,
            now: self.now,
        }
    }

    /// One pass. Says whether it wanted anything.
    fn pass(&mut self) -> bool {
        let decision = StatefulSetController.decide(&self.observed());
        self.carry(&decision);
        let closing = StatefulSetController.conclude(&self.observed(), &Done::default());
        self.carry(&closing);
        !decision.is_rest() || !closing.is_rest()
    }

    fn carry(&mut self, decision: &Decision) {
        self.events.extend(decision.events.iter().map(|event| format!("{}: {}", event.reason, event.message)));
        for planned in decision.planned() {
            self.write(&planned.action);
            if let Report::Outcome(events) = &planned.report {
                self.events.push(format!("{}: {}", events[0].reason, events[0].message));
            }
        }
    }

    /// Passes until nothing is wanted; what runs becomes ready before each, and what goes is gone.
    fn settle(&mut self) {
        assert!((0..60).any(|_| !self.pass_and_run()), "it does not come to rest: {:?}", self.status());
    }

    fn pass_and_run(&mut self) -> bool {
        let before: Vec<_> = self.names();
        self.sweep();
        let waits: Vec<String> = self.pods.keys().cloned().collect();
        let started = waits.iter().filter(|name| self.run(name)).count();
        self.pass() || started > 0 || before != self.names()
    }

    fn write(&mut self, action: &Action) {
        self.made += 1;
        let uid = Some(format!("uid-{}", self.made));
        match action {
            Action::Create { .. } | Action::Update { .. } => {
                if let Some(mut pod) = action.read::<Pods>() {
                    let name = pod.metadata.name.clone().unwrap();
                    if matches!(action, Action::Create { .. }) {
                        assert!(!self.pods.contains_key(&name), "{name} is there already");
                        pod.metadata.uid = uid;
                        pod.status = from_yaml("{phase: Pending}").unwrap();
                    }
                    pod.metadata.resource_version = Some("1".into());
                    self.pods.insert(name, pod);
                } else if let Some(mut revision) = action.read::<ControllerRevisions>() {
                    revision.metadata.resource_version = Some("1".into());
                    self.revisions.insert(revision.metadata.name.clone().unwrap(), revision);
                } else if let Some(mut claim) = action.read::<Claims>() {
                    claim.metadata.resource_version = Some("1".into());
                    self.claims.insert(claim.metadata.name.clone().unwrap(), claim);
                } else {
                    self.set = action.read::<StatefulSets>().unwrap();
                }
            }
            Action::Delete { kind, key, .. } if kind.info().kind == "Pod" => self.delete(&key.name),
            Action::Delete { key, .. } => drop(self.revisions.remove(&key.name)),
            Action::Adopt { key, owner, .. } => {
                self.pods.get_mut(&key.name).unwrap().metadata.owner_references = Some(vec![owner.clone()]);
            }
            Action::Release { key, .. } => self.pods.get_mut(&key.name).unwrap().metadata.owner_references = None,
        }
    }

    fn delete(&mut self, name: &str) {
        if let Some(pod) = self.pods.get_mut(name) {
            pod.metadata.deletion_timestamp = Some(Time(self.now));
        }
    }

    /// What is marked is gone.
    fn sweep(&mut self) {
        self.pods.retain(|_, pod| pod.metadata.deletion_timestamp.is_none());
    }

    /// Lets a pod become ready, unless its image is bad. Says whether it did.
    fn run(&mut self, name: &str) -> bool {
        let now = self.now;
        let pod = self.pods.get_mut(name).unwrap();
        let image = pod.spec.as_ref().unwrap().containers[0].image.clone().unwrap();
        let is_waiting = pod_state::phase(pod) == "Pending";
        if !is_waiting || image == "bad" {
            return false;
        }
        let status =
            format!("{{phase: Running, conditions: [{{type: Ready, status: 'True', lastTransitionTime: '{now}'}}]}}");
        pod.status = from_yaml(&status).unwrap();
        true
    }

    fn set_status(&mut self, name: &str, status: &str) {
        self.pods.get_mut(name).unwrap().status = from_yaml(status).unwrap();
    }

    fn set_image(&mut self, image: &str) {
        self.set.spec.template.spec.as_mut().unwrap().containers[0].image = Some(image.to_owned());
        self.set.metadata.generation = self.set.metadata.generation.map(|n| n + 1);
    }

    fn names(&self) -> Vec<String> {
        self.pods.keys().cloned().collect()
    }

    fn images(&self) -> String {
        let image = |pod: &Pod| pod.spec.as_ref().unwrap().containers[0].image.clone().unwrap();
        self.pods.values().map(image).collect::<Vec<_>>().join(" ")
    }

    fn status(&self) -> StatefulSetStatus {
        self.set.status.clone().unwrap_or_default()
    }
}

#[test]
fn pods_are_made_one_after_the_other_and_keep_their_names() {
    let mut world = World::new(set(3, ""));
    world.pass();
    assert_eq!(world.names(), ["db-0"]);
    world.pass();
    assert_eq!(world.names(), ["db-0"], "the second waits for the first");
    let pod = world.pods["db-0"].clone();
    let labels = pod.metadata.labels.unwrap();
    assert_eq!((&*labels[POD_NAME], &*labels["apps.kubernetes.io/pod-index"]), ("db-0", "0"));
    assert!(world.revisions.contains_key(&labels[POD_REVISION]));
    let spec = pod.spec.unwrap();
    assert_eq!((spec.hostname.as_deref(), spec.subdomain.as_deref()), (Some("db-0"), Some("db")));
    world.run("db-0");
    world.pass();
    assert_eq!(world.names(), ["db-0", "db-1"]);
    world.settle();
    assert_eq!(world.names(), ["db-0", "db-1", "db-2"]);
    let status = world.status();
    assert_eq!((status.replicas, status.ready_replicas, status.available_replicas), (3, Some(3), Some(3)));
    assert_eq!((status.current_replicas, status.updated_replicas), (Some(3), Some(3)));
    assert_eq!(status.current_revision, status.update_revision);
    assert_eq!(world.events[0], "SuccessfulCreate: create Pod db-0 in StatefulSet db successful");
}

#[test]
fn a_pod_counts_once_it_was_ready_for_as_long_as_it_must() {
    let mut world = World::new(set(2, "  minReadySeconds: 10\n"));
    world.pass();
    world.run("db-0");
    world.pass();
    assert_eq!(world.names(), ["db-0"], "the second waits until the first is available");
    let decision = StatefulSetController.conclude(&world.observed(), &Done::default());
    assert_eq!((world.status().ready_replicas, world.status().available_replicas), (Some(1), Some(0)));
    assert!(decision.requeue_after.is_some_and(|wait| wait.as_secs() == 10), "{:?}", decision.requeue_after);
    world.now += SignedDuration::from_secs(10);
    world.pass();
    assert_eq!(
        (world.names(), world.status().available_replicas),
        (vec!["db-0".to_owned(), "db-1".to_owned()], Some(1))
    );
}

#[test]
fn in_parallel_all_are_made_at_once_and_ordinals_may_start_anywhere() {
    let mut world = World::new(set(3, "  ordinals: {start: 5}\n"));
    world.set.spec.pod_management_policy = Some("Parallel".into());
    world.pass();
    assert_eq!(world.names(), ["db-5", "db-6", "db-7"]);
    world.set.spec.replicas = Some(i32::MAX);
    world.pass();
    assert_eq!(world.names().len(), 503, "no more than so many in a pass");
}

#[test]
fn there_are_fewer_from_the_top_one_at_a_time() {
    let mut world = World::new(set(3, ""));
    world.settle();
    world.set.spec.replicas = Some(1);
    world.pass();
    let going: Vec<_> = world.pods.values().filter(|pod| pod.metadata.deletion_timestamp.is_some()).collect();
    assert_eq!(going.iter().map(|pod| pod.metadata.name.as_deref().unwrap()).collect::<Vec<_>>(), ["db-2"]);
    world.pass();
    assert_eq!(world.names().len(), 3, "the next waits until it has gone");
    world.settle();
    assert_eq!(world.names(), ["db-0"]);
}

#[test]
fn an_update_goes_from_the_top_down_to_the_partition() {
    let mut world = World::new(set(3, ""));
    world.settle();
    world.set.spec.update_strategy = from_yaml("{type: RollingUpdate, rollingUpdate: {partition: 2}}").unwrap();
    world.set_image("v2");
    world.settle();
    assert_eq!(world.images(), "v1 v1 v2");
    let status = world.status();
    assert_eq!((status.current_replicas, status.updated_replicas), (Some(2), Some(1)));
    assert_ne!(status.current_revision, status.update_revision);
    world.delete("db-0");
    world.settle();
    assert_eq!(world.images(), "v1 v1 v2", "below the partition the former template stays");
    world.set.spec.update_strategy = from_yaml("{type: RollingUpdate, rollingUpdate: {partition: 0}}").unwrap();
    world.settle();
    assert_eq!(world.images(), "v2 v2 v2");
    assert_eq!(world.status().current_revision, world.status().update_revision);
    assert_eq!(
        world.revisions.values().filter_map(|r| r.revision).collect::<std::collections::BTreeSet<_>>(),
        [1, 2].into()
    );
}

#[test]
fn as_many_are_replaced_at_once_as_may_be_missing_and_none_on_delete() {
    let mut world = World::new(set(4, ""));
    world.settle();
    world.set.spec.update_strategy =
        from_yaml("{type: RollingUpdate, rollingUpdate: {partition: 0, maxUnavailable: 50%}}").unwrap();
    world.set_image("v2");
    world.pass();
    let going = world.pods.values().filter(|pod| pod.metadata.deletion_timestamp.is_some());
    assert_eq!(going.map(|pod| pod.metadata.name.as_deref().unwrap()).collect::<Vec<_>>(), ["db-2", "db-3"]);
    world.settle();
    world.set.spec.update_strategy = from_yaml("{type: OnDelete}").unwrap();
    world.set_image("v3");
    world.settle();
    assert_eq!(world.images(), "v2 v2 v2 v2");
    world.delete("db-1");
    world.settle();
    assert_eq!(world.images(), "v2 v3 v2 v2");
}

#[test]
fn a_bad_update_stops_at_its_first_pod_and_is_left_by_the_next() {
    let mut world = World::new(set(3, ""));
    world.settle();
    world.set_image("bad");
    world.settle();
    assert_eq!(world.images(), "v1 v1 bad");
    world.set_status("db-2", "{phase: Pending, containerStatuses: [{name: c, image: i, imageID: '', ready: false, restartCount: 0, state: {waiting: {reason: ImagePullBackOff}}}]}");
    world.settle();
    assert_eq!(world.images(), "v1 v1 bad", "what is up to date is not touched");
    world.set_image("v1");
    world.settle();
    assert_eq!(world.images(), "v1 v1 v1");
    let numbers: Vec<_> = world.revisions.values().filter_map(|r| r.revision).collect();
    assert_eq!(numbers.iter().max(), Some(&3), "the old template is the newest revision again");
    assert_eq!(world.revisions.len(), 2);
}

#[test]
fn a_pod_that_has_ended_is_made_again_under_its_name() {
    let mut world = World::new(set(2, ""));
    world.settle();
    world.set_status("db-0", "{phase: Failed, reason: Evicted}");
    world.events.clear();
    world.settle();
    assert_eq!(world.names(), ["db-0", "db-1"]);
    assert!(world.pods.values().all(pod_state::is_pod_ready));
    assert_eq!(
        world.events,
        [
            "RecreatingFailedPod: StatefulSet default/db is recreating failed Pod db-0",
            "SuccessfulDelete: delete Pod db-0 in StatefulSet db successful",
            "SuccessfulCreate: create Pod db-0 in StatefulSet db successful",
        ]
    );
}

#[test]
fn pods_have_claims_of_their_own_that_stay_or_go_with_them() {
    let fields = "  volumeClaimTemplates: [{metadata: {name: data}, spec: {accessModes: [ReadWriteOnce]}}]\n";
    let mut world = World::new(set(2, fields));
    world.settle();
    assert_eq!(world.claims.keys().collect::<Vec<_>>(), ["data-db-0", "data-db-1"]);
    let volume = world.pods["db-1"].spec.as_ref().unwrap().volumes.clone().unwrap().remove(0);
    assert_eq!(
        (volume.name.as_str(), volume.persistent_volume_claim.unwrap().claim_name.as_str()),
        ("data", "data-db-1")
    );
    let claim = &world.claims["data-db-0"].metadata;
    assert_eq!((claim.labels.clone().unwrap()["app"].as_str(), &claim.owner_references), ("db", &None));
    world.set.spec.persistent_volume_claim_retention_policy =
        from_yaml("{whenDeleted: Delete, whenScaled: Delete}").unwrap();
    world.settle();
    let owner = |world: &World, claim: &str| {
        world.claims[claim].metadata.owner_references.as_ref().map(|owners| owners[0].kind.clone()).unwrap_or_default()
    };
    assert_eq!(
        (owner(&world, "data-db-0").as_str(), owner(&world, "data-db-1").as_str()),
        ("StatefulSet", "StatefulSet")
    );
    world.set.spec.replicas = Some(1);
    world.settle();
    assert_eq!((world.names(), owner(&world, "data-db-1").as_str()), (vec!["db-0".to_owned()], "Pod"));
    world.set.spec.replicas = Some(2);
    world.settle();
    assert_eq!(world.names(), ["db-0"], "the claim of the former pod must go first");
    world.claims.remove("data-db-1");
    world.settle();
    assert_eq!(world.names(), ["db-0", "db-1"]);
}

#[test]
fn only_pods_of_its_naming_are_adopted_and_what_is_not_used_is_forgotten() {
    let mut world = World::new(set(1, "  revisionHistoryLimit: 1\n"));
    for name in ["db-0", "db-01", "other"] {
        let pod = format!(
            "{{metadata: {{name: {name}, namespace: default, uid: {name}, labels: {{app: db}}}}, spec: {{containers: [{{name: c, image: v0}}]}}, status: {{phase: Pending}}}}"
        );
        world.pods.insert(name.to_owned(), from_yaml(&pod).unwrap());
    }
    world.pass();
    let owned = |name: &str| world.pods[name].metadata.owner_references.is_some();
    assert_eq!((owned("db-0"), owned("db-01"), owned("other")), (true, false, false));
    for image in ["v2", "v3", "v4"] {
        world.set_image(image);
        world.settle();
    }
    assert_eq!(world.revisions.len(), 2, "the one that is used, and one before it");
    assert_eq!(world.pods["db-0"].spec.as_ref().unwrap().containers[0].image.as_deref(), Some("v4"));
}

#[test]
fn pods_that_have_ended_do_not_hold_up_that_the_set_shrinks() {
    for (phases, left) in [(["Failed", "Failed"], 0), (["Succeeded", "Failed"], 0), (["Failed", "Succeeded"], 1)] {
        let mut world = World::new(set(2, ""));
        world.settle();
        world.set.spec.replicas = Some(left);
        for (n, phase) in phases.iter().enumerate() {
            world.set_status(&format!("db-{n}"), &format!("{{phase: {phase}}}"));
        }
        world.settle();
        assert_eq!(world.names().len(), usize::try_from(left).unwrap(), "{phases:?}");
    }
}

#[derive(Clone, Debug)]
enum Happening {
    Pass,
    Run,
    Gone,
    Scale(i32),
    Image(u8),
    Delete(usize),
    Fail(usize),
    Partition(i32),
}

fn happening() -> impl Strategy<Value = Happening> {
    prop_oneof![
        6 => Just(Happening::Pass),
        4 => Just(Happening::Run),
        4 => Just(Happening::Gone),
        1 => (0..5i32).prop_map(Happening::Scale),
        1 => (0..4u8).prop_map(Happening::Image),
        1 => (0..5usize).prop_map(Happening::Delete),
        1 => (0..5usize).prop_map(Happening::Fail),
        1 => (0..4i32).prop_map(Happening::Partition),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, cases: 96, ..ProptestConfig::default() })]

    /// Whatever happens, an ordinal has one pod; in order none is made above a hole; in the end all are there and of the newest template.
    #[test]
    fn ordinals_have_no_holes(
        replicas in 0..5i32, is_parallel: bool, happenings in prop::collection::vec(happening(), 0..80),
    ) {
        let mut world = World::new(set(replicas, ""));
        if is_parallel {
            world.set.spec.pod_management_policy = Some("Parallel".into());
        }
        for happening in happenings {
            world.now += SignedDuration::from_secs(1);
            let nth = |world: &World, n: usize| world.names().get(n).cloned();
            match happening {
                Happening::Pass => {
                    let before = world.names();
                    world.pass();
                    let new: Vec<String> = world.names().into_iter().filter(|name| !before.contains(name)).collect();
                    prop_assert!(is_parallel || new.len() <= 1, "{new:?} are made at once");
                    if let (false, Some(new)) = (is_parallel, new.first()) {
                        let ordinal: usize = new.strip_prefix("db-").unwrap().parse().unwrap();
                        let ready = |n: usize| world.pods.get(&format!("db-{n}")).is_some_and(pod_state::is_pod_ready);
                        prop_assert!((0..ordinal).all(ready), "{new} is made above what is not ready");
                    }
                }
                Happening::Run => {
                    for name in world.names() {
                        world.run(&name);
                    }
                }
                Happening::Gone => world.sweep(),
                Happening::Scale(n) => world.set.spec.replicas = Some(n),
                Happening::Image(n) => world.set_image(&format!("v{n}")),
                Happening::Delete(n) => nth(&world, n).iter().for_each(|name| world.delete(name)),
                Happening::Fail(n) => nth(&world, n).iter().for_each(|name| world.set_status(name, "{phase: Failed}")),
                Happening::Partition(n) => {
                    let strategy = format!("{{type: RollingUpdate, rollingUpdate: {{partition: {n}}}}}");
                    world.set.spec.update_strategy = from_yaml(&strategy).unwrap();
                }
            }
        }
        world.set.spec.update_strategy = from_yaml("{type: RollingUpdate, rollingUpdate: {partition: 0}}").unwrap();
        world.settle();
        let wanted = world.set.spec.replicas.unwrap();
        prop_assert_eq!(world.names(), (0..wanted).map(|n| format!("db-{n}")).collect::<Vec<_>>());
        let newest = world.status().update_revision.unwrap();
        prop_assert!(world.pods.values().all(|pod| pod.metadata.labels.as_ref().unwrap()[POD_REVISION] == newest));
        prop_assert_eq!(world.status().replicas, wanted);
    }
}

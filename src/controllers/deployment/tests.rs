//! Decisions of the Deployment controller as tables and snapshots, and a small world in which they are carried out at random.

#![allow(clippy::needless_raw_string_hashes, reason = "expect-test writes them")]

use super::{
    DeploymentController, Observed,
    history::{DESIRED_REPLICAS, MAX_REPLICAS, REVISION},
    sets::{self, Sets, actual, available, replicas, size},
};
use crate::api::kind::Kind as _;
use crate::{
    api::{
        kinds::{deployment::Deployments, replica_set::ReplicaSets},
        status::ApiError,
    },
    controllers::{
        runtime::{Action, Controller as _, Decision, Done, controller_reference, execute::StepResult},
        template_hash::HASH_LABEL,
    },
};
use expect_test::{Expect, expect};
use jiff::{SignedDuration, Timestamp};
use k8s_openapi::{
    api::{
        apps::v1::{
            Deployment, DeploymentCondition, DeploymentStatus, ReplicaSet, ReplicaSetCondition, ReplicaSetStatus,
        },
        core::v1::Pod,
    },
    apimachinery::pkg::apis::meta::v1::Time,
};
use proptest::prelude::*;
use std::{sync::Arc, time::Duration};

fn now() -> Timestamp {
    "2026-01-01T12:00:00Z".parse().unwrap()
}

/// A Deployment `web` of image `v1`, as the API defaults it, with this pace.
fn deployment(replicas: i32, surge: i32, unavailable: i32) -> Deployment {
    crate::testing::from_yaml(&format!(
        "
metadata: {{name: web, namespace: default, uid: d-uid, resourceVersion: '1', generation: 1}}
spec:
  replicas: {replicas}
  revisionHistoryLimit: 10
  progressDeadlineSeconds: 600
  selector: {{matchLabels: {{app: web}}}}
  strategy: {{type: RollingUpdate, rollingUpdate: {{maxSurge: {surge}, maxUnavailable: {unavailable}}}}}
  template:
    metadata: {{labels: {{app: web}}}}
    spec: {{containers: [{{name: c, image: v1}}]}}
"
    ))
    .unwrap()
}

/// A set of `web` with this image, age in seconds, size and available pods, as a rollout of these replicas left it.
fn set(d: &Deployment, image: &str, revision: i64, size: i32, available: i32) -> ReplicaSet {
    let fence = sets::fence(d);
    let max = replicas(d) + fence.surge;
    let desired = replicas(d);
    let mut set: ReplicaSet = crate::testing::from_yaml(&format!(
        "
metadata:
  name: web-{image}
  namespace: default
  uid: uid-{image}
  resourceVersion: '1'
  generation: 1
  creationTimestamp: '2026-01-01T11:00:{revision:02}Z'
  labels: {{app: web, pod-template-hash: {image}}}
  annotations:
    {REVISION}: '{revision}'
    {DESIRED_REPLICAS}: '{desired}'
    {MAX_REPLICAS}: '{max}'
spec:
  replicas: {size}
  selector: {{matchLabels: {{app: web, pod-template-hash: {image}}}}}
  template:
    metadata: {{labels: {{app: web, pod-template-hash: {image}}}}}
    spec: {{containers: [{{name: c, image: {image}}}]}}
status: {{replicas: {size}, readyReplicas: {available}, availableReplicas: {available}, observedGeneration: 1}}
"
    ))
    .unwrap();
    set.metadata.owner_references = Some(vec![controller_reference(&Deployments::INFO, &d.metadata)]);
    set
}

fn with_image(mut d: Deployment, image: &str) -> Deployment {
    d.spec.template.spec.as_mut().unwrap().containers[0].image = Some(image.into());
    d
}

fn observed(d: &Deployment, mut sets: Vec<ReplicaSet>) -> Observed {
    sets.sort_by(sets::by_age);
    Observed {
        deployment: Arc::new(d.clone()),
        replica_sets: sets.into_iter().map(Arc::new).collect(),
        pods: Vec::new(),
        namespace_goes: false,
        now: now(),
    }
}

fn decide(observed: &Observed) -> Decision {
    DeploymentController.decide(observed)
}

fn conclude(observed: &Observed, done: &Done) -> Decision {
    DeploymentController.conclude(observed, done)
}

fn status_of(decision: &Decision) -> DeploymentStatus {
    let written = decision.planned().find_map(|p| p.action.object::<Deployments>()).expect("the status is written");
    written.status.clone().unwrap()
}

fn check(observed: &Observed, expected: Expect) {
    expected.assert_eq(&decide(observed).to_text());
}

fn yaml(value: &impl serde::Serialize) -> String {
    serde_yaml::to_string(value).unwrap()
}

#[test]
fn a_new_deployment_gets_its_set_and_revision_1() {
    let mut d = deployment(3, 1, 0);
    d.metadata.annotations = Some(
        [("kubernetes.io/change-cause", "first"), ("kubectl.kubernetes.io/last-applied-configuration", "{}")]
            .map(|(k, v)| (k.to_owned(), v.to_owned()))
            .into(),
    );
    let o = observed(&d, vec![]);
    check(
        &o,
        expect![[r#"
            create ReplicaSet default/web-548df6b887 (the template has no ReplicaSet yet)
              ScalingReplicaSet: Scaled up replica set web-548df6b887 from 0 to 3
            update status of Deployment default/web (the new ReplicaSet has another revision)"#]],
    );
    let decision = decide(&o);
    let created = decision.planned().find_map(|p| p.action.object::<ReplicaSets>()).unwrap();
    expect![[r#"
        apiVersion: apps/v1
        kind: ReplicaSet
        metadata:
          annotations:
            deployment.kubernetes.io/desired-replicas: '3'
            deployment.kubernetes.io/max-replicas: '4'
            deployment.kubernetes.io/revision: '1'
            kubernetes.io/change-cause: first
          labels:
            app: web
            pod-template-hash: 548df6b887
          name: web-548df6b887
          namespace: default
          ownerReferences:
          - apiVersion: apps/v1
            blockOwnerDeletion: true
            controller: true
            kind: Deployment
            name: web
            uid: d-uid
        spec:
          replicas: 3
          selector:
            matchLabels:
              app: web
              pod-template-hash: 548df6b887
          template:
            metadata:
              labels:
                app: web
                pod-template-hash: 548df6b887
            spec:
              containers:
              - image: v1
                name: c
    "#]]
    .assert_eq(&yaml(created));
}

#[test]
fn the_new_set_grows_only_when_the_pods_of_a_set_that_shrank_are_going() {
    let d = with_image(deployment(3, 1, 0), "v2");
    for (still_there, grows_to) in [(2, None), (1, Some(3))] {
        let mut old = set(&d, "v1", 1, 1, 1);
        old.status.as_mut().unwrap().replicas = still_there;
        let decision = decide(&observed(&d, vec![old, set(&d, "v2", 2, 2, 2)]));
        let sets = decision.planned().filter_map(|p| p.action.object::<ReplicaSets>());
        let grown = sets.map(size).find(|size| *size > 2);
        assert_eq!(grown, grows_to, "{still_there} pods of the old set are there");
    }
}

#[test]
fn a_rollout_starts_with_the_surge_and_takes_away_what_may_be_unavailable() {
    let d = deployment(10, 3, 2);
    let old = set(&d, "v1", 1, 10, 10);
    check(
        &observed(&with_image(d, "v2"), vec![old]),
        expect![[r#"
        create ReplicaSet default/web-756f99f4f8 (the template has no ReplicaSet yet)
          ScalingReplicaSet: Scaled up replica set web-756f99f4f8 from 0 to 3
        update ReplicaSet default/web-v1 (its size changed)
          ScalingReplicaSet: Scaled down replica set web-v1 from 10 to 8
        update status of Deployment default/web (the new ReplicaSet has another revision)"#]],
    );
}

#[test]
fn a_rollout_grows_before_it_shrinks() {
    // (old size, old available, new size, new available) → (old size, new size), for 10 replicas, surge 3, unavailable 2.
    for (before, after) in [
        ((8, 8, 3, 0), (8, 5)),
        ((8, 8, 5, 0), (8, 5)),
        ((8, 8, 5, 1), (7, 5)),
        ((7, 7, 5, 1), (7, 6)),
        ((8, 8, 5, 5), (3, 5)),
        ((3, 3, 5, 5), (3, 10)),
        ((3, 3, 10, 5), (3, 10)),
        ((3, 3, 10, 7), (1, 10)),
        ((3, 3, 10, 8), (0, 10)),
        ((3, 3, 10, 10), (0, 10)),
        // Unhealthy old pods go although availability is at its least.
        ((8, 6, 5, 2), (6, 5)),
        ((8, 0, 5, 0), (8, 5)),
        ((8, 0, 5, 3), (5, 5)),
        // A new set that is too large shrinks first.
        ((3, 3, 12, 3), (3, 10)),
    ] {
        let d = deployment(10, 3, 2);
        let sets = vec![set(&d, "v1", 1, before.0, before.1), set(&d, "v2", 2, before.2, before.3)];
        let d = with_image(d, "v2");
        let after_pass = sizes_after(&d, sets);
        assert_eq!(after_pass, vec![after.0, after.1], "{before:?}");
    }
}

/// The sizes of the sets, oldest first, after one pass.
fn sizes_after(d: &Deployment, sets: Vec<ReplicaSet>) -> Vec<i32> {
    let mut world = World::new(d.clone(), sets);
    world.apply(&decide(&world.observed()));
    world.sets.iter().map(size).collect()
}

#[test]
fn scaling_in_the_middle_of_a_rollout_is_proportional() {
    // The example of the Deployment documentation: 10 → 15 with surge 3, at 8 old and 5 new.
    let d = deployment(10, 3, 2);
    let sets = vec![set(&d, "v1", 1, 8, 8), set(&d, "v2", 2, 5, 0)];
    let mut scaled = with_image(d, "v2");
    scaled.spec.replicas = Some(15);
    check(
        &observed(&scaled, sets),
        expect![[r#"
        update ReplicaSet default/web-v1 (its size changed)
          ScalingReplicaSet: Scaled up replica set web-v1 from 8 to 11
        update ReplicaSet default/web-v2 (its size changed)
          ScalingReplicaSet: Scaled up replica set web-v2 from 5 to 7
        update status of Deployment default/web (the new ReplicaSet has another revision)"#]],
    );
    for (replicas, sizes, expected) in [
        (5, [8, 5], [5, 3]),
        (0, [8, 5], [0, 0]),
        (10, [8, 5], [8, 5]),
        (20, [8, 5], [14, 9]),
        (11, [8, 5], [9, 5]),
        (9, [8, 5], [7, 5]),
    ] {
        let d = deployment(10, 3, 2);
        let sets = vec![set(&d, "v1", 1, sizes[0], 0), set(&d, "v2", 2, sizes[1], 0)];
        let mut d = with_image(d, "v2");
        d.spec.replicas = Some(replicas);
        assert_eq!(sizes_after(&d, sets), expected, "10 to {replicas}");
    }
}

#[test]
fn a_saturated_new_set_ends_the_old_ones_when_scaled() {
    let d = deployment(5, 1, 1);
    let mut old = set(&d, "v1", 1, 3, 3);
    old.metadata.annotations.as_mut().unwrap().insert(DESIRED_REPLICAS.into(), "4".into());
    let new = set(&d, "v2", 2, 5, 5);
    assert_eq!(sizes_after(&with_image(d, "v2"), vec![old, new]), [0, 5]);
}

#[test]
fn a_template_change_during_a_rollout_rolls_over() {
    let d = deployment(10, 3, 2);
    let sets = vec![set(&d, "v1", 1, 8, 8), set(&d, "v2", 2, 5, 0)];
    // No room for the newest set, but the crash-looping ones of the second go: 13 - 8 - 0 = 5.
    check(
        &observed(&with_image(d, "v3"), sets),
        expect![[r#"
        create ReplicaSet default/web-7dd4699c85 (the template has no ReplicaSet yet)
        update ReplicaSet default/web-v2 (its size changed)
          ScalingReplicaSet: Scaled down replica set web-v2 from 5 to 0
        update status of Deployment default/web (the new ReplicaSet has another revision)"#]],
    );
}

#[test]
fn a_paused_deployment_scales_but_does_not_roll() {
    let d = deployment(3, 1, 0);
    let old = set(&d, "v1", 1, 3, 3);
    let mut paused = with_image(d, "v2");
    paused.spec.paused = Some(true);
    check(&observed(&paused, vec![old.clone()]), expect![[""]]);
    paused.spec.replicas = Some(5);
    check(
        &observed(&paused, vec![old.clone()]),
        expect![[r#"
        update ReplicaSet default/web-v1 (its size changed)
          ScalingReplicaSet: Scaled up replica set web-v1 from 3 to 5"#]],
    );
    let status = status_of(&conclude(&observed(&paused, vec![old.clone()]), &Done::default()));
    expect![[r#"
        replicas 3 updated 0 ready 3 available 3 unavailable 0 generation 1
        Progressing=Unknown DeploymentPaused: Deployment is paused
        Available=False MinimumReplicasUnavailable: Deployment does not have minimum availability."#]]
    .assert_eq(&summary(&status));
    paused.status = Some(status);
    paused.spec.paused = Some(false);
    let status = status_of(&conclude(&observed(&paused, vec![old]), &Done::default()));
    assert!(summary(&status).contains("Progressing=Unknown DeploymentResumed: Deployment is resumed"));
}

#[test]
fn recreate_waits_for_every_old_pod_to_end() {
    let mut d = deployment(3, 0, 0);
    d.spec.strategy = Some(crate::testing::from_yaml("type: Recreate").unwrap());
    let old = |size, actual| {
        let mut rs = set(&d, "v1", 1, size, actual);
        rs.status.as_mut().unwrap().replicas = actual;
        rs
    };
    let d = with_image(d.clone(), "v2");
    check(
        &observed(&d, vec![old(3, 3)]),
        expect![[r#"
        update ReplicaSet default/web-v1 (its size changed)
          ScalingReplicaSet: Scaled down replica set web-v1 from 3 to 0"#]],
    );
    check(&observed(&d, vec![old(0, 1)]), expect![[""]]);
    let pod = |phase: &str| -> Pod {
        crate::testing::from_yaml(&format!(
            "{{metadata: {{name: p, ownerReferences: [{{apiVersion: apps/v1, kind: ReplicaSet, name: web-v1, uid: uid-v1, controller: true}}]}}, status: {{phase: {phase}}}}}"
        ))
        .unwrap()
    };
    let mut waiting = observed(&d, vec![old(0, 0)]);
    waiting.pods = vec![Arc::new(pod("Running"))];
    check(&waiting, expect![[""]]);
    waiting.pods = vec![Arc::new(pod("Failed"))];
    check(
        &waiting,
        expect![[r#"
        create ReplicaSet default/web-756f99f4f8 (the template has no ReplicaSet yet)
          ScalingReplicaSet: Scaled up replica set web-756f99f4f8 from 0 to 3
        update status of Deployment default/web (the new ReplicaSet has another revision)"#]],
    );
}

#[test]
fn recreate_grows_nothing_while_there_are_old_pods() {
    let before = deployment(3, 1, 0);
    let (new, gone) = (set(&before, "v2", 2, 1, 0), set(&before, "v1", 1, 0, 0));
    let mut d = with_image(deployment(6, 0, 0), "v2");
    d.spec.strategy = Some(crate::testing::from_yaml("type: Recreate").unwrap());
    let has_pod = |d: &Deployment, sets: Vec<ReplicaSet>| {
        let mut observed = observed(d, sets);
        let yaml = "{metadata: {name: p, ownerReferences: [{apiVersion: apps/v1, kind: ReplicaSet, name: web-v1, uid: uid-v1, controller: true}]}, status: {phase: Running}}";
        observed.pods = vec![Arc::new(crate::testing::from_yaml(yaml).unwrap())];
        observed
    };
    let revision_only = expect![["update status of Deployment default/web (the new ReplicaSet has another revision)"]];
    check(&has_pod(&d, vec![gone.clone(), new.clone()]), revision_only);
    check(
        &observed(&d, vec![gone.clone(), new.clone()]),
        expect![[r#"
            update ReplicaSet default/web-v2 (its size changed)
              ScalingReplicaSet: Scaled up replica set web-v2 from 1 to 6
            update status of Deployment default/web (the new ReplicaSet has another revision)"#]],
    );
    // The only set is an old one: it ends, and does not grow first.
    check(
        &has_pod(&with_image(d, "v3"), vec![gone, new]),
        expect![[r#"
            update ReplicaSet default/web-v2 (its size changed)
              ScalingReplicaSet: Scaled down replica set web-v2 from 1 to 0"#]],
    );
}

#[test]
fn no_set_grows_while_the_deployment_shrinks() {
    // The old set was a Deployment's of one replica once, and somebody scaled it to 5 by hand: in proportion it would grow to 40.
    let d = deployment(6, 2, 1);
    let mut old = set(&d, "v1", 1, 5, 0);
    let annotations = old.metadata.annotations.as_mut().unwrap();
    annotations.insert(DESIRED_REPLICAS.into(), "0".into());
    annotations.insert(MAX_REPLICAS.into(), "1".into());
    let new = set(&d, "v2", 2, 6, 4);
    assert_eq!(sizes_after(&with_image(d, "v2"), vec![old, new]), [5, 3]);
}

#[test]
fn a_rollback_uses_the_old_set_under_a_new_revision() {
    let d = deployment(3, 1, 0);
    let sets = vec![set(&d, "v1", 1, 0, 0), set(&d, "v2", 2, 3, 3)];
    let o = observed(&d, sets);
    check(
        &o,
        expect![[r#"
        update ReplicaSet default/web-v1 (its size changed)
          ScalingReplicaSet: Scaled up replica set web-v1 from 0 to 1
        update status of Deployment default/web (the new ReplicaSet has another revision)"#]],
    );
    let decision = decide(&o);
    let rolled = decision.planned().find_map(|p| p.action.object::<ReplicaSets>()).unwrap();
    let annotations = rolled.metadata.annotations.as_ref().unwrap();
    assert_eq!(annotations[REVISION], "3");
    assert_eq!(annotations["deployment.kubernetes.io/revision-history"], "1");
}

#[test]
fn a_set_without_an_owner_is_adopted_and_one_that_no_longer_fits_is_released() {
    let d = deployment(3, 1, 0);
    let mut orphan = set(&d, "v1", 1, 3, 3);
    orphan.metadata.owner_references = None;
    let mut relabelled = set(&d, "v2", 2, 3, 3);
    relabelled.metadata.labels.as_mut().unwrap().insert("app".into(), "other".into());
    check(
        &observed(&d, vec![orphan, relabelled]),
        expect![[r#"
        adopt ReplicaSet default/web-v1 for Deployment web (the selector selects an orphan)
        release ReplicaSet default/web-v2 (the selector no longer selects it)"#]],
    );
}

#[test]
fn minimum_ready_seconds_and_annotations_follow_the_deployment() {
    let mut d = deployment(3, 1, 0);
    let new = set(&d, "v1", 1, 3, 3);
    d.metadata.annotations = Some([(REVISION.to_owned(), "1".to_owned()), ("note".to_owned(), "x".to_owned())].into());
    d.spec.min_ready_seconds = Some(7);
    let decision = decide(&observed(&d, vec![new]));
    let updated = decision.planned().find_map(|p| p.action.object::<ReplicaSets>()).unwrap();
    assert_eq!(updated.spec.min_ready_seconds, Some(7));
    assert_eq!(updated.metadata.annotations.as_ref().unwrap()["note"], "x");
    assert_eq!(decision.planned().count(), 1);
}

#[test]
fn only_empty_sets_beyond_the_history_limit_are_cleaned_up_and_only_when_complete() {
    let mut d = deployment(1, 1, 0);
    d.metadata.annotations = Some([(REVISION.to_owned(), "5".to_owned())].into());
    d.spec.revision_history_limit = Some(1);
    let mut busy = set(&d, "v2", 2, 0, 0);
    busy.status.as_mut().unwrap().replicas = 1;
    let sets =
        vec![set(&d, "v1", 1, 0, 0), busy, set(&d, "v3", 3, 0, 0), set(&d, "v4", 4, 0, 0), set(&d, "v5", 5, 1, 1)];
    let d = with_image(d, "v5");
    check(&observed(&d, sets.clone()), expect![[""]]);
    let mut complete = d.clone();
    complete.status = Some(DeploymentStatus {
        replicas: Some(1),
        updated_replicas: Some(1),
        available_replicas: Some(1),
        observed_generation: Some(1),
        ..Default::default()
    });
    check(
        &observed(&complete, sets.clone()),
        expect![[r#"
        delete ReplicaSet default/web-v1 (it is beyond the history limit)
        delete ReplicaSet default/web-v3 (it is beyond the history limit)"#]],
    );
    complete.spec.revision_history_limit = Some(i32::MAX);
    check(&observed(&complete, sets), expect![[""]]);
}

#[test]
fn nothing_is_created_in_a_namespace_that_goes() {
    let mut o = observed(&deployment(3, 1, 0), vec![]);
    o.namespace_goes = true;
    check(&o, expect![[""]]);
}

#[test]
fn a_selector_that_selects_all_is_reported_and_nothing_else_happens() {
    let mut d = deployment(3, 1, 0);
    d.spec.selector = Default::default();
    check(
        &observed(&d, vec![]),
        expect!["Warning SelectingAll: This deployment is selecting all pods. A non-empty selector is required."],
    );
}

/// A status on one line per condition, after the numbers.
fn summary(status: &DeploymentStatus) -> String {
    let n = |n: Option<i32>| n.unwrap_or(0);
    let mut lines = vec![format!(
        "replicas {} updated {} ready {} available {} unavailable {} generation {}",
        n(status.replicas),
        n(status.updated_replicas),
        n(status.ready_replicas),
        n(status.available_replicas),
        n(status.unavailable_replicas),
        status.observed_generation.unwrap_or(0),
    )];
    for c in status.conditions.iter().flatten() {
        let text = |t: &Option<String>| t.clone().unwrap_or_default();
        lines.push(format!("{}={} {}: {}", text(&c.type_), text(&c.status), text(&c.reason), text(&c.message)));
    }
    lines.join("\n")
}

fn condition(status: &DeploymentStatus, type_: &str) -> DeploymentCondition {
    status.conditions.iter().flatten().find(|c| c.type_.as_deref() == Some(type_)).unwrap().clone()
}

fn created(result: Result<(), ApiError>) -> Done {
    let result = result.map(|()| None);
    let step = StepResult { why: super::plan::CREATE_NEW, name: "web-x".into(), result };
    Done { results: vec![step], skipped: 0 }
}

#[test]
fn the_status_tells_of_a_rollout_from_creation_to_completion() {
    let mut d = deployment(2, 1, 0);
    let mut said = Vec::new();
    for (size, ready, done) in [(2, 0, created(Ok(()))), (2, 1, Done::default()), (2, 2, Done::default())] {
        let o = observed(&d, vec![set(&d, "v1", 1, size, ready)]);
        let decision = conclude(&o, &done);
        let status = status_of(&decision);
        said.push(format!("{}\nagain {:?}", summary(&status), decision.requeue_after));
        d.status = Some(status);
    }
    expect![[r#"
        replicas 2 updated 2 ready 0 available 0 unavailable 2 generation 1
        Available=False MinimumReplicasUnavailable: Deployment does not have minimum availability.
        Progressing=True ReplicaSetUpdated: ReplicaSet "web-v1" is progressing.
        again Some(601s)
        --
        replicas 2 updated 2 ready 1 available 1 unavailable 1 generation 1
        Available=False MinimumReplicasUnavailable: Deployment does not have minimum availability.
        Progressing=True ReplicaSetUpdated: ReplicaSet "web-v1" is progressing.
        again Some(601s)
        --
        replicas 2 updated 2 ready 2 available 2 unavailable 0 generation 1
        Available=True MinimumReplicasAvailable: Deployment has minimum availability.
        Progressing=True NewReplicaSetAvailable: ReplicaSet "web-v1" has successfully progressed.
        again None"#]]
    .assert_eq(&said.join("\n--\n"));
    let o = observed(&d, vec![set(&d, "v1", 1, 2, 2)]);
    assert!(conclude(&o, &Done::default()).is_rest(), "a status that is right is not written");
    // Scaling is no rollout: the condition stays.
    d.spec.replicas = Some(4);
    d.metadata.generation = Some(2);
    let status = status_of(&conclude(&observed(&d, vec![set(&d, "v1", 1, 4, 2)]), &Done::default()));
    assert_eq!(condition(&status, "Progressing").reason.as_deref(), Some("NewReplicaSetAvailable"));
    assert_eq!(condition(&status, "Available").status.as_deref(), Some("False"));
}

#[test]
fn a_rollout_without_progress_times_out_at_its_deadline() {
    let mut d = deployment(2, 1, 0);
    let start = observed(&d, vec![set(&d, "v1", 1, 2, 0)]);
    let first = conclude(&start, &created(Ok(())));
    assert_eq!(first.requeue_after, Some(Duration::from_secs(601)));
    d.status = Some(status_of(&first));
    let mut later = observed(&d, vec![set(&d, "v1", 1, 2, 0)]);
    later.now = now() + SignedDuration::from_secs(600);
    assert!(conclude(&later, &Done::default()).is_rest());
    later.now = now() + SignedDuration::from_secs(601);
    let decision = conclude(&later, &Done::default());
    assert_eq!(decision.requeue_after, None);
    let progressing = condition(&status_of(&decision), "Progressing");
    assert_eq!(progressing.status.as_deref(), Some("False"));
    assert_eq!(progressing.reason.as_deref(), Some("ProgressDeadlineExceeded"));
    assert_eq!(progressing.message.as_deref(), Some("ReplicaSet \"web-v1\" has timed out progressing."));
}

#[test]
fn progress_refreshes_the_update_time_and_keeps_the_transition_time() {
    let mut d = deployment(3, 1, 0);
    d.status = Some(status_of(&conclude(&observed(&d, vec![set(&d, "v1", 1, 3, 0)]), &created(Ok(())))));
    for (seconds, ready) in [(10, 1), (20, 2)] {
        let mut o = observed(&d, vec![set(&d, "v1", 1, 3, ready)]);
        o.now = now() + SignedDuration::from_secs(seconds);
        let status = status_of(&conclude(&o, &Done::default()));
        let progressing = condition(&status, "Progressing");
        assert_eq!(progressing.reason.as_deref(), Some("ReplicaSetUpdated"));
        assert_eq!(progressing.last_update_time, Some(Time(o.now)));
        assert_eq!(progressing.last_transition_time, Some(Time(now())));
        d.status = Some(status);
    }
}

#[test]
fn without_a_deadline_there_is_no_progressing_condition() {
    let mut d = deployment(2, 1, 0);
    let rs = set(&d, "v1", 1, 2, 0);
    d.status = Some(status_of(&conclude(&observed(&d, vec![rs.clone()]), &created(Ok(())))));
    d.spec.progress_deadline_seconds = Some(i32::MAX);
    let decision = conclude(&observed(&d, vec![rs]), &Done::default());
    assert!(!summary(&status_of(&decision)).contains("Progressing"));
    assert_eq!(decision.requeue_after, None);
}

#[test]
fn a_name_that_another_set_has_makes_the_next_hash_another() {
    let mut d = deployment(2, 1, 0);
    let exists =
        || ApiError::AlreadyExists { resource: "replicasets.apps".into(), name: "web-x".into(), is_going: false };
    let first = decide(&observed(&d, vec![])).planned().next().unwrap().action.name();
    let status = status_of(&conclude(&observed(&d, vec![]), &created(Err(exists()))));
    assert_eq!(status.collision_count, Some(1));
    d.status = Some(status);
    let second = decide(&observed(&d, vec![])).planned().next().unwrap().action.name();
    assert_ne!(first, second);
    // When the set is ours after all, nothing collided.
    let o = observed(&d, vec![set(&d, "v1", 1, 2, 0)]);
    assert_eq!(status_of(&conclude(&o, &created(Err(exists())))).collision_count, Some(1));
}

#[test]
fn a_set_that_cannot_be_created_is_reported() {
    let d = deployment(2, 1, 0);
    let forbidden =
        ApiError::Forbidden { resource: "replicasets.apps".into(), name: "web-x".into(), why: "exceeded quota".into() };
    let decision = conclude(&observed(&d, vec![]), &created(Err(forbidden)));
    let message = "Failed to create new replica set \"web-x\": replicasets.apps \"web-x\" is forbidden: exceeded quota";
    let progressing = condition(&status_of(&decision), "Progressing");
    assert_eq!(progressing.reason.as_deref(), Some("ReplicaSetCreateError"));
    assert_eq!(progressing.message.as_deref(), Some(message));
    assert_eq!(decision.events[0].message, message);
}

#[test]
fn a_set_that_cannot_make_pods_shows_in_the_deployment() {
    let mut d = deployment(2, 1, 0);
    let mut rs = set(&d, "v1", 1, 2, 0);
    let failure = ReplicaSetCondition {
        type_: Some("ReplicaFailure".into()),
        status: Some("True".into()),
        reason: Some("FailedCreate".into()),
        message: Some("pods are forbidden".into()),
        last_transition_time: Some(Time(now())),
    };
    rs.status.as_mut().unwrap().conditions = Some(vec![failure]);
    let status = status_of(&conclude(&observed(&d, vec![rs.clone()]), &Done::default()));
    assert!(summary(&status).contains("ReplicaFailure=True FailedCreate: pods are forbidden"));
    d.status = Some(status);
    rs.status.as_mut().unwrap().conditions = None;
    let status = status_of(&conclude(&observed(&d, vec![rs]), &Done::default()));
    assert!(!summary(&status).contains("ReplicaFailure"));
}

/// A Deployment and its sets, in which decisions are carried out as the API would, and a set's controller does its part when told.
#[derive(Clone, Debug)]
struct World {
    d: Deployment,
    sets: Vec<ReplicaSet>,
    made: u32,
}

impl World {
    fn new(d: Deployment, mut sets: Vec<ReplicaSet>) -> Self {
        sets.sort_by(sets::by_age);
        Self { d, sets, made: 0 }
    }

    fn observed(&self) -> Observed {
        observed(&self.d, self.sets.clone())
    }

    fn apply(&mut self, decision: &Decision) -> Done {
        let mut done = Done::default();
        for planned in decision.planned() {
            self.write(&planned.action);
            done.results.push(StepResult { why: planned.why, name: planned.action.name(), result: Ok(None) });
        }
        done
    }

    fn write(&mut self, action: &Action) {
        match action {
            Action::Create { .. } => {
                let mut rs = action.object::<ReplicaSets>().unwrap().clone();
                self.made += 1;
                let second = self.made;
                rs.metadata.uid = Some(format!("made-{second}"));
                rs.metadata.resource_version = Some("1".into());
                rs.metadata.generation = Some(1);
                rs.metadata.creation_timestamp = Some(Time(now() + SignedDuration::from_secs(second.into())));
                self.sets.push(rs);
            }
            Action::Update { .. } => match (action.object::<ReplicaSets>(), action.object::<Deployments>()) {
                (Some(rs), _) => {
                    let slot = self.sets.iter_mut().find(|s| s.metadata.uid == rs.metadata.uid).unwrap();
                    let mut rs = rs.clone();
                    if rs.spec != slot.spec {
                        rs.metadata.generation = rs.metadata.generation.map(|g| g + 1);
                    }
                    *slot = rs;
                }
                (_, Some(d)) => self.d = d.clone(),
                (None, None) => panic!("a Deployment writes no other kind: {action:?}"),
            },
            Action::Delete { key, .. } => self.sets.retain(|s| s.metadata.name.as_deref() != Some(key.name.as_str())),
            Action::Adopt { .. } | Action::Release { .. } => panic!("the world has no orphans: {action:?}"),
        }
    }

    /// One pass; whether it wrote anything.
    fn pass(&mut self) -> bool {
        let decision = decide(&self.observed());
        let done = self.apply(&decision);
        let closing = conclude(&self.observed(), &done);
        self.apply(&closing);
        !decision.is_rest() || !closing.is_rest()
    }

    /// The set's controller makes or deletes pods, the ones that are not ready first; `more_ready` pods become ready.
    fn set_works(&mut self, i: usize, more_ready: i32) {
        let rs = &mut self.sets[i];
        let (wants, had) = (size(rs), available(rs));
        let ready = (had.min(wants) + more_ready).min(wants);
        rs.status = Some(ReplicaSetStatus {
            replicas: wants,
            ready_replicas: Some(ready),
            available_replicas: Some(ready),
            observed_generation: rs.metadata.generation,
            ..Default::default()
        });
    }

    fn is_rolled_out(&self) -> bool {
        let sets = Sets::of(&self.d, self.sets.iter());
        let whole = |rs: &ReplicaSet| available(rs) == size(rs) && actual(rs) == size(rs);
        sets.new.is_some_and(|rs| size(rs) == replicas(&self.d) && whole(rs))
            && sets.old.iter().all(|rs| size(rs) == 0 && actual(rs) == 0)
    }
}

fn any_world() -> impl Strategy<Value = World> {
    let sets = prop::collection::vec((0..8i32, 0..8i32, 0..12i32), 0..4);
    (0..8i32, 0..4i32, 0..4i32, sets, any::<bool>(), any::<bool>()).prop_map(
        |(replicas, surge, unavailable, sets, has_new, is_recreate)| {
            let mut d = deployment(replicas, surge, unavailable);
            if is_recreate {
                d.spec.strategy = Some(crate::testing::from_yaml("type: Recreate").unwrap());
            }
            let sets = sets.iter().enumerate().map(|(i, (size, ready, desired))| {
                let i = i64::try_from(i).unwrap() + 1;
                // The first set has the Deployment's template or not; the others never.
                let image = if i == 1 && has_new { "v1".to_owned() } else { format!("old{i}") };
                let mut rs = set(&d, &image, i, *size, (*ready).min(*size));
                if *desired < 8 {
                    rs.metadata.annotations.as_mut().unwrap().insert(DESIRED_REPLICAS.into(), desired.to_string());
                }
                rs
            });
            World::new(d.clone(), sets.collect())
        },
    )
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn from_any_state_it_converges_and_then_rests(mut world in any_world(), order in prop::collection::vec((0..8usize, 0..3i32), 0..60)) {
        for (pick, more) in order {
            world.pass();
            if !world.sets.is_empty() {
                let i = pick % world.sets.len();
                world.set_works(i, more);
            }
        }
        for _ in 0..60 {
            let wrote = world.pass();
            if !wrote && world.is_rolled_out() {
                break;
            }
            for i in 0..world.sets.len() {
                world.set_works(i, 1);
            }
        }
        prop_assert!(world.is_rolled_out(), "{:?}", world.sets.iter().map(|s| (size(s), available(s))).collect::<Vec<_>>());
        prop_assert!(!world.pass(), "at rest nothing is decided");
        let status = world.d.status.clone().unwrap();
        let progressing = condition(&status, "Progressing").reason;
        prop_assert_eq!(progressing.as_deref(), Some("NewReplicaSetAvailable"), "{}", summary(&status));
        prop_assert_eq!(condition(&status, "Available").status, Some("True".to_owned()));
    }

    #[test]
    fn a_rolling_pass_keeps_within_surge_and_availability(world in any_world(), order in prop::collection::vec((0..8usize, 0..3i32), 0..40)) {
        let mut world = world;
        for (pick, more) in order {
            let before = world.clone();
            let is_scaling = before.sets.iter().any(|rs| {
                let desired = rs.metadata.annotations.as_ref().and_then(|a| a.get(DESIRED_REPLICAS)).cloned();
                size(rs) > 0 && desired != Some(replicas(&before.d).to_string())
            });
            world.pass();
            let is_rolling = before.d.spec.strategy.as_ref().unwrap().type_.as_deref() == Some("RollingUpdate");
            if is_rolling && !is_scaling {
                within_the_fence(&before, &world)?;
            }
            if !world.sets.is_empty() {
                let i = pick % world.sets.len();
                world.set_works(i, more);
            }
        }
    }

    #[test]
    fn a_proportional_scale_adds_up(old in 1..12i32, new in 1..12i32, to in 0..30i32, surge in 0..5i32) {
        let from = (old + new - surge).max(1);
        let d = deployment(from, surge, 1);
        let sets = vec![set(&d, "v1", 1, old, 0), set(&d, "v2", 2, new, 0)];
        let mut d = with_image(d, "v2");
        d.spec.replicas = Some(to);
        prop_assume!(to != from);
        let sizes = sizes_after(&d, sets);
        let allowed = if to == 0 { 0 } else { to + surge };
        prop_assert_eq!(sizes.iter().sum::<i32>(), allowed, "{:?}", sizes);
        prop_assert!(sizes.iter().all(|s| *s >= 0));
    }
}

fn within_the_fence(before: &World, after: &World) -> Result<(), TestCaseError> {
    let fence = sets::fence(&before.d);
    let max = replicas(&before.d) + fence.surge;
    let least = replicas(&before.d) - fence.unavailable;
    let total = |w: &World| w.sets.iter().map(size).sum::<i32>();
    prop_assert!(total(after) <= max.max(total(before)), "{} pods, at most {max}", total(after));
    // A set that shrinks loses the pods first that are not available.
    let stays = |w: &World| w.sets.iter().map(|s| available(s).min(size(s))).sum::<i32>();
    let sizes = |w: &World| w.sets.iter().map(|s| (size(s), available(s))).collect::<Vec<_>>();
    let (from, to) = (sizes(before), sizes(after));
    prop_assert!(stays(after) >= least.min(stays(before)), "at least {least} available: {from:?} became {to:?}");
    Ok(())
}

#[test]
fn a_sets_template_is_recognised_by_content_not_by_hash() {
    let d = deployment(1, 1, 0);
    let mut rs = set(&d, "v1", 1, 1, 1);
    let labels = rs.spec.template.as_mut().unwrap().metadata.as_mut().unwrap().labels.as_mut().unwrap();
    labels.insert(HASH_LABEL.into(), "made-by-another-version".into());
    assert!(Sets::of(&d, [&rs].into_iter()).new.is_some());
}

//! Rollouts on a small model of a cluster: sizes are what they are told at once, and pods become available after a while.

use super::{
    cluster::Ended,
    rolling::{Bounds, Sides},
    *,
};
use crate::{
    api::{
        kind::Kind as _,
        kinds::deployment_config::DeploymentConfigs,
        rollout::{CONFIG, DESIRED, ENCODED, PHASE, VERSION, annotate, annotation},
    },
    base::clock::Clock,
};
use async_trait::async_trait;
use jiff::Timestamp;
use k8s_openapi::api::core::v1::{Pod, ReplicationControllerStatus};
use proptest::prelude::*;
use std::{collections::BTreeMap, sync::Mutex};
use tokio::time::Instant;

/// Pods of a size, and when each was made.
struct Side {
    rc: ReplicationController,
    born: Vec<Instant>,
}

struct Model {
    clock: Clock,
    sides: Mutex<BTreeMap<String, Side>>,
    said: Mutex<Vec<String>>,
    /// How long a new pod takes to be available; `None`: for ever.
    takes: Option<Duration>,
    /// How hook pods end.
    hooks: Ended,
    tags: Mutex<Vec<String>>,
}

fn rollout_named(name: &str, version: i64, phase: &str, size: i32) -> ReplicationController {
    let mut rc: ReplicationController = crate::testing::from_yaml(
        "{metadata: {namespace: ns}, spec: {selector: {a: b}, template: {spec: {containers: [{name: c, image: one}]}}}}",
    )
    .unwrap();
    rc.metadata.name = Some(name.to_owned());
    rc.metadata.uid = Some(format!("u-{name}"));
    rc.spec.as_mut().unwrap().replicas = Some(size);
    for (key, value) in [(CONFIG, "web"), (PHASE, phase), (VERSION, &version.to_string())] {
        annotate(&mut rc.metadata, key, value);
    }
    rc
}

impl Model {
    /// A cluster in which `web-2` is to take over from `web-1`, if that has any pods.
    fn new(strategy: &str, old: i32, desired: i32) -> Self {
        let yaml = format!(
            "{{metadata: {{name: web, namespace: ns}}, spec: {{strategy: {strategy}, template: {{spec: {{containers: [{{name: c, image: one}}]}}}}}}}}"
        );
        let mut config: DeploymentConfig = crate::testing::from_yaml(&yaml).unwrap();
        DeploymentConfigs::set_defaults(&mut config);
        let mut to = rollout_named("web-2", 2, "Running", 0);
        annotate(&mut to.metadata, DESIRED, desired.to_string());
        annotate(&mut to.metadata, ENCODED, serde_json::to_string(&config).unwrap());
        let model = Self {
            clock: Clock::system(),
            sides: Mutex::default(),
            said: Mutex::default(),
            takes: Some(Duration::from_millis(300)),
            hooks: Ended::Succeeded,
            tags: Mutex::default(),
        };
        model.add(to);
        if old > 0 {
            model.add(rollout_named("web-1", 1, "Complete", old));
        }
        model
    }

    fn add(&self, rc: ReplicationController) {
        let long_ago = Instant::now() - Duration::from_secs(60);
        let born = vec![long_ago; usize::try_from(size(&rc)).unwrap()];
        self.sides.lock().unwrap().insert(name_of(&rc).to_owned(), Side { rc, born });
    }

    fn size(&self, name: &str) -> i32 {
        self.sides.lock().unwrap().get(name).map_or(0, |side| size(&side.rc))
    }

    fn is_available(&self, born: Instant) -> bool {
        self.takes.is_some_and(|takes| born.elapsed() >= takes)
    }

    async fn run(&self, until: &str) -> anyhow::Result<()> {
        Box::pin(deploy(self, "web-2", until.parse().unwrap())).await
    }

    fn said(&self) -> String {
        self.said.lock().unwrap().join("\n")
    }
}

#[async_trait]
impl Cluster for Model {
    fn say(&self, line: &str) {
        self.said.lock().unwrap().push(line.to_owned());
    }
    fn now(&self) -> Timestamp {
        self.clock.now()
    }
    async fn rollout(&self, name: &str) -> anyhow::Result<ReplicationController> {
        let sides = self.sides.lock().unwrap();
        let side = sides.get(name).ok_or_else(|| anyhow::anyhow!("no {name}"))?;
        let n = i32::try_from(side.born.iter().filter(|born| self.is_available(**born)).count()).unwrap();
        let mut rc = side.rc.clone();
        rc.status = Some(ReplicationControllerStatus {
            replicas: size(&rc),
            available_replicas: Some(n),
            ..Default::default()
        });
        Ok(rc)
    }
    async fn rollouts(&self, _: &str) -> anyhow::Result<Vec<ReplicationController>> {
        Ok(self.sides.lock().unwrap().values().map(|side| side.rc.clone()).collect())
    }
    async fn scale_and_wait(&self, name: &str, wanted: i32, _: Duration) -> anyhow::Result<()> {
        let mut sides = self.sides.lock().unwrap();
        let side = sides.get_mut(name).unwrap();
        side.rc.spec.as_mut().unwrap().replicas = Some(wanted);
        // The youngest go first, as those that are not ready do.
        side.born.resize(usize::try_from(wanted).unwrap(), Instant::now());
        Ok(())
    }
    async fn annotate(&self, name: &str, annotations: &[(&str, Option<String>)]) -> anyhow::Result<()> {
        let mut sides = self.sides.lock().unwrap();
        let meta = &mut sides.get_mut(name).unwrap().rc.metadata;
        for (key, value) in annotations {
            match value {
                Some(value) => annotate(meta, key, value.clone()),
                None => drop(meta.annotations.get_or_insert_default().remove(*key)),
            }
        }
        Ok(())
    }
    async fn pods_of(&self, rollout: &ReplicationController) -> anyhow::Result<Vec<Pod>> {
        let sides = self.sides.lock().unwrap();
        let pod = |ready: bool| -> Pod {
            let ready = if ready { "True" } else { "False" };
            let text = format!(
                "{{status: {{phase: Running, conditions: [{{type: Ready, status: '{ready}', lastTransitionTime: '2020-01-01T00:00:00Z'}}]}}}}"
            );
            crate::testing::from_yaml(&text).unwrap()
        };
        Ok(sides[name_of(rollout)].born.iter().map(|born| pod(self.is_available(*born))).collect())
    }
    async fn create_pod(&self, pod: &Pod) -> anyhow::Result<String> {
        Ok(pod.metadata.name.clone().unwrap())
    }
    async fn watch_to_end(&self, _: &str, restarted: &mut (dyn FnMut(i32) + Send)) -> anyhow::Result<Ended> {
        restarted(0);
        restarted(1);
        Ok(self.hooks.clone())
    }
    async fn seconds_left(&self, deadline: i64) -> anyhow::Result<i64> {
        Ok(deadline)
    }
    async fn tag_image(&self, namespace: &str, tag: &str, image: &str) -> anyhow::Result<()> {
        self.tags.lock().unwrap().push(format!("{namespace}/{tag}={image}"));
        Ok(())
    }
    async fn event(&self, _: &DeploymentConfig, reason: &'static str, message: &str) -> anyhow::Result<()> {
        self.say(&format!("({reason}: {message})"));
        Ok(())
    }
}

#[tokio::test(start_paused = true)]
async fn a_rolling_update_goes_step_by_step() {
    let model = Model::new("{type: Rolling}", 5, 5);
    model.run("").await.unwrap();
    expect_test::expect![[r#"
        --> Scaling up web-2 from 0 to 5, scaling down web-1 from 5 to 0 (keep 4 pods available, don't exceed 7 pods)
            Scaling web-2 up to 2
            Scaling web-1 down to 2
            Scaling web-2 up to 5
            Scaling web-1 down to 0
        --> Success"#]]
    .assert_eq(&model.said());
    assert_eq!((model.size("web-1"), model.size("web-2")), (0, 5));
    let to = model.rollout("web-2").await.unwrap();
    let old = model.rollout("web-1").await.unwrap();
    assert_eq!(annotation(&to.metadata, "kubectl.kubernetes.io/update-source-id"), "");
    assert_eq!(annotation(&old.metadata, "kubectl.kubernetes.io/original-replicas"), "5");
}

#[tokio::test(start_paused = true)]
async fn old_pods_go_a_period_after_the_new_ones_were_wanted_or_once_those_are_there() {
    let strategy = "{type: Rolling, rollingParams: {maxSurge: 100%, maxUnavailable: 0, updatePeriodSeconds: 2}}";
    for (pods_take, at_most) in [(300, 2_000), (2_500, 2_700), (60_000, 61_500)] {
        let takes = Some(Duration::from_millis(pods_take));
        let model = Model { takes, ..Model::new(strategy, 5, 5) };
        let began = Instant::now();
        model.run("").await.unwrap();
        let took = began.elapsed().as_millis();
        assert!((u128::from(pods_take.max(2_000))..=at_most).contains(&took), "{pods_take} ms: {took} ms");
    }
}

#[tokio::test(start_paused = true)]
async fn pods_that_never_come_up_end_it_with_the_old_ones_still_there() {
    let model = Model { takes: None, ..Model::new("{type: Rolling, rollingParams: {timeoutSeconds: 5}}", 4, 4) };
    // The old pods have been there for long; the model has them come up never, so they count as before.
    let err = model.run("").await.unwrap_err().to_string();
    assert_eq!(err, "timed out waiting for any update progress to be made");
    assert!(model.size("web-1") >= 3, "{}", model.said());
}

#[tokio::test(start_paused = true)]
async fn the_first_rollout_waits_for_its_pods() {
    let model = Model::new("{type: Rolling}", 0, 3);
    model.run("").await.unwrap();
    assert_eq!(model.said(), "--> Scaling web-2 to 3\n--> Success");
    let never = Model { takes: None, ..Model::new("{type: Rolling, rollingParams: {timeoutSeconds: 9}}", 0, 3) };
    let err = never.run("").await.unwrap_err().to_string();
    assert_eq!(err, "pods for rc 'ns/web-2' took longer than 9 seconds to become available");
}

#[tokio::test(start_paused = true)]
async fn a_recreate_ends_the_old_pods_and_tries_one_new_one_first() {
    let hook = "{failurePolicy: Abort, execNewPod: {command: [migrate, now], containerName: c}}";
    let model = Model::new(&format!("{{type: Recreate, recreateParams: {{mid: {hook}}}}}"), 3, 3);
    // The model's old pods are gone as soon as they are told.
    model.run("").await.unwrap();
    expect_test::expect![[r#"
        --> Scaling web-1 down to zero
        --> mid: Running hook pod ...
        (Started: Running mid-hook ("migrate now") for rollout ns/web-2)
        --> mid: Retrying hook pod (retry #1)
        --> mid: Success
        (Completed: The mid-hook for rollout ns/web-2 completed successfully)
        --> Scaling web-2 to 1 before performing acceptance check
        --> Scaling web-2 to 3
        --> Success"#]]
    .assert_eq(&model.said());
}

#[tokio::test(start_paused = true)]
async fn a_hook_that_fails_ends_the_rollout_unless_that_is_ignored() {
    for (policy, goes_on) in [("Abort", false), ("Retry", false), ("Ignore", true)] {
        let hook = format!("{{failurePolicy: {policy}, execNewPod: {{command: [x], containerName: c}}}}");
        let strategy = format!("{{type: Rolling, rollingParams: {{pre: {hook}}}}}");
        let model = Model { hooks: Ended::Failed("no such table".to_owned()), ..Model::new(&strategy, 2, 2) };
        let done = model.run("").await;
        assert_eq!(done.is_ok(), goes_on, "{policy}: {}", model.said());
        assert_eq!(model.size("web-2"), if goes_on { 2 } else { 0 }, "{policy}");
        if let Err(err) = done {
            assert_eq!(format!("{err:#}"), "the pre hook failed: pod web-2-hook-pre failed: no such table");
        }
    }
}

#[tokio::test(start_paused = true)]
async fn images_are_tagged_and_a_container_that_is_not_there_is_named() {
    let tags = |container: &str| {
        format!(
            "{{type: Recreate, recreateParams: {{post: {{failurePolicy: Abort, tagImages: [{{containerName: {container}, to: {{kind: ImageStreamTag, name: 'web:prod'}}}}]}}}}}}"
        )
    };
    let model = Model::new(&tags("c"), 0, 1);
    model.run("").await.unwrap();
    assert_eq!(*model.tags.lock().unwrap(), ["ns/web:prod=one"]);
    let model = Model::new(&tags("other"), 0, 1);
    let err = format!("{:#}", model.run("").await.unwrap_err());
    assert!(err.contains("unable to find image source for container \"other\""), "{err}");
}

#[tokio::test(start_paused = true)]
async fn a_custom_deployer_goes_half_way_and_on() {
    let model = Model::new("{type: Rolling, customParams: {command: [x]}}", 4, 4);
    model.run("50%").await.unwrap();
    assert!(model.said().ends_with("--> Reached 50% (currently 75%)"), "{}", model.said());
    assert_eq!((model.size("web-1"), model.size("web-2")), (2, 3));
    model.run("").await.unwrap();
    assert_eq!((model.size("web-1"), model.size("web-2")), (0, 4));
    let model = Model::new("{type: Recreate}", 2, 2);
    for (until, new) in [("start", 0), ("pre", 0), ("mid", 0), ("50%", 1), ("100%", 2)] {
        model.run(until).await.unwrap();
        assert_eq!(model.size("web-2"), new, "{until}");
    }
}

#[tokio::test(start_paused = true)]
async fn at_most_two_rcs_hold_pods() {
    let model = Model::new("{type: Rolling}", 2, 2);
    model.add(rollout_named("web-0", 0, "Failed", 1));
    model.run("").await.unwrap();
    assert!(model.said().starts_with("--> Scaled older deployment web-0 down\n"), "{}", model.said());
    let model = Model::new("{type: Rolling}", 2, 2);
    model.add(rollout_named("web-3", 3, "Complete", 2));
    assert_eq!(model.run("").await.unwrap_err().to_string(), "deployment web-2 is older than web-3");
}

#[tokio::test(start_paused = true)]
async fn what_is_complete_is_not_done_again() {
    let model = Model::new("{type: Rolling}", 2, 2);
    model.annotate("web-2", &[(DESIRED, None)]).await.unwrap();
    assert_eq!(model.run("").await.unwrap_err().to_string(), "deployment web-2 has already run to completion");
}

proptest! {
    /// Whatever the sizes, each step keeps within the fence, and there is always a step.
    #[test]
    fn a_rolling_update_stays_within_its_fence(old in 0..12_i32, desired in 0..12_i32, surge in 0..4_i32, unavailable in 0..4_i32) {
        let params = crate::testing::from_yaml(&format!("{{maxSurge: {surge}, maxUnavailable: {unavailable}}}")).unwrap();
        let bounds = Bounds::new(&params, desired);
        let mut sides = Sides { new: 0, old, available: 0 };
        for _ in 0..100 {
            if sides.new == desired && sides.old == 0 {
                return Ok(());
            }
            let grown = bounds.grown(sides);
            prop_assert!(grown >= sides.new && grown <= desired);
            prop_assert!(grown == sides.new || sides.old == 0 || grown + sides.old <= desired + bounds.surge);
            sides.new = grown;
            let shrunk = bounds.shrunk(sides);
            prop_assert!(shrunk <= sides.old);
            prop_assert!(shrunk == sides.old || sides.available == sides.new && sides.new == desired
                || shrunk + sides.available >= bounds.min_available, "{sides:?} {shrunk} {bounds:?}");
            sides.old = shrunk;
            // Then the new pods come up.
            sides.available = sides.new;
        }
        prop_assert!(false, "it does not end: {sides:?} {bounds:?}");
    }
}

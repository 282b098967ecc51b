//! Jobs, a StatefulSet and a DaemonSet under a user who changes, scales, suspends and deletes, while programs end well or badly, containers
//! are killed, and the control plane and the engine end and begin again. No index has two pods at work (`checkers::workloads`); in the end
//! every job is over and has counted each index once, and the sets have the pods that they are to have.

use super::{
    each_in_parallel, failure, faults, harm,
    manifests::one_of,
    seeds, simulate,
    world::{Shape, World},
};
use crate::{
    api::{
        kind::TypedKind,
        kinds::{daemon_set::DaemonSets, job::Jobs, node::Nodes, pod::Pods, stateful_set::StatefulSets},
        meta::{ObjectKey, is_controlled_by},
        pod_state,
        status::ApiError,
    },
    engine::fake::Behaviour,
    registry::pipeline::{DeleteOptions, Propagation},
};
use k8s_openapi::{
    api::{
        apps::v1::{DaemonSet, StatefulSet},
        batch::v1::Job,
        core::v1::Pod,
    },
    apimachinery::pkg::apis::meta::v1::ObjectMeta,
};
use serde_json::{Value, json};
use std::{collections::BTreeSet, sync::Arc, time::Duration};

/// Seeds of an ordinary test run.
const SEEDS: u64 = 8;
const STEPS: usize = 30;
/// How long everything may take to come to rest: a job's pods wait longer after each failure.
const REST_MAX: u32 = 4000;
const SET: &str = "db";
const DAEMON: &str = "log";
const JOBS: [&str; 2] = ["sums", "texts"];
const INDEX: &str = "batch.kubernetes.io/job-completion-index";

#[derive(Clone, Copy, Debug)]
enum Action {
    ApplyJob,
    SuspendJob,
    ResumeJob,
    DeleteJob,
    ScaleSet,
    UpdateSet,
    UpdateDaemon,
    DeletePod,
    KillSomething,
    Cordon,
    HangAndTakeOver,
    TroubleRival,
    RestartSkiff,
    KillSkiff,
    RestartDocker,
}

const ACTIONS: &[Action] = &[
    Action::ApplyJob,
    Action::ApplyJob,
    Action::ApplyJob,
    Action::SuspendJob,
    Action::ResumeJob,
    Action::ResumeJob,
    Action::DeleteJob,
    Action::ScaleSet,
    Action::ScaleSet,
    Action::UpdateSet,
    Action::UpdateSet,
    Action::UpdateDaemon,
    Action::DeletePod,
    Action::DeletePod,
    Action::KillSomething,
    Action::KillSomething,
    Action::Cordon,
    Action::HangAndTakeOver,
    Action::TroubleRival,
    Action::TroubleRival,
    Action::TroubleRival,
    Action::TroubleRival,
    Action::RestartSkiff,
    Action::KillSkiff,
    Action::RestartDocker,
];

fn template(app: &str, image: &str, restart_policy: &str) -> Value {
    json!({
        "metadata": { "labels": { "app": app } },
        "spec": { "restartPolicy": restart_policy, "containers": [{ "name": "app", "image": image }] },
    })
}

struct User {
    world: World,
}

impl User {
    async fn new(seed: u64) -> Self {
        let world = World::shaped(seed, Shape { is_contested: true, ..Shape::default() }).await;
        let chance = world.rng.clone();
        let work = move |_: &crate::engine::ContainerSpec| {
            Behaviour::exits(Duration::from_millis(chance.between(100, 6000)), i32::from(chance.one_in(5)))
        };
        world.engine.add_image_fn("work:1", Arc::new(work));
        world.engine.land_calls();
        let user = Self { world };
        user.create::<StatefulSets>(json!({
            "metadata": { "name": SET, "namespace": "default" },
            "spec": {
                "replicas": 2, "serviceName": SET, "selector": { "matchLabels": { "app": SET } },
                "template": template(SET, "app:1", "Always"),
            },
        }))
        .await;
        user.create::<DaemonSets>(json!({
            "metadata": { "name": DAEMON, "namespace": "default" },
            "spec": { "selector": { "matchLabels": { "app": DAEMON } }, "template": template(DAEMON, "app:1", "Always") },
        }))
        .await;
        user
    }

    async fn create<K: TypedKind>(&self, object: Value) {
        let object = serde_json::from_value(object).unwrap();
        // What is there already is refused.
        drop(self.world.registry().api::<K>().create(object).await);
    }

    async fn step(&mut self) {
        let action = *one_of(&self.world, ACTIONS).unwrap();
        self.world.note(format!("{action:?}"));
        let written = match action {
            Action::HangAndTakeOver => {
                let hung = Duration::from_secs(self.world.rng.between(1, 20));
                return self.world.take_over(hung).await;
            }
            Action::TroubleRival => return self.world.trouble_rival().await,
            Action::RestartSkiff => return self.world.restart().await,
            Action::KillSkiff => return self.world.kill_and_start().await,
            Action::RestartDocker => {
                return self.world.engine.restart_daemon(Duration::from_secs(3), self.world.rng.one_in(2));
            }
            Action::KillSomething => return harm::kill(&self.world),
            _ => self.write(action).await,
        };
        self.world.user_wrote();
        if let Err(err) = written {
            self.world.note(format!("refused: {err}"));
        }
    }

    async fn write(&self, action: Action) -> Result<(), ApiError> {
        let job = *one_of(&self.world, &JOBS).unwrap();
        let n = i32::try_from(self.world.rng.between(0, 4)).unwrap();
        let image = *one_of(&self.world, &["app:1", "app:2", "app:slow", "app:unready"]).unwrap();
        match action {
            Action::ApplyJob => self.apply_job(job).await,
            Action::SuspendJob | Action::ResumeJob => {
                let is = matches!(action, Action::SuspendJob);
                self.change::<Jobs>(job, move |j: &mut Job| j.spec.as_mut().unwrap().suspend = Some(is)).await
            }
            Action::DeleteJob => {
                let ways = [Propagation::Background, Propagation::Foreground, Propagation::Orphan];
                let propagation = one_of(&self.world, &ways).copied();
                let options = DeleteOptions { propagation, ..DeleteOptions::default() };
                self.world.registry().api::<Jobs>().delete(&ObjectKey::new("default", job), &options).await
            }
            Action::ScaleSet => {
                self.change::<StatefulSets>(SET, move |s: &mut StatefulSet| s.spec.replicas = Some(n)).await
            }
            Action::UpdateSet => self.change_image::<StatefulSets>(SET, image, |s| &mut s.spec.template).await,
            Action::UpdateDaemon => self.change_image::<DaemonSets>(DAEMON, image, |s| &mut s.spec.template).await,
            Action::Cordon => self.cordon(self.world.rng.one_in(2)).await,
            _ => harm::delete_pod(&self.world, |_| None).await,
        }
    }

    async fn apply_job(&self, name: &str) -> Result<(), ApiError> {
        let (completions, parallelism) = (self.world.rng.between(1, 5), self.world.rng.between(1, 4));
        let mode = if self.world.rng.one_in(3) { "NonIndexed" } else { "Indexed" };
        let mut spec = json!({
            "completions": completions, "parallelism": parallelism, "completionMode": mode, "backoffLimit": 1000,
            "template": template(name, "work:1", "Never"),
        });
        if mode == "Indexed" && self.world.rng.one_in(2) {
            spec["backoffLimitPerIndex"] = json!(1);
        }
        self.create::<Jobs>(json!({ "metadata": { "name": name, "namespace": "default" }, "spec": spec })).await;
        Ok(())
    }

    async fn change<K: TypedKind>(
        &self,
        name: &str,
        change: impl Fn(&mut K::Object) + Send + Sync,
    ) -> Result<(), ApiError> {
        self.world.registry().api::<K>().modify(&ObjectKey::new("default", name), change).await.map(drop)
    }

    async fn change_image<K: TypedKind>(
        &self,
        name: &str,
        image: &str,
        template: fn(&mut K::Object) -> &mut k8s_openapi::api::core::v1::PodTemplateSpec,
    ) -> Result<(), ApiError> {
        let set = |object: &mut K::Object| {
            template(object).spec.as_mut().unwrap().containers[0].image = Some(image.to_owned());
        };
        self.change::<K>(name, set).await
    }

    async fn cordon(&self, is: bool) -> Result<(), ApiError> {
        let nodes = self.world.registry().api::<Nodes>();
        for node in nodes.list("").items {
            let key = ObjectKey::of(&node.metadata);
            nodes.modify(&key, |node| node.spec.get_or_insert_default().unschedulable = is.then_some(true)).await?;
        }
        Ok(())
    }

    /// Asks for something sound, and waits until all is as it should be.
    async fn settle(&mut self) {
        self.world.end_rival();
        self.world.user_wrote();
        for job in JOBS {
            // It may not be there.
            drop(self.change::<Jobs>(job, |j: &mut Job| j.spec.as_mut().unwrap().suspend = Some(false)).await);
        }
        self.cordon(false).await.unwrap();
        self.change_image::<StatefulSets>(SET, "app:2", |s| &mut s.spec.template).await.unwrap();
        self.change_image::<DaemonSets>(DAEMON, "app:2", |s| &mut s.spec.template).await.unwrap();
        // A pod of a template that never becomes ready holds an ordered update up, unless it is of an abandoned revision.
        for pod in self.pods_of(&self.set().metadata) {
            let is_stuck = pod.spec.as_ref().unwrap().containers[0].image.as_deref() == Some("app:unready");
            if is_stuck && pod.metadata.deletion_timestamp.is_none() {
                let key = ObjectKey::of(&pod.metadata);
                drop(self.world.registry().api::<Pods>().delete(&key, &DeleteOptions::default()).await);
            }
        }
        self.world.user_wrote();
        for _ in 0..REST_MAX {
            if self.settled().is_ok() {
                return;
            }
            self.world.tick(Duration::from_secs(1)).await;
        }
        panic!("it does not come to rest: {}", self.settled().unwrap_err());
    }

    fn set(&self) -> Arc<StatefulSet> {
        self.world.registry().api::<StatefulSets>().get(&ObjectKey::new("default", SET)).unwrap()
    }

    fn daemon(&self) -> Arc<DaemonSet> {
        self.world.registry().api::<DaemonSets>().get(&ObjectKey::new("default", DAEMON)).unwrap()
    }

    fn pods_of(&self, owner: &ObjectMeta) -> Vec<Arc<Pod>> {
        let mut pods = self.world.registry().api::<Pods>().list("default").items;
        pods.retain(|pod| is_controlled_by(&pod.metadata, owner.uid.as_deref().unwrap()));
        pods
    }

    fn settled(&self) -> Result<(), String> {
        self.settled_set()?;
        self.settled_daemon()?;
        for job in self.world.registry().api::<Jobs>().list("default").items {
            self.settled_job(&job)?;
        }
        let held = self.world.registry().api::<Pods>().list("default").items;
        let held: Vec<_> = held.iter().filter(|pod| pod.metadata.finalizers.is_some()).collect();
        if held.is_empty() { Ok(()) } else { Err(format!("{} pods wait to be counted", held.len())) }
    }

    fn settled_set(&self) -> Result<(), String> {
        let set = self.set();
        let (wanted, status) = (set.spec.replicas.unwrap(), set.status.clone().unwrap_or_default());
        let pods = self.pods_of(&set.metadata);
        let mut names: Vec<_> = pods.iter().map(|pod| pod.metadata.name.clone().unwrap()).collect();
        names.sort();
        let right: Vec<_> = (0..wanted).map(|n| format!("{SET}-{n}")).collect();
        let has = [status.replicas, status.ready_replicas.unwrap_or(0), status.updated_replicas.unwrap_or(0)];
        let is_seen = status.observed_generation == set.metadata.generation;
        if names != right || has != [wanted; 3] || !is_seen || status.current_revision != status.update_revision {
            return Err(format!("{SET} is to have {wanted} pods, has {names:?} and says {status:?}"));
        }
        Ok(())
    }

    fn settled_daemon(&self) -> Result<(), String> {
        let (set, pods) = (self.daemon(), self.pods_of(&self.daemon().metadata));
        let status = set.status.clone().unwrap_or_default();
        let has = [status.desired_number_scheduled, status.number_ready, status.updated_number_scheduled.unwrap_or(0)];
        if pods.len() != 1 || has != [1; 3] || status.observed_generation != set.metadata.generation {
            return Err(format!("{DAEMON} has {} pods and says {status:?}", pods.len()));
        }
        Ok(())
    }

    /// A job is over, and has counted what ended: each index once.
    fn settled_job(&self, job: &Job) -> Result<(), String> {
        let name = job.metadata.name.clone().unwrap();
        let status = job.status.clone().unwrap_or_default();
        let ended = |type_: &str| status.conditions.iter().flatten().any(|c| c.type_ == type_ && c.status == "True");
        if job.metadata.deletion_timestamp.is_some() || !ended("Complete") && !ended("Failed") {
            return Err(format!("{name} is not over: {status:?}"));
        }
        let spec = job.spec.clone().unwrap();
        let succeeded = status.succeeded.unwrap_or(0);
        let pods = self.pods_of(&job.metadata);
        let there: Vec<_> = pods.iter().filter(|pod| pod_state::phase(pod) == "Succeeded").collect();
        if spec.completion_mode.as_deref() == Some("Indexed") {
            let indexes: BTreeSet<_> =
                there.iter().filter_map(|pod| pod.metadata.annotations.as_ref()?.get(INDEX).cloned()).collect();
            assert!(i32::try_from(indexes.len()).unwrap() <= succeeded, "{name} has not counted an index: {status:?}");
            assert!(succeeded <= spec.completions.unwrap(), "{name} has counted an index twice: {status:?}");
        } else {
            assert!(i32::try_from(there.len()).unwrap() <= succeeded, "{name} has not counted a pod: {status:?}");
        }
        assert!(!ended("Complete") || succeeded >= spec.completions.unwrap(), "{name} is not complete: {status:?}");
        Ok(())
    }
}

async fn story(seed: u64) {
    let mut user = User::new(seed).await;
    if seed.is_multiple_of(2) {
        faults::arm(&user.world);
    }
    for _ in 0..STEPS {
        user.step().await;
        user.world.pass_time().await;
    }
    faults::disarm(&user.world);
    user.settle().await;
}

#[test]
fn jobs_count_each_index_once_and_sets_have_the_pods_they_are_to_have() {
    each_in_parallel(seeds(SEEDS), |seed| {
        let why = failure(|| simulate(story(seed)))?;
        Some(format!("seed {seed} fails: {why}"))
    });
}

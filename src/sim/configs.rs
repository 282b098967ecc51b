//! DeploymentConfigs under a user who starts, cancels, repeats, pauses and scales, while deployers fail, are killed and are lost, and the
//! control plane ends and begins again. At no write are there two deployers of one DeploymentConfig (`checkers::deployers`); in the end the
//! last complete rollout has the pods, and no other has any.
//!
//! The deployers of this world only end, one way or the other: what a real one does is `roles/deployer`'s to test.

use super::{each_in_parallel, failure, faults, harm, manifests::one_of, seeds, simulate, world::World};
use crate::{
    api::{
        kinds::{
            deployment_config::{DeploymentConfigs, types::DeploymentConfig},
            pod::Pods,
            replication_controller::ReplicationControllers,
        },
        meta::ObjectKey,
        object::Object as _,
        rollout::{CANCELLED, DESIRED, PHASE, Phase, annotate, phase, size, version},
        status::ApiError,
    },
    registry::pipeline::DeleteOptions,
};
use k8s_openapi::api::core::v1::ReplicationController;
use serde_json::json;
use std::{sync::Arc, time::Duration};

/// Seeds of an ordinary test run.
const SEEDS: u64 = 10;
const STEPS: usize = 30;
const NAME: &str = "web";
/// How long everything may take to come to rest.
const REST_MAX: u32 = 300;

#[derive(Clone, Copy, Debug)]
enum Action {
    ChangeTemplate,
    Scale,
    Start,
    Cancel,
    Retry,
    Pause,
    Resume,
    DeleteWorker,
    KillSomething,
    RestartSkiff,
    KillSkiff,
    RestartDocker,
}

const ACTIONS: &[Action] = &[
    Action::ChangeTemplate,
    Action::ChangeTemplate,
    Action::ChangeTemplate,
    Action::Scale,
    Action::Start,
    Action::Start,
    Action::Cancel,
    Action::Cancel,
    Action::Retry,
    Action::Retry,
    Action::Pause,
    Action::Resume,
    Action::Resume,
    Action::DeleteWorker,
    Action::KillSomething,
    Action::KillSomething,
    Action::RestartSkiff,
    Action::KillSkiff,
    Action::RestartDocker,
];

/// A user of one DeploymentConfig.
struct User {
    world: World,
    key: ObjectKey,
}

impl User {
    async fn new(seed: u64) -> Self {
        let world = World::new(seed).await;
        let config = json!({
            "metadata": { "name": NAME, "namespace": "default" },
            "spec": {
                "replicas": 2, "revisionHistoryLimit": 3,
                "template": {
                    "metadata": { "labels": { "app": "dc" } },
                    "spec": { "containers": [{ "name": "app", "image": "app:1" }] },
                },
            },
        });
        let config = serde_json::from_value(config).unwrap();
        world.registry().api::<DeploymentConfigs>().create(config).await.unwrap();
        Self { world, key: ObjectKey::new("default", NAME) }
    }

    fn config(&self) -> Arc<DeploymentConfig> {
        self.world.registry().api::<DeploymentConfigs>().get(&self.key).unwrap()
    }

    fn rollouts(&self) -> Vec<Arc<ReplicationController>> {
        let uid = self.config().metadata.uid.clone().unwrap();
        self.world.registry().api::<ReplicationControllers>().owned_by(&uid)
    }

    async fn step(&mut self) {
        let action = *one_of(&self.world, ACTIONS).unwrap();
        self.world.note(format!("{action:?}"));
        let written = match action {
            Action::RestartSkiff => return self.world.restart().await,
            Action::KillSkiff => return self.world.kill_and_start().await,
            Action::RestartDocker => {
                return self.world.engine.restart_daemon(Duration::from_secs(3), self.world.rng.one_in(2));
            }
            Action::KillSomething => return harm::kill(&self.world),
            Action::Cancel => {
                self.change_rollout(|rc| !phase(rc).is_terminal(), |rc| annotate(&mut rc.metadata, CANCELLED, "true"))
                    .await
            }
            Action::Retry => self.retry().await,
            Action::DeleteWorker => self.delete_worker().await,
            _ => self.change(action).await,
        };
        self.world.user_wrote();
        if let Err(err) = written {
            self.world.note(format!("refused: {err}"));
        }
    }

    async fn change(&self, action: Action) -> Result<(), ApiError> {
        let (n, mark) = (i32::try_from(self.world.rng.between(0, 5)).unwrap(), self.world.rng.name_suffix());
        let change = move |config: &mut DeploymentConfig| match action {
            Action::Scale => config.spec.replicas = n,
            Action::Start => config.status.latest_version += 1,
            Action::Pause => config.spec.paused = true,
            Action::Resume => config.spec.paused = false,
            _ => annotate(config.spec.template.as_mut().unwrap().metadata.as_mut().unwrap(), "mark", mark.clone()),
        };
        self.world.registry().api::<DeploymentConfigs>().modify(&self.key, change).await.map(drop)
    }

    async fn change_rollout(
        &self,
        is_meant: impl Fn(&ReplicationController) -> bool,
        change: impl Fn(&mut ReplicationController) + Send + Sync,
    ) -> Result<(), ApiError> {
        let rollouts = self.rollouts();
        let Some(rc) = rollouts.iter().find(|rc| is_meant(rc)) else { return Ok(()) };
        let api = self.world.registry().api::<ReplicationControllers>();
        api.modify(&ObjectKey::of(rc.meta()), change).await.map(drop)
    }

    /// What `skiff rollout retry` does.
    async fn retry(&self) -> Result<(), ApiError> {
        let latest = self.config().status.latest_version;
        let is_failed = |rc: &ReplicationController| version(rc) == latest && phase(rc) == Phase::Failed;
        let Some(rc) = self.rollouts().into_iter().find(|rc| is_failed(rc)) else { return Ok(()) };
        let name = rc.metadata.name.clone().unwrap();
        for pod in self.workers().into_iter().filter(|pod| pod.name.starts_with(&name)) {
            self.delete(&pod, Some(0)).await?;
        }
        let again = |rc: &mut ReplicationController| {
            annotate(&mut rc.metadata, PHASE, Phase::New.as_str());
            rc.metadata.annotations.as_mut().unwrap().remove(CANCELLED);
        };
        self.change_rollout(is_failed, again).await
    }

    fn workers(&self) -> Vec<ObjectKey> {
        let pods = self.world.registry().api::<Pods>().list("default").items;
        pods.iter().map(|pod| ObjectKey::of(&pod.metadata)).filter(|key| key.name.ends_with("-deploy")).collect()
    }

    async fn delete_worker(&self) -> Result<(), ApiError> {
        let workers = self.workers();
        match one_of(&self.world, &workers) {
            Some(worker) => self.delete(worker, None).await,
            None => Ok(()),
        }
    }

    async fn delete(&self, pod: &ObjectKey, grace: Option<i64>) -> Result<(), ApiError> {
        let options = DeleteOptions { grace_period_secs: grace, ..DeleteOptions::default() };
        self.world.registry().api::<Pods>().delete(pod, &options).await
    }

    /// Lets go of what it holds up, asks for one more rollout, and waits until that is over.
    async fn settle(&mut self) {
        self.world.user_wrote();
        self.change(Action::Resume).await.unwrap();
        self.change(Action::ChangeTemplate).await.unwrap();
        self.world.user_wrote();
        for _ in 0..REST_MAX {
            if self.settled().is_ok() {
                return;
            }
            self.world.tick(Duration::from_secs(1)).await;
        }
        panic!("it does not come to rest: {}", self.settled().unwrap_err());
    }

    /// Whether the latest rollout is over, and the pods are where they belong.
    fn settled(&self) -> Result<(), String> {
        let (config, rollouts) = (self.config(), self.rollouts());
        let latest = rollouts.iter().find(|rc| version(rc) == config.status.latest_version);
        let latest = latest.ok_or("the latest rollout is not there")?;
        if !phase(latest).is_terminal() {
            return Err(format!("the latest rollout is {}", phase(latest)));
        }
        let complete = rollouts.iter().filter(|rc| phase(rc) == Phase::Complete).max_by_key(|rc| version(rc));
        for rc in &rollouts {
            let is_active = complete.is_some_and(|active| active.metadata.uid == rc.metadata.uid);
            let wanted = if is_active { config.spec.replicas } else { 0 };
            let has = rc.status.as_ref().map_or(0, |status| status.replicas);
            if (size(rc), has) != (wanted, wanted) {
                return Err(format!(
                    "{:?} is to have {wanted} pods, wants {} and has {has}",
                    rc.metadata.name,
                    size(rc)
                ));
            }
            let is_marked = rc.metadata.annotations.as_ref().is_some_and(|all| all.contains_key(DESIRED));
            if phase(rc) == Phase::Complete && is_marked {
                return Err(format!("{:?} is complete and still says what it is to be", rc.metadata.name));
            }
        }
        let seen = (config.status.observed_generation, config.metadata.generation.unwrap_or(0));
        if seen.0 != seen.1 {
            return Err(format!("generation {} is observed of {}", seen.0, seen.1));
        }
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
fn there_is_one_deployer_at_most_and_the_last_complete_rollout_has_the_pods() {
    each_in_parallel(seeds(SEEDS), |seed| {
        let why = failure(|| simulate(story(seed)))?;
        Some(format!("seed {seed} fails: {why}"))
    });
}

//! What the user does, drawn from the seed: the story of the README, in any order, with anything hurt at any time.

use super::world::World;
use crate::{
    api::{
        kinds::{config_map::ConfigMaps, deployment::Deployments, pod::Pods, replica_set::ReplicaSets},
        meta::{ObjectKey, controller_of},
        status::ApiError,
    },
    engine::Phase,
    registry::pipeline::{DeleteOptions, Propagation},
};
use k8s_openapi::api::{
    apps::v1::{Deployment, DeploymentSpec},
    core::v1::ConfigMap,
};
use serde_json::json;
use std::time::Duration;

/// Images and what they do; see `World`.
pub(super) const IMAGES: &[&str] = &["app:1", "app:2", "app:slow", "app:crash", "app:missing"];
/// Images that become ready.
pub(super) const SOUND: &[&str] = &["app:1", "app:2", "app:slow"];
pub(super) const NAMES: &[&str] = &["web", "api"];

/// One thing that a user does.
#[derive(Clone, Copy, Debug)]
enum Action {
    Apply,
    Scale,
    SetImage,
    Pause,
    Resume,
    Undo,
    DeleteDeployment,
    DeleteReplicaSet,
    DeletePod,
    ChangeSettings,
    KillContainer,
    StopContainer,
    StartContainer,
    RemoveContainer,
    KillEverything,
    RestartSkiff,
    KillSkiff,
    RestartDocker,
    FillDisk,
}

/// The actions, each as often as it is to be drawn.
const ACTIONS: &[(u64, Action)] = &[
    (6, Action::Apply),
    (4, Action::Scale),
    (4, Action::SetImage),
    (1, Action::Pause),
    (2, Action::Resume),
    (1, Action::Undo),
    (1, Action::DeleteDeployment),
    (1, Action::DeleteReplicaSet),
    (2, Action::DeletePod),
    (1, Action::ChangeSettings),
    (4, Action::KillContainer),
    (1, Action::StopContainer),
    (1, Action::StartContainer),
    (2, Action::RemoveContainer),
    (1, Action::KillEverything),
    (1, Action::RestartSkiff),
    (2, Action::KillSkiff),
    (1, Action::RestartDocker),
    (1, Action::FillDisk),
];

fn draw(world: &World) -> Action {
    let all: u64 = ACTIONS.iter().map(|(weight, _)| weight).sum();
    let mut at = world.rng.between(0, all);
    for (weight, action) in ACTIONS {
        match at.checked_sub(*weight) {
            Some(rest) => at = rest,
            None => return *action,
        }
    }
    unreachable!("the draw is below the sum of the weights")
}

pub(super) fn one_of<'a, T>(world: &World, list: &'a [T]) -> Option<&'a T> {
    let n = u64::try_from(list.len()).unwrap();
    (n > 0).then(|| &list[usize::try_from(world.rng.between(0, n)).unwrap()])
}

/// Does one thing. What the API refuses, it refuses; the user goes on.
pub(super) async fn step(world: &mut World) {
    let action = draw(world);
    let name = (*one_of(world, NAMES).unwrap()).to_owned();
    world.note(format!("user: {action:?} {name}"));
    let key = ObjectKey::new("default", &name);
    let refused = match action {
        Action::Apply => apply(world, &name).await,
        Action::Scale => {
            let n = replicas(world);
            change(world, &key, move |s| s.replicas = Some(n)).await
        }
        Action::SetImage => {
            let image = (*one_of(world, IMAGES).unwrap()).to_owned();
            change(world, &key, move |s| set_image(s, &image)).await
        }
        Action::Pause => change(world, &key, |s| s.paused = Some(true)).await,
        Action::Resume => change(world, &key, |s| s.paused = None).await,
        Action::Undo => undo(world, &key).await,
        Action::DeleteDeployment => delete_deployment(world, &key).await,
        Action::DeleteReplicaSet => delete_replica_set(world).await,
        Action::DeletePod => delete_pod(world).await,
        Action::ChangeSettings => change_settings(world).await,
        _ => {
            hurt(world, action).await;
            Ok(())
        }
    };
    if let Err(err) = refused {
        world.note(format!("refused: {err}"));
    }
}

fn replicas(world: &World) -> i32 {
    i32::try_from(world.rng.between(0, 7)).unwrap()
}

pub(super) fn set_image(spec: &mut DeploymentSpec, image: &str) {
    let pod = spec.template.spec.get_or_insert_default();
    pod.containers[0].image = Some(image.to_owned());
}

pub(super) async fn change(
    world: &World,
    key: &ObjectKey,
    change: impl Fn(&mut DeploymentSpec) + Send + Sync,
) -> Result<(), ApiError> {
    let api = world.registry().api::<Deployments>();
    api.modify(key, |d| change(&mut d.spec)).await.map(drop)
}

fn manifest(world: &World, name: &str) -> Deployment {
    let image = (*one_of(world, IMAGES).unwrap()).to_owned();
    let (replicas, has_volumes) = (replicas(world), world.rng.one_in(3));
    deployment(world, name, &image, replicas, has_volumes)
}

/// A Deployment of this image, with a strategy that is drawn.
pub(super) fn deployment(world: &World, name: &str, image: &str, replicas: i32, has_volumes: bool) -> Deployment {
    let strategies = [
        json!({"type": "RollingUpdate"}),
        json!({"type": "RollingUpdate", "rollingUpdate": {"maxSurge": 1, "maxUnavailable": 0}}),
        json!({"type": "RollingUpdate", "rollingUpdate": {"maxSurge": 0, "maxUnavailable": 2}}),
        json!({"type": "RollingUpdate", "rollingUpdate": {"maxSurge": "50%", "maxUnavailable": "30%"}}),
        json!({"type": "Recreate"}),
    ];
    let strategy = one_of(world, &strategies).unwrap();
    let volumes = json!([
        {"name": "scratch", "emptyDir": {}},
        {"name": "settings", "configMap": {"name": "settings"}},
    ]);
    let mounts = json!([{"name": "scratch", "mountPath": "/tmp"}, {"name": "settings", "mountPath": "/etc/settings"}]);
    serde_json::from_value(json!({
        "metadata": {"name": name, "namespace": "default"},
        "spec": {
            "replicas": replicas,
            "selector": {"matchLabels": {"app": name}},
            "strategy": strategy,
            "minReadySeconds": if world.rng.one_in(4) { 3 } else { 0 },
            "progressDeadlineSeconds": 60,
            "revisionHistoryLimit": 3,
            "template": {
                "metadata": {"labels": {"app": name}},
                "spec": {
                    "terminationGracePeriodSeconds": 5,
                    "volumes": if has_volumes { volumes } else { json!([]) },
                    "containers": [{
                        "name": "c", "image": image, "imagePullPolicy": "IfNotPresent",
                        "readinessProbe": {"httpGet": {"path": "/", "port": 8080}, "periodSeconds": 1},
                        "volumeMounts": if has_volumes { mounts } else { json!([]) },
                    }],
                },
            },
        },
    }))
    .unwrap()
}

async fn apply(world: &World, name: &str) -> Result<(), ApiError> {
    let api = world.registry().api::<Deployments>();
    let wanted = manifest(world, name);
    let key = ObjectKey::new("default", name);
    if api.get(&key).is_none() {
        return api.create(wanted).await.map(drop);
    }
    api.modify(&key, |d| d.spec.clone_from(&wanted.spec)).await.map(drop)
}

/// What `kubectl rollout undo` does: takes the template of the ReplicaSet before the newest.
async fn undo(world: &World, key: &ObjectKey) -> Result<(), ApiError> {
    let registry = world.registry();
    let Some(deployment) = registry.api::<Deployments>().get(key) else { return Ok(()) };
    let uid = deployment.metadata.uid.clone().unwrap_or_default();
    let mut sets = registry.api::<ReplicaSets>().owned_by(&uid);
    let revision = |rs: &k8s_openapi::api::apps::v1::ReplicaSet| -> i64 {
        let text = rs.metadata.annotations.as_ref().and_then(|a| a.get("deployment.kubernetes.io/revision"));
        text.and_then(|t| t.parse().ok()).unwrap_or(0)
    };
    sets.sort_by_key(|rs| -revision(rs));
    let Some(before) = sets.get(1) else { return Ok(()) };
    let mut template = before.spec.template.clone().unwrap_or_default();
    if let Some(labels) = template.metadata.as_mut().and_then(|m| m.labels.as_mut()) {
        labels.remove("pod-template-hash");
    }
    change(world, key, |s| s.template = template.clone()).await
}

async fn delete_deployment(world: &World, key: &ObjectKey) -> Result<(), ApiError> {
    world.registry().api::<Deployments>().delete(key, &delete_options(world)).await
}

fn delete_options(world: &World) -> DeleteOptions {
    let ways = [None, Some(Propagation::Background), Some(Propagation::Foreground), Some(Propagation::Orphan)];
    DeleteOptions { propagation: *one_of(world, &ways).unwrap(), ..Default::default() }
}

async fn change_settings(world: &World) -> Result<(), ApiError> {
    let colour = world.rng.name_suffix();
    let change = move |settings: &mut ConfigMap| drop(settings.data.get_or_insert_default().insert("colour".to_owned(), colour.clone()));
    world.registry().api::<ConfigMaps>().modify(&ObjectKey::new("default", "settings"), change).await.map(drop)
}

async fn delete_replica_set(world: &World) -> Result<(), ApiError> {
    let api = world.registry().api::<ReplicaSets>();
    let sets = api.list("default").items;
    let Some(set) = one_of(world, &sets) else { return Ok(()) };
    api.delete(&ObjectKey::of(&set.metadata), &delete_options(world)).await
}

async fn delete_pod(world: &World) -> Result<(), ApiError> {
    let api = world.registry().api::<Pods>();
    let pods = api.list("default").items;
    let Some(pod) = one_of(world, &pods) else { return Ok(()) };
    let grace = if world.rng.one_in(3) { Some(0) } else { None };
    let options = DeleteOptions { grace_period_secs: grace, ..Default::default() };
    api.delete(&ObjectKey::of(&pod.metadata), &options).await
}

/// What is done behind the API's back.
async fn hurt(world: &mut World, action: Action) {
    let running: Vec<_> = world.engine.containers().into_iter().filter(|c| c.phase == Phase::Running).collect();
    let victim = one_of(world, &running).map(|c| c.id.clone());
    let ended: Vec<_> = world.engine.containers().into_iter().filter(|c| c.phase == Phase::Exited).collect();
    match (action, victim) {
        (Action::KillContainer, Some(id)) => drop(world.engine.docker_kill(&id, "SIGKILL")),
        (Action::StopContainer, Some(id)) => drop(world.engine.docker_stop(&id, Duration::from_secs(1)).await),
        (Action::StartContainer, _) => {
            if let Some(container) = one_of(world, &ended) {
                drop(world.engine.docker_start(&container.id));
            }
        }
        (Action::RemoveContainer, Some(id)) => drop(world.engine.docker_rm(&id)),
        (Action::KillEverything, _) => {
            for container in running {
                drop(world.engine.docker_kill(&container.id, "SIGKILL"));
            }
        }
        (Action::RestartSkiff, _) => world.restart().await,
        (Action::KillSkiff, _) => world.kill_and_start().await,
        (Action::RestartDocker, _) => {
            world.engine.restart_daemon(Duration::from_secs(3), world.rng.one_in(2));
        }
        (Action::FillDisk, _) => {
            world.disk.set_full(true);
            world.pass_time().await;
            world.disk.set_full(false);
        }
        _ => {}
    }
}

/// Asks for something that can be had: sound images, nothing paused, nothing that was orphaned.
pub(super) async fn settle(world: &mut World) {
    world.note("user: settle".to_owned());
    let api = world.registry().api::<Deployments>();
    for deployment in api.list("default").items {
        let image = (*one_of(world, SOUND).unwrap()).to_owned();
        let key = ObjectKey::of(&deployment.metadata);
        let sound = change(world, &key, move |s| {
            s.paused = None;
            set_image(s, &image);
        });
        match sound.await {
            Ok(()) | Err(ApiError::NotFound { .. }) => {}
            Err(err) => panic!("a sound change is refused: {err}"),
        }
    }
    // What is being orphaned or adopted is so by now.
    world.tick(Duration::from_secs(20)).await;
    delete_orphans(world).await;
}

async fn delete_orphans(world: &World) {
    let (sets, pods) = (world.registry().api::<ReplicaSets>(), world.registry().api::<Pods>());
    for set in sets.list("default").items.iter().filter(|set| controller_of(&set.metadata).is_none()) {
        drop(sets.delete(&ObjectKey::of(&set.metadata), &DeleteOptions::default()).await);
    }
    for pod in pods.list("default").items.iter().filter(|pod| controller_of(&pod.metadata).is_none()) {
        drop(pods.delete(&ObjectKey::of(&pod.metadata), &DeleteOptions::default()).await);
    }
}

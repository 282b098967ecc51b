//! What the user does, drawn from the seed: rollouts of every kind and what comes between, with anything hurt at any time.

use super::{
    checkers::quotas::QUOTA,
    harm,
    manifests::{
        CONTROLLER, NAMES, SET, SOUND, any_deployment, change_pace, image, one_of, pod, replica_set, replicas,
        replication_controller, set_image, strategy,
    },
    poison,
    world::World,
};
use crate::{
    api::{
        agreements::PAUSED,
        ephemeral::as_ephemeral,
        kind::{Erased, ErasedKind, Kind, TypedKind as _},
        kinds::{
            config_map::ConfigMaps,
            deployment::Deployments,
            image_stream::ImageStreams,
            node::Nodes,
            pod::{EPHEMERAL_CONTAINERS, Pods},
            replica_set::ReplicaSets,
            replication_controller::ReplicationControllers,
            resource_quota::RESOURCE_QUOTAS,
        },
        meta::{ObjectKey, controller_of},
        object::Object as _,
        status::ApiError,
    },
    engine::Phase,
    registry::pipeline::{DeleteOptions, Part, Propagation, WriteOptions, decoded},
};
use k8s_openapi::{
    api::{
        apps::v1::{Deployment, DeploymentSpec, ReplicaSet},
        core::v1::{ConfigMap, Container, Node, Pod},
    },
    apimachinery::pkg::apis::meta::v1::ObjectMeta,
};
use serde_json::json;
use std::{sync::Arc, time::Duration};

/// The image stream, and the image that it follows.
const STREAM: &str = "streamed";
/// The label that keeps what the label `app` was.
const WAS: &str = "was";

/// One thing that a user does.
#[derive(Clone, Copy, Debug)]
enum Action {
    Apply,
    Scale,
    ScaleByScale,
    SetImage,
    RestartRollout,
    ChangeStrategy,
    ChangePace,
    Pause,
    Resume,
    Undo,
    DeleteDeployment,
    DeleteReplicaSet,
    ScaleReplicaSet,
    RelabelReplicaSet,
    ApplySet,
    DeleteSet,
    ApplyController,
    DeleteController,
    CreatePod,
    CreatePoison,
    RelabelPod,
    DeletePod,
    DebugPod,
    ChangeSettings,
    ChangeQuota,
    BuildImage,
    TagImage,
    FollowStream,
    DeleteStream,
    MakeUnready,
    MakeReady,
    KillContainer,
    StopContainer,
    StartContainer,
    RestartContainer,
    RestartByPolicy,
    DisconnectNetwork,
    ConnectNetwork,
    RemoveContainer,
    KillEverything,
    RestartSkiff,
    KillSkiff,
    RestartDocker,
    PauseCluster,
    FillDisk,
    TakePort,
    FreePort,
}

/// The actions, each as often as it is to be drawn.
const ACTIONS: &[(u64, Action)] = &[
    (8, Action::Apply),
    (3, Action::Scale),
    (2, Action::ScaleByScale),
    (5, Action::SetImage),
    (2, Action::RestartRollout),
    (2, Action::ChangeStrategy),
    (1, Action::ChangePace),
    (1, Action::Pause),
    (2, Action::Resume),
    (2, Action::Undo),
    (1, Action::DeleteDeployment),
    (1, Action::DeleteReplicaSet),
    (1, Action::ScaleReplicaSet),
    (1, Action::RelabelReplicaSet),
    (3, Action::ApplySet),
    (1, Action::DeleteSet),
    (3, Action::ApplyController),
    (1, Action::DeleteController),
    (2, Action::CreatePod),
    (2, Action::CreatePoison),
    (2, Action::RelabelPod),
    (2, Action::DeletePod),
    (2, Action::DebugPod),
    (1, Action::ChangeSettings),
    (2, Action::ChangeQuota),
    (1, Action::BuildImage),
    (2, Action::TagImage),
    (2, Action::FollowStream),
    (1, Action::DeleteStream),
    (1, Action::MakeUnready),
    (2, Action::MakeReady),
    (4, Action::KillContainer),
    (1, Action::StopContainer),
    (1, Action::StartContainer),
    (3, Action::RestartContainer),
    (1, Action::RestartByPolicy),
    (1, Action::DisconnectNetwork),
    (1, Action::ConnectNetwork),
    (2, Action::RemoveContainer),
    (1, Action::KillEverything),
    (1, Action::RestartSkiff),
    (2, Action::KillSkiff),
    (1, Action::RestartDocker),
    (1, Action::PauseCluster),
    (1, Action::FillDisk),
    (2, Action::TakePort),
    (1, Action::FreePort),
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

/// Does one thing. What the API refuses, it refuses; the user goes on.
pub(super) async fn step(world: &mut World) {
    let action = draw(world);
    let name = (*one_of(world, NAMES).unwrap()).to_owned();
    world.note(format!("{action:?} {name}"));
    let key = ObjectKey::new("default", &name);
    match write(world, action, &key).await {
        Some(written) => {
            world.user_wrote();
            if let Err(err) = written {
                world.note(format!("refused: {err}"));
            }
        }
        None => hurt(world, action).await,
    }
}

/// Does what is done through the API; `None`: the action is not.
async fn write(world: &World, action: Action, key: &ObjectKey) -> Option<Result<(), ApiError>> {
    Some(match action {
        Action::Apply => apply_deployment(world, key).await,
        Action::Scale => {
            let n = replicas(world);
            change(world, key, move |s| s.replicas = Some(n)).await
        }
        Action::ScaleByScale => scale_by_scale(world, key).await,
        Action::SetImage => {
            let image = image(world);
            change(world, key, move |s| set_image(s, &image)).await
        }
        Action::RestartRollout => restart_rollout(world, key).await,
        Action::ChangeStrategy => {
            let strategy = strategy(world);
            change(world, key, move |s| s.strategy = serde_json::from_value(strategy.clone()).unwrap()).await
        }
        Action::ChangePace => change(world, key, |s| change_pace(world, s)).await,
        Action::Pause => change(world, key, |s| s.paused = Some(true)).await,
        Action::Resume => change(world, key, |s| s.paused = None).await,
        Action::Undo => undo(world, key).await,
        Action::DeleteDeployment => delete::<Deployments>(world, key).await,
        Action::DeleteReplicaSet => match one_set(world) {
            Some(set) => delete::<ReplicaSets>(world, &ObjectKey::of(&set.metadata)).await,
            None => Ok(()),
        },
        Action::ScaleReplicaSet => scale_replica_set(world).await,
        Action::RelabelReplicaSet => relabel_replica_set(world).await,
        Action::ApplySet => {
            apply::<ReplicaSets>(world, replica_set(world), |old, new| old.spec.clone_from(&new.spec)).await
        }
        Action::FollowStream => follow_stream(world, key).await,
        Action::DeleteStream => delete::<ImageStreams>(world, &ObjectKey::new("default", STREAM)).await,
        Action::DeleteSet => delete::<ReplicaSets>(world, &ObjectKey::new("default", SET)).await,
        Action::ApplyController => {
            let wanted = replication_controller(world);
            apply::<ReplicationControllers>(world, wanted, |old, new| old.spec.clone_from(&new.spec)).await
        }
        Action::DeleteController => {
            delete::<ReplicationControllers>(world, &ObjectKey::new("default", CONTROLLER)).await
        }
        Action::CreatePod => create_pod(world).await,
        Action::CreatePoison => world.registry().api::<Pods>().create(poison::pod(world)).await.map(drop),
        Action::RelabelPod => relabel_pod(world).await,
        Action::DeletePod => harm::delete_pod(world, |world| world.rng.one_in(3).then_some(0)).await,
        Action::DebugPod => debug_pod(world).await,
        Action::ChangeSettings => change_settings(world).await,
        Action::ChangeQuota => set_quota(world, world.rng.between(2, 40)).await,
        _ => return None,
    })
}

/// Changes a Deployment.
pub(super) async fn change(
    world: &World,
    key: &ObjectKey,
    change: impl Fn(&mut DeploymentSpec) + Send + Sync,
) -> Result<(), ApiError> {
    let api = world.registry().api::<Deployments>();
    api.modify(key, |d| change(&mut d.spec)).await.map(drop)
}

async fn apply_deployment(world: &World, key: &ObjectKey) -> Result<(), ApiError> {
    let wanted = any_deployment(world, &key.name);
    apply::<Deployments>(world, wanted, |old, new| old.spec.clone_from(&new.spec)).await
}

/// Creates an object, or makes the one of its name the same.
async fn apply<K: Kind>(
    world: &World,
    wanted: K::Object,
    change: impl Fn(&mut K::Object, &K::Object) + Send + Sync,
) -> Result<(), ApiError> {
    let (api, key) = (world.registry().api::<K>(), ObjectKey::of(wanted.meta()));
    if api.get(&key).is_none() {
        return api.create(wanted).await.map(drop);
    }
    api.modify(&key, |old| change(old, &wanted)).await.map(drop)
}

async fn delete<K: Kind>(world: &World, key: &ObjectKey) -> Result<(), ApiError> {
    let ways = [None, Some(Propagation::Background), Some(Propagation::Foreground), Some(Propagation::Orphan)];
    let options = DeleteOptions { propagation: *one_of(world, &ways).unwrap(), ..Default::default() };
    world.registry().api::<K>().delete(key, &options).await
}

/// What `kubectl scale` does.
async fn scale_by_scale(world: &World, deployment: &ObjectKey) -> Result<(), ApiError> {
    let (kind, name): (&'static dyn ErasedKind, _) = match world.rng.between(0, 3) {
        0 => (const { &Erased::<ReplicaSets>::NEW }, SET),
        1 => (const { &Erased::<ReplicationControllers>::NEW }, CONTROLLER),
        _ => (const { &Erased::<Deployments>::NEW }, deployment.name.as_str()),
    };
    let n = replicas(world);
    let mut scale = |entry: &crate::store::Entry| {
        let mut object = kind.decode_bytes(&entry.value).expect("stored objects decode as their kind");
        kind.set_scale(&mut *object, n);
        Ok(object)
    };
    let key = ObjectKey::new("default", name);
    world.registry().update(kind, &key, Part::Main, &mut scale, &WriteOptions::default()).await.map(drop)
}

/// What `kubectl rollout restart` does.
async fn restart_rollout(world: &World, key: &ObjectKey) -> Result<(), ApiError> {
    let now = world.clock.now().to_string();
    let restart = move |spec: &mut DeploymentSpec| {
        let annotations = spec.template.metadata.get_or_insert_default().annotations.get_or_insert_default();
        annotations.insert("kubectl.kubernetes.io/restartedAt".to_owned(), now.clone());
    };
    change(world, key, restart).await
}

/// What `kubectl rollout undo --to-revision` does: takes the template of any of the Deployment's sets.
async fn undo(world: &World, key: &ObjectKey) -> Result<(), ApiError> {
    let registry = world.registry();
    let Some(deployment) = registry.api::<Deployments>().get(key) else { return Ok(()) };
    let sets = registry.api::<ReplicaSets>().owned_by(deployment.metadata.uid.as_deref().unwrap());
    let Some(before) = one_of(world, &sets) else { return Ok(()) };
    let mut template = before.spec.template.clone().unwrap_or_default();
    if let Some(labels) = template.metadata.as_mut().and_then(|m| m.labels.as_mut()) {
        labels.remove("pod-template-hash");
    }
    change(world, key, |s| s.template = template.clone()).await
}

fn one_set(world: &World) -> Option<Arc<ReplicaSet>> {
    one_of(world, &world.registry().api::<ReplicaSets>().list("default").items).cloned()
}

async fn scale_replica_set(world: &World) -> Result<(), ApiError> {
    let Some(set) = one_set(world) else { return Ok(()) };
    let n = replicas(world);
    let api = world.registry().api::<ReplicaSets>();
    api.modify(&ObjectKey::of(&set.metadata), |set| set.spec.replicas = Some(n)).await.map(drop)
}

/// Takes a set from its Deployment, or gives it back.
async fn relabel_replica_set(world: &World) -> Result<(), ApiError> {
    let Some(set) = one_set(world).filter(|set| set.metadata.name.as_deref() != Some(SET)) else { return Ok(()) };
    let api = world.registry().api::<ReplicaSets>();
    api.modify(&ObjectKey::of(&set.metadata), |set| relabel(&mut set.metadata)).await.map(drop)
}

/// Takes a pod from its set, as one does to look into it, or gives it back.
async fn relabel_pod(world: &World) -> Result<(), ApiError> {
    let api = world.registry().api::<Pods>();
    let pods = api.list("default").items;
    let Some(pod) = one_of(world, &pods) else { return Ok(()) };
    let retires = world.rng.one_in(3);
    let change = |meta: &mut ObjectMeta| {
        if retires {
            meta.labels.get_or_insert_default().insert("retired".to_owned(), "yes".to_owned());
        } else {
            relabel(meta);
        }
    };
    api.modify(&ObjectKey::of(&pod.metadata), |pod| change(&mut pod.metadata)).await.map(drop)
}

fn relabel(meta: &mut ObjectMeta) {
    let labels = meta.labels.get_or_insert_default();
    if let Some(was) = labels.remove(WAS) {
        labels.insert("app".to_owned(), was);
    } else if let Some(app) = labels.insert("app".to_owned(), "released".to_owned()) {
        labels.insert(WAS.to_owned(), app);
    }
}

/// Makes a pod by hand: one that a set adopts, or one of no one.
async fn create_pod(world: &World) -> Result<(), ApiError> {
    let registry = world.registry();
    let sets = registry.api::<ReplicaSets>().list("default").items;
    let controllers = registry.api::<ReplicationControllers>().list("default").items;
    let of_sets = sets.iter().filter_map(|set| set.spec.template.as_ref());
    let of_controllers = controllers.iter().filter_map(|rc| rc.spec.as_ref()?.template.as_ref());
    let templates: Vec<_> = of_sets.chain(of_controllers).map(Some).chain([None]).collect();
    let made = pod(world, *one_of(world, &templates).unwrap());
    registry.api::<Pods>().create(made).await.map(drop)
}

async fn change_settings(world: &World) -> Result<(), ApiError> {
    let colour = world.rng.name_suffix();
    let change = move |settings: &mut ConfigMap| {
        settings.data.get_or_insert_default().insert("colour".to_owned(), colour.clone());
    };
    world.registry().api::<ConfigMaps>().modify(&ObjectKey::new("default", "settings"), change).await.map(drop)
}

/// Lets there be so many pods.
async fn set_quota(world: &World, n_pods: u64) -> Result<(), ApiError> {
    let (registry, options) = (world.registry(), WriteOptions::default());
    let key = ObjectKey::new("default", QUOTA);
    let wanted = json!({ "metadata": { "name": QUOTA, "namespace": "default" }, "spec": { "hard": { "pods": n_pods.to_string() } } });
    let object = || RESOURCE_QUOTAS.decode(wanted.clone()).expect("it fits the schema");
    match registry.entry(&RESOURCE_QUOTAS, &key) {
        Some(_) => registry.update(&RESOURCE_QUOTAS, &key, Part::Main, &mut |_: &_| Ok(object()), &options).await,
        None => registry.create(&RESOURCE_QUOTAS, "default", object(), &options).await,
    }
    .map(drop)
}

/// What `kubectl debug` does: adds a container that looks at the pod, or at the processes of its first container.
async fn debug_pod(world: &World) -> Result<(), ApiError> {
    let pods = world.registry().api::<Pods>().list("default").items;
    let Some(pod) = one_of(world, &pods) else { return Ok(()) };
    let (name, sees_one, image) = (world.rng.name_suffix(), world.rng.one_in(2), image(world));
    let mut add = |entry: &crate::store::Entry| {
        let mut pod = Pod::clone(&decoded::<Pods>(entry));
        let spec = pod.spec.get_or_insert_default();
        let target = spec.containers.first().filter(|_| sees_one).map(|c| c.name.clone());
        let container =
            Container { name: format!("debugger-{name}"), image: Some(image.clone()), ..Container::default() };
        spec.ephemeral_containers.get_or_insert_default().push(as_ephemeral(container, target));
        Ok(Pods::pack(pod))
    };
    let (key, part) = (ObjectKey::of(&pod.metadata), Part::Facet(EPHEMERAL_CONTAINERS));
    world.registry().update(Pods::erased(), &key, part, &mut add, &WriteOptions::default()).await.map(drop)
}

/// What is done behind the API's back.
async fn hurt(world: &mut World, action: Action) {
    let in_phase = |phase: Phase| -> Vec<String> {
        let all = world.engine.containers().into_iter();
        all.filter(|c| c.phase == phase).map(|c| c.id).collect()
    };
    let (running, ended) = (in_phase(Phase::Running), in_phase(Phase::Exited));
    let victim = one_of(world, &running).cloned();
    match (action, victim) {
        (Action::BuildImage, _) => world.engine.add_image("app:missing", crate::engine::fake::Behaviour::server()),
        (Action::TagImage, _) => {
            world.engine.add_image(&format!("{STREAM}:latest"), crate::engine::fake::Behaviour::server());
        }
        (Action::MakeUnready, Some(id)) => world.engine.set_ready(&id, Some(false)),
        (Action::MakeReady, _) => make_all_ready(world),
        (Action::KillContainer, Some(id)) => drop(world.engine.docker_kill(&id, "SIGKILL")),
        (Action::StopContainer, Some(id)) => drop(world.engine.docker_stop(&id, Duration::from_secs(1)).await),
        (Action::StartContainer, _) => {
            if let Some(id) = one_of(world, &ended) {
                drop(world.engine.docker_start(id));
            }
        }
        (Action::RestartContainer, Some(id)) => {
            drop(world.engine.docker_restart(&id, Duration::from_secs(1)).await);
        }
        (Action::RestartByPolicy, Some(id)) => world.engine.docker_update_restart(&id, true),
        (Action::DisconnectNetwork, Some(id)) => world.engine.disconnect(&id),
        (Action::ConnectNetwork, _) => running.iter().for_each(|id| world.engine.connect(id)),
        (Action::RemoveContainer, Some(id)) => drop(world.engine.docker_rm(&id)),
        (Action::KillEverything, _) => {
            for id in running {
                drop(world.engine.docker_kill(&id, "SIGKILL"));
            }
        }
        (Action::RestartSkiff, _) => world.restart().await,
        (Action::KillSkiff, _) => world.kill_and_start().await,
        (Action::RestartDocker, _) => {
            world.engine.restart_daemon(Duration::from_secs(3), world.rng.one_in(2));
        }
        (Action::PauseCluster, _) => pause_cluster(world).await,
        (Action::TakePort, _) => world.engine.set_port_taken(poison::PORT, true),
        (Action::FreePort, _) => world.engine.set_port_taken(poison::PORT, false),
        (Action::FillDisk, _) => {
            world.disk.set_full(true);
            world.pass_time().await;
            world.disk.set_full(false);
        }
        _ => {}
    }
}

/// What `skiff pause` and `skiff resume` do, and perhaps skiff is killed meanwhile.
async fn pause_cluster(world: &mut World) {
    async fn set(world: &World, since: Option<String>) {
        let change = |node: &mut Node| {
            let annotations = node.metadata.annotations.get_or_insert_default();
            annotations.remove(PAUSED);
            annotations.extend(since.clone().map(|since| (PAUSED.to_owned(), since)));
        };
        // While there is no node yet, there is nothing to pause.
        drop(world.registry().api::<Nodes>().modify(&ObjectKey::new("", "skiff"), change).await);
    }
    let now = world.registry().clock().now().to_string();
    set(world, Some(now)).await;
    world.pass_time().await;
    if world.rng.one_in(2) {
        world.kill_and_start().await;
        world.pass_time().await;
    }
    set(world, None).await;
}

fn make_all_ready(world: &World) {
    for container in world.engine.containers() {
        world.engine.set_ready(&container.id, None);
    }
}

/// Asks for something that can be had: sound images, nothing paused, nothing that was orphaned.
pub(super) async fn settle(world: &mut World) {
    world.note("settle".to_owned());
    make_all_ready(world);
    set_quota(world, 1_000).await.expect("a quota that allows much is sound");
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
    world.user_wrote();
    // What is being orphaned or adopted is so by now.
    world.tick(Duration::from_secs(20)).await;
    while delete_orphans(world).await {
        world.user_wrote();
        world.tick(Duration::from_secs(5)).await;
    }
}

/// Lets a Deployment follow the image that is called as the stream.
async fn follow_stream(world: &World, key: &ObjectKey) -> Result<(), ApiError> {
    let streams = world.registry().api::<ImageStreams>();
    if streams.get(&ObjectKey::new("default", STREAM)).is_none() {
        let stream = json!({ "metadata": { "name": STREAM, "namespace": "default" } });
        streams.create(serde_json::from_value(stream).unwrap()).await?;
    }
    let from = json!({ "kind": "ImageStreamTag", "name": format!("{STREAM}:latest") });
    let triggers = json!([{ "from": from, "fieldPath": "spec.template.spec.containers[0].image" }]).to_string();
    let follows = |deployment: &mut Deployment| {
        let annotations = deployment.metadata.annotations.get_or_insert_default();
        annotations.insert("image.openshift.io/triggers".to_owned(), triggers.clone());
    };
    world.registry().api::<Deployments>().modify(key, follows).await.map(drop)
}

/// Deletes the sets and pods that belong to no one, and pods with a debugger that never begins, which no one can take out of them;
/// whether there were any.
async fn delete_orphans(world: &World) -> bool {
    let (sets, pods) = (world.registry().api::<ReplicaSets>(), world.registry().api::<Pods>());
    let is_orphan = |meta: &ObjectMeta| controller_of(meta).is_none() && meta.name.as_deref() != Some(SET);
    let (sets_left, pods_left) = (sets.list("default").items, pods.list("default").items);
    let sets_left: Vec<_> = sets_left.iter().filter(|set| is_orphan(&set.metadata)).collect();
    let is_left = |pod: &&Arc<Pod>| is_orphan(&pod.metadata) || has_hopeless_debugger(pod);
    let pods_left: Vec<_> = pods_left.iter().filter(is_left).collect();
    for set in &sets_left {
        drop(sets.delete(&ObjectKey::of(&set.metadata), &DeleteOptions::default()).await);
    }
    for pod in &pods_left {
        drop(pods.delete(&ObjectKey::of(&pod.metadata), &DeleteOptions::default()).await);
    }
    !sets_left.is_empty() || !pods_left.is_empty()
}

/// Whether a pod waits for the image of a debugger that there will never be, again and again.
fn has_hopeless_debugger(pod: &Pod) -> bool {
    let debuggers = pod.status.iter().flat_map(|status| status.ephemeral_container_statuses.iter().flatten());
    debuggers.into_iter().any(|debugger| debugger.state.as_ref().is_some_and(|state| state.waiting.is_some()))
}

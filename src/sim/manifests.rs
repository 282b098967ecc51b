//! What the user writes, drawn from the seed: Deployments of every strategy and pace, sets without a Deployment, pods by hand.

use super::world::World;
use k8s_openapi::api::{
    apps::v1::{Deployment, DeploymentSpec, ReplicaSet},
    core::v1::{Pod, PodTemplateSpec, ReplicationController, Service},
};
use serde_json::{Value, json};

/// Images that become ready; see `World`.
pub(super) const SOUND: &[&str] = &["app:1", "app:2", "app:slow"];
/// Images that become ready in the end: one ends only when it is killed, one is pulled, which fails at first.
const FAIR: &[&str] = &["app:1", "app:2", "app:slow", "app:stubborn", "app:remote"];
/// Images of which some never become ready.
const ANY: &[&str] = &[
    "app:1",
    "app:2",
    "app:slow",
    "app:stubborn",
    "app:remote",
    "app:crash",
    "app:missing",
    "app:unready",
    "app:broken",
];
/// The Deployments.
pub(super) const NAMES: &[&str] = &["web", "api"];
/// The ReplicaSet that belongs to no Deployment.
pub(super) const SET: &str = "solo";
/// The ReplicationController.
pub(super) const CONTROLLER: &str = "old";
/// What has a Service of its name.
pub(super) const SERVICES: &[&str] = &["web", "api", SET, CONTROLLER];

/// One of a list, which is empty only where the world has nothing to draw from.
pub(super) fn one_of<'a, T>(world: &World, list: &'a [T]) -> Option<&'a T> {
    let n = u64::try_from(list.len()).unwrap();
    (n > 0).then(|| &list[usize::try_from(world.rng.between(0, n)).unwrap()])
}

fn any<T: Clone>(world: &World, list: &[T]) -> T {
    one_of(world, list).expect("the list is not empty").clone()
}

/// Any image.
pub(super) fn image(world: &World) -> String {
    any(world, ANY).to_owned()
}

/// How many pods a user may want.
pub(super) fn replicas(world: &World) -> i32 {
    i32::try_from(world.rng.between(0, 7)).unwrap()
}

/// Gives the pods of a Deployment another image.
pub(super) fn set_image(spec: &mut DeploymentSpec, image: &str) {
    let pod = spec.template.spec.get_or_insert_default();
    pod.containers[0].image = Some(image.to_owned());
}

/// A strategy, with the surge and what may be unavailable in numbers and in shares.
pub(super) fn strategy(world: &World) -> Value {
    if world.rng.one_in(5) {
        return json!({"type": "Recreate"});
    }
    if world.rng.one_in(4) {
        return json!({"type": "RollingUpdate"});
    }
    let paces = [json!(0), json!(1), json!(2), json!(5), json!("0%"), json!("25%"), json!("34%"), json!("100%")];
    let (surge, unavailable) = (any(world, &paces), any(world, &paces));
    let is_nothing = |pace: &Value| *pace == json!(0) || *pace == json!("0%");
    let unavailable = if is_nothing(&surge) && is_nothing(&unavailable) { json!(1) } else { unavailable };
    json!({"type": "RollingUpdate", "rollingUpdate": {"maxSurge": surge, "maxUnavailable": unavailable}})
}

/// A Service of the pods of this app.
pub(super) fn service(name: &str) -> Service {
    serde_json::from_value(json!({
        "metadata": {"name": name, "namespace": "default"},
        "spec": {"selector": {"app": name}, "ports": [{"port": 80, "targetPort": 8080}]},
    }))
    .unwrap()
}

/// A Deployment of this image, with a strategy that is drawn; its pods are ready when they answer.
pub(super) fn deployment(world: &World, name: &str, image: &str, replicas: i32, has_volumes: bool) -> Deployment {
    let volumes = json!([
        {"name": "scratch", "emptyDir": {}},
        {"name": "settings", "configMap": {"name": "settings"}},
        {"name": "tools", "image": {"reference": any(world, &["app:1", "app:remote"]), "pullPolicy": "IfNotPresent"}},
    ]);
    let mounts = json!([
        {"name": "scratch", "mountPath": "/tmp"},
        {"name": "scratch", "mountPath": "/data", "subPath": "data"},
        {"name": "settings", "mountPath": "/etc/settings"},
        {"name": "tools", "mountPath": "/tools"},
    ]);
    serde_json::from_value(json!({
        "metadata": {"name": name, "namespace": "default"},
        "spec": {
            "replicas": replicas,
            "selector": {"matchLabels": {"app": name}},
            "strategy": strategy(world),
            "minReadySeconds": if world.rng.one_in(4) { 3 } else { 0 },
            "progressDeadlineSeconds": 20,
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

/// A Deployment of which everything is drawn.
pub(super) fn any_deployment(world: &World, name: &str) -> Deployment {
    let (image, replicas, has_volumes) = (image(world), replicas(world), world.rng.one_in(3));
    let mut made = deployment(world, name, &image, replicas, has_volumes);
    change_pace(world, &mut made.spec);
    draw_probes(world, &mut made.spec.template);
    made
}

/// How long things may take, and how much of the past is kept.
pub(super) fn change_pace(world: &World, spec: &mut DeploymentSpec) {
    spec.min_ready_seconds = Some(any(world, &[0, 0, 3, 8]));
    spec.progress_deadline_seconds = any(world, &[None, Some(10), Some(60), Some(i32::MAX)]);
    spec.revision_history_limit = any(world, &[None, Some(0), Some(1), Some(3)]);
}

fn draw_probes(world: &World, template: &mut PodTemplateSpec) {
    let (http, tcp) = (json!({"path": "/", "port": 8080}), json!({"port": 8080}));
    let container = &mut template.spec.as_mut().expect("a template has a spec").containers[0];
    let readiness = any(
        world,
        &[
            json!({"httpGet": http, "periodSeconds": 1}),
            json!({"tcpSocket": tcp, "periodSeconds": 2, "successThreshold": 2}),
            json!({"httpGet": http, "periodSeconds": 1, "initialDelaySeconds": 2, "failureThreshold": 1}),
            Value::Null,
        ],
    );
    let liveness = json!({"httpGet": http, "periodSeconds": 2, "initialDelaySeconds": 10, "failureThreshold": 2});
    let startup = json!({"httpGet": http, "periodSeconds": 1, "failureThreshold": 20});
    container.readiness_probe = serde_json::from_value(readiness).unwrap();
    container.liveness_probe = world.rng.one_in(4).then(|| serde_json::from_value(liveness).unwrap());
    container.startup_probe = world.rng.one_in(5).then(|| serde_json::from_value(startup).unwrap());
}

fn template(world: &World, labels: &Value) -> Value {
    json!({
        "metadata": {"labels": labels},
        "spec": {
            "terminationGracePeriodSeconds": 2,
            "containers": [{"name": "c", "image": any(world, FAIR), "imagePullPolicy": "IfNotPresent"}],
        },
    })
}

/// A ReplicaSet whose selector speaks of sets of values.
pub(super) fn replica_set(world: &World) -> ReplicaSet {
    let tier = any(world, &["front", "back"]);
    serde_json::from_value(json!({
        "metadata": {"name": SET, "namespace": "default"},
        "spec": {
            "replicas": replicas(world),
            "minReadySeconds": any(world, &[0, 0, 3]),
            "selector": {"matchLabels": {"app": SET}, "matchExpressions": [
                {"key": "tier", "operator": "In", "values": ["front", "back"]},
                {"key": "retired", "operator": "DoesNotExist"},
            ]},
            "template": template(world, &json!({"app": SET, "tier": tier})),
        },
    }))
    .unwrap()
}

/// A ReplicationController.
pub(super) fn replication_controller(world: &World) -> ReplicationController {
    serde_json::from_value(json!({
        "metadata": {"name": CONTROLLER, "namespace": "default"},
        "spec": {
            "replicas": replicas(world),
            "minReadySeconds": any(world, &[0, 0, 3]),
            "selector": {"app": CONTROLLER},
            "template": template(world, &json!({"app": CONTROLLER})),
        },
    }))
    .unwrap()
}

/// A pod that someone made by hand: like those of a template, or like no other.
pub(super) fn pod(world: &World, like: Option<&PodTemplateSpec>) -> Pod {
    let labels = like.and_then(|t| t.metadata.as_ref()?.labels.clone());
    let mut pod: Pod = serde_json::from_value(template(world, &json!({"app": "hand"}))).unwrap();
    pod.metadata.generate_name = Some("hand-".to_owned());
    pod.metadata.namespace = Some("default".to_owned());
    if labels.is_some() {
        pod.metadata.labels = labels;
    }
    pod
}

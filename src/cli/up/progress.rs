//! What `skiff up -f` shows while pods come up: how many of each workload are ready, and the pulls that pods wait for.

use crate::{
    api::{
        agreements::SYSTEM_NAMESPACE,
        kind::TypedKind,
        kinds::{
            daemon_set::DaemonSets,
            deployment::Deployments,
            deployment_config::{DeploymentConfigs, types::DeploymentConfig},
            event::Events,
            pod::Pods,
            replica_set::ReplicaSets,
            replication_controller::ReplicationControllers,
            stateful_set::StatefulSets,
        },
        object::Object as _,
        pod_state,
    },
    app::App,
    base::ordered::{Map, Set},
    cli::{output, workloads::workloads},
};
use k8s_openapi::{
    api::{
        apps::v1::{DaemonSet, Deployment, ReplicaSet, StatefulSet},
        core::v1::{Pod, ReplicationController},
    },
    apimachinery::pkg::apis::meta::v1::ObjectMeta,
};
use std::sync::Arc;

/// Prints how many replicas of each workload are ready, until all are.
pub(super) async fn show(app: &App) {
    let (mut last, mut last_pulls) = (String::new(), Vec::new());
    app.until(|| {
        let pulls = pulls(app);
        pulls.iter().filter(|pull| !last_pulls.contains(*pull)).for_each(|pull| output::line(format!("   {pull}")));
        last_pulls = pulls;
        let parts = parts(app);
        let text = parts.iter().map(|part| part.text.as_str()).collect::<Vec<_>>().join(", ");
        if text != last {
            output::line(format!("   {text}"));
            last = text;
        }
        parts.iter().all(|part| part.is_complete)
    })
    .await;
}

/// What was told last of the pulls that pods which are not ready wait for.
fn pulls(app: &App) -> Vec<String> {
    let pods = app.registry.api::<Pods>().list("").items;
    let waiting = pods.iter().filter(|pod| !pod_state::is_pod_ready(pod)).filter_map(|pod| pod.metadata.uid.as_deref());
    let waiting: Set<&str> = waiting.collect();
    if waiting.is_empty() {
        return Vec::new();
    }
    let events = app.registry.api::<Events>().list("").items;
    let of_pulls = events.iter().filter(|event| {
        let is_waited_for = event.involved_object.uid.as_deref().is_some_and(|uid| waiting.contains(uid));
        is_waited_for && matches!(event.reason.as_deref(), Some("Pulling" | "Pulled" | "Failed"))
    });
    // One pull serves all pods that wait for it: the newest word for each container.
    let mut newest: Map<_, (&str, i64)> = Map::new();
    for event in of_pulls {
        let of = (&event.involved_object.uid, &event.involved_object.field_path);
        let revision = event.metadata.resource_version.as_deref().and_then(|text| text.parse().ok()).unwrap_or(0);
        let message = if event.reason.as_deref() == Some("Pulling") { event.message.as_deref() } else { None };
        let known = newest.entry(of).or_default();
        if revision >= known.1 {
            *known = (message.unwrap_or_default(), revision);
        }
    }
    let said: Set<String> =
        newest.into_values().map(|(message, _)| message.to_owned()).filter(|message| !message.is_empty()).collect();
    said.into_iter().collect()
}

/// How far everything is that nothing else makes.
fn parts(app: &App) -> Vec<Part> {
    let mut parts = Vec::new();
    workloads().iter().filter_map(|info| measure(info.kind)).for_each(|measure| measure(app, &mut parts));
    collect::<Pods>(app, &mut parts, of_pod);
    parts
}

/// How it is seen how far the objects of a kind of workloads are; a Job's end is not waited for.
fn measure(kind: &str) -> Option<fn(&App, &mut Vec<Part>)> {
    Some(match kind {
        "Deployment" => |app, parts| collect::<Deployments>(app, parts, of_deployment),
        "DeploymentConfig" => |app, parts| collect::<DeploymentConfigs>(app, parts, of_deployment_config),
        "StatefulSet" => |app, parts| collect::<StatefulSets>(app, parts, of_stateful_set),
        "DaemonSet" => |app, parts| collect::<DaemonSets>(app, parts, of_daemon_set),
        "ReplicaSet" => |app, parts| collect::<ReplicaSets>(app, parts, of_replica_set),
        "ReplicationController" => {
            |app, parts| collect::<ReplicationControllers>(app, parts, of_replication_controller)
        }
        _ => return None,
    })
}

fn collect<K: TypedKind>(app: &App, parts: &mut Vec<Part>, part: fn(&K::Object) -> Part) {
    let all = app.registry.api::<K>().list("").items;
    let is_alone = |object: &&Arc<K::Object>| {
        let meta = object.meta();
        meta.owner_references.as_ref().is_none_or(Vec::is_empty) && meta.namespace.as_deref() != Some(SYSTEM_NAMESPACE)
    };
    parts.extend(all.iter().filter(is_alone).map(|object| part(object)));
}

/// How far one object is.
#[derive(Debug, PartialEq, Eq)]
struct Part {
    text: String,
    is_complete: bool,
}

impl Part {
    /// `is_seen`: the status is that of the spec there is.
    fn new(kind: &str, meta: &ObjectMeta, (ready, wanted): (i32, i32), is_seen: bool) -> Self {
        let name = meta.name.as_deref().unwrap_or_default();
        Self { text: format!("{kind}/{name} {ready}/{wanted} ready"), is_complete: is_seen && ready >= wanted }
    }
}

fn of_deployment(d: &Deployment) -> Part {
    let status = d.status.clone().unwrap_or_default();
    let ready = status.ready_replicas.unwrap_or(0).min(status.updated_replicas.unwrap_or(0));
    let is_seen = status.observed_generation == d.metadata.generation;
    Part::new("deployment", &d.metadata, (ready, d.spec.replicas.unwrap_or(1)), is_seen)
}

/// One that nothing has rolled out yet (its image is not there, or nothing triggers it) has no pods to wait for.
fn of_deployment_config(dc: &DeploymentConfig) -> Part {
    let (spec, status) = (&dc.spec, &dc.status);
    let is_seen = Some(status.observed_generation) == dc.metadata.generation;
    if status.latest_version == 0 {
        let name = dc.metadata.name.as_deref().unwrap_or_default();
        return Part { text: format!("deploymentconfig/{name} waits for its first rollout"), is_complete: is_seen };
    }
    let ready = status.ready_replicas.min(status.updated_replicas);
    Part::new("deploymentconfig", &dc.metadata, (ready, if spec.test { 0 } else { spec.replicas }), is_seen)
}

fn of_stateful_set(set: &StatefulSet) -> Part {
    let (wanted, status) = (set.spec.replicas.unwrap_or(1), set.status.clone().unwrap_or_default());
    let is_seen = status.observed_generation == set.metadata.generation;
    Part::new("statefulset", &set.metadata, (status.ready_replicas.unwrap_or(0), wanted), is_seen)
}

fn of_daemon_set(set: &DaemonSet) -> Part {
    let status = set.status.clone().unwrap_or_default();
    let is_seen = status.observed_generation == set.metadata.generation;
    Part::new("daemonset", &set.metadata, (status.number_ready, status.desired_number_scheduled), is_seen)
}

fn of_replica_set(rs: &ReplicaSet) -> Part {
    let (wanted, status) = (rs.spec.replicas.unwrap_or(1), rs.status.clone().unwrap_or_default());
    let is_seen = status.observed_generation == rs.metadata.generation;
    Part::new("replicaset", &rs.metadata, (status.ready_replicas.unwrap_or(0), wanted), is_seen)
}

fn of_replication_controller(rc: &ReplicationController) -> Part {
    let wanted = rc.spec.as_ref().and_then(|spec| spec.replicas).unwrap_or(1);
    let status = rc.status.clone().unwrap_or_default();
    let is_seen = status.observed_generation == rc.metadata.generation;
    Part::new("replicationcontroller", &rc.metadata, (status.ready_replicas.unwrap_or(0), wanted), is_seen)
}

fn of_pod(pod: &Pod) -> Part {
    let phase = pod.status.as_ref().and_then(|s| s.phase.clone()).unwrap_or_default();
    let is_complete = pod_state::is_pod_ready(pod) || phase == "Succeeded" || phase == "Failed";
    Part { text: format!("pod/{} {phase}", pod.metadata.name.as_deref().unwrap_or_default()), is_complete }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::from_yaml;

    fn said(part: Part) -> String {
        format!("{}{}", part.text, if part.is_complete { "." } else { " …" })
    }

    #[test]
    fn every_kind_of_workloads_is_waited_for_but_jobs() {
        let left: Vec<&str> = workloads().iter().map(|info| info.kind).filter(|kind| measure(kind).is_none()).collect();
        assert_eq!(left, ["Job"]);
    }

    #[test]
    fn each_kind_says_how_far_it_is() {
        let set = |status: &str| {
            let meta = "metadata: {name: db, generation: 2}";
            let yaml = format!("{meta}\nspec: {{replicas: 2, selector: {{}}, template: {{}}}}\nstatus: {{{status}}}");
            said(of_stateful_set(&from_yaml(&yaml).unwrap()))
        };
        assert_eq!(set("replicas: 2, readyReplicas: 2, observedGeneration: 1"), "statefulset/db 2/2 ready …");
        assert_eq!(set("replicas: 2, readyReplicas: 1, observedGeneration: 2"), "statefulset/db 1/2 ready …");
        assert_eq!(set("replicas: 2, readyReplicas: 2, observedGeneration: 2"), "statefulset/db 2/2 ready.");
        let daemons = "metadata: {name: d, generation: 1}\nspec: {selector: {}, template: {}}\nstatus: {observedGeneration: 1, \
                       currentNumberScheduled: 1, desiredNumberScheduled: 3, numberMisscheduled: 0, numberReady: 1}";
        assert_eq!(said(of_daemon_set(&from_yaml(daemons).unwrap())), "daemonset/d 1/3 ready …");
        let config = |status: &str| {
            let yaml = format!("metadata: {{name: f, generation: 1}}\nspec: {{replicas: 5}}\nstatus: {{{status}}}");
            said(of_deployment_config(&from_yaml(&yaml).unwrap()))
        };
        assert_eq!(config("observedGeneration: 1"), "deploymentconfig/f waits for its first rollout.");
        let rolled = "observedGeneration: 1, latestVersion: 1, readyReplicas: 5, updatedReplicas: ";
        assert_eq!(config(&format!("{rolled}2")), "deploymentconfig/f 2/5 ready …");
        assert_eq!(config(&format!("{rolled}5")), "deploymentconfig/f 5/5 ready.");
    }
}

//! The pod of an ordinal: its name, its labels, its claims, and what it is made of.
//!
//! **Source**: `newStatefulSetPod`, `initIdentity`, `updateStorage`, pkg/controller/statefulset/stateful_set_utils.go, v1.37.

use super::claims::of_ordinal;
use crate::{
    api::{
        kinds::{pod::Pods, stateful_set::StatefulSets},
        pod_state,
    },
    controllers::{
        pods::from_template,
        revisions::POD_REVISION,
        runtime::{Action, EventDraft, Planned, Report},
    },
};
use k8s_openapi::api::{
    apps::v1::StatefulSet,
    core::v1::{ContainerStatus, PersistentVolumeClaimVolumeSource, Pod, PodTemplateSpec, Volume},
};

/// The label of a pod with its own name.
pub(super) const POD_NAME: &str = "statefulset.kubernetes.io/pod-name";
/// The label of a pod with its ordinal.
const POD_INDEX: &str = "apps.kubernetes.io/pod-index";

/// The name of an ordinal's pod.
pub(super) fn pod_name(set: &StatefulSet, ordinal: i32) -> String {
    format!("{}-{ordinal}", set.metadata.name.as_deref().unwrap_or_default())
}

/// The ordinal of a pod of this set; `None`: it is not named as one.
pub(super) fn ordinal_of(set: &StatefulSet, pod: &Pod) -> Option<i32> {
    let rest = pod.metadata.name.as_deref()?.strip_prefix(set.metadata.name.as_deref()?)?.strip_prefix('-')?;
    let ordinal: i32 = rest.parse().ok()?;
    // `web-01` is another name than `web-1`.
    (ordinal.to_string() == rest).then_some(ordinal)
}

/// The pod of an ordinal, of a revision's template.
pub(super) fn pod(set: &StatefulSet, ordinal: i32, revision: &str, template: &PodTemplateSpec) -> Pod {
    let mut pod = from_template::<StatefulSets>(&set.metadata, template);
    let name = pod_name(set, ordinal);
    pod.metadata.generate_name = Some(format!("{}-", set.metadata.name.as_deref().unwrap_or_default()));
    pod.metadata.name = Some(name.clone());
    pod.metadata.labels.get_or_insert_default().insert(POD_REVISION.to_owned(), revision.to_owned());
    add_identity(&mut pod, &name, ordinal);
    let spec = pod.spec.get_or_insert_default();
    spec.hostname = Some(name);
    spec.subdomain = set.spec.service_name.clone().filter(|service| !service.is_empty());
    let volumes = of_ordinal(set, ordinal).map(|(claim_name, template)| Volume {
        name: template.metadata.name.clone().unwrap_or_default(),
        persistent_volume_claim: Some(PersistentVolumeClaimVolumeSource { claim_name, read_only: Some(false) }),
        ..Volume::default()
    });
    let mut volumes: Vec<Volume> = volumes.collect();
    // A claim takes the place of a volume of its name.
    volumes.extend(spec.volumes.take().into_iter().flatten().filter(|v| {
        !set.spec.volume_claim_templates.iter().flatten().any(|c| c.metadata.name.as_ref() == Some(&v.name))
    }));
    spec.volumes = (!volumes.is_empty()).then_some(volumes);
    pod
}

fn add_identity(pod: &mut Pod, name: &str, ordinal: i32) {
    let labels = pod.metadata.labels.get_or_insert_default();
    labels.insert(POD_NAME.to_owned(), name.to_owned());
    labels.insert(POD_INDEX.to_owned(), ordinal.to_string());
}

/// Gives a pod back the label by which its Service may pick it.
pub(super) fn identified(set: &StatefulSet, ordinal: i32, pod: &Pod) -> Option<Planned> {
    let name = pod_name(set, ordinal);
    let has = pod.metadata.labels.as_ref().and_then(|labels| labels.get(POD_NAME)) == Some(&name);
    if has {
        return None;
    }
    let mut pod = pod.clone();
    add_identity(&mut pod, &name, ordinal);
    Some(Action::update::<Pods>(pod).because("it has lost its name's label"))
}

/// The name of the revision that a pod is of.
pub(super) fn revision_of(pod: &Pod) -> &str {
    pod.metadata.labels.as_ref().and_then(|labels| labels.get(POD_REVISION)).map_or("", String::as_str)
}

pub(super) fn is_going(pod: &Pod) -> bool {
    pod.metadata.deletion_timestamp.is_some()
}

/// Whether a pod runs and is ready.
pub(super) fn is_running_and_ready(pod: &Pod) -> bool {
    pod_state::phase(pod) == "Running" && pod_state::is_pod_ready(pod)
}

/// Whether a pod cannot start as it is: a container waits for what its template says wrong, or comes down again and again.
pub(super) fn cannot_start(pod: &Pod) -> bool {
    let status = pod.status.as_ref();
    let containers = status.into_iter().flat_map(|s| s.init_container_statuses.iter().chain(&s.container_statuses));
    let waits = |c: &ContainerStatus| c.state.as_ref()?.waiting.as_ref()?.reason.clone();
    let is_stuck = |reason: String| !matches!(reason.as_str(), "ContainerCreating" | "PodInitializing" | "");
    let unschedulable = pod_state::condition(pod, pod_state::POD_SCHEDULED)
        .is_some_and(|c| c.status == "False" && c.reason.as_deref() == Some("Unschedulable"));
    unschedulable || containers.flatten().filter_map(waits).any(is_stuck)
}

fn told(set: &StatefulSet, verb: &str, pod: &str) -> String {
    format!("{verb} Pod {pod} in StatefulSet {}", set.metadata.name.as_deref().unwrap_or_default())
}

fn report(set: &StatefulSet, verb: &str, [success, failure]: [&'static str; 2], pod: &str) -> Report {
    let told = told(set, verb, pod);
    Report::Outcome(Box::new([
        EventDraft::normal::<StatefulSets>(set, success, format!("{told} successful")),
        EventDraft::warning::<StatefulSets>(set, failure, format!("{told} failed error: ")),
    ]))
}

/// Makes a pod.
pub(super) fn creation(set: &StatefulSet, pod: Pod) -> Planned {
    let report =
        report(set, "create", ["SuccessfulCreate", "FailedCreate"], pod.metadata.name.as_deref().unwrap_or(""));
    Action::create::<Pods>(pod).because("an ordinal has no pod").telling(report)
}

/// Deletes a pod.
pub(super) fn deletion(set: &StatefulSet, pod: &Pod, why: &'static str) -> Planned {
    let report =
        report(set, "delete", ["SuccessfulDelete", "FailedDelete"], pod.metadata.name.as_deref().unwrap_or(""));
    Action::delete::<Pods>(pod).because(why).telling(report)
}

//! Containers and pods belong together: one runs at most per container of a pod, none is left without a pod, and no volume is.
//!
//! The user may start an old attempt by hand; then it must be stopped soon.

use crate::{
    api::kinds::{persistent_volume::PERSISTENT_VOLUMES, pod::Pods},
    engine::{Container, Phase},
    registry::{Registry, pipeline::Selection},
};
use jiff::{SignedDuration, Timestamp};
use serde_json::Value;
use std::collections::{BTreeMap, BTreeSet};

/// How long an attempt that the user started beside another may run: its event may be lost, and then the next safety list finds it;
/// its grace comes on top.
const STOPPING_MAX: SignedDuration = SignedDuration::from_mins(11);

fn label<'a>(container: &'a Container, name: &str) -> &'a str {
    container.labels.get(name).map(String::as_str).unwrap_or_default()
}

/// At most one container runs for each container of a pod.
pub(super) fn at_most_one_runs(containers: &[Container], by_hand: &BTreeSet<String>, now: Timestamp) {
    let mut running: BTreeMap<(&str, &str), &Container> = BTreeMap::new();
    for container in containers.iter().filter(|c| c.phase == Phase::Running && !is_helper(c)) {
        let whose = (label(container, "io.kubernetes.pod.uid"), label(container, "io.kubernetes.container.name"));
        let Some(other) = running.insert(whose, container) else { continue };
        let is_by_hand = [container, other].iter().any(|c| by_hand.contains(&c.id));
        let since = container.started_at.max(other.started_at);
        assert!(
            is_by_hand && since.is_some_and(|at| now.duration_since(at) <= STOPPING_MAX),
            "{} and {} run at the same time, since {since:?}; by hand: {is_by_hand}",
            other.name,
            container.name,
        );
    }
}

/// Whether a container looks at paths for a pod and is no part of it.
fn is_helper(container: &Container) -> bool {
    container.labels.contains_key("dev.skiff.helper-of")
}

/// No container and no volume is left without a pod.
pub(super) fn each_has_its_pod(registry: &Registry, containers: &[Container], volumes: &[String]) {
    let pods: BTreeSet<String> =
        registry.api::<Pods>().list("").items.iter().filter_map(|p| p.metadata.uid.clone()).collect();
    let of_images = containers.iter().flat_map(|container| label(container, "dev.skiff.image-volumes").split(','));
    let of_images: BTreeSet<&str> = of_images.filter(|name| !name.is_empty()).collect();
    // The volume of a claim is its own.
    let claimed = registry.snapshot(&PERSISTENT_VOLUMES, "", &Selection::default()).entries;
    let claimed: Vec<Value> = claimed.iter().map(|entry| serde_json::from_slice(&entry.value).unwrap()).collect();
    let handles: Vec<&str> = claimed.iter().filter_map(|v| v.pointer("/spec/csi/volumeHandle")?.as_str()).collect();
    for volume in volumes.iter().filter(|volume| !handles.iter().any(|handle| volume.ends_with(handle))) {
        let is_mounted = of_images.contains(volume.trim_end_matches("_full"));
        assert!(is_mounted || pods.iter().any(|uid| volume.contains(uid.as_str())), "the volume {volume} has no pod");
    }
    for container in containers {
        let whose = if is_helper(container) { "dev.skiff.helper-of" } else { "io.kubernetes.pod.uid" };
        assert!(
            pods.contains(label(container, whose)),
            "the container {} ({:?}) has no pod",
            container.name,
            container.phase
        );
    }
}

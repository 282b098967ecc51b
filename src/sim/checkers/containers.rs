//! Containers and pods belong together: one runs at most per container of a pod, none is left without a pod, and no volume is.

use crate::{
    api::kinds::pod::Pods,
    engine::{Container, Phase},
    registry::Registry,
};
use std::collections::{BTreeMap, BTreeSet};

fn label<'a>(container: &'a Container, name: &str) -> &'a str {
    container.labels.get(name).map(String::as_str).unwrap_or_default()
}

/// At most one container runs for each container of a pod.
pub(super) fn at_most_one_runs(containers: &[Container]) {
    let mut running: BTreeMap<(&str, &str), &str> = BTreeMap::new();
    for container in containers.iter().filter(|c| c.phase == Phase::Running) {
        let whose = (label(container, "io.kubernetes.pod.uid"), label(container, "io.kubernetes.container.name"));
        if let Some(other) = running.insert(whose, &container.name) {
            panic!("{} and {other} run at the same time", container.name);
        }
    }
}

/// No container and no volume is left without a pod.
pub(super) fn each_has_its_pod(registry: &Registry, containers: &[Container], volumes: &[String]) {
    let pods: BTreeSet<String> =
        registry.api::<Pods>().list("").items.iter().filter_map(|p| p.metadata.uid.clone()).collect();
    for volume in volumes {
        assert!(pods.iter().any(|uid| volume.contains(uid.as_str())), "the volume {volume} has no pod");
    }
    for container in containers {
        assert!(
            pods.contains(label(container, "io.kubernetes.pod.uid")),
            "the container {} ({:?}) has no pod",
            container.name,
            container.phase
        );
    }
}

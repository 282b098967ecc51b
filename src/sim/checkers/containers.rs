//! Containers and pods belong together: one runs at most per container of a pod, and none is left without a pod.

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

/// No container is left without a pod.
pub(super) fn each_has_its_pod(registry: &Registry, containers: &[Container]) {
    let pods: BTreeSet<String> =
        registry.api::<Pods>().list("").items.iter().filter_map(|p| p.metadata.uid.clone()).collect();
    for container in containers {
        assert!(
            pods.contains(label(container, "io.kubernetes.pod.uid")),
            "the container {} ({:?}) has no pod",
            container.name,
            container.phase
        );
    }
}

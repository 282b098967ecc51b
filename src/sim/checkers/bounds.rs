//! A Deployment's ReplicaSets stay within replicas + maxSurge, or come down to it; a ReplicaSet's pods stay within its replicas,
//! or come down to them; status never claims a generation that is not there.

use crate::{
    api::{
        kinds::{deployment::Deployments, pod::Pods, replica_set::ReplicaSets},
        pod_state,
    },
    registry::Registry,
    sim::fence::Fence,
};
use k8s_openapi::api::apps::v1::{Deployment, ReplicaSet};
use std::{collections::BTreeMap, sync::Arc};

#[derive(Default)]
pub(super) struct Bounds {
    /// The size of each ReplicaSet, and how many pods it had, when it was last looked at. Sets that are adopted keep theirs.
    seen: BTreeMap<String, (i32, usize)>,
}

impl Bounds {
    pub(super) fn look(&mut self, registry: &Registry) {
        for deployment in registry.api::<Deployments>().list("").items {
            check_generation(&deployment);
            self.check_sets(registry, &deployment);
        }
        let sets = registry.api::<ReplicaSets>().list("").items;
        let seen = sets.iter().map(|set| (uid(set), (size(set), pods(registry, set))));
        let seen: BTreeMap<_, _> = seen.collect();
        for set in &sets {
            let (size, pods) = seen[&uid(set)];
            let before = self.seen.get(&uid(set)).map_or(0, |(_, pods)| *pods);
            let may_have = usize::try_from(size).unwrap();
            let name = &set.metadata.name;
            assert!(pods <= may_have || pods <= before, "{name:?} has {pods} pods, {before} before, and may have {size}");
        }
        self.seen = seen;
    }

    fn check_sets(&self, registry: &Registry, deployment: &Deployment) {
        let sets = owned(registry, deployment);
        let before: i32 = sets.iter().filter_map(|set| self.seen.get(&uid(set))).map(|(size, _)| *size).sum();
        let (all, allowed) = (sets.iter().map(|set| size(set)).sum::<i32>(), Fence::of(deployment).pods_max);
        let name = &deployment.metadata.name;
        assert!(all <= allowed || all <= before, "{name:?} has {all} replicas, {before} before, and may have {allowed}");
    }
}

fn owned(registry: &Registry, deployment: &Deployment) -> Vec<Arc<ReplicaSet>> {
    let mut sets = registry.api::<ReplicaSets>().owned_by(deployment.metadata.uid.as_deref().unwrap());
    sets.retain(|set| set.metadata.deletion_timestamp.is_none());
    sets
}

fn uid(set: &ReplicaSet) -> String {
    set.metadata.uid.clone().unwrap()
}

fn size(set: &ReplicaSet) -> i32 {
    set.spec.replicas.unwrap_or(1)
}

/// The pods of a set that count.
fn pods(registry: &Registry, set: &ReplicaSet) -> usize {
    registry.api::<Pods>().owned_by(&uid(set)).iter().filter(|pod| pod_state::is_active(pod)).count()
}

fn check_generation(deployment: &Deployment) {
    let observed = deployment.status.as_ref().and_then(|s| s.observed_generation).unwrap_or(0);
    let generation = deployment.metadata.generation.unwrap_or(0);
    assert!(observed <= generation, "{:?} observes generation {observed} of {generation}", deployment.metadata.name);
}

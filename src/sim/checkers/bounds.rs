//! A Deployment's ReplicaSets stay within replicas + maxSurge, or come down to it; status never claims a generation that is not there.

use crate::{
    api::kinds::{deployment::Deployments, replica_set::ReplicaSets},
    registry::Registry,
};
use k8s_openapi::{api::apps::v1::Deployment, apimachinery::pkg::util::intstr::IntOrString};
use std::collections::BTreeMap;

#[derive(Default)]
pub(super) struct Bounds {
    /// The size of all ReplicaSets of each Deployment when it was last looked at.
    sizes: BTreeMap<String, i32>,
}

impl Bounds {
    pub(super) fn look(&mut self, registry: &Registry) {
        let mut sizes = BTreeMap::new();
        for deployment in registry.api::<Deployments>().list("").items {
            let uid = deployment.metadata.uid.clone().unwrap_or_default();
            let size = owned_size(registry, &uid);
            check_generation(&deployment);
            let (allowed, before) = (allowed(&deployment), self.sizes.get(&uid).copied().unwrap_or(0));
            assert!(
                size <= allowed || size <= before,
                "{:?} has {size} replicas in all, {before} before, and may have {allowed}",
                deployment.metadata.name
            );
            sizes.insert(uid, size);
        }
        self.sizes = sizes;
    }
}

fn owned_size(registry: &Registry, uid: &str) -> i32 {
    let sets = registry.api::<ReplicaSets>().owned_by(uid);
    sets.iter().filter(|rs| rs.metadata.deletion_timestamp.is_none()).map(|rs| rs.spec.replicas.unwrap_or(1)).sum()
}

fn check_generation(deployment: &Deployment) {
    let observed = deployment.status.as_ref().and_then(|s| s.observed_generation).unwrap_or(0);
    let generation = deployment.metadata.generation.unwrap_or(0);
    assert!(observed <= generation, "{:?} observes generation {observed} of {generation}", deployment.metadata.name);
}

fn allowed(deployment: &Deployment) -> i32 {
    let spec = deployment.spec.clone();
    let replicas = spec.replicas.unwrap_or(1);
    let surge = spec.strategy.and_then(|s| s.rolling_update).and_then(|r| r.max_surge);
    replicas
        + match surge {
            None => 0,
            Some(IntOrString::Int(n)) => n,
            Some(IntOrString::String(percent)) => {
                let percent: i32 = percent.trim_end_matches('%').parse().unwrap();
                (replicas * percent + 99) / 100
            }
        }
}

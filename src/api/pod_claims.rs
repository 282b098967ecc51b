//! The claims that a pod uses: those it names, and those that are made for it alone.

use super::meta::ObjectKey;
use k8s_openapi::api::core::v1::Pod;

/// A claim of a pod.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PodClaim {
    /// The volume in the pod.
    pub volume: String,
    /// The claim.
    pub key: ObjectKey,
    /// Whether it is made for the pod and goes with it (`ephemeral`).
    pub is_ephemeral: bool,
}

/// The claims of a pod's volumes. Source: `VolumeClaimName`, `k8s.io/component-helpers/storage/ephemeral/ephemeral.go`, v1.37.
pub fn claims_of(pod: &Pod) -> Vec<PodClaim> {
    let meta = &pod.metadata;
    let namespace = meta.namespace.as_deref().unwrap_or_default();
    let volumes = pod.spec.iter().flat_map(|spec| spec.volumes.iter().flatten());
    let claim = |volume: &k8s_openapi::api::core::v1::Volume| {
        let named = volume.persistent_volume_claim.as_ref().map(|claim| claim.claim_name.clone());
        let made = || Some(format!("{}-{}", meta.name.as_deref().unwrap_or_default(), volume.name));
        let is_ephemeral = named.is_none();
        let name = named.or_else(|| volume.ephemeral.as_ref().and_then(|_| made()))?;
        Some(PodClaim { volume: volume.name.clone(), key: ObjectKey::new(namespace, name), is_ephemeral })
    };
    volumes.filter_map(claim).collect()
}

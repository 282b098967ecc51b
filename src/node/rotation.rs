//! Whether a pod has left the rotation: no new connection reaches it any more.
//!
//! Called by the worker before a pod's containers get their signal. Pure.
//!
//! The endpoints controller marks the pod's endpoint as terminating, the data plane applies that and writes the revision it has
//! applied into an annotation of its Lease. The pod has left when no slice shows it as ready and the data plane has applied
//! every slice of its namespace.

use crate::api::{agreements::OBSERVED_REVISION, meta::Revision};
use k8s_openapi::api::{
    coordination::v1::Lease,
    core::v1::Pod,
    discovery::v1::{Endpoint, EndpointSlice},
};
use std::sync::Arc;

/// Whether the pod takes part in the rotation at all: only then is there something to wait for.
pub(super) fn takes_part(pod: &Pod, lease: Option<&Lease>) -> bool {
    let conditions = pod.status.iter().flat_map(|s| s.conditions.iter().flatten());
    let is_ready = conditions.into_iter().any(|c| c.type_ == "Ready" && c.status == "True");
    is_ready && lease.is_some_and(|l| observed(l).is_some())
}

fn observed(lease: &Lease) -> Option<Revision> {
    lease.metadata.annotations.as_ref()?.get(OBSERVED_REVISION)?.parse().ok().map(Revision)
}

/// Whether the pod has left the rotation.
pub(super) fn has_left(uid: &str, slices: &[Arc<EndpointSlice>], lease: Option<&Lease>) -> bool {
    let Some(applied) = lease.and_then(observed) else { return true };
    let shows_ready = |endpoint: &Endpoint| {
        let is_pod = endpoint.target_ref.as_ref().is_some_and(|t| t.uid.as_deref() == Some(uid));
        is_pod && endpoint.conditions.as_ref().is_none_or(|c| c.ready != Some(false))
    };
    slices.iter().all(|slice| {
        let revision = slice.metadata.resource_version.as_ref().and_then(|v| v.parse().ok()).map(Revision);
        !slice.endpoints.iter().flatten().any(shows_ready) && revision.is_none_or(|revision| revision <= applied)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lease(observed: &str) -> Lease {
        crate::testing::from_yaml(&format!("metadata: {{annotations: {{{OBSERVED_REVISION}: '{observed}'}}}}")).unwrap()
    }

    fn slice(revision: u64, ready: bool) -> Arc<EndpointSlice> {
        let text = format!(
            "{{metadata: {{resourceVersion: '{revision}'}}, addressType: IPv4, endpoints: [{{addresses: [10.0.0.1], \
             conditions: {{ready: {ready}}}, targetRef: {{uid: u1}}}}]}}"
        );
        Arc::new(crate::testing::from_yaml(&text).unwrap())
    }

    #[test]
    fn a_pod_has_left_when_the_data_plane_has_seen_it_leave() {
        let cases = [(slice(5, true), "9", false), (slice(5, false), "4", false), (slice(5, false), "5", true)];
        for (slice, observed, want) in cases {
            assert_eq!(has_left("u1", &[slice], Some(&lease(observed))), want);
        }
        assert!(has_left("u2", &[slice(5, true)], Some(&lease("5"))));
        assert!(
            !has_left("u2", &[slice(5, true)], Some(&lease("4"))),
            "its own slice may have been applied no more than this one"
        );
        assert!(has_left("u1", &[], Some(&lease("1"))));
    }

    #[test]
    fn without_a_data_plane_there_is_nothing_to_wait_for() {
        assert!(has_left("u1", &[slice(5, true)], None));
        let ready: Pod = crate::testing::from_yaml("status: {conditions: [{type: Ready, status: 'True'}]}").unwrap();
        let unready: Pod = crate::testing::from_yaml("status: {conditions: [{type: Ready, status: 'False'}]}").unwrap();
        assert!(!takes_part(&ready, None));
        assert!(takes_part(&ready, Some(&lease("1"))));
        assert!(!takes_part(&unready, Some(&lease("1"))));
        assert!(!takes_part(&ready, Some(&Lease::default())));
    }
}

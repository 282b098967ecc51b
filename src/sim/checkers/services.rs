//! What the Services lead to are the pods that are ready: in EndpointSlices, in Endpoints, and in the data plane.

use crate::{
    api::{
        kinds::{endpoint_slice::EndpointSlices, endpoints::EndpointsKind, pod::Pods},
        pod_state,
    },
    registry::Registry,
    sim::network::{DataPlane, ready_addresses},
};
use std::{collections::BTreeSet, net::Ipv4Addr};

/// The three say the same as the pods.
pub(super) fn lead_to_ready_pods(registry: &Registry, data_plane: &DataPlane) {
    let pods = registry.api::<Pods>().list("default").items;
    let ready = pods.iter().filter(|pod| pod_state::is_pod_ready(pod));
    let ready: BTreeSet<Ipv4Addr> = ready.map(|pod| pod.status.as_ref().unwrap().pod_ip.as_ref().unwrap().parse().unwrap()).collect();
    let slices = registry.api::<EndpointSlices>().list("default").items;
    let in_slices: BTreeSet<Ipv4Addr> = slices.iter().flat_map(|slice| ready_addresses(slice)).collect();
    assert_eq!(in_slices, ready, "EndpointSlices do not show the ready pods");
    assert_eq!(in_endpoints(registry), ready, "Endpoints do not show the ready pods");
    assert_eq!(data_plane.addresses(), ready, "the data plane does not lead to the ready pods");
}

fn in_endpoints(registry: &Registry) -> BTreeSet<Ipv4Addr> {
    let all = registry.api::<EndpointsKind>().list("default").items;
    let subsets = all.iter().flat_map(|e| e.subsets.iter().flatten());
    let addresses = subsets.flat_map(|s| s.addresses.iter().flatten()).filter(|a| a.target_ref.is_some());
    addresses.map(|a| a.ip.parse().unwrap()).collect()
}

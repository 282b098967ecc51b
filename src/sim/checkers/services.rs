//! What a Service leads to are the ready pods that it selects: in EndpointSlices, in Endpoints, and in the data plane.

use crate::{
    api::{
        agreements::SERVICE_NAME_LABEL,
        kinds::{endpoint_slice::EndpointSlices, endpoints::EndpointsKind, pod::Pods, service::Services},
        meta::ObjectKey,
        pod_state,
        selector::{FieldSelector, LabelSelector},
    },
    registry::{Registry, pipeline::Selection},
    sim::network::{DataPlane, ready_addresses},
};
use std::{collections::BTreeSet, net::Ipv4Addr};

/// The three say the same as the pods.
pub(super) fn lead_to_ready_pods(registry: &Registry, data_plane: &DataPlane) {
    let mut all = BTreeSet::new();
    for service in registry.api::<Services>().list("default").items {
        let Some(wanted) = service.spec.as_ref().and_then(|s| s.selector.clone()) else { continue };
        let name = service.metadata.name.clone().unwrap();
        let ready = ready_pods(registry, LabelSelector::from_map(&wanted));
        assert_eq!(in_slices(registry, &name), ready, "the EndpointSlices of {name} do not show the ready pods");
        assert_eq!(in_endpoints(registry, &name), ready, "the Endpoints of {name} do not show the ready pods");
        all.extend(ready);
    }
    assert_eq!(data_plane.addresses(), all, "the data plane does not lead to the ready pods");
}

fn selection(labels: LabelSelector) -> Selection {
    Selection { labels, fields: FieldSelector::everything() }
}

fn ready_pods(registry: &Registry, selector: LabelSelector) -> BTreeSet<Ipv4Addr> {
    let pods = registry.api::<Pods>().select("default", &selection(selector)).items;
    let ready = pods.iter().filter(|pod| pod_state::is_pod_ready(pod));
    ready.map(|pod| pod.status.as_ref().unwrap().pod_ip.as_ref().unwrap().parse().unwrap()).collect()
}

fn in_slices(registry: &Registry, service: &str) -> BTreeSet<Ipv4Addr> {
    let of_service = LabelSelector::parse(&format!("{SERVICE_NAME_LABEL}={service}")).unwrap();
    let slices = registry.api::<EndpointSlices>().select("default", &selection(of_service)).items;
    slices.iter().flat_map(|slice| ready_addresses(slice)).collect()
}

fn in_endpoints(registry: &Registry, service: &str) -> BTreeSet<Ipv4Addr> {
    let endpoints = registry.api::<EndpointsKind>().get(&ObjectKey::new("default", service));
    let subsets = endpoints.iter().flat_map(|e| e.subsets.iter().flatten());
    let addresses = subsets.flat_map(|s| s.addresses.iter().flatten()).filter(|a| a.target_ref.is_some());
    addresses.map(|a| a.ip.parse().unwrap()).collect()
}

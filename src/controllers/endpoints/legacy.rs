//! The older form of endpoints: one Endpoints object per Service, of its name.
//!
//! **Source**: `syncService`, pkg/controller/endpoint/endpoints_controller.go, v1.37.

use super::{HEADLESS, desired::Group, slices::is_headless};
use crate::{
    api::kinds::endpoints::EndpointsKind,
    controllers::runtime::{Action, Planned},
};
use k8s_openapi::{
    api::{
        core::v1::{EndpointAddress, EndpointPort, EndpointSubset, Endpoints, Service},
        discovery::v1::Endpoint,
    },
    apimachinery::pkg::apis::meta::v1::ObjectMeta,
};
use std::{collections::BTreeMap, net::IpAddr};

/// The label by which Endpoints name who writes them.
const MANAGED_BY: &str = "endpoints.kubernetes.io/managed-by";
const CONTROLLER: &str = "endpoint-controller";

/// Whether these were made here, rather than by a user for a Service without a selector.
pub(super) fn is_managed(endpoints: &Endpoints) -> bool {
    endpoints.metadata.labels.as_ref().and_then(|l| l.get(MANAGED_BY)).is_some_and(|by| by == CONTROLLER)
}

/// What to change so that the Endpoints show the groups.
pub(super) fn change(service: &Service, groups: &[Group], existing: Option<&Endpoints>) -> Option<Planned> {
    let mut metadata = existing.map_or_else(|| blank(service), |endpoints| endpoints.metadata.clone());
    metadata.labels = Some(labels(service));
    let subsets: Vec<EndpointSubset> = groups.iter().filter_map(subset).collect();
    let wanted = Endpoints { metadata, subsets: if subsets.is_empty() { None } else { Some(subsets) } };
    match existing {
        None => Some(Action::create::<EndpointsKind>(wanted).because("the Service has no Endpoints")),
        Some(before) if is_same(before, &wanted) => None,
        Some(_) => Some(Action::update::<EndpointsKind>(wanted).because("its endpoints changed")),
    }
}

fn is_same(a: &Endpoints, b: &Endpoints) -> bool {
    a.metadata.labels == b.metadata.labels
        && a.subsets.as_deref().unwrap_or_default() == b.subsets.as_deref().unwrap_or_default()
}

fn blank(service: &Service) -> ObjectMeta {
    ObjectMeta {
        name: service.metadata.name.clone(),
        namespace: service.metadata.namespace.clone(),
        ..ObjectMeta::default()
    }
}

fn labels(service: &Service) -> BTreeMap<String, String> {
    let mut labels = service.metadata.labels.clone().unwrap_or_default();
    labels.remove(HEADLESS);
    if is_headless(service) {
        labels.insert(HEADLESS.to_owned(), String::new());
    }
    labels.insert(MANAGED_BY.to_owned(), CONTROLLER.to_owned());
    labels
}

/// A group as a subset. Pods that go are not in it, unless the Service publishes what is not ready.
fn subset(group: &Group) -> Option<EndpointSubset> {
    let conditions = |e: &&Endpoint| e.conditions.clone().unwrap_or_default();
    let (ready, not_ready): (Vec<_>, Vec<_>) = group
        .endpoints
        .iter()
        .filter(|e| conditions(e).ready == Some(true) || conditions(e).terminating != Some(true))
        .partition(|e| conditions(e).ready == Some(true));
    if ready.is_empty() && not_ready.is_empty() {
        return None;
    }
    Some(EndpointSubset {
        addresses: addresses(&ready),
        not_ready_addresses: addresses(&not_ready),
        ports: ports(group),
    })
}

fn addresses(endpoints: &[&Endpoint]) -> Option<Vec<EndpointAddress>> {
    let address = |e: &&Endpoint| {
        Some(EndpointAddress {
            hostname: e.hostname.clone(),
            ip: e.addresses.first()?.clone(),
            node_name: e.node_name.clone(),
            target_ref: e.target_ref.clone(),
        })
    };
    let mut all: Vec<_> = endpoints.iter().filter_map(address).collect();
    all.sort_by_cached_key(|a| (a.ip.parse::<IpAddr>().ok(), a.target_ref.as_ref().and_then(|r| r.uid.clone())));
    (!all.is_empty()).then_some(all)
}

fn ports(group: &Group) -> Option<Vec<EndpointPort>> {
    let port = |p: &k8s_openapi::api::discovery::v1::EndpointPort| EndpointPort {
        app_protocol: p.app_protocol.clone(),
        name: p.name.clone().filter(|n| !n.is_empty()),
        port: p.port.unwrap_or(0),
        protocol: p.protocol.clone(),
    };
    let all: Vec<_> = group.ports.iter().map(port).collect();
    (!all.is_empty()).then_some(all)
}

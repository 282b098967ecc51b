//! `Endpoints`, core/v1: the older form of EndpointSlices.
//!
//! **Source**: `pkg/apis/core/{v1/defaults,validation/validation}.go`, v1.37.

use super::{
    check::{self, Errors},
    pod_spec::defaults,
};
use crate::api::{
    field::FieldError,
    kind::{ALL_VERBS, Kind, KindInfo, Scope},
    table::{self, Column},
};
use jiff::Timestamp;
use k8s_openapi::api::core::v1::{EndpointAddress, EndpointPort, EndpointSubset, Endpoints};
use serde_json::Value;

/// The kind `Endpoints`.
#[derive(Debug)]
pub struct EndpointsKind;

impl Kind for EndpointsKind {
    type Object = Endpoints;
    const INFO: KindInfo = KindInfo {
        group: "",
        version: "v1",
        kind: "Endpoints",
        plural: "endpoints",
        singular: "endpoints",
        short_names: &["ep"],
        categories: &[],
        scope: Scope::Namespaced,
        verbs: ALL_VERBS,
        subresources: &[],
        columns: &[Column::name(), Column::text("Endpoints", "The addresses and ports that answer."), Column::age()],
        stored_as: None,
        schema: "io.k8s.api.core.v1.Endpoints",
    };

    fn set_defaults(obj: &mut Endpoints) {
        let ports = obj.subsets.iter_mut().flatten().flat_map(|s| s.ports.iter_mut().flatten());
        ports.for_each(|port| defaults::text(&mut port.protocol, "TCP"));
    }

    fn validate(obj: &Endpoints) -> Errors {
        let mut errs = Errors::new();
        for (i, subset) in obj.subsets.iter().flatten().enumerate() {
            validate_subset(&mut errs, subset, &format!("subsets[{i}]"));
        }
        errs
    }

    fn creates_on_update() -> bool {
        true
    }

    fn row(obj: &Endpoints, now: Timestamp) -> Vec<Value> {
        let all: Vec<String> = obj.subsets.iter().flatten().flat_map(endpoints).collect();
        vec![table::name(&obj.metadata), table::up_to_three(&all, table::NONE), table::age(&obj.metadata, now)]
    }
}

/// `address:port` for each pair, or the addresses alone when there are no ports.
fn endpoints(subset: &EndpointSubset) -> Vec<String> {
    let addresses = subset.addresses.as_deref().unwrap_or_default();
    let ports = subset.ports.as_deref().unwrap_or_default();
    if ports.is_empty() {
        return addresses.iter().map(|a| a.ip.clone()).collect();
    }
    let host = |ip: &str| if ip.contains(':') { format!("[{ip}]") } else { ip.to_owned() };
    ports.iter().flat_map(|p| addresses.iter().map(move |a| format!("{}:{}", host(&a.ip), p.port))).collect()
}

fn validate_subset(errs: &mut Errors, subset: &EndpointSubset, path: &str) {
    let ready = subset.addresses.as_deref().unwrap_or_default();
    let not_ready = subset.not_ready_addresses.as_deref().unwrap_or_default();
    if ready.is_empty() && not_ready.is_empty() {
        errs.push(FieldError::required(path, "must specify `addresses` or `notReadyAddresses`"));
    }
    for (list, addresses) in [("addresses", ready), ("notReadyAddresses", not_ready)] {
        for (i, address) in addresses.iter().enumerate() {
            validate_address(errs, address, &format!("{path}.{list}[{i}]"));
        }
    }
    let ports = subset.ports.as_deref().unwrap_or_default();
    for (i, port) in ports.iter().enumerate() {
        validate_port(errs, port, ports.len() > 1, &format!("{path}.ports[{i}]"));
    }
}

fn validate_address(errs: &mut Errors, address: &EndpointAddress, path: &str) {
    let at = format!("{path}.ip");
    if let Some(ip) = check::ip(errs, &at, &address.ip) {
        check::endpoint_ip(errs, &at, &address.ip, ip);
    }
    if let Some(name) = address.hostname.as_deref().filter(|n| !n.is_empty()) {
        check::label(errs, &format!("{path}.hostname"), name);
    }
    if let Some(name) = &address.node_name {
        check::subdomain(errs, &format!("{path}.nodeName"), name);
    }
}

fn validate_port(errs: &mut Errors, port: &EndpointPort, needs_name: bool, path: &str) {
    match port.name.as_deref().unwrap_or_default() {
        "" if needs_name => errs.push(FieldError::required(format!("{path}.name"), "")),
        "" => {}
        name => check::label(errs, &format!("{path}.name"), name),
    }
    check::port_number(errs, &format!("{path}.port"), port.port);
    check::protocol(errs, format!("{path}.protocol"), port.protocol.as_deref());
    if let Some(protocol) = &port.app_protocol {
        check::qualified_name(errs, &format!("{path}.appProtocol"), protocol);
    }
}

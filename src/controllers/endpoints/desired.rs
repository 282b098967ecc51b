//! Service and pods → endpoints, grouped by the ports that they answer on.
//!
//! **Source**: `podToEndpoint`, `getEndpointPorts`, k8s.io/endpointslice/utils.go; `FindPort`, pkg/api/v1/pod/util.go, v1.37.

use super::Observed;
use crate::api::pod_state;
use k8s_openapi::{
    api::{
        core::v1::{ObjectReference, Pod, Service, ServicePort},
        discovery::v1::{Endpoint, EndpointConditions, EndpointPort},
    },
    apimachinery::pkg::util::intstr::IntOrString,
};

/// Endpoints that answer on the same ports.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Group {
    pub(super) ports: Vec<EndpointPort>,
    /// In the order of the pods' keys.
    pub(super) endpoints: Vec<Endpoint>,
}

/// The endpoints of a Service, in groups of the same ports. Pods that ended or have no address have none.
pub(super) fn groups(service: &Service, observed: &Observed) -> Vec<Group> {
    let mut groups: Vec<Group> = Vec::new();
    for pod in observed.pods.iter().filter(|pod| !pod_state::is_terminal(pod)) {
        let addresses = addresses(pod);
        if addresses.is_empty() {
            continue;
        }
        let ports = ports(service, pod);
        let endpoint = endpoint(service, pod, addresses, observed);
        match groups.iter_mut().find(|g| g.ports == ports) {
            Some(group) => group.endpoints.push(endpoint),
            None => groups.push(Group { ports, endpoints: vec![endpoint] }),
        }
    }
    groups
}

/// The pod's IPv4 address.
fn addresses(pod: &Pod) -> Vec<String> {
    let Some(status) = &pod.status else { return Vec::new() };
    let all = status.pod_ips.iter().flatten().map(|ip| &ip.ip).chain(&status.pod_ip);
    all.filter(|ip| ip.contains('.')).take(1).cloned().collect()
}

fn endpoint(service: &Service, pod: &Pod, addresses: Vec<String>, observed: &Observed) -> Endpoint {
    let publishes_all = service.spec.as_ref().and_then(|s| s.publish_not_ready_addresses).unwrap_or(false);
    let serving = pod_state::is_pod_ready(pod);
    let terminating = pod.metadata.deletion_timestamp.is_some();
    let spec = pod.spec.as_ref();
    let node_name = spec.and_then(|s| s.node_name.clone()).filter(|n| !n.is_empty());
    Endpoint {
        addresses,
        conditions: Some(EndpointConditions {
            ready: Some(publishes_all || (serving && !terminating)),
            serving: Some(serving),
            terminating: Some(terminating),
        }),
        hostname: spec.and_then(|s| {
            let is_of_service = s.subdomain == service.metadata.name;
            s.hostname.clone().filter(|h| is_of_service && !h.is_empty())
        }),
        zone: node_name.as_ref().and_then(|n| observed.zones.get(n).cloned()),
        node_name,
        target_ref: Some(ObjectReference {
            kind: Some("Pod".to_owned()),
            namespace: pod.metadata.namespace.clone(),
            name: pod.metadata.name.clone(),
            uid: pod.metadata.uid.clone(),
            ..ObjectReference::default()
        }),
        ..Endpoint::default()
    }
}

/// The Service's ports as this pod answers on them. A port that the pod does not have is left out.
fn ports(service: &Service, pod: &Pod) -> Vec<EndpointPort> {
    let wanted = service.spec.iter().flat_map(|s| s.ports.iter().flatten());
    wanted
        .filter_map(|port| {
            Some(EndpointPort {
                app_protocol: port.app_protocol.clone(),
                name: Some(port.name.clone().unwrap_or_default()),
                port: Some(find_port(pod, port)?),
                protocol: Some(protocol(port.protocol.as_deref()).to_owned()),
            })
        })
        .collect()
}

fn protocol(given: Option<&str>) -> &str {
    given.filter(|p| !p.is_empty()).unwrap_or("TCP")
}

fn find_port(pod: &Pod, port: &ServicePort) -> Option<i32> {
    let name = match &port.target_port {
        None | Some(IntOrString::Int(0)) => return Some(port.port),
        Some(IntOrString::Int(number)) => return Some(*number),
        Some(IntOrString::String(name)) => name,
    };
    let spec = pod.spec.as_ref()?;
    let sidecars = spec.init_containers.iter().flatten().filter(|c| pod_state::is_sidecar(c));
    let mut declared = spec.containers.iter().chain(sidecars).flat_map(|c| c.ports.iter().flatten());
    let is_wanted = |name_: &Option<String>, protocol_: &Option<String>| {
        name_.as_ref() == Some(name) && protocol(protocol_.as_deref()) == protocol(port.protocol.as_deref())
    };
    declared.find(|p| is_wanted(&p.name, &p.protocol)).map(|p| p.container_port)
}

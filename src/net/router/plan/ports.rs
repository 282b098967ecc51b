//! Which ports of a Service a Route or an Ingress means. Pure.

use crate::{
    base::ordered::{Map, SortList as _},
    net::{
        plan::{by_service, name_of},
        table::{PortRef, Protocol},
    },
};
use k8s_openapi::{
    api::{
        core::v1::{Service, ServicePort},
        discovery::v1::EndpointSlice,
        networking::v1::ServiceBackendPort,
    },
    apimachinery::pkg::util::intstr::IntOrString,
};
use std::sync::Arc;

/// `appProtocol` of ports that speak HTTP/2 without TLS. Source: the Service documentation, "Application protocol", and OpenShift's router.
const HTTP2: [&str; 3] = ["kubernetes.io/h2c", "h2c", "grpc"];

/// Looks ports up.
pub(super) struct Ports<'a> {
    services: Map<(&'a str, &'a str), &'a Service>,
    slices: Map<(&'a str, &'a str), Vec<&'a EndpointSlice>>,
}

impl<'a> Ports<'a> {
    pub(super) fn new(services: &[&'a Service], slices: &[&'a EndpointSlice]) -> Self {
        let named = services.iter().map(|service| (name_of(service), *service));
        Self { services: named.collect(), slices: by_service(slices.iter().copied()) }
    }

    /// The ports with this number or name at the endpoints of a Service; all of them when none is asked for.
    ///
    /// # Errors
    /// Why there is none.
    pub(super) fn of_endpoints(
        &self,
        namespace: &str,
        name: &str,
        wanted: Option<&IntOrString>,
    ) -> Result<Vec<Arc<PortRef>>, String> {
        let ports = self.tcp_ports(namespace, name)?;
        let is_meant = |port: &&ServicePort| match wanted {
            None => true,
            Some(IntOrString::String(wanted)) => port.name.as_ref() == Some(wanted),
            Some(IntOrString::Int(wanted)) => self.numbers(namespace, name, port).contains(wanted),
        };
        let meant: Vec<_> =
            ports.iter().copied().filter(is_meant).map(|port| reference(namespace, name, port)).collect();
        if meant.is_empty() {
            let wanted = wanted.map(text_of).unwrap_or_default();
            let there = ports.iter().flat_map(|port| {
                let numbers = self.numbers(namespace, name, port).into_iter().map(|number| number.to_string());
                port.name.clone().into_iter().chain(numbers)
            });
            return Err(missing(name, "endpoint port", &wanted, there.collect()));
        }
        Ok(meant)
    }

    /// The port of a Service with this number or name.
    ///
    /// # Errors
    /// Why there is none.
    pub(super) fn of_service(
        &self,
        namespace: &str,
        name: &str,
        wanted: Option<&ServiceBackendPort>,
    ) -> Result<Arc<PortRef>, String> {
        let ports = self.tcp_ports(namespace, name)?;
        let is_meant = |port: &&&ServicePort| {
            wanted.is_some_and(|wanted| match &wanted.name {
                Some(name) => port.name.as_ref() == Some(name),
                None => wanted.number == Some(port.port),
            })
        };
        if let Some(port) = ports.iter().find(is_meant) {
            return Ok(reference(namespace, name, port));
        }
        let text = |wanted: &ServiceBackendPort| {
            wanted.name.clone().unwrap_or_else(|| wanted.number.unwrap_or_default().to_string())
        };
        let there = ports.iter().flat_map(|port| port.name.clone().into_iter().chain([port.port.to_string()]));
        Err(missing(name, "port", &wanted.map(text).unwrap_or_default(), there.collect()))
    }

    /// Whether the endpoints of a port speak HTTP/2.
    pub(super) fn is_http2(&self, port: &PortRef) -> bool {
        let service = self.services.get(&(port.namespace.as_str(), port.service.as_str()));
        let ports = service.and_then(|service| service.spec.as_ref()).and_then(|spec| spec.ports.as_ref());
        let named = ports.into_iter().flatten().find(|p| p.name.as_deref().unwrap_or_default() == port.port);
        named.and_then(|p| p.app_protocol.as_deref()).is_some_and(|protocol| HTTP2.contains(&protocol))
    }

    fn tcp_ports(&self, namespace: &str, name: &str) -> Result<Vec<&'a ServicePort>, String> {
        let service = self.services.get(&(namespace, name));
        let spec = service.and_then(|service| service.spec.as_ref());
        let spec = spec.ok_or_else(|| format!("the Service {name} does not exist"))?;
        if spec.type_.as_deref() == Some("ExternalName") {
            return Err(format!("the Service {name} is of type ExternalName, which has no endpoints for the router"));
        }
        let is_tcp = |port: &&ServicePort| port.protocol.as_deref().unwrap_or("TCP") == "TCP";
        Ok(spec.ports.iter().flatten().filter(is_tcp).collect())
    }

    /// The numbers that a port of a Service has at its endpoints; what it asks for while there are none.
    fn numbers(&self, namespace: &str, name: &str, port: &ServicePort) -> Vec<i32> {
        let slices = self.slices.get(&(namespace, name)).into_iter().flatten();
        let of_slices = slices
            .flat_map(|slice| slice.ports.iter().flatten())
            .filter(|there| there.name.as_deref().unwrap_or_default() == port.name.as_deref().unwrap_or_default());
        let mut found: Vec<i32> = of_slices.filter_map(|there| there.port).collect();
        if found.is_empty() {
            found.push(match &port.target_port {
                Some(IntOrString::Int(number)) if *number > 0 => *number,
                _ => port.port,
            });
        }
        found.sort_list();
        found.dedup();
        found
    }
}

fn reference(namespace: &str, service: &str, port: &ServicePort) -> Arc<PortRef> {
    Arc::new(PortRef {
        namespace: namespace.to_owned(),
        service: service.to_owned(),
        port: port.name.clone().unwrap_or_default(),
        protocol: Protocol::Tcp,
    })
}

fn text_of(port: &IntOrString) -> String {
    match port {
        IntOrString::Int(number) => number.to_string(),
        IntOrString::String(name) => name.clone(),
    }
}

fn missing(service: &str, what: &str, wanted: &str, mut there: Vec<String>) -> String {
    there.sort_list();
    there.dedup();
    let there = if there.is_empty() { "none for TCP".to_owned() } else { there.join(", ") };
    format!("the Service {service} has no {what} {wanted}, but {there}")
}

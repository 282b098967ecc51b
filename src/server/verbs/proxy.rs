//! The `proxy` of pods and services: finds the pod that a request is passed on to.
//!
//! A name may say how it is spoken to, and which port: `NAME`, `NAME:PORT`, `https:NAME:PORT`. Certificates of pods are not checked, as
//! Kubernetes does not.
//!
//! **Source**: `ResourceLocation` in `pkg/registry/core/pod/strategy.go` and `pkg/registry/core/service/storage/storage.go`;
//! `SplitSchemeNamePort` in `k8s.io/apimachinery/pkg/util/net/port_split.go`, v1.37.

use super::Call;
use crate::{
    api::{
        agreements::SERVICE_NAME_LABEL,
        kind::Kind as _,
        kinds::{endpoint_slice::EndpointSlices, pod::Pods, service::Services},
        meta::ObjectKey,
        selector::LabelSelector,
        status::ApiError,
    },
    node::streams::PodAddress,
    registry::pipeline::Selection,
    server::{relay, respond::Response},
};
use k8s_openapi::api::{
    core::v1::{Pod, Service},
    discovery::v1::{Endpoint, EndpointSlice},
};
use std::{net::IpAddr, sync::Arc};

/// Passes a request on to a pod.
pub(super) async fn of_pod(call: &mut Call<'_>) -> Result<Response, ApiError> {
    let named = Named::parse(&call.info.name).ok_or_else(|| invalid("pod", &call.info.name))?;
    let pod = call.registry().api::<Pods>().get(&ObjectKey::new(&call.info.namespace, named.name));
    let pod = pod.ok_or_else(|| ApiError::not_found(&Pods::INFO, named.name))?;
    let to = in_pod(&pod, &named)?;
    pass_on(call, to).await
}

/// Passes a request on to a pod that answers for a service.
pub(super) async fn of_service(call: &mut Call<'_>) -> Result<Response, ApiError> {
    let named = Named::parse(&call.info.name).ok_or_else(|| invalid("service", &call.info.name))?;
    let (registry, namespace) = (call.registry(), call.info.namespace.as_str());
    let service = registry.api::<Services>().get(&ObjectKey::new(namespace, named.name));
    let service = service.ok_or_else(|| ApiError::not_found(&Services::INFO, named.name))?;
    let port = port_name(&service, &named)?;
    let labels = LabelSelector::from_map(&[(SERVICE_NAME_LABEL.to_owned(), named.name.to_owned())].into());
    let slices =
        registry.api::<EndpointSlices>().select(namespace, &Selection { labels, ..Selection::default() }).items;
    let pods = registry.api::<Pods>();
    let pod = |name: &str| pods.get(&ObjectKey::new(namespace, name));
    let places = places(&slices, &port, pod);
    let nobody = || ApiError::Unreachable(format!("no endpoints available for service {:?}", call.info.name));
    let n_places = u64::try_from(places.len()).unwrap_or(u64::MAX);
    let picked = (n_places > 0).then(|| registry.rng().between(0, n_places)).ok_or_else(nobody)?;
    let (ip, port) = places[usize::try_from(picked).unwrap_or_default()];
    let to = PodAddress { ip, port, is_tls: named.is_tls };
    pass_on(call, to).await
}

async fn pass_on(call: &mut Call<'_>, to: PodAddress) -> Result<Response, ApiError> {
    if let Some(elsewhere) = relay::to_the_root(&call.request) {
        return Ok(elsewhere);
    }
    let connection = call.state.streams().dial(to).await.map_err(|why| relay::unreachable(&why))?;
    let drain = call.drain.clone();
    relay::pass_on(&mut call.request, to, connection, drain).await
}

fn invalid(what: &str, id: &str) -> ApiError {
    ApiError::BadRequest(format!("invalid {what} request {id:?}"))
}

/// What a request says of where it is to go.
#[derive(Debug, PartialEq, Eq)]
struct Named<'a> {
    is_tls: bool,
    name: &'a str,
    /// Empty: whichever there is.
    port: &'a str,
}

impl<'a> Named<'a> {
    fn parse(id: &'a str) -> Option<Self> {
        let parts: Vec<&str> = id.split(':').collect();
        let (scheme, name, port) = match parts[..] {
            [name] => ("", name, ""),
            [name, port] => ("", name, port),
            [scheme, name, port] => (scheme, name, port),
            _ => return None,
        };
        let is_known = matches!(scheme, "" | "http" | "https");
        (is_known && !name.is_empty()).then_some(Self { is_tls: scheme == "https", name, port })
    }
}

/// The port of a pod that is meant: without one, the first that it names.
fn in_pod(pod: &Pod, named: &Named<'_>) -> Result<PodAddress, ApiError> {
    let first = || {
        let containers = pod.spec.iter().flat_map(|spec| &spec.containers);
        let port = containers.flat_map(|c| c.ports.iter().flatten()).next().map(|port| port.container_port);
        port.and_then(|port| u16::try_from(port).ok())
    };
    let unknown = || relay::unreachable(&format!("dial tcp: lookup tcp/{}: unknown port", named.port));
    let port = match named.port {
        "" => first().unwrap_or(if named.is_tls { 443 } else { 80 }),
        text => text.parse().ok().filter(|port| *port > 0).ok_or_else(unknown)?,
    };
    let ip = addresses(pod).next().filter(|ip| is_global_unicast(*ip));
    let ip = ip.ok_or_else(|| ApiError::BadRequest("address not allowed".to_owned()))?;
    Ok(PodAddress { ip, port, is_tls: named.is_tls })
}

fn addresses(pod: &Pod) -> impl Iterator<Item = IpAddr> {
    let all = pod.status.iter().flat_map(|status| status.pod_ips.iter().flatten());
    all.filter_map(|ip| ip.ip.parse().ok())
}

/// Source: `IsGlobalUnicast` of Go's `net`.
fn is_global_unicast(ip: IpAddr) -> bool {
    let is_special = match ip {
        IpAddr::V4(four) => four.is_broadcast() || four.is_link_local(),
        IpAddr::V6(six) => six.is_unicast_link_local(),
    };
    !is_special && !ip.is_unspecified() && !ip.is_loopback() && !ip.is_multicast()
}

/// The name of the service's port that is meant.
fn port_name(service: &Service, named: &Named<'_>) -> Result<String, ApiError> {
    let Ok(number) = named.port.parse::<i64>() else { return Ok(named.port.to_owned()) };
    let mut ports = service.spec.iter().flat_map(|spec| spec.ports.iter().flatten());
    let port = ports.find(|port| i64::from(port.port) == number);
    let text = || format!("no service port {number} found for service {:?}", named.name);
    port.map(|port| port.name.clone().unwrap_or_default()).ok_or_else(|| ApiError::Unreachable(text()))
}

/// The addresses and ports of pods that answer for a port of a service. What is no pod's is left out: nobody may send the server
/// elsewhere.
fn places(
    slices: &[Arc<EndpointSlice>],
    port_name: &str,
    pod: impl Fn(&str) -> Option<Arc<Pod>>,
) -> Vec<(IpAddr, u16)> {
    let mut found = Vec::new();
    for slice in slices {
        let mut ports =
            slice.ports.iter().flatten().filter(|port| port.name.as_deref().unwrap_or_default() == port_name);
        let Some(port) = ports.find_map(|port| u16::try_from(port.port?).ok()) else { continue };
        let ready = slice.endpoints.iter().flatten().filter(|endpoint| is_ready(endpoint));
        found.extend(ready.filter_map(|endpoint| Some((address(endpoint, &pod)?, port))));
    }
    found
}

fn is_ready(endpoint: &Endpoint) -> bool {
    endpoint.conditions.as_ref().and_then(|conditions| conditions.ready) != Some(false)
}

/// The endpoint's address, if it is that of the pod it names.
fn address(endpoint: &Endpoint, pod: impl Fn(&str) -> Option<Arc<Pod>>) -> Option<IpAddr> {
    let of = endpoint.target_ref.as_ref().filter(|of| of.kind.as_deref() == Some("Pod"))?;
    let pod = pod(of.name.as_deref()?)?;
    let address: IpAddr = endpoint.addresses.first()?.parse().ok()?;
    addresses(&pod).find(|ip| *ip == address)
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn pod(ip: &str) -> Pod {
        serde_json::from_value(json!({
            "spec": { "containers": [{ "name": "a" }, { "name": "b", "ports": [{ "containerPort": 8080 }] }] },
            "status": { "podIPs": [{ "ip": ip }] },
        }))
        .unwrap()
    }

    #[test]
    fn a_name_says_scheme_and_port() {
        let of = |id| Named::parse(id).map(|named| (named.is_tls, named.name, named.port));
        assert_eq!(of("web"), Some((false, "web", "")));
        assert_eq!(of("web:80"), Some((false, "web", "80")));
        assert_eq!(of("https:web:443"), Some((true, "web", "443")));
        assert_eq!(of("http:web:"), Some((false, "web", "")));
        for wrong in ["ftp:web:21", ":80", "a:b:c:d", ""] {
            assert_eq!(of(wrong), None, "{wrong}");
        }
    }

    #[test]
    fn a_pod_is_asked_at_the_port_that_is_named_or_its_first() {
        let of = |ip: &str, id| match in_pod(&pod(ip), &Named::parse(id).unwrap()) {
            Ok(to) => format!("{} {}", to.host(), to.is_tls),
            Err(err) => format!("{} {err}", err.code()),
        };
        assert_eq!(of("10.0.0.7", "p"), "10.0.0.7:8080 false");
        assert_eq!(of("10.0.0.7", "https:p:8443"), "10.0.0.7:8443 true");
        assert_eq!(of("fd00::7", "p:1"), "[fd00::7]:1 false");
        let unknown = "503 error trying to reach service: dial tcp: lookup tcp/http: unknown port";
        assert_eq!(of("10.0.0.7", "p:http"), unknown);
        for ip in ["127.0.0.1", "169.254.1.1", "::1", "fe80::1", "224.0.0.1", ""] {
            assert_eq!(of(ip, "p"), "400 address not allowed", "{ip}");
        }
    }

    #[test]
    fn only_addresses_of_ready_pods_answer_for_a_service() {
        let slice: EndpointSlice = serde_json::from_value(json!({
            "addressType": "IPv4",
            "metadata": {},
            "ports": [{ "name": "http", "port": 8080 }, { "name": "admin", "port": 9090 }],
            "endpoints": [
                { "addresses": ["10.0.0.1"], "targetRef": { "kind": "Pod", "name": "p" } },
                { "addresses": ["10.0.0.2"], "targetRef": { "kind": "Pod", "name": "p" } },
                { "addresses": ["10.0.0.1"], "targetRef": { "kind": "Pod", "name": "gone" } },
                { "addresses": ["10.0.0.1"], "targetRef": { "kind": "Pod", "name": "p" }, "conditions": { "ready": false } },
                { "addresses": ["192.0.2.1"] },
            ],
        }))
        .unwrap();
        let slices = [Arc::new(slice)];
        let find = |name: &str| (name == "p").then(|| Arc::new(pod("10.0.0.1")));
        assert_eq!(places(&slices, "admin", find), [("10.0.0.1".parse().unwrap(), 9090)]);
        assert_eq!(places(&slices, "none", find), []);
    }

    #[test]
    fn a_services_port_is_named_by_number_or_name() {
        let service: Service = serde_json::from_value(json!({
            "spec": { "ports": [{ "name": "http", "port": 80 }, { "port": 81 }] },
        }))
        .unwrap();
        let of = |id| port_name(&service, &Named::parse(id).unwrap()).map_err(|err| err.to_string());
        assert_eq!(of("s:80").as_deref(), Ok("http"));
        assert_eq!(of("s:81").as_deref(), Ok(""));
        assert_eq!(of("s:http").as_deref(), Ok("http"));
        assert_eq!(of("s").as_deref(), Ok(""));
        assert_eq!(of("s:82"), Err("no service port 82 found for service \"s\"".to_owned()));
    }
}

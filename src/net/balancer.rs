//! Load balancers: at which address a Service of type `LoadBalancer` answers, and what its status is to tell of that. Pure.
//!
//! Called by `plan`, and by the role `skiff proxy` once it knows which ports it has.
//!
//! **Invariants**: an address is told only while every port of the Service is open there. A Service of a `loadBalancerClass` belongs to
//! another load balancer: what that one wrote is served, and nothing is written. A Service that is none any more tells no address.
//!
//! **Source**: `syncLoadBalancerIfNeeded` and `wantsLoadBalancer`, `k8s.io/cloud-provider/controllers/service/controller.go`, v1.37.

use super::{
    plan::{PlanSettings, is_ours, name_of},
    table::{ForwardTable, ListenKey},
};
use crate::base::ordered::{Map, Set};
use k8s_openapi::api::core::v1::{LoadBalancerIngress, Service, ServiceSpec};
use std::net::{IpAddr, Ipv4Addr};

/// The address of load balancers when nobody names one.
pub const ADDRESS_DEFAULT: IpAddr = IpAddr::V4(Ipv4Addr::LOCALHOST);

/// Whether clients can dial an address: the machine must be told which of its own it is to answer at.
pub fn is_dialable(address: &IpAddr) -> bool {
    !address.is_unspecified() && !address.is_multicast() && *address != IpAddr::V4(Ipv4Addr::BROADCAST)
}

/// The addresses at which a Service's load balancer answers, or why there can be none.
pub(super) fn addresses(service: &Service, settings: &PlanSettings) -> Result<Vec<IpAddr>, String> {
    let Some(spec) = service.spec.as_ref().filter(|spec| is_balanced(spec)) else { return Ok(Vec::new()) };
    if spec.load_balancer_class.is_some() {
        // `Proxy` mode means that the balancer talks to node ports.
        let ours = ingress(service).iter().filter(|point| point.ip_mode.as_deref() != Some("Proxy"));
        return Ok(ours.filter_map(|point| point.ip.as_ref()?.parse().ok()).collect());
    }
    let Some(named) = spec.load_balancer_ip.as_deref().map(str::trim).filter(|ip| !ip.is_empty()) else {
        return Ok(vec![settings.load_balancer.unwrap_or(ADDRESS_DEFAULT)]);
    };
    let address = named.parse().ok().filter(is_dialable);
    address.map(|address| vec![address]).ok_or_else(|| format!("loadBalancerIP: {named:?} is no address to answer at"))
}

fn is_balanced(spec: &ServiceSpec) -> bool {
    spec.type_.as_deref() == Some("LoadBalancer")
}

fn ingress(service: &Service) -> &[LoadBalancerIngress] {
    let balancer = service.status.as_ref().and_then(|status| status.load_balancer.as_ref());
    balancer.and_then(|balancer| balancer.ingress.as_deref()).unwrap_or_default()
}

/// What the status of a Service is to tell.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Told {
    /// The Service's UID.
    pub uid: String,
    /// The address of its load balancer; `None`: it has none, or none yet.
    pub address: Option<IpAddr>,
}

/// Namespace and name of a Service.
pub type ServiceKey = (String, String);

/// What is to be told of the load balancers whose status says something else. `closed` are the listeners of the table that are not open.
pub fn to_tell<'a>(
    services: impl IntoIterator<Item = &'a Service>,
    table: &ForwardTable,
    closed: &Set<ListenKey>,
    settings: &PlanSettings,
) -> Map<ServiceKey, Told> {
    let open: Set<(&str, &str, &str, IpAddr, u16)> = table
        .listeners
        .iter()
        .filter(|(key, _)| !closed.contains(key))
        .map(|(key, listener)| {
            let port = &listener.port;
            (port.namespace.as_str(), port.service.as_str(), port.port.as_str(), key.address.ip(), key.address.port())
        })
        .collect();
    let mut all = Map::new();
    for service in services {
        let Some(spec) = &service.spec else { continue };
        let (namespace, name) = name_of(service);
        let address = if !is_balanced(spec) {
            None
        } else if spec.load_balancer_class.is_some() || !is_ours(service) {
            continue;
        } else {
            let address = addresses(service, settings).ok().and_then(|all| all.first().copied());
            let is_open = |address: &IpAddr| {
                let mut ports = spec.ports.iter().flatten().filter(|port| port.protocol.as_deref() != Some("SCTP"));
                ports.all(|port| {
                    let of_port = port.name.as_deref().unwrap_or_default();
                    u16::try_from(port.port).is_ok_and(|n| open.contains(&(namespace, name, of_port, *address, n)))
                })
            };
            address.filter(is_open)
        };
        if !says(ingress(service), address) {
            let uid = service.metadata.uid.clone().unwrap_or_default();
            all.insert((namespace.to_owned(), name.to_owned()), Told { uid, address });
        }
    }
    all
}

/// Whether a status tells this address alone.
fn says(told: &[LoadBalancerIngress], address: Option<IpAddr>) -> bool {
    let is_it = |point: &LoadBalancerIngress| {
        let ip = point.ip.as_ref().and_then(|ip| ip.parse().ok());
        ip == address && point.hostname.is_none() && point.ip_mode.as_deref() != Some("Proxy")
    };
    match told {
        [] => address.is_none(),
        [point] => address.is_some() && is_it(point),
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::net::plan::plan;
    use serde_json::{Value, json};

    fn service(name: &str, created: &str, mut spec: Value, status: Value) -> Service {
        spec["clusterIP"] = json!(format!("10.245.0.{}", name.len()));
        serde_json::from_value(json!({
            "metadata": {"namespace": "shop", "name": name, "uid": name, "creationTimestamp": created},
            "spec": spec, "status": {"loadBalancer": {"ingress": status}},
        }))
        .unwrap()
    }

    const EARLY: &str = "2026-01-01T00:00:00Z";
    const LATE: &str = "2026-01-01T00:00:01Z";

    fn balanced(port: u16) -> Value {
        json!({"type": "LoadBalancer", "ports": [{"port": port}]})
    }

    /// What is to be told, and what was refused, when some listeners are not open.
    fn told(services: &[Service], closed: &[&str]) -> (Vec<String>, Vec<String>) {
        let settings = PlanSettings::default();
        let table = plan(services, [], &settings, &Set::new());
        let closed = table.listeners.keys().filter(|key| closed.contains(&key.address.to_string().as_str())).copied();
        let told = to_tell(services, &table, &closed.collect(), &settings);
        let line = |((_, name), told): (&ServiceKey, &Told)| match told.address {
            Some(address) => format!("{name} {address}"),
            None => format!("{name} -"),
        };
        (told.iter().map(line).collect(), table.refusals.iter().map(|refusal| refusal.message.clone()).collect())
    }

    #[test]
    fn a_service_has_the_default_address_or_the_one_that_it_names() {
        let mut named = balanced(80);
        named["loadBalancerIP"] = json!("192.0.2.7");
        let all = [service("a", EARLY, balanced(80), json!([])), service("bb", EARLY, named, json!([]))];
        assert_eq!(told(&all, &[]).0, ["a 127.0.0.1", "bb 192.0.2.7"]);
        for bad in ["0.0.0.0", "nowhere", "224.0.0.1"] {
            let mut spec = balanced(80);
            spec["loadBalancerIP"] = json!(bad);
            let (said, refused) = told(&[service("a", EARLY, spec, json!([{"ip": "127.0.0.1"}]))], &[]);
            assert_eq!(
                (said, refused),
                (vec!["a -".to_owned()], vec![format!("loadBalancerIP: {bad:?} is no address to answer at")])
            );
        }
    }

    #[test]
    fn what_the_status_says_already_is_not_told_again() {
        let with = |status: Value| told(&[service("a", EARLY, balanced(80), status)], &[]).0;
        assert_eq!(with(json!([{"ip": "127.0.0.1", "ipMode": "VIP"}])), Vec::<String>::new());
        assert_eq!(with(json!([{"ip": "127.0.0.1"}, {"hostname": "x"}])), ["a 127.0.0.1"]);
        assert_eq!(with(json!([{"ip": "127.0.0.9"}])), ["a 127.0.0.1"]);
    }

    #[test]
    fn a_port_that_is_taken_leaves_the_service_without_an_address() {
        let spec = json!({"type": "LoadBalancer", "ports": [{"name": "a", "port": 80}, {"name": "b", "port": 81}]});
        let web = service("a", EARLY, spec, json!([{"ip": "127.0.0.1"}]));
        assert_eq!(told(std::slice::from_ref(&web), &[]).0, Vec::<String>::new());
        assert_eq!(told(&[web], &["127.0.0.1:81"]).0, ["a -"]);
    }

    #[test]
    fn the_older_of_two_has_the_port_and_the_other_takes_it_over() {
        let (old, new) = (service("a", EARLY, balanced(80), json!([])), service("bb", LATE, balanced(80), json!([])));
        let (said, refused) = told(&[new.clone(), old], &[]);
        assert_eq!(said, ["a 127.0.0.1"]);
        assert_eq!(refused, ["Cannot listen on 127.0.0.1:80/TCP for the load balancer: shop/a has it already"]);
        assert_eq!(told(&[new], &[]).0, ["bb 127.0.0.1"]);
    }

    #[test]
    fn a_service_that_is_none_any_more_tells_no_address_and_one_of_another_class_what_that_told() {
        let plain = json!({"type": "ClusterIP", "ports": [{"port": 80}]});
        assert_eq!(told(&[service("a", EARLY, plain.clone(), json!([{"ip": "127.0.0.1"}]))], &[]).0, ["a -"]);
        assert_eq!(told(&[service("a", EARLY, plain, json!([]))], &[]).0, Vec::<String>::new());
        let mut other = balanced(80);
        other["loadBalancerClass"] = json!("example.com/other");
        assert_eq!(told(&[service("a", EARLY, other, json!([]))], &[]).0, Vec::<String>::new());
    }
}

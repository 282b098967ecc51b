//! Services and EndpointSlices → [`ForwardTable`]: which addresses listen, and who stands behind each. Pure.
//!
//! Called by the role `skiff proxy` whenever either changed.
//!
//! **Invariants**: the same objects give the same table, whatever their order. An address and port belong to one Service only:
//! the older one has it, the other is refused by name. Endpoints are in the order of their addresses. An endpoint that nothing has
//! probed is in a rotation only once it was seen to accept a connection; until then, those that leave stand in for it.
//!
//! Internal and external traffic policies change nothing here: with one node, every endpoint is local.
//!
//! **Not here**: names (`zone`), sockets (`proxy`).
//!
//! **Source**: `pkg/proxy/serviceport.go`, `endpointslicecache.go`, `topology.go` (`CategorizeEndpoints`), v1.37.

use super::{
    balancer,
    table::{
        ForwardTable, IpRange, ListenKey, Listener, PodRef, PortRef, Protocol, Reach, Refusal, Role, Rotation, Target,
    },
};
use crate::{
    api::agreements::{SERVICE_NAME_LABEL, UNPROBED_PODS},
    base::ordered::{Map, Set, SortList as _},
};
use k8s_openapi::api::{
    core::v1::{Service, ServicePort, ServiceSpec},
    discovery::v1::{Endpoint, EndpointPort, EndpointSlice},
};
use std::{
    net::{IpAddr, SocketAddr},
    sync::Arc,
    time::Duration,
};

/// A Service with this label is served by another proxy.
const OTHER_PROXY_LABEL: &str = "service.kubernetes.io/service-proxy-name";

/// How long a client sticks when the Service does not say: three hours.
const STICKY_FOR_DEFAULT: Duration = Duration::from_secs(3 * 60 * 60);

/// What the plan needs to know beside the objects.
#[derive(Clone, Debug, Default)]
pub struct PlanSettings {
    /// The addresses on which NodePorts listen for everybody who gets there.
    pub node_port_addresses: Vec<IpAddr>,
    /// The node's own address, on which they listen for the cluster.
    pub node: Option<IpAddr>,
    /// Where load balancers answer whose Service names no address; 127.0.0.1 when not told.
    pub load_balancer: Option<IpAddr>,
    /// Where the cluster's DNS listens itself: its Service needs no listener.
    pub dns: Option<SocketAddr>,
    /// The places of the router, which Services cannot have.
    pub router: Set<ListenKey>,
    /// Namespaces and names of the Services that the router leads to: it wants their endpoints though they have no address.
    pub routed: Set<(String, String)>,
    /// Where the API server answers, for the Service `default/kubernetes`. An EndpointSlice cannot name a loopback address.
    pub api_server: Option<SocketAddr>,
}

/// Plans what to forward. `accepting` are the endpoints that were seen to accept a connection.
pub fn plan<'a>(
    services: impl IntoIterator<Item = &'a Service>,
    slices: impl IntoIterator<Item = &'a EndpointSlice>,
    settings: &PlanSettings,
    accepting: &Set<Target>,
) -> ForwardTable {
    let is_planned = |service: &&Service| is_ours(service) || is_routed(service, &settings.routed);
    let mut services: Vec<&Service> = services.into_iter().filter(is_planned).collect();
    services.sort_list_by_key(|service| {
        let meta = &service.metadata;
        (meta.creation_timestamp.as_ref().map(|time| time.0), &meta.namespace, &meta.name)
    });
    let slices = by_service(slices);
    let mut planner = Planner { settings, accepting, table: ForwardTable::default() };
    for service in services {
        planner.add(service, slices.get(&name_of(service)).map_or(&[], Vec::as_slice));
    }
    planner.table.refusals.sort_list();
    planner.table
}

/// EndpointSlices by the namespace and name of their Service.
pub(super) fn by_service<'a>(
    slices: impl IntoIterator<Item = &'a EndpointSlice>,
) -> Map<(&'a str, &'a str), Vec<&'a EndpointSlice>> {
    let with_service = |slice: &'a EndpointSlice| {
        let service = slice.metadata.labels.as_ref()?.get(SERVICE_NAME_LABEL)?;
        Some(((slice.metadata.namespace.as_deref().unwrap_or_default(), service.as_str()), slice))
    };
    Map::of_groups(slices.into_iter().filter_map(with_service))
}

/// A Service's namespace and name.
pub(super) fn name_of(service: &Service) -> (&str, &str) {
    let meta = &service.metadata;
    (meta.namespace.as_deref().unwrap_or_default(), meta.name.as_deref().unwrap_or_default())
}

/// The addresses that a Service has in the cluster; none when it is headless or only a name.
pub(super) fn cluster_ips(spec: &ServiceSpec) -> Set<IpAddr> {
    if spec.type_.as_deref() == Some("ExternalName") {
        return Set::new();
    }
    let all = spec.cluster_ips.iter().flatten().chain(&spec.cluster_ip);
    all.filter_map(|ip| ip.parse().ok()).collect()
}

/// Whether an endpoint is ready; what is not said counts as ready.
pub(super) fn is_ready(endpoint: &Endpoint) -> bool {
    endpoint.conditions.as_ref().and_then(|c| c.ready).unwrap_or(true)
}

fn is_serving_while_terminating(endpoint: &Endpoint) -> bool {
    let Some(conditions) = &endpoint.conditions else { return false };
    conditions.serving.or(conditions.ready).unwrap_or(true) && conditions.terminating.unwrap_or(false)
}

pub(super) fn is_ours(service: &Service) -> bool {
    let is_others = service.metadata.labels.as_ref().is_some_and(|labels| labels.contains_key(OTHER_PROXY_LABEL));
    let has_address = service.spec.as_ref().is_some_and(|spec| !cluster_ips(spec).is_empty());
    !is_others && has_address
}

/// Whether the router leads to a Service that has no address of its own.
fn is_routed(service: &Service, routed: &Set<(String, String)>) -> bool {
    let (namespace, name) = name_of(service);
    let is_name = service.spec.as_ref().is_none_or(|spec| spec.type_.as_deref() == Some("ExternalName"));
    !is_name && !routed.is_empty() && routed.contains(&(namespace.to_owned(), name.to_owned()))
}

struct Planner<'a> {
    settings: &'a PlanSettings,
    accepting: &'a Set<Target>,
    table: ForwardTable,
}

/// What all listeners of one Service port share.
struct Asked<'a> {
    service: &'a Service,
    spec: &'a ServiceSpec,
    port: &'a ServicePort,
    named: Arc<PortRef>,
}

impl Planner<'_> {
    fn add(&mut self, service: &Service, slices: &[&EndpointSlice]) {
        let Some(spec) = &service.spec else { return };
        for port in spec.ports.iter().flatten() {
            let Some(protocol) = protocol(port.protocol.as_deref()) else {
                let other = port.protocol.as_deref().unwrap_or_default();
                self.refuse(service, format!("Cannot serve port {}: the protocol {other} is not supported", port.port));
                continue;
            };
            let (namespace, name) = name_of(service);
            let named = Arc::new(PortRef {
                namespace: namespace.to_owned(),
                service: name.to_owned(),
                port: port.name.clone().unwrap_or_default(),
                protocol,
            });
            let targets = self.targets(&named, slices);
            let rotation = Rotation { targets, sticky_for: sticky_for(spec) };
            self.table.rotations.insert(Arc::clone(&named), rotation);
            self.add_listeners(&Asked { service, spec, port, named });
        }
    }

    fn targets(&mut self, port: &PortRef, slices: &[&EndpointSlice]) -> Vec<Target> {
        match self.settings.api_server {
            Some(address) if (port.namespace.as_str(), port.service.as_str()) == ("default", "kubernetes") => {
                vec![Target { address, pod: None }]
            }
            _ => {
                let found = Found::of(port, slices, self.accepting);
                self.table.stands_in |= found.stands_in();
                self.table.pending.extend(found.pending.iter().cloned());
                found.chosen()
            }
        }
    }

    fn add_listeners(&mut self, asked: &Asked<'_>) {
        let (spec, port) = (asked.spec, asked.port);
        for ip in cluster_ips(spec) {
            self.listen(asked, ip, port.port, Role::ClusterIp);
        }
        for ip in spec.external_ips.iter().flatten().filter_map(|ip| ip.parse().ok()) {
            self.listen(asked, ip, port.port, Role::ExternalIp);
        }
        match balancer::addresses(asked.service, self.settings) {
            Ok(all) => all.into_iter().for_each(|ip| self.listen(asked, ip, port.port, Role::LoadBalancer)),
            Err(why) => self.refuse(asked.service, why),
        }
        let node_port = port.node_port.filter(|port| *port > 0);
        if let (Some(node_port), Some("NodePort" | "LoadBalancer")) = (node_port, spec.type_.as_deref()) {
            for ip in node_port_addresses(&self.settings.node_port_addresses, self.settings.node) {
                self.listen(asked, ip, node_port, Role::NodePort);
            }
        }
    }

    fn listen(&mut self, asked: &Asked<'_>, ip: IpAddr, port: i32, role: Role) {
        let Ok(port) = u16::try_from(port) else { return };
        let key = ListenKey { address: SocketAddr::new(ip, port), protocol: asked.named.protocol };
        if self.settings.dns == Some(key.address) {
            return;
        }
        let sources = match role {
            Role::LoadBalancer => self.source_ranges(asked),
            _ => Vec::new(),
        };
        if self.settings.router.contains(&key) {
            let message = format!(
                "Cannot listen on {key} for the {}: the router of Routes and Ingresses has it already",
                role.name()
            );
            return self.refuse(asked.service, message);
        }
        if let Some(holder) = self.table.listeners.get(&key) {
            if holder.port != asked.named {
                let message = format!("Cannot listen on {key} for the {}: {} has it already", role.name(), holder.port);
                self.refuse(asked.service, message);
            }
            return;
        }
        let service_uid = asked.service.metadata.uid.clone().unwrap_or_default();
        let reach = self.settings.reach(role, ip);
        self.table
            .listeners
            .insert(key, Listener { port: Arc::clone(&asked.named), service_uid, role, reach, sources });
    }

    fn source_ranges(&mut self, asked: &Asked<'_>) -> Vec<IpRange> {
        let texts = asked.spec.load_balancer_source_ranges.iter().flatten();
        let (good, bad): (Vec<_>, Vec<_>) = texts.map(|text| text.parse::<IpRange>()).partition(Result::is_ok);
        for err in bad.into_iter().filter_map(Result::err) {
            self.refuse(asked.service, format!("loadBalancerSourceRanges: {err}"));
        }
        good.into_iter().filter_map(Result::ok).collect()
    }

    fn refuse(&mut self, service: &Service, message: String) {
        let (namespace, name) = name_of(service);
        let refusal = Refusal {
            namespace: namespace.to_owned(),
            service: name.to_owned(),
            service_uid: service.metadata.uid.clone().unwrap_or_default(),
            message,
        };
        if !self.table.refusals.contains(&refusal) {
            self.table.refusals.push(refusal);
        }
    }
}

fn protocol(name: Option<&str>) -> Option<Protocol> {
    match name.unwrap_or("TCP") {
        "TCP" => Some(Protocol::Tcp),
        "UDP" => Some(Protocol::Udp),
        _ => None,
    }
}

fn sticky_for(spec: &ServiceSpec) -> Option<Duration> {
    if spec.session_affinity.as_deref() != Some("ClientIP") {
        return None;
    }
    let configured = spec.session_affinity_config.as_ref().and_then(|c| c.client_ip.as_ref()?.timeout_seconds);
    let configured = configured.and_then(|seconds| u64::try_from(seconds).ok()).map(Duration::from_secs);
    Some(configured.unwrap_or(STICKY_FOR_DEFAULT))
}

impl PlanSettings {
    /// Whom a listener is for. Addresses that the user named are for everybody: that is what naming them asks for.
    fn reach(&self, role: Role, ip: IpAddr) -> Reach {
        let is_for_cluster = match role {
            Role::ClusterIp => true,
            Role::NodePort => self.node == Some(ip) && !self.node_port_addresses.contains(&ip),
            Role::LoadBalancer | Role::ExternalIp | Role::Router => false,
        };
        if is_for_cluster { Reach::Cluster } else { Reach::Anyone }
    }
}

/// An unspecified address (`0.0.0.0`) covers every address of its family.
fn node_port_addresses(asked: &[IpAddr], node: Option<IpAddr>) -> Set<IpAddr> {
    let covered = |ip: &IpAddr| asked.iter().any(|all| all.is_unspecified() && all.is_ipv4() == ip.is_ipv4());
    asked.iter().copied().chain(node).filter(|ip| ip.is_unspecified() || !covered(ip)).collect()
}

/// The endpoints of a port, by what they are good for.
#[derive(Default)]
struct Found {
    ready: Set<Target>,
    /// They count as ready, but were not seen to accept a connection.
    pending: Set<Target>,
    /// They still serve while they terminate.
    leaving: Set<Target>,
}

impl Found {
    fn of(port: &PortRef, slices: &[&EndpointSlice], accepting: &Set<Target>) -> Self {
        let mut found = Self::default();
        let mut seen = Set::new();
        for slice in slices.iter().filter(|slice| slice.address_type != "FQDN") {
            let Some(number) = slice.ports.iter().flatten().find_map(|p| number_of(p, port)) else { continue };
            let unprobed = unprobed_pods(slice);
            for endpoint in slice.endpoints.iter().flatten() {
                let Some(target) = target(endpoint, number, &port.namespace) else { continue };
                let is_unprobed = target.pod.as_ref().is_some_and(|pod| unprobed.contains(pod.name.as_str()));
                let group = match (is_ready(endpoint), is_serving_while_terminating(endpoint)) {
                    (true, _) if port.protocol == Protocol::Tcp && is_unprobed && !accepting.contains(&target) => {
                        &mut found.pending
                    }
                    (true, _) => &mut found.ready,
                    (false, true) => &mut found.leaving,
                    (false, false) => continue,
                };
                if seen.insert((is_ready(endpoint), target.address)) {
                    group.insert(target);
                }
            }
        }
        found
    }

    fn stands_in(&self) -> bool {
        self.ready.is_empty() && !self.pending.is_empty() && !self.leaving.is_empty()
    }

    /// Those that take new connections: the ready ones, or if there is none, those that still serve while they terminate.
    fn chosen(self) -> Vec<Target> {
        let chosen = if self.ready.is_empty() { self.leaving } else { self.ready };
        chosen.into_iter().collect()
    }
}

/// The names of a slice's pods that nothing probes.
fn unprobed_pods(slice: &EndpointSlice) -> Set<&str> {
    let names = slice.metadata.annotations.as_ref().and_then(|annotations| annotations.get(UNPROBED_PODS));
    names.into_iter().flat_map(|names| names.split(',')).collect()
}

fn number_of(candidate: &EndpointPort, port: &PortRef) -> Option<u16> {
    let is_named = candidate.name.as_deref().unwrap_or_default() == port.port;
    let is_same = is_named && protocol(candidate.protocol.as_deref()) == Some(port.protocol);
    candidate.port.filter(|_| is_same).and_then(|number| u16::try_from(number).ok())
}

fn target(endpoint: &Endpoint, port: u16, namespace: &str) -> Option<Target> {
    let ip = endpoint.addresses.first()?.parse().ok()?;
    let pod = endpoint.target_ref.as_ref().filter(|r| r.kind.as_deref() == Some("Pod")).map(|r| PodRef {
        namespace: r.namespace.clone().unwrap_or_else(|| namespace.to_owned()),
        name: r.name.clone().unwrap_or_default(),
        uid: r.uid.clone().unwrap_or_default(),
    });
    Some(Target { address: SocketAddr::new(ip, port), pod })
}

#[cfg(test)]
mod tests {
    use super::*;
    use expect_test::{Expect, expect};
    use serde_json::{Value, json};
    use std::fmt::Write as _;

    fn settings() -> PlanSettings {
        PlanSettings {
            node_port_addresses: vec!["127.0.0.1".parse().unwrap(), "::1".parse().unwrap()],
            node: None,
            load_balancer: None,
            dns: Some("10.245.0.10:53".parse().unwrap()),
            router: Set::new(),
            routed: Set::new(),
            api_server: Some("127.0.0.1:6443".parse().unwrap()),
        }
    }

    fn service(name: &str, spec: Value) -> Value {
        json!({"metadata": {"namespace": "shop", "name": name, "uid": format!("uid-{name}")}, "spec": spec})
    }

    fn slice(service: &str, ports: Value, endpoints: Value) -> Value {
        let labels = json!({"kubernetes.io/service-name": service});
        let metadata = json!({"namespace": "shop", "name": format!("{service}-1"), "labels": labels});
        json!({"metadata": metadata, "addressType": "IPv4", "ports": ports, "endpoints": endpoints})
    }

    fn table(services: Vec<Value>, slices: Vec<Value>) -> ForwardTable {
        let services: Vec<Service> = services.into_iter().map(|v| serde_json::from_value(v).unwrap()).collect();
        let slices: Vec<EndpointSlice> = slices.into_iter().map(|v| serde_json::from_value(v).unwrap()).collect();
        plan(&services, &slices, &settings(), &Set::new())
    }

    fn render(table: &ForwardTable) -> String {
        let mut text = String::new();
        for (key, listener) in &table.listeners {
            let rotation = &table.rotations[&listener.port];
            let to: Vec<String> = rotation.targets.iter().map(|t| t.address.to_string()).collect();
            let sticky = rotation.sticky_for.map(|d| format!(" sticky {}s", d.as_secs())).unwrap_or_default();
            let from: String = listener.sources.iter().map(|s| format!(" from {s}")).collect();
            writeln!(text, "{key} {} {} -> {}{sticky}{from}", listener.role.name(), listener.port, to.join(" "))
                .unwrap();
        }
        for refusal in &table.refusals {
            writeln!(text, "refused {}: {}", refusal.service, refusal.message).unwrap();
        }
        text
    }

    #[track_caller]
    fn check(services: Vec<Value>, slices: Vec<Value>, expected: Expect) {
        expected.assert_eq(&render(&table(services, slices)));
    }

    fn ready(ip: &str) -> Value {
        json!({"addresses": [ip], "conditions": {"ready": true}})
    }

    fn leaving(ip: &str, serving: bool) -> Value {
        json!({"addresses": [ip], "conditions": {"ready": false, "serving": serving, "terminating": true}})
    }

    fn http() -> Value {
        json!([{"name": "", "port": 8080, "protocol": "TCP"}])
    }

    #[test]
    fn a_cluster_ip_and_its_node_port_lead_to_the_ready_endpoints_in_order() {
        let web = service(
            "web",
            json!({"type": "NodePort", "clusterIP": "10.245.0.5", "clusterIPs": ["10.245.0.5"],
            "ports": [{"port": 80, "nodePort": 30000, "protocol": "TCP"}]}),
        );
        let ends = json!([ready("10.244.0.9"), ready("10.244.0.10"), {"addresses": ["10.244.0.2"], "conditions": {"ready": false}}]);
        check(
            vec![web],
            vec![slice("web", http(), ends)],
            expect![[r#"
                10.245.0.5:80/TCP cluster IP shop/web -> 10.244.0.9:8080 10.244.0.10:8080
                127.0.0.1:30000/TCP node port shop/web -> 10.244.0.9:8080 10.244.0.10:8080
                [::1]:30000/TCP node port shop/web -> 10.244.0.9:8080 10.244.0.10:8080
            "#]],
        );
    }

    #[test]
    fn terminating_endpoints_that_still_serve_are_used_when_none_is_ready() {
        let web = || service("web", json!({"clusterIP": "10.245.0.5", "ports": [{"port": 80}]}));
        let all = json!([leaving("10.244.0.1", true), leaving("10.244.0.2", false), ready("10.244.0.3")]);
        check(
            vec![web()],
            vec![slice("web", http(), all)],
            expect![[r#"
                10.245.0.5:80/TCP cluster IP shop/web -> 10.244.0.3:8080
            "#]],
        );
        let none = json!([leaving("10.244.0.1", true), leaving("10.244.0.2", false)]);
        check(
            vec![web()],
            vec![slice("web", http(), none)],
            expect![[r#"
                10.245.0.5:80/TCP cluster IP shop/web -> 10.244.0.1:8080
            "#]],
        );
    }

    #[test]
    fn an_endpoint_that_nothing_probes_joins_when_it_accepts_and_others_stand_in_until_then() {
        let web: Service =
            serde_json::from_value(service("web", json!({"clusterIP": "10.245.0.5", "ports": [{"port": 80}]})))
                .unwrap();
        let pod = |name: &str, mut endpoint: Value| {
            endpoint["targetRef"] = json!({"kind": "Pod", "name": name, "uid": name});
            endpoint
        };
        let ends = |old: Value| json!([pod("old", old), pod("new", ready("10.244.0.2"))]);
        let with_unprobed = |ends: Value| -> EndpointSlice {
            let mut slice = slice("web", http(), ends);
            slice["metadata"]["annotations"] = json!({UNPROBED_PODS: "new,newer"});
            serde_json::from_value(slice).unwrap()
        };
        let shows = |slice: &EndpointSlice, accepting: &[Target]| {
            let table = plan([&web], [slice], &settings(), &accepting.iter().cloned().collect());
            let targets = table.rotations.values().flat_map(|r| &r.targets);
            let names: Vec<String> = targets.map(|t| t.pod.as_ref().unwrap().name.clone()).collect();
            (names, table.pending.into_iter().collect::<Vec<_>>(), table.stands_in)
        };
        let (names, pending, stands_in) = shows(&with_unprobed(ends(ready("10.244.0.1"))), &[]);
        assert_eq!((names, pending.len(), stands_in), (vec!["old".to_owned()], 1, false), "a probed one is enough");
        let going = with_unprobed(ends(leaving("10.244.0.1", true)));
        let (names, pending, stands_in) = shows(&going, &[]);
        assert_eq!((names, stands_in), (vec!["old".to_owned()], true));
        assert_eq!(shows(&going, &pending), (vec!["new".to_owned()], vec![], false));
        let alone = with_unprobed(ends(leaving("10.244.0.1", false)));
        assert_eq!(shows(&alone, &[]), (vec![], pending, false), "nothing is behind the port");
    }

    #[test]
    fn ports_find_their_number_by_name_and_protocol() {
        let dns = service(
            "dns",
            json!({"clusterIP": "10.245.0.6", "ports": [
            {"name": "dns", "port": 53, "protocol": "UDP"}, {"name": "dns-tcp", "port": 53, "protocol": "TCP"}]}),
        );
        let ports = json!([{"name": "dns", "port": 5353, "protocol": "UDP"}, {"name": "dns-tcp", "port": 5354}]);
        check(
            vec![dns],
            vec![slice("dns", ports, json!([ready("10.244.0.1")]))],
            expect![[r#"
                10.245.0.6:53/TCP cluster IP shop/dns:dns-tcp -> 10.244.0.1:5354
                10.245.0.6:53/UDP cluster IP shop/dns:dns -> 10.244.0.1:5353
            "#]],
        );
    }

    #[test]
    fn a_load_balancer_listens_on_the_address_it_was_given_for_those_who_may() {
        let mut web = service(
            "web",
            json!({"type": "LoadBalancer", "clusterIP": "10.245.0.5",
            "loadBalancerClass": "example.com/theirs",
            "loadBalancerSourceRanges": ["127.0.0.0/8", "nonsense"], "sessionAffinity": "ClientIP",
            "ports": [{"port": 80, "nodePort": 30001}]}),
        );
        web["status"] =
            json!({"loadBalancer": {"ingress": [{"ip": "127.0.0.1"}, {"ip": "127.0.0.2", "ipMode": "Proxy"}]}});
        check(
            vec![web],
            vec![],
            expect![[r#"
                10.245.0.5:80/TCP cluster IP shop/web ->  sticky 10800s
                127.0.0.1:80/TCP load balancer shop/web ->  sticky 10800s from 127.0.0.0/8
                127.0.0.1:30001/TCP node port shop/web ->  sticky 10800s
                [::1]:30001/TCP node port shop/web ->  sticky 10800s
                refused web: loadBalancerSourceRanges: "nonsense" is not a range of addresses such as 10.0.0.0/8
            "#]],
        );
    }

    #[test]
    fn the_older_service_has_the_address_and_the_other_is_refused_by_name() {
        let claim = |name: &str, ip: &str, time: &str| {
            let mut s = service(name, json!({"clusterIP": ip, "externalIPs": ["192.0.2.7"], "ports": [{"port": 80}]}));
            s["metadata"]["creationTimestamp"] = json!(time);
            s
        };
        let (young, old) =
            (claim("a", "10.245.0.1", "2026-02-01T00:00:00Z"), claim("b", "10.245.0.2", "2026-01-01T00:00:00Z"));
        check(
            vec![young, old],
            vec![],
            expect![[r#"
                10.245.0.1:80/TCP cluster IP shop/a -> 
                10.245.0.2:80/TCP cluster IP shop/b -> 
                192.0.2.7:80/TCP external IP shop/b -> 
                refused a: Cannot listen on 192.0.2.7:80/TCP for the external IP: shop/b has it already
            "#]],
        );
    }

    #[test]
    fn what_is_not_ours_has_no_listener() {
        let mut others = service("others", json!({"clusterIP": "10.245.0.8", "ports": [{"port": 80}]}));
        others["metadata"]["labels"] = json!({"service.kubernetes.io/service-proxy-name": "mesh"});
        let name =
            service("name", json!({"type": "ExternalName", "externalName": "example.org", "ports": [{"port": 80}]}));
        let headless = service("headless", json!({"clusterIP": "None", "ports": [{"port": 80}]}));
        let own_dns =
            service("kube-dns", json!({"clusterIP": "10.245.0.10", "ports": [{"port": 53, "protocol": "UDP"}]}));
        let sctp = service("sctp", json!({"clusterIP": "10.245.0.9", "ports": [{"port": 9, "protocol": "SCTP"}]}));
        check(
            vec![others, name, headless, own_dns, sctp],
            vec![],
            expect![[r#"
                refused sctp: Cannot serve port 9: the protocol SCTP is not supported
            "#]],
        );
    }

    #[test]
    fn the_kubernetes_service_leads_to_the_api_server_wherever_that_is() {
        let api = json!({"metadata": {"namespace": "default", "name": "kubernetes"},
            "spec": {"clusterIP": "10.245.0.1", "ports": [{"name": "https", "port": 443}]}});
        check(
            vec![api],
            vec![],
            expect![[r#"
                10.245.0.1:443/TCP cluster IP default/kubernetes:https -> 127.0.0.1:6443
            "#]],
        );
    }

    #[test]
    fn an_endpoint_knows_its_pod_and_appears_once() {
        let web = service("web", json!({"clusterIP": "10.245.0.5", "ports": [{"port": 80}]}));
        let mut end = ready("10.244.0.1");
        end["targetRef"] = json!({"kind": "Pod", "namespace": "shop", "name": "web-0", "uid": "u0"});
        let one = slice("web", http(), json!([end]));
        let table = table(vec![web], vec![one.clone(), one]);
        let targets = &table.rotations.values().next().unwrap().targets;
        let pod = PodRef { namespace: "shop".into(), name: "web-0".into(), uid: "u0".into() };
        assert_eq!(*targets, [Target { address: "10.244.0.1:8080".parse().unwrap(), pod: Some(pod) }]);
    }

    #[test]
    fn cluster_ips_and_the_nodes_own_address_are_for_the_cluster_unless_the_user_names_it() {
        let ip = |text: &str| text.parse::<IpAddr>().unwrap();
        let cautious = PlanSettings { node: Some(ip("10.244.0.1")), ..settings() };
        let asked = PlanSettings { node_port_addresses: vec![ip("10.244.0.1")], ..cautious.clone() };
        let table = [
            (Role::ClusterIp, "10.245.0.7", Reach::Cluster, Reach::Cluster),
            (Role::NodePort, "10.244.0.1", Reach::Cluster, Reach::Anyone),
            (Role::NodePort, "127.0.0.1", Reach::Anyone, Reach::Anyone),
            (Role::NodePort, "0.0.0.0", Reach::Anyone, Reach::Anyone),
            (Role::LoadBalancer, "127.0.0.1", Reach::Anyone, Reach::Anyone),
            (Role::ExternalIp, "192.168.1.5", Reach::Anyone, Reach::Anyone),
        ];
        for (role, address, by_default, when_asked) in table {
            assert_eq!(cautious.reach(role, ip(address)), by_default, "{role:?} {address}");
            assert_eq!(asked.reach(role, ip(address)), when_asked, "{role:?} {address}");
        }
    }

    #[test]
    fn an_unspecified_address_covers_its_family() {
        let ips = |texts: &[&str]| texts.iter().map(|t| t.parse().unwrap()).collect::<Vec<IpAddr>>();
        let covered: Vec<IpAddr> =
            node_port_addresses(&ips(&["127.0.0.1", "0.0.0.0", "::1"]), None).into_iter().collect();
        assert_eq!(covered, ips(&["0.0.0.0", "::1"]));
        assert_eq!(
            node_port_addresses(&ips(&["0.0.0.0"]), Some(ips(&["10.244.0.1"])[0])),
            ips(&["0.0.0.0"]).into_iter().collect()
        );
    }
}

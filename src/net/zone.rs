//! The cluster's names: Services and EndpointSlices → records, and what a question about them is answered. Pure.
//!
//! Built by the role `skiff proxy` whenever either changed, asked by `dns`.
//!
//! **Invariants**: names are kept in lower case and without the last dot. Every name between a record and the zone exists, so
//! that it answers "no such record" and not "no such name". A question outside of the zone is answered [`Answer::NotOurs`].
//!
//! **Not here**: the wire format and everything that the zone does not know (`dns`).
//!
//! **Source**: the Kubernetes DNS specification 1.1.0; where it leaves a choice (endpoint names, weights), CoreDNS' `kubernetes`
//! plugin.

use super::plan::{by_service, cluster_ips, is_ready, name_of};
use crate::base::ordered::Set;
use k8s_openapi::api::{
    core::v1::{Service, ServiceSpec},
    discovery::v1::{Endpoint, EndpointSlice},
};
use std::{
    collections::BTreeMap,
    net::{IpAddr, Ipv4Addr, Ipv6Addr},
};

/// How long an answer may be kept, in seconds: short, for a cluster that changes under the user's hands.
pub const TTL_SECONDS: u32 = 5;

/// The version of the DNS specification that the zone follows, at `dns-version.<zone>`.
const DNS_VERSION: &str = "1.1.0";

/// All SRV records of one name share this weight.
const WEIGHT_TOTAL: u16 = 100;

/// What one record says.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Data {
    /// An IPv4 address.
    A(Ipv4Addr),
    /// An IPv6 address.
    Aaaa(Ipv6Addr),
    /// Another name for it.
    Cname(String),
    /// The zone's name server.
    Ns(String),
    /// The name of an address.
    Ptr(String),
    /// Where a port is served.
    Srv {
        /// The share of this record among those of the name.
        weight: u16,
        /// The port.
        port: u16,
        /// The name of the host.
        target: String,
    },
    /// A text.
    Txt(String),
    /// Who is responsible for the zone.
    Soa,
}

/// The kinds of records that the zone can be asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ask {
    /// IPv4 addresses.
    A,
    /// IPv6 addresses.
    Aaaa,
    /// Other names.
    Cname,
    /// Name servers.
    Ns,
    /// Names of addresses.
    Ptr,
    /// Ports.
    Srv,
    /// Texts.
    Txt,
    /// The start of authority.
    Soa,
    /// All there is.
    Any,
    /// A kind that the zone never has.
    Other,
}

/// What the zone has to say.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Answer {
    /// Records of the name, and records that the client will ask for next, each with its name.
    Records(Vec<Data>, Vec<(String, Data)>),
    /// The name exists without such a record.
    NoData,
    /// There is no such name.
    NoName,
    /// The zone does not cover the name.
    NotOurs,
}

/// What the zone needs to know beside the objects.
#[derive(Clone, Debug)]
pub struct ZoneSettings {
    /// The zone, e.g. `cluster.local`.
    pub domain: String,
    /// Where the name server answers.
    pub name_server: Option<IpAddr>,
    /// Ranges whose addresses nobody else can name: unknown ones have no name, instead of being asked upstream.
    pub own_ranges: Vec<super::table::IpRange>,
}

/// The records of a cluster.
#[derive(Clone, Debug)]
pub struct Zone {
    settings: ZoneSettings,
    // Thousands, most of which are added one by one.
    names: BTreeMap<String, Vec<Data>>,
}

impl Zone {
    /// Gathers the records.
    pub fn new<'a>(
        services: impl IntoIterator<Item = &'a Service>,
        slices: impl IntoIterator<Item = &'a EndpointSlice>,
        settings: ZoneSettings,
    ) -> Self {
        let domain = settings.domain.clone();
        let mut zone = Self { settings, names: BTreeMap::new() };
        zone.add_apex(&domain);
        let slices = by_service(slices);
        for service in services {
            let (namespace, name) = name_of(service);
            let Some(spec) = &service.spec else { continue };
            let base = format!("{name}.{namespace}.svc.{domain}");
            zone.add_service(&base, spec);
            zone.add_endpoints(&base, spec, slices.get(&(namespace, name)).map_or(&[], Vec::as_slice));
        }
        zone
    }

    /// Answers a question. `turn` rotates the records, so that clients which take the first spread over all.
    pub fn answer(&self, name: &str, ask: Ask, turn: usize) -> Answer {
        let name = name.trim_end_matches('.').to_ascii_lowercase();
        if let Some(ip) = reverse_ip(&name) {
            return self.answer_reverse(ip, &name, ask);
        }
        let domain = &self.settings.domain;
        if name != *domain && !name.strip_suffix(domain.as_str()).is_some_and(|rest| rest.ends_with('.')) {
            return Answer::NotOurs;
        }
        if let Some(pod) = self.pod_answer(&name, ask) {
            return pod;
        }
        match self.names.get(&name) {
            None => Answer::NoName,
            Some(records) => self.select(records, ask, turn),
        }
    }

    /// The zone's name.
    pub fn domain(&self) -> &str {
        &self.settings.domain
    }

    fn select(&self, records: &[Data], ask: Ask, turn: usize) -> Answer {
        // An alias answers every question.
        let mut found: Vec<Data> =
            records.iter().filter(|data| data.answers(ask) || matches!(data, Data::Cname(_))).cloned().collect();
        if found.is_empty() {
            return Answer::NoData;
        }
        let middle = turn % found.len();
        found.rotate_left(middle);
        let extra = found.iter().flat_map(|data| self.addresses_of(data)).collect();
        Answer::Records(found, extra)
    }

    /// The addresses of an SRV record's host.
    fn addresses_of(&self, data: &Data) -> Vec<(String, Data)> {
        let Data::Srv { target, .. } = data else { return Vec::new() };
        let records = self.names.get(target).into_iter().flatten();
        let addresses = records.filter(|data| data.answers(Ask::A) || data.answers(Ask::Aaaa));
        addresses.map(|data| (target.clone(), data.clone())).collect()
    }

    fn answer_reverse(&self, ip: IpAddr, name: &str, ask: Ask) -> Answer {
        match self.names.get(name) {
            Some(records) => self.select(records, ask, 0),
            None if self.settings.own_ranges.iter().any(|range| range.contains(ip)) => Answer::NoName,
            None => Answer::NotOurs,
        }
    }

    /// `10-244-0-5.<namespace>.pod.<zone>` names the address that it spells.
    fn pod_answer(&self, name: &str, ask: Ask) -> Option<Answer> {
        let rest = name.strip_suffix(&self.settings.domain)?.strip_suffix(".pod.")?;
        let Some((spelled, namespace)) = rest.split_once('.') else { return Some(Answer::NoData) };
        if namespace.contains('.') {
            return Some(Answer::NoName);
        }
        let v4 = spelled.replace('-', ".").parse().map(Data::A).ok();
        let Some(data) = v4.or_else(|| spelled.replace('-', ":").parse().map(Data::Aaaa).ok()) else {
            return Some(Answer::NoName);
        };
        Some(if data.answers(ask) { Answer::Records(vec![data], Vec::new()) } else { Answer::NoData })
    }
}

/// Gathering.
impl Zone {
    fn add_apex(&mut self, domain: &str) {
        let server = format!("ns.dns.{domain}");
        self.add(domain, Data::Soa);
        self.add(domain, Data::Ns(server.clone()));
        self.add(&format!("dns-version.{domain}"), Data::Txt(DNS_VERSION.to_owned()));
        for branch in ["svc", "pod"] {
            self.touch(&format!("{branch}.{domain}"));
        }
        if let Some(ip) = self.settings.name_server {
            self.add(&server, address(ip));
        }
    }

    fn add_service(&mut self, base: &str, spec: &ServiceSpec) {
        self.touch(base);
        if spec.type_.as_deref() == Some("ExternalName") {
            if let Some(name) = spec.external_name.as_deref().filter(|name| name.parse::<IpAddr>().is_err()) {
                self.add(base, Data::Cname(name.trim_end_matches('.').to_ascii_lowercase()));
            }
            return;
        }
        let ips = cluster_ips(spec);
        for ip in &ips {
            self.add(base, address(*ip));
            self.add(&reverse_name(*ip), Data::Ptr(base.to_owned()));
        }
        for port in spec.ports.iter().flatten().filter(|_| !ips.is_empty()) {
            let Ok(number) = u16::try_from(port.port) else { continue };
            let srv = Data::Srv { weight: WEIGHT_TOTAL, port: number, target: base.to_owned() };
            self.add_srv(base, port.name.as_deref(), port.protocol.as_deref(), srv);
        }
    }

    fn add_endpoints(&mut self, base: &str, spec: &ServiceSpec, slices: &[&EndpointSlice]) {
        if spec.type_.as_deref() == Some("ExternalName") {
            return;
        }
        let is_headless = cluster_ips(spec).is_empty();
        let ready = || slices.iter().flat_map(|slice| ready_hosts(slice, base));
        let hosts: Set<(IpAddr, String)> = ready().collect();
        for (ip, host) in &hosts {
            self.add(host, address(*ip));
            self.add(&reverse_name(*ip), Data::Ptr(host.clone()));
            if is_headless {
                self.add(base, address(*ip));
            }
        }
        if !is_headless {
            return;
        }
        for slice in slices {
            let targets: Set<String> = ready_hosts(slice, base).map(|(_, host)| host).collect();
            for port in slice.ports.iter().flatten() {
                let Some(number) = port.port.and_then(|number| u16::try_from(number).ok()) else { continue };
                for target in &targets {
                    let weight = WEIGHT_TOTAL / u16::try_from(hosts.len()).unwrap_or(u16::MAX).clamp(1, WEIGHT_TOTAL);
                    let srv = Data::Srv { weight, port: number, target: target.clone() };
                    self.add_srv(base, port.name.as_deref(), port.protocol.as_deref(), srv);
                }
            }
        }
    }

    /// A port is found by its name and protocol, and by the Service's name among all ports.
    fn add_srv(&mut self, base: &str, port: Option<&str>, protocol: Option<&str>, srv: Data) {
        if let Some(port) = port.filter(|port| !port.is_empty()) {
            let protocol = protocol.unwrap_or("TCP").to_ascii_lowercase();
            self.add(&format!("_{port}._{protocol}.{base}"), srv.clone());
        }
        self.add(base, srv);
    }

    fn add(&mut self, name: &str, data: Data) {
        self.touch(name);
        let records = self.names.entry(name.to_ascii_lowercase()).or_default();
        if !records.contains(&data) {
            records.push(data);
        }
    }

    /// Makes a name exist, and those between it and the zone.
    fn touch(&mut self, name: &str) {
        let mut name = name.to_ascii_lowercase();
        while name.ends_with(&self.settings.domain) && !self.names.contains_key(&name) {
            let parent = name.split_once('.').map(|(_, parent)| parent.to_owned());
            self.names.insert(name, Vec::new());
            name = parent.unwrap_or_default();
        }
    }
}

impl Data {
    /// Whether the record answers a question.
    pub fn answers(&self, ask: Ask) -> bool {
        let kind = match self {
            Self::A(_) => Ask::A,
            Self::Aaaa(_) => Ask::Aaaa,
            Self::Cname(_) => Ask::Cname,
            Self::Ns(_) => Ask::Ns,
            Self::Ptr(_) => Ask::Ptr,
            Self::Srv { .. } => Ask::Srv,
            Self::Txt(_) => Ask::Txt,
            Self::Soa => Ask::Soa,
        };
        ask == kind || ask == Ask::Any
    }
}

fn address(ip: IpAddr) -> Data {
    match ip {
        IpAddr::V4(ip) => Data::A(ip),
        IpAddr::V6(ip) => Data::Aaaa(ip),
    }
}

/// The ready endpoints of a slice, each with the name that it has below its Service.
fn ready_hosts<'a>(slice: &'a EndpointSlice, base: &'a str) -> impl Iterator<Item = (IpAddr, String)> + 'a {
    let ready = slice.endpoints.iter().flatten().filter(|endpoint| is_ready(endpoint));
    ready.flat_map(move |endpoint| {
        let ips = endpoint.addresses.iter().filter_map(|ip| ip.parse().ok());
        ips.map(move |ip| (ip, format!("{}.{base}", host_label(endpoint, ip))))
    })
}

/// The Pod's hostname, or else its address with dashes.
fn host_label(endpoint: &Endpoint, ip: IpAddr) -> String {
    match &endpoint.hostname {
        Some(hostname) if !hostname.is_empty() => hostname.clone(),
        _ => ip.to_string().replace(['.', ':'], "-"),
    }
}

/// The name under which the owner of an address is asked for.
fn reverse_name(ip: IpAddr) -> String {
    match ip {
        IpAddr::V4(ip) => {
            let [a, b, c, d] = ip.octets();
            format!("{d}.{c}.{b}.{a}.in-addr.arpa")
        }
        IpAddr::V6(ip) => {
            let nibbles = ip.octets().into_iter().rev().flat_map(|byte| [byte & 15, byte >> 4]);
            let spelled: String = nibbles.map(|nibble| format!("{nibble:x}.")).collect();
            format!("{spelled}ip6.arpa")
        }
    }
}

fn reverse_ip(name: &str) -> Option<IpAddr> {
    if let Some(spelled) = name.strip_suffix(".in-addr.arpa") {
        let parts: Vec<&str> = spelled.split('.').rev().collect();
        return parts.join(".").parse::<Ipv4Addr>().ok().map(IpAddr::V4);
    }
    let nibbles: String = name.strip_suffix(".ip6.arpa")?.split('.').rev().collect();
    (nibbles.len() == 32).then(|| u128::from_str_radix(&nibbles, 16).ok()).flatten().map(|n| Ipv6Addr::from(n).into())
}

#[cfg(test)]
mod tests {
    use super::*;
    use expect_test::{Expect, expect};
    use proptest::prelude::*;
    use serde_json::{Value, json};
    use std::fmt::Write as _;

    fn zone() -> Zone {
        let service = |namespace: &str, name: &str, spec: Value| -> Service {
            serde_json::from_value(json!({"metadata": {"namespace": namespace, "name": name}, "spec": spec})).unwrap()
        };
        let slice = |name: &str, ports: Value, endpoints: Value| -> EndpointSlice {
            let labels = json!({"kubernetes.io/service-name": name});
            let metadata = json!({"namespace": "shop", "name": name, "labels": labels});
            serde_json::from_value(
                json!({"metadata": metadata, "addressType": "IPv4", "ports": ports, "endpoints": endpoints}),
            )
            .unwrap()
        };
        let services = [
            service(
                "default",
                "kubernetes",
                json!({"clusterIP": "10.245.0.1", "ports": [{"name": "https", "port": 443}]}),
            ),
            service("shop", "web", json!({"clusterIP": "10.245.0.5", "ports": [{"name": "http", "port": 80}]})),
            service("shop", "db", json!({"clusterIP": "None", "ports": [{"name": "sql", "port": 5432}]})),
            service("shop", "ext", json!({"type": "ExternalName", "externalName": "Example.org."})),
        ];
        let sql = json!([{"name": "sql", "port": 5432, "protocol": "TCP"}]);
        let ends = json!([
            {"addresses": ["10.244.0.7"], "hostname": "db-0", "conditions": {"ready": true}},
            {"addresses": ["10.244.0.8"], "conditions": {"ready": true}},
            {"addresses": ["10.244.0.9"], "hostname": "db-2", "conditions": {"ready": false}},
        ]);
        let web = json!([{"addresses": ["10.244.0.4"], "conditions": {"ready": true}}]);
        let slices = [slice("db", sql, ends), slice("web", json!([{"name": "http", "port": 8080}]), web)];
        let settings = ZoneSettings {
            domain: "cluster.local".into(),
            name_server: Some("10.245.0.10".parse().unwrap()),
            own_ranges: vec!["10.245.0.0/16".parse().unwrap()],
        };
        Zone::new(&services, &slices, settings)
    }

    #[track_caller]
    fn check(ask: Ask, names: &[&str], expected: Expect) {
        let zone = zone();
        let mut text = String::new();
        for name in names {
            writeln!(text, "{name} {:?}", zone.answer(name, ask, 0)).unwrap();
        }
        expected.assert_eq(&text);
    }

    #[test]
    fn services_have_addresses_and_case_does_not_matter() {
        check(
            Ask::A,
            &["kubernetes.default.svc.cluster.local.", "Web.SHOP.svc.cluster.local", "db.shop.svc.cluster.local"],
            expect![[r#"
                kubernetes.default.svc.cluster.local. Records([A(10.245.0.1)], [])
                Web.SHOP.svc.cluster.local Records([A(10.245.0.5)], [])
                db.shop.svc.cluster.local Records([A(10.244.0.7), A(10.244.0.8)], [])
            "#]],
        );
    }

    #[test]
    fn endpoints_have_names_below_their_service() {
        check(
            Ask::A,
            &[
                "db-0.db.shop.svc.cluster.local",
                "10-244-0-8.db.shop.svc.cluster.local",
                "db-2.db.shop.svc.cluster.local",
                "10-244-0-4.web.shop.svc.cluster.local",
            ],
            expect![[r#"
                db-0.db.shop.svc.cluster.local Records([A(10.244.0.7)], [])
                10-244-0-8.db.shop.svc.cluster.local Records([A(10.244.0.8)], [])
                db-2.db.shop.svc.cluster.local NoName
                10-244-0-4.web.shop.svc.cluster.local Records([A(10.244.0.4)], [])
            "#]],
        );
    }

    #[test]
    fn ports_are_found_with_the_addresses_of_their_hosts() {
        check(
            Ask::Srv,
            &[
                "_http._tcp.web.shop.svc.cluster.local",
                "_sql._tcp.db.shop.svc.cluster.local",
                "_x._tcp.web.shop.svc.cluster.local",
            ],
            expect![[r#"
                _http._tcp.web.shop.svc.cluster.local Records([Srv { weight: 100, port: 80, target: "web.shop.svc.cluster.local" }], [("web.shop.svc.cluster.local", A(10.245.0.5))])
                _sql._tcp.db.shop.svc.cluster.local Records([Srv { weight: 50, port: 5432, target: "10-244-0-8.db.shop.svc.cluster.local" }, Srv { weight: 50, port: 5432, target: "db-0.db.shop.svc.cluster.local" }], [("10-244-0-8.db.shop.svc.cluster.local", A(10.244.0.8)), ("db-0.db.shop.svc.cluster.local", A(10.244.0.7))])
                _x._tcp.web.shop.svc.cluster.local NoName
            "#]],
        );
    }

    #[test]
    fn addresses_have_names_and_unknown_ones_of_ours_have_none() {
        check(
            Ask::Ptr,
            &["5.0.245.10.in-addr.arpa", "7.0.244.10.in-addr.arpa", "9.9.245.10.in-addr.arpa", "8.8.8.8.in-addr.arpa"],
            expect![[r#"
                5.0.245.10.in-addr.arpa Records([Ptr("web.shop.svc.cluster.local")], [])
                7.0.244.10.in-addr.arpa Records([Ptr("db-0.db.shop.svc.cluster.local")], [])
                9.9.245.10.in-addr.arpa NoName
                8.8.8.8.in-addr.arpa NotOurs
            "#]],
        );
    }

    #[test]
    fn pods_have_names_that_spell_their_address() {
        check(
            Ask::A,
            &[
                "10-244-0-5.shop.pod.cluster.local",
                "nonsense.shop.pod.cluster.local",
                "shop.pod.cluster.local",
                "a.b.c.pod.cluster.local",
            ],
            expect![[r#"
                10-244-0-5.shop.pod.cluster.local Records([A(10.244.0.5)], [])
                nonsense.shop.pod.cluster.local NoName
                shop.pod.cluster.local NoData
                a.b.c.pod.cluster.local NoName
            "#]],
        );
    }

    #[test]
    fn an_existing_name_without_the_record_is_not_a_missing_name() {
        check(
            Ask::Aaaa,
            &[
                "web.shop.svc.cluster.local",
                "shop.svc.cluster.local",
                "_tcp.web.shop.svc.cluster.local",
                "no.shop.svc.cluster.local",
                "cluster.local",
                "example.org",
                "xcluster.local",
            ],
            expect![[r#"
                web.shop.svc.cluster.local NoData
                shop.svc.cluster.local NoData
                _tcp.web.shop.svc.cluster.local NoData
                no.shop.svc.cluster.local NoName
                cluster.local NoData
                example.org NotOurs
                xcluster.local NotOurs
            "#]],
        );
    }

    #[test]
    fn an_external_name_is_an_alias_whatever_is_asked() {
        check(
            Ask::A,
            &["ext.shop.svc.cluster.local"],
            expect![[r#"
            ext.shop.svc.cluster.local Records([Cname("example.org")], [])
        "#]],
        );
    }

    #[test]
    fn the_zone_tells_its_version_and_its_name_server() {
        check(
            Ask::Any,
            &["dns-version.cluster.local", "cluster.local", "ns.dns.cluster.local"],
            expect![[r#"
            dns-version.cluster.local Records([Txt("1.1.0")], [])
            cluster.local Records([Soa, Ns("ns.dns.cluster.local")], [])
            ns.dns.cluster.local Records([A(10.245.0.10)], [])
        "#]],
        );
    }

    #[test]
    fn the_addresses_of_a_headless_service_take_turns() {
        let zone = zone();
        let first = |turn| match zone.answer("db.shop.svc.cluster.local", Ask::A, turn) {
            Answer::Records(records, _) => records[0].clone(),
            other => panic!("{other:?}"),
        };
        assert_ne!(first(0), first(1));
        assert_eq!(first(0), first(2));
    }

    proptest! {
        #[test]
        fn every_address_is_found_under_its_reverse_name(v4: u32, v6: u128) {
            for ip in [IpAddr::V4(v4.into()), IpAddr::V6(v6.into())] {
                prop_assert_eq!(reverse_ip(&reverse_name(ip)), Some(ip));
            }
        }

        #[test]
        fn no_name_makes_the_zone_panic(name in ".{0,80}", turn: usize) {
            zone().answer(&name, Ask::A, turn);
        }
    }
}

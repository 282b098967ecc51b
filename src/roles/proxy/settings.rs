//! What `skiff proxy` is told, through its environment.

use crate::{
    api::service_range::ServiceRange,
    base::ordered::Set,
    net::{
        plan::PlanSettings,
        proxy::ProxySettings,
        reach::Insiders,
        router::{HTTP_PORTS, HTTPS_PORTS},
        table::IpRange,
        zone::ZoneSettings,
    },
};
use anyhow::Context as _;
use std::{
    net::{IpAddr, SocketAddr},
    path::PathBuf,
    sync::Arc,
};

/// Everything that the role needs to know.
#[derive(Clone, Debug)]
pub(super) struct Settings {
    /// The file that says how to reach the API (`SKIFF_KUBECONFIG_FILE`).
    pub(super) kubeconfig: PathBuf,
    /// The directory of the store that keeps sockets (`SKIFF_SOCKET_STORE`); none: they end with the process.
    pub(super) socket_store: Option<PathBuf>,
    /// The range of ClusterIPs (`SKIFF_SERVICE_CIDR`).
    pub(super) services: ServiceRange,
    /// The pods' bridge, for routes to more addresses from which endpoints can be dialed (`SKIFF_BRIDGE`); none: there are no more.
    pub(super) bridge: Option<String>,
    /// On which port of 127.0.0.1 counters are told (`SKIFF_PROXY_ADMIN_PORT`).
    pub(super) admin_port: Option<u16>,
    /// Whether the API serves Routes (`SKIFF_ROUTES`; it does when not told).
    pub(super) has_routes: bool,
    /// The ports on which the router listens for plain HTTP and for TLS, in the order in which they are tried
    /// (`SKIFF_ROUTER_HTTP_PORTS`, `SKIFF_ROUTER_HTTPS_PORTS`); the usual ones when not told.
    pub(super) http_ports: Vec<u16>,
    /// See `http_ports`.
    pub(super) https_ports: Vec<u16>,
    /// What to forward. NodePorts listen on `SKIFF_NODEPORT_ADDRESSES` (loopback by default) for everybody, and on `SKIFF_NODE_IP`
    /// for the cluster, load balancers on `SKIFF_LOAD_BALANCER_IP` (127.0.0.1 by default). `SKIFF_DNS_IP` needs no listener.
    pub(super) plan: PlanSettings,
    /// How to forward it.
    pub(super) proxy: ProxySettings,
    /// Which names to serve (`SKIFF_CLUSTER_DOMAIN`), and which ranges are the cluster's (`SKIFF_POD_CIDR` is one).
    pub(super) zone: ZoneSettings,
}

impl Settings {
    /// Reads the settings from variables.
    pub(super) fn read(variable: impl Fn(&str) -> Option<String>) -> anyhow::Result<Self> {
        let given = |name: &str| variable(name).map(|text| text.trim().to_owned()).filter(|text| !text.is_empty());
        let kubeconfig = given("SKIFF_KUBECONFIG_FILE").context("SKIFF_KUBECONFIG_FILE is not set")?.into();
        let socket_store = given("SKIFF_SOCKET_STORE").map(PathBuf::from);
        let services: ServiceRange =
            parse("SKIFF_SERVICE_CIDR", given("SKIFF_SERVICE_CIDR"))?.context("SKIFF_SERVICE_CIDR is not set")?;
        let pods: Option<IpRange> = parse("SKIFF_POD_CIDR", given("SKIFF_POD_CIDR"))?;
        let name_server: Option<IpAddr> = parse("SKIFF_DNS_IP", given("SKIFF_DNS_IP"))?;
        let node: Option<IpAddr> = parse("SKIFF_NODE_IP", given("SKIFF_NODE_IP"))?;
        let admin_port: Option<u16> = parse("SKIFF_PROXY_ADMIN_PORT", given("SKIFF_PROXY_ADMIN_PORT"))?;
        let plan = PlanSettings {
            node_port_addresses: {
                let list = given("SKIFF_NODEPORT_ADDRESSES").unwrap_or_else(|| "127.0.0.1,::1".to_owned());
                parse_list("SKIFF_NODEPORT_ADDRESSES", &list, "address")?
            },
            node,
            load_balancer: parse("SKIFF_LOAD_BALANCER_IP", given("SKIFF_LOAD_BALANCER_IP"))?,
            dns: name_server.map(|ip| SocketAddr::new(ip, 53)),
            // As the router has them.
            router: Set::new(),
            routed: Set::new(),
            // As the kubeconfig says.
            api_server: None,
        };
        let ports = |name: &str, usual: &[u16]| {
            given(name).map_or_else(|| Ok(usual.to_vec()), |list| parse_list(name, &list, "port"))
        };
        let plain_ports = ports("SKIFF_ROUTER_HTTP_PORTS", &HTTP_PORTS)?;
        let tls_ports = ports("SKIFF_ROUTER_HTTPS_PORTS", &HTTPS_PORTS)?;
        let has_routes = parse("SKIFF_ROUTES", given("SKIFF_ROUTES"))?.unwrap_or(true);
        let zone = ZoneSettings {
            domain: given("SKIFF_CLUSTER_DOMAIN").unwrap_or_else(|| "cluster.local".to_owned()).to_ascii_lowercase(),
            name_server,
            own_ranges: std::iter::once(IpRange::from(services)).chain(pods).collect(),
        };
        let admin_port = admin_port.filter(|port| *port != 0);
        let bridge = given("SKIFF_BRIDGE");
        let insiders = Arc::new(Insiders::new(zone.own_ranges.clone()));
        // Only routes to the bridge make them the host's.
        let spare_sources = bridge.iter().flat_map(|_| services.dialing()).collect();
        let proxy = ProxySettings { spare_sources, insiders, ..Default::default() };
        Ok(Self {
            kubeconfig,
            socket_store,
            services,
            bridge,
            admin_port,
            has_routes,
            http_ports: plain_ports,
            https_ports: tls_ports,
            plan,
            proxy,
            zone,
        })
    }
}

fn parse<T>(name: &str, text: Option<String>) -> anyhow::Result<Option<T>>
where
    T: std::str::FromStr<Err: std::error::Error + Send + Sync + 'static>,
{
    text.map(|text| text.parse().with_context(|| format!("{name}: cannot read {text:?}"))).transpose()
}

fn parse_list<T>(name: &str, list: &str, what: &str) -> anyhow::Result<Vec<T>>
where
    T: std::str::FromStr<Err: std::error::Error + Send + Sync + 'static>,
{
    let parts = list.split(',').map(str::trim).filter(|part| !part.is_empty());
    parts.map(|part| part.parse().with_context(|| format!("{name}: {part:?} is no {what}"))).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeMap;

    fn read(pairs: &[(&str, &str)]) -> anyhow::Result<Settings> {
        let mut all = BTreeMap::from([("SKIFF_KUBECONFIG_FILE", "/k/c"), ("SKIFF_SERVICE_CIDR", "10.245.0.0/16")]);
        all.extend(pairs.iter().copied());
        Settings::read(|name| all.get(name).map(|text| (*text).to_owned()))
    }

    #[test]
    fn what_is_not_told_has_a_cautious_default() {
        let settings = read(&[("SKIFF_NODE_IP", "10.244.0.1")]).unwrap();
        let addresses: Vec<String> = settings.plan.node_port_addresses.iter().map(ToString::to_string).collect();
        assert_eq!(addresses, ["127.0.0.1", "::1"]);
        assert_eq!(settings.plan.node, Some("10.244.0.1".parse().unwrap()));
        assert_eq!((settings.kubeconfig, settings.socket_store), ("/k/c".into(), None));
        assert_eq!(
            (settings.zone.domain.as_str(), settings.admin_port, settings.bridge),
            ("cluster.local", None, None)
        );
        assert_eq!(settings.services.to_string(), "10.245.0.0/16");
    }

    #[test]
    fn everything_can_be_told() {
        let settings = read(&[
            ("SKIFF_NODEPORT_ADDRESSES", "0.0.0.0, ::1"),
            ("SKIFF_DNS_IP", "10.245.0.10"),
            ("SKIFF_BRIDGE", "skiff0"),
            ("SKIFF_PROXY_ADMIN_PORT", "9400"),
            ("SKIFF_POD_CIDR", "10.244.0.0/16"),
            ("SKIFF_CLUSTER_DOMAIN", "Corp.Example"),
            ("SKIFF_ROUTER_HTTP_PORTS", "8000, 8001"),
        ])
        .unwrap();
        assert_eq!(settings.plan.node_port_addresses.len(), 2);
        assert_eq!((settings.http_ports, settings.https_ports), (vec![8000, 8001], HTTPS_PORTS.to_vec()));
        assert_eq!(settings.plan.dns, Some("10.245.0.10:53".parse().unwrap()));
        assert_eq!((settings.bridge.as_deref(), settings.admin_port), (Some("skiff0"), Some(9400)));
        assert_eq!((settings.zone.domain.as_str(), settings.zone.own_ranges.len()), ("corp.example", 2));
    }

    #[test]
    fn what_cannot_be_read_is_named() {
        let message = |pairs: &[(&str, &str)]| read(pairs).unwrap_err().to_string();
        assert_eq!(message(&[("SKIFF_DNS_IP", "x")]), r#"SKIFF_DNS_IP: cannot read "x""#);
        assert_eq!(
            message(&[("SKIFF_NODEPORT_ADDRESSES", "1.2.3")]),
            r#"SKIFF_NODEPORT_ADDRESSES: "1.2.3" is no address"#
        );
        assert_eq!(message(&[("SKIFF_SERVICE_CIDR", "")]), "SKIFF_SERVICE_CIDR is not set");
        assert_eq!(message(&[("SKIFF_KUBECONFIG_FILE", " ")]), "SKIFF_KUBECONFIG_FILE is not set");
    }
}

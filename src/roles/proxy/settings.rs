//! What `skiff proxy` is told, through its environment.

use crate::net::{plan::PlanSettings, proxy::ProxySettings, table::IpRange, zone::ZoneSettings};
use anyhow::{Context as _, bail};
use std::net::{IpAddr, Ipv4Addr, SocketAddr, ToSocketAddrs as _};

/// Everything that the role needs to know.
#[derive(Clone, Debug)]
pub(super) struct Settings {
    /// How to reach the API: a whole kubeconfig, as YAML (`SKIFF_KUBECONFIG`).
    pub(super) kubeconfig: String,
    /// The range of ClusterIPs (`SKIFF_SERVICE_CIDR`).
    pub(super) service_range: (Ipv4Addr, u8),
    /// The pods' bridge, which gets the route to that range (`SKIFF_BRIDGE`); none: somebody else sees to it.
    pub(super) bridge: Option<String>,
    /// On which port of 127.0.0.1 counters are told (`SKIFF_PROXY_ADMIN_PORT`).
    pub(super) admin_port: Option<u16>,
    /// What to forward. NodePorts listen on `SKIFF_NODEPORT_ADDRESSES` (loopback by default) and always on `SKIFF_NODE_IP`, where
    /// pods look for them. `SKIFF_DNS_IP` needs no listener.
    pub(super) plan: PlanSettings,
    /// How to forward it.
    pub(super) proxy: ProxySettings,
    /// Which names to serve (`SKIFF_CLUSTER_DOMAIN`, `SKIFF_POD_CIDR`).
    pub(super) zone: ZoneSettings,
}

impl Settings {
    /// Reads the settings from variables.
    pub(super) fn read(variable: impl Fn(&str) -> Option<String>) -> anyhow::Result<Self> {
        let given = |name: &str| variable(name).map(|text| text.trim().to_owned()).filter(|text| !text.is_empty());
        let kubeconfig = given("SKIFF_KUBECONFIG").context("SKIFF_KUBECONFIG is not set")?;
        let services: IpRange =
            parse("SKIFF_SERVICE_CIDR", given("SKIFF_SERVICE_CIDR"))?.context("SKIFF_SERVICE_CIDR is not set")?;
        let (IpAddr::V4(base), bits) = services.parts() else { bail!("SKIFF_SERVICE_CIDR: only IPv4 is supported") };
        let pods: Option<IpRange> = parse("SKIFF_POD_CIDR", given("SKIFF_POD_CIDR"))?;
        let name_server: Option<IpAddr> = parse("SKIFF_DNS_IP", given("SKIFF_DNS_IP"))?;
        let node: Option<IpAddr> = parse("SKIFF_NODE_IP", given("SKIFF_NODE_IP"))?;
        let admin_port: Option<u16> = parse("SKIFF_PROXY_ADMIN_PORT", given("SKIFF_PROXY_ADMIN_PORT"))?;
        let plan = PlanSettings {
            node_port_addresses: {
                let list = given("SKIFF_NODEPORT_ADDRESSES").unwrap_or_else(|| "127.0.0.1,::1".to_owned());
                let mut addresses = parse_list("SKIFF_NODEPORT_ADDRESSES", &list)?;
                addresses.extend(node);
                addresses
            },
            dns: name_server.map(|ip| SocketAddr::new(ip, 53)),
            api_server: Some(api_server(&kubeconfig)?),
        };
        let zone = ZoneSettings {
            domain: given("SKIFF_CLUSTER_DOMAIN").unwrap_or_else(|| "cluster.local".to_owned()).to_ascii_lowercase(),
            name_server,
            own_ranges: std::iter::once(services).chain(pods).collect(),
        };
        let admin_port = admin_port.filter(|port| *port != 0);
        let bridge = given("SKIFF_BRIDGE");
        // Only the route to the bridge makes the range ours.
        let proxy = ProxySettings { spare_sources: bridge.as_ref().map(|_| services), workers: None };
        Ok(Self { kubeconfig, service_range: (base, bits), bridge, admin_port, plan, proxy, zone })
    }
}

fn parse<T>(name: &str, text: Option<String>) -> anyhow::Result<Option<T>>
where
    T: std::str::FromStr<Err: std::error::Error + Send + Sync + 'static>,
{
    text.map(|text| text.parse().with_context(|| format!("{name}: cannot read {text:?}"))).transpose()
}

fn parse_list(name: &str, list: &str) -> anyhow::Result<Vec<IpAddr>> {
    let parts = list.split(',').map(str::trim).filter(|part| !part.is_empty());
    parts.map(|part| part.parse().with_context(|| format!("{name}: {part:?} is no address"))).collect()
}

/// Where the API server answers, for the Service `default/kubernetes`.
fn api_server(kubeconfig: &str) -> anyhow::Result<SocketAddr> {
    let config = kube::config::Kubeconfig::from_yaml(kubeconfig).context("SKIFF_KUBECONFIG is no kubeconfig")?;
    let server = config.clusters.iter().find_map(|named| named.cluster.as_ref()?.server.as_ref());
    let uri: http::Uri =
        server.context("SKIFF_KUBECONFIG names no server")?.parse().context("SKIFF_KUBECONFIG: bad server")?;
    let host = uri.host().context("SKIFF_KUBECONFIG: the server has no host")?.trim_matches(['[', ']']);
    let port = uri.port_u16().unwrap_or(443);
    let mut addresses = (host, port).to_socket_addrs().with_context(|| format!("cannot find the API server {host}"))?;
    addresses.next().with_context(|| format!("the API server {host} has no address"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeMap;

    const KUBECONFIG: &str =
        "{apiVersion: v1, kind: Config, clusters: [{name: c, cluster: {server: 'https://127.0.0.1:6443'}}]}";

    fn read(pairs: &[(&str, &str)]) -> anyhow::Result<Settings> {
        let mut all = BTreeMap::from([("SKIFF_KUBECONFIG", KUBECONFIG), ("SKIFF_SERVICE_CIDR", "10.245.0.0/16")]);
        all.extend(pairs.iter().copied());
        Settings::read(|name| all.get(name).map(|text| (*text).to_owned()))
    }

    #[test]
    fn what_is_not_told_has_a_cautious_default() {
        let settings = read(&[("SKIFF_NODE_IP", "10.244.0.1")]).unwrap();
        let addresses: Vec<String> = settings.plan.node_port_addresses.iter().map(ToString::to_string).collect();
        assert_eq!(addresses, ["127.0.0.1", "::1", "10.244.0.1"]);
        assert_eq!(settings.plan.api_server, Some("127.0.0.1:6443".parse().unwrap()));
        assert_eq!(
            (settings.zone.domain.as_str(), settings.admin_port, settings.bridge),
            ("cluster.local", None, None)
        );
        assert_eq!(settings.service_range, (Ipv4Addr::new(10, 245, 0, 0), 16));
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
        ])
        .unwrap();
        assert_eq!(settings.plan.node_port_addresses.len(), 2);
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
        assert_eq!(message(&[("SKIFF_KUBECONFIG", " ")]), "SKIFF_KUBECONFIG is not set");
    }
}

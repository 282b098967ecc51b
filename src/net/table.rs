//! What the data plane forwards: listeners, and the endpoints behind each port of a Service. A value, compared and applied whole.
//!
//! Built by `net::plan`, followed by `net::proxy`. Knows nothing of Kubernetes objects or sockets.

use crate::{
    api::service_range::ServiceRange,
    base::ordered::{Map, Set},
};
use std::{
    fmt,
    net::{IpAddr, SocketAddr},
    str::FromStr,
    sync::Arc,
    time::Duration,
};

/// Whom something is for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Reach {
    /// Whoever gets there.
    #[default]
    Anyone,
    /// The cluster's pods and the machine itself.
    Cluster,
}

/// A transport that the data plane forwards.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Protocol {
    /// Streams.
    Tcp,
    /// Datagrams.
    Udp,
}

impl fmt::Display for Protocol {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Tcp => "TCP",
            Self::Udp => "UDP",
        })
    }
}

/// Where a listener listens; no two listeners share one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct ListenKey {
    /// The address and port that clients dial.
    pub address: SocketAddr,
    /// The transport.
    pub protocol: Protocol,
}

impl fmt::Display for ListenKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.address, self.protocol)
    }
}

/// Names one port of one Service.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct PortRef {
    /// The Service's namespace.
    pub namespace: String,
    /// The Service's name.
    pub service: String,
    /// The port's name; empty when the only port has none.
    pub port: String,
    /// The transport: a Service may have the same port name once per protocol only through unnamed ports.
    pub protocol: Protocol,
}

impl fmt::Display for PortRef {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.namespace, self.service)?;
        if self.port.is_empty() { Ok(()) } else { write!(f, ":{}", self.port) }
    }
}

/// The Pod behind an endpoint.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct PodRef {
    /// Its namespace.
    pub namespace: String,
    /// Its name.
    pub name: String,
    /// Its UID.
    pub uid: String,
}

/// One endpoint in the rotation.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Target {
    /// Where it listens.
    pub address: SocketAddr,
    /// The Pod, when the endpoint is one.
    pub pod: Option<PodRef>,
}

/// What stands behind a port of a Service.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Rotation {
    /// The endpoints that take new connections, in order.
    pub targets: Vec<Target>,
    /// How long a client stays with its endpoint (`sessionAffinity: ClientIP`).
    pub sticky_for: Option<Duration>,
}

/// Why a listener exists.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Role {
    /// The Service's own address. The whole range is that of a network of its own, so nobody else can hold it.
    ClusterIp,
    /// A port of the node, on each address that serves NodePorts.
    NodePort,
    /// An address of the load balancer.
    LoadBalancer,
    /// One of `spec.externalIPs`.
    ExternalIp,
    /// The router, which is no Service's.
    Router,
}

impl Role {
    /// The word for users.
    pub fn name(self) -> &'static str {
        match self {
            Self::ClusterIp => "cluster IP",
            Self::NodePort => "node port",
            Self::LoadBalancer => "load balancer",
            Self::ExternalIp => "external IP",
            Self::Router => "router",
        }
    }
}

/// One listener.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Listener {
    /// Which port of which Service it serves.
    pub port: Arc<PortRef>,
    /// The Service's UID, to write Events about it.
    pub service_uid: String,
    /// Why it exists.
    pub role: Role,
    /// Whom it is for.
    pub reach: Reach,
    /// Which of these clients may use it; empty: all.
    pub sources: Vec<IpRange>,
}

/// Something a Service asks for that cannot be served, and why. Becomes an Event.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Refusal {
    /// The Service's namespace.
    pub namespace: String,
    /// The Service's name.
    pub service: String,
    /// The Service's UID.
    pub service_uid: String,
    /// What and why, for the user.
    pub message: String,
}

/// Everything that is forwarded.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ForwardTable {
    /// The rotation of every port.
    pub rotations: Map<Arc<PortRef>, Rotation>,
    /// Every listener; its port is always in `rotations`.
    pub listeners: Map<ListenKey, Listener>,
    /// What could not be served.
    pub refusals: Vec<Refusal>,
    /// Endpoints that count as ready and were not seen to accept a connection yet: they are in no rotation.
    pub pending: Set<Target>,
    /// Whether endpoints that leave stand in for pending ones, because their port has no others.
    pub stands_in: bool,
}

/// A range of addresses, written `10.0.0.0/8`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct IpRange {
    base: IpAddr,
    bits: u8,
}

/// A text that is not a range of addresses.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is not a range of addresses such as 10.0.0.0/8")]
pub struct BadRange(String);

impl IpRange {
    /// The addresses that share so many leading bits with this one.
    pub fn new(base: IpAddr, bits: u8) -> Self {
        Self { base, bits }
    }

    /// The first address and the number of leading bits that count.
    pub fn parts(&self) -> (IpAddr, u8) {
        (self.base, self.bits)
    }

    /// Whether the range holds an address. An IPv4 address that travels as IPv6 counts as IPv4.
    pub fn contains(&self, address: IpAddr) -> bool {
        match (self.base, address.to_canonical()) {
            (IpAddr::V4(base), IpAddr::V4(a)) => top(base.to_bits(), self.bits) == top(a.to_bits(), self.bits),
            (IpAddr::V6(base), IpAddr::V6(a)) => top6(base.to_bits(), self.bits) == top6(a.to_bits(), self.bits),
            _ => false,
        }
    }
}

impl From<ServiceRange> for IpRange {
    fn from(range: ServiceRange) -> Self {
        let (first, bits) = range.parts();
        Self { base: first.into(), bits }
    }
}

fn top(address: u32, bits: u8) -> u32 {
    address.checked_shr(32 - u32::from(bits)).unwrap_or(0)
}

fn top6(address: u128, bits: u8) -> u128 {
    address.checked_shr(128 - u32::from(bits)).unwrap_or(0)
}

impl FromStr for IpRange {
    type Err = BadRange;

    fn from_str(text: &str) -> Result<Self, BadRange> {
        let bad = || BadRange(text.to_owned());
        let (base, bits) = text.trim().split_once('/').ok_or_else(bad)?;
        let base: IpAddr = base.parse().map_err(|_| bad())?;
        let bits: u8 = bits.parse().map_err(|_| bad())?;
        if bits > if base.is_ipv4() { 32 } else { 128 } { Err(bad()) } else { Ok(Self { base, bits }) }
    }
}

impl fmt::Display for IpRange {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.base, self.bits)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_range_holds_the_addresses_that_share_its_leading_bits() {
        let holds = |range: &str, a: &str| range.parse::<IpRange>().unwrap().contains(a.parse().unwrap());
        assert!(holds("10.244.0.0/15", "10.245.255.255"));
        assert!(!holds("10.244.0.0/15", "10.246.0.0"));
        assert!(holds("0.0.0.0/0", "1.2.3.4"));
        assert!(!holds("0.0.0.0/0", "::1"));
        assert!(holds("127.0.0.1/32", "::ffff:127.0.0.1"));
        assert!(holds("fd00::/8", "fd12::1"));
    }

    #[test]
    fn a_range_needs_an_address_and_a_length_that_fits_it() {
        for text in ["10.0.0.0", "10.0.0.0/33", "x/8", "::/129", ""] {
            assert!(text.parse::<IpRange>().is_err(), "{text}");
        }
        assert_eq!("10.0.0.0/8".parse::<IpRange>().unwrap().to_string(), "10.0.0.0/8");
    }
}

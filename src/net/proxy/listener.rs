//! Opens the sockets that clients dial, and says plainly why one cannot be had.
//!
//! Called by the proxy when its table changes. One socket per listener, shared by all workers: with one socket per worker
//! (`SO_REUSEPORT`) a second program of the same user could take the same port unseen and half of the connections with it.

use super::rotation::{Backends, Claim, Millis};
use crate::net::table::{IpRange, ListenKey, Protocol, Role};
use rustix::{
    fd::OwnedFd,
    io::Errno,
    net::{
        AddressFamily, SocketFlags, SocketType, bind, listen, socket_with,
        sockopt::{set_ip_freebind, set_ipv6_v6only, set_socket_reuseaddr, set_tcp_nodelay},
    },
};
use std::{
    io,
    net::{IpAddr, SocketAddr},
    sync::{Arc, atomic::AtomicUsize},
};

/// Connections that may wait to be accepted; the kernel caps it at `net.core.somaxconn`.
const BACKLOG: i32 = 4096;

/// Why a listener is not open.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ListenError {
    /// Another program, or another cluster, listens there.
    #[error("{0} is already in use by another program on this machine")]
    PortConflict(ListenKey),
    /// No interface of the machine has the address.
    #[error("{0}: this machine does not have the address")]
    NoSuchAddress(ListenKey),
    /// The kernel refuses the port to us.
    #[error("{0}: not permitted to listen there")]
    Denied(ListenKey),
    /// Anything else.
    #[error("{0}: {1}")]
    Other(ListenKey, Errno),
}

impl ListenError {
    fn new(key: ListenKey, errno: Errno) -> Self {
        match errno {
            Errno::ADDRINUSE => Self::PortConflict(key),
            Errno::ADDRNOTAVAIL | Errno::AFNOSUPPORT => Self::NoSuchAddress(key),
            Errno::ACCESS | Errno::PERM => Self::Denied(key),
            other => Self::Other(key, other),
        }
    }

    /// The same for an error that the standard library reports.
    pub(in crate::net) fn from_io(key: ListenKey, err: &io::Error) -> Self {
        Self::new(key, err.raw_os_error().map_or(Errno::IO, Errno::from_raw_os_error))
    }

    /// Whether it only says that the machine has no IPv6, which is nobody's fault.
    pub fn is_missing_ipv6(&self) -> bool {
        matches!(self, Self::NoSuchAddress(key) if key.address.is_ipv6() && key.address.ip().is_loopback())
    }
}

/// Where connections come in, without the socket: connections hold on to it after the listener is gone.
#[derive(Debug)]
pub(super) struct Front {
    pub(super) key: ListenKey,
    pub(super) backends: Arc<Backends>,
    pub(super) sources: Vec<IpRange>,
    turn: AtomicUsize,
}

impl Front {
    pub(super) fn new(key: ListenKey, backends: Arc<Backends>, sources: Vec<IpRange>) -> Self {
        Self { key, backends, sources, turn: AtomicUsize::new(0) }
    }

    /// Claims the next endpoint.
    pub(super) fn pick(&self, client: Option<IpAddr>, tried: &[SocketAddr], now: Millis) -> Option<Claim> {
        self.backends.pick(&self.turn, client, tried, now)
    }

    /// Whether accepting needs to know who the client is.
    pub(super) fn asks_who(&self) -> bool {
        !self.sources.is_empty() || self.backends.is_sticky()
    }

    /// Whether a client may come in.
    pub(super) fn admits(&self, client: Option<IpAddr>) -> bool {
        self.sources.is_empty() || client.is_some_and(|client| self.sources.iter().any(|range| range.contains(client)))
    }
}

/// An open listener.
#[derive(Debug)]
pub(super) struct Listening {
    pub(super) id: u64,
    pub(super) socket: OwnedFd,
    pub(super) front: Arc<Front>,
}

/// Opens the socket of a listener.
pub(in crate::net) fn open(key: ListenKey, role: Role) -> Result<OwnedFd, ListenError> {
    open_socket(key, role).map_err(|errno| ListenError::new(key, errno))
}

fn open_socket(key: ListenKey, role: Role) -> Result<OwnedFd, Errno> {
    let kind = if key.protocol == Protocol::Tcp { SocketType::STREAM } else { SocketType::DGRAM };
    let socket = socket_with(family(key.address), kind, SocketFlags::NONBLOCK | SocketFlags::CLOEXEC, None)?;
    if key.address.is_ipv6() {
        set_ipv6_v6only(&socket, true)?;
    } else if role == Role::ClusterIp {
        // The route that makes the range ours may come later than the Service.
        set_ip_freebind(&socket, true)?;
    }
    if key.protocol == Protocol::Tcp {
        // Lets a restarted proxy listen beside connections of the last that linger; a second listener is still refused.
        set_socket_reuseaddr(&socket, true)?;
        // Accepted sockets inherit it, which saves a call for each.
        set_tcp_nodelay(&socket, true)?;
    }
    bind(&socket, &key.address)?;
    if key.protocol == Protocol::Tcp {
        listen(&socket, BACKLOG)?;
    }
    Ok(socket)
}

/// The address family of an address.
pub(super) fn family(address: SocketAddr) -> AddressFamily {
    if address.is_ipv4() { AddressFamily::INET } else { AddressFamily::INET6 }
}

#[cfg(test)]
mod tests {
    use super::*;
    use rustix::net::getsockname;

    fn key(address: &str, protocol: Protocol) -> ListenKey {
        ListenKey { address: address.parse().unwrap(), protocol }
    }

    #[test]
    fn a_port_that_is_taken_is_named() {
        for protocol in [Protocol::Tcp, Protocol::Udp] {
            let first = open(key("127.0.0.1:0", protocol), Role::NodePort).unwrap();
            let address = SocketAddr::try_from(getsockname(&first).unwrap()).unwrap();
            let taken = ListenKey { address, protocol };
            assert_eq!(open(taken, Role::NodePort).unwrap_err(), ListenError::PortConflict(taken));
        }
    }

    #[test]
    fn a_cluster_ip_opens_before_its_route_exists_and_a_node_port_does_not() {
        let absent = key("192.0.2.200:0", Protocol::Tcp);
        assert!(open(absent, Role::ClusterIp).is_ok());
        let err = open(absent, Role::NodePort).unwrap_err();
        assert_eq!(err.to_string(), "192.0.2.200:0/TCP: this machine does not have the address");
        assert!(!err.is_missing_ipv6());
    }
}

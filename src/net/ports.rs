//! Takes the ports that clients dial, opens and closes them, and says plainly why one cannot be had.
//!
//! Called by `sockets`, by the proxy when its table changes, and by `dns`. One socket per listener, shared by all workers: with one socket per worker
//! (`SO_REUSEPORT`) a second program of the same user could take the same port unseen and half of the connections with it.
//!
//! ```text
//!              ── open ──▶
//! reserve ─▶ bound, refuses   listens
//!              ◀─ refuse ─
//! ```
//!
//! **Invariants**: a port that is taken stays taken in both states. Without `SO_REUSEADDR` while it does not listen: where two
//! sockets have the option and neither listens, the kernel gives both the same port.

use super::table::{ListenKey, Protocol, Role};
use rustix::{
    fd::OwnedFd,
    io::Errno,
    net::{
        AddressFamily, Shutdown, SocketFlags, SocketType, bind, listen, shutdown, socket_with,
        sockopt::{set_ip_freebind, set_ipv6_v6only, set_socket_reuseaddr, set_tcp_nodelay},
    },
};
use std::{io, net::SocketAddr};

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
    pub(super) fn new(key: ListenKey, errno: Errno) -> Self {
        match errno {
            Errno::ADDRINUSE => Self::PortConflict(key),
            Errno::ADDRNOTAVAIL | Errno::AFNOSUPPORT => Self::NoSuchAddress(key),
            Errno::ACCESS | Errno::PERM => Self::Denied(key),
            other => Self::Other(key, other),
        }
    }

    /// The same for an error that the standard library reports.
    pub(super) fn from_io(key: ListenKey, err: &io::Error) -> Self {
        Self::new(key, err.raw_os_error().map_or(Errno::IO, Errno::from_raw_os_error))
    }

    /// Whether it only says that the machine has no IPv6, which is nobody's fault.
    pub fn is_missing_ipv6(&self) -> bool {
        matches!(self, Self::NoSuchAddress(key) if key.address.is_ipv6() && key.address.ip().is_loopback())
    }
}

/// Takes the port of a listener. Datagrams arrive from now on; connections are refused until [`open`].
pub(super) fn reserve(key: ListenKey, role: Role) -> Result<OwnedFd, ListenError> {
    reserve_socket(key, role).map_err(|errno| ListenError::new(key, errno))
}

/// The same, with the kernel's own word for why not.
pub(super) fn reserve_socket(key: ListenKey, role: Role) -> Result<OwnedFd, Errno> {
    let is_stream = key.protocol == Protocol::Tcp;
    let kind = if is_stream { SocketType::STREAM } else { SocketType::DGRAM };
    let socket = socket_with(family(key.address), kind, SocketFlags::NONBLOCK | SocketFlags::CLOEXEC, None)?;
    if key.address.is_ipv6() {
        set_ipv6_v6only(&socket, true)?;
    } else if role == Role::ClusterIp {
        // Without the network that answers for the address the port can be taken all the same, and nobody gets there.
        set_ip_freebind(&socket, true)?;
    }
    if is_stream {
        // Accepted sockets inherit it, which saves a call for each.
        set_tcp_nodelay(&socket, true)?;
    }
    match bind(&socket, &key.address) {
        Err(Errno::ADDRINUSE) if is_stream => reserve_beside_leftovers(&socket, key.address)?,
        bound => bound?,
    }
    Ok(socket)
}

/// Takes a port on which connections of an earlier listener linger. A listener there, or a socket that has reserved it, still is in
/// the way.
fn reserve_beside_leftovers(socket: &OwnedFd, address: SocketAddr) -> Result<(), Errno> {
    set_socket_reuseaddr(socket, true)?;
    bind(socket, &address)?;
    // From the option the kernel concludes that the port may be shared, and forgets that only when somebody listens.
    listen(socket, 1)?;
    refuse(socket)
}

/// Lets connections in.
pub(super) fn open(socket: &OwnedFd) -> Result<(), Errno> {
    // Connections inherit the option, so that the port can be taken again while they linger.
    set_socket_reuseaddr(socket, true)?;
    listen(socket, BACKLOG)
}

/// Refuses connections from now on, those that wait included; the port stays taken.
pub(super) fn refuse(socket: &OwnedFd) -> Result<(), Errno> {
    set_socket_reuseaddr(socket, false)?;
    match shutdown(socket, Shutdown::Read) {
        // It did not listen.
        Err(Errno::NOTCONN) => Ok(()),
        closed => closed,
    }
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

    fn address(socket: &OwnedFd) -> SocketAddr {
        SocketAddr::try_from(getsockname(socket).unwrap()).unwrap()
    }

    fn refuses(address: SocketAddr) -> bool {
        std::net::TcpStream::connect(address).is_err_and(|err| err.kind() == io::ErrorKind::ConnectionRefused)
    }

    /// What a program that listens on every address and does not care who had the port before gets.
    fn greedy(port: u16) -> Result<OwnedFd, Errno> {
        let socket = socket_with(AddressFamily::INET, SocketType::STREAM, SocketFlags::CLOEXEC, None)?;
        set_socket_reuseaddr(&socket, true)?;
        bind(&socket, &SocketAddr::from(([0, 0, 0, 0], port)))?;
        listen(&socket, 1)?;
        Ok(socket)
    }

    #[test]
    fn a_port_that_is_taken_is_named() {
        for protocol in [Protocol::Tcp, Protocol::Udp] {
            let first = reserve(key("127.0.0.1:0", protocol), Role::NodePort).unwrap();
            let taken = ListenKey { address: address(&first), protocol };
            assert_eq!(reserve(taken, Role::NodePort).unwrap_err(), ListenError::PortConflict(taken));
        }
    }

    #[test]
    fn a_reserved_port_refuses_opens_closes_and_opens_again_and_nobody_else_gets_it() {
        // The kernel keeps only a port that was asked for by its number.
        let address = crate::testing::ports::free_address();
        let socket = reserve(ListenKey { address, protocol: Protocol::Tcp }, Role::NodePort).unwrap();
        for _ in 0..2 {
            assert!(refuses(address));
            assert_eq!(greedy(address.port()).unwrap_err(), Errno::ADDRINUSE);
            open(&socket).unwrap();
            assert!(!refuses(address));
            assert_eq!(greedy(address.port()).unwrap_err(), Errno::ADDRINUSE);
            refuse(&socket).unwrap();
        }
        refuse(&socket).unwrap();
        drop(socket);
        assert!(greedy(address.port()).is_ok());
    }

    #[test]
    fn a_port_on_which_connections_linger_is_reserved_as_well() {
        let socket = reserve(key("127.0.0.1:0", Protocol::Tcp), Role::NodePort).unwrap();
        let address = address(&socket);
        open(&socket).unwrap();
        let client = std::net::TcpStream::connect(address).unwrap();
        rustix::event::poll(&mut [rustix::event::PollFd::new(&socket, rustix::event::PollFlags::IN)], None).unwrap();
        let _lingering = rustix::net::accept(&socket).unwrap();
        drop((socket, client));
        let again = reserve(ListenKey { address, protocol: Protocol::Tcp }, Role::NodePort).unwrap();
        assert!(refuses(address));
        assert_eq!(greedy(address.port()).unwrap_err(), Errno::ADDRINUSE);
        drop(again);
    }

    #[test]
    fn a_cluster_ip_is_reserved_before_its_route_exists_and_a_node_port_is_not() {
        let absent = key("192.0.2.200:0", Protocol::Tcp);
        assert!(reserve(absent, Role::ClusterIp).is_ok());
        let err = reserve(absent, Role::NodePort).unwrap_err();
        assert_eq!(err.to_string(), "192.0.2.200:0/TCP: this machine does not have the address");
        assert!(!err.is_missing_ipv6());
    }
}

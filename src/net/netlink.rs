//! The routes that make addresses of the Service range somebody's own: `local <address> dev <interface>`.
//!
//! Whoever has such a route answers ARP for the address, and a socket can be bound to it. Two need them:
//!
//! - The sandbox of the data plane's pod has, in its own network, one for the whole range ([`answer_for`]): it answers for ClusterIPs.
//! - The host has one for each address from which the data plane dials when ports run out ([`RouteKeeper`], run by `skiff proxy`). They go
//!   away with the pods' bridge and come back with it: this watches both.
//!
//! **Invariants**: nothing in the host's routing is touched but routes of this kind inside the Service range. Missing routes are
//! added before others are removed. Looking changes nothing, so that watching for changes does not feed itself.

mod wire;

use crate::{
    api::service_range::ServiceRange,
    base::{backoff::Backoff, chain::chain, ordered::Set},
    net::table::IpRange,
};
use rustix::{
    fd::OwnedFd,
    io::Errno,
    net::{
        AddressFamily, RecvFlags, SendFlags, SocketFlags, SocketType, bind,
        netdevice::name_to_index,
        netlink::SocketAddrNetlink,
        recv, send, socket_with,
        sockopt::{Timeout, set_socket_timeout},
    },
};
use std::{
    io,
    net::{IpAddr, Ipv4Addr},
    sync::atomic::{AtomicU32, Ordering},
    time::Duration,
};
use tokio::net::UnixDatagram;
use tracing::{info, warn};
use wire::{Ask, Message, PROTOCOL_STATIC, RouteMessage, SCOPE_HOST, TABLE_LOCAL, TYPE_LOCAL, TYPE_UNREACHABLE, Told};

/// How long to wait between attempts that fail. The bridge's own events end the wait.
const RETRY: Backoff = Backoff { base: Duration::from_millis(100), cap: Duration::from_secs(5) };

/// How often to look although nothing was heard: a safety net.
const RESYNC: Duration = Duration::from_secs(60);

/// How long the kernel may take to answer; it does so at once.
const ANSWER_WITHIN: Duration = Duration::from_secs(5);

/// What one packet may hold: twice what the kernel puts into one.
const PACKET_BYTES_MAX: usize = 64 * 1024;

/// The interface that every network has.
const LOOPBACK: &str = "lo";

/// Interfaces and routes of IPv4 as they change. Source: `RTMGRP_LINK`, `RTMGRP_IPV4_ROUTE`, `linux/rtnetlink.h`.
const GROUPS: u32 = 0x1 | 0x40;

/// Why the routes are not there.
#[derive(Debug, thiserror::Error)]
pub enum RouteError {
    /// The kernel does not talk to us.
    #[error("cannot open a netlink socket")]
    Open(#[source] io::Error),
    /// The network of the pods does not exist (yet).
    #[error("there is no network interface {0}")]
    NoBridge(String),
    /// The capability is missing.
    #[error("changing the routes of {0} needs the capability NET_ADMIN")]
    Denied(IpRange),
    /// Anything else.
    #[error("cannot {0}")]
    Other(&'static str, #[source] io::Error),
}

/// Where routes are ours, and where they lead.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ServiceRoutes {
    /// The Service range.
    pub range: IpRange,
    /// The pods' bridge.
    pub bridge: String,
}

/// A route of ours, as it is or as it should be.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Route {
    to: Ipv4Addr,
    bits: u8,
    interface: u32,
}

/// What must change.
#[derive(Debug, Default, PartialEq, Eq)]
struct Changes {
    add: Vec<Route>,
    remove: Vec<Route>,
}

/// Talks to the kernel about the routes.
pub struct RouteKeeper {
    routes: ServiceRoutes,
    kernel: Kernel,
    /// No Unix socket: this is tokio's safe way to wait for a socket of datagrams, and netlink's is one.
    heard: UnixDatagram,
}

impl RouteKeeper {
    /// Opens the conversation.
    ///
    /// # Errors
    /// The kernel does not talk to us.
    pub fn open(routes: ServiceRoutes) -> Result<Self, RouteError> {
        let open = || {
            let heard = open(SocketFlags::NONBLOCK, GROUPS)?;
            Ok((Kernel::open()?, UnixDatagram::from_std(heard.into())?))
        };
        let (kernel, heard) = open().map_err(RouteError::Open)?;
        Ok(Self { routes, kernel, heard })
    }

    /// Makes the routes those of these addresses; returns how many were added and removed.
    pub fn ensure(&self, wanted: &Set<Ipv4Addr>) -> Result<(usize, usize), RouteError> {
        let bridge = self.bridge_index()?;
        let changes = plan(&self.current()?, wanted, bridge);
        for route in &changes.add {
            self.kernel.change(Ask::Add, &route.message()).map_err(|err| self.refused("add a route", err))?;
        }
        for route in &changes.remove {
            match self.kernel.change(Ask::Remove, &route.message()) {
                // Gone already.
                Err(err) if Errno::from_io_error(&err) == Some(Errno::SRCH) => {}
                removed => removed.map_err(|err| self.refused("remove a route", err))?,
            }
        }
        Ok((changes.add.len(), changes.remove.len()))
    }

    /// Keeps the routes as wanted.
    pub async fn keep(self, wanted: Set<Ipv4Addr>) {
        let mut failures = 0;
        loop {
            let patience = self.ensure_and_tell(&wanted, &mut failures);
            if let Ok(Err(err)) = tokio::time::timeout(patience, self.touched()).await {
                warn!(component = "netlink", %err, "the kernel ended the conversation; looking from time to time only");
                tokio::time::sleep(patience).await;
            }
        }
    }

    /// Makes the routes as wanted; returns when to look again although nothing was heard.
    fn ensure_and_tell(&self, wanted: &Set<Ipv4Addr>, failures: &mut u32) -> Duration {
        let bridge = self.routes.bridge.as_str();
        match self.ensure(wanted) {
            Ok((added, removed)) => {
                if (added, removed) != (0, 0) {
                    info!(component = "netlink", bridge, added, removed, "the routes of the data plane are in place");
                }
                *failures = 0;
                RESYNC
            }
            Err(err) => {
                // Said once per trouble, not once per attempt.
                if *failures == 0 {
                    warn!(
                        component = "netlink",
                        err = chain(&err),
                        "endpoints cannot be dialed from more addresses; trying again"
                    );
                }
                *failures += 1;
                RETRY.delay(*failures)
            }
        }
    }

    /// Waits until something happened to the bridge or a route.
    async fn touched(&self) -> io::Result<()> {
        let mut packet = vec![0; PACKET_BYTES_MAX];
        loop {
            let is_touched = match self.heard.recv(&mut packet).await {
                Ok(length) => wire::read(&packet[..length]).iter().any(|told| self.routes.is_touched_by(&told.message)),
                // More happened than could be told.
                Err(err) if Errno::from_io_error(&err) == Some(Errno::NOBUFS) => true,
                Err(err) => return Err(err),
            };
            if is_touched {
                return Ok(());
            }
        }
    }

    fn bridge_index(&self) -> Result<u32, RouteError> {
        let name = &self.routes.bridge;
        name_to_index(&self.kernel.socket, name).map_err(|err| match err {
            Errno::NODEV => RouteError::NoBridge(name.clone()),
            err => RouteError::Other("look for the network interface", err.into()),
        })
    }

    /// The routes of ours that there are.
    fn current(&self) -> Result<Vec<Route>, RouteError> {
        let all = self.kernel.routes().map_err(|err| RouteError::Other("read the routes", err))?;
        Ok(all.iter().filter_map(|route| self.routes.ours(route)).collect())
    }

    fn refused(&self, what: &'static str, err: io::Error) -> RouteError {
        if Errno::from_io_error(&err) == Some(Errno::PERM) {
            return RouteError::Denied(self.routes.range);
        }
        RouteError::Other(what, err)
    }
}

/// Makes a range of ClusterIPs addresses of the network that this process is in, but for those from which the host dials.
///
/// # Errors
/// The capability is missing, or the kernel refuses.
pub fn answer_for(range: ServiceRange) -> Result<(), RouteError> {
    let kernel = Kernel::open().map_err(RouteError::Open)?;
    let loopback = name_to_index(&kernel.socket, LOOPBACK);
    let loopback = loopback.map_err(|err| RouteError::Other("look for the loopback interface", err.into()))?;
    for route in answering_routes(range, loopback) {
        kernel.change(Ask::Add, &route).map_err(|err| RouteError::Other("add a route", err))?;
    }
    Ok(())
}

/// Nobody answers for the host's addresses, and then one for all others. Pure.
fn answering_routes(range: ServiceRange, loopback: u32) -> [RouteMessage; 2] {
    let route = |(to, bits): (Ipv4Addr, u8)| RouteMessage {
        bits,
        table: TABLE_LOCAL,
        protocol: PROTOCOL_STATIC,
        scope: SCOPE_HOST,
        kind: TYPE_LOCAL,
        to: Some(to),
        interface: Some(loopback),
    };
    let not_ours = RouteMessage { kind: TYPE_UNREACHABLE, interface: None, ..route(range.own()) };
    [not_ours, route(range.parts())]
}

/// A socket that the kernel answers on. It does so before `send` returns, so that nothing waits here.
struct Kernel {
    socket: OwnedFd,
    sequence: AtomicU32,
}

impl Kernel {
    fn open() -> io::Result<Self> {
        let socket = open(SocketFlags::empty(), 0)?;
        set_socket_timeout(&socket, Timeout::Recv, Some(ANSWER_WITHIN))?;
        Ok(Self { socket, sequence: AtomicU32::new(1) })
    }

    /// Adds or removes a route.
    fn change(&self, ask: Ask, route: &RouteMessage) -> io::Result<()> {
        self.ask(ask, route, |_| ())
    }

    /// All routes of IPv4.
    fn routes(&self) -> io::Result<Vec<RouteMessage>> {
        let mut found = Vec::new();
        let any = RouteMessage { bits: 0, table: 0, protocol: 0, scope: 0, kind: 0, to: None, interface: None };
        self.ask(Ask::All, &any, |route| found.push(route))?;
        Ok(found)
    }

    /// Asks, and takes what is told until the answer is complete.
    fn ask(&self, ask: Ask, route: &RouteMessage, mut take: impl FnMut(RouteMessage)) -> io::Result<()> {
        let sequence = self.sequence.fetch_add(1, Ordering::Relaxed);
        send(&self.socket, &wire::request(ask, route, sequence), SendFlags::empty())?;
        let mut is_torn = false;
        loop {
            let packet = receive(&self.socket)?;
            for Told { is_torn: torn, message, .. } in of(sequence, &packet) {
                is_torn |= torn;
                match message {
                    Message::Answer(Some(code)) => return Err(io::Error::from_raw_os_error(code)),
                    Message::Done if is_torn => return Err(io::ErrorKind::Interrupted.into()),
                    Message::Answer(None) | Message::Done => return Ok(()),
                    Message::Route(route) => take(route),
                    _ => {}
                }
            }
        }
    }
}

/// What a packet says to a request; an answer that comes too late is to another.
fn of(sequence: u32, packet: &[u8]) -> impl Iterator<Item = Told> {
    wire::read(packet).into_iter().filter(move |told| told.sequence == sequence)
}

fn open(flags: SocketFlags, groups: u32) -> io::Result<OwnedFd> {
    let socket = socket_with(AddressFamily::NETLINK, SocketType::RAW, flags | SocketFlags::CLOEXEC, None)?;
    bind(&socket, &SocketAddrNetlink::new(0, groups))?;
    Ok(socket)
}

fn receive(socket: &OwnedFd) -> io::Result<Vec<u8>> {
    let mut packet = vec![0; PACKET_BYTES_MAX];
    let (length, _) = recv(socket, &mut packet[..], RecvFlags::empty())?;
    packet.truncate(length);
    Ok(packet)
}

/// Which routes to add and to remove. Pure.
fn plan(current: &[Route], wanted: &Set<Ipv4Addr>, interface: u32) -> Changes {
    let wanted: Set<Route> = wanted.iter().map(|to| Route { to: *to, bits: 32, interface }).collect();
    let current: Set<Route> = current.iter().copied().collect();
    // One that leads elsewhere is replaced, and then is no more.
    let is_replaced = |old: &&Route| wanted.contains(&Route { interface, ..**old });
    Changes {
        add: wanted.difference(&current).copied().collect(),
        remove: current.difference(&wanted).filter(|old| !is_replaced(old)).copied().collect(),
    }
}

impl Route {
    fn message(&self) -> RouteMessage {
        RouteMessage {
            bits: self.bits,
            table: TABLE_LOCAL,
            protocol: PROTOCOL_STATIC,
            scope: SCOPE_HOST,
            kind: TYPE_LOCAL,
            to: Some(self.to),
            interface: Some(self.interface),
        }
    }
}

impl ServiceRoutes {
    /// The route, if it is one of ours: made by us, inside our range.
    fn ours(&self, route: &RouteMessage) -> Option<Route> {
        let is_like_ours = route.kind == TYPE_LOCAL && route.protocol == PROTOCOL_STATIC;
        let to = route.to?;
        let is_inside = route.bits >= self.range.parts().1 && self.range.contains(IpAddr::V4(to));
        let interface = route.interface.unwrap_or_default();
        (is_like_ours && is_inside).then_some(Route { to, bits: route.bits, interface })
    }

    fn is_touched_by(&self, message: &Message) -> bool {
        match message {
            Message::Link(name) => *name == self.bridge,
            Message::RouteGone(route) => self.ours(route).is_some(),
            _ => false,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn routes(bridge: &str) -> ServiceRoutes {
        ServiceRoutes { range: "10.245.0.0/16".parse().unwrap(), bridge: bridge.to_owned() }
    }

    fn route(last: u8, bits: u8, interface: u32) -> Route {
        Route { to: Ipv4Addr::new(10, 245, 0, last), bits, interface }
    }

    fn wanted(lasts: &[u8]) -> Set<Ipv4Addr> {
        lasts.iter().map(|last| Ipv4Addr::new(10, 245, 0, *last)).collect()
    }

    #[tokio::test]
    async fn a_missing_bridge_is_named() {
        let keeper = RouteKeeper::open(routes("no-such-bridge")).unwrap();
        let err = keeper.ensure(&wanted(&[1])).unwrap_err();
        assert_eq!(err.to_string(), "there is no network interface no-such-bridge");
    }

    #[test]
    fn what_is_missing_is_added_and_what_is_left_over_is_removed() {
        let (kept, gone, whole) = (route(1, 32, 7), route(9, 32, 7), route(0, 16, 7));
        let changes = plan(&[kept, gone, whole], &wanted(&[1, 10]), 7);
        assert_eq!(changes, Changes { add: vec![route(10, 32, 7)], remove: vec![whole, gone] });
        assert_eq!(plan(&[kept], &wanted(&[1]), 7), Changes::default());
    }

    #[test]
    fn a_route_that_leads_to_another_bridge_is_replaced() {
        let changes = plan(&[route(1, 32, 6)], &wanted(&[1]), 7);
        assert_eq!(changes, Changes { add: vec![route(1, 32, 7)], remove: vec![] });
    }

    #[test]
    fn a_sandbox_answers_for_all_but_the_addresses_from_which_the_host_dials() {
        let [not_ours, ours] = answering_routes("10.245.0.0/16".parse().unwrap(), 1);
        assert_eq!((ours.to, ours.bits, ours.kind), (Some([10, 245, 0, 0].into()), 16, TYPE_LOCAL));
        let last = Some([10, 245, 255, 248].into());
        assert_eq!((not_ours.to, not_ours.bits, not_ours.kind, not_ours.interface), (last, 29, TYPE_UNREACHABLE, None));
    }

    #[test]
    fn only_routes_that_skiff_made_inside_the_range_are_its_own() {
        let ours = routes("br0");
        assert_eq!(ours.ours(&route(1, 32, 7).message()), Some(route(1, 32, 7)));
        assert_eq!(ours.ours(&route(0, 16, 7).message()), Some(route(0, 16, 7)), "as earlier versions made it");
        assert_eq!(ours.ours(&Route { to: Ipv4Addr::new(10, 246, 0, 1), ..route(1, 32, 7) }.message()), None);
        assert_eq!(ours.ours(&route(0, 15, 7).message()), None);
        let changed = |change: &dyn Fn(&mut RouteMessage)| {
            let mut message = route(1, 32, 7).message();
            change(&mut message);
            ours.ours(&message)
        };
        let (unicast, kernel) = (1, 2);
        assert_eq!(changed(&|message| message.kind = unicast), None);
        assert_eq!(changed(&|message| message.protocol = kernel), None);
    }

    #[test]
    fn only_the_bridge_and_a_lost_route_matter() {
        let routes = routes("br0");
        let heard = |message| routes.is_touched_by(&message);
        assert!(heard(Message::Link("br0".into())));
        assert!(!heard(Message::Link("veth1".into())));
        assert!(heard(Message::RouteGone(route(1, 32, 7).message())));
        assert!(!heard(Message::Route(route(1, 32, 7).message())));
    }

    #[tokio::test]
    async fn the_kernel_tells_its_routes_and_names_what_it_refuses() {
        let kernel = Kernel::open().unwrap();
        let all = kernel.routes().unwrap();
        let loopback = |route: &RouteMessage| route.table == TABLE_LOCAL && route.to == Some(Ipv4Addr::LOCALHOST);
        assert!(all.iter().any(loopback), "{all:?}");
        // A route through an interface that cannot be; without the capability it is refused for that.
        let err = kernel.change(Ask::Add, &route(1, 32, u32::MAX >> 1).message()).unwrap_err();
        let errno = Errno::from_io_error(&err).unwrap();
        assert!([Errno::NODEV, Errno::PERM, Errno::INVAL].contains(&errno), "{err}");
    }
}

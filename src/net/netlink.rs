//! The routes that make ClusterIPs ours: `local <ClusterIP> dev <bridge>`, one per address that a Service has.
//!
//! Called by the role `skiff proxy`. With such a route the kernel answers ARP for the address on the pods' bridge, and a socket can be
//! bound to it. It goes away with the bridge and comes back with it: this watches both. The rest of the Service range has no route and
//! so is nobody's: a program that listens on every address of the machine does not answer there.
//!
//! **Invariants**: nothing in the machine's routing is touched but routes of this kind inside the Service range. Missing routes are
//! added before others are removed. Looking changes nothing, so that watching for changes does not feed itself.

use crate::{
    base::{backoff::Backoff, chain::chain, task},
    net::table::IpRange,
};
use futures::{Stream, StreamExt as _, TryStreamExt as _, channel::mpsc::UnboundedReceiver};
use rtnetlink::{
    Handle, MulticastGroup, RouteMessageBuilder, new_multicast_connection,
    packet_core::{NetlinkMessage, NetlinkPayload},
    packet_route::{
        RouteNetlinkMessage,
        link::LinkAttribute,
        route::{RouteAddress, RouteAttribute, RouteMessage, RouteProtocol, RouteScope, RouteType},
    },
    sys::SocketAddr,
};
use std::{
    collections::BTreeSet,
    net::{IpAddr, Ipv4Addr},
    time::Duration,
};
use tokio::{sync::watch, task::JoinHandle};
use tracing::{info, warn};

/// How long to wait between attempts that fail. The bridge's own events end the wait.
const RETRY: Backoff = Backoff { base: Duration::from_millis(100), cap: Duration::from_secs(5) };

/// How often to look although nothing was heard: a safety net.
const RESYNC: Duration = Duration::from_secs(60);

/// The kernel's table of local addresses.
const LOCAL_TABLE: u32 = 255;

const EPERM: i32 = -1;
const ESRCH: i32 = -3;

/// The addresses that are wanted; nothing while that is not known yet, and then nothing is changed.
pub type WantedAddresses = watch::Receiver<Option<BTreeSet<Ipv4Addr>>>;

/// Why the routes are not there.
#[derive(Debug, thiserror::Error)]
pub enum RouteError {
    /// The kernel does not talk to us.
    #[error("cannot open a netlink socket")]
    Open(#[source] std::io::Error),
    /// The network of the pods does not exist (yet).
    #[error("there is no network interface {0}")]
    NoBridge(String),
    /// The capability is missing.
    #[error("changing the routes of {0} needs the capability NET_ADMIN")]
    Denied(IpRange),
    /// Anything else.
    #[error("cannot {0}")]
    Other(&'static str, #[source] rtnetlink::Error),
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

type Heard = UnboundedReceiver<(NetlinkMessage<RouteNetlinkMessage>, SocketAddr)>;

/// Talks to the kernel about the routes.
pub struct RouteKeeper {
    routes: ServiceRoutes,
    handle: Handle,
    heard: Heard,
    connection: JoinHandle<()>,
}

impl Drop for RouteKeeper {
    fn drop(&mut self) {
        self.connection.abort();
    }
}

impl RouteKeeper {
    /// Opens the conversation.
    pub fn open(routes: ServiceRoutes) -> Result<Self, RouteError> {
        let groups = [MulticastGroup::Link, MulticastGroup::Ipv4Route];
        let (connection, handle, heard) = new_multicast_connection(&groups).map_err(RouteError::Open)?;
        let connection = task::spawn("netlink", connection);
        Ok(Self { routes, handle, heard, connection })
    }

    /// Makes the routes those of these addresses; returns how many were added and removed.
    pub async fn ensure(&self, wanted: &BTreeSet<Ipv4Addr>) -> Result<(usize, usize), RouteError> {
        let bridge = self.bridge_index().await?;
        let changes = plan(&self.current().await?, wanted, bridge);
        for route in &changes.add {
            let request = self.handle.route().add(route.message()).replace();
            request.execute().await.map_err(|err| self.refused("add a route", err))?;
        }
        for route in &changes.remove {
            match self.handle.route().del(route.message()).execute().await {
                // Gone already.
                Err(rtnetlink::Error::NetlinkError(told)) if told.code.is_some_and(|code| code.get() == ESRCH) => {}
                removed => removed.map_err(|err| self.refused("remove a route", err))?,
            }
        }
        Ok((changes.add.len(), changes.remove.len()))
    }

    /// Keeps the routes as wanted until nobody wants anything any more.
    pub async fn keep(mut self, mut wanted: WantedAddresses) {
        let mut failures = 0;
        loop {
            let addresses = wanted.borrow_and_update().clone();
            let patience = match addresses {
                None => RESYNC,
                Some(addresses) => self.ensure_and_tell(&addresses, &mut failures).await,
            };
            tokio::select! { biased;
                changed = wanted.changed() => if changed.is_err() { return },
                touched = tokio::time::timeout(patience, self.touched()) => if touched == Ok(false) {
                    warn!(component = "netlink", "the kernel ended the conversation; looking from time to time only");
                    tokio::time::sleep(patience).await;
                },
            }
        }
    }

    /// Makes the routes as wanted; returns when to look again although nothing was heard.
    async fn ensure_and_tell(&self, wanted: &BTreeSet<Ipv4Addr>, failures: &mut u32) -> Duration {
        let bridge = self.routes.bridge.as_str();
        match self.ensure(wanted).await {
            Ok((added, removed)) => {
                if (added, removed) != (0, 0) {
                    info!(component = "netlink", bridge, added, removed, "the ClusterIPs of Services are local");
                }
                *failures = 0;
                RESYNC
            }
            Err(err) => {
                // Said once per trouble, not once per attempt.
                if *failures == 0 {
                    warn!(component = "netlink", err = chain(&err), "ClusterIPs are not local; trying again");
                }
                *failures += 1;
                RETRY.delay(*failures)
            }
        }
    }

    /// Waits until something happened to the bridge or a route; false when nothing will be heard any more.
    async fn touched(&mut self) -> bool {
        while let Some((message, _)) = self.heard.next().await {
            if self.routes.is_touched_by(&message) {
                return true;
            }
        }
        false
    }

    async fn bridge_index(&self) -> Result<u32, RouteError> {
        let name = &self.routes.bridge;
        let found = first(self.handle.link().get().match_name(name.clone()).execute()).await;
        match found {
            Ok(Some(link)) => Ok(link.header.index),
            // The kernel answers "no such device", whatever its words.
            Ok(None) | Err(rtnetlink::Error::NetlinkError(_)) => Err(RouteError::NoBridge(name.clone())),
            Err(err) => Err(RouteError::Other("look for the network interface", err)),
        }
    }

    /// The routes of ours that there are.
    async fn current(&self) -> Result<Vec<Route>, RouteError> {
        let all = self.handle.route().get(RouteMessageBuilder::<Ipv4Addr>::new().build()).execute();
        let routes: Vec<RouteMessage> =
            all.try_collect().await.map_err(|err| RouteError::Other("read the routes", err))?;
        Ok(routes.iter().filter_map(|route| self.routes.ours(route)).collect())
    }

    fn refused(&self, what: &'static str, err: rtnetlink::Error) -> RouteError {
        match &err {
            rtnetlink::Error::NetlinkError(message) if message.code.is_some_and(|code| code.get() == EPERM) => {
                RouteError::Denied(self.routes.range)
            }
            _ => RouteError::Other(what, err),
        }
    }
}

/// Which routes to add and to remove. Pure.
fn plan(current: &[Route], wanted: &BTreeSet<Ipv4Addr>, interface: u32) -> Changes {
    let wanted: BTreeSet<Route> = wanted.iter().map(|to| Route { to: *to, bits: 32, interface }).collect();
    let current: BTreeSet<Route> = current.iter().copied().collect();
    // One that leads elsewhere is replaced, and then is no more.
    let is_replaced = |old: &&Route| wanted.contains(&Route { interface, ..**old });
    Changes {
        add: wanted.difference(&current).copied().collect(),
        remove: current.difference(&wanted).filter(|old| !is_replaced(old)).copied().collect(),
    }
}

impl Route {
    fn message(&self) -> RouteMessage {
        RouteMessageBuilder::<Ipv4Addr>::new()
            .destination_prefix(self.to, self.bits)
            .output_interface(self.interface)
            .table_id(LOCAL_TABLE)
            .protocol(RouteProtocol::Static)
            .scope(RouteScope::Host)
            .kind(RouteType::Local)
            .build()
    }
}

impl ServiceRoutes {
    /// The route, if it is one of ours: made by us, inside our range.
    fn ours(&self, route: &RouteMessage) -> Option<Route> {
        let bits = route.header.destination_prefix_length;
        let is_like_ours = route.header.kind == RouteType::Local && route.header.protocol == RouteProtocol::Static;
        let to = route.attributes.iter().find_map(|attribute| match attribute {
            RouteAttribute::Destination(RouteAddress::Inet(ip)) => Some(*ip),
            _ => None,
        })?;
        let is_inside = bits >= self.range.parts().1 && self.range.contains(IpAddr::V4(to));
        (is_like_ours && is_inside).then(|| Route { to, bits, interface: interface(route).unwrap_or_default() })
    }

    fn is_touched_by(&self, message: &NetlinkMessage<RouteNetlinkMessage>) -> bool {
        let NetlinkPayload::InnerMessage(inner) = &message.payload else { return false };
        match inner {
            RouteNetlinkMessage::NewLink(link) => link
                .attributes
                .iter()
                .any(|attribute| matches!(attribute, LinkAttribute::IfName(name) if *name == self.bridge)),
            RouteNetlinkMessage::DelRoute(route) => self.ours(route).is_some(),
            _ => false,
        }
    }
}

fn interface(route: &RouteMessage) -> Option<u32> {
    route.attributes.iter().find_map(|attribute| match attribute {
        RouteAttribute::Oif(index) => Some(*index),
        _ => None,
    })
}

async fn first<T>(stream: impl Stream<Item = Result<T, rtnetlink::Error>>) -> Result<Option<T>, rtnetlink::Error> {
    std::pin::pin!(stream).try_next().await
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

    fn wanted(lasts: &[u8]) -> BTreeSet<Ipv4Addr> {
        lasts.iter().map(|last| Ipv4Addr::new(10, 245, 0, *last)).collect()
    }

    #[tokio::test]
    async fn a_missing_bridge_is_named() {
        let keeper = RouteKeeper::open(routes("no-such-bridge")).unwrap();
        let err = keeper.ensure(&wanted(&[1])).await.unwrap_err();
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
    fn only_routes_that_skiff_made_inside_the_range_are_its_own() {
        let ours = routes("br0");
        assert_eq!(ours.ours(&route(1, 32, 7).message()), Some(route(1, 32, 7)));
        assert_eq!(ours.ours(&route(0, 16, 7).message()), Some(route(0, 16, 7)), "as earlier versions made it");
        assert_eq!(ours.ours(&Route { to: Ipv4Addr::new(10, 246, 0, 1), ..route(1, 32, 7) }.message()), None);
        assert_eq!(ours.ours(&route(0, 15, 7).message()), None);
        let changed = |change: fn(&mut RouteMessage)| {
            let mut message = route(1, 32, 7).message();
            change(&mut message);
            ours.ours(&message)
        };
        assert_eq!(changed(|message| message.header.kind = RouteType::Unicast), None);
        assert_eq!(changed(|message| message.header.protocol = RouteProtocol::Kernel), None);
    }

    #[test]
    fn only_the_bridge_and_a_lost_route_matter() {
        let routes = routes("br0");
        let heard = |inner| routes.is_touched_by(&NetlinkMessage::from(inner));
        let link = |name: &str| {
            let mut link = rtnetlink::packet_route::link::LinkMessage::default();
            link.attributes.push(LinkAttribute::IfName(name.to_owned()));
            RouteNetlinkMessage::NewLink(link)
        };
        assert!(heard(link("br0")));
        assert!(!heard(link("veth1")));
        assert!(heard(RouteNetlinkMessage::DelRoute(route(1, 32, 7).message())));
        assert!(!heard(RouteNetlinkMessage::NewRoute(route(1, 32, 7).message())));
    }
}

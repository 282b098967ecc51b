//! The one route that makes the Service range ours: `local <range> dev <bridge>`.
//!
//! Called by the role `skiff proxy`. With this route the kernel answers ARP for every ClusterIP on the pods' bridge, and any
//! socket can be bound to one. It goes away with the bridge and comes back with it: this watches both.
//!
//! **Invariants**: nothing else in the machine's routing is touched. Looking changes nothing, so that watching for changes does
//! not feed itself.

use crate::base::{backoff::Backoff, chain::chain, task};
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
use std::{net::Ipv4Addr, time::Duration};
use tokio::task::JoinHandle;
use tracing::{info, warn};

/// How long to wait between attempts that fail. The bridge's own events end the wait.
const RETRY: Backoff = Backoff { base: Duration::from_millis(100), cap: Duration::from_secs(5) };

/// How often to look although nothing was heard: a safety net.
const RESYNC: Duration = Duration::from_secs(60);

/// The kernel's table of local addresses.
const LOCAL_TABLE: u32 = 255;

const EPERM: i32 = -1;

/// Why the route is not there.
#[derive(Debug, thiserror::Error)]
pub enum RouteError {
    /// The kernel does not talk to us.
    #[error("cannot open a netlink socket")]
    Open(#[source] std::io::Error),
    /// The network of the pods does not exist (yet).
    #[error("there is no network interface {0}")]
    NoBridge(String),
    /// The capability is missing.
    #[error("adding the route local {0}/{1} needs the capability NET_ADMIN")]
    Denied(Ipv4Addr, u8),
    /// Anything else.
    #[error("cannot {0}")]
    Other(&'static str, #[source] rtnetlink::Error),
}

/// The route that is wanted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ServiceRoute {
    /// The range's first address.
    pub base: Ipv4Addr,
    /// The range's length.
    pub bits: u8,
    /// The pods' bridge.
    pub bridge: String,
}

/// What was done about the route.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Found {
    /// It was there.
    Present,
    /// It was added.
    Added,
    /// It led elsewhere and was replaced.
    Replaced,
}

type Heard = UnboundedReceiver<(NetlinkMessage<RouteNetlinkMessage>, SocketAddr)>;

/// Talks to the kernel about one route.
pub struct RouteKeeper {
    wanted: ServiceRoute,
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
    pub fn open(wanted: ServiceRoute) -> Result<Self, RouteError> {
        let groups = [MulticastGroup::Link, MulticastGroup::Ipv4Route];
        let (connection, handle, heard) = new_multicast_connection(&groups).map_err(RouteError::Open)?;
        let connection = task::spawn("netlink", connection);
        Ok(Self { wanted, handle, heard, connection })
    }

    /// Adds the route if it is missing.
    pub async fn ensure(&self) -> Result<Found, RouteError> {
        let bridge = self.bridge_index().await?;
        let found = match self.current_interface().await? {
            Some(index) if index == bridge => return Ok(Found::Present),
            Some(_) => Found::Replaced,
            None => Found::Added,
        };
        let request = self.handle.route().add(self.wanted.message(bridge));
        request.replace().execute().await.map_err(|err| self.refused(err))?;
        Ok(found)
    }

    /// Keeps the route in place for ever.
    pub async fn keep(mut self) {
        let mut failures = 0;
        loop {
            match self.ensure().await {
                Ok(found) => {
                    if found != Found::Present {
                        let (range, bridge) = (self.wanted.range(), self.wanted.bridge.as_str());
                        info!(component = "netlink", range, bridge, "the Service range is local");
                    }
                    failures = 0;
                }
                Err(err) => {
                    // Said once per trouble, not once per attempt.
                    if failures == 0 {
                        warn!(component = "netlink", err = chain(&err), "the Service range is not local; trying again");
                    }
                    failures += 1;
                }
            }
            let patience = if failures == 0 { RESYNC } else { RETRY.delay(failures) };
            if tokio::time::timeout(patience, self.touched()).await == Ok(false) {
                warn!(component = "netlink", "the kernel ended the conversation; looking from time to time only");
                tokio::time::sleep(patience).await;
            }
        }
    }

    /// Waits until something happened to the bridge or the route; false when nothing will be heard any more.
    async fn touched(&mut self) -> bool {
        while let Some((message, _)) = self.heard.next().await {
            if self.wanted.is_touched_by(&message) {
                return true;
            }
        }
        false
    }

    async fn bridge_index(&self) -> Result<u32, RouteError> {
        let name = &self.wanted.bridge;
        let found = first(self.handle.link().get().match_name(name.clone()).execute()).await;
        match found {
            Ok(Some(link)) => Ok(link.header.index),
            // The kernel answers "no such device", whatever its words.
            Ok(None) | Err(rtnetlink::Error::NetlinkError(_)) => Err(RouteError::NoBridge(name.clone())),
            Err(err) => Err(RouteError::Other("look for the network interface", err)),
        }
    }

    /// Where the route leads now.
    async fn current_interface(&self) -> Result<Option<u32>, RouteError> {
        let all = self.handle.route().get(RouteMessageBuilder::<Ipv4Addr>::new().build()).execute();
        let routes: Vec<RouteMessage> =
            all.try_collect().await.map_err(|err| RouteError::Other("read the routes", err))?;
        Ok(routes.iter().find(|route| self.wanted.is(route)).and_then(interface))
    }

    fn refused(&self, err: rtnetlink::Error) -> RouteError {
        match &err {
            rtnetlink::Error::NetlinkError(message) if message.code.is_some_and(|code| code.get() == EPERM) => {
                RouteError::Denied(self.wanted.base, self.wanted.bits)
            }
            _ => RouteError::Other("add the route", err),
        }
    }
}

impl ServiceRoute {
    fn message(&self, interface: u32) -> RouteMessage {
        RouteMessageBuilder::<Ipv4Addr>::new()
            .destination_prefix(self.base, self.bits)
            .output_interface(interface)
            .table_id(LOCAL_TABLE)
            .protocol(RouteProtocol::Static)
            .scope(RouteScope::Host)
            .kind(RouteType::Local)
            .build()
    }

    fn is(&self, route: &RouteMessage) -> bool {
        let leads_here = |attribute: &RouteAttribute| matches!(attribute, RouteAttribute::Destination(RouteAddress::Inet(ip)) if *ip == self.base);
        route.header.kind == RouteType::Local
            && route.header.destination_prefix_length == self.bits
            && route.attributes.iter().any(leads_here)
    }

    fn is_touched_by(&self, message: &NetlinkMessage<RouteNetlinkMessage>) -> bool {
        let NetlinkPayload::InnerMessage(inner) = &message.payload else { return false };
        match inner {
            RouteNetlinkMessage::NewLink(link) => link
                .attributes
                .iter()
                .any(|attribute| matches!(attribute, LinkAttribute::IfName(name) if *name == self.bridge)),
            RouteNetlinkMessage::DelRoute(route) => self.is(route),
            _ => false,
        }
    }

    fn range(&self) -> String {
        format!("{}/{}", self.base, self.bits)
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

    fn wanted(bridge: &str) -> ServiceRoute {
        ServiceRoute { base: Ipv4Addr::new(10, 245, 0, 0), bits: 16, bridge: bridge.to_owned() }
    }

    #[tokio::test]
    async fn a_missing_bridge_is_named() {
        let keeper = RouteKeeper::open(wanted("no-such-bridge")).unwrap();
        let err = keeper.ensure().await.unwrap_err();
        assert_eq!(err.to_string(), "there is no network interface no-such-bridge");
    }

    #[test]
    fn the_route_is_recognised_by_its_kind_range_and_length() {
        let route = wanted("br0");
        let same = route.message(7);
        assert!(route.is(&same));
        assert_eq!(interface(&same), Some(7));
        let other_length = ServiceRoute { bits: 17, ..wanted("br0") };
        assert!(!route.is(&other_length.message(7)));
        let mut unicast = route.message(7);
        unicast.header.kind = RouteType::Unicast;
        assert!(!route.is(&unicast));
    }

    #[test]
    fn only_the_bridge_and_the_lost_route_matter() {
        let route = wanted("br0");
        let heard = |inner| route.is_touched_by(&NetlinkMessage::from(inner));
        let link = |name: &str| {
            let mut link = rtnetlink::packet_route::link::LinkMessage::default();
            link.attributes.push(LinkAttribute::IfName(name.to_owned()));
            RouteNetlinkMessage::NewLink(link)
        };
        assert!(heard(link("br0")));
        assert!(!heard(link("veth1")));
        assert!(heard(RouteNetlinkMessage::DelRoute(route.message(1))));
        assert!(!heard(RouteNetlinkMessage::NewRoute(route.message(1))));
    }
}

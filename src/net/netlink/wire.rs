//! What is said over a netlink socket: the few messages about routes that are needed, as bytes.
//!
//! Pure. Whatever arrives is checked; what is not known is [`Message::Other`].
//! **Source**: `netlink(7)`, `rtnetlink(7)`, `linux/netlink.h`, `linux/rtnetlink.h`, `linux/if_link.h`.

use std::net::Ipv4Addr;

const NLMSG_ERROR: u16 = 2;
const NLMSG_DONE: u16 = 3;
const RTM_NEWLINK: u16 = 16;
const RTM_NEWROUTE: u16 = 24;
const RTM_DELROUTE: u16 = 25;
const RTM_GETROUTE: u16 = 26;

const NLM_F_REQUEST: u16 = 0x1;
const NLM_F_ACK: u16 = 0x4;
const NLM_F_DUMP_INTR: u16 = 0x10;
const NLM_F_DUMP: u16 = 0x300;
const NLM_F_REPLACE: u16 = 0x100;
const NLM_F_CREATE: u16 = 0x400;

const RTA_DST: u16 = 1;
const RTA_OIF: u16 = 4;
const IFLA_IFNAME: u16 = 3;
/// Flags in an attribute's type.
const NLA_TYPE_MASK: u16 = 0x3fff;

const AF_INET: u8 = 2;
const HEADER_BYTES: usize = 16;
const ROUTE_BYTES: usize = 12;
const LINK_BYTES: usize = 16;
const ATTRIBUTE_BYTES: usize = 4;

/// The kernel's table of local addresses.
pub(super) const TABLE_LOCAL: u8 = 255;
/// Made by an administrator, as this is.
pub(super) const PROTOCOL_STATIC: u8 = 4;
/// On this machine.
pub(super) const SCOPE_HOST: u8 = 254;
/// Accept as an address of this machine.
pub(super) const TYPE_LOCAL: u8 = 2;

/// Tell whoever asks that nobody is there.
pub(super) const TYPE_UNREACHABLE: u8 = 7;

/// What is asked of the kernel.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Ask {
    /// Add the route, in place of one to the same destination.
    Add,
    /// Remove the route.
    Remove,
    /// Tell all IPv4 routes of all tables.
    All,
}

/// A route of IPv4.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct RouteMessage {
    pub(super) bits: u8,
    pub(super) table: u8,
    pub(super) protocol: u8,
    pub(super) scope: u8,
    pub(super) kind: u8,
    /// Nothing: the default route.
    pub(super) to: Option<Ipv4Addr>,
    pub(super) interface: Option<u32>,
}

/// What the kernel says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Message {
    /// An interface is new or changed.
    Link(String),
    /// There is this route.
    Route(RouteMessage),
    /// This route went.
    RouteGone(RouteMessage),
    /// That was all.
    Done,
    /// What was asked is done, or failed with this error number.
    Answer(Option<i32>),
    /// Anything else.
    Other,
}

/// A message and the request that it answers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Told {
    pub(super) sequence: u32,
    /// Whether the routes changed while they were told.
    pub(super) is_torn: bool,
    pub(super) message: Message,
}

/// The request, as bytes.
pub(super) fn request(ask: Ask, route: &RouteMessage, sequence: u32) -> Vec<u8> {
    let (what, flags) = match ask {
        Ask::Add => (RTM_NEWROUTE, NLM_F_ACK | NLM_F_CREATE | NLM_F_REPLACE),
        Ask::Remove => (RTM_DELROUTE, NLM_F_ACK),
        Ask::All => (RTM_GETROUTE, NLM_F_DUMP),
    };
    packet(what, NLM_F_REQUEST | flags, sequence, &body(route))
}

fn packet(what: u16, flags: u16, sequence: u32, body: &[u8]) -> Vec<u8> {
    let length = u32::try_from(HEADER_BYTES + body.len()).expect("messages are short");
    let mut bytes = length.to_ne_bytes().to_vec();
    bytes.extend(what.to_ne_bytes());
    bytes.extend(flags.to_ne_bytes());
    bytes.extend(sequence.to_ne_bytes());
    // The kernel's own number, whom this goes to.
    bytes.extend(0u32.to_ne_bytes());
    bytes.extend(body);
    bytes
}

fn body(route: &RouteMessage) -> Vec<u8> {
    let mut bytes = vec![AF_INET, route.bits, 0, 0, route.table, route.protocol, route.scope, route.kind, 0, 0, 0, 0];
    let mut attribute = |kind: u16, value: [u8; 4]| {
        bytes.extend(8u16.to_ne_bytes());
        bytes.extend(kind.to_ne_bytes());
        bytes.extend(value);
    };
    if let Some(to) = route.to {
        attribute(RTA_DST, to.octets());
    }
    if let Some(interface) = route.interface {
        attribute(RTA_OIF, interface.to_ne_bytes());
    }
    bytes
}

/// What one packet says. A message that is cut off ends it.
pub(super) fn read(mut packet: &[u8]) -> Vec<Told> {
    let mut all = Vec::new();
    while let Some(length) = u32_at(packet, 0).and_then(|length| usize::try_from(length).ok()) {
        let Some(body) = packet.get(HEADER_BYTES..length) else { break };
        let (Some(what), Some(flags), Some(sequence)) = (u16_at(packet, 4), u16_at(packet, 6), u32_at(packet, 8))
        else {
            break;
        };
        all.push(Told { sequence, is_torn: flags & NLM_F_DUMP_INTR != 0, message: message(what, body) });
        packet = packet.get(aligned(length)..).unwrap_or_default();
    }
    all
}

fn message(what: u16, body: &[u8]) -> Message {
    let found = match what {
        NLMSG_DONE => Some(Message::Done),
        NLMSG_ERROR => {
            u32_at(body, 0).map(|code| Message::Answer((code != 0).then(|| code.cast_signed().wrapping_neg())))
        }
        RTM_NEWLINK => link_name(body).map(Message::Link),
        RTM_NEWROUTE => route(body).map(Message::Route),
        RTM_DELROUTE => route(body).map(Message::RouteGone),
        _ => None,
    };
    found.unwrap_or(Message::Other)
}

fn link_name(body: &[u8]) -> Option<String> {
    let (_, name) = attributes(body.get(LINK_BYTES..)?).find(|(kind, _)| *kind == IFLA_IFNAME)?;
    let name = name.split(|byte| *byte == 0).next()?;
    String::from_utf8(name.to_vec()).ok()
}

fn route(body: &[u8]) -> Option<RouteMessage> {
    let (header, rest) = body.split_at_checked(ROUTE_BYTES)?;
    if header[0] != AF_INET {
        return None;
    }
    let value = |wanted: u16| -> Option<[u8; 4]> {
        let (_, value) = attributes(rest).find(|(kind, _)| *kind == wanted)?;
        value.try_into().ok()
    };
    Some(RouteMessage {
        bits: header[1],
        table: header[4],
        protocol: header[5],
        scope: header[6],
        kind: header[7],
        to: value(RTA_DST).map(Ipv4Addr::from),
        interface: value(RTA_OIF).map(u32::from_ne_bytes),
    })
}

fn attributes(mut rest: &[u8]) -> impl Iterator<Item = (u16, &[u8])> {
    std::iter::from_fn(move || {
        let length = usize::from(u16_at(rest, 0)?);
        let kind = u16_at(rest, 2)? & NLA_TYPE_MASK;
        let value = rest.get(ATTRIBUTE_BYTES..length)?;
        rest = rest.get(aligned(length)..).unwrap_or_default();
        Some((kind, value))
    })
}

/// Messages and attributes begin at multiples of four bytes.
fn aligned(length: usize) -> usize {
    length.next_multiple_of(4)
}

fn u16_at(bytes: &[u8], at: usize) -> Option<u16> {
    bytes.get(at..)?.first_chunk().map(|chunk| u16::from_ne_bytes(*chunk))
}

fn u32_at(bytes: &[u8], at: usize) -> Option<u32> {
    bytes.get(at..)?.first_chunk().map(|chunk| u32::from_ne_bytes(*chunk))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn route_message() -> RouteMessage {
        RouteMessage {
            bits: 32,
            table: TABLE_LOCAL,
            protocol: PROTOCOL_STATIC,
            scope: SCOPE_HOST,
            kind: TYPE_LOCAL,
            to: Some(Ipv4Addr::new(10, 245, 0, 1)),
            interface: Some(7),
        }
    }

    /// As the kernel tells of an interface: a header of `ifinfomsg`, then attributes, a name that is no multiple of four among them.
    fn link(name: &str) -> Vec<u8> {
        let mut body = vec![0; LINK_BYTES];
        for (kind, value) in [(13, &[0][..]), (IFLA_IFNAME, format!("{name}\0").as_bytes()), (4, &[0xdc, 5, 0, 0])] {
            body.extend(u16::try_from(ATTRIBUTE_BYTES + value.len()).unwrap().to_ne_bytes());
            body.extend(u16::to_ne_bytes(kind));
            body.extend(value);
            body.resize(aligned(body.len()), 0);
        }
        packet(RTM_NEWLINK, 0, 0, &body)
    }

    fn messages(packet: &[u8]) -> Vec<Message> {
        read(packet).into_iter().map(|told| told.message).collect()
    }

    #[test]
    fn what_is_asked_has_the_kernels_layout() {
        let bytes = request(Ask::Add, &route_message(), 9);
        let flags = (NLM_F_REQUEST | NLM_F_ACK | NLM_F_CREATE | NLM_F_REPLACE).to_ne_bytes();
        assert_eq!(bytes[..4], 44u32.to_ne_bytes());
        assert_eq!((&bytes[4..6], &bytes[6..8]), (&24u16.to_ne_bytes()[..], &flags[..]));
        assert_eq!(bytes[16..28], [2, 32, 0, 0, 255, 4, 254, 2, 0, 0, 0, 0]);
        assert_eq!(bytes[28..36], [8, 0, 1, 0, 10, 245, 0, 1]);
        assert_eq!(bytes[36..44], [8, 0, 4, 0, 7, 0, 0, 0]);
    }

    #[test]
    fn several_messages_of_one_packet_are_read() {
        let mut bytes = link("br-7");
        bytes.extend(packet(RTM_NEWROUTE, NLM_F_DUMP_INTR, 5, &body(&route_message())));
        bytes.extend(packet(NLMSG_ERROR, 0, 6, &(-3i32).to_ne_bytes()));
        bytes.extend(packet(NLMSG_ERROR, 0, 7, &0i32.to_ne_bytes()));
        bytes.extend(packet(NLMSG_DONE, 0, 5, &[0; 4]));
        let told = read(&bytes);
        assert_eq!(told.iter().map(|told| told.sequence).collect::<Vec<_>>(), [0, 5, 6, 7, 5]);
        assert_eq!(told.iter().map(|told| told.is_torn).collect::<Vec<_>>(), [false, true, false, false, false]);
        let link = Message::Link("br-7".into());
        let answers = [Message::Answer(Some(3)), Message::Answer(None)];
        let [refused, done] = answers;
        assert_eq!(messages(&bytes), [link, Message::Route(route_message()), refused, done, Message::Done]);
    }

    #[test]
    fn what_is_cut_off_or_not_known_is_passed_over() {
        let whole = request(Ask::Add, &route_message(), 1);
        for length in 0..whole.len() {
            assert_eq!(messages(&whole[..length]), []);
        }
        let ipv6 = RouteMessage { to: None, interface: None, ..route_message() };
        let mut bytes = packet(RTM_NEWROUTE, 0, 1, &body(&ipv6));
        bytes[HEADER_BYTES] = 10;
        assert_eq!(messages(&bytes), [Message::Other]);
        assert_eq!(messages(&packet(99, 0, 1, &[])), [Message::Other]);
    }

    proptest! {
        #[test]
        fn any_bytes_can_be_read(bytes in prop::collection::vec(any::<u8>(), 0..200), what in 0u16..30) {
            read(&bytes);
            prop_assert_eq!(read(&packet(what, 0, 1, &bytes)).len(), 1);
        }
    }
}

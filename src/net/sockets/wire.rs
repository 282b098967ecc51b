//! What a data plane and the store of its sockets say to each other: one word per packet, and the sockets that it is about.
//!
//! Used by both sides. Whatever arrives is checked: a word that is not known, or a descriptor that is no socket of a listener, is
//! refused, and descriptors that came with it are closed.

use crate::net::table::{ListenKey, Protocol};
use rustix::{
    fd::{BorrowedFd, OwnedFd},
    io::{Errno, IoSlice, IoSliceMut},
    net::{
        RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, ReturnFlags, SendAncillaryBuffer, SendAncillaryMessage,
        SendFlags, SocketType, getpeername, getsockname, recvmsg, sendmsg, sockopt::socket_type,
    },
};
use std::{mem::MaybeUninit, net::SocketAddr};

/// Sockets in one packet; the kernel takes 253.
pub(super) const SOCKETS_MAX: usize = 128;

/// The longest word.
const WORD_BYTES_MAX: usize = 96;

/// One word.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Word {
    /// To the store: I would lead. From the store: you lead.
    Lead,
    /// From the store: these are held.
    Held,
    /// To the store: keep this one.
    Keep,
    /// To the store: make the socket of this listener where ClusterIPs are, and keep it. It comes with [`Word::Held`].
    Make(ListenKey),
    /// From the store: it cannot be made.
    Refused(Errno),
    /// To the store: close this one. From the store: it is closed.
    Drop(ListenKey),
}

impl Word {
    fn text(&self) -> String {
        match self {
            Self::Lead => "lead".to_owned(),
            Self::Held => "held".to_owned(),
            Self::Keep => "keep".to_owned(),
            Self::Make(key) => format!("make {key}"),
            Self::Refused(errno) => format!("refused {}", errno.raw_os_error()),
            Self::Drop(key) => format!("drop {key}"),
        }
    }

    fn parse(text: &str) -> Option<Self> {
        match text {
            "lead" => Some(Self::Lead),
            "held" => Some(Self::Held),
            "keep" => Some(Self::Keep),
            _ => match text.split_once(' ')? {
                ("make", key) => parse_key(key).map(Self::Make),
                ("drop", key) => parse_key(key).map(Self::Drop),
                ("refused", number) => Some(Self::Refused(Errno::from_raw_os_error(number.parse().ok()?))),
                _ => None,
            },
        }
    }
}

fn parse_key(text: &str) -> Option<ListenKey> {
    let (address, protocol) = text.split_once('/')?;
    let protocol = [Protocol::Tcp, Protocol::Udp].into_iter().find(|p| p.to_string() == protocol)?;
    Some(ListenKey { address: address.parse().ok()?, protocol })
}

/// Says a word, and hands copies of sockets over.
pub(super) fn send(to: &OwnedFd, word: &Word, sockets: &[&OwnedFd]) -> Result<(), Errno> {
    use rustix::fd::AsFd as _;
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(SOCKETS_MAX))];
    let mut control = SendAncillaryBuffer::new(&mut space);
    let sockets: Vec<BorrowedFd<'_>> = sockets.iter().map(|socket| socket.as_fd()).collect();
    if !sockets.is_empty() && !control.push(SendAncillaryMessage::ScmRights(&sockets)) {
        return Err(Errno::INVAL);
    }
    sendmsg(to, &[IoSlice::new(word.text().as_bytes())], &mut control, SendFlags::NOSIGNAL).map(drop)
}

/// Hears a word, and takes the sockets that come with it. The other side's end is an error.
pub(super) fn receive(from: &OwnedFd) -> Result<(Word, Vec<OwnedFd>), Errno> {
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(SOCKETS_MAX))];
    let mut control = RecvAncillaryBuffer::new(&mut space);
    let mut bytes = [0; WORD_BYTES_MAX];
    let heard = recvmsg(from, &mut [IoSliceMut::new(&mut bytes)], &mut control, RecvFlags::CMSG_CLOEXEC)?;
    let sockets: Vec<OwnedFd> = control.drain().filter_map(rights).flatten().collect();
    if heard.bytes == 0 {
        return Err(Errno::PIPE);
    }
    if heard.flags.intersects(ReturnFlags::TRUNC | ReturnFlags::CTRUNC) {
        return Err(Errno::MSGSIZE);
    }
    let word = std::str::from_utf8(&bytes[..heard.bytes]).ok().and_then(Word::parse);
    Ok((word.ok_or(Errno::PROTO)?, sockets))
}

fn rights(message: RecvAncillaryMessage<'_>) -> Option<impl Iterator<Item = OwnedFd>> {
    if let RecvAncillaryMessage::ScmRights(sockets) = message { Some(sockets) } else { None }
}

/// Which listener a socket is for; nothing for what is none: another kind of descriptor, no port, or a connection.
pub(super) fn key_of(socket: &OwnedFd) -> Option<ListenKey> {
    let protocol = match socket_type(socket).ok()? {
        SocketType::STREAM => Protocol::Tcp,
        SocketType::DGRAM => Protocol::Udp,
        _ => return None,
    };
    let address = SocketAddr::try_from(getsockname(socket).ok()?).ok()?;
    let is_connected = matches!(getpeername(socket), Ok(Some(_)));
    (address.port() != 0 && !is_connected).then_some(ListenKey { address, protocol })
}

#[cfg(test)]
mod tests {
    use super::*;
    use rustix::net::{AddressFamily, SocketFlags, socketpair};

    fn pair() -> (OwnedFd, OwnedFd) {
        socketpair(AddressFamily::UNIX, SocketType::SEQPACKET, SocketFlags::CLOEXEC, None).unwrap()
    }

    #[test]
    fn words_and_sockets_arrive_as_they_were_sent() {
        let (here, there) = pair();
        let listener = OwnedFd::from(std::net::TcpListener::bind("127.0.0.1:0").unwrap());
        let key = key_of(&listener).unwrap();
        let six = ListenKey { address: "[fd00::1]:53".parse().unwrap(), protocol: Protocol::Udp };
        let words = [Word::Lead, Word::Held, Word::Keep, Word::Drop(key), Word::Drop(six), Word::Make(key)];
        for word in words.into_iter().chain([Word::Refused(Errno::ADDRINUSE)]) {
            send(&here, &word, &[&listener, &listener]).unwrap();
            let (heard, sockets) = receive(&there).unwrap();
            assert_eq!(heard, word);
            assert_eq!(sockets.iter().map(key_of).collect::<Vec<_>>(), [Some(key), Some(key)]);
        }
    }

    #[test]
    fn what_is_not_known_or_too_long_is_an_error_and_so_is_the_end() {
        let (here, there) = pair();
        for text in [
            "",
            "leads",
            "drop",
            "drop x/TCP",
            "drop 1.2.3.4:5/SCTP",
            "make",
            "refused x",
            &"x".repeat(WORD_BYTES_MAX + 1),
        ] {
            rustix::net::send(&here, text.as_bytes(), SendFlags::NOSIGNAL).unwrap();
            assert!(receive(&there).is_err(), "{text}");
        }
        drop(here);
        assert_eq!(receive(&there).unwrap_err(), Errno::PIPE);
    }

    #[test]
    fn only_a_listeners_socket_has_a_key() {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let client = std::net::TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        let datagrams = std::net::UdpSocket::bind("127.0.0.1:0").unwrap();
        let (listener, datagrams) = (OwnedFd::from(listener), OwnedFd::from(datagrams));
        assert!(key_of(&listener).is_some() && key_of(&datagrams).is_some());
        assert_eq!(key_of(&client.into()), None);
        assert_eq!(key_of(&std::fs::File::open("/dev/null").unwrap().into()), None);
        assert_eq!(key_of(&pair().0), None);
    }
}

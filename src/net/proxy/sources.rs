//! The addresses from which endpoints are dialed.
//!
//! Used by `conn`. Normally the kernel chooses. But every client of a Service reaches an endpoint from the same address of the
//! machine, and a connection that we close first holds its port for a minute: past some hundred connections a second to one
//! endpoint, ports run out. Then a few addresses at the end of the Service range serve as more sources: the host has routes
//! to itself for them (`netlink`), and the pods have them on-link.

use super::rotation::{Millis, millis};
use crate::{base::ordered::Set, net::ports::family};
use rustix::{
    fd::OwnedFd,
    io::Errno,
    net::{SocketFlags, SocketType, bind, connect, socket_with, sockopt::set_tcp_quickack},
};
use std::{
    net::{Ipv4Addr, SocketAddr},
    sync::atomic::{AtomicU64, AtomicUsize, Ordering::Relaxed},
    time::Duration,
};

/// For how long spare addresses are used once ports ran out. Finding out is dear: the kernel looks at every port.
const SHORTAGE: Duration = Duration::from_secs(5);

/// Who speaks first on a connection that begins.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Opening {
    /// The client has spoken already. Its words end the handshake: a packet less, and the endpoint wakes once, not twice.
    /// Once the handshake stands, the kernel acknowledges at once again, as endpoints that reply in pieces need.
    WithWords,
    /// Perhaps the endpoint, which must learn at once that the connection stands.
    Silent,
}

/// Where connections to endpoints come from.
#[derive(Debug, Default)]
pub(super) struct Sources {
    /// Addresses that may be used beside those that the kernel chooses.
    spare: Vec<Ipv4Addr>,
    turn: AtomicUsize,
    short_until: AtomicU64,
}

impl Sources {
    /// With these addresses to spare.
    pub(super) fn new(spare: &Set<Ipv4Addr>) -> Self {
        Self { spare: spare.iter().copied().collect(), ..Self::default() }
    }

    /// Begins to connect. Who has something to say at once says so.
    pub(super) fn connect(&self, to: SocketAddr, opening: Opening, now: Millis) -> Result<OwnedFd, Errno> {
        let is_short = self.short_until.load(Relaxed) > now;
        match connect_from(self.spare_for(to).filter(|_| is_short), to, opening) {
            Err(Errno::ADDRNOTAVAIL) => {
                self.short_until.store(now + millis(SHORTAGE), Relaxed);
                let spare = self.spare_for(to).ok_or(Errno::ADDRNOTAVAIL)?;
                connect_from(Some(spare), to, opening)
            }
            begun => begun,
        }
    }

    fn spare_for(&self, to: SocketAddr) -> Option<SocketAddr> {
        let spare = &self.spare;
        if spare.is_empty() || !to.is_ipv4() || to.ip().is_loopback() {
            return None;
        }
        let address = spare[self.turn.fetch_add(1, Relaxed) % spare.len()];
        Some((address, 0).into())
    }
}

fn connect_from(source: Option<SocketAddr>, to: SocketAddr, opening: Opening) -> Result<OwnedFd, Errno> {
    let socket = socket_with(family(to), SocketType::STREAM, SocketFlags::NONBLOCK | SocketFlags::CLOEXEC, None)?;
    if let Some(source) = source {
        bind(&socket, &source)?;
    }
    if opening == Opening::WithWords {
        // Refused: then the handshake ends with a packet of its own, as ever.
        set_tcp_quickack(&socket, false).ok();
    }
    match connect(&socket, &to) {
        Ok(()) | Err(Errno::INPROGRESS) => Ok(socket),
        Err(err) => Err(err),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use rustix::{
        event::{PollFd, PollFlags, poll},
        net::sockopt::tcp_quickack,
    };

    fn spares(addresses: &[Ipv4Addr], to: &str, n: usize) -> Vec<String> {
        let sources = Sources::new(&addresses.iter().copied().collect());
        (0..n).filter_map(|_| sources.spare_for(to.parse().unwrap())).map(|spare| spare.ip().to_string()).collect()
    }

    const TWO: [Ipv4Addr; 2] = [Ipv4Addr::new(10, 245, 0, 1), Ipv4Addr::new(10, 245, 0, 10)];

    #[test]
    fn spare_addresses_take_turns() {
        assert_eq!(spares(&TWO, "10.244.0.1:80", 3), ["10.245.0.1", "10.245.0.10", "10.245.0.1"]);
    }

    #[test]
    fn an_endpoint_on_loopback_has_no_spare_source() {
        assert!(spares(&TWO, "127.0.0.1:80", 1).is_empty());
        assert!(spares(&[], "10.244.0.1:80", 1).is_empty());
    }

    #[test]
    fn after_a_handshake_that_waits_for_words_acknowledgements_do_not_wait() {
        let listener = std::net::TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        for opening in [Opening::Silent, Opening::WithWords] {
            let socket = Sources::default().connect(listener.local_addr().unwrap(), opening, 0).unwrap();
            let mut ready = [PollFd::new(&socket, PollFlags::OUT)];
            assert_eq!(poll(&mut ready, None).unwrap(), 1);
            assert!(tcp_quickack(&socket).unwrap(), "{opening:?}");
        }
    }
}

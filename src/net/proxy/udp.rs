//! Datagrams: every client of a listener gets a flow to one endpoint, and replies go back through the listener's socket.
//!
//! Owned by one worker; a datagram listener belongs to one worker alone, so datagrams of a client keep their order.
//!
//! **Invariants**: a flow is forgotten when nothing passed for a while, as connection tracking does, or when its endpoint leaves
//! the rotation. The number of flows is bounded; beyond it the one idle for longest makes room.
//!
//! **Source**: time-outs of `nf_conntrack_udp_timeout` (30 s) and `nf_conntrack_udp_timeout_stream` (120 s).

use super::{
    listener::Listening,
    rotation::{Claim, Millis},
    token::Subject,
};
use crate::{
    base::{ordered::Map, reached::Reached},
    net::ports::family,
};
use rustix::{
    event::epoll::{self, EventFlags},
    fd::OwnedFd,
    io::Errno,
    net::{RecvFlags, SendFlags, SocketFlags, SocketType, connect, recv, recvfrom, send, sendto, socket_with},
};
use std::{
    collections::BTreeMap,
    net::SocketAddr,
    sync::{Arc, atomic::Ordering::Relaxed},
};
use tracing::warn;

/// A flow without a reply ends after this.
const UNREPLIED_MS: Millis = 30_000;

/// A flow with replies ends after this.
const REPLIED_MS: Millis = 120_000;

/// How often old flows are looked for.
const EXPIRY_PERIOD_MS: Millis = 5_000;

/// The most flows of one worker.
const FLOWS_MAX: usize = 4096;

/// Datagrams taken per event before others get their turn.
const DATAGRAMS_MAX: usize = 64;

/// Tells flows from listeners.
const FLOW_BIT: u64 = 1 << 61;

/// A worker's datagram listeners and flows.
#[derive(Debug, Default)]
pub(super) struct UdpSide {
    listeners: Map<u64, Arc<Listening>>,
    flows: BTreeMap<u64, Flow>,
    by_client: BTreeMap<(u64, SocketAddr), u64>,
    flows_made: u64,
    /// How often a flow was ended to make room for another.
    ended_early: Arc<Reached>,
    next_expiry: Option<Millis>,
}

#[derive(Debug)]
struct Flow {
    listening: Arc<Listening>,
    client: SocketAddr,
    socket: OwnedFd,
    claim: Claim,
    last_seen: Millis,
    is_replied: bool,
}

impl Flow {
    fn ends_at(&self) -> Millis {
        self.last_seen + if self.is_replied { REPLIED_MS } else { UNREPLIED_MS }
    }
}

impl UdpSide {
    /// Nothing yet; counts the flows that end for want of room.
    pub(super) fn new(ended_early: Arc<Reached>) -> Self {
        Self { ended_early, ..Self::default() }
    }

    /// Begins to serve a listener.
    pub(super) fn open(&mut self, epoll: &OwnedFd, listening: Arc<Listening>) {
        let data = Subject::Datagrams(listening.id).token();
        if let Err(err) = epoll::add(epoll, &listening.socket, data, EventFlags::IN) {
            warn!(component = "proxy", listener = %listening.front.key, err = %err, "cannot watch a datagram listener");
            return;
        }
        self.listeners.insert(listening.id, listening);
    }

    /// Ends a listener and its flows.
    pub(super) fn close(&mut self, epoll: &OwnedFd, id: u64) {
        if let Some(listening) = self.listeners.remove(&id) {
            // The socket may live on, for another front.
            epoll::delete(epoll, &listening.socket).ok();
        }
        self.drop_flows(|flow| flow.listening.id == id);
    }

    /// Ends flows whose endpoint left the rotation; their clients get another with their next datagram.
    pub(super) fn drop_leavers(&mut self) {
        self.drop_flows(|flow| !flow.claim.is_in_rotation());
    }

    /// When to look for old flows.
    pub(super) fn next_expiry(&self) -> Option<Millis> {
        self.next_expiry
    }

    /// Ends old flows, from time to time.
    pub(super) fn expire(&mut self, now: Millis) {
        if self.next_expiry.is_none_or(|due| due > now) {
            return;
        }
        self.drop_flows(|flow| flow.ends_at() <= now);
        self.next_expiry = (!self.flows.is_empty()).then_some(now + EXPIRY_PERIOD_MS);
    }

    /// Moves what a socket has.
    pub(super) fn on_event(&mut self, id: u64, epoll: &OwnedFd, scratch: &mut [u8], now: Millis) {
        if id & FLOW_BIT != 0 {
            self.take_replies(id, scratch, now);
        } else if let Some(listening) = self.listeners.get(&id).cloned() {
            for _ in 0..DATAGRAMS_MAX {
                let Ok((n, _, Some(from))) = recvfrom(&listening.socket, &mut *scratch, RecvFlags::empty()) else {
                    return;
                };
                let Ok(client) = SocketAddr::try_from(from) else { return };
                self.forward(&listening, client, &scratch[..n], epoll, now);
            }
        }
    }

    fn forward(
        &mut self,
        listening: &Arc<Listening>,
        client: SocketAddr,
        datagram: &[u8],
        epoll: &OwnedFd,
        now: Millis,
    ) {
        let known = self.by_client.get(&(listening.id, client)).copied();
        let Some(id) = known.or_else(|| self.begin(listening, client, epoll, now)) else { return };
        let Some(flow) = self.flows.get_mut(&id) else { return };
        flow.last_seen = now;
        match send(&flow.socket, datagram, SendFlags::NOSIGNAL) {
            Ok(n) => flow.claim.sent(n as u64),
            // As on any network: what cannot be sent now is lost.
            Err(Errno::AGAIN | Errno::INTR) => {}
            Err(_) => self.fail(id),
        }
    }

    fn begin(&mut self, listening: &Arc<Listening>, client: SocketAddr, epoll: &OwnedFd, now: Millis) -> Option<u64> {
        let who = client.ip().to_canonical();
        if !listening.front.admits(who) {
            return None;
        }
        let claim = listening.front.pick(Some(who), &[], now)?;
        claim.counters.connections.fetch_add(1, Relaxed);
        if self.flows.len() >= FLOWS_MAX {
            let idlest = self.flows.iter().min_by_key(|(_, flow)| flow.last_seen).map(|(id, _)| *id);
            idlest.into_iter().for_each(|id| self.drop_flow(id));
            if self.ended_early.is_first() {
                warn!(component = "proxy", max = FLOWS_MAX, client = %who, "too many datagram flows: the idlest end, from now on without a word");
            }
        }
        let id = FLOW_BIT | self.flows_made;
        let socket = match dial(claim.address, epoll, id) {
            Ok(socket) => socket,
            Err(_) => {
                claim.counters.errors.fetch_add(1, Relaxed);
                return None;
            }
        };
        self.flows_made += 1;
        let listening = Arc::clone(listening);
        self.by_client.insert((listening.id, client), id);
        self.flows.insert(id, Flow { listening, client, socket, claim, last_seen: now, is_replied: false });
        self.next_expiry.get_or_insert(now + EXPIRY_PERIOD_MS);
        Some(id)
    }

    fn take_replies(&mut self, id: u64, scratch: &mut [u8], now: Millis) {
        for _ in 0..DATAGRAMS_MAX {
            let Some(flow) = self.flows.get_mut(&id) else { return };
            match recv(&flow.socket, &mut *scratch, RecvFlags::empty()) {
                Ok((n, _)) => {
                    (flow.last_seen, flow.is_replied) = (now, true);
                    flow.claim.received(n as u64, now);
                    // A client that is gone loses its reply, as on any network.
                    sendto(&flow.listening.socket, &scratch[..n], SendFlags::NOSIGNAL, &flow.client).ok();
                }
                Err(Errno::AGAIN) => return,
                Err(Errno::INTR) => {}
                Err(_) => return self.fail(id),
            }
        }
    }

    /// The endpoint refused: the client's next datagram goes to another.
    fn fail(&mut self, id: u64) {
        if let Some(flow) = self.flows.get(&id) {
            flow.claim.counters.errors.fetch_add(1, Relaxed);
        }
        self.drop_flow(id);
    }

    fn drop_flows(&mut self, is_over: impl Fn(&Flow) -> bool) {
        let over: Vec<u64> = self.flows.iter().filter(|(_, flow)| is_over(flow)).map(|(id, _)| *id).collect();
        over.into_iter().for_each(|id| self.drop_flow(id));
    }

    fn drop_flow(&mut self, id: u64) {
        if let Some(flow) = self.flows.remove(&id) {
            self.by_client.remove(&(flow.listening.id, flow.client));
        }
    }
}

fn dial(address: SocketAddr, epoll: &OwnedFd, id: u64) -> Result<OwnedFd, Errno> {
    let socket = socket_with(family(address), SocketType::DGRAM, SocketFlags::NONBLOCK | SocketFlags::CLOEXEC, None)?;
    connect(&socket, &address)?;
    epoll::add(epoll, &socket, Subject::Datagrams(id).token(), EventFlags::IN)?;
    Ok(socket)
}

//! What a listener is to those who serve it.
//!
//! Made by the proxy when its table changes; shared with workers and connections.
//!
//! **Not here**: how its port is taken, opened and closed (`net::ports`).

use super::rotation::{Backends, Claim, Millis};
use crate::net::{
    reach::Insiders,
    table::{IpRange, ListenKey, Listener, Reach},
};
use rustix::fd::OwnedFd;
use std::{
    net::{IpAddr, SocketAddr},
    sync::{Arc, atomic::AtomicUsize},
};

/// Where connections come in, without the socket: connections hold on to it after the listener is gone.
#[derive(Debug)]
pub(super) struct Front {
    pub(super) key: ListenKey,
    pub(super) backends: Arc<Backends>,
    reach: Reach,
    sources: Vec<IpRange>,
    insiders: Arc<Insiders>,
    turn: AtomicUsize,
}

impl Front {
    pub(super) fn new(key: ListenKey, backends: Arc<Backends>, listener: &Listener, insiders: &Arc<Insiders>) -> Self {
        let (reach, sources, insiders) = (listener.reach, listener.sources.clone(), Arc::clone(insiders));
        Self { key, backends, reach, sources, insiders, turn: AtomicUsize::new(0) }
    }

    /// Claims the next endpoint.
    pub(super) fn pick(&self, client: Option<IpAddr>, tried: &[SocketAddr], now: Millis) -> Option<Claim> {
        self.backends.pick(&self.turn, client, tried, now)
    }

    /// Whether a client may come in.
    pub(super) fn admits(&self, client: IpAddr) -> bool {
        let is_source = self.sources.is_empty() || self.sources.iter().any(|range| range.contains(client));
        is_source && self.insiders.admit(self.reach, client)
    }
}

/// A listener whose port is taken.
#[derive(Debug)]
pub(super) struct Listening {
    pub(super) id: u64,
    pub(super) socket: Arc<OwnedFd>,
    pub(super) front: Arc<Front>,
}

//! The sockets on which Services are served, and their life beyond one process.
//!
//! Used by `proxy` and `dns`; joined by the role `skiff proxy`. The pod's sandbox keeps a copy of every socket (`store`, run by
//! `skiff pause`), so that neither the end of a data plane nor its replacement refuses anybody: clients wait in the kernel's queue
//! until the next one takes over. Several data planes may join one store; one leads and serves, the others know everything and wait.
//!
//! ```text
//!  skiff proxy (leads) ──lead, make, keep+socket, drop──▶ store in the sandbox ◀──lead── skiff proxy (waits)
//!                                                          └── the leader's end: every socket, then "lead" ──▶
//! ```
//!
//! The sandbox has a network namespace of its own, which answers for all ClusterIPs; there it makes their sockets, and the data plane
//! accepts on them from the host's. So a program of the host that listens on every address never answers at a ClusterIP and is in
//! nobody's way, and a port that no Service has refuses. Rejected: routes on the host that make ClusterIPs its own, because the kernel
//! then gives every port of them to whoever listens on every address, and routing rules by port, which outlive skiff.
//!
//! **Invariants**: only who leads takes ports. A store that fails costs the hand-over, never the serving.
//!
//! **Not here**: what is served on a socket, and whether it listens (`ports`).

pub mod store;
mod wire;

use super::{
    ports::{ListenError, reserve},
    table::{ListenKey, Role},
};
use crate::base::ordered::Map;
use rustix::{
    fd::OwnedFd,
    io::Errno,
    net::{
        AddressFamily, Shutdown, SocketAddrUnix, SocketFlags, SocketType, connect, shutdown, socket_with,
        sockopt::{Timeout, set_socket_timeout},
    },
};
use std::{
    path::Path,
    sync::{
        Mutex, PoisonError,
        atomic::{AtomicBool, Ordering::Relaxed},
    },
    time::Duration,
};
use tokio::sync::oneshot;
use tracing::warn;
use wire::Word;

/// The name of the store's own socket in the directory that the pod's containers share.
pub const SOCKET_NAME: &str = "sockets";

/// How long the store may take for an answer before it is done without.
const PATIENCE: Duration = Duration::from_secs(1);

/// Waiting for the lead needs little stack.
const WAITER_STACK_BYTES: usize = 64 * 1024;

/// Where sockets come from, for who leads.
#[derive(Debug, Default)]
pub struct Sockets {
    store: Option<OwnedFd>,
    /// Held by who asks the store something, until it has answered.
    asking: Mutex<()>,
    /// What earlier leaders left and nobody has asked for yet.
    left: Mutex<Map<ListenKey, OwnedFd>>,
    told: AtomicBool,
}

impl Sockets {
    /// Joins a store and waits for the lead.
    ///
    /// # Cancel safety
    /// Safe: whoever stops waiting leaves the store when its process ends.
    pub async fn lead(directory: &Path) -> Result<Self, Errno> {
        let store = join(directory)?;
        let (won, lead) = oneshot::channel();
        let wait = move || {
            // Nobody waits any more: the process is ending.
            won.send(wait_for_lead(&store).map(|left| (store, left))).ok();
        };
        let thread = std::thread::Builder::new().name("lead".into()).stack_size(WAITER_STACK_BYTES);
        thread.spawn(wait).map_err(|_| Errno::AGAIN)?;
        let (store, left) = lead.await.map_err(|_| Errno::PIPE)??;
        set_socket_timeout(&store, Timeout::Recv, Some(PATIENCE))?;
        Ok(Self { store: Some(store), left: Mutex::new(left), ..Self::default() })
    }

    /// The socket of a listener: the one that an earlier leader left, or a new one.
    pub(super) fn take(&self, key: ListenKey, role: Role) -> Result<OwnedFd, ListenError> {
        let left = self.left.lock().unwrap_or_else(PoisonError::into_inner).remove(&key);
        if let Some(socket) = left {
            return Ok(socket);
        }
        let Some(store) = &self.store else { return reserve(key, role) };
        if role == Role::ClusterIp {
            return self.made(store, key).map_err(|errno| ListenError::new(key, errno));
        }
        let socket = reserve(key, role)?;
        self.heed(wire::send(store, &Word::Keep, &[&socket]));
        Ok(socket)
    }

    /// Whether an earlier leader left the socket of a listener.
    pub(super) fn has_left(&self, key: ListenKey) -> bool {
        self.left.lock().unwrap_or_else(PoisonError::into_inner).contains_key(&key)
    }

    /// A socket that the store makes, because the address is in its network.
    fn made(&self, store: &OwnedFd, key: ListenKey) -> Result<OwnedFd, Errno> {
        match self.ask(store, Word::Make(key))? {
            (Word::Held, mut sockets) if sockets.len() == 1 => sockets.pop().ok_or(Errno::PROTO),
            (Word::Refused(errno), _) => Err(errno),
            _ => Err(Errno::PROTO),
        }
    }

    fn ask(&self, store: &OwnedFd, word: Word) -> Result<(Word, Vec<OwnedFd>), Errno> {
        let _one_at_a_time = self.asking.lock().unwrap_or_else(PoisonError::into_inner);
        wire::send(store, &word, &[])?;
        wire::receive(store)
    }

    /// Has the store forget a socket; returns when the port depends on nobody but the caller.
    pub(super) fn forget(&self, key: ListenKey) {
        let Some(store) = &self.store else { return };
        self.heed(self.ask(store, Word::Drop(key)).map(drop));
    }

    /// Closes what earlier leaders left and what is not wanted.
    pub fn forget_all_but(&self, is_wanted: impl Fn(&ListenKey) -> bool) {
        let mut left = self.left.lock().unwrap_or_else(PoisonError::into_inner);
        let unwanted = left.extract_if(|key, _| !is_wanted(key));
        drop(left);
        for (key, socket) in unwanted {
            drop(socket);
            self.forget(key);
        }
    }

    /// Lets the next one lead. Sockets that were taken are served for as long as they are held.
    pub(super) fn resign(&self) {
        if let Some(store) = &self.store {
            // Its end is already there: then it is as wanted.
            shutdown(store, Shutdown::Both).ok();
        }
    }

    fn heed(&self, done: Result<(), Errno>) {
        if let Err(err) = done
            && !self.told.swap(true, Relaxed)
        {
            warn!(component = "sockets", %err, "the sandbox keeps no sockets any more: the next restart is not seamless");
        }
    }
}

fn join(directory: &Path) -> Result<OwnedFd, Errno> {
    let flags = SocketFlags::CLOEXEC;
    let socket = socket_with(AddressFamily::UNIX, SocketType::SEQPACKET, flags, None)?;
    connect(&socket, &SocketAddrUnix::new(directory.join(SOCKET_NAME))?)?;
    set_socket_timeout(&socket, Timeout::Send, Some(PATIENCE))?;
    wire::send(&socket, &Word::Lead, &[])?;
    Ok(socket)
}

/// Waits until the store gives the lead, and everything that it holds.
fn wait_for_lead(store: &OwnedFd) -> Result<Map<ListenKey, OwnedFd>, Errno> {
    let mut left = Map::new();
    loop {
        match wire::receive(store)? {
            (Word::Held, sockets) => left.extend(sockets.into_iter().filter_map(|s| Some((wire::key_of(&s)?, s)))),
            (Word::Lead, _) => return Ok(left),
            (Word::Keep | Word::Make(_) | Word::Refused(_) | Word::Drop(_), _) => return Err(Errno::PROTO),
        }
    }
}

#[cfg(test)]
mod tests;

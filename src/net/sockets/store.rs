//! Keeps the sockets of Services while the data plane comes and goes. Run by the pod's sandbox (`skiff pause`).
//!
//! Whoever connects may ask for the lead; the first has it until its connection ends, then the next. Only who leads gets, gives and
//! takes back sockets. Those of ClusterIPs are made here: the sandbox is in the network where they are, and the data plane is not.
//!
//! **Invariants**: nobody reaches it but root: the kernel lets nobody connect who may not write to the socket's file, which is its
//! owner's alone before it is listened on. Only sockets of listeners are kept, so many at most; whoever says what it may not, or does not listen, is cut off. It waits for nobody longer than
//! a second.

use super::{
    SOCKET_NAME,
    wire::{SOCKETS_MAX, Word, key_of, receive, send},
};
use crate::{
    base::ordered::Map,
    net::{
        ports::reserve_socket,
        table::{ListenKey, Role},
    },
};
use rustix::{
    event::{PollFd, PollFlags, poll},
    fd::OwnedFd,
    fs::{Mode, chmod},
    io::{Errno, fcntl_dupfd_cloexec},
    net::{
        AddressFamily, SocketAddrUnix, SocketFlags, SocketType, accept_with, bind, listen, socket_with,
        sockopt::{Timeout, set_socket_timeout},
    },
};
use std::{path::Path, time::Duration};

/// Sockets that are kept.
pub const KEPT_MAX: usize = 8192;

/// Data planes at the same time.
const PEERS_MAX: usize = 8;

/// How long a peer may take to take what it is given.
const PATIENCE: Duration = Duration::from_secs(1);

/// A store that can be joined, before it serves.
#[derive(Debug)]
pub struct Store {
    listener: OwnedFd,
    kept: Map<ListenKey, OwnedFd>,
    /// In the order in which they came.
    peers: Vec<Peer>,
}

#[derive(Debug)]
struct Peer {
    socket: OwnedFd,
    state: State,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    /// Has said nothing yet.
    New,
    /// Would lead.
    Waits,
    /// Leads.
    Leads,
    /// Is cut off.
    Gone,
}

impl Store {
    /// Opens a store in a directory.
    pub fn open(directory: &Path) -> Result<Self, Errno> {
        // The pod's volumes may be written a little later.
        std::fs::create_dir_all(directory)
            .map_err(|err| err.raw_os_error().map_or(Errno::IO, Errno::from_raw_os_error))?;
        let path = directory.join(SOCKET_NAME);
        // Left over from a sandbox that was killed.
        std::fs::remove_file(&path).ok();
        let listener = socket_with(AddressFamily::UNIX, SocketType::SEQPACKET, SocketFlags::CLOEXEC, None)?;
        bind(&listener, &SocketAddrUnix::new(&path)?)?;
        chmod(&path, Mode::RUSR | Mode::WUSR)?;
        listen(&listener, 8)?;
        Ok(Self { listener, kept: Map::new(), peers: Vec::new() })
    }

    /// Serves until it cannot any more.
    pub fn serve(mut self) -> Errno {
        loop {
            if let Err(err) = self.step() {
                return err;
            }
        }
    }

    /// Waits for something to happen, and deals with it.
    fn step(&mut self) -> Result<(), Errno> {
        let mut ready: Vec<PollFd<'_>> = vec![PollFd::new(&self.listener, PollFlags::IN)];
        ready.extend(self.peers.iter().map(|peer| PollFd::new(&peer.socket, PollFlags::IN)));
        match poll(&mut ready, None) {
            Ok(_) | Err(Errno::INTR) => {}
            Err(err) => return Err(err),
        }
        let is_ready: Vec<bool> = ready.iter().map(|fd| !fd.revents().is_empty()).collect();
        for (at, _) in is_ready[1..].iter().enumerate().filter(|(_, is_ready)| **is_ready) {
            if self.hear(at).is_err() {
                self.peers[at].state = State::Gone;
            }
        }
        if is_ready[0] {
            self.admit();
        }
        self.peers.retain(|peer| peer.state != State::Gone);
        self.give_lead();
        Ok(())
    }

    fn admit(&mut self) {
        let Ok(socket) = accept_with(&self.listener, SocketFlags::CLOEXEC) else { return };
        let is_bounded = set_socket_timeout(&socket, Timeout::Send, Some(PATIENCE)).is_ok();
        if is_bounded && self.peers.len() < PEERS_MAX {
            self.peers.push(Peer { socket, state: State::New });
        }
    }

    fn hear(&mut self, at: usize) -> Result<(), Errno> {
        let peer = &mut self.peers[at];
        let (word, sockets) = receive(&peer.socket)?;
        match (word, peer.state) {
            (Word::Lead, State::New) => peer.state = State::Waits,
            (Word::Keep, State::Leads) => {
                for socket in sockets {
                    let key = key_of(&socket).ok_or(Errno::INVAL)?;
                    if self.kept.len() < KEPT_MAX {
                        self.kept.insert(key, socket);
                    }
                }
            }
            (Word::Make(key), State::Leads) => match made(&mut self.kept, key) {
                Ok(socket) => send(&peer.socket, &Word::Held, &[&socket])?,
                Err(errno) => send(&peer.socket, &Word::Refused(errno), &[])?,
            },
            (Word::Drop(key), State::Leads) => {
                self.kept.remove(&key);
                send(&peer.socket, &word, &[])?;
            }
            _ => return Err(Errno::PROTO),
        }
        Ok(())
    }

    /// Gives the lead to who has waited longest, if nobody has it.
    fn give_lead(&mut self) {
        while !self.peers.iter().any(|peer| peer.state == State::Leads) {
            let Some(at) = self.peers.iter().position(|peer| peer.state == State::Waits) else { return };
            let given = give(&self.peers[at].socket, &self.kept);
            if given.is_ok() {
                self.peers[at].state = State::Leads;
            } else {
                self.peers.remove(at);
            }
        }
    }
}

/// The socket of a listener on a ClusterIP: the one that is kept, or a new one.
fn made(kept: &mut Map<ListenKey, OwnedFd>, key: ListenKey) -> Result<OwnedFd, Errno> {
    if let Some(socket) = kept.get(&key) {
        return dup(socket);
    }
    let socket = reserve_socket(key, Role::ClusterIp)?;
    if kept.len() < KEPT_MAX {
        kept.insert(key, dup(&socket)?);
    }
    Ok(socket)
}

fn dup(socket: &OwnedFd) -> Result<OwnedFd, Errno> {
    fcntl_dupfd_cloexec(socket, 0)
}

fn give(to: &OwnedFd, kept: &Map<ListenKey, OwnedFd>) -> Result<(), Errno> {
    let sockets: Vec<&OwnedFd> = kept.values().collect();
    for some in sockets.chunks(SOCKETS_MAX) {
        send(to, &Word::Held, some)?;
    }
    send(to, &Word::Lead, &[])
}

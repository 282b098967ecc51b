//! One thread of the proxy: waits for edges, accepts clients, drives its connections.
//!
//! Started by the proxy, one per core. All workers watch the same listening sockets, and each wakes for a share of the clients
//! (`EPOLLEXCLUSIVE`). A short connection ends where it began: a hand-over wakes a second thread. One that turns out to last is
//! moved, once, when another worker has less to do, so that lasting connections do not share one core.
//!
//! **Invariants**: a worker blocks nowhere but in `epoll_wait`. A slot's generation grows with each connection, so an edge of a
//! socket that is gone touches nobody. Running out of descriptors costs the newest clients a reset and never spins.

use super::{
    conn::{Conn, Context, Next, reset},
    listener::{Front, Listening},
    relay::Tools,
    rotation::{Millis, millis},
    sources::Sources,
    token::{CONNS_MAX, ConnId, Subject},
    udp::UdpSide,
};
use crate::{
    base::{clock::Clock, ordered::Map, reached::Reached},
    net::seats::Seats,
};
use rustix::{
    event::{
        EventfdFlags, Timespec,
        epoll::{self, CreateFlags, Event, EventFlags},
        eventfd,
    },
    fd::OwnedFd,
    fs::{Mode, OFlags, open},
    io::{Errno, read, write},
    net::{SocketFlags, acceptfrom_with},
};
use std::{
    collections::VecDeque,
    net::{IpAddr, SocketAddr},
    sync::{
        Arc, Mutex, PoisonError, RwLock,
        atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering::Relaxed},
    },
    time::Duration,
};
use tokio::{sync::Notify, time::Instant};
use tracing::warn;

/// After this a connect counts as hanging: the next endpoint is dialed beside it.
const HEDGE_DELAY: Duration = Duration::from_millis(100);

/// Events taken per wait.
const EVENTS_MAX: usize = 256;

/// Clients accepted per wake-up of a listener, so that connections at work are not starved.
const ACCEPTS_MAX: usize = 64;

/// What all workers and the proxy share.
#[derive(Debug)]
pub(super) struct Shared {
    pub(super) clock: Clock,
    pub(super) started: Instant,
    pub(super) listening: RwLock<Map<u64, Arc<Listening>>>,
    pub(super) posts: Vec<Post>,
    pub(super) sources: Sources,
    /// Clients that were reset because nothing stood behind the listener or nothing answered.
    pub(super) unserved: AtomicU64,
    /// Clients that were reset because the process has no descriptor left.
    pub(super) shed: AtomicU64,
    /// Clients that were reset because what they dialed is not for them.
    pub(super) strangers: AtomicU64,
    /// Datagram flows that were ended because there were too many.
    pub(super) flows_ended: Arc<Reached>,
    /// How many connections there may be.
    pub(super) seats: Arc<Seats>,
    /// Told when a worker stops.
    pub(super) stopped: Notify,
}

/// Tells that a worker has stopped, however that came.
struct Stopped {
    shared: Arc<Shared>,
    worker: usize,
}

impl Drop for Stopped {
    fn drop(&mut self) {
        self.shared.posts[self.worker].stopped.store(true, Relaxed);
        self.shared.stopped.notify_one();
    }
}

/// How to reach a worker.
#[derive(Debug)]
pub(super) struct Post {
    pub(super) epoll: OwnedFd,
    wake: OwnedFd,
    inbox: Mutex<Vec<Command>>,
    load: AtomicUsize,
    pub(super) stopped: AtomicBool,
}

/// What a worker is asked to do.
#[derive(Debug)]
pub(super) enum Command {
    /// A connection that began at another worker.
    Adopt(Box<Conn>),
    /// Endpoints left: whoever dials one should try another now.
    Redial,
    /// Serve a datagram listener.
    OpenUdp(Arc<Listening>),
    /// Stop serving a datagram listener.
    CloseUdp(u64),
    /// Forget datagram flows whose endpoint left.
    Reroute,
    /// Drop everything and end.
    Stop,
    /// Panic.
    #[cfg(test)]
    Panic,
}

impl Post {
    pub(super) fn new() -> Result<Self, Errno> {
        let epoll = epoll::create(CreateFlags::CLOEXEC)?;
        let wake = eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK)?;
        epoll::add(&epoll, &wake, Subject::Wake.token(), EventFlags::IN | EventFlags::ET)?;
        let (inbox, load, stopped) = (Mutex::default(), AtomicUsize::new(0), AtomicBool::new(false));
        Ok(Self { epoll, wake, inbox, load, stopped })
    }

    pub(super) fn send(&self, command: Command) {
        self.inbox.lock().unwrap_or_else(PoisonError::into_inner).push(command);
        // A full counter means that the worker is being woken anyway.
        write(&self.wake, &1u64.to_ne_bytes()).ok();
    }

    /// Connections that the worker has.
    pub(super) fn load(&self) -> usize {
        self.load.load(Relaxed)
    }

    /// Has the worker accept from a listener, sharing it with the others.
    pub(super) fn watch(&self, listening: &Listening) -> Result<(), Errno> {
        let data = Subject::Listener(listening.id).token();
        epoll::add(&self.epoll, &listening.socket, data, EventFlags::IN | EventFlags::EXCLUSIVE)
    }
}

/// A worker's own state.
pub(super) struct Worker {
    id: usize,
    shared: Arc<Shared>,
    tools: Tools,
    slots: Vec<Slot>,
    free: Vec<u32>,
    /// When to look after connections that were dialed; the delay is constant, so they come in order.
    checks: VecDeque<(Millis, ConnId)>,
    /// Connections that used up their turn.
    eager: VecDeque<ConnId>,
    udp: UdpSide,
    /// Given up for a moment to accept, and reset, a client when no descriptor is left.
    reserve: Option<OwnedFd>,
    now: Millis,
}

#[derive(Debug, Default)]
struct Slot {
    generation: u32,
    conn: Option<Conn>,
}

impl Worker {
    pub(super) fn new(id: usize, shared: Arc<Shared>) -> Self {
        let udp = UdpSide::new(Arc::clone(&shared.flows_ended));
        Self {
            id,
            shared,
            tools: Tools::new(),
            slots: Vec::new(),
            free: Vec::new(),
            checks: VecDeque::new(),
            eager: VecDeque::new(),
            udp,
            reserve: spare_descriptor(),
            now: 0,
        }
    }

    /// Works until told to stop.
    pub(super) fn run(mut self) {
        let shared = Arc::clone(&self.shared);
        let post = &shared.posts[self.id];
        let _stopped = Stopped { shared: Arc::clone(&shared), worker: self.id };
        let mut events = Vec::with_capacity(EVENTS_MAX);
        loop {
            events.clear();
            let waited =
                epoll::wait(&post.epoll, rustix::buffer::spare_capacity(&mut events), self.patience().as_ref());
            if let Err(err) = waited
                && err != Errno::INTR
            {
                warn!(component = "proxy", worker = self.id, err = %err, "cannot wait for events");
                break;
            }
            self.now = self.read_clock();
            for event in &events {
                if !self.on_event(event) {
                    return;
                }
            }
            self.serve_eager();
            self.run_checks();
            self.udp.expire(self.now);
        }
    }

    fn read_clock(&self) -> Millis {
        millis(self.shared.clock.mono().duration_since(self.shared.started))
    }

    /// How long to wait at most; nothing means until something happens.
    fn patience(&self) -> Option<Timespec> {
        if !self.eager.is_empty() {
            return Some(Timespec { tv_sec: 0, tv_nsec: 0 });
        }
        let due = self.checks.front().map(|(due, _)| *due).into_iter().chain(self.udp.next_expiry()).min()?;
        let wait = Duration::from_millis(due.saturating_sub(self.now));
        Timespec::try_from(wait).ok()
    }

    /// False: it is time to end.
    fn on_event(&mut self, event: &Event) -> bool {
        match Subject::of(event.data) {
            Subject::Conn(id, side) => self.with_conn(id, |conn, cx| conn.on_edge(side, event.flags, cx)),
            Subject::Listener(id) => self.accept(id),
            Subject::Wake => return self.read_inbox(),
            Subject::Datagrams(id) => {
                let epoll = &self.shared.posts[self.id].epoll;
                self.udp.on_event(id, epoll, self.tools.scratch(), self.now);
            }
        }
        true
    }

    fn read_inbox(&mut self) -> bool {
        let shared = Arc::clone(&self.shared);
        let post = &shared.posts[self.id];
        // Emptied for the next edge; a failure means that it is empty.
        read(&post.wake, &mut [0u8; 8]).ok();
        let commands = std::mem::take(&mut *post.inbox.lock().unwrap_or_else(PoisonError::into_inner));
        for command in commands {
            match command {
                Command::Adopt(conn) => self.adopt(*conn),
                Command::Redial => self.redial(),
                Command::OpenUdp(listening) => self.udp.open(&post.epoll, listening),
                Command::CloseUdp(id) => self.udp.close(&post.epoll, id),
                Command::Reroute => self.udp.drop_leavers(),
                Command::Stop => return false,
                #[cfg(test)]
                Command::Panic => panic!("planned panic"),
            }
        }
        true
    }
}

/// Accepting.
impl Worker {
    /// Whoever takes the listener out of the registry waits until this has ended, and so knows that nobody accepts from it any more.
    fn accept(&mut self, id: u64) {
        let shared = Arc::clone(&self.shared);
        let registry = shared.listening.read().unwrap_or_else(PoisonError::into_inner);
        let Some(listening) = registry.get(&id) else { return };
        for _ in 0..ACCEPTS_MAX {
            match accept_one(&listening.socket) {
                Ok((client, peer)) => self.admit(client, Arc::clone(&listening.front), peer),
                Err(Errno::AGAIN) => break,
                Err(Errno::MFILE | Errno::NFILE | Errno::NOBUFS | Errno::NOMEM) => {
                    self.shed(listening);
                    break;
                }
                // The client gave up while it waited, or its network failed: its own affair.
                Err(_) => {}
            }
        }
    }

    fn admit(&mut self, client: OwnedFd, front: Arc<Front>, peer: IpAddr) {
        if !front.admits(peer) {
            self.shared.strangers.fetch_add(1, Relaxed);
            return reset(&client);
        }
        let Some(seat) = self.shared.seats.take(peer) else { return reset(&client) };
        self.shared.posts[self.id].load.fetch_add(1, Relaxed);
        if let Some(id) = self.lodge(Conn::new(client, front, peer, seat)) {
            self.checks.push_back((self.now + millis(HEDGE_DELAY), id));
            self.with_conn(id, Conn::start);
        }
    }

    fn adopt(&mut self, conn: Conn) {
        if let Some(id) = self.lodge(conn) {
            self.with_conn(id, Conn::drive);
        }
    }

    fn lodge(&mut self, mut conn: Conn) -> Option<ConnId> {
        let Some(at) = self.free_slot() else {
            self.shared.posts[self.id].load.fetch_sub(1, Relaxed);
            conn.fail();
            return None;
        };
        let slot = &mut self.slots[at as usize];
        slot.generation = slot.generation.wrapping_add(1);
        let id = ConnId { slot: at, generation: slot.generation };
        conn.lodge(id);
        slot.conn = Some(conn);
        Some(id)
    }

    fn free_slot(&mut self) -> Option<u32> {
        if let Some(at) = self.free.pop() {
            return Some(at);
        }
        let at = u32::try_from(self.slots.len()).ok().filter(|_| self.slots.len() < CONNS_MAX)?;
        self.slots.push(Slot::default());
        Some(at)
    }

    /// Takes one waiting client and resets it. Without this the listener would stay ready, and the worker would spin.
    fn shed(&mut self, listening: &Listening) {
        if self.shared.shed.fetch_add(1, Relaxed).is_multiple_of(1000) {
            warn!(component = "proxy", listener = %listening.front.key, "no file descriptor left: clients are reset");
        }
        self.reserve = None;
        if let Ok((client, _)) = accept_one(&listening.socket) {
            reset(&client);
        }
        self.reserve = spare_descriptor();
    }
}

/// Driving connections.
impl Worker {
    fn with_conn(&mut self, id: ConnId, act: impl FnOnce(&mut Conn, &mut Context<'_>) -> Next) {
        let Some(slot) = self.slots.get_mut(id.slot as usize).filter(|slot| slot.generation == id.generation) else {
            return;
        };
        let Some(conn) = &mut slot.conn else { return };
        let mut cx = Context {
            epoll: &self.shared.posts[self.id].epoll,
            tools: &mut self.tools,
            now: self.now,
            sources: &self.shared.sources,
        };
        match act(conn, &mut cx) {
            Next::Wait => return,
            Next::Again => {
                self.eager.push_back(id);
                return;
            }
            Next::Failed if !conn.was_served() => {
                self.shared.unserved.fetch_add(1, Relaxed);
            }
            Next::Closed | Next::Failed => {}
        }
        slot.conn = None;
        self.free.push(id.slot);
        self.shared.posts[self.id].load.fetch_sub(1, Relaxed);
    }

    fn serve_eager(&mut self) {
        for _ in 0..self.eager.len() {
            let Some(id) = self.eager.pop_front() else { return };
            self.with_conn(id, Conn::drive);
        }
    }

    fn run_checks(&mut self) {
        while let Some((due, id)) = self.checks.front().copied() {
            if due > self.now {
                return;
            }
            self.checks.pop_front();
            let mut again = false;
            self.with_conn(id, |conn, cx| {
                let (next, look_again) = conn.check(cx);
                again = look_again && matches!(next, Next::Wait | Next::Again);
                next
            });
            if again {
                self.checks.push_back((self.now + millis(HEDGE_DELAY), id));
            } else {
                self.even_out(id);
            }
        }
    }

    /// Moves a connection that lasts to a worker that has less to do.
    fn even_out(&mut self, id: ConnId) {
        let shared = Arc::clone(&self.shared);
        let mine = &shared.posts[self.id];
        let Some(idlest) = shared.posts.iter().min_by_key(|post| post.load()) else { return };
        if idlest.load() + 1 >= mine.load() {
            return;
        }
        let Some(slot) = self.slots.get_mut(id.slot as usize).filter(|slot| slot.generation == id.generation) else {
            return;
        };
        let Some(mut conn) = slot.conn.take() else { return };
        conn.unwatch(&mine.epoll);
        self.free.push(id.slot);
        mine.load.fetch_sub(1, Relaxed);
        // Counted at once, or everything would go to the same worker.
        idlest.load.fetch_add(1, Relaxed);
        idlest.send(Command::Adopt(Box::new(conn)));
    }

    /// Endpoints left: connections that dial one do not wait for the hedge delay.
    fn redial(&mut self) {
        let dialing: Vec<ConnId> = self.checks.iter().map(|(_, id)| *id).collect();
        for id in dialing {
            self.with_conn(id, |conn, cx| if conn.dials_a_leaver() { conn.check(cx).0 } else { Next::Wait });
        }
    }
}

fn accept_one(socket: &OwnedFd) -> Result<(OwnedFd, IpAddr), Errno> {
    let (client, from) = acceptfrom_with(socket, SocketFlags::NONBLOCK | SocketFlags::CLOEXEC)?;
    let address = from.and_then(|from| SocketAddr::try_from(from).ok());
    // A listener of ours has no clients without an address.
    let address = address.ok_or(Errno::AFNOSUPPORT)?;
    Ok((client, address.ip().to_canonical()))
}

fn spare_descriptor() -> Option<OwnedFd> {
    open("/dev/null", OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty()).ok()
}

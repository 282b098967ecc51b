//! The proxy: listeners that follow a [`ForwardTable`], and workers that move what clients and endpoints say.
//!
//! Started by the role `skiff proxy` and by tests; may use `table` and `base`. It is told the whole table each time and changes
//! only what differs: a changed rotation never touches a listening socket.
//!
//! Why threads with `epoll` and not the async runtime: what a connection costs is system calls and wake-ups, so the proxy counts
//! them. A short exchange takes one accept, one connect, two registrations, and a read and a write each way; nothing is
//! allocated, nothing crosses threads, nothing is copied twice, and long transfers are spliced.
//!
//! **Invariants**: every port of a Service is taken for as long as the Service has it, whatever stands behind: without endpoints
//! clients are refused, as by kube-proxy, and no other program can answer in its place. A listener that cannot be had is retried by
//! the caller and disturbs no other. Connections outlive their listener, and their endpoint's place in the rotation.
//!
//! **Not here**: which Service becomes which listener (`plan`), names (`dns`), the API (`roles::proxy`).

mod conn;
mod listener;
mod relay;
mod report;
mod sources;
mod token;
mod udp;
mod worker;

pub use report::{EndpointReport, Report};

use crate::{
    base::{
        clock::Clock,
        ordered::{Map, Set},
    },
    net::{
        ports::{self, ListenError},
        reach::Insiders,
        rotation::{self, Backends, Endpoint},
        seats::Seats,
        sockets::Sockets,
        table::{ForwardTable, ListenKey, Listener, PortRef, Protocol},
    },
};
use listener::{Front, Listening};
use rustix::{
    event::epoll,
    fd::OwnedFd,
    io::Errno,
    net::sockopt::socket_acceptconn,
    process::{Resource, getrlimit},
};
use sources::Sources;
use std::{
    io,
    net::{Ipv4Addr, SocketAddr},
    sync::{
        Arc, Mutex, PoisonError, RwLock,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
    thread::JoinHandle,
    time::Duration,
};
use tokio::sync::Notify;
use worker::{Command, Post, Shared, Worker};

/// Workers beyond this bring nothing: they would only share the same few busy sockets.
const WORKERS_MAX: usize = 8;

/// Connections at the same time, should the process have descriptors for more.
const CONNECTIONS_MAX: usize = 32_768;

/// Descriptors of a connection: its two sockets, and the pipe of one that moves much each way.
const CONNECTION_DESCRIPTORS: usize = 3;

/// Descriptors for everything else: listeners, name server, API.
const OTHER_DESCRIPTORS: usize = 1024;

/// A worker needs little stack; the default would be charged to every cluster on the machine.
const WORKER_STACK_BYTES: usize = 256 * 1024;

/// How often a drain looks again.
const DRAIN_PERIOD: Duration = Duration::from_millis(5);

/// A connection whose endpoint spoke last and that was silent for this long is at rest between two exchanges.
const REST: Duration = Duration::from_millis(50);

/// A running proxy. Dropping it ends its threads and closes everything at once.
#[derive(Debug)]
pub struct Proxy {
    shared: Arc<Shared>,
    threads: Vec<JoinHandle<()>>,
    settings: ProxySettings,
    state: Mutex<State>,
}

/// How a proxy runs.
#[derive(Clone, Debug, Default)]
pub struct ProxySettings {
    /// How many workers; one per core when not told.
    pub workers: Option<usize>,
    /// The addresses from which endpoints may be dialed, should ports run out.
    pub spare_sources: Set<Ipv4Addr>,
    /// Where sockets come from.
    pub sockets: Arc<Sockets>,
    /// Who belongs to the cluster.
    pub insiders: Arc<Insiders>,
}

#[derive(Debug, Default)]
struct State {
    ports: Map<Arc<PortRef>, Arc<Backends>>,
    taken: Map<ListenKey, Taken>,
    problems: Map<ListenKey, Problem>,
    /// Endpoints that left the rotation and still have connections.
    leaving: Vec<Arc<Endpoint>>,
    listeners_made: u64,
}

/// A port that is taken.
#[derive(Debug)]
struct Taken {
    listener: Listener,
    listening: Arc<Listening>,
    /// Whether clients get in.
    is_open: bool,
    /// Whether the workers take them from there.
    is_watched: bool,
}

/// A listener that the table asks for and whose port is not taken.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Problem {
    /// Where.
    pub key: ListenKey,
    /// What the table asks for.
    pub listener: Listener,
    /// Why it is not.
    pub error: ListenError,
}

/// What applying a table led to.
#[derive(Debug, Default)]
pub struct Applied {
    /// Listeners whose port is not taken, all of them, new or not.
    pub problems: Vec<Problem>,
    /// What just left the rotation.
    pub left: Leavers,
}

/// Endpoints that left the rotation at the same time.
#[derive(Debug, Default)]
pub struct Leavers(Vec<Arc<Endpoint>>);

impl Proxy {
    /// Starts serving nothing yet.
    pub fn start(clock: Clock, settings: &ProxySettings) -> io::Result<Self> {
        let cores = std::thread::available_parallelism().map_or(1, usize::from);
        let workers = settings.workers.unwrap_or(cores.min(WORKERS_MAX));
        let posts = (0..workers).map(|_| Post::new()).collect::<Result<Vec<_>, _>>()?;
        let shared = Arc::new(Shared {
            started: clock.mono(),
            clock,
            listening: RwLock::default(),
            posts,
            sources: Sources::new(&settings.spare_sources),
            unserved: AtomicU64::new(0),
            shed: AtomicU64::new(0),
            strangers: AtomicU64::new(0),
            flows_ended: Arc::default(),
            seats: Seats::new("connections", connections_max()),
            stopped: Notify::new(),
        });
        let start = |id| {
            let worker = Worker::new(id, Arc::clone(&shared));
            let builder = std::thread::Builder::new().name(format!("proxy-{id}")).stack_size(WORKER_STACK_BYTES);
            builder.spawn(move || worker.run())
        };
        let threads = (0..workers).map(start).collect::<io::Result<_>>()?;
        Ok(Self { shared, threads, settings: settings.clone(), state: Mutex::default() })
    }

    /// Makes the listeners and rotations equal to the table, as far as the machine permits.
    pub fn apply(&self, table: &ForwardTable) -> Applied {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        let left = state.follow_rotations(table);
        if !left.is_empty() {
            self.tell_all(&Command::Redial, &Command::Reroute);
        }
        let changed = self.leave_what_ended(&mut state, table);
        self.take_what_is_missing(&mut state, table, changed);
        self.open_and_refuse(&mut state, table);
        let now = self.now();
        state.leaving.retain(|endpoint| report::is_worth_telling(endpoint, now));
        state.leaving.extend(left.iter().cloned());
        Applied { problems: state.problems.values().cloned().collect(), left: Leavers(left) }
    }

    /// Tries to take the ports that could not be taken again; returns those that still cannot.
    pub fn retry(&self, table: &ForwardTable) -> Vec<Problem> {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        self.take_what_is_missing(&mut state, table, Map::new());
        self.open_and_refuse(&mut state, table);
        state.problems.values().cloned().collect()
    }

    /// Gives up the ports that whoever served before us left and that the table did not want, but for some.
    pub fn forget_leftovers(&self, but: impl Fn(&ListenKey) -> bool) {
        self.settings.sockets.forget_all_but(but);
    }

    /// Where a listener is really bound: for tests that ask for port 0.
    pub fn bound(&self, key: ListenKey) -> Option<SocketAddr> {
        let state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        let taken = state.taken.get(&key)?;
        SocketAddr::try_from(rustix::net::getsockname(&*taken.listening.socket).ok()?).ok()
    }

    /// Waits until what was under way to endpoints that left is done or at rest, at most for `patience`.
    ///
    /// # Cancel safety
    /// Safe: it only looks.
    pub async fn drain(&self, left: &Leavers, patience: Duration) {
        let mut watched: Vec<Watched> = left.0.iter().map(Watched::new).collect();
        let ends = self.shared.clock.mono() + patience;
        loop {
            watched.retain_mut(|endpoint| !endpoint.is_at_rest());
            if watched.is_empty() || self.shared.clock.mono() >= ends {
                return;
            }
            tokio::time::sleep(DRAIN_PERIOD).await;
        }
    }

    /// Leaves every port to who takes over, where sockets outlive us, and else closes it; then waits until connections are done or at
    /// rest, at most for `patience`. A client at rest, as browsers keep them, holds up nobody.
    pub async fn shut_down(&self, patience: Duration) {
        let leaving = {
            let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
            for taken in std::mem::take(&mut state.taken).into_values() {
                self.unwatch(&taken.listening);
            }
            self.settings.sockets.resign();
            // They stay in their rotations: who was let in a moment ago, here or by the router, is still to be served.
            let current = state.ports.values().flat_map(|backends| backends.endpoints());
            state.leaving.iter().cloned().chain(current).collect()
        };
        self.drain(&Leavers(leaving), patience).await;
    }

    /// The endpoints behind a port, as they are now and as they will be. For the router, whose requests count as connections do.
    pub(super) fn backends(&self, port: &PortRef) -> Option<Arc<Backends>> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner).ports.get(port).cloned()
    }

    /// The time in the measure of the endpoints.
    pub(super) fn now(&self) -> rotation::Millis {
        rotation::millis(self.shared.clock.mono().duration_since(self.shared.started))
    }

    /// Connections that are open now.
    pub fn connections(&self) -> usize {
        self.shared.posts.iter().map(Post::load).sum()
    }

    /// Whether every worker still works.
    pub fn is_healthy(&self) -> bool {
        !self.shared.posts.iter().any(|post| post.stopped.load(Relaxed))
    }

    /// Returns when a worker has stopped working.
    ///
    /// # Cancel safety
    /// Safe: a worker that has stopped stays so.
    pub async fn broken(&self) {
        loop {
            let stopped = self.shared.stopped.notified();
            if !self.is_healthy() {
                return;
            }
            stopped.await;
        }
    }

    fn tell_all(&self, for_streams: &Command, for_datagrams: &Command) {
        for post in &self.shared.posts {
            for command in [for_streams, for_datagrams] {
                match command {
                    Command::Redial => post.send(Command::Redial),
                    Command::Reroute => post.send(Command::Reroute),
                    _ => unreachable!("only the two are told to all"),
                }
            }
        }
    }

    /// Leaves the ports that the table does not want as they are. Those that it wants otherwise stay taken: returns their sockets.
    fn leave_what_ended(&self, state: &mut State, table: &ForwardTable) -> Map<ListenKey, Arc<OwnedFd>> {
        let ended = state.taken.extract_if(|key, taken| table.listeners.get(key) != Some(&taken.listener));
        let mut changed = Map::new();
        for (key, taken) in ended {
            self.unwatch(&taken.listening);
            if table.listeners.contains_key(&key) {
                changed.insert(key, Arc::clone(&taken.listening.socket));
            } else {
                // Who keeps a copy closes it a moment later.
                ports::refuse(&taken.listening.socket).ok();
                self.settings.sockets.forget(key);
            }
        }
        changed
    }

    fn take_what_is_missing(&self, state: &mut State, table: &ForwardTable, mut changed: Map<ListenKey, Arc<OwnedFd>>) {
        state.problems.clear();
        for (key, listener) in &table.listeners {
            if !state.taken.contains_key(key) {
                self.take(state, *key, listener.clone(), changed.remove(key));
            }
        }
    }

    fn take(&self, state: &mut State, key: ListenKey, listener: Listener, socket: Option<Arc<OwnedFd>>) {
        let Some(backends) = state.ports.get(&listener.port).cloned() else { return };
        let new = || self.settings.sockets.take(key, listener.role).map(Arc::new);
        let socket = match socket.map_or_else(new, Ok) {
            Ok(socket) => socket,
            Err(error) => {
                state.problems.insert(key, Problem { key, listener, error });
                return;
            }
        };
        state.listeners_made += 1;
        let front = Arc::new(Front::new(key, backends, &listener, &self.settings.insiders));
        let listening = Arc::new(Listening { id: state.listeners_made, socket, front });
        if key.protocol == Protocol::Udp {
            self.udp_post(listening.id).send(Command::OpenUdp(Arc::clone(&listening)));
        }
        // It is when it is not new; until it is watched, clients wait.
        let is_open = socket_acceptconn(&*listening.socket).unwrap_or(false);
        state.taken.insert(key, Taken { listener, listening, is_open, is_watched: false });
    }

    /// Lets clients in where an endpoint stands behind a port, and refuses them elsewhere.
    fn open_and_refuse(&self, state: &mut State, table: &ForwardTable) {
        for (key, taken) in state.taken.iter_mut().filter(|(key, _)| key.protocol == Protocol::Tcp) {
            let has_endpoints = table.rotations.get(&taken.listener.port).is_some_and(|r| !r.targets.is_empty());
            let changed = match has_endpoints {
                true if !taken.is_watched => self.open(&taken.listening),
                false if taken.is_open => self.refuse(&taken.listening),
                _ => continue,
            };
            (taken.is_open, taken.is_watched) = (has_endpoints, has_endpoints);
            if let Err(errno) = changed {
                // Whole or not at all, so that the next attempt begins afresh.
                self.refuse(&taken.listening).ok();
                (taken.is_open, taken.is_watched) = (false, false);
                let problem =
                    Problem { key: *key, listener: taken.listener.clone(), error: ListenError::Other(*key, errno) };
                state.problems.insert(*key, problem);
            }
        }
    }

    fn open(&self, listening: &Arc<Listening>) -> Result<(), Errno> {
        ports::open(&listening.socket)?;
        let mut registry = self.shared.listening.write().unwrap_or_else(PoisonError::into_inner);
        registry.insert(listening.id, Arc::clone(listening));
        drop(registry);
        self.shared.posts.iter().try_for_each(|post| post.watch(listening))
    }

    fn refuse(&self, listening: &Listening) -> Result<(), Errno> {
        // Nobody may look any more: a socket that does not listen would always have something to tell.
        self.unwatch(listening);
        ports::refuse(&listening.socket)
    }

    fn unwatch(&self, listening: &Listening) {
        if listening.front.key.protocol == Protocol::Udp {
            self.udp_post(listening.id).send(Command::CloseUdp(listening.id));
            return;
        }
        for post in &self.shared.posts {
            // Not watched: then there is nothing to undo.
            epoll::delete(&post.epoll, &listening.socket).ok();
        }
        self.shared.listening.write().unwrap_or_else(PoisonError::into_inner).remove(&listening.id);
    }

    fn udp_post(&self, id: u64) -> &Post {
        let posts = &self.shared.posts;
        let at = usize::try_from(id).unwrap_or_default() % posts.len();
        &posts[at]
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        self.shared.posts.iter().for_each(|post| post.send(Command::Stop));
        for thread in self.threads.drain(..) {
            // A worker that panicked has ended as well.
            drop(thread.join());
        }
    }
}

impl State {
    /// Follows every rotation; returns the endpoints that left one.
    fn follow_rotations(&mut self, table: &ForwardTable) -> Vec<Arc<Endpoint>> {
        let mut left = Vec::new();
        for (port, rotation) in &table.rotations {
            let backends =
                self.ports.entry(Arc::clone(port)).or_insert_with(|| Arc::new(Backends::new(Arc::clone(port))));
            left.extend(backends.follow(rotation));
        }
        self.ports.retain(|port, backends| {
            let stays = table.rotations.contains_key(port);
            if !stays {
                left.extend(backends.follow(&crate::net::table::Rotation::default()));
            }
            stays
        });
        left
    }
}

/// How many connections there may be, by the descriptors that the process may have.
fn connections_max() -> usize {
    let limit = getrlimit(Resource::Nofile).current.and_then(|limit| usize::try_from(limit).ok()).unwrap_or(usize::MAX);
    let free = if limit > 2 * OTHER_DESCRIPTORS { limit - OTHER_DESCRIPTORS } else { limit / 2 };
    (free / CONNECTION_DESCRIPTORS).clamp(1, CONNECTIONS_MAX)
}

/// An endpoint that left, observed until its connections are done or at rest.
struct Watched {
    endpoint: Arc<Endpoint>,
    moved: u64,
    quiet: Duration,
}

impl Watched {
    fn new(endpoint: &Arc<Endpoint>) -> Self {
        Self { endpoint: Arc::clone(endpoint), moved: moved(endpoint), quiet: Duration::ZERO }
    }

    fn is_at_rest(&mut self) -> bool {
        let counters = &self.endpoint.counters;
        if counters.active.load(Relaxed) == 0 {
            return true;
        }
        let moved = moved(&self.endpoint);
        let is_busy = counters.awaiting.load(Relaxed) > 0 || moved != self.moved;
        (self.moved, self.quiet) = (moved, if is_busy { Duration::ZERO } else { self.quiet + DRAIN_PERIOD });
        self.quiet > REST
    }
}

fn moved(endpoint: &Endpoint) -> u64 {
    endpoint.counters.bytes_to_client.load(Relaxed) + endpoint.counters.bytes_to_endpoint.load(Relaxed)
}

#[cfg(test)]
mod tests;

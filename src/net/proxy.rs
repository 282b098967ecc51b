//! The proxy: listeners that follow a [`ForwardTable`], and workers that move what clients and endpoints say.
//!
//! Started by the role `skiff proxy` and by tests; may use `table` and `base`. It is told the whole table each time and changes
//! only what differs: a changed rotation never touches a listening socket.
//!
//! Why threads with `epoll` and not the async runtime: what a connection costs is system calls and wake-ups, so the proxy counts
//! them. A short exchange takes one accept, one connect, two registrations, and a read and a write each way; nothing is
//! allocated, nothing crosses threads, nothing is copied twice, and long transfers are spliced.
//!
//! **Invariants**: a NodePort keeps its port while its Service has no endpoint (clients are reset); a ClusterIP without
//! endpoints does not listen at all (clients are refused, as by kube-proxy). A listener that cannot be opened is retried by the
//! caller and disturbs no other. Connections outlive their listener, and their endpoint's place in the rotation.
//!
//! **Not here**: which Service becomes which listener (`plan`), names (`dns`), the API (`roles::proxy`).

mod conn;
mod listener;
mod relay;
mod report;
mod rotation;
mod sources;
mod token;
mod udp;
mod worker;

pub use listener::ListenError;
pub(super) use listener::open as open_socket;
pub use report::{EndpointReport, Report};

use crate::{
    base::clock::Clock,
    net::table::{ForwardTable, IpRange, ListenKey, Listener, PortRef, Protocol, Role},
};
use listener::{Front, Listening};
use rotation::{Backends, Endpoint};
use rustix::event::epoll;
use sources::Sources;
use std::{
    collections::BTreeMap,
    io,
    net::SocketAddr,
    sync::{
        Arc, Mutex, PoisonError, RwLock,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
    thread::JoinHandle,
    time::Duration,
};
use worker::{Command, Post, Shared, Worker};

/// Workers beyond this bring nothing: they would only share the same few busy sockets.
const WORKERS_MAX: usize = 8;

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
    state: Mutex<State>,
}

/// How a proxy runs.
#[derive(Clone, Debug, Default)]
pub struct ProxySettings {
    /// How many workers; one per core when not told.
    pub workers: Option<usize>,
    /// A range that the machine owns: more addresses to dial endpoints from, should ports run out.
    pub spare_sources: Option<IpRange>,
}

#[derive(Debug, Default)]
struct State {
    ports: BTreeMap<Arc<PortRef>, Arc<Backends>>,
    open: BTreeMap<ListenKey, (Listener, Arc<Listening>)>,
    problems: BTreeMap<ListenKey, Problem>,
    /// Endpoints that left the rotation and still have connections.
    leaving: Vec<Arc<Endpoint>>,
    listeners_made: u64,
}

/// A listener that the table asks for and that is not open.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Problem {
    /// What the table asks for.
    pub listener: Listener,
    /// Why it is not open.
    pub error: ListenError,
}

/// What applying a table led to.
#[derive(Debug, Default)]
pub struct Applied {
    /// Listeners that are not open, all of them, new or not.
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
            sources: Sources::new(settings.spare_sources),
            unserved: AtomicU64::new(0),
            shed: AtomicU64::new(0),
        });
        let start = |id| {
            let worker = Worker::new(id, Arc::clone(&shared));
            let builder = std::thread::Builder::new().name(format!("proxy-{id}")).stack_size(WORKER_STACK_BYTES);
            builder.spawn(move || worker.run())
        };
        let threads = (0..workers).map(start).collect::<io::Result<_>>()?;
        Ok(Self { shared, threads, state: Mutex::default() })
    }

    /// Makes the listeners and rotations equal to the table, as far as the machine permits.
    pub fn apply(&self, table: &ForwardTable) -> Applied {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        let left = state.follow_rotations(table);
        if !left.is_empty() {
            self.tell_all(&Command::Redial, &Command::Reroute);
        }
        self.close_what_ended(&mut state, table);
        self.open_what_is_missing(&mut state, table);
        state.leaving.retain(|endpoint| endpoint.counters.active.load(Relaxed) > 0);
        state.leaving.extend(left.iter().cloned());
        Applied { problems: state.problems.values().cloned().collect(), left: Leavers(left) }
    }

    /// Tries the listeners that could not be opened again; true when all are open now.
    pub fn retry(&self) -> bool {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        let problems = std::mem::take(&mut state.problems);
        for (key, problem) in problems {
            self.open(&mut state, key, problem.listener);
        }
        state.problems.is_empty()
    }

    /// Where a listener is really bound: for tests that ask for port 0.
    pub fn bound(&self, key: ListenKey) -> Option<SocketAddr> {
        let state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        let (_, listening) = state.open.get(&key)?;
        SocketAddr::try_from(rustix::net::getsockname(&listening.socket).ok()?).ok()
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

    /// Stops accepting, waits until connections are done or at rest, at most for `patience`. A client at rest, as browsers keep
    /// them, must not hold up who takes over the ports.
    pub async fn shut_down(&self, patience: Duration) {
        self.apply(&ForwardTable::default());
        let leaving = self.state.lock().unwrap_or_else(PoisonError::into_inner).leaving.clone();
        self.drain(&Leavers(leaving), patience).await;
    }

    /// Connections that are open now.
    pub fn connections(&self) -> usize {
        self.shared.posts.iter().map(Post::load).sum()
    }

    /// Whether every worker still works.
    pub fn is_healthy(&self) -> bool {
        !self.shared.posts.iter().any(|post| post.stopped.load(Relaxed))
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

    fn close_what_ended(&self, state: &mut State, table: &ForwardTable) {
        let ended: Vec<ListenKey> =
            state.open.iter().filter(|(key, (listener, _))| !table.keeps(key, listener)).map(|(key, _)| *key).collect();
        for key in ended {
            if let Some((_, listening)) = state.open.remove(&key) {
                self.close(&listening);
            }
        }
        state.problems.clear();
    }

    fn open_what_is_missing(&self, state: &mut State, table: &ForwardTable) {
        for (key, listener) in &table.listeners {
            if !state.open.contains_key(key) && table.wants_open(listener) {
                self.open(state, *key, listener.clone());
            }
        }
    }

    fn open(&self, state: &mut State, key: ListenKey, listener: Listener) {
        let Some(backends) = state.ports.get(&listener.port).cloned() else { return };
        let socket = match listener::open(key, listener.role) {
            Ok(socket) => socket,
            Err(error) => {
                state.problems.insert(key, Problem { listener, error });
                return;
            }
        };
        state.listeners_made += 1;
        let front = Arc::new(Front::new(key, backends, listener.sources.clone()));
        let listening = Arc::new(Listening { id: state.listeners_made, socket, front });
        if let Err(errno) = self.announce(&listening) {
            self.close(&listening);
            state.problems.insert(key, Problem { listener, error: ListenError::Other(key, errno) });
            return;
        }
        state.open.insert(key, (listener, listening));
    }

    fn announce(&self, listening: &Arc<Listening>) -> Result<(), rustix::io::Errno> {
        if listening.front.key.protocol == Protocol::Udp {
            self.udp_post(listening.id).send(Command::OpenUdp(Arc::clone(listening)));
            return Ok(());
        }
        let mut registry = self.shared.listening.write().unwrap_or_else(PoisonError::into_inner);
        registry.insert(listening.id, Arc::clone(listening));
        drop(registry);
        self.shared.posts.iter().try_for_each(|post| post.watch(listening))
    }

    fn close(&self, listening: &Listening) {
        if listening.front.key.protocol == Protocol::Udp {
            self.udp_post(listening.id).send(Command::CloseUdp(listening.id));
            return;
        }
        for post in &self.shared.posts {
            // Not watched yet: then there is nothing to undo.
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

impl ForwardTable {
    /// Whether a listener should have its socket open: a ClusterIP without endpoints refuses, others hold their port.
    fn wants_open(&self, listener: &Listener) -> bool {
        listener.role != Role::ClusterIp || self.rotations.get(&listener.port).is_some_and(|r| !r.targets.is_empty())
    }

    fn keeps(&self, key: &ListenKey, listener: &Listener) -> bool {
        self.listeners.get(key).is_some_and(|wanted| wanted == listener) && self.wants_open(listener)
    }
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

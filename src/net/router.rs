//! HTTP by name: Routes and Ingresses answer on `localhost`, for their hosts.
//!
//! Run by the role `skiff proxy`, fed with what it knows of the API. May call `api`, `base` and its neighbours in `net`.
//!
//! ```text
//! Routes, Ingresses, classes,       ┌─▶ verdicts ─▶ status (conditions, addresses)
//! Services, EndpointSlices ─▶ plan ─┴─▶ table ───▶ live ◀── certificates
//!                                                   ▲ rule
//!      clients ─▶ serve (TLS, HTTP/1.1, HTTP/2) ─▶ forward ─▶ endpoints (pool)
//!                     └── tunnel (TLS that does not end here, WebSockets)
//! ```
//!
//! Why hyper and threads of its own: each has a runtime, its clients and its kept connections, and nothing crosses threads. The endpoints
//! are those of the proxy (`net::rotation`): a request counts there as a connection does, so that a pod that leaves is waited for in one
//! way, whoever its clients are.
//!
//! **Invariants**: while there is no Route and no Ingress it has no thread and no port. Ports of Services go before its own; what it has
//! it keeps. An endpoint gets no request once it has left the rotation, and no kept connection leads to it.
//!
//! **Not here**: who signs certificates and reads Secrets (`controllers::router_certificates`), the API (`roles::proxy`).

mod answers;
mod body;
mod forward;
mod headers;
mod live;
pub mod objects;
pub mod plan;
mod pool;
mod serve;
pub mod status;
pub mod table;
mod tls;
mod tunnel;

use super::{
    ports::{self, ListenError},
    proxy::Proxy,
    seats::Seats,
    sockets::Sockets,
    table::{ListenKey, Protocol, Role},
};
use crate::{
    api::router_certificates::{Certificates, Pair},
    base::{
        ordered::{Set, SortList as _},
        task::{DrainTrigger, drain_signal},
    },
};
use live::{Current, Live};
use plan::Planned;
use rustix::{
    fd::OwnedFd,
    process::{Resource, getrlimit},
};
use rustls::{ServerConfig, crypto::ring};
use serve::{Listening, Shared};
use std::{
    convert::Infallible,
    net::{IpAddr, SocketAddr},
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
    time::Duration,
};
use tls::Keys;
use tokio::{
    sync::{mpsc, watch},
    time::timeout,
};

/// Threads beyond this bring nothing.
const WORKERS_MAX: usize = 8;
/// Clients at the same time, should there be descriptors for them.
const CLIENTS_MAX: usize = 8192;
/// The part of all descriptors that clients may have; each has a connection to an endpoint too.
const SHARE_OF_DESCRIPTORS: usize = 8;
/// Where HTTP is answered when nobody says otherwise, in the order in which it is tried.
pub const HTTP_PORTS: [u16; 9] = [80, 8080, 8081, 8082, 8083, 8084, 8085, 8086, 8087];
/// The same for TLS.
pub const HTTPS_PORTS: [u16; 9] = [443, 8443, 8444, 8445, 8446, 8447, 8448, 8449, 8450];

/// How long threads may take to close their listening sockets.
const LET_GO_MAX: Duration = Duration::from_millis(500);

/// How a router runs.
#[derive(Clone, Debug)]
pub struct RouterSettings {
    /// Where it listens.
    pub addresses: Vec<IpAddr>,
    /// The ports of plain HTTP, in the order in which they are tried.
    pub http_ports: Vec<u16>,
    /// The same for TLS.
    pub https_ports: Vec<u16>,
    /// How many threads; one per core when not told.
    pub workers: Option<usize>,
    /// Where sockets come from.
    pub sockets: Arc<Sockets>,
    /// The certificate of the cluster's authority, PEM.
    pub cluster_ca: String,
}

impl RouterSettings {
    /// These ports on these addresses.
    pub fn new(
        addresses: Vec<IpAddr>,
        (http_ports, https_ports): (Vec<u16>, Vec<u16>),
        sockets: Arc<Sockets>,
        cluster_ca: String,
    ) -> Self {
        Self { addresses, http_ports, https_ports, workers: None, sockets, cluster_ca }
    }
}

/// Where a router answers.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Bound {
    /// The first of its addresses.
    pub address: Option<IpAddr>,
    /// The port of plain HTTP, if it has one.
    pub http: Option<u16>,
    /// The port of TLS, if it has one.
    pub https: Option<u16>,
}

/// What happened since the router started.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct RouterReport {
    /// The port of plain HTTP; 0: none.
    pub http_port: u16,
    /// The port of TLS; 0: none.
    pub https_port: u16,
    /// Requests.
    pub requests: u64,
    /// Requests that no endpoint answered.
    pub errors: u64,
    /// Clients that were turned away because there were too many.
    pub turned_away: u64,
}

/// A router.
#[derive(Debug)]
pub struct Router {
    shared: Arc<Shared>,
    settings: RouterSettings,
    keys: Keys,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    running: Option<Running>,
    /// Where it listens.
    http: Option<Open>,
    https: Option<Open>,
}

/// A port that is open on every address.
#[derive(Debug)]
struct Open {
    port: u16,
    places: Vec<Arc<Listening>>,
    keys: Vec<ListenKey>,
}

/// Threads that serve.
#[derive(Debug)]
struct Running {
    drain: DrainTrigger,
    places: watch::Sender<Vec<Arc<Listening>>>,
    /// Ends when all threads have.
    ended: mpsc::Receiver<Infallible>,
    /// Ends when no thread has a listening socket any more.
    let_go: std::sync::mpsc::Receiver<Infallible>,
}

impl Router {
    /// A router that answers for nothing yet, to the endpoints of a proxy.
    ///
    /// # Errors
    /// TLS cannot be set up.
    pub fn new(proxy: Arc<Proxy>, settings: RouterSettings) -> anyhow::Result<Self> {
        let current = Arc::new(Current::default());
        let mut tls = ServerConfig::builder_with_provider(Arc::new(ring::default_provider()))
            .with_safe_default_protocol_versions()?
            .with_no_client_auth()
            .with_cert_resolver(Arc::clone(&current) as Arc<_>);
        tls.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
        tls.ticketer = ring::Ticketer::new()?;
        let shared = Shared {
            current,
            proxy,
            tls: Arc::new(tls),
            seats: Seats::new("clients of the router", clients_max()),
            requests: AtomicU64::new(0),
            errors: AtomicU64::new(0),
            left: watch::Sender::new(()),
        };
        Ok(Self { shared: Arc::new(shared), settings, keys: Keys::default(), state: Mutex::default() })
    }

    /// Says what is wrong with a certificate and its key.
    ///
    /// # Errors
    /// That.
    pub fn check(&self, pair: &Pair) -> Result<(), String> {
        self.keys.of(pair).map(drop)
    }

    /// Answers for a table from now on; the proxy has its endpoints already. `taken` are the places of Services. Returns where clients
    /// come in, and what is in the way.
    pub fn apply(
        &self,
        planned: &Planned,
        certificates: &Certificates,
        taken: &Set<ListenKey>,
    ) -> (Bound, Vec<String>) {
        let mut state = self.lock();
        let mut problems = Vec::new();
        if planned.table.is_empty() {
            self.close(&mut state);
        } else {
            let wanted = [(&self.settings.http_ports, false), (&self.settings.https_ports, true)];
            for (ports, is_tls) in wanted {
                let place = if is_tls { &mut state.https } else { &mut state.http };
                if place.is_none() {
                    match self.open(ports, is_tls, taken) {
                        Ok(open) => *place = Some(open),
                        Err(why) => problems.push(why),
                    }
                }
            }
            self.serve(&mut state);
        }
        let bound = state.bound(&self.settings);
        let before = self.shared.current.get();
        let find = |port: &super::table::PortRef| self.shared.proxy.backends(port);
        let with = (self.settings.cluster_ca.as_str(), bound.https, &self.keys);
        self.shared.current.set(Live::new(&before, &planned.table, certificates, with, &find));
        // Those that cannot be used are in no table, and looked at again with the next change.
        self.keys.retain(&planned.table.certificates().chain(certificates.by_host.values()).collect());
        self.shared.left.send_replace(());
        (bound, problems)
    }

    /// Whether a place is one that it may take.
    pub fn may_take(&self, key: &ListenKey) -> bool {
        let RouterSettings { addresses, http_ports, https_ports, .. } = &self.settings;
        let port = key.address.port();
        addresses.contains(&key.address.ip()) && (http_ports.contains(&port) || https_ports.contains(&port))
    }

    /// The places that it has.
    pub fn places(&self) -> Set<ListenKey> {
        let state = self.lock();
        state.http.iter().chain(&state.https).flat_map(|open| open.keys.iter().copied()).collect()
    }

    /// Takes stock.
    pub fn report(&self) -> RouterReport {
        let bound = self.lock().bound(&self.settings);
        RouterReport {
            http_port: bound.http.unwrap_or_default(),
            https_port: bound.https.unwrap_or_default(),
            requests: self.shared.requests.load(Relaxed),
            errors: self.shared.errors.load(Relaxed),
            turned_away: self.shared.seats.turned_away(),
        }
    }

    /// Takes no client any more; the ports stay for who takes over. Returns when what is under way has ended, or after `patience`.
    pub async fn shut_down(&self, patience: Duration) {
        let running = self.lock().running.take();
        let Some(Running { drain, mut ended, places, .. }) = running else { return };
        drain.fire();
        drop(places);
        timeout(patience, ended.recv()).await.ok();
    }

    /// Takes the first port that can be had on every address.
    fn open(&self, ports: &[u16], is_tls: bool, taken: &Set<ListenKey>) -> Result<Open, String> {
        let keys = |port: u16| -> Vec<ListenKey> {
            let key = |ip: &IpAddr| ListenKey { address: SocketAddr::new(*ip, port), protocol: Protocol::Tcp };
            self.settings.addresses.iter().map(key).collect()
        };
        let is_free = |port: &&u16| !keys(**port).iter().any(|key| taken.contains(key));
        // What whoever served before has left is had before anything else.
        let was_ours = |port: &u16| keys(*port).iter().any(|key| self.settings.sockets.has_left(*key));
        let mut candidates: Vec<u16> = ports.iter().filter(is_free).copied().collect();
        candidates.sort_list_by_key(|port| !was_ours(port));
        let mut last = None;
        for port in candidates {
            match self.open_port(&keys(port), is_tls) {
                Ok(open) => return Ok(open),
                Err(err) => drop(last.get_or_insert(err)),
            }
        }
        let scheme = if is_tls { "https" } else { "http" };
        let why = last.map_or_else(|| "every port is taken by Services".to_owned(), |err| err.to_string());
        Err(format!("No port for {scheme}: {why}. Trying again until there is one"))
    }

    fn open_port(&self, keys: &[ListenKey], is_tls: bool) -> Result<Open, ListenError> {
        let mut made: Vec<(ListenKey, OwnedFd)> = Vec::new();
        for key in keys {
            let opened = self.settings.sockets.take(*key, Role::Router).and_then(|socket| {
                ports::open(&socket).map_err(|errno| ListenError::new(*key, errno))?;
                Ok(socket)
            });
            match opened {
                Ok(socket) => made.push((*key, socket)),
                Err(err) if err.is_missing_ipv6() => {}
                Err(err) => {
                    for (key, socket) in made {
                        drop(socket);
                        self.settings.sockets.forget(key);
                    }
                    return Err(err);
                }
            }
        }
        let port = made.first().map(|(_, socket)| bound_port(socket)).unwrap_or_default();
        let keys = made.iter().map(|(key, _)| *key).collect();
        let place = |(_, socket)| Arc::new(Listening { socket, port, is_tls });
        Ok(Open { port, keys, places: made.into_iter().map(place).collect() })
    }

    /// Has threads serve every place that is open.
    fn serve(&self, state: &mut State) {
        let open: Vec<Arc<Listening>> =
            state.http.iter().chain(&state.https).flat_map(|open| open.places.iter().cloned()).collect();
        if open.is_empty() {
            return;
        }
        let running = state.running.get_or_insert_with(|| self.start());
        running.places.send_if_modified(|there| {
            let is_new = there.len() != open.len();
            *there = open;
            is_new
        });
    }

    fn start(&self) -> Running {
        let cores = std::thread::available_parallelism().map_or(1, usize::from);
        let workers = self.settings.workers.unwrap_or(cores.min(WORKERS_MAX));
        let (trigger, drain) = drain_signal();
        let (sender, places) = watch::channel(Vec::new());
        let (alive, ended) = mpsc::channel(1);
        let (holds, let_go) = std::sync::mpsc::channel();
        for worker in 0..workers {
            let (shared, alive, holds) = (Arc::clone(&self.shared), alive.clone(), holds.clone());
            let work = serve::run(shared, places.clone(), drain.clone(), alive, holds);
            let thread = std::thread::Builder::new().name(format!("router-{worker}"));
            let started = thread.spawn(move || {
                let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
                match runtime {
                    Ok(runtime) => runtime.block_on(work),
                    Err(err) => tracing::error!(component = "router", %err, "a thread of the router cannot start"),
                }
            });
            if let Err(err) = started {
                tracing::error!(component = "router", %err, "a thread of the router cannot start");
            }
        }
        Running { drain: trigger, places: sender, ended, let_go }
    }

    /// Gives every port up. Who is served is served to the end.
    fn close(&self, state: &mut State) {
        for open in state.http.take().into_iter().chain(state.https.take()) {
            // What nobody accepts from any more refuses at once.
            for place in &open.places {
                ports::refuse(&place.socket).ok();
            }
            open.keys.iter().for_each(|key| self.settings.sockets.forget(*key));
        }
        let Some(Running { drain, places, let_go, .. }) = state.running.take() else { return };
        drain.fire();
        drop(places);
        // Whoever routes something a moment later finds the ports free.
        let_go.recv_timeout(LET_GO_MAX).ok();
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    fn bound(&self, settings: &RouterSettings) -> Bound {
        let port = |open: &Option<Open>| open.as_ref().map(|open| open.port);
        Bound { address: settings.addresses.first().copied(), http: port(&self.http), https: port(&self.https) }
    }
}

/// The port that a socket really has.
fn bound_port(socket: &OwnedFd) -> u16 {
    let name = rustix::net::getsockname(socket).ok().and_then(|name| SocketAddr::try_from(name).ok());
    name.map_or(0, |address| address.port())
}

/// How many clients there may be, by the descriptors that the process may have.
fn clients_max() -> usize {
    let limit = getrlimit(Resource::Nofile).current.and_then(|limit| usize::try_from(limit).ok()).unwrap_or(usize::MAX);
    (limit / SHARE_OF_DESCRIPTORS).clamp(16, CLIENTS_MAX)
}

#[cfg(test)]
mod tests;

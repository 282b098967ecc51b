//! Clients of the router: who is let in, TLS, and HTTP/1.1 and HTTP/2 on their connections.
//!
//! Run by threads of the router's own, each with its runtime, its connections and its pool, so that nothing crosses threads. They share the
//! listening sockets.
//!
//! **Bounds**: connections have seats (`net::seats`); a head, a handshake and a silent HTTP/2 connection have a time.

use super::{
    body::Answer,
    forward::{self, Client},
    headers::Origin,
    live::Current,
    pool::{PURGE_PERIOD, Pool},
    table::host_of,
    tunnel,
};
use crate::{
    base::{
        chain::chain,
        duplex::Duplex,
        task::{self, Drain},
    },
    net::{proxy::Proxy, seats::Seats},
};
use http::Request;
use hyper::{body::Incoming, service::service_fn};
use hyper_util::{
    rt::{TokioIo, TokioTimer},
    server::conn::auto::Builder,
};
use rustix::fd::OwnedFd;
use rustls::{ServerConfig, server::Acceptor};
use std::{
    convert::Infallible,
    io,
    net::SocketAddr,
    pin::{Pin, pin},
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, AtomicU64},
    },
    task::{Context, Poll},
    time::Duration,
};
use tokio::{
    io::{AsyncRead, AsyncReadExt as _, AsyncWrite, ReadBuf},
    net::{TcpListener, TcpStream},
    sync::{Notify, mpsc, watch},
    time::{sleep, timeout},
};
use tokio_rustls::TlsAcceptor;
use tracing::{debug, warn};

/// How long a client has for its hello, and for the TLS handshake.
const HANDSHAKE_MAX: Duration = Duration::from_secs(10);
/// How long a client of HTTP/1.1 has for the head of a request, the pause since the last one included.
const HEAD_MAX: Duration = Duration::from_secs(75);
/// What is kept of a head.
const HEAD_BYTES_MAX: usize = 128 * 1024;
/// How often a silent HTTP/2 client is asked whether it is there, and how long it has to say so.
const PING_EVERY: Duration = Duration::from_secs(30);
const PING_MAX: Duration = Duration::from_secs(15);
/// Requests at the same time on one HTTP/2 connection.
const STREAMS_MAX: u32 = 250;
/// What a client's hello may have.
const HELLO_BYTES_MAX: usize = 64 * 1024;
/// How long requests may go on after the router was told to stop.
const DRAIN_MAX: Duration = Duration::from_secs(30);
/// How long a client that has asked nothing yet may take to do so after the router was told to stop.
const FIRST_REQUEST_MAX: Duration = Duration::from_secs(1);
/// The pause after an accept that failed.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);

/// What all threads share.
#[derive(Debug)]
pub(super) struct Shared {
    pub(super) current: Arc<Current>,
    pub(super) proxy: Arc<Proxy>,
    pub(super) tls: Arc<ServerConfig>,
    pub(super) seats: Arc<Seats>,
    /// Requests that were made.
    pub(super) requests: AtomicU64,
    /// Requests that no endpoint answered.
    pub(super) errors: AtomicU64,
    /// Told when endpoints left.
    pub(super) left: watch::Sender<()>,
}

impl Shared {
    /// The time in the measure of the endpoints.
    pub(super) fn now(&self) -> u64 {
        self.proxy.now()
    }
}

/// A place where clients come in.
#[derive(Debug)]
pub(super) struct Listening {
    pub(super) socket: OwnedFd,
    pub(super) port: u16,
    pub(super) is_tls: bool,
}

/// Every place where clients come in.
pub(super) type Places = watch::Receiver<Vec<Arc<Listening>>>;

/// Held by everything that goes on; when all are gone, the thread has ended.
pub(super) type Alive = mpsc::Sender<Infallible>;

/// Held by everything that has a listening socket; when all are gone, the ports are free.
pub(super) type Holds = std::sync::mpsc::Sender<Infallible>;

/// Runs hyper's tasks as ours.
#[derive(Clone, Copy, Debug)]
pub(super) struct Tasks;

impl<F> hyper::rt::Executor<F> for Tasks
where
    F: Future<Output: Send> + Send + 'static,
{
    fn execute(&self, work: F) {
        drop(task::spawn("http stream", async move { drop(work.await) }));
    }
}

/// One thread's work: accepts from every place until drained, then ends what is under way in peace.
pub(super) async fn run(shared: Arc<Shared>, mut places: Places, drain: Drain, alive: Alive, holds: Holds) {
    let pool = Arc::new(Pool::default());
    drop(task::spawn("router pool", purge(Arc::clone(&pool), shared.left.subscribe(), drain.clone())));
    let (ends, mut ended) = mpsc::channel::<Infallible>(1);
    let mut served: Vec<Arc<Listening>> = Vec::new();
    loop {
        for place in places.borrow_and_update().iter() {
            if !served.iter().any(|there| Arc::ptr_eq(there, place)) {
                served.push(Arc::clone(place));
                let door = Door {
                    shared: Arc::clone(&shared),
                    pool: Arc::clone(&pool),
                    place: Arc::clone(place),
                    drain: drain.clone(),
                    ends: ends.clone(),
                    _holds: holds.clone(),
                };
                drop(task::spawn("router listener", door.accept()));
            }
        }
        tokio::select! { biased;
            () = drain.drained() => break,
            changed = places.changed() => if changed.is_err() { break },
        }
    }
    drop((ends, served, places, holds));
    // Connections that last are cut off in the end.
    timeout(DRAIN_MAX, ended.recv()).await.ok();
    drop(alive);
}

/// Closes kept connections that are too old, and those to endpoints that left, as soon as they did.
async fn purge(pool: Arc<Pool>, mut left: watch::Receiver<()>, drain: Drain) {
    loop {
        tokio::select! { biased;
            () = drain.drained() => return,
            changed = left.changed() => if changed.is_err() { return },
            () = sleep(PURGE_PERIOD), if !pool.is_empty() => {}
            () = pool.filled() => {}
        }
        pool.purge();
    }
}

/// A listener of one thread.
struct Door {
    shared: Arc<Shared>,
    pool: Arc<Pool>,
    place: Arc<Listening>,
    drain: Drain,
    /// Held by connections.
    ends: Alive,
    /// The last, so that the sockets go before it.
    _holds: Holds,
}

impl Door {
    async fn accept(self) {
        let door = self;
        let listener = door.place.socket.try_clone().map(std::net::TcpListener::from).and_then(TcpListener::from_std);
        let listener = match listener {
            Ok(listener) => listener,
            Err(err) => {
                warn!(component = "router", port = door.place.port, err = chain(&err), "cannot accept");
                return;
            }
        };
        loop {
            let accepted = tokio::select! { biased;
                () = door.drain.drained() => return,
                accepted = listener.accept() => accepted,
            };
            match accepted {
                Ok((stream, address)) => door.admit(stream, address),
                Err(err) => {
                    debug!(component = "router", port = door.place.port, err = chain(&err), "cannot accept");
                    sleep(ACCEPT_PAUSE).await;
                }
            }
        }
    }

    fn admit(&self, stream: TcpStream, address: SocketAddr) {
        let Some(seat) = self.shared.seats.take(address.ip()) else { return };
        let place = &self.place;
        let scheme = if place.is_tls { "https" } else { "http" };
        let client = Arc::new(Client {
            shared: Arc::clone(&self.shared),
            pool: Arc::clone(&self.pool),
            address: address.ip(),
            origin: Origin::new(address.ip(), place.port, scheme),
            is_tls: place.is_tls,
            last_forwarded: Mutex::new(None),
            asked: Notify::new(),
            has_asked: AtomicBool::new(false),
        });
        let (drain, ends, is_tls) = (self.drain.clone(), self.ends.clone(), place.is_tls);
        drop(task::spawn("router client", async move {
            if is_tls {
                secured(client, stream, drain).await;
            } else {
                talk(client, Box::new(stream), Spoken::Unknown, drain).await;
            }
            drop((seat, ends));
        }));
    }
}

/// What a client speaks.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Spoken {
    /// It shows with its first bytes.
    Unknown,
    Http1,
    Http2,
}

/// A client of TLS: given to an endpoint as it is, or spoken to here.
async fn secured(client: Arc<Client>, mut stream: TcpStream, drain: Drain) {
    let mut hello = Vec::new();
    if client.shared.current.get().table.passes_through() {
        let name = match timeout(HANDSHAKE_MAX, read_hello(&mut stream, &mut hello)).await {
            Ok(Ok(name)) => name,
            Ok(Err(err)) => {
                debug!(component = "router", client = %client.address, err = chain(&err), "no TLS hello");
                return;
            }
            Err(_) => return,
        };
        let live = client.shared.current.get();
        let rule = name.and_then(|name| live.table.passthrough(&host_of(&name)).cloned());
        if let Some(rule) = rule {
            drop(live);
            return tunnel::passed_through(&client.shared, &rule, stream, client.address, &hello).await;
        }
    }
    let stream = Replayed { first: hello, at: 0, stream };
    let acceptor = TlsAcceptor::from(Arc::clone(&client.shared.tls));
    match timeout(HANDSHAKE_MAX, acceptor.accept(stream)).await {
        Ok(Ok(stream)) => {
            let spoken = if stream.get_ref().1.alpn_protocol() == Some(b"h2") { Spoken::Http2 } else { Spoken::Http1 };
            talk(client, Box::new(stream), spoken, drain).await;
        }
        Ok(Err(err)) => {
            debug!(component = "router", client = %client.address, err = chain(&err), "TLS handshake failed");
        }
        Err(_) => debug!(component = "router", client = %client.address, "TLS handshake took too long"),
    }
}

/// Reads a client's hello; the name that it asks for, if it does.
async fn read_hello(stream: &mut TcpStream, hello: &mut Vec<u8>) -> io::Result<Option<String>> {
    let mut acceptor = Acceptor::default();
    loop {
        let known = hello.len();
        if stream.read_buf(hello).await? == 0 || hello.len() > HELLO_BYTES_MAX {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        let mut fresh = &hello[known..];
        while !fresh.is_empty() {
            acceptor.read_tls(&mut fresh)?;
        }
        match acceptor.accept() {
            Ok(Some(accepted)) => return Ok(accepted.client_hello().server_name().map(str::to_owned)),
            Ok(None) => {}
            Err((err, _)) => return Err(io::Error::other(err)),
        }
    }
}

/// Speaks HTTP until the client has enough, or until what is under way when drained has ended.
async fn talk(client: Arc<Client>, stream: Box<dyn Duplex>, spoken: Spoken, drain: Drain) {
    let service = {
        let client = Arc::clone(&client);
        service_fn(move |request: Request<Incoming>| {
            let answered = forward::answer(Arc::clone(&client), request);
            async move { Ok::<http::Response<Answer>, Infallible>(answered.await) }
        })
    };
    let mut builder = Builder::new(Tasks);
    match spoken {
        Spoken::Unknown => {}
        Spoken::Http1 => builder = builder.http1_only(),
        Spoken::Http2 => builder = builder.http2_only(),
    }
    builder.http1().timer(TokioTimer::new()).header_read_timeout(HEAD_MAX).max_buf_size(HEAD_BYTES_MAX);
    builder
        .http2()
        .timer(TokioTimer::new())
        .keep_alive_interval(PING_EVERY)
        .keep_alive_timeout(PING_MAX)
        .max_concurrent_streams(STREAMS_MAX)
        .max_header_list_size(u32::try_from(HEAD_BYTES_MAX).unwrap_or(u32::MAX));
    let mut conversation = pin!(builder.serve_connection_with_upgrades(TokioIo::new(stream), service));
    let drained = async {
        drain.drained().await;
        // Who was let in a moment ago has a request on its way, and is not sent away without an answer.
        timeout(FIRST_REQUEST_MAX, client.asked.notified()).await.ok();
    };
    let ended = tokio::select! { biased;
        ended = conversation.as_mut() => ended,
        () = drained => {
            conversation.as_mut().graceful_shutdown();
            timeout(DRAIN_MAX, conversation).await.unwrap_or(Ok(()))
        }
    };
    if let Err(err) = ended {
        debug!(component = "router", client = %client.address, err = chain(&*err), "a client's connection ended");
    }
}

/// A stream of which something was read already.
#[derive(Debug)]
struct Replayed {
    first: Vec<u8>,
    at: usize,
    stream: TcpStream,
}

impl AsyncRead for Replayed {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        if this.at < this.first.len() {
            let n = buf.remaining().min(this.first.len() - this.at);
            buf.put_slice(&this.first[this.at..this.at + n]);
            this.at += n;
            return Poll::Ready(Ok(()));
        }
        Pin::new(&mut this.stream).poll_read(cx, buf)
    }
}

impl AsyncWrite for Replayed {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.get_mut().stream).poll_write(cx, bytes)
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().stream).poll_flush(cx)
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().stream).poll_shutdown(cx)
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        slices: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.get_mut().stream).poll_write_vectored(cx, slices)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }
}

//! Listens: connections, TLS, HTTP/1.1 and HTTP/2, and a drain that ends them in order.
//!
//! Called by `app`, once per listener. **Not here**: what requests mean (`handle`).
//!
//! **Invariants**
//! - No peer can hold a connection without speaking or reading: handshake, request heads and writes have time limits.
//! - Connections are bounded (`gate`); one too many is closed at once, or the oldest of those that nobody vouches for is.
//! - On drain no new connection is taken, watches end, and every request that is under way is answered, for a bounded time.

use super::{
    ServerState, Ticket, auth,
    dashboard::Dashboard,
    handle::{self, Peer},
    pace::{self, Room},
    respond::Response,
    stall::Impatient,
};
use crate::base::{
    chain::chain,
    duplex::Duplex,
    task::{self, Drain},
};
use futures::{FutureExt as _, future::BoxFuture};
use hyper::{Request, body::Incoming};
use hyper_util::{
    rt::{TokioIo, TokioTimer},
    server::conn::auto::Builder,
};
use rustls::ServerConfig;
use std::{
    convert::Infallible,
    net::{IpAddr, SocketAddr},
    pin::pin,
    sync::Arc,
    time::Duration,
};
use tokio::{
    io::AsyncWriteExt as _,
    net::{TcpListener, TcpStream},
    sync::mpsc,
    time::{sleep, timeout},
};
use tokio_rustls::{TlsAcceptor, server::TlsStream};
use tracing::{debug, warn};

/// How long a peer has for the TLS handshake.
const HANDSHAKE_MAX: Duration = Duration::from_secs(10);
/// How long an HTTP/1 peer has to send the head of a request, the pause since the last one included. Clients keep idle connections
/// for up to 90 s (Go, hyper); a server that closes first lets them fail.
const HEAD_MAX: Duration = Duration::from_mins(2);
/// How often an HTTP/2 peer is asked whether it is still there, and how long it has to answer.
const PING_EVERY: Duration = Duration::from_secs(30);
const PING_MAX: Duration = Duration::from_secs(15);
/// How long a peer may read nothing of what is sent to it.
const WRITE_MAX: Duration = Duration::from_secs(30);
/// What is kept of a request head, and of an answer that the peer does not take: in HTTP/1 one limit is both.
const HTTP1_BUFFER_MAX: usize = 256 * 1024;
/// What is read of a request head in HTTP/2: twice what a request may have, so that one that is too large is told so in a `Status`. What
/// is larger still gets a bare 431.
const HTTP2_HEAD_MAX: u32 = 2 * 1024 * 1024;
/// What is kept of the answer of one HTTP/2 stream that its peer does not take.
const HTTP2_BUFFER_MAX: usize = 64 * 1024;
/// What TLS keeps that the peer has not taken.
const TLS_BUFFER_MAX: usize = 16 * 1024;
/// How long requests may go on after the drain.
const DRAIN_MAX: Duration = Duration::from_secs(10);
/// Streams of one HTTP/2 connection at a time. Source: `MaxConcurrentStreams` of kube-apiserver.
const STREAMS_MAX: u32 = 250;
/// The pause after an accept that failed, e.g. because no file is left to open.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);

/// A connection whose handshake is done.
type Stream = TlsStream<Impatient<TcpStream>>;

/// What answers the requests of a connection.
type Answers = Box<dyn Fn(Request<Incoming>) -> BoxFuture<'static, Response> + Send + Sync>;

/// Runs hyper's tasks as ours, so that they are named and their panics caught.
#[derive(Clone, Copy, Debug)]
struct Tasks;

impl<F> hyper::rt::Executor<F> for Tasks
where
    F: Future<Output = ()> + Send + 'static,
{
    fn execute(&self, work: F) {
        // What an executor is for here are the streams of HTTP/2.
        drop(task::spawn("http stream", pace::bounded(work, WRITE_MAX)));
    }
}

/// Tells whether a client at an address may speak to a listener.
pub type Admits = Arc<dyn Fn(IpAddr) -> bool + Send + Sync>;

/// What is behind a listener.
#[derive(Clone)]
enum Door {
    /// The API, over TLS.
    Api(TlsAcceptor),
    /// The dashboard, over plain HTTP.
    Dashboard(Dashboard),
}

/// Serves the API on a listener until drained; returns when its connections have ended. Whom it does not admit is cut off unheard.
pub async fn serve(
    listener: Arc<TcpListener>,
    tls: Arc<ServerConfig>,
    state: ServerState,
    admits: Admits,
    drain: Drain,
) {
    accept(listener, Door::Api(TlsAcceptor::from(tls)), state, admits, drain).await;
}

/// Serves the dashboard on a listener until drained; returns when its connections have ended. Its connections are counted with the API's.
pub async fn serve_dashboard(listener: Arc<TcpListener>, dashboard: Dashboard, state: ServerState, drain: Drain) {
    accept(listener, Door::Dashboard(dashboard), state, Arc::new(|_| true), drain).await;
}

async fn accept(listener: Arc<TcpListener>, door: Door, state: ServerState, admits: Admits, drain: Drain) {
    // Every connection holds a sender; when all are gone, the receiver ends.
    let (alive, mut ended) = mpsc::channel::<Infallible>(1);
    loop {
        let accepted = tokio::select! {
            biased;
            () = drain.drained() => break,
            accepted = listener.accept() => accepted,
        };
        match accepted {
            Ok((_, address)) if !admits(address.ip()) => {
                debug!(component = "server", peer = %address, "a client from elsewhere is cut off");
            }
            Ok((stream, address)) => {
                let Some(ticket) = state.admit(address.ip()) else {
                    debug!(component = "server", peer = %address, "closed at once: too many connections");
                    continue;
                };
                let (door, state, drain, alive) = (door.clone(), state.clone(), drain.clone(), alive.clone());
                drop(task::spawn("http connection", async move {
                    let ticket = Arc::new(ticket);
                    tokio::select! {
                        biased;
                        () = ticket.put_out() => {
                            debug!(component = "server", peer = %address, "ended: its place is needed");
                        }
                        () = connection(stream, address, door, state, drain, Arc::clone(&ticket), alive) => {}
                    }
                }));
            }
            Err(err) => {
                warn!(component = "server", err = chain(&err), "cannot accept a connection");
                sleep(ACCEPT_PAUSE).await;
            }
        }
    }
    drop((listener, alive));
    let _: Option<Infallible> = ended.recv().await;
}

async fn connection(
    stream: TcpStream,
    address: SocketAddr,
    door: Door,
    state: ServerState,
    drain: Drain,
    ticket: Arc<Ticket>,
    alive: mpsc::Sender<Infallible>,
) {
    if let Err(err) = stream.set_nodelay(true) {
        debug!(component = "server", peer = %address, err = chain(&err), "cannot set TCP_NODELAY");
    }
    let room = Room::default();
    let peer = Peer {
        user: None,
        address: address.to_string(),
        ticket: Some(ticket),
        room: Some(room.clone()),
        alive: Some(alive),
    };
    match door {
        Door::Api(acceptor) => speak_api(stream, acceptor, peer, room, state, drain).await,
        Door::Dashboard(dashboard) => {
            let ended = drain.clone();
            let answer = move |request| {
                let (dashboard, state, peer, drain) = (dashboard.clone(), state.clone(), peer.clone(), drain.clone());
                async move { dashboard.answer(state, peer, drain, request).await }.boxed()
            };
            let stream = Box::new(Impatient::new(stream, WRITE_MAX, room));
            talk(stream, &address.to_string(), ended, Box::new(answer)).await;
        }
    }
}

async fn speak_api(
    stream: TcpStream,
    acceptor: TlsAcceptor,
    mut peer: Peer,
    room: Room,
    state: ServerState,
    drain: Drain,
) {
    let address = peer.address.clone();
    let shaken = tokio::select! {
        biased;
        () = drain.drained() => return,
        shaken = timeout(HANDSHAKE_MAX, handshake(stream, acceptor, room)) => shaken,
    };
    let stream = match shaken {
        Ok(Ok(Some(stream))) => stream,
        Ok(Ok(None)) => return,
        Ok(Err(err)) => {
            debug!(component = "server", peer = %address, err = chain(&err), "TLS handshake failed");
            return;
        }
        Err(_elapsed) => {
            debug!(component = "server", peer = %address, "TLS handshake took too long");
            return;
        }
    };
    let certificate = stream.get_ref().1.peer_certificates().and_then(<[_]>::first);
    peer.user = certificate.and_then(|der| auth::user_of_certificate(der));
    if let (Some(ticket), Some(_)) = (&peer.ticket, &peer.user) {
        ticket.prove();
    }
    let ended = drain.clone();
    let answer = move |request| handle::handle(state.clone(), peer.clone(), drain.clone(), request).boxed();
    talk(Box::new(stream), &address, ended, Box::new(answer)).await;
}

/// The TLS stream; `None` when the peer speaks plain HTTP, which is told so.
async fn handshake(mut stream: TcpStream, acceptor: TlsAcceptor, room: Room) -> std::io::Result<Option<Stream>> {
    const TLS_HANDSHAKE: u8 = 0x16;
    let mut first = [0u8; 1];
    if stream.peek(&mut first).await? == 1 && first[0] != TLS_HANDSHAKE && first[0].is_ascii_uppercase() {
        // Source: the text of Go's net/http server.
        let text = "Client sent an HTTP request to an HTTPS server.\n";
        let head = format!("HTTP/1.0 400 Bad Request\r\nContent-Length: {}\r\n\r\n", text.len());
        stream.write_all(format!("{head}{text}").as_bytes()).await?;
        stream.shutdown().await?;
        return Ok(None);
    }
    let stream = Impatient::new(stream, WRITE_MAX, room);
    acceptor.accept_with(stream, |session| session.set_buffer_limit(Some(TLS_BUFFER_MAX))).await.map(Some)
}

/// Answers what is asked on a connection, until it ends.
async fn talk(stream: Box<dyn Duplex>, address: &str, drain: Drain, answer: Answers) {
    let service = hyper::service::service_fn(move |request| {
        let answered = answer(request);
        async move { Ok::<_, Infallible>(answered.await) }
    });
    let mut builder = Builder::new(Tasks);
    builder.http1().timer(TokioTimer::new()).header_read_timeout(HEAD_MAX).max_buf_size(HTTP1_BUFFER_MAX);
    builder
        .http2()
        .timer(TokioTimer::new())
        .keep_alive_interval(PING_EVERY)
        .keep_alive_timeout(PING_MAX)
        .max_concurrent_streams(STREAMS_MAX)
        .max_header_list_size(HTTP2_HEAD_MAX)
        .max_send_buf_size(HTTP2_BUFFER_MAX);
    let mut conversation = pin!(builder.serve_connection_with_upgrades(TokioIo::new(stream), service));
    let ended = tokio::select! {
        biased;
        () = drain.drained() => {
            conversation.as_mut().graceful_shutdown();
            timeout(DRAIN_MAX, conversation).await.unwrap_or(Ok(()))
        }
        ended = conversation.as_mut() => ended,
    };
    if let Err(err) = ended {
        debug!(component = "server", peer = %address, err = chain(&*err), "connection ended");
    }
}

//! Connections to the ports of a pod: over SPDY, a pair of streams for each; over a WebSocket that carries SPDY; or over the channels of
//! a WebSocket, one connection for each port.
//!
//! **Invariants**
//! - A connection that fails ends no other. A client of Kubernetes gives up all of them when it is told of an error, so an error is told
//!   while no connection has come about yet: then it is what the user did wrong. Later ones are cut, as a server that is away cuts them.
//!
//! **Source**: `k8s.io/kubelet/pkg/cri/streaming/portforward/{httpstream,websocket}.go`,
//! `k8s.io/apimachinery/pkg/util/httpstream/wsstream`, `k8s.io/apiserver/pkg/util/proxy/streamtunnel.go`, v1.37.

use super::{
    LEAVE_MAX, WAITING_MAX,
    channels::WebSocketChannels,
    spdy,
    streams::{begin, negotiate, note},
};
use crate::{
    api::status::ApiError,
    base::{
        duplex::Duplex,
        ordered::Map,
        task::{self, Drain},
    },
    node::streams::PodPorts,
    server::{
        request::Request,
        respond::Response,
        upgrade::{self, Upgrade},
        websocket::{close, offered, shake, socket},
    },
};
use bytes::{Bytes, BytesMut};
use futures::{SinkExt as _, StreamExt as _, stream::FuturesUnordered};
use std::{
    pin::pin,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
};
use tokio::{
    io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _},
    sync::mpsc,
    time::timeout,
};
use tokio_tungstenite::{WebSocketStream, tungstenite::Message};
use tracing::{debug, info};

/// The protocol of pairs of streams, and its name where a WebSocket carries SPDY.
const PAIRS: &str = "portforward.k8s.io";
const TUNNEL: &str = "SPDY/3.1+portforward.k8s.io";
/// The largest message that is read.
const READ_BYTES_MAX: usize = 1 << 20;
/// What is read at a time, and what waits within a tunnel.
const PIECE_BYTES: usize = 64 * 1024;
/// Pairs of which one stream is there. Clients open both at once.
const HALVES_MAX: usize = 100;

/// The ports that a query names.
pub(in crate::server) struct Numbers(Vec<u16>);

impl Numbers {
    /// Reads `ports` of a query: numbers, each its own or several with commas.
    pub(in crate::server) fn of(request: &Request) -> Result<Self, ApiError> {
        let all = request.query.all("ports").flat_map(|text| text.split(','));
        let number = |text: &str| {
            let bad = || ApiError::BadRequest(format!("ports: {text:?} is no port: say a number from 1 to 65535"));
            text.trim().parse().ok().filter(|port| *port > 0).ok_or_else(bad)
        };
        all.map(number).collect::<Result<_, _>>().map(Self)
    }
}

/// The ports of a pod, for one client.
struct Forwarding {
    ports: Arc<dyn PodPorts>,
    pod: String,
    /// Whether a connection has come about.
    has_worked: AtomicBool,
}

impl Forwarding {
    fn new(ports: Arc<dyn PodPorts>, pod: String) -> Arc<Self> {
        Arc::new(Self { ports, pod, has_worked: AtomicBool::new(false) })
    }

    /// A connection, or what the client is told: nothing, when it is to go on.
    async fn connect(&self, port: u16) -> Result<Box<dyn Duplex>, Option<String>> {
        match self.ports.connect(port).await {
            Ok(stream) => {
                self.has_worked.store(true, Ordering::Relaxed);
                Ok(stream)
            }
            Err(why) => {
                let text = format!("error forwarding port {port} to pod {}, uid : {why}", self.pod);
                info!(component = "server", %text, "a forwarded connection failed");
                Err((!self.has_worked.load(Ordering::Relaxed)).then_some(text))
            }
        }
    }
}

/// Answers with connections over SPDY, bare or within a WebSocket.
pub(in crate::server) fn ports_over_spdy(
    request: &mut Request,
    ports: Arc<dyn PodPorts>,
    pod: String,
    drain: Drain,
) -> Result<Response, ApiError> {
    let forwarding = Forwarding::new(ports, pod);
    if !request.wants_websocket() {
        let (response, upgrade) = begin(request, negotiate(request, &[PAIRS])?)?;
        let work = upgrade::hold(upgrade, move |stream| carry(stream, forwarding, drain));
        drop(task::spawn("port-forward", work));
        return Ok(response);
    }
    let (response, upgrade) = shake(request, Some(TUNNEL))?;
    let work = upgrade::hold(upgrade, move |connection| async move {
        let socket = socket(connection, READ_BYTES_MAX).await;
        let (inner, outer) = tokio::io::duplex(PIECE_BYTES);
        tokio::join!(carry(inner, forwarding, drain), tunnel(socket, outer));
    });
    drop(task::spawn("port-forward", work));
    Ok(response)
}

/// Carries bytes between a WebSocket's messages and a stream.
async fn tunnel<S>(socket: WebSocketStream<S>, stream: tokio::io::DuplexStream)
where
    S: AsyncRead + AsyncWrite + Unpin + Send,
{
    let (mut sink, mut said) = socket.split();
    let (mut reader, mut writer) = tokio::io::split(stream);
    let hear = async {
        while let Some(Ok(message)) = said.next().await {
            match message {
                Message::Binary(bytes) if writer.write_all(&bytes).await.is_err() => break,
                Message::Close(_) => break,
                _ => {}
            }
        }
    };
    let tell = async {
        let mut bytes = BytesMut::with_capacity(PIECE_BYTES);
        while matches!(reader.read_buf(&mut bytes).await, Ok(1..)) {
            if sink.send(Message::Binary(bytes.split().freeze())).await.is_err() {
                return;
            }
            bytes.reserve(PIECE_BYTES);
        }
        drop(close(&mut sink).await);
    };
    tokio::select! {
        biased;
        () = tell => {}
        () = hear => {}
    }
}

/// The streams of a pair, as far as they are there.
#[derive(Default)]
struct Half {
    data: Option<spdy::Stream>,
    error: Option<spdy::Stream>,
}

/// Makes a connection of each pair of streams, until the client leaves.
async fn carry<S>(stream: S, forwarding: Arc<Forwarding>, drain: Drain)
where
    S: AsyncRead + AsyncWrite + Send,
{
    let (mut connection, carried) = spdy::open(stream);
    let mut carried = pin!(carried);
    let hold = async {
        let mut halves: Map<String, Half> = Map::new();
        let mut running = FuturesUnordered::new();
        loop {
            let opened = tokio::select! {
                biased;
                Some(()) = running.next() => continue,
                opened = connection.streams.recv() => opened,
            };
            let Some(stream) = opened else { return };
            let (id, port) = (stream.value("requestID").to_owned(), stream.value("port").parse().ok());
            let Some(port) = port.filter(|port| *port > 0 && halves.len() < HALVES_MAX) else {
                debug!(component = "server", id, "a client opened a stream for no port");
                continue;
            };
            let half = halves.entry(id.clone()).or_default();
            match stream.value("streamType") {
                "error" => half.error = Some(stream),
                _ => half.data = Some(stream),
            }
            if half.error.is_some() && half.data.is_some() {
                let Half { data, error } = halves.remove(&id).unwrap_or_default();
                running.extend(data.zip(error).map(|(data, error)| pair(Arc::clone(&forwarding), port, data, error)));
            }
        }
    };
    tokio::select! {
        biased;
        ended = &mut carried => return note(ended),
        () = drain.drained() => {}
        () = hold => {}
    }
    connection.go_away().await;
    drop(timeout(LEAVE_MAX, carried).await);
}

async fn pair(forwarding: Arc<Forwarding>, port: u16, data: spdy::Stream, error: spdy::Stream) {
    let spdy::Stream { reader, writer, .. } = data;
    match forwarding.connect(port).await {
        Ok(stream) => relay(stream, reader, Answers::Stream(writer)).await,
        Err(told) => {
            if let Some(text) = told {
                drop(error.writer.send(text.into()).await);
            }
            drop(writer.finish().await);
        }
    }
    drop(error.writer.finish().await);
}

/// Where a connection's answers go.
enum Answers {
    /// To a stream.
    Stream(spdy::Writer),
    /// To a channel, which has no end.
    Channel(u8, mpsc::Sender<(u8, Bytes)>),
}

impl Answers {
    /// Whether there is somebody who hears them.
    async fn send(&self, bytes: Bytes) -> bool {
        match self {
            Self::Stream(writer) => writer.send(bytes).await.is_ok(),
            Self::Channel(channel, out) => out.send((*channel, bytes)).await.is_ok(),
        }
    }

    async fn finish(&self) {
        if let Self::Stream(writer) = self {
            drop(writer.finish().await);
        }
    }
}

/// Carries bytes between a connection and a client until the server has said all: nothing that the client says arrives then.
async fn relay(stream: Box<dyn Duplex>, mut said: mpsc::Receiver<Bytes>, answers: Answers) {
    let (mut reader, mut writer) = tokio::io::split(stream);
    let hear = async {
        while let Some(bytes) = said.recv().await {
            if writer.write_all(&bytes).await.is_err() {
                break;
            }
        }
        drop(writer.shutdown().await);
        // What comes later is dropped, so that other connections go on.
        while said.recv().await.is_some() {}
        std::future::pending::<()>().await;
    };
    let answer = async {
        let mut bytes = BytesMut::with_capacity(PIECE_BYTES);
        while matches!(reader.read_buf(&mut bytes).await, Ok(1..)) {
            if !answers.send(bytes.split().freeze()).await {
                return;
            }
            bytes.reserve(PIECE_BYTES);
        }
        answers.finish().await;
    };
    tokio::select! {
        biased;
        () = answer => {}
        () = hear => {}
    }
}

/// Connections over the channels of a WebSocket: two for each port, its data and its errors.
pub(in crate::server) struct WebSocketPorts(WebSocketChannels);

impl WebSocketPorts {
    /// Whether a client wants SPDY within its WebSocket.
    pub(in crate::server) fn is_tunnel(request: &Request) -> bool {
        offered(&request.headers).contains(&TUNNEL)
    }

    /// The first of what a client offers that is known.
    pub(in crate::server) fn agreed(request: &Request) -> Result<Self, ApiError> {
        WebSocketChannels::agreed(request).map(Self)
    }

    /// Answers with a connection for each port.
    pub(in crate::server) fn answer(
        self,
        request: &mut Request,
        Numbers(numbers): Numbers,
        ports: Arc<dyn PodPorts>,
        pod: String,
        drain: Drain,
    ) -> Result<Response, ApiError> {
        // A channel is a byte.
        const PORTS_MAX: usize = 127;
        if numbers.is_empty() || numbers.len() > PORTS_MAX {
            return Err(ApiError::BadRequest(format!("ports: name from 1 to {PORTS_MAX} ports")));
        }
        let (response, upgrade): (Response, Upgrade) = shake(request, self.0.name())?;
        let forwarding = Forwarding::new(ports, pod);
        let work = upgrade::hold(upgrade, move |connection| async move {
            let socket = socket(connection, READ_BYTES_MAX).await;
            tokio::select! {
                biased;
                () = drain.drained() => {}
                () = self.carry(socket, numbers, forwarding) => {}
            }
        });
        drop(task::spawn("port-forward", work));
        Ok(response)
    }

    async fn carry<S>(self, socket: WebSocketStream<S>, numbers: Vec<u16>, forwarding: Arc<Forwarding>)
    where
        S: AsyncRead + AsyncWrite + Unpin + Send,
    {
        let (mut sink, mut said) = socket.split();
        let (out, mut to_send) = mpsc::channel::<(u8, Bytes)>(WAITING_MAX);
        let mut listeners = Vec::new();
        let running = FuturesUnordered::new();
        for (n, port) in (0u8..).zip(numbers) {
            let (give, said) = mpsc::channel(WAITING_MAX);
            listeners.push(Some(give));
            running.push(one(Arc::clone(&forwarding), port, n * 2, said, out.clone()));
        }
        drop(out);
        let run = async {
            running.collect::<()>().await;
        };
        let tell = async {
            while let Some((channel, bytes)) = to_send.recv().await {
                if sink.send(self.0.message(channel, &bytes)).await.is_err() {
                    return;
                }
            }
            drop(close(&mut sink).await);
        };
        let hear = async {
            while let Some(Ok(message)) = said.next().await {
                let parsed = match message {
                    Message::Binary(bytes) => self.0.parse(bytes),
                    Message::Text(text) => self.0.parse(text.into()),
                    Message::Close(_) => break,
                    _ => None,
                };
                let Some((channel, bytes)) = parsed.filter(|(channel, _)| channel % 2 == 0) else { continue };
                if let Some(Some(listener)) = listeners.get(usize::from(channel / 2)) {
                    drop(listener.send(bytes).await);
                }
            }
        };
        tokio::select! {
            biased;
            ((), ()) = async { tokio::join!(run, tell) } => {}
            () = hear => {}
        }
    }
}

/// One port's connection: its number on both channels, then what it says.
async fn one(
    forwarding: Arc<Forwarding>,
    port: u16,
    channel: u8,
    said: mpsc::Receiver<Bytes>,
    out: mpsc::Sender<(u8, Bytes)>,
) {
    let (answers, errors) = (Answers::Channel(channel, out.clone()), Answers::Channel(channel + 1, out));
    for channel in [&answers, &errors] {
        channel.send(Bytes::copy_from_slice(&port.to_le_bytes())).await;
    }
    match forwarding.ports.connect(port).await {
        Ok(stream) => relay(stream, said, answers).await,
        Err(why) => {
            let text = format!("error forwarding port {port} to pod {}, uid : {why}", forwarding.pod);
            errors.send(text.into()).await;
        }
    }
}

//! Streams over WebSocket, for clients that can open nothing else: a watch, a log.
//!
//! Called by `verbs` with what is to be sent, one message each. `handle` gives every request that asks for it its [`Upgrade`].
//!
//! ```text
//! GET with Upgrade ──► 101 ──► messages ──► the stream's end, the client's close, drain, or the place is needed ──► close
//! ```
//!
//! **Invariants**
//! - A stream over WebSocket has the bounds of the others: its place (`gate`) and its connection's are held until it ends, and a message
//!   waits in memory until its peer takes the one before.
//! - What a client sends is read and means nothing, but for its close.
//!
//! **Source**: `k8s.io/apimachinery/pkg/util/httpstream/wsstream/{conn,stream}.go`, and `HandleWS` in
//! `k8s.io/apiserver/pkg/endpoints/handlers/watch.go`, v1.37.

use super::{
    Ticket,
    gate::Seat,
    request::Request,
    respond::{self, Response},
};
use crate::{
    api::status::ApiError,
    base::{chain::chain, task},
};
use base64::{Engine as _, engine::general_purpose::STANDARD as BASE64};
use bytes::Bytes;
use futures::{SinkExt as _, Stream, StreamExt as _, TryStreamExt as _};
use http::{HeaderMap, HeaderValue, StatusCode, header};
use hyper::upgrade::OnUpgrade;
use hyper_util::rt::TokioIo;
use std::{convert::Infallible, io, pin::pin, sync::Arc, time::Duration};
use tokio::{sync::mpsc, time::timeout};
use tokio_tungstenite::{
    WebSocketStream,
    tungstenite::{
        Message,
        handshake::derive_accept_key,
        protocol::{
            Role, WebSocketConfig,
            frame::{
                Frame,
                coding::{Data, OpCode},
            },
        },
    },
};
use tracing::debug;

/// The largest message that is read: clients have nothing to say.
const READ_BYTES_MAX: usize = 64 * 1024;
/// How long a client has to take the close.
const CLOSE_MAX: Duration = Duration::from_secs(5);
/// Protocols that say who calls and not how. Source: `bearerProtocolPrefix` in authentication/request/websocket/protocol.go.
const BEARER: &str = "base64url.bearer.authorization.k8s.io.";

/// A connection that may become a WebSocket, and what it holds for as long as it is one.
#[derive(Debug)]
pub(super) struct Upgrade {
    /// The connection, once its answer has gone out.
    pub(super) on: OnUpgrade,
    /// The connection's place.
    pub(super) ticket: Option<Arc<Ticket>>,
    /// The stream's place.
    pub(super) seat: Option<Seat>,
    /// Tells that the connection is there still.
    pub(super) alive: Option<mpsc::Sender<Infallible>>,
}

/// How messages are sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Framing {
    /// Text as text.
    Text,
    /// Bytes as they are.
    Binary,
    /// Bytes as text in base64.
    Base64,
}

impl Framing {
    /// A frame of a message; `goes_on` tells that it is not the first.
    fn message(self, Part { bytes, is_last }: Part, goes_on: bool) -> Message {
        let (bytes, opcode) = match self {
            Self::Binary => (bytes, Data::Binary),
            Self::Base64 => (BASE64.encode(&bytes).into(), Data::Text),
            Self::Text => (bytes, Data::Text),
        };
        let opcode = if goes_on { Data::Continue } else { opcode };
        Message::Frame(Frame::message(bytes, OpCode::Data(opcode), is_last))
    }
}

/// Whether a request asks for a WebSocket. Source: `IsWebSocketRequest` in wsstream/conn.go.
pub(super) fn is_wanted(headers: &HeaderMap) -> bool {
    let has = |name, word: &str| {
        let lines = headers.get_all(name).iter().filter_map(|v| v.to_str().ok());
        lines.flat_map(|line| line.split(',')).any(|part| part.trim().eq_ignore_ascii_case(word))
    };
    has(header::CONNECTION, "upgrade") && has(header::UPGRADE, "websocket")
}

/// The protocols that a client offers, best first, but for those that say who it is.
fn offered(headers: &HeaderMap) -> Vec<&str> {
    let lines = headers.get_all(header::SEC_WEBSOCKET_PROTOCOL).iter().filter_map(|v| v.to_str().ok());
    lines.flat_map(|line| line.split(',')).map(str::trim).filter(|p| !p.is_empty() && !p.starts_with(BEARER)).collect()
}

/// A part of a message. Large ones go out in several, so that all who send one share it.
#[derive(Clone, Debug)]
pub(super) struct Part {
    pub(super) bytes: Bytes,
    /// Whether the message ends with it.
    pub(super) is_last: bool,
}

/// Answers with events, one a message: text or bytes as the media type is. A protocol means nothing here, and is agreed to.
pub(super) fn events(
    request: &mut Request,
    framing: Framing,
    events: impl Stream<Item = io::Result<Part>> + Send + 'static,
) -> Result<Response, ApiError> {
    let offered = offered(&request.headers);
    if offered.len() > 1 {
        return Err(ApiError::BadRequest("offer one Sec-WebSocket-Protocol or none".to_owned()));
    }
    let protocol = offered.first().map(|protocol| (*protocol).to_owned());
    accept(request, protocol, framing, events)
}

/// Answers with bytes as they come, after an empty message that says that they will. Source: `NewReader` in wsstream/stream.go.
pub(super) fn bytes(
    request: &mut Request,
    bytes: impl Stream<Item = io::Result<Bytes>> + Send + 'static,
) -> Result<Response, ApiError> {
    const SUPPORTED: [(&str, Framing); 2] =
        [("binary.k8s.io", Framing::Binary), ("base64.binary.k8s.io", Framing::Base64)];
    let offered = offered(&request.headers);
    let agreed = offered.iter().find_map(|wish| SUPPORTED.iter().find(|(name, _)| name == wish));
    let (protocol, framing) = match agreed {
        Some((name, framing)) => (Some((*name).to_owned()), *framing),
        None if offered.is_empty() => (None, Framing::Binary),
        None => {
            let why = "requested protocol(s) are not supported";
            let names = SUPPORTED.map(|(name, _)| name).join(" ");
            return Err(ApiError::BadRequest(format!("{why}: [{}]; supports [ {names}]", offered.join(" "))));
        }
    };
    let beginning = futures::stream::once(async { Ok(Bytes::new()) });
    let whole = beginning.chain(bytes).map_ok(|bytes| Part { bytes, is_last: true });
    accept(request, protocol, framing, whole)
}

fn accept(
    request: &mut Request,
    protocol: Option<String>,
    framing: Framing,
    parts: impl Stream<Item = io::Result<Part>> + Send + 'static,
) -> Result<Response, ApiError> {
    let bad = |why: &str| ApiError::BadRequest(format!("unable to upgrade to a WebSocket: {why}"));
    let version = request.headers.get(header::SEC_WEBSOCKET_VERSION);
    if version.is_none_or(|version| version != "13") {
        return Err(bad("Sec-WebSocket-Version must be 13"));
    }
    let key = request.headers.get(header::SEC_WEBSOCKET_KEY).ok_or_else(|| bad("there is no Sec-WebSocket-Key"))?;
    let answer = derive_accept_key(key.as_bytes());
    let upgrade = request.upgrade.take().ok_or_else(|| bad("the connection cannot become one"))?;
    let mut response = http::Response::new(respond::full(Bytes::new()));
    *response.status_mut() = StatusCode::SWITCHING_PROTOCOLS;
    let headers = response.headers_mut();
    headers.insert(header::CONNECTION, HeaderValue::from_static("Upgrade"));
    headers.insert(header::UPGRADE, HeaderValue::from_static("websocket"));
    let value = |text: &str| HeaderValue::from_str(text).map_err(|err| bad(&err.to_string()));
    headers.insert(header::SEC_WEBSOCKET_ACCEPT, value(&answer)?);
    if let Some(protocol) = protocol {
        headers.insert(header::SEC_WEBSOCKET_PROTOCOL, value(&protocol)?);
    }
    drop(task::spawn("websocket", run(upgrade, framing, parts)));
    Ok(response)
}

/// Runs a WebSocket to its end.
async fn run(upgrade: Upgrade, framing: Framing, parts: impl Stream<Item = io::Result<Part>> + Send) {
    let Upgrade { on, ticket, seat, alive } = upgrade;
    match on.await {
        Ok(connection) => {
            let config = WebSocketConfig::default()
                .max_message_size(Some(READ_BYTES_MAX))
                .max_frame_size(Some(READ_BYTES_MAX))
                .write_buffer_size(0);
            let socket = WebSocketStream::from_raw_socket(TokioIo::new(connection), Role::Server, Some(config)).await;
            let put_out = async {
                match &ticket {
                    Some(ticket) => ticket.put_out().await,
                    None => std::future::pending().await,
                }
            };
            tokio::select! {
                biased;
                () = put_out => debug!(component = "server", "a WebSocket is ended: its place is needed"),
                () = converse(socket, framing, parts) => {}
            }
        }
        Err(err) => debug!(component = "server", err = chain(&err), "a connection did not become a WebSocket"),
    }
    drop((ticket, seat, alive));
}

/// Sends the messages until there are no more, or until the client has enough.
async fn converse<S>(socket: WebSocketStream<S>, framing: Framing, parts: impl Stream<Item = io::Result<Part>> + Send)
where
    S: tokio::io::AsyncRead + tokio::io::AsyncWrite + Unpin + Send,
{
    let (mut sink, mut said) = socket.split();
    let send_all = async {
        let mut parts = pin!(parts);
        let mut goes_on = false;
        while let Some(Ok(part)) = parts.next().await {
            let is_last = part.is_last;
            if let Err(err) = sink.send(framing.message(part, goes_on)).await {
                debug!(component = "server", err = chain(&err), "a WebSocket ended");
                return None;
            }
            goes_on = !is_last;
        }
        Some(sink)
    };
    let until_closed = async { while let Some(Ok(_)) = said.next().await {} };
    let sink = tokio::select! {
        biased;
        sink = send_all => sink,
        // The close is answered as it is read.
        () = until_closed => None,
    };
    if let Some(mut sink) = sink {
        let closed = async {
            if sink.close().await.is_ok() {
                while let Some(Ok(_)) = said.next().await {}
            }
        };
        if timeout(CLOSE_MAX, closed).await.is_err() {
            debug!(component = "server", "a client did not answer the close of its WebSocket");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn headers(lines: &[(&'static str, &'static str)]) -> HeaderMap {
        lines.iter().map(|(k, v)| (k.parse().unwrap(), HeaderValue::from_static(v))).collect()
    }

    #[test]
    fn a_request_says_that_it_wants_a_websocket() {
        assert!(is_wanted(&headers(&[("connection", "keep-alive, Upgrade"), ("upgrade", "WebSocket")])));
        assert!(!is_wanted(&headers(&[("connection", "Upgrade"), ("upgrade", "SPDY/3.1")])));
        assert!(!is_wanted(&headers(&[("upgrade", "websocket")])));
    }

    #[test]
    fn who_a_client_is_is_no_protocol() {
        let lines =
            headers(&[("sec-websocket-protocol", "base64url.bearer.authorization.k8s.io.dG9rZW4, binary.k8s.io")]);
        assert_eq!(offered(&lines), ["binary.k8s.io"]);
    }

    #[test]
    fn messages_are_text_bytes_or_base64() {
        let of = |framing: Framing, is_last, goes_on| {
            let part = Part { bytes: Bytes::from_static(b"a\n"), is_last };
            let Message::Frame(frame) = framing.message(part, goes_on) else { panic!("no frame") };
            format!(
                "{:?} {} {:?}",
                frame.header().opcode,
                frame.header().is_final,
                std::str::from_utf8(frame.payload())
            )
        };
        assert_eq!(of(Framing::Text, true, false), "Data(Text) true Ok(\"a\\n\")");
        assert_eq!(of(Framing::Binary, false, false), "Data(Binary) false Ok(\"a\\n\")");
        assert_eq!(of(Framing::Binary, true, true), "Data(Continue) true Ok(\"a\\n\")");
        assert_eq!(of(Framing::Base64, true, false), "Data(Text) true Ok(\"YQo=\")");
    }
}

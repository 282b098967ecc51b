//! Streams over WebSocket, for clients that can open nothing else: a watch, a log; and the handshake of every WebSocket.
//!
//! Called by `verbs` with what is to be sent, one message each, and by `remote` for those whose client speaks too.
//!
//! ```text
//! GET with Upgrade ──► 101 ──► messages ──► the stream's end, the client's close, drain, or the place is needed ──► close
//! ```
//!
//! **Invariants**
//! - A message waits in memory until its peer takes the one before.
//! - What a client sends to a stream is read and means nothing, but for its close.
//!
//! **Source**: `k8s.io/apimachinery/pkg/util/httpstream/wsstream/{conn,stream}.go`, and `HandleWS` in
//! `k8s.io/apiserver/pkg/endpoints/handlers/watch.go`, v1.37.

use super::{
    request::Request,
    respond::Response,
    upgrade::{self, Upgrade, Wish},
};
use crate::{
    api::status::ApiError,
    base::{chain::chain, task},
};
use base64::{Engine as _, engine::general_purpose::STANDARD as BASE64};
use bytes::Bytes;
use futures::{Sink, SinkExt as _, Stream, StreamExt as _, TryStreamExt as _};
use http::{HeaderMap, HeaderValue, header};
use std::{io, pin::pin, time::Duration};
use tokio::{
    io::{AsyncRead, AsyncWrite},
    time::timeout,
};
use tokio_tungstenite::{
    WebSocketStream,
    tungstenite::{
        self, Message,
        handshake::derive_accept_key,
        protocol::{
            CloseFrame, Role, WebSocketConfig,
            frame::{
                Frame,
                coding::{CloseCode, Data, OpCode},
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

/// The protocols that a client offers, best first, but for those that say who it is.
pub(super) fn offered(headers: &HeaderMap) -> Vec<&str> {
    let lines = headers.get_all(header::SEC_WEBSOCKET_PROTOCOL).iter().filter_map(|v| v.to_str().ok());
    lines.flat_map(|line| line.split(',')).map(str::trim).filter(|p| !p.is_empty() && !p.starts_with(BEARER)).collect()
}

/// Takes away what the protocols say of who calls.
pub(super) fn without_bearers(headers: &mut HeaderMap) {
    let left = offered(headers).join(", ");
    match HeaderValue::from_str(&left) {
        Ok(left) if !left.is_empty() => drop(headers.insert(header::SEC_WEBSOCKET_PROTOCOL, left)),
        _ => drop(headers.remove(header::SEC_WEBSOCKET_PROTOCOL)),
    }
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
    let (response, upgrade) = shake(request, protocol.as_deref())?;
    let work = upgrade::hold(upgrade, move |connection| async move {
        converse(socket(connection, READ_BYTES_MAX).await, framing, parts).await;
    });
    drop(task::spawn("websocket", work));
    Ok(response)
}

/// The server's end of the handshake, with a protocol that was agreed on.
pub(super) fn shake(request: &mut Request, protocol: Option<&str>) -> Result<(Response, Upgrade), ApiError> {
    let bad = |why: &str| ApiError::BadRequest(format!("unable to upgrade to a WebSocket: {why}"));
    let version = request.headers.get(header::SEC_WEBSOCKET_VERSION);
    if version.is_none_or(|version| version != "13") {
        return Err(bad("Sec-WebSocket-Version must be 13"));
    }
    let key = request.headers.get(header::SEC_WEBSOCKET_KEY).ok_or_else(|| bad("there is no Sec-WebSocket-Key"))?;
    let answer = derive_accept_key(key.as_bytes());
    let upgrade = request.upgrade.take().filter(|upgrade| upgrade.wish == Wish::WebSocket);
    let upgrade = upgrade.ok_or_else(|| bad("the connection cannot become one"))?;
    let mut response = upgrade::switching("websocket");
    let value = |text: &str| HeaderValue::from_str(text).map_err(|err| bad(&err.to_string()));
    response.headers_mut().insert(header::SEC_WEBSOCKET_ACCEPT, value(&answer)?);
    if let Some(protocol) = protocol {
        response.headers_mut().insert(header::SEC_WEBSOCKET_PROTOCOL, value(protocol)?);
    }
    Ok((response, upgrade))
}

/// The WebSocket of a connection after its handshake; it reads messages of at most so many bytes.
pub(super) async fn socket<S>(connection: S, message_bytes_max: usize) -> WebSocketStream<S>
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    let config = WebSocketConfig::default()
        .max_message_size(Some(message_bytes_max))
        .max_frame_size(Some(message_bytes_max))
        .write_buffer_size(0);
    WebSocketStream::from_raw_socket(connection, Role::Server, Some(config)).await
}

/// Says that all was said. Source: `Close` of `golang.org/x/net/websocket`: kubectl takes an end without a code for a broken connection.
pub(super) async fn close<S>(sink: &mut S) -> Result<(), tungstenite::Error>
where
    S: Sink<Message, Error = tungstenite::Error> + Unpin,
{
    sink.send(Message::Close(Some(CloseFrame { code: CloseCode::Normal, reason: "".into() }))).await
}

/// Sends the messages until there are no more, or until the client has enough.
async fn converse<S>(socket: WebSocketStream<S>, framing: Framing, parts: impl Stream<Item = io::Result<Part>> + Send)
where
    S: AsyncRead + AsyncWrite + Unpin + Send,
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
            if close(&mut sink).await.is_ok() {
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

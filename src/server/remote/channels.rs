//! The streams of a command over WebSocket: the first byte of a message, or its first digit where bytes are in base64, is the channel.
//!
//! **Source**: `createWebSocketStreams` in `k8s.io/kubelet/pkg/cri/streaming/remotecommand/websocket.go`, `Conn` in
//! `k8s.io/apimachinery/pkg/util/httpstream/wsstream/conn.go`, `pkg/util/remotecommand/constants.go`, v1.37.

use super::{Begin, Desk, End, LEAVE_MAX, Out, client, converse};
use crate::{
    api::status::ApiError,
    base::{
        json,
        task::{self, Drain},
    },
    node::streams::{Connected, Printed, TerminalSize},
    server::{
        request::Request,
        respond::Response,
        upgrade,
        websocket::{close, offered, shake, socket},
    },
};
use base64::{Engine as _, engine::general_purpose::STANDARD as BASE64};
use bytes::{BufMut as _, Bytes, BytesMut};
use futures::{Sink, SinkExt as _, Stream, StreamExt as _};
use serde::Deserialize;
use tokio::time::timeout;
use tokio_tungstenite::tungstenite::{self, Message};

const STDIN: u8 = 0;
const STDOUT: u8 = 1;
const STDERR: u8 = 2;
const ERROR: u8 = 3;
const RESIZE: u8 = 4;
const CLOSE: u8 = 255;
/// The largest message that is read.
const READ_BYTES_MAX: usize = 1 << 20;

/// What was agreed on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::server) struct WebSocketChannels {
    name: &'static str,
    is_base64: bool,
    /// Whether the end is told as a `Status`, or in words.
    has_status: bool,
    /// Whether a client can end a stream of its own.
    has_close: bool,
}

const fn protocol(name: &'static str, is_base64: bool, has_status: bool, has_close: bool) -> WebSocketChannels {
    WebSocketChannels { name, is_base64, has_status, has_close }
}

static PROTOCOLS: [WebSocketChannels; 6] = [
    protocol("", false, false, false),
    protocol("channel.k8s.io", false, false, false),
    protocol("base64.channel.k8s.io", true, false, false),
    protocol("v4.channel.k8s.io", false, true, false),
    protocol("v4.base64.channel.k8s.io", true, true, false),
    protocol("v5.channel.k8s.io", false, true, true),
];

impl WebSocketChannels {
    /// The first of what a client offers that is known.
    pub(in crate::server) fn agreed(request: &Request) -> Result<Self, ApiError> {
        let offered = offered(&request.headers);
        let known = |wish: &str| PROTOCOLS.iter().find(|known| known.name == wish).copied();
        let agreed = if offered.is_empty() { known("") } else { offered.iter().find_map(|wish| known(wish)) };
        agreed.ok_or_else(|| {
            let names: Vec<&str> = PROTOCOLS.iter().map(|p| p.name).filter(|name| !name.is_empty()).collect();
            let why = "requested protocol(s) are not supported";
            ApiError::BadRequest(format!("{why}: [{}]; supports [ {}]", offered.join(" "), names.join(" ")))
        })
    }

    /// Answers with a conversation.
    pub(in crate::server) fn answer(
        self,
        request: &mut Request,
        connected: Connected,
        begin: Begin,
        drain: Drain,
    ) -> Result<Response, ApiError> {
        let (response, upgrade) = shake(request, self.name())?;
        let work = upgrade::hold(upgrade, move |connection| async move {
            let (client, desk) = client(connected);
            let socket = socket(connection, READ_BYTES_MAX).await;
            tokio::join!(converse(begin, client, drain), self.carry(socket, connected, desk));
        });
        drop(task::spawn("exec", work));
        Ok(response)
    }

    /// Carries messages both ways until the one or the other end.
    async fn carry<S>(self, socket: S, connected: Connected, desk: Desk)
    where
        S: Stream<Item = tungstenite::Result<Message>> + Sink<Message, Error = tungstenite::Error> + Send,
    {
        let (mut sink, mut said) = socket.split();
        let Desk { stdin, resizes, mut out } = desk;
        let mut listening = Listening { channels: self, stdin, resizes };
        let listen = async {
            while let Some(Ok(message)) = said.next().await {
                match message {
                    Message::Binary(bytes) => listening.hear(bytes).await,
                    Message::Text(text) => listening.hear(text.into()).await,
                    Message::Close(_) => break,
                    _ => {}
                }
            }
        };
        let tell = async {
            // That the conversation has begun.
            sink.send(self.message(lowest(connected), &[])).await?;
            while let Some(out) = out.recv().await {
                let (channel, bytes) = match out {
                    Out::Printed(Printed::Stdout(bytes)) => (STDOUT, bytes),
                    Out::Printed(Printed::Stderr(bytes)) => (STDERR, bytes),
                    Out::End(end) => (ERROR, self.end(&end)),
                };
                if !(channel == ERROR && bytes.is_empty()) {
                    sink.send(self.message(channel, &bytes)).await?;
                }
            }
            close(&mut sink).await
        };
        let is_told = tokio::select! {
            biased;
            told = tell => told.is_ok(),
            () = listen => false,
        };
        drop(out);
        if is_told {
            // The close is answered as it is read.
            drop(timeout(LEAVE_MAX, async { while let Some(Ok(_)) = said.next().await {} }).await);
        }
    }

    fn end(self, end: &End) -> Bytes {
        if self.has_status { end.status().to_string().into() } else { end.text().into() }
    }

    /// Its name; none where the client offered none.
    pub(super) fn name(self) -> Option<&'static str> {
        Some(self.name).filter(|name| !name.is_empty())
    }

    pub(super) fn message(self, channel: u8, bytes: &[u8]) -> Message {
        if self.is_base64 {
            return Message::Text(format!("{channel}{}", BASE64.encode(bytes)).into());
        }
        let mut message = BytesMut::with_capacity(bytes.len() + 1);
        message.put_u8(channel);
        message.put_slice(bytes);
        Message::Binary(message.freeze())
    }

    /// The channel of a message, and what it says.
    pub(super) fn parse(self, mut message: Bytes) -> Option<(u8, Bytes)> {
        let first = *message.first()?;
        let rest = message.split_off(1);
        if !self.is_base64 {
            return Some((first, rest));
        }
        let channel = first.checked_sub(b'0').filter(|digit| *digit < 10)?;
        Some((channel, BASE64.decode(rest).ok()?.into()))
    }
}

/// The first channel that the client hears.
fn lowest(connected: Connected) -> u8 {
    if connected.stdout {
        STDOUT
    } else if connected.stderr {
        STDERR
    } else {
        ERROR
    }
}

/// What hears the client.
struct Listening {
    channels: WebSocketChannels,
    stdin: Option<tokio::sync::mpsc::Sender<Bytes>>,
    resizes: Option<tokio::sync::mpsc::Sender<TerminalSize>>,
}

impl Listening {
    /// Hands on what a message says; what nobody asked for is dropped.
    async fn hear(&mut self, message: Bytes) {
        match self.channels.parse(message) {
            Some((STDIN, bytes)) if !bytes.is_empty() => {
                if let Some(stdin) = &self.stdin {
                    drop(stdin.send(bytes).await);
                }
            }
            Some((RESIZE, bytes)) => {
                if let (Some(resizes), Some(size)) = (&self.resizes, size(&bytes)) {
                    resizes.send(size).await.ok();
                }
            }
            Some((CLOSE, bytes)) if self.channels.has_close && bytes.first() == Some(&STDIN) => self.stdin = None,
            _ => {}
        }
    }
}

/// A terminal's size, as clients write it.
pub(super) fn size(text: &[u8]) -> Option<TerminalSize> {
    #[derive(Deserialize)]
    #[serde(rename_all = "PascalCase")]
    struct Size {
        #[serde(alias = "width")]
        width: u16,
        #[serde(alias = "height")]
        height: u16,
    }
    let Size { width, height } = json::read(text).ok()?;
    (width > 0 && height > 0).then_some(TerminalSize { columns: width, rows: height })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn named(name: &str) -> WebSocketChannels {
        *PROTOCOLS.iter().find(|known| known.name == name).unwrap()
    }

    #[test]
    fn a_message_begins_with_its_channel() {
        let (v5, base64) = (named("v5.channel.k8s.io"), named("v4.base64.channel.k8s.io"));
        assert_eq!(v5.message(STDOUT, b"hi"), Message::Binary(Bytes::from_static(b"\x01hi")));
        assert_eq!(base64.message(STDOUT, b"hi"), Message::Text("1aGk=".into()));
        assert_eq!(v5.parse(Bytes::from_static(b"\0\0x")), Some((STDIN, Bytes::from_static(b"\0x"))));
        assert_eq!(base64.parse(Bytes::from_static(b"0aGk=")), Some((STDIN, Bytes::from_static(b"hi"))));
        assert_eq!(base64.parse(Bytes::from_static(b"?aGk=")), None);
        assert_eq!(v5.parse(Bytes::new()), None);
    }

    #[test]
    fn a_size_is_read_as_clients_write_it() {
        let is = Some(TerminalSize { columns: 80, rows: 24 });
        assert_eq!(size(br#"{"Width":80,"Height":24}"#), is);
        assert_eq!(size(br#"{"width":80,"height":24}"#), is);
        assert_eq!(size(br#"{"Width":0,"Height":24}"#), None);
        assert_eq!(size(b"80x24"), None);
    }
}

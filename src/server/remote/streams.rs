//! The streams of a command over SPDY: the client opens one for each, named by `streamType`.
//!
//! **Source**: `k8s.io/kubelet/pkg/cri/streaming/remotecommand/httpstream.go`, `k8s.io/apimachinery/pkg/util/httpstream/httpstream.go`
//! (`Handshake`), v1.37.

use super::{Begin, Desk, LEAVE_MAX, Out, SPDY, channels::size, client, converse, spdy};
use crate::{
    api::status::ApiError,
    base::{
        chain::chain,
        task::{self, Drain},
    },
    node::streams::{Connected, Printed},
    server::{
        request::Request,
        respond::Response,
        upgrade::{self, Upgrade},
    },
};
use bytes::{Buf as _, Bytes};
use http::HeaderValue;
use std::{io, pin::pin, time::Duration};
use tokio::time::timeout;
use tracing::debug;

/// The header that names the protocol within SPDY.
pub(super) const PROTOCOL: &str = "x-stream-protocol-version";
/// How long a client has to open its streams. Source: `defaultStreamCreationTimeout`.
const OPEN_MAX: Duration = Duration::from_secs(30);

/// What was agreed on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::server) struct SpdyStreams {
    name: &'static str,
    has_resize: bool,
    /// Whether the end is told as a `Status`, or in words.
    has_status: bool,
}

static PROTOCOLS: [SpdyStreams; 3] = [
    SpdyStreams { name: "v4.channel.k8s.io", has_resize: true, has_status: true },
    SpdyStreams { name: "v3.channel.k8s.io", has_resize: true, has_status: false },
    SpdyStreams { name: "v2.channel.k8s.io", has_resize: false, has_status: false },
];

/// The first of what a client offers that is supported.
pub(super) fn negotiate(request: &Request, supported: &[&'static str]) -> Result<&'static str, ApiError> {
    let lines = request.headers.get_all(PROTOCOL).iter().filter_map(|line| line.to_str().ok());
    let offered: Vec<&str> = lines.flat_map(|line| line.split(',')).map(str::trim).collect();
    let agreed = offered.iter().find_map(|wish| supported.iter().find(|known| *known == wish));
    agreed.copied().ok_or_else(|| ApiError::Forbidden {
        resource: String::new(),
        name: String::new(),
        why: format!(
            "unable to upgrade: unable to negotiate protocol: client supports {offered:?}, server accepts {supported:?}"
        ),
    })
}

/// The answer that begins SPDY with a protocol, and its connection.
pub(super) fn begin(request: &mut Request, protocol: &'static str) -> Result<(Response, Upgrade), ApiError> {
    let upgrade = request.upgrade.take();
    let upgrade = upgrade.ok_or_else(|| ApiError::BadRequest("Upgrade request required".to_owned()))?;
    let mut response = upgrade::switching(SPDY);
    response.headers_mut().insert(PROTOCOL, HeaderValue::from_static(protocol));
    Ok((response, upgrade))
}

/// The streams of a command, once they are open.
#[derive(Default)]
struct Open {
    error: Option<spdy::Stream>,
    stdin: Option<spdy::Stream>,
    stdout: Option<spdy::Stream>,
    stderr: Option<spdy::Stream>,
    resize: Option<spdy::Stream>,
}

impl SpdyStreams {
    /// The first of what a client offers that is known.
    pub(in crate::server) fn agreed(request: &Request) -> Result<Self, ApiError> {
        let name = negotiate(request, &PROTOCOLS.map(|known| known.name))?;
        Ok(PROTOCOLS.into_iter().find(|known| known.name == name).expect("it was found there"))
    }

    /// Answers with a conversation.
    pub(in crate::server) fn answer(
        self,
        request: &mut Request,
        connected: Connected,
        begin_session: Begin,
        drain: Drain,
    ) -> Result<Response, ApiError> {
        let (response, upgrade) = begin(request, self.name)?;
        let work = upgrade::hold(upgrade, move |stream| async move {
            let (mut connection, carry) = spdy::open(stream);
            let mut carry = pin!(carry);
            let hold = async {
                match timeout(OPEN_MAX, self.all_open(&mut connection, connected)).await {
                    Ok(Some(open)) => self.talk(open, connected, begin_session, drain).await,
                    Ok(None) | Err(_) => {
                        debug!(component = "server", "a client did not open the streams of its command");
                    }
                }
                connection.go_away().await;
            };
            tokio::select! {
                biased;
                carried = &mut carry => return note(carried),
                () = hold => {}
            }
            // What was said goes out; the client takes its leave.
            drop(timeout(LEAVE_MAX, carry).await);
        });
        drop(task::spawn("exec", work));
        Ok(response)
    }

    /// Waits until the client has opened what it asked for; nothing when it leaves.
    async fn all_open(self, connection: &mut spdy::Connection, connected: Connected) -> Option<Open> {
        let Connected { stdin, stdout, stderr, tty } = connected;
        let has_resize = tty && self.has_resize;
        let mut open = Open::default();
        let is_all = |open: &Open| {
            let is = |wanted: bool, stream: &Option<spdy::Stream>| !wanted || stream.is_some();
            is(true, &open.error)
                && is(stdin, &open.stdin)
                && is(stdout, &open.stdout)
                && is(stderr && !tty, &open.stderr)
                && is(has_resize, &open.resize)
        };
        while !is_all(&open) {
            let stream = connection.streams.recv().await?;
            let place = match stream.value("streamType") {
                "error" => &mut open.error,
                "stdin" => &mut open.stdin,
                "stdout" => &mut open.stdout,
                "stderr" => &mut open.stderr,
                "resize" => &mut open.resize,
                other => {
                    debug!(component = "server", kind = other, "a client opened a stream that no command has");
                    continue;
                }
            };
            *place = Some(stream);
        }
        Some(open)
    }

    async fn talk(self, open: Open, connected: Connected, begin: Begin, drain: Drain) {
        let Open { error, stdin, stdout, stderr, resize } = open;
        let (client, Desk { stdin: give, resizes, mut out }) = client(connected);
        let give = async {
            if let (Some(mut stdin), Some(give)) = (stdin, give) {
                while let Some(bytes) = stdin.reader.recv().await {
                    if give.send(bytes).await.is_err() {
                        break;
                    }
                }
                // What comes later is read and dropped, so that other streams go on.
                drop(give);
                while stdin.reader.recv().await.is_some() {}
            }
        };
        let resize = async {
            if let (Some(mut resize), Some(resizes)) = (resize, resizes) {
                let mut text = Vec::new();
                while let Some(bytes) = resize.reader.recv().await {
                    for size in sizes(&mut text, &bytes) {
                        resizes.send(size).await.ok();
                    }
                }
            }
        };
        let tell = async {
            while let Some(told) = out.recv().await {
                let said = match told {
                    Out::Printed(Printed::Stdout(bytes)) => send(stdout.as_ref(), bytes).await,
                    Out::Printed(Printed::Stderr(bytes)) => send(stderr.as_ref(), bytes).await,
                    Out::End(end) => {
                        let text = if self.has_status { end.status().to_string() } else { end.text() };
                        send(error.as_ref(), text.into()).await
                    }
                };
                if said.is_err() {
                    break;
                }
            }
            for stream in [&stdout, &stderr, &error].into_iter().flatten() {
                drop(stream.writer.finish().await);
            }
        };
        let hear = async {
            tokio::join!(give, resize);
            std::future::pending::<()>().await;
        };
        tokio::select! {
            biased;
            ((), ()) = async { tokio::join!(converse(begin, client, drain), tell) } => {}
            () = hear => {}
        }
    }
}

async fn send(to: Option<&spdy::Stream>, bytes: Bytes) -> Result<(), spdy::Gone> {
    match to {
        Some(stream) => stream.writer.send(bytes).await,
        None => Ok(()),
    }
}

/// The sizes in what has come so far, one JSON object after another.
fn sizes(text: &mut Vec<u8>, more: &[u8]) -> Vec<crate::node::streams::TerminalSize> {
    const TEXT_BYTES_MAX: usize = 1024;
    text.extend_from_slice(more);
    let mut all = Vec::new();
    while let Some(end) = text.iter().position(|byte| *byte == b'}') {
        let mut rest = text.split_off(end + 1);
        std::mem::swap(text, &mut rest);
        all.extend(size(rest.as_slice().chunk()));
    }
    text.truncate(TEXT_BYTES_MAX);
    all
}

/// Notes how a connection ended.
pub(super) fn note(carried: io::Result<()>) {
    if let Err(err) = carried {
        debug!(component = "server", err = chain(&err), "a client's streams broke");
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::node::streams::TerminalSize;

    #[test]
    fn sizes_come_in_pieces() {
        let mut text = Vec::new();
        assert_eq!(sizes(&mut text, br#"{"Width":80,"#), []);
        let is = |columns, rows| TerminalSize { columns, rows };
        let more = b"\"Height\":24}\n{\"Width\":90,\"Height\":30}\n{\"Wid";
        assert_eq!(sizes(&mut text, more), [is(80, 24), is(90, 30)]);
        assert_eq!(text, b"\n{\"Wid");
    }
}

//! Conversations with containers: `exec`, `attach`, `port-forward`. What a client says over WebSocket or SPDY meets a program's streams.
//!
//! Called by `verbs`, which has found the container and knows what the client wants. `channels` is the streams of a command over
//! WebSocket, `streams` the same over SPDY, `ports` is connections over both.
//!
//! ```text
//! client ◄─ channels | streams ─► Client { stdin, resizes, out } ◄─ converse ─► Session (node)
//! ```
//!
//! **Invariants**
//! - A client that leaves ends the conversation at once; a program that ends is told with its exit code, after all that it printed.
//! - Whoever is slow makes the other wait: a few pieces are kept in memory.
//!
//! **Source**: `k8s.io/kubelet/pkg/cri/streaming/remotecommand/{exec,attach,httpstream,websocket}.go`, v1.37.

mod channels;
mod ports;
mod spdy;
mod streams;

pub(super) use channels::WebSocketChannels;
pub(super) use ports::{Numbers, WebSocketPorts, ports_over_spdy};
pub(super) use streams::SpdyStreams;

#[cfg(test)]
pub(super) use spdy::Peer;

use crate::{
    base::task::Drain,
    node::streams::{Connected, Printed, Session, TerminalSize},
};
use bytes::Bytes;
use futures::{StreamExt as _, future::BoxFuture};
use serde_json::{Value, json};
use std::time::Duration;
use tokio::{io::AsyncWriteExt as _, sync::mpsc};

/// The name of the protocol in an upgrade.
pub(super) const SPDY: &str = "SPDY/3.1";
/// Pieces that wait in memory.
const WAITING_MAX: usize = 4;
/// How long a client has to take its leave.
const LEAVE_MAX: Duration = Duration::from_secs(5);

/// What is said to a client.
#[derive(Debug)]
enum Out {
    /// What the program prints.
    Printed(Printed),
    /// How it ended.
    End(End),
}

/// How a conversation ended.
#[derive(Clone, Debug, PartialEq, Eq)]
enum End {
    /// Well.
    Success,
    /// With this exit code.
    Exit(i64),
    /// The program did not begin, or was lost.
    Error(String),
}

impl End {
    /// As a `Status`.
    fn status(&self) -> Value {
        match self {
            Self::Success => json!({"metadata": {}, "status": "Success"}),
            Self::Exit(code) => json!({
                "metadata": {}, "status": "Failure", "reason": "NonZeroExitCode", "message": self.text(),
                "details": {"causes": [{"reason": "ExitCode", "message": code.to_string()}]},
            }),
            Self::Error(_) => json!({
                "metadata": {}, "status": "Failure", "reason": "InternalError", "code": 500, "message": self.text(),
                "details": {"causes": [{"message": self.text()}]},
            }),
        }
    }

    /// In words; of a good end there are none.
    fn text(&self) -> String {
        match self {
            Self::Success => String::new(),
            Self::Exit(code) => format!("command terminated with non-zero exit code: exit code {code}"),
            Self::Error(why) => format!("Internal error occurred: error executing command in container: {why}"),
        }
    }
}

/// A client, whatever it speaks.
struct Client {
    /// What it gives the program; ends with its end.
    stdin: mpsc::Receiver<Bytes>,
    /// How large its terminal is, from time to time.
    resizes: mpsc::Receiver<TerminalSize>,
    /// What it is told; closed when it has left.
    out: mpsc::Sender<Out>,
}

/// The server's side of a client: what `channels` and `streams` fill and empty.
struct Desk {
    stdin: Option<mpsc::Sender<Bytes>>,
    resizes: Option<mpsc::Sender<TerminalSize>>,
    out: mpsc::Receiver<Out>,
}

fn client(connected: Connected) -> (Client, Desk) {
    let (give, stdin) = mpsc::channel(WAITING_MAX);
    let (resize, resizes) = mpsc::channel(WAITING_MAX);
    let (out, told) = mpsc::channel(WAITING_MAX);
    let desk = Desk { stdin: connected.stdin.then_some(give), resizes: Some(resize), out: told };
    (Client { stdin, resizes, out }, desk)
}

/// How a conversation begins: the error is what its client reads.
pub(super) type Begin = BoxFuture<'static, Result<Session, String>>;

/// Holds a conversation until the program or the client ends it.
async fn converse(begin: Begin, client: Client, drain: Drain) {
    let Client { mut stdin, mut resizes, out } = client;
    let session = tokio::select! {
        biased;
        () = out.closed() => return,
        session = begin => session,
    };
    let Session { mut output, input, control } = match session {
        Ok(session) => session,
        Err(why) => return drop(out.send(Out::End(End::Error(why))).await),
    };
    let give = async {
        if let Some(mut input) = input {
            // A program need not read what it is given.
            while let Some(bytes) = stdin.recv().await {
                if input.write_all(&bytes).await.is_err() {
                    break;
                }
            }
            drop(input.shutdown().await);
        }
        std::future::pending::<()>().await;
    };
    let resize = async {
        while let Some(size) = resizes.recv().await {
            if let Err(err) = control.resize(size).await {
                tracing::debug!(component = "server", %err, "a terminal keeps its size");
            }
        }
        std::future::pending::<()>().await;
    };
    let print = async {
        while let Some(printed) = output.next().await {
            match printed {
                Ok(printed) => out.send(Out::Printed(printed)).await.ok()?,
                Err(err) => return Some(End::Error(err.to_string())),
            }
        }
        Some(match control.exit_code().await {
            Ok(None | Some(0)) => End::Success,
            Ok(Some(code)) => End::Exit(code),
            Err(err) => End::Error(err.to_string()),
        })
    };
    let end = tokio::select! {
        biased;
        () = out.closed() => None,
        () = drain.drained() => Some(End::Error("skiff is shutting down".to_owned())),
        end = print => end,
        () = give => None,
        () = resize => None,
    };
    if let Some(end) = end {
        // Whoever has left need not be told.
        drop(out.send(Out::End(end)).await);
    }
}

/// What a client heard.
#[cfg(any(test, feature = "testing"))]
#[derive(Debug, PartialEq, Eq)]
pub struct Heard {
    /// What was printed, in order.
    pub printed: Vec<u8>,
    /// How it ended: with a code, or why not. `None`: the server left first.
    pub end: Option<Result<i64, String>>,
}

/// A conversation without a connection: what a client hears that says this, and then ends its input.
#[cfg(any(test, feature = "testing"))]
pub async fn hear(begin: Begin, said: Bytes, drain: Drain) -> Heard {
    let (client, Desk { stdin, resizes: _resizes, mut out }) =
        client(Connected { stdin: true, ..Connected::default() });
    let say = async move {
        if let Some(stdin) = stdin {
            // A program need not read it.
            drop(stdin.send(said).await);
        }
    };
    let listen = async {
        let mut heard = Heard { printed: Vec::new(), end: None };
        while let Some(told) = out.recv().await {
            match told {
                Out::Printed(Printed::Stdout(bytes) | Printed::Stderr(bytes)) => heard.printed.extend(bytes),
                Out::End(End::Success) => heard.end = Some(Ok(0)),
                Out::End(End::Exit(code)) => heard.end = Some(Ok(code)),
                Out::End(End::Error(why)) => heard.end = Some(Err(why)),
            }
        }
        heard
    };
    let ((), (), heard) = tokio::join!(converse(begin, client, drain), say, listen);
    heard
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_end_is_a_status() {
        assert_eq!(End::Success.status(), json!({"metadata": {}, "status": "Success"}));
        let exit = End::Exit(3).status();
        assert_eq!(
            (&exit["reason"], &exit["details"]["causes"][0]["message"]),
            (&json!("NonZeroExitCode"), &json!("3"))
        );
        let error = End::Error("no".to_owned()).status();
        assert_eq!(error["message"], "Internal error occurred: error executing command in container: no");
    }
}

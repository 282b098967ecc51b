//! Conversations with the programs of fake containers.

use crate::engine::{Connected, EngineError, Printed, Session, SessionControl, TerminalSize};
use async_trait::async_trait;
use bytes::Bytes;
use futures::{
    StreamExt as _,
    channel::mpsc::UnboundedReceiver,
    stream::{self, BoxStream},
};
use std::{
    pin::Pin,
    sync::{Arc, Mutex},
    time::Duration,
};
use tokio::io::{AsyncBufReadExt as _, AsyncReadExt as _, AsyncWrite, BufReader, DuplexStream, duplex};

/// What is on its way between a program and who talks to it.
const PIPE_BYTES: usize = 64 * 1024;

/// Prints to both of its outputs, and fails.
pub const PRINTS_BOTH: &str = "echo out; echo err >&2; exit 3";
/// Prints how large its terminal is, once it has read a line.
pub const TELLS_SIZE: &str = "read x; busybox stty size";

/// What a session's program has of its terminal and its end.
struct Control {
    size: Mutex<Option<TerminalSize>>,
    code: Option<i64>,
}

#[async_trait]
impl SessionControl for Control {
    async fn resize(&self, size: TerminalSize) -> Result<(), EngineError> {
        *self.size.lock().expect("no one panics while holding the lock") = Some(size);
        Ok(())
    }

    async fn exit_code(&self) -> Result<Option<i64>, EngineError> {
        Ok(self.code)
    }
}

/// A conversation with a command that takes some time, prints, and ends so.
pub(super) fn of_command(
    command: &[String],
    connected: Connected,
    (takes, code, prints): (Option<Duration>, i64, Bytes),
) -> Session {
    let (input, reader) = duplex(PIPE_BYTES);
    let words: Vec<&str> = command.iter().map(String::as_str).collect();
    let code = if words.last() == Some(&PRINTS_BOTH) { 3 } else { code };
    let control = Arc::new(Control { size: Mutex::new(None), code: Some(code) });
    let output: BoxStream<'static, _> = match words.as_slice() {
        ["cat"] => echo(reader).boxed(),
        ["sh", "-c", PRINTS_BOTH] => {
            let both = [Printed::Stdout(Bytes::from("out\n")), Printed::Stderr(Bytes::from("err\n"))];
            stream::iter(both.map(Ok)).boxed()
        }
        ["sh", "-c", TELLS_SIZE] => size_when_told(reader, Arc::clone(&control)).boxed(),
        _ => stream::once(async move {
            match takes {
                Some(takes) => tokio::time::sleep(takes).await,
                None => std::future::pending().await,
            }
            Ok(Printed::Stdout(prints))
        })
        .boxed(),
    };
    Session { output, input: opened(connected, input), control }
}

/// A conversation with a container's program, which gives back what it reads and prints what it prints.
pub(super) fn of_container(lines: UnboundedReceiver<Bytes>, connected: Connected) -> Session {
    let (input, reader) = duplex(PIPE_BYTES);
    let printed = lines.map(|line| Ok(Printed::Stdout(line)));
    let output = if connected.stdin { stream::select(printed, echo(reader)).boxed() } else { printed.boxed() };
    Session {
        output,
        input: opened(connected, input),
        control: Arc::new(Control { size: Mutex::new(None), code: None }),
    }
}

fn opened(connected: Connected, input: DuplexStream) -> Option<Pin<Box<dyn AsyncWrite + Send>>> {
    connected.stdin.then(|| Box::pin(input) as _)
}

fn echo(reader: DuplexStream) -> impl futures::Stream<Item = Result<Printed, EngineError>> + Send {
    stream::unfold(reader, async |mut reader| {
        let mut bytes = bytes::BytesMut::with_capacity(PIPE_BYTES);
        let n = reader.read_buf(&mut bytes).await.unwrap_or_default();
        (n > 0).then(|| (Ok(Printed::Stdout(bytes.freeze())), reader))
    })
}

fn size_when_told(
    reader: DuplexStream,
    control: Arc<Control>,
) -> impl futures::Stream<Item = Result<Printed, EngineError>> + Send {
    stream::once(async move {
        let mut line = String::new();
        let read = BufReader::new(reader).read_line(&mut line).await;
        let size = *control.size.lock().expect("no one panics while holding the lock");
        match (read, size) {
            (Ok(1..), Some(TerminalSize { columns, rows })) => {
                Ok(Printed::Stdout(format!("{line}{rows} {columns}\r\n").into()))
            }
            other => Err(EngineError::Failed(format!("no size: {other:?}"))),
        }
    })
}

//! Conversations with the programs of fake containers.

use super::{CallKind, FakeEngine, world::Exec};
use crate::engine::{Connected, EngineError, Printed, Session, SessionControl, TerminalSize};
use async_trait::async_trait;
use bytes::Bytes;
use futures::{
    StreamExt as _,
    channel::{mpsc::UnboundedReceiver, oneshot},
    stream::{self, BoxStream},
};
use std::{
    pin::Pin,
    sync::{Arc, Mutex, MutexGuard},
};
use tokio::io::{AsyncBufReadExt as _, AsyncReadExt as _, AsyncWrite, BufReader, DuplexStream, duplex};

/// What is on its way between a program and who talks to it.
const PIPE_BYTES: usize = 64 * 1024;

/// The code of a command whose container ended.
const KILLED: i64 = 137;

/// Prints to both of its outputs, and fails.
pub const PRINTS_BOTH: &str = "echo out; echo err >&2; exit 3";
/// Prints how large its terminal is, once it has read a line.
pub const TELLS_SIZE: &str = "read x; busybox stty size";

/// Whose conversation it is, and what ends it.
pub(super) struct Of {
    pub(super) engine: FakeEngine,
    pub(super) container: String,
    /// Cancelled with the container's end; a word at the engine's.
    pub(super) cut: oneshot::Receiver<EngineError>,
}

/// What a session's program has of its terminal and its end.
struct Control {
    engine: FakeEngine,
    container: String,
    size: Mutex<Option<TerminalSize>>,
    code: Mutex<Option<i64>>,
}

impl Control {
    fn code(&self) -> MutexGuard<'_, Option<i64>> {
        self.code.lock().expect("no one panics while holding the lock")
    }
}

#[async_trait]
impl SessionControl for Control {
    async fn resize(&self, size: TerminalSize) -> Result<(), EngineError> {
        self.engine.call(CallKind::ResizeTerminal, &self.container, |_| Ok(())).await?;
        *self.size.lock().expect("no one panics while holding the lock") = Some(size);
        Ok(())
    }

    async fn exit_code(&self) -> Result<Option<i64>, EngineError> {
        if self.code().is_none() {
            return Ok(None);
        }
        self.engine.call(CallKind::ExecCode, &self.container, |_| Ok(())).await?;
        Ok(*self.code())
    }
}

/// A conversation with a command.
pub(super) fn of_command(of: Of, command: &[String], connected: Connected, run: Exec) -> Session {
    let (input, reader) = duplex(PIPE_BYTES);
    let words: Vec<&str> = command.iter().map(String::as_str).collect();
    let code = if words.last() == Some(&PRINTS_BOTH) { 3 } else { run.output.exit_code };
    let (control, cut) = of.control(Some(code));
    let output: BoxStream<'static, _> = match words.as_slice() {
        _ if run.takes.is_none() => stream::pending().boxed(),
        ["cat"] => echo(reader).boxed(),
        ["/skiff", "forward"] => forwarded(&control, reader),
        ["sh", "-c", PRINTS_BOTH] => {
            let both = [Printed::Stdout(Bytes::from("out\n")), Printed::Stderr(Bytes::from("err\n"))];
            stream::iter(both.map(Ok)).boxed()
        }
        ["sh", "-c", TELLS_SIZE] => size_when_told(reader, Arc::clone(&control)).boxed(),
        _ => stream::once(async move {
            tokio::time::sleep(run.takes.unwrap_or_default()).await;
            Ok(Printed::Stdout(run.output.output))
        })
        .boxed(),
    };
    let over = Arc::clone(&control);
    let output = until_cut(output, cut, move || *over.code() = Some(KILLED));
    Session { output, input: opened(connected, input), control }
}

/// A conversation with a container's program, which gives back what it reads and prints what it prints.
pub(super) fn of_container(of: Of, lines: UnboundedReceiver<Bytes>, connected: Connected) -> Session {
    let (input, reader) = duplex(PIPE_BYTES);
    let printed = lines.map(|line| Ok(Printed::Stdout(line)));
    let output = if connected.stdin { stream::select(printed, echo(reader)).boxed() } else { printed.boxed() };
    let (control, cut) = of.control(None);
    Session { output: until_cut(output, cut, || {}), input: opened(connected, input), control }
}

impl Of {
    fn control(self, code: Option<i64>) -> (Arc<Control>, oneshot::Receiver<EngineError>) {
        let Self { engine, container, cut } = self;
        (Arc::new(Control { engine, container, size: Mutex::new(None), code: Mutex::new(code) }), cut)
    }
}

/// What is printed until the program ends, with its container perhaps, or the engine goes away.
pub(super) fn until_cut<T: Send + 'static>(
    output: BoxStream<'static, Result<T, EngineError>>,
    cut: oneshot::Receiver<EngineError>,
    over: impl FnOnce() + Send + 'static,
) -> BoxStream<'static, Result<T, EngineError>> {
    stream::unfold(Some((output, cut, over)), async |state| {
        let (mut output, mut cut, over) = state?;
        tokio::select! {
            biased;
            printed = output.next() => printed.map(|printed| (printed, Some((output, cut, over)))),
            told = &mut cut => {
                if let Ok(error) = told {
                    return Some((Err(error), None));
                }
                over();
                None
            }
        }
    })
    .boxed()
}

/// What the program that forwards prints, if there is one.
fn forwarded(control: &Control, input: DuplexStream) -> BoxStream<'static, Result<Printed, EngineError>> {
    let Some(forwarder) = control.engine.lock().forwarder else { return stream::empty().boxed() };
    let (output, printed) = duplex(PIPE_BYTES);
    forwarder(input, output);
    echo(printed).boxed()
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

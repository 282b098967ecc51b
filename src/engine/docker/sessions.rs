//! Conversations with programs: commands that are run beside a container's program, and the program itself.

use super::{
    CHANGE_BOUND, DockerEngine, EXEC_LOOK_AGAIN, EXEC_LOOKS, READ_BOUND,
    hijack::{self, Hijacked},
    meaning, query,
};
use crate::engine::{Connected, Engine as _, EngineError, Phase, Printed, Session, SessionControl, TerminalSize};
use async_trait::async_trait;
use bollard::exec::{CreateExecOptions, ResizeExecOptions};
use futures::{Stream, StreamExt as _, TryStreamExt as _, future::ready};
use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};
use std::{io, pin::Pin, sync::Arc, time::Duration};
use tokio::io::AsyncWrite;

/// What no one types: the engine's own keys to leave a terminal (ctrl-p, ctrl-q) would keep ctrl-p from shells and editors.
const NO_DETACH_KEYS: &str = "ctrl-],ctrl-_,ctrl-],ctrl-^,ctrl-],ctrl-_,ctrl-^";
/// How often the size of a terminal is set that may not be there yet, and how long after the first time; then twice as long, and so on.
const RESIZE_TRIES: u32 = 9;
const RESIZE_AGAIN: Duration = Duration::from_millis(5);

/// Which program.
enum Program {
    /// A command, by the ID of its run.
    Exec(String),
    /// A container's own.
    Container(String),
}

struct Control {
    engine: DockerEngine,
    program: Program,
}

/// Runs a command and talks with it.
pub(super) async fn exec(
    engine: &DockerEngine,
    container: &str,
    command: &[String],
    connected: Connected,
) -> Result<Session, EngineError> {
    let what = || format!("exec in container {container}");
    let options = CreateExecOptions {
        attach_stdin: Some(connected.stdin),
        attach_stdout: Some(connected.stdout),
        attach_stderr: Some(connected.stderr),
        tty: Some(connected.tty),
        detach_keys: Some(NO_DETACH_KEYS.to_owned()),
        cmd: Some(command.to_vec()),
        ..Default::default()
    };
    let made = engine.call(what, CHANGE_BOUND, engine.docker().create_exec(container, options)).await?.id;
    let body = serde_json::json!({"Detach": false, "Tty": connected.tty}).to_string();
    let path = format!("/exec/{made}/start");
    let opened = hijack::open(&engine.0.endpoint, &path, body.into_bytes());
    let connection = engine.call(what, CHANGE_BOUND, opened).await?;
    Ok(session(engine, what(), connection, connected, Program::Exec(made)))
}

/// Talks with a container's program.
pub(super) async fn attach(
    engine: &DockerEngine,
    container: &str,
    connected: Connected,
) -> Result<Session, EngineError> {
    let what = || format!("attach to container {container}");
    // The engine would wait for the start of one that does not run.
    let found = engine.inspect(container).await?;
    match found.map(|container| container.phase) {
        Some(Phase::Running) => {}
        Some(_) => return Err(EngineError::Conflict(format!("{}: it is not running", what()))),
        None => return Err(EngineError::NotFound(format!("{}: No such container: {container}", what()))),
    }
    let Connected { stdin, stdout, stderr, tty } = connected;
    let name = utf8_percent_encode(container, NON_ALPHANUMERIC);
    let keys = utf8_percent_encode(NO_DETACH_KEYS, NON_ALPHANUMERIC);
    let path = format!(
        "/containers/{name}/attach?stream=1&stdin={}&stdout={}&stderr={}&detachKeys={keys}",
        u8::from(stdin),
        u8::from(stdout),
        u8::from(stderr && !tty),
    );
    let opened = hijack::open(&engine.0.endpoint, &path, Vec::new());
    let connection = engine.call(what, CHANGE_BOUND, opened).await?;
    Ok(session(engine, what(), connection, connected, Program::Container(container.to_owned())))
}

fn session(
    engine: &DockerEngine,
    what: String,
    connection: Hijacked,
    connected: Connected,
    program: Program,
) -> Session {
    let (reader, writer) = tokio::io::split(connection);
    let endpoint = engine.0.endpoint.clone();
    let output = wanted(hijack::printed(reader, connected.tty), connected)
        .map_err(move |err| meaning(&what, &err.into(), &endpoint))
        .boxed();
    let input = connected.stdin.then(|| Box::pin(writer) as Pin<Box<dyn AsyncWrite + Send>>);
    Session { output, input, control: Arc::new(Control { engine: engine.clone(), program }) }
}

/// An engine that refuses to start a command says so in an output that nobody may want.
fn wanted(
    printed: impl Stream<Item = io::Result<Printed>> + Send + 'static,
    Connected { stdout, stderr, .. }: Connected,
) -> impl Stream<Item = io::Result<Printed>> + Send + 'static {
    printed.try_filter(move |piece| {
        ready(match piece {
            Printed::Stdout(_) => stdout,
            Printed::Stderr(_) => stderr,
        })
    })
}

#[async_trait]
impl SessionControl for Control {
    async fn resize(&self, size: TerminalSize) -> Result<(), EngineError> {
        let TerminalSize { columns, rows } = size;
        let (mut tries, mut again) = (0, RESIZE_AGAIN);
        loop {
            tries += 1;
            let resized = match &self.program {
                Program::Exec(id) => {
                    let options = ResizeExecOptions { height: rows, width: columns };
                    let resize = self.engine.docker().resize_exec(id, options);
                    self.engine.call(|| format!("resize the terminal of exec {id}"), READ_BOUND, resize).await
                }
                Program::Container(id) => {
                    let options = query::ResizeContainerTTYOptions { h: rows.into(), w: columns.into() };
                    let resize = self.engine.docker().resize_container_tty(id, options);
                    self.engine.call(|| format!("resize the terminal of container {id}"), READ_BOUND, resize).await
                }
            };
            match resized {
                // The connection is there before the command is.
                Err(_) if tries < RESIZE_TRIES => {
                    tokio::time::sleep(again).await;
                    again *= 2;
                }
                resized => return resized,
            }
        }
    }

    async fn exit_code(&self) -> Result<Option<i64>, EngineError> {
        let Program::Exec(id) = &self.program else { return Ok(None) };
        for _ in 0..EXEC_LOOKS {
            let inspection = self.engine.docker().inspect_exec(id);
            let found = self.engine.call(|| format!("inspect exec {id}"), READ_BOUND, inspection).await?;
            if let (Some(code), Some(false)) = (found.exit_code, found.running) {
                return Ok(Some(code));
            }
            // The end of the output is known before the end of the command.
            tokio::time::sleep(EXEC_LOOK_AGAIN).await;
        }
        Err(EngineError::Failed(format!("exec {id}: its output has ended, and it has not")))
    }
}

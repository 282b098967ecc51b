//! A conversation with a program in a container: what it prints as it comes, what it is given, its terminal, its end.

use super::EngineError;
use async_trait::async_trait;
use bytes::Bytes;
use futures::stream::BoxStream;
use std::{fmt, pin::Pin, sync::Arc};
use tokio::io::AsyncWrite;

/// Which streams of a program are connected.
#[allow(clippy::struct_excessive_bools, reason = "each is a switch of its own in the engine's API")]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Connected {
    /// Its standard input.
    pub stdin: bool,
    /// Its standard output.
    pub stdout: bool,
    /// Its standard error; what a terminal shows is all standard output.
    pub stderr: bool,
    /// Whether it has a terminal.
    pub tty: bool,
}

/// How many characters a terminal shows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TerminalSize {
    /// In a line.
    pub columns: u16,
    /// Lines.
    pub rows: u16,
}

/// What a program printed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Printed {
    /// To its standard output, or to its terminal.
    Stdout(Bytes),
    /// To its standard error.
    Stderr(Bytes),
}

/// A conversation with a program. Dropping it ends the conversation, not the program.
pub struct Session {
    /// What the program prints; ends with the program, or when it has closed both of its outputs.
    pub output: BoxStream<'static, Result<Printed, EngineError>>,
    /// What the program reads; shutting it down is the end of the program's input. `None`: it is not connected.
    pub input: Option<Pin<Box<dyn AsyncWrite + Send>>>,
    /// The rest.
    pub control: Arc<dyn SessionControl>,
}

impl fmt::Debug for Session {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Session").field("has_input", &self.input.is_some()).finish_non_exhaustive()
    }
}

/// What can be done to a program beside reading and writing.
#[async_trait]
pub trait SessionControl: Send + Sync {
    /// Changes the size of its terminal.
    async fn resize(&self, size: TerminalSize) -> Result<(), EngineError>;
    /// The exit code of the command, once its output has ended; `None` for a program that the session did not start.
    async fn exit_code(&self) -> Result<Option<i64>, EngineError>;
}

//! A watch: one JSON value a line; and answers that go on as they are.

use super::{ClientError, connect::Connection};
use bytes::{Buf as _, Bytes, BytesMut};
use http::StatusCode;
use http_body_util::BodyExt as _;
use hyper::body::Incoming;
use serde_json::Value;
use std::time::Duration;
use tokio::time::timeout;

/// How long the server keeps a watch. It ends it before a connection that died in silence is taken for one that is only silent.
const WATCH_SECS: u64 = 290;

/// How long a watch may be silent: longer than the server keeps it.
const SILENT_MAX: Duration = Duration::from_secs(WATCH_SECS + 30);

/// What a line may hold: an object of the greatest size that the API stores, and then some.
const LINE_BYTES_MAX: usize = 16 << 20;

/// The path of a watch. A collection may have a query that selects.
pub(super) fn path(collection: &str, revision: &str) -> String {
    let mark = if collection.contains('?') { '&' } else { '?' };
    format!(
        "{collection}{mark}watch=true&allowWatchBookmarks=true&timeoutSeconds={WATCH_SECS}&resourceVersion={revision}"
    )
}

/// What a watch says.
#[derive(Clone, Debug, PartialEq)]
pub enum WatchEvent {
    /// The object is new or changed.
    Set(Value),
    /// The object is gone; this was its last state.
    Gone(Value),
    /// Everything up to this revision was said.
    Bookmark(String),
}

/// A watch that goes on.
#[derive(Debug)]
pub struct Lines {
    /// Ends the connection with the watch.
    _connection: Connection,
    body: Incoming,
    /// What was read and not told yet.
    pending: BytesMut,
}

impl Lines {
    pub(super) fn new(connection: Connection, body: Incoming) -> Self {
        Self { _connection: connection, body, pending: BytesMut::new() }
    }

    /// The next event; nothing when the server ends the watch. A Status in the watch is an error, as if the request had been refused.
    ///
    /// # Cancel safety
    /// Dropping the future loses nothing.
    pub async fn next(&mut self) -> Result<Option<WatchEvent>, ClientError> {
        let mut searched = 0;
        loop {
            if let Some(end) = memchr::memchr(b'\n', &self.pending[searched..]) {
                let line = self.pending.split_to(searched + end);
                self.pending.advance(1);
                return event(&line).map(Some);
            }
            searched = self.pending.len();
            if searched > LINE_BYTES_MAX {
                return Err(ClientError::Malformed(format!("a line of more than {LINE_BYTES_MAX} bytes").into()));
            }
            match self.more().await? {
                Some(bytes) => self.pending.extend_from_slice(&bytes),
                None => return Ok(None),
            }
        }
    }

    async fn more(&mut self) -> Result<Option<Bytes>, ClientError> {
        loop {
            let late = |_| ClientError::Late { what: "a watch".to_owned(), within: SILENT_MAX };
            let Some(frame) = timeout(SILENT_MAX, self.body.frame()).await.map_err(late)? else { return Ok(None) };
            if let Ok(bytes) = frame.map_err(|err| ClientError::Broken(err.into()))?.into_data() {
                return Ok(Some(bytes));
            }
        }
    }
}

/// An answer that goes on, as it comes.
#[derive(Debug)]
pub struct Chunks {
    /// Ends the connection with the answer.
    _connection: Connection,
    body: Incoming,
}

impl Chunks {
    pub(super) fn new(connection: Connection, body: Incoming) -> Self {
        Self { _connection: connection, body }
    }

    /// The next bytes; nothing at the end. They may take as long as they like.
    pub async fn next(&mut self) -> Result<Option<Bytes>, ClientError> {
        while let Some(frame) = self.body.frame().await {
            if let Ok(bytes) = frame.map_err(|err| ClientError::Broken(err.into()))?.into_data() {
                return Ok(Some(bytes));
            }
        }
        Ok(None)
    }
}

fn event(line: &[u8]) -> Result<WatchEvent, ClientError> {
    let mut event: Value = serde_json::from_slice(line).map_err(|err| ClientError::Malformed(err.into()))?;
    let object = event["object"].take();
    match event["type"].as_str() {
        Some("ADDED" | "MODIFIED") => Ok(WatchEvent::Set(object)),
        Some("DELETED") => Ok(WatchEvent::Gone(object)),
        Some("BOOKMARK") => {
            let revision = object["metadata"]["resourceVersion"].as_str();
            let revision = revision.ok_or_else(|| ClientError::Malformed("a bookmark without revision".into()))?;
            Ok(WatchEvent::Bookmark(revision.to_owned()))
        }
        Some("ERROR") => {
            let code = object["code"].as_u64().and_then(|code| u16::try_from(code).ok());
            let code = code.and_then(|code| StatusCode::from_u16(code).ok());
            Err(ClientError::of_status(code.unwrap_or(StatusCode::INTERNAL_SERVER_ERROR), &object))
        }
        other => Err(ClientError::Malformed(format!("a watch event of type {other:?}").into())),
    }
}

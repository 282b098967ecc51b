//! Streams of changes: each event a line of JSON, sent as it happens.
//!
//! Called by `verbs`. The store keeps a bounded buffer per watch, so a slow client never slows a writer; it loses its watch.
//!
//! ```text
//! present objects ──► (bookmark) ──► changes and bookmarks ──► time-out, drain, or too slow
//! ```
//!
//! **Invariants**
//! - Revisions of one stream never go back, and no change of the selection is left out.
//! - A bookmark names a revision up to which everything was sent.
//!
//! **Source**: `k8s.io/apiserver/pkg/endpoints/handlers/watch.go`, `pkg/storage/cacher/cache_watcher.go`, v1.37.

use super::{
    health::WatchCount,
    media::{Format, Offer},
    options::{self, Initial, WatchOptions},
    print::Printer,
    respond::{self, Response, respond},
    verbs::{Call, must_have_happened},
};
use crate::{
    api::{meta::Revision, status::ApiError},
    base::{clock::Clock, task::Drain},
    registry::pipeline::Selection,
    store::{Change, Entry, WatchError, hub},
};
use bytes::Bytes;
use futures::stream;
use std::{io, sync::Arc, time::Duration};
use tokio::time::{Instant, sleep_until};
use tracing::debug;

/// How often a client that takes bookmarks gets one. Source: `bookmarkFrequency` in cacher.go.
const BOOKMARK_EVERY: Duration = Duration::from_mins(1);
/// A watch ends after between one and two of this, so that clients spread. Source: `--min-request-timeout` of kube-apiserver.
const LIFE_SECS_MIN: u64 = 1800;
/// Events that wait are sent together up to about this size.
const CHUNK_BYTES: usize = 64 * 1024;

/// Starts a watch and answers with its stream.
pub(super) fn start(call: &Call<'_>) -> Result<Response, ApiError> {
    let output = call.output(Offer::Events)?;
    debug_assert_eq!(output.format, Format::Json, "events are JSON");
    // Only a legacy path names its object; otherwise the selector does, and says so itself.
    let name = (call.info.is_collection && !call.info.name.is_empty()).then_some(call.info.name.as_str());
    let options = options::watch_options(call.kind, call.query(), name)?;
    let printer = call.printer(output)?;
    let events = match Events::open(call, options, printer)? {
        Ok(events) => respond::streamed(events.into_stream()),
        Err(err) => respond::full(error_line(&err)),
    };
    Ok(respond(200, "application/json", events))
}

/// A running watch.
struct Events {
    printer: Printer,
    clock: Clock,
    selection: Selection,
    changes: hub::Watch,
    /// The present objects that are still to be sent.
    initial: std::vec::IntoIter<Arc<Entry>>,
    /// The revision to name in the bookmark after them, if there is to be one.
    initial_end: Option<Revision>,
    bookmarks: bool,
    next_bookmark: Instant,
    ends_at: Instant,
    drain: Drain,
    is_first: bool,
    is_over: bool,
    _count: WatchCount,
}

impl Events {
    /// The inner error is an event: the client may resume where the server no longer can.
    fn open(call: &Call<'_>, options: WatchOptions, printer: Printer) -> Result<Result<Self, ApiError>, ApiError> {
        let registry = call.registry();
        let (kind, namespace) = (call.kind, call.info.namespace.as_str());
        let (initial, from) = match options.initial {
            Initial::Changes if options.from == Revision(0) => (Vec::new(), registry.store().revision()),
            Initial::Changes => (Vec::new(), options.from),
            Initial::Objects | Initial::ObjectsThenBookmark => {
                must_have_happened(call, options.from)?;
                let snapshot = registry.snapshot(kind, namespace, &options.selection);
                (snapshot.entries, snapshot.revision)
            }
        };
        let changes = match registry.watch(kind, namespace, from) {
            Ok(changes) => changes,
            // Source: `NewResourceExpired(fmt.Sprintf("too old resource version: %d (%d)", …))` in watch_cache.go.
            Err(WatchError::Compacted { oldest }) => {
                return Ok(Err(ApiError::Expired(format!("too old resource version: {from} ({oldest})"))));
            }
            Err(err @ WatchError::TooSlow) => return Ok(Err(ApiError::Internal(err.to_string()))),
        };
        let clock = registry.clock().clone();
        let now = clock.mono();
        let life_secs =
            options.timeout_secs.unwrap_or_else(|| registry.rng().between(LIFE_SECS_MIN, 2 * LIFE_SECS_MIN));
        let wants_end = options.bookmarks && options.initial == Initial::ObjectsThenBookmark;
        Ok(Ok(Self {
            printer,
            selection: options.selection,
            changes,
            initial: initial.into_iter(),
            initial_end: wants_end.then_some(from),
            bookmarks: options.bookmarks,
            next_bookmark: now + BOOKMARK_EVERY,
            // A client's absurd number must not overflow.
            ends_at: now + Duration::from_secs(life_secs.min(u64::from(u32::MAX))),
            drain: call.drain.clone(),
            is_first: true,
            is_over: false,
            clock,
            _count: call.state.count_watch(),
        }))
    }

    fn into_stream(self) -> impl futures::Stream<Item = io::Result<Bytes>> + Send {
        stream::unfold(self, |mut events| async move { events.next_chunk().await.map(|chunk| (chunk, events)) })
    }

    /// The next events, as soon as there are any; `None`: the watch is over.
    async fn next_chunk(&mut self) -> Option<io::Result<Bytes>> {
        if self.is_over {
            return None;
        }
        match self.gather().await {
            Ok(chunk) if chunk.is_empty() => None,
            Ok(chunk) => Some(Ok(chunk.into())),
            Err(err) => {
                self.is_over = true;
                Some(Ok(error_line(&err)))
            }
        }
    }

    async fn gather(&mut self) -> Result<Vec<u8>, ApiError> {
        let mut chunk = self.initial_events()?;
        while chunk.is_empty() && !self.is_over {
            let wake_at = if self.bookmarks { self.next_bookmark.min(self.ends_at) } else { self.ends_at };
            // The end comes before changes, or a busy kind would keep a watch for ever.
            tokio::select! {
                biased;
                () = self.drain.drained() => self.end(&mut chunk),
                () = sleep_until(wake_at) => self.wake(&mut chunk),
                change = self.changes.next() => self.changed(change, &mut chunk)?,
            }
        }
        Ok(chunk)
    }

    /// The present objects, a chunk at a time, and after the last the bookmark that says so.
    fn initial_events(&mut self) -> Result<Vec<u8>, ApiError> {
        let mut chunk = Vec::new();
        while chunk.len() < CHUNK_BYTES
            && let Some(entry) = self.initial.next()
        {
            self.push(&mut chunk, "ADDED", &entry.value)?;
        }
        if self.initial.len() == 0
            && let Some(revision) = self.initial_end.take()
        {
            line(&mut chunk, "BOOKMARK", &self.printer.bookmark(&revision.to_string(), true));
        }
        Ok(chunk)
    }

    fn changed(&mut self, first: Result<Arc<Change>, WatchError>, chunk: &mut Vec<u8>) -> Result<(), ApiError> {
        let mut next = first.map(Some);
        loop {
            match next {
                Ok(Some(change)) => self.event(&change, chunk)?,
                Ok(None) => return Ok(()),
                Err(err) => {
                    // The client resumes from the last revision that it got.
                    debug!(component = "server", err = %err, "watch ended");
                    self.is_over = true;
                    return Ok(());
                }
            }
            if chunk.len() >= CHUNK_BYTES {
                return Ok(());
            }
            next = self.changes.try_next();
        }
    }

    /// A change as the selection sees it: what comes into it is added, what leaves it is deleted.
    fn event(&mut self, change: &Change, chunk: &mut Vec<u8>) -> Result<(), ApiError> {
        let before = change.before.as_ref().filter(|e| self.selection.matches(e));
        let after = change.after.as_ref().filter(|e| self.selection.matches(e));
        match (before, after) {
            (None, None) => Ok(()),
            (None, Some(after)) => self.push(chunk, "ADDED", &after.value),
            (Some(_), Some(after)) => self.push(chunk, "MODIFIED", &after.value),
            (Some(before), None) => self.push(chunk, "DELETED", &before.value_at(change.revision)),
        }
    }

    fn push(&mut self, chunk: &mut Vec<u8>, what: &str, stored: &Bytes) -> Result<(), ApiError> {
        let object = self.printer.at(self.clock.now()).event(stored, self.is_first)?;
        self.is_first = false;
        line(chunk, what, &object);
        Ok(())
    }

    fn wake(&mut self, chunk: &mut Vec<u8>) {
        if self.clock.mono() >= self.ends_at {
            self.end(chunk);
        } else {
            self.bookmark(chunk);
        }
    }

    /// Ends the watch, with a bookmark so that the client resumes where it is.
    fn end(&mut self, chunk: &mut Vec<u8>) {
        self.is_over = true;
        if self.bookmarks {
            self.bookmark(chunk);
        }
    }

    fn bookmark(&mut self, chunk: &mut Vec<u8>) {
        self.next_bookmark = self.clock.mono() + BOOKMARK_EVERY;
        let revision = self.changes.progress().to_string();
        line(chunk, "BOOKMARK", &self.printer.bookmark(&revision, false));
    }
}

fn line(chunk: &mut Vec<u8>, what: &str, object: &[u8]) {
    chunk.extend_from_slice(b"{\"type\":\"");
    chunk.extend_from_slice(what.as_bytes());
    chunk.extend_from_slice(b"\",\"object\":");
    chunk.extend_from_slice(object);
    chunk.extend_from_slice(b"}\n");
}

fn error_line(err: &ApiError) -> Bytes {
    let mut chunk = Vec::new();
    line(&mut chunk, "ERROR", err.to_status().to_string().as_bytes());
    chunk.into()
}

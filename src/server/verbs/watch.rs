//! Streams of changes: each event a line of JSON, a frame of protobuf or a message of a WebSocket, sent as it happens.
//!
//! The store keeps a bounded buffer per watch, so a slow client never slows a writer; it loses its watch.
//!
//! ```text
//! present objects ──► (bookmark) ──► changes and bookmarks ──► time-out, drain, too slow, or the kind went
//! ```
//!
//! **Invariants**
//! - Revisions of one stream never go back, and no change of the selection is left out.
//! - A bookmark names a revision up to which everything was sent.
//!
//! **Source**: `k8s.io/apiserver/pkg/endpoints/handlers/watch.go`, `pkg/storage/cacher/cache_watcher.go`, v1.37.

use super::{Call, read::must_have_happened};
use crate::{
    api::{kind::KindRef, kinds::Kinds, meta::Revision, schema::protobuf, status::ApiError},
    base::{clock::Clock, task::Drain},
    registry::pipeline::Selection,
    server::{
        encoded::Encoded,
        health::WatchCount,
        media::{Format, Offer},
        options::{self, Initial, WatchOptions},
        pace::PIECE_BYTES,
        print::{Binary, Printer},
        respond::{self, Response, cannot_write_protobuf, respond},
        websocket::{self, Part},
    },
    store::{Change, Entry, WatchError, hub},
};
use bytes::Bytes;
use futures::{FutureExt as _, StreamExt as _, TryStreamExt as _, future::BoxFuture, stream};
use std::{collections::VecDeque, io, pin::Pin, sync::Arc, time::Duration};
use tokio::{
    sync::watch,
    time::{Instant, Sleep, sleep_until},
};
use tracing::debug;

/// How often a client that takes bookmarks gets one. Source: `bookmarkFrequency` in cacher.go.
const BOOKMARK_EVERY: Duration = Duration::from_mins(1);
/// A watch ends after between one and two of this, so that clients spread. Source: `--min-request-timeout` of kube-apiserver.
const LIFE_SECS_MIN: u64 = 1800;
/// Events that wait are sent together up to about this size.
const CHUNK_BYTES: usize = PIECE_BYTES;

/// Tells which entries are for the caller's eyes.
type IsShown = Box<dyn Fn(&Entry) -> bool + Send>;

/// Starts a watch and answers with its stream.
pub(super) fn start(call: &mut Call<'_>) -> Result<Response, ApiError> {
    start_of(call, Box::new(|_| true))
}

/// Starts a watch of what is for the caller's eyes, which is asked anew with each change.
pub(super) fn start_of(call: &mut Call<'_>, is_shown: IsShown) -> Result<Response, ApiError> {
    let output = call.output(Offer::Events)?;
    // Only a legacy path names its object; otherwise the selector does, and says so itself.
    let name = (call.info.is_collection && !call.info.name.is_empty()).then_some(call.info.name.as_str());
    let options = options::watch_options(&*call.kind, call.query(), name)?;
    let printer = call.printer(output)?;
    let is_websocket = call.request.wants_websocket();
    let binary = if output.format == Format::Protobuf { printer.binary() } else { None };
    let framing = Framing { binary, is_alone: is_websocket };
    let is_binary = framing.binary.is_some();
    let events = match Events::open(call, options, is_shown, printer, framing.clone())? {
        Ok(events) => events.into_stream().left_stream(),
        Err(err) => stream::iter(error_event(framing, &err)?.into_iter().map(Ok)).right_stream(),
    };
    if is_websocket {
        let framing = if is_binary { websocket::Framing::Binary } else { websocket::Framing::Text };
        return websocket::events(&mut call.request, framing, events);
    }
    let content_type = if is_binary { "application/vnd.kubernetes.protobuf;stream=watch" } else { "application/json" };
    Ok(respond(200, content_type, respond::streamed(events.map_ok(|part| part.bytes))))
}

/// Returns when a watch is over whatever its client wishes: drained, or its kind went or took another form.
async fn ended(drain: Drain, mut kinds: watch::Receiver<Arc<Kinds>>, kind: KindRef) {
    let went = async {
        while kinds.changed().await.is_ok() {
            if !kinds.borrow_and_update().has(&kind) {
                return;
            }
        }
        std::future::pending::<()>().await;
    };
    tokio::select! { biased; () = drain.drained() => {}, () = went => {} }
}

/// How events are written one after the other.
#[derive(Clone, Debug, Default)]
struct Framing {
    /// As protobuf; otherwise as JSON.
    binary: Option<Binary>,
    /// Each goes out alone, as a message; otherwise they make one stream.
    is_alone: bool,
}

/// A running watch.
struct Events {
    printer: Printer,
    framing: Framing,
    encoded: Arc<Encoded>,
    clock: Clock,
    selection: Selection,
    is_shown: IsShown,
    changes: hub::Watch,
    /// What was gathered and is still to be handed over.
    ready: VecDeque<Part>,
    /// The present objects that are still to be sent.
    initial: std::vec::IntoIter<Arc<Entry>>,
    /// The revision to name in the bookmark after them, if there is to be one.
    initial_end: Option<Revision>,
    bookmarks: bool,
    next_bookmark: Instant,
    ends_at: Instant,
    /// Rings for the next bookmark, or at the end. Made once, as `ended` is: an event costs no new timer.
    alarm: Pin<Box<Sleep>>,
    /// Ends when drained, and when the kind goes.
    ended: BoxFuture<'static, ()>,
    is_first: bool,
    is_over: bool,
    _count: WatchCount,
}

impl Events {
    /// The inner error is an event: the client may resume where the server no longer can.
    fn open(
        call: &Call<'_>,
        options: WatchOptions,
        is_shown: IsShown,
        printer: Printer,
        framing: Framing,
    ) -> Result<Result<Self, ApiError>, ApiError> {
        let registry = call.registry();
        let (kind, namespace) = (&*call.kind, call.info.namespace.as_str());
        let (initial, from) = match options.initial {
            Initial::Changes if options.from == Revision(0) => (Vec::new(), registry.store().revision()),
            Initial::Changes => (Vec::new(), options.from),
            Initial::Objects | Initial::ObjectsThenBookmark => {
                must_have_happened(call, options.from)?;
                let mut snapshot = registry.snapshot(kind, namespace, &options.selection);
                snapshot.entries.retain(|entry| is_shown(entry));
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
            framing,
            alarm: Box::pin(sleep_until(now)),
            ended: ended(call.drain.clone(), call.kinds.clone(), call.kind.clone()).boxed(),
            encoded: call.state.encoded(),
            selection: options.selection,
            is_shown,
            changes,
            ready: VecDeque::new(),
            initial: initial.into_iter(),
            initial_end: wants_end.then_some(from),
            bookmarks: options.bookmarks,
            next_bookmark: now + BOOKMARK_EVERY,
            // A client's absurd number must not overflow.
            ends_at: now + Duration::from_secs(life_secs.min(u64::from(u32::MAX))),
            is_first: true,
            is_over: false,
            clock,
            _count: call.state.count_watch(),
        }))
    }

    fn into_stream(self) -> impl futures::Stream<Item = io::Result<Part>> + Send {
        stream::unfold(self, |mut events| async move { events.next_chunk().await.map(|chunk| (chunk, events)) })
    }

    /// The next events, as soon as there are any; `None`: the watch is over.
    async fn next_chunk(&mut self) -> Option<io::Result<Part>> {
        if self.ready.is_empty() && !self.is_over {
            match self.gather().await {
                Ok(chunk) => self.ready = chunk.pieces(),
                Err(err) => {
                    self.is_over = true;
                    match error_event(self.framing.clone(), &err) {
                        Ok(event) => self.ready = event,
                        Err(err) => return Some(Err(io::Error::other(err))),
                    }
                }
            }
        }
        self.ready.pop_front().map(Ok)
    }

    async fn gather(&mut self) -> Result<Chunk, ApiError> {
        let mut chunk = self.initial_events()?;
        while chunk.is_empty() && !self.is_over {
            let wake_at = if self.bookmarks { self.next_bookmark.min(self.ends_at) } else { self.ends_at };
            if self.alarm.deadline() != wake_at {
                self.alarm.as_mut().reset(wake_at);
            }
            // The end comes before changes, or a busy kind would keep a watch for ever.
            tokio::select! {
                biased;
                () = &mut self.ended => self.end(&mut chunk)?,
                () = &mut self.alarm => self.wake(&mut chunk)?,
                change = self.changes.next() => self.changed(change, &mut chunk)?,
            }
        }
        Ok(chunk)
    }

    /// The present objects, a chunk at a time, and after the last the bookmark that says so.
    fn initial_events(&mut self) -> Result<Chunk, ApiError> {
        let mut chunk = Chunk::new(self.framing.clone());
        while chunk.len() < CHUNK_BYTES
            && let Some(entry) = self.initial.next()
        {
            self.push(&mut chunk, "ADDED", &entry)?;
        }
        if self.initial.len() == 0
            && let Some(revision) = self.initial_end.take()
        {
            chunk.event("BOOKMARK", self.printer.bookmark(&revision.to_string(), true))?;
        }
        Ok(chunk)
    }

    fn changed(&mut self, first: Result<Arc<Change>, WatchError>, chunk: &mut Chunk) -> Result<(), ApiError> {
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
    fn event(&mut self, change: &Change, chunk: &mut Chunk) -> Result<(), ApiError> {
        let is_seen = |entry: &&Arc<Entry>| self.selection.matches(entry) && (self.is_shown)(entry);
        let before = change.before.as_ref().filter(is_seen);
        let after = change.after.as_ref().filter(is_seen);
        match (before, after) {
            (None, None) => Ok(()),
            (None, Some(after)) => self.push(chunk, "ADDED", after),
            (Some(_), Some(after)) => self.push(chunk, "MODIFIED", after),
            (Some(before), None) if self.printer.sends_as_stored() => {
                self.is_first = false;
                self.emit(chunk, "DELETED", (before, change.revision), &before.parts_at(change.revision))
            }
            (Some(before), None) => {
                let object = self.printer.at(self.clock.now()).gone(before, change.revision, self.is_first)?;
                self.is_first = false;
                self.emit(chunk, "DELETED", (before, change.revision), &[object])
            }
        }
    }

    fn push(&mut self, chunk: &mut Chunk, what: &str, entry: &Entry) -> Result<(), ApiError> {
        let object = self.printer.at(self.clock.now()).event(entry, self.is_first)?;
        self.is_first = false;
        self.emit(chunk, what, (entry, entry.modified), &[object])
    }

    /// Adds an event of an entry as it is at a revision; the parts are its JSON, one after the other.
    fn emit(
        &self,
        chunk: &mut Chunk,
        what: &str,
        (entry, revision): (&Entry, Revision),
        json: &[Bytes],
    ) -> Result<(), ApiError> {
        match &self.framing.binary {
            Some(binary) => {
                let make = || match json {
                    [one] => binary.document(one),
                    parts => binary.document(&parts.concat()),
                };
                chunk.frame(what, &self.encoded.get(binary.key(entry, revision), make)?);
            }
            None => chunk.line(what, json),
        }
        Ok(())
    }

    fn wake(&mut self, chunk: &mut Chunk) -> Result<(), ApiError> {
        if self.clock.mono() >= self.ends_at { self.end(chunk) } else { self.bookmark(chunk) }
    }

    /// Ends the watch, with a bookmark so that the client resumes where it is.
    fn end(&mut self, chunk: &mut Chunk) -> Result<(), ApiError> {
        self.is_over = true;
        if self.bookmarks { self.bookmark(chunk) } else { Ok(()) }
    }

    fn bookmark(&mut self, chunk: &mut Chunk) -> Result<(), ApiError> {
        self.next_bookmark = self.clock.mono() + BOOKMARK_EVERY;
        let revision = self.changes.progress().to_string();
        chunk.event("BOOKMARK", self.printer.bookmark(&revision, false))
    }
}

/// Events that go out together: small ones copied one after the other, large objects as they are.
#[derive(Debug, Default)]
struct Chunk {
    framing: Framing,
    pieces: VecDeque<Part>,
    /// The piece that is being written.
    last: Vec<u8>,
    len: usize,
}

impl Chunk {
    fn new(framing: Framing) -> Self {
        Self { framing, ..Self::default() }
    }

    fn len(&self) -> usize {
        self.len
    }

    fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Adds an event of an object that is in no store.
    fn event(&mut self, what: &str, json: Bytes) -> Result<(), ApiError> {
        match &self.framing.binary {
            Some(binary) => {
                let document = binary.document(&json)?.into();
                self.frame(what, &document);
            }
            None => self.line(what, &[json]),
        }
        Ok(())
    }

    /// Adds an event in protobuf. A message of its own says its length itself.
    fn frame(&mut self, what: &str, document: &Bytes) {
        let head = protobuf::event_head(what, document.len());
        self.copy(if self.framing.is_alone { &head[protobuf::EVENT_LENGTH_BYTES..] } else { &head });
        self.add(document);
        self.end_event();
    }

    /// Adds an event as a line of JSON. The parts are the object, one after the other.
    fn line(&mut self, what: &str, object: &[Bytes]) {
        self.copy(b"{\"type\":\"");
        self.copy(what.as_bytes());
        self.copy(b"\",\"object\":");
        object.iter().for_each(|part| self.add(part));
        self.copy(b"}\n");
        self.end_event();
    }

    fn add(&mut self, part: &Bytes) {
        if part.len() < PIECE_BYTES { self.copy(part) } else { self.share(part) }
    }

    /// A message of its own ends with its event.
    fn end_event(&mut self) {
        if self.framing.is_alone {
            self.close();
            self.pieces.iter_mut().next_back().into_iter().for_each(|part| part.is_last = true);
        }
    }

    fn copy(&mut self, bytes: &[u8]) {
        self.last.extend_from_slice(bytes);
        self.len += bytes.len();
    }

    fn share(&mut self, part: &Bytes) {
        self.close();
        self.len += part.len();
        let mut rest = part.clone();
        while !rest.is_empty() {
            let bytes = rest.split_to(PIECE_BYTES.min(rest.len()));
            self.pieces.push_back(Part { bytes, is_last: false });
        }
    }

    fn close(&mut self) {
        if !self.last.is_empty() {
            let bytes = std::mem::take(&mut self.last).into();
            self.pieces.push_back(Part { bytes, is_last: false });
        }
    }

    fn pieces(mut self) -> VecDeque<Part> {
        self.close();
        self.pieces
    }
}

/// The event that tells an error: its object is a `Status`.
fn error_event(framing: Framing, err: &ApiError) -> Result<VecDeque<Part>, ApiError> {
    let status = err.to_status().to_string();
    let is_binary = framing.binary.is_some();
    let mut chunk = Chunk::new(framing);
    if is_binary {
        let document = protobuf::any_document(status.as_bytes()).map_err(|why| cannot_write_protobuf(&why))?;
        chunk.frame("ERROR", &document.unwrap_or_default().into());
    } else {
        chunk.line("ERROR", &[status.into()]);
    }
    Ok(chunk.pieces())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn large_objects_are_shared_and_small_ones_go_together() {
        let mut chunk = Chunk::default();
        let large = Bytes::from("x".repeat(2 * PIECE_BYTES + 7));
        chunk.line("ADDED", &[Bytes::from_static(b"1")]);
        chunk.line("MODIFIED", std::slice::from_ref(&large));
        chunk.line("DELETED", &[Bytes::from_static(b"[2"), Bytes::from_static(b",3]")]);
        let len = chunk.len();
        let pieces = chunk.pieces();
        let sizes: Vec<usize> = pieces.iter().map(|part| part.bytes.len()).collect();
        assert_eq!(sizes[1..4], [PIECE_BYTES, PIECE_BYTES, 7]);
        assert_eq!((sizes.len(), sizes.iter().sum::<usize>()), (5, len));
        assert_eq!(pieces[1].bytes.as_ptr(), large.as_ptr());
        let text = pieces.iter().flat_map(|p| p.bytes.iter().copied()).collect::<Vec<u8>>();
        let text = String::from_utf8(text).unwrap();
        assert!(text.starts_with("{\"type\":\"ADDED\",\"object\":1}\n{\"type\":\"MODIFIED\",\"object\":xx"), "{text}");
        assert!(text.ends_with("xx}\n{\"type\":\"DELETED\",\"object\":[2,3]}\n"), "{text}");
    }

    #[test]
    fn a_message_is_one_event_and_a_large_one_is_shared_too() {
        let mut chunk = Chunk::new(Framing { binary: None, is_alone: true });
        let large = Bytes::from("x".repeat(PIECE_BYTES + 7));
        chunk.line("ADDED", &[Bytes::from_static(b"1")]);
        chunk.line("MODIFIED", std::slice::from_ref(&large));
        let pieces = chunk.pieces();
        let parts: Vec<(usize, bool)> = pieces.iter().map(|part| (part.bytes.len(), part.is_last)).collect();
        assert_eq!(parts, [(28, true), (28, false), (PIECE_BYTES, false), (7, false), (2, true)]);
        assert_eq!(pieces[2].bytes.as_ptr(), large.as_ptr());
    }
}

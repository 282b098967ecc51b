//! Reads: one object, or a list in pages at a revision.
//!
//! A list leaves as it is made: its head, then its items in chunks, so that a long one never stands in memory twice.

use super::{Call, past};
use crate::{
    api::{meta::Revision, status::ApiError},
    server::{
        gate::Bound,
        media::{Format, Offer, Output},
        options::{self, At, Continue, ListOptions},
        pinned::Which,
        print::{Binary, ListMeta, Printer},
        respond::{self, Response, respond},
    },
    store::{Entry, Snapshot},
};
use bytes::Bytes;
use futures::{StreamExt as _, stream};
use http::{HeaderValue, header};
use std::{collections::VecDeque, io, sync::Arc};

/// How many bytes of a list go out at a time.
const CHUNK_BYTES: usize = 64 * 1024;

/// Answers with the object that the path names.
pub(super) fn get(call: &Call<'_>) -> Result<Response, ApiError> {
    let at = options::revision(call.query().text("resourceVersion"))?.unwrap_or_default();
    must_have_happened(call, at)?;
    call.object(200, &*call.entry()?)
}

/// Refuses a revision that is still to come. Source: `NewTooLargeResourceVersionError` in storage/errors.go.
pub(super) fn must_have_happened(call: &Call<'_>, wanted: Revision) -> Result<(), ApiError> {
    let current = call.registry().store().revision();
    if wanted > current {
        return Err(ApiError::FutureRevision { wanted: wanted.0, current: current.0 });
    }
    Ok(())
}

/// Answers with a list.
pub(super) fn list(call: &Call<'_>) -> Result<Response, ApiError> {
    list_of(call, &|_| true)
}

/// Answers with a list of what is for the caller's eyes. The pages that are kept meanwhile hold all of it.
pub(super) fn list_of(call: &Call<'_>, is_shown: &dyn Fn(&Entry) -> bool) -> Result<Response, ApiError> {
    let output = call.output(Offer::Lists)?;
    let options = options::list_options(&*call.kind, call.query())?;
    let mut snapshot = snapshot(call, &options)?;
    if page_length(&options).is_some_and(|limit| snapshot.entries.len() > limit) {
        let is_full = call.state.pinned().keep(which(call, &options, snapshot.revision), &snapshot);
        if is_full {
            call.state.metrics().bound_reached(Bound::Pages, "ended");
        }
    }
    snapshot.entries.retain(|entry| is_shown(entry));
    let (entries, meta) = page(snapshot, &options);
    write_list(call.printer(output)?, output, entries, &meta)
}

fn snapshot(call: &Call<'_>, options: &ListOptions) -> Result<Snapshot, ApiError> {
    let namespace = &call.info.namespace;
    match options.at {
        At::Newest | At::Any => Ok(call.registry().snapshot(&*call.kind, namespace, &options.selection)),
        At::NotOlderThan(revision) => {
            must_have_happened(call, revision)?;
            Ok(call.registry().snapshot(&*call.kind, namespace, &options.selection))
        }
        At::Exactly(revision) => {
            must_have_happened(call, revision)?;
            let pinned = options.after.as_ref().and_then(|_| call.state.pinned().get(&which(call, options, revision)));
            if let Some(pinned) = pinned {
                return Ok(pinned);
            }
            let past = past::snapshot_at(call.registry(), &*call.kind, namespace, &options.selection, revision);
            // Source of the texts: `interpretListError` in storage/etcd3/errors.go.
            past.ok_or_else(|| match &options.after {
                Some(after) => ApiError::PageExpired { token: after.regardless().token() },
                None => ApiError::Expired("The resourceVersion for the provided list is too old.".to_owned()),
            })
        }
    }
}

/// Which list a page is of.
fn which(call: &Call<'_>, options: &ListOptions, revision: Revision) -> Which {
    Which {
        resource: call.kind.info().resource(),
        namespace: call.info.namespace.clone(),
        selection: options.selection.clone(),
        revision,
    }
}

/// How many entries a page has at most. Source: a list at "any" revision comes from the watch cache whole, whatever its limit says.
fn page_length(options: &ListOptions) -> Option<usize> {
    Some(options.limit).filter(|limit| *limit > 0 && options.at != At::Any)
}

/// The entries of one page, and what the list says of itself.
fn page(snapshot: Snapshot, options: &ListOptions) -> (Vec<Arc<Entry>>, ListMeta) {
    let mut entries = snapshot.entries;
    if let Some(after) = &options.after {
        entries.retain(|e| *e.key > *after.start);
    }
    let mut meta = ListMeta { revision: snapshot.revision.to_string(), ..ListMeta::default() };
    if let Some(limit) = page_length(options).filter(|limit| entries.len() > *limit) {
        // How many are left is not said when a selector picks them.
        meta.remaining = options.selection.is_everything().then(|| entries.len() - limit);
        entries.truncate(limit);
        meta.token = entries.last().map_or_else(String::new, |e| Continue::new(snapshot.revision, &e.key).token());
    }
    (entries, meta)
}

/// A list of these entries as an answer.
pub(super) fn write_list(
    printer: Printer,
    output: Output,
    entries: Vec<Arc<Entry>>,
    meta: &ListMeta,
) -> Result<Response, ApiError> {
    if output.format == Format::Protobuf {
        return write_protobuf_list(printer, entries, meta);
    }
    let head = printer.list_head(meta);
    if output.format != Format::Json {
        let mut whole = head;
        append(&mut whole, &printer, &mut entries.into_iter().peekable(), usize::MAX)?;
        return respond::object(200, output, whole);
    }
    let length = printer.sends_as_stored().then(|| {
        let items: usize = entries.iter().map(|e| e.value.len()).sum();
        head.len() + items + entries.len().saturating_sub(1) + printer.list_tail().len()
    });
    let mut response = respond(200, output.format.content_type(), respond::streamed(chunks(printer, head, entries)));
    if let Some(length) = length {
        response.headers_mut().insert(header::CONTENT_LENGTH, HeaderValue::from(length));
    }
    Ok(response)
}

/// Encoded items of a list that are kept until they go out. What is beyond is encoded again then: the length of all stands before them.
const KEPT_BYTES_MAX: usize = 8 * 1024 * 1024;

/// The same list as protobuf.
fn write_protobuf_list(printer: Printer, entries: Vec<Arc<Entry>>, meta: &ListMeta) -> Result<Response, ApiError> {
    let binary = printer.binary().ok_or_else(|| ApiError::Internal("a list has no protobuf form".to_owned()))?;
    let (mut kept, mut n_kept, mut kept_bytes, mut items_bytes) = (VecDeque::new(), 0, 0, 0);
    let mut chunk = Vec::with_capacity(CHUNK_BYTES + CHUNK_BYTES / 4);
    for (at, entry) in entries.iter().enumerate() {
        let before = chunk.len();
        write_item(&mut chunk, &printer, &binary, entry)?;
        items_bytes += chunk.len() - before;
        if kept_bytes >= KEPT_BYTES_MAX {
            chunk.clear();
        } else if chunk.len() >= CHUNK_BYTES || at + 1 == entries.len() {
            kept_bytes += chunk.len();
            n_kept = at + 1;
            kept.push_back(Bytes::copy_from_slice(&chunk));
            chunk.clear();
        }
    }
    let (head, tail) = binary.list_ends(meta, items_bytes)?;
    let length = head.len() + items_bytes + tail.len();
    kept.push_front(head.into());
    let mut rest = entries.into_iter();
    rest.by_ref().take(n_kept).for_each(drop);
    let items = stream::unfold((rest, printer, binary), |(mut rest, printer, binary)| async {
        let chunk = encode_some(&mut rest, &printer, &binary).transpose()?;
        Some((chunk.map_err(io::Error::other), (rest, printer, binary)))
    });
    let kept = stream::iter(kept.into_iter().map(Ok));
    let body = kept.chain(items).chain(stream::once(async { Ok(Bytes::from_static(tail)) }));
    let mut response = respond(200, Format::Protobuf.content_type(), respond::streamed(body));
    response.headers_mut().insert(header::CONTENT_LENGTH, HeaderValue::from(length));
    Ok(response)
}

/// The largest stored object whose protobuf is kept with it: clients that list in protobuf list the same again and again, and small
/// objects are those that there are many of.
const PACKED_BYTES_MAX: usize = 4 * 1024;

/// Adds one item of a list, as it was written before if that was kept.
fn write_item(out: &mut Vec<u8>, printer: &Printer, binary: &Binary, entry: &Entry) -> Result<(), ApiError> {
    // An entry may be shown as something else than it is stored as; what is kept is of the stored form.
    let is_kept = printer.sends_as_stored() && entry.value.len() <= PACKED_BYTES_MAX;
    if let Some(packed) = entry.packed.get().filter(|_| is_kept) {
        out.extend_from_slice(packed);
        return Ok(());
    }
    let before = out.len();
    binary.item(out, &printer.whole(entry)?)?;
    if is_kept {
        // Whoever was first wrote the same.
        drop(entry.packed.set(out[before..].into()));
    }
    Ok(())
}

/// The next items as protobuf, in about a chunk; `None` after the last.
fn encode_some(
    entries: &mut std::vec::IntoIter<Arc<Entry>>,
    printer: &Printer,
    binary: &Binary,
) -> Result<Option<Bytes>, ApiError> {
    let mut chunk = Vec::new();
    while chunk.len() < CHUNK_BYTES
        && let Some(entry) = entries.next()
    {
        write_item(&mut chunk, printer, binary, &entry)?;
    }
    Ok((!chunk.is_empty()).then(|| chunk.into()))
}

fn chunks(
    printer: Printer,
    head: Vec<u8>,
    entries: Vec<Arc<Entry>>,
) -> impl futures::Stream<Item = io::Result<Bytes>> + Send {
    stream::unfold(Some((printer, head, entries.into_iter().peekable())), |state| async {
        let (printer, mut chunk, mut entries) = state?;
        chunk.reserve(CHUNK_BYTES);
        if let Err(err) = append(&mut chunk, &printer, &mut entries, CHUNK_BYTES) {
            return Some((Err(io::Error::other(err)), None));
        }
        let rest = entries.peek().is_some().then_some((printer, Vec::new(), entries));
        Some((Ok(chunk.into()), rest))
    })
}

/// Adds items, up to about `bytes_max`, and the tail after the last one.
fn append(
    chunk: &mut Vec<u8>,
    printer: &Printer,
    entries: &mut std::iter::Peekable<std::vec::IntoIter<Arc<Entry>>>,
    bytes_max: usize,
) -> Result<(), ApiError> {
    while chunk.len() < bytes_max {
        let Some(entry) = entries.next() else { break };
        chunk.extend_from_slice(&printer.item(&entry)?);
        if entries.peek().is_some() {
            chunk.push(b',');
        }
    }
    if entries.peek().is_none() {
        chunk.extend_from_slice(printer.list_tail());
    }
    Ok(())
}

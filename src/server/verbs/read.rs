//! Reads: one object, or a list in pages at a revision.
//!
//! A list leaves as it is made: its head, then its items in chunks, so that a long one never stands in memory twice.

use super::{Call, past};
use crate::{
    api::{meta::Revision, status::ApiError},
    server::{
        media::{Format, Offer, Output},
        options::{self, At, Continue, ListOptions},
        print::{ListMeta, Printer},
        respond::{self, Response, respond},
    },
    store::{Entry, Snapshot},
};
use bytes::Bytes;
use futures::stream;
use http::{HeaderValue, header};
use std::{io, sync::Arc};

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
    let output = call.output(Offer::Lists)?;
    let options = options::list_options(&*call.kind, call.query())?;
    let snapshot = snapshot(call, &options)?;
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
            let past = past::snapshot_at(call.registry(), &*call.kind, namespace, &options.selection, revision);
            // Source of the texts: `interpretListError` in storage/etcd3/errors.go.
            past.ok_or_else(|| match &options.after {
                Some(after) => ApiError::PageExpired { token: after.regardless().token() },
                None => ApiError::Expired("The resourceVersion for the provided list is too old.".to_owned()),
            })
        }
    }
}

/// The entries of one page, and what the list says of itself.
fn page(snapshot: Snapshot, options: &ListOptions) -> (Vec<Arc<Entry>>, ListMeta) {
    let mut entries = snapshot.entries;
    if let Some(after) = &options.after {
        entries.retain(|e| *e.key > *after.start);
    }
    let mut meta = ListMeta { revision: snapshot.revision.to_string(), ..ListMeta::default() };
    // Source: a list at "any" revision comes from the watch cache whole, whatever its limit says.
    let limit = if options.at == At::Any { 0 } else { options.limit };
    if limit > 0 && entries.len() > limit {
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

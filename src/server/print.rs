//! Turns stored bytes into what a client asked for: the object itself, its metadata alone, or a row of a table.
//!
//! Called by `verbs`. Objects that are sent as they are stored are never decoded.
//!
//! **Source**: `k8s.io/apiserver/pkg/endpoints/handlers/response.go`, v1.37.

use super::{
    encoded,
    media::{MetaVersion, Protobuf, Shape},
    respond::cannot_write_protobuf,
    route::Query,
};
use crate::{
    api::{
        kind::KindRef,
        meta::Revision,
        object::DynObject,
        schema::protobuf::{self, Form},
        status::ApiError,
        table::Column,
    },
    registry::pipeline::with_decoded,
    store::Entry,
};
use bytes::Bytes;
use jiff::Timestamp;
use serde::Deserialize;
use serde_json::{Value, json};
use std::{borrow::Cow, sync::Arc};

/// What a table's rows carry beside their cells.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Include {
    Nothing,
    Metadata,
    Object,
}

/// Whether what was decoded for a row stays with the entry.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Keep {
    Yes,
    No,
}

/// Writes objects of one kind in one shape.
#[derive(Clone)]
pub struct Printer {
    kind: KindRef,
    shape: Shape,
    include: Include,
    now: Timestamp,
}

/// What of a kind can be written as protobuf.
pub fn protobuf_of(kind: &KindRef) -> Protobuf {
    let has_numbers = matches!(kind, KindRef::BuiltIn(_)) && Form::of(kind.info().schema).is_some();
    if has_numbers { Protobuf::All } else { Protobuf::Metadata }
}

/// Writes the objects of a printer as protobuf, from their JSON.
#[derive(Clone, Debug)]
pub struct Binary {
    form: Form,
    api_version: String,
    kind: String,
    /// What it writes, as one name.
    name: Arc<str>,
}

impl Binary {
    /// One object, as a document of its own.
    pub fn document(&self, json: &[u8]) -> Result<Vec<u8>, ApiError> {
        self.form.document(&self.api_version, &self.kind, json).map_err(|why| cannot_write_protobuf(&why))
    }

    /// The name of the document that this makes of an entry at a revision.
    pub(super) fn key(&self, entry: &Entry, revision: Revision) -> encoded::Key {
        (Arc::clone(&entry.key), revision.0, Arc::clone(&self.name))
    }

    /// Adds one item of a list.
    pub fn item(&self, out: &mut Vec<u8>, json: &[u8]) -> Result<(), ApiError> {
        self.form.item(out, json).map_err(|why| cannot_write_protobuf(&why))
    }

    /// What a list begins and ends with, whose items take so many bytes.
    pub fn list_ends(&self, meta: &ListMeta, items_bytes: usize) -> Result<(Vec<u8>, &'static [u8]), ApiError> {
        let kind = format!("{}List", self.kind);
        protobuf::list_ends(&self.api_version, &kind, &meta.json().to_string(), items_bytes)
            .map_err(|why| cannot_write_protobuf(&why))
    }
}

/// What stands in a list's metadata.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ListMeta {
    /// The revision that the list shows.
    pub revision: String,
    /// How to go on; empty when nothing is left.
    pub token: String,
    /// How many are left, when that is known.
    pub remaining: Option<usize>,
}

impl std::fmt::Debug for Printer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Printer")
            .field("kind", &self.kind.info().kind)
            .field("shape", &self.shape)
            .finish_non_exhaustive()
    }
}

impl Printer {
    /// A printer of a kind's objects in the shape that was agreed on.
    pub fn new(kind: KindRef, shape: Shape, query: &Query, now: Timestamp) -> Result<Self, ApiError> {
        let include = match (shape, query.text("includeObject")) {
            (Shape::Table(_), "None") => Include::Nothing,
            (Shape::Table(_), "Object") => Include::Object,
            (Shape::Table(_), "" | "Metadata") => Include::Metadata,
            (Shape::Table(_), other) => {
                return Err(ApiError::BadRequest(format!("unrecognized includeObject value: {other:?}")));
            }
            _ => Include::Nothing,
        };
        Ok(Self { kind, shape, include, now })
    }

    /// The kind whose objects it writes.
    pub fn kind(&self) -> &KindRef {
        &self.kind
    }

    /// Writes the same as protobuf, if there is such a form.
    pub fn binary(&self) -> Option<Binary> {
        let info = self.kind.info();
        let (form, api_version, kind) = match self.shape {
            Shape::Table(_) => return None,
            Shape::Metadata(v) => (Form::metadata(), v.api_version().to_owned(), "PartialObjectMetadata".to_owned()),
            Shape::Object | Shape::Aggregated => (Form::of(info.schema)?, info.api_version(), info.kind.to_owned()),
        };
        // Two kinds may show the same entry, and metadata is of any kind.
        let name = format!("{api_version}/{kind} of {}", info.schema).into();
        Some(Binary { form, api_version, kind, name })
    }

    /// The JSON of an object as it is served, whole.
    pub fn whole<'a>(&self, entry: &'a Entry) -> Result<Cow<'a, [u8]>, ApiError> {
        self.served(&entry.value)
    }

    /// The same printer for rows that are printed later.
    #[must_use]
    pub fn at(&self, now: Timestamp) -> Self {
        Self { now, ..self.clone() }
    }

    /// One object as an answer of its own.
    pub fn single(&self, entry: &Entry) -> Result<Bytes, ApiError> {
        self.document(entry, &entry.value, true, Keep::No)
    }

    /// An object as it went, at the revision of its deletion.
    pub fn last(&self, entry: &Entry, revision: Revision) -> Result<Bytes, ApiError> {
        self.document(entry, &entry.value_at(revision), true, Keep::No)
    }

    /// One object as a watch event; a table says its columns in the first event only. What is decoded for a row is kept: the other
    /// watchers of the change print the same.
    pub fn event(&self, entry: &Entry, is_first: bool) -> Result<Bytes, ApiError> {
        self.document(entry, &entry.value, is_first, Keep::Yes)
    }

    /// An object that goes as a watch event, at the revision of its deletion.
    pub fn gone(&self, entry: &Entry, revision: Revision, is_first: bool) -> Result<Bytes, ApiError> {
        self.document(entry, &entry.value_at(revision), is_first, Keep::Yes)
    }

    fn document(&self, entry: &Entry, stored: &Bytes, with_columns: bool, keep: Keep) -> Result<Bytes, ApiError> {
        let Shape::Table(version) = self.shape else { return self.as_item(entry, stored, keep) };
        let served = self.served(stored)?;
        let meta = ListMeta { revision: identity(&served)?.revision, ..ListMeta::default() };
        let mut out = table_head(self.kind.info().columns, version, &meta, with_columns);
        out.extend_from_slice(&self.row(entry, &served, keep)?);
        out.extend_from_slice(b"]}");
        Ok(out.into())
    }

    /// What a list begins with; items follow, parted by commas, then [`Printer::list_tail`].
    pub fn list_head(&self, meta: &ListMeta) -> Vec<u8> {
        let info = self.kind.info();
        let head = |kind: &str, api_version: &str| {
            format!(
                "{{\"kind\":{},\"apiVersion\":{},\"metadata\":{},\"items\":[",
                json!(kind),
                json!(api_version),
                meta.json()
            )
        };
        match self.shape {
            Shape::Table(version) => table_head(info.columns, version, meta, true),
            Shape::Metadata(version) => head("PartialObjectMetadataList", version.api_version()).into_bytes(),
            Shape::Object | Shape::Aggregated => head(&format!("{}List", info.kind), &info.api_version()).into_bytes(),
        }
    }

    /// What a list ends with.
    pub fn list_tail(&self) -> &'static [u8] {
        b"]}\n"
    }

    /// One item of a list: an object, its metadata, or a table's row. A list decodes for itself: it would keep every object in memory.
    pub fn item(&self, entry: &Entry) -> Result<Bytes, ApiError> {
        self.as_item(entry, &entry.value, Keep::No)
    }

    fn as_item(&self, entry: &Entry, stored: &Bytes, keep: Keep) -> Result<Bytes, ApiError> {
        match self.shape {
            Shape::Object | Shape::Aggregated => self.object(stored),
            Shape::Metadata(version) => {
                let served = self.served(stored)?;
                Ok(partial(version, metadata_of(&served)?).into())
            }
            Shape::Table(_) => {
                let served = self.served(stored)?;
                Ok(self.row(entry, &served, keep)?.into())
            }
        }
    }

    /// Whether an item's length is that of its stored bytes.
    pub fn sends_as_stored(&self) -> bool {
        self.shape == Shape::Object && self.kind.info().stored_as.is_none()
    }

    fn object(&self, stored: &Bytes) -> Result<Bytes, ApiError> {
        if self.kind.info().stored_as.is_none() {
            return Ok(stored.clone());
        }
        Ok(self.served(stored)?.into_owned().into())
    }

    fn served<'a>(&self, stored: &'a [u8]) -> Result<Cow<'a, [u8]>, ApiError> {
        self.kind.served_bytes(stored).map_err(|e| unreadable(&e))
    }

    fn row(&self, entry: &Entry, served: &[u8], keep: Keep) -> Result<Vec<u8>, ApiError> {
        let row = |obj: &dyn DynObject| Value::Array(self.kind.row(obj, self.now));
        let cells = with_decoded(&*self.kind, entry, keep == Keep::Yes, row).map_err(|e| unreadable(&e))?;
        let mut row = format!("{{\"cells\":{cells}").into_bytes();
        let included: Cow<'_, [u8]> = match (self.include, self.shape) {
            (Include::Metadata, Shape::Table(version)) => partial(version, metadata_of(served)?).into(),
            (Include::Object, _) => served.into(),
            _ => b"null"[..].into(),
        };
        row.extend_from_slice(b",\"object\":");
        row.extend_from_slice(&included);
        row.push(b'}');
        Ok(row)
    }

    /// A bookmark: an object of the right type with nothing but a revision.
    pub fn bookmark(&self, revision: &str, ends_initial_events: bool) -> Bytes {
        let mut meta = json!({ "resourceVersion": revision, "creationTimestamp": null });
        if ends_initial_events {
            meta["annotations"] = json!({ "k8s.io/initial-events-end": "true" });
        }
        let info = self.kind.info();
        let object = |kind: &str, version: &str| json!({ "kind": kind, "apiVersion": version, "metadata": meta });
        let text = match self.shape {
            Shape::Object | Shape::Aggregated => object(info.kind, &info.api_version()),
            Shape::Metadata(v) => object("PartialObjectMetadata", v.api_version()),
            Shape::Table(v) => {
                // A table has no place for annotations but its row's object.
                let row = json!({ "cells": [], "object": object("PartialObjectMetadata", v.api_version()) });
                json!({
                    "kind": "Table", "apiVersion": v.api_version(), "metadata": { "resourceVersion": revision },
                    "columnDefinitions": [], "rows": [row],
                })
            }
        };
        text.to_string().into()
    }
}

impl ListMeta {
    fn json(&self) -> Value {
        let mut meta = json!({ "resourceVersion": self.revision });
        if !self.token.is_empty() {
            meta["continue"] = json!(self.token);
        }
        if let Some(remaining) = self.remaining {
            meta["remainingItemCount"] = json!(remaining);
        }
        meta
    }
}

fn unreadable(err: &dyn std::fmt::Display) -> ApiError {
    ApiError::Internal(format!("a stored object cannot be read: {err}"))
}

/// Who an object is.
#[derive(Debug, Deserialize)]
pub struct Identity {
    /// Its name.
    #[serde(default)]
    pub name: String,
    /// Its UID.
    #[serde(default)]
    pub uid: String,
    #[serde(default, rename = "resourceVersion")]
    revision: String,
}

/// Who the object of these bytes is.
pub fn identity(json: &[u8]) -> Result<Identity, ApiError> {
    serde_json::from_slice(metadata_of(json)?).map_err(|e| unreadable(&e))
}

fn metadata_of(json: &[u8]) -> Result<&[u8], ApiError> {
    member(json, b"metadata").ok_or_else(|| unreadable(&"it has no metadata"))
}

/// The text of a member of a JSON object, without reading the rest. The JSON is one that was written by this process.
fn member<'a>(json: &'a [u8], name: &[u8]) -> Option<&'a [u8]> {
    let mut depth = 0usize;
    let mut at = 0;
    // Where the wanted value starts, once its name was seen.
    let mut start = None;
    let mut string = 0..0;
    while let Some(&b) = json.get(at) {
        match b {
            b'"' => {
                string = at + 1..string_end(json, at + 1)?;
                at = string.end;
            }
            b':' if depth == 1 && start.is_none() && json.get(string.clone()) == Some(name) => start = Some(at + 1),
            b',' if depth == 1 && start.is_some() => return json.get(start?..at),
            b'{' | b'[' => depth += 1,
            b'}' | b']' => {
                depth = depth.checked_sub(1)?;
                if depth == 0 {
                    return json.get(start?..at);
                }
            }
            _ => {}
        }
        at += 1;
    }
    None
}

/// Where a string that begins at `from` has its closing quote.
fn string_end(json: &[u8], from: usize) -> Option<usize> {
    let mut at = from;
    loop {
        at += memchr::memchr2(b'"', b'\\', json.get(at..)?)?;
        if json[at] == b'"' {
            return Some(at);
        }
        at += 2;
    }
}

fn partial(version: MetaVersion, metadata: &[u8]) -> Vec<u8> {
    let head =
        format!("{{\"kind\":\"PartialObjectMetadata\",\"apiVersion\":\"{}\",\"metadata\":", version.api_version());
    let mut out = head.into_bytes();
    out.extend_from_slice(metadata);
    out.push(b'}');
    out
}

/// A table of one row, for what is not an object of a kind.
pub fn lone_row(version: MetaVersion, columns: &[Column<'_>], cells: Vec<Value>, metadata: &Value) -> Vec<u8> {
    let revision = metadata["resourceVersion"].as_str().unwrap_or_default().to_owned();
    let mut out = table_head(columns, version, &ListMeta { revision, ..ListMeta::default() }, true);
    let object = json!({ "kind": "PartialObjectMetadata", "apiVersion": version.api_version(), "metadata": metadata });
    out.extend_from_slice(json!({ "cells": cells, "object": object }).to_string().as_bytes());
    out.extend_from_slice(b"]}");
    out
}

fn table_head(columns: &[Column<'_>], version: MetaVersion, meta: &ListMeta, with_columns: bool) -> Vec<u8> {
    let column = |c: &Column<'_>| {
        json!({
            "name": c.name, "type": c.kind, "format": c.format, "description": c.description, "priority": c.priority,
        })
    };
    let columns: Vec<Value> = if with_columns { columns.iter().map(column).collect() } else { Vec::new() };
    format!(
        "{{\"kind\":\"Table\",\"apiVersion\":\"{}\",\"metadata\":{},\"columnDefinitions\":{},\"rows\":[",
        version.api_version(),
        meta.json(),
        Value::Array(columns),
    )
    .into_bytes()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        api::{kind::Erased, kinds::config_map::ConfigMaps},
        store::NewValue,
    };

    const HEAD: &str = r#"{"apiVersion":"v1","kind":"ConfigMap","metadata":{"name":"a","resourceVersion":""#;
    const TAIL: &str = r#"","creationTimestamp":"2026-01-01T00:00:00Z"},"data":{"k":"v"}}"#;

    fn stored() -> Entry {
        let value = NewValue { head: HEAD.into(), tail: TAIL.into() };
        Entry::assemble("core/configmaps/default/a".into(), value, Arc::default(), None, Revision(7))
    }

    fn printer(shape: Shape, query: &str) -> Printer {
        let now = "2026-01-01T00:01:30Z".parse().unwrap();
        Printer::new(KindRef::BuiltIn(&Erased::<ConfigMaps>::NEW), shape, &Query::parse(query), now).unwrap()
    }

    fn list(printer: &Printer) -> Value {
        let meta = ListMeta { revision: "9".into(), token: String::new(), remaining: Some(0) };
        let mut out = printer.list_head(&meta);
        out.extend_from_slice(&printer.item(&stored()).unwrap());
        out.extend_from_slice(printer.list_tail());
        serde_json::from_slice(&out).unwrap()
    }

    #[test]
    fn a_member_is_found_without_reading_the_rest() {
        let find = |json: &'static str, name: &str| {
            member(json.as_bytes(), name.as_bytes()).map(|m| std::str::from_utf8(m).unwrap())
        };
        assert_eq!(find(r#"{"a":1,"metadata":{"x":[1,{"y":"}"}]},"b":2}"#, "metadata"), Some(r#"{"x":[1,{"y":"}"}]}"#));
        assert_eq!(find(r#"{"a":{"metadata":1},"metadata":2}"#, "metadata"), Some("2"));
        assert_eq!(find(r#"{"a":"metadata","b":"\\\"metadata\":3","metadata":"v\""}"#, "metadata"), Some(r#""v\"""#));
        assert_eq!(find(r#"{"a":1}"#, "metadata"), None);
    }

    #[test]
    fn an_object_is_sent_as_it_is_stored() {
        let entry = stored();
        assert_eq!(printer(Shape::Object, "").single(&entry).unwrap().as_ptr(), entry.value.as_ptr());
    }

    #[test]
    fn a_list_has_the_kinds_name_and_revision() {
        let got = list(&printer(Shape::Object, ""));
        assert_eq!(got["kind"], "ConfigMapList");
        assert_eq!(got["apiVersion"], "v1");
        assert_eq!(got["metadata"], json!({ "resourceVersion": "9", "remainingItemCount": 0 }));
        assert_eq!(got["items"][0]["data"]["k"], "v");
    }

    #[test]
    fn metadata_alone_is_metadata_alone() {
        let got = list(&printer(Shape::Metadata(MetaVersion::V1), ""));
        assert_eq!(got["kind"], "PartialObjectMetadataList");
        assert_eq!(got["items"][0]["kind"], "PartialObjectMetadata");
        assert_eq!(got["items"][0]["metadata"]["name"], "a");
        assert_eq!(got["items"][0].get("data"), None);
    }

    #[test]
    fn a_table_has_a_row_per_object() {
        let got = list(&printer(Shape::Table(MetaVersion::V1), ""));
        assert_eq!(got["columnDefinitions"][0]["name"], "Name");
        assert_eq!(got["columnDefinitions"][0]["format"], "name");
        assert_eq!(got["rows"][0]["cells"][0], "a");
        assert_eq!(got["rows"][0]["object"]["kind"], "PartialObjectMetadata");
        let got = list(&printer(Shape::Table(MetaVersion::V1), "includeObject=Object"));
        assert_eq!(got["rows"][0]["object"]["data"]["k"], "v");
        let got = list(&printer(Shape::Table(MetaVersion::V1), "includeObject=None"));
        assert_eq!(got["rows"][0]["object"], Value::Null);
    }

    #[test]
    fn a_single_objects_table_has_its_revision_and_later_events_no_columns() {
        let printer = printer(Shape::Table(MetaVersion::V1), "");
        let read = |b: Bytes| serde_json::from_slice::<Value>(&b).unwrap();
        let first = read(printer.event(&stored(), true).unwrap());
        assert_eq!(first["metadata"]["resourceVersion"], "7");
        assert_ne!(first["columnDefinitions"], json!([]));
        let second = read(printer.event(&stored(), false).unwrap());
        assert_eq!(second["columnDefinitions"], json!([]));
        assert_eq!(second["rows"][0]["cells"][0], "a");
    }
    #[test]
    fn watchers_of_a_table_decode_an_object_once() {
        let printer = printer(Shape::Table(MetaVersion::V1), "");
        let entry = stored();
        printer.item(&entry).unwrap();
        printer.single(&entry).unwrap();
        assert!(entry.decoded.get().is_none());
        printer.event(&entry, true).unwrap();
        let kept = Arc::clone(entry.decoded.get().unwrap());
        let gone: Value = serde_json::from_slice(&printer.gone(&entry, Revision(9), false).unwrap()).unwrap();
        assert_eq!(gone["rows"][0]["object"]["metadata"]["resourceVersion"], "9");
        assert!(Arc::ptr_eq(&kept, entry.decoded.get().unwrap()));
    }
}

//! The schemas of the built-in kinds: field checking on writes, merge keys for patches, and OpenAPI documents.
//!
//! Called by the server (bodies, OpenAPI), by patches (merge keys) and by the CLI (files).
//!
//! - [`read`]: JSON and YAML text into values, with duplicate fields found; [`protobuf`]: Kubernetes' binary form.
//! - [`check()`]: unknown fields and wrong types, in the words of Go's decoder. [`normalize()`]: the value as Go would write it.
//! - [`openapi`]: the documents for clients; [`swagger`]: the same as one, in v2. [`structure`]: the definitions themselves.
//!
//! **Invariants**: nothing is generated at run time. `cargo schemas` packs what k8s-openapi knows and what `schema/facts.rs` adds;
//! the structure is read on first use, descriptions are unpacked only for a document and dropped after.
//!
//! To publish a kind: its line in `schemas/main.rs` (or its definition in `schemas/openshift.yaml`), and its facts (merge keys, values) in
//! `schema/facts.rs`; then `cargo schemas`, which writes the files in `schema/packed`.

pub(in crate::api) mod added;
mod check;
mod complete;
pub mod document;
mod go;
mod normalize;
pub mod openapi;
pub mod protobuf;
pub mod read;
pub mod structure;
#[cfg(test)]
mod sums;
pub mod swagger;
mod yaml;

pub(crate) use go::{display as go_display, kind_of as go_kind};
use serde_json::Value;
use structure::Definition;

/// What a decoder would say of a value.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Findings {
    /// Paths of fields that the kind does not have, e.g. `spec.foo`; each is `unknown field "spec.foo"` to clients.
    pub unknown: Vec<String>,
    /// Why the value cannot be decoded, in Go's words: the first wrong type or malformed text. The write must be refused.
    pub error: Option<String>,
}

/// Checks a value against a definition. Changes nothing.
pub fn check(definition: &Definition, value: &Value) -> Findings {
    check::check(definition, value)
}

/// Writes a value that [`check()`] found decodable the way Go would write it back: no nulls, quantities canonical, base64 clean.
/// Needed before the typed decode, which is pickier than Go.
pub fn normalize(definition: &Definition, value: &mut Value) {
    normalize::object(definition, value);
}

/// Brings a value that [`check()`] found decodable to what a typed decode and encode would make of it: fields that the definition has
/// not go, and fields that it requires are there.
pub fn complete(definition: &Definition, value: &mut Value) {
    complete::object(definition, value);
}

/// The definition of a kind that is compiled in, e.g. `io.k8s.api.apps.v1.Deployment`.
///
/// # Panics
/// When `cargo schemas` packed none; a test walks the table for that.
pub fn packed(definition: &str) -> &'static Definition {
    Definition::find(definition).unwrap_or_else(|| panic!("schemas/main.rs publishes no {definition}"))
}

/// The sentences of what strict decoding objects to: `unknown field "…"`, `duplicate field "…"`. As warnings, one each.
pub fn strict_sentences(unknown: &[String], duplicates: &[String]) -> Vec<String> {
    let unknown = unknown.iter().map(|path| format!("unknown field {path:?}"));
    unknown.chain(duplicates.iter().map(|path| format!("duplicate field {path:?}"))).take(check::FINDINGS_MAX).collect()
}

/// The error of a strict write: `strict decoding error: unknown field "a", duplicate field "b"`. `None`: nothing to object to.
pub fn strict_error(unknown: &[String], duplicates: &[String]) -> Option<String> {
    let sentences = strict_sentences(unknown, duplicates);
    (!sentences.is_empty()).then(|| format!("strict decoding error: {}", sentences.join(", ")))
}

/// The message of the 400 for a body that does not decode:
/// `Deployment in version "v1" cannot be handled as a Deployment: json: cannot unmarshal …`.
pub fn cannot_be_handled(version: &str, kind: &str, why: &str) -> String {
    format!("{kind} in version {version:?} cannot be handled as a {kind}: {why}")
}

#[cfg(test)]
mod tests;

//! What is read from JSON and from YAML: a value, what was written twice in it, and how far the bounds are. Pure.
//!
//! Called by `read` and `yaml`, each for its language.

use super::check::FINDINGS_MAX;
use crate::api::bounds::{Census, DEPTH_MAX, TOO_DEEP, quoted};
use serde_json::{Map, Value};
use std::fmt::Write as _;

/// Why a text is not JSON or YAML. `Display` names the line for YAML, as Kubernetes does.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{message}")]
pub struct SyntaxError {
    /// What is wrong.
    pub message: String,
    /// The line, counted from 1; 0 when it is not known.
    pub line: usize,
    /// The column, counted from 1; 0 when it is not known.
    pub column: usize,
}

/// A value as it was written.
#[derive(Clone, Debug, PartialEq)]
pub struct Document {
    /// The value.
    pub value: Value,
    /// Paths of the fields that were given more than once, e.g. `spec.replicas`.
    pub duplicates: Vec<String>,
    /// The line of the text where the value starts, counted from 1.
    pub line: usize,
}

/// What is gathered while a value is read. Shared by both languages.
#[derive(Debug, Default)]
pub(super) struct State {
    path: String,
    depth: usize,
    census: Census,
    pub(super) duplicates: Vec<String>,
}

impl State {
    /// Counts a value, and a list or object as one level more until [`State::close`].
    pub(super) fn open(&mut self, is_object: bool) -> Result<(), String> {
        self.depth += 1;
        if self.depth > DEPTH_MAX {
            return Err(TOO_DEEP.to_owned());
        }
        if is_object { self.census.object() } else { self.census.value() }
    }

    /// Counts a value with nothing in it.
    pub(super) fn leaf(&mut self) -> Result<(), String> {
        self.census.value()
    }

    /// Counts a value that was made from another one.
    pub(super) fn copied(&mut self, value: &Value, depth: usize) -> Result<(), String> {
        if self.depth.saturating_add(depth) > DEPTH_MAX {
            return Err(TOO_DEEP.to_owned());
        }
        self.census.all(value)
    }

    /// Ends what [`State::open`] began.
    pub(super) fn close(&mut self) {
        self.depth -= 1;
    }

    /// Appends a field to the path; gives what [`State::leave`] wants.
    pub(super) fn enter_field(&mut self, name: &str) -> usize {
        let len = self.path.len();
        if len > 0 {
            self.path.push('.');
        }
        self.path.push_str(name);
        len
    }

    /// Appends an index to the path; gives what [`State::leave`] wants.
    pub(super) fn enter_item(&mut self, index: usize) -> usize {
        let len = self.path.len();
        write!(self.path, "[{index}]").expect("writing to a string works");
        len
    }

    /// Goes back up to where `enter_…` was called.
    pub(super) fn leave(&mut self, len: usize) {
        self.path.truncate(len);
    }

    /// Puts a field into an object, and notes the path if it was there.
    pub(super) fn insert(&mut self, fields: &mut Map<String, Value>, name: String, value: Value) {
        if fields.contains_key(&name) && self.duplicates.len() < FINDINGS_MAX {
            let len = self.enter_field(&name);
            // Three fields of one name are still one finding.
            if self.duplicates.last().is_none_or(|last| *last != quoted(&self.path)) {
                self.duplicates.push(quoted(&self.path).into_owned());
            }
            self.leave(len);
        }
        fields.insert(name, value);
    }
}

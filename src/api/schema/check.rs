//! Field checking: what Go's decoder would say of a value, before it is decoded for real.
//!
//! **Source**: `sigs.k8s.io/json` (strict errors, paths) and Go's `encoding/json/decode.go`, as used by Kubernetes v1.37.

use super::{
    Findings, go,
    structure::{Definition, Property, Type},
};
use crate::api::bounds::quoted;
use serde_json::Value;

/// No more strict errors than this are told.
pub(super) const FINDINGS_MAX: usize = 100;

/// See [`super::check()`].
pub(super) fn check(definition: &Definition, value: &Value) -> Findings {
    let mut walk =
        Walk { path: String::new(), fields: Vec::new(), owner: None, text: None, findings: Findings::default() };
    walk.object(definition, value);
    walk.findings
}

/// Where a walk through a value is, and what it found.
struct Walk<'a> {
    /// The path as strict errors print it: `spec.containers[0].foo`.
    path: String,
    /// The names of the fields that lead here: type errors leave indexes and map keys out, and name what Go embeds.
    fields: Vec<&'a str>,
    /// The definition that has the last of these fields.
    owner: Option<&'a Definition>,
    /// Go's name of the type of the field's text.
    text: Option<&'static str>,
    findings: Findings,
}

impl<'a> Walk<'a> {
    /// Runs `inner` one step further down the path.
    fn at(&mut self, step: impl std::fmt::Display, inner: impl FnOnce(&mut Self)) {
        let len = self.path.len();
        self.path.push_str(&step.to_string());
        inner(self);
        self.path.truncate(len);
    }

    fn at_key(&mut self, key: &str, inner: impl FnOnce(&mut Self)) {
        let dot = if self.path.is_empty() { "" } else { "." };
        self.at(format_args!("{dot}{key}"), inner);
    }

    fn object(&mut self, definition: &'a Definition, value: &'a Value) {
        if let Some(kind) = &definition.value {
            return self.value(kind, value);
        }
        let fields = match value {
            Value::Object(fields) => fields,
            Value::Null => return,
            other => return self.wrong_type(go::kind_of(other), &go::struct_name(definition)),
        };
        for (name, value) in fields {
            match definition.property(name) {
                Some(property) => self.field(definition, property, value),
                None => self.at_key(name, Self::unknown),
            }
        }
    }

    fn unknown(&mut self) {
        if self.findings.unknown.len() < FINDINGS_MAX {
            self.findings.unknown.push(quoted(&self.path).into_owned());
        }
    }

    fn field(&mut self, owner: &'a Definition, property: &'a Property, value: &'a Value) {
        let outer = (self.owner.replace(owner), std::mem::replace(&mut self.text, property.go_type));
        let depth = self.fields.len();
        self.fields.extend(property.embedded);
        self.fields.push(&property.name);
        self.at_key(&property.name, |walk| walk.value(&property.kind, value));
        self.fields.truncate(depth);
        (self.owner, self.text) = outer;
    }

    fn value(&mut self, kind: &'a Type, value: &'a Value) {
        match (kind, value) {
            (_, Value::Null)
            | (Type::Any, _)
            | (Type::String | Type::IntOrString, Value::String(_))
            | (Type::Bool, Value::Bool(_))
            | (Type::Number, Value::Number(_)) => {}
            (Type::Ref(id), _) => self.object(id.get(), value),
            (Type::Object(definition), _) => self.object(definition, value),
            (Type::List(inner), Value::Array(items)) => {
                for (i, item) in items.iter().enumerate() {
                    self.at(format_args!("[{i}]"), |walk| walk.value(inner, item));
                }
            }
            (Type::Map(inner), Value::Object(entries)) => {
                for (key, item) in entries {
                    self.at_key(key, |walk| walk.value(inner, item));
                }
            }
            (Type::Int32 | Type::IntOrString, Value::Number(n)) => {
                self.fits(n.as_i64().is_some_and(|n| i32::try_from(n).is_ok()), value, kind);
            }
            (Type::Int64, Value::Number(n)) => self.fits(n.as_i64().is_some(), value, kind),
            (Type::Time, Value::String(text)) => self.malformed(go::time(text, false).err()),
            (Type::MicroTime, Value::String(text)) => self.malformed(go::time(text, true).err()),
            (Type::Bytes, Value::String(text)) => self.malformed(go::base64(text).err()),
            (Type::Quantity, Value::String(text)) => self.malformed(go::quantity(text.trim()).err()),
            // What is no text reaches the quantity's parser as it is written.
            (Type::Quantity, other) => self.malformed(go::quantity(&other.to_string()).err()),
            (kind, other) => self.wrong_type(go::kind_of(other), &go::type_name(kind, self.text)),
        }
    }

    fn fits(&mut self, is_fitting: bool, value: &Value, kind: &Type) {
        if !is_fitting {
            self.wrong_type(&format!("number {value}"), &go::type_name(kind, None));
        }
    }

    fn wrong_type(&mut self, what: &str, wanted: &str) {
        let target = match self.owner {
            Some(owner) => format!("struct field {}.{}", owner.short_name(), self.fields.join(".")),
            None => "value".to_owned(),
        };
        self.malformed(Some(format!("json: cannot unmarshal {what} into Go {target} of type {wanted}")));
    }

    /// Go goes on after an error and reports the first.
    fn malformed(&mut self, error: Option<String>) {
        if self.findings.error.is_none() {
            self.findings.error = error;
        }
    }
}

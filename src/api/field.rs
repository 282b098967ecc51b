//! Field errors: which field of an object is wrong, and how, in Kubernetes' own words.
//!
//! Source: `k8s.io/apimachinery/pkg/util/validation/field/errors.go`, v1.37.

use super::bounds::quoted;
use std::fmt;

/// How a field is wrong. The text and the `reason` of the `Status` cause follow from it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum FieldErrorKind {
    /// The value must be given.
    Required,
    /// The value is malformed or out of its range.
    Invalid(BadValue),
    /// The value is not one of the supported ones.
    NotSupported(BadValue, Vec<String>),
    /// The value must be unique and is not.
    Duplicate(BadValue),
    /// The value may not be given here.
    Forbidden,
    /// The value has more bytes than this.
    TooLong(usize),
    /// The list has more items than this: (actual, maximum).
    TooMany(usize, usize),
    /// What the value names does not exist.
    NotFound(BadValue),
}

/// The rejected value, as Kubernetes prints it: strings quoted, the rest as JSON.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BadValue(pub String);

impl BadValue {
    /// Prints `value` the way Kubernetes does, up to a length: each error of a list may show the whole list.
    pub fn of(value: impl serde::Serialize) -> Self {
        let text = serde_json::to_string(&value).unwrap_or_else(|err| format!("<unprintable: {err}>"));
        Self(quoted(&text).into_owned())
    }
}

/// One thing that is wrong with one field.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FieldError {
    /// Where, e.g. `spec.template.spec.containers[0].name`.
    pub path: String,
    /// How.
    pub kind: FieldErrorKind,
    /// What the value should be; empty when the kind says all.
    pub detail: String,
}

impl FieldError {
    /// The value must be given.
    pub fn required(path: impl Into<String>, detail: impl Into<String>) -> Self {
        Self { path: path.into(), kind: FieldErrorKind::Required, detail: detail.into() }
    }

    /// The value is malformed or out of its range.
    pub fn invalid(path: impl Into<String>, value: impl serde::Serialize, detail: impl Into<String>) -> Self {
        Self { path: path.into(), kind: FieldErrorKind::Invalid(BadValue::of(value)), detail: detail.into() }
    }

    /// Several values of what is at the path do not go together; none of them is shown. Source: `OmitValueType`.
    pub fn invalid_whole(path: impl Into<String>, detail: impl Into<String>) -> Self {
        let nothing = BadValue(String::new());
        Self { path: path.into(), kind: FieldErrorKind::Invalid(nothing), detail: detail.into() }
    }

    /// The value is not one of `supported`.
    pub fn not_supported(path: impl Into<String>, value: impl serde::Serialize, supported: &[&str]) -> Self {
        let supported = supported.iter().map(|s| (*s).to_owned()).collect();
        Self {
            path: path.into(),
            kind: FieldErrorKind::NotSupported(BadValue::of(value), supported),
            detail: String::new(),
        }
    }

    /// The same, with what else there is to say to who wrote it.
    #[must_use]
    pub fn explained(mut self, detail: impl Into<String>) -> Self {
        self.detail = detail.into();
        self
    }

    /// The value must be unique and is not.
    pub fn duplicate(path: impl Into<String>, value: impl serde::Serialize) -> Self {
        Self { path: path.into(), kind: FieldErrorKind::Duplicate(BadValue::of(value)), detail: String::new() }
    }

    /// The value may not be given here.
    pub fn forbidden(path: impl Into<String>, detail: impl Into<String>) -> Self {
        Self { path: path.into(), kind: FieldErrorKind::Forbidden, detail: detail.into() }
    }

    /// The value has more than `max` bytes.
    pub fn too_long(path: impl Into<String>, max: usize) -> Self {
        Self { path: path.into(), kind: FieldErrorKind::TooLong(max), detail: String::new() }
    }

    /// The list has more than `max` items.
    pub fn too_many(path: impl Into<String>, actual: usize, max: usize) -> Self {
        Self { path: path.into(), kind: FieldErrorKind::TooMany(actual, max), detail: String::new() }
    }

    /// What the value names does not exist.
    pub fn not_found(path: impl Into<String>, value: impl serde::Serialize) -> Self {
        Self { path: path.into(), kind: FieldErrorKind::NotFound(BadValue::of(value)), detail: String::new() }
    }

    /// The reason code of the `Status` cause, e.g. `FieldValueInvalid`.
    pub fn reason(&self) -> &'static str {
        match self.kind {
            FieldErrorKind::Required => "FieldValueRequired",
            FieldErrorKind::Invalid(_) => "FieldValueInvalid",
            FieldErrorKind::NotSupported(..) => "FieldValueNotSupported",
            FieldErrorKind::Duplicate(_) => "FieldValueDuplicate",
            FieldErrorKind::Forbidden => "FieldValueForbidden",
            FieldErrorKind::TooLong(_) => "FieldValueTooLong",
            FieldErrorKind::TooMany(..) => "FieldValueTooMany",
            FieldErrorKind::NotFound(_) => "FieldValueNotFound",
        }
    }

    /// The error without its path, as in a `Status` cause's message.
    pub fn body(&self) -> String {
        let (head, detail) = match &self.kind {
            FieldErrorKind::Required => ("Required value".to_owned(), self.detail.clone()),
            FieldErrorKind::Invalid(v) if v.0.is_empty() => ("Invalid value".to_owned(), self.detail.clone()),
            FieldErrorKind::Invalid(v) => (format!("Invalid value: {}", v.0), self.detail.clone()),
            FieldErrorKind::NotSupported(v, supported) => {
                let list: Vec<String> = supported.iter().map(|s| format!("{s:?}")).collect();
                let detail = [format!("supported values: {}", list.join(", ")), self.detail.clone()];
                (format!("Unsupported value: {}", v.0), detail.join("; ").trim_end_matches("; ").to_owned())
            }
            FieldErrorKind::Duplicate(v) => (format!("Duplicate value: {}", v.0), self.detail.clone()),
            FieldErrorKind::Forbidden => ("Forbidden".to_owned(), self.detail.clone()),
            FieldErrorKind::TooLong(max) => ("Too long".to_owned(), format!("may not be more than {max} bytes")),
            FieldErrorKind::TooMany(n, max) => (format!("Too many: {n}"), format!("must have at most {max} items")),
            FieldErrorKind::NotFound(v) => (format!("Not found: {}", v.0), self.detail.clone()),
        };
        if detail.is_empty() { head } else { format!("{head}: {detail}") }
    }
}

impl fmt::Display for FieldError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.path, self.body())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn texts_are_kubernetes_own() {
        let e = FieldError::invalid("spec.replicas", -1, "must be greater than or equal to 0");
        assert_eq!(e.to_string(), "spec.replicas: Invalid value: -1: must be greater than or equal to 0");
        let e = FieldError::not_supported("spec.type", "Bad", &["A", "B"]);
        assert_eq!(e.to_string(), r#"spec.type: Unsupported value: "Bad": supported values: "A", "B""#);
        assert_eq!(FieldError::required("spec.selector", "").to_string(), "spec.selector: Required value");
    }
}

//! Label and field selectors: parsed, matched, printed.
//!
//! **Source**: `k8s.io/apimachinery/pkg/{labels,fields}/selector.go`, v1.37.

use std::collections::BTreeMap;

/// An object's selectable fields: path → value.
pub type Fields = BTreeMap<&'static str, String>;

/// A label selector.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct LabelSelector;

/// A field selector.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct FieldSelector;

//! JSON and YAML text into values; duplicate fields are found, the last one counts.

use serde_json::Value;

/// Why a text is not JSON or YAML.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{message}")]
pub struct SyntaxError {
    /// What is wrong, with its place.
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

/// Reads one JSON value.
pub fn parse_json(bytes: &[u8]) -> Result<Document, SyntaxError> {
    let _ = bytes;
    todo!()
}

/// Reads one YAML document (JSON is YAML too), as Kubernetes converts it to JSON.
pub fn parse_yaml(bytes: &[u8]) -> Result<Document, SyntaxError> {
    let _ = bytes;
    todo!()
}

/// Reads every YAML document of a file; empty ones are left out. Lines count from the start of the file.
pub fn parse_yaml_documents(bytes: &[u8]) -> Result<Vec<Document>, SyntaxError> {
    let _ = bytes;
    todo!()
}

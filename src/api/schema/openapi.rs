//! OpenAPI v3 documents: one per group and version of the kinds table, put together when a client asks.

use bytes::Bytes;
use serde_json::Value;

/// The body of `/openapi/v3`: the path of each document with its hash.
pub fn index() -> Value {
    todo!()
}

/// The body of `/openapi/v3/api/v1` (group empty) or `/openapi/v3/apis/GROUP/VERSION`; `None`: no kind is served there.
pub fn document(group: &str, version: &str) -> Option<Bytes> {
    let _ = (group, version);
    todo!()
}

/// The hash in the index's URL, which is the document's `ETag` too (without quotes). Changes when the document does.
pub fn hash(group: &str, version: &str) -> Option<String> {
    let _ = (group, version);
    todo!()
}

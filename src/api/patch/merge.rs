//! Merge patch, RFC 7386.

use super::PatchError;
use serde_json::Value;

/// The object after the patch.
pub fn apply(current: Value, patch: Value) -> Result<Value, PatchError> {
    let _ = (current, patch);
    todo!()
}

//! What happened in a run: what the user did, what was written, what the engine was asked. Kept as it comes, told as text when a
//! person or a comparison wants it.

use crate::{api::meta::Revision, engine::fake::Call, store::Change};
use bytes::Bytes;
use jiff::Timestamp;
use std::{fmt, sync::Arc};

/// One thing that happened.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Line {
    /// The user did something, or was refused.
    User(Timestamp, String),
    /// Something was written, or removed.
    Stored(Revision, Arc<str>, Option<Bytes>),
    /// The engine was asked.
    Asked(Call),
}

impl Line {
    /// The line of a change.
    pub(super) fn of(change: &Change) -> Self {
        Self::Stored(change.revision, Arc::clone(&change.key), change.after.as_ref().map(|entry| entry.value.clone()))
    }
}

impl fmt::Display for Line {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::User(at, what) => write!(f, "{at} user: {what}"),
            Self::Stored(revision, key, Some(value)) => {
                write!(f, "store: {revision} {key} {}", String::from_utf8_lossy(value))
            }
            Self::Stored(revision, key, None) => write!(f, "store: {revision} {key} deleted"),
            Self::Asked(call) => write!(f, "{} engine: {:?} {} {:?}", call.at, call.kind, call.subject, call.outcome),
        }
    }
}

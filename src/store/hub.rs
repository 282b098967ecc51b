//! Fan-out of changes to watchers: one bounded buffer per watcher, one shared copy of each change.

use super::{Change, WatchError};
use crate::api::meta::Revision;
use std::sync::Arc;

/// A running watch.
#[derive(Debug)]
pub struct Watch;

impl Watch {
    /// The next change of the prefix; waits for it.
    ///
    /// # Errors
    /// `TooSlow` when the buffer overflowed; the watch is over.
    ///
    /// # Cancel safety
    /// Safe: a change is not lost by dropping the future.
    pub async fn next(&mut self) -> Result<Arc<Change>, WatchError> {
        todo!()
    }
    /// A change that is already there, without waiting.
    pub fn try_next(&mut self) -> Result<Option<Arc<Change>>, WatchError> {
        todo!()
    }
    /// The revision up to which every change of the prefix has been returned: what a bookmark may say.
    pub fn progress(&self) -> Revision {
        todo!()
    }
}

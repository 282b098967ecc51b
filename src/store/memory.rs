//! A backend that keeps nothing: for tests and the simulator.

use super::{Backend, Change, Entry};
use crate::api::meta::Revision;
use std::sync::Arc;

/// Begins empty and forgets every commit: the state is the store's own.
#[derive(Debug, Default)]
pub struct MemoryBackend;

impl Backend for MemoryBackend {
    fn load(&mut self) -> Result<(Revision, Vec<Entry>), String> {
        Ok((Revision(0), Vec::new()))
    }

    fn commit(&mut self, _changes: &[Arc<Change>]) -> Result<(), String> {
        Ok(())
    }
}

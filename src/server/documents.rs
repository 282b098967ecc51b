//! The documents that follow from the kinds table, made when a client first asks and kept until the table changes: the aggregated
//! discovery whole, of OpenAPI only the hashes.
//!
//! Called by `paths`. **Not here**: what the documents say (`discovery`, `api::schema::openapi`, `api::schema::swagger`).

use super::discovery::{self, Tagged};
use crate::api::{
    kinds::Kinds,
    schema::{
        openapi::{self, Hashes},
        swagger,
    },
};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};

/// The documents of one state of the table.
#[derive(Debug)]
pub(super) struct Documents {
    kinds: Arc<Kinds>,
    core: OnceLock<Tagged>,
    named: OnceLock<Tagged>,
    v3: OnceLock<Hashes>,
    v2: OnceLock<[String; 2]>,
}

impl Documents {
    fn of(kinds: Arc<Kinds>) -> Self {
        let (core, named, v3, v2) = (OnceLock::new(), OnceLock::new(), OnceLock::new(), OnceLock::new());
        Self { kinds, core, named, v3, v2 }
    }

    /// The table that they are of.
    pub(super) fn kinds(&self) -> &Kinds {
        &self.kinds
    }

    /// `/api` or `/apis` as one document.
    pub(super) fn aggregated(&self, is_core: bool) -> &Tagged {
        let place = if is_core { &self.core } else { &self.named };
        place.get_or_init(|| discovery::aggregated(&self.kinds, is_core))
    }

    /// The hash of each document of OpenAPI v3.
    pub(super) fn hashes(&self) -> &Hashes {
        self.v3.get_or_init(|| openapi::hashes(&self.kinds))
    }

    /// The hashes of the document of OpenAPI v2, as JSON and as protobuf.
    pub(super) fn swagger_hashes(&self) -> &[String; 2] {
        self.v2.get_or_init(|| swagger::hashes(&self.kinds))
    }
}

/// Keeps the documents of the latest table that was asked for.
#[derive(Debug, Default)]
pub(super) struct Library(Mutex<Option<Arc<Documents>>>);

impl Library {
    /// The documents of this table.
    pub(super) fn of(&self, kinds: Arc<Kinds>) -> Arc<Documents> {
        let mut kept = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        match &*kept {
            Some(documents) if documents.kinds.revision() == kinds.revision() => Arc::clone(documents),
            _ => Arc::clone(kept.insert(Arc::new(Documents::of(kinds)))),
        }
    }
}

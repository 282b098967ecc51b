//! A fence: writes of a registry that happen only while a Lease is its holder's.
//!
//! Made by the controllers, whose writes carry it (`controllers::leader`). A control plane that believes to lead and does not any more
//! may decide what it likes: the store refuses what it writes, in the same transaction that would have written it.
//!
//! **Invariant**: a write carries the Lease's revision, which was seen to be of this holder and this term. A Lease that was renewed
//! meanwhile has another revision and the same term: the write is tried again.

use crate::{
    api::{
        kind::TypedKind as _,
        kinds::lease::Leases,
        meta::{ObjectKey, Revision},
        status::ApiError,
    },
    registry::{keys, pipeline::decoded},
    store::{Entry, Expect},
};
use k8s_openapi::api::coordination::v1::Lease;
use std::sync::{
    Arc,
    atomic::{AtomicU64, Ordering::Relaxed},
};

/// A term of a Lease. Clones share what is known of it.
#[derive(Clone, Debug)]
pub struct Fence(Arc<Term>);

#[derive(Debug)]
struct Term {
    key: String,
    holder: String,
    transitions: i32,
    /// The revision of the Lease that was last seen to be of this term.
    revision: AtomicU64,
}

impl Fence {
    /// The term that a Lease shows, as it was written at this revision.
    pub fn of(lease: &Lease, revision: Revision) -> Self {
        Self(Arc::new(Term {
            key: keys::key(Leases::erased().info(), &ObjectKey::of(&lease.metadata)),
            holder: holder(lease).to_owned(),
            transitions: transitions(lease),
            revision: AtomicU64::new(revision.0),
        }))
    }

    /// What a write expects.
    pub(super) fn expectation(&self) -> Expect {
        Expect::Unchanged(self.0.key.clone(), Revision(self.0.revision.load(Relaxed)))
    }

    /// Whether a write that was refused for this key was refused by the fence.
    pub(super) fn is_at(&self, key: &str) -> bool {
        self.0.key == key
    }

    /// Takes over what the Lease is now.
    ///
    /// # Errors
    /// Its term is over.
    pub(super) fn renew(&self, found: Option<&Arc<Entry>>) -> Result<(), ApiError> {
        match found {
            Some(entry) if self.is_of(&decoded::<Leases>(entry)) => {
                self.0.revision.store(entry.modified.0, Relaxed);
                Ok(())
            }
            Some(_) | None => Err(ApiError::Unavailable(format!(
                "{} no longer holds the lease under which it writes: another control plane acts for the cluster",
                self.0.holder
            ))),
        }
    }

    /// Whether a Lease is of this term.
    pub fn is_of(&self, lease: &Lease) -> bool {
        holder(lease) == self.0.holder && transitions(lease) == self.0.transitions
    }
}

fn holder(lease: &Lease) -> &str {
    lease.spec.as_ref().and_then(|spec| spec.holder_identity.as_deref()).unwrap_or_default()
}

fn transitions(lease: &Lease) -> i32 {
    lease.spec.as_ref().and_then(|spec| spec.lease_transitions).unwrap_or(0)
}

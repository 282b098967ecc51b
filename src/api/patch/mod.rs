//! Patches: JSON values in, JSON values out. Pure.
//!
//! Called by the server between reading an object and writing it, and by `skiff up -f`.
//!
//! - [`json`]: RFC 6902. [`merge`]: RFC 7386. [`strategic`]: Kubernetes' merge by the schema's keys. [`three_way`]: the patch that
//!   `apply` sends.
//!
//! **Invariants**: what a patch makes is no deeper than what can be read, no larger than object, patch and bounded copies together, and
//! is made in a time that grows as they do.
//!
//! **Source** of the error classes: `k8s.io/apiserver/pkg/endpoints/handlers/patch.go`, v1.37.

pub mod json;
pub mod merge;
pub mod strategic;
pub mod three_way;

use super::{bounds::quoted, status::ApiError};

/// Why a patch was refused.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PatchError {
    /// The patch itself is malformed: 400.
    #[error("{0}")]
    Malformed(String),
    /// The patch does not fit the object: 422.
    #[error("{why}")]
    DoesNotFit {
        /// The JSON pointer or field path where it does not.
        at: String,
        /// Why.
        why: String,
    },
    /// The patch has more operations than allowed: 413.
    #[error("The allowed maximum operations in a JSON patch is {max}, got {actual}")]
    TooManyOperations {
        /// The most allowed.
        max: usize,
        /// How many the patch has.
        actual: usize,
    },
    /// The operations of the patch, one by one in bounds, are too much together: 413.
    #[error("The operations of the JSON patch look at or move too many values")]
    TooMuchWork,
}

impl From<PatchError> for ApiError {
    fn from(err: PatchError) -> Self {
        match err {
            PatchError::Malformed(why) => Self::BadRequest(quoted(&why).into_owned()),
            PatchError::DoesNotFit { at, why } => {
                Self::Unprocessable { at: quoted(&at).into_owned(), why: quoted(&why).into_owned() }
            }
            PatchError::TooManyOperations { .. } | PatchError::TooMuchWork => Self::TooManyOperations(err.to_string()),
        }
    }
}

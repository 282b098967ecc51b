//! `skiff version`.

use super::output;
use crate::server::discovery::{GIT_COMMIT, GIT_VERSION};

/// skiff's own version with its commit, and the Kubernetes API that is served.
pub(super) fn run() {
    output::line(format!("skiff {} (commit {GIT_COMMIT}, Kubernetes API {GIT_VERSION})", env!("CARGO_PKG_VERSION")));
}

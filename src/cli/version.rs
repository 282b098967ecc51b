//! `skiff version`.

use super::output;
use crate::server::discovery::GIT_VERSION;

/// The Kubernetes API that is served, and skiff's own version.
pub(super) fn run() {
    output::line(format!("skiff {} (Kubernetes API {})", env!("CARGO_PKG_VERSION"), GIT_VERSION));
}

//! Level 0: what knows nothing of Kubernetes or Docker. Everyone may call it; it calls std and small crates only.
pub mod backoff;
pub mod chain;
pub mod clock;
pub mod clock_jumps;
pub mod descriptors;
pub mod exposition;
pub mod hop_by_hop;
pub mod log;
pub mod log_file;
pub mod reached;
pub mod rng;
pub mod runtime;
pub mod secret;
pub mod supervise;
pub mod task;
pub mod time_zone;
pub mod traffic;

//! Level 3: controllers bring objects to what other objects want. May use `api` and `registry`; never `engine`, `node`, `net`, `server`.

pub mod deployment;
mod pods;
pub mod replica_set;
pub mod runtime;

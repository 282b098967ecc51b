//! Level 3: the node agent.
pub mod streams;

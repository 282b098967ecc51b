//! Level 3: the node agent.
pub mod logs;
pub mod node_object;
pub mod probe_io;
pub mod streams;

//! Level 3: the node agent.
pub mod decide;
pub mod identity;
pub mod observe;
pub mod streams;
mod text;

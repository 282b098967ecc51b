//! Level 3: the node agent.
pub mod decide;
pub mod identity;
pub mod observe;
mod quantity;
pub mod status;
pub mod streams;
mod text;

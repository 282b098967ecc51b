//! What tests share: tools, a cluster of their own, waiting for values.

pub mod browser;
pub mod client;
pub mod cluster;
pub mod history;
pub mod load;
pub mod registry;
pub mod tools;
pub mod wait;

#![doc = include_str!("ARCHITECTURE.md")]

pub mod app;
pub mod cli;
pub mod client;
pub mod roles;
#[cfg(test)]
mod sim;
#[cfg(test)]
mod tidy;

pub use skiff_api::api;
pub use skiff_base::base;
pub use skiff_controllers::controllers;
pub use skiff_engine::engine;
pub use skiff_net::net;
pub use skiff_node::node;
pub use skiff_registry::{identity, registry, store};
pub use skiff_server::server;

#[cfg(test)]
mod testing {
    pub(crate) use skiff_engine::testing::*;
    pub(crate) use skiff_registry::testing::*;
}

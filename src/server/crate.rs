//! The crate of the room `server`.

#[path = "mod.rs"]
pub mod server;

use skiff_api::api;
use skiff_base::base;
#[cfg(test)]
use skiff_controllers::controllers;
#[cfg(test)]
use skiff_engine::engine;
// Logs are streamed by the node.
use skiff_node::node;
#[cfg(test)]
use skiff_registry::testing;
use skiff_registry::{identity, registry, store};

//! The crate of the room `net`.

#[path = "mod.rs"]
pub mod net;

use skiff_api::api;
use skiff_base::base;
#[cfg(test)]
use skiff_base::testing;
#[cfg(test)]
use skiff_server::server;

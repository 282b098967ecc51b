//! The crate of the room `controllers`.

#[path = "mod.rs"]
pub mod controllers;

use skiff_api::api;
use skiff_base::base;
#[cfg(test)]
use skiff_registry::testing;
use skiff_registry::{identity, registry, store};

//! The crate of the room `node`.

#[path = "mod.rs"]
pub mod node;

use skiff_api::api;
use skiff_base::base;
use skiff_engine::engine;
use skiff_registry::{registry, store};

#[cfg(test)]
mod testing {
    pub(crate) use skiff_engine::testing::*;
    pub(crate) use skiff_registry::testing::*;
}

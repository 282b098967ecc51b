//! The crate of the room `api`.

#[path = "mod.rs"]
pub mod api;

use skiff_base::base;
#[cfg(test)]
use skiff_base::testing;

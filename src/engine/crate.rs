//! The crate of the room `engine`.

#[path = "mod.rs"]
pub mod engine;
#[cfg(any(test, feature = "testing"))]
#[path = "../testing/engine.rs"]
pub mod testing;

use skiff_base::base;

//! The crate of the room `base`.

#[path = "mod.rs"]
pub mod base;
#[cfg(any(test, feature = "testing"))]
#[path = "../testing/mod.rs"]
pub mod testing;

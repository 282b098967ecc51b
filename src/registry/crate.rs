//! The crate of the rooms `store`, `registry` and `identity`.

#[path = "../identity/mod.rs"]
pub mod identity;
#[path = "mod.rs"]
pub mod registry;
#[path = "../store/mod.rs"]
pub mod store;
#[cfg(any(test, feature = "testing"))]
#[path = "../testing/registry.rs"]
pub mod testing;

use skiff_api::api;
use skiff_base::base;

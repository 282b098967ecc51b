//! What tests share: tools, a cluster of their own, waiting for values.

pub mod browser;
pub mod client;
pub mod cluster;
pub mod history;
pub mod load;
#[path = "../../src/testing/ports.rs"]
pub mod ports;
#[allow(dead_code, reason = "benches need it")]
pub mod processes;
pub mod registry;
#[allow(dead_code, reason = "benches need it")]
pub mod rivals;
pub mod tools;
pub mod wait;

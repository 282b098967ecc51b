//! What tests share: tools, a cluster of their own, waiting for values.

pub mod browser;
pub mod client;
pub mod cluster;
pub mod history;
pub mod load;
#[path = "../../src/net/test_ports.rs"]
pub mod ports;
pub mod registry;
pub mod tools;
pub mod wait;

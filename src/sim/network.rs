//! The network between the node and the pods of the simulated world.

use crate::{
    engine::fake::FakeEngine,
    node::{NetProbe, net_probe::HttpTarget},
};
use async_trait::async_trait;
use std::time::Duration;

/// Probes reach the programs of the fake engine's containers.
pub(super) struct FakeNetwork(pub(super) FakeEngine);

impl FakeNetwork {
    fn dial(&self, host: &str, port: u16) -> Result<(), String> {
        match host.parse() {
            Ok(ip) if self.0.answers(ip, port) => Ok(()),
            Ok(_) | Err(_) => Err(format!("dial tcp {host}:{port}: connect: connection refused")),
        }
    }
}

#[async_trait]
impl NetProbe for FakeNetwork {
    async fn http(&self, target: &HttpTarget, _: Duration) -> Result<(), String> {
        self.dial(&target.host, target.port)
    }

    async fn tcp(&self, host: &str, port: u16, _: Duration) -> Result<(), String> {
        self.dial(host, port)
    }
}

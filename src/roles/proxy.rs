//! `skiff proxy`: the data plane, run by skiff as a container on the machine's network.
//!
//! Started by the command line; composes `net` with the API. It needs the capabilities `NET_ADMIN` (the route) and
//! `NET_BIND_SERVICE` (ports below 1024), and nothing else.
//!
//! ```text
//!  API ──list, watch──▶ feed ──changes──▶ follow ──tables──▶ net::proxy
//!                                           │  └────zones──▶ net::dns
//!   ▲                                       ├──revisions──▶ ack    ──Lease──┐
//!   │                                       └──troubles───▶ notice ──Event──┤
//!   └───────────────────────────────────────────────────────────────────────┘
//! ```
//!
//! **Invariants**: while the API is away, everything goes on with what was known last. Nothing that the API does or fails to do
//! holds up a connection.

mod ack;
mod admin;
mod feed;
mod follow;
mod notice;
mod settings;

use super::stop::stop_signal;
use crate::{
    base::{
        clock::Clock,
        descriptors,
        task::{self, Drain},
    },
    net::{
        dns::{DnsServer, DnsSettings},
        netlink::{RouteKeeper, ServiceRoute},
        proxy::Proxy,
        zone::Zone,
    },
};
use anyhow::Context as _;
use follow::Follower;
use settings::Settings;
use std::{net::SocketAddr, sync::Arc, time::Duration};
use tokio::sync::{mpsc, watch};
use tracing::info;

/// How long a reply that is due may take after it was told to stop. Until it has ended nobody serves the Services, so not long.
const FINISH: Duration = Duration::from_secs(1);

/// Changes that may wait to be followed; a feed that is ahead of that waits.
const CHANGES_MAX: usize = 1024;

/// Runs until it is told to stop.
pub fn run() -> anyhow::Result<()> {
    let settings = Settings::read(|name| std::env::var(name).ok())?;
    // Every connection needs two; past the limit, the newest clients are reset.
    descriptors::raise_limit();
    let stop = stop_signal().context("cannot wait for signals")?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(serve(settings, Clock::system(), stop))
}

/// Serves until drained.
async fn serve(settings: Settings, clock: Clock, stop: Drain) -> anyhow::Result<()> {
    let client = feed::connect(&settings.kubeconfig).await?;
    let proxy = Arc::new(Proxy::start(clock.clone(), &settings.proxy).context("cannot start the proxy")?);
    keep_route(&settings)?;
    let (zone, zone_now) = watch::channel(Arc::new(Zone::new([], [], settings.zone.clone())));
    if let Some(address) = settings.plan.dns {
        serve_names(address, zone_now);
    }
    if let Some(port) = settings.admin_port {
        task::spawn("admin", admin::run(port, Arc::clone(&proxy)));
    }
    let (changes, arriving) = mpsc::channel(CHANGES_MAX);
    task::spawn("feed-services", feed::follow(client.clone(), changes.clone(), feed::Change::Services));
    task::spawn("feed-slices", feed::follow(client.clone(), changes, feed::Change::Slices));
    let (acks, to_ack) = mpsc::unbounded_channel();
    task::spawn("ack", ack::run(client.clone(), Arc::clone(&proxy), clock.clone(), to_ack));
    let (notices, to_notice) = mpsc::channel(notice::NOTICES_MAX);
    task::spawn("notice", notice::run(client, clock, to_notice));
    let follower = Follower::new(settings.plan, settings.zone, Arc::clone(&proxy), zone, acks, notices);
    task::spawn("follow", follower.run(arriving));
    info!(component = "proxy", "the data plane is up");
    stop.drained().await;
    info!(component = "proxy", connections = proxy.connections(), "the data plane stops");
    proxy.shut_down(FINISH).await;
    Ok(())
}

fn keep_route(settings: &Settings) -> anyhow::Result<()> {
    let Some(bridge) = settings.bridge.clone() else { return Ok(()) };
    let (base, bits) = settings.service_range;
    let keeper = RouteKeeper::open(ServiceRoute { base, bits, bridge })?;
    task::spawn("route", keeper.keep());
    Ok(())
}

fn serve_names(address: SocketAddr, zone: watch::Receiver<Arc<Zone>>) {
    let settings = DnsSettings { address, resolv_conf: "/etc/resolv.conf".into(), upstream_port: 53 };
    task::spawn("dns", DnsServer::new(settings, zone).run());
}

#[cfg(test)]
mod tests;

//! `skiff proxy`: the data plane, run by skiff as a container on the machine's network.
//!
//! Started by the command line; composes `net` with the API. It needs the capabilities `NET_ADMIN` (routes for more sources) and
//! `NET_BIND_SERVICE` (ports below 1024), and nothing else.
//!
//! ```text
//!  API ──list, watch──▶ feed ──changes──▶ follow ──tables──▶ net::proxy
//!                                           │  ├──plans────▶ net::router
//!                                           │  └──zones────▶ net::dns
//!   ▲                                       ├──revisions──▶ ack      ──Lease──┐      (and traffic: reports, while somebody looks)
//!   │                                       ├──troubles───▶ notice   ──Event──┤
//!   │                                       └──statuses───▶ statuses ─Status──┤
//!   └─────────────────────────────────────────────────────────────────────────┘
//! ```
//!
//! Two of them run: one leads and serves, the other follows the API and waits for the lead, which the sandbox's store of sockets gives
//! (`net::sockets`). So the end of one, planned or not, refuses nobody.
//!
//! **Invariants**: while the API is away, everything goes on with what was known last. Nothing that the API does or fails to do
//! holds up a connection. Who does not lead takes no port, changes no route, and writes nothing. When a part panics, the process ends:
//! the other one serves at once, and the node agent starts this one again.

mod access;
mod ack;
mod admin;
mod counted;
mod feed;
mod follow;
mod notice;
mod probe;
mod settings;
mod statuses;
mod traffic;

use super::stop::stop_signal;
use crate::{
    base::{backoff::Backoff, clock::Clock, descriptors, runtime::block_on, supervise::Vital, task::Drain},
    net::{
        balancer::ADDRESS_DEFAULT,
        dns::{DnsBounds, DnsServer, DnsSettings},
        netlink::{RouteKeeper, ServiceRoutes},
        proxy::{Proxy, ProxySettings},
        router::{Router, RouterSettings, objects::Route},
        sockets::Sockets,
        zone::Zone,
    },
};
use access::AccessNow;
use anyhow::{Context as _, bail};
use counted::Counted;
use feed::Change;
use follow::{Follower, Known};
use k8s_openapi::api::{
    core::v1::Service,
    discovery::v1::EndpointSlice,
    networking::v1::{Ingress, IngressClass},
};
use settings::Settings;
use std::{
    net::{IpAddr, Ipv6Addr, SocketAddr},
    path::Path,
    sync::Arc,
    time::Duration,
};
use tokio::{
    sync::{mpsc, watch},
    task::JoinHandle,
    time::sleep,
};
use tracing::{info, warn};

/// How long a reply that is due may take after it was told to stop: less than the pod's grace period. Somebody else serves already.
const FINISH: Duration = Duration::from_secs(4);

/// Pauses between attempts to join the store.
const JOIN_RETRY: Backoff = Backoff { base: Duration::from_millis(20), cap: Duration::from_secs(1) };

/// Why it ends when a part of it has panicked.
const ENDS: &str = "this data plane ends, and the other one serves, because a part of it panicked";

/// Changes that may wait to be followed; a feed that is ahead of that waits.
const CHANGES_MAX: usize = 1024;

/// Runs until it is told to stop.
pub fn run() -> anyhow::Result<()> {
    let settings = Settings::read(|name| std::env::var(name).ok())?;
    // Every connection needs two; past the limit, the newest clients are reset.
    descriptors::raise_limit();
    // Woken for each piece that arrives, its threads would take the place of whoever sends it the next ones: under load a fifth fewer
    // requests, and on a busy machine (two loops that never rest) half of them.
    if let Err(err) = skiff_system::work_in_batches() {
        info!(component = "proxy", err = %err, "threads do not work in batches: fewer requests a second where the machine is busy");
    }
    let stop = stop_signal().context("cannot wait for signals")?;
    block_on(serve(settings, Clock::system(), stop))?
}

/// Serves until drained, as soon as it leads.
async fn serve(settings: Settings, clock: Clock, stop: Drain) -> anyhow::Result<()> {
    let (vital, mut fallen) = Vital::new();
    let (access, follow_access) = access::open(settings.kubeconfig.clone()).await?;
    vital.spawn("access", follow_access);
    let (changes, mut arriving) = mpsc::channel(CHANGES_MAX);
    spawn_feeds(&vital, &access, &changes, settings.has_routes);
    drop(changes);
    let mut known = Known::default();
    let led = tokio::select! { biased;
        () = stop.drained() => return Ok(()),
        Some(panic) = fallen.recv() => bail!("{ENDS}: {panic}"),
        sockets = known.gather(&mut arriving, lead(settings.socket_store.as_deref())) => sockets,
    };
    let how = ProxySettings { sockets: Arc::new(led), ..settings.proxy.clone() };
    let proxy = Arc::new(Proxy::start(clock.clone(), &how).context("cannot start the proxy")?);
    keep_routes(&settings, &vital)?;
    let (zone, zone_now) = watch::channel(Arc::new(Zone::new([], [], settings.zone.clone())));
    let (acks, to_ack) = mpsc::unbounded_channel();
    let (notices, to_notice) = mpsc::channel(notice::NOTICES_MAX);
    vital.spawn("notice", notice::run(access.clone(), clock.clone(), to_notice));
    let (balancers, to_tell) = watch::channel(statuses::ToTell::new());
    vital.spawn("balancer", statuses::run(access.clone(), to_tell));
    let (of_routes, to_tell) = watch::channel(statuses::ToTell::new());
    vital.spawn("router-status", statuses::run(access.clone(), to_tell));
    let router = router(&settings, &access, &proxy, &how)?;
    let outlets = follow::Outlets { zone, acks, notices, balancers, routed: of_routes };
    let names = settings.plan.dns.map(|address| serve_names(address, zone_now, &how, &vital));
    let (names, bounds) = names.unzip();
    let counted = Counted { proxy: Arc::clone(&proxy), router: Arc::clone(&router), names: bounds };
    let ack = vital.spawn("ack", ack::run(access.clone(), counted.clone(), clock.clone(), to_ack));
    vital.spawn("traffic", traffic::run(access.clone(), counted.clone(), clock.clone()));
    let served = follow::Served { proxy: Arc::clone(&proxy), router: Arc::clone(&router) };
    let follower = Follower::new(known, access, settings.plan, settings.zone, (served, clock), outlets);
    let follower = vital.spawn("follow", follower.run(arriving));
    if let Some(port) = settings.admin_port {
        vital.spawn("admin", admin::run(port, counted));
    }
    info!(component = "proxy", "the data plane is up");
    tokio::select! { biased;
        () = stop.drained() => {}
        Some(panic) = fallen.recv() => bail!("{ENDS}: {panic}"),
        () = proxy.broken() => bail!("{ENDS}: a worker of the proxy"),
    }
    info!(component = "proxy", connections = proxy.connections(), "the data plane stops");
    // From here on nothing is changed any more, so that whoever leads next finds everything.
    [Some(follower), Some(ack), names].iter().flatten().for_each(JoinHandle::abort);
    // Before the lead is given away, which the proxy does.
    tokio::join!(router.shut_down(FINISH), proxy.shut_down(FINISH));
    Ok(())
}

/// Follows every kind that is served. Where Routes are not, there are none.
fn spawn_feeds(vital: &Vital, access: &AccessNow, changes: &mpsc::Sender<Change>, has_routes: bool) {
    let with = || (access.clone(), changes.clone());
    let (access, changes) = with();
    let services = feed::all::<Service>("services");
    vital.spawn("feed-services", feed::follow(access, services, changes, Change::Services));
    let (access, changes) = with();
    let slices = feed::all::<EndpointSlice>("endpointslices");
    vital.spawn("feed-slices", feed::follow(access, slices, changes, Change::Slices));
    let (access, changes) = with();
    vital.spawn("feed-routes", async move {
        if has_routes {
            feed::follow(access, feed::all::<Route>("routes"), changes, Change::Routes).await;
        } else {
            // Nobody is left to tell when that fails.
            changes.send(Change::Routes(feed::Delta::All(Vec::new(), 0))).await.ok();
        }
    });
    let (access, changes) = with();
    let ingresses = feed::all::<Ingress>("ingresses");
    vital.spawn("feed-ingresses", feed::follow(access, ingresses, changes, Change::Ingresses));
    let (access, changes) = with();
    let classes = feed::all::<IngressClass>("ingressclasses");
    vital.spawn("feed-classes", feed::follow(access, classes, changes, Change::Classes));
    let (access, changes) = with();
    vital.spawn("feed-certificates", feed::follow(access, feed::certificates(), changes, Change::Certificates));
}

/// The router of Routes and Ingresses: where load balancers answer, and on `::1` where that is loopback.
fn router(
    settings: &Settings,
    access: &AccessNow,
    proxy: &Arc<Proxy>,
    how: &ProxySettings,
) -> anyhow::Result<Arc<Router>> {
    let first = settings.plan.load_balancer.unwrap_or(ADDRESS_DEFAULT);
    let second = (first == ADDRESS_DEFAULT).then_some(IpAddr::V6(Ipv6Addr::LOCALHOST));
    let addresses = std::iter::once(first).chain(second).collect();
    let ports = (settings.http_ports.clone(), settings.https_ports.clone());
    let settings = RouterSettings::new(addresses, ports, Arc::clone(&how.sockets), access.borrow().cluster_ca.clone());
    Router::new(Arc::clone(proxy), settings).map(Arc::new).context("cannot set up the router")
}

/// Waits for the lead. While the store cannot be joined, nobody leads: two would take the ports and routes of each other.
async fn lead(store: Option<&Path>) -> Sockets {
    let Some(store) = store else { return Sockets::default() };
    let mut failures = 0;
    loop {
        let err = match Sockets::lead(store).await {
            Ok(sockets) => return sockets,
            Err(err) => err,
        };
        failures += 1;
        if failures == 1 {
            warn!(component = "proxy", store = %store.display(), %err, "the sandbox keeps no sockets; trying again");
        }
        sleep(JOIN_RETRY.delay(failures)).await;
    }
}

fn keep_routes(settings: &Settings, vital: &Vital) -> anyhow::Result<()> {
    let Some(bridge) = settings.bridge.clone() else { return Ok(()) };
    let keeper = RouteKeeper::open(ServiceRoutes { range: settings.services.into(), bridge })?;
    vital.spawn("routes", keeper.keep(settings.services.dialing().collect()));
    Ok(())
}

fn serve_names(
    address: SocketAddr,
    zone: watch::Receiver<Arc<Zone>>,
    how: &ProxySettings,
    vital: &Vital,
) -> (JoinHandle<()>, Arc<DnsBounds>) {
    let settings = DnsSettings {
        address,
        resolv_conf: "/etc/resolv.conf".into(),
        upstream_port: 53,
        sockets: Arc::clone(&how.sockets),
        insiders: Arc::clone(&how.insiders),
    };
    let server = DnsServer::new(settings, zone);
    let bounds = server.bounds();
    (vital.spawn("dns", server.run()), bounds)
}

#[cfg(test)]
mod tests;

//! Composition: a [`Config`] becomes a running control plane. Nothing else wires things.
//!
//! Start order: engine, claim on the cluster, data folder, store, API port, network, keys → the objects that every cluster has → HTTP,
//! events, controllers; then, while clients already work: own image → node agent → data plane.
//! A start that fails takes back what it made (`made`).
//! Stop order: the drain signal ends every loop; the store closes when the last of them is gone. Containers and data plane run on.

pub mod access;
pub mod bootstrap;
pub mod cidr;
pub mod claim;
mod dashboard;
pub mod data_dir;
mod endpoints;
mod ground;
pub mod host;
mod hung;
mod made;
mod measures;
mod memory;
mod metrics;
pub(crate) mod nodes;
mod owner;
mod pod_tokens;
pub mod range;
mod routed;
mod signer;
pub mod snapshot;

use crate::{
    api::{
        agreements::{DATA_PLANE, OBSERVED_REVISION, PAUSED, SYSTEM_NAMESPACE},
        kind::KindInfo,
        kinds::{endpoint_slice::EndpointSlices, lease::Leases, node::Nodes, pod::Pods, service::Services},
        logical_node,
        meta::ObjectKey,
        node_port_range::NodePortRange,
    },
    base::{
        backoff::Backoff,
        clock_jumps, descriptors,
        secret::Secret,
        supervise::Supervisor,
        task::{Drain, DrainTrigger},
    },
    controllers::{self, data_plane::DataPlane},
    engine::{Engine, EngineInfo, docker::DockerEngine, self_image},
    identity::Tokens,
    net::{reach::Insiders, table::Reach},
    node,
    registry::Registry,
    server::{self, dashboard::Dashboard, health::ReadyReport},
    store::Store,
};
use access::Access;
use anyhow::{Context as _, bail};
use cidr::Plan;
use claim::Claim;
use data_dir::{DataDir, Held};
use futures::{FutureExt as _, future::BoxFuture};
use ground::Ground;
use hung::Fenced;
use k8s_openapi::api::discovery::v1::EndpointSlice;
use made::Made;
pub(crate) use owner::FOLDER_LABEL;
use pod_tokens::PodTokens;
pub(crate) use routed::{urls_of_ingress, urls_of_route};
use rustls::ServerConfig;
use std::{
    net::{IpAddr, Ipv4Addr, SocketAddr},
    path::PathBuf,
    sync::Arc,
    time::Duration,
};
use tokio::{net::TcpListener, sync::watch, task::JoinHandle};

/// The domain of the cluster's names.
pub const CLUSTER_DOMAIN: &str = "cluster.local";

/// Containers that are created, started or removed at the same time. Docker itself does about as many things at once on two cores.
const ENGINE_CALLS: usize = 16;

/// How long a wait for a state of the cluster lets pass between two looks at it.
const LOOK_PACE: Duration = Duration::from_millis(10);
/// How often a store whose disk refuses writes is tried.
const STORE_PROBE: Duration = Duration::from_secs(1);

/// What a user can choose about a cluster.
#[derive(Clone, Debug)]
pub struct Config {
    /// The cluster's name: that of its node, its context and its label on containers.
    pub name: String,
    /// Where its state is kept.
    pub data_dir: PathBuf,
    /// Where the API is served.
    pub api_address: SocketAddr,
    /// More names and addresses that the API server's certificate is for.
    pub api_names: Vec<String>,
    /// The range that pods (lower half) and Services (upper half) share; `None`: the first /15 that is free.
    pub cluster_cidr: Option<range::Cidr>,
    /// Addresses that node ports listen on, beside the node's own.
    pub node_port_addresses: Vec<IpAddr>,
    /// The node ports that are given out.
    pub node_ports: NodePortRange,
    /// The ports on which Ingresses and Routes are answered, for HTTP and for TLS; the first of each list that is free is taken.
    pub router_ports: (Vec<u16>, Vec<u16>),
    /// The address that load balancers answer at whose Service names none.
    pub load_balancer_ip: IpAddr,
    /// Whether OpenShift's kinds are served.
    pub serves_openshift: bool,
    /// How many pods the node takes.
    pub max_pods: u32,
    /// How many nodes this machine is shown as.
    pub nodes: u32,
    /// How many pods that have ended may stay before the oldest go; 0: all.
    pub terminated_pod_gc_threshold: usize,
    /// Whether it waits until the control plane that runs the cluster ends, and then takes its place.
    pub standby: bool,
    /// The delays between crashes of a container.
    pub restart_backoff: Backoff,
    /// Whether a cluster whose state is elsewhere is taken over.
    pub adopt: bool,
    /// The dashboard; `None`: there is none.
    pub dashboard: Option<DashboardConfig>,
}

/// What a user can choose about the dashboard.
#[derive(Clone, Debug)]
pub struct DashboardConfig {
    /// Where it is served; `None`: on loopback, beside the API.
    pub address: Option<SocketAddr>,
    /// Names that it answers as, beside addresses and `localhost`.
    pub names: Vec<String>,
    /// The ClusterRole of whoever opens it.
    pub role: String,
}

/// A running control plane.
pub struct App {
    /// The API as functions.
    pub registry: Registry,
    /// The URL of the API.
    pub server_url: String,
    /// The administrator's way in.
    pub access: Access,
    /// The page for people, if it is served.
    pub dashboard: Option<Dashboard>,
    /// The engine's name and version, for people.
    pub engine_version: String,
    /// What a user should know about the start.
    pub notes: Vec<String>,
    engine: Arc<dyn Engine>,
    nodes: Vec<String>,
    tasks: Vec<JoinHandle<()>>,
    // Last, so that neither the folder nor the cluster is free before the store is closed.
    _held: Option<Held>,
    claim: Claim,
}

impl std::fmt::Debug for App {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("App").field("server_url", &self.server_url).finish_non_exhaustive()
    }
}

/// Starts a control plane. It runs until `drain` fires, which `trigger` does; then wait for [`App::stopped`].
///
/// # Errors
/// Each names the cause and the remedy: the data folder cannot be used, another skiff runs this cluster, the cluster's state is
/// elsewhere, the port is taken, the engine cannot be reached or is too old, the network cannot be made, or `drain` fired meanwhile.
/// What was there before stays as it was, and what the start made is gone.
pub async fn start(config: Config, trigger: &Arc<DrainTrigger>, drain: Drain) -> anyhow::Result<App> {
    if let Some(range) = config.cluster_cidr {
        cidr::check_usable(range)?;
    }
    // Before anything is opened: what clients may take is a share of it.
    descriptors::raise_limit();
    let engine: Arc<dyn Engine> = Arc::new(DockerEngine::connect(&config.name).await?);
    let engine_info = engine.info().await?;
    let (claim, fenced) = claim(&config, &engine_info.id, trigger, &drain).await?;
    let mut made = Made::default();
    let started = tokio::select! {
        biased;
        () = drain.drained() => Err(anyhow::anyhow!("stopped before the start was complete")),
        started = run(&config, (&engine, &engine_info), &drain, &mut made) => started,
    };
    match started {
        Ok((registry, access, dashboard, mut notes)) => {
            claim.serves(&access.server);
            if let Some(fenced) = fenced {
                controllers::tell_of_takeover(&registry, &fenced.text());
                notes.push(fenced.text());
            }
            let (held, tasks) = made.keep();
            Ok(App {
                registry,
                server_url: access.server.clone(),
                access,
                dashboard,
                engine_version: format!("Docker {}", engine_info.version),
                notes,
                engine,
                nodes: (1..=config.nodes).map(|n| logical_node::name(&config.name, n)).collect(),
                tasks,
                _held: held,
                claim,
            })
        }
        Err(err) => {
            trigger.fire();
            made.take_back(&*engine, &config.name).await;
            Err(err)
        }
    }
}

/// The claim on the cluster, at once or when its holder has ended, and which holder was ended for it.
async fn claim(
    config: &Config,
    engine: &str,
    trigger: &Arc<DrainTrigger>,
    drain: &Drain,
) -> anyhow::Result<(Claim, Option<Fenced>)> {
    let Config { name, data_dir, .. } = config;
    if !config.standby {
        return Ok((Claim::for_up(engine, name, data_dir, Arc::clone(trigger)).await?, None));
    }
    let claimed = tokio::select! {
        biased;
        () = drain.drained() => bail!("stopped while it stood by"),
        claimed = Claim::for_standby(engine, name, data_dir, Arc::clone(trigger)) => claimed?,
    };
    claimed.with_context(|| format!("the cluster {name} was removed: there is nothing left to stand by for"))
}

/// Makes everything and starts every loop; tells `made` of each before it is there.
async fn run(
    config: &Config,
    engine: (&Arc<dyn Engine>, &EngineInfo),
    drain: &Drain,
    made: &mut Made,
) -> anyhow::Result<(Registry, Access, Option<Dashboard>, Vec<String>)> {
    let mut ground = Ground::lay(config, engine, made).await?;
    let registry = ground.registry(config, &**engine.0).await?;
    let (wiring, later) = Wiring::of(config, &ground, &registry, engine)?;
    let dashboard = wiring.run(config, &mut ground, made, drain).await?;
    let image = self_image::ensure_self_image(&**engine.0).await?;
    later.image.send_replace(Some(image.clone()));
    let kubeconfig = ground.access(config, ground.pki.proxy()).kubeconfig();
    later.data_plane.send_replace(Some(data_plane(config, &ground.plan, image, kubeconfig)));
    let access = ground.access(config, ground.pki.admin());
    access.save(&ground.dir.access())?;
    Ok((registry, access, dashboard, ground.notes))
}

/// The parts that know one another, before any of them runs.
struct Wiring {
    registry: Registry,
    supervisor: Supervisor,
    agent: node::Agent,
    controllers: controllers::ControllersConfig,
    state: server::ServerState,
}

/// What they learn while clients already work.
struct Later {
    /// skiff's own image.
    image: watch::Sender<Option<String>>,
    /// The data plane that there should be.
    data_plane: watch::Sender<Option<DataPlane>>,
}

impl Wiring {
    fn of(
        config: &Config,
        ground: &Ground,
        registry: &Registry,
        (engine, engine_info): (&Arc<dyn Engine>, &EngineInfo),
    ) -> anyhow::Result<(Self, Later)> {
        let supervisor = Supervisor::default();
        let tokens = Tokens::new(registry.clone(), &ground.pki.token_key())?;
        let (image_known, image) = watch::channel(None);
        let (data_plane_known, data_plane) = watch::channel(None);
        let node_config = node::NodeConfig {
            pods_cgroup: node::pods_cgroup(&engine_info.cgroup_driver).to_owned(),
            has_app_armor: engine_info.app_armor,
            supervisor: supervisor.clone(),
            tokens: Some(Arc::new(PodTokens { registry: registry.clone(), tokens: tokens.clone() })),
            ..node_config(config, &ground.plan, image.clone())
        };
        let agent = node::Agent::new(registry.clone(), Arc::clone(engine), node_config);
        let controllers = controllers::ControllersConfig {
            root_ca: ground.pki.ca_pem().to_owned(),
            api: Some(ground.api_place()),
            data_plane: Some(data_plane),
            image: Some(image),
            tokens: Some(tokens.clone()),
            signer: Some(Arc::new(signer::CaSigner(Arc::clone(&ground.pki)))),
            issuer: Some(Arc::new(signer::CaSigner(Arc::clone(&ground.pki)))),
            terminated_pod_gc_threshold: config.terminated_pod_gc_threshold,
            identity: Some(identity(registry)),
            measures: Some(Arc::new(measures::NodeMeasures(agent.usages()))),
            ..Default::default()
        };
        let metrics = metrics::metrics(registry, &supervisor, &controllers.metrics, agent.report());
        let ready = ready_report(registry, &supervisor);
        let node = (agent.streams(), agent.images(), agent.usages());
        let state = server::ServerState::new(registry.clone(), tokens, node, ready, metrics);
        let wiring = Self { registry: registry.clone(), supervisor, agent, controllers, state };
        Ok((wiring, Later { image: image_known, data_plane: data_plane_known }))
    }

    /// Starts every loop. The API comes first: clients wait for it.
    async fn run(
        self,
        config: &Config,
        ground: &mut Ground,
        made: &mut Made,
        drain: &Drain,
    ) -> anyhow::Result<Option<Dashboard>> {
        let Self { registry, supervisor, agent, controllers, state } = self;
        let tls = ground.pki.server_config()?;
        let api = serving(Arc::clone(&ground.listener), &tls, &state, Reach::Anyone, &ground.plan, drain);
        made.supervised(&supervisor, "api", drain, api);
        let mut opened = None;
        if let Some(wish) = &config.dashboard {
            let (listener, dashboard) =
                dashboard::open(config, wish, (&registry, &ground.pki), ground.api_address).await?;
            ground.notes.extend(dashboard::exposed(wish));
            state.tell_of(dashboard.clone());
            made.supervised(&supervisor, "dashboard", drain, dashboard::serving(listener, &dashboard, &state, drain));
            opened = Some(dashboard);
        }
        let (clock, ended) = (ground.clock.clone(), drain.clone());
        made.supervised(&supervisor, "clock", drain, move || clock_jumps::tell(clock.clone(), ended.clone()));
        let (events, ended) = (registry.clone(), drain.clone());
        made.supervised(&supervisor, "events", drain, move || events.clone().run_events(ended.clone()));
        made.task("controllers", controllers::run_all(registry, controllers, drain.clone()));
        made.task("node", agent.run(drain.clone()));
        let (store, ended) = (ground.store.clone(), drain.clone());
        made.supervised(&supervisor, "store-health", drain, move || probe_store(store.clone(), ended.clone()));
        let ended = drain.clone();
        made.supervised(&supervisor, "memory", drain, move || memory::give_back(ended.clone()));
        if let Some(inside) = ground.listen_for_pods().await {
            let api = serving(Arc::new(inside), &tls, &state, Reach::Cluster, &ground.plan, drain);
            made.supervised(&supervisor, "api-for-pods", drain, api);
        }
        Ok(opened)
    }
}

/// Says whether the control plane is ready, for `/readyz`: the store takes writes, and no loop is down.
fn ready_report(registry: &Registry, supervisor: &Supervisor) -> Arc<dyn Fn() -> ReadyReport + Send + Sync> {
    let (store, supervisor) = (registry.store().clone(), supervisor.clone());
    Arc::new(move || {
        let report = ReadyReport::default().with("store", store.health());
        let loops = supervisor.report().into_iter();
        loops.fold(report, |report, (name, health)| {
            let result = health.down.map_or(Ok(()), |why| Err(format!("it panicked and is begun again: {why}")));
            report.with(format!("loop/{name}"), result)
        })
    })
}

/// While the disk refuses writes, sees again and again whether it takes them.
async fn probe_store(store: Store, drain: Drain) {
    loop {
        tokio::select! {
            biased;
            () = drain.drained() => return,
            () = store.failing() => {}
        }
        tokio::time::sleep(STORE_PROBE).await;
        store.probe().await;
    }
}

/// What serves the API to whom it is for.
fn serving(
    listener: Arc<TcpListener>,
    tls: &Arc<ServerConfig>,
    state: &server::ServerState,
    reach: Reach,
    plan: &Plan,
    drain: &Drain,
) -> impl FnMut() -> BoxFuture<'static, ()> + Send + use<> {
    let ranges = [plan.pods, plan.services].map(|range| range.to_string().parse().expect("a range reads as one"));
    let insiders = Insiders::new(ranges.into());
    let admits = Arc::new(move |client: IpAddr| insiders.admit(reach, client));
    let (tls, state, drain) = (Arc::clone(tls), state.clone(), drain.clone());
    move || {
        let (listener, tls, admits) = (Arc::clone(&listener), Arc::clone(&tls), Arc::clone(&admits));
        server::serve::serve(listener, tls, state.clone(), admits, drain.clone()).boxed()
    }
}

fn node_config(config: &Config, plan: &Plan, sandbox_image: watch::Receiver<Option<String>>) -> node::NodeConfig {
    node::NodeConfig {
        node_name: config.name.clone(),
        nodes: config.nodes,
        cluster: config.name.clone(),
        sandbox_image,
        network: plan.network.clone(),
        node_ip: plan.node_ip,
        dns_ip: plan.dns_ip(),
        cluster_domain: CLUSTER_DOMAIN.to_owned(),
        host_port_address: Ipv4Addr::LOCALHOST.into(),
        parallel_calls: ENGINE_CALLS,
        docker_config: node::credentials::docker_folder(),
        seccomp: DataDir::at(&config.data_dir).seccomp(),
        has_app_armor: false,
        restart_backoff: config.restart_backoff,
        pods_max: config.max_pods,
        pods_cgroup: String::new(),
        supervisor: Supervisor::default(),
        net_probe: Arc::new(node::SystemNetProbe::default()),
        tokens: None,
    }
}

/// As whom this process holds Leases. Source: `cmd/kube-controller-manager/app/controllermanager.go`: the host's name and a UID.
fn identity(registry: &Registry) -> String {
    let host = std::fs::read_to_string("/proc/sys/kernel/hostname").unwrap_or_default();
    format!("{}_{}", host.trim(), registry.rng().uid())
}

/// OpenShift's groups, and its DeploymentConfig under the name that the documentation's example uses.
fn is_of_openshift(info: &KindInfo<'_>) -> bool {
    info.group.ends_with(".openshift.io") || (info.group.is_empty() && info.kind == "DeploymentConfig")
}

/// The data plane of a cluster. Its key is in the kubeconfig.
fn data_plane(config: &Config, plan: &Plan, image: String, kubeconfig: String) -> DataPlane {
    fn list(items: &[impl ToString]) -> String {
        items.iter().map(ToString::to_string).collect::<Vec<_>>().join(",")
    }
    let (http, https) = &config.router_ports;
    let env = vec![
        ("SKIFF_SERVICE_CIDR", plan.services.to_string()),
        ("SKIFF_POD_CIDR", plan.pods.to_string()),
        ("SKIFF_BRIDGE", plan.bridge.clone()),
        ("SKIFF_DNS_IP", plan.dns_ip().to_string()),
        ("SKIFF_NODE_IP", plan.node_ip.to_string()),
        ("SKIFF_NODEPORT_ADDRESSES", list(&config.node_port_addresses)),
        ("SKIFF_LOAD_BALANCER_IP", config.load_balancer_ip.to_string()),
        ("SKIFF_ROUTES", config.serves_openshift.to_string()),
        ("SKIFF_ROUTER_HTTP_PORTS", list(http)),
        ("SKIFF_ROUTER_HTTPS_PORTS", list(https)),
        ("SKIFF_CLUSTER_DOMAIN", CLUSTER_DOMAIN.to_owned()),
    ];
    DataPlane { image, kubeconfig: Secret::new(kubeconfig), services: plan.service_range(), env }
}

impl App {
    /// Whether the cluster is paused: nothing of it runs until it is resumed.
    pub fn is_paused(&self) -> bool {
        let first = self.nodes.first().and_then(|name| self.registry.api::<Nodes>().get(&ObjectKey::new("", name)));
        first.is_some_and(|node| node.metadata.annotations.as_ref().is_some_and(|all| all.contains_key(PAUSED)))
    }

    /// Returns when every node is ready for pods.
    pub async fn node_ready(&self) {
        let ready = |name: &String| {
            let node = self.registry.api::<Nodes>().get(&ObjectKey::new("", name));
            let conditions = node.as_ref().and_then(|n| n.status.as_ref()).and_then(|s| s.conditions.as_ref());
            conditions.into_iter().flatten().any(|c| c.type_ == "Ready" && c.status == "True")
        };
        self.until(|| self.nodes.iter().all(ready)).await;
    }

    /// Returns when the data plane has applied the endpoints that there are.
    pub async fn data_plane_ready(&self) {
        let lease = ObjectKey::new(SYSTEM_NAMESPACE, DATA_PLANE);
        let applied = || {
            let lease = self.registry.api::<Leases>().get(&lease)?;
            lease.metadata.annotations.as_ref()?.get(OBSERVED_REVISION)?.parse::<u64>().ok()
        };
        let revision = |slice: &EndpointSlice| slice.metadata.resource_version.as_deref()?.parse::<u64>().ok();
        let wanted = || self.registry.api::<EndpointSlices>().list("").items.iter().filter_map(|s| revision(s)).max();
        self.until(|| self.endpoints_are_current() && applied().is_some_and(|a| Some(a) >= wanted())).await;
    }

    /// Returns when the router has said of every Route and every Ingress of its class where it answers, or why it does not.
    pub async fn routes_told(&self) {
        self.until(|| routed::are_told(&self.registry)).await;
    }

    /// Where Routes and Ingresses answer: the object, as kubectl names it, and its URLs.
    pub fn routed(&self) -> Vec<(String, Vec<String>)> {
        routed::urls(&self.registry)
    }

    /// Whether the EndpointSlices of every Service have all of its ready pods.
    fn endpoints_are_current(&self) -> bool {
        let pods = self.registry.api::<Pods>().list("").items;
        let slices = self.registry.api::<EndpointSlices>().list("").items;
        let services = self.registry.api::<Services>().list("").items;
        endpoints::are_current(&services, &pods, &slices, &mut 0)
    }

    /// Returns once `holds` does, looking again when the store has changed, at a pace.
    pub async fn until(&self, mut holds: impl FnMut() -> bool) {
        loop {
            let revision = self.registry.store().revision();
            if holds() {
                return;
            }
            let Ok(mut watch) = self.registry.store().watch("", revision) else { continue };
            drop(watch.next().await);
            // Each look goes over everything, and while a cluster starts there are many changes.
            tokio::time::sleep(LOOK_PACE).await;
        }
    }

    /// Makes the demo images if one of these images is one and the engine lacks it.
    pub async fn load_demo_images(&self, images: impl Iterator<Item = String>) -> anyhow::Result<()> {
        if images.into_iter().any(|i| self_image::is_demo_image(&i)) {
            self_image::ensure_demo_images(&*self.engine).await?;
        }
        Ok(())
    }

    /// Tells those who stand by that the cluster goes with this process.
    pub fn leaves_for_good(&self) {
        self.claim.ends_for_good();
    }

    /// Returns when every loop has ended.
    pub async fn stopped(self) {
        for task in self.tasks {
            // A task that panicked has said so; the others still end.
            drop(task.await);
        }
    }
}

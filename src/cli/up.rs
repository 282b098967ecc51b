//! `skiff up`: the control plane in the foreground.
//!
//! It says what it does, applies the manifests it is given, shows pods coming up, and prints the URLs. Ctrl-C or SIGTERM ends the control
//! plane alone: containers and the data plane run on, and the next `up` adopts them.

mod progress;

use super::{apply, cluster::ClusterArgs, detached, doctor, down, given::Given, kubeconfig, output};
use crate::{
    api::{
        agreements::SYSTEM_NAMESPACE,
        kinds::{pod::Pods, service::Services},
        logical_node::NODES_MAX,
        node_port_range::NodePortRange,
    },
    app::{self, App, access::Access, range::Cidr},
    base::{
        backoff::Backoff,
        runtime::block_on,
        task::{Drain, DrainTrigger, drain_signal},
    },
    engine::docker::DockerEngine,
    net::{
        balancer::{ADDRESS_DEFAULT, is_dialable},
        router::{HTTP_PORTS, HTTPS_PORTS},
    },
    server::dashboard::ADMIN_ROLE,
};
use anyhow::Context as _;
use std::{
    net::{IpAddr, SocketAddr},
    path::{Path, PathBuf},
    pin::pin,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

/// How long `up -f` shows progress before it stops waiting; the cluster goes on.
const PROGRESS_MAX: Duration = Duration::from_mins(3);
/// How long a part of the cluster may take to be ready before `up` says what it waits for, and how much longer it waits then.
const READY_SOON: Duration = Duration::from_secs(5);
const READY_MAX: Duration = Duration::from_mins(1);
/// Worker threads: the control plane waits far more than it computes.
const WORKERS: usize = 2;

/// Arguments of `skiff up`.
#[allow(clippy::struct_excessive_bools, reason = "each is a flag of its own")]
#[derive(Debug, clap::Args)]
#[command(
    after_help = "Examples:\n  skiff up -f manifests\n  skiff up --name two --api-address 127.0.0.1:7443 --service-node-port-range 31000-31099"
)]
pub(super) struct Args {
    #[command(flatten)]
    cluster: ClusterArgs,
    /// Apply these manifests: files, folders, or - for standard input
    #[arg(short = 'f', long = "filename")]
    files: Vec<PathBuf>,
    /// Return once all is ready, and let the control plane run on in a container, which Docker starts again when it starts itself, as
    /// after a reboot. `skiff logs` shows what it says, `skiff stop` ends it
    #[arg(short, long, conflicts_with_all = ["rm", "standby"])]
    detach: bool,
    /// Set where the control plane runs in a container of its own
    #[arg(long, hide = true)]
    in_background: bool,
    /// Apply these manifests as with -f, and remove the file: they are not applied again at the next start
    #[arg(long, hide = true, value_name = "FILE")]
    apply_once: Option<PathBuf>,
    /// Where the API is served
    #[arg(long, env = "SKIFF_API_ADDRESS", value_name = "ADDRESS:PORT", default_value = "127.0.0.1:6443", value_parser = socket_address)]
    api_address: SocketAddr,
    /// More names or addresses that the API's certificate is for
    #[arg(long, env = "SKIFF_API_NAMES", value_delimiter = ',')]
    api_names: Vec<String>,
    /// Where the dashboard is served, or none [default: 127.0.0.1, at the port after the API's]
    #[arg(long, env = "SKIFF_DASHBOARD_ADDRESS", value_name = "ADDRESS|none", value_parser = dashboard_address)]
    dashboard_address: Option<DashboardAddress>,
    /// Names that the dashboard answers as, beside addresses and localhost
    #[arg(long, env = "SKIFF_DASHBOARD_NAMES", value_delimiter = ',', value_name = "NAME")]
    dashboard_names: Vec<String>,
    /// The ClusterRole of whoever opens the dashboard; view may look and change nothing
    #[arg(long, env = "SKIFF_DASHBOARD_AS", value_name = "CLUSTERROLE", default_value = ADMIN_ROLE)]
    dashboard_as: String,
    /// The range that pods and Services share [default: the first free /15, 10.244.0.0/15 if it is]
    #[arg(long, env = "SKIFF_CLUSTER_CIDR", value_name = "RANGE")]
    cluster_cidr: Option<Cidr>,
    /// Addresses that node ports listen on
    #[arg(long, env = "SKIFF_NODE_PORT_ADDRESSES", value_name = "ADDRESS", value_delimiter = ',', default_values = ["127.0.0.1", "::1"], value_parser = address)]
    node_port_addresses: Vec<IpAddr>,
    /// The node ports that Services get; clusters beside each other do well to have ranges of their own
    #[arg(long, env = "SKIFF_SERVICE_NODE_PORT_RANGE", value_name = "FIRST-LAST", default_value_t)]
    service_node_port_range: NodePortRange,
    /// Where Ingresses and Routes answer HTTP: the first of these ports that is free
    #[arg(long, env = "SKIFF_HTTP_PORTS", value_name = "PORT", value_delimiter = ',', default_values_t = HTTP_PORTS, value_parser = clap::value_parser!(u16).range(1..))]
    http_ports: Vec<u16>,
    /// Where Ingresses and Routes answer TLS: the first of these ports that is free
    #[arg(long, env = "SKIFF_HTTPS_PORTS", value_name = "PORT", value_delimiter = ',', default_values_t = HTTPS_PORTS, value_parser = clap::value_parser!(u16).range(1..))]
    https_ports: Vec<u16>,
    /// The address of this machine that Services of type LoadBalancer answer at; `spec.loadBalancerIP` of a Service goes before
    #[arg(long, env = "SKIFF_LOAD_BALANCER_IP", value_name = "ADDRESS", default_value_t = ADDRESS_DEFAULT, value_parser = dialable)]
    load_balancer_ip: IpAddr,
    /// Leave a part of the API out: openshift hides DeploymentConfigs, Routes, image streams and all its other groups
    #[arg(long, env = "SKIFF_WITHOUT", value_enum, value_delimiter = ',', value_name = "PART")]
    without: Vec<ApiPart>,
    /// How many pods the node takes
    #[arg(long, env = "SKIFF_MAX_PODS", value_name = "NUMBER", default_value_t = crate::node::PODS_MAX)]
    max_pods: u32,
    /// How many nodes this machine is shown as, for trying what depends on nodes: NAME, NAME-2, NAME-3; each has the whole machine's size
    #[arg(long, env = "SKIFF_NODES", value_name = "NUMBER", default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..=NODES_MAX.into()))]
    nodes: u32,
    /// How many pods that have ended may stay before the oldest of them are removed; 0: all
    #[arg(long, env = "SKIFF_TERMINATED_POD_GC_THRESHOLD", value_name = "PODS", default_value_t = 12_500)]
    terminated_pod_gc_threshold: usize,
    /// Wait until the `skiff up` that runs the cluster from this data folder ends or is killed, and take its place at once
    #[arg(long)]
    standby: bool,
    /// How long a container that crashed again waits for its next start, at first and at most: the delay doubles from crash to crash
    #[arg(long, env = "SKIFF_RESTART_BACKOFF", value_name = "INITIAL,MAXIMUM", default_value = "10s,5m", value_parser = restart_backoff)]
    restart_backoff: Backoff,
    /// Take the cluster over when its state is in another data folder; pods that this folder does not know are removed
    #[arg(long)]
    adopt: bool,
    /// Leave the kubeconfig alone
    #[arg(long)]
    no_kubeconfig: bool,
    /// Remove the cluster at exit, as `skiff down` does
    #[arg(long)]
    rm: bool,
    /// Install and start Docker when it is missing (Debian and Ubuntu, as root)
    #[arg(long)]
    fix: bool,
}

/// A part of the API that can be left out.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
enum ApiPart {
    Openshift,
}

fn address(text: &str) -> Result<IpAddr, String> {
    text.parse().map_err(|_| "give an address in numbers, e.g. 127.0.0.1 or ::1".to_owned())
}

/// An address that clients can dial.
fn dialable(text: &str) -> Result<IpAddr, String> {
    let address = address(text)?;
    if is_dialable(&address) { Ok(address) } else { Err("name one address of this machine".to_owned()) }
}

/// The longest delay between crashes. Source: `maxContainerRestartPeriod`, `pkg/kubelet/apis/config/validation/validation.go`, v1.37.
const RESTART_DELAY_MAX: Duration = Duration::from_mins(5);

fn restart_backoff(text: &str) -> Result<Backoff, String> {
    let wrong = || "give the first delay and the longest, e.g. 1s,10s or 500ms,2m".to_owned();
    let (base, cap) = text.split_once(',').ok_or_else(wrong)?;
    let (base, cap) = (delay(base).ok_or_else(wrong)?, delay(cap).ok_or_else(wrong)?);
    if base.is_zero() || base > cap || cap > RESTART_DELAY_MAX {
        return Err(
            "the first delay is longer than nothing, and the longest not shorter than that and at most 5m".to_owned()
        );
    }
    Ok(Backoff { base, cap })
}

/// A whole number of milliseconds, seconds or minutes.
fn delay(text: &str) -> Option<Duration> {
    let text = text.trim();
    let unit = text.trim_start_matches(|c: char| c.is_ascii_digit());
    let number: u64 = text[..text.len() - unit.len()].parse().ok()?;
    let ms_each = match unit {
        "ms" => 1,
        "s" => 1_000,
        "m" => 60_000,
        _ => return None,
    };
    number.checked_mul(ms_each).map(Duration::from_millis)
}

fn socket_address(text: &str) -> Result<SocketAddr, String> {
    text.parse().map_err(|_| "give ADDRESS:PORT, e.g. 127.0.0.1:6443".to_owned())
}

/// Where the dashboard is to be served.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum DashboardAddress {
    Nowhere,
    At(SocketAddr),
}

fn dashboard_address(text: &str) -> Result<DashboardAddress, String> {
    match text {
        "none" => Ok(DashboardAddress::Nowhere),
        _ => text
            .parse()
            .map(DashboardAddress::At)
            .map_err(|_| "give ADDRESS:PORT, e.g. 127.0.0.1:6444, or none".to_owned()),
    }
}

/// `flags`: those that were given, each one word.
pub(super) fn run(args: Args, flags: &Given) -> anyhow::Result<()> {
    if args.fix {
        doctor::fix()?;
    }
    if args.detach {
        return run_detached(&args, flags);
    }
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(WORKERS).enable_all().build()?;
    let (trigger, drain) = drain_signal();
    let trigger = Arc::new(trigger);
    watch_signals(Arc::clone(&trigger))?;
    runtime.block_on(serve(&args, &trigger, drain))?;
    runtime.shutdown_timeout(Duration::from_secs(1));
    if args.rm {
        return down::run(down::Args::of(args.cluster));
    }
    if args.in_background {
        return Ok(());
    }
    output::line(
        "skiff has stopped. Containers and Services run on: `skiff up` takes them over, `skiff down` removes them.",
    );
    Ok(())
}

/// Flags that say nothing to a control plane in a container, or that it is told otherwise.
const NOT_PASSED: [&str; 9] =
    ["files", "detach", "fix", "name", "data_dir", "no_kubeconfig", "in_background", "apply_once", "config"];

/// Starts a control plane in a container, and returns when it is ready.
fn run_detached(args: &Args, flags: &Given) -> anyhow::Result<()> {
    let docs = apply::read_all(&args.files)?;
    let kubeconfig = (!args.no_kubeconfig).then(kubeconfig::default_path).transpose()?;
    if let Some(path) = &kubeconfig {
        kubeconfig::check(path, &args.cluster.name)?;
    }
    let cluster = args.cluster.name.clone();
    let data_dir = std::path::absolute(args.cluster.data_dir()?)?;
    let start = detached::Start { cluster, data_dir, kubeconfig, flags: flags.without(&NOT_PASSED) };
    let manifests = (!docs.is_empty()).then(|| apply::as_list(&docs));
    block_on(async {
        let engine = DockerEngine::connect(&start.cluster).await?;
        detached::start(&engine, &start, manifests).await
    })??;
    output::line(
        "skiff runs in the background: `skiff logs -f` shows what it says, `skiff stop` ends it, `skiff down` removes everything.",
    );
    Ok(())
}

/// The manifests that were given; those that are applied once are read from a file that is there at the first start alone.
fn manifests(args: &Args) -> anyhow::Result<Vec<apply::Document>> {
    let mut docs = apply::read_all(&args.files)?;
    if let Some(file) = args.apply_once.as_ref().filter(|file| file.exists()) {
        docs.extend(apply::read_all(std::slice::from_ref(file))?);
        std::fs::remove_file(file).with_context(|| format!("cannot remove {}", file.display()))?;
    }
    Ok(docs)
}

/// SIGINT and SIGTERM drain; a second one ends the process at once.
fn watch_signals(trigger: Arc<DrainTrigger>) -> anyhow::Result<()> {
    use signal_hook::{consts::TERM_SIGNALS, iterator::Signals};
    let mut signals = Signals::new(TERM_SIGNALS).context("cannot listen for signals")?;
    let seen = AtomicUsize::new(0);
    std::thread::Builder::new().name("signals".into()).spawn(move || {
        for signal in signals.forever() {
            if seen.fetch_add(1, Ordering::Relaxed) > 0 {
                drop(signal_hook::low_level::emulate_default_handler(signal));
            }
            trigger.fire();
        }
    })?;
    Ok(())
}

async fn serve(args: &Args, trigger: &Arc<DrainTrigger>, drain: Drain) -> anyhow::Result<()> {
    let docs = manifests(args)?;
    let kubeconfig = (!args.no_kubeconfig).then(kubeconfig::default_path).transpose()?;
    if let Some(path) = &kubeconfig {
        kubeconfig::check(path, &args.cluster.name)?;
    }
    let config = app::Config {
        name: args.cluster.name.clone(),
        data_dir: args.cluster.data_dir()?,
        api_address: args.api_address,
        api_names: args.api_names.clone(),
        cluster_cidr: args.cluster_cidr,
        node_port_addresses: args.node_port_addresses.clone(),
        node_ports: args.service_node_port_range,
        router_ports: (args.http_ports.clone(), args.https_ports.clone()),
        load_balancer_ip: args.load_balancer_ip,
        serves_openshift: !args.without.contains(&ApiPart::Openshift),
        max_pods: args.max_pods,
        nodes: args.nodes,
        terminated_pod_gc_threshold: args.terminated_pod_gc_threshold,
        standby: args.standby,
        restart_backoff: args.restart_backoff,
        adopt: args.adopt,
        dashboard: dashboard(args),
    };
    if config.standby {
        output::line("standing by: this takes the place of the `skiff up` that runs the cluster when that ends");
    }
    let app = app::start(config, trigger, drain.clone()).await?;
    app.notes.iter().for_each(output::warning);
    output::done(format!("the API is served on {}", app.server_url));
    let work = async {
        if let Some(path) = &kubeconfig {
            merge_kubeconfig(path, &app.access)?;
        }
        if app.is_paused() {
            output::warning("the cluster is paused: nothing of it runs until `skiff resume`");
            return apply::apply_all(&app.access, docs).await;
        }
        if wait_for("the node", "`kubectl describe node` tells why", app.node_ready()).await {
            output::done(format!("node {} is ready ({})", args.cluster.name, app.engine_version));
        }
        apply_and_wait(&app, docs, args.in_background).await
    };
    let work = async {
        let outcome = work.await;
        if args.in_background {
            outcome.as_ref().err().into_iter().for_each(output::error);
            output::line(if outcome.is_ok() { detached::READY } else { detached::READY_IN_PART });
        }
        outcome
    };
    let outcome = tokio::select! {
        biased;
        () = drain.drained() => Ok(()),
        outcome = work => outcome,
    };
    match outcome {
        Ok(()) => drain.drained().await,
        // In the background it was told with the end of the start.
        Err(_) if args.in_background => drain.drained().await,
        Err(err) => {
            output::error(&err);
            output::line("skiff runs on; press Ctrl-C to stop it.");
            drain.drained().await;
        }
    }
    trigger.fire();
    if args.rm {
        app.leaves_for_good();
    }
    app.stopped().await;
    Ok(())
}

/// What the arguments say of the dashboard.
fn dashboard(args: &Args) -> Option<app::DashboardConfig> {
    let address = match args.dashboard_address {
        Some(DashboardAddress::Nowhere) => return None,
        Some(DashboardAddress::At(address)) => Some(address),
        None => None,
    };
    let (names, role) = (args.dashboard_names.clone(), args.dashboard_as.clone());
    Some(app::DashboardConfig { address, names, role })
}

fn merge_kubeconfig(path: &Path, access: &Access) -> anyhow::Result<()> {
    kubeconfig::add(path, access)?;
    output::done(format!("kubectl context {:?} is set in {}", access.name, path.display()));
    Ok(())
}

async fn apply_and_wait(app: &App, docs: Vec<apply::Document>, in_background: bool) -> anyhow::Result<()> {
    let mut outcome = Ok(());
    if !docs.is_empty() {
        app.load_demo_images(docs.iter().flat_map(apply::Document::images)).await?;
        outcome = apply::apply_all(&app.access, docs).await;
        if tokio::time::timeout(PROGRESS_MAX, progress::show(app)).await.is_err() {
            output::warning("not everything is ready yet: `kubectl get pods` and `kubectl describe` tell why");
        }
    }
    let hint = "Services may not answer yet: `kubectl -n kube-system describe pod skiff-proxy` tells why";
    if wait_for("the data plane", hint, app.data_plane_ready()).await {
        // What is not told yet is not printed; `kubectl get route,ingress` has it.
        tokio::time::timeout(READY_SOON, app.routes_told()).await.ok();
    }
    print_urls(app);
    if let Some(dashboard) = &app.dashboard {
        output::done(format!("the dashboard is on {}", dashboard.link()));
    }
    print_hints(app, in_background);
    outcome
}

/// Waits until a part of the cluster is ready, and says so when that takes long. In the end it says what is not, with a hint, and goes
/// on without: `false`.
async fn wait_for(what: &str, hint: &str, ready: impl Future<Output = ()>) -> bool {
    let mut ready = pin!(ready);
    if tokio::time::timeout(READY_SOON, &mut ready).await.is_ok() {
        return true;
    }
    output::line(format!("   waiting for {what}, for {} s at most", READY_MAX.as_secs()));
    let is_ready = tokio::time::timeout(READY_MAX, ready).await.is_ok();
    if !is_ready {
        output::warning(format!("{what} is not ready; {hint}"));
    }
    is_ready
}

/// Prints where the node ports, and the hosts of Routes and Ingresses, answer.
fn print_urls(app: &App) {
    for (name, node_port) in node_ports(app) {
        output::done(format!("service/{name} answers on http://localhost:{node_port}"));
    }
    let routed = app.routed();
    for (object, urls) in &routed {
        output::done(format!("{object} answers on {}", urls.join(" and ")));
    }
    let is_elsewhere = routed.iter().flat_map(|(_, urls)| urls).any(|url| url.matches(':').count() > 1);
    if is_elsewhere {
        output::line(
            "   Port 80 or 443 of this machine is taken or not permitted: Routes and Ingresses have the ports above.",
        );
    }
}

/// Every node port, with its Service's name.
fn node_ports(app: &App) -> Vec<(String, i32)> {
    let services = app.registry.api::<Services>().list("").items;
    let ports = services.iter().flat_map(|service| {
        let name = service.metadata.name.clone().unwrap_or_default();
        let ports = service.spec.iter().flat_map(|s| s.ports.iter().flatten());
        ports.filter_map(|p| p.node_port.filter(|n| *n != 0)).map(move |port| (name.clone(), port))
    });
    ports.collect()
}

/// The name of a container that a user may kill for a look at healing.
fn first_container(app: &App) -> Option<String> {
    let pods = app.registry.api::<Pods>().list("").items;
    let pod = pods.iter().find(|p| p.metadata.namespace.as_deref() != Some(SYSTEM_NAMESPACE))?;
    Some(pod.spec.as_ref()?.containers.first()?.name.clone())
}

fn print_hints(app: &App, in_background: bool) {
    output::line("");
    output::line(format!("Try (context {:?}):", app.access.name));
    output::line("   kubectl get all");
    if let Some(port) = node_ports(app).first() {
        output::line(format!("   curl localhost:{}", port.1));
    }
    if let Some(container) = first_container(app) {
        output::line(format!(
            "   docker kill $(docker ps -q --filter label=io.kubernetes.container.name={container} | head -1); kubectl get pods"
        ));
    }
    output::line("");
    if in_background {
        return;
    }
    output::line("Ctrl-C stops skiff; containers and Services run on. `skiff down` removes everything.");
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_back_off_is_two_delays_in_order() {
        let (second, ten) = (Duration::from_secs(1), Duration::from_secs(10));
        assert_eq!(restart_backoff("1s,10s"), Ok(Backoff { base: second, cap: ten }));
        assert_eq!(restart_backoff("1000ms, 10s"), Ok(Backoff { base: second, cap: ten }));
        assert_eq!(restart_backoff("10s,5m"), Ok(crate::node::lifecycle::CRASH_BACKOFF));
        for wrong in
            ["", "1s", "0s,1s", "2s,1s", "1s,6m", "1,2", "1h,2h", "-1s,1s", "1s,2s,3s", "99999999999999999999s,1s"]
        {
            assert!(restart_backoff(wrong).is_err(), "{wrong}");
        }
    }
}

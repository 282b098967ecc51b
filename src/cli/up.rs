//! `skiff up`: the control plane in the foreground.
//!
//! It says what it does, applies the manifests it is given, shows pods coming up, and prints the URLs. Ctrl-C or SIGTERM ends the control
//! plane alone: containers and the data plane run on, and the next `up` adopts them.

use super::{apply, doctor, down, kubeconfig, output};
use crate::{
    api::{
        kinds::{deployment::Deployments, pod::Pods, service::Services},
        pod_state,
    },
    app::{self, App, access::Access, cidr::Cidr, data_dir::DataDir},
    base::task::{Drain, DrainTrigger, drain_signal},
};
use anyhow::Context as _;
use k8s_openapi::api::core::v1::Pod;
use std::{
    net::{IpAddr, SocketAddr},
    path::PathBuf,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

/// How long `up -f` shows progress before it stops waiting; the cluster goes on.
const PROGRESS_MAX: Duration = Duration::from_mins(3);
/// Worker threads: the control plane waits far more than it computes.
const WORKERS: usize = 2;

/// Which cluster a command is about.
#[derive(Clone, Debug, clap::Args)]
pub(super) struct ClusterArgs {
    /// The cluster's name: that of its node and its context
    #[arg(long, env = "SKIFF_NAME", default_value = "skiff", value_parser = cluster_name)]
    pub(super) name: String,
    /// Where its state is kept [default: ~/.local/share/skiff/NAME]
    #[arg(long, env = "SKIFF_DATA_DIR")]
    data_dir: Option<PathBuf>,
}

impl ClusterArgs {
    /// The folder of the cluster's state.
    pub(super) fn data_dir(&self) -> anyhow::Result<PathBuf> {
        self.data_dir.clone().map_or_else(|| DataDir::default_path(&self.name), Ok)
    }
}

/// A cluster's name becomes a node's, so it must be a DNS label.
fn cluster_name(text: &str) -> Result<String, String> {
    match crate::api::names::dns1123_label(text) {
        wrong if wrong.is_empty() => Ok(text.to_owned()),
        wrong => Err(wrong.join("; ")),
    }
}

/// Arguments of `skiff up`.
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    #[command(flatten)]
    cluster: ClusterArgs,
    /// Apply these manifests: files, folders, or - for standard input
    #[arg(short = 'f', long = "filename")]
    files: Vec<PathBuf>,
    /// Where the API is served
    #[arg(long, env = "SKIFF_API_ADDRESS", default_value = "127.0.0.1:6443")]
    api_address: SocketAddr,
    /// More names or addresses that the API's certificate is for
    #[arg(long, env = "SKIFF_API_NAMES", value_delimiter = ',')]
    api_names: Vec<String>,
    /// The range that pods and Services share [default: the first free /15, 10.244.0.0/15 if it is]
    #[arg(long, env = "SKIFF_CLUSTER_CIDR")]
    cluster_cidr: Option<Cidr>,
    /// Addresses that node ports listen on
    #[arg(long, env = "SKIFF_NODE_PORT_ADDRESSES", value_delimiter = ',', default_values = ["127.0.0.1", "::1"])]
    node_port_addresses: Vec<IpAddr>,
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

pub(super) fn run(args: Args) -> anyhow::Result<()> {
    if args.fix {
        doctor::fix()?;
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
    output::line("skiff has stopped. Containers and Services run on: `skiff up` takes them over, `skiff down` removes them.");
    Ok(())
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

async fn serve(args: &Args, trigger: &DrainTrigger, drain: Drain) -> anyhow::Result<()> {
    let docs = apply::read_all(&args.files)?;
    let data_dir = args.cluster.data_dir()?;
    let config = app::Config {
        name: args.cluster.name.clone(),
        data_dir: data_dir.clone(),
        api_address: args.api_address,
        api_names: args.api_names.clone(),
        cluster_cidr: args.cluster_cidr,
        node_port_addresses: args.node_port_addresses.clone(),
    };
    let app = app::start(config, drain.clone()).await?;
    output::done(format!("the API is served on {}", app.server_url));
    let work = async {
        if !args.no_kubeconfig {
            merge_kubeconfig(&app.access)?;
        }
        app.node_ready().await;
        output::done(format!("node {} is ready ({})", args.cluster.name, app.engine_version));
        apply_and_wait(&app, docs).await
    };
    let outcome = tokio::select! {
        biased;
        () = drain.drained() => Ok(()),
        outcome = work => outcome,
    };
    match outcome {
        Ok(()) => drain.drained().await,
        Err(err) => {
            output::error(&err);
            output::line("skiff runs on; press Ctrl-C to stop it.");
            drain.drained().await;
        }
    }
    trigger.fire();
    app.stopped().await;
    Ok(())
}

fn merge_kubeconfig(access: &Access) -> anyhow::Result<()> {
    let path = kubeconfig::default_path()?;
    kubeconfig::add(&path, access)?;
    output::done(format!("kubectl context {:?} is set in {}", access.name, path.display()));
    Ok(())
}

async fn apply_and_wait(app: &App, docs: Vec<apply::Document>) -> anyhow::Result<()> {
    let applied = !docs.is_empty();
    if applied {
        app.load_demo_images(docs.iter().flat_map(apply::Document::images)).await?;
        apply::apply_all(&app.access, docs).await?;
        if tokio::time::timeout(PROGRESS_MAX, show_progress(app)).await.is_err() {
            output::warning("not everything is ready yet: `kubectl get pods` and `kubectl describe` tell why");
        }
    }
    app.data_plane_ready().await;
    print_urls(app);
    print_hints(&app.access);
    Ok(())
}

/// Prints how many replicas of each Deployment are ready, until all are.
async fn show_progress(app: &App) {
    let mut last = String::new();
    loop {
        let seen = app.registry.store().revision();
        let (text, complete) = progress(app);
        if text != last {
            output::line(format!("   {text}"));
            last = text;
        }
        if complete {
            return;
        }
        let Ok(mut watch) = app.registry.store().watch("", seen) else { continue };
        drop(watch.next().await);
    }
}

fn progress(app: &App) -> (String, bool) {
    let deployments = app.registry.api::<Deployments>().list("").items;
    let pods = app.registry.api::<Pods>().list("").items;
    let alone = |p: &&Arc<Pod>| p.metadata.owner_references.is_none() && p.metadata.namespace.as_deref() != Some("kube-system");
    let mut parts: Vec<String> = Vec::new();
    let mut complete = true;
    for d in &deployments {
        let wanted = d.spec.replicas.unwrap_or(1);
        let status = d.status.clone().unwrap_or_default();
        let ready = status.ready_replicas.unwrap_or(0).min(status.updated_replicas.unwrap_or(0));
        complete &= ready >= wanted && status.observed_generation == d.metadata.generation;
        parts.push(format!("deployment/{} {ready}/{wanted} ready", d.metadata.name.as_deref().unwrap_or_default()));
    }
    for pod in pods.iter().filter(alone) {
        let ready = pod_state::is_pod_ready(pod);
        let phase = pod.status.as_ref().and_then(|s| s.phase.clone()).unwrap_or_default();
        complete &= ready || phase == "Succeeded" || phase == "Failed";
        parts.push(format!("pod/{} {phase}", pod.metadata.name.as_deref().unwrap_or_default()));
    }
    (parts.join(", "), complete)
}

/// Prints where the node ports answer.
fn print_urls(app: &App) {
    for service in app.registry.api::<Services>().list("").items {
        for port in service.spec.iter().flat_map(|s| s.ports.iter().flatten()) {
            if let Some(node_port) = port.node_port.filter(|n| *n != 0) {
                let name = service.metadata.name.as_deref().unwrap_or_default();
                output::done(format!("service/{name} answers on http://localhost:{node_port}"));
            }
        }
    }
}

fn print_hints(access: &Access) {
    output::line("");
    output::line(format!("Try (context {:?}):", access.name));
    output::line("   kubectl get all");
    output::line("   curl localhost:30000");
    output::line("   docker kill $(docker ps -q --filter label=io.kubernetes.container.name=spring-container | head -1); kubectl get pods");
    output::line("");
    output::line("Ctrl-C stops skiff; containers and Services run on. `skiff down` removes everything.");
}

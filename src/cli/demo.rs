//! `skiff demo`: a walk through what a cluster does, one key a step, each timed: kill, scale, update, undo. And `skiff demo load`, which
//! gives the engine the demo images, made from this binary.
//!
//! Times are from the call to the change that skiff's own watch tells. Meanwhile requests go to the Service, and those that fail are counted.

use super::{
    apply,
    cluster::ClusterArgs,
    open, output,
    watching::{number, text, until},
};
use crate::{
    api::timeline::API_VERSION as TIMELINES,
    base::{clock::Clock, task},
    client::{Client, ClientError, PatchKind},
    engine::{Engine as _, docker::DockerEngine, self_image},
};
use anyhow::{Context as _, bail};
use serde_json::{Value, json};
use std::{
    io::{BufRead as _, IsTerminal as _},
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
    time::timeout,
};

const DEPLOYMENT_YAML: &str = include_str!("../../manifests/spring-deployment.yaml");
const SERVICE_YAML: &str = include_str!("../../manifests/spring-service.yaml");
const NAME: &str = "spring-deployment";
const SERVICE: &str = "spring-service";
const DEPLOYMENTS: &str = "/apis/apps/v1/namespaces/default/deployments";
const SERVICES: &str = "/api/v1/namespaces/default/services";
/// The pods of the Deployment, by the label of its template.
const PODS: &str = "/api/v1/namespaces/default/pods?labelSelector=app%3Dbackend-app";
const NEW_IMAGE: &str = "kubernetes-spring:1.1";
/// How long a step may take.
const STEP_WITHIN: Duration = Duration::from_mins(2);
/// How long `--auto` leaves a step on the screen.
const AUTO_PAUSE: Duration = Duration::from_secs(2);
/// Between two requests, and how long one may take.
const REQUEST_PACE: Duration = Duration::from_millis(10);
const REQUEST_WITHIN: Duration = Duration::from_secs(2);

/// Arguments of `skiff demo`.
#[derive(Debug, clap::Args)]
#[command(
    args_conflicts_with_subcommands = true,
    after_help = "Examples:\n  skiff up -d && skiff demo\n  skiff demo --auto    # goes on by itself, for a recording"
)]
pub(super) struct Args {
    #[command(subcommand)]
    command: Option<Command>,
    #[command(flatten)]
    cluster: ClusterArgs,
    /// Go on without a key, with a pause after each step
    #[arg(long)]
    auto: bool,
    /// Print the link into the dashboard, and open nothing
    #[arg(long)]
    print: bool,
}

#[derive(Debug, clap::Subcommand)]
enum Command {
    /// Make the demo images; images of those names that you already have stay as they are
    #[command(after_help = "Example:\n  skiff demo load")]
    Load,
}

pub(super) fn run(args: &Args) -> anyhow::Result<()> {
    // Requests go on while a key is waited for.
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build()?;
    match args.command {
        Some(Command::Load) => runtime.block_on(load()),
        None => runtime.block_on(walk(args)),
    }
}

async fn load() -> anyhow::Result<()> {
    let engine = DockerEngine::connect("skiff").await?;
    for image in self_image::ensure_demo_images(&engine).await? {
        output::done(format!("{image} is made"));
    }
    Ok(())
}

async fn walk(args: &Args) -> anyhow::Result<()> {
    let access = args.cluster.access()?;
    let client = args.cluster.client()?;
    let engine = DockerEngine::connect(&args.cluster.name).await?;
    // Who cannot be reached says so before anything is made.
    client.get(DEPLOYMENTS).await?;
    self_image::ensure_demo_images(&engine).await?;
    apply_demo(&access, &client).await?;
    let walk = Walk { client, engine, pace: Pace::of(args.auto), served: Arc::default() };
    let took = walk.until_rolled_out(3).await?;
    output::done(format!("3 pods are ready after {took} ms"));
    let port = walk.node_port().await?;
    output::done(format!("they answer on http://localhost:{port}, each in its turn"));
    walk.show_dashboard(args.print).await?;
    let served = Arc::clone(&walk.served);
    let requests = task::spawn("demo-requests", async move { ask_on(port, &served).await });
    let outcome = walk.steps().await;
    requests.abort();
    outcome?;
    output::line("");
    output::line(
        "That was all. The Deployment stays: `kubectl get all`, `skiff status`; `skiff down` removes every trace.",
    );
    Ok(())
}

/// Applies the demo's manifests. Where the cluster has node ports of its own, the Service gets one of them.
async fn apply_demo(access: &crate::app::access::Access, client: &Client) -> anyhow::Result<()> {
    apply::apply_all(access, apply::read_text("the demo's Deployment", DEPLOYMENT_YAML)?).await?;
    let is_there = client.get(&format!("{SERVICES}/{SERVICE}")).await.is_ok();
    let fixed = apply::apply_all(access, apply::read_text("the demo's Service", SERVICE_YAML)?).await;
    match fixed {
        Ok(()) => Ok(()),
        Err(_) if is_there => Ok(()),
        Err(_) => {
            let any = SERVICE_YAML.lines().filter(|line| !line.trim_start().starts_with("nodePort:"));
            let any = any.collect::<Vec<_>>().join("\n");
            apply::apply_all(access, apply::read_text("the demo's Service", &any)?).await
        }
    }
}

/// When the next step begins.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Pace {
    /// When somebody presses a key.
    Key,
    /// After a while.
    Auto,
    /// At once: nobody looks on.
    None,
}

impl Pace {
    fn of(is_auto: bool) -> Self {
        let has_people = std::io::stdin().is_terminal() && std::io::stdout().is_terminal();
        match (is_auto, has_people) {
            (true, _) => Self::Auto,
            (false, true) => Self::Key,
            (false, false) => Self::None,
        }
    }
}

/// What requests came to.
#[derive(Debug, Default)]
struct Served {
    answered: AtomicU64,
    failed: AtomicU64,
}

impl Served {
    fn now(&self) -> (u64, u64) {
        (self.answered.load(Ordering::Relaxed), self.failed.load(Ordering::Relaxed))
    }
}

/// Asks the Service again and again.
async fn ask_on(port: u16, served: &Served) {
    let mut every = tokio::time::interval(REQUEST_PACE);
    loop {
        every.tick().await;
        let is_answered = timeout(REQUEST_WITHIN, ask(port)).await.is_ok_and(|answer| answer.is_ok_and(|ok| ok));
        let count = if is_answered { &served.answered } else { &served.failed };
        count.fetch_add(1, Ordering::Relaxed);
    }
}

async fn ask(port: u16) -> std::io::Result<bool> {
    let mut stream = TcpStream::connect(("127.0.0.1", port)).await?;
    stream.write_all(b"GET / HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n").await?;
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer).await?;
    Ok(answer.starts_with(b"HTTP/1.1 200"))
}

struct Walk {
    client: Client,
    engine: DockerEngine,
    pace: Pace,
    served: Arc<Served>,
}

impl Walk {
    async fn show_dashboard(&self, print: bool) -> anyhow::Result<()> {
        match open::link(&self.client).await {
            Ok(url) => {
                output::done(format!("the dashboard is on {url}"));
                if !print {
                    open::launch(&url);
                }
                Ok(())
            }
            // The cluster has none.
            Err(err) if err.downcast_ref::<ClientError>().is_some_and(|err| err.code().is_some()) => Ok(()),
            Err(err) => Err(err),
        }
    }

    async fn steps(&self) -> anyhow::Result<()> {
        self.begin("kill", "docker kill CONTAINER", "one container dies; skiff sees it and makes another").await?;
        self.kill().await?;
        self.begin("scale", &format!("kubectl scale deployment {NAME} --replicas 5"), "two pods more").await?;
        self.change(json!({ "replicas": 5 }), 5).await?;
        let before = self.deployment().await?["spec"]["template"].clone();
        let container = text(&before, "/spec/containers/0/name").to_owned();
        let command = format!("kubectl set image deployment/{NAME} {container}={NEW_IMAGE}");
        self.begin("update", &command, "pod by pod; nobody is refused meanwhile").await?;
        let mut template = before.clone();
        template["spec"]["containers"][0]["image"] = json!(NEW_IMAGE);
        self.change(json!({ "template": template }), 5).await?;
        self.begin("undo", &format!("kubectl rollout undo deployment/{NAME}"), "the version before").await?;
        self.change(json!({ "template": before }), 5).await
    }

    /// Says what comes, and waits until it may.
    async fn begin(&self, step: &str, command: &str, what: &str) -> anyhow::Result<()> {
        output::line("");
        output::line(format!("{step}: {what}"));
        output::line(format!("   $ {command}"));
        match self.pace {
            Pace::None => Ok(()),
            Pace::Auto => {
                tokio::time::sleep(AUTO_PAUSE).await;
                Ok(())
            }
            Pace::Key => {
                output::raw("   Press Enter … ");
                let read = tokio::task::spawn_blocking(|| std::io::stdin().lock().read_line(&mut String::new()));
                match read.await?? {
                    0 => bail!("no key was pressed: the walk ends here, and everything stays as it is"),
                    _ => Ok(()),
                }
            }
        }
    }

    fn end(&self, what: &str, before: (u64, u64)) {
        let now = self.served.now();
        output::done(what);
        output::line(format!("   {} requests were answered meanwhile, {} failed", now.0 - before.0, now.1 - before.1));
    }

    async fn deployment(&self) -> anyhow::Result<Value> {
        Ok(self.client.get(&format!("{DEPLOYMENTS}/{NAME}")).await?)
    }

    async fn node_port(&self) -> anyhow::Result<u16> {
        let service = self.client.get(&format!("{SERVICES}/{SERVICE}")).await?;
        let port = u16::try_from(number(&service, "/spec/ports/0/nodePort")).unwrap_or_default();
        if port == 0 {
            bail!("the Service {SERVICE} has no node port: delete it, and begin again");
        }
        Ok(port)
    }

    async fn kill(&self) -> anyhow::Result<()> {
        let pods = self.client.get(PODS).await?;
        let is_running = |pod: &&Value| {
            pod["metadata"]["deletionTimestamp"].is_null()
                && pod.pointer("/status/containerStatuses/0/state/running").is_some()
        };
        let pod = pods["items"].as_array().into_iter().flatten().find(is_running).context("no pod of the demo runs")?;
        let (name, count) =
            (text(pod, "/metadata/name").to_owned(), number(pod, "/status/containerStatuses/0/restartCount"));
        let id = text(pod, "/status/containerStatuses/0/containerID").trim_start_matches("docker://").to_owned();
        let (before, began) = (self.served.now(), Clock::system().mono());
        self.engine.kill(&id, "SIGKILL").await?;
        let key = ("default".to_owned(), name.clone());
        let is_healed = |pod: &Value| {
            number(pod, "/status/containerStatuses/0/restartCount") > count
                && pod.pointer("/status/containerStatuses/0/ready") == Some(&json!(true))
        };
        let healed =
            until(&self.client, PODS, STEP_WITHIN, |pods| pods.get(&key).filter(|pod| is_healed(pod)).map(drop));
        healed.await?.with_context(|| format!("pod {name} is not healed: `kubectl describe pod {name}` tells why"))?;
        let took = began.elapsed().as_millis();
        let told = self.told(&name).await.unwrap_or_default();
        self.end(&format!("pod {name} is healed after {took} ms{told}"), before);
        Ok(())
    }

    /// How a pod's last start came about.
    async fn told(&self, pod: &str) -> Option<String> {
        let path = format!("/apis/{TIMELINES}/namespaces/default/pods/{pod}/timeline");
        let timeline = self.client.get(&path).await.ok()?;
        let last = timeline["starts"].as_array()?.last()?;
        let after = |field: &str| last[field].as_i64();
        Some(format!(
            " (noticed +{} ms, created +{} ms, started +{} ms)",
            after("noticedAfterMs")?,
            after("createdAfterMs")?,
            after("startedAfterMs")?
        ))
    }

    /// Changes the Deployment's spec, and waits until it is so.
    async fn change(&self, spec: Value, replicas: i64) -> anyhow::Result<()> {
        let before = self.served.now();
        self.client.patch(&format!("{DEPLOYMENTS}/{NAME}"), PatchKind::Merge, &json!({ "spec": spec })).await?;
        let took = self.until_rolled_out(replicas).await?;
        self.end(&format!("{replicas} pods of it are ready after {took} ms"), before);
        Ok(())
    }

    /// Returns when all pods are those that are wanted, and after how many milliseconds that was.
    async fn until_rolled_out(&self, replicas: i64) -> anyhow::Result<u128> {
        let began = Clock::system().mono();
        let key = ("default".to_owned(), NAME.to_owned());
        let done = until(&self.client, DEPLOYMENTS, STEP_WITHIN, |all| {
            all.get(&key).filter(|deployment| is_rolled_out(deployment, replicas)).map(drop)
        });
        done.await?.with_context(|| {
            format!(
                "not all pods are ready after {} s: `kubectl describe deployment {NAME}` tells why",
                STEP_WITHIN.as_secs()
            )
        })?;
        Ok(began.elapsed().as_millis())
    }
}

/// Whether every pod of a Deployment is of its template, and ready. Source: `DeploymentComplete`, pkg/controller/deployment/util, v1.37.
fn is_rolled_out(deployment: &Value, replicas: i64) -> bool {
    let counts = ["/status/replicas", "/status/updatedReplicas", "/status/availableReplicas", "/spec/replicas"];
    let is_seen = number(deployment, "/status/observedGeneration") >= number(deployment, "/metadata/generation");
    is_seen && counts.iter().all(|path| number(deployment, path) == replicas)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_rollout_is_over_when_all_pods_are_new_and_ready() {
        let deployment = |observed: i64, updated: i64| {
            json!({ "metadata": { "generation": 2 }, "spec": { "replicas": 3 },
                "status": { "observedGeneration": observed, "replicas": 3, "updatedReplicas": updated, "availableReplicas": 3 } })
        };
        assert!(is_rolled_out(&deployment(2, 3), 3));
        assert!(!is_rolled_out(&deployment(1, 3), 3) && !is_rolled_out(&deployment(2, 2), 3));
        assert!(!is_rolled_out(&deployment(2, 3), 5));
    }

    #[test]
    fn the_demo_is_what_the_manifests_are() {
        let deployment = apply::read_text("a", DEPLOYMENT_YAML).unwrap();
        assert_eq!(deployment.iter().flat_map(apply::Document::images).collect::<Vec<_>>().len(), 1);
        let service = crate::testing::from_yaml::<Value>(SERVICE_YAML).unwrap();
        let deployment = crate::testing::from_yaml::<Value>(DEPLOYMENT_YAML).unwrap();
        assert_eq!((text(&deployment, "/metadata/name"), text(&service, "/metadata/name")), (NAME, SERVICE));
        let label = text(&deployment, "/spec/template/metadata/labels/app");
        assert!(PODS.ends_with(&format!("app%3D{label}")), "{label}");
        assert!(SERVICE_YAML.lines().any(|line| line.trim_start().starts_with("nodePort:")));
    }
}

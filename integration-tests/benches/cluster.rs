//! How fast and how small skiff is on real Docker, with the budget beside each figure.
//!
//! Times are medians; ratios are against the same containers made by bare Docker calls in the same run, turn by turn, so that a noisy
//! machine hurts both. Run it with `cargo bench --bench cluster`; Docker must run (`skiff doctor --fix`).
#![allow(clippy::disallowed_methods, reason = "a benchmark measures real time")]

#[path = "../harness/bench.rs"]
mod bench;
#[path = "../harness/processes.rs"]
#[allow(dead_code, reason = "other benches need more of it")]
mod processes;
#[path = "../harness/stats.rs"]
mod stats;

use anyhow::Context as _;
use bench::{
    NAME, Skiff, bare_app, bare_name, bare_pod, deployment, free_port, is_ready, ready_client, remove_bare_pod, spawn,
    stop, wait,
};
use futures::{StreamExt as _, future::try_join_all};
use k8s_openapi::api::{apps::v1::Deployment, batch::v1::Job, core::v1::Pod};
use kube::{
    Api,
    api::{DeleteParams, ListParams, Patch, PatchParams, PostParams},
};
use processes::processor_secs;
use serde_json::json;
use skiff::engine::{Engine, EngineEvent, EventKind, docker::DockerEngine};
use stats::{median, percentile, row};
use std::{
    collections::BTreeMap,
    path::Path,
    time::{Duration, Instant},
};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

const ROUNDS: usize = 7;
/// How far a Deployment is scaled, and how often: each round takes seconds.
const SCALED: usize = 50;
const SCALE_ROUNDS: usize = 3;
const KILLS: usize = 100;
/// Pods that are probed each second, and for how long is looked.
const PROBED: usize = 50;
const PROBED_FOR: Duration = Duration::from_secs(20);
/// Pods of a job that run at once.
const JOB_PODS: usize = 20;
/// What the data plane's processes may hold together.
const PLANE_MIB_MAX: f64 = 10.0;
/// What the program may have, without tables of symbols.
const PROGRAM_MB_MAX: f64 = 20.0;

fn main() -> anyhow::Result<()> {
    // `cargo bench` passes --bench; a filter picks one part.
    let wanted: Vec<String> = std::env::args().skip(1).filter(|a| !a.starts_with('-')).collect();
    let wants = |part: &str| wanted.is_empty() || wanted.iter().any(|w| w == part);
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build()?;
    runtime.block_on(async {
        let home = tempfile::tempdir()?;
        let engine = DockerEngine::connect(NAME).await?;
        engine.info().await?;
        if wants("start") {
            bench_start(home.path()).await?;
        }
        let skiff = Skiff::up(home).await?;
        if wants("ready") {
            bench_ready(&skiff, &engine).await?;
        }
        if wants("scale") {
            bench_scale(&skiff, &engine).await?;
        }
        if wants("heal") {
            bench_heal(&skiff, &engine).await?;
        }
        if wants("probes") {
            bench_probes(&skiff).await?;
        }
        if wants("job") {
            bench_job(&skiff, &engine).await?;
        }
        if wants("idle") {
            bench_idle(&skiff, &engine).await?;
        }
        anyhow::Ok(())
    })
}

async fn bench_start(home: &Path) -> anyhow::Result<()> {
    let mut times = Vec::new();
    for round in 0..=ROUNDS {
        let port = free_port()?;
        let begun = Instant::now();
        let mut child = spawn(home, port)?;
        ready_client(home, port).await?;
        // The first start makes the image, the keys and the network.
        if round > 0 {
            times.push(stats::millis(begun.elapsed()));
        }
        stop(&mut child)?;
    }
    let figure = median(&mut times);
    row("process start to /readyz, warm image", figure, "ms", 100.0, figure <= 100.0);
    Ok(())
}

async fn bench_ready(skiff: &Skiff, engine: &DockerEngine) -> anyhow::Result<()> {
    let deployments: Api<Deployment> = Api::default_namespaced(skiff.client.clone());
    let pods: Api<Pod> = Api::default_namespaced(skiff.client.clone());
    let (mut ours, mut bare) = (Vec::new(), Vec::new());
    for _ in 0..ROUNDS {
        let begun = Instant::now();
        deployments.create(&PostParams::default(), &deployment("ready", 3)).await?;
        wait(&pods, "3 pods are ready", |p| p.iter().filter(|p| is_ready(p)).count() == 3).await?;
        ours.push(stats::millis(begun.elapsed()));
        deployments.delete("ready", &DeleteParams::default()).await?;
        wait(&pods, "the pods are gone", <[Pod]>::is_empty).await?;

        let begun = Instant::now();
        try_join_all((0..3).map(|n| bare_pod(engine, n))).await?;
        bare.push(stats::millis(begun.elapsed()));
        try_join_all((0..3).map(|n| remove_bare_pod(engine, n))).await?;
    }
    let (ours, bare) = (median(&mut ours), median(&mut bare));
    row("3-replica Deployment created to all Ready", ours, "ms", bare * 1.15, ours <= bare * 1.15);
    row("  … as a ratio to bare Docker calls", ours / bare, "x", 1.15, ours / bare <= 1.15);
    Ok(())
}

/// Up to fifty pods, and down to none, against the containers of as many, made and removed together.
async fn bench_scale(skiff: &Skiff, engine: &DockerEngine) -> anyhow::Result<()> {
    let deployments: Api<Deployment> = Api::default_namespaced(skiff.client.clone());
    let pods: Api<Pod> = Api::default_namespaced(skiff.client.clone());
    let ready = |n: usize| move |pods: &[Pod]| pods.iter().filter(|pod| is_ready(pod)).count() == n;
    let scale = async |n: usize| {
        let replicas = Patch::Merge(json!({"spec": {"replicas": n}}));
        deployments.patch_scale("scaled", &PatchParams::default(), &replicas).await
    };
    deployments.create(&PostParams::default(), &deployment("scaled", 1)).await?;
    wait(&pods, "the first pod is ready", ready(1)).await?;
    let (mut up, mut bare_up, mut down, mut bare_down) = (Vec::new(), Vec::new(), Vec::new(), Vec::new());
    for _ in 0..SCALE_ROUNDS {
        let begun = Instant::now();
        scale(SCALED).await?;
        wait(&pods, "all pods are ready", ready(SCALED)).await?;
        up.push(stats::millis(begun.elapsed()));
        let begun = Instant::now();
        scale(0).await?;
        wait(&pods, "the pods are gone", <[Pod]>::is_empty).await?;
        down.push(stats::millis(begun.elapsed()));

        let begun = Instant::now();
        try_join_all((0..SCALED).map(|n| bare_pod(engine, n))).await?;
        bare_up.push(stats::millis(begun.elapsed()));
        let begun = Instant::now();
        try_join_all((0..SCALED).map(|n| remove_bare_pod(engine, n))).await?;
        bare_down.push(stats::millis(begun.elapsed()));
        scale(1).await?;
        wait(&pods, "one pod is ready", ready(1)).await?;
    }
    deployments.delete("scaled", &DeleteParams::default()).await?;
    wait(&pods, "the pods are gone", <[Pod]>::is_empty).await?;
    let (up, bare_up, down, bare_down) =
        (median(&mut up), median(&mut bare_up), median(&mut down), median(&mut bare_down));
    row("scaled from 1 to 50 pods, all Ready", up, "ms", bare_up * 1.15, up <= bare_up * 1.15);
    row("  … as a ratio to the containers of 50 pods, started", up / bare_up, "x", 1.15, up / bare_up <= 1.15);
    row("scaled from 50 pods to none, all gone", down, "ms", bare_down * 1.15, down <= bare_down * 1.15);
    row("  … as a ratio to removing those containers", down / bare_down, "x", 1.15, down / bare_down <= 1.15);
    Ok(())
}

/// A job whose pods end at once, against `docker run` of as many containers that do, and against the containers that pods are.
async fn bench_job(skiff: &Skiff, engine: &DockerEngine) -> anyhow::Result<()> {
    let jobs: Api<Job> = Api::default_namespaced(skiff.client.clone());
    let pods: Api<Pod> = Api::default_namespaced(skiff.client.clone());
    let (mut ours, mut plain, mut same) = (Vec::new(), Vec::new(), Vec::new());
    for _ in 0..ROUNDS {
        let begun = Instant::now();
        jobs.create(&PostParams::default(), &ending_job("ending", JOB_PODS)).await?;
        wait(&jobs, "the job is complete", |jobs| jobs.iter().any(is_complete)).await?;
        ours.push(stats::millis(begun.elapsed()));
        jobs.delete("ending", &DeleteParams::background()).await?;
        wait(&pods, "the pods are gone", <[Pod]>::is_empty).await?;

        let begun = Instant::now();
        try_join_all((0..JOB_PODS).map(docker_run)).await?;
        plain.push(stats::millis(begun.elapsed()));

        let begun = Instant::now();
        try_join_all((0..JOB_PODS).map(|n| bare_pod(engine, n))).await?;
        same.push(stats::millis(begun.elapsed()));
        try_join_all((0..JOB_PODS).map(|n| remove_bare_pod(engine, n))).await?;
    }
    let (ours, plain, same) = (median(&mut ours), median(&mut plain), median(&mut same));
    row("Job of 20 pods created to Complete", ours, "ms", plain * 1.2, ours <= plain * 1.2);
    row("  … as a ratio to 20 times `docker run`", ours / plain, "x", 1.2, ours / plain <= 1.2);
    row("  … as a ratio to the containers of 20 pods, started", ours / same, "x", 1.2, ours / same <= 1.2);
    Ok(())
}

/// `docker run` of a container that ends at once, on the network of the pods; removed at its end.
async fn docker_run(n: usize) -> anyhow::Result<()> {
    let network = skiff::app::cidr::network_name(NAME);
    let name = bare_name("run", n);
    // The image has a program of its own.
    let how = ["--rm", "--name", &name, "--network", &network, "--entrypoint", "sh"];
    let args = [&["run"], &how[..], &[bench::IMAGE, "-c", "exit 0"]].concat();
    let out = tokio::process::Command::new("docker").args(args).output().await?;
    anyhow::ensure!(out.status.success(), "docker run: {}", String::from_utf8_lossy(&out.stderr));
    Ok(())
}

fn ending_job(name: &str, n: usize) -> Job {
    serde_json::from_value(json!({
        "metadata": {"name": name},
        "spec": {
            "completions": n,
            "parallelism": n,
            "template": {
                "spec": {
                    "restartPolicy": "Never",
                    "containers": [{
                        "name": "c", "image": bench::IMAGE, "imagePullPolicy": "IfNotPresent",
                        "command": ["sh", "-c", "exit 0"],
                    }],
                },
            },
        },
    }))
    .expect("a constant manifest")
}

fn is_complete(job: &Job) -> bool {
    job.status.as_ref().is_some_and(|status| status.completion_time.is_some())
}

async fn bench_heal(skiff: &Skiff, engine: &DockerEngine) -> anyhow::Result<()> {
    let deployments: Api<Deployment> = Api::default_namespaced(skiff.client.clone());
    let pods: Api<Pod> = Api::default_namespaced(skiff.client.clone());
    deployments.create(&PostParams::default(), &deployment("heal", 3)).await?;
    wait(&pods, "3 pods are ready", |p| p.iter().filter(|p| is_ready(p)).count() == 3).await?;
    bare_pod(engine, 0).await?;
    let (mut ours, mut bare) = (Vec::new(), Vec::new());
    for _ in 0..KILLS {
        ours.push(heal_once(engine).await?);
        engine.remove(&bare_name("app", 0)).await?;
        let begun = Instant::now();
        engine.create(&bare_app(0)).await?;
        engine.start(&bare_name("app", 0)).await?;
        bare.push(stats::millis(begun.elapsed()));
    }
    remove_bare_pod(engine, 0).await?;
    deployments.delete("heal", &DeleteParams::default()).await?;
    wait(&pods, "the pods are gone", <[Pod]>::is_empty).await?;
    let p99 = percentile(&mut ours, 99.0);
    let (ours, bare) = (median(&mut ours), median(&mut bare));
    row("kill to replacement running", ours, "ms", bare * 1.1, ours <= bare * 1.1);
    row("  … as a ratio to bare create + start", ours / bare, "x", 1.1, ours / bare <= 1.1);
    row("  … 99th percentile", p99, "ms", 500.0, p99 < 500.0);
    Ok(())
}

/// Kills one container of the Deployment as a user does; the time from its death until its replacement has started.
async fn heal_once(engine: &DockerEngine) -> anyhow::Result<f64> {
    let mut events = engine.events();
    events.next().await.context("no events")?;
    let is_app = |l: &BTreeMap<String, String>| l.get("io.kubernetes.container.name").is_some_and(|n| n == "c");
    let victim =
        engine.list().await?.into_iter().find(|c| is_app(&c.labels) && c.phase == skiff::engine::Phase::Running);
    let victim = victim.context("nothing to kill")?;
    let mut died = None;
    engine.kill(&victim.id, "SIGKILL").await?;
    let healed = async {
        while let Some(event) = events.next().await {
            let EngineEvent::Container { id, labels, kind, .. } = event else { continue };
            match kind {
                EventKind::Died(_) if id == victim.id => died = Some(Instant::now()),
                // The engine tells what happened in the same second again: a start before the death is an older one.
                EventKind::Started if died.is_some() && is_app(&labels) => return died.map(|d| d.elapsed()),
                _ => {}
            }
        }
        None
    };
    let time = tokio::time::timeout(Duration::from_secs(10), healed).await?.context("no death was seen")?;
    Ok(stats::millis(time))
}

/// What probes cost the node: pods that are well, each asked by HTTP once a second. The floor is this program asking them the same.
async fn bench_probes(skiff: &Skiff) -> anyhow::Result<()> {
    let deployments: Api<Deployment> = Api::default_namespaced(skiff.client.clone());
    let pods: Api<Pod> = Api::default_namespaced(skiff.client.clone());
    deployments.create(&PostParams::default(), &deployment("probed", PROBED)).await?;
    let all_ready = |p: &[Pod]| p.iter().filter(|p| is_ready(p)).count() == PROBED;
    wait(&pods, "the pods are ready", all_ready).await?;
    let own = [skiff.child.id()];
    let ips: Vec<String> =
        pods.list(&ListParams::default()).await?.into_iter().filter_map(|p| p.status?.pod_ip).collect();
    let bare = processor_share(&[std::process::id()], ask_each_second(&ips)).await;
    let idle = processor_share(&own, tokio::time::sleep(PROBED_FOR)).await;
    let probe = json!({"httpGet": {"path": "/", "port": 8080}, "periodSeconds": 1});
    let container = json!([{"name": "c", "readinessProbe": probe}]);
    let patch = json!({"spec": {"template": {"spec": {"containers": container}}}});
    deployments.patch("probed", &PatchParams::default(), &Patch::Strategic(patch)).await?;
    let is_probed = |p: &Pod| p.spec.iter().all(|s| s.containers.iter().all(|c| c.readiness_probe.is_some()));
    let all_probed = |p: &[Pod]| p.len() == PROBED && p.iter().all(|p| is_ready(p) && is_probed(p));
    wait(&pods, "the probed pods are ready", all_probed).await?;
    let probed = processor_share(&own, tokio::time::sleep(PROBED_FOR)).await;
    row("50 pods probed each second: share of a core", probed, "%", 3.0, probed <= 3.0);
    row("  … of it without the probes", idle, "%", 0.5, idle <= 0.5);
    row("  … the probes as a ratio to bare requests", (probed - idle) / bare, "x", 3.0, (probed - idle) / bare <= 3.0);
    deployments.delete("probed", &DeleteParams::default()).await?;
    wait(&pods, "the pods are gone", <[Pod]>::is_empty).await?;
    Ok(())
}

/// How much of a core processes take while something goes on, in percent.
async fn processor_share(pids: &[u32], during: impl Future<Output = ()>) -> f64 {
    let (begun, before) = (Instant::now(), processor_secs(pids));
    during.await;
    (processor_secs(pids) - before) / begun.elapsed().as_secs_f64() * 100.0
}

/// Asks each of the addresses once a second, spread over the second, until the time is over.
async fn ask_each_second(ips: &[String]) {
    let pause = Duration::from_secs(1) / u32::try_from(ips.len().max(1)).expect("few addresses");
    let asks = (0..).zip(ips).map(|(n, ip)| {
        let first = tokio::time::Instant::now() + pause * n;
        let ask = async move {
            let mut turns = tokio::time::interval_at(first, Duration::from_secs(1));
            loop {
                turns.tick().await;
                drop(ask(ip).await);
            }
        };
        tokio::time::timeout(PROBED_FOR, ask)
    });
    futures::future::join_all(asks).await;
}

async fn ask(ip: &str) -> anyhow::Result<()> {
    let mut connection = tokio::net::TcpStream::connect((ip, 8080)).await?;
    connection.write_all(format!("GET / HTTP/1.1\r\nHost: {ip}\r\nConnection: close\r\n\r\n").as_bytes()).await?;
    connection.read_to_end(&mut Vec::new()).await?;
    Ok(())
}

async fn bench_idle(skiff: &Skiff, engine: &DockerEngine) -> anyhow::Result<()> {
    let deployments: Api<Deployment> = Api::default_namespaced(skiff.client.clone());
    let pods: Api<Pod> = Api::default_namespaced(skiff.client.clone());
    deployments.create(&PostParams::default(), &deployment("idle", 20)).await?;
    wait(&pods, "20 pods are ready", |p| p.iter().filter(|p| is_ready(p)).count() == 20).await?;
    let plane = data_plane(engine).await?;
    let own = skiff.child.id();
    let skiffs: Vec<u32> = plane.iter().map(|(_, pid)| *pid).chain([own]).collect();
    let busy = processor_share(&skiffs, tokio::time::sleep(Duration::from_secs(30))).await;
    let program = std::fs::metadata(env!("CARGO_BIN_EXE_skiff"))?.len();
    #[allow(clippy::cast_precision_loss, reason = "some millions")]
    let program = program as f64 / 1e6;
    row("the program, with what tests alone use", program, "MB", PROGRAM_MB_MAX, program <= PROGRAM_MB_MAX);
    let control = rss_mib(own)?;
    row("idle with 20 pods: control plane RSS", control, "MiB", 30.0, control <= 30.0);
    let mut all = 0.0;
    for (name, pid) in &plane {
        let share = share_mib(*pid)?;
        row(&format!("  … {name}, shared pages divided"), share, "MiB", PLANE_MIB_MAX, share <= PLANE_MIB_MAX);
        all += share;
    }
    row("idle with 20 pods: data plane, all processes", all, "MiB", PLANE_MIB_MAX, all <= PLANE_MIB_MAX);
    row("idle with 20 pods: all of skiff, share of a core", busy, "%", 0.2, busy <= 0.2);
    deployments.patch("idle", &PatchParams::default(), &Patch::Merge(json!({"spec": {"replicas": 0}}))).await?;
    wait(&pods, "the pods are gone", <[Pod]>::is_empty).await?;
    pods.list(&ListParams::default()).await?;
    Ok(())
}

/// The containers of the data plane's pod and their processes.
async fn data_plane(engine: &DockerEngine) -> anyhow::Result<Vec<(String, u32)>> {
    let label = |labels: &BTreeMap<String, String>, name: &str| labels.get(name).cloned().unwrap_or_default();
    let containers = engine.list().await?.into_iter();
    let ours = containers.filter(|c| label(&c.labels, "io.kubernetes.pod.name") == "skiff-proxy" && c.pid > 0);
    ours.map(|c| Ok((label(&c.labels, "io.kubernetes.container.name"), c.pid.try_into()?))).collect()
}

/// Memory of a process, shared pages divided by those who share them: what several processes hold can be added up.
fn share_mib(pid: u32) -> anyhow::Result<f64> {
    field_mib(pid, "smaps_rollup", "Pss:")
}

/// Resident memory of a process.
fn rss_mib(pid: u32) -> anyhow::Result<f64> {
    field_mib(pid, "status", "VmRSS:")
}

fn field_mib(pid: u32, file: &str, field: &str) -> anyhow::Result<f64> {
    let text = std::fs::read_to_string(format!("/proc/{pid}/{file}"))?;
    let line = text.lines().find_map(|l| l.strip_prefix(field)).with_context(|| format!("no {field}"))?;
    let kib: f64 = line.trim().trim_end_matches(" kB").parse()?;
    Ok(kib / 1024.0)
}

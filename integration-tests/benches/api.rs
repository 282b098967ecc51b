//! How fast the API answers, with the budget beside each figure. Run it with `cargo bench --bench api`; Docker must run.
#![allow(clippy::disallowed_methods, reason = "a benchmark measures real time")]

#[path = "../harness/bench.rs"]
mod bench;
#[path = "../harness/stats.rs"]
mod stats;

use anyhow::Context as _;
use bench::{Skiff, deployment};
use futures::{StreamExt as _, TryStreamExt as _, future::try_join_all, stream};
use http_body_util::BodyExt as _;
use k8s_openapi::api::{apps::v1::Deployment, core::v1::ConfigMap};
use kube::{
    Api, Client,
    api::{Patch, PatchParams, PostParams, WatchEvent, WatchParams},
    client::Body,
};
use serde_json::{Value, json};
use skiff::{
    api::{
        kind::KindRef,
        kinds::{KINDS, rbac::ROLE_BINDINGS},
        managed::Writer,
        meta::ObjectKey,
        service_range::ServiceRange,
    },
    base::{clock::Clock, rng::Rng},
    controllers::cluster_objects::{self, ApiPlace},
    identity::{
        Rbac, User, roles,
        rule::{Attributes, On},
    },
    registry::{
        Registry,
        pipeline::{Config, Part, WriteOptions},
    },
    store::{Entry, Store, memory::MemoryBackend},
};
use stats::{median, millis, row};
use std::time::{Duration, Instant};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{TcpListener, TcpStream},
    sync::mpsc,
    task::JoinSet,
};

const ROUNDS: usize = 9;
const PATCHES: usize = 300;
/// Durable writes in a second, at least.
const WRITES_MIN: f64 = 5000.0;
const MAPS: usize = 10_000;
const WATCHERS: usize = 1_000;
/// Writes that they are told of.
const TOLD: usize = 50;
const BINDINGS: usize = 200;
const VERDICTS: u32 = 100_000;

fn main() -> anyhow::Result<()> {
    let wanted: Vec<String> = std::env::args().skip(1).filter(|a| !a.starts_with('-')).collect();
    let wants = |part: &str| wanted.is_empty() || wanted.iter().any(|w| w == part);
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build()?;
    runtime.block_on(async {
        if wants("rbac") {
            bench_rbac().await?;
        }
        let others = ["apply", "list", "watch"];
        if !others.into_iter().any(wants) {
            return Ok(());
        }
        let skiff = Skiff::up(tempfile::tempdir()?).await?;
        if wants("apply") {
            bench_apply(&skiff.client).await?;
            bench_managed(&skiff.client).await?;
        }
        if wants("list") {
            bench_list(&skiff.client).await?;
        }
        if wants("watch") {
            bench_watch(&skiff.client).await?;
        }
        anyhow::Ok(())
    })
}

/// A registry whose store is memory alone, with the roles that every cluster has.
async fn registry_in_memory() -> anyhow::Result<Registry> {
    let store = Store::open(MemoryBackend, false).map_err(anyhow::Error::msg)?;
    let (dns_ip, services) = ([10, 245, 0, 10].into(), ServiceRange::new([10, 245, 0, 0].into(), 16));
    let config = Config { services, dns_ip, node_ports: skiff::api::node_port_range::NodePortRange::default() };
    let registry = Registry::new(store, Clock::system(), Rng::from_system(), config);
    let place = ApiPlace { service_ip: [10, 245, 0, 1].into(), node_ip: [10, 244, 0, 1].into(), port: 6443 };
    cluster_objects::bring_about(&registry, place).await?;
    roles::reconcile(&registry).await?;
    Ok(registry)
}

/// What a call costs more because roles decide: for a service account that one of many bindings lets, and for one that none does.
async fn bench_rbac() -> anyhow::Result<()> {
    let registry = registry_in_memory().await?;
    for n in 0..BINDINGS {
        let binding = json!({
            "metadata": { "name": format!("b{n}") },
            "roleRef": { "apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": "system:aggregate-to-view" },
            "subjects": [{ "kind": "ServiceAccount", "name": format!("a{n}"), "namespace": "default" }],
        });
        let object = KindRef::BuiltIn(&ROLE_BINDINGS).decode(binding)?;
        registry.create(&ROLE_BINDINGS, "default", object, &WriteOptions::default()).await?;
    }
    let rbac = Rbac::new(registry);
    let on = On::Resource { group: "", resource: "pods", subresource: "", namespace: "default", name: "p", node: "" };
    for (name, wanted) in [("a7", true), ("none", false)] {
        let user = User::of_account("default", name);
        let mut times = Vec::new();
        for _ in 0..ROUNDS {
            let begun = Instant::now();
            for _ in 0..VERDICTS {
                let verdict = rbac.verdict(&user, &Attributes { verb: "get", on });
                anyhow::ensure!(verdict.is_allowed == wanted, "{name} is judged wrongly");
            }
            times.push(begun.elapsed().as_secs_f64() * 1e6 / f64::from(VERDICTS));
        }
        let figure = median(&mut times);
        row(&format!("roles judge a call (allowed: {wanted})"), figure, "us", 5.0, figure <= 5.0);
    }
    Ok(())
}

/// Server-side apply beside a merge patch of the same Deployment, turn by turn; nothing is written, so that no disk has a say.
async fn bench_apply(client: &Client) -> anyhow::Result<()> {
    let deployments: Api<Deployment> = Api::default_namespaced(client.clone());
    let mut config: Value = serde_json::to_value(deployment("apply", 0))?;
    config["apiVersion"] = json!("apps/v1");
    config["kind"] = json!("Deployment");
    let params = PatchParams::apply("bench").force();
    deployments.patch("apply", &params, &Patch::Apply(&config)).await?;
    let (mut applies, mut merges) = (Vec::new(), Vec::new());
    for n in 0..PATCHES {
        config["metadata"]["labels"] = json!({ "n": n.to_string() });
        let begun = Instant::now();
        deployments.patch("apply", &params.clone().dry_run(), &Patch::Apply(&config)).await?;
        applies.push(millis(begun.elapsed()));
        let merge = Patch::Merge(json!({ "metadata": { "labels": { "n": n.to_string() } } }));
        let begun = Instant::now();
        deployments.patch("apply", &PatchParams::default().dry_run(), &merge).await?;
        merges.push(millis(begun.elapsed()));
    }
    let (apply, merge) = (median(&mut applies), median(&mut merges));
    row("server-side apply of a Deployment", apply, "ms", merge * 2.0, apply <= merge * 2.0);
    row("  … as a ratio to a merge patch", apply / merge, "x", 2.0, apply / merge <= 2.0);
    Ok(())
}

/// What it costs more to keep who owns which fields, beside a write that clients make.
async fn bench_managed(client: &Client) -> anyhow::Result<()> {
    let registry = registry_in_memory().await?;
    let kind = KINDS.iter().find(|kind| kind.info().plural == "deployments").context("Deployments are served")?;
    let writer = Writer { name: "bench".to_owned(), subresource: String::new(), api_version: "apps/v1".to_owned() };
    let owned = WriteOptions { writer: Some(writer), ..WriteOptions::default() };
    let both = [("owned", owned), ("free", WriteOptions::default())];
    for (name, options) in &both {
        let object = KindRef::BuiltIn(*kind).decode(serde_json::to_value(deployment(name, 0))?)?;
        registry.create(*kind, "default", object, options).await?;
    }
    let mut times = [Vec::new(), Vec::new()];
    for n in 0..PATCHES * 4 {
        for ((name, options), times) in both.iter().zip(&mut times) {
            let mut change = |entry: &Entry| {
                let mut value: Value = serde_json::from_slice(&entry.value).expect("it was written as JSON");
                value["metadata"]["labels"] = json!({ "n": n.to_string() });
                Ok(KindRef::BuiltIn(*kind).decode(value).expect("it was one before"))
            };
            let begun = Instant::now();
            registry.update(*kind, &ObjectKey::new("default", *name), Part::Main, &mut change, options).await?;
            times.push(millis(begun.elapsed()));
        }
    }
    let [mut owned, mut free] = times;
    let deployments: Api<Deployment> = Api::default_namespaced(client.clone());
    let mut made = Vec::new();
    for n in 0..PATCHES {
        let merge = Patch::Merge(json!({ "metadata": { "labels": { "w": n.to_string() } } }));
        let begun = Instant::now();
        deployments.patch("apply", &PatchParams::default(), &merge).await?;
        made.push(millis(begun.elapsed()));
    }
    let (cost, write) = (median(&mut owned) - median(&mut free), median(&mut made));
    row("who owns which fields, kept with a write", cost, "ms", write / 10.0, cost <= write / 10.0);
    row("  … as a ratio to a write through HTTP", cost / write, "x", 0.1, cost / write <= 0.1);
    Ok(())
}

async fn bench_list(client: &Client) -> anyhow::Result<()> {
    let maps: Api<ConfigMap> = Api::default_namespaced(client.clone());
    let make = |n: usize| {
        let maps = maps.clone();
        async move {
            let map: ConfigMap = serde_json::from_value(
                json!({ "metadata": { "name": format!("m{n}") }, "data": { "key": "value", "n": n.to_string() } }),
            )?;
            maps.create(&PostParams::default(), &map).await?;
            anyhow::Ok(())
        }
    };
    let begun = Instant::now();
    stream::iter((0..MAPS).map(make)).buffer_unordered(64).try_collect::<Vec<()>>().await?;
    let rate = f64::from(u32::try_from(MAPS)?) / begun.elapsed().as_secs_f64();
    row("durable writes through HTTP, 64 at a time", rate, "/s", WRITES_MIN, rate >= WRITES_MIN);
    let (mut as_text, mut as_protobuf) = (Vec::new(), Vec::new());
    for _ in 0..ROUNDS {
        as_text.push(list(client, "application/json").await?);
        as_protobuf.push(list(client, "application/vnd.kubernetes.protobuf").await?);
    }
    let (text, protobuf) = (median(&mut as_text), median(&mut as_protobuf));
    row("10,000 ConfigMaps listed", text, "ms", 100.0, text <= 100.0);
    row("10,000 ConfigMaps listed as protobuf", protobuf, "ms", 100.0, protobuf <= 100.0);
    row("  … as a ratio to JSON", protobuf / text, "x", 2.0, protobuf / text <= 2.0);
    Ok(())
}

/// How long the list of all maps takes in this form, in milliseconds.
async fn list(client: &Client, accept: &str) -> anyhow::Result<f64> {
    let request = http::Request::get("/api/v1/namespaces/default/configmaps").header(http::header::ACCEPT, accept);
    let request = request.body(Body::empty())?;
    let begun = Instant::now();
    let answer = client.send(request).await?;
    anyhow::ensure!(answer.headers()[http::header::CONTENT_TYPE] == accept, "it came in another form");
    let bytes = answer.into_body().collect().await?.to_bytes();
    let took = millis(begun.elapsed());
    anyhow::ensure!(bytes.len() > MAPS * 100, "the list is short");
    Ok(took)
}

/// The floor of a watch: as many connections without TLS and HTTP, as many bytes, and nobody who reads them as JSON.
async fn bench_bare_connections() -> anyhow::Result<f64> {
    const EVENT_BYTES: usize = 512;
    let listener = TcpListener::bind("127.0.0.1:0").await?;
    let address = listener.local_addr()?;
    let (mut near, mut far) = (Vec::new(), Vec::new());
    for _ in 0..WATCHERS {
        let (dialed, accepted) = tokio::join!(TcpStream::connect(address), listener.accept());
        near.push(dialed?);
        far.push(accepted?.0);
    }
    let mut times = Vec::new();
    for _ in 0..TOLD {
        let begun = Instant::now();
        // A task for each, as a server has them.
        let mut told = JoinSet::new();
        for mut stream in far.drain(..) {
            told.spawn(async move { stream.write_all(&[7; EVENT_BYTES]).await.map(|()| stream) });
        }
        let heard = near.iter_mut().map(async |stream| stream.read_exact(&mut [0; EVENT_BYTES]).await);
        try_join_all(heard).await?;
        times.push(millis(begun.elapsed()));
        while let Some(stream) = told.join_next().await {
            far.push(stream??);
        }
    }
    Ok(median(&mut times))
}

/// One write, and how long until the last of many watchers has seen it.
async fn bench_watch(client: &Client) -> anyhow::Result<()> {
    let maps: Api<ConfigMap> = Api::default_namespaced(client.clone());
    let map: ConfigMap = serde_json::from_value(json!({ "metadata": { "name": "seen" } }))?;
    let made = maps.create(&PostParams::default(), &map).await?;
    let revision = made.metadata.resource_version.context("it has a revision")?;
    let params = WatchParams::default().fields("metadata.name=seen").timeout(120);
    // Each has a task, as each watcher is a program of its own.
    let (saw, mut seen) = mpsc::channel(WATCHERS);
    let mut watchers = JoinSet::new();
    for _ in 0..WATCHERS {
        let (mut watch, saw) = (maps.watch(&params, &revision).await?.boxed(), saw.clone());
        watchers.spawn(async move {
            while let Ok(Some(event)) = watch.try_next().await {
                if matches!(event, WatchEvent::Modified(_)) && saw.send(()).await.is_err() {
                    return;
                }
            }
        });
    }
    let mut times = Vec::new();
    for round in 0..TOLD {
        let begun = Instant::now();
        let merge = Patch::Merge(json!({ "data": { "round": round.to_string() } }));
        maps.patch("seen", &PatchParams::default(), &merge).await?;
        let all = async {
            for _ in 0..WATCHERS {
                seen.recv().await.context("a watch ended")?;
            }
            anyhow::Ok(())
        };
        tokio::time::timeout(Duration::from_secs(10), all).await??;
        times.push(millis(begun.elapsed()));
    }
    let (figure, floor) = (median(&mut times), bench_bare_connections().await?);
    row("one write, 1,000 watchers: until the last has it", figure, "ms", 20.0, figure <= 20.0);
    row("  … 1,000 bare connections that are told the same", floor, "ms", 0.0, true);
    row("  … as a ratio to them", figure / floor, "x", 3.0, figure / floor <= 3.0);
    Ok(())
}

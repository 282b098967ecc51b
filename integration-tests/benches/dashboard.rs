//! What the dashboard costs the browser, with the budget beside each figure: bytes and time until something is painted, frames with 60 and
//! with 300 pods while they change, and memory after an hour of events: `cargo bench --bench dashboard [paint|frames|memory]`.
//!
//! Headless Chromium draws without a graphics processor here, so frames are those of the processor alone. The pods have a scheduling gate:
//! they are drawn as all are, and no container runs that would take the machine from the browser.

#![allow(clippy::print_stdout, reason = "a bench prints its figures")]
#![allow(clippy::unwrap_used, reason = "a bench that cannot go on stops")]
#![allow(clippy::disallowed_methods, reason = "a bench measures real time")]

#[path = "../harness/mod.rs"]
#[allow(dead_code, unreachable_pub, clippy::print_stderr, reason = "tests need more of it than this bench")]
mod harness;
#[path = "../harness/stats.rs"]
#[allow(dead_code, reason = "other benches need more of it")]
mod stats;

use harness::{browser::Browser, client::client, cluster::Cluster, tools::run, wait::until_equal};
use k8s_openapi::api::core::v1::Pod;
use kube::{
    Api, Client,
    api::{ListParams, Patch, PatchParams},
};
use serde_json::{Value, json};
use stats::{median, percentile, row};
use std::{
    sync::atomic::{AtomicBool, Ordering},
    time::Duration,
};

const PAINT_KB_MAX: f64 = 60.0;
const PAINT_MS_MAX: f64 = 100.0;
/// 60 frames a second.
const FRAME_MS_MAX: f64 = 1000.0 / 60.0;
/// With 300 pods the picture is usable: 20 frames a second.
const MANY_FRAME_MS_MAX: f64 = 50.0;
/// How much the page may have grown by an hour of events.
const GROWN_MB_MAX: f64 = 10.0;
/// Changes a second while frames are counted: ten pods in the middle of a rollout.
const CHANGES_PER_SECOND: u64 = 20;
/// An hour at one change a second.
const EVENTS_OF_AN_HOUR: usize = 3600;
const FRAMES: usize = 240;
const RELOADS: usize = 9;
const SOON: Duration = Duration::from_secs(120);

fn main() {
    let wanted: Vec<String> = std::env::args().skip(1).filter(|a| !a.starts_with('-')).collect();
    let wants = |part: &str| wanted.is_empty() || wanted.iter().any(|w| w == part);
    let Some(browser) = Browser::start(1440, 900) else { return };
    let cluster = Cluster::start_with("dash-bench", &["--dashboard-address", "127.0.0.1:0"]);
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
    let api = runtime.block_on(client(&cluster));
    cluster.apply(
        "apiVersion: apps/v1\nkind: Deployment\nmetadata: {name: many}\nspec:\n  replicas: 60\n  selector: {matchLabels: {app: many}}\n  \
         template:\n    metadata: {labels: {app: many}}\n    spec:\n      schedulingGates: [{name: bench.skiff.dev/drawn}]\n      \
         containers: [{name: c, image: none}]\n",
    );
    browser.open(run(&mut cluster.skiff(&["open", "--print"])).trim());
    has_pods(&browser, 60);
    if wants("paint") {
        bench_paint(&browser);
    }
    if wants("frames") {
        bench_frames(&browser, &runtime, &api, "60 pods", FRAME_MS_MAX);
        cluster.kubectl(&["scale", "deployment/many", "--replicas=300"]);
        has_pods(&browser, 300);
        bench_frames(&browser, &runtime, &api, "300 pods", MANY_FRAME_MS_MAX);
        cluster.kubectl(&["scale", "deployment/many", "--replicas=60"]);
        has_pods(&browser, 60);
    }
    if wants("memory") {
        bench_memory(&browser, &runtime, &api);
    }
}

fn has_pods(browser: &Browser, n: usize) {
    let words = format!("of {n} pods");
    let shown = || {
        browser
            .run("return document.querySelector('.summary')?.innerText ?? ''")
            .as_str()
            .unwrap_or_default()
            .contains(&words)
    };
    until_equal(&words, SOON, true, shown);
}

fn number(value: &Value) -> f64 {
    value.as_f64().unwrap_or(f64::NAN)
}

/// What comes over the wire, and when something is seen, with nothing kept by the browser.
fn bench_paint(browser: &Browser) {
    browser.command("Network.setCacheDisabled", &json!({ "cacheDisabled": true }));
    let (mut painted, mut bytes) = (Vec::new(), 0.0);
    for _ in 0..RELOADS {
        browser.run("window.isOld = true; location.reload()");
        browser.until("!window.isOld && performance.getEntriesByName('first-contentful-paint').length");
        // Parts may come after the first of them was painted.
        has_pods(browser, 60);
        painted
            .push(number(&browser.run("return performance.getEntriesByName('first-contentful-paint')[0].startTime")));
        bytes = number(&browser.run(
            "return ['navigation', 'resource'].flatMap((kind) => performance.getEntriesByType(kind))
                .filter((entry) => /(\\.js|\\.css|\\.svg|\\/)$/.test(new URL(entry.name).pathname))
                .reduce((sum, entry) => sum + entry.encodedBodySize, 0)",
        ));
    }
    let painted = median(&mut painted);
    row("bytes until the first paint", bytes / 1000.0, "kB", PAINT_KB_MAX, bytes / 1000.0 <= PAINT_KB_MAX);
    row("first contentful paint", painted, "ms", PAINT_MS_MAX, painted <= PAINT_MS_MAX);
}

/// The time between frames while pods change.
fn bench_frames(browser: &Browser, runtime: &tokio::runtime::Runtime, api: &Client, what: &str, budget: f64) {
    let goes_on = AtomicBool::new(true);
    let frames = std::thread::scope(|scope| {
        scope.spawn(|| runtime.block_on(change_pods(api, &goes_on)));
        let frames = browser.run_async(&format!(
            "const done = arguments[arguments.length - 1], all = [];
            const next = (last) => requestAnimationFrame((now) => {{
              all.push(now - last);
              if (all.length > {FRAMES}) done(all.slice(1)); else next(now);
            }});
            requestAnimationFrame(next);"
        ));
        goes_on.store(false, Ordering::Relaxed);
        frames
    });
    let mut frames: Vec<f64> = frames.as_array().unwrap().iter().map(number).collect();
    let (usual, slow) = (median(&mut frames), percentile(&mut frames, 95.0));
    // A tenth of a millisecond: what the browser rounds.
    row(
        &format!("a frame with {what}, {CHANGES_PER_SECOND} changes a second"),
        usual,
        "ms",
        budget,
        usual <= budget + 0.1,
    );
    row("  … the slowest of twenty", slow, "ms", 2.0 * budget, slow <= 2.0 * budget + 0.1);
}

async fn names(api: &Client) -> (Api<Pod>, Vec<String>) {
    let pods: Api<Pod> = Api::default_namespaced(api.clone());
    let all = pods.list(&ListParams::default()).await.unwrap();
    (pods, all.items.into_iter().filter_map(|pod| pod.metadata.name).collect())
}

async fn change_pods(api: &Client, goes_on: &AtomicBool) {
    let (pods, names) = names(api).await;
    let mut pace = tokio::time::interval(Duration::from_secs(1) / u32::try_from(CHANGES_PER_SECOND).unwrap());
    for (n, name) in names.iter().cycle().enumerate() {
        pace.tick().await;
        if !goes_on.load(Ordering::Relaxed) {
            return;
        }
        change(&pods, name, n).await;
    }
}

async fn change(pods: &Api<Pod>, name: &str, n: usize) {
    let mark = json!({ "metadata": { "labels": { "n": n.to_string() } } });
    pods.patch(name, &PatchParams::default(), &Patch::Merge(mark)).await.unwrap();
}

/// What the page holds before and after as many changes as an hour brings.
fn bench_memory(browser: &Browser, runtime: &tokio::runtime::Runtime, api: &Client) {
    let held = || {
        browser.command("HeapProfiler.collectGarbage", &json!({}));
        number(&browser.command("Runtime.getHeapUsage", &json!({}))["usedSize"]) / 1e6
    };
    let before = held();
    let last = runtime.block_on(async {
        let (pods, names) = names(api).await;
        for (n, name) in names.iter().cycle().enumerate().take(EVENTS_OF_AN_HOUR) {
            change(&pods, name, n).await;
        }
        // And one that is seen.
        let mark = json!({ "metadata": { "labels": { "last": "yes" } } });
        pods.patch(&names[0], &PatchParams::default(), &Patch::Merge(mark)).await.unwrap();
        names[0].clone()
    });
    browser.run(&format!("location.hash = '#at=Pod/default/{last}'"));
    browser.until("document.body.innerText.includes('last=yes') || document.body.innerText.includes('last: yes')");
    browser.run("location.hash = ''");
    let after = held();
    row("the page's memory with 60 pods", before, "MB", f64::INFINITY, true);
    row("  … grown by an hour of events", after - before, "MB", GROWN_MB_MAX, after - before <= GROWN_MB_MAX);
}

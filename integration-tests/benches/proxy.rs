//! A NodePort as users have it (`skiff up`, the data plane in its container) beside HAProxy in tcp mode and a direct connection, in
//! one run: `cargo bench --bench proxy [new|kept|bulk|latency|idle|restart]`.
//!
//! nginx on this machine is the endpoint, wrk the client; what is missing is installed (Debian and Ubuntu, as root). The ways take
//! turns within each round, and each round begins with another, so that a busy machine hurts all alike; figures are medians over the
//! rounds, ratios are taken within a round. On a shared machine the processor time per request or byte tells more than the rate, so
//! both are shown.
//!
//! `SKIFF_BENCH_ROUNDS` and `SKIFF_BENCH_SECONDS` (per way and round) make it longer or shorter.

#![allow(clippy::print_stdout, reason = "a bench prints its figures")]
#![allow(clippy::unwrap_used, reason = "a bench that cannot go on stops")]
#![allow(clippy::disallowed_methods, reason = "a bench measures real time")]
#![allow(clippy::cast_precision_loss, reason = "figures for people")]

#[path = "../harness/mod.rs"]
#[allow(dead_code, unreachable_pub, clippy::print_stderr, reason = "tests need more of it than this bench")]
mod harness;
#[path = "../harness/stats.rs"]
mod stats;

use harness::{
    cluster::{Cluster, answers, http_get},
    processes::processor_secs,
    rivals::{self, PATIENCE, Seen},
    tools::docker,
    wait::eventually,
};
use stats::{median, millis, percentile, row};
use std::{
    net::{Ipv4Addr, SocketAddr},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering::Relaxed},
    },
    time::{Duration, Instant},
};

const SMALL_BYTES: usize = 612;
const LARGE_MIB: usize = 16;
/// For how long an idle data plane is watched.
const IDLE: Duration = Duration::from_secs(20);
/// How often the data plane is restarted, and killed.
const RESTARTS: usize = 5;

/// How one load is made.
struct Load {
    part: &'static str,
    name: &'static str,
    connections: usize,
    path: &'static str,
    closes: bool,
    /// What a request moves, to give processor time per request or per MiB.
    unit: &'static str,
    units_per_request: f64,
}

const LOADS: [Load; 5] = [
    load("new", "new connection per request, 64", 64, true),
    load("kept", "kept connections, 64", 64, false),
    load("latency", "kept connection, one at a time", 1, false),
    load("latency", "new connection, one at a time", 1, true),
    Load {
        path: "large",
        unit: "MiB",
        units_per_request: LARGE_MIB as f64,
        ..load("bulk", "16 MiB bodies, 8", 8, false)
    },
];

const fn load(part: &'static str, name: &'static str, connections: usize, closes: bool) -> Load {
    Load { part, name, connections, path: "small", closes, unit: "request", units_per_request: 1.0 }
}

/// One way to the endpoint.
struct Way {
    name: &'static str,
    address: SocketAddr,
    /// Whose processor time counts as the way's.
    pid: Option<u32>,
}

const DIRECT: usize = 0;
const HAPROXY: [usize; 2] = [1, 2];
const OURS: usize = 3;

fn main() {
    // `cargo bench` passes --bench; a filter picks parts.
    let wanted: Vec<String> = std::env::args().skip(1).filter(|a| !a.starts_with('-')).collect();
    let wants = |part: &str| wanted.is_empty() || wanted.iter().any(|w| w == part);
    assert_eq!(rivals::present(["nginx", "haproxy", "wrk"]), [true; 3], "nginx, HAProxy and wrk are needed");
    let dir = tempfile::tempdir().unwrap();
    let cluster = Cluster::start("proxy");
    let endpoint = rivals::free_node_address(&cluster);
    let files = [("index.html", SMALL_BYTES), ("small", SMALL_BYTES), ("large", LARGE_MIB << 20)];
    let _nginx = rivals::nginx_with_files(dir.path(), endpoint, &files);
    let (plain, splicing) = (rivals::free_address(), rivals::free_address());
    let haproxy = |name, address: SocketAddr, option: &str| {
        let sections = ["", &format!("mode tcp\n  {option}"), &format!("bind {address}")];
        rivals::haproxy(dir.path(), name, sections, endpoint)
    };
    let haproxy_plain = haproxy("plain", plain, "");
    let haproxy_splicing = haproxy("splicing", splicing, "option splice-request\n  option splice-response");
    let ours = serve(&cluster, endpoint);
    let ways = [
        Way { name: "direct", address: endpoint, pid: None },
        Way { name: "haproxy", address: plain, pid: Some(haproxy_plain.pid()) },
        Way { name: "haproxy splice", address: splicing, pid: Some(haproxy_splicing.pid()) },
        Way { name: "skiff", address: ours, pid: Some(cluster.data_plane().1) },
    ];
    ways.iter().for_each(|way| rivals::wait_for(way.address));
    if wants("idle") {
        bench_idle(cluster.data_plane().1, "data plane, idle, unused");
    }
    for load in LOADS.iter().filter(|load| wants(load.part)) {
        bench_load(load, &ways);
    }
    if wants("idle") {
        bench_idle(cluster.data_plane().1, "data plane, idle, after load");
    }
    if wants("restart") {
        bench_restart(&cluster, ours.port());
    }
}

/// Has the cluster serve the endpoint at a NodePort.
fn serve(cluster: &Cluster, endpoint: SocketAddr) -> SocketAddr {
    let slice = rivals::endpoint_slice(endpoint);
    cluster.apply(&format!(
        "{{apiVersion: v1, kind: Service, metadata: {{name: bench}}, spec: {{type: NodePort, ports: [{{port: 80}}]}}}}\n---\n{slice}"
    ));
    let port = cluster.jsonpath(&["service", "bench"], "{.spec.ports[0].nodePort}").parse().unwrap();
    answers(port);
    (Ipv4Addr::LOCALHOST, port).into()
}

fn bench_load(load: &Load, ways: &[Way]) {
    report(load, ways, &rivals::in_turns(ways, |way| measure(way, load)));
}

fn measure(way: &Way, load: &Load) -> Seen {
    let url = format!("http://{}/{}", way.address, load.path);
    let headers = load.closes.then_some("Connection: close");
    let seen = rivals::wrk(way.name, &url, load.connections, headers.as_slice(), way.pid.as_slice());
    assert!(!seen.has_failures, "{} lost requests", way.name);
    seen
}

fn report(load: &Load, ways: &[Way], rounds: &[Vec<Seen>]) {
    let cpu_us = |seen: &Seen| seen.cpu_us / (seen.requests * load.units_per_request);
    let over = |read: &dyn Fn(&[Seen]) -> f64| median(&mut rounds.iter().map(|round| read(round)).collect::<Vec<_>>());
    println!("\n{:<34} {:>12} {:>8} {:>10} {:>18}", load.name, "rate", "/direct", "p50", "processor time");
    for (at, way) in ways.iter().enumerate() {
        let (rate, share) = (over(&|r| r[at].rate), over(&|r| r[at].rate / r[DIRECT].rate));
        let (p50, cpu) = (over(&|r| r[at].p50_us), over(&|r| cpu_us(&r[at])));
        let cpu = if way.pid.is_some() { format!("{cpu:.1} us/{}", load.unit) } else { "-".to_owned() };
        println!("  {:<32} {rate:>10.0}/s {share:>8.2} {p50:>7.0} us {cpu:>18}", way.name);
    }
    let rate = HAPROXY.map(|peer| over(&|r| r[OURS].rate / r[peer].rate)).into_iter().fold(f64::MAX, f64::min);
    let cpu = HAPROXY.map(|peer| over(&|r| cpu_us(&r[OURS]) / cpu_us(&r[peer]))).into_iter().fold(0.0, f64::max);
    if load.part == "latency" {
        let added = over(&|r| r[OURS].p50_us - r[DIRECT].p50_us);
        let peers =
            HAPROXY.map(|peer| over(&|r| r[peer].p50_us - r[DIRECT].p50_us)).into_iter().fold(f64::MAX, f64::min);
        if load.closes {
            // Two more connections are made: the budget is the peer's figure.
            row("  added p50 latency, beside HAProxy's", added, "us", peers, added <= peers);
        } else {
            row("  added p50 latency", added, "us", 60.0, added <= 60.0);
        }
        return;
    }
    let least = if load.part == "bulk" { 0.9 } else { 1.0 };
    row("  rate / HAProxy's best", rate, "x", least, rate >= least);
    row("  processor time / HAProxy's least", cpu, "x", 1.0, cpu <= 1.0);
}

fn bench_idle(pid: u32, name: &str) {
    let (before, begun) = (processor_secs(&[pid]), Instant::now());
    std::thread::sleep(IDLE);
    let share = (processor_secs(&[pid]) - before) / begun.elapsed().as_secs_f64() * 100.0;
    println!("\n{name}");
    let (memory, anonymous) = rivals::memory_mib(pid);
    row("  resident memory", memory, "MiB", 15.0, memory <= 15.0);
    println!("  … of which not the binary: {anonymous:.2} MiB");
    row("  share of a core", share, "%", 0.1, share <= 0.1);
}

/// How long a NodePort does not answer while the data plane restarts, and after it was killed.
fn bench_restart(cluster: &Cluster, port: u16) {
    println!("\nrestart of the data plane, {RESTARTS} times each");
    for (what, act) in [("docker restart", &["restart"][..]), ("docker kill", &["kill"])] {
        let mut gaps = Vec::new();
        for _ in 0..RESTARTS {
            let (id, pid) = cluster.data_plane();
            let watch = GapWatch::start(port);
            docker(&[act, &[&id]].concat());
            eventually("another process serves", PATIENCE, || {
                if cluster.data_plane().1 == pid { Err("the same process") } else { Ok(()) }
            });
            answers(port);
            gaps.push(millis(watch.longest()));
        }
        let worst = percentile(&mut gaps, 100.0);
        row(
            &format!("  {what}: longest time without an answer, median"),
            median(&mut gaps),
            "ms",
            1000.0,
            worst < 1000.0,
        );
    }
}

/// Asks a port again and again, and remembers the longest time between two answers.
struct GapWatch {
    stop: Arc<AtomicBool>,
    thread: std::thread::JoinHandle<Duration>,
}

impl GapWatch {
    fn start(port: u16) -> Self {
        let stop = Arc::new(AtomicBool::new(false));
        let stopped = Arc::clone(&stop);
        let thread = std::thread::spawn(move || {
            let (mut last, mut longest) = (Instant::now(), Duration::ZERO);
            while !stopped.load(Relaxed) {
                if http_get(port).is_ok() {
                    longest = longest.max(last.elapsed());
                    last = Instant::now();
                }
                std::thread::sleep(Duration::from_millis(1));
            }
            longest
        });
        Self { stop, thread }
    }

    fn longest(self) -> Duration {
        self.stop.store(true, Relaxed);
        self.thread.join().unwrap()
    }
}

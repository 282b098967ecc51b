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
    ports::free_port,
    processes::processor_secs,
    tools::{docker, run},
    wait::eventually,
};
use stats::{median, millis, percentile, row};
use std::{
    fs,
    net::{Ipv4Addr, SocketAddr, TcpStream},
    path::Path,
    process::{Child, Command, Stdio},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering::Relaxed},
    },
    time::{Duration, Instant},
};

const SMALL_BYTES: usize = 612;
const LARGE_MIB: usize = 16;
const PATIENCE: Duration = Duration::from_secs(20);
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

/// One round of one way.
#[derive(Clone, Copy)]
struct Sample {
    rate: f64,
    p50_us: f64,
    cpu_us_per_unit: f64,
}

/// A program that ends with the bench.
struct Program(Child);

impl Drop for Program {
    fn drop(&mut self) {
        // SIGTERM, so that nginx takes its workers along.
        drop(Command::new("kill").arg(self.0.id().to_string()).status());
        drop(self.0.wait());
    }
}

fn main() {
    // `cargo bench` passes --bench; a filter picks parts.
    let wanted: Vec<String> = std::env::args().skip(1).filter(|a| !a.starts_with('-')).collect();
    let wants = |part: &str| wanted.is_empty() || wanted.iter().any(|w| w == part);
    install_missing(&["nginx", "haproxy", "wrk"]);
    let dir = tempfile::tempdir().unwrap();
    let cluster = Cluster::start("proxy");
    let node = node_address(&cluster);
    let endpoint = SocketAddr::new(node.into(), free_port());
    let _nginx = start_nginx(dir.path(), endpoint);
    let (plain, splicing) = (free_address(), free_address());
    let haproxy = start_haproxy(dir.path(), "plain", plain, endpoint, "");
    let splice = "option splice-request\n  option splice-response";
    let haproxy_splicing = start_haproxy(dir.path(), "splicing", splicing, endpoint, splice);
    let ours = serve(&cluster, endpoint);
    let ways = [
        Way { name: "direct", address: endpoint, pid: None },
        Way { name: "haproxy", address: plain, pid: Some(haproxy.0.id()) },
        Way { name: "haproxy splice", address: splicing, pid: Some(haproxy_splicing.0.id()) },
        Way { name: "skiff", address: ours, pid: Some(cluster.data_plane().1) },
    ];
    ways.iter().for_each(|way| wait_for(way.address));
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

fn setting(name: &str, default: usize) -> usize {
    std::env::var(name).ok().and_then(|text| text.parse().ok()).unwrap_or(default)
}

fn install_missing(programs: &[&str]) {
    let is_missing = |name: &&&str| {
        let version = if **name == "wrk" { "--help" } else { "-v" };
        Command::new(name).arg(version).stdout(Stdio::null()).stderr(Stdio::null()).status().is_err()
    };
    let missing: Vec<&str> = programs.iter().filter(is_missing).copied().collect();
    if !missing.is_empty() {
        run(Command::new("apt-get").args(["install", "-y", "--no-install-recommends"]).args(missing));
    }
}

/// The node's own address, which pods have on their network: EndpointSlices may not name loopback.
fn node_address(cluster: &Cluster) -> Ipv4Addr {
    eventually("the node has an address", PATIENCE, || {
        let path = "{.items[0].status.addresses[?(@.type=='InternalIP')].address}";
        cluster.jsonpath(&["nodes"], path).parse()
    })
}

/// Has the cluster serve the endpoint at a NodePort.
fn serve(cluster: &Cluster, endpoint: SocketAddr) -> SocketAddr {
    let (ip, port) = (endpoint.ip(), endpoint.port());
    cluster.apply(&format!(
        "{{apiVersion: v1, kind: Service, metadata: {{name: bench}}, spec: {{type: NodePort, ports: [{{port: 80}}]}}}}\n---\n\
         {{apiVersion: discovery.k8s.io/v1, kind: EndpointSlice, addressType: IPv4, metadata: {{name: bench, \
         labels: {{kubernetes.io/service-name: bench}}}}, ports: [{{port: {port}}}], endpoints: [{{addresses: [{ip}]}}]}}\n"
    ));
    let port = cluster.jsonpath(&["service", "bench"], "{.spec.ports[0].nodePort}").parse().unwrap();
    answers(port);
    (Ipv4Addr::LOCALHOST, port).into()
}

fn free_address() -> SocketAddr {
    (Ipv4Addr::LOCALHOST, free_port()).into()
}

fn wait_for(address: SocketAddr) {
    eventually("somebody listens", PATIENCE, || TcpStream::connect(address).map(drop));
}

fn start_nginx(dir: &Path, address: SocketAddr) -> Program {
    fs::write(dir.join("index.html"), vec![b'x'; SMALL_BYTES]).unwrap();
    fs::write(dir.join("small"), vec![b'x'; SMALL_BYTES]).unwrap();
    fs::write(dir.join("large"), vec![b'x'; LARGE_MIB << 20]).unwrap();
    let root = dir.display();
    let config = format!(
        "daemon off; user root; worker_processes 2; pid {root}/nginx.pid; error_log {root}/nginx.log;\n\
         events {{ worker_connections 4096; }}\n\
         http {{ access_log off; sendfile on; tcp_nopush on; keepalive_requests 1000000000;\n\
         client_body_temp_path {root}/t1; proxy_temp_path {root}/t2; fastcgi_temp_path {root}/t3; uwsgi_temp_path {root}/t4;\n\
         scgi_temp_path {root}/t5; server {{ listen {address} backlog=4096; root {root}; }} }}\n"
    );
    start(dir, "nginx", &["-e", &format!("{root}/nginx.log"), "-c"], "nginx.conf", &config)
}

fn start_haproxy(dir: &Path, name: &str, address: SocketAddr, endpoint: SocketAddr, option: &str) -> Program {
    let threads = std::thread::available_parallelism().unwrap();
    let config = format!(
        "global\n  maxconn 4000\n  nbthread {threads}\n\
         defaults\n  mode tcp\n  timeout connect 5s\n  timeout client 60s\n  timeout server 60s\n  {option}\n\
         frontend f\n  bind {address}\n  default_backend b\nbackend b\n  server s {endpoint}\n"
    );
    start(dir, "haproxy", &["-q", "-f"], &format!("haproxy-{name}.cfg"), &config)
}

fn start(dir: &Path, program: &str, args: &[&str], file: &str, config: &str) -> Program {
    let path = dir.join(file);
    fs::write(&path, config).unwrap();
    let mut command = Command::new(program);
    Program(command.args(args).arg(path).stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap())
}

fn bench_load(load: &Load, ways: &[Way]) {
    let rounds = setting("SKIFF_BENCH_ROUNDS", 12);
    let round = |first: usize| -> Vec<Sample> {
        let mut samples: Vec<(usize, Sample)> =
            (0..ways.len()).map(|n| (first + n) % ways.len()).map(|at| (at, measure(&ways[at], load))).collect();
        samples.sort_by_key(|(at, _)| *at);
        samples.into_iter().map(|(_, sample)| sample).collect()
    };
    report(load, ways, &(0..rounds).map(round).collect::<Vec<_>>());
}

fn measure(way: &Way, load: &Load) -> Sample {
    let before = way.pid.map_or(0.0, cpu_us);
    let threads = load.connections.min(2).to_string();
    let mut wrk = Command::new("wrk");
    wrk.args(["--latency", "-t", &threads, "-c", &load.connections.to_string()]);
    wrk.args(["-d", &format!("{}s", setting("SKIFF_BENCH_SECONDS", 1))]);
    if load.closes {
        wrk.args(["-H", "Connection: close"]);
    }
    let text = run(wrk.arg(format!("http://{}/{}", way.address, load.path)));
    assert!(!text.contains("Socket errors") && !text.contains("Non-2xx"), "{} lost requests:\n{text}", way.name);
    let requests: f64 = word_before(&text, " requests in").parse().unwrap();
    let cpu = way.pid.map_or(0.0, cpu_us) - before;
    Sample {
        rate: word_after(&text, "Requests/sec:").parse().unwrap(),
        p50_us: micros(word_after(&text, "\n     50%")),
        cpu_us_per_unit: cpu / (requests * load.units_per_request),
    }
}

fn word_after<'a>(text: &'a str, mark: &str) -> &'a str {
    text.split_once(mark)
        .and_then(|(_, rest)| rest.split_whitespace().next())
        .unwrap_or_else(|| panic!("no {mark:?}: {text}"))
}

fn word_before<'a>(text: &'a str, mark: &str) -> &'a str {
    text.split_once(mark)
        .and_then(|(head, _)| head.split_whitespace().last())
        .unwrap_or_else(|| panic!("no {mark:?}: {text}"))
}

fn micros(text: &str) -> f64 {
    let number = |unit| text.strip_suffix(unit).and_then(|number| number.parse::<f64>().ok());
    number("us")
        .or_else(|| Some(number("ms")? * 1e3))
        .or_else(|| Some(number("s")? * 1e6))
        .or_else(|| Some(number("m")? * 6e7))
        .unwrap()
}

fn cpu_us(pid: u32) -> f64 {
    processor_secs(&[pid]) * 1e6
}

fn report(load: &Load, ways: &[Way], rounds: &[Vec<Sample>]) {
    let over =
        |read: &dyn Fn(&[Sample]) -> f64| median(&mut rounds.iter().map(|round| read(round)).collect::<Vec<_>>());
    println!("\n{:<34} {:>12} {:>8} {:>10} {:>18}", load.name, "rate", "/direct", "p50", "processor time");
    for (at, way) in ways.iter().enumerate() {
        let (rate, share) = (over(&|r| r[at].rate), over(&|r| r[at].rate / r[DIRECT].rate));
        let (p50, cpu) = (over(&|r| r[at].p50_us), over(&|r| r[at].cpu_us_per_unit));
        let cpu = if way.pid.is_some() { format!("{cpu:.1} us/{}", load.unit) } else { "-".to_owned() };
        println!("  {:<32} {rate:>10.0}/s {share:>8.2} {p50:>7.0} us {cpu:>18}", way.name);
    }
    let rate = HAPROXY.map(|peer| over(&|r| r[OURS].rate / r[peer].rate)).into_iter().fold(f64::MAX, f64::min);
    let cpu = HAPROXY
        .map(|peer| over(&|r| r[OURS].cpu_us_per_unit / r[peer].cpu_us_per_unit))
        .into_iter()
        .fold(0.0, f64::max);
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
    let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
    let kib: f64 = word_after(&status, "VmRSS:").parse().unwrap();
    let anonymous: f64 = word_after(&status, "RssAnon:").parse().unwrap();
    let (before, begun) = (processor_secs(&[pid]), Instant::now());
    std::thread::sleep(IDLE);
    let share = (processor_secs(&[pid]) - before) / begun.elapsed().as_secs_f64() * 100.0;
    println!("\n{name}");
    row("  resident memory", kib / 1024.0, "MiB", 15.0, kib / 1024.0 <= 15.0);
    println!("  … of which not the binary: {:.2} MiB", anonymous / 1024.0);
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

//! The proxy beside a direct connection and HAProxy in tcp mode, in one run: `cargo bench --bench proxy`.
//!
//! Needs `nginx` (the endpoint), `haproxy` (the peer) and `wrk` (the client); says which is missing. Rounds take turns, so that a
//! busy machine hurts all alike; figures are medians of rounds. On a shared machine the processor time per request or byte
//! tells more than the rate, so both are shown.
//!
//! `SKIFF_BENCH_ROUNDS` and `SKIFF_BENCH_SECONDS` (per round) make it longer or shorter.

#![allow(clippy::print_stdout, reason = "a bench prints its figures")]
#![allow(clippy::unwrap_used, reason = "a bench that cannot go on stops")]
#![allow(clippy::cast_precision_loss, reason = "figures for people")]

use skiff::{
    base::clock::Clock,
    net::{
        proxy::{Proxy, ProxySettings},
        table::{ForwardTable, ListenKey, Listener, PortRef, Protocol, Role, Rotation, Target},
    },
};
use std::{
    fs,
    net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream},
    path::Path,
    process::{Child, Command, Stdio},
    sync::Arc,
};

const SMALL_BYTES: usize = 612;
const LARGE_BYTES: usize = 16 << 20;

/// How one load is made.
struct Load {
    name: &'static str,
    connections: usize,
    path: &'static str,
    closes: bool,
    /// What a request moves, to give processor time per request or per MiB.
    unit: &'static str,
    units_per_request: f64,
}

const LOADS: [Load; 4] = [
    Load {
        name: "kept connections (64)",
        connections: 64,
        path: "small",
        closes: false,
        unit: "request",
        units_per_request: 1.0,
    },
    Load {
        name: "new connection per request (64)",
        connections: 64,
        path: "small",
        closes: true,
        unit: "request",
        units_per_request: 1.0,
    },
    Load {
        name: "bulk (16 MiB bodies, 8)",
        connections: 8,
        path: "large",
        closes: false,
        unit: "MiB",
        units_per_request: 16.0,
    },
    Load {
        name: "one at a time (latency)",
        connections: 1,
        path: "small",
        closes: false,
        unit: "request",
        units_per_request: 1.0,
    },
];

/// One way to the endpoint.
struct Way {
    name: &'static str,
    address: SocketAddr,
    /// Whose processor time counts as the way's.
    pid: Option<u32>,
}

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
    let missing: Vec<&str> = ["nginx", "haproxy", "wrk"].into_iter().filter(|name| !is_installed(name)).collect();
    if !missing.is_empty() {
        println!("not measured: {} missing (apt-get install -y {})", missing.join(", "), missing.join(" "));
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    let endpoint = free_address();
    let _nginx = start_nginx(dir.path(), endpoint);
    let (plain, splicing) = (free_address(), free_address());
    let haproxy = start_haproxy(dir.path(), "plain", plain, endpoint, "");
    let haproxy_splicing =
        start_haproxy(dir.path(), "splicing", splicing, endpoint, "option splice-request\n  option splice-response");
    let (_proxy, ours) = start_skiff(endpoint);
    let ways = [
        Way { name: "direct", address: endpoint, pid: None },
        Way { name: "haproxy", address: plain, pid: Some(haproxy.0.id()) },
        Way { name: "haproxy splice", address: splicing, pid: Some(haproxy_splicing.0.id()) },
        Way { name: "skiff", address: ours, pid: Some(std::process::id()) },
    ];
    ways.iter().for_each(|way| wait_for(way.address));
    println!("{:<34} {:<15} {:>12} {:>8} {:>10} {:>18}", "load", "way", "rate", "/direct", "p50", "cpu");
    for load in &LOADS {
        let rounds: Vec<Vec<Sample>> = (0..setting("SKIFF_BENCH_ROUNDS", 7))
            .map(|_| ways.iter().map(|way| measure(way, load)).collect())
            .collect();
        report(load, &ways, &rounds);
    }
}

fn setting(name: &str, default: usize) -> usize {
    std::env::var(name).ok().and_then(|text| text.parse().ok()).unwrap_or(default)
}

fn is_installed(name: &str) -> bool {
    let version = if name == "wrk" { "--help" } else { "-v" };
    Command::new(name).arg(version).stdout(Stdio::null()).stderr(Stdio::null()).status().is_ok()
}

fn free_address() -> SocketAddr {
    TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap().local_addr().unwrap()
}

fn wait_for(address: SocketAddr) {
    for _ in 0..500 {
        if TcpStream::connect(address).is_ok() {
            return;
        }
        #[allow(clippy::disallowed_methods, reason = "a bench may wait for another program")]
        std::thread::sleep(std::time::Duration::from_millis(10));
    }
    panic!("nobody listens on {address}");
}

fn start_nginx(dir: &Path, address: SocketAddr) -> Program {
    fs::write(dir.join("small"), vec![b'x'; SMALL_BYTES]).unwrap();
    fs::write(dir.join("large"), vec![b'x'; LARGE_BYTES]).unwrap();
    let root = dir.display();
    let config = format!(
        "daemon off; worker_processes 2; pid {root}/nginx.pid; error_log {root}/nginx.log;\n\
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

fn start_skiff(endpoint: SocketAddr) -> (Proxy, SocketAddr) {
    let (namespace, service) = ("default".to_owned(), "bench".to_owned());
    let port = Arc::new(PortRef { namespace, service, port: String::new(), protocol: Protocol::Tcp });
    let key = ListenKey { address: (Ipv4Addr::LOCALHOST, 0).into(), protocol: Protocol::Tcp };
    let mut table = ForwardTable::default();
    let rotation = Rotation { targets: vec![Target { address: endpoint, pod: None }], sticky_for: None };
    table.rotations.insert(Arc::clone(&port), rotation);
    let listener = Listener { port, service_uid: String::new(), role: Role::NodePort, sources: Vec::new() };
    table.listeners.insert(key, listener);
    let proxy = Proxy::start(Clock::system(), &ProxySettings::default()).unwrap();
    assert!(proxy.apply(&table).problems.is_empty());
    let address = proxy.bound(key).unwrap();
    (proxy, address)
}

fn measure(way: &Way, load: &Load) -> Sample {
    let before = way.pid.map_or(0.0, cpu_us);
    let threads = load.connections.min(2).to_string();
    let mut wrk = Command::new("wrk");
    wrk.args(["--latency", "-t", &threads, "-c", &load.connections.to_string()]);
    wrk.args(["-d", &format!("{}s", setting("SKIFF_BENCH_SECONDS", 2))]);
    if load.closes {
        wrk.args(["-H", "Connection: close"]);
    }
    let output = wrk.arg(format!("http://{}/{}", way.address, load.path)).output().unwrap();
    let text = String::from_utf8(output.stdout).unwrap();
    assert!(!text.contains("Socket errors"), "{} lost requests:\n{text}", way.name);
    let requests: f64 = word_before(&text, "requests in").parse().unwrap();
    let cpu = way.pid.map_or(0.0, cpu_us) - before;
    Sample {
        rate: word_after(&text, "Requests/sec:").parse().unwrap(),
        p50_us: micros(word_after(&text, "50%")),
        cpu_us_per_unit: cpu / (requests * load.units_per_request),
    }
}

fn word_after<'a>(text: &'a str, mark: &str) -> &'a str {
    text.split_once(mark)
        .and_then(|(_, rest)| rest.split_whitespace().next())
        .unwrap_or_else(|| panic!("no {mark}: {text}"))
}

fn word_before<'a>(text: &'a str, mark: &str) -> &'a str {
    text.split_once(mark)
        .and_then(|(head, _)| head.split_whitespace().last())
        .unwrap_or_else(|| panic!("no {mark}: {text}"))
}

fn micros(text: &str) -> f64 {
    let number = |unit| text.strip_suffix(unit).and_then(|number| number.parse::<f64>().ok());
    number("us").or_else(|| Some(number("ms")? * 1e3)).or_else(|| Some(number("s")? * 1e6)).unwrap()
}

/// Processor time that all threads of a process have used, exactly.
fn cpu_us(pid: u32) -> f64 {
    let threads = fs::read_dir(format!("/proc/{pid}/task")).unwrap();
    let used = |thread: fs::DirEntry| -> Option<f64> {
        let text = fs::read_to_string(thread.path().join("schedstat")).ok()?;
        text.split_whitespace().next()?.parse().ok()
    };
    threads.filter_map(Result::ok).filter_map(used).sum::<f64>() / 1e3
}

fn median(values: impl Iterator<Item = f64>) -> f64 {
    let mut sorted: Vec<f64> = values.collect();
    sorted.sort_by(f64::total_cmp);
    sorted[sorted.len() / 2]
}

fn report(load: &Load, ways: &[Way], rounds: &[Vec<Sample>]) {
    let of = |way: usize, read: fn(&Sample) -> f64| median(rounds.iter().map(|round| read(&round[way])));
    let ratio = |a: usize, b: usize| median(rounds.iter().map(|round| round[a].rate / round[b].rate));
    for (at, way) in ways.iter().enumerate() {
        let (rate, cpu) = (of(at, |s| s.rate), of(at, |s| s.cpu_us_per_unit));
        let (share, p50) = (ratio(at, 0), of(at, |s| s.p50_us));
        let cpu = if way.pid.is_some() { format!("{cpu:.1} us/{}", load.unit) } else { "-".to_owned() };
        println!("{:<34} {:<15} {rate:>10.0}/s {share:>8.2} {p50:>7.0} us {cpu:>18}", load.name, way.name);
    }
    let best = if ratio(1, 2) > 1.0 { 1 } else { 2 };
    let verdict = |what: &str, measured: String, budget: &str, is_met: bool| {
        println!("  {what:<48} {measured:>10}   budget {budget:<10} {}", if is_met { "met" } else { "MISSED" });
    };
    let cpu_ratio = of(3, |s| s.cpu_us_per_unit) / of(1, |s| s.cpu_us_per_unit).min(of(2, |s| s.cpu_us_per_unit));
    if load.connections == 1 {
        let added = median(rounds.iter().map(|round| round[3].p50_us - round[0].p50_us));
        verdict("added p50 latency", format!("{added:.0} us"), "<= 60 us", added <= 60.0);
        return;
    }
    let least = if load.path == "large" { 0.9 } else { 1.0 };
    let rate = ratio(3, best);
    verdict("rate / HAProxy's best", format!("{rate:.2}"), &format!(">= {least:.1}"), rate >= least);
    verdict("processor time / HAProxy's least", format!("{cpu_ratio:.2}"), "<= 1.0", cpu_ratio <= 1.0);
}

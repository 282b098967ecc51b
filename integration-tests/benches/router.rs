//! A Route as users have it (`skiff up`, the router in the data plane's container) beside nginx and HAProxy as HTTP proxies and a direct
//! connection, in one run: `cargo bench --bench router [kept|new|latency|tls|idle]`.
//!
//! nginx on this machine is the endpoint, wrk the client; what is missing is installed (Debian and Ubuntu, as root), and where a peer
//! cannot be had a line says so and its figures are left out. The ways take turns within each round, and each round begins with another;
//! figures are medians over the rounds, ratios are taken within a round. The Route has no cookie, as the peers have none.
//!
//! `SKIFF_BENCH_ROUNDS` and `SKIFF_BENCH_SECONDS` (per way and round) make it longer or shorter.

#![allow(clippy::print_stdout, reason = "a bench prints its figures")]
#![allow(clippy::unwrap_used, reason = "a bench that cannot go on stops")]
#![allow(clippy::disallowed_methods, reason = "a bench measures real time")]
#![allow(clippy::similar_names, reason = "http and https are what they are")]
#![allow(clippy::cast_precision_loss, reason = "figures for people")]

#[path = "../harness/mod.rs"]
#[allow(dead_code, unreachable_pub, clippy::print_stderr, reason = "tests need more of it than this bench")]
mod harness;
#[path = "../harness/stats.rs"]
#[allow(dead_code, reason = "other benches need more of it")]
mod stats;

use harness::{
    cluster::{Cluster, http_get_of},
    ports::free_port,
    processes::processor_secs,
    tools::run,
    wait::eventually,
};
use stats::{median, percentile, row};
use std::{
    fs,
    io::{Read as _, Write as _},
    net::{Ipv4Addr, SocketAddr, TcpStream},
    path::Path,
    process::{Child, Command, Stdio},
    time::{Duration, Instant},
};

const SMALL_BYTES: usize = 612;
const PATIENCE: Duration = Duration::from_secs(20);
const IDLE: Duration = Duration::from_secs(20);
/// The host of the Route, and of the peers.
const HOST: &str = "bench.localhost";
/// Requests a second of the fixed load, and its connections: what every way can bear on two cores.
const PACE: u32 = 2000;
const PACED_CONNECTIONS: u32 = 16;

/// How one load is made.
struct Load {
    part: &'static str,
    name: &'static str,
    connections: usize,
    closes: bool,
    is_tls: bool,
}

const LOADS: [Load; 4] = [
    Load { part: "kept", name: "kept connections, 64", connections: 64, closes: false, is_tls: false },
    Load { part: "new", name: "new connection per request, 64", connections: 64, closes: true, is_tls: false },
    Load { part: "latency", name: "kept connection, one at a time", connections: 1, closes: false, is_tls: false },
    Load { part: "tls", name: "TLS handshake per request, 64", connections: 64, closes: true, is_tls: true },
];

/// One way to the endpoint.
struct Way {
    name: &'static str,
    http: SocketAddr,
    https: Option<SocketAddr>,
    /// Whose processor time counts as the way's.
    pids: Vec<u32>,
}

/// One round of one way.
#[derive(Clone, Copy)]
struct Sample {
    rate: f64,
    p50_us: f64,
    p99_us: f64,
    cpu_us: f64,
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
    install_missing();
    if !["nginx", "wrk"].iter().all(|program| is_there(program)) {
        println!("skipped: nginx, the endpoint, or wrk, the client, is not here and cannot be installed");
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    let cluster = Cluster::start("router-bench");
    let node: Ipv4Addr = eventually("the node has an address", PATIENCE, || {
        let path = "{.items[0].status.addresses[?(@.type=='InternalIP')].address}";
        cluster.jsonpath(&["nodes"], path).parse()
    });
    let endpoint = SocketAddr::new(node.into(), free_port());
    let _endpoint = start_endpoint(dir.path(), endpoint);
    let (http, https) = serve(&cluster, endpoint);
    let certificate = certificate(&cluster, dir.path());
    let mut programs = Vec::new();
    let mut ways = vec![Way { name: "direct", http: endpoint, https: None, pids: Vec::new() }];
    ways.push(start_nginx(dir.path(), endpoint, &certificate, &mut programs));
    if is_there("haproxy") {
        ways.push(start_haproxy(dir.path(), endpoint, &certificate, &mut programs));
    } else {
        println!("HAProxy is not here and cannot be installed: its figures are left out");
    }
    ways.push(Way { name: "skiff", http, https: Some(https), pids: vec![cluster.data_plane().1] });
    ways.iter().flat_map(|way| [Some(way.http), way.https]).flatten().for_each(wait_for);
    for load in LOADS.iter().filter(|load| wants(load.part)) {
        bench_load(load, &ways);
    }
    if wants("latency") {
        bench_pace(&ways);
    }
    if wants("idle") {
        bench_idle(cluster.data_plane().1);
    }
}

fn setting(name: &str, default: usize) -> usize {
    std::env::var(name).ok().and_then(|text| text.parse().ok()).unwrap_or(default)
}

fn is_there(program: &str) -> bool {
    let version = if program == "wrk" { "--help" } else { "-v" };
    Command::new(program).arg(version).stdout(Stdio::null()).stderr(Stdio::null()).status().is_ok()
}

fn install_missing() {
    let missing: Vec<&str> = ["nginx", "haproxy", "wrk"].into_iter().filter(|program| !is_there(program)).collect();
    if !missing.is_empty() {
        let mut install = Command::new("apt-get");
        install.args(["install", "-y", "--no-install-recommends"]).args(missing);
        // What is still missing is said.
        drop(install.stdout(Stdio::null()).stderr(Stdio::null()).status());
    }
}

/// Has the cluster serve the endpoint for the host; where that is.
fn serve(cluster: &Cluster, endpoint: SocketAddr) -> (SocketAddr, SocketAddr) {
    let (ip, port) = (endpoint.ip(), endpoint.port());
    cluster.apply(&format!(
        "{{apiVersion: v1, kind: Service, metadata: {{name: bench}}, spec: {{ports: [{{port: 80, targetPort: {port}}}]}}}}\n---\n\
         {{apiVersion: discovery.k8s.io/v1, kind: EndpointSlice, addressType: IPv4, metadata: {{name: bench, \
         labels: {{kubernetes.io/service-name: bench}}}}, ports: [{{port: {port}}}], endpoints: [{{addresses: [{ip}]}}]}}\n---\n\
         {{apiVersion: route.openshift.io/v1, kind: Route, metadata: {{name: bench, annotations: \
         {{haproxy.router.openshift.io/disable_cookies: 'true'}}}}, spec: {{host: {HOST}, to: {{name: bench}}, \
         tls: {{termination: edge, insecureEdgeTerminationPolicy: Allow}}}}}}\n"
    ));
    let ports = eventually("the Route is admitted", PATIENCE, || {
        let path = "{.status.ingress[0].conditions[0].message}";
        let message = cluster.jsonpath(&["route", "bench"], path);
        let port = |scheme: &str, usual: u16| {
            let url = message.split(' ').find(|word| word.starts_with(&format!("{scheme}://")))?;
            Some(url.rsplit_once(':').and_then(|(_, port)| port.parse().ok()).unwrap_or(usual))
        };
        port("http", 80).zip(port("https", 443)).ok_or(message.clone())
    });
    eventually("the Route answers", PATIENCE, || http_get_of(ports.0, HOST));
    ((Ipv4Addr::LOCALHOST, ports.0).into(), (Ipv4Addr::LOCALHOST, ports.1).into())
}

/// The certificate that the router shows, for the peers, so that all do the same work: a file with certificate and key, and one with the key.
fn certificate(cluster: &Cluster, dir: &Path) -> [String; 2] {
    use base64::{Engine as _, prelude::BASE64_STANDARD};
    let data = eventually("the router has a certificate", PATIENCE, || {
        let path = "{.data.certificates\\.json}";
        let data = cluster.jsonpath(&["secret", "skiff-router", "-n", "kube-system"], path);
        if data.is_empty() { Err("none") } else { Ok(data) }
    });
    let all: serde_json::Value = serde_json::from_slice(&BASE64_STANDARD.decode(data.trim()).unwrap()).unwrap();
    let pair = &all["byHost"][HOST];
    let (certificate, key) = (pair["certificate"].as_str().unwrap(), pair["key"].as_str().unwrap());
    let files = ["both.pem", "key.pem"].map(|name| dir.join(name));
    fs::write(&files[0], format!("{certificate}{key}")).unwrap();
    fs::write(&files[1], key).unwrap();
    files.map(|file| file.display().to_string())
}

fn free_address() -> SocketAddr {
    (Ipv4Addr::LOCALHOST, free_port()).into()
}

fn wait_for(address: SocketAddr) {
    eventually("somebody listens", PATIENCE, || TcpStream::connect(address).map(drop));
}

fn start_endpoint(dir: &Path, address: SocketAddr) -> Program {
    fs::write(dir.join("index.html"), vec![b'x'; SMALL_BYTES]).unwrap();
    let server = format!("server {{ listen {address} backlog=4096; root {}; }}", dir.display());
    nginx(dir, "endpoint", &server)
}

fn start_nginx(dir: &Path, endpoint: SocketAddr, [both, key]: &[String; 2], programs: &mut Vec<Program>) -> Way {
    let (http, https) = (free_address(), free_address());
    let server = format!(
        "upstream u {{ server {endpoint}; keepalive 128; keepalive_requests 1000000000; }}\n\
         server {{ listen {http} backlog=4096; listen {https} ssl backlog=4096; server_name {HOST};\n\
         ssl_certificate {both}; ssl_certificate_key {key}; ssl_session_tickets off;\n\
         location / {{ proxy_pass http://u; proxy_http_version 1.1; proxy_set_header Connection \"\"; proxy_set_header Host $http_host;\n\
         proxy_set_header X-Forwarded-For $proxy_add_x_forwarded_for; proxy_set_header X-Forwarded-Proto $scheme;\n\
         proxy_set_header X-Forwarded-Host $http_host; proxy_set_header X-Forwarded-Port $server_port; }} }}"
    );
    let program = nginx(dir, "proxy", &server);
    let master = program.0.id();
    programs.push(program);
    wait_for(http);
    let children = run(Command::new("pgrep").args(["-P", &master.to_string()]));
    let pids = children.split_whitespace().filter_map(|pid| pid.parse().ok()).collect();
    Way { name: "nginx", http, https: Some(https), pids }
}

fn nginx(dir: &Path, name: &str, server: &str) -> Program {
    let root = dir.join(name);
    fs::create_dir_all(&root).unwrap();
    let root = root.display();
    let config = format!(
        "daemon off; user root; worker_processes 2; pid {root}/nginx.pid; error_log {root}/nginx.log;\n\
         events {{ worker_connections 4096; }}\n\
         http {{ access_log off; sendfile on; tcp_nopush on; keepalive_requests 1000000000;\n\
         client_body_temp_path {root}/t1; proxy_temp_path {root}/t2; fastcgi_temp_path {root}/t3; uwsgi_temp_path {root}/t4;\n\
         scgi_temp_path {root}/t5; {server} }}\n"
    );
    start(dir, "nginx", &["-e", &format!("{root}/nginx.log"), "-c"], &format!("nginx-{name}.conf"), &config)
}

fn start_haproxy(dir: &Path, endpoint: SocketAddr, [both, _]: &[String; 2], programs: &mut Vec<Program>) -> Way {
    let (http, https) = (free_address(), free_address());
    let threads = std::thread::available_parallelism().unwrap();
    let config = format!(
        "global\n  maxconn 4000\n  nbthread {threads}\n  ssl-default-bind-options no-tls-tickets\n\
         defaults\n  mode http\n  option forwardfor\n  http-reuse aggressive\n  timeout connect 5s\n  timeout client 60s\n  timeout server 60s\n\
         frontend f\n  bind {http}\n  bind {https} ssl crt {both}\n  default_backend b\nbackend b\n  server s {endpoint}\n"
    );
    let program = start(dir, "haproxy", &["-q", "-f"], "haproxy.cfg", &config);
    let pids = vec![program.0.id()];
    programs.push(program);
    Way { name: "haproxy", http, https: Some(https), pids }
}

fn start(dir: &Path, program: &str, args: &[&str], file: &str, config: &str) -> Program {
    let path = dir.join(file);
    fs::write(&path, config).unwrap();
    let mut command = Command::new(program);
    Program(command.args(args).arg(path).stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap())
}

fn bench_load(load: &Load, ways: &[Way]) {
    let ways: Vec<&Way> = ways.iter().filter(|way| !load.is_tls || way.https.is_some()).collect();
    let rounds = setting("SKIFF_BENCH_ROUNDS", 12);
    let round = |first: usize| -> Vec<Sample> {
        let order = (0..ways.len()).map(|n| (first + n) % ways.len());
        let mut samples: Vec<(usize, Sample)> = order.map(|at| (at, measure(ways[at], load))).collect();
        samples.sort_by_key(|(at, _)| *at);
        samples.into_iter().map(|(_, sample)| sample).collect()
    };
    report(load.name, &ways, &(0..rounds).map(round).collect::<Vec<_>>());
}

fn measure(way: &Way, load: &Load) -> Sample {
    let before = cpu_us(&way.pids);
    let threads = load.connections.min(2).to_string();
    let mut wrk = Command::new("wrk");
    wrk.args(["--latency", "-t", &threads, "-c", &load.connections.to_string()]);
    wrk.args(["-d", &format!("{}s", setting("SKIFF_BENCH_SECONDS", 1)), "-H", &format!("Host: {HOST}")]);
    if load.closes {
        wrk.args(["-H", "Connection: close"]);
    }
    let url = match way.https.filter(|_| load.is_tls) {
        Some(https) => format!("https://{https}/"),
        None => format!("http://{}/", way.http),
    };
    let text = run(wrk.arg(url));
    assert!(!text.contains("Non-2xx"), "{} lost requests:\n{text}", way.name);
    let requests: f64 = word_before(&text, " requests in").parse().unwrap();
    Sample {
        rate: word_after(&text, "Requests/sec:").parse().unwrap(),
        p50_us: micros(word_after(&text, "\n     50%")),
        p99_us: micros(word_after(&text, "\n     99%")),
        cpu_us: (cpu_us(&way.pids) - before) / requests,
    }
}

fn report(name: &str, ways: &[&Way], rounds: &[Vec<Sample>]) {
    let over =
        |read: &dyn Fn(&[Sample]) -> f64| median(&mut rounds.iter().map(|round| read(round)).collect::<Vec<_>>());
    println!("\n{name:<34} {:>12} {:>10} {:>10} {:>18}", "rate", "p50", "p99", "processor time");
    for (at, way) in ways.iter().enumerate() {
        let (rate, p50, p99) = (over(&|r| r[at].rate), over(&|r| r[at].p50_us), over(&|r| r[at].p99_us));
        let cpu =
            if way.pids.is_empty() { "-".to_owned() } else { format!("{:.1} us/request", over(&|r| r[at].cpu_us)) };
        println!("  {:<32} {rate:>10.0}/s {p50:>7.0} us {p99:>7.0} us {cpu:>18}", way.name);
    }
    let place = |name: &str| ways.iter().position(|way| way.name == name);
    let Some((ours, peer)) = place("skiff").zip(place("nginx")) else { return };
    let (rate, cpu) = (over(&|r| r[ours].rate / r[peer].rate), over(&|r| r[ours].cpu_us / r[peer].cpu_us));
    row("  rate / nginx's", rate, "x", 1.0, rate >= 1.0);
    row("  processor time / nginx's", cpu, "x", 1.0, cpu <= 1.0);
}

/// How long answers take at a load that is the same for every way.
fn bench_pace(ways: &[Way]) {
    let lasts = Duration::from_secs(3) * u32::try_from(setting("SKIFF_BENCH_SECONDS", 1)).unwrap();
    println!("\n{PACE} requests a second, {PACED_CONNECTIONS} connections, {} s", lasts.as_secs());
    let mut high = Vec::new();
    for way in ways {
        let mut times = paced(way.http, lasts);
        let (p50, p99) = (percentile(&mut times, 50.0), percentile(&mut times, 99.0));
        println!("  {:<32} p50 {p50:>7.0} us  p99 {p99:>7.0} us", way.name);
        high.push((way.name, p99));
    }
    let of = |name: &str| high.iter().find(|(way, _)| *way == name).map(|(_, time)| *time);
    if let Some((ours, peer)) = of("skiff").zip(of("nginx")) {
        row("  p99, beside nginx'", ours, "us", peer, ours <= peer);
    }
}

/// Asks at a pace, whatever the answers take; how long each took from when it was due, in microseconds.
fn paced(address: SocketAddr, lasts: Duration) -> Vec<f64> {
    let clients: Vec<_> =
        (0..PACED_CONNECTIONS).map(|client| std::thread::spawn(move || paced_client(address, lasts, client))).collect();
    clients.into_iter().flat_map(|client| client.join().unwrap()).collect()
}

fn paced_client(address: SocketAddr, lasts: Duration, client: u32) -> Vec<f64> {
    let between = Duration::from_secs(1) * PACED_CONNECTIONS / PACE;
    let mut stream = TcpStream::connect(address).unwrap();
    stream.set_nodelay(true).unwrap();
    let request = format!("GET / HTTP/1.1\r\nHost: {HOST}\r\n\r\n");
    let begun = Instant::now();
    let mut due = begun + between * client / PACED_CONNECTIONS;
    let (mut times, mut answer) = (Vec::new(), [0; 8192]);
    while begun.elapsed() < lasts {
        std::thread::sleep(due.saturating_duration_since(Instant::now()));
        stream.write_all(request.as_bytes()).unwrap();
        let mut n = 0;
        while n < SMALL_BYTES || !answer[..n].ends_with(&[b'x'; SMALL_BYTES]) {
            n += stream.read(&mut answer[n..]).unwrap();
        }
        times.push(due.elapsed().as_secs_f64() * 1e6);
        due += between;
    }
    times
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

fn cpu_us(pids: &[u32]) -> f64 {
    processor_secs(pids) * 1e6
}

fn bench_idle(pid: u32) {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
    let kib: f64 = word_after(&status, "VmRSS:").parse().unwrap();
    let (before, begun) = (processor_secs(&[pid]), Instant::now());
    std::thread::sleep(IDLE);
    let share = (processor_secs(&[pid]) - before) / begun.elapsed().as_secs_f64() * 100.0;
    println!("\ndata plane with a Route, idle, after load");
    row("  resident memory", kib / 1024.0, "MiB", 15.0, kib / 1024.0 <= 15.0);
    row("  share of a core", share, "%", 0.1, share <= 0.1);
}

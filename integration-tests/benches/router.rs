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
    processes::processor_secs,
    rivals::{self, PATIENCE, Program, Seen},
    tools::run,
    wait::eventually,
};
use stats::{median, percentile, row};
use std::{
    fs,
    io::{Read as _, Write as _},
    net::{Ipv4Addr, SocketAddr, TcpStream},
    path::Path,
    process::Command,
    time::{Duration, Instant},
};

const SMALL_BYTES: usize = 612;
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

fn main() {
    // `cargo bench` passes --bench; a filter picks parts.
    let wanted: Vec<String> = std::env::args().skip(1).filter(|a| !a.starts_with('-')).collect();
    let wants = |part: &str| wanted.is_empty() || wanted.iter().any(|w| w == part);
    let [has_nginx, has_haproxy, has_wrk] = rivals::present(["nginx", "haproxy", "wrk"]);
    if !(has_nginx && has_wrk) {
        println!("skipped: nginx, the endpoint, or wrk, the client, is not here and cannot be installed");
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    let cluster = Cluster::start("router-bench");
    let endpoint = rivals::free_node_address(&cluster);
    let _endpoint = rivals::nginx_with_files(dir.path(), endpoint, &[("index.html", SMALL_BYTES)]);
    let (http, https) = serve(&cluster, endpoint);
    let certificate = certificate(&cluster, dir.path());
    let mut programs = Vec::new();
    let mut ways = vec![Way { name: "direct", http: endpoint, https: None, pids: Vec::new() }];
    ways.push(start_nginx(dir.path(), endpoint, &certificate, &mut programs));
    if has_haproxy {
        ways.push(start_haproxy(dir.path(), endpoint, &certificate, &mut programs));
    } else {
        println!("HAProxy is not here and cannot be installed: its figures are left out");
    }
    ways.push(Way { name: "skiff", http, https: Some(https), pids: vec![cluster.data_plane().1] });
    ways.iter().flat_map(|way| [Some(way.http), way.https]).flatten().for_each(rivals::wait_for);
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

/// Has the cluster serve the endpoint for the host; where that is.
fn serve(cluster: &Cluster, endpoint: SocketAddr) -> (SocketAddr, SocketAddr) {
    let (port, slice) = (endpoint.port(), rivals::endpoint_slice(endpoint));
    cluster.apply(&format!(
        "{{apiVersion: v1, kind: Service, metadata: {{name: bench}}, spec: {{ports: [{{port: 80, targetPort: {port}}}]}}}}\n---\n\
         {slice}---\n\
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

fn start_nginx(dir: &Path, endpoint: SocketAddr, [both, key]: &[String; 2], programs: &mut Vec<Program>) -> Way {
    let (http, https) = (rivals::free_address(), rivals::free_address());
    let server = format!(
        "upstream u {{ server {endpoint}; keepalive 128; keepalive_requests 1000000000; }}\n\
         server {{ listen {http} backlog=4096; listen {https} ssl backlog=4096; server_name {HOST};\n\
         ssl_certificate {both}; ssl_certificate_key {key}; ssl_session_tickets off;\n\
         location / {{ proxy_pass http://u; proxy_http_version 1.1; proxy_set_header Connection \"\"; proxy_set_header Host $http_host;\n\
         proxy_set_header X-Forwarded-For $proxy_add_x_forwarded_for; proxy_set_header X-Forwarded-Proto $scheme;\n\
         proxy_set_header X-Forwarded-Host $http_host; proxy_set_header X-Forwarded-Port $server_port; }} }}"
    );
    let program = rivals::nginx(dir, "proxy", &server);
    let master = program.pid();
    programs.push(program);
    rivals::wait_for(http);
    let children = run(Command::new("pgrep").args(["-P", &master.to_string()]));
    let pids = children.split_whitespace().filter_map(|pid| pid.parse().ok()).collect();
    Way { name: "nginx", http, https: Some(https), pids }
}

fn start_haproxy(dir: &Path, endpoint: SocketAddr, [both, _]: &[String; 2], programs: &mut Vec<Program>) -> Way {
    let (http, https) = (rivals::free_address(), rivals::free_address());
    let frontend = format!("bind {http}\n  bind {https} ssl crt {both}");
    let defaults = "mode http\n  option forwardfor\n  http-reuse aggressive";
    let program =
        rivals::haproxy(dir, "router", ["ssl-default-bind-options no-tls-tickets", defaults, &frontend], endpoint);
    let pids = vec![program.pid()];
    programs.push(program);
    Way { name: "haproxy", http, https: Some(https), pids }
}

fn bench_load(load: &Load, ways: &[Way]) {
    let ways: Vec<&Way> = ways.iter().filter(|way| !load.is_tls || way.https.is_some()).collect();
    report(load.name, &ways, &rivals::in_turns(&ways, |way| measure(way, load)));
}

fn measure(way: &Way, load: &Load) -> Seen {
    let host = format!("Host: {HOST}");
    let headers: &[&str] = if load.closes { &[&host, "Connection: close"] } else { &[&host] };
    let url = match way.https.filter(|_| load.is_tls) {
        Some(https) => format!("https://{https}/"),
        None => format!("http://{}/", way.http),
    };
    rivals::wrk(way.name, &url, load.connections, headers, &way.pids)
}

fn report(name: &str, ways: &[&Way], rounds: &[Vec<Seen>]) {
    let cpu_us = |seen: &Seen| seen.cpu_us / seen.requests;
    let over = |read: &dyn Fn(&[Seen]) -> f64| median(&mut rounds.iter().map(|round| read(round)).collect::<Vec<_>>());
    println!("\n{name:<34} {:>12} {:>10} {:>10} {:>18}", "rate", "p50", "p99", "processor time");
    for (at, way) in ways.iter().enumerate() {
        let (rate, p50, p99) = (over(&|r| r[at].rate), over(&|r| r[at].p50_us), over(&|r| r[at].p99_us));
        let cpu =
            if way.pids.is_empty() { "-".to_owned() } else { format!("{:.1} us/request", over(&|r| cpu_us(&r[at]))) };
        println!("  {:<32} {rate:>10.0}/s {p50:>7.0} us {p99:>7.0} us {cpu:>18}", way.name);
    }
    let place = |name: &str| ways.iter().position(|way| way.name == name);
    let Some((ours, peer)) = place("skiff").zip(place("nginx")) else { return };
    let (rate, cpu) = (over(&|r| r[ours].rate / r[peer].rate), over(&|r| cpu_us(&r[ours]) / cpu_us(&r[peer])));
    row("  rate / nginx's", rate, "x", 1.0, rate >= 1.0);
    row("  processor time / nginx's", cpu, "x", 1.0, cpu <= 1.0);
}

/// How long answers take at a load that is the same for every way.
fn bench_pace(ways: &[Way]) {
    let lasts = Duration::from_secs(3) * u32::try_from(rivals::setting("SKIFF_BENCH_SECONDS", 1)).unwrap();
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

fn bench_idle(pid: u32) {
    let (before, begun) = (processor_secs(&[pid]), Instant::now());
    std::thread::sleep(IDLE);
    let share = (processor_secs(&[pid]) - before) / begun.elapsed().as_secs_f64() * 100.0;
    println!("\ndata plane with a Route, idle, after load");
    let (memory, _) = rivals::memory_mib(pid);
    row("  resident memory", memory, "MiB", 15.0, memory <= 15.0);
    row("  share of a core", share, "%", 0.1, share <= 0.1);
}

//! The proxies that skiff's own are measured beside, and the client that measures: nginx, HAProxy and wrk of this machine.

use super::{cluster::Cluster, ports::free_port, processes::processor_secs, tools::run, wait::eventually};
use std::{
    fs,
    net::{Ipv4Addr, SocketAddr, TcpStream},
    path::Path,
    process::{Child, Command, Stdio},
    time::Duration,
};

/// How long a program may take to listen, or a cluster to serve.
pub const PATIENCE: Duration = Duration::from_secs(20);

/// A program that ends with the bench.
pub struct Program(Child);

impl Program {
    /// Its process.
    pub fn pid(&self) -> u32 {
        self.0.id()
    }
}

impl Drop for Program {
    fn drop(&mut self) {
        // SIGTERM, so that nginx takes its workers along.
        drop(Command::new("kill").arg(self.0.id().to_string()).status());
        drop(self.0.wait());
    }
}

/// A number of the environment, e.g. how many rounds there are.
pub fn setting(name: &str, default: usize) -> usize {
    std::env::var(name).ok().and_then(|text| text.parse().ok()).unwrap_or(default)
}

/// Installs what is missing of the programs (Debian and Ubuntu, as root), and tells which are here then.
pub fn present<const N: usize>(programs: [&str; N]) -> [bool; N] {
    let missing: Vec<&str> = programs.into_iter().filter(|program| !is_there(program)).collect();
    if !missing.is_empty() {
        let mut install = Command::new("apt-get");
        install.args(["install", "-y", "--no-install-recommends"]).args(missing);
        drop(install.stdout(Stdio::null()).stderr(Stdio::null()).status());
    }
    programs.map(is_there)
}

fn is_there(program: &str) -> bool {
    let version = if program == "wrk" { "--help" } else { "-v" };
    Command::new(program).arg(version).stdout(Stdio::null()).stderr(Stdio::null()).status().is_ok()
}

/// A free port of this machine.
pub fn free_address() -> SocketAddr {
    (Ipv4Addr::LOCALHOST, free_port()).into()
}

/// Waits until somebody listens there.
pub fn wait_for(address: SocketAddr) {
    eventually("somebody listens", PATIENCE, || TcpStream::connect(address).map(drop));
}

/// A free port at the node's own address, which pods have on their network: EndpointSlices may not name loopback.
pub fn free_node_address(cluster: &Cluster) -> SocketAddr {
    let node: Ipv4Addr = eventually("the node has an address", PATIENCE, || {
        let path = "{.items[0].status.addresses[?(@.type=='InternalIP')].address}";
        cluster.jsonpath(&["nodes"], path).parse()
    });
    (node, free_port()).into()
}

/// An EndpointSlice of the Service `bench` that leads to an address.
pub fn endpoint_slice(endpoint: SocketAddr) -> String {
    let (ip, port) = (endpoint.ip(), endpoint.port());
    format!(
        "{{apiVersion: discovery.k8s.io/v1, kind: EndpointSlice, addressType: IPv4, metadata: {{name: bench, \
         labels: {{kubernetes.io/service-name: bench}}}}, ports: [{{port: {port}}}], endpoints: [{{addresses: [{ip}]}}]}}\n"
    )
}

/// Starts nginx in a folder of this name, with what `http` says besides.
pub fn nginx(dir: &Path, name: &str, http: &str) -> Program {
    let root = dir.join(name);
    fs::create_dir_all(&root).unwrap();
    let root = root.display();
    let config = format!(
        "daemon off; user root; worker_processes 2; pid {root}/nginx.pid; error_log {root}/nginx.log;\n\
         events {{ worker_connections 4096; }}\n\
         http {{ access_log off; sendfile on; tcp_nopush on; keepalive_requests 1000000000;\n\
         client_body_temp_path {root}/t1; proxy_temp_path {root}/t2; fastcgi_temp_path {root}/t3; uwsgi_temp_path {root}/t4;\n\
         scgi_temp_path {root}/t5; {http} }}\n"
    );
    start(dir, "nginx", &["-e", &format!("{root}/nginx.log"), "-c"], &format!("nginx-{name}.conf"), &config)
}

/// Starts nginx with files of these sizes.
pub fn nginx_with_files(dir: &Path, address: SocketAddr, files: &[(&str, usize)]) -> Program {
    for (name, bytes) in files {
        fs::write(dir.join(name), vec![b'x'; *bytes]).unwrap();
    }
    nginx(dir, "endpoint", &format!("server {{ listen {address} backlog=4096; root {}; }}", dir.display()))
}

/// Starts HAProxy: what the sections say, a thread for each processor.
pub fn haproxy(dir: &Path, name: &str, [global, defaults, frontend]: [&str; 3], endpoint: SocketAddr) -> Program {
    let threads = std::thread::available_parallelism().unwrap();
    let config = format!(
        "global\n  maxconn 4000\n  nbthread {threads}\n  {global}\n\
         defaults\n  timeout connect 5s\n  timeout client 60s\n  timeout server 60s\n  {defaults}\n\
         frontend f\n  {frontend}\n  default_backend b\nbackend b\n  server s {endpoint}\n"
    );
    start(dir, "haproxy", &["-q", "-f"], &format!("haproxy-{name}.cfg"), &config)
}

fn start(dir: &Path, program: &str, args: &[&str], file: &str, config: &str) -> Program {
    let path = dir.join(file);
    fs::write(&path, config).unwrap();
    let mut command = Command::new(program);
    Program(command.args(args).arg(path).stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap())
}

/// What wrk saw in a round, and what that cost.
#[derive(Clone, Copy)]
pub struct Seen {
    /// Requests a second.
    pub rate: f64,
    /// How long half of the answers took at most, in microseconds.
    pub p50_us: f64,
    /// How long all but one in a hundred took at most, in microseconds.
    pub p99_us: f64,
    /// Requests that were answered.
    pub requests: f64,
    /// Processor time of the processes that answered, in microseconds.
    pub cpu_us: f64,
    /// Whether connections failed.
    pub has_failures: bool,
}

/// Has wrk ask a way for a round; `pids` are whose processor time counts as the way's.
///
/// # Panics
/// When an answer was none of success.
pub fn wrk(way: &str, url: &str, connections: usize, headers: &[&str], pids: &[u32]) -> Seen {
    let before = processor_secs(pids);
    let mut wrk = Command::new("wrk");
    wrk.args(["--latency", "-t", &connections.min(2).to_string(), "-c", &connections.to_string()]);
    wrk.args(["-d", &format!("{}s", setting("SKIFF_BENCH_SECONDS", 1))]);
    headers.iter().for_each(|header| {
        wrk.args(["-H", header]);
    });
    let text = run(wrk.arg(url));
    assert!(!text.contains("Non-2xx"), "{way} lost requests:\n{text}");
    Seen {
        rate: word_after(&text, "Requests/sec:").parse().unwrap(),
        p50_us: micros(word_after(&text, "\n     50%")),
        p99_us: micros(word_after(&text, "\n     99%")),
        requests: word_before(&text, " requests in").parse().unwrap(),
        cpu_us: (processor_secs(pids) - before) * 1e6,
        has_failures: text.contains("Socket errors"),
    }
}

/// The rounds of a load: in each, all ways take their turn, and each round begins with another. Samples are in the ways' order.
pub fn in_turns<W, S>(ways: &[W], measure: impl Fn(&W) -> S) -> Vec<Vec<S>> {
    let round = |first: usize| {
        let mut samples: Vec<(usize, S)> =
            (0..ways.len()).map(|n| (first + n) % ways.len()).map(|at| (at, measure(&ways[at]))).collect();
        samples.sort_by_key(|(at, _)| *at);
        samples.into_iter().map(|(_, sample)| sample).collect()
    };
    (0..setting("SKIFF_BENCH_ROUNDS", 12)).map(round).collect()
}

/// What a process has in memory, in MiB: all of it, and what is not a file's.
pub fn memory_mib(pid: u32) -> (f64, f64) {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
    let of = |field| word_after(&status, field).parse::<f64>().unwrap() / 1024.0;
    (of("VmRSS:"), of("RssAnon:"))
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

/// A time as wrk writes it.
fn micros(text: &str) -> f64 {
    let number = |unit| text.strip_suffix(unit).and_then(|number| number.parse::<f64>().ok());
    number("us")
        .or_else(|| Some(number("ms")? * 1e3))
        .or_else(|| Some(number("s")? * 1e6))
        .or_else(|| Some(number("m")? * 6e7))
        .unwrap()
}

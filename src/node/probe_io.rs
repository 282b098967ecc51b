//! One probe, once: HTTP, TCP, gRPC or a command, and what the kubelet would say of its result.
//!
//! Called by the probe workers, which count results and keep time; calls the network and [`Engine::exec`].
//!
//! **Invariants**: a probe ends within its `timeoutSeconds` (a command: plus the engine's own bound); whatever goes wrong is a
//! failure with a reason that a user can read.
//! **Not here**: periods, thresholds and what follows from them; `$(VAR)` in commands, which whoever makes the probe expands.
//! **Source**: `pkg/kubelet/prober/prober.go`, `pkg/probe/{exec,grpc,http,tcp}`, v1.37; Go's `net` and `net/http` for the texts.

mod grpc;
mod http;
#[cfg(test)]
mod tests;

use crate::engine::{Engine, EngineError};
use async_trait::async_trait;
use k8s_openapi::{
    api::core::v1::{Container, ExecAction, Probe, TCPSocketAction},
    apimachinery::pkg::util::intstr::IntOrString,
};
use std::{
    io,
    net::{IpAddr, Ipv4Addr, SocketAddr},
    sync::Arc,
    time::Duration,
};
use tokio::{
    net::{TcpStream, lookup_host},
    time::timeout,
};

/// How probes introduce themselves. Source: `userAgent`, pkg/probe/http/request.go.
const USER_AGENT: &str = "kube-probe/1.37";

/// What a probe found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ProbeResult {
    /// All is well.
    Success,
    /// It is not, and why, in the kubelet's words.
    Failure(String),
}

/// Runs probes.
#[async_trait]
pub trait Prober: Send + Sync {
    /// Runs a probe of this container once. `pod_ip` is the pod's address (the node's on the host's network).
    async fn probe(
        &self,
        container_id: &str,
        pod_ip: Option<Ipv4Addr>,
        container: &Container,
        probe: &Probe,
    ) -> ProbeResult;
}

/// Probes over the network and through the engine.
#[derive(Clone)]
pub struct NetworkProber {
    engine: Arc<dyn Engine>,
    http: http::HttpProber,
}

impl std::fmt::Debug for NetworkProber {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("NetworkProber").finish_non_exhaustive()
    }
}

impl NetworkProber {
    /// A prober whose commands run on this engine.
    pub fn new(engine: Arc<dyn Engine>) -> Self {
        Self { engine, http: http::HttpProber::new() }
    }

    async fn exec(&self, container_id: &str, action: &ExecAction, bound: Duration) -> Result<(), String> {
        let command = action.command.clone().unwrap_or_default();
        match self.engine.exec(container_id, &command, bound).await {
            Ok(done) if done.exit_code == 0 => Ok(()),
            Ok(done) => Err(String::from_utf8_lossy(&done.output).into_owned()),
            Err(EngineError::TimedOut(..)) => {
                Err(format!("command timed out: {:?} timed out after {}s", command.join(" "), bound.as_secs()))
            }
            Err(err) => Err(err.to_string()),
        }
    }
}

#[async_trait]
impl Prober for NetworkProber {
    async fn probe(
        &self,
        container_id: &str,
        pod_ip: Option<Ipv4Addr>,
        container: &Container,
        probe: &Probe,
    ) -> ProbeResult {
        let seconds = probe.timeout_seconds.and_then(|s| u64::try_from(s).ok()).unwrap_or(1).max(1);
        let bound = Duration::from_secs(seconds);
        let result = if let Some(action) = &probe.exec {
            self.exec(container_id, action, bound).await
        } else if let Some(action) = &probe.http_get {
            self.http.get(action, pod_ip, container, bound).await
        } else if let Some(action) = &probe.tcp_socket {
            tcp(action, pod_ip, container, bound).await
        } else if let Some(action) = &probe.grpc {
            grpc::check(action, pod_ip, bound).await
        } else {
            Err(format!("missing probe handler for container {}", container.name))
        };
        result.map_or_else(ProbeResult::Failure, |()| ProbeResult::Success)
    }
}

async fn tcp(
    action: &TCPSocketAction,
    pod_ip: Option<Ipv4Addr>,
    container: &Container,
    bound: Duration,
) -> Result<(), String> {
    let port = port_of(&action.port, container)?;
    let host = host_of(action.host.as_deref(), pod_ip)?;
    match timeout(bound, dial(&host, port)).await {
        Ok(dialed) => dialed.map(drop),
        Err(_) => Err(format!("dial tcp {}: i/o timeout", host_port(&host, port))),
    }
}

/// The host that a probe means: the one it names, or its pod.
fn host_of(named: Option<&str>, pod_ip: Option<Ipv4Addr>) -> Result<String, String> {
    match (named.filter(|host| !host.is_empty()), pod_ip) {
        (Some(host), _) => Ok(host.to_owned()),
        (None, Some(ip)) => Ok(ip.to_string()),
        (None, None) => Err("the pod has no address yet".to_owned()),
    }
}

/// The port that a probe means, by number or by name. Source: `ResolveContainerPort`, pkg/probe/util.go.
fn port_of(port: &IntOrString, container: &Container) -> Result<u16, String> {
    let number = match port {
        IntOrString::Int(number) => i64::from(*number),
        IntOrString::String(name) => {
            let named = container.ports.iter().flatten().find(|p| p.name.as_ref() == Some(name));
            match named {
                Some(port) => i64::from(port.container_port),
                None => name.parse().map_err(|_| format!("strconv.Atoi: parsing {name:?}: invalid syntax"))?,
            }
        }
    };
    u16::try_from(number).ok().filter(|p| *p > 0).ok_or_else(|| format!("invalid port number: {number}"))
}

/// `host:port`, with an IPv6 address in brackets. Source: Go's `net.JoinHostPort`.
fn host_port(host: &str, port: u16) -> String {
    if host.contains(':') { format!("[{host}]:{port}") } else { format!("{host}:{port}") }
}

/// Connects; the error reads as Go's.
async fn dial(host: &str, port: u16) -> Result<TcpStream, String> {
    let addresses: Vec<SocketAddr> = match host.parse::<IpAddr>() {
        Ok(ip) => vec![SocketAddr::new(ip, port)],
        Err(_) => lookup_host((host, port)).await.map_or_else(|_| Vec::new(), Iterator::collect),
    };
    let mut failure = format!("dial tcp: lookup {host}: no such host");
    for address in addresses {
        match TcpStream::connect(address).await {
            Ok(stream) => return Ok(stream),
            Err(err) => failure = format!("dial tcp {address}: connect: {}", errno_text(&err)),
        }
    }
    Err(failure)
}

/// What Go calls the errors that a network gives.
fn errno_text(err: &io::Error) -> String {
    match err.kind() {
        io::ErrorKind::ConnectionRefused => "connection refused".to_owned(),
        io::ErrorKind::ConnectionReset => "connection reset by peer".to_owned(),
        io::ErrorKind::HostUnreachable => "no route to host".to_owned(),
        io::ErrorKind::NetworkUnreachable => "network is unreachable".to_owned(),
        io::ErrorKind::TimedOut => "connection timed out".to_owned(),
        io::ErrorKind::BrokenPipe => "broken pipe".to_owned(),
        _ => err.to_string(),
    }
}

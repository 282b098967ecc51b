//! Probes: when they are due, what their results add up to, and how they are made.
//!
//! Called by the worker. [`Probes`] is plain state over monotonic time; [`make`] is the I/O.
//!
//! ```text
//!  startup ──succeeds──▶ readiness: ready / not ready
//!     │                  liveness ──fails──▶ the container is stopped and restarted
//!     └──fails──▶ the container is stopped and restarted
//! ```
//!
//! **Invariants**: a result counts only for the container (ID) that was probed; readiness begins as not ready, liveness as alive;
//! failures count from one period to the next, successes at any time.
//! Between two periods, a readiness or startup probe that has never succeeded is tried more often, so that a pod is ready
//! when its program is and not up to a period later; what fails then counts and says nothing.
//! **Source**: `pkg/kubelet/prober/{worker,prober,prober_manager}.go`, v1.37.

use super::{
    context::Context,
    decide::{Health, Memory},
    net_probe::HttpTarget,
    overdue,
    text::go_duration,
};
use crate::{base::ordered::Map, engine::EngineError};
use k8s_openapi::{
    api::core::v1::{Container, ContainerPort, HTTPGetAction, Probe},
    apimachinery::pkg::util::intstr::IntOrString,
};
use std::{net::Ipv4Addr, sync::Arc, time::Duration};
use tokio::time::Instant;

/// The first tries of a probe that has never succeeded come after this long, then twice as long each, within the first period.
const EARLY_FIRST: Duration = Duration::from_millis(100);

/// Which probe.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum ProbeKind {
    Startup,
    Readiness,
    Liveness,
}

impl ProbeKind {
    /// How events begin that tell of it.
    pub(super) fn title(self) -> &'static str {
        match self {
            Self::Startup => "Startup",
            Self::Readiness => "Readiness",
            Self::Liveness => "Liveness",
        }
    }

    fn spec(self, container: &Container) -> Option<&Probe> {
        match self {
            Self::Startup => container.startup_probe.as_ref(),
            Self::Readiness => container.readiness_probe.as_ref(),
            Self::Liveness => container.liveness_probe.as_ref(),
        }
    }
}

const KINDS: [ProbeKind; 3] = [ProbeKind::Startup, ProbeKind::Readiness, ProbeKind::Liveness];

/// One probe of one container.
#[derive(Clone, Debug, PartialEq)]
struct Watcher {
    probe: Probe,
    /// When the next regular try is due.
    next_at: Instant,
    /// When the next early try is due, and the pause before it.
    early: Option<(Instant, Duration)>,
    is_running: bool,
    /// Whether the try under way is a regular one.
    is_regular: bool,
    /// The last result, and how often it came in a row.
    run: Option<(bool, i32)>,
    /// What is believed.
    verdict: Option<bool>,
}

fn secs(value: Option<i32>, default: u64) -> Duration {
    Duration::from_secs(value.and_then(|v| u64::try_from(v).ok()).unwrap_or(default))
}

impl Watcher {
    fn new(probe: &Probe, verdict: Option<bool>, now: Instant, hurries: bool) -> Self {
        let next_at = now + secs(probe.initial_delay_seconds, 0);
        let is_settled = verdict == Some(true);
        let early = (hurries && !is_settled).then_some((next_at + EARLY_FIRST, EARLY_FIRST));
        Self { probe: probe.clone(), next_at, early, is_running: false, is_regular: false, run: None, verdict }
    }

    fn period(&self) -> Duration {
        secs(self.probe.period_seconds, 10).max(Duration::from_secs(1))
    }

    fn due_at(&self) -> Instant {
        self.early.map_or(self.next_at, |(at, _)| at.min(self.next_at))
    }

    fn begin(&mut self, now: Instant) {
        self.is_running = true;
        self.is_regular = now >= self.next_at;
        if self.is_regular {
            self.next_at = now + self.period();
        }
        if let Some((at, pause)) = self.early.filter(|(at, _)| *at <= now) {
            let pause = pause * 2;
            // The early tries end with the first period.
            self.early = (at + pause < self.next_at).then_some((at + pause, pause));
        }
    }

    /// Takes in a result; true when it is one that users are told of.
    fn end(&mut self, success: bool) -> bool {
        self.is_running = false;
        if !success && !self.is_regular {
            return false;
        }
        let count = match self.run {
            Some((last, count)) if last == success => count.saturating_add(1),
            _ => 1,
        };
        self.run = Some((success, count));
        let needed =
            if success { self.probe.success_threshold.unwrap_or(1) } else { self.probe.failure_threshold.unwrap_or(3) };
        if count >= needed {
            self.verdict = Some(success);
        }
        if success {
            self.early = None;
        }
        !success
    }
}

/// A try to make now.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Due {
    /// The container's ID.
    pub(super) id: String,
    /// Its name.
    pub(super) container: String,
    /// Which probe.
    pub(super) kind: ProbeKind,
    /// Its spec.
    pub(super) probe: Probe,
}

/// What a result means.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Ended {
    /// Users are told of it.
    pub(super) is_told: bool,
    /// The container's health is another than before.
    pub(super) changes_health: bool,
}

/// The probes of a pod's running containers.
#[derive(Clone, Debug, Default)]
pub(super) struct Probes {
    watchers: Map<String, Watched>,
}

#[derive(Clone, Debug)]
struct Watched {
    container: String,
    kinds: Map<ProbeKind, Watcher>,
}

impl Watched {
    fn verdict(&self, kind: ProbeKind) -> Option<bool> {
        self.kinds.get(&kind).and_then(|w| w.verdict)
    }

    fn has_started(&self) -> bool {
        !self.kinds.contains_key(&ProbeKind::Startup) || self.verdict(ProbeKind::Startup) == Some(true)
    }

    /// Whether a probe has its turn: others wait for the startup probe, and it is over once it has succeeded.
    fn is_active(&self, kind: ProbeKind) -> bool {
        match kind {
            ProbeKind::Startup => self.verdict(kind).is_none(),
            ProbeKind::Readiness => self.has_started(),
            ProbeKind::Liveness => self.has_started() && self.verdict(kind) != Some(false),
        }
    }

    fn health(&self) -> Health {
        let fails = |kind: ProbeKind| self.verdict(kind) == Some(false);
        Health {
            has_started: self.has_started(),
            is_ready: !self.kinds.contains_key(&ProbeKind::Readiness)
                || self.verdict(ProbeKind::Readiness) == Some(true),
            liveness_failed: fails(ProbeKind::Liveness),
            startup_failed: fails(ProbeKind::Startup),
        }
    }
}

/// What was believed of a container before skiff restarted.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Believed {
    /// It had started.
    pub(super) started: bool,
    /// It was ready.
    pub(super) ready: bool,
}

impl Probes {
    /// Begins to watch a container that runs; does nothing when it is watched already or has no probes.
    pub(super) fn watch(&mut self, id: &str, spec: &Container, believed: Believed, now: Instant) {
        if self.watchers.contains_key(id) {
            return;
        }
        let start = |kind: ProbeKind| {
            let verdict = match kind {
                ProbeKind::Startup => believed.started.then_some(true),
                ProbeKind::Readiness => Some(believed.ready),
                ProbeKind::Liveness => Some(true),
            };
            let hurries = kind != ProbeKind::Liveness;
            Some((kind, Watcher::new(kind.spec(spec)?, verdict, now, hurries)))
        };
        let kinds: Map<ProbeKind, Watcher> = KINDS.into_iter().filter_map(start).collect();
        if !kinds.is_empty() {
            self.watchers.insert(id.to_owned(), Watched { container: spec.name.clone(), kinds });
        }
    }

    /// Forgets the containers that do not run any more.
    pub(super) fn retain(&mut self, runs: impl Fn(&str) -> bool) {
        self.watchers.retain(|id, _| runs(id));
    }

    /// Forgets a container that runs anew.
    pub(super) fn forget(&mut self, id: &str) {
        self.watchers.remove(id);
    }

    /// Writes what the probes say into the worker's memory.
    pub(super) fn show(&self, memory: &mut Memory) {
        memory.health = self.watchers.iter().map(|(id, w)| (id.clone(), w.health())).collect();
    }

    /// The tries that are due; they are under way from now on.
    pub(super) fn begin_due(&mut self, now: Instant) -> Vec<Due> {
        let mut due = Vec::new();
        for (id, watched) in &mut self.watchers {
            let active: Vec<ProbeKind> = KINDS.into_iter().filter(|k| watched.is_active(*k)).collect();
            for kind in active {
                if let Some(w) = watched.kinds.get_mut(&kind).filter(|w| !w.is_running && w.due_at() <= now) {
                    w.begin(now);
                    due.push(Due {
                        id: id.clone(),
                        container: watched.container.clone(),
                        kind,
                        probe: w.probe.clone(),
                    });
                }
            }
        }
        due
    }

    /// When the next try is due.
    pub(super) fn next_at(&self) -> Option<Instant> {
        let of = |w: &Watched| {
            let waiting = w.kinds.iter().filter(|(kind, watcher)| w.is_active(**kind) && !watcher.is_running);
            waiting.map(|(_, watcher)| watcher.due_at()).min()
        };
        self.watchers.values().filter_map(of).min()
    }

    /// Takes in a result. When the startup probe succeeds, the others begin at once.
    pub(super) fn end(&mut self, id: &str, kind: ProbeKind, success: bool, now: Instant) -> Ended {
        let Some(watched) = self.watchers.get_mut(id) else { return Ended::default() };
        let before = watched.health();
        let is_told = watched.kinds.get_mut(&kind).is_some_and(|w| w.end(success));
        if !before.has_started && watched.has_started() {
            for (kind, watcher) in &mut watched.kinds {
                if *kind != ProbeKind::Startup {
                    *watcher = Watcher::new(&watcher.probe, watcher.verdict, now, *kind == ProbeKind::Readiness);
                }
            }
        }
        Ended { is_told, changes_health: watched.health() != before }
    }
}

/// Makes one try. An error is what users read.
pub(super) async fn make(
    context: &Arc<Context>,
    pod: &str,
    due: &Due,
    ports: &[ContainerPort],
    pod_ip: Option<Ipv4Addr>,
) -> Result<(), String> {
    let timeout = secs(due.probe.timeout_seconds, 1).max(Duration::from_secs(1));
    if let Some(exec) = &due.probe.exec {
        return run_command(context, pod, &due.id, exec.command.as_deref().unwrap_or_default(), timeout).await;
    }
    let pod_ip = pod_ip.map(|ip| ip.to_string()).unwrap_or_default();
    if let Some(http) = &due.probe.http_get {
        let target = http_target(http, ports, &pod_ip)?;
        return context.config.net_probe.http(&target, timeout).await;
    }
    if let Some(tcp) = &due.probe.tcp_socket {
        let host = tcp.host.clone().filter(|h| !h.is_empty()).unwrap_or_else(|| pod_ip.clone());
        return context.config.net_probe.tcp(&host, port_number(&tcp.port, ports)?, timeout).await;
    }
    if let Some(grpc) = &due.probe.grpc {
        let port = u16::try_from(grpc.port).map_err(|_| format!("invalid port number: {}", grpc.port))?;
        let service = grpc.service.as_deref().unwrap_or_default();
        return context.config.net_probe.grpc(&pod_ip, port, service, timeout).await;
    }
    Err("missing probe handler".to_owned())
}

async fn run_command(
    context: &Arc<Context>,
    pod: &str,
    id: &str,
    command: &[String],
    timeout: Duration,
) -> Result<(), String> {
    match context.ask(context.engine.exec(id, command, timeout)).await {
        Ok(output) if output.exit_code == 0 => Ok(()),
        Ok(output) => Err(String::from_utf8_lossy(&output.output).into_owned()),
        Err(error @ EngineError::Overdue(..)) => {
            overdue::end(context, pod, id, &error);
            Err(format!("command timed out: {:?} timed out after {}", command.join(" "), go_duration(timeout)))
        }
        Err(e) => Err(e.to_string()),
    }
}

/// The request that an `httpGet` asks for.
pub(super) fn http_target(http: &HTTPGetAction, ports: &[ContainerPort], pod_ip: &str) -> Result<HttpTarget, String> {
    let path = http.path.as_deref().unwrap_or_default();
    Ok(HttpTarget {
        is_tls: http.scheme.as_deref().is_some_and(|s| s.eq_ignore_ascii_case("https")),
        host: http.host.clone().filter(|h| !h.is_empty()).unwrap_or_else(|| pod_ip.to_owned()),
        port: port_number(&http.port, ports)?,
        path: if path.starts_with('/') { path.to_owned() } else { format!("/{path}") },
        headers: http.http_headers.iter().flatten().map(|h| (h.name.clone(), h.value.clone())).collect(),
    })
}

/// A port by number or by the name that the container gives it.
pub(super) fn port_number(port: &IntOrString, ports: &[ContainerPort]) -> Result<u16, String> {
    let number = match port {
        IntOrString::Int(number) => *number,
        IntOrString::String(name) => match ports.iter().find(|p| p.name.as_deref() == Some(name)) {
            Some(port) => port.container_port,
            None => name.parse().map_err(|_| format!("couldn't find port: {name:?} for container"))?,
        },
    };
    u16::try_from(number).ok().filter(|n| *n > 0).ok_or_else(|| format!("invalid port number: {number}"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::clock::Clock;

    fn container(yaml: &str) -> Container {
        crate::testing::from_yaml(&format!("{{name: app, {yaml}}}")).unwrap()
    }

    struct Run {
        probes: Probes,
        start: Instant,
    }

    impl Run {
        fn new(yaml: &str, believed: Believed) -> Self {
            let start = Clock::system().mono();
            let mut probes = Probes::default();
            probes.watch("c", &container(yaml), believed, start);
            Self { probes, start }
        }

        fn at(&self, millis: u64) -> Instant {
            self.start + Duration::from_millis(millis)
        }

        /// Makes what is due at this time, each with this result; returns what was made.
        fn step(&mut self, millis: u64, success: bool) -> Vec<&'static str> {
            let now = self.at(millis);
            let due = self.probes.begin_due(now);
            for try_ in &due {
                self.probes.end("c", try_.kind, success, now);
            }
            due.iter().map(|d| d.kind.title()).collect()
        }

        fn next_millis(&self) -> Option<u128> {
            self.probes.next_at().map(|at| (at - self.start).as_millis())
        }

        fn health(&self) -> Health {
            let mut memory = Memory::default();
            self.probes.show(&mut memory);
            memory.health["c"]
        }
    }

    const READINESS: &str =
        "readinessProbe: {tcpSocket: {port: 80}, periodSeconds: 5, failureThreshold: 2, successThreshold: 1}";

    #[test]
    fn the_first_try_comes_at_once_and_early_ones_until_it_succeeds() {
        let mut run = Run::new(READINESS, Believed::default());
        assert!(!run.health().is_ready);
        assert_eq!(run.next_millis(), Some(0));
        let mut times = Vec::new();
        while let Some(at) = run.next_millis().filter(|at| *at <= 15_000) {
            times.push(at);
            run.step(u64::try_from(at).unwrap(), false);
        }
        assert_eq!(times, [0, 100, 300, 700, 1500, 3100, 5000, 10_000, 15_000]);
        run.step(16_000, true);
        assert!(!run.health().is_ready, "nothing is due yet");
        run.step(20_000, true);
        assert!(run.health().is_ready);
        assert_eq!(run.next_millis(), Some(25_000));
    }

    #[test]
    fn an_early_success_counts_at_once() {
        let mut run = Run::new(READINESS, Believed::default());
        run.step(0, false);
        run.step(100, true);
        assert!(run.health().is_ready);
        assert_eq!(run.next_millis(), Some(5000));
    }

    #[test]
    fn readiness_is_lost_after_as_many_failures_as_the_threshold_says() {
        let mut run = Run::new(READINESS, Believed { started: true, ready: true });
        run.step(0, false);
        assert!(run.health().is_ready);
        run.step(5000, false);
        assert!(!run.health().is_ready);
        run.step(10_000, true);
        assert!(run.health().is_ready);
    }

    #[test]
    fn only_results_that_change_the_health_are_news() {
        let mut run = Run::new(ALL, Believed::default());
        let mut changes = |kind, success| run.probes.end("c", kind, success, run.start).changes_health;
        assert!(!changes(ProbeKind::Startup, false), "two more may fail");
        assert!(changes(ProbeKind::Startup, true));
        assert!(changes(ProbeKind::Readiness, true));
        assert!(!changes(ProbeKind::Readiness, true));
        assert!(!changes(ProbeKind::Liveness, true), "it was believed to live");
    }

    #[test]
    fn the_initial_delay_is_kept() {
        let run = Run::new("readinessProbe: {tcpSocket: {port: 80}, initialDelaySeconds: 7}", Believed::default());
        assert_eq!(run.next_millis(), Some(7000));
    }

    #[test]
    fn a_liveness_failure_is_final() {
        let mut run = Run::new("livenessProbe: {tcpSocket: {port: 80}, failureThreshold: 2}", Believed::default());
        assert!(run.health().is_ready && !run.health().liveness_failed);
        run.step(0, false);
        assert_eq!(run.next_millis(), Some(10_000), "liveness has no early tries");
        run.step(10_000, false);
        assert!(run.health().liveness_failed);
        assert_eq!(run.next_millis(), None);
    }

    const ALL: &str = "
        startupProbe: {tcpSocket: {port: 1}, periodSeconds: 1, failureThreshold: 3},
        readinessProbe: {tcpSocket: {port: 1}},
        livenessProbe: {tcpSocket: {port: 1}}";

    #[test]
    fn others_wait_for_the_startup_probe_and_then_begin_at_once() {
        let mut run = Run::new(ALL, Believed::default());
        assert_eq!(run.step(0, false), ["Startup"]);
        assert!(!run.health().has_started);
        assert_eq!(run.step(1000, true), ["Startup"]);
        assert!(run.health().has_started && !run.health().is_ready);
        assert_eq!(run.step(1000, true), ["Readiness", "Liveness"]);
        assert!(run.health().is_ready);
    }

    #[test]
    fn a_startup_probe_that_fails_too_often_fails_the_container() {
        let mut run = Run::new(ALL, Believed::default());
        for second in 0..3 {
            run.step(second * 1000, false);
        }
        assert!(run.health().startup_failed);
    }

    #[test]
    fn a_container_without_probes_is_not_watched() {
        let run = Run::new("image: web", Believed::default());
        assert_eq!(run.next_millis(), None);
        assert!(run.probes.watchers.is_empty());
    }

    #[test]
    fn ports_are_found_by_number_or_name() {
        let ports: Vec<ContainerPort> = crate::testing::from_yaml("[{name: web, containerPort: 8080}]").unwrap();
        let port = |p: IntOrString| port_number(&p, &ports);
        assert_eq!(port(IntOrString::Int(80)), Ok(80));
        assert_eq!(port(IntOrString::String("web".into())), Ok(8080));
        assert_eq!(port(IntOrString::String("81".into())), Ok(81));
        assert!(port(IntOrString::String("no".into())).is_err());
        assert!(port(IntOrString::Int(0)).is_err());
    }
}

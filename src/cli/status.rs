//! `skiff status`: the cluster on one screen: where it answers, what runs, what has healed, what is wrong and what to do about it.

use super::{
    cluster::ClusterArgs,
    output,
    watching::{condition, number, text},
    workloads::workloads as kinds_of_workloads,
};
use crate::{
    api::{agreements::PAUSED_REASON, table::since},
    app,
    base::{clock::Clock, ordered::SortList as _, runtime::block_on},
};
use anyhow::Context as _;
use jiff::Timestamp;
use serde::Serialize;
use serde_json::Value;
use std::{io::IsTerminal as _, time::Duration};

/// How often `--watch` looks.
const PACE: Duration = Duration::from_secs(1);
/// How many heals and warnings are shown, and how old a warning may be, in seconds.
const SHOWN_MAX: usize = 5;
const WARNING_SECS_MAX: i64 = 600;
/// Clears the screen, and begins at its top.
const CLEAR: &str = "\x1b[2J\x1b[H";

/// Arguments of `skiff status`.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:\n  skiff status --watch\n  skiff status -o json")]
pub(super) struct Args {
    #[command(flatten)]
    cluster: ClusterArgs,
    /// Look again each second, until Ctrl-C
    #[arg(short, long)]
    watch: bool,
    /// How it is printed
    #[arg(short, long, value_enum, default_value_t = Format::Text)]
    output: Format,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
enum Format {
    /// A screen for people
    Text,
    /// One JSON object; with --watch one a line
    Json,
}

pub(super) fn run(args: &Args) -> anyhow::Result<()> {
    block_on(show(args))?
}

async fn show(args: &Args) -> anyhow::Result<()> {
    let client = args.cluster.client()?;
    let mut every = tokio::time::interval(PACE);
    loop {
        every.tick().await;
        let seen = Seen::look(&client).await.with_context(|| format!("the cluster {}", args.cluster.name))?;
        let status = Status::of(&args.cluster.name, &seen, Clock::system().now());
        match args.output {
            Format::Json if args.watch => output::line(serde_json::to_string(&status)?),
            Format::Json => output::line(serde_json::to_string_pretty(&status)?),
            Format::Text => {
                if args.watch && std::io::stdout().is_terminal() {
                    output::raw(CLEAR);
                }
                output::raw(&status.text());
            }
        }
        if !args.watch || output::is_closed() {
            return Ok(());
        }
    }
}

/// What the API says.
#[derive(Default)]
struct Seen {
    nodes: Vec<Value>,
    services: Vec<Value>,
    routes: Vec<Value>,
    ingresses: Vec<Value>,
    /// Each kind of workload with its objects.
    workloads: Vec<(&'static str, Vec<Value>)>,
    pods: Vec<Value>,
    events: Vec<Value>,
    /// What nodes use, where that is told.
    usage: Vec<Value>,
}

impl Seen {
    async fn look(client: &crate::client::Client) -> anyhow::Result<Self> {
        // What this cluster does not serve, it has not.
        let list = async |path: &str| match client.get(path).await {
            Ok(mut answer) => Ok(match answer["items"].take() {
                Value::Array(items) => items,
                _ => Vec::new(),
            }),
            Err(err) if err.code() == Some(http::StatusCode::NOT_FOUND) => Ok(Vec::new()),
            Err(err) => Err(err),
        };
        let mut workloads = Vec::new();
        for info in kinds_of_workloads() {
            workloads.push((info.singular, list(&info.path()).await?));
        }
        Ok(Self {
            nodes: list("/api/v1/nodes").await?,
            services: list("/api/v1/services").await?,
            routes: list("/apis/route.openshift.io/v1/routes").await?,
            ingresses: list("/apis/networking.k8s.io/v1/ingresses").await?,
            workloads,
            pods: list("/api/v1/pods").await?,
            events: list("/api/v1/events").await?,
            usage: list("/apis/metrics.k8s.io/v1beta1/nodes").await.unwrap_or_default(),
        })
    }
}

/// The cluster in short.
#[derive(Debug, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
struct Status {
    cluster: String,
    nodes: Vec<Row>,
    urls: Vec<Row>,
    workloads: Vec<Row>,
    heals: Vec<Row>,
    warnings: Vec<Row>,
}

/// A thing, as kubectl names it, and what is said of it.
#[derive(Debug, PartialEq, Eq, Serialize)]
struct Row {
    name: String,
    says: String,
    /// Whether all is well with it.
    ok: bool,
}

impl Row {
    fn new(name: impl Into<String>, says: impl Into<String>, ok: bool) -> Self {
        Self { name: name.into(), says: says.into(), ok }
    }
}

/// `kind/name`, with the namespace where it is not the default one.
fn called(kind: &str, object: &Value) -> String {
    let (namespace, name) = (text(object, "/metadata/namespace"), text(object, "/metadata/name"));
    let place = if matches!(namespace, "" | "default") { String::new() } else { format!(" -n {namespace}") };
    format!("{kind}/{name}{place}")
}

fn is_owned(object: &Value) -> bool {
    object.pointer("/metadata/ownerReferences").and_then(Value::as_array).is_some_and(|owners| !owners.is_empty())
}

impl Status {
    fn of(cluster: &str, seen: &Seen, now: Timestamp) -> Self {
        Self {
            cluster: cluster.to_owned(),
            nodes: seen.nodes.iter().map(|node| node_row(node, &seen.usage)).collect(),
            urls: urls(seen),
            workloads: workloads(seen),
            heals: events(seen, now, |event| text(event, "/reason") == "Healed", i64::MAX),
            warnings: warnings(seen, now),
        }
    }

    fn text(&self) -> String {
        let mut out = format!("cluster {}\n", self.cluster);
        let parts = [
            ("nodes", &self.nodes, ""),
            ("answers at", &self.urls, "nothing is reached from outside: `kubectl expose … --type=NodePort`"),
            ("runs", &self.workloads, "nothing yet: `kubectl create deployment …`, or `skiff up -f FILE`"),
            ("healed", &self.heals, ""),
            ("warnings", &self.warnings, ""),
        ];
        for (title, rows, nothing) in parts {
            if rows.is_empty() && nothing.is_empty() {
                continue;
            }
            out += &format!("\n{title}\n");
            if rows.is_empty() {
                out += &format!("   {nothing}\n");
            }
            let cells: Vec<[&str; 2]> = rows.iter().map(|row| [&*row.name, &*row.says]).collect();
            for (row, line) in rows.iter().zip(output::columns(&cells)) {
                out += &format!(" {} {line}\n", if row.ok { " " } else { "!" });
            }
        }
        out
    }
}

fn node_row(node: &Value, usage: &[Value]) -> Row {
    let ready = condition(node, "Ready").is_some_and(|condition| condition["status"] == "True");
    let is_paused = condition(node, "Ready").is_some_and(|condition| condition["reason"] == PAUSED_REASON);
    let mut says = vec![match (ready, is_paused) {
        (true, _) => "ready".to_owned(),
        (false, true) => "paused: `skiff resume` starts its containers again".to_owned(),
        (false, false) => "not ready: `kubectl describe node` tells why".to_owned(),
    }];
    if node.pointer("/spec/unschedulable") == Some(&Value::Bool(true)) {
        says.push("cordoned".to_owned());
    }
    says.push(text(node, "/status/nodeInfo/containerRuntimeVersion").replace("://", " "));
    if let Some(used) = usage.iter().find(|used| text(used, "/metadata/name") == text(node, "/metadata/name")) {
        says.push(format!("uses cpu {}, memory {}", text(used, "/usage/cpu"), text(used, "/usage/memory")));
    }
    Row::new(called("node", node), says.join(", "), ready)
}

/// Where Services, Routes and Ingresses answer.
fn urls(seen: &Seen) -> Vec<Row> {
    let mut rows = Vec::new();
    for service in &seen.services {
        let ports = || service.pointer("/spec/ports").and_then(Value::as_array).into_iter().flatten();
        let node_ports = ports().map(|port| number(port, "/nodePort")).filter(|port| *port != 0);
        let mut all: Vec<String> = node_ports.map(|port| format!("http://localhost:{port}")).collect();
        let balancers = service.pointer("/status/loadBalancer/ingress").and_then(Value::as_array);
        for balancer in balancers.into_iter().flatten() {
            all.extend(ports().map(|port| format!("http://{}:{}", text(balancer, "/ip"), number(port, "/port"))));
        }
        if text(service, "/spec/type") == "LoadBalancer" && balancers.is_none_or(Vec::is_empty) {
            rows.push(Row::new(called("service", service), "has no address yet: `kubectl describe` tells why", false));
        }
        if !all.is_empty() {
            rows.push(Row::new(called("service", service), all.join(" "), true));
        }
    }
    let routed = seen.routes.iter().map(|route| ("route", route, app::urls_of_route(route)));
    let routed = routed.chain(seen.ingresses.iter().map(|one| ("ingress", one, app::urls_of_ingress(one))));
    rows.extend(routed.map(|(kind, object, urls)| {
        let says =
            if urls.is_empty() { "does not answer: `kubectl describe` tells why".to_owned() } else { urls.join(" ") };
        Row::new(called(kind, object), says, !urls.is_empty())
    }));
    rows
}

/// Workloads that nothing else owns, and how many of their pods are ready.
fn workloads(seen: &Seen) -> Vec<Row> {
    let mut rows = Vec::new();
    for (kind, objects) in &seen.workloads {
        rows.extend(objects.iter().filter(|object| !is_owned(object)).map(|object| workload(kind, object)));
    }
    let is_lone = |pod: &&Value| !is_owned(pod) && text(pod, "/metadata/namespace") != "kube-system";
    rows.extend(seen.pods.iter().filter(is_lone).map(|pod| {
        let phase = text(pod, "/status/phase");
        let ready = condition(pod, "Ready").is_some_and(|condition| condition["status"] == "True");
        let says = if ready { "ready" } else { phase };
        Row::new(called("pod", pod), says, ready || phase == "Succeeded")
    }));
    rows
}

fn workload(kind: &str, object: &Value) -> Row {
    let name = called(kind, object);
    if kind == "job" {
        let [active, done, failed] =
            ["/status/active", "/status/succeeded", "/status/failed"].map(|path| number(object, path));
        let is_failed = condition(object, "Failed").is_some_and(|condition| condition["status"] == "True");
        let over = if is_failed { ", over" } else { "" };
        return Row::new(name, format!("{active} active, {done} succeeded, {failed} failed{over}"), !is_failed);
    }
    let (wanted, ready) = match kind {
        "daemonset" => ("/status/desiredNumberScheduled", "/status/numberReady"),
        _ => ("/spec/replicas", "/status/readyReplicas"),
    };
    let (wanted, ready) = (number(object, wanted), number(object, ready));
    let paused = if object.pointer("/spec/paused") == Some(&Value::Bool(true)) { ", paused" } else { "" };
    let stuck = condition(object, "Progressing").is_some_and(|condition| condition["status"] == "False");
    let stuck = if stuck { ", its rollout has failed" } else { "" };
    Row::new(name, format!("{ready}/{wanted} ready{paused}{stuck}"), ready >= wanted && stuck.is_empty())
}

fn at(event: &Value) -> Option<Timestamp> {
    ["/lastTimestamp", "/eventTime", "/metadata/creationTimestamp"]
        .iter()
        .find_map(|path| text(event, path).parse().ok())
}

/// The newest Events of a sort, one for each object and reason.
fn events(seen: &Seen, now: Timestamp, is_wanted: impl Fn(&Value) -> bool, age_max: i64) -> Vec<Row> {
    let mut found: Vec<(Timestamp, &Value)> =
        seen.events.iter().filter(|event| is_wanted(event)).filter_map(|event| Some((at(event)?, event))).collect();
    found.retain(|(at, _)| now.as_second() - at.as_second() <= age_max);
    found.sort_list_by_key(|(at, _)| std::cmp::Reverse(*at));
    let mut rows: Vec<Row> = Vec::new();
    for (at, event) in found {
        let kind = text(event, "/involvedObject/kind").to_lowercase();
        let name = called(&kind, &serde_json::json!({ "metadata": event["involvedObject"] }));
        let ok = text(event, "/type") != "Warning";
        let is_new = rows.iter().all(|row| row.name != name);
        if rows.len() < SHOWN_MAX && (ok || is_new) {
            rows.push(Row::new(name, format!("{} ago: {}", since(at, now), text(event, "/message").trim_end()), ok));
        }
    }
    rows
}

/// Containers that wait with a reason, and Events that warn.
fn warnings(seen: &Seen, now: Timestamp) -> Vec<Row> {
    let mut rows = Vec::new();
    for pod in &seen.pods {
        let containers = pod.pointer("/status/containerStatuses").and_then(Value::as_array).into_iter().flatten();
        for container in containers {
            let reason = text(container, "/state/waiting/reason");
            if !matches!(reason, "" | "ContainerCreating" | "PodInitializing") {
                let name = called("pod", pod);
                let says =
                    format!("{}: {reason}: {}", text(container, "/name"), remedy(reason, text(pod, "/metadata/name")));
                rows.push(Row::new(name, says, false));
            }
        }
    }
    rows.truncate(SHOWN_MAX);
    let more = events(seen, now, |event| text(event, "/type") == "Warning", WARNING_SECS_MAX);
    rows.extend(more.into_iter().filter(|event| rows.iter().all(|row| row.name != event.name)).collect::<Vec<_>>());
    rows
}

/// What to do about a container that waits.
fn remedy(reason: &str, pod: &str) -> String {
    match reason {
        "CrashLoopBackOff" => format!("`kubectl logs {pod} --previous` has its last words"),
        "ErrImagePull" | "ImagePullBackOff" => "build the image here, or correct its name".to_owned(),
        "ErrImageNeverPull" => "the image is not here, and imagePullPolicy is Never".to_owned(),
        _ => format!("`kubectl describe pod {pod}` tells more"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn seen() -> Seen {
        let event = |kind: &str, name: &str, reason: &str, second: u8, says: &str| {
            json!({ "type": kind, "reason": reason, "message": says, "lastTimestamp": format!("2026-01-01T00:00:{second:02}Z"),
                "involvedObject": { "kind": "Pod", "namespace": "default", "name": name } })
        };
        Seen {
            nodes: vec![json!({ "metadata": { "name": "skiff" }, "status": {
                "conditions": [{ "type": "Ready", "status": "True" }],
                "nodeInfo": { "containerRuntimeVersion": "docker://28.0.0" } } })],
            usage: vec![json!({ "metadata": { "name": "skiff" }, "usage": { "cpu": "120m", "memory": "300Mi" } })],
            services: vec![
                json!({ "metadata": { "name": "web", "namespace": "default" }, "spec": { "type": "NodePort",
                    "ports": [{ "port": 80, "nodePort": 30000 }] } }),
                json!({ "metadata": { "name": "front", "namespace": "shop" }, "spec": { "type": "LoadBalancer",
                    "ports": [{ "port": 80 }] }, "status": { "loadBalancer": {} } }),
                json!({ "metadata": { "name": "inner" }, "spec": { "type": "ClusterIP", "ports": [{ "port": 80 }] } }),
            ],
            workloads: vec![
                (
                    "deployment",
                    vec![json!({ "metadata": { "name": "web", "namespace": "default" },
                    "spec": { "replicas": 3 }, "status": { "readyReplicas": 2 } })],
                ),
                ("replicaset", vec![json!({ "metadata": { "name": "web-1", "ownerReferences": [{}] } })]),
                ("job", vec![json!({ "metadata": { "name": "once" }, "status": { "succeeded": 1 } })]),
            ],
            pods: vec![json!({ "metadata": { "name": "web-1-a", "namespace": "default", "ownerReferences": [{}] },
                "status": { "containerStatuses": [{ "name": "c", "state": { "waiting": { "reason": "CrashLoopBackOff" } } }] } })],
            events: vec![
                event("Normal", "web-1-b", "Healed", 30, "container c was killed (exit 137), ready after 240 ms"),
                event("Warning", "web-1-a", "BackOff", 40, "Back-off restarting failed container"),
                event("Warning", "web-1-c", "FailedMount", 20, "no such map"),
                event("Normal", "web-1-c", "Scheduled", 10, "assigned"),
            ],
            ..Seen::default()
        }
    }

    #[test]
    fn a_screen_says_where_it_answers_what_runs_and_what_is_wrong() {
        let status = Status::of("skiff", &seen(), "2026-01-01T00:01:00Z".parse().unwrap());
        expect_test::expect![[r#"
            cluster skiff

            nodes
               node/skiff  ready, docker 28.0.0, uses cpu 120m, memory 300Mi

            answers at
               service/web            http://localhost:30000
             ! service/front -n shop  has no address yet: `kubectl describe` tells why

            runs
             ! deployment/web  2/3 ready
               job/once        0 active, 1 succeeded, 0 failed

            healed
               pod/web-1-b  30s ago: container c was killed (exit 137), ready after 240 ms

            warnings
             ! pod/web-1-a  c: CrashLoopBackOff: `kubectl logs web-1-a --previous` has its last words
             ! pod/web-1-c  40s ago: no such map
        "#]]
        .assert_eq(&status.text());
        let json = serde_json::to_value(&status).unwrap();
        assert_eq!(json["workloads"][0], json!({ "name": "deployment/web", "says": "2/3 ready", "ok": false }));
    }

    #[test]
    fn an_empty_cluster_says_how_to_go_on() {
        let text = Status::of("skiff", &Seen::default(), Timestamp::UNIX_EPOCH).text();
        assert!(text.contains("nothing yet: `kubectl create deployment …`"), "{text}");
        assert!(!text.contains("warnings"), "{text}");
    }
}

//! The `proxy` of a node, in the parts of a kubelet that tools read: `healthz`, `pods`, `stats/summary`, `metrics/resource`,
//! `metrics/cadvisor`. Of the network there is what went through the pods' own interfaces, of disks what containers read and wrote.
//!
//! **Source** of names and shapes: `pkg/kubelet/server/server.go`, `pkg/kubelet/metrics/collectors/resource_metrics.go`,
//! k8s.io/kubelet/pkg/apis/stats/v1alpha1/types.go, v1.37; metrics/prometheus.go of cadvisor, v0.52.

use super::Call;
use crate::{
    api::{
        kinds::{node::Nodes, pod::Pods},
        object::untyped,
        status::ApiError,
        usage::{ContainerUsage, DiskUsage, MachineUsage, PodUsage},
    },
    base::{
        exposition::{Exposition, Kind},
        ordered::Map,
        traffic::{Flow, InterfaceUsage},
    },
    server::respond::{self, Response, respond},
};
use jiff::Timestamp;
use k8s_openapi::api::core::v1::Pod;
use serde_json::{Value, json};

const EXPOSITION: &str = "text/plain; version=0.0.4; charset=utf-8";

/// Answers for the kubelet of the node that the path names.
pub(super) async fn get(call: &Call<'_>) -> Result<Response, ApiError> {
    let node = call.registry().api::<Nodes>().get(&call.key());
    let node = node.ok_or_else(|| ApiError::not_found(call.kind.info(), &call.info.name))?;
    let path = call.info.rest.join("/");
    if path == "healthz" {
        return Ok(respond::text(200, "ok"));
    }
    if path == "pods" {
        let pods = pods(call);
        return Ok(respond(200, "application/json", respond::full(pods.to_string())));
    }
    if !MEASURED.contains(&&*path) {
        // A kubelet's is plain text, of which kubectl shows nothing.
        let status = json!({
            "kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Failure", "reason": "NotFound", "code": 404,
            "message": not_here(&path),
        });
        return Ok(respond(404, "application/json", respond::full(status.to_string())));
    }
    let mut usages = call.state.usages().pods().await?;
    usages.retain(|usage| usage.node == call.info.name);
    let machine =
        if path == "metrics/resource" { MachineUsage::default() } else { call.state.usages().machine().await? };
    match &*path {
        "stats/summary" => {
            let since = node.metadata.creation_timestamp.as_ref().map(|t| t.0);
            let summary = summary(&call.info.name, since, &usages, &machine);
            Ok(respond(200, "application/json", respond::full(summary.to_string())))
        }
        "metrics/resource" => Ok(respond(200, EXPOSITION, respond::full(resource_metrics(&usages)))),
        _ => Ok(respond(200, EXPOSITION, respond::full(cadvisor_metrics(&usages, &machine)))),
    }
}

/// What is measured when somebody asks.
const MEASURED: [&str; 3] = ["metrics/cadvisor", "metrics/resource", "stats/summary"];

/// What is said of any other path, first in the words of a kubelet.
fn not_here(path: &str) -> String {
    let instead = match path.split('/').next().unwrap_or_default() {
        "logs" => "The control plane's log is what `skiff logs` shows, and Docker's is with the machine's.",
        "containerLogs" | "exec" | "attach" | "portForward" | "run" => {
            "Streams of containers are sub-resources of their pods: pods/NAME/log, exec, attach, portforward."
        }
        "configz" => {
            "There is no KubeletConfiguration: `skiff config` shows what the cluster was started with, and the node's status what it gives."
        }
        "metrics" => "skiff's own metrics are at /metrics of the API.",
        _ => {
            "skiff is the kubelet of this node, and serves healthz, pods, stats/summary, metrics/resource and metrics/cadvisor here."
        }
    };
    format!("404 page not found: {path}. {instead}")
}

/// The pods of the node, as a kubelet lists them.
fn pods(call: &Call<'_>) -> Value {
    let is_here = |pod: &Pod| pod.spec.as_ref().and_then(|spec| spec.node_name.as_deref()) == Some(&*call.info.name);
    let all = call.registry().api::<Pods>().list("").items;
    let items: Vec<Value> = all.iter().filter(|pod| is_here(pod)).map(|pod| untyped(&**pod)).collect();
    json!({ "kind": "PodList", "apiVersion": "v1", "metadata": {}, "items": items })
}

type Amount = fn(&ContainerUsage) -> u64;

fn amounts(at: Timestamp, of: impl Fn(Amount) -> u64) -> [Value; 2] {
    let cpu = json!({
        "time": at, "usageNanoCores": of(|c| c.cpu_nano_cores), "usageCoreNanoSeconds": of(|c| c.cpu_nanos),
    });
    let memory = json!({
        "time": at, "usageBytes": of(|c| c.memory_bytes), "workingSetBytes": of(|c| c.working_set_bytes),
        "rssBytes": of(|c| c.rss_bytes),
    });
    [cpu, memory]
}

fn network(at: Timestamp, interfaces: &Map<String, InterfaceUsage>) -> Value {
    let interface = |(name, one): (&String, &InterfaceUsage)| {
        json!({
            "name": name, "rxBytes": one.received.bytes, "rxErrors": one.received.errors, "txBytes": one.sent.bytes,
            "txErrors": one.sent.errors,
        })
    };
    let all: Vec<Value> = interfaces.iter().map(interface).collect();
    // The first is what a reader takes who knows of one only.
    let mut network = all.first().cloned().unwrap_or_else(|| json!({ "name": "" }));
    network["time"] = json!(at);
    network["interfaces"] = json!(all);
    network
}

fn file_system(at: Timestamp, machine: &MachineUsage) -> Value {
    let (capacity, free) = (machine.disk_bytes, machine.disk_free_bytes);
    json!({
        "time": at, "capacityBytes": capacity, "availableBytes": free, "usedBytes": capacity.saturating_sub(free),
    })
}

fn summary(node: &str, since: Option<Timestamp>, usages: &[PodUsage], machine: &MachineUsage) -> Value {
    let container = |at: Timestamp, c: &ContainerUsage| {
        let [cpu, memory] = amounts(at, |of| of(c));
        json!({ "name": c.name, "startTime": c.started_at, "cpu": cpu, "memory": memory })
    };
    let pod = |usage: &PodUsage| {
        let [cpu, memory] = amounts(usage.at, |of| usage.total(of));
        let mut pod = json!({
            "podRef": { "name": usage.key.name, "namespace": usage.key.namespace, "uid": usage.uid },
            "startTime": usage.containers.iter().filter_map(|c| c.started_at).min(),
            "containers": usage.containers.iter().map(|c| container(usage.at, c)).collect::<Vec<_>>(),
            "cpu": cpu,
            "memory": memory,
        });
        if let Some(interfaces) = machine.interfaces.get(&usage.uid) {
            pod["network"] = network(usage.at, interfaces);
        }
        pod
    };
    let at = usages.iter().map(|usage| usage.at).max().unwrap_or_default();
    let [cpu, memory] = amounts(at, |of| usages.iter().map(|usage| usage.total(of)).sum());
    let fs = if machine.disk_bytes > 0 { file_system(at, machine) } else { Value::Null };
    json!({
        "node": {
            "nodeName": node, "startTime": since, "cpu": cpu, "memory": memory, "fs": fs, "runtime": { "imageFs": fs },
        },
        "pods": usages.iter().map(pod).collect::<Vec<_>>(),
    })
}

/// Billionths of a second as Prometheus counts them.
#[allow(
    clippy::cast_precision_loss,
    reason = "a double has 15 digits, which are days in billionths of a second and more"
)]
fn secs(nanos: u64) -> f64 {
    nanos as f64 / 1e9
}

fn millis(at: Timestamp) -> i64 {
    at.as_millisecond()
}

/// A metric of each container.
type Metric = (&'static str, Kind, &'static str, fn(&ContainerUsage) -> f64);

#[allow(clippy::cast_precision_loss, reason = "a double has 15 digits, which are terabytes in bytes and more")]
fn started(c: &ContainerUsage) -> f64 {
    c.started_at.map_or(0.0, |at| at.as_millisecond() as f64 / 1e3)
}

#[allow(clippy::cast_precision_loss, reason = "a double has 15 digits, which are terabytes in bytes and more")]
fn working_set(c: &ContainerUsage) -> f64 {
    c.working_set_bytes as f64
}

fn each_container(out: &mut Exposition, usages: &[PodUsage], metrics: &[Metric], with_ids: bool) {
    for (name, kind, help, value) in metrics {
        out.metric(name, *kind, help);
        for usage in usages {
            for c in &usage.containers {
                let mut labels =
                    vec![("container", &*c.name), ("namespace", &*usage.key.namespace), ("pod", &*usage.key.name)];
                if with_ids {
                    labels.extend([("id", &*c.id), ("image", &*c.image)]);
                }
                out.sample(name, &labels, format_args!("{} {}", value(c), millis(usage.at)));
            }
        }
    }
}

fn resource_metrics(usages: &[PodUsage]) -> String {
    let mut out = Exposition::default();
    let cpu = "Cumulative cpu time consumed by the";
    let memory = "Current working set of the";
    let containers: [Metric; 3] = [
        (
            "container_cpu_usage_seconds_total",
            Kind::Counter,
            "[STABLE] Cumulative cpu time consumed by the container in core-seconds",
            |c| secs(c.cpu_nanos),
        ),
        (
            "container_memory_working_set_bytes",
            Kind::Gauge,
            "[STABLE] Current working set of the container in bytes",
            working_set,
        ),
        (
            "container_start_time_seconds",
            Kind::Gauge,
            "[STABLE] Start time of the container since unix epoch in seconds",
            started,
        ),
    ];
    each_container(&mut out, usages, &containers, false);
    let at = usages.iter().map(|usage| millis(usage.at)).max().unwrap_or_default();
    let sum = |of: Amount| -> u64 { usages.iter().map(|usage| usage.total(of)).sum() };
    out.metric("node_cpu_usage_seconds_total", Kind::Counter, &format!("[STABLE] {cpu} node in core-seconds"));
    out.sample("node_cpu_usage_seconds_total", &[], format_args!("{} {at}", secs(sum(|c| c.cpu_nanos))));
    out.metric("node_memory_working_set_bytes", Kind::Gauge, &format!("[STABLE] {memory} node in bytes"));
    out.sample("node_memory_working_set_bytes", &[], format_args!("{} {at}", sum(|c| c.working_set_bytes)));
    let labels = |usage: &PodUsage| (usage.key.namespace.clone(), usage.key.name.clone());
    out.metric("pod_cpu_usage_seconds_total", Kind::Counter, &format!("[STABLE] {cpu} pod in core-seconds"));
    for usage in usages {
        let (namespace, pod) = labels(usage);
        let value = format!("{} {}", secs(usage.total(|c| c.cpu_nanos)), millis(usage.at));
        out.sample("pod_cpu_usage_seconds_total", &[("namespace", &namespace), ("pod", &pod)], value);
    }
    out.metric("pod_memory_working_set_bytes", Kind::Gauge, &format!("[STABLE] {memory} pod in bytes"));
    for usage in usages {
        let (namespace, pod) = labels(usage);
        let value = format!("{} {}", usage.total(|c| c.working_set_bytes), millis(usage.at));
        out.sample("pod_memory_working_set_bytes", &[("namespace", &namespace), ("pod", &pod)], value);
    }
    let help = "[STABLE] 1 if there was an error while getting container metrics, 0 otherwise";
    out.metric("resource_scrape_error", Kind::Gauge, help);
    out.sample("resource_scrape_error", &[], 0);
    out.text()
}

#[allow(clippy::cast_precision_loss, reason = "a double has 15 digits, which are terabytes in bytes and more")]
fn cadvisor_metrics(usages: &[PodUsage], machine: &MachineUsage) -> String {
    let mut out = Exposition::default();
    let metrics: [Metric; 5] = [
        ("container_cpu_usage_seconds_total", Kind::Counter, "Cumulative cpu time consumed in seconds.", |c| {
            secs(c.cpu_nanos)
        }),
        ("container_memory_rss", Kind::Gauge, "Size of RSS in bytes.", |c| c.rss_bytes as f64),
        (
            "container_memory_usage_bytes",
            Kind::Gauge,
            "Current memory usage in bytes, including all memory regardless of when it was accessed",
            |c| c.memory_bytes as f64,
        ),
        ("container_memory_working_set_bytes", Kind::Gauge, "Current working set in bytes.", working_set),
        (
            "container_start_time_seconds",
            Kind::Gauge,
            "Start time of the container since unix epoch in seconds.",
            started,
        ),
    ];
    each_container(&mut out, usages, &metrics, true);
    disk_metrics(&mut out, usages);
    network_metrics(&mut out, usages, machine);
    out.text()
}

fn disk_metrics(out: &mut Exposition, usages: &[PodUsage]) {
    type Read = fn(&DiskUsage) -> u64;
    let metrics: [(&str, &str, Read); 2] = [
        ("container_fs_reads_bytes_total", "Cumulative count of bytes read", |disk| disk.read_bytes),
        ("container_fs_writes_bytes_total", "Cumulative count of bytes written", |disk| disk.written_bytes),
    ];
    for (name, help, read) in metrics {
        out.metric(name, Kind::Counter, help);
        let each = usages.iter().flat_map(|usage| usage.containers.iter().map(move |c| (usage, c)));
        for (usage, c) in each {
            for disk in &c.disks {
                let labels = [
                    ("container", &*c.name),
                    ("namespace", &*usage.key.namespace),
                    ("pod", &*usage.key.name),
                    ("id", &*c.id),
                    ("image", &*c.image),
                    ("device", &*disk.device),
                ];
                out.sample(name, &labels, format_args!("{} {}", read(disk), millis(usage.at)));
            }
        }
    }
}

fn network_metrics(out: &mut Exposition, usages: &[PodUsage], machine: &MachineUsage) {
    type Count = (&'static str, &'static str, fn(&Flow) -> u64);
    const COUNTS: [Count; 4] = [
        ("bytes_total", "bytes", |flow| flow.bytes),
        ("packets_total", "packets", |flow| flow.packets),
        ("errors_total", "errors", |flow| flow.errors),
        ("packets_dropped_total", "packets dropped", |flow| flow.dropped),
    ];
    type Way = (&'static str, &'static str, fn(&InterfaceUsage) -> &Flow);
    const WAYS: [Way; 2] = [("receive", "received", |one| &one.received), ("transmit", "transmitted", |one| &one.sent)];
    for (way, past, flow) in WAYS {
        for (count, what, value) in COUNTS {
            let name = format!("container_network_{way}_{count}");
            out.metric(&name, Kind::Counter, &format!("Cumulative count of {what} {past}"));
            for usage in usages {
                for (interface, one) in machine.interfaces.get(&usage.uid).into_iter().flatten() {
                    let labels =
                        [("namespace", &*usage.key.namespace), ("pod", &*usage.key.name), ("interface", &**interface)];
                    out.sample(&name, &labels, format_args!("{} {}", value(flow(one)), millis(usage.at)));
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::api::meta::ObjectKey;
    use expect_test::expect;
    use std::time::Duration;

    fn usages() -> Vec<PodUsage> {
        let container = ContainerUsage {
            name: "c".into(),
            id: "1f".into(),
            image: "i:1".into(),
            started_at: Some("2026-01-01T00:00:00Z".parse().unwrap()),
            cpu_nano_cores: 250_000_000,
            cpu_nanos: 1_500_000_000,
            memory_bytes: 3000,
            working_set_bytes: 2000,
            rss_bytes: 1000,
            disks: vec![DiskUsage { device: "/dev/block/8:0".into(), read_bytes: 5, written_bytes: 6 }],
        };
        vec![PodUsage {
            key: ObjectKey::new("n", "p"),
            uid: "u".into(),
            node: "skiff".into(),
            at: "2026-01-01T00:00:06Z".parse().unwrap(),
            window: Duration::from_secs(2),
            containers: vec![container],
        }]
    }

    fn machine() -> MachineUsage {
        let flow = |bytes| Flow { bytes, packets: 2, ..Flow::default() };
        let eth0 = InterfaceUsage { received: flow(70), sent: flow(80) };
        MachineUsage {
            interfaces: [("u".into(), [("eth0".to_owned(), eth0)].into())].into(),
            disk_bytes: 100,
            disk_free_bytes: 40,
        }
    }

    #[test]
    fn networks_and_disks_are_in_summary_and_metrics() {
        let summary = summary("skiff", None, &usages(), &machine());
        let network = json!({
            "time": "2026-01-01T00:00:06Z", "name": "eth0", "rxBytes": 70, "rxErrors": 0, "txBytes": 80, "txErrors": 0,
            "interfaces": [{ "name": "eth0", "rxBytes": 70, "rxErrors": 0, "txBytes": 80, "txErrors": 0 }],
        });
        assert_eq!(summary["pods"][0]["network"], network);
        assert_eq!(summary["node"]["fs"]["usedBytes"], 60);
        let metrics = cadvisor_metrics(&usages(), &machine());
        for line in [
            r#"container_network_receive_bytes_total{namespace="n",pod="p",interface="eth0"} 70 1767225606000"#,
            r#"container_network_transmit_packets_total{namespace="n",pod="p",interface="eth0"} 2 1767225606000"#,
            r#"container_fs_writes_bytes_total{container="c",namespace="n",pod="p",id="1f",image="i:1",device="/dev/block/8:0"} 6 1767225606000"#,
        ] {
            assert!(metrics.lines().any(|l| l == line), "{line} is not in\n{metrics}");
        }
    }

    #[test]
    fn a_summary_has_node_pods_and_containers() {
        let summary = summary("skiff", None, &usages(), &MachineUsage::default());
        assert_eq!(summary["pods"][0].get("network"), None);
        assert_eq!(summary["node"]["cpu"]["usageNanoCores"], 250_000_000);
        assert_eq!(summary["pods"][0]["podRef"], json!({ "name": "p", "namespace": "n", "uid": "u" }));
        assert_eq!(summary["pods"][0]["containers"][0]["memory"]["workingSetBytes"], 2000);
        assert_eq!(summary["pods"][0]["containers"][0]["startTime"], "2026-01-01T00:00:00Z");
    }

    #[test]
    fn metrics_have_the_kubelets_names_and_times() {
        let lines = |text: String| text.lines().filter(|l| !l.starts_with('#')).collect::<Vec<_>>().join("\n");
        expect![[r#"
            container_cpu_usage_seconds_total{container="c",namespace="n",pod="p"} 1.5 1767225606000
            container_memory_working_set_bytes{container="c",namespace="n",pod="p"} 2000 1767225606000
            container_start_time_seconds{container="c",namespace="n",pod="p"} 1767225600 1767225606000
            node_cpu_usage_seconds_total 1.5 1767225606000
            node_memory_working_set_bytes 2000 1767225606000
            pod_cpu_usage_seconds_total{namespace="n",pod="p"} 1.5 1767225606000
            pod_memory_working_set_bytes{namespace="n",pod="p"} 2000 1767225606000
            resource_scrape_error 0"#]]
        .assert_eq(&lines(resource_metrics(&usages())));
        assert!(lines(cadvisor_metrics(&usages(), &machine())).contains(
            r#"container_memory_rss{container="c",namespace="n",pod="p",id="1f",image="i:1"} 1000 1767225606000"#
        ));
    }
}

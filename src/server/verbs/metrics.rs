//! Answers for metrics.k8s.io/v1beta1: what pods and nodes use, measured when it is asked for.
//!
//! A pod without a running container that was measured is not told of, as with metrics-server. A node's usage is that of its pods.
//!
//! **Source**: pkg/api/{node,pod}.go of metrics-server, v0.8.

use super::{
    Call,
    views::{list, single},
};
use crate::{
    api::{
        kinds::{node::Nodes, pod::Pods},
        quantity::Quantity,
        status::ApiError,
        usage::{ContainerUsage, PodUsage},
    },
    server::{respond::Response, route::Verb},
};
use jiff::Timestamp;
use k8s_openapi::api::core::v1::{Node, Pod};
use serde_json::{Value, json};
use std::{collections::BTreeMap, sync::Arc, time::Duration};

/// Answers with what pods use.
pub(super) async fn pods(call: &Call<'_>) -> Result<Response, ApiError> {
    let usages = call.state.usages().pods().await?;
    let api = call.registry().api::<Pods>();
    let view = |usage: &PodUsage| {
        let pod = api.get(&usage.key).filter(|pod| pod.metadata.uid.as_deref() == Some(&*usage.uid))?;
        Some(pod_view(&pod, usage, call.registry().clock().now()))
    };
    if call.info.verb == Verb::List {
        let of_namespace =
            |usage: &&PodUsage| call.info.namespace.is_empty() || call.info.namespace == usage.key.namespace;
        return list(call, usages.iter().filter(of_namespace).filter_map(view).collect());
    }
    let key = call.key();
    let found = usages.iter().find(|usage| usage.key == key).and_then(view);
    single(call, 200, found.ok_or_else(|| ApiError::not_found(call.kind.info(), &key.name))?)
}

/// Answers with what nodes use.
pub(super) async fn nodes(call: &Call<'_>) -> Result<Response, ApiError> {
    let usages = call.state.usages().pods().await?;
    let api = call.registry().api::<Nodes>();
    let now = call.registry().clock().now();
    let pods = call.registry().api::<Pods>().list("").items;
    let view = |node: &Node| node_view(node, &pods, &usages, now);
    if call.info.verb == Verb::List {
        return list(call, api.list("").items.iter().filter_map(|node| view(node)).collect());
    }
    let key = call.key();
    let view = api.get(&key).and_then(|node| view(&node));
    single(call, 200, view.ok_or_else(|| ApiError::not_found(call.kind.info(), &key.name))?)
}

fn usage(cpu_nano_cores: u64, working_set_bytes: u64) -> Value {
    let bytes = Quantity::from_bytes(i64::try_from(working_set_bytes).unwrap_or(i64::MAX));
    json!({ "cpu": format!("{cpu_nano_cores}n"), "memory": bytes.to_text().0 })
}

fn pod_view(pod: &Pod, of: &PodUsage, now: Timestamp) -> Value {
    let container =
        |c: &ContainerUsage| json!({ "name": c.name, "usage": usage(c.cpu_nano_cores, c.working_set_bytes) });
    json!({
        "metadata": metadata(&of.key.name, Some(&of.key.namespace), pod.metadata.labels.as_ref(), now),
        "timestamp": seconds(of.at),
        "window": window_text(of.window),
        "containers": of.containers.iter().map(container).collect::<Vec<_>>(),
    })
}

/// What the pods of a node use; `None` when it has some and none was measured.
fn node_view(node: &Node, pods: &[Arc<Pod>], usages: &[PodUsage], now: Timestamp) -> Option<Value> {
    let name = node.metadata.name.as_deref()?;
    let mine: Vec<&PodUsage> = usages.iter().filter(|usage| usage.node == name).collect();
    let has_pods = pods.iter().any(|pod| pod.spec.as_ref().is_some_and(|s| s.node_name.as_deref() == Some(name)));
    if mine.is_empty() && has_pods {
        return None;
    }
    let at = mine.iter().map(|usage| usage.at).max().unwrap_or(now);
    let window = mine.iter().map(|usage| usage.window).max().unwrap_or_default();
    let total = |of: fn(&ContainerUsage) -> u64| mine.iter().map(|usage| usage.total(of)).sum();
    Some(json!({
        "metadata": metadata(name, None, node.metadata.labels.as_ref(), now),
        "timestamp": seconds(at),
        "window": window_text(window),
        "usage": usage(total(|c| c.cpu_nano_cores), total(|c| c.working_set_bytes)),
    }))
}

fn metadata(
    name: &str,
    namespace: Option<&String>,
    labels: Option<&BTreeMap<String, String>>,
    now: Timestamp,
) -> Value {
    let mut metadata = json!({ "name": name, "creationTimestamp": seconds(now) });
    if let Some(namespace) = namespace {
        metadata["namespace"] = json!(namespace);
    }
    if let Some(labels) = labels {
        metadata["labels"] = json!(labels);
    }
    metadata
}

/// A time as API objects have it: whole seconds.
fn seconds(at: Timestamp) -> String {
    Timestamp::from_second(at.as_second()).unwrap_or(at).to_string()
}

/// A duration as Go prints it, to the millisecond.
fn window_text(window: Duration) -> String {
    let millis = window.as_millis();
    let (minutes, rest) = (millis / 60_000, millis % 60_000);
    let mut text = format!("{}.{:03}", rest / 1000, rest % 1000);
    text.truncate(text.trim_end_matches('0').trim_end_matches('.').len());
    if minutes > 0 { format!("{minutes}m{text}s") } else { format!("{text}s") }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_read_as_gos() {
        let text = |millis| window_text(Duration::from_millis(millis));
        assert_eq!([500, 10_000, 15_024, 60_000, 61_500].map(text), ["0.5s", "10s", "15.024s", "1m0s", "1m1.5s"]);
    }
}

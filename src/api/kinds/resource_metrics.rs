//! What metrics.k8s.io/v1beta1 shows of what pods and nodes use, and never stores: `NodeMetrics` and `PodMetrics`.
//!
//! **Not here**: the answers (`server/verbs/metrics`), the measuring (the node).
//! **Source** of names and columns: k8s.io/metrics/pkg/apis/metrics/v1beta1, v1.37; pkg/api/table.go of metrics-server, v0.8.

use crate::api::{
    json_kind::{JsonKind, Rules, at},
    kind::{KindInfo, Scope},
    object::Untyped,
    quantity::Quantity,
    table::{self, Column},
};
use serde_json::{Map, Value, json};

/// The API group of metrics.
pub const GROUP: &str = "metrics.k8s.io";

const COLUMNS: &[Column<'static>] = &[
    Column::name(),
    Column { format: "quantity", ..Column::text("cpu", "How much processor is used.") },
    Column { format: "quantity", ..Column::text("memory", "How much memory is used.") },
    Column { format: "duration", ..Column::text("Window", "How long was measured.") },
];

const fn info(kind: &'static str, plural: &'static str, scope: Scope, schema: &'static str) -> KindInfo<'static> {
    KindInfo {
        verbs: &["get", "list"],
        columns: COLUMNS,
        ..KindInfo::of((GROUP, "v1beta1", kind), (plural, ""), scope, schema)
    }
}

/// The kind `NodeMetrics`: what the pods of a node use.
pub static NODE_METRICS: JsonKind = JsonKind::new(
    info("NodeMetrics", "nodes", Scope::Cluster, "io.k8s.metrics.pkg.apis.metrics.v1beta1.NodeMetrics"),
    Rules { row: |obj, _| row(obj, |name| amount(obj.rest.get("usage"), name)), ..Rules::PLAIN },
);

/// The kind `PodMetrics`: what the containers of a pod use.
pub static POD_METRICS: JsonKind = JsonKind::new(
    info("PodMetrics", "pods", Scope::Namespaced, "io.k8s.metrics.pkg.apis.metrics.v1beta1.PodMetrics"),
    Rules { row: |obj, _| row(obj, |name| of_containers(&obj.rest, name)), ..Rules::PLAIN },
);

fn row(obj: &Untyped, amount: impl Fn(&str) -> Quantity) -> Vec<Value> {
    let text = |name| json!(amount(name).to_text().0);
    vec![table::name(&obj.metadata), text("cpu"), text("memory"), json!(at(&obj.rest, "window"))]
}

fn amount(usage: Option<&Value>, name: &str) -> Quantity {
    let text = usage.and_then(|usage| usage.get(name)).and_then(Value::as_str);
    text.and_then(|text| Quantity::parse(text).ok()).unwrap_or(Quantity::ZERO)
}

fn of_containers(fields: &Map<String, Value>, name: &str) -> Quantity {
    let containers = fields.get("containers").and_then(Value::as_array).into_iter().flatten();
    let amounts = containers.map(|container| amount(container.get("usage"), name));
    amounts.reduce(Quantity::plus).unwrap_or(Quantity::ZERO)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::api::kinds::testing::json::row;

    #[test]
    fn a_row_tells_the_sum_of_the_containers() {
        let pod = "{metadata: {name: p}, window: 15s, containers: [{name: a, usage: {cpu: 1500n, memory: 4Ki}}, \
                   {name: b, usage: {cpu: 500n, memory: 8Ki}}]}";
        assert_eq!(row(&POD_METRICS, pod), "p | 2u | 12Ki | 15s");
        let node = "{metadata: {name: node}, window: 1m0s, usage: {cpu: 3m, memory: 1Mi}}";
        assert_eq!(row(&NODE_METRICS, node), "node | 3m | 1Mi | 1m0s");
    }
}

//! `EndpointTraffic` and `TrafficReport`, skiff.dev/v1: what the data plane counts at endpoints, shown and never stored.
//!
//! **Not here**: what they hold ([`traffic`](crate::api::traffic)), the answers (`server/verbs/traffic`).

use crate::api::{
    json_kind::{JsonKind, Rules, at},
    kind::{KindInfo, Scope},
    table::{self, Column},
};
use serde_json::{Value, json};

const COLUMNS: &[Column<'static>] = &[
    Column::name(),
    Column::text("Service", "The Service that it stands behind."),
    Column::text("Pod", "The pod, when it is one."),
    Column::text("In Rotation", "Whether new connections go there."),
    Column::number("Connections", "Connections and requests begun."),
    Column::number("Active", "Those that are open now."),
    Column::number("Lost", "Those that a client lost because the endpoint broke off."),
];

/// The kind `EndpointTraffic`: the data plane tells it while somebody looks.
pub static ENDPOINT_TRAFFIC: JsonKind = JsonKind::new(
    KindInfo {
        verbs: &["get", "list", "watch"],
        short_names: &["traffic"],
        columns: COLUMNS,
        ..KindInfo::of(
            ("skiff.dev", "v1", "EndpointTraffic"),
            ("endpointtraffic", "endpointtraffic"),
            Scope::Namespaced,
            "dev.skiff.v1.EndpointTraffic",
        )
    },
    Rules {
        row: |obj, _| {
            let of = |field| obj.rest.get(field).cloned().unwrap_or(Value::Null);
            let mut row =
                vec![table::name(&obj.metadata), json!(at(&obj.rest, "service")), json!(at(&obj.rest, "pod"))];
            row.extend(["inRotation", "connections", "active", "lost"].map(of));
            row
        },
        ..Rules::PLAIN
    },
);

/// The kind `TrafficReport`: what the data plane tells. Whoever makes one is answered once it is wanted.
pub static TRAFFIC_REPORTS: JsonKind = JsonKind::new(
    KindInfo {
        verbs: &["create"],
        ..KindInfo::of(
            ("skiff.dev", "v1", "TrafficReport"),
            ("trafficreports", "trafficreport"),
            Scope::Cluster,
            "dev.skiff.v1.TrafficReport",
        )
    },
    Rules::PLAIN,
);

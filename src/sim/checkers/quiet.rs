//! A world at rest is quiet: nothing is written but the node's signs of life, the node stays ready for pods, and the engine is asked
//! nothing but how it is.

use crate::{engine::fake::CallKind, sim::trace::Line};
use bytes::Bytes;
use k8s_openapi::api::core::v1::Node;

/// The kinds that are written for ever.
const SIGNS_OF_LIFE: [&str; 2] = ["core/nodes/", "coordination.k8s.io/leases/"];
/// The calls that are made for ever.
const HEALTH_CHECKS: [CallKind; 4] = [CallKind::Info, CallKind::Images, CallKind::List, CallKind::Volumes];

/// Looks at the lines that were added to the trace while nothing happened.
pub(super) fn nothing_happens(lines: &[Line]) {
    for line in lines {
        let is_fine = match line {
            Line::Stored(_, key, Some(node)) if key.starts_with("core/nodes/") => takes_pods(node),
            Line::Stored(_, key, _) => SIGNS_OF_LIFE.iter().any(|kind| key.starts_with(kind)),
            Line::Asked(call) => HEALTH_CHECKS.contains(&call.kind),
            Line::User(..) => false,
        };
        assert!(is_fine, "something happens although all is as wanted: {line}");
    }
}

fn takes_pods(node: &Bytes) -> bool {
    let node: Node = serde_json::from_slice(node).unwrap();
    let conditions = node.status.iter().flat_map(|s| s.conditions.iter().flatten());
    let is_ready = conditions.into_iter().any(|c| c.type_ == "Ready" && c.status == "True");
    is_ready && node.spec.iter().flat_map(|s| s.taints.iter().flatten()).count() == 0
}

//! A world at rest is quiet: nothing is written but the node's signs of life, and the engine is asked nothing but how it is.

use crate::{engine::fake::CallKind, sim::trace::Line};

/// The kinds that are written for ever.
const SIGNS_OF_LIFE: [&str; 2] = ["core/nodes/", "coordination.k8s.io/leases/"];
/// The calls that are made for ever.
const HEALTH_CHECKS: [CallKind; 4] = [CallKind::Info, CallKind::Images, CallKind::List, CallKind::Volumes];

/// Looks at the lines that were added to the trace while nothing happened.
pub(super) fn nothing_happens(lines: &[Line]) {
    for line in lines {
        let is_fine = match line {
            Line::Stored(_, key, _) => SIGNS_OF_LIFE.iter().any(|kind| key.starts_with(kind)),
            Line::Asked(call) => HEALTH_CHECKS.contains(&call.kind),
            Line::User(..) => false,
        };
        assert!(is_fine, "something happens although all is as wanted: {line}");
    }
}

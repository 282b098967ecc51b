//! The priority classes that every cluster has, whatever its users make of others.
//!
//! **Source**: `SystemPriorityClasses` in `pkg/apis/scheduling/v1/helpers.go`, v1.37.

/// The least priority of pods that serve the whole cluster. Source: `SystemCriticalPriority`, `pkg/apis/scheduling/types.go`, v1.37.
pub const SYSTEM_MIN: i32 = 2_000_000_000;

/// The priority that a class gives.
pub fn of_class(class: &str) -> Option<i32> {
    match class {
        "system-cluster-critical" => Some(SYSTEM_MIN),
        "system-node-critical" => Some(2_000_001_000),
        _ => None,
    }
}

//! A world at rest is quiet: nothing is written but the node's signs of life, and the engine is asked nothing but how it is.

/// The kinds that are written for ever.
const SIGNS_OF_LIFE: [&str; 2] = ["core/nodes/", "coordination.k8s.io/leases/"];
/// The calls that are made for ever.
const HEALTH_CHECKS: [&str; 4] = ["Info", "Images", "List", "Volumes"];

/// Looks at the lines that were added to the trace while nothing happened.
pub(super) fn nothing_happens(lines: &[String]) {
    for line in lines {
        let mut words = line.split(' ');
        let is_fine = match words.next() {
            Some("store:") => words.nth(1).is_some_and(|key| SIGNS_OF_LIFE.iter().any(|kind| key.starts_with(kind))),
            _ => words.nth(1).is_some_and(|call| HEALTH_CHECKS.contains(&call)),
        };
        assert!(is_fine, "something happens although all is as wanted: {line}");
    }
}

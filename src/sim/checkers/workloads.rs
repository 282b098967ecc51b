//! What pods of Jobs, StatefulSets and DaemonSets must not be: two at work on one index, or two of a DaemonSet on one node, or one of a
//! StatefulSet, whose pods are made in order, above a hole.

use super::model::{Model, Moved, Pair, uid};
use crate::api::{meta::controller_of, pod_state};
use k8s_openapi::api::core::v1::Pod;

const INDEX: &str = "batch.kubernetes.io/job-completion-index";

/// The kind of a pod's controller.
pub(super) fn owner_kind(pod: &Pod) -> &str {
    controller_of(&pod.metadata).map_or("", |owner| owner.kind.as_str())
}

pub(super) fn see(model: &Model, moved: &Moved) {
    let Moved::Pod(Pair { before: None, after: Some(new) }) = moved else { return };
    above_no_hole(model, new);
    let place = |pod: &Pod| match owner_kind(pod) {
        "Job" => pod.metadata.annotations.as_ref().and_then(|all| all.get(INDEX)).cloned(),
        "DaemonSet" => Some(format!("{:?}", pod.spec.as_ref().and_then(|s| s.affinity.as_ref()))),
        _ => None,
    };
    let Some(wanted) = place(new) else { return };
    let owner = |pod: &Pod| controller_of(&pod.metadata).map(|owner| owner.uid.clone());
    let is_rival = |pod: &Pod| {
        let counts = match owner_kind(pod) {
            "DaemonSet" => !pod_state::is_terminal(pod),
            _ => pod_state::is_active(pod),
        };
        counts
            && uid(&pod.metadata) != uid(&new.metadata)
            && owner(pod) == owner(new)
            && place(pod).as_ref() == Some(&wanted)
    };
    let rival = model.pods.values().find(|pod| is_rival(pod));
    let name = |pod: &Pod| pod.metadata.name.clone().unwrap_or_default();
    assert!(rival.is_none(), "{} is made, and {} is there for {wanted}", name(new), name(rival.unwrap()));
}

/// A pod of a StatefulSet is made when all of lower ordinals are there. Sets of the simulator make them in order.
fn above_no_hole(model: &Model, new: &Pod) {
    if owner_kind(new) != "StatefulSet" {
        return;
    }
    let owner = |pod: &Pod| controller_of(&pod.metadata).map(|owner| owner.uid.clone());
    let ordinal = |pod: &Pod| pod.metadata.name.as_deref()?.rsplit('-').next()?.parse::<i32>().ok();
    let fellows = model.pods.values().filter(|pod| owner(pod) == owner(new));
    let there: std::collections::BTreeSet<i32> = fellows.filter_map(|pod| ordinal(pod)).collect();
    let hole = (0..ordinal(new).unwrap_or(0)).find(|n| !there.contains(n));
    assert!(hole.is_none(), "{:?} is made, and {hole:?} is missing", new.metadata.name);
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::Arc;

    fn pod(name: &str) -> Arc<Pod> {
        let text = format!(
            "{{metadata: {{name: {name}, uid: {name}, annotations: {{'{INDEX}': '3'}}, ownerReferences: [{{apiVersion: batch/v1, kind: Job, name: j, uid: j, controller: true}}]}}}}"
        );
        Arc::new(crate::testing::from_yaml(&text).unwrap())
    }

    #[test]
    #[should_panic(expected = "b is made, and a is there for 3")]
    fn a_second_pod_of_an_index_is_noticed() {
        let model = Model { pods: [("a".to_owned(), pod("a"))].into(), ..Model::default() };
        see(&model, &Moved::Pod(Pair { before: None, after: Some(pod("b")) }));
    }
}

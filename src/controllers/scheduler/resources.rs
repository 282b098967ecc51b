//! What a pod asks of a node's resources.
//!
//! **Source**: `PodRequests`, k8s.io/component-helpers/resource/helpers.go, v1.37.

use crate::api::{pod_state, quantity::Quantity};
use k8s_openapi::{
    api::core::v1::{Pod, ResourceRequirements},
    apimachinery::pkg::api::resource::Quantity as Text,
};
use std::collections::BTreeMap;

/// Amounts by resource name.
pub(super) type Amounts = BTreeMap<String, Quantity>;

/// Amounts as they are written; what is no amount counts as none.
pub(super) fn amounts(written: Option<&BTreeMap<String, Text>>) -> Amounts {
    let read = |(name, text): (&String, &Text)| Some((name.clone(), Quantity::of(text).ok()?));
    written.into_iter().flatten().filter_map(read).collect()
}

/// Adds amounts to amounts.
pub(super) fn add(to: &mut Amounts, more: &Amounts) {
    for (name, amount) in more {
        let sum = to.entry(name.clone()).or_insert(Quantity::ZERO);
        *sum = sum.plus(*amount);
    }
}

fn raise(to: &mut Amounts, at_least: Amounts) {
    for (name, amount) in at_least {
        let most = to.entry(name).or_insert(Quantity::ZERO);
        *most = (*most).max(amount);
    }
}

/// What a pod asks for: its containers and sidecars together, or the largest init container if that is more, and the overhead.
pub(super) fn requests(pod: &Pod) -> Amounts {
    let Some(spec) = &pod.spec else { return Amounts::new() };
    let asked = |r: Option<&ResourceRequirements>| amounts(r.and_then(|r| r.requests.as_ref()));
    let (mut sidecars, mut while_starting) = (Amounts::new(), Amounts::new());
    for init in spec.init_containers.iter().flatten() {
        if pod_state::is_sidecar(init) {
            add(&mut sidecars, &asked(init.resources.as_ref()));
        } else {
            let mut together = asked(init.resources.as_ref());
            add(&mut together, &sidecars);
            raise(&mut while_starting, together);
        }
    }
    let mut total = sidecars;
    for container in &spec.containers {
        add(&mut total, &asked(container.resources.as_ref()));
    }
    raise(&mut total, while_starting);
    // Resources of the pod as a whole stand in place of those of its containers.
    total.extend(asked(spec.resources.as_ref()));
    add(&mut total, &amounts(spec.overhead.as_ref()));
    total
}

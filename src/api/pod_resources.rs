//! What a pod asks for, and what it is limited to: the resources of its containers together.
//!
//! Called by the scheduler, and by who bounds what pods may ask for.
//! **Source**: `PodRequests` and `PodLimits`, k8s.io/component-helpers/resource/helpers.go, v1.37.

use super::{pod_state, quantity::Quantity};
use crate::base::ordered::Map;
use k8s_openapi::{
    api::core::v1::{Container, PodSpec, ResourceRequirements},
    apimachinery::pkg::api::resource::Quantity as Text,
};
use std::collections::BTreeMap;

/// Amounts by resource name.
pub type Amounts = Map<String, Quantity>;

/// One side of a container's resources.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Side {
    /// What it asks for.
    Requests,
    /// What it may not exceed.
    Limits,
}

impl Side {
    /// The amounts of this side as they are written.
    pub fn of(self, resources: &ResourceRequirements) -> Option<&BTreeMap<String, Text>> {
        match self {
            Self::Requests => resources.requests.as_ref(),
            Self::Limits => resources.limits.as_ref(),
        }
    }

    /// The amounts of this side, to change.
    pub fn of_mut(self, resources: &mut ResourceRequirements) -> &mut Option<BTreeMap<String, Text>> {
        match self {
            Self::Requests => &mut resources.requests,
            Self::Limits => &mut resources.limits,
        }
    }
}

/// Amounts as they are written; what is no amount counts as none.
pub fn amounts(written: Option<&BTreeMap<String, Text>>) -> Amounts {
    let read = |(name, text): (&String, &Text)| Some((name.clone(), Quantity::of(text).ok()?));
    written.into_iter().flatten().filter_map(read).collect()
}

/// Adds amounts to amounts.
pub fn add(to: &mut Amounts, more: &Amounts) {
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

/// What a container has on this side.
pub fn of_container(container: &Container, side: Side) -> Amounts {
    amounts(container.resources.as_ref().and_then(|resources| side.of(resources)))
}

/// What the containers of a pod have together: containers and sidecars, or the largest init container if that is more.
pub fn of_containers(spec: &PodSpec, side: Side) -> Amounts {
    let (mut sidecars, mut while_starting) = (Amounts::new(), Amounts::new());
    for init in spec.init_containers.iter().flatten() {
        let mut together = of_container(init, side);
        if pod_state::is_sidecar(init) {
            add(&mut sidecars, &together);
        } else {
            add(&mut together, &sidecars);
            raise(&mut while_starting, together);
        }
    }
    let mut total = sidecars;
    for container in &spec.containers {
        add(&mut total, &of_container(container, side));
    }
    raise(&mut total, while_starting);
    total
}

/// What a pod has: its containers together, unless the pod as a whole says it itself, and the overhead of its runtime.
pub fn of_pod(spec: &PodSpec, side: Side) -> Amounts {
    let mut total = of_containers(spec, side);
    total.extend(amounts(spec.resources.as_ref().and_then(|resources| side.of(resources))));
    let mut overhead = amounts(spec.overhead.as_ref());
    if side == Side::Limits {
        // What is not limited does not become so by what is added.
        overhead.retain(|name, _| total.get(name).is_some_and(|amount| !amount.is_zero()));
    }
    add(&mut total, &overhead);
    total
}

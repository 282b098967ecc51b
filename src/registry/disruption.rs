//! How many pods of a PodDisruptionBudget may be evicted now.
//!
//! The disruption controller counts whenever a pod changes and writes the count into the status; an eviction counts once more before it takes
//! one, so that a status that lags (its controller is frozen, the owner was scaled a moment ago) lets go no pod too many.
//!
//! A pod that is named in the status as evicted counts as gone until it goes, for [`DISRUPTED_FOR`] at most.
//!
//! **Source**: `pkg/controller/disruption/disruption.go`, v1.37.

use super::{Registry, options::Selection};
use crate::{
    api::{
        disruption::{set_allowed, set_failed},
        fence::scaled,
        kind::KindRef,
        kinds::pod::Pods,
        meta::{ObjectKey, controller_of},
        pod_state,
        selector::{FieldSelector, LabelSelector},
    },
    base::{
        clock::whole_seconds,
        ordered::{CollectOrdered as _, Map},
    },
};
use jiff::{SignedDuration, Timestamp};
use k8s_openapi::{
    api::{
        core::v1::Pod,
        policy::v1::{PodDisruptionBudget, PodDisruptionBudgetStatus},
    },
    apimachinery::pkg::{
        apis::meta::v1::{ObjectMeta, Time},
        util::intstr::IntOrString,
    },
};
use std::{collections::BTreeMap, sync::Arc, time::Duration};

/// How long a pod that is to be evicted counts as gone. Source: `DeletionTimeout`.
const DISRUPTED_FOR: SignedDuration = SignedDuration::from_mins(2);
/// How many owners of owners are asked how many pods there are to be.
const OWNERS_MAX: usize = 4;

/// All that a count depends on.
#[derive(Clone, Debug)]
pub struct Observed {
    /// The budget.
    pub budget: Arc<PodDisruptionBudget>,
    /// The pods that it selects.
    pub pods: Vec<Arc<Pod>>,
    /// How many pods their owners want together, or why that cannot be said.
    pub expected: Result<i32, String>,
    /// The time.
    pub now: Timestamp,
}

/// A count.
#[derive(Clone, Debug)]
pub struct Count {
    /// The status that says it. Nothing may be evicted where it failed.
    pub status: PodDisruptionBudgetStatus,
    /// Why it cannot be counted what there is to be.
    pub failed: Option<String>,
    /// After which time it is another although nothing changes.
    pub holds_for: Option<Duration>,
}

/// Reads what a count depends on.
pub fn observe(registry: &Registry, budget: Arc<PodDisruptionBudget>) -> Observed {
    let selection = Selection { labels: selector(&budget), fields: FieldSelector::everything() };
    let namespace = budget.metadata.namespace.as_deref().unwrap_or_default();
    let pods = registry.api::<Pods>().select(namespace, &selection).items;
    let expected = expected(registry, &pods);
    Observed { budget, pods, expected, now: registry.clock().now() }
}

/// Counts.
pub fn count(observed: &Observed) -> Count {
    let budget = &*observed.budget;
    let before = budget.status.clone().unwrap_or_default();
    let disrupted = still_disrupted(observed, &before);
    let holds_for = disrupted.values().filter_map(|since| ends(since, observed.now)).min();
    let (generation, now) = (budget.metadata.generation.unwrap_or(0), Time(whole_seconds(observed.now)));
    let mut status = PodDisruptionBudgetStatus {
        observed_generation: Some(generation),
        disrupted_pods: (!disrupted.is_empty()).then_some(disrupted),
        ..before
    };
    let wanted = wanted(observed);
    match &wanted {
        Ok((expected, desired)) => {
            let healthy = healthy(observed, &status);
            let allowed = if *expected > 0 { healthy.saturating_sub(*desired).max(0) } else { 0 };
            status.expected_pods = Some(*expected);
            status.desired_healthy = Some(*desired);
            status.current_healthy = Some(healthy);
            status.disruptions_allowed = Some(allowed);
            set_allowed(&mut status, allowed > 0, generation, &now);
        }
        Err(why) => {
            status.disruptions_allowed = Some(0);
            set_failed(&mut status, why.clone(), generation, &now);
        }
    }
    Count { status, failed: wanted.err(), holds_for }
}

/// The pods that a budget counts: none where it has no selector.
pub fn selector(budget: &PodDisruptionBudget) -> LabelSelector {
    let selector = budget.spec.as_ref().and_then(|spec| spec.selector.as_ref());
    let parsed = selector.and_then(|selector| LabelSelector::from_api(selector).ok());
    parsed.unwrap_or_else(LabelSelector::nothing)
}

/// How many pods the owners of these want together. An owner that is itself owned by something that scales is that one's.
fn expected(registry: &Registry, pods: &[Arc<Pod>]) -> Result<i32, String> {
    let mut scales: Map<String, i32> = Map::new();
    for pod in pods.iter().filter(|pod| controller_of(&pod.metadata).is_some()) {
        let Some((uid, scale)) = scale_of(registry, &pod.metadata) else {
            return Err(format!("found no controllers for pod {:?}", pod.metadata.name.as_deref().unwrap_or_default()));
        };
        scales.insert(uid, scale);
    }
    Ok(scales.into_values().fold(0, i32::saturating_add))
}

/// The topmost owner that scales, and how many pods it wants.
fn scale_of(registry: &Registry, meta: &ObjectMeta) -> Option<(String, i32)> {
    let (mut meta, mut found) = (meta.clone(), None);
    for _ in 0..OWNERS_MAX {
        let Some(owner) = controller_of(&meta).cloned() else { break };
        let (group, version) = owner.api_version.split_once('/').unwrap_or(("", &owner.api_version));
        let kinds = registry.kinds();
        let Some(kind): Option<&KindRef> = kinds.by_kind(group, version, &owner.kind) else { break };
        let key = ObjectKey::new(meta.namespace.clone().unwrap_or_default(), owner.name.clone());
        let Some(entry) = registry.entry(&**kind, &key) else { break };
        let Ok(object) = kind.decode_bytes(&entry.value) else { break };
        let Some(scale) = kind.scale(&*object).filter(|_| object.meta().uid.as_ref() == Some(&owner.uid)) else {
            break;
        };
        found = Some((owner.uid, scale.spec_replicas));
        meta = object.meta().clone();
    }
    found
}

/// How many pods there are to be, and how many of them healthy.
fn wanted(observed: &Observed) -> Result<(i32, i32), String> {
    let spec = observed.budget.spec.clone().unwrap_or_default();
    let there = i32::try_from(observed.pods.len()).unwrap_or(i32::MAX);
    match (&spec.max_unavailable, &spec.min_available) {
        (Some(max), _) => {
            let expected = observed.expected.clone()?;
            Ok((expected, expected.saturating_sub(scaled(Some(max), expected, true)).max(0)))
        }
        (None, Some(IntOrString::Int(min))) => Ok((there, *min)),
        (None, Some(min)) => {
            let expected = observed.expected.clone()?;
            Ok((expected, scaled(Some(min), expected, true)))
        }
        (None, None) => Ok((there, there)),
    }
}

/// How many pods are ready, are to stay, and are not about to be evicted.
fn healthy(observed: &Observed, status: &PodDisruptionBudgetStatus) -> i32 {
    let is_disrupted = |pod: &Pod| {
        let name = pod.metadata.name.as_deref().unwrap_or_default();
        status.disrupted_pods.as_ref().is_some_and(|pods| pods.contains_key(name))
    };
    let is_healthy = |pod: &&Arc<Pod>| {
        pod.metadata.deletion_timestamp.is_none() && pod_state::is_pod_ready(pod) && !is_disrupted(pod)
    };
    i32::try_from(observed.pods.iter().filter(is_healthy).count()).unwrap_or(i32::MAX)
}

/// The pods that are about to be evicted and have not gone: one that is marked is seen as that anyhow.
fn still_disrupted(observed: &Observed, before: &PodDisruptionBudgetStatus) -> BTreeMap<String, Time> {
    let waits = |name: &str| {
        let pod = observed.pods.iter().find(|pod| pod.metadata.name.as_deref() == Some(name));
        pod.is_some_and(|pod| pod.metadata.deletion_timestamp.is_none())
    };
    let all = before.disrupted_pods.iter().flatten();
    let left = all.filter(|(name, since)| waits(name) && ends(since, observed.now).is_some());
    left.map(|(name, since)| (name.clone(), since.clone())).collect_ordered()
}

/// How long a pod still counts as gone.
fn ends(since: &Time, now: Timestamp) -> Option<Duration> {
    let end = since.0.checked_add(DISRUPTED_FOR).ok()?;
    Duration::try_from(end.duration_since(now)).ok().filter(|left| !left.is_zero())
}

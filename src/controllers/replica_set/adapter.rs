//! What ReplicaSet and ReplicationController have in common, under one name.

use crate::{
    api::{
        kind::Kind,
        kinds::{replica_set::ReplicaSets, replication_controller::ReplicationControllers},
        selector::LabelSelector,
    },
    controllers::runtime::selector_of,
};
use k8s_openapi::{
    api::{
        apps::v1::{ReplicaSet, ReplicaSetCondition, ReplicaSetStatus},
        core::v1::{
            PodTemplateSpec, ReplicationController, ReplicationControllerCondition, ReplicationControllerStatus,
        },
    },
    apimachinery::pkg::apis::meta::v1::Time,
};

/// The status of a set of either kind.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Status {
    /// Pods that neither ended nor go.
    pub replicas: i32,
    /// Those of them that have the template's labels.
    pub fully_labeled: i32,
    /// Those of them that are ready.
    pub ready: i32,
    /// Those of them that have been ready for long enough.
    pub available: i32,
    /// Pods that go; not told by every kind.
    pub terminating: Option<i32>,
    /// The generation that this is about.
    pub observed_generation: Option<i64>,
    /// The conditions.
    pub conditions: Vec<Condition>,
}

/// A condition of a set of either kind.
#[derive(Clone, Debug, PartialEq)]
pub struct Condition {
    /// What it is about.
    pub type_: String,
    /// `True`, `False` or `Unknown`.
    pub status: String,
    /// The machine's word.
    pub reason: Option<String>,
    /// The human's sentence.
    pub message: Option<String>,
    /// When the status changed.
    pub last_transition_time: Option<Time>,
}

/// A kind whose objects keep a number of pods.
pub trait PodSet: Kind {
    /// The controller's name.
    const NAME: &'static str;
    /// The component of its events.
    const EVENT_SOURCE: &'static str;
    /// Whether the status tells of pods that go.
    const TELLS_TERMINATING: bool;

    /// How many pods are wanted.
    fn replicas(set: &Self::Object) -> i32;
    /// How long a pod must be ready to be available.
    fn min_ready_secs(set: &Self::Object) -> i32;
    /// Which pods are the set's.
    fn selector(set: &Self::Object) -> LabelSelector;
    /// What its pods are made from.
    fn template(set: &Self::Object) -> Option<&PodTemplateSpec>;
    /// The status.
    fn status(set: &Self::Object) -> Status;
    /// The same set with another status.
    fn with_status(set: &Self::Object, status: Status) -> Self::Object;
}

fn unless_zero(n: i32) -> Option<i32> {
    (n != 0).then_some(n)
}

fn unless_empty<T>(list: Vec<T>) -> Option<Vec<T>> {
    (!list.is_empty()).then_some(list)
}

impl PodSet for ReplicaSets {
    const NAME: &'static str = "replicaset";
    const EVENT_SOURCE: &'static str = "replicaset-controller";
    const TELLS_TERMINATING: bool = true;

    fn replicas(set: &ReplicaSet) -> i32 {
        set.spec.replicas.unwrap_or(1)
    }
    fn min_ready_secs(set: &ReplicaSet) -> i32 {
        set.spec.min_ready_seconds.unwrap_or(0)
    }
    fn selector(set: &ReplicaSet) -> LabelSelector {
        selector_of(&set.spec.selector)
    }
    fn template(set: &ReplicaSet) -> Option<&PodTemplateSpec> {
        set.spec.template.as_ref()
    }
    fn status(set: &ReplicaSet) -> Status {
        let status = set.status.clone().unwrap_or_default();
        let condition = |c: ReplicaSetCondition| Condition {
            type_: c.type_.unwrap_or_default(),
            status: c.status.unwrap_or_default(),
            reason: c.reason,
            message: c.message,
            last_transition_time: c.last_transition_time,
        };
        Status {
            replicas: status.replicas,
            fully_labeled: status.fully_labeled_replicas.unwrap_or(0),
            ready: status.ready_replicas.unwrap_or(0),
            available: status.available_replicas.unwrap_or(0),
            terminating: status.terminating_replicas,
            observed_generation: status.observed_generation,
            conditions: status.conditions.into_iter().flatten().map(condition).collect(),
        }
    }
    fn with_status(set: &ReplicaSet, status: Status) -> ReplicaSet {
        let condition = |c: Condition| ReplicaSetCondition {
            type_: Some(c.type_),
            status: Some(c.status),
            reason: c.reason,
            message: c.message,
            last_transition_time: c.last_transition_time,
        };
        let status = ReplicaSetStatus {
            replicas: status.replicas,
            fully_labeled_replicas: unless_zero(status.fully_labeled),
            ready_replicas: unless_zero(status.ready),
            available_replicas: unless_zero(status.available),
            terminating_replicas: status.terminating,
            observed_generation: status.observed_generation,
            conditions: unless_empty(status.conditions.into_iter().map(condition).collect()),
        };
        ReplicaSet { status: Some(status), ..set.clone() }
    }
}

impl PodSet for ReplicationControllers {
    const NAME: &'static str = "replicationcontroller";
    const EVENT_SOURCE: &'static str = "replication-controller";
    const TELLS_TERMINATING: bool = false;

    fn replicas(set: &ReplicationController) -> i32 {
        set.spec.as_ref().and_then(|s| s.replicas).unwrap_or(1)
    }
    fn min_ready_secs(set: &ReplicationController) -> i32 {
        set.spec.as_ref().and_then(|s| s.min_ready_seconds).unwrap_or(0)
    }
    fn selector(set: &ReplicationController) -> LabelSelector {
        match set.spec.as_ref().and_then(|s| s.selector.as_ref()) {
            Some(labels) if !labels.is_empty() => LabelSelector::from_map(labels),
            // Defaults fill it from the template; without either nothing is selected.
            Some(_) | None => LabelSelector::nothing(),
        }
    }
    fn template(set: &ReplicationController) -> Option<&PodTemplateSpec> {
        set.spec.as_ref()?.template.as_ref()
    }
    fn status(set: &ReplicationController) -> Status {
        let status = set.status.clone().unwrap_or_default();
        let condition = |c: ReplicationControllerCondition| Condition {
            type_: c.type_,
            status: c.status,
            reason: c.reason,
            message: c.message,
            last_transition_time: c.last_transition_time,
        };
        Status {
            replicas: status.replicas,
            fully_labeled: status.fully_labeled_replicas.unwrap_or(0),
            ready: status.ready_replicas.unwrap_or(0),
            available: status.available_replicas.unwrap_or(0),
            terminating: None,
            observed_generation: status.observed_generation,
            conditions: status.conditions.into_iter().flatten().map(condition).collect(),
        }
    }
    fn with_status(set: &ReplicationController, status: Status) -> ReplicationController {
        let condition = |c: Condition| ReplicationControllerCondition {
            type_: c.type_,
            status: c.status,
            reason: c.reason,
            message: c.message,
            last_transition_time: c.last_transition_time,
        };
        let status = ReplicationControllerStatus {
            replicas: status.replicas,
            fully_labeled_replicas: unless_zero(status.fully_labeled),
            ready_replicas: unless_zero(status.ready),
            available_replicas: unless_zero(status.available),
            observed_generation: status.observed_generation,
            conditions: unless_empty(status.conditions.into_iter().map(condition).collect()),
        };
        ReplicationController { status: Some(status), ..set.clone() }
    }
}

//! The status of a set of pods.
//!
//! **Source**: `calculateStatus`, pkg/controller/replicaset/replica_set_utils.go, v1.37.

use super::{
    Observed, TOO_FEW, TOO_MANY,
    adapter::{Condition, PodSet, Status},
};
use crate::{
    api::{meta::is_controlled_by, object::Object as _, pod_state, selector::LabelSelector},
    controllers::runtime::{Action, Decision, Done, execute::is_moved, is_selected, stamp},
};
use k8s_openapi::api::core::v1::Pod;
use std::time::Duration;

const REPLICA_FAILURE: &str = "ReplicaFailure";

/// Writes the status, when it has changed, and looks again when the next pod becomes available.
pub(super) fn conclude<K: PodSet>(observed: &Observed<K>, done: &Done) -> Decision {
    let set = &*observed.set;
    let before = K::status(set);
    let status = Status { conditions: conditions(observed, &before, done), ..numbers(observed) };
    let mut decision = Decision::default();
    if status != before {
        decision.then(Action::update_status::<K>(K::with_status(set, status)).because("the status changed"));
    }
    next_available(observed).into_iter().for_each(|delay| decision.look_again_after(delay));
    decision
}

fn numbers<K: PodSet>(observed: &Observed<K>) -> Status {
    let set = &*observed.set;
    let count = |is: &dyn Fn(&Pod) -> bool| {
        i32::try_from(observed.active().filter(|pod| is(pod)).count()).expect("a set has fewer than 2^31 pods")
    };
    let labels = K::template(set).and_then(|t| t.metadata.as_ref()?.labels.clone()).unwrap_or_default();
    let labels = LabelSelector::from_map(&labels);
    let min_ready = K::min_ready_secs(set);
    Status {
        replicas: count(&|_| true),
        fully_labeled: count(&|pod| is_selected(&labels, &pod.metadata)),
        ready: count(&|pod| pod_state::is_pod_ready(pod)),
        available: count(&|pod| pod_state::is_pod_available(pod, min_ready, observed.now)),
        terminating: K::TELLS_TERMINATING.then(|| terminating(observed)),
        observed_generation: set.meta().generation,
        conditions: Vec::new(),
    }
}

fn terminating<K: PodSet>(observed: &Observed<K>) -> i32 {
    let uid = observed.set.meta().uid.as_deref().unwrap_or_default();
    let is_ours = |pod: &Pod| is_controlled_by(&pod.metadata, uid);
    let going = observed
        .pods
        .iter()
        .filter(|pod| pod.metadata.deletion_timestamp.is_some() && !pod_state::is_terminal(pod) && is_ours(pod));
    i32::try_from(going.count()).expect("a set has fewer than 2^31 pods")
}

/// `ReplicaFailure` is there while pods cannot be made or deleted.
fn conditions<K: PodSet>(observed: &Observed<K>, before: &Status, done: &Done) -> Vec<Condition> {
    let mut conditions = before.conditions.clone();
    let failure = [("FailedCreate", TOO_FEW), ("FailedDelete", TOO_MANY)]
        .into_iter()
        .find_map(|(reason, why)| done.error_of(why).filter(|err| !is_moved(err)).map(|err| (reason, err)));
    let is_told = conditions.iter().any(|c| c.type_ == REPLICA_FAILURE);
    match failure {
        None => conditions.retain(|c| c.type_ != REPLICA_FAILURE),
        Some(_) if is_told => {}
        Some((reason, err)) => conditions.push(Condition {
            type_: REPLICA_FAILURE.to_owned(),
            status: "True".to_owned(),
            reason: Some(reason.to_owned()),
            message: Some(err.to_string()),
            last_transition_time: Some(stamp(observed.now)),
        }),
    }
    conditions
}

/// How long until a pod that is ready has been so for long enough.
fn next_available<K: PodSet>(observed: &Observed<K>) -> Option<Duration> {
    let min_ready = K::min_ready_secs(&observed.set);
    let times = observed.active().filter_map(|pod| pod_state::available_at(pod, min_ready));
    let next = times.filter(|at| *at > observed.now).min()?;
    Duration::try_from(next.duration_since(observed.now)).ok()
}

//! What a pod's claims say about its place: some must be there before it gets one, some get their volume once it is known.
//!
//! **Source**: `pkg/scheduler/framework/plugins/{volumebinding,volumerestrictions}`, v1.37.

use super::{Action, Planned, waits};
use crate::{
    api::{
        agreements::SELECTED_NODE_ANNOTATION,
        kind::KindRef,
        kinds::{
            persistent_volume::PERSISTENT_VOLUMES, persistent_volume_claim::PERSISTENT_VOLUME_CLAIMS,
            storage_class::STORAGE_CLASSES,
        },
        meta::ObjectKey,
        pod_claims::claims_of,
    },
    base::{json, ordered::Map},
    controllers::persistent_volume::{class_of, get, text},
    registry::{Registry, pipeline::Part},
};
use k8s_openapi::api::core::v1::{NodeSelector, Pod};
use serde_json::{Value, json};
use std::sync::Arc;

const CLAIM: KindRef = KindRef::BuiltIn(&PERSISTENT_VOLUME_CLAIMS);

/// How it is with a claim.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Claim {
    /// It is there and has its volume, which may say where it can be mounted.
    Bound { nodes: Option<NodeSelector>, is_for_one_pod: bool },
    /// It gets a volume once a node is named, perhaps one was; the claim as it is.
    Waiting(Value),
    /// It should have a volume by itself, and has none.
    Unbound,
    /// It goes away.
    Going,
}

/// How it is with the claims of all pods that wait; those that are not there are left out.
pub(super) fn of_waiting(registry: &Registry, pods: &[Arc<Pod>]) -> Map<ObjectKey, Claim> {
    let keys = pods.iter().filter(|pod| waits(pod)).flat_map(|pod| claims_of(pod)).map(|claim| claim.key);
    keys.filter_map(|key| Some((key.clone(), look(registry, &key)?))).collect()
}

fn look(registry: &Registry, key: &ObjectKey) -> Option<Claim> {
    let claim = get(registry, &PERSISTENT_VOLUME_CLAIMS, &key.namespace, &key.name)?;
    if !text(&claim, "/metadata/deletionTimestamp").is_empty() {
        return Some(Claim::Going);
    }
    if text(&claim, "/status/phase") == "Bound" {
        let volume = get(registry, &PERSISTENT_VOLUMES, "", text(&claim, "/spec/volumeName"));
        let nodes = volume.and_then(|volume| volume.pointer("/spec/nodeAffinity/required").cloned());
        let modes = claim.pointer("/spec/accessModes").and_then(Value::as_array).cloned().unwrap_or_default();
        return Some(Claim::Bound {
            nodes: nodes.and_then(|nodes| json::typed(nodes).ok()),
            is_for_one_pod: modes.iter().any(|mode| mode == "ReadWriteOncePod"),
        });
    }
    let class = get(registry, &STORAGE_CLASSES, "", class_of(&claim));
    let is_late = class.is_some_and(|class| text(&class, "/volumeBindingMode") == "WaitForFirstConsumer");
    let has_volume = !text(&claim, "/spec/volumeName").is_empty();
    Some(if is_late && !has_volume { Claim::Waiting(claim) } else { Claim::Unbound })
}

/// Why a pod cannot get any place because of its claims.
pub(super) fn obstacle(pod: &Pod, claims: &Map<ObjectKey, Claim>, pods: &[Arc<Pod>]) -> Option<String> {
    let all = claims_of(pod);
    let mut is_unbound = false;
    for claim in &all {
        let name = &claim.key.name;
        match claims.get(&claim.key) {
            // Its own controller is about to make it.
            None if claim.is_ephemeral => {
                return Some(format!(
                    "waiting for ephemeral volume controller to create the persistentvolumeclaim {name:?}"
                ));
            }
            None => return Some(format!("persistentvolumeclaim {name:?} not found")),
            Some(Claim::Going) => return Some(format!("persistentvolumeclaim {name:?} is being deleted")),
            Some(Claim::Unbound) => is_unbound = true,
            Some(Claim::Bound { is_for_one_pod: true, .. }) => {
                let has_it = |other: &Pod| {
                    other.metadata.uid != pod.metadata.uid
                        && super::node_of(other).is_some()
                        && claims_of(other).iter().any(|its| its.key == claim.key)
                };
                if pods.iter().any(|other| has_it(other)) {
                    let what =
                        "node has pod using PersistentVolumeClaim with the same name and ReadWriteOncePod access mode";
                    return Some(what.to_owned());
                }
            }
            Some(Claim::Bound { .. } | Claim::Waiting(_)) => {}
        }
    }
    is_unbound.then(|| "pod has unbound immediate PersistentVolumeClaims".to_owned())
}

/// Where the volumes of a pod's claims can be mounted.
pub(super) fn nodes_of<'c>(
    pod: &Pod,
    claims: &'c Map<ObjectKey, Claim>,
) -> impl Iterator<Item = &'c NodeSelector> + use<'c> {
    let all = claims_of(pod);
    all.into_iter().filter_map(|claim| match claims.get(&claim.key) {
        Some(Claim::Bound { nodes, .. }) => nodes.as_ref(),
        _ => None,
    })
}

/// What must be done for a pod's claims before the pod can have this node: `None`, nothing; else the pod waits for it.
pub(super) fn prepare(pod: &Pod, node: &str, claims: &Map<ObjectKey, Claim>) -> Option<Vec<Planned>> {
    let all = claims_of(pod);
    let waiting: Vec<&Value> = all
        .iter()
        .filter_map(|claim| match claims.get(&claim.key) {
            Some(Claim::Waiting(object)) => Some(object),
            _ => None,
        })
        .collect();
    if waiting.is_empty() {
        return None;
    }
    let is_named = |claim: &&&Value| {
        claim.pointer("/metadata/annotations").is_some_and(|all| all.get(SELECTED_NODE_ANNOTATION).is_some())
    };
    let unnamed = waiting.iter().filter(|claim| !is_named(claim));
    Some(unnamed.map(|claim| select(claim, node)).collect())
}

fn select(claim: &Value, node: &str) -> Planned {
    let mut selected = claim.clone();
    let annotations = &mut selected["metadata"]["annotations"];
    if !annotations.is_object() {
        *annotations = json!({});
    }
    annotations[SELECTED_NODE_ANNOTATION] = json!(node);
    let object = CLAIM.decode(selected).expect("a stored claim with an annotation fits the schema");
    Action::Update { kind: CLAIM, part: Part::Main, object }.because("its pod has a node to go to")
}

/// The kinds whose changes may give a pod its place.
pub(super) fn kinds() -> [KindRef; 2] {
    [CLAIM, KindRef::BuiltIn(&STORAGE_CLASSES)]
}

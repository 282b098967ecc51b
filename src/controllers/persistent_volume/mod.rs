//! Claims get volumes: one that is there and fits, or a new one of the cluster's own class, which is a Docker volume.
//!
//! ```text
//! claim ──► a volume that fits, or a new one ──► volume.spec.claimRef ──► claim.spec.volumeName ──► both Bound
//! claim goes ──► volume Released ──► Delete: the volume goes, and with it the Docker volume | Retain: it stays
//! ```
//!
//! [`claim`] decides for a claim, [`volume`] for a volume, [`ephemeral`] makes the claims that are a pod's own. The Docker volume itself is the node agent's: it makes it for the first pod,
//! and takes the finalizer [`DOCKER_VOLUME`](crate::api::agreements) from the volume's object once it has removed it.
//!
//! **Not here**: which pods wait for which claims (`scheduler`, which names the node that a claim of a late-binding class is for).
//! **Source**: `pkg/controller/volume/persistentvolume/pv_controller.go`, `pkg/controller/volume/{pvcprotection,pvprotection}`, v1.37.

mod claim;
pub mod ephemeral;
#[cfg(test)]
mod tests;
mod volume;

use super::runtime::{Action, Controller, Decision, EventDraft, Planned, Trigger};
use crate::{
    api::{
        json_kind::JsonKind,
        kind::KindRef,
        kinds::{
            persistent_volume::PERSISTENT_VOLUMES, persistent_volume_claim::PERSISTENT_VOLUME_CLAIMS, pod::Pods,
            storage_class::STORAGE_CLASSES,
        },
        meta::ObjectKey,
        pod_claims::claims_of,
        pod_state::is_terminal,
    },
    registry::{
        Registry,
        events::Severity,
        pipeline::{DeleteOptions, Part, Selection},
    },
    store::Entry,
};
use k8s_openapi::api::core::v1::{ObjectReference, Pod};
use serde_json::{Value, json};
use std::sync::Arc;

const CLAIM: KindRef = KindRef::BuiltIn(&PERSISTENT_VOLUME_CLAIMS);
const VOLUME: KindRef = KindRef::BuiltIn(&PERSISTENT_VOLUMES);
const CLASS: KindRef = KindRef::BuiltIn(&STORAGE_CLASSES);

/// Says who made a volume.
const PROVISIONED_BY: &str = "pv.kubernetes.io/provisioned-by";
/// Says that claim and volume know each other.
const BIND_COMPLETED: &str = "pv.kubernetes.io/bind-completed";
/// Says that nobody asked for this very volume, or for this very claim.
const BOUND_BY_CONTROLLER: &str = "pv.kubernetes.io/bound-by-controller";

fn read(entry: &Entry) -> Value {
    serde_json::from_slice(&entry.value).expect("stored objects are JSON")
}

pub(super) fn get(registry: &Registry, kind: &JsonKind, namespace: &str, name: &str) -> Option<Value> {
    if name.is_empty() {
        return None;
    }
    registry.entry(kind, &ObjectKey::new(namespace, name)).map(|entry| read(&entry))
}

fn all(registry: &Registry, kind: &JsonKind, namespace: &str) -> Vec<Value> {
    registry.snapshot(kind, namespace, &Selection::default()).entries.iter().map(|entry| read(entry)).collect()
}

/// The text at a path; empty when there is none.
pub(super) fn text<'v>(value: &'v Value, pointer: &str) -> &'v str {
    value.pointer(pointer).and_then(Value::as_str).unwrap_or_default()
}

fn key_of(object: &Value) -> ObjectKey {
    ObjectKey::new(text(object, "/metadata/namespace"), text(object, "/metadata/name"))
}

fn is_going(object: &Value) -> bool {
    !text(object, "/metadata/deletionTimestamp").is_empty()
}

/// The class that a claim or a volume names, by its field or by the annotation that did so before.
pub(super) fn class_of(object: &Value) -> &str {
    let annotations = object.pointer("/metadata/annotations");
    let annotated = annotations.and_then(|all| all.get("volume.beta.kubernetes.io/storage-class")?.as_str());
    annotated.unwrap_or_else(|| text(object, "/spec/storageClassName"))
}

fn has_annotation(object: &Value, name: &str) -> bool {
    object.pointer("/metadata/annotations").is_some_and(|all| all.get(name).is_some())
}

fn annotate(object: &mut Value, name: &str, value: &str) {
    let annotations = &mut object["metadata"]["annotations"];
    if !annotations.is_object() {
        *annotations = json!({});
    }
    annotations[name] = json!(value);
}

/// The object without a finalizer; `None`: it has it not.
fn without_finalizer(object: &Value, name: &str) -> Option<Value> {
    let mut left = object.clone();
    let finalizers = left.pointer_mut("/metadata/finalizers")?.as_array_mut()?;
    let before = finalizers.len();
    finalizers.retain(|finalizer| finalizer != name);
    (finalizers.len() < before).then_some(left)
}

fn create(kind: &KindRef, object: Value, why: &'static str) -> Planned {
    let object = kind.decode(object).expect("what is made here fits the schema");
    Action::Create { kind: kind.clone(), object }.because(why)
}

fn update(kind: &KindRef, object: Value, part: Part, why: &'static str) -> Planned {
    let object = kind.decode(object).expect("a stored object with other fields fits the schema");
    Action::Update { kind: kind.clone(), part, object }.because(why)
}

fn delete(kind: &KindRef, object: &Value, why: &'static str) -> Planned {
    let options = DeleteOptions { uid: Some(text(object, "/metadata/uid").to_owned()), ..DeleteOptions::default() };
    Action::Delete { kind: kind.clone(), key: key_of(object), options }.because(why)
}

fn event(
    kind: &KindRef,
    about: &Value,
    severity: Severity,
    reason: &'static str,
    message: impl Into<String>,
) -> EventDraft {
    let info = kind.info();
    let field = |pointer| Some(text(about, pointer).to_owned()).filter(|text| !text.is_empty());
    let about = ObjectReference {
        api_version: Some(info.api_version()),
        kind: Some(info.kind.to_owned()),
        namespace: field("/metadata/namespace"),
        name: field("/metadata/name"),
        uid: field("/metadata/uid"),
        resource_version: field("/metadata/resourceVersion"),
        ..ObjectReference::default()
    };
    EventDraft { about, severity, reason, message: message.into() }
}

/// Gives claims their volumes.
#[derive(Clone, Copy, Debug)]
pub struct ClaimController;

impl Controller for ClaimController {
    type Key = ObjectKey;
    type Observed = claim::Observed;

    fn name(&self) -> &'static str {
        "persistentvolumeclaim"
    }

    fn event_source(&self) -> &'static str {
        "persistentvolume-controller"
    }

    fn triggers(&self) -> Vec<Trigger<ObjectKey>> {
        vec![
            Trigger::on_erased(CLAIM, |_, before, after, keys| {
                keys.extend(after.or(before).map(|entry| key_of(&read(entry))));
            }),
            Trigger::on_erased(VOLUME, |registry, _, after, keys| wake_for_volume(registry, after, keys)),
            Trigger::on_erased(CLASS, |registry, _, _, keys| keys.extend(unbound(registry))),
            // A claim that goes waits for its last pod.
            Trigger::on::<Pods>(|_, moved, keys| {
                if moved.after.as_ref().is_none_or(|pod| is_terminal(pod)) {
                    keys.extend(moved.last().into_iter().flat_map(|pod| claims_of(pod)).map(|claim| claim.key));
                }
            }),
        ]
    }

    fn observe(&self, registry: &Registry, key: &ObjectKey) -> Option<claim::Observed> {
        let claim = get(registry, &PERSISTENT_VOLUME_CLAIMS, &key.namespace, &key.name)?;
        let volume_name = text(&claim, "/spec/volumeName").to_owned();
        let is_used = is_going(&claim) && {
            // A pod without a place uses nothing, and gets none while its claim goes (`podUsesPVC`, pvc_protection_controller.go): it
            // would keep the claim for ever.
            let has_place = |pod: &Pod| pod.spec.as_ref().is_some_and(|spec| spec.node_name.is_some());
            let may_use = |pod: &&Arc<Pod>| has_place(pod) && !is_terminal(pod);
            let pods = registry.api::<Pods>().list(&key.namespace).items;
            pods.iter().filter(may_use).any(|pod| claims_of(pod).iter().any(|claim| claim.key == *key))
        };
        Some(claim::Observed {
            volume: get(registry, &PERSISTENT_VOLUMES, "", &volume_name),
            volumes: if volume_name.is_empty() { all(registry, &PERSISTENT_VOLUMES, "") } else { Vec::new() },
            class: get(registry, &STORAGE_CLASSES, "", class_of(&claim)),
            is_used,
            claim,
        })
    }

    fn decide(&self, observed: &claim::Observed) -> Decision {
        claim::decide(observed)
    }
}

/// A volume wakes its claim; one that is free, every claim that waits for one.
fn wake_for_volume(registry: &Registry, after: Option<&Entry>, keys: &mut Vec<ObjectKey>) {
    let Some(volume) = after.map(read) else {
        let all = all(registry, &PERSISTENT_VOLUME_CLAIMS, "");
        keys.extend(all.iter().filter(|claim| !text(claim, "/spec/volumeName").is_empty()).map(key_of));
        return;
    };
    match text(&volume, "/spec/claimRef/name") {
        "" => keys.extend(unbound(registry)),
        name => keys.push(ObjectKey::new(text(&volume, "/spec/claimRef/namespace"), name)),
    }
}

fn unbound(registry: &Registry) -> Vec<ObjectKey> {
    let all = all(registry, &PERSISTENT_VOLUME_CLAIMS, "");
    all.iter().filter(|claim| text(claim, "/spec/volumeName").is_empty()).map(key_of).collect()
}

/// Keeps what volumes say true, and lets them go with their claims.
#[derive(Clone, Copy, Debug)]
pub struct VolumeController;

impl Controller for VolumeController {
    /// A volume's name.
    type Key = String;
    type Observed = volume::Observed;

    fn name(&self) -> &'static str {
        "persistentvolume"
    }

    fn event_source(&self) -> &'static str {
        "persistentvolume-controller"
    }

    fn triggers(&self) -> Vec<Trigger<String>> {
        vec![
            Trigger::on_erased(VOLUME, |_, _, after, keys| {
                keys.extend(after.map(|entry| text(&read(entry), "/metadata/name").to_owned()));
            }),
            Trigger::on_erased(CLAIM, |registry, before, after, keys| {
                let Some(claim) = after.or(before).map(read) else { return };
                let (key, own) = (key_of(&claim), text(&claim, "/spec/volumeName"));
                let is_for = |volume: &Value| {
                    let reference = |field: &str| text(volume, &format!("/spec/claimRef/{field}")).to_owned();
                    text(volume, "/metadata/name") == own
                        || (reference("name"), reference("namespace")) == (key.name.clone(), key.namespace.clone())
                };
                let volumes = all(registry, &PERSISTENT_VOLUMES, "");
                keys.extend(volumes.iter().filter(|v| is_for(v)).map(|v| text(v, "/metadata/name").to_owned()));
            }),
        ]
    }

    fn observe(&self, registry: &Registry, name: &String) -> Option<volume::Observed> {
        let volume = get(registry, &PERSISTENT_VOLUMES, "", name)?;
        let (namespace, claim) = (text(&volume, "/spec/claimRef/namespace"), text(&volume, "/spec/claimRef/name"));
        let claim = get(registry, &PERSISTENT_VOLUME_CLAIMS, namespace, claim);
        Some(volume::Observed { volume, claim })
    }

    fn decide(&self, observed: &volume::Observed) -> Decision {
        volume::decide(observed)
    }
}

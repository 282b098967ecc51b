//! What becomes of a claim.
//!
//! **Source**: `syncUnboundClaim`, `syncBoundClaim`, `provisionClaimOperation` in pv_controller.go, `findMatchingVolume` in
//! `k8s.io/component-helpers/storage/volume/pv_helpers.go`, v1.37.

use super::{
    BIND_COMPLETED, BOUND_BY_CONTROLLER, CLAIM, PROVISIONED_BY, VOLUME, annotate, class_of, create, event,
    has_annotation, is_going, text, update, without_finalizer,
};
use crate::{
    api::{
        agreements::{DOCKER_VOLUME_FINALIZER, DOCKER_VOLUMES, SELECTED_NODE_ANNOTATION},
        kinds::{persistent_volume, persistent_volume_claim},
        quantity::Quantity,
        selector::LabelSelector,
    },
    base::json,
    controllers::runtime::{Decision, EventDraft},
    registry::{events::Severity, pipeline::Part},
};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::LabelSelector as ApiSelector;
use serde_json::{Value, json};
use std::collections::BTreeMap;

/// What is known of a claim.
#[derive(Clone, Debug)]
pub struct Observed {
    pub(super) claim: Value,
    /// The volume that it names.
    pub(super) volume: Option<Value>,
    /// All of them, when it names none.
    pub(super) volumes: Vec<Value>,
    /// Its class.
    pub(super) class: Option<Value>,
    /// Whether a pod uses it, when it goes.
    pub(super) is_used: bool,
}

pub(super) fn decide(observed: &Observed) -> Decision {
    let claim = &observed.claim;
    let mut decision = Decision::rest();
    if is_going(claim) {
        let left = without_finalizer(claim, persistent_volume_claim::PROTECTION).filter(|_| !observed.is_used);
        if let Some(left) = left {
            decision.then(update(&CLAIM, left, Part::Main, "no pod uses the claim that goes"));
        }
    } else if text(claim, "/spec/volumeName").is_empty() {
        find(observed, &mut decision);
    } else {
        hold(observed, &mut decision);
    }
    decision
}

fn tell(claim: &Value, severity: Severity, reason: &'static str, message: impl Into<String>) -> EventDraft {
    event(&CLAIM, claim, severity, reason, message)
}

/// A claim without a volume gets one that is there, or has one made.
fn find(observed: &Observed, decision: &mut Decision) {
    let claim = &observed.claim;
    let class = observed.class.as_ref();
    let waits = class.is_some_and(|class| text(class, "/volumeBindingMode") == "WaitForFirstConsumer");
    let has_node = has_annotation(claim, SELECTED_NODE_ANNOTATION);
    let chosen = asked_for(claim, &observed.volumes);
    let chosen =
        chosen.or_else(|| if waits && !has_node { None } else { smallest_that_fits(claim, &observed.volumes) });
    if let Some(volume) = chosen {
        return bind(claim, volume, decision);
    }
    let Some(class) = class else {
        let name = class_of(claim);
        decision.events.push(match name {
            "" => {
                let why = "no persistent volumes available for this claim and no storage class is set";
                tell(claim, Severity::Normal, "FailedBinding", why)
            }
            name => {
                let why = format!("storageclass.storage.k8s.io {name:?} not found");
                tell(claim, Severity::Warning, "ProvisioningFailed", why)
            }
        });
        return pending(claim, decision);
    };
    if waits && !has_node {
        let why = "waiting for first consumer to be created before binding";
        decision.events.push(tell(claim, Severity::Normal, "WaitForFirstConsumer", why));
        return pending(claim, decision);
    }
    match text(class, "/provisioner") {
        DOCKER_VOLUMES => provision(claim, class, decision),
        other => {
            let why = format!(
                "Waiting for a volume to be created either by the external provisioner '{other}' or manually by the \
                 system administrator. If volume creation is delayed, please verify that the provisioner is running \
                 and correctly registered."
            );
            decision.events.push(tell(claim, Severity::Normal, "ExternalProvisioning", why));
            pending(claim, decision);
        }
    }
}

fn pending(claim: &Value, decision: &mut Decision) {
    if text(claim, "/status/phase") != "Pending" {
        let mut claim = claim.clone();
        claim["status"]["phase"] = json!("Pending");
        decision.then(update(&CLAIM, claim, Part::Status, "no volume is there for the claim"));
    }
}

/// A volume that asks for this claim.
fn asked_for<'v>(claim: &Value, volumes: &'v [Value]) -> Option<&'v Value> {
    volumes.iter().find(|volume| is_for(volume, claim) && !is_going(volume))
}

/// Whether a volume is for this claim, and not for one of the same name that is gone.
pub(super) fn is_for(volume: &Value, claim: &Value) -> bool {
    let reference = |field: &str| text(volume, &format!("/spec/claimRef/{field}")).to_owned();
    let own = |field: &str| text(claim, &format!("/metadata/{field}")).to_owned();
    !reference("name").is_empty()
        && reference("name") == own("name")
        && reference("namespace") == own("namespace")
        && (reference("uid").is_empty() || reference("uid") == own("uid"))
}

fn storage(text: &str) -> Quantity {
    Quantity::parse(text).unwrap_or_else(|_| Quantity::from_bytes(0))
}

fn modes(value: &Value, pointer: &str) -> Vec<String> {
    let all = value.pointer(pointer).and_then(Value::as_array);
    all.into_iter().flatten().filter_map(Value::as_str).map(str::to_owned).collect()
}

fn smallest_that_fits<'v>(claim: &Value, volumes: &'v [Value]) -> Option<&'v Value> {
    let wanted = storage(text(claim, "/spec/resources/requests/storage"));
    let wanted_modes = modes(claim, "/spec/accessModes");
    let selector = claim.pointer("/spec/selector").map(|selector| {
        let api: ApiSelector = json::typed(selector.clone()).unwrap_or_default();
        LabelSelector::from_api(&api).unwrap_or_else(|_| LabelSelector::nothing())
    });
    let fits = |volume: &&Value| {
        let labels: BTreeMap<String, String> =
            volume.pointer("/metadata/labels").cloned().and_then(|l| json::typed(l).ok()).unwrap_or_default();
        let has = modes(volume, "/spec/accessModes");
        volume.pointer("/spec/claimRef").is_none_or(Value::is_null)
            && !is_going(volume)
            && text(volume, "/status/phase") == "Available"
            && class_of(volume) == class_of(claim)
            && text(volume, "/spec/volumeMode") == text(claim, "/spec/volumeMode")
            && wanted_modes.iter().all(|mode| has.contains(mode))
            && storage(text(volume, "/spec/capacity/storage")) >= wanted
            && selector.as_ref().is_none_or(|selector| selector.matches(&labels))
    };
    volumes.iter().filter(fits).min_by_key(|volume| storage(text(volume, "/spec/capacity/storage")))
}

/// Both sides get to know each other, the volume first: what is for somebody is nobody else's.
fn bind(claim: &Value, volume: &Value, decision: &mut Decision) {
    if text(volume, "/spec/claimRef/uid").is_empty() {
        decision.then(update(&VOLUME, taken(volume, claim), Part::Main, "the volume is for the claim"));
    }
    let mut bound = claim.clone();
    bound["spec"]["volumeName"] = json!(text(volume, "/metadata/name"));
    annotate(&mut bound, BOUND_BY_CONTROLLER, "yes");
    annotate(&mut bound, BIND_COMPLETED, "yes");
    decision.then(update(&CLAIM, bound, Part::Main, "the claim has the volume"));
}

/// The volume with this claim for its own.
fn taken(volume: &Value, claim: &Value) -> Value {
    let mut taken = volume.clone();
    if text(volume, "/spec/claimRef/name").is_empty() {
        annotate(&mut taken, BOUND_BY_CONTROLLER, "yes");
    }
    taken["spec"]["claimRef"] = reference(claim);
    taken
}

fn reference(claim: &Value) -> Value {
    json!({
        "kind": "PersistentVolumeClaim", "apiVersion": "v1", "namespace": text(claim, "/metadata/namespace"),
        "name": text(claim, "/metadata/name"), "uid": text(claim, "/metadata/uid"),
        "resourceVersion": text(claim, "/metadata/resourceVersion"),
    })
}

/// The name of the Docker volume of a claim, without the cluster's: a person can read it, and no later claim has the same.
fn handle(claim: &Value) -> String {
    let (namespace, name) = (text(claim, "/metadata/namespace"), text(claim, "/metadata/name"));
    let uid = text(claim, "/metadata/uid");
    format!("{namespace}_{name}_{}", uid.get(..8).unwrap_or(uid))
}

fn provision(claim: &Value, class: &Value, decision: &mut Decision) {
    if text(claim, "/spec/volumeMode") == "Block" {
        let why = format!(
            "failed to provision volume with StorageClass {:?}: a Docker volume is no block device: \
             set volumeMode: Filesystem",
            text(class, "/metadata/name")
        );
        decision.events.push(tell(claim, Severity::Warning, "ProvisioningFailed", why));
        return pending(claim, decision);
    }
    if claim.pointer("/spec/selector").is_some_and(|selector| !selector.is_null()) {
        let why = format!(
            "failed to provision volume with StorageClass {:?}: claim.Spec.Selector is not supported",
            text(class, "/metadata/name")
        );
        decision.events.push(tell(claim, Severity::Warning, "ProvisioningFailed", why));
        return pending(claim, decision);
    }
    let name = format!("pvc-{}", text(claim, "/metadata/uid"));
    let volume = json!({
        "metadata": {
            "name": name,
            "annotations": { PROVISIONED_BY: DOCKER_VOLUMES },
            "finalizers": [persistent_volume::PROTECTION, DOCKER_VOLUME_FINALIZER],
        },
        "spec": {
            "capacity": { "storage": text(claim, "/spec/resources/requests/storage") },
            "accessModes": modes(claim, "/spec/accessModes"),
            "claimRef": reference(claim),
            "persistentVolumeReclaimPolicy": text(class, "/reclaimPolicy"),
            "storageClassName": text(class, "/metadata/name"),
            "volumeMode": "Filesystem",
            "csi": { "driver": DOCKER_VOLUMES, "volumeHandle": handle(claim) },
        },
    });
    decision.then(create(&VOLUME, volume, "the claim's class makes volumes"));
    let told = format!("Successfully provisioned volume {name}");
    decision.events.push(tell(claim, Severity::Normal, "ProvisioningSucceeded", told));
}

/// A claim that names a volume is bound to it, or has lost it.
fn hold(observed: &Observed, decision: &mut Decision) {
    let claim = &observed.claim;
    let Some(volume) = &observed.volume else {
        if !has_annotation(claim, BIND_COMPLETED) {
            return pending(claim, decision);
        }
        if text(claim, "/status/phase") != "Lost" {
            let mut lost = claim.clone();
            lost["status"] = json!({ "phase": "Lost" });
            decision.then(update(&CLAIM, lost, Part::Status, "the claim's volume is gone"));
            let why = "Bound claim has lost its PersistentVolume. Data on the volume is lost!";
            decision.events.push(tell(claim, Severity::Warning, "ClaimLost", why));
        }
        return;
    };
    match text(volume, "/spec/claimRef/uid") {
        uid if uid == text(claim, "/metadata/uid") => {}
        "" if text(volume, "/spec/claimRef/name").is_empty() || is_for(volume, claim) => {
            decision.then(update(&VOLUME, taken(volume, claim), Part::Main, "the claim asks for the volume"));
            return;
        }
        _ => {
            let name = text(volume, "/metadata/name");
            let why = format!("volume {name:?} already bound to a different claim.");
            decision.events.push(tell(claim, Severity::Warning, "FailedBinding", why));
            return pending(claim, decision);
        }
    }
    if !has_annotation(claim, BIND_COMPLETED) {
        let mut bound = claim.clone();
        annotate(&mut bound, BIND_COMPLETED, "yes");
        decision.then(update(&CLAIM, bound, Part::Main, "the claim has the volume"));
        return;
    }
    grow(observed, volume, decision);
}

/// What a claim asks for beyond its volume's size, it gets, where its class lets claims grow: a Docker volume has no size of its own.
fn grow(observed: &Observed, volume: &Value, decision: &mut Decision) {
    let claim = &observed.claim;
    let (wanted, has) = (text(claim, "/spec/resources/requests/storage"), text(volume, "/spec/capacity/storage"));
    let may = observed.class.as_ref().is_some_and(|class| class["allowVolumeExpansion"] == true);
    let is_ours = text(volume, "/spec/csi/driver") == DOCKER_VOLUMES;
    let grows = storage(wanted) > storage(has) && may && is_ours;
    if grows {
        let mut larger = volume.clone();
        larger["spec"]["capacity"]["storage"] = json!(wanted);
        decision.then(update(&VOLUME, larger, Part::Main, "the claim grows"));
    }
    let mut bound = claim.clone();
    bound["status"]["phase"] = json!("Bound");
    bound["status"]["accessModes"] = volume["spec"]["accessModes"].clone();
    bound["status"]["capacity"] = if grows { json!({ "storage": wanted }) } else { volume["spec"]["capacity"].clone() };
    if bound["status"] != claim["status"] {
        decision.then(update(&CLAIM, bound, Part::Status, "the claim is bound"));
    }
}

//! What becomes of a volume.
//!
//! **Source**: `syncVolume`, `reclaimVolume` in pv_controller.go, v1.37.

use super::{PROVISIONED_BY, VOLUME, claim::is_for, delete, event, is_going, text, update, without_finalizer};
use crate::{
    api::{agreements::DOCKER_VOLUMES, kinds::persistent_volume},
    controllers::runtime::{Decision, EventDraft},
    registry::{events::Severity, pipeline::Part},
};
use serde_json::{Value, json};

/// What is known of a volume.
#[derive(Clone, Debug)]
pub struct Observed {
    pub(super) volume: Value,
    /// The claim that it names, whether it is the same still.
    pub(super) claim: Option<Value>,
}

pub(super) fn decide(observed: &Observed) -> Decision {
    let volume = &observed.volume;
    let mut decision = Decision::rest();
    let phase = phase(observed);
    if is_going(volume) {
        let left = without_finalizer(volume, persistent_volume::PROTECTION).filter(|_| phase != "Bound");
        if let Some(left) = left {
            decision.then(update(&VOLUME, left, Part::Main, "no claim has the volume that goes"));
        }
        return decision;
    }
    let (phase, why) = if phase == "Released" { reclaim(volume, &mut decision) } else { (phase, None) };
    let is_told = text(volume, "/status/phase") == phase;
    if !is_told {
        let mut told = volume.clone();
        told["status"] = json!({ "phase": phase });
        if let Some(event) = why {
            told["status"]["message"] = json!(event.message);
            decision.events.push(event);
        }
        decision.then(update(&VOLUME, told, Part::Status, "whether the volume is bound has changed"));
    }
    decision
}

fn phase(observed: &Observed) -> &'static str {
    let Observed { volume, claim } = observed;
    let name = text(volume, "/metadata/name");
    if text(volume, "/spec/claimRef/uid").is_empty() {
        return "Available";
    }
    match claim {
        // The claim gets to know of its volume after the volume knows.
        Some(claim) if is_for(volume, claim) && ["", name].contains(&text(claim, "/spec/volumeName")) => "Bound",
        _ => "Released",
    }
}

/// What a volume comes to that its claim has left, and why that is not what its policy says.
fn reclaim(volume: &Value, decision: &mut Decision) -> (&'static str, Option<EventDraft>) {
    let failed = |reason, why: String| ("Failed", Some(event(&VOLUME, volume, Severity::Warning, reason, why)));
    let name = text(volume, "/metadata/name");
    let made_by = volume.pointer("/metadata/annotations").and_then(|all| all.get(PROVISIONED_BY));
    match text(volume, "/spec/persistentVolumeReclaimPolicy") {
        "Delete" if made_by.is_some_and(|by| by == DOCKER_VOLUMES) => {
            decision.then(delete(&VOLUME, volume, "its claim is gone"));
            ("Released", None)
        }
        // Whoever made it lets it go.
        "Delete" if made_by.is_some() => ("Released", None),
        "Delete" => {
            let why =
                format!("error getting deleter volume plugin for volume {name:?}: no deletable volume plugin matched");
            failed("VolumeFailedDelete", why)
        }
        "Recycle" => {
            failed("VolumeFailedRecycle", "no recyclable volume plugin matched: skiff recycles no volumes".to_owned())
        }
        _ => ("Released", None),
    }
}

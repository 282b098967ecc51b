//! The claims of `ephemeral` volumes: each is made for its pod, and goes with it.
//!
//! **Source**: `pkg/controller/volume/ephemeral/controller.go`, v1.37.

use super::{CLAIM, create, get, text};
use crate::{
    api::{
        kinds::{persistent_volume_claim::PERSISTENT_VOLUME_CLAIMS, pod::Pods},
        meta::ObjectKey,
        pod_claims::{PodClaim, claims_of},
    },
    controllers::runtime::{Controller, Decision, EventDraft, Trigger},
    registry::Registry,
};
use k8s_openapi::api::core::v1::Pod;
use serde_json::{Value, json};
use std::sync::Arc;

/// A pod, and its claims, those that are missing too.
#[derive(Clone, Debug)]
pub struct Observed {
    pod: Arc<Pod>,
    claims: Vec<(PodClaim, Option<Value>)>,
}

/// The controller.
#[derive(Clone, Copy, Debug)]
pub struct EphemeralController;

impl Controller for EphemeralController {
    type Key = ObjectKey;
    type Observed = Observed;

    fn name(&self) -> &'static str {
        "ephemeral_volume"
    }

    fn triggers(&self) -> Vec<Trigger<ObjectKey>> {
        vec![
            Trigger::on::<Pods>(|_, moved, keys| {
                let pod = moved.after.as_ref().filter(|pod| claims_of(pod).iter().any(|claim| claim.is_ephemeral));
                keys.extend(pod.map(|pod| ObjectKey::of(&pod.metadata)));
            }),
            Trigger::on_erased(CLAIM, |_, before, _, keys| {
                let Some(claim) = before.map(super::read) else { return };
                let Some(owner) = claim.pointer("/metadata/ownerReferences/0").filter(|owner| owner["kind"] == "Pod")
                else {
                    return;
                };
                keys.push(ObjectKey::new(text(&claim, "/metadata/namespace"), text(owner, "/name")));
            }),
        ]
    }

    fn observe(&self, registry: &Registry, key: &ObjectKey) -> Option<Observed> {
        let pod = registry.api::<Pods>().get(key).filter(|pod| pod.metadata.deletion_timestamp.is_none())?;
        let claims = claims_of(&pod).into_iter().filter(|claim| claim.is_ephemeral);
        let found = |claim: &PodClaim| get(registry, &PERSISTENT_VOLUME_CLAIMS, &claim.key.namespace, &claim.key.name);
        let claims = claims.map(|claim| (claim.clone(), found(&claim))).collect();
        Some(Observed { pod, claims })
    }

    fn decide(&self, observed: &Observed) -> Decision {
        let mut decision = Decision::rest();
        let pod = &observed.pod;
        for (claim, found) in &observed.claims {
            let Some(found) = found else {
                decision.then(create(&CLAIM, made(pod, claim), "the pod has a claim of its own"));
                continue;
            };
            if !is_of(found, pod) {
                let (name, pod_name) = (&claim.key.name, pod.metadata.name.as_deref().unwrap_or_default());
                let why = format!(
                    "PVC \"{}/{name}\" was not created for pod \"{}/{pod_name}\" (pod is not owner)",
                    claim.key.namespace, claim.key.namespace
                );
                decision.events.push(EventDraft::warning::<Pods>(pod, "FailedBinding", why));
            }
        }
        decision
    }
}

fn is_of(claim: &Value, pod: &Pod) -> bool {
    let owners = claim.pointer("/metadata/ownerReferences").and_then(Value::as_array);
    let uid = pod.metadata.uid.as_deref().unwrap_or_default();
    owners.into_iter().flatten().any(|owner| owner["uid"] == uid)
}

fn made(pod: &Pod, claim: &PodClaim) -> Value {
    let volumes = pod.spec.iter().flat_map(|spec| spec.volumes.iter().flatten());
    let volume = volumes.into_iter().find(|volume| volume.name == claim.volume);
    let template = volume.and_then(|volume| volume.ephemeral.as_ref()?.volume_claim_template.as_ref());
    let meta = template.and_then(|template| template.metadata.clone()).unwrap_or_default();
    json!({
        "metadata": {
            "name": claim.key.name, "namespace": claim.key.namespace,
            "labels": meta.labels, "annotations": meta.annotations,
            "ownerReferences": [{
                "apiVersion": "v1", "kind": "Pod", "name": pod.metadata.name, "uid": pod.metadata.uid,
                "controller": true, "blockOwnerDeletion": true,
            }],
        },
        "spec": template.map(|template| &template.spec),
    })
}

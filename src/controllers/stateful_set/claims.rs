//! The volume claims of a StatefulSet's pods: their names, and with whom they go.
//!
//! **Source**: `pkg/controller/statefulset/stateful_set_utils.go` (`getPersistentVolumeClaims`, `updateClaimOwnerRefForSetAndPod`), v1.37.

use super::{Observed, pods::pod_name};
use crate::{
    api::{
        json_kind::typed_json_kind,
        kind::TypedKind as _,
        kinds::{persistent_volume_claim::PERSISTENT_VOLUME_CLAIMS, pod::Pods, stateful_set::StatefulSets},
    },
    controllers::runtime::{Action, EventDraft, Planned, Report, controller_reference},
    registry::Registry,
};
use k8s_openapi::{
    api::{
        apps::v1::StatefulSet,
        core::v1::{PersistentVolumeClaim, Pod},
    },
    apimachinery::pkg::apis::meta::v1::{ObjectMeta, OwnerReference},
};
use std::sync::Arc;

typed_json_kind! {
    /// Claims as this controller has them.
    pub(super) PERSISTENT_VOLUME_CLAIMS => Claims: PersistentVolumeClaim
}

fn templates(set: &StatefulSet) -> &[PersistentVolumeClaim] {
    set.spec.volume_claim_templates.as_deref().unwrap_or_default()
}

fn text(field: Option<&String>) -> &str {
    field.map_or("", String::as_str)
}

/// The names of an ordinal's claims, each beside its template.
pub(super) fn of_ordinal(set: &StatefulSet, ordinal: i32) -> impl Iterator<Item = (String, &PersistentVolumeClaim)> {
    let pod = pod_name(set, ordinal);
    templates(set).iter().map(move |template| (format!("{}-{pod}", text(template.metadata.name.as_ref())), template))
}

/// Whether a claim is named as one of the set's.
pub(super) fn is_of(set: &StatefulSet, claim: &str) -> bool {
    let set_name = text(set.metadata.name.as_ref());
    let ordinal = |template: &PersistentVolumeClaim| {
        let rest = claim.strip_prefix(text(template.metadata.name.as_ref()))?.strip_prefix('-')?;
        rest.strip_prefix(set_name)?.strip_prefix('-')?.parse::<u32>().ok()
    };
    templates(set).iter().any(|template| ordinal(template).is_some())
}

/// The claims that are named as those of the set's pods.
pub(super) fn of_set(registry: &Registry, set: &StatefulSet) -> Vec<Arc<PersistentVolumeClaim>> {
    if templates(set).is_empty() {
        return Vec::new();
    }
    let mut all = registry.api::<Claims>().list(text(set.metadata.namespace.as_ref())).items;
    all.retain(|claim| is_of(set, text(claim.metadata.name.as_ref())));
    all
}

/// With whom claims go.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Retention {
    with_set: bool,
    with_pod: bool,
}

impl Retention {
    pub(super) fn of(set: &StatefulSet) -> Self {
        let policy = set.spec.persistent_volume_claim_retention_policy.clone().unwrap_or_default();
        let is_delete = |when: Option<String>| when.as_deref() == Some("Delete");
        Self { with_set: is_delete(policy.when_deleted), with_pod: is_delete(policy.when_scaled) }
    }

    /// The owner that a claim is to have. A claim goes with its pod only once the pod goes because there are to be fewer.
    fn owner(self, set: &StatefulSet, pod: Option<&Pod>, is_condemned: bool) -> Option<OwnerReference> {
        match pod.filter(|_| self.with_pod && is_condemned) {
            Some(pod) => Some(controller_reference(Pods::erased().info(), &pod.metadata)),
            None => self.with_set.then(|| controller_reference(StatefulSets::erased().info(), &set.metadata)),
        }
    }
}

impl Observed {
    fn claim(&self, name: &str) -> Option<&Arc<PersistentVolumeClaim>> {
        self.claims.iter().find(|claim| claim.metadata.name.as_deref() == Some(name))
    }

    /// Makes the claims that an ordinal's pod needs and that are not there.
    pub(super) fn missing_claims(&self, ordinal: i32) -> Vec<Planned> {
        let set = &*self.set;
        let missing = of_ordinal(set, ordinal).filter(|(name, _)| self.claim(name).is_none());
        missing.map(|(name, template)| creation(set, ordinal, &name, template)).collect()
    }

    /// Whether a claim of the ordinal still goes with a pod that has gone: the next pod must not get it.
    pub(super) fn has_stale_claim(&self, ordinal: i32) -> bool {
        of_ordinal(&self.set, ordinal).filter_map(|(name, _)| self.claim(&name)).any(|claim| {
            let goes_with_pod = claim.metadata.owner_references.iter().flatten().any(|owner| owner.kind == "Pod");
            goes_with_pod || claim.metadata.deletion_timestamp.is_some()
        })
    }

    /// Gives the claims of a pod the owner that they are to have.
    pub(super) fn claims_to_own(&self, ordinal: i32, pod: &Pod, is_condemned: bool) -> Vec<Planned> {
        let retention = Retention::of(&self.set);
        let wanted = retention.owner(&self.set, Some(pod), is_condemned);
        let claims = of_ordinal(&self.set, ordinal).filter_map(|(name, _)| self.claim(&name));
        claims.filter_map(|claim| owned_by(&self.set, claim, wanted.as_ref())).collect()
    }
}

/// The claim with this owner of the set's, if it has not.
fn owned_by(set: &StatefulSet, claim: &PersistentVolumeClaim, wanted: Option<&OwnerReference>) -> Option<Planned> {
    let owners = claim.metadata.owner_references.clone().unwrap_or_default();
    let is_of_set = |owner: &OwnerReference| Some(&owner.uid) == set.metadata.uid.as_ref() || owner.kind == "Pod";
    let mut after: Vec<_> = owners.iter().filter(|owner| !is_of_set(owner)).cloned().collect();
    after.extend(wanted.cloned());
    if after == owners {
        return None;
    }
    let mut claim = claim.clone();
    claim.metadata.owner_references = (!after.is_empty()).then_some(after);
    Some(Action::update::<Claims>(claim).because("it goes with another owner"))
}

fn creation(set: &StatefulSet, ordinal: i32, name: &str, template: &PersistentVolumeClaim) -> Planned {
    let from = template.metadata.clone();
    let mut labels = from.labels.unwrap_or_default();
    labels.extend(set.spec.selector.match_labels.clone().unwrap_or_default());
    let owner = Retention::of(set).owner(set, None, false);
    let claim = PersistentVolumeClaim {
        metadata: ObjectMeta {
            name: Some(name.to_owned()),
            namespace: set.metadata.namespace.clone(),
            labels: (!labels.is_empty()).then_some(labels),
            annotations: from.annotations,
            owner_references: owner.map(|owner| vec![owner]),
            ..ObjectMeta::default()
        },
        spec: template.spec.clone(),
        status: None,
    };
    let told = |end: &str| {
        format!(
            "create Claim {name} Pod {} in StatefulSet {} {end}",
            pod_name(set, ordinal),
            text(set.metadata.name.as_ref())
        )
    };
    let report = Report::Outcome(Box::new([
        EventDraft::normal::<StatefulSets>(set, "SuccessfulCreate", told("success")),
        EventDraft::warning::<StatefulSets>(set, "FailedCreate", told("failed error: ")),
    ]));
    Action::create::<Claims>(claim).because("a pod needs it").telling(report)
}

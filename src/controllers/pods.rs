//! Pods of controllers that make them from a template: which are theirs, whom their changes wake, and how they are made.
//!
//! Called by the controllers of workloads. **Not here**: how many pods there are to be, and which go first (`replica_set::rank`).
//!
//! **Source**: `pkg/controller/{controller_utils,controller_ref_manager}.go`, v1.37.

use super::runtime::{
    Action, Claim, Moved, Planned, Trigger, claim, controller_key, controller_reference, is_selected,
};
use crate::{
    api::{
        kind::{ErasedKind as _, KindRef, TypedKind},
        kinds::{pod::Pods, resource_quota::RESOURCE_QUOTAS},
        meta::{ObjectKey, controller_of},
        object::Object as _,
        pod_state,
        selector::{FieldSelector, LabelSelector},
    },
    registry::{Registry, keys, pipeline::Selection, quota},
};
use k8s_openapi::{
    api::core::v1::{Pod, PodTemplateSpec},
    apimachinery::pkg::apis::meta::v1::ObjectMeta,
};
use std::sync::Arc;

/// The pods that an object owns, whatever their labels, and those without an owner that it selects.
pub(super) fn of_owner(registry: &Registry, owner: &ObjectMeta, selector: &LabelSelector) -> Vec<Arc<Pod>> {
    let api = registry.api::<Pods>();
    let mut found = api.owned_by(owner.uid.as_deref().unwrap_or_default());
    let selection = Selection { labels: selector.clone(), fields: FieldSelector::everything() };
    let selected = api.select(owner.namespace.as_deref().unwrap_or_default(), &selection).items;
    found.extend(selected.into_iter().filter(|pod| controller_of(&pod.metadata).is_none()));
    found
}

/// The owner of a changed pod, before and after; a pod without one wakes every object of the kind that might adopt it.
pub(super) fn wake_owner<K: TypedKind>(
    registry: &Registry,
    moved: &Moved<Pod>,
    keys: &mut Vec<ObjectKey>,
    selector: impl Fn(&K::Object) -> LabelSelector,
) {
    keys.extend(moved.states().filter_map(|pod| controller_key::<K>(&pod.metadata)));
    let Some(orphan) = moved.after.as_ref().filter(|pod| controller_of(&pod.metadata).is_none()) else { return };
    for owner in registry.api::<K>().list(orphan.metadata.namespace.as_deref().unwrap_or_default()).items {
        if is_selected(&selector(&owner), &orphan.metadata) {
            keys.push(ObjectKey::of(owner.meta()));
        }
    }
}

/// A quota that leaves more than before wakes every object of the kind in its namespace: what was refused may be made now.
pub(super) fn on_more_quota<K: TypedKind>() -> Trigger<ObjectKey> {
    Trigger::on_erased(KindRef::BuiltIn(&RESOURCE_QUOTAS), |registry: &Registry, before, after, keys| {
        if quota::leaves_more(before, after) {
            let key = after.or(before).and_then(|entry| keys::object_key(RESOURCE_QUOTAS.info(), &entry.key));
            let all = key.map(|key| registry.api::<K>().list(&key.namespace).items).unwrap_or_default();
            keys.extend(all.iter().map(|owner| ObjectKey::of(owner.meta())));
        }
    })
}

/// Adoptions and releases of pods that have not ended, of which `is_selected` says whether they are to be the owner's.
pub(super) fn claims<K: TypedKind>(
    owner: &ObjectMeta,
    pods: &[Arc<Pod>],
    is_selected: impl Fn(&Pod) -> bool,
) -> Vec<Planned> {
    let reference = controller_reference(K::erased().info(), owner);
    let planned = |pod: &Pod| match claim(owner, &pod.metadata, is_selected(pod)) {
        Claim::Adopt => Some(Action::adopt::<Pods>(pod, reference.clone()).because("the selector selects an orphan")),
        Claim::Release => {
            Some(Action::release::<Pods>(pod, &reference.uid).because("the selector no longer selects it"))
        }
        Claim::Mine | Claim::NotMine => None,
    };
    pods.iter().filter(|pod| pod_state::is_active(pod)).filter_map(|pod| planned(pod)).collect()
}

/// A pod of an object, its name still to be generated. Source: `GetPodFromTemplate`.
pub(super) fn from_template<K: TypedKind>(owner: &ObjectMeta, template: &PodTemplateSpec) -> Pod {
    let from = template.metadata.clone().unwrap_or_default();
    Pod {
        metadata: ObjectMeta {
            generate_name: Some(format!("{}-", owner.name.as_deref().unwrap_or_default())),
            namespace: owner.namespace.clone(),
            labels: from.labels,
            annotations: from.annotations,
            finalizers: from.finalizers,
            owner_references: Some(vec![controller_reference(K::erased().info(), owner)]),
            ..ObjectMeta::default()
        },
        spec: template.spec.clone(),
        status: None,
    }
}

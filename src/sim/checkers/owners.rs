//! Who owns what: one controller at most, which selects what it owns, and gets it only when no one else has it; no object outlives
//! its owner, and what is orphaned lives on.

use super::model::{Model, Moment, Moved, Pair, Set, goes, is_known_owner, owner, selects_set, uid};
use crate::{
    api::{agreements::ORPHAN_FINALIZER, meta::controller_of, object::DynObject, pod_state, rollout::CONFIG},
    registry::{Registry, pipeline::Selection},
};
use jiff::{SignedDuration, Timestamp};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use std::collections::{BTreeMap, BTreeSet};

/// How long something may be selected and belong to no one: the disk may be full, and the controllers then back off.
const ADOPTION_MAX: SignedDuration = SignedDuration::from_secs(30);

#[derive(Default)]
pub(super) struct Owners {
    /// Owners that are to orphan what they own, and what they owned when they were asked to.
    orphaning: BTreeMap<String, BTreeSet<String>>,
    /// Since when something waits to be adopted.
    waiting: BTreeMap<String, Timestamp>,
}

impl Owners {
    pub(super) fn see(&mut self, model: &Model, moved: &Moved, moment: Moment) {
        let (before, after) = match moved {
            Moved::Pod(p) => (p.before.as_ref().map(|o| &o.metadata), p.after.as_ref().map(|o| &o.metadata)),
            Moved::Set(p) => (p.before.as_ref().map(Set::meta), p.after.as_ref().map(Set::meta)),
            Moved::Deployment(p) => (p.before.as_ref().map(|o| &o.metadata), p.after.as_ref().map(|o| &o.metadata)),
        };
        if let Some(after) = after {
            has_one_controller(after);
            if !moment.is_users && before.and_then(owner) != owner(after) {
                gets_an_owner(model, moved, before, after);
            }
        }
        self.see_orphan(before, after, moment);
        self.see_owner_go(model, before, after);
    }

    /// What is selected and belongs to no one is adopted soon.
    pub(super) fn look(&mut self, model: &Model, now: Timestamp) {
        let since = |uid: &str| self.waiting.get(uid).copied().unwrap_or(now);
        let waiting: BTreeMap<_, _> = unclaimed(model).map(|meta| (uid(meta).to_owned(), since(uid(meta)))).collect();
        for (uid, since) in &waiting {
            let name = || meta_of(model, uid).and_then(|meta| meta.name.clone());
            assert!(
                now.duration_since(*since) <= ADOPTION_MAX,
                "{:?} is selected since {since}, and belongs to no one",
                name()
            );
        }
        self.waiting = waiting;
    }

    /// What is to be orphaned is not deleted by anyone but the user.
    fn see_orphan(&mut self, before: Option<&ObjectMeta>, after: Option<&ObjectMeta>, moment: Moment) {
        let Some(before) = before.filter(|meta| !goes(meta)) else { return };
        if after.is_some_and(|after| !goes(after)) {
            return;
        }
        for (owner, owned) in &mut self.orphaning {
            let was_there = owned.remove(uid(before));
            assert!(!was_there || moment.is_users, "{:?} is deleted, and {owner} was to orphan it", before.name);
        }
    }

    fn see_owner_go(&mut self, model: &Model, before: Option<&ObjectMeta>, after: Option<&ObjectMeta>) {
        if let Some(meta) = after.filter(|meta| goes(meta) && has_finalizer(meta, ORPHAN_FINALIZER)) {
            self.orphaning.entry(uid(meta).to_owned()).or_insert_with(|| owned_by(model, uid(meta)));
        }
        let (Some(gone), None) = (before, after) else { return };
        for orphan in self.orphaning.remove(uid(gone)).into_iter().flatten() {
            let meta = meta_of(model, &orphan).unwrap_or_else(|| panic!("{orphan} went with what was to orphan it"));
            let still = meta.owner_references.iter().flatten().any(|o| o.uid == uid(gone));
            assert!(!still, "{:?} still names {:?}, which has gone", meta.name, gone.name);
        }
    }
}

fn has_finalizer(meta: &ObjectMeta, name: &str) -> bool {
    meta.finalizers.iter().flatten().any(|f| f == name)
}

/// What an object owns that is not being deleted already.
fn owned_by(model: &Model, owner: &str) -> BTreeSet<String> {
    let metas = model.pods.values().map(|pod| &pod.metadata).chain(model.sets.values().map(Set::meta));
    let is_owned = |meta: &&ObjectMeta| meta.owner_references.iter().flatten().any(|o| o.uid == owner);
    metas.filter(|meta| !goes(meta)).filter(is_owned).map(|meta| uid(meta).to_owned()).collect()
}

/// What belongs to no one although it is selected.
fn unclaimed(model: &Model) -> impl Iterator<Item = &ObjectMeta> {
    let is_free = |meta: &ObjectMeta| owner(meta).is_none() && !goes(meta);
    let pods = model.pods.values().filter(|pod| pod_state::is_active(pod)).map(|pod| &pod.metadata);
    let selected_pods = pods
        .filter(move |pod| is_free(pod))
        .filter(|pod| model.sets.values().any(|set| !goes(set.meta()) && set.selects(pod)));
    let sets = model.sets.values().filter(|set| matches!(set, Set::Rs(_))).map(Set::meta);
    let selected_sets = sets
        .filter(move |set| is_free(set))
        .filter(|set| model.deployments.values().any(|d| !goes(&d.metadata) && selects_set(d, set)));
    selected_pods.chain(selected_sets)
}

fn meta_of<'a>(model: &'a Model, uid: &str) -> Option<&'a ObjectMeta> {
    model.pods.get(uid).map(|pod| &pod.metadata).or_else(|| model.sets.get(uid).map(Set::meta))
}

fn has_one_controller(meta: &ObjectMeta) {
    let controllers = meta.owner_references.iter().flatten().filter(|o| o.controller == Some(true)).count();
    assert!(controllers <= 1, "{:?} has {controllers} controllers", meta.name);
}

/// An object is adopted, released, or made for an owner.
fn gets_an_owner(model: &Model, moved: &Moved, before: Option<&ObjectMeta>, after: &ObjectMeta) {
    let name = &after.name;
    if let Some(before) = before {
        let former = owner(before);
        assert!(former.is_none() || owner(after).is_none(), "{name:?} passes from one owner to another");
        assert!(owner(after).is_none() || !goes(before), "{name:?} is going and is adopted");
    }
    let Some(new) = owner(after) else { return };
    let is_selected = match moved {
        Moved::Pod(_) if !is_known_owner(after) => return,
        Moved::Pod(_) => model.sets.get(new).map(|set| set.selects(after)),
        // Its rollouts carry the name of their DeploymentConfig, which the model does not know.
        Moved::Set(Pair { after: Some(Set::Rc(_)), .. }) => {
            let named = after.labels.as_ref().and_then(|labels| labels.get(CONFIG));
            Some(named.is_some() && named == controller_of(after).map(|config| &config.name))
        }
        Moved::Set(_) => model.deployments.get(new).map(|deployment| selects_set(deployment, after)),
        Moved::Deployment(_) => None,
    };
    assert_eq!(is_selected, Some(true), "{name:?} gets an owner that does not select it, or is not there");
}

/// At rest, everything belongs to whom selects it, and to no one else.
pub(super) fn own_what_they_select(registry: &Registry) {
    let model = Model::of(registry);
    for pod in model.pods.values().filter(|pod| pod_state::is_active(pod) && is_known_owner(&pod.metadata)) {
        let mut selecting = model.sets.values().filter(|set| !goes(set.meta()) && set.selects(&pod.metadata));
        let is_right = match owner(&pod.metadata) {
            Some(owner) => selecting.any(|set| uid(set.meta()) == owner),
            None => selecting.next().is_none(),
        };
        assert!(is_right, "{:?} does not belong to whom selects it", pod.metadata.name);
    }
    for set in model.sets.values().filter(|set| !goes(set.meta()) && matches!(set, Set::Rs(_))) {
        let mut selecting = model.deployments.values().filter(|d| !goes(&d.metadata) && selects_set(d, set.meta()));
        let is_right = match owner(set.meta()) {
            Some(owner) => selecting.any(|d| uid(&d.metadata) == owner),
            None => selecting.next().is_none(),
        };
        assert!(is_right, "{:?} does not belong to whom selects it", set.meta().name);
    }
}

/// Every controller that an object names exists.
pub(super) fn all_exist(registry: &Registry) {
    let mut objects: Vec<Box<dyn DynObject>> = Vec::new();
    for kind in registry.kinds().iter().filter(|k| k.info().stored_as.is_none()) {
        let entries = registry.snapshot(&**kind, "", &Selection::default()).entries;
        objects.extend(entries.iter().map(|e| kind.decode_bytes(&e.value).unwrap()));
    }
    let uids: BTreeSet<String> = objects.iter().filter_map(|o| o.meta().uid.clone()).collect();
    for object in &objects {
        for owner in object.meta().owner_references.iter().flatten() {
            assert!(uids.contains(&owner.uid), "{:?} outlives its owner {}", object.meta().name, owner.name);
        }
    }
}

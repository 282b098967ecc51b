//! How many pods there are, at every single write: a set never makes more than it wants and never takes more away; a Deployment's
//! sets and pods stay within replicas + maxSurge, or come down to it; what it shrinks leaves replicas − maxUnavailable available.
//!
//! A user may ask for less, and a fault may take pods away: then a count may be beyond its bound, but no write takes it further.

use super::model::{Model, Moment, Moved, Pair, Set, goes, is_known_owner, owner, uid};
use crate::{api::pod_state, sim::fence::Fence};
use k8s_openapi::api::{apps::v1::Deployment, core::v1::Pod};
use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

/// The size that a Deployment had when a set's size was decided.
const DESIRED: &str = "deployment.kubernetes.io/desired-replicas";

#[derive(Default)]
pub(super) struct Sizes {
    /// The fence of each Deployment that its controller has said to know of.
    known: BTreeMap<String, Fence>,
    /// Deployments that got a larger or another set by hand, and whose sets have not been brought within bounds since.
    tampered: BTreeSet<String>,
}

impl Sizes {
    pub(super) fn see(&mut self, model: &Model, moved: &Moved, moment: Moment) {
        match moved {
            Moved::Pod(pair) if !moment.is_users => self.see_pod(model, pair),
            Moved::Set(pair) if !moment.is_users => {
                self.see_adoption(pair);
                self.see_set(model, pair, moment);
                self.tampered.retain(|uid| model.deployments.get(uid).is_some_and(|d| !is_within_bounds(model, d)));
            }
            Moved::Set(pair) => self.see_users_set(pair),
            Moved::Deployment(Pair { after: Some(deployment), .. }) => self.see_deployment(deployment),
            _ => {}
        }
    }

    fn see_deployment(&mut self, deployment: &Deployment) {
        let observed = deployment.status.as_ref().and_then(|s| s.observed_generation).unwrap_or(0);
        let generation = deployment.metadata.generation.unwrap_or(0);
        let name = &deployment.metadata.name;
        assert!(observed <= generation, "{name:?} observes generation {observed} of {generation}");
        if observed == generation {
            self.known.insert(uid(&deployment.metadata).to_owned(), Fence::of(deployment));
        }
    }

    fn see_adoption(&mut self, pair: &Pair<Set>) {
        let Pair { before: Some(before), after: Some(after) } = pair else { return };
        if owner(before.meta()) != owner(after.meta()) {
            self.tampered.extend(owner(after.meta()).map(str::to_owned));
        }
    }

    fn see_users_set(&mut self, pair: &Pair<Set>) {
        let Pair { before: Some(before), after: Some(after) } = pair else { return };
        if after.size() > before.size() {
            self.tampered.extend(owner(after.meta()).map(str::to_owned));
        }
    }

    /// The fence that a Deployment has, or had until its controller looked: the wider of the two.
    fn fence(&self, deployment: &Deployment) -> Fence {
        let now = Fence::of(deployment);
        match self.known.get(uid(&deployment.metadata)) {
            None => now,
            Some(known) => Fence {
                pods_max: now.pods_max.max(known.pods_max),
                available_min: now.available_min.min(known.available_min),
            },
        }
    }

    fn see_pod(&self, model: &Model, pair: &Pair<Arc<Pod>>) {
        let was_active = pair.before.as_ref().is_some_and(|pod| pod_state::is_active(pod));
        match (&pair.before, &pair.after) {
            (None, Some(pod)) => self.see_new_pod(model, pod),
            (Some(pod), None) if was_active => see_pod_go(model, pod),
            (Some(pod), Some(after)) if was_active && goes(&after.metadata) => see_pod_go(model, pod),
            _ => {}
        }
    }

    fn see_new_pod(&self, model: &Model, pod: &Pod) {
        let name = &pod.metadata.name;
        let Some(set) = owner(&pod.metadata).filter(|_| is_known_owner(&pod.metadata)) else { return };
        let set = model.sets.get(set).unwrap_or_else(|| panic!("{name:?} is made for a set that is not there"));
        let (has, wants) = (model.active(uid(set.meta())), set.size());
        assert!(has <= wants, "{name:?} is made, and {:?} has {has} pods of {wants}", set.meta().name);
        let Some(deployment) = model.deployment_of(set) else { return };
        let of_deployment = || model.sets_of(uid(&deployment.metadata));
        let all: i32 = of_deployment().map(|set| model.active(uid(set.meta()))).sum();
        let sizes: i32 = of_deployment().map(Set::size).sum();
        let fence = self.fence(deployment);
        let whose = &deployment.metadata.name;
        let may_exceed = self.tampered.contains(uid(&deployment.metadata));
        assert!(
            all <= fence.pods_max.max(sizes) || may_exceed,
            "{name:?} is made, and {whose:?} has {all} pods: {fence:?}"
        );
    }

    fn see_set(&self, model: &Model, pair: &Pair<Set>, moment: Moment) {
        let Some(set) = &pair.after else { return };
        let before = pair.before.as_ref().map_or(0, Set::size);
        let Some(deployment) = model.deployment_of(set).filter(|d| !goes(&d.metadata)) else { return };
        let others = || model.sets_of(uid(&deployment.metadata)).filter(|other| uid(other.meta()) != uid(set.meta()));
        let fence = self.fence(deployment);
        let name = &set.meta().name;
        if set.size() > before {
            let all = others().map(Set::size).sum::<i32>() + set.size();
            assert!(all <= fence.pods_max, "{name:?} grows to {}, to {all} in all: {fence:?}", set.size());
        }
        // Scaling keeps proportions, whatever is available; a paused Deployment does nothing else.
        let is_scaled = deployment.spec.paused == Some(true)
            || self.tampered.contains(uid(&deployment.metadata))
            || pair.before.as_ref().is_none_or(|before| desired(before) != desired(set));
        if set.size() < before && !is_scaled {
            let lasting = |set: &Set, size: i32| model.available(set, moment.now).min(size);
            let rest: i32 = others().map(|set| lasting(set, set.size())).sum();
            let (has, keeps) = (rest + lasting(set, before), rest + lasting(set, set.size()));
            let needs = fence.available_min.min(has);
            assert!(
                keeps >= needs,
                "{name:?} shrinks to {}, and {keeps} of {has} stay available: {fence:?}",
                set.size()
            );
        }
    }
}

fn is_within_bounds(model: &Model, deployment: &Deployment) -> bool {
    let sets = || model.sets_of(uid(&deployment.metadata));
    let all: i32 = sets().map(Set::size).sum();
    all <= Fence::of(deployment).pods_max && sets().all(|set| model.active(uid(set.meta())) == set.size())
}

fn desired(set: &Set) -> Option<&String> {
    set.meta().annotations.as_ref()?.get(DESIRED)
}

/// A pod that its set takes away is one too many, and no better than those that stay.
fn see_pod_go(model: &Model, pod: &Pod) {
    let Some(set) = owner(&pod.metadata).and_then(|uid| model.sets.get(uid)) else { return };
    if goes(set.meta()) {
        return;
    }
    let name = &pod.metadata.name;
    let (has, wants) = (model.active(uid(set.meta())), set.size());
    assert!(has >= wants, "{name:?} is taken away, and {:?} has {has} pods of {wants}", set.meta().name);
    let stays_unready = |other: &Arc<Pod>| pod_state::is_active(other) && !pod_state::is_pod_ready(other);
    if pod_state::is_pod_ready(pod) {
        let worse = model.pods_of(uid(set.meta())).find(|other| stays_unready(other));
        let worse = worse.map(|pod| &pod.metadata.name);
        assert!(worse.is_none(), "{name:?} is ready and taken away, and {worse:?} stays");
    }
}

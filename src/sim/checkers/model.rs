//! The Deployments, sets and pods that the store's history tells of, change by change: what the other checkers count in.
//!
//! It reads nothing but changes and specs, so that it does not share a mistake with the controllers.

use crate::{
    api::{
        kinds::{
            deployment::Deployments, pod::Pods, replica_set::ReplicaSets,
            replication_controller::ReplicationControllers,
        },
        meta::controller_of,
        pod_state,
        selector::LabelSelector,
    },
    registry::{Registry, pipeline::decoded},
    store::{Change, Entry},
};
use jiff::Timestamp;
use k8s_openapi::{
    api::{
        apps::v1::{Deployment, ReplicaSet},
        core::v1::{Pod, PodTemplateSpec, ReplicationController},
    },
    apimachinery::pkg::apis::meta::v1::ObjectMeta,
};
use std::{collections::BTreeMap, sync::Arc};

const REVISION: &str = "deployment.kubernetes.io/revision";
/// The label that a Deployment adds to the templates of its sets.
pub(super) const HASH: &str = "pod-template-hash";

/// A ReplicaSet or a ReplicationController.
#[derive(Clone)]
pub(super) enum Set {
    Rs(Arc<ReplicaSet>),
    Rc(Arc<ReplicationController>),
}

/// The numbers in a set's status.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Numbers {
    pub(super) replicas: i32,
    pub(super) fully_labeled: i32,
    pub(super) ready: i32,
    pub(super) available: i32,
    pub(super) observed_generation: i64,
}

impl Set {
    pub(super) fn meta(&self) -> &ObjectMeta {
        match self {
            Self::Rs(set) => &set.metadata,
            Self::Rc(set) => &set.metadata,
        }
    }

    pub(super) fn size(&self) -> i32 {
        match self {
            Self::Rs(set) => set.spec.replicas,
            Self::Rc(set) => set.spec.as_ref().and_then(|s| s.replicas),
        }
        .unwrap_or(1)
    }

    pub(super) fn min_ready(&self) -> i32 {
        match self {
            Self::Rs(set) => set.spec.min_ready_seconds,
            Self::Rc(set) => set.spec.as_ref().and_then(|s| s.min_ready_seconds),
        }
        .unwrap_or(0)
    }

    pub(super) fn template(&self) -> Option<&PodTemplateSpec> {
        match self {
            Self::Rs(set) => set.spec.template.as_ref(),
            Self::Rc(set) => set.spec.as_ref()?.template.as_ref(),
        }
    }

    fn selector(&self) -> LabelSelector {
        match self {
            Self::Rs(set) => LabelSelector::from_api(&set.spec.selector).expect("what is stored is valid"),
            Self::Rc(set) => LabelSelector::from_map(set.spec.as_ref().unwrap().selector.as_ref().unwrap()),
        }
    }

    pub(super) fn selects(&self, meta: &ObjectMeta) -> bool {
        self.meta().namespace == meta.namespace && selects(&self.selector(), meta)
    }

    pub(super) fn numbers(&self) -> Numbers {
        match self {
            Self::Rs(set) => set.status.as_ref().map(|s| Numbers {
                replicas: s.replicas,
                fully_labeled: s.fully_labeled_replicas.unwrap_or(0),
                ready: s.ready_replicas.unwrap_or(0),
                available: s.available_replicas.unwrap_or(0),
                observed_generation: s.observed_generation.unwrap_or(0),
            }),
            Self::Rc(set) => set.status.as_ref().map(|s| Numbers {
                replicas: s.replicas,
                fully_labeled: s.fully_labeled_replicas.unwrap_or(0),
                ready: s.ready_replicas.unwrap_or(0),
                available: s.available_replicas.unwrap_or(0),
                observed_generation: s.observed_generation.unwrap_or(0),
            }),
        }
        .unwrap_or_default()
    }
}

fn selects(selector: &LabelSelector, meta: &ObjectMeta) -> bool {
    selector.matches(meta.labels.as_ref().unwrap_or(&BTreeMap::new()))
}

/// Whether a Deployment's selector selects a set.
pub(super) fn selects_set(deployment: &Deployment, meta: &ObjectMeta) -> bool {
    let selector = LabelSelector::from_api(&deployment.spec.selector).expect("what is stored is valid");
    deployment.metadata.namespace == meta.namespace && selects(&selector, meta)
}

/// The UID of an object that is stored.
pub(super) fn uid(meta: &ObjectMeta) -> &str {
    meta.uid.as_deref().expect("what is stored has a UID")
}

/// The UID of the object's controller.
pub(super) fn owner(meta: &ObjectMeta) -> Option<&str> {
    controller_of(meta).map(|o| o.uid.as_str())
}

/// Whether the object's controller is of a kind that the model knows, or that it has none.
pub(super) fn is_known_owner(meta: &ObjectMeta) -> bool {
    controller_of(meta).is_none_or(|o| matches!(o.kind.as_str(), "Deployment" | "ReplicaSet" | "ReplicationController"))
}

/// Whether the object is being deleted.
pub(super) fn goes(meta: &ObjectMeta) -> bool {
    meta.deletion_timestamp.is_some()
}

/// The revision that a Deployment or its set is annotated with; 0 without one.
pub(super) fn revision(meta: &ObjectMeta) -> i64 {
    meta.annotations.as_ref().and_then(|a| a.get(REVISION)).map_or(0, |text| text.parse().expect("a number"))
}

/// An object before and after a change.
pub(super) struct Pair<T> {
    pub(super) before: Option<T>,
    pub(super) after: Option<T>,
}

/// A change of what the model knows.
pub(super) enum Moved {
    Pod(Pair<Arc<Pod>>),
    Set(Pair<Set>),
    Deployment(Pair<Arc<Deployment>>),
}

/// When a change was seen, and who made it.
#[derive(Clone, Copy)]
pub(super) struct Moment {
    pub(super) now: Timestamp,
    /// The user wrote it; a controller or the node did otherwise.
    pub(super) is_users: bool,
}

/// What there is, by UID.
#[derive(Default)]
pub(super) struct Model {
    pub(super) deployments: BTreeMap<String, Arc<Deployment>>,
    pub(super) sets: BTreeMap<String, Set>,
    pub(super) pods: BTreeMap<String, Arc<Pod>>,
}

impl Model {
    /// What a registry has.
    pub(super) fn of(registry: &Registry) -> Self {
        let mut model = Self::default();
        for deployment in registry.api::<Deployments>().list("").items {
            model.deployments.insert(uid(&deployment.metadata).to_owned(), deployment);
        }
        let rs = registry.api::<ReplicaSets>().list("").items.into_iter().map(Set::Rs);
        let rc = registry.api::<ReplicationControllers>().list("").items.into_iter().map(Set::Rc);
        model.sets = rs.chain(rc).map(|set| (uid(set.meta()).to_owned(), set)).collect();
        for pod in registry.api::<Pods>().list("").items {
            model.pods.insert(uid(&pod.metadata).to_owned(), pod);
        }
        model
    }

    /// Takes a change in, and says what it is; `None`: of another kind.
    pub(super) fn take(&mut self, change: &Change) -> Option<Moved> {
        let (group, rest) = change.key.split_once('/')?;
        let (plural, _) = rest.split_once('/')?;
        Some(match (group, plural) {
            ("core", "pods") => Moved::Pod(put(&mut self.pods, pair(change, decoded::<Pods>), |p| &p.metadata)),
            ("apps", "deployments") => {
                let pair = pair(change, decoded::<Deployments>);
                Moved::Deployment(put(&mut self.deployments, pair, |d| &d.metadata))
            }
            ("apps", "replicasets") => {
                let pair = pair(change, |e| Set::Rs(decoded::<ReplicaSets>(e)));
                Moved::Set(put(&mut self.sets, pair, Set::meta))
            }
            ("core", "replicationcontrollers") => {
                let pair = pair(change, |e| Set::Rc(decoded::<ReplicationControllers>(e)));
                Moved::Set(put(&mut self.sets, pair, Set::meta))
            }
            _ => return None,
        })
    }

    /// The pods that a set controls.
    pub(super) fn pods_of<'a>(&'a self, set: &'a str) -> impl Iterator<Item = &'a Arc<Pod>> {
        self.pods.values().filter(move |pod| owner(&pod.metadata) == Some(set))
    }

    /// How many pods a set has that count.
    pub(super) fn active(&self, set: &str) -> i32 {
        count(self.pods_of(set), pod_state::is_active)
    }

    /// How many pods of a set are available.
    pub(super) fn available(&self, set: &Set, now: Timestamp) -> i32 {
        let min_ready = set.min_ready();
        let is_available = |pod: &Pod| pod_state::is_active(pod) && pod_state::is_pod_available(pod, min_ready, now);
        count(self.pods_of(uid(set.meta())), is_available)
    }

    /// The sets that a Deployment controls.
    pub(super) fn sets_of<'a>(&'a self, deployment: &'a str) -> impl Iterator<Item = &'a Set> {
        self.sets.values().filter(move |set| owner(set.meta()) == Some(deployment))
    }

    /// The Deployment that controls a set.
    pub(super) fn deployment_of(&self, set: &Set) -> Option<&Arc<Deployment>> {
        self.deployments.get(owner(set.meta())?)
    }
}

fn count<'a>(pods: impl Iterator<Item = &'a Arc<Pod>>, is: impl Fn(&Pod) -> bool) -> i32 {
    i32::try_from(pods.filter(|pod| is(pod)).count()).unwrap()
}

fn pair<T>(change: &Change, read: impl Fn(&Entry) -> T) -> Pair<T> {
    Pair { before: change.before.as_deref().map(&read), after: change.after.as_deref().map(&read) }
}

fn put<T: Clone>(all: &mut BTreeMap<String, T>, pair: Pair<T>, meta: impl Fn(&T) -> &ObjectMeta) -> Pair<T> {
    match (&pair.before, &pair.after) {
        (_, Some(after)) => drop(all.insert(uid(meta(after)).to_owned(), after.clone())),
        (Some(before), None) => drop(all.remove(uid(meta(before)))),
        (None, None) => unreachable!("a change has a before or an after"),
    }
    pair
}

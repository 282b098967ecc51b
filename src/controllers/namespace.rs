//! The end of a namespace: first its pods go, then everything else in it, and when nothing is left the namespace itself.
//!
//! Which kinds there are is asked of the table, so that none is forgotten. Content of a namespace that is gone (it was being created
//! while the namespace went) is removed as well.
//!
//! **Invariants**: the finalizer is taken off only when an exact read shows that nothing is left. How often everything is gone over does
//! not depend on how much there is: a namespace is woken by what appears in it, and when it holds nothing of a kind any more.
//!
//! **Source**: `pkg/controller/namespace/deletion`, v1.37.

use super::runtime::{Action, Controller, Decision, Done, Planned, Step, Trigger, stamp};
use crate::{
    api::{
        kind::{ErasedKind, Kind as _, KindRef},
        kinds::{
            Kinds,
            namespace::{KUBERNETES_FINALIZER, Namespaces},
            pod::Pods,
        },
        meta::ObjectKey,
    },
    base::ordered::Map,
    controllers::entries::{Held, held},
    registry::{
        Registry, keys,
        pipeline::{DeleteOptions, Propagation, Selection},
    },
    store::Entry,
};
use jiff::Timestamp;
use k8s_openapi::api::core::v1::{Namespace, NamespaceCondition};
use std::{fmt, sync::Arc, time::Duration};

/// The most objects that are deleted at once.
const BATCH_MAX: usize = 500;
/// When a status that changed is looked at again: what is left may have changed without a kind being gone.
const LOOK_AGAIN: Duration = Duration::from_secs(5);

/// An object in the namespace.
#[derive(Clone)]
pub struct Content {
    kind: KindRef,
    held: Held,
}

impl fmt::Debug for Content {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.kind.info().kind, self.held.key)
    }
}

/// All that a pass over a namespace depends on.
#[derive(Clone, Debug)]
pub struct Observed {
    /// The namespace; `None`: it is gone.
    pub namespace: Option<Arc<Namespace>>,
    /// Everything in it.
    pub content: Vec<Content>,
    /// The time.
    pub now: Timestamp,
}

/// The controller.
#[derive(Clone, Copy, Debug)]
pub struct NamespaceController;

/// The kinds whose objects live in namespaces, each stored once.
fn namespaced_kinds(kinds: &Kinds) -> impl Iterator<Item = &KindRef> {
    kinds.iter().filter(|k| k.info().is_namespaced() && k.info().stored_as.is_none() && is_deletable(&***k))
}

/// Kinds that are only asked, such as reviews, keep nothing.
fn is_deletable(kind: &dyn ErasedKind) -> bool {
    kind.info().verbs.contains(&"delete") && kind.info().verbs.contains(&"list")
}

impl Controller for NamespaceController {
    /// A namespace's name.
    type Key = String;
    type Observed = Observed;

    const CONCLUDES: bool = true;
    const FOLLOWS_KINDS: bool = true;

    fn name(&self) -> &'static str {
        "namespace"
    }

    fn kind_triggers(&self, kinds: &Kinds) -> Vec<Trigger<String>> {
        let content = |kind: &KindRef| {
            let of = kind.clone();
            Trigger::on_erased(kind.clone(), move |registry: &Registry, before, after, keys: &mut Vec<String>| {
                let Some(entry) = after.or(before) else { return };
                let is_change = before.is_some() && after.is_some();
                let Some(key) = keys::object_key(of.info(), &entry.key).filter(|_| !is_change) else { return };
                let is_news = after.is_some() || !registry.has_any(&*of, &key.namespace);
                keys.extend(Some(key.namespace).filter(|n| is_news && namespace_goes(registry, n)));
            })
        };
        namespaced_kinds(kinds).map(content).collect()
    }

    fn triggers(&self) -> Vec<Trigger<String>> {
        let own = Trigger::on::<Namespaces>(|_, moved, keys: &mut Vec<String>| {
            let goes = moved.after.as_ref().is_none_or(|n| n.metadata.deletion_timestamp.is_some());
            keys.extend(moved.last().filter(|_| goes).and_then(|n| n.metadata.name.clone()));
        });
        vec![own]
    }

    fn observe(&self, registry: &Registry, namespace: &String) -> Option<Observed> {
        if !namespace_goes(registry, namespace) {
            return None;
        }
        let of_kind = |kind: &KindRef| {
            let (kind, entries) = (kind.clone(), registry.snapshot(&**kind, namespace, &Selection::default()).entries);
            entries.into_iter().map(move |entry: Arc<Entry>| Content { kind: kind.clone(), held: held(&entry) })
        };
        Some(Observed {
            namespace: registry.api::<Namespaces>().get(&ObjectKey::new("", namespace)),
            content: namespaced_kinds(&registry.kinds()).flat_map(of_kind).collect(),
            now: registry.clock().now(),
        })
    }

    fn weight(&self, observed: &Observed) -> usize {
        observed.content.len()
    }

    fn decide(&self, observed: &Observed) -> Decision {
        decide(observed)
    }

    fn conclude(&self, observed: &Observed, done: &Done) -> Decision {
        conclude(observed, done)
    }
}

/// Whether a namespace goes or is gone, so that nothing can be created in it.
pub(super) fn namespace_goes(registry: &Registry, namespace: &str) -> bool {
    let found = registry.api::<Namespaces>().get(&ObjectKey::new("", namespace));
    found.is_none_or(|n| n.metadata.deletion_timestamp.is_some())
}

fn has_finalizer(namespace: &Namespace) -> bool {
    namespace.spec.iter().flat_map(|s| s.finalizers.iter().flatten()).any(|f| f == KUBERNETES_FINALIZER)
}

fn decide(observed: &Observed) -> Decision {
    // Pods first: what they run may still need the rest. Source: KEP-5080, ordered namespace deletion.
    let is_pod = |c: &&Content| c.kind.info().resource() == Pods::INFO.resource();
    let has_pods = observed.content.iter().any(|c| is_pod(&c));
    let to_go = observed.content.iter().filter(|c| (!has_pods || is_pod(c)) && !c.held.is_marked);
    let mut rest = to_go.map(delete).peekable();
    let mut decision = Decision::default();
    while rest.peek().is_some() {
        decision.then(Step::Parallel(rest.by_ref().take(BATCH_MAX).collect()));
    }
    decision
}

const NAMESPACE_GOES: &str = "its namespace goes";

fn delete(content: &Content) -> Planned {
    let options = DeleteOptions {
        uid: Some(content.held.uid.clone()),
        propagation: Some(Propagation::Background),
        ..DeleteOptions::default()
    };
    Action::Delete { kind: content.kind.clone(), key: content.held.key.clone(), options }.because(NAMESPACE_GOES)
}

fn conclude(observed: &Observed, done: &Done) -> Decision {
    let mut decision = Decision::default();
    let Some(namespace) = observed.namespace.as_deref().filter(|n| has_finalizer(n)) else { return decision };
    let mut changed = namespace.clone();
    if observed.content.is_empty() {
        let finalizers = changed.spec.get_or_insert_default().finalizers.get_or_insert_default();
        finalizers.retain(|f| f != KUBERNETES_FINALIZER);
        decision.then(Action::update::<Namespaces>(changed).because("nothing is left in the namespace"));
        return decision;
    }
    let status = changed.status.get_or_insert_default();
    let conditions = status.conditions.get_or_insert_default();
    for condition in conditions_of(observed, done) {
        set(conditions, condition);
    }
    if changed.status != namespace.status {
        decision.then(Action::update_status::<Namespaces>(changed).because("the status changed"));
        decision.requeue_after = Some(LOOK_AGAIN);
    }
    decision
}

/// Source: `namespacedResourcesDeleter` and `conditionUpdater`, deletion/status_condition_utils.go.
fn conditions_of(observed: &Observed, done: &Done) -> Vec<NamespaceCondition> {
    let condition = |type_: &str, is: bool, reason: &str, message: String| NamespaceCondition {
        type_: type_.to_owned(),
        status: if is { "True" } else { "False" }.to_owned(),
        reason: Some(reason.to_owned()),
        message: Some(message),
        last_transition_time: Some(stamp(observed.now)),
    };
    let ok = |type_, reason, message: &str| condition(type_, false, reason, message.to_owned());
    let failure = match done.error_of(NAMESPACE_GOES) {
        None => ok(
            "NamespaceDeletionContentFailure",
            "ContentDeleted",
            "All content successfully deleted, may be waiting on finalization",
        ),
        Some(err) => {
            let message = format!("Failed to delete all resource types, 1 remaining: {err}");
            condition("NamespaceDeletionContentFailure", true, "ContentDeletionFailed", message)
        }
    };
    let remain = format!("Some resources are remaining: {}", remaining(observed));
    let finalizers = finalizers(observed);
    let held_back = if finalizers.is_empty() {
        ok("NamespaceFinalizersRemaining", "ContentHasNoFinalizers", "All content-preserving finalizers finished")
    } else {
        let message = format!("Some content in the namespace has finalizers remaining: {finalizers}");
        condition("NamespaceFinalizersRemaining", true, "SomeFinalizersRemain", message)
    };
    vec![
        ok("NamespaceDeletionDiscoveryFailure", "ResourcesDiscovered", "All resources successfully discovered"),
        ok(
            "NamespaceDeletionGroupVersionParsingFailure",
            "ParsedGroupVersions",
            "All legacy kube types successfully parsed",
        ),
        failure,
        condition("NamespaceContentRemaining", true, "SomeResourcesRemain", remain),
        held_back,
    ]
}

/// `plural.group has n resource instances` for each kind that is left.
fn remaining(observed: &Observed) -> String {
    let mut counts: Map<String, usize> = Map::new();
    for content in &observed.content {
        let info = content.kind.info();
        *counts.entry(format!("{}.{}", info.plural, info.group)).or_default() += 1;
    }
    join(counts.into_iter().map(|(resource, n)| format!("{resource} has {n} resource instances")))
}

fn finalizers(observed: &Observed) -> String {
    let mut counts: Map<&str, usize> = Map::new();
    for finalizer in observed.content.iter().flat_map(|c| &c.held.finalizers) {
        *counts.entry(finalizer).or_default() += 1;
    }
    join(counts.into_iter().map(|(finalizer, n)| format!("{finalizer} in {n} resource instances")))
}

fn join(lines: impl Iterator<Item = String>) -> String {
    lines.collect::<Vec<_>>().join(", ")
}

/// Sets a condition; one that says the same keeps its time, and one that only says more keeps it too.
fn set(conditions: &mut Vec<NamespaceCondition>, mut condition: NamespaceCondition) {
    match conditions.iter_mut().find(|c| c.type_ == condition.type_) {
        None => conditions.push(condition),
        Some(current) => {
            if current.status == condition.status {
                condition.last_transition_time.clone_from(&current.last_transition_time);
            }
            *current = condition;
        }
    }
}

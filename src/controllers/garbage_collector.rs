//! The garbage collector: objects go when all their owners are gone, and owners wait for what they own when they are asked to.
//!
//! The owner graph is the store's own: an object's owners are in its metadata, and `owner=<uid>` is an index term of what it owns.
//! - background: an owner that is gone wakes what it owned, and each of them goes if no other owner is left;
//! - foreground: an owner with the finalizer `foregroundDeletion` goes after everything that blocks it;
//! - orphan: an owner with the finalizer `orphan` first lets go of everything.
//!
//! Objects that wait for each other in a circle, and for nothing else, go all the same.
//!
//! What an owner waits for has the index term `blocks=<uid>`: as long as something has it, nobody goes over what is owned.
//!
//! **Invariants**: an owner counts as gone only when an exact read finds no object of its kind, name and UID; an owner of a kind
//! that is not served counts as there. A deletion names the UID and the revision that was looked at. An object in no namespace that names an
//! owner in one stays, as nobody can say whether that owner is gone; an owner in another namespace is none. Both are told as Events.
//!
//! **Source**: `pkg/controller/garbagecollector`, v1.37.

use super::{
    entries::{Held, held},
    runtime::{Action, Controller, Decision, EventDraft, Planned, Step, Trigger},
};
use crate::{
    api::{
        agreements::{FOREGROUND_FINALIZER, ORPHAN_FINALIZER},
        kind::{KindRef, Scope},
        kinds::{Kinds, namespace::Namespaces},
        meta::ObjectKey,
    },
    base::ordered::Set,
    registry::{
        Registry,
        events::Severity,
        keys,
        pipeline::{DeleteOptions, Part, Propagation},
    },
    store::Entry,
};
use k8s_openapi::{api::core::v1::ObjectReference, apimachinery::pkg::apis::meta::v1::OwnerReference};
use std::{fmt, sync::Arc};

/// How many objects a circle is looked for in.
const KNOT_MAX: usize = 1_000;

/// An object of any kind.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Node {
    kind: KindRef,
    key: ObjectKey,
}

impl Node {
    /// The object that a store key names.
    fn of_store_key(kinds: &Kinds, key: &str) -> Option<Self> {
        let (group, plural) = keys::group_and_plural_of(key)?;
        let kind = kinds.stored(group, plural).filter(|kind| is_collected(kind))?;
        Some(Self { kind: kind.clone(), key: keys::object_key(kind.info(), key)? })
    }

    /// The object that an owner reference of an object in this namespace names; `None` when no served kind can be meant.
    fn of_owner(kinds: &Kinds, owner: &OwnerReference, namespace: &str) -> Option<Self> {
        let (group, version) = owner.api_version.rsplit_once('/').unwrap_or(("", &owner.api_version));
        let found = kinds.by_kind(group, version, &owner.kind)?.info();
        let kind = kinds.stored(found.group, found.plural).filter(|kind| is_collected(kind))?;
        let namespace = match (found.scope, namespace) {
            (Scope::Cluster, _) => "",
            // An owner in a namespace cannot own what is in none.
            (Scope::Namespaced, "") => return None,
            (Scope::Namespaced, namespace) => namespace,
        };
        Some(Self { kind: kind.clone(), key: ObjectKey::new(namespace, owner.name.clone()) })
    }

    fn entry(&self, registry: &Registry) -> Option<Arc<Entry>> {
        registry.entry(&*self.kind, &self.key)
    }
}

/// Whether objects of the kind own or are owned: each stored once, and not Events, of which there are many and which own nothing.
fn is_collected(kind: &KindRef) -> bool {
    let info = kind.info();
    info.stored_as.is_none()
        && info.plural != "events"
        && info.verbs.contains(&"delete")
        && info.verbs.contains(&"list")
}

/// How an owner stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum OwnerState {
    /// It is there, or that it is gone cannot be proved.
    There,
    /// It goes as soon as what it owns is gone.
    Waits,
    /// It is gone.
    Gone,
}

/// Something that the object owns.
#[derive(Clone, Debug)]
struct Dependent {
    node: Node,
    uid: String,
    /// Whether the owner waits for it.
    blocks: bool,
    /// Whether it waits for what it owns itself.
    waits: bool,
}

/// All that a pass over an object depends on.
pub struct Observed {
    node: Node,
    entry: Arc<Entry>,
    held: Held,
    owners: Vec<(OwnerReference, OwnerState)>,
    /// Owners that cannot be its owners, for want of their namespace.
    misplaced: Vec<OwnerReference>,
    /// Whether it waits, and something blocks it: its dependents are not gathered then.
    is_blocked: bool,
    /// Whether what blocks it waits for it in turn, and for nothing else.
    is_knotted: bool,
    dependents: Vec<Dependent>,
}

impl fmt::Debug for Observed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Observed").field("held", &self.held).field("owners", &self.owners).finish_non_exhaustive()
    }
}

/// The controller.
#[derive(Clone, Copy, Debug)]
pub struct GarbageCollector;

impl Controller for GarbageCollector {
    type Key = Node;
    type Observed = Observed;

    const FOLLOWS_KINDS: bool = true;

    fn name(&self) -> &'static str {
        "garbagecollector"
    }

    fn event_source(&self) -> &'static str {
        "garbage-collector-controller"
    }

    fn triggers(&self) -> Vec<Trigger<Node>> {
        Vec::new()
    }

    fn kind_triggers(&self, kinds: &Kinds) -> Vec<Trigger<Node>> {
        let trigger = |kind: &KindRef| {
            let of = kind.clone();
            let map =
                move |registry: &Registry, before: Option<&Entry>, after: Option<&Entry>, nodes: &mut Vec<Node>| {
                    match after {
                        Some(after) => wake_for_write(registry, &of, before, after, nodes),
                        None => nodes.extend(before.into_iter().flat_map(|gone| wake_for_deletion(registry, gone))),
                    }
                };
            Trigger::on_erased(kind.clone(), map)
        };
        kinds.iter().filter(|kind| is_collected(kind)).map(trigger).collect()
    }

    fn observe(&self, registry: &Registry, node: &Node) -> Option<Observed> {
        let entry = node.entry(registry)?;
        let held = held(&entry);
        let state = |o: &OwnerReference| (o.clone(), state_of(registry, o, &held.key.namespace));
        let owners: Vec<(OwnerReference, OwnerState)> = held.owners.iter().map(state).collect();
        let misplaced = owners.iter().filter(|(o, state)| is_misplaced(registry, o, *state, &held.key.namespace));
        let misplaced = misplaced.map(|(o, _)| o.clone()).collect();
        let is_blocked = waits_for_dependents(&held) && !orphans(&held) && is_blocked(registry, &held.uid);
        let is_knotted = is_blocked && is_waited_for(&owners) && is_knotted(registry, &held.uid);
        let dependents = if is_blocked { Vec::new() } else { dependents_of(registry, &held.uid) };
        Some(Observed { is_blocked, is_knotted, dependents, node: node.clone(), entry, owners, misplaced, held })
    }

    fn weight(&self, observed: &Observed) -> usize {
        observed.dependents.len()
    }

    fn decide(&self, observed: &Observed) -> Decision {
        decide(observed)
    }
}

/// Whether the object's text has a deletion mark; cheaper than reading it.
fn is_marked(entry: &Entry) -> bool {
    const MARK: &[u8] = b"\"deletionTimestamp\"";
    memchr::memmem::find(&entry.value, MARK).is_some()
}

/// An object whose owners changed is looked at, and one that goes; one that waits for what it owns wakes that as well.
fn wake_for_write(registry: &Registry, kind: &KindRef, before: Option<&Entry>, after: &Entry, nodes: &mut Vec<Node>) {
    let is_new = before.is_none_or(|b| b.attrs.terms != after.attrs.terms);
    if let Some(before) = before.filter(|_| is_new) {
        nodes.extend(no_longer_blocked(registry, &held(before), &after.attrs.terms));
    }
    let goes = is_marked(after);
    if !goes && (!is_new || after.attrs.terms.is_empty()) {
        return;
    }
    let Some(key) = keys::object_key(kind.info(), &after.key) else { return };
    nodes.push(Node { kind: kind.clone(), key });
    let waits = |entry: &Entry| is_marked(entry) && waits_for_dependents(&held(entry));
    if waits(after) && !before.is_some_and(waits) {
        nodes.extend(dependents_of(registry, &held(after).uid).into_iter().map(|d| d.node));
    }
}

/// The owners that waited for an object and need not any more, now that it has these terms.
fn no_longer_blocked(registry: &Registry, before: &Held, terms: &[String]) -> Vec<Node> {
    let let_go = before.owners.iter().filter(|owner| !terms.contains(&keys::blocks_term(&owner.uid)));
    let waiting = let_go.filter(|owner| state_of(registry, owner, &before.key.namespace) == OwnerState::Waits);
    let kinds = registry.kinds();
    let nodes = waiting.filter_map(|o| Some((o, Node::of_owner(&kinds, o, &before.key.namespace)?)));
    let may_go = nodes.filter(|(owner, node)| !is_blocked(registry, &owner.uid) || is_in_turn_owned(registry, node));
    may_go.map(|(_, node)| node).collect()
}

/// Whether an owner waits for the object: it may be in a circle of those that do.
fn is_in_turn_owned(registry: &Registry, node: &Node) -> bool {
    let Some(held) = node.entry(registry).map(|entry| held(&entry)) else { return false };
    let state = |o: &OwnerReference| (o.clone(), state_of(registry, o, &held.key.namespace));
    is_waited_for(&held.owners.iter().map(state).collect::<Vec<_>>())
}

/// Whether one of the owners waits for the object.
fn is_waited_for(owners: &[(OwnerReference, OwnerState)]) -> bool {
    owners.iter().any(|(o, state)| *state == OwnerState::Waits && o.block_owner_deletion == Some(true))
}

/// Whether all that blocks an object's deletion, however far, waits too, and for it: none of them would ever go.
fn is_knotted(registry: &Registry, uid: &str) -> bool {
    let (mut seen, mut open) = (Set::from([uid.to_owned()]), vec![uid.to_owned()]);
    let mut is_closed = false;
    while let Some(next) = open.pop() {
        let blocking: Vec<Dependent> = dependents_of(registry, &next).into_iter().filter(|d| d.blocks).collect();
        if blocking.is_empty() || blocking.iter().any(|d| !d.waits) || seen.len() > KNOT_MAX {
            return false;
        }
        is_closed |= blocking.iter().any(|d| d.uid == uid);
        open.extend(blocking.into_iter().map(|d| d.uid).filter(|uid| seen.insert(uid.clone())));
    }
    is_closed
}

/// Whether an owner's kind lives in namespaces and the object in none, or the owner in another namespace than the object.
/// Source: `addDependentToOwners`, pkg/controller/garbagecollector/graph_builder.go.
fn is_misplaced(registry: &Registry, owner: &OwnerReference, state: OwnerState, namespace: &str) -> bool {
    let kinds = registry.kinds();
    let (group, version) = owner.api_version.rsplit_once('/').unwrap_or(("", &owner.api_version));
    let scope = kinds.by_kind(group, version, &owner.kind).map(|kind| kind.info().scope);
    if scope != Some(Scope::Namespaced) {
        return false;
    }
    if namespace.is_empty() {
        return true;
    }
    let is_in = |name: &str| state_of(registry, owner, name) != OwnerState::Gone;
    let others = || registry.api::<Namespaces>().list("").items;
    state == OwnerState::Gone
        && others().iter().filter_map(|ns| ns.metadata.name.as_deref()).any(|name| name != namespace && is_in(name))
}

/// What is gone wakes what it owned, and the owners that waited for it as the last.
fn wake_for_deletion(registry: &Registry, gone: &Entry) -> Vec<Node> {
    let gone = held(gone);
    let owners = no_longer_blocked(registry, &gone, &[]);
    dependents_of(registry, &gone.uid).into_iter().map(|d| d.node).chain(owners).collect()
}

/// Whether something blocks the deletion of an owner. Objects that an earlier version wrote lack the term: `decide` looks at each.
fn is_blocked(registry: &Registry, uid: &str) -> bool {
    registry.store().has_term(&keys::blocks_term(uid))
}

fn orphans(held: &Held) -> bool {
    held.finalizers.iter().any(|f| f == ORPHAN_FINALIZER)
}

fn waits_for_dependents(held: &Held) -> bool {
    held.is_marked && held.finalizers.iter().any(|f| f == FOREGROUND_FINALIZER)
}

fn state_of(registry: &Registry, owner: &OwnerReference, namespace: &str) -> OwnerState {
    let Some(node) = Node::of_owner(&registry.kinds(), owner, namespace) else { return OwnerState::There };
    match node.entry(registry).map(|entry| held(&entry)).filter(|found| found.uid == owner.uid) {
        None => OwnerState::Gone,
        Some(found) if waits_for_dependents(&found) => OwnerState::Waits,
        Some(_) => OwnerState::There,
    }
}

fn dependents_of(registry: &Registry, uid: &str) -> Vec<Dependent> {
    let (kinds, entries) = (registry.kinds(), registry.store().by_term(&keys::owner_term(uid)));
    let dependent = |entry: &Arc<Entry>| {
        let held = held(entry);
        let mut references = held.owners.iter().filter(|o| o.uid == uid);
        Some(Dependent {
            node: Node::of_store_key(&kinds, &entry.key)?,
            blocks: references.any(|o| o.block_owner_deletion == Some(true)),
            waits: waits_for_dependents(&held),
            uid: held.uid,
        })
    };
    entries.iter().filter_map(dependent).collect()
}

fn decide(observed: &Observed) -> Decision {
    let has = |finalizer: &str| observed.held.finalizers.iter().any(|f| f == finalizer);
    let mut decision = Decision::default();
    if observed.held.is_marked {
        if has(ORPHAN_FINALIZER) {
            orphan_dependents(observed, &mut decision);
        } else if has(FOREGROUND_FINALIZER) && observed.is_knotted {
            decision.then(without_finalizer(observed, FOREGROUND_FINALIZER, "what blocks its deletion waits for it"));
        } else if has(FOREGROUND_FINALIZER) && !observed.is_blocked && !observed.dependents.iter().any(|d| d.blocks) {
            decision.then(without_finalizer(observed, FOREGROUND_FINALIZER, "nothing blocks its deletion any more"));
        }
        return decision;
    }
    decision.events.extend(observed.misplaced.iter().map(|owner| misplaced(observed, owner)));
    let in_state = |state| observed.owners.iter().filter(move |(_, s)| *s == state).map(|(o, _)| o);
    let is_blocked_on = in_state(OwnerState::Waits).any(|o| o.block_owner_deletion == Some(true));
    if in_state(OwnerState::There).next().is_some() {
        // Another owner keeps it; those that are gone, or wait for it, are let go of.
        let blocking = in_state(OwnerState::Waits).filter(|o| o.block_owner_deletion == Some(true));
        let released = in_state(OwnerState::Gone).chain(blocking).map(|o| release(observed, &o.uid));
        decision.steps.extend(released.map(Step::from));
    } else if is_blocked_on || in_state(OwnerState::Waits).next().is_none() && !observed.owners.is_empty() {
        decision.then(delete(observed, is_blocked_on));
    }
    decision
}

/// Source: `reportInvalidNamespaceOwnerRef`, pkg/controller/garbagecollector/graph_builder.go.
fn misplaced(observed: &Observed, owner: &OwnerReference) -> EventDraft {
    let (info, held) = (observed.node.kind.info(), &observed.held);
    let (namespace, of) = (&held.key.namespace, format!("{}/{}", owner.api_version, owner.kind));
    let about = ObjectReference {
        api_version: Some(info.api_version()),
        kind: Some(info.kind.to_owned()),
        namespace: Some(namespace.clone()).filter(|namespace| !namespace.is_empty()),
        name: Some(held.key.name.clone()),
        uid: Some(held.uid.clone()),
        ..ObjectReference::default()
    };
    let message = format!(
        "ownerRef [{of}, namespace: {namespace}, name: {}, uid: {}] does not exist in namespace {namespace:?}",
        owner.name, owner.uid
    );
    EventDraft { about, severity: Severity::Warning, reason: "OwnerRefInvalidNamespace", message }
}

/// Everything that the object owns loses that owner; when nothing is left, the finalizer goes.
fn orphan_dependents(observed: &Observed, decision: &mut Decision) {
    let release = |d: &Dependent| {
        let (kind, key, uid) = (d.node.kind.clone(), d.node.key.clone(), d.uid.clone());
        Action::Release { kind, key, uid, owner_uid: observed.held.uid.clone() }.because("its owner orphans it")
    };
    if !observed.dependents.is_empty() {
        decision.then(Step::Parallel(observed.dependents.iter().map(release).collect()));
    }
    decision.then(without_finalizer(observed, ORPHAN_FINALIZER, "everything it owned is let go of"));
}

fn release(observed: &Observed, owner_uid: &str) -> Planned {
    let (kind, key, uid) = (observed.node.kind.clone(), observed.node.key.clone(), observed.held.uid.clone());
    Action::Release { kind, key, uid, owner_uid: owner_uid.to_owned() }.because("it has another owner")
}

fn without_finalizer(observed: &Observed, finalizer: &str, why: &'static str) -> Planned {
    let kind = observed.node.kind.clone();
    let mut object = kind.decode_bytes(&observed.entry.value).expect("stored objects decode as their kind");
    let finalizers = object.meta_mut().finalizers.get_or_insert_default();
    finalizers.retain(|f| f != finalizer);
    Action::Update { kind, part: Part::Main, object }.because(why)
}

fn delete(observed: &Observed, owner_waits: bool) -> Planned {
    let has = |finalizer: &str| observed.held.finalizers.iter().any(|f| f == finalizer);
    // What already waits for this object itself would be waited for in a circle.
    let is_circle = observed.dependents.iter().any(|d| d.waits);
    let propagation = if has(ORPHAN_FINALIZER) {
        Propagation::Orphan
    } else if has(FOREGROUND_FINALIZER) || owner_waits && !observed.dependents.is_empty() && !is_circle {
        Propagation::Foreground
    } else {
        Propagation::Background
    };
    let options = DeleteOptions {
        uid: Some(observed.held.uid.clone()),
        resource_version: observed.held.resource_version.clone(),
        propagation: Some(propagation),
        ..DeleteOptions::default()
    };
    let why = if owner_waits { "its owner waits for it" } else { "its owners are gone" };
    Action::Delete { kind: observed.node.kind.clone(), key: observed.node.key.clone(), options }.because(why)
}

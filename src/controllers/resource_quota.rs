//! The status of quotas: what they limit, and what of it is used.
//!
//! What writes use up is in the status already, with the write ([`crate::registry::quota`]); this counts anew whenever something changes
//! that quotas count, and so gives back what is no longer used. A count that another write came between is not written.
//! **Source**: `pkg/controller/resourcequota/resource_quota_controller.go`, v1.37.

#[cfg(test)]
mod tests_of_writes;

use super::runtime::{Action, Controller, Decision, Trigger};
use crate::{
    api::{
        json_kind::at,
        kind::{ErasedKind as _, KindRef},
        kinds::{Kinds, resource_quota::RESOURCE_QUOTAS},
        meta::ObjectKey,
        object::{DynObject, Untyped},
        pod_resources::Amounts,
    },
    registry::{
        Registry, keys,
        pipeline::{Part, Selection, with_decoded},
        quota::{self, Quota, usage},
    },
    store::Entry,
};
use std::sync::Arc;

/// The kind, as the table has it.
const QUOTAS: KindRef = KindRef::BuiltIn(&RESOURCE_QUOTAS);

/// A quota, and what is used of what it limits.
#[derive(Clone, Debug)]
pub struct Observed {
    quota: Untyped,
    used: Amounts,
}

/// The controller.
#[derive(Clone, Copy, Debug)]
pub struct ResourceQuotaController;

impl Controller for ResourceQuotaController {
    /// A quota.
    type Key = ObjectKey;
    type Observed = Observed;

    const FOLLOWS_KINDS: bool = true;

    fn name(&self) -> &'static str {
        "resourcequota"
    }

    fn kind_triggers(&self, kinds: &Kinds) -> Vec<Trigger<ObjectKey>> {
        kinds.iter().filter(|kind| kind.info().stored_as.is_none()).filter_map(counted).collect()
    }

    fn triggers(&self) -> Vec<Trigger<ObjectKey>> {
        vec![Trigger::on_erased(QUOTAS, |_, before, after, keys| {
            keys.extend(after.or(before).and_then(|entry| keys::object_key(RESOURCE_QUOTAS.info(), &entry.key)));
        })]
    }

    fn observe(&self, registry: &Registry, key: &ObjectKey) -> Option<Observed> {
        let quota = read(&*registry.entry(&RESOURCE_QUOTAS, key)?);
        let used = Quota::of(&quota).count(registry, &key.namespace);
        Some(Observed { quota, used })
    }

    fn decide(&self, observed: &Observed) -> Decision {
        let mut told = observed.quota.clone();
        quota::tell(&mut told, &observed.used);
        let mut decision = Decision::rest();
        if status(&told) != status(&observed.quota) {
            let update = Action::Update { kind: QUOTAS, part: Part::Status, object: Box::new(told) };
            decision.then(update.because("what is used is not what the status says"));
        }
        decision
    }
}

/// A quota's status as amounts: how they are written does not matter.
fn status(quota: &Untyped) -> [Option<Amounts>; 2] {
    ["status.hard", "status.used"].map(|path| at(&quota.rest, path).map(|value| quota::amounts(Some(value))))
}

fn read(entry: &Entry) -> Untyped {
    let read = |obj: &dyn DynObject| obj.as_any().downcast_ref::<Untyped>().cloned();
    let read = with_decoded(&RESOURCE_QUOTAS, entry, true, read).ok().flatten();
    read.expect("stored objects decode as their kind")
}

/// Changes of a kind wake the quotas that count its objects.
fn counted(kind: &KindRef) -> Option<Trigger<ObjectKey>> {
    let (of, metered) = (kind.clone(), usage::metered(kind.info())?);
    Some(Trigger::on_erased(kind.clone(), move |registry: &Registry, before, after, keys| {
        let Some(entry) = after.or(before) else { return };
        let Some(key) = keys::object_key(of.info(), &entry.key) else { return };
        if !registry.has_any(&RESOURCE_QUOTAS, &key.namespace) {
            return;
        }
        let now = registry.clock().now();
        let used = |entry: &Entry| with_decoded(&*of, entry, true, |obj| metered.usage(obj, now)).ok();
        let is_same = match (before, after) {
            (Some(_), Some(_)) if !metered.depends_on_content() => true,
            (Some(before), Some(after)) => used(before) == used(after),
            _ => false,
        };
        if !is_same {
            let quotas = registry.snapshot(&RESOURCE_QUOTAS, &key.namespace, &Selection::default()).entries;
            let counts = |entry: &&Arc<Entry>| Quota::of(&read(entry)).hard.keys().any(|name| metered.tracks(name));
            keys.extend(quotas.iter().filter(counts).filter_map(|q| keys::object_key(RESOURCE_QUOTAS.info(), &q.key)));
        }
    }))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::from_yaml;

    fn decided(status: &str) -> String {
        let yaml = format!(
            "{{metadata: {{name: q, namespace: a, resourceVersion: '1'}}, spec: {{hard: {{pods: '2'}}}}, {status}}}"
        );
        let observed = Observed {
            quota: from_yaml(&yaml).unwrap(),
            used: Amounts::from([("pods".to_owned(), crate::api::quantity::Quantity::from_millis(1000))]),
        };
        ResourceQuotaController.decide(&observed).to_text()
    }

    #[test]
    fn a_status_is_written_when_it_is_another() {
        let update = "update status of ResourceQuota a/q (what is used is not what the status says)";
        assert_eq!(decided("status: {}"), update);
        assert_eq!(decided("status: {hard: {pods: '2'}, used: {pods: '1'}}"), "");
        assert_eq!(decided("status: {hard: {pods: 2k}, used: {pods: '1'}}"), update);
        assert_eq!(decided("status: {hard: {pods: '2'}, used: {pods: '2'}}"), update);
    }
}

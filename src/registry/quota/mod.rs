//! Quotas: what the objects of a namespace may use together, and what they do.
//!
//! Called by the pipeline for every write that may use more, and by the quota controller, which counts anew. What a write uses is written
//! into the quotas' status in the write's own transaction, on condition that they have not changed since: so a quota is never used up
//! twice, whoever writes at the same time. What is given back is counted by the controller.
//!
//! **Source**: `k8s.io/apiserver/pkg/admission/plugin/resourcequota/controller.go`, v1.37. There the status is written first, and a
//! write that fails afterwards leaves it too high for a while; a quota that was never counted lets everything through until it is. Here it
//! is counted on the spot.

pub mod usage;

use super::{Registry, options::Selection};
use crate::{
    api::{
        json_kind::{at, set_at},
        kind::{ErasedKind, KindInfo},
        kinds::resource_quota::RESOURCE_QUOTAS,
        object::{DynObject, Untyped},
        pod_resources::{Amounts, add},
        quantity::Quantity,
        status::ApiError,
    },
    base::ordered::CollectOrdered as _,
    registry::{admission::shown_name, pipeline::with_decoded},
    store::Entry,
};
use serde_json::{Map, Value, json};
use std::sync::Arc;
use tokio::sync::{Mutex, OwnedMutexGuard};
use usage::{Metered, Scope, metered, scopes_of};

/// Lets writes that use quotas up go one after the other: they would only come between each other.
#[derive(Debug, Default)]
pub(super) struct Turns(Arc<Mutex<()>>);

impl Turns {
    /// Waits for the turn of a write that quotas have a say in. Hold the guard until it is done.
    pub(super) async fn begin(
        &self,
        registry: &Registry,
        info: &KindInfo<'_>,
        obj: &dyn DynObject,
        is_new: bool,
    ) -> Option<OwnedMutexGuard<()>> {
        if concerned(registry, info, obj, is_new).is_some() {
            Some(Arc::clone(&self.0).lock_owned().await)
        } else {
            None
        }
    }
}

/// How the object of a write is counted, if there are quotas where it is and the write may use more.
fn concerned(registry: &Registry, info: &KindInfo<'_>, obj: &dyn DynObject, is_new: bool) -> Option<Metered> {
    let namespace = obj.meta().namespace.as_deref().filter(|_| info.is_namespaced())?;
    if !registry.has_any(&RESOURCE_QUOTAS, namespace) {
        return None;
    }
    metered(info).filter(|metered| is_new || metered.grows())
}

/// A quota that a write uses up: as it was, and as it becomes.
pub(super) struct Charged {
    pub(super) entry: Arc<Entry>,
    pub(super) quota: Untyped,
}

/// What a quota says.
#[derive(Clone, Debug)]
pub struct Quota {
    /// What may be used.
    pub hard: Amounts,
    /// Which objects count.
    pub scopes: Vec<Scope>,
    /// What is used, as far as its status knows.
    used: Amounts,
    /// Whether the status is of this spec.
    is_counted: bool,
}

impl Quota {
    /// Reads a quota.
    pub fn of(quota: &Untyped) -> Self {
        let amounts = |path| amounts(at(&quota.rest, path));
        let (hard, used) = (amounts("spec.hard"), amounts("status.used"));
        let is_counted = amounts("status.hard") == hard && hard.keys().all(|name| used.contains_key(name));
        Self { hard, scopes: scopes_of(&quota.rest), used, is_counted }
    }

    /// What is left of what is called so; `None`: it is not limited.
    fn room(&self, name: &str) -> Option<Quantity> {
        Some(self.hard.get(name)?.minus(self.used.get(name).copied().unwrap_or(Quantity::ZERO)))
    }

    /// Counts what is used in a namespace of what is limited.
    pub fn count(&self, registry: &Registry, namespace: &str) -> Amounts {
        let mut used: Amounts = self.hard.keys().map(|name| (name.clone(), Quantity::ZERO)).collect();
        for kind in registry.kinds().iter().filter(|kind| kind.info().stored_as.is_none()) {
            let Some(metered) = metered(kind.info()).filter(|m| self.hard.keys().any(|name| m.tracks(name))) else {
                continue;
            };
            for entry in registry.snapshot(&**kind, namespace, &Selection::default()).entries {
                add(&mut used, &self.usage_of(registry, &**kind, &metered, &entry));
            }
        }
        used
    }

    /// What an object uses of what is limited.
    fn usage_of(&self, registry: &Registry, kind: &dyn ErasedKind, metered: &Metered, entry: &Entry) -> Amounts {
        let of = |obj: &dyn DynObject| self.part(metered, obj, registry);
        with_decoded(kind, entry, true, of).expect("stored objects decode as their kind")
    }

    fn part(&self, metered: &Metered, obj: &dyn DynObject, registry: &Registry) -> Amounts {
        if !metered.fits(&self.scopes, obj) {
            return Amounts::new();
        }
        let mut used = metered.usage(obj, registry.clock().now());
        used.retain(|name, _| self.hard.contains_key(name));
        used
    }
}

/// Amounts as an object's JSON has them.
pub fn amounts(value: Option<&Value>) -> Amounts {
    let read = |(name, value): (&String, &Value)| Some((name.clone(), Quantity::parse(value.as_str()?).ok()?));
    value.and_then(Value::as_object).into_iter().flatten().filter_map(read).collect()
}

/// Writes into a quota's status what it limits and what of it is used.
pub fn tell(quota: &mut Untyped, used: &Amounts) {
    let hard = at(&quota.rest, "spec.hard").cloned().unwrap_or_else(|| json!({}));
    let used: Map<String, Value> =
        used.iter().map(|(name, amount)| (name.clone(), json!(amount.to_string()))).collect_ordered();
    quota.rest.insert("status".to_owned(), json!({}));
    set_at(&mut quota.rest, "status.hard", hard);
    set_at(&mut quota.rest, "status.used", used.into());
}

/// The quotas of an object's namespace that a write uses up, as they become. `old` is what the object was; `None`: it is new.
///
/// # Errors
/// `Forbidden` when the write uses more than a quota leaves, or does not say what a quota wants to know.
pub(super) fn charge(
    registry: &Registry,
    info: &KindInfo<'_>,
    old: Option<&dyn DynObject>,
    new: &dyn DynObject,
) -> Result<Vec<Charged>, ApiError> {
    let Some(metered) = concerned(registry, info, new, old.is_none()) else { return Ok(Vec::new()) };
    let namespace = new.meta().namespace.as_deref().unwrap_or_default();
    let mut limiting = Vec::new();
    for entry in registry.snapshot(&RESOURCE_QUOTAS, namespace, &Selection::default()).entries {
        let (object, quota) = read(&entry);
        let limited: Vec<&str> = quota.hard.keys().map(String::as_str).filter(|name| metered.tracks(name)).collect();
        if limited.is_empty() || !metered.fits(&quota.scopes, new) {
            continue;
        }
        if let Some(lacks) = metered.lacks(&limited, new) {
            return Err(refusal(info, new, &format!("failed quota: {}: {lacks}", name_of(&object))));
        }
        limiting.push((entry, object, quota));
    }
    let mut charged = Vec::new();
    for (entry, mut object, quota) in limiting {
        let more = more(&quota.part(&metered, new, registry), old.map(|old| quota.part(&metered, old, registry)));
        if more.is_empty() {
            continue;
        }
        let mut used = if quota.is_counted { quota.used.clone() } else { quota.count(registry, namespace) };
        if let Some(why) = exceeds(&quota.hard, &used, &more) {
            return Err(refusal(info, new, &format!("exceeded quota: {}, {why}", name_of(&object))));
        }
        add(&mut used, &more);
        tell(&mut object, &used);
        charged.push(Charged { entry, quota: object });
    }
    Ok(charged)
}

/// Whether a change of a quota lets something be made that it refused before.
pub fn leaves_more(before: Option<&Entry>, after: Option<&Entry>) -> bool {
    let Some(before) = before.map(|entry| read(entry).1) else { return false };
    let Some(after) = after.map(|entry| read(entry).1) else { return true };
    before.hard.keys().any(|name| after.room(name).is_none_or(|room| before.room(name).is_some_and(|had| room > had)))
}

/// A quota as it is stored, and read.
pub fn read(entry: &Entry) -> (Untyped, Quota) {
    let read = |obj: &dyn DynObject| {
        let quota: &Untyped = obj.as_any().downcast_ref().expect("a quota is served from its schema");
        (quota.clone(), Quota::of(quota))
    };
    with_decoded(&RESOURCE_QUOTAS, entry, true, read).expect("stored objects decode as their kind")
}

fn name_of(quota: &Untyped) -> &str {
    quota.metadata.name.as_deref().unwrap_or_default()
}

fn refusal(info: &KindInfo<'_>, obj: &dyn DynObject, why: &str) -> ApiError {
    ApiError::Forbidden { resource: info.resource(), name: shown_name(obj.meta()), why: why.to_owned() }
}

/// What is used beyond what was; what is given back is the controller's to count.
fn more(now: &Amounts, before: Option<Amounts>) -> Amounts {
    let before = before.unwrap_or_default();
    let less = |(name, amount): (&String, &Quantity)| {
        let more = before.get(name).map_or(*amount, |before| amount.minus(*before));
        (!more.is_zero() && !more.is_negative()).then(|| (name.clone(), more))
    };
    now.iter().filter_map(less).collect()
}

/// What is wanted beyond what may be used, in the words of a refusal.
fn exceeds(hard: &Amounts, used: &Amounts, more: &Amounts) -> Option<String> {
    let amount = |of: &Amounts, name: &str| of.get(name).copied().unwrap_or(Quantity::ZERO);
    let is_too_much = |name: &&String| amount(used, name).plus(more[*name]) > amount(hard, name);
    let names: Vec<&String> = more.keys().filter(is_too_much).collect();
    let list =
        |of: &Amounts| names.iter().map(|name| format!("{name}={}", amount(of, name))).collect::<Vec<_>>().join(",");
    (!names.is_empty()).then(|| format!("requested: {}, used: {}, limited: {}", list(more), list(used), list(hard)))
}

//! Whether the cluster is paused, for controllers whose work would only wait.
//!
//! The node agent stops and starts containers; most controllers go on as ever, since what they want is the same.

use super::runtime::{Moved, Trigger};
use crate::{
    api::{
        agreements::{CONTROL_PLANE_ROLE, PAUSED},
        kind::TypedKind,
        kinds::node::Nodes,
        meta::ObjectKey,
        object::Object as _,
    },
    registry::Registry,
};
use k8s_openapi::api::core::v1::Node;

/// Whether this is the first node, and says that the cluster is paused.
fn says_paused(node: &Node) -> bool {
    let has = |map: &Option<std::collections::BTreeMap<String, String>>, key| {
        map.as_ref().is_some_and(|all| all.contains_key(key))
    };
    has(&node.metadata.annotations, PAUSED) && has(&node.metadata.labels, CONTROL_PLANE_ROLE)
}

/// Whether the cluster is paused.
pub(super) fn is_paused(registry: &Registry) -> bool {
    registry.api::<Nodes>().list("").items.iter().any(|node| says_paused(node))
}

/// A pause that begins or ends wakes every object of the kind.
pub(super) fn on_pause<K: TypedKind>() -> Trigger<ObjectKey> {
    Trigger::on::<Nodes>(|registry, moved: &Moved<Node>, keys| {
        let before = moved.before.as_deref().is_some_and(says_paused);
        if before != moved.after.as_deref().is_some_and(says_paused) {
            keys.extend(registry.api::<K>().list("").items.iter().map(|object| ObjectKey::of(object.meta())));
        }
    })
}

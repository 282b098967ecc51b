//! `Binding`, v1, as it is posted beside pods: schedulers of long ago name the pod in it. Nothing of it is stored.
//!
//! **Not here**: the sub-resource of a pod (`pod`), and what a binding does (`server/verbs/binding`).
//! **Source**: `pkg/registry/core/pod/storage/storage.go`, v1.37.

use crate::api::{
    json_kind::{JsonKind, Rules},
    kind::{KindInfo, Scope},
};

/// The kind `Binding`.
pub static BINDINGS: JsonKind = JsonKind::new(
    KindInfo {
        verbs: &["create"],
        ..KindInfo::of(("", "v1", "Binding"), ("bindings", "binding"), Scope::Namespaced, "io.k8s.api.core.v1.Binding")
    },
    Rules::PLAIN,
);

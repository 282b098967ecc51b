//! Claims and Ingresses that name no class get the one that is marked as the default; of several the newest.
//!
//! **Source**: `plugin/pkg/admission/storage/storageclass/setdefault/admission.go`, `GetDefaultClass` of
//! `pkg/volume/util/storageclass.go`, `plugin/pkg/admission/network/defaultingressclass/admission.go`, v1.37.

use super::untyped;
use crate::{
    api::{
        json_kind::{JsonKind, at, set_at},
        kind::{ErasedKind as _, KindInfo},
        kinds::{
            ingress::{self, INGRESSES},
            ingress_class::{self, INGRESS_CLASSES},
            persistent_volume_claim::{self, PERSISTENT_VOLUME_CLAIMS},
            storage_class::{self, STORAGE_CLASSES},
        },
        object::{DynObject, Untyped},
    },
    registry::{Registry, options::Selection},
};
use serde_json::{Value, json};
use std::cmp::Reverse;

/// A kind whose objects get a class.
struct Rule {
    kind: &'static JsonKind,
    classes: &'static JsonKind,
    /// The field that names the class.
    field: &'static str,
    /// The annotation that did so before there was the field.
    annotation: &'static str,
    is_default: fn(&Untyped) -> bool,
}

static RULES: [Rule; 2] = [
    Rule {
        kind: &PERSISTENT_VOLUME_CLAIMS,
        classes: &STORAGE_CLASSES,
        field: "spec.storageClassName",
        annotation: persistent_volume_claim::CLASS_ANNOTATION,
        is_default: storage_class::is_default,
    },
    Rule {
        kind: &INGRESSES,
        classes: &INGRESS_CLASSES,
        field: "spec.ingressClassName",
        annotation: ingress::CLASS_ANNOTATION,
        is_default: ingress_class::is_default,
    },
];

/// Gives an object that names no class the default one.
pub(super) fn give(registry: &Registry, info: &KindInfo<'_>, obj: &mut dyn DynObject) {
    let is_for = |rule: &&Rule| rule.kind.info().resource() == info.resource();
    let Some(rule) = RULES.iter().find(is_for) else { return };
    let Some(obj) = obj.as_any_mut().downcast_mut::<Untyped>() else { return };
    let is_named = !matches!(at(&obj.rest, rule.field), None | Some(Value::Null));
    let is_annotated = obj.metadata.annotations.as_ref().is_some_and(|all| all.contains_key(rule.annotation));
    if !is_named
        && !is_annotated
        && let Some(class) = rule.default_class(registry)
    {
        set_at(&mut obj.rest, rule.field, json!(class));
    }
}

impl Rule {
    /// The name of the default class, if there is one.
    fn default_class(&self, registry: &Registry) -> Option<String> {
        let entries = registry.snapshot(self.classes, "", &Selection::default()).entries;
        let age_and_name = |obj: &Untyped| {
            let meta = &obj.metadata;
            let made = meta.creation_timestamp.as_ref().map(|time| time.0);
            (self.is_default)(obj).then(|| (Reverse(made), meta.name.clone().unwrap_or_default()))
        };
        entries.iter().filter_map(|entry| untyped(self.classes, entry, age_and_name)?).min().map(|(_, name)| name)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{registry::pipeline::WriteOptions, testing};

    async fn made(registry: &Registry, kind: &JsonKind, namespace: &str, json: Value) -> Value {
        let obj = kind.decode(json).unwrap();
        let entry = registry.create(kind, namespace, obj, &WriteOptions::default()).await.unwrap();
        serde_json::from_slice(&entry.value).unwrap()
    }

    async fn class(registry: &Registry, rule: &Rule, name: &str, is_default: bool) {
        let annotations = json!({
            "storageclass.kubernetes.io/is-default-class": is_default.to_string(),
            "ingressclass.kubernetes.io/is-default-class": is_default.to_string(),
        });
        let metadata = json!({ "name": name, "annotations": annotations });
        let class = json!({ "metadata": metadata, "provisioner": "a/b", "spec": { "controller": "a.b/c" } });
        made(registry, rule.classes, "", class).await;
    }

    /// What a new object's class is; with a class of its own, and with the old annotation.
    async fn given(registry: &Registry, rule: &Rule, own: Value, annotation: Option<&str>) -> Value {
        let annotations = annotation.map(|class| json!({ rule.annotation: class }));
        let (_, field) = rule.field.split_once('.').unwrap();
        let spec = json!({
            "accessModes": ["ReadWriteOnce"], "resources": { "requests": { "storage": "1Gi" } },
            "defaultBackend": { "service": { "name": "web", "port": { "number": 80 } } }, field: own,
        });
        let name = registry.rng().uid();
        let obj = json!({ "metadata": { "name": name, "annotations": annotations }, "spec": spec });
        made(registry, rule.kind, "default", obj).await["spec"][field].clone()
    }

    #[tokio::test]
    async fn what_names_no_class_gets_the_default() {
        for rule in &RULES {
            let registry = testing::registry().await;
            class(&registry, rule, "plain", false).await;
            assert_eq!(given(&registry, rule, Value::Null, None).await, Value::Null);
            class(&registry, rule, "b", true).await;
            assert_eq!(given(&registry, rule, Value::Null, None).await, "b");
            assert_eq!(given(&registry, rule, json!("plain"), None).await, "plain");
            assert_eq!(given(&registry, rule, Value::Null, Some("plain")).await, Value::Null);
        }
        let registry = testing::registry().await;
        class(&registry, &RULES[0], "b", true).await;
        assert_eq!(given(&registry, &RULES[0], json!(""), None).await, "", "no class is a choice too");
    }

    #[tokio::test(start_paused = true)]
    async fn of_several_defaults_the_newest_counts_and_of_equals_the_first_by_name() {
        let registry = testing::registry().await;
        for rule in &RULES {
            class(&registry, rule, "b", true).await;
            class(&registry, rule, "a", true).await;
            assert_eq!(given(&registry, rule, Value::Null, None).await, "a");
            tokio::time::advance(std::time::Duration::from_secs(2)).await;
            class(&registry, rule, "z", true).await;
            assert_eq!(given(&registry, rule, Value::Null, None).await, "z");
        }
    }
}

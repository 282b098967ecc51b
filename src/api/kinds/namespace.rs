//! `Namespace`, core/v1.
//!
//! A namespace goes in two steps: deleting marks it `Terminating`; once its content is gone, the namespace controller takes the
//! finalizer `kubernetes` off `spec.finalizers`, and the object goes. (In Kubernetes only the sub-resource `finalize` may do that; here
//! every write may, once the namespace is marked, because the sub-resource is a plain write.)
//!
//! **Source**: `pkg/apis/core/{v1/defaults,validation/validation}.go`, `pkg/registry/core/namespace/strategy.go`, v1.37.

use super::check::{self, Errors};
use crate::{
    api::{
        field::FieldError,
        kind::{Kind, KindInfo, STATUS, Scope, Subresource},
        names,
        selector::Fields,
        table::{self, Column},
    },
    base::ordered::Set,
};
use jiff::Timestamp;
use k8s_openapi::api::core::v1::{Namespace, NamespaceStatus};
use serde_json::{Value, json};

/// The finalizer that keeps a namespace until its content is gone.
pub const KUBERNETES_FINALIZER: &str = "kubernetes";
/// The label by which selectors pick a namespace by name.
pub const NAME_LABEL: &str = "kubernetes.io/metadata.name";

/// The kind `Namespace`.
#[derive(Debug)]
pub struct Namespaces;

/// The `finalize` sub-resource: how a client takes the namespace's finalizer off.
const FINALIZE: Subresource<'static> = Subresource::own("finalize", &["update"]);

impl Kind for Namespaces {
    type Object = Namespace;
    const INFO: KindInfo<'static> = KindInfo {
        group: "",
        version: "v1",
        kind: "Namespace",
        plural: "namespaces",
        singular: "namespace",
        short_names: &["ns"],
        categories: &[],
        scope: Scope::Cluster,
        verbs: &["create", "delete", "get", "list", "patch", "update", "watch"],
        subresources: &[FINALIZE, STATUS],
        columns: &[Column::name(), Column::text("Status", "Whether it is active or going away."), Column::age()],
        stored_as: None,
        schema: "io.k8s.api.core.v1.Namespace",
    };

    fn set_defaults(obj: &mut Namespace) {
        if let Some(name) = obj.metadata.name.clone().filter(|n| !n.is_empty()) {
            obj.metadata.labels.get_or_insert_default().insert(NAME_LABEL.to_owned(), name);
        }
        let status = obj.status.get_or_insert_default();
        status.phase.get_or_insert_with(|| "Active".to_owned());
    }

    fn prepare_create(obj: &mut Namespace) {
        obj.status = Some(NamespaceStatus { phase: Some("Active".to_owned()), ..NamespaceStatus::default() });
        let finalizers = obj.spec.get_or_insert_default().finalizers.get_or_insert_default();
        if !finalizers.iter().any(|f| f == KUBERNETES_FINALIZER) {
            finalizers.push(KUBERNETES_FINALIZER.to_owned());
        }
    }

    fn validate(obj: &Namespace) -> Errors {
        let mut errs = Errors::new();
        for finalizer in finalizers(obj) {
            check::qualified_name(&mut errs, "spec.finalizers", finalizer);
            if !finalizer.contains('/') && finalizer != KUBERNETES_FINALIZER {
                let why = "name is neither a standard finalizer name nor is it fully qualified";
                errs.push(FieldError::invalid("spec.finalizers", finalizer, why));
            }
        }
        errs
    }

    fn prepare_update(new: &mut Namespace, old: &Namespace) {
        keep_spec(new, old);
        new.status.clone_from(&old.status);
    }

    fn prepare_status(new: &mut Namespace, old: &Namespace) {
        keep_spec(new, old);
    }

    fn validate_status(new: &Namespace, _old: &Namespace) -> Errors {
        let (wanted, why) = if new.metadata.deletion_timestamp.is_some() {
            ("Terminating", "may only be 'Terminating' if `deletionTimestamp` is not empty")
        } else {
            ("Active", "may only be 'Active' if `deletionTimestamp` is empty")
        };
        let given = phase(new);
        if given == wanted { Errors::new() } else { vec![FieldError::invalid("status.Phase", given, why)] }
    }

    fn has_generation() -> bool {
        false
    }

    fn blocks_removal(obj: &Namespace) -> bool {
        !finalizers(obj).is_empty()
    }

    fn on_marked(obj: &mut Namespace) {
        obj.status.get_or_insert_default().phase = Some("Terminating".to_owned());
    }

    fn validate_name(name: &str) -> Vec<String> {
        names::dns1123_label(name)
    }

    fn field_labels() -> &'static [(&'static str, &'static str)] {
        &[("name", "name"), ("status.phase", "status.phase")]
    }

    fn selectable_fields(obj: &Namespace) -> Fields<'static> {
        let name = obj.metadata.name.clone().unwrap_or_default();
        Fields::from([("name", name), ("status.phase", phase(obj).to_owned())])
    }

    fn row(obj: &Namespace, now: Timestamp) -> Vec<Value> {
        vec![table::name(&obj.metadata), json!(phase(obj)), table::age(&obj.metadata, now)]
    }
}

/// The spec stays, but a namespace that is going away may lose finalizers.
fn keep_spec(new: &mut Namespace, old: &Namespace) {
    let wanted: Set<String> = finalizers(new).iter().cloned().collect();
    new.spec.clone_from(&old.spec);
    if old.metadata.deletion_timestamp.is_some() {
        let kept = finalizers(old).iter().filter(|f| wanted.contains(*f)).cloned().collect();
        new.spec.get_or_insert_default().finalizers = Some(kept);
    }
}

fn finalizers(obj: &Namespace) -> &[String] {
    obj.spec.as_ref().and_then(|s| s.finalizers.as_deref()).unwrap_or_default()
}

fn phase(obj: &Namespace) -> &str {
    obj.status.as_ref().and_then(|s| s.phase.as_deref()).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::api::kinds::testing::{causes, created, created_yaml, row};
    use expect_test::expect;

    #[test]
    fn a_namespace_gets_its_label_and_finalizer() {
        expect![[r#"
            apiVersion: v1
            kind: Namespace
            metadata:
              labels:
                kubernetes.io/metadata.name: team
              name: team
            spec:
              finalizers:
              - a.b/c
              - kubernetes
            status:
              phase: Active
        "#]]
        .assert_eq(&created_yaml::<Namespaces>("metadata: {name: team}\nspec: {finalizers: [a.b/c]}"));
    }

    #[test]
    fn what_is_wrong_is_named() {
        expect![[r#"
            spec.finalizers: Invalid value: "other": name is neither a standard finalizer name nor is it fully qualified
        "#]]
        .assert_eq(&causes::<Namespaces>("metadata: {name: team}\nspec: {finalizers: [other]}"));
        assert_eq!(Namespaces::validate_name("a.b"), ["must not contain dots"]);
    }

    #[test]
    fn finalizers_stay_until_the_namespace_is_marked() {
        let mut old = created::<Namespaces>("metadata: {name: team}");
        let mut new = old.clone();
        new.spec = None;
        Namespaces::prepare_update(&mut new, &old);
        assert!(Namespaces::blocks_removal(&new));
        old.metadata.deletion_timestamp =
            Some(k8s_openapi::apimachinery::pkg::apis::meta::v1::Time(Timestamp::UNIX_EPOCH));
        Namespaces::on_marked(&mut old);
        let mut new = old.clone();
        new.spec = None;
        Namespaces::prepare_update(&mut new, &old);
        assert!(!Namespaces::blocks_removal(&new));
        assert_eq!(Namespaces::validate_status(&old, &old), []);
        new.status = None;
        assert_eq!(Namespaces::validate_status(&new, &old).len(), 1);
    }

    #[test]
    fn a_row_reads_as_in_kubernetes() {
        let team = "metadata: {name: team, creationTimestamp: '2026-02-28T12:00:00Z'}\nstatus: {phase: Active}";
        expect!["team | Active | 24h"].assert_eq(&row::<Namespaces>(team));
    }
}

//! `StorageClass`, storage.k8s.io/v1.
//!
//! **Source**: `pkg/apis/storage/validation/validation.go`, `pkg/apis/storage/v1/defaults.go`, v1.37.

use super::json::{self, Errors};
use crate::api::{
    agreements::DOCKER_VOLUMES,
    field::FieldError,
    json_kind::{JsonKind, Rules, default_at, text_at},
    kind::{KindInfo, Scope},
    names,
    object::Untyped,
    table::{self, Column},
};
use jiff::Timestamp;
use serde_json::{Value, json};

/// The annotation of the class that claims without one get.
pub const DEFAULT_ANNOTATION: &str = "storageclass.kubernetes.io/is-default-class";
/// Its name before storage classes left beta, which counts too.
const BETA_ANNOTATION: &str = "storageclass.beta.kubernetes.io/is-default-class";

/// The kind `StorageClass`.
pub static STORAGE_CLASSES: JsonKind = JsonKind::new(
    KindInfo {
        short_names: &["sc"],
        columns: &[
            Column::name(),
            Column::text("Provisioner", "What makes its volumes."),
            Column::text("ReclaimPolicy", "What becomes of a volume that its claim has left."),
            Column::text("VolumeBindingMode", "When a claim gets its volume."),
            Column::text("AllowVolumeExpansion", "Whether claims may grow."),
            Column::age(),
        ],
        ..KindInfo::of(
            ("storage.k8s.io", "v1", "StorageClass"),
            ("storageclasses", "storageclass"),
            Scope::Cluster,
            "io.k8s.api.storage.v1.StorageClass",
        )
    },
    Rules { set_defaults, validate, validate_update, warnings, row, ..Rules::PLAIN },
);

fn warnings(obj: &Untyped) -> Vec<String> {
    let provisioner = text_at(&obj.rest, "provisioner");
    if [DOCKER_VOLUMES, "kubernetes.io/no-provisioner", ""].contains(&&*provisioner) {
        return Vec::new();
    }
    let why = "claims of this class stay Pending unless a provisioner of that name runs in the cluster";
    vec![format!("provisioner: skiff itself makes volumes for {DOCKER_VOLUMES:?} alone: {why}")]
}

fn set_defaults(obj: &mut Untyped) {
    default_at(&mut obj.rest, "reclaimPolicy", "Delete");
    default_at(&mut obj.rest, "volumeBindingMode", "Immediate");
}

fn validate(obj: &Untyped) -> Errors {
    let mut errs = Errors::new();
    let provisioner = text_at(&obj.rest, "provisioner");
    if provisioner.is_empty() {
        errs.push(FieldError::required("provisioner", ""));
    } else {
        let wrong = names::qualified_name(&provisioner.to_lowercase());
        errs.extend(wrong.into_iter().map(|why| FieldError::invalid("provisioner", &provisioner, why)));
    }
    json::one_of(&mut errs, &obj.rest, "reclaimPolicy", &["Delete", "Retain"]);
    json::one_of(&mut errs, &obj.rest, "volumeBindingMode", &["Immediate", "WaitForFirstConsumer"]);
    errs
}

fn validate_update(new: &Untyped, old: &Untyped) -> Errors {
    let immutable = |(field, why): (&str, &str)| json::immutable(&new.rest, &old.rest, field, why);
    let forbidden = "updates to this field are forbidden.";
    [
        ("parameters", forbidden),
        ("provisioner", forbidden),
        ("reclaimPolicy", forbidden),
        ("volumeBindingMode", "field is immutable"),
    ]
    .into_iter()
    .flat_map(immutable)
    .map(|err| if err.body().contains(forbidden) { FieldError::forbidden(err.path, forbidden) } else { err })
    .collect()
}

/// Whether claims without a class get this one.
pub fn is_default(obj: &Untyped) -> bool {
    let annotation = |name| obj.metadata.annotations.as_ref()?.get(name);
    [DEFAULT_ANNOTATION, BETA_ANNOTATION].into_iter().filter_map(annotation).any(|value| value == "true")
}

fn row(obj: &Untyped, now: Timestamp) -> Vec<Value> {
    let name = obj.metadata.name.as_deref().unwrap_or_default();
    vec![
        json!(if is_default(obj) { format!("{name} (default)") } else { name.to_owned() }),
        json!(text_at(&obj.rest, "provisioner")),
        json!(text_at(&obj.rest, "reclaimPolicy")),
        json!(text_at(&obj.rest, "volumeBindingMode")),
        json!(json::is_true(&obj.rest, "allowVolumeExpansion").to_string()),
        table::age(&obj.metadata, now),
    ]
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::api::kinds::testing::json::{causes, row, update_causes};
    use expect_test::expect;

    #[test]
    fn what_is_wrong_is_named() {
        expect![[r#"
            provisioner: Required value
            reclaimPolicy: Unsupported value: "Recycle": supported values: "Delete", "Retain"
            volumeBindingMode: Unsupported value: "Now": supported values: "Immediate", "WaitForFirstConsumer"
        "#]]
        .assert_eq(&causes(&STORAGE_CLASSES, "reclaimPolicy: Recycle\nvolumeBindingMode: Now"));
        assert_eq!(causes(&STORAGE_CLASSES, "provisioner: skiff.dev/docker-volume"), "");
        expect![[r#"
            provisioner: Forbidden: updates to this field are forbidden.
            volumeBindingMode: Invalid value: "WaitForFirstConsumer": field is immutable
        "#]]
        .assert_eq(&update_causes(
            &STORAGE_CLASSES,
            "provisioner: a/b",
            "provisioner: a/c\nvolumeBindingMode: WaitForFirstConsumer",
        ));
    }

    #[test]
    fn a_row_reads_as_in_kubernetes() {
        let class = "metadata: {name: s, annotations: {storageclass.kubernetes.io/is-default-class: 'true'}}\nprovisioner: a/b\nreclaimPolicy: Delete\nvolumeBindingMode: Immediate";
        assert_eq!(row(&STORAGE_CLASSES, class), "s (default) | a/b | Delete | Immediate | false | <unknown>");
    }
}

//! `PersistentVolumeClaim`, core/v1.
//!
//! **Source**: `pkg/apis/core/validation/validation.go` (`ValidatePersistentVolumeClaim`), `pkg/apis/core/v1/defaults.go`,
//! `pkg/registry/core/persistentvolumeclaim/strategy.go`, v1.37.

use super::json::{self, Errors};
use crate::api::{
    field::FieldError,
    json_kind::{JsonKind, Rules, at, default_at, set_at, text_at},
    kind::{KindInfo, STATUS, Scope},
    object::Untyped,
    quantity::Quantity,
    table::{self, Column},
};
use jiff::Timestamp;
use serde_json::{Map, Value, json};

/// How a volume may be mounted.
pub(super) const ACCESS_MODES: &[&str] = &["ReadOnlyMany", "ReadWriteMany", "ReadWriteOnce", "ReadWriteOncePod"];
/// The finalizer of a claim that a pod may use. Source: `plugin/pkg/admission/storage/storageobjectinuseprotection`, v1.37.
pub const PROTECTION: &str = "kubernetes.io/pvc-protection";
/// The annotation that named the class before there was a field for it.
pub const CLASS_ANNOTATION: &str = "volume.beta.kubernetes.io/storage-class";

/// The kind `PersistentVolumeClaim`.
pub static PERSISTENT_VOLUME_CLAIMS: JsonKind = JsonKind::new(
    KindInfo {
        short_names: &["pvc"],
        subresources: &[STATUS],
        columns: &[
            Column::name(),
            Column::text("Status", "Whether it is bound."),
            Column::text("Volume", "The volume that it is bound to."),
            Column::text("Capacity", "How much the volume holds."),
            Column::text("Access Modes", "How the volume may be mounted."),
            Column::text("StorageClass", "Its class."),
            Column::text("VolumeAttributesClass", "The class of its attributes."),
            Column::age(),
            Column::text("VolumeMode", "Whether it is a file system or a block device.").wide(),
        ],
        ..KindInfo::of(
            ("", "v1", "PersistentVolumeClaim"),
            ("persistentvolumeclaims", "persistentvolumeclaim"),
            Scope::Namespaced,
            "io.k8s.api.core.v1.PersistentVolumeClaim",
        )
    },
    Rules {
        set_defaults: |obj| default_at(&mut obj.rest, "spec.volumeMode", "Filesystem"),
        prepare_create,
        validate,
        validate_update,
        row,
        ..Rules::PLAIN
    },
);

fn prepare_create(obj: &mut Untyped) {
    set_at(&mut obj.rest, "status.phase", json!("Pending"));
    json::add_finalizer(&mut obj.metadata, PROTECTION);
}

fn validate(obj: &Untyped) -> Errors {
    let mut errs = Errors::new();
    let fields = &obj.rest;
    if json::items(fields, "spec.accessModes").is_empty() {
        errs.push(FieldError::required("spec.accessModes", "at least 1 access mode is required"));
    }
    json::all_of(&mut errs, fields, "spec.accessModes", ACCESS_MODES);
    if !json::has(fields, "spec.resources.requests.storage") {
        errs.push(FieldError::required("spec.resources[storage]", ""));
    }
    json::one_of(&mut errs, fields, "spec.volumeMode", &["Block", "Filesystem"]);
    json::label_selector(&mut errs, fields, "spec.selector");
    let class = text_at(fields, "spec.storageClassName");
    if !class.is_empty() {
        json::subdomain(&mut errs, "spec.storageClassName", &class);
    }
    errs
}

fn validate_update(new: &Untyped, old: &Untyped) -> Errors {
    let fixed = |obj: &Untyped| {
        let mut spec = at(&obj.rest, "spec").and_then(Value::as_object).cloned().unwrap_or_default();
        for field in ["resources", "volumeAttributesClassName"] {
            spec.remove(field);
        }
        // The volume is set once, by the binder; a class may be given later.
        for field in ["volumeName", "storageClassName"] {
            if text_at(&old.rest, &format!("spec.{field}")).is_empty() {
                spec.remove(field);
            }
        }
        spec
    };
    if fixed(new) == fixed(old) {
        return shrinks(new, old);
    }
    let why =
        "spec is immutable after creation except resources.requests and volumeAttributesClassName for bound claims";
    vec![FieldError::forbidden("spec", why)]
}

/// A claim asks for no less than it has. Source: `ValidatePersistentVolumeClaimUpdate`.
fn shrinks(new: &Untyped, old: &Untyped) -> Errors {
    const PATH: &str = "spec.resources.requests.storage";
    let size = |obj: &Untyped, path| Quantity::parse(&text_at(&obj.rest, path)).ok();
    let (wanted, had) = (size(new, PATH), size(old, "status.capacity.storage"));
    let before = size(old, PATH);
    match (wanted, had) {
        (Some(wanted), Some(had)) if wanted < had && before > Some(wanted) => {
            vec![FieldError::forbidden(PATH, "field can not be less than status.capacity")]
        }
        _ => Errors::new(),
    }
}

/// The class of a claim or a volume.
pub fn class_of(obj: &Untyped) -> String {
    let annotated = obj.metadata.annotations.as_ref().and_then(|a| a.get(CLASS_ANNOTATION).cloned());
    annotated.unwrap_or_else(|| text_at(&obj.rest, "spec.storageClassName"))
}

/// The access modes at a path in their short form: `RWO,ROX`.
pub(super) fn access_modes(fields: &Map<String, Value>, path: &str) -> String {
    let short =
        [("ReadWriteOnce", "RWO"), ("ReadOnlyMany", "ROX"), ("ReadWriteMany", "RWX"), ("ReadWriteOncePod", "RWOP")];
    let has = |mode: &str| json::texts(fields, path).any(|m| m == mode);
    short.into_iter().filter(|(mode, _)| has(mode)).map(|(_, short)| short).collect::<Vec<_>>().join(",")
}

fn row(obj: &Untyped, now: Timestamp) -> Vec<Value> {
    let fields = &obj.rest;
    let text = |path| text_at(fields, path);
    let is_bound = !text("spec.volumeName").is_empty();
    let phase = if obj.metadata.deletion_timestamp.is_some() { "Terminating".to_owned() } else { text("status.phase") };
    vec![
        table::name(&obj.metadata),
        json!(phase),
        json!(text("spec.volumeName")),
        json!(if is_bound { text("status.capacity.storage") } else { String::new() }),
        json!(if is_bound { access_modes(fields, "status.accessModes") } else { String::new() }),
        json!(class_of(obj)),
        table::or(&text("spec.volumeAttributesClassName"), "<unset>"),
        table::age(&obj.metadata, now),
        table::or(&text("spec.volumeMode"), "<unset>"),
    ]
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::api::kinds::testing::json::{causes, row, update_causes};
    use expect_test::expect;

    const CLAIM: &str =
        "metadata: {name: c}\nspec: {accessModes: [ReadWriteOnce], resources: {requests: {storage: 1Gi}}}";

    #[test]
    fn what_is_wrong_is_named() {
        assert_eq!(causes(&PERSISTENT_VOLUME_CLAIMS, CLAIM), "");
        expect![[r#"
            spec.accessModes: Required value: at least 1 access mode is required
            spec.resources[storage]: Required value
            spec.volumeMode: Unsupported value: "Tape": supported values: "Block", "Filesystem"
            spec.storageClassName: Invalid value: "A_b": a lowercase RFC 1123 subdomain must consist of lower case alphanumeric characters, '-' or '.', and must start and end with an alphanumeric character (e.g. 'example.com', regex used for validation is '[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*')
        "#]]
            .assert_eq(&causes(&PERSISTENT_VOLUME_CLAIMS, "spec: {volumeMode: Tape, storageClassName: A_b}"));
        assert_eq!(update_causes(&PERSISTENT_VOLUME_CLAIMS, CLAIM, &CLAIM.replace("1Gi", "2Gi")), "");
        expect![[r#"
            spec: Forbidden: spec is immutable after creation except resources.requests and volumeAttributesClassName for bound claims
        "#]].assert_eq(&update_causes(&PERSISTENT_VOLUME_CLAIMS, CLAIM, &CLAIM.replace("Once", "Many")));
    }

    #[test]
    fn a_row_reads_as_in_kubernetes() {
        let bound = "metadata: {name: c}\nspec: {volumeName: v, volumeMode: Filesystem}\nstatus: {phase: Bound, capacity: {storage: 1Gi}, accessModes: [ReadWriteOnce, ReadOnlyMany]}";
        assert_eq!(
            row(&PERSISTENT_VOLUME_CLAIMS, bound),
            "c | Bound | v | 1Gi | RWO,ROX |  | <unset> | <unknown> | Filesystem"
        );
    }
}

//! `PersistentVolume`, core/v1.
//!
//! **Source**: `pkg/apis/core/validation/validation.go` (`ValidatePersistentVolume`), `pkg/apis/core/v1/defaults.go`, v1.37.

use super::{
    json::{self, Errors},
    persistent_volume_claim::{ACCESS_MODES, access_modes, class_of},
};
use crate::api::{
    agreements::DOCKER_VOLUMES,
    field::FieldError,
    json_kind::{JsonKind, Rules, at, default_at, set_at, text_at},
    kind::{KindInfo, STATUS, Scope},
    object::Untyped,
    table::{self, Column},
};
use jiff::Timestamp;
use serde_json::{Value, json};

/// The finalizer of a volume that a claim may have.
pub const PROTECTION: &str = "kubernetes.io/pv-protection";
/// What every volume has beside its source.
const PLAIN_FIELDS: &[&str] = &[
    "accessModes",
    "capacity",
    "claimRef",
    "mountOptions",
    "nodeAffinity",
    "persistentVolumeReclaimPolicy",
    "storageClassName",
    "volumeAttributesClassName",
    "volumeMode",
];

/// The kind `PersistentVolume`.
pub static PERSISTENT_VOLUMES: JsonKind = JsonKind::new(
    KindInfo {
        short_names: &["pv"],
        subresources: &[STATUS],
        columns: &[
            Column::name(),
            Column::text("Capacity", "How much it holds."),
            Column::text("Access Modes", "How it may be mounted."),
            Column::text("Reclaim Policy", "What becomes of it when its claim has left it."),
            Column::text("Status", "Whether it is bound."),
            Column::text("Claim", "The claim that it is bound to."),
            Column::text("StorageClass", "Its class."),
            Column::text("VolumeAttributesClass", "The class of its attributes."),
            Column::text("Reason", "Why it is in its status."),
            Column::age(),
            Column::text("VolumeMode", "Whether it is a file system or a block device.").wide(),
        ],
        ..KindInfo::of(
            ("", "v1", "PersistentVolume"),
            ("persistentvolumes", "persistentvolume"),
            Scope::Cluster,
            "io.k8s.api.core.v1.PersistentVolume",
        )
    },
    Rules { set_defaults, prepare_create, validate, validate_update, warnings, row, ..Rules::PLAIN },
);

/// What can be mounted: Docker volumes of skiff's own, and paths of the machine.
const MOUNTED: &[&str] = &["csi", "hostPath", "local"];

fn prepare_create(obj: &mut Untyped) {
    set_at(&mut obj.rest, "status.phase", json!("Pending"));
    json::add_finalizer(&mut obj.metadata, PROTECTION);
}

fn warnings(obj: &Untyped) -> Vec<String> {
    let driver = text_at(&obj.rest, "spec.csi.driver");
    let is_block = text_at(&obj.rest, "spec.volumeMode") == "Block";
    let mut all = Vec::new();
    all.extend(sources(obj).filter(|source| !MOUNTED.contains(source)).map(|source| {
        format!(
            "spec.{source}: skiff mounts no such volume: a pod that uses this one waits; hostPath and local are mounted"
        )
    }));
    if !driver.is_empty() && driver != DOCKER_VOLUMES {
        all.push(format!(
            "spec.csi.driver: skiff runs no CSI drivers: a pod that uses this volume waits for {driver:?} in vain"
        ));
    }
    if is_block {
        all.push("spec.volumeMode: skiff has no block devices: a pod that uses this volume waits".to_owned());
    }
    all
}

/// The fields of a volume's source.
fn sources(obj: &Untyped) -> impl Iterator<Item = &str> {
    let spec = at(&obj.rest, "spec").and_then(Value::as_object);
    spec.into_iter().flat_map(|s| s.keys()).map(String::as_str).filter(|field| !PLAIN_FIELDS.contains(field))
}

fn set_defaults(obj: &mut Untyped) {
    default_at(&mut obj.rest, "spec.persistentVolumeReclaimPolicy", "Retain");
    default_at(&mut obj.rest, "spec.volumeMode", "Filesystem");
    if json::has(&obj.rest, "spec.hostPath") {
        default_at(&mut obj.rest, "spec.hostPath.type", "");
    }
}

fn validate(obj: &Untyped) -> Errors {
    let mut errs = Errors::new();
    let fields = &obj.rest;
    json::required(&mut errs, fields, "spec.accessModes");
    json::all_of(&mut errs, fields, "spec.accessModes", ACCESS_MODES);
    json::required(&mut errs, fields, "spec.capacity");
    if json::has(fields, "spec.capacity") && !json::has(fields, "spec.capacity.storage") {
        errs.push(FieldError::not_supported("spec.capacity", at(fields, "spec.capacity"), &["storage"]));
    }
    json::one_of(&mut errs, fields, "spec.persistentVolumeReclaimPolicy", &["Delete", "Recycle", "Retain"]);
    json::one_of(&mut errs, fields, "spec.volumeMode", &["Block", "Filesystem"]);
    match sources(obj).collect::<Vec<_>>().as_slice() {
        [] => errs.push(FieldError::required("spec", "must specify a volume type")),
        [_one] => {}
        [_, more @ ..] => errs
            .extend(more.iter().map(|field| {
                FieldError::forbidden(format!("spec.{field}"), "may not specify more than 1 volume type")
            })),
    }
    errs
}

fn validate_update(new: &Untyped, old: &Untyped) -> Errors {
    let source = |obj: &Untyped| {
        let spec = at(&obj.rest, "spec").and_then(Value::as_object).cloned().unwrap_or_default();
        spec.into_iter().filter(|(field, _)| !PLAIN_FIELDS.contains(&field.as_str())).collect::<Vec<_>>()
    };
    let mut errs = Errors::new();
    if source(new) != source(old) {
        errs.push(FieldError::forbidden(
            "spec.persistentvolumesource",
            "spec.persistentvolumesource is immutable after creation",
        ));
    }
    errs.extend(json::immutable(&new.rest, &old.rest, "spec.volumeMode", "field is immutable"));
    errs
}

fn row(obj: &Untyped, now: Timestamp) -> Vec<Value> {
    let fields = &obj.rest;
    let text = |path| text_at(fields, path);
    let claim = text("spec.claimRef.name");
    let claim = if claim.is_empty() { claim } else { format!("{}/{claim}", text("spec.claimRef.namespace")) };
    let phase = if obj.metadata.deletion_timestamp.is_some() { "Terminating".to_owned() } else { text("status.phase") };
    vec![
        table::name(&obj.metadata),
        json!(text("spec.capacity.storage")),
        json!(access_modes(fields, "spec.accessModes")),
        json!(text("spec.persistentVolumeReclaimPolicy")),
        json!(phase),
        json!(claim),
        json!(class_of(obj)),
        table::or(&text("spec.volumeAttributesClassName"), "<unset>"),
        json!(text("status.reason")),
        table::age(&obj.metadata, now),
        table::or(&text("spec.volumeMode"), "<unset>"),
    ]
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::api::kinds::testing::json::{causes, row, update_causes};
    use expect_test::expect;

    const DISK: &str = "metadata: {name: d}\nspec: {capacity: {storage: 1Gi}, accessModes: [ReadWriteOnce], hostPath: {path: /x}, storageClassName: slow}";

    #[test]
    fn what_is_wrong_is_named() {
        assert_eq!(causes(&PERSISTENT_VOLUMES, DISK), "");
        expect![[r#"
            spec.accessModes[0]: Unsupported value: "Often": supported values: "ReadOnlyMany", "ReadWriteMany", "ReadWriteOnce", "ReadWriteOncePod"
            spec.capacity: Unsupported value: {"cpu":"1"}: supported values: "storage"
            spec.persistentVolumeReclaimPolicy: Unsupported value: "Sell": supported values: "Delete", "Recycle", "Retain"
            spec.volumeMode: Unsupported value: "Tape": supported values: "Block", "Filesystem"
            spec: Required value: must specify a volume type
        "#]].assert_eq(&causes(
            &PERSISTENT_VOLUMES,
            "spec: {accessModes: [Often], capacity: {cpu: 1}, volumeMode: Tape, persistentVolumeReclaimPolicy: Sell}",
        ));
        expect![[r#"
            spec.nfs: Forbidden: may not specify more than 1 volume type
        "#]].assert_eq(&causes(&PERSISTENT_VOLUMES, "spec: {accessModes: [ReadWriteMany], capacity: {storage: 1}, nfs: {server: a, path: /}, hostPath: {path: /x}}"));
        expect![[r#"
            spec.persistentvolumesource: Forbidden: spec.persistentvolumesource is immutable after creation
        "#]]
        .assert_eq(&update_causes(&PERSISTENT_VOLUMES, DISK, &DISK.replace("/x", "/y")));
    }

    #[test]
    fn a_row_reads_as_in_kubernetes() {
        let bound = format!("{DISK}\nstatus: {{phase: Available}}");
        assert_eq!(
            row(&PERSISTENT_VOLUMES, &bound),
            "d | 1Gi | RWO |  | Available |  | slow | <unset> |  | <unknown> | <unset>"
        );
    }
}

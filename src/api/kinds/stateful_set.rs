//! `StatefulSet`, apps/v1.
//!
//! **Source**: `pkg/apis/apps/validation/validation.go`, `pkg/apis/apps/v1/defaults.go`, v1.37.

use super::{
    json::{self, Errors},
    workload,
};
use crate::api::{
    field::FieldError,
    json_kind::{JsonKind, Rules, ScalePaths, at, default_at, set_at, text_at, typed_json_kind},
    kind::{KindInfo, SCALE, STATUS, Scope},
    object::Untyped,
    table::{self, Column},
};
use jiff::Timestamp;
use k8s_openapi::api::apps::v1::StatefulSet;
use serde_json::{Value, json};

/// What a user may change later.
const FREE: &[&str] = &[
    "minReadySeconds",
    "ordinals",
    "persistentVolumeClaimRetentionPolicy",
    "replicas",
    "revisionHistoryLimit",
    "template",
    "updateStrategy",
];
const FIXED: &str = "updates to statefulset spec for fields other than 'replicas', 'ordinals', 'template', 'updateStrategy', \
     'revisionHistoryLimit', 'persistentVolumeClaimRetentionPolicy' and 'minReadySeconds' are forbidden";

/// The kind `StatefulSet`.
pub static STATEFUL_SETS: JsonKind = JsonKind::new(
    KindInfo {
        short_names: &["sts"],
        categories: &["all"],
        subresources: &[SCALE, STATUS],
        columns: &[
            Column::name(),
            Column::text("Ready", "How many pods are ready, of how many."),
            Column::age(),
            Column::text("Containers", "The names of the template's containers.").wide(),
            Column::text("Images", "The images of the template's containers.").wide(),
        ],
        ..KindInfo::of(
            ("apps", "v1", "StatefulSet"),
            ("statefulsets", "statefulset"),
            Scope::Namespaced,
            "io.k8s.api.apps.v1.StatefulSet",
        )
    },
    Rules {
        set_defaults,
        validate,
        validate_update: |new, old| workload::fixed_but(new, old, FREE, FIXED),
        row,
        has_generation: true,
        scale: Some(ScalePaths {
            spec_replicas: "spec.replicas",
            status_replicas: "status.replicas",
            selector: "spec.selector",
        }),
        ..Rules::PLAIN
    },
);

typed_json_kind! {
    /// StatefulSets as their controller has them.
    pub STATEFUL_SETS => StatefulSets: StatefulSet
}

fn set_defaults(obj: &mut Untyped) {
    let fields = &mut obj.rest;
    default_at(fields, "spec.podManagementPolicy", "OrderedReady");
    default_at(fields, "spec.updateStrategy.type", "RollingUpdate");
    if text_at(fields, "spec.updateStrategy.type") == "RollingUpdate" {
        default_at(fields, "spec.updateStrategy.rollingUpdate.partition", 0);
    }
    default_at(fields, "spec.persistentVolumeClaimRetentionPolicy.whenDeleted", "Retain");
    default_at(fields, "spec.persistentVolumeClaimRetentionPolicy.whenScaled", "Retain");
    default_at(fields, "spec.replicas", 1);
    default_at(fields, "spec.revisionHistoryLimit", 10);
    workload::template_defaults(fields, "spec.template");
    for claim in json::objects_mut(fields, "spec.volumeClaimTemplates") {
        default_at(claim, "spec.volumeMode", "Filesystem");
        default_at(claim, "status.phase", "Pending");
    }
}

fn validate(obj: &Untyped) -> Errors {
    let mut errs = Errors::new();
    let fields = &obj.rest;
    json::one_of(&mut errs, fields, "spec.podManagementPolicy", &["OrderedReady", "Parallel"]);
    json::one_of(&mut errs, fields, "spec.updateStrategy.type", &["OnDelete", "RollingUpdate"]);
    if text_at(fields, "spec.updateStrategy.type") == "OnDelete"
        && json::has(fields, "spec.updateStrategy.rollingUpdate")
    {
        let why = "only allowed for updateStrategy 'RollingUpdate'";
        let value = at(fields, "spec.updateStrategy.rollingUpdate");
        errs.push(FieldError::invalid("spec.updateStrategy.rollingUpdate", value, why));
    }
    for field in
        ["spec.replicas", "spec.minReadySeconds", "spec.updateStrategy.rollingUpdate.partition", "spec.ordinals.start"]
    {
        json::non_negative(&mut errs, fields, field);
    }
    for field in ["whenDeleted", "whenScaled"] {
        let path = format!("spec.persistentVolumeClaimRetentionPolicy.{field}");
        json::one_of(&mut errs, fields, &path, &["Delete", "Retain"]);
    }
    workload::check_selected(&mut errs, &with_claims(obj), "StatefulSet");
    errs
}

/// The set as its pods will be: its claims are volumes of theirs, by their names, before volumes of the template.
fn with_claims(obj: &Untyped) -> Untyped {
    const VOLUMES: &str = "spec.template.spec.volumes";
    let mut obj = obj.clone();
    let claims = json::objects(&obj.rest, "spec.volumeClaimTemplates").map(|claim| text_at(claim, "metadata.name"));
    let claims: Vec<String> = claims.collect();
    let volumes = json::items(&obj.rest, VOLUMES).iter();
    let is_claim = |volume: &&Value| claims.iter().any(|claim| volume["name"] == **claim);
    let own = volumes.filter(|volume| !is_claim(volume)).cloned();
    let of_claim = |claim: &String| json!({ "name": claim, "persistentVolumeClaim": { "claimName": claim } });
    let all: Vec<Value> = own.chain(claims.iter().map(of_claim)).collect();
    if !claims.is_empty() {
        set_at(&mut obj.rest, VOLUMES, Value::Array(all));
    }
    obj
}

fn row(obj: &Untyped, now: Timestamp) -> Vec<Value> {
    let number = |path| json::number(&obj.rest, path);
    let [names, images] = workload::containers(&obj.rest, "spec.template");
    vec![
        table::name(&obj.metadata),
        json!(format!("{}/{}", number("status.readyReplicas"), number("spec.replicas"))),
        table::age(&obj.metadata, now),
        names,
        images,
    ]
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::api::{
        kind::ErasedKind as _,
        kinds::testing::json::{causes, created, created_yaml, row, update_causes},
    };
    use expect_test::expect;

    const DB: &str = "metadata: {name: db}\nspec: {serviceName: db, selector: {matchLabels: {app: db}}, template: {metadata: {labels: {app: db}}, spec: {containers: [{name: c, image: i}]}}}";

    #[test]
    fn what_is_wrong_is_named() {
        assert_eq!(causes(&STATEFUL_SETS, DB), "");
        expect![[r#"
            spec.podManagementPolicy: Unsupported value: "Loose": supported values: "OrderedReady", "Parallel"
            spec.updateStrategy.rollingUpdate: Invalid value: {}: only allowed for updateStrategy 'RollingUpdate'
            spec.replicas: Invalid value: -1: must be greater than or equal to 0
            spec.template.metadata.labels: Invalid value: null: `selector` does not match template `labels`
            spec.template.spec.containers: Required value
        "#]].assert_eq(&causes(&STATEFUL_SETS, "spec: {replicas: -1, podManagementPolicy: Loose, updateStrategy: {type: OnDelete, rollingUpdate: {}}, selector: {matchLabels: {a: b}}, template: {spec: {containers: []}}}"));
        expect![[r#"
            spec: Forbidden: updates to statefulset spec for fields other than 'replicas', 'ordinals', 'template', 'updateStrategy', 'revisionHistoryLimit', 'persistentVolumeClaimRetentionPolicy' and 'minReadySeconds' are forbidden
        "#]].assert_eq(&update_causes(
            &STATEFUL_SETS,
            DB,
            &DB.replace("serviceName: db", "serviceName: other"),
        ));
        assert_eq!(update_causes(&STATEFUL_SETS, DB, &DB.replace("image: i", "image: j")), "");
    }

    #[test]
    fn containers_mount_the_claims_of_their_set() {
        let set = |mount: &str| {
            let mounts =
                format!("containers: [{{name: c, image: i, volumeMounts: [{{name: {mount}, mountPath: /d}}]}}]");
            let with = DB.replace("containers: [{name: c, image: i}]", &mounts);
            format!(
                "{}, volumeClaimTemplates: [{{metadata: {{name: data}}, spec: {{accessModes: [ReadWriteOnce]}}}}]}}",
                with.trim_end_matches('}').to_owned() + "}}"
            )
        };
        assert_eq!(causes(&STATEFUL_SETS, &set("data")), "");
        assert_eq!(
            causes(&STATEFUL_SETS, &set("other")),
            "spec.template.spec.containers[0].volumeMounts[0].name: Not found: \"other\"\n"
        );
    }

    #[test]
    fn defaults_are_filled_in() {
        expect![[r#"
            metadata:
              name: db
            spec:
              persistentVolumeClaimRetentionPolicy:
                whenDeleted: Retain
                whenScaled: Retain
              podManagementPolicy: OrderedReady
              replicas: 1
              revisionHistoryLimit: 10
              selector:
                matchLabels:
                  app: db
              serviceName: db
              template:
                metadata:
                  labels:
                    app: db
                spec:
                  containers:
                  - image: i
                    imagePullPolicy: Always
                    name: c
                    resources: {}
                    terminationMessagePath: /dev/termination-log
                    terminationMessagePolicy: File
                  dnsPolicy: ClusterFirst
                  restartPolicy: Always
                  schedulerName: default-scheduler
                  securityContext: {}
                  terminationGracePeriodSeconds: 30
              updateStrategy:
                rollingUpdate:
                  partition: 0
                type: RollingUpdate
            status:
              replicas: 0
        "#]]
        .assert_eq(&created_yaml(&STATEFUL_SETS, DB));
    }

    #[test]
    fn a_row_reads_as_in_kubernetes_and_it_scales() {
        let running = format!(
            "{}\nstatus: {{replicas: 1, readyReplicas: 1}}",
            DB.replace("serviceName", "replicas: 3, serviceName")
        );
        assert_eq!(row(&STATEFUL_SETS, &running), "db | 1/3 | <unknown> | c | i");
        let mut obj = created(&STATEFUL_SETS, DB);
        STATEFUL_SETS.set_scale(&mut *obj, 5);
        let scale = STATEFUL_SETS.scale(&*obj).unwrap();
        assert_eq!((scale.spec_replicas, scale.selector.as_str()), (5, "app=db"));
    }
}

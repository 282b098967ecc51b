//! What holds for every kind of the table.

use super::*;
use crate::{api::object::DynObject, testing::samples::sample};
use proptest::prelude::*;
use serde_json::{Value, json};
use std::collections::BTreeSet;

fn decoded(kind: &dyn ErasedKind) -> Box<dyn DynObject> {
    let mut obj = sample(kind.info().group, kind.info().kind);
    obj["apiVersion"] = json!(kind.info().api_version());
    obj["kind"] = json!(kind.info().kind);
    obj["metadata"] = json!({ "name": "web", "namespace": "default", "resourceVersion": "7" });
    kind.decode(obj).unwrap()
}

fn parsed(json: &[u8]) -> Value {
    serde_json::from_slice(json).unwrap()
}

#[test]
fn every_row_of_the_table_is_complete_and_unique() {
    let mut seen = BTreeSet::new();
    for kind in KINDS {
        let info = kind.info();
        assert!(seen.insert((info.group, info.version, info.plural)), "{} twice", info.resource());
        assert!(seen.insert((info.group, info.version, info.kind)), "{} twice", info.qualified_kind());
        assert!(info.schema.ends_with(&format!(".{}.{}", info.version, info.kind)), "{}", info.schema);
        assert!(by_plural(info.group, info.plural).is_some());
        assert!(by_kind(info.group, info.version, info.kind).is_some());
        let names: BTreeSet<_> = info.subresources.iter().map(|s| s.name).collect();
        assert_eq!(names.len(), info.subresources.len(), "{}", info.resource());
        assert_eq!(names.contains("scale"), kind.scale(&*decoded(*kind)).is_some(), "{}", info.resource());
        let n_names = info.columns.iter().filter(|c| c.format == "name").count();
        assert_eq!(n_names, 1, "{}", info.resource());
        assert!(info.columns.iter().all(|c| !c.name.is_empty()));
    }
}

#[test]
fn short_names_are_unique_within_the_stored_kinds() {
    let mut seen = BTreeSet::new();
    for kind in KINDS.iter().filter(|k| k.info().stored_as.is_none()) {
        for name in kind.info().short_names {
            assert!(seen.insert(name), "{name} twice");
        }
    }
}

#[test]
fn a_row_has_a_cell_for_every_column() {
    for kind in KINDS {
        let obj = decoded(*kind);
        let cells = kind.row(&*obj, testing::now());
        assert_eq!(cells.len(), kind.info().columns.len(), "{}", kind.info().resource());
    }
}

#[test]
fn field_labels_name_what_the_stored_kind_indexes() {
    for kind in KINDS {
        let indexed = kind.selectable_fields(&*decoded(*kind));
        let means: BTreeSet<_> = kind.field_labels().iter().map(|(_, field)| *field).collect();
        let known: BTreeSet<_> = indexed.keys().copied().collect();
        match kind.info().stored_as {
            None => assert_eq!(means, known, "{}", kind.info().resource()),
            Some(_) => assert!(means.is_subset(&known), "{}", kind.info().resource()),
        }
    }
}

#[test]
fn defaults_are_filled_in_once_and_the_result_is_valid() {
    for kind in KINDS {
        let mut obj = decoded(*kind);
        kind.set_defaults(&mut *obj);
        let once = parsed(&obj.to_json());
        kind.set_defaults(&mut *obj);
        assert_eq!(parsed(&obj.to_json()), once, "{}", kind.info().resource());
        let mut bare = kind.decode(json!({ "metadata": { "name": "x" } })).unwrap();
        kind.set_defaults(&mut *bare);
        kind.prepare_create(&mut *bare);
        let _ = (kind.validate(&*bare), kind.row(&*bare, testing::now()), kind.warnings(&*bare));
    }
}

#[test]
fn what_is_stored_reads_back_as_it_was() {
    for kind in KINDS {
        let mut obj = decoded(*kind);
        kind.set_defaults(&mut *obj);
        let stored = kind.stored_bytes(&*obj);
        let again = kind.decode_bytes(&stored).unwrap();
        assert_eq!(parsed(&again.to_json()), parsed(&obj.to_json()), "{}", kind.info().resource());
        assert_eq!(parsed(&kind.served_bytes(&stored).unwrap()), parsed(&obj.to_json()));
    }
}

/// Pod specs with many fields left out.
fn pod_specs() -> impl Strategy<Value = Value> {
    let image = prop_oneof![Just("nginx"), Just("nginx:1.27"), Just("a.b/c@sha256:00"), Just("")];
    let amount = prop_oneof![Just("1000m"), Just("0.5"), Just("1024Mi"), Just("1e3"), Just("what"), Just("0.00001")];
    let probe = prop_oneof![
        Just(Value::Null),
        Just(json!({ "httpGet": { "port": 80 } })),
        Just(json!({ "tcpSocket": { "port": "http" }, "periodSeconds": 3 })),
    ];
    let volume = prop_oneof![
        Just(json!({ "name": "v" })),
        Just(json!({ "name": "v", "emptyDir": { "sizeLimit": "1024Mi" } })),
        Just(json!({ "name": "v", "secret": { "secretName": "s" } })),
    ];
    let container = (image, amount, probe).prop_map(|(image, amount, probe)| {
        json!({
            "name": "c", "image": image, "livenessProbe": probe,
            "ports": [{ "containerPort": 80 }],
            "resources": { "limits": { "cpu": amount } },
            "env": [{ "name": "A", "valueFrom": { "fieldRef": { "fieldPath": "metadata.name" } } }],
        })
    });
    let containers = proptest::collection::vec(container.clone(), 0..3);
    let inits = proptest::collection::vec(container, 0..2);
    (containers, inits, proptest::collection::vec(volume, 0..3), any::<bool>(), any::<Option<bool>>()).prop_map(
        |(containers, inits, volumes, host, links)| {
            json!({
                "containers": containers, "initContainers": inits, "volumes": volumes,
                "hostNetwork": host, "enableServiceLinks": links,
            })
        },
    )
}

proptest! {
    #[test]
    fn defaults_of_any_pod_are_idempotent_and_survive_the_wire(spec in pod_specs()) {
        let kind = by_plural("", "pods").unwrap();
        let mut pod = kind.decode(json!({ "metadata": { "name": "p" }, "spec": spec })).unwrap();
        kind.set_defaults(&mut *pod);
        kind.prepare_create(&mut *pod);
        let once = parsed(&pod.to_json());
        kind.set_defaults(&mut *pod);
        kind.prepare_create(&mut *pod);
        prop_assert_eq!(parsed(&pod.to_json()), once.clone());
        let mut again = kind.decode(once.clone()).unwrap();
        kind.set_defaults(&mut *again);
        prop_assert_eq!(parsed(&again.to_json()), once);
    }

    #[test]
    fn defaults_of_any_template_are_idempotent(spec in pod_specs()) {
        let kind = by_plural("apps", "deployments").unwrap();
        let template = json!({ "metadata": { "labels": { "a": "b" } }, "spec": spec });
        let mut obj = kind.decode(json!({ "metadata": { "name": "d" }, "spec": { "template": template } })).unwrap();
        kind.set_defaults(&mut *obj);
        let once = parsed(&obj.to_json());
        kind.set_defaults(&mut *obj);
        prop_assert_eq!(parsed(&obj.to_json()), once);
    }
}

#[test]
fn objects_of_openshift_3_get_the_version_of_their_group() {
    let given = |version: &str, kind: &str| {
        let mut object = json!({ "apiVersion": version, "kind": kind });
        put_in_group(&mut object);
        object["apiVersion"].as_str().unwrap().to_owned()
    };
    for (kind, group) in [
        ("DeploymentConfig", "apps.openshift.io/v1"),
        ("ImageStream", "image.openshift.io/v1"),
        ("Route", "route.openshift.io/v1"),
        ("Template", "template.openshift.io/v1"),
        ("Service", "v1"),
        ("List", "v1"),
    ] {
        assert_eq!(given("v1", kind), group, "{kind}");
    }
    assert_eq!(given("example.com/v1", "Route"), "example.com/v1", "somebody else's");
}

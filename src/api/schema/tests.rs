//! Schemas against documents: what is found, and in which words.

use super::*;
use serde_json::json;

const DEPLOYMENT: &str = "io.k8s.api.apps.v1.Deployment";
const POD: &str = "io.k8s.api.core.v1.Pod";
const SERVICE: &str = "io.k8s.api.core.v1.Service";
const SECRET: &str = "io.k8s.api.core.v1.Secret";
const CONFIG_MAP: &str = "io.k8s.api.core.v1.ConfigMap";

fn deployment() -> Value {
    json!({
        "apiVersion": "apps/v1", "kind": "Deployment",
        "metadata": {"name": "web", "labels": {"app": "web"}, "creationTimestamp": null},
        "spec": {
            "replicas": 3,
            "selector": {"matchLabels": {"app": "web"}},
            "strategy": {"rollingUpdate": {"maxSurge": "25%", "maxUnavailable": 0}},
            "template": {
                "metadata": {"labels": {"app": "web"}},
                "spec": {"containers": [{
                    "name": "web", "image": "web", "ports": [{"containerPort": 80}],
                    "resources": {"requests": {"cpu": 0.5, "memory": "64Mi"}},
                    "securityContext": null,
                }]},
            },
        },
        "status": {},
    })
}

#[test]
fn a_good_object_has_no_findings() {
    assert_eq!(check(packed(DEPLOYMENT), &deployment()), Findings::default());
}

#[test]
fn unknown_fields_are_named_with_their_paths() {
    let mut object = deployment();
    object["spec"]["replica"] = json!(1);
    object["spec"]["Replicas"] = json!(1);
    object["spec"]["template"]["spec"]["containers"][0]["foo"] = json!({"bar": 1});
    object["metadata"]["labels"]["any"] = json!("label");
    object["foo"] = json!(1);
    let found = check(packed(DEPLOYMENT), &object);
    assert_eq!(found.unknown, ["foo", "spec.Replicas", "spec.replica", "spec.template.spec.containers[0].foo"]);
    assert_eq!(found.error, None);
    assert_eq!(
        strict_error(&found.unknown[..1], &["spec.replicas".to_owned()]).expect("there is something"),
        "strict decoding error: unknown field \"foo\", duplicate field \"spec.replicas\""
    );
    assert_eq!(strict_error(&[], &[]), None);
}

/// Sets one field of an object by JSON pointer and checks what the decoder says.
#[track_caller]
fn check_error(definition: &str, pointer: &str, value: Value, error: &str) {
    let mut object = value;
    for step in pointer.rsplit('/').filter(|s| !s.is_empty()) {
        object = if step == "0" { json!([object]) } else { json!({ step: object }) };
    }
    assert_eq!(check(packed(definition), &object).error.as_deref(), Some(error), "{object}");
}

/// The texts are those of kubectl 1.37, which decodes with the same code: `kubectl set env --local -f FILE X=1`.
#[test]
fn wrong_types_are_told_in_go_s_words() {
    for (definition, pointer, value, error) in [
        (
            DEPLOYMENT,
            "/spec/replicas",
            json!("3"),
            "json: cannot unmarshal string into Go struct field DeploymentSpec.spec.replicas of type int32",
        ),
        (
            DEPLOYMENT,
            "/spec/replicas",
            json!(1.5),
            "json: cannot unmarshal number 1.5 into Go struct field DeploymentSpec.spec.replicas of type int32",
        ),
        (
            DEPLOYMENT,
            "/spec/replicas",
            json!(3_000_000_000_u64),
            "json: cannot unmarshal number 3000000000 into Go struct field DeploymentSpec.spec.replicas of type int32",
        ),
        (
            DEPLOYMENT,
            "/spec/template/spec/containers/0/env/0/value",
            json!(1),
            "json: cannot unmarshal number into Go struct field EnvVar.spec.template.spec.containers.env.value of type string",
        ),
        (
            DEPLOYMENT,
            "/spec/template/spec/containers",
            json!("x"),
            "json: cannot unmarshal string into Go struct field PodSpec.spec.template.spec.containers of type []v1.Container",
        ),
        (
            DEPLOYMENT,
            "/spec/template/spec/containers/0",
            json!("x"),
            "json: cannot unmarshal string into Go struct field PodSpec.spec.template.spec.containers of type v1.Container",
        ),
        (
            DEPLOYMENT,
            "/spec",
            json!([]),
            "json: cannot unmarshal array into Go struct field Deployment.spec of type v1.DeploymentSpec",
        ),
        (
            DEPLOYMENT,
            "/metadata/labels/a",
            json!(true),
            "json: cannot unmarshal bool into Go struct field ObjectMeta.metadata.labels of type string",
        ),
        (
            DEPLOYMENT,
            "/metadata/labels",
            json!("a=b"),
            "json: cannot unmarshal string into Go struct field ObjectMeta.metadata.labels of type map[string]string",
        ),
        (
            DEPLOYMENT,
            "/metadata/creationTimestamp",
            json!(5),
            "json: cannot unmarshal number into Go struct field ObjectMeta.metadata.creationTimestamp of type string",
        ),
        (
            DEPLOYMENT,
            "/metadata/creationTimestamp",
            json!("now"),
            "parsing time \"now\" as \"2006-01-02T15:04:05Z07:00\": cannot parse \"now\" as \"2006\"",
        ),
        (DEPLOYMENT, "", json!([]), "json: cannot unmarshal array into Go value of type v1.Deployment"),
        (
            SERVICE,
            "/spec/type",
            json!(1),
            "json: cannot unmarshal number into Go struct field ServiceSpec.spec.type of type v1.ServiceType",
        ),
        (
            SERVICE,
            "/spec/ports/0/targetPort",
            json!(true),
            "json: cannot unmarshal bool into Go struct field ServicePort.spec.ports.targetPort of type int32",
        ),
        (
            POD,
            "/spec/containers/0/resources/requests/cpu",
            json!("much"),
            "quantities must match the regular expression '^([+-]?[0-9.]+)([eEinumkKMGTP]*[-+]?[0-9]*)$'",
        ),
        (
            POD,
            "/spec/containers/0/resources/requests",
            json!(1),
            "json: cannot unmarshal number into Go struct field ResourceRequirements.spec.containers.resources.requests of \
             type v1.ResourceList",
        ),
        (
            POD,
            "/spec/containers/0/livenessProbe/httpGet/port",
            json!(1.5),
            "json: cannot unmarshal number 1.5 into Go struct field \
             HTTPGetAction.spec.containers.livenessProbe.ProbeHandler.httpGet.port of type int32",
        ),
        (
            POD,
            "/spec/volumes/0/configMap/name",
            json!(1),
            "json: cannot unmarshal number into Go struct field \
             ConfigMapVolumeSource.spec.volumes.VolumeSource.configMap.LocalObjectReference.name of type string",
        ),
        (
            POD,
            "/spec/ephemeralContainers/0/name",
            json!(1),
            "json: cannot unmarshal number into Go struct field \
             EphemeralContainer.spec.ephemeralContainers.EphemeralContainerCommon.name of type string",
        ),
        (
            POD,
            "/metadata/ownerReferences/0/uid",
            json!(1),
            "json: cannot unmarshal number into Go struct field OwnerReference.metadata.ownerReferences.uid of type types.UID",
        ),
        (SECRET, "/data/a", json!("!"), "illegal base64 data at input byte 0"),
        (SECRET, "/data/a", json!(1), "json: cannot unmarshal number into Go struct field Secret.data of type []uint8"),
        (
            CONFIG_MAP,
            "/immutable",
            json!("yes"),
            "json: cannot unmarshal string into Go struct field ConfigMap.immutable of type bool",
        ),
    ] {
        check_error(definition, pointer, value, error);
    }
}

#[test]
fn only_the_first_error_is_told() {
    let object = json!({"data": {"a": 1, "b": true}, "immutable": 2});
    let error = check(packed(CONFIG_MAP), &object).error;
    assert_eq!(
        error.as_deref(),
        Some("json: cannot unmarshal number into Go struct field ConfigMap.data of type string")
    );
    let why = error.expect("there is one");
    assert_eq!(
        cannot_be_handled("v1", "ConfigMap", &why),
        "ConfigMap in version \"v1\" cannot be handled as a ConfigMap: json: cannot unmarshal number into Go struct field \
         ConfigMap.data of type string"
    );
}

#[test]
fn normal_objects_decode_into_their_types() {
    let mut object = deployment();
    object["metadata"]["annotations"] = json!({"empty": null});
    normalize(packed(DEPLOYMENT), &mut object);
    let container = &object["spec"]["template"]["spec"]["containers"][0];
    assert_eq!(container["resources"]["requests"], json!({"cpu": "500m", "memory": "64Mi"}));
    assert_eq!(container.get("securityContext"), None);
    assert_eq!(object["metadata"].get("creationTimestamp"), None);
    assert_eq!(object["metadata"]["annotations"], json!({"empty": ""}));
    let typed: k8s_openapi::api::apps::v1::Deployment = serde_json::from_value(object).expect("it decodes");
    assert_eq!(typed.spec.replicas, Some(3));
    let mut secret = json!({"data": {"a": "YWJj\nZA==", "b": null}});
    normalize(packed(SECRET), &mut secret);
    assert_eq!(secret, json!({"data": {"a": "YWJjZA==", "b": ""}}));
}

#[test]
fn the_packed_schemas_are_those_of_their_sources() {
    let top = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).ancestors().nth(2).unwrap();
    let packed = |name: &str| std::fs::read(top.join(sums::FOLDER).join(name)).unwrap();
    let now = sums::of(top, &packed("structure.txt"), &packed("definitions.z"));
    let then = String::from_utf8(packed("sums.txt")).unwrap();
    assert_eq!(now, then, "run `cargo schemas`, and commit what it writes");
}

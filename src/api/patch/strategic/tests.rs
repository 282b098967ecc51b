//! Strategic merge patches, case by case.

use super::*;
use crate::api::schema::packed;
use proptest::prelude::*;
use serde_json::json;

const DEPLOYMENT: &str = "io.k8s.api.apps.v1.Deployment";
const POD: &str = "io.k8s.api.core.v1.Pod";
const SERVICE: &str = "io.k8s.api.core.v1.Service";
const CONFIG_MAP: &str = "io.k8s.api.core.v1.ConfigMap";

/// Applies YAML to YAML, because patches are easier to read so.
#[track_caller]
fn check(definition: &str, current: &str, patch: &str, expected: &str) {
    let read = |text: &str| crate::api::schema::read::parse_yaml(text.as_bytes()).expect("the test is YAML").value;
    let patched = apply(read(current), read(patch), packed(definition)).expect("the patch applies");
    assert_eq!(patched, read(expected), "\n{patched:#}");
}

#[track_caller]
fn refused(definition: &str, current: Value, patch: Value, error: &str) {
    assert_eq!(apply(current, patch, packed(definition)), Err(malformed(error)));
}

#[test]
fn lists_with_a_key_merge_and_others_are_replaced() {
    check(
        DEPLOYMENT,
        "{spec: {template: {spec: {
            containers: [{name: a, image: nginx, env: [{name: X, value: '1'}]}],
            tolerations: [{effect: NoSchedule, key: old}]}}}}",
        "{spec: {template: {spec: {
            containers: [{name: b, image: redis}, {name: a, env: [{name: Y, value: '2'}, {name: X, value: '3'}]}],
            tolerations: [{effect: NoSchedule, key: new}]}}}}",
        "{spec: {template: {spec: {
            containers: [{name: b, image: redis},
                {name: a, image: nginx, env: [{name: Y, value: '2'}, {name: X, value: '3'}]}],
            tolerations: [{effect: NoSchedule, key: new}]}}}}",
    );
}

#[test]
fn null_removes_and_is_never_kept() {
    check(
        DEPLOYMENT,
        "{metadata: {labels: {a: '1', b: '2'}}, spec: {paused: true}}",
        "{metadata: {labels: {a: null, x: null}, annotations: {y: null, z: '1'}}, spec: {paused: null, template: {spec: {nodeName: null}}}}",
        "{metadata: {labels: {b: '2'}, annotations: {z: '1'}}, spec: {template: {spec: {}}}}",
    );
}

#[test]
fn retained_keys_push_the_others_out() {
    check(
        DEPLOYMENT,
        "{spec: {strategy: {type: RollingUpdate, rollingUpdate: {maxSurge: 30%}}}}",
        "{spec: {strategy: {$retainKeys: [type], type: Recreate}}}",
        "{spec: {strategy: {type: Recreate}}}",
    );
    check(
        POD,
        "{spec: {volumes: [{name: v, emptyDir: {}}, {name: w, emptyDir: {}}]}}",
        "{spec: {volumes: [{name: v, $retainKeys: [name, hostPath], hostPath: {path: /x}}]}}",
        "{spec: {volumes: [{name: v, hostPath: {path: /x}}, {name: w, emptyDir: {}}]}}",
    );
    let patch = json!({"spec": {"strategy": {"$retainKeys": ["rollingUpdate"], "type": "Recreate"}}});
    refused(DEPLOYMENT, json!({"spec": {"strategy": {}}}), patch, "invalid patch format of retainKeys");
}

#[test]
fn items_are_deleted_by_their_key() {
    check(
        POD,
        "{spec: {containers: [{name: a}, {name: b}, {name: c}]}}",
        "{spec: {containers: [{name: b, $patch: delete}, {name: x, $patch: delete}]}}",
        "{spec: {containers: [{name: a}, {name: c}]}}",
    );
    let patch = json!({"spec": {"containers": [{"$patch": "delete"}]}});
    refused(
        POD,
        json!({"spec": {"containers": [{"name": "a"}]}}),
        patch,
        "map: map[$patch:delete] does not contain declared merge key: name",
    );
}

#[test]
fn objects_and_lists_can_be_replaced_or_emptied() {
    check(
        POD,
        "{spec: {containers: [{name: a, image: x}, {name: b}]}}",
        "{spec: {containers: [{name: a}, {$patch: replace}]}}",
        "{spec: {containers: [{name: a}]}}",
    );
    check(
        POD,
        "{spec: {securityContext: {runAsUser: 1, fsGroup: 2}}}",
        "{spec: {securityContext: {$patch: replace, runAsGroup: 3, fsGroup: null}}}",
        "{spec: {securityContext: {runAsGroup: 3}}}",
    );
    check(
        POD,
        "{spec: {securityContext: {runAsUser: 1}, hostNetwork: true}}",
        "{spec: {securityContext: {$patch: delete}}}",
        "{spec: {securityContext: {}, hostNetwork: true}}",
    );
    let (current, patch) = (json!({"spec": {}}), json!({"spec": {"$patch": "merge", "hostNetwork": true}}));
    refused(POD, current, patch, "unknown patch type: merge in map: map[$patch:merge hostNetwork:true]");
    let patch = json!({"spec": {"containers": [{"name": "a", "$patch": "merge"}]}});
    let current = json!({"spec": {"containers": [{"name": "a"}]}});
    refused(POD, current, patch, "merging lists cannot yet be specified in the patch");
}

#[test]
fn directives_in_what_is_new_do_not_reach_the_object() {
    check(
        DEPLOYMENT,
        "{}",
        "{spec: {strategy: {$retainKeys: [type], type: Recreate}, template: {spec: {
            $setElementOrder/containers: [{name: a}, {name: b}],
            containers: [{name: a, $setElementOrder/env: [{name: X}], env: [{name: X}]}, {name: b, $patch: delete}]}}}}",
        "{spec: {strategy: {type: Recreate}, template: {spec: {containers: [{name: a, env: [{name: X}]}]}}}}",
    );
    check(
        POD,
        "{spec: {}}",
        "{spec: {affinity: {$patch: delete}, dnsConfig: {$patch: replace, searches: [a]}}}",
        "{spec: {dnsConfig: {searches: [a]}}}",
    );
}

#[test]
fn lists_of_values_merge_and_lose_what_is_deleted() {
    check(
        CONFIG_MAP,
        "{metadata: {finalizers: [a, b, c]}}",
        "{metadata: {$setElementOrder/finalizers: [c, d, a], $deleteFromPrimitiveList/finalizers: [b], finalizers: [d]}}",
        "{metadata: {finalizers: [c, d, a]}}",
    );
    check(
        CONFIG_MAP,
        "{metadata: {finalizers: [a, b]}}",
        "{metadata: {finalizers: [b, c]}}",
        "{metadata: {finalizers: [a, b, c]}}",
    );
    check(
        CONFIG_MAP,
        "{metadata: {}}",
        "{metadata: {$deleteFromPrimitiveList/finalizers: [b], finalizers: [c]}}",
        "{metadata: {finalizers: [c]}}",
    );
    // A list without the merge strategy is replaced whatever it holds.
    check(
        POD,
        "{spec: {containers: [{name: a, args: [x, y]}]}}",
        "{spec: {containers: [{name: a, args: [z]}]}}",
        "{spec: {containers: [{name: a, args: [z]}]}}",
    );
}

/// The cases of the design note «preserve order in strategic merge patch».
#[test]
fn the_order_is_the_patch_s_for_its_items_and_the_object_s_for_others() {
    check(
        POD,
        "{spec: {containers: [{name: a}, {name: b}, {name: c}]}}",
        "{spec: {$setElementOrder/containers: [{name: c}, {name: a}, {name: b}], containers: [{name: a, image: x}]}}",
        "{spec: {containers: [{name: c}, {name: a, image: x}, {name: b}]}}",
    );
    check(
        POD,
        "{spec: {containers: [{name: a}, {name: sidecar}, {name: b}]}}",
        "{spec: {$setElementOrder/containers: [{name: a}, {name: new}, {name: b}], containers: [{name: new}]}}",
        "{spec: {containers: [{name: a}, {name: new}, {name: sidecar}, {name: b}]}}",
    );
    check(
        POD,
        "{spec: {containers: [{name: a}, {name: b}]}}",
        "{spec: {$setElementOrder/containers: [{name: b}, {name: a}]}}",
        "{spec: {containers: [{name: b}, {name: a}]}}",
    );
    check(
        POD,
        "{spec: {containers: [{name: a}, {name: b}]}}",
        "{spec: {$setElementOrder/containers: [{name: b}], containers: [{name: a, $patch: delete}, {name: b, image: x}]}}",
        "{spec: {containers: [{name: b, image: x}]}}",
    );
    check(
        POD,
        "{spec: {}}",
        "{spec: {$setElementOrder/containers: [{name: b}, {name: a}], containers: [{name: b}, {name: a}]}}",
        "{spec: {containers: [{name: b}, {name: a}]}}",
    );
    let patch = json!({"spec": {
        "$setElementOrder/containers": [{"name": "a"}], "containers": [{"name": "b"}],
    }});
    refused(
        POD,
        json!({"spec": {"containers": [{"name": "a"}]}}),
        patch,
        "The order in patch list:\n[map[name:b]]\n doesn't match $setElementOrder list:\n[map[name:a]]\n",
    );
}

#[test]
fn the_key_is_the_field_s_own() {
    check(
        SERVICE,
        "{spec: {ports: [{port: 80, name: http, nodePort: 30000}, {port: 443}], selector: {a: b}}}",
        "{spec: {ports: [{port: 80, targetPort: 8080}], selector: {c: d}}}",
        "{spec: {ports: [{port: 80, name: http, nodePort: 30000, targetPort: 8080}, {port: 443}], selector: {a: b, c: d}}}",
    );
    check(
        POD,
        "{status: {conditions: [{type: Ready, status: 'False'}], podIPs: [{ip: 10.0.0.1}]}}",
        "{status: {conditions: [{type: Ready, status: 'True'}, {type: New}], podIPs: [{ip: 10.0.0.2}]}}",
        "{status: {conditions: [{type: Ready, status: 'True'}, {type: New}], podIPs: [{ip: 10.0.0.2}, {ip: 10.0.0.1}]}}",
    );
    let current = json!({"spec": {"ports": [{"port": 80}]}});
    refused(
        SERVICE,
        current,
        json!({"spec": {"ports": [{"name": "x"}]}}),
        "map: map[name:x] does not contain declared merge key: port",
    );
}

/// What `kubectl apply` of version 1.37 sends after a container was dropped, an image changed and a volume's source swapped.
#[test]
fn what_kubectl_sends_applies() {
    check(
        DEPLOYMENT,
        "{spec: {strategy: {type: RollingUpdate, rollingUpdate: {maxSurge: 1}}, template: {spec: {
            containers: [{name: a, image: x, env: [{name: E, value: '1'}], imagePullPolicy: Always}, {name: b, image: y}],
            volumes: [{name: v, emptyDir: {}}], restartPolicy: Always}}}}",
        "{spec: {strategy: {$retainKeys: [type], type: Recreate}, template: {spec: {
            $setElementOrder/containers: [{name: a}], $setElementOrder/volumes: [{name: v}],
            containers: [{image: z, name: a}, {$patch: delete, name: b}],
            volumes: [{$retainKeys: [configMap, name], configMap: {name: q}, emptyDir: null, name: v}]}}}}",
        "{spec: {strategy: {type: Recreate}, template: {spec: {
            containers: [{name: a, image: z, env: [{name: E, value: '1'}], imagePullPolicy: Always}],
            volumes: [{name: v, configMap: {name: q}}], restartPolicy: Always}}}}",
    );
}

#[test]
fn a_change_of_type_replaces() {
    check(CONFIG_MAP, "{data: {a: b}}", "{data: x}", "{data: x}");
    check(
        SERVICE,
        "{spec: {ports: [{port: 1, targetPort: 2}]}}",
        "{spec: {ports: [{port: 1, targetPort: x}]}}",
        "{spec: {ports: [{port: 1, targetPort: x}]}}",
    );
    refused(CONFIG_MAP, json!({}), json!([1]), "invalid JSON document");
}

fn containers() -> impl Strategy<Value = Vec<Value>> {
    let names = prop::sample::subsequence(vec!["a", "b", "c", "d", "e"], 0..5).prop_shuffle();
    names.prop_flat_map(|names| {
        let images = prop::collection::vec(prop::option::of("[x-z]"), names.len());
        images.prop_map(move |images| {
            let both = names.iter().zip(images);
            both.map(|(name, image)| match image {
                Some(image) => json!({"name": name, "image": image}),
                None => json!({"name": name}),
            })
            .collect()
        })
    })
}

fn names(containers: &Value) -> Vec<&str> {
    containers.as_array().into_iter().flatten().filter_map(|c| c["name"].as_str()).collect()
}

proptest! {
    #[test]
    fn applying_twice_is_applying_once(current in containers(), changes in containers(), is_ordered: bool) {
        let current = json!({"spec": {"containers": current}});
        let mut patch = json!({"spec": {"containers": changes.clone(), "nodeName": null}});
        if is_ordered {
            patch["spec"]["$setElementOrder/containers"] = json!(changes);
        }
        let once = apply(current, patch.clone(), packed(POD)).expect("the patch applies");
        prop_assert_eq!(apply(once.clone(), patch, packed(POD)).expect("the patch applies"), once);
    }

    #[test]
    fn no_item_is_lost_or_doubled_and_the_patch_s_order_holds(current in containers(), changes in containers()) {
        let before = json!(current.clone());
        let object = json!({"spec": {"containers": current}});
        let patch = json!({"spec": {"containers": changes}});
        let patched = apply(object, patch.clone(), packed(POD)).expect("the patch applies");
        let (old, new, all) =
            (names(&before), names(&patch["spec"]["containers"]), names(&patched["spec"]["containers"]));
        let mut expected: Vec<&str> = old.iter().chain(&new).copied().collect();
        expected.sort_unstable();
        expected.dedup();
        let mut sorted = all.clone();
        sorted.sort_unstable();
        prop_assert_eq!(sorted, expected);
        let of_patch: Vec<&str> = all.iter().filter(|n| new.contains(n)).copied().collect();
        prop_assert_eq!(of_patch, new.clone());
        let of_others: Vec<&str> = all.iter().filter(|n| !new.contains(n)).copied().collect();
        let old_others: Vec<&str> = old.iter().filter(|n| !new.contains(n)).copied().collect();
        prop_assert_eq!(of_others, old_others);
    }

    #[test]
    fn the_empty_patch_changes_nothing(current in containers()) {
        let object = json!({"spec": {"containers": current}});
        prop_assert_eq!(apply(object.clone(), json!({}), packed(POD)), Ok(object));
    }
}

#[test]
fn long_lists_merge() {
    const N: usize = 20_000;
    let env = |from: usize, text: &str| -> Vec<Value> {
        (from..from + N).map(|i| json!({ "name": format!("V{i}"), "value": text })).collect()
    };
    let pod = |env: Vec<Value>| json!({ "spec": { "containers": [{ "name": "c", "env": env }] } });
    let patched = apply(pod(env(0, "old")), pod(env(N / 2, "new")), packed(POD)).expect("it fits");
    let merged = patched["spec"]["containers"][0]["env"].as_array().expect("a list");
    assert_eq!(merged.len(), N + N / 2);
    assert_eq!(merged.iter().filter(|e| e["value"] == "new").count(), N);

    let gone: Vec<Value> = (0..N).map(|i| json!({ "$patch": "delete", "name": format!("V{i}") })).collect();
    let patched = apply(pod(env(0, "old")), pod(gone), packed(POD)).expect("it fits");
    assert_eq!(patched["spec"]["containers"][0]["env"], json!([]));

    let names: Vec<Value> = (0..N).rev().map(|i| json!({ "name": format!("V{i}") })).collect();
    let mut order = pod(Vec::new());
    order["spec"]["containers"][0] = json!({ "name": "c", "$setElementOrder/env": names });
    let patched = apply(pod(env(0, "old")), order, packed(POD)).expect("it fits");
    assert_eq!(patched["spec"]["containers"][0]["env"][0]["name"], format!("V{}", N - 1));

    let finalizers = |from: usize| (from..from + N).map(|i| json!(format!("a.io/{i}"))).collect::<Vec<_>>();
    let meta = |key: &str, list: Vec<Value>| json!({ "metadata": { key: list } });
    let patched = apply(meta("finalizers", finalizers(0)), meta("finalizers", finalizers(N / 2)), packed(POD));
    assert_eq!(patched.expect("it fits")["metadata"]["finalizers"].as_array().expect("a list").len(), N + N / 2);
    let delete = meta("$deleteFromPrimitiveList/finalizers", finalizers(0));
    let patched = apply(meta("finalizers", finalizers(0)), delete, packed(POD)).expect("it fits");
    assert_eq!(patched["metadata"]["finalizers"], json!([]));

    let data: Fields = (0..N).map(|i| (format!("k{i}"), json!("v"))).collect();
    let mut retained = data.clone();
    retained.insert("$retainKeys".to_owned(), data.keys().cloned().collect());
    apply(json!({ "data": data }), json!({ "data": retained }), packed(CONFIG_MAP)).expect("it fits");
}

#[test]
fn items_without_their_key_keep_their_place() {
    let port = |p: i64| json!({ "port": p });
    let mut ports: Vec<Value> = (1..=40).rev().map(port).collect();
    for at in [3, 9, 17, 30] {
        ports.insert(at, json!({ "name": format!("keyless-{at}") }));
    }
    let order: Vec<Value> = [7, 2, 31].map(port).to_vec();
    let patch = json!({ "spec": { "$setElementOrder/ports": order, "ports": [{ "port": 31, "name": "x" }] } });
    let patched = apply(json!({ "spec": { "ports": ports } }), patch, packed(SERVICE)).expect("it fits");
    let merged = patched["spec"]["ports"].as_array().expect("a list");
    assert_eq!(merged.len(), 44);
    let keyless: Vec<&Value> = merged.iter().filter(|p| p.get("port").is_none()).map(|p| &p["name"]).collect();
    assert_eq!(keyless, ["keyless-3", "keyless-9", "keyless-17", "keyless-30"]);
}

#[test]
fn texts_are_not_taken_for_other_values() {
    let list = |items: Value| json!({ "metadata": { "finalizers": items } });
    let patched = apply(list(json!(["true", "null", "1"])), list(json!([true, null, 1, "=true"])), packed(POD));
    let merged = patched.expect("it fits");
    assert_eq!(merged["metadata"]["finalizers"].as_array().expect("a list").len(), 7);
}

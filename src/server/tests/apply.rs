//! Server-side apply and `managedFields`, as clients see them.

use super::*;
use crate::api::kinds::deployment::Deployments;
use k8s_openapi::api::apps::v1::Deployment;

const MAPS: &str = "/api/v1/namespaces/default/configmaps";
const WEBS: &str = "/apis/apps/v1/namespaces/default/deployments";
const APPLY: [(&str, &str); 1] = [("content-type", "application/apply-patch+yaml")];

fn map(data: &str) -> String {
    format!("{{apiVersion: v1, kind: ConfigMap, metadata: {{name: a}}, data: {data}}}")
}

fn web(spec: &str) -> String {
    format!(
        "{{apiVersion: apps/v1, kind: Deployment, metadata: {{name: web}}, spec: {{{spec}selector: {{matchLabels: {{app: web}}}}, \
         template: {{metadata: {{labels: {{app: web}}}}, spec: {{containers: [{{name: c, image: i}}]}}}}}}}}"
    )
}

impl Desk {
    async fn apply(&self, url: &str, query: &str, config: &str) -> Answer {
        self.ask("PATCH", &format!("{url}?{query}"), &APPLY, config).await
    }
}

#[tokio::test]
async fn an_apply_creates_changes_and_changes_nothing() {
    let desk = Desk::open().await;
    let one = format!("{MAPS}/a");
    let made = desk.apply(&one, "fieldManager=me", &map("{k: v}")).await;
    assert_eq!((made.code, &made.json()["data"]["k"]), (201, &json!("v")), "{}", made.text);
    let entry = &made.json()["metadata"]["managedFields"][0];
    assert_eq!(
        (&entry["manager"], &entry["operation"], &entry["fieldsType"]),
        (&json!("me"), &json!("Apply"), &json!("FieldsV1"))
    );
    assert_eq!(entry["fieldsV1"], json!({ "f:data": { "f:k": {} } }));
    let same = desk.apply(&one, "fieldManager=me", &map("{k: v}")).await;
    assert_eq!((same.code, same.json()), (200, made.json()), "nothing was written");
    let next = desk.apply(&one, "fieldManager=me", &map("{l: w}")).await.json();
    assert_eq!(next["data"], json!({ "l": "w" }));
    let dry = desk.apply(&one, "fieldManager=me&dryRun=All", &map("{m: x}")).await.json();
    assert_eq!((&dry["data"], &desk.get(&one).await.json()["data"]), (&json!({ "m": "x" }), &json!({ "l": "w" })));
    let table = desk.get(&format!("{one}?includeObject=None")).await;
    assert_eq!(table.code, 200);
}

#[tokio::test]
async fn a_conflict_names_who_owns_what_and_force_takes_it() {
    let desk = Desk::open().await;
    let one = format!("{WEBS}/web");
    let agent = [("user-agent", "kubectl/v1.37.0 (linux)")];
    let made = desk
        .ask("POST", WEBS, &agent, &serde_yaml::from_str::<Value>(&web("replicas: 1, ")).unwrap().to_string())
        .await;
    assert_eq!(made.code, 201, "{}", made.text);
    let owner = &made.json()["metadata"]["managedFields"][0];
    assert_eq!((&owner["manager"], &owner["operation"]), (&json!("kubectl"), &json!("Update")));
    assert!(owner["fieldsV1"]["f:spec"]["f:template"]["f:spec"]["f:containers"]["k:{\"name\":\"c\"}"]["."].is_object());
    assert_eq!(owner["fieldsV1"].get("f:status"), None);
    let refused = desk.apply(&one, "fieldManager=me", &web("replicas: 2, ")).await;
    let time = made.json()["metadata"]["creationTimestamp"].as_str().unwrap().to_owned();
    let by = format!("conflict with \"kubectl\" using apps/v1 at {time}");
    assert_eq!(refused.refusal(), format!("409 Apply failed with 1 conflict: {by}: .spec.replicas"));
    let cause = json!({ "reason": "FieldManagerConflict", "message": by, "field": ".spec.replicas" });
    assert_eq!(refused.json()["details"]["causes"], json!([cause]));
    let forced = desk.apply(&one, "fieldManager=me&force=true", &web("replicas: 2, ")).await.json();
    assert_eq!((&forced["spec"]["replicas"], &forced["metadata"]["generation"]), (&json!(2), &json!(2)));
    // Who scales takes the number over, and is named with the sub-resource.
    let scale = json!({ "metadata": { "name": "web" }, "spec": { "replicas": 3 } }).to_string();
    desk.ask("PUT", &format!("{one}/scale?fieldManager=scaler"), &[], &scale).await;
    let refused = desk.apply(&one, "fieldManager=me", &web("replicas: 2, ")).await.refusal();
    assert!(refused.contains("conflict with \"scaler\" with subresource \"scale\" using apps/v1 at"), "{refused}");
    let shared = desk.apply(&one, "fieldManager=me", &web("")).await.json();
    assert_eq!(shared["spec"]["replicas"], 3, "it is the scaler's now");
}

#[tokio::test]
async fn the_status_has_managers_of_its_own() {
    let desk = Desk::open().await;
    let one = format!("{WEBS}/web");
    desk.apply(&one, "fieldManager=me", &web("")).await;
    let status = "{apiVersion: apps/v1, kind: Deployment, metadata: {name: web}, status: {replicas: 1}}";
    let done = desk.apply(&format!("{one}/status"), "fieldManager=eye", status).await.json();
    assert_eq!(done["status"]["replicas"], 1);
    let managers = done["metadata"]["managedFields"].as_array().unwrap();
    let eye = managers.iter().find(|m| m["manager"] == "eye").unwrap();
    assert_eq!(
        (&eye["subresource"], &eye["fieldsV1"]),
        (&json!("status"), &json!({ "f:status": { "f:replicas": {} } }))
    );
    let again = desk.apply(&one, "fieldManager=me", &web("")).await.json();
    assert_eq!(again["status"]["replicas"], 1);
}

#[tokio::test]
async fn what_is_no_configuration_is_refused() {
    let desk = Desk::open().await;
    let one = format!("{MAPS}/a");
    let said = async |query: &str, config: &str| desk.apply(&one, query, config).await.refusal();
    assert_eq!(
        said("", &map("{}")).await,
        "422 PatchOptions.meta.k8s.io \"\" is invalid: fieldManager: Required value: is required for apply patch"
    );
    assert_eq!(said("fieldManager=me", "{kind: ConfigMap}").await, "400 the configuration must have apiVersion");
    assert!(said("fieldManager=me", "{").await.starts_with("400 error decoding YAML: "));
    let managed = "{apiVersion: v1, kind: ConfigMap, metadata: {name: a, managedFields: [{}]}}";
    assert_eq!(said("fieldManager=me", managed).await, "400 metadata.managedFields must be nil");
    let odd = map("{}").replace("data", "datum");
    assert_eq!(
        said("fieldManager=me", &odd).await,
        "400 failed to create typed patch object (default/a; v1, Kind=ConfigMap): .datum: field not declared in schema"
    );
    let other = map("{}").replace("name: a", "name: b");
    assert!(said("fieldManager=me", &other).await.contains("metadata.name: Invalid value: \"b\": field is immutable"));
    let twice = "{apiVersion: v1, kind: ConfigMap, metadata: {name: a}, data: {k: v, k: w}}";
    assert_eq!(
        said("fieldManager=me&fieldValidation=Strict", twice).await,
        "400 error strict decoding YAML: duplicate field \"data.k\""
    );
    assert_eq!(desk.get(&one).await.code, 404, "nothing was made");
}

#[tokio::test]
async fn patches_may_rewrite_the_managers_as_kubectl_does_to_migrate() {
    let desk = Desk::open().await;
    let one = format!("{MAPS}/a");
    let body = json!({ "metadata": { "name": "a" }, "data": { "k": "v" } }).to_string();
    let made = desk.ask("POST", &format!("{MAPS}?fieldManager=kubectl-client-side-apply"), &[], &body).await.json();
    let mut managers = made["metadata"]["managedFields"].clone();
    managers[0]["operation"] = json!("Apply");
    managers[0]["manager"] = json!("kubectl");
    let patch = json!([{ "op": "replace", "path": "/metadata/managedFields", "value": managers }]).to_string();
    let moved = desk.ask("PATCH", &one, &[("content-type", "application/json-patch+json")], &patch).await.json();
    assert_eq!(moved["metadata"]["managedFields"][0]["manager"], "kubectl");
    let applied = desk.apply(&one, "fieldManager=kubectl", &map("{l: w}")).await.json();
    assert_eq!(applied["data"], json!({ "l": "w" }), "what it owned and no longer says is gone");
    let cleared = json!({ "metadata": { "managedFields": [{}] } }).to_string();
    let merge = [("content-type", "application/merge-patch+json")];
    let cleared = desk.ask("PATCH", &one, &merge, &cleared).await.json();
    assert_eq!(cleared["metadata"].get("managedFields"), None);
}

#[tokio::test(start_paused = true)]
async fn the_cluster_owns_what_it_writes_of_what_clients_made() {
    let desk = Desk::open().await;
    let one = format!("{WEBS}/web");
    assert_eq!(desk.apply(&one, "fieldManager=me", &web("")).await.code, 201);
    let key = ObjectKey::new("default", "web");
    let deployments = desk.registry.api::<Deployments>();
    let observe = |d: &mut Deployment| d.status.get_or_insert_default().observed_generation = Some(1);
    deployments.modify_status(&key, observe).await.unwrap();
    deployments.modify(&key, |d| d.spec.replicas = Some(3)).await.unwrap();
    // The number of a rollout is written with the status, as kube-controller-manager does: it needs no entry of its own.
    let number = |d: &mut Deployment| {
        d.metadata.annotations = Some([("deployment.kubernetes.io/revision".to_owned(), "1".to_owned())].into());
    };
    deployments.modify_status(&key, number).await.unwrap();
    let managers = desk.get(&one).await.json()["metadata"]["managedFields"].take();
    let told: Vec<String> = managers
        .as_array()
        .unwrap()
        .iter()
        .map(|m| {
            let fields = &m["fieldsV1"];
            format!("{} {} {} {}", m["manager"], m["subresource"], fields["f:metadata"], fields["f:status"])
        })
        .collect();
    let revision = r#"{"f:annotations":{".":{},"f:deployment.kubernetes.io/revision":{}}}"#;
    assert_eq!(
        told,
        [
            "\"me\" null null null".to_owned(),
            "\"kube-controller-manager\" null null null".to_owned(),
            format!("\"kube-controller-manager\" \"status\" {revision} {{\"f:observedGeneration\":{{}}}}"),
        ]
    );
    let status = "{apiVersion: apps/v1, kind: Deployment, metadata: {name: web}, status: {observedGeneration: 9}}";
    let refused = desk.apply(&format!("{one}/status"), "fieldManager=me", status).await;
    let text = "409 Apply failed with 1 conflict: conflict with \"kube-controller-manager\" with subresource \"status\" using apps/v1";
    assert!(refused.refusal().starts_with(text), "{}", refused.text);
    // What nobody's client made has no managers, and gets none.
    desk.pod("own").await;
    desk.registry
        .api::<Pods>()
        .modify_status(&ObjectKey::new("default", "own"), |p| {
            p.status.get_or_insert_default().phase = Some("Running".to_owned());
        })
        .await
        .unwrap();
    assert!(desk.get("/api/v1/namespaces/default/pods/own").await.json()["metadata"].get("managedFields").is_none());
}

//! Projects, as `oc new-project`, `oc projects` and `oc delete project` ask for them.

use super::*;

const PROJECTS: &str = "/apis/project.openshift.io/v1/projects";
const REQUESTS: &str = "/apis/project.openshift.io/v1/projectrequests";

fn wish(name: &str) -> String {
    json!({
        "kind": "ProjectRequest", "apiVersion": "project.openshift.io/v1", "metadata": { "name": name },
        "displayName": "The shop", "description": "sells",
    })
    .to_string()
}

#[tokio::test]
async fn a_wish_becomes_a_namespace_of_which_the_requester_is_admin() {
    let desk = Desk::open().await;
    assert_eq!(desk.get(REQUESTS).await.json()["status"], "Success", "wishes are taken");
    let made = desk.ask("POST", REQUESTS, &[], &wish("shop")).await;
    assert_eq!(made.code, 201, "{}", made.text);
    let project = made.json();
    assert_eq!((&project["kind"], &project["status"]["phase"]), (&json!("Project"), &json!("Active")));
    let annotations = &desk.get("/api/v1/namespaces/shop").await.json()["metadata"]["annotations"];
    assert_eq!(annotations["openshift.io/display-name"], "The shop");
    assert_eq!(annotations["openshift.io/requester"], admin().name);
    let bound = desk.get("/apis/rbac.authorization.k8s.io/v1/namespaces/shop/rolebindings/admin").await.json();
    assert_eq!((&bound["roleRef"]["name"], &bound["subjects"][0]["name"]), (&json!("admin"), &json!(admin().name)));
    let again = desk.ask("POST", REQUESTS, &[], &wish("shop")).await;
    assert_eq!(again.refusal(), "409 projects.project.openshift.io \"shop\" already exists");
    assert_eq!(desk.ask("POST", REQUESTS, &[], &wish("")).await.code, 422);
}

#[tokio::test]
async fn a_project_is_read_changed_and_deleted_as_its_namespace() {
    let desk = Desk::open().await;
    desk.ask("POST", REQUESTS, &[], &wish("shop")).await;
    let names: Vec<Value> = desk.get(PROJECTS).await.json()["items"]
        .as_array()
        .unwrap()
        .iter()
        .map(|p| p["metadata"]["name"].clone())
        .collect();
    assert!(names.contains(&json!("shop")), "{names:?}");
    let one = format!("{PROJECTS}/shop");
    let change = json!({ "metadata": { "labels": { "a": "b" } }, "spec": { "finalizers": [] } }).to_string();
    let changed = desk.ask("PATCH", &one, &[("content-type", "application/merge-patch+json")], &change).await;
    assert_eq!(changed.json()["spec"]["finalizers"], json!(["kubernetes"]), "{}", changed.text);
    assert_eq!(desk.get("/api/v1/namespaces/shop").await.json()["metadata"]["labels"]["a"], "b");
    let gone = desk.ask("DELETE", &one, &[], "").await;
    assert_eq!(gone.code, 200, "{}", gone.text);
    assert_eq!(desk.get(&one).await.json()["status"]["phase"], "Terminating", "its content goes first");
}

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
    let merge = [("content-type", "application/merge-patch+json")];
    let change =
        json!({ "metadata": { "annotations": { "openshift.io/display-name": "Ours" } }, "spec": { "finalizers": [] } });
    let changed = desk.ask("PATCH", &one, &merge, &change.to_string()).await;
    assert_eq!(changed.json()["spec"]["finalizers"], json!(["kubernetes"]), "{}", changed.text);
    let annotations = &desk.get("/api/v1/namespaces/shop").await.json()["metadata"]["annotations"];
    assert_eq!(annotations["openshift.io/display-name"], "Ours");
    // Selectors of namespaces find it still.
    let picked = desk.get("/api/v1/namespaces?fieldSelector=name%3Dshop,status.phase%3DActive").await.json();
    assert_eq!(picked["items"][0]["metadata"]["name"], "shop", "{picked}");
    let labelled = json!({ "metadata": { "labels": { "a": "b" } } }).to_string();
    let refused = desk.ask("PATCH", &one, &merge, &labelled).await.refusal();
    assert!(
        refused.ends_with("labels[a]: Invalid value: \"b\": field is immutable, try updating the namespace"),
        "{refused}"
    );
    let gone = desk.ask("DELETE", &one, &[], "").await;
    assert_eq!(gone.code, 200, "{}", gone.text);
    assert_eq!(desk.get(&one).await.json()["status"]["phase"], "Terminating", "its content goes first");
}

#[tokio::test]
async fn everybody_sees_the_projects_that_are_theirs() {
    let desk = Desk::with_roles().await;
    let jane = [("impersonate-user", "jane")];
    for name in ["shop", "vault"] {
        assert_eq!(desk.ask("POST", REQUESTS, &[], &wish(name)).await.code, 201);
    }
    let listed = async |headers: &[(&str, &str)], query: &str| {
        let answer = desk.ask("GET", &format!("{PROJECTS}{query}"), headers, "").await;
        assert_eq!(answer.code, 200, "{}", answer.text);
        let items = answer.json()["items"].as_array().unwrap().clone();
        items.iter().map(|item| item["metadata"]["name"].as_str().unwrap().to_owned()).collect::<Vec<_>>().join(" ")
    };
    assert_eq!(listed(&jane, "").await, "");
    let refused = desk.ask("GET", REQUESTS, &jane, "").await.refusal();
    assert!(refused.ends_with("is forbidden: you may not request a new project via this API"), "{refused}");
    assert!(listed(&[], "").await.ends_with("shop vault"), "who may read all sees all");
    assert_eq!(listed(&[], "?fieldSelector=metadata.name%3Dshop,status.phase%3DActive").await, "shop");
    let mut events = desk.watch(&format!("{PROJECTS}?watch=true"), &jane).await;
    // What `admin` is the sum of; a controller adds it up.
    for role in
        ["system:aggregate-to-view", "system:openshift:aggregate-to-view", "system:openshift:aggregate-to-admin"]
    {
        let binding = json!({
            "metadata": { "generateName": "jane-" }, "subjects": [{ "kind": "User", "name": "jane" }],
            "roleRef": { "apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": role },
        });
        let bindings = "/apis/rbac.authorization.k8s.io/v1/namespaces/shop/rolebindings";
        assert_eq!(desk.ask("POST", bindings, &[], &binding.to_string()).await.code, 201);
    }
    assert_eq!((listed(&jane, "").await, listed(&jane, "?limit=1").await), ("shop".to_owned(), "shop".to_owned()));

    // What is hers she may read and name; of another she hears nothing.
    let one = format!("{PROJECTS}/shop");
    assert_eq!(desk.ask("GET", &one, &jane, "").await.code, 200);
    let other = desk.ask("GET", &format!("{PROJECTS}/vault"), &jane, "").await.refusal();
    assert!(other.starts_with("403 ") && other.ends_with("in the namespace \"vault\""), "{other}");
    let named = json!({ "metadata": { "annotations": { "openshift.io/display-name": "Hers" } } }).to_string();
    let merge = ("content-type", "application/merge-patch+json");
    assert_eq!(desk.ask("PATCH", &format!("{PROJECTS}/vault"), &[merge], &named).await.code, 200);
    let answer = desk.ask("PATCH", &one, &[merge, jane[0]], &named).await;
    assert_eq!(answer.code, 200, "{}", answer.text);
    let event = events.next().await.unwrap();
    assert_eq!((&event["type"], &event["object"]["metadata"]["name"]), (&json!("MODIFIED"), &json!("shop")));
    assert_eq!(desk.ask("DELETE", &one, &jane, "").await.code, 200);
}

#[tokio::test]
async fn whoever_logs_in_with_a_password_is_told_what_to_do() {
    let desk = Desk::with_roles().await;
    let ask = async |url: &str| desk.ask_by(None, "GET", url, &[("host", "h:6443")], "").await;
    let metadata = ask("/.well-known/oauth-authorization-server").await.json();
    assert_eq!(metadata["authorization_endpoint"], "https://h:6443/oauth/authorize");
    let sent_on = ask("/oauth/authorize?client_id=openshift-challenging-client&response_type=code").await;
    let to = sent_on.headers["location"].to_str().unwrap();
    assert_eq!(sent_on.code, 302);
    assert!(
        to.starts_with(
            "https://h:6443/oauth/token/implicit?error=access_denied&error_description=skiff%20has%20no%20passwords%3A"
        ),
        "{to}"
    );
    assert!(ask("/oauth/token/implicit").await.text.contains("oc login --token"));
}

#[tokio::test]
async fn builds_are_none_and_are_refused_with_what_to_do() {
    let desk = Desk::open().await;
    let url = "/apis/build.openshift.io/v1/namespaces/default/buildconfigs";
    let listed = desk.get(url).await.json();
    assert_eq!((&listed["kind"], &listed["items"]), (&json!("BuildConfigList"), &json!([])));
    // As `oc new-build` and `kubectl apply --server-side` send it.
    let build = json!({ "kind": "BuildConfig", "apiVersion": "build.openshift.io/v1", "metadata": { "name": "web" } })
        .to_string();
    let apply = [("content-type", "application/apply-patch+yaml")];
    for answer in [
        desk.ask("POST", url, &[], &build).await,
        desk.ask("PATCH", &format!("{url}/web?fieldManager=x"), &apply, &build).await,
    ] {
        assert!(
            answer.refusal().starts_with("400 skiff does not support builds: make the image with `docker build"),
            "{}",
            answer.text
        );
    }
}

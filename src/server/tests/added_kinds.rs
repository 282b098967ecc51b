//! Kinds that come and go while the server runs, as clients see them.

use super::*;
use crate::{
    api::{
        json_kind::{JsonKind, Naming, Rules},
        kind::Scope,
    },
    base::task,
    controllers,
    registry::pipeline::Selection,
};

const WIDGETS: &str = "/apis/example.com/v1/namespaces/default/widgets";

fn naming(scope: Scope) -> Naming {
    Naming {
        group: "example.com".into(),
        version: "v1".into(),
        kind: "Widget".into(),
        plural: "widgets".into(),
        singular: "widget".into(),
        short_names: vec!["wd".into()],
        categories: vec!["all".into()],
        scope,
        has_status: true,
    }
}

fn widgets(size: &str) -> Arc<JsonKind> {
    let schema = json!({ "type": "object", "properties": {
        "spec": { "type": "object", "properties": { "size": { "type": size } } },
        "status": { "type": "object", "properties": { "phase": { "type": "string" } } },
    } });
    Arc::new(JsonKind::added(naming(Scope::Namespaced), &schema, Rules { has_generation: true, ..Rules::PLAIN }))
}

impl Desk {
    async fn make(&self, body: Value) -> Answer {
        self.ask("POST", WIDGETS, &[("content-type", "application/json")], &body.to_string()).await
    }
}

fn named(name: &str) -> Value {
    json!({ "apiVersion": "example.com/v1", "kind": "Widget", "metadata": { "name": name } })
}

#[tokio::test]
async fn an_added_kind_is_served_as_the_others_are_and_goes_again() {
    let desk = Desk::open().await;
    assert_eq!(desk.get(WIDGETS).await.code, 404);
    let before = desk.get("/openapi/v3").await.json();
    desk.registry.add_kind(widgets("integer")).unwrap();

    let mut widget = named("a");
    widget["spec"] = json!({ "size": 1, "odd": true });
    let made = desk.make(widget).await;
    assert_eq!((made.code, &made.json()["metadata"]["generation"]), (201, &json!(1)));
    assert!(made.headers["warning"].to_str().unwrap().contains("unknown field \\\"spec.odd\\\""), "{:?}", made.headers);
    let one = format!("{WIDGETS}/a");
    let merge = [("content-type", "application/merge-patch+json")];
    let patched = desk.ask("PATCH", &one, &merge, r#"{"spec":{"size":2},"status":{"phase":"x"}}"#).await.json();
    assert_eq!((&patched["spec"], &patched["metadata"]["generation"]), (&json!({ "size": 2 }), &json!(2)));
    assert_eq!(patched.get("status"), None);
    let status = desk.ask("PATCH", &format!("{one}/status"), &merge, r#"{"status":{"phase":"x"}}"#).await.json();
    assert_eq!((&status["status"]["phase"], &status["metadata"]["generation"]), (&json!("x"), &json!(2)));
    let wrong = desk.ask("PATCH", &one, &merge, r#"{"spec":{"size":"big"}}"#).await;
    assert!(wrong.refusal().contains("cannot unmarshal string into Go struct field"), "{}", wrong.refusal());
    let table =
        desk.ask("GET", WIDGETS, &[("accept", "application/json;as=Table;v=v1;g=meta.k8s.io")], "").await.json();
    assert_eq!(table["rows"][0]["cells"][0], "a");

    let resources = desk.get("/apis/example.com/v1").await.json();
    assert_eq!(resources["resources"][0]["shortNames"], json!(["wd"]));
    assert!(desk.get("/apis").await.text.contains("example.com"));
    let document = desk.get("/openapi/v3/apis/example.com/v1").await.json();
    assert!(document["components"]["schemas"]["com.example.v1.Widget"].is_object());
    assert!(desk.get("/openapi/v2").await.text.contains("com.example.v1.WidgetList"));
    assert_ne!(desk.get("/openapi/v3").await.json(), before);

    assert_eq!(desk.ask("DELETE", &one, &[], "").await.code, 200);
    desk.registry.remove_kind("example.com", "v1", "widgets");
    assert_eq!((desk.get(WIDGETS).await.code, desk.get("/apis/example.com").await.code), (404, 404));
    assert_eq!(desk.get("/openapi/v3").await.json(), before);
}

#[tokio::test]
async fn watches_end_with_their_kind_or_its_form_and_others_go_on() {
    let desk = Desk::open().await;
    desk.registry.add_kind(widgets("integer")).unwrap();
    let mut maps = desk.watch("/api/v1/configmaps?watch=true&fieldSelector=metadata.name%3Dlater", &[]).await;
    let mut first = desk.watch(&format!("{WIDGETS}?watch=true"), &[]).await;
    desk.make(named("a")).await;
    assert_eq!(first.next().await.unwrap()["object"]["metadata"]["name"], "a");
    desk.registry.add_kind(widgets("string")).unwrap();
    assert_eq!(first.next().await, None, "the kind has another form");
    let mut second = desk.watch(&format!("{WIDGETS}?watch=true"), &[]).await;
    assert_eq!(second.next().await.unwrap()["object"]["metadata"]["name"], "a");
    desk.registry.remove_kind("example.com", "v1", "widgets");
    assert_eq!(second.next().await, None, "the kind is gone");
    desk.config_map("later", json!({})).await;
    assert_eq!(maps.next().await.unwrap()["type"], "ADDED");
}

#[tokio::test]
async fn a_name_of_the_api_itself_cannot_be_taken() {
    let desk = Desk::open().await;
    let taken = Naming { group: "apps".into(), plural: "deployments".into(), ..naming(Scope::Namespaced) };
    let refused = desk.registry.add_kind(Arc::new(JsonKind::added(taken, &json!({}), Rules::PLAIN))).unwrap_err();
    assert_eq!(refused.to_string(), "deployments.apps is a kind of the API itself");
}

#[tokio::test(start_paused = true)]
async fn owners_and_namespaces_take_objects_of_an_added_kind_with_them() {
    let desk = Desk::open().await;
    let config = controllers::ControllersConfig::default();
    let loops = task::spawn("controllers", controllers::run_all(desk.registry.clone(), config, desk.drain.clone()));
    desk.registry.add_kind(widgets("integer")).unwrap();
    let in_team = |body: Value| {
        let url = WIDGETS.replace("/default/", "/team/");
        let desk = &desk;
        async move { desk.ask("POST", &url, &[], &body.to_string()).await }
    };
    desk.ask("POST", "/api/v1/namespaces", &[], r#"{"metadata":{"name":"team"}}"#).await;
    assert_eq!(in_team(named("free")).await.code, 201);
    desk.config_map("owner", json!({})).await;
    let owner = desk.get("/api/v1/namespaces/default/configmaps/owner").await.json();
    let mut dependent = named("owned");
    dependent["metadata"]["ownerReferences"] =
        json!([{ "apiVersion": "v1", "kind": "ConfigMap", "name": "owner", "uid": owner["metadata"]["uid"] }]);
    desk.make(dependent).await;
    desk.delete("owner").await;
    desk.ask("DELETE", "/api/v1/namespaces/team", &[], "").await;
    let kind = desk.registry.kinds().stored("example.com", "widgets").unwrap().clone();
    let left = || desk.registry.snapshot(&*kind, "", &Selection::default()).entries.len();
    let gone = async {
        while left() > 0 || desk.get("/api/v1/namespaces/team").await.code != 404 {
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    };
    tokio::time::timeout(Duration::from_mins(1), gone).await.expect("they go");
    desk.trigger.fire();
    loops.await.unwrap();
}

//! Routes, as `oc expose` and `oc create route` make them.

use super::*;

const ROUTES: &str = "/apis/route.openshift.io/v1/namespaces/default/routes";
const COLUMNS: [(&str, &str); 1] = [("accept", "application/json;as=Table;v=v1;g=meta.k8s.io")];

/// What `oc expose service web` sends.
fn exposed(name: &str) -> Value {
    json!({
        "kind": "Route", "apiVersion": "route.openshift.io/v1",
        "metadata": { "name": name, "creationTimestamp": null, "labels": { "app": "web" } },
        "spec": {
            "host": "", "to": { "kind": "", "name": "web", "weight": null }, "port": { "targetPort": "8080" },
        },
        "status": {},
    })
}

/// What `oc create route edge secure --service web --hostname … --insecure-policy Redirect` sends.
fn edge(host: &str) -> Value {
    json!({
        "kind": "Route", "apiVersion": "route.openshift.io/v1", "metadata": { "name": "secure", "creationTimestamp": null },
        "spec": {
            "host": host, "to": { "kind": "", "name": "web", "weight": null },
            "tls": { "termination": "edge", "insecureEdgeTerminationPolicy": "Redirect" },
        },
        "status": { "ingress": null },
    })
}

async fn as_user(desk: &Desk, user: &str, method: &str, url: &str, body: &Value) -> Answer {
    let headers = [("impersonate-user", user), ("content-type", "application/merge-patch+json")];
    let headers = if method == "PATCH" { &headers[..] } else { &headers[..1] };
    desk.ask(method, url, headers, &body.to_string()).await
}

#[tokio::test]
async fn what_oc_expose_and_oc_create_route_send_becomes_a_route() {
    let desk = Desk::open().await;
    let made = desk.ask("POST", ROUTES, &[], &exposed("web").to_string()).await;
    assert_eq!(made.code, 201, "{}", made.text);
    let route = made.json();
    assert_eq!(route["spec"]["host"], "web-default.apps.localhost");
    assert_eq!(route["spec"]["to"], json!({ "kind": "Service", "name": "web", "weight": 100 }));
    assert_eq!(route["metadata"]["annotations"]["openshift.io/host.generated"], "true");
    let secure = desk.ask("POST", ROUTES, &[], &edge("shop.localhost").to_string()).await;
    assert_eq!(secure.code, 201, "{}", secure.text);
    let table = desk.ask("GET", ROUTES, &COLUMNS, "").await.json();
    let cells: Vec<&Value> = table["rows"].as_array().unwrap().iter().map(|row| &row["cells"]).collect();
    assert_eq!(
        cells,
        [
            &json!(["secure", "shop.localhost", "", "web", "<all>", "edge/Redirect", "None"]),
            &json!(["web", "web-default.apps.localhost", "", "web", "8080", "", "None"]),
        ]
    );
    // `oc set route-backends web web=80 other=20`.
    let backends = json!({ "spec": {
        "to": { "kind": "Service", "name": "web", "weight": 80 },
        "alternateBackends": [{ "kind": "Service", "name": "other", "weight": 20 }],
    } });
    let patch = [("content-type", "application/merge-patch+json")];
    let changed = desk.ask("PATCH", &format!("{ROUTES}/web"), &patch, &backends.to_string()).await;
    assert_eq!(changed.json()["spec"]["alternateBackends"][0]["weight"], 20, "{}", changed.text);
    let named = desk.get(&format!("{ROUTES}?fieldSelector=spec.host%3Dshop.localhost")).await.json();
    assert_eq!(named["items"].as_array().unwrap().len(), 1);
}

#[tokio::test]
async fn a_name_that_is_made_gives_a_host_of_its_own() {
    let desk = Desk::open().await;
    let mut route = exposed("");
    route["metadata"] = json!({ "generateName": "web-" });
    let made = desk.ask("POST", ROUTES, &[], &route.to_string()).await.json();
    let name = made["metadata"]["name"].as_str().unwrap();
    assert_eq!(made["spec"]["host"], format!("{name}-default.apps.localhost"));
}

#[tokio::test]
async fn the_manifest_of_a_route_applied_again_keeps_its_host() {
    let desk = Desk::open().await;
    let one = format!("{ROUTES}/web?fieldManager=me");
    let apply = [("content-type", "application/apply-patch+yaml")];
    let mut manifest = exposed("web");
    manifest["spec"] = json!({ "to": { "kind": "Service", "name": "web" } });
    manifest["metadata"] = json!({ "name": "web" });
    manifest.as_object_mut().unwrap().remove("status");
    let made = desk.ask("PATCH", &one, &apply, &manifest.to_string()).await;
    assert_eq!(made.code, 201, "{}", made.text);
    let again = desk.ask("PATCH", &one, &apply, &manifest.to_string()).await;
    assert_eq!((again.code, again.json()), (200, made.json()), "{}", again.text);
}

#[tokio::test]
async fn who_chooses_a_host_or_a_certificate_may_do_so() {
    let desk = Desk::with_roles().await;
    let rules = json!([{
        "verbs": ["create", "get", "patch", "update"], "apiGroups": ["route.openshift.io"], "resources": ["routes"],
    }]);
    let rbac = "/apis/rbac.authorization.k8s.io/v1/namespaces/default";
    let role = json!({ "metadata": { "name": "routes" }, "rules": rules });
    let binding = |name: &str, kind: &str, user: &str| {
        json!({
            "metadata": { "name": user }, "subjects": [{ "kind": "User", "name": user }],
            "roleRef": { "apiGroup": "rbac.authorization.k8s.io", "kind": kind, "name": name },
        })
    };
    assert_eq!(desk.ask("POST", &format!("{rbac}/roles"), &[], &role.to_string()).await.code, 201);
    for bound in
        [binding("routes", "Role", "jane"), binding("system:openshift:aggregate-to-edit", "ClusterRole", "max")]
    {
        let made = desk.ask("POST", &format!("{rbac}/rolebindings"), &[], &bound.to_string()).await;
        assert_eq!(made.code, 201, "{}", made.text);
    }
    assert_eq!(
        as_user(&desk, "jane", "POST", ROUTES, &exposed("web")).await.code,
        201,
        "a made host is nobody's choice"
    );
    assert_eq!(
        as_user(&desk, "jane", "POST", ROUTES, &edge("shop.localhost")).await.refusal(),
        "422 Route.route.openshift.io \"secure\" is invalid: spec.host: Forbidden: you do not have permission to set the host field of the route"
    );
    let one = format!("{ROUTES}/web");
    assert_eq!(
        as_user(&desk, "jane", "PATCH", &one, &json!({ "spec": { "host": "mine.localhost" } })).await.refusal(),
        "422 Route.route.openshift.io \"web\" is invalid: spec.host: Invalid value: \"mine.localhost\": you do not have permission to set the host field of the route"
    );
    let certificate = json!({ "spec": { "tls": { "termination": "edge", "certificate": "x" } } });
    assert_eq!(
        as_user(&desk, "jane", "PATCH", &one, &certificate).await.refusal(),
        "422 Route.route.openshift.io \"web\" is invalid: spec.tls: Forbidden: you do not have permission to set certificate fields on the route"
    );
    let secret = json!({ "spec": { "tls": { "termination": "edge", "externalCertificate": { "name": "s" } } } });
    assert_eq!(
        as_user(&desk, "jane", "PATCH", &one, &secret).await.refusal(),
        "422 Route.route.openshift.io \"web\" is invalid: spec.tls.externalCertificate: Forbidden: you do not have permission to get this secret"
    );
    let label = json!({ "metadata": { "labels": { "a": "b" } }, "spec": { "host": "" } });
    assert_eq!(as_user(&desk, "jane", "PATCH", &one, &label).await.code, 200, "what stays is nobody's choice");
    assert_eq!(as_user(&desk, "max", "POST", ROUTES, &edge("shop.localhost")).await.code, 201, "editors may");
}

//! Where Routes and Ingresses answer, as their status has it: for the command line. Pure but for reading the store.

use crate::{
    api::{
        agreements::{INGRESS_CLASS, ROUTER_NAME},
        json_kind::JsonKind,
        kinds::{ingress::INGRESSES, route::ROUTES},
    },
    registry::{Registry, pipeline::Selection},
};
use serde_json::Value;

/// Whether the router has told everything: each Route has a word of it, and each Ingress of its class an address. An Ingress that gets
/// none because others have its hosts is not told from one that waits.
pub(super) fn are_told(registry: &Registry) -> bool {
    let routes = all(registry, &ROUTES);
    let is_told = |route: &Value| of_router(route).is_some();
    routes.iter().all(is_told)
        && all(registry, &INGRESSES).iter().filter(|i| is_ours(i)).all(|i| !addresses(i).is_null())
}

/// Each Route and Ingress that answers, as kubectl names it, and its URLs.
pub(super) fn urls(registry: &Registry) -> Vec<(String, Vec<String>)> {
    let routes = all(registry, &ROUTES);
    let routes = routes.iter().map(|route| (format!("route/{}", name(route)), urls_of_route(route)));
    let ingresses = all(registry, &INGRESSES);
    let ingresses = ingresses.iter().filter(|ingress| is_ours(ingress));
    let ingresses = ingresses.map(|ingress| (format!("ingress/{}", name(ingress)), urls_of_ingress(ingress)));
    routes.chain(ingresses).filter(|(_, urls)| !urls.is_empty()).collect()
}

fn all(registry: &Registry, kind: &JsonKind) -> Vec<Value> {
    let entries = registry.snapshot(kind, "", &Selection::default()).entries;
    entries.iter().map(|entry| serde_json::from_slice(&entry.value).expect("stored objects are JSON")).collect()
}

fn name(object: &Value) -> &str {
    object["metadata"]["name"].as_str().unwrap_or_default()
}

fn is_ours(ingress: &Value) -> bool {
    ingress["spec"]["ingressClassName"] == INGRESS_CLASS
}

/// What the router says of a Route.
fn of_router(route: &Value) -> Option<&Value> {
    route["status"]["ingress"].as_array()?.iter().find(|ingress| ingress["routerName"] == ROUTER_NAME)
}

/// The URLs of a Route: the router says in words where it answers.
pub(crate) fn urls_of_route(route: &Value) -> Vec<String> {
    let condition = of_router(route).map(|ingress| &ingress["conditions"][0]);
    let admitted = condition.filter(|condition| condition["status"] == "True");
    let words = admitted.and_then(|condition| condition["message"].as_str()).unwrap_or_default().split(' ');
    let mut path = route["spec"]["path"].as_str().unwrap_or_default();
    if path == "/" {
        path = "";
    }
    words.filter(|word| word.contains("://")).map(|url| format!("{url}{path}")).collect()
}

fn addresses(ingress: &Value) -> &Value {
    &ingress["status"]["loadBalancer"]["ingress"]
}

/// The URLs of an Ingress: the first port that it has is that of plain HTTP.
pub(crate) fn urls_of_ingress(ingress: &Value) -> Vec<String> {
    let Some(port) = addresses(ingress)[0]["ports"][0]["port"].as_u64() else { return Vec::new() };
    let port = if port == 80 { String::new() } else { format!(":{port}") };
    let rules = ingress["spec"]["rules"].as_array().into_iter().flatten();
    let mut hosts: Vec<&str> = rules.map(|rule| rule["host"].as_str().unwrap_or("localhost")).collect();
    hosts.dedup();
    hosts.into_iter().map(|host| format!("http://{host}{port}")).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn urls_are_those_that_the_router_tells() {
        let route = |status: &str, message: &str| {
            json!({ "spec": { "path": "/x" }, "status": { "ingress": [
                { "routerName": "other" },
                { "routerName": ROUTER_NAME, "conditions": [{ "status": status, "message": message }] },
            ] } })
        };
        let answers = "Answers at http://a.b:8080 and https://a.b:8443";
        assert_eq!(urls_of_route(&route("True", answers)), ["http://a.b:8080/x", "https://a.b:8443/x"]);
        assert_eq!(urls_of_route(&route("False", answers)), Vec::<String>::new());
        assert_eq!(urls_of_route(&json!({})), Vec::<String>::new());
        let ingress = |port: u16| {
            json!({ "spec": { "rules": [{ "host": "a.b" }, { "host": "a.b" }, {}] },
                "status": { "loadBalancer": { "ingress": [{ "ip": "127.0.0.1", "ports": [{ "port": port }] }] } } })
        };
        assert_eq!(urls_of_ingress(&ingress(80)), ["http://a.b", "http://localhost"]);
        assert_eq!(urls_of_ingress(&ingress(8080))[0], "http://a.b:8080");
        assert_eq!(urls_of_ingress(&json!({})), Vec::<String>::new());
    }
}

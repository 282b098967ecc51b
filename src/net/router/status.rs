//! What the router says of Routes and Ingresses in their status. Pure.
//!
//! Called by the role `skiff proxy` once it knows which ports it has; what is said already is not said again.
//!
//! **Source**: github.com/openshift/router, `pkg/router/controller/status.go`, release 4.20; `pkg/apis/networking/types.go`, v1.37.

use super::{
    Bound,
    objects::Route,
    plan::{Verdict, owner},
    table::{Owner, OwnerKind},
};
use crate::{
    api::agreements::{ROUTE_DOMAIN, ROUTER_NAME},
    base::ordered::Map,
};
use jiff::Timestamp;
use k8s_openapi::api::networking::v1::Ingress;
use serde_json::{Value, json};

/// What is to be written: the body of a patch of each object's status.
pub type Statuses = Map<Owner, Value>;

/// The statuses that do not say yet what they should.
pub fn to_tell<'a>(
    routes: impl IntoIterator<Item = &'a Route>,
    ingresses: impl IntoIterator<Item = &'a Ingress>,
    verdicts: &Map<Owner, Verdict>,
    bound: &Bound,
    now: Timestamp,
) -> Statuses {
    let of_route = |route: &Route| {
        let owner = owner(OwnerKind::Route, &route.metadata);
        let status = route_status(route, verdicts.get(&owner)?, bound, now)?;
        Some((owner, status))
    };
    let of_ingress = |ingress: &Ingress| {
        let owner = owner(OwnerKind::Ingress, &ingress.metadata);
        let status = ingress_status(ingress, verdicts.get(&owner), bound)?;
        Some((owner, status))
    };
    routes.into_iter().filter_map(of_route).chain(ingresses.into_iter().filter_map(of_ingress)).collect()
}

/// Where something answers, for people.
pub fn urls(verdict: &Verdict, bound: &Bound) -> Vec<String> {
    let host = if verdict.host.is_empty() || verdict.host == "*" { "localhost" } else { &verdict.host };
    let url = |scheme: &str, usual: u16, port: u16| {
        if port == usual { format!("{scheme}://{host}") } else { format!("{scheme}://{host}:{port}") }
    };
    let plain = bound.http.filter(|_| verdict.has_plain).map(|port| url("http", 80, port));
    let secure = bound.https.filter(|_| verdict.has_tls).map(|port| url("https", 443, port));
    plain.into_iter().chain(secure).collect()
}

fn route_status(route: &Route, verdict: &Verdict, bound: &Bound, now: Timestamp) -> Option<Value> {
    let all = route.status.ingress.as_deref().unwrap_or_default();
    let mine = |ingress: &&Value| ingress["routerName"] == ROUTER_NAME;
    let before = all.iter().find(mine);
    let said = before.map(|ingress| &ingress["conditions"][0]);
    let (status, reason, message) = match verdict.rejections.first() {
        Some(rejection) => ("False", rejection.reason, rejection.message.clone()),
        None => ("True", "", format!("Answers at {}", urls(verdict, bound).join(" and "))),
    };
    let since = said.filter(|said| said["status"] == status).map(|said| said["lastTransitionTime"].clone());
    let mut condition = json!({
        "type": "Admitted", "status": status,
        "lastTransitionTime": since.unwrap_or_else(|| json!(format!("{now:.0}"))),
    });
    for (name, text) in [("reason", reason), ("message", &message)] {
        if !text.is_empty() {
            condition[name] = json!(text);
        }
    }
    let wanted = json!({
        "host": verdict.host, "routerName": ROUTER_NAME,
        "routerCanonicalHostname": format!("router-{ROUTER_NAME}.{ROUTE_DOMAIN}"),
        "wildcardPolicy": route.spec.wildcard_policy, "conditions": [condition],
    });
    if before == Some(&wanted) {
        return None;
    }
    let others = all.iter().filter(|ingress| ingress["routerName"] != ROUTER_NAME).cloned();
    let ingress: Vec<Value> = others.chain([wanted]).collect();
    Some(json!({ "metadata": { "uid": route.metadata.uid }, "status": { "ingress": ingress } }))
}

/// An Ingress that is not the router's any more keeps no address of it; one that never was is left alone.
fn ingress_status(ingress: &Ingress, verdict: Option<&Verdict>, bound: &Bound) -> Option<Value> {
    let said = ingress.status.as_ref().and_then(|s| s.load_balancer.as_ref()).and_then(|lb| lb.ingress.as_ref());
    let said = serde_json::to_value(said).unwrap_or_default();
    let is_served = verdict?.is_served;
    let wanted = match bound.address.filter(|_| is_served) {
        Some(address) => {
            let ports = bound.http.into_iter().chain(bound.https);
            let ports: Vec<Value> = ports.map(|port| json!({ "port": port, "protocol": "TCP" })).collect();
            json!([{ "ip": address, "ports": ports }])
        }
        None => Value::Null,
    };
    if said == wanted {
        return None;
    }
    Some(json!({
        "metadata": { "uid": ingress.metadata.uid }, "status": { "loadBalancer": { "ingress": wanted } },
    }))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::net::router::plan::Rejection;

    fn bound(http: u16, https: u16) -> Bound {
        Bound { address: Some("127.0.0.1".parse().unwrap()), http: Some(http), https: Some(https) }
    }

    fn verdict(rejections: Vec<Rejection>) -> Verdict {
        let is_served = rejections.is_empty();
        Verdict { host: "a.b".into(), is_served, has_tls: true, has_plain: true, rejections }
    }

    fn route(status: Value) -> Route {
        serde_json::from_value(json!({
            "metadata": { "namespace": "shop", "name": "web", "uid": "u" },
            "spec": { "host": "a.b", "wildcardPolicy": "None", "to": { "name": "web" } }, "status": status,
        }))
        .unwrap()
    }

    fn at(second: i64) -> Timestamp {
        Timestamp::from_second(second).unwrap()
    }

    #[test]
    fn a_route_is_told_where_it_answers_or_why_not_once() {
        let first = route_status(&route(json!({})), &verdict(vec![]), &bound(80, 8443), at(0)).unwrap();
        let said = &first["status"]["ingress"][0];
        assert_eq!(said["conditions"][0]["message"], "Answers at http://a.b and https://a.b:8443");
        assert_eq!(said["conditions"][0]["lastTransitionTime"], "1970-01-01T00:00:00Z");
        assert_eq!((&said["routerName"], &said["host"]), (&json!("default"), &json!("a.b")));
        let told = route(first["status"].clone());
        assert_eq!(route_status(&told, &verdict(vec![]), &bound(80, 8443), at(9)), None);
        let moved = route_status(&told, &verdict(vec![]), &bound(8080, 8443), at(9)).unwrap();
        assert_eq!(moved["status"]["ingress"][0]["conditions"][0]["lastTransitionTime"], "1970-01-01T00:00:00Z");
        let why = Rejection { reason: "HostAlreadyClaimed", message: "m".into() };
        let rejected = route_status(&told, &verdict(vec![why]), &bound(80, 8443), at(9)).unwrap();
        let condition = &rejected["status"]["ingress"][0]["conditions"][0];
        assert_eq!((&condition["status"], &condition["reason"]), (&json!("False"), &json!("HostAlreadyClaimed")));
        assert_eq!(condition["lastTransitionTime"], "1970-01-01T00:00:09Z");
    }

    #[test]
    fn what_other_routers_said_stays() {
        let other = json!({ "ingress": [{ "routerName": "other", "host": "a.b" }] });
        let told = route_status(&route(other), &verdict(vec![]), &bound(80, 443), at(0)).unwrap();
        let names: Vec<&Value> =
            told["status"]["ingress"].as_array().unwrap().iter().map(|i| &i["routerName"]).collect();
        assert_eq!(names, ["other", "default"]);
    }

    #[test]
    fn an_ingress_has_the_routers_address_while_it_is_served() {
        let ingress = |status: Value| -> Ingress {
            serde_json::from_value(json!({ "metadata": { "name": "web", "uid": "u" }, "status": status })).unwrap()
        };
        let first = ingress_status(&ingress(json!({})), Some(&verdict(vec![])), &bound(80, 443)).unwrap();
        assert_eq!(
            first["status"]["loadBalancer"]["ingress"],
            json!([{ "ip": "127.0.0.1", "ports": [{ "port": 80, "protocol": "TCP" }, { "port": 443, "protocol": "TCP" }] }])
        );
        let told = ingress(first["status"].clone());
        assert_eq!(ingress_status(&told, Some(&verdict(vec![])), &bound(80, 443)), None);
        let lost = Verdict { is_served: false, ..verdict(vec![]) };
        assert_eq!(
            ingress_status(&told, Some(&lost), &bound(80, 443)).unwrap()["status"]["loadBalancer"]["ingress"],
            Value::Null
        );
        assert_eq!(ingress_status(&told, None, &bound(80, 443)), None, "of another class");
    }
}

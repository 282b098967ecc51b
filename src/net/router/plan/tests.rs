//! Who has which host and path, and what is told to who has not.

use super::*;
use crate::net::router::table::host_of;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use serde_json::{Value, json};
use std::fmt::Write as _;

/// What there is.
#[derive(Default)]
struct Scene {
    routes: Vec<Route>,
    ingresses: Vec<Ingress>,
    classes: Vec<IngressClass>,
    services: Vec<Service>,
    slices: Vec<EndpointSlice>,
    certificates: Certificates,
}

/// Objects that are made later are younger.
fn meta(namespace: &str, name: &str, second: i64) -> Value {
    let created = Time(jiff::Timestamp::from_second(second).unwrap());
    json!({ "namespace": namespace, "name": name, "uid": format!("uid-{name}"), "creationTimestamp": created })
}

impl Scene {
    fn new() -> Self {
        let mut scene = Self::default();
        let class = |name: &str, controller: &str, default: &str| -> IngressClass {
            let metadata = json!({ "name": name, "annotations": { DEFAULT_ANNOTATION: default } });
            serde_json::from_value(json!({ "metadata": metadata, "spec": { "controller": controller } })).unwrap()
        };
        scene.classes =
            vec![class("skiff", INGRESS_CONTROLLER, "true"), class("nginx", "k8s.io/ingress-nginx", "false")];
        for namespace in ["shop", "other"] {
            scene.service(namespace, "web", json!([{ "name": "http", "port": 80, "targetPort": 8080 }]));
            scene.slice(namespace, "web", json!([{ "name": "http", "port": 8080 }]));
        }
        scene
    }

    fn n(&self) -> i64 {
        i64::try_from(self.routes.len() + self.ingresses.len()).unwrap()
    }

    fn route(&mut self, name: &str, spec: Value) -> &mut Self {
        self.route_in("shop", name, spec)
    }

    fn route_in(&mut self, namespace: &str, name: &str, mut spec: Value) -> &mut Self {
        if spec.get("to").is_none() {
            spec["to"] = json!({ "kind": "Service", "name": "web", "weight": 100 });
        }
        let route = json!({ "metadata": meta(namespace, name, self.n()), "spec": spec });
        self.routes.push(serde_json::from_value(route).unwrap());
        self
    }

    fn ingress(&mut self, name: &str, spec: Value) -> &mut Self {
        let ingress = json!({ "metadata": meta("shop", name, self.n()), "spec": spec });
        self.ingresses.push(serde_json::from_value(ingress).unwrap());
        self
    }

    fn annotate(&mut self, key: &str, value: &str) -> &mut Self {
        let of_route = self.routes.last_mut().map(|route| &mut route.metadata);
        let of_ingress = self.ingresses.last_mut().map(|ingress| &mut ingress.metadata);
        let newest = of_route.into_iter().chain(of_ingress).max_by_key(|meta| meta.creation_timestamp.clone()).unwrap();
        newest.annotations.get_or_insert_default().insert(key.to_owned(), value.to_owned());
        self
    }

    fn service(&mut self, namespace: &str, name: &str, ports: Value) {
        let spec = json!({ "clusterIP": "10.245.0.9", "ports": ports });
        let service = json!({ "metadata": { "namespace": namespace, "name": name }, "spec": spec });
        self.services.push(serde_json::from_value(service).unwrap());
    }

    fn slice(&mut self, namespace: &str, service: &str, ports: Value) {
        let labels = json!({ "kubernetes.io/service-name": service });
        let metadata = json!({ "namespace": namespace, "name": service, "labels": labels });
        let slice = json!({ "metadata": metadata, "addressType": "IPv4", "ports": ports, "endpoints": [] });
        self.slices.push(serde_json::from_value(slice).unwrap());
    }

    fn plan(&self) -> Planned {
        let check = |pair: &Pair| if pair.key == "bad" { Err("it is bad".to_owned()) } else { Ok(()) };
        plan(&Objects {
            routes: &self.routes.iter().collect::<Vec<_>>(),
            ingresses: &self.ingresses.iter().collect::<Vec<_>>(),
            classes: &self.classes.iter().collect::<Vec<_>>(),
            services: &self.services.iter().collect::<Vec<_>>(),
            slices: &self.slices.iter().collect::<Vec<_>>(),
            certificates: &self.certificates,
            check: &check,
        })
    }

    /// Who answers for a URL, how, and with what.
    fn ask(&self, url: &str) -> String {
        let planned = self.plan();
        let (host, path) = url.split_once('/').unwrap();
        let Some(rule) = planned.table.lookup(&host_of(host), &format!("/{path}")) else { return "nobody".to_owned() };
        let mut text = format!("{} {}", rule.owner.name, rule.path.text());
        match rule.plain {
            Plain::Serve => {}
            Plain::Redirect(code) => write!(text, " redirect {code}").unwrap(),
            Plain::Refuse => text.push_str(" no-http"),
        }
        if rule.serves_tls {
            text.push_str(" tls");
        }
        for Backend { service, weight, ports, is_http2 } in &rule.backends {
            let ports = match ports {
                Ok(ports) => ports.iter().map(|port| port.port.clone()).collect::<Vec<_>>().join("+"),
                Err(why) => format!("({why})"),
            };
            let http2 = if *is_http2 { " h2" } else { "" };
            write!(text, " | {service}:{ports} {weight}{http2}").unwrap();
        }
        text
    }

    /// What an object is told: nothing when all of it is served.
    fn told(&self, name: &str) -> String {
        let verdicts = self.plan().verdicts;
        let (_, verdict) = verdicts.iter().find(|(owner, _)| owner.name == name).unwrap();
        let lines = verdict.rejections.iter().map(|r| format!("{}: {}", r.reason, r.message));
        lines.collect::<Vec<_>>().join("\n")
    }
}

fn path(path: &str, kind: &str, service: &str, port: Value) -> Value {
    json!({ "path": path, "pathType": kind, "backend": { "service": { "name": service, "port": port } } })
}

fn prefix(at: &str) -> Value {
    path(at, "Prefix", "web", json!({ "number": 80 }))
}

fn rules(host: &str, paths: &[Value]) -> Value {
    json!({ "rules": [{ "host": host, "http": { "paths": paths } }] })
}

#[test]
fn a_route_leads_to_its_service_below_its_path() {
    let mut scene = Scene::new();
    scene.route("web", json!({ "host": "a.b" })).route("api", json!({ "host": "a.b", "path": "/api" }));
    assert_eq!(scene.ask("a.b/"), "web / | web:http 100");
    assert_eq!(scene.ask("A.B:8080/api/x"), "api /api | web:http 100");
    assert_eq!(scene.ask("a.b/apix"), "web / | web:http 100");
    assert_eq!(scene.ask("c.d/"), "nobody");
}

#[test]
fn a_subdomain_is_below_the_routers_domain_and_a_wildcard_is_one_label() {
    let mut scene = Scene::new();
    scene.route("sub", json!({ "subdomain": "shop" }));
    scene.route("wild", json!({ "host": "www.b.c", "wildcardPolicy": "Subdomain" }));
    assert_eq!(scene.ask("shop.apps.localhost/"), "sub / | web:http 100");
    assert_eq!(scene.ask("any.b.c/"), "wild / | web:http 100");
    assert_eq!(scene.ask("b.c/"), "nobody");
}

#[test]
fn a_route_without_a_host_that_can_be_used_is_told_so() {
    let mut scene = Scene::new();
    scene.route("none", json!({})).route("bad", json!({ "host": "a_b" }));
    scene.route("top", json!({ "host": "localhost", "wildcardPolicy": "Subdomain" }));
    assert_eq!(scene.told("none"), "NoHostValue: no host value was defined for the route");
    assert!(scene.told("bad").starts_with("InvalidHost: a_b: a lowercase RFC 1123 subdomain"));
    assert_eq!(scene.told("top"), "InvalidHost: localhost has no subdomain for wildcardPolicy Subdomain");
}

#[test]
fn the_oldest_has_a_host_and_path_and_its_namespace_the_host() {
    let mut scene = Scene::new();
    scene.route("first", json!({ "host": "a.b" })).route("second", json!({ "host": "a.b" }));
    scene.route("path", json!({ "host": "a.b", "path": "/x" }));
    scene.route_in("other", "foreign", json!({ "host": "a.b", "path": "/y" }));
    assert_eq!(scene.told("first"), "");
    assert_eq!(scene.told("second"), "HostAlreadyClaimed: route first already exposes a.b and is older");
    assert_eq!(scene.told("path"), "");
    assert_eq!(
        scene.told("foreign"),
        "HostAlreadyClaimed: a route in another namespace holds a.b and is older than foreign"
    );
    assert_eq!(scene.ask("a.b/y"), "first / | web:http 100");
    // The order of the objects says nothing.
    let before = scene.plan();
    scene.routes.reverse();
    scene.services.reverse();
    assert_eq!(scene.plan(), before);
    scene.routes.retain(|route| route.metadata.name.as_deref() != Some("first"));
    assert_eq!(scene.told("second"), "", "it takes over");
}

#[test]
fn routes_and_ingresses_claim_alike() {
    let mut scene = Scene::new();
    scene.ingress("ing", rules("a.b", &[prefix("/"), prefix("/x")])).route("late", json!({ "host": "a.b" }));
    assert_eq!(scene.told("late"), "HostAlreadyClaimed: ingress ing already exposes a.b and is older");
    let mut scene = Scene::new();
    scene.route("early", json!({ "host": "a.b" })).ingress("ing", rules("a.b", &[prefix("/"), prefix("/x")]));
    assert_eq!(scene.told("ing"), "HostAlreadyClaimed: a.b/: Route shop/early has it and is older");
    assert_eq!(scene.ask("a.b/x"), "ing /x tls | web:http 1", "the rest of it is served");
}

#[test]
fn ports_of_a_route_are_those_of_the_endpoints() {
    let mut scene = Scene::new();
    let two = json!([{ "name": "http", "port": 80, "targetPort": 8080 }, { "name": "admin", "port": 81, "targetPort": "adm" }]);
    scene.service("shop", "two", two);
    scene.slice("shop", "two", json!([{ "name": "http", "port": 8080 }, { "name": "admin", "port": 9000 }]));
    let mut of = |name: &str, port: Value| {
        let port = if port.is_null() { Value::Null } else { json!({ "targetPort": port }) };
        let host = format!("{name}.b");
        scene.route(name, json!({ "host": host, "port": port, "to": { "name": "two", "weight": 1 } }));
        scene.ask(&format!("{host}/"))
    };
    assert_eq!(of("all", Value::Null), "all / | two:http+admin 1");
    assert_eq!(of("named", json!("admin")), "named / | two:admin 1");
    assert_eq!(of("number", json!(9000)), "number / | two:admin 1");
    assert_eq!(
        of("missing", json!(81)),
        "missing / | two:(the Service two has no endpoint port 81, but 8080, 9000, admin, http) 1"
    );
    scene.route("gone", json!({ "host": "gone.b", "to": { "name": "gone", "weight": 1 } }));
    assert_eq!(scene.ask("gone.b/"), "gone / | gone:(the Service gone does not exist) 1");
}

#[test]
fn weights_of_alternate_backends_are_kept() {
    let mut scene = Scene::new();
    scene.service("shop", "b", json!([{ "port": 80, "appProtocol": "kubernetes.io/h2c" }]));
    scene.route(
        "web",
        json!({
            "host": "a.b", "to": { "name": "web", "weight": 80 }, "alternateBackends": [{ "name": "b", "weight": 20 }],
        }),
    );
    assert_eq!(scene.ask("a.b/"), "web / | web:http 80 | b: 20 h2");
}

#[test]
fn tls_of_routes_ends_where_they_say_and_plain_http_is_as_they_say() {
    let mut scene = Scene::new();
    let mut of = |name: &str, tls: Value| {
        let host = format!("{name}.b");
        scene.route(name, json!({ "host": host, "tls": tls }));
        scene.ask(&format!("{host}/"))
    };
    let tls = |termination: &str, policy: &str| json!({ "termination": termination, "insecureEdgeTerminationPolicy": policy });
    assert_eq!(of("edge", tls("edge", "")), "edge / no-http tls | web:http 100");
    assert_eq!(of("none", tls("edge", "None")), "none / no-http tls | web:http 100");
    assert_eq!(of("allow", tls("edge", "Allow")), "allow / tls | web:http 100");
    assert_eq!(of("redirect", tls("reencrypt", "Redirect")), "redirect / redirect 302 tls | web:http 100");
    assert_eq!(of("pass", tls("passthrough", "Redirect")), "pass / redirect 302 | web:http 100");
    let table = scene.plan().table;
    assert_eq!(table.passthrough("pass.b").unwrap().owner.name, "pass");
    assert!(table.passthrough("edge.b").is_none());
    let wire = |host: &str| table.lookup(host, "/").unwrap().wire.clone();
    assert_eq!((wire("edge.b"), wire("redirect.b")), (Wire::Plain, Wire::Tls(Trust::Cluster)));
}

#[test]
fn a_certificate_is_the_routes_own_or_that_of_a_secret() {
    let mut scene = Scene::new();
    let pair = |text: &str, key: &str| Pair { certificate: text.to_owned(), key: key.to_owned() };
    let by_secret = [("shop/s", pair("of the secret", "k")), ("shop/bad", pair("x", "bad"))];
    scene.certificates.by_secret = by_secret.map(|(name, pair)| (name.to_owned(), pair)).into();
    let edge = |more: Value| {
        let mut tls = json!({ "termination": "edge" });
        tls.as_object_mut().unwrap().extend(more.as_object().cloned().unwrap());
        tls
    };
    for (name, more) in [
        ("own", json!({ "certificate": "mine", "key": "k", "caCertificate": "ca" })),
        ("secret", json!({ "externalCertificate": { "name": "s" } })),
        ("gone", json!({ "externalCertificate": { "name": "gone" } })),
        ("bad", json!({ "externalCertificate": { "name": "bad" } })),
        ("keyless", json!({ "certificate": "mine" })),
    ] {
        scene.route(name, json!({ "host": format!("{name}.b"), "tls": edge(more) }));
    }
    let table = scene.plan().table;
    let shown = |host: &str| table.certificate(host).map(|pair| pair.certificate.as_str());
    assert_eq!((shown("own.b"), shown("secret.b")), (Some("mine\nca"), Some("of the secret")));
    assert_eq!(
        scene.told("gone"),
        "ExtendedValidationFailed: spec.tls.externalCertificate: Secret gone is not there, or not of type kubernetes.io/tls"
    );
    assert_eq!(scene.told("bad"), "ExtendedValidationFailed: spec.tls.externalCertificate: it is bad");
    assert_eq!(scene.told("keyless"), "ExtendedValidationFailed: spec.tls.key: no key specified");
    assert_eq!(scene.ask("gone.b/"), "nobody");
}

#[test]
fn an_ingress_is_the_routers_by_its_class() {
    let mut scene = Scene::new();
    let of = |class: Value, host: &str| {
        let mut spec = rules(host, &[prefix("/")]);
        spec["ingressClassName"] = class;
        spec
    };
    scene.ingress("mine", of(json!("skiff"), "mine.b")).ingress("theirs", of(json!("nginx"), "theirs.b"));
    scene.ingress("nobodys", of(json!("gone"), "gone.b")).ingress("plain", of(Value::Null, "plain.b"));
    scene.ingress("old", of(Value::Null, "old.b")).annotate(CLASS_ANNOTATION, "nginx");
    let asked = ["mine.b/", "theirs.b/", "gone.b/", "plain.b/", "old.b/"].map(|url| scene.ask(url));
    let (mine, plain) = ("mine / tls | web:http 1", "plain / tls | web:http 1");
    assert_eq!(asked, [mine, "nobody", "nobody", plain, "nobody"]);
    assert_eq!(scene.plan().verdicts.len(), 2, "others' are told nothing");
    scene.classes[0].metadata.annotations = None;
    assert_eq!(scene.ask("plain.b/"), "nobody", "another class is the default");
}

#[test]
fn ports_of_an_ingress_are_those_of_the_service() {
    let mut scene = Scene::new();
    let paths = [
        path("/number", "Prefix", "web", json!({ "number": 80 })),
        path("/name", "Exact", "web", json!({ "name": "http" })),
        path("/missing", "ImplementationSpecific", "web", json!({ "number": 8080 })),
        path("/gone", "Prefix", "gone", json!({ "number": 80 })),
    ];
    scene.ingress("ing", rules("a.b", &paths));
    assert_eq!(scene.ask("a.b/number"), "ing /number tls | web:http 1");
    assert_eq!(scene.ask("a.b/name"), "ing /name tls | web:http 1");
    assert_eq!(scene.ask("a.b/name/x"), "nobody");
    assert_eq!(scene.ask("a.b/missing/x"), "ing /missing tls | web:(the Service web has no port 8080, but 80, http) 1");
    assert_eq!(scene.ask("a.b/gone"), "ing /gone tls | gone:(the Service gone does not exist) 1");
}

#[test]
fn a_default_backend_answers_for_what_no_rule_is_for() {
    let mut scene = Scene::new();
    let mut spec = rules("a.b", &[prefix("/x")]);
    spec["defaultBackend"] = json!({ "service": { "name": "web", "port": { "number": 80 } } });
    scene.ingress("ing", spec);
    scene.ingress("any", rules("", &[prefix("/any")]));
    assert_eq!(scene.ask("a.b/y"), "ing * tls | web:http 1");
    assert_eq!(scene.ask("anything/any/x"), "any /any tls | web:http 1");
    assert_eq!(scene.ask("anything/"), "ing * tls | web:http 1");
}

#[test]
fn an_ingress_with_tls_sends_plain_http_there_unless_it_says_otherwise() {
    let mut scene = Scene::new();
    let secured = |host: &str| {
        let mut spec = rules(host, &[prefix("/")]);
        spec["tls"] = json!([{ "hosts": [host], "secretName": "s" }]);
        spec
    };
    scene.ingress("ing", secured("a.b"));
    assert_eq!(scene.ask("a.b/"), "ing / redirect 308 tls | web:http 1");
    assert_eq!(
        scene.told("ing"),
        "CertificateUnusable: Secret s is not there, or not of type kubernetes.io/tls: a certificate of the cluster's authority is used instead"
    );
    scene.ingress("both", secured("c.d")).annotate("nginx.ingress.kubernetes.io/ssl-redirect", "false");
    assert_eq!(scene.ask("c.d/"), "both / tls | web:http 1");
    scene
        .ingress("force", rules("e.f", &[prefix("/")]))
        .annotate("nginx.ingress.kubernetes.io/force-ssl-redirect", "true");
    assert_eq!(scene.ask("e.f/"), "force / redirect 308 tls | web:http 1");
    let mut wild = rules("x.w.b", &[prefix("/")]);
    wild["tls"] = json!([{ "hosts": ["*.w.b"] }]);
    scene.ingress("wild", wild);
    assert_eq!(scene.ask("x.w.b/"), "wild / redirect 308 tls | web:http 1");
}

#[test]
fn what_endpoints_of_an_ingress_speak_is_told_by_an_annotation() {
    let mut scene = Scene::new();
    let mut of = |name: &str, protocol: &str| {
        let host = format!("{name}.b");
        scene
            .ingress(name, rules(&host, &[prefix("/")]))
            .annotate("nginx.ingress.kubernetes.io/backend-protocol", protocol);
        let rule = Arc::clone(scene.plan().table.lookup(&host, "/").unwrap());
        (rule.wire.clone(), rule.backends[0].is_http2)
    };
    assert_eq!(of("a", "HTTP"), (Wire::Plain, false));
    assert_eq!(of("b", "HTTPS"), (Wire::Tls(Trust::Anything), false));
    assert_eq!(of("c", "GRPC"), (Wire::Plain, true));
    assert_eq!(of("d", "GRPCS"), (Wire::Tls(Trust::Anything), true));
}

#[test]
fn a_route_has_a_cookie_of_its_own_unless_it_wants_none() {
    let mut scene = Scene::new();
    scene.route("a", json!({ "host": "a.b" })).route("b", json!({ "host": "b.b" }));
    scene.route("none", json!({ "host": "none.b" })).annotate("haproxy.router.openshift.io/disable_cookies", "true");
    scene.route("named", json!({ "host": "named.b" })).annotate("router.openshift.io/cookie_name", "cart");
    scene.ingress("ing", rules("ing.b", &[prefix("/")]));
    let table = scene.plan().table;
    let cookie = |host: &str| table.lookup(host, "/").unwrap().cookie.clone();
    assert_ne!(cookie("a.b"), cookie("b.b"));
    assert_eq!(cookie("a.b").unwrap().len(), 32);
    assert_eq!([cookie("none.b"), cookie("named.b"), cookie("ing.b")], [None, Some("cart".to_owned()), None]);
}

#[test]
fn the_services_that_are_led_to_are_known_before_there_is_a_plan() {
    let mut scene = Scene::new();
    scene.route("r", json!({ "host": "a.b", "alternateBackends": [{ "name": "b", "weight": 1 }] }));
    scene.ingress("i", rules("c.d", &[path("/", "Prefix", "c", json!({ "number": 80 }))]));
    let found = routed_services(&scene.routes, &scene.ingresses);
    let names: Vec<String> = found.into_iter().map(|(namespace, name)| format!("{namespace}/{name}")).collect();
    assert_eq!(names, ["shop/b", "shop/c", "shop/web"]);
}

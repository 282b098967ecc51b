//! The certificates that the router shows: copies of those in Secrets that Ingresses and Routes name, and one of the cluster's authority
//! for every other host.
//!
//! The data plane has neither the authority's key nor the right to read Secrets: it gets one Secret, `kube-system/skiff-router`, with what
//! it needs and nothing else. Hosts below the domain of Routes share a wildcard. While nothing needs a certificate there is no Secret.

use super::{
    cluster_objects::changes_of,
    runtime::{Action, Controller, Decision, Trigger},
};
use crate::{
    api::{
        agreements::{INGRESS_CONTROLLER, ROUTE_DOMAIN, ROUTER_SECRET, SYSTEM_NAMESPACE},
        json_kind::JsonKind,
        kind::KindRef,
        kinds::{
            ingress::{CLASS_ANNOTATION, INGRESSES},
            ingress_class::{DEFAULT_ANNOTATION, INGRESS_CLASSES},
            route::ROUTES,
            secret::Secrets,
        },
        meta::ObjectKey,
        router_certificates::{Certificates, DATA_KEY, Pair},
    },
    base::ordered::{Map, Set},
    registry::{Registry, pipeline::Selection},
};
use k8s_openapi::{ByteString, api::core::v1::Secret, apimachinery::pkg::apis::meta::v1::ObjectMeta};
use serde_json::Value;
use std::{collections::BTreeMap, sync::Arc, time::Duration};
use tracing::warn;

/// The type of Secrets with a certificate.
const TLS: &str = "kubernetes.io/tls";
/// How many hosts get a certificate of the authority: what a Secret can hold, with room for copies.
const HOSTS_MAX: usize = 400;
/// How often it is looked whether a certificate ends soon.
const RENEW_PERIOD: Duration = Duration::from_secs(24 * 3600);

/// Makes certificates of the cluster's authority.
pub trait Issuer: Send + Sync + 'static {
    /// A certificate for a host, or for a wildcard.
    ///
    /// # Errors
    /// Why there is none.
    fn issue(&self, host: &str) -> Result<Pair, String>;
    /// Whether a certificate is one that would be made, and lasts for long enough.
    fn is_good(&self, pair: &Pair, host: &str) -> bool;
}

/// The controller.
#[derive(Clone)]
pub struct RouterCertificates {
    /// Who makes certificates.
    pub issuer: Arc<dyn Issuer>,
}

impl std::fmt::Debug for RouterCertificates {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("RouterCertificates").finish_non_exhaustive()
    }
}

/// What there is, and what there should be.
#[derive(Clone, Debug)]
pub struct Observed {
    wanted: Certificates,
    found: Option<Arc<Secret>>,
}

impl Controller for RouterCertificates {
    /// All of them together.
    type Key = ();
    type Observed = Observed;

    fn name(&self) -> &'static str {
        "router-certificates"
    }

    fn triggers(&self) -> Vec<Trigger<()>> {
        let any = |kind: &'static JsonKind| Trigger::on_erased(KindRef::BuiltIn(kind), |_, _, _, keys| keys.push(()));
        let secrets = Trigger::on::<Secrets>(|_, moved, keys| {
            keys.extend(moved.states().any(|secret| secret.type_.as_deref() == Some(TLS)).then_some(()));
        });
        vec![any(&ROUTES), any(&INGRESSES), any(&INGRESS_CLASSES), secrets, changes_of::<Secrets>(key())]
    }

    fn first_keys(&self) -> Vec<()> {
        vec![()]
    }

    fn observe(&self, registry: &Registry, _key: &()) -> Option<Observed> {
        let all = |kind: &JsonKind| -> Vec<Value> {
            let entries = registry.snapshot(kind, "", &Selection::default()).entries;
            entries.iter().map(|entry| serde_json::from_slice(&entry.value).expect("stored objects are JSON")).collect()
        };
        let needs = needs(&all(&ROUTES), &all(&INGRESSES), &all(&INGRESS_CLASSES));
        let found = registry.api::<Secrets>().get(&key());
        let secret = |name: &str| {
            let (namespace, name) = name.split_once('/')?;
            pair_of(&*registry.api::<Secrets>().get(&ObjectKey::new(namespace, name))?)
        };
        let wanted = self.complete(&needs, secret, &found.as_deref().map(certificates_of).unwrap_or_default());
        Some(Observed { wanted, found })
    }

    fn decide(&self, observed: &Observed) -> Decision {
        let mut decision = Decision::rest();
        match (&observed.found, observed.wanted.is_empty()) {
            (None, true) => return decision,
            (Some(found), true) => {
                decision.then(Action::delete::<Secrets>(found).because("no host needs a certificate any more"));
                return decision;
            }
            (None, false) => {
                let made = secret_of(&observed.wanted);
                decision.then(Action::create::<Secrets>(made).because("hosts need certificates"));
            }
            (Some(found), false) if certificates_of(found) != observed.wanted => {
                let renewed = Secret { data: secret_of(&observed.wanted).data, ..Secret::clone(found) };
                decision.then(Action::update::<Secrets>(renewed).because("hosts need other certificates"));
            }
            (Some(_), false) => {}
        }
        decision.look_again_after(RENEW_PERIOD);
        decision
    }
}

impl RouterCertificates {
    /// The certificates for what is needed. Those that the authority made before stay while they are good.
    fn complete(&self, needs: &Needs, secret: impl Fn(&str) -> Option<Pair>, before: &Certificates) -> Certificates {
        let by_secret: Map<String, Pair> =
            needs.secrets.iter().filter_map(|name| Some((name.clone(), secret(name)?))).collect();
        let lacks = |secret: &Option<String>| secret.as_ref().is_none_or(|name| !by_secret.contains_key(name));
        let hosts: Set<String> =
            needs.hosts.iter().filter(|(_, secret)| lacks(secret)).map(|(host, _)| certified_host(host)).collect();
        let made = |host: &String| match before.by_host.get(host) {
            Some(there) if self.issuer.is_good(there, host) => Some(there.clone()),
            _ => match self.issuer.issue(host) {
                Ok(pair) => Some(pair),
                Err(err) => {
                    warn!(component = "router-certificates", host, err, "no certificate can be made");
                    None
                }
            },
        };
        if hosts.len() > HOSTS_MAX {
            let n_without = hosts.len() - HOSTS_MAX;
            warn!(
                component = "router-certificates",
                max = HOSTS_MAX,
                n_without,
                "too many hosts for certificates of their own"
            );
        }
        let by_host = hosts.iter().take(HOSTS_MAX).filter_map(|host| Some((host.clone(), made(host)?))).collect();
        Certificates { by_secret, by_host }
    }
}

/// What Routes and Ingresses need.
#[derive(Debug, Default, PartialEq, Eq)]
struct Needs {
    /// Secrets, by namespace and name.
    secrets: Set<String>,
    /// Hosts, each with the Secret that has its certificate, if one is named.
    hosts: Set<(String, Option<String>)>,
}

fn needs(routes: &[Value], ingresses: &[Value], classes: &[Value]) -> Needs {
    let mut needs = Needs::default();
    routes.iter().for_each(|route| needs.add_route(route));
    let of_router: Vec<&Value> =
        classes.iter().filter(|class| class["spec"]["controller"] == INGRESS_CONTROLLER).collect();
    let is_default = |class: &&Value| class["metadata"]["annotations"][DEFAULT_ANNOTATION] == "true";
    let takes_classless = of_router.iter().any(is_default);
    for ingress in ingresses {
        let class = [&ingress["spec"]["ingressClassName"], &ingress["metadata"]["annotations"][CLASS_ANNOTATION]];
        let class = class.iter().find_map(|class| class.as_str()).filter(|class| !class.is_empty());
        let is_ours = class.map_or(takes_classless, |class| of_router.iter().any(|c| c["metadata"]["name"] == class));
        if is_ours {
            needs.add_ingress(ingress);
        }
    }
    needs
}

impl Needs {
    fn add_route(&mut self, route: &Value) {
        let tls = &route["spec"]["tls"];
        let is_given = |name: &str| tls[name].as_str().is_some_and(|text| !text.is_empty());
        if !matches!(tls["termination"].as_str(), Some("edge" | "reencrypt")) || is_given("certificate") {
            return;
        }
        if let Some(name) = tls["externalCertificate"]["name"].as_str().filter(|name| !name.is_empty()) {
            self.secrets.insert(format!("{}/{name}", namespace(route)));
            return;
        }
        let text = |name: &str| route["spec"][name].as_str().filter(|text| !text.is_empty());
        let host = text("host").map(str::to_owned);
        let host = host.or_else(|| text("subdomain").map(|subdomain| format!("{subdomain}.{ROUTE_DOMAIN}")));
        let is_wildcard = text("wildcardPolicy") == Some("Subdomain");
        let named = host.and_then(|host| match host.split_once('.') {
            Some((_, above)) if is_wildcard => Some(format!("*.{above}")),
            _ if is_wildcard => None,
            _ => Some(host),
        });
        self.hosts.extend(named.map(|host| (host, None)));
    }

    fn add_ingress(&mut self, ingress: &Value) {
        let spec = &ingress["spec"];
        let list = |value: &Value| value.as_array().cloned().unwrap_or_default();
        let mut secret_of: BTreeMap<String, String> = BTreeMap::new();
        for tls in list(&spec["tls"]) {
            let Some(name) = tls["secretName"].as_str().filter(|name| !name.is_empty()) else { continue };
            let secret = format!("{}/{name}", namespace(ingress));
            let hosts = list(&tls["hosts"]);
            secret_of.extend(hosts.iter().filter_map(|h| Some((h.as_str()?.to_owned(), secret.clone()))));
            if hosts.is_empty() {
                secret_of.insert(String::new(), secret.clone());
            }
            self.secrets.insert(secret);
        }
        for rule in list(&spec["rules"]) {
            let Some(host) = rule["host"].as_str().filter(|host| !host.is_empty()) else { continue };
            let above = host.split_once('.').map(|(_, above)| format!("*.{above}"));
            let named = secret_of.get(host).or_else(|| above.and_then(|above| secret_of.get(&above)));
            self.hosts.insert((host.to_owned(), named.or_else(|| secret_of.get("")).cloned()));
        }
    }
}

fn namespace(object: &Value) -> &str {
    object["metadata"]["namespace"].as_str().unwrap_or_default()
}

/// The host that a certificate is for: those of the domain of Routes share one.
fn certified_host(host: &str) -> String {
    match host.split_once('.') {
        Some((_, ROUTE_DOMAIN)) => format!("*.{ROUTE_DOMAIN}"),
        _ => host.to_owned(),
    }
}

fn key() -> ObjectKey {
    ObjectKey::new(SYSTEM_NAMESPACE, ROUTER_SECRET)
}

fn pair_of(secret: &Secret) -> Option<Pair> {
    if secret.type_.as_deref() != Some(TLS) {
        return None;
    }
    let data = secret.data.as_ref()?;
    let text = |name: &str| String::from_utf8(data.get(name)?.0.clone()).ok();
    Some(Pair { certificate: text("tls.crt")?, key: text("tls.key")? })
}

fn secret_of(certificates: &Certificates) -> Secret {
    let json = serde_json::to_vec(certificates).unwrap_or_default();
    Secret {
        metadata: ObjectMeta {
            name: Some(ROUTER_SECRET.to_owned()),
            namespace: Some(SYSTEM_NAMESPACE.to_owned()),
            ..Default::default()
        },
        data: Some([(DATA_KEY.to_owned(), ByteString(json))].into()),
        ..Default::default()
    }
}

fn certificates_of(secret: &Secret) -> Certificates {
    let data = secret.data.as_ref().and_then(|data| data.get(DATA_KEY));
    // What somebody else has written there is replaced.
    data.and_then(|bytes| serde_json::from_slice(&bytes.0).ok()).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    /// Stamps hosts; what is stamped "old" is not good.
    struct Stamp;

    impl Issuer for Stamp {
        fn issue(&self, host: &str) -> Result<Pair, String> {
            if host == "bad" { Err("no".to_owned()) } else { Ok(pair(&format!("new {host}"))) }
        }
        fn is_good(&self, pair: &Pair, _host: &str) -> bool {
            !pair.certificate.starts_with("old")
        }
    }

    fn pair(text: &str) -> Pair {
        Pair { certificate: text.to_owned(), key: "key".to_owned() }
    }

    fn controller() -> RouterCertificates {
        RouterCertificates { issuer: Arc::new(Stamp) }
    }

    fn route(host: &str, tls: Value) -> Value {
        json!({ "metadata": { "namespace": "shop", "name": "r" }, "spec": { "host": host, "tls": tls } })
    }

    #[test]
    fn what_brings_no_certificate_needs_one() {
        let routes = [
            route("plain.b", Value::Null),
            route("edge.b", json!({ "termination": "edge" })),
            route("own.b", json!({ "termination": "edge", "certificate": "x" })),
            route("secret.b", json!({ "termination": "reencrypt", "externalCertificate": { "name": "s" } })),
            route("pass.b", json!({ "termination": "passthrough" })),
        ];
        let mut wild = route("x.wild.b", json!({ "termination": "edge" }));
        wild["spec"]["wildcardPolicy"] = json!("Subdomain");
        let classes = [json!({ "metadata": { "name": "skiff" }, "spec": { "controller": INGRESS_CONTROLLER } })];
        let ingress = |class: &str| {
            json!({ "metadata": { "namespace": "shop" }, "spec": {
                "ingressClassName": class, "tls": [{ "hosts": ["tls.b"], "secretName": "t" }],
                "rules": [{ "host": "tls.b" }, { "host": "other.b" }, {}],
            } })
        };
        let found = needs(&[&routes[..], &[wild]].concat(), &[ingress("skiff"), ingress("nginx")], &classes);
        let secrets: Vec<&str> = found.secrets.iter().map(String::as_str).collect();
        assert_eq!(secrets, ["shop/s", "shop/t"]);
        let hosts: Vec<(&str, Option<&str>)> = found.hosts.iter().map(|(h, s)| (h.as_str(), s.as_deref())).collect();
        assert_eq!(hosts, [("*.wild.b", None), ("edge.b", None), ("other.b", None), ("tls.b", Some("shop/t"))]);
    }

    #[test]
    fn an_ingress_without_a_class_is_the_routers_while_its_class_is_the_default() {
        let class = |default: &str| {
            [json!({ "metadata": { "name": "skiff", "annotations": { DEFAULT_ANNOTATION: default } },
                "spec": { "controller": INGRESS_CONTROLLER } })]
        };
        let ingress = [json!({ "metadata": {}, "spec": { "rules": [{ "host": "a.b" }] } })];
        assert_eq!(needs(&[], &ingress, &class("true")).hosts.len(), 1);
        assert_eq!(needs(&[], &ingress, &class("false")).hosts.len(), 0);
    }

    #[test]
    fn what_is_good_stays_and_hosts_of_routes_share_a_wildcard() {
        let host = |host: &str, secret: Option<&str>| (host.to_owned(), secret.map(str::to_owned));
        let needs = Needs {
            secrets: ["shop/there", "shop/gone"].map(str::to_owned).into(),
            hosts: [
                host("a.b", None),
                host("old.b", None),
                host("bad", None),
                host("x-shop.apps.localhost", None),
                host("y-shop.apps.localhost", None),
                host("there.b", Some("shop/there")),
                host("gone.b", Some("shop/gone")),
            ]
            .into(),
        };
        let by_host = [("a.b", pair("kept")), ("old.b", pair("old")), ("unwanted", pair("x"))];
        let before = Certificates {
            by_host: by_host.map(|(host, pair)| (host.to_owned(), pair)).into(),
            ..Certificates::default()
        };
        let secret = |name: &str| (name == "shop/there").then(|| pair("there"));
        let made = controller().complete(&needs, secret, &before);
        let text: Vec<String> =
            made.by_host.iter().map(|(host, pair)| format!("{host}: {}", pair.certificate)).collect();
        assert_eq!(
            text,
            ["*.apps.localhost: new *.apps.localhost", "a.b: kept", "gone.b: new gone.b", "old.b: new old.b"]
        );
        assert_eq!(made.by_secret.keys().collect::<Vec<_>>(), ["shop/there"]);
    }

    #[test]
    fn there_is_a_secret_while_something_needs_a_certificate() {
        let wanted = Certificates { by_host: [("a.b".to_owned(), pair("x"))].into(), ..Certificates::default() };
        let decided = |wanted: &Certificates, found: Option<&Certificates>| {
            let found = found.map(|found| Arc::new(secret_of(found)));
            controller()
                .decide(&Observed { wanted: wanted.clone(), found })
                .planned()
                .map(|p| format!("{:?}", p.action))
                .collect::<Vec<_>>()
        };
        let (none, name) = (Certificates::default(), "kube-system/skiff-router");
        assert_eq!(decided(&none, None), Vec::<String>::new());
        assert_eq!(decided(&wanted, None), [format!("create Secret {name}")]);
        assert_eq!(decided(&wanted, Some(&wanted)), Vec::<String>::new());
        assert_eq!(decided(&wanted, Some(&none)), [format!("update Secret {name}")]);
        assert_eq!(decided(&none, Some(&wanted)), [format!("delete Secret {name}")]);
    }

    #[test]
    fn only_a_secret_for_tls_is_copied() {
        let of = |kind: &str| Secret {
            type_: Some(kind.to_owned()),
            data: Some(["tls.crt", "tls.key"].map(|name| (name.to_owned(), ByteString(b"x".to_vec()))).into()),
            ..Default::default()
        };
        assert!(pair_of(&of(TLS)).is_some());
        assert!(pair_of(&of("Opaque")).is_none());
    }
}

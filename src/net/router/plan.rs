//! Routes, Ingresses, Services and EndpointSlices → [`Table`]: who answers for which host and path, and what each object is told. Pure.
//!
//! Called by the role `skiff proxy` whenever one of them changed.
//!
//! **Invariants**: the same objects give the same table, whatever their order. Of two that claim the same host and path the older has
//! it, be they Routes or Ingresses. The paths of a Route's host belong to the namespace of the oldest Route that has it.
//!
//! **Source**: github.com/openshift/router, `pkg/router/controller/{unique_host,contention,extended_validator}.go`, release 4.20.

mod ports;

use super::{
    objects::{HeaderAction, Route, Target},
    table::{Backend, HeaderChange, Host, Owner, OwnerKind, PathRule, Plain, Rule, Table, Trust, Wire},
};
use crate::{
    api::{
        agreements::{INGRESS_CONTROLLER, ROUTE_DOMAIN},
        header_template::{self, Side},
        http_options::{BackendProtocol, HttpOptions},
        kinds::{ingress::CLASS_ANNOTATION, ingress_class::DEFAULT_ANNOTATION},
        names,
        router_certificates::{Certificates, Pair},
    },
    base::ordered::{Map, Set, SortList as _},
};
use k8s_openapi::{
    api::{
        core::v1::Service,
        discovery::v1::EndpointSlice,
        networking::v1::{HTTPIngressPath, Ingress, IngressBackend, IngressClass, IngressSpec},
    },
    apimachinery::pkg::apis::meta::v1::ObjectMeta,
};
use ports::Ports;
use sha2::{Digest as _, Sha256};
use std::sync::Arc;

/// The status of a redirect to TLS, by OpenShift's router and by ingress-nginx.
const REDIRECT_OF_ROUTE: u16 = 302;
const REDIRECT_OF_INGRESS: u16 = 308;

/// What is planned from.
#[derive(Clone, Copy)]
pub struct Objects<'a> {
    /// All Routes.
    pub routes: &'a [&'a Route],
    /// All Ingresses.
    pub ingresses: &'a [&'a Ingress],
    /// All classes of Ingresses.
    pub classes: &'a [&'a IngressClass],
    /// All Services.
    pub services: &'a [&'a Service],
    /// All EndpointSlices.
    pub slices: &'a [&'a EndpointSlice],
    /// The certificates that are kept for the router.
    pub certificates: &'a Certificates,
    /// Says what is wrong with a certificate and its key.
    pub check: &'a dyn Fn(&Pair) -> Result<(), String>,
}

/// What was planned.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Planned {
    /// Who answers for what.
    pub table: Table<Arc<Rule>>,
    /// What each Route, and each Ingress of the router's class, is told.
    pub verdicts: Map<Owner, Verdict>,
}

/// What an object is told.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Verdict {
    /// The host that it is served for; of an Ingress, the first.
    pub host: String,
    /// Whether anything of it is served.
    pub is_served: bool,
    /// Whether it is served over TLS.
    pub has_tls: bool,
    /// Whether it is served without TLS.
    pub has_plain: bool,
    /// What of it is not served, and why.
    pub rejections: Vec<Rejection>,
}

/// Something that is not served.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Rejection {
    /// Why, in one word.
    pub reason: &'static str,
    /// The same in words.
    pub message: String,
}

impl Rejection {
    fn new(reason: &'static str, message: impl Into<String>) -> Self {
        Self { reason, message: message.into() }
    }
}

/// The namespaces and names of the Services that Routes and Ingresses lead to.
pub fn routed_services<'a>(
    routes: impl IntoIterator<Item = &'a Route>,
    ingresses: impl IntoIterator<Item = &'a Ingress>,
) -> Set<(String, String)> {
    let of_route = |route: &'a Route| {
        let targets = std::iter::once(&route.spec.to).chain(&route.spec.alternate_backends);
        targets.map(|target| (namespace_of(&route.metadata), target.name.clone()))
    };
    let of_ingress = |ingress: &'a Ingress| {
        let spec = ingress.spec.as_ref();
        let paths = spec.into_iter().flat_map(|spec| spec.rules.iter().flatten()).filter_map(|rule| rule.http.as_ref());
        let backends = paths.flat_map(|http| &http.paths).map(|path| &path.backend);
        let all = backends.chain(spec.and_then(|spec| spec.default_backend.as_ref()));
        let names = all.filter_map(|backend| backend.service.as_ref()).map(|service| service.name.clone());
        names.map(|name| (namespace_of(&ingress.metadata), name))
    };
    routes.into_iter().flat_map(of_route).chain(ingresses.into_iter().flat_map(of_ingress)).collect()
}

/// The Ingresses that the router serves: those of a class of its own, and those without a class while its class is the default.
pub fn ours<'a>(ingresses: &[&'a Ingress], classes: &[&IngressClass]) -> Vec<&'a Ingress> {
    let of_router = |class: &&&IngressClass| {
        class.spec.as_ref().and_then(|spec| spec.controller.as_deref()) == Some(INGRESS_CONTROLLER)
    };
    let name = |class: &&IngressClass| class.metadata.name.clone().unwrap_or_default();
    let is_default = |class: &&IngressClass| {
        class.metadata.annotations.as_ref().and_then(|all| all.get(DEFAULT_ANNOTATION)).is_some_and(|v| v == "true")
    };
    let own: Set<String> = classes.iter().filter(of_router).map(name).collect();
    let takes_classless = classes.iter().filter(of_router).any(is_default);
    let is_ours = |ingress: &&&Ingress| match class_of(ingress) {
        Some(class) => own.contains(class),
        None => takes_classless,
    };
    ingresses.iter().filter(is_ours).copied().collect()
}

fn class_of(ingress: &Ingress) -> Option<&str> {
    let field = ingress.spec.as_ref().and_then(|spec| spec.ingress_class_name.as_deref());
    let annotation = || ingress.metadata.annotations.as_ref()?.get(CLASS_ANNOTATION).map(String::as_str);
    field.or_else(annotation).filter(|class| !class.is_empty())
}

/// Plans.
pub fn plan(objects: &Objects<'_>) -> Planned {
    let ingresses = ours(objects.ingresses, objects.classes);
    let mut claimants: Vec<Claimant<'_>> = objects.routes.iter().map(|route| Claimant::Route(route)).collect();
    claimants.extend(ingresses.into_iter().map(Claimant::Ingress));
    claimants.sort_list_by_key(|claimant| {
        let meta = claimant.meta();
        (meta.creation_timestamp.as_ref().map(|time| time.0), meta.namespace.clone(), meta.name.clone())
    });
    let ports = Ports::new(objects.services, objects.slices);
    let mut planner = Planner { objects, ports, planned: Planned::default(), claims: Map::new(), owned: Map::new() };
    for claimant in claimants {
        let owner = claimant.owner();
        let verdict = match claimant {
            Claimant::Route(route) => planner.add_route(&owner, route),
            Claimant::Ingress(ingress) => planner.add_ingress(&owner, ingress),
        };
        planner.planned.verdicts.insert(owner, verdict);
    }
    planner.planned
}

/// An object that wants hosts.
#[derive(Clone, Copy)]
enum Claimant<'a> {
    Route(&'a Route),
    Ingress(&'a Ingress),
}

impl Claimant<'_> {
    fn meta(&self) -> &ObjectMeta {
        match self {
            Self::Route(route) => &route.metadata,
            Self::Ingress(ingress) => &ingress.metadata,
        }
    }

    fn owner(&self) -> Owner {
        let kind = if matches!(self, Self::Route(_)) { OwnerKind::Route } else { OwnerKind::Ingress };
        owner(kind, self.meta())
    }
}

/// The object that a rule is part of.
pub(super) fn owner(kind: OwnerKind, meta: &ObjectMeta) -> Owner {
    let text = |field: &Option<String>| field.clone().unwrap_or_default();
    Owner { kind, namespace: text(&meta.namespace), name: text(&meta.name), uid: text(&meta.uid) }
}

fn namespace_of(meta: &ObjectMeta) -> String {
    meta.namespace.clone().unwrap_or_default()
}

struct Planner<'a> {
    objects: &'a Objects<'a>,
    ports: Ports<'a>,
    planned: Planned,
    /// Who has a host and path.
    claims: Map<(Host, PathRule), Owner>,
    /// The oldest Route of each host.
    owned: Map<Host, Owner>,
}

/// Routes.
impl Planner<'_> {
    fn add_route(&mut self, owner: &Owner, route: &Route) -> Verdict {
        let name = host_of_route(route);
        let mut verdict = Verdict { host: name.clone(), ..Verdict::default() };
        match self.try_route(owner, route, &name) {
            Ok(rule) => {
                verdict.is_served = true;
                verdict.has_plain = rule.plain == Plain::Serve;
                verdict.has_tls = route.spec.tls.is_some();
            }
            Err(rejection) => verdict.rejections.push(rejection),
        }
        verdict
    }

    fn try_route(&mut self, owner: &Owner, route: &Route, name: &str) -> Result<Arc<Rule>, Rejection> {
        let host = check_host(route, name)?;
        let path = PathRule::prefix(&route.spec.path);
        let pair = self.certificate_of_route(owner, route)?;
        self.claim_for_route(owner, &host, &path)?;
        let rule = Arc::new(self.rule_of_route(owner, route, path.clone()));
        if route.spec.tls.as_ref().is_some_and(|tls| tls.termination == "passthrough") {
            self.planned.table.add_passthrough(&host, Arc::clone(&rule));
        }
        self.planned.table.add(&host, path, Arc::clone(&rule));
        if let Some(pair) = pair {
            self.planned.table.add_certificate(&host, pair);
        }
        Ok(rule)
    }

    fn claim_for_route(&mut self, owner: &Owner, host: &Host, path: &PathRule) -> Result<(), Rejection> {
        let refuse = |holder: &Owner| {
            let message = if holder.namespace == owner.namespace {
                format!("{} {} already exposes {host} and is older", holder.kind.name().to_lowercase(), holder.name)
            } else {
                format!(
                    "a {} in another namespace holds {host} and is older than {}",
                    holder.kind.name().to_lowercase(),
                    owner.name
                )
            };
            Err(Rejection::new("HostAlreadyClaimed", message))
        };
        let claim = (host.clone(), path.clone());
        if let Some(holder) = self.claims.get(&claim) {
            return refuse(holder);
        }
        let oldest = self.owned.entry(host.clone()).or_insert_with(|| owner.clone());
        if oldest.namespace != owner.namespace {
            return refuse(oldest);
        }
        self.claims.insert(claim, owner.clone());
        Ok(())
    }

    fn rule_of_route(&self, owner: &Owner, route: &Route, path: PathRule) -> Rule {
        let annotations = route.metadata.annotations.clone().unwrap_or_default();
        let options = HttpOptions::of_route(&annotations).0;
        let tls = route.spec.tls.as_ref();
        let termination = tls.map_or("", |tls| &tls.termination);
        let plain = match tls.map(|tls| tls.insecure_edge_termination_policy.as_str()) {
            None | Some("Allow") => Plain::Serve,
            Some("Redirect") => Plain::Redirect(REDIRECT_OF_ROUTE),
            Some(_) => Plain::Refuse,
        };
        let wire = match tls {
            Some(tls) if termination == "reencrypt" && tls.destination_ca_certificate.is_empty() => {
                Wire::Tls(Trust::Cluster)
            }
            Some(tls) if termination == "reencrypt" => Wire::Tls(Trust::Signed(tls.destination_ca_certificate.clone())),
            _ => Wire::Plain,
        };
        let is_sticky = options.is_sticky.unwrap_or(true) && termination != "passthrough";
        let cookie = is_sticky.then(|| options.cookie_name.clone().unwrap_or_else(|| cookie_name(owner)));
        let targets = std::iter::once(&route.spec.to).chain(&route.spec.alternate_backends);
        Rule {
            owner: owner.clone(),
            path,
            plain,
            serves_tls: matches!(termination, "edge" | "reencrypt"),
            backends: targets.map(|target| self.backend_of_route(owner, target, route)).collect(),
            wire,
            options,
            cookie,
            request_headers: changes(&route.spec.http_headers.actions.request, Side::Request),
            response_headers: changes(&route.spec.http_headers.actions.response, Side::Response),
        }
    }

    fn backend_of_route(&self, owner: &Owner, target: &Target, route: &Route) -> Backend {
        let port = route.spec.port.as_ref().map(|port| &port.target_port);
        let ports = self.ports.of_endpoints(&owner.namespace, &target.name, port);
        let is_http2 = ports.as_ref().is_ok_and(|ports| ports.iter().any(|port| self.ports.is_http2(port)));
        Backend { service: target.name.clone(), weight: target.weight.unwrap_or(100), ports, is_http2 }
    }

    /// The certificate that a Route brings; nothing: the cluster's authority makes one.
    fn certificate_of_route(&self, owner: &Owner, route: &Route) -> Result<Option<Pair>, Rejection> {
        let Some(tls) = &route.spec.tls else { return Ok(None) };
        let failed = |message: String| Rejection::new("ExtendedValidationFailed", message);
        let secret = &tls.external_certificate.name;
        if !secret.is_empty() {
            let key = format!("{}/{secret}", owner.namespace);
            let pair = self.objects.certificates.by_secret.get(&key).cloned();
            let pair = pair.ok_or_else(|| {
                failed(format!(
                    "spec.tls.externalCertificate: Secret {secret} is not there, or not of type kubernetes.io/tls"
                ))
            })?;
            (self.objects.check)(&pair).map_err(|why| failed(format!("spec.tls.externalCertificate: {why}")))?;
            return Ok(Some(pair));
        }
        match (tls.certificate.is_empty(), tls.key.is_empty()) {
            (true, true) => return Ok(None),
            (false, true) => return Err(failed("spec.tls.key: no key specified".to_owned())),
            (true, false) => return Err(failed("spec.tls.certificate: no certificate specified".to_owned())),
            (false, false) => {}
        }
        let certificate = format!("{}\n{}", tls.certificate.trim_end(), tls.ca_certificate);
        let pair = Pair { certificate, key: tls.key.clone() };
        (self.objects.check)(&pair).map_err(|why| failed(format!("spec.tls.certificate: {why}")))?;
        Ok(Some(pair))
    }
}

/// The host that a Route is for.
fn host_of_route(route: &Route) -> String {
    let spec = &route.spec;
    match (spec.host.is_empty(), spec.subdomain.is_empty()) {
        (true, false) => format!("{}.{ROUTE_DOMAIN}", spec.subdomain),
        _ => spec.host.clone(),
    }
}

fn check_host(route: &Route, name: &str) -> Result<Host, Rejection> {
    if name.is_empty() {
        return Err(Rejection::new("NoHostValue", "no host value was defined for the route"));
    }
    if let Some(why) = names::dns1123_subdomain(name).first() {
        return Err(Rejection::new("InvalidHost", format!("{name}: {why}")));
    }
    if route.spec.wildcard_policy != "Subdomain" {
        return Ok(Host::parse(name));
    }
    match name.split_once('.') {
        Some((_, above)) => Ok(Host::Wildcard(above.to_owned())),
        None => Err(Rejection::new("InvalidHost", format!("{name} has no subdomain for wildcardPolicy Subdomain"))),
    }
}

/// A name that no other object's cookie has.
fn cookie_name(owner: &Owner) -> String {
    let sum = Sha256::digest(format!("{}/{}/{}", owner.kind.name(), owner.namespace, owner.name));
    sum.iter().take(16).map(|byte| format!("{byte:02x}")).collect()
}

fn changes(actions: &[HeaderAction], side: Side) -> Vec<HeaderChange> {
    let change = |action: &HeaderAction| {
        let value = action.action.set.as_ref().map(|set| header_template::parse(&set.value, side));
        // What the API took parses; what an older API took and does not is left alone.
        Some(HeaderChange { name: action.name.clone(), value: value.transpose().ok()? })
    };
    actions.iter().filter_map(change).collect()
}

/// Ingresses.
impl Planner<'_> {
    fn add_ingress(&mut self, owner: &Owner, ingress: &Ingress) -> Verdict {
        let mut verdict = Verdict::default();
        let Some(spec) = &ingress.spec else { return verdict };
        let annotations = ingress.metadata.annotations.clone().unwrap_or_default();
        let options = HttpOptions::of_ingress(&annotations).0;
        let secured = self.add_tls(owner, spec, &mut verdict);
        let mut made = Made { owner, options: &options, secured: &secured, verdict: &mut verdict };
        let mut hosts = Set::new();
        for rule in spec.rules.iter().flatten() {
            let host = Host::parse(rule.host.as_deref().unwrap_or_default());
            if made.verdict.host.is_empty() {
                made.verdict.host = host.to_string();
            }
            for path in rule.http.iter().flat_map(|http| &http.paths) {
                self.add_path(&mut made, &host, path_rule(path), &path.backend);
            }
            hosts.insert(host);
        }
        if let Some(backend) = &spec.default_backend {
            for host in hosts.iter().filter(|host| **host != Host::Any) {
                self.add_path(&mut made, host, PathRule::Rest, backend);
            }
            let rule = self.rule_of_ingress(&made, &Host::Any, PathRule::Rest, backend);
            self.planned.table.offer_fallback(Arc::new(rule));
            made.verdict.served(Plain::Serve);
        }
        verdict
    }

    /// Takes certificates in; returns which hosts have TLS.
    fn add_tls(&mut self, owner: &Owner, spec: &IngressSpec, verdict: &mut Verdict) -> Set<Host> {
        let mut secured = Set::new();
        for tls in spec.tls.iter().flatten() {
            let named: Vec<Host> = tls.hosts.iter().flatten().map(|host| Host::parse(host)).collect();
            let of_rules = || spec.rules.iter().flatten().filter_map(|r| r.host.as_deref()).map(Host::parse).collect();
            let hosts: Vec<Host> = if named.is_empty() { of_rules() } else { named };
            match self.certificate_of_ingress(owner, tls.secret_name.as_deref().unwrap_or_default()) {
                Ok(Some(pair)) => {
                    hosts.iter().for_each(|host| self.planned.table.add_certificate(host, pair.clone()));
                }
                Ok(None) => {}
                Err(rejection) => verdict.rejections.push(rejection),
            }
            secured.extend(hosts);
        }
        secured
    }

    /// The certificate of a Secret; without one, and while it cannot be used, the cluster's authority makes one.
    fn certificate_of_ingress(&self, owner: &Owner, secret: &str) -> Result<Option<Pair>, Rejection> {
        if secret.is_empty() {
            return Ok(None);
        }
        let instead = "a certificate of the cluster's authority is used instead";
        let key = format!("{}/{secret}", owner.namespace);
        let Some(pair) = self.objects.certificates.by_secret.get(&key).cloned() else {
            let message = format!("Secret {secret} is not there, or not of type kubernetes.io/tls: {instead}");
            return Err(Rejection::new("CertificateUnusable", message));
        };
        match (self.objects.check)(&pair) {
            Ok(()) => Ok(Some(pair)),
            Err(why) => Err(Rejection::new("CertificateUnusable", format!("Secret {secret}: {why}: {instead}"))),
        }
    }

    fn add_path(&mut self, made: &mut Made<'_>, host: &Host, path: PathRule, backend: &IngressBackend) {
        let claim = (host.clone(), path.clone());
        if let Some(holder) = self.claims.get(&claim) {
            if holder != made.owner {
                let message = format!("{host}{}: {holder} has it and is older", path.text());
                made.verdict.rejections.push(Rejection::new("HostAlreadyClaimed", message));
            }
            return;
        }
        self.claims.insert(claim, made.owner.clone());
        let rule = self.rule_of_ingress(made, host, path.clone(), backend);
        made.verdict.served(rule.plain);
        self.planned.table.add(host, path, Arc::new(rule));
    }

    fn rule_of_ingress(&self, made: &Made<'_>, host: &Host, path: PathRule, backend: &IngressBackend) -> Rule {
        let options = made.options.clone();
        let protocol = options.backend_protocol;
        let plain = match options.redirects {
            Some(true) => Plain::Redirect(REDIRECT_OF_INGRESS),
            None if made.is_secured(host) => Plain::Redirect(REDIRECT_OF_INGRESS),
            Some(false) | None => Plain::Serve,
        };
        let over_tls = matches!(protocol, Some(BackendProtocol::Https | BackendProtocol::Grpcs));
        let is_sticky = options.is_sticky.unwrap_or(false);
        let cookie = is_sticky.then(|| options.cookie_name.clone().unwrap_or_else(|| cookie_name(made.owner)));
        Rule {
            owner: made.owner.clone(),
            path,
            plain,
            serves_tls: true,
            backends: vec![self.backend_of_ingress(made.owner, backend, protocol)],
            wire: if over_tls { Wire::Tls(Trust::Anything) } else { Wire::Plain },
            options,
            cookie,
            request_headers: Vec::new(),
            response_headers: Vec::new(),
        }
    }

    fn backend_of_ingress(
        &self,
        owner: &Owner,
        backend: &IngressBackend,
        protocol: Option<BackendProtocol>,
    ) -> Backend {
        let Some(service) = &backend.service else {
            let what = backend.resource.as_ref().map(|r| format!("{} {}", r.kind, r.name)).unwrap_or_default();
            let why = format!("{what} is a resource backend, which the router does not serve");
            return Backend { service: what, weight: 1, ports: Err(why), is_http2: false };
        };
        let port = self.ports.of_service(&owner.namespace, &service.name, service.port.as_ref());
        let asks_http2 = matches!(protocol, Some(BackendProtocol::Grpc | BackendProtocol::Grpcs));
        let is_http2 = asks_http2 || port.as_ref().is_ok_and(|port| self.ports.is_http2(port));
        Backend { service: service.name.clone(), weight: 1, ports: port.map(|port| vec![port]), is_http2 }
    }
}

/// What the rules of one Ingress share.
struct Made<'a> {
    owner: &'a Owner,
    options: &'a HttpOptions,
    secured: &'a Set<Host>,
    verdict: &'a mut Verdict,
}

impl Made<'_> {
    fn is_secured(&self, host: &Host) -> bool {
        let above = match host {
            Host::Exact(host) => host.split_once('.').map(|(_, above)| Host::Wildcard(above.to_owned())),
            Host::Wildcard(_) | Host::Any => None,
        };
        self.secured.contains(host) || above.is_some_and(|above| self.secured.contains(&above))
    }
}

impl Verdict {
    fn served(&mut self, plain: Plain) {
        self.is_served = true;
        self.has_tls = true;
        self.has_plain |= plain == Plain::Serve;
    }
}

fn path_rule(path: &HTTPIngressPath) -> PathRule {
    let text = path.path.as_deref().unwrap_or_default();
    if path.path_type == "Exact" { PathRule::Exact(text.to_owned()) } else { PathRule::prefix(text) }
}

#[cfg(test)]
mod tests;

//! Who calls, and what they may do.
//!
//! Called by `handle` for every request. Pure: the certificate's chain was verified by the TLS handshake.
//!
//! **Not here**: the handshake (`tls`). Tokens and RBAC come with service accounts; [`Authorizer`] is their seam.
//! **Source** of the texts: `k8s.io/apiserver/pkg/endpoints/handlers/responsewriters/errors.go`, v1.37.

use super::route::{RequestInfo, ResourceInfo, Verb};
use crate::api::{agreements::SYSTEM_NAMESPACE, status::ApiError};
use http::{HeaderMap, header::AUTHORIZATION};
use k8s_openapi::api::authorization::v1::{NonResourceRule, ResourceRule, SubjectRulesReviewStatus};

/// Who calls.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct User {
    /// The user name, e.g. `kubernetes-admin`.
    pub name: String,
    /// The groups, e.g. `system:masters`.
    pub groups: Vec<String>,
}

pub(super) const ANONYMOUS: &str = "system:anonymous";
pub(super) const AUTHENTICATED: &str = "system:authenticated";
pub(super) const UNAUTHENTICATED: &str = "system:unauthenticated";
const MASTERS: &str = "system:masters";

impl User {
    /// Someone without a certificate.
    pub fn anonymous() -> Self {
        Self { name: ANONYMOUS.to_owned(), groups: vec![UNAUTHENTICATED.to_owned()] }
    }

    /// The owner of a verified client certificate: its common name, and its organisations as groups.
    pub fn of_certificate(der: &[u8]) -> Option<Self> {
        let (_, cert) = x509_parser::parse_x509_certificate(der).ok()?;
        let subject = cert.subject();
        let name = subject.iter_common_name().next()?.as_str().ok()?.to_owned();
        let groups = subject.iter_organization().filter_map(|o| o.as_str().ok());
        let groups = groups.chain([AUTHENTICATED]).map(str::to_owned).collect();
        (!name.is_empty()).then_some(Self { name, groups })
    }

    /// Whether nobody knows who it is.
    pub fn is_anonymous(&self) -> bool {
        self.name == ANONYMOUS
    }
}

/// Who sends this request. `peer` is the connection's verified certificate.
pub fn authenticate(peer: Option<&User>, headers: &HeaderMap) -> Result<User, ApiError> {
    match peer {
        Some(user) => Ok(user.clone()),
        // A credential that cannot be right is refused, not taken for none.
        None if headers.contains_key(AUTHORIZATION) => Err(ApiError::Unauthorized),
        None => Ok(User::anonymous()),
    }
}

/// Decides what a user may do.
pub trait Authorizer: Send + Sync + 'static {
    /// Whether the user may do this.
    fn allows(&self, user: &User, request: &RequestInfo) -> bool;
    /// All that the user may do in a namespace.
    fn rules(&self, user: &User, namespace: &str) -> SubjectRulesReviewStatus;
}

/// Refuses what the user may not do, in Kubernetes' words; someone unknown is asked to say who they are.
pub fn authorize(authorizer: &dyn Authorizer, user: &User, request: &RequestInfo) -> Result<(), ApiError> {
    if authorizer.allows(user, request) {
        return Ok(());
    }
    if user.is_anonymous() {
        return Err(ApiError::Unauthorized);
    }
    Err(match request {
        RequestInfo::Path { path, verb } => ApiError::Forbidden {
            resource: String::new(),
            name: String::new(),
            why: format!("User {:?} cannot {verb} path {path:?}", user.name),
        },
        RequestInfo::Resource(r) => ApiError::Forbidden {
            resource: if r.group.is_empty() { r.resource.clone() } else { format!("{}.{}", r.resource, r.group) },
            name: r.name.clone(),
            why: refusal(user, r),
        },
    })
}

fn refusal(user: &User, r: &ResourceInfo) -> String {
    let resource =
        if r.subresource.is_empty() { r.resource.clone() } else { format!("{}/{}", r.resource, r.subresource) };
    let place = if r.namespace.is_empty() {
        "at the cluster scope".to_owned()
    } else {
        format!("in the namespace {:?}", r.namespace)
    };
    let (name, verb, group) = (&user.name, r.verb.as_str(), &r.group);
    format!("User {name:?} cannot {verb} resource {resource:?} in API group {group:?} {place}")
}

/// The fixed rules: administrators may do all, the data plane what it needs, anyone may ask for health and version.
#[derive(Clone, Copy, Debug, Default)]
pub struct FixedRules;

/// One thing that a user may do: verbs, group, resource, and the namespace when it is limited to one.
struct Rule {
    verbs: &'static [Verb],
    group: &'static str,
    resource: &'static str,
    namespace: Option<&'static str>,
}

const READ: &[Verb] = &[Verb::Get, Verb::List, Verb::Watch];
const PROXY_RULES: &[Rule] = &[
    Rule { verbs: READ, group: "", resource: "services", namespace: None },
    // The addresses of load balancers.
    Rule { verbs: &[Verb::Patch], group: "", resource: "services/status", namespace: None },
    Rule { verbs: READ, group: "", resource: "nodes", namespace: None },
    Rule { verbs: READ, group: "discovery.k8s.io", resource: "endpointslices", namespace: None },
    Rule { verbs: &[Verb::Create, Verb::Patch, Verb::Update], group: "", resource: "events", namespace: None },
    Rule {
        verbs: &[Verb::Create, Verb::Patch, Verb::Update],
        group: "events.k8s.io",
        resource: "events",
        namespace: None,
    },
    Rule {
        verbs: &[Verb::Get, Verb::Create, Verb::Patch, Verb::Update],
        group: "coordination.k8s.io",
        resource: "leases",
        namespace: Some(SYSTEM_NAMESPACE),
    },
];
/// What whoever is known may ask about themselves. Source: the cluster role `system:basic-user`.
const BASIC_RULES: &[Rule] = &[
    Rule { verbs: &[Verb::Create], group: "authentication.k8s.io", resource: "selfsubjectreviews", namespace: None },
    Rule {
        verbs: &[Verb::Create],
        group: "authorization.k8s.io",
        resource: "selfsubjectaccessreviews",
        namespace: None,
    },
    Rule {
        verbs: &[Verb::Create],
        group: "authorization.k8s.io",
        resource: "selfsubjectrulesreviews",
        namespace: None,
    },
];
const PUBLIC_PATHS: &[&str] = &["/healthz", "/livez", "/readyz", "/version"];
const DISCOVERY_PATHS: &[&str] = &["/api", "/apis", "/openapi"];

impl Rule {
    /// Whether it is about this resource, or this part of it.
    fn names(&self, r: &ResourceInfo) -> bool {
        match self.resource.split_once('/') {
            Some((resource, part)) => resource == r.resource && part == r.subresource,
            None => self.resource == r.resource && r.subresource.is_empty(),
        }
    }

    fn covers(&self, r: &ResourceInfo) -> bool {
        self.verbs.contains(&r.verb)
            && self.group == r.group
            && self.names(r)
            && self.namespace.is_none_or(|ns| ns == r.namespace)
    }
}

impl User {
    fn is_in(&self, group: &str) -> bool {
        self.groups.iter().any(|g| g == group)
    }
}

/// The rules of a user who is no administrator.
fn rules_of(user: &User) -> impl Iterator<Item = &'static Rule> + use<> {
    let basic = if user.is_in(AUTHENTICATED) { BASIC_RULES } else { &[] };
    let proxy = if user.name == "system:kube-proxy" { PROXY_RULES } else { &[] };
    basic.iter().chain(proxy)
}

impl Authorizer for FixedRules {
    fn allows(&self, user: &User, request: &RequestInfo) -> bool {
        if user.is_in(MASTERS) {
            return true;
        }
        match request {
            RequestInfo::Path { path, verb } => verb == "get" && is_public(path, user),
            RequestInfo::Resource(r) => rules_of(user).any(|rule| rule.covers(r)),
        }
    }

    fn rules(&self, user: &User, namespace: &str) -> SubjectRulesReviewStatus {
        let texts = |all: &[&str]| all.iter().map(|text| (*text).to_owned()).collect::<Vec<_>>();
        let (resource_rules, paths) = if user.is_in(MASTERS) {
            let all = texts(&["*"]);
            let everything = ResourceRule {
                verbs: all.clone(),
                api_groups: Some(all.clone()),
                resources: Some(all.clone()),
                resource_names: None,
            };
            (vec![everything], NonResourceRule { verbs: all.clone(), non_resource_urls: Some(all) })
        } else {
            let here = rules_of(user).filter(|rule| rule.namespace.is_none_or(|ns| ns == namespace));
            let rules = here.map(|rule| ResourceRule {
                verbs: rule.verbs.iter().map(|verb| verb.as_str().to_owned()).collect(),
                api_groups: Some(texts(&[rule.group])),
                resources: Some(texts(&[rule.resource])),
                resource_names: None,
            });
            let known = if user.is_anonymous() { &[][..] } else { DISCOVERY_PATHS };
            let under = |path: &&str| [(*path).to_owned(), format!("{path}/*")];
            let paths = PUBLIC_PATHS.iter().chain(known).flat_map(under).collect();
            (rules.collect(), NonResourceRule { verbs: texts(&["get"]), non_resource_urls: Some(paths) })
        };
        SubjectRulesReviewStatus {
            resource_rules,
            non_resource_rules: vec![paths],
            incomplete: false,
            evaluation_error: None,
        }
    }
}

/// Health and version are for all; whoever is known may also read what the API offers.
///
/// Source: the cluster roles `system:public-info-viewer` and `system:discovery`.
fn is_public(path: &str, user: &User) -> bool {
    let path = path.strip_suffix('/').unwrap_or(path);
    let is_under = |root: &&str| path.strip_prefix(*root).is_some_and(|rest| rest.is_empty() || rest.starts_with('/'));
    PUBLIC_PATHS.iter().any(is_under) || (!user.is_anonymous() && DISCOVERY_PATHS.iter().any(is_under))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::server::route::{Query, route};
    use http::Method;

    fn user(name: &str, group: &str) -> User {
        User { name: name.to_owned(), groups: vec![group.to_owned()] }
    }

    fn verdict(user: &User, method: &str, url: &str) -> String {
        let (path, query) = url.split_once('?').unwrap_or((url, ""));
        let method = Method::from_bytes(method.as_bytes()).unwrap();
        let request = route(&method, path, &Query::parse(query)).unwrap();
        authorize(&FixedRules, user, &request).map_or_else(|e| format!("{} {e}", e.code()), |()| "ok".to_owned())
    }

    #[test]
    fn each_user_may_do_their_part() {
        let admin = user("kubernetes-admin", "system:masters");
        let proxy = user("system:kube-proxy", "system:authenticated");
        let jane = user("jane", "system:authenticated");
        for (who, method, url, want) in [
            (&admin, "DELETE", "/api/v1/namespaces/x/pods/p", "ok"),
            (&admin, "POST", "/anything", "ok"),
            (&proxy, "GET", "/api/v1/services?watch=true", "ok"),
            (&proxy, "GET", "/apis/discovery.k8s.io/v1/endpointslices", "ok"),
            (&proxy, "PATCH", "/apis/coordination.k8s.io/v1/namespaces/kube-system/leases/skiff-proxy", "ok"),
            (&proxy, "PATCH", "/api/v1/namespaces/x/services/s/status", "ok"),
            (
                &proxy,
                "PATCH",
                "/api/v1/namespaces/x/services/s",
                "403 services \"s\" is forbidden: User \"system:kube-proxy\" cannot patch resource \"services\" \
                 in API group \"\" in the namespace \"x\"",
            ),
            (&proxy, "GET", "/apis/apps", "ok"),
            (
                &proxy,
                "PATCH",
                "/apis/coordination.k8s.io/v1/namespaces/x/leases/l",
                "403 leases.coordination.k8s.io \"l\" is forbidden: User \"system:kube-proxy\" cannot patch resource \"leases\" \
                 in API group \"coordination.k8s.io\" in the namespace \"x\"",
            ),
            (
                &proxy,
                "PUT",
                "/api/v1/namespaces/x/services/s/status",
                "403 services \"s\" is forbidden: User \"system:kube-proxy\" cannot update resource \"services/status\" \
                 in API group \"\" in the namespace \"x\"",
            ),
            (
                &jane,
                "GET",
                "/api/v1/pods",
                "403 pods is forbidden: User \"jane\" cannot list resource \"pods\" in API group \"\" at the cluster scope",
            ),
            (&jane, "GET", "/metrics", "403 forbidden: User \"jane\" cannot get path \"/metrics\""),
            (&jane, "GET", "/apis/apps/v1", "ok"),
            (&User::anonymous(), "GET", "/livez/ping", "ok"),
            (&User::anonymous(), "GET", "/version", "ok"),
            (&User::anonymous(), "GET", "/versions", "401 Unauthorized"),
            (&User::anonymous(), "GET", "/apis", "401 Unauthorized"),
            (&User::anonymous(), "POST", "/healthz", "401 Unauthorized"),
            (&User::anonymous(), "GET", "/api/v1/pods", "401 Unauthorized"),
        ] {
            assert_eq!(verdict(who, method, url), want, "{} {method} {url}", who.name);
        }
    }

    #[test]
    fn a_token_is_refused_and_nothing_is_anonymous() {
        let mut headers = HeaderMap::new();
        assert!(authenticate(None, &headers).unwrap().is_anonymous());
        headers.insert(AUTHORIZATION, "Bearer x".parse().unwrap());
        assert_eq!(authenticate(None, &headers), Err(ApiError::Unauthorized));
        let admin = user("a", "b");
        assert_eq!(authenticate(Some(&admin), &headers), Ok(admin));
    }
}

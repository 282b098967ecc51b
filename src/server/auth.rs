//! Who calls, and what they may do.
//!
//! Called by `handle` for every request. The certificate's chain was verified by the TLS handshake; tokens and rules are `identity`'s.
//!
//! **Not here**: the handshake (`tls`), what tokens say and roles grant (`identity`).
//! **Source** of the texts: `k8s.io/apiserver/pkg/endpoints/handlers/responsewriters/errors.go`, v1.37.

use super::route::RequestInfo;
use crate::{
    api::status::ApiError,
    identity::{
        Rbac, Tokens, User,
        rule::{Attributes, On},
        tokens::ISSUER,
        user::AUTHENTICATED,
    },
};
use http::{HeaderMap, header::AUTHORIZATION};

/// The owner of a verified client certificate: its common name, and its organisations as groups.
pub fn user_of_certificate(der: &[u8]) -> Option<User> {
    let (_, cert) = x509_parser::parse_x509_certificate(der).ok()?;
    let subject = cert.subject();
    let name = subject.iter_common_name().next()?.as_str().ok()?;
    let groups = subject.iter_organization().filter_map(|o| o.as_str().ok());
    (!name.is_empty()).then(|| User::new(name, groups.chain([AUTHENTICATED])))
}

/// Who sends this request. `peer` is the connection's verified certificate.
///
/// # Errors
/// A credential that cannot be right is refused, not taken for none.
pub fn authenticate(tokens: &Tokens, peer: Option<&User>, headers: &HeaderMap) -> Result<User, ApiError> {
    if let Some(user) = peer {
        return Ok(user.clone());
    }
    let Some(credential) = headers.get(AUTHORIZATION) else { return Ok(User::anonymous()) };
    let token = credential.to_str().ok().and_then(bearer).ok_or(ApiError::Unauthorized)?;
    match tokens.user(token, &[ISSUER.to_owned()]) {
        Ok((user, _)) => Ok(user),
        Err(why) => {
            tracing::debug!(component = "server", %why, "a token was refused");
            Err(ApiError::Unauthorized)
        }
    }
}

/// The token of an `Authorization` header. Source: `bearertoken.go`.
fn bearer(header: &str) -> Option<&str> {
    let (scheme, token) = header.trim().split_once(' ')?;
    let token = token.trim();
    (scheme.eq_ignore_ascii_case("bearer") && !token.is_empty()).then_some(token)
}

impl RequestInfo {
    /// What the request wants, as rules speak of it.
    pub fn attributes(&self) -> Attributes<'_> {
        match self {
            Self::Path { path, verb } => Attributes { verb, on: On::Path(path) },
            Self::Resource(r) => Attributes {
                verb: r.verb.as_str(),
                on: On::Resource {
                    group: &r.group,
                    resource: &r.resource,
                    subresource: &r.subresource,
                    namespace: r.place(),
                    name: &r.name,
                    node: &r.node,
                },
            },
        }
    }
}

/// Refuses what the user may not do, in Kubernetes' words; someone unknown is asked to say who they are.
///
/// # Errors
/// `Unauthorized` and `Forbidden`.
pub fn authorize(rbac: &Rbac, user: &User, asked: &Attributes<'_>) -> Result<(), ApiError> {
    let verdict = rbac.verdict(user, asked);
    if verdict.is_allowed {
        return Ok(());
    }
    if user.is_anonymous() {
        return Err(ApiError::Unauthorized);
    }
    let reason = if verdict.reason.is_empty() { String::new() } else { format!(": {}", verdict.reason) };
    let (who, verb) = (&user.name, asked.verb);
    Err(match asked.on {
        On::Path(path) => ApiError::Forbidden {
            resource: String::new(),
            name: String::new(),
            why: format!("User {who:?} cannot {verb} path {path:?}{reason}"),
        },
        On::Resource { group, resource, subresource, namespace, name, .. } => {
            let what = if subresource.is_empty() { resource.to_owned() } else { format!("{resource}/{subresource}") };
            let place = if namespace.is_empty() {
                "at the cluster scope".to_owned()
            } else {
                format!("in the namespace {namespace:?}")
            };
            ApiError::Forbidden {
                resource: if group.is_empty() { resource.to_owned() } else { format!("{resource}.{group}") },
                name: name.to_owned(),
                why: format!("User {who:?} cannot {verb} resource {what:?} in API group {group:?} {place}{reason}"),
            }
        }
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        identity::roles,
        server::route::{Query, route},
        testing,
    };
    use http::Method;

    async fn rbac() -> Rbac {
        let registry = testing::registry_with_namespaces(&["kube-public"]).await;
        roles::reconcile(&registry).await.unwrap();
        Rbac::new(registry)
    }

    fn verdict(rbac: &Rbac, user: &User, method: &str, url: &str) -> String {
        let (path, query) = url.split_once('?').unwrap_or((url, ""));
        let method = Method::from_bytes(method.as_bytes()).unwrap();
        let request = route(&method, path, &Query::parse(query)).unwrap();
        let outcome = authorize(rbac, user, &request.attributes());
        outcome.map_or_else(|e| format!("{} {e}", e.code()), |()| "ok".to_owned())
    }

    #[tokio::test(start_paused = true)]
    async fn refusals_read_as_in_kubernetes() {
        let rbac = rbac().await;
        let admin = User::new("kubernetes-admin", ["system:masters"]);
        let proxy = User::new("system:kube-proxy", ["system:authenticated"]);
        let jane = User::new("jane", ["system:authenticated"]);
        for (who, method, url, want) in [
            (&admin, "DELETE", "/api/v1/namespaces/x/pods/p", "ok"),
            (&admin, "POST", "/anything", "ok"),
            (&proxy, "GET", "/api/v1/services?watch=true", "ok"),
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
            (&User::anonymous(), "GET", "/livez", "ok"),
            (&User::anonymous(), "GET", "/version", "ok"),
            (&User::anonymous(), "GET", "/versions", "401 Unauthorized"),
            (&User::anonymous(), "GET", "/apis", "401 Unauthorized"),
            (&User::anonymous(), "POST", "/healthz", "401 Unauthorized"),
            (&User::anonymous(), "GET", "/api/v1/pods", "401 Unauthorized"),
        ] {
            assert_eq!(verdict(&rbac, who, method, url), want, "{} {method} {url}", who.name);
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_credential_that_is_none_is_refused_and_nothing_is_anonymous() {
        let tokens = testing::tokens(&testing::registry().await);
        let mut headers = HeaderMap::new();
        assert!(authenticate(&tokens, None, &headers).unwrap().is_anonymous());
        for credential in ["Bearer x", "Bearer a.b.c", "Bearer", "Basic eDp5"] {
            headers.insert(AUTHORIZATION, credential.parse().unwrap());
            assert_eq!(authenticate(&tokens, None, &headers), Err(ApiError::Unauthorized), "{credential}");
        }
        let admin = User::new("a", ["b"]);
        assert_eq!(authenticate(&tokens, Some(&admin), &headers), Ok(admin));
    }
}

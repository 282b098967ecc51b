//! Acting as someone else: the `Impersonate-…` headers, which `kubectl --as` sends. Pure.
//!
//! Called by `handle` between who calls and what they may: from then on the request is the other one's, and is refused whatever the
//! other one may not do. Each part of the other identity needs a permission of its own; administrators have them all.
//!
//! **Invariants**: a header of this sort is honoured or the request is refused; none is passed over.
//!
//! **Source**: `k8s.io/apiserver/pkg/endpoints/filters/impersonation`, v1.37. Unlike there, an empty user and headers of this prefix
//! that Kubernetes does not know are refused too. UID and extra are checked and not kept: `whoami` does not show them.

use super::{
    auth::{ANONYMOUS, AUTHENTICATED, Authorizer, UNAUTHENTICATED, User, authorize},
    route::{RequestInfo, ResourceInfo, Verb},
};
use crate::api::status::ApiError;
use http::HeaderMap;

const PREFIX: &str = "impersonate-";
const EXTRA: &str = "impersonate-extra-";
const SERVICE_ACCOUNT: &str = "system:serviceaccount:";

/// Whom a request wants to be.
#[derive(Debug, Default, PartialEq, Eq)]
struct Wanted {
    user: Option<String>,
    groups: Vec<String>,
    uid: Option<String>,
    /// Key and value.
    extra: Vec<(String, String)>,
}

/// Who the request is of: the caller, or whom the caller wants to be and may be.
///
/// # Errors
/// `BadRequest` when the headers make no sense, and what [`authorize`] says of a caller who may not.
pub fn acting_as(authorizer: &dyn Authorizer, caller: User, headers: &HeaderMap) -> Result<User, ApiError> {
    let wanted = Wanted::read(headers)?;
    let Some(name) = &wanted.user else { return Ok(caller) };
    for part in wanted.parts(name) {
        authorize(authorizer, &caller, &RequestInfo::Resource(part))?;
    }
    Ok(wanted.user_named(name))
}

impl Wanted {
    fn read(headers: &HeaderMap) -> Result<Self, ApiError> {
        let mut wanted = Self::default();
        for (name, value) in headers.iter().filter(|(name, _)| name.as_str().starts_with(PREFIX)) {
            let bad = |why: &str| ApiError::BadRequest(format!("the header {name} {why}"));
            let value = value.to_str().map_err(|_err| bad("is not plain text"))?.to_owned();
            match name.as_str() {
                "impersonate-user" if value.is_empty() => return Err(bad("is empty")),
                "impersonate-user" if wanted.user.is_some() => return Err(bad("is given twice")),
                "impersonate-user" => wanted.user = Some(value),
                "impersonate-group" => wanted.groups.push(value),
                "impersonate-uid" => wanted.uid = Some(value),
                other => match other.strip_prefix(EXTRA) {
                    Some(key) => wanted.extra.push((key.to_owned(), value)),
                    None => return Err(bad("is not known")),
                },
            }
        }
        if wanted.user.is_none() && wanted != Self::default() {
            return Err(ApiError::BadRequest(
                "requested a group, UID or extra without impersonating a user".to_owned(),
            ));
        }
        Ok(wanted)
    }

    /// What the caller must be allowed to impersonate, one by one.
    fn parts(&self, user: &str) -> Vec<ResourceInfo> {
        let part = |group: &str, resource: &str, name: &str| ResourceInfo {
            verb: Verb::Impersonate,
            group: group.to_owned(),
            version: "v1".to_owned(),
            namespace: String::new(),
            resource: resource.to_owned(),
            subresource: String::new(),
            name: name.to_owned(),
            is_collection: false,
            rest: Vec::new(),
        };
        let of_user = match service_account(user) {
            Some((namespace, name)) => {
                ResourceInfo { namespace: namespace.to_owned(), ..part("", "serviceaccounts", name) }
            }
            None => part("", "users", user),
        };
        let of_extra = |(key, value): &(String, String)| ResourceInfo {
            subresource: key.clone(),
            ..part("authentication.k8s.io", "userextras", value)
        };
        let groups = self.groups.iter().map(|g| part("", "groups", g));
        let uid = self.uid.iter().map(|uid| part("authentication.k8s.io", "uids", uid));
        std::iter::once(of_user).chain(groups).chain(self.extra.iter().map(of_extra)).chain(uid).collect()
    }

    /// The other one. Groups that are named are the only ones, but for the one that says whether anybody knows who it is.
    fn user_named(&self, name: &str) -> User {
        let mut groups = self.groups.clone();
        if let (true, Some((namespace, _))) = (groups.is_empty(), service_account(name)) {
            groups = vec!["system:serviceaccounts".to_owned(), format!("system:serviceaccounts:{namespace}")];
        }
        if !groups.iter().any(|g| g == AUTHENTICATED || g == UNAUTHENTICATED) {
            groups.push(if name == ANONYMOUS { UNAUTHENTICATED } else { AUTHENTICATED }.to_owned());
        }
        User { name: name.to_owned(), groups }
    }
}

/// The namespace and name of a service account's user name. Source: `SplitUsername` in `pkg/authentication/serviceaccount/util.go`.
fn service_account(user: &str) -> Option<(&str, &str)> {
    let (namespace, name) = user.strip_prefix(SERVICE_ACCOUNT)?.split_once(':')?;
    (!namespace.is_empty() && !name.is_empty() && !name.contains(':')).then_some((namespace, name))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::server::auth::FixedRules;
    use http::{HeaderName, HeaderValue};

    fn acting(caller: (&str, &str), headers: &[(&str, &str)]) -> String {
        let mut map = HeaderMap::new();
        for (name, value) in headers {
            map.append(HeaderName::try_from(*name).unwrap(), HeaderValue::from_bytes(value.as_bytes()).unwrap());
        }
        let caller = User { name: caller.0.to_owned(), groups: vec![caller.1.to_owned()] };
        match acting_as(&FixedRules, caller, &map) {
            Ok(user) => format!("{} [{}]", user.name, user.groups.join(" ")),
            Err(err) => format!("{} {err}", err.code()),
        }
    }

    #[test]
    fn an_administrator_may_be_anyone() {
        let admin = ("admin", "system:masters");
        for (headers, want) in [
            (&[][..], "admin [system:masters]"),
            (&[("Impersonate-User", "nobody")], "nobody [system:authenticated]"),
            (
                &[("Impersonate-User", "x"), ("Impersonate-Group", "system:masters"), ("Impersonate-Group", "b")],
                "x [system:masters b system:authenticated]",
            ),
            (&[("Impersonate-User", "system:anonymous")], "system:anonymous [system:unauthenticated]"),
            (
                &[("Impersonate-User", "system:serviceaccount:team:bot")],
                "system:serviceaccount:team:bot [system:serviceaccounts system:serviceaccounts:team system:authenticated]",
            ),
            (
                &[("Impersonate-User", "a"), ("Impersonate-Uid", "1"), ("Impersonate-Extra-scopes", "view")],
                "a [system:authenticated]",
            ),
        ] {
            assert_eq!(acting(admin, headers), want, "{headers:?}");
        }
    }

    #[test]
    fn others_may_be_nobody_else() {
        let jane = ("jane", "system:authenticated");
        for (headers, want) in [
            (
                &[("Impersonate-User", "kubernetes-admin"), ("Impersonate-Group", "system:masters")][..],
                "403 users \"kubernetes-admin\" is forbidden: User \"jane\" cannot impersonate resource \"users\" in API group \"\" \
                 at the cluster scope",
            ),
            (
                &[("Impersonate-User", "system:serviceaccount:team:bot")],
                "403 serviceaccounts \"bot\" is forbidden: User \"jane\" cannot impersonate resource \"serviceaccounts\" \
                 in API group \"\" in the namespace \"team\"",
            ),
            (
                &[("Impersonate-User", "jane")],
                "403 users \"jane\" is forbidden: User \"jane\" cannot impersonate resource \"users\" in API group \"\" at the cluster scope",
            ),
        ] {
            assert_eq!(acting(jane, headers), want, "{headers:?}");
        }
        assert_eq!(acting((ANONYMOUS, UNAUTHENTICATED), &[("Impersonate-User", "x")]), "401 Unauthorized");
    }

    #[test]
    fn headers_without_sense_are_refused() {
        let admin = ("admin", "system:masters");
        for (headers, want) in [
            (&[("Impersonate-Group", "g")][..], "400 requested a group, UID or extra without impersonating a user"),
            (&[("Impersonate-Uid", "u")], "400 requested a group, UID or extra without impersonating a user"),
            (&[("Impersonate-Extra-a", "b")], "400 requested a group, UID or extra without impersonating a user"),
            (&[("Impersonate-User", "")], "400 the header impersonate-user is empty"),
            (&[("Impersonate-User", "a"), ("Impersonate-User", "b")], "400 the header impersonate-user is given twice"),
            (&[("Impersonate-User", "a"), ("Impersonate-Role", "b")], "400 the header impersonate-role is not known"),
            (&[("Impersonate-User", "\u{e9}")], "400 the header impersonate-user is not plain text"),
        ] {
            assert_eq!(acting(admin, headers), want, "{headers:?}");
        }
    }
}

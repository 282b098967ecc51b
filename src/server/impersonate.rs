//! Acting as someone else: the `Impersonate-…` headers, which `kubectl --as` sends. Pure.
//!
//! Called by `handle` between who calls and what they may: from then on the request is the other one's, and is refused whatever the
//! other one may not do. Each part of the other identity needs a permission of its own; administrators have them all.
//!
//! **Invariants**: a header of this sort is honoured or the request is refused; none is passed over.
//!
//! **Source**: `k8s.io/apiserver/pkg/endpoints/filters/impersonation`, v1.37. Unlike there, an empty user and headers of this prefix
//! that Kubernetes does not know are refused too.

use super::auth::authorize;
use crate::{
    api::status::ApiError,
    identity::{
        Rbac, User,
        rule::{Attributes, On},
        user::{ANONYMOUS, AUTHENTICATED, UNAUTHENTICATED, split_account},
    },
};
use http::{HeaderMap, HeaderName};
use percent_encoding::percent_decode_str;

const PREFIX: &str = "impersonate-";
const EXTRA: &str = "impersonate-extra-";

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
pub fn acting_as(rbac: &Rbac, caller: User, headers: &HeaderMap) -> Result<User, ApiError> {
    let wanted = Wanted::read(headers)?;
    let Some(name) = &wanted.user else { return Ok(caller) };
    for on in wanted.parts(name) {
        authorize(rbac, &caller, &Attributes { verb: "impersonate", on })?;
    }
    Ok(wanted.user_named(name))
}

/// Takes the headers away: whom a request is of is known by now, and is nobody else's business.
pub(super) fn remove(headers: &mut HeaderMap) {
    let names: Vec<HeaderName> = headers.keys().filter(|name| name.as_str().starts_with(PREFIX)).cloned().collect();
    names.iter().for_each(|name| drop(headers.remove(name)));
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
                    // A key may hold what no name of a header may. Source: `unescapeExtraKey`.
                    Some(key) => {
                        let key = percent_decode_str(key).decode_utf8_lossy().into_owned();
                        wanted.extra.push((key, value));
                    }
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
    fn parts<'a>(&'a self, user: &'a str) -> Vec<On<'a>> {
        let part =
            |group, resource, name| On::Resource { group, resource, subresource: "", namespace: "", name, node: "" };
        let of_user = match split_account(user) {
            Some((namespace, name)) => {
                On::Resource { group: "", resource: "serviceaccounts", subresource: "", namespace, name, node: "" }
            }
            None => part("", "users", user),
        };
        let of_extra = |(key, value): &'a (String, String)| On::Resource {
            group: "authentication.k8s.io",
            resource: "userextras",
            subresource: key,
            namespace: "",
            name: value,
            node: "",
        };
        let groups = self.groups.iter().map(|g| part("", "groups", g));
        let uid = self.uid.iter().map(|uid| part("authentication.k8s.io", "uids", uid));
        std::iter::once(of_user).chain(groups).chain(self.extra.iter().map(of_extra)).chain(uid).collect()
    }

    /// The other one. Groups that are named are the only ones, but for the one that says whether anybody knows who it is.
    fn user_named(&self, name: &str) -> User {
        let mut user = User { groups: self.groups.clone(), ..User::new(name, []) };
        if let (true, Some((namespace, account))) = (self.groups.is_empty(), split_account(name)) {
            user = User::of_account(namespace, account);
        }
        if !user.is_in(AUTHENTICATED) && !user.is_in(UNAUTHENTICATED) {
            user.groups.push(if name == ANONYMOUS { UNAUTHENTICATED } else { AUTHENTICATED }.to_owned());
        }
        user.uid = self.uid.clone().unwrap_or_default();
        for (key, value) in &self.extra {
            user.extra.entry(key.clone()).or_default().push(value.clone());
        }
        user
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing;
    use http::{HeaderName, HeaderValue};

    async fn acting(caller: (&str, &str), headers: &[(&str, &str)]) -> String {
        let mut map = HeaderMap::new();
        for (name, value) in headers {
            map.append(HeaderName::try_from(*name).unwrap(), HeaderValue::from_bytes(value.as_bytes()).unwrap());
        }
        let rbac = Rbac::new(testing::registry().await);
        match acting_as(&rbac, User::new(caller.0, [caller.1]), &map) {
            Ok(user) => {
                let more = format!("{} {:?}", user.uid, user.extra).replace(" {}", "");
                format!("{} [{}] {more}", user.name, user.groups.join(" ")).trim_end().to_owned()
            }
            Err(err) => format!("{} {err}", err.code()),
        }
    }

    #[tokio::test(start_paused = true)]
    async fn an_administrator_may_be_anyone() {
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
                "a [system:authenticated] 1 {\"scopes\": [\"view\"]}",
            ),
        ] {
            assert_eq!(acting(admin, headers).await, want, "{headers:?}");
        }
    }

    #[tokio::test(start_paused = true)]
    async fn others_may_be_nobody_else() {
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
            assert_eq!(acting(jane, headers).await, want, "{headers:?}");
        }
        assert_eq!(acting((ANONYMOUS, UNAUTHENTICATED), &[("Impersonate-User", "x")]).await, "401 Unauthorized");
    }

    #[tokio::test(start_paused = true)]
    async fn headers_without_sense_are_refused() {
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
            assert_eq!(acting(admin, headers).await, want, "{headers:?}");
        }
    }
}

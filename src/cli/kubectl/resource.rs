//! What a command line names: kinds by any of their names, objects, and where they are in the API.

use crate::{
    api::{
        kind::{ErasedKind, KindInfo},
        kinds::KINDS,
    },
    base::ordered::SortList as _,
    cli::{
        exit::{Class, of_class},
        watching::text,
    },
    client::Client,
};
use anyhow::{anyhow, bail};
use serde_json::Value;
use std::fmt;

/// What `all` stands for. Source: the category `all` of kubectl, as far as it is everyday's.
const CATEGORY_ALL: &str = "all";

/// The cluster, and the namespace that is meant.
pub(super) struct Scope {
    pub(super) client: Client,
    pub(super) namespace: String,
}

/// An object that is named. One of a manifest says its namespace itself.
#[derive(Clone)]
pub(super) struct Named {
    pub(super) kind: &'static dyn ErasedKind,
    pub(super) name: String,
    namespace: Option<String>,
}

impl fmt::Debug for Named {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{self}")
    }
}

/// As kubectl names what it has changed: `deployment.apps/web`.
impl fmt::Display for Named {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", qualified(self.info()), self.name)
    }
}

/// A kind's singular with its group.
pub(super) fn qualified(info: &KindInfo<'_>) -> String {
    if info.group.is_empty() { info.singular.to_owned() } else { format!("{}.{}", info.singular, info.group) }
}

impl Named {
    pub(super) fn info(&self) -> &KindInfo<'_> {
        self.kind.info()
    }

    /// The collection that it is in.
    pub(super) fn collection(&self, scope: &Scope) -> String {
        collection(self.info(), Some(self.namespace.as_deref().unwrap_or(&scope.namespace)))
    }

    pub(super) fn path(&self, scope: &Scope) -> String {
        format!("{}/{}", self.collection(scope), self.name)
    }
}

/// The URL of a kind's objects, of one namespace or of all.
pub(in crate::cli) fn collection(info: &KindInfo<'_>, namespace: Option<&str>) -> String {
    let root = if info.group.is_empty() { "/api".to_owned() } else { format!("/apis/{}", info.group) };
    let scope = match namespace.filter(|_| info.is_namespaced()) {
        Some(namespace) => format!("namespaces/{namespace}/"),
        None => String::new(),
    };
    format!("{root}/{}/{scope}{}", info.version, info.plural)
}

/// The kind of a name: plural, singular, short, with a group behind a dot or without.
pub(in crate::cli) fn kind(word: &str) -> anyhow::Result<&'static dyn ErasedKind> {
    let word = word.to_lowercase();
    let (name, group) = word.split_once('.').map_or((&*word, None), |(name, group)| (name, Some(group)));
    let is_called = |info: &KindInfo<'_>| {
        (info.plural == name || info.singular == name || info.short_names.contains(&name))
            && group.is_none_or(|group| info.group == group)
    };
    // Events and Pods of the core before those of other groups.
    let mut all: Vec<&'static dyn ErasedKind> = KINDS.iter().copied().filter(|kind| is_called(kind.info())).collect();
    all.sort_list_by_key(|kind| (!kind.info().group.is_empty(), kind.info().group.ends_with(".openshift.io")));
    all.first().copied().ok_or_else(|| {
        of_class(Class::Usage, anyhow!("the server doesn't have a resource type {word:?}; of kinds that were added to it the real kubectl knows"))
    })
}

/// A kind, and the names that are asked for; none: all of it.
pub(super) type Asked = (&'static dyn ErasedKind, Vec<String>);

/// `pods`, `deploy,rs`, `all`, `pod a b`, `pod/a svc/b`.
pub(super) fn asked(words: &[String]) -> anyhow::Result<Vec<Asked>> {
    let Some((first, names)) = words.split_first() else { bail!("name a kind") };
    if first.contains('/') {
        return named(words).map(|all| all.into_iter().map(|one| (one.kind, vec![one.name])).collect());
    }
    if first == CATEGORY_ALL {
        return Ok(KINDS
            .iter()
            .filter(|kind| kind.info().categories.contains(&CATEGORY_ALL))
            .map(|kind| (*kind, Vec::new()))
            .collect());
    }
    first.split(',').map(|word| Ok((kind(word)?, names.to_vec()))).collect()
}

/// `pod a b`, `pod/a svc/b`.
pub(super) fn named(words: &[String]) -> anyhow::Result<Vec<Named>> {
    let one = |kind, name: &str| Named { kind, name: name.to_owned(), namespace: None };
    let Some((first, names)) = words.split_first() else { bail!("name an object: KIND/NAME, or KIND NAME") };
    if first.contains('/') {
        let of = |word: &String| match word.split_once('/') {
            Some((of, name)) if !name.is_empty() => Ok(one(kind(of)?, name)),
            _ => Err(of_class(Class::Usage, anyhow!("{word}: there is no need for more than KIND/NAME each"))),
        };
        return words.iter().map(of).collect();
    }
    let kind = kind(first)?;
    if names.is_empty() {
        return Err(of_class(
            Class::Usage,
            anyhow!("resource(s) were provided, but no name was specified: {first} NAME"),
        ));
    }
    Ok(names.iter().map(|name| one(kind, name)).collect())
}

/// A pod by its name, or what has pods by kind and name.
pub(super) fn pod_or(word: &str) -> anyhow::Result<Named> {
    let word = if word.contains('/') { word.to_owned() } else { format!("pods/{word}") };
    Ok(named(&[word])?.remove(0))
}

/// The object of a manifest.
pub(super) fn of_object(object: &Value) -> anyhow::Result<Named> {
    let version = text(object, "/apiVersion");
    let (group, short) = version.split_once('/').unwrap_or(("", version));
    let kind = crate::api::kinds::by_kind(group, short, text(object, "/kind"));
    let kind = kind.ok_or_else(|| anyhow!("no matches for kind {:?} in version {version:?}", text(object, "/kind")))?;
    let namespace = Some(text(object, "/metadata/namespace").to_owned()).filter(|namespace| !namespace.is_empty());
    Ok(Named { kind, name: text(object, "/metadata/name").to_owned(), namespace })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn words(text: &str) -> Vec<String> {
        text.split_whitespace().map(str::to_owned).collect()
    }

    #[test]
    fn kinds_have_many_names() {
        for word in ["po", "pod", "pods", "Pod"] {
            assert_eq!(kind(word).unwrap().info().kind, "Pod", "{word}");
        }
        assert_eq!(kind("deployments.apps").unwrap().info().kind, "Deployment");
        assert_eq!(kind("events").unwrap().info().group, "");
        assert_eq!(kind("dc").unwrap().info().kind, "DeploymentConfig");
        let said = kind("podz").unwrap_err().to_string();
        assert!(said.starts_with("the server doesn't have a resource type \"podz\""), "{said}");
    }

    #[test]
    fn objects_are_named_in_both_ways() {
        let said = |text: &str| named(&words(text)).map(|all| format!("{all:?}")).map_err(|err| err.to_string());
        assert_eq!(said("deploy/web svc/web").unwrap(), "[deployment.apps/web, service/web]");
        assert_eq!(said("pod a b").unwrap(), "[pod/a, pod/b]");
        assert_eq!(said("pod").unwrap_err(), "resource(s) were provided, but no name was specified: pod NAME");
        assert!(said("pod/a b").is_err());
        assert_eq!(format!("{:?}", pod_or("web-0").unwrap()), "pod/web-0");
        assert_eq!(asked(&words("deploy,rs")).unwrap().len(), 2);
        assert!(asked(&words("all")).unwrap().len() > 5);
    }

    #[test]
    fn a_kind_has_its_place_in_the_api() {
        let of = |word: &str, namespace| collection(kind(word).unwrap().info(), namespace);
        assert_eq!(of("pods", Some("shop")), "/api/v1/namespaces/shop/pods");
        assert_eq!(of("pods", None), "/api/v1/pods");
        assert_eq!(of("nodes", Some("shop")), "/api/v1/nodes");
        assert_eq!(of("deploy", Some("shop")), "/apis/apps/v1/namespaces/shop/deployments");
    }
}

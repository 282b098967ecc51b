//! Whose an object is: adoption and release of what a selector selects.
//!
//! **Source**: `pkg/controller/controller_ref_manager.go`, v1.37. The re-read before an adoption is not needed: reads are exact.

use crate::api::{kind::KindInfo, meta::controller_of, selector::LabelSelector};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{LabelSelector as ApiSelector, ObjectMeta, OwnerReference};
use std::collections::BTreeMap;

/// How an object stands to one that may own it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Claim {
    /// It is owned, and selected.
    Mine,
    /// It is owned by no one, and selected.
    Adopt,
    /// It is owned, but no longer selected.
    Release,
    /// It is another's, or no one's.
    NotMine,
}

/// How the object that `meta` describes stands to `owner`, whose selector does or does not select it.
pub fn claim(owner: &ObjectMeta, meta: &ObjectMeta, is_selected: bool) -> Claim {
    let owner_goes = owner.deletion_timestamp.is_some();
    match controller_of(meta) {
        Some(reference) if Some(&reference.uid) != owner.uid.as_ref() => Claim::NotMine,
        Some(_) if is_selected => Claim::Mine,
        Some(_) if owner_goes => Claim::NotMine,
        Some(_) => Claim::Release,
        None if owner_goes || !is_selected || meta.deletion_timestamp.is_some() => Claim::NotMine,
        None if owner.namespace != meta.namespace => Claim::NotMine,
        None => Claim::Adopt,
    }
}

/// The reference that makes `owner`, of this kind, the controller of an object.
pub fn controller_reference(info: &KindInfo<'_>, owner: &ObjectMeta) -> OwnerReference {
    OwnerReference {
        api_version: info.api_version(),
        kind: info.kind.to_owned(),
        name: owner.name.clone().unwrap_or_default(),
        uid: owner.uid.clone().unwrap_or_default(),
        controller: Some(true),
        block_owner_deletion: Some(true),
    }
}

/// The selector of an API object. One that validation would refuse selects nothing: nothing is safer to select than nothing.
pub fn selector_of(selector: &ApiSelector) -> LabelSelector {
    LabelSelector::from_api(selector).unwrap_or_else(|_| LabelSelector::nothing())
}

/// Whether a selector selects the object that `meta` describes.
pub fn is_selected(selector: &LabelSelector, meta: &ObjectMeta) -> bool {
    match &meta.labels {
        Some(labels) => selector.matches(labels),
        None => selector.matches(&BTreeMap::<String, String>::new()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use k8s_openapi::apimachinery::pkg::apis::meta::v1::{LabelSelectorRequirement, Time};

    fn meta(uid: &str, owner: Option<&str>) -> ObjectMeta {
        let owner = owner.map(|uid| OwnerReference { uid: uid.into(), controller: Some(true), ..Default::default() });
        ObjectMeta {
            uid: Some(uid.into()),
            namespace: Some("ns".into()),
            owner_references: owner.map(|o| vec![o]),
            ..Default::default()
        }
    }

    fn going(mut meta: ObjectMeta) -> ObjectMeta {
        meta.deletion_timestamp = Some(Time("2026-01-01T00:00:00Z".parse().unwrap()));
        meta
    }

    #[test]
    fn an_object_is_claimed_as_the_ref_manager_does() {
        let owner = meta("o", None);
        let cases = [
            (&owner, meta("a", Some("o")), true, Claim::Mine),
            (&owner, meta("a", Some("o")), false, Claim::Release),
            (&owner, meta("a", Some("x")), true, Claim::NotMine),
            (&owner, meta("a", None), true, Claim::Adopt),
            (&owner, meta("a", None), false, Claim::NotMine),
            (&owner, going(meta("a", None)), true, Claim::NotMine),
            (&owner, going(meta("a", Some("o"))), true, Claim::Mine),
            (&going(meta("o", None)), meta("a", None), true, Claim::NotMine),
            (&going(meta("o", None)), meta("a", Some("o")), false, Claim::NotMine),
        ];
        for (owner, object, is_selected, expected) in cases {
            assert_eq!(claim(owner, &object, is_selected), expected, "{object:?} {is_selected}");
        }
    }

    #[test]
    fn a_selector_that_cannot_be_read_selects_nothing() {
        let requirement = LabelSelectorRequirement { key: "a".into(), operator: "Bad".into(), values: None };
        let bad = ApiSelector { match_expressions: Some(vec![requirement]), match_labels: None };
        assert!(!is_selected(&selector_of(&bad), &meta("a", None)));
        assert!(is_selected(&selector_of(&ApiSelector::default()), &meta("a", None)));
    }
}

//! Revisions and annotations: what `kubectl rollout history` and `undo` read, and which old sets are kept for them.
//!
//! **Source**: `SetNewReplicaSetAnnotations` and `cleanupDeployment`, pkg/controller/deployment, v1.37.

use super::sets::{actual, by_age, replicas, size, spec};
use crate::{api::fence::Fence, base::ordered::SortList as _};
use k8s_openapi::{
    api::apps::v1::{Deployment, ReplicaSet},
    apimachinery::pkg::apis::meta::v1::ObjectMeta,
};
use std::collections::BTreeMap;

/// The number of the rollout.
pub(super) const REVISION: &str = "deployment.kubernetes.io/revision";
/// The numbers that a set had before.
const REVISION_HISTORY: &str = "deployment.kubernetes.io/revision-history";
/// The Deployment's replicas when the set's size was last decided.
pub(super) const DESIRED_REPLICAS: &str = "deployment.kubernetes.io/desired-replicas";
/// The most pods that the Deployment could have then.
pub(super) const MAX_REPLICAS: &str = "deployment.kubernetes.io/max-replicas";
/// The longest history.
const HISTORY_CHARS_MAX: usize = 2000;
/// Annotations of a Deployment that its sets do not get.
const NOT_COPIED: &[&str] = &[
    "kubectl.kubernetes.io/last-applied-configuration",
    REVISION,
    REVISION_HISTORY,
    DESIRED_REPLICAS,
    MAX_REPLICAS,
    "deprecated.deployment.rollback.to",
];

/// An annotation's text.
pub(super) fn annotation<'a>(meta: &'a ObjectMeta, key: &str) -> Option<&'a str> {
    meta.annotations.as_ref()?.get(key).map(String::as_str)
}

/// An annotation that is a number.
pub(super) fn number(meta: &ObjectMeta, key: &str) -> Option<i32> {
    annotation(meta, key)?.parse().ok()
}

/// A set's revision; a set without one, or with nonsense, has 0.
fn revision(rs: &ReplicaSet) -> i64 {
    annotation(&rs.metadata, REVISION).and_then(|r| r.parse().ok()).unwrap_or(0)
}

/// The revision that the new set should at least have: one more than any old set's.
pub(super) fn next_revision(old: &[&ReplicaSet]) -> i64 {
    old.iter().map(|rs| revision(rs)).max().unwrap_or(0) + 1
}

/// The annotations that the new set should have, given those it has.
pub(super) fn of_new_set(d: &Deployment, has: &BTreeMap<String, String>, revision: i64) -> BTreeMap<String, String> {
    let mut wanted = has.clone();
    for (key, value) in d.metadata.annotations.iter().flatten().filter(|(k, _)| !NOT_COPIED.contains(&k.as_str())) {
        wanted.insert(key.clone(), value.clone());
    }
    number_anew(&mut wanted, revision);
    wanted
}

/// Gives a set a higher revision and remembers the one it had: a rollback numbers an old set anew.
fn number_anew(annotations: &mut BTreeMap<String, String>, revision: i64) {
    let former = annotations.get(REVISION).cloned();
    let former_number = match former.as_deref() {
        None | Some("") => 0,
        Some(text) => match text.parse::<i64>() {
            Ok(n) => n,
            // Nonsense was put there by hand, and is left alone.
            Err(_) => return,
        },
    };
    if former_number >= revision {
        return;
    }
    annotations.insert(REVISION.to_owned(), revision.to_string());
    if let Some(former) = former {
        let history = annotations.get(REVISION_HISTORY).map(String::as_str).unwrap_or_default();
        if let Some(longer) = append_to_history(history, &former) {
            annotations.insert(REVISION_HISTORY.to_owned(), longer);
        }
    }
}

/// The history with one more number, without the oldest when it gets too long; `None` when the number alone is too long.
fn append_to_history(history: &str, number: &str) -> Option<String> {
    if history.is_empty() {
        return Some(number.to_owned());
    }
    let mut kept = history;
    while kept.len() + 1 + number.len() > HISTORY_CHARS_MAX {
        let Some((_, newer)) = kept.split_once(',') else {
            return (number.len() <= HISTORY_CHARS_MAX).then(|| number.to_owned());
        };
        kept = newer;
    }
    Some(format!("{kept},{number}"))
}

/// Writes down for which replicas a set's size was decided.
pub(super) fn set_replicas(annotations: &mut BTreeMap<String, String>, d: &Deployment, fence: Fence) {
    annotations.insert(DESIRED_REPLICAS.to_owned(), replicas(d).to_string());
    annotations.insert(MAX_REPLICAS.to_owned(), replicas(d).saturating_add(fence.surge).to_string());
}

/// The old sets that are beyond the history limit and empty for good: the lowest revisions first.
pub(super) fn to_clean_up<'a>(d: &Deployment, old: &[&'a ReplicaSet]) -> Vec<&'a ReplicaSet> {
    let Some(limit) = spec(d).revision_history_limit.filter(|limit| *limit != i32::MAX) else { return Vec::new() };
    let mut alive: Vec<_> = old.iter().copied().filter(|rs| rs.metadata.deletion_timestamp.is_none()).collect();
    let beyond = alive.len().saturating_sub(usize::try_from(limit).unwrap_or(0));
    alive.sort_list_by(|a, b| revision(a).cmp(&revision(b)).then_with(|| by_age(a, b)));
    alive.truncate(beyond);
    alive.retain(|rs| is_empty_for_good(rs));
    alive
}

fn is_empty_for_good(rs: &ReplicaSet) -> bool {
    let observed = rs.status.as_ref().and_then(|s| s.observed_generation).unwrap_or(0);
    actual(rs) == 0 && size(rs) == 0 && rs.metadata.generation.unwrap_or(0) <= observed
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_rollback_numbers_the_set_anew_and_remembers() {
        let mut a: BTreeMap<String, String> = BTreeMap::new();
        number_anew(&mut a, 1);
        assert_eq!((a[REVISION].as_str(), a.get(REVISION_HISTORY)), ("1", None));
        number_anew(&mut a, 3);
        assert_eq!((a[REVISION].as_str(), a[REVISION_HISTORY].as_str()), ("3", "1"));
        number_anew(&mut a, 5);
        assert_eq!((a[REVISION].as_str(), a[REVISION_HISTORY].as_str()), ("5", "1,3"));
        number_anew(&mut a, 4);
        assert_eq!(a[REVISION], "5", "revisions only grow");
    }

    #[test]
    fn a_history_that_gets_too_long_forgets_its_oldest() {
        let long = vec!["1000"; 400].join(",");
        assert_eq!(long.len(), 1999);
        let longer = append_to_history(&long, "2000").unwrap();
        assert_eq!(longer.len(), 1999);
        assert!(longer.ends_with(",1000,2000"));
        assert_eq!(append_to_history(&"9".repeat(1999), "7").unwrap(), "7");
    }
}

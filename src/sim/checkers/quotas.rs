//! No create ever brings a namespace above what its quota allows, and at rest a quota says exactly what is used.
//!
//! It counts pods itself, from the changes alone.

use crate::{
    api::{
        json_kind::text_at,
        kinds::{pod::Pods, resource_quota::RESOURCE_QUOTAS},
        meta::ObjectKey,
        object::{DynObject, Untyped},
        pod_state,
    },
    registry::{
        Registry,
        pipeline::{decoded, with_decoded},
    },
    store::{Change, Entry},
};
use jiff::{SignedDuration, Timestamp};
use k8s_openapi::api::core::v1::Pod;
use std::{collections::BTreeMap, sync::Arc};

/// The quota that the user has, in the namespace of all that is his.
pub(in crate::sim) const QUOTA: &str = "few";

#[derive(Default)]
pub(super) struct Quotas {
    /// The pods of the namespace, by key.
    pods: BTreeMap<String, Arc<Pod>>,
    /// How many pods there may be; `None`: as many as one likes.
    hard: Option<usize>,
}

impl Quotas {
    /// Knows what there is.
    pub(super) fn of(registry: &Registry) -> Self {
        let pods = registry.store().range("core/pods/default/").entries;
        let quota = registry.entry(&RESOURCE_QUOTAS, &ObjectKey::new("default", QUOTA));
        Self {
            pods: pods.iter().map(|entry| (entry.key.to_string(), decoded::<Pods>(entry))).collect(),
            hard: quota.map(|entry| number(&entry, "spec.hard.pods")),
        }
    }

    /// Sees a change.
    pub(super) fn see(&mut self, now: Timestamp, change: &Change) {
        if *change.key == *format!("core/resourcequotas/default/{QUOTA}") {
            self.hard = change.after.as_ref().map(|entry| number(entry, "spec.hard.pods"));
        }
        if !change.key.starts_with("core/pods/default/") {
            return;
        }
        match &change.after {
            Some(entry) => drop(self.pods.insert(change.key.to_string(), decoded::<Pods>(entry))),
            None => drop(self.pods.remove(&*change.key)),
        }
        if let (None, Some(_), Some(hard)) = (&change.before, &change.after, self.hard) {
            let n = self.pods.values().filter(|pod| counts(pod, now)).count();
            assert!(n <= hard, "{} is pod {n}, and there may be {hard}", change.key);
        }
    }
}

/// Whether a pod counts: it has not ended, and is not overdue to go.
fn counts(pod: &Pod, now: Timestamp) -> bool {
    let grace = pod.metadata.deletion_grace_period_seconds.unwrap_or(0);
    let is_overdue =
        pod.metadata.deletion_timestamp.as_ref().is_some_and(|at| now > at.0 + SignedDuration::from_secs(grace));
    !pod_state::is_terminal(pod) && !is_overdue
}

fn number(entry: &Entry, path: &str) -> usize {
    let read = |obj: &dyn DynObject| text_at(&obj.as_any().downcast_ref::<Untyped>().unwrap().rest, path);
    with_decoded(&RESOURCE_QUOTAS, entry, false, read).unwrap().parse().unwrap()
}

/// That the quota says what there is.
pub(super) fn say_what_is_used(registry: &Registry, now: Timestamp) {
    let Some(entry) = registry.entry(&RESOURCE_QUOTAS, &ObjectKey::new("default", QUOTA)) else { return };
    let n = registry.api::<Pods>().list("default").items.iter().filter(|pod| counts(pod, now)).count();
    assert_eq!(number(&entry, "status.used.pods"), n, "what the quota says is used");
    assert_eq!(number(&entry, "status.hard.pods"), number(&entry, "spec.hard.pods"));
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing;

    #[tokio::test]
    #[should_panic(expected = "core/pods/default/b is pod 2, and there may be 1")]
    async fn a_pod_too_many_is_noticed() {
        let registry = testing::registry().await;
        let mut seen = registry.store().watch("", registry.store().revision()).unwrap();
        let mut quotas = Quotas { hard: Some(1), ..Quotas::default() };
        for name in ["a", "b"] {
            let yaml = format!(
                "{{metadata: {{name: {name}, namespace: default}}, spec: {{containers: [{{name: c, image: i}}]}}}}"
            );
            registry.api::<Pods>().create(testing::from_yaml(&yaml).unwrap()).await.unwrap();
            while let Some(change) = seen.try_next().unwrap() {
                quotas.see(registry.clock().now(), &change);
            }
        }
    }
}

//! The restarts of a container are never forgotten: their count does not go down.

use crate::{api::kinds::pod::Pods, registry::Registry};
use std::collections::BTreeMap;

#[derive(Default)]
pub(super) struct Restarts(BTreeMap<(String, String), i32>);

impl Restarts {
    pub(super) fn look(&mut self, registry: &Registry) {
        let mut seen = BTreeMap::new();
        for pod in registry.api::<Pods>().list("").items {
            let uid = pod.metadata.uid.clone().unwrap();
            for status in pod.status.iter().flat_map(|s| s.container_statuses.iter().flatten()) {
                let whose = (uid.clone(), status.name.clone());
                let before = self.0.get(&whose).copied().unwrap_or(0);
                let (name, now) = (&pod.metadata.name, status.restart_count);
                assert!(now >= before, "{name:?} {} has restarted {now} times, and {before} times before", status.name);
                seen.insert(whose, now);
            }
        }
        self.0 = seen;
    }
}

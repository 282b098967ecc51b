//! When the files of the pod's volumes are written again. Part of the worker.
//!
//! **Invariants**: writes keep a distance, however often objects change, and one that failed is made again, later each time.

use super::{Done, Worker};
use crate::{
    base::backoff::Backoff,
    engine::EngineError,
    node::{context::stored_pod, decide::Slot, volumes},
};
use jiff::{SignedDuration, Timestamp};
use std::{sync::Arc, time::Duration};

/// The distance between two writes: an object may change many times a second. Kubernetes writes once a minute.
const REST: Duration = Duration::from_secs(1);
/// A write that failed is made again.
const FAILED_BACKOFF: Backoff = Backoff { base: Duration::from_secs(1), cap: Duration::from_mins(2) };

/// When files may be written again, and must be.
#[derive(Debug, Default)]
pub(super) struct Refresh {
    failures: u32,
    not_before: Option<Timestamp>,
    due_at: Option<Timestamp>,
}

impl Refresh {
    /// When to look again whether files changed.
    pub(super) fn due_at(&self) -> Option<Timestamp> {
        self.due_at
    }

    fn rest(&mut self, now: Timestamp, time: Duration) {
        self.not_before = Some(now + SignedDuration::try_from(time).expect("rests are minutes at most"));
    }

    /// Whether files may be written now; if not, they are due later.
    fn may_begin(&mut self, now: Timestamp) -> bool {
        self.due_at = self.not_before.filter(|at| *at > now);
        self.due_at.is_none()
    }
}

impl Worker {
    /// Looks again whether files changed, when that is due.
    pub(super) fn refresh_late_files(&mut self) {
        if self.refresh.due_at.is_some_and(|at| at <= self.context.now()) {
            self.refresh.due_at = None;
            self.refresh_files();
        }
    }

    /// Writes the files of the pod's volumes again when they changed.
    pub(super) fn refresh_files(&mut self) {
        let Some(pod) = stored_pod(&self.context.pods, &self.key, &self.id.uid) else { return };
        let Some(sandbox) = self.free_sandbox() else { return };
        if !self.refresh.may_begin(self.context.now()) {
            return;
        }
        let context = Arc::clone(&self.context);
        let cluster = &context.config.cluster;
        // Files that cannot be made now stay as they are, as in Kubernetes.
        let Ok(plan) = volumes::plan(&pod, cluster, &*context, context.facts(), self.pod_ip(&pod)) else { return };
        let hash = plan.hash();
        if !plan.follows_objects() || hash == self.files {
            return;
        }
        let site = self.site(&pod);
        self.start(Some(Slot::Files), async move {
            let result = site.write_files(&sandbox, &plan).await;
            Done::FilesWritten(hash, result)
        });
    }

    pub(super) fn files_written(&mut self, hash: String, result: Result<(), EngineError>) {
        let now = self.context.now();
        match result {
            Ok(()) => {
                self.files = hash;
                self.refresh.failures = 0;
                self.refresh.rest(now, REST);
                // Something may have changed meanwhile.
                self.refresh_files();
            }
            Err(error) => {
                self.refresh.failures = self.refresh.failures.saturating_add(1);
                self.refresh.rest(now, FAILED_BACKOFF.delay(self.refresh.failures));
                self.refresh.due_at = self.refresh.not_before;
                self.tell_mount_failed(&error.to_string());
            }
        }
    }
}

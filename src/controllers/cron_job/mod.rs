//! The CronJob controller: makes a Job at each time of a schedule, and clears the old ones away.
//!
//! - [`decide`]: which job is made, which go; [`due`]: which time has come.
//! - [`status`]: which jobs run, and when one was made last, concluded after the pass.
//!
//! **Invariants**: a time has one job, whose name is made of it; a job that was made before its status could be written is found again by
//! that name; while the cluster is paused none is made, and when it goes on it is as after a sleep of the machine.
//!
//! **Source**: `pkg/controller/cronjob/{cronjob_controllerv2,utils}.go`, v1.37.

mod decide;
mod due;
mod status;
#[cfg(test)]
mod tests;

use super::{
    job::end_of,
    namespace::namespace_goes,
    paused::{is_paused, on_pause},
    runtime::{Controller, Decision, Done, Trigger},
};
use crate::{
    api::{
        kinds::{cron_job::CronJobs, job::Jobs},
        meta::{ObjectKey, is_controlled_by},
    },
    base::time_zone,
    registry::Registry,
};
use jiff::{Timestamp, tz::TimeZone};
use k8s_openapi::api::batch::v1::{CronJob, Job};
use std::sync::Arc;

/// All that a pass over a CronJob depends on.
#[derive(Clone, Debug)]
pub struct Observed {
    /// The CronJob.
    pub cron: Arc<CronJob>,
    /// The jobs that it controls, in key order.
    pub jobs: Vec<Arc<Job>>,
    /// The zone of its schedule, or why there is none.
    pub zone: Result<TimeZone, String>,
    /// Whether the namespace is going away, so that nothing can be created in it.
    pub namespace_goes: bool,
    /// Whether the cluster is paused, so that nothing would run.
    pub is_paused: bool,
    /// The time.
    pub now: Timestamp,
}

/// The controller.
#[derive(Clone, Copy, Debug)]
pub struct CronJobController;

impl Controller for CronJobController {
    type Key = ObjectKey;
    type Observed = Observed;

    const CONCLUDES: bool = true;

    fn name(&self) -> &'static str {
        "cronjob"
    }

    fn event_source(&self) -> &'static str {
        "cronjob-controller"
    }

    fn triggers(&self) -> Vec<Trigger<ObjectKey>> {
        vec![Trigger::itself::<CronJobs>(), Trigger::controller::<Jobs, CronJobs>(), on_pause::<CronJobs>()]
    }

    fn observe(&self, registry: &Registry, key: &ObjectKey) -> Option<Observed> {
        let cron = registry.api::<CronJobs>().get(key)?;
        let uid = cron.metadata.uid.clone().unwrap_or_default();
        let mut jobs = registry.api::<Jobs>().owned_by(&uid);
        jobs.retain(|job| is_controlled_by(&job.metadata, &uid));
        let zone = cron.spec.time_zone.as_deref().map_or(Ok(TimeZone::UTC), time_zone::load);
        let (namespace_goes, now) = (namespace_goes(registry, &key.namespace), registry.clock().now());
        Some(Observed { cron, jobs, zone, namespace_goes, is_paused: is_paused(registry), now })
    }

    fn weight(&self, observed: &Observed) -> usize {
        observed.jobs.len()
    }

    fn decide(&self, observed: &Observed) -> Decision {
        decide::decide(observed)
    }

    fn conclude(&self, observed: &Observed, _done: &Done) -> Decision {
        status::conclude(observed)
    }
}

impl Observed {
    fn job(&self, name: &str) -> Option<&Arc<Job>> {
        self.jobs.iter().find(|job| job.metadata.name.as_deref() == Some(name))
    }

    /// The jobs that the status says run, and that do; and those that the schedule made and whose status was lost, when skiff ended in
    /// between: they run as well.
    fn running(&self) -> impl Iterator<Item = &Arc<Job>> {
        let status = self.cron.status.as_ref();
        let told: Vec<&str> =
            status.into_iter().flat_map(|s| s.active.iter().flatten()).filter_map(|j| j.uid.as_deref()).collect();
        self.jobs.iter().filter(move |job| {
            let is_told = job.metadata.uid.as_deref().is_some_and(|uid| told.contains(&uid));
            (is_told || decide::is_scheduled(job)) && end_of(job).is_none()
        })
    }
}

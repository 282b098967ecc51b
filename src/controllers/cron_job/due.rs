//! Which time of a schedule has come and has no job yet, and when the next comes.
//!
//! **Source**: `mostRecentScheduleTime`, `nextScheduleTime` and `nextScheduleTimeDuration`, pkg/controller/cronjob/utils.go, v1.37.

use crate::api::cron::Schedule;
use jiff::{SignedDuration, Timestamp, tz::TimeZone};
use k8s_openapi::api::batch::v1::CronJob;
use std::time::Duration;

/// More missed times than these are told. Source: the same.
const MISSED_MAX: i64 = 100;
/// A little later than the time itself, so that it has come. Source: `nextScheduleDelta`.
const AFTER: Duration = Duration::from_millis(100);

/// What has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Come {
    /// The last time of the schedule that has come and that no earlier job stands for.
    pub(super) at: Option<Timestamp>,
    /// Whether so many have come that something must be wrong.
    pub(super) are_many: bool,
}

/// The times of a CronJob.
#[derive(Debug)]
pub(super) struct Times<'a> {
    pub(super) cron: &'a CronJob,
    pub(super) schedule: &'a Schedule,
    pub(super) zone: &'a TimeZone,
    pub(super) now: Timestamp,
}

impl Times<'_> {
    fn next(&self, after: Timestamp) -> Option<Timestamp> {
        self.schedule.next(after, self.zone)
    }

    /// The time after which times count: that of the last job, or the CronJob's own beginning, or the deadline if that is later.
    fn since(&self) -> Timestamp {
        let last = self.cron.status.as_ref().and_then(|s| s.last_schedule_time.as_ref());
        let from = last.or(self.cron.metadata.creation_timestamp.as_ref()).map_or(self.now, |time| time.0);
        let deadline = self.cron.spec.starting_deadline_seconds.map(SignedDuration::from_secs);
        let earliest = deadline.and_then(|deadline| self.now.checked_sub(deadline).ok());
        earliest.map_or(from, |earliest| earliest.max(from))
    }

    /// What has come by now.
    ///
    /// # Errors
    /// The schedule is of no time that there is.
    pub(super) fn come(&self) -> Result<Come, &'static str> {
        const NEVER: &str = "time difference between two schedules is less than 1 second";
        let first = self.next(self.since()).ok_or(NEVER)?;
        if first > self.now {
            return Ok(Come { at: None, are_many: false });
        }
        let second = self.next(first).ok_or(NEVER)?;
        if second > self.now {
            return Ok(Come { at: Some(first), are_many: false });
        }
        // Far back, the times are not walked one by one: the distance of the first two is taken for that of all.
        let step = second.duration_since(first).as_secs().max(1);
        let missed = self.now.duration_since(first).as_secs() / step + 1;
        let near = first.checked_add(SignedDuration::from_secs((missed - 2) * step)).map_err(|_beyond| NEVER)?;
        let mut last = None;
        let mut at = self.next(near);
        while let Some(time) = at.filter(|time| *time <= self.now) {
            last = Some(time);
            at = self.next(time);
        }
        // A schedule with gaps may have none so near.
        Ok(Come { at: last.or(Some(second)), are_many: missed > MISSED_MAX })
    }

    /// How long until the next time, if no clock jumps; `None`: there is none.
    pub(super) fn wait(&self) -> Option<Duration> {
        let next = self.next(self.now)?.duration_since(self.now);
        Duration::try_from(next).ok().map(|wait| wait.saturating_add(AFTER))
    }
}

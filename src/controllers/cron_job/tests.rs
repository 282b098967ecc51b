//! Decisions of the CronJob controller as tables.

use super::{CronJobController, Observed, decide::job_name};
use crate::{
    api::kinds::{cron_job::CronJobs, job::Jobs},
    controllers::runtime::{Action, Controller as _, Decision, Done, Report},
    testing::from_yaml,
};
use jiff::{Timestamp, tz::TimeZone};
use k8s_openapi::api::batch::v1::{CronJob, CronJobStatus, Job};
use proptest::prelude::*;
use std::{collections::BTreeSet, sync::Arc, time::Duration};

fn cron(fields: &str) -> CronJob {
    from_yaml(&format!(
        "
metadata: {{name: tick, namespace: default, uid: cron-uid, resourceVersion: '1', creationTimestamp: '2026-01-01T11:58:30Z'}}
spec:
  concurrencyPolicy: Allow
  successfulJobsHistoryLimit: 3
  failedJobsHistoryLimit: 1
  jobTemplate:
    metadata: {{labels: {{app: tick}}}}
    spec: {{template: {{spec: {{restartPolicy: Never, containers: [{{name: c, image: v1}}]}}}}}}
{fields}"
    ))
    .unwrap()
}

/// A job of this CronJob: it runs, or it ended so.
fn job(name: &str, started: &str, end: Option<&str>) -> Job {
    let conditions =
        end.map(|end| format!(", conditions: [{{type: {end}, status: 'True'}}], completionTime: '{started}'"));
    from_yaml(&format!(
        "
metadata:
  name: {name}
  namespace: default
  uid: uid-{name}
  annotations: {{batch.kubernetes.io/cronjob-scheduled-timestamp: x}}
status: {{startTime: '{started}'{}}}",
        conditions.unwrap_or_default()
    ))
    .unwrap()
}

fn observed(cron: CronJob, jobs: Vec<Job>, now: &str) -> Observed {
    let jobs = jobs.into_iter().map(Arc::new).collect();
    Observed {
        cron: Arc::new(cron),
        jobs,
        zone: Ok(TimeZone::UTC),
        namespace_goes: false,
        is_paused: false,
        now: now.parse().unwrap(),
    }
}

/// The actions and events of a decision, in short.
fn told(decision: &Decision) -> String {
    let mut told: Vec<String> = decision.planned().map(|planned| format!("{:?}", planned.action)).collect();
    told.extend(decision.events.iter().map(|event| format!("{}: {}", event.reason, event.message)));
    told.join("; ")
}

const EVERY: &str = "  schedule: '*/10 * * * *'\n";
/// Twelve o'clock, as the name of the job of that time has it.
const NOON: &str = "tick-29454480";

#[test]
fn a_job_is_made_when_its_time_has_come_and_only_once() {
    assert_eq!(job_name(&cron(EVERY), "2026-01-01T12:00:00Z".parse().unwrap()), NOON);
    let early = CronJobController.decide(&observed(cron(EVERY), vec![], "2026-01-01T11:59:50Z"));
    assert_eq!((told(&early).as_str(), early.requeue_after), ("", Some(Duration::from_millis(10_100))));
    let due = observed(cron(EVERY), vec![], "2026-01-01T12:00:00.1Z");
    let decision = CronJobController.decide(&due);
    assert_eq!(told(&decision), format!("create Job default/{NOON}"));
    let made = decision.planned().next().unwrap();
    let job_made = made.action.read::<Jobs>().unwrap();
    let annotations = job_made.metadata.annotations.clone().unwrap();
    assert_eq!(annotations["batch.kubernetes.io/cronjob-scheduled-timestamp"], "2026-01-01T12:00:00Z");
    assert_eq!(job_made.metadata.labels.clone().unwrap()["app"], "tick");
    assert!(matches!(&made.report, Report::Outcome(events) if events[0].message == format!("Created job {NOON}")));
    // It is there, and the status does not know it yet: perhaps we were ended in between.
    let after = observed(cron(EVERY), vec![job(NOON, "2026-01-01T12:00:00Z", None)], "2026-01-01T12:00:00.2Z");
    assert_eq!(told(&CronJobController.decide(&after)), "");
    let status = status(&after);
    assert_eq!(status.last_schedule_time.unwrap().0, "2026-01-01T12:00:00Z".parse::<Timestamp>().unwrap());
    assert_eq!(status.active.unwrap()[0].name.as_deref(), Some(NOON));
}

#[test]
fn who_waits_waits_for_the_next_time_or_a_day_and_for_none_that_never_comes() {
    for (schedule, expected) in [
        ("0 3 1 7 *", Some(Duration::from_hours(24))),
        ("@every 1h", Some(Duration::from_millis(3_600_100))),
        ("0 0 31 2 *", None),
    ] {
        let cron = cron(&format!("  schedule: '{schedule}'\n"));
        let decision = CronJobController.decide(&observed(cron, vec![], "2026-01-01T12:00:00Z"));
        assert_eq!(decision.requeue_after, expected, "{schedule}");
    }
}

#[test]
fn nothing_is_made_while_the_cluster_is_paused_and_what_was_missed_is_made_up_for_once() {
    let mut due = observed(with_active(""), vec![], "2026-01-01T14:05:00Z");
    let gone = "MissingJob: Active job went missing: old";
    due.is_paused = true;
    let decision = CronJobController.decide(&due);
    assert_eq!((told(&decision).as_str(), decision.requeue_after), (gone, None), "the end of the pause wakes it");
    due.is_paused = false;
    assert_eq!(told(&CronJobController.decide(&due)), format!("create Job default/tick-29454600; {gone}"));
}

fn status(observed: &Observed) -> CronJobStatus {
    let decision = CronJobController.conclude(observed, &Done::default());
    decision.planned().next().expect("the status is written").action.read::<CronJobs>().unwrap().status.unwrap()
}

/// A CronJob with this policy whose last job is said to run.
fn with_active(fields: &str) -> CronJob {
    let mut cron = cron(&format!("{EVERY}{fields}"));
    cron.status = from_yaml("{lastScheduleTime: '2026-01-01T11:50:00Z', active: [{name: old, uid: uid-old}]}").unwrap();
    cron
}

#[test]
fn what_runs_already_stays_waits_or_is_replaced() {
    let old = || vec![job("old", "2026-01-01T11:50:00Z", None)];
    let at = "2026-01-01T12:00:01Z";
    for (policy, expected) in [
        ("Allow", format!("create Job default/{NOON}")),
        (
            "Forbid",
            "JobAlreadyActive: Not starting job because prior execution is running and concurrency policy is Forbid"
                .to_owned(),
        ),
        ("Replace", format!("delete Job default/old; create Job default/{NOON}")),
    ] {
        let mut cron = with_active("");
        cron.spec.concurrency_policy = Some(policy.to_owned());
        assert_eq!(told(&CronJobController.decide(&observed(cron, old(), at))), expected, "{policy}");
    }
}

#[test]
fn what_was_missed_is_made_up_for_once_and_not_after_its_deadline() {
    let asleep =
        |fields: &str| told(&CronJobController.decide(&observed(with_active(fields), vec![], "2026-01-01T14:05:00Z")));
    let gone = "MissingJob: Active job went missing: old";
    assert_eq!(asleep(""), format!("create Job default/tick-29454600; {gone}"), "only the last");
    // A deadline that has passed leaves no time that counts.
    assert_eq!(asleep("  startingDeadlineSeconds: 200\n"), gone);
    assert_eq!(asleep("  startingDeadlineSeconds: 300\n"), gone);
    assert_eq!(asleep("  startingDeadlineSeconds: 301\n"), format!("create Job default/tick-29454600; {gone}"));
    let mut long = with_active("");
    long.spec.schedule = "* * * * *".to_owned();
    let many = told(&CronJobController.decide(&observed(long, vec![], "2026-01-01T14:05:00Z")));
    assert!(many.contains("TooManyMissedTimes: too many missed start times."), "{many}");
}

#[test]
fn nothing_is_made_while_it_is_suspended_or_cannot_be_understood() {
    let at = "2026-01-01T12:00:01Z";
    assert_eq!(told(&CronJobController.decide(&observed(cron(&format!("{EVERY}  suspend: true\n")), vec![], at))), "");
    let never = told(&CronJobController.decide(&observed(cron("  schedule: '0 0 31 2 *'\n"), vec![], at)));
    assert!(never.starts_with("InvalidSchedule: invalid schedule: 0 0 31 2 *"), "{never}");
    let mut lost = observed(cron(&format!("{EVERY}  timeZone: Mars/Olympus\n")), vec![], at);
    lost.zone = Err("unknown time zone Mars/Olympus".to_owned());
    let lost = told(&CronJobController.decide(&lost));
    assert_eq!(lost, "UnknownTimeZone: invalid timeZone: \"Mars/Olympus\": unknown time zone Mars/Olympus");
}

#[test]
fn a_schedule_goes_by_the_clock_of_its_zone() {
    let mut o = observed(cron("  schedule: '0 7 * * *'\n  timeZone: X\n"), vec![], "2026-01-01T12:00:01Z");
    o.zone = Ok(TimeZone::posix("EST5EDT,M3.2.0,M11.1.0").unwrap());
    let decision = CronJobController.decide(&o);
    let made = decision.planned().next().unwrap().action.read::<Jobs>().unwrap();
    assert_eq!(made.metadata.name.as_deref(), Some(NOON));
    let annotations = made.metadata.annotations.unwrap();
    assert_eq!(annotations["batch.kubernetes.io/cronjob-scheduled-timestamp"], "2026-01-01T07:00:00-05:00");
}

#[test]
fn the_last_jobs_are_kept_and_the_others_go() {
    let jobs = ["a", "b", "c", "d", "e"].iter().enumerate().map(|(i, name)| {
        let end = if i == 1 { "Failed" } else { "Complete" };
        job(name, &format!("2026-01-01T1{i}:00:00Z"), Some(end))
    });
    let failed = job("f", "2026-01-01T15:00:00Z", Some("Failed"));
    let mut cron = cron("  schedule: '0 0 1 1 *'\n");
    cron.status = from_yaml("{active: [{name: e, uid: uid-e}]}").unwrap();
    let o = observed(cron, jobs.chain([failed]).collect(), "2026-01-01T16:00:00Z");
    let decision = told(&CronJobController.decide(&o));
    assert_eq!(
        decision,
        "delete Job default/a; delete Job default/b; SawCompletedJob: Saw completed job: e, condition: Complete"
    );
    let status = status(&o);
    assert_eq!(status.last_successful_time.unwrap().0, "2026-01-01T14:00:00Z".parse::<Timestamp>().unwrap());
    assert_eq!(status.active, None);
}

#[test]
fn a_job_that_somebody_else_made_is_told_and_counts_for_nothing() {
    let mut manual = job("by-hand", "2026-01-01T11:59:00Z", None);
    manual.metadata.annotations = from_yaml("{cronjob.kubernetes.io/instantiate: manual}").unwrap();
    let o = observed(cron("  schedule: '0 0 1 1 *'\n"), vec![manual], "2026-01-01T12:00:00Z");
    let decision = told(&CronJobController.decide(&o));
    assert_eq!(decision, "UnexpectedJob: Saw a job that the controller did not create or forgot: by-hand");
    assert!(CronJobController.conclude(&o, &Done::default()).is_rest());
}

#[derive(Clone, Debug)]
enum Happening {
    /// A pass, of which so many writes are carried out.
    Pass(usize),
    /// Time goes by, or the clock jumps either way, by so many seconds.
    Time(i64),
    /// The oldest job that runs ends.
    End,
    Pause(bool),
}

fn happening() -> impl Strategy<Value = Happening> {
    prop_oneof![
        5 => prop_oneof![Just(usize::MAX), 0..3usize].prop_map(Happening::Pass),
        4 => (1..700i64).prop_map(Happening::Time),
        // Back by less than a period: what the history has lost is not known to have been made.
        1 => (-500..20_000i64).prop_map(Happening::Time),
        2 => Just(Happening::End),
        1 => any::<bool>().prop_map(Happening::Pause),
    ]
}

/// A CronJob and its jobs, as a store has them.
struct World {
    observed: Observed,
    /// Every time that got a job.
    made: Vec<String>,
}

impl World {
    /// A pass; no more than so many writes of it are carried out.
    fn pass(&mut self, writes: usize) {
        let decision = CronJobController.decide(&self.observed);
        decision.planned().take(writes).for_each(|planned| self.write(&planned.action));
        if writes >= decision.planned().count() {
            let conclusion = CronJobController.conclude(&self.observed, &Done::default());
            conclusion.planned().take(writes).for_each(|planned| self.write(&planned.action));
        }
    }

    fn write(&mut self, action: &Action) {
        let now = self.observed.now;
        match action {
            Action::Create { .. } => {
                let mut job = action.read::<Jobs>().expect("it makes jobs");
                let name = job.metadata.name.clone().unwrap();
                job.metadata.uid = Some(format!("uid-{name}"));
                job.status = from_yaml(&format!("{{startTime: '{now}'}}")).unwrap();
                self.made.push(name);
                self.observed.jobs.push(Arc::new(job));
            }
            Action::Delete { key, .. } => {
                self.observed.jobs.retain(|job| job.metadata.name.as_deref() != Some(&*key.name));
            }
            _ => self.observed.cron = Arc::new(action.read::<CronJobs>().expect("it writes its status")),
        }
    }

    fn end_oldest(&mut self) {
        let ended = |job: &Job| job.status.as_ref().is_some_and(|s| s.conditions.is_some());
        let Some(at) = self.observed.jobs.iter().position(|job| !ended(job)) else { return };
        let mut job = Job::clone(&self.observed.jobs[at]);
        job.status.as_mut().unwrap().conditions = from_yaml("[{type: Complete, status: 'True'}]").unwrap();
        self.observed.jobs[at] = Arc::new(job);
    }
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, cases: 128, ..ProptestConfig::default() })]

    /// Whatever becomes of writes and of the clock, a time gets one job, none is made while the cluster is paused, and with `Forbid` no two
    /// run at once.
    #[test]
    fn a_time_has_one_job(happenings in prop::collection::vec(happening(), 0..80), forbids: bool) {
        let policy = if forbids { "Forbid" } else { "Allow" };
        let mut cron = cron(EVERY);
        cron.spec.concurrency_policy = Some(policy.to_owned());
        let mut world = World { observed: observed(cron, vec![], "2026-01-01T11:59:00Z"), made: Vec::new() };
        for happening in happenings {
            let before = world.made.len();
            match happening {
                Happening::Pass(writes) => world.pass(writes),
                Happening::Time(secs) => world.observed.now += jiff::SignedDuration::from_secs(secs),
                Happening::End => world.end_oldest(),
                Happening::Pause(is) => world.observed.is_paused = is,
            }
            prop_assert!(!world.observed.is_paused || world.made.len() == before, "made while paused");
            let once: BTreeSet<_> = world.made.iter().collect();
            prop_assert_eq!(once.len(), world.made.len(), "{:?}", world.made);
            let running = world.observed.jobs.iter().filter(|job| job.status.as_ref().is_some_and(|s| s.conditions.is_none()));
            prop_assert!(!forbids || running.count() <= 1);
        }
    }
}

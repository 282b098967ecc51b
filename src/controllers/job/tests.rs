//! Decisions of the Job controller as tables, and a small world in which they are carried out, in part or whole, while pods end at random.

use super::{FINALIZER, JobController, JobObserved, Observed, end_of, pods::INDEX, true_condition};
use crate::{
    api::{
        kind::TypedKind as _,
        kinds::{job::Jobs, pod::Pods},
        pod_state,
    },
    controllers::runtime::{Action, Controller as _, Decision, Done},
    testing::from_yaml,
};
use jiff::{SignedDuration, Timestamp};
use k8s_openapi::{
    api::{
        batch::v1::{Job, JobStatus},
        core::v1::Pod,
    },
    apimachinery::pkg::apis::meta::v1::Time,
};
use proptest::prelude::*;
use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
    time::Duration,
};

const START: &str = "2026-01-01T12:00:00Z";

/// A job with these fields beside its template.
fn job(fields: &str) -> Job {
    from_yaml(&format!(
        "
metadata: {{name: pi, namespace: default, uid: job-uid, resourceVersion: '1', generation: 1}}
spec:
  backoffLimit: 6
  parallelism: 1
  podReplacementPolicy: TerminatingOrFailed
  selector: {{matchLabels: {{batch.kubernetes.io/controller-uid: job-uid}}}}
  template:
    metadata: {{labels: {{batch.kubernetes.io/controller-uid: job-uid}}}}
    spec: {{restartPolicy: Never, containers: [{{name: c, image: v1}}]}}
{fields}"
    ))
    .unwrap()
}

/// A job and its pods, as a store has them.
struct World {
    job: Option<Job>,
    pods: BTreeMap<String, Pod>,
    now: Timestamp,
    made: usize,
    events: Vec<String>,
    wait: Option<Duration>,
}

impl World {
    fn new(fields: &str) -> Self {
        Self {
            job: Some(job(fields)),
            pods: BTreeMap::new(),
            now: START.parse().unwrap(),
            made: 0,
            events: Vec::new(),
            wait: None,
        }
    }

    fn observed(&self) -> Observed {
        let job = Arc::new(self.job.clone().expect("the job is there"));
        let pods = self.pods.values().cloned().map(Arc::new).collect();
        Observed::Job(Box::new(JobObserved { job, pods, namespace_goes: false, now: self.now }))
    }

    /// One pass; no more than `steps` writes of it are carried out. Says whether it wanted anything.
    fn pass(&mut self, mut steps: usize) -> bool {
        let mut is_done = |world: &mut Self, decision: &Decision| {
            world.wait = [world.wait, decision.requeue_after].into_iter().flatten().min();
            for planned in decision.planned() {
                if steps == 0 || !world.write(&planned.action) {
                    return false;
                }
                steps -= 1;
                if let crate::controllers::runtime::Report::OnSuccess(event) = &planned.report {
                    world.events.push(format!("{}: {}", event.reason, event.message));
                }
            }
            true
        };
        self.wait = None;
        let decision = JobController.decide(&self.observed());
        let goes_on = is_done(self, &decision);
        if !goes_on || self.job.is_none() {
            return true;
        }
        let closing = JobController.conclude(&self.observed(), &Done::default());
        is_done(self, &closing);
        !decision.is_rest() || !closing.is_rest()
    }

    fn settle(&mut self) {
        assert!((0..20).any(|_| !self.pass(usize::MAX)), "it does not come to rest: {:?}", self.status());
    }

    /// Whether it could be written: the revision was current.
    fn write(&mut self, action: &Action) -> bool {
        match action {
            Action::Create { .. } => {
                let mut pod = action.read::<Pods>().unwrap();
                self.made += 1;
                let name = format!("{}{:03}", pod.metadata.generate_name.as_deref().unwrap(), self.made);
                pod.metadata.uid = Some(format!("uid-{}", self.made));
                pod.metadata.name = Some(name.clone());
                pod.metadata.resource_version = Some("1".into());
                pod.metadata.creation_timestamp = Some(Time(self.now));
                self.pods.insert(name, pod);
            }
            Action::Update { .. } if action.read::<Pods>().is_some() => {
                let mut pod = action.read::<Pods>().unwrap();
                let name = pod.metadata.name.clone().unwrap();
                let stored = &self.pods[&name];
                if stored.metadata.resource_version != pod.metadata.resource_version {
                    return false;
                }
                bump(&mut pod);
                self.pods.insert(name.clone(), pod);
                self.sweep(&name);
            }
            Action::Update { .. } => self.job = action.read::<Jobs>(),
            Action::Delete { kind, .. } if kind.info().kind == "Job" => self.job = None,
            Action::Delete { key, .. } => self.delete(&key.name),
            Action::Adopt { .. } | Action::Release { .. } => panic!("jobs update their pods"),
        }
        true
    }

    fn delete(&mut self, name: &str) {
        let Some(pod) = self.pods.get_mut(name) else { return };
        pod.metadata.deletion_timestamp = Some(Time(self.now));
        bump(pod);
        self.sweep(name);
    }

    /// A pod that is deleted, has ended and has no finalizer is gone.
    fn sweep(&mut self, name: &str) {
        let pod = &self.pods[name];
        let is_held = pod.metadata.finalizers.iter().flatten().next().is_some();
        if pod.metadata.deletion_timestamp.is_some() && pod_state::is_terminal(pod) && !is_held {
            self.pods.remove(name);
        }
    }

    /// Lets a pod end; `code` is that of its container.
    fn end(&mut self, name: &str, code: i32) {
        let phase = if code == 0 { "Succeeded" } else { "Failed" };
        let status = format!(
            "{{phase: {phase}, containerStatuses: [{{name: c, image: i, imageID: i, ready: false, restartCount: 0, \
             state: {{terminated: {{exitCode: {code}, finishedAt: '{}'}}}}}}]}}",
            self.now
        );
        let pod = self.pods.get_mut(name).unwrap();
        pod.status = Some(from_yaml(&status).unwrap());
        bump(pod);
        self.sweep(name);
    }

    fn active(&self) -> Vec<String> {
        self.pods.iter().filter(|(_, pod)| pod_state::is_active(pod)).map(|(name, _)| name.clone()).collect()
    }

    fn status(&self) -> JobStatus {
        self.job.as_ref().unwrap().status.clone().unwrap_or_default()
    }

    fn later(&mut self, secs: i64) {
        self.now += SignedDuration::from_secs(secs);
    }

    /// The conditions that hold, each with its reason.
    fn conditions(&self) -> String {
        let all = self.status().conditions.unwrap_or_default();
        let told = all.iter().map(|c| format!("{}={} {}", c.type_, c.status, c.reason.as_deref().unwrap_or_default()));
        told.collect::<Vec<_>>().join(", ")
    }
}

fn bump(pod: &mut Pod) {
    let former: u32 = pod.metadata.resource_version.as_deref().unwrap_or("1").parse().unwrap();
    pod.metadata.resource_version = Some((former + 1).to_string());
}

#[test]
fn a_job_runs_its_pods_and_is_complete() {
    let mut world = World::new("  completions: 3\n  parallelism: 2\n");
    world.settle();
    assert_eq!((world.active().len(), world.status().active, world.status().start_time.is_some()), (2, Some(2), true));
    let pod = &world.pods.values().next().unwrap().metadata;
    assert_eq!(pod.finalizers, Some(vec![FINALIZER.to_owned()]));
    for _ in 0..3 {
        let name = world.active()[0].clone();
        world.later(1);
        world.end(&name, 0);
        world.settle();
    }
    assert_eq!(world.conditions(), "SuccessCriteriaMet=True CompletionsReached, Complete=True CompletionsReached");
    let status = world.status();
    assert_eq!((status.succeeded, status.active, status.failed, status.terminating), (Some(3), None, None, Some(0)));
    assert_eq!(status.completion_time, Some(Time(world.now)));
    assert_eq!(world.events, ["Completed: Job completed"]);
    assert!(world.pods.values().all(|pod| pod.metadata.finalizers.is_none()), "what is counted is let go");
}

#[test]
fn without_completions_the_first_success_is_enough_and_the_others_may_end() {
    let mut world = World::new("  parallelism: 3\n");
    world.settle();
    let active = world.active();
    world.end(&active[0], 0);
    world.settle();
    assert_eq!((world.active().len(), world.conditions()), (2, String::new()), "none is made and none is ended");
    active[1..].iter().for_each(|name| world.end(name, 0));
    world.settle();
    assert_eq!((world.status().succeeded, end_of(world.job.as_ref().unwrap()).is_some()), (Some(3), true));
}

#[test]
fn failures_are_followed_by_longer_and_longer_waits_until_there_were_too_many() {
    let mut world = World::new("  completions: 1\n  backoffLimit: 2\n");
    for expected in [10, 20] {
        world.settle();
        let name = world.active()[0].clone();
        world.end(&name, 1);
        world.settle();
        assert_eq!((world.active().len(), world.wait), (0, Some(Duration::from_secs(expected))));
        world.later(i64::try_from(expected).unwrap());
    }
    world.settle();
    let name = world.active()[0].clone();
    world.end(&name, 1);
    world.settle();
    assert_eq!(world.conditions(), "FailureTarget=True BackoffLimitExceeded, Failed=True BackoffLimitExceeded");
    assert_eq!((world.status().failed, world.events.len()), (Some(3), 1));
    assert_eq!(world.events, ["BackoffLimitExceeded: Job has reached the specified backoff limit"]);
}

#[test]
fn a_job_that_fails_ends_its_other_pods_before_it_says_so() {
    let mut world = World::new("  completions: 3\n  parallelism: 3\n  backoffLimit: 0\n");
    world.settle();
    let active = world.active();
    world.end(&active[0], 1);
    world.settle();
    assert_eq!(world.conditions(), "FailureTarget=True BackoffLimitExceeded");
    assert_eq!((world.active().len(), world.status().terminating, world.status().failed), (0, Some(2), Some(3)));
    active[1..].iter().for_each(|name| world.end(name, 137));
    world.settle();
    assert_eq!((world.status().failed, world.status().terminating), (Some(3), Some(0)));
    assert!(true_condition(world.job.as_ref().unwrap(), "Failed").is_some());
}

#[test]
fn indexes_are_made_once_each_and_written_as_ranges() {
    let mut world = World::new("  completions: 5\n  parallelism: 3\n  completionMode: Indexed\n");
    world.settle();
    let pod = world.pods["pi-0-001"].clone();
    assert_eq!(
        (&pod.metadata.labels.unwrap()[INDEX], &pod.metadata.annotations.unwrap()[INDEX]),
        (&"0".into(), &"0".into())
    );
    let spec = pod.spec.unwrap();
    assert_eq!(spec.hostname.as_deref(), Some("pi-0"));
    let variable = spec.containers[0].env.as_ref().unwrap()[0].clone();
    let field = variable.value_from.unwrap().field_ref.unwrap().field_path;
    assert_eq!(
        (variable.name.as_str(), field.as_str()),
        ("JOB_COMPLETION_INDEX", &*format!("metadata.labels['{INDEX}']"))
    );
    world.end("pi-1-002", 0);
    world.end("pi-2-003", 0);
    world.settle();
    assert_eq!(world.status().completed_indexes.as_deref(), Some("1,2"));
    assert_eq!(world.active(), ["pi-0-001", "pi-3-004", "pi-4-005"]);
    ["pi-0-001", "pi-3-004", "pi-4-005"].iter().for_each(|name| world.end(name, 0));
    world.settle();
    assert_eq!((world.status().completed_indexes.as_deref(), world.status().succeeded), (Some("0-4"), Some(5)));
    assert_eq!(world.conditions(), "SuccessCriteriaMet=True CompletionsReached, Complete=True CompletionsReached");
}

#[test]
fn each_index_may_have_a_limit_of_its_own() {
    let mut world = World::new(
        "  completions: 2\n  parallelism: 2\n  completionMode: Indexed\n  backoffLimitPerIndex: 1\n  backoffLimit: 2147483647\n",
    );
    world.settle();
    world.end("pi-0-001", 1);
    world.end("pi-1-002", 0);
    world.settle();
    assert_eq!(world.wait, Some(Duration::from_secs(10)));
    assert!(world.pods["pi-0-001"].metadata.finalizers.is_some(), "it tells its successor how often it was tried");
    world.later(10);
    world.settle();
    let second = world.active()[0].clone();
    assert_eq!(
        world.pods[&second].metadata.annotations.as_ref().unwrap()["batch.kubernetes.io/job-index-failure-count"],
        "1"
    );
    assert_eq!((world.status().failed, world.pods["pi-0-001"].metadata.finalizers.clone()), (Some(1), None));
    world.end(&second, 1);
    world.settle();
    assert_eq!(world.status().failed_indexes.as_deref(), Some("0"));
    assert_eq!(world.conditions(), "FailureTarget=True FailedIndexes, Failed=True FailedIndexes");
}

#[test]
fn a_job_fails_when_more_indexes_have_failed_than_may() {
    let mut world = World::new(
        "  completions: 4\n  parallelism: 4\n  completionMode: Indexed\n  backoffLimitPerIndex: 0\n  maxFailedIndexes: 1\n  backoffLimit: 2147483647\n",
    );
    world.settle();
    world.end("pi-0-001", 1);
    world.settle();
    assert_eq!((world.conditions().as_str(), world.active().len()), ("", 3), "one may fail");
    world.end("pi-2-003", 1);
    world.settle();
    let told = true_condition(world.job.as_ref().unwrap(), "FailureTarget").unwrap().clone();
    assert_eq!(told.reason.as_deref(), Some("MaxFailedIndexesExceeded"));
    assert_eq!(told.message.as_deref(), Some("Job has exceeded the specified maximal number of failed indexes"));
    // The other two were ended for that: their pods count as failed, their indexes do not.
    world.settle();
    assert_eq!((world.status().failed_indexes.as_deref(), world.status().failed), (Some("0,2"), Some(4)));
}

#[test]
fn a_policy_says_what_failures_mean() {
    let policy = |action: &str| {
        format!(
            "  completions: 2\n  parallelism: 2\n  podFailurePolicy: {{rules: [{{action: {action}, onExitCodes: {{operator: In, values: [42]}}}}, \
             {{action: Ignore, onPodConditions: [{{type: DisruptionTarget, status: 'True'}}]}}]}}\n"
        )
    };
    let mut world = World::new(&policy("FailJob"));
    world.settle();
    let name = world.active()[0].clone();
    world.end(&name, 42);
    world.settle();
    let job = world.job.clone().unwrap();
    let told = true_condition(&job, "FailureTarget").unwrap();
    assert_eq!(told.reason.as_deref(), Some("PodFailurePolicy"));
    let message =
        format!("Container c for pod default/{name} failed with exit code 42 matching FailJob rule at index 0");
    assert_eq!(told.message.as_ref(), Some(&message));
    let mut world = World::new(&policy("Ignore"));
    world.settle();
    let name = world.active()[0].clone();
    world.end(&name, 42);
    world.settle();
    assert_eq!((world.status().failed, world.conditions()), (None, String::new()), "it does not count");
    world.later(10);
    world.settle();
    assert_eq!(world.active().len(), 2);
}

#[test]
fn a_success_policy_ends_a_job_early() {
    let mut world = World::new(
        "  completions: 4\n  parallelism: 4\n  completionMode: Indexed\n  successPolicy: {rules: [{succeededIndexes: '0,2-3', succeededCount: 2}]}\n",
    );
    world.settle();
    world.end("pi-1-002", 0);
    world.end("pi-2-003", 0);
    world.settle();
    assert_eq!(world.conditions(), "");
    world.end("pi-3-004", 0);
    world.settle();
    assert_eq!((world.conditions().as_str(), world.active().len()), ("SuccessCriteriaMet=True SuccessPolicy", 0));
    world.end("pi-0-001", 143);
    world.settle();
    assert_eq!(world.conditions(), "SuccessCriteriaMet=True SuccessPolicy, Complete=True SuccessPolicy");
}

#[test]
fn a_suspended_job_has_no_pods_and_starts_anew() {
    let mut world = World::new("  completions: 1\n");
    world.settle();
    let suspend = |world: &mut World, is: bool| {
        world.job.as_mut().unwrap().spec.as_mut().unwrap().suspend = Some(is);
        world.settle();
    };
    let name = world.active()[0].clone();
    suspend(&mut world, true);
    assert_eq!((world.active().len(), world.conditions().as_str()), (0, "Suspended=True JobSuspended"));
    world.end(&name, 143);
    world.later(5);
    suspend(&mut world, false);
    assert_eq!((world.active().len(), world.conditions().as_str()), (1, "Suspended=False JobResumed"));
    assert_eq!((world.status().start_time, world.status().failed), (Some(Time(world.now)), None));
    assert_eq!(world.events, ["Suspended: Job suspended", "Resumed: Job resumed"]);
}

#[test]
fn a_job_has_a_deadline_and_goes_some_time_after_its_end() {
    let mut world = World::new("  completions: 1\n  activeDeadlineSeconds: 30\n  ttlSecondsAfterFinished: 60\n");
    world.settle();
    let name = world.active()[0].clone();
    assert!(world.wait.is_some_and(|wait| wait <= Duration::from_secs(30)), "{:?}", world.wait);
    world.later(30);
    world.settle();
    world.end(&name, 137);
    world.settle();
    assert_eq!(world.conditions(), "FailureTarget=True DeadlineExceeded, Failed=True DeadlineExceeded");
    assert_eq!(world.wait, Some(Duration::from_secs(60)));
    world.later(60);
    world.pass(usize::MAX);
    assert!(world.job.is_none());
}

#[test]
fn a_pod_that_is_deleted_is_replaced_at_once_or_once_it_has_ended() {
    for (policy, active) in [("TerminatingOrFailed", 1), ("Failed", 0)] {
        let mut world = World::new("  completions: 1\n");
        world.job.as_mut().unwrap().spec.as_mut().unwrap().pod_replacement_policy = Some(policy.to_owned());
        world.settle();
        let name = world.active()[0].clone();
        world.delete(&name);
        world.settle();
        assert_eq!((world.active().len(), world.status().terminating), (active, Some(1)), "{policy}");
        world.end(&name, 143);
        world.settle();
        world.later(10);
        world.settle();
        assert_eq!((world.active().len(), world.status().failed), (1, Some(1)), "{policy}");
    }
}

#[test]
fn what_another_manages_is_left_alone_and_what_no_job_counts_is_let_go() {
    let mut world = World::new("  completions: 1\n  managedBy: example.com/queue\n");
    assert!(!world.pass(usize::MAX));
    let orphan: Pod =
        from_yaml(&format!("metadata: {{name: a, resourceVersion: '1', finalizers: [{FINALIZER}, example.com/x]}}"))
            .unwrap();
    let decision = JobController.decide(&Observed::Orphan(Arc::new(orphan)));
    let pod = decision.planned().next().unwrap().action.read::<Pods>().unwrap();
    assert_eq!(pod.metadata.finalizers, Some(vec!["example.com/x".to_owned()]));
    assert_eq!(Jobs::erased().info().plural, "jobs");
}

#[derive(Clone, Debug)]
enum Happening {
    /// A pass of which so many writes are carried out.
    Pass(usize),
    /// A pod ends so.
    End(usize, bool),
    Delete(usize),
}

fn happening() -> impl Strategy<Value = Happening> {
    prop_oneof![
        3 => prop_oneof![Just(usize::MAX), 0..6usize].prop_map(Happening::Pass),
        3 => (0..8usize, prop::bool::weighted(0.7)).prop_map(|(n, well)| Happening::End(n, well)),
        1 => (0..8usize).prop_map(Happening::Delete),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, cases: 96, ..ProptestConfig::default() })]

    /// Whatever is carried out of each pass, every pod that succeeds counts once, and no index has two active pods.
    #[test]
    fn what_succeeds_counts_once(
        completions in 1..6i32,
        parallelism in 1..4i32,
        is_indexed: bool,
        happenings in prop::collection::vec(happening(), 0..60),
    ) {
        let mode = if is_indexed { "Indexed" } else { "NonIndexed" };
        let mut world = World::new(&format!(
            "  completions: {completions}\n  parallelism: {parallelism}\n  completionMode: {mode}\n  backoffLimit: 1000\n"
        ));
        let mut succeeded = BTreeSet::new();
        let last = (0..40).flat_map(|_| [Happening::Pass(usize::MAX), Happening::Pass(usize::MAX), Happening::End(0, true)]);
        for happening in happenings.into_iter().chain(last) {
            world.later(700);
            let active: Vec<String> =
                world.pods.iter().filter(|(_, pod)| !pod_state::is_terminal(pod)).map(|(name, _)| name.clone()).collect();
            match happening {
                Happening::Pass(steps) => {
                    world.pass(steps);
                }
                Happening::End(n, well) => {
                    if let Some(name) = active.get(n % active.len().max(1)) {
                        let pod = &world.pods[name].metadata;
                        // Of an index only the first success counts, and a pod that goes has failed already.
                        if well && pod.deletion_timestamp.is_none() {
                            let index = pod.annotations.as_ref().and_then(|all| all.get(INDEX)).cloned();
                            succeeded.insert(index.unwrap_or_else(|| name.clone()));
                        }
                        let well = well && pod.deletion_timestamp.is_none();
                        world.end(name, i32::from(!well));
                    }
                }
                Happening::Delete(n) => {
                    if let Some(name) = active.get(n % active.len().max(1)) {
                        world.delete(name);
                    }
                }
            }
            prop_assert!(world.active().len() <= usize::try_from(parallelism).unwrap());
            let indexes: Vec<_> =
                world.active().iter().filter_map(|name| world.pods[name].metadata.annotations.as_ref()?.get(INDEX).cloned()).collect();
            prop_assert_eq!(indexes.iter().collect::<BTreeSet<_>>().len(), indexes.len(), "an index has two active pods");
        }
        world.settle();
        let status = world.status();
        prop_assert!(true_condition(world.job.as_ref().unwrap(), "Complete").is_some(), "{:?}", status);
        prop_assert_eq!(status.succeeded, Some(i32::try_from(succeeded.len()).unwrap()));
        prop_assert_eq!(status.succeeded, Some(completions));
        prop_assert!(status.uncounted_terminated_pods.unwrap().succeeded.is_none());
    }
}

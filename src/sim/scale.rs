//! What many pods cost: writes and processor time for each pod of a rollout, and what a large world at rest takes for ever.
//!
//! An ordinary test run counts the writes, at a small scale. `SKIFF_SIM_SCALE=1000 cargo sim sim::scale -- --nocapture` measures a larger
//! one, and holds the processor time to its budgets too: that of a rollout as a ratio to what its writes alone take, made one after the
//! other in an API that nobody follows, in the same run. Time is simulated.
//!
//! So do `SKIFF_SIM_JOB=1000` (completions, a twentieth of them at once), `SKIFF_SIM_SET=100` (pods of a StatefulSet that are made at
//! once) and `SKIFF_SIM_CRONS=500` (CronJobs that wait) for `sim::scale` too.

use super::{fence::Fence, manifests::deployment, number, simulate, workload::change, world::World};
use crate::{
    api::{
        kind::TypedKind,
        kinds::{cron_job::CronJobs, deployment::Deployments, job::Jobs, pod::Pods, stateful_set::StatefulSets},
        meta::{ObjectKey, Revision},
    },
    engine::fake::Behaviour,
};
use k8s_openapi::{api::core::v1::Pod, apimachinery::pkg::apis::meta::v1::ObjectMeta};
use serde_json::{Value, json};
use std::{collections::BTreeMap, time::Duration};

/// Pods of an ordinary test run.
const PODS: u64 = 30;
/// Writes of everything, for a pod that is created: made, scheduled, three states until it is ready; five Events; its share of the
/// counts of its set and its Deployment and of its Services' endpoints, of which fewer are written the more pods change at once.
const CREATION_WRITES_MAX: f64 = 22.0;
/// The same, for a pod that is replaced: its predecessor ends in three writes and two Events.
const ROLLOUT_WRITES_MAX: f64 = 34.0;
/// The same at a scale at which keys rest between passes.
const CREATION_WRITES_MAX_AT_SCALE: f64 = 14.0;
const ROLLOUT_WRITES_MAX_AT_SCALE: f64 = 20.0;
/// Processor time of a rollout to that of its writes alone; the engine that is played is in it too.
const RATIO_MAX: f64 = 30.0;
/// The share of a processor that a world at rest may take, in percent.
const REST_PERCENT_MAX: f64 = 0.2;
/// Simulated time over which rest is measured.
const REST: Duration = Duration::from_mins(30);
/// Writes in that time: the node's Lease, once a minute, and what tells of it.
const REST_WRITES_MAX: u64 = 200;

/// Processor seconds that this process has used.
fn cpu_secs() -> f64 {
    let stat = std::fs::read_to_string("/proc/self/stat").unwrap();
    let fields: Vec<&str> = stat.rsplit(')').next().unwrap().split_whitespace().collect();
    // User and system time, in hundredths of a second.
    fields[11..13].iter().map(|ticks| ticks.parse::<f64>().unwrap()).sum::<f64>() / 100.0
}

fn rss_mib() -> f64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find(|line| line.starts_with("VmRSS")).unwrap();
    line.split_whitespace().nth(1).unwrap().parse::<f64>().unwrap() / 1024.0
}

/// Completions of a Job, pods of a StatefulSet and CronJobs of an ordinary test run.
const COMPLETIONS: u64 = 60;
const MEMBERS: u64 = 20;
const CRONS: u64 = 50;
/// How many of a job's completions run at once.
const WAVES: u64 = 20;
/// Writes of everything for a completion: its pod is made, scheduled, has four states until it has ended, is let go of when it is counted;
/// four Events; its share of the job's counts, of which fewer are written the more pods end at once.
const COMPLETION_WRITES_MAX: f64 = 18.0;
/// Writes for a member of a StatefulSet whose pods are made at once, as for a pod of a Deployment.
const MEMBER_WRITES_MAX: f64 = 22.0;
/// What such a pod takes from its start to its end, simulated, to how many waves of it the engine needs: starts wait for each other there.
const WAVE_MAX: Duration = Duration::from_secs(3);
/// The share of a processor that CronJobs which wait may take, in percent.
const CRONS_PERCENT_MAX: f64 = 0.1;

/// The kind in a key.
fn kind_of(key: &str) -> String {
    key.split('/').take(2).collect::<Vec<_>>().join("/")
}

struct Scale {
    world: World,
    key: ObjectKey,
    size: u64,
    /// How often each kind was written.
    writes: BTreeMap<String, usize>,
}

impl Scale {
    async fn new(size: u64) -> Self {
        let mut world = World::new(1).await;
        world.stop_watching();
        // The node is not ready at once, and pods that are made before say so.
        tokio::time::sleep(Duration::from_secs(10)).await;
        let replicas = i32::try_from(size).unwrap();
        let mut wanted = deployment(&world, "web", "app:1", replicas, false);
        // The pace of the defaults; nothing is probed for ever.
        wanted.spec.strategy = None;
        wanted.spec.min_ready_seconds = None;
        wanted.spec.progress_deadline_seconds = None;
        wanted.spec.template.spec.as_mut().unwrap().containers[0].readiness_probe = None;
        world.registry().api::<Deployments>().create(wanted).await.unwrap();
        Self { world, key: ObjectKey::new("default", "web"), size, writes: BTreeMap::new() }
    }

    /// Waits until the Deployment is complete, and counts what is written until then.
    async fn complete(&mut self, from: Revision) {
        let mut watch = self.world.registry().store().watch("", from).unwrap();
        self.writes.clear();
        let api = self.world.registry().api::<Deployments>();
        let pods = self.world.registry().api::<Pods>();
        loop {
            *self.writes.entry(kind_of(&watch.next().await.unwrap().key)).or_default() += 1;
            self.world.forget();
            let deployment = api.get(&self.key).unwrap();
            let all = usize::try_from(Fence::of(&deployment).pods_max).unwrap();
            let status = deployment.status.clone().unwrap_or_default();
            let has = [status.updated_replicas, status.available_replicas, status.replicas].map(|n| n.unwrap_or(0));
            let wanted = i32::try_from(self.size).unwrap();
            let is_complete = has == [wanted; 3] && status.observed_generation == deployment.metadata.generation;
            if is_complete && pods.list("default").items.len() <= self.size.try_into().unwrap() {
                return;
            }
            assert!(self.writes_made() < 100 * all, "it takes more writes than it may");
        }
    }

    fn writes_made(&self) -> usize {
        self.writes.values().sum()
    }

    async fn measured(&mut self, what: &str, writes_max: f64, from: Revision) {
        let (cpu, start) = (cpu_secs(), self.world.clock.now());
        self.complete(from).await;
        let (cpu, took) = (cpu_secs() - cpu, self.world.clock.now().duration_since(start));
        let floor = floor(&self.world, self.size, self.writes_made()).await;
        let (n, ratio) = (u32::try_from(self.size).map_or(f64::MAX, f64::from), cpu / floor);
        let per_pod = f64::from(u32::try_from(self.writes_made()).unwrap()) / n;
        eprintln!(
            "{what} of {n} pods: {per_pod:.1} writes per pod (budget {writes_max}), {cpu:.2} s of processor, {ratio:.2} of the writes alone (budget {RATIO_MAX}), {took:.0} simulated; {:.0} MiB\n  {:?}",
            rss_mib(),
            self.writes,
        );
        assert!(per_pod <= writes_max, "{what}: {per_pod:.1} writes per pod: {:?}", self.writes);
        assert!(ratio <= RATIO_MAX || !is_measured(), "{what}: {ratio:.2} times the processor time of its writes");
    }

    async fn rest(&mut self) {
        // What is left of the rollout: Events end, the history is long enough.
        tokio::time::sleep(Duration::from_hours(2)).await;
        self.world.forget();
        let (cpu, revision) = (cpu_secs(), self.world.registry().store().revision().0);
        tokio::time::sleep(REST).await;
        let percent = (cpu_secs() - cpu) / REST.as_secs_f64() * 100.0;
        let writes = self.world.registry().store().revision().0 - revision;
        eprintln!(
            "{} pods at rest: {percent:.3} % of a processor (budget {REST_PERCENT_MAX}), {writes} writes in {REST:?} (budget {REST_WRITES_MAX}); {:.0} MiB",
            self.size,
            rss_mib()
        );
        assert!(writes <= REST_WRITES_MAX, "{writes} writes at rest");
        assert!(percent <= REST_PERCENT_MAX || !is_measured(), "{percent:.3} % of a processor at rest");
    }
}

/// Processor seconds that so many writes take by themselves: pods that are made, and changed as often as it needs.
async fn floor(world: &World, size: u64, writes: usize) -> f64 {
    let registry = world.deserted().await;
    let api = registry.api::<Pods>();
    let like = world.registry().api::<Pods>().list("default").items.pop().unwrap();
    let size = usize::try_from(size).unwrap();
    let pods = (0..size).map(|i| {
        let mut pod = (*like).clone();
        let metadata = ObjectMeta { name: Some(format!("pod-{i}")), ..ObjectMeta::default() };
        pod.metadata = ObjectMeta { labels: pod.metadata.labels, namespace: pod.metadata.namespace, ..metadata };
        pod
    });
    let pods: Vec<Pod> = pods.collect();
    let cpu = cpu_secs();
    for pod in pods {
        api.create(pod).await.unwrap();
    }
    for i in 0..writes.saturating_sub(size) {
        let change = |pod: &mut Pod| pod.status.get_or_insert_default().message = Some(format!("change {i}"));
        api.modify_status(&ObjectKey::new("default", format!("pod-{}", i % size)), change).await.unwrap();
    }
    cpu_secs() - cpu
}

/// Whether processor time counts: it does when somebody asks for figures.
fn is_measured() -> bool {
    number("SKIFF_SIM_SCALE").is_some()
}

#[test]
fn a_rollout_writes_little_for_each_pod_and_rest_is_rest() {
    simulate(async {
        let size = number("SKIFF_SIM_SCALE").unwrap_or(PODS);
        let mut scale = Scale::new(size).await;
        let (creation_max, rollout_max) = if is_measured() {
            (CREATION_WRITES_MAX_AT_SCALE, ROLLOUT_WRITES_MAX_AT_SCALE)
        } else {
            (CREATION_WRITES_MAX, ROLLOUT_WRITES_MAX)
        };
        let from = scale.world.registry().store().revision();
        scale.measured("creation", creation_max, from).await;
        let from = scale.world.registry().store().revision();
        change(&scale.world, &scale.key, |s| super::manifests::set_image(s, "app:2")).await.unwrap();
        scale.measured("rollout", rollout_max, from).await;
        scale.rest().await;
    });
}

/// Creates an object in a world, and counts what is written until it is as wanted: the writes, the processor seconds, the simulated time.
async fn counted<K: TypedKind>(
    world: &World,
    object: Value,
    is_done: impl Fn(&World) -> bool,
) -> (BTreeMap<String, usize>, f64, Duration) {
    let registry = world.registry();
    let mut watch = registry.store().watch("", registry.store().revision()).unwrap();
    let (cpu, start, mut writes) = (cpu_secs(), world.clock.mono(), BTreeMap::new());
    registry.api::<K>().create(serde_json::from_value(object).unwrap()).await.unwrap();
    while !is_done(world) {
        *writes.entry(kind_of(&watch.next().await.unwrap().key)).or_default() += 1;
        world.forget();
    }
    (writes, cpu_secs() - cpu, world.clock.mono() - start)
}

/// Tells what was counted for so many, and holds the writes for each to a budget; where figures are asked for, the processor time too.
async fn told(
    world: &World,
    (what, n, is_asked): (&str, u64, bool),
    max: f64,
    (writes, cpu, took): (BTreeMap<String, usize>, f64, Duration),
) {
    let all = writes.values().sum::<usize>();
    let each = f64::from(u32::try_from(all).unwrap()) / u32::try_from(n).map_or(f64::MAX, f64::from);
    let ratio = cpu / floor(world, n, all).await;
    eprintln!(
        "{what} of {n}: {each:.1} writes for each (budget {max}), {cpu:.2} s of processor, {ratio:.2} of the writes alone (budget {RATIO_MAX}), {took:.1?} simulated; {:.0} MiB\n  {writes:?}",
        rss_mib()
    );
    assert!(each <= max, "{what}: {each:.1} writes for each: {writes:?}");
    assert!(ratio <= RATIO_MAX || !is_asked, "{what}: {ratio:.2} times the processor time of its writes");
}

/// A world that nobody checks, ready for pods; `work:1` ends well after a second.
async fn unwatched() -> World {
    let mut world = World::new(1).await;
    world.stop_watching();
    world.engine.add_image("work:1", Behaviour::exits(Duration::from_secs(1), 0));
    tokio::time::sleep(Duration::from_secs(10)).await;
    world
}

fn pod_template(image: &str, restart_policy: &str) -> Value {
    json!({
        "metadata": { "labels": { "app": "scale" } },
        "spec": { "restartPolicy": restart_policy, "containers": [{ "name": "c", "image": image }] },
    })
}

#[test]
fn a_job_writes_little_for_each_completion() {
    simulate(async {
        let size = number("SKIFF_SIM_JOB").unwrap_or(COMPLETIONS);
        let world = unwatched().await;
        let key = ObjectKey::new("default", "sums");
        let job = json!({
            "metadata": { "name": key.name, "namespace": "default" },
            "spec": { "completions": size, "parallelism": size / WAVES, "template": pod_template("work:1", "Never") },
        });
        let is_done = |world: &World| {
            let job = world.registry().api::<Jobs>().get(&key).unwrap();
            job.status.as_ref().is_some_and(|s| s.completion_time.is_some())
        };
        let counts = counted::<Jobs>(&world, job, is_done).await;
        let took = counts.2;
        told(&world, ("job", size, number("SKIFF_SIM_JOB").is_some()), COMPLETION_WRITES_MAX, counts).await;
        let longest = WAVE_MAX * u32::try_from(WAVES).unwrap();
        assert!(took <= longest || is_measured(), "{took:?} for {WAVES} waves");
        let succeeded = world.registry().api::<Jobs>().get(&key).unwrap().status.clone().unwrap().succeeded;
        assert_eq!(succeeded, Some(i32::try_from(size).unwrap()));
    });
}

#[test]
fn a_set_whose_pods_are_made_at_once_writes_little_for_each() {
    simulate(async {
        let size = number("SKIFF_SIM_SET").unwrap_or(MEMBERS);
        let world = unwatched().await;
        let key = ObjectKey::new("default", "db");
        let set = json!({
            "metadata": { "name": key.name, "namespace": "default" },
            "spec": {
                "replicas": size, "serviceName": "db", "podManagementPolicy": "Parallel",
                "selector": { "matchLabels": { "app": "scale" } }, "template": pod_template("app:1", "Always"),
            },
        });
        let is_done = |world: &World| {
            let set = world.registry().api::<StatefulSets>().get(&key).unwrap();
            let ready = set.status.as_ref().and_then(|s| s.ready_replicas).unwrap_or(0);
            u64::try_from(ready) == Ok(size)
        };
        let counts = counted::<StatefulSets>(&world, set, is_done).await;
        told(&world, ("set", size, number("SKIFF_SIM_SET").is_some()), MEMBER_WRITES_MAX, counts).await;
    });
}

#[test]
fn cron_jobs_that_wait_take_nothing() {
    simulate(async {
        let size = number("SKIFF_SIM_CRONS").unwrap_or(CRONS);
        let world = unwatched().await;
        for n in 0..size {
            let cron = json!({
                "metadata": { "name": format!("cron-{n}"), "namespace": "default" },
                "spec": {
                    "schedule": format!("{} 3 1 7 *", n % 60),
                    "jobTemplate": { "spec": { "template": pod_template("work:1", "Never") } },
                },
            });
            world.registry().api::<CronJobs>().create(serde_json::from_value(cron).unwrap()).await.unwrap();
        }
        tokio::time::sleep(Duration::from_hours(2)).await;
        world.forget();
        let (cpu, revision) = (cpu_secs(), world.registry().store().revision().0);
        tokio::time::sleep(REST).await;
        let percent = (cpu_secs() - cpu) / REST.as_secs_f64() * 100.0;
        let writes = world.registry().store().revision().0 - revision;
        eprintln!(
            "{size} CronJobs at rest: {percent:.3} % of a processor (budget {CRONS_PERCENT_MAX}), {writes} writes in {REST:?} (budget {REST_WRITES_MAX}); {:.0} MiB",
            rss_mib()
        );
        assert!(writes <= REST_WRITES_MAX, "{writes} writes at rest");
        assert!(percent <= CRONS_PERCENT_MAX || number("SKIFF_SIM_CRONS").is_none(), "{percent:.3} % of a processor");
    });
}

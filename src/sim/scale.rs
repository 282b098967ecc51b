//! What many pods cost: writes and processor time for each pod of a rollout, and what a large world at rest takes for ever.
//!
//! An ordinary test run counts the writes, at a small scale. `SKIFF_SIM_SCALE=1000 cargo sim sim::scale -- --nocapture` prints the figures
//! of a larger one; time is simulated, so what a rollout takes on the wall is what the control plane itself needs for it.

use super::{fence::Fence, manifests::deployment, number, simulate, workload::change, world::World};
use crate::{
    api::{
        kinds::{deployment::Deployments, pod::Pods},
        meta::{ObjectKey, Revision},
    },
    store::Change,
};
use std::{collections::BTreeMap, sync::Arc, time::Duration};

/// Pods of an ordinary test run.
const PODS: u64 = 30;
/// Writes of everything, for a pod that is created: made, scheduled, up to five states until it is ready; half a dozen Events; its
/// share of the counts of its set and its Deployment and of its Services' endpoints, of which fewer are written the more pods change
/// at once.
const CREATION_WRITES_MAX: f64 = 22.0;
/// The same, for a pod that is replaced: its predecessor ends in four writes and two Events.
const ROLLOUT_WRITES_MAX: f64 = 38.0;
/// The share of a processor that a world at rest may take, in percent.
const REST_PERCENT_MAX: f64 = 0.5;
/// Simulated time over which rest is measured.
const REST: Duration = Duration::from_mins(30);

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

/// How often each kind was written since a revision.
fn writes(changes: &[Arc<Change>]) -> BTreeMap<String, usize> {
    let mut writes = BTreeMap::new();
    for change in changes {
        let kind: Vec<&str> = change.key.split('/').take(2).collect();
        *writes.entry(kind.join("/")).or_default() += 1;
    }
    writes
}

struct Scale {
    world: World,
    key: ObjectKey,
    size: u64,
    seen: Vec<Arc<Change>>,
}

impl Scale {
    async fn new(size: u64) -> Self {
        let mut world = World::new(1).await;
        world.stop_watching();
        let replicas = i32::try_from(size).unwrap();
        let mut wanted = deployment(&world, "web", "app:1", replicas, false);
        // The pace of the defaults; nothing is probed for ever.
        wanted.spec.strategy = None;
        wanted.spec.min_ready_seconds = None;
        wanted.spec.progress_deadline_seconds = None;
        wanted.spec.template.spec.as_mut().unwrap().containers[0].readiness_probe = None;
        world.registry().api::<Deployments>().create(wanted).await.unwrap();
        Self { world, key: ObjectKey::new("default", "web"), size, seen: Vec::new() }
    }

    /// Waits until the Deployment is complete, and counts what is written until then.
    async fn complete(&mut self, from: Revision) {
        let mut watch = self.world.registry().store().watch("", from).unwrap();
        self.seen.clear();
        let api = self.world.registry().api::<Deployments>();
        let pods = self.world.registry().api::<Pods>();
        loop {
            self.seen.push(watch.next().await.unwrap());
            let deployment = api.get(&self.key).unwrap();
            let all = usize::try_from(Fence::of(&deployment).pods_max).unwrap();
            let status = deployment.status.clone().unwrap_or_default();
            let has = [status.updated_replicas, status.available_replicas, status.replicas].map(|n| n.unwrap_or(0));
            let wanted = i32::try_from(self.size).unwrap();
            let is_complete = has == [wanted; 3] && status.observed_generation == deployment.metadata.generation;
            if is_complete && pods.list("default").items.len() <= self.size.try_into().unwrap() {
                return;
            }
            assert!(self.seen.len() < 100 * all, "it takes more writes than it may");
        }
    }

    async fn measured(&mut self, what: &str, budget: f64, from: Revision) {
        let (cpu, start) = (cpu_secs(), self.world.clock.now());
        self.complete(from).await;
        let (cpu, took) = (cpu_secs() - cpu, self.world.clock.now().duration_since(start));
        let n = u32::try_from(self.size).map_or(f64::MAX, f64::from);
        let per_pod = f64::from(u32::try_from(self.seen.len()).unwrap()) / n;
        eprintln!(
            "{what} of {n} pods: {per_pod:.1} writes per pod (budget {budget}), {cpu:.2} s of processor, {took:.0} simulated; {:.0} MiB\n  {:?}",
            rss_mib(),
            writes(&self.seen),
        );
        assert!(per_pod <= budget, "{what}: {per_pod:.1} writes per pod: {:?}", writes(&self.seen));
    }

    async fn rest(&mut self) {
        // What is left of the rollout: Events end, the history is long enough.
        tokio::time::sleep(Duration::from_hours(2)).await;
        let (cpu, revision) = (cpu_secs(), self.world.registry().store().revision().0);
        tokio::time::sleep(REST).await;
        let percent = (cpu_secs() - cpu) / REST.as_secs_f64() * 100.0;
        let writes = self.world.registry().store().revision().0 - revision;
        eprintln!(
            "{} pods at rest: {percent:.3} % of a processor (budget {REST_PERCENT_MAX}), {writes} writes in {REST:?}; {:.0} MiB",
            self.size,
            rss_mib()
        );
        assert!(percent <= REST_PERCENT_MAX, "{percent:.3} % of a processor at rest");
    }
}

#[test]
fn a_rollout_writes_little_for_each_pod_and_rest_is_rest() {
    simulate(async {
        let size = number("SKIFF_SIM_SCALE").unwrap_or(PODS);
        let mut scale = Scale::new(size).await;
        let from = scale.world.registry().store().revision();
        scale.measured("creation", CREATION_WRITES_MAX, from).await;
        let from = scale.world.registry().store().revision();
        change(&scale.world, &scale.key, |s| super::manifests::set_image(s, "app:2")).await.unwrap();
        scale.measured("rollout", ROLLOUT_WRITES_MAX, from).await;
        scale.rest().await;
    });
}

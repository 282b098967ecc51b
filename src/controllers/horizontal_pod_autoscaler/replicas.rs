//! How many replicas a resource's usage calls for. Pure.
//!
//! Pods that are not ready and pods that were not measured are counted against the direction: as using nothing before a step up, as using
//! all that they may before a step down. Amounts are thousandths, of a processor as of a byte.
//!
//! **Source**: `pkg/controller/podautoscaler/{replica_calculator.go,metrics/utilization.go}`, v1.37.

use crate::{
    api::{
        pod_resources::{self, Side},
        pod_state,
        usage::{ContainerUsage, PodUsage},
    },
    base::{
        clock::after,
        ordered::{Map, Set},
    },
};
use jiff::{SignedDuration, Timestamp};
use k8s_openapi::api::core::v1::{Container, Pod};
use std::sync::Arc;

/// How long after its start a pod's processor time may be that of its start. Source: `horizontal-pod-autoscaler-cpu-initialization-period`.
const CPU_INITIALIZATION: SignedDuration = SignedDuration::from_mins(5);
/// How long after its start a pod that is not ready has never been. Source: `horizontal-pod-autoscaler-initial-readiness-delay`.
const INITIAL_READINESS_DELAY: SignedDuration = SignedDuration::from_secs(30);

/// How far the usage may be from the target without a step.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Tolerances {
    pub(super) scale_down: f64,
    pub(super) scale_up: f64,
}

impl Tolerances {
    fn is_within(self, ratio: f64) -> bool {
        (1.0 - self.scale_down..=1.0 + self.scale_up).contains(&ratio)
    }
}

/// The pods of a target and what was measured of them.
#[derive(Clone, Copy, Debug)]
pub(super) struct World<'a> {
    pub(super) pods: &'a [Arc<Pod>],
    pub(super) usages: &'a [PodUsage],
    pub(super) tolerances: Tolerances,
    pub(super) replicas: i32,
    pub(super) now: Timestamp,
}

/// Which resource, of which container; of all of them when there is none.
#[derive(Clone, Copy, Debug)]
pub(super) struct Of<'a> {
    pub(super) resource: &'a str,
    pub(super) container: Option<&'a str>,
}

/// How many replicas there should be, and how much is used.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Wanted {
    pub(super) replicas: i32,
    /// In percent of what is requested.
    pub(super) utilization: Option<i32>,
    /// On average, in thousandths.
    pub(super) average: i64,
}

/// Amounts by the name of their pod.
type Amounts = Map<String, i64>;

/// How the pods stand.
#[derive(Debug, Default)]
struct Groups {
    ready: usize,
    unready: Set<String>,
    missing: Set<String>,
    ignored: Set<String>,
}

/// The replicas for a target in percent of what is requested.
pub(super) fn for_utilization(world: &World<'_>, of: Of<'_>, target: i32) -> Result<Wanted, String> {
    let (mut used, groups) = counted(world, of)?;
    let requests = requests(world.pods, of)?;
    let (ratio, utilization, average) = utilization(&used, &requests, target)?;
    let fallback = |pod: &str| requests.get(pod).map_or(0, |request| request * i64::from(target.max(100)) / 100);
    let again = |used: &Amounts| utilization_ratio(used, &requests, target);
    let replicas = replicas(world, &groups, &mut used, ratio, fallback, again)?;
    Ok(Wanted { replicas, utilization: Some(utilization), average })
}

/// The replicas for a target as an average amount.
pub(super) fn for_average(world: &World<'_>, of: Of<'_>, target: i64) -> Result<Wanted, String> {
    let (mut used, groups) = counted(world, of)?;
    let average = average_of(&used);
    let ratio = |used: &Amounts| Ok(share(average_of(used), target));
    let replicas = replicas(world, &groups, &mut used, share(average, target), |_| target, ratio)?;
    Ok(Wanted { replicas, utilization: None, average })
}

/// What is used by the pods that count as they are, and how all of them stand.
fn counted(world: &World<'_>, of: Of<'_>) -> Result<(Amounts, Groups), String> {
    let measured: Map<&str, &PodUsage> = world.usages.iter().map(|usage| (&*usage.key.name, usage)).collect();
    let mut used = Amounts::new();
    for pod in world.pods {
        let name = pod.metadata.name.as_deref().unwrap_or_default();
        if let Some(usage) = measured.get(name)
            && let Some(amount) = amount(usage, of)?
        {
            used.insert(name.to_owned(), amount);
        }
    }
    if used.is_empty() {
        return Err(format!(
            "unable to get metrics for resource {}: no metrics returned from resource metrics API",
            of.resource
        ));
    }
    if world.pods.is_empty() {
        return Err("no pods returned by selector while calculating replica count".to_owned());
    }
    let groups = groups(world, &measured, &used, of.resource);
    used.retain(|pod, _| !groups.ignored.contains(pod) && !groups.unready.contains(pod));
    if used.is_empty() {
        return Err("did not receive metrics for targeted pods (pods might be unready)".to_owned());
    }
    Ok((used, groups))
}

/// What a pod uses of a resource; `None`: that is not measured.
fn amount(usage: &PodUsage, of: Of<'_>) -> Result<Option<i64>, String> {
    let of_one: fn(&ContainerUsage) -> u64 = match of.resource {
        "cpu" => |c| c.cpu_nano_cores.div_ceil(1_000_000),
        "memory" => |c| c.working_set_bytes.saturating_mul(1000),
        _ => return Ok(None),
    };
    let amount = match of.container {
        None => usage.total(of_one),
        Some(name) => {
            let found = usage.containers.iter().find(|c| c.name == name);
            let missing = || format!("container {name} not present in metrics for pod {}", usage.key);
            of_one(found.ok_or_else(missing)?)
        }
    };
    Ok(Some(i64::try_from(amount).unwrap_or(i64::MAX)))
}

/// Source: `groupPods`.
fn groups(world: &World<'_>, measured: &Map<&str, &PodUsage>, used: &Amounts, resource: &str) -> Groups {
    let mut groups = Groups::default();
    for pod in world.pods {
        let name = pod.metadata.name.clone().unwrap_or_default();
        if pod.metadata.deletion_timestamp.is_some() || pod_state::phase(pod) == "Failed" {
            groups.ignored.insert(name);
        } else if pod_state::phase(pod) == "Pending" {
            groups.unready.insert(name);
        } else if !used.contains_key(&name) {
            groups.missing.insert(name);
        } else if resource == "cpu" && is_unready(pod, measured[&*name], world.now) {
            groups.unready.insert(name);
        } else {
            groups.ready += 1;
        }
    }
    groups
}

/// Whether a pod's processor time is that of its start.
fn is_unready(pod: &Pod, usage: &PodUsage, now: Timestamp) -> bool {
    let started = pod.status.as_ref().and_then(|status| status.start_time.as_ref()).map(|at| at.0);
    let (Some(ready), Some(started)) = (pod_state::condition(pod, pod_state::READY), started) else { return true };
    let since = ready.last_transition_time.as_ref().map_or(Timestamp::MIN, |at| at.0);
    let is_false = ready.status == "False";
    if after(started, CPU_INITIALIZATION) > now {
        let window = SignedDuration::try_from(usage.window).unwrap_or(SignedDuration::MAX);
        return is_false || usage.at < after(since, window);
    }
    is_false && after(started, INITIAL_READINESS_DELAY) > since
}

/// What each pod asks for. Source: `calculatePodRequests`.
fn requests(pods: &[Arc<Pod>], of: Of<'_>) -> Result<Amounts, String> {
    let one = |pod: &Arc<Pod>| {
        let name = pod.metadata.name.clone().unwrap_or_default();
        let spec = pod.spec.as_ref();
        let of_pod = spec.and_then(|s| s.resources.as_ref()).map(|r| pod_resources::amounts(Side::Requests.of(r)));
        if of.container.is_none()
            && let Some(amount) = of_pod.and_then(|amounts| amounts.get(of.resource).copied())
        {
            return Ok((name, amount.millis()));
        }
        let sidecars =
            spec.iter().flat_map(|s| s.init_containers.iter().flatten()).filter(|c| pod_state::is_sidecar(c));
        let all: Vec<&Container> = spec.iter().flat_map(|s| &s.containers).chain(sidecars).collect();
        if let Some(wanted) = of.container
            && !all.iter().any(|c| c.name == wanted)
        {
            return Err(format!("container {wanted} not found in Pod {name}"));
        }
        let mut sum: i64 = 0;
        for container in all.iter().filter(|c| of.container.is_none_or(|wanted| c.name == wanted)) {
            let amounts = pod_resources::of_container(container, Side::Requests);
            let missing =
                || format!("missing request for {} in container {} of Pod {name}", of.resource, container.name);
            sum = sum.saturating_add(amounts.get(of.resource).ok_or_else(missing)?.millis());
        }
        Ok((name, sum))
    };
    pods.iter().map(one).collect()
}

/// The share of the target, the usage in percent of the requests, and the average usage.
fn utilization(used: &Amounts, requests: &Amounts, target: i32) -> Result<(f64, i32, i64), String> {
    let known: Vec<(i64, i64)> = used.iter().filter_map(|(pod, used)| Some((*used, *requests.get(pod)?))).collect();
    let (used, requested) = known
        .iter()
        .fold((0_i128, 0_i128), |(u, r), (used, requested)| (u + i128::from(*used), r + i128::from(*requested)));
    if requested == 0 {
        return Err("no metrics returned matched known pods".to_owned());
    }
    let percent = i32::try_from(used * 100 / requested).unwrap_or(i32::MAX);
    let n = i128::try_from(known.len()).unwrap_or(1);
    Ok((f64::from(percent) / f64::from(target), percent, i64::try_from(used / n).unwrap_or(i64::MAX)))
}

fn utilization_ratio(used: &Amounts, requests: &Amounts, target: i32) -> Result<f64, String> {
    utilization(used, requests, target).map(|(ratio, ..)| ratio)
}

fn average_of(used: &Amounts) -> i64 {
    let sum: i128 = used.values().map(|amount| i128::from(*amount)).sum();
    let n = i128::try_from(used.len().max(1)).unwrap_or(1);
    i64::try_from(sum / n).unwrap_or(i64::MAX)
}

#[allow(clippy::cast_precision_loss, reason = "a ratio of two amounts needs no more digits than a double has")]
fn share(amount: i64, target: i64) -> f64 {
    amount as f64 / target as f64
}

#[allow(
    clippy::cast_precision_loss,
    clippy::cast_possible_truncation,
    reason = "numbers of pods are small, and a cast that is too great stops at the greatest"
)]
fn times(ratio: f64, n: usize) -> i32 {
    (ratio * n as f64).ceil() as i32
}

/// The replicas for a ratio of usage and target, once those that are not ready and those that are missing are counted too.
fn replicas(
    world: &World<'_>,
    groups: &Groups,
    used: &mut Amounts,
    ratio: f64,
    at_most: impl Fn(&str) -> i64,
    ratio_of: impl Fn(&Amounts) -> Result<f64, String>,
) -> Result<i32, String> {
    let up_with_unready = !groups.unready.is_empty() && ratio > 1.0;
    if !up_with_unready && groups.missing.is_empty() {
        return Ok(if world.tolerances.is_within(ratio) { world.replicas } else { times(ratio, groups.ready) });
    }
    for pod in &groups.missing {
        if ratio < 1.0 {
            used.insert(pod.clone(), at_most(pod));
        } else if ratio > 1.0 {
            used.insert(pod.clone(), 0);
        }
    }
    if up_with_unready {
        used.extend(groups.unready.iter().map(|pod| (pod.clone(), 0)));
    }
    let again = ratio_of(used)?;
    if world.tolerances.is_within(again) || (ratio < 1.0 && again > 1.0) || (ratio > 1.0 && again < 1.0) {
        return Ok(world.replicas);
    }
    let wanted = times(again, used.len());
    // What is not measured must not turn a step round.
    let is_turned = (again < 1.0 && wanted > world.replicas) || (again > 1.0 && wanted < world.replicas);
    Ok(if is_turned { world.replicas } else { wanted })
}

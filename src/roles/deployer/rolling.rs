//! The strategy Rolling: new pods take the place of old ones step by step, within the fence.
//!
//! [`Bounds`] decides, the rest does. **Source**: oc, `pkg/cli/deployer/strategy/rolling/rolling.go` and
//! `pkg/cli/deployer/rollingupdater/rolling_updater.go`.

use super::{
    Rollout,
    cluster::{LOOK_MIN, wait},
    hooks::{Point, hook},
    name_of, recreate,
    until::{Outcome, Until},
};
use crate::api::{
    fence::Fence,
    kinds::deployment_config::types::RollingDeploymentStrategyParams,
    pod_state::is_pod_available,
    rollout::{ORIGINAL_REPLICAS, UPDATE_SOURCE, size},
};
use anyhow::bail;
use k8s_openapi::api::core::v1::ReplicationController;
use std::time::Duration;
use tokio::time::{Instant, sleep_until};

/// The sizes of the two sides, and how many new pods are available.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Sides {
    pub(super) new: i32,
    pub(super) old: i32,
    pub(super) available: i32,
}

/// What a rollout is to keep to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Bounds {
    pub(super) desired: i32,
    pub(super) surge: i32,
    pub(super) min_available: i32,
}

impl Bounds {
    pub(super) fn new(params: &RollingDeploymentStrategyParams, desired: i32) -> Self {
        let fence = Fence::new(params.max_surge.as_ref(), params.max_unavailable.as_ref(), desired);
        // With no pods wanted, all old ones may go.
        let min_available = if desired == 0 { 0 } else { (desired - fence.unavailable).max(0) };
        Self { desired, surge: fence.surge, min_available }
    }

    /// How many new pods there may be now. **Source**: `scaleUp`.
    pub(super) fn grown(self, sides: Sides) -> i32 {
        let room = if sides.old == 0 {
            self.desired - sides.new
        } else {
            (self.desired + self.surge) - (sides.old + sides.new)
        };
        if room <= 0 { sides.new } else { (sides.new + room).min(self.desired) }
    }

    /// How many old pods there must be still. **Source**: `scaleDown`.
    pub(super) fn shrunk(self, sides: Sides) -> i32 {
        if sides.new == self.desired && sides.available >= sides.new {
            return 0;
        }
        let unavailable = sides.new - sides.available;
        let surplus = (sides.old + sides.new) - self.min_available - unavailable;
        if surplus <= 0 { sides.old } else { (sides.old - surplus).max(0) }
    }
}

pub(super) async fn run(rollout: &Rollout<'_>) -> anyhow::Result<Outcome> {
    let params = rollout.config.spec.strategy.rolling_params.clone().unwrap_or_default();
    hook(rollout, Point::Pre, params.pre.as_ref()).await?;
    if let Some(reached) = rollout.until.is(Until::Pre) {
        return Ok(reached);
    }
    let outcome = match &rollout.from {
        // There is nothing to be gentle to.
        None => recreate::fill(rollout).await?,
        Some(from) => update(rollout, from, &params).await?,
    };
    if outcome == Outcome::Done {
        hook(rollout, Point::Post, params.post.as_ref()).await?;
    }
    Ok(outcome)
}

async fn update(
    rollout: &Rollout<'_>,
    from: &ReplicationController,
    params: &RollingDeploymentStrategyParams,
) -> anyhow::Result<Outcome> {
    let cluster = rollout.cluster;
    let (to_name, from_name) = (rollout.to.as_str(), name_of(from));
    let source = format!("{from_name}:{}", from.metadata.uid.as_deref().unwrap_or_default());
    cluster.annotate(to_name, &[(UPDATE_SOURCE, Some(source))]).await?;
    cluster.annotate(from_name, &[(ORIGINAL_REPLICAS, Some(size(from).to_string()))]).await?;
    let bounds = Bounds::new(params, rollout.desired);
    let (desired, most) = (rollout.desired, rollout.desired + bounds.surge);
    let new = size(&cluster.rollout(to_name).await?);
    rollout.say(&format!(
        "--> Scaling up {to_name} from {new} to {desired}, scaling down {from_name} from {} to 0 (keep {} pods available, don't exceed {most} pods)",
        size(from), bounds.min_available
    ));
    if let reached @ Outcome::Reached(_) = steps(rollout, from_name, bounds, params).await? {
        return Ok(reached);
    }
    cluster.annotate(to_name, &[(UPDATE_SOURCE, None)]).await?;
    Ok(Outcome::Done)
}

/// Goes step by step until all pods are new ones. Old pods go, and more new ones come, a period after the last new ones were wanted, or
/// once that can be. The period is counted from the wish and not from when the pods are there, and not at all once no new pod is to come:
/// oc pauses after each step, which protects nobody and makes every rollout seconds longer.
async fn steps(
    rollout: &Rollout<'_>,
    from: &str,
    bounds: Bounds,
    params: &RollingDeploymentStrategyParams,
) -> anyhow::Result<Outcome> {
    let period = Duration::from_secs(params.update_period_seconds.unwrap_or(1).unsigned_abs());
    let timeout = rollout.timeout();
    let mut sides = look(rollout, from).await?;
    let mut due = Instant::now();
    while sides.new != bounds.desired || sides.old != 0 {
        let grown = bounds.grown(sides);
        if grown != sides.new {
            due = Instant::now() + period;
            rollout.say(&format!("    Scaling {} up to {grown}", rollout.to));
            rollout.cluster.scale_and_wait(&rollout.to, grown, timeout).await?;
            if let Some(reached) = rollout.until.stops_at(grown, bounds.desired) {
                return Ok(reached);
            }
        }
        sleep_until(due).await;
        sides = look_until_due(rollout, from, bounds).await?;
        let shrunk = bounds.shrunk(sides);
        if shrunk != sides.old {
            rollout.say(&format!("    Scaling {from} down to {shrunk}"));
            rollout.cluster.scale_and_wait(from, shrunk, timeout).await?;
            sides.old = shrunk;
        }
    }
    Ok(Outcome::Done)
}

/// Looks until one side is to change.
async fn look_until_due(rollout: &Rollout<'_>, from: &str, bounds: Bounds) -> anyhow::Result<Sides> {
    let since = Instant::now();
    let mut pause = LOOK_MIN;
    loop {
        let sides = look(rollout, from).await?;
        if bounds.grown(sides) != sides.new || bounds.shrunk(sides) != sides.old || sides.old == 0 {
            return Ok(sides);
        }
        if since.elapsed() >= rollout.timeout() {
            bail!("timed out waiting for any update progress to be made");
        }
        wait(&mut pause).await;
    }
}

async fn look(rollout: &Rollout<'_>, from: &str) -> anyhow::Result<Sides> {
    let new = rollout.cluster.rollout(&rollout.to).await?;
    let old = rollout.cluster.rollout(from).await?;
    let pods = rollout.cluster.pods_of(&new).await?;
    let min_ready = new.spec.as_ref().and_then(|spec| spec.min_ready_seconds).unwrap_or(0);
    let now = rollout.cluster.now();
    let is_good = |pod: &&_| is_pod_available(pod, min_ready, now);
    let staying = pods.iter().filter(|pod| pod.metadata.deletion_timestamp.is_none());
    let available = i32::try_from(staying.filter(is_good).count()).unwrap_or(i32::MAX);
    Ok(Sides { new: size(&new), old: size(&old), available })
}

//! The strategy Recreate: the old pods end, then the new ones start. The first rollout of any strategy is done so too.
//!
//! **Source**: oc, `pkg/cli/deployer/strategy/recreate/recreate.go`; what is waited for: `support/lifecycle.go`, `AcceptAvailablePods`.

use super::{
    Rollout,
    hooks::{Point, hook},
    name_of,
    until::{Outcome, Until},
};
use anyhow::bail;
use k8s_openapi::api::core::v1::ReplicationController;

pub(super) async fn run(rollout: &Rollout<'_>) -> anyhow::Result<Outcome> {
    let params = rollout.config.spec.strategy.recreate_params.clone().unwrap_or_default();
    hook(rollout, Point::Pre, params.pre.as_ref()).await?;
    if let Some(reached) = rollout.until.is(Until::Pre) {
        return Ok(reached);
    }
    if let Some(from) = &rollout.from {
        empty(rollout, from).await?;
    }
    hook(rollout, Point::Mid, params.mid.as_ref()).await?;
    if let Some(reached) = rollout.until.is(Until::Mid) {
        return Ok(reached);
    }
    let outcome = fill(rollout).await?;
    if outcome == Outcome::Done {
        hook(rollout, Point::Post, params.post.as_ref()).await?;
    }
    Ok(outcome)
}

/// Ends the old pods, and waits for that. Pods that take longer than a step may are waited for no more.
async fn empty(rollout: &Rollout<'_>, from: &ReplicationController) -> anyhow::Result<()> {
    let name = name_of(from);
    rollout.say(&format!("--> Scaling {name} down to zero"));
    rollout.cluster.scale_and_wait(name, 0, rollout.timeout()).await?;
    if !rollout.cluster.wait_until_gone(from, rollout.timeout()).await? {
        rollout.say(&format!("--> Some pods of {name} are still there after {} s", rollout.timeout().as_secs()));
    }
    Ok(())
}

/// Starts the new pods: one at first when there was something before, to see whether it comes up.
pub(super) async fn fill(rollout: &Rollout<'_>) -> anyhow::Result<Outcome> {
    let (to, desired) = (rollout.to.as_str(), rollout.desired);
    let is_careful = rollout.from.is_some() && desired > 0;
    if is_careful {
        rollout.say(&format!("--> Scaling {to} to 1 before performing acceptance check"));
        rollout.cluster.scale_and_wait(to, 1, rollout.timeout()).await?;
        accept(rollout).await?;
    }
    // A share is rounded up: a deployer that is told to go on does something.
    let share = match rollout.until {
        Until::Percent(percent) => {
            i32::try_from((i64::from(desired) * i64::from(percent) + 99) / 100).unwrap_or(desired)
        }
        _ => desired,
    };
    if !is_careful || share > 1 {
        rollout.say(&format!("--> Scaling {to} to {share}"));
        rollout.cluster.scale_and_wait(to, share, rollout.timeout()).await?;
    }
    if !is_careful {
        accept(rollout).await?;
    }
    Ok(rollout.until.stops_at(share, desired).unwrap_or(Outcome::Done))
}

/// Waits until all pods of the rollout are available.
async fn accept(rollout: &Rollout<'_>) -> anyhow::Result<()> {
    let within = rollout.timeout();
    if rollout.cluster.wait_until_available(&rollout.to, within).await? {
        return Ok(());
    }
    let namespace = rollout.config.metadata.namespace.as_deref().unwrap_or_default();
    bail!("pods for rc '{namespace}/{}' took longer than {} seconds to become available", rollout.to, within.as_secs())
}

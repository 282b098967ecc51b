//! `skiff deployer`, called `openshift-deploy` in skiff's image: does one rollout of a DeploymentConfig, from the pod that the deployer
//! controller made for it.
//!
//! - `cluster`: what it needs of the API, and the API itself; `rolling`, `recreate`: the strategies; `hooks`: what comes before, in between
//!   and after; `until`: how far it goes.
//!
//! What it prints is the log that users read. It ends with success when the rollout is what it is to be, or has come as far as it was
//! told; its end is all that others know of it. It begins again where another run left off.
//!
//! **Source**: github.com/openshift/oc, `pkg/cli/deployer` and `pkg/cli/deployer/strategy`, release 4.20.

mod cluster;
mod hooks;
mod recreate;
mod rolling;
#[cfg(test)]
mod tests;
mod until;

use super::stop::stop_signal;
use crate::{
    api::{
        kinds::deployment_config::{
            strategy::{CUSTOM, RECREATE, ROLLING},
            types::DeploymentConfig,
        },
        rollout::{self, NAME_VARIABLE, NAMESPACE_VARIABLE, Phase, desired, phase, size, version},
    },
    base::runtime::block_on,
    client::{Client, Kubeconfig},
};
use anyhow::{Context as _, bail};
use clap::Parser;
use cluster::{Api, Cluster};
use k8s_openapi::api::core::v1::ReplicationController;
use std::time::Duration;
use until::{Outcome, Until};

/// How long an older rollout may take to lose its pods.
const SCALE_DOWN_WITHIN: Duration = Duration::from_secs(120);

/// The deployer's arguments.
#[derive(Debug, Parser)]
#[command(name = "openshift-deploy", about = "Does one rollout of a DeploymentConfig")]
pub struct Args {
    /// Stop there, with success: start, pre, mid, or a share of the pods like 50%
    #[arg(long, value_name = "POINT", default_value = "")]
    until: Until,
    /// The rollout
    #[arg(long = "deployment", env = NAME_VARIABLE)]
    name: String,
    /// Its namespace
    #[arg(long, env = NAMESPACE_VARIABLE)]
    namespace: String,
}

/// The name under which skiff's image has the deployer.
pub const PROGRAM: &str = "openshift-deploy";

/// Does the rollout.
pub fn run(args: Args) -> anyhow::Result<()> {
    let stop = stop_signal().context("cannot wait for signals")?;
    let kubeconfig = Kubeconfig::in_pod(|name| std::env::var(name).ok())?;
    block_on(async {
        let api = Api::new(Client::new(&kubeconfig)?, args.namespace);
        tokio::select! { biased;
            () = stop.drained() => bail!("stopped before the rollout was done"),
            done = deploy(&api, &args.name, args.until) => done,
        }
    })?
}

/// One rollout, with all that a strategy must know.
struct Rollout<'a> {
    cluster: &'a dyn Cluster,
    config: DeploymentConfig,
    until: Until,
    /// The rollout that is to be.
    to: String,
    /// The rollout that is now.
    from: Option<ReplicationController>,
    /// How many pods there are to be.
    desired: i32,
}

async fn deploy(cluster: &dyn Cluster, name: &str, until: Until) -> anyhow::Result<()> {
    let to = cluster.rollout(name).await?;
    let config = rollout::config(&to).map_err(anyhow::Error::msg)?;
    let Some(desired) = desired(&to) else { bail!("deployment {name} has already run to completion") };
    let others: Vec<ReplicationController> =
        cluster.rollouts(rollout::config_name(&to)).await?.into_iter().filter(|rc| name_of(rc) != name).collect();
    let from = others.iter().filter(|rc| phase(rc) == Phase::Complete).max_by_key(|rc| version(rc)).cloned();
    if let Some(from) = from.as_ref().filter(|from| version(from) > version(&to)) {
        bail!("deployment {name} is older than {}", name_of(from));
    }
    for older in others.iter().filter(|rc| size(rc) > 0 && from.as_ref().map(name_of) != Some(name_of(rc))) {
        cluster.scale_and_wait(name_of(older), 0, SCALE_DOWN_WITHIN).await?;
        cluster.say(&format!("--> Scaled older deployment {} down", name_of(older)));
    }
    let rollout = Rollout { cluster, config, until, to: name.to_owned(), from, desired };
    match rollout.run().await? {
        Outcome::Done => cluster.say("--> Success"),
        Outcome::Reached(point) => cluster.say(&format!("--> Reached {point}")),
    }
    Ok(())
}

fn name_of(rc: &ReplicationController) -> &str {
    rc.metadata.name.as_deref().unwrap_or_default()
}

impl Rollout<'_> {
    async fn run(&self) -> anyhow::Result<Outcome> {
        if self.until == Until::Start {
            return Ok(Outcome::Reached("start".to_owned()));
        }
        let strategy = &self.config.spec.strategy;
        // Whoever calls the stock deployer in a custom one means the parameters that are there.
        let has_steps = strategy.rolling_params.is_some();
        match &*strategy.type_ {
            ROLLING => Box::pin(rolling::run(self)).await,
            CUSTOM if has_steps => Box::pin(rolling::run(self)).await,
            RECREATE | CUSTOM => Box::pin(recreate::run(self)).await,
            other => bail!("unsupported strategy type: {other}"),
        }
    }

    /// How long a step may take.
    fn timeout(&self) -> Duration {
        Duration::from_secs(self.config.spec.strategy.timeout_secs().unsigned_abs())
    }

    fn say(&self, line: &str) {
        self.cluster.say(line);
    }
}

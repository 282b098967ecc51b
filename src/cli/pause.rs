//! `skiff pause` and `skiff resume`: everything of a cluster is stopped, and started again, and all that is known of it stays.
//!
//! **Not here**: what stops the containers and starts them (`node::pause`, by the annotation that this sets).

use super::{
    cluster::ClusterArgs,
    output,
    watching::{condition, is_true, text, until},
};
use crate::{
    api::agreements::{PAUSED, PAUSED_REASON},
    base::{clock::Clock, runtime::block_on},
    client::{Client, PatchKind},
};
use anyhow::bail;
use serde_json::{Value, json};
use std::time::Duration;
use tokio::time::Instant;

const NODES: &str = "/api/v1/nodes";
const PODS: &str = "/api/v1/pods";
/// How long containers may take to stop: each has ten seconds, sandboxes after the others.
const STOPPED_WITHIN: Duration = Duration::from_mins(1);
/// How long pods may take to be ready again.
const READY_WITHIN: Duration = Duration::from_mins(2);

/// Arguments of `skiff pause`.
#[derive(Debug, clap::Args)]
#[command(
    after_help = "Example:\n  skiff pause && skiff status    # nothing runs, nothing is lost; skiff resume goes on"
)]
pub(super) struct PauseArgs {
    #[command(flatten)]
    cluster: ClusterArgs,
}

/// Arguments of `skiff resume`.
#[derive(Debug, clap::Args)]
#[command(after_help = "Example:\n  skiff resume")]
pub(super) struct ResumeArgs {
    #[command(flatten)]
    cluster: ClusterArgs,
}

pub(super) fn pause(args: &PauseArgs) -> anyhow::Result<()> {
    block_on(Paused::of(&args.cluster)?.pause())?
}

pub(super) fn resume(args: &ResumeArgs) -> anyhow::Result<()> {
    block_on(Paused::of(&args.cluster)?.resume())?
}

/// A cluster that is paused, or is to be.
struct Paused {
    client: Client,
    name: String,
}

impl Paused {
    fn of(cluster: &ClusterArgs) -> anyhow::Result<Self> {
        Ok(Self { client: cluster.client()?, name: cluster.name.clone() })
    }

    async fn set(&self, since: Value) -> anyhow::Result<()> {
        let change = json!({ "metadata": { "annotations": { PAUSED: since } } });
        self.client.patch(&format!("{NODES}/{}", self.name), PatchKind::Merge, &change).await?;
        Ok(())
    }

    async fn is_paused(&self) -> anyhow::Result<bool> {
        let node = self.client.get(&format!("{NODES}/{}", self.name)).await?;
        Ok(node["metadata"]["annotations"][PAUSED].is_string())
    }

    async fn pause(&self) -> anyhow::Result<()> {
        if self.is_paused().await? {
            output::done(format!("the cluster {} is paused already", self.name));
            return Ok(());
        }
        let began = Clock::system().mono();
        self.set(json!(Clock::system().now().to_string())).await?;
        let key = (String::new(), self.name.clone());
        let is_stopped = |node: &Value| {
            condition(node, "Ready").is_some_and(|ready| ready["status"] == "False" && ready["reason"] == PAUSED_REASON)
        };
        let stopped =
            until(&self.client, NODES, STOPPED_WITHIN, |nodes| nodes.get(&key).filter(|n| is_stopped(n)).map(drop));
        if stopped.await?.is_none() {
            bail!(
                "not all containers have stopped within {} s: `skiff logs` tells why. It goes on; `skiff resume` ends it",
                STOPPED_WITHIN.as_secs()
            );
        }
        output::done(format!("the cluster {} is paused: all its containers stopped in {}", self.name, took(began)));
        output::line("   Its state, its volumes and its API stay. `skiff resume` starts its containers again.");
        Ok(())
    }

    async fn resume(&self) -> anyhow::Result<()> {
        if !self.is_paused().await? {
            output::done(format!("the cluster {} is not paused", self.name));
            return Ok(());
        }
        let list = self.client.get(PODS).await?;
        let pods = list["items"].as_array().into_iter().flatten();
        let awaited: Vec<String> =
            pods.filter(|pod| was_ready(pod)).map(|pod| text(pod, "/metadata/uid").into()).collect();
        let began = Clock::system().mono();
        self.set(Value::Null).await?;
        let mut late = Vec::new();
        let ready = until(&self.client, PODS, READY_WITHIN, |pods| {
            let is_late = |pod: &&Value| awaited.iter().any(|uid| uid == text(pod, "/metadata/uid")) && !is_back(pod);
            late = pods.values().filter(is_late).map(|pod| text(pod, "/metadata/name").to_owned()).collect();
            late.is_empty().then_some(())
        });
        if ready.await?.is_none() {
            bail!("not ready again within {} s: {}. `skiff status` tells why", READY_WITHIN.as_secs(), late.join(", "));
        }
        output::done(format!(
            "the cluster {} goes on: {} pods are ready again after {}",
            self.name,
            awaited.len(),
            took(began)
        ));
        Ok(())
    }
}

fn took(began: Instant) -> String {
    format!("{:.1} s", began.elapsed().as_secs_f32())
}

/// Whether a pod was ready before the pause.
fn was_ready(pod: &Value) -> bool {
    condition(pod, "Ready").is_some_and(|ready| ready["reason"] == PAUSED_REASON)
}

/// Whether nobody need wait for it any more.
fn is_back(pod: &Value) -> bool {
    let is_over = matches!(text(pod, "/status/phase"), "Succeeded" | "Failed");
    is_over || is_true(pod, "Ready") || pod["metadata"]["deletionTimestamp"].is_string()
}

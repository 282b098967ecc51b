//! `skiff rollout`: starts, holds, ends, repeats and undoes rollouts of DeploymentConfigs, as `oc rollout` does, for those who have no `oc`.
//!
//! **Source** of what is done and said: github.com/openshift/oc, `pkg/cli/rollout` and `pkg/cli/rollback`, release 4.20.

use super::{cluster::ClusterArgs, completion::offers, output};
use crate::{
    api::{
        kinds::deployment_config::types::{API_VERSION, DeploymentConfig},
        rollout::{
            CANCELLED, CONFIG, DEPLOYER_POD_FOR, HAS_FAILED, IS_COMPLETE, PHASE, Phase, REASON, WAS_CANCELLED,
            annotation, phase, rollout_name, version,
        },
    },
    base::{json::typed, ordered::SortList as _, runtime::block_on},
    client::{Client, PatchKind},
};
use anyhow::{Context as _, bail};
use k8s_openapi::{
    List,
    api::core::v1::{Pod, ReplicationController},
};
use serde_json::{Value, json};
use std::time::Duration;
use tokio::time::sleep;

/// Pauses between two looks at a rollout.
const LOOK_EVERY: Duration = Duration::from_millis(250);
/// What a rollout is told that its user ends.
const CANCELLED_BY_USER: &str = "cancelled by the user";

/// Arguments of `skiff rollout`.
#[derive(Debug, clap::Args)]
#[command(
    after_help = "Examples:\n  skiff rollout latest dc/frontend && skiff rollout status dc/frontend\n  skiff rollout undo dc/frontend"
)]
pub(super) struct Args {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, clap::Subcommand)]
enum Command {
    /// Start the next rollout, with the images that its triggers stand for now
    #[command(after_help = "Example:\n  skiff rollout latest dc/frontend --again")]
    Latest {
        #[command(flatten)]
        which: Which,
        /// With the images of the rollout before
        #[arg(long)]
        again: bool,
    },
    /// End the rollout that goes on; the last complete one gets the pods back
    #[command(after_help = "Example:\n  skiff rollout cancel dc/frontend")]
    Cancel(Which),
    /// Try the latest rollout again, which has failed
    #[command(after_help = "Example:\n  skiff rollout retry dc/frontend")]
    Retry(Which),
    /// Go back to an earlier rollout, and let no new image start another
    #[command(after_help = "Example:\n  skiff rollout undo dc/frontend --to-revision 2")]
    Undo {
        #[command(flatten)]
        which: Which,
        /// The number of that rollout [default: the one before the latest]
        #[arg(long, default_value_t = 0)]
        to_revision: i64,
    },
    /// Let no change start a rollout, until `resume`
    #[command(after_help = "Example:\n  skiff rollout pause dc/frontend")]
    Pause(Which),
    /// Let changes start rollouts again; those made meanwhile start one
    #[command(after_help = "Example:\n  skiff rollout resume dc/frontend")]
    Resume(Which),
    /// List the rollouts, how they ended, and why they began
    #[command(after_help = "Example:\n  skiff rollout history dc/frontend --revision 2")]
    History {
        #[command(flatten)]
        which: Which,
        /// Print the pod template of this one, as YAML
        #[arg(long)]
        revision: Option<i64>,
    },
    /// Wait until the latest rollout is over, and tell how it goes
    #[command(after_help = "Example:\n  skiff rollout status dc/frontend -n shop")]
    Status(Which),
}

/// Which DeploymentConfig of which cluster.
#[derive(Debug, clap::Args)]
struct Which {
    /// The DeploymentConfig: dc/NAME, or NAME
    #[arg(value_name = "dc/NAME", value_parser = config_name, add = offers::deployment_configs())]
    deployment_config: String,
    /// Its namespace
    #[arg(short, long, default_value = "default", add = offers::namespaces())]
    namespace: String,
    #[command(flatten)]
    cluster: ClusterArgs,
}

fn config_name(text: &str) -> Result<String, String> {
    match text.split_once('/') {
        None => Ok(text.to_owned()),
        Some(("dc" | "deploymentconfig" | "deploymentconfigs" | "deploymentconfigs.apps.openshift.io", name)) => {
            Ok(name.to_owned())
        }
        Some((kind, name)) => Err(format!(
            "only DeploymentConfigs roll out this way: for others there is `kubectl rollout … {kind}/{name}`"
        )),
    }
}

pub(super) fn run(args: Args) -> anyhow::Result<()> {
    block_on(async {
        match args.command {
            Command::Latest { which, again } => Target::of(&which)?.latest(again).await,
            Command::Cancel(which) => Target::of(&which)?.cancel().await,
            Command::Retry(which) => Box::pin(Target::of(&which)?.retry()).await,
            Command::Undo { which, to_revision } => Target::of(&which)?.undo(to_revision).await,
            Command::Pause(which) => Target::of(&which)?.set_paused(true).await,
            Command::Resume(which) => Target::of(&which)?.set_paused(false).await,
            Command::History { which, revision } => Target::of(&which)?.history(revision).await,
            Command::Status(which) => Target::of(&which)?.status().await,
        }
    })?
}

/// A DeploymentConfig and the way to it.
struct Target {
    client: Client,
    namespace: String,
    name: String,
}

impl Target {
    fn of(which: &Which) -> anyhow::Result<Self> {
        let client = which.cluster.client()?;
        Ok(Self { client, namespace: which.namespace.clone(), name: which.deployment_config.clone() })
    }

    fn path(&self, rest: &str) -> String {
        let (namespace, name) = (&self.namespace, &self.name);
        format!("/apis/{API_VERSION}/namespaces/{namespace}/deploymentconfigs/{name}{rest}")
    }

    fn core(&self, rest: &str) -> String {
        format!("/api/v1/namespaces/{}/{rest}", self.namespace)
    }

    async fn config(&self) -> anyhow::Result<DeploymentConfig> {
        let found = self.client.get(&self.path("")).await;
        Ok(typed(found.with_context(|| format!("deploymentconfig {} in namespace {}", self.name, self.namespace))?)?)
    }

    /// Its rollouts, the latest first.
    async fn rollouts(&self) -> anyhow::Result<Vec<ReplicationController>> {
        let query = format!("replicationcontrollers?labelSelector={CONFIG}%3D{}", self.name);
        let mut found = typed::<List<ReplicationController>>(self.client.get(&self.core(&query)).await?)?.items;
        found.sort_list_by_key(|rc| std::cmp::Reverse(version(rc)));
        Ok(found)
    }

    fn done(&self, what: &str) {
        output::line(format!("deploymentconfig.apps.openshift.io/{} {what}", self.name));
    }

    /// What a pause asks of whoever wants a rollout.
    fn resume_first(&self) -> String {
        format!("`skiff rollout resume dc/{}` first", self.name)
    }

    async fn latest(&self, again: bool) -> anyhow::Result<()> {
        let config = self.config().await?;
        if config.spec.paused {
            bail!("cannot deploy a paused deployment config: {}", self.resume_first());
        }
        if let Some(rc) = self.rollouts().await?.first().filter(|rc| !phase(rc).is_terminal()) {
            bail!("#{} is already in progress ({}).", version(rc), phase(rc));
        }
        let request = json!({
            "kind": "DeploymentRequest", "apiVersion": API_VERSION, "name": self.name, "latest": !again, "force": true,
        });
        self.client.post(&self.path("/instantiate"), &request).await?;
        self.done("rolled out");
        Ok(())
    }

    async fn cancel(&self) -> anyhow::Result<()> {
        if self.config().await?.spec.paused {
            bail!("unable to cancel paused deployment {}/{}: {}", self.namespace, self.name, self.resume_first());
        }
        let rollouts = self.rollouts().await?;
        let Some(rc) = rollouts.iter().find(|rc| !phase(rc).is_terminal()) else {
            let latest = rollouts
                .first()
                .map(|rc| format!("latest rollout #{} {}", version(rc), phase(rc).as_str().to_lowercase()));
            output::line(format!("No rollout is in progress ({})", latest.as_deref().unwrap_or("there was none yet")));
            return Ok(());
        };
        self.annotate(rc, json!({ CANCELLED: "true", REASON: CANCELLED_BY_USER })).await?;
        self.done(&format!("cancelling #{}", version(rc)));
        Ok(())
    }

    async fn annotate(&self, rc: &ReplicationController, annotations: Value) -> anyhow::Result<()> {
        let path = self.core(&format!("replicationcontrollers/{}", rc.metadata.name.as_deref().unwrap_or_default()));
        let change = json!({ "metadata": { "annotations": annotations } });
        self.client.patch(&path, PatchKind::Strategic, &change).await?;
        Ok(())
    }

    async fn retry(&self) -> anyhow::Result<()> {
        let config = self.config().await?;
        let rollouts = self.rollouts().await?;
        let name = rollout_name(&self.name, config.status.latest_version);
        let Some(rc) = rollouts.iter().find(|rc| rc.metadata.name.as_deref() == Some(&*name)) else {
            bail!(
                "unable to find the latest rollout (#{}); start one with `skiff rollout latest`",
                config.status.latest_version
            );
        };
        match phase(rc) {
            Phase::Failed => {}
            Phase::Complete => {
                bail!("rollout #{} is complete; start a new one with `skiff rollout latest`", version(rc))
            }
            other => bail!(
                "rollout #{} is {other}: only failed rollouts can be retried; `skiff rollout cancel` ends it",
                version(rc)
            ),
        }
        // The pods of the failed try have the names that the next one's get.
        let workers = self.core(&format!("pods?labelSelector={DEPLOYER_POD_FOR}%3D{name}"));
        for pod in typed::<List<Pod>>(self.client.get(&workers).await?)?.items {
            let path = self.core(&format!("pods/{}", pod.metadata.name.as_deref().unwrap_or_default()));
            self.client.delete(&path, &json!({ "gracePeriodSeconds": 0 })).await?;
        }
        self.annotate(rc, json!({ PHASE: Phase::New.as_str(), REASON: null, CANCELLED: null })).await?;
        self.done(&format!("retried rollout #{}", version(rc)));
        Ok(())
    }

    async fn undo(&self, revision: i64) -> anyhow::Result<()> {
        if self.config().await?.spec.paused {
            bail!("cannot rollback a paused config: {}", self.resume_first());
        }
        let rollback = json!({
            "kind": "DeploymentConfigRollback", "apiVersion": API_VERSION, "name": self.name,
            "spec": { "from": {}, "revision": revision, "includeTemplate": true },
        });
        let rolled = self.client.post(&self.path("/rollback"), &rollback).await?;
        self.client.put(&self.path(""), &rolled).await?;
        self.done("rolled back");
        let triggers = rolled["spec"]["triggers"].as_array().into_iter().flatten();
        if triggers.into_iter().any(|trigger| trigger["type"] == "ImageChange") {
            output::warning(
                "its image triggers are switched off, or the next image would undo this: set `automatic: true` in them to follow images again",
            );
        }
        Ok(())
    }

    async fn set_paused(&self, paused: bool) -> anyhow::Result<()> {
        if self.config().await?.spec.paused == paused {
            let is = if paused { "is already paused" } else { "is not paused" };
            bail!("deploymentconfigs.apps.openshift.io {:?} {is}", self.name);
        }
        let change = json!({ "spec": { "paused": paused } });
        self.client.patch(&self.path(""), PatchKind::Strategic, &change).await?;
        self.done(if paused { "paused" } else { "resumed" });
        Ok(())
    }

    async fn history(&self, revision: Option<i64>) -> anyhow::Result<()> {
        // A config that is not there is no config without rollouts.
        self.config().await?;
        let rollouts = self.rollouts().await?;
        let Some(revision) = revision else {
            self.done("");
            history(&rollouts).iter().for_each(output::line);
            return Ok(());
        };
        let Some(rc) = rollouts.iter().find(|rc| version(rc) == revision) else {
            bail!("unable to find the specified revision: `skiff rollout history dc/{}` lists them", self.name);
        };
        let template = rc.spec.as_ref().and_then(|spec| spec.template.as_ref());
        output::raw(&serde_yaml::to_string(&template)?);
        Ok(())
    }

    async fn status(&self) -> anyhow::Result<()> {
        let mut told = String::new();
        loop {
            let config = self.config().await?;
            // Read after the config: what its conditions say of the end of a rollout that was begun again is old.
            let latest = self.rollouts().await?.into_iter().next();
            let (line, is_over) = progress(&config, latest.as_ref())?;
            if line != told {
                output::line(&line);
                told = line;
            }
            if is_over {
                return Ok(());
            }
            sleep(LOOK_EVERY).await;
        }
    }
}

/// The table of rollouts, given with the latest first. **Source**: `deploymentConfigHistoryViewer`.
fn history(rollouts: &[ReplicationController]) -> Vec<String> {
    let row = |rc: &ReplicationController| {
        let cause = Some(annotation(&rc.metadata, REASON)).filter(|cause| !cause.is_empty());
        [version(rc).to_string(), phase(rc).to_string(), cause.unwrap_or("<unknown>").to_owned()]
    };
    let rows: Vec<[String; 3]> = rollouts.iter().rev().map(row).collect();
    let mut cells = vec![["REVISION", "STATUS", "CAUSE"]];
    cells.extend(rows.iter().map(|row| row.each_ref().map(String::as_str)));
    output::columns(&cells)
}

/// How the latest rollout goes, and whether it is over. **Source**: `deploymentConfigStatusViewer`; it asks the rollout too, because a
/// retry is a change of that alone, which the config's conditions say a moment later.
///
/// # Errors
/// It has failed, or nothing goes on while the config is paused.
fn progress(config: &DeploymentConfig, latest: Option<&ReplicationController>) -> anyhow::Result<(String, bool)> {
    let (spec, status) = (&config.spec, &config.status);
    let name = config.metadata.name.as_deref().unwrap_or_default();
    let version = status.latest_version;
    if version == 0 {
        let is_manual = spec.triggers.as_ref().is_none_or(Vec::is_empty);
        if is_manual {
            bail!("deployment config {name:?} waits for `skiff rollout latest dc/{name}`: it has no triggers");
        }
        return Ok((format!("Deployment config {name:?} waiting on an image update"), false));
    }
    if spec.paused {
        bail!("deployment config {name:?} is paused: `skiff rollout resume dc/{name}` lets changes roll out again");
    }
    let goes_on = latest.is_some_and(|rc| !phase(rc).is_terminal());
    let is_seen = config.metadata.generation.unwrap_or(0) <= status.observed_generation && !goes_on;
    let progressing = status.conditions.iter().find(|condition| condition.type_ == "Progressing");
    if let Some(condition) = progressing.filter(|_| is_seen) {
        match &*condition.reason {
            IS_COMPLETE => return Ok((condition.message.clone(), true)),
            HAS_FAILED | WAS_CANCELLED => bail!("{}", condition.message),
            _ => {}
        }
    }
    if status.updated_replicas < spec.replicas {
        let (n, of) = (status.updated_replicas, spec.replicas);
        return Ok((
            format!("Waiting for rollout to finish: {n} out of {of} new replicas have been updated..."),
            false,
        ));
    }
    if status.updated_replicas < status.replicas {
        let n = status.replicas - status.updated_replicas;
        return Ok((format!("Waiting for rollout to finish: {n} old replicas are pending termination..."), false));
    }
    let (n, of) = (status.available_replicas, status.updated_replicas);
    if n < of {
        return Ok((format!("Waiting for rollout to finish: {n} of {of} updated replicas are available..."), false));
    }
    Ok(("Waiting for latest deployment config spec to be observed by the controller loop...".to_owned(), false))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::api::kinds::deployment_config::types::DeploymentCondition;

    #[test]
    fn a_config_is_named_as_kubectl_names_things() {
        assert_eq!((config_name("web"), config_name("dc/web")), (Ok("web".to_owned()), Ok("web".to_owned())));
        assert!(config_name("deploy/web").unwrap_err().contains("`kubectl rollout … deploy/web`"));
    }

    fn config(change: impl Fn(&mut DeploymentConfig)) -> DeploymentConfig {
        let mut config: DeploymentConfig = crate::testing::from_yaml(
            "{metadata: {name: web, generation: 2}, spec: {replicas: 3, triggers: [{type: ConfigChange}]}, \
             status: {latestVersion: 1, observedGeneration: 2, replicas: 4, updatedReplicas: 2}}",
        )
        .unwrap();
        change(&mut config);
        config
    }

    #[test]
    fn rollouts_are_listed_with_why_they_began() {
        let rc = |version: i64, rest: &str| {
            crate::testing::from_yaml::<ReplicationController>(&format!(
                "metadata: {{annotations: {{openshift.io/deployment-config.latest-version: \"{version}\", {rest}}}}}"
            ))
            .unwrap()
        };
        let rollouts = [
            rc(10, "openshift.io/deployment.phase: Running"),
            rc(9, "openshift.io/deployment.phase: Complete, openshift.io/deployment.status-reason: config change"),
        ];
        expect_test::expect![[r#"
            REVISION  STATUS    CAUSE
            9         Complete  config change
            10        Running   <unknown>"#]]
        .assert_eq(&history(&rollouts).join("\n"));
    }

    #[test]
    fn progress_is_told_until_the_rollout_is_over() {
        let said_of = |latest: Option<&ReplicationController>, change: &dyn Fn(&mut DeploymentConfig)| match progress(
            &config(change),
            latest,
        ) {
            Ok((line, is_over)) => format!("{line} {is_over}"),
            Err(err) => format!("error: {err}"),
        };
        let said = |change: &dyn Fn(&mut DeploymentConfig)| said_of(None, change);
        let condition = |reason: &str| {
            vec![DeploymentCondition {
                type_: "Progressing".to_owned(),
                reason: reason.to_owned(),
                message: "m".to_owned(),
                ..Default::default()
            }]
        };
        for (line, change) in [
            (
                "Waiting for rollout to finish: 2 out of 3 new replicas have been updated... false",
                &(|_: &mut DeploymentConfig| {}) as &dyn Fn(&mut DeploymentConfig),
            ),
            ("Waiting for rollout to finish: 1 old replicas are pending termination... false", &|c| {
                c.status.updated_replicas = 3;
            }),
            ("Waiting for rollout to finish: 0 of 4 updated replicas are available... false", &|c| {
                c.status.updated_replicas = 4;
            }),
            ("m true", &|c| c.status.conditions = condition("NewReplicationControllerAvailable")),
            ("error: m", &|c| c.status.conditions = condition("ProgressDeadlineExceeded")),
            ("error: m", &|c| c.status.conditions = condition("RolloutCancelled")),
            (
                "error: deployment config \"web\" is paused: `skiff rollout resume dc/web` lets changes roll out again",
                &|c| c.spec.paused = true,
            ),
            ("Deployment config \"web\" waiting on an image update false", &|c| c.status.latest_version = 0),
        ] {
            assert_eq!(said(change), line);
        }
        // The end of the try before says nothing of a rollout that goes on again; its own end does.
        let rollout = |phase: Phase| {
            let mut rc = ReplicationController::default();
            crate::api::rollout::annotate(&mut rc.metadata, PHASE, phase.as_str());
            rc
        };
        let waits = "Waiting for rollout to finish: 2 out of 3 new replicas have been updated... false";
        for reason in ["NewReplicationControllerAvailable", "ProgressDeadlineExceeded", "RolloutCancelled"] {
            for (phase, over) in
                [(Phase::New, false), (Phase::Pending, false), (Phase::Running, false), (Phase::Failed, true)]
            {
                let line = said_of(Some(&rollout(phase)), &|c| c.status.conditions = condition(reason));
                assert_eq!(line != waits, over, "{reason}, {phase}: {line}");
            }
        }
    }
}

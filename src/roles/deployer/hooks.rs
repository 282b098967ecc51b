//! What is done before a rollout, in its middle and after it: a command in a pod of its own, or tags for its images.
//!
//! **Source**: oc, `pkg/cli/deployer/strategy/support/lifecycle.go`.

use super::{Rollout, cluster::Ended};
use crate::api::{
    kinds::deployment_config::types::{ExecNewPodHook, LifecycleHook, TagImageHook},
    rollout::{DEPLOYER_POD_FOR, DEPLOYER_POD_TYPE, NAME_VARIABLE, NAMESPACE_VARIABLE, ROLLOUT, annotate, pod_name},
};
use anyhow::bail;
use k8s_openapi::{
    api::core::v1::{Container, EnvVar, Pod, PodSpec, PodTemplateSpec, ReplicationController},
    apimachinery::pkg::apis::meta::v1::{ObjectMeta, OwnerReference},
};

/// When a hook is done.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Point {
    Pre,
    Mid,
    Post,
}

impl Point {
    fn as_str(self) -> &'static str {
        match self {
            Self::Pre => "pre",
            Self::Mid => "mid",
            Self::Post => "post",
        }
    }

    /// The end of the hook pod's name, and its type.
    fn suffix(self) -> String {
        format!("hook-{}", self.as_str())
    }
}

/// What becomes of a rollout whose hook fails.
const IGNORE: &str = "Ignore";
const RETRY: &str = "Retry";
/// How long a hook may take to end.
const GRACE_SECS: i64 = 10;

/// Does a hook, if there is one.
///
/// # Errors
/// It failed, and that is not to be ignored.
pub(super) async fn hook(rollout: &Rollout<'_>, point: Point, hook: Option<&LifecycleHook>) -> anyhow::Result<()> {
    let Some(hook) = hook else { return Ok(()) };
    let done = match &hook.exec_new_pod {
        Some(exec) => run_pod(rollout, point, hook, exec).await,
        None => tag_images(rollout, point, &hook.tag_images).await,
    };
    let label = point.as_str();
    match done {
        Ok(()) => {
            rollout.say(&format!("--> {label}: Success"));
            tell(
                rollout,
                "Completed",
                format!("The {label}-hook for rollout {} completed successfully", place(rollout)),
            )
            .await;
            Ok(())
        }
        Err(err) if hook.failure_policy == IGNORE => {
            rollout.say(&format!("--> {label}: Failed, and the failure is ignored: {err:#}"));
            tell(
                rollout,
                "Failed",
                format!("The {label}-hook failed: {err:#} (ignore), rollout of {} will continue", place(rollout)),
            )
            .await;
            Ok(())
        }
        Err(err) => {
            rollout.say(&format!("--> {label}: Failed"));
            let policy = hook.failure_policy.to_lowercase();
            let message =
                format!("The {label}-hook failed: {err:#}, aborting rollout of {} ({policy})", place(rollout));
            tell(rollout, "Failed", message).await;
            Err(err.context(format!("the {label} hook failed")))
        }
    }
}

fn place(rollout: &Rollout<'_>) -> String {
    format!("{}/{}", rollout.config.metadata.namespace.as_deref().unwrap_or_default(), rollout.to)
}

/// Tells of a hook beside the DeploymentConfig. That it cannot be told stops nothing.
async fn tell(rollout: &Rollout<'_>, reason: &'static str, message: String) {
    if let Err(err) = rollout.cluster.event(&rollout.config, reason, &message).await {
        rollout.say(&format!("    (no event could be recorded: {err:#})"));
    }
}

async fn run_pod(
    rollout: &Rollout<'_>,
    point: Point,
    hook: &LifecycleHook,
    exec: &ExecNewPodHook,
) -> anyhow::Result<()> {
    let label = point.as_str();
    let rc = rollout.cluster.rollout(&rollout.to).await?;
    let left = rollout.cluster.seconds_left(rollout.config.spec.strategy.deadline_secs()).await?;
    let pod = pod_of(rollout, &rc, point, hook, exec, left)?;
    rollout.say(&format!("--> {label}: Running hook pod ..."));
    let command = exec.command.join(" ");
    tell(rollout, "Started", format!("Running {label}-hook ({command:?}) for rollout {}", place(rollout))).await;
    // A pod that is there already was made by a deployer that ended before this one: hooks are run once.
    let name = rollout.cluster.create_pod(&pod).await?;
    let mut told = 0;
    let mut restarted = |restarts| {
        if restarts > told {
            told = restarts;
            rollout.say(&format!("--> {label}: Retrying hook pod (retry #{restarts})"));
        }
    };
    match rollout.cluster.watch_to_end(&name, &mut restarted).await? {
        Ended::Succeeded => Ok(()),
        Ended::Failed(why) if why.is_empty() => bail!("pod {name} failed"),
        Ended::Failed(why) => bail!("pod {name} failed: {why}"),
        Ended::Gone => bail!("pod {name} was deleted"),
    }
}

/// The pod of a hook, made after one of the template's containers.
fn pod_of(
    rollout: &Rollout<'_>,
    rc: &ReplicationController,
    point: Point,
    hook: &LifecycleHook,
    exec: &ExecNewPodHook,
    secs_left: i64,
) -> anyhow::Result<Pod> {
    let template: PodTemplateSpec = rc.spec.as_ref().and_then(|spec| spec.template.clone()).unwrap_or_default();
    let from = template.spec.unwrap_or_default();
    let Some(base) = from.containers.iter().find(|container| container.name == exec.container_name) else {
        bail!("no container named {:?} in the pod template", exec.container_name);
    };
    let strategy = &rollout.config.spec.strategy;
    let volumes = from.volumes.iter().flatten().filter(|volume| exec.volumes.contains(&volume.name));
    let mut metadata = ObjectMeta {
        name: Some(pod_name(&rollout.to, &point.suffix())),
        namespace: rc.metadata.namespace.clone(),
        labels: Some(strategy.labels.clone()),
        annotations: Some(strategy.annotations.clone()),
        owner_references: Some(vec![OwnerReference {
            api_version: "v1".to_owned(),
            kind: "ReplicationController".to_owned(),
            name: rollout.to.clone(),
            uid: rc.metadata.uid.clone().unwrap_or_default(),
            ..OwnerReference::default()
        }]),
        ..ObjectMeta::default()
    };
    let labels = metadata.labels.get_or_insert_default();
    labels.insert(DEPLOYER_POD_FOR.to_owned(), rollout.to.clone());
    labels.insert(DEPLOYER_POD_TYPE.to_owned(), point.suffix());
    annotate(&mut metadata, ROLLOUT, rollout.to.clone());
    let spec = PodSpec {
        containers: vec![container(rollout, base, exec)],
        volumes: Some(volumes.cloned().collect()),
        restart_policy: Some(if hook.failure_policy == RETRY { "OnFailure" } else { "Never" }.to_owned()),
        active_deadline_seconds: Some(secs_left),
        termination_grace_period_seconds: Some(GRACE_SECS),
        image_pull_secrets: from.image_pull_secrets,
        node_selector: from.node_selector,
        service_account_name: from.service_account_name,
        security_context: from.security_context,
        ..PodSpec::default()
    };
    Ok(Pod { metadata, spec: Some(spec), status: None })
}

fn container(rollout: &Rollout<'_>, base: &Container, exec: &ExecNewPodHook) -> Container {
    let own = [
        (NAME_VARIABLE, rollout.to.clone()),
        (NAMESPACE_VARIABLE, rollout.config.metadata.namespace.clone().unwrap_or_default()),
    ];
    let own = own.map(|(name, value)| EnvVar { name: name.to_owned(), value: Some(value), ..EnvVar::default() });
    let kept = base.env.iter().flatten().filter(|var| !exec.env.iter().any(|other| other.name == var.name));
    let mounts = base.volume_mounts.iter().flatten().filter(|mount| exec.volumes.contains(&mount.name));
    Container {
        name: "lifecycle".to_owned(),
        image: base.image.clone(),
        image_pull_policy: base.image_pull_policy.clone(),
        command: Some(exec.command.clone()),
        working_dir: base.working_dir.clone(),
        env: Some(kept.chain(&exec.env).cloned().chain(own).collect()),
        resources: base.resources.clone(),
        security_context: base.security_context.clone(),
        volume_mounts: Some(mounts.cloned().collect()),
        ..Container::default()
    }
}

async fn tag_images(rollout: &Rollout<'_>, point: Point, tags: &[TagImageHook]) -> anyhow::Result<()> {
    let rc = rollout.cluster.rollout(&rollout.to).await?;
    let template = rc.spec.as_ref().and_then(|spec| spec.template.as_ref());
    let containers = template.and_then(|t| t.spec.as_ref()).map_or(&[][..], |spec| &spec.containers);
    for tag in tags {
        let Some(container) = containers.iter().find(|container| container.name == tag.container_name) else {
            bail!(
                "unable to find image source for container {:?}, check that the container exists",
                tag.container_name
            );
        };
        let image = container.image.as_deref().unwrap_or_default();
        let namespace = tag.to.namespace.as_deref().filter(|n| !n.is_empty());
        let namespace = namespace.or(rc.metadata.namespace.as_deref()).unwrap_or_default();
        let name = tag.to.name.as_deref().unwrap_or_default();
        rollout.cluster.tag_image(namespace, name, image).await?;
        rollout.say(&format!("--> {}: Tagged {image:?} into {namespace}/{name}", point.as_str()));
    }
    Ok(())
}

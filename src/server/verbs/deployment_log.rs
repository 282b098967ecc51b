//! The `log` of a DeploymentConfig: its deployer's while a rollout goes on or when it has failed, one of its pods' afterwards.
//!
//! **Source**: github.com/openshift/openshift-apiserver, `pkg/apps/apiserver/registry/deploylog/rest.go`, release 4.20; the choice of a
//! pod: `ByLogging`, `k8s.io/kubernetes/pkg/controller/controller_utils.go`, v1.37.

use super::{Call, log};
use crate::{
    api::{
        kinds::{
            deployment_config::types::DeploymentConfig, pod::Pods, replication_controller::ReplicationControllers,
        },
        meta::{ObjectKey, is_controlled_by},
        pod_state,
        rollout::{DEPLOYER_CONTAINER, Phase, deployer_pod_name, phase, rollout_name},
        status::ApiError,
    },
    base::json,
    server::{
        options,
        respond::{self, Response, respond},
    },
};
use bytes::Bytes;
use k8s_openapi::api::core::v1::{Pod, ReplicationController};
use std::{sync::Arc, time::Duration};
use tokio::time::timeout;

/// How long a client waits for a rollout to be there, and then for it to begin.
const PATIENCE: Duration = Duration::from_secs(60);

/// Answers with the log of the rollout that the query names, or of the latest.
pub(super) async fn get(call: &mut Call<'_>) -> Result<Response, ApiError> {
    let config: DeploymentConfig = json::read(&call.entry()?.value)
        .map_err(|err| ApiError::Internal(format!("a stored object cannot be read: {err}")))?;
    let version = version(call, &config)?;
    let key = ObjectKey::new(&call.info.namespace, rollout_name(&call.info.name, version));
    let waits = !call.query().is_true("nowait");
    let found = until(call, &key, |_| true).await;
    let Some(mut rollout) = found else {
        return Err(ApiError::Timeout(format!("timed out waiting for deployment {:?} to appear", key.name)));
    };
    if waits && is_early(&rollout) {
        let begun = until(call, &key, |rc| !is_early(rc)).await;
        rollout = begun
            .ok_or_else(|| ApiError::Timeout(format!("timed out waiting for deployment {:?} to start", key.name)))?;
    }
    match phase(&rollout) {
        Phase::New | Phase::Pending => Ok(respond(200, "text/plain", respond::full(Bytes::new()))),
        Phase::Running | Phase::Failed => {
            let pod = ObjectKey::new(&key.namespace, deployer_pod_name(&key.name));
            log::of(call, &pod, Some(DEPLOYER_CONTAINER)).await
        }
        Phase::Complete => {
            let pod = best_pod(call, &rollout)
                .ok_or_else(|| ApiError::BadRequest(format!("deployment {:?} has no pods", key.name)))?;
            log::of(call, &pod, None).await
        }
    }
}

fn is_early(rollout: &ReplicationController) -> bool {
    matches!(phase(rollout), Phase::New | Phase::Pending)
}

fn version(call: &Call<'_>, config: &DeploymentConfig) -> Result<i64, ApiError> {
    let latest = config.status.latest_version;
    if latest == 0 {
        let name = &call.info.name;
        return Err(ApiError::BadRequest(format!("no deployment exists for deploymentConfig {name:?}")));
    }
    let asked = options::number(call.query(), "version")?;
    let is_known = |version: &i64| (1..=latest).contains(version);
    let version = match asked {
        Some(version) => version,
        None if call.query().is_true("previous") => latest - 1,
        None => latest,
    };
    Some(version).filter(is_known).ok_or_else(|| {
        ApiError::BadRequest(format!("invalid version for deploymentConfig {:?}: {version}", call.info.name))
    })
}

/// The rollout as soon as it is there and as wanted; nothing after a while.
async fn until(
    call: &Call<'_>,
    key: &ObjectKey,
    is_wanted: impl Fn(&ReplicationController) -> bool,
) -> Option<Arc<ReplicationController>> {
    let api = call.registry().api::<ReplicationControllers>();
    let look = || api.get(key).filter(|rc| is_wanted(rc));
    // A revision that others have left behind meanwhile only means to look and ask anew.
    let waiting = async {
        loop {
            let mut changes = api.watch(api.list(&key.namespace).revision).ok();
            if let Some(found) = look() {
                return found;
            }
            if let Some(changes) = &mut changes {
                drop(changes.next().await);
            }
        }
    };
    tokio::select! { biased;
        () = call.drain.drained() => None,
        found = timeout(PATIENCE, waiting) => found.ok(),
    }
}

/// The pod of a rollout whose log says most: one that runs, is ready, and has been so for longest.
fn best_pod(call: &Call<'_>, rollout: &ReplicationController) -> Option<ObjectKey> {
    let uid = rollout.metadata.uid.as_deref().unwrap_or_default();
    let pods = call.registry().api::<Pods>().owned_by(uid);
    let own = pods.iter().filter(|pod| is_controlled_by(&pod.metadata, uid));
    let best = own.min_by(|a, b| rank(a).cmp(&rank(b)))?;
    Some(ObjectKey::of(&best.metadata))
}

/// The lower, the more its log says.
fn rank(pod: &Pod) -> (bool, bool, bool, Option<jiff::Timestamp>, std::cmp::Reverse<i32>, Option<jiff::Timestamp>) {
    let is_assigned = pod.spec.as_ref().and_then(|spec| spec.node_name.as_ref()).is_some();
    let is_running = pod.status.as_ref().and_then(|status| status.phase.as_deref()) == Some("Running");
    let restarts = pod.status.iter().flat_map(|s| s.container_statuses.iter().flatten()).map(|c| c.restart_count).max();
    let created = pod.metadata.creation_timestamp.as_ref().map(|time| time.0);
    let ready = pod_state::available_at(pod, 0);
    (!is_assigned, !is_running, ready.is_none(), ready, std::cmp::Reverse(restarts.unwrap_or(0)), created)
}

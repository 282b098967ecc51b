//! A rollout of a DeploymentConfig: the ReplicationController `NAME-VERSION`, and what its labels and annotations say.
//!
//! Whoever takes part in a rollout, or only looks, understands the others by these words: the controllers, the deployer in its pod, the
//! server's `log` and `rollback`, and the clients.
//!
//! **Source**: github.com/openshift/api, `apps/v1/consts.go`; github.com/openshift/library-go, `pkg/apps/appsutil/util.go` and
//! `pkg/build/naming/namer.go`, release 4.20.

use super::{
    kinds::deployment_config::{CONFIG_LABEL, types::DeploymentConfig},
    names::fnv1a,
    object::{Object as _, without_place},
};
use crate::base::json;
use k8s_openapi::{
    api::core::v1::{Pod, ReplicationController},
    apimachinery::pkg::apis::meta::v1::ObjectMeta,
};
use std::{collections::BTreeMap, fmt};

/// Label and annotation of a rollout, annotation of its pods: the DeploymentConfig.
pub const CONFIG: &str = "openshift.io/deployment-config.name";
/// Annotation of a rollout and of its pods: its number.
pub const VERSION: &str = "openshift.io/deployment-config.latest-version";
/// Annotation of a rollout: its [`Phase`].
pub const PHASE: &str = "openshift.io/deployment.phase";
/// Annotation of a rollout: the whole DeploymentConfig that it is of, as JSON.
pub const ENCODED: &str = "openshift.io/encoded-deployment-config";
/// Annotation of a rollout that is not complete: how many pods it is to have.
pub const DESIRED: &str = "kubectl.kubernetes.io/desired-replicas";
/// Annotation of a rollout: how many pods it got.
pub const REPLICAS: &str = "openshift.io/deployment.replicas";
/// Annotation of a rollout: why it is, or what became of it.
pub const REASON: &str = "openshift.io/deployment.status-reason";
/// Annotation of a rollout that somebody wants to end: `true`.
pub const CANCELLED: &str = "openshift.io/deployment.cancelled";
/// Annotation of the pods of a rollout, of its deployer and of its hooks: the rollout.
pub const ROLLOUT: &str = "openshift.io/deployment.name";
/// Annotation of a rollout: its deployer pod.
pub const DEPLOYER_POD: &str = "openshift.io/deployer-pod.name";
/// Annotations of a rollout: when its deployer pod was made, started, and ended.
pub const DEPLOYER_CREATED_AT: &str = "openshift.io/deployer-pod.created-at";
/// See [`DEPLOYER_CREATED_AT`].
pub const DEPLOYER_STARTED_AT: &str = "openshift.io/deployer-pod.started-at";
/// See [`DEPLOYER_CREATED_AT`].
pub const DEPLOYER_COMPLETED_AT: &str = "openshift.io/deployer-pod.completed-at";
/// Label of the deployer pod and of the hook pods of a rollout: the rollout.
pub const DEPLOYER_POD_FOR: &str = "openshift.io/deployer-pod-for.name";
/// Label of a hook pod: which hook it is.
pub const DEPLOYER_POD_TYPE: &str = "openshift.io/deployer-pod.type";
/// Annotation that is copied to a rollout.
pub const IGNORE_POD: &str = "deploy.openshift.io/deployer-pod.ignore";
/// Annotation of a rollout that takes over from another: `NAME:UID` of that one.
pub const UPDATE_SOURCE: &str = "kubectl.kubernetes.io/update-source-id";
/// Annotation of a rollout that another takes over from: how many pods it had.
pub const ORIGINAL_REPLICAS: &str = "kubectl.kubernetes.io/original-replicas";
/// Why the condition `Progressing` of a DeploymentConfig is as it is once the latest rollout is over: it is complete.
pub const IS_COMPLETE: &str = "NewReplicationControllerAvailable";
/// See [`IS_COMPLETE`]: it has failed.
pub const HAS_FAILED: &str = "ProgressDeadlineExceeded";
/// See [`IS_COMPLETE`]: it was cancelled.
pub const WAS_CANCELLED: &str = "RolloutCancelled";
/// Label of a rollout's pods: the rollout.
pub const ROLLOUT_LABEL: &str = "deployment";
/// The service account of deployer pods, in each namespace that has a DeploymentConfig.
pub const DEPLOYER_ACCOUNT: &str = "deployer";
/// The container of a deployer pod.
pub const DEPLOYER_CONTAINER: &str = "deployment";
/// What a deployer is told: its rollout.
pub const NAME_VARIABLE: &str = "OPENSHIFT_DEPLOYMENT_NAME";
/// What a deployer is told: the namespace.
pub const NAMESPACE_VARIABLE: &str = "OPENSHIFT_DEPLOYMENT_NAMESPACE";

/// How far a rollout is. It only goes forward, except that a user may try a failed one again.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Phase {
    /// It has no deployer pod yet.
    New,
    /// Its deployer pod has not started.
    Pending,
    /// Its deployer works.
    Running,
    /// Its deployer succeeded.
    Complete,
    /// Its deployer failed, or is gone.
    Failed,
}

impl Phase {
    const ALL: [(Self, &'static str); 5] = [
        (Self::New, "New"),
        (Self::Pending, "Pending"),
        (Self::Running, "Running"),
        (Self::Complete, "Complete"),
        (Self::Failed, "Failed"),
    ];

    /// Whether nothing more comes by itself.
    pub fn is_terminal(self) -> bool {
        matches!(self, Self::Complete | Self::Failed)
    }

    /// The word in annotations.
    pub fn as_str(self) -> &'static str {
        Self::ALL.iter().find(|(phase, _)| *phase == self).map_or("", |(_, word)| word)
    }
}

impl fmt::Display for Phase {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// An annotation's text; empty when there is none.
pub fn annotation<'a>(meta: &'a ObjectMeta, key: &str) -> &'a str {
    meta.annotations.as_ref().and_then(|all| all.get(key)).map_or("", String::as_str)
}

/// Sets an annotation.
pub fn annotate(meta: &mut ObjectMeta, key: &str, value: impl Into<String>) {
    meta.annotations.get_or_insert_default().insert(key.to_owned(), value.into());
}

/// The DeploymentConfig whose rollout this is; empty: it is none.
pub fn config_name(rc: &ReplicationController) -> &str {
    annotation(&rc.metadata, CONFIG)
}

/// A rollout's number; 0 when it has none.
pub fn version(rc: &ReplicationController) -> i64 {
    annotation(&rc.metadata, VERSION).parse().unwrap_or(0)
}

/// How far a rollout is. One that does not say is new. **Source**: `DeploymentStatusFor`.
pub fn phase(rc: &ReplicationController) -> Phase {
    let word = annotation(&rc.metadata, PHASE);
    Phase::ALL.iter().find(|(_, known)| *known == word).map_or(Phase::New, |(phase, _)| *phase)
}

/// Whether somebody wants a rollout to end.
pub fn is_cancelled(rc: &ReplicationController) -> bool {
    annotation(&rc.metadata, CANCELLED) == "true"
}

/// How many pods a rollout is to have; none once it is complete.
pub fn desired(rc: &ReplicationController) -> Option<i32> {
    annotation(&rc.metadata, DESIRED).parse().ok()
}

/// How many pods a ReplicationController should have now.
pub fn size(rc: &ReplicationController) -> i32 {
    rc.spec.as_ref().and_then(|spec| spec.replicas).unwrap_or(0)
}

/// The DeploymentConfig as it was when the rollout began.
///
/// # Errors
/// Somebody has changed the annotation so that it is none.
pub fn config(rc: &ReplicationController) -> Result<DeploymentConfig, String> {
    let name = rc.metadata.name.as_deref().unwrap_or_default();
    json::read(annotation(&rc.metadata, ENCODED).as_bytes()).map_err(|err| {
        format!(
            "the annotation {ENCODED} of replicationcontroller {name} is no DeploymentConfig: {}",
            without_place(&err)
        )
    })
}

/// The name of a rollout.
pub fn rollout_name(config: &str, version: i64) -> String {
    format!("{config}-{version}")
}

/// The name of a rollout's deployer pod.
pub fn deployer_pod_name(rollout: &str) -> String {
    pod_name(rollout, "deploy")
}

/// The longest name of a pod.
const NAME_MAX: usize = 253;
/// `-`, the hash, `-`.
const HASH_MAX: usize = 10;

/// The name of a pod of a rollout: `base-suffix`, the base shortened when that is too long. **Source**: `GetName`.
pub fn pod_name(base: &str, suffix: &str) -> String {
    let name = format!("{base}-{suffix}");
    if name.len() <= NAME_MAX {
        return name;
    }
    // Names are ASCII: validation sees to that.
    let kept = base.get(..NAME_MAX.saturating_sub(HASH_MAX + suffix.len())).unwrap_or_default();
    format!("{kept}-{:08x}-{suffix}", fnv1a(base.bytes()))
}

/// The labels by which the pods of a rollout are known, beside those of the template.
pub fn pod_labels(config: &str, rollout: &str) -> BTreeMap<String, String> {
    BTreeMap::from([(CONFIG_LABEL.to_owned(), config.to_owned()), (ROLLOUT_LABEL.to_owned(), rollout.to_owned())])
}

/// Whether a pod works for this rollout: its deployer, or one of its hooks.
pub fn works_for(pod: &Pod, rollout: &str) -> bool {
    pod.meta().labels.as_ref().and_then(|labels| labels.get(DEPLOYER_POD_FOR)).is_some_and(|of| of == rollout)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn phases_are_words_that_read_back() {
        for (known, word) in Phase::ALL {
            let mut rc = ReplicationController::default();
            annotate(&mut rc.metadata, PHASE, word);
            assert_eq!((phase(&rc), known.as_str()), (known, word));
        }
        assert_eq!(phase(&ReplicationController::default()), Phase::New);
        assert!(Phase::Failed.is_terminal() && !Phase::Running.is_terminal());
    }

    #[test]
    fn pod_names_stay_within_their_bound() {
        assert_eq!(deployer_pod_name("frontend-1"), "frontend-1-deploy");
        let long = "a".repeat(260);
        let name = deployer_pod_name(&long);
        assert_eq!(name.len(), NAME_MAX);
        assert!(name.starts_with("aaa") && name.ends_with("-deploy"), "{name}");
        assert_ne!(name, deployer_pod_name(&"a".repeat(261)));
    }

    #[test]
    fn a_config_that_is_none_says_where() {
        let mut rc = ReplicationController::default();
        rc.metadata.name = Some("web-1".to_owned());
        annotate(&mut rc.metadata, ENCODED, "{");
        assert!(config(&rc).unwrap_err().contains("of replicationcontroller web-1 is no DeploymentConfig"));
    }
}

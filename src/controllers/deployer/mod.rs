//! The deployer controller: keeps the pod that does a rollout, and says how far the rollout is.
//!
//! - [`decide`]: one pass over a rollout; [`pod`]: the deployer pod, and what it may do.
//!
//! **Invariants**: a rollout has one deployer pod in its life. One that is lost is not replaced: the rollout has failed then, because
//! nobody knows what it was doing. A phase only goes forward. A deployer that is done stays, for its log.
//!
//! **Not here**: what a deployer does (`roles/deployer`), when a rollout begins and what follows it (`deployment_config`).
//! **Source**: github.com/openshift/openshift-controller-manager, `pkg/apps/deployer/deployer_controller.go`, release 4.20.

mod decide;
mod pod;
#[cfg(test)]
mod tests;

use super::{
    namespace::namespace_goes,
    runtime::{Controller, Decision, Moved, Trigger},
};
use crate::{
    api::{
        kinds::{
            pod::Pods, rbac::ROLE_BINDINGS, replication_controller::ReplicationControllers,
            service_account::ServiceAccounts,
        },
        meta::ObjectKey,
        rollout::{DEPLOYER_ACCOUNT, DEPLOYER_POD_FOR, config_name, deployer_pod_name, works_for},
        selector::{FieldSelector, LabelSelector},
    },
    registry::{Registry, pipeline::Selection},
};
use jiff::Timestamp;
use k8s_openapi::api::core::v1::{Pod, ReplicationController};
use std::{collections::BTreeMap, sync::Arc};

/// All that a pass over a rollout depends on.
#[derive(Clone, Debug)]
pub struct Observed {
    /// The rollout.
    pub rollout: Arc<ReplicationController>,
    /// The pod that has the name of its deployer.
    pub deployer: Option<Arc<Pod>>,
    /// The pods that work for it: the deployer and the hooks.
    pub workers: Vec<Arc<Pod>>,
    /// Whether the namespace has the deployers' service account.
    pub has_account: bool,
    /// Whether that account may do what deployers do.
    pub has_binding: bool,
    /// Whether the namespace is going away, so that nothing can be created in it.
    pub namespace_goes: bool,
    /// The time.
    pub now: Timestamp,
}

/// The controller.
#[derive(Clone, Debug)]
pub struct Deployer {
    /// The image of the stock deployer: skiff's own.
    pub image: String,
}

impl Controller for Deployer {
    /// A rollout.
    type Key = ObjectKey;
    type Observed = Observed;

    fn name(&self) -> &'static str {
        "deployer"
    }

    fn event_source(&self) -> &'static str {
        "deployer-controller"
    }

    fn triggers(&self) -> Vec<Trigger<ObjectKey>> {
        vec![
            Trigger::on::<ReplicationControllers>(|_, moved, keys| {
                let rollout = moved.after.as_ref().filter(|rc| !config_name(rc).is_empty());
                keys.extend(rollout.map(|rc| ObjectKey::of(&rc.metadata)));
            }),
            Trigger::on::<Pods>(wake_for_worker),
        ]
    }

    fn observe(&self, registry: &Registry, key: &ObjectKey) -> Option<Observed> {
        let rollout = registry.api::<ReplicationControllers>().get(key).filter(|rc| !config_name(rc).is_empty())?;
        let pods = registry.api::<Pods>();
        let named = |name: &str| ObjectKey::new(&key.namespace, name);
        Some(Observed {
            deployer: pods.get(&named(&deployer_pod_name(&key.name))),
            workers: pods.select(&key.namespace, &workers_of(&key.name)).items,
            has_account: registry.api::<ServiceAccounts>().get(&named(DEPLOYER_ACCOUNT)).is_some(),
            has_binding: registry.entry(&ROLE_BINDINGS, &named(pod::BINDING)).is_some(),
            namespace_goes: namespace_goes(registry, &key.namespace),
            now: registry.clock().now(),
            rollout,
        })
    }

    fn decide(&self, observed: &Observed) -> Decision {
        decide::decide(observed, &self.image)
    }
}

fn workers_of(rollout: &str) -> Selection {
    let labels = BTreeMap::from([(DEPLOYER_POD_FOR.to_owned(), rollout.to_owned())]);
    Selection { labels: LabelSelector::from_map(&labels), fields: FieldSelector::everything() }
}

/// The rollout that a pod works for.
fn wake_for_worker(_: &Registry, moved: &Moved<Pod>, keys: &mut Vec<ObjectKey>) {
    let Some(pod) = moved.last() else { return };
    let rollout = pod.metadata.labels.as_ref().and_then(|labels| labels.get(DEPLOYER_POD_FOR));
    let Some(rollout) = rollout.filter(|rollout| works_for(pod, rollout)) else { return };
    keys.push(ObjectKey::new(pod.metadata.namespace.clone().unwrap_or_default(), rollout));
}

//! The DeploymentConfig controller: makes a ReplicationController for each rollout, one at a time, and keeps the sizes of those that are
//! over. What happens during a rollout is the deployer's, whose pod `deployer` keeps.
//!
//! - [`decide`]: one pass, in order; [`triggers`]: whether a rollout is due, and why; [`rollout`]: the ReplicationController of one.
//! - [`status`]: numbers and conditions, concluded after the pass.
//!
//! **Invariants**: no rollout begins while another is not over, so there is one deployer at most. While a rollout goes on, nothing here
//! changes a size. After a failed one the last complete one has the pods again.
//!
//! **Source**: github.com/openshift/openshift-controller-manager, `pkg/apps/deploymentconfig/deploymentconfig_controller.go`, release 4.20.

mod decide;
mod rollout;
mod status;
#[cfg(test)]
mod tests;
mod triggers;

use super::{
    namespace::namespace_goes,
    runtime::{Claim, Controller, Decision, Done, Moved, Trigger, claim, controller_key},
};
use crate::{
    api::{
        kinds::{
            deployment_config::{DeploymentConfigs, types::DeploymentConfig},
            replication_controller::ReplicationControllers,
        },
        meta::{ObjectKey, controller_of},
        rollout::{CONFIG, version},
        selector::{FieldSelector, LabelSelector},
    },
    base::ordered::SortList as _,
    registry::{Registry, pipeline::Selection},
};
use jiff::Timestamp;
use k8s_openapi::api::core::v1::ReplicationController;
use std::{collections::BTreeMap, sync::Arc};

/// All that a pass over a DeploymentConfig depends on.
#[derive(Clone, Debug)]
pub struct Observed {
    /// The DeploymentConfig.
    pub config: Arc<DeploymentConfig>,
    /// The ReplicationControllers that it owns or may adopt, the first rollout first.
    pub rollouts: Vec<Arc<ReplicationController>>,
    /// Whether the namespace is going away, so that nothing can be created in it.
    pub namespace_goes: bool,
    /// The time.
    pub now: Timestamp,
}

impl Observed {
    /// The rollouts that it owns.
    fn owned(&self) -> impl DoubleEndedIterator<Item = &ReplicationController> {
        self.rollouts.iter().filter(|rc| claim_of(&self.config, rc) == Claim::Mine).map(|rc| &**rc)
    }

    /// The ReplicationController of the latest rollout.
    fn latest(&self) -> Option<&ReplicationController> {
        self.owned().find(|rc| version(rc) == self.config.status.latest_version)
    }
}

/// The controller.
#[derive(Clone, Copy, Debug)]
pub struct DeploymentConfigController;

impl Controller for DeploymentConfigController {
    type Key = ObjectKey;
    type Observed = Observed;

    const CONCLUDES: bool = true;

    fn name(&self) -> &'static str {
        "deploymentconfig"
    }

    fn event_source(&self) -> &'static str {
        "deploymentconfig-controller"
    }

    fn triggers(&self) -> Vec<Trigger<ObjectKey>> {
        vec![Trigger::itself::<DeploymentConfigs>(), Trigger::on::<ReplicationControllers>(wake_for_rollout)]
    }

    fn observe(&self, registry: &Registry, key: &ObjectKey) -> Option<Observed> {
        let config = registry.api::<DeploymentConfigs>().get(key)?;
        let rollouts = rollouts_of(registry, &config);
        Some(Observed {
            config,
            rollouts,
            namespace_goes: namespace_goes(registry, &key.namespace),
            now: registry.clock().now(),
        })
    }

    fn decide(&self, observed: &Observed) -> Decision {
        decide::decide(observed)
    }

    fn conclude(&self, observed: &Observed, done: &Done) -> Decision {
        status::conclude(observed, done)
    }
}

/// The ReplicationControllers that it owns, and those without an owner that carry its name.
fn rollouts_of(registry: &Registry, config: &DeploymentConfig) -> Vec<Arc<ReplicationController>> {
    let api = registry.api::<ReplicationControllers>();
    let mut found = api.owned_by(config.metadata.uid.as_deref().unwrap_or_default());
    let labels = LabelSelector::from_map(&named(config));
    let selection = Selection { labels, fields: FieldSelector::everything() };
    let orphans = api.select(config.metadata.namespace.as_deref().unwrap_or_default(), &selection).items;
    found.extend(orphans.into_iter().filter(|rc| controller_of(&rc.metadata).is_none()));
    found.sort_list_by(|a, b| version(a).cmp(&version(b)).then_with(|| a.metadata.name.cmp(&b.metadata.name)));
    found
}

/// The label by which its rollouts are known.
fn named(config: &DeploymentConfig) -> BTreeMap<String, String> {
    BTreeMap::from([(CONFIG.to_owned(), config.metadata.name.clone().unwrap_or_default())])
}

/// How a ReplicationController stands to a DeploymentConfig.
fn claim_of(config: &DeploymentConfig, rc: &ReplicationController) -> Claim {
    let is_named = rc.metadata.labels.as_ref().and_then(|labels| labels.get(CONFIG)) == config.metadata.name.as_ref();
    claim(&config.metadata, &rc.metadata, is_named)
}

/// The owner of a changed ReplicationController, before and after; one without wakes the DeploymentConfig whose name it carries.
fn wake_for_rollout(_: &Registry, moved: &Moved<ReplicationController>, keys: &mut Vec<ObjectKey>) {
    keys.extend(moved.states().filter_map(|rc| controller_key::<DeploymentConfigs>(&rc.metadata)));
    let Some(orphan) = moved.after.as_ref().filter(|rc| controller_of(&rc.metadata).is_none()) else { return };
    let name = orphan.metadata.labels.as_ref().and_then(|labels| labels.get(CONFIG));
    keys.extend(name.map(|name| ObjectKey::new(orphan.metadata.namespace.clone().unwrap_or_default(), name)));
}

//! A ClusterRole with an `aggregationRule` has the rules of the roles that its selectors pick.
//!
//! **Source**: `pkg/controller/clusterroleaggregation/clusterroleaggregation_controller.go`, v1.37.

use super::runtime::{Action, Controller, Decision, Trigger};
use crate::{
    api::{kind::KindRef, kinds::rbac::CLUSTER_ROLES, selector::LabelSelector},
    base::json,
    registry::{Registry, pipeline::Part},
    store::Entry,
};
use serde_json::{Value, json};
use std::collections::BTreeMap;

const KIND: KindRef = KindRef::BuiltIn(&CLUSTER_ROLES);

/// Every role.
#[derive(Clone, Debug)]
pub struct Observed {
    roles: Vec<Value>,
}

/// The controller.
#[derive(Clone, Copy, Debug)]
pub struct ClusterRoleAggregation;

impl Controller for ClusterRoleAggregation {
    /// All roles together: any may be one that is summed, and many come at once.
    type Key = ();
    type Observed = Observed;

    fn name(&self) -> &'static str {
        "clusterrole-aggregation-controller"
    }

    fn triggers(&self) -> Vec<Trigger<()>> {
        vec![Trigger::on_erased(KIND, |_, _, _, keys| keys.push(()))]
    }

    fn observe(&self, registry: &Registry, _key: &()) -> Option<Observed> {
        let all = registry.snapshot(&CLUSTER_ROLES, "", &Default::default()).entries;
        Some(Observed { roles: all.iter().map(|entry| read(entry)).collect() })
    }

    fn decide(&self, observed: &Observed) -> Decision {
        let mut decision = Decision::rest();
        for role in observed.roles.iter().filter(|role| !role["aggregationRule"].is_null()) {
            let wanted = summed(role, &observed.roles);
            let has = role["rules"].as_array().map_or(&[][..], Vec::as_slice);
            if has == wanted {
                continue;
            }
            let mut role = role.clone();
            role["rules"] = json!(wanted);
            let object = KIND.decode(role).expect("a stored role with other rules fits the schema");
            let update = Action::Update { kind: KIND, part: Part::Main, object };
            decision.then(update.because("the roles it sums have others"));
        }
        decision
    }
}

/// The rules of the roles that a role's selectors pick, itself left out.
fn summed(role: &Value, all: &[Value]) -> Vec<Value> {
    let selectors = selectors(role);
    let labels =
        |of: &Value| -> BTreeMap<String, String> { json::typed(of["metadata"]["labels"].clone()).unwrap_or_default() };
    let is_picked = |of: &&Value| {
        let labels = labels(of);
        of["metadata"]["name"] != role["metadata"]["name"] && selectors.iter().any(|s| s.matches(&labels))
    };
    let mut rules: Vec<Value> = Vec::new();
    for rule in all.iter().filter(is_picked).flat_map(|of| of["rules"].as_array().into_iter().flatten()) {
        if !rules.contains(rule) {
            rules.push(rule.clone());
        }
    }
    rules
}

fn selectors(role: &Value) -> Vec<LabelSelector> {
    let given = role["aggregationRule"]["clusterRoleSelectors"].as_array().into_iter().flatten();
    let read = |of: &Value| LabelSelector::from_api(&json::typed(of.clone()).ok()?).ok();
    given.filter_map(read).collect()
}

fn read(entry: &Entry) -> Value {
    serde_json::from_slice(&entry.value).expect("stored objects are JSON")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{identity::roles, testing};

    #[tokio::test(start_paused = true)]
    async fn a_role_has_the_rules_of_those_it_sums() {
        let registry = testing::registry_with_namespaces(&["kube-public"]).await;
        roles::reconcile(&registry).await.unwrap();
        let observed = ClusterRoleAggregation.observe(&registry, &()).unwrap();
        let updated =
            ["admin", "edit", "view"].map(|name| format!("update ClusterRole {name} (the roles it sums have others)"));
        assert_eq!(ClusterRoleAggregation.decide(&observed).to_text(), updated.join("\n"));
        let view = observed.roles.iter().find(|role| role["metadata"]["name"] == "view").unwrap();
        let rules = summed(view, &observed.roles);
        assert!(rules.len() > 5, "{rules:?}");
        let mut done = observed.clone();
        done.roles.retain(|role| role["metadata"]["name"] != "admin" && role["metadata"]["name"] != "edit");
        for role in done.roles.iter_mut().filter(|role| role["metadata"]["name"] == "view") {
            role["rules"] = json!(rules);
        }
        assert_eq!(ClusterRoleAggregation.decide(&done).to_text(), "", "a role that sums nothing is the user's");
    }
}

//! A ClusterRole with an `aggregationRule` has the rules of the roles that its selectors pick.
//!
//! **Source**: `pkg/controller/clusterroleaggregation/clusterroleaggregation_controller.go`, v1.37.

use super::runtime::{Action, Controller, Decision, Trigger};
use crate::{
    api::{kind::KindRef, kinds::rbac::CLUSTER_ROLES, meta::ObjectKey, selector::LabelSelector},
    registry::{Registry, pipeline::Part},
    store::Entry,
};
use serde_json::{Value, json};

const KIND: KindRef = KindRef::BuiltIn(&CLUSTER_ROLES);

/// A role that sums others, and the rules that it should have.
#[derive(Clone, Debug)]
pub struct Observed {
    role: Value,
    wanted: Vec<Value>,
}

/// The controller.
#[derive(Clone, Copy, Debug)]
pub struct ClusterRoleAggregation;

impl Controller for ClusterRoleAggregation {
    /// The name of a role that sums others.
    type Key = String;
    type Observed = Observed;

    fn name(&self) -> &'static str {
        "clusterrole-aggregation-controller"
    }

    fn triggers(&self) -> Vec<Trigger<String>> {
        // Any role may be one that is summed.
        vec![Trigger::on_erased(KIND, |registry, _, _, keys| keys.extend(sums(registry)))]
    }

    fn observe(&self, registry: &Registry, name: &String) -> Option<Observed> {
        let role = read(&*registry.entry(&CLUSTER_ROLES, &ObjectKey::new("", name))?);
        let selectors = selectors(&role);
        let all = registry.snapshot(&CLUSTER_ROLES, "", &Default::default()).entries;
        let mut wanted: Vec<Value> = Vec::new();
        for entry in all.iter().filter(|e| selectors.iter().any(|s| s.matches(&e.attrs.labels))) {
            let summed = read(entry);
            if summed["metadata"]["name"] == *name {
                continue;
            }
            for rule in summed["rules"].as_array().into_iter().flatten() {
                if !wanted.contains(rule) {
                    wanted.push(rule.clone());
                }
            }
        }
        Some(Observed { role, wanted })
    }

    fn decide(&self, observed: &Observed) -> Decision {
        let mut decision = Decision::rest();
        let has = observed.role["rules"].as_array().map_or(&[][..], Vec::as_slice);
        if observed.role["aggregationRule"].is_null() || has == observed.wanted {
            return decision;
        }
        let mut role = observed.role.clone();
        role["rules"] = json!(observed.wanted);
        let object = KIND.decode(role).expect("a stored role with other rules fits the schema");
        decision.then(Action::Update { kind: KIND, part: Part::Main, object }.because("the roles it sums have others"));
        decision
    }
}

/// The names of the roles that sum others.
fn sums(registry: &Registry) -> Vec<String> {
    let all = registry.snapshot(&CLUSTER_ROLES, "", &Default::default()).entries;
    let roles = all.iter().map(|entry| read(entry)).filter(|role| !role["aggregationRule"].is_null());
    roles.filter_map(|role| role["metadata"]["name"].as_str().map(str::to_owned)).collect()
}

fn selectors(role: &Value) -> Vec<LabelSelector> {
    let given = role["aggregationRule"]["clusterRoleSelectors"].as_array().into_iter().flatten();
    let read = |of: &Value| LabelSelector::from_api(&serde_json::from_value(of.clone()).ok()?).ok();
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
        assert_eq!(sums(&registry), ["admin", "edit", "view"]);
        let decide = |name: &str| {
            let observed = ClusterRoleAggregation.observe(&registry, &name.to_owned()).unwrap();
            (ClusterRoleAggregation.decide(&observed).to_text(), observed.wanted.len())
        };
        let (text, n_rules) = decide("view");
        assert_eq!(text, "update ClusterRole view (the roles it sums have others)");
        assert!(n_rules > 5, "{n_rules}");
        let summed = ClusterRoleAggregation.observe(&registry, &"view".to_owned()).unwrap();
        let done = Observed { role: json!({ "aggregationRule": {}, "rules": summed.wanted }), wanted: summed.wanted };
        assert_eq!(ClusterRoleAggregation.decide(&done).to_text(), "");
        let plain = Observed { role: json!({ "rules": [] }), wanted: done.wanted };
        assert_eq!(ClusterRoleAggregation.decide(&plain).to_text(), "", "a role that sums nothing is the user's");
    }
}

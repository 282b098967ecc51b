//! Nobody grants what they may not do themselves. Pure.
//!
//! **Source**: `pkg/registry/rbac/validation/{rule,policy_comparator,policy_compact}.go`, v1.37.

use super::{
    rule::{PolicyRule, quoted},
    user::User,
};
use crate::base::ordered::{Map, SortList as _};

/// What of these rules the owner of others does not have, put together as far as it can be.
pub fn missing(owned: &[PolicyRule], wanted: &[PolicyRule]) -> Vec<PolicyRule> {
    let parts = wanted.iter().flat_map(PolicyRule::parts);
    compact(parts.filter(|part| !owned.iter().any(|own| own.covers(part))))
}

/// Rules that differ in their verbs alone become one.
fn compact(parts: impl Iterator<Item = PolicyRule>) -> Vec<PolicyRule> {
    let mut verbs_of: Map<PolicyRule, Vec<String>> = Map::new();
    for mut part in parts {
        let verbs = std::mem::take(&mut part.verbs);
        let all = verbs_of.entry(part).or_default();
        all.extend(verbs);
        all.sort_list();
        all.dedup();
    }
    verbs_of.into_iter().map(|(rule, verbs)| PolicyRule { verbs, ..rule }).collect()
}

/// Why a user may not grant these rules, which they lack.
pub fn refusal(user: &User, missing: &[PolicyRule]) -> String {
    let rules: Vec<String> = missing.iter().map(ToString::to_string).collect();
    format!(
        "user {:?} (groups={}) is attempting to grant RBAC permissions not currently held:\n{}",
        user.name,
        quoted(&user.groups),
        rules.join("\n")
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use expect_test::{Expect, expect};
    use proptest::prelude::*;

    fn rules(yaml: &str) -> Vec<PolicyRule> {
        serde_yaml::from_str(yaml).unwrap()
    }

    fn check(owned: &str, wanted: &str, want: &Expect) {
        let lines: Vec<String> = missing(&rules(owned), &rules(wanted)).iter().map(ToString::to_string).collect();
        want.assert_eq(&lines.join("\n"));
    }

    #[test]
    fn what_is_not_held_is_named() {
        let pods = "[{verbs: [get, list], apiGroups: [''], resources: [pods]}]";
        check(pods, "[{verbs: [get], apiGroups: [''], resources: [pods]}]", &expect![""]);
        check(
            pods,
            "[{verbs: [get, list, watch], apiGroups: ['', apps], resources: [pods]}]",
            &expect![[r#"
                {APIGroups:[""], Resources:["pods"], Verbs:["watch"]}
                {APIGroups:["apps"], Resources:["pods"], Verbs:["get" "list" "watch"]}"#]],
        );
        check(
            "[{verbs: [get], apiGroups: [''], resources: [secrets], resourceNames: [a]}]",
            "[{verbs: [get], apiGroups: [''], resources: [secrets]}]",
            &expect![[r#"{APIGroups:[""], Resources:["secrets"], Verbs:["get"]}"#]],
        );
        check(
            "[{verbs: [get], apiGroups: [''], resources: [secrets], resourceNames: [a]}]",
            "[{verbs: [get], apiGroups: [''], resources: [secrets], resourceNames: [a, b]}]",
            &expect![[r#"{APIGroups:[""], ResourceNames:["b"], Resources:["secrets"], Verbs:["get"]}"#]],
        );
        check("[{verbs: ['*'], apiGroups: ['*'], resources: ['*']}]", pods, &expect![""]);
        check(
            "[{verbs: ['*'], apiGroups: ['*'], resources: ['*']}]",
            "[{verbs: [get], nonResourceURLs: [/metrics]}]",
            &expect![[r#"{NonResourceURLs:["/metrics"], Verbs:["get"]}"#]],
        );
    }

    #[test]
    fn the_refusal_says_who_and_what() {
        let jane = User::new("jane", ["dev", "system:authenticated"]);
        let lacks = rules("[{verbs: [get], apiGroups: [''], resources: [secrets]}]");
        expect![[r#"
            user "jane" (groups=["dev" "system:authenticated"]) is attempting to grant RBAC permissions not currently held:
            {APIGroups:[""], Resources:["secrets"], Verbs:["get"]}"#]]
        .assert_eq(&refusal(&jane, &lacks));
    }

    fn some_rule() -> impl Strategy<Value = PolicyRule> {
        let words = |all: &'static [&'static str], least: usize| {
            proptest::sample::subsequence(all.to_vec(), least..=all.len())
                .prop_map(|w| w.into_iter().map(str::to_owned).collect::<Vec<_>>())
        };
        let parts = (
            words(&["get", "list", "*"], 1),
            words(&["", "apps", "*"], 1),
            words(&["pods", "pods/log", "*/scale", "things", "*"], 1),
            words(&["a", "b"], 0),
        );
        parts.prop_map(|(verbs, api_groups, resources, resource_names)| PolicyRule {
            api_groups,
            resource_names,
            resources,
            verbs,
            ..PolicyRule::default()
        })
    }

    proptest! {
        /// Whoever may grant rules can do all that they grant.
        #[test]
        fn nothing_is_gained_by_granting(
            owned in proptest::collection::vec(some_rule(), 0..4),
            wanted in proptest::collection::vec(some_rule(), 1..4),
            verb in proptest::sample::select(vec!["get", "list", "delete"]),
            group in proptest::sample::select(vec!["", "apps", "x.io"]),
            (resource, subresource) in proptest::sample::select(vec![
                ("pods", ""), ("pods", "log"), ("pods", "scale"), ("things", ""), ("others", "status"),
            ]),
            name in proptest::sample::select(vec!["", "a", "b", "c"]),
        ) {
            use crate::identity::rule::{Attributes, On};
            let asked = Attributes { verb, on: On::Resource { group, resource, subresource, namespace: "n", name, node: "" } };
            let grants = |rules: &[PolicyRule]| rules.iter().any(|r| r.grants(&asked));
            if missing(&owned, &wanted).is_empty() && grants(&wanted) {
                prop_assert!(grants(&owned), "{owned:?} may grant {wanted:?}");
            }
        }
    }
}

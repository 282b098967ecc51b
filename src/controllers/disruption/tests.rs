//! Decisions of the disruption controller as tables.

use super::DisruptionController;
use crate::{
    api::kinds::pod_disruption_budget::PodDisruptionBudgets,
    controllers::runtime::{Controller as _, Decision},
    registry::disruption::Observed,
    testing::from_yaml,
};
use k8s_openapi::api::{
    core::v1::Pod,
    policy::v1::{PodDisruptionBudget, PodDisruptionBudgetStatus},
};
use std::{sync::Arc, time::Duration};

fn budget(spec: &str, status: &str) -> PodDisruptionBudget {
    from_yaml(&format!(
        "{{metadata: {{name: b, namespace: default, resourceVersion: '1', generation: 3}}, spec: {{{spec}, selector: {{matchLabels: {{app: web}}}}}}, status: {{{status}}}}}"
    ))
    .unwrap()
}

fn pod(name: &str, ready: &str) -> Pod {
    from_yaml(&format!(
        "{{metadata: {{name: {name}}}, status: {{phase: Running, conditions: [{{type: Ready, status: '{ready}'}}]}}}}"
    ))
    .unwrap()
}

fn observed(budget: PodDisruptionBudget, pods: Vec<Pod>, expected: Result<i32, String>) -> Observed {
    let pods = pods.into_iter().map(Arc::new).collect();
    Observed { budget: Arc::new(budget), pods, expected, now: "2026-01-01T12:00:00Z".parse().unwrap() }
}

fn status(decision: &Decision) -> PodDisruptionBudgetStatus {
    let written = decision.planned().next().expect("the status is written");
    written.action.read::<PodDisruptionBudgets>().unwrap().status.unwrap()
}

#[test]
fn what_may_go_is_what_is_healthy_beyond_what_must_be() {
    let three = || vec![pod("a", "True"), pod("b", "True"), pod("c", "False")];
    for (spec, expected) in [
        ("minAvailable: 1", (3, 1, 2, 1)),
        ("minAvailable: 2", (3, 2, 2, 0)),
        ("minAvailable: 5", (3, 5, 2, 0)),
        ("minAvailable: 50%", (4, 2, 2, 0)),
        ("maxUnavailable: 1", (4, 3, 2, 0)),
        ("maxUnavailable: 60%", (4, 1, 2, 1)),
        ("maxUnavailable: 0", (4, 4, 2, 0)),
    ] {
        let s = status(&DisruptionController.decide(&observed(budget(spec, ""), three(), Ok(4))));
        let told = [s.expected_pods, s.desired_healthy, s.current_healthy, s.disruptions_allowed].map(Option::unwrap);
        assert_eq!((told[0], told[1], told[2], told[3]), expected, "{spec}");
        let reason = if expected.3 > 0 { "SufficientPods" } else { "InsufficientPods" };
        assert_eq!((s.observed_generation, s.conditions.unwrap()[0].reason.as_str()), (Some(3), reason), "{spec}");
    }
}

#[test]
fn a_pod_that_is_being_evicted_counts_as_gone_for_two_minutes() {
    let named = |at: &str| budget("minAvailable: 1", &format!("disruptedPods: {{a: '{at}'}}"));
    let two = || vec![pod("a", "True"), pod("b", "True")];
    let decision = DisruptionController.decide(&observed(named("2026-01-01T11:59:00Z"), two(), Ok(2)));
    let s = status(&decision);
    assert_eq!(
        (s.current_healthy, s.disruptions_allowed, decision.requeue_after),
        (Some(1), Some(0), Some(Duration::from_secs(60)))
    );
    let s = status(&DisruptionController.decide(&observed(named("2026-01-01T11:58:00Z"), two(), Ok(2))));
    assert_eq!((s.current_healthy, s.disruptions_allowed, s.disrupted_pods), (Some(2), Some(1), None));
}

#[test]
fn what_cannot_be_counted_lets_nothing_go_and_nothing_is_told_twice() {
    let why = "found no controllers for pod \"a\"";
    let o = observed(budget("maxUnavailable: 1", ""), vec![pod("a", "True")], Err(why.to_owned()));
    let decision = DisruptionController.decide(&o);
    let s = status(&decision);
    assert_eq!((s.disruptions_allowed, decision.events[0].reason), (Some(0), "CalculateExpectedPodCountFailed"));
    let condition = s.conditions.clone().unwrap().remove(0);
    assert_eq!((condition.reason.as_str(), condition.message.as_str()), ("SyncFailed", why));
    let mut again = budget("maxUnavailable: 1", "");
    again.status = Some(s);
    let again = observed(again, vec![pod("a", "True")], Err(why.to_owned()));
    assert!(DisruptionController.decide(&again).is_rest());
    let none = DisruptionController.decide(&observed(budget("minAvailable: 1", ""), vec![], Ok(0)));
    assert_eq!((none.events[0].reason, status(&none).disruptions_allowed), ("NoPods", Some(0)));
}

//! Decisions of the DeploymentConfig controller, as tables.

use super::*;
use crate::api::{
    kind::Kind as _,
    kinds::deployment_config::types::DeploymentCondition,
    rollout::{CANCELLED, PHASE, annotate},
};
use expect_test::{Expect, expect};
use k8s_openapi::api::core::v1::ReplicationControllerStatus;

const WEB: &str = "
metadata: {name: web, namespace: default, uid: u-web, generation: 3, labels: {team: a}}
spec:
  replicas: 3
  template:
    metadata: {labels: {app: web}}
    spec: {containers: [{name: c, image: 'one '}]}
";

fn config(yaml: &str, version: i64) -> DeploymentConfig {
    let mut config: DeploymentConfig = crate::testing::from_yaml(yaml).unwrap();
    DeploymentConfigs::set_defaults(&mut config);
    DeploymentConfigs::prepare_create(&mut config);
    config.status.latest_version = version;
    config
}

/// A rollout of the config as it was at this version, in a phase and of a size.
fn made(config: &DeploymentConfig, version: i64, phase: &str, size: i32) -> ReplicationController {
    let mut was = config.clone();
    was.status.latest_version = version;
    let mut rc = rollout::of(&was);
    rc.metadata.uid = Some(format!("u-{version}"));
    annotate(&mut rc.metadata, PHASE, phase);
    rc.spec.as_mut().unwrap().replicas = Some(size);
    rc.status = Some(ReplicationControllerStatus {
        replicas: size,
        ready_replicas: Some(size),
        available_replicas: Some(size),
        ..Default::default()
    });
    rc
}

fn seen(config: DeploymentConfig, rollouts: Vec<ReplicationController>) -> Observed {
    Observed {
        config: Arc::new(config),
        rollouts: rollouts.into_iter().map(Arc::new).collect(),
        namespace_goes: false,
        now: "2026-03-01T12:00:00Z".parse().unwrap(),
    }
}

fn check(seen: &Observed, expect: Expect) {
    expect.assert_eq(&decide::decide(seen).to_text());
}

/// Why the next rollout is asked for.
fn asked(seen: &Observed) -> String {
    let decision = decide::decide(seen);
    let mut planned = decision.planned();
    let config = planned.next().and_then(|p| p.action.object::<DeploymentConfigs>()).expect("a rollout is asked for");
    let details = config.status.details.clone().unwrap_or_default();
    let causes: Vec<String> = details.causes.into_iter().map(|cause| cause.type_).collect();
    format!("{} {} {}", config.status.latest_version, details.message, causes.join(","))
}

fn image_trigger(automatic: bool, last: &str) -> String {
    format!(
        "  triggers: [{{type: ConfigChange}}, {{type: ImageChange, imageChangeParams: {{automatic: {automatic}, containerNames: [c], \
         from: {{name: 'web:latest'}}}}}}]\n# {last}\n"
    )
}

fn with_trigger(automatic: bool, image: &str, last: &str) -> DeploymentConfig {
    let yaml = format!("{}{}", WEB.replace("'one '", &format!("'{image}'")), image_trigger(automatic, last));
    let mut config = config(&yaml, 0);
    let params = config.spec.triggers.as_mut().unwrap()[1].image_change_params.as_mut().unwrap();
    last.clone_into(&mut params.last_triggered_image);
    config
}

#[test]
fn a_new_config_rolls_at_once() {
    assert_eq!(asked(&seen(config(WEB, 0), vec![])), "1 config change ConfigChange");
}

#[test]
fn without_triggers_only_a_request_starts_a_rollout() {
    let manual = format!("{WEB}  triggers: []\n");
    check(&seen(config(&manual, 0), vec![]), expect![""]);
    let asked_for = config(&manual, 1);
    expect![[r#"
        create ReplicationController default/web-1 (a rollout is due)
          DeploymentCreated: Created new replication controller "web-1" for version 1"#]]
    .assert_eq(&decide::decide(&seen(asked_for.clone(), vec![])).to_text());
    let complete = made(&asked_for, 1, "Complete", 3);
    let mut changed = asked_for;
    changed.spec.template.as_mut().unwrap().spec.as_mut().unwrap().containers[0].image = Some("two".to_owned());
    check(&seen(changed, vec![complete]), expect![""]);
}

#[test]
fn a_first_rollout_waits_for_the_images_that_somebody_brings() {
    for (automatic, image, last, rolls) in [
        (true, " ", "", false),
        (true, "own", "", false),
        (true, "repo@sha256:1", "repo@sha256:1", true),
        (false, " ", "", false),
        (false, "own", "", true),
    ] {
        let decision = decide::decide(&seen(with_trigger(automatic, image, last), vec![]));
        assert_eq!(!decision.is_rest(), rolls, "{automatic} {image:?} {last:?}");
    }
}

#[test]
fn an_image_is_a_cause_before_the_config_is() {
    let mut now = with_trigger(true, "two", "two");
    now.status.latest_version = 1;
    let mut before = now.clone();
    before.spec.template.as_mut().unwrap().spec.as_mut().unwrap().containers[0].image = Some("one".to_owned());
    let complete = made(&before, 1, "Complete", 3);
    assert_eq!(asked(&seen(now.clone(), vec![complete])), "2 image change ImageChange");
    // The same images and another template: the config.
    let mut other = now.clone();
    other.spec.template.as_mut().unwrap().spec.as_mut().unwrap().termination_grace_period_seconds = Some(1);
    let complete = made(&now, 1, "Complete", 3);
    assert_eq!(asked(&seen(other, vec![complete.clone()])), "2 config change ConfigChange");
    check(&seen(now, vec![complete]), expect![""]);
}

#[test]
fn an_image_trigger_that_is_not_automatic_does_not_hold_up_a_changed_template() {
    let mut now = with_trigger(false, "two", "");
    now.status.latest_version = 1;
    let mut before = now.clone();
    before.spec.template.as_mut().unwrap().spec.as_mut().unwrap().containers[0].image = Some("one".to_owned());
    let complete = made(&before, 1, "Complete", 3);
    assert_eq!(asked(&seen(now, vec![complete])), "2 image change ImageChange");
}

#[test]
fn a_rollout_is_a_replication_controller_without_pods_that_says_all() {
    let mut config = config(WEB, 4);
    config.status.details = Some(crate::api::kinds::deployment_config::types::DeploymentDetails {
        message: "manual change".to_owned(),
        causes: Vec::new(),
    });
    let rc = rollout::of(&config);
    let spec = rc.spec.as_ref().unwrap();
    let template = spec.template.as_ref().unwrap();
    let mut annotations = rc.metadata.annotations.clone().unwrap();
    let encoded = annotations.remove("openshift.io/encoded-deployment-config").unwrap();
    assert_eq!(serde_json::from_str::<DeploymentConfig>(&encoded).unwrap(), config);
    expect![[r#"
        web-4 0 {"openshift.io/deployment-config.name": "web", "team": "a"}
        {"kubectl.kubernetes.io/desired-replicas": "3", "openshift.io/deployment-config.latest-version": "4", "openshift.io/deployment-config.name": "web", "openshift.io/deployment.phase": "New", "openshift.io/deployment.replicas": "0", "openshift.io/deployment.status-reason": "manual change"}
        {"app": "web", "deployment": "web-4", "deploymentconfig": "web"}
        {"app": "web", "deployment": "web-4", "deploymentconfig": "web"} {"openshift.io/deployment-config.latest-version": "4", "openshift.io/deployment-config.name": "web", "openshift.io/deployment.name": "web-4"}
        Some("one")
    "#]]
    .assert_eq(&format!(
        "{} {} {:?}\n{annotations:?}\n{:?}\n{:?} {:?}\n{:?}\n",
        rc.metadata.name.as_deref().unwrap(),
        spec.replicas.unwrap(),
        rc.metadata.labels.as_ref().unwrap(),
        spec.selector.as_ref().unwrap(),
        template.metadata.as_ref().unwrap().labels.as_ref().unwrap(),
        template.metadata.as_ref().unwrap().annotations.as_ref().unwrap(),
        template.spec.as_ref().unwrap().containers[0].image,
    ));
    let owner = &rc.metadata.owner_references.as_ref().unwrap()[0];
    assert_eq!(
        (&*owner.api_version, &*owner.kind, owner.controller),
        ("apps.openshift.io/v1", "DeploymentConfig", Some(true))
    );
}

#[test]
fn a_newer_rollout_waits_until_the_older_one_is_cancelled() {
    let config = config(WEB, 2);
    let running = made(&config, 1, "Running", 1);
    check(
        &seen(config.clone(), vec![running.clone()]),
        expect![[r#"
            update ReplicationController default/web-1 (another rollout takes its place)
              DeploymentCancelled: Cancelled deployment "web-1" superceded by version 2
            Normal DeploymentAwaitingCancellation: Deployment of version 2 awaiting cancellation of older running deployments"#]],
    );
    let mut cancelled = running;
    annotate(&mut cancelled.metadata, CANCELLED, "true");
    check(&seen(config.clone(), vec![cancelled]), expect![""]);
    let failed = made(&config, 1, "Failed", 1);
    check(
        &seen(config, vec![failed]),
        expect![[r#"
            create ReplicationController default/web-2 (a rollout is due)
              DeploymentCreated: Created new replication controller "web-2" for version 2"#]],
    );
}

#[test]
fn pause_does_not_stop_a_running_deployer() {
    let mut paused = config(WEB, 1);
    paused.spec.paused = true;
    check(&seen(config(&format!("{WEB}  paused: true\n"), 0), vec![]), expect![""]);
    let running = made(&paused, 1, "Running", 1);
    paused.spec.replicas = 9;
    paused.spec.template.as_mut().unwrap().spec.as_mut().unwrap().containers[0].image = Some("two".to_owned());
    check(&seen(paused, vec![running]), expect![""]);
}

#[test]
fn no_proportional_scaling() {
    let mut config = config(WEB, 2);
    let old = made(&config, 1, "Complete", 3);
    let new = made(&config, 2, "Running", 1);
    config.spec.replicas = 9;
    check(&seen(config, vec![old, new]), expect![""]);
}

#[test]
fn automatic_rollback_only_for_dcs() {
    let config = config(WEB, 3);
    let rollouts = [(1, "Complete", 0), (2, "Complete", 1), (3, "Failed", 2)];
    let rollouts = rollouts.map(|(version, phase, size)| made(&config, version, phase, size));
    check(
        &seen(config, rollouts.into()),
        expect![[r#"
            update ReplicationController default/web-2 (no rollout goes on, and this is its size)
              ReplicationControllerScaled: Scaled replication controller "web-2" from 1 to 3
            update ReplicationController default/web-3 (no rollout goes on, and this is its size)
              ReplicationControllerScaled: Scaled replication controller "web-3" from 2 to 0"#]],
    );
}

#[test]
fn a_test_has_pods_only_while_its_rollout_goes_on() {
    let mut config = config(&format!("{WEB}  test: true\n"), 1);
    config.spec.test = true;
    let complete = made(&config, 1, "Complete", 3);
    check(
        &seen(config, vec![complete]),
        expect![[r#"
            update ReplicationController default/web-1 (no rollout goes on, and this is its size)
              ReplicationControllerScaled: Scaled replication controller "web-1" from 3 to 0"#]],
    );
}

#[test]
fn old_rcs_kept_for_rollback() {
    let mut config = config(WEB, 5);
    config.spec.revision_history_limit = Some(1);
    let sizes = [(1, "Complete", 0), (2, "Failed", 0), (3, "Complete", 1), (4, "Complete", 0), (5, "Complete", 3)];
    let rollouts: Vec<_> = sizes.iter().map(|(v, phase, size)| made(&config, *v, phase, *size)).collect();
    let mut paused = seen(config, rollouts);
    Arc::make_mut(&mut paused.config).spec.paused = true;
    check(
        &paused,
        expect![[r#"
            delete ReplicationController default/web-1 (it is beyond the history limit)
            delete ReplicationController default/web-2 (it is beyond the history limit)"#]],
    );
    Arc::make_mut(&mut paused.config).spec.revision_history_limit = None;
    check(&paused, expect![""]);
}

#[test]
fn a_rollout_that_is_ahead_is_caught_up_with() {
    let config = config(WEB, 1);
    let ahead = made(&config, 2, "Complete", 3);
    let decision = decide::decide(&seen(config, vec![ahead]));
    let written = decision.planned().next().unwrap().action.object::<DeploymentConfigs>().unwrap();
    assert_eq!(written.status.latest_version, 2);
}

#[test]
fn orphans_are_adopted_and_strangers_released() {
    let config = config(WEB, 1);
    let mut orphan = made(&config, 1, "Complete", 3);
    orphan.metadata.owner_references = None;
    let mut renamed = made(&config, 2, "Complete", 0);
    renamed.metadata.labels = None;
    check(
        &seen(config, vec![orphan, renamed]),
        expect![[r#"
            adopt ReplicationController default/web-1 for DeploymentConfig web (an orphan carries the config's name)
            release ReplicationController default/web-2 (it no longer carries the config's name)"#]],
    );
}

/// What is said of a rollout in this phase, and that of the first one.
fn said(phase: &str, change: impl Fn(&mut ReplicationController)) -> (DeploymentConfig, Vec<DeploymentCondition>) {
    let config = config(WEB, 1);
    let mut rc = made(&config, 1, phase, 2);
    change(&mut rc);
    let decision = status::conclude(&seen(config, vec![rc]), &Done::default());
    let told = decision.planned().next().unwrap().action.object::<DeploymentConfigs>().unwrap().clone();
    let conditions = told.status.conditions.clone();
    (told, conditions)
}

#[test]
fn the_status_counts_and_says_how_the_rollout_goes() {
    let line = |phase: &str, change: &dyn Fn(&mut ReplicationController)| {
        let (_, conditions) = said(phase, change);
        let progressing = conditions.iter().find(|c| c.type_ == "Progressing");
        progressing.map(|c| format!("{} {} {}", c.status, c.reason, c.message)).unwrap_or_default()
    };
    expect![[r#"

        Unknown  replication controller "web-1" is waiting for pod "web-1-deploy" to run
        True ReplicationControllerUpdated replication controller "web-1" is progressing
        True NewReplicationControllerAvailable replication controller "web-1" successfully rolled out
        False ProgressDeadlineExceeded replication controller "web-1" has failed progressing
        False RolloutCancelled rollout of replication controller "web-1" was cancelled"#]]
    .assert_eq(
        &[
            line("New", &|_| {}),
            line("Pending", &|_| {}),
            line("Running", &|_| {}),
            line("Complete", &|_| {}),
            line("Failed", &|_| {}),
            line("Failed", &|rc| annotate(&mut rc.metadata, CANCELLED, "true")),
        ]
        .join("\n"),
    );
    let (told, conditions) = said("Complete", |_| {});
    let status = &told.status;
    assert_eq!((status.replicas, status.updated_replicas, status.available_replicas), (2, 2, 2));
    assert_eq!((status.unavailable_replicas, status.observed_generation), (0, 3));
    // Three are wanted, and a quarter of three may be missing: none.
    assert_eq!((&*conditions[0].type_, &*conditions[0].status), ("Available", "False"));
    assert_eq!(said("Running", |_| {}).0.status.observed_generation, 0, "it is busy");
}

#[test]
fn a_condition_that_says_the_same_stays_as_it_is() {
    let (told, _) = said("Complete", |_| {});
    let complete = made(&told, 1, "Complete", 2);
    let later = Observed { now: "2026-03-01T13:00:00Z".parse().unwrap(), ..seen(told, vec![complete]) };
    assert!(status::conclude(&later, &Done::default()).is_rest());
}

#[test]
fn a_rollout_that_is_tried_again_is_not_over() {
    // The same `oc rollout status` that follows the next rollout follows a retry.
    for (end, is_cancelled) in [("Failed", false), ("Failed", true), ("Complete", false)] {
        let (told, _) = said(end, |rc| {
            if is_cancelled {
                annotate(&mut rc.metadata, CANCELLED, "true");
            }
        });
        for again in ["New", "Pending", "Running"] {
            let rc = made(&told, 1, again, 2);
            let decision = status::conclude(&seen(told.clone(), vec![rc]), &Done::default());
            let told = decision.planned().next().unwrap().action.object::<DeploymentConfigs>().unwrap().clone();
            let progressing = told.status.conditions.iter().find(|c| c.type_ == "Progressing").unwrap();
            assert_ne!(progressing.status, "False", "{end}, then {again}");
            assert!(!progressing.message.contains("successfully"), "{end}, then {again}");
        }
    }
}

#[test]
fn a_rollout_that_is_due_is_not_observed_before_it_begins() {
    // Whoever waits for the next rollout is not told of the end of the one before.
    let mut due = config(WEB, 2);
    due.status.observed_generation = 1;
    let complete = made(&due, 1, "Complete", 3);
    let observed = |rollouts: Vec<ReplicationController>| {
        let decision = status::conclude(&seen(due.clone(), rollouts), &Done::default());
        let told = decision.planned().next().unwrap().action.object::<DeploymentConfigs>().unwrap().clone();
        told.status.observed_generation
    };
    assert_eq!(observed(vec![complete.clone()]), 1);
    assert_eq!(observed(vec![complete.clone(), made(&due, 2, "Running", 1)]), 1);
    assert_eq!(observed(vec![complete, made(&due, 2, "Failed", 1)]), 3);
}

//! Decisions of the deployer controller, as tables.

use super::*;
use crate::api::{
    kinds::deployment_config::types::DeploymentConfig,
    rollout::{CANCELLED, CONFIG, DESIRED, ENCODED, PHASE, ROLLOUT, annotate, annotation},
};
use expect_test::{Expect, expect};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;

const IMAGE: &str = "skiff:test";

fn config(strategy: &str) -> DeploymentConfig {
    let yaml = format!(
        "metadata: {{name: web, namespace: default}}
spec:
  strategy: {strategy}
  template:
    spec: {{nodeSelector: {{disk: fast}}, containers: [{{name: c, image: one}}]}}"
    );
    crate::testing::from_yaml(&yaml).unwrap()
}

fn seen(phase: &str) -> Observed {
    let mut rc: ReplicationController =
        crate::testing::from_yaml("{metadata: {name: web-2, namespace: default, uid: u2}, spec: {replicas: 0}}")
            .unwrap();
    rc.metadata.creation_timestamp = Some(Time("2026-03-01T12:00:00Z".parse().unwrap()));
    for (key, value) in [(CONFIG, "web"), (PHASE, phase), (DESIRED, "3")] {
        annotate(&mut rc.metadata, key, value);
    }
    annotate(&mut rc.metadata, ENCODED, serde_json::to_string(&config("{type: Rolling}")).unwrap());
    Observed {
        rollout: Arc::new(rc),
        deployer: None,
        workers: Vec::new(),
        has_account: true,
        has_binding: true,
        namespace_goes: false,
        now: "2026-03-01T12:00:01Z".parse().unwrap(),
    }
}

fn with(seen: Observed, change: impl Fn(&mut ReplicationController)) -> Observed {
    let mut rc = (*seen.rollout).clone();
    change(&mut rc);
    Observed { rollout: Arc::new(rc), ..seen }
}

fn cancelled(phase: &str) -> Observed {
    with(seen(phase), |rc| annotate(&mut rc.metadata, CANCELLED, "true"))
}

/// The same with its deployer in this phase.
fn with_deployer(seen: Observed, phase: &str) -> Observed {
    let rc = seen.rollout.clone();
    let mut pod = pod::of(&rc, &config("{type: Rolling}"), IMAGE);
    let status = format!(
        "{{phase: {phase}, containerStatuses: [{{name: deployment, state: {{terminated: {{exitCode: 0, \
         startedAt: '2026-03-01T12:00:02Z', finishedAt: '2026-03-01T12:00:09Z'}}}}}}]}}"
    );
    pod.status = Some(crate::testing::from_yaml(&status).unwrap());
    let pod = Arc::new(pod);
    Observed { deployer: Some(pod.clone()), workers: vec![pod], ..seen }
}

fn check(seen: &Observed, expect: Expect) {
    let decision = decide::decide(seen, IMAGE);
    let mut text = decision.to_text();
    for rc in decision.planned().filter_map(|p| p.action.object::<ReplicationControllers>()) {
        let said = ["phase", "status-reason", "cancelled", "replicas"]
            .map(|key| format!("{key}={}", annotation(&rc.metadata, &format!("openshift.io/deployment.{key}"))));
        text.push_str(&format!("\n  {} desired={}", said.join(" "), annotation(&rc.metadata, DESIRED)));
    }
    expect.assert_eq(&text);
}

#[test]
fn a_new_rollout_gets_its_deployer_and_what_that_needs() {
    let bare = Observed { has_account: false, has_binding: false, ..seen("New") };
    check(
        &bare,
        expect![[r#"
            create ServiceAccount default/deployer (deployers have an account)
            create RoleBinding default/system:deployers (deployers may do what they do)
            create Pod default/web-2-deploy (a rollout needs its deployer)
            again after 599s"#]],
    );
    check(&Observed { namespace_goes: true, ..seen("New") }, expect![""]);
    check(
        &with_deployer(seen("New"), "Pending"),
        expect![[r#"
            update ReplicationController default/web-2 (it has a deployer)
              phase=Pending status-reason= cancelled= replicas= desired=3"#]],
    );
}

#[test]
fn a_deployer_that_cannot_be_made_in_time_is_a_failure() {
    let late = Observed { now: "2026-03-01T12:10:00Z".parse().unwrap(), ..seen("New") };
    check(
        &late,
        expect![[r#"
            update ReplicationController default/web-2 (it is over)
            Warning RolloutTimeout: Rollout for "web-2" failed: unable to create deployer pod within the timeout
              phase=Failed status-reason=unable to create deployer pod cancelled= replicas= desired=3"#]],
    );
}

#[test]
fn a_stranger_of_the_deployers_name_is_a_failure() {
    let mut stranger = with_deployer(seen("New"), "Running");
    let mut pod = (**stranger.deployer.as_ref().unwrap()).clone();
    annotate(&mut pod.metadata, ROLLOUT, "other-1");
    stranger.deployer = Some(Arc::new(pod));
    check(
        &stranger,
        expect![[r#"
            update ReplicationController default/web-2 (it is over)
              phase=Failed status-reason=unrelated pod with the same name as this deployment is already running cancelled= replicas= desired=3"#]],
    );
}

#[test]
fn the_phase_follows_the_deployer_and_never_goes_back() {
    check(
        &with_deployer(seen("Pending"), "Running"),
        expect![[r#"
            update ReplicationController default/web-2 (its deployer has come this far)
              phase=Running status-reason= cancelled= replicas= desired=3"#]],
    );
    check(&with_deployer(seen("Running"), "Pending"), expect![""]);
    check(
        &with_deployer(seen("Running"), "Failed"),
        expect![[r#"
            update ReplicationController default/web-2 (its deployer has come this far)
              phase=Failed status-reason= cancelled= replicas= desired=3"#]],
    );
    let done = with_deployer(seen("Pending"), "Succeeded");
    check(
        &done,
        expect![[r#"
            update ReplicationController default/web-2 (its deployer has come this far)
              phase=Complete status-reason= cancelled= replicas=3 desired="#]],
    );
    let decision = decide::decide(&done, IMAGE);
    let rc = decision.planned().next().unwrap().action.object::<ReplicationControllers>().unwrap();
    let at = |what: &str| annotation(&rc.metadata, &format!("openshift.io/deployer-pod.{what}-at"));
    assert_eq!((at("started"), at("completed")), ("2026-03-01T12:00:02Z", "2026-03-01T12:00:09Z"));
}

#[test]
fn deployer_pod_not_replaced_if_lost() {
    for phase in ["Pending", "Running"] {
        let decision = decide::decide(&seen(phase), IMAGE);
        let rc = decision.planned().next().unwrap().action.object::<ReplicationControllers>().unwrap();
        assert_eq!(annotation(&rc.metadata, PHASE), "Failed");
        assert_eq!(annotation(&rc.metadata, "openshift.io/deployment.status-reason"), "deployer pod no longer exists");
    }
}

#[test]
fn a_cancelled_rollout_loses_its_deployer_and_fails() {
    check(
        &cancelled("New"),
        expect![[r#"
        update ReplicationController default/web-2 (it was cancelled before it began)
          phase=Pending status-reason= cancelled=true replicas= desired=3"#]],
    );
    check(
        &with_deployer(cancelled("Running"), "Running"),
        expect!["delete Pod default/web-2-deploy (the rollout that it works for was cancelled)"],
    );
    check(
        &cancelled("Running"),
        expect![[r#"
        update ReplicationController default/web-2 (it was cancelled)
        Normal RolloutCancelled: Rollout for "web-2" cancelled
          phase=Failed status-reason= cancelled=true replicas= desired=3"#]],
    );
    check(
        &with_deployer(cancelled("Failed"), "Failed"),
        expect!["delete Pod default/web-2-deploy (the rollout that it works for was cancelled)"],
    );
    check(
        &with_deployer(cancelled("Running"), "Succeeded"),
        expect![[r#"
            update ReplicationController default/web-2 (its deployer has come this far)
            Warning FailedCancellation: Succeeded before cancel recorded
              phase=Complete status-reason= cancelled= replicas=3 desired="#]],
    );
}

#[test]
fn what_is_over_is_left_alone() {
    check(&with_deployer(seen("Complete"), "Succeeded"), expect![""]);
    check(&with_deployer(seen("Failed"), "Failed"), expect![""]);
}

#[test]
fn a_rollout_that_says_nonsense_fails_and_says_why() {
    let broken = with(seen("New"), |rc| annotate(&mut rc.metadata, ENCODED, "{"));
    let text = {
        let decision = decide::decide(&broken, IMAGE);
        let rc = decision.planned().next().unwrap().action.object::<ReplicationControllers>().unwrap().clone();
        annotation(&rc.metadata, "openshift.io/deployment.status-reason").to_owned()
    };
    assert!(text.contains("of replicationcontroller web-2 is no DeploymentConfig"), "{text}");
}

#[test]
fn hooks_without_an_owner_go_with_their_rollout() {
    let mut owned = with_deployer(seen("Running"), "Running");
    let mut hook = (**owned.deployer.as_ref().unwrap()).clone();
    hook.metadata.name = Some("web-2-hook-pre".to_owned());
    hook.metadata.owner_references = None;
    owned.workers.push(Arc::new(hook));
    check(
        &owned,
        expect!["adopt Pod default/web-2-hook-pre for ReplicationController web-2 (it works for this rollout)"],
    );
}

#[test]
fn the_deployer_pod_is_as_openshift_makes_it() {
    let rc = seen("New").rollout;
    let strategy = "{type: Rolling, labels: {a: b, openshift.io/deployer-pod-for.name: mine}, annotations: {c: d}, \
         resources: {limits: {cpu: '1'}}, activeDeadlineSeconds: 700}";
    let pod = pod::of(&rc, &config(strategy), IMAGE);
    expect![[r#"
        {"a":"b","openshift.io/deployer-pod-for.name":"web-2"}
        {"c":"d","openshift.io/deployment-config.name":"web","openshift.io/deployment.name":"web-2"}
        {"activeDeadlineSeconds":700,"containers":[{"command":["/usr/bin/openshift-deploy"],"env":[{"name":"OPENSHIFT_DEPLOYMENT_NAME","value":"web-2"},{"name":"OPENSHIFT_DEPLOYMENT_NAMESPACE","value":"default"}],"image":"skiff:test","imagePullPolicy":"Never","name":"deployment","resources":{"limits":{"cpu":"1"}},"terminationMessagePolicy":"FallbackToLogsOnError"}],"nodeSelector":{"disk":"fast"},"restartPolicy":"Never","serviceAccountName":"deployer","terminationGracePeriodSeconds":10}
    "#]]
    .assert_eq(&format!(
        "{}\n{}\n{}\n",
        serde_json::to_string(&pod.metadata.labels).unwrap(),
        serde_json::to_string(&pod.metadata.annotations).unwrap(),
        serde_json::to_string(&pod.spec).unwrap(),
    ));
    let owner = &pod.metadata.owner_references.as_ref().unwrap()[0];
    assert_eq!(
        (&*owner.kind, owner.controller),
        ("ReplicationController", None),
        "it is none of the pods that are counted"
    );
}

#[test]
fn a_custom_deployer_is_the_users_image_with_the_documented_environment() {
    let container = |custom: &str| {
        let config = config(&format!("{{type: Custom, customParams: {custom}}}"));
        let pod = pod::of(&seen("New").rollout, &config, IMAGE);
        let container = pod.spec.unwrap().containers.remove(0);
        let env: Vec<String> = container.env.iter().flatten().map(|var| var.name.clone()).collect();
        format!("{:?} {:?} {:?} {}", container.image, container.image_pull_policy, container.command, env.join(","))
    };
    expect![[r#"
        Some("mine:1") Some("IfNotPresent") None A,OPENSHIFT_DEPLOYMENT_NAME,OPENSHIFT_DEPLOYMENT_NAMESPACE
        Some("skiff:test") Some("Never") Some(["openshift-deploy", "--until=50%"]) OPENSHIFT_DEPLOYMENT_NAME,OPENSHIFT_DEPLOYMENT_NAMESPACE
    "#]]
    .assert_eq(&format!(
        "{}\n{}\n",
        container("{image: 'mine:1', environment: [{name: A, value: b}]}"),
        container("{command: [openshift-deploy, --until=50%]}"),
    ));
}

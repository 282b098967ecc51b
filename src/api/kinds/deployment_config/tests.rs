//! Defaults, rules and rows of DeploymentConfigs.

use super::*;
use crate::api::kinds::testing::{causes, created, created_yaml, read, row, update_causes};
use expect_test::expect;

/// The documentation's own example, in short.
const FRONTEND: &str = "
metadata: {name: frontend, namespace: default}
spec:
  replicas: 5
  selector: {name: frontend}
  template:
    metadata: {labels: {name: frontend}}
    spec: {containers: [{name: helloworld, image: 'hello-openshift:latest'}]}
  triggers:
  - type: ConfigChange
  - type: ImageChange
    imageChangeParams: {automatic: true, containerNames: [helloworld], from: {kind: ImageStreamTag, name: 'hello-openshift:latest'}}
  strategy: {type: Rolling}
";

#[test]
fn the_example_of_the_documentation_is_filled_in() {
    assert_eq!(causes::<DeploymentConfigs>(FRONTEND), "");
    let yaml = created_yaml::<DeploymentConfigs>(FRONTEND);
    let spec: Value = serde_yaml::from_str::<Value>(&yaml).unwrap()["spec"].take();
    expect![[r#"
        {"activeDeadlineSeconds":21600,"resources":{},"rollingParams":{"intervalSeconds":1,"maxSurge":"25%","maxUnavailable":"25%","timeoutSeconds":600,"updatePeriodSeconds":1},"type":"Rolling"}
        [{"type":"ConfigChange"},{"imageChangeParams":{"automatic":true,"containerNames":["helloworld"],"from":{"kind":"ImageStreamTag","name":"hello-openshift:latest","namespace":"default"}},"type":"ImageChange"}]
        10 false
    "#]].assert_eq(&format!(
        "{}\n{}\n{} {}\n",
        spec["strategy"], spec["triggers"], spec["revisionHistoryLimit"], spec["test"]
    ));
    expect!["frontend | 0 | 5 | 0 | config,image(hello-openshift:latest)"]
        .assert_eq(&row::<DeploymentConfigs>(FRONTEND));
}

#[test]
fn what_is_left_out_is_what_openshift_takes() {
    let bare = "
metadata: {name: web, namespace: shop}
spec:
  template:
    metadata: {labels: {app: web}}
    spec: {containers: [{name: web, image: one}]}
";
    let web = created::<DeploymentConfigs>(bare);
    assert_eq!((web.spec.replicas, web.spec.selector.len(), web.spec.triggers), (0, 1, Some(triggers::only_config())));
    let manual = created::<DeploymentConfigs>(&format!("{bare}  triggers: []\n"));
    assert_eq!(manual.spec.triggers, Some(Vec::new()));
    let image = "  triggers: [{type: ImageChange, imageChangeParams: {containerNames: [web], from: {kind: ImageStream, name: web}, lastTriggeredImage: x}}]\n";
    let legacy = created::<DeploymentConfigs>(&format!("{bare}{image}"));
    let params = legacy.spec.triggers.unwrap()[0].image_change_params.clone().unwrap();
    assert_eq!(
        (params.from.kind.as_deref(), params.from.name.as_deref()),
        (Some("ImageStreamTag"), Some("web:latest"))
    );
    assert_eq!((params.from.namespace.as_deref(), &*params.last_triggered_image), (Some("shop"), ""));
}

#[test]
fn one_fence_given_decides_about_the_other() {
    use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString::{Int, String as Text};
    let fences = |given: &str| {
        let config = created::<DeploymentConfigs>(&format!("spec: {{strategy: {{rollingParams: {{{given}}}}}}}"));
        let params = config.spec.strategy.rolling_params.unwrap();
        (params.max_unavailable.unwrap(), params.max_surge.unwrap())
    };
    let percent = || Text("25%".to_owned());
    assert_eq!(fences(""), (percent(), percent()));
    assert_eq!(fences("maxSurge: 0"), (percent(), Int(0)));
    assert_eq!(fences("maxUnavailable: 0%"), (Text("0%".to_owned()), percent()));
    assert_eq!(fences("maxUnavailable: 1"), (Int(1), Int(0)));
    assert_eq!(fences("maxSurge: 3"), (Int(0), Int(3)));
}

#[test]
fn a_hook_of_a_single_container_needs_no_name() {
    let yaml = FRONTEND.replace(
        "strategy: {type: Rolling}",
        "strategy: {type: Recreate, recreateParams: {mid: {failurePolicy: Abort, execNewPod: {command: [a]}}, post: {failurePolicy: Ignore, tagImages: [{to: {kind: ImageStreamTag, name: 'a:b'}}]}}}",
    );
    assert_eq!(causes::<DeploymentConfigs>(&yaml), "");
    let params = created::<DeploymentConfigs>(&yaml).spec.strategy.recreate_params.unwrap();
    assert_eq!(params.mid.unwrap().exec_new_pod.unwrap().container_name, "helloworld");
    assert_eq!(params.post.unwrap().tag_images[0].container_name, "helloworld");
    assert_eq!(params.timeout_seconds, Some(600));
}

#[test]
fn what_is_wrong_is_named() {
    let wrong = "
metadata: {name: web}
spec:
  replicas: -1
  minReadySeconds: 700
  revisionHistoryLimit: -2
  selector: {app: other}
  strategy:
    type: Rolling
    activeDeadlineSeconds: 500
    rollingParams:
      intervalSeconds: 0
      maxSurge: 0
      maxUnavailable: 0%
      pre: {failurePolicy: Abort}
      post: {failurePolicy: '', execNewPod: {command: [], containerName: ''}, tagImages: [{}]}
  template:
    metadata: {labels: {app: web}}
    spec: {containers: [{name: a}, {name: b}]}
  triggers:
  - {}
  - {type: ImageChange}
  - {type: Push}
  - {type: ImageChange, imageChangeParams: {from: {kind: DockerImage, name: web}}}
  - {type: ImageChange, imageChangeParams: {containerNames: [b], from: {name: 'web:1'}}}
";
    expect![[r#"
        spec.minReadySeconds: Invalid value: 700: must be less than the deployment timeout (600s)
        spec.minReadySeconds: Invalid value: 700: must be less than activeDeadlineSeconds (500s - used by the deployer pod)
        spec.triggers[0].type: Required value
        spec.triggers[1].imageChangeParams: Required value
        spec.triggers[2].type: Unsupported value: "Push": supported values: "ConfigChange", "ImageChange"
        spec.triggers[3].imageChangeParams.from.kind: Invalid value: "DockerImage": kind must be 'ImageStreamTag'
        spec.triggers[3].imageChangeParams.from.name: Invalid value: "web": must be in the form of <name>:<tag>
        spec.triggers[3].imageChangeParams.containerNames: Required value
        spec.strategy.rollingParams.intervalSeconds: Invalid value: 0: must be >0
        spec.strategy.rollingParams.maxUnavailable: Invalid value: "0%": cannot be 0 when maxSurge is 0 as well
        spec.strategy.rollingParams.pre: Invalid value: "<empty>": you must specify 'execNewPod' or 'tagImages'
        spec.strategy.rollingParams.post.failurePolicy: Required value
        spec.strategy.rollingParams.post: Invalid value: "<hook>": only one of 'execNewPod' or 'tagImages' may be specified
        spec.strategy.activeDeadlineSeconds: Invalid value: 500: must be greater than the deployment timeout (600s)
        spec.revisionHistoryLimit: Invalid value: -2: must be greater than or equal to 0
        spec.replicas: Invalid value: -1: must be greater than or equal to 0
        spec.template.metadata.labels: Invalid value: {"app":"web"}: `selector` does not match template `labels`
        spec.template.spec.containers[0].image: Required value
    "#]]
    .assert_eq(&causes::<DeploymentConfigs>(wrong));
}

#[test]
fn strategies_want_their_parameters() {
    let of = |strategy: &str| causes::<DeploymentConfigs>(&FRONTEND.replace("{type: Rolling}", strategy));
    expect![[r#"
        spec.strategy.customParams: Required value
    "#]]
    .assert_eq(&of("{type: Custom}"));
    expect![[r#"
        spec.strategy.type: Invalid value: "BlueGreen": unsupported strategy type, use "Custom" instead and specify your own strategy
    "#]].assert_eq(&of("{type: BlueGreen}"));
    assert_eq!(of("{type: Custom, customParams: {command: [deploy]}}"), "");
    assert_eq!(of("{type: Rolling, customParams: {command: [deploy]}}"), "");
    expect![[r#"
        spec.strategy.rollingParams.maxUnavailable: Invalid value: "101%": should not be more than 100%
        spec.strategy.rollingParams.maxSurge: Invalid value: "a": must be an integer or percentage (e.g '5%')
    "#]]
    .assert_eq(&of("{rollingParams: {maxUnavailable: 101%, maxSurge: a}}"));
}

#[test]
fn an_update_keeps_the_status_but_may_ask_for_the_next_rollout() {
    let mut old = created::<DeploymentConfigs>(FRONTEND);
    old.status.latest_version = 3;
    old.status.replicas = 5;
    for (asked, given) in [(4, 4), (5, 3), (2, 3), (0, 3)] {
        let mut new = old.clone();
        new.status = types::DeploymentConfigStatus { latest_version: asked, replicas: 9, ..Default::default() };
        DeploymentConfigs::prepare_update(&mut new, &old);
        assert_eq!((new.status.latest_version, new.status.replicas), (given, 5));
        assert_eq!(DeploymentConfigs::same_spec(&new, &old), given == 3);
    }
    assert_eq!(update_causes::<DeploymentConfigs>(FRONTEND, FRONTEND), "");
}

#[test]
fn the_same_file_applied_again_changes_nothing() {
    const IMAGE: &str = "hello-openshift@sha256:1";
    let mut old = created::<DeploymentConfigs>(FRONTEND);
    let image = |config: &mut DeploymentConfig, text: &str| {
        let pods = config.spec.template.as_mut().unwrap().spec.as_mut().unwrap();
        pods.containers[0].image = Some(text.to_owned());
    };
    let last = |config: &mut DeploymentConfig, text: &str| {
        let params = config.spec.triggers.as_mut().unwrap()[1].image_change_params.as_mut().unwrap();
        text.clone_into(&mut params.last_triggered_image);
    };
    image(&mut old, IMAGE);
    last(&mut old, IMAGE);
    let applied = |change: &dyn Fn(&mut DeploymentConfig)| {
        let mut new = created::<DeploymentConfigs>(FRONTEND);
        change(&mut new);
        DeploymentConfigs::prepare_update(&mut new, &old);
        new
    };
    assert_eq!(applied(&|_| {}).spec, old.spec);
    assert_eq!(applied(&|new| image(new, "mine")).spec, old.spec, "whoever follows images has no other");
    // The trigger's own controller brings the next one.
    let mut next = old.clone();
    image(&mut next, "two");
    last(&mut next, "two");
    assert_eq!(applied(&|new| new.spec.clone_from(&next.spec)).spec, next.spec);
    // Where images do not follow by themselves, the user's counts.
    let manual = applied(&|new| {
        new.spec.triggers.as_mut().unwrap()[1].image_change_params.as_mut().unwrap().automatic = false;
        image(new, "mine");
    });
    assert_eq!(manual.spec.template.unwrap().spec.unwrap().containers[0].image.as_deref(), Some("mine"));
}

#[test]
fn versions_do_not_go_back() {
    let mut old = read::<DeploymentConfigs>(FRONTEND);
    (old.status.latest_version, old.status.observed_generation) = (3, 7);
    let new = read::<DeploymentConfigs>(FRONTEND);
    let errs = DeploymentConfigs::validate_status(&new, &old);
    assert_eq!(
        errs.iter().map(|e| e.path.as_str()).collect::<Vec<_>>(),
        ["status.latestVersion", "status.observedGeneration"]
    );
    assert!(DeploymentConfigs::validate_status(&old, &new).is_empty());
}

#[test]
fn rows_name_containers_when_there_are_others() {
    let two = FRONTEND.replace("image: 'hello-openshift:latest'}]", "image: a}, {name: side, image: b}]");
    expect!["frontend | 0 | 5 | 0 | config,image(helloworld:hello-openshift:latest)"]
        .assert_eq(&row::<DeploymentConfigs>(&two));
    let manual = FRONTEND.replace("automatic: true, ", "").replace("replicas: 5", "replicas: 5\n  test: true");
    expect!["frontend | 0 | 5 (during test) | 0 | config"].assert_eq(&row::<DeploymentConfigs>(&manual));
}

#[test]
fn the_old_name_reads_and_writes_the_same_objects() {
    let json = json!({ "apiVersion": "apps.openshift.io/v1", "kind": "DeploymentConfig", "spec": { "replicas": 1 } });
    let old = LegacyDeploymentConfigs::from_stored(json.clone());
    assert_eq!(old["apiVersion"], "v1");
    assert_eq!(LegacyDeploymentConfigs::to_stored(old), json);
}

#[test]
fn a_scale_is_of_its_pods_and_no_others() {
    let scale = DeploymentConfigs::scale(&created::<DeploymentConfigs>(FRONTEND)).unwrap();
    assert_eq!((scale.spec_replicas, &*scale.selector), (5, "deploymentconfig=frontend,name=frontend"));
}

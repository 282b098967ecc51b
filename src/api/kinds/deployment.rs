//! `Deployment`, apps/v1.
//!
//! **Source**: `pkg/apis/apps/{v1/defaults,validation/validation}.go`, `pkg/registry/apps/deployment/strategy.go`, v1.37.

use super::{
    check::{self, Errors},
    part,
    pod_spec::defaults,
    pod_template::{self, Counts, check_selected},
};
use crate::api::{
    field::FieldError,
    kind::{ALL_VERBS, Kind, KindInfo, SCALE, STATUS, ScaleView, Scope},
    selector::LabelSelector,
    table::{self, Column},
};
use jiff::Timestamp;
use k8s_openapi::{
    api::apps::v1::{Deployment, DeploymentSpec, DeploymentStatus, DeploymentStrategy, RollingUpdateDeployment},
    apimachinery::pkg::util::intstr::IntOrString,
};
use serde_json::{Value, json};

/// The kind `Deployment`.
#[derive(Debug)]
pub struct Deployments;

impl Kind for Deployments {
    type Object = Deployment;
    const INFO: KindInfo<'static> = KindInfo {
        group: "apps",
        version: "v1",
        kind: "Deployment",
        plural: "deployments",
        singular: "deployment",
        short_names: &["deploy"],
        categories: &["all"],
        scope: Scope::Namespaced,
        verbs: ALL_VERBS,
        subresources: &[SCALE, STATUS],
        columns: &[
            Column::name(),
            Column::text("Ready", "How many pods are ready, of how many are wanted."),
            Column::text("Up-to-date", "How many pods have the current template."),
            Column::text("Available", "How many pods have been ready for long enough."),
            Column::age(),
            Column::text("Containers", "The names of the template's containers.").wide(),
            Column::text("Images", "The images of the template's containers.").wide(),
            Column::text("Selector", "The labels of the pods that belong to it.").wide(),
        ],
        stored_as: None,
        schema: "io.k8s.api.apps.v1.Deployment",
    };

    fn set_defaults(obj: &mut Deployment) {
        let spec = &mut obj.spec;
        spec.replicas.get_or_insert(1);
        spec.revision_history_limit.get_or_insert(10);
        spec.progress_deadline_seconds.get_or_insert(600);
        default_strategy(spec.strategy.get_or_insert_default());
        defaults::template(&mut spec.template);
        obj.status.get_or_insert_default();
    }

    fn explain_unknown(path: &str) -> Option<String> {
        of_deployment_configs(path).map(|what| {
            format!("{path} is a field of OpenShift's DeploymentConfig: {what} (`skiff convert` makes Deployments of DeploymentConfigs)")
        })
    }

    fn prepare_create(obj: &mut Deployment) {
        obj.status = Some(DeploymentStatus::default());
    }

    fn validate(obj: &Deployment) -> Errors {
        let mut errs = Errors::new();
        validate_spec(&mut errs, &obj.spec);
        errs
    }

    fn prepare_update(new: &mut Deployment, old: &Deployment) {
        new.status.clone_from(&old.status);
    }

    fn validate_update(new: &Deployment, old: &Deployment) -> Errors {
        let mut errs = Errors::new();
        check::immutable(&mut errs, "spec.selector", &new.spec.selector, &old.spec.selector);
        errs
    }

    fn prepare_status(new: &mut Deployment, old: &Deployment) {
        new.spec.clone_from(&old.spec);
        new.metadata.labels.clone_from(&old.metadata.labels);
    }

    fn validate_status(new: &Deployment, old: &Deployment) -> Errors {
        let mut errs = Errors::new();
        let status = part(&new.status);
        counts(&status).check(&mut errs);
        check::non_negative(&mut errs, "status.observedGeneration", status.observed_generation);
        check::non_negative(&mut errs, "status.unavailableReplicas", status.unavailable_replicas);
        check::non_negative(&mut errs, "status.terminatingReplicas", status.terminating_replicas);
        let collisions = |d: &Deployment| d.status.as_ref().and_then(|s| s.collision_count);
        if collisions(old) > collisions(new) {
            let why = "cannot be decremented";
            errs.push(FieldError::invalid("status.collisionCount", collisions(new), why));
        }
        errs
    }

    /// The controller writes the number of the rollout so.
    fn status_annotates() -> bool {
        true
    }

    /// Annotations count as spec, because they are copied to the ReplicaSets.
    fn same_spec(new: &Deployment, old: &Deployment) -> bool {
        new.spec == old.spec && new.metadata.annotations == old.metadata.annotations
    }

    fn row(obj: &Deployment, now: Timestamp) -> Vec<Value> {
        let spec = &obj.spec;
        let status = part(&obj.status);
        let (ready, wanted) = (status.ready_replicas.unwrap_or(0), spec.replicas.unwrap_or(0));
        let selector = LabelSelector::from_api(&spec.selector);
        let [names, images] = table::containers(spec.template.spec.as_ref());
        vec![
            table::name(&obj.metadata),
            json!(format!("{ready}/{wanted}")),
            json!(status.updated_replicas.unwrap_or(0)),
            json!(status.available_replicas.unwrap_or(0)),
            table::age(&obj.metadata, now),
            names,
            images,
            json!(selector.map_or_else(|_| "<invalid>".to_owned(), |s| s.to_string())),
        ]
    }

    fn scale(obj: &Deployment) -> Option<ScaleView> {
        let spec = &obj.spec;
        Some(ScaleView {
            spec_replicas: spec.replicas.unwrap_or(0),
            status_replicas: obj.status.as_ref().and_then(|s| s.replicas).unwrap_or(0),
            selector: pod_template::selector_text(&spec.selector),
        })
    }

    fn set_scale(obj: &mut Deployment, replicas: i32) {
        obj.spec.replicas = Some(replicas);
    }

    fn warnings(obj: &Deployment) -> Vec<String> {
        pod_template::warnings(Some(&obj.spec.template))
    }
}

fn counts(status: &DeploymentStatus) -> Counts {
    Counts {
        replicas: status.replicas.unwrap_or(0),
        ready: status.ready_replicas.unwrap_or(0),
        available: status.available_replicas.unwrap_or(0),
        own: ("updatedReplicas", status.updated_replicas.unwrap_or(0)),
    }
}

fn default_strategy(strategy: &mut DeploymentStrategy) {
    defaults::text(&mut strategy.type_, "RollingUpdate");
    if strategy.type_.as_deref() == Some("RollingUpdate") {
        let quarter = || IntOrString::String("25%".to_owned());
        let rolling = strategy.rolling_update.get_or_insert_default();
        rolling.max_unavailable.get_or_insert_with(quarter);
        rolling.max_surge.get_or_insert_with(quarter);
    }
}

fn validate_spec(errs: &mut Errors, spec: &DeploymentSpec) {
    check::non_negative(errs, "spec.replicas", spec.replicas);
    check_selected(errs, &spec.selector, &spec.template, "ReplicaSet");
    validate_strategy(errs, &part(&spec.strategy));
    check::non_negative(errs, "spec.minReadySeconds", spec.min_ready_seconds);
    check::non_negative(errs, "spec.revisionHistoryLimit", spec.revision_history_limit);
    check::non_negative(errs, "spec.progressDeadlineSeconds", spec.progress_deadline_seconds);
    if let Some(deadline) = spec.progress_deadline_seconds.filter(|d| *d <= spec.min_ready_seconds.unwrap_or(0)) {
        let why = "must be greater than minReadySeconds";
        errs.push(FieldError::invalid("spec.progressDeadlineSeconds", deadline, why));
    }
}

fn validate_strategy(errs: &mut Errors, strategy: &DeploymentStrategy) {
    let at = "spec.strategy.rollingUpdate";
    match (strategy.type_.as_deref().unwrap_or_default(), &strategy.rolling_update) {
        ("RollingUpdate", Some(rolling)) => validate_rolling(errs, rolling, at),
        ("RollingUpdate", None) => {
            errs.push(FieldError::required(at, "this should be defaulted and never be nil"));
        }
        ("Recreate", None) => {}
        ("Recreate", Some(_)) => {
            errs.push(FieldError::forbidden(at, "may not be specified when strategy `type` is 'Recreate'"));
        }
        (other, _) => {
            let err = FieldError::not_supported("spec.strategy.type", other, &["Recreate", "RollingUpdate"]);
            errs.push(err.explained(strategy_of_deployment_configs(other)));
        }
    }
}

/// What a strategy of OpenShift's DeploymentConfig is called in a Deployment; nothing for any other word.
fn strategy_of_deployment_configs(strategy: &str) -> &'static str {
    match strategy {
        "Rolling" => "Rolling is a strategy of OpenShift's DeploymentConfig, RollingUpdate that of a Deployment",
        "Custom" => "Custom is a strategy of OpenShift's DeploymentConfig, and a Deployment has none of one's own",
        _ => "",
    }
}

fn validate_rolling(errs: &mut Errors, rolling: &RollingUpdateDeployment, path: &str) {
    let surge = rolling.max_surge.clone().unwrap_or_default();
    let unavailable = rolling.max_unavailable.clone().unwrap_or_default();
    let at = format!("{path}.maxUnavailable");
    number_or_percent(errs, &unavailable, &at);
    number_or_percent(errs, &surge, &format!("{path}.maxSurge"));
    let is_zero = |v: &IntOrString| {
        percent(v).unwrap_or(match v {
            IntOrString::Int(n) => u32::try_from(*n).unwrap_or(u32::MAX),
            IntOrString::String(_) => 0,
        }) == 0
    };
    if is_zero(&unavailable) && is_zero(&surge) {
        errs.push(FieldError::invalid(&at, &unavailable, "may not be 0 when `maxSurge` is 0"));
    }
    if percent(&unavailable).is_some_and(|p| p > 100) {
        errs.push(FieldError::invalid(at, &unavailable, "must not be greater than 100%"));
    }
}

fn percent(value: &IntOrString) -> Option<u32> {
    let IntOrString::String(text) = value else { return None };
    let digits = text.strip_suffix('%').filter(|d| !d.is_empty() && d.bytes().all(|b| b.is_ascii_digit()))?;
    Some(digits.parse().unwrap_or(u32::MAX))
}

fn number_or_percent(errs: &mut Errors, value: &IntOrString, path: &str) {
    match value {
        IntOrString::Int(number) => check::non_negative(errs, path, Some(*number)),
        IntOrString::String(_) if percent(value).is_some() => {}
        IntOrString::String(_) => {
            let text = "a valid percent string must be a numeric string followed by an ending '%'";
            let why = crate::api::names::not_matching(text, "[0-9]+%", &["1%", "93%"]);
            errs.push(FieldError::invalid(path, value, why));
        }
    }
}

/// What a field meant in a DeploymentConfig, and what a Deployment has for it.
fn of_deployment_configs(path: &str) -> Option<&'static str> {
    Some(match path {
        "spec.triggers" => {
            "there it says what starts a rollout; every change of the template starts one here, and the annotation \
             image.openshift.io/triggers follows image streams"
        }
        "spec.test" => {
            "there it keeps pods only while a rollout goes on; nothing here does, and a Job may be what is wanted"
        }
        "spec.strategy.rollingParams" => {
            "there it holds maxSurge, maxUnavailable, pauses, a deadline and hooks; here spec.strategy.rollingUpdate has maxSurge and \
             maxUnavailable, spec.progressDeadlineSeconds is the deadline, and a Job or an init container does what a hook did"
        }
        "spec.strategy.recreateParams" => {
            "there it holds a deadline and hooks; here spec.progressDeadlineSeconds is the deadline, and a Job or an init container does \
             what a hook did"
        }
        "spec.strategy.customParams" => {
            "there it names an image that does the rollout; here the controller alone does it"
        }
        "spec.strategy.activeDeadlineSeconds" => {
            "there it ends the deployer pod; nothing deploys in a pod here, and spec.progressDeadlineSeconds says when a rollout counts as \
             failed"
        }
        "spec.strategy.labels" | "spec.strategy.annotations" | "spec.strategy.resources" => {
            "there it is for deployer and hook pods, which a Deployment has not"
        }
        _ => match path.strip_prefix("spec.selector.")? {
            "matchLabels" | "matchExpressions" => return None,
            _ => "there the selector is the labels themselves; here they are in spec.selector.matchLabels",
        },
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::api::kinds::testing::{causes, created, created_yaml, row, update_causes};
    use expect_test::expect;

    const WEB: &str = "
metadata: {name: web, namespace: default}
spec:
  selector: {matchLabels: {app: web}}
  template:
    metadata: {labels: {app: web}}
    spec: {containers: [{name: web, image: 'nginx:1.27', ports: [{containerPort: 80}]}]}
";

    #[test]
    fn fields_of_a_deployment_config_are_explained() {
        let told = |path| Deployments::explain_unknown(path).unwrap_or_default();
        assert!(
            told("spec.triggers")
                .starts_with("spec.triggers is a field of OpenShift's DeploymentConfig: there it says what starts")
        );
        assert!(told("spec.selector.app").contains("spec.selector.matchLabels"));
        assert!(told("spec.strategy.rollingParams").contains("spec.strategy.rollingUpdate"));
        assert_eq!((told("spec.triger"), told("spec.selector.matchLabels")), (String::new(), String::new()));
    }

    #[test]
    fn a_small_deployment_is_filled_in() {
        expect![[r#"
            apiVersion: apps/v1
            kind: Deployment
            metadata:
              name: web
              namespace: default
            spec:
              progressDeadlineSeconds: 600
              replicas: 1
              revisionHistoryLimit: 10
              selector:
                matchLabels:
                  app: web
              strategy:
                rollingUpdate:
                  maxSurge: 25%
                  maxUnavailable: 25%
                type: RollingUpdate
              template:
                metadata:
                  labels:
                    app: web
                spec:
                  containers:
                  - image: nginx:1.27
                    imagePullPolicy: IfNotPresent
                    name: web
                    ports:
                    - containerPort: 80
                      protocol: TCP
                    resources: {}
                    terminationMessagePath: /dev/termination-log
                    terminationMessagePolicy: File
                  dnsPolicy: ClusterFirst
                  restartPolicy: Always
                  schedulerName: default-scheduler
                  securityContext: {}
                  terminationGracePeriodSeconds: 30
            status: {}
        "#]]
        .assert_eq(&created_yaml::<Deployments>(WEB));
    }

    #[test]
    fn a_right_deployment_has_no_causes() {
        assert_eq!(causes::<Deployments>(WEB), "");
    }

    #[test]
    fn all_that_is_wrong_is_named_at_once() {
        let wrong = "
metadata: {name: web}
spec:
  replicas: -1
  minReadySeconds: 700
  revisionHistoryLimit: -2
  selector: {matchLabels: {app: web, 'bad key!': x}}
  strategy: {rollingUpdate: {maxSurge: 0, maxUnavailable: 0}}
  template:
    metadata: {labels: {app: other}}
    spec: {restartPolicy: Never, activeDeadlineSeconds: 3, containers: []}
";
        expect![[r#"
            spec.replicas: Invalid value: -1: must be greater than or equal to 0
            spec.selector.matchLabels: Invalid value: "bad key!": name part must consist of alphanumeric characters, '-', '_' or '.', and must start and end with an alphanumeric character (e.g. 'MyName',  or 'my.name',  or '123-abc', regex used for validation is '([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9]')
            spec.selector: Invalid value: {"matchLabels":{"app":"web","bad key!":"x"}}: invalid label selector
            spec.strategy.rollingUpdate.maxUnavailable: Invalid value: 0: may not be 0 when `maxSurge` is 0
            spec.revisionHistoryLimit: Invalid value: -2: must be greater than or equal to 0
            spec.progressDeadlineSeconds: Invalid value: 600: must be greater than minReadySeconds
        "#]].assert_eq(&causes::<Deployments>(wrong));
        expect![[r#"
            spec.selector: Required value
            spec.template.metadata.labels: Invalid value: null: `selector` does not match template `labels`
            spec.template.spec.containers: Required value
        "#]]
        .assert_eq(&causes::<Deployments>("metadata: {name: web}"));
    }

    #[test]
    fn a_strategy_is_checked() {
        let with = |strategy: &str| causes::<Deployments>(&format!("{WEB}  strategy: {strategy}\n"));
        assert_eq!(with("{type: Recreate}"), "");
        assert_eq!(with("{rollingUpdate: {maxSurge: 1, maxUnavailable: '0%'}}"), "");
        expect![[r#"
            spec.strategy.rollingUpdate: Forbidden: may not be specified when strategy `type` is 'Recreate'
        "#]]
        .assert_eq(&with("{type: Recreate, rollingUpdate: {maxSurge: 1}}"));
        expect![[r#"
            spec.strategy.rollingUpdate.maxSurge: Invalid value: "a lot": a valid percent string must be a numeric string followed by an ending '%' (e.g. '1%',  or '93%', regex used for validation is '[0-9]+%')
            spec.strategy.rollingUpdate.maxUnavailable: Invalid value: "101%": must not be greater than 100%
        "#]].assert_eq(&with("{rollingUpdate: {maxSurge: a lot, maxUnavailable: '101%'}}"));
        expect![[r#"
            spec.strategy.rollingUpdate.maxUnavailable: Invalid value: "5.5%": a valid percent string must be a numeric string followed by an ending '%' (e.g. '1%',  or '93%', regex used for validation is '[0-9]+%')
            spec.strategy.rollingUpdate.maxSurge: Invalid value: -1: must be greater than or equal to 0
        "#]].assert_eq(&with("{rollingUpdate: {maxSurge: -1, maxUnavailable: 5.5%}}"));
        expect![[r#"
            spec.strategy.type: Unsupported value: "Sideways": supported values: "Recreate", "RollingUpdate"
        "#]]
        .assert_eq(&with("{type: Sideways}"));
        let of_config = with("{type: Rolling}");
        assert!(
            of_config.contains(r#""RollingUpdate"; Rolling is a strategy of OpenShift's DeploymentConfig"#),
            "{of_config}"
        );
        assert!(with("{type: Custom}").contains("a Deployment has none"));
    }

    #[test]
    fn the_selector_stays() {
        let other = WEB.replace("app: web", "app: shop");
        expect![[r#"
            spec.selector: Invalid value: {"matchLabels":{"app":"shop"}}: field is immutable
        "#]]
        .assert_eq(&update_causes::<Deployments>(WEB, &other));
        assert_eq!(update_causes::<Deployments>(WEB, &WEB.replace("nginx:1.27", "nginx:1.28")), "");
    }

    #[test]
    fn the_generation_follows_spec_and_annotations() {
        let old = created::<Deployments>(WEB);
        let annotated = |key: &str| {
            let mut new = old.clone();
            new.metadata.annotations = Some([(key.to_owned(), "2".to_owned())].into());
            new
        };
        assert!(!Deployments::same_spec(&annotated("a"), &old));
        let mut scaled = old.clone();
        Deployments::set_scale(&mut scaled, 3);
        assert!(!Deployments::same_spec(&scaled, &old));
    }

    #[test]
    fn it_scales() {
        let mut web = created::<Deployments>(WEB);
        Deployments::set_scale(&mut web, 3);
        let view = ScaleView { spec_replicas: 3, status_replicas: 0, selector: "app=web".into() };
        assert_eq!(Deployments::scale(&web), Some(view));
    }

    #[test]
    fn a_status_write_keeps_the_spec_and_counts_add_up() {
        let old = created::<Deployments>(WEB);
        let mut new = old.clone();
        new.spec.replicas = Some(9);
        let status = "{replicas: 1, updatedReplicas: 2, readyReplicas: -1, availableReplicas: 1}";
        new.status = Some(crate::testing::from_yaml(status).unwrap());
        Deployments::prepare_status(&mut new, &old);
        assert_eq!(new.spec, old.spec);
        let wrong: Vec<String> = Deployments::validate_status(&new, &old).iter().map(ToString::to_string).collect();
        expect![[r#"
            status.readyReplicas: Invalid value: -1: must be greater than or equal to 0
            status.updatedReplicas: Invalid value: 2: cannot be greater than status.replicas
            status.availableReplicas: Invalid value: 1: cannot be greater than readyReplicas"#]]
        .assert_eq(&wrong.join("\n"));
    }

    #[test]
    fn a_row_reads_as_in_kubernetes() {
        let status = "status: {replicas: 3, readyReplicas: 2, updatedReplicas: 3, availableReplicas: 1}";
        let web = WEB.replace("default}", "default, creationTimestamp: '2026-03-01T11:55:00Z'}");
        let web = web.replace("spec:\n  selector", "spec:\n  replicas: 3\n  selector");
        expect!["web | 2/3 | 3 | 1 | 5m | web | nginx:1.27 | app=web"]
            .assert_eq(&row::<Deployments>(&format!("{web}{status}")));
    }
}

//! `Pod`, core/v1.
//!
//! The rules of its spec are in `pod_spec`, shared with templates. Here is what only pods have: a life, an immutable spec, a printed
//! status.
//!
//! **Source**: `pkg/apis/core/validation/validation.go`, `pkg/registry/core/pod/strategy.go`,
//! `plugin/pkg/admission/{defaulttolerationseconds,priority}`, v1.37.

mod debug;
mod print;
mod resize;
mod update;

use super::{
    check::{self, Errors},
    part,
    pod_spec::{self, Of, defaults},
    priority, text,
};
use crate::api::{
    field::FieldError,
    kind::{ALL_VERBS, Kind, KindInfo, PROXY_VERBS, Parameter, STATUS, Scope, Subresource},
    pod_state,
    selector::Fields,
    table::Column,
};
use jiff::Timestamp;
use k8s_openapi::api::core::v1::{ContainerStatus, Pod, PodSpec, PodStatus, Toleration};
use serde_json::Value;

/// The kind `Pod`.
#[derive(Debug)]
pub struct Pods;

const ATTACH: Subresource<'static> = Subresource::of("attach", ("", "v1", "PodAttachOptions"), &["create", "get"]);
const BINDING: Subresource<'static> = Subresource::of("binding", ("", "v1", "Binding"), &["create"]);
/// The sub-resource by which ephemeral containers are added.
pub const EPHEMERAL_CONTAINERS: &str = "ephemeralcontainers";
/// The sub-resource by which the resources of containers are changed.
pub const RESIZE: &str = "resize";
const FACET_VERBS: &[&str] = &["get", "patch", "update"];
const EVICTION: Subresource<'static> = Subresource::of("eviction", ("policy", "v1", "Eviction"), &["create"]);
const EXEC: Subresource<'static> = Subresource::of("exec", ("", "v1", "PodExecOptions"), &["create", "get"]);
const LOG: Subresource<'static> = Subresource { parameters: LOG_PARAMETERS, ..Subresource::own("log", &["get"]) };
const LOG_PARAMETERS: &[Parameter<'static>] = &[
    ("container", "string", "The container whose log is read; may be left out when the pod has one."),
    ("follow", "boolean", "Goes on as the container writes."),
    ("insecureSkipTLSVerifyBackend", "boolean", "Taken and of no effect: no kubelet stands behind the log."),
    ("limitBytes", "integer", "The log ends after this many bytes."),
    ("previous", "boolean", "Reads the log of the container before the last restart."),
    ("sinceSeconds", "integer", "Begins this many seconds ago."),
    ("sinceTime", "string", "Begins at this time (RFC 3339)."),
    ("stream", "string", "Which stream to read: All, Stdout or Stderr."),
    ("tailLines", "integer", "Begins this many lines before the end."),
    ("timestamps", "boolean", "Begins each line with its time."),
];
const PORT_FORWARD: Subresource<'static> =
    Subresource::of("portforward", ("", "v1", "PodPortForwardOptions"), &["create", "get"]);

const PROXY: Subresource<'static> = Subresource::of("proxy", ("", "v1", "PodProxyOptions"), PROXY_VERBS);

/// The annotation that says how dear a pod is to its ReplicaSet: those with the lower cost go first.
pub const DELETION_COST_ANNOTATION: &str = "controller.kubernetes.io/pod-deletion-cost";
/// How long a pod stays on a node that is not ready or not reachable, unless it says otherwise.
const TOLERATION_SECS: i64 = 300;

impl Kind for Pods {
    type Object = Pod;
    const INFO: KindInfo<'static> = KindInfo {
        group: "",
        version: "v1",
        kind: "Pod",
        plural: "pods",
        singular: "pod",
        short_names: &["po"],
        categories: &["all"],
        scope: Scope::Namespaced,
        verbs: ALL_VERBS,
        subresources: &[
            ATTACH,
            BINDING,
            Subresource::own(EPHEMERAL_CONTAINERS, FACET_VERBS),
            EVICTION,
            EXEC,
            LOG,
            PORT_FORWARD,
            PROXY,
            Subresource::own(RESIZE, FACET_VERBS),
            STATUS,
        ],
        columns: &[
            Column::name(),
            Column::text("Ready", "How many containers are ready, of how many."),
            Column::text("Status", "What the pod is doing."),
            Column::text("Restarts", "How often containers were restarted."),
            Column::age(),
            Column::text("IP", "The pod's address.").wide(),
            Column::text("Node", "The node that the pod runs on.").wide(),
            Column::text("Nominated Node", "The node that is being cleared for the pod.").wide(),
            Column::text("Readiness Gates", "How many gates are open, of how many.").wide(),
        ],
        stored_as: None,
        schema: "io.k8s.api.core.v1.Pod",
    };

    fn set_defaults(obj: &mut Pod) {
        let spec = obj.spec.get_or_insert_default();
        defaults::pod_spec(spec);
        defaults::pod_only(spec);
        obj.status.get_or_insert_default();
    }

    fn prepare_create(obj: &mut Pod) {
        let spec = obj.spec.get_or_insert_default();
        add_tolerations(spec);
        spec.priority.get_or_insert_with(|| priority_of(spec.priority_class_name.as_deref()));
        defaults::text(&mut spec.preemption_policy, "PreemptLowerPriority");
        obj.status = Some(PodStatus {
            phase: Some("Pending".to_owned()),
            qos_class: Some(pod_state::qos_class(spec).to_owned()),
            ..PodStatus::default()
        });
    }

    fn validate(obj: &Pod) -> Errors {
        let spec = part(&obj.spec);
        let mut errs = pod_spec::validate(&spec, "spec", Of::Pod);
        validate_deletion_cost(&mut errs, obj);
        errs
    }

    fn validate_create(obj: &Pod) -> Errors {
        let mut errs = Errors::new();
        let ephemeral = obj.spec.as_ref().and_then(|s| s.ephemeral_containers.as_ref());
        if ephemeral.is_some_and(|c| !c.is_empty()) {
            errs.push(FieldError::forbidden("spec.ephemeralContainers", "cannot be set on create"));
        }
        errs
    }

    fn prepare_update(new: &mut Pod, old: &Pod) {
        new.status.clone_from(&old.status);
        // Source: `setPodNodeAndMetadata` of pkg/registry/core/pod/storage/storage.go, v1.37: what was promised is fulfilled.
        if update::is_bound(new) && !update::is_bound(old) {
            new.status.get_or_insert_default().nominated_node_name = None;
        }
        if let (Some(new), Some(old)) = (&mut new.spec, &old.spec) {
            update::keep_assigned(new, old);
        }
    }

    fn validate_update(new: &Pod, old: &Pod) -> Errors {
        update::validate(&part(&new.spec), &part(&old.spec))
    }

    fn prepare_status(new: &mut Pod, old: &Pod) {
        new.spec.clone_from(&old.spec);
        new.metadata.owner_references.clone_from(&old.metadata.owner_references);
        let old_class = old.status.as_ref().and_then(|s| s.qos_class.clone());
        let class = &mut new.status.get_or_insert_default().qos_class;
        if class.as_deref().unwrap_or_default().is_empty() {
            *class = old_class;
        }
    }

    fn prepare_facet(facet: &str, new: &mut Pod, old: &Pod) {
        new.status.clone_from(&old.status);
        let (wanted, before) = (part(&new.spec), part(&old.spec));
        new.spec = Some(if facet == RESIZE { resize::apply(&wanted, before) } else { debug::apply(wanted, before) });
    }

    fn validate_facet(facet: &str, new: &Pod, old: &Pod) -> Errors {
        if facet == RESIZE { resize::validate(new, old) } else { debug::validate(&part(&new.spec), &part(&old.spec)) }
    }

    fn status_annotates() -> bool {
        true
    }

    fn validate_status(new: &Pod, old: &Pod) -> Errors {
        let mut errs = Errors::new();
        validate_status(&mut errs, &part(&new.status), &part(&old.status), &part(&old.spec));
        errs
    }

    fn same_spec(new: &Pod, old: &Pod) -> bool {
        new.spec == old.spec
    }

    fn field_labels() -> &'static [(&'static str, &'static str)] {
        &[
            ("spec.hostNetwork", "spec.hostNetwork"),
            ("spec.nodeName", "spec.nodeName"),
            ("spec.restartPolicy", "spec.restartPolicy"),
            ("spec.schedulerName", "spec.schedulerName"),
            ("spec.serviceAccountName", "spec.serviceAccountName"),
            ("status.nominatedNodeName", "status.nominatedNodeName"),
            ("status.phase", "status.phase"),
            ("status.podIP", "status.podIP"),
        ]
    }

    fn selectable_fields(obj: &Pod) -> Fields<'static> {
        let spec = part(&obj.spec);
        let status = part(&obj.status);
        Fields::from([
            ("spec.hostNetwork", spec.host_network.unwrap_or(false).to_string()),
            ("spec.nodeName", text(&spec.node_name)),
            ("spec.restartPolicy", text(&spec.restart_policy)),
            ("spec.schedulerName", text(&spec.scheduler_name)),
            ("spec.serviceAccountName", text(&spec.service_account_name)),
            ("status.nominatedNodeName", text(&status.nominated_node_name)),
            ("status.phase", text(&status.phase)),
            ("status.podIP", text(&status.pod_ip)),
        ])
    }

    fn returns_deleted() -> bool {
        true
    }

    fn row(obj: &Pod, now: Timestamp) -> Vec<Value> {
        print::row(obj, now)
    }

    /// A pod without a node, or one that has ended, goes at once.
    fn grace_period_secs(obj: &Pod) -> Option<i64> {
        let spec = obj.spec.as_ref();
        let is_scheduled = spec.and_then(|s| s.node_name.as_deref()).is_some_and(|n| !n.is_empty());
        if !is_scheduled || pod_state::is_terminal(obj) {
            return Some(0);
        }
        match spec.and_then(|s| s.termination_grace_period_seconds).unwrap_or(0) {
            negative if negative < 0 => Some(1),
            secs => Some(secs),
        }
    }

    fn warnings(obj: &Pod) -> Vec<String> {
        obj.spec.as_ref().map(|s| pod_spec::warnings(s, "spec")).unwrap_or_default()
    }
}

/// Source: `plugin/pkg/admission/defaulttolerationseconds/admission.go`.
fn add_tolerations(spec: &mut PodSpec) {
    for key in ["node.kubernetes.io/not-ready", "node.kubernetes.io/unreachable"] {
        let tolerations = spec.tolerations.get_or_insert_default();
        let covers = |t: &Toleration| {
            let (its_key, effect) = (text(&t.key), text(&t.effect));
            (its_key == key || its_key.is_empty()) && (effect == "NoExecute" || effect.is_empty())
        };
        if !tolerations.iter().any(covers) {
            tolerations.push(Toleration {
                key: Some(key.to_owned()),
                operator: Some("Exists".to_owned()),
                effect: Some("NoExecute".to_owned()),
                toleration_seconds: Some(TOLERATION_SECS),
                value: None,
            });
        }
    }
}

/// The priority of a pod whose class has been admitted.
fn priority_of(class: Option<&str>) -> i32 {
    class.and_then(priority::of_class).unwrap_or(0)
}

/// The order in which a ReplicaSet gives pods up is a number. Source: `ValidatePodSpecificAnnotations`.
fn validate_deletion_cost(errs: &mut Errors, obj: &Pod) {
    let cost = obj.metadata.annotations.as_ref().and_then(|a| a.get(DELETION_COST_ANNOTATION));
    if let Some(cost) = cost.filter(|c| c.parse::<i32>().is_err()) {
        let at = format!("metadata.annotations[{DELETION_COST_ANNOTATION}]");
        errs.push(FieldError::invalid(at, cost, "must be a 32bit integer"));
    }
}

/// Source: `ValidatePodStatusUpdate`.
fn validate_status(errs: &mut Errors, new: &PodStatus, old: &PodStatus, spec: &PodSpec) {
    for (i, condition) in new.conditions.iter().flatten().enumerate() {
        let at = format!("status.conditions[{i}]");
        check::non_negative(errs, format!("{at}.observedGeneration"), condition.observed_generation);
        if !["PodScheduled", "Ready", "Initialized"].contains(&condition.type_.as_str()) {
            check::qualified_name(errs, &format!("{at}.Type"), &condition.type_);
        }
    }
    check::non_negative(errs, "status.observedGeneration", new.observed_generation);
    if old.qos_class.is_some() {
        check::immutable(errs, "status.qosClass", &new.qos_class, &old.qos_class);
    }
    let policy = spec.restart_policy.as_deref().unwrap_or_default();
    let lists = [
        ("containerStatuses", &new.container_statuses, &old.container_statuses),
        ("initContainerStatuses", &new.init_container_statuses, &old.init_container_statuses),
    ];
    for (field, new, old) in lists {
        let (new, old) = (new.as_deref().unwrap_or_default(), old.as_deref().unwrap_or_default());
        validate_transitions(errs, &format!("status.{field}"), new, old, policy);
    }
    for (i, ip) in new.pod_ips.iter().flatten().enumerate() {
        check::ip(errs, &format!("status.podIPs[{i}]"), &ip.ip);
    }
    for (i, ip) in new.host_ips.iter().flatten().enumerate() {
        check::ip(errs, &format!("status.hostIPs[{i}]"), &ip.ip);
    }
    let first = new.host_ips.iter().flatten().next().map(|ip| &ip.ip);
    if let Some(first) = first.filter(|ip| new.host_ip.as_ref() != Some(*ip)) {
        errs.push(FieldError::invalid("status.hostIPs[0].ip", first, "must be equal to `hostIP`"));
    }
}

/// A container that ended and is not to be restarted stays ended.
fn validate_transitions(errs: &mut Errors, path: &str, new: &[ContainerStatus], old: &[ContainerStatus], policy: &str) {
    if policy == "Always" {
        return;
    }
    for (i, old) in old.iter().enumerate() {
        let ended = |c: &ContainerStatus| c.state.as_ref().and_then(|s| s.terminated.clone());
        let Some(end) = ended(old) else { continue };
        let may_restart = end.exit_code != 0 && policy == "OnFailure";
        if !may_restart && new.iter().any(|n| n.name == old.name && ended(n).is_none()) {
            let why = "may not be transitioned to non-terminated state";
            errs.push(FieldError::forbidden(format!("{path}[{i}].state"), why));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::api::kinds::testing::{causes, created, created_yaml, lines, update_causes};
    use expect_test::expect;

    const WEB: &str = "
metadata: {name: web, namespace: default}
spec: {containers: [{name: web, image: nginx}]}
";

    #[test]
    fn a_small_pod_is_filled_in() {
        expect![[r#"
            apiVersion: v1
            kind: Pod
            metadata:
              name: web
              namespace: default
            spec:
              containers:
              - image: nginx
                imagePullPolicy: Always
                name: web
                resources: {}
                terminationMessagePath: /dev/termination-log
                terminationMessagePolicy: File
              dnsPolicy: ClusterFirst
              enableServiceLinks: true
              preemptionPolicy: PreemptLowerPriority
              priority: 0
              restartPolicy: Always
              schedulerName: default-scheduler
              securityContext: {}
              terminationGracePeriodSeconds: 30
              tolerations:
              - effect: NoExecute
                key: node.kubernetes.io/not-ready
                operator: Exists
                tolerationSeconds: 300
              - effect: NoExecute
                key: node.kubernetes.io/unreachable
                operator: Exists
                tolerationSeconds: 300
            status:
              phase: Pending
              qosClass: BestEffort
        "#]]
        .assert_eq(&created_yaml::<Pods>(WEB));
        assert_eq!(causes::<Pods>(WEB), "");
    }

    #[test]
    fn a_pod_is_filled_in_down_to_its_handlers() {
        let pod = "
spec:
  hostNetwork: true
  serviceAccount: robot
  tolerations: [{key: node.kubernetes.io/not-ready, operator: Exists, effect: NoExecute}]
  volumes: [{name: a}, {name: b, emptyDir: {medium: Memory, sizeLimit: 1024Ki}}]
  initContainers: [{name: i, image: 'busybox:1', resources: {limits: {memory: 0.5Gi}}}]
  containers:
  - name: web
    image: 'nginx:latest'
    ports: [{containerPort: 80}]
    env: [{name: A, valueFrom: {fieldRef: {fieldPath: metadata.name}}}, {name: B, valueFrom: {resourceFieldRef: {resource: limits.cpu}}}]
    resources: {limits: {cpu: 1500m, memory: 128Mi}, requests: {cpu: '0.0001'}}
    livenessProbe: {httpGet: {port: 80}}
    readinessProbe: {exec: {command: ['true']}, periodSeconds: 3, successThreshold: 2}
    lifecycle: {preStop: {httpGet: {port: 80, path: /bye}}}
";
        expect![[r#"
            apiVersion: v1
            kind: Pod
            metadata: {}
            spec:
              containers:
              - env:
                - name: A
                  valueFrom:
                    fieldRef:
                      apiVersion: v1
                      fieldPath: metadata.name
                - name: B
                  valueFrom:
                    resourceFieldRef:
                      divisor: '0'
                      resource: limits.cpu
                image: nginx:latest
                imagePullPolicy: Always
                lifecycle:
                  preStop:
                    httpGet:
                      path: /bye
                      port: 80
                      scheme: HTTP
                livenessProbe:
                  failureThreshold: 3
                  httpGet:
                    path: /
                    port: 80
                    scheme: HTTP
                  periodSeconds: 10
                  successThreshold: 1
                  timeoutSeconds: 1
                name: web
                ports:
                - containerPort: 80
                  hostPort: 80
                  protocol: TCP
                readinessProbe:
                  exec:
                    command:
                    - 'true'
                  failureThreshold: 3
                  periodSeconds: 3
                  successThreshold: 2
                  timeoutSeconds: 1
                resources:
                  limits:
                    cpu: 1500m
                    memory: 128Mi
                  requests:
                    cpu: 1m
                    memory: 128Mi
                terminationMessagePath: /dev/termination-log
                terminationMessagePolicy: File
              dnsPolicy: ClusterFirst
              enableServiceLinks: true
              hostNetwork: true
              initContainers:
              - image: busybox:1
                imagePullPolicy: IfNotPresent
                name: i
                resources:
                  limits:
                    memory: 512Mi
                  requests:
                    memory: 512Mi
                terminationMessagePath: /dev/termination-log
                terminationMessagePolicy: File
              preemptionPolicy: PreemptLowerPriority
              priority: 0
              restartPolicy: Always
              schedulerName: default-scheduler
              securityContext: {}
              serviceAccount: robot
              serviceAccountName: robot
              terminationGracePeriodSeconds: 30
              tolerations:
              - effect: NoExecute
                key: node.kubernetes.io/not-ready
                operator: Exists
              - effect: NoExecute
                key: node.kubernetes.io/unreachable
                operator: Exists
                tolerationSeconds: 300
              volumes:
              - emptyDir: {}
                name: a
              - emptyDir:
                  medium: Memory
                  sizeLimit: 1Mi
                name: b
            status:
              phase: Pending
              qosClass: Burstable
        "#]]
        .assert_eq(&created_yaml::<Pods>(pod));
        assert_eq!(causes::<Pods>(pod), "");
    }

    #[test]
    fn gates_may_only_go_and_while_there_is_one_the_nodes_become_fewer() {
        let gated = WEB.replace(
            "{containers",
            "{schedulingGates: [{name: x/a}, {name: x/b}], nodeSelector: {disk: ssd}, containers",
        );
        let change = |from: &str, to: &str| update_causes::<Pods>(&gated, &gated.replace(from, to));
        assert_eq!(change("{name: x/a}, ", ""), "");
        assert_eq!(change("schedulingGates: [{name: x/a}, {name: x/b}], ", ""), "");
        assert_eq!(change("{disk: ssd}", "{disk: ssd, zone: a}"), "");
        let nodes = "{nodeAffinity: {requiredDuringSchedulingIgnoredDuringExecution: {nodeSelectorTerms: [{matchExpressions: [{key: zone, operator: Exists}]}]}}}";
        let narrowed = gated.replace("{schedulingGates", &format!("{{affinity: {nodes}, schedulingGates"));
        assert_eq!(update_causes::<Pods>(&gated, &narrowed), "");
        let fewer = narrowed.replace("operator: Exists}", "operator: Exists}, {key: disk, operator: Exists}");
        assert_eq!(update_causes::<Pods>(&narrowed, &fewer), "");
        expect![[r#"
            spec.affinity.nodeAffinity.requiredDuringSchedulingIgnoredDuringExecution.nodeSelectorTerms[0]: Invalid value: {"matchExpressions":[{"key":"zone","operator":"Exists"}]}: only additions are allowed (no mutations or deletions)
        "#]]
        .assert_eq(&update_causes::<Pods>(&fewer, &narrowed));
        expect![[r#"
            spec.schedulingGates: Forbidden: only deletion is allowed, but found new scheduling gate 'x/c'
        "#]]
        .assert_eq(&change("x/b", "x/c"));
        expect![[r#"
            spec.nodeSelector: Invalid value: {"disk":"hdd"}: only additions to spec.nodeSelector are allowed (no mutations or deletions)
        "#]]
        .assert_eq(&change("ssd", "hdd"));
        let free = WEB.replace("{containers", "{nodeSelector: {disk: ssd}, containers");
        assert!(update_causes::<Pods>(&free, &free.replace("ssd}", "ssd, zone: a}")).starts_with("spec: Forbidden"));
        assert!(
            change("{schedulingGates", "{nodeName: n, schedulingGates")
                .contains("cannot be set until all schedulingGates")
        );
        let twice = gated.replace("x/b", "x/a");
        assert_eq!(causes::<Pods>(&twice), "spec.schedulingGates[1]: Duplicate value: \"x/a\"\n");
    }

    #[test]
    fn only_some_of_a_spec_may_change() {
        let change = |from: &str, to: &str| update_causes::<Pods>(WEB, &WEB.replace(from, to));
        assert_eq!(change("nginx", "'nginx:latest'"), "");
        assert_eq!(change("{containers", "{nodeName: skiff, containers"), "", "the scheduler may set the node");
        assert_eq!(change("{containers", "{activeDeadlineSeconds: 5, containers"), "");
        let more = "{tolerations: [{operator: Exists}, {key: node.kubernetes.io/not-ready, operator: Exists, effect: NoExecute, \
             tolerationSeconds: 5}, {key: node.kubernetes.io/unreachable, operator: Exists, effect: NoExecute}], containers";
        assert_eq!(change("{containers", more), "");
        expect![[r#"
            spec.containers[0].image: Invalid value: " nginx": must not have leading or trailing whitespace
        "#]]
        .assert_eq(&change("nginx", "' nginx'"));
        expect![[r#"
            spec: Forbidden: pod updates may not change fields other than `spec.containers[*].image`,`spec.initContainers[*].image`,`spec.activeDeadlineSeconds`,`spec.tolerations` (only additions to existing tolerations),`spec.terminationGracePeriodSeconds` (allow it to be set to 1 if it was previously negative)
            - spec.containers[0].name: "web"
            + spec.containers[0].name: "other"
        "#]].assert_eq(&change("name: web, image", "name: other, image"));
        expect![[r#"
            spec: Forbidden: pod updates may not change fields other than `spec.containers[*].image`,`spec.initContainers[*].image`,`spec.activeDeadlineSeconds`,`spec.tolerations` (only additions to existing tolerations),`spec.terminationGracePeriodSeconds` (allow it to be set to 1 if it was previously negative)
            + spec.hostIPC: true
            - spec.terminationGracePeriodSeconds: 30
            + spec.terminationGracePeriodSeconds: 1
        "#]].assert_eq(&change("{containers", "{terminationGracePeriodSeconds: 1, hostIPC: true, containers"));
        expect![[r#"
            spec.containers: Forbidden: pod updates may not add or remove containers
        "#]]
        .assert_eq(&change("image: nginx}", "image: nginx}, {name: more, image: x}"));
    }

    #[test]
    fn what_was_set_once_stays() {
        let old = WEB.replace("{containers", "{nodeName: skiff, activeDeadlineSeconds: 5, containers");
        let change = |from: &str, to: &str| update_causes::<Pods>(&old, &old.replace(from, to));
        assert_eq!(change("Seconds: 5", "Seconds: 4"), "");
        expect![[r#"
            spec.activeDeadlineSeconds: Invalid value: 6: must be less than or equal to previous value
        "#]]
        .assert_eq(&change("Seconds: 5", "Seconds: 6"));
        expect![[r#"
            spec.activeDeadlineSeconds: Invalid value: null: must not update from a positive integer to nil value
        "#]]
        .assert_eq(&change("activeDeadlineSeconds: 5, ", ""));
        expect![[r#"
            spec: Forbidden: pod updates may not change fields other than `spec.containers[*].image`,`spec.initContainers[*].image`,`spec.activeDeadlineSeconds`,`spec.tolerations` (only additions to existing tolerations),`spec.terminationGracePeriodSeconds` (allow it to be set to 1 if it was previously negative)
            - spec.nodeName: "skiff"
            + spec.nodeName: "other"
        "#]].assert_eq(&change("skiff", "other"));
        let strict = WEB.replace("{containers", "{tolerations: [{key: a, operator: Exists}], containers");
        expect![[r#"
            spec.tolerations: Forbidden: existing toleration can not be modified except its tolerationSeconds
        "#]]
        .assert_eq(&update_causes::<Pods>(&strict, WEB));
    }

    #[test]
    fn a_pod_goes_at_once_when_nothing_runs() {
        let mut pod = created::<Pods>(WEB);
        assert_eq!(Pods::grace_period_secs(&pod), Some(0));
        pod.spec.as_mut().unwrap().node_name = Some("skiff".into());
        assert_eq!(Pods::grace_period_secs(&pod), Some(30));
        pod.spec.as_mut().unwrap().termination_grace_period_seconds = Some(-3);
        assert_eq!(Pods::grace_period_secs(&pod), Some(1));
        pod.status.as_mut().unwrap().phase = Some("Failed".into());
        assert_eq!(Pods::grace_period_secs(&pod), Some(0));
    }

    #[test]
    fn a_status_keeps_spec_and_class_and_the_dead_stay_dead() {
        let old_yaml = format!(
            "{}status: {{qosClass: BestEffort, containerStatuses: [{{name: web, state: {{terminated: {{exitCode: 1}}}}}}]}}",
            WEB.replace("{containers", "{restartPolicy: Never, containers")
        );
        let mut old: Pod = crate::testing::from_yaml(&old_yaml).unwrap();
        Pods::set_defaults(&mut old);
        let mut new = old.clone();
        new.spec = None;
        let status = "
conditions: [{type: Ready, status: 'True'}, {type: bad type, status: 'True'}]
containerStatuses: [{name: web, state: {running: {}}}]
hostIP: 10.0.0.1
hostIPs: [{ip: 10.0.0.2}]
podIPs: [{ip: nowhere}]
";
        new.status = crate::testing::from_yaml(status).unwrap();
        Pods::prepare_status(&mut new, &old);
        assert_eq!(new.spec, old.spec);
        let wrong = lines(&Pods::validate_status(&new, &old));
        expect![[r#"
            status.conditions[1].Type: Invalid value: "bad type": name part must consist of alphanumeric characters, '-', '_' or '.', and must start and end with an alphanumeric character (e.g. 'MyName',  or 'my.name',  or '123-abc', regex used for validation is '([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9]')
            status.containerStatuses[0].state: Forbidden: may not be transitioned to non-terminated state
            status.podIPs[0]: Invalid value: "nowhere": must be a valid IP address, (e.g. 10.9.8.7 or 2001:db8::ffff)
            status.hostIPs[0].ip: Invalid value: "10.0.0.2": must be equal to `hostIP`
        "#]].assert_eq(&wrong);
        new.status.as_mut().unwrap().qos_class = Some("Guaranteed".into());
        assert!(Pods::validate_status(&new, &old).iter().any(|e| e.path == "status.qosClass"));
    }

    #[test]
    fn a_deletion_cost_is_a_number() {
        let with = |cost: &str| {
            WEB.replace("default}", &format!("default, annotations: {{{DELETION_COST_ANNOTATION}: '{cost}'}}}}"))
        };
        assert_eq!(causes::<Pods>(&with("-5")), "");
        expect![[r#"
            metadata.annotations[controller.kubernetes.io/pod-deletion-cost]: Invalid value: "low": must be a 32bit integer
        "#]].assert_eq(&causes::<Pods>(&with("low")));
    }

    #[test]
    fn a_priority_comes_from_its_class() {
        let pod = created::<Pods>(&WEB.replace("{containers", "{priorityClassName: system-node-critical, containers"));
        assert_eq!(pod.spec.unwrap().priority, Some(2_000_001_000));
    }
}

//! `Pod`, core/v1.
//!
//! The rules of its spec are in `pod_spec`, shared with templates. Here is what only pods have: a life, an immutable spec, a printed
//! status.
//!
//! **Source**: `pkg/apis/core/validation/validation.go`, `pkg/registry/core/pod/strategy.go`,
//! `plugin/pkg/admission/{defaulttolerationseconds,priority}`, v1.37.

mod print;
mod update;

use super::{
    check::{self, Errors},
    part,
    pod_spec::{self, Of, defaults},
    text,
};
use crate::api::{
    field::FieldError,
    kind::{ALL_VERBS, Kind, KindInfo, STATUS, Scope, Subresource},
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

const ATTACH: Subresource =
    Subresource { name: "attach", body: Some(("", "v1", "PodAttachOptions")), verbs: &["create", "get"] };
const BINDING: Subresource = Subresource { name: "binding", body: Some(("", "v1", "Binding")), verbs: &["create"] };
const EVICTION: Subresource =
    Subresource { name: "eviction", body: Some(("policy", "v1", "Eviction")), verbs: &["create"] };
const EXEC: Subresource =
    Subresource { name: "exec", body: Some(("", "v1", "PodExecOptions")), verbs: &["create", "get"] };
const LOG: Subresource = Subresource { name: "log", body: None, verbs: &["get"] };
const PORT_FORWARD: Subresource =
    Subresource { name: "portforward", body: Some(("", "v1", "PodPortForwardOptions")), verbs: &["create", "get"] };

/// How long a pod stays on a node that is not ready or not reachable, unless it says otherwise.
const TOLERATION_SECS: i64 = 300;

impl Kind for Pods {
    type Object = Pod;
    const INFO: KindInfo = KindInfo {
        group: "",
        version: "v1",
        kind: "Pod",
        plural: "pods",
        singular: "pod",
        short_names: &["po"],
        categories: &["all"],
        scope: Scope::Namespaced,
        verbs: ALL_VERBS,
        subresources: &[ATTACH, BINDING, EVICTION, EXEC, LOG, PORT_FORWARD, STATUS],
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
        let computed = priority_of(spec.priority_class_name.as_deref());
        if let Some(given) = spec.priority.filter(|p| *p != computed) {
            let why = format!(
                "the integer value of priority ({given}) must not be provided in pod spec; priority admission controller \
                 computed {computed} from the given PriorityClass name"
            );
            errs.push(FieldError::forbidden("spec.priority", why));
        }
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

    fn selectable_fields(obj: &Pod) -> Fields {
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

/// The priority that a class gives; there are only the classes that every cluster has.
fn priority_of(class: Option<&str>) -> i32 {
    match class {
        Some("system-cluster-critical") => 2_000_000_000,
        Some("system-node-critical") => 2_000_001_000,
        _ => 0,
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
    if let Some(first) = new.host_ips.iter().flatten().next() {
        if new.host_ip.as_ref() != Some(&first.ip) {
            errs.push(FieldError::invalid("status.hostIPs[0].ip", &first.ip, "must be equal to `hostIP`"));
        }
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

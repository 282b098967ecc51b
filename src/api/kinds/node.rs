//! `Node`, core/v1.
//!
//! **Source**: `pkg/apis/core/{v1/defaults,validation/validation}.go`, `pkg/registry/core/node/strategy.go`, v1.37.

use super::{
    check::Errors,
    part,
    pod_spec::{check_taints, defaults},
};
use crate::{
    api::{
        field::FieldError,
        kind::{ALL_VERBS, Kind, KindInfo, STATUS, Scope, Subresource},
        quantity::Quantity,
        selector::Fields,
        table::{self, Column},
    },
    base::ordered::Set,
};
use jiff::Timestamp;
use k8s_openapi::api::core::v1::{Node, NodeSpec};
use serde_json::{Value, json};

const PROXY: Subresource<'static> = Subresource::of("proxy", ("", "v1", "NodeProxyOptions"), &["get"]);

/// The kind `Node`.
#[derive(Debug)]
pub struct Nodes;

impl Kind for Nodes {
    type Object = Node;
    const INFO: KindInfo<'static> = KindInfo {
        group: "",
        version: "v1",
        kind: "Node",
        plural: "nodes",
        singular: "node",
        short_names: &["no"],
        categories: &[],
        scope: Scope::Cluster,
        verbs: ALL_VERBS,
        subresources: &[PROXY, STATUS],
        columns: &[
            Column::name(),
            Column::text("Status", "Whether the node is ready, and takes new pods."),
            Column::text("Roles", "What the node is for."),
            Column::age(),
            Column::text("Version", "The version of the node agent."),
            Column::text("Internal-IP", "The node's address inside the cluster.").wide(),
            Column::text("External-IP", "The node's address outside the cluster.").wide(),
            Column::text("OS-Image", "The operating system.").wide(),
            Column::text("Kernel-Version", "The kernel.").wide(),
            Column::text("Container-Runtime", "The container engine.").wide(),
        ],
        stored_as: None,
        schema: "io.k8s.api.core.v1.Node",
    };

    fn set_defaults(obj: &mut Node) {
        obj.spec.get_or_insert_default();
        let status = obj.status.get_or_insert_default();
        for amounts in [&mut status.capacity, &mut status.allocatable].into_iter().flatten() {
            defaults::resource_list(amounts);
        }
        if status.allocatable.is_none() {
            status.allocatable.clone_from(&status.capacity);
        }
    }

    fn validate(obj: &Node) -> Errors {
        let mut errs = Errors::new();
        let spec = part(&obj.spec);
        check_taints(&mut errs, spec.taints.as_deref().unwrap_or_default(), "metadata.taints");
        check_resources(&mut errs, obj);
        for (i, cidr) in spec.pod_cidrs.iter().flatten().enumerate() {
            if !is_cidr(cidr) {
                let why = "must be a valid CIDR value, (e.g. 10.9.8.0/24 or 2001:db8::/64)";
                errs.push(FieldError::invalid(format!("spec.podCIDRs[{i}]"), cidr, why));
            }
        }
        errs
    }

    fn prepare_update(new: &mut Node, old: &Node) {
        new.status.clone_from(&old.status);
    }

    fn validate_update(new: &Node, old: &Node) -> Errors {
        let mut errs = Errors::new();
        check_set_once(&mut errs, &part(&new.spec), &part(&old.spec));
        errs
    }

    fn prepare_status(new: &mut Node, old: &Node) {
        new.spec.clone_from(&old.spec);
    }

    fn validate_status(new: &Node, _old: &Node) -> Errors {
        let mut errs = Errors::new();
        check_resources(&mut errs, new);
        let mut taken = Set::new();
        for (i, address) in new.status.iter().flat_map(|s| s.addresses.iter().flatten()).enumerate() {
            if !taken.insert((&address.type_, &address.address)) {
                errs.push(FieldError::duplicate(format!("status.addresses[{i}]"), address));
            }
        }
        errs
    }

    fn has_generation() -> bool {
        false
    }

    fn field_labels() -> &'static [(&'static str, &'static str)] {
        &[("spec.unschedulable", "spec.unschedulable")]
    }

    fn selectable_fields(obj: &Node) -> Fields<'static> {
        Fields::from([("spec.unschedulable", is_unschedulable(obj).to_string())])
    }

    fn row(obj: &Node, now: Timestamp) -> Vec<Value> {
        let info = obj.status.as_ref().and_then(|s| s.node_info.clone()).unwrap_or_default();
        vec![
            table::name(&obj.metadata),
            json!(status_text(obj)),
            table::or(&roles(obj).join(","), table::NONE),
            table::age(&obj.metadata, now),
            json!(info.kubelet_version),
            json!(address(obj, "InternalIP")),
            json!(address(obj, "ExternalIP")),
            table::or(&info.os_image, table::UNKNOWN),
            table::or(&info.kernel_version, table::UNKNOWN),
            table::or(&info.container_runtime_version, table::UNKNOWN),
        ]
    }
}

fn is_unschedulable(obj: &Node) -> bool {
    obj.spec.as_ref().and_then(|s| s.unschedulable).unwrap_or(false)
}

fn status_text(obj: &Node) -> String {
    let mut conditions = obj.status.iter().flat_map(|s| s.conditions.iter().flatten());
    let ready = match conditions.find(|c| c.type_ == "Ready") {
        None => "Unknown",
        Some(c) if c.status == "True" => "Ready",
        Some(_) => "NotReady",
    };
    if is_unschedulable(obj) { format!("{ready},SchedulingDisabled") } else { ready.to_owned() }
}

/// The roles that a node's labels give it, sorted.
fn roles(obj: &Node) -> Vec<&str> {
    let labels = obj.metadata.labels.iter().flatten();
    let roles = labels.filter_map(|(key, value)| match key.strip_prefix("node-role.kubernetes.io/") {
        Some(role) => Some(role),
        None => (key == "kubernetes.io/role").then_some(value.as_str()),
    });
    roles.filter(|r| !r.is_empty()).collect::<Set<_>>().into_iter().collect()
}

fn address<'a>(obj: &'a Node, kind: &str) -> &'a str {
    let mut all = obj.status.iter().flat_map(|s| s.addresses.iter().flatten());
    all.find(|a| a.type_ == kind).map_or(table::NONE, |a| &a.address)
}

pub(super) fn is_cidr(text: &str) -> bool {
    let Some((ip, bits)) = text.split_once('/') else { return false };
    let max = match ip.parse() {
        Ok(std::net::IpAddr::V4(_)) => 32,
        Ok(std::net::IpAddr::V6(_)) => 128,
        Err(_) => return false,
    };
    bits.parse::<u8>().is_ok_and(|b| b <= max)
}

fn check_resources(errs: &mut Errors, obj: &Node) {
    let status = part(&obj.status);
    for (list, amounts) in [("capacity", &status.capacity), ("allocatable", &status.allocatable)] {
        for (name, text) in amounts.iter().flatten() {
            let at = format!("status.{list}.{name}");
            match Quantity::of(text) {
                Err(why) => errs.push(FieldError::invalid(at, text, why.to_string())),
                Ok(quantity) if quantity.is_negative() => {
                    errs.push(FieldError::invalid(at, text, "must be greater than or equal to 0"));
                }
                Ok(_) => {}
            }
        }
    }
}

/// Some fields may be set, but not changed.
fn check_set_once(errs: &mut Errors, new: &NodeSpec, old: &NodeSpec) {
    let had_cidrs = old.pod_cidrs.as_ref().is_some_and(|c| !c.is_empty());
    if had_cidrs && new.pod_cidrs != old.pod_cidrs {
        let why = "node updates may not change podCIDR except from \"\" to valid";
        errs.push(FieldError::forbidden("spec.podCIDRs", why));
    }
    let had_provider = old.provider_id.as_ref().is_some_and(|p| !p.is_empty());
    if had_provider && new.provider_id != old.provider_id {
        let why = "node updates may not change providerID except from \"\" to valid";
        errs.push(FieldError::forbidden("spec.providerID", why));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::api::kinds::testing::{causes, created, row, update_causes};
    use expect_test::expect;

    #[test]
    fn all_that_is_there_may_be_used_unless_said() {
        let node = created::<Nodes>("metadata: {name: n}\nstatus: {capacity: {cpu: 2000m, memory: 1024Mi}}");
        let allocatable = node.status.unwrap().allocatable.unwrap();
        assert_eq!((allocatable["cpu"].0.as_str(), allocatable["memory"].0.as_str()), ("2", "1Gi"));
    }

    #[test]
    fn what_is_wrong_is_named() {
        let wrong = "
metadata: {name: n}
spec:
  podCIDRs: [10.0.0.0/99]
  taints: [{key: '', effect: NoSchedule}, {key: a, effect: Never, value: 'x y'}, {key: a, effect: Never}]
status: {capacity: {cpu: -1, memory: much}}
";
        expect![[r#"
            metadata.taints[0].key: Invalid value: "": name part must be non-empty
            metadata.taints[0].key: Invalid value: "": name part must consist of alphanumeric characters, '-', '_' or '.', and must start and end with an alphanumeric character (e.g. 'MyName',  or 'my.name',  or '123-abc', regex used for validation is '([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9]')
            metadata.taints[1].value: Invalid value: "x y": a valid label must be an empty string or consist of alphanumeric characters, '-', '_' or '.', and must start and end with an alphanumeric character (e.g. 'MyValue',  or 'my_value',  or '12345', regex used for validation is '(([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9])?')
            metadata.taints[1].effect: Unsupported value: "Never": supported values: "NoSchedule", "PreferNoSchedule", "NoExecute"
            metadata.taints[2].effect: Unsupported value: "Never": supported values: "NoSchedule", "PreferNoSchedule", "NoExecute"
            metadata.taints[2]: Duplicate value: {"effect":"Never","key":"a"}: taints must be unique by key and effect pair
            status.capacity.cpu: Invalid value: "-1": must be greater than or equal to 0
            status.capacity.memory: Invalid value: "much": quantities must match the regular expression '^([+-]?[0-9.]+)([eEinumkKMGTP]*[-+]?[0-9]*)$'
            status.allocatable.cpu: Invalid value: "-1": must be greater than or equal to 0
            status.allocatable.memory: Invalid value: "much": quantities must match the regular expression '^([+-]?[0-9.]+)([eEinumkKMGTP]*[-+]?[0-9]*)$'
            spec.podCIDRs[0]: Invalid value: "10.0.0.0/99": must be a valid CIDR value, (e.g. 10.9.8.0/24 or 2001:db8::/64)
        "#]].assert_eq(&causes::<Nodes>(wrong));
        let old = "metadata: {name: n}\nspec: {podCIDRs: [10.0.0.0/24], providerID: a}";
        expect![[r#"
            spec.podCIDRs: Forbidden: node updates may not change podCIDR except from "" to valid
            spec.providerID: Forbidden: node updates may not change providerID except from "" to valid
        "#]]
        .assert_eq(&update_causes::<Nodes>(old, "metadata: {name: n}"));
    }

    #[test]
    fn a_row_reads_as_in_kubernetes() {
        let node = "
metadata:
  name: skiff
  creationTimestamp: '2026-03-01T09:00:00Z'
  labels: {node-role.kubernetes.io/worker: '', node-role.kubernetes.io/control-plane: '', kubernetes.io/role: edge}
spec: {unschedulable: true}
status:
  conditions: [{type: MemoryPressure, status: 'False'}, {type: Ready, status: 'True'}]
  addresses: [{type: Hostname, address: h}, {type: InternalIP, address: 10.0.0.1}]
  nodeInfo: {kubeletVersion: v1.37.0, osImage: Debian, kernelVersion: '6.1', containerRuntimeVersion: 'docker://20.10.24'}
";
        expect!["skiff | Ready,SchedulingDisabled | control-plane,edge,worker | 3h | v1.37.0 | 10.0.0.1 | <none> | Debian | 6.1 | docker://20.10.24"].assert_eq(&row::<Nodes>(node));
        expect!["bare | Unknown | <none> | <unknown> |  | <none> | <none> | <unknown> | <unknown> | <unknown>"]
            .assert_eq(&row::<Nodes>("metadata: {name: bare}"));
        let lost = "metadata: {name: lost}\nstatus: {conditions: [{type: Ready, status: Unknown}]}";
        assert!(row::<Nodes>(lost).starts_with("lost | NotReady | <none>"));
    }
}

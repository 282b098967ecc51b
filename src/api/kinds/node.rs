//! `Node`, core/v1.
//!
//! **Source**: `pkg/apis/core/{v1/defaults,validation/validation}.go`, `pkg/registry/core/node/strategy.go`, v1.37.

use super::{
    check::Errors,
    part,
    pod_spec::{check_taints, defaults},
};
use crate::api::{
    field::FieldError,
    kind::{ALL_VERBS, Kind, KindInfo, STATUS, Scope},
    quantity::Quantity,
    selector::Fields,
    table::{self, Column},
};
use jiff::Timestamp;
use k8s_openapi::api::core::v1::{Node, NodeSpec};
use serde_json::{Value, json};
use std::collections::BTreeSet;

/// The kind `Node`.
#[derive(Debug)]
pub struct Nodes;

impl Kind for Nodes {
    type Object = Node;
    const INFO: KindInfo = KindInfo {
        group: "",
        version: "v1",
        kind: "Node",
        plural: "nodes",
        singular: "node",
        short_names: &["no"],
        categories: &[],
        scope: Scope::Cluster,
        verbs: ALL_VERBS,
        subresources: &[STATUS],
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
        let mut taken = BTreeSet::new();
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

    fn selectable_fields(obj: &Node) -> Fields {
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
    roles.filter(|r| !r.is_empty()).collect::<BTreeSet<_>>().into_iter().collect()
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

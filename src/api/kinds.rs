//! The table of kinds, grouped by API group: one line per kind. Everything that lists kinds walks it.
//!
//! [`KINDS`] are the kinds that are compiled in; [`Kinds`] is the table that a running server goes by, to which kinds are added and from
//! which they go (the registry holds it).
//!
//! To add a kind: 1. its file in `kinds/` (facts and hooks); 2. its `mod` line here; 3. its line in [`KINDS`];
//! 4. a manifest and its golden in the file's tests; 5. its line in `schemas/main.rs`, or its definition in `schemas/openshift.yaml`, and in
//! `schema/facts.rs` the merge keys of its lists; then `cargo schemas`.

mod admission_rules;
pub mod binding;
pub mod build;
pub mod certificate_signing_request;
mod check;
pub mod component_status;
pub mod config_map;
pub mod controller_revision;
pub mod cron_job;
pub mod csi_driver;
pub mod csi_node;
pub mod csi_storage_capacity;
pub mod custom_resource_definition;
pub mod daemon_set;
pub mod deployment;
pub mod deployment_config;
pub mod device_class;
mod device_rules;
pub mod device_taint_rule;
pub mod endpoint_slice;
pub mod endpoint_traffic;
pub mod endpoints;
pub mod event;
pub mod event_v1;
pub mod flow_schema;
pub mod horizontal_pod_autoscaler;
pub mod horizontal_pod_autoscaler_v1;
pub mod image_stream;
pub mod image_views;
pub mod ingress;
pub mod ingress_class;
pub mod ip_address;
pub mod job;
mod json;
pub mod lease;
pub mod limit_range;
pub mod mutating_admission_policy;
pub mod namespace;
pub mod network_policy;
pub mod node;
pub mod persistent_volume;
pub mod persistent_volume_claim;
pub mod pod;
pub mod pod_disruption_budget;
mod pod_spec;
mod pod_template;
pub mod pod_template_object;
pub mod pod_timeline;
pub mod priority;
pub mod priority_class;
pub mod priority_level_configuration;
pub mod project;
pub mod rbac;
pub mod replica_set;
pub mod replication_controller;
pub mod resource_claim;
pub mod resource_metrics;
pub mod resource_quota;
pub mod resource_slice;
pub mod reviews;
pub mod route;
pub mod runtime_class;
pub mod secret;
pub mod service;
pub mod service_account;
pub mod service_cidr;
pub mod stateful_set;
pub mod storage_class;
pub mod storage_version_migration;
pub mod template;
#[cfg(test)]
mod testing;
pub mod user;
pub mod validating_admission_policy;
pub mod volume_attachment;
pub mod volume_attributes_class;
pub mod webhook_configurations;
mod workload;

use super::kind::{Erased, ErasedKind, KindInfo, KindRef};
use serde_json::Value;
use std::{borrow::Cow, sync::Arc};

/// Every kind that is compiled in.
pub static KINDS: &[&dyn ErasedKind] = &[
    &binding::BINDINGS,
    &component_status::COMPONENT_STATUSES,
    &Erased::<config_map::ConfigMaps>::NEW,
    &Erased::<endpoints::EndpointsKind>::NEW,
    &Erased::<event::Events>::NEW,
    &limit_range::LIMIT_RANGES,
    &Erased::<namespace::Namespaces>::NEW,
    &Erased::<node::Nodes>::NEW,
    &persistent_volume_claim::PERSISTENT_VOLUME_CLAIMS,
    &persistent_volume::PERSISTENT_VOLUMES,
    &Erased::<pod::Pods>::NEW,
    &pod_template_object::POD_TEMPLATES,
    &Erased::<replication_controller::ReplicationControllers>::NEW,
    &resource_quota::RESOURCE_QUOTAS,
    &Erased::<secret::Secrets>::NEW,
    &Erased::<service_account::ServiceAccounts>::NEW,
    &Erased::<service::Services>::NEW,
    &Erased::<deployment_config::LegacyDeploymentConfigs>::NEW,
    &mutating_admission_policy::MUTATING_ADMISSION_POLICIES,
    &mutating_admission_policy::MUTATING_ADMISSION_POLICY_BINDINGS,
    &webhook_configurations::MUTATING_WEBHOOK_CONFIGURATIONS,
    &validating_admission_policy::VALIDATING_ADMISSION_POLICIES,
    &validating_admission_policy::VALIDATING_ADMISSION_POLICY_BINDINGS,
    &webhook_configurations::VALIDATING_WEBHOOK_CONFIGURATIONS,
    &controller_revision::CONTROLLER_REVISIONS,
    &daemon_set::DAEMON_SETS,
    &Erased::<deployment::Deployments>::NEW,
    &Erased::<replica_set::ReplicaSets>::NEW,
    &stateful_set::STATEFUL_SETS,
    &Erased::<deployment_config::DeploymentConfigs>::NEW,
    &horizontal_pod_autoscaler::HORIZONTAL_POD_AUTOSCALERS,
    &horizontal_pod_autoscaler_v1::HORIZONTAL_POD_AUTOSCALERS_V1,
    &cron_job::CRON_JOBS,
    &job::JOBS,
    &build::BUILD_CONFIGS,
    &build::BUILDS,
    &certificate_signing_request::CERTIFICATE_SIGNING_REQUESTS,
    &Erased::<lease::Leases>::NEW,
    &Erased::<endpoint_slice::EndpointSlices>::NEW,
    &Erased::<event_v1::EventsV1>::NEW,
    &flow_schema::FLOW_SCHEMAS,
    &priority_level_configuration::PRIORITY_LEVEL_CONFIGURATIONS,
    &image_views::IMAGES,
    &image_views::IMAGE_STREAM_IMAGES,
    &image_views::IMAGE_STREAM_IMPORTS,
    &image_views::IMAGE_STREAM_MAPPINGS,
    &Erased::<image_stream::ImageStreams>::NEW,
    &image_views::IMAGE_STREAM_TAGS,
    &image_views::IMAGE_TAGS,
    &ingress_class::INGRESS_CLASSES,
    &ingress::INGRESSES,
    &ip_address::IP_ADDRESSES,
    &network_policy::NETWORK_POLICIES,
    &service_cidr::SERVICE_CIDRS,
    &runtime_class::RUNTIME_CLASSES,
    &pod_disruption_budget::POD_DISRUPTION_BUDGETS,
    &rbac::CLUSTER_ROLE_BINDINGS,
    &rbac::CLUSTER_ROLES,
    &rbac::ROLE_BINDINGS,
    &rbac::ROLES,
    &device_class::DEVICE_CLASSES,
    &device_taint_rule::DEVICE_TAINT_RULES,
    &resource_claim::RESOURCE_CLAIMS,
    &resource_claim::RESOURCE_CLAIM_TEMPLATES,
    &resource_slice::RESOURCE_SLICES,
    &priority_class::PRIORITY_CLASSES,
    &pod_timeline::POD_TIMELINES,
    &endpoint_traffic::ENDPOINT_TRAFFIC,
    &endpoint_traffic::TRAFFIC_REPORTS,
    &csi_driver::CSI_DRIVERS,
    &csi_node::CSI_NODES,
    &csi_storage_capacity::CSI_STORAGE_CAPACITIES,
    &storage_class::STORAGE_CLASSES,
    &volume_attachment::VOLUME_ATTACHMENTS,
    &volume_attributes_class::VOLUME_ATTRIBUTES_CLASSES,
    &storage_version_migration::STORAGE_VERSION_MIGRATIONS,
    &reviews::SELF_SUBJECT_REVIEWS,
    &reviews::TOKEN_REVIEWS,
    &reviews::LOCAL_SUBJECT_ACCESS_REVIEWS,
    &reviews::SELF_SUBJECT_ACCESS_REVIEWS,
    &reviews::SELF_SUBJECT_RULES_REVIEWS,
    &reviews::SUBJECT_ACCESS_REVIEWS,
    &project::PROJECT_REQUESTS,
    &project::PROJECTS,
    &route::ROUTES,
    &resource_metrics::NODE_METRICS,
    &resource_metrics::POD_METRICS,
    &template::PROCESSED_TEMPLATES,
    &template::TEMPLATES,
    &user::USERS,
    &Erased::<custom_resource_definition::CustomResourceDefinitions>::NEW,
];

/// The kinds that are served at one time. A change makes another value, so whoever holds one sees one state of the table.
#[derive(Clone, Debug)]
pub struct Kinds {
    revision: u64,
    rows: Vec<KindRef>,
    /// Of which kinds clients see nothing. Their objects are kept, collected and deleted with their namespaces as all are.
    is_hidden: fn(&KindInfo<'_>) -> bool,
}

impl Default for Kinds {
    /// Those that are compiled in.
    fn default() -> Self {
        Self { revision: 0, rows: KINDS.iter().map(|kind| KindRef::BuiltIn(*kind)).collect(), is_hidden: |_| false }
    }
}

impl Kinds {
    /// Grows with each change.
    pub fn revision(&self) -> u64 {
        self.revision
    }

    /// All of them, grouped by API group, also those that clients do not see.
    pub fn iter(&self) -> impl Iterator<Item = &KindRef> {
        self.rows.iter()
    }

    /// Those that clients see, grouped by API group.
    pub fn served(&self) -> impl Iterator<Item = &KindRef> {
        self.rows.iter().filter(|kind| !(self.is_hidden)(kind.info()))
    }

    /// The facts of those that clients see.
    pub fn infos(&self) -> impl Iterator<Item = &KindInfo<'_>> {
        self.served().map(|kind| kind.info())
    }

    /// The same kinds, of which clients see those no more for which this holds.
    #[must_use]
    pub fn hiding(&self, is_hidden: fn(&KindInfo<'_>) -> bool) -> Self {
        Self { revision: self.revision + 1, is_hidden, ..self.clone() }
    }

    /// The kind with this plural, if it is served.
    pub fn by_plural(&self, group: &str, version: &str, plural: &str) -> Option<&KindRef> {
        self.served().find(|kind| {
            let info = kind.info();
            info.plural == plural && info.group == group && info.version == version
        })
    }

    /// The kind with this name, if it is served.
    pub fn by_kind(&self, group: &str, version: &str, kind: &str) -> Option<&KindRef> {
        self.served().find(|row| {
            let info = row.info();
            info.kind == kind && info.group == group && info.version == version
        })
    }

    /// The kind whose objects are stored under this group and plural.
    pub fn stored(&self, group: &str, plural: &str) -> Option<&KindRef> {
        self.rows.iter().find(|kind| {
            let info = kind.info();
            info.plural == plural && info.group == group && info.stored_as.is_none()
        })
    }

    /// Whether this very row is still there.
    pub fn has(&self, kind: &KindRef) -> bool {
        let is_same = |row: &KindRef| match (row, kind) {
            (KindRef::Added(row), KindRef::Added(kind)) => Arc::ptr_eq(row, kind),
            (row, kind) => row == kind,
        };
        self.rows.iter().any(is_same)
    }

    /// The table with one kind more; it takes the place of an added one of the same group, version and plural.
    ///
    /// # Errors
    /// The name is a compiled-in kind's.
    #[must_use = "the table itself stays as it is"]
    pub fn with(&self, kind: Arc<dyn ErasedKind>) -> Result<Self, NameTaken> {
        let added = KindRef::Added(kind);
        let mut rows = self.rows.clone();
        match rows.iter().position(|row| *row == added) {
            Some(at) if matches!(rows[at], KindRef::BuiltIn(_)) => return Err(NameTaken(added.info().resource())),
            Some(at) => rows[at] = added,
            None => {
                // A group's kinds stand together, whoever added them.
                let last = rows.iter().rposition(|row| row.info().group == added.info().group);
                rows.insert(last.map_or(rows.len(), |at| at + 1), added);
            }
        }
        Ok(Self { revision: self.revision + 1, rows, ..*self })
    }

    /// The table without an added kind.
    #[must_use]
    pub fn without(&self, group: &str, version: &str, plural: &str) -> Self {
        let goes = |row: &KindRef| {
            let info = row.info();
            matches!(row, KindRef::Added(_)) && (info.group, info.version, info.plural) == (group, version, plural)
        };
        let rows: Vec<KindRef> = self.rows.iter().filter(|row| !goes(row)).cloned().collect();
        let is_changed = rows.len() < self.rows.len();
        Self { revision: self.revision + u64::from(is_changed), rows, ..*self }
    }
}

/// A kind cannot be added: its name is a compiled-in kind's.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0} is a kind of the API itself")]
pub struct NameTaken(String);

/// The compiled-in kind with this group and plural.
pub fn by_plural(group: &str, plural: &str) -> Option<&'static dyn ErasedKind> {
    KINDS.iter().copied().find(|k| k.info().group == group && k.info().plural == plural)
}

/// The compiled-in kind with this group, version and kind name.
pub fn by_kind(group: &str, version: &str, kind: &str) -> Option<&'static dyn ErasedKind> {
    KINDS.iter().copied().find(|k| {
        let info = k.info();
        info.group == group && info.version == version && info.kind == kind
    })
}

/// Gives an object of OpenShift that is written as `v1` the version of its group. Templates and manifests of OpenShift 3 are written so;
/// older `oc` (to about 4.7) did the same.
pub fn put_in_group(object: &mut Value) {
    let kind = object["kind"].as_str().filter(|_| object["apiVersion"] == "v1");
    let is_it = |info: &KindInfo<'_>| Some(info.kind) == kind && info.group.ends_with(".openshift.io");
    if let Some(kind) = KINDS.iter().find(|kind| is_it(kind.info())) {
        object["apiVersion"] = Value::from(kind.info().api_version());
    }
}

/// A part of an object, or its default when the object has none.
#[allow(clippy::ref_option, reason = "callers hold the field")]
fn part<T: Clone + Default>(field: &Option<T>) -> Cow<'_, T> {
    field.as_ref().map_or_else(|| Cow::Owned(T::default()), Cow::Borrowed)
}

/// A text of an object; empty when the object has none.
#[allow(clippy::ref_option, reason = "callers hold the field")]
fn text(field: &Option<String>) -> String {
    field.clone().unwrap_or_default()
}

#[cfg(test)]
mod tests;

//! `Pod`, core/v1.

use crate::api::{
    kind::{ALL_VERBS, Kind, KindInfo, STATUS, Scope, Subresource},
    table::{self, Column},
};
use jiff::Timestamp;
use k8s_openapi::api::core::v1::Pod;
use serde_json::Value;

/// The kind `Pod`.
#[derive(Debug)]
pub struct Pods;

const ATTACH: Subresource =
    Subresource { name: "attach", body: Some(("", "v1", "PodAttachOptions")), verbs: &["create", "get"] };
const EXEC: Subresource =
    Subresource { name: "exec", body: Some(("", "v1", "PodExecOptions")), verbs: &["create", "get"] };
const LOG: Subresource = Subresource { name: "log", body: None, verbs: &["get"] };
const PORT_FORWARD: Subresource =
    Subresource { name: "portforward", body: Some(("", "v1", "PodPortForwardOptions")), verbs: &["create", "get"] };

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
        subresources: &[STATUS, ATTACH, EXEC, LOG, PORT_FORWARD],
        columns: &[Column::name(), Column::age()],
        stored_as: None,
        schema: "io.k8s.api.core.v1.Pod",
    };

    fn row(obj: &Pod, now: Timestamp) -> Vec<Value> {
        vec![table::name(&obj.metadata), table::age(&obj.metadata, now)]
    }
}

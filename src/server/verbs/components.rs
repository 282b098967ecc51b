//! Answers for `componentstatuses`: how the control plane's parts are, by the names that Kubernetes has for them.
//!
//! What `/readyz` tells part by part is summed up: the store is what is etcd elsewhere, and the scheduler is a controller by itself.
//!
//! **Source** of names and texts: `pkg/registry/core/componentstatus/rest.go`, `APILifecycleDeprecated` of the kind, v1.37.

use super::{
    Call,
    views::{list, single},
};
use crate::{
    api::status::ApiError,
    server::{health::ReadyReport, respond::Response, route::Verb},
};
use serde_json::{Value, json};

const DEPRECATED: &str = "v1 ComponentStatus is deprecated in v1.19+";

/// A part, and which checks are its.
type Part = (&'static str, fn(&str) -> bool);

const PARTS: [Part; 3] = [
    ("controller-manager", |check| check != STORE && check != SCHEDULER),
    ("etcd-0", |check| check == STORE),
    ("scheduler", |check| check == SCHEDULER),
];
const STORE: &str = "store";
const SCHEDULER: &str = "loop/scheduler";

/// Answers with one part or with all.
pub(super) fn answer(call: &mut Call<'_>) -> Result<Response, ApiError> {
    call.warnings.push(DEPRECATED.to_owned());
    let views = views(&call.state.ready());
    if call.info.verb == Verb::List {
        return list(call, views);
    }
    let found = views.into_iter().find(|view| view["metadata"]["name"] == call.info.name.as_str());
    single(call, 200, found.ok_or_else(|| ApiError::not_found(call.kind.info(), &call.info.name))?)
}

fn views(report: &ReadyReport) -> Vec<Value> {
    let view = |(name, is_of): &Part| {
        let of = report.checks.iter().filter(|check| is_of(&check.name));
        let wrong: Vec<String> =
            of.filter_map(|check| check.result.as_ref().err().map(|why| format!("{}: {why}", check.name))).collect();
        let condition = if wrong.is_empty() {
            json!({ "type": "Healthy", "status": "True", "message": "ok" })
        } else {
            json!({ "type": "Healthy", "status": "False", "error": wrong.join("; ") })
        };
        json!({
            "kind": "ComponentStatus", "apiVersion": "v1",
            "metadata": { "name": name, "creationTimestamp": null }, "conditions": [condition],
        })
    };
    PARTS.iter().map(view).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_down_is_told_of_the_part_it_belongs_to() {
        let report = ReadyReport::default()
            .with("store", Err("no space left".to_owned()))
            .with("loop/scheduler", Ok(()))
            .with("loop/deployment", Err("it panicked".to_owned()));
        let told: Vec<String> = views(&report)
            .iter()
            .map(|view| format!("{} {}", view["metadata"]["name"], view["conditions"][0]["error"]))
            .collect();
        assert_eq!(
            told,
            [
                "\"controller-manager\" \"loop/deployment: it panicked\"",
                "\"etcd-0\" \"store: no space left\"",
                "\"scheduler\" null",
            ]
        );
    }
}

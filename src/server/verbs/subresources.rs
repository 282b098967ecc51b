//! The table of what is answered by a function of its own: (group, plural, sub-resource) → function.
//!
//! Reads and writes of objects and of their status need no line here. To add a sub-resource: 1. its file beside this one; 2. its line in
//! [`TABLE`]; 3. its facts in the kind's file, for discovery and OpenAPI. Rows go by names, not by kinds, so that they hold for kinds
//! that come and go while the server runs.

use super::{
    Call, binding, components, deployment_config, deployment_log, eviction, exec, images, log, metrics, node_proxy,
    projects, proxy, reviews, scale, templates, timeline, token, traffic, users, write,
};
use crate::{
    api::{kinds::pod, status::ApiError},
    server::{
        respond::Response,
        route::{Query, ResourceInfo},
    },
};
use futures::future::{BoxFuture, ready};

/// What answers a call.
type Answer = for<'c> fn(&'c mut Call<'_>) -> BoxFuture<'c, Result<Response, ApiError>>;

/// Stands for every group and plural.
const ANY: &str = "*";

/// A line of the table.
pub(super) struct Row {
    group: &'static str,
    plural: &'static str,
    /// Empty for a resource that is answered and not stored.
    subresource: &'static str,
    /// What answers.
    pub(super) answer: Answer,
    /// Whether the answer goes on until the client has enough.
    is_stream: fn(&Query) -> bool,
    /// Whether more of the path may follow the sub-resource.
    pub(super) takes_path: bool,
    /// Whether the request goes on to somebody else as it is: with any method, and its body unread.
    is_passed_on: bool,
}

const fn row(group: &'static str, plural: &'static str, subresource: &'static str, answer: Answer) -> Row {
    Row { group, plural, subresource, answer, is_stream: |_| false, takes_path: false, is_passed_on: false }
}

/// A line of what goes on to a pod.
const fn passed_on(plural: &'static str, answer: Answer) -> Row {
    Row { is_stream: |_| true, takes_path: true, is_passed_on: true, ..row("", plural, "proxy", answer) }
}

static TABLE: &[Row] = &[
    row(ANY, ANY, "scale", |call| Box::pin(scale::answer(call))),
    row("", "bindings", "", |call| Box::pin(binding::of_any_pod(call))),
    row("", "componentstatuses", "", |call| Box::pin(ready(components::answer(call)))),
    row("", "namespaces", "finalize", |call| Box::pin(write::update(call))),
    Row { takes_path: true, ..row("", "nodes", "proxy", |call| Box::pin(node_proxy::get(call))) },
    Row { is_stream: |_| true, ..row("", "pods", "attach", |call| Box::pin(ready(exec::attach(call)))) },
    row("", "pods", "binding", |call| Box::pin(binding::create(call))),
    row("", "pods", pod::EPHEMERAL_CONTAINERS, |call| Box::pin(call.plain())),
    row("", "pods", "eviction", |call| Box::pin(eviction::create(call))),
    Row { is_stream: |_| true, ..row("", "pods", "exec", |call| Box::pin(ready(exec::exec(call)))) },
    Row { is_stream: |_| true, ..row("", "pods", "portforward", |call| Box::pin(exec::port_forward(call))) },
    passed_on("pods", |call| Box::pin(proxy::of_pod(call))),
    Row { is_stream: |query| query.is_true("follow"), ..row("", "pods", "log", |call| Box::pin(log::get(call))) },
    row("", "pods", pod::RESIZE, |call| Box::pin(call.plain())),
    passed_on("services", |call| Box::pin(proxy::of_service(call))),
    row("", "serviceaccounts", "token", |call| Box::pin(ready(token::create(call)))),
    row("apps.openshift.io", "deploymentconfigs", "instantiate", |call| Box::pin(deployment_config::instantiate(call))),
    Row {
        is_stream: |query| query.is_true("follow"),
        ..row("apps.openshift.io", "deploymentconfigs", "log", |call| Box::pin(deployment_log::get(call)))
    },
    row("apps.openshift.io", "deploymentconfigs", "rollback", |call| {
        Box::pin(ready(deployment_config::rollback(call)))
    }),
    row("certificates.k8s.io", "certificatesigningrequests", "approval", |call| Box::pin(call.plain())),
    row("project.openshift.io", "projectrequests", "", |call| Box::pin(projects::request(call))),
    row("project.openshift.io", "projects", "", |call| Box::pin(projects::answer(call))),
    Row { is_stream: |_| true, ..row("skiff.dev", "endpointtraffic", "", |call| Box::pin(traffic::endpoints(call))) },
    Row { is_stream: |_| true, ..row("skiff.dev", "trafficreports", "", |call| Box::pin(traffic::report(call))) },
    row("skiff.dev", "pods", "timeline", |call| Box::pin(timeline::get(call))),
    row("authentication.k8s.io", "selfsubjectreviews", "", |call| Box::pin(ready(reviews::who(call)))),
    row("authentication.k8s.io", "tokenreviews", "", |call| Box::pin(ready(reviews::token(call)))),
    row("authorization.k8s.io", "localsubjectaccessreviews", "", |call| Box::pin(ready(reviews::local_access(call)))),
    row("authorization.k8s.io", "selfsubjectaccessreviews", "", |call| Box::pin(ready(reviews::own_access(call)))),
    row("authorization.k8s.io", "selfsubjectrulesreviews", "", |call| Box::pin(ready(reviews::rules(call)))),
    row("image.openshift.io", "images", "", |call| Box::pin(images::images(call))),
    row("image.openshift.io", "imagestreamimages", "", |call| Box::pin(images::stream_image(call))),
    row("image.openshift.io", "imagestreamimports", "", |call| Box::pin(images::imports::import(call))),
    row("image.openshift.io", "imagestreammappings", "", |call| Box::pin(images::imports::map(call))),
    row("image.openshift.io", "imagestreams", "layers", |call| Box::pin(images::layers::get(call))),
    row("image.openshift.io", "imagestreams", "secrets", |call| Box::pin(ready(images::secrets::get(call)))),
    row("image.openshift.io", "imagestreamtags", "", |call| Box::pin(images::tags::answer(call))),
    row("image.openshift.io", "imagetags", "", |call| Box::pin(images::tags::answer(call))),
    row("metrics.k8s.io", "nodes", "", |call| Box::pin(metrics::nodes(call))),
    row("metrics.k8s.io", "pods", "", |call| Box::pin(metrics::pods(call))),
    row("template.openshift.io", "processedtemplates", "", |call| Box::pin(ready(templates::process(call)))),
    row("user.openshift.io", "users", "", |call| Box::pin(ready(users::who(call)))),
    row("authorization.k8s.io", "subjectaccessreviews", "", |call| Box::pin(ready(reviews::access(call)))),
];

/// The line of what a request names.
pub(super) fn find(info: &ResourceInfo) -> Option<&'static Row> {
    let fits = |row: &&Row| {
        row.subresource == info.subresource
            && (row.group == ANY || row.group == info.group)
            && (row.plural == ANY || row.plural == info.resource)
    };
    TABLE.iter().find(fits)
}

/// Whether the answer to a request goes on until the client has enough.
pub(in crate::server) fn is_stream(info: &ResourceInfo, query: &Query) -> bool {
    find(info).is_some_and(|row| (row.is_stream)(query))
}

/// Whether a request goes on to somebody else as it is.
pub(in crate::server) fn is_passed_on(info: &ResourceInfo) -> bool {
    !info.is_collection && find(info).is_some_and(|row| row.is_passed_on)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        api::kinds::{KINDS, by_plural},
        server::route::Verb,
    };

    fn info(group: &str, resource: &str, subresource: &str) -> ResourceInfo {
        ResourceInfo {
            verb: Verb::Get,
            group: group.to_owned(),
            version: "v1".to_owned(),
            namespace: String::new(),
            resource: resource.to_owned(),
            subresource: subresource.to_owned(),
            name: "x".to_owned(),
            node: String::new(),
            is_collection: false,
            rest: Vec::new(),
        }
    }

    #[test]
    fn every_subresource_of_a_kind_is_answered() {
        for kind in KINDS.iter().map(|k| k.info()) {
            for sub in kind.subresources.iter().filter(|s| s.name != "status") {
                assert!(find(&info(kind.group, kind.plural, sub.name)).is_some(), "{} of {}", sub.name, kind.plural);
            }
        }
    }

    #[test]
    fn every_row_is_of_a_kind_that_has_it() {
        for row in TABLE.iter().filter(|row| row.plural != ANY) {
            let kind = by_plural(row.group, row.plural).expect("a row is of a kind that is served").info();
            let has = row.subresource.is_empty() || kind.subresources.iter().any(|s| s.name == row.subresource);
            assert!(has, "{} of {}", row.subresource, row.plural);
        }
    }
}

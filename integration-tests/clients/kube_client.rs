//! The `kube` crate: typed, dynamic, and as a stream.

use super::{CALLS_MIN, IMAGE, cluster};
use crate::harness::{client, wait::SOON};
use futures::{StreamExt as _, TryStreamExt as _};
use k8s_openapi::api::{
    apps::v1::Deployment,
    core::v1::{ConfigMap, Namespace, Node, Pod},
};
use kube::{
    Api, Client, ResourceExt as _,
    api::{
        ApiResource, DeleteParams, DynamicObject, EvictParams, GroupVersionKind, ListParams, LogParams, Patch,
        PatchParams, PostParams, PropagationPolicy, WatchEvent, WatchParams,
    },
    discovery::{Discovery, Scope},
    runtime::{WatchStreamExt as _, wait::await_condition, watcher},
};
use serde_json::json;
use std::{collections::BTreeSet, fmt::Debug};

const NAMESPACE: &str = "kube";

/// The calls that were made, by what they are.
#[derive(Default)]
struct Calls(BTreeSet<&'static str>);

impl Calls {
    /// One call more, and its answer.
    #[track_caller]
    fn made<T: PartialEq + Debug>(&mut self, what: &'static str, got: T, want: T) {
        assert_eq!(got, want, "{what}");
        assert!(self.0.insert(what), "{what} twice");
    }

    /// A call that is refused with this code and reason.
    #[track_caller]
    fn refused<T: Debug>(&mut self, what: &'static str, done: kube::Result<T>, code: u16, reason: &str) {
        match done.unwrap_err() {
            kube::Error::Api(status) => self.made(what, (status.code, &*status.reason), (code, reason)),
            err => panic!("{what}: {err}"),
        }
    }
}

fn map(name: &str) -> ConfigMap {
    serde_json::from_value(json!({ "metadata": { "name": name, "labels": { "a": "b" } }, "data": { "k": "v" } }))
        .unwrap()
}

fn value(map: &ConfigMap) -> String {
    map.data.as_ref().and_then(|data| data.get("k")).cloned().unwrap_or_default()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn the_kube_crate_finds_kubernetes() {
    let cluster = cluster("kube");
    let client = client::client(&cluster).await;
    let mut calls = Calls::default();
    discover(&client, &mut calls).await;
    use_maps(&client, &mut calls).await;
    follow(&client, &mut calls).await;
    Box::pin(roll_out(&client, &mut calls)).await;
    use_any(&client, &mut calls).await;
    let namespaces: Api<Namespace> = Api::all(client.clone());
    namespaces.delete(NAMESPACE, &DeleteParams::default()).await.unwrap();
    let gone = await_condition(namespaces, NAMESPACE, |namespace: Option<&Namespace>| namespace.is_none());
    calls.made("a namespace goes", tokio::time::timeout(SOON, gone).await.unwrap().unwrap().is_none(), true);
    assert!(calls.0.len() >= CALLS_MIN as usize, "{}", calls.0.len());
}

async fn discover(client: &Client, calls: &mut Calls) {
    calls.made("version", client.apiserver_version().await.unwrap().minor, "37".to_owned());
    let groups = client.list_api_groups().await.unwrap().groups;
    calls.made("groups", groups.iter().any(|group| group.name == "apps"), true);
    calls.made("core versions", client.list_core_api_versions().await.unwrap().versions, vec!["v1".to_owned()]);
    let resources = client.list_api_group_resources("apps/v1").await.unwrap().resources;
    calls.made("resources", resources.iter().any(|resource| resource.name == "deployments/scale"), true);
    let discovery = Discovery::new(client.clone()).run().await.unwrap();
    let found = discovery.resolve_gvk(&GroupVersionKind::gvk("networking.k8s.io", "v1", "ServiceCIDR")).unwrap();
    calls.made("discovery", (found.0.plural, found.1.scope), ("servicecidrs".to_owned(), Scope::Cluster));
    let nodes: Api<Node> = Api::all(client.clone());
    calls.made("nodes", nodes.list(&ListParams::default()).await.unwrap().items.len(), 1);
    let namespaces: Api<Namespace> = Api::all(client.clone());
    let namespace = serde_json::from_value(json!({ "metadata": { "name": NAMESPACE } })).unwrap();
    let made = namespaces.create(&PostParams::default(), &namespace).await.unwrap();
    calls.made("create a namespace", made.status.and_then(|status| status.phase).as_deref(), Some("Active"));
}

async fn use_maps(client: &Client, calls: &mut Calls) {
    let maps: Api<ConfigMap> = Api::namespaced(client.clone(), NAMESPACE);
    let (post, delete) = (PostParams::default(), DeleteParams::default());
    let mut made = maps.create(&post, &map("cm")).await.unwrap();
    calls.made("create", value(&made), "v".to_owned());
    calls.refused("create again", maps.create(&post, &map("cm")).await, 409, "AlreadyExists");
    calls.made("get", maps.get("cm").await.unwrap().uid(), made.uid());
    calls.made("get or none", maps.get_opt("none").await.unwrap().is_none(), true);
    calls.refused("get what is not there", maps.get("none").await, 404, "NotFound");
    let metadata = maps.get_metadata("cm").await.unwrap();
    calls.made("metadata", metadata.types.map(|types| types.kind).as_deref(), Some("PartialObjectMetadata"));
    let by_label = maps.list(&ListParams::default().labels("a=b")).await.unwrap();
    calls.made("list by label", by_label.items.len(), 1);
    let by_field = maps.list_metadata(&ListParams::default().fields("metadata.name=cm")).await.unwrap();
    calls.made("list metadata by field", by_field.items.len(), 1);
    made.data.get_or_insert_default().insert("k".to_owned(), "w".to_owned());
    calls.made("replace", value(&maps.replace("cm", &post, &made).await.unwrap()), "w".to_owned());
    calls.refused("replace an old one", maps.replace("cm", &post, &made).await, 409, "Conflict");
    let params = PatchParams::default();
    let patched = maps.patch("cm", &params, &Patch::Merge(json!({ "data": { "k": "m" } }))).await.unwrap();
    calls.made("merge patch", value(&patched), "m".to_owned());
    let patched = maps.patch("cm", &params, &Patch::Strategic(json!({ "data": { "k": "s" } }))).await.unwrap();
    calls.made("strategic patch", value(&patched), "s".to_owned());
    let applied = json!({ "apiVersion": "v1", "kind": "ConfigMap", "data": { "k": "a" } });
    let refused = maps.patch("cm", &PatchParams::apply("kube"), &Patch::Apply(&applied)).await;
    calls.refused("apply what others own", refused, 409, "Conflict");
    let applied = maps.patch("cm", &PatchParams::apply("kube").force(), &Patch::Apply(&applied)).await.unwrap();
    calls.made("apply by force", value(&applied), "a".to_owned());
    let dry = maps.patch("cm", &params.clone().dry_run(), &Patch::Merge(json!({ "data": null }))).await.unwrap();
    calls.made("dry run", (value(&dry), value(&maps.get("cm").await.unwrap())), (String::new(), "a".to_owned()));
    calls.refused("a name that is none", maps.create(&post, &map("A b")).await, 422, "Invalid");
    maps.create(&post, &map("second")).await.unwrap();
    let page = maps.list(&ListParams::default().limit(1)).await.unwrap();
    let token = page.metadata.continue_.clone().unwrap();
    let rest = maps.list(&ListParams::default().limit(9).continue_token(&token)).await.unwrap();
    // The third has the certificate of the cluster's authority, once there are such.
    calls.made("pages", page.items.len() + rest.items.len() >= 2, true);
    calls.made("delete", maps.delete("second", &delete).await.unwrap().is_right(), true);
    maps.delete_collection(&delete, &ListParams::default().labels("a=b")).await.unwrap();
    calls.made("delete together", maps.list(&ListParams::default().labels("a=b")).await.unwrap().items.len(), 0);
}

async fn follow(client: &Client, calls: &mut Calls) {
    let maps: Api<ConfigMap> = Api::namespaced(client.clone(), NAMESPACE);
    let revision = maps.list(&ListParams::default()).await.unwrap().metadata.resource_version.unwrap();
    let params = WatchParams::default().labels("a=b").timeout(60);
    let mut events = maps.watch(&params, &revision).await.unwrap().boxed();
    maps.create(&PostParams::default(), &map("seen")).await.unwrap();
    maps.delete("seen", &DeleteParams::default()).await.unwrap();
    let mut seen = Vec::new();
    while seen.len() < 2 {
        match events.try_next().await.unwrap().unwrap() {
            WatchEvent::Added(map) => seen.push(format!("added {}", map.name_any())),
            WatchEvent::Deleted(map) => seen.push(format!("deleted {}", map.name_any())),
            _ => {}
        }
    }
    calls.made("watch", seen, vec!["added seen".to_owned(), "deleted seen".to_owned()]);
    maps.create(&PostParams::default(), &map("listed")).await.unwrap();
    for (what, config) in [
        ("watcher", watcher::Config::default().labels("a=b")),
        ("watcher that streams its list", watcher::Config::default().labels("a=b").streaming_lists()),
    ] {
        let mut objects = watcher(maps.clone(), config).applied_objects().boxed();
        calls.made(what, objects.try_next().await.unwrap().map(|map| map.name_any()), Some("listed".to_owned()));
    }
}

async fn roll_out(client: &Client, calls: &mut Calls) {
    let deployments: Api<Deployment> = Api::namespaced(client.clone(), NAMESPACE);
    let pods: Api<Pod> = Api::namespaced(client.clone(), NAMESPACE);
    let labels = json!({ "app": "web" });
    let container = json!({ "name": "web", "image": IMAGE, "imagePullPolicy": "IfNotPresent" });
    let web = json!({ "metadata": { "name": "web" }, "spec": { "selector": { "matchLabels": labels }, "template": {
        "metadata": { "labels": labels }, "spec": { "containers": [container], "terminationGracePeriodSeconds": 1 },
    } } });
    let web = serde_json::from_value(web).unwrap();
    let made = deployments.create(&PostParams::default(), &web).await.unwrap();
    calls.made("create a deployment", made.spec.replicas, Some(1));
    let ready = |n: i32| {
        let is_ready = move |web: Option<&Deployment>| {
            web.and_then(|web| web.status.as_ref()).is_some_and(|status| status.ready_replicas == Some(n))
        };
        tokio::time::timeout(SOON, await_condition(deployments.clone(), "web", is_ready))
    };
    calls.made("wait for a condition", ready(1).await.unwrap().unwrap().is_some(), true);
    calls.made("get scale", deployments.get_scale("web").await.unwrap().spec.unwrap().replicas, Some(1));
    let two = Patch::Merge(json!({ "spec": { "replicas": 2 } }));
    let scaled = deployments.patch_scale("web", &PatchParams::default(), &two).await.unwrap();
    calls.made("patch scale", scaled.spec.unwrap().replicas, Some(2));
    ready(2).await.unwrap().unwrap();
    let status = deployments.get_status("web").await.unwrap().status.unwrap();
    calls.made("get status", status.ready_replicas, Some(2));
    // Both run until somebody restarts them.
    let name = pods.list(&ListParams::default().labels("app=web")).await.unwrap().items[0].name_any();
    calls.made("log", pods.logs(&name, &LogParams { tail_lines: Some(1), ..LogParams::default() }).await.is_ok(), true);
    calls.made("evict", pods.evict(&name, &EvictParams::default()).await.is_ok(), true);
    calls.made("restart", deployments.restart("web").await.unwrap().name_any(), "web".to_owned());
    let foreground =
        DeleteParams { propagation_policy: Some(PropagationPolicy::Foreground), ..DeleteParams::default() };
    calls.made("delete in the foreground", deployments.delete("web", &foreground).await.is_ok(), true);
    let gone = await_condition(deployments, "web", |web: Option<&Deployment>| web.is_none());
    tokio::time::timeout(SOON, gone).await.unwrap().unwrap();
    calls.made("nothing is left", pods.list(&ListParams::default()).await.unwrap().items.len(), 0);
}

async fn use_any(client: &Client, calls: &mut Calls) {
    let kind = ApiResource::from_gvk(&GroupVersionKind::gvk("networking.k8s.io", "v1", "NetworkPolicy"));
    let policies: Api<DynamicObject> = Api::namespaced_with(client.clone(), NAMESPACE, &kind);
    let policy = DynamicObject::new("any", &kind).data(json!({ "spec": { "podSelector": {} } }));
    let made = policies.create(&PostParams::default(), &policy).await.unwrap();
    calls.made("create any", made.data["spec"]["policyTypes"][0].as_str(), Some("Ingress"));
    calls.made("list any", policies.list(&ListParams::default()).await.unwrap().items.len(), 1);
    calls.made("delete any", policies.delete("any", &DeleteParams::default()).await.unwrap().is_right(), true);
}

//! Quotas beside a simple model of them, with writers that come all at once and a disk that takes its time.

use super::ResourceQuotaController;
use crate::{
    api::{
        json_kind::{at, set_at},
        kind::ErasedKind as _,
        kinds::{
            config_map::ConfigMaps, persistent_volume_claim::PERSISTENT_VOLUME_CLAIMS, pod::Pods,
            resource_quota::RESOURCE_QUOTAS, service::Services,
        },
        meta::ObjectKey,
        object::DynObject,
        quantity::Quantity,
    },
    base::{
        clock::Clock,
        rng::Rng,
        task::{self, drain_signal},
    },
    controllers::runtime::{self, Metrics},
    registry::{
        Registry,
        pipeline::{DeleteOptions, WriteOptions},
        quota::{amounts, leaves_more, read, tell},
    },
    store::{Entry, Store, disk::DiskBackend},
    testing,
};
use expect_test::expect;
use futures::future::join_all;
use k8s_openapi::api::core::v1::{Pod, Service};
use serde_json::{Value, json};
use std::{collections::BTreeMap, time::Duration};

const NAMESPACE: &str = "default";

async fn quota(registry: &Registry, name: &str, spec: Value) {
    let quota = json!({ "metadata": { "name": name, "namespace": NAMESPACE }, "spec": spec });
    let quota = RESOURCE_QUOTAS.decode(quota).unwrap();
    registry.create(&RESOURCE_QUOTAS, NAMESPACE, quota, &WriteOptions::default()).await.unwrap();
}

/// What a quota's status says is used: `pods=1,requests.cpu=2`.
fn used(registry: &Registry, name: &str) -> String {
    let entry = registry.entry(&RESOURCE_QUOTAS, &ObjectKey::new(NAMESPACE, name)).unwrap();
    let (object, _) = read(&entry);
    let used = amounts(at(&object.rest, "status.used"));
    used.iter().map(|(name, amount)| format!("{name}={amount}")).collect::<Vec<_>>().join(",")
}

fn pod(name: &str, resources: &Value) -> Pod {
    let pod = json!({ "metadata": { "name": name, "namespace": NAMESPACE },
        "spec": { "containers": [{ "name": "c", "image": "i", "resources": resources }] } });
    serde_json::from_value(pod).unwrap()
}

fn cpu(millis: u64) -> Value {
    json!({ "requests": { "cpu": format!("{millis}m") } })
}

async fn create(registry: &Registry, name: &str, resources: &Value) -> Result<(), String> {
    registry.api::<Pods>().create(pod(name, resources)).await.map(drop).map_err(|err| err.to_string())
}

#[tokio::test]
async fn what_exceeds_a_quota_is_refused_in_kubernetes_words() {
    let registry = testing::registry().await;
    quota(&registry, "few", json!({ "hard": { "pods": "2", "requests.memory": "1Gi", "limits.cpu": "1" } })).await;
    quota(&registry, "zero", json!({ "hard": { "count/configmaps": "0", "secrets": "0" } })).await;
    let fits = json!({ "requests": { "memory": "512Mi" }, "limits": { "cpu": "500m" } });
    let mut said = vec![create(&registry, "a", &json!({})).await.unwrap_err()];
    said.push(create(&registry, "a", &json!({ "limits": { "cpu": "2", "memory": "2Gi" } })).await.unwrap_err());
    create(&registry, "a", &fits).await.unwrap();
    create(&registry, "b", &fits).await.unwrap();
    said.push(create(&registry, "c", &fits).await.unwrap_err());
    let map = testing::from_yaml("{metadata: {name: m, namespace: default}}").unwrap();
    said.push(registry.api::<ConfigMaps>().create(map).await.unwrap_err().to_string());
    expect![[r#"
        pods "a" is forbidden: failed quota: few: must specify limits.cpu for: c; requests.memory for: c
        pods "a" is forbidden: exceeded quota: few, requested: limits.cpu=2,requests.memory=2Gi, used: limits.cpu=0,requests.memory=0, limited: limits.cpu=1,requests.memory=1Gi
        pods "c" is forbidden: exceeded quota: few, requested: limits.cpu=500m,pods=1,requests.memory=512Mi, used: limits.cpu=1,pods=2,requests.memory=1Gi, limited: limits.cpu=1,pods=2,requests.memory=1Gi
        configmaps "m" is forbidden: exceeded quota: zero, requested: count/configmaps=1, used: count/configmaps=0, limited: count/configmaps=0"#]].assert_eq(&said.join("\n"));
    assert_eq!(used(&registry, "few"), "limits.cpu=1,pods=2,requests.memory=1Gi");
}

#[tokio::test]
async fn a_dry_run_is_judged_and_uses_nothing() {
    let registry = testing::registry().await;
    quota(&registry, "few", json!({ "hard": { "pods": "1" } })).await;
    let dry = WriteOptions { dry_run: true, ..WriteOptions::default() };
    for _ in 0..2 {
        registry
            .create(&crate::api::kind::Erased::<Pods>::NEW, NAMESPACE, Box::new(pod("a", &json!({}))), &dry)
            .await
            .unwrap();
    }
    create(&registry, "a", &json!({})).await.unwrap();
    let again =
        registry.create(&crate::api::kind::Erased::<Pods>::NEW, NAMESPACE, Box::new(pod("b", &json!({}))), &dry);
    assert_eq!(
        again.await.unwrap_err().to_string(),
        "pods \"b\" is forbidden: exceeded quota: few, requested: pods=1, used: pods=1, limited: pods=1"
    );
}

#[tokio::test]
async fn scopes_say_which_pods_count() {
    let registry = testing::registry().await;
    let of = |scope: Value| json!({ "hard": { "pods": "5" }, "scopeSelector": { "matchExpressions": [scope] } });
    let classed = |operator: &str, values: Value| {
        of(json!({ "scopeName": "PriorityClass", "operator": operator, "values": values }))
    };
    for scope in ["BestEffort", "NotBestEffort", "Terminating", "NotTerminating", "CrossNamespacePodAffinity"] {
        quota(&registry, &scope.to_lowercase(), json!({ "hard": { "pods": "5" }, "scopes": [scope] })).await;
    }
    quota(&registry, "in", classed("In", json!(["system-node-critical"]))).await;
    quota(&registry, "not-in", classed("NotIn", json!(["system-node-critical"]))).await;
    quota(&registry, "exists", classed("Exists", json!([]))).await;
    quota(&registry, "without", classed("DoesNotExist", json!([]))).await;
    let plain = pod("plain", &json!({}));
    let mut busy = pod("busy", &cpu(1));
    busy.spec.as_mut().unwrap().active_deadline_seconds = Some(5);
    let mut classy = pod("classy", &json!({}));
    classy.spec.as_mut().unwrap().priority_class_name = Some("system-node-critical".into());
    let near = json!({ "podAffinity": { "requiredDuringSchedulingIgnoredDuringExecution":
        [{ "topologyKey": "kubernetes.io/hostname", "namespaces": ["other"] }] } });
    classy.spec.as_mut().unwrap().affinity = serde_json::from_value(near).unwrap();
    for pod in [plain, busy, classy] {
        registry.api::<Pods>().create(pod).await.unwrap();
    }
    let names = [
        "besteffort",
        "notbesteffort",
        "terminating",
        "notterminating",
        "crossnamespacepodaffinity",
        "in",
        "not-in",
        "exists",
        "without",
    ];
    let counts = names.map(|name| used(&registry, name).trim_start_matches("pods=").parse().unwrap_or(0));
    assert_eq!(counts, [2, 1, 1, 2, 1, 1, 2, 1, 2]);
}

#[tokio::test]
async fn services_and_claims_use_what_they_ask_for_and_grow() {
    let registry = testing::registry().await;
    let hard =
        json!({ "services": "2", "services.nodeports": "3", "services.loadbalancers": "1", "count/services": "5" });
    quota(&registry, "net", json!({ "hard": hard })).await;
    let hard = json!({ "persistentvolumeclaims": "2", "requests.storage": "5Gi", "fast.storageclass.storage.k8s.io/requests.storage": "3Gi" });
    quota(&registry, "disk", json!({ "hard": hard })).await;
    let service = |name: &str, kind: &str| -> Service {
        let ports = json!([{ "name": "a", "port": 80 }, { "name": "b", "port": 81 }]);
        let spec = json!({ "type": kind, "ports": ports });
        serde_json::from_value(json!({ "metadata": { "name": name, "namespace": NAMESPACE }, "spec": spec })).unwrap()
    };
    let api = registry.api::<Services>();
    api.create(service("a", "LoadBalancer")).await.unwrap();
    api.create(service("b", "ClusterIP")).await.unwrap();
    assert_eq!(used(&registry, "net"), "count/services=2,services=2,services.loadbalancers=1,services.nodeports=2");
    let become_one = |kind: &'static str| move |s: &mut Service| s.spec.as_mut().unwrap().type_ = Some(kind.into());
    let key = ObjectKey::new(NAMESPACE, "b");
    let refused = api.modify(&key, become_one("NodePort")).await.unwrap_err();
    assert_eq!(
        refused.to_string(),
        "services \"b\" is forbidden: exceeded quota: net, requested: services.nodeports=2, used: services.nodeports=2, limited: services.nodeports=3"
    );
    let claim = |name: &str, class: &str, size: &str| {
        let resources = json!({ "requests": { "storage": size } });
        let spec = json!({ "accessModes": ["ReadWriteOnce"], "storageClassName": class, "resources": resources });
        PERSISTENT_VOLUME_CLAIMS
            .decode(json!({ "metadata": { "name": name, "namespace": NAMESPACE }, "spec": spec }))
            .unwrap()
    };
    let options = WriteOptions::default();
    let create = |obj| registry.create(&PERSISTENT_VOLUME_CLAIMS, NAMESPACE, obj, &options);
    create(claim("a", "fast", "2Gi")).await.unwrap();
    let refused = create(claim("b", "fast", "2Gi")).await.unwrap_err();
    expect![[r#"persistentvolumeclaims "b" is forbidden: exceeded quota: disk, requested: fast.storageclass.storage.k8s.io/requests.storage=2Gi, used: fast.storageclass.storage.k8s.io/requests.storage=2Gi, limited: fast.storageclass.storage.k8s.io/requests.storage=3Gi"#]].assert_eq(&refused.to_string());
    create(claim("b", "slow", "2Gi")).await.unwrap();
    assert_eq!(
        used(&registry, "disk"),
        "fast.storageclass.storage.k8s.io/requests.storage=2Gi,persistentvolumeclaims=2,requests.storage=4Gi"
    );
}

#[tokio::test]
async fn who_waits_for_a_quota_is_woken_when_it_leaves_more() {
    let entry = async |hard: Value, used: Value| {
        let registry = testing::registry().await;
        quota(&registry, "q", json!({ "hard": hard })).await;
        let key = ObjectKey::new(NAMESPACE, "q");
        let mut say = |entry: &Entry| {
            let (mut object, _) = read(entry);
            tell(&mut object, &amounts(Some(&used)));
            object.metadata.resource_version = None;
            Ok(Box::new(object) as Box<dyn DynObject>)
        };
        let part = crate::registry::pipeline::Part::Status;
        registry.update(&RESOURCE_QUOTAS, &key, part, &mut say, &WriteOptions::default()).await.unwrap()
    };
    let full = entry(json!({ "pods": "2", "cpu": "4" }), json!({ "pods": "2", "cpu": "1" })).await;
    let freed = entry(json!({ "pods": "2", "cpu": "4" }), json!({ "pods": "1", "cpu": "1" })).await;
    let raised = entry(json!({ "pods": "3", "cpu": "4" }), json!({ "pods": "2", "cpu": "1" })).await;
    let lifted = entry(json!({ "cpu": "4" }), json!({ "cpu": "1" })).await;
    let tighter = entry(json!({ "pods": "2", "cpu": "3" }), json!({ "pods": "2", "cpu": "1" })).await;
    for (after, more) in
        [(Some(&freed), true), (Some(&raised), true), (Some(&lifted), true), (None, true), (Some(&tighter), false)]
    {
        assert_eq!(leaves_more(Some(&full), after.map(|entry| &**entry)), more, "{after:?}");
    }
    assert!(!leaves_more(None, Some(&full)) && !leaves_more(Some(&freed), Some(&full)));
}

/// A registry on a disk, with the controller that counts anew.
struct World {
    registry: Registry,
    _folder: tempfile::TempDir,
    _trigger: task::DrainTrigger,
}

impl World {
    async fn new(seed: u64) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let store = Store::open(DiskBackend::open(folder.path().join("store")).unwrap(), true).unwrap();
        let registry = testing::registry_over(store, Clock::system(), Rng::seeded(seed)).await;
        let (trigger, drain) = drain_signal();
        task::spawn(
            "resourcequota",
            runtime::run(ResourceQuotaController, registry.clone(), Metrics::default(), drain),
        );
        Self { registry, _folder: folder, _trigger: trigger }
    }

    /// Waits until a quota's status says this.
    async fn until_used(&self, name: &str, wanted: &str) {
        let mut watch = self.registry.watch_kind(&RESOURCE_QUOTAS, self.registry.store().revision()).unwrap();
        let reached = async {
            while used(&self.registry, name) != wanted {
                watch.next().await.unwrap();
            }
        };
        let in_time = tokio::time::timeout(Duration::from_secs(10), reached).await;
        assert!(in_time.is_ok(), "{} is not {wanted}", used(&self.registry, name));
    }

    async fn delete(&self, name: &str) {
        let options = DeleteOptions { grace_period_secs: Some(0), ..DeleteOptions::default() };
        self.registry.api::<Pods>().delete(&ObjectKey::new(NAMESPACE, name), &options).await.unwrap();
    }

    async fn end(&self, name: &str) {
        let ended = |pod: &mut Pod| pod.status.get_or_insert_default().phase = Some("Succeeded".into());
        self.registry.api::<Pods>().modify_status(&ObjectKey::new(NAMESPACE, name), ended).await.unwrap();
    }
}

/// That no write of a create ever brought a quota above what it allows.
fn never_above(registry: &Registry, from: crate::api::meta::Revision, to: crate::api::meta::Revision) {
    let mut watch = registry.watch_kind(&RESOURCE_QUOTAS, from).unwrap();
    let mut at_revision = from;
    while at_revision < to {
        let Some(change) = watch.try_next().unwrap() else { return };
        at_revision = change.revision;
        let Some(entry) = &change.after else { continue };
        let (object, quota) = read(entry);
        let used = amounts(at(&object.rest, "status.used"));
        let above: Vec<_> = used.iter().filter(|(name, amount)| **amount > quota.hard[*name]).collect();
        assert!(above.is_empty(), "at {at_revision}: {above:?}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn writers_that_come_at_once_get_exactly_what_there_is() {
    const CPU: u64 = 1000;
    const PODS: u64 = 12;
    for seed in 0..4 {
        let world = World::new(seed).await;
        let (registry, rng) = (&world.registry, Rng::seeded(seed));
        let start = registry.store().revision();
        quota(
            registry,
            "q",
            json!({ "hard": { "pods": PODS.to_string(), "requests.cpu": format!("{CPU}m"), "count/pods": "500" } }),
        )
        .await;
        // The model: what each pod that counts asks for, and how many there are.
        let (mut counting, mut ended) = (BTreeMap::<String, u64>::new(), Vec::new());
        for round in 0..8 {
            let size = rng.between(20, 200);
            let room = (PODS - counting.len() as u64).min((CPU - counting.values().sum::<u64>()) / size);
            let names: Vec<String> = (0..20).map(|n| format!("p-{round}-{n}")).collect();
            let writer = |name: String| async move { (create(registry, &name, &cpu(size)).await, name) };
            let made = join_all(names.into_iter().map(writer)).await;
            let (made, refused): (Vec<_>, Vec<_>) = made.into_iter().partition(|(result, _)| result.is_ok());
            assert_eq!(made.len() as u64, room, "seed {seed}, round {round}, {size}m each: {:?}", refused.first());
            assert!(refused.iter().all(|(result, _)| result.as_ref().unwrap_err().contains("exceeded quota: q")));
            counting.extend(made.into_iter().map(|(_, name)| (name, size)));
            let mut going: Vec<String> = counting.keys().cloned().collect();
            going.retain(|_| rng.between(0, 3) == 0);
            for name in going {
                counting.remove(&name);
                if rng.between(0, 2) == 0 {
                    world.delete(&name).await;
                } else {
                    world.end(&name).await;
                    ended.push(name);
                }
            }
            let (n_pods, n_all) = (counting.len(), counting.len() + ended.len());
            let millis = counting.values().sum::<u64>();
            let amount = Quantity::from_millis(i64::try_from(millis).unwrap());
            world.until_used("q", &format!("count/pods={n_all},pods={n_pods},requests.cpu={amount}")).await;
        }
        never_above(registry, start, registry.store().revision());
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_quota_counts_what_was_there_before_it_and_follows_its_spec() {
    let world = World::new(1).await;
    let registry = &world.registry;
    for n in 0..3 {
        create(registry, &format!("old-{n}"), &json!({})).await.unwrap();
    }
    quota(registry, "q", json!({ "hard": { "pods": "3" } })).await;
    assert!(create(registry, "new", &json!({})).await.unwrap_err().contains("used: pods=3, limited: pods=3"));
    world.until_used("q", "pods=3").await;
    let mut raise = |entry: &Entry| {
        let (mut object, _) = read(entry);
        set_at(&mut object.rest, "spec.hard", json!({ "pods": "4", "count/pods": "9" }));
        object.metadata.resource_version = None;
        Ok(Box::new(object) as Box<dyn DynObject>)
    };
    let key = ObjectKey::new(NAMESPACE, "q");
    let part = crate::registry::pipeline::Part::Main;
    registry.update(&RESOURCE_QUOTAS, &key, part, &mut raise, &WriteOptions::default()).await.unwrap();
    create(registry, "new", &json!({})).await.unwrap();
    world.until_used("q", "count/pods=4,pods=4").await;
    assert!(create(registry, "newer", &json!({})).await.is_err());
}

//! Objects that nobody wants any more, on a registry: owners that never were, that are elsewhere, that own each other; pods of nodes that are gone.

use super::{Cluster, eventually, settle};
use crate::{
    api::{
        kind::TypedKind,
        kinds::{config_map::ConfigMaps, namespace::Namespaces, node::Nodes, pod::Pods},
        meta::ObjectKey,
        object::Object as _,
    },
    controllers::ControllersConfig,
    registry::pipeline::{DeleteOptions, Propagation},
};
use k8s_openapi::{api::core::v1::ConfigMap, apimachinery::pkg::apis::meta::v1::OwnerReference};
use std::time::Duration;
use tokio::time::sleep;

fn owned(name: &str, namespace: &str, owner: &str, uid: &str) -> String {
    format!(
        "{{metadata: {{name: {name}, namespace: {namespace}, ownerReferences: [{{apiVersion: v1, kind: ConfigMap, name: {owner}, uid: {uid}}}]}}}}"
    )
}

#[tokio::test(start_paused = true)]
async fn what_an_owner_has_that_never_was_goes_and_says_why_when_it_is_elsewhere() {
    let cluster = Cluster::without_agent().await;
    let is_gone = |name: &str| cluster.get::<ConfigMaps>("default", name).is_none();
    cluster.create::<ConfigMaps>(&owned("a", "default", "nobody", "u0")).await;
    eventually("its owner never was", || is_gone("a")).await;
    assert!(cluster.events("OwnerRefInvalidNamespace").is_empty());
    cluster.create::<Namespaces>("{metadata: {name: other}}").await;
    let owner = cluster.create::<ConfigMaps>("{metadata: {name: far, namespace: other}}").await;
    let uid = owner.metadata.uid.clone().unwrap();
    cluster.create::<ConfigMaps>(&owned("b", "default", "far", &uid)).await;
    eventually("its owner is elsewhere", || is_gone("b")).await;
    settle().await;
    let said = format!(
        "ownerRef [v1/ConfigMap, namespace: default, name: far, uid: {uid}] does not exist in namespace \"default\""
    );
    assert_eq!(cluster.events("OwnerRefInvalidNamespace"), [said]);
    assert!(cluster.get::<ConfigMaps>("other", "far").is_some());
}

#[tokio::test(start_paused = true)]
async fn what_is_in_no_namespace_stays_beside_an_owner_in_one() {
    let cluster = Cluster::without_agent().await;
    let namespace = "{metadata: {name: stray, ownerReferences: [{apiVersion: v1, kind: ConfigMap, name: x, uid: u1}]}}";
    cluster.create::<Namespaces>(namespace).await;
    eventually("it is told", || !cluster.events("OwnerRefInvalidNamespace").is_empty()).await;
    let said = "ownerRef [v1/ConfigMap, namespace: , name: x, uid: u1] does not exist in namespace \"\"";
    assert_eq!(cluster.events("OwnerRefInvalidNamespace"), [said]);
    assert!(cluster.get::<Namespaces>("", "stray").is_some_and(|ns| ns.metadata.deletion_timestamp.is_none()));
}

/// Makes config maps that own each other: each number owns those beside it.
async fn circle(cluster: &Cluster, owned: &[(usize, &[usize])]) {
    let name = |n: &usize| format!("m{n}");
    for (n, _) in owned {
        cluster.create::<ConfigMaps>(&format!("{{metadata: {{name: {}, namespace: default}}}}", name(n))).await;
    }
    let api = cluster.registry.api::<ConfigMaps>();
    for (owner, dependents) in owned {
        let uid = cluster.get::<ConfigMaps>("default", &name(owner)).unwrap().metadata.uid.clone().unwrap();
        for dependent in *dependents {
            let add = |map: &mut ConfigMap| {
                map.meta_mut().owner_references.get_or_insert_default().push(OwnerReference {
                    api_version: "v1".into(),
                    kind: "ConfigMap".into(),
                    name: name(owner),
                    uid: uid.clone(),
                    block_owner_deletion: Some(true),
                    controller: None,
                });
            };
            api.modify(&ObjectKey::new("default", name(dependent)), add).await.unwrap();
        }
    }
}

async fn delete<K: TypedKind>(cluster: &Cluster, name: &str, propagation: Propagation) {
    let options = DeleteOptions { propagation: Some(propagation), ..DeleteOptions::default() };
    cluster.registry.api::<K>().delete(&ObjectKey::new("default", name), &options).await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn objects_that_own_each_other_go() {
    let circles: [&[(usize, &[usize])]; 4] = [
        &[(0, &[0])],
        &[(0, &[1]), (1, &[0])],
        &[(0, &[1]), (1, &[2]), (2, &[0])],
        // With somebody who hangs on the circle.
        &[(0, &[1, 3]), (1, &[2]), (2, &[0]), (3, &[])],
    ];
    for circle_of in circles {
        for propagation in [Propagation::Background, Propagation::Foreground] {
            for n_deleted in 1..=circle_of.len() {
                let cluster = Cluster::without_agent().await;
                circle(&cluster, circle_of).await;
                settle().await;
                for (n, _) in &circle_of[..n_deleted] {
                    // What the others took along is gone already.
                    if cluster.get::<ConfigMaps>("default", &format!("m{n}")).is_some() {
                        delete::<ConfigMaps>(&cluster, &format!("m{n}"), propagation).await;
                    }
                }
                let left = || {
                    cluster
                        .list::<ConfigMaps>()
                        .iter()
                        .any(|map| map.metadata.name.as_deref().is_some_and(|n| n.starts_with('m')))
                };
                eventually(&format!("{circle_of:?} {propagation:?} {n_deleted}"), || !left()).await;
            }
        }
    }
}

#[tokio::test(start_paused = true)]
async fn pods_that_nobody_would_remove_go() {
    let config = ControllersConfig { terminated_pod_gc_threshold: 2, ..ControllersConfig::default() };
    let cluster = Cluster::without_agent_as(config).await;
    let pod = |name: &str, more: &str| {
        format!(
            "{{metadata: {{name: {name}, namespace: default}}, spec: {{{more} containers: [{{name: c, image: i}}]}}}}"
        )
    };
    cluster.create::<Nodes>("{metadata: {name: far}}").await;
    cluster.create::<Pods>(&pod("orphan", "nodeName: far,")).await;
    cluster.create::<Pods>(&pod("early", "nodeName: later,")).await;
    settle().await;
    cluster.registry.api::<Nodes>().delete(&ObjectKey::new("", "far"), &DeleteOptions::default()).await.unwrap();
    sleep(Duration::from_secs(30)).await;
    cluster.create::<Nodes>("{metadata: {name: later}}").await;
    assert!(cluster.get::<Pods>("default", "orphan").is_some(), "its node may come back");
    eventually("its node is gone", || cluster.get::<Pods>("default", "orphan").is_none()).await;
    sleep(Duration::from_secs(60)).await;
    assert!(cluster.get::<Pods>("default", "early").is_some(), "its node came");
    for n in 0..4 {
        cluster.create::<Pods>(&pod(&format!("ended-{n}"), "")).await;
        sleep(Duration::from_secs(1)).await;
    }
    let api = cluster.registry.api::<Pods>();
    for n in 0..4 {
        let end = |pod: &mut k8s_openapi::api::core::v1::Pod| {
            pod.status.get_or_insert_default().phase = Some("Succeeded".into());
        };
        api.modify_status(&ObjectKey::new("default", format!("ended-{n}")), end).await.unwrap();
    }
    let left = || cluster.list::<Pods>().iter().filter_map(|pod| pod.metadata.name.clone()).collect::<Vec<_>>();
    eventually("two may stay", || left() == ["early", "ended-2", "ended-3"]).await;
}

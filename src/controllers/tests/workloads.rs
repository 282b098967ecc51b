//! Jobs, CronJobs, StatefulSets, DaemonSets and disruption budgets on a registry, with a stand-in for the node agent.

use super::{Cluster, eventually, settle, web};
use crate::{
    api::{
        agreements::{CONTROL_PLANE_ROLE, PAUSED},
        kind::TypedKind,
        kinds::{
            controller_revision::ControllerRevisions, cron_job::CronJobs, daemon_set::DaemonSets,
            deployment::Deployments, job::Jobs, node::Nodes, pod::Pods, pod_disruption_budget::PodDisruptionBudgets,
            stateful_set::StatefulSets,
        },
        meta::ObjectKey,
    },
    registry::pipeline::{DeleteOptions, Propagation},
};
use k8s_openapi::api::{apps::v1::StatefulSet, batch::v1::Job, core::v1::Node};
use std::time::Duration;
use tokio::time::sleep;

const TEMPLATE: &str = "{spec: {restartPolicy: Never, containers: [{name: c, image: v1}]}}";

async fn end_pods(cluster: &Cluster) {
    let api = cluster.registry.api::<Pods>();
    for pod in cluster.list::<Pods>() {
        let end = |pod: &mut k8s_openapi::api::core::v1::Pod| {
            pod.status.get_or_insert_default().phase = Some("Succeeded".into());
        };
        api.modify_status(&ObjectKey::of(&pod.metadata), end).await.unwrap();
    }
}

async fn delete<K: TypedKind>(cluster: &Cluster, name: &str, propagation: Propagation) {
    let options = DeleteOptions { propagation: Some(propagation), ..DeleteOptions::default() };
    cluster.registry.api::<K>().delete(&ObjectKey::new("default", name), &options).await.unwrap();
}

fn job(cluster: &Cluster) -> Option<std::sync::Arc<Job>> {
    cluster.get::<Jobs>("default", "pi")
}

#[tokio::test(start_paused = true)]
async fn a_job_runs_to_its_end_and_leaves_no_pod_held() {
    let cluster = Cluster::start().await;
    let manifest = format!(
        "{{metadata: {{name: pi, namespace: default}}, spec: {{completions: 2, parallelism: 2, template: {TEMPLATE}}}}}"
    );
    cluster.create::<Jobs>(&manifest).await;
    let active = || job(&cluster).and_then(|job| job.status.as_ref()?.ready);
    eventually("two pods are ready", || active() == Some(2)).await;
    end_pods(&cluster).await;
    let condition = |type_: &str| {
        let status = job(&cluster).and_then(|job| job.status.clone()).unwrap_or_default();
        status.conditions.into_iter().flatten().any(|c| c.type_ == type_ && c.status == "True")
    };
    eventually("it is complete", || condition("Complete")).await;
    settle().await;
    assert_eq!(cluster.events("Completed"), ["Job completed"]);
    assert_eq!(cluster.events("SuccessfulCreate").len(), 2);
    assert!(cluster.list::<Pods>().iter().all(|pod| pod.metadata.finalizers.is_none()));
    delete::<Jobs>(&cluster, "pi", Propagation::Background).await;
    eventually("its pods go with it", || cluster.list::<Pods>().is_empty()).await;
    cluster.create::<Jobs>(&manifest).await;
    eventually("two pods are ready", || active() == Some(2)).await;
    delete::<Jobs>(&cluster, "pi", Propagation::Orphan).await;
    let is_free = || cluster.list::<Pods>().iter().all(|pod| pod.metadata.finalizers.is_none());
    eventually("nothing holds the pods that it leaves", || job(&cluster).is_none() && is_free()).await;
    assert_eq!(cluster.list::<Pods>().len(), 2);
}

#[tokio::test(start_paused = true)]
async fn a_cron_job_makes_a_job_each_minute() {
    let cluster = Cluster::start().await;
    let manifest = format!(
        "{{metadata: {{name: tick, namespace: default}}, spec: {{schedule: '* * * * *', jobTemplate: {{spec: {{template: {TEMPLATE}}}}}}}}}"
    );
    cluster.create::<CronJobs>(&manifest).await;
    for n in 1..=2 {
        sleep(Duration::from_secs(30)).await;
        eventually("a job is made", || cluster.list::<Jobs>().len() == n).await;
        sleep(Duration::from_secs(25)).await;
    }
    settle().await;
    let status = cluster.get::<CronJobs>("default", "tick").unwrap().status.clone().unwrap();
    assert_eq!((status.active.map(|active| active.len()), status.last_schedule_time.is_some()), (Some(2), true));
    delete::<CronJobs>(&cluster, "tick", Propagation::Background).await;
    eventually("its jobs and their pods go", || cluster.list::<Jobs>().is_empty() && cluster.list::<Pods>().is_empty())
        .await;
}

const NIGHTLY: &str = "{metadata: {name: nightly, namespace: default}, spec: {schedule: '0 3 * * *', jobTemplate: {spec: {template: \
                       {spec: {restartPolicy: Never, containers: [{name: c, image: v1}]}}}}}}";

#[tokio::test(start_paused = true)]
async fn a_cron_job_whose_time_went_by_while_the_machine_slept_makes_its_job_when_it_wakes() {
    let cluster = Cluster::start().await;
    cluster.create::<CronJobs>(NIGHTLY).await;
    settle().await;
    assert_eq!(cluster.list::<Jobs>().len(), 0);
    cluster.registry.clock().jump(jiff::SignedDuration::from_hours(5));
    let took = eventually("the job is made", || cluster.list::<Jobs>().len() == 1).await;
    assert!(took < Duration::from_secs(1), "{took:?}");
    // A clock that is set back makes no second one.
    cluster.registry.clock().jump(jiff::SignedDuration::from_hours(-4));
    sleep(Duration::from_hours(3)).await;
    assert_eq!(cluster.list::<Jobs>().len(), 1);
}

#[tokio::test(start_paused = true)]
async fn a_cron_job_makes_nothing_while_the_cluster_is_paused_and_one_job_when_it_goes_on() {
    let cluster = Cluster::start().await;
    let pause = async |is: bool| {
        let change = |node: &mut Node| {
            node.metadata.labels.get_or_insert_default().insert(CONTROL_PLANE_ROLE.to_owned(), String::new());
            let annotations = node.metadata.annotations.get_or_insert_default();
            annotations.remove(PAUSED);
            annotations.extend(is.then(|| (PAUSED.to_owned(), "2026-01-01T00:00:00Z".to_owned())));
        };
        cluster.registry.api::<Nodes>().modify(&ObjectKey::new("", "skiff"), change).await.unwrap();
    };
    cluster.create::<CronJobs>(NIGHTLY).await;
    settle().await;
    pause(true).await;
    sleep(Duration::from_hours(54)).await;
    assert_eq!(cluster.list::<Jobs>().len(), 0, "three times have gone by");
    pause(false).await;
    let took = eventually("the job is made", || cluster.list::<Jobs>().len() == 1).await;
    assert!(took < Duration::from_secs(1), "{took:?}");
    settle().await;
    assert_eq!(cluster.list::<Jobs>().len(), 1);
}

#[tokio::test(start_paused = true)]
async fn a_stateful_set_is_made_updated_and_scaled_in_order() {
    let cluster = Cluster::start().await;
    let manifest = "
metadata: {name: db, namespace: default}
spec:
  replicas: 3
  serviceName: db
  selector: {matchLabels: {app: db}}
  template: {metadata: {labels: {app: db}}, spec: {containers: [{name: c, image: v1}]}}
";
    cluster.create::<StatefulSets>(manifest).await;
    let is_done = |n: i32| {
        let set = cluster.get::<StatefulSets>("default", "db").unwrap();
        let status = set.status.clone().unwrap_or_default();
        status.observed_generation == set.metadata.generation
            && [status.replicas, status.updated_replicas.unwrap_or(0), status.ready_replicas.unwrap_or(0)] == [n; 3]
            && status.current_revision == status.update_revision
    };
    let names = || cluster.list::<Pods>().iter().map(|pod| pod.metadata.name.clone().unwrap()).collect::<Vec<_>>();
    eventually("all are ready", || is_done(3)).await;
    assert_eq!(names(), ["db-0", "db-1", "db-2"]);
    let change = |change: fn(&mut StatefulSet)| {
        let api = cluster.registry.api::<StatefulSets>();
        async move { api.modify(&ObjectKey::new("default", "db"), change).await.unwrap() }
    };
    change(|set| set.spec.template.spec.as_mut().unwrap().containers[0].image = Some("v2".into())).await;
    eventually("all are updated", || is_done(3)).await;
    change(|set| set.spec.replicas = Some(1)).await;
    eventually("two are gone", || is_done(1) && names() == ["db-0"]).await;
    assert_eq!(cluster.list::<ControllerRevisions>().len(), 2);
    delete::<StatefulSets>(&cluster, "db", Propagation::Background).await;
    let is_clear = || cluster.list::<Pods>().is_empty() && cluster.list::<ControllerRevisions>().is_empty();
    eventually("its pods and revisions go", is_clear).await;
}

#[tokio::test(start_paused = true)]
async fn a_daemon_set_has_a_pod_on_the_node_although_it_is_cordoned() {
    let cluster = Cluster::start().await;
    let nodes = cluster.registry.api::<Nodes>();
    let cordon = |node: &mut Node| node.spec.get_or_insert_default().unschedulable = Some(true);
    nodes.modify(&ObjectKey::new("", "skiff"), cordon).await.unwrap();
    let manifest = "
metadata: {name: log, namespace: default}
spec:
  selector: {matchLabels: {app: log}}
  template: {metadata: {labels: {app: log}}, spec: {containers: [{name: c, image: v1}]}}
";
    cluster.create::<DaemonSets>(manifest).await;
    let status = || cluster.get::<DaemonSets>("default", "log").unwrap().status.clone().unwrap_or_default();
    eventually("its pod is ready", || (status().desired_number_scheduled, status().number_ready) == (1, 1)).await;
    assert_eq!(cluster.list::<Pods>().len(), 1);
}

#[tokio::test(start_paused = true)]
async fn a_budget_counts_the_pods_of_a_deployment() {
    let cluster = Cluster::start().await;
    cluster.create::<Deployments>(&web(4, "v1")).await;
    let budget =
        "{metadata: {name: web, namespace: default}, spec: {maxUnavailable: 25%, selector: {matchLabels: {app: web}}}}";
    cluster.create::<PodDisruptionBudgets>(budget).await;
    let status = || cluster.get::<PodDisruptionBudgets>("default", "web").unwrap().status.clone().unwrap_or_default();
    eventually("one may go", || status().disruptions_allowed == Some(1)).await;
    assert_eq!(
        (status().expected_pods, status().desired_healthy, status().current_healthy),
        (Some(4), Some(3), Some(4))
    );
}

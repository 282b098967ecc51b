//! Tables of decisions, and the loop on a registry.

use super::{
    decide::{decide, told},
    *,
};
use crate::{
    api::{
        kinds::{
            deployment::Deployments, deployment_config::DeploymentConfigs, replica_set::ReplicaSets,
            replication_controller::ReplicationControllers, stateful_set::StatefulSets,
        },
        usage::ContainerUsage,
    },
    base::task::drain_signal,
    testing,
};
use expect_test::expect;
use k8s_openapi::api::apps::v1::Deployment;
use std::{fmt::Write as _, sync::Mutex};

const NOW: &str = "2026-01-01T01:00:00Z";

fn now() -> Timestamp {
    NOW.parse().unwrap()
}

fn hpa(spec: &str) -> HorizontalPodAutoscaler {
    let text = format!(
        "{{metadata: {{name: w, namespace: default}}, spec: {{scaleTargetRef: {{kind: Deployment, name: web, \
         apiVersion: apps/v1}}, {spec}}}}}"
    );
    testing::from_yaml(&text).unwrap()
}

const CPU_50: &str = "minReplicas: 1, maxReplicas: 10, metrics: [{type: Resource, resource: {name: cpu, \
                      target: {type: Utilization, averageUtilization: 50}}}]";

/// A pod that started so many minutes ago, is ready or not since, and asks for 100 thousandths of a processor.
fn pod(name: &str, minutes: i64, ready: &str) -> Arc<Pod> {
    let since = now() - jiff::SignedDuration::from_mins(minutes);
    let text = format!(
        "{{metadata: {{name: {name}, namespace: default, uid: u-{name}}}, \
          spec: {{containers: [{{name: c, resources: {{requests: {{cpu: 100m}}}}}}]}}, \
          status: {{phase: Running, startTime: '{since}', \
          conditions: [{{type: Ready, status: '{ready}', lastTransitionTime: '{since}'}}]}}}}"
    );
    Arc::new(testing::from_yaml(&text).unwrap())
}

fn usage(name: &str, cpu_millis: u64) -> PodUsage {
    let container = ContainerUsage {
        name: "c".to_owned(),
        cpu_nano_cores: cpu_millis * 1_000_000,
        working_set_bytes: 1 << 20,
        ..ContainerUsage::default()
    };
    PodUsage {
        key: ObjectKey::new("default", name),
        uid: format!("u-{name}"),
        node: "skiff".to_owned(),
        at: now(),
        window: Duration::from_secs(15),
        containers: vec![container],
    }
}

fn observed(spec: &str, replicas: i32, pods: Vec<Arc<Pod>>, usages: Vec<PodUsage>) -> Observed {
    Observed {
        hpa: Arc::new(hpa(spec)),
        target: Ok(Target { replicas, pods: Ok(pods) }),
        usages: Ok(Arc::from(usages)),
        memory: Memory::default(),
        now: now(),
    }
}

/// A plan as text: the new number and why, the conditions, what is used, the Events.
fn show(plan: &Plan) -> String {
    let mut text = String::new();
    match &plan.rescale {
        Some(rescale) => writeln!(text, "to {}: {}", rescale.replicas, rescale.reason).unwrap(),
        None => writeln!(text, "stays, desired {}", plan.status.desired_replicas).unwrap(),
    }
    for (kind, value) in told(&plan.status) {
        writeln!(text, "{kind} {value}").unwrap();
    }
    for metric in plan.status.current_metrics.iter().flatten() {
        let current = metric.resource.as_ref().map(|r| &r.current);
        let current = current.or(metric.container_resource.as_ref().map(|r| &r.current));
        if let Some(current) = current {
            let value = current.average_value.as_ref().map(|q| &*q.0).unwrap_or_default();
            writeln!(text, "uses {value} {:?}", current.average_utilization).unwrap();
        }
    }
    for event in &plan.events {
        writeln!(text, "{:?} {}: {}", event.severity, event.reason, event.message).unwrap();
    }
    text
}

fn old(names: &[&str]) -> Vec<Arc<Pod>> {
    names.iter().map(|name| pod(name, 30, "True")).collect()
}

fn use_of(all: &[(&str, u64)]) -> Vec<PodUsage> {
    all.iter().map(|(name, millis)| usage(name, *millis)).collect()
}

#[test]
fn a_busy_target_grows_and_an_idle_one_shrinks_after_a_while() {
    let busy = observed(CPU_50, 2, old(&["a", "b"]), use_of(&[("a", 100), ("b", 60)]));
    expect![[r#"
        to 4: cpu resource utilization (percentage of request) above target
        AbleToScale True SucceededRescale
        ScalingActive True ValidMetricFound
        ScalingLimited False DesiredWithinRange
        uses 80m Some(80)
    "#]]
    .assert_eq(&show(&decide(&busy)));
    let idle = observed(CPU_50, 2, old(&["a", "b"]), use_of(&[("a", 5), ("b", 5)]));
    let plan = decide(&idle);
    expect![[r#"
        stays, desired 2
        AbleToScale True ScaleDownStabilized
        ScalingActive True ValidMetricFound
        ScalingLimited False DesiredWithinRange
        uses 5m Some(5)
    "#]]
    .assert_eq(&show(&plan));
    // Five minutes later the recommendation to keep two is forgotten.
    let later = now() + jiff::SignedDuration::from_secs(301);
    let plan = decide(&Observed { memory: plan.memory, now: later, ..idle });
    assert_eq!(plan.rescale.map(|r| (r.replicas, r.reason)), Some((1, "All metrics below target".to_owned())));
}

#[test]
fn what_is_near_the_target_stays() {
    for (millis, wanted) in [(45, None), (55, None), (56, Some(3)), (44, None)] {
        let usages = use_of(&[("a", millis), ("b", millis)]);
        let plan = decide(&observed(CPU_50, 2, old(&["a", "b"]), usages));
        assert_eq!(plan.rescale.map(|r| r.replicas), wanted, "{millis}");
    }
    let strict = format!(
        "{CPU_50}, behavior: {{scaleUp: {{tolerance: '0.02'}}, scaleDown: {{tolerance: '0.5', stabilizationWindowSeconds: 0}}}}"
    );
    for (millis, wanted) in [(52, Some(3)), (51, None), (30, None), (20, Some(1))] {
        let usages = use_of(&[("a", millis), ("b", millis)]);
        let plan = decide(&observed(&strict, 2, old(&["a", "b"]), usages));
        assert_eq!(plan.rescale.map(|r| r.replicas), wanted, "{millis}");
    }
}

#[test]
fn pods_that_are_not_ready_or_not_measured_count_against_the_direction() {
    let wanted = |pods: Vec<Arc<Pod>>, usages: &[(&str, u64)], replicas| {
        decide(&observed(CPU_50, replicas, pods, use_of(usages))).rescale.map(|r| r.replicas)
    };
    // A pod that is not ready counts as using nothing: (100 + 0) of 200 is the target.
    assert_eq!(wanted(vec![pod("a", 30, "True"), pod("b", 1, "False")], &[("a", 100), ("b", 500)], 2), None);
    // Its processor time counts once it was ready for a whole window.
    assert_eq!(wanted(vec![pod("a", 30, "True"), pod("b", 1, "True")], &[("a", 100), ("b", 100)], 2), Some(4));
    assert_eq!(wanted(vec![pod("a", 30, "True"), pod("b", 0, "True")], &[("a", 100), ("b", 100)], 2), None);
    // One that is missing: as nothing on the way up, as all that it asks for on the way down.
    assert_eq!(wanted(old(&["a", "b"]), &[("a", 100)], 2), None);
    assert_eq!(wanted(old(&["a", "b", "c"]), &[("a", 300), ("b", 300)], 3), Some(6), "at most twice");
    let down = format!("{CPU_50}, behavior: {{scaleDown: {{stabilizationWindowSeconds: 0}}}}");
    let plan = decide(&observed(&down, 4, old(&["a", "b", "c", "d"]), use_of(&[("a", 10), ("b", 10), ("c", 10)])));
    assert_eq!(plan.rescale.map(|r| r.replicas), Some(3), "(30 + 100) of 400, of 50 percent");
    // Pods that failed or are going are nobody's.
    let mut failed = Pod::clone(&pod("b", 30, "False"));
    failed.status.as_mut().unwrap().phase = Some("Failed".into());
    assert_eq!(wanted(vec![pod("a", 30, "True"), Arc::new(failed)], &[("a", 100)], 1), Some(2));
}

#[test]
fn a_metric_that_cannot_be_had_is_told() {
    let check = |observed: &Observed, wanted: expect_test::Expect| wanted.assert_eq(&show(&decide(observed)));
    let none = observed(CPU_50, 1, old(&["a"]), Vec::new());
    check(
        &none,
        expect![[r#"
        stays, desired 0
        AbleToScale True SucceededGetScale
        ScalingActive False FailedGetResourceMetric
        Warning FailedGetResourceMetric: failed to get cpu utilization: unable to get metrics for resource cpu: no metrics returned from resource metrics API
        Warning FailedComputeMetricsReplicas: invalid metrics (1 invalid out of 1), first error is: failed to get cpu resource metric value: failed to get cpu utilization: unable to get metrics for resource cpu: no metrics returned from resource metrics API
    "#]],
    );
    let mut bare = Pod::clone(&pod("a", 30, "True"));
    bare.spec.as_mut().unwrap().containers[0].resources = None;
    let bare = observed(CPU_50, 1, vec![Arc::new(bare)], use_of(&[("a", 1)]));
    let text = show(&decide(&bare));
    assert!(text.contains("failed to get cpu utilization: missing request for cpu in container c of Pod a"), "{text}");
    let foreign = "maxReplicas: 5, metrics: [{type: Pods, pods: {metric: {name: hits}, target: {type: AverageValue, averageValue: '1'}}}, \
                   {type: Resource, resource: {name: cpu, target: {type: AverageValue, averageValue: 10m}}}]";
    // One that works is enough to grow, and not to shrink.
    let grows = decide(&observed(foreign, 1, old(&["a"]), use_of(&[("a", 30)])));
    assert_eq!(grows.rescale.as_ref().map(|r| r.replicas), Some(3));
    assert_eq!(told(&grows.status)["ScalingActive"], "True ValidMetricFound");
    let stays = decide(&observed(foreign, 2, old(&["a", "b"]), use_of(&[("a", 1), ("b", 1)])));
    assert_eq!((stays.rescale, &*told(&stays.status)["ScalingActive"]), (None, "False FailedGetPodsMetric"));
}

#[test]
fn metrics_of_apis_that_nobody_serves_are_told_as_kubernetes_tells_them() {
    let check = |metric: &str, wanted: expect_test::Expect| {
        let spec = format!("maxReplicas: 5, metrics: [{metric}]");
        let plan = decide(&observed(&spec, 2, old(&["a", "b"]), use_of(&[("a", 1), ("b", 1)])));
        let conditions = plan.status.conditions.iter().flatten();
        let active: Vec<_> =
            conditions.filter(|c| c.type_ == "ScalingActive").filter_map(|c| c.message.clone()).collect();
        let statuses =
            plan.status.current_metrics.as_ref().map(|all| all.iter().map(|m| &*m.type_).collect::<Vec<_>>());
        wanted.assert_eq(&format!("{}{}\n{statuses:?}\n", show(&plan), active.join(", ")));
    };
    check(
        "{type: Pods, pods: {metric: {name: hits}, target: {type: AverageValue, averageValue: '1'}}}",
        expect![[r#"
        stays, desired 0
        AbleToScale True SucceededGetScale
        ScalingActive False FailedGetPodsMetric
        Warning FailedGetPodsMetric: unable to get metric hits: unable to fetch metrics from custom metrics API: no custom metrics API (custom.metrics.k8s.io) registered
        Warning FailedComputeMetricsReplicas: invalid metrics (1 invalid out of 1), first error is: failed to get pods metric value: unable to get metric hits: unable to fetch metrics from custom metrics API: no custom metrics API (custom.metrics.k8s.io) registered
        the HPA was unable to compute the replica count: unable to get metric hits: unable to fetch metrics from custom metrics API: no custom metrics API (custom.metrics.k8s.io) registered
        Some([""])
    "#]],
    );
    check(
        "{type: Object, object: {describedObject: {kind: Service, name: web}, metric: {name: hits}, target: {type: Value, value: '1'}}}",
        expect![[r#"
            stays, desired 0
            AbleToScale True SucceededGetScale
            ScalingActive False FailedGetObjectMetric
            Warning FailedGetObjectMetric: unable to get metric hits: Service on default web/unable to fetch metrics from custom metrics API: no custom metrics API (custom.metrics.k8s.io) registered
            Warning FailedComputeMetricsReplicas: invalid metrics (1 invalid out of 1), first error is: failed to get object metric value: unable to get metric hits: Service on default web/unable to fetch metrics from custom metrics API: no custom metrics API (custom.metrics.k8s.io) registered
            the HPA was unable to compute the replica count: unable to get metric hits: Service on default web/unable to fetch metrics from custom metrics API: no custom metrics API (custom.metrics.k8s.io) registered
            Some([""])
        "#]],
    );
    check(
        "{type: External, external: {metric: {name: queue, selector: {matchLabels: {of: work}}}, target: {type: AverageValue, averageValue: '1'}}}",
        expect![[r#"
            stays, desired 0
            AbleToScale True SucceededGetScale
            ScalingActive False FailedGetExternalMetric
            Warning FailedGetExternalMetric: unable to get external metric default/queue/&LabelSelector{MatchLabels:map[string]string{of: work,},MatchExpressions:[]LabelSelectorRequirement{},}: unable to fetch metrics from external metrics API: the server could not find the requested resource (get queue.external.metrics.k8s.io)
            Warning FailedComputeMetricsReplicas: invalid metrics (1 invalid out of 1), first error is: failed to get queue external metric value: failed to get queue external metric: unable to get external metric default/queue/&LabelSelector{MatchLabels:map[string]string{of: work,},MatchExpressions:[]LabelSelectorRequirement{},}: unable to fetch metrics from external metrics API: the server could not find the requested resource (get queue.external.metrics.k8s.io)
            the HPA was unable to compute the replica count: unable to get external metric default/queue/&LabelSelector{MatchLabels:map[string]string{of: work,},MatchExpressions:[]LabelSelectorRequirement{},}: unable to fetch metrics from external metrics API: the server could not find the requested resource (get queue.external.metrics.k8s.io)
            Some([""])
        "#]],
    );
    check(
        "{type: External, external: {metric: {name: queue}, target: {type: Value, value: '1'}}}",
        expect![[r#"
        stays, desired 0
        AbleToScale True SucceededGetScale
        ScalingActive False FailedGetExternalMetric
        Warning FailedGetExternalMetric: unable to get external metric default/queue/nil: unable to fetch metrics from external metrics API: the server could not find the requested resource (get queue.external.metrics.k8s.io)
        Warning FailedComputeMetricsReplicas: invalid metrics (1 invalid out of 1), first error is: failed to get queue external metric value: failed to get external metric queue: unable to get external metric default/queue/nil: unable to fetch metrics from external metrics API: the server could not find the requested resource (get queue.external.metrics.k8s.io)
        the HPA was unable to compute the replica count: unable to get external metric default/queue/nil: unable to fetch metrics from external metrics API: the server could not find the requested resource (get queue.external.metrics.k8s.io)
        Some([""])
    "#]],
    );
}

#[test]
fn the_number_stays_between_its_bounds() {
    let few = observed("minReplicas: 3, maxReplicas: 10", 1, Vec::new(), Vec::new());
    assert_eq!(show(&decide(&few)).lines().next(), Some("to 3: Current number of replicas below Spec.MinReplicas"));
    let many = observed("maxReplicas: 2", 5, Vec::new(), Vec::new());
    assert_eq!(show(&decide(&many)).lines().next(), Some("to 2: Current number of replicas above Spec.MaxReplicas"));
    let off = decide(&observed(CPU_50, 0, Vec::new(), Vec::new()));
    assert_eq!((off.rescale, &*told(&off.status)["ScalingActive"]), (None, "False ScalingDisabled"));
    let capped = CPU_50.replace("maxReplicas: 10", "maxReplicas: 3");
    let plan = decide(&observed(&capped, 2, old(&["a", "b"]), use_of(&[("a", 500), ("b", 500)])));
    assert_eq!((plan.rescale.unwrap().replicas, &*told(&plan.status)["ScalingLimited"]), (3, "True TooManyReplicas"));
    let fast = CPU_50.replace("maxReplicas: 10", "maxReplicas: 100");
    let plan = decide(&observed(&fast, 1, old(&["a"]), use_of(&[("a", 5000)])));
    assert_eq!((plan.rescale.unwrap().replicas, &*told(&plan.status)["ScalingLimited"]), (4, "True ScaleUpLimit"));
}

#[test]
fn policies_bound_how_fast_replicas_change() {
    let of = |behavior: &str| CPU_50.replace("maxReplicas: 10", "maxReplicas: 100") + ", behavior: " + behavior;
    let step = |spec: &str, replicas: i32, millis: u64, memory: Memory| {
        let names: Vec<String> = (0..replicas).map(|i| format!("p{i}")).collect();
        let pods = names.iter().map(|name| pod(name, 30, "True")).collect();
        let usages = names.iter().map(|name| usage(name, millis)).collect();
        let plan = decide(&Observed { memory, ..observed(spec, replicas, pods, usages) });
        (
            plan.rescale.as_ref().map_or(replicas, |r| r.replicas),
            told(&plan.status)["ScalingLimited"].clone(),
            plan.memory,
        )
    };
    let up = of(
        "{scaleUp: {policies: [{type: Pods, value: 1, periodSeconds: 60}, {type: Percent, value: 50, periodSeconds: 60}]}}",
    );
    let (to, limit, memory) = step(&up, 4, 100, Memory::default());
    assert_eq!((to, &*limit), (6, "True ScaleUpLimit"), "the greatest of 5 and 6");
    assert_eq!(step(&up, 6, 100, memory).0, 6, "within the minute nothing is left of it");
    let least = up.replace("scaleUp: {", "scaleUp: {selectPolicy: Min, ");
    assert_eq!(step(&least, 4, 100, Memory::default()).0, 5);
    let never = of("{scaleUp: {selectPolicy: Disabled}}");
    assert_eq!(step(&never, 4, 100, Memory::default()).0, 4);
    let down =
        of("{scaleDown: {stabilizationWindowSeconds: 0, policies: [{type: Percent, value: 25, periodSeconds: 60}]}}");
    assert_eq!(step(&down, 8, 1, Memory::default()).0, 6);
    let all = of("{scaleDown: {stabilizationWindowSeconds: 0}}");
    assert_eq!(step(&all, 8, 1, Memory::default()).0, 1);
    // A window upwards takes the lowest that was recommended in it.
    let calm = of("{scaleUp: {stabilizationWindowSeconds: 60}}");
    let before =
        Memory { recommendations: vec![(now() - jiff::SignedDuration::from_secs(30), 5)], changes: Vec::new() };
    assert_eq!(step(&calm, 4, 100, before).0, 5);
}

#[test]
fn a_container_alone_can_be_aimed_at() {
    let spec = "maxReplicas: 5, metrics: [{type: ContainerResource, containerResource: {name: cpu, container: c, \
                target: {type: Utilization, averageUtilization: 50}}}]";
    let plan = decide(&observed(spec, 1, old(&["a"]), use_of(&[("a", 150)])));
    assert_eq!(plan.rescale.unwrap().replicas, 3);
    let other = spec.replace("container: c", "container: d");
    let plan = decide(&observed(&other, 1, old(&["a"]), use_of(&[("a", 150)])));
    assert_eq!(told(&plan.status)["ScalingActive"], "False FailedGetContainerResourceMetric");
    assert!(plan.events[0].message.contains("container d not present in metrics for pod default/a"));
}

/// What the test says that pods use.
#[derive(Default)]
struct Known(Mutex<Vec<PodUsage>>);

#[async_trait]
impl Measures for Known {
    async fn pods(&self) -> Result<Vec<PodUsage>, String> {
        Ok(self.0.lock().unwrap().clone())
    }
}

#[tokio::test(start_paused = true)]
async fn an_autoscaler_scales_what_it_names_and_tells_of_it() {
    let registry = testing::registry().await;
    let (_trigger, drain) = drain_signal();
    let known = Arc::new(Known::default());
    let (metrics, ended) = (Metrics::default(), drain.clone());
    crate::base::task::spawn("events", registry.clone().run_events(drain));
    crate::base::task::spawn("hpa", run(Arc::clone(&known) as Arc<_>, registry.clone(), metrics, ended));
    let deployment: Deployment = testing::from_yaml(
        "{metadata: {name: web, namespace: default}, spec: {replicas: 1, selector: {matchLabels: {app: web}}, \
         template: {metadata: {labels: {app: web}}, spec: {containers: [{name: c, image: i}]}}}}",
    )
    .unwrap();
    registry.api::<Deployments>().create(deployment).await.unwrap();
    let pod: Pod = testing::from_yaml(
        "{metadata: {name: a, namespace: default, labels: {app: web}}, \
         spec: {containers: [{name: c, image: i, resources: {requests: {cpu: 100m}}}]}}",
    )
    .unwrap();
    let made = registry.api::<Pods>().create(pod).await.unwrap();
    let key = ObjectKey::of(&made.metadata);
    let ready = |pod: &mut Pod| {
        let since = "2025-12-31T00:00:00Z";
        let status = format!(
            "{{phase: Running, startTime: '{since}', conditions: [{{type: Ready, status: 'True', lastTransitionTime: '{since}'}}]}}"
        );
        pod.status = Some(testing::from_yaml(&status).unwrap());
    };
    registry.api::<Pods>().modify_status(&key, ready).await.unwrap();
    *known.0.lock().unwrap() =
        vec![PodUsage { uid: made.metadata.uid.clone().unwrap(), at: registry.clock().now(), ..usage("a", 200) }];
    registry.api::<HorizontalPodAutoscalers>().create(hpa(CPU_50)).await.unwrap();
    let replicas = || {
        let web = registry.api::<Deployments>().get(&ObjectKey::new("default", "web")).unwrap();
        web.spec.replicas
    };
    let deadline = tokio::time::Instant::now() + Duration::from_secs(1);
    while replicas() != Some(4) {
        assert!(tokio::time::Instant::now() < deadline, "{:?}", replicas());
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    // Another target of the same pods is none.
    let mut rival = hpa(CPU_50);
    rival.metadata.name = Some("x".into());
    registry.api::<HorizontalPodAutoscalers>().create(rival).await.unwrap();
    let told_of = |name: &str| {
        let hpa = registry.api::<HorizontalPodAutoscalers>().get(&ObjectKey::new("default", name)).unwrap();
        let status = hpa.status.clone().unwrap_or_default();
        told(&status).get("ScalingActive").cloned().unwrap_or_default()
    };
    let deadline = tokio::time::Instant::now() + Duration::from_secs(20);
    while told_of("x") != "False AmbiguousSelector" {
        assert!(tokio::time::Instant::now() < deadline, "{:?}", told_of("x"));
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    let events = registry.api::<crate::api::kinds::event::Events>().list("default").items;
    let message = events.iter().find(|e| e.reason.as_deref() == Some("SuccessfulRescale")).unwrap().message.clone();
    let wanted = "New size: 4; reason: cpu resource utilization (percentage of request) above target";
    assert_eq!(message.as_deref(), Some(wanted));
}

/// Whatever has `scale` is scaled: its replicas go from one to four.
async fn is_scaled<K: crate::api::kind::TypedKind>(manifest: &str) {
    let (registry, info) = (testing::registry().await, K::erased().info());
    let (_trigger, drain) = drain_signal();
    let known = Arc::new(Known::default());
    crate::base::task::spawn("hpa", run(Arc::clone(&known) as Arc<_>, registry.clone(), Metrics::default(), drain));
    registry.api::<K>().create(testing::from_yaml(manifest).unwrap()).await.unwrap();
    let bare: Pod = testing::from_yaml(
        "{metadata: {name: a, namespace: default, labels: {app: web, deploymentconfig: web}}, \
         spec: {containers: [{name: c, image: i, resources: {requests: {cpu: 100m}}}]}}",
    )
    .unwrap();
    let made = registry.api::<Pods>().create(bare).await.unwrap();
    let ready = |made: &mut Pod| made.status.clone_from(&pod("a", 3 * 24 * 60, "True").status);
    registry.api::<Pods>().modify_status(&ObjectKey::of(&made.metadata), ready).await.unwrap();
    let uid = made.metadata.uid.clone().unwrap();
    *known.0.lock().unwrap() = vec![PodUsage { uid, at: registry.clock().now(), ..usage("a", 200) }];
    let mut hpa = hpa(CPU_50);
    let target = &mut hpa.spec.scale_target_ref;
    (target.kind, target.api_version) = (info.kind.to_owned(), Some(info.api_version()));
    registry.api::<HorizontalPodAutoscalers>().create(hpa).await.unwrap();
    let replicas = || {
        let entry = registry.entry(K::erased(), &ObjectKey::new("default", "web")).unwrap();
        let object = K::erased().decode_bytes(&entry.value).unwrap();
        K::erased().scale(&*object).unwrap().spec_replicas
    };
    let deadline = tokio::time::Instant::now() + Duration::from_secs(1);
    while replicas() != 4 {
        let hpa = registry.api::<HorizontalPodAutoscalers>().get(&ObjectKey::new("default", "w")).unwrap();
        assert!(tokio::time::Instant::now() < deadline, "{} has {}: {:?}", info.kind, replicas(), hpa.status);
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
}

#[tokio::test(start_paused = true)]
async fn every_kind_that_scales_is_scaled() {
    let template = "template: {metadata: {labels: {app: web}}, spec: {containers: [{name: c, image: i}]}}";
    let selected = |more: &str| {
        format!(
            "{{metadata: {{name: web, namespace: default}}, spec: {{replicas: 1, {more} selector: {{matchLabels: {{app: web}}}}, {template}}}}}"
        )
    };
    let plain = format!(
        "{{metadata: {{name: web, namespace: default}}, spec: {{replicas: 1, selector: {{app: web}}, {template}}}}}"
    );
    is_scaled::<Deployments>(&selected("")).await;
    is_scaled::<ReplicaSets>(&selected("")).await;
    is_scaled::<StatefulSets>(&selected("serviceName: web,")).await;
    is_scaled::<ReplicationControllers>(&plain).await;
    is_scaled::<DeploymentConfigs>(&plain).await;
}

#[test]
fn policies_bound_the_way_down_too_and_the_least_may_be_chosen() {
    let down = |rules: &str, millis: u64| {
        let spec = format!(
            "{}, behavior: {{scaleDown: {{stabilizationWindowSeconds: 0, {rules}}}}}",
            CPU_50.replace("maxReplicas: 10", "maxReplicas: 100")
        );
        let names: Vec<String> = (0..10).map(|i| format!("p{i}")).collect();
        let pods = names.iter().map(|name| pod(name, 30, "True")).collect();
        let usages = names.iter().map(|name| usage(name, millis)).collect();
        let plan = decide(&observed(&spec, 10, pods, usages));
        (plan.rescale.map_or(10, |r| r.replicas), told(&plan.status)["ScalingLimited"].clone())
    };
    let both = "policies: [{type: Pods, value: 2, periodSeconds: 60}, {type: Percent, value: 50, periodSeconds: 60}]";
    assert_eq!(down(both, 5), (5, "True ScaleDownLimit".to_owned()), "the greater change");
    assert_eq!(down(&format!("selectPolicy: Min, {both}"), 5), (8, "True ScaleDownLimit".to_owned()));
    assert_eq!(down(&format!("selectPolicy: Disabled, {both}"), 5).0, 10);
    assert_eq!(down(both, 40), (8, "False DesiredWithinRange".to_owned()), "what is wanted is less far");
    assert_eq!(down("tolerance: '0.3'", 40).0, 10);
}

//! Decisions of the scheduler as a table of nodes, pods and what is said of them.

#![allow(clippy::needless_raw_string_hashes, reason = "expect-test writes them")]

use super::{Observed, Scheduler, claims};
use crate::{
    api::{kinds::pod::Pods, meta::ObjectKey},
    base::ordered::Map,
    controllers::runtime::{Controller as _, Report},
};
use expect_test::expect;
use k8s_openapi::api::core::v1::{Node, Pod};
use serde_json::{Value, json};
use std::{collections::BTreeMap, sync::Arc};

fn node(changes: &str) -> Node {
    let spec: serde_yaml::Value = crate::testing::from_yaml(changes).unwrap();
    let mut node: Node = crate::testing::from_yaml(
        "
metadata: {name: skiff, labels: {kubernetes.io/hostname: skiff, disk: ssd, gen: '7'}}
status: {allocatable: {cpu: '4', memory: 8Gi, pods: '3'}}
",
    )
    .unwrap();
    node.spec = Some(serde_yaml::from_value(spec).unwrap());
    node
}

fn pod(name: &str, spec: &str) -> Pod {
    let mut spec: Value = crate::testing::from_yaml(spec).unwrap();
    if spec.get("containers").is_none() {
        spec["containers"] = json!([{ "name": "c" }]);
    }
    let labels = spec.as_object_mut().unwrap().remove("labels").unwrap_or(json!({ "app": name }));
    serde_json::from_value(json!({
        "metadata": { "name": name, "namespace": "default", "uid": name, "resourceVersion": "1", "labels": labels },
        "spec": spec, "status": { "phase": "Pending" },
    }))
    .unwrap()
}

fn observed(nodes: Vec<Node>, pods: Vec<Pod>) -> Observed {
    let labels = [("kubernetes.io/metadata.name".to_owned(), "default".to_owned())];
    Observed {
        pods: pods.into_iter().map(Arc::new).collect(),
        nodes: nodes.into_iter().map(Arc::new).collect(),
        namespaces: Map::from([("default".to_owned(), labels.into())]),
        budgets: Vec::new(),
        claims: Map::new(),
        now: "2026-01-01T00:00:00Z".parse().unwrap(),
    }
}

/// `pod: what is said of it`, a line each.
fn said(observed: &Observed) -> String {
    let decision = Scheduler.decide(observed);
    let line = |planned: &crate::controllers::runtime::Planned| {
        let name = planned.action.name();
        if let Report::OnSuccess(event) = &planned.report {
            return format!("{name}: {}", event.message);
        }
        let pod = planned.action.object::<Pods>().unwrap();
        let condition = &pod.status.as_ref().unwrap().conditions.as_ref().unwrap()[0];
        format!("{name}: {} {}", condition.reason.as_ref().unwrap(), condition.message.as_ref().unwrap())
    };
    decision.planned().map(line).collect::<Vec<_>>().join("\n")
}

/// What is said of one pod, without the parts that are the same for all.
fn reason(node_changes: &str, others: Vec<Pod>, spec: &str) -> String {
    let pods = others.into_iter().chain([pod("p", spec)]).collect();
    let text = said(&observed(vec![node(node_changes)], pods));
    let text = text.strip_prefix("p: ").unwrap_or(&text);
    match text.strip_prefix("0/1 nodes are available: ") {
        Some(rest) => rest.split(". no new claims").next().unwrap().to_owned(),
        None => text.split(' ').next().unwrap_or_default().to_owned(),
    }
}

#[test]
fn a_pod_is_bound_to_the_node_that_can_take_it() {
    let o = observed(vec![node("{}")], vec![pod("a", "{}"), pod("b", "{schedulerName: default-scheduler}")]);
    expect![[r#"
        a: Successfully assigned default/a to skiff
        b: Successfully assigned default/b to skiff"#]]
    .assert_eq(&said(&o));
    let decision = Scheduler.decide(&o);
    let bound = decision.planned().next().unwrap().action.object::<Pods>().unwrap();
    assert_eq!(bound.spec.as_ref().unwrap().node_name.as_deref(), Some("skiff"));
}

#[test]
fn a_pod_that_no_node_can_take_is_told_why() {
    let o = observed(vec![node("{}")], vec![pod("a", "{nodeSelector: {disk: tape}}")]);
    expect!["a: 0/1 nodes are available: 1 node(s) didn't match Pod's node affinity/selector. no new claims to deallocate, preemption: 0/1 nodes are available: 1 Preemption is not helpful for scheduling."].assert_eq(&said(&o));
    expect!["a: no nodes available to schedule pods"].assert_eq(&said(&observed(vec![], vec![pod("a", "{}")])));
    // What is told already is not told again.
    let decision = Scheduler.decide(&o);
    let noted = decision.planned().next().unwrap().action.object::<Pods>().unwrap().clone();
    assert!(Scheduler.decide(&observed(vec![node("{}")], vec![noted])).is_rest());
}

#[test]
fn every_filter_says_no_in_its_own_words() {
    let runs = |name: &str, spec: &str| {
        let mut p = pod(name, spec);
        p.spec.as_mut().unwrap().node_name = Some("skiff".into());
        p
    };
    let requests =
        |cpu: &str| format!("{{containers: [{{name: c, resources: {{requests: {{cpu: {cpu}, memory: 1Gi}}}}}}]}}");
    let tainted = "{taints: [{key: k, value: v, effect: NoSchedule}]}";
    let host_port = "{containers: [{name: c, ports: [{containerPort: 80, hostPort: 80, protocol: TCP}]}]}";
    let anti = "{labels: {app: db}, affinity: {podAntiAffinity: {requiredDuringSchedulingIgnoredDuringExecution: [{topologyKey: kubernetes.io/hostname, labelSelector: {matchLabels: {app: db}}}]}}}";
    let near = |app: &str| {
        format!(
            "{{labels: {{app: x}}, affinity: {{podAffinity: {{requiredDuringSchedulingIgnoredDuringExecution: [{{topologyKey: kubernetes.io/hostname, labelSelector: {{matchLabels: {{app: {app}}}}}}}]}}}}}}"
        )
    };
    let spread = |key: &str, min: u8| {
        format!(
            "{{labels: {{app: x}}, topologySpreadConstraints: [{{maxSkew: 1, minDomains: {min}, topologyKey: {key}, whenUnsatisfiable: DoNotSchedule, labelSelector: {{matchLabels: {{app: x}}}}}}]}}"
        )
    };
    let node_affinity = |expression: &str| {
        format!(
            "{{affinity: {{nodeAffinity: {{requiredDuringSchedulingIgnoredDuringExecution: {{nodeSelectorTerms: [{{matchExpressions: [{expression}]}}]}}}}}}}}"
        )
    };
    let full = || (0..3).map(|i| runs(&format!("r{i}"), "{}")).collect::<Vec<_>>();
    let ok = "Successfully";
    let cases = [
        ("{unschedulable: true}", vec![], "{}".to_owned(), "1 node(s) were unschedulable"),
        ("{unschedulable: true}", vec![], "{tolerations: [{operator: Exists}]}".to_owned(), ok),
        (tainted, vec![], "{}".to_owned(), "1 node(s) had untolerated taint(s)"),
        (tainted, vec![], "{tolerations: [{key: k, value: v}]}".to_owned(), ok),
        (tainted, vec![], "{tolerations: [{key: k, value: w}]}".to_owned(), "1 node(s) had untolerated taint(s)"),
        (tainted, vec![], "{tolerations: [{key: k, operator: Exists, effect: NoSchedule}]}".to_owned(), ok),
        ("{taints: [{key: k, effect: PreferNoSchedule}]}", vec![], "{}".to_owned(), ok),
        ("{}", vec![], node_affinity("{key: disk, operator: In, values: [ssd]}"), ok),
        ("{}", vec![], node_affinity("{key: gen, operator: Gt, values: ['6']}"), ok),
        (
            "{}",
            vec![],
            node_affinity("{key: gen, operator: Lt, values: ['7']}"),
            "1 node(s) didn't match Pod's node affinity/selector",
        ),
        (
            "{}",
            vec![],
            node_affinity("{key: none, operator: Exists}"),
            "1 node(s) didn't match Pod's node affinity/selector",
        ),
        (
            "{}",
            vec![runs("r", host_port)],
            host_port.to_owned(),
            "1 node(s) didn't have free ports for the requested pod ports",
        ),
        ("{}", vec![], host_port.to_owned(), ok),
        ("{}", full(), "{}".to_owned(), "1 Too many pods"),
        ("{}", vec![runs("r", &requests("3"))], requests("1500m"), "1 Insufficient cpu"),
        ("{}", vec![runs("r", &requests("3"))], requests("1000m"), ok),
        ("{}", vec![runs("r", anti)], anti.to_owned(), "1 node(s) didn't match pod anti-affinity rules"),
        (
            "{}",
            vec![runs("r", anti)],
            "{labels: {app: db}}".to_owned(),
            "1 node(s) didn't satisfy existing pods anti-affinity rules",
        ),
        ("{}", vec![], near("other"), "1 node(s) didn't match pod affinity rules"),
        ("{}", vec![], near("x"), ok),
        ("{}", vec![runs("other", "{}")], near("other"), ok),
        ("{}", vec![], spread("kubernetes.io/hostname", 1), ok),
        (
            "{}",
            vec![runs("x", "{}")],
            spread("kubernetes.io/hostname", 2),
            "1 node(s) didn't match pod topology spread constraints",
        ),
        (
            "{}",
            vec![],
            spread("zone", 1),
            "1 node(s) didn't match pod topology spread constraints (missing required label)",
        ),
    ];
    for (node_changes, others, spec, expected) in cases {
        assert_eq!(reason(node_changes, others, &spec), expected, "{node_changes} {spec}");
    }
}

#[test]
fn pods_of_one_pass_do_not_take_the_same_place() {
    let wants = |name: &str, priority: i32| {
        pod(
            name,
            &format!("{{priority: {priority}, containers: [{{name: c, resources: {{requests: {{cpu: '2'}}}}}}]}}"),
        )
    };
    let o = observed(vec![node("{}")], vec![wants("low", 0), wants("middle", 5), wants("high", 9)]);
    expect![[r#"
        high: Successfully assigned default/high to skiff
        middle: Successfully assigned default/middle to skiff
        low: 0/1 nodes are available: 1 Insufficient cpu. no new claims to deallocate, preemption: 0/1 nodes are available: 1 No preemption victims found for incoming pod."#]].assert_eq(&said(&o));
}

#[test]
fn gated_pods_and_those_of_other_schedulers_are_left_alone() {
    let mut goes = pod("goes", "{}");
    goes.metadata.deletion_timestamp =
        Some(k8s_openapi::apimachinery::pkg::apis::meta::v1::Time("2026-01-01T00:00:00Z".parse().unwrap()));
    let pods = vec![pod("gated", "{schedulingGates: [{name: wait}]}"), pod("other", "{schedulerName: mine}"), goes];
    expect!["gated: SchedulingGated Scheduling is blocked due to non-empty scheduling gates"]
        .assert_eq(&said(&observed(vec![node("{}")], pods)));
}

#[test]
fn init_containers_and_overhead_count_as_kubernetes_counts_them() {
    let p = pod(
        "p",
        "
initContainers:
- {name: side, restartPolicy: Always, resources: {requests: {cpu: 100m}}}
- {name: big, resources: {requests: {cpu: '2'}}}
containers:
- {name: a, resources: {requests: {cpu: 500m, memory: 1Gi}}}
- {name: b, resources: {requests: {cpu: 500m}}}
overhead: {cpu: 50m}
",
    );
    let text: Vec<String> =
        super::candidate::requests(&p).iter().map(|(name, amount)| format!("{name}={}", amount.to_text().0)).collect();
    assert_eq!(text, ["cpu=2150m", "memory=1Gi"]);
}

#[test]
fn a_pod_waits_for_its_claims_and_names_a_node_for_those_that_bind_late() {
    let of = |claim: Option<claims::Claim>| {
        let pod = pod("web", "{volumes: [{name: d, persistentVolumeClaim: {claimName: data}}]}");
        let mut observed = observed(vec![node("{}")], vec![pod]);
        observed.claims.extend(claim.map(|claim| (ObjectKey::new("default", "data"), claim)));
        Scheduler.decide(&observed).to_text()
    };
    assert!(of(None).contains("0/1 nodes are available: persistentvolumeclaim \"data\" not found."), "{}", of(None));
    assert!(of(Some(claims::Claim::Going)).contains("persistentvolumeclaim \"data\" is being deleted"));
    assert!(of(Some(claims::Claim::Unbound)).contains("pod has unbound immediate PersistentVolumeClaims"));
    let claim = json!({
        "metadata": { "name": "data", "namespace": "default", "resourceVersion": "1" },
        "spec": { "accessModes": ["ReadWriteOnce"], "resources": { "requests": { "storage": "1Gi" } } },
    });
    let waits = of(Some(claims::Claim::Waiting(claim.clone())));
    assert_eq!(waits, "update PersistentVolumeClaim default/data (its pod has a node to go to)");
    let mut named = claim;
    named["metadata"]["annotations"] = json!({ "volume.kubernetes.io/selected-node": "n" });
    assert_eq!(of(Some(claims::Claim::Waiting(named))), "", "its volume is being made");
    let bound = |nodes: Value| claims::Claim::Bound {
        nodes: serde_json::from_value(json!({ "nodeSelectorTerms": [{ "matchExpressions": nodes }] })).unwrap(),
        is_for_one_pod: false,
    };
    let there = bound(json!([{ "key": "disk", "operator": "Exists" }]));
    assert!(of(Some(there)).contains("Scheduled"), "a disk it has");
    let elsewhere = bound(json!([{ "key": "tape", "operator": "Exists" }]));
    assert!(of(Some(elsewhere)).contains("1 node(s) didn't match PersistentVolume's node affinity"));
}

/// Where the pods of a world of three nodes are put: `pod@node`, in order.
fn places(changes: [&str; 3], pods: Vec<Pod>) -> String {
    let named = |(name, changes): (&str, &str)| {
        let mut node = node(changes);
        node.metadata.name = Some(name.to_owned());
        node.metadata.labels = Some(BTreeMap::from([("kubernetes.io/hostname".to_owned(), name.to_owned())]));
        let allocatable = node.status.as_mut().unwrap().allocatable.as_mut().unwrap();
        allocatable.get_mut("pods").unwrap().0 = "110".to_owned();
        node
    };
    let nodes = ["a", "b", "c"].into_iter().zip(changes).map(named).collect();
    let decision = Scheduler.decide(&observed(nodes, pods));
    let place = |planned: &crate::controllers::runtime::Planned| {
        let pod = planned.action.object::<Pods>().unwrap();
        let node = pod.spec.as_ref().unwrap().node_name.clone().unwrap_or_default();
        format!("{}@{node}", planned.action.name())
    };
    decision.planned().map(place).collect::<Vec<_>>().join(" ")
}

fn on(node: &str, mut pod: Pod) -> Pod {
    pod.spec.as_mut().unwrap().node_name = Some(node.to_owned());
    pod
}

#[test]
fn of_the_nodes_that_can_take_a_pod_it_gets_the_one_that_suits_it() {
    let plain = ["{}"; 3];
    let three = || ["p", "q", "r"].map(|name| pod(name, "{labels: {app: web}}")).to_vec();
    assert_eq!(places(plain, three()), "p@a q@b r@c");
    // A node that would rather not have it, and one with more room.
    let shy = "{taints: [{key: k, effect: PreferNoSchedule}]}";
    assert_eq!(places([shy, "{}", "{}"], vec![pod("p", "{}")]), "p@b");
    let heavy = "{containers: [{name: c, resources: {requests: {cpu: '3'}}}]}";
    assert_eq!(places(plain, vec![on("a", pod("h", heavy)), on("b", pod("g", heavy)), pod("p", "{}")]), "p@c");
    // What it prefers itself.
    let prefers = |value: &str| {
        format!(
            "{{affinity: {{nodeAffinity: {{preferredDuringSchedulingIgnoredDuringExecution: [{{weight: 10, preference: {{matchExpressions: \
             [{{key: kubernetes.io/hostname, operator: In, values: [{value}]}}]}}}}]}}}}}}"
        )
    };
    assert_eq!(places(plain, vec![pod("p", &prefers("c"))]), "p@c");
    let near = |which: &str| {
        format!(
            "{{affinity: {{{which}: {{preferredDuringSchedulingIgnoredDuringExecution: [{{weight: 10, podAffinityTerm: {{topologyKey: \
             kubernetes.io/hostname, labelSelector: {{matchLabels: {{app: db}}}}}}}}]}}}}}}"
        )
    };
    let db = |node: &str| on(node, pod("db", "{labels: {app: db}}"));
    assert_eq!(places(plain, vec![db("b"), pod("p", &near("podAffinity"))]), "p@b");
    assert_eq!(places(plain, vec![db("a"), pod("p", &near("podAntiAffinity"))]), "p@b");
    // A wish to be spread, where everything else says otherwise.
    let spread = "{labels: {app: web}, topologySpreadConstraints: [{maxSkew: 1, topologyKey: kubernetes.io/hostname, whenUnsatisfiable: \
                  ScheduleAnyway, labelSelector: {matchLabels: {app: web}}}]}";
    let others = [on("a", pod("x", "{labels: {app: web}}")), on("b", pod("y", "{labels: {app: web}}"))];
    let fill = on("c", pod("z", "{}"));
    assert_eq!(places(plain, others.into_iter().chain([fill, pod("p", spread)]).collect()), "p@c");
}

/// A pod that runs on `node` since so many seconds after midnight, with a priority, and asks for a processor.
fn running(name: &str, node: &str, priority: i32, since: u8) -> Pod {
    let spec = format!(
        "{{nodeName: {node}, priority: {priority}, containers: [{{name: c, resources: {{requests: {{cpu: '1'}}}}}}]}}"
    );
    let mut pod = pod(name, &spec);
    let status = format!("{{phase: Running, startTime: '2026-01-01T00:00:{since:02}Z'}}");
    pod.status = crate::testing::from_yaml(&status).unwrap();
    pod
}

/// A pod that waits, with a priority, and asks for so many processors.
fn waiting(name: &str, priority: i32, cpu: u8) -> Pod {
    let spec =
        format!("{{priority: {priority}, containers: [{{name: c, resources: {{requests: {{cpu: '{cpu}'}}}}}}]}}");
    pod(name, &spec)
}

/// A node of four processors.
fn place(name: &str) -> Node {
    let mut node = node("{}");
    node.metadata.name = Some(name.to_owned());
    node.status = crate::testing::from_yaml("{allocatable: {cpu: '4', memory: 8Gi, pods: '20'}}").unwrap();
    node
}

/// Who goes for whom: `victims -> node`, and what is said.
fn preempted(observed: &Observed) -> String {
    let decision = Scheduler.decide(observed);
    let mut lines = Vec::new();
    for planned in decision.planned() {
        let why = match &planned.report {
            Report::OnSuccess(event) => format!(": {} {}", event.reason, event.message),
            _ => String::new(),
        };
        let node = planned.action.object::<Pods>().and_then(|pod| pod.status.as_ref()?.nominated_node_name.clone());
        lines.push(format!("{:?}{}{why}", planned.action, node.map(|node| format!(" for {node}")).unwrap_or_default()));
    }
    lines.join("\n")
}

#[test]
fn a_pod_that_matters_more_gets_the_room_of_those_that_matter_less() {
    let full = |n: &str| (0..4).map(|i| running(&format!("{n}{i}"), n, 10 + i, 10)).collect::<Vec<_>>();
    let world = observed(vec![place("n")], full("n").into_iter().chain([waiting("big", 100, 2)]).collect());
    expect![[r#"
        update status of Pod default/big for n: FailedScheduling 0/1 nodes are available: 1 Insufficient cpu.
        update status of Pod default/n1
        update status of Pod default/n0
        delete Pod default/n1: Preempted Preempted by pod big on node n
        delete Pod default/n0: Preempted Preempted by pod big on node n"#]]
    .assert_eq(&preempted(&world));
    // Its own kind, or who matters more, is left alone; nor does one go whose policy is Never.
    let equal = observed(vec![place("n")], full("n").into_iter().chain([waiting("p", 10, 1)]).collect());
    expect!["update status of Pod default/p: FailedScheduling 0/1 nodes are available: 1 Insufficient cpu. no new claims to deallocate, preemption: 0/1 nodes are available: 1 No preemption victims found for incoming pod."].assert_eq(&preempted(&equal));
    let mut never = waiting("p", 100, 1);
    never.spec.as_mut().unwrap().preemption_policy = Some("Never".into());
    expect!["update status of Pod default/p: FailedScheduling 0/1 nodes are available: 1 Insufficient cpu. no new claims to deallocate, preemption: not eligible due to preemptionPolicy=Never."].assert_eq(&preempted(&observed(vec![place("n")], full("n").into_iter().chain([never]).collect())));
    // Nobody goes where it would not help.
    let huge = observed(vec![place("n")], full("n").into_iter().chain([waiting("p", 100, 5)]).collect());
    expect!["update status of Pod default/p: FailedScheduling 0/1 nodes are available: 1 Insufficient cpu. no new claims to deallocate, preemption: 0/1 nodes are available: 1 Preemption is not helpful for scheduling."].assert_eq(&preempted(&huge));
}

#[test]
fn room_that_is_being_made_is_kept_for_whom_it_is_made() {
    let going = |name: &str| {
        let mut pod = running(name, "n", 0, 0);
        pod.metadata.deletion_timestamp = crate::testing::from_yaml("'2026-01-01T00:00:00Z'").unwrap();
        pod
    };
    let mut first = waiting("first", 100, 2);
    first.status = crate::testing::from_yaml("{phase: Pending, nominatedNodeName: n}").unwrap();
    let pods = vec![going("a"), going("b"), running("c", "n", 200, 0), running("d", "n", 200, 0)];
    let world = observed(vec![place("n")], pods.into_iter().chain([first.clone(), waiting("late", 50, 1)]).collect());
    expect![[r#"
        update status of Pod default/first for n: FailedScheduling 0/1 nodes are available: 1 Insufficient cpu. no new claims to deallocate, preemption: not eligible due to a terminating pod on the nominated node.
        update status of Pod default/late: FailedScheduling 0/1 nodes are available: 1 Insufficient cpu. no new claims to deallocate, preemption: 0/1 nodes are available: 1 Insufficient cpu."#]].assert_eq(&preempted(&world));
    // They are gone: it gets its place, and who matters less does not.
    let pods = vec![running("c", "n", 200, 0), running("d", "n", 200, 0)];
    let world = observed(vec![place("n")], pods.into_iter().chain([first, waiting("late", 50, 1)]).collect());
    expect![[r#"
        update Pod default/first for n: Scheduled Successfully assigned default/first to n
        update status of Pod default/late: FailedScheduling 0/1 nodes are available: 1 Insufficient cpu. no new claims to deallocate, preemption: 0/1 nodes are available: 1 No preemption victims found for incoming pod."#]].assert_eq(&preempted(&world));
}

#[test]
fn least_is_lost() {
    let victims = |pods: Vec<Pod>, budgets: &[&str]| {
        let mut world = observed(vec![place("n"), place("m")], pods);
        world.budgets = budgets.iter().map(|text| Arc::new(crate::testing::from_yaml(text).unwrap())).collect();
        let decision = Scheduler.decide(&world);
        let deleted = decision.planned().filter(|planned| format!("{:?}", planned.action).starts_with("delete"));
        deleted.map(|planned| planned.action.name()).collect::<Vec<_>>().join(" ")
    };
    let all = |n: [i32; 4], m: [i32; 4]| {
        let of = |node: &str, all: [i32; 4]| {
            let pods = all.into_iter().enumerate();
            let pods =
                pods.map(|(i, priority)| running(&format!("{node}{i}"), node, priority, u8::try_from(i).unwrap()));
            pods.collect::<Vec<_>>()
        };
        of("n", n).into_iter().chain(of("m", m)).chain([waiting("p", 100, 2)]).collect::<Vec<_>>()
    };
    assert_eq!(victims(all([9, 9, 1, 1], [9, 9, 2, 2]), &[]), "n2 n3", "the lowest of the highest");
    assert_eq!(victims(all([9, 9, 5, 4], [9, 9, 5, 1]), &[]), "m2 m3", "the lowest sum");
    assert_eq!(victims(all([9, 9, 9, 9], [8, 8, 8, 8]), &[]), "m2 m3", "those that started last");
    let keep = "{metadata: {name: b, namespace: default}, spec: {selector: {matchLabels: {app: m3}}}, status: {disruptionsAllowed: 0}}";
    assert_eq!(
        victims(all([9, 9, 5, 4], [9, 9, 5, 1]), &[keep]),
        "n2 n3",
        "no budget is broken where there is a choice"
    );
    let both = "{metadata: {name: b, namespace: default}, spec: {selector: {}}, status: {disruptionsAllowed: 0}}";
    assert_eq!(victims(all([9, 9, 5, 4], [9, 9, 5, 1]), &[both]), "m2 m3", "where there is none, it is");
}

//! Decisions of the endpoints controller as tables and snapshots.

#![allow(clippy::needless_raw_string_hashes, reason = "expect-test writes them")]

use super::{EndpointsController, Observed};
use crate::{
    api::agreements::SERVICE_NAME_LABEL,
    api::kinds::{endpoint_slice::EndpointSlices, endpoints::EndpointsKind},
    controllers::runtime::{Action, Controller as _, Decision},
};
use expect_test::expect;
use k8s_openapi::api::{
    core::v1::{Pod, Service},
    discovery::v1::EndpointSlice,
};
use proptest::prelude::*;
use std::{collections::BTreeMap, sync::Arc};

fn service(spec: &str) -> Service {
    crate::testing::from_yaml(
        "
metadata: {name: web, namespace: default, uid: svc-uid, labels: {team: a}}
spec: {clusterIP: 10.245.0.7, selector: {app: web}, ports: [{port: 80, targetPort: 8080}]}
",
    )
    .map(|mut s: Service| {
        let changes: k8s_openapi::api::core::v1::ServiceSpec = crate::testing::from_yaml(spec).unwrap();
        let own = s.spec.as_mut().unwrap();
        own.ports = changes.ports.or(own.ports.take());
        own.publish_not_ready_addresses = changes.publish_not_ready_addresses;
        own.cluster_ip = changes.cluster_ip.or(own.cluster_ip.take());
        s
    })
    .unwrap()
}

/// A running pod; `flags` may say `unready`, `going`, `done`, `no-ip`.
fn pod(n: u8, flags: &str) -> Pod {
    let ready = if flags.contains("unready") { "False" } else { "True" };
    let going = if flags.contains("going") { "deletionTimestamp: '2026-01-01T00:00:00Z'," } else { "" };
    let phase = if flags.contains("done") { "Succeeded" } else { "Running" };
    let ip = if flags.contains("no-ip") {
        String::new()
    } else {
        format!("podIP: 10.244.0.{n}, podIPs: [{{ip: 10.244.0.{n}}}],")
    };
    let port = if flags.contains("named") { 9000 + i32::from(n) } else { 8080 };
    crate::testing::from_yaml(&format!(
        "
metadata: {{name: web-{n:03}, namespace: default, uid: uid-{n}, {going} labels: {{app: web}}}}
spec: {{nodeName: skiff, containers: [{{name: c, ports: [{{name: http, containerPort: {port}}}]}}]}}
status: {{phase: {phase}, {ip} conditions: [{{type: Ready, status: '{ready}'}}]}}
"
    ))
    .unwrap()
}

fn observed(service: Service, pods: Vec<Pod>) -> Observed {
    Observed {
        service: Some(Arc::new(service)),
        pods: pods.into_iter().map(Arc::new).collect(),
        slices: Vec::new(),
        endpoints: None,
        zones: BTreeMap::new(),
        namespace_goes: false,
    }
}

/// Carries a decision out; how many slices were written or deleted.
fn apply(observed: &mut Observed, made: &mut u32) -> usize {
    let decision = EndpointsController.decide(observed);
    let mut writes = 0;
    for planned in decision.planned() {
        match &planned.action {
            Action::Delete { key, .. } => {
                observed.slices.retain(|s| s.metadata.name.as_deref() != Some(key.name.as_str()));
                writes += 1;
            }
            action => {
                if let Some(endpoints) = action.object::<EndpointsKind>() {
                    observed.endpoints = Some(Arc::new(endpoints.clone()));
                    continue;
                }
                let mut slice =
                    action.object::<EndpointSlices>().expect("only slices and Endpoints are written").clone();
                if slice.metadata.name.is_none() {
                    *made += 1;
                    slice.metadata.name = Some(format!("web-{made:04}"));
                }
                slice.metadata.resource_version = Some("1".into());
                observed.slices.retain(|s| s.metadata.name != slice.metadata.name);
                observed.slices.push(Arc::new(slice));
                observed.slices.sort_by(|a, b| a.metadata.name.cmp(&b.metadata.name));
                writes += 1;
            }
        }
    }
    writes
}

fn yaml_of(decision: &Decision) -> String {
    let slices = decision.planned().filter_map(|p| p.action.object::<EndpointSlices>()).map(serde_yaml::to_string);
    let endpoints = decision.planned().filter_map(|p| p.action.object::<EndpointsKind>()).map(serde_yaml::to_string);
    slices.chain(endpoints).map(Result::unwrap).collect::<Vec<_>>().join("---\n")
}

#[test]
fn a_service_gets_a_slice_and_endpoints() {
    let o = observed(service("{}"), vec![pod(1, ""), pod(2, "unready"), pod(3, "done"), pod(4, "no-ip")]);
    expect![[r#"
        apiVersion: discovery.k8s.io/v1
        kind: EndpointSlice
        addressType: IPv4
        endpoints:
        - addresses:
          - 10.244.0.1
          conditions:
            ready: true
            serving: true
            terminating: false
          nodeName: skiff
          targetRef:
            kind: Pod
            name: web-001
            namespace: default
            uid: uid-1
        - addresses:
          - 10.244.0.2
          conditions:
            ready: false
            serving: false
            terminating: false
          nodeName: skiff
          targetRef:
            kind: Pod
            name: web-002
            namespace: default
            uid: uid-2
        metadata:
          annotations:
            skiff.dev/unprobed-pods: web-001,web-002
          generateName: web-
          labels:
            endpointslice.kubernetes.io/managed-by: endpointslice-controller.k8s.io
            kubernetes.io/service-name: web
            team: a
          namespace: default
          ownerReferences:
          - apiVersion: v1
            blockOwnerDeletion: true
            controller: true
            kind: Service
            name: web
            uid: svc-uid
        ports:
        - name: ''
          port: 8080
          protocol: TCP
        ---
        apiVersion: v1
        kind: Endpoints
        metadata:
          labels:
            endpoints.kubernetes.io/managed-by: endpoint-controller
            team: a
          name: web
          namespace: default
        subsets:
        - addresses:
          - ip: 10.244.0.1
            nodeName: skiff
            targetRef:
              kind: Pod
              name: web-001
              namespace: default
              uid: uid-1
          notReadyAddresses:
          - ip: 10.244.0.2
            nodeName: skiff
            targetRef:
              kind: Pod
              name: web-002
              namespace: default
              uid: uid-2
          ports:
          - port: 8080
            protocol: TCP
    "#]]
    .assert_eq(&yaml_of(&EndpointsController.decide(&o)));
}

#[test]
fn a_service_without_endpoints_has_one_empty_slice_which_is_used_later() {
    let mut o = observed(service("{clusterIP: None}"), vec![]);
    let mut made = 0;
    assert_eq!(apply(&mut o, &mut made), 1);
    assert_eq!(o.slices[0].endpoints, None);
    assert_eq!(o.slices[0].metadata.labels.as_ref().unwrap()["service.kubernetes.io/headless"], "");
    assert!(EndpointsController.decide(&o).is_rest());
    let name = o.slices[0].metadata.name.clone();
    o.pods = vec![Arc::new(pod(1, ""))];
    assert_eq!(apply(&mut o, &mut made), 1);
    assert_eq!((o.slices.len(), o.slices[0].metadata.name.clone()), (1, name));
    o.pods.clear();
    apply(&mut o, &mut made);
    assert_eq!((o.slices.len(), o.slices[0].endpoints.clone()), (1, None));
}

/// `ready serving terminating` of each endpoint.
fn conditions(slices: &[Arc<EndpointSlice>]) -> Vec<(bool, bool, bool)> {
    let all = slices.iter().flat_map(|s| s.endpoints.iter().flatten());
    all.map(|e| {
        let c = e.conditions.clone().unwrap();
        (c.ready.unwrap(), c.serving.unwrap(), c.terminating.unwrap())
    })
    .collect()
}

#[test]
fn conditions_tell_ready_serving_and_terminating_apart() {
    let pods = || vec![pod(1, ""), pod(2, "unready"), pod(3, "going"), pod(4, "going unready")];
    let mut o = observed(service("{}"), pods());
    apply(&mut o, &mut 0);
    assert_eq!(
        conditions(&o.slices),
        [(true, true, false), (false, false, false), (false, true, true), (false, false, true)]
    );
    let subsets = o.endpoints.as_ref().unwrap().subsets.clone().unwrap();
    assert_eq!(subsets[0].addresses.as_ref().unwrap().len(), 1);
    assert_eq!(subsets[0].not_ready_addresses.as_ref().unwrap().len(), 1);
    let mut o = observed(service("{publishNotReadyAddresses: true}"), pods());
    apply(&mut o, &mut 0);
    assert!(conditions(&o.slices).iter().all(|c| c.0));
    assert_eq!(o.endpoints.as_ref().unwrap().subsets.as_ref().unwrap()[0].addresses.as_ref().unwrap().len(), 4);
}

#[test]
fn named_ports_are_resolved_per_pod_and_grouped() {
    let spec = "{ports: [{name: web, port: 80, targetPort: http}, {name: none, port: 81, targetPort: nope}]}";
    let mut o = observed(service(spec), vec![pod(1, "named"), pod(2, "named"), pod(3, ""), pod(4, "")]);
    apply(&mut o, &mut 0);
    let ports: Vec<_> = o.slices.iter().map(|s| s.ports.as_ref().unwrap()[0].port.unwrap()).collect();
    assert_eq!(ports, [9001, 9002, 8080]);
    assert_eq!(o.slices[2].endpoints.as_ref().unwrap().len(), 2);
    assert!(o.slices.iter().all(|s| s.ports.as_ref().unwrap().len() == 1));
    assert_eq!(o.endpoints.unwrap().subsets.as_ref().unwrap().len(), 3);
}

#[test]
fn a_change_of_one_pod_writes_one_slice() {
    let mut o = observed(service("{}"), (0..250).map(|n| pod(n, "")).collect());
    let mut made = 0;
    assert_eq!(apply(&mut o, &mut made), 3);
    assert_eq!(o.slices.iter().map(|s| s.endpoints.as_ref().unwrap().len()).collect::<Vec<_>>(), [100, 100, 50]);
    assert!(EndpointsController.decide(&o).is_rest());
    o.pods[150] = Arc::new(pod(150, "going"));
    assert_eq!(apply(&mut o, &mut made), 1);
    o.pods.remove(10);
    assert_eq!(apply(&mut o, &mut made), 1);
    o.pods.push(Arc::new(pod(251, "")));
    assert_eq!(apply(&mut o, &mut made), 1);
    assert_eq!(o.slices.iter().map(|s| s.endpoints.as_ref().unwrap().len()).collect::<Vec<_>>(), [100, 100, 50]);
    o.pods.truncate(5);
    apply(&mut o, &mut made);
    assert_eq!(o.slices.len(), 1);
}

#[test]
fn only_managed_endpoints_go_with_their_service() {
    let mut o = observed(service("{}"), vec![pod(1, "")]);
    apply(&mut o, &mut 0);
    let gone = Observed { service: None, pods: vec![], ..o.clone() };
    expect!["delete Endpoints default/web (the Service is gone)"]
        .assert_eq(&EndpointsController.decide(&gone).to_text());
    let mut own = gone.clone();
    let mut endpoints = k8s_openapi::api::core::v1::Endpoints::clone(own.endpoints.as_ref().unwrap());
    endpoints.metadata.labels = None;
    own.endpoints = Some(Arc::new(endpoints));
    assert!(EndpointsController.decide(&own).is_rest());
}

#[test]
fn a_service_without_a_selector_is_left_alone() {
    let mut s = service("{}");
    s.spec.as_mut().unwrap().selector = None;
    assert!(EndpointsController.decide(&observed(s, vec![])).is_rest());
    let mut s = service("{}");
    s.spec.as_mut().unwrap().type_ = Some("ExternalName".into());
    assert!(EndpointsController.decide(&observed(s, vec![])).is_rest());
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, cases: 64, ..ProptestConfig::default() })]

    #[test]
    fn slices_always_show_exactly_the_pods(rounds in prop::collection::vec(prop::collection::vec((0..220u8, 0..4u8), 0..150), 1..5)) {
        let mut o = observed(service("{ports: [{port: 80, targetPort: http}]}"), vec![]);
        let mut made = 0;
        for round in rounds {
            let pods: BTreeMap<u8, Pod> = round.into_iter().map(|(n, kind)| {
                (n, pod(n, ["", "unready", "going", if n < 5 { "named" } else { "" }][usize::from(kind)]))
            }).collect();
            let expected: Vec<String> = pods.values().map(|p| p.metadata.uid.clone().unwrap()).collect();
            o.pods = pods.into_values().map(Arc::new).collect();
            apply(&mut o, &mut made);
            let mut shown: Vec<String> = o.slices.iter().flat_map(|s| s.endpoints.iter().flatten())
                .map(|e| e.target_ref.as_ref().unwrap().uid.clone().unwrap()).collect();
            shown.sort();
            let mut expected = expected;
            expected.sort();
            prop_assert_eq!(shown, expected);
            prop_assert!(o.slices.iter().all(|s| s.endpoints.iter().flatten().count() <= 100));
            prop_assert!(o.slices.iter().all(|s| s.metadata.labels.as_ref().unwrap()[SERVICE_NAME_LABEL] == "web"));
            prop_assert!(!o.slices.is_empty());
            prop_assert!(EndpointsController.decide(&o).is_rest(), "at rest nothing is decided");
        }
    }
}

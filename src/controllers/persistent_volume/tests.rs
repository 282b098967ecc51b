//! Tables of what becomes of claims and volumes.

use super::{claim, volume};
use crate::testing::from_yaml;
use expect_test::{Expect, expect};
use serde_json::{Value, json};

fn yaml(text: &str) -> Value {
    from_yaml(text).unwrap()
}

/// A claim of 1Gi of the class `standard`, with more fields.
fn claim(more: &str) -> Value {
    let mut claim = yaml(
        "{metadata: {namespace: default, name: data, uid: 12345678-u, resourceVersion: '1', creationTimestamp: '2026-01-01T00:00:00Z'},
          spec: {accessModes: [ReadWriteOnce], resources: {requests: {storage: 1Gi}}, storageClassName: standard, volumeMode: Filesystem},
          status: {phase: Pending}}",
    );
    merge(&mut claim, yaml(more));
    claim
}

fn volume(name: &str, more: &str) -> Value {
    let mut volume = yaml(
        "{metadata: {uid: v, resourceVersion: '1', creationTimestamp: '2026-01-01T00:00:00Z'},
          spec: {capacity: {storage: 2Gi}, accessModes: [ReadWriteOnce, ReadOnlyMany], storageClassName: standard,
                 volumeMode: Filesystem, persistentVolumeReclaimPolicy: Retain, hostPath: {path: /srv}},
          status: {phase: Available}}",
    );
    volume["metadata"]["name"] = json!(name);
    merge(&mut volume, yaml(more));
    volume
}

fn merge(into: &mut Value, more: Value) {
    match (into, more) {
        (Value::Object(into), Value::Object(more)) => {
            more.into_iter().for_each(|(key, value)| merge(into.entry(key).or_insert(Value::Null), value));
        }
        (into, more) => *into = more,
    }
}

fn class(more: &str) -> Value {
    let mut class = yaml(
        "{metadata: {name: standard}, provisioner: skiff.dev/docker-volume, reclaimPolicy: Delete,
          volumeBindingMode: WaitForFirstConsumer, allowVolumeExpansion: true}",
    );
    merge(&mut class, yaml(more));
    class
}

fn becomes(claim: Value, of_class: Option<Value>, volumes: Vec<Value>, want: Expect) {
    let named = claim.pointer("/spec/volumeName").and_then(Value::as_str).unwrap_or_default().to_owned();
    let volume = volumes.iter().find(|v| v["metadata"]["name"] == named.as_str()).cloned();
    let observed = claim::Observed { claim, volume, volumes, class: of_class, is_used: false };
    want.assert_eq(&claim::decide(&observed).to_text());
}

const SELECTED: &str = "{metadata: {annotations: {volume.kubernetes.io/selected-node: n}}}";

#[test]
fn a_claim_of_a_late_class_waits_for_its_first_pod_and_gets_a_volume_of_its_own() {
    becomes(
        claim("{}"),
        Some(class("{}")),
        vec![],
        expect![[r#"
        Normal WaitForFirstConsumer: waiting for first consumer to be created before binding"#]],
    );
    becomes(
        claim(SELECTED),
        Some(class("{}")),
        vec![],
        expect![[r#"
        create PersistentVolume pvc-12345678-u (the claim's class makes volumes)
        Normal ProvisioningSucceeded: Successfully provisioned volume pvc-12345678-u"#]],
    );
    becomes(
        claim("{}"),
        Some(class("{volumeBindingMode: Immediate}")),
        vec![],
        expect![[r#"
        create PersistentVolume pvc-12345678-u (the claim's class makes volumes)
        Normal ProvisioningSucceeded: Successfully provisioned volume pvc-12345678-u"#]],
    );
}

#[test]
fn a_claim_that_no_class_serves_says_why_it_waits() {
    becomes(
        claim("{}"),
        None,
        vec![],
        expect![[r#"
        Warning ProvisioningFailed: storageclass.storage.k8s.io "standard" not found"#]],
    );
    becomes(
        claim("{spec: {storageClassName: ''}}"),
        None,
        vec![],
        expect![[r#"
        Normal FailedBinding: no persistent volumes available for this claim and no storage class is set"#]],
    );
    becomes(
        claim(SELECTED),
        Some(class("{provisioner: example.com/nfs}")),
        vec![],
        expect![[r#"
        Normal ExternalProvisioning: Waiting for a volume to be created either by the external provisioner 'example.com/nfs' or manually by the system administrator. If volume creation is delayed, please verify that the provisioner is running and correctly registered."#]],
    );
    let block = claim(&SELECTED.replace("}}}", "}}, spec: {volumeMode: Block}}"));
    becomes(
        block,
        Some(class("{}")),
        vec![],
        expect![[r#"
        Warning ProvisioningFailed: failed to provision volume with StorageClass "standard": a Docker volume is no block device: set volumeMode: Filesystem"#]],
    );
}

#[test]
fn a_claim_takes_the_smallest_volume_that_fits_or_the_one_that_is_for_it() {
    let some = || {
        vec![
            volume("small", "{spec: {capacity: {storage: 500Mi}}}"),
            volume("large", "{spec: {capacity: {storage: 9Gi}}}"),
            volume("right", "{}"),
            volume("block", "{spec: {capacity: {storage: 1Gi}, volumeMode: Block}}"),
            volume("other", "{spec: {capacity: {storage: 1Gi}, storageClassName: fast}}"),
            volume("taken", "{spec: {capacity: {storage: 1Gi}, claimRef: {namespace: default, name: x, uid: x}}}"),
            volume("fresh", "{spec: {capacity: {storage: 1Gi}}, status: {phase: Pending}}"),
        ]
    };
    becomes(
        claim(SELECTED),
        Some(class("{}")),
        some(),
        expect![[r#"
        update PersistentVolume right (the volume is for the claim)
        update PersistentVolumeClaim default/data (the claim has the volume)"#]],
    );
    let picky = "{spec: {selector: {matchLabels: {tier: gold}}}}";
    let mut labelled = some();
    labelled.push(volume("gold", "{metadata: {labels: {tier: gold}}, spec: {capacity: {storage: 20Gi}}}"));
    becomes(
        claim(picky),
        Some(class("{volumeBindingMode: Immediate}")),
        labelled,
        expect![[r#"
        update PersistentVolume gold (the volume is for the claim)
        update PersistentVolumeClaim default/data (the claim has the volume)"#]],
    );
    let mut reserved = some();
    reserved.push(volume("mine", "{spec: {claimRef: {namespace: default, name: data}}}"));
    becomes(
        claim("{}"),
        Some(class("{}")),
        reserved,
        expect![[r#"
        update PersistentVolume mine (the volume is for the claim)
        update PersistentVolumeClaim default/data (the claim has the volume)"#]],
    );
}

#[test]
fn a_claim_that_names_its_volume_is_bound_waits_or_has_lost_it() {
    let named = |more: &str| {
        let mut named = claim("{spec: {volumeName: v}}");
        merge(&mut named, yaml(more));
        named
    };
    let done = "{metadata: {annotations: {pv.kubernetes.io/bind-completed: 'yes'}}}";
    let mine = || volume("v", "{spec: {claimRef: {namespace: default, name: data, uid: 12345678-u}}}");
    becomes(named("{}"), Some(class("{}")), vec![], expect![""]);
    becomes(
        named("{}"),
        Some(class("{}")),
        vec![volume("v", "{}")],
        expect![[r#"
        update PersistentVolume v (the claim asks for the volume)"#]],
    );
    let theirs = volume("v", "{spec: {claimRef: {namespace: default, name: x, uid: x}}}");
    becomes(
        named("{}"),
        Some(class("{}")),
        vec![theirs],
        expect![[r#"
        Warning FailedBinding: volume "v" already bound to a different claim."#]],
    );
    becomes(
        named("{}"),
        Some(class("{}")),
        vec![mine()],
        expect![[r#"
        update PersistentVolumeClaim default/data (the claim has the volume)"#]],
    );
    becomes(
        named(done),
        Some(class("{}")),
        vec![mine()],
        expect![[r#"
        update status of PersistentVolumeClaim default/data (the claim is bound)"#]],
    );
    becomes(
        named(done),
        Some(class("{}")),
        vec![],
        expect![[r#"
        update status of PersistentVolumeClaim default/data (the claim's volume is gone)
        Warning ClaimLost: Bound claim has lost its PersistentVolume. Data on the volume is lost!"#]],
    );
    // A Docker volume has no size: a claim that may grow has grown.
    let own = "{spec: {hostPath: null, csi: {driver: skiff.dev/docker-volume, volumeHandle: x}}}";
    let (mut grows, mut ours) = (named(done), mine());
    merge(&mut grows, yaml("{spec: {resources: {requests: {storage: 5Gi}}}}"));
    merge(&mut ours, yaml(own));
    becomes(
        grows,
        Some(class("{}")),
        vec![ours],
        expect![[r#"
        update PersistentVolume v (the claim grows)
        update status of PersistentVolumeClaim default/data (the claim is bound)"#]],
    );
}

#[test]
fn a_claim_that_goes_waits_for_its_pods() {
    let going =
        claim("{metadata: {deletionTimestamp: '2026-01-01T00:00:00Z', finalizers: [kubernetes.io/pvc-protection]}}");
    let decided = |is_used| {
        let observed = claim::Observed { claim: going.clone(), volume: None, volumes: vec![], class: None, is_used };
        claim::decide(&observed).to_text()
    };
    assert_eq!(decided(true), "");
    assert_eq!(decided(false), "update PersistentVolumeClaim default/data (no pod uses the claim that goes)");
}

#[test]
fn a_volume_is_free_bound_or_left() {
    let ours = "{metadata: {annotations: {pv.kubernetes.io/provisioned-by: skiff.dev/docker-volume}}, spec: {persistentVolumeReclaimPolicy: Delete}}";
    let of = "{spec: {claimRef: {namespace: default, name: data, uid: 12345678-u}}}";
    let with = |parts: &[&str]| {
        let mut volume = volume("v", "{}");
        parts.iter().for_each(|part| merge(&mut volume, yaml(part)));
        volume
    };
    let becomes = |parts: &[&str], claim: Option<Value>, want: Expect| {
        let decision = volume::decide(&volume::Observed { volume: with(parts), claim });
        want.assert_eq(&decision.to_text());
    };
    becomes(
        &["{status: {phase: Pending}}"],
        None,
        expect![[r#"
        update status of PersistentVolume v (whether the volume is bound has changed)"#]],
    );
    becomes(
        &[of],
        Some(claim("{}")),
        expect![[r#"
        update status of PersistentVolume v (whether the volume is bound has changed)"#]],
    );
    becomes(&[of, "{status: {phase: Bound}}"], Some(claim("{spec: {volumeName: v}}")), expect![""]);
    becomes(
        &[of, ours, "{status: {phase: Bound}}"],
        None,
        expect![[r#"
        delete PersistentVolume v (its claim is gone)
        update status of PersistentVolume v (whether the volume is bound has changed)"#]],
    );
    let another = Some(claim("{metadata: {uid: another}}"));
    becomes(
        &[of, "{status: {phase: Bound}}"],
        another,
        expect![[r#"
        update status of PersistentVolume v (whether the volume is bound has changed)"#]],
    );
    becomes(
        &[of, "{spec: {persistentVolumeReclaimPolicy: Delete}}"],
        None,
        expect![[r#"
        update status of PersistentVolume v (whether the volume is bound has changed)
        Warning VolumeFailedDelete: error getting deleter volume plugin for volume "v": no deletable volume plugin matched"#]],
    );
    let going = "{metadata: {deletionTimestamp: '2026-01-01T00:00:00Z', finalizers: [kubernetes.io/pv-protection, skiff.dev/docker-volume]}}";
    becomes(&[of, going], Some(claim("{}")), expect![""]);
    becomes(
        &[of, going],
        None,
        expect![[r#"
        update PersistentVolume v (no claim has the volume that goes)"#]],
    );
}

#[test]
fn a_class_may_be_named_by_the_annotation_of_before() {
    let named = claim("{metadata: {annotations: {volume.beta.kubernetes.io/storage-class: old}}}");
    assert_eq!((super::class_of(&named), super::class_of(&claim("{}"))), ("old", "standard"));
}

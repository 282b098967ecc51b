//! Every field of a pod spec, and what becomes of it: it works, or it is refused, or its writer is warned. None is accepted and ignored.
//!
//! A field that Kubernetes gets makes this test fail, until somebody has said here what becomes of it.

use crate::api::{
    kind::Kind as _,
    kinds::{
        pod::Pods,
        testing::{causes, created},
    },
    schema::structure::Definition,
};
use expect_test::expect;
use std::fmt::Write as _;

const DEFINITIONS: [&str; 6] =
    ["PodSpec", "PodSecurityContext", "Container", "SecurityContext", "VolumeMount", "Volume"];

/// What is refused or warned of: definition, and the field with a value for which it is.
const SAMPLES: &[(&str, &str, &str)] = &[
    ("PodSpec", "evictionResponders", "[{name: x}]"),
    ("PodSpec", "hostUsers", "false"),
    ("PodSpec", "os", "{name: windows}"),
    ("PodSpec", "overhead", "{cpu: 1}"),
    ("PodSpec", "resourceClaims", "[{name: x}]"),
    ("PodSpec", "runtimeClassName", "x"),
    ("PodSecurityContext", "seLinuxChangePolicy", "Recursive"),
    ("PodSecurityContext", "seLinuxOptions", "{level: x}"),
    ("PodSecurityContext", "supplementalGroupsPolicy", "Strict"),
    ("PodSecurityContext", "windowsOptions", "{}"),
    ("Container", "restartPolicy", "Always"),
    ("Container", "restartPolicyRules", "[{action: Restart}]"),
    ("Container", "volumeDevices", "[{name: v, devicePath: /d}]"),
    ("SecurityContext", "procMount", "Unmasked"),
    ("SecurityContext", "seLinuxOptions", "{level: x}"),
    ("SecurityContext", "windowsOptions", "{}"),
    ("VolumeMount", "bindMountOptions", "[x]"),
    ("VolumeMount", "recursiveReadOnly", "Enabled"),
    ("Volume", "awsElasticBlockStore", "{volumeID: x}"),
    ("Volume", "azureDisk", "{diskName: x, diskURI: y}"),
    ("Volume", "azureFile", "{secretName: x, shareName: y}"),
    ("Volume", "cephfs", "{monitors: [x]}"),
    ("Volume", "cinder", "{volumeID: x}"),
    ("Volume", "csi", "{driver: x}"),
    ("Volume", "fc", "{}"),
    ("Volume", "flexVolume", "{driver: x}"),
    ("Volume", "flocker", "{}"),
    ("Volume", "gcePersistentDisk", "{pdName: x}"),
    ("Volume", "gitRepo", "{repository: x}"),
    ("Volume", "glusterfs", "{endpoints: x, path: y}"),
    ("Volume", "iscsi", "{targetPortal: x, iqn: y, lun: 1}"),
    ("Volume", "nfs", "{server: x, path: /y}"),
    ("Volume", "photonPersistentDisk", "{pdID: x}"),
    ("Volume", "portworxVolume", "{volumeID: x}"),
    ("Volume", "quobyte", "{registry: x, volume: y}"),
    ("Volume", "rbd", "{monitors: [x], image: y}"),
    ("Volume", "scaleIO", "{gateway: x, system: y, secretRef: {name: z}}"),
    ("Volume", "storageos", "{}"),
    ("Volume", "vsphereVolume", "{volumePath: x}"),
];

/// What is said of by the scheduler alone, where the others of the cluster's nodes are known.
const SCHEDULERS: [&str; 4] = ["affinity", "schedulingGates", "schedulingGroup", "topologySpreadConstraints"];

/// A pod that has a value at a field of a definition.
fn pod_with(definition: &str, field: &str, value: &str) -> String {
    let at = |of: &str| if definition == of { format!("{field}: {value}") } else { String::new() };
    let source = if definition == "Volume" { at("Volume") } else { "emptyDir: {}".to_owned() };
    format!(
        "spec: {{volumes: [{{name: v, {source}}}], securityContext: {{{}}}, containers: [{{name: c, image: i, securityContext: {{{}}}, \
         volumeMounts: [{{name: v, mountPath: /v, {}}}], {}}}], {}}}",
        at("PodSecurityContext"),
        at("SecurityContext"),
        at("VolumeMount"),
        at("Container"),
        at("PodSpec")
    )
}

fn verdict(definition: &str, field: &str) -> &'static str {
    if definition == "PodSpec" && SCHEDULERS.contains(&field) {
        return "scheduler";
    }
    let sample = SAMPLES.iter().find(|(of, name, _)| (*of, *name) == (definition, field));
    let Some((_, _, value)) = sample else { return "works" };
    let pod = pod_with(definition, field, value);
    let refused = causes::<Pods>(&pod);
    if refused.lines().any(|line| line.contains(field)) {
        return "refused";
    }
    let warned = Pods::warnings(&created::<Pods>(&pod));
    assert!(
        warned.iter().any(|line| line.contains(field)),
        "{definition}.{field} is accepted and ignored: {refused} {warned:?}"
    );
    "warned"
}

#[test]
fn no_field_is_accepted_and_ignored() {
    let mut list = String::new();
    for name in DEFINITIONS {
        let definition = Definition::find(&format!("io.k8s.api.core.v1.{name}")).expect("it is packed");
        let mut by: std::collections::BTreeMap<&str, Vec<&str>> = std::collections::BTreeMap::new();
        for property in &definition.properties {
            by.entry(verdict(name, &property.name)).or_default().push(&property.name);
        }
        for (verdict, fields) in by {
            writeln!(list, "{name} {verdict}: {}", fields.join(" ")).unwrap();
        }
    }
    expect![[r#"
        PodSpec refused: evictionResponders hostUsers os overhead resourceClaims runtimeClassName
        PodSpec scheduler: affinity schedulingGates schedulingGroup topologySpreadConstraints
        PodSpec works: activeDeadlineSeconds automountServiceAccountToken containers dnsConfig dnsPolicy enableServiceLinks ephemeralContainers hostAliases hostIPC hostNetwork hostPID hostname hostnameOverride imagePullSecrets initContainers nodeName nodeSelector preemptionPolicy priority priorityClassName readinessGates resources restartPolicy schedulerName securityContext serviceAccount serviceAccountName setHostnameAsFQDN shareProcessNamespace subdomain terminationGracePeriodSeconds tolerations volumes
        PodSecurityContext refused: supplementalGroupsPolicy windowsOptions
        PodSecurityContext warned: seLinuxChangePolicy seLinuxOptions
        PodSecurityContext works: appArmorProfile fsGroup fsGroupChangePolicy runAsGroup runAsNonRoot runAsUser seccompProfile supplementalGroups sysctls
        Container refused: restartPolicy restartPolicyRules volumeDevices
        Container works: args command env envFrom image imagePullPolicy lifecycle livenessProbe name ports readinessProbe resizePolicy resources securityContext startupProbe stdin stdinOnce terminationMessagePath terminationMessagePolicy tty volumeMounts workingDir
        SecurityContext refused: procMount windowsOptions
        SecurityContext warned: seLinuxOptions
        SecurityContext works: allowPrivilegeEscalation appArmorProfile capabilities privileged readOnlyRootFilesystem runAsGroup runAsNonRoot runAsUser seccompProfile
        VolumeMount refused: bindMountOptions recursiveReadOnly
        VolumeMount works: mountPath mountPropagation name readOnly subPath subPathExpr
        Volume refused: awsElasticBlockStore azureDisk azureFile cephfs cinder csi fc flexVolume flocker gcePersistentDisk gitRepo glusterfs iscsi nfs photonPersistentDisk portworxVolume quobyte rbd scaleIO storageos vsphereVolume
        Volume works: configMap downwardAPI emptyDir ephemeral hostPath image name persistentVolumeClaim projected secret
    "#]].assert_eq(&list);
}

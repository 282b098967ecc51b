//! What is wrong with pod specs, in Kubernetes' words.

mod list;

use crate::api::{
    kind::Kind as _,
    kinds::{
        pod::Pods,
        testing::{causes, created, lines},
    },
};
use expect_test::{Expect, expect};

/// Checks the causes of a pod whose spec has these fields beside a right container.
#[track_caller]
fn spec(fields: &str, expected: &Expect) {
    expected.assert_eq(&causes::<Pods>(&format!("spec: {{containers: [{{name: c, image: i}}], {fields}}}")));
}

/// Checks the causes of a pod whose container has these fields; it has an emptyDir `v`.
#[track_caller]
fn container(fields: &str, expected: &Expect) {
    expected.assert_eq(&causes::<Pods>(&format!(
        "spec: {{volumes: [{{name: v, emptyDir: {{}}}}], containers: [{{name: c, image: i, {fields}}}]}}"
    )));
}

#[test]
fn containers_need_names_and_images() {
    expect![[r#"
        spec.containers: Required value
    "#]]
    .assert_eq(&causes::<Pods>("metadata: {name: p}"));
    expect![[r#"
        spec.containers[0].name: Required value
        spec.containers[0].image: Required value
        spec.containers[1].name: Invalid value: "a.b": must not contain dots
        spec.containers[3].name: Duplicate value: "c"
        spec.containers[1].image: Invalid value: " x ": must not have leading or trailing whitespace
    "#]]
    .assert_eq(&causes::<Pods>(
        "spec: {containers: [{}, {name: a.b, image: ' x '}, {name: c, image: x}, {name: c, image: x}]}",
    ));
    spec(
        "initContainers: [{name: c, image: i, livenessProbe: {tcpSocket: {port: 1}}, lifecycle: {}}]",
        &expect![[r#"
        spec.initContainers[0].name: Duplicate value: "c"
        spec.initContainers[0].lifecycle: Forbidden: may not be set for init containers without restartPolicy=Always
        spec.initContainers[0].livenessProbe: Forbidden: may not be set for init containers without restartPolicy=Always
    "#]],
    );
    spec(
        "initContainers: [{name: i, image: i, restartPolicy: Always}, {name: j, image: i, restartPolicy: Never}]",
        &expect![[r#"
            spec.initContainers[1].restartPolicy: Unsupported value: "Never": supported values: "Always"
        "#]],
    );
    container(
        "restartPolicy: Always, restartPolicyRules: [{action: Restart}], volumeDevices: [{name: v, devicePath: /d}]",
        &expect![[r#"
        spec.containers[0].volumeDevices: Forbidden: skiff does not support block devices yet
        spec.containers[0].restartPolicyRules: Forbidden: skiff does not support restart rules of containers yet
        spec.containers[0].restartPolicy: Forbidden: may not be set for non-init containers
    "#]],
    );
    container(
        "terminationMessagePolicy: Never, imagePullPolicy: Sometimes",
        &expect![[r#"
        spec.containers[0].terminationMessagePolicy: Unsupported value: "Never": supported values: "File", "FallbackToLogsOnError"
        spec.containers[0].imagePullPolicy: Unsupported value: "Sometimes": supported values: "Always", "IfNotPresent", "Never"
    "#]],
    );
    spec(
        "ephemeralContainers: [{name: e, image: i}]",
        &expect![[r#"
        spec.ephemeralContainers: Forbidden: cannot be set on create
    "#]],
    );
}

#[test]
fn ports() {
    container(
        "ports: [{containerPort: 0}, {containerPort: 70000, hostPort: -1, protocol: tcp, name: UPPER}]",
        &expect![[r#"
        spec.containers[0].ports[0].containerPort: Required value
        spec.containers[0].ports[1].name: Invalid value: "UPPER": must contain only alpha-numeric characters (a-z, 0-9), and hyphens (-)
        spec.containers[0].ports[1].name: Invalid value: "UPPER": must contain at least one letter (a-z)
        spec.containers[0].ports[1].containerPort: Invalid value: 70000: must be between 1 and 65535, inclusive
        spec.containers[0].ports[1].hostPort: Invalid value: -1: must be between 1 and 65535, inclusive
        spec.containers[0].ports[1].protocol: Unsupported value: "tcp": supported values: "SCTP", "TCP", "UDP"
    "#]],
    );
    container(
        "ports: [{containerPort: 1, name: a}, {containerPort: 2, name: a}, {containerPort: 3, name: much-too-long-a-name}]",
        &expect![[r#"
        spec.containers[0].ports[1].name: Duplicate value: "a"
        spec.containers[0].ports[2].name: Invalid value: "much-too-long-a-name": must be no more than 15 bytes
    "#]],
    );
    container(
        "ports: [{containerPort: 1, hostPort: 80}, {containerPort: 2, hostPort: 80}, {containerPort: 3, hostPort: 3, hostIP: x}]",
        &expect![[r#"
        spec.containers[0].ports[2].hostIP: Invalid value: "x": must be a valid IP address, (e.g. 10.9.8.7 or 2001:db8::ffff)
        spec.containers[0].ports[1].hostPort: Duplicate value: "TCP//80"
    "#]],
    );
    expect![[r#"
        spec.containers[0].ports[0].hostPort: Invalid value: 2: must match `containerPort` when `hostNetwork` is true
    "#]]
    .assert_eq(&causes::<Pods>(
        "spec: {hostNetwork: true, containers: [{name: c, image: i, ports: [{containerPort: 1, hostPort: 2}]}]}",
    ));
}

#[test]
fn environment() {
    container(
        "env: [{value: x}, {name: a=b}, {name: A, valueFrom: {}}]",
        &expect![[r#"
        spec.containers[0].env[0].name: Required value
        spec.containers[0].env[1].name: Invalid value: "a=b": a valid environment variable name must consist only of printable ASCII characters other than '='
        spec.containers[0].env[2].valueFrom: Invalid value: "": must specify one of: `fieldRef`, `resourceFieldRef`, `configMapKeyRef`, `secretKeyRef` or `fileKeyRef`
    "#]],
    );
    container(
        "env: [{name: A, value: x, valueFrom: {fieldRef: {fieldPath: metadata.name}}}]",
        &expect![[r#"
        spec.containers[0].env[0].valueFrom: Invalid value: "": may not be specified when `value` is not empty
    "#]],
    );
    container(
        "env: [{name: A, valueFrom: {fieldRef: {fieldPath: spec.x}, secretKeyRef: {name: '', key: ''}}}]",
        &expect![[r#"
        spec.containers[0].env[0].valueFrom.fieldRef.fieldPath: Unsupported value: "spec.x": supported values: "metadata.name", "metadata.namespace", "metadata.uid", "spec.nodeName", "spec.serviceAccountName", "status.hostIP", "status.hostIPs", "status.podIP", "status.podIPs"
        spec.containers[0].env[0].valueFrom.secretKeyRef.name: Invalid value: "": a lowercase RFC 1123 subdomain must consist of lower case alphanumeric characters, '-' or '.', and must start and end with an alphanumeric character (e.g. 'example.com', regex used for validation is '[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*')
        spec.containers[0].env[0].valueFrom.secretKeyRef.key: Required value
        spec.containers[0].env[0].valueFrom: Invalid value: "": may not have more than one field specified at a time
    "#]],
    );
    container(
        "env: [{name: A, valueFrom: {fieldRef: {apiVersion: v2, fieldPath: metadata.name}}}, {name: B, valueFrom: {fieldRef: {}}}]",
        &expect![[r#"
        spec.containers[0].env[0].valueFrom.fieldRef.fieldPath: Invalid value: "metadata.name": error converting fieldPath: unsupported pod version: v2
        spec.containers[0].env[1].valueFrom.fieldRef.fieldPath: Required value
    "#]],
    );
    container(
        r#"env: [{name: A, valueFrom: {fieldRef: {fieldPath: "metadata.labels['a b']"}}}, {name: B, valueFrom: {fieldRef: {fieldPath: "spec.x['a']"}}}, {name: C, valueFrom: {fieldRef: {fieldPath: "metadata.annotations['A.b/C']"}}}]"#,
        &expect![[r#"
        spec.containers[0].env[0].valueFrom.fieldRef: Invalid value: "a b": name part must consist of alphanumeric characters, '-', '_' or '.', and must start and end with an alphanumeric character (e.g. 'MyName',  or 'my.name',  or '123-abc', regex used for validation is '([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9]')
        spec.containers[0].env[1].valueFrom.fieldRef: Invalid value: "spec.x": does not support subscript
    "#]],
    );
    container(
        "env: [{name: A, valueFrom: {resourceFieldRef: {resource: limits.gpu}}}, {name: B, valueFrom: {resourceFieldRef: {}}}, {name: C, valueFrom: {resourceFieldRef: {resource: limits.cpu, divisor: 2}}}, {name: D, valueFrom: {resourceFieldRef: {resource: limits.memory, divisor: 1m}}}, {name: E, valueFrom: {resourceFieldRef: {resource: limits.memory, divisor: 1Mi}}}]",
        &expect![[r#"
        spec.containers[0].env[0].valueFrom.resourceFieldRef.resource: Unsupported value: "limits.gpu": supported values: "limits.cpu", "limits.ephemeral-storage", "limits.memory", "requests.cpu", "requests.ephemeral-storage", "requests.memory"
        spec.containers[0].env[1].valueFrom.resourceFieldRef.resource: Required value
        spec.containers[0].env[2].valueFrom.resourceFieldRef.divisor: Invalid value: "limits.cpu": only divisor's values 1m and 1 are supported with the cpu resource
        spec.containers[0].env[3].valueFrom.resourceFieldRef.divisor: Invalid value: "limits.memory": only divisor's values 1, 1k, 1M, 1G, 1T, 1P, 1E, 1Ki, 1Mi, 1Gi, 1Ti, 1Pi, 1Ei are supported with the memory resource
    "#]],
    );
    container(
        "env: [{name: A, valueFrom: {fileKeyRef: {volumeName: v, path: p, key: k}}}]",
        &expect![[r#"
        spec.containers[0].env[0].valueFrom.fileKeyRef: Forbidden: skiff does not support variables from files yet
    "#]],
    );
    container(
        "envFrom: [{prefix: a=b}, {configMapRef: {name: A}, secretRef: {}}, {configMapRef: {name: ok}}]",
        &expect![[r#"
        spec.containers[0].envFrom[0].prefix: Invalid value: "a=b": a valid environment variable name must consist only of printable ASCII characters other than '='
        spec.containers[0].envFrom: Invalid value: "": must specify one of: `configMapRef` or `secretRef`
        spec.containers[0].envFrom[1].configMapRef.name: Invalid value: "A": a lowercase RFC 1123 subdomain must consist of lower case alphanumeric characters, '-' or '.', and must start and end with an alphanumeric character (e.g. 'example.com', regex used for validation is '[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*')
        spec.containers[0].envFrom[1].secretRef.name: Required value
        spec.containers[0].envFrom: Invalid value: "": may not have more than one field specified at a time
    "#]],
    );
}

#[test]
fn volumes_and_mounts() {
    spec(
        "volumes: [{name: A.b, emptyDir: {}}, {name: v, hostPath: {path: /}}, {name: v, configMap: {name: x}, secret: {secretName: y}}, {emptyDir: {}}]",
        &expect![[r#"
            spec.volumes[0].name: Invalid value: "A.b": a lowercase RFC 1123 label must consist of lower case alphanumeric characters or '-', and must start and end with an alphanumeric character (e.g. 'my-name',  or '123-abc', regex used for validation is '[a-z0-9]([-a-z0-9]*[a-z0-9])?')
            spec.volumes[2].secret: Forbidden: may not specify more than 1 volume type
            spec.volumes[2].name: Duplicate value: "v"
            spec.volumes[3].name: Required value
        "#]],
    );
    spec(
        "volumes: [{name: a, emptyDir: {medium: HugePages, sizeLimit: much, mode: 511}}, {name: b, emptyDir: {sizeLimit: '-1'}}]",
        &expect![[r#"
            spec.volumes[0].emptyDir.medium: Unsupported value: "HugePages": supported values: "", "Memory"
            spec.volumes[0].emptyDir.sizeLimit: Invalid value: "much": quantities must match the regular expression '^([+-]?[0-9.]+)([eEinumkKMGTP]*[-+]?[0-9]*)$'
            spec.volumes[1].emptyDir.sizeLimit: Forbidden: SizeLimit field must be a valid resource quantity
        "#]],
    );
    container(
        "volumeMounts: [{name: v, mountPath: /a}, {name: v, mountPath: /a}, {name: w, mountPath: /b}, {}]",
        &expect![[r#"
        spec.containers[0].volumeMounts[1].mountPath: Invalid value: "/a": must be unique
        spec.containers[0].volumeMounts[2].name: Not found: "w"
        spec.containers[0].volumeMounts[3].name: Required value
        spec.containers[0].volumeMounts[3].name: Not found: ""
        spec.containers[0].volumeMounts[3].mountPath: Required value
    "#]],
    );
    container(
        "volumeMounts: [{name: v, mountPath: /a, subPath: x, subPathExpr: y, mountPropagation: Odd, recursiveReadOnly: Enabled, bindMountOptions: [x]}]",
        &expect![[r#"
            spec.containers[0].volumeMounts[0].subPathExpr: Invalid value: "y": subPathExpr and subPath are mutually exclusive
            spec.containers[0].volumeMounts[0].recursiveReadOnly: Forbidden: skiff does not support recursive read-only mounts yet
            spec.containers[0].volumeMounts[0].bindMountOptions: Forbidden: skiff does not support bind mount options yet
            spec.containers[0].volumeMounts.mountPropagation: Unsupported value: "Odd": supported values: "Bidirectional", "HostToContainer", "None"
        "#]],
    );
    container("volumeMounts: [{name: v, mountPath: /a, readOnly: true, mountPropagation: None}]", &expect![[""]]);
}

#[test]
fn an_image_is_a_volume() {
    let pod = |source: &str| {
        causes::<Pods>(&format!(
            "spec: {{volumes: [{{name: v, image: {source}}}], containers: [{{name: c, image: i, \
             volumeMounts: [{{name: v, mountPath: /v, subPath: x}}]}}]}}"
        ))
    };
    assert_eq!(pod("{reference: 'web:1'}"), "");
    expect![[r#"
        spec.volumes[0].image.reference: Required value
    "#]]
    .assert_eq(&pod("{}"));
}

#[test]
fn mounts_are_passed_on_where_the_engine_can() {
    let pod = |volume: &str, mount: &str, context: &str| {
        causes::<Pods>(&format!(
            "spec: {{volumes: [{{name: v, {volume}}}], containers: [{{name: c, image: i, securityContext: {{{context}}}, \
             volumeMounts: [{{name: v, mountPath: /v, {mount}}}]}}]}}"
        ))
    };
    let (host, both) = ("hostPath: {path: /h}", "mountPropagation: Bidirectional");
    assert_eq!(pod(host, both, "privileged: true"), "");
    assert_eq!(pod("emptyDir: {}", "mountPropagation: HostToContainer", ""), "");
    expect![[r#"
        spec.containers[0].volumeMounts.mountPropagation: Forbidden: Bidirectional mount propagation is available only to privileged containers
    "#]].assert_eq(&pod(host, both, ""));
    let memory = "emptyDir: {medium: Memory}";
    expect![[r#"
        spec.containers[0].volumeMounts[0].mountPropagation: Forbidden: skiff does not support mount propagation of this volume source yet
    "#]].assert_eq(&pod(memory, "mountPropagation: HostToContainer", ""));
    expect![[r#"
        spec.containers[0].volumeMounts[0].mountPropagation: Forbidden: skiff does not support mount propagation of a part of a volume yet
    "#]].assert_eq(&pod(host, "mountPropagation: HostToContainer, subPath: x", ""));
}

#[test]
fn probes_and_hooks() {
    container(
        "livenessProbe: {}, readinessProbe: {exec: {}, tcpSocket: {port: 1}}, startupProbe: {grpc: {port: 1}}",
        &expect![[r#"
            spec.containers[0].livenessProbe: Required value: must specify a handler type
            spec.containers[0].readinessProbe.exec.command: Required value
            spec.containers[0].readinessProbe.tcpSocket: Forbidden: may not specify more than 1 handler type
        "#]],
    );
    container(
        "livenessProbe: {httpGet: {port: 0, scheme: http, httpHeaders: [{name: 'a b', value: c}], protocol: HTTP2}, successThreshold: 2, failureThreshold: -1, terminationGracePeriodSeconds: 0}",
        &expect![[r#"
        spec.containers[0].livenessProbe.httpGet.port: Invalid value: 0: must be between 1 and 65535, inclusive
        spec.containers[0].livenessProbe.httpGet.scheme: Unsupported value: "http": supported values: "HTTP", "HTTPS"
        spec.containers[0].livenessProbe.httpGet.httpHeaders: Invalid value: "a b": a valid HTTP header must consist of alphanumeric characters or '-' (e.g. 'X-Header-Name', regex used for validation is '[-A-Za-z0-9]+')
        spec.containers[0].livenessProbe.httpGet.protocol: Forbidden: skiff does not support a choice of HTTP version yet
        spec.containers[0].livenessProbe.failureThreshold: Invalid value: -1: must be greater than or equal to 0
        spec.containers[0].livenessProbe.terminationGracePeriodSeconds: Invalid value: 0: must be greater than 0
        spec.containers[0].livenessProbe.successThreshold: Invalid value: 2: must be 1
    "#]],
    );
    container(
        "readinessProbe: {tcpSocket: {port: http}, successThreshold: 2, terminationGracePeriodSeconds: 3}",
        &expect![[r#"
        spec.containers[0].readinessProbe.terminationGracePeriodSeconds: Invalid value: 3: must not be set for readinessProbes
    "#]],
    );
    container(
        "lifecycle: {postStart: {}, preStop: {sleep: {seconds: 31}}, stopSignal: SIGTERM}",
        &expect![[r#"
        spec.containers[0].lifecycle.postStart: Required value: must specify a handler type
        spec.containers[0].lifecycle.preStop.sleep: Invalid value: 31: must be non-negative and less than terminationGracePeriodSeconds (30)
        spec.containers[0].lifecycle.stopSignal: Forbidden: may not be set for containers with empty `spec.os.name`
    "#]],
    );
    container("lifecycle: {postStart: {exec: {command: [x]}}, preStop: {sleep: {seconds: 3}}}", &expect![[""]]);
    expect![[r#"
        spec.containers[0].lifecycle.stopSignal: Invalid value: "SIGNOT": must be the name of a signal (e.g. 'SIGTERM')
    "#]].assert_eq(&causes::<Pods>("spec: {os: {name: linux}, containers: [{name: c, image: i, lifecycle: {stopSignal: SIGNOT}}, {name: d, image: i, lifecycle: {stopSignal: SIGRTMIN+15}}]}"));
}

#[test]
fn resources() {
    container(
        "resources: {limits: {cpu: 1, memory: -1}, requests: {cpu: 2, memory: what}}",
        &expect![[r#"
        spec.containers[0].resources.limits[memory]: Invalid value: "-1": must be greater than or equal to 0
        spec.containers[0].resources.requests: Invalid value: "2": must be less than or equal to cpu limit of 1
        spec.containers[0].resources.requests[memory]: Invalid value: "what": quantities must match the regular expression '^([+-]?[0-9.]+)([eEinumkKMGTP]*[-+]?[0-9]*)$'
    "#]],
    );
    container(
        "resources: {limits: {gpu: 1, nvidia.com/gpu: 1, hugepages-2Mi: 2Mi, 'a b': 1, ephemeral-storage: 1Gi}, claims: [{name: x}]}",
        &expect![[r#"
        spec.containers[0].resources.limits[a b]: Invalid value: "a b": name part must consist of alphanumeric characters, '-', '_' or '.', and must start and end with an alphanumeric character (e.g. 'MyName',  or 'my.name',  or '123-abc', regex used for validation is '([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9]')
        spec.containers[0].resources.limits[gpu]: Invalid value: "gpu": must be a standard resource type or fully qualified
        spec.containers[0].resources.limits[gpu]: Invalid value: "gpu": must be a standard resource for containers
        spec.containers[0].resources.limits[hugepages-2Mi]: Forbidden: skiff does not support this resource yet
        spec.containers[0].resources.limits[nvidia.com/gpu]: Forbidden: skiff does not support this resource yet
        spec.containers[0].resources.requests[a b]: Invalid value: "a b": name part must consist of alphanumeric characters, '-', '_' or '.', and must start and end with an alphanumeric character (e.g. 'MyName',  or 'my.name',  or '123-abc', regex used for validation is '([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9]')
        spec.containers[0].resources.requests[gpu]: Invalid value: "gpu": must be a standard resource type or fully qualified
        spec.containers[0].resources.requests[gpu]: Invalid value: "gpu": must be a standard resource for containers
        spec.containers[0].resources.requests[hugepages-2Mi]: Forbidden: skiff does not support this resource yet
        spec.containers[0].resources.requests[nvidia.com/gpu]: Forbidden: skiff does not support this resource yet
        spec.containers[0].resources.claims: Forbidden: skiff does not support resource claims yet
    "#]],
    );
    container(
        "resizePolicy: [{resourceName: gpu, restartPolicy: Maybe}, {resourceName: cpu, restartPolicy: NotRequired}, {resourceName: cpu, restartPolicy: NotRequired}]",
        &expect![[r#"
        spec.containers[0].resizePolicy: Unsupported value: "gpu": supported values: "cpu", "memory"
        spec.containers[0].resizePolicy: Unsupported value: "Maybe": supported values: "NotRequired", "RestartContainer"
        spec.containers[0].resizePolicy[2]: Duplicate value: "cpu"
    "#]],
    );
}

#[test]
fn security() {
    spec(
        "securityContext: {runAsUser: -1, runAsGroup: 2147483648, fsGroup: -5, supplementalGroups: [-1], sysctls: [{name: a, value: b}], windowsOptions: {}, fsGroupChangePolicy: Never}",
        &expect![[r#"
            spec.securityContext.fsGroup: Invalid value: -5: must be between 0 and 2147483647, inclusive
            spec.securityContext.runAsUser: Invalid value: -1: must be between 0 and 2147483647, inclusive
            spec.securityContext.runAsGroup: Invalid value: 2147483648: must be between 0 and 2147483647, inclusive
            spec.securityContext.supplementalGroups[0]: Invalid value: -1: must be between 0 and 2147483647, inclusive
            spec.securityContext.fsGroupChangePolicy: Unsupported value: "Never": supported values: "Always", "OnRootMismatch"
            spec.securityContext.sysctls[0].name: Forbidden: sysctl "a" is not safe: skiff allows safe ones only
            spec.securityContext.windowsOptions: Forbidden: windows options cannot be set for a linux pod
        "#]],
    );
    spec(
        "shareProcessNamespace: true, hostPID: true, hostUsers: false",
        &expect![[r#"
        spec.securityContext.shareProcessNamespace: Invalid value: true: ShareProcessNamespace and HostPID cannot both be enabled
        spec.hostUsers: Forbidden: skiff does not support user namespaces yet
    "#]],
    );
    spec(
        "securityContext: {seccompProfile: {type: Localhost, localhostProfile: x}, appArmorProfile: {type: RuntimeDefault, localhostProfile: x}}",
        &expect![[r#"
        spec.securityContext.appArmorProfile.localhostProfile: Invalid value: "x": can only be set when AppArmor type is Localhost
    "#]],
    );
    container(
        "securityContext: {privileged: true, allowPrivilegeEscalation: false, procMount: Unmasked, seccompProfile: {type: ''}, appArmorProfile: {type: Odd}}",
        &expect![[r#"
        spec.containers[0].securityContext.procMount: Invalid value: "Unmasked": `hostUsers` must be false to use `Unmasked`
        spec.containers[0].securityContext.seccompProfile.type: Required value: type is required when seccompProfile is set
        spec.containers[0].securityContext.appArmorProfile.type: Unsupported value: "Odd": supported values: "Localhost", "RuntimeDefault", "Unconfined"
        spec.containers[0].securityContext: Invalid value: {"allowPrivilegeEscalation":false,"appArmorProfile":{"type":"Odd"},"privileged":true,"procMount":"Unmasked","seccompProfile":{"type":""}}: cannot set `allowPrivilegeEscalation` to false and `privileged` to true
    "#]],
    );
    container(
        "securityContext: {runAsUser: 1000, runAsNonRoot: true, readOnlyRootFilesystem: true, allowPrivilegeEscalation: false, capabilities: {drop: [ALL]}, seccompProfile: {type: RuntimeDefault}}",
        &expect![[""]],
    );
}

#[test]
fn scheduling() {
    spec(
        "tolerations: [{}, {key: a, operator: Exists, value: x}, {key: a, operator: Near}, {key: 'a b', value: 'x y', effect: Odd, tolerationSeconds: 3}]",
        &expect![[r#"
        spec.tolerations[0].operator: Invalid value: "": operator must be Exists when `key` is empty, which means "match all values and all keys"
        spec.tolerations[1].operator: Invalid value: "x": value must be empty when `operator` is 'Exists'
        spec.tolerations[2].operator: Unsupported value: "Near": supported values: "Equal", "Exists"
        spec.tolerations[3].key: Invalid value: "a b": name part must consist of alphanumeric characters, '-', '_' or '.', and must start and end with an alphanumeric character (e.g. 'MyName',  or 'my.name',  or '123-abc', regex used for validation is '([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9]')
        spec.tolerations[3].effect: Invalid value: "Odd": effect must be 'NoExecute' when `tolerationSeconds` is set
        spec.tolerations[3].operator: Invalid value: "x y": a valid label must be an empty string or consist of alphanumeric characters, '-', '_' or '.', and must start and end with an alphanumeric character (e.g. 'MyValue',  or 'my_value',  or '12345', regex used for validation is '(([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9])?')
        spec.tolerations[3].effect: Unsupported value: "Odd": supported values: "NoSchedule", "PreferNoSchedule", "NoExecute"
    "#]],
    );
    spec(
        "affinity: {nodeAffinity: {requiredDuringSchedulingIgnoredDuringExecution: {nodeSelectorTerms: []}, preferredDuringSchedulingIgnoredDuringExecution: [{weight: 0, preference: {matchExpressions: [{key: a, operator: In}, {key: a, operator: Exists, values: [x]}, {key: 'a b', operator: Odd}], matchFields: [{key: x, operator: Gt}]}}]}}",
        &expect![[r#"
        spec.affinity.nodeAffinity.requiredDuringSchedulingIgnoredDuringExecution.nodeSelectorTerms: Required value: must have at least one node selector term
        spec.affinity.nodeAffinity.preferredDuringSchedulingIgnoredDuringExecution[0].weight: Invalid value: 0: must be in the range 1-100
        spec.affinity.nodeAffinity.preferredDuringSchedulingIgnoredDuringExecution[0].preference.matchExpressions[0].values: Required value: must be specified when `operator` is 'In' or 'NotIn'
        spec.affinity.nodeAffinity.preferredDuringSchedulingIgnoredDuringExecution[0].preference.matchExpressions[1].values: Forbidden: may not be specified when `operator` is 'Exists' or 'DoesNotExist'
        spec.affinity.nodeAffinity.preferredDuringSchedulingIgnoredDuringExecution[0].preference.matchExpressions[2].operator: Invalid value: "Odd": not a valid selector operator
        spec.affinity.nodeAffinity.preferredDuringSchedulingIgnoredDuringExecution[0].preference.matchExpressions[2].key: Invalid value: "a b": name part must consist of alphanumeric characters, '-', '_' or '.', and must start and end with an alphanumeric character (e.g. 'MyName',  or 'my.name',  or '123-abc', regex used for validation is '([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9]')
        spec.affinity.nodeAffinity.preferredDuringSchedulingIgnoredDuringExecution[0].preference.matchFields[0].operator: Invalid value: "Gt": not a valid selector operator
        spec.affinity.nodeAffinity.preferredDuringSchedulingIgnoredDuringExecution[0].preference.matchFields[0].key: Invalid value: "x": not a valid field selector key
    "#]],
    );
    spec(
        "affinity: {podAffinity: {requiredDuringSchedulingIgnoredDuringExecution: [{topologyKey: '', namespaces: [A]}]}, podAntiAffinity: {preferredDuringSchedulingIgnoredDuringExecution: [{weight: 101, podAffinityTerm: {topologyKey: a, labelSelector: {matchExpressions: [{key: a, operator: In}]}}}]}}",
        &expect![[r#"
        spec.affinity.podAffinity.requiredDuringSchedulingIgnoredDuringExecution[0].namespaces[0]: Invalid value: "A": a lowercase RFC 1123 label must consist of lower case alphanumeric characters or '-', and must start and end with an alphanumeric character (e.g. 'my-name',  or '123-abc', regex used for validation is '[a-z0-9]([-a-z0-9]*[a-z0-9])?')
        spec.affinity.podAffinity.requiredDuringSchedulingIgnoredDuringExecution[0].topologyKey: Required value: can not be empty
        spec.affinity.podAffinity.requiredDuringSchedulingIgnoredDuringExecution[0].topologyKey: Invalid value: "": name part must be non-empty
        spec.affinity.podAffinity.requiredDuringSchedulingIgnoredDuringExecution[0].topologyKey: Invalid value: "": name part must consist of alphanumeric characters, '-', '_' or '.', and must start and end with an alphanumeric character (e.g. 'MyName',  or 'my.name',  or '123-abc', regex used for validation is '([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9]')
        spec.affinity.podAntiAffinity.preferredDuringSchedulingIgnoredDuringExecution[0].weight: Invalid value: 101: must be in the range 1-100
        spec.affinity.podAntiAffinity.preferredDuringSchedulingIgnoredDuringExecution[0].podAffinityTerm.labelSelector.matchExpressions[0].values: Required value: must be specified when `operator` is 'In' or 'NotIn'
    "#]],
    );
    spec(
        "topologySpreadConstraints: [{maxSkew: 0, topologyKey: '', whenUnsatisfiable: Cry}, {maxSkew: 1, topologyKey: '', whenUnsatisfiable: Cry}]",
        &expect![[r#"
        spec.topologySpreadConstraints[0].maxSkew: Invalid value: 0: must be greater than zero
        spec.topologySpreadConstraints[0].topologyKey: Required value: can not be empty
        spec.topologySpreadConstraints[0].whenUnsatisfiable: Unsupported value: "Cry": supported values: "DoNotSchedule", "ScheduleAnyway"
        spec.topologySpreadConstraints[0].{topologyKey, whenUnsatisfiable}: Duplicate value: "{, Cry}"
        spec.topologySpreadConstraints[1].topologyKey: Required value: can not be empty
        spec.topologySpreadConstraints[1].whenUnsatisfiable: Unsupported value: "Cry": supported values: "DoNotSchedule", "ScheduleAnyway"
    "#]],
    );
    spec(
        "nodeSelector: {'a b': c}, nodeName: A, preemptionPolicy: Rarely",
        &expect![[r#"
        spec.nodeSelector: Invalid value: "a b": name part must consist of alphanumeric characters, '-', '_' or '.', and must start and end with an alphanumeric character (e.g. 'MyName',  or 'my.name',  or '123-abc', regex used for validation is '([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9]')
        spec.preemptionPolicy: Unsupported value: "Rarely": supported values: "PreemptLowerPriority", "Never"
        spec.nodeName: Invalid value: "A": a lowercase RFC 1123 subdomain must consist of lower case alphanumeric characters, '-' or '.', and must start and end with an alphanumeric character (e.g. 'example.com', regex used for validation is '[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*')
    "#]],
    );
}

#[test]
fn names_and_policies() {
    spec(
        "restartPolicy: Maybe, dnsPolicy: Odd, hostname: a.b, subdomain: A, serviceAccountName: A, activeDeadlineSeconds: 0",
        &expect![[r#"
        spec.restartPolicy: Unsupported value: "Maybe": supported values: "Always", "OnFailure", "Never"
        spec.dnsPolicy: Unsupported value: "Odd": supported values: "ClusterFirstWithHostNet", "ClusterFirst", "Default", "None"
        spec.hostname: Invalid value: "a.b": must not contain dots
        spec.subdomain: Invalid value: "A": a lowercase RFC 1123 label must consist of lower case alphanumeric characters or '-', and must start and end with an alphanumeric character (e.g. 'my-name',  or '123-abc', regex used for validation is '[a-z0-9]([-a-z0-9]*[a-z0-9])?')
        spec.serviceAccountName: Invalid value: "A": a lowercase RFC 1123 subdomain must consist of lower case alphanumeric characters, '-' or '.', and must start and end with an alphanumeric character (e.g. 'example.com', regex used for validation is '[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*')
        spec.activeDeadlineSeconds: Invalid value: 0: must be between 1 and 2147483647, inclusive
    "#]],
    );
    spec(
        "dnsPolicy: None",
        &expect![[r#"
        spec.dnsConfig: Required value: must provide `dnsConfig` when `dnsPolicy` is None
    "#]],
    );
    spec(
        "dnsPolicy: None, dnsConfig: {searches: [a]}",
        &expect![[r#"
        spec.dnsConfig.nameservers: Required value: must provide at least one DNS nameserver when `dnsPolicy` is None
    "#]],
    );
    spec(
        "dnsConfig: {nameservers: [a, 1.1.1.1, 1.1.1.1, 1.1.1.1], searches: [., a_b.c., A], options: [{}]}",
        &expect![[r#"
        spec.dnsConfig.nameservers: Invalid value: ["a","1.1.1.1","1.1.1.1","1.1.1.1"]: must not have more than 3 nameservers
        spec.dnsConfig.nameservers[0]: Invalid value: "a": must be a valid IP address, (e.g. 10.9.8.7 or 2001:db8::ffff)
        spec.dnsConfig.searches[2]: Invalid value: "A": a lowercase RFC 1123 subdomain must consist of lower case alphanumeric characters, '-' or '.', and must start and end with an alphanumeric character (e.g. 'example.com', regex used for validation is '[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*')
        spec.dnsConfig.options[0]: Required value: must not be empty
    "#]],
    );
    spec(
        "hostAliases: [{ip: x, hostnames: [A, ok]}]",
        &expect![[r#"
        spec.hostAliases[0].ip: Invalid value: "x": must be a valid IP address, (e.g. 10.9.8.7 or 2001:db8::ffff)
        spec.hostAliases[0].hostnames[0]: Invalid value: "A": a lowercase RFC 1123 subdomain must consist of lower case alphanumeric characters, '-' or '.', and must start and end with an alphanumeric character (e.g. 'example.com', regex used for validation is '[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*')
    "#]],
    );
}

#[test]
fn host_names() {
    spec("hostnameOverride: db.example.com, hostname: other, subdomain: sub", &expect![[""]]);
    spec("setHostnameAsFQDN: true, subdomain: sub", &expect![[""]]);
    spec(
        "hostnameOverride: Db_1, setHostnameAsFQDN: true, hostNetwork: true",
        &expect![[r#"
        spec.hostnameOverride: Invalid value: "Db_1": a lowercase RFC 1123 subdomain must consist of lower case alphanumeric characters, '-' or '.', and must start and end with an alphanumeric character (e.g. 'example.com', regex used for validation is '[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*')
        spec.hostnameOverride: Forbidden: cannot be set when setHostnameAsFQDN is true
        spec.hostnameOverride: Forbidden: cannot be set when hostNetwork is true
    "#]],
    );
    spec(
        &format!("hostnameOverride: {}", "a".repeat(65)),
        &expect![[r#"
        spec.hostnameOverride: Too long: may not be more than 64 bytes
    "#]],
    );
}

#[test]
fn a_pod_as_a_whole_has_resources() {
    let pod = |whole: &str, first: &str, second: &str| {
        causes::<Pods>(&format!(
            "spec: {{resources: {whole}, containers: [{{name: a, image: i, resources: {first}}}, {{name: b, image: i, \
             resources: {second}}}]}}"
        ))
    };
    let small = "{requests: {cpu: 100m}, limits: {memory: 10Mi}}";
    assert_eq!(pod("{requests: {cpu: 200m}, limits: {cpu: 1, memory: 20Mi}}", small, small), "");
    expect![[r#"
        spec.resources.requests: Invalid value: "20Mi": must be less than or equal to memory limit of 5Mi
        spec.resources.requests[cpu]: Invalid value: "150m": must be greater than or equal to aggregate container requests of 200m
        spec.containers[0].resources.limits: Invalid value: "10Mi": must be less than or equal to pod limits of 5Mi
        spec.containers[1].resources.limits: Invalid value: "10Mi": must be less than or equal to pod limits of 5Mi
    "#]]
    .assert_eq(&pod("{requests: {cpu: 150m}, limits: {memory: 5Mi}}", small, small));
    expect![[r#"
        spec.resources.limits[ephemeral-storage]: Unsupported value: "ephemeral-storage": supported values: "cpu", "hugepages-", "memory"
        spec.resources.requests: Invalid value: "2": must be less than or equal to cpu limit of 1
    "#]]
    .assert_eq(&pod("{requests: {cpu: 2}, limits: {cpu: 1, ephemeral-storage: 1Gi}}", "{}", "{}"));
    let spec = "spec: {resources: {limits: {cpu: 1, memory: 20Mi}}, containers: [{name: a, image: i, resources: {requests: {cpu: 100m}}}]}";
    let made = created::<Pods>(spec);
    let requests = made.spec.unwrap().resources.unwrap().requests.unwrap();
    assert_eq!((requests["cpu"].0.as_str(), requests["memory"].0.as_str()), ("100m", "20Mi"));
    assert_eq!(made.status.unwrap().qos_class.as_deref(), Some("Burstable"));
}

#[test]
fn what_cannot_be_done_is_refused() {
    spec(
        "resourceClaims: [{name: x}], runtimeClassName: x, overhead: {cpu: 1}, os: {name: windows}",
        &expect![[r#"
        spec.resourceClaims: Forbidden: skiff does not support resource claims yet
        spec.runtimeClassName: Forbidden: skiff does not support runtime classes yet
        spec.overhead: Forbidden: skiff does not support pod overhead yet
        spec.os.name: Forbidden: skiff does not support operating systems other than linux yet
    "#]],
    );
}

#[test]
fn what_has_no_effect_is_warned_of() {
    let pod = "
spec:
  affinity: {}
  topologySpreadConstraints: [{}]
  priorityClassName: high
  imagePullSecrets: [{name: x}]
  automountServiceAccountToken: true
  securityContext: {fsGroup: 1, seLinuxOptions: {}}
  volumes: [{name: a, emptyDir: {sizeLimit: 1Gi}}, {name: b, emptyDir: {medium: Memory, sizeLimit: 1Gi}}]
  containers: [{name: c, image: i, env: [{name: A}, {name: A}], resources: {limits: {ephemeral-storage: 1Gi}}}]
";
    expect![[r#"
        spec.affinity: has no effect: there is one node
        spec.topologySpreadConstraints: has no effect: there is one node
        spec.securityContext.seLinuxOptions: has no effect
        spec.volumes[0].emptyDir.sizeLimit: is enforced only for the medium Memory
        spec.containers[0].resources.limits[ephemeral-storage]: is not enforced
        spec.containers[0].resources.requests[ephemeral-storage]: is not enforced
        spec.containers[0].env[1]: hides previous definition of "A", which may be dropped when using apply"#]]
    .assert_eq(&Pods::warnings(&created::<Pods>(pod)).join("\n"));
    assert_eq!(Pods::warnings(&created::<Pods>("spec: {containers: [{name: c, image: i}]}")), Vec::<String>::new());
}

/// Checks the causes of a volume with this source, whether the node supports it or not.
#[track_caller]
fn volume(source: &str, expected: &Expect) {
    let pod = created::<Pods>(&format!("spec: {{volumes: [{{name: v, {source}}}]}}"));
    let mut errs = Vec::new();
    super::volumes::fields(&mut errs, &pod.spec.unwrap().volumes.unwrap()[0], "v");
    expected.assert_eq(&lines(&errs));
}

#[test]
fn the_rules_of_every_volume_source_are_in_place() {
    volume(
        "hostPath: {path: '', type: Odd}",
        &expect![[r#"
        v.hostPath.path: Required value
        v.hostPath.type: Unsupported value: "Odd": supported values: "", "BlockDevice", "CharDevice", "Directory", "DirectoryOrCreate", "File", "FileOrCreate", "Socket"
    "#]],
    );
    volume(
        "hostPath: {path: /a/../b}",
        &expect![[r#"
        v.hostPath.path: Invalid value: "/a/../b": must not contain '..'
    "#]],
    );
    volume("image: {}", &expect![""]);
    volume(
        "image: {reference: x, pullPolicy: Odd}",
        &expect![[r#"
        v.image.pullPolicy: Unsupported value: "Odd": supported values: "Always", "IfNotPresent", "Never"
    "#]],
    );
    volume(
        "secret: {defaultMode: 999, items: [{}, {key: a, path: /b, mode: -1}, {key: a, path: ../b}, {key: a, path: ..b}]}",
        &expect![[r#"
            v.secret.secretName: Required value
            v.secret.defaultMode: Invalid value: 999: must be a number between 0 and 0777 (octal), both inclusive
            v.secret.items[0].key: Required value
            v.secret.items[0].path: Required value
            v.secret.items[1].path: Invalid value: "/b": must be a relative path
            v.secret.items[1].mode: Invalid value: -1: must be a number between 0 and 0777 (octal), both inclusive
            v.secret.items[2].path: Invalid value: "../b": must not contain '..'
            v.secret.items[3].path: Invalid value: "..b": must not start with '..'
        "#]],
    );
    volume(
        "configMap: {items: [{key: a, path: b}]}",
        &expect![[r#"
        v.configMap.name: Required value
    "#]],
    );
    volume(
        "persistentVolumeClaim: {claimName: ''}",
        &expect![[r#"
        v.persistentVolumeClaim.claimName: Required value
    "#]],
    );
    volume(
        "downwardAPI: {items: [{path: a}, {path: '', fieldRef: {fieldPath: spec.nodeName}}, {path: b, resourceFieldRef: {resource: limits.cpu}}, {path: c, fieldRef: {fieldPath: metadata.labels}}]}",
        &expect![[r#"
            v.downwardAPI: Required value: one of fieldRef and resourceFieldRef is required
            v.downwardAPI.path: Required value
            v.downwardAPI.fieldRef.fieldPath: Unsupported value: "spec.nodeName": supported values: "metadata.annotations", "metadata.labels", "metadata.name", "metadata.namespace", "metadata.uid"
            v.downwardAPI.resourceFieldRef.containerName: Required value
        "#]],
    );
    volume(
        "projected: {sources: [{secret: {name: ''}, configMap: {name: m}}, {serviceAccountToken: {path: t, expirationSeconds: 5}}, {configMap: {name: n, items: [{key: a, path: t}]}}, {clusterTrustBundle: {path: x}}]}",
        &expect![[r#"
            v.projected.sources[0].configMap: Forbidden: may not specify more than 1 volume type per source
            v.projected.sources[0].name: Required value
            v.projected.sources[1].serviceAccountToken.expirationSeconds: Invalid value: 5: may not specify a duration less than 10 minutes
            v.projected: Invalid value: "t": conflicting duplicate paths
            v.projected.sources[3].clusterTrustBundle: Forbidden: skiff does not support this projection yet
        "#]],
    );
    volume(
        "projected: {sources: [{serviceAccountToken: {path: token}}, {downwardAPI: {items: [{path: n, fieldRef: {fieldPath: metadata.name}}]}}]}",
        &expect![""],
    );
}

#[test]
fn no_path_holds_a_nul() {
    volume(
        "hostPath: {path: \"/a\\0\"}",
        &expect![[r#"
            v.hostPath.path: Invalid value: "/a\u0000": must not contain NUL
        "#]],
    );
    volume(
        "configMap: {name: m, items: [{key: a, path: \"a\\0b\"}]}",
        &expect![[r#"
            v.configMap.items[0].path: Invalid value: "a\u0000b": must not contain NUL
        "#]],
    );
    volume(
        "projected: {sources: [{serviceAccountToken: {path: \"t\\0\"}}, {secret: {name: s, items: [{key: a, path: \"k\\0\"}]}}]}",
        &expect![[r#"
            v.projected.sources[0].serviceAccountToken.path: Invalid value: "t\u0000": must not contain NUL
            v.projected.sources[1].items[0].path: Invalid value: "k\u0000": must not contain NUL
        "#]],
    );
    volume(
        "downwardAPI: {items: [{path: \"n\\0\", fieldRef: {fieldPath: metadata.name}}]}",
        &expect![[r#"
            v.downwardAPI.path: Invalid value: "n\u0000": must not contain NUL
        "#]],
    );
    container(
        "volumeMounts: [{name: v, mountPath: \"/d\\0\", subPath: \"s\\0\"}]",
        &expect![[r#"
            spec.containers[0].volumeMounts[0].mountPath: Invalid value: "/d\u0000": must not contain NUL
            spec.containers[0].volumeMounts.subPath: Invalid value: "s\u0000": must not contain NUL
        "#]],
    );
}

//! Pods and other objects whose fields reach for what is not theirs.

use super::case::{Case, PODS};
use serde_json::{Value, json};

/// A pod that would be taken, with these changes to its container and its spec.
fn pod(container: Value, spec: Value) -> Vec<u8> {
    let mut c = json!({"name": "c", "image": "kubernetes-spring:1.0"});
    merge(&mut c, container);
    let mut s = json!({"containers": [c]});
    merge(&mut s, spec);
    serde_json::to_vec(&json!({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "hostile"}, "spec": s})).unwrap()
}

fn merge(into: &mut Value, from: Value) {
    let Value::Object(from) = from else { panic!("not an object: {from}") };
    into.as_object_mut().unwrap().extend(from);
}

/// Fields of a container.
fn containers() -> Vec<(&'static str, Value)> {
    let mount = |field: &str, value: &str| json!({"volumeMounts": [{"name": "v", "mountPath": "/m", field: value}]});
    let resources = |cpu: &str| json!({"resources": {"limits": {"cpu": cpu}}});
    let probe = |field: &str, value: i64| json!({"livenessProbe": {"exec": {"command": ["x"]}, field: value}});
    vec![
        ("a name with dots", json!({"name": "../c"})),
        ("a name with NUL", json!({"name": "c\u{0}"})),
        ("a name of 64 letters", json!({"name": "c".repeat(64)})),
        ("no image", json!({"image": ""})),
        ("an image with spaces", json!({"image": " i "})),
        ("a policy of pulling that is none", json!({"imagePullPolicy": "Sometimes"})),
        ("a sub-path upwards", mount("subPath", "../../etc")),
        ("a sub-path from the root", mount("subPath", "/etc")),
        ("a sub-path expression upwards", mount("subPathExpr", "a/../../etc")),
        ("a mount of a volume that is none", json!({"volumeMounts": [{"name": "none", "mountPath": "/m"}]})),
        ("a mount at no path", mount("mountPath", "")),
        ("a propagation that is none", mount("mountPropagation", "Sideways")),
        (
            "two mounts at one path",
            json!({"volumeMounts": [{"name": "v", "mountPath": "/m"}, {"name": "v", "mountPath": "/m"}]}),
        ),
        ("a variable without a name", json!({"env": [{"name": "", "value": "x"}]})),
        ("a variable with an equals sign", json!({"env": [{"name": "a=b", "value": "x"}]})),
        (
            "a variable from two places",
            json!({"env": [{"name": "a", "value": "x", "valueFrom": {"fieldRef": {"fieldPath": "metadata.name"}}}]}),
        ),
        (
            "a variable from a field that is none",
            json!({"env": [{"name": "a", "valueFrom": {"fieldRef": {"fieldPath": "spec.secrets"}}}]}),
        ),
        ("port 0", json!({"ports": [{"containerPort": 0}]})),
        ("port 70000", json!({"ports": [{"containerPort": 70000}]})),
        ("host port -1", json!({"ports": [{"containerPort": 80, "hostPort": -1}]})),
        ("a protocol that is none", json!({"ports": [{"containerPort": 80, "protocol": "ICMP"}]})),
        ("a host address that is none", json!({"ports": [{"containerPort": 80, "hostPort": 80, "hostIP": "x"}]})),
        (
            "two ports of one name",
            json!({"ports": [{"containerPort": 80, "name": "a"}, {"containerPort": 81, "name": "a"}]}),
        ),
        ("less than no processor", resources("-1")),
        ("a quantity that is none", resources("NaN")),
        ("a quantity of words", resources("many")),
        ("a request above its limit", json!({"resources": {"limits": {"cpu": "1"}, "requests": {"cpu": "2"}}})),
        ("a resource that is none", json!({"resources": {"limits": {"unicorns": "1"}}})),
        ("a user below zero", json!({"securityContext": {"runAsUser": -1}})),
        ("a user beyond all", json!({"securityContext": {"runAsUser": i64::MAX}})),
        (
            "a privileged one that may not gain",
            json!({"securityContext": {"privileged": true, "allowPrivilegeEscalation": false}}),
        ),
        (
            "a profile that is none",
            json!({"securityContext": {"seccompProfile": {"type": "Localhost", "localhostProfile": "../../etc/passwd"}}}),
        ),
        ("a probe every minus one seconds", probe("periodSeconds", -1)),
        ("a probe that waits 2^40 seconds", probe("initialDelaySeconds", 1 << 40)),
        ("a probe that never succeeds", probe("successThreshold", 2)),
        ("a probe of nothing", json!({"livenessProbe": {}})),
        ("a probe of two things", json!({"livenessProbe": {"exec": {"command": ["x"]}, "tcpSocket": {"port": 1}}})),
        ("a probe of port 0", json!({"livenessProbe": {"tcpSocket": {"port": 0}}})),
        (
            "a probe with a bad header",
            json!({"livenessProbe": {"httpGet": {"port": 80, "httpHeaders": [{"name": "a\r\nb", "value": "c"}]}}}),
        ),
        ("a hook that is empty", json!({"lifecycle": {"preStop": {}}})),
        ("a hook that sleeps for ever", json!({"lifecycle": {"preStop": {"sleep": {"seconds": i64::MAX}}}})),
        ("an unknown policy of messages", json!({"terminationMessagePolicy": "Sometimes"})),
        ("a standard input of numbers", json!({"stdin": 3})),
        ("a command that is a text", json!({"command": "sh"})),
    ]
}

/// Fields of a pod.
fn specs() -> Vec<(&'static str, Value)> {
    let volume = |source: Value| {
        let mut v = json!({"name": "w"});
        merge(&mut v, source);
        json!({"volumes": [v]})
    };
    let item = |path: &str| volume(json!({"configMap": {"name": "x", "items": [{"key": "k", "path": path}]}}));
    vec![
        ("no container", json!({"containers": []})),
        (
            "two containers of one name",
            json!({"containers": [{"name": "c", "image": "i"}, {"name": "c", "image": "i"}]}),
        ),
        ("a volume with dots as name", json!({"volumes": [{"name": "..", "emptyDir": {}}]})),
        ("two volumes of one name", json!({"volumes": [{"name": "w", "emptyDir": {}}, {"name": "w", "emptyDir": {}}]})),
        ("a volume of two kinds", volume(json!({"emptyDir": {}, "hostPath": {"path": "/"}}))),
        ("a host path upwards", volume(json!({"hostPath": {"path": "/a/../../etc"}}))),
        ("a host path of a type that is none", volume(json!({"hostPath": {"path": "/a", "type": "Hole"}}))),
        ("an item upwards", item("../x")),
        ("an item from the root", item("/x")),
        ("an item with NUL", item("a\u{0}b")),
        ("an item that starts with two dots", item("..data")),
        (
            "a secret's item with NUL",
            volume(json!({"secret": {"secretName": "x", "items": [{"key": "k", "path": "a\u{0}"}]}})),
        ),
        ("a mode beyond all", volume(json!({"configMap": {"name": "x", "defaultMode": 99999}}))),
        ("a medium that is none", volume(json!({"emptyDir": {"medium": "Paper"}}))),
        ("a size below zero", volume(json!({"emptyDir": {"sizeLimit": "-1"}}))),
        (
            "two projections to one path",
            volume(json!({"projected": {"sources": [
            {"configMap": {"name": "x", "items": [{"key": "k", "path": "p"}]}}, {"configMap": {"name": "y", "items": [{"key": "k", "path": "p"}]}}]}})),
        ),
        ("a deadline of zero", json!({"activeDeadlineSeconds": 0})),
        ("a deadline beyond all", json!({"activeDeadlineSeconds": i64::MAX})),
        ("a policy of restarts that is none", json!({"restartPolicy": "Sometimes"})),
        ("a host name that is none", json!({"hostname": "a_b"})),
        ("a policy of names that is none", json!({"dnsPolicy": "Guess"})),
        ("four name servers", json!({"dnsConfig": {"nameservers": ["1.1.1.1", "1.1.1.2", "1.1.1.3", "1.1.1.4"]}})),
        ("a name server that is none", json!({"dnsConfig": {"nameservers": ["x"]}})),
        ("an address of hosts that is none", json!({"hostAliases": [{"ip": "x", "hostnames": ["a"]}]})),
        ("a host alias with a line end", json!({"hostAliases": [{"ip": "1.1.1.1", "hostnames": ["a\nb"]}]})),
        ("a priority class that is none", json!({"priorityClassName": "no-such-class"})),
        ("a selector of nodes that is bad", json!({"nodeSelector": {"-a-": "b"}})),
        ("a toleration that is none", json!({"tolerations": [{"operator": "Maybe"}]})),
        (
            "a toleration of seconds without effect",
            json!({"tolerations": [{"key": "a", "operator": "Exists", "effect": "NoSchedule", "tolerationSeconds": 3}]}),
        ),
        ("a sysctl that is none", json!({"securityContext": {"sysctls": [{"name": "a b", "value": "1"}]}})),
        ("a group below zero", json!({"securityContext": {"fsGroup": -1}})),
        ("groups beyond all", json!({"securityContext": {"supplementalGroups": [i64::MAX]}})),
        ("an ephemeral container at the create", json!({"ephemeralContainers": [{"name": "e", "image": "i"}]})),
        (
            "a spread without a key",
            json!({"topologySpreadConstraints": [{"maxSkew": 0, "topologyKey": "", "whenUnsatisfiable": "Never"}]}),
        ),
        (
            "an affinity with an operator that is none",
            json!({"affinity": {"nodeAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": {"nodeSelectorTerms": [{"matchExpressions": [{"key": "a", "operator": "Like"}]}]}}}}),
        ),
        ("10,000 containers of one name", json!({"containers": vec![json!({"name": "c", "image": "i"}); 10_000]})),
        ("a service account with slashes", json!({"serviceAccountName": "../x"})),
        ("a runtime class that is none", json!({"runtimeClassName": "a/b"})),
    ]
}

/// Other objects.
fn others() -> Vec<Case> {
    let service =
        |spec: Value| json!({"apiVersion": "v1", "kind": "Service", "metadata": {"name": "hostile"}, "spec": spec});
    let deployment = |spec: Value| {
        let mut all = json!({"selector": {"matchLabels": {"a": "b"}}, "template": {"metadata": {"labels": {"a": "b"}}, "spec": {"containers": [{"name": "c", "image": "i"}]}}});
        merge(&mut all, spec);
        json!({"apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": "hostile"}, "spec": all})
    };
    let services = [
        ("an address outside of the range", json!({"clusterIP": "8.8.8.8", "ports": [{"port": 80}]})),
        ("an address that is none", json!({"clusterIP": "x", "ports": [{"port": 80}]})),
        ("port 0", json!({"ports": [{"port": 0}]})),
        ("node port 1", json!({"type": "NodePort", "ports": [{"port": 80, "nodePort": 1}]})),
        ("node port beyond all", json!({"type": "NodePort", "ports": [{"port": 80, "nodePort": 4_294_997_296_i64}]})),
        ("a type that is none", json!({"type": "Magic", "ports": [{"port": 80}]})),
        ("an outside name that is none", json!({"type": "ExternalName", "externalName": "a b"})),
        ("an outside address that is loopback", json!({"externalIPs": ["127.0.0.1"], "ports": [{"port": 80}]})),
        (
            "a source range that is none",
            json!({"type": "LoadBalancer", "loadBalancerSourceRanges": ["x"], "ports": [{"port": 80}]}),
        ),
        (
            "an affinity for ever",
            json!({"sessionAffinity": "ClientIP", "sessionAffinityConfig": {"clientIP": {"timeoutSeconds": i32::MAX}}, "ports": [{"port": 80}]}),
        ),
        ("two ports without names", json!({"ports": [{"port": 80}, {"port": 81}]})),
    ];
    let deployments = [
        ("less than no replicas", json!({"replicas": -1})),
        ("replicas beyond all", json!({"replicas": i64::MAX})),
        ("seconds beyond all", json!({"minReadySeconds": i64::MAX})),
        ("a deadline within the ready time", json!({"minReadySeconds": 600, "progressDeadlineSeconds": 600})),
        ("a surge of nothing", json!({"strategy": {"rollingUpdate": {"maxSurge": 0, "maxUnavailable": 0}}})),
        ("a surge of -5%", json!({"strategy": {"rollingUpdate": {"maxSurge": "-5%"}}})),
        ("a share above all", json!({"strategy": {"rollingUpdate": {"maxUnavailable": "101%"}}})),
        ("a history below zero", json!({"revisionHistoryLimit": -1})),
        ("a selector of everything", json!({"selector": {}})),
    ];
    let json = |kind: &str, name: &str, path: &str, body: &Value| {
        Case::json(format!("{kind}: {name}"), path, body.to_string())
    };
    let services =
        services.map(|(name, spec)| json("service", name, "/api/v1/namespaces/default/services", &service(spec)));
    let path = "/apis/apps/v1/namespaces/default/deployments";
    let deployments = deployments.map(|(name, spec)| json("deployment", name, path, &deployment(spec)));
    services.into_iter().chain(deployments).collect()
}

/// All of them. Containers have an `emptyDir` named `v` to mount.
pub fn all() -> Vec<Case> {
    let v = || json!({"volumes": [{"name": "v", "emptyDir": {}}]});
    let containers =
        containers().into_iter().map(|(name, c)| Case::json(format!("container: {name}"), PODS, pod(c, v())));
    let specs = specs().into_iter().map(|(name, s)| Case::json(format!("pod: {name}"), PODS, pod(json!({}), s)));
    containers.chain(specs).chain(others()).collect()
}

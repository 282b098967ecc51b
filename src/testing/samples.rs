//! A small valid object of every kind, as a user might write it: without what every object has.

use base64::{Engine as _, prelude::BASE64_STANDARD};
use serde_json::{Value, json};

/// The object of this group and kind; most kinds are content with nothing.
pub fn sample(group: &str, kind: &str) -> Value {
    let labels = json!({ "app": "web" });
    let pod = json!({ "containers": [{ "name": "web", "image": "nginx" }] });
    let template = json!({ "metadata": { "labels": labels }, "spec": pod });
    let job = json!({ "template": { "spec": { "restartPolicy": "Never", "containers": pod["containers"] } } });
    let selector = json!({ "matchLabels": labels });
    let devices = json!({ "devices": { "requests": [{ "name": "gpu", "exactly": { "deviceClassName": "gpu" } }] } });
    match (group, kind) {
        (_, "Deployment" | "ReplicaSet" | "DaemonSet") => {
            json!({ "spec": { "selector": selector, "template": template } })
        }
        (_, "StatefulSet") => json!({ "spec": { "serviceName": "web", "selector": selector, "template": template } }),
        (_, "ReplicationController" | "DeploymentConfig") => json!({ "spec": { "template": template } }),
        (_, "PodTemplate") => json!({ "template": template }),
        (_, "Pod") => json!({ "spec": pod }),
        (_, "Job") => json!({ "spec": job }),
        (_, "CronJob") => json!({ "spec": { "schedule": "@daily", "jobTemplate": { "spec": job } } }),
        (_, "Service") => json!({ "spec": { "ports": [{ "port": 80 }] } }),
        (_, "EndpointSlice") => {
            json!({ "addressType": "IPv4", "endpoints": [{ "addresses": ["10.244.0.7"] }], "ports": [{ "port": 80 }] })
        }
        (_, "Endpoints") => {
            json!({ "subsets": [{ "addresses": [{ "ip": "10.244.0.7" }], "ports": [{ "port": 80 }] }] })
        }
        (_, "Secret") => json!({ "stringData": { "a": "b" } }),
        (_, "ConfigMap") => json!({ "data": { "a": "b" } }),
        ("", "Event") => json!({ "involvedObject": { "kind": "Pod", "namespace": "default", "name": "web" } }),
        (_, "Event") => json!({
            "regarding": { "kind": "Pod", "namespace": "default", "name": "web" }, "type": "Normal", "reason": "Seen",
            "action": "See", "reportingController": "example.com/eye", "reportingInstance": "eye-1",
            "eventTime": "2026-01-01T00:00:00.000000Z",
        }),
        (_, "ControllerRevision") => json!({ "revision": 1, "data": { "a": 1 } }),
        (_, "CertificateSigningRequest") => {
            let pem = "-----BEGIN CERTIFICATE REQUEST-----\nAAAA\n-----END CERTIFICATE REQUEST-----\n";
            let request = BASE64_STANDARD.encode(pem);
            json!({ "spec": { "request": request, "usages": ["client auth"], "signerName": "example.com/signer" } })
        }
        (_, "CSIDriver") => json!({ "spec": {} }),
        (_, "CSINode") => json!({ "spec": { "drivers": [] } }),
        (_, "CSIStorageCapacity") => json!({ "storageClassName": "slow", "capacity": "1Gi" }),
        (_, "HorizontalPodAutoscaler") => {
            json!({ "spec": { "maxReplicas": 3, "scaleTargetRef": { "apiVersion": "apps/v1", "kind": "Deployment", "name": "web" } } })
        }
        (_, "Ingress") => {
            json!({ "spec": { "defaultBackend": { "service": { "name": "web", "port": { "number": 80 } } } } })
        }
        (_, "FlowSchema") => json!({ "spec": { "priorityLevelConfiguration": { "name": "catch-all" } } }),
        (_, "PriorityLevelConfiguration") => {
            json!({ "spec": { "type": "Limited", "limited": { "limitResponse": { "type": "Reject" } } } })
        }
        (_, "IPAddress") => json!({ "spec": { "parentRef": { "resource": "services", "name": "web" } } }),
        (_, "ServiceCIDR") => json!({ "spec": { "cidrs": ["10.9.0.0/16"] } }),
        (_, "MutatingWebhookConfiguration" | "ValidatingWebhookConfiguration") => json!({ "webhooks": [{
            "name": "web.example.com", "clientConfig": { "url": "https://example.com" }, "sideEffects": "None",
            "admissionReviewVersions": ["v1"],
        }] }),
        (_, "ValidatingAdmissionPolicy") => json!({ "spec": {
            "matchConstraints": { "resourceRules": [
                { "operations": ["CREATE"], "apiGroups": [""], "apiVersions": ["v1"], "resources": ["pods"] },
            ] },
            "validations": [{ "expression": "true" }],
        } }),
        (_, "ValidatingAdmissionPolicyBinding") => {
            json!({ "spec": { "policyName": "web", "validationActions": ["Deny"] } })
        }
        (_, "MutatingAdmissionPolicy") => json!({ "spec": {
            "matchConstraints": { "resourceRules": [
                { "operations": ["CREATE"], "apiGroups": [""], "apiVersions": ["v1"], "resources": ["pods"] },
            ] },
            "mutations": [{ "patchType": "JSONPatch", "jsonPatch": { "expression": "[]" } }],
            "reinvocationPolicy": "Never",
        } }),
        (_, "MutatingAdmissionPolicyBinding") => json!({ "spec": { "policyName": "web" } }),
        (_, "DeviceClass") => json!({ "spec": { "selectors": [{ "cel": { "expression": "true" } }] } }),
        (_, "DeviceTaintRule") => {
            json!({ "spec": { "taint": { "key": "example.com/broken", "effect": "NoExecute" } } })
        }
        (_, "ResourceClaim") => json!({ "spec": devices }),
        (_, "ResourceClaimTemplate") => json!({ "spec": { "spec": devices } }),
        (_, "ResourceSlice") => json!({ "spec": {
            "driver": "gpu.example.com", "pool": { "name": "one", "generation": 1, "resourceSliceCount": 1 },
            "nodeName": "one", "devices": [{ "name": "gpu-0", "attributes": { "model": { "string": "a" } } }],
        } }),
        (_, "StorageVersionMigration") => {
            json!({ "spec": { "resource": { "group": "apps", "resource": "deployments" } } })
        }
        (_, "Route") => json!({ "spec": { "to": { "kind": "Service", "name": "web" } } }),
        (_, "IngressClass") => json!({ "spec": { "controller": "example.com/router" } }),
        (_, "NetworkPolicy") => json!({ "spec": { "podSelector": selector } }),
        (_, "LimitRange") => json!({ "spec": { "limits": [{ "type": "Container", "max": { "cpu": "1" } }] } }),
        (_, "ResourceQuota") => json!({ "spec": { "hard": { "pods": "4" } } }),
        (_, "PersistentVolume") => json!({ "spec": {
            "capacity": { "storage": "1Gi" }, "accessModes": ["ReadWriteOnce"], "hostPath": { "path": "/data" },
        } }),
        (_, "PersistentVolumeClaim") => {
            json!({ "spec": { "accessModes": ["ReadWriteOnce"], "resources": { "requests": { "storage": "1Gi" } } } })
        }
        (_, "PodDisruptionBudget") => json!({ "spec": { "minAvailable": 1, "selector": selector } }),
        (_, "PriorityClass") => json!({ "value": 7 }),
        (_, "Role" | "ClusterRole") => {
            json!({ "rules": [{ "apiGroups": [""], "resources": ["pods"], "verbs": ["get"] }] })
        }
        (_, "RoleBinding" | "ClusterRoleBinding") => json!({
            "roleRef": { "apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": "view" },
            "subjects": [{ "kind": "User", "name": "jane" }],
        }),
        (_, "RuntimeClass") => json!({ "handler": "runc" }),
        (_, "StorageClass") => json!({ "provisioner": "example.com/disk" }),
        (_, "VolumeAttachment") => {
            json!({ "spec": { "attacher": "example.com", "nodeName": "skiff", "source": { "persistentVolumeName": "v" } } })
        }
        (_, "VolumeAttributesClass") => json!({ "driverName": "example.com" }),
        _ => json!({}),
    }
}

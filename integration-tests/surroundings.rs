//! What surroundings say to a write, with real kubectl: quotas, pod security, default classes.

use crate::harness::{
    cluster::Cluster,
    tools::text,
    wait::{SOON, eventually, until_equal},
};

#[test]
fn a_deployment_gets_as_many_pods_as_its_quota_leaves_and_says_so() {
    let cluster = Cluster::start("quota");
    cluster.kubectl(&["create", "namespace", "team"]);
    cluster.kubectl(&[
        "-n",
        "team",
        "create",
        "quota",
        "few",
        "--hard=pods=2,requests.cpu=1,count/configmaps=2,services.nodeports=0",
    ]);
    let used = || cluster.jsonpath(&["-n", "team", "quota", "few"], "{.status.used.pods}/{.status.hard.pods}");
    until_equal("the quota is counted", SOON, "0/2".to_owned(), used);
    let image = cluster.jsonpath(&["-n", "kube-system", "pods"], "{.items[0].spec.containers[0].image}");
    let manifest = format!(
        "{{apiVersion: apps/v1, kind: Deployment, metadata: {{name: web, namespace: team}}, spec: {{replicas: 4, selector: {{matchLabels: {{app: web}}}},
          template: {{metadata: {{labels: {{app: web}}}}, spec: {{containers: [{{name: c, image: {image}, imagePullPolicy: Never, args: [demo-server],
          resources: {{requests: {{cpu: 100m}}}}}}]}}}}}}}}"
    );
    cluster.apply(&manifest);
    until_equal("two of four", SOON, "2".to_owned(), || {
        cluster.jsonpath(&["-n", "team", "deployment", "web"], "{.status.readyReplicas}")
    });
    let said = "exceeded quota: few, requested: pods=1, used: pods=2, limited: pods=2";
    eventually("the refusal is an Event", SOON, || {
        let events = cluster.kubectl(&["-n", "team", "get", "events"]);
        if events.contains("FailedCreate") && events.contains(said) { Ok(()) } else { Err(events) }
    });
    assert!(cluster.kubectl(&["-n", "team", "describe", "quota", "few"]).contains("requests.cpu"));
    let refused = cluster.kubectl_fails(&["-n", "team", "run", "more", "--image", &image]);
    assert!(refused.contains("failed quota: few: must specify requests.cpu for: more"), "{refused}");
    cluster.kubectl(&["-n", "team", "create", "configmap", "one"]);
    let refused = cluster.kubectl_fails(&["-n", "team", "create", "configmap", "two"]);
    assert!(
        refused.contains("exceeded quota: few, requested: count/configmaps=1, used: count/configmaps=2"),
        "{refused}"
    );
    // What is given back is used at once.
    cluster.kubectl(&["-n", "team", "patch", "quota", "few", "-p", r#"{"spec":{"hard":{"pods":"4"}}}"#]);
    until_equal("all four", SOON, "4".to_owned(), || {
        cluster.jsonpath(&["-n", "team", "deployment", "web"], "{.status.readyReplicas}")
    });
    cluster.kubectl(&["-n", "team", "delete", "deployment", "web"]);
    until_equal("nothing is used", SOON, "0/4".to_owned(), used);
}

#[test]
fn namespaces_say_how_secure_pods_are_and_claims_get_the_default_class() {
    let cluster = Cluster::start("secure");
    let run = |args: &[&str]| text(&cluster.kubectl_command(args).output().unwrap().stderr);
    cluster.kubectl(&["create", "namespace", "tight"]);
    cluster.kubectl(&["label", "namespace", "tight", "pod-security.kubernetes.io/enforce=restricted"]);
    let refused = run(&["-n", "tight", "run", "plain", "--image=none:1"]);
    let wanted = "Error from server (Forbidden): pods \"plain\" is forbidden: violates PodSecurity \"restricted:latest\": allowPrivilegeEscalation != false \
                  (container \"plain\" must set securityContext.allowPrivilegeEscalation=false), unrestricted capabilities (container \"plain\" must set \
                  securityContext.capabilities.drop=[\"ALL\"]), runAsNonRoot != true (pod or container \"plain\" must set securityContext.runAsNonRoot=true), \
                  seccompProfile (pod or container \"plain\" must set securityContext.seccompProfile.type to \"RuntimeDefault\" or \"Localhost\")";
    assert_eq!(refused.trim(), wanted);
    cluster.kubectl(&["label", "namespace", "default", "pod-security.kubernetes.io/warn=baseline"]);
    let manifest = "{apiVersion: apps/v1, kind: Deployment, metadata: {name: wild}, spec: {replicas: 0, selector: {matchLabels: {app: w}}, template:
        {metadata: {labels: {app: w}}, spec: {hostNetwork: true, containers: [{name: c, image: 'none:1'}]}}}}";
    let warned = text(&cluster.kubectl_stdin(&["apply", "-f", "-"], manifest).stderr);
    assert!(
        warned.contains("Warning: would violate PodSecurity \"baseline:latest\": host namespaces (hostNetwork=true)"),
        "{warned}"
    );
    let applied =
        text(&cluster.kubectl_stdin(&["apply", "--server-side", "--force-conflicts", "-f", "-"], manifest).stderr);
    assert!(applied.contains("Warning: would violate PodSecurity"), "{applied}");
    cluster.kubectl(&["run", "sleeper", "--image=none:1", "--image-pull-policy=Never"]);
    let warned = run(&["label", "namespace", "default", "pod-security.kubernetes.io/enforce=restricted"]);
    for part in [
        "existing pods in namespace \"default\" violate the new PodSecurity enforce level \"restricted:latest\"",
        "sleeper: allowPrivilegeEscalation != false",
    ] {
        assert!(warned.contains(part), "{part:?} is not in {warned:?}");
    }
    assert!(
        cluster
            .kubectl(&["get", "sc"])
            .contains("standard (default)   skiff.dev/docker-volume   Delete          WaitForFirstConsumer   true")
    );
    let claim = "{apiVersion: v1, kind: PersistentVolumeClaim, metadata: {name: data}, spec: {accessModes: [ReadWriteOnce], resources: {requests: {storage: 1Gi}}}}";
    assert_eq!(text(&cluster.kubectl_stdin(&["apply", "-f", "-"], claim).stderr), "");
    assert_eq!(cluster.jsonpath(&["pvc", "data"], "{.spec.storageClassName}"), "standard");
}

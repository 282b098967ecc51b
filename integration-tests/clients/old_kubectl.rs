//! kubectl 1.20, from before server-side apply, events v1 and the protobuf of typed clients: what it does still works.

use super::{CALLS_MIN, IMAGE, cluster};
use crate::harness::{
    cluster::Cluster,
    tools::{KUBECTL_20, output, text},
};
use std::process::Command;

/// Calls in their order, and what each must say.
const CALLS: &[(&str, &str)] = &[
    ("version --short", "Server Version: v1.37"),
    ("api-versions", "flowcontrol.apiserver.k8s.io/v1\n"),
    ("api-resources --api-group=apps", "statefulsets"),
    ("explain deployment.spec.replicas", "FIELD:    replicas <integer>"),
    ("cluster-info", "is running at"),
    ("get nodes", "Ready"),
    ("describe nodes", "Roles:              control-plane"),
    ("create namespace old", "namespace/old created"),
    ("get namespace old -o name", "namespace/old"),
    ("config set-context --current --namespace=old", "modified"),
    ("create configmap cm --from-literal=a=b", "configmap/cm created"),
    ("get configmap cm -o yaml", "  a: b\n"),
    ("label configmap cm x=y", "configmap/cm labeled"),
    ("annotate configmap cm x=y", "configmap/cm annotated"),
    ("get configmaps -l x=y -o name", "configmap/cm"),
    ("patch configmap cm -p {\"data\":{\"c\":\"d\"}}", "configmap/cm patched"),
    ("patch configmap cm --type=merge -p {\"data\":{\"e\":\"f\"}}", "configmap/cm patched"),
    ("patch configmap cm --type=json -p [{\"op\":\"remove\",\"path\":\"/data/c\"}]", "configmap/cm patched"),
    ("get configmap cm -o jsonpath={.data}", "{\"a\":\"b\",\"e\":\"f\"}"),
    ("create secret generic s --from-literal=k=v", "secret/s created"),
    ("describe secret s", "k:  1 bytes"),
    ("create serviceaccount sa", "serviceaccount/sa created"),
    ("create deployment web --image=IMAGE --replicas=1", "deployment.apps/web created"),
    ("rollout status deployment/web --timeout=60s", "successfully rolled out"),
    ("expose deployment web --port=80 --target-port=8080", "service/web exposed"),
    ("get service web -o jsonpath={.spec.ports[0].targetPort}", "8080"),
    ("scale deployment web --replicas=2", "deployment.apps/web scaled"),
    ("rollout status deployment/web --timeout=60s", "successfully rolled out"),
    ("set env deployment/web A=b", "deployment.apps/web env updated"),
    ("rollout status deployment/web --timeout=60s", "successfully rolled out"),
    ("rollout history deployment/web", "2         <none>"),
    ("rollout undo deployment/web", "deployment.apps/web rolled back"),
    ("rollout restart deployment/web", "deployment.apps/web restarted"),
    ("rollout pause deployment/web", "deployment.apps/web paused"),
    ("rollout resume deployment/web", "deployment.apps/web resumed"),
    ("rollout status deployment/web --timeout=60s", "successfully rolled out"),
    ("get all", "replicaset.apps/web-"),
    ("get pods -o wide", "Running"),
    ("describe deployment web", "NewReplicaSet:"),
    ("get events", "Scheduled"),
    ("autoscale deployment web --max=3", "horizontalpodautoscaler.autoscaling/web autoscaled"),
    ("run once --image=IMAGE --image-pull-policy=IfNotPresent --restart=Never", "pod/once created"),
    ("wait --for=condition=Ready pod/once --timeout=60s", "pod/once condition met"),
    ("logs once", "listens on"),
    ("get pod once -o custom-columns=P:.status.phase --no-headers", "Running"),
    ("delete pod once --grace-period=1", "pod \"once\" deleted"),
    ("create role r --verb=get --resource=pods", "role.rbac.authorization.k8s.io/r created"),
    ("create rolebinding rb --role=r --user=u", "rolebinding.rbac.authorization.k8s.io/rb created"),
    ("auth can-i delete pods", "yes"),
    ("create quota q --hard=pods=20", "resourcequota/q created"),
    ("create job j --image=IMAGE", "job.batch/j created"),
    ("create ingress i --rule=a.b/=web:80", "ingress.networking.k8s.io/i created"),
    ("create priorityclass pc --value=5", "priorityclass.scheduling.k8s.io/pc created"),
    ("get flowschemas", "catch-all"),
    ("cordon NODE", "cordoned"),
    ("uncordon NODE", "uncordoned"),
    ("taint node NODE a=b:PreferNoSchedule", "tainted"),
    ("taint node NODE a-", "untainted"),
    ("delete deployment web", "deployment.apps \"web\" deleted"),
    ("delete priorityclass pc", "deleted"),
    ("delete namespace old", "namespace \"old\" deleted"),
];

fn call(cluster: &Cluster, line: &str) -> (bool, String) {
    let line = line.replace("IMAGE", IMAGE).replace("NODE", &cluster.name);
    let mut kubectl = Command::new(&*KUBECTL_20);
    let home = cluster.data_dir();
    let done = output(kubectl.args(line.split(' ')).env("KUBECONFIG", cluster.kubeconfig()).env("HOME", home));
    (done.status.success(), text(&done.stdout) + &text(&done.stderr))
}

#[test]
fn kubectl_1_20_finds_kubernetes() {
    std::sync::LazyLock::force(&KUBECTL_20);
    let cluster = cluster("kubectl-20");
    for (line, want) in CALLS {
        let (is_done, said) = call(&cluster, line);
        assert!(is_done && said.contains(want), "{line}: {said}");
    }
    let distinct: std::collections::BTreeSet<&str> = CALLS.iter().map(|(line, _)| *line).collect();
    assert!(distinct.len() >= CALLS_MIN as usize);
}

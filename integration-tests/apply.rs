//! Applying on the server with the clients that do: kubectl and Helm.

use crate::harness::{
    cluster::{Cluster, root},
    tools::{HELM, output, run, text},
    wait::{SOON, until_equal},
};
use std::{collections::BTreeSet, process::Command};

const WEB: &str = "apiVersion: apps/v1
kind: Deployment
metadata: {name: web}
spec:
  replicas: 1
  selector: {matchLabels: {app: web}}
  template:
    metadata: {labels: {app: web}}
    spec: {containers: [{name: web, image: 'openshift/hello-openshift:latest', imagePullPolicy: IfNotPresent}]}
";

/// What kubectl says of a manifest that it applies on the server.
fn apply(cluster: &Cluster, args: &[&str], manifest: &str) -> Result<String, String> {
    let mut all = vec!["apply", "--server-side", "-f", "-"];
    all.extend(args);
    let out = cluster.kubectl_stdin(&all, manifest);
    if out.status.success() { Ok(text(&out.stdout)) } else { Err(text(&out.stderr)) }
}

fn spec(cluster: &Cluster, path: &str) -> String {
    cluster.jsonpath(&["deployment/web"], &format!("{{.spec.{path}}}"))
}

#[test]
fn kubectl_applies_on_the_server_and_is_told_of_conflicts() {
    let cluster = Cluster::start("ssa");
    let applied = Ok("deployment.apps/web serverside-applied\n".to_owned());
    assert_eq!(apply(&cluster, &[], WEB), applied);
    assert_eq!(apply(&cluster, &[], WEB), applied);
    let generation = cluster.jsonpath(&["deployment/web"], "{.metadata.generation}");
    assert_eq!(generation, "1", "what is applied again changes nothing");

    cluster.kubectl(&["scale", "deployment/web", "--replicas=0"]);
    let said = apply(&cluster, &[], WEB).unwrap_err();
    assert!(said.contains("conflict with \"kubectl\" with subresource \"scale\" using apps/v1"), "{said}");
    assert_eq!(spec(&cluster, "replicas"), "0");
    assert_eq!(apply(&cluster, &["--force-conflicts"], WEB), applied);
    assert_eq!(spec(&cluster, "replicas"), "1");

    // Another manager adds what the first one keeps, and takes it away again.
    let paused = "apiVersion: apps/v1\nkind: Deployment\nmetadata: {name: web}\nspec: {minReadySeconds: 3}\n";
    assert_eq!(apply(&cluster, &["--field-manager=other"], paused), applied);
    assert_eq!(apply(&cluster, &[], WEB), applied);
    assert_eq!(spec(&cluster, "minReadySeconds"), "3");
    assert_eq!(apply(&cluster, &["--field-manager=other"], &paused.replace("minReadySeconds: 3", "")), applied);
    assert_eq!(spec(&cluster, "minReadySeconds"), "");
    let diff = cluster.kubectl_stdin(&["diff", "--server-side", "-f", "-"], &WEB.replace("replicas: 1", "replicas: 2"));
    assert!(text(&diff.stdout).contains("+  replicas: 2"), "{}", text(&diff.stdout));
}

#[test]
fn what_was_applied_by_the_client_is_taken_over() {
    let cluster = Cluster::start("ssa-move");
    let labelled = WEB.replace("{name: web}\nspec", "{name: web, labels: {old: 'yes'}}\nspec");
    cluster.apply(&labelled);
    assert_eq!(apply(&cluster, &[], WEB), Ok("deployment.apps/web serverside-applied\n".to_owned()));
    assert_eq!(
        cluster.jsonpath(&["deployment/web"], "{.metadata.labels.old}"),
        "",
        "it was the client's, and is left out"
    );
    // The annotation of what was applied by the client is kept apart, as kubectl has it. The second in which each wrote orders them.
    let managers = || -> BTreeSet<String> {
        let path = "{.metadata.managedFields[*].manager}";
        let all = cluster.jsonpath(&["deployment/web", "--show-managed-fields"], path);
        all.split(' ').map(str::to_owned).collect()
    };
    let wanted = ["kube-controller-manager", "kubectl", "kubectl-last-applied"].map(str::to_owned).into();
    until_equal("clients own what they wrote, and the cluster what it did", SOON, wanted, managers);
    let path = "{.metadata.managedFields[?(@.subresource==\"status\")]['manager','operation']}";
    assert_eq!(cluster.jsonpath(&["deployment/web", "--show-managed-fields"], path), "kube-controller-manager Update");
}

fn helm(cluster: &Cluster, args: &[&str]) -> Command {
    let mut helm = Command::new(&*HELM);
    helm.args(args).env("KUBECONFIG", cluster.kubeconfig()).env("HOME", cluster.data_dir()).current_dir(root());
    helm
}

#[test]
fn helm_installs_upgrades_rolls_back_and_removes_a_chart() {
    let cluster = Cluster::start("helm");
    run(&mut cluster.skiff(&["demo", "load"]));
    let chart = "integration-tests/charts/shop";
    let wait = ["--wait", "--timeout", "60s"];
    run(helm(&cluster, &["install", "shop", chart]).args(wait));
    assert_eq!(cluster.jsonpath(&["deployment/shop"], "{.status.readyReplicas}"), "1");
    run(helm(&cluster, &["upgrade", "shop", chart, "--set", "replicas=2"]).args(wait));
    assert_eq!(cluster.jsonpath(&["deployment/shop"], "{.status.readyReplicas}"), "2");
    run(helm(&cluster, &["rollback", "shop", "1"]).args(wait));
    assert_eq!(cluster.jsonpath(&["deployment/shop"], "{.spec.replicas}"), "1");
    let history = run(&mut helm(&cluster, &["history", "shop"]));
    assert!(history.contains("superseded") && history.contains("Rollback to 1"), "{history}");
    let path = "{.metadata.managedFields[?(@.manager!=\"kube-controller-manager\")].operation}";
    let managers = cluster.jsonpath(&["deployment/shop", "--show-managed-fields"], path);
    assert_eq!(managers, "Apply", "Helm applies on the server");

    run(helm(&cluster, &["uninstall", "shop", "--wait"]).stdin(std::process::Stdio::null()));
    let kinds = "deployments,services,serviceaccounts,roles,rolebindings,networkpolicies,poddisruptionbudgets,configmaps,secrets,pods";
    let left = || cluster.kubectl(&["get", kinds, "-l", "app=shop", "-o", "name"]);
    until_equal("nothing of the chart is left", SOON, String::new(), left);
    assert!(!output(&mut helm(&cluster, &["status", "shop"])).status.success());
}

//! DeploymentConfigs on the real engine, with real deployer pods: what their users see, and what hurts them.

use crate::harness::{
    cluster::{Cluster, root},
    tools::{docker, output, run, text},
    wait::{SOON, eventually, until_equal},
};
use std::collections::BTreeSet;

const IMAGE: &str = "openshift/hello-openshift";

/// A DeploymentConfig `web` with a value in its environment, and a strategy.
fn web(value: &str, strategy: &str) -> String {
    format!(
        "apiVersion: apps.openshift.io/v1\nkind: DeploymentConfig\nmetadata: {{name: web}}\nspec:\n  replicas: 2\n  template:\n    \
         metadata: {{labels: {{app: web}}}}\n    spec:\n      terminationGracePeriodSeconds: 1\n      containers:\n      - name: app\n        \
         image: {IMAGE}\n        imagePullPolicy: IfNotPresent\n        env: [{{name: VALUE, value: {value}}}]\n  strategy: {strategy}\n"
    )
}

const ROLLING: &str = "{type: Rolling}";

/// A part of a rollout; nothing as long as that is not there.
fn of_rollout(cluster: &Cluster, rollout: &str, path: &str) -> String {
    cluster.jsonpath(&["rc", rollout, "--ignore-not-found"], path)
}

fn phase(cluster: &Cluster, rollout: &str) -> String {
    of_rollout(cluster, rollout, "{.metadata.annotations.openshift\\.io/deployment\\.phase}")
}

fn size(cluster: &Cluster, rollout: &str) -> String {
    of_rollout(cluster, rollout, "{.spec.replicas}/{.status.readyReplicas}")
}

/// The container of a rollout's deployer, while it runs.
fn deployer(cluster: &Cluster, rollout: &str) -> String {
    let mine = format!("label=dev.skiff.cluster={}", cluster.name);
    docker(&["ps", "-q", "--filter", &mine, "--filter", &format!("name=k8s_deployment_{rollout}-deploy_")])
        .trim()
        .to_owned()
}

/// The UIDs of the pods of a rollout.
fn pods(cluster: &Cluster, rollout: &str) -> BTreeSet<String> {
    let selector = format!("deployment={rollout}");
    cluster
        .jsonpath(&["pods", "-l", &selector], "{.items[*].metadata.uid}")
        .split_whitespace()
        .map(str::to_owned)
        .collect()
}

fn rolled_out(cluster: &Cluster, config: &str) -> String {
    run(&mut cluster.skiff(&["rollout", "status", config]))
}

#[test]
fn the_example_of_the_documentation_rolls_out_updates_and_scales() {
    let mut cluster = Cluster::start_with("dc", &["-f", "manifests/openshift/frontend.yaml"]);
    let told = rolled_out(&cluster, "dc/frontend");
    assert!(told.ends_with("replication controller \"frontend-1\" successfully rolled out\n"), "{told}");
    until_equal("five pods are ready", SOON, "5/5".to_owned(), || size(&cluster, "frontend-1"));
    let table = cluster.kubectl(&["get", "dc"]);
    let rows: Vec<Vec<&str>> = table.lines().map(|line| line.split_whitespace().collect()).collect();
    assert_eq!(rows[0], ["NAME", "REVISION", "DESIRED", "CURRENT", "TRIGGERED", "BY"]);
    assert_eq!(rows[1], ["frontend", "1", "5", "5", "config,image(hello-openshift:latest)"]);
    assert!(cluster.kubectl(&["logs", "frontend-1-deploy"]).ends_with("--> Success\n"));

    // Two at a time, so that it is soon over; nothing is rolled out twice.
    let faster = r#"{"spec":{"replicas":3,"strategy":{"rollingParams":{"maxSurge":"100%"}},"template":{"metadata":{"annotations":{"a":"b"}}}}}"#;
    cluster.kubectl(&["patch", "dc/frontend", "--type=merge", "-p", faster]);
    // The deployer waits for a control plane that is away, and goes on where it was.
    eventually("the deployer runs", SOON, || {
        if deployer(&cluster, "frontend-2").is_empty() { Err("not yet") } else { Ok(()) }
    });
    cluster.stop("KILL");
    cluster.up(&[]);
    rolled_out(&cluster, "frontend");
    assert_eq!((size(&cluster, "frontend-2"), size(&cluster, "frontend-1")), ("3/3".to_owned(), "0/".to_owned()));
    // What was patched in is none of what is applied, and stays: the template is the same, and nothing rolls out.
    cluster.kubectl(&["apply", "-f", "manifests/openshift/frontend.yaml"]);
    cluster.kubectl(&["scale", "dc/frontend", "--replicas=1"]);
    until_equal("it is scaled", SOON, "1/1".to_owned(), || size(&cluster, "frontend-2"));
    let by_path = cluster.kubectl(&[
        "get",
        "--raw",
        "/apis/apps.openshift.io/v1/namespaces/default/deploymentconfigs/frontend/log",
    ]);
    assert!(by_path.contains("hello-openshift"), "of a complete rollout, it is a pod's: {by_path}");
    cluster.kubectl(&["delete", "dc/frontend"]);
    until_equal("all of it goes", SOON, String::new(), || cluster.jsonpath(&["pods,rc"], "{.items[*].metadata.name}"));
}

#[test]
fn a_template_becomes_a_config_that_a_script_rolls_out_in_two_steps() {
    const TEMPLATE: &str = "manifests/openshift/template.yaml";
    let mut cluster = Cluster::start("template");
    run(&mut cluster.skiff(&["demo", "load"]));
    cluster.kubectl(&["create", "-f", TEMPLATE]);
    let row = cluster.kubectl(&["get", "templates", "--no-headers"]);
    assert!(row.contains("A DeploymentConfig with its Service and Route.") && row.contains("3 (1 blank)"), "{row}");
    let process = |args: &[&str]| output(cluster.skiff(&["process", "-f", TEMPLATE]).args(args).current_dir(root()));
    let refused = text(&process(&[]).stderr);
    assert!(refused.contains("parameter NAME is required and must be specified"), "{refused}");
    let made = process(&["-p", "NAME=shop", "-l", "team=one"]);
    assert_eq!(text(&made.stderr), "shop answers at http://shop.apps.localhost\n");
    cluster.apply(&text(&made.stdout));
    rolled_out(&cluster, "shop");
    until_equal("two pods are ready", SOON, "2/2".to_owned(), || size(&cluster, "shop-1"));
    let log = cluster.kubectl(&["logs", "shop-1-deploy"]);
    let steps: Vec<&str> =
        log.lines().filter(|line| ["Halfway there", "Complete", "--> Success"].contains(line)).collect();
    assert_eq!(steps, ["Halfway there", "--> Success", "Complete"], "{log}");
    let key = cluster.jsonpath(&["secrets", "-l", "team=one,template=greeter"], "{.items[0].data.key}");
    assert_eq!(key.len(), 16, "twelve characters in base64: {key}");

    // Without OpenShift nothing of it is seen; with it, all is there again.
    cluster.stop("TERM");
    cluster.up(&["--without", "openshift"]);
    for kind in ["dc", "routes", "templates", "imagestreams"] {
        // kubectl may remember that there were such kinds.
        let said = cluster.kubectl_fails(&["get", kind]);
        let is_gone = ["doesn't have a resource type", "could not find the requested resource"];
        assert!(is_gone.iter().any(|part| said.contains(part)), "{said}");
    }
    assert!(!cluster.kubectl(&["api-versions"]).contains("openshift"));
    cluster.kubectl(&["create", "ingress", "shop", "--rule=shop.localhost/*=shop:8080"]);
    let address = || cluster.jsonpath(&["ingress", "shop"], "{.status.loadBalancer.ingress[0].ip}");
    until_equal("Ingresses are answered all the same", SOON, "127.0.0.1".to_owned(), address);
    cluster.stop("TERM");
    cluster.up(&[]);
    assert_eq!(
        cluster.kubectl(&["get", "dc,route", "-o", "name"]),
        "deploymentconfig.apps.openshift.io/shop\nroute.route.openshift.io/shop\n"
    );
}

#[test]
fn a_rollout_that_fails_in_any_way_leaves_the_last_one_its_pods() {
    let cluster = Cluster::start("dc-fails");
    run(&mut cluster.skiff(&["demo", "load"]));
    cluster.apply(&web("one", ROLLING));
    rolled_out(&cluster, "web");
    until_equal("two pods are ready", SOON, "2/2".to_owned(), || size(&cluster, "web-1"));
    let first = pods(&cluster, "web-1");

    // A hook says no. Its words are in the deployer's log.
    let hook = "{type: Rolling, rollingParams: {pre: {failurePolicy: Abort, execNewPod: {command: [/skiff, no-such-command]}}}}";
    cluster.apply(&web("two", hook));
    until_equal("the hook fails it", SOON, "Failed".to_owned(), || phase(&cluster, "web-2"));
    let log = cluster.kubectl(&["logs", "web-2-deploy"]);
    assert!(log.contains("--> pre: Failed") && log.contains("unrecognized subcommand 'no-such-command'"), "{log}");
    let failed = output(&mut cluster.skiff(&["rollout", "status", "web"]));
    assert!(text(&failed.stderr).contains("\"web-2\" has failed progressing"), "{}", text(&failed.stderr));

    // The hook's failure is ignored, and the deployer is killed when the new pods come.
    cluster.apply(&web("three", &hook.replace("Abort", "Ignore")));
    let new = || of_rollout(&cluster, "web-3", "{.spec.replicas}");
    eventually("the new pods come", SOON, || if matches!(&*new(), "" | "0") { Err("none yet") } else { Ok(()) });
    docker(&["kill", &deployer(&cluster, "web-3")]);
    until_equal("the kill fails it", SOON, "Failed".to_owned(), || phase(&cluster, "web-3"));
    until_equal("the first has its pods", SOON, "2/2".to_owned(), || size(&cluster, "web-1"));
    until_equal("the third has none", SOON, BTreeSet::new(), || pods(&cluster, "web-3"));
    assert_eq!(deployer(&cluster, "web-3"), "", "none takes over");

    // Cancelled, retried, and undone.
    let slow =
        "{type: Rolling, rollingParams: {pre: {failurePolicy: Abort, execNewPod: {command: [/skiff, demo-server]}}}}";
    cluster.apply(&web("four", slow));
    until_equal("it waits for its hook", SOON, "Running".to_owned(), || phase(&cluster, "web-4"));
    let busy = output(&mut cluster.skiff(&["rollout", "latest", "dc/web"]));
    assert_eq!(text(&busy.stderr), "error: #4 is already in progress (Running).\n");
    run(&mut cluster.skiff(&["rollout", "cancel", "dc/web"]));
    until_equal("it is cancelled", SOON, "Failed".to_owned(), || phase(&cluster, "web-4"));
    until_equal("its hook is gone", SOON, String::new(), || {
        cluster.jsonpath(&["pods", "-l", "openshift.io/deployer-pod-for.name=web-4"], "{.items[*].metadata.name}")
    });
    run(&mut cluster.skiff(&["rollout", "retry", "dc/web"]));
    until_equal("it is tried again", SOON, "Running".to_owned(), || phase(&cluster, "web-4"));
    cluster.apply(&web("five", ROLLING));
    rolled_out(&cluster, "web");
    assert_eq!((phase(&cluster, "web-4"), phase(&cluster, "web-5")), ("Failed".to_owned(), "Complete".to_owned()));
    run(&mut cluster.skiff(&["rollout", "undo", "dc/web", "--to-revision=1"]));
    rolled_out(&cluster, "web");
    let value = cluster.jsonpath(&["rc", "web-6"], "{.spec.template.spec.containers[0].env[0].value}");
    assert_eq!(value, "one");
    assert!(first.is_disjoint(&pods(&cluster, "web-6")));
    changes_roll_out_after_a_pause(&cluster);
}

/// `cluster` has had six rollouts of `web`.
fn changes_roll_out_after_a_pause(cluster: &Cluster) {
    let rollout = |command: &str| output(&mut cluster.skiff(&["rollout", command, "dc/web"]));
    assert!(rollout("pause").status.success());
    let already = "error: deploymentconfigs.apps.openshift.io \"web\" is already paused\n";
    assert_eq!(text(&rollout("pause").stderr), already);
    cluster.apply(&web("seven", ROLLING));
    let held = "error: cannot deploy a paused deployment config: `skiff rollout resume dc/web` first\n";
    assert_eq!(text(&rollout("latest").stderr), held);
    assert_eq!(phase(cluster, "web-7"), "", "a change starts nothing");
    assert_eq!(text(&rollout("resume").stdout), "deploymentconfig.apps.openshift.io/web resumed\n");
    until_equal("it goes on", SOON, "Complete".to_owned(), || phase(cluster, "web-7"));
    assert_eq!(text(&rollout("resume").stderr), "error: deploymentconfigs.apps.openshift.io \"web\" is not paused\n");
    let listed = text(&rollout("history").stdout);
    assert_eq!(listed.lines().count(), 9, "{listed}");
    assert!(listed.contains("\n4         Failed    newer deployment was found running\n"), "{listed}");
    let template = run(&mut cluster.skiff(&["rollout", "history", "dc/web", "--revision=3"]));
    assert!(template.contains("value: three"), "{template}");
}

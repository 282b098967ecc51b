//! A cluster that is saved in a file, and one that begins from it.

use crate::harness::{
    cluster::{Cluster, answers},
    tools::{output, run, text},
    wait::{SOON, until_equal},
};
use std::{path::Path, process::Command};

const NODE_PORT: u16 = 30000;
const APP: &str = "io.kubernetes.container.name=spring-container";

#[track_caller]
fn refused(command: &mut Command) -> String {
    let out = output(command);
    assert!(!out.status.success(), "it did not fail; it said: {}", text(&out.stdout));
    text(&out.stderr)
}

fn snapshot(cluster: &Cluster, verb: &str, file: &Path, args: &[&str]) -> Command {
    let mut command = cluster.skiff(&["snapshot", verb]);
    command.arg(file).args(args);
    command
}

fn names(cluster: &Cluster, what: &str) -> Vec<String> {
    let all = cluster.jsonpath(&[what], "{.items[*].metadata.name}");
    all.split_whitespace().map(str::to_owned).collect()
}

#[test]
fn services_and_pods_come_back_from_a_snapshot_in_another_folder() {
    let mut cluster = Cluster::start_alone("saved", &["-f", "manifests"]);
    answers(NODE_PORT);
    cluster.kubectl(&["create", "configmap", "kept", "--from-literal=k=v"]);
    let (home, pods) = (tempfile::tempdir().unwrap(), names(&cluster, "pods"));
    let (file, file_str) = (home.path().join("saved.snapshot"), home.path().join("data"));
    let elsewhere = file_str.to_str().unwrap();

    // While it runs; what comes later is not in it.
    run(&mut snapshot(&cluster, "save", &file, &[]));
    cluster.kubectl(&["create", "configmap", "late"]);
    let said = refused(&mut snapshot(&cluster, "restore", &file, &["--force"]));
    assert!(said.contains("another skiff uses it already") && said.contains("end it first"), "{said}");

    // Everything of the machine goes, and comes again from the file.
    cluster.stop("INT");
    run(&mut cluster.skiff(&["down"]));
    run(&mut snapshot(&cluster, "restore", &file, &["--data-dir", elsewhere]));
    cluster.up(&["--data-dir", elsewhere]);
    until_equal("the pods run again", SOON, pods.len(), || cluster.containers(APP).len());
    answers(NODE_PORT);
    assert_eq!(names(&cluster, "pods"), pods);
    cluster.kubectl(&["get", "configmap", "kept"]);
    cluster.kubectl_fails(&["get", "configmap", "late"]);

    // A cluster that does not run is saved from its folder, and goes back to what it was.
    cluster.kubectl(&["create", "configmap", "later"]);
    cluster.stop("INT");
    let second = home.path().join("second.snapshot");
    run(&mut snapshot(&cluster, "save", &second, &["--data-dir", elsewhere]));
    let said = refused(&mut snapshot(&cluster, "restore", &file, &["--data-dir", elsewhere]));
    assert!(said.contains("--force"), "{said}");
    let before = cluster.containers(APP);
    run(&mut snapshot(&cluster, "restore", &file, &["--data-dir", elsewhere, "--force"]));
    cluster.up(&["--data-dir", elsewhere]);
    cluster.kubectl_fails(&["get", "configmap", "later"]);
    answers(NODE_PORT);
    assert_eq!(cluster.containers(APP), before, "pods that both states know are not touched");
    cluster.stop("INT");
    run(cluster.skiff(&["down"]).args(["--data-dir", elsewhere]));
}

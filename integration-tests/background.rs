//! A control plane in the background, a cluster that is paused, and one that is promoted to another.

use crate::harness::{
    cluster::{Cluster, root},
    registry::Registry,
    tools::{BUSYBOX, another_build, docker, output, run, text},
    wait::{SOON, until_equal},
};
use std::process::Command;

const MANIFEST: &str = "manifests/hello-openshift/deployment.yaml";
const DEPLOYMENT: &str = "deployment/hello-openshift";

/// How many containers of the cluster's pods run.
fn n_running(cluster: &Cluster) -> usize {
    cluster.containers("io.kubernetes.pod.uid").len()
}

fn restarts(cluster: &Cluster) -> String {
    cluster.jsonpath(&["pods", "-A"], "{.items[*].status.containerStatuses[*].restartCount}")
}

#[test]
fn a_paused_cluster_stays_so_and_goes_on_without_blame() {
    let mut cluster = Cluster::start("paused");
    run(&mut cluster.skiff(&["demo", "load"]));
    cluster.kubectl(&["apply", "-f", MANIFEST]);
    cluster.rolled_out("hello-openshift");
    let before = n_running(&cluster);
    assert!(before >= 5, "{before}");
    let told = run(&mut cluster.skiff(&["pause"]));
    assert!(told.contains("is paused: all its containers stopped in"), "{told}");
    assert_eq!(n_running(&cluster), 0);
    let status = run(&mut cluster.skiff(&["status"]));
    assert!(status.contains("paused: `skiff resume` starts its containers again"), "{status}");
    assert!(cluster.kubectl(&["get", "nodes"]).contains("NotReady"));
    // It outlives the control plane.
    cluster.stop("KILL");
    cluster.begin(&[]);
    cluster.expect_line("the cluster is paused: nothing of it runs until `skiff resume`");
    assert_eq!(n_running(&cluster), 0);
    let told = run(&mut cluster.skiff(&["resume"]));
    assert!(told.contains("2 pods are ready again after"), "{told}");
    assert_eq!((n_running(&cluster), &*restarts(&cluster)), (before, "1 1 1"));
}

#[test]
fn a_control_plane_in_the_background_is_ready_when_up_returns_and_another_build_takes_over() {
    // It outlives the cluster, whose control plane may be of the build in it.
    let dir = tempfile::tempdir().unwrap();
    let mut cluster = Cluster::start("background");
    cluster.stop("TERM");
    let address = format!("127.0.0.1:{}", cluster.api_port());
    let told = run(&mut cluster.skiff(&["up", "-d", "--api-address", &address, "-f", MANIFEST]));
    assert!(told.contains("the API is served on") && told.contains("created"), "{told}");
    assert!(told.trim_end().ends_with("`skiff down` removes everything."), "{told}");
    cluster.rolled_out("hello-openshift");
    let again = output(&mut cluster.skiff(&["up", "-d", "--api-address", &address]));
    assert_eq!(again.status.code(), Some(1));
    assert!(text(&again.stderr).contains("runs in the background already"), "{}", text(&again.stderr));
    assert!(run(&mut cluster.skiff(&["logs"])).contains("INFO"));
    let pods = cluster.containers("io.kubernetes.container.name=hello-openshift");

    let mut upgrade = Command::new(another_build(dir.path()));
    let of = cluster.skiff(&["upgrade"]);
    upgrade
        .args(of.get_args())
        .envs(of.get_envs().filter_map(|(name, value)| Some((name, value?))))
        .current_dir(root());
    let told = run(&mut upgrade);
    assert!(told.contains("is run by skiff") && told.contains("containers ran on as they are"), "{told}");
    assert_eq!(cluster.containers("io.kubernetes.container.name=hello-openshift"), pods);
    let name = format!("skiff-up-{}", cluster.name);
    let policy = docker(&["inspect", "-f", "{{.HostConfig.RestartPolicy.Name}} {{.Config.User}}", &name]);
    assert!(policy.starts_with("unless-stopped "), "{policy}");
    // It has the engine's socket: a container that sees all processes is not led to it.
    let pid = docker(&["inspect", "-f", "{{.State.Pid}}", &name]);
    let look = format!("cd /proc/{}; grep -c in-background cmdline; [ -e root/. ] || echo hidden", pid.trim());
    assert_eq!(docker(&["run", "--rm", "--pid=host", &BUSYBOX, "sh", "-c", &look]), "1\nhidden\n");
    let told = run(&mut cluster.skiff(&["stop"]));
    assert!(told.contains("has stopped"), "{told}");
    assert_eq!(cluster.containers("io.kubernetes.container.name=hello-openshift"), pods, "they run on");
    // What does not come up is told, and leaves nothing.
    let taken = std::net::TcpListener::bind(&address).unwrap();
    let out = output(&mut cluster.skiff(&["up", "-d", "--api-address", &address]));
    assert_eq!(out.status.code(), Some(1));
    assert!(text(&out.stdout).contains("is taken by another program"), "{}", text(&out.stdout));
    assert_eq!(docker(&["ps", "-aq", "--filter", &format!("name={name}")]), "");
    drop(taken);
}

#[test]
fn what_runs_here_is_promoted_to_another_cluster() {
    let here = Cluster::start("promoted");
    run(&mut here.skiff(&["demo", "load"]));
    here.kubectl(&["apply", "-f", MANIFEST]);
    here.kubectl(&["expose", DEPLOYMENT, "--type=NodePort", "--port=8080"]);
    let there = here.start_beside("target");
    let promote = |more: &[&str]| {
        let kubeconfig = there.kubeconfig();
        let mut args = vec!["promote", "--context", "it-target", "--kubeconfig", kubeconfig.to_str().unwrap()];
        args.extend(more);
        run(&mut here.skiff(&args))
    };
    let told = promote(&[]);
    assert!(
        told.contains(" + deployment/hello-openshift\n") && told.contains(" + service/hello-openshift\n"),
        "{told}"
    );
    assert!(told.contains("the image openshift/hello-openshift:latest is on this machine alone"), "{told}");
    assert!(told.contains("Nothing was changed: --yes applies it."), "{told}");
    assert!(there.kubectl_fails(&["get", DEPLOYMENT]).contains("NotFound"));
    let registry = Registry::start(None);
    let push = format!("--push={}/shop", registry.address());
    let told = promote(&["--yes", &push]);
    assert!(told.contains("2 of 2 objects are applied"), "{told}");
    assert_eq!(registry.pushed(), ["shop/openshift/hello-openshift/manifests/latest"], "{told}");
    there.rolled_out("hello-openshift");
    // The name is the registry's alone: that cluster has pulled it.
    let image = there.jsonpath(&["pods"], "{.items[0].spec.containers[0].image}");
    assert_eq!(image, format!("{}/shop/openshift/hello-openshift:latest", registry.address()));
    assert!(there.kubectl(&["get", "events"]).contains("Successfully pulled image"));
    let told = promote(&["--dry-run", &push]);
    assert!(
        told.contains(" = deployment/hello-openshift\n") && told.contains("Nothing is to be changed there."),
        "{told}"
    );
    here.kubectl(&["scale", DEPLOYMENT, "--replicas=2"]);
    until_equal("the change is seen", SOON, true, || promote(&["--dry-run", &push]).contains("spec.replicas: 1 -> 2"));
}

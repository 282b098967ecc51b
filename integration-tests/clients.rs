//! Clients of others, each with a suite of its own: whatever one shows that is not as in Kubernetes is a fault of skiff.
//!
//! The suites of Python and JavaScript are scripts in `clients/`; they say how many distinct calls they made.

mod kube_client;
mod old_kubectl;

use crate::harness::{
    cluster::{Cluster, root},
    tools::{JAVASCRIPT_CLIENT, OwnName, PYTHON_CLIENT, run},
};
use std::{fs, process::Command, sync::LazyLock};

/// What the suites' pods run.
const IMAGE: &str = "openshift/hello-openshift:latest";
/// How many distinct calls the suite of a client of Kubernetes makes at least.
const CALLS_MIN: u32 = 30;
/// The same of a client of OpenShift, which is one of Kubernetes too.
const OPENSHIFT_CALLS_MIN: u32 = 25;

fn cluster(name: &str) -> Cluster {
    let cluster = Cluster::start(name);
    run(&mut cluster.skiff(&["demo", "load"]));
    cluster
}

/// Runs a suite in a cluster, as a user of its would.
fn run_suite(cluster: &Cluster, image: &str, suite: &mut Command, calls_min: u32) {
    let known = [("KUBECONFIG", cluster.kubeconfig()), ("HOME", cluster.data_dir())];
    let said = run(suite.arg(image).envs(known).env("PYTHONDONTWRITEBYTECODE", "1"));
    let calls: u32 = said.trim().parse().unwrap_or_else(|_| panic!("it said {said:?} and not how many calls it made"));
    assert!(calls >= calls_min, "{calls}");
}

#[test]
fn the_python_client_finds_kubernetes() {
    // Fetched before its turn, beside other tests.
    LazyLock::force(&PYTHON_CLIENT);
    let cluster = cluster("python");
    let script = root().join("integration-tests/clients/python_client.py");
    let mut python = Command::new("python3");
    run_suite(&cluster, IMAGE, python.env("PYTHONPATH", &*PYTHON_CLIENT).arg(script), CALLS_MIN);
}

#[test]
fn the_javascript_client_finds_kubernetes() {
    LazyLock::force(&JAVASCRIPT_CLIENT);
    let cluster = cluster("javascript");
    run_suite(&cluster, IMAGE, &mut javascript("javascript_client.mjs"), CALLS_MIN);
}

#[test]
fn clients_of_openshift_find_their_kinds() {
    LazyLock::force(&JAVASCRIPT_CLIENT);
    LazyLock::force(&PYTHON_CLIENT);
    let cluster = cluster("openshift");
    let script = root().join("integration-tests/clients/openshift_client.py");
    // Others give the demo's name to images that they make, and each would be a rollout of what follows the name.
    let own = OwnName::of(IMAGE, "skiff-it/clients:latest");
    let mut python = Command::new("python3");
    run_suite(&cluster, own.0, python.env("PYTHONPATH", &*PYTHON_CLIENT).arg(script), OPENSHIFT_CALLS_MIN);
    run_suite(&cluster, own.0, &mut javascript("openshift_client.mjs"), OPENSHIFT_CALLS_MIN);
}

/// A suite in JavaScript. A module finds its packages from where it lies.
fn javascript(suite: &str) -> Command {
    let script = JAVASCRIPT_CLIENT.packages.join(suite);
    for file in [suite, "calls.mjs"] {
        fs::copy(root().join("integration-tests/clients").join(file), JAVASCRIPT_CLIENT.packages.join(file)).unwrap();
    }
    let mut command = Command::new(&JAVASCRIPT_CLIENT.node);
    command.arg(script);
    command
}

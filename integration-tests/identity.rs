//! Whose a cluster is, and whose a file: one skiff runs a cluster, and nothing of others is touched.

use crate::harness::{
    cluster::Cluster,
    ports::free_port,
    tools::{SKIFF, docker, output, run, text},
    wait::{SOON, until_equal},
};
use std::{
    fs,
    os::unix::fs::PermissionsExt as _,
    path::Path,
    process::{Child, Command, Stdio},
};
use tempfile::TempDir;

const APP: &str = "io.kubernetes.container.name=spring-container";

/// The command as another user's shell would run it: another HOME, another data folder, another kubeconfig.
fn from_elsewhere(cluster: &Cluster, home: &TempDir, args: &[&str]) -> Command {
    let mut command = cluster.skiff(args);
    command
        .env("HOME", home.path())
        .env("SKIFF_DATA_DIR", home.path().join("data"))
        .env("KUBECONFIG", home.path().join("kubeconfig"))
        .stdin(Stdio::null());
    command
}

/// What a command says when it fails, as it must.
#[track_caller]
fn refused(command: &mut Command) -> String {
    let out = output(command);
    assert!(!out.status.success(), "it did not fail; it said: {}", text(&out.stdout));
    text(&out.stderr)
}

fn is_empty(folder: &Path) -> bool {
    fs::read_dir(folder).unwrap().next().is_none()
}

#[test]
fn a_cluster_has_one_skiff_whatever_home_it_is_started_from() {
    let mut cluster = Cluster::start_with("one", &["-f", "manifests/pods"]);
    until_equal("three pods run", SOON, 3, || cluster.containers(APP).len());
    let before = cluster.containers(APP);
    let elsewhere = tempfile::tempdir().unwrap();
    let first = cluster.data_dir().display().to_string();
    let address = format!("--api-address=127.0.0.1:{}", free_port());

    let said = refused(&mut from_elsewhere(&cluster, &elsewhere, &["up", &address]));
    assert!(said.contains("another skiff runs the cluster") && said.contains(&first), "{said}");
    let said = refused(&mut from_elsewhere(&cluster, &elsewhere, &["down"]));
    assert!(said.contains("Nothing was removed") && said.contains(&first), "{said}");
    assert!(is_empty(elsewhere.path()));
    assert_eq!(cluster.containers(APP), before);
    cluster.kubectl(&["get", "pods"]);

    // The one that ran is gone: its containers and its state are not.
    cluster.stop("KILL");
    let said = refused(&mut from_elsewhere(&cluster, &elsewhere, &["up", &address]));
    for part in ["its state is elsewhere", &first, "--adopt", "skiff down"] {
        assert!(said.contains(part), "{part:?} is not in {said:?}");
    }
    assert!(is_empty(elsewhere.path()));
    assert_eq!(cluster.containers(APP), before);

    let second = elsewhere.path().join("data");
    cluster.up(&["--adopt", "--data-dir", second.to_str().unwrap()]);
    until_equal("pods that the adopting state does not know go", SOON, 0, || cluster.containers(APP).len());
    run(&mut from_elsewhere(&cluster, &elsewhere, &["down"]));
    assert!(!second.exists());
    let label = format!("label=dev.skiff.cluster={}", cluster.name);
    assert_eq!(docker(&["network", "ls", "-q", "--filter", &label]), "");
}

/// A process that is called skiff and is no control plane, as the program of every sandbox.
struct Namesake(Child);

impl Namesake {
    fn start() -> Self {
        Self(Command::new(SKIFF).args(["demo-server", "--port"]).arg(free_port().to_string()).spawn().unwrap())
    }

    fn runs(&mut self) -> bool {
        self.0.try_wait().unwrap().is_none()
    }
}

impl Drop for Namesake {
    fn drop(&mut self) {
        drop(self.0.kill());
        drop(self.0.wait());
    }
}

#[test]
fn down_touches_no_file_folder_or_process_of_others() {
    let top = tempfile::tempdir().unwrap();
    let data = top.path().join("data");
    fs::create_dir(&data).unwrap();
    fs::set_permissions(&data, fs::Permissions::from_mode(0o755)).unwrap();
    let mut cluster = Cluster::start_with("mine", &["--data-dir", data.to_str().unwrap()]);
    assert_eq!(fs::metadata(&data).unwrap().permissions().mode() & 0o777, 0o755);
    assert_eq!(fs::metadata(data.join("state.redb")).unwrap().permissions().mode() & 0o777, 0o600);
    cluster.stop("KILL");

    let mut namesake = Namesake::start();
    for file in ["skiff.pid", "skiff.lock"] {
        fs::write(data.join(file), format!("{}\n", namesake.0.id())).unwrap();
    }
    fs::write(data.join("notes.txt"), "mine").unwrap();
    let out = output(cluster.skiff(&["down"]).arg("--data-dir").arg(&data));
    assert!(
        out.status.success() && text(&out.stdout).contains("notes.txt"),
        "{}{}",
        text(&out.stdout),
        text(&out.stderr)
    );
    assert!(namesake.runs());
    let left: Vec<_> = fs::read_dir(&data).unwrap().map(|e| e.unwrap().file_name()).collect();
    assert_eq!(left, ["notes.txt"]);

    // A cluster that never was, and a folder that is not skiff's.
    let out = output(cluster.skiff(&["down"]).arg("--data-dir").arg(&data).env("SKIFF_NAME", "it-never"));
    assert!(out.status.success() && text(&out.stdout).contains("is not skiff's"), "{}", text(&out.stdout));
    let said = refused(cluster.skiff(&["up"]).arg("--data-dir").arg(&data).stdin(Stdio::null()));
    assert!(said.contains("is not skiff's"), "{said}");
    assert_eq!(fs::read_to_string(data.join("notes.txt")).unwrap(), "mine");
}

#[test]
fn a_start_that_fails_leaves_nothing() {
    let cluster = Cluster::start("before");
    let config = fs::read_to_string(cluster.kubeconfig()).unwrap();
    let elsewhere = tempfile::tempdir().unwrap();
    let free = format!("127.0.0.1:{}", free_port());
    let cases = [
        (["--cluster-cidr", "127.0.0.0/15", &free], "loopback"),
        (["--cluster-cidr", "224.0.0.0/15", &free], "multicast"),
        (["--cluster-cidr", "240.0.0.0/15", &free], "reserved"),
        (["--cluster-cidr", "172.17.0.0/16", &free], "overlaps"),
        (["--max-pods", "5", "192.0.2.1:6443"], "cannot listen on 192.0.2.1:6443"),
        (["--api-names", "bad näme", &free], "is not a name"),
    ];
    for ([flag, value, address], why) in cases {
        let mut command = cluster.skiff(&["up", flag, value, "--api-address", address]);
        command.env("SKIFF_NAME", "it-fails").env("SKIFF_DATA_DIR", elsewhere.path().join("a/b")).stdin(Stdio::null());
        let said = refused(&mut command);
        assert!(said.contains(why), "{why:?} is not in {said:?}");
        assert!(is_empty(elsewhere.path()), "{flag} {value} {address}");
    }
    for what in ["ps", "network", "volume"] {
        let label = "label=dev.skiff.cluster=it-fails";
        let args = if what == "ps" { vec!["ps", "-aq"] } else { vec![what, "ls", "-q"] };
        assert_eq!(docker(&[&args[..], &["--filter", label]].concat()), "", "{what}");
    }
    assert_eq!(fs::read_to_string(cluster.kubeconfig()).unwrap(), config);
}

#[test]
fn a_context_that_skiff_did_not_make_is_neither_replaced_nor_removed() {
    let cluster = Cluster::start("context");
    let others = "apiVersion: v1\nkind: Config\nclusters:\n- {name: it-theirs, cluster: {server: 'https://other'}}\n";
    let config = cluster.data_dir().with_file_name("theirs");
    fs::write(&config, others).unwrap();
    let theirs = |args: &[&str]| {
        let mut command = cluster.skiff(args);
        let data = cluster.data_dir().with_file_name("none");
        command
            .env("SKIFF_NAME", "it-theirs")
            .env("KUBECONFIG", &config)
            .env("SKIFF_DATA_DIR", data)
            .stdin(Stdio::null());
        command
    };
    let said = refused(&mut theirs(&["up"]));
    assert!(said.contains("skiff did not make"), "{said}");
    run(&mut theirs(&["down"]));
    assert_eq!(fs::read_to_string(&config).unwrap(), others);
}

#[test]
fn a_range_that_hides_an_address_of_the_machine_is_refused_and_told() {
    let cluster = Cluster::start("hides");
    let elsewhere = tempfile::tempdir().unwrap();
    let mut command = cluster.skiff(&["up", "--cluster-cidr", "10.18.0.0/15"]);
    command.env("https_proxy", "http://10.19.9.9:3128").stdin(Stdio::null());
    let said = refused(command.env("SKIFF_NAME", "it-hides2").env("SKIFF_DATA_DIR", elsewhere.path().join("data")));
    assert!(said.contains("10.19.9.9") && said.contains("--cluster-cidr"), "{said}");
    assert!(is_empty(elsewhere.path()));

    let network = format!("skiff-{}", cluster.name);
    let range = docker(&["network", "inspect", "-f", "{{(index .IPAM.Config 0).Subnet}}", &network]);
    let inside = range.trim().replace(".0.0/15", ".9.9");
    let out = output(cluster.skiff(&["doctor"]).env("https_proxy", format!("http://{inside}:3128")));
    let said = text(&out.stdout);
    assert!(!out.status.success() && said.contains(&format!("hides the proxy or engine {inside}")), "{said}");
}

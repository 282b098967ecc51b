//! Whatever a user gets wrong is told with its cause and its place, and changes nothing.

use crate::harness::{
    cluster::{Cluster, answers},
    ports::free_port,
    tools::{SKIFF, docker, output, run, text},
    wait::{SOON, eventually, until_equal},
};
use std::{
    net::TcpListener,
    process::{Command, Stdio},
};

fn deployment(spec: &str, image: &str) -> String {
    format!(
        "apiVersion: apps/v1\nkind: Deployment\nmetadata: {{name: web}}\nspec:\n  selector: {{matchLabels: {{app: web}}}}\n{spec}\n  \
         template:\n    metadata: {{labels: {{app: web}}}}\n    spec:\n      containers:\n      - {{name: c, image: {image}}}\n"
    )
}

fn service(name: &str, node_port: u16) -> String {
    format!(
        "apiVersion: v1\nkind: Service\nmetadata: {{name: {name}}}\nspec:\n  type: NodePort\n  selector: {{app: web}}\n  \
         ports: [{{port: 80, nodePort: {node_port}}}]\n"
    )
}

/// What kubectl says of a manifest that it cannot apply.
fn refused(cluster: &Cluster, manifest: &str) -> String {
    let out = cluster.kubectl_stdin(&["apply", "-f", "-"], manifest);
    assert!(!out.status.success(), "it was taken: {}\n{manifest}", text(&out.stdout));
    text(&out.stderr)
}

#[test]
fn wrong_manifests_are_refused_with_the_field_and_change_nothing() {
    let cluster = Cluster::start_alone("refuse", &[]);
    let good = deployment("", "kubernetes-spring");
    let cases = [
        (deployment("  replcas: 2", "i"), "unknown field \"spec.replcas\""),
        (
            deployment("  replicas: many", "i"),
            "json: cannot unmarshal string into Go struct field DeploymentSpec.spec.replicas of type int32",
        ),
        (deployment("  replicas: -1", "i"), "spec.replicas: Invalid value: -1: must be greater than or equal to 0"),
        (good.replace("  selector: {matchLabels: {app: web}}\n", ""), "spec.selector: Required value"),
        (good.replace("labels: {app: web}", "labels: {app: other}"), "`selector` does not match template `labels`"),
        (good.replace("name: c,", "name: Not_Valid,"), "spec.template.spec.containers[0].name: Invalid value"),
        (service("low", 80), "provided port is not in the valid range. The range of valid ports is 30000-32767"),
        ("kind: Deployment\nmetadata: {name: x\n".to_owned(), "yaml: line"),
        (
            "apiVersion: v9\nkind: Nothing\nmetadata: {name: x}\n".to_owned(),
            "no matches for kind \"Nothing\" in version \"v9\"",
        ),
    ];
    for (manifest, part) in cases {
        let said = refused(&cluster, &manifest);
        assert!(said.contains(part), "{part:?} is not in {said:?}\nof\n{manifest}");
    }
    // kubectl drops repeated fields of YAML itself, so this one is sent as it is.
    let twice = r#"{"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "x"}, "data": {"a": "b", "a": "c"}}"#;
    let path = "/api/v1/namespaces/default/configmaps?fieldValidation=Strict";
    let out = cluster.kubectl_stdin(&["create", "--raw", path, "-f", "-"], twice);
    let said = text(&out.stderr);
    assert!(!out.status.success() && said.contains("duplicate field \"data.a\""), "{said}");
    cluster.apply(&service("first", 30123));
    let said = refused(&cluster, &service("second", 30123));
    assert!(
        said.contains("spec.ports[0].nodePort: Invalid value: 30123: provided port is already allocated"),
        "{said}"
    );
    assert_eq!(cluster.kubectl(&["get", "deploy,svc", "-o", "name"]), "service/first\nservice/kubernetes\n");
}

#[test]
fn a_node_port_that_another_program_has_is_told_in_an_event() {
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    drop(taken);
    let port = (30200..30300).find(|p| TcpListener::bind(("127.0.0.1", *p)).is_ok()).unwrap();
    let other = TcpListener::bind(("127.0.0.1", port)).unwrap();
    let cluster = Cluster::start_alone("taken", &[]);
    cluster.apply(&deployment("", "kubernetes-spring"));
    cluster.apply(&service("web", port).replace("port: 80,", "port: 80, targetPort: 8080,"));
    eventually("describe tells of the port", SOON, || {
        let said = cluster.kubectl(&["describe", "service", "web"]);
        if said.contains(&port.to_string()) && said.contains("Warning") { Ok(()) } else { Err(said) }
    });
    drop(other);
    answers(port);
}

#[test]
fn an_image_that_does_not_exist_and_a_command_that_fails_are_told_as_in_kubernetes() {
    let cluster = Cluster::start("images");
    cluster.apply(&deployment("", "nowhere.invalid/no-such:1"));
    let reason = || cluster.jsonpath(&["pods"], "{.items[0].status.containerStatuses[0].state.waiting.reason}");
    eventually("the pull fails", SOON, || match reason() {
        r if r == "ErrImagePull" || r == "ImagePullBackOff" => Ok(()),
        other => Err(other),
    });
    until_equal("it backs off", SOON, "ImagePullBackOff".to_owned(), reason);
    let events = cluster.kubectl(&["get", "events"]);
    assert!(events.contains("Failed to pull image \"nowhere.invalid/no-such:1\""), "{events}");
    let crash = "apiVersion: v1\nkind: Pod\nmetadata: {name: crash}\nspec:\n  containers:\n  - name: c\n    \
                 image: kubernetes-spring\n    imagePullPolicy: IfNotPresent\n    args: [\"--fail\"]\n";
    cluster.apply(crash);
    let path = "{.status.containerStatuses[0].state.waiting.reason}";
    until_equal("it crashes in a loop", SOON, "CrashLoopBackOff".to_owned(), || {
        cluster.jsonpath(&["pod", "crash"], path)
    });
    assert!(cluster.kubectl(&["logs", "crash", "--previous"]).contains("fails, as --fail asks"));
    assert!(cluster.kubectl(&["get", "pod", "crash", "--no-headers"]).contains("CrashLoopBackOff"));
}

/// What `skiff up` says when it cannot start.
fn up_fails(cluster: &Cluster, change: impl FnOnce(&mut Command)) -> String {
    let mut command = cluster.skiff(&["up", "--api-address"]);
    command.arg(format!("127.0.0.1:{}", free_port())).stdin(Stdio::null());
    change(&mut command);
    let out = output(&mut command);
    assert!(!out.status.success(), "it started");
    text(&out.stderr)
}

#[test]
fn a_start_that_cannot_be_says_why_and_what_to_do() {
    let cluster = Cluster::start("start");
    let said = up_fails(&cluster, |_| {});
    assert!(said.contains("already") || said.contains("another skiff"), "a second skiff up: {said}");

    let elsewhere = tempfile::tempdir().unwrap();
    let data = elsewhere.path().join("data");
    let said = up_fails(&cluster, |c| {
        c.env("DOCKER_HOST", "unix:///nonexistent/docker.sock").env("SKIFF_DATA_DIR", &data);
    });
    assert!(said.contains("/nonexistent/docker.sock"), "no engine: {said}");

    let other = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = other.local_addr().unwrap().port();
    let mut command = cluster.skiff(&["up", "--api-address", &format!("127.0.0.1:{port}")]);
    let out = output(command.env("SKIFF_DATA_DIR", &data).env("SKIFF_NAME", "it-start2"));
    let said = text(&out.stderr);
    assert!(said.contains(&format!("127.0.0.1:{port} is taken")) && said.contains("--api-address"), "{said}");

    let file = elsewhere.path().join("bad.yaml");
    std::fs::write(&file, "apiVersion: v1\nkind: Pod\nmetadata: [\n").unwrap();
    let said = up_fails(&cluster, |c| {
        c.arg("-f").arg(&file).env("SKIFF_DATA_DIR", &data);
    });
    assert!(said.contains("bad.yaml") && said.contains("line"), "{said}");
    assert_eq!(docker(&["network", "ls", "-q", "--filter", "label=dev.skiff.cluster=it-start2"]), "");
    cluster.kubectl(&["get", "pods"]);
}

#[test]
fn a_full_disk_refuses_writes_and_loses_nothing() {
    let disk = tempfile::tempdir().unwrap();
    run(Command::new("mount").args(["-t", "tmpfs", "-o", "size=8m", "tmpfs"]).arg(disk.path()));
    let unmount = Unmount(disk.path().to_owned());
    let data = disk.path().join("data");
    let cluster = Cluster::start_with("full", &["--data-dir", data.to_str().unwrap()]);
    cluster.apply("apiVersion: v1\nkind: ConfigMap\nmetadata: {name: kept}\ndata: {a: b}\n");
    let filler = disk.path().join("filler");
    output(Command::new("dd").args(["if=/dev/zero", "bs=64k"]).arg(format!("of={}", filler.display())));
    let big = "x".repeat(400_000);
    let manifest =
        |name: &str| format!("apiVersion: v1\nkind: ConfigMap\nmetadata: {{name: {name}}}\ndata: {{a: {big}}}\n");
    let said = eventually("a write is refused", SOON, || {
        let n = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap().as_nanos();
        let out = cluster.kubectl_stdin(&["create", "-f", "-"], &manifest(&format!("big-{n}")));
        if out.status.success() { Err(text(&out.stdout)) } else { Ok(text(&out.stderr)) }
    });
    assert!(said.contains("state.redb") && said.contains("space"), "{said}");
    assert_eq!(cluster.jsonpath(&["configmap", "kept"], "{.data.a}"), "b");
    std::fs::remove_file(&filler).unwrap();
    eventually("writes are taken again", SOON, || {
        let out = cluster.kubectl_stdin(&["create", "-f", "-"], &manifest("after"));
        if out.status.success() { Ok(()) } else { Err(text(&out.stderr)) }
    });
    let out = output(
        Command::new(SKIFF)
            .args(["down", "--name", &cluster.name])
            .arg("--data-dir")
            .arg(&data)
            .env("KUBECONFIG", cluster.kubeconfig()),
    );
    assert!(out.status.success(), "{}", text(&out.stderr));
    drop(cluster);
    drop(unmount);
}

struct Unmount(std::path::PathBuf);

impl Drop for Unmount {
    fn drop(&mut self) {
        drop(Command::new("umount").arg("-l").arg(&self.0).output());
    }
}

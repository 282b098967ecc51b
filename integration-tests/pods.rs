//! What one does with pods that run, with the real kubectl: looks into them.

use crate::harness::{
    cluster::Cluster,
    tools::{BUSYBOX, docker, output, text},
    wait::eventually,
};
use std::time::Duration;

const SOON: Duration = Duration::from_secs(30);

fn sleeper(name: &str) -> String {
    format!(
        "---\napiVersion: v1\nkind: Pod\nmetadata: {{name: {name}}}\nspec:\n  terminationGracePeriodSeconds: 0\n  \
         containers: [{{name: app, image: {image}, command: [sh, -c, 'sleep 3600 & echo up; wait']}}]\n",
        image = *BUSYBOX
    )
}

#[test]
fn kubectl_debug_looks_into_pods_and_nodes() {
    let mut cluster = Cluster::start("debug");
    cluster.apply(&sleeper("web"));
    cluster.kubectl(&["wait", "--for=condition=Ready", "pod/web", "--timeout=60s"]);

    // It sees the processes of its target, says so in its log, and ends.
    let image = format!("--image={}", *BUSYBOX);
    let look = "busybox ps | grep -q '[s]leep 3600' && echo seen; busybox readlink /proc/1/root >/dev/null && echo traced; exit 3";
    cluster.kubectl(&[
        "debug",
        "web",
        &image,
        "--target=app",
        "-c",
        "look",
        "--profile=general",
        "--",
        "sh",
        "-c",
        look,
    ]);
    let code = "{.status.ephemeralContainerStatuses[0].state.terminated.exitCode}";
    eventually("it ended", SOON, || match &*cluster.jsonpath(&["pod", "web"], code) {
        "3" => Ok(()),
        other => Err(other.to_owned()),
    });
    assert_eq!(cluster.kubectl(&["logs", "web", "-c", "look"]), "seen\ntraced\n");
    let again = cluster.kubectl_fails(&[
        "patch",
        "pod",
        "web",
        "--subresource=ephemeralcontainers",
        "--type=json",
        "-p",
        r#"[{"op": "remove", "path": "/spec/ephemeralContainers/0"}]"#,
    ]);
    assert!(again.contains(r#"existing ephemeral containers "look" may not be removed"#), "{again}");

    // One that stays is talked with, and is there when skiff was not.
    cluster.kubectl(&["debug", "web", &image, "-c", "stay", "--", "sleep", "3600"]);
    let running = r#"{.status.ephemeralContainerStatuses[?(@.name=="stay")].state.running.startedAt}"#;
    eventually("it runs", SOON, || match &*cluster.jsonpath(&["pod", "web"], running) {
        "" => Err("not yet"),
        _ => Ok(()),
    });
    assert_eq!(cluster.kubectl(&["exec", "web", "-c", "stay", "--", "busybox", "hostname"]), "web\n");
    let ids = || docker(&["ps", "-q", "--filter", "label=io.kubernetes.container.name=stay"]);
    let before = ids();
    cluster.stop("KILL");
    cluster.up(&[]);
    assert_eq!(cluster.kubectl(&["exec", "web", "-c", "stay", "--", "echo", "still"]), "still\n");
    assert_eq!(ids(), before);

    // A copy of the pod with another program, and the machine itself.
    cluster.kubectl(&[
        "debug",
        "web",
        "--copy-to=copy",
        "--container=app",
        "--",
        "sh",
        "-c",
        "echo copied; sleep 3600",
    ]);
    cluster.kubectl(&["wait", "--for=condition=Ready", "pod/copy", "--timeout=60s"]);
    assert_eq!(cluster.kubectl(&["logs", "copy", "-c", "app"]), "copied\n");
    let node = cluster.jsonpath(&["nodes"], "{.items[0].metadata.name}");
    let made = cluster.kubectl(&[
        "debug",
        &format!("node/{node}"),
        &image,
        "--",
        "sh",
        "-c",
        "ls /host/proc/1 >/dev/null && echo host",
    ]);
    let name = made
        .split_whitespace()
        .find(|word| word.starts_with("node-debugger"))
        .expect("kubectl names the pod")
        .to_owned();
    eventually("the machine is seen", SOON, || {
        let said = output(&mut cluster.kubectl_command(&["logs", &name]));
        if text(&said.stdout) == "host\n" { Ok(()) } else { Err(text(&said.stderr)) }
    });
}

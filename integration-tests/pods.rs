//! What one does with pods that run, with the real kubectl: looks into them, kills and resizes them, has their images pulled.

use crate::harness::{
    cluster::Cluster,
    registry::Registry,
    tools::{BUSYBOX, docker, output, run, text},
    wait::{SOON, eventually},
};

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

#[test]
fn a_kill_is_told_to_the_millisecond_and_a_resize_needs_no_restart() {
    let cluster = Cluster::start_with("timeline", &["--restart-backoff", "1s,10s"]);
    let sized = sleeper("web").replace(
        "command:",
        "resources: {requests: {cpu: 100m, memory: 32Mi}, limits: {cpu: 200m, memory: 64Mi}}, command:",
    );
    cluster.apply(&sized);
    cluster.kubectl(&["wait", "--for=condition=Ready", "pod/web", "--timeout=60s"]);
    // The only pod with such a container, of this cluster: other tests have a pod `web` too.
    let id = || cluster.containers("io.kubernetes.container.name=app").pop().expect("it runs");
    let first = id();
    docker(&["kill", &first]);
    let healed =
        || cluster.kubectl(&["get", "events", "--field-selector=reason=Healed", "-o", "jsonpath={.items[*].message}"]);
    eventually("the heal is told", SOON, || match healed() {
        told if told.starts_with("container app was killed (exit 137), noticed after ") => Ok(()),
        other => Err(other),
    });
    let table = run(&mut cluster.skiff(&["timeline", "web"]));
    assert!(table.contains("first start") && table.contains("Killed (137)"), "{table}");
    cluster.kubectl(&["create", "rolebinding", "ann", "--clusterrole=view", "--user=ann"]);
    let path = "/apis/skiff.dev/v1/namespaces/default/pods/web/timeline";
    let json: serde_json::Value = serde_json::from_str(&cluster.kubectl(&["get", "--raw", path, "--as=ann"])).unwrap();
    let (starts, last) = (json["starts"].as_array().unwrap().len(), &json["starts"][1]);
    assert_eq!((starts, last["restart"].as_u64(), last["exitCode"].as_i64()), (2, Some(1), Some(137)), "{json}");
    let after = |field: &str| last[field].as_i64().unwrap();
    assert!(
        after("noticedAfterMs") <= after("readyAfterMs") && after("createdAfterMs") <= after("startedAfterMs"),
        "{json}"
    );
    let refused = cluster.kubectl_fails(&["get", "--raw", path, "--as=eve"]);
    assert!(refused.contains("forbidden") || refused.contains("Forbidden"), "{refused}");

    let before = id();
    assert_ne!(before, first);
    let resize = |patch: &str| cluster.kubectl_command(&["patch", "pod", "web", "--subresource=resize", "-p", patch]);
    let to = |cpu: &str, memory: &str| {
        format!(
            r#"{{"spec":{{"containers":[{{"name":"app","resources":{{"requests":{{"cpu":"{cpu}"}},"limits":{{"cpu":"{cpu}","memory":"{memory}"}}}}}}]}}}}"#
        )
    };
    run(&mut resize(&to("150m", "96Mi")));
    let has = || {
        docker(&["inspect", "-f", "{{.HostConfig.Memory}} {{.HostConfig.CpuQuota}} {{.HostConfig.CpuShares}}", &before])
    };
    eventually("the engine has it", SOON, || match has().trim() {
        "100663296 15000 153" => Ok(()),
        other => Err(other.to_owned()),
    });
    let shown = || {
        cluster.jsonpath(
            &["pod", "web"],
            "{.status.containerStatuses[0].resources.limits.memory} {.status.containerStatuses[0].restartCount}",
        )
    };
    eventually("the status tells it", SOON, || match shown() {
        told if told == "96Mi 1" => Ok(()),
        other => Err(other),
    });
    let class = cluster.kubectl_fails(&[
        "patch",
        "pod",
        "web",
        "--subresource=resize",
        "-p",
        r#"{"spec":{"containers":[{"name":"app","resources":{"requests":{"cpu":"150m","memory":"96Mi"}}}]}}"#,
    ]);
    assert!(class.contains("Pod QOS Class may not change as a result of resizing"), "{class}");
}

#[test]
fn images_are_pulled_once_with_the_credentials_of_whoever_may() {
    let (registry, members) = (Registry::start(None), Registry::start(Some(("ann", "s3cr3t"))));
    let cluster = Cluster::start("pulls");
    let pod = |name: &str, image: &str, rest: &str| {
        format!(
            "---\napiVersion: v1\nkind: Pod\nmetadata: {{name: {name}}}\nspec:\n  terminationGracePeriodSeconds: 0\n  \
             {rest}\n  containers: [{{name: app, image: '{image}'}}]\n"
        )
    };
    let [open, slow, broken] = ["open", "slow", "broken"].map(|name| registry.image(name));
    let (private, server) = (members.image("private"), members.address());
    cluster.kubectl(&[
        "create",
        "secret",
        "docker-registry",
        "pull",
        "--docker-server",
        &server,
        "--docker-username=ann",
        "--docker-password=s3cr3t",
    ]);
    let secret = "imagePullSecrets: [{name: pull}]";
    // Once somebody has pulled it, an image is there for all: whoever may not pull it comes first.
    cluster.apply(&(pod("stranger", &private, "") + &pod("broken", &broken, "")));
    let waits = |name: &str| cluster.jsonpath(&["pod", name], "{.status.containerStatuses[0].state.waiting.reason}");
    for name in ["stranger", "broken"] {
        eventually("it waits", SOON, || match waits(name) {
            reason if reason == "ErrImagePull" || reason == "ImagePullBackOff" => Ok(()),
            other => Err(other),
        });
    }
    let pods = [("open", &open, ""), ("member", &private, secret), ("slow-1", &slow, ""), ("slow-2", &slow, "")];
    cluster.apply(&pods.map(|(name, image, rest)| pod(name, image, rest)).concat());
    for (name, ..) in pods {
        cluster.kubectl(&["wait", "--for=condition=Ready", &format!("pod/{name}"), "--timeout=60s"]);
    }
    assert_eq!(registry.layers_given("slow"), 1, "two pods, one pull");
    let told = cluster.kubectl(&[
        "get",
        "events",
        "--field-selector=reason=Pulled,involvedObject.name=open",
        "-o",
        "jsonpath={.items[*].message}",
    ]);
    assert!(told.starts_with("Successfully pulled image") && told.contains("Image size: "), "{told}");
    // Docker's own credentials are as good.
    let folder = cluster.kubeconfig().parent().unwrap().join(".docker");
    std::fs::create_dir_all(&folder).unwrap();
    let auths = format!(r#"{{"auths": {{"{server}": {{"username": "ann", "password": "s3cr3t"}}}}}}"#);
    std::fs::write(folder.join("config.json"), auths).unwrap();
    docker(&["image", "rm", "-f", &private]);
    cluster.apply(&pod("user", &private, ""));
    cluster.kubectl(&["wait", "--for=condition=Ready", "pod/user", "--timeout=60s"]);
    drop(cluster);
    for image in [open, private, slow] {
        docker(&["image", "rm", "-f", &image]);
    }
}

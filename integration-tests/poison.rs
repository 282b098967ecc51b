//! Pods that nobody can serve, and Secrets: what they may cost, and who may see them.

use crate::harness::{
    cluster::Cluster,
    tools::{docker, output, text},
    wait::{SOON, eventually, until_equal},
};
use std::{
    net::TcpListener,
    process::Command,
    time::{Duration, Instant},
};

fn pod(name: &str, container: &str, more: &str) -> String {
    format!(
        "apiVersion: v1\nkind: Pod\nmetadata: {{name: {name}}}\nspec:\n  terminationGracePeriodSeconds: 1\n{more}  containers:\n  \
         - {{name: c, image: kubernetes-spring, imagePullPolicy: IfNotPresent{container}}}\n"
    )
}

fn is_ready(cluster: &Cluster, name: &str) -> Result<(), String> {
    let path = "{.status.conditions[?(@.type==\"Ready\")].status}";
    let ready = cluster.jsonpath(&["pod", name], path);
    if ready == "True" { Ok(()) } else { Err(cluster.kubectl(&["describe", "pod", name])) }
}

#[test]
fn an_environment_that_explodes_is_refused_and_harms_nobody() {
    let cluster = Cluster::start("bomb");
    let doubled: Vec<String> =
        (1..32).map(|i| format!("{{name: A{i}, value: '$(A{})$(A{})'}}", i - 1, i - 1)).collect();
    let env = format!(", env: [{{name: A0, value: xy}}, {}]", doubled.join(", "));
    cluster.apply(&pod("bomb", &env, ""));
    let args = format!(", args: ['$(BIG)$(BIG)'], env: [{{name: BIG, value: {}}}]", "x".repeat(100_000));
    cluster.apply(&pod("words", &args, ""));
    cluster.apply(&pod("good", "", ""));
    let waiting = |name: &str, what: &str| {
        cluster.jsonpath(&["pod", name], &format!("{{.status.containerStatuses[0].state.waiting.{what}}}"))
    };
    for (name, field) in [("bomb", "spec.containers[0].env[16].value"), ("words", "spec.containers[0].args[0]")] {
        until_equal("it is refused", SOON, "CreateContainerConfigError".to_owned(), || waiting(name, "reason"));
        let message = waiting(name, "message");
        assert!(message.starts_with(&format!("{field}: Too long: ")), "{message}");
        let events = cluster.kubectl(&["describe", "pod", name]);
        assert!(events.contains(&format!("Error: {field}: Too long")), "{events}");
    }
    eventually("another pod is ready", SOON, || is_ready(&cluster, "good"));
    let begin = Instant::now();
    cluster.kubectl(&["delete", "pod", "bomb", "words", "--timeout=60s"]);
    assert!(begin.elapsed() < Duration::from_secs(20));
    let left = docker(&["ps", "-aq", "--filter", "label=io.kubernetes.pod.name=bomb"]);
    assert_eq!(left, "", "nothing is left of it");
}

#[test]
fn a_host_port_that_is_taken_costs_little_until_it_is_free() {
    let other = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = other.local_addr().unwrap().port();
    let cluster = Cluster::start("port");
    let begin = Instant::now();
    cluster.apply(&pod("web", &format!(", ports: [{{containerPort: 8080, hostPort: {port}}}]"), ""));
    let failures = || {
        let about = ["get", "events", "--field-selector=involvedObject.name=web,reason=FailedCreatePodSandBox", "-o"];
        let told = cluster.kubectl(&[&about[..], &["jsonpath={range .items[*]}{.count}{\"\\n\"}{end}"]].concat());
        told.lines().filter_map(|line| line.parse::<usize>().ok()).sum::<usize>()
    };
    eventually("it failed twice", SOON, || match failures() {
        n if n >= 2 => Ok(()),
        n => Err(n),
    });
    // Nothing that others make on the engine is a reason to try sooner.
    docker(&["network", "create", "it-port-stranger"]);
    docker(&["network", "rm", "it-port-stranger"]);
    eventually("it failed five times", SOON * 2, || match failures() {
        n if n >= 5 => Ok(()),
        n => Err(n),
    });
    // 1 + 2 + 4 + 8 s lie between five tries.
    assert!(begin.elapsed() >= Duration::from_secs(14), "five tries within {:?}", begin.elapsed());
    let of_cluster = format!("label=dev.skiff.cluster={}", cluster.name);
    let mine = ["--filter", &of_cluster, "--filter", "label=io.kubernetes.pod.name=web"];
    let left = docker(&[&["ps", "-aq"], &mine[..]].concat()).lines().count();
    assert!(left <= 2, "{left} containers of dead tries");
    let attempts = docker(&[&["ps", "-a", "--format", "{{.Names}}"], &mine[..]].concat());
    let attempt = |name: &str| name.rsplit('_').next().and_then(|n| n.parse::<usize>().ok()).unwrap_or_default();
    assert!(attempts.lines().map(attempt).all(|n| n <= 6), "{attempts}");
    drop(other);
    eventually("it is served once the port is free", SOON * 2, || is_ready(&cluster, "web"));
}

#[test]
fn neither_the_log_nor_an_inspection_of_skiffs_own_containers_shows_a_secret() {
    let cluster = Cluster::start_logging("secret", "trace", &[]);
    let word = "hunter2-in-a-secret";
    cluster.kubectl(&["create", "secret", "generic", "creds", &format!("--from-literal=password={word}")]);
    let volumes = "  volumes:\n  - {name: s, secret: {secretName: creds}}\n  - name: p\n    projected: {sources: [{secret: {name: creds}}]}\n";
    let container = ", env: [{name: PASSWORD, valueFrom: {secretKeyRef: {name: creds, key: password}}}], volumeMounts: \
         [{name: s, mountPath: /s}, {name: p, mountPath: /p}, {name: s, mountPath: /one, subPath: password}]";
    cluster.apply(&pod("web", container, volumes));
    eventually("it is ready", SOON, || is_ready(&cluster, "web"));
    let app = cluster.containers("io.kubernetes.container.name=c").remove(0);
    for path in ["/s/password", "/p/password", "/one"] {
        let out = docker(&["cp", "-L", &format!("{app}:{path}"), "-"]);
        assert!(out.contains(word), "{path} shows the Secret: {out}");
    }
    // On no disk: every file is in memory.
    let mounts = docker(&["inspect", &app, "--format", "{{range .Mounts}}{{.Source}}{{\"\\n\"}}{{end}}"]);
    // What the program says of its end is its own, and on the disk as its log is.
    for source in mounts.lines().filter(|line| !line.is_empty() && !line.contains("/.termination-logs/")) {
        let found = Command::new("stat").args(["-f", "-c", "%T", source]).output().unwrap();
        assert_eq!(String::from_utf8_lossy(&found.stdout).trim(), "tmpfs", "{source}");
    }
    let encoded = "aHVudGVyMi1pbi1hLXNlY3JldA";
    let own = cluster.containers("io.kubernetes.container.name=POD");
    for id in &own {
        let shown = docker(&["inspect", id]);
        assert!(!shown.contains(word) && !shown.contains(encoded), "{shown}");
    }
    // What changes later takes the same way.
    cluster.kubectl(&["patch", "secret", "creds", "-p", "{\"stringData\": {\"password\": \"hunter3-in-a-secret\"}}"]);
    eventually("the new value is there", SOON, || {
        // The link that it follows may lead elsewhere by the time that it has arrived.
        let copied = output(Command::new("docker").args(["cp", "-L", &format!("{app}:/s/password"), "-"]));
        let out = text(&copied.stdout);
        if out.contains("hunter3-in-a-secret") { Ok(()) } else { Err(format!("{out}{}", text(&copied.stderr))) }
    });
    cluster.kubectl(&["delete", "pod", "web"]);
    let log = cluster.log();
    assert!(log.len() > 10_000, "the log shows decisions");
    for secret in [word, encoded, "hunter3-in-a-secret", "PRIVATE KEY"] {
        let line = log.lines().find(|line| line.contains(secret));
        assert_eq!(line, None, "the log shows {secret:?}");
    }
}

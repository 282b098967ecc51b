//! What a person does with Docker beside skiff: restarts, starts and networks of a pod's containers.

use crate::harness::{
    cluster::Cluster,
    tools::{BUSYBOX, docker, output},
    wait::{SOON, eventually, until_equal},
};
use std::{
    io::{Read as _, Write as _},
    net::TcpStream,
    process::Command,
    time::Duration,
};

/// A pod whose program needs its port, and a Service in front of it.
fn web(name: &str) -> String {
    format!(
        "apiVersion: v1\nkind: Pod\nmetadata: {{name: {name}, labels: {{app: {name}}}}}\nspec:\n  \
         terminationGracePeriodSeconds: 1\n  containers:\n  - name: app\n    image: {image}\n    \
         command: [sh, -c, 'trap \"exit 0\" TERM; mkdir /w; echo {name} > /w/index.html; \
         busybox httpd -f -p 8080 -h /w & echo $! > /w/pid; wait $! || exit 1']\n    \
         readinessProbe: {{httpGet: {{port: 8080, path: /}}, periodSeconds: 1}}\n",
        image = *BUSYBOX
    )
}

fn of_pod(cluster: &Cluster, pod: &str, container: &str) -> Vec<String> {
    let mine = format!("label=dev.skiff.cluster={}", cluster.name);
    let filters = [
        mine,
        format!("label=io.kubernetes.pod.name={pod}"),
        format!("label=io.kubernetes.container.name={container}"),
    ];
    let mut args = vec!["ps", "-q", "--no-trunc"];
    filters.iter().for_each(|filter| args.extend(["--filter", filter]));
    docker(&args).lines().map(str::to_owned).collect()
}

/// What users see of the pod's container: its restarts, and whether it is ready.
fn seen(cluster: &Cluster, pod: &str) -> String {
    cluster.jsonpath(&["pod", pod], "{.status.containerStatuses[0].restartCount} {.status.containerStatuses[0].ready}")
}

/// Waits until one container runs, the one that users see, and has restarted so often.
fn one_runs(cluster: &Cluster, pod: &str, restarts: u32) -> String {
    eventually("one container runs", SOON, || {
        let (ids, now) = (of_pod(cluster, pod, "app"), seen(cluster, pod));
        let shown = cluster.jsonpath(&["pod", pod], "{.status.containerStatuses[0].containerID}");
        let is_it = ids.len() == 1 && shown == format!("docker://{}", ids[0]) && now == format!("{restarts} true");
        if is_it { Ok(ids[0].clone()) } else { Err((ids, shown, now)) }
    })
}

fn no_back_off(cluster: &Cluster) {
    let events = cluster.kubectl(&["get", "events"]);
    assert!(!events.contains("BackOff"), "{events}");
}

#[test]
fn a_restart_by_docker_is_one_container_and_one_restart() {
    let cluster = Cluster::start("restart");
    cluster.apply(&web("web"));
    let mut app = one_runs(&cluster, "web", 0);
    for n in 1..=5 {
        docker(&["restart", &app]);
        app = one_runs(&cluster, "web", n);
    }
    let last = cluster.jsonpath(&["pod", "web"], "{.status.containerStatuses[0].lastState.terminated.containerID}");
    assert!(last.starts_with("docker://"), "the former run is told: {last:?}");
    docker(&["stop", &app]);
    docker(&["start", &app]);
    app = one_runs(&cluster, "web", 6);
    // A policy of the user's own, which the engine follows when the program crashes.
    docker(&["update", "--restart=always", &app]);
    docker(&["exec", &app, "sh", "-c", "kill $(cat /w/pid)"]);
    app = one_runs(&cluster, "web", 7);
    docker(&["pause", &app]);
    until_equal("a paused program is not ready", SOON, "7 false".to_owned(), || seen(&cluster, "web"));
    docker(&["unpause", &app]);
    assert_eq!(one_runs(&cluster, "web", 7), app);
    // The sandbox.
    let sandbox = of_pod(&cluster, "web", "POD").remove(0);
    // It may be gone before Docker starts it again.
    output(Command::new("docker").args(["restart", &sandbox]));
    one_runs(&cluster, "web", 8);
    assert_eq!(of_pod(&cluster, "web", "POD").len(), 1);
    no_back_off(&cluster);
}

#[test]
fn an_old_attempt_that_docker_starts_ends() {
    let cluster = Cluster::start("old-attempt");
    cluster.apply(&web("web"));
    let old = one_runs(&cluster, "web", 0);
    docker(&["kill", &old]);
    let app = one_runs(&cluster, "web", 1);
    for _ in 0..3 {
        docker(&["start", &old]);
        until_equal("the old one has ended", SOON, vec![app.clone()], || of_pod(&cluster, "web", "app"));
    }
    assert_eq!(one_runs(&cluster, "web", 1), app);
    no_back_off(&cluster);
}

fn service(name: &str) -> String {
    format!(
        "---\napiVersion: v1\nkind: Service\nmetadata: {{name: {name}}}\nspec: {{selector: {{app: {name}}}, ports: [{{port: 80, targetPort: 8080}}]}}\n"
    )
}

/// The page that a Service gives; empty while it gives none.
fn page(cluster: &Cluster, service: &str) -> String {
    let ip = cluster.jsonpath(&["service", service], "{.spec.clusterIP}");
    ask(&format!("{ip}:80")).unwrap_or_default()
}

fn ask(address: &str) -> std::io::Result<String> {
    let address = address.parse().map_err(std::io::Error::other)?;
    let mut stream = TcpStream::connect_timeout(&address, Duration::from_secs(2))?;
    stream.set_read_timeout(Some(Duration::from_secs(2)))?;
    stream.write_all(b"GET / HTTP/1.0\r\n\r\n")?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer)?;
    Ok(answer.split_once("\r\n\r\n").map(|(_, body)| body.trim().to_owned()).unwrap_or_default())
}

#[test]
fn a_pod_whose_network_was_taken_away_gets_a_new_sandbox_and_no_stranger_answers_for_it() {
    let cluster = Cluster::start("networks");
    for name in ["one", "two"] {
        cluster.apply(&(web(name) + &service(name)));
        one_runs(&cluster, name, 0);
        until_equal("the Service answers", SOON, name.to_owned(), || page(&cluster, name));
    }
    let sandboxes = ["one", "two"].map(|name| of_pod(&cluster, name, "POD").remove(0));
    let network = docker(&["inspect", "-f", "{{.HostConfig.NetworkMode}}", &sandboxes[0]]);
    let network = network.trim();
    let address = |pod: &str| cluster.jsonpath(&["pod", pod], "{.status.podIP}");
    let taken = address("one");
    // Each gets the other's address, if skiff lets Docker come so far.
    sandboxes.iter().for_each(|id| drop(docker(&["network", "disconnect", "-f", network, id])));
    output(Command::new("docker").args(["network", "connect", "--ip", &taken, network, &sandboxes[1]]));
    for name in ["one", "two"] {
        one_runs(&cluster, name, 1);
        eventually("its own page, from where it is", SOON, || {
            let sandbox = of_pod(&cluster, name, "POD");
            let inspected =
                docker(&["inspect", "-f", "{{range .NetworkSettings.Networks}}{{.IPAddress}}{{end}}", &sandbox[0]]);
            let (got, at) = (page(&cluster, name), address(name));
            if got == name && inspected.trim() == at && sandbox.len() == 1 { Ok(()) } else { Err((got, at, inspected)) }
        });
    }
    assert!(!of_pod(&cluster, "one", "POD").contains(&sandboxes[0]));
}

#[test]
fn a_probe_that_hangs_leaves_no_process() {
    let cluster = Cluster::start("hanging-probe");
    let image = *BUSYBOX;
    cluster.apply(&format!(
        "apiVersion: v1\nkind: Pod\nmetadata: {{name: web}}\nspec:\n  terminationGracePeriodSeconds: 1\n  containers:\n  \
         - name: app\n    image: {image}\n    command: [sleep, '3600']\n    readinessProbe:\n      \
         exec: {{command: [sh, -c, 'sleep 777 & sleep 888; true']}}\n      timeoutSeconds: 1\n      periodSeconds: 4\n"
    ));
    eventually("the probe has timed out five times", SOON, || {
        let counts = cluster.jsonpath(&["events"], "{.items[?(@.reason==\"Unhealthy\")].count}");
        let n: u32 = counts.split(' ').filter_map(|count| count.parse::<u32>().ok()).sum();
        if n >= 5 { Ok(()) } else { Err(counts) }
    });
    let app = of_pod(&cluster, "web", "app").remove(0);
    eventually("nothing of the probes runs between two tries", SOON, || {
        let processes = docker(&["top", &app]);
        if processes.contains("777") || processes.contains("888") { Err(processes) } else { Ok(()) }
    });
    assert_eq!(seen(&cluster, "web"), "0 false");
}

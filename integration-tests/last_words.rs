//! Termination messages on the real engine: what programs write about their end, whoever they run as and whatever they try.

use crate::harness::{
    cluster::Cluster,
    tools::{BUSYBOX, docker},
    wait::{SOON, eventually, until_equal},
};

/// A pod of one container that runs once.
fn pod(name: &str, script: &str, of_pod: &str, of_container: &str) -> String {
    format!(
        "---\napiVersion: v1\nkind: Pod\nmetadata: {{name: {name}}}\nspec:\n  restartPolicy: Never\n  terminationGracePeriodSeconds: 1\n\
         {of_pod}  containers:\n  - name: app\n    image: {image}\n    command: [sh, -c, '{script}']\n{of_container}",
        image = *BUSYBOX
    )
}

/// The message of a pod's container that ended. It must be there as soon as its end is.
fn message(cluster: &Cluster, pod: &str) -> String {
    let state = || cluster.jsonpath(&["pod", pod], "{.status.containerStatuses[0].state.terminated}");
    eventually("the container ends", SOON, || if state().is_empty() { Err("it runs".to_owned()) } else { Ok(()) });
    cluster.jsonpath(&["pod", pod], "{.status.containerStatuses[0].state.terminated.message}")
}

#[test]
fn a_program_tells_why_it_ended_whoever_it_runs_as() {
    let cluster = Cluster::start("last-words");
    let log = "/dev/termination-log";
    let user = "    securityContext: {runAsUser: 65534, runAsNonRoot: true, readOnlyRootFilesystem: true, capabilities: {drop: [ALL]}}\n";
    let fallback = "    terminationMessagePolicy: FallbackToLogsOnError\n";
    let volume = "  volumes: [{name: d, emptyDir: {}}]\n";
    let in_volume = "    terminationMessagePath: /d/why\n    volumeMounts: [{name: d, mountPath: /d}]\n";
    // Whatever it does to the file, it is a mount, and cannot be taken away or turned into something else.
    let attack = "rm -f /d/why; mv /d/why /d/x; ln -sf /etc/shadow /d/why; mkfifo /d/why; chmod 000 /d/why; echo still here > /d/why; exit 1";
    let floods =
        "head -c 6000 /dev/zero | tr \"\\0\" x > /dev/termination-log; printf end >> /dev/termination-log; exit 1";
    let cases = [
        ("plain", format!("echo -n done > {log}"), "", "", "done"),
        ("user", format!("echo -n nobody > {log}; exit 3"), "", user, "nobody"),
        ("path", "echo -n elsewhere > /tmp/why".to_owned(), "", "    terminationMessagePath: tmp/why\n", "elsewhere"),
        ("file", "echo in the log; exit 1".to_owned(), "", "", ""),
        ("log", "echo in the log; exit 1".to_owned(), "", fallback, "in the log\n"),
        ("both", format!("echo in the log; echo -n in the file > {log}; exit 1"), "", fallback, "in the file"),
        ("attack", attack.to_owned(), volume, in_volume, "still here\n"),
        ("shared", format!("echo -n together > {log}"), "  shareProcessNamespace: true\n", "", "together"),
    ];
    let all = cases.iter().map(|(name, script, of_pod, of_container, _)| pod(name, script, of_pod, of_container));
    cluster.apply(&all.chain([pod("long", floods, "", "")]).collect::<String>());
    for (name, .., want) in &cases {
        assert_eq!(message(&cluster, name), *want, "{name}");
    }
    let told = message(&cluster, "long");
    assert!(told.len() == 4096 && told.starts_with('x') && told.ends_with("xend"), "{} bytes: {told}", told.len());
    let described = cluster.kubectl(&["describe", "pod", "user"]);
    assert!(described.contains("Message:      nobody"), "{described}");
}

#[test]
fn every_attempt_begins_anew_and_a_message_outlives_the_control_plane() {
    let mut cluster = Cluster::start("last-words-again");
    // The second run finds what the first left, if that was not its own alone.
    let script = "cat /dev/termination-log > /d/found; date > /dev/termination-log; echo run >> /d/runs; \
                  until [ -e /d/end ]; do sleep 0.1; done; rm /d/end; exit 1";
    let of_container = "    volumeMounts: [{name: d, mountPath: /d}]\n";
    let text = pod("again", script, "  volumes: [{name: d, emptyDir: {}}]\n", of_container);
    cluster.apply(&text.replace("restartPolicy: Never", "restartPolicy: Always"));
    let ids = || cluster.containers("io.kubernetes.container.name=app");
    let exec = |command: &[&str]| {
        let id = ids().pop().unwrap_or_default();
        docker(&[&["exec", id.as_str()], command].concat())
    };
    let last = "{.status.containerStatuses[0].lastState.terminated.message}";
    for restarts in 0..6 {
        let restarted = || cluster.jsonpath(&["pod", "again"], "{.status.containerStatuses[0].restartCount}");
        until_equal("it runs", SOON, (restarts.to_string(), 1), || (restarted(), ids().len()));
        until_equal("it has looked", SOON, restarts + 1, || exec(&["cat", "/d/runs"]).lines().count());
        assert_eq!(exec(&["cat", "/d/found"]), "", "restart {restarts}");
        assert_eq!(cluster.jsonpath(&["pod", "again"], last).is_empty(), restarts == 0);
        // Ended from outside: no back-off.
        docker(&["kill", &ids()[0]]);
    }
    until_equal("it runs again", SOON, 1, || ids().len());
    let told = cluster.jsonpath(&["pod", "again"], last);
    cluster.stop("KILL");
    cluster.up(&[]);
    assert_eq!(cluster.jsonpath(&["pod", "again"], last), told);
}

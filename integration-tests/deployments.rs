//! Rollouts of Deployments with real kubectl, as Kubernetes' documentation tells them.
//!
//! Bounds are checked in every state that the pods went through, not in samples.

use crate::harness::{
    cluster::Cluster,
    history::{History, State, active_and_ready, is_ready},
    tools::{run, text},
    wait::{SOON, until_equal},
};
use serde_json::Value;
use std::{
    collections::BTreeSet,
    io::{BufRead as _, BufReader},
    process::Stdio,
};

/// An image that cannot be had, which is known at once: nobody listens there.
const NO_IMAGE: &str = "127.0.0.1:1/none:1";
/// The label that tells a ReplicaSet's pods from those of another.
const HASH: &str = "pod-template-hash";

/// A cluster that has the demo images and nothing else.
fn cluster(name: &str) -> Cluster {
    let cluster = Cluster::start(name);
    run(&mut cluster.skiff(&["demo", "load"]));
    cluster
}

/// A Deployment `web` whose pods are ready at once and stop at once.
fn web(replicas: usize, more: &str) -> String {
    format!(
        "apiVersion: apps/v1\nkind: Deployment\nmetadata: {{name: web}}\nspec:\n  replicas: {replicas}\n  \
         selector: {{matchLabels: {{app: web}}}}\n{more}\n  template:\n    metadata: {{labels: {{app: web}}}}\n    \
         spec:\n      containers:\n      - {{name: c, image: 'kubernetes-spring:1.0', imagePullPolicy: IfNotPresent}}\n"
    )
}

/// The sizes of the ReplicaSets that have one, oldest first.
fn sizes(cluster: &Cluster) -> Vec<String> {
    let sorted = ["rs", "--sort-by=.metadata.creationTimestamp"];
    let all = cluster.jsonpath(&sorted, "{.items[*].spec.replicas}");
    all.split_whitespace().filter(|n| *n != "0").map(str::to_owned).collect()
}

fn status(cluster: &Cluster, field: &str) -> String {
    cluster.jsonpath(&["deployment", "web"], &format!("{{.status.{field}}}"))
}

/// A count in the status of the Deployment in a state.
fn count(state: &State, field: &str) -> Option<u64> {
    state.get("web")?["status"][field].as_u64()
}

/// What the condition `Progressing` says.
fn progressing(cluster: &Cluster, field: &str) -> String {
    status(cluster, &format!("conditions[?(@.type==\"Progressing\")].{field}"))
}

/// The revisions in the history with their change-cause.
fn history(cluster: &Cluster) -> Vec<(String, String)> {
    let text = cluster.kubectl(&["rollout", "history", "deployment/web"]);
    let lines = text.lines().skip(2).filter_map(|l| l.split_once(char::is_whitespace));
    lines.map(|(revision, cause)| (revision.to_owned(), cause.trim().to_owned())).collect()
}

fn revisions(cluster: &Cluster) -> Vec<String> {
    history(cluster).into_iter().map(|(revision, _)| revision).collect()
}

/// The value of a container's variable in the pods that there are.
fn variables(cluster: &Cluster, name: &str) -> BTreeSet<String> {
    let path = format!("{{.items[*].spec.containers[0].env[?(@.name==\"{name}\")].value}}");
    cluster.jsonpath(&["pods"], &path).split_whitespace().map(str::to_owned).collect()
}

/// Fails if pods were more or fewer than allowed in any state, once so many had been ready.
#[track_caller]
fn held(states: &[State], active_max: usize, ready_min: usize) {
    let full = states.iter().position(|s| active_and_ready(s).1 >= ready_min).expect("enough pods were ready once");
    for (n, state) in states.iter().enumerate() {
        let (active, ready) = active_and_ready(state);
        assert!(active <= active_max, "{active} pods in state {n} of {}: {:?}", states.len(), state.keys());
        assert!(
            n < full || ready >= ready_min,
            "{ready} ready pods in state {n} of {}: {:?}",
            states.len(),
            state.keys()
        );
    }
}

#[test]
fn three_versions_in_a_row_roll_over_within_the_bounds() {
    let cluster = cluster("rollover");
    cluster.apply(&web(6, "  strategy: {rollingUpdate: {maxSurge: 2, maxUnavailable: 1}}"));
    cluster.rolled_out("web");
    let pods = History::of(&cluster, &["pods"]);
    let sets = History::of(&cluster, &["rs"]);
    pods.until("six pods are there", SOON, |state| active_and_ready(state) == (6, 6));
    for (n, version) in ["2", "3", "4"].into_iter().enumerate() {
        cluster.kubectl(&["set", "env", "deployment/web", &format!("V={version}")]);
        if n < 2 {
            // The version before must have pods worth keeping, or it goes at once.
            let has_ready = |set: &Value| set["status"]["readyReplicas"].as_u64().unwrap_or(0) > 0;
            sets.until("the new version has a ready pod", SOON, |state| {
                let newest = state.values().max_by_key(|set| revision_of(set));
                state.len() == n + 2 && newest.is_some_and(has_ready)
            });
            assert_ne!(progressing(&cluster, "reason"), "NewReplicaSetAvailable", "version {version} has not finished");
        }
    }
    cluster.rolled_out("web");
    pods.until("only the newest version's pods are left", SOON, |state| {
        let hashes: BTreeSet<_> = state.values().map(|pod| pod["metadata"]["labels"][HASH].as_str()).collect();
        state.len() == 6 && hashes.len() == 1
    });
    held(&pods.states(), 8, 5);
    let active = |state: &State| state.values().filter(|set| set["spec"]["replicas"].as_u64() > Some(0)).count();
    let most = sets.states().iter().map(active).max();
    assert!(most > Some(2), "at most {most:?} ReplicaSets had pods at a time");
    assert_eq!(variables(&cluster, "V"), BTreeSet::from(["4".to_owned()]));
    assert_eq!(sizes(&cluster), ["6"]);
    assert_eq!(revisions(&cluster), ["1", "2", "3", "4"]);
}

fn revision_of(set: &Value) -> u64 {
    let text = &set["metadata"]["annotations"]["deployment.kubernetes.io/revision"];
    text.as_str().and_then(|t| t.parse().ok()).unwrap_or(0)
}

#[test]
fn scaling_is_shared_out_in_mid_rollout_and_a_failed_rollout_stops_and_says_so() {
    let cluster = cluster("fail");
    let pods = History::of(&cluster, &["pods"]);
    cluster.apply(&web(10, "  strategy: {rollingUpdate: {maxSurge: 3, maxUnavailable: 2}}"));
    cluster.rolled_out("web");
    cluster.kubectl(&["set", "image", "deployment/web", &format!("c={NO_IMAGE}")]);
    until_equal("8 old and 5 new pods are wanted", SOON, vec!["8".to_owned(), "5".into()], || sizes(&cluster));
    until_equal("all of them are there", SOON, "13 5 8".to_owned(), || status_counts(&cluster));
    let row = cluster.kubectl(&["get", "deployment", "web", "--no-headers"]);
    assert_eq!(row.split_whitespace().take(4).collect::<Vec<_>>(), ["web", "8/10", "5", "8"]);
    held(&pods.states(), 13, 8);

    // Five more: three for the old set, two for the new one.
    cluster.kubectl(&["scale", "deployment/web", "--replicas=15"]);
    until_equal("11 old and 7 new pods are wanted", SOON, vec!["11".to_owned(), "7".into()], || sizes(&cluster));
    until_equal("all of them are there", SOON, "18 7 11".to_owned(), || status_counts(&cluster));
    let waiting = cluster.jsonpath(&["pods"], "{.items[*].status.containerStatuses[0].state.waiting.reason}");
    let waiting: Vec<&str> = waiting.split_whitespace().collect();
    assert!(waiting.len() == 7 && waiting.iter().all(|r| r.contains("Image")), "{waiting:?}");

    // Somebody looks on when the deadline passes.
    let mut looking = cluster.kubectl_command(&["rollout", "status", "deployment/web", "--timeout=60s"]);
    let mut looking = looking.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    let mut first = String::new();
    // It ends with its reader.
    let mut told = BufReader::new(looking.stdout.take().unwrap());
    told.read_line(&mut first).unwrap();
    assert_eq!(
        first,
        "Waiting for deployment \"web\" rollout to finish: 7 out of 15 new replicas have been updated...\n"
    );
    cluster.kubectl(&["patch", "deployment", "web", "-p", r#"{"spec": {"progressDeadlineSeconds": 2}}"#]);
    let ended = looking.wait_with_output().unwrap();
    assert!(!ended.status.success());
    drop(told);
    assert_eq!(text(&ended.stderr), "error: deployment \"web\" exceeded its progress deadline\n");
    assert_eq!(progressing(&cluster, "status"), "False");
    assert_eq!(progressing(&cluster, "reason"), "ProgressDeadlineExceeded");
    assert!(progressing(&cluster, "message").ends_with("has timed out progressing."));
    assert_eq!(status_counts(&cluster), "18 7 11", "it stopped where it was");

    // Pods may take longer than that on a busy machine.
    cluster.kubectl(&["patch", "deployment", "web", "-p", r#"{"spec": {"progressDeadlineSeconds": 600}}"#]);
    let undone = cluster.kubectl(&["rollout", "undo", "deployment/web"]);
    assert_eq!(undone, "deployment.apps/web rolled back\n");
    cluster.rolled_out("web");
    until_equal("the working version has all pods", SOON, vec!["15".to_owned()], || sizes(&cluster));
    assert_eq!(progressing(&cluster, "reason"), "NewReplicaSetAvailable");
}

/// How many pods the Deployment has, of the new version, and available.
fn status_counts(cluster: &Cluster) -> String {
    status(cluster, "replicas")
        + " "
        + &status(cluster, "updatedReplicas")
        + " "
        + &status(cluster, "availableReplicas")
}

#[test]
fn what_is_changed_during_a_pause_is_one_revision() {
    let cluster = cluster("pause");
    cluster.apply(&web(2, ""));
    cluster.rolled_out("web");
    assert_eq!(cluster.kubectl(&["rollout", "pause", "deployment/web"]), "deployment.apps/web paused\n");
    let said = cluster.kubectl_fails(&["rollout", "pause", "deployment/web"]);
    assert_eq!(said, "error: deployments.apps \"web\" is already paused\n");
    cluster.kubectl(&["set", "image", "deployment/web", "c=kubernetes-spring:1.1"]);
    cluster.kubectl(&["set", "resources", "deployment/web", "--limits=cpu=500m,memory=64Mi"]);
    cluster.kubectl(&["set", "env", "deployment/web", "V=2"]);
    until_equal("the pause is told", SOON, "DeploymentPaused".to_owned(), || progressing(&cluster, "reason"));
    let said = cluster.kubectl(&["rollout", "status", "deployment/web", "--watch=false"]);
    assert_eq!(
        said,
        "Waiting for deployment \"web\" rollout to finish: 0 out of 2 new replicas have been updated...\n"
    );
    let said = cluster.kubectl_fails(&["rollout", "restart", "deployment/web"]);
    assert_eq!(said, "error: deployments.apps \"web\" can't restart paused deployment (run rollout resume first)\n");
    cluster.kubectl(&["scale", "deployment/web", "--replicas=3"]);
    until_equal("a paused Deployment scales", SOON, "3".to_owned(), || status(&cluster, "availableReplicas"));
    assert_eq!(sizes(&cluster), ["3"], "the old version grew, the new one waits");
    assert_eq!(revisions(&cluster), ["1"]);

    assert_eq!(cluster.kubectl(&["rollout", "resume", "deployment/web"]), "deployment.apps/web resumed\n");
    let said = cluster.kubectl_fails(&["rollout", "resume", "deployment/web"]);
    assert_eq!(said, "error: deployments.apps \"web\" is not paused\n");
    cluster.rolled_out("web");
    assert_eq!(revisions(&cluster), ["1", "2"]);
    let pod = cluster.kubectl(&["rollout", "history", "deployment/web", "--revision=2"]);
    for part in ["with revision #2", "kubernetes-spring:1.1", "memory:\t64Mi", "V:\t2"] {
        assert!(pod.contains(part), "{part:?} is not in:\n{pod}");
    }
}

#[test]
fn revisions_are_kept_told_and_gone_back_to() {
    let cluster = cluster("undo");
    cluster.apply(&web(2, "  revisionHistoryLimit: 2"));
    cluster.rolled_out("web");
    cluster.kubectl(&["annotate", "deployment/web", "kubernetes.io/change-cause=the first"]);
    cluster.kubectl(&["set", "image", "deployment/web", "c=kubernetes-spring:1.1"]);
    let told = cluster.kubectl(&["rollout", "status", "deployment/web"]);
    assert!(told.starts_with("Waiting for deployment \"web\" rollout to finish: "), "{told}");
    assert!(told.ends_with("deployment \"web\" successfully rolled out\n"), "{told}");
    cluster.kubectl(&["annotate", "deployment/web", "kubernetes.io/change-cause=image 1.1", "--overwrite"]);
    let cause = |revision: &str, cause: &str| (revision.to_owned(), cause.to_owned());
    until_equal("causes are kept", SOON, vec![cause("1", "the first"), cause("2", "image 1.1")], || history(&cluster));

    assert_eq!(
        cluster.kubectl(&["rollout", "undo", "deployment/web", "--dry-run=server"]),
        "deployment.apps/web rolled back (server dry run)\n"
    );
    assert_eq!(revisions(&cluster), ["1", "2"], "a dry run changes nothing");
    cluster.kubectl(&["rollout", "undo", "deployment/web"]);
    cluster.rolled_out("web");
    assert_eq!(history(&cluster), [cause("2", "image 1.1"), cause("3", "the first")], "revision 1 is 3 now");
    let image = || cluster.jsonpath(&["deployment", "web"], "{.spec.template.spec.containers[0].image}");
    assert_eq!(image(), "kubernetes-spring:1.0");

    assert_eq!(cluster.kubectl(&["rollout", "restart", "deployment/web"]), "deployment.apps/web restarted\n");
    cluster.rolled_out("web");
    assert_eq!(revisions(&cluster), ["2", "3", "4"]);
    let told = cluster.kubectl(&["rollout", "undo", "deployment/web", "--to-revision=2"]);
    assert_eq!(told, "deployment.apps/web rolled back\n");
    cluster.rolled_out("web");
    assert_eq!(image(), "kubernetes-spring:1.1");
    assert_eq!(revisions(&cluster), ["3", "4", "5"]);
    let told = cluster.kubectl(&["rollout", "undo", "deployment/web", "--to-revision=5"]);
    assert_eq!(told, "deployment.apps/web skipped rollback (current template already matches revision 5)\n");
    let said = cluster.kubectl_fails(&["rollout", "undo", "deployment/web", "--to-revision=77"]);
    assert!(said.ends_with("error: unable to find specified revision 77 in history\n"), "{said}");
    let said = cluster.kubectl_fails(&["rollout", "history", "deployment/web", "--revision=77"]);
    assert_eq!(said, "error: unable to find the specified revision\n");

    // Two old ReplicaSets are kept, as the limit says; the third goes.
    cluster.kubectl(&["set", "env", "deployment/web", "V=6"]);
    cluster.rolled_out("web");
    until_equal("the oldest is gone", SOON, vec!["4".to_owned(), "5".into(), "6".into()], || revisions(&cluster));
}

#[test]
fn recreate_never_runs_two_versions_and_min_ready_seconds_delay_availability() {
    let cluster = cluster("recreate");
    cluster.apply(&web(3, "  strategy: {type: Recreate}"));
    cluster.rolled_out("web");
    let pods = History::of(&cluster, &["pods"]);
    cluster.kubectl(&["set", "image", "deployment/web", "c=kubernetes-spring:1.1"]);
    cluster.rolled_out("web");
    // A pod that has ended does not run, though it is still there.
    let runs = |pod: &&Value| !matches!(pod["status"]["phase"].as_str(), Some("Succeeded" | "Failed"));
    let hashes = |state: &State| {
        state.values().filter(runs).map(|pod| pod["metadata"]["labels"][HASH].to_string()).collect::<BTreeSet<_>>()
    };
    pods.until("three new pods are ready", SOON, |state| active_and_ready(state) == (3, 3) && hashes(state).len() == 1);
    let states = pods.states();
    assert_eq!(states.iter().flat_map(hashes).collect::<BTreeSet<_>>().len(), 2, "both versions were seen");
    for state in &states {
        assert!(hashes(state).len() <= 1, "old and new pods ran together: {:?}", state.keys());
    }

    cluster.kubectl(&["delete", "deployment", "web"]);
    cluster.kubectl(&["wait", "--for=delete", "pod", "-l", "app=web", "--timeout=60s"]);
    let counts = History::of(&cluster, &["deployment"]);
    cluster.apply(&web(1, "  minReadySeconds: 2"));
    pods.until("the pod is ready", SOON, |state| state.len() == 1 && state.values().all(is_ready));
    cluster.rolled_out("web");
    counts.until("availability is told", SOON, |state| count(state, "availableReplicas") == Some(1));
    // The two seconds between may be over before anybody looks, so every state that the Deployment went through counts.
    let only_ready =
        |state: &State| count(state, "readyReplicas") == Some(1) && count(state, "availableReplicas").is_none();
    assert!(counts.states().iter().any(only_ready), "ready is not yet available");
    let time = |what: &[&str], type_: &str| {
        let path = format!("{{..status.conditions[?(@.type==\"{type_}\")].lastTransitionTime}}");
        cluster.jsonpath(what, &path).parse::<jiff::Timestamp>().unwrap()
    };
    let (ready, available) = (time(&["pods"], "Ready"), time(&["deployment", "web"], "Available"));
    assert!(available.duration_since(ready).as_secs() >= 2, "ready at {ready}, available at {available}");
}

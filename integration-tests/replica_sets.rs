//! ReplicaSets and ReplicationControllers of one's own, with real kubectl: the example manifests, selectors, adoption, orphans.

use crate::harness::{
    cluster::{Cluster, answers},
    tools::run,
    wait::{SOON, eventually, until_equal},
};
use std::collections::BTreeMap;

const MANIFESTS: [&str; 6] =
    ["-f", "manifests/replication-controller", "-f", "manifests/replica-set", "-f", "manifests/hello-openshift"];

/// A cluster with the example manifests in it, all ready.
fn examples(name: &str) -> Cluster {
    let cluster = Cluster::start_with(name, &MANIFESTS);
    until_equal("all pods are ready", SOON, 5, || ready(&cluster, "").len());
    cluster
}

/// The UIDs and container IDs of the ready pods that a selector picks.
fn ready(cluster: &Cluster, selector: &str) -> BTreeMap<String, String> {
    let path = "{range .items[*]}{.metadata.uid} {.status.containerStatuses[0].containerID} \
                {.status.conditions[?(@.type==\"Ready\")].status}{\"\\n\"}{end}";
    let lines = cluster.jsonpath(&["pods", "-l", selector], path);
    let words = lines.lines().map(|line| line.split_whitespace().collect::<Vec<_>>());
    words.filter(|w| w.len() == 3 && w[2] == "True").map(|w| (w[0].to_owned(), w[1].to_owned())).collect()
}

/// The kinds and names of the controllers that the pods of a selector have.
fn owners(cluster: &Cluster, selector: &str) -> String {
    let path = "{range .items[*]}{.metadata.ownerReferences[0].kind}/{.metadata.ownerReferences[0].name} {end}";
    let mut all: Vec<String> =
        cluster.jsonpath(&["pods", "-l", selector], path).split_whitespace().map(str::to_owned).collect();
    all.sort();
    all.dedup();
    all.join(" ")
}

fn words(text: &str) -> Vec<&str> {
    text.split_whitespace().collect()
}

fn pod(name: &str, labels: &str) -> String {
    format!(
        "apiVersion: v1\nkind: Pod\nmetadata: {{name: {name}, labels: {{{labels}}}}}\nspec:\n  containers:\n  \
         - {{name: c, image: openshift/hello-openshift, imagePullPolicy: IfNotPresent}}\n"
    )
}

#[test]
fn the_example_manifests_run_and_read_as_in_kubernetes() {
    let cluster = examples("examples");
    // Pods are ready before their controllers have counted them.
    let counted = |what: &str| {
        let row = cluster.kubectl(&["get", what, "--no-headers"]);
        words(&row).into_iter().take(4).map(str::to_owned).collect::<Vec<_>>().join(" ")
    };
    for (what, row) in [
        ("rc/frontend-1", "frontend-1 1 1 1"),
        ("rs/frontend-1", "frontend-1 3 3 3"),
        ("deploy/hello-openshift", "hello-openshift 1/1 1 1"),
    ] {
        until_equal("pods are counted", SOON, row.to_owned(), || counted(what));
    }
    let table = cluster.kubectl(&["get", "rc", "-o", "wide"]);
    let (head, row) = table.split_once('\n').unwrap();
    assert_eq!(words(head), ["NAME", "DESIRED", "CURRENT", "READY", "AGE", "CONTAINERS", "IMAGES", "SELECTOR"]);
    assert_eq!(words(row)[..4], ["frontend-1", "1", "1", "1"]);
    assert_eq!(words(row)[5..], ["helloworld", "openshift/hello-openshift", "name=frontend"]);
    let row = cluster.kubectl(&["get", "rs", "frontend-1", "-o", "wide", "--no-headers"]);
    assert_eq!(words(&row)[..4], ["frontend-1", "3", "3", "3"]);
    assert_eq!(words(&row)[5..], ["helloworld", "openshift/hello-openshift", "tier=frontend,tier", "in", "(frontend)"]);
    let row = cluster.kubectl(&["get", "deploy", "-o", "wide", "--no-headers"]);
    assert_eq!(words(&row)[..4], ["hello-openshift", "1/1", "1", "1"]);
    for (what, parts) in [
        (
            "rc/frontend-1",
            &["Selector:     name=frontend\n", "Replicas:     1 current / 1 desired\n", "Created pod: frontend-1-"][..],
        ),
        (
            "rs/frontend-1",
            &[
                "Selector:     tier=frontend,tier in (frontend)\n",
                "Pods Status:  3 Running / 0 Waiting / 0 Succeeded / 0 Failed\n",
                "replicaset-controller",
            ],
        ),
        (
            "deploy/hello-openshift",
            &["Port:          80/TCP\n", "(1/1 replicas created)", "Scaled up replica set hello-openshift-"],
        ),
    ] {
        // Events are written after what they tell of.
        eventually(what, SOON, || {
            let text = cluster.kubectl(&["describe", what]);
            let missing: Vec<_> = parts.iter().filter(|part| !text.contains(**part)).collect();
            if missing.is_empty() { Ok(()) } else { Err(format!("{missing:?} not in:\n{text}")) }
        });
    }
    cluster.kubectl(&["expose", "rc", "frontend-1", "--name=hello", "--port=8080", "--type=NodePort"]);
    let port = cluster.jsonpath(&["service", "hello"], "{.spec.ports[0].nodePort}");
    assert!(answers(port.parse().unwrap()).contains("Hello OpenShift!"));

    let said = cluster.kubectl_fails(&["scale", "rc/frontend-1", "--current-replicas=2", "--replicas=3"]);
    assert_eq!(said, "error: Expected replicas to be 2, was 1\n");
    for (what, from, to) in [("rc/frontend-1", 1, 2), ("rs/frontend-1", 3, 1), ("deploy/hello-openshift", 1, 2)] {
        cluster.kubectl(&["scale", what, &format!("--current-replicas={from}"), &format!("--replicas={to}")]);
        cluster.kubectl(&["wait", what, &format!("--for=jsonpath={{.status.readyReplicas}}={to}"), "--timeout=60s"]);
    }
    let said = cluster.kubectl_fails(&["rollout", "history", "rs/frontend-1"]);
    assert!(said.contains("no history viewer has been implemented"), "{said}");
}

#[test]
fn orphans_run_on_and_are_adopted_as_they_are() {
    let cluster = examples("orphans");
    let before = ready(&cluster, "");
    cluster.kubectl(&["delete", "--cascade=orphan", "rc/frontend-1", "rs/frontend-1", "deploy/hello-openshift"]);
    let names = cluster.kubectl(&["get", "rc,rs,deploy", "-o", "name"]);
    assert!(names.starts_with("replicaset.apps/hello-openshift-") && names.lines().count() == 1, "{names}");
    assert_eq!(owners(&cluster, "name=frontend"), "/");
    assert_eq!(owners(&cluster, "tier=frontend"), "/");
    assert_eq!(cluster.jsonpath(&["rs"], "{.items[*].metadata.ownerReferences}"), "");
    assert_eq!(ready(&cluster, ""), before, "the same pods in the same containers");

    let apply = [&["apply"][..], &MANIFESTS].concat();
    cluster.kubectl(&apply);
    let adopted = || (owners(&cluster, "name=frontend"), owners(&cluster, "tier=frontend"));
    let wanted = ("ReplicationController/frontend-1".to_owned(), "ReplicaSet/frontend-1".to_owned());
    until_equal("the pods are adopted", SOON, wanted, adopted);
    let owner = "{.items[?(@.metadata.name!=\"frontend-1\")].metadata.ownerReferences[0].kind}";
    until_equal("the ReplicaSet is adopted", SOON, "Deployment".to_owned(), || cluster.jsonpath(&["rs"], owner));
    for what in ["rc/frontend-1", "rs/frontend-1", "deploy/hello-openshift"] {
        let replicas = cluster.jsonpath(&[what], "{.spec.replicas}");
        cluster.kubectl(&[
            "wait",
            what,
            &format!("--for=jsonpath={{.status.readyReplicas}}={replicas}"),
            "--timeout=60s",
        ]);
    }
    assert_eq!(ready(&cluster, ""), before, "the same pods in the same containers, and no others");

    // Foreground: when the owner is gone, so are its pods.
    cluster.kubectl(&["delete", "--cascade=foreground", "rc/frontend-1", "rs/frontend-1", "deploy/hello-openshift"]);
    assert_eq!(cluster.kubectl(&["get", "rc,rs,deploy,pods", "-o", "name"]), "");
    until_equal("their containers are gone", SOON, 0, || {
        cluster.containers("io.kubernetes.pod.namespace=default").len()
    });
}

#[test]
fn a_pod_is_adopted_by_its_labels_and_released_by_another_label() {
    let cluster = Cluster::start("adopt-pod");
    run(&mut cluster.skiff(&["demo", "load"]));
    cluster.apply(&pod("by-hand", "tier: frontend"));
    until_equal("the pod is ready", SOON, 1, || ready(&cluster, "").len());
    let by_hand = ready(&cluster, "");
    cluster.kubectl(&["apply", "-f", "manifests/replica-set"]);
    until_equal("three pods are ready", SOON, 3, || ready(&cluster, "tier=frontend").len());
    assert_eq!(owners(&cluster, "tier=frontend"), "ReplicaSet/frontend-1");
    assert!(ready(&cluster, "").contains_key(by_hand.keys().next().unwrap()), "the pod made by hand is one of them");

    cluster.kubectl(&["label", "pod", "by-hand", "tier=other", "--overwrite"]);
    until_equal("another pod takes its place", SOON, 3, || ready(&cluster, "tier=frontend").len());
    assert_eq!(owners(&cluster, "tier=other"), "/", "it is nobody's");
    assert_eq!(ready(&cluster, "tier=other"), by_hand, "and runs on, in the same container");

    // One too many: a pod that comes to a full ReplicaSet is adopted, and goes.
    let full = ready(&cluster, "tier=frontend");
    cluster.apply(&pod("too-many", "tier: frontend"));
    cluster.kubectl(&["wait", "--for=delete", "pod/too-many", "--timeout=60s"]);
    assert_eq!(ready(&cluster, "tier=frontend"), full);
}

#[test]
fn selectors_of_every_operator_and_long_names_work() {
    let cluster = Cluster::start("selectors");
    run(&mut cluster.skiff(&["demo", "load"]));
    let long = format!("long-{}-end", "x".repeat(54));
    assert_eq!(long.len(), 63);
    let set = |name: &str, expressions: &str| {
        format!(
            "apiVersion: apps/v1\nkind: ReplicaSet\nmetadata: {{name: {name}}}\nspec:\n  selector: {{matchExpressions: [{expressions}]}}\n  \
             template:\n    metadata: {{labels: {{set: {name}, stage: live}}}}\n    spec:\n      containers:\n      \
             - {{name: {long}, image: openshift/hello-openshift, imagePullPolicy: IfNotPresent}}\n"
        )
    };
    let own = |name: &str| format!("{{key: set, operator: In, values: [{name}, other]}}");
    let cases = [
        ("in", own("in"), "set in (in,other)"),
        (
            "not-in",
            own("not-in") + ", {key: stage, operator: NotIn, values: [dead]}",
            "set in (not-in,other),stage notin (dead)",
        ),
        ("exists", own("exists") + ", {key: stage, operator: Exists}", "set in (exists,other),stage"),
        ("absent", own("absent") + ", {key: gone, operator: DoesNotExist}", "!gone,set in (absent,other)"),
        (&long, own(&long), ""),
    ];
    for (name, expressions, _) in &cases {
        cluster.apply(&set(name, expressions));
    }
    let rc = format!(
        "apiVersion: v1\nkind: ReplicationController\nmetadata: {{name: rc-{0}}}\nspec:\n  selector: {{of: rc}}\n  template:\n    \
         metadata: {{labels: {{of: rc, more: too}}}}\n    spec:\n      containers:\n      \
         - {{name: c, image: openshift/hello-openshift, imagePullPolicy: IfNotPresent}}\n",
        &long[3..]
    );
    cluster.apply(&rc);
    for (name, _, printed) in &cases {
        cluster.kubectl(&["wait", &format!("rs/{name}"), "--for=jsonpath={.status.readyReplicas}=1", "--timeout=60s"]);
        let row = cluster.kubectl(&["get", "rs", name, "-o", "wide", "--no-headers"]);
        assert!(row.trim_end().ends_with(printed), "{row}");
    }
    cluster.kubectl(&[
        "wait",
        &format!("rc/rc-{}", &long[3..]),
        "--for=jsonpath={.status.readyReplicas}=1",
        "--timeout=60s",
    ]);
    let name = cluster.jsonpath(&["pods", "-l", &format!("set={long}")], "{.items[0].metadata.name}");
    assert!(name.len() == 63 && name.starts_with(&long[..58]), "{name}");

    // Selectors that do not fit their template, or that have no sense, are refused in Kubernetes' words.
    let wrong = [
        (set("w", "{key: set, operator: In, values: [other]}"), "`selector` does not match template `labels`"),
        (set("w", "{key: set, operator: In}"), "must be specified when `operator` is 'In' or 'NotIn'"),
        (
            set("w", "{key: set, operator: Exists, values: [w]}"),
            "may not be specified when `operator` is 'Exists' or 'DoesNotExist'",
        ),
        (set("w", "{key: set, operator: Like, values: [w]}"), "not a valid selector operator"),
    ];
    for (manifest, part) in wrong {
        let out = cluster.kubectl_stdin(&["apply", "-f", "-"], &manifest);
        let said = String::from_utf8_lossy(&out.stderr);
        assert!(!out.status.success() && said.contains(part), "{part:?} is not in {said:?}");
    }
}

//! The user's story, line by line, with the manifests that users get.

use crate::harness::{
    cluster::{Cluster, answers, http_get, is_running},
    load::Load,
    tools::{docker, output, run, text},
    wait::{SOON, eventually, until_equal},
};
use std::{collections::BTreeMap, io::Write as _, net::TcpStream, process::Command};

const NODE_PORT: u16 = 30000;
const APP: &str = "io.kubernetes.container.name=spring-container";
const DEPLOYMENT: &str = "manifests/spring-deployment.yaml";

/// A cluster with the demo in it, answering.
fn demo(name: &str) -> Cluster {
    let cluster = Cluster::start_alone(name, &["-f", "manifests"]);
    answers(NODE_PORT);
    cluster
}

/// The pod that an answer names.
fn pod_of(answer: &str) -> String {
    answer.split_whitespace().find(|w| w.starts_with("spring-")).unwrap_or(answer).to_owned()
}

/// A connection on which a request has begun.
fn half_a_request() -> TcpStream {
    let mut stream = TcpStream::connect(("127.0.0.1", NODE_PORT)).expect("the demo answers");
    stream.write_all(b"GET / HT").expect("it is connected");
    stream
}

fn restarts(cluster: &Cluster) -> Vec<String> {
    let path = "{.items[*].status.containerStatuses[0].restartCount}";
    let mut all: Vec<String> =
        cluster.jsonpath(&["pods", "-l", "app=backend-app"], path).split_whitespace().map(str::to_owned).collect();
    all.sort();
    all
}

fn ready_pods(cluster: &Cluster) -> usize {
    let path = "{.items[*].status.conditions[?(@.type==\"Ready\")].status}";
    cluster.jsonpath(&["pods", "-l", "app=backend-app"], path).split_whitespace().filter(|s| *s == "True").count()
}

/// Whoever only looks needs no cluster of their own.
#[test]
fn what_is_there_answers_in_turn_and_reads_as_in_kubernetes() {
    let cluster = demo("looks");
    six_requests_are_answered_by_three_pods_twice_each(&cluster);
    lists_read_as_in_kubernetes(&cluster);
    describe_logs_events_and_explain_work(&cluster);
}

/// Which pods answer so many requests, and how many each. A pod joins a moment after it is ready.
fn turns(requests: usize) -> BTreeMap<String, usize> {
    let mut counts = BTreeMap::new();
    for _ in 0..requests {
        *counts.entry(pod_of(&http_get(NODE_PORT).unwrap())).or_default() += 1;
    }
    counts
}

fn six_requests_are_answered_by_three_pods_twice_each(cluster: &Cluster) {
    assert_eq!(ready_pods(cluster), 3);
    until_equal("each of three answers twice", SOON, vec![2, 2, 2], || turns(6).into_values().collect::<Vec<_>>());
}

fn lists_read_as_in_kubernetes(cluster: &Cluster) {
    let header = |args: &[&str]| {
        let out = cluster.kubectl(args);
        out.lines().next().unwrap().split_whitespace().collect::<Vec<_>>().join(" ")
    };
    assert_eq!(header(&["get", "deployment"]), "NAME READY UP-TO-DATE AVAILABLE AGE");
    assert_eq!(
        header(&["get", "deploy", "-o", "wide"]),
        "NAME READY UP-TO-DATE AVAILABLE AGE CONTAINERS IMAGES SELECTOR"
    );
    assert_eq!(header(&["get", "rs"]), "NAME DESIRED CURRENT READY AGE");
    assert_eq!(header(&["get", "rs", "-o", "wide"]), "NAME DESIRED CURRENT READY AGE CONTAINERS IMAGES SELECTOR");
    assert_eq!(header(&["get", "po"]), "NAME READY STATUS RESTARTS AGE");
    assert_eq!(
        header(&["get", "pods", "-o", "wide"]),
        "NAME READY STATUS RESTARTS AGE IP NODE NOMINATED NODE READINESS GATES"
    );
    assert_eq!(header(&["get", "pods", "--show-labels"]), "NAME READY STATUS RESTARTS AGE LABELS");
    assert_eq!(header(&["get", "pods", "-A"]), "NAMESPACE NAME READY STATUS RESTARTS AGE");
    assert_eq!(header(&["get", "svc"]), "NAME TYPE CLUSTER-IP EXTERNAL-IP PORT(S) AGE");
    assert_eq!(header(&["get", "service", "-o", "wide"]), "NAME TYPE CLUSTER-IP EXTERNAL-IP PORT(S) AGE SELECTOR");
    assert_eq!(header(&["get", "events"]), "LAST SEEN TYPE REASON OBJECT MESSAGE");
    assert_eq!(
        header(&["get", "nodes", "-o", "wide"]),
        "NAME STATUS ROLES AGE VERSION INTERNAL-IP EXTERNAL-IP OS-IMAGE KERNEL-VERSION CONTAINER-RUNTIME"
    );
    // Pods are ready before their controllers have counted them.
    until_equal("the pods are counted", SOON, "spring-deployment 3/3 3 3".to_owned(), || {
        let row = cluster.kubectl(&["get", "deployment", "spring-deployment", "--no-headers"]);
        row.split_whitespace().take(4).collect::<Vec<_>>().join(" ")
    });
    let ports = cluster.kubectl(&["get", "service", "spring-service", "--no-headers"]);
    assert!(ports.contains("8080:30000/TCP"), "{ports}");
    let names = cluster.kubectl(&["get", "deploy,rs,svc", "-o", "name"]);
    assert!(names.contains("deployment.apps/spring-deployment") && names.contains("service/spring-service"), "{names}");
    let all = cluster.kubectl(&["get", "all"]);
    for part in ["pod/spring-deployment-", "service/kubernetes", "deployment.apps/", "replicaset.apps/"] {
        assert!(all.contains(part), "{all}");
    }
    let yaml = cluster.kubectl(&["get", "deployment", "spring-deployment", "-o", "yaml"]);
    assert!(yaml.contains("maxSurge: 25%") && yaml.contains("progressDeadlineSeconds: 600"), "{yaml}");
}

fn describe_logs_events_and_explain_work(cluster: &Cluster) {
    // Counts and events are written after what they tell of.
    let says = |what: &[&str], parts: &[&str]| {
        eventually("all is told", SOON, || {
            let text = cluster.kubectl(&[&["describe"], what].concat());
            let missing: Vec<_> = parts.iter().filter(|part| !text.contains(**part)).collect();
            if missing.is_empty() { Ok(()) } else { Err(format!("{missing:?} not in:\n{text}")) }
        });
    };
    let parts = [
        "Replicas:               3 desired | 3 updated | 3 total | 3 available | 0 unavailable",
        "StrategyType:           RollingUpdate",
        "RollingUpdateStrategy:  25% max unavailable, 25% max surge",
        "NewReplicaSetAvailable",
        "Scaled up replica set spring-deployment-",
    ];
    says(&["deployment", "spring-deployment"], &parts);
    // kubectl shows events only where it describes one object.
    let pod = cluster.jsonpath(&["pods", "-l", "app=backend-app"], "{.items[0].metadata.name}");
    says(&["pod", &pod], &["Successfully assigned default/spring-deployment-", "Created", "Started", "Controlled By:"]);
    says(&["service", "spring-service"], &["NodePort:"]);
    says(&["rs"], &["SuccessfulCreate"]);
    says(&["node"], &["KubeletReady"]);
    let log = cluster.kubectl(&["logs", "deployment/spring-deployment"]);
    assert!(!log.is_empty());
    assert!(cluster.kubectl(&["explain", "deployment.spec.strategy"]).contains("rollingUpdate"));
    assert!(cluster.kubectl(&["api-resources"]).contains("deployments"));
}

#[test]
fn single_pods_are_served_too() {
    let cluster = Cluster::start_alone("pods", &["-f", "manifests/pods", "-f", "manifests/spring-service.yaml"]);
    answers(NODE_PORT);
    // They have no readiness probe: each joins when its program listens.
    let each_once = ["spring-pod-1", "spring-pod-2", "spring-pod-3"].map(|pod| (pod.to_owned(), 1));
    until_equal("each has its turn", SOON, BTreeMap::from(each_once), || turns(3));
    drop(cluster);
}

#[test]
fn a_killed_container_is_back_at_once_and_no_request_is_refused() {
    let cluster = demo("kill");
    let load = Load::on(NODE_PORT, 1);
    // Two clients at each pod, in the midst of a request.
    let _clients: Vec<TcpStream> = (0..6).map(|_| half_a_request()).collect();
    let victim = cluster.containers(APP).swap_remove(0);
    docker(&["kill", &victim]);
    until_equal("a restart is shown", SOON, vec!["0".to_owned(), "0".into(), "1".into()], || restarts(&cluster));
    until_equal("three containers run", SOON, 3, || cluster.containers(APP).len());
    until_equal("all are ready", SOON, 3, || ready_pods(&cluster));
    let pods = cluster.jsonpath(&["pods"], "{.items[*].metadata.name}");
    eventually("the first reply after the heal is told", SOON, || {
        let told = |pod: &str| run(&mut cluster.skiff(&["timeline", pod, "-o", "json"]));
        let all: Vec<String> = pods.split(' ').map(told).collect();
        let is_healed = |one: &&String| one.contains("\"cause\": \"Killed\"") && one.contains("\"servedAfterMs\"");
        if all.iter().any(|one| is_healed(&one)) { Ok(()) } else { Err(all.join("\n")) }
    });
    eventually("what clients lost with it is told", SOON, || {
        let lost = |pod: &str| {
            let told = run(&mut cluster.skiff(&["timeline", pod]));
            let killed = told.lines().find(|line| line.contains("Killed (137)"))?;
            killed.split_whitespace().last()?.parse::<u64>().ok()
        };
        let all: Vec<Option<u64>> = pods.split(' ').map(lost).collect();
        if all.iter().flatten().any(|lost| *lost > 0) { Ok(()) } else { Err(all) }
    });
    let (answered, failed) = load.end().counted();
    let refused: Vec<_> = failed.iter().filter(|f| f.starts_with("connect")).collect();
    assert!(answered > 0 && refused.is_empty(), "{answered} answered, refused: {refused:?}");
    assert!(failed.len() <= 1, "only a request inside the killed container may break: {failed:?}");
}

#[test]
fn whatever_docker_command_hurts_a_pod_it_heals() {
    let cluster = demo("hurt");
    for (n, hurt) in [&["stop", "-t", "0"][..], &["rm", "-f"], &["kill"], &["kill"]].into_iter().enumerate() {
        let before = cluster.containers(APP);
        let mut args = hurt.to_vec();
        args.push(&before[0]);
        docker(&args);
        eventually(&format!("a new container runs after docker {hurt:?} (#{n})"), SOON, || {
            let now = cluster.containers(APP);
            let fresh = now.len() == 3 && !now.contains(&before[0]);
            if fresh && ready_pods(&cluster) == 3 { Ok(()) } else { Err(now) }
        });
    }
    let sandboxes = cluster.containers("io.kubernetes.docker.type=podsandbox");
    let app_sandbox = sandboxes.iter().find(|id| {
        docker(&["inspect", "-f", "{{index .Config.Labels \"io.kubernetes.pod.namespace\"}}", id]).trim() == "default"
    });
    docker(&["kill", app_sandbox.unwrap()]);
    eventually("the pod is rebuilt", SOON, || {
        let gone = !is_running(app_sandbox.unwrap());
        if gone && cluster.containers(APP).len() == 3 && ready_pods(&cluster) == 3 { Ok(()) } else { Err(()) }
    });
    answers(NODE_PORT);
}

#[test]
fn all_containers_at_once_come_back() {
    let cluster = demo("all");
    let mut args = vec!["kill".to_owned()];
    args.extend(cluster.containers(APP));
    args.extend(cluster.containers("io.kubernetes.docker.type=podsandbox"));
    // Killing a sandbox and its containers together: one may be gone before its turn, which docker reports.
    output(Command::new("docker").args(&args));
    eventually("all pods are back", SOON, || {
        let (containers, ready) = (cluster.containers(APP).len(), ready_pods(&cluster));
        if containers == 3 && ready == 3 { Ok(()) } else { Err((containers, ready)) }
    });
    answers(NODE_PORT);
}

#[test]
fn scaling_by_editing_the_manifest() {
    let cluster = demo("scale");
    let manifest = std::fs::read_to_string(crate::harness::cluster::root().join(DEPLOYMENT)).unwrap();
    for replicas in [5, 1] {
        cluster.apply(&manifest.replace("replicas: 3", &format!("replicas: {replicas}")));
        cluster.rolled_out("spring-deployment");
        until_equal("the containers are as many", SOON, replicas, || cluster.containers(APP).len());
    }
}

#[test]
fn a_new_image_rolls_out_without_a_failed_request() {
    let cluster = demo("roll");
    let manifest = std::fs::read_to_string(crate::harness::cluster::root().join(DEPLOYMENT)).unwrap();
    let with = |tag: &str| manifest.replace("image: kubernetes-spring", &format!("image: kubernetes-spring:{tag}"));
    cluster.apply(&with("1.0"));
    cluster.rolled_out("spring-deployment");
    let load = Load::on(NODE_PORT, 1);
    cluster.apply(&with("1.1"));
    cluster.rolled_out("spring-deployment");
    eventually("the new version answers", SOON, || match http_get(NODE_PORT) {
        Ok(text) if text.contains("1.1") => Ok(()),
        other => Err(other),
    });
    until_equal("three pods are left", SOON, 3, || cluster.containers(APP).len());
    let (answered, failed) = load.end().counted();
    assert!(answered > 0 && failed.is_empty(), "{answered} answered, failed: {failed:?}");
    let sizes = cluster.jsonpath(&["rs"], "{.items[*].spec.replicas}");
    let mut sizes: Vec<&str> = sizes.split_whitespace().collect();
    sizes.sort_unstable();
    assert_eq!(sizes, ["0", "0", "3"]);
}

#[test]
fn deleting_removes_what_was_made_for_it() {
    let cluster = demo("delete");
    let rs = cluster.jsonpath(&["rs"], "{.items[0].metadata.name}");
    let uid = cluster.jsonpath(&["rs", &rs], "{.metadata.uid}");
    cluster.kubectl(&["delete", "replicaset", &rs]);
    eventually("the ReplicaSet is back", SOON, || {
        let now = output(&mut cluster.kubectl_command(&["get", "rs", &rs, "-o", "jsonpath={.metadata.uid}"]));
        let now = text(&now.stdout);
        if !now.is_empty() && now != uid { Ok(()) } else { Err(now) }
    });
    cluster.rolled_out("spring-deployment");
    cluster.kubectl(&["delete", "deployment", "spring-deployment"]);
    until_equal("no pod is left", SOON, String::new(), || cluster.kubectl(&["get", "rs,pods", "-o", "name"]));
    until_equal("no container is left", SOON, 0, || cluster.containers(APP).len());

    cluster.kubectl(&["apply", "-f", "manifests"]);
    cluster.rolled_out("spring-deployment");
    cluster.kubectl(&["delete", "all", "--all"]);
    until_equal("only the kubernetes Service is left", SOON, "service/kubernetes\n".to_owned(), || {
        cluster.kubectl(&["get", "all", "-o", "name"])
    });
}

#[test]
fn containers_and_services_outlive_skiff_and_are_adopted() {
    let mut cluster = demo("adopt");
    docker(&["kill", &cluster.containers(APP)[0]]);
    until_equal("the kill is healed", SOON, 3, || ready_pods(&cluster));
    for signal in ["INT", "TERM", "KILL"] {
        let before = (sorted(cluster.containers(APP)), restarts(&cluster));
        cluster.stop(signal);
        assert!(http_get(NODE_PORT).is_ok(), "the Service answers without skiff, ended by SIG{signal}");
        cluster.up(&[]);
        until_equal("all are ready", SOON, 3, || ready_pods(&cluster));
        assert_eq!((sorted(cluster.containers(APP)), restarts(&cluster)), before, "after SIG{signal}");
        assert!(http_get(NODE_PORT).is_ok());
    }
}

fn sorted(mut list: Vec<String>) -> Vec<String> {
    list.sort();
    list
}

#[test]
fn down_leaves_nothing_behind_and_touches_nothing_else() {
    let cluster = demo("down");
    let bystander = docker(&["create", "--name", "it-bystander", "kubernetes-spring:1.0"]);
    let others = "apiVersion: v1\nkind: Config\nclusters:\n- {name: other, cluster: {server: 'https://other'}}\n";
    let before = std::fs::read_to_string(cluster.kubeconfig()).unwrap();
    assert!(before.contains(&cluster.name));
    std::fs::write(cluster.kubeconfig(), others).unwrap();
    run(&mut cluster.skiff(&["kubeconfig", "--merge"]));
    run(&mut cluster.skiff(&["down"]));
    let label = format!("label=dev.skiff.cluster={}", cluster.name);
    assert_eq!(docker(&["ps", "-aq", "--filter", &label]), "");
    assert_eq!(docker(&["network", "ls", "-q", "--filter", &label]), "");
    assert_eq!(docker(&["volume", "ls", "-q", "--filter", &label]), "");
    assert!(!cluster.data_dir().exists());
    let after = std::fs::read_to_string(cluster.kubeconfig()).unwrap();
    assert!(after.contains("https://other") && !after.contains(&cluster.name), "{after}");
    assert!(docker(&["ps", "-aq", "--no-trunc"]).contains(bystander.trim()));
    docker(&["rm", bystander.trim()]);
    assert!(http_get(NODE_PORT).is_err());
}

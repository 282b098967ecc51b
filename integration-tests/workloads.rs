//! Jobs, StatefulSets, DaemonSets and disruption budgets with real kubectl.

use crate::harness::{
    cluster::Cluster,
    tools::{BUSYBOX, docker},
    wait::{eventually, until_equal},
};
use std::time::Duration;

const SOON: Duration = Duration::from_secs(40);

/// A pod template that runs a script.
fn template(app: &str, restart_policy: &str, script: &str) -> String {
    format!(
        "{{metadata: {{labels: {{app: {app}}}}}, spec: {{restartPolicy: {restart_policy}, terminationGracePeriodSeconds: 1, containers: \
         [{{name: c, image: '{}', command: [sh, -c, '{script}']}}]}}}}",
        *BUSYBOX
    )
}

#[test]
fn an_indexed_job_does_each_part_and_a_policy_fails_another_at_once() {
    let cluster = Cluster::start("jobs");
    let parts = template("parts", "Never", "echo part $JOB_COMPLETION_INDEX of $(hostname)");
    let doomed = template("doomed", "Never", "exit 42");
    let policy = "podFailurePolicy: {rules: [{action: FailJob, onExitCodes: {operator: In, values: [42]}}]}";
    cluster.apply(&format!(
        "apiVersion: batch/v1\nkind: Job\nmetadata: {{name: parts}}\n\
         spec: {{completionMode: Indexed, completions: 3, parallelism: 3, template: {parts}}}\n\
         ---\napiVersion: batch/v1\nkind: Job\nmetadata: {{name: doomed}}\nspec: {{backoffLimit: 6, {policy}, template: {doomed}}}\n"
    ));
    cluster.kubectl(&["wait", "--for=condition=complete", "job/parts", "--timeout=40s"]);
    cluster.kubectl(&["wait", "--for=condition=failed", "job/doomed", "--timeout=40s"]);
    let logs = cluster.kubectl(&["logs", "-l", "batch.kubernetes.io/job-name=parts", "--prefix=false"]);
    let mut lines: Vec<&str> = logs.lines().collect();
    lines.sort_unstable();
    assert_eq!(lines, ["part 0 of parts-0", "part 1 of parts-1", "part 2 of parts-2"]);
    let told = cluster.jsonpath(&["job", "parts"], "{.status.succeeded} {.status.completedIndexes}");
    assert_eq!(told, "3 0-2");
    let row = cluster.kubectl(&["get", "job", "parts", "--no-headers"]);
    assert_eq!(row.split_whitespace().take(3).collect::<Vec<_>>(), ["parts", "Complete", "3/3"]);
    let doomed = cluster.kubectl(&["describe", "job", "doomed"]);
    assert!(doomed.contains("PodFailurePolicy"), "{doomed}");
    assert!(doomed.contains("failed with exit code 42 matching FailJob rule at index 0"), "{doomed}");
    cluster.kubectl(&[
        "create",
        "cronjob",
        "tick",
        "--schedule=0 0 1 1 *",
        &format!("--image={}", *BUSYBOX),
        "--",
        "sh",
        "-c",
        "exit 0",
    ]);
    cluster.kubectl(&["create", "job", "now", "--from=cronjob/tick"]);
    cluster.kubectl(&["wait", "--for=condition=complete", "job/now", "--timeout=40s"]);
    cluster.kubectl(&["delete", "job", "parts", "doomed", "now"]);
    until_equal("their pods go", SOON, String::new(), || cluster.jsonpath(&["pods"], "{.items[*].metadata.name}"));
}

#[test]
fn a_stateful_set_keeps_its_names_through_kills_and_a_canary() {
    let cluster = Cluster::start("stateful");
    let set = |version: &str, partition: u8| {
        let template = template("db", "Always", &format!("echo {version}; exec sleep 3600"));
        format!(
            "apiVersion: v1\nkind: Service\nmetadata: {{name: db}}\n\
             spec: {{clusterIP: None, selector: {{app: db}}, ports: [{{port: 80}}]}}\n\
             ---\napiVersion: apps/v1\nkind: StatefulSet\nmetadata: {{name: db}}\nspec: {{serviceName: db, replicas: 3, selector: {{matchLabels: \
             {{app: db}}}}, updateStrategy: {{rollingUpdate: {{partition: {partition}}}}}, template: {template}}}\n"
        )
    };
    cluster.apply(&set("v1", 0));
    cluster.kubectl(&["rollout", "status", "sts/db", "--timeout=60s"]);
    let uids =
        || cluster.jsonpath(&["pods", "-l", "app=db"], "{range .items[*]}{.metadata.name}={.metadata.uid} {end}");
    let before = uids();
    assert_eq!(
        before.split_whitespace().map(|w| w.split('=').next().unwrap()).collect::<Vec<_>>(),
        ["db-0", "db-1", "db-2"]
    );
    let killed = cluster.containers("io.kubernetes.pod.name=db-1");
    let name = "{{index .Config.Labels \"io.kubernetes.container.name\"}}";
    let app = killed.iter().find(|id| docker(&["inspect", "-f", name, id]).trim() == "c").unwrap();
    docker(&["kill", app]);
    let restarts = "{.status.containerStatuses[0].restartCount} {.status.containerStatuses[0].ready}";
    until_equal("it is back", SOON, "1 true".to_owned(), || cluster.jsonpath(&["pod", "db-1"], restarts));
    assert_eq!(uids(), before, "a killed container is no new pod");
    cluster.apply(&set("v2", 2));
    cluster.kubectl(&["rollout", "status", "sts/db", "--timeout=60s"]);
    let log = |pod: &str| cluster.kubectl(&["logs", pod]).lines().last().unwrap_or_default().to_owned();
    let told = ["v1", "v1", "v2"].map(str::to_owned);
    until_equal("each tells its version", SOON, told, || [log("db-0"), log("db-1"), log("db-2")]);
    let history = cluster.kubectl(&["rollout", "history", "sts/db"]);
    assert!(history.contains("\n1 ") && history.contains("\n2 "), "{history}");
    cluster.kubectl(&["rollout", "undo", "sts/db"]);
    let commands = || cluster.jsonpath(&["pods", "-l", "app=db"], "{.items[*].spec.containers[0].command[2]}");
    let former = ["echo v1; exec sleep 3600"; 3].join(" ");
    until_equal("the canary is taken back", SOON, former, commands);
}

#[test]
fn a_daemon_set_stays_through_a_drain_that_waits_for_a_budget() {
    let cluster = Cluster::start("drain");
    let (web, log) = (template("web", "Always", "exec sleep 3600"), template("log", "Always", "exec sleep 3600"));
    cluster.apply(&format!(
        "apiVersion: apps/v1\nkind: Deployment\nmetadata: {{name: web}}\nspec: {{replicas: 2, selector: {{matchLabels: {{app: web}}}}, template: {web}}}\n\
         ---\napiVersion: policy/v1\nkind: PodDisruptionBudget\nmetadata: {{name: web}}\nspec: {{minAvailable: 1, selector: {{matchLabels: {{app: web}}}}}}\n\
         ---\napiVersion: apps/v1\nkind: DaemonSet\nmetadata: {{name: log}}\nspec: {{selector: {{matchLabels: {{app: log}}}}, template: {log}}}\n"
    ));
    cluster.rolled_out("web");
    cluster.kubectl(&["rollout", "status", "ds/log", "--timeout=60s"]);
    let allowed = || {
        cluster
            .jsonpath(&["pdb", "web"], "{.status.disruptionsAllowed} {.status.currentHealthy} {.status.desiredHealthy}")
    };
    until_equal("the budget is counted", SOON, "1 2 1".to_owned(), allowed);
    let node = cluster.jsonpath(&["nodes"], "{.items[0].metadata.name}");
    // The node is the only one, so that the second pod has nowhere to go: the budget keeps it.
    let drain = ["drain", &node, "--ignore-daemonsets", "--pod-selector=app in (web,log)", "--timeout=4s"];
    let said = cluster.kubectl_fails(&drain);
    assert!(said.contains("Cannot evict pod as it would violate the pod's disruption budget."), "{said}");
    let ready = || cluster.jsonpath(&["deploy", "web"], "{.status.readyReplicas}");
    assert_eq!(ready(), "1");
    assert_eq!(cluster.jsonpath(&["ds", "log"], "{.status.numberReady} {.status.desiredNumberScheduled}"), "1 1");
    cluster.kubectl(&["uncordon", &node]);
    until_equal("the other is back", SOON, "2".to_owned(), ready);
    eventually("the budget is whole", SOON, || if allowed() == "1 2 1" { Ok(()) } else { Err(allowed()) });
}

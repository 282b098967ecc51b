//! Jobs, StatefulSets, DaemonSets and disruption budgets with real kubectl.

use crate::harness::{
    cluster::Cluster,
    tools::{BUSYBOX, docker},
    wait::{SOON, eventually, until_equal},
};
use std::time::Duration;

/// Until the next minute has begun, and its job has run.
const A_MINUTE: Duration = Duration::from_secs(100);

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
    cluster.kubectl(&["wait", "--for=condition=complete", "job/parts", "--timeout=60s"]);
    cluster.kubectl(&["wait", "--for=condition=failed", "job/doomed", "--timeout=60s"]);
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
    cluster.kubectl(&["wait", "--for=condition=complete", "job/now", "--timeout=60s"]);
    cluster.kubectl(&["delete", "job", "parts", "doomed", "now"]);
    until_equal("their pods go", SOON, String::new(), || cluster.jsonpath(&["pods"], "{.items[*].metadata.name}"));
}

/// Three members that count their visits, each in its own claim.
fn counting_set(version: &str, partition: u8) -> String {
    format!(
        "apiVersion: v1\nkind: Service\nmetadata: {{name: db}}\n\
         spec: {{clusterIP: None, selector: {{app: db}}, ports: [{{port: 8080}}]}}\n\
         ---\napiVersion: apps/v1\nkind: StatefulSet\nmetadata: {{name: db}}\nspec:\n  serviceName: db\n  replicas: 3\n  \
         selector: {{matchLabels: {{app: db}}}}\n  updateStrategy: {{rollingUpdate: {{partition: {partition}}}}}\n  \
         template:\n    metadata: {{labels: {{app: db}}}}\n    spec:\n      terminationGracePeriodSeconds: 1\n      containers:\n      \
         - name: c\n        image: kubernetes-spring:{version}\n        args: [--counter, /data/visits]\n        \
         readinessProbe: {{httpGet: {{path: /readyz, port: 8080}}, periodSeconds: 1}}\n        \
         volumeMounts: [{{name: data, mountPath: /data}}]\n  volumeClaimTemplates:\n  - metadata: {{name: data}}\n    \
         spec: {{accessModes: [ReadWriteOnce], resources: {{requests: {{storage: 1Mi}}}}}}\n"
    )
}

#[test]
fn a_stateful_set_keeps_its_names_and_data_through_kills_scaling_and_a_canary() {
    let cluster = Cluster::start("stateful");
    let image = format!("--image={}", *BUSYBOX);
    cluster.kubectl(&["create", "cronjob", "minute", "--schedule=* * * * *", &image, "--", "sh", "-c", "exit 0"]);
    cluster.apply(&counting_set("1.0", 0));
    cluster.kubectl(&["rollout", "status", "sts/db", "--timeout=60s"]);
    let uids =
        || cluster.jsonpath(&["pods", "-l", "app=db"], "{range .items[*]}{.metadata.name}={.metadata.uid} {end}");
    let before = uids();
    let names: Vec<&str> = before.split_whitespace().map(|w| w.split('=').next().unwrap()).collect();
    assert_eq!(names, ["db-0", "db-1", "db-2"]);
    let page = |pod: &str, path: &str| {
        cluster.kubectl(&["get", "--raw", &format!("/api/v1/namespaces/default/pods/{pod}:8080/proxy/{path}")])
    };
    let visit = |pod: &str, n: u8| assert_eq!(page(pod, "counter"), format!("visit {n} of {pod}\n"));
    visit("db-1", 1);
    visit("db-1", 2);
    visit("db-2", 1);
    let killed = cluster.containers("io.kubernetes.pod.name=db-1");
    let name = "{{index .Config.Labels \"io.kubernetes.container.name\"}}";
    let app = killed.iter().find(|id| docker(&["inspect", "-f", name, id]).trim() == "c").unwrap();
    docker(&["kill", app]);
    let restarts = "{.status.containerStatuses[0].restartCount} {.status.containerStatuses[0].ready}";
    until_equal("it is back", SOON, "1 true".to_owned(), || cluster.jsonpath(&["pod", "db-1"], restarts));
    assert_eq!(uids(), before, "a killed container is no new pod");
    visit("db-1", 3);
    cluster.kubectl(&["scale", "sts/db", "--replicas=2"]);
    cluster.kubectl(&["wait", "--for=delete", "pod/db-2", "--timeout=60s"]);
    cluster.kubectl(&["scale", "sts/db", "--replicas=3"]);
    cluster.kubectl(&["rollout", "status", "sts/db", "--timeout=60s"]);
    visit("db-2", 2);
    cluster.apply(&counting_set("1.1", 2));
    cluster.kubectl(&["rollout", "status", "sts/db", "--timeout=60s"]);
    for (pod, version) in [("db-0", " 1.0 "), ("db-1", " 1.0 "), ("db-2", " 1.1 ")] {
        let told = page(pod, "");
        assert!(told.contains(version) && told.contains(pod), "{told}");
    }
    visit("db-2", 3);
    let history = cluster.kubectl(&["rollout", "history", "sts/db"]);
    assert!(history.contains("\n1 ") && history.contains("\n2 "), "{history}");
    cluster.kubectl(&["rollout", "undo", "sts/db"]);
    let images = || cluster.jsonpath(&["pods", "-l", "app=db"], "{.items[*].spec.containers[0].image}");
    until_equal("the canary is taken back", SOON, ["kubernetes-spring:1.0"; 3].join(" "), images);
    eventually("the job of a minute has run", A_MINUTE, || {
        let last = cluster.jsonpath(&["cronjob", "minute"], "{.status.lastSuccessfulTime}");
        if last.is_empty() { Err("it never ran to its end") } else { Ok(()) }
    });
    let job = "{.items[0].metadata.ownerReferences[0].kind} {.items[0].status.succeeded}";
    assert_eq!(cluster.jsonpath(&["jobs"], job), "CronJob 1");
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

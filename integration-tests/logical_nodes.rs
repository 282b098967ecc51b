//! One machine shown as three nodes: what depends on nodes, with real kubectl.

use crate::harness::{
    cluster::Cluster,
    tools::BUSYBOX,
    wait::{SOON, until_equal},
};

#[test]
fn daemon_sets_spreading_and_drains_over_three_nodes() {
    let mut cluster = Cluster::start_with("nodes", &["--nodes", "3"]);
    let [one, two, three] = ["", "-2", "-3"].map(|end| format!("{}{end}", cluster.name));
    let pod = |app: &str, more: &str| {
        format!(
            "{{metadata: {{labels: {{app: {app}}}}}, spec: {{terminationGracePeriodSeconds: 1, {more} containers: \
             [{{name: c, image: '{}', command: [sh, -c, 'exec sleep 3600']}}]}}}}",
            *BUSYBOX
        )
    };
    let spread = "topologySpreadConstraints: [{maxSkew: 1, topologyKey: kubernetes.io/hostname, whenUnsatisfiable: ScheduleAnyway, \
                  labelSelector: {matchLabels: {app: web}}}],";
    cluster.apply(&format!(
        "apiVersion: apps/v1\nkind: DaemonSet\nmetadata: {{name: log}}\nspec: {{selector: {{matchLabels: {{app: log}}}}, template: {}}}\n\
         ---\napiVersion: apps/v1\nkind: Deployment\nmetadata: {{name: web}}\nspec: {{replicas: 3, selector: {{matchLabels: {{app: web}}}}, template: {}}}\n",
        pod("log", ""),
        pod("web", spread)
    ));
    let nodes_of = |cluster: &Cluster, app: &str| {
        let all = cluster.jsonpath(&["pods", "-l", &format!("app={app}")], "{.items[*].spec.nodeName}");
        let mut all: Vec<String> = all.split_whitespace().map(str::to_owned).collect();
        all.sort();
        all
    };
    cluster.rolled_out("web");
    cluster.kubectl(&["rollout", "status", "ds/log", "--timeout=60s"]);
    let each = vec![one.clone(), two.clone(), three.clone()];
    assert_eq!(nodes_of(&cluster, "log"), each);
    assert_eq!(nodes_of(&cluster, "web"), each);
    a_gated_pod_waits(&cluster, &two);
    // A wish to be spread keeps no pod from going elsewhere; a demand would, for a cordoned node still counts.
    cluster.kubectl(&["drain", &three, "--ignore-daemonsets", "--timeout=60s"]);
    until_equal("nothing but its daemon is left", SOON, String::new(), || {
        cluster.jsonpath(
            &["pods", "-l", "app=web", &format!("--field-selector=spec.nodeName={three}")],
            "{.items[*].metadata.name}",
        )
    });
    cluster.rolled_out("web");
    assert_eq!(nodes_of(&cluster, "log"), each);
    // At the next start there are two: the third goes, and its pods with it.
    cluster.stop("TERM");
    cluster.up(&["--nodes", "2"]);
    until_equal("its daemon goes too", SOON, vec![one.clone(), two.clone()], || nodes_of(&cluster, "log"));
    assert_eq!(cluster.jsonpath(&["nodes"], "{.items[*].metadata.name}"), format!("{one} {two}"));
    until_equal("its containers are gone", SOON, 3, || {
        let all = cluster.containers("io.kubernetes.docker.type=podsandbox").len();
        all - nodes_of(&cluster, "web").len()
    });
}

/// Until its gate goes; meanwhile the nodes that will do become fewer.
fn a_gated_pod_waits(cluster: &Cluster, node: &str) {
    cluster.apply(&format!(
        "apiVersion: v1\nkind: Pod\nmetadata: {{name: gated}}\nspec: {{schedulingGates: [{{name: example.com/quota}}], \
         containers: [{{name: c, image: '{}', command: [sleep, '3600']}}], terminationGracePeriodSeconds: 0}}\n",
        *BUSYBOX
    ));
    let status = || cluster.kubectl(&["get", "pod", "gated", "--no-headers"]);
    until_equal("it waits for its gate", SOON, true, || status().contains("SchedulingGated"));
    let fewer = format!(r#"{{"spec":{{"nodeSelector":{{"kubernetes.io/hostname":"{node}"}}}}}}"#);
    cluster.kubectl(&["patch", "pod", "gated", "-p", &fewer]);
    let gone = r#"[{"op": "remove", "path": "/spec/schedulingGates"}]"#;
    cluster.kubectl(&["patch", "pod", "gated", "--type=json", "-p", gone]);
    cluster.kubectl(&["wait", "--for=condition=Ready", "pod/gated", "--timeout=60s"]);
    assert_eq!(cluster.jsonpath(&["pod", "gated"], "{.spec.nodeName}"), node);
    cluster.kubectl(&["delete", "pod", "gated"]);
}

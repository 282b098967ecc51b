//! What pods use, and an autoscaler that goes by it, with real kubectl.

use crate::harness::{
    cluster::Cluster,
    tools::BUSYBOX,
    wait::{SOON, eventually, until_equal},
};

#[test]
fn a_busy_deployment_is_seen_by_top_and_scaled_up_and_down() {
    let cluster = Cluster::start("autoscaling");
    cluster.apply(&format!(
        "apiVersion: apps/v1\nkind: Deployment\nmetadata: {{name: busy}}\nspec: {{replicas: 1, selector: {{matchLabels: {{app: busy}}}}, \
         template: {{metadata: {{labels: {{app: busy}}}}, spec: {{terminationGracePeriodSeconds: 0, containers: [{{name: c, image: '{}', \
         command: [sh, -c, 'while :; do :; done'], resources: {{requests: {{cpu: 10m}}, limits: {{cpu: 100m}}}}}}]}}}}}}\n",
        *BUSYBOX
    ));
    cluster.rolled_out("busy");
    // kubectl asks as metrics-server's clients do, and says so when there is nothing yet.
    let of_pod = eventually("top knows the pod", SOON, || {
        let out = cluster.kubectl_command(&["top", "pod", "-l", "app=busy", "--no-headers", "--containers"]).output();
        let said = String::from_utf8_lossy(&out.unwrap().stdout).into_owned();
        if said.contains("busy-") { Ok(said) } else { Err(said) }
    });
    let words: Vec<&str> = of_pod.split_whitespace().collect();
    assert_eq!(words[1], "c", "{of_pod}");
    let millis: u64 = words[2].trim_end_matches('m').parse().unwrap();
    assert!((30..=200).contains(&millis), "a tenth of a processor: {of_pod}");
    assert!(cluster.kubectl(&["top", "node"]).contains(&cluster.name));
    assert!(cluster.kubectl(&["top", "pod", "-A", "--sort-by=cpu"]).contains("skiff-proxy"));
    the_nodes_proxy_tells_of_its_pods(&cluster);

    cluster.kubectl(&["autoscale", "deployment/busy", "--cpu=50%", "--min=1", "--max=3"]);
    let replicas = || cluster.jsonpath(&["deploy", "busy"], "{.spec.replicas}");
    until_equal("it is scaled up", SOON, "3".to_owned(), replicas);
    let told = cluster.kubectl(&["describe", "hpa", "busy"]);
    assert!(told.contains("SuccessfulRescale") && told.contains("New size: 3"), "{told}");
    let row = cluster.kubectl(&["get", "hpa", "busy", "--no-headers"]);
    assert!(row.contains("Deployment/busy") && row.contains("%/50%"), "{row}");
    // What is little for a greater target needs fewer; without a window at once.
    let little = "{\"spec\":{\"metrics\":[{\"type\":\"Resource\",\"resource\":{\"name\":\"cpu\",\"target\":{\"type\":\"Utilization\",\
                  \"averageUtilization\":9000}}}],\"behavior\":{\"scaleDown\":{\"stabilizationWindowSeconds\":0}}}}";
    cluster.kubectl(&["patch", "hpa", "busy", "--type=merge", "-p", little]);
    until_equal("it is scaled down", SOON, "1".to_owned(), replicas);
}

/// What tools read of a kubelet: usage of pods, networks and the disk; what is not here says so.
fn the_nodes_proxy_tells_of_its_pods(cluster: &Cluster) {
    let proxy = |path: &str| format!("/api/v1/nodes/{}/proxy/{path}", cluster.name);
    let read = |path: &str| cluster.kubectl(&["get", "--raw", &proxy(path)]);
    let summary: serde_json::Value = serde_json::from_str(&read("stats/summary")).unwrap();
    let pods = summary["pods"].as_array().unwrap();
    let is_busy =
        |pod: &&serde_json::Value| pod["podRef"]["name"].as_str().is_some_and(|name| name.starts_with("busy-"));
    let busy = pods.iter().find(is_busy).unwrap_or_else(|| panic!("{summary}"));
    let positive = |value: &serde_json::Value| value.as_u64().is_some_and(|n| n > 0);
    assert!(positive(&busy["cpu"]["usageCoreNanoSeconds"]) && positive(&busy["memory"]["workingSetBytes"]), "{busy}");
    assert_eq!(busy["network"]["name"], "eth0", "{busy}");
    assert!(positive(&summary["node"]["fs"]["availableBytes"]), "{summary}");
    let metrics = read("metrics/cadvisor");
    for name in [
        "container_cpu_usage_seconds_total",
        "container_memory_working_set_bytes",
        "container_network_receive_bytes_total",
    ] {
        let is_of_busy = |line: &str| line.starts_with(&format!("{name}{{")) && line.contains("pod=\"busy-");
        assert!(metrics.lines().any(is_of_busy), "{name} of the pod:\n{metrics}");
    }
    for (path, instead) in [("logs/", "skiff logs"), ("configz", "skiff config")] {
        let said = cluster.kubectl_fails(&["get", "--raw", &proxy(path)]);
        assert!(said.contains("(NotFound)") && said.contains(instead), "{path}: {said}");
    }
}

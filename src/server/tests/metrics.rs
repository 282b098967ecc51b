//! What pods and nodes use, as clients read it.

use super::*;
use crate::api::usage::ContainerUsage;

fn usage(namespace: &str, name: &str, cpu_nano_cores: u64) -> PodUsage {
    let container = |name: &str| ContainerUsage {
        name: name.to_owned(),
        cpu_nano_cores,
        working_set_bytes: 4096,
        ..ContainerUsage::default()
    };
    PodUsage {
        key: ObjectKey::new(namespace, name),
        uid: String::new(),
        node: "life".to_owned(),
        at: "2026-01-01T00:00:10.5Z".parse().unwrap(),
        window: Duration::from_secs(15),
        containers: vec![container("a"), container("b")],
    }
}

async fn desk() -> Desk {
    let desk = Desk::with_roles().await;
    let mut usages = Vec::new();
    for (name, app) in [("web", "web"), ("db", "db")] {
        let pod = json!({ "metadata": { "name": name, "labels": { "app": app } },
            "spec": { "containers": [{ "name": "a", "image": "i" }, { "name": "b", "image": "i" }] } });
        let made = desk.ask("POST", "/api/v1/namespaces/default/pods", &[], &pod.to_string()).await;
        assert_eq!(made.code, 201, "{}", made.text);
        let uid = made.json()["metadata"]["uid"].as_str().unwrap().to_owned();
        usages.push(PodUsage { uid, ..usage("default", name, 1_500) });
    }
    let node = json!({ "metadata": { "name": "life", "labels": { "zone": "z" } } });
    assert_eq!(desk.ask("POST", "/api/v1/nodes", &[], &node.to_string()).await.code, 201);
    // A pod that has gone since it was measured.
    usages.push(usage("default", "gone", 1));
    *desk.usages.0.lock().unwrap() = usages;
    desk
}

#[tokio::test(start_paused = true)]
async fn pods_and_nodes_are_told_of_as_by_metrics_server() {
    let desk = desk().await;
    let url = "/apis/metrics.k8s.io/v1beta1";
    let list = desk.ask("GET", &format!("{url}/pods?labelSelector=app%3Dweb"), &[], "").await.json();
    assert_eq!((&list["kind"], &list["apiVersion"]), (&json!("PodMetricsList"), &json!("metrics.k8s.io/v1beta1")));
    assert_eq!(list["items"].as_array().unwrap().len(), 1, "{list}");
    let web = &list["items"][0];
    assert_eq!(
        (&web["metadata"]["labels"], &web["timestamp"], &web["window"]),
        (&json!({ "app": "web" }), &json!("2026-01-01T00:00:10Z"), &json!("15s"))
    );
    assert_eq!(web["containers"][0], json!({ "name": "a", "usage": { "cpu": "1500n", "memory": "4Ki" } }));
    let of_name = format!("{url}/namespaces/default/pods?fieldSelector=metadata.name%3Ddb");
    let db = desk.ask("GET", &of_name, &[], "").await.json();
    assert_eq!(db["items"][0]["metadata"]["name"], "db");
    assert_eq!(db["items"].as_array().unwrap().len(), 1);
    assert_eq!(desk.ask("GET", &format!("{url}/namespaces/other/pods"), &[], "").await.json()["items"], json!([]));
    let gone = desk.ask("GET", &format!("{url}/namespaces/default/pods/gone"), &[], "").await;
    assert_eq!(gone.refusal(), "404 pods.metrics.k8s.io \"gone\" not found");

    // A node without pods uses nothing; one whose pods were not measured is not told of.
    for name in ["bare", "blind"] {
        let node = json!({ "metadata": { "name": name } });
        assert_eq!(desk.ask("POST", "/api/v1/nodes", &[], &node.to_string()).await.code, 201);
    }
    let pod = json!({ "metadata": { "name": "blind" },
        "spec": { "nodeName": "blind", "containers": [{ "name": "a", "image": "i" }] } });
    let made = desk.ask("POST", "/api/v1/namespaces/default/pods", &[], &pod.to_string()).await;
    assert_eq!(made.code, 201, "{}", made.text);
    let bare = desk.ask("GET", &format!("{url}/nodes/bare"), &[], "").await.json();
    assert_eq!(bare["usage"], json!({ "cpu": "0", "memory": "0" }));
    assert_eq!(desk.ask("GET", &format!("{url}/nodes/blind"), &[], "").await.code, 404);

    let node = desk.ask("GET", &format!("{url}/nodes/life"), &[], "").await.json();
    assert_eq!(node["kind"], "NodeMetrics");
    assert_eq!(node["usage"], json!({ "cpu": "6002n", "memory": "24Ki" }));
    let table = [("accept", "application/json;as=Table;v=v1;g=meta.k8s.io")];
    let table = desk.ask("GET", &format!("{url}/nodes"), &table, "").await.json();
    assert_eq!(table["columnDefinitions"][1]["name"], "cpu");
    assert_eq!(table["rows"][1]["cells"][0], "life");

    let groups = desk.ask("GET", "/apis", &[], "").await.json();
    assert!(groups["groups"].as_array().unwrap().iter().any(|group| group["name"] == "metrics.k8s.io"));
    let watch = desk.ask("GET", &format!("{url}/pods?watch=true"), &[], "").await;
    assert_eq!(watch.code, 405);
}

#[tokio::test(start_paused = true)]
async fn a_nodes_proxy_answers_what_tools_read() {
    let desk = desk().await;
    let get = async |path: &str| desk.ask("GET", &format!("/api/v1/nodes/life/proxy/{path}"), &[], "").await;
    assert_eq!(get("healthz").await.text, "ok");
    assert_eq!(get("stats/summary").await.json()["pods"][0]["containers"][0]["cpu"]["usageNanoCores"], 1_500);
    let metrics = get("metrics/cadvisor").await;
    assert_eq!(metrics.headers["content-type"], "text/plain; version=0.0.4; charset=utf-8");
    assert!(metrics.text.contains("container_memory_working_set_bytes{container=\"a\""), "{}", metrics.text);
    assert!(get("metrics/resource").await.text.contains("node_cpu_usage_seconds_total"));
    assert!(metrics.text.contains("container_network_receive_bytes_total{"), "{}", metrics.text);
    let pod = json!({ "metadata": { "name": "here" },
        "spec": { "nodeName": "life", "containers": [{ "name": "a", "image": "i" }] } });
    assert_eq!(desk.ask("POST", "/api/v1/namespaces/default/pods", &[], &pod.to_string()).await.code, 201);
    let pods = get("pods").await.json();
    assert_eq!((&pods["kind"], pods["items"].as_array().unwrap().len()), (&json!("PodList"), 1));
    assert_eq!(pods["items"][0]["metadata"]["name"], "here");
    for path in ["configz", "logs/", "containerLogs/n/p/c"] {
        let answer = get(path).await;
        assert!(answer.code == 404 && answer.text.contains("404 page not found"), "{path}: {}", answer.text);
    }
    let other = desk.ask("GET", "/api/v1/nodes/none/proxy/healthz", &[], "").await;
    assert_eq!(other.refusal(), "404 nodes \"none\" not found");
    let view = User::new("jane", ["system:authenticated"]);
    let refused = desk.send(Some(view), "GET", "/api/v1/nodes/life/proxy/healthz", &[], "").await;
    assert_eq!(refused.status(), 403);
}

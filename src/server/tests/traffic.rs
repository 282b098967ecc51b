//! Connections as the data plane tells them, and as clients see them.

use super::*;
use futures::FutureExt as _;

const SEEN: &str = "/apis/skiff.dev/v1/endpointtraffic";
const TOLD: &str = "/apis/skiff.dev/v1/trafficreports";

fn report(connections: &[(&str, u64)]) -> String {
    let endpoint = |(service, n): &(&str, u64)| {
        json!({ "namespace": "shop", "service": service, "protocol": "TCP", "address": "10.244.0.2:8080", "pod": "p", "podUID": "u",
            "inRotation": true, "connections": n, "active": 1 })
    };
    let endpoints: Vec<_> = connections.iter().map(endpoint).collect();
    json!({ "apiVersion": "skiff.dev/v1", "kind": "TrafficReport", "endpoints": endpoints }).to_string()
}

#[tokio::test(start_paused = true)]
async fn the_data_plane_is_asked_while_somebody_looks() {
    let desk = Desk::with_roles().await;
    // It tells, and is answered once somebody asks.
    let held = report(&[("web", 1)]);
    let telling = desk.ask("POST", TOLD, &[], &held);
    tokio::pin!(telling);
    assert!((&mut telling).now_or_never().is_none(), "nobody looks");
    let fresh = report(&[("web", 3), ("db", 1)]);
    let data_plane = async {
        assert_eq!(telling.await.code, 201);
        desk.ask("POST", TOLD, &[], &fresh).now_or_never()
    };
    let (list, _) = tokio::join!(desk.ask("GET", SEEN, &[], ""), data_plane);
    let list = list.json();
    assert_eq!((&list["kind"], list["items"].as_array().unwrap().len()), (&json!("EndpointTrafficList"), 2), "{list}");
    let web = list["items"].as_array().unwrap().iter().find(|item| item["service"] == "web").unwrap();
    assert_eq!(web["metadata"]["name"], "web.tcp.10.244.0.2-8080");
    assert_eq!((&web["connections"], &web["pod"], &web["inRotation"]), (&json!(3), &json!("p"), &json!(true)));

    // Without a data plane that is said.
    let none = desk.ask("GET", SEEN, &[], "").await;
    assert_eq!(none.json()["items"], json!([]));
    assert!(none.headers["warning"].to_str().unwrap().contains("the data plane does not answer"));
}

#[tokio::test(start_paused = true)]
async fn a_watch_begins_with_all_and_goes_on_with_what_changes() {
    let desk = Desk::with_roles().await;
    let beginning = "watch=true&sendInitialEvents=true&resourceVersionMatch=NotOlderThan&allowWatchBookmarks=true";
    let mut events = desk.watch(&format!("{SEEN}?{beginning}"), &[]).await;
    let mut other = desk.watch("/apis/skiff.dev/v1/namespaces/other/endpointtraffic?watch=true", &[]).await;
    let steps = [
        (vec![("web", 1), ("db", 1)], vec!["ADDED db 1", "ADDED web 1", "BOOKMARK null null"]),
        (vec![("web", 1), ("db", 2)], vec!["MODIFIED db 2"]),
        (vec![("web", 4)], vec!["DELETED db 2", "MODIFIED web 4"]),
    ];
    for (connections, wanted) in steps {
        assert_eq!(desk.ask("POST", TOLD, &[], &report(&connections)).await.code, 201);
        for wanted in wanted {
            let event = events.next().await.unwrap();
            let (object, kind) = (&event["object"], &event["type"]);
            assert_eq!(format!("{kind} {} {}", object["service"], object["connections"]).replace('"', ""), wanted);
        }
    }
    assert!(other.next().now_or_never().is_none(), "nothing of another namespace");
}

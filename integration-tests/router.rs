//! HTTP by name on the real thing: an Ingress and Routes, TLS with the cluster's authority, a WebSocket, gRPC, a browser, and a rolling update
//! behind a Route.
#![allow(clippy::similar_names, reason = "http and https are what they are")]

use crate::harness::{
    browser::Browser,
    cluster::{Cluster, http_get_of, root},
    load::Load,
    tools::{PYTHON_CLIENT, run, text},
    wait::{SOON, eventually, until_equal},
};
use base64::{Engine as _, prelude::BASE64_STANDARD};
use futures::{SinkExt as _, StreamExt as _};
use std::{net::TcpListener, path::PathBuf, process::Command, sync::LazyLock};
use tokio_tungstenite::{accept_async, client_async, tungstenite::Message};

const ROUTES: &str = r#"
apiVersion: route.openshift.io/v1
kind: Route
metadata: {name: web}
spec: {to: {name: spring-service}}
---
apiVersion: route.openshift.io/v1
kind: Route
metadata: {name: secure}
spec:
  host: secure.localhost
  to: {name: spring-service}
  tls: {termination: edge, insecureEdgeTerminationPolicy: Redirect}
---
apiVersion: route.openshift.io/v1
kind: Route
metadata: {name: secure-late}
spec: {host: secure.localhost, to: {name: spring-service}}
---
apiVersion: route.openshift.io/v1
kind: Route
metadata: {name: echo}
spec: {host: echo.localhost, to: {name: echo}}
"#;

/// What a Route says of itself.
fn admitted(cluster: &Cluster, route: &str) -> String {
    let path = "{.status.ingress[0].conditions[0].status} {.status.ingress[0].conditions[0].reason}";
    cluster.jsonpath(&["route", route], path).trim().to_owned()
}

/// The ports of plain HTTP and of TLS, as the Ingress tells them.
fn ports(cluster: &Cluster) -> (u16, u16) {
    let port = |n: usize| {
        let path = format!("{{.status.loadBalancer.ingress[0].ports[{n}].port}}");
        eventually("the Ingress has an address", SOON, || cluster.jsonpath(&["ingress", "web"], &path).parse::<u16>())
    };
    (port(0), port(1))
}

/// The file with the certificate of the cluster's authority.
fn authority(cluster: &Cluster) -> PathBuf {
    let path = "{.clusters[0].cluster.certificate-authority-data}";
    let data = cluster.kubectl(&["config", "view", "--raw", "-o", &format!("jsonpath={path}")]);
    let file = cluster.data_dir().join("../router-ca.crt");
    std::fs::write(&file, BASE64_STANDARD.decode(data.trim()).unwrap()).unwrap();
    file
}

/// What curl is answered: the status, and the body.
fn curl(args: &[&str]) -> String {
    run(Command::new("curl").args(["-sS", "--max-time", "10", "-w", "\n%{http_code} %{redirect_url}"]).args(args))
}

#[test]
fn routes_and_ingresses_answer_by_name_and_a_rolling_update_behind_them_loses_nothing() {
    let cluster = Cluster::start_alone("router", &["-f", "manifests"]);
    cluster.kubectl(&["create", "ingress", "web", "--rule=shop.localhost/shop*=spring-service:8080"]);
    cluster.apply(ROUTES);
    let (http, https) = ports(&cluster);
    for route in ["web", "secure", "echo"] {
        until_equal("the Route is admitted", SOON, "True".to_owned(), || admitted(&cluster, route));
    }
    until_equal("the younger is told", SOON, "False HostAlreadyClaimed".to_owned(), || {
        admitted(&cluster, "secure-late")
    });
    let host = "web-default.apps.localhost";
    eventually("the Route answers", SOON, || http_get_of(http, host));
    http_get_of(http, "shop.localhost").unwrap_err();
    let answer = curl(&["-H", "Host: shop.localhost", &format!("http://127.0.0.1:{http}/shop/x")]);
    assert!(answer.ends_with("\n200 "), "{answer}");
    let nobody = curl(&[&format!("http://127.0.0.1:{http}/")]);
    assert!(nobody.contains("no Route and no Ingress") && nobody.ends_with("\n404 "), "{nobody}");
    tls(&cluster, http, https);
    websocket(&cluster, http);
    grpc(&cluster, http, https);
    if let Some(browser) = Browser::start(800, 600) {
        // A browser knows by itself where names under localhost are.
        browser.open(&format!("http://{host}:{http}/"));
        browser.until("document.body.innerText.includes('kubernetes-spring')");
    }
    let printed = cluster.kubectl(&["get", "ingress,route"]);
    eprintln!("{printed}");
    assert!(printed.contains("secure.localhost") && printed.contains("edge/Redirect"), "{printed}");
    rolling_update(&cluster, http, host);
}

fn tls(cluster: &Cluster, http: u16, https: u16) {
    let moved = curl(&["-H", "Host: secure.localhost", &format!("http://127.0.0.1:{http}/x")]);
    let port = if https == 443 { String::new() } else { format!(":{https}") };
    assert!(moved.ends_with(&format!("302 https://secure.localhost{port}/x")), "{moved}");
    let ca = authority(cluster);
    let there = format!("secure.localhost:{https}:127.0.0.1");
    let url = format!("https://secure.localhost:{https}/");
    let answer = eventually("TLS answers with a certificate of the cluster's authority", SOON, || {
        let asked = ["-sS", "--max-time", "5", "--cacert", ca.to_str().unwrap(), "--resolve", &there, &url];
        let out = Command::new("curl").args(asked).args(["-w", "\n%{http_version}"]).output().unwrap();
        if out.status.success() { Ok(text(&out.stdout)) } else { Err(text(&out.stderr)) }
    });
    assert!(answer.ends_with("\n2"), "curl and the router agree on HTTP/2: {answer}");
}

/// A WebSocket to a server of this process, which a Service without selector leads to.
fn websocket(cluster: &Cluster, http: u16) {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let node = cluster.jsonpath(&["node"], "{.items[0].status.addresses[?(@.type=='InternalIP')].address}");
    let listener = runtime.block_on(tokio::net::TcpListener::bind((node.as_str(), 0))).unwrap();
    let port = listener.local_addr().unwrap().port();
    cluster.apply(&format!(
        "apiVersion: v1\nkind: Service\nmetadata: {{name: echo}}\nspec: {{ports: [{{port: 80, targetPort: {port}}}]}}\n---\n\
         apiVersion: discovery.k8s.io/v1\nkind: EndpointSlice\nmetadata: {{name: echo-1, labels: {{kubernetes.io/service-name: echo}}}}\n\
         addressType: IPv4\nports: [{{port: {port}}}]\nendpoints: [{{addresses: [{node}]}}]\n"
    ));
    // On a thread of its own, for as long as the tests run.
    std::thread::spawn(move || {
        runtime.block_on(async {
            loop {
                let (stream, _) = listener.accept().await.unwrap();
                let Ok(mut socket) = accept_async(stream).await else { continue };
                while let Some(Ok(message)) = socket.next().await {
                    if message.is_text() {
                        socket.send(message).await.unwrap();
                    }
                }
            }
        });
    });
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let mut socket = eventually("the endpoint of the WebSocket is known", SOON, || {
        let dialed = async {
            let stream = tokio::net::TcpStream::connect(("127.0.0.1", http)).await.unwrap();
            client_async("ws://echo.localhost/", stream).await
        };
        runtime.block_on(dialed).map(|(socket, _)| socket)
    });
    let heard = runtime.block_on(async {
        socket.send(Message::text("hello")).await.unwrap();
        tokio::time::timeout(SOON, socket.next()).await.expect("it answers").unwrap().unwrap()
    });
    assert_eq!(heard, Message::text("hello"));
}

/// gRPC, one call and a stream, to a server of this machine that a Service without selector leads to.
fn grpc(cluster: &Cluster, http: u16, https: u16) {
    LazyLock::force(&PYTHON_CLIENT);
    let node = cluster.jsonpath(&["node"], "{.items[0].status.addresses[?(@.type=='InternalIP')].address}");
    let port = TcpListener::bind((node.as_str(), 0)).unwrap().local_addr().unwrap().port();
    cluster.apply(&format!(
        "apiVersion: v1\nkind: Service\nmetadata: {{name: greeter}}\nspec: {{ports: [{{port: 80, targetPort: {port}, \
         appProtocol: kubernetes.io/h2c}}]}}\n---\n\
         apiVersion: discovery.k8s.io/v1\nkind: EndpointSlice\nmetadata: {{name: greeter-1, labels: {{kubernetes.io/service-name: \
         greeter}}}}\naddressType: IPv4\nports: [{{port: {port}}}]\nendpoints: [{{addresses: [{node}]}}]\n---\n\
         apiVersion: route.openshift.io/v1\nkind: Route\nmetadata: {{name: greeter}}\nspec: {{host: greeter.localhost, to: {{name: \
         greeter}}, tls: {{termination: edge, insecureEdgeTerminationPolicy: Allow}}}}\n"
    ));
    let script = root().join("integration-tests/clients/grpc_client.py");
    let ports = [port, http, https].map(|port| port.to_string());
    let mut python = Command::new("python3");
    python.env("PYTHONPATH", &*PYTHON_CLIENT).arg(script).arg(node).args(ports).arg(authority(cluster));
    assert_eq!(
        run(&mut python),
        "plain: hello world, 3 parts, NOT_FOUND nobody\nTLS: hello world, 3 parts, NOT_FOUND nobody\n"
    );
}

fn rolling_update(cluster: &Cluster, http: u16, host: &str) {
    let load = Load::on_host(http, host, 4);
    load.go_on(100);
    cluster.kubectl(&["set", "env", "deployment/spring-deployment", "ROUND=2"]);
    cluster.rolled_out("spring-deployment");
    load.go_on(100);
    let (answered, failed) = load.end().counted();
    eprintln!("a rolling update behind a Route: {answered} answers");
    assert_eq!(failed, Vec::<String>::new());
}

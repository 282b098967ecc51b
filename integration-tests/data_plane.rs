//! The data plane on the real thing: what a restart costs, who answers at a ClusterIP, and who may reach what.

use crate::harness::{
    cluster::{Cluster, answers, http_get, root},
    load::Load,
    ports::free_port,
    tools::{docker, output, text},
    wait::{SOON, eventually, until_equal},
};
use base64::{Engine as _, prelude::BASE64_STANDARD};
use std::{
    net::{SocketAddr, TcpListener, TcpStream},
    process::Command,
    time::Duration,
};

const NODE_PORT: u16 = 30000;
/// Clients at the same time.
const CLIENTS: usize = 4;

/// A cluster with the demo in it, answering.
fn demo(name: &str) -> Cluster {
    let cluster = Cluster::start_alone(name, &["-f", "manifests"]);
    answers(NODE_PORT);
    until_equal("both data planes run", SOON, 2, || proxies(&cluster).len());
    cluster
}

/// The containers of the data plane that run.
fn proxies(cluster: &Cluster) -> Vec<String> {
    let of = |name| cluster.containers(&format!("io.kubernetes.container.name={name}"));
    ["proxy", "proxy-standby"].into_iter().flat_map(of).collect()
}

/// The sandbox of the data plane's pod.
fn sandbox(cluster: &Cluster) -> String {
    let all = cluster.containers("io.kubernetes.docker.type=podsandbox");
    let of_pod = cluster.containers("io.kubernetes.pod.name=skiff-proxy");
    all.into_iter().find(|id| of_pod.contains(id)).unwrap()
}

#[test]
fn a_restart_of_the_data_plane_refuses_nobody() {
    let cluster = demo("proxy-restart");
    let load = Load::on(NODE_PORT, CLIENTS);
    load.go_on(100);
    for _ in 0..2 {
        for id in proxies(&cluster) {
            // The second finds the first half done.
            docker(&["restart", &id]);
            docker(&["restart", &id]);
            load.go_on(100);
            until_equal("two data planes run", SOON, 2, || proxies(&cluster).len());
        }
    }
    let seen = load.end();
    let (gap, failed) = (seen.gap(), seen.failed);
    eprintln!("restarts: {gap:?} without an answer at most");
    assert_eq!(failed, Vec::<String>::new());
    assert!(gap < Duration::from_secs(1), "{gap:?} without an answer");
}

#[test]
fn a_taint_evicts_pods_and_neither_it_nor_a_cordon_the_data_plane() {
    let cluster = demo("taints");
    let uid = || cluster.jsonpath(&["pod", "skiff-proxy", "-n", "kube-system"], "{.metadata.uid}");
    let (before, node) = (uid(), cluster.name.clone());
    cluster.kubectl(&["cordon", &node]);
    cluster.kubectl(&["taint", "node", &node, "away=now:NoExecute"]);
    until_equal("no pod of the demo is left", SOON, 0, || {
        cluster.containers("io.kubernetes.container.name=spring-container").len()
    });
    let events = cluster.kubectl(&["get", "events", "--field-selector", "reason=TaintManagerEviction"]);
    assert!(events.contains("Marking for deletion Pod default/spring-deployment-"), "{events}");
    assert_eq!((uid(), proxies(&cluster).len()), (before, 2));
    cluster.kubectl(&["delete", "pod", "skiff-proxy", "-n", "kube-system"]);
    until_equal("the data plane is back, on a node that takes no pods", SOON, 2, || proxies(&cluster).len());
    cluster.kubectl(&["taint", "node", &node, "away-"]);
    cluster.kubectl(&["uncordon", &node]);
    answers(NODE_PORT);
    let before = uid();
    cluster.kubectl(&["drain", &node, "--timeout=60s"]);
    assert_eq!((uid(), proxies(&cluster).len()), (before, 2), "a drain needs no flags, and leaves it");
    cluster.kubectl(&["uncordon", &node]);
    answers(NODE_PORT);
}

#[test]
fn a_killed_data_plane_refuses_nobody_and_its_successor_serves_at_once() {
    let cluster = demo("proxy-kill");
    let load = Load::on(NODE_PORT, CLIENTS);
    load.go_on(100);
    for _ in 0..2 {
        for id in proxies(&cluster) {
            docker(&["kill", &id]);
            load.go_on(100);
            until_equal("both data planes run", SOON, 2, || proxies(&cluster).len());
        }
    }
    let seen = load.end();
    let (gap, failed) = (seen.gap(), seen.failed);
    eprintln!("kills: {gap:?} without an answer at most, broken: {failed:?}");
    assert!(failed.len() <= 4 * CLIENTS, "only what was inside a killed data plane may break: {failed:?}");
    assert!(!failed.iter().any(|err| err.starts_with("connect")), "{failed:?}");
    assert!(gap < Duration::from_millis(500), "{gap:?} without an answer");
}

#[test]
fn clients_wait_while_no_data_plane_is_left() {
    let cluster = demo("proxy-gone");
    let all = proxies(&cluster);
    let mut kill = vec!["kill"];
    kill.extend(all.iter().map(String::as_str));
    docker(&kill);
    // Nobody accepts now; the connection stands and is served by the next one.
    http_get(NODE_PORT).unwrap();
}

fn cluster_ip(cluster: &Cluster, service: &str) -> String {
    cluster.jsonpath(&["service", service], "{.spec.clusterIP}")
}

fn service(name: &str, port: u16, app: &str) -> String {
    format!(
        "apiVersion: v1\nkind: Service\nmetadata: {{name: {name}}}\n\
         spec: {{selector: {{app: {app}}}, ports: [{{port: {port}, targetPort: 8080}}]}}\n"
    )
}

/// Whether somebody lets clients in there.
fn connects(address: &str) -> bool {
    let address: SocketAddr = address.parse().unwrap();
    TcpStream::connect_timeout(&address, Duration::from_secs(5)).is_ok()
}

/// Whether clients are turned away there, and at once: nobody waits for a time-out.
fn refuses(address: &str) -> bool {
    let address: SocketAddr = address.parse().unwrap();
    let refused = TcpStream::connect_timeout(&address, Duration::from_secs(1));
    refused.is_err_and(|err| err.kind() == std::io::ErrorKind::ConnectionRefused)
}

/// A program of the machine that listens on every address, lets everybody in and says nothing.
fn everywhere(port: u16) -> TcpListener {
    TcpListener::bind(("0.0.0.0", port)).unwrap()
}

#[test]
fn a_cluster_ip_belongs_to_skiff_alone() {
    let cluster = demo("cluster-ip");
    let pod = cluster.containers("io.kubernetes.container.name=spring-container").remove(0);
    let [before, without, other] = [free_port(), free_port(), free_port()];
    let _programs = [everywhere(before), everywhere(without), everywhere(other)];
    cluster.apply(&service("busy", before, "backend-app"));
    cluster.apply(&service("empty", without, "nobody"));
    let address = |service: &str, port: u16| format!("{}:{port}", cluster_ip(&cluster, service));
    let busy = address("busy", before);
    let std::net::IpAddr::V4(first) = address("kubernetes", other).parse::<SocketAddr>().unwrap().ip() else {
        unreachable!("ClusterIPs are IPv4")
    };
    let nobodys = format!("{}:{other}", std::net::Ipv4Addr::from_bits(first.to_bits() + 0x1234));
    let closed = [
        ("a Service without endpoints", address("empty", without)),
        ("a port that its Service does not have", address("busy", other)),
        ("an address of no Service", nobodys),
        ("the name server's address", format!("{}:{other}", names(&cluster))),
    ];
    let check = |when: &str| {
        until_equal("the Service answers, whoever listens on its port", SOON, true, || reaches("", &busy));
        until_equal("pods reach it too", SOON, true, || reaches(&pod, &busy));
        for (what, address) in &closed {
            assert!(refuses(address), "{when}, {what} refuses the machine: {address}");
            assert!(!reaches(&pod, address) && is_refused(&pod, address), "{when}, {what} refuses a pod: {address}");
        }
    };
    check("at first");
    assert_eq!(cluster.kubectl(&["get", "events", "--field-selector", "reason=FailedToListen", "-o", "name"]), "");
    for id in proxies(&cluster) {
        docker(&["restart", &id]);
    }
    until_equal("both data planes run", SOON, 2, || proxies(&cluster).len());
    check("with another data plane");
    // The network that answers is gone, and another takes its place under the same address.
    docker(&["kill", &sandbox(&cluster)]);
    check("with another sandbox");
    cluster.kubectl(&["delete", "service", "busy"]);
    until_equal("the address is nobody's again", SOON, true, || refuses(&busy));
}

/// Whether a connection to there is answered to, seen from inside a container's network or the machine's own.
fn reaches(container: &str, address: &str) -> bool {
    let (ip, port) = address.rsplit_once(':').unwrap();
    let ask = format!(
        "import socket\ns = socket.create_connection(('{ip}', {port}), 4)\ns.settimeout(4)\n\
         s.sendall(b'GET / HTTP/1.0\\r\\n\\r\\n')\nassert s.recv(1)"
    );
    from_inside(container, &ask)
}

/// Whether a connection to there is refused at once, seen from inside a container's network.
fn is_refused(container: &str, address: &str) -> bool {
    let (ip, port) = address.rsplit_once(':').unwrap();
    let ask = format!("import socket, sys\nsys.exit(socket.socket().connect_ex(('{ip}', {port})) != 111)");
    from_inside(container, &ask)
}

/// The name server's address.
fn names(cluster: &Cluster) -> String {
    format!("{}10", cluster_ip(cluster, "kubernetes").strip_suffix('1').unwrap())
}

/// Whether the cluster's name server answers, seen from inside a container's network.
fn resolves_from(container: &str, server: &str) -> bool {
    let ask = format!(
        "import socket\ns = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)\ns.settimeout(2)\n\
         q = bytes.fromhex('000101000001000000000000') + b'\\x0akubernetes\\x07default\\x03svc\\x07cluster\\x05local\\x00\\x00\\x01\\x00\\x01'\n\
         s.sendto(q, ('{server}', 53))\nassert s.recv(512)"
    );
    from_inside(container, &ask)
}

/// Whether a script ends well inside a container's network, or, without a container, in the machine's own.
fn from_inside(container: &str, script: &str) -> bool {
    let mut python = Command::new(if container.is_empty() { "python3" } else { "nsenter" });
    if !container.is_empty() {
        let pid = docker(&["inspect", "-f", "{{.State.Pid}}", container]);
        python.args(["-t", pid.trim(), "-n", "python3"]);
    }
    python.args(["-c", script]);
    output(&mut python).status.success()
}

/// A container beside the cluster that goes with the test.
struct Bystander(String);

impl Drop for Bystander {
    fn drop(&mut self) {
        output(Command::new("docker").args(["rm", "-f", &self.0]));
    }
}

#[test]
fn a_cluster_is_for_its_pods_and_its_machine() {
    let cluster = demo("reach");
    let other = cluster.start_beside("reach-other");
    other.apply("apiVersion: v1\nkind: Pod\nmetadata: {name: lone}\nspec: {containers: [{name: c, image: 'kubernetes-spring:1.0', imagePullPolicy: IfNotPresent}]}\n");
    other.kubectl(&["wait", "--for=condition=Ready", "pod/lone", "--timeout=60s"]);
    let stranger = docker(&["run", "-d", "kubernetes-spring:1.0"]);
    let stranger = Bystander(stranger.trim().to_owned());

    let node = cluster.jsonpath(&["node"], "{.items[0].status.addresses[?(@.type==\"InternalIP\")].address}");
    let api_port = cluster.jsonpath(&["endpoints", "kubernetes"], "{.subsets[0].ports[0].port}");
    let web = format!("{}:8080", cluster_ip(&cluster, "spring-service"));
    let node_port = format!("{node}:{NODE_PORT}");
    let api = format!("{node}:{api_port}");
    let names = names(&cluster);

    let own = cluster.containers("io.kubernetes.container.name=spring-container").remove(0);
    let theirs = other.containers("io.kubernetes.container.name=c").remove(0);
    for (who, container, is_inside) in
        [("a pod", &own, true), ("another cluster's pod", &theirs, false), ("a container", &stranger.0, false)]
    {
        for (what, address) in [("a ClusterIP", &web), ("a node port", &node_port), ("the API", &api)] {
            assert_eq!(reaches(container, address), is_inside, "{who} to {what}, {address}");
        }
        assert_eq!(resolves_from(container, &names), is_inside, "{who} to the name server");
    }
    // The machine itself.
    for address in [&web, &node_port, &api, &format!("127.0.0.1:{NODE_PORT}")] {
        assert!(connects(address), "the machine to {address}");
    }
}

#[test]
fn nothing_secret_is_told_to_whoever_inspects_skiffs_containers() {
    let cluster = demo("inspect");
    let secret = cluster.jsonpath(&["secret", "-n", "kube-system", "skiff-proxy"], "{.data.kubeconfig}");
    let kubeconfig = text(&BASE64_STANDARD.decode(secret).unwrap());
    let key = kubeconfig.lines().find_map(|line| line.trim().strip_prefix("client-key-data: ")).unwrap();
    let all = cluster.containers("io.kubernetes.pod.name=skiff-proxy");
    assert!(all.len() >= 3, "sandbox, and two data planes");
    for id in all {
        let told = docker(&["inspect", &id]);
        let packed = told.split(['"', '=']).filter_map(|word| BASE64_STANDARD.decode(word).ok());
        let unpacked: String = packed.map(|bytes| text(&bytes)).collect();
        assert!(!told.contains(key) && !unpacked.contains(key) && !unpacked.contains("PRIVATE KEY"), "{id}");
    }
}

/// The demo's Deployment, with a server that listens a second after its start, and that nothing probes.
fn slow_to_listen(version: &str) -> String {
    let manifest = std::fs::read_to_string(root().join("manifests/spring-deployment.yaml")).unwrap();
    manifest
        .replace("image: kubernetes-spring", &format!("image: kubernetes-spring:{version}"))
        .replace("imagePullPolicy", "args: [\"--delay\", \"1\"]\n          imagePullPolicy")
}

#[test]
fn a_service_refuses_until_its_program_listens_and_a_rollout_without_probes_loses_nothing() {
    let cluster = demo("listen");
    cluster.kubectl(&["delete", "deployment", "spring-deployment"]);
    until_equal("no pod is left", SOON, String::new(), || cluster.kubectl(&["get", "pods", "-o", "name"]));
    cluster.apply(&slow_to_listen("1.0"));
    cluster.rolled_out("spring-deployment");
    let mut refused = 0;
    eventually("the port is open", SOON, || match http_get(NODE_PORT) {
        Err(err) if err.starts_with("connect") => {
            refused += 1;
            Err(err)
        }
        // Who gets in is answered.
        answer => Ok(answer.unwrap()),
    });
    assert!(refused > 0, "the pods were ready before their programs listened");
    let load = Load::on(NODE_PORT, CLIENTS);
    cluster.apply(&slow_to_listen("1.1"));
    cluster.rolled_out("spring-deployment");
    eventually("the new version answers", SOON, || match http_get(NODE_PORT) {
        Ok(text) if text.contains("1.1") => Ok(()),
        other => Err(other),
    });
    let (answered, failed) = load.end().counted();
    assert!(answered > 0 && failed.is_empty(), "{answered} answered, failed: {failed:?}");
}

#[test]
fn a_load_balancer_answers_at_its_address_and_says_so() {
    let cluster = demo("balancer");
    let port = free_port();
    let balanced = |name: &str| service(name, port, "backend-app").replace("spec: {", "spec: {type: LoadBalancer, ");
    let address = |name: &str| cluster.jsonpath(&["service", name], "{.status.loadBalancer.ingress[*].ip}");
    let told = |reason: &str, wanted: &str| {
        eventually("the user is told", SOON, || {
            let events = cluster.kubectl(&["get", "events", "--field-selector", &format!("reason={reason}")]);
            if events.contains(wanted) { Ok(()) } else { Err(events) }
        });
    };
    cluster.apply(&balanced("first"));
    until_equal("it has its address", SOON, "127.0.0.1".to_owned(), || address("first"));
    http_get(port).unwrap();
    cluster.apply(&balanced("second"));
    told("NotServed", "default/first has it already");
    let shown = cluster.kubectl(&["get", "service", "second", "--no-headers"]);
    assert!(shown.contains("<pending>"), "{shown}");
    cluster.kubectl(&["delete", "service", "first"]);
    until_equal("the other takes it over", SOON, "127.0.0.1".to_owned(), || address("second"));
    http_get(port).unwrap();
    cluster.kubectl(&["patch", "service", "second", "-p", r#"{"spec": {"type": "ClusterIP"}}"#]);
    until_equal("it is none any more", SOON, String::new(), || address("second"));
    until_equal("the port is free", SOON, true, || TcpListener::bind(("127.0.0.1", port)).is_ok());

    // An address that the Service names, and one of those that nobody gave.
    let node = cluster.jsonpath(&["node", &cluster.name], "{.status.addresses[?(@.type==\"InternalIP\")].address}");
    let named =
        balanced("named").replace("spec: {", &format!("spec: {{loadBalancerIP: {node}, externalIPs: [203.0.113.7], "));
    let out = cluster.kubectl_stdin(&["apply", "-f", "-"], &named);
    assert_eq!(text(&out.stderr), "", "nothing is without effect");
    until_equal("it has the address that it names", SOON, node.clone(), || address("named"));
    until_equal("the Service answers there", SOON, true, || connects(&format!("{node}:{port}")));
    told("FailedToListen", &format!("203.0.113.7:{port}/TCP: this machine does not have the address"));
}

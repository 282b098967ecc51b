//! The name server over real sockets on loopback: its own names, others' names, and others that do not answer.

use super::*;
use crate::net::zone::ZoneSettings;
use k8s_openapi::api::core::v1::Service;
use serde_json::{Value, json};
use std::net::Ipv4Addr;

fn service(name: &str, spec: Value) -> Service {
    serde_json::from_value(json!({"metadata": {"namespace": "shop", "name": name}, "spec": spec})).unwrap()
}

fn zone() -> Arc<Zone> {
    let mut services = vec![
        service("web", json!({"clusterIP": "10.245.0.5", "ports": [{"name": "http", "port": 80}]})),
        service("ext", json!({"type": "ExternalName", "externalName": "example.org"})),
        service("alias", json!({"type": "ExternalName", "externalName": "web.shop.svc.cluster.local"})),
        service("lost", json!({"type": "ExternalName", "externalName": "no.shop.svc.cluster.local"})),
    ];
    let ips: Vec<String> = (0..100).map(|n| format!("10.245.1.{n}")).collect();
    services.push(service("wide", json!({"clusterIPs": ips})));
    let settings = ZoneSettings {
        domain: "cluster.local".into(),
        name_server: None,
        own_ranges: vec!["10.245.0.0/16".parse().unwrap()],
    };
    Arc::new(Zone::new(&services, &[], settings))
}

fn question(name: &str, kind: RecordType) -> Message {
    let mut message = Message::query();
    message.metadata.recursion_desired = true;
    message.add_query(Query::query(fqdn(name).unwrap(), kind));
    message
}

fn verdict_of(name: &str, kind: RecordType) -> Verdict {
    judge(&question(name, kind), &zone(), 0)
}

fn reply_of(name: &str, kind: RecordType) -> Message {
    match verdict_of(name, kind) {
        Verdict::Reply(reply) => reply,
        other => panic!("{other:?}"),
    }
}

fn answers(reply: &Message) -> Vec<String> {
    reply.answers.iter().map(|r| format!("{} {} {}", r.name, r.record_type(), r.data)).collect()
}

/// A port that is free for both transports: what is free for datagrams may be somebody's for streams.
async fn same_port() -> (UdpSocket, TcpListener) {
    for _ in 0..PORT_TRIES {
        let udp = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
        if let Ok(tcp) = TcpListener::bind(udp.local_addr().unwrap()).await {
            return (udp, tcp);
        }
    }
    panic!("no port is free for both transports");
}

/// A name server of somebody else's: knows one name, and may be told to keep silent.
async fn other_server(silent: bool) -> SocketAddr {
    let (udp, tcp) = same_port().await;
    let address = udp.local_addr().unwrap();
    let reply = |bytes: &[u8]| {
        let question = Message::from_vec(bytes).unwrap();
        let mut reply = reply_to(&question);
        let owner = question.queries[0].name.clone();
        reply.add_answer(Record::from_rdata(owner, 60, RData::A(A::new(192, 0, 2, 1))));
        reply.to_vec().unwrap()
    };
    task::spawn("other-udp", async move {
        let mut buffer = [0; 512];
        while let Ok((n, client)) = udp.recv_from(&mut buffer).await {
            if !silent {
                udp.send_to(&reply(&buffer[..n]), client).await.unwrap();
            }
        }
    });
    task::spawn("other-tcp", async move {
        while let Ok((mut stream, _)) = tcp.accept().await {
            if let Ok(bytes) = read_framed(&mut stream).await {
                write_framed(&mut stream, &reply(&bytes)).await.unwrap();
            }
        }
    });
    address
}

/// How often a port is looked for that is free for both transports.
const PORT_TRIES: usize = 32;

struct Running {
    address: SocketAddr,
    bounds: Arc<DnsBounds>,
    _zone: watch::Sender<Arc<Zone>>,
    _dir: tempfile::TempDir,
}

#[allow(clippy::unused_async, reason = "it must run inside a runtime")]
async fn start(upstream: Option<SocketAddr>) -> Running {
    let dir = tempfile::tempdir().unwrap();
    let resolv_conf = dir.path().join("resolv.conf");
    let line = upstream.map(|server| format!("search example.org\nnameserver {}\n", server.ip())).unwrap_or_default();
    std::fs::write(&resolv_conf, line).unwrap();
    let (sender, zone) = watch::channel(zone());
    let settings = DnsSettings {
        address: "127.0.0.1:0".parse().unwrap(),
        resolv_conf,
        upstream_port: upstream.map_or(53, |server| server.port()),
        sockets: Arc::default(),
        insiders: Arc::default(),
    };
    let server = DnsServer::new(settings, zone);
    // A port that is free for datagrams may be somebody's for streams.
    let sockets = (0..PORT_TRIES).find_map(|_| server.bind().ok()).expect("a port is free");
    let (address, bounds) = (sockets.udp.local_addr().unwrap(), server.bounds());
    task::spawn("dns", server.serve(sockets));
    Running { address, bounds, _zone: sender, _dir: dir }
}

async fn ask_over_udp(server: SocketAddr, question: &Message) -> Message {
    Message::from_vec(&ask_udp(server, &question.to_vec().unwrap()).await.unwrap()).unwrap()
}

async fn ask_over_tcp(server: SocketAddr, question: &Message) -> Message {
    Message::from_vec(&ask_tcp(server, &question.to_vec().unwrap()).await.unwrap()).unwrap()
}

#[test]
fn a_name_of_the_zone_is_answered_with_authority() {
    let reply = reply_of("WEB.shop.svc.cluster.local", RecordType::A);
    assert_eq!(answers(&reply), ["WEB.shop.svc.cluster.local. A 10.245.0.5"]);
    assert!(reply.metadata.authoritative && reply.metadata.recursion_available);
}

#[test]
fn a_denial_says_for_how_long_it_holds() {
    let missing = reply_of("no.shop.svc.cluster.local", RecordType::A);
    assert_eq!(missing.metadata.response_code, ResponseCode::NXDomain);
    assert_eq!((missing.authorities[0].name.to_ascii(), missing.authorities[0].ttl), ("cluster.local.".into(), 5));
    let empty = reply_of("web.shop.svc.cluster.local", RecordType::AAAA);
    assert_eq!(empty.metadata.response_code, ResponseCode::NoError);
    assert!(empty.answers.is_empty() && empty.authorities.len() == 1);
    let reverse = reply_of("9.9.245.10.in-addr.arpa", RecordType::PTR);
    assert_eq!(reverse.authorities[0].name.to_ascii(), "in-addr.arpa.");
}

#[test]
fn an_alias_inside_the_zone_is_followed() {
    let reply = reply_of("alias.shop.svc.cluster.local", RecordType::A);
    let followed =
        ["alias.shop.svc.cluster.local. CNAME web.shop.svc.cluster.local.", "web.shop.svc.cluster.local. A 10.245.0.5"];
    assert_eq!(answers(&reply), followed);
    let lost = reply_of("lost.shop.svc.cluster.local", RecordType::A);
    assert_eq!((lost.answers.len(), lost.metadata.response_code), (1, ResponseCode::NXDomain));
}

#[test]
fn what_is_no_plain_question_is_refused() {
    let mut update = question("web.shop.svc.cluster.local", RecordType::A);
    update.metadata.op_code = OpCode::Update;
    let Verdict::Reply(reply) = judge(&update, &zone(), 0) else { panic!("not a reply") };
    assert_eq!(reply.metadata.response_code, ResponseCode::NotImp);
    let Verdict::Reply(reply) = judge(&Message::query(), &zone(), 0) else { panic!("not a reply") };
    assert_eq!(reply.metadata.response_code, ResponseCode::FormErr);
}

#[test]
fn what_does_not_fit_a_datagram_is_cut_and_says_so() {
    let reply = reply_of("wide.shop.svc.cluster.local", RecordType::A);
    let cut = Message::from_vec(&encode(&reply, 512)).unwrap();
    assert!(cut.metadata.truncation && cut.answers.len() < 100);
    let whole = Message::from_vec(&encode(&reply, u16::MAX)).unwrap();
    assert!(!whole.metadata.truncation && whole.answers.len() == 100);
}

#[test]
fn name_servers_are_read_from_resolv_conf() {
    let text = "# nameserver 1.1.1.1\nsearch a b\nnameserver 127.0.0.53\n nameserver\t::1 # here\nnameserver bad\n";
    let expected: Vec<IpAddr> = vec!["127.0.0.53".parse().unwrap(), "::1".parse().unwrap()];
    assert_eq!(parse_resolv_conf(text), expected);
}

#[tokio::test]
async fn own_names_are_answered_over_both_transports() {
    let running = start(None).await;
    let asked = question("web.shop.svc.cluster.local", RecordType::A);
    for reply in [ask_over_udp(running.address, &asked).await, ask_over_tcp(running.address, &asked).await] {
        assert_eq!(answers(&reply), ["web.shop.svc.cluster.local. A 10.245.0.5"]);
    }
}

#[tokio::test]
async fn other_names_are_asked_for_elsewhere() {
    let running = start(Some(other_server(false).await)).await;
    let asked = question("example.net", RecordType::A);
    for reply in [ask_over_udp(running.address, &asked).await, ask_over_tcp(running.address, &asked).await] {
        assert_eq!(answers(&reply), ["example.net. A 192.0.2.1"]);
    }
}

#[tokio::test]
async fn an_external_name_comes_with_its_address() {
    let running = start(Some(other_server(false).await)).await;
    let reply = ask_over_udp(running.address, &question("ext.shop.svc.cluster.local", RecordType::A)).await;
    assert_eq!(answers(&reply), ["ext.shop.svc.cluster.local. CNAME example.org.", "example.org. A 192.0.2.1"]);
}

#[tokio::test]
async fn without_anyone_to_ask_the_answer_is_a_failure() {
    let running = start(None).await;
    let reply = ask_over_udp(running.address, &question("example.net", RecordType::A)).await;
    assert_eq!(reply.metadata.response_code, ResponseCode::ServFail);
}

#[tokio::test]
async fn a_silent_server_costs_a_bounded_time() {
    let upstream = other_server(true).await;
    let running = start(Some(upstream)).await;
    let asked = question("example.net", RecordType::A);
    let reply = timeout(QUESTION_PATIENCE, ask_over_udp(running.address, &asked)).await.unwrap();
    assert_eq!(reply.metadata.response_code, ResponseCode::ServFail);
}

#[tokio::test]
async fn garbage_is_answered_as_malformed() {
    let running = start(None).await;
    let reply = ask_udp(running.address, &[0xab, 0xcd, 1, 0, 0, 1, 0, 0, 0, 0, 0, 0]).await.unwrap();
    assert_eq!(reply[..2], [0xab, 0xcd]);
    assert_eq!(Message::from_vec(&reply).unwrap().metadata.response_code, ResponseCode::FormErr);
}

#[tokio::test]
async fn silent_clients_over_tcp_do_not_shut_the_others_out() {
    let running = start(None).await;
    let asked = question("kubernetes.default.svc.cluster.local", RecordType::A);
    // More than any one address may have, from one that is not the asker's.
    let mut silent = Vec::new();
    for _ in 0..TCP_CLIENTS_MAX {
        let socket = tokio::net::TcpSocket::new_v4().unwrap();
        socket.bind("127.0.0.2:0".parse().unwrap()).unwrap();
        silent.push(socket.connect(running.address).await.unwrap());
    }
    let reply = timeout(QUESTION_PATIENCE, ask_over_tcp(running.address, &asked)).await.unwrap();
    assert_eq!(reply.metadata.id, asked.metadata.id);
    // Those beyond the share were told at once.
    let last = silent.last_mut().unwrap();
    assert!(!matches!(timeout(QUESTION_PATIENCE, last.read(&mut [0; 1])).await.unwrap(), Ok(1..)));
}

#[tokio::test]
async fn clients_over_tcp_that_are_turned_away_are_counted() {
    let server = start(None).await;
    // The machine itself may have half of all seats.
    let max = TCP_CLIENTS_MAX / 2;
    let mut clients = Vec::new();
    for _ in 0..max + 3 {
        clients.push(TcpStream::connect(server.address).await.unwrap());
    }
    let turned_away = async {
        while server.bounds.clients_turned_away() < 3 {
            sleep(Duration::from_millis(1)).await;
        }
    };
    timeout(Duration::from_secs(20), turned_away).await.unwrap();
    assert_eq!((server.bounds.clients_turned_away(), server.bounds.questions_refused()), (3, 0));
    // Those that came first are served.
    let answer = async {
        let first = &mut clients[0];
        write_framed(first, &question("web.shop.svc.cluster.local.", RecordType::A).to_vec().unwrap()).await.unwrap();
        Message::from_vec(&read_framed(first).await.unwrap()).unwrap()
    };
    assert_eq!(answers(&answer.await).len(), 1);
}

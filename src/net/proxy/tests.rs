//! The proxy over real sockets on loopback: clients on one side, endpoints that answer, refuse, hang or reset on the other.

use super::*;
use crate::{
    base::task,
    net::table::{IpRange, Reach, Role, Rotation, Target},
};
use std::{collections::BTreeMap, net::Ipv4Addr};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{TcpListener, TcpStream, UdpSocket},
    time::timeout,
};

/// Longer than anything here takes, so that a test that hangs fails.
const PATIENCE: Duration = Duration::from_secs(20);

fn port(name: &str, protocol: Protocol) -> Arc<PortRef> {
    Arc::new(PortRef { namespace: "shop".into(), service: name.into(), port: String::new(), protocol })
}

fn key(address: &str, protocol: Protocol) -> ListenKey {
    ListenKey { address: address.parse().unwrap(), protocol }
}

/// One Service with one listener.
struct Scene {
    proxy: Proxy,
    table: ForwardTable,
    key: ListenKey,
}

impl Scene {
    fn new(listen: &str, protocol: Protocol, role: Role, endpoints: &[SocketAddr]) -> Self {
        let (key, port) = (key(listen, protocol), port("web", protocol));
        let mut table = ForwardTable::default();
        let listener = Listener { port, service_uid: "uid".into(), role, reach: Reach::Anyone, sources: Vec::new() };
        table.listeners.insert(key, listener);
        let mut scene = Self {
            proxy: Proxy::start(Clock::system(), &ProxySettings { workers: Some(2), ..Default::default() }).unwrap(),
            table,
            key,
        };
        scene.endpoints(endpoints);
        scene
    }

    fn tcp(endpoints: &[SocketAddr]) -> Self {
        Self::new("127.0.0.1:0", Protocol::Tcp, Role::NodePort, endpoints)
    }

    fn port(&self) -> Arc<PortRef> {
        port("web", self.key.protocol)
    }

    fn endpoints(&mut self, endpoints: &[SocketAddr]) -> Applied {
        let targets = endpoints.iter().map(|address| Target { address: *address, pod: None }).collect();
        let rotation = Rotation { targets, sticky_for: self.sticky() };
        self.table.rotations.insert(self.port(), rotation);
        self.proxy.apply(&self.table)
    }

    fn sticky(&self) -> Option<Duration> {
        self.table.rotations.get(&self.port()).and_then(|rotation| rotation.sticky_for)
    }

    fn change(&mut self, change: impl FnOnce(&mut Listener)) -> Applied {
        change(self.table.listeners.get_mut(&self.key).unwrap());
        self.proxy.apply(&self.table)
    }

    fn address(&self) -> SocketAddr {
        self.proxy.bound(self.key).unwrap()
    }

    async fn connect(&self) -> TcpStream {
        TcpStream::connect(self.address()).await.unwrap()
    }

    /// Says something and returns the whole reply.
    async fn exchange(&self, words: &str) -> String {
        let mut client = self.connect().await;
        client.write_all(words.as_bytes()).await.unwrap();
        client.shutdown().await.unwrap();
        let mut reply = String::new();
        timeout(PATIENCE, client.read_to_string(&mut reply)).await.unwrap().unwrap();
        reply
    }
}

/// An endpoint that answers each client with its name and what the client said, once the client has ended.
async fn endpoint(name: &'static str) -> SocketAddr {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
    let address = listener.local_addr().unwrap();
    task::spawn("endpoint", async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            task::spawn("endpoint-client", async move {
                let mut words = String::new();
                if stream.read_to_string(&mut words).await.is_ok() {
                    stream.write_all(format!("{name}:{words}").as_bytes()).await.ok();
                }
            });
        }
    });
    address
}

/// An endpoint whose clients the test serves itself.
async fn manual_endpoint() -> (TcpListener, SocketAddr) {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
    let address = listener.local_addr().unwrap();
    (listener, address)
}

/// An address where nobody listens.
async fn nobody() -> SocketAddr {
    manual_endpoint().await.1
}

/// An endpoint on which connects hang: its queue is full and nobody accepts.
struct Hanging {
    address: SocketAddr,
    _listener: socket2::Socket,
    _queued: Vec<TcpStream>,
}

impl Hanging {
    async fn new() -> Self {
        let listener = socket2::Socket::new(socket2::Domain::IPV4, socket2::Type::STREAM, None).unwrap();
        listener.bind(&SocketAddr::from((Ipv4Addr::LOCALHOST, 0)).into()).unwrap();
        listener.listen(0).unwrap();
        let address = listener.local_addr().unwrap().as_socket().unwrap();
        let mut queued = Vec::new();
        while let Ok(Ok(stream)) = timeout(Duration::from_millis(200), TcpStream::connect(address)).await {
            queued.push(stream);
        }
        Self { address, _listener: listener, _queued: queued }
    }
}

/// Waits until something is so.
async fn until(mut is_so: impl FnMut() -> bool) {
    timeout(PATIENCE, async {
        while !is_so() {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    })
    .await
    .unwrap();
}

async fn assert_reset(mut client: TcpStream) {
    let end = timeout(PATIENCE, client.read(&mut [0; 8])).await.unwrap();
    assert_eq!(end.unwrap_err().kind(), io::ErrorKind::ConnectionReset);
}

/// A client is reset, perhaps before it knows that it is connected.
async fn assert_resets_clients(scene: &Scene) {
    match TcpStream::connect(scene.address()).await {
        Ok(client) => assert_reset(client).await,
        Err(err) => assert_eq!(err.kind(), io::ErrorKind::ConnectionReset),
    }
}

#[tokio::test]
async fn six_connections_over_three_endpoints_are_two_each() {
    let scene = Scene::tcp(&[endpoint("a").await, endpoint("b").await, endpoint("c").await]);
    let mut served = BTreeMap::new();
    for _ in 0..6 {
        *served.entry(scene.exchange("").await).or_insert(0) += 1;
    }
    assert_eq!(served.into_values().collect::<Vec<_>>(), [2, 2, 2]);
}

#[tokio::test]
async fn a_refused_connect_goes_to_the_next_endpoint_unseen() {
    let scene = Scene::tcp(&[nobody().await, nobody().await, endpoint("c").await]);
    for _ in 0..4 {
        assert_eq!(scene.exchange("hello").await, "c:hello");
    }
}

#[tokio::test]
async fn a_client_is_reset_when_every_endpoint_refuses() {
    let scene = Scene::tcp(&[nobody().await, nobody().await]);
    assert_resets_clients(&scene).await;
    until(|| scene.proxy.report().unserved == 1).await;
    assert!(scene.proxy.report().endpoints.iter().all(|e| e.errors == 1));
}

#[tokio::test]
async fn a_port_without_endpoints_refuses_and_stays_taken() {
    for role in [Role::NodePort, Role::ClusterIp, Role::LoadBalancer] {
        // The kernel keeps only a port that was asked for by its number.
        let address = nobody().await;
        let mut scene = Scene::new(&address.to_string(), Protocol::Tcp, role, &[]);
        for _ in 0..2 {
            assert_refuses(address).await;
            assert_taken(address);
            scene.endpoints(&[endpoint("a").await]);
            assert_eq!(scene.address(), address);
            assert_eq!(scene.exchange("x").await, "a:x");
            scene.endpoints(&[]);
        }
    }
}

async fn assert_refuses(address: SocketAddr) {
    assert_eq!(TcpStream::connect(address).await.unwrap_err().kind(), io::ErrorKind::ConnectionRefused);
}

/// A program that would listen on every address does not get the port.
fn assert_taken(address: SocketAddr) {
    let everywhere = SocketAddr::from((Ipv4Addr::UNSPECIFIED, address.port()));
    assert_eq!(std::net::TcpListener::bind(everywhere).unwrap_err().kind(), io::ErrorKind::AddrInUse);
}

#[tokio::test]
async fn a_hanging_connect_is_overtaken_and_then_avoided() {
    let hanging = Hanging::new().await;
    let scene = Scene::tcp(&[hanging.address, endpoint("b").await]);
    for _ in 0..3 {
        assert_eq!(timeout(Duration::from_secs(2), scene.exchange("x")).await.unwrap(), "b:x");
    }
    let report = scene.proxy.report();
    let dials = report.endpoints.iter().find(|e| e.address == hanging.address).unwrap().connections;
    assert_eq!(dials, 1, "after the first it is tried last");
}

#[tokio::test]
async fn a_connect_to_an_endpoint_that_leaves_is_redirected_at_once() {
    let hanging = Hanging::new().await;
    let mut scene = Scene::tcp(&[hanging.address]);
    let good = endpoint("b").await;
    let mut client = scene.connect().await;
    client.write_all(b"x").await.unwrap();
    client.shutdown().await.unwrap();
    until(|| scene.proxy.report().endpoints[0].connections == 1).await;
    scene.endpoints(&[good]);
    let mut reply = String::new();
    timeout(PATIENCE, client.read_to_string(&mut reply)).await.unwrap().unwrap();
    assert_eq!(reply, "b:x");
}

#[tokio::test]
async fn a_server_may_speak_first() {
    let (listener, address) = manual_endpoint().await;
    let scene = Scene::tcp(&[address]);
    let mut client = scene.connect().await;
    let (mut server, _) = listener.accept().await.unwrap();
    server.write_all(b"220 ready").await.unwrap();
    let mut greeting = [0; 9];
    timeout(PATIENCE, client.read_exact(&mut greeting)).await.unwrap().unwrap();
    assert_eq!(&greeting, b"220 ready");
}

#[tokio::test]
async fn an_end_is_passed_on_while_the_other_way_goes_on() {
    let (listener, address) = manual_endpoint().await;
    let scene = Scene::tcp(&[address]);
    let mut client = scene.connect().await;
    let (mut server, _) = listener.accept().await.unwrap();
    server.shutdown().await.unwrap();
    assert_eq!(timeout(PATIENCE, client.read(&mut [0; 1])).await.unwrap().unwrap(), 0);
    for _ in 0..3 {
        client.write_all(b"still here").await.unwrap();
        let mut words = [0; 10];
        timeout(PATIENCE, server.read_exact(&mut words)).await.unwrap().unwrap();
    }
    drop(client);
    assert_eq!(timeout(PATIENCE, server.read(&mut [0; 1])).await.unwrap().unwrap(), 0);
    until(|| scene.proxy.connections() == 0).await;
}

#[tokio::test]
async fn a_reset_endpoint_resets_its_client() {
    let (listener, address) = manual_endpoint().await;
    let scene = Scene::tcp(&[address]);
    let mut client = scene.connect().await;
    client.write_all(b"x").await.unwrap();
    let (mut server, _) = listener.accept().await.unwrap();
    server.read_exact(&mut [0; 1]).await.unwrap();
    socket2::SockRef::from(&server).set_linger(Some(Duration::ZERO)).unwrap();
    drop(server);
    assert_reset(client).await;
}

#[tokio::test]
async fn a_request_whose_endpoint_closes_without_a_word_is_lost_and_none_else() {
    let (listener, address) = manual_endpoint().await;
    let scene = Scene::tcp(&[address]);
    let lost = || scene.proxy.report().endpoints.iter().map(|endpoint| endpoint.broken).sum::<u64>();
    // Whether the client says anything and the endpoint does, and who closes.
    for (asks, replies, client_closes, loses) in [
        (true, false, false, 1),
        (true, true, false, 1),
        (false, false, false, 1),
        (true, false, true, 1),
        (true, false, false, 2),
    ] {
        let mut client = scene.connect().await;
        if asks {
            client.write_all(b"x").await.unwrap();
        }
        let (mut server, _) = listener.accept().await.unwrap();
        if asks {
            server.read_exact(&mut [0; 1]).await.unwrap();
        }
        if replies {
            server.write_all(b"y").await.unwrap();
            client.read_exact(&mut [0; 1]).await.unwrap();
        }
        if client_closes {
            client.shutdown().await.unwrap();
            assert_eq!(timeout(PATIENCE, server.read(&mut [0; 1])).await.unwrap().unwrap(), 0);
        }
        drop(server);
        assert_eq!(timeout(PATIENCE, client.read(&mut [0; 1])).await.unwrap().unwrap(), 0);
        // It hears that it is gone, too.
        client.write_all(b"more").await.ok();
        drop(client);
        until(|| scene.proxy.connections() == 0).await;
        assert_eq!(lost(), loses, "asks {asks}, replies {replies}, client closes {client_closes}");
    }
}

/// Bytes that show when they are lost, doubled or out of order.
fn pattern(length: usize) -> Vec<u8> {
    (0..length).map(|at| (at.wrapping_mul(2_654_435_761) >> 13).to_le_bytes()[0]).collect()
}

#[tokio::test]
async fn long_transfers_arrive_whole_both_ways_at_once() {
    let (listener, address) = manual_endpoint().await;
    let scene = Scene::tcp(&[address]);
    let bytes = pattern(24 * 1024 * 1024);
    let client = scene.connect().await;
    let (server, _) = listener.accept().await.unwrap();
    let talk = |stream: TcpStream, bytes: Vec<u8>| async move {
        let (mut from, mut into) = stream.into_split();
        let writer = async {
            into.write_all(&bytes).await.unwrap();
            into.shutdown().await.unwrap();
        };
        let mut heard = Vec::new();
        let ((), n) = futures::join!(writer, from.read_to_end(&mut heard));
        n.unwrap();
        heard
    };
    let both = async { futures::join!(talk(client, bytes.clone()), talk(server, bytes.clone())) };
    let (at_client, at_server) = timeout(PATIENCE, both).await.unwrap();
    assert!(at_client == bytes && at_server == bytes);
    until(|| scene.proxy.connections() == 0).await;
    let report = &scene.proxy.report().endpoints[0];
    assert_eq!((report.bytes_to_client, report.bytes_to_endpoint), (bytes.len() as u64, bytes.len() as u64));
}

#[tokio::test]
async fn a_reader_that_pauses_holds_back_the_writer_and_loses_nothing() {
    let (listener, address) = manual_endpoint().await;
    let scene = Scene::tcp(&[address]);
    let mut client = scene.connect().await;
    let (mut server, _) = listener.accept().await.unwrap();
    let bytes = pattern(1024 * 1024);
    let mut written = 0;
    while let Ok(Ok(n)) = timeout(Duration::from_millis(200), server.write(&bytes[written % bytes.len()..])).await {
        written += n;
    }
    drop(server);
    let mut heard = Vec::new();
    timeout(PATIENCE, client.read_to_end(&mut heard)).await.unwrap().unwrap();
    assert_eq!(heard.len(), written);
    assert!(heard.iter().enumerate().all(|(at, byte)| *byte == bytes[at % bytes.len()]));
}

#[tokio::test]
async fn connections_outlive_their_endpoints_place_and_their_listener() {
    let (listener, address) = manual_endpoint().await;
    let mut scene = Scene::tcp(&[address]);
    let mut client = scene.connect().await;
    let (mut server, _) = listener.accept().await.unwrap();
    scene.endpoints(&[endpoint("b").await]);
    assert_eq!(scene.exchange("x").await, "b:x");
    scene.proxy.apply(&ForwardTable::default());
    client.write_all(b"ping").await.unwrap();
    let mut words = [0; 4];
    timeout(PATIENCE, server.read_exact(&mut words)).await.unwrap().unwrap();
    let is_in_rotation = || scene.proxy.report().endpoints.iter().map(|e| e.is_in_rotation).collect::<Vec<_>>();
    until(|| is_in_rotation() == [false]).await;
}

#[tokio::test]
async fn a_changed_rotation_does_not_touch_the_listening_socket() {
    let mut scene = Scene::tcp(&[endpoint("a").await]);
    let inode = |scene: &Scene| {
        let state = scene.proxy.state.lock().unwrap();
        rustix::fs::fstat(&*state.taken[&scene.key].listening.socket).unwrap().st_ino
    };
    let before = inode(&scene);
    scene.endpoints(&[endpoint("b").await]);
    assert_eq!(inode(&scene), before);
    scene.change(|listener| listener.service_uid = "made again".into());
    assert_eq!(inode(&scene), before);
    assert_eq!(scene.exchange("x").await, "b:x");
}

#[tokio::test]
async fn a_datagram_port_that_changes_hands_stays_taken() {
    let server = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
    let mut scene = Scene::new("127.0.0.1:0", Protocol::Udp, Role::NodePort, &[server.local_addr().unwrap()]);
    let client = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
    client.connect(scene.address()).await.unwrap();
    for round in ["first", "second", "third"] {
        scene.change(|listener| listener.service_uid = round.into());
        client.send(round.as_bytes()).await.unwrap();
        let mut heard = [0; 8];
        let n = timeout(PATIENCE, server.recv(&mut heard)).await.unwrap().unwrap();
        assert_eq!(&heard[..n], round.as_bytes());
    }
}

#[tokio::test]
async fn a_taken_port_is_reported_retried_and_disturbs_no_other() {
    let squatter = TcpListener::bind(crate::testing::ports::free_address()).await.unwrap();
    let taken = ListenKey { address: squatter.local_addr().unwrap(), protocol: Protocol::Tcp };
    let mut scene = Scene::tcp(&[endpoint("a").await]);
    let listener = scene.table.listeners[&scene.key].clone();
    scene.table.listeners.insert(taken, listener);
    let problems = scene.proxy.apply(&scene.table).problems;
    assert_eq!(problems[0].error, ListenError::PortConflict(taken));
    assert_eq!(scene.exchange("x").await, "a:x");
    assert!(!scene.proxy.retry(&scene.table).is_empty());
    drop(squatter);
    until(|| scene.proxy.retry(&scene.table).is_empty()).await;
    scene.key = taken;
    assert_eq!(scene.exchange("x").await, "a:x");
}

#[tokio::test]
async fn a_client_from_elsewhere_is_reset() {
    let mut scene = Scene::tcp(&[endpoint("a").await]);
    let range: IpRange = "192.0.2.0/24".parse().unwrap();
    scene.change(|listener| listener.sources = vec![range]);
    assert_resets_clients(&scene).await;
    scene.change(|listener| listener.sources.push("127.0.0.0/8".parse().unwrap()));
    assert_eq!(scene.exchange("x").await, "a:x");
}

#[tokio::test]
async fn a_sticky_client_keeps_its_endpoint() {
    let mut scene = Scene::tcp(&[endpoint("a").await, endpoint("b").await]);
    scene.table.rotations.get_mut(&scene.port()).unwrap().sticky_for = Some(Duration::from_secs(60));
    scene.proxy.apply(&scene.table);
    for _ in 0..4 {
        assert_eq!(scene.exchange("x").await, "a:x");
    }
}

#[tokio::test]
async fn an_ipv6_client_reaches_an_ipv4_endpoint() {
    let scene = Scene::new("[::1]:0", Protocol::Tcp, Role::NodePort, &[endpoint("a").await]);
    if let [problem] = scene.proxy.apply(&scene.table).problems.as_slice() {
        assert!(problem.error.is_missing_ipv6(), "{}", problem.error);
        return;
    }
    assert_eq!(scene.exchange("x").await, "a:x");
}

#[tokio::test]
async fn a_drain_waits_for_the_reply_that_is_due_and_not_for_a_client_at_rest() {
    let (listener, address) = manual_endpoint().await;
    let mut scene = Scene::tcp(&[address]);
    let mut client = scene.connect().await;
    let (mut server, _) = listener.accept().await.unwrap();
    client.write_all(b"?").await.unwrap();
    server.read_exact(&mut [0; 1]).await.unwrap();
    let left = scene.endpoints(&[]).left;
    let early = timeout(Duration::from_millis(150), scene.proxy.drain(&left, PATIENCE)).await;
    assert!(early.is_err(), "a reply is due");
    server.write_all(b"!").await.unwrap();
    timeout(PATIENCE, scene.proxy.drain(&left, PATIENCE)).await.unwrap();
    client.read_exact(&mut [0; 1]).await.unwrap();
}

#[tokio::test]
async fn a_drain_ends_after_its_patience() {
    let (listener, address) = manual_endpoint().await;
    let mut scene = Scene::tcp(&[address]);
    let _client = scene.connect().await;
    let _server = listener.accept().await.unwrap();
    let left = scene.endpoints(&[]).left;
    timeout(PATIENCE, scene.proxy.drain(&left, Duration::from_millis(100))).await.unwrap();
}

#[tokio::test]
async fn shutting_down_does_not_wait_for_a_client_at_rest() {
    let (listener, address) = manual_endpoint().await;
    let scene = Scene::tcp(&[address]);
    let mut client = scene.connect().await;
    let mut server = listener.accept().await.unwrap().0;
    assert_hears(&mut client, &mut server).await;
    assert_hears(&mut server, &mut client).await;
    timeout(PATIENCE, scene.proxy.shut_down(PATIENCE * 10)).await.unwrap();
    assert_eq!(scene.proxy.connections(), 1);
}

#[tokio::test]
async fn shutting_down_waits_for_connections_and_stops_listening() {
    let (listener, address) = manual_endpoint().await;
    let scene = Scene::tcp(&[address]);
    let front = scene.address();
    let mut client = scene.connect().await;
    let (mut server, _) = listener.accept().await.unwrap();
    drop(listener);
    let proxy = scene.proxy;
    let ending = task::spawn("shut-down", async move { proxy.shut_down(PATIENCE).await });
    timeout(PATIENCE, async { while TcpStream::connect(front).await.is_ok() {} }).await.unwrap();
    server.write_all(b"bye").await.unwrap();
    drop(server);
    let mut words = String::new();
    client.read_to_string(&mut words).await.unwrap();
    assert_eq!(words, "bye");
    drop(client);
    timeout(PATIENCE, ending).await.unwrap().unwrap();
}

async fn assert_hears(from: &mut TcpStream, to: &mut TcpStream) {
    from.write_all(b"word").await.unwrap();
    let mut words = [0; 4];
    to.read_exact(&mut words).await.unwrap();
    assert_eq!(&words, b"word");
}

#[tokio::test]
async fn lasting_connections_spread_over_the_workers_and_work_there() {
    let (listener, address) = manual_endpoint().await;
    let scene = Scene::tcp(&[address]);
    let mut held = Vec::new();
    for _ in 0..40 {
        held.push((scene.connect().await, listener.accept().await.unwrap().0));
    }
    until(|| scene.proxy.shared.posts.iter().all(|post| (18..=22).contains(&post.load()))).await;
    for (client, server) in &mut held {
        assert_hears(client, server).await;
        assert_hears(server, client).await;
    }
    drop(held);
    until(|| scene.proxy.connections() == 0).await;
}

#[tokio::test]
async fn datagrams_find_an_endpoint_and_their_way_back() {
    let server = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
    let scene = Scene::new("127.0.0.1:0", Protocol::Udp, Role::NodePort, &[server.local_addr().unwrap()]);
    let client = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
    client.connect(scene.address()).await.unwrap();
    for words in [b"one", b"two"] {
        client.send(words).await.unwrap();
        let mut heard = [0; 8];
        let (n, from) = timeout(PATIENCE, server.recv_from(&mut heard)).await.unwrap().unwrap();
        assert_eq!(&heard[..n], words);
        server.send_to(b"reply", from).await.unwrap();
        let n = timeout(PATIENCE, client.recv(&mut heard)).await.unwrap().unwrap();
        assert_eq!(&heard[..n], b"reply");
    }
    assert_eq!(scene.proxy.report().endpoints[0].connections, 1, "one client is one flow");
}

#[tokio::test]
async fn datagrams_follow_when_their_endpoint_leaves() {
    let (a, b) = (
        UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap(),
        UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap(),
    );
    let mut scene = Scene::new("127.0.0.1:0", Protocol::Udp, Role::NodePort, &[a.local_addr().unwrap()]);
    let client = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
    client.connect(scene.address()).await.unwrap();
    client.send(b"x").await.unwrap();
    timeout(PATIENCE, a.recv(&mut [0; 8])).await.unwrap().unwrap();
    scene.endpoints(&[b.local_addr().unwrap()]);
    until(|| scene.proxy.report().endpoints.iter().all(|e| e.is_in_rotation)).await;
    client.send(b"y").await.unwrap();
    let mut heard = [0; 8];
    let n = timeout(PATIENCE, b.recv(&mut heard)).await.unwrap().unwrap();
    assert_eq!(&heard[..n], b"y");
}

#[tokio::test]
async fn a_worker_that_panics_is_told_of() {
    let proxy = Proxy::start(Clock::system(), &ProxySettings { workers: Some(2), ..ProxySettings::default() }).unwrap();
    assert!(futures::poll!(std::pin::pin!(proxy.broken())).is_pending());
    proxy.shared.posts[1].send(Command::Panic);
    timeout(Duration::from_secs(20), proxy.broken()).await.unwrap();
    assert!(!proxy.is_healthy());
}

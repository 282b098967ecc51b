//! The cluster's name server: answers from the [`Zone`], asks the machine's own name servers for everything else.
//!
//! Run by the role `skiff proxy`. Messages are read and written with `hickory-proto`; what others answered is passed on as it
//! came.
//!
//! **Invariants**: nothing waits without a bound: a question that nobody answers ends as `SERVFAIL`. The number of questions under
//! way to others, and of TCP clients, is bounded. A change of the zone is seen by the next question.
//!
//! **Not here**: which names there are (`zone`). There is no cache: names of a local cluster change under the user's hands, and
//! the machine's own resolver caches the rest.

use super::{
    ports::{self, ListenError},
    reach::Insiders,
    seats::Seats,
    sockets::Sockets,
    table::{ListenKey, Protocol, Reach, Role},
    zone::{Answer, Ask, Data, TTL_SECONDS, Zone},
};
use crate::base::{chain::chain, reached::Reached, task};
use hickory_proto::{
    op::{Edns, Message, OpCode, Query, ResponseCode},
    rr::{
        DNSClass, Name, RData, Record, RecordType,
        rdata::{A, AAAA, CNAME, NS, PTR, SOA, SRV, TXT},
    },
    serialize::binary::{BinEncodable as _, BinEncoder},
};
use std::{
    io,
    net::{IpAddr, SocketAddr},
    path::PathBuf,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering::Relaxed},
    },
    time::Duration,
};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{TcpListener, TcpStream, UdpSocket},
    sync::{Semaphore, watch},
    time::{sleep, timeout},
};
use tracing::{debug, info, warn};

/// How long one of the machine's name servers may take before the next is asked.
const SERVER_PATIENCE: Duration = Duration::from_millis(1500);

/// How long a question may take in all; resolvers give up after five seconds.
const QUESTION_PATIENCE: Duration = Duration::from_millis(4500);

/// Name servers that are asked, as many as resolvers do.
const SERVERS_MAX: usize = 3;

/// Questions under way to others at the same time.
const FORWARDS_MAX: usize = 512;

/// TCP clients at the same time; of one pod an eighth, so that no pod can shut the others out.
const TCP_CLIENTS_MAX: usize = 512;

/// How long a TCP client may be silent.
const TCP_IDLE: Duration = Duration::from_secs(10);

/// How long to wait before the listening sockets are tried again.
const BIND_RETRY: Duration = Duration::from_secs(1);

/// The largest datagram that surely passes every network in one piece.
const DATAGRAM_BYTES_MAX: u16 = 1232;

/// Aliases that are followed for one question.
const ALIASES_MAX: usize = 8;

const HEADER_BYTES: usize = 12;
const SERVFAIL: u8 = 2;
const REFUSED: u8 = 5;

/// What the name server needs to know.
#[derive(Clone, Debug)]
pub struct DnsSettings {
    /// Where it answers.
    pub address: SocketAddr,
    /// Where the machine's name servers are written down.
    pub resolv_conf: PathBuf,
    /// The port of the machine's name servers; 53 but in tests.
    pub upstream_port: u16,
    /// Where sockets come from.
    pub sockets: Arc<Sockets>,
    /// Whom it answers.
    pub insiders: Arc<Insiders>,
}

/// The zone as it is now.
pub type ZoneNow = watch::Receiver<Arc<Zone>>;

/// A name server, before it listens.
#[derive(Debug)]
pub struct DnsServer {
    settings: DnsSettings,
    zone: ZoneNow,
    turn: AtomicUsize,
    forwards: Semaphore,
    bounds: Arc<DnsBounds>,
}

/// What the bounds of a name server did.
#[derive(Debug)]
pub struct DnsBounds {
    clients: Arc<Seats>,
    refused: Reached,
}

impl DnsBounds {
    /// Clients over TCP that were turned away.
    pub fn clients_turned_away(&self) -> u64 {
        self.clients.turned_away()
    }

    /// Questions that were not passed on, because too many were under way.
    pub fn questions_refused(&self) -> u64 {
        self.refused.count()
    }
}

/// Listening sockets of a name server.
#[derive(Debug)]
pub struct DnsSockets {
    udp: UdpSocket,
    tcp: TcpListener,
}

/// How a question came, and so how it is passed on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Transport {
    Udp,
    Tcp,
}

/// What to do about a question.
#[derive(Debug)]
enum Verdict {
    /// Say this.
    Reply(Message),
    /// Say this, after adding what others know about the name.
    Follow(Message, String),
    /// Let others answer.
    Forward,
}

impl DnsServer {
    /// A name server for a zone.
    pub fn new(settings: DnsSettings, zone: ZoneNow) -> Arc<Self> {
        let (turn, forwards) = (AtomicUsize::new(0), Semaphore::new(FORWARDS_MAX));
        let clients = Seats::new("clients of the name server over TCP", TCP_CLIENTS_MAX);
        let bounds = Arc::new(DnsBounds { clients, refused: Reached::default() });
        Arc::new(Self { settings, zone, turn, forwards, bounds })
    }

    /// What its bounds did, now and later.
    pub fn bounds(&self) -> Arc<DnsBounds> {
        Arc::clone(&self.bounds)
    }

    /// Opens the sockets.
    pub fn bind(&self) -> Result<DnsSockets, ListenError> {
        let key = |protocol| ListenKey { address: self.settings.address, protocol };
        let udp = self.settings.sockets.take(key(Protocol::Udp), Role::ClusterIp)?;
        let other = |err: io::Error| ListenError::from_io(key(Protocol::Udp), &err);
        let udp = UdpSocket::from_std(udp.into()).map_err(other)?;
        // With port 0 both transports must agree.
        let address = udp.local_addr().map_err(other)?;
        let tcp = ListenKey { address, protocol: Protocol::Tcp };
        let tcp = self.settings.sockets.take(tcp, Role::ClusterIp)?;
        ports::open(&tcp).map_err(|errno| other(errno.into()))?;
        let tcp = TcpListener::from_std(tcp.into()).map_err(other)?;
        Ok(DnsSockets { udp, tcp })
    }

    /// Answers for ever, however often the sockets must be opened again.
    pub async fn run(self: Arc<Self>) {
        let mut told = false;
        loop {
            match self.bind() {
                Ok(sockets) => {
                    info!(component = "dns", address = %self.settings.address, "names are served");
                    Arc::clone(&self).serve(sockets).await;
                    told = false;
                }
                Err(err) if !std::mem::replace(&mut told, true) => {
                    warn!(component = "dns", err = chain(&err), "cannot serve names; trying again");
                }
                Err(_) => {}
            }
            for protocol in [Protocol::Udp, Protocol::Tcp] {
                self.settings.sockets.forget(ListenKey { address: self.settings.address, protocol });
            }
            sleep(BIND_RETRY).await;
        }
    }

    /// Answers until a socket fails.
    pub async fn serve(self: Arc<Self>, sockets: DnsSockets) {
        let DnsSockets { udp, tcp } = sockets;
        tokio::select! { biased;
            () = Arc::clone(&self).serve_udp(Arc::new(udp)) => {}
            () = self.serve_tcp(tcp) => {}
        }
    }

    async fn serve_udp(self: Arc<Self>, socket: Arc<UdpSocket>) {
        let mut buffer = vec![0; 4096];
        loop {
            let (n, client) = match socket.recv_from(&mut buffer).await {
                Ok(received) => received,
                // An earlier reply met a client that was gone: its own affair.
                Err(err) if err.kind() == io::ErrorKind::ConnectionRefused => continue,
                Err(err) => return warn!(component = "dns", err = chain(&err), "cannot receive questions"),
            };
            if !self.settings.insiders.admit(Reach::Cluster, client.ip()) {
                continue;
            }
            let Some((question, verdict)) = self.judge(&buffer[..n]) else { continue };
            let limit = datagram_limit(&question);
            if let Verdict::Reply(reply) = verdict {
                // A reply that cannot be sent now is lost, as on any network; the client asks again.
                socket.try_send_to(&encode(&reply, limit), client).ok();
                continue;
            }
            let (server, socket, bytes) = (Arc::clone(&self), Arc::clone(&socket), buffer[..n].to_vec());
            task::spawn("dns-forward", async move {
                let reply = server.resolve(&bytes, &question, verdict, Transport::Udp).await;
                socket.send_to(&reply, client).await.ok();
            });
        }
    }

    async fn serve_tcp(self: Arc<Self>, listener: TcpListener) {
        let seats = &self.bounds.clients;
        loop {
            match listener.accept().await {
                Ok((stream, client)) => {
                    let client = client.ip().to_canonical();
                    let is_ours = self.settings.insiders.admit(Reach::Cluster, client);
                    // Whoever has no seat is told by the end of the connection.
                    let Some(seat) = is_ours.then(|| seats.take(client)).flatten() else { continue };
                    let server = Arc::clone(&self);
                    task::spawn("dns-tcp", async move {
                        // However it ends, the client knows.
                        server.serve_stream(stream).await.ok();
                        drop(seat);
                    });
                }
                Err(err) => {
                    debug!(component = "dns", err = chain(&err), "cannot accept a client");
                    sleep(BIND_RETRY).await;
                }
            }
        }
    }

    async fn serve_stream(&self, mut stream: TcpStream) -> io::Result<()> {
        loop {
            let bytes = timeout(TCP_IDLE, read_framed(&mut stream)).await.map_err(|_| io::ErrorKind::TimedOut)??;
            let Some((question, verdict)) = self.judge(&bytes) else { return Ok(()) };
            let reply = self.resolve(&bytes, &question, verdict, Transport::Tcp).await;
            timeout(TCP_IDLE, write_framed(&mut stream, &reply)).await.map_err(|_| io::ErrorKind::TimedOut)??;
        }
    }

    /// Reads a question and decides; nothing for what is no question at all.
    fn judge(&self, bytes: &[u8]) -> Option<(Message, Verdict)> {
        let question = match Message::from_vec(bytes) {
            Ok(question) if question.metadata.message_type == hickory_proto::op::MessageType::Query => question,
            Ok(_) => return None,
            Err(_) => {
                let id = u16::from_be_bytes([*bytes.first()?, *bytes.get(1)?]);
                let reply = Message::error_msg(id, OpCode::Query, ResponseCode::FormErr);
                return Some((Message::query(), Verdict::Reply(reply)));
            }
        };
        let zone = Arc::clone(&self.zone.borrow());
        let verdict = judge(&question, &zone, self.turn.fetch_add(1, Relaxed));
        Some((question, verdict))
    }

    /// The bytes of the reply, after asking others if need be.
    async fn resolve(&self, bytes: &[u8], question: &Message, verdict: Verdict, transport: Transport) -> Vec<u8> {
        let limit = if transport == Transport::Tcp { u16::MAX } else { datagram_limit(question) };
        match verdict {
            Verdict::Reply(reply) => encode(&reply, limit),
            Verdict::Forward => match self.ask_others(bytes, transport).await {
                Some(reply) => reply,
                None => encode(&failure(question, ResponseCode::ServFail), limit),
            },
            Verdict::Follow(reply, name) => encode(&self.follow(reply, question, &name).await, limit),
        }
    }

    /// Adds what others know about an alias' target; resolvers on pods do not follow aliases themselves.
    async fn follow(&self, mut reply: Message, question: &Message, name: &str) -> Message {
        let asked = question.queries.first().and_then(|query| Some((fqdn(name)?, query.query_type)));
        let Some((name, kind)) = asked else { return failure(question, ResponseCode::ServFail) };
        let mut onward = Message::query();
        onward.metadata.id = question.metadata.id;
        onward.metadata.recursion_desired = true;
        onward.add_query(Query::query(name, kind));
        let answered = self.ask_others(&encode(&onward, u16::MAX), Transport::Tcp).await;
        match answered.and_then(|bytes| Message::from_vec(&bytes).ok()) {
            Some(theirs) => {
                reply.metadata.response_code = theirs.metadata.response_code;
                reply.add_answers(theirs.answers);
                reply
            }
            None => failure(question, ResponseCode::ServFail),
        }
    }

    /// Asks the machine's name servers, one after the other, in bounded time.
    async fn ask_others(&self, question: &[u8], transport: Transport) -> Option<Vec<u8>> {
        let Ok(_permit) = self.forwards.try_acquire() else {
            if self.bounds.refused.is_first() {
                let max = FORWARDS_MAX;
                warn!(
                    component = "dns",
                    max, "too many questions wait for other name servers: some fail, from now on without a word"
                );
            }
            return None;
        };
        timeout(QUESTION_PATIENCE, self.ask_each(question, transport)).await.ok().flatten()
    }

    async fn ask_each(&self, question: &[u8], transport: Transport) -> Option<Vec<u8>> {
        let mut worst = None;
        for server in self.servers() {
            let asked = async {
                match transport {
                    Transport::Udp => ask_udp(server, question).await,
                    Transport::Tcp => ask_tcp(server, question).await,
                }
            };
            match timeout(SERVER_PATIENCE, asked).await {
                Ok(Ok(reply)) if matches!(reply[3] & 0x0f, SERVFAIL | REFUSED) => worst = Some(reply),
                Ok(Ok(reply)) => return Some(reply),
                Ok(Err(err)) => debug!(component = "dns", %server, err = chain(&err), "a name server failed"),
                Err(_) => debug!(component = "dns", %server, "a name server did not answer in time"),
            }
        }
        worst
    }

    /// The machine's name servers. Read anew each time: the file is small, in memory, and changes with the machine's network.
    fn servers(&self) -> Vec<SocketAddr> {
        let text = std::fs::read_to_string(&self.settings.resolv_conf).unwrap_or_default();
        let all = parse_resolv_conf(&text).into_iter().map(|ip| SocketAddr::new(ip, self.settings.upstream_port));
        // Asking ourselves would go round in circles.
        all.filter(|server| *server != self.settings.address).take(SERVERS_MAX).collect()
    }
}

/// The name servers of a `resolv.conf`.
fn parse_resolv_conf(text: &str) -> Vec<IpAddr> {
    let servers = text.lines().filter_map(|line| line.trim().strip_prefix("nameserver"));
    servers.filter_map(|rest| rest.split_whitespace().next()?.parse().ok()).collect()
}

async fn ask_udp(server: SocketAddr, question: &[u8]) -> io::Result<Vec<u8>> {
    let any: SocketAddr = if server.is_ipv4() { ([0, 0, 0, 0], 0).into() } else { ([0u16; 8], 0).into() };
    let socket = UdpSocket::bind(any).await?;
    socket.connect(server).await?;
    socket.send(question).await?;
    let mut reply = vec![0; 4096];
    loop {
        let n = socket.recv(&mut reply).await?;
        if is_reply_to(question, &reply[..n]) {
            reply.truncate(n);
            return Ok(reply);
        }
    }
}

async fn ask_tcp(server: SocketAddr, question: &[u8]) -> io::Result<Vec<u8>> {
    let mut stream = TcpStream::connect(server).await?;
    write_framed(&mut stream, question).await?;
    let reply = read_framed(&mut stream).await?;
    if is_reply_to(question, &reply) { Ok(reply) } else { Err(io::ErrorKind::InvalidData.into()) }
}

fn is_reply_to(question: &[u8], reply: &[u8]) -> bool {
    reply.len() >= HEADER_BYTES && reply[..2] == question[..2] && reply[2] & 0x80 != 0
}

async fn read_framed(stream: &mut TcpStream) -> io::Result<Vec<u8>> {
    let length = stream.read_u16().await?;
    let mut bytes = vec![0; usize::from(length)];
    stream.read_exact(&mut bytes).await?;
    Ok(bytes)
}

/// Writes length and message at once, so that they travel together.
async fn write_framed(stream: &mut TcpStream, message: &[u8]) -> io::Result<()> {
    let length = u16::try_from(message.len()).map_err(|_| io::ErrorKind::InvalidData)?;
    let mut framed = length.to_be_bytes().to_vec();
    framed.extend_from_slice(message);
    stream.write_all(&framed).await
}

/// Decides about a question. Pure.
fn judge(question: &Message, zone: &Zone, turn: usize) -> Verdict {
    if question.metadata.op_code != OpCode::Query {
        return Verdict::Reply(failure(question, ResponseCode::NotImp));
    }
    let [query] = question.queries.as_slice() else {
        return Verdict::Reply(failure(question, ResponseCode::FormErr));
    };
    if !matches!(query.query_class, DNSClass::IN | DNSClass::ANY) {
        return Verdict::Reply(failure(question, ResponseCode::Refused));
    }
    let (name, ask) = (query.name.to_ascii(), ask(query.query_type));
    match zone.answer(&name, ask, turn) {
        Answer::NotOurs => Verdict::Forward,
        Answer::NoName => Verdict::Reply(denial(question, zone, &query.name, ResponseCode::NXDomain)),
        Answer::NoData => Verdict::Reply(denial(question, zone, &query.name, ResponseCode::NoError)),
        Answer::Records(records, extra) => {
            let mut reply = reply_to(question);
            let owner = query.name.clone();
            reply.add_answers(records.iter().filter_map(|data| record(owner.clone(), data, zone)));
            reply.add_additionals(extra.iter().filter_map(|(name, data)| record(fqdn(name)?, data, zone)));
            follow_inside(reply, &records, ask, zone, turn)
        }
    }
}

/// Follows aliases as far as the zone knows; past that, others must help.
fn follow_inside(mut reply: Message, records: &[Data], ask: Ask, zone: &Zone, turn: usize) -> Verdict {
    let mut alias = alias_of(records, ask);
    for _ in 0..ALIASES_MAX {
        let Some(target) = alias.take() else { break };
        match zone.answer(&target, ask, turn) {
            Answer::NotOurs => return Verdict::Follow(reply, target),
            Answer::Records(records, _) => {
                let owner = fqdn(&target);
                reply.add_answers(records.iter().filter_map(|data| record(owner.clone()?, data, zone)));
                alias = alias_of(&records, ask);
            }
            Answer::NoData => {}
            Answer::NoName => reply.metadata.response_code = ResponseCode::NXDomain,
        }
    }
    Verdict::Reply(reply)
}

/// Where an answer leads that is only an alias.
fn alias_of(records: &[Data], ask: Ask) -> Option<String> {
    match records {
        [Data::Cname(target)] if !matches!(ask, Ask::Cname | Ask::Any) => Some(target.clone()),
        _ => None,
    }
}

fn ask(kind: RecordType) -> Ask {
    match kind {
        RecordType::A => Ask::A,
        RecordType::AAAA => Ask::Aaaa,
        RecordType::CNAME => Ask::Cname,
        RecordType::NS => Ask::Ns,
        RecordType::PTR => Ask::Ptr,
        RecordType::SRV => Ask::Srv,
        RecordType::TXT => Ask::Txt,
        RecordType::SOA => Ask::Soa,
        RecordType::ANY => Ask::Any,
        _ => Ask::Other,
    }
}

fn reply_to(question: &Message) -> Message {
    let mut reply = Message::response(question.metadata.id, question.metadata.op_code);
    reply.metadata.recursion_desired = question.metadata.recursion_desired;
    reply.metadata.recursion_available = true;
    reply.metadata.authoritative = true;
    reply.add_queries(question.queries.iter().cloned());
    if question.edns.is_some() {
        let mut edns = Edns::new();
        edns.set_max_payload(DATAGRAM_BYTES_MAX);
        reply.set_edns(edns);
    }
    reply
}

fn failure(question: &Message, code: ResponseCode) -> Message {
    let mut reply = reply_to(question);
    (reply.metadata.response_code, reply.metadata.authoritative) = (code, false);
    reply
}

/// Says no, with the record that tells for how long.
fn denial(question: &Message, zone: &Zone, name: &Name, code: ResponseCode) -> Message {
    let mut reply = reply_to(question);
    reply.metadata.response_code = code;
    let name = name.to_lowercase().to_ascii();
    let covering = ["in-addr.arpa", "ip6.arpa"].into_iter().find(|zone| name.trim_end_matches('.').ends_with(zone));
    let owner = fqdn(covering.unwrap_or_else(|| zone.domain()));
    reply.add_authorities(owner.and_then(|owner| record(owner, &Data::Soa, zone)));
    reply
}

/// A record on the wire; nothing when a user's name does not fit there.
fn record(owner: Name, data: &Data, zone: &Zone) -> Option<Record> {
    let rdata = match data {
        Data::A(ip) => RData::A(A(*ip)),
        Data::Aaaa(ip) => RData::AAAA(AAAA(*ip)),
        Data::Cname(name) => RData::CNAME(CNAME(fqdn(name)?)),
        Data::Ns(name) => RData::NS(NS(fqdn(name)?)),
        Data::Ptr(name) => RData::PTR(PTR(fqdn(name)?)),
        Data::Srv { weight, port, target } => RData::SRV(SRV::new(0, *weight, *port, fqdn(target)?)),
        Data::Txt(text) => RData::TXT(TXT::new(vec![text.clone()])),
        Data::Soa => {
            let (server, contact) =
                (fqdn(&format!("ns.dns.{}", zone.domain()))?, fqdn(&format!("hostmaster.{}", zone.domain()))?);
            RData::SOA(SOA::new(server, contact, 1, 7200, 1800, 86400, TTL_SECONDS))
        }
    };
    Some(Record::from_rdata(owner, TTL_SECONDS, rdata))
}

fn fqdn(name: &str) -> Option<Name> {
    Name::from_ascii(format!("{}.", name.trim_end_matches('.'))).ok()
}

/// What a client can take in one datagram.
fn datagram_limit(question: &Message) -> u16 {
    let asked = question.edns.as_ref().map_or(512, Edns::max_payload);
    asked.clamp(512, DATAGRAM_BYTES_MAX)
}

/// The bytes of a message; what does not fit is left out and the client told to ask over TCP.
fn encode(message: &Message, limit: u16) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(512);
    let mut encoder = BinEncoder::new(&mut bytes);
    encoder.set_max_size(limit);
    if let Err(err) = message.emit(&mut encoder) {
        warn!(component = "dns", err = chain(&err), "cannot write a reply");
        let failed = Message::error_msg(message.metadata.id, OpCode::Query, ResponseCode::ServFail);
        return failed.to_vec().expect("a bare header can be written");
    }
    bytes
}

#[cfg(test)]
mod tests;

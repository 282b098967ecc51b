//! `skiff demo-server`: a small web server for demos and tests, which says who and which version answers, and whom a gRPC probe finds healthy.
//!
//! The demo images run it. One thread, a few megabytes.
//!
//! **Invariants**: on `SIGTERM` it stops accepting, finishes what is in flight within a second and ends with 0;
//! with `abrupt` it ends at once, which is the harder case for a rolling update.

use super::stop::stop_signal;
use crate::base::{
    duplex::Duplex,
    runtime::block_on,
    task::{self, Drain},
};
use anyhow::{Context as _, bail};
use bytes::Bytes;
use http::{HeaderMap, Method, Request, Response, StatusCode, header};
use http_body_util::{BodyExt as _, Full, combinators::UnsyncBoxBody};
use hyper::service::service_fn;
use hyper_util::{rt::TokioIo, server::conn::auto};
use std::{
    convert::Infallible,
    fs,
    io::ErrorKind,
    net::{IpAddr, Ipv4Addr, SocketAddr, UdpSocket},
    path::PathBuf,
    pin::pin,
    sync::Arc,
    time::Duration,
};
use tokio::{
    net::{TcpListener, TcpStream},
    sync::mpsc,
};

/// How long answers in flight may take once it is told to stop.
const FINISH: Duration = Duration::from_secs(1);
/// How long an idle connection stays open once it is told to stop.
const LINGER: Duration = Duration::from_millis(100);

/// The call of a gRPC probe.
const HEALTH_CHECK: &str = "/grpc.health.v1.Health/Check";
/// The answer `SERVING`: not compressed, two bytes long, the first field, its value.
const SERVING: &[u8] = &[0, 0, 0, 0, 2, 8, 1];

type Answer = Response<UnsyncBoxBody<Bytes, Infallible>>;

/// Runs tasks of a connection by the house's rules.
#[derive(Clone)]
struct Tasks;

impl<F: Future<Output = ()> + Send + 'static> hyper::rt::Executor<F> for Tasks {
    fn execute(&self, work: F) {
        drop(task::spawn("stream", work));
    }
}

/// How the server behaves.
#[derive(Clone, Debug, PartialEq, Eq, clap::Args)]
#[command(after_help = "Example:\n  skiff demo-server --port 8080 --greeting Ahoy")]
pub struct Args {
    /// The name of the application
    #[arg(long, default_value = "demo-server")]
    name: String,
    /// Its version
    #[arg(long, default_value = env!("CARGO_PKG_VERSION"))]
    version: String,
    /// The whole plain-text answer instead of the usual line; the variable RESPONSE goes before it
    #[arg(long)]
    greeting: Option<String>,
    /// A port to listen on; may be repeated, and the variable PORTS adds more, separated by commas
    #[arg(long = "port", default_values_t = [8080])]
    ports: Vec<u16>,
    /// End at once when told to stop, without finishing what is in flight
    #[arg(long)]
    abrupt: bool,
    /// Fail at the start
    #[arg(long)]
    fail: bool,
    /// Count the visits of /counter in this file
    #[arg(long, value_name = "FILE")]
    counter: Option<PathBuf>,
    /// Wait so many seconds before listening
    #[arg(long, value_name = "SECONDS", default_value_t = 0)]
    delay: u64,
}

/// Runs until it is told to stop.
pub fn run(mut args: Args) -> anyhow::Result<()> {
    if args.fail {
        bail!("{} {} fails, as --fail asks", args.name, args.version);
    }
    args.ports.extend(parse_ports(&std::env::var("PORTS").unwrap_or_default())?);
    args.greeting = std::env::var("RESPONSE").ok().or(args.greeting);
    let stop = stop_signal().context("cannot wait for signals")?;
    let facts = Facts {
        name: args.name.clone(),
        version: args.version.clone(),
        greeting: args.greeting.clone(),
        counter: args.counter.clone(),
        host: host_name(),
        ip: own_address(),
    };
    block_on(serve(args, Arc::new(facts), stop))?
}

fn parse_ports(text: &str) -> anyhow::Result<Vec<u16>> {
    let parse = |port: &str| port.parse().with_context(|| format!("PORTS: {port:?} is no port"));
    text.split([',', ' ']).filter(|port| !port.is_empty()).map(parse).collect()
}

fn host_name() -> String {
    let kernel = || fs::read_to_string("/proc/sys/kernel/hostname").ok();
    kernel().or_else(|| std::env::var("HOSTNAME").ok()).unwrap_or_default().trim().to_owned()
}

/// The address that packets to elsewhere would leave from; none is sent.
fn own_address() -> Option<IpAddr> {
    let socket = UdpSocket::bind((Ipv4Addr::UNSPECIFIED, 0)).ok()?;
    socket.connect((Ipv4Addr::new(192, 0, 2, 1), 9)).ok()?;
    Some(socket.local_addr().ok()?.ip())
}

#[allow(clippy::print_stdout, reason = "a container's log is its output")]
async fn serve(args: Args, facts: Arc<Facts>, stop: Drain) -> anyhow::Result<()> {
    if stopped_within(Duration::from_secs(args.delay), &stop).await {
        return Ok(());
    }
    // Every connection holds a sender; when the last is gone, all answers are out.
    let (busy, mut idle) = mpsc::channel::<Infallible>(1);
    for port in &args.ports {
        let listener = TcpListener::bind((Ipv4Addr::UNSPECIFIED, *port)).await;
        let listener = listener.with_context(|| format!("cannot listen on port {port}"))?;
        drop(task::spawn("accept", accept(listener, Arc::clone(&facts), stop.clone(), busy.clone())));
    }
    drop(busy);
    println!("{} {} listens on {:?}", facts.name, facts.version, args.ports);
    stop.drained().await;
    if !args.abrupt {
        println!("{} {} stops", facts.name, facts.version);
        drop(tokio::time::timeout(FINISH, idle.recv()).await);
    }
    Ok(())
}

/// Waits; true when it was told to stop meanwhile.
async fn stopped_within(time: Duration, stop: &Drain) -> bool {
    tokio::select! {
        biased;
        () = stop.drained() => true,
        () = tokio::time::sleep(time) => false,
    }
}

async fn accept(listener: TcpListener, facts: Arc<Facts>, stop: Drain, busy: mpsc::Sender<Infallible>) {
    loop {
        let accepted = tokio::select! {
            biased;
            () = stop.drained() => return,
            accepted = listener.accept() => accepted,
        };
        match accepted {
            Ok((stream, _)) => {
                drop(task::spawn("connection", connection(stream, Arc::clone(&facts), stop.clone(), busy.clone())));
            }
            // Out of descriptors, say: it passes.
            Err(_) => tokio::time::sleep(Duration::from_millis(50)).await,
        }
    }
}

async fn connection(stream: TcpStream, facts: Arc<Facts>, stop: Drain, _busy: mpsc::Sender<Infallible>) {
    // Answers are small and leave at once. A peer that is gone shows at the next read.
    drop(stream.set_nodelay(true));
    let local = stream.local_addr().ok();
    let service = service_fn(|request: Request<hyper::body::Incoming>| {
        let answer = facts.answer(request.method(), request.uri().path(), request.headers(), local);
        async move { Ok::<_, Infallible>(answer) }
    });
    let builder = auto::Builder::new(Tasks);
    let stream: Box<dyn Duplex> = Box::new(stream);
    let mut serving = pin!(builder.serve_connection(TokioIo::new(stream), service));
    // What a client sent before it could know of the end is still answered.
    let lingering = async {
        stop.drained().await;
        tokio::time::sleep(LINGER).await;
    };
    tokio::select! {
        biased;
        _ = serving.as_mut() => return,
        () = lingering => serving.as_mut().graceful_shutdown(),
    }
    // A client that went away is its own affair.
    drop(serving.await);
}

/// What the answers tell.
#[derive(Clone, Debug)]
struct Facts {
    name: String,
    version: String,
    greeting: Option<String>,
    counter: Option<PathBuf>,
    host: String,
    ip: Option<IpAddr>,
}

impl Facts {
    fn answer(&self, method: &Method, path: &str, headers: &HeaderMap, local: Option<SocketAddr>) -> Answer {
        const PLAIN: &str = "text/plain; charset=utf-8";
        if method == Method::POST && path == HEALTH_CHECK {
            return serving();
        }
        if method != Method::GET && method != Method::HEAD {
            return response(StatusCode::METHOD_NOT_ALLOWED, PLAIN, "only GET and HEAD are answered\n".into());
        }
        match path {
            "/healthz" | "/readyz" => response(StatusCode::OK, PLAIN, "ok\n".into()),
            "/counter" => match self.visit() {
                Ok(n) => response(StatusCode::OK, PLAIN, format!("visit {n} of {}\n", self.host)),
                Err(why) => response(StatusCode::INTERNAL_SERVER_ERROR, PLAIN, format!("{why:#}\n")),
            },
            "/favicon.ico" => response(StatusCode::NOT_FOUND, PLAIN, "not found\n".into()),
            _ if wants_html(headers) => {
                response(StatusCode::OK, "text/html; charset=utf-8", self.page(&self.address(local)))
            }
            _ => response(StatusCode::OK, PLAIN, self.line(&self.address(local))),
        }
    }

    /// Counts one more visit. One thread answers all, so none is lost between the reading and the writing.
    fn visit(&self) -> anyhow::Result<u64> {
        let file = self.counter.as_ref().context("nothing is counted: --counter FILE names where")?;
        let known = match fs::read_to_string(file) {
            Err(err) if err.kind() == ErrorKind::NotFound => "0".to_owned(),
            read => read.with_context(|| format!("cannot read {}", file.display()))?,
        };
        let known: u64 = known.trim().parse().with_context(|| format!("{} holds no number", file.display()))?;
        let (visits, draft) = (known.saturating_add(1), file.with_extension("new"));
        // A kill between the two leaves the number that was.
        fs::write(&draft, visits.to_string())
            .and_then(|()| fs::rename(&draft, file))
            .with_context(|| format!("cannot write {}", file.display()))?;
        Ok(visits)
    }

    fn address(&self, local: Option<SocketAddr>) -> String {
        let ip = self.ip.or(local.map(|local| local.ip()));
        ip.map_or_else(|| "unknown address".into(), |ip| ip.to_string())
    }

    fn line(&self, address: &str) -> String {
        match &self.greeting {
            Some(greeting) => format!("{greeting}\n"),
            None => format!("{} {} from {} ({address})\n", self.name, self.version, self.host),
        }
    }

    fn page(&self, address: &str) -> String {
        PAGE.replace("{hue}", &hue(&self.version).to_string())
            .replace("{name}", &escaped(&self.name))
            .replace("{version}", &escaped(&self.version))
            .replace("{greeting}", &escaped(self.greeting.as_deref().unwrap_or("It works.")))
            .replace("{host}", &escaped(&self.host))
            .replace("{address}", &escaped(address))
    }
}

/// The answer to a gRPC probe. Its status comes after the message.
fn serving() -> Answer {
    let status = HeaderMap::from_iter([(header::HeaderName::from_static("grpc-status"), header::HeaderValue::from(0))]);
    let body = Full::new(Bytes::from_static(SERVING)).with_trailers(std::future::ready(Some(Ok(status))));
    let mut response = Response::new(body.boxed_unsync());
    response.headers_mut().insert(header::CONTENT_TYPE, header::HeaderValue::from_static("application/grpc"));
    response
}

fn response(status: StatusCode, content_type: &'static str, body: String) -> Answer {
    let mut response = Response::new(Full::new(Bytes::from(body)).boxed_unsync());
    *response.status_mut() = status;
    response.headers_mut().insert(header::CONTENT_TYPE, header::HeaderValue::from_static(content_type));
    response
}

fn wants_html(headers: &HeaderMap) -> bool {
    headers
        .get(header::ACCEPT)
        .and_then(|accept| accept.to_str().ok())
        .is_some_and(|accept| accept.contains("text/html"))
}

/// A colour per version, so that a rolling update is seen from afar.
fn hue(version: &str) -> u32 {
    version.bytes().fold(170, |hue, byte| (hue * 31 + u32::from(byte) * 47) % 360)
}

fn escaped(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;").replace('"', "&quot;")
}

const PAGE: &str = r#"<!doctype html>
<html lang="en"><head><meta charset="utf-8"><meta name="viewport" content="width=device-width, initial-scale=1">
<title>{name} {version}</title>
<link rel="icon" href="data:image/svg+xml,%3Csvg xmlns='http://www.w3.org/2000/svg' viewBox='0 0 16 16'%3E%3Cpath d='M1 10h14l-3 4H4zM8 1v8H3z' fill='%23468'/%3E%3C/svg%3E">
<style>
:root{color-scheme:light dark;--accent:hsl({hue} 65% 45%)}
body{margin:0;min-height:100vh;display:grid;place-items:center;font:16px/1.5 system-ui,sans-serif;
background:linear-gradient(160deg,hsl({hue} 60% 94%),hsl({hue} 50% 82%));color:#1b2330}
main{background:#fffd;padding:2.5rem 3rem;border-radius:1rem;box-shadow:0 1rem 3rem #0002;border-top:.4rem solid var(--accent);max-width:32rem}
h1{margin:0;font-size:1.9rem}h1 span{color:var(--accent)}
dl{display:grid;grid-template-columns:auto 1fr;gap:.35rem 1.25rem;margin:1.5rem 0 0}
dt{opacity:.65}dd{margin:0;font-family:ui-monospace,monospace;overflow-wrap:anywhere}
@media(prefers-color-scheme:dark){body{background:linear-gradient(160deg,hsl({hue} 30% 14%),hsl({hue} 35% 22%));color:#e6ebf2}main{background:#161b24e6}}
</style></head><body><main>
<h1>{name} <span>{version}</span></h1>
<p>{greeting}</p>
<dl><dt>Pod</dt><dd>{host}</dd><dt>Address</dt><dd>{address}</dd></dl>
</main></body></html>
"#;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::task::drain_signal;
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

    fn facts() -> Facts {
        Facts {
            name: "spring".into(),
            version: "1.0".into(),
            greeting: None,
            counter: None,
            host: "web-<1>".into(),
            ip: Some("10.244.0.5".parse().unwrap()),
        }
    }

    async fn ask(facts: &Facts, method: Method, path: &str, accept: &str) -> (u16, String) {
        let mut headers = HeaderMap::new();
        headers.insert(header::ACCEPT, accept.parse().unwrap());
        let answer = facts.answer(&method, path, &headers, None);
        let status = answer.status().as_u16();
        let body = answer.into_body().collect().await.unwrap().to_bytes();
        (status, String::from_utf8(body.to_vec()).unwrap())
    }

    #[tokio::test]
    async fn a_terminal_gets_a_line_and_a_browser_a_page() {
        let line = "spring 1.0 from web-<1> (10.244.0.5)\n".to_owned();
        assert_eq!(ask(&facts(), Method::GET, "/", "*/*").await, (200, line.clone()));
        assert_eq!(ask(&facts(), Method::GET, "/any/path", "*/*").await, (200, line));
        let (status, page) = ask(&facts(), Method::GET, "/", "text/html,*/*").await;
        assert_eq!(status, 200);
        assert!(page.contains("<dd>web-&lt;1&gt;</dd>") && page.contains("spring <span>1.0</span>"), "{page}");
        assert!(["{name}", "{version}", "{hue}", "{host}"].iter().all(|hole| !page.contains(hole)), "{page}");
    }

    #[tokio::test]
    async fn a_greeting_is_the_whole_answer() {
        let hello = Facts { greeting: Some("Hello OpenShift!".into()), ..facts() };
        assert_eq!(ask(&hello, Method::GET, "/", "*/*").await, (200, "Hello OpenShift!\n".into()));
    }

    #[tokio::test]
    async fn probes_are_answered_and_writes_refused() {
        assert_eq!(ask(&facts(), Method::GET, "/healthz", "*/*").await, (200, "ok\n".into()));
        assert_eq!(ask(&facts(), Method::GET, "/readyz", "text/html").await, (200, "ok\n".into()));
        assert_eq!(ask(&facts(), Method::POST, "/", "*/*").await.0, 405);
        let told = ask(&facts(), Method::GET, "/counter", "*/*").await;
        assert_eq!(told, (500, "nothing is counted: --counter FILE names where\n".into()));
        let dir = tempfile::tempdir().unwrap();
        let counts = Facts { counter: Some(dir.path().join("visits")), ..facts() };
        for n in 1..3 {
            assert_eq!(ask(&counts, Method::GET, "/counter", "*/*").await, (200, format!("visit {n} of web-<1>\n")));
        }
        fs::write(dir.path().join("visits"), "many").unwrap();
        let (code, why) = ask(&counts, Method::GET, "/counter", "*/*").await;
        assert!(code == 500 && why.contains("holds no number"), "{why}");
    }

    #[test]
    fn ports_come_as_a_list() {
        assert_eq!(parse_ports("8081, 9000").unwrap(), [8081, 9000]);
        assert_eq!(parse_ports("").unwrap(), Vec::<u16>::new());
        assert!(parse_ports("http").unwrap_err().to_string().contains("\"http\" is no port"));
    }

    #[test]
    fn versions_differ_in_colour() {
        assert_ne!(hue("1.0"), hue("1.1"));
    }

    #[tokio::test]
    async fn a_grpc_probe_is_told_that_it_serves() {
        let answer = facts().answer(&Method::POST, HEALTH_CHECK, &HeaderMap::new(), None);
        let whole = answer.into_body().collect().await.unwrap();
        assert_eq!(whole.trailers().unwrap()["grpc-status"], "0");
        assert_eq!(whole.to_bytes(), SERVING);
    }

    #[tokio::test]
    async fn what_was_asked_before_the_signal_is_answered_and_the_connection_ends() {
        let (trigger, stop) = drain_signal();
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
        let address = listener.local_addr().unwrap();
        let (busy, mut idle) = mpsc::channel(1);
        drop(task::spawn("accept", accept(listener, Arc::new(facts()), stop, busy)));
        let mut client = TcpStream::connect(address).await.unwrap();
        client.write_all(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n").await.unwrap();
        let mut buffer = [0; 1024];
        let n = client.read(&mut buffer).await.unwrap();
        assert!(buffer[..n].starts_with(b"HTTP/1.1 200 OK"));
        client.write_all(b"GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n").await.unwrap();
        trigger.fire();
        let mut rest = String::new();
        client.read_to_string(&mut rest).await.unwrap();
        assert!(rest.starts_with("HTTP/1.1 200 OK") && rest.ends_with("ok\n"), "{rest}");
        assert_eq!(idle.recv().await, None, "every connection has ended");
        assert!(TcpStream::connect(address).await.is_err(), "nobody accepts any more");
    }
}

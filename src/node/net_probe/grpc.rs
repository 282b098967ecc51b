//! gRPC probes: one call of `grpc.health.v1.Health/Check`, written by hand, for its two messages have one field each.
//!
//! **Source**: `pkg/probe/grpc/grpc.go`, v1.37; `grpc.health.v1`; the gRPC protocol over HTTP/2.

use super::{USER_AGENT, bracketed, dial};
use crate::base::{chain::chain, duplex::Duplex, task};
use bytes::{BufMut as _, Bytes, BytesMut};
use http_body_util::{BodyExt as _, Full, Limited};
use hyper::{HeaderMap, Request, Response, body::Incoming, client::conn::http2, header};
use hyper_util::rt::TokioIo;
use std::time::Duration;
use tokio::time::{Instant, timeout_at};

/// Bytes of an answer at most; a right one has seven.
const ANSWER_MAX: usize = 10 * 1024;
/// The names of the status codes. Source: `google.golang.org/grpc/codes`.
const CODES: [&str; 17] = [
    "OK",
    "Canceled",
    "Unknown",
    "InvalidArgument",
    "DeadlineExceeded",
    "NotFound",
    "AlreadyExists",
    "PermissionDenied",
    "ResourceExhausted",
    "FailedPrecondition",
    "Aborted",
    "OutOfRange",
    "Unimplemented",
    "Internal",
    "Unavailable",
    "DataLoss",
    "Unauthenticated",
];
const OK: usize = 0;
const UNKNOWN: usize = 2;
const DEADLINE_EXCEEDED: usize = 4;
const UNIMPLEMENTED: usize = 12;
const INTERNAL: usize = 13;
const UNAVAILABLE: usize = 14;
/// What a service may answer. Source: `HealthCheckResponse.ServingStatus`.
const SERVING_STATUS: [&str; 4] = ["UNKNOWN", "SERVING", "NOT_SERVING", "SERVICE_UNKNOWN"];

/// Why a call failed.
struct RpcError {
    code: usize,
    message: String,
}

/// Runs tasks of a connection by the house's rules.
#[derive(Clone)]
pub(super) struct Tasks;

impl<F: Future<Output = ()> + Send + 'static> hyper::rt::Executor<F> for Tasks {
    fn execute(&self, work: F) {
        task::spawn("grpc-probe", work);
    }
}

/// Asks a server for a service's health; fine when it serves.
pub(super) async fn check(host: &str, port: u16, service: &str, bound: Duration) -> Result<(), String> {
    let address = format!("{}:{port}", bracketed(host));
    let (seconds, deadline) = (bound.as_secs(), Instant::now() + bound);
    let stream = match timeout_at(deadline, dial(host, port)).await {
        Ok(Ok(stream)) => stream,
        Ok(Err(why)) => return Err(format!("error: failed to connect service at {address:?}: {why}")),
        Err(_) => {
            let what = format!("timeout: failed to connect service {address:?} within {seconds}s");
            return Err(format!("{what}: context deadline exceeded"));
        }
    };
    let answered = timeout_at(deadline, call(Box::new(stream), &address, service, seconds)).await;
    let late = || RpcError { code: DEADLINE_EXCEEDED, message: "context deadline exceeded".to_owned() };
    match answered.unwrap_or_else(|_| Err(late())) {
        Ok("SERVING") => Ok(()),
        Ok(other) => Err(format!("service unhealthy (responded with {other:?})")),
        Err(err) => Err(failure_text(&err, seconds)),
    }
}

fn failure_text(RpcError { code, message }: &RpcError, seconds: u64) -> String {
    match *code {
        UNIMPLEMENTED => {
            let what = "error: this server does not implement the grpc health protocol (grpc.health.v1.Health)";
            format!("{what}: {message}")
        }
        DEADLINE_EXCEEDED => format!("timeout: health rpc did not complete within {seconds}s"),
        code => {
            let name = CODES.get(code).map_or_else(|| format!("Code({code})"), |name| (*name).to_owned());
            format!("error: health rpc probe failed: rpc error: code = {name} desc = {message}")
        }
    }
}

async fn call(stream: Box<dyn Duplex>, address: &str, service: &str, seconds: u64) -> Result<&'static str, RpcError> {
    let unavailable = |err: &hyper::Error| RpcError { code: UNAVAILABLE, message: chain(err) };
    let handshake = http2::Builder::new(Tasks).handshake(TokioIo::new(stream)).await;
    let (mut sender, connection) = handshake.map_err(|err| unavailable(&err))?;
    // It ends with the sender, at the end of this function or when the probe's time is up.
    task::spawn("grpc-probe-connection", async { drop(connection.await) });
    let request = Request::post(format!("http://{address}/grpc.health.v1.Health/Check"))
        .header(header::CONTENT_TYPE, "application/grpc")
        .header(header::TE, "trailers")
        .header(header::USER_AGENT, USER_AGENT)
        .header("grpc-timeout", format!("{seconds}S"))
        .body(Full::new(question(service)))
        .map_err(|err| RpcError { code: INTERNAL, message: err.to_string() })?;
    let response = sender.send_request(request).await.map_err(|err| unavailable(&err))?;
    read(response).await
}

async fn read(response: Response<Incoming>) -> Result<&'static str, RpcError> {
    let (head, body) = response.into_parts();
    if head.status != hyper::StatusCode::OK {
        let message = format!("unexpected HTTP status code received from server: {}", head.status);
        return Err(RpcError { code: UNKNOWN, message });
    }
    // An answer without a message has its status in the head.
    grpc_status(&head.headers).unwrap_or(Ok(()))?;
    let collected = Limited::new(body, ANSWER_MAX).collect().await;
    let collected = collected.map_err(|err| RpcError { code: UNAVAILABLE, message: chain(err.as_ref()) })?;
    let trailers = collected.trailers().cloned().unwrap_or_default();
    let missing =
        || RpcError { code: INTERNAL, message: "server closed the stream without sending trailers".to_owned() };
    grpc_status(&trailers).unwrap_or_else(|| Err(missing()))?;
    answer(&collected.to_bytes())
        .ok_or_else(|| RpcError { code: INTERNAL, message: "failed to unmarshal the received message".to_owned() })
}

/// The status that headers tell, if they do.
fn grpc_status(headers: &HeaderMap) -> Option<Result<(), RpcError>> {
    let code = headers.get("grpc-status")?.to_str().ok()?.parse().unwrap_or(UNKNOWN);
    let message = headers.get("grpc-message").map(|m| percent_decoded(m.as_bytes())).unwrap_or_default();
    Some(if code == OK { Ok(()) } else { Err(RpcError { code, message }) })
}

fn percent_decoded(text: &[u8]) -> String {
    let mut out = Vec::with_capacity(text.len());
    let mut rest = text;
    while let Some((&byte, tail)) = rest.split_first() {
        let hex = tail.get(..2).and_then(|h| std::str::from_utf8(h).ok()).and_then(|h| u8::from_str_radix(h, 16).ok());
        let (decoded, tail) = match hex.filter(|_| byte == b'%') {
            Some(decoded) => (decoded, &tail[2..]),
            None => (byte, tail),
        };
        out.push(decoded);
        rest = tail;
    }
    String::from_utf8_lossy(&out).into_owned()
}

/// `HealthCheckRequest { service = 1 }`, framed.
fn question(service: &str) -> Bytes {
    let mut message = BytesMut::new();
    if !service.is_empty() {
        message.put_u8(0x0a);
        put_varint(&mut message, service.len());
        message.put_slice(service.as_bytes());
    }
    let mut framed = BytesMut::new();
    framed.put_u8(0);
    framed.put_u32(u32::try_from(message.len()).expect("a service's name is short"));
    framed.put(message);
    framed.freeze()
}

fn put_varint(out: &mut BytesMut, mut n: usize) {
    while n > 0x7f {
        out.put_u8(u8::try_from(n & 0x7f).expect("seven bits fit") | 0x80);
        n >>= 7;
    }
    out.put_u8(u8::try_from(n).expect("seven bits fit"));
}

/// The status of a framed `HealthCheckResponse { status = 1 }`; `None` when it is not one.
fn answer(framed: &[u8]) -> Option<&'static str> {
    let (prefix, message) = framed.split_at_checked(5)?;
    let length = u32::from_be_bytes(prefix[1..].try_into().ok()?);
    if prefix[0] != 0 || usize::try_from(length).ok()? != message.len() {
        return None;
    }
    match message {
        [] => Some(SERVING_STATUS[0]),
        [0x08, status, ..] => SERVING_STATUS.get(usize::from(*status)).copied(),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use http_body_util::StreamBody;
    use hyper::{body::Frame, server::conn::http2 as server, service::service_fn};
    use std::convert::Infallible;
    use tokio::net::TcpListener;

    const BOUND: Duration = Duration::from_secs(30);

    /// A server that gives one answer and this status.
    async fn serve(answer: &'static [u8], status: &'static str) -> u16 {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let service = service_fn(move |request: Request<Incoming>| async move {
            assert_eq!(request.uri().path(), "/grpc.health.v1.Health/Check");
            let mut trailers = HeaderMap::new();
            trailers.insert("grpc-status", status.parse().unwrap());
            trailers.insert("grpc-message", "unknown%20service".parse().unwrap());
            let frames = [Ok(Frame::data(Bytes::from_static(answer))), Ok::<_, Infallible>(Frame::trailers(trailers))];
            Ok::<_, Infallible>(Response::new(StreamBody::new(futures::stream::iter(frames))))
        });
        task::spawn("test-server", async move {
            let (stream, _) = listener.accept().await.unwrap();
            drop(server::Builder::new(Tasks).serve_connection(TokioIo::new(stream), service).await);
        });
        port
    }

    #[tokio::test]
    async fn the_health_service_is_asked() {
        let missing =
            "error: this server does not implement the grpc health protocol (grpc.health.v1.Health): unknown service";
        let rpc = "error: health rpc probe failed: rpc error: code =";
        let cases: [(&[u8], &str, Result<(), String>); 6] = [
            (b"\0\0\0\0\x02\x08\x01", "0", Ok(())),
            (b"\0\0\0\0\x02\x08\x02", "0", Err("service unhealthy (responded with \"NOT_SERVING\")".into())),
            (b"\0\0\0\0\0", "0", Err("service unhealthy (responded with \"UNKNOWN\")".into())),
            (b"", "12", Err(missing.into())),
            (b"", "5", Err(format!("{rpc} NotFound desc = unknown service"))),
            (b"\0\0\0\0\x09\x08", "0", Err(format!("{rpc} Internal desc = failed to unmarshal the received message"))),
        ];
        for (answer, status, want) in cases {
            let port = serve(answer, status).await;
            assert_eq!(check("127.0.0.1", port, "shop", BOUND).await, want);
        }
    }

    #[tokio::test]
    async fn a_server_that_is_not_there_is_named() {
        let port = crate::testing::ports::free_port();
        let refused = format!("dial tcp 127.0.0.1:{port}: connect: connection refused");
        let want = format!("error: failed to connect service at \"127.0.0.1:{port}\": {refused}");
        assert_eq!(check("127.0.0.1", port, "", BOUND).await, Err(want));
    }
}

//! gRPC probes: one call of `grpc.health.v1.Health/Check`, written by hand, for its two messages have one field each.
//!
//! **Source**: `pkg/probe/grpc/grpc.go`, v1.37; `grpc.health.v1`; the gRPC protocol over HTTP/2.

use super::{USER_AGENT, dial, host_of, host_port};
use crate::base::{chain::chain, task};
use bytes::{BufMut as _, Bytes, BytesMut};
use http_body_util::{BodyExt as _, Full, Limited};
use hyper::{HeaderMap, Request, Response, body::Incoming, client::conn::http2, header};
use hyper_util::rt::TokioIo;
use k8s_openapi::api::core::v1::GRPCAction;
use std::{future::Future, net::Ipv4Addr, time::Duration};
use tokio::{net::TcpStream, time::timeout};

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

/// Runs a probe once.
pub(super) async fn check(action: &GRPCAction, pod_ip: Option<Ipv4Addr>, bound: Duration) -> Result<(), String> {
    let port = u16::try_from(action.port).map_err(|_| format!("invalid port number: {}", action.port))?;
    let host = host_of(None, pod_ip)?;
    let address = host_port(&host, port);
    let seconds = bound.as_secs();
    let started = tokio::time::Instant::now();
    let stream = match timeout(bound, dial(&host, port)).await {
        Ok(Ok(stream)) => stream,
        Ok(Err(why)) => {
            return Err(format!("error: failed to connect service at {address:?}: {why}"));
        }
        Err(_) => {
            let what = format!("timeout: failed to connect service {address:?} within {seconds}s");
            return Err(format!("{what}: context deadline exceeded"));
        }
    };
    let service = action.service.as_deref().unwrap_or_default();
    let left = bound.saturating_sub(started.elapsed());
    let call = call(stream, &address, service, seconds);
    let answered = timeout(left, call).await;
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

async fn call(stream: TcpStream, address: &str, service: &str, seconds: u64) -> Result<&'static str, RpcError> {
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

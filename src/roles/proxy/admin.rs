//! Tells about the data plane on the machine's loopback: `/healthz`, and `/metrics` in the Prometheus text format.

use super::counted::Counted;
use crate::base::{chain::chain, task};
use bytes::Bytes;
use http::{Method, Request, Response, StatusCode, header};
use http_body_util::Full;
use hyper::{server::conn::http1, service::service_fn};
use hyper_util::rt::{TokioIo, TokioTimer};
use std::{convert::Infallible, net::Ipv4Addr, sync::Arc, time::Duration};
use tokio::{
    net::{TcpListener, TcpStream},
    sync::Semaphore,
    time::{sleep, timeout},
};
use tracing::warn;

/// Clients at the same time.
const CLIENTS_MAX: usize = 16;

/// How long one may stay.
const CLIENT_PATIENCE: Duration = Duration::from_secs(30);

/// How long to wait before the port is tried again.
const RETRY: Duration = Duration::from_secs(2);

/// Serves for ever.
pub(super) async fn run(port: u16, counted: Counted) {
    let mut told = false;
    loop {
        match TcpListener::bind((Ipv4Addr::LOCALHOST, port)).await {
            Ok(listener) => return serve(listener, counted).await,
            Err(err) if !std::mem::replace(&mut told, true) => {
                warn!(component = "proxy", port, err = chain(&err), "cannot serve metrics; trying again");
            }
            Err(_) => {}
        }
        sleep(RETRY).await;
    }
}

async fn serve(listener: TcpListener, counted: Counted) {
    let clients = Arc::new(Semaphore::new(CLIENTS_MAX));
    loop {
        let Ok(permit) = Arc::clone(&clients).acquire_owned().await else { return };
        let Ok((stream, _)) = listener.accept().await else {
            sleep(RETRY).await;
            continue;
        };
        let counted = counted.clone();
        task::spawn("admin-client", async move {
            // A client that stays longer is cut off.
            timeout(CLIENT_PATIENCE, serve_client(stream, counted)).await.ok();
            drop(permit);
        });
    }
}

async fn serve_client(stream: TcpStream, counted: Counted) {
    let answer = service_fn(|request: Request<hyper::body::Incoming>| {
        let answer = answer(request.method(), request.uri().path(), &counted);
        async move { Ok::<_, Infallible>(answer) }
    });
    // However it ends, the client knows.
    http1::Builder::new().timer(TokioTimer::new()).serve_connection(TokioIo::new(stream), answer).await.ok();
}

fn answer(method: &Method, path: &str, counted: &Counted) -> Response<Full<Bytes>> {
    let (code, text) = match (method, path) {
        (&Method::GET, "/healthz") if counted.proxy.is_healthy() => (StatusCode::OK, "ok".to_owned()),
        (&Method::GET, "/healthz") => (StatusCode::INTERNAL_SERVER_ERROR, "a worker has ended".to_owned()),
        (&Method::GET, "/metrics") => (StatusCode::OK, counted.report().prometheus()),
        (&Method::GET, _) => (StatusCode::NOT_FOUND, "there are /healthz and /metrics".to_owned()),
        _ => (StatusCode::METHOD_NOT_ALLOWED, "only GET is answered".to_owned()),
    };
    let mut response = Response::new(Full::from(text));
    *response.status_mut() = code;
    let kind = header::HeaderValue::from_static("text/plain; version=0.0.4; charset=utf-8");
    response.headers_mut().insert(header::CONTENT_TYPE, kind);
    response
}

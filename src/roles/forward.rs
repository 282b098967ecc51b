//! `skiff forward`: makes connections to the ports of a pod's localhost.
//!
//! The node agent runs it beside the sandbox's program and speaks HTTP/2 with it over its standard streams (see `node::forward`): each
//! `CONNECT localhost:PORT` is a connection. It ends with its input.
//!
//! **Invariants**: a connection that fails, or is cut, ends no other; what one peer has said before its end reaches the other.

use crate::{
    base::{chain::chain, duplex::Duplex, runtime::block_on, task},
    node::forward::{CONNECTION_WINDOW, FRAME_BYTES, STREAM_WINDOW},
};
use bytes::Bytes;
use futures::{FutureExt as _, future::BoxFuture};
use http_body_util::Full;
use hyper::{Method, Request, Response, StatusCode, body::Incoming, server::conn::http2, service::service_fn};
use hyper_util::rt::TokioIo;
use std::{convert::Infallible, io, net::Ipv4Addr, net::Ipv6Addr, os::fd::AsFd as _};
use tokio::{
    io::copy_bidirectional_with_sizes,
    net::{TcpStream, unix::pipe},
};
use tracing::debug;

/// What is copied at a time.
const CHUNK_BYTES: usize = FRAME_BYTES as usize;

/// Runs tasks of a connection by the house's rules.
#[derive(Clone)]
struct Tasks;

impl<F: Future<Output = ()> + Send + 'static> hyper::rt::Executor<F> for Tasks {
    fn execute(&self, work: F) {
        drop(task::spawn("forward", work));
    }
}

/// Makes connections until the input ends.
///
/// # Errors
/// When the standard streams are no pipes.
pub fn run() -> anyhow::Result<()> {
    block_on(async {
        let input = pipe::Receiver::from_owned_fd(io::stdin().as_fd().try_clone_to_owned()?)?;
        let output = pipe::Sender::from_owned_fd(io::stdout().as_fd().try_clone_to_owned()?)?;
        serve(Box::new(tokio::io::join(input, output)), dial).await;
        anyhow::Ok(())
    })?
}

/// Answers on a stream until it ends.
async fn serve(stream: Box<dyn Duplex>, dial: Dial) {
    let served = http2::Builder::new(Tasks)
        .initial_stream_window_size(STREAM_WINDOW)
        .initial_connection_window_size(CONNECTION_WINDOW)
        .max_frame_size(FRAME_BYTES)
        .max_concurrent_streams(None)
        .serve_connection(TokioIo::new(stream), service_fn(move |request| connect(request, dial)))
        .await;
    if let Err(err) = served {
        debug!(component = "forward", err = chain(&err), "the node's connection broke");
    }
}

async fn connect(request: Request<Incoming>, dial: Dial) -> Result<Response<Full<Bytes>>, Infallible> {
    let told = |status, text: String| {
        let mut response = Response::new(Full::from(text));
        *response.status_mut() = status;
        Ok(response)
    };
    let Some(port) = request.uri().port_u16().filter(|_| request.method() == Method::CONNECT) else {
        return told(StatusCode::BAD_REQUEST, "say CONNECT localhost:PORT".to_owned());
    };
    match dial(port).await {
        Ok(stream) => {
            drop(task::spawn("forward", relay(request, stream)));
            told(StatusCode::OK, String::new())
        }
        Err(why) => told(StatusCode::BAD_GATEWAY, why),
    }
}

/// How a connection to a port is made.
type Dial = fn(u16) -> BoxFuture<'static, Result<Box<dyn Duplex>, String>>;

fn dial(port: u16) -> BoxFuture<'static, Result<Box<dyn Duplex>, String>> {
    async move {
        let stream = dial_loopback(port).await?;
        stream.set_nodelay(true).map_err(|err| err.to_string())?;
        Ok(Box::new(stream) as Box<dyn Duplex>)
    }
    .boxed()
}

/// Plays the program for the simulator: behind every port is one that gives back what it hears, and ends with who speaks.
#[cfg(test)]
pub(crate) fn play(input: tokio::io::DuplexStream, output: tokio::io::DuplexStream) {
    fn echo(_port: u16) -> BoxFuture<'static, Result<Box<dyn Duplex>, String>> {
        let (near, far) = tokio::io::duplex(CHUNK_BYTES);
        drop(task::spawn("echo", async move {
            let (mut read, mut write) = tokio::io::split(far);
            // Whoever leaves early hears no more.
            drop(tokio::io::copy(&mut read, &mut write).await);
            drop(tokio::io::AsyncWriteExt::shutdown(&mut write).await);
        }));
        futures::future::ready(Ok(Box::new(near) as Box<dyn Duplex>)).boxed()
    }
    drop(task::spawn("forward", serve(Box::new(tokio::io::join(input, output)), echo)));
}

/// A connection to a port of the loopback, the old one or the new one. The error is what users read.
///
/// Source of the text: containerd's `internal/cri/server/podsandbox/sandbox_portforward_linux.go`, 2.0.
async fn dial_loopback(port: u16) -> Result<TcpStream, String> {
    let refused = match TcpStream::connect((Ipv4Addr::LOCALHOST, port)).await {
        Ok(stream) => return Ok(stream),
        Err(err) => err,
    };
    let refused = refused.to_string().split(" (os error").next().unwrap_or_default().to_lowercase();
    TcpStream::connect((Ipv6Addr::LOCALHOST, port)).await.map_err(|_| {
        format!("failed to connect to localhost:{port} inside the pod: dial tcp4 127.0.0.1:{port}: connect: {refused}")
    })
}

async fn relay(request: Request<Incoming>, mut stream: Box<dyn Duplex>) {
    let copied = async {
        let peer = hyper::upgrade::on(request).await.map_err(io::Error::other)?;
        copy_bidirectional_with_sizes(&mut TokioIo::new(peer), &mut stream, CHUNK_BYTES, CHUNK_BYTES).await
    };
    if let Err(err) = copied.await {
        debug!(component = "forward", err = chain(&err), "a connection broke");
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use hyper::client::conn::http2 as client;
    use tokio::{
        io::{AsyncReadExt as _, AsyncWriteExt as _},
        net::TcpListener,
    };

    #[tokio::test]
    async fn connections_end_one_by_one_and_each_half_by_itself() {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
        let port = listener.local_addr().unwrap().port();
        drop(task::spawn("echo", async move {
            loop {
                let (mut stream, _) = listener.accept().await.unwrap();
                drop(task::spawn("echo", async move {
                    let mut said = Vec::new();
                    stream.read_to_end(&mut said).await.unwrap();
                    said.reverse();
                    stream.write_all(&said).await.unwrap();
                }));
            }
        }));
        let (ours, theirs) = tokio::io::duplex(4096);
        drop(task::spawn("server", serve(Box::new(theirs), dial)));
        let (mut way, connection) = client::handshake(Tasks, TokioIo::new(ours)).await.unwrap();
        drop(task::spawn("client", async move { drop(connection.await) }));
        let mut call = async |port: u16| {
            let request = Request::connect(format!("localhost:{port}")).body(Full::<Bytes>::default()).unwrap();
            way.send_request(request).await.unwrap()
        };
        let refused = call(1).await;
        assert_eq!(refused.status(), StatusCode::BAD_GATEWAY);
        let mut streams = Vec::new();
        for _ in 0..2 {
            let response = call(port).await;
            assert_eq!(response.status(), StatusCode::OK);
            streams.push(TokioIo::new(hyper::upgrade::on(response).await.unwrap()));
        }
        drop(streams.remove(0));
        let mut left = streams.remove(0);
        left.write_all(b"drawer").await.unwrap();
        left.shutdown().await.unwrap();
        let mut heard = String::new();
        left.read_to_string(&mut heard).await.unwrap();
        assert_eq!(heard, "reward");
    }
}

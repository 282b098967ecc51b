//! Connections whose bytes are moved as they are: upgraded ones (WebSockets), and TLS that does not end here.
//!
//! Run as tasks by `forward` and `serve`. An end that is silent for too long ends both.

use super::{
    body::Progress,
    forward::{CONNECT_MAX, TUNNEL_SILENCE, connect},
    live::LiveRule,
    serve::Shared,
};
use crate::net::rotation::Claim;
use hyper::upgrade::OnUpgrade;
use hyper_util::rt::TokioIo;
use std::{
    net::{IpAddr, SocketAddr},
    sync::{Arc, Mutex, PoisonError, atomic::Ordering::Relaxed},
    time::Duration,
};
use tokio::{
    io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _, split},
    net::TcpStream,
    time::{Instant, sleep_until, timeout},
};
use tracing::debug;

/// What is moved at a time.
const CHUNK_BYTES: usize = 16 * 1024;
/// How many endpoints are tried.
const TRIES_MAX: usize = 16;

/// Moves what both sides say after they have agreed on another protocol.
pub(super) async fn upgraded(
    shared: Arc<Shared>,
    (client, endpoint): (OnUpgrade, OnUpgrade),
    claim: Claim,
    patience: Duration,
) {
    let Ok(Ok(client)) = timeout(CONNECT_MAX, client).await else { return };
    let Ok(Ok(endpoint)) = timeout(CONNECT_MAX, endpoint).await else { return };
    relay(&shared, TokioIo::new(client), TokioIo::new(endpoint), claim, patience).await;
}

/// Gives a TLS client to an endpoint. `hello` is what was read of it.
pub(super) async fn passed_through(
    shared: &Shared,
    rule: &Arc<LiveRule>,
    client: TcpStream,
    address: IpAddr,
    hello: &[u8],
) {
    let mut tried: Vec<SocketAddr> = Vec::new();
    while tried.len() < TRIES_MAX {
        let Some((mut claim, _)) = rule.pick(address, None, &tried, shared.now()) else { break };
        tried.push(claim.address);
        match connect(claim.endpoint(), shared.now()).await {
            Ok(mut endpoint) => {
                if endpoint.write_all(hello).await.is_ok() {
                    claim.sent(hello.len() as u64);
                    let patience = rule.rule.options.tunnel_timeout.unwrap_or(TUNNEL_SILENCE);
                    relay(shared, client, endpoint, claim, patience).await;
                }
                return;
            }
            Err(why) => {
                debug!(component = "router", owner = %rule.rule.owner, endpoint = %claim.address, why, "no connection");
            }
        }
    }
    shared.errors.fetch_add(1, Relaxed);
}

/// Moves bytes both ways until both have ended, one failed, or nothing was said for too long. No way waits for the other.
async fn relay<C, E>(shared: &Shared, client: C, endpoint: E, claim: Claim, patience: Duration)
where
    C: AsyncRead + AsyncWrite + Unpin,
    E: AsyncRead + AsyncWrite + Unpin,
{
    let (from_client, to_client) = split(client);
    let (from_endpoint, to_endpoint) = split(endpoint);
    let (progress, claim) = (Progress::new(), Mutex::new(claim));
    let moved = |count: fn(&mut Claim, u64, u64)| {
        let (progress, claim) = (&progress, &claim);
        move |n| {
            progress.note();
            count(&mut claim.lock().unwrap_or_else(PoisonError::into_inner), n, shared.now());
        }
    };
    let up = copy(from_client, to_endpoint, moved(|claim, n, _| claim.sent(n)));
    let down = copy(from_endpoint, to_client, moved(Claim::received));
    let both = async { tokio::try_join!(up, down) };
    tokio::select! { biased;
        // However it ended, both sides see it by their closed connections.
        _ = both => {}
        () = silent(&progress, patience) => {}
    }
}

async fn copy<R, W>(mut from: R, mut to: W, count: impl Fn(u64)) -> std::io::Result<()>
where
    R: AsyncRead + Unpin,
    W: AsyncWrite + Unpin,
{
    let mut chunk = vec![0; CHUNK_BYTES];
    loop {
        let n = from.read(&mut chunk).await?;
        if n == 0 {
            return to.shutdown().await;
        }
        count(n as u64);
        to.write_all(&chunk[..n]).await?;
    }
}

/// Returns when nothing was moved for so long.
async fn silent(progress: &Progress, patience: Duration) {
    loop {
        let until = progress.last() + patience;
        if until <= Instant::now() {
            return;
        }
        sleep_until(until).await;
    }
}

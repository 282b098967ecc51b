//! Sees which endpoints accept connections, for pods that nothing else probes: a Service refuses until a program listens.
//!
//! Called by `follow`. Each endpoint is dialed until it accepts once, and never again; what it sees is an empty connection.

use crate::{
    base::{
        backoff::Backoff,
        ordered::{Map, Set},
    },
    net::table::Target,
};
use futures::{
    StreamExt as _,
    future::{AbortHandle, Abortable, join_all},
    stream::FuturesUnordered,
};
use std::{future::Future, pin::Pin, time::Duration};
use tokio::{
    net::TcpStream,
    time::{sleep, timeout},
};

/// Pauses between attempts: a program that starts is seen soon, and one that never listens costs two dials a second.
const RETRY: Backoff = Backoff { base: Duration::from_millis(10), cap: Duration::from_millis(500) };

/// How long a connection may take to be accepted.
const CONNECT_MAX: Duration = Duration::from_secs(1);

type Dial = Pin<Box<dyn Future<Output = Target> + Send>>;

/// Dials endpoints until they accept.
#[derive(Default)]
pub(super) struct Prober {
    dialed: Map<Target, AbortHandle>,
    under_way: FuturesUnordered<Abortable<Dial>>,
}

impl Prober {
    /// Dials these, and none but these.
    pub(super) fn look_at(&mut self, wanted: &Set<Target>) {
        self.dialed.retain(|target, dial| {
            let stays = wanted.contains(target);
            if !stays {
                dial.abort();
            }
            stays
        });
        for target in wanted {
            if !self.dialed.contains_key(target) {
                let (handle, registration) = AbortHandle::new_pair();
                self.under_way.push(Abortable::new(Box::pin(until_it_accepts(target.clone())), registration));
                self.dialed.insert(target.clone(), handle);
            }
        }
    }

    /// The next endpoint that has accepted a connection.
    ///
    /// # Cancel safety
    /// Safe: what was not returned goes on.
    pub(super) async fn accepted(&mut self) -> Target {
        loop {
            match self.under_way.next().await {
                Some(Ok(target)) => {
                    self.dialed.remove(&target);
                    return target;
                }
                // It is not wanted any more.
                Some(Err(_)) => {}
                None => std::future::pending().await,
            }
        }
    }
}

async fn until_it_accepts(target: Target) -> Target {
    let mut failures = 0;
    while !accepts(&target, CONNECT_MAX).await {
        failures += 1;
        sleep(RETRY.delay(failures)).await;
    }
    target
}

/// Which of these accept a connection at once: `patience` is for all of them together.
pub(super) async fn accepting_now(targets: &Set<Target>, patience: Duration) -> Set<Target> {
    let look = |target: &Target| {
        let target = target.clone();
        async move { accepts(&target, patience).await.then_some(target) }
    };
    join_all(targets.iter().map(look)).await.into_iter().flatten().collect()
}

async fn accepts(target: &Target, patience: Duration) -> bool {
    matches!(timeout(patience, TcpStream::connect(target.address)).await, Ok(Ok(_)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::Ipv4Addr;
    use tokio::net::TcpListener;

    const PATIENCE: Duration = Duration::from_secs(20);

    fn target(listener: &TcpListener) -> Target {
        Target { address: listener.local_addr().unwrap(), pod: None }
    }

    async fn listen() -> TcpListener {
        TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap()
    }

    #[tokio::test]
    async fn an_endpoint_is_found_when_it_listens_and_is_dialed_once() {
        let first = listen().await;
        let late = target(&first);
        drop(first);
        let there = listen().await;
        let mut prober = Prober::default();
        prober.look_at(&Set::from([late.clone(), target(&there)]));
        assert_eq!(timeout(PATIENCE, prober.accepted()).await.unwrap(), target(&there));
        let second = TcpListener::bind(late.address).await.unwrap();
        assert_eq!(timeout(PATIENCE, prober.accepted()).await.unwrap(), late);
        for listener in [there, second] {
            timeout(PATIENCE, listener.accept()).await.unwrap().unwrap();
            assert!(futures::poll!(std::pin::pin!(listener.accept())).is_pending());
        }
        assert!(prober.dialed.is_empty());
    }

    #[tokio::test]
    async fn an_endpoint_that_is_not_wanted_any_more_is_not_dialed() {
        let listener = listen().await;
        let gone = target(&listener);
        drop(listener);
        let there = listen().await;
        let mut prober = Prober::default();
        prober.look_at(&Set::from([gone.clone()]));
        prober.look_at(&Set::from([target(&there)]));
        assert_eq!(timeout(PATIENCE, prober.accepted()).await.unwrap(), target(&there));
        assert!(futures::poll!(std::pin::pin!(prober.accepted())).is_pending());
        assert!(prober.under_way.is_empty());
    }

    #[tokio::test]
    async fn who_accepts_now_is_told_from_who_does_not() {
        let (there, gone) = (listen().await, listen().await);
        let both = Set::from([target(&there), target(&gone)]);
        drop(gone);
        assert_eq!(accepting_now(&both, PATIENCE).await, Set::from([target(&there)]));
    }
}

//! Keeps objects as they should be: looks whenever one of them changes, and brings about what is wanted.

use crate::{
    api::{meta::Revision, status::ApiError},
    base::{chain::chain, task::Drain},
    registry::Registry,
};
use std::{future::Future, time::Duration};
use tracing::warn;

/// How soon it is tried again what could not be written.
const RETRY: Duration = Duration::from_secs(1);

/// Runs `bring_about` now and whenever one of the keys changes, until drained.
pub(super) async fn keep<F>(registry: &Registry, keys: &[String], drain: &Drain, bring_about: impl Fn() -> F)
where
    F: Future<Output = Result<(), ApiError>>,
{
    loop {
        let seen = registry.store().revision();
        let wait = bring_about().await.err().map(|err| {
            warn!(component = "app", err = chain(&err), "objects that every cluster has cannot be written yet");
            RETRY
        });
        tokio::select! {
            biased;
            () = drain.drained() => return,
            () = changed(registry, keys, seen, wait) => {}
        }
    }
}

/// Returns when one of the keys has changed since a revision, or after the wait.
async fn changed(registry: &Registry, keys: &[String], since: Revision, wait: Option<Duration>) {
    if let Some(wait) = wait {
        return tokio::time::sleep(wait).await;
    }
    let Ok(mut watch) = registry.store().watch("", since) else { return };
    loop {
        match watch.next().await {
            Ok(change) if keys.iter().any(|key| **key == *change.key) => return,
            Ok(_) => {}
            // Changes were missed: look again.
            Err(_) => return,
        }
    }
}

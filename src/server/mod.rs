//! Level 4: HTTP. The API that kubectl and every other client see. May use `api`, `registry`, and `node` through its streams.
//!
//! A request goes `serve` → `handle` → (`auth`, `route`) → `paths` or `verbs` → registry → `print` → `respond`.
//!
//! - [`serve`](mod@serve): listeners, TLS, HTTP/1.1 and HTTP/2, drain. [`tls`]: the CA and its certificates.
//! - [`handle`](mod@handle): one request. [`auth`]: who, and may they. [`route`](mod@route): which verb on what.
//! - [`impersonate`]: as whom a request acts.
//! - [`paths`]: discovery, OpenAPI, version, health. [`verbs`]: reads and writes of objects. [`watch`]: streams of changes.
//! - [`media`] and [`codec`]: what comes in and goes out. [`print`]: objects, metadata and tables. [`options`]: queries.
//!
//! **Not here**: rules about objects (`registry`, `api/kinds`), the texts of errors (`api/status`).

pub mod auth;
pub mod codec;
pub mod discovery;
pub mod handle;
pub mod health;
pub mod impersonate;
pub mod media;
pub mod options;
mod paths;
pub mod print;
pub mod respond;
pub mod route;
pub mod serve;
#[cfg(test)]
mod tests;
pub mod tls;
mod verbs;
mod watch;

use crate::{node::streams::PodStreams, registry::Registry};
use auth::{Authorizer, FixedRules};
use health::{Metrics, ReadyReport};
use std::sync::Arc;

/// What every request needs. Clones share it.
#[derive(Clone)]
pub struct ServerState(Arc<Inner>);

struct Inner {
    registry: Registry,
    streams: Arc<dyn PodStreams>,
    ready: Arc<dyn Fn() -> ReadyReport + Send + Sync>,
    authorizer: Box<dyn Authorizer>,
    metrics: Metrics,
}

impl std::fmt::Debug for ServerState {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("ServerState").field("registry", &self.0.registry).finish_non_exhaustive()
    }
}

impl ServerState {
    /// A server over a registry. `streams` are the containers' logs; `ready` says whether the control plane is, when it is asked.
    pub fn new(
        registry: Registry,
        streams: Arc<dyn PodStreams>,
        ready: Arc<dyn Fn() -> ReadyReport + Send + Sync>,
    ) -> Self {
        let metrics = Metrics::default();
        Self(Arc::new(Inner { registry, streams, ready, authorizer: Box::new(FixedRules), metrics }))
    }

    fn registry(&self) -> &Registry {
        &self.0.registry
    }

    fn streams(&self) -> &dyn PodStreams {
        &*self.0.streams
    }

    fn ready(&self) -> ReadyReport {
        (self.0.ready)()
    }

    fn authorizer(&self) -> &dyn Authorizer {
        &*self.0.authorizer
    }

    fn metrics(&self) -> &Metrics {
        &self.0.metrics
    }

    /// Counts a watch until the count is dropped.
    fn count_watch(&self) -> health::WatchCount {
        health::WatchCount::new(self.clone())
    }
}

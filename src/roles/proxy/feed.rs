//! What the API says: lists a kind, then watches it, for ever, through every restart of the control plane.
//!
//! One feed per kind. A watch that ends is taken up where it ended; when that is too long ago, the kind is listed again.
//!
//! **Invariants**: an error is never taken for an empty list. Between two attempts there is a pause, short at first.

use super::access::AccessNow;
use crate::{
    api::agreements::{ROUTER_SECRET, SYSTEM_NAMESPACE},
    base::{backoff::Backoff, chain::chain, json::typed},
    client::{Client, ClientError, WatchEvent},
    net::router::objects::Route,
};
use http::StatusCode;
use k8s_openapi::{
    Metadata,
    api::{
        core::v1::{Secret, Service},
        discovery::v1::EndpointSlice,
        networking::v1::{Ingress, IngressClass},
    },
    apimachinery::pkg::apis::meta::v1::ObjectMeta,
};
use serde::de::DeserializeOwned;
use serde_json::Value;
use std::time::Duration;
use tokio::{
    sync::mpsc,
    time::{Instant, sleep},
};
use tracing::{debug, info, warn};

/// Pauses between attempts: a control plane that was restarted is found again at once.
const RETRY: Backoff = Backoff { base: Duration::from_millis(50), cap: Duration::from_secs(1) };

/// A watch that ends sooner counts as a failure.
const WATCH_LASTS: Duration = Duration::from_secs(1);

/// A change of one of the kinds that are followed.
#[derive(Debug)]
#[allow(clippy::large_enum_variant, reason = "changes are few and move through one short channel")]
pub(super) enum Change {
    /// Of Services.
    Services(Delta<Service>),
    /// Of EndpointSlices.
    Slices(Delta<EndpointSlice>),
    /// Of Routes.
    Routes(Delta<Route>),
    /// Of Ingresses.
    Ingresses(Delta<Ingress>),
    /// Of classes of Ingresses.
    Classes(Delta<IngressClass>),
    /// Of the Secret with the router's certificates.
    Certificates(Delta<Secret>),
}

/// A change of a kind.
#[derive(Debug)]
#[allow(clippy::large_enum_variant, reason = "changes are few and move through one short channel")]
pub(super) enum Delta<K> {
    /// These are all, as of a revision.
    All(Vec<K>, u64),
    /// This one is new or changed.
    Set(K),
    /// This one is gone.
    Gone(K),
}

/// Why a feed stopped.
#[derive(Debug)]
enum Stop {
    /// The API failed; try again.
    Failed(ClientError),
    /// The revision is too old: list again.
    TooOld,
    /// Nobody listens any more.
    Unheard,
}

impl From<ClientError> for Stop {
    fn from(err: ClientError) -> Self {
        if err.code() == Some(StatusCode::GONE) { Self::TooOld } else { Self::Failed(err) }
    }
}

/// A kind that can be followed.
pub(super) trait Kind: Metadata<Ty = ObjectMeta> + DeserializeOwned {}

impl<K: Metadata<Ty = ObjectMeta> + DeserializeOwned> Kind for K {}

/// Where the kind's objects of all namespaces are.
pub(super) fn all<K: Kind>(plural: &str) -> String {
    let root = if K::GROUP.is_empty() { "/api".to_owned() } else { format!("/apis/{}", K::GROUP) };
    format!("{root}/{}/{plural}", K::VERSION)
}

/// Where the router's certificates are: this Secret, and no other.
pub(super) fn certificates() -> String {
    format!("/api/v1/namespaces/{SYSTEM_NAMESPACE}/secrets?fieldSelector=metadata.name%3D{ROUTER_SECRET}")
}

/// Follows the objects of a collection until nobody listens.
pub(super) async fn follow<K: Kind>(
    mut access: AccessNow,
    collection: String,
    changes: mpsc::Sender<Change>,
    wrap: fn(Delta<K>) -> Change,
) {
    let client = access.borrow_and_update().client.clone();
    let mut feed = Feed { client, collection, changes, wrap, revision: None };
    let kind = K::KIND;
    let mut failures = 0;
    loop {
        let began = Instant::now();
        let advanced = tokio::select! { biased;
            Ok(()) = access.changed() => {
                feed.client = access.borrow_and_update().client.clone();
                failures = 0;
                continue;
            }
            advanced = feed.advance() => advanced,
        };
        match advanced {
            Ok(()) if began.elapsed() >= WATCH_LASTS => failures = 0,
            Ok(()) => failures += 1,
            Err(Stop::Unheard) => return,
            Err(Stop::TooOld) => {
                info!(component = "feed", kind, "the watch is too old: listing again");
                feed.revision = None;
                continue;
            }
            Err(Stop::Failed(err)) => {
                failures = if began.elapsed() >= WATCH_LASTS { 1 } else { failures + 1 };
                if failures == 1 {
                    warn!(component = "feed", kind, err = chain(&err), "the API is away: going on with what is known");
                } else {
                    debug!(component = "feed", kind, attempt = failures, err = chain(&err), "the API is still away");
                }
            }
        }
        sleep(RETRY.delay(failures)).await;
    }
}

struct Feed<K> {
    client: Client,
    /// The path of all objects.
    collection: String,
    changes: mpsc::Sender<Change>,
    wrap: fn(Delta<K>) -> Change,
    /// Where the next watch begins; nothing: a list is due.
    revision: Option<String>,
}

impl<K: Kind> Feed<K> {
    /// Lists if that is due, then watches until the watch ends.
    async fn advance(&mut self) -> Result<(), Stop> {
        let revision = match self.revision.clone() {
            Some(revision) => revision,
            None => self.list().await?,
        };
        let mut lines = self.client.watch(&self.collection, self.revision.insert(revision)).await?;
        while let Some(event) = lines.next().await? {
            self.take(event).await?;
        }
        Ok(())
    }

    async fn list(&self) -> Result<String, Stop> {
        let mut list = self.client.get(&self.collection).await?;
        let Some(revision) = list["metadata"]["resourceVersion"].as_str().map(str::to_owned) else {
            return Err(malformed("a list without revision").into());
        };
        let Value::Array(items) = list["items"].take() else { return Err(malformed("a list without items").into()) };
        let found: Vec<K> = items.into_iter().map(object).collect::<Result<_, _>>()?;
        info!(component = "feed", kind = K::KIND, objects = found.len(), revision, "listed");
        self.send(Delta::All(found, number(&revision))).await?;
        Ok(revision)
    }

    async fn take(&mut self, event: WatchEvent) -> Result<(), Stop> {
        let delta = match event {
            WatchEvent::Set(value) => Delta::Set(object::<K>(value)?),
            WatchEvent::Gone(value) => Delta::Gone(object::<K>(value)?),
            WatchEvent::Bookmark(revision) => {
                self.revision = Some(revision);
                return Ok(());
            }
        };
        if let Delta::Set(object) | Delta::Gone(object) = &delta {
            self.revision.clone_from(&object.metadata().resource_version);
        }
        self.send(delta).await
    }

    async fn send(&self, delta: Delta<K>) -> Result<(), Stop> {
        self.changes.send((self.wrap)(delta)).await.map_err(|_| Stop::Unheard)
    }
}

fn object<K: Kind>(value: Value) -> Result<K, ClientError> {
    typed(value).map_err(|err| ClientError::Malformed(err.into()))
}

fn malformed(what: &'static str) -> ClientError {
    ClientError::Malformed(what.into())
}

/// A revision as a number. The API promises no more than a text, but this one is skiff's own.
pub(super) fn number(revision: &str) -> u64 {
    revision.parse().unwrap_or_default()
}

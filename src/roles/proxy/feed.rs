//! What the API says: lists a kind, then watches it, for ever, through every restart of the control plane.
//!
//! One feed per kind. A watch that ends is taken up where it ended; when that is too long ago, the kind is listed again.
//!
//! **Invariants**: an error is never taken for an empty list. Between two attempts there is a pause, short at first.

use super::access::AccessNow;
use crate::base::{backoff::Backoff, chain::chain};
use futures::StreamExt as _;
use k8s_openapi::api::{core::v1::Service, discovery::v1::EndpointSlice};
use kube::{
    Client, Resource, ResourceExt as _,
    api::{ListParams, ObjectList, WatchEvent, WatchParams},
};
use serde::de::DeserializeOwned;
use std::{fmt::Debug, time::Duration};
use tokio::{
    sync::mpsc,
    time::{Instant, sleep},
};
use tracing::{debug, info, warn};

/// Pauses between attempts: a control plane that was restarted is found again at once.
const RETRY: Backoff = Backoff { base: Duration::from_millis(50), cap: Duration::from_secs(1) };

/// A watch that ends sooner counts as a failure.
const WATCH_LASTS: Duration = Duration::from_secs(1);

const GONE: u16 = 410;

/// A change of one of the kinds that are followed.
#[derive(Debug)]
#[allow(clippy::large_enum_variant, reason = "changes are few and move through one short channel")]
pub(super) enum Change {
    /// Of Services.
    Services(Delta<Service>),
    /// Of EndpointSlices.
    Slices(Delta<EndpointSlice>),
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
    Failed(kube::Error),
    /// The revision is too old: list again.
    TooOld,
    /// Nobody listens any more.
    Unheard,
}

impl From<kube::Error> for Stop {
    fn from(err: kube::Error) -> Self {
        match err {
            kube::Error::Api(status) if status.code == GONE => Self::TooOld,
            err => Self::Failed(err),
        }
    }
}

/// Follows a kind until nobody listens.
pub(super) async fn follow<K>(mut access: AccessNow, changes: mpsc::Sender<Change>, wrap: fn(Delta<K>) -> Change)
where
    K: Resource<DynamicType = ()> + Clone + Debug + DeserializeOwned,
{
    let client = access.borrow_and_update().client.clone();
    let mut feed = Feed { client, changes, wrap, revision: None };
    let kind = K::kind(&());
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
                info!(component = "feed", %kind, "the watch is too old: listing again");
                feed.revision = None;
                continue;
            }
            Err(Stop::Failed(err)) => {
                failures = if began.elapsed() >= WATCH_LASTS { 1 } else { failures + 1 };
                if failures == 1 {
                    warn!(component = "feed", %kind, err = chain(&err), "the API is away: going on with what is known");
                } else {
                    debug!(component = "feed", %kind, attempt = failures, err = chain(&err), "the API is still away");
                }
            }
        }
        sleep(RETRY.delay(failures)).await;
    }
}

struct Feed<K> {
    client: Client,
    changes: mpsc::Sender<Change>,
    wrap: fn(Delta<K>) -> Change,
    /// Where the next watch begins; nothing: a list is due.
    revision: Option<String>,
}

impl<K> Feed<K>
where
    K: Resource<DynamicType = ()> + Clone + Debug + DeserializeOwned,
{
    /// Lists if that is due, then watches until the watch ends.
    async fn advance(&mut self) -> Result<(), Stop> {
        let request = kube::core::Request::new(K::url_path(&(), None));
        let revision = match self.revision.clone() {
            Some(revision) => revision,
            None => self.list(&request).await?,
        };
        self.revision = Some(revision.clone());
        let watch = request.watch(&WatchParams::default(), &revision).map_err(kube::Error::BuildRequest)?;
        let events = self.client.request_events::<K>(watch).await?;
        let mut events = std::pin::pin!(events);
        while let Some(event) = events.next().await {
            self.take(event?).await?;
        }
        Ok(())
    }

    async fn list(&mut self, request: &kube::core::Request) -> Result<String, Stop> {
        let list = request.list(&ListParams::default()).map_err(kube::Error::BuildRequest)?;
        let found: ObjectList<K> = self.client.request(list).await?;
        let revision = found.metadata.resource_version.unwrap_or_default();
        info!(component = "feed", kind = %K::kind(&()), objects = found.items.len(), revision, "listed");
        self.send(Delta::All(found.items, number(&revision))).await?;
        Ok(revision)
    }

    async fn take(&mut self, event: WatchEvent<K>) -> Result<(), Stop> {
        let delta = match event {
            WatchEvent::Added(object) | WatchEvent::Modified(object) => Delta::Set(object),
            WatchEvent::Deleted(object) => Delta::Gone(object),
            WatchEvent::Bookmark(bookmark) => {
                self.revision = Some(bookmark.metadata.resource_version);
                return Ok(());
            }
            WatchEvent::Error(status) => return Err(kube::Error::Api(status).into()),
        };
        if let Delta::Set(object) | Delta::Gone(object) = &delta {
            self.revision = object.resource_version();
        }
        self.send(delta).await
    }

    async fn send(&self, delta: Delta<K>) -> Result<(), Stop> {
        self.changes.send((self.wrap)(delta)).await.map_err(|_| Stop::Unheard)
    }
}

/// A revision as a number. The API promises no more than a text, but this one is skiff's own.
pub(super) fn number(revision: &str) -> u64 {
    revision.parse().unwrap_or_default()
}

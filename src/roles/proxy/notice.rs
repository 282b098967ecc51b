//! Tells users what cannot be served: Warning Events on the Service or the Ingress. Routes have it in their status.
//!
//! Fed by `follow`, each trouble once. While the API is away the oldest waits; an Event that the API refuses is only logged.

use super::access::AccessNow;
use crate::{
    api::object::untyped,
    base::{backoff::Backoff, chain::chain, clock::Clock},
    net::{
        proxy::Problem,
        router::{plan::Rejection, table::Owner},
        table::Refusal,
    },
};
use jiff::Timestamp;
use k8s_openapi::{
    api::core::v1::{Event, EventSource, ObjectReference},
    apimachinery::pkg::apis::meta::v1::{ObjectMeta, Time},
};
use serde_json::Value;
use std::time::Duration;
use tokio::{sync::mpsc, time::sleep};
use tracing::warn;

/// Events that may wait to be written.
pub(super) const NOTICES_MAX: usize = 64;

/// The API version and kind of Services.
const SERVICE: (&str, &str) = ("v1", "Service");

/// Who reports.
const COMPONENT: &str = "skiff-proxy";

const RETRY: Backoff = Backoff { base: Duration::from_millis(100), cap: Duration::from_secs(5) };

/// Something that an object asks for and that cannot be served.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Notice {
    /// The object's API version and kind.
    of: (&'static str, &'static str),
    pub(super) namespace: String,
    pub(super) name: String,
    uid: String,
    reason: &'static str,
    pub(super) message: String,
}

impl Notice {
    /// A listener that could not be opened.
    pub(super) fn of_problem(problem: &Problem) -> Self {
        let (listener, error) = (&problem.listener, &problem.error);
        Self {
            of: SERVICE,
            namespace: listener.port.namespace.clone(),
            name: listener.port.service.clone(),
            uid: listener.service_uid.clone(),
            reason: "FailedToListen",
            message: format!("Cannot listen for the {}: {error}. Trying again until it works", listener.role.name()),
        }
    }

    /// A part of a Service that was refused.
    pub(super) fn of_refusal(refusal: &Refusal) -> Self {
        Self {
            of: SERVICE,
            namespace: refusal.namespace.clone(),
            name: refusal.service.clone(),
            uid: refusal.service_uid.clone(),
            reason: "NotServed",
            message: refusal.message.clone(),
        }
    }

    /// A part of an Ingress that is not served.
    pub(super) fn of_rejection(owner: &Owner, rejection: &Rejection) -> Self {
        Self {
            of: ("networking.k8s.io/v1", owner.kind.name()),
            namespace: owner.namespace.clone(),
            name: owner.name.clone(),
            uid: owner.uid.clone(),
            reason: rejection.reason,
            message: rejection.message.clone(),
        }
    }

    fn event(&self, now: Timestamp) -> Value {
        let event = Event {
            metadata: ObjectMeta {
                name: Some(format!("{}.{:x}", self.name, now.as_nanosecond())),
                namespace: Some(self.namespace.clone()),
                ..ObjectMeta::default()
            },
            involved_object: ObjectReference {
                api_version: Some(self.of.0.into()),
                kind: Some(self.of.1.into()),
                namespace: Some(self.namespace.clone()),
                name: Some(self.name.clone()),
                uid: Some(self.uid.clone()),
                ..ObjectReference::default()
            },
            type_: Some("Warning".into()),
            reason: Some(self.reason.into()),
            message: Some(self.message.clone()),
            source: Some(EventSource { component: Some(COMPONENT.into()), host: None }),
            reporting_component: Some(COMPONENT.into()),
            reporting_instance: Some(COMPONENT.into()),
            count: Some(1),
            first_timestamp: Some(Time(now)),
            last_timestamp: Some(Time(now)),
            ..Event::default()
        };
        untyped(&event)
    }
}

/// Writes Events until nothing comes any more.
pub(super) async fn run(access: AccessNow, clock: Clock, mut notices: mpsc::Receiver<Notice>) {
    while let Some(notice) = notices.recv().await {
        let event = notice.event(clock.now());
        let events = format!("/api/v1/namespaces/{}/events", notice.namespace);
        let mut failures = 0;
        let client = || access.borrow().client.clone();
        while let Err(err) = client().post(&events, &event).await {
            if err.code().is_some() {
                warn!(component = "proxy", err = chain(&err), "the API refuses an event");
                break;
            }
            failures += 1;
            sleep(RETRY.delay(failures)).await;
        }
    }
}

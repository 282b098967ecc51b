//! Answers for the kinds of connections: `EndpointTraffic`, and the data plane's `TrafficReport`.
//!
//! A watch gets every endpoint once, and from then on those of which something has changed, with each report.

use super::{
    Call,
    views::{entry, list, single},
};
use crate::{
    api::{status::ApiError, timeline::API_VERSION, traffic::EndpointTraffic},
    base::{json, ordered::Map},
    server::{
        codec,
        media::Offer,
        options,
        print::Printer,
        respond::{self, Response, respond},
        route::Verb,
        traffic::Told,
        websocket,
    },
};
use bytes::Bytes;
use futures::{Stream, StreamExt as _, TryStreamExt as _, stream};
use serde::Deserialize;
use serde_json::{Value, json};
use std::{io, sync::Arc, time::Duration};
use tokio::sync::watch;

/// How long a report waits for somebody who wants the next one.
const HOLD: Duration = Duration::from_secs(20);
/// How long whoever asks waits for the data plane.
const PATIENCE: Duration = Duration::from_secs(2);

#[derive(Deserialize, Default)]
#[serde(default)]
struct Report {
    endpoints: Vec<EndpointTraffic>,
}

/// Takes in what the data plane tells, and answers once it is to tell more.
pub(super) async fn report(call: &mut Call<'_>) -> Result<Response, ApiError> {
    let writing = call.writing("CreateOptions")?;
    let format = codec::body_format(&call.request.headers)?;
    let obj = codec::decode(&*call.kind, format, &call.request.body, writing.validation, &mut call.warnings)?;
    let report: Report =
        json::read(&obj.to_json()).map_err(|err| ApiError::BadRequest(format!("the report cannot be read: {err}")))?;
    let drain = call.drain.clone();
    tokio::select! { biased;
        () = drain.drained() => {}
        () = call.state.traffic().tell(report.endpoints, HOLD) => {}
    }
    let taken = json!({ "apiVersion": API_VERSION, "kind": "TrafficReport", "endpoints": [] });
    respond::value(201, call.output(Offer::Plain)?, &taken)
}

/// Answers with what the data plane tells now, and, for a watch, from now on.
pub(super) async fn endpoints(call: &mut Call<'_>) -> Result<Response, ApiError> {
    if call.info.verb == Verb::Watch {
        return watch(call);
    }
    let told = call.state.traffic().next(PATIENCE).await;
    if told.is_none() {
        call.warnings.push("the data plane does not answer: `skiff status` says more".to_owned());
    }
    let told = told.unwrap_or_default();
    let views = told.iter().filter(|endpoint| is_asked(&call.info.namespace, endpoint));
    if call.info.verb == Verb::List {
        return list(call, views.map(EndpointTraffic::object).collect());
    }
    let found = views.map(EndpointTraffic::object).find(|view| view["metadata"]["name"] == *call.info.name);
    single(call, 200, found.ok_or_else(|| ApiError::not_found(call.kind.info(), &call.info.name))?)
}

fn line(what: &str, document: &[u8]) -> Bytes {
    [format!("{{\"type\":\"{what}\",\"object\":").as_bytes(), document, b"}\n"].concat().into()
}

fn is_asked(namespace: &str, endpoint: &EndpointTraffic) -> bool {
    // Those that left for good are told of for the timelines of their pods alone.
    let is_there = endpoint.in_rotation || endpoint.active > 0;
    is_there && (namespace.is_empty() || endpoint.namespace == namespace)
}

fn watch(call: &mut Call<'_>) -> Result<Response, ApiError> {
    let output = call.output(Offer::Events)?;
    options::watch_options(&*call.kind, call.query(), None)?;
    let (printer, namespace) = (call.printer(output)?, call.info.namespace.clone());
    let tells_the_beginning = call.query().is_true("sendInitialEvents");
    let told = call.state.traffic().look();
    let events = Events { told, namespace, known: Map::new(), is_first: true, tells_the_beginning };
    let drain = call.drain.clone();
    let lines = events.into_stream(printer).take_until(Box::pin(async move { drain.drained().await }));
    if call.request.wants_websocket() {
        let messages = lines.map_ok(|bytes| websocket::Part { bytes, is_last: true });
        return websocket::events(&mut call.request, websocket::Framing::Text, messages);
    }
    Ok(respond(200, "application/json", respond::streamed(lines)))
}

/// A running watch.
struct Events {
    told: watch::Receiver<Told>,
    namespace: String,
    /// What the client knows, by namespace and name.
    known: Map<(String, String), EndpointTraffic>,
    is_first: bool,
    /// Whether a bookmark is due after the endpoints that there are.
    tells_the_beginning: bool,
}

impl Events {
    fn into_stream(self, printer: Printer) -> impl Stream<Item = io::Result<Bytes>> + Send {
        stream::unfold((self, printer), |(mut events, printer)| async move {
            loop {
                events.told.changed().await.ok()?;
                let told = Arc::clone(&events.told.borrow_and_update());
                match events.lines(&told, &printer) {
                    Ok(lines) if lines.is_empty() => {}
                    Ok(lines) => return Some((lines.into_iter().map(Ok).collect(), (events, printer))),
                    Err(err) => return Some((vec![Err(io::Error::other(err.to_string()))], (events, printer))),
                }
            }
        })
        .flat_map(|lines: Vec<io::Result<Bytes>>| stream::iter(lines))
    }

    /// The events of a report, each a line.
    fn lines(&mut self, told: &Told, printer: &Printer) -> Result<Vec<Bytes>, ApiError> {
        let mut lines = Vec::new();
        for (what, object) in self.news(told) {
            let document = printer.event(&*entry(printer.kind(), object)?, std::mem::take(&mut self.is_first))?;
            lines.push(line(what, &document));
        }
        if std::mem::take(&mut self.tells_the_beginning) {
            lines.push(line("BOOKMARK", &printer.bookmark("", true)));
        }
        Ok(lines)
    }

    /// What has changed since the report before.
    fn news(&mut self, told: &Told) -> Vec<(&'static str, Value)> {
        let now: Map<_, _> = told
            .iter()
            .filter(|endpoint| is_asked(&self.namespace, endpoint))
            .map(|endpoint| ((endpoint.namespace.clone(), endpoint.name()), endpoint.clone()))
            .collect();
        let gone =
            self.known.iter().filter(|(key, _)| !now.contains_key(*key)).map(|(_, known)| ("DELETED", known.object()));
        let mut news: Vec<_> = gone.collect();
        news.extend(now.iter().filter_map(|(key, endpoint)| match self.known.get(key) {
            None => Some(("ADDED", endpoint.object())),
            Some(known) if known != endpoint => Some(("MODIFIED", endpoint.object())),
            Some(_) => None,
        }));
        self.known = now;
        news
    }
}

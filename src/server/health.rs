//! Health and metrics: `/healthz`, `/livez`, `/readyz`, `/metrics`.
//!
//! Called by `paths`. **Source** of the texts: `k8s.io/apiserver/pkg/server/healthz/healthz.go`, v1.37.

use super::{
    ServerState,
    gate::Bound,
    respond::{Response, text},
    route::Query,
};
use crate::base::{
    exposition::{Exposition, Kind},
    ordered::Map,
};
use std::sync::{
    Mutex,
    atomic::{AtomicI64, Ordering},
};
use tracing::warn;

/// One thing that must be well.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Check {
    /// Its name, e.g. `store`.
    pub name: String,
    /// Whether it is well, or why not.
    pub result: Result<(), String>,
}

/// Whether the control plane is ready to serve, check by check.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ReadyReport {
    /// The checks, in the order in which they are shown.
    pub checks: Vec<Check>,
}

impl ReadyReport {
    /// Adds a check.
    #[must_use]
    pub fn with(mut self, name: impl Into<String>, result: Result<(), String>) -> Self {
        self.checks.push(Check { name: name.into(), result });
        self
    }

    /// Whether all is well.
    pub fn is_ready(&self) -> bool {
        self.checks.iter().all(|c| c.result.is_ok())
    }
}

/// Answers `/healthz`, `/livez` or `/readyz`, or one check below it. `None`: there is no such check.
pub fn answer(endpoint: &str, one: Option<&str>, query: &Query, report: &ReadyReport) -> Option<Response> {
    let ping = Check { name: "ping".to_owned(), result: Ok(()) };
    let all = || std::iter::once(&ping).chain(&report.checks);
    if let Some(name) = one {
        let check = all().find(|c| c.name == name)?;
        return Some(match &check.result {
            Ok(()) => text(200, "ok"),
            Err(why) => text(500, format!("internal server error: {why}\n")),
        });
    }
    let is_excluded = |c: &Check| query.all("exclude").any(|name| name == c.name);
    let mut lines = String::new();
    let mut is_well = true;
    for check in all() {
        let line = match &check.result {
            _ if is_excluded(check) => format!("[+]{} excluded: ok\n", check.name),
            Ok(()) => format!("[+]{} ok\n", check.name),
            Err(why) => {
                is_well = false;
                format!("[-]{} failed: {why}\n", check.name)
            }
        };
        lines.push_str(&line);
    }
    Some(match (is_well, query.get("verbose").is_some()) {
        (true, false) => text(200, "ok"),
        (true, true) => text(200, format!("{lines}{endpoint} check passed\n")),
        (false, _) => text(500, format!("{lines}{endpoint} check failed\n")),
    })
}

/// Counts of what the server did.
#[derive(Debug, Default)]
pub struct Metrics {
    requests: Mutex<Map<(&'static str, String, u16), Served>>,
    watches: AtomicI64,
    bounds: Mutex<Map<(Bound, &'static str), u64>>,
}

#[derive(Debug, Default)]
struct Served {
    count: u64,
    seconds: f64,
}

/// A running watch, counted until it is dropped.
#[derive(Debug)]
pub(super) struct WatchCount(ServerState);

impl WatchCount {
    /// Counts one more watch.
    pub(super) fn new(state: ServerState) -> Self {
        state.metrics().watches.fetch_add(1, Ordering::Relaxed);
        Self(state)
    }
}

impl Drop for WatchCount {
    fn drop(&mut self) {
        self.0.metrics().watches.fetch_sub(1, Ordering::Relaxed);
    }
}

impl Metrics {
    /// Counts a request that was answered. `resource` comes from the kinds table or is empty, so that clients cannot grow the map.
    pub fn count(&self, verb: &'static str, resource: &str, code: u16, seconds: f64) {
        let mut requests = self.requests.lock().expect("no one panics while counting");
        let served = requests.entry((verb, resource.to_owned(), code)).or_default();
        served.count += 1;
        served.seconds += seconds;
    }

    /// Counts what a bound has done: a newcomer `refused`, or another connection `ended` for it. The first time is told.
    pub fn bound_reached(&self, bound: Bound, done: &'static str) {
        let mut bounds = self.bounds.lock().expect("no one panics while counting");
        let count = bounds.entry((bound, done)).or_default();
        *count += 1;
        if *count == 1 {
            let bound = bound.as_str();
            warn!(
                component = "server",
                bound, done, "a bound of the API server was reached; /metrics counts how often"
            );
        }
    }

    /// The counts as Prometheus reads them.
    pub fn text(&self) -> String {
        let mut all = Exposition::default();
        self.write_requests(&mut all);
        let (name, help) = ("skiff_api_bound_reached_total", "Connections and requests that a bound refused or ended.");
        all.metric(name, Kind::Counter, help);
        let bounds = self.bounds.lock().expect("no one panics while counting");
        for bound in Bound::ALL {
            for done in ["ended", "refused"] {
                let count = bounds.get(&(bound, done)).copied().unwrap_or(0);
                all.sample(name, &[("bound", bound.as_str()), ("done", done)], count);
            }
        }
        all.metric("apiserver_longrunning_requests", Kind::Gauge, "Requests that run until somebody ends them.");
        all.sample("apiserver_longrunning_requests", &[("verb", "WATCH")], self.watches.load(Ordering::Relaxed));
        all.text()
    }

    fn write_requests(&self, all: &mut Exposition) {
        let requests = self.requests.lock().expect("no one panics while counting");
        let mut each = |name: &str, help: &str, value: &dyn Fn(&Served) -> String| {
            all.metric(name, Kind::Counter, help);
            for ((verb, resource, code), served) in &*requests {
                let (verb, code) = (verb.to_uppercase(), code.to_string());
                all.sample(name, &[("verb", &verb), ("resource", resource), ("code", &code)], value(served));
            }
        };
        each("apiserver_request_total", "Requests by verb, resource and code.", &|served| served.count.to_string());
        let help = "Seconds that requests took, together.";
        each("apiserver_request_duration_seconds_sum", help, &|served| format!("{:.6}", served.seconds));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use http_body_util::BodyExt as _;

    async fn got(one: Option<&str>, query: &str, report: &ReadyReport) -> String {
        match answer("readyz", one, &Query::parse(query), report) {
            None => "none".to_owned(),
            Some(response) => {
                let code = response.status().as_u16();
                let body = response.into_body().collect().await.unwrap().to_bytes();
                format!("{code} {}", String::from_utf8(body.to_vec()).unwrap())
            }
        }
    }

    #[tokio::test]
    async fn health_reads_as_in_kubernetes() {
        let well = ReadyReport::default().with("store", Ok(()));
        let ill = well.clone().with("engine", Err("no Docker".to_owned()));
        assert_eq!(got(None, "", &well).await, "200 ok");
        assert_eq!(got(None, "verbose", &well).await, "200 [+]ping ok\n[+]store ok\nreadyz check passed\n");
        assert_eq!(
            got(None, "", &ill).await,
            "500 [+]ping ok\n[+]store ok\n[-]engine failed: no Docker\nreadyz check failed\n"
        );
        assert_eq!(got(None, "exclude=engine", &ill).await, "200 ok");
        assert_eq!(got(Some("store"), "", &ill).await, "200 ok");
        assert_eq!(got(Some("engine"), "", &ill).await, "500 internal server error: no Docker\n");
        assert_eq!(got(Some("nothing"), "", &ill).await, "none");
        assert!(well.is_ready() && !ill.is_ready());
    }

    #[test]
    fn metrics_count_by_verb_resource_and_code() {
        let metrics = Metrics::default();
        metrics.count("get", "pods", 200, 0.5);
        metrics.count("get", "pods", 200, 0.25);
        let text = metrics.text();
        assert!(text.contains("apiserver_request_total{verb=\"GET\",resource=\"pods\",code=\"200\"} 2\n"), "{text}");
        assert!(
            text.contains("duration_seconds_sum{verb=\"GET\",resource=\"pods\",code=\"200\"} 0.750000\n"),
            "{text}"
        );
        metrics.bound_reached(Bound::Total, "refused");
        metrics.bound_reached(Bound::Total, "refused");
        let text = metrics.text();
        assert!(text.contains("skiff_api_bound_reached_total{bound=\"connections\",done=\"refused\"} 2\n"), "{text}");
        assert!(text.contains("skiff_api_bound_reached_total{bound=\"streams\",done=\"ended\"} 0\n"), "{text}");
    }
}

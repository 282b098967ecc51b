//! The HorizontalPodAutoscaler controller: sets the replicas of whatever scales by what its pods use.
//!
//! - [`replicas`]: how many a metric calls for. [`behavior`]: how fast they may change. [`decide`]: all of it, with what is told.
//!
//! It is a loop of its own and no [`Controller`](super::runtime::Controller): it does not follow changes but looks, every fifteen seconds
//! and when an autoscaler is made or changed, and what it looks at must be measured first. While there is no autoscaler nothing is
//! measured and nothing waits for a time.
//!
//! **Invariants**: one measuring serves all autoscalers of a pass; what is remembered between passes (recommendations, changes) is only ever
//! used to change less; a pass that finds the target changed under it begins again.
//! **Not here**: metrics of other APIs (Pods, Object, External), which conditions say are not served.
//!
//! **Source**: `pkg/controller/podautoscaler/horizontal.go`, v1.37.

mod behavior;
mod decide;
mod replicas;
#[cfg(test)]
mod tests;

use super::runtime::{
    Action, EventDraft, Metrics, Step, execute::Executor, is_moved, metrics::Counters, run::restarting,
};
use crate::{
    api::{
        kind::TypedKind as _,
        kinds::{horizontal_pod_autoscaler::HorizontalPodAutoscalers, pod::Pods},
        meta::ObjectKey,
        object::DynObject,
        selector::LabelSelector,
        status::ApiError,
        usage::PodUsage,
    },
    base::{
        ordered::{Map, SortList as _},
        task::Drain,
    },
    registry::{
        Registry,
        pipeline::{Part, Selection},
    },
    store::hub::Watch,
};
use async_trait::async_trait;
use behavior::Memory;
use decide::{Plan, Rescale, decide, set_condition};
use jiff::Timestamp;
use k8s_openapi::api::{
    autoscaling::v2::{CrossVersionObjectReference, HorizontalPodAutoscaler, HorizontalPodAutoscalerStatus},
    core::v1::Pod,
};
use std::{
    collections::BTreeMap,
    sync::{Arc, atomic::Ordering::Relaxed},
    time::Duration,
};
use tracing::{debug, warn};

/// How often autoscalers look. Source: `horizontal-pod-autoscaler-sync-period`.
const PERIOD: Duration = Duration::from_secs(15);
/// How often a pass begins again when the world moved under it.
const TRIES_MAX: usize = 4;
const NAME: &str = "horizontalpodautoscaler";
const EVENT_SOURCE: &str = "horizontal-pod-autoscaler";

/// Who measures what pods use.
#[async_trait]
pub trait Measures: Send + Sync + 'static {
    /// What the running pods use now.
    ///
    /// # Errors
    /// Why it cannot be told; users read it.
    async fn pods(&self) -> Result<Vec<PodUsage>, String>;
}

/// What is scaled.
#[derive(Clone, Debug)]
struct Target {
    /// Its `scale`'s `spec.replicas`.
    replicas: i32,
    /// Its pods, in key order; or the reason and the text of why they cannot be told.
    pods: Result<Vec<Arc<Pod>>, (&'static str, String)>,
}

/// All that a pass over an autoscaler depends on.
#[derive(Clone, Debug)]
struct Observed {
    hpa: Arc<HorizontalPodAutoscaler>,
    /// What is scaled, or why it cannot be.
    target: Result<Target, String>,
    /// What pods use.
    usages: Result<Arc<[PodUsage]>, String>,
    memory: Memory,
    now: Timestamp,
}

/// Runs until drained.
pub async fn run(measures: Arc<dyn Measures>, registry: Registry, metrics: Metrics, drain: Drain) {
    let counters = metrics.of(NAME);
    let begin = || {
        let executor = Executor::new(registry.clone(), EVENT_SOURCE, Arc::clone(&counters));
        let scaler =
            Autoscaler { measures: Arc::clone(&measures), registry: registry.clone(), executor, memory: Map::new() };
        let counters = Arc::clone(&counters);
        let ended = drain.clone();
        async move {
            tokio::select! {
                biased;
                () = ended.drained() => {}
                () = scaler.run(&counters) => {}
            }
        }
    };
    restarting(NAME, &counters, &registry, &drain, begin).await;
}

struct Autoscaler {
    measures: Arc<dyn Measures>,
    registry: Registry,
    executor: Executor,
    memory: Map<ObjectKey, Memory>,
}

impl Autoscaler {
    async fn run(mut self, counters: &Counters) {
        let kind = HorizontalPodAutoscalers::erased();
        loop {
            let revision = self.registry.store().revision();
            // Others wrote more in between than the store remembers: the look comes after the next try.
            let Ok(mut watch) = self.registry.watch_kind(kind, revision) else { continue };
            if self.registry.has_any(kind, "") {
                self.look(counters).await;
                let next = self.registry.clock().mono() + PERIOD;
                tokio::select! {
                    biased;
                    () = changed(&mut watch) => {}
                    () = tokio::time::sleep_until(next) => {}
                }
            } else {
                self.memory.clear();
                changed(&mut watch).await;
            }
        }
    }

    /// Looks at every autoscaler once.
    async fn look(&mut self, counters: &Counters) {
        let usages = self.measures.pods().await.map(Arc::from);
        let hpas = self.registry.api::<HorizontalPodAutoscalers>().list("").items;
        let keys: Vec<ObjectKey> = hpas.iter().map(|hpa| ObjectKey::of(&hpa.metadata)).collect();
        self.memory.retain(|key, _| keys.contains(key));
        for key in keys {
            counters.reconciles.fetch_add(1, Relaxed);
            for _ in 0..TRIES_MAX {
                if self.pass(&key, &usages).await {
                    break;
                }
            }
        }
    }

    /// A pass over an autoscaler; false when the world moved meanwhile, so that it must begin again.
    async fn pass(&mut self, key: &ObjectKey, usages: &Result<Arc<[PodUsage]>, String>) -> bool {
        let Some(hpa) = self.registry.api::<HorizontalPodAutoscalers>().get(key) else { return true };
        let found = self.find(&hpa);
        let observed = Observed {
            target: found.as_ref().map(|(target, _)| target.clone()).map_err(Clone::clone),
            hpa,
            usages: usages.clone(),
            memory: self.memory.get(key).cloned().unwrap_or_default(),
            now: self.registry.clock().now(),
        };
        let Plan { rescale, mut status, events, memory } = decide(&observed);
        let scaled = match (rescale, found) {
            (Some(rescale), Ok((_, scale))) => self.rescale(&observed, scale, &rescale, &mut status).await,
            _ => Ok(()),
        };
        if scaled.as_ref().is_err_and(is_moved) {
            return false;
        }
        self.executor.run(&[], &events).await;
        if scaled.is_ok() {
            self.memory.insert(key.clone(), memory);
        }
        self.write_status(&observed.hpa, status).await
    }

    /// Sets the target's replicas, and tells of it.
    async fn rescale(
        &self,
        observed: &Observed,
        scale: Action,
        rescale: &Rescale,
        status: &mut HorizontalPodAutoscalerStatus,
    ) -> Result<(), ApiError> {
        let mut scale = scale;
        if let Action::Update { kind, object, .. } = &mut scale {
            kind.set_scale(&mut **object, rescale.replicas);
        }
        let Rescale { replicas, reason } = rescale;
        let done = self.executor.run(&[Step::from(scale.because("scale"))], &[]).await;
        let outcome = done.results.into_iter().next().map_or(Ok(None), |step| step.result);
        let told = match outcome {
            Ok(_) => {
                let message = format!("New size: {replicas}; reason: {reason}");
                Ok(EventDraft::normal::<HorizontalPodAutoscalers>(&observed.hpa, "SuccessfulRescale", message))
            }
            Err(err) if is_moved(&err) => return Err(err),
            Err(err) => Err(err),
        };
        let (event, result) = match told {
            Ok(event) => (event, Ok(())),
            Err(err) => {
                // Nothing was scaled, so nothing of it may be said.
                *status = observed.hpa.status.clone().unwrap_or_default();
                let why = format!("the HPA controller was unable to update the target scale: {err}");
                set_condition(status, ["AbleToScale", "False", "FailedUpdateScale", &why], observed);
                let message = format!("New size: {replicas}; reason: {reason}; error: {err}");
                let event = EventDraft::warning::<HorizontalPodAutoscalers>(&observed.hpa, "FailedRescale", message);
                (event, Err(err))
            }
        };
        self.executor.run(&[], &[event]).await;
        result
    }

    /// Writes a status that differs; false when the autoscaler moved meanwhile.
    async fn write_status(&self, hpa: &HorizontalPodAutoscaler, status: HorizontalPodAutoscalerStatus) -> bool {
        if hpa.status.as_ref() == Some(&status) {
            return true;
        }
        let new = HorizontalPodAutoscaler { status: Some(status), ..hpa.clone() };
        let step = Step::from(Action::update_status::<HorizontalPodAutoscalers>(new).because("status"));
        let done = self.executor.run(&[step], &[]).await;
        match done.error() {
            None => true,
            // What was scaled stays scaled: the next pass sees it, and this one's status is written then.
            Some(err) if is_moved(err) => {
                debug!(component = "controllers", controller = NAME, %err, "an autoscaler changed meanwhile");
                false
            }
            Some(err) => {
                warn!(component = "controllers", controller = NAME, %err, "cannot write the status of an autoscaler");
                true
            }
        }
    }

    /// What an autoscaler scales, and the write that would scale it.
    fn find(&self, hpa: &HorizontalPodAutoscaler) -> Result<(Target, Action), String> {
        let reference = hpa.spec.scale_target_ref.clone();
        let namespace = hpa.metadata.namespace.clone().unwrap_or_default();
        let (kind, object) = self.scaled(&namespace, &reference)?;
        let view = kind.scale(&*object).ok_or_else(|| not_scaled(&reference))?;
        let pods = self.pods(hpa, &namespace, &view.selector);
        let target = Target { replicas: view.spec_replicas, pods };
        Ok((target, Action::Update { kind, part: Part::Main, object }))
    }

    fn scaled(
        &self,
        namespace: &str,
        reference: &CrossVersionObjectReference,
    ) -> Result<(crate::api::kind::KindRef, Box<dyn DynObject>), String> {
        let api_version = reference.api_version.as_deref().unwrap_or_default();
        let (group, version) = api_version.split_once('/').unwrap_or(("", api_version));
        let kinds = self.registry.kinds();
        let kind = kinds.by_kind(group, version, &reference.kind).cloned().ok_or_else(|| {
            let group = if group.is_empty() { "core" } else { group };
            format!(
                "unable to determine resource for scale target reference: no matches for kind {:?} in group {group:?}",
                reference.kind
            )
        })?;
        if !kind.info().subresources.iter().any(|sub| sub.name == "scale") {
            return Err(not_scaled(reference));
        }
        let key = ObjectKey::new(namespace, &reference.name);
        let entry = self.registry.entry(&*kind, &key);
        let entry = entry.ok_or_else(|| ApiError::not_found(kind.info(), &key.name).to_string())?;
        let object = kind.decode_bytes(&entry.value).map_err(|err| format!("{key} cannot be read: {err}"))?;
        Ok((kind, object))
    }

    /// The pods of a selector, unless another autoscaler has them too.
    fn pods(
        &self,
        hpa: &HorizontalPodAutoscaler,
        namespace: &str,
        text: &str,
    ) -> Result<Vec<Arc<Pod>>, (&'static str, String)> {
        if text.is_empty() {
            return Err(("SelectorRequired", "selector is required".to_owned()));
        }
        let labels = LabelSelector::parse(text).map_err(|err| {
            let why = format!("couldn't convert selector into a corresponding internal selector object: {err}");
            ("InvalidSelector", why)
        })?;
        let selection = Selection { labels, ..Selection::default() };
        let pods = self.registry.api::<Pods>().select(namespace, &selection).items;
        let mut rivals = self.rivals(hpa, namespace, &pods);
        if rivals.is_empty() {
            return Ok(pods);
        }
        rivals.push(hpa.metadata.name.clone().unwrap_or_default());
        rivals.sort_list();
        let all: Vec<String> = rivals.iter().map(|name| format!("{namespace}/{name}")).collect();
        Err((
            "AmbiguousSelector",
            format!("pods by selector {text} are controlled by multiple HPAs: [{}]", all.join(" ")),
        ))
    }

    /// The other autoscalers whose targets have one of these pods.
    fn rivals(&self, hpa: &HorizontalPodAutoscaler, namespace: &str, pods: &[Arc<Pod>]) -> Vec<String> {
        let all = self.registry.api::<HorizontalPodAutoscalers>().list(namespace).items;
        let has_one = |other: &HorizontalPodAutoscaler| {
            let reference = other.spec.scale_target_ref.clone();
            let Ok((kind, object)) = self.scaled(namespace, &reference) else { return false };
            let selector = kind.scale(&*object).map(|view| view.selector).filter(|text| !text.is_empty());
            let selector = selector.and_then(|text| LabelSelector::parse(&text).ok());
            let empty = BTreeMap::new();
            selector.is_some_and(|selector| {
                pods.iter().any(|pod| selector.matches(pod.metadata.labels.as_ref().unwrap_or(&empty)))
            })
        };
        let others = all.iter().filter(|other| other.metadata.uid != hpa.metadata.uid && has_one(other));
        others.filter_map(|other| other.metadata.name.clone()).collect()
    }
}

fn not_scaled(reference: &CrossVersionObjectReference) -> String {
    format!("the server could not find the requested resource: {} has no scale", reference.kind)
}

/// Returns when an autoscaler was made, or something but its status changed; or when changes may have been lost.
async fn changed(watch: &mut Watch) {
    let spec = |entry: &crate::store::Entry| {
        let object: serde_json::Value = serde_json::from_slice(&entry.value).unwrap_or_default();
        object.get("spec").cloned()
    };
    loop {
        let Ok(change) = watch.next().await else { return };
        match (&change.before, &change.after) {
            (Some(before), Some(after)) if spec(before) == spec(after) => {}
            (_, None) => {}
            _ => return,
        }
    }
}

//! From what was observed to what an autoscaler does: the new number of replicas, its status, its Events. Pure.
//!
//! **Source** of the order, reasons and texts: `reconcileAutoscaler`, `computeReplicasForMetrics` in
//! `pkg/controller/podautoscaler/horizontal.go`, v1.37.

use super::{
    Observed, Target,
    behavior::{self, Memory, Wish},
    replicas::{Of, Tolerances, Wanted, World, for_average, for_utilization},
};
use crate::{
    api::{kinds::horizontal_pod_autoscaler::HorizontalPodAutoscalers, quantity},
    controllers::runtime::{EventDraft, stamp},
};
use k8s_openapi::{
    api::autoscaling::v2::{
        ContainerResourceMetricStatus, CrossVersionObjectReference, HPAScalingRules, HorizontalPodAutoscaler,
        HorizontalPodAutoscalerCondition, HorizontalPodAutoscalerStatus, MetricSpec, MetricStatus, MetricTarget,
        MetricValueStatus, ResourceMetricStatus,
    },
    apimachinery::pkg::{api::resource::Quantity, apis::meta::v1::LabelSelector},
};

/// How far usage may be from the target without a step. Source: `horizontal-pod-autoscaler-tolerance`.
const TOLERANCE: f64 = 0.1;
const NO_CUSTOM_API: &str =
    "unable to fetch metrics from custom metrics API: no custom metrics API (custom.metrics.k8s.io) registered";

/// A new number of replicas, and why.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Rescale {
    pub(super) replicas: i32,
    pub(super) reason: String,
}

/// What an autoscaler does.
#[derive(Clone, Debug)]
pub(super) struct Plan {
    /// What the target is to be set to, if it changes.
    pub(super) rescale: Option<Rescale>,
    /// Its status, given that the target could be set.
    pub(super) status: HorizontalPodAutoscalerStatus,
    /// What is told at once.
    pub(super) events: Vec<EventDraft>,
    /// What it remembers.
    pub(super) memory: Memory,
}

/// Decides.
pub(super) fn decide(observed: &Observed) -> Plan {
    let mut pass = Pass {
        observed,
        plan: Plan {
            rescale: None,
            status: observed.hpa.status.clone().unwrap_or_default(),
            events: Vec::new(),
            memory: observed.memory.clone(),
        },
    };
    match &observed.target {
        Err(why) => {
            pass.warn("FailedGetScale", why.clone());
            let message = format!("the HPA controller was unable to get the target's current scale: {why}");
            pass.condition("AbleToScale", "False", "FailedGetScale", &message);
        }
        Ok(target) => pass.with_target(target),
    }
    pass.plan
}

/// The number of replicas that metrics call for, and which metric.
struct Computed {
    replicas: i32,
    metric: String,
}

/// Why a metric says nothing.
struct Failed {
    /// The reason of the condition and of the Event.
    reason: &'static str,
    /// What they say.
    error: String,
    /// The same, as it is told of all metrics together.
    whole: String,
}

struct Pass<'a> {
    observed: &'a Observed,
    plan: Plan,
}

impl Pass<'_> {
    fn hpa(&self) -> &HorizontalPodAutoscaler {
        &self.observed.hpa
    }

    fn warn(&mut self, reason: &'static str, message: String) {
        self.plan.events.push(EventDraft::warning::<HorizontalPodAutoscalers>(&self.observed.hpa, reason, message));
    }

    fn condition(&mut self, type_: &str, status: &str, reason: &str, message: &str) {
        set_condition(&mut self.plan.status, [type_, status, reason, message], self.observed);
    }

    fn with_target(&mut self, target: &Target) {
        let succeeded = "the HPA controller was able to get the target's current scale";
        self.condition("AbleToScale", "True", "SucceededGetScale", succeeded);
        let spec = self.hpa().spec.clone();
        let (now, min, max) = (self.observed.now, spec.min_replicas.unwrap_or(1), spec.max_replicas);
        let current = target.replicas;
        if self.plan.memory.recommendations.is_empty() {
            self.plan.memory.recommendations.push((now, current));
        }
        let (wanted, reason) = if current == 0 && min != 0 {
            let why = "scaling is disabled since the replica count of the target is zero";
            self.condition("ScalingActive", "False", "ScalingDisabled", why);
            return self.conclude(current, 0, None);
        } else if current > max {
            (max, "Current number of replicas above Spec.MaxReplicas".to_owned())
        } else if current < min {
            (min, "Current number of replicas below Spec.MinReplicas".to_owned())
        } else {
            let Some(computed) = self.compute(target) else {
                self.plan.status.current_replicas = Some(current);
                return;
            };
            let reason = if computed.replicas > current {
                format!("{} above target", computed.metric)
            } else {
                "All metrics below target".to_owned()
            };
            let wish = Wish { replicas: current, wanted: computed.replicas, min, max };
            let limited = behavior::limit(wish, spec.behavior.as_ref(), &mut self.plan.memory, now);
            self.condition("AbleToScale", "True", limited.able.0, limited.able.1);
            let is_limited = if limited.is_at_bound { "True" } else { "False" };
            self.condition("ScalingLimited", is_limited, limited.limit.0, limited.limit.1);
            (limited.replicas, reason)
        };
        let rescale = (wanted != current).then_some(Rescale { replicas: wanted, reason });
        self.conclude(current, wanted, rescale);
    }

    fn conclude(&mut self, current: i32, desired: i32, rescale: Option<Rescale>) {
        if let Some(rescale) = &rescale {
            let message = format!("the HPA controller was able to update the target scale to {}", rescale.replicas);
            self.condition("AbleToScale", "True", "SucceededRescale", &message);
            self.plan.status.last_scale_time = Some(stamp(self.observed.now));
            if self.hpa().spec.behavior.is_some() {
                self.plan.memory.changes.push((self.observed.now, rescale.replicas - current));
            }
        }
        self.plan.status.current_replicas = Some(current);
        self.plan.status.desired_replicas = desired;
        self.plan.rescale = rescale;
    }

    /// What all metrics together call for; `None`: they cannot say, which conditions and Events tell.
    fn compute(&mut self, target: &Target) -> Option<Computed> {
        if let Err((reason, why)) = &target.pods {
            self.warn(reason, why.clone());
            let message = match *reason {
                "SelectorRequired" => "the HPA target's scale is missing a selector".to_owned(),
                _ => format!("the HPA was unable to compute the replica count: {why}"),
            };
            let reason = if *reason == "SelectorRequired" { "InvalidSelector" } else { reason };
            self.condition("ScalingActive", "False", reason, &message);
            self.warn("FailedComputeMetricsReplicas", why.clone());
            return None;
        }
        let specs = self.hpa().spec.metrics.clone().unwrap_or_default();
        let mut statuses = Vec::new();
        let mut best: Option<Computed> = None;
        let (mut first, mut n_failed): (Option<Failed>, usize) = (None, 0);
        for spec in &specs {
            match self.metric(target, spec) {
                Ok((computed, status)) => {
                    statuses.push(status);
                    if best.as_ref().is_none_or(|best| computed.replicas > best.replicas) {
                        best = Some(computed);
                    }
                }
                Err(failed) => {
                    self.warn(failed.reason, failed.error.clone());
                    statuses.push(MetricStatus::default());
                    n_failed += 1;
                    first.get_or_insert(failed);
                }
            }
        }
        self.plan.status.current_metrics = Some(statuses);
        let kept = best.filter(|best| n_failed == 0 || best.replicas >= target.replicas);
        let told = first.map(|failed| {
            let of = specs.len();
            let error = format!("invalid metrics ({n_failed} invalid out of {of}), first error is: {}", failed.whole);
            (failed, error)
        });
        match (kept, told) {
            // What another metric calls for is done; that one is missing was told of it.
            (Some(computed), _) => {
                let message =
                    format!("the HPA was able to successfully calculate a replica count from {}", computed.metric);
                self.condition("ScalingActive", "True", "ValidMetricFound", &message);
                Some(computed)
            }
            (None, Some((failed, error))) => {
                let message = format!("the HPA was unable to compute the replica count: {}", failed.error);
                self.condition("ScalingActive", "False", failed.reason, &message);
                self.warn("FailedComputeMetricsReplicas", error);
                None
            }
            // Without any metric there is nothing to say; defaults see to it that there is one.
            (None, None) => None,
        }
    }

    fn metric(&self, target: &Target, spec: &MetricSpec) -> Result<(Computed, MetricStatus), Failed> {
        match &*spec.type_ {
            "Resource" => {
                let source = spec.resource.clone().unwrap_or_default();
                let of = Of { resource: &source.name, container: None };
                let (computed, current) = self.resource(target, of, &source.target).map_err(|error| {
                    let whole = format!("failed to get {} resource metric value: {error}", source.name);
                    Failed { reason: "FailedGetResourceMetric", error, whole }
                })?;
                let resource = Some(ResourceMetricStatus { current, name: source.name });
                Ok((computed, MetricStatus { resource, type_: spec.type_.clone(), ..MetricStatus::default() }))
            }
            "ContainerResource" => {
                let source = spec.container_resource.clone().unwrap_or_default();
                let of = Of { resource: &source.name, container: Some(&source.container) };
                let (computed, current) = self.resource(target, of, &source.target).map_err(|error| {
                    let whole = format!("failed to get {} container metric value: {error}", source.name);
                    Failed { reason: "FailedGetContainerResourceMetric", error, whole }
                })?;
                let container_resource =
                    Some(ContainerResourceMetricStatus { container: source.container, current, name: source.name });
                let status = MetricStatus { container_resource, type_: spec.type_.clone(), ..MetricStatus::default() };
                Ok((computed, status))
            }
            _ => Err(self.foreign(spec)),
        }
    }

    /// What a metric of an API that no cluster has by itself says: that it is not there.
    ///
    /// Source of the texts: `computeReplicasForMetric` and `computeStatusFor…Metric`; `GetMetricReplicas`, `GetObjectMetricReplicas` and
    /// `GetExternalMetricReplicas` in replica_calculator.go.
    fn foreign(&self, spec: &MetricSpec) -> Failed {
        let namespace = self.hpa().metadata.namespace.as_deref().unwrap_or_default();
        match &*spec.type_ {
            "Pods" => {
                let name = spec.pods.as_ref().map(|source| &*source.metric.name).unwrap_or_default();
                let error = format!("unable to get metric {name}: {NO_CUSTOM_API}");
                let whole = format!("failed to get pods metric value: {error}");
                Failed { reason: "FailedGetPodsMetric", error, whole }
            }
            "Object" => {
                let source = spec.object.clone().unwrap_or_default();
                let CrossVersionObjectReference { kind, name, .. } = source.described_object;
                let metric = source.metric.name;
                let error = format!("unable to get metric {metric}: {kind} on {namespace} {name}/{NO_CUSTOM_API}");
                let whole = if source.target.average_value.is_some() {
                    format!("failed to get object metric value: failed to get {metric} object metric: {error}")
                } else {
                    format!("failed to get object metric value: {error}")
                };
                Failed { reason: "FailedGetObjectMetric", error, whole }
            }
            "External" => {
                let source = spec.external.clone().unwrap_or_default();
                let (name, selector) = (source.metric.name, as_go(source.metric.selector.as_ref()));
                let error = format!(
                    "unable to get external metric {namespace}/{name}/{selector}: unable to fetch metrics from external \
                     metrics API: the server could not find the requested resource (get {name}.external.metrics.k8s.io)"
                );
                let failed = if source.target.average_value.is_some() {
                    format!("failed to get {name} external metric: {error}")
                } else {
                    format!("failed to get external metric {name}: {error}")
                };
                let whole = format!("failed to get {name} external metric value: {failed}");
                Failed { reason: "FailedGetExternalMetric", error, whole }
            }
            other => {
                let error = format!("unknown metric source type {other:?}");
                Failed { reason: "InvalidMetricSourceType", whole: error.clone(), error }
            }
        }
    }

    fn resource(
        &self,
        target: &Target,
        of: Of<'_>,
        aim: &MetricTarget,
    ) -> Result<(Computed, MetricValueStatus), String> {
        let usages = self.observed.usages.as_ref();
        let usages = usages.map_err(|why| {
            let word = if aim.average_value.is_some() { "usage" } else { "utilization" };
            let failed =
                format!("failed to get {} {word}: unable to get metrics for resource {}", of.resource, of.resource);
            format!("{failed}: unable to fetch metrics from resource metrics API: {why}")
        })?;
        let pods = target.pods.as_ref().map_err(|(_, why)| why.clone())?;
        let namespace = self.hpa().metadata.namespace.as_deref().unwrap_or_default();
        let usages: Vec<_> = usages
            .iter()
            .filter(|usage| {
                usage.key.namespace == namespace
                    && pods.iter().any(|pod| pod.metadata.uid.as_deref() == Some(&*usage.uid))
            })
            .cloned()
            .collect();
        let tolerances = self.tolerances();
        let world = World { pods, usages: &usages, tolerances, replicas: target.replicas, now: self.observed.now };
        let (wanted, metric) = if let Some(average) = &aim.average_value {
            let aim = quantity::millis(average).and_then(|n| i64::try_from(n).ok()).unwrap_or(i64::MAX);
            let wanted = for_average(&world, of, aim);
            let wanted = wanted.map_err(|why| format!("failed to get {} usage: {why}", of.resource))?;
            (wanted, format!("{} resource", of.resource))
        } else if let Some(percent) = aim.average_utilization {
            let wanted = for_utilization(&world, of, percent);
            let wanted = wanted.map_err(|why| format!("failed to get {} utilization: {why}", of.resource))?;
            (wanted, format!("{} resource utilization (percentage of request)", of.resource))
        } else {
            let why = "invalid resource metric source: neither an average utilization target nor an average value \
                       (usage) target was set";
            return Err(why.to_owned());
        };
        let Wanted { replicas, utilization, average } = wanted;
        let current = MetricValueStatus {
            average_utilization: utilization,
            average_value: Some(amount(of.resource, average)),
            value: None,
        };
        Ok((Computed { replicas, metric }, current))
    }

    fn tolerances(&self) -> Tolerances {
        let behavior = self.hpa().spec.behavior.as_ref();
        let of = |rules: Option<&HPAScalingRules>| {
            rules.and_then(|rules| rules.tolerance.as_ref()).and_then(share).unwrap_or(TOLERANCE)
        };
        Tolerances {
            scale_down: of(behavior.and_then(|b| b.scale_down.as_ref())),
            scale_up: of(behavior.and_then(|b| b.scale_up.as_ref())),
        }
    }
}

/// A selector as Go prints it. Source: `LabelSelector.String`, generated.
fn as_go(selector: Option<&LabelSelector>) -> String {
    let Some(selector) = selector else { return "nil".to_owned() };
    let labels = selector.match_labels.iter().flatten().map(|(key, value)| format!("{key}: {value},"));
    let expressions = selector.match_expressions.iter().flatten().map(|e| {
        let values = e.values.as_deref().unwrap_or_default().join(" ");
        format!("LabelSelectorRequirement{{Key:{},Operator:{},Values:[{values}],}},", e.key, e.operator)
    });
    format!(
        "&LabelSelector{{MatchLabels:map[string]string{{{}}},MatchExpressions:[]LabelSelectorRequirement{{{}}},}}",
        labels.collect::<String>(),
        expressions.collect::<String>()
    )
}

/// A quantity as a share of one.
#[allow(clippy::cast_precision_loss, reason = "a tolerance has few digits")]
fn share(text: &Quantity) -> Option<f64> {
    quantity::millis(text).map(|millis| millis as f64 / 1000.0)
}

/// Thousandths of a resource as objects have them.
fn amount(resource: &str, millis: i64) -> Quantity {
    let amount = if resource == "memory" && millis % 1000 == 0 {
        quantity::Quantity::from_bytes(millis / 1000)
    } else {
        quantity::Quantity::from_millis(millis)
    };
    amount.to_text()
}

/// Sets a condition: type, status, reason, message. Its time is that of its last change of status.
pub(super) fn set_condition(
    status: &mut HorizontalPodAutoscalerStatus,
    [type_, value, reason, message]: [&str; 4],
    observed: &Observed,
) {
    let conditions = status.conditions.get_or_insert_default();
    let found = conditions.iter().position(|condition| condition.type_ == type_);
    let condition = HorizontalPodAutoscalerCondition {
        type_: type_.to_owned(),
        status: value.to_owned(),
        reason: Some(reason.to_owned()),
        message: Some(message.to_owned()),
        last_transition_time: Some(stamp(observed.now)),
        ..HorizontalPodAutoscalerCondition::default()
    };
    match found {
        None => conditions.push(condition),
        Some(at) => {
            let before = &conditions[at];
            let since = (before.status == value).then(|| before.last_transition_time.clone()).flatten();
            let last_transition_time = since.or(condition.last_transition_time.clone());
            conditions[at] = HorizontalPodAutoscalerCondition { last_transition_time, ..condition };
        }
    }
}

/// The conditions by their type, as `status reason`. For tests.
#[cfg(test)]
pub(super) fn told(status: &HorizontalPodAutoscalerStatus) -> crate::base::ordered::Map<&str, String> {
    let conditions = status.conditions.iter().flatten();
    conditions.map(|c| (&*c.type_, format!("{} {}", c.status, c.reason.as_deref().unwrap_or_default()))).collect()
}

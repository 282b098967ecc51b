//! The `eviction` of a pod.
//!
//! **Source**: `pkg/registry/core/pod/storage/eviction.go`, v1.37.

use super::{Call, delete::decode_options};
use crate::{
    api::{
        disruption::{ALLOWED, set_allowed},
        kind::{Kind as _, TypedKind as _},
        kinds::{pod::Pods, pod_disruption_budget::PodDisruptionBudgets},
        meta::ObjectKey,
        pod_state,
        status::ApiError,
    },
    base::clock::whole_seconds,
    registry::{
        Registry, check_preconditions, disruption,
        pipeline::{DeleteOptions, Part, WriteOptions, decoded},
    },
    server::{codec, media::Offer, options, paths, respond::Response},
    store::Entry,
};
use jiff::Timestamp;
use k8s_openapi::{
    api::{
        core::v1::{Pod, PodCondition},
        policy::v1::PodDisruptionBudget,
    },
    apimachinery::pkg::apis::meta::v1::Time,
};
use serde_json::Value;
use std::sync::Arc;

/// The most evictions that a budget's controller has not seen yet. Source: `MaxDisruptedPodSize`.
const DISRUPTED_MAX: usize = 2000;

/// Evicts a pod, when its budget lets it go.
pub(super) async fn create(call: &Call<'_>) -> Result<Response, ApiError> {
    let dry_run = call.writing("CreateOptions")?.write.dry_run;
    let format = codec::body_format(&call.request.headers)?;
    let body = codec::parse(format, &call.request.body, "Eviction")?.value;
    codec::check_kind(&body, "Eviction", &["policy/v1", "policy/v1beta1"])?;
    let name = body["metadata"]["name"].as_str().unwrap_or_default();
    if name != call.info.name {
        return Err(ApiError::BadRequest("name in URL does not match name in Eviction object".to_owned()));
    }
    let given = match body.get("deleteOptions") {
        None | Some(Value::Null) => Default::default(),
        Some(options) => decode_options(codec::BodyFormat::Json, options.to_string().as_bytes())?,
    };
    let mut options = options::delete_options(given)?;
    options.dry_run |= dry_run;
    evict(call.registry(), &call.key(), options).await?;
    paths::success(201, call.output(Offer::Plain)?.format, &Value::Null)
}

/// Evicts a pod, when its budget lets it go.
///
/// # Errors
/// `OverBudget`, and as a delete has them.
pub async fn evict(registry: &Registry, key: &ObjectKey, mut options: DeleteOptions) -> Result<(), ApiError> {
    let pods = registry.api::<Pods>();
    let Some(pod) = pods.get(key) else { return Err(ApiError::not_found(&Pods::INFO, &key.name)) };
    if let Some(budget) = budget_of(registry, &pod)? {
        let budget = counted(registry, budget);
        if is_free(&pod, &budget) {
            // What was looked at is what may go.
            options.resource_version = options.resource_version.or_else(|| pod.metadata.resource_version.clone());
        } else {
            pay(registry, &budget, key, options.dry_run).await?;
        }
    }
    if !options.dry_run && !goes_anyway(&pod) {
        let marked = mark(registry, key, &options).await?;
        if options.resource_version.is_some() {
            options.resource_version = Some(marked.modified.to_string());
        }
    }
    pods.delete(key, &options).await
}

/// Says in a pod why it goes, if it is still the one that the caller means.
async fn mark(registry: &Registry, key: &ObjectKey, options: &DeleteOptions) -> Result<Arc<Entry>, ApiError> {
    let now = registry.clock().now();
    let mut change = |entry: &Entry| {
        let mut pod = Pod::clone(&decoded::<Pods>(entry));
        check_preconditions(&Pods::INFO, &pod.metadata, options)?;
        set_disrupted(&mut pod, now);
        Ok(Pods::pack(pod))
    };
    registry.update(Pods::erased(), key, Part::Status, &mut change, &WriteOptions::default()).await
}

/// Whether a pod has ended, goes already or never began: no budget counts it. Source: `canIgnorePDB`.
fn goes_anyway(pod: &Pod) -> bool {
    pod_state::is_terminal(pod) || pod_state::phase(pod) == "Pending" || pod.metadata.deletion_timestamp.is_some()
}

/// The budget that counts a pod.
fn budget_of(registry: &Registry, pod: &Pod) -> Result<Option<Arc<PodDisruptionBudget>>, ApiError> {
    if goes_anyway(pod) {
        return Ok(None);
    }
    let namespace = pod.metadata.namespace.as_deref().unwrap_or_default();
    let mut budgets = registry.api::<PodDisruptionBudgets>().list(namespace).items;
    budgets.retain(|budget| {
        let labels = pod.metadata.labels.clone().unwrap_or_default();
        disruption::selector(budget).matches(&labels)
    });
    if budgets.len() > 1 {
        let why = "This pod has more than one PodDisruptionBudget, which the eviction subresource does not support.";
        return Err(ApiError::Internal(why.to_owned()));
    }
    Ok(budgets.pop())
}

/// Whether a pod that is not ready may go although nothing is left of the budget.
fn is_free(pod: &Pod, budget: &PodDisruptionBudget) -> bool {
    if pod_state::is_pod_ready(pod) {
        return false;
    }
    let policy = budget.spec.as_ref().and_then(|spec| spec.unhealthy_pod_eviction_policy.as_deref());
    let status = budget.status.clone().unwrap_or_default();
    let (healthy, desired) = (status.current_healthy.unwrap_or(0), status.desired_healthy.unwrap_or(0));
    policy == Some("AlwaysAllow") || (healthy >= desired && desired > 0)
}

/// Takes one disruption from the budget, or says why there is none. Source: `checkAndDecrement`.
async fn pay(
    registry: &Registry,
    budget: &PodDisruptionBudget,
    pod: &ObjectKey,
    dry_run: bool,
) -> Result<(), ApiError> {
    let now = Time(whole_seconds(registry.clock().now()));
    let mut take = |entry: &Entry| {
        let unreadable = |err: serde_json::Error| ApiError::Internal(format!("a budget cannot be read: {err}"));
        let budget = PodDisruptionBudgets::read(&entry.value).map_err(unreadable)?;
        let mut budget = counted(registry, Arc::new(budget));
        take_one(&mut budget, &pod.name, &now)?;
        Ok(PodDisruptionBudgets::pack(budget))
    };
    let options = WriteOptions { dry_run, ..WriteOptions::default() };
    let key = ObjectKey::of(&budget.metadata);
    registry.update(PodDisruptionBudgets::erased(), &key, Part::Status, &mut take, &options).await.map(drop)
}

/// A budget with what is counted at this moment, since its status may lag. What the status does not allow stays forbidden.
fn counted(registry: &Registry, budget: Arc<PodDisruptionBudget>) -> PodDisruptionBudget {
    let observed = disruption::observe(registry, budget);
    let (mut now, mut budget) = (disruption::count(&observed).status, PodDisruptionBudget::clone(&observed.budget));
    let said = budget.status.take().unwrap_or_default();
    now.observed_generation = said.observed_generation;
    now.disruptions_allowed = now.disruptions_allowed.min(said.disruptions_allowed).or(Some(0));
    budget.status = Some(now);
    budget
}

fn take_one(budget: &mut PodDisruptionBudget, pod: &str, now: &Time) -> Result<(), ApiError> {
    let name = budget.metadata.name.clone().unwrap_or_default();
    let generation = budget.metadata.generation.unwrap_or(0);
    let status = budget.status.get_or_insert_default();
    let refused = |cause, retry_after_secs| Err(ApiError::OverBudget { cause, retry_after_secs });
    if status.observed_generation.unwrap_or(0) < generation {
        return refused(format!("The disruption budget {name} is still being processed by the server."), Some(10));
    }
    let allowed = status.disruptions_allowed.unwrap_or(0);
    if status.disrupted_pods.as_ref().is_some_and(|pods| pods.len() > DISRUPTED_MAX) {
        let why = "DisruptedPods map too big - too many evictions not confirmed by PDB controller".to_owned();
        return Err(ApiError::Forbidden { resource: "poddisruptionbudgets.policy".to_owned(), name, why });
    }
    if allowed <= 0 {
        let failed = status.conditions.iter().flatten().find(|c| c.type_ == ALLOWED && c.reason == "SyncFailed");
        let cause = match failed {
            Some(failed) => format!(
                "The disruption budget {name} does not allow evicting pods currently because it failed sync: {}",
                failed.message
            ),
            None => format!(
                "The disruption budget {name} needs {} healthy pods and has {} currently",
                status.desired_healthy.unwrap_or(0),
                status.current_healthy.unwrap_or(0)
            ),
        };
        return refused(cause, None);
    }
    status.disruptions_allowed = Some(allowed - 1);
    status.disrupted_pods.get_or_insert_default().insert(pod.to_owned(), now.clone());
    if allowed == 1 {
        set_allowed(status, false, generation, now);
    }
    Ok(())
}

/// The condition of a pod that is evicted.
fn set_disrupted(pod: &mut Pod, now: Timestamp) {
    let condition = PodCondition {
        type_: "DisruptionTarget".to_owned(),
        status: "True".to_owned(),
        reason: Some("EvictionByEvictionAPI".to_owned()),
        message: Some("Eviction API: evicting".to_owned()),
        ..PodCondition::default()
    };
    pod_state::set_condition(pod.status.get_or_insert_default(), condition, whole_seconds(now));
}

#[cfg(test)]
mod tests {
    use super::*;

    fn now() -> Time {
        Time("2026-01-01T12:00:00Z".parse().unwrap())
    }

    fn budget(status: &str) -> PodDisruptionBudget {
        let text = format!(
            "{{metadata: {{name: b, generation: 2}}, spec: {{}}, status: {{observedGeneration: 2, expectedPods: 3, desiredHealthy: 2, {status}}}}}"
        );
        crate::testing::from_yaml(&text).unwrap()
    }

    #[test]
    fn a_budget_is_spent_one_by_one_and_says_when_it_is_over() {
        let mut b = budget("currentHealthy: 3, disruptionsAllowed: 1");
        take_one(&mut b, "web-1", &now()).unwrap();
        let status = b.status.clone().unwrap();
        assert_eq!((status.disruptions_allowed, status.disrupted_pods.unwrap().len()), (Some(0), 1));
        assert_eq!(status.conditions.unwrap()[0].reason, "InsufficientPods");
        b.status.as_mut().unwrap().current_healthy = Some(2);
        let refused = take_one(&mut b, "web-2", &now()).unwrap_err();
        let status = refused.to_status();
        assert_eq!((refused.code(), status["reason"].as_str()), (429, Some("TooManyRequests")));
        assert_eq!(
            status["details"]["causes"][0]["message"],
            "The disruption budget b needs 2 healthy pods and has 2 currently"
        );
        b.metadata.generation = Some(3);
        let refused = take_one(&mut b, "web-2", &now()).unwrap_err();
        assert_eq!(refused.retry_after_secs(), Some(10));
    }

    #[tokio::test]
    async fn an_eviction_is_of_the_pod_that_the_caller_means() {
        let registry = crate::testing::registry().await;
        let pod = "{metadata: {name: web, namespace: default}, spec: {containers: [{name: c, image: i}]}}";
        let pods = registry.api::<Pods>();
        pods.create(crate::testing::from_yaml(pod).unwrap()).await.unwrap();
        let key = ObjectKey::new("default", "web");
        let running = |pod: &mut Pod| pod.status.get_or_insert_default().phase = Some("Running".to_owned());
        let pod = pods.modify_status(&key, running).await.unwrap();
        let of =
            |version: &str| DeleteOptions { resource_version: Some(version.to_owned()), ..DeleteOptions::default() };
        let refused = evict(&registry, &key, of("1")).await.unwrap_err();
        assert_eq!(refused.code(), 409);
        let has_condition = |pod: &Pod| pod_state::is_condition_true(pod, "DisruptionTarget");
        assert!(!has_condition(&pods.get(&key).unwrap()), "nothing is said of a pod that stays");
        evict(&registry, &key, of(pod.metadata.resource_version.as_deref().unwrap())).await.unwrap();
        let going = pods.get(&key);
        assert!(going.is_none_or(|pod| has_condition(&pod) && pod.metadata.deletion_timestamp.is_some()));
    }

    #[tokio::test]
    async fn an_eviction_counts_anew_where_the_status_lags() {
        let registry = crate::testing::registry().await;
        let budgets = registry.api::<PodDisruptionBudgets>();
        let spec =
            "{metadata: {name: web, namespace: default}, spec: {minAvailable: 2, selector: {matchLabels: {app: web}}}}";
        budgets.create(crate::testing::from_yaml(spec).unwrap()).await.unwrap();
        let say = async |allowed: &str| {
            let said = format!(
                "{{observedGeneration: 1, disruptionsAllowed: {allowed}, currentHealthy: 9, desiredHealthy: 1}}"
            );
            let key = ObjectKey::new("default", "web");
            let say =
                |budget: &mut PodDisruptionBudget| budget.status = Some(crate::testing::from_yaml(&said).unwrap());
            budgets.modify_status(&key, say).await.unwrap();
        };
        let make = async |name: &str, ready: &str| {
            let pod = format!(
                "{{metadata: {{name: {name}, namespace: default, labels: {{app: web}}}}, spec: {{containers: [{{name: c, image: i}}]}}}}"
            );
            registry.api::<Pods>().create(crate::testing::from_yaml(&pod).unwrap()).await.unwrap();
            let status = format!("{{phase: Running, conditions: [{{type: Ready, status: '{ready}'}}]}}");
            let run = |pod: &mut Pod| pod.status = Some(crate::testing::from_yaml(&status).unwrap());
            registry.api::<Pods>().modify_status(&ObjectKey::new("default", name), run).await.unwrap();
        };
        let evicted = async |name: &str| {
            let outcome = evict(&registry, &ObjectKey::new("default", name), DeleteOptions::default()).await;
            outcome.map_err(|err| err.to_status()["details"]["causes"][0]["message"].as_str().unwrap().to_owned())
        };
        make("a", "True").await;
        make("b", "True").await;
        make("sick", "False").await;
        // The status says that seven are to spare.
        say("7").await;
        let needs_two = Err("The disruption budget web needs 2 healthy pods and has 2 currently".to_owned());
        assert_eq!(evicted("a").await, needs_two);
        // Who is not ready goes while enough are, whatever the status says of that.
        assert_eq!(evicted("sick").await, Ok(()));
        make("c", "True").await;
        make("d", "True").await;
        say("7").await;
        assert_eq!(evicted("a").await, Ok(()));
        assert_eq!(evicted("b").await, Ok(()));
        assert_eq!(evicted("c").await, needs_two);
        // What the status forbids stays forbidden, as in Kubernetes.
        make("e", "True").await;
        say("0").await;
        assert!(evicted("c").await.is_err());
    }

    #[test]
    fn pods_that_are_not_ready_go_as_the_policy_says() {
        let pod = |ready: &str| -> Pod {
            crate::testing::from_yaml(&format!(
                "{{status: {{phase: Running, conditions: [{{type: Ready, status: '{ready}'}}]}}}}"
            ))
            .unwrap()
        };
        let of = |healthy: i32, policy: Option<&str>| {
            let mut b = budget(&format!("currentHealthy: {healthy}, disruptionsAllowed: 0"));
            b.spec.as_mut().unwrap().unhealthy_pod_eviction_policy = policy.map(str::to_owned);
            b
        };
        for (pod, budget, expected) in [
            (pod("True"), of(3, Some("AlwaysAllow")), false),
            (pod("False"), of(1, Some("AlwaysAllow")), true),
            (pod("False"), of(1, None), false),
            (pod("False"), of(2, None), true),
            (pod("False"), of(2, Some("IfHealthyBudget")), true),
        ] {
            assert_eq!(is_free(&pod, &budget), expected, "{budget:?}");
        }
    }
}

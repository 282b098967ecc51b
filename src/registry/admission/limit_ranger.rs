//! Pods get the amounts that their namespace's LimitRanges give to containers without, and must keep to the bounds in them. So must claims,
//! with what they ask for.
//!
//! **Source**: `plugin/pkg/admission/limitranger/admission.go`, v1.37.

use super::{shown_name, untyped};
use crate::{
    api::{
        json_kind::{at, text_at},
        kind::{ErasedKind as _, KindInfo},
        kinds::{limit_range::LIMIT_RANGES, persistent_volume_claim::PERSISTENT_VOLUME_CLAIMS},
        object::{DynObject, Untyped},
        pod_resources::{Amounts, Side, of_container, of_containers},
        quantity::Quantity,
        status::ApiError,
    },
    registry::{Registry, options::Selection},
};
use k8s_openapi::{
    api::core::v1::{Container, Pod, PodSpec},
    apimachinery::pkg::{api::resource::Quantity as Text, apis::meta::v1::ObjectMeta},
};
use serde_json::{Map, Value};
use std::collections::BTreeMap;

/// The annotation that says what was given.
const ANNOTATION: &str = "kubernetes.io/limit-ranger";
/// The type of the limits of claims.
const CLAIM: &str = "PersistentVolumeClaim";

pub(super) fn review(registry: &Registry, info: &KindInfo<'_>, obj: &mut dyn DynObject) -> Result<(), ApiError> {
    let Some(pod) = obj.as_any_mut().downcast_mut::<Pod>() else { return Ok(()) };
    let limits = limits(registry, pod.metadata.namespace.as_deref().unwrap_or_default());
    let of = |kind: &str| limits.iter().filter(move |limit| text_at(limit, "type") == kind).collect::<Vec<_>>();
    let (for_containers, for_pods) = (of("Container"), of("Pod"));
    if for_containers.is_empty() && for_pods.is_empty() {
        return Ok(());
    }
    let Some(spec) = &mut pod.spec else { return Ok(()) };
    let given = give(spec, &for_containers);
    if !given.is_empty() {
        let text = format!("LimitRanger plugin set: {}", given.join("; "));
        pod.metadata.annotations.get_or_insert_default().insert(ANNOTATION.to_owned(), text);
    }
    let each = containers(spec).map(|c| (of_container(c, Side::Requests), of_container(c, Side::Limits)));
    let mut wrong: Vec<String> = each
        .flat_map(|(requests, limits)| complaints(&for_containers, "Container", &RULES, &requests, &limits))
        .collect();
    let of_pod = |side| of_containers(spec, side);
    wrong.extend(complaints(&for_pods, "Pod", &RULES, &of_pod(Side::Requests), &of_pod(Side::Limits)));
    refuse(info, &pod.metadata, &wrong)
}

/// Reviews a new claim, and one that changes and is not on its way out.
///
/// Source: `PersistentVolumeClaimValidateLimitFunc`.
pub(super) fn review_claim(registry: &Registry, info: &KindInfo<'_>, new: &dyn DynObject) -> Result<(), ApiError> {
    if info.resource() != PERSISTENT_VOLUME_CLAIMS.info().resource() || new.meta().deletion_timestamp.is_some() {
        return Ok(());
    }
    let Some(claim) = new.as_any().downcast_ref::<Untyped>() else { return Ok(()) };
    let limits = limits(registry, claim.metadata.namespace.as_deref().unwrap_or_default());
    let for_claims: Vec<_> = limits.iter().filter(|limit| text_at(limit, "type") == CLAIM).collect();
    let asked = at(&claim.rest, "spec.resources.requests").and_then(Value::as_object).into_iter().flatten();
    let amount = |(name, text): (&String, &Value)| Some((name.clone(), Quantity::parse(text.as_str()?).ok()?));
    let requests: Amounts = asked.filter_map(amount).collect();
    let rules: [(&str, Judge); 2] = [("min", |j| j.below()), ("max", |j| j.asks_too_much())];
    refuse(info, &claim.metadata, &complaints(&for_claims, CLAIM, &rules, &requests, &Amounts::default()))
}

fn refuse(info: &KindInfo<'_>, meta: &ObjectMeta, wrong: &[String]) -> Result<(), ApiError> {
    let why = match wrong {
        [] => return Ok(()),
        [one] => one.clone(),
        many => format!("[{}]", many.join(", ")),
    };
    Err(ApiError::Forbidden { resource: info.resource(), name: shown_name(meta), why })
}

/// The limits of a namespace, of all its LimitRanges.
fn limits(registry: &Registry, namespace: &str) -> Vec<Map<String, Value>> {
    let entries = registry.snapshot(&LIMIT_RANGES, namespace, &Selection::default()).entries;
    let of = |range: &Untyped| at(&range.rest, "spec.limits").and_then(Value::as_array).cloned();
    let read = |entry: &_| untyped(&LIMIT_RANGES, entry, of).flatten().unwrap_or_default();
    let all = entries.iter().flat_map(|entry| read(entry));
    all.filter_map(|limit| limit.as_object().cloned()).collect()
}

fn containers(spec: &PodSpec) -> impl Iterator<Item = &Container> {
    spec.init_containers.iter().flatten().chain(&spec.containers)
}

/// Gives containers what they lack, and says what.
fn give(spec: &mut PodSpec, limits: &[&Map<String, Value>]) -> Vec<String> {
    let mut given = Vec::new();
    let all = [("container", &mut spec.containers), ("init container", spec.init_containers.get_or_insert_default())];
    for (word, containers) in all {
        for container in containers {
            let resources = container.resources.get_or_insert_default();
            for (side, field, name) in
                [(Side::Requests, "defaultRequest", "request"), (Side::Limits, "default", "limit")]
            {
                let set = give_side(side.of_mut(resources), limits, field);
                if !set.is_empty() {
                    given.push(format!("{} {name} for {word} {}", set.join(", "), container.name));
                }
            }
        }
    }
    if spec.init_containers.as_ref().is_some_and(Vec::is_empty) {
        spec.init_containers = None;
    }
    given
}

/// Gives one side of a container's resources what it lacks; the names of what was given.
fn give_side(amounts: &mut Option<BTreeMap<String, Text>>, limits: &[&Map<String, Value>], field: &str) -> Vec<String> {
    let mut set = Vec::new();
    let defaults = limits.iter().filter_map(|limit| at(limit, field)?.as_object());
    for (name, amount) in defaults.flatten().filter_map(|(name, amount)| Some((name, amount.as_str()?))) {
        if amounts.as_ref().is_none_or(|all| !all.contains_key(name)) {
            amounts.get_or_insert_default().insert(name.clone(), Text(amount.to_owned()));
            set.push(name.clone());
        }
    }
    set
}

/// What of a pod, a container or a claim does not keep to the limits.
fn complaints(
    limits: &[&Map<String, Value>],
    kind: &str,
    rules: &[(&str, Judge)],
    requests: &Amounts,
    set: &Amounts,
) -> Vec<String> {
    let of = |limit: &Map<String, Value>, field: &str, judge: Judge| {
        let bounds = at(limit, field).and_then(Value::as_object).into_iter().flatten();
        let complaint = |(name, text): (&String, &Value)| {
            let text = text.as_str()?;
            let bound = Quantity::parse(text).ok()?;
            judge(&Judged { name, kind, bound, text, request: requests.get(name), limit: set.get(name) })
        };
        bounds.filter_map(complaint).collect::<Vec<_>>()
    };
    limits.iter().flat_map(|limit| rules.iter().flat_map(|(field, judge)| of(limit, field, *judge))).collect()
}

/// What is wrong with an amount.
type Judge = fn(&Judged<'_>) -> Option<String>;

/// The bounds of what runs, each with who judges by it.
const RULES: [(&str, Judge); 3] =
    [("min", |j| j.below()), ("max", |j| j.above()), ("maxLimitRequestRatio", |j| j.too_far())];

/// An amount beside its bound.
struct Judged<'a> {
    /// The resource.
    name: &'a str,
    /// Whose amount it is.
    kind: &'a str,
    bound: Quantity,
    /// The bound as the user wrote it.
    text: &'a str,
    request: Option<&'a Quantity>,
    limit: Option<&'a Quantity>,
}

impl Judged<'_> {
    fn below(&self) -> Option<String> {
        let head = format!("minimum {} usage per {} is {}", self.name, self.kind, self.text);
        match (self.request, self.limit) {
            (None, _) => Some(format!("{head}.  No request is specified")),
            (Some(request), _) if *request < self.bound => Some(format!("{head}, but request is {request}")),
            (_, Some(limit)) if *limit < self.bound => Some(format!("{head}, but limit is {limit}")),
            _ => None,
        }
    }

    fn above(&self) -> Option<String> {
        let head = format!("maximum {} usage per {} is {}", self.name, self.kind, self.text);
        match (self.request, self.limit) {
            (_, None) => Some(format!("{head}.  No limit is specified")),
            (_, Some(limit)) if *limit > self.bound => Some(format!("{head}, but limit is {limit}")),
            (Some(request), _) if *request > self.bound => Some(format!("{head}, but request is {request}")),
            _ => None,
        }
    }

    /// The same of what has no limits. Source: `maxRequestConstraint`.
    fn asks_too_much(&self) -> Option<String> {
        let head = format!("maximum {} usage per {} is {}", self.name, self.kind, self.text);
        match self.request {
            None => Some(format!("{head}.  No request is specified")),
            Some(request) if *request > self.bound => Some(format!("{head}, but request is {request}")),
            Some(_) => None,
        }
    }

    fn too_far(&self) -> Option<String> {
        let head = format!("{} max limit to request ratio per {} is {}", self.name, self.kind, self.text);
        let Some(request) = self.request.filter(|r| !r.is_zero()) else {
            return Some(format!("{head}, but no request is specified or request is 0"));
        };
        let Some(limit) = self.limit.filter(|l| !l.is_zero()) else {
            return Some(format!("{head}, but no limit is specified or limit is 0"));
        };
        let millis = |amount: &Quantity| i128::from(amount.millis());
        let is_too_far = millis(limit) * 1000 > millis(&self.bound) * millis(request);
        // Six digits, as Go prints a ratio.
        let micros = millis(limit) * 1_000_000 / millis(request).max(1);
        let ratio = format!("{}.{:06}", micros / 1_000_000, micros % 1_000_000);
        is_too_far.then(|| format!("{head}, but provided ratio is {ratio}"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        api::{kinds::pod::Pods, meta::ObjectKey},
        registry::pipeline::{Part, WriteOptions},
        testing,
    };
    use expect_test::expect;
    use serde_json::json;

    async fn limited(limits: Value) -> Registry {
        let registry = testing::registry().await;
        let range = json!({ "metadata": { "name": "l", "namespace": "default" }, "spec": { "limits": limits } });
        let range = LIMIT_RANGES.decode(range).unwrap();
        registry.create(&LIMIT_RANGES, "default", range, &WriteOptions::default()).await.unwrap();
        registry
    }

    async fn made(registry: &Registry, resources: Value) -> Result<Value, String> {
        let pod = json!({ "metadata": { "generateName": "p-", "namespace": "default" },
            "spec": { "containers": [{ "name": "c", "image": "i", "resources": resources }] } });
        let made = registry.api::<Pods>().create(serde_json::from_value(pod).unwrap()).await;
        made.map(|pod| serde_json::to_value(&*pod).unwrap()).map_err(|err| err.to_string())
    }

    #[tokio::test]
    async fn containers_get_what_they_lack() {
        let registry =
            limited(json!([{ "type": "Container", "max": { "cpu": "2" }, "default": { "memory": "64Mi" } }])).await;
        let pod = made(&registry, json!({ "requests": { "cpu": "100m" } })).await.unwrap();
        let resources = &pod["spec"]["containers"][0]["resources"];
        assert_eq!(
            *resources,
            json!({ "requests": { "cpu": "100m", "memory": "64Mi" }, "limits": { "cpu": "2", "memory": "64Mi" } })
        );
        assert_eq!(
            pod["metadata"]["annotations"][ANNOTATION],
            "LimitRanger plugin set: memory request for container c; cpu, memory limit for container c"
        );
        let other = testing::registry().await;
        let free = made(&other, json!({})).await.unwrap();
        assert_eq!(free["metadata"].get("annotations"), None);
    }

    #[tokio::test]
    async fn what_does_not_keep_to_the_bounds_is_refused() {
        let registry = limited(json!([
            { "type": "Container", "min": { "cpu": "100m" }, "max": { "cpu": "1" }, "maxLimitRequestRatio": { "memory": "2" } },
            { "type": "Pod", "max": { "memory": "1Gi" } },
        ]))
        .await;
        let mut said = Vec::new();
        for resources in [
            json!({ "requests": { "cpu": "50m", "memory": "1Gi" }, "limits": { "cpu": "2", "memory": "3Gi" } }),
            json!({ "requests": { "cpu": "200m" }, "limits": { "cpu": "1" } }),
        ] {
            said.push(made(&registry, resources).await.unwrap_err());
        }
        expect![[r#"
            pods "p-" is forbidden: [minimum cpu usage per Container is 100m, but request is 50m, maximum cpu usage per Container is 1, but limit is 2, memory max limit to request ratio per Container is 2, but provided ratio is 3.000000, maximum memory usage per Pod is 1Gi, but limit is 3Gi]
            pods "p-" is forbidden: [memory max limit to request ratio per Container is 2, but no request is specified or request is 0, maximum memory usage per Pod is 1Gi.  No limit is specified]"#]].assert_eq(&said.join("\n"));
        made(&registry, json!({ "requests": { "memory": "512Mi" }, "limits": { "memory": "1Gi" } })).await.unwrap();
    }

    #[tokio::test]
    async fn a_claim_asks_for_what_its_bounds_allow() {
        let bounds = json!({ "min": { "storage": "1Gi" }, "max": { "storage": "2Gi" } });
        let registry = limited(json!([{ "type": CLAIM, "min": bounds["min"], "max": bounds["max"] }])).await;
        let claim = |asked: &str| {
            let spec = json!({ "accessModes": ["ReadWriteOnce"], "resources": { "requests": { "storage": asked } } });
            let metadata = json!({ "name": "data", "namespace": "default" });
            PERSISTENT_VOLUME_CLAIMS.decode(json!({ "metadata": metadata, "spec": spec })).unwrap()
        };
        let options = WriteOptions::default();
        let make = async |asked: &str| {
            let made = registry.create(&PERSISTENT_VOLUME_CLAIMS, "default", claim(asked), &options).await;
            made.map(|_| ()).map_err(|err| err.to_string())
        };
        let said = [make("1Mi").await.unwrap_err(), make("3Gi").await.unwrap_err()];
        expect![[r#"
            persistentvolumeclaims "data" is forbidden: minimum storage usage per PersistentVolumeClaim is 1Gi, but request is 1Mi
            persistentvolumeclaims "data" is forbidden: maximum storage usage per PersistentVolumeClaim is 2Gi, but request is 3Gi"#]]
        .assert_eq(&said.join("\n"));
        make("2Gi").await.unwrap();
        // A change is judged too: of one that grows, this is said before anything else.
        let key = ObjectKey::new("default", "data");
        let mut grow = |_: &_| Ok(claim("4Gi"));
        let grown = registry.update(&PERSISTENT_VOLUME_CLAIMS, &key, Part::Main, &mut grow, &options).await;
        assert!(grown.unwrap_err().to_string().ends_with("is 2Gi, but request is 4Gi"));
    }
}

//! What objects use of what quotas limit. Pure.
//!
//! Every object of every kind counts as one `count/RESOURCE.GROUP`; [`METERS`] has the kinds that use more than that.
//! **Source**: `pkg/quota/v1/evaluator/core`, `k8s.io/apiserver/pkg/quota/v1/generic/evaluator.go`, v1.37.

use crate::{
    api::{
        json_kind::{at, text_at},
        kind::KindInfo,
        kinds::persistent_volume_claim,
        object::{DynObject, Untyped},
        pod_resources::{Amounts, Side, of_container, of_pod},
        pod_state,
        quantity::Quantity,
    },
    base::{
        clock::after,
        ordered::{self, Set},
    },
};
use jiff::{SignedDuration, Timestamp};
use k8s_openapi::api::core::v1::{Container, Pod, PodAffinityTerm, PodSpec, Service};
use serde_json::{Map, Value};

/// A condition of a quota on the objects that it counts.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Scope {
    /// Its name, e.g. `PriorityClass`.
    pub name: String,
    /// `In`, `NotIn`, `Exists` or `DoesNotExist`.
    pub operator: String,
    /// What `In` and `NotIn` compare with.
    pub values: Vec<String>,
}

impl Scope {
    /// Whether a value that an object may have is what the scope wants.
    fn takes(&self, value: Option<&str>) -> bool {
        let is_listed = || value.is_some_and(|value| self.values.iter().any(|v| v == value));
        match self.operator.as_str() {
            "In" => is_listed(),
            "NotIn" => !is_listed(),
            "DoesNotExist" => value.is_none(),
            _ => value.is_some(),
        }
    }
}

/// A kind whose objects use more than their number.
struct Meter {
    group: &'static str,
    plural: &'static str,
    is_counted_by_plural: bool,
    /// Whether its objects use what is called so.
    tracks: fn(&str) -> bool,
    /// What an object uses at this time.
    usage: fn(&dyn DynObject, Timestamp) -> Amounts,
    /// Whether a scope takes an object in.
    fits: fn(&Scope, &dyn DynObject) -> bool,
    /// What an object lacks that it must say where these are limited.
    lacks: fn(&[&str], &dyn DynObject) -> Option<String>,
    /// Whether an update may use more.
    grows: bool,
}

impl Meter {
    /// A kind that has nothing special.
    const PLAIN: Self = Self {
        group: "",
        plural: "",
        is_counted_by_plural: false,
        tracks: |_| false,
        usage: |_, _| Amounts::new(),
        fits: |_, _| false,
        lacks: |_, _| None,
        grows: false,
    };

    /// A kind whose number has a second, older name: its plural.
    const fn counted_by_plural(plural: &'static str) -> Self {
        Self { plural, is_counted_by_plural: true, ..Self::PLAIN }
    }
}

const POD_NAMES: [&str; 10] = [
    "pods",
    "cpu",
    "memory",
    "ephemeral-storage",
    "requests.cpu",
    "requests.memory",
    "requests.ephemeral-storage",
    "limits.cpu",
    "limits.memory",
    "limits.ephemeral-storage",
];
/// What containers must say where it is limited. Nothing will be added to it: upstream calls it a mistake.
const MUST_BE_SAID: [&str; 6] = ["cpu", "memory", "requests.cpu", "requests.memory", "limits.cpu", "limits.memory"];
const REQUESTS: &str = "requests.";
const HUGE_PAGES: &str = "hugepages-";
const SERVICE_NAMES: [&str; 3] = ["services", "services.nodeports", "services.loadbalancers"];
const CLAIM_NAMES: [&str; 2] = ["persistentvolumeclaims", "requests.storage"];
/// Between a storage class and what claims of that class use.
const OF_CLASS: &str = ".storageclass.storage.k8s.io/";

static METERS: [Meter; 7] = [
    Meter {
        plural: "pods",
        tracks: is_of_pods,
        usage: |obj, now| obj.as_any().downcast_ref().map(|pod| pod_usage(pod, now)).unwrap_or_default(),
        fits: |scope, obj| obj.as_any().downcast_ref().is_some_and(|pod| pod_fits(scope, pod)),
        lacks: |names, obj| pod_lacks(names, obj.as_any().downcast_ref::<Pod>()?.spec.as_ref()?),
        ..Meter::PLAIN
    },
    Meter {
        plural: "services",
        tracks: |name| SERVICE_NAMES.contains(&name),
        usage: |obj, _| obj.as_any().downcast_ref().map(service_usage).unwrap_or_default(),
        grows: true,
        ..Meter::PLAIN
    },
    Meter {
        plural: "persistentvolumeclaims",
        tracks: |name| CLAIM_NAMES.iter().any(|of| name == *of || name.ends_with(&format!("{OF_CLASS}{of}"))),
        usage: |obj, _| obj.as_any().downcast_ref().map(claim_usage).unwrap_or_default(),
        fits: |scope, obj| obj.as_any().downcast_ref().is_some_and(|claim| claim_fits(scope, claim)),
        grows: true,
        ..Meter::PLAIN
    },
    Meter::counted_by_plural("configmaps"),
    Meter::counted_by_plural("resourcequotas"),
    Meter::counted_by_plural("replicationcontrollers"),
    Meter::counted_by_plural("secrets"),
];

/// What quotas do with the objects of a kind.
pub struct Metered {
    /// `count/RESOURCE.GROUP`.
    count: String,
    meter: &'static Meter,
}

/// What the meter of a kind is, if quotas count its objects at all: those of namespaces, but for Events.
/// **Source**: `ignoredResources`, pkg/quota/v1/install/registry.go.
pub fn metered(info: &KindInfo<'_>) -> Option<Metered> {
    static PLAIN: Meter = Meter::PLAIN;
    let (group, plural) = info.stored_as.unwrap_or((info.group, info.plural));
    if !info.is_namespaced() || (group, plural) == ("", "events") || !info.verbs.contains(&"delete") {
        return None;
    }
    let count = if group.is_empty() { format!("count/{plural}") } else { format!("count/{plural}.{group}") };
    let meter = METERS.iter().find(|meter| (meter.group, meter.plural) == (group, plural)).unwrap_or(&PLAIN);
    Some(Metered { count, meter })
}

impl Metered {
    /// Whether its objects use what is called so.
    pub fn tracks(&self, name: &str) -> bool {
        name == self.count
            || (self.meter.is_counted_by_plural && name == self.meter.plural)
            || (self.meter.tracks)(name)
    }

    /// What an object uses at this time.
    pub fn usage(&self, obj: &dyn DynObject, now: Timestamp) -> Amounts {
        let mut used = (self.meter.usage)(obj, now);
        used.insert(self.count.clone(), one());
        if self.meter.is_counted_by_plural {
            used.insert(self.meter.plural.to_owned(), one());
        }
        used
    }

    /// Whether a quota with these scopes counts an object.
    pub fn fits(&self, scopes: &[Scope], obj: &dyn DynObject) -> bool {
        scopes.iter().all(|scope| (self.meter.fits)(scope, obj))
    }

    /// What an object lacks that it must say where these are limited.
    pub fn lacks(&self, limited: &[&str], obj: &dyn DynObject) -> Option<String> {
        (self.meter.lacks)(limited, obj)
    }

    /// Whether an update of an object may use more.
    pub fn grows(&self) -> bool {
        self.meter.grows
    }

    /// Whether a change of an object may change what it uses.
    pub fn depends_on_content(&self) -> bool {
        !self.meter.plural.is_empty() && !self.meter.is_counted_by_plural
    }
}

fn one() -> Quantity {
    Quantity::from_millis(1000)
}

fn is_of_pods(name: &str) -> bool {
    let is_huge = |name: &str| name.starts_with(HUGE_PAGES);
    let asked = name.strip_prefix(REQUESTS);
    POD_NAMES.contains(&name) || is_huge(name) || asked.is_some_and(|of| is_huge(of) || is_extended(of))
}

/// Whether a resource is neither Kubernetes' own nor asked for under another name.
/// **Source**: `IsExtendedResourceName`, pkg/apis/core/v1/helper/helpers.go.
fn is_extended(name: &str) -> bool {
    name.contains('/') && !name.contains("kubernetes.io/") && !name.starts_with(REQUESTS)
}

/// What of a pod counts. **Source**: `PodUsageFunc` and `podComputeUsageHelper`, evaluator/core/pods.go.
fn pod_usage(pod: &Pod, now: Timestamp) -> Amounts {
    let Some(spec) = pod.spec.as_ref().filter(|_| counts(pod, now)) else { return Amounts::new() };
    named_usage(&of_pod(spec, Side::Requests), &of_pod(spec, Side::Limits))
}

/// Whether a pod uses what it asks for: it has not ended, and is not overdue.
fn counts(pod: &Pod, now: Timestamp) -> bool {
    let meta = &pod.metadata;
    let is_overdue = meta.deletion_timestamp.as_ref().zip(meta.deletion_grace_period_seconds);
    let is_overdue = is_overdue.is_some_and(|(at, grace)| now > after(at.0, SignedDuration::from_secs(grace)));
    !pod_state::is_terminal(pod) && !is_overdue
}

/// Requests and limits under the names that quotas have for them.
fn named_usage(requests: &Amounts, limits: &Amounts) -> Amounts {
    let mut used = Amounts::from([("pods".to_owned(), one())]);
    for name in ["cpu", "memory", "ephemeral-storage"] {
        if let Some(request) = requests.get(name) {
            used.insert(name.to_owned(), *request);
            used.insert(format!("{REQUESTS}{name}"), *request);
        }
        if let Some(limit) = limits.get(name) {
            used.insert(format!("limits.{name}"), *limit);
        }
    }
    for (name, request) in requests {
        if name.starts_with(HUGE_PAGES) {
            used.insert(name.clone(), *request);
        }
        if name.starts_with(HUGE_PAGES) || is_extended(name) {
            used.insert(format!("{REQUESTS}{name}"), *request);
        }
    }
    used
}

/// **Source**: `Constraints`, evaluator/core/pods.go.
fn pod_lacks(limited: &[&str], spec: &PodSpec) -> Option<String> {
    let of_pod = spec
        .resources
        .as_ref()
        .map(|resources| Container { resources: Some(resources.clone()), ..Container::default() });
    let said = |container: &Container| {
        named_usage(&of_container(container, Side::Requests), &of_container(container, Side::Limits))
    };
    let of_pod = of_pod.map(|pod| said(&pod)).unwrap_or_default();
    let mut missing: ordered::Map<&str, Set<&str>> = ordered::Map::new();
    for container in spec.containers.iter().chain(spec.init_containers.iter().flatten()) {
        let said = said(container);
        let lacks =
            |name: &&&str| MUST_BE_SAID.contains(name) && !said.contains_key(**name) && !of_pod.contains_key(**name);
        for name in limited.iter().filter(lacks) {
            missing.entry(name).or_default().insert(&container.name);
        }
    }
    let of = |(name, containers): (&str, Set<&str>)| {
        format!("{name} for: {}", containers.into_iter().collect::<Vec<_>>().join(","))
    };
    let all: Vec<String> = missing.into_iter().map(of).collect();
    (!all.is_empty()).then(|| format!("must specify {}", all.join("; ")))
}

/// **Source**: `podMatchesScopeFunc`, evaluator/core/pods.go.
fn pod_fits(scope: &Scope, pod: &Pod) -> bool {
    let Some(spec) = &pod.spec else { return false };
    let is_terminating = spec.active_deadline_seconds.is_some_and(|seconds| seconds >= 0);
    match scope.name.as_str() {
        "Terminating" => is_terminating,
        "NotTerminating" => !is_terminating,
        "BestEffort" => pod_state::qos_class(spec) == "BestEffort",
        "NotBestEffort" => pod_state::qos_class(spec) != "BestEffort",
        "PriorityClass" => scope.takes(spec.priority_class_name.as_deref().filter(|name| !name.is_empty())),
        "CrossNamespacePodAffinity" => looks_elsewhere(spec),
        _ => false,
    }
}

/// Whether a pod's affinity speaks of other namespaces.
fn looks_elsewhere(spec: &PodSpec) -> bool {
    let Some(affinity) = &spec.affinity else { return false };
    let (near, apart) = (affinity.pod_affinity.as_ref(), affinity.pod_anti_affinity.as_ref());
    let required = near
        .and_then(|a| a.required_during_scheduling_ignored_during_execution.as_ref())
        .into_iter()
        .chain(apart.and_then(|a| a.required_during_scheduling_ignored_during_execution.as_ref()))
        .flatten();
    let preferred = near
        .and_then(|a| a.preferred_during_scheduling_ignored_during_execution.as_ref())
        .into_iter()
        .chain(apart.and_then(|a| a.preferred_during_scheduling_ignored_during_execution.as_ref()))
        .flatten();
    let is_elsewhere = |term: &PodAffinityTerm| {
        term.namespaces.as_ref().is_some_and(|all| !all.is_empty()) || term.namespace_selector.is_some()
    };
    required.chain(preferred.map(|weighted| &weighted.pod_affinity_term)).any(is_elsewhere)
}

/// **Source**: `Usage`, evaluator/core/services.go.
fn service_usage(service: &Service) -> Amounts {
    let spec = service.spec.clone().unwrap_or_default();
    let ports = spec.ports.unwrap_or_default();
    let given = || ports.iter().filter(|port| port.node_port.is_some_and(|n| n != 0)).count();
    let n_node_ports = match spec.type_.as_deref() {
        Some("LoadBalancer") if spec.allocate_load_balancer_node_ports == Some(false) => given(),
        Some("NodePort" | "LoadBalancer") => ports.len(),
        _ => 0,
    };
    let n_balancers = i64::from(spec.type_.as_deref() == Some("LoadBalancer"));
    let amount = |n: i64| Quantity::from_millis(n.saturating_mul(1000));
    let n_node_ports = i64::try_from(n_node_ports).unwrap_or(i64::MAX);
    SERVICE_NAMES.map(str::to_owned).into_iter().zip([one(), amount(n_node_ports), amount(n_balancers)]).collect()
}

/// **Source**: `Usage`, evaluator/core/persistent_volume_claims.go.
fn claim_usage(claim: &Untyped) -> Amounts {
    let quantity = |path| Quantity::parse(&text_at(&claim.rest, path)).ok();
    let wanted = quantity("spec.resources.requests.storage");
    let allocated = quantity("status.allocatedResources.storage");
    let storage = wanted.map(|wanted| allocated.map_or(wanted, |allocated| allocated.max(wanted)).rounded_to_wholes());
    let class = persistent_volume_claim::class_of(claim);
    let mut used = Amounts::new();
    for (name, amount) in CLAIM_NAMES.into_iter().zip([Some(one()), storage]) {
        let Some(amount) = amount else { continue };
        used.insert(name.to_owned(), amount);
        if !class.is_empty() {
            used.insert(format!("{class}{OF_CLASS}{name}"), amount);
        }
    }
    used
}

/// **Source**: `pvcMatchesScopeFunc`, evaluator/core/persistent_volume_claims.go.
fn claim_fits(scope: &Scope, claim: &Untyped) -> bool {
    const PATHS: [&str; 3] = [
        "spec.volumeAttributesClassName",
        "status.currentVolumeAttributesClassName",
        "status.modifyVolumeStatus.targetVolumeAttributesClassName",
    ];
    let class = |path: &&str| Some(text_at(&claim.rest, path)).filter(|class| !class.is_empty());
    let classes: Vec<String> = PATHS.iter().filter_map(class).collect();
    let is_of_classes = scope.name == "VolumeAttributesClass";
    let takes_one = classes.iter().any(|class| scope.takes(Some(class)));
    is_of_classes && (takes_one || classes.is_empty() && scope.takes(None))
}

/// The scopes of a quota's spec. **Source**: `getScopeSelectorsFromQuota`, generic/evaluator.go.
pub fn scopes_of(quota: &Map<String, Value>) -> Vec<Scope> {
    let list = |path| at(quota, path).and_then(Value::as_array).map_or(&[][..], Vec::as_slice);
    let text = |value: &Value, field: &str| value.get(field).and_then(Value::as_str).unwrap_or_default().to_owned();
    let plain = list("spec.scopes").iter().filter_map(Value::as_str);
    let plain = plain.map(|name| Scope { name: name.to_owned(), operator: "Exists".to_owned(), values: Vec::new() });
    let selected = list("spec.scopeSelector.matchExpressions").iter().map(|expression| Scope {
        name: text(expression, "scopeName"),
        operator: text(expression, "operator"),
        values: expression.get("values").and_then(Value::as_array).into_iter().flatten().filter_map(as_text).collect(),
    });
    plain.chain(selected).collect()
}

fn as_text(value: &Value) -> Option<String> {
    value.as_str().map(str::to_owned)
}

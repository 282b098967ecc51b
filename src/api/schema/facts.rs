//! What Kubernetes' schemas say and k8s-openapi's do not: how lists merge, which values a text may have.
//!
//! Shared by `build.rs`, which packs it into the schemas; nothing reads it at run time. A fact of a field that does not exist
//! fails the build. Lists without a fact are atomic: who writes one replaces it.
//!
//! **Source**: the tags `patchStrategy`, `patchMergeKey`, `+listType`, `+listMapKey`, `+mapType`, `+enum`, `+default` in
//! `k8s.io/api/*/v1/types.go` and `k8s.io/apimachinery/pkg/apis/meta/v1/types.go`, v1.37.

/// What is special about a field. `x-kubernetes-…` extensions in OpenAPI documents.
#[derive(Clone, Copy)]
pub(crate) struct Fact {
    /// `patch-merge-key`: strategic merge patches pair the items of a list by this field.
    pub merge_key: &'static str,
    /// `patch-strategy`: `merge`, `retainKeys` or both.
    pub strategy: &'static str,
    /// `list-type`: `map`, `set` or `atomic`; empty for what is no list.
    pub list_type: &'static str,
    /// `list-map-keys`: server-side apply pairs the items by these fields.
    pub map_keys: &'static [&'static str],
    /// `map-type`: whether the whole object or map has one owner.
    pub is_atomic: bool,
    /// The name of Go's type, for texts; empty when it is a plain string.
    pub go_type: &'static str,
    /// The values that a text may have.
    pub values: &'static [&'static str],
    /// The default.
    pub default: &'static str,
}

const PLAIN: Fact = Fact {
    merge_key: "",
    strategy: "",
    list_type: "",
    map_keys: &[],
    is_atomic: false,
    go_type: "",
    values: &[],
    default: "",
};

/// A list whose items merge by a key, in patches and in server-side apply.
const fn merge(key: &'static str, map_keys: &'static [&'static str]) -> Fact {
    Fact { merge_key: key, strategy: "merge", list_type: "map", map_keys, ..PLAIN }
}

/// The same, for items of which only one kind of field may be set: a patch may list the fields to keep.
const fn merge_retain(key: &'static str, map_keys: &'static [&'static str]) -> Fact {
    Fact { strategy: "merge,retainKeys", ..merge(key, map_keys) }
}

/// A list whose items merge by a key in patches only.
const fn patch_merge(key: &'static str) -> Fact {
    Fact { merge_key: key, strategy: "merge", list_type: "atomic", ..PLAIN }
}

/// A list of values, each of which it has once, and to which patches add.
const fn merge_set() -> Fact {
    Fact { strategy: "merge", list_type: "set", ..PLAIN }
}

/// A list of values, each of which it has once.
const fn set() -> Fact {
    Fact { list_type: "set", ..PLAIN }
}

/// A list whose items merge by keys in server-side apply only.
const fn map(map_keys: &'static [&'static str]) -> Fact {
    Fact { list_type: "map", map_keys, ..PLAIN }
}

/// An object of which a patch may list the fields to keep.
const fn retain_keys() -> Fact {
    Fact { strategy: "retainKeys", ..PLAIN }
}

/// An object or map that is written as a whole.
const fn atomic() -> Fact {
    Fact { is_atomic: true, ..PLAIN }
}

/// A text that is one of these values.
const fn one_of(go_type: &'static str, values: &'static [&'static str]) -> Fact {
    Fact { go_type, values, ..PLAIN }
}

/// A text that is one of these values, and this one when it is left out.
const fn one_of_or(go_type: &'static str, values: &'static [&'static str], default: &'static str) -> Fact {
    Fact { default, ..one_of(go_type, values) }
}

const CONDITIONS: (&str, Fact) = ("conditions", merge("type", &["type"]));
const PROTOCOL: (&str, Fact) = ("protocol", one_of_or("Protocol", &["SCTP", "TCP", "UDP"], "TCP"));
const TAINT_EFFECT: (&str, Fact) = ("effect", one_of("TaintEffect", &["NoExecute", "NoSchedule", "PreferNoSchedule"]));
/// An object that is written as a whole wherever it stands.
const WHOLE: &[(&str, Fact)] = &[("", atomic())];

const CONTAINER: &[(&str, Fact)] = &[
    ("env", merge("name", &["name"])),
    ("imagePullPolicy", one_of("PullPolicy", &["Always", "IfNotPresent", "Never"])),
    ("ports", merge("containerPort", &["containerPort", "protocol"])),
    ("terminationMessagePolicy", one_of("TerminationMessagePolicy", &["FallbackToLogsOnError", "File"])),
    ("volumeDevices", merge("devicePath", &["devicePath"])),
    ("volumeMounts", merge("mountPath", &["mountPath"])),
];

/// Definition → field → fact. The field `""` is the definition itself.
pub(crate) const FACTS: &[(&str, &[(&str, Fact)])] = &[
    ("io.k8s.api.apps.v1.DaemonSetStatus", &[CONDITIONS]),
    (
        "io.k8s.api.apps.v1.DaemonSetUpdateStrategy",
        &[("type", one_of("DaemonSetUpdateStrategyType", &["OnDelete", "RollingUpdate"]))],
    ),
    ("io.k8s.api.apps.v1.DeploymentSpec", &[("strategy", retain_keys())]),
    ("io.k8s.api.apps.v1.DeploymentStatus", &[CONDITIONS]),
    (
        "io.k8s.api.apps.v1.DeploymentStrategy",
        &[("type", one_of("DeploymentStrategyType", &["Recreate", "RollingUpdate"]))],
    ),
    ("io.k8s.api.apps.v1.ReplicaSetStatus", &[CONDITIONS]),
    (
        "io.k8s.api.apps.v1.StatefulSetSpec",
        &[("podManagementPolicy", one_of("PodManagementPolicyType", &["OrderedReady", "Parallel"]))],
    ),
    ("io.k8s.api.apps.v1.StatefulSetStatus", &[CONDITIONS]),
    (
        "io.k8s.api.apps.v1.StatefulSetUpdateStrategy",
        &[("type", one_of("StatefulSetUpdateStrategyType", &["OnDelete", "RollingUpdate"]))],
    ),
    (
        "io.k8s.api.core.v1.AppArmorProfile",
        &[("type", one_of("AppArmorProfileType", &["Localhost", "RuntimeDefault", "Unconfined"]))],
    ),
    ("io.k8s.api.core.v1.ConfigMapKeySelector", WHOLE),
    ("io.k8s.api.core.v1.Container", CONTAINER),
    ("io.k8s.api.core.v1.ContainerPort", &[PROTOCOL]),
    ("io.k8s.api.core.v1.ContainerRestartRuleOnExitCodes", &[("values", set())]),
    (
        "io.k8s.api.core.v1.ContainerStatus",
        &[("allocatedResourcesStatus", merge("name", &["name"])), ("volumeMounts", merge("mountPath", &["mountPath"]))],
    ),
    ("io.k8s.api.core.v1.EndpointAddress", WHOLE),
    ("io.k8s.api.core.v1.EndpointPort", &[("", atomic()), ("protocol", one_of("Protocol", &["SCTP", "TCP", "UDP"]))]),
    ("io.k8s.api.core.v1.EphemeralContainer", CONTAINER),
    ("io.k8s.api.core.v1.FileKeySelector", WHOLE),
    ("io.k8s.api.core.v1.HTTPGetAction", &[("scheme", one_of("URIScheme", &["HTTP", "HTTPS"]))]),
    (
        "io.k8s.api.core.v1.HostPathVolumeSource",
        &[(
            "type",
            one_of(
                "HostPathType",
                &["", "BlockDevice", "CharDevice", "Directory", "DirectoryOrCreate", "File", "FileOrCreate", "Socket"],
            ),
        )],
    ),
    ("io.k8s.api.core.v1.LocalObjectReference", WHOLE),
    (
        "io.k8s.api.core.v1.NamespaceStatus",
        &[CONDITIONS, ("phase", one_of("NamespacePhase", &["Active", "Terminating"]))],
    ),
    (
        "io.k8s.api.core.v1.NodeAllocatableResourceClaimStatus",
        &[("containers", set()), ("mapping", merge("name", &["name"])), ("overhead", merge("name", &["name"]))],
    ),
    ("io.k8s.api.core.v1.NodePodPreemptionPolicy", &[("disableResizePreemption", set())]),
    ("io.k8s.api.core.v1.NodeSelector", WHOLE),
    (
        "io.k8s.api.core.v1.NodeSelectorRequirement",
        &[("operator", one_of("NodeSelectorOperator", &["DoesNotExist", "Exists", "Gt", "In", "Lt", "NotIn"]))],
    ),
    ("io.k8s.api.core.v1.NodeSelectorTerm", WHOLE),
    ("io.k8s.api.core.v1.NodeSpec", &[("podCIDRs", merge_set())]),
    ("io.k8s.api.core.v1.NodeStatus", &[CONDITIONS, ("addresses", merge("type", &["type"]))]),
    ("io.k8s.api.core.v1.ObjectFieldSelector", WHOLE),
    ("io.k8s.api.core.v1.ObjectReference", WHOLE),
    (
        "io.k8s.api.core.v1.PersistentVolumeClaimStatus",
        &[CONDITIONS, ("phase", one_of("PersistentVolumeClaimPhase", &["Bound", "Lost", "Pending"]))],
    ),
    (
        "io.k8s.api.core.v1.PodSpec",
        &[
            ("containers", merge("name", &["name"])),
            ("dnsPolicy", one_of("DNSPolicy", &["ClusterFirst", "ClusterFirstWithHostNet", "Default", "None"])),
            ("ephemeralContainers", merge("name", &["name"])),
            ("evictionResponders", merge("name", &["name"])),
            ("hostAliases", merge("ip", &["ip"])),
            ("imagePullSecrets", merge("name", &["name"])),
            ("initContainers", merge("name", &["name"])),
            ("nodeSelector", atomic()),
            ("preemptionPolicy", one_of("PreemptionPolicy", &["Never", "PreemptLowerPriority"])),
            ("resourceClaims", merge_retain("name", &["name"])),
            ("restartPolicy", one_of("RestartPolicy", &["Always", "Never", "OnFailure"])),
            ("schedulingGates", merge("name", &["name"])),
            ("topologySpreadConstraints", merge("topologyKey", &["topologyKey", "whenUnsatisfiable"])),
            ("volumes", merge_retain("name", &["name"])),
        ],
    ),
    (
        "io.k8s.api.core.v1.PodStatus",
        &[
            CONDITIONS,
            ("hostIPs", patch_merge("ip")),
            ("nodeAllocatableResourceClaimStatuses", merge("resourceClaimName", &["resourceClaimName"])),
            ("phase", one_of("PodPhase", &["Failed", "Pending", "Running", "Succeeded", "Unknown"])),
            ("podIPs", merge("ip", &["ip"])),
            ("qosClass", one_of("PodQOSClass", &["BestEffort", "Burstable", "Guaranteed"])),
            ("resourceClaimStatuses", merge_retain("name", &["name"])),
            ("volumeHealth", map(&["name"])),
        ],
    ),
    ("io.k8s.api.core.v1.PodVolumeHealth", &[("healthConditions", merge("status", &["status"]))]),
    ("io.k8s.api.core.v1.ReplicationControllerSpec", &[("selector", atomic())]),
    ("io.k8s.api.core.v1.ReplicationControllerStatus", &[CONDITIONS]),
    ("io.k8s.api.core.v1.ResourceFieldSelector", WHOLE),
    ("io.k8s.api.core.v1.ResourceRequirements", &[("claims", map(&["name"]))]),
    ("io.k8s.api.core.v1.ResourceStatus", &[("resources", map(&["resourceID"]))]),
    ("io.k8s.api.core.v1.ScopeSelector", WHOLE),
    ("io.k8s.api.core.v1.ScopedResourceSelectorRequirement", WHOLE),
    (
        "io.k8s.api.core.v1.SeccompProfile",
        &[("type", one_of("SeccompProfileType", &["Localhost", "RuntimeDefault", "Unconfined"]))],
    ),
    ("io.k8s.api.core.v1.SecretKeySelector", WHOLE),
    ("io.k8s.api.core.v1.SecretReference", WHOLE),
    ("io.k8s.api.core.v1.SecurityContext", &[("procMount", one_of("ProcMountType", &["Default", "Unmasked"]))]),
    ("io.k8s.api.core.v1.ServiceAccount", &[("secrets", merge("name", &["name"]))]),
    ("io.k8s.api.core.v1.ServicePort", &[PROTOCOL]),
    (
        "io.k8s.api.core.v1.ServiceSpec",
        &[
            ("externalTrafficPolicy", one_of("ServiceExternalTrafficPolicy", &["Cluster", "Local"])),
            ("internalTrafficPolicy", one_of("ServiceInternalTrafficPolicy", &["Cluster", "Local"])),
            ("ipFamilyPolicy", one_of("IPFamilyPolicy", &["PreferDualStack", "RequireDualStack", "SingleStack"])),
            ("ports", merge("port", &["port", "protocol"])),
            ("selector", atomic()),
            ("sessionAffinity", one_of("ServiceAffinity", &["ClientIP", "None"])),
            ("type", one_of("ServiceType", &["ClusterIP", "ExternalName", "LoadBalancer", "NodePort"])),
        ],
    ),
    ("io.k8s.api.core.v1.ServiceStatus", &[CONDITIONS]),
    ("io.k8s.api.core.v1.Taint", &[TAINT_EFFECT]),
    (
        "io.k8s.api.core.v1.Toleration",
        &[TAINT_EFFECT, ("operator", one_of("TolerationOperator", &["Equal", "Exists", "Gt", "Lt"]))],
    ),
    (
        "io.k8s.api.core.v1.TopologySpreadConstraint",
        &[
            ("nodeAffinityPolicy", one_of("NodeInclusionPolicy", &["Honor", "Ignore"])),
            ("nodeTaintsPolicy", one_of("NodeInclusionPolicy", &["Honor", "Ignore"])),
            ("whenUnsatisfiable", one_of("UnsatisfiableConstraintAction", &["DoNotSchedule", "ScheduleAnyway"])),
        ],
    ),
    ("io.k8s.api.core.v1.TopologySelectorTerm", WHOLE),
    ("io.k8s.api.core.v1.TypedLocalObjectReference", WHOLE),
    (
        "io.k8s.api.core.v1.VolumeMount",
        &[
            ("bindMountOptions", set()),
            ("mountPropagation", one_of("MountPropagationMode", &["Bidirectional", "HostToContainer", "None"])),
        ],
    ),
    ("io.k8s.api.discovery.v1.Endpoint", &[("addresses", set())]),
    ("io.k8s.api.discovery.v1.EndpointPort", WHOLE),
    ("io.k8s.api.discovery.v1.EndpointSlice", &[("addressType", one_of("AddressType", &["FQDN", "IPv4", "IPv6"]))]),
    ("io.k8s.apimachinery.pkg.apis.meta.v1.LabelSelector", WHOLE),
    (
        "io.k8s.apimachinery.pkg.apis.meta.v1.ObjectMeta",
        &[("finalizers", merge_set()), ("ownerReferences", merge("uid", &["uid"]))],
    ),
    ("io.k8s.apimachinery.pkg.apis.meta.v1.OwnerReference", WHOLE),
];

//! What Kubernetes' schemas say and k8s-openapi's do not: how lists merge, which values a text may have.
//!
//! Shared by `schemas/main.rs`, which packs it into the schemas; nothing reads it at run time. A fact of a field that does not exist
//! fails the packing. Lists without a fact are atomic: who writes one replaces it.
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
    /// The name of Go's type of a text; empty when it is a plain string. Only error messages show it.
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

/// A text whose type has a name of its own in Go. It is one of the package `v1`, unless the name says another.
const fn named(go_type: &'static str) -> Fact {
    Fact { go_type, ..PLAIN }
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
    ("restartPolicy", named("ContainerRestartPolicy")),
    ("terminationMessagePolicy", one_of("TerminationMessagePolicy", &["FallbackToLogsOnError", "File"])),
    ("volumeDevices", merge("devicePath", &["devicePath"])),
    ("volumeMounts", merge("mountPath", &["mountPath"])),
];

/// Definition → field → fact. The field `""` is the definition itself.
pub(crate) const FACTS: &[(&str, &[(&str, Fact)])] = &[
    ("com.github.openshift.api.image.v1.ImageStreamSpec", &[("tags", patch_merge("name"))]),
    ("com.github.openshift.api.image.v1.ImageStreamStatus", &[("tags", patch_merge("tag"))]),
    (
        "com.github.openshift.api.route.v1.RouteHTTPHeaderActions",
        &[("request", map(&["name"])), ("response", map(&["name"]))],
    ),
    (
        "com.github.openshift.api.apps.v1.DeploymentCondition",
        &[("status", named("ConditionStatus")), ("type", named("DeploymentConditionType"))],
    ),
    ("com.github.openshift.api.apps.v1.DeploymentConfigStatus", &[CONDITIONS]),
    (
        "com.github.openshift.api.apps.v1.DeploymentStrategy",
        &[("type", one_of("DeploymentStrategyType", &["Custom", "Recreate", "Rolling"]))],
    ),
    (
        "io.k8s.api.apps.v1.DaemonSetCondition",
        &[("status", named("ConditionStatus")), ("type", named("DaemonSetConditionType"))],
    ),
    ("io.k8s.api.apps.v1.DaemonSetStatus", &[CONDITIONS]),
    (
        "io.k8s.api.apps.v1.DaemonSetUpdateStrategy",
        &[("type", one_of("DaemonSetUpdateStrategyType", &["OnDelete", "RollingUpdate"]))],
    ),
    (
        "io.k8s.api.apps.v1.DeploymentCondition",
        &[("status", named("ConditionStatus")), ("type", named("DeploymentConditionType"))],
    ),
    ("io.k8s.api.apps.v1.DeploymentSpec", &[("strategy", retain_keys())]),
    ("io.k8s.api.apps.v1.DeploymentStatus", &[CONDITIONS]),
    (
        "io.k8s.api.apps.v1.DeploymentStrategy",
        &[("type", one_of("DeploymentStrategyType", &["Recreate", "RollingUpdate"]))],
    ),
    (
        "io.k8s.api.apps.v1.ReplicaSetCondition",
        &[("status", named("ConditionStatus")), ("type", named("ReplicaSetConditionType"))],
    ),
    ("io.k8s.api.apps.v1.ReplicaSetStatus", &[CONDITIONS]),
    (
        "io.k8s.api.apps.v1.StatefulSetCondition",
        &[("status", named("ConditionStatus")), ("type", named("StatefulSetConditionType"))],
    ),
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
    ("io.k8s.api.core.v1.Capabilities", &[("add", named("Capability")), ("drop", named("Capability"))]),
    ("io.k8s.api.core.v1.ConfigMapKeySelector", WHOLE),
    ("io.k8s.api.core.v1.Container", CONTAINER),
    ("io.k8s.api.core.v1.ContainerPort", &[PROTOCOL]),
    (
        "io.k8s.api.core.v1.ContainerResizePolicy",
        &[("resourceName", named("ResourceName")), ("restartPolicy", named("ResourceResizeRestartPolicy"))],
    ),
    ("io.k8s.api.core.v1.ContainerRestartRuleOnExitCodes", &[("values", set())]),
    (
        "io.k8s.api.core.v1.ContainerStatus",
        &[("allocatedResourcesStatus", merge("name", &["name"])), ("volumeMounts", merge("mountPath", &["mountPath"]))],
    ),
    ("io.k8s.api.core.v1.EmptyDirVolumeSource", &[("medium", named("StorageMedium"))]),
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
        "io.k8s.api.core.v1.NamespaceCondition",
        &[("status", named("ConditionStatus")), ("type", named("NamespaceConditionType"))],
    ),
    ("io.k8s.api.core.v1.NamespaceSpec", &[("finalizers", named("FinalizerName"))]),
    (
        "io.k8s.api.core.v1.NamespaceStatus",
        &[CONDITIONS, ("phase", one_of("NamespacePhase", &["Active", "Terminating"]))],
    ),
    (
        "io.k8s.api.core.v1.NodeAllocatableResourceClaimStatus",
        &[("containers", set()), ("mapping", merge("name", &["name"])), ("overhead", merge("name", &["name"]))],
    ),
    ("io.k8s.api.core.v1.NodeCondition", &[("status", named("ConditionStatus")), ("type", named("NodeConditionType"))]),
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
    ("io.k8s.api.core.v1.ObjectReference", &[("", atomic()), ("uid", named("types.UID"))]),
    (
        "io.k8s.api.core.v1.PersistentVolumeClaimCondition",
        &[("status", named("ConditionStatus")), ("type", named("PersistentVolumeClaimConditionType"))],
    ),
    (
        "io.k8s.api.core.v1.PersistentVolumeClaimSpec",
        &[("accessModes", named("PersistentVolumeAccessMode")), ("volumeMode", named("PersistentVolumeMode"))],
    ),
    (
        "io.k8s.api.core.v1.PersistentVolumeClaimStatus",
        &[CONDITIONS, ("phase", one_of("PersistentVolumeClaimPhase", &["Bound", "Lost", "Pending"]))],
    ),
    (
        "io.k8s.api.core.v1.PersistentVolumeSpec",
        &[
            ("accessModes", named("PersistentVolumeAccessMode")),
            ("persistentVolumeReclaimPolicy", named("PersistentVolumeReclaimPolicy")),
            ("volumeMode", named("PersistentVolumeMode")),
        ],
    ),
    ("io.k8s.api.core.v1.PodCondition", &[("status", named("ConditionStatus")), ("type", named("PodConditionType"))]),
    ("io.k8s.api.core.v1.PodOS", &[("name", named("OSName"))]),
    ("io.k8s.api.core.v1.PodReadinessGate", &[("conditionType", named("PodConditionType"))]),
    (
        "io.k8s.api.core.v1.PodSecurityContext",
        &[
            ("fsGroupChangePolicy", named("PodFSGroupChangePolicy")),
            ("supplementalGroupsPolicy", named("SupplementalGroupsPolicy")),
        ],
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
    (
        "io.k8s.api.core.v1.ReplicationControllerCondition",
        &[("status", named("ConditionStatus")), ("type", named("ReplicationControllerConditionType"))],
    ),
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
    ("io.k8s.api.core.v1.Secret", &[("type", named("SecretType"))]),
    ("io.k8s.api.core.v1.SecretKeySelector", WHOLE),
    ("io.k8s.api.core.v1.SecretReference", WHOLE),
    ("io.k8s.api.core.v1.SecurityContext", &[("procMount", one_of("ProcMountType", &["Default", "Unmasked"]))]),
    ("io.k8s.api.core.v1.ServiceAccount", &[("secrets", merge("name", &["name"]))]),
    ("io.k8s.api.core.v1.ServicePort", &[PROTOCOL]),
    (
        "io.k8s.api.core.v1.ServiceSpec",
        &[
            ("ipFamilies", named("IPFamily")),
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
    ("io.k8s.apimachinery.pkg.apis.meta.v1.DeleteOptions", &[("propagationPolicy", named("DeletionPropagation"))]),
    ("io.k8s.apimachinery.pkg.apis.meta.v1.LabelSelector", WHOLE),
    ("io.k8s.apimachinery.pkg.apis.meta.v1.LabelSelectorRequirement", &[("operator", named("LabelSelectorOperator"))]),
    ("io.k8s.apimachinery.pkg.apis.meta.v1.ManagedFieldsEntry", &[("operation", named("ManagedFieldsOperationType"))]),
    (
        "io.k8s.apimachinery.pkg.apis.meta.v1.ObjectMeta",
        &[("uid", named("types.UID")), ("finalizers", merge_set()), ("ownerReferences", merge("uid", &["uid"]))],
    ),
    ("io.k8s.apimachinery.pkg.apis.meta.v1.OwnerReference", &[("", atomic()), ("uid", named("types.UID"))]),
    ("io.k8s.apimachinery.pkg.apis.meta.v1.Preconditions", &[("uid", named("types.UID"))]),
    ("io.k8s.api.admissionregistration.v1.MatchResources", WHOLE),
    (
        "io.k8s.api.admissionregistration.v1.MutatingAdmissionPolicySpec",
        &[("matchConditions", merge("name", &["name"]))],
    ),
    ("io.k8s.api.admissionregistration.v1.MutatingWebhook", &[("matchConditions", merge("name", &["name"]))]),
    ("io.k8s.api.admissionregistration.v1.MutatingWebhookConfiguration", &[("webhooks", merge("name", &["name"]))]),
    ("io.k8s.api.admissionregistration.v1.NamedRuleWithOperations", WHOLE),
    ("io.k8s.api.admissionregistration.v1.ParamKind", WHOLE),
    ("io.k8s.api.admissionregistration.v1.ParamRef", WHOLE),
    ("io.k8s.api.admissionregistration.v1.ValidatingAdmissionPolicyBindingSpec", &[("validationActions", set())]),
    (
        "io.k8s.api.admissionregistration.v1.ValidatingAdmissionPolicySpec",
        &[("matchConditions", merge("name", &["name"])), ("variables", merge("name", &["name"]))],
    ),
    ("io.k8s.api.admissionregistration.v1.ValidatingAdmissionPolicyStatus", &[("conditions", map(&["type"]))]),
    ("io.k8s.api.admissionregistration.v1.ValidatingWebhook", &[("matchConditions", merge("name", &["name"]))]),
    ("io.k8s.api.admissionregistration.v1.ValidatingWebhookConfiguration", &[("webhooks", merge("name", &["name"]))]),
    ("io.k8s.api.admissionregistration.v1.Variable", WHOLE),
    ("io.k8s.api.autoscaling.v1.CrossVersionObjectReference", WHOLE),
    ("io.k8s.api.autoscaling.v2.HorizontalPodAutoscalerStatus", &[CONDITIONS]),
    ("io.k8s.api.batch.v1.JobStatus", &[("conditions", patch_merge("type"))]),
    ("io.k8s.api.batch.v1.PodFailurePolicyOnExitCodesRequirement", &[("values", set())]),
    ("io.k8s.api.batch.v1.UncountedTerminatedPods", &[("succeeded", set()), ("failed", set())]),
    ("io.k8s.api.certificates.v1.CertificateSigningRequestStatus", &[("conditions", map(&["type"]))]),
    ("io.k8s.api.flowcontrol.v1.FlowSchemaStatus", &[CONDITIONS]),
    ("io.k8s.api.flowcontrol.v1.NonResourcePolicyRule", &[("verbs", set()), ("nonResourceURLs", set())]),
    ("io.k8s.api.flowcontrol.v1.PriorityLevelConfigurationStatus", &[CONDITIONS]),
    (
        "io.k8s.api.flowcontrol.v1.ResourcePolicyRule",
        &[("verbs", set()), ("apiGroups", set()), ("resources", set()), ("namespaces", set())],
    ),
    ("io.k8s.api.networking.v1.ServiceBackendPort", WHOLE),
    ("io.k8s.api.networking.v1.ServiceCIDRStatus", &[CONDITIONS]),
    ("io.k8s.api.node.v1.Scheduling", &[("nodeSelector", atomic())]),
    ("io.k8s.api.policy.v1.PodDisruptionBudgetStatus", &[CONDITIONS]),
    ("io.k8s.api.storage.v1.CSIDriverSpec", &[("volumeLifecycleModes", set())]),
    ("io.k8s.api.resource.v1.AllocatedDeviceStatus", &[("conditions", map(&["type"]))]),
    ("io.k8s.api.resource.v1.DeviceRequestAllocationResult", &[("skipNodeOperations", set())]),
    ("io.k8s.api.resource.v1.DeviceTaintRuleStatus", &[CONDITIONS]),
    (
        "io.k8s.api.resource.v1.DeviceToleration",
        &[("operator", Fact { default: "Equal", ..named("DeviceTolerationOperator") })],
    ),
    (
        "io.k8s.api.resource.v1.ResourceClaimStatus",
        &[("devices", map(&["driver", "device", "pool", "shareID"])), ("reservedFor", merge("uid", &["uid"]))],
    ),
    ("io.k8s.api.resource.v1.ResourceSliceSpec", &[("skipNodeOperations", set())]),
    ("io.k8s.api.storagemigration.v1.StorageVersionMigrationStatus", &[CONDITIONS]),
    ("io.k8s.api.storage.v1.CSINodeSpec", &[("drivers", merge("name", &["name"]))]),
];

/// What Go embeds in a type: definition, embedded type, its fields. Only error messages show it.
pub(crate) const EMBEDDED: &[(&str, &str, Fields)] = &[
    ("io.k8s.api.core.v1.ConfigMapEnvSource", "LocalObjectReference", Fields::Only(&["name"])),
    ("io.k8s.api.core.v1.ConfigMapKeySelector", "LocalObjectReference", Fields::Only(&["name"])),
    ("io.k8s.api.core.v1.ConfigMapProjection", "LocalObjectReference", Fields::Only(&["name"])),
    ("io.k8s.api.core.v1.ConfigMapVolumeSource", "LocalObjectReference", Fields::Only(&["name"])),
    ("io.k8s.api.core.v1.EphemeralContainer", "EphemeralContainerCommon", Fields::AllBut(&["targetContainerName"])),
    (
        "io.k8s.api.core.v1.PersistentVolumeSpec",
        "PersistentVolumeSource",
        Fields::AllBut(&[
            "accessModes",
            "capacity",
            "claimRef",
            "mountOptions",
            "nodeAffinity",
            "persistentVolumeReclaimPolicy",
            "storageClassName",
            "volumeAttributesClassName",
            "volumeMode",
        ]),
    ),
    ("io.k8s.api.core.v1.Probe", "ProbeHandler", Fields::Only(&["exec", "grpc", "httpGet", "tcpSocket"])),
    ("io.k8s.api.core.v1.SecretEnvSource", "LocalObjectReference", Fields::Only(&["name"])),
    ("io.k8s.api.core.v1.SecretKeySelector", "LocalObjectReference", Fields::Only(&["name"])),
    ("io.k8s.api.core.v1.SecretProjection", "LocalObjectReference", Fields::Only(&["name"])),
    ("io.k8s.api.core.v1.Volume", "VolumeSource", Fields::AllBut(&["name"])),
];

/// Some fields of a definition.
#[derive(Clone, Copy)]
pub(crate) enum Fields {
    /// These.
    Only(&'static [&'static str]),
    /// All but these.
    AllBut(&'static [&'static str]),
}

impl Fields {
    /// Whether the field is one of them.
    pub(crate) fn contains(self, field: &str) -> bool {
        match self {
            Self::Only(names) => names.contains(&field),
            Self::AllBut(names) => !names.contains(&field),
        }
    }
}

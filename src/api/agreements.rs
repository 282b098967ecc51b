//! Words in objects by which rooms that never name each other understand each other. Each has its one home here.

/// The label of an EndpointSlice that names its Service.
pub const SERVICE_NAME_LABEL: &str = "kubernetes.io/service-name";
/// The finalizer of a deletion that waits for what the object owns.
pub const FOREGROUND_FINALIZER: &str = "foregroundDeletion";
/// The finalizer of a deletion that lets go of what the object owns.
pub const ORPHAN_FINALIZER: &str = "orphan";
/// The namespace of what belongs to the cluster itself.
pub const SYSTEM_NAMESPACE: &str = "kube-system";
/// The name of the data plane's Pod, Secret and Lease in [`SYSTEM_NAMESPACE`].
pub const DATA_PLANE: &str = "skiff-proxy";
/// The annotation of the data plane's Lease that says up to which revision it has applied all EndpointSlices.
pub const OBSERVED_REVISION: &str = "skiff.dev/observed-revision";
/// The annotation of the data plane's Lease with what it counts as a whole, as JSON, as they were when the Lease was renewed.
pub const DATA_PLANE_TOTALS: &str = "skiff.dev/totals";
/// The annotation of a slice with the names of its pods that nothing probes before they count as ready, separated by commas. Whoever
/// forwards to them sees for itself whether a program listens.
pub const UNPROBED_PODS: &str = "skiff.dev/unprobed-pods";

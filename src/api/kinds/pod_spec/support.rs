//! What of a pod spec the node agent can do. To support more, add it here: the rules themselves are all in place.

/// The sources of volumes that are mounted.
pub(super) const VOLUMES: &[&str] = &["emptyDir"];
/// Whether `emptyDir.mode` is honoured.
pub(super) const EMPTY_DIR_MODE: bool = false;
/// Whether a mount may show a part of a volume.
pub(super) const SUB_PATHS: bool = false;
/// Whether init containers may go on running beside the others.
pub(super) const SIDECARS: bool = false;
/// Whether `fsGroup` and `supplementalGroups` become groups of the processes.
pub(super) const GROUPS: bool = false;
/// Seccomp and AppArmor profiles that are honoured.
pub(super) const PROFILES: &[&str] = &["RuntimeDefault"];
/// Whether probes may speak gRPC.
pub(super) const GRPC_PROBES: bool = false;

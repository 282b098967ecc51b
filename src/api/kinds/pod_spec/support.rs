//! What of a pod spec the node agent can do. To support more, add it here: the rules themselves are all in place.

/// The sources of volumes that are mounted.
pub(super) const VOLUMES: &[&str] = &[
    "configMap",
    "downwardAPI",
    "emptyDir",
    "ephemeral",
    "hostPath",
    "image",
    "persistentVolumeClaim",
    "projected",
    "secret",
];
/// Whether `emptyDir.mode` is honoured.
pub(super) const EMPTY_DIR_MODE: bool = true;
/// Whether a mount may show a part of a volume.
pub(super) const SUB_PATHS: bool = true;
/// Whether init containers may go on running beside the others.
pub(super) const SIDECARS: bool = true;
/// Whether `fsGroup` and `supplementalGroups` become groups of the processes.
pub(super) const GROUPS: bool = true;
/// Whether probes may speak gRPC.
pub(super) const GRPC_PROBES: bool = true;

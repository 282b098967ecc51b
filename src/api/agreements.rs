//! Words in objects by which rooms that never name each other understand each other, and times by which one waits for another. Each has its one
//! home here.

use std::time::Duration;

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
/// The label of the node that the data plane is on: the first, where the machine is shown as several.
pub const CONTROL_PLANE_ROLE: &str = "node-role.kubernetes.io/control-plane";
/// The domain of the hosts that Routes get which name none. Names below `localhost` lead to this machine, without any set-up of names.
pub const ROUTE_DOMAIN: &str = "apps.localhost";
/// The controller of the classes whose Ingresses the router of the data plane serves.
pub const INGRESS_CONTROLLER: &str = "skiff.dev/router";
/// The class of Ingresses that every cluster has, and that those get which name none.
pub const INGRESS_CLASS: &str = "skiff";
/// By which name the router signs the status of a Route.
pub const ROUTER_NAME: &str = "default";
/// The name of the Secret in [`SYSTEM_NAMESPACE`] with the certificates that the router shows.
pub const ROUTER_SECRET: &str = "skiff-router";
/// The name of the API's own Service, in the namespace `default`.
pub const API_SERVICE: &str = "kubernetes";
/// The ConfigMap of every namespace by which pods check the API server.
pub const ROOT_CA_MAP: &str = "kube-root-ca.crt";
/// For how many seconds pods ask for a token when nobody says otherwise: an hour, and a little that tells such tokens from others. Who
/// issues them knows those by it. Source: `WarnOnlyBoundTokenExpirationPeriod` in pkg/serviceaccount/claims.go, v1.37.
pub const POD_TOKEN_SECS: i64 = 3607;
/// The annotation of a pod of skiff's own with the name of the emptyDir volume in which its sandbox keeps sockets.
pub const SOCKET_STORE_VOLUME: &str = "skiff.dev/socket-store";
/// The annotation of the data plane's Pod with the range of ClusterIPs for which its sandbox answers.
pub const SERVICE_RANGE_ANNOTATION: &str = "skiff.dev/service-cidr";
/// The annotation of the data plane's Lease that says up to which revision it has applied all EndpointSlices.
pub const OBSERVED_REVISION: &str = "skiff.dev/observed-revision";
/// The annotation of the data plane's Lease with what it counts as a whole, as JSON, as they were when the Lease was renewed.
pub const DATA_PLANE_TOTALS: &str = "skiff.dev/totals";
/// The annotation of a slice with the names of its pods that nothing probes before they count as ready, separated by commas. Whoever
/// forwards to them sees for itself whether a program listens.
pub const UNPROBED_PODS: &str = "skiff.dev/unprobed-pods";
/// What makes the volumes of the cluster's own storage class, and mounts them: Docker volumes. The volume's handle is the name of the
/// Docker volume without the cluster's.
pub const DOCKER_VOLUMES: &str = "skiff.dev/docker-volume";
/// The finalizer of a volume whose Docker volume is there, or may be. The node agent takes it off.
pub const DOCKER_VOLUME_FINALIZER: &str = "skiff.dev/docker-volume";
/// The annotation of a claim with the node that its first pod gets: now a volume may be made for it.
pub const SELECTED_NODE_ANNOTATION: &str = "volume.kubernetes.io/selected-node";

/// The annotation of a Pod with the last restart of each of its containers, as JSON: `restart` counts them, and `killed`, `ended`,
/// `created` and `started` are instants by the engine's clock, with milliseconds. The dashboard tells the story by it.
pub const RESTARTS: &str = "skiff.dev/restarts";

/// The annotation of the first node by which the cluster is paused, with the instant since when: while it is there, none of the
/// cluster's containers runs. `skiff pause` sets it, `skiff resume` takes it off, the node agent acts on it.
pub const PAUSED: &str = "skiff.dev/paused";
/// Why a node is not ready, and why pods are not, once all containers are stopped for a pause.
pub const PAUSED_REASON: &str = "Paused";

/// How long a pod that ends may wait until the data plane has taken it out of the rotation. It gets its signal then at the latest.
pub const ROTATION_PATIENCE: Duration = Duration::from_secs(2);
/// How long the data plane may let endpoints that leave stand in for others that do not listen yet. Shorter than
/// [`ROTATION_PATIENCE`], or the pods behind them would end while clients are sent there.
pub const STAND_IN_MAX: Duration = Duration::from_millis(1500);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn whoever_stands_in_is_out_of_the_rotation_before_it_ends() {
        // What the data plane tells is written, seen and acted on in the time that is left.
        assert!(STAND_IN_MAX + Duration::from_millis(400) < ROTATION_PATIENCE);
    }
}

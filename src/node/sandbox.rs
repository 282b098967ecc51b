//! Where a pod's sandbox is, and what else it does for a pod of skiff's own. Pure.
//!
//! The data plane's pod is on the host's network, but its sandbox is on the pods': there it answers for all ClusterIPs and makes the
//! sockets on which they are served (`net::sockets`). So no program of the host listens where a Service does, whatever it listens on, and
//! a port of a ClusterIP that no Service has refuses.

use super::volumes::MOUNT_POINT;
use crate::api::{
    agreements::{DATA_PLANE, SERVICE_RANGE_ANNOTATION, SOCKET_STORE_VOLUME, SYSTEM_NAMESPACE},
    service_range::ServiceRange,
};
use k8s_openapi::api::core::v1::Pod;

/// The variable that has the sandbox keep sockets for its containers: the directory in which they find it.
pub const SOCKET_STORE: &str = "SKIFF_SOCKET_STORE";
/// The variable that has the sandbox answer for the ClusterIPs of this range.
pub const SERVICE_RANGE: &str = "SKIFF_SERVICE_CIDR";

/// What keeps containers from looking into skiff's own programs between their start and their first call (`roles::shield`): a
/// process may look only into one that has no capability which it lacks itself. Docker gives this one to no container that does not ask
/// for it, and it allows next to nothing (`fcntl(2)`, `F_SETLEASE` on files of others).
pub const SHIELDING_RIGHT: &str = "LEASE";

/// What the sandbox that answers for ClusterIPs needs: routes and ports of its own network.
pub(super) const SERVICE_RIGHTS: [&str; 2] = ["NET_ADMIN", "NET_BIND_SERVICE"];

/// Whether a pod is on the host's network.
pub(super) fn is_on_host(pod: &Pod) -> bool {
    pod.spec.as_ref().is_some_and(|spec| spec.host_network == Some(true))
}

/// Whether its sandbox is too. Else it has an address.
pub(super) fn sandbox_is_on_host(pod: &Pod) -> bool {
    is_on_host(pod) && service_range(pod).is_none()
}

/// The range of ClusterIPs for which the sandbox answers.
pub(super) fn service_range(pod: &Pod) -> Option<ServiceRange> {
    let is_data_plane = is_system(pod) && pod.metadata.name.as_deref() == Some(DATA_PLANE) && is_on_host(pod);
    let range = pod.metadata.annotations.as_ref()?.get(SERVICE_RANGE_ANNOTATION)?;
    range.parse().ok().filter(|_| is_data_plane)
}

/// The directory, in the sandbox, in which it keeps sockets for the pod's containers.
pub(super) fn socket_store(pod: &Pod) -> Option<String> {
    let wanted = pod.metadata.annotations.as_ref()?.get(SOCKET_STORE_VOLUME)?;
    let volumes = pod.spec.as_ref()?.volumes.iter().flatten();
    let volume = volumes.filter(|volume| volume.empty_dir.is_some()).find(|volume| volume.name == *wanted)?;
    is_system(pod).then(|| format!("{MOUNT_POINT}/{}", volume.name))
}

fn is_system(pod: &Pod) -> bool {
    pod.metadata.namespace.as_deref() == Some(SYSTEM_NAMESPACE)
}

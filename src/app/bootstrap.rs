//! What a start over the state of another range does first. What every cluster has is `controllers::cluster_objects`.

use super::cidr::Plan;
use crate::{
    api::{agreements::API_SERVICE, meta::ObjectKey, status::ApiError},
    base::ordered::Map,
    registry::{Registry, alloc},
};

/// Gives the Services whose addresses are of a range that the cluster has lost others, and says so.
pub(crate) async fn move_services(registry: &Registry, plan: &Plan) -> Result<Option<String>, ApiError> {
    let fixed = Map::from([(ObjectKey::new("default", API_SERVICE), plan.api_service_ip())]);
    let n_moved = alloc::repair(registry, &fixed).await?;
    Ok((n_moved > 0).then(|| {
        format!(
            "the cluster's network was lost and its range is another's: Services are in {} now, {n_moved} have new addresses \
             (`kubectl get events -A` names them), and pods are made again",
            plan.services
        )
    }))
}

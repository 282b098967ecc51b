//! What pods use, for the autoscaler: the seam of the controllers over the node.

use crate::{api::usage::PodUsage, controllers::horizontal_pod_autoscaler::Measures, node::usage::Usages};
use async_trait::async_trait;
use std::sync::Arc;

/// The node's measuring.
pub(super) struct NodeMeasures(pub(super) Arc<dyn Usages>);

#[async_trait]
impl Measures for NodeMeasures {
    async fn pods(&self) -> Result<Vec<PodUsage>, String> {
        self.0.pods().await.map_err(|err| err.to_string())
    }
}

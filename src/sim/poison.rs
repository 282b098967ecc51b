//! Pods that nobody can serve: one whose host port another program has, one whose worker panics whatever it does, one whose
//! variables explode. Each of them must cost little, say why, end when it is deleted, and hold up no other pod.

use super::{manifests::one_of, world::World};
use crate::node::TokenSource;
use k8s_openapi::api::core::v1::{Pod, ServiceAccountTokenProjection};
use serde_json::json;

pub(super) use crate::base::task::PLANNED;

/// The host port that programs of the host may take.
pub(super) const PORT: u16 = 9000;
/// The token whose making panics.
const PATH: &str = "poison";

/// Issues tokens, and panics for those who want the wrong one.
pub(super) struct Poison;

impl TokenSource for Poison {
    fn token(&self, _: &Pod, projection: &ServiceAccountTokenProjection) -> Result<String, String> {
        assert!(projection.path != PATH, "{PLANNED}");
        Ok("token".to_owned())
    }
}

/// A pod of one of these kinds, made by hand.
pub(super) fn pod(world: &World) -> Pod {
    let doubled = (1..32).map(|i| json!({"name": format!("A{i}"), "value": format!("$(A{})$(A{})", i - 1, i - 1)}));
    let bomb: Vec<_> = [json!({"name": "A0", "value": "xy"})].into_iter().chain(doubled).collect();
    let token = json!([{"name": "t", "projected": {"sources": [{"serviceAccountToken": {"path": PATH}}]}}]);
    let kinds = [
        json!({"volumes": token, "containers": [{"name": "c", "image": "app:1"}]}),
        json!({"containers": [{"name": "c", "image": "app:1", "ports": [{"containerPort": 8080, "hostPort": PORT}]}]}),
        json!({"containers": [{"name": "c", "image": "app:1", "env": bomb}]}),
    ];
    let mut spec = one_of(world, &kinds).expect("there are some").clone();
    spec["terminationGracePeriodSeconds"] = json!(2);
    let meta = json!({"generateName": "poison-", "namespace": "default", "labels": {"app": "poison"}});
    serde_json::from_value(json!({"metadata": meta, "spec": spec})).expect("a pod")
}

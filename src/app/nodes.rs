//! How many nodes a cluster shows, when it was another number the last time: those that go are drained and removed.
//!
//! Done before any loop runs, so that nothing puts a pod there meanwhile; the node agent then ends the pods as any that are deleted,
//! and their controllers make others elsewhere.

use crate::{
    api::{
        kinds::{node::Nodes, pod::Pods},
        logical_node,
        meta::ObjectKey,
        status::{ApiError, ErrorClass},
    },
    registry::{Registry, pipeline::DeleteOptions},
};

/// Removes the nodes beyond so many; their names.
///
/// # Errors
/// As writes have them.
pub(crate) async fn remove_beyond(registry: &Registry, cluster: &str, nodes: u32) -> Result<Vec<String>, ApiError> {
    let is_beyond = |name: &str| logical_node::number(cluster, name).is_some_and(|number| number > nodes);
    let mut gone = Vec::new();
    for node in registry.api::<Nodes>().list("").items {
        let name = node.metadata.name.clone().unwrap_or_default();
        if is_beyond(&name) {
            let deleted = registry.api::<Nodes>().delete(&ObjectKey::new("", &name), &DeleteOptions::default()).await;
            fine_when_gone(deleted)?;
            gone.push(name);
        }
    }
    for pod in registry.api::<Pods>().list("").items {
        let node = pod.spec.as_ref().and_then(|spec| spec.node_name.as_deref()).unwrap_or_default();
        if is_beyond(node) && pod.metadata.deletion_timestamp.is_none() {
            let uid = pod.metadata.uid.clone();
            let options = DeleteOptions { uid, ..DeleteOptions::default() };
            fine_when_gone(registry.api::<Pods>().delete(&ObjectKey::of(&pod.metadata), &options).await)?;
        }
    }
    Ok(gone)
}

fn fine_when_gone(deleted: Result<(), ApiError>) -> Result<(), ApiError> {
    match deleted {
        Err(err) if err.class() == ErrorClass::NotFound => Ok(()),
        deleted => deleted,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing;

    #[tokio::test(start_paused = true)]
    async fn nodes_that_go_take_their_pods_along() {
        let registry = testing::registry().await;
        for node in ["dev", "dev-2", "dev-3", "other"] {
            let node = testing::from_yaml(&format!("{{metadata: {{name: {node}}}}}")).unwrap();
            registry.api::<Nodes>().create(node).await.unwrap();
        }
        for (pod, node) in [("a", "dev"), ("b", "dev-2"), ("c", "dev-3")] {
            let text = format!(
                "{{metadata: {{name: {pod}, namespace: default}}, spec: {{nodeName: {node}, containers: [{{name: c, image: i}}]}}}}"
            );
            registry.api::<Pods>().create(testing::from_yaml(&text).unwrap()).await.unwrap();
        }
        assert_eq!(remove_beyond(&registry, "dev", 2).await.unwrap(), ["dev-3"]);
        let names = |all: Vec<String>| all.join(" ");
        let nodes = registry.api::<Nodes>().list("").items;
        assert_eq!(names(nodes.iter().filter_map(|n| n.metadata.name.clone()).collect()), "dev dev-2 other");
        let staying = registry.api::<Pods>().list("").items;
        let staying = staying.iter().filter(|pod| pod.metadata.deletion_timestamp.is_none());
        assert_eq!(names(staying.filter_map(|pod| pod.metadata.name.clone()).collect()), "a b");
        assert!(remove_beyond(&registry, "dev", 2).await.unwrap().is_empty());
    }
}

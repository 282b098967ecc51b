//! What a start has made so far, so that one that fails leaves nothing behind.
//!
//! `app` tells it of each thing before the thing is there: a start that is interrupted in the middle of a call may have made it.

use super::{data_dir::Held, owner};
use crate::{
    base::{
        chain::chain,
        supervise::Supervisor,
        task::{self, Drain},
    },
    engine::{Engine, EngineError},
};
use futures::future::join_all;
use std::{future::Future, time::Duration};
use tokio::task::JoinHandle;
use tracing::warn;

/// How long loops may take to end after the drain signal.
const END_MAX: Duration = Duration::from_secs(5);
/// How often a network that Docker still counts as used is tried.
const TRIES_MAX: usize = 10;
/// How long between such tries.
const PACE: Duration = Duration::from_millis(100);

/// What a start has made.
#[derive(Debug, Default)]
pub(super) struct Made {
    held: Option<Held>,
    network: Option<String>,
    /// Whether the engine had no container of the cluster before, so that any that is there now is this start's.
    owns_containers: bool,
    tasks: Vec<JoinHandle<()>>,
}

impl Made {
    /// The data folder was taken.
    pub(super) fn folder(&mut self, held: Held) -> &mut Held {
        self.held.insert(held)
    }

    /// The data folder.
    pub(super) fn held(&mut self) -> &mut Held {
        self.held.as_mut().expect("the folder is taken first")
    }

    /// A network of this name is about to be made.
    pub(super) fn network(&mut self, name: String, owns_containers: bool) {
        self.network = Some(name);
        self.owns_containers = owns_containers;
    }

    /// Starts a loop that ends with the drain signal.
    pub(super) fn task(&mut self, name: &'static str, work: impl Future<Output = ()> + Send + 'static) {
        self.tasks.push(task::spawn(name, work));
    }

    /// Starts a loop that ends with the drain signal, and begins it again when it panics.
    pub(super) fn supervised<W>(
        &mut self,
        supervisor: &Supervisor,
        name: &'static str,
        drain: &Drain,
        make: impl FnMut() -> W + Send + 'static,
    ) where
        W: Future<Output = ()> + Send + 'static,
    {
        self.tasks.push(supervisor.keep(name, drain.clone(), make));
    }

    /// The start succeeded: all of it stays.
    pub(super) fn keep(self) -> (Option<Held>, Vec<JoinHandle<()>>) {
        (self.held, self.tasks)
    }

    /// The start failed and the drain signal has fired: takes back what it made. What cannot be is logged, because the user should
    /// see why the start failed.
    pub(super) async fn take_back(self, engine: &dyn Engine, cluster: &str) {
        // Loops use the store and the engine; what they do after their end is nothing.
        drop(tokio::time::timeout(END_MAX, join_all(self.tasks)).await);
        if let Some(network) = &self.network {
            let state = self.held.as_ref().map_or("", |held| &held.mark.state);
            let undone = take_back_network(engine, network, state, self.owns_containers).await;
            if let Err(err) = undone {
                let err = chain(&err);
                warn!(component = "app", err, "`skiff down --name {cluster}` removes what the failed start has left");
            }
        }
        if let Some(held) = self.held.filter(|held| held.is_new)
            && let Err(err) = held.remove()
        {
            warn!(component = "app", err = format!("{err:#}"), "what the failed start wrote cannot be removed");
        }
    }
}

async fn take_back_network(
    engine: &dyn Engine,
    network: &str,
    state: &str,
    owns_containers: bool,
) -> Result<(), EngineError> {
    // It may be another's, who was quicker.
    let is_ours =
        engine.network(network).await?.is_some_and(|n| n.labels.get(owner::STATE_LABEL).is_some_and(|s| s == state));
    if !is_ours {
        return Ok(());
    }
    if owns_containers {
        for container in engine.list().await? {
            engine.remove(&container.id).await?;
        }
    }
    let mut every = tokio::time::interval(PACE);
    for _ in 1..TRIES_MAX {
        every.tick().await;
        match engine.remove_network(network).await {
            Err(EngineError::Conflict(_)) => {}
            other => return other,
        }
    }
    engine.remove_network(network).await
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        app::{cidr, data_dir::DataDir},
        engine::{
            ContainerSpec,
            fake::{Behaviour, FakeEngine},
        },
    };
    use std::collections::BTreeMap;

    async fn network_of(engine: &FakeEngine, state: &str) {
        let labels = BTreeMap::from([(owner::STATE_LABEL.to_owned(), state.to_owned())]);
        cidr::ensure_network(engine, "skiff", None, cidr::Wish::default(), labels, &[]).await.unwrap();
    }

    #[tokio::test(start_paused = true)]
    async fn a_failed_start_leaves_nothing() {
        let top = tempfile::tempdir().unwrap();
        let engine = FakeEngine::for_test();
        engine.add_image("app:1", Behaviour::server());
        let mut made = Made::default();
        let state = made.folder(DataDir::take(&top.path().join("a/data"), "skiff").await.unwrap()).mark.state.clone();
        made.network("skiff".into(), true);
        network_of(&engine, &state).await;
        engine
            .create(&ContainerSpec { name: "app".into(), image: "app:1".into(), ..Default::default() })
            .await
            .unwrap();
        made.take_back(&engine, "skiff").await;
        assert_eq!(engine.network("skiff").await.unwrap(), None);
        assert_eq!(engine.list().await.unwrap(), []);
        assert!(!top.path().join("a").exists());
    }

    #[tokio::test(start_paused = true)]
    async fn what_was_there_before_a_failed_start_stays() {
        let top = tempfile::tempdir().unwrap();
        let engine = FakeEngine::for_test();
        drop(DataDir::take(top.path(), "skiff").await.unwrap());
        let mut made = Made::default();
        made.folder(DataDir::take(top.path(), "skiff").await.unwrap());
        // Another was quicker.
        made.network("skiff".into(), false);
        network_of(&engine, "another").await;
        made.take_back(&engine, "skiff").await;
        assert!(engine.network("skiff").await.unwrap().is_some());
        assert!(DataDir::take(top.path(), "skiff").await.is_ok_and(|held| !held.is_new));
    }
}

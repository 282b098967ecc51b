//! `kill -9` of the control plane, again and again, under writers, watchers and a load on a node port.
//!
//! A write that was answered is there after the kill, whole; one that was not is there whole or not at all; revisions never go back;
//! no container is made twice or restarted; no request to a Service fails. 50 kills; `SKIFF_KILLS=500` for more.

use crate::harness::{
    client,
    cluster::{Cluster, answers},
    load::Load,
    wait::{SOON, eventually},
};
use futures::StreamExt as _;
use k8s_openapi::api::core::v1::ConfigMap;
use kube::{
    Api, Client,
    api::{DeleteParams, ListParams, PostParams},
    runtime::watcher,
};
use rand::{RngExt as _, SeedableRng as _};
use std::{
    collections::BTreeMap,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
};
use tokio::sync::watch;

const WRITERS: usize = 8;
/// How many objects of a writer live at a time.
const KEPT: u64 = 12;
/// A kill comes after at most this many more answered writes.
const WRITES_BETWEEN_KILLS: u64 = 150;

/// Whether the control plane is up, and how many times it came up. Writers wait on it.
type Life = watch::Receiver<(bool, u64)>;

/// What a write may have left: nothing, or the object with this number.
type Outcomes = Vec<Option<u64>>;

/// A client that writes objects of its own and knows what must be there.
struct Writer {
    name: usize,
    api: Api<ConfigMap>,
    life: Life,
    answered: Arc<AtomicU64>,
    /// By the object's name: one outcome where the last write was answered, two where it was not.
    model: BTreeMap<String, Outcomes>,
    revision: u64,
}

/// What an object with this number holds: long enough that half of it would be seen.
fn content(number: u64) -> String {
    format!("{number}:").repeat(400)
}

fn revision(object: &ConfigMap) -> u64 {
    object.metadata.resource_version.as_deref().and_then(|r| r.parse().ok()).unwrap_or_default()
}

impl Writer {
    fn object(&self, name: &str, number: u64) -> ConfigMap {
        let mut object = ConfigMap::default();
        object.metadata.name = Some(name.to_owned());
        object.metadata.labels = Some([("writer".to_owned(), self.name.to_string())].into());
        object.data = Some([("content".to_owned(), content(number))].into());
        object
    }

    /// Writes until told to end.
    async fn run(mut self, end: watch::Receiver<bool>) -> Result<Self, String> {
        let mut number = 0;
        while !*end.borrow() {
            number += 1;
            let is_answered = self.step(number).await?;
            if !is_answered {
                self.until_up().await?;
                self.check().await?;
            }
        }
        self.check().await?;
        Ok(self)
    }

    /// Creates one object, changes it, deletes an old one. Whether all was answered.
    async fn step(&mut self, number: u64) -> Result<bool, String> {
        let name = format!("w{}-{number}", self.name);
        let api = self.api.clone();
        let created = api.create(&PostParams::default(), &self.object(&name, number)).await;
        if !self.note(&name, Some(number), created.map(|o| Some(revision(&o))))? {
            return Ok(false);
        }
        let changed = api.replace(&name, &PostParams::default(), &self.object(&name, number + 1)).await;
        if !self.note(&name, Some(number + 1), changed.map(|o| Some(revision(&o))))? {
            return Ok(false);
        }
        let Some(old) = number.checked_sub(KEPT).map(|n| format!("w{}-{n}", self.name)) else { return Ok(true) };
        if self.model.get(&old).is_none_or(|outcomes| outcomes != &[Some(number - KEPT + 1)]) {
            return Ok(true);
        }
        let deleted = api.delete(&old, &DeleteParams::default()).await;
        self.note(&old, None, deleted.map(|_| None))
    }

    /// Records what a write may have left. Whether it was answered.
    fn note(&mut self, name: &str, left: Option<u64>, answer: kube::Result<Option<u64>>) -> Result<bool, String> {
        let outcomes = self.model.entry(name.to_owned()).or_insert_with(|| vec![None]);
        match answer {
            Ok(revision) => {
                *outcomes = vec![left];
                self.answered.fetch_add(1, Ordering::Relaxed);
                if let Some(revision) = revision {
                    if revision <= self.revision {
                        return Err(format!("{name}: revision {revision} after {}", self.revision));
                    }
                    self.revision = revision;
                }
                Ok(true)
            }
            Err(kube::Error::Api(status)) if status.code < 500 => Err(format!("{name}: refused: {status:?}")),
            Err(_) => {
                outcomes.push(left);
                Ok(false)
            }
        }
    }

    /// Waits for the next life of the control plane.
    async fn until_up(&mut self) -> Result<(), String> {
        // What failed was this life or the one before it; the next question tells.
        for _ in 0..1_000 {
            let up = self.life.wait_for(|(is_up, _)| *is_up);
            tokio::time::timeout(SOON, up)
                .await
                .map_err(|_| "the control plane did not come back")?
                .map_err(|e| e.to_string())?;
            if self.api.list(&ListParams::default().labels("writer=none")).await.is_ok() {
                return Ok(());
            }
            tokio::task::yield_now().await;
        }
        Err("the control plane says it is up and does not answer".to_owned())
    }

    /// Compares all objects of this writer with what must be there.
    async fn check(&mut self) -> Result<(), String> {
        let mine = ListParams::default().labels(&format!("writer={}", self.name));
        let Ok(list) = self.api.list(&mine).await else { return Ok(()) };
        let found: BTreeMap<String, String> = list
            .into_iter()
            .map(|o| {
                (o.metadata.name.unwrap_or_default(), o.data.unwrap_or_default().remove("content").unwrap_or_default())
            })
            .collect();
        if let Some(stranger) = found.keys().find(|name| !self.model.contains_key(*name)) {
            return Err(format!("{stranger} was never written"));
        }
        for (name, outcomes) in &mut self.model {
            let there = found.get(name);
            let fits = |outcome: &Option<u64>| outcome.map(content).as_ref() == there;
            let Some(outcome) = outcomes.iter().copied().find(fits) else {
                let there = there.map(|text| text.chars().take(20).collect::<String>());
                return Err(format!("{name} is {there:?}, not one of {outcomes:?}"));
            };
            *outcomes = vec![outcome];
        }
        Ok(())
    }
}

/// Follows all objects of the writers.
async fn follow(client: Client, seen: Arc<Mutex<BTreeMap<String, String>>>) {
    let api: Api<ConfigMap> = Api::default_namespaced(client);
    let events = watcher(api, watcher::Config::default().labels("writer"));
    let mut events = std::pin::pin!(events);
    let key = |o: &ConfigMap| o.metadata.name.clone().unwrap_or_default();
    let value = |o: ConfigMap| o.metadata.resource_version.unwrap_or_default();
    let mut relisted = BTreeMap::new();
    while let Some(event) = events.next().await {
        // An error is a control plane that was killed; the watcher begins again.
        let Ok(event) = event else { continue };
        let mut seen = seen.lock().unwrap_or_else(PoisonError::into_inner);
        match event {
            watcher::Event::Init => relisted.clear(),
            watcher::Event::InitApply(o) => drop(relisted.insert(key(&o), value(o))),
            watcher::Event::InitDone => *seen = std::mem::take(&mut relisted),
            watcher::Event::Apply(o) => drop(seen.insert(key(&o), value(o))),
            watcher::Event::Delete(o) => drop(seen.remove(&key(&o))),
        }
    }
}

fn kills() -> u64 {
    std::env::var("SKIFF_KILLS").ok().and_then(|text| text.parse().ok()).unwrap_or(50)
}

const APP: &str = "io.kubernetes.container.name=spring-container";

fn containers(cluster: &Cluster) -> Vec<String> {
    let mut ids = cluster.containers(APP);
    ids.sort();
    ids
}

#[test]
fn a_killed_control_plane_loses_no_answered_write_and_no_request() {
    let mut cluster = Cluster::start_alone("crash", &["-f", "manifests"]);
    answers(30000);
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
    let (life, lives) = watch::channel((true, 0));
    let (end, ended) = watch::channel(false);
    let answered = Arc::new(AtomicU64::new(0));
    let seen = Arc::new(Mutex::new(BTreeMap::new()));
    let writers: Vec<_> = (0..WRITERS)
        .map(|name| {
            let client = runtime.block_on(client::client(&cluster));
            let api = Api::default_namespaced(client);
            let (life, answered) = (lives.clone(), Arc::clone(&answered));
            let writer = Writer { name, api, life, answered, model: BTreeMap::new(), revision: 0 };
            runtime.spawn(writer.run(ended.clone()))
        })
        .collect();
    let watcher = runtime.spawn(follow(runtime.block_on(client::client(&cluster)), Arc::clone(&seen)));
    let load = Load::on(30000, 1);
    let before = containers(&cluster);
    let mut rng = rand_chacha::ChaCha8Rng::seed_from_u64(7);
    for kill in 1..=kills() {
        let wanted = answered.load(Ordering::Relaxed) + rng.random_range(1..WRITES_BETWEEN_KILLS);
        eventually("the writers go on", SOON, || match answered.load(Ordering::Relaxed) {
            n if n >= wanted => Ok(()),
            _ if writers.iter().any(tokio::task::JoinHandle::is_finished) => Ok(()),
            n => Err(n),
        });
        life.send_replace((false, kill));
        cluster.stop("KILL");
        if kill % 5 == 0 {
            // A start is killed too, wherever it has come to.
            cluster.begin(&[]);
            cluster.expect_line("skiff");
            cluster.stop("KILL");
        }
        cluster.up(&[]);
        life.send_replace((true, kill));
        assert_eq!(containers(&cluster), before, "after kill {kill}");
    }
    end.send_replace(true);
    for writer in writers {
        let writer = runtime.block_on(writer).unwrap();
        writer.map_or_else(|err| panic!("{err}"), drop);
    }
    let api: Api<ConfigMap> = Api::default_namespaced(runtime.block_on(client::client(&cluster)));
    let listed: BTreeMap<String, String> = runtime
        .block_on(api.list(&ListParams::default().labels("writer")))
        .unwrap()
        .into_iter()
        .map(|o| (o.metadata.name.unwrap_or_default(), o.metadata.resource_version.unwrap_or_default()))
        .collect();
    eventually("the watcher has seen what is there", SOON, || {
        let seen = seen.lock().unwrap_or_else(PoisonError::into_inner).clone();
        if seen == listed { Ok(()) } else { Err((seen.len(), listed.len())) }
    });
    watcher.abort();
    let (requests, failed) = load.end().counted();
    assert!(requests > 0 && failed.is_empty(), "{requests} answered, failed: {failed:?}");
    let restarts =
        cluster.jsonpath(&["pods", "-l", "app=backend-app"], "{.items[*].status.containerStatuses[0].restartCount}");
    assert_eq!(restarts, "0 0 0");
    eprintln!("{} kills, {} answered writes, {requests} requests", kills(), answered.load(Ordering::Relaxed));
}

//! Random transactions against a model that is too simple to be wrong.

use super::{
    Committed, Entry, Expect, Limits, NewValue, Store, Txn, TxnError, WatchError, Write,
    contract::{put_with, terms, text},
    disk::tests::Platter,
    hub::Watch,
    memory::MemoryBackend,
};
use crate::{api::meta::Revision, base::rng::Rng};
use proptest::prelude::*;
use std::collections::BTreeMap;

/// A key's state: value, creating and last revision, terms.
type Cell = (String, u64, u64, Vec<String>);

#[derive(Clone, Debug, Default)]
struct Model {
    cells: BTreeMap<String, Cell>,
    /// Every change so far: key, value before and after.
    log: Vec<(String, Option<String>, Option<String>)>,
}

impl Model {
    /// The last revision, or the key that was not as expected.
    fn commit(&mut self, txn: &Txn) -> Result<u64, String> {
        let (before, after) = (self.clone(), txn.writes.iter());
        for expect in &txn.expect {
            let (key, holds) = match expect {
                Expect::Absent(key) => (key, !self.cells.contains_key(key)),
                Expect::Unchanged(key, revision) => (key, self.cells.get(key).is_some_and(|c| c.2 == revision.0)),
            };
            if !holds {
                return Err(key.clone());
            }
        }
        for write in after {
            if let Err(key) = self.write(write) {
                *self = before;
                return Err(key);
            }
        }
        Ok(self.log.len() as u64)
    }

    fn write(&mut self, write: &Write) -> Result<(), String> {
        let revision = self.log.len() as u64 + 1;
        let (key, after) = match write {
            Write::Put { key, value: NewValue { head, tail }, attrs } => {
                let (head, tail) = (String::from_utf8_lossy(head), String::from_utf8_lossy(tail));
                (key, Some((format!("{head}{revision}{tail}"), revision, attrs.terms.clone())))
            }
            Write::Delete { key } if self.cells.contains_key(key) => (key, None),
            Write::Delete { key } => return Err(key.clone()),
        };
        let before = self.cells.remove(key);
        let created = before.as_ref().map_or(revision, |c| c.1);
        self.log.push((key.clone(), before.map(|c| c.0), after.as_ref().map(|a| a.0.clone())));
        if let Some((value, modified, terms)) = after {
            self.cells.insert(key.clone(), (value, created, modified, terms));
        }
        Ok(())
    }

    /// Changes of a prefix after a revision, as a watch shows them.
    fn after(&self, prefix: &str, from: u64) -> Vec<String> {
        let numbered = (1..).zip(&self.log).filter(|(n, (key, ..))| *n > from && key.starts_with(prefix));
        numbered.map(|(n, (key, before, after))| format!("{n} {key} {before:?} {after:?}")).collect()
    }
}

#[derive(Clone, Debug)]
enum Step {
    Commit(Txn),
    /// Watch this prefix from this share of the history (in 256ths).
    Watch(&'static str, u8),
    /// Close and open again.
    Reopen,
    /// As `Reopen`, but what was not synced is lost by chance.
    PowerCut(u64),
}

fn key() -> impl Strategy<Value = String> {
    prop::sample::select(vec!["a", "a/1", "a/2", "b/1", "b/2", "c"]).prop_map(str::to_owned)
}

fn expectation() -> impl Strategy<Value = Expect> {
    prop_oneof![
        key().prop_map(Expect::Absent),
        // Small revisions: they hit while the history is short.
        (key(), 1..12u64).prop_map(|(key, revision)| Expect::Unchanged(key, Revision(revision))),
    ]
}

fn write() -> impl Strategy<Value = Write> {
    let some_terms = prop::sample::subsequence(vec!["x", "y", "z"], 0..=3);
    let size = prop_oneof![9 => 0..50usize, 1 => 5_000..20_000usize];
    prop_oneof![
        3 => (key(), size, some_terms).prop_map(|(key, len, t)| put_with(&key, &"v".repeat(len), terms(&t))),
        1 => key().prop_map(|key| Write::Delete { key }),
    ]
}

fn step() -> impl Strategy<Value = Step> {
    let txn = (prop::collection::vec(expectation(), 0..2), prop::collection::vec(write(), 0..4))
        .prop_map(|(expect, writes)| Step::Commit(Txn { expect, writes }));
    prop_oneof![
        12 => txn,
        2 => (prop::sample::select(vec!["", "a/", "b"]), any::<u8>()).prop_map(|(prefix, share)| Step::Watch(prefix, share)),
        1 => Just(Step::Reopen),
        1 => any::<u64>().prop_map(Step::PowerCut),
    ]
}

/// A store under test, and what it should be like.
struct Trial {
    store: Store,
    platter: Option<Platter>,
    model: Model,
    /// What this opening can replay begins after this revision.
    opened_at: u64,
    watches: Vec<(&'static str, u64, Watch)>,
}

impl Trial {
    fn new(platter: Option<Platter>) -> Self {
        Self { store: open(platter.as_ref()), platter, model: Model::default(), opened_at: 0, watches: Vec::new() }
    }

    async fn take(&mut self, step: Step) {
        match step {
            Step::Commit(txn) => self.commit(txn).await,
            Step::Watch(prefix, share) => self.watch(prefix, self.model.log.len() as u64 * u64::from(share) / 256),
            Step::Reopen => self.reopen(None),
            Step::PowerCut(seed) => self.reopen(Some(seed)),
        }
        self.check();
    }

    async fn commit(&mut self, txn: Txn) {
        let expected = self.model.commit(&txn);
        match self.store.commit(txn).await {
            Ok(Committed { revision, .. }) => assert_eq!(expected, Ok(revision.0)),
            Err(TxnError::Unexpected { key, found }) => {
                // The model's state is the one before: nothing has happened. Within the transaction a key may have been deleted.
                assert!(
                    found.is_none() || found.as_deref().map(text) == self.model.cells.get(&key).map(|c| c.0.clone())
                );
                assert_eq!(expected, Err(key));
            }
            Err(err) => panic!("{err}"),
        }
    }

    fn watch(&mut self, prefix: &'static str, from: u64) {
        match self.store.watch(prefix, Revision(from)) {
            Ok(watch) => self.watches.push((prefix, from, watch)),
            Err(err) => {
                assert_eq!(err, WatchError::Compacted { oldest: Revision(self.opened_at) });
                assert!(from < self.opened_at);
            }
        }
    }

    fn reopen(&mut self, power_cut: Option<u64>) {
        let Some(platter) = &self.platter else { return };
        self.watches.clear();
        if let Some(seed) = power_cut {
            // No goodbye: what a clean end would write is lost.
            platter.unplug();
            self.store = Store::open(MemoryBackend, false).unwrap();
            platter.cut_power(&Rng::seeded(seed));
        } else {
            self.store = Store::open(MemoryBackend, false).unwrap();
        }
        self.store = open(Some(platter));
        self.opened_at = self.model.log.len() as u64;
    }

    fn check(&mut self) {
        let show = |e: &Entry| (e.key.to_string(), (text(e), e.created.0, e.modified.0, e.attrs.terms.clone()));
        let snapshot = self.store.range("");
        let cells: Vec<_> = snapshot.entries.iter().map(|e| show(e)).collect();
        assert_eq!(cells, self.model.cells.clone().into_iter().collect::<Vec<_>>());
        assert_eq!(snapshot.revision.0, self.model.log.len() as u64);
        for term in ["x", "y", "z"] {
            let found: Vec<_> = self.store.by_term(term).iter().map(|e| e.key.to_string()).collect();
            let having = self.model.cells.iter().filter(|(_, c)| c.3.iter().any(|t| t == term));
            assert_eq!(self.store.has_term(term), !found.is_empty());
            assert_eq!(found, having.map(|(key, _)| key.clone()).collect::<Vec<_>>());
        }
        for (prefix, from, watch) in &mut self.watches {
            let side = |e: &Option<std::sync::Arc<Entry>>| e.as_deref().map(text);
            let seen: Vec<_> = std::iter::from_fn(|| watch.try_next().unwrap())
                .map(|c| format!("{} {} {:?} {:?}", c.revision, c.key, side(&c.before), side(&c.after)))
                .collect();
            assert_eq!(seen, self.model.after(prefix, *from));
            assert_eq!(watch.progress(), snapshot.revision);
            *from = snapshot.revision.0;
        }
    }
}

fn open(platter: Option<&Platter>) -> Store {
    match platter {
        Some(platter) => Store::open_with(platter.backend().unwrap(), false, Limits::default()).unwrap(),
        None => Store::open(MemoryBackend, false).unwrap(),
    }
}

fn run(platter: Option<Platter>, steps: Vec<Step>) {
    let mut trial = Trial::new(platter);
    futures::executor::block_on(async {
        for step in steps {
            trial.take(step).await;
        }
    });
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 64, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn in_memory_it_is_like_the_model(steps in prop::collection::vec(step(), 1..60)) {
        run(None, steps);
    }

    #[test]
    fn on_disk_it_is_like_the_model_across_restarts_and_power_cuts(steps in prop::collection::vec(step(), 1..40)) {
        run(Some(Platter::default()), steps);
    }
}

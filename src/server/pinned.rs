//! Lists that are being read in pages. What a list was is kept for a while, so that its next page is of the same list whatever is written
//! meanwhile, however little of the past the store remembers.
//!
//! Called by `verbs/read`. **Bounds**: [`LISTS_MAX`], and [`BYTES_MAX`] of objects that may be kept for it alone; past them the list that
//! was asked for the longest time ago goes first, and its pages come from the store's history as long as that reaches.

use crate::{
    api::meta::Revision,
    base::task,
    registry::pipeline::Selection,
    store::{Entry, Snapshot},
};
use std::{
    collections::VecDeque,
    sync::{Arc, Mutex, MutexGuard},
    time::Duration,
};
use tokio::time::{Instant, sleep_until};

/// How long a list is kept after a page of it was read. Source: etcd's compaction interval of kube-apiserver, five minutes; a token is
/// made as the answer leaves, and must last for all of them.
const KEPT: Duration = Duration::from_secs(5 * 60 + 30);
/// Lists that are kept at a time.
const LISTS_MAX: usize = 64;
/// Bytes of objects in all kept lists but the newest.
const BYTES_MAX: usize = 64 << 20;

/// Which list.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Which {
    /// `plural.group`.
    pub(super) resource: String,
    pub(super) namespace: String,
    pub(super) selection: Selection,
    pub(super) revision: Revision,
}

#[derive(Debug)]
struct Kept {
    which: Which,
    entries: Vec<Arc<Entry>>,
    bytes: usize,
    until: Instant,
}

/// The lists that are kept: the one that was asked for last is the last.
#[derive(Clone, Debug, Default)]
pub(super) struct Pinned(Arc<Mutex<VecDeque<Kept>>>);

impl Pinned {
    fn lock(&self) -> MutexGuard<'_, VecDeque<Kept>> {
        self.0.lock().expect("no one panics while holding the lists")
    }

    /// A list as it was, if it is kept; it is from now on kept for longer.
    pub(super) fn get(&self, which: &Which) -> Option<Snapshot> {
        let mut lists = self.lock();
        let at = lists.iter().position(|kept| kept.which == *which)?;
        let mut kept = lists.remove(at)?;
        kept.until = Instant::now() + KEPT;
        let snapshot = Snapshot { revision: which.revision, entries: kept.entries.clone() };
        lists.push_back(kept);
        Some(snapshot)
    }

    /// Keeps a list of which there are more pages to read. Says whether another had to go for it.
    pub(super) fn keep(&self, which: Which, snapshot: &Snapshot) -> bool {
        let mut lists = self.lock();
        if lists.iter().any(|kept| kept.which == which) {
            return false;
        }
        let n_before = lists.len();
        let (entries, until) = (snapshot.entries.clone(), Instant::now() + KEPT);
        let bytes = entries.iter().map(|entry| entry.value.len()).sum();
        let is_first = lists.is_empty();
        while lists.len() >= LISTS_MAX || lists.iter().map(|kept| kept.bytes).sum::<usize>() > BYTES_MAX {
            lists.pop_front();
        }
        let is_full = lists.len() < n_before;
        lists.push_back(Kept { which, entries, bytes, until });
        drop(lists);
        if is_first {
            task::spawn("pinned-lists", forget(self.clone()));
        }
        is_full
    }

    /// Forgets the lists whose time is over; when the next one's is.
    fn sweep(&self, now: Instant) -> Option<Instant> {
        let mut lists = self.lock();
        lists.retain(|kept| kept.until > now);
        lists.iter().map(|kept| kept.until).min()
    }
}

/// Forgets lists as their time comes, until none is left.
async fn forget(lists: Pinned) {
    while let Some(next) = lists.sweep(Instant::now()) {
        sleep_until(next).await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing;

    fn which(revision: u64) -> Which {
        Which {
            resource: "configmaps".into(),
            namespace: String::new(),
            selection: Selection::default(),
            revision: Revision(revision),
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_list_is_kept_for_five_minutes_after_each_page() {
        let (lists, all) = (Pinned::default(), testing::registry().await.store().range(""));
        lists.keep(which(1), &all);
        for _ in 0..3 {
            tokio::time::sleep(Duration::from_mins(5)).await;
            assert_eq!(lists.get(&which(1)).map(|kept| kept.entries.len()), Some(all.entries.len()));
        }
        assert!(lists.get(&which(2)).is_none());
        tokio::time::sleep(KEPT + Duration::from_secs(1)).await;
        assert!(lists.lock().is_empty(), "nobody has to ask for it to go");
        lists.keep(which(3), &all);
        assert!(lists.get(&which(3)).is_some());
    }

    #[tokio::test(start_paused = true)]
    async fn of_too_many_lists_the_one_that_waited_longest_goes() {
        let (lists, all) = (Pinned::default(), testing::registry().await.store().range(""));
        for n in 0..LISTS_MAX as u64 {
            assert!(!lists.keep(which(n), &all));
        }
        assert!(lists.get(&which(0)).is_some());
        assert!(lists.keep(which(100), &all));
        let has = |n| lists.get(&which(n)).is_some();
        assert_eq!((has(0), has(1), has(2), has(100)), (true, false, true, true));
    }
}

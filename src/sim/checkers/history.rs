//! The watch of the whole store is ordered, free of gaps, and goes on where the last store ended.

use crate::{
    api::meta::Revision,
    store::{Change, Store, hub::Watch},
};

#[derive(Default)]
pub(super) struct History {
    watch: Option<Watch>,
    last: Revision,
}

impl History {
    pub(super) fn follow(&mut self, store: &Store) {
        // What the store that was killed committed last may not have been seen; the new one starts from what is on disk.
        assert!(store.revision() >= self.last, "revisions went back from {} to {}", self.last, store.revision());
        self.last = store.revision();
        self.watch = Some(store.watch("", self.last).expect("a new store is watched from its revision"));
    }

    pub(super) fn drain(&mut self) -> Vec<String> {
        let mut lines = Vec::new();
        let Some(watch) = &mut self.watch else { return lines };
        while let Some(change) = watch.try_next().expect("the checker keeps up") {
            assert_eq!(change.revision.0, self.last.0 + 1, "a gap in the history at {}", change.key);
            self.last = change.revision;
            lines.push(line(&change));
        }
        lines
    }
}

fn line(change: &Change) -> String {
    let what = match &change.after {
        Some(entry) => String::from_utf8_lossy(&entry.value).into_owned(),
        None => "deleted".to_owned(),
    };
    format!("store: {} {} {what}", change.revision, change.key)
}

//! Events in protobuf that many watchers send: each is written once, and kept for as long as somebody sends it.
//!
//! JSON needs no such thing: watchers share what is stored. Without this, each of many watchers that do not read would hold its own copy
//! of a large object.
//!
//! **Invariants**: what nobody sends any more is gone, but for a few small ones that the next watchers of a change will want.

use crate::base::ordered::Map;
use bytes::Bytes;
use std::{
    collections::VecDeque,
    sync::{Arc, Mutex, PoisonError, Weak},
};

/// Which document: the key of its entry, the revision it shows, and in what form.
pub(super) type Key = (Arc<str>, u64, Arc<str>);

/// How many documents are kept without a sender, and how large each may be.
const RECENT_MAX: usize = 16;
const RECENT_BYTES_MAX: usize = 16 * 1024;
/// How many names there are before the first look for those whose document is gone.
const NAMES_MIN: usize = 64;

/// The documents that are being sent.
#[derive(Debug, Default)]
pub(super) struct Encoded(Mutex<Kept>);

#[derive(Debug, Default)]
struct Kept {
    known: Map<Key, Weak<[u8]>>,
    recent: VecDeque<Arc<[u8]>>,
    /// How many names there are when those of what is gone go.
    sweep_at: usize,
}

/// A document as the owner of bytes.
struct Document(Arc<[u8]>);

impl AsRef<[u8]> for Document {
    fn as_ref(&self) -> &[u8] {
        &self.0
    }
}

impl Encoded {
    /// The document of this name, which is made if nobody sends it.
    pub(super) fn get<E>(&self, key: Key, make: impl FnOnce() -> Result<Vec<u8>, E>) -> Result<Bytes, E> {
        let known = self.with(|kept| kept.known.get(&key).and_then(Weak::upgrade));
        let document = match known {
            Some(document) => document,
            // Made by two at once now and then, rather than with everybody waiting.
            None => self.with_made(key, make()?.into()),
        };
        Ok(Bytes::from_owner(Document(document)))
    }

    fn with<T>(&self, look: impl FnOnce(&mut Kept) -> T) -> T {
        look(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }

    fn with_made(&self, key: Key, made: Arc<[u8]>) -> Arc<[u8]> {
        self.with(|kept| {
            kept.known.insert(key, Arc::downgrade(&made));
            if made.len() <= RECENT_BYTES_MAX {
                kept.recent.push_back(Arc::clone(&made));
                if kept.recent.len() > RECENT_MAX {
                    kept.recent.pop_front();
                }
            }
            if kept.known.len() >= kept.sweep_at.max(NAMES_MIN) {
                kept.known.retain(|_, document| document.strong_count() > 0);
                kept.sweep_at = 2 * kept.known.len();
            }
        });
        made
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::convert::Infallible;

    fn key(n: u64) -> Key {
        ("core/configmaps/default/a".into(), n, "v1/ConfigMap".into())
    }

    fn get(encoded: &Encoded, n: u64, bytes: usize) -> Bytes {
        encoded.get(key(n), || Ok::<_, Infallible>(vec![1; bytes])).unwrap()
    }

    #[test]
    fn senders_of_a_document_share_it_and_then_it_is_gone() {
        let encoded = Encoded::default();
        let (first, second) = (get(&encoded, 1, 1_000_000), get(&encoded, 1, 1_000_000));
        assert_eq!(first.as_ptr(), second.as_ptr());
        drop((first, second));
        assert!(encoded.with(|kept| kept.known[&key(1)].upgrade().is_none()));
    }

    #[test]
    fn what_is_kept_without_a_sender_is_bounded() {
        let encoded = Encoded::default();
        for n in 0..1000 {
            drop(get(&encoded, n, if n % 2 == 0 { 100 } else { 100_000 }));
        }
        let (names, bytes) =
            encoded.with(|kept| (kept.known.len(), kept.recent.iter().map(|document| document.len()).sum::<usize>()));
        assert!(names <= 2 * NAMES_MIN && bytes <= 1600, "{names} {bytes}");
        assert_eq!(get(&encoded, 998, 7).len(), 100, "the last small one is still there");
    }
}

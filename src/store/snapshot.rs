//! Everything that a store holds at one revision, as bytes: to keep it elsewhere, and to begin again from it.
//!
//! ```text
//! revision, number of entries, then each entry's key and record (`record`)
//! ```
//!
//! **Not here**: the file around it, with its checksum (`app`).

use super::{
    Entry, Snapshot,
    record::{self, put_bytes, put_number, take_bytes, take_number},
};
use crate::api::meta::Revision;

/// The bytes of a snapshot.
pub fn encode(snapshot: &Snapshot) -> Vec<u8> {
    let mut out = Vec::new();
    put_number(&mut out, snapshot.revision.0);
    put_number(&mut out, snapshot.entries.len() as u64);
    let mut record = Vec::new();
    for entry in &snapshot.entries {
        record.clear();
        record::encode(entry, &mut record);
        put_bytes(&mut out, entry.key.as_bytes());
        put_bytes(&mut out, &record);
    }
    out
}

/// What [`encode`] wrote; `None`: it did not write this.
pub fn decode(mut bytes: &[u8]) -> Option<(Revision, Vec<Entry>)> {
    let from = &mut bytes;
    let (revision, n) = (Revision(take_number(from)?), take_number(from)?);
    let mut entries = Vec::new();
    for _ in 0..n {
        let key = std::str::from_utf8(take_bytes(from)?).ok()?;
        entries.push(record::decode(key, take_bytes(from)?).filter(|entry| entry.modified <= revision)?);
    }
    from.is_empty().then_some((revision, entries))
}

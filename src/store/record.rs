//! Entries as bytes: what the disk holds of each, and a snapshot.
//!
//! Called by `disk` and `snapshot`. Pure.

use super::{Attrs, Entry, pairs::Pairs};
use crate::api::meta::Revision;
use std::sync::{Arc, OnceLock};

/// The first byte of a record.
const RECORD_VERSION: u8 = 1;

/// What a part of a record is. A part is its tag, its length and its bytes; a reader skips tags that it does not know.
mod tag {
    /// The value. It comes last and has no length: it is the rest.
    pub(super) const VALUE: u8 = 0;
    pub(super) const CREATED: u8 = 1;
    pub(super) const MODIFIED: u8 = 2;
    /// Where the revision's digits begin, and how many there are.
    pub(super) const REVISION_AT: u8 = 3;
    /// Name and value, as two strings.
    pub(super) const LABEL: u8 = 4;
    /// Name and value, as two strings.
    pub(super) const FIELD: u8 = 5;
    pub(super) const TERM: u8 = 6;
}

/// Adds the record of an entry.
pub(super) fn encode(entry: &Entry, out: &mut Vec<u8>) {
    out.push(RECORD_VERSION);
    let mut body = Vec::new();
    let mut part = |tag: u8, fill: &dyn Fn(&mut Vec<u8>)| {
        body.clear();
        fill(&mut body);
        out.push(tag);
        put_bytes(out, &body);
    };
    part(tag::CREATED, &|b| put_number(b, entry.created.0));
    part(tag::MODIFIED, &|b| put_number(b, entry.modified.0));
    part(tag::REVISION_AT, &|b| {
        put_number(b, entry.revision_at.start as u64);
        put_number(b, entry.revision_at.len() as u64);
    });
    for (tag, pairs) in [(tag::LABEL, &entry.attrs.labels), (tag::FIELD, &entry.attrs.fields)] {
        for (name, value) in pairs.iter() {
            part(tag, &|b| {
                put_bytes(b, name.as_bytes());
                put_bytes(b, value.as_bytes());
            });
        }
    }
    for term in &entry.attrs.terms {
        part(tag::TERM, &|b| b.extend_from_slice(term.as_bytes()));
    }
    out.push(tag::VALUE);
    out.extend_from_slice(&entry.value);
}

/// `None`: not a record.
pub(super) fn decode(key: &str, record: &[u8]) -> Option<Entry> {
    let mut rest = record.strip_prefix(&[RECORD_VERSION])?;
    let (mut created, mut modified, mut revision_at, mut terms) = (None, None, None, Vec::new());
    let (mut labels, mut fields) = (Vec::new(), Vec::new());
    loop {
        let tag = take_byte(&mut rest)?;
        if tag == tag::VALUE {
            break;
        }
        let mut part = take_bytes(&mut rest)?;
        match tag {
            tag::CREATED => created = Some(Revision(take_number(&mut part)?)),
            tag::MODIFIED => modified = Some(Revision(take_number(&mut part)?)),
            tag::REVISION_AT => {
                let (start, len) = (take_number(&mut part)?, take_number(&mut part)?);
                revision_at = Some(usize::try_from(start).ok()?..usize::try_from(start.checked_add(len)?).ok()?);
            }
            tag::LABEL => labels.push((take_text(&mut part)?, take_text(&mut part)?)),
            tag::FIELD => fields.push((take_text(&mut part)?, take_text(&mut part)?)),
            tag::TERM => terms.push(std::str::from_utf8(part).ok()?.to_owned()),
            _ => {}
        }
    }
    let revision_at = revision_at.filter(|at| at.end <= rest.len())?;
    Some(Entry {
        key: key.into(),
        value: rest.to_vec().into(),
        revision_at,
        attrs: Arc::new(Attrs { labels: Pairs::from_iter(labels), fields: Pairs::from_iter(fields), terms }),
        created: created?,
        modified: modified?,
        decoded: OnceLock::new(),
        packed: OnceLock::new(),
    })
}

/// Seven bits a byte, the low ones first; the high bit says that more follow.
pub(super) fn put_number(out: &mut Vec<u8>, mut n: u64) {
    loop {
        let low = u8::try_from(n & 0x7f).expect("seven bits fit in a byte");
        n >>= 7;
        if n == 0 {
            return out.push(low);
        }
        out.push(low | 0x80);
    }
}

pub(super) fn put_bytes(out: &mut Vec<u8>, bytes: &[u8]) {
    put_number(out, bytes.len() as u64);
    out.extend_from_slice(bytes);
}

fn take_byte(from: &mut &[u8]) -> Option<u8> {
    let (first, rest) = from.split_first()?;
    *from = rest;
    Some(*first)
}

pub(super) fn take_number(from: &mut &[u8]) -> Option<u64> {
    let mut n = 0u64;
    for shift in (0..64).step_by(7) {
        let byte = take_byte(from)?;
        n |= u64::from(byte & 0x7f).checked_shl(shift)?;
        if byte & 0x80 == 0 {
            return Some(n);
        }
    }
    None
}

pub(super) fn take_bytes<'a>(from: &mut &'a [u8]) -> Option<&'a [u8]> {
    let len = usize::try_from(take_number(from)?).ok()?;
    let (bytes, rest) = from.split_at_checked(len)?;
    *from = rest;
    Some(bytes)
}

fn take_text<'a>(from: &mut &'a [u8]) -> Option<&'a str> {
    std::str::from_utf8(take_bytes(from)?).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_and_records_read_back() {
        for n in [0, 1, 127, 128, 300, u64::from(u32::MAX), u64::MAX] {
            let mut bytes = Vec::new();
            put_number(&mut bytes, n);
            assert_eq!(take_number(&mut &*bytes), Some(n));
            assert_eq!(take_number(&mut &bytes[..bytes.len() - 1]), None);
        }
        let pairs = |n: usize| (0..n).map(|i| (format!("name{i}"), "v".repeat(i * 100))).collect();
        let attrs = Attrs { labels: pairs(3), fields: pairs(2), terms: vec!["owner=1".into(), String::new()] };
        let entry = Entry {
            key: "k".into(),
            value: vec![7; 3_000].into(),
            revision_at: 200..203,
            attrs: Arc::new(attrs),
            created: Revision(5),
            modified: Revision(900),
            decoded: OnceLock::new(),
            packed: OnceLock::new(),
        };
        let mut record = Vec::new();
        encode(&entry, &mut record);
        let fields =
            |e: &Entry| (e.key.clone(), e.value.clone(), e.revision_at.clone(), e.attrs.clone(), e.created, e.modified);
        assert_eq!(fields(&decode("k", &record).unwrap()), fields(&entry));
        let with_a_part_from_the_future = [&[RECORD_VERSION, 99, 2, 1, 2], &record[1..]].concat();
        assert_eq!(fields(&decode("k", &with_a_part_from_the_future).unwrap()), fields(&entry));
        // However it is cut short, it is refused and not misread; within the value, where the revision is what must fit.
        for len in 0..record.len() - 3_000 + 203 {
            assert!(decode("k", &record[..len]).is_none(), "cut at {len}");
        }
    }
}

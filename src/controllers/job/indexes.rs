//! Sets of completion indexes, and their text: `1,3-5,7`.
//!
//! **Source**: `pkg/controller/job/indexed_job_utils.go`, v1.37.

use crate::base::ordered::Set;
use std::fmt;

/// Completion indexes, in order.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Indexes(Set<i32>);

impl Indexes {
    /// Reads the text; what is not below `completions`, and what cannot be read, is left out.
    pub(super) fn parse(text: &str, completions: i32) -> Self {
        let range = |part: &str| {
            let (first, last) = part.split_once('-').unwrap_or((part, part));
            Some((first.parse::<i32>().ok()?.max(0), last.parse::<i32>().ok()?.min(completions - 1)))
        };
        Self(text.split(',').filter_map(range).flat_map(|(first, last)| first..=last).collect())
    }

    pub(super) fn len(&self) -> i32 {
        i32::try_from(self.0.len()).expect("a job has fewer than 2^31 indexes")
    }

    pub(super) fn has(&self, index: i32) -> bool {
        self.0.contains(&index)
    }

    pub(super) fn insert(&mut self, index: i32) -> bool {
        self.0.insert(index)
    }

    /// How many of the others are in it.
    pub(super) fn shared_with(&self, others: &Self) -> i32 {
        i32::try_from(self.0.intersection(&others.0).count()).expect("a job has fewer than 2^31 indexes")
    }
}

impl FromIterator<i32> for Indexes {
    fn from_iter<I: IntoIterator<Item = i32>>(indexes: I) -> Self {
        Self(indexes.into_iter().collect())
    }
}

impl fmt::Display for Indexes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut ranges: Vec<(i32, i32)> = Vec::new();
        for index in &self.0 {
            match ranges.last_mut() {
                Some((_, last)) if *last + 1 == *index => *last = *index,
                _ => ranges.push((*index, *index)),
            }
        }
        let text = |(first, last): &(i32, i32)| match last - first {
            0 => first.to_string(),
            // Two in a row are no range.
            1 => format!("{first},{last}"),
            _ => format!("{first}-{last}"),
        };
        f.write_str(&ranges.iter().map(text).collect::<Vec<_>>().join(","))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn ranges_are_read_and_written_as_kubernetes_does() {
        for (text, completions, expected) in [
            ("", 5, ""),
            ("0", 5, "0"),
            ("0,1", 5, "0,1"),
            ("0-2,4", 5, "0-2,4"),
            ("1,3-9", 5, "1,3,4"),
            ("x,2", 5, "2"),
        ] {
            assert_eq!(Indexes::parse(text, completions).to_string(), expected, "{text}");
        }
    }

    proptest! {
        #[test]
        fn what_is_written_is_read_again(indexes in prop::collection::btree_set(0..60i32, 0..40)) {
            let indexes = Indexes(indexes.into_iter().collect());
            prop_assert_eq!(Indexes::parse(&indexes.to_string(), 60), indexes);
        }
    }
}

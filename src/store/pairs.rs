//! Names with values, in two pieces of memory: every entry keeps its labels and its selectable fields, and a map of strings takes three
//! times as much. An Event has a dozen of them, and Events are most of what a busy cluster keeps.

use crate::api::selector::Named;

/// Names with values, in the order in which they were given.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Pairs {
    /// Each name, and its value after it.
    text: Box<str>,
    /// Where each of them ends.
    ends: Box<[u32]>,
}

impl Pairs {
    /// Each name with its value.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &str)> {
        let mut start = 0;
        self.ends.as_chunks::<2>().0.iter().map(move |[name, value]| {
            let (name_at, value_at) = (start..*name as usize, *name as usize..*value as usize);
            start = value_at.end;
            (&self.text[name_at], &self.text[value_at])
        })
    }
}

impl<N: AsRef<str>, V: AsRef<str>> FromIterator<(N, V)> for Pairs {
    fn from_iter<I: IntoIterator<Item = (N, V)>>(pairs: I) -> Self {
        let (mut text, mut ends) = (String::new(), Vec::new());
        let mut add = |part: &str| {
            text.push_str(part);
            ends.push(u32::try_from(text.len()).expect("an object is smaller than four gigabytes"));
        };
        for (name, value) in pairs {
            add(name.as_ref());
            add(value.as_ref());
        }
        Self { text: text.into(), ends: ends.into() }
    }
}

impl Named for Pairs {
    fn value(&self, name: &str) -> Option<&str> {
        self.iter().find(|(known, _)| *known == name).map(|(_, value)| value)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::collections::BTreeMap;

    proptest! {
        #[test]
        fn pairs_say_what_a_map_says(map in prop::collection::btree_map("[aö]{0,3}", ".{0,4}", 0..6), name in "[aö]{0,3}") {
            let pairs: Pairs = map.iter().collect();
            prop_assert!(pairs.iter().eq(map.iter().map(|(name, value)| (name.as_str(), value.as_str()))));
            prop_assert_eq!(pairs.value(&name), map.get(&name).map(String::as_str));
            let same: BTreeMap<String, String> = pairs.iter().map(|(n, v)| (n.to_owned(), v.to_owned())).collect();
            prop_assert_eq!(same, map);
        }
    }
}

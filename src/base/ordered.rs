//! Sorted lists, maps and sets, made by little code.
//!
//! The standard library's `sort_by`, its ordered maps and their `collect` are quick for millions, and are compiled anew for each type, each
//! iterator and each order: five to fifteen kilobytes every time, which were a fifth of the program. What is sorted here has some dozens
//! to some thousands. A [`Map`] and a [`Set`] are sorted lists; `BTreeMap` is for what holds many thousands that come and go one by one,
//! and for the fields of Kubernetes' own types, whose code is there anyway: they are made by `collect_ordered`.

mod map;
mod set;

pub use map::Map;
pub use set::Set;

use std::{cmp::Ordering, collections::BTreeMap};

/// What keeps its items in their order.
pub trait Ordered<T>: Default {
    /// Adds one; of equal keys the last stays.
    fn put(&mut self, item: T);
}

impl<K: Ord, V> Ordered<(K, V)> for BTreeMap<K, V> {
    fn put(&mut self, (key, value): (K, V)) {
        self.insert(key, value);
    }
}

impl Ordered<(String, serde_json::Value)> for serde_json::Map<String, serde_json::Value> {
    fn put(&mut self, (key, value): (String, serde_json::Value)) {
        self.insert(key, value);
    }
}

/// `collect` for what keeps its items in order.
pub trait CollectOrdered: Iterator + Sized {
    /// All items, as a map or a set.
    fn collect_ordered<C: Ordered<Self::Item>>(self) -> C {
        let mut all = C::default();
        self.for_each(|item| all.put(item));
        all
    }
}

impl<I: Iterator> CollectOrdered for I {}

/// `sort` and `sort_by_key` for lists. Equal ones keep their order.
pub trait SortList<T> {
    /// By the items' own order.
    fn sort_list(&mut self)
    where
        T: Ord;

    /// By `order`.
    fn sort_list_by(&mut self, order: impl FnMut(&T, &T) -> Ordering);

    /// By a key, which is made anew for each comparison.
    fn sort_list_by_key<K: Ord>(&mut self, key: impl FnMut(&T) -> K);
}

impl<T> SortList<T> for [T] {
    fn sort_list(&mut self)
    where
        T: Ord,
    {
        self.sort_list_by(T::cmp);
    }

    fn sort_list_by(&mut self, mut order: impl FnMut(&T, &T) -> Ordering) {
        let places = sorted_places(self.len(), &mut |a, b| order(&self[a], &self[b]));
        put_in_places(places, &mut |a, b| self.swap(a, b));
    }

    fn sort_list_by_key<K: Ord>(&mut self, mut key: impl FnMut(&T) -> K) {
        self.sort_list_by(|a, b| key(a).cmp(&key(b)));
    }
}

/// Which item comes first, which second, and so on.
fn sorted_places(items: usize, order: &mut dyn FnMut(usize, usize) -> Ordering) -> Vec<usize> {
    let mut places: Vec<usize> = (0..items).collect();
    places.sort_by(|a, b| order(*a, *b));
    places
}

/// Moves the item that was at `places[n]` to `n`, for every `n`, by swaps.
fn put_in_places(mut places: Vec<usize>, swap: &mut dyn FnMut(usize, usize)) {
    for start in 0..places.len() {
        let mut to = start;
        loop {
            let from = std::mem::replace(&mut places[to], to);
            if from == start {
                break;
            }
            swap(to, from);
            to = from;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn lists_are_sorted_as_by_the_standard_library(items in prop::collection::vec((0u8..9, any::<u16>()), 0..60)) {
            let (mut ours, mut theirs) = (items.clone(), items.clone());
            ours.sort_list_by_key(|(key, _)| std::cmp::Reverse(*key));
            theirs.sort_by_key(|(key, _)| std::cmp::Reverse(*key));
            prop_assert_eq!(&ours, &theirs, "equal keys stay as they were");
            ours.sort_list();
            theirs.sort_unstable();
            prop_assert_eq!(ours, theirs);
        }

        #[test]
        fn maps_are_collected_as_by_the_standard_library(items in prop::collection::vec((0u8..9, any::<u16>()), 0..60)) {
            let theirs: BTreeMap<u8, u16> = items.iter().copied().collect();
            let ours: BTreeMap<u8, u16> = items.iter().copied().collect_ordered();
            prop_assert_eq!(ours, theirs, "the last of equal keys");
        }
    }
}

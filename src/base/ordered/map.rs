//! A map that is a sorted list.
//!
//! It behaves as `BTreeMap` and has those of its functions that are used. Little code and little memory; one that comes or goes moves all
//! behind it, which is nothing for a thousand and much for a hundred thousand. A whole map that is collected is in order by one sort.

use super::SortList;
use litemap::{Entry, LiteMap};
use serde::{
    Deserialize, Deserializer, Serialize, Serializer,
    de::{MapAccess, Visitor},
};
use std::{
    borrow::Borrow,
    fmt::{self, Debug, Formatter},
    iter::FusedIterator,
    marker::PhantomData,
    mem,
    ops::{Index, RangeFrom},
    slice, vec,
};

/// Keys with their values, in the keys' order.
#[derive(Clone, PartialEq, Eq)]
pub struct Map<K, V>(LiteMap<K, V>);

impl<K, V> Map<K, V> {
    /// An empty one.
    pub const fn new() -> Self {
        Self(LiteMap::new_vec())
    }

    /// How many keys it has.
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// Whether it has no keys.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Takes all out.
    pub fn clear(&mut self) {
        self.0 = LiteMap::new_vec();
    }

    /// The least key and its value.
    pub fn first_key_value(&self) -> Option<(&K, &V)> {
        self.0.first()
    }

    /// Keys and values.
    pub fn iter(&self) -> Iter<'_, K, V> {
        Iter(self.0.as_slice().iter())
    }

    /// Keys and values to change.
    pub fn iter_mut(&mut self) -> IterMut<'_, K, V> {
        self.0.iter_mut()
    }

    /// The keys.
    pub fn keys(&self) -> impl DoubleEndedIterator<Item = &K> + ExactSizeIterator + Clone {
        self.0.as_slice().iter().map(|(key, _)| key)
    }

    /// The values, in the keys' order.
    pub fn values(&self) -> impl DoubleEndedIterator<Item = &V> + ExactSizeIterator + Clone {
        self.0.as_slice().iter().map(|(_, value)| value)
    }

    /// The values to change, in the keys' order.
    pub fn values_mut(&mut self) -> impl DoubleEndedIterator<Item = &mut V> + ExactSizeIterator {
        self.0.iter_mut().map(|(_, value)| value)
    }

    /// The keys by themselves.
    pub fn into_keys(self) -> impl DoubleEndedIterator<Item = K> + ExactSizeIterator {
        self.into_iter().map(|(key, _)| key)
    }

    /// The values by themselves, in the keys' order.
    pub fn into_values(self) -> impl DoubleEndedIterator<Item = V> + ExactSizeIterator {
        self.into_iter().map(|(_, value)| value)
    }

    /// Keeps those that are to be kept.
    pub fn retain(&mut self, mut is_kept: impl FnMut(&K, &mut V) -> bool) {
        self.with_list(|list| list.retain_mut(|(key, value)| is_kept(key, value)));
    }

    /// Takes some out: those.
    pub fn extract_if(&mut self, mut is_taken: impl FnMut(&K, &mut V) -> bool) -> Vec<(K, V)> {
        self.with_list(|list| list.extract_if(.., |(key, value)| is_taken(key, value)).collect())
    }

    /// Takes the least key and its value out.
    pub fn pop_first(&mut self) -> Option<(K, V)> {
        self.with_list(|list| if list.is_empty() { None } else { Some(list.remove(0)) })
    }

    /// Changes the list, which stays in order. What panics in between loses nothing.
    fn with_list<T>(&mut self, change: impl FnOnce(&mut Vec<(K, V)>) -> T) -> T {
        let list = mem::take(self).into_list();
        change(&mut Lent { list, map: self }.list)
    }

    fn into_list(self) -> Vec<(K, V)> {
        self.0.into_tuple_vec()
    }

    fn of_sorted(list: Vec<(K, V)>) -> Self {
        Self(LiteMap::from_sorted_store_unchecked(list))
    }
}

/// A map's list, which goes back to it.
struct Lent<'m, K, V> {
    list: Vec<(K, V)>,
    map: &'m mut Map<K, V>,
}

impl<K, V> Drop for Lent<'_, K, V> {
    fn drop(&mut self) {
        *self.map = Map::of_sorted(mem::take(&mut self.list));
    }
}

impl<K: Ord, V> Map<K, V> {
    /// The value of a key.
    pub fn get<Q: Ord + ?Sized>(&self, key: &Q) -> Option<&V>
    where
        K: Borrow<Q>,
    {
        self.0.get(key)
    }

    /// A key that is there, and its value.
    pub fn get_key_value<Q: Ord + ?Sized>(&self, key: &Q) -> Option<(&K, &V)>
    where
        K: Borrow<Q>,
    {
        let at = self.0.find_index(key).ok()?;
        self.0.get_indexed(at)
    }

    /// The value of a key, to change.
    pub fn get_mut<Q: Ord + ?Sized>(&mut self, key: &Q) -> Option<&mut V>
    where
        K: Borrow<Q>,
    {
        self.0.get_mut(key)
    }

    /// Whether it has the key.
    pub fn contains_key<Q: Ord + ?Sized>(&self, key: &Q) -> bool
    where
        K: Borrow<Q>,
    {
        self.0.contains_key(key)
    }

    /// Gives a key its value; the one that it had.
    pub fn insert(&mut self, key: K, value: V) -> Option<V> {
        self.0.insert(key, value)
    }

    /// Takes a key out; the value that it had.
    pub fn remove<Q: Ord + ?Sized>(&mut self, key: &Q) -> Option<V>
    where
        K: Borrow<Q>,
    {
        self.0.remove(key)
    }

    /// The place of a key, to fill or to change.
    pub fn entry(&mut self, key: K) -> Entry<'_, K, V, Vec<(K, V)>> {
        self.0.entry(key)
    }

    /// The keys from one on, with their values.
    pub fn range<Q: Ord + ?Sized>(&self, from: RangeFrom<&Q>) -> Iter<'_, K, V>
    where
        K: Borrow<Q>,
    {
        let (Ok(at) | Err(at)) = self.0.find_index(from.start);
        Iter(self.0.as_slice()[at..].iter())
    }

    /// Few are put in their places, one by one. Many are put behind, and all is sorted.
    fn add_all(&mut self, items: Vec<(K, V)>) {
        if items.len() <= self.len() / 8 {
            for (key, value) in items {
                self.insert(key, value);
            }
            return;
        }
        let mut list = mem::take(self).into_list();
        list.extend(items);
        *self = list.into();
    }
}

impl<K: Ord, T> Map<K, Vec<T>> {
    /// Items by their keys; those of one key in the order in which they come.
    pub fn of_groups(items: impl IntoIterator<Item = (K, T)>) -> Self {
        Self::of_groups_in(items.into_iter().collect())
    }

    fn of_groups_in(mut items: Vec<(K, T)>) -> Self {
        items.sort_list_by(|(a, _), (b, _)| a.cmp(b));
        let mut groups: Vec<(K, Vec<T>)> = Vec::new();
        for (key, item) in items {
            match groups.last_mut() {
                Some((last, group)) if *last == key => group.push(item),
                _ => groups.push((key, vec![item])),
            }
        }
        Self::of_sorted(groups)
    }
}

/// Of equal keys the last stays.
impl<K: Ord, V> From<Vec<(K, V)>> for Map<K, V> {
    fn from(mut list: Vec<(K, V)>) -> Self {
        if !list.is_sorted_by(|(a, _), (b, _)| a < b) {
            list.sort_list_by(|(a, _), (b, _)| a.cmp(b));
            list.dedup_by(|later, kept| {
                let is_again = later.0 == kept.0;
                if is_again {
                    mem::swap(later, kept);
                }
                is_again
            });
        }
        Self::of_sorted(list)
    }
}

impl<K: Ord, V, const N: usize> From<[(K, V); N]> for Map<K, V> {
    fn from(items: [(K, V); N]) -> Self {
        Vec::from(items).into()
    }
}

impl<K: Ord, V> FromIterator<(K, V)> for Map<K, V> {
    fn from_iter<I: IntoIterator<Item = (K, V)>>(items: I) -> Self {
        Vec::from_iter(items).into()
    }
}

impl<K: Ord, V> Extend<(K, V)> for Map<K, V> {
    fn extend<I: IntoIterator<Item = (K, V)>>(&mut self, items: I) {
        self.add_all(items.into_iter().collect());
    }
}

impl<K, V> Default for Map<K, V> {
    fn default() -> Self {
        Self::new()
    }
}

impl<K: Debug, V: Debug> Debug for Map<K, V> {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        f.debug_map().entries(self).finish()
    }
}

impl<K: Borrow<Q> + Ord, V, Q: Ord + ?Sized> Index<&Q> for Map<K, V> {
    type Output = V;

    fn index(&self, key: &Q) -> &V {
        self.get(key).expect("the map has the key")
    }
}

impl<K: Serialize, V: Serialize> Serialize for Map<K, V> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_map(self)
    }
}

impl<'de, K: Deserialize<'de> + Ord, V: Deserialize<'de>> Deserialize<'de> for Map<K, V> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_map(Items(PhantomData))
    }
}

/// Reads a map.
struct Items<K, V>(PhantomData<(K, V)>);

impl<'de, K: Deserialize<'de> + Ord, V: Deserialize<'de>> Visitor<'de> for Items<K, V> {
    type Value = Map<K, V>;

    fn expecting(&self, f: &mut Formatter<'_>) -> fmt::Result {
        f.write_str("a map")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
        let mut list = Vec::new();
        while let Some(item) = map.next_entry()? {
            list.push(item);
        }
        Ok(list.into())
    }
}

/// Goes over keys and values.
pub struct Iter<'a, K, V>(slice::Iter<'a, (K, V)>);

impl<K, V> Clone for Iter<'_, K, V> {
    fn clone(&self) -> Self {
        Self(self.0.clone())
    }
}

impl<'a, K, V> Iterator for Iter<'a, K, V> {
    type Item = (&'a K, &'a V);

    fn next(&mut self) -> Option<Self::Item> {
        self.0.next().map(|(key, value)| (key, value))
    }

    fn size_hint(&self) -> (usize, Option<usize>) {
        self.0.size_hint()
    }
}

impl<K, V> DoubleEndedIterator for Iter<'_, K, V> {
    fn next_back(&mut self) -> Option<Self::Item> {
        self.0.next_back().map(|(key, value)| (key, value))
    }
}

impl<K, V> ExactSizeIterator for Iter<'_, K, V> {}
impl<K, V> FusedIterator for Iter<'_, K, V> {}

/// Goes over keys, and values to change.
type IterMut<'a, K, V> = <&'a mut LiteMap<K, V> as IntoIterator>::IntoIter;

impl<K, V> IntoIterator for Map<K, V> {
    type Item = (K, V);
    type IntoIter = vec::IntoIter<(K, V)>;

    fn into_iter(self) -> Self::IntoIter {
        self.into_list().into_iter()
    }
}

impl<'a, K, V> IntoIterator for &'a Map<K, V> {
    type Item = (&'a K, &'a V);
    type IntoIter = Iter<'a, K, V>;

    fn into_iter(self) -> Self::IntoIter {
        self.iter()
    }
}

impl<'a, K, V> IntoIterator for &'a mut Map<K, V> {
    type Item = (&'a K, &'a mut V);
    type IntoIter = IterMut<'a, K, V>;

    fn into_iter(self) -> Self::IntoIter {
        self.iter_mut()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::{
        collections::BTreeMap,
        panic::{AssertUnwindSafe, catch_unwind},
    };

    #[derive(Clone, Debug)]
    enum Op {
        Insert(u8, u16),
        Remove(u8),
        Add(u8, u16),
        PopFirst,
        Extend(Vec<(u8, u16)>),
        RetainFrom(u16),
        TakeFrom(u16),
    }

    fn items(most: usize) -> impl Strategy<Value = Vec<(u8, u16)>> {
        prop::collection::vec((0u8..40, 0u16..99), 0..most)
    }

    fn op() -> impl Strategy<Value = Op> {
        let (key, value) = (|| 0u8..40, || 0u16..99);
        prop_oneof![
            (key(), value()).prop_map(|(k, v)| Op::Insert(k, v)),
            key().prop_map(Op::Remove),
            (key(), value()).prop_map(|(k, v)| Op::Add(k, v)),
            Just(Op::PopFirst),
            items(4).prop_map(Op::Extend),
            items(40).prop_map(Op::Extend),
            value().prop_map(Op::RetainFrom),
            value().prop_map(Op::TakeFrom),
        ]
    }

    #[test]
    fn a_predicate_that_panics_loses_nothing() {
        let mut map = Map::from([(1, 'a'), (2, 'b'), (3, 'c')]);
        let fails = |key: &i32, is: bool| {
            assert_ne!(*key, 2, "as wanted");
            is
        };
        let kept = catch_unwind(AssertUnwindSafe(|| map.retain(|key, _| fails(key, true))));
        let taken = catch_unwind(AssertUnwindSafe(|| map.extract_if(|key, _| fails(key, false))));
        assert!(kept.is_err() && taken.is_err());
        assert_eq!(map, Map::from([(1, 'a'), (2, 'b'), (3, 'c')]));
    }

    proptest! {
        #[test]
        fn it_is_what_the_standard_librarys_is(start in items(60), ops in prop::collection::vec(op(), 0..40), probe in 0u8..40) {
            let (mut ours, mut theirs): (Map<u8, u16>, BTreeMap<u8, u16>) =
                (start.iter().copied().collect(), start.into_iter().collect());
            for op in ops {
                match op {
                    Op::Insert(key, value) => prop_assert_eq!(ours.insert(key, value), theirs.insert(key, value)),
                    Op::Remove(key) => prop_assert_eq!(ours.remove(&key), theirs.remove(&key)),
                    Op::Add(key, value) => {
                        *ours.entry(key).or_default() += value;
                        *theirs.entry(key).or_default() += value;
                    }
                    Op::PopFirst => prop_assert_eq!(ours.pop_first(), theirs.pop_first()),
                    Op::Extend(items) => {
                        ours.extend(items.iter().copied());
                        theirs.extend(items);
                    }
                    Op::RetainFrom(least) => {
                        ours.retain(|_, value| *value >= least);
                        theirs.retain(|_, value| *value >= least);
                    }
                    Op::TakeFrom(least) => {
                        let taken: Vec<_> = theirs.extract_if(.., |_, value| *value >= least).collect();
                        prop_assert_eq!(ours.extract_if(|_, value| *value >= least), taken);
                    }
                }
                prop_assert!(ours.iter().eq(theirs.iter()), "{ours:?} is not {theirs:?}");
            }
            prop_assert_eq!((ours.len(), ours.is_empty()), (theirs.len(), theirs.is_empty()));
            prop_assert_eq!((ours.get(&probe), ours.contains_key(&probe)), (theirs.get(&probe), theirs.contains_key(&probe)));
            prop_assert_eq!(ours.get_key_value(&probe), theirs.get_key_value(&probe));
            prop_assert_eq!(ours.get_mut(&probe), theirs.get_mut(&probe));
            prop_assert_eq!(ours.first_key_value(), theirs.first_key_value());
            prop_assert!(ours.range(&probe..).eq(theirs.range(probe..)));
            prop_assert!(ours.iter().rev().eq(theirs.iter().rev()));
            prop_assert!(ours.keys().eq(theirs.keys()) && ours.values().eq(theirs.values()));
            prop_assert_eq!(format!("{ours:?}"), format!("{theirs:?}"));
            prop_assert_eq!(serde_json::to_string(&ours).unwrap(), serde_json::to_string(&theirs).unwrap());
            prop_assert_eq!(serde_json::from_str::<Map<u8, u16>>(&serde_json::to_string(&theirs).unwrap()).unwrap(), ours.clone());
            prop_assert!(ours.into_iter().eq(theirs));
        }

        #[test]
        fn groups_are_in_order_and_keep_the_order_of_their_items(items in items(60)) {
            let mut theirs: BTreeMap<u8, Vec<u16>> = BTreeMap::new();
            items.iter().for_each(|(key, item)| theirs.entry(*key).or_default().push(*item));
            prop_assert!(Map::of_groups(items).into_iter().eq(theirs));
        }
    }

    #[test]
    fn a_key_that_is_there_stays_when_it_gets_a_value() {
        #[derive(Debug)]
        struct Named(u8, &'static str);
        impl PartialEq for Named {
            fn eq(&self, other: &Self) -> bool {
                self.0 == other.0
            }
        }
        impl Eq for Named {}
        impl PartialOrd for Named {
            fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
                Some(self.cmp(other))
            }
        }
        impl Ord for Named {
            fn cmp(&self, other: &Self) -> std::cmp::Ordering {
                self.0.cmp(&other.0)
            }
        }
        let mut map = Map::from([(Named(1, "first"), 'a')]);
        assert_eq!(map.insert(Named(1, "second"), 'b'), Some('a'));
        let (key, value) = map.pop_first().unwrap();
        assert_eq!((key.1, value), ("first", 'b'));
    }
}

//! A set that is a sorted list.
//!
//! It is to `BTreeSet` what [`Map`] is to `BTreeMap`.

use super::Map;
use std::{
    borrow::Borrow,
    fmt::{self, Debug, Formatter},
    vec,
};

/// Items in their order, each once.
#[derive(Clone, PartialEq, Eq)]
pub struct Set<T>(Map<T, ()>);

impl<T> Set<T> {
    /// An empty one.
    pub const fn new() -> Self {
        Self(Map::new())
    }

    /// How many items it has.
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// Whether it has no items.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Takes all out.
    pub fn clear(&mut self) {
        self.0.clear();
    }

    /// The least.
    pub fn first(&self) -> Option<&T> {
        self.0.first_key_value().map(|(item, ())| item)
    }

    /// Takes the least out.
    pub fn pop_first(&mut self) -> Option<T> {
        self.0.pop_first().map(|(item, ())| item)
    }

    /// All items.
    pub fn iter(&self) -> Iter<'_, T> {
        Iter(self.0.iter())
    }

    /// Keeps those that are to be kept.
    pub fn retain(&mut self, mut is_kept: impl FnMut(&T) -> bool) {
        self.0.retain(|item, ()| is_kept(item));
    }
}

impl<T: Ord> Set<T> {
    /// Whether it has the item.
    pub fn contains<Q: Ord + ?Sized>(&self, item: &Q) -> bool
    where
        T: Borrow<Q>,
    {
        self.0.contains_key(item)
    }

    /// Puts one in; whether it was not there.
    pub fn insert(&mut self, item: T) -> bool {
        self.0.insert(item, ()).is_none()
    }

    /// Takes one out; whether it was there.
    pub fn remove<Q: Ord + ?Sized>(&mut self, item: &Q) -> bool
    where
        T: Borrow<Q>,
    {
        self.0.remove(item).is_some()
    }

    /// Those that the other has not.
    pub fn difference(&self, other: &Self) -> impl Iterator<Item = &T> {
        self.iter().filter(|item| !other.contains(*item))
    }

    /// Those that the other has too.
    pub fn intersection(&self, other: &Self) -> impl Iterator<Item = &T> {
        self.iter().filter(|item| other.contains(*item))
    }

    /// Whether the other has all of this.
    pub fn is_subset(&self, other: &Self) -> bool {
        self.iter().all(|item| other.contains(item))
    }

    /// Whether this has all of the other.
    pub fn is_superset(&self, other: &Self) -> bool {
        other.is_subset(self)
    }
}

impl<T: Ord, const N: usize> From<[T; N]> for Set<T> {
    fn from(items: [T; N]) -> Self {
        items.into_iter().collect()
    }
}

impl<T: Ord> FromIterator<T> for Set<T> {
    fn from_iter<I: IntoIterator<Item = T>>(items: I) -> Self {
        Self(items.into_iter().map(|item| (item, ())).collect())
    }
}

impl<T: Ord> Extend<T> for Set<T> {
    fn extend<I: IntoIterator<Item = T>>(&mut self, items: I) {
        self.0.extend(items.into_iter().map(|item| (item, ())));
    }
}

impl<T> Default for Set<T> {
    fn default() -> Self {
        Self::new()
    }
}

impl<T: Debug> Debug for Set<T> {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        f.debug_set().entries(self).finish()
    }
}

/// Goes over the items.
pub struct Iter<'a, T>(super::map::Iter<'a, T, ()>);

impl<T> Clone for Iter<'_, T> {
    fn clone(&self) -> Self {
        Self(self.0.clone())
    }
}

impl<'a, T> Iterator for Iter<'a, T> {
    type Item = &'a T;

    fn next(&mut self) -> Option<&'a T> {
        self.0.next().map(|(item, ())| item)
    }

    fn size_hint(&self) -> (usize, Option<usize>) {
        self.0.size_hint()
    }
}

impl<T> DoubleEndedIterator for Iter<'_, T> {
    fn next_back(&mut self) -> Option<Self::Item> {
        self.0.next_back().map(|(item, ())| item)
    }
}

impl<T> ExactSizeIterator for Iter<'_, T> {}

/// Gives the items away.
pub struct IntoIter<T>(vec::IntoIter<(T, ())>);

impl<T> Iterator for IntoIter<T> {
    type Item = T;

    fn next(&mut self) -> Option<T> {
        self.0.next().map(|(item, ())| item)
    }

    fn size_hint(&self) -> (usize, Option<usize>) {
        self.0.size_hint()
    }
}

impl<T> DoubleEndedIterator for IntoIter<T> {
    fn next_back(&mut self) -> Option<T> {
        self.0.next_back().map(|(item, ())| item)
    }
}

impl<T> ExactSizeIterator for IntoIter<T> {}

impl<T> IntoIterator for Set<T> {
    type Item = T;
    type IntoIter = IntoIter<T>;

    fn into_iter(self) -> IntoIter<T> {
        IntoIter(self.0.into_iter())
    }
}

impl<'a, T> IntoIterator for &'a Set<T> {
    type Item = &'a T;
    type IntoIter = Iter<'a, T>;

    fn into_iter(self) -> Iter<'a, T> {
        self.iter()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::collections::BTreeSet;

    proptest! {
        #[test]
        fn it_is_what_the_standard_librarys_is(
            start in prop::collection::vec(0u8..40, 0..40),
            other in prop::collection::vec(0u8..40, 0..40),
            steps in prop::collection::vec((0u8..5, 0u8..40), 0..40),
        ) {
            let (mut ours, mut theirs): (Set<u8>, BTreeSet<u8>) = (start.iter().copied().collect(), start.into_iter().collect());
            for (step, item) in steps {
                match step {
                    0 => prop_assert_eq!(ours.remove(&item), theirs.remove(&item)),
                    1 => prop_assert_eq!(ours.pop_first(), theirs.pop_first()),
                    _ => prop_assert_eq!(ours.insert(item), theirs.insert(item)),
                }
                prop_assert_eq!((ours.len(), ours.is_empty()), (theirs.len(), theirs.is_empty()));
                prop_assert_eq!(ours.contains(&item), theirs.contains(&item));
            }
            prop_assert_eq!(ours.first(), theirs.first());
            prop_assert!(ours.iter().eq(&theirs) && ours.iter().rev().eq(theirs.iter().rev()));
            prop_assert_eq!(format!("{ours:?}"), format!("{theirs:?}"));
            let (our_other, their_other): (Set<u8>, BTreeSet<u8>) = (other.iter().copied().collect(), other.iter().copied().collect());
            prop_assert!(ours.difference(&our_other).eq(theirs.difference(&their_other)));
            prop_assert!(ours.intersection(&our_other).eq(theirs.intersection(&their_other)));
            prop_assert_eq!(ours.is_subset(&our_other), theirs.is_subset(&their_other));
            prop_assert_eq!(ours.is_superset(&our_other), theirs.is_superset(&their_other));
            ours.extend(other.iter().copied());
            theirs.extend(other);
            ours.retain(|item| item % 3 != 0);
            theirs.retain(|item| item % 3 != 0);
            prop_assert!(ours.into_iter().eq(theirs));
        }
    }
}

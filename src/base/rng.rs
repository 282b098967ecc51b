//! The one source of chance: UIDs, name suffixes and jitter, seeded by the simulator and by the system otherwise.

use rand::{Rng as _, RngExt as _, SeedableRng as _};
use rand_chacha::ChaCha8Rng;
use std::sync::{Arc, Mutex};

/// Letters and digits that Kubernetes uses in generated names: no vowels and nothing that looks like another character.
/// Source: `k8s.io/apimachinery/pkg/util/rand`, v1.37.
pub const NAME_ALPHABET: &[u8; 27] = b"bcdfghjklmnpqrstvwxz2456789";

/// A shared random number generator; clones draw from the same stream.
#[derive(Clone, Debug)]
pub struct Rng(Arc<Mutex<ChaCha8Rng>>);

impl Rng {
    /// A generator seeded by the operating system.
    pub fn from_system() -> Self {
        Self(Arc::new(Mutex::new(rand::make_rng())))
    }

    /// A generator that gives the same stream for the same seed.
    pub fn seeded(seed: u64) -> Self {
        Self(Arc::new(Mutex::new(ChaCha8Rng::seed_from_u64(seed))))
    }

    fn with<T>(&self, draw: impl FnOnce(&mut ChaCha8Rng) -> T) -> T {
        draw(&mut self.0.lock().expect("no one panics while drawing"))
    }

    /// A fresh object UID: a version 4 UUID in lower case.
    pub fn uid(&self) -> String {
        let mut b = [0u8; 16];
        self.with(|r| r.fill_bytes(&mut b));
        b[6] = (b[6] & 0x0f) | 0x40;
        b[8] = (b[8] & 0x3f) | 0x80;
        let n = u128::from_be_bytes(b);
        format!(
            "{:08x}-{:04x}-{:04x}-{:04x}-{:012x}",
            n >> 96,
            (n >> 80) & 0xffff,
            (n >> 64) & 0xffff,
            (n >> 48) & 0xffff,
            n & 0xffff_ffff_ffff
        )
    }

    /// The five characters that complete a `generateName`.
    pub fn name_suffix(&self) -> String {
        self.with(|r| (0..5).map(|_| char::from(NAME_ALPHABET[r.random_range(0..NAME_ALPHABET.len())])).collect())
    }

    /// A number from `low` up to, not including, `high`.
    pub fn between(&self, low: u64, high: u64) -> u64 {
        self.with(|r| r.random_range(low..high))
    }

    /// True once in `n` draws on average.
    pub fn one_in(&self, n: u64) -> bool {
        self.between(0, n) == 0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_same_seed_gives_the_same_stream() {
        let (a, b) = (Rng::seeded(7), Rng::seeded(7));
        assert_eq!(a.uid(), b.uid());
        assert_eq!(a.name_suffix(), b.name_suffix());
        assert_ne!(a.uid(), a.uid());
    }

    #[test]
    fn a_uid_is_a_version_4_uuid() {
        let uid = Rng::seeded(1).uid();
        assert_eq!(uid.len(), 36);
        assert_eq!(uid.as_bytes()[14], b'4');
    }
}

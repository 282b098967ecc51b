//! How far a pull is: the engine tells of each layer, whoever waits reads the sum.

use crate::base::ordered::Map;
use std::{
    fmt,
    sync::atomic::{AtomicU64, Ordering::Relaxed},
};

/// Bytes of an image that are here, and bytes that are known to belong to it; both grow while layers become known.
#[derive(Debug, Default)]
pub struct PullProgress {
    here: AtomicU64,
    all: AtomicU64,
}

impl PullProgress {
    /// Takes over what is known now, in bytes.
    pub fn set(&self, here: u64, all: u64) {
        self.here.store(here, Relaxed);
        self.all.store(all, Relaxed);
    }

    /// Whether anything is known.
    pub fn is_known(&self) -> bool {
        self.all.load(Relaxed) > 0
    }
}

/// `12.3 MB of 45.6 MB`.
impl fmt::Display for PullProgress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        #[allow(clippy::cast_precision_loss, reason = "a figure for people")]
        let megabytes = |bytes: &AtomicU64| bytes.load(Relaxed) as f64 / 1e6;
        write!(f, "{:.1} MB of {:.1} MB", megabytes(&self.here), megabytes(&self.all))
    }
}

/// The layers of one pull. The engine downloads each, then unpacks it, and counts both in the same field.
#[derive(Debug, Default)]
pub(super) struct Layers(Map<String, (u64, u64)>);

impl Layers {
    /// Takes in what the engine says of a layer: a status in words, and bytes. Source: moby, `distribution/pull_v2.go`.
    pub(super) fn note(&mut self, layer: &str, status: &str, bytes: Option<(u64, u64)>, into: &PullProgress) {
        match (status, bytes) {
            ("Downloading", Some(bytes)) => drop(self.0.insert(layer.to_owned(), bytes)),
            ("Download complete" | "Extracting" | "Pull complete", _) => {
                self.0.entry(layer.to_owned()).and_modify(|(here, all)| *here = *all);
            }
            _ => return,
        }
        let sum = |part: fn(&(u64, u64)) -> u64| self.0.values().map(part).sum();
        into.set(sum(|(here, _)| *here), sum(|(_, all)| *all));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn layers_add_up_and_unpacking_takes_nothing_back() {
        let (progress, mut layers) = (PullProgress::default(), Layers::default());
        let mut after = |layer: &str, status: &str, bytes| {
            layers.note(layer, status, bytes, &progress);
            (progress.is_known(), progress.to_string())
        };
        assert!(!after("latest", "Pulling from library/web", None).0);
        assert!(!after("a", "Pulling fs layer", None).0);
        assert_eq!(after("a", "Downloading", Some((1_000_000, 4_000_000))).1, "1.0 MB of 4.0 MB");
        assert_eq!(after("b", "Downloading", Some((500_000, 2_000_000))).1, "1.5 MB of 6.0 MB");
        assert_eq!(after("a", "Download complete", None).1, "4.5 MB of 6.0 MB");
        assert_eq!(after("a", "Extracting", Some((100_000, 4_000_000))).1, "4.5 MB of 6.0 MB");
        assert_eq!(after("c", "Already exists", None).1, "4.5 MB of 6.0 MB");
    }
}

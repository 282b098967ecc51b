//! How far a rollout may go above and below the wanted number of pods.
//!
//! **Source**: `ResolveFenceposts`, `k8s.io/kubernetes/pkg/controller/deployment/util/deployment_util.go`, v1.37; `GetScaledValueFromIntOrPercent`,
//! `k8s.io/apimachinery/pkg/util/intstr/intstr.go`.

use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;

/// Two numbers of pods.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Fence {
    /// How many more than wanted there may be.
    pub surge: i32,
    /// How many of the wanted may be missing.
    pub unavailable: i32,
}

impl Fence {
    /// Nothing may be more or less.
    pub const CLOSED: Self = Self { surge: 0, unavailable: 0 };

    /// The fence around this many pods. Shares of surge are rounded up, of unavailable down; if nothing is left of both, one may be missing.
    pub fn new(surge: Option<&IntOrString>, unavailable: Option<&IntOrString>, wanted: i32) -> Self {
        let (surge, unavailable) = (scaled(surge, wanted, true), scaled(unavailable, wanted, false));
        Self { surge, unavailable: if surge == 0 && unavailable == 0 { 1 } else { unavailable } }
    }
}

/// A number, or a share of the wanted; nothing is zero.
pub fn scaled(value: Option<&IntOrString>, total: i32, round_up: bool) -> i32 {
    match value {
        None => 0,
        Some(IntOrString::Int(n)) => *n,
        Some(IntOrString::String(text)) => {
            let percent: i64 = text.strip_suffix('%').and_then(|p| p.parse().ok()).unwrap_or(0);
            let share = percent.saturating_mul(total.into());
            let rounded = if round_up { share.saturating_add(99).div_euclid(100) } else { share.div_euclid(100) };
            i32::try_from(rounded).unwrap_or(i32::MAX)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shares_are_rounded_in_favour_of_progress() {
        let percent = |text: &str| Some(IntOrString::String(text.to_owned()));
        let of = |surge: Option<IntOrString>, unavailable: Option<IntOrString>, wanted| {
            let fence = Fence::new(surge.as_ref(), unavailable.as_ref(), wanted);
            (fence.surge, fence.unavailable)
        };
        assert_eq!(of(percent("25%"), percent("25%"), 5), (2, 1));
        assert_eq!(of(percent("25%"), percent("25%"), 1), (1, 0));
        assert_eq!(of(percent("0%"), percent("25%"), 1), (0, 1));
        assert_eq!(of(Some(IntOrString::Int(0)), percent("25%"), 0), (0, 1));
        assert_eq!(of(Some(IntOrString::Int(3)), None, 9), (3, 0));
        assert_eq!(of(None, None, 9), (0, 1));
    }
}

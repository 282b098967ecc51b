//! How fast replicas may change: stabilization windows and policies. Pure.
//!
//! **Source**: `normalizeDesiredReplicas*`, `stabilizeRecommendation*`, `convertDesiredReplicas*` in `pkg/controller/podautoscaler/horizontal.go`,
//! v1.37.

use crate::base::clock::after;
use jiff::{SignedDuration, Timestamp};
use k8s_openapi::api::autoscaling::v2::{HPAScalingPolicy, HPAScalingRules, HorizontalPodAutoscalerBehavior};

/// How long a recommendation keeps replicas from going down, when nobody says. Source: `horizontal-pod-autoscaler-downscale-stabilization`.
const DOWN_WINDOW_SECS: i32 = 300;
/// What replicas may become at once without rules: so many times what they are, or so many.
const UP_FACTOR: i32 = 2;
const UP_MIN: i32 = 4;

/// What was recommended and done, for one autoscaler. It lives as long as the process, as upstream.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Memory {
    /// What was recommended, and when.
    pub(super) recommendations: Vec<(Timestamp, i32)>,
    /// How many replicas came or went, and when; those that went are negative.
    pub(super) changes: Vec<(Timestamp, i32)>,
}

impl Memory {
    /// Forgets what no rule looks at any more.
    fn forget(&mut self, now: Timestamp, behavior: Option<&HorizontalPodAutoscalerBehavior>) {
        let both = || behavior.into_iter().flat_map(|b| [&b.scale_up, &b.scale_down]).flatten();
        let windows = both().filter_map(|rules| rules.stabilization_window_seconds).chain([DOWN_WINDOW_SECS]);
        let window = windows.max().unwrap_or(DOWN_WINDOW_SECS);
        let policies = both().flat_map(|rules| rules.policies.iter().flatten());
        let period = policies.map(|policy| policy.period_seconds).max().unwrap_or_default();
        self.recommendations.retain(|(at, _)| *at > before(now, window));
        self.changes.retain(|(at, _)| *at > before(now, period));
    }

    /// How many came and how many went within a time.
    fn changed_within(&self, secs: i32, now: Timestamp) -> (i32, i32) {
        let within = || self.changes.iter().filter(|(at, _)| *at > before(now, secs)).map(|(_, n)| *n);
        (within().filter(|n| *n > 0).sum(), -within().filter(|n| *n < 0).sum::<i32>())
    }
}

/// What is wanted, and within what.
#[derive(Clone, Copy, Debug)]
pub(super) struct Wish {
    pub(super) replicas: i32,
    pub(super) wanted: i32,
    pub(super) min: i32,
    pub(super) max: i32,
}

/// A condition's reason and message.
pub(super) type Told = (&'static str, &'static str);

/// What becomes of a wish.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Limited {
    pub(super) replicas: i32,
    /// What `AbleToScale` says.
    pub(super) able: Told,
    /// Whether a limit was reached, and which.
    pub(super) is_at_bound: bool,
    pub(super) limit: Told,
}

const READY: Told = ("ReadyForNewScale", "recommended size matches current size");
const DOWN_STABILIZED: Told = (
    "ScaleDownStabilized",
    "recent recommendations were higher than current one, applying the highest recent recommendation",
);
const UP_STABILIZED: Told = (
    "ScaleUpStabilized",
    "recent recommendations were lower than current one, applying the lowest recent recommendation",
);
const WITHIN: Told = ("DesiredWithinRange", "the desired count is within the acceptable range");
const TOO_FEW: Told = ("TooFewReplicas", "the desired replica count is less than the minimum replica count");
const TOO_MANY: Told = ("TooManyReplicas", "the desired replica count is more than the maximum replica count");
const UP_LIMIT: Told = ("ScaleUpLimit", "the desired replica count is increasing faster than the maximum scale rate");
const DOWN_LIMIT: Told =
    ("ScaleDownLimit", "the desired replica count is decreasing faster than the maximum scale rate");

fn before(now: Timestamp, secs: i32) -> Timestamp {
    after(now, SignedDuration::from_secs(-i64::from(secs)))
}

/// The replicas that a wish may have now; `memory` learns of it.
pub(super) fn limit(
    wish: Wish,
    behavior: Option<&HorizontalPodAutoscalerBehavior>,
    memory: &mut Memory,
    now: Timestamp,
) -> Limited {
    memory.forget(now, behavior);
    let (stable, stabilized) = match behavior {
        None => stabilize_down(wish, memory, now),
        Some(behavior) => stabilize(wish, behavior, memory, now),
    };
    memory.recommendations.push((now, wish.wanted));
    let able = if stable == wish.wanted { READY } else { stabilized };
    let wish = Wish { wanted: stable, ..wish };
    let (replicas, limit) = match behavior {
        None => by_factor(wish),
        Some(behavior) => by_rules(wish, behavior, memory, now),
    };
    Limited { replicas, able, is_at_bound: replicas != stable, limit }
}

fn stabilize_down(wish: Wish, memory: &Memory, now: Timestamp) -> (i32, Told) {
    let recent = memory.recommendations.iter().filter(|(at, _)| *at > before(now, DOWN_WINDOW_SECS));
    (recent.map(|(_, n)| *n).fold(wish.wanted, i32::max), DOWN_STABILIZED)
}

fn stabilize(wish: Wish, behavior: &HorizontalPodAutoscalerBehavior, memory: &Memory, now: Timestamp) -> (i32, Told) {
    let window = |rules: &Option<HPAScalingRules>, otherwise| {
        rules.as_ref().and_then(|rules| rules.stabilization_window_seconds).unwrap_or(otherwise)
    };
    let since = |secs| {
        let from = before(now, secs);
        memory.recommendations.iter().filter(move |(at, _)| *at > from).map(|(_, n)| *n)
    };
    let up = since(window(&behavior.scale_up, 0)).fold(wish.wanted, i32::min);
    let down = since(window(&behavior.scale_down, DOWN_WINDOW_SECS)).fold(wish.wanted, i32::max);
    let stable = wish.replicas.max(up).min(down);
    (stable, if wish.wanted >= wish.replicas { UP_STABILIZED } else { DOWN_STABILIZED })
}

/// Without rules: down as far as it goes, up at most by a factor.
fn by_factor(wish: Wish) -> (i32, Told) {
    let fast = wish.replicas.saturating_mul(UP_FACTOR).max(UP_MIN);
    let (most, why) = if wish.max > fast { (fast, UP_LIMIT) } else { (wish.max, TOO_MANY) };
    if wish.wanted < wish.min {
        (wish.min, TOO_FEW)
    } else if wish.wanted > most {
        (most, why)
    } else {
        (wish.wanted, WITHIN)
    }
}

fn by_rules(wish: Wish, behavior: &HorizontalPodAutoscalerBehavior, memory: &Memory, now: Timestamp) -> (i32, Told) {
    if wish.wanted > wish.replicas {
        let rules = completed(behavior.scale_up.as_ref(), &up_policies());
        let fast = allowed(wish.replicas, &rules, memory, now, true).max(wish.replicas);
        let (most, why) = if wish.max > fast { (fast, UP_LIMIT) } else { (wish.max, TOO_MANY) };
        if wish.wanted > most {
            return (most, why);
        }
    } else if wish.wanted < wish.replicas {
        let rules = completed(behavior.scale_down.as_ref(), &down_policies());
        let fast = allowed(wish.replicas, &rules, memory, now, false).min(wish.replicas);
        let (least, why) = if wish.min < fast { (fast, DOWN_LIMIT) } else { (wish.min, TOO_FEW) };
        if wish.wanted < least {
            return (least, why);
        }
    }
    (wish.wanted, WITHIN)
}

fn policy(type_: &str, value: i32) -> HPAScalingPolicy {
    HPAScalingPolicy { type_: type_.to_owned(), value, period_seconds: 15 }
}

fn up_policies() -> Vec<HPAScalingPolicy> {
    vec![policy("Pods", 4), policy("Percent", 100)]
}

fn down_policies() -> Vec<HPAScalingPolicy> {
    vec![policy("Percent", 100)]
}

/// Rules with the policies that there are when nobody says.
fn completed(rules: Option<&HPAScalingRules>, policies: &[HPAScalingPolicy]) -> HPAScalingRules {
    let mut rules = rules.cloned().unwrap_or_default();
    if rules.policies.as_ref().is_none_or(Vec::is_empty) {
        rules.policies = Some(policies.to_vec());
    }
    rules
}

/// How far replicas may go in a direction.
fn allowed(replicas: i32, rules: &HPAScalingRules, memory: &Memory, now: Timestamp, is_up: bool) -> i32 {
    let select = rules.select_policy.as_deref();
    if select == Some("Disabled") {
        return replicas;
    }
    let one = |policy: &HPAScalingPolicy| {
        let (came, went) = memory.changed_within(policy.period_seconds, now);
        let start = replicas - came + went;
        match (&*policy.type_, is_up) {
            ("Pods", true) => start.saturating_add(policy.value),
            ("Pods", false) => start.saturating_sub(policy.value),
            (_, true) => percent(start, 100_i64.saturating_add(policy.value.into()), true),
            (_, false) => percent(start, 100 - i64::from(policy.value), false),
        }
    };
    let proposals = rules.policies.iter().flatten().map(one);
    let is_greatest_change = select != Some("Min");
    let chosen = if is_greatest_change == is_up { proposals.max() } else { proposals.min() };
    chosen.unwrap_or(replicas)
}

/// So many percent of a number, rounded up or towards zero.
fn percent(of: i32, percent: i64, rounds_up: bool) -> i32 {
    let hundredths = i64::from(of).saturating_mul(percent);
    let whole = hundredths / 100 + i64::from(rounds_up && hundredths % 100 > 0);
    i32::try_from(whole).unwrap_or(i32::MAX)
}

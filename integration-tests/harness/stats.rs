//! Medians, percentiles and the rows that benchmarks print.
#![allow(clippy::print_stdout, reason = "benchmarks print their figures")]
#![allow(clippy::cast_precision_loss, reason = "counts here are small")]
#![allow(unreachable_pub, reason = "a benchmark has no outside")]

use std::time::Duration;

/// The middle of the sorted values.
pub fn median(values: &mut [f64]) -> f64 {
    percentile(values, 50.0)
}

/// The value below which this share of the sorted values lies.
pub fn percentile(values: &mut [f64], percent: f64) -> f64 {
    values.sort_by(f64::total_cmp);
    let last = values.len() - 1;
    #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "an index within the list")]
    let at = (percent / 100.0 * last as f64).round() as usize;
    values[at.min(last)]
}

/// Milliseconds.
pub fn millis(time: Duration) -> f64 {
    time.as_secs_f64() * 1000.0
}

/// Prints a figure beside its budget.
pub fn row(what: &str, figure: f64, unit: &str, budget: f64, holds: bool) {
    let verdict = if holds { "within" } else { "OVER" };
    println!("{what:<58} {figure:>10.2} {unit:<6} budget {budget:>8.2} {verdict}");
}

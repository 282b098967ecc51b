//! Go's way of writing durations and lists, because users read the kubelet's messages.
//!
//! Called by everything in `node` that says something. Pure.

use std::time::Duration;

/// A duration as Go prints it: `1m20s`, `1.5s`, `308ms`, `0s`. Source: Go's `time.Duration.String`.
pub(super) fn go_duration(d: Duration) -> String {
    let nanos = d.as_nanos();
    match nanos {
        0 => "0s".to_owned(),
        n if n < 1_000 => format!("{n}ns"),
        n if n < 1_000_000 => format!("{}µs", decimal(n, 1_000)),
        n if n < 1_000_000_000 => format!("{}ms", decimal(n, 1_000_000)),
        n => go_long_duration(n),
    }
}

fn go_long_duration(nanos: u128) -> String {
    let minutes_all = nanos / 60_000_000_000;
    let seconds = decimal(nanos % 60_000_000_000, 1_000_000_000);
    let (hours, minutes) = (minutes_all / 60, minutes_all % 60);
    match (hours, minutes) {
        (0, 0) => format!("{seconds}s"),
        (0, m) => format!("{m}m{seconds}s"),
        (h, m) => format!("{h}h{m}m{seconds}s"),
    }
}

/// `n / unit` without trailing zeros.
fn decimal(n: u128, unit: u128) -> String {
    let width = unit.ilog10() as usize;
    let fraction = format!("{:0width$}", n % unit);
    let fraction = fraction.trim_end_matches('0');
    if fraction.is_empty() { (n / unit).to_string() } else { format!("{}.{fraction}", n / unit) }
}

/// A list of names as Go prints a slice: `[a b]`.
pub(super) fn go_list(names: &[String]) -> String {
    format!("[{}]", names.join(" "))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_read_as_in_go() {
        let cases = [
            (0, "0s"),
            (1_500, "1.5µs"),
            (308_000_000, "308ms"),
            (1_234_000_000, "1.234s"),
            (10_000_000_000, "10s"),
            (80_000_000_000, "1m20s"),
            (300_000_000_000, "5m0s"),
            (3_600_000_000_000, "1h0m0s"),
        ];
        for (nanos, want) in cases {
            assert_eq!(go_duration(Duration::from_nanos(nanos)), want);
        }
    }
}

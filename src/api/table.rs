//! Server-side printing: the columns that `kubectl get` shows, and how their cells read.
//!
//! **Source**: `pkg/printers/internalversion/printers.go` and `k8s.io/apimachinery/pkg/util/duration`, v1.37.

use jiff::Timestamp;
use k8s_openapi::{
    api::core::v1::{Container, PodSpec},
    apimachinery::pkg::apis::meta::v1::{ObjectMeta, Time},
};
use serde_json::{Value, json};
use std::collections::BTreeMap;

/// What a cell shows when there is nothing to show.
pub const NONE: &str = "<none>";
/// What a cell shows when it is not known.
pub const UNKNOWN: &str = "<unknown>";

/// A printed column.
#[derive(Clone, Copy, Debug)]
pub struct Column<'a> {
    /// The heading, in title case; clients print it in capitals.
    pub name: &'a str,
    /// `string`, `integer`, `date` …
    pub kind: &'a str,
    /// `name` for the name column, else empty.
    pub format: &'a str,
    /// What the column means, for `kubectl explain`-like clients.
    pub description: &'a str,
    /// 0 is always shown; 1 only with `-o wide`.
    pub priority: u8,
}

impl<'a> Column<'a> {
    /// The `Name` column.
    pub const fn name() -> Self {
        Self {
            name: "Name",
            kind: "string",
            format: "name",
            description: "The object's name, unique in its namespace.",
            priority: 0,
        }
    }
    /// The `Age` column.
    pub const fn age() -> Self {
        Self::text("Age", "The time since the object was created.")
    }
    /// A column of text.
    pub const fn text(name: &'a str, description: &'a str) -> Self {
        Self { name, kind: "string", format: "", description, priority: 0 }
    }
    /// A column of whole numbers.
    pub const fn number(name: &'a str, description: &'a str) -> Self {
        Self { name, kind: "integer", format: "", description, priority: 0 }
    }
    /// The same column, shown only with `-o wide`.
    #[must_use]
    pub const fn wide(self) -> Self {
        Self { priority: 1, ..self }
    }
}

/// The name cell.
pub fn name(meta: &ObjectMeta) -> Value {
    json!(meta.name.as_deref().unwrap_or_default())
}

/// The age cell: `<unknown>`, or how long ago the object was created.
pub fn age(meta: &ObjectMeta, now: Timestamp) -> Value {
    json!(since_time(meta.creation_timestamp.as_ref(), now))
}

/// How long ago a time was that may not be known.
pub fn since_time(then: Option<&Time>, now: Timestamp) -> String {
    then.map_or_else(|| UNKNOWN.to_owned(), |t| since(t.0, now))
}

/// A text, or a placeholder when it is empty.
pub fn or(text: &str, placeholder: &str) -> Value {
    json!(if text.is_empty() { placeholder } else { text })
}

/// Labels or an equality selector: `a=b,c=d`, or `<none>`.
pub fn labels(labels: Option<&BTreeMap<String, String>>) -> Value {
    let pairs: Vec<String> = labels.into_iter().flatten().map(|(k, v)| format!("{k}={v}")).collect();
    or(&pairs.join(","), NONE)
}

/// The cells of a template's containers: their names and their images.
pub fn containers(spec: Option<&PodSpec>) -> [Value; 2] {
    let containers = spec.map_or(&[][..], |s| &s.containers);
    let join = |part: fn(&Container) -> &str| json!(containers.iter().map(part).collect::<Vec<_>>().join(","));
    [join(|c| &c.name), join(|c| c.image.as_deref().unwrap_or_default())]
}

/// A list of which at most three are shown: `a,b,c + 2 more...`, or a placeholder when it is empty.
pub fn up_to_three(all: &[String], placeholder: &str) -> Value {
    const SHOWN_MAX: usize = 3;
    if all.len() > SHOWN_MAX {
        let hidden = all.len() - SHOWN_MAX;
        return json!(format!("{} + {hidden} more...", all[..SHOWN_MAX].join(",")));
    }
    or(&all.join(","), placeholder)
}

/// How long ago `then` was, as Kubernetes prints it: `45s`, `5m30s`, `3h2m`, `2d4h`, `400d`.
pub fn since(then: Timestamp, now: Timestamp) -> String {
    let secs = now.duration_since(then).as_secs();
    // Source: `duration.HumanDuration`: a clock skew of up to two seconds counts as now.
    if secs < -1 {
        return "<invalid>".to_owned();
    }
    human_duration(secs.max(0).unsigned_abs())
}

/// A duration in seconds with two units at most. Source: `duration.HumanDuration`.
pub fn human_duration(secs: u64) -> String {
    let two = |big: u64, unit: char, small: u64, small_unit: char| {
        if small == 0 { format!("{big}{unit}") } else { format!("{big}{unit}{small}{small_unit}") }
    };
    let (mins, hours, days) = (secs / 60, secs / 3600, secs / 86400);
    let years = days / 365;
    match () {
        () if secs < 120 => format!("{secs}s"),
        () if mins < 10 => two(mins, 'm', secs % 60, 's'),
        () if mins < 180 => format!("{mins}m"),
        () if hours < 8 => two(hours, 'h', mins % 60, 'm'),
        () if hours < 48 => format!("{hours}h"),
        () if hours < 192 => two(days, 'd', hours % 24, 'h'),
        () if days < 365 * 2 => format!("{days}d"),
        () if days < 365 * 8 => two(years, 'y', days % 365, 'd'),
        () => format!("{years}y"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_read_as_in_kubernetes() {
        for (secs, text) in [
            (0, "0s"),
            (119, "119s"),
            (120, "2m"),
            (599, "9m59s"),
            (600, "10m"),
            (3 * 3600 - 1, "179m"),
            (3 * 3600, "3h"),
            (8 * 3600, "8h"),
            (47 * 3600, "47h"),
            (49 * 3600, "2d1h"),
            (8 * 86400, "8d"),
            (800 * 86400, "2y70d"),
        ] {
            assert_eq!(human_duration(secs), text);
        }
    }
}

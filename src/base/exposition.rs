//! Prometheus' text format, written line by line.
//!
//! **Source**: <https://prometheus.io/docs/instrumenting/exposition_formats>, version 0.0.4.

use std::fmt::{self, Write as _};

/// What a metric does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// It grows.
    Counter,
    /// It goes up and down.
    Gauge,
}

/// Metrics as text.
#[derive(Clone, Debug, Default)]
pub struct Exposition(String);

impl Exposition {
    /// Begins a metric: its samples come next.
    pub fn metric(&mut self, name: &str, kind: Kind, help: &str) {
        let kind = match kind {
            Kind::Counter => "counter",
            Kind::Gauge => "gauge",
        };
        self.line(format_args!("# HELP {name} {help}\n# TYPE {name} {kind}"));
    }

    /// A sample of a metric.
    pub fn sample(&mut self, name: &str, labels: &[(&str, &str)], value: impl fmt::Display) {
        let labels: Vec<String> = labels.iter().map(|(label, text)| format!("{label}=\"{}\"", escaped(text))).collect();
        if labels.is_empty() {
            self.line(format_args!("{name} {value}"));
        } else {
            self.line(format_args!("{name}{{{}}} {value}", labels.join(",")));
        }
    }

    /// The text.
    pub fn text(self) -> String {
        self.0
    }

    fn line(&mut self, content: fmt::Arguments<'_>) {
        writeln!(self.0, "{content}").expect("a String takes any text");
    }
}

fn escaped(text: &str) -> String {
    text.replace('\\', "\\\\").replace('"', "\\\"").replace('\n', "\\n")
}

#[cfg(test)]
mod tests {
    use super::*;
    use expect_test::expect;

    #[test]
    fn metrics_read_as_prometheus_wants_them() {
        let mut all = Exposition::default();
        all.metric("a_total", Kind::Counter, "How often.");
        all.sample("a_total", &[("of", "say \"x\\\n\""), ("b", "c")], 3);
        all.metric("b", Kind::Gauge, "How much.");
        all.sample("b", &[], 0.5);
        expect![[r#"
            # HELP a_total How often.
            # TYPE a_total counter
            a_total{of="say \"x\\\n\"",b="c"} 3
            # HELP b How much.
            # TYPE b gauge
            b 0.5
        "#]]
        .assert_eq(&all.text());
    }
}

//! Resource quantities: `500m`, `1.5Gi`, `2e3`, read exactly and printed in canonical form.
//!
//! Called by the kinds (defaults, validation), and by whoever turns a quantity into bytes or CPUs (scheduler, node agent). The API
//! types carry quantities as text; [`Quantity`] is what the text means.
//!
//! **Invariants**: a value is a whole number of billionths; what is finer is rounded up (away from zero); magnitudes are capped at
//! 2^63-1 wholes. Printing what was parsed and parsing it again gives the same value.
//!
//! **Source**: `k8s.io/apimachinery/pkg/api/resource/{quantity,suffix}.go`, v1.37.

use k8s_openapi::apimachinery::pkg::api::resource::Quantity as Text;
use std::{cmp::Ordering, fmt};

const NANOS: i128 = 1_000_000_000;
const WHOLE_MAX: i128 = i64::MAX as i128;

/// How a quantity was written, and so how it is printed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Format {
    /// `m`, none, `k`, `M` …
    Decimal,
    /// `Ki`, `Mi` …
    Binary,
    /// `e3`, `E-6` …
    Exponent,
}

/// An amount of a resource.
#[derive(Clone, Copy, Debug)]
pub struct Quantity {
    nanos: i128,
    format: Format,
}

/// What Kubernetes says of a text that is no quantity.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("quantities must match the regular expression '^([+-]?[0-9.]+)([eEinumkKMGTP]*[-+]?[0-9]*)$'")]
pub struct NotAQuantity;

impl PartialEq for Quantity {
    fn eq(&self, other: &Self) -> bool {
        self.nanos == other.nanos
    }
}

impl Eq for Quantity {}

impl PartialOrd for Quantity {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Quantity {
    fn cmp(&self, other: &Self) -> Ordering {
        self.nanos.cmp(&other.nanos)
    }
}

impl Quantity {
    /// Nothing.
    pub const ZERO: Self = Self { nanos: 0, format: Format::Decimal };

    /// Reads a quantity.
    ///
    /// # Errors
    /// When the text is none.
    pub fn parse(text: &str) -> Result<Self, NotAQuantity> {
        let text = text.trim();
        let (negative, unsigned) = match text.as_bytes().first() {
            Some(b'-') => (true, &text[1..]),
            Some(b'+') => (false, &text[1..]),
            _ => (false, text),
        };
        let digits_end = unsigned.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(unsigned.len());
        let (number, suffix) = unsigned.split_at(digits_end);
        let (scale, format) = scale(suffix).ok_or(NotAQuantity)?;
        let nanos = nanos_of(number, scale).ok_or(NotAQuantity)?;
        Ok(Self { nanos: if negative { -nanos } else { nanos }, format })
    }

    /// Reads the quantity of an API object.
    ///
    /// # Errors
    /// When the text is none.
    pub fn of(text: &Text) -> Result<Self, NotAQuantity> {
        Self::parse(&text.0)
    }

    /// A number of thousandths, e.g. of a CPU.
    pub fn from_millis(millis: i64) -> Self {
        Self { nanos: i128::from(millis) * (NANOS / 1000), format: Format::Decimal }
    }

    /// A whole number, printed with binary suffixes: bytes.
    pub fn from_bytes(bytes: i64) -> Self {
        Self { nanos: i128::from(bytes) * NANOS, format: Format::Binary }
    }

    /// The amount in wholes, rounded up.
    pub fn whole(self) -> i64 {
        self.scaled(NANOS)
    }

    /// The amount in thousandths, rounded up.
    pub fn millis(self) -> i64 {
        self.scaled(NANOS / 1000)
    }

    /// The amount in billionths, as Docker counts CPUs.
    pub fn nanos(self) -> i64 {
        self.scaled(1)
    }

    fn scaled(self, unit: i128) -> i64 {
        let scaled = div_away_from_zero(self.nanos, unit);
        i64::try_from(scaled).unwrap_or(if scaled < 0 { i64::MIN } else { i64::MAX })
    }

    /// Whether there are no parts of a whole.
    pub fn is_whole(self) -> bool {
        self.nanos % NANOS == 0
    }

    /// Whether it is zero.
    pub fn is_zero(self) -> bool {
        self.nanos == 0
    }

    /// Whether it is less than zero.
    pub fn is_negative(self) -> bool {
        self.nanos < 0
    }

    /// Rounded up to whole thousandths: no object keeps a finer amount.
    #[must_use]
    pub fn rounded_to_millis(self) -> Self {
        let unit = NANOS / 1000;
        Self { nanos: div_away_from_zero(self.nanos, unit) * unit, ..self }
    }

    /// Rounded up to wholes: there is no part of a byte.
    #[must_use]
    pub fn rounded_to_wholes(self) -> Self {
        Self { nanos: div_away_from_zero(self.nanos, NANOS) * NANOS, ..self }
    }

    /// The sum; it is printed like the left side.
    #[must_use]
    pub fn plus(self, other: Self) -> Self {
        let format = if self.is_zero() { other.format } else { self.format };
        Self { nanos: capped(self.nanos + other.nanos), format }
    }

    /// The difference; it is printed like the left side.
    #[must_use]
    pub fn minus(self, other: Self) -> Self {
        self.plus(Self { nanos: -other.nanos, format: self.format })
    }

    /// As the text that API objects carry.
    pub fn to_text(self) -> Text {
        Text(self.to_string())
    }
}

/// The quantity of an API object in thousandths, rounded up; `None` when it is none, which validation has refused.
pub fn millis(text: &Text) -> Option<i128> {
    Quantity::of(text).ok().map(|quantity| div_away_from_zero(quantity.nanos, NANOS / 1000))
}

/// The quantity of an API object in wholes, rounded up; `None` when it is none.
pub fn wholes(text: &Text) -> Option<i64> {
    Quantity::of(text).ok().map(Quantity::whole)
}

fn div_away_from_zero(value: i128, unit: i128) -> i128 {
    let (quotient, rest) = (value / unit, value % unit);
    quotient + rest.signum()
}

fn capped(nanos: i128) -> i128 {
    nanos.clamp(-WHOLE_MAX * NANOS, WHOLE_MAX * NANOS)
}

/// What a suffix multiplies by: a power of ten, or of two.
#[derive(Clone, Copy, Debug)]
enum Scale {
    Ten(i32),
    Two(u32),
}

fn scale(suffix: &str) -> Option<(Scale, Format)> {
    const DECIMAL: [(&str, i32); 10] =
        [("n", -9), ("u", -6), ("m", -3), ("", 0), ("k", 3), ("M", 6), ("G", 9), ("T", 12), ("P", 15), ("E", 18)];
    const BINARY: [&str; 6] = ["Ki", "Mi", "Gi", "Ti", "Pi", "Ei"];
    if let Some((_, power)) = DECIMAL.iter().find(|(s, _)| *s == suffix) {
        return Some((Scale::Ten(*power), Format::Decimal));
    }
    if let Some(n) = (1u32..).zip(BINARY).find_map(|(n, s)| (s == suffix).then_some(n)) {
        return Some((Scale::Two(n * 10), Format::Binary));
    }
    let exponent = suffix.strip_prefix(['e', 'E'])?.parse().ok()?;
    Some((Scale::Ten(exponent), Format::Exponent))
}

/// The billionths that `number`, digits with at most one dot, stands for; capped and rounded up.
fn nanos_of(number: &str, scale: Scale) -> Option<i128> {
    let (whole, fraction) = number.split_once('.').unwrap_or((number, ""));
    if fraction.contains('.') || (whole.is_empty() && fraction.is_empty()) {
        return None;
    }
    // Digits beyond these change nothing: they are capped, or rounded up as one.
    let (kept, cut) = fraction.split_at(fraction.len().min(30));
    let mut digits = format!("{whole}{kept}");
    let mut power = -i32::try_from(kept.len()).ok()?;
    if cut.bytes().any(|b| b != b'0') {
        digits.push('1');
        power -= 1;
    }
    let digits = digits.trim_start_matches('0');
    let nanos = match scale {
        Scale::Ten(n) => shifted(digits, power.saturating_add(n).saturating_add(9), 1),
        Scale::Two(n) => shifted(digits, power.saturating_add(9), 1i128 << n),
    };
    Some(capped(nanos))
}

/// `digits` × 10^`power` × `factor`, rounded up; a huge number where that is too big.
fn shifted(digits: &str, power: i32, factor: i128) -> i128 {
    if digits.is_empty() {
        return 0;
    }
    let huge = i128::MAX / 2;
    let Ok(length) = i32::try_from(digits.len()) else { return huge };
    if length.saturating_add(power) > 30 {
        return huge;
    }
    if length.saturating_add(power) < -30 {
        return 1;
    }
    let (kept, dropped) = digits.split_at(digits.len().min(36));
    let mut value: i128 = kept.parse().expect("at most 36 digits fit");
    if dropped.bytes().any(|b| b != b'0') {
        value += 1;
    }
    let power = power + i32::try_from(dropped.len()).expect("checked above");
    let multiply = |v: i128, by: i128| v.checked_mul(by).unwrap_or(huge);
    if power >= 0 {
        let ten = 10i128.checked_pow(power.unsigned_abs()).unwrap_or(huge);
        return multiply(multiply(value, ten), factor);
    }
    let divisor = 10i128.checked_pow(power.unsigned_abs()).unwrap_or(i128::MAX);
    match value.checked_mul(factor) {
        Some(product) => div_away_from_zero(product, divisor),
        None => multiply(div_away_from_zero(value, divisor), factor),
    }
}

impl fmt::Display for Quantity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.nanos == 0 {
            return f.write_str("0");
        }
        let is_small = self.nanos.abs() < 1024 * NANOS;
        match self.format {
            Format::Binary if !is_small && self.is_whole() => write_binary(f, self.nanos / NANOS),
            Format::Binary | Format::Decimal => write_decimal(f, self.nanos, false),
            Format::Exponent => write_decimal(f, self.nanos, true),
        }
    }
}

fn write_binary(f: &mut fmt::Formatter<'_>, mut value: i128) -> fmt::Result {
    const SUFFIXES: [&str; 7] = ["", "Ki", "Mi", "Gi", "Ti", "Pi", "Ei"];
    let mut n = 0;
    while value % 1024 == 0 && n + 1 < SUFFIXES.len() {
        value /= 1024;
        n += 1;
    }
    write!(f, "{value}{}", SUFFIXES[n])
}

fn write_decimal(f: &mut fmt::Formatter<'_>, mut nanos: i128, exponent: bool) -> fmt::Result {
    const SUFFIXES: [&str; 10] = ["n", "u", "m", "", "k", "M", "G", "T", "P", "E"];
    let mut n = 0;
    while nanos % 1000 == 0 && n + 1 < SUFFIXES.len() {
        nanos /= 1000;
        n += 1;
    }
    let power = i64::try_from(n).expect("ten suffixes") * 3 - 9;
    match (exponent, power) {
        (true, 0) => write!(f, "{nanos}"),
        (true, _) => write!(f, "{nanos}e{power}"),
        (false, _) => write!(f, "{nanos}{}", SUFFIXES[n]),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn canonical(text: &str) -> String {
        Quantity::parse(text).map_or_else(|_| "no quantity".into(), |q| q.to_string())
    }

    #[test]
    fn quantities_print_in_canonical_form() {
        for (text, expected) in [
            ("0", "0"),
            ("0.1", "100m"),
            ("1000m", "1"),
            ("1.5", "1500m"),
            ("100", "100"),
            ("1000", "1k"),
            ("12300000", "12300k"),
            ("1024Ki", "1Mi"),
            ("1536Mi", "1536Mi"),
            ("0.5Gi", "512Mi"),
            ("0.5Ki", "512"),
            ("100Mi", "100Mi"),
            ("1.5Ki", "1536"),
            ("1e3", "1e3"),
            ("2E-3", "2e-3"),
            ("5E", "5E"),
            ("-1.5", "-1500m"),
            ("+2", "2"),
            (".5", "500m"),
            ("5.", "5"),
            ("0.0000000001", "1n"),
            ("99999999999999999999E", "9223372036854775807"),
        ] {
            assert_eq!(canonical(text), expected, "{text}");
        }
    }

    #[test]
    fn what_is_no_quantity_is_refused() {
        for text in ["", ".", "1.2.3", "abc", "1KB", "1K", "1 Mi", "--1", "1e", "e3", "1Gib"] {
            assert_eq!(canonical(text), "no quantity", "{text}");
        }
    }

    #[test]
    fn amounts_round_up() {
        let q = Quantity::parse("100.4m").unwrap();
        assert_eq!((q.whole(), q.millis(), q.nanos()), (1, 101, 100_400_000));
        assert_eq!(q.rounded_to_millis().to_string(), "101m");
        assert_eq!(Quantity::parse("1Gi").unwrap().whole(), 1 << 30);
        assert!(Quantity::parse("1k").unwrap() < Quantity::parse("1Ki").unwrap());
        assert_eq!(Quantity::parse("500m").unwrap().plus(Quantity::from_millis(500)).to_string(), "1");
    }

    proptest! {
        #[test]
        fn printing_keeps_the_value(number in "[0-9]{1,12}(\\.[0-9]{0,9})?", suffix in "(n|u|m|k|M|G|Ki|Mi|Gi|e2|E-2)?") {
            let q = Quantity::parse(&format!("{number}{suffix}")).unwrap();
            let again = Quantity::parse(&q.to_string()).unwrap();
            prop_assert_eq!(q, again);
            // 687.5Ki is no whole number of Ki and prints as 704000, as in Go; that reads as decimal, and prints as 704k.
            if !suffix.ends_with('i') || q.to_string().ends_with('i') {
                prop_assert_eq!(q.to_string(), again.to_string());
            }
            prop_assert_eq!(again.to_string(), Quantity::parse(&again.to_string()).unwrap().to_string());
        }
    }

    #[test]
    fn a_binary_amount_that_needs_no_suffix_reads_as_decimal() {
        let printed = Quantity::parse("687.5Ki").unwrap().to_string();
        assert_eq!((printed.as_str(), Quantity::parse(&printed).unwrap().to_string().as_str()), ("704000", "704k"));
    }
    #[test]
    fn quantities_of_objects_become_numbers() {
        let cases = [
            ("1", Some(1000)),
            ("500m", Some(500)),
            (".5", Some(500)),
            ("0.1m", Some(1)),
            ("1Ki", Some(1_024_000)),
            ("1.5Gi", Some(1_610_612_736_000)),
            ("1e3", Some(1_000_000)),
            ("-2", Some(-2000)),
            ("100n", Some(1)),
            ("1e-2147483648", Some(1)),
            ("1e2147483647", Some(i128::from(i64::MAX) * 1000)),
            ("", None),
            ("x", None),
            ("1Zi", None),
        ];
        for (text, want) in cases {
            assert_eq!(millis(&Text(text.into())), want, "{text}");
        }
        assert_eq!(wholes(&Text("64Mi".into())), Some(64 << 20));
        assert_eq!(wholes(&Text("1500m".into())), Some(2));
    }
}

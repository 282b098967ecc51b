//! Quantities (`500m`, `1Gi`) as numbers, for limits and for `resourceFieldRef`.
//!
//! Called by `translate`, `status` and `node_object`. Pure.
//! **Source**: `k8s.io/apimachinery/pkg/api/resource/quantity.go`, v1.37.

use k8s_openapi::apimachinery::pkg::api::resource::Quantity;

/// A quantity in thousandths, rounded up; `None` when it is not one. Validation has refused those, so callers may ignore them.
pub(super) fn milli(quantity: &Quantity) -> Option<i128> {
    let text = quantity.0.trim();
    let end = text.find(|c: char| !matches!(c, '0'..='9' | '.' | '+' | '-')).unwrap_or(text.len());
    let (number, suffix) = text.split_at(end);
    let (times, exponent) = scale(suffix)?;
    let negative = number.starts_with('-');
    let number = number.trim_start_matches(['+', '-']);
    let (whole, fraction) = number.split_once('.').unwrap_or((number, ""));
    if whole.is_empty() && fraction.is_empty() {
        return None;
    }
    let digits: i128 = format!("{whole}{fraction}").parse().ok()?;
    let down = i32::try_from(fraction.len()).ok()?.checked_sub(exponent)?.checked_sub(3)?;
    let scaled = digits.checked_mul(times)?;
    let value = if down <= 0 {
        scaled.checked_mul(10i128.checked_pow(down.unsigned_abs())?)?
    } else {
        let by = 10i128.checked_pow(down.unsigned_abs())?;
        scaled.checked_add(by - 1)?.div_euclid(by)
    };
    Some(if negative { -value } else { value })
}

/// A suffix as a factor and a power of ten.
fn scale(suffix: &str) -> Option<(i128, i32)> {
    let binary = |power: u32| Some((1i128 << (10 * power), 0));
    match suffix {
        "" => Some((1, 0)),
        "n" => Some((1, -9)),
        "u" => Some((1, -6)),
        "m" => Some((1, -3)),
        "k" => Some((1, 3)),
        "M" => Some((1, 6)),
        "G" => Some((1, 9)),
        "T" => Some((1, 12)),
        "P" => Some((1, 15)),
        "E" => Some((1, 18)),
        "Ki" => binary(1),
        "Mi" => binary(2),
        "Gi" => binary(3),
        "Ti" => binary(4),
        "Pi" => binary(5),
        "Ei" => binary(6),
        _ => suffix.strip_prefix(['e', 'E'])?.parse().ok().map(|exponent| (1, exponent)),
    }
}

/// A quantity in whole units, rounded up.
pub(super) fn units(quantity: &Quantity) -> Option<i64> {
    i64::try_from(milli(quantity)?.checked_add(999)?.div_euclid(1000)).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quantities_become_numbers() {
        let cases = [
            ("1", Some(1000)),
            ("500m", Some(500)),
            ("1.5", Some(1500)),
            (".5", Some(500)),
            ("0.1m", Some(1)),
            ("1k", Some(1_000_000)),
            ("1Ki", Some(1_024_000)),
            ("1.5Gi", Some(1_610_612_736_000)),
            ("1e3", Some(1_000_000)),
            ("-2", Some(-2000)),
            ("100n", Some(1)),
            ("", None),
            ("x", None),
            ("1Zi", None),
            ("1e-2147483648", None),
            ("1e2147483647", None),
        ];
        for (text, want) in cases {
            assert_eq!(milli(&Quantity(text.into())), want, "{text}");
        }
        assert_eq!(units(&Quantity("64Mi".into())), Some(64 << 20));
        assert_eq!(units(&Quantity("1500m".into())), Some(2));
    }
}

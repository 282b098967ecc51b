//! Go's words for values that do not decode: what `encoding/json`, `time`, `encoding/base64` and quantities say.
//!
//! Called by field checking and by the readers. Pure texts; nothing here decides what is right, except formats of text.
//!
//! **Source**: Go's `encoding/json/{decode,scanner}.go`, `time/format.go`, `encoding/base64/base64.go`;
//! `k8s.io/apimachinery/pkg/api/resource/quantity.go`, `pkg/apis/meta/v1/{time,micro_time}.go`, v1.37.

use super::structure::{Definition, Type};
use crate::api::{
    bounds::{DEPTH_MAX, TOO_DEEP},
    quantity::Quantity,
};
use serde_json::Value;
use std::fmt::Write as _;

/// Go's word for a kind of JSON value.
pub(crate) fn kind_of(value: &Value) -> &'static str {
    match value {
        Value::Null => "null",
        Value::Bool(_) => "bool",
        Value::Number(_) => "number",
        Value::String(_) => "string",
        Value::Array(_) => "array",
        Value::Object(_) => "object",
    }
}

/// Go's name of a type, e.g. `[]v1.Container`. `text` is the name of the text's type, if it has one.
pub(super) fn type_name(kind: &Type, text: Option<&str>) -> String {
    match kind {
        Type::String => match text {
            None => "string".to_owned(),
            Some(name) if name.contains('.') => name.to_owned(),
            Some(name) => format!("v1.{name}"),
        },
        Type::Time | Type::MicroTime | Type::Quantity => "string".to_owned(),
        Type::Bool => "bool".to_owned(),
        Type::Int32 | Type::IntOrString => "int32".to_owned(),
        Type::Int64 => "int64".to_owned(),
        Type::Number => "float64".to_owned(),
        Type::Bytes => "[]uint8".to_owned(),
        Type::Any => "interface {}".to_owned(),
        Type::Ref(id) => struct_name(id.get()),
        Type::Object(definition) => struct_name(definition),
        Type::List(inner) => format!("[]{}", type_name(inner, text)),
        Type::Map(inner) if **inner == Type::Quantity => "v1.ResourceList".to_owned(),
        Type::Map(inner) => format!("map[string]{}", type_name(inner, text)),
    }
}

/// Go's name of a definition's type: its package and name, e.g. `v1.PodSpec`.
pub(super) fn struct_name(definition: &Definition) -> String {
    let mut parts = definition.name.rsplit('.');
    let name = parts.next().unwrap_or_default();
    format!("{}.{name}", parts.next().unwrap_or_default())
}

/// How Go prints a value with `%v`: `map[a:1 b:[x y]]`.
pub(crate) fn display(value: &Value) -> String {
    match value {
        Value::Null => "<nil>".to_owned(),
        Value::String(s) => s.clone(),
        Value::Bool(_) | Value::Number(_) => value.to_string(),
        Value::Array(items) => format!("[{}]", items.iter().map(display).collect::<Vec<_>>().join(" ")),
        Value::Object(fields) => {
            let fields: Vec<String> = fields.iter().map(|(k, v)| format!("{k}:{}", display(v))).collect();
            format!("map[{}]", fields.join(" "))
        }
    }
}

/// The canonical text of a quantity, or what is wrong with it.
pub(super) fn quantity(text: &str) -> Result<String, String> {
    Quantity::parse(text).map(|q| q.to_string()).map_err(|err| {
        let unsigned = text.strip_prefix(['+', '-']).unwrap_or(text);
        let (number, suffix) = cut_while(unsigned, |c| c.is_ascii_digit() || c == '.');
        let (_, exponent) = cut_while(suffix, |c| "eEinumkKMGTP".contains(c));
        let exponent = exponent.strip_prefix(['+', '-']).unwrap_or(exponent);
        let is_well_formed =
            !number.is_empty() && number.matches('.').count() < 2 && exponent.bytes().all(|b| b.is_ascii_digit());
        if is_well_formed { "unable to parse quantity's suffix".to_owned() } else { err.to_string() }
    })
}

fn cut_while(text: &str, keep: impl Fn(char) -> bool) -> (&str, &str) {
    text.split_at(text.find(|c| !keep(c)).unwrap_or(text.len()))
}

/// The bytes that base64 text stands for, or what is wrong with it. Line breaks are skipped.
pub(super) fn base64(text: &str) -> Result<Vec<u8>, String> {
    let corrupt = |at: usize| Err(format!("illegal base64 data at input byte {at}"));
    let src = text.as_bytes();
    let (mut out, mut at) = (Vec::with_capacity(src.len() / 4 * 3), 0);
    let skip_breaks = |mut at: usize| {
        while src.get(at).is_some_and(|b| matches!(b, b'\n' | b'\r')) {
            at += 1;
        }
        at
    };
    loop {
        let (mut quantum, mut n) = ([0u8; 4], 0);
        while n < 4 {
            at = skip_breaks(at);
            match src.get(at) {
                None if n == 0 => return Ok(out),
                None => return corrupt(at - n),
                Some(b'=') if n < 2 => return corrupt(at),
                Some(b'=') => {
                    let mut end = at + 1;
                    if n == 2 {
                        let next = skip_breaks(end);
                        match src.get(next) {
                            None => return corrupt(src.len()),
                            Some(b'=') => end = next + 1,
                            Some(_) => return corrupt(next - 1),
                        }
                    }
                    let end = skip_breaks(end);
                    if end < src.len() {
                        return corrupt(end);
                    }
                    push_quantum(&mut out, quantum, n);
                    return Ok(out);
                }
                Some(&b) => {
                    let Some(sextet) = sextet(b) else { return corrupt(at) };
                    quantum[n] = sextet;
                    n += 1;
                    at += 1;
                }
            }
        }
        push_quantum(&mut out, quantum, 4);
    }
}

fn sextet(b: u8) -> Option<u8> {
    Some(match b {
        b'A'..=b'Z' => b - b'A',
        b'a'..=b'z' => b - b'a' + 26,
        b'0'..=b'9' => b - b'0' + 52,
        b'+' => 62,
        b'/' => 63,
        _ => return None,
    })
}

/// Appends the whole bytes of `n` sextets.
fn push_quantum(out: &mut Vec<u8>, quantum: [u8; 4], n: usize) {
    let bits = quantum.iter().fold(0u32, |bits, s| bits << 6 | u32::from(*s));
    out.extend_from_slice(&bits.to_be_bytes()[1..n]);
}

/// The text of a time in the form that every reader takes, or what is wrong with it.
pub(super) fn time(text: &str, with_micros: bool) -> Result<String, String> {
    let layout = if with_micros { "2006-01-02T15:04:05.000000Z07:00" } else { "2006-01-02T15:04:05Z07:00" };
    let quoted = |s: &str| serde_json::to_string(s).expect("text is JSON");
    read_time(text, with_micros).map_err(|fault| match fault {
        TimeFault::CannotParse { rest, element } => {
            format!("parsing time {} as {layout:?}: cannot parse {} as {element:?}", quoted(text), quoted(rest))
        }
        TimeFault::OutOfRange(what) => format!("parsing time {}: {what} out of range", quoted(text)),
        TimeFault::Extra(rest) => format!("parsing time {}: extra text: {}", quoted(text), quoted(rest)),
    })
}

enum TimeFault<'a> {
    CannotParse { rest: &'a str, element: &'static str },
    OutOfRange(&'static str),
    Extra(&'a str),
}

/// What comes in a time, one after the other: separator, Go's name, digits, meaning, first and last value.
const TIME_ELEMENTS: [(&str, &str, usize, &str, std::ops::RangeInclusive<u32>); 6] = [
    ("", "2006", 4, "year", 0..=9999),
    ("-", "01", 2, "month", 1..=12),
    ("-", "02", 2, "day", 0..=99),
    ("T", "15", 2, "hour", 0..=23),
    (":", "04", 2, "minute", 0..=59),
    (":", "05", 2, "second", 0..=59),
];

fn read_time(text: &str, with_micros: bool) -> Result<String, TimeFault<'_>> {
    let (mut rest, mut numbers) = (text, [0u32; 6]);
    for (number, (separator, element, digits, name, range)) in numbers.iter_mut().zip(TIME_ELEMENTS) {
        let after = rest.strip_prefix(separator).ok_or(TimeFault::CannotParse { rest, element: separator })?;
        let len = after.bytes().take(digits).take_while(u8::is_ascii_digit).count();
        // Go takes an hour of one digit.
        if len < digits && (element != "15" || len == 0) {
            return Err(TimeFault::CannotParse { rest: after, element });
        }
        *number = after[..len].parse().expect("a few digits are a number");
        if !range.contains(number) {
            return Err(TimeFault::OutOfRange(name));
        }
        rest = &after[len..];
    }
    let fraction = rest.strip_prefix(['.', ',']).map(|f| cut_while(f, |c| c.is_ascii_digit()));
    let fraction = match fraction {
        Some((digits, after)) if (digits.len() == 6) || (!digits.is_empty() && !with_micros) => {
            rest = after;
            format!(".{digits}")
        }
        _ if with_micros => return Err(TimeFault::CannotParse { rest, element: ".000000" }),
        _ => String::new(),
    };
    let zone = match zone_end(rest) {
        None => return Err(TimeFault::CannotParse { rest, element: "Z07:00" }),
        Some("") => rest,
        Some(extra) => return Err(TimeFault::Extra(extra)),
    };
    let [year, month, day, hour, minute, second] = numbers;
    if day < 1 || day > days_of(year, month) {
        return Err(TimeFault::OutOfRange("day"));
    }
    Ok(format!("{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}{fraction}{zone}"))
}

/// What follows the zone that the text starts with.
fn zone_end(text: &str) -> Option<&str> {
    if let Some(rest) = text.strip_prefix('Z') {
        return Some(rest);
    }
    let zone = text.get(..6)?;
    let b = zone.as_bytes();
    let two =
        |at: usize| zone.get(at..at + 2).filter(|d| d.bytes().all(|b| b.is_ascii_digit())).and_then(|d| d.parse().ok());
    let (hours, minutes): (u8, u8) = (two(1)?, two(4)?);
    (matches!(b[0], b'+' | b'-') && b[3] == b':' && hours <= 24 && minutes < 60).then(|| &text[6..])
}

fn days_of(year: u32, month: u32) -> u32 {
    let is_leap = year.is_multiple_of(4) && (!year.is_multiple_of(100) || year.is_multiple_of(400));
    match month {
        2 if is_leap => 29,
        2 => 28,
        4 | 6 | 9 | 11 => 30,
        _ => 31,
    }
}

/// The message of the first JSON syntax error, and the offset of the byte it is about. `None`: the text is JSON.
pub(super) fn json_syntax_error(text: &[u8]) -> Option<(String, usize)> {
    let mut scanner = Scanner { text, at: 0, depth: 0 };
    scanner.space();
    if let Err(err) = scanner.value() {
        return Some(err);
    }
    scanner.space();
    scanner.peek().map(|_| scanner.unexpected("after top-level value"))
}

type Fault = (String, usize);

/// Walks JSON only to find where it stops being JSON.
struct Scanner<'a> {
    text: &'a [u8],
    at: usize,
    depth: usize,
}

impl Scanner<'_> {
    fn peek(&self) -> Option<u8> {
        self.text.get(self.at).copied()
    }

    fn space(&mut self) {
        while self.peek().is_some_and(|b| matches!(b, b' ' | b'\t' | b'\r' | b'\n')) {
            self.at += 1;
        }
    }

    /// The fault of the byte here, or of the end.
    fn unexpected(&self, context: &str) -> Fault {
        let Some(b) = self.peek() else { return ("unexpected end of JSON input".to_owned(), self.at) };
        let mut quoted = String::new();
        match b {
            b'\'' => quoted.push_str("'\\''"),
            b'"' => quoted.push_str("'\"'"),
            b'\\' => quoted.push_str("'\\\\'"),
            b'\n' => quoted.push_str("'\\n'"),
            b'\r' => quoted.push_str("'\\r'"),
            b'\t' => quoted.push_str("'\\t'"),
            b' '..=b'~' | 0x80.. => write!(quoted, "'{}'", char::from(b)).expect("writing to a string works"),
            _ => write!(quoted, "'\\x{b:02x}'").expect("writing to a string works"),
        }
        (format!("invalid character {quoted} {context}"), self.at)
    }

    fn expect(&mut self, wanted: impl Fn(u8) -> bool, context: &str) -> Result<(), Fault> {
        if !self.peek().is_some_and(wanted) {
            return Err(self.unexpected(context));
        }
        self.at += 1;
        Ok(())
    }

    fn value(&mut self) -> Result<(), Fault> {
        match self.peek() {
            Some(b'{') => self.nested(Self::object),
            Some(b'[') => self.nested(Self::array),
            Some(b'"') => self.string(),
            Some(b't') => self.literal("true"),
            Some(b'f') => self.literal("false"),
            Some(b'n') => self.literal("null"),
            Some(b'-' | b'0'..=b'9') => self.number(),
            _ => Err(self.unexpected("looking for beginning of value")),
        }
    }

    fn nested(&mut self, inner: fn(&mut Self) -> Result<(), Fault>) -> Result<(), Fault> {
        self.depth += 1;
        if self.depth > DEPTH_MAX {
            return Err((TOO_DEEP.to_owned(), self.at));
        }
        self.at += 1;
        self.space();
        inner(self)?;
        self.depth -= 1;
        Ok(())
    }

    fn object(&mut self) -> Result<(), Fault> {
        if self.peek() == Some(b'}') {
            self.at += 1;
            return Ok(());
        }
        loop {
            if self.peek() != Some(b'"') {
                return Err(self.unexpected("looking for beginning of object key string"));
            }
            self.string()?;
            self.space();
            self.expect(|b| b == b':', "after object key")?;
            self.space();
            self.value()?;
            self.space();
            self.expect(|b| matches!(b, b',' | b'}'), "after object key:value pair")?;
            if self.text[self.at - 1] == b'}' {
                return Ok(());
            }
            self.space();
        }
    }

    fn array(&mut self) -> Result<(), Fault> {
        if self.peek() == Some(b']') {
            self.at += 1;
            return Ok(());
        }
        loop {
            self.value()?;
            self.space();
            self.expect(|b| matches!(b, b',' | b']'), "after array element")?;
            if self.text[self.at - 1] == b']' {
                return Ok(());
            }
            self.space();
        }
    }

    fn string(&mut self) -> Result<(), Fault> {
        self.at += 1;
        loop {
            match self.peek() {
                Some(b'"') => {
                    self.at += 1;
                    return Ok(());
                }
                Some(b'\\') => {
                    self.at += 1;
                    let is_unicode = self.peek() == Some(b'u');
                    self.expect(|b| b"bfnrt\\/\"u".contains(&b), "in string escape code")?;
                    for _ in 0..if is_unicode { 4 } else { 0 } {
                        self.expect(|b| b.is_ascii_hexdigit(), "in \\u hexadecimal character escape")?;
                    }
                }
                _ => self.expect(|b| b >= b' ', "in string literal")?,
            }
        }
    }

    fn literal(&mut self, word: &str) -> Result<(), Fault> {
        self.at += 1;
        for wanted in &word.as_bytes()[1..] {
            let context = format!("in literal {word} (expecting '{}')", char::from(*wanted));
            self.expect(|b| b == *wanted, &context)?;
        }
        Ok(())
    }

    fn number(&mut self) -> Result<(), Fault> {
        if self.peek() == Some(b'-') {
            self.at += 1;
        }
        let is_zero = self.peek() == Some(b'0');
        self.expect(|b| b.is_ascii_digit(), "in numeric literal")?;
        if !is_zero {
            self.digits();
        }
        if self.peek() == Some(b'.') {
            self.at += 1;
            self.expect(|b| b.is_ascii_digit(), "after decimal point in numeric literal")?;
            self.digits();
        }
        if self.peek().is_some_and(|b| matches!(b, b'e' | b'E')) {
            self.at += 1;
            if self.peek().is_some_and(|b| matches!(b, b'+' | b'-')) {
                self.at += 1;
            }
            self.expect(|b| b.is_ascii_digit(), "in exponent of numeric literal")?;
            self.digits();
        }
        Ok(())
    }

    fn digits(&mut self) {
        while self.peek().is_some_and(|b| b.is_ascii_digit()) {
            self.at += 1;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use ::base64::{Engine as _, engine::general_purpose::STANDARD};
    use proptest::prelude::*;
    use serde_json::json;

    #[test]
    fn times_are_refused_in_go_s_words() {
        for (text, error) in [
            ("2024-01-02T03:04:05Z", None),
            ("2024-02-29T03:04:05.123456789+02:00", None),
            (
                "tomorrow",
                Some(
                    "parsing time \"tomorrow\" as \"2006-01-02T15:04:05Z07:00\": cannot parse \"tomorrow\" as \"2006\"",
                ),
            ),
            (
                "2024-01-02",
                Some("parsing time \"2024-01-02\" as \"2006-01-02T15:04:05Z07:00\": cannot parse \"\" as \"T\""),
            ),
            (
                "2024-01-02T03:04:05",
                Some(
                    "parsing time \"2024-01-02T03:04:05\" as \"2006-01-02T15:04:05Z07:00\": cannot parse \"\" as \"Z07:00\"",
                ),
            ),
            ("2024-13-02T03:04:05Z", Some("parsing time \"2024-13-02T03:04:05Z\": month out of range")),
            ("2023-02-29T03:04:05Z", Some("parsing time \"2023-02-29T03:04:05Z\": day out of range")),
            ("2024-01-02T03:04:05Zx", Some("parsing time \"2024-01-02T03:04:05Zx\": extra text: \"x\"")),
        ] {
            assert_eq!(time(text, false).err().as_deref(), error, "{text}");
        }
        assert_eq!(time("2024-01-02T3:04:05,5+02:00", false).as_deref(), Ok("2024-01-02T03:04:05.5+02:00"));
        assert_eq!(time("2024-01-02T03:04:05.123456Z", true).as_deref(), Ok("2024-01-02T03:04:05.123456Z"));
        assert!(time("2024-01-02T03:04:05Z", true).is_err_and(|e| e.ends_with("cannot parse \"Z\" as \".000000\"")));
    }

    #[test]
    fn base64_is_refused_where_go_refuses_it() {
        for (text, at) in [("YWJj!", 4), ("YWI", 0), ("YWJjZA", 4), ("YW=j", 2), ("YQ==x", 4), ("=", 0), ("YQ=", 3)] {
            assert_eq!(base64(text), Err(format!("illegal base64 data at input byte {at}")), "{text}");
        }
        assert_eq!(base64("YW\nI=\n"), Ok(b"ab".to_vec()));
        assert_eq!(base64(""), Ok(Vec::new()));
    }

    #[test]
    fn quantities_are_canonical_or_refused() {
        for (text, result) in [
            ("0.5", Ok("500m")),
            ("2048Mi", Ok("2Gi")),
            ("1K", Err("unable to parse quantity's suffix")),
            (
                "lots",
                Err("quantities must match the regular expression '^([+-]?[0-9.]+)([eEinumkKMGTP]*[-+]?[0-9]*)$'"),
            ),
        ] {
            assert_eq!(quantity(text), result.map(str::to_owned).map_err(str::to_owned), "{text}");
        }
    }

    #[test]
    fn syntax_errors_read_like_go_s() {
        for (text, error) in [
            ("", "unexpected end of JSON input"),
            ("{", "unexpected end of JSON input"),
            ("{a", "invalid character 'a' looking for beginning of object key string"),
            ("{\"a\" 1}", "invalid character '1' after object key"),
            ("{\"a\":1 \"b\"}", "invalid character '\"' after object key:value pair"),
            ("{\"a\":}", "invalid character '}' looking for beginning of value"),
            ("[1 2]", "invalid character '2' after array element"),
            ("{} x", "invalid character 'x' after top-level value"),
            ("nul", "unexpected end of JSON input"),
            ("nux", "invalid character 'x' in literal null (expecting 'l')"),
            ("\"\n\"", "invalid character '\\n' in string literal"),
            ("\"\\x\"", "invalid character 'x' in string escape code"),
            ("1.x", "invalid character 'x' after decimal point in numeric literal"),
            ("-", "unexpected end of JSON input"),
        ] {
            assert_eq!(json_syntax_error(text.as_bytes()).map(|(m, _)| m).as_deref(), Some(error), "{text:?}");
        }
    }

    #[test]
    fn values_print_as_go_prints_them() {
        assert_eq!(display(&json!({"b": [1, "x", null], "a": {"c": true}})), "map[a:map[c:true] b:[1 x <nil>]]");
    }

    proptest! {
        #[test]
        fn base64_reads_what_others_write(bytes in proptest::collection::vec(any::<u8>(), 0..40)) {
            prop_assert_eq!(base64(&STANDARD.encode(&bytes)), Ok(bytes));
        }

        #[test]
        fn what_serde_reads_has_no_syntax_error_and_the_reverse(text in "[\\[\\]{}:,\"a1. \\-e]{0,12}") {
            let is_json = serde_json::from_str::<serde::de::IgnoredAny>(&text).is_ok();
            prop_assert_eq!(json_syntax_error(text.as_bytes()).is_none(), is_json, "{}", text);
        }
    }
}

//! YAML text into JSON values, by the rules that Kubernetes' YAML library keeps: YAML 1.1 scalars, merge keys, and JSON's own
//! idea of keys and numbers.
//!
//! Called by [`super::read`]. Bounds: nesting and values by `api::bounds`, what anchors and aliases copy by [`COPIED_BYTES_MAX`].
//!
//! **Source**: `sigs.k8s.io/yaml/{yaml.go,goyaml.v2/resolve.go}`, as used by Kubernetes v1.37.

use super::document::{Document, State, SyntaxError};
use crate::{
    api::bounds::{Size, quoted},
    base::ordered,
};
use base64::{Engine as _, engine::general_purpose::STANDARD};
use granit_parser::{Event, Marker, Options, Parser, ScalarStyle, Span, StrInput, Tag};
use serde_json::{Map, Number, Value};
use std::borrow::Cow;

/// No more bytes than this are copied for the anchors and aliases of a document, so that a small text cannot become a huge value.
const COPIED_BYTES_MAX: usize = 8 * 1024 * 1024;

/// Reads the first documents of a text.
pub(super) fn documents(bytes: &[u8], documents_max: usize) -> Result<Vec<Document>, SyntaxError> {
    let text = std::str::from_utf8(bytes).map_err(|err| {
        let line = bytes[..err.valid_up_to()].split(|b| *b == b'\n').count();
        fault(line, 0, "invalid UTF-8")
    })?;
    let mut options = Options::default();
    options.set_emit_comments(false);
    let parser = Parser::new_from_str_with_options(text.trim_start_matches('\u{feff}'), options);
    let mut reader = Reader { parser, anchors: ordered::Map::new(), copied_bytes: 0, state: State::default() };
    let mut documents = Vec::new();
    while documents.len() < documents_max
        && let Some((event, _)) = reader.next()?
    {
        if matches!(event, Event::DocumentStart(..)) {
            documents.push(reader.document()?);
        }
    }
    Ok(documents)
}

fn fault(line: usize, column: usize, what: impl std::fmt::Display) -> SyntaxError {
    SyntaxError { message: format!("error converting YAML to JSON: yaml: line {line}: {what}"), line, column }
}

fn fault_at(at: Marker, what: impl std::fmt::Display) -> SyntaxError {
    fault(at.line(), at.col() + 1, what)
}

struct Reader<'t> {
    parser: Parser<'t, StrInput<'t>>,
    anchors: ordered::Map<usize, (Value, Size)>,
    copied_bytes: usize,
    state: State,
}

type Node<'t> = (Event<'t>, Span);

impl<'t> Reader<'t> {
    fn next(&mut self) -> Result<Option<Node<'t>>, SyntaxError> {
        self.parser.next().transpose().map_err(|err| fault_at(*err.marker(), err.info()))
    }

    fn node_event(&mut self) -> Result<Node<'t>, SyntaxError> {
        self.next()?.ok_or_else(|| fault(0, 0, "the text ends inside a document"))
    }

    fn document(&mut self) -> Result<Document, SyntaxError> {
        self.anchors.clear();
        self.copied_bytes = 0;
        self.state = State::default();
        let node = self.node_event()?;
        let line = node.1.start.line();
        let value = if matches!(node.0, Event::DocumentEnd) { Value::Null } else { self.value(node)? };
        Ok(Document { value, duplicates: std::mem::take(&mut self.state.duplicates), line })
    }

    fn value(&mut self, (event, span): Node<'t>) -> Result<Value, SyntaxError> {
        let (anchor, value) = match event {
            Event::Alias(id) => return self.copy(id, span.start),
            Event::Scalar(text, style, anchor, tag) => {
                let value = self.state.leaf().and_then(|()| scalar(&text, style, tag.as_ref()));
                (anchor, value.map_err(|what| fault_at(span.start, what))?)
            }
            Event::SequenceStart(_, anchor, _) => {
                self.state.open(false).map_err(|what| fault_at(span.start, what))?;
                let value = self.sequence()?;
                self.state.close();
                (anchor, value)
            }
            Event::MappingStart(_, anchor, _) => {
                self.state.open(true).map_err(|what| fault_at(span.start, what))?;
                let value = self.mapping()?;
                self.state.close();
                (anchor, value)
            }
            other => return Err(fault_at(span.start, format!("unexpected {other:?}"))),
        };
        if anchor != 0 {
            // Anchors inside anchors are kept once for each, so that keeping them counts as well.
            let size = Size::of(&value);
            self.spend(size.bytes, span.start)?;
            self.anchors.insert(anchor, (value.clone(), size));
        }
        Ok(value)
    }

    fn copy(&mut self, anchor: usize, at: Marker) -> Result<Value, SyntaxError> {
        let Some((value, size)) = self.anchors.get(&anchor) else {
            return Err(fault_at(at, "anchor contains itself"));
        };
        let (value, size) = (value.clone(), *size);
        self.spend(size.bytes, at)?;
        self.state.copied(&value, size.depth).map_err(|what| fault_at(at, what))?;
        Ok(value)
    }

    fn spend(&mut self, bytes: usize, at: Marker) -> Result<(), SyntaxError> {
        self.copied_bytes = self.copied_bytes.saturating_add(bytes);
        if self.copied_bytes > COPIED_BYTES_MAX {
            return Err(fault_at(at, "document contains excessive aliasing"));
        }
        Ok(())
    }

    fn sequence(&mut self) -> Result<Value, SyntaxError> {
        let mut items = Vec::new();
        loop {
            let node = self.node_event()?;
            if matches!(node.0, Event::SequenceEnd) {
                return Ok(Value::Array(items));
            }
            let len = self.state.enter_item(items.len());
            items.push(self.value(node)?);
            self.state.leave(len);
        }
    }

    fn mapping(&mut self) -> Result<Value, SyntaxError> {
        let mut fields = Map::new();
        let mut merged = Vec::new();
        loop {
            let node = self.node_event()?;
            let at = node.1.start;
            if matches!(node.0, Event::MappingEnd) {
                break;
            }
            if is_merge_key(&node.0) {
                let node = self.node_event()?;
                merged.push((self.value(node)?, at));
                continue;
            }
            let name = match self.value(node)? {
                Value::String(name) => name,
                value @ (Value::Bool(_) | Value::Number(_)) => value.to_string(),
                other => return Err(fault_at(at, format!("unsupported map key: {}", quoted(&other.to_string())))),
            };
            let node = self.node_event()?;
            let len = self.state.enter_field(&name);
            let value = self.value(node)?;
            self.state.leave(len);
            self.state.insert(&mut fields, name, value);
        }
        for (value, at) in merged {
            merge(&mut fields, value).map_err(|what| fault_at(at, what))?;
        }
        Ok(Value::Object(fields))
    }
}

fn is_merge_key(event: &Event<'_>) -> bool {
    matches!(event, Event::Scalar(text, ScalarStyle::Plain, _, None) if text == "<<")
}

/// Takes over what the object does not say itself.
fn merge(fields: &mut Map<String, Value>, value: Value) -> Result<(), &'static str> {
    match value {
        Value::Object(from) => {
            for (name, value) in from {
                fields.entry(name).or_insert(value);
            }
            Ok(())
        }
        Value::Array(sources) if sources.iter().all(Value::is_object) => {
            sources.into_iter().try_for_each(|source| merge(fields, source))
        }
        _ => Err("map merge requires map or sequence of maps as the value"),
    }
}

fn scalar(text: &str, style: ScalarStyle, tag: Option<&Cow<'_, Tag>>) -> Result<Value, String> {
    let tag = tag.filter(|t| t.handle() == "tag:yaml.org,2002:").map(|t| t.suffix());
    let wanted = |kind: &str, is_wanted: fn(&Value) -> bool| {
        resolve(text).filter(is_wanted).ok_or_else(|| format!("cannot decode !!str `{}` as a !!{kind}", quoted(text)))
    };
    match tag {
        Some("str" | "timestamp") => Ok(Value::String(text.to_owned())),
        Some("binary") => {
            let clean: String = text.split_ascii_whitespace().collect();
            let bytes = STANDARD.decode(clean).map_err(|_| "!!binary value contains invalid base64 data".to_owned())?;
            Ok(Value::String(String::from_utf8_lossy(&bytes).into_owned()))
        }
        Some("int") => wanted("int", |v| v.is_i64() || v.is_u64()),
        Some("float") => wanted("float", Value::is_number),
        Some("bool") => wanted("bool", Value::is_boolean),
        Some("null") => wanted("null", Value::is_null),
        _ if style != ScalarStyle::Plain || tag.is_some() => Ok(Value::String(text.to_owned())),
        _ => resolve(text).ok_or_else(|| format!("unsupported value: {text}")),
    }
}

/// What a plain scalar stands for; `None`: a number that JSON does not have.
fn resolve(text: &str) -> Option<Value> {
    Some(match text {
        "" | "~" | "null" | "Null" | "NULL" => Value::Null,
        "y" | "Y" | "yes" | "Yes" | "YES" | "true" | "True" | "TRUE" | "on" | "On" | "ON" => Value::Bool(true),
        "n" | "N" | "no" | "No" | "NO" | "false" | "False" | "FALSE" | "off" | "Off" | "OFF" => Value::Bool(false),
        ".nan" | ".NaN" | ".NAN" | ".inf" | ".Inf" | ".INF" | "+.inf" | "+.Inf" | "+.INF" | "-.inf" | "-.Inf"
        | "-.INF" => return None,
        _ if text.starts_with(|c: char| c.is_ascii_digit() || "+-.".contains(c)) => {
            let plain = text.replace('_', "");
            match integer(&plain).or_else(|| float(&plain)) {
                Some(number) => Value::Number(number),
                None => Value::String(text.to_owned()),
            }
        }
        _ => Value::String(text.to_owned()),
    })
}

/// A whole number: decimal, or by its prefix binary, octal or hexadecimal.
fn integer(text: &str) -> Option<Number> {
    let unsigned = text.strip_prefix(['+', '-']).unwrap_or(text);
    let (radix, digits) = match unsigned.as_bytes() {
        [b'0', b'x' | b'X', ..] => (16, &unsigned[2..]),
        [b'0', b'o' | b'O', ..] => (8, &unsigned[2..]),
        [b'0', b'b' | b'B', ..] => (2, &unsigned[2..]),
        [b'0', _, ..] => (8, &unsigned[1..]),
        _ => (10, unsigned),
    };
    if digits.starts_with(['+', '-']) {
        return None;
    }
    let magnitude = u64::from_str_radix(digits, radix).ok()?;
    if text.starts_with('-') {
        return i64::try_from(-i128::from(magnitude)).ok().map(Number::from);
    }
    Some(Number::from(magnitude))
}

/// A number with a point or exponent. What is whole becomes a whole number, as when Go writes it as JSON.
fn float(text: &str) -> Option<Number> {
    let unsigned = text.strip_prefix(['+', '-']).unwrap_or(text);
    let (mantissa, exponent) = match unsigned.split_once(['e', 'E']) {
        Some((mantissa, exponent)) => (mantissa, Some(exponent)),
        None => (unsigned, None),
    };
    let (whole, fraction) = mantissa.split_once('.').unwrap_or((mantissa, ""));
    let are_digits = |s: &str| s.bytes().all(|b| b.is_ascii_digit());
    let is_exponent = |e: &str| {
        let digits = e.strip_prefix(['+', '-']).unwrap_or(e);
        !digits.is_empty() && are_digits(digits)
    };
    let is_float = are_digits(whole)
        && are_digits(fraction)
        && !(whole.is_empty() && fraction.is_empty())
        && exponent.is_none_or(is_exponent);
    let value: f64 = text.parse().ok().filter(|_| is_float)?;
    if value.fract() == 0.0 && value.abs() < 1e18 {
        return format!("{value:.0}").parse::<i64>().ok().map(Number::from);
    }
    Number::from_f64(value)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::api::schema::read::{parse_yaml, parse_yaml_documents};
    use serde_json::json;

    #[track_caller]
    fn check(text: &str, expected: Value) {
        assert_eq!(parse_yaml(text.as_bytes()).expect("it is YAML").value, expected, "{text}");
    }

    /// What `kubectl label --local -o json` of version 1.37 makes of the same words.
    #[test]
    fn plain_words_mean_what_they_mean_in_kubernetes() {
        for (text, expected) in [
            ("yes", json!(true)),
            ("y", json!(true)),
            ("1__0", json!(10)),
            ("0_7", json!(7)),
            ("0b2", json!("0b2")),
            ("0x", json!("0x")),
            ("-0", json!(0)),
            ("5.", json!(5)),
            ("Off", json!(false)),
            ("'yes'", json!("yes")),
            ("~", json!(null)),
            ("0644", json!(420)),
            ("0o644", json!(420)),
            ("0x1F", json!(31)),
            ("-0b11", json!(-3)),
            ("1_000", json!(1000)),
            ("08", json!(8)),
            ("+1", json!(1)),
            ("1.0", json!(1)),
            ("0.5", json!(0.5)),
            ("1e3", json!(1000)),
            (".5", json!(0.5)),
            ("18446744073709551615", json!(18_446_744_073_709_551_615_u64)),
            ("-9223372036854775808", json!(i64::MIN)),
            ("2024-01-02", json!("2024-01-02")),
            ("12:30", json!("12:30")),
            ("1.2.3", json!("1.2.3")),
            ("100m", json!("100m")),
            ("1Gi", json!("1Gi")),
            ("-", json!([null])),
            ("--flag", json!("--flag")),
            ("!!str 5", json!("5")),
            ("!!int '5'", json!(5)),
            ("!!binary aGk=", json!("hi")),
            ("!own x", json!("x")),
            ("\"a\\nb\"", json!("a\nb")),
        ] {
            check(text, expected);
        }
    }

    #[test]
    fn maps_lists_and_blocks_are_read() {
        check(
            "a: 1\nb:\n- x\n- v: |\n    two\n    lines\n  z: >-\n    one\n    line\nc: {d: [1, 'e']}\nf:\n",
            json!({"a": 1, "b": ["x", {"v": "two\nlines\n", "z": "one line"}], "c": {"d": [1, "e"]}, "f": null}),
        );
        check("1.0: a\ny: b\n0.5: c\n1e3: d", json!({"1": "a", "true": "b", "0.5": "c", "1000": "d"}));
    }

    #[test]
    fn anchors_and_merge_keys_are_resolved() {
        check(
            "base: &b {x: 1, v: 2}\nother: &o {z: 3}\none:\n  <<: *b\n  v: 5\nall:\n  <<: [*b, *o]\n  x: 0\n",
            json!({
                "base": {"x": 1, "v": 2}, "other": {"z": 3},
                "one": {"x": 1, "v": 5}, "all": {"x": 0, "v": 2, "z": 3},
            }),
        );
    }

    #[test]
    fn aliases_cannot_make_a_value_huge() {
        let mut text = "a0: &a0 [x, x, x, x, x, x, x, x, x, x]\n".to_owned();
        for i in 1..9 {
            let of = vec![format!("*a{}", i - 1); 10].join(", ");
            text.extend([format!("a{i}: &a{i} [{of}]\n")]);
        }
        let err = parse_yaml(text.as_bytes()).expect_err("it is a bomb");
        assert!(err.message.ends_with("document contains excessive aliasing"), "{err}");
        assert!(parse_yaml(b"a: &a [*a]").is_err());
    }

    #[test]
    fn anchors_copy_no_more_than_is_allowed() {
        let aliased = |text: String| parse_yaml(text.as_bytes()).expect_err("it is a bomb").message;
        // One long text, many times.
        let long = format!("a: &a {}\nb: [{}]\n", "x".repeat(1_000_000), "*a,".repeat(50_000));
        assert!(aliased(long).ends_with("document contains excessive aliasing"));
        // Anchors inside anchors: each keeps what is inside it.
        let mut nested = String::from("a: ");
        (0..90).for_each(|i| nested.push_str(&format!("&n{i} [")));
        nested.push_str(&"x,".repeat(50_000));
        nested.push_str(&"]".repeat(90));
        assert!(aliased(nested).ends_with("document contains excessive aliasing"));
        // Copies put into copies nest deeper each time.
        let mut deep = format!("a0: &a0 {}x{}\n", "[".repeat(60), "]".repeat(60));
        deep.push_str(&format!("a1: {}*a0{}\n", "[".repeat(60), "]".repeat(60)));
        assert!(aliased(deep).ends_with("exceeded max depth"));
        // What is copied counts as what is written does.
        let many = format!("a: &a {{{}}}\nb: [{}]\n", "x: {}, ", "*a,".repeat(60_000));
        assert!(aliased(many).contains("it has more than 50000 objects"));
        let fine = format!("a: &a [{}]\nb: [{}]\n", "x,".repeat(100), "*a,".repeat(100));
        parse_yaml(fine.as_bytes()).expect("ten thousand values are not many");
    }

    #[test]
    fn duplicate_keys_are_named_and_the_last_one_counts() {
        let document =
            parse_yaml(b"spec:\n  replicas: 1\n  list:\n  - a: 1\n    a: 2\n  replicas: 3\n").expect("it is YAML");
        assert_eq!(document.duplicates, ["spec.list[0].a", "spec.replicas"]);
        assert_eq!(document.value["spec"]["replicas"], json!(3));
    }

    #[test]
    fn files_are_cut_into_documents_with_their_lines() {
        let documents = parse_yaml_documents(b"# nothing\n---\na: 1\n---\n---\n\n# more\nb: 2\n...\n---\nc: 3\n")
            .expect("it is YAML");
        let found: Vec<_> = documents.iter().map(|d| (d.line, d.value.to_string())).collect();
        assert_eq!(found, [(3, "{\"a\":1}".to_owned()), (8, "{\"b\":2}".to_owned()), (11, "{\"c\":3}".to_owned())]);
        assert_eq!(parse_yaml_documents(b"").expect("nothing is YAML"), []);
        assert_eq!(parse_yaml(b"").expect("nothing is YAML").value, Value::Null);
    }

    #[test]
    fn errors_have_their_place() {
        for (text, line) in
            [("a: b: c\n", 1), ("a:\n\t- b\n", 2), ("a: [1\nb: 2\n", 2), ("a: 1\nb: .inf\n", 2), ("[1]: a\n", 1)]
        {
            let err = parse_yaml(text.as_bytes()).expect_err(text);
            assert_eq!(err.line, line, "{text:?}: {err}");
            assert!(err.message.starts_with(&format!("error converting YAML to JSON: yaml: line {line}: ")), "{err}");
        }
    }
}

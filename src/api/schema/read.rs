//! JSON and YAML text into values; fields given more than once are found, and the last one counts.
//!
//! Called by the server for bodies and by the CLI for files. Kubernetes turns YAML into JSON before anything else looks at it,
//! and so does this: what comes out are JSON values, read by the rules of YAML 1.1 (`yes` is true, `0644` is octal).
//!
//! **Source**: `sigs.k8s.io/json` and `sigs.k8s.io/yaml`, as used by Kubernetes v1.37.

use super::{
    document::{Document, State, SyntaxError},
    go, yaml,
};
use serde::de::{DeserializeSeed, Error as _, MapAccess, SeqAccess, Visitor};
use serde_json::{Map, Number, Value};
use std::fmt;

/// Reads one JSON value.
pub fn parse_json(bytes: &[u8]) -> Result<Document, SyntaxError> {
    let mut state = State::default();
    let mut reader = serde_json::Deserializer::from_slice(bytes);
    let value = Seed(&mut state).deserialize(&mut reader).and_then(|value| reader.end().map(|()| value));
    match value {
        Ok(value) => Ok(Document { value, duplicates: state.duplicates, line: 1 }),
        Err(err) => Err(match go::json_syntax_error(bytes) {
            Some((message, at)) => {
                let before = &bytes[..at.min(bytes.len())];
                let line_start = before.iter().rposition(|b| *b == b'\n').map_or(0, |i| i + 1);
                let line = before.split(|b| *b == b'\n').count();
                SyntaxError { message, line, column: before.len() - line_start + 1 }
            }
            None => SyntaxError { message: plain(&err), line: err.line(), column: err.column() },
        }),
    }
}

/// What `serde_json` says, without the place that it adds.
fn plain(err: &serde_json::Error) -> String {
    let text = err.to_string();
    let place = format!(" at line {} column {}", err.line(), err.column());
    // Errors of what is inside carry a place each.
    text.split(&place).next().unwrap_or(&text).to_owned()
}

/// Reads the first YAML document (JSON is YAML too) as Kubernetes converts it to JSON. An empty one is null.
pub fn parse_yaml(bytes: &[u8]) -> Result<Document, SyntaxError> {
    let first = yaml::documents(bytes, 1)?.into_iter().next();
    Ok(first.unwrap_or(Document { value: Value::Null, duplicates: Vec::new(), line: 1 }))
}

/// Reads every YAML document of a file; empty ones are left out. Lines count from the start of the file.
pub fn parse_yaml_documents(bytes: &[u8]) -> Result<Vec<Document>, SyntaxError> {
    let mut documents = yaml::documents(bytes, usize::MAX)?;
    documents.retain(|d| !d.value.is_null());
    Ok(documents)
}

/// Reads a JSON value and notes duplicate fields on the way.
struct Seed<'s>(&'s mut State);

impl Seed<'_> {
    fn leaf<E: serde::de::Error>(self, value: Value) -> Result<Value, E> {
        self.0.leaf().map(|()| value).map_err(E::custom)
    }
}

impl<'de> DeserializeSeed<'de> for Seed<'_> {
    type Value = Value;

    fn deserialize<D: serde::Deserializer<'de>>(self, deserializer: D) -> Result<Value, D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Seed<'_> {
    type Value = Value;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("any JSON value")
    }

    fn visit_unit<E: serde::de::Error>(self) -> Result<Value, E> {
        self.leaf(Value::Null)
    }

    fn visit_bool<E: serde::de::Error>(self, value: bool) -> Result<Value, E> {
        self.leaf(Value::Bool(value))
    }

    fn visit_i64<E: serde::de::Error>(self, value: i64) -> Result<Value, E> {
        self.leaf(Value::Number(value.into()))
    }

    fn visit_u64<E: serde::de::Error>(self, value: u64) -> Result<Value, E> {
        self.leaf(Value::Number(value.into()))
    }

    fn visit_f64<E: serde::de::Error>(self, value: f64) -> Result<Value, E> {
        let number = Number::from_f64(value).ok_or_else(|| E::custom("number out of range"))?;
        self.leaf(Value::Number(number))
    }

    fn visit_str<E: serde::de::Error>(self, value: &str) -> Result<Value, E> {
        self.leaf(Value::String(value.to_owned()))
    }

    fn visit_string<E: serde::de::Error>(self, value: String) -> Result<Value, E> {
        self.leaf(Value::String(value))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut access: A) -> Result<Value, A::Error> {
        self.0.open(false).map_err(A::Error::custom)?;
        let mut items = Vec::new();
        loop {
            let len = self.0.enter_item(items.len());
            let item = access.next_element_seed(Seed(&mut *self.0))?;
            self.0.leave(len);
            match item {
                Some(item) => items.push(item),
                None => break,
            }
        }
        self.0.close();
        Ok(Value::Array(items))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut access: A) -> Result<Value, A::Error> {
        self.0.open(true).map_err(A::Error::custom)?;
        let mut fields = Map::new();
        while let Some(name) = access.next_key::<String>()? {
            let len = self.0.enter_field(&name);
            let value = access.next_value_seed(Seed(&mut *self.0)).map_err(A::Error::custom)?;
            self.0.leave(len);
            self.0.insert(&mut fields, name, value);
        }
        self.0.close();
        Ok(Value::Object(fields))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use serde_json::json;

    #[test]
    fn duplicate_fields_are_named_and_the_last_one_counts() {
        let text = r#"{"spec":{"replicas":1,"list":[{"a":1},{"a":1,"a":2}],"replicas":2,"replicas":3},"spec2":1}"#;
        let document = parse_json(text.as_bytes()).expect("it is JSON");
        assert_eq!(document.value["spec"]["replicas"], json!(3));
        assert_eq!(document.value["spec"]["list"][1]["a"], json!(2));
        assert_eq!(document.duplicates, ["spec.list[1].a", "spec.replicas"]);
    }

    #[test]
    fn json_errors_have_their_place() {
        let err = parse_json(b"{\n  \"a\": x\n}").expect_err("it is not JSON");
        assert_eq!(err.to_string(), "invalid character 'x' looking for beginning of value");
        assert_eq!((err.line, err.column), (2, 8));
        assert_eq!(
            parse_json(b"{} {}").expect_err("two values").message,
            "invalid character '{' after top-level value"
        );
        let deep = "[".repeat(5000);
        assert_eq!(parse_json(deep.as_bytes()).expect_err("too deep").message, "exceeded max depth");
    }

    fn any_json() -> impl Strategy<Value = Value> {
        let leaf = prop_oneof![
            Just(Value::Null),
            any::<bool>().prop_map(Value::from),
            any::<i64>().prop_map(Value::from),
            any::<u64>().prop_map(Value::from),
            "\\PC{0,6}".prop_map(Value::from),
        ];
        leaf.prop_recursive(4, 24, 4, |inner| {
            prop_oneof![
                prop::collection::vec(inner.clone(), 0..4).prop_map(Value::from),
                prop::collection::btree_map("[a-z]{1,3}", inner, 0..4)
                    .prop_map(|m| Value::Object(m.into_iter().collect())),
            ]
        })
    }

    proptest! {
        #[test]
        fn json_reads_back_in_both_languages(value in any_json()) {
            let text = value.to_string();
            let read = parse_json(text.as_bytes()).expect("it is JSON");
            prop_assert_eq!(&read.value, &value);
            prop_assert_eq!(read.duplicates, Vec::<String>::new());
            prop_assert_eq!(&parse_yaml(text.as_bytes()).expect("JSON is YAML").value, &value);
        }
    }
}

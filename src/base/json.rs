//! Typed objects out of JSON, by little code.
//!
//! serde's readers are compiled anew for each type that is read, and serde_json's reader of text is six hundred bytes each time, or three
//! thousand where a struct may be a list too: it was a twentieth of the program. Here text becomes a [`Value`] by the one reader of it
//! that there is, and the value is taken apart by calls that are small. It costs a write some microseconds.
//!
//! **Not here**: readers of a few fields, which pass over most of a large text (`OnlyMeta` of the controllers): they read it directly.

use serde::{
    Deserializer,
    de::{
        DeserializeOwned, DeserializeSeed, Error as _, Expected, IntoDeserializer as _, MapAccess, SeqAccess, Visitor,
        value::StringDeserializer,
    },
};
use serde_json::{Error, Map, Value, map};
use std::{convert::Infallible, fmt, vec};

/// Reads a text as a type.
///
/// # Errors
/// It is not JSON (with the place), or not of that type.
pub fn read<T: DeserializeOwned>(text: &[u8]) -> Result<T, Error> {
    typed(serde_json::from_slice(text)?)
}

/// Makes a value typed.
///
/// # Errors
/// It is not of that type; in serde_json's words.
pub fn typed<T: DeserializeOwned>(value: Value) -> Result<T, Error> {
    T::deserialize(Reader(value))
}

/// Reads a value. A struct is an object and never a list, which serde_json would read too.
struct Reader(Value);

impl Reader {
    fn object(self, expected: &dyn Expected) -> Result<Map<String, Value>, Error> {
        match self.0 {
            Value::Object(fields) => Ok(fields),
            other => Err(wrong(other, expected)),
        }
    }

    fn list(self, expected: &dyn Expected) -> Result<Vec<Value>, Error> {
        match self.0 {
            Value::Array(items) => Ok(items),
            other => Err(wrong(other, expected)),
        }
    }
}

/// serde_json's words for a value that is not what was expected.
fn wrong(found: Value, expected: &dyn Expected) -> Error {
    struct Nothing<'e>(&'e dyn Expected);

    impl Visitor<'_> for Nothing<'_> {
        type Value = Infallible;

        fn expecting(&self, to: &mut fmt::Formatter<'_>) -> fmt::Result {
            self.0.fmt(to)
        }
    }

    let Err(error) = found.deserialize_any(Nothing(expected));
    error
}

/// What serde_json does with a value that holds no others.
macro_rules! as_serde_json {
    ($($call:ident)*) => {$(
        fn $call<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
            self.0.$call(visitor)
        }
    )*};
}

impl<'de> Deserializer<'de> for Reader {
    type Error = Error;

    as_serde_json! {
        deserialize_any deserialize_bool deserialize_i8 deserialize_i16 deserialize_i32 deserialize_i64 deserialize_u8 deserialize_u16
        deserialize_u32 deserialize_u64 deserialize_f32 deserialize_f64 deserialize_char deserialize_str deserialize_string
        deserialize_bytes deserialize_byte_buf deserialize_unit deserialize_identifier deserialize_ignored_any
    }

    fn deserialize_option<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
        if self.0.is_null() { visitor.visit_none() } else { visitor.visit_some(self) }
    }

    fn deserialize_seq<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
        let items = self.list(&visitor)?;
        visitor.visit_seq(Items(items.into_iter()))
    }

    fn deserialize_tuple<V: Visitor<'de>>(self, len: usize, visitor: V) -> Result<V::Value, Error> {
        let items = self.list(&visitor)?;
        if items.len() > len {
            return Err(Error::invalid_length(items.len(), &visitor));
        }
        visitor.visit_seq(Items(items.into_iter()))
    }

    fn deserialize_tuple_struct<V: Visitor<'de>>(
        self,
        _name: &'static str,
        len: usize,
        visitor: V,
    ) -> Result<V::Value, Error> {
        self.deserialize_tuple(len, visitor)
    }

    fn deserialize_map<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
        let fields = self.object(&visitor)?;
        visitor.visit_map(Fields::of(fields))
    }

    fn deserialize_struct<V: Visitor<'de>>(
        self,
        _name: &'static str,
        _fields: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, Error> {
        self.deserialize_map(visitor)
    }

    fn deserialize_unit_struct<V: Visitor<'de>>(self, _name: &'static str, visitor: V) -> Result<V::Value, Error> {
        self.deserialize_unit(visitor)
    }

    fn deserialize_newtype_struct<V: Visitor<'de>>(self, _name: &'static str, visitor: V) -> Result<V::Value, Error> {
        visitor.visit_newtype_struct(self)
    }

    fn deserialize_enum<V: Visitor<'de>>(
        self,
        name: &'static str,
        variants: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, Error> {
        self.0.deserialize_enum(name, variants, visitor)
    }
}

struct Items(vec::IntoIter<Value>);

impl<'de> SeqAccess<'de> for Items {
    type Error = Error;

    fn next_element_seed<T: DeserializeSeed<'de>>(&mut self, seed: T) -> Result<Option<T::Value>, Error> {
        self.0.next().map(|item| seed.deserialize(Reader(item))).transpose()
    }

    fn size_hint(&self) -> Option<usize> {
        Some(self.0.len())
    }
}

struct Fields {
    left: map::IntoIter,
    /// Of the name that was read last.
    value: Value,
}

impl Fields {
    fn of(fields: Map<String, Value>) -> Self {
        Self { left: fields.into_iter(), value: Value::Null }
    }

    fn next_name(&mut self) -> Option<StringDeserializer<Error>> {
        let (name, value) = self.left.next()?;
        self.value = value;
        Some(name.into_deserializer())
    }
}

impl<'de> MapAccess<'de> for Fields {
    type Error = Error;

    fn next_key_seed<K: DeserializeSeed<'de>>(&mut self, seed: K) -> Result<Option<K::Value>, Error> {
        self.next_name().map(|name| seed.deserialize(name)).transpose()
    }

    fn next_value_seed<T: DeserializeSeed<'de>>(&mut self, seed: T) -> Result<T::Value, Error> {
        seed.deserialize(Reader(self.value.take()))
    }

    fn size_hint(&self) -> Option<usize> {
        Some(self.left.len())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde::{Deserialize, Serialize};
    use serde_json::json;

    #[derive(Debug, PartialEq, Deserialize, Serialize)]
    #[serde(rename_all = "camelCase", deny_unknown_fields)]
    struct All {
        is_set: bool,
        number: Option<i32>,
        #[serde(default)]
        nested: Vec<Inner>,
        word: Word,
        pair: (u8, String),
        by_name: std::collections::BTreeMap<String, Option<f64>>,
        wrapped: Wrapped,
        either: Either,
    }

    #[derive(Debug, PartialEq, Deserialize, Serialize)]
    struct Inner {
        at: char,
        #[serde(flatten)]
        rest: Map<String, Value>,
    }

    #[derive(Debug, PartialEq, Deserialize, Serialize)]
    struct Wrapped(Box<str>);

    #[derive(Debug, PartialEq, Deserialize, Serialize)]
    enum Word {
        One,
        Two(Vec<u8>),
    }

    #[derive(Debug, PartialEq, Deserialize, Serialize)]
    #[serde(untagged)]
    enum Either {
        Is(bool),
        Says(String),
    }

    fn same<T: DeserializeOwned + PartialEq + fmt::Debug>(text: &[u8]) {
        let without_place = |err: Error| {
            let text = err.to_string();
            text.split(" at line ").next().unwrap_or_default().to_owned()
        };
        let (ours, theirs) =
            (read::<T>(text).map_err(without_place), serde_json::from_slice::<T>(text).map_err(without_place));
        assert_eq!(ours, theirs, "{}", String::from_utf8_lossy(text));
    }

    fn all() -> Value {
        json!({
            "isSet": true, "number": -3, "nested": [{"at": "x", "more": [1, {"a": null}]}], "word": {"Two": [1, 2]},
            "pair": [7, "seven"], "byName": {"a": 1.5, "b": null}, "wrapped": "text", "either": "yes",
        })
    }

    #[test]
    fn what_serde_json_reads_is_read_and_wrong_types_are_named_in_its_words() {
        same::<All>(all().to_string().as_bytes());
        assert!(typed::<All>(all()).is_ok());
        for wrong in [json!(null), json!(5), json!(-5), json!(1.5), json!("x"), json!(true), json!([]), json!({})] {
            for field in ["isSet", "number", "nested", "byName", "wrapped", "other"] {
                let mut object = all();
                object[field] = wrong.clone();
                same::<All>(object.to_string().as_bytes());
            }
            same::<Vec<String>>(wrong.to_string().as_bytes());
            same::<Option<Inner>>(json!([wrong]).to_string().as_bytes()[1..].strip_suffix(b"]").unwrap());
        }
        for broken in ["", "{", "{\"isSet\": tru}"] {
            same::<All>(broken.as_bytes());
        }
    }

    #[test]
    fn a_word_is_read_as_from_a_value() {
        for value in [json!("One"), json!({"Two": [1]}), json!({"Two": "x"}), json!("Three"), json!(null), json!(5)] {
            let theirs = serde_json::from_value::<Word>(value.clone()).map_err(|err| err.to_string());
            assert_eq!(typed::<Word>(value).map_err(|err| err.to_string()), theirs);
        }
    }

    #[test]
    fn a_list_of_a_known_length_has_no_more_items() {
        assert_eq!(typed::<(u8, String)>(json!([7, "seven"])).unwrap(), (7, "seven".to_owned()));
        let error = typed::<(u8, String)>(json!([7, "seven", 8])).unwrap_err();
        assert_eq!(error.to_string(), "invalid length 3, expected a tuple of size 2");
        assert!(typed::<(u8, String)>(json!([7])).is_err() && typed::<[u8; 2]>(json!([1, 2, 3])).is_err());
    }

    #[test]
    fn a_struct_is_no_list() {
        let error = typed::<Inner>(json!(["x"])).unwrap_err();
        assert_eq!(error.to_string(), "invalid type: sequence, expected struct Inner");
    }
}

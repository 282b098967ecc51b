//! How deep and how large a value that a client makes may be, wherever it is made: read from text, patched, copied, kept.
//!
//! Called by the readers of JSON, YAML and protobuf, by patches and by the pipeline. Reading, cloning, writing and dropping a value
//! recurse as deep as it nests, and a body of a few bytes a value costs many times its size, so that both are bounded here, once.
//!
//! The depth leaves room for what wraps an object (a list, a watch event, an operation of a patch): `serde_json` reads 127 levels.

use serde_json::Value;

/// How deep a value may nest.
pub const DEPTH_MAX: usize = 100;
/// How many values (of any sort) one document may have.
pub const VALUES_MAX: usize = 250_000;
/// How many objects one document may have; each may become a typed struct of over a thousand bytes.
pub const OBJECTS_MAX: usize = 50_000;
/// The most bytes of an object in the store. Source: etcd's default `--max-request-bytes`.
pub const STORED_BYTES_MAX: usize = 3 * 1024 * 1024 / 2;
/// The most bytes of text of a client that an error repeats at one place.
pub const QUOTED_BYTES_MAX: usize = 1024;

/// What Go's decoder says of a value that nests too deep.
pub const TOO_DEEP: &str = "exceeded max depth";

/// Counts what is made while a document is read.
#[derive(Clone, Copy, Debug, Default)]
pub struct Census {
    values: usize,
    objects: usize,
}

impl Census {
    /// Counts one value.
    ///
    /// # Errors
    /// When the document has too many.
    pub fn value(&mut self) -> Result<(), String> {
        self.values += 1;
        if self.values > VALUES_MAX { Err(format!("it has more than {VALUES_MAX} values")) } else { Ok(()) }
    }

    /// Counts one object, which is a value too.
    ///
    /// # Errors
    /// When the document has too many.
    pub fn object(&mut self) -> Result<(), String> {
        self.objects += 1;
        if self.objects > OBJECTS_MAX { Err(format!("it has more than {OBJECTS_MAX} objects")) } else { self.value() }
    }

    /// Counts a value with all that is in it.
    ///
    /// # Errors
    /// When the document has too many.
    pub fn all(&mut self, value: &Value) -> Result<(), String> {
        match value {
            Value::Object(fields) => {
                self.object()?;
                fields.values().try_for_each(|v| self.all(v))
            }
            Value::Array(items) => {
                self.value()?;
                items.iter().try_for_each(|v| self.all(v))
            }
            _ => self.value(),
        }
    }
}

/// How large a value is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Size {
    /// How deep it nests: 1 for what has nothing in it.
    pub depth: usize,
    /// How many values it is.
    pub values: usize,
    /// About how many bytes of memory it takes.
    pub bytes: usize,
}

impl Size {
    /// The size of a value. It walks the whole value.
    pub fn of(value: &Value) -> Self {
        let mut size = Self { depth: 0, values: 1, bytes: size_of::<Value>() };
        match value {
            Value::String(text) => size.bytes += text.len(),
            Value::Array(items) => items.iter().for_each(|item| size.add(Self::of(item))),
            Value::Object(fields) => {
                for (name, item) in fields {
                    size.bytes += size_of::<String>() + name.len();
                    size.add(Self::of(item));
                }
            }
            _ => {}
        }
        size.depth += 1;
        size
    }

    fn add(&mut self, part: Self) {
        self.depth = self.depth.max(part.depth);
        self.values += part.values;
        self.bytes += part.bytes;
    }
}

/// The beginning of a text of a client, for an error that repeats it.
pub fn quoted(text: &str) -> std::borrow::Cow<'_, str> {
    if text.len() <= QUOTED_BYTES_MAX {
        return text.into();
    }
    let end = text.floor_char_boundary(QUOTED_BYTES_MAX);
    format!("{}… ({} bytes)", &text[..end], text.len()).into()
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn a_size_counts_what_is_inside() {
        let size = Size::of(&json!({ "a": [1, { "b": "text" }], "c": null }));
        assert_eq!((size.depth, size.values), (4, 6));
        assert!(size.bytes > 6 * size_of::<Value>());
        assert_eq!(Size::of(&json!([])).depth, 1);
    }

    #[test]
    fn a_census_ends_at_its_bounds() {
        assert_eq!(Census::default().all(&json!([{}, { "a": [] }])), Ok(()));
        let objects = Value::Array(vec![json!({}); OBJECTS_MAX + 1]);
        assert_eq!(Census::default().all(&objects), Err("it has more than 50000 objects".to_owned()));
        let values = Value::Array(vec![json!(0); VALUES_MAX]);
        assert_eq!(Census::default().all(&values), Err("it has more than 250000 values".to_owned()));
    }

    #[test]
    fn what_is_quoted_is_cut_between_characters() {
        assert_eq!(quoted("short"), "short");
        let cut = quoted(&"é".repeat(1000)).into_owned();
        assert!(cut.len() < 1100 && cut.ends_with("é… (2000 bytes)"), "{cut}");
    }
}

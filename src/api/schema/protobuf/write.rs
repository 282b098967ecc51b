//! JSON text as Kubernetes' protobuf, by the same table of numbers by which it is read. Nothing is decoded on the way: what is stored
//! is walked over once.
//!
//! ```text
//! document:  k8s\0 ┊ 1 {apiVersion, kind} ┊ 2 message ┊ 3 "" ┊ 4 ""
//! list:      the same; its message is 1 {metadata} and a field 2 per item
//! event:     length in four bytes ┊ 1 type ┊ 2 { 1 document }
//! ```
//!
//! What has no number, and what is null, is left out.
//!
//! **Source**: `runtime/serializer/protobuf/protobuf.go` of apimachinery, v1.37.

use super::{MAGIC, META, NUMBERS, PREFIX, Union, definition, scan::Scan};
use crate::api::schema::structure::{Definition, DefinitionId, Property, Type};
use base64::{Engine as _, engine::general_purpose::STANDARD as BASE64};
use jiff::Timestamp;
use std::sync::{LazyLock, OnceLock};

/// Wire types.
const VARINT: u32 = 0;
const FIXED: u32 = 1;
const BYTES: u32 = 2;

/// What an `Unknown` ends with: no encoding and no content type.
const END: &[u8] = &[3 << 3 | 2, 0, 4 << 3 | 2, 0];

/// How the objects of one type are written.
#[derive(Clone, Copy, Debug)]
pub struct Form {
    definition: &'static Definition,
    places: &'static [Place],
}

/// Where a field stands: its number, and the numbers of the embedded messages around it. Without a number it is left out.
#[derive(Debug, Default)]
pub(super) struct Place {
    number: u32,
    within: Vec<u32>,
}

/// The places of the fields of each definition, once they are needed.
static PLACES: LazyLock<Vec<OnceLock<Vec<Place>>>> =
    LazyLock::new(|| (0..DefinitionId::count()).map(|_| OnceLock::new()).collect());

/// Metadata alone: of no group's own schema.
static PARTIAL: LazyLock<(Definition, Vec<Place>)> = LazyLock::new(|| {
    let name = format!("{META}.PartialObjectMetadata");
    let metadata = DefinitionId::find(&format!("{META}.ObjectMeta")).expect("every kind has metadata");
    let properties = vec![Property::plain("metadata", Type::Ref(metadata))];
    let definition = Definition { name: name.into(), properties, value: None, is_atomic: false };
    let places = places(&definition);
    (definition, places)
});

fn places(definition: &Definition) -> Vec<Place> {
    let message = definition.name.strip_prefix(PREFIX).unwrap_or(&definition.name);
    definition.properties.iter().map(|property| place(message, &property.name).unwrap_or_default()).collect()
}

pub(super) fn place(message: &str, field: &str) -> Option<Place> {
    let names = NUMBERS.get(message)?;
    if let Some((number, _)) = names.iter().find(|(_, name)| **name == field) {
        return Some(Place { number: *number, within: Vec::new() });
    }
    names.iter().find_map(|(number, name)| {
        let mut place = place(name.strip_prefix('*')?, field)?;
        place.within.insert(0, *number);
        Some(place)
    })
}

impl Form {
    /// That of a definition, e.g. `io.k8s.api.core.v1.Pod`; `None` if it has no protobuf form.
    pub fn of(definition: &str) -> Option<Self> {
        let id = DefinitionId::find(definition)?;
        let short = definition.strip_prefix(PREFIX).unwrap_or(definition);
        NUMBERS.contains_key(short).then(|| Self::by_id(id))
    }

    /// That of `PartialObjectMetadata`. It takes whole objects too, of any kind.
    pub fn metadata() -> Self {
        Self { definition: &PARTIAL.0, places: &PARTIAL.1 }
    }

    fn by_id(id: DefinitionId) -> Self {
        let definition = id.get();
        Self { definition, places: PLACES[id.index()].get_or_init(|| places(definition)) }
    }

    fn field(self, name: &[u8]) -> Option<(&'static Property, &'static Place)> {
        let at = self.definition.properties.binary_search_by(|p| p.name.as_bytes().cmp(name)).ok()?;
        let place = &self.places[at];
        (place.number > 0).then(|| (&self.definition.properties[at], place))
    }

    /// Writes an object's message.
    fn write(self, out: &mut Vec<u8>, scan: &mut Scan<'_>) -> Result<(), String> {
        scan.object(|scan, name| match self.field(name) {
            Some((property, place)) if !scan.null() => {
                within(out, &place.within, |out| write_field(out, place.number, self.definition, property, scan))
            }
            Some(_) => Ok(()),
            None => scan.raw().map(drop),
        })
    }

    /// An object as an answer of its own.
    ///
    /// # Errors
    /// The text is not this type's JSON.
    pub fn document(self, api_version: &str, kind: &str, json: &[u8]) -> Result<Vec<u8>, String> {
        let mut out = Vec::with_capacity(json.len() + 64);
        begin(&mut out, api_version, kind);
        nested(&mut out, 2, |out| self.write(out, &mut Scan::new(json)))?;
        out.extend_from_slice(END);
        Ok(out)
    }

    /// Adds an item of a list.
    ///
    /// # Errors
    /// The text is not this type's JSON.
    pub fn item(self, out: &mut Vec<u8>, json: &[u8]) -> Result<(), String> {
        nested(out, 2, |out| self.write(out, &mut Scan::new(json)))
    }
}

/// What a list begins and ends with; `items_bytes` is the length of what [`Form::item`] writes for all its items.
///
/// # Errors
/// The text is not a list's metadata.
pub fn list_ends(
    api_version: &str,
    kind: &str,
    meta: &str,
    items_bytes: usize,
) -> Result<(Vec<u8>, &'static [u8]), String> {
    let form = Form::of(&format!("{META}.ListMeta")).ok_or("lists have no metadata")?;
    let mut metadata = Vec::new();
    nested(&mut metadata, 1, |out| form.write(out, &mut Scan::new(meta.as_bytes())))?;
    let mut head = Vec::new();
    begin(&mut head, api_version, kind);
    put_key(&mut head, 2, BYTES);
    put_varint(&mut head, (metadata.len() + items_bytes) as u64);
    head.extend_from_slice(&metadata);
    Ok((head, END))
}

/// What an event in a stream begins with: its length.
pub const EVENT_LENGTH_BYTES: usize = 4;

/// What stands before a document of this length to make an event of it, as a watch's stream has it.
/// Source: `LengthDelimitedFramer` of apimachinery, and its `NewRawSerializer`.
pub fn event_head(what: &str, document_bytes: usize) -> Vec<u8> {
    let mut raw = Vec::new();
    put_key(&mut raw, 1, BYTES);
    put_varint(&mut raw, document_bytes as u64);
    let mut head = vec![0; EVENT_LENGTH_BYTES];
    put_bytes(&mut head, 1, what.as_bytes());
    put_key(&mut head, 2, BYTES);
    put_varint(&mut head, (raw.len() + document_bytes) as u64);
    head.extend_from_slice(&raw);
    let length = u32::try_from(head.len() - EVENT_LENGTH_BYTES + document_bytes).unwrap_or(u32::MAX);
    head[..EVENT_LENGTH_BYTES].copy_from_slice(&length.to_be_bytes());
    head
}

/// Any document that says what it is; `None` if its type has no protobuf form.
///
/// # Errors
/// The text is not this type's JSON.
pub fn any_document(json: &[u8]) -> Result<Option<Vec<u8>>, String> {
    let (mut api_version, mut kind) = (String::new(), String::new());
    Scan::new(json).object(|scan, name| {
        let text = match name {
            b"apiVersion" => &mut api_version,
            b"kind" => &mut kind,
            _ => return scan.raw().map(drop),
        };
        *text = String::from_utf8_lossy(&scan.string()?).into_owned();
        Ok(())
    })?;
    if api_version.is_empty() {
        // As `APIVersions` is in JSON.
        "v1".clone_into(&mut api_version);
    }
    let form = if kind == "PartialObjectMetadata" {
        Some(Form::metadata())
    } else {
        definition(&api_version, &kind).and_then(|definition| Form::of(&definition.name))
    };
    form.map(|form| form.document(&api_version, &kind, json)).transpose()
}

/// What a document begins with: that it is one, and of what type.
fn begin(out: &mut Vec<u8>, api_version: &str, kind: &str) {
    out.extend_from_slice(MAGIC);
    let mut type_meta = Vec::new();
    put_bytes(&mut type_meta, 1, api_version.as_bytes());
    put_bytes(&mut type_meta, 2, kind.as_bytes());
    put_bytes(out, 1, &type_meta);
}

fn write_field(
    out: &mut Vec<u8>,
    number: u32,
    of: &Definition,
    property: &'static Property,
    scan: &mut Scan<'_>,
) -> Result<(), String> {
    if let Some(union) = Union::of(of, &property.name) {
        return write_union(out, number, union, scan);
    }
    match &property.kind {
        Type::List(inner) => scan.list(|scan| write_value(out, number, inner, scan)),
        Type::Map(inner) => scan.object(|scan, key| {
            nested(out, number, |out| {
                put_bytes(out, 1, key);
                write_value(out, 2, inner, scan)
            })
        }),
        kind => write_value(out, number, kind, scan),
    }
}

fn write_value(out: &mut Vec<u8>, number: u32, kind: &'static Type, scan: &mut Scan<'_>) -> Result<(), String> {
    match kind {
        Type::String => put_bytes(out, number, &scan.string()?),
        Type::Bool => put_integer(out, number, i64::from(scan.word()? == "true")),
        Type::Int32 | Type::Int64 => put_integer(out, number, integer(scan)?),
        Type::Number => {
            let value: f64 = scan.word()?.parse().map_err(|_| "a number is none".to_owned())?;
            put_key(out, number, FIXED);
            out.extend_from_slice(&value.to_bits().to_le_bytes());
        }
        Type::Bytes => {
            let bytes = BASE64.decode(&*scan.string()?).map_err(|err| err.to_string())?;
            put_bytes(out, number, &bytes);
        }
        Type::Time | Type::MicroTime => return write_time(out, number, scan),
        Type::Quantity => {
            let text = if scan.peek() == Some(b'"') { scan.string()? } else { scan.word()?.as_bytes().into() };
            return nested(out, number, |out| {
                put_bytes(out, 1, &text);
                Ok(())
            });
        }
        Type::IntOrString => return nested(out, number, |out| write_int_or_string(out, scan)),
        Type::Any => {
            let raw = scan.raw()?;
            return nested(out, number, |out| {
                put_bytes(out, 1, raw);
                Ok(())
            });
        }
        Type::Ref(id) => {
            if let Some(plain) = &id.get().value {
                return write_value(out, number, plain, scan);
            }
            return nested(out, number, |out| Form::by_id(*id).write(out, scan));
        }
        // As an item of a list or a map it is a message with the items in it.
        Type::List(inner) => {
            return nested(out, number, |out| scan.list(|scan| write_value(out, 1, inner, scan)));
        }
        Type::Map(_) | Type::Object(_) => return Err("a map in a list or a map has no protobuf form".to_owned()),
    }
    Ok(())
}

fn write_time(out: &mut Vec<u8>, number: u32, scan: &mut Scan<'_>) -> Result<(), String> {
    let text = scan.string()?;
    let (secs, rest) = match whole_second(&text) {
        Some(secs) => (secs, 0),
        None => any_time(&text)?,
    };
    nested(out, number, |out| {
        put_integer(out, 1, secs);
        put_integer(out, 2, rest);
        Ok(())
    })
}

/// Seconds since 1970, and nanoseconds more.
fn any_time(text: &[u8]) -> Result<(i64, i64), String> {
    let text = std::str::from_utf8(text).map_err(|err| err.to_string())?;
    let time: Timestamp = text.parse().map_err(|err: jiff::Error| err.to_string())?;
    // Fractions count upwards in protobuf, before 1970 too.
    let nanos = time.as_nanosecond();
    let part = |part: i128| i64::try_from(part).map_err(|err| err.to_string());
    Ok((part(nanos.div_euclid(1_000_000_000))?, part(nanos.rem_euclid(1_000_000_000))?))
}

/// The seconds of a time as Kubernetes writes it, `2026-01-01T00:00:00Z`: every object of a list has such. The last days of months and
/// whatever else is unusual are left to [`any_time`].
fn whole_second(text: &[u8]) -> Option<i64> {
    let number = |place: std::ops::Range<usize>| {
        text[place].iter().try_fold(0_i64, |n, b| b.is_ascii_digit().then(|| n * 10 + i64::from(b - b'0')))
    };
    let signs = [(4, b'-'), (7, b'-'), (10, b'T'), (13, b':'), (16, b':'), (19, b'Z')];
    if text.len() != 20 || signs.iter().any(|(at, sign)| text[*at] != *sign) {
        return None;
    }
    let (year, month, day) = (number(0..4)?, number(5..7)?, number(8..10)?);
    let (hour, minute, second) = (number(11..13)?, number(14..16)?, number(17..19)?);
    if !(1..=12).contains(&month) || !(1..=28).contains(&day) || hour > 23 || minute > 59 || second > 59 {
        return None;
    }
    // Years begin with March, so that a leap day is their last.
    let (year, month) = if month > 2 { (year, month - 3) } else { (year - 1, month + 9) };
    let days =
        year * 365 + year.div_euclid(4) - year.div_euclid(100) + year.div_euclid(400) + (month * 153 + 2) / 5 + day - 1;
    Some((days - 719_468) * 86_400 + hour * 3600 + minute * 60 + second)
}

fn write_int_or_string(out: &mut Vec<u8>, scan: &mut Scan<'_>) -> Result<(), String> {
    if scan.peek() == Some(b'"') {
        put_integer(out, 1, 1);
        put_bytes(out, 3, &scan.string()?);
    } else {
        put_integer(out, 1, 0);
        put_integer(out, 2, integer(scan)?);
    }
    Ok(())
}

fn write_union(out: &mut Vec<u8>, number: u32, union: Union, scan: &mut Scan<'_>) -> Result<(), String> {
    if union == Union::MapOfSchemaOrStrings {
        return scan.object(|scan, key| {
            nested(out, number, |out| {
                put_bytes(out, 1, key);
                nested(out, 2, |out| write_branch(out, union, scan))
            })
        });
    }
    nested(out, number, |out| write_branch(out, union, scan))
}

/// One of the forms that a field of a schema may have.
fn write_branch(out: &mut Vec<u8>, union: Union, scan: &mut Scan<'_>) -> Result<(), String> {
    let schema = Union::schema();
    match (union, scan.peek()) {
        (Union::Empty, _) => scan.raw().map(drop),
        (Union::SchemaOrBool, Some(b'{')) => {
            put_integer(out, 1, 1);
            nested(out, 2, |out| Form::by_id(schema).write(out, scan))
        }
        (Union::SchemaOrBool, _) => {
            put_integer(out, 1, i64::from(scan.word()? == "true"));
            Ok(())
        }
        (_, Some(b'{')) => nested(out, 1, |out| Form::by_id(schema).write(out, scan)),
        (Union::SchemaOrList, _) => scan.list(|scan| nested(out, 2, |out| Form::by_id(schema).write(out, scan))),
        (Union::MapOfSchemaOrStrings, _) => scan.list(|scan| {
            put_bytes(out, 2, &scan.string()?);
            Ok(())
        }),
    }
}

fn integer(scan: &mut Scan<'_>) -> Result<i64, String> {
    let word = scan.word()?;
    word.parse().map_err(|_| format!("{word:?} is no whole number"))
}

fn put_key(out: &mut Vec<u8>, number: u32, wire_type: u32) {
    put_varint(out, u64::from(number << 3 | wire_type));
}

fn put_integer(out: &mut Vec<u8>, number: u32, value: i64) {
    put_key(out, number, VARINT);
    // Negative numbers are written as 64 bits whatever their type.
    put_varint(out, value.cast_unsigned());
}

fn put_bytes(out: &mut Vec<u8>, number: u32, bytes: &[u8]) {
    put_key(out, number, BYTES);
    put_varint(out, bytes.len() as u64);
    out.extend_from_slice(bytes);
}

fn put_varint(out: &mut Vec<u8>, mut value: u64) {
    loop {
        let [low, ..] = value.to_le_bytes();
        value >>= 7;
        if value == 0 {
            return out.push(low & 0x7f);
        }
        out.push(low | 0x80);
    }
}

/// Writes a message within others, the outermost first.
fn within(
    out: &mut Vec<u8>,
    around: &[u32],
    write: impl FnOnce(&mut Vec<u8>) -> Result<(), String>,
) -> Result<(), String> {
    if around.is_empty() {
        return write(out);
    }
    let mut starts = Vec::new();
    for number in around {
        starts.push(open(out, *number));
    }
    write(out)?;
    while let Some(start) = starts.pop() {
        close(out, start);
    }
    Ok(())
}

/// Writes a message as a field.
fn nested(
    out: &mut Vec<u8>,
    number: u32,
    write: impl FnOnce(&mut Vec<u8>) -> Result<(), String>,
) -> Result<(), String> {
    let start = open(out, number);
    write(out)?;
    close(out, start);
    Ok(())
}

/// Begins a message whose length is not known yet; most take one byte for it.
fn open(out: &mut Vec<u8>, number: u32) -> usize {
    put_key(out, number, BYTES);
    out.push(0);
    out.len()
}

/// Says the length of a message that was begun; a long one makes room for it.
fn close(out: &mut Vec<u8>, start: usize) {
    let end = out.len();
    // The length is written behind the message, and goes before it from there.
    put_varint(out, (end - start) as u64);
    let mut length = [0; 10];
    let n = out.len() - end;
    length[..n].copy_from_slice(&out[end..]);
    out.copy_within(start..end, start + n - 1);
    out[start - 1..start - 1 + n].copy_from_slice(&length[..n]);
    out.truncate(end + n - 1);
}

#[cfg(test)]
mod tests {
    use super::{
        super::{Wire, next, parse},
        *,
    };
    use crate::{
        api::{
            kinds::KINDS,
            schema::{packed, structure::Definition},
        },
        base::rng::Rng,
    };
    use proptest::prelude::*;
    use serde_json::{Map, Value, json};

    /// A value of a type, with nothing in it that Go would leave out of JSON.
    fn value(kind: &Type, depth: usize, rng: &Rng) -> Value {
        const TEXTS: [&str; 5] = ["a", "\"quoted\" \\ \n", "h\u{e9}llo \u{1F980}", "b", "\u{7f}\t"];
        match kind {
            Type::String => {
                let text = TEXTS[usize::try_from(rng.between(0, 5)).unwrap()];
                json!(text.repeat(usize::try_from(1 + rng.between(0, 70)).unwrap()))
            }
            Type::Bool => json!(true),
            Type::Int32 => json!(1 - i64::try_from(rng.between(2, 1 << 31)).unwrap()),
            Type::Int64 => json!(i64::try_from(rng.between(1, 1 << 62)).unwrap()),
            Type::Number => json!(-1.5),
            Type::Bytes => json!(BASE64.encode(TEXTS[usize::try_from(rng.between(0, 5)).unwrap()])),
            Type::Time => json!("1969-12-31T23:59:59Z"),
            Type::MicroTime => json!("1969-12-31T23:59:59.999999Z"),
            Type::Quantity => json!("1500m"),
            Type::IntOrString if rng.one_in(2) => json!("25%"),
            Type::IntOrString => json!(7),
            Type::Any => json!({ "a": [1, "x", { "b": null }], "c": "\"" }),
            Type::List(inner) => Value::Array((0..=rng.between(0, 3)).map(|_| value(inner, depth, rng)).collect()),
            Type::Map(inner) => {
                Value::Object((0..=rng.between(0, 2)).map(|n| (format!("k{n}"), value(inner, depth, rng))).collect())
            }
            Type::Ref(_) | Type::Object(_) => {
                let definition = kind.object().unwrap();
                definition.value.as_ref().map_or_else(|| object(definition, depth, rng), |v| value(v, depth, rng))
            }
        }
    }

    fn object(definition: &Definition, depth: usize, rng: &Rng) -> Value {
        let message = definition.name.strip_prefix(PREFIX).unwrap_or(&definition.name);
        let mut object = Map::new();
        for property in &definition.properties {
            let is_deep = depth == 0 && property.kind.definition().is_some();
            if is_deep || rng.one_in(4) || place(message, &property.name).is_none() {
                continue;
            }
            let schema = || value(&Type::Ref(Union::schema()), depth.saturating_sub(1), rng);
            let value = match Union::of(definition, &property.name) {
                Some(_) if depth == 0 => continue,
                Some(Union::Empty) => json!({}),
                Some(Union::SchemaOrBool) if rng.one_in(2) => json!(rng.one_in(2)),
                Some(Union::SchemaOrList) if rng.one_in(2) => json!([schema(), schema()]),
                Some(Union::SchemaOrBool | Union::SchemaOrList) => schema(),
                Some(Union::MapOfSchemaOrStrings) => json!({ "a": ["b", "c"], "d": schema() }),
                None => value(&property.kind, depth.saturating_sub(1), rng),
            };
            object.insert(property.name.to_string(), value);
        }
        Value::Object(object)
    }

    proptest! {
        #![proptest_config(ProptestConfig { cases: ProptestConfig::default().cases / 10, ..ProptestConfig::default() })]

        #[test]
        fn an_object_of_every_kind_comes_back_as_it_was(seed in any::<u64>()) {
            for kind in KINDS.iter().filter(|kind| Form::of(kind.info().schema).is_some()) {
                let info = kind.info();
                let mut wanted = object(packed(info.schema), 5, &Rng::seeded(seed));
                wanted["apiVersion"] = json!(info.api_version());
                wanted["kind"] = json!(info.kind);
                let written = any_document(wanted.to_string().as_bytes()).unwrap().expect("every kind has a form");
                let read = parse(&written);
                prop_assert!(read.as_ref() == Ok(&wanted), "{}: {read:?} for {wanted}", info.kind);
            }
        }

        #[test]
        fn no_text_makes_it_panic(text in "\\PC{0,80}", cut in any::<prop::sample::Index>(), seed in any::<u64>()) {
            let pod = packed("io.k8s.api.core.v1.Pod");
            let whole = object(pod, 5, &Rng::seeded(seed)).to_string();
            let cut = cut.index(whole.len());
            let broken = [&whole.as_bytes()[..cut], text.as_bytes(), &whole.as_bytes()[cut..]].concat();
            for text in [text.as_bytes(), &whole.as_bytes()[..cut], &broken] {
                drop(any_document(text));
                drop(Form::of(&pod.name).unwrap().document("v1", "Pod", text));
            }
        }
    }

    #[test]
    fn bytes_are_those_of_kubernetes() {
        let json =
            json!({ "apiVersion": "v1", "kind": "ConfigMap", "metadata": { "name": "a" }, "data": { "k": "v" } });
        let written = any_document(json.to_string().as_bytes()).unwrap().unwrap();
        // Data stands before metadata in sorted JSON; the order of fields means nothing in protobuf.
        let raw = b"\x12\x06\x0a\x01k\x12\x01v\x0a\x03\x0a\x01a";
        let head = b"k8s\0\x0a\x0f\x0a\x02v1\x12\x09ConfigMap\x12\x0d";
        assert_eq!(written, [&head[..], raw, b"\x1a\x00\x22\x00"].concat());
        assert_eq!(event_head("ADDED", 1), b"\0\0\0\x0c\x0a\x05ADDED\x12\x03\x0a\x01");
        let long = event_head("ADDED", 300);
        assert_eq!(long, b"\0\0\x01\x39\x0a\x05ADDED\x12\xaf\x02\x0a\xac\x02");
    }

    #[test]
    fn metadata_alone_is_taken_from_any_object() {
        let json = br#"{"apiVersion":"example.com/v1","kind":"W","spec":{"a":[{}]},"metadata":{"name":"a","labels":{"l":""}}}"#;
        let written = Form::metadata().document("meta.k8s.io/v1", "PartialObjectMetadata", json).unwrap();
        let mut fields = &written[4..];
        let mut raw = None;
        while let Some((number, wire)) = next(&mut fields).unwrap() {
            if let (2, Wire::Bytes(bytes)) = (number, wire) {
                raw = Some(bytes);
            }
        }
        assert_eq!(raw.unwrap(), b"\x0a\x0a\x0a\x01a\x5a\x05\x0a\x01l\x12\x00");
    }

    #[test]
    fn a_list_says_its_length_before_its_items() {
        let form = Form::of("io.k8s.api.core.v1.ConfigMap").unwrap();
        let mut items = Vec::new();
        for name in ["a", "b"] {
            form.item(&mut items, json!({ "metadata": { "name": name } }).to_string().as_bytes()).unwrap();
        }
        let (head, tail) = list_ends("v1", "ConfigMapList", r#"{"resourceVersion":"7"}"#, items.len()).unwrap();
        let list = parse(&[&head[..], &items, tail].concat()).unwrap();
        assert_eq!(
            list,
            json!({
                "apiVersion": "v1", "kind": "ConfigMapList", "metadata": { "resourceVersion": "7" },
                "items": [{ "metadata": { "name": "a" } }, { "metadata": { "name": "b" } }],
            })
        );
    }

    #[test]
    fn times_are_counted_as_the_calendar_does() {
        for year in [1, 1600, 1899, 1900, 1969, 1970, 2000, 2026, 2100, 9999] {
            for (month, day) in [(1, 1), (2, 28), (3, 1), (7, 4), (12, 28)] {
                let text = format!("{year:04}-{month:02}-{day:02}T23:59:07Z");
                assert_eq!(whole_second(text.as_bytes()), Some(any_time(text.as_bytes()).unwrap().0), "{text}");
            }
        }
        for other in ["2026-02-30T00:00:00Z", "2026-01-01T00:00:60Z", "2026-01-01 00:00:00Z", "2026-01-01T00:00:00.1Z"]
        {
            assert_eq!(whole_second(other.as_bytes()), None, "{other}");
        }
    }

    #[test]
    fn what_goes_wrong_with_a_request_has_a_form_too() {
        let status = json!({
            "kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Failure", "message": "no", "reason": "Expired",
            "details": { "causes": [{ "reason": "R", "message": "m", "field": "f" }], "retryAfterSeconds": 1 }, "code": 410,
        });
        assert_eq!(parse(&any_document(status.to_string().as_bytes()).unwrap().unwrap()).unwrap(), status);
        assert_eq!(any_document(br#"{"kind":"Table","apiVersion":"meta.k8s.io/v1"}"#).unwrap(), None);
    }
}

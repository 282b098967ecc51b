//! Bodies in Kubernetes' protobuf form, read as the JSON that says the same: kubectl sends them for each `create` of a built-in kind.
//! The other way round: `write`.
//!
//! A body is `k8s\0` and a `runtime.Unknown` that names the type. Fields go by number; `protobuf_numbers.txt` says which field of which
//! type has which, and the definitions say how it is written. A number with a `*` is a message of a type that Go embeds: its fields are
//! the type's own in JSON. A number that a type does not have is skipped, as protobuf asks: clients send fields that Kubernetes has dropped
//! (`metadata.clusterName`, number 15) or will have. Skipping walks over bytes and keeps nothing, however deep their groups are.
//!
//! Go writes fields that are no pointers even when they are empty, and leaves them out of JSON. So what is empty counts as absent,
//! unless the schema requires the field or it is one of [`POINTERS`].
//!
//! **Source**: `runtime/serializer/protobuf/protobuf.go` of apimachinery, v1.37; the numbers of `generated.proto` in each group, v1.37, as
//! kubectl 1.37 has them in its types.

mod scan;
mod write;

pub use write::{EVENT_LENGTH_BYTES, Form, any_document, event_head, list_ends};

use super::{
    read,
    structure::{Definition, DefinitionId, Property, Type},
};
use crate::{
    api::bounds::{Census, DEPTH_MAX, Size, TOO_DEEP},
    base::ordered,
};
use base64::{Engine as _, engine::general_purpose::STANDARD as BASE64};
use jiff::Timestamp;
use serde_json::{Map, Value, json};
use std::sync::LazyLock;

/// What a body begins with.
const MAGIC: &[u8] = b"k8s\0";
/// Where the names of all definitions begin; the table leaves it out.
const PREFIX: &str = "io.k8s.";
const META: &str = "io.k8s.apimachinery.pkg.apis.meta.v1";
const APIEXTENSIONS: &str = "io.k8s.apiextensions-apiserver.pkg.apis.apiextensions.v1";

/// Fields that are pointers in Go and mean something when they point to nothing much: `replicas: 0`, `automountServiceAccountToken: false`.
const POINTERS: &[&str] = &[
    "activeDeadlineSeconds",
    "adminAccess",
    "allocateLoadBalancerNodePorts",
    "allowMultipleAllocations",
    "allowPrivilegeEscalation",
    "allowVolumeExpansion",
    "attachRequired",
    "automountServiceAccountToken",
    "averageUtilization",
    "backoffLimit",
    "backoffLimitPerIndex",
    "blockOwnerDeletion",
    "bool",
    "borrowingLimitPercent",
    "completions",
    "controller",
    "defaultMode",
    "defaultUser",
    "deletionGracePeriodSeconds",
    "enableServiceLinks",
    "expirationSeconds",
    "failedJobsHistoryLimit",
    "fsGroup",
    "gracePeriodSeconds",
    "holderIdentity",
    "hostUsers",
    "immutable",
    "int",
    "leaseDurationSeconds",
    "leaseTransitions",
    "lendablePercent",
    "manualSelector",
    "maxFailedIndexes",
    "maxItems",
    "maxLength",
    "maxProperties",
    "minItems",
    "minLength",
    "minProperties",
    "minReplicas",
    "mode",
    "nodeAllocatableUpdatePeriodSeconds",
    "nominalConcurrencyShares",
    "optional",
    "optionalOldSelf",
    "orphanDependents",
    "parallelism",
    "partition",
    "podInfoOnMount",
    "preventPodSchedulingIfMissing",
    "priority",
    "privileged",
    "progressDeadlineSeconds",
    "readOnlyRootFilesystem",
    "ready",
    "replicas",
    "requiresRepublish",
    "revisionHistoryLimit",
    "runAsGroup",
    "runAsNonRoot",
    "runAsUser",
    "runningInUserNamespace",
    "seLinuxMount",
    "serving",
    "setHostnameAsFQDN",
    "shareProcessNamespace",
    "stabilizationWindowSeconds",
    "startingDeadlineSeconds",
    "storageCapacity",
    "storageClassName",
    "string",
    "successfulJobsHistoryLimit",
    "suspend",
    "terminating",
    "terminationGracePeriodSeconds",
    "tolerationSeconds",
    "ttlSecondsAfterFinished",
];

/// A field of a schema that a CustomResourceDefinition holds, of a type that JSON writes as one of several.
/// Source: `types_jsonschema.go` and `marshal.go` of apiextensions v1.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Union {
    /// An object that has no fields and means something by being there.
    Empty,
    SchemaOrBool,
    SchemaOrList,
    MapOfSchemaOrStrings,
}

impl Union {
    /// That of a field of a definition, if it is one.
    fn of(definition: &Definition, field: &str) -> Option<Self> {
        match (definition.short_name(), field) {
            ("JSONSchemaProps", "additionalItems" | "additionalProperties") => Some(Self::SchemaOrBool),
            ("JSONSchemaProps", "items") => Some(Self::SchemaOrList),
            ("JSONSchemaProps", "dependencies") => Some(Self::MapOfSchemaOrStrings),
            ("CustomResourceSubresources", "status") => Some(Self::Empty),
            _ => None,
        }
    }

    fn schema() -> DefinitionId {
        DefinitionId::find(&format!("{APIEXTENSIONS}.JSONSchemaProps")).expect("CustomResourceDefinitions are served")
    }
}

/// The fields of a message by number.
type Names = ordered::Map<u32, &'static str>;

static NUMBERS: LazyLock<ordered::Map<&'static str, Names>> =
    LazyLock::new(|| include_str!("protobuf_numbers.txt").lines().filter_map(parse_line).collect());

fn parse_line(line: &'static str) -> Option<(&'static str, Names)> {
    let (message, fields) = line.split_once(' ')?;
    let field = |field: &'static str| {
        let (name, number) = field.split_once('=')?;
        Some((number.parse().ok()?, name))
    };
    Some((message, fields.split(' ').filter_map(field).collect()))
}

/// Reads a body as the JSON value that says the same. The error says what is wrong with it.
pub fn parse(bytes: &[u8]) -> Result<Value, String> {
    let body = bytes.strip_prefix(MAGIC).ok_or("it does not begin with \"k8s\\0\"")?;
    let envelope = Envelope::read(body)?;
    let definition = definition(&envelope.api_version, &envelope.kind)
        .ok_or_else(|| format!("no kind {:?} is known in version {:?}", envelope.kind, envelope.api_version))?;
    let mut object = Map::new();
    Reader::default().read_message(&mut object, definition, &definition.name, envelope.raw)?;
    object.insert("apiVersion".to_owned(), json!(envelope.api_version));
    object.insert("kind".to_owned(), json!(envelope.kind));
    Ok(Value::Object(object))
}

/// The definition of a kind. Options are of every group; what belongs to none, such as `Status`, goes as if it were of the core's.
fn definition(api_version: &str, kind: &str) -> Option<&'static Definition> {
    let (group, version) = api_version.split_once('/').unwrap_or(("core", api_version));
    let group = group.split('.').next().unwrap_or(group);
    let meta = || Definition::find(&format!("{META}.{kind}"));
    if kind.ends_with("Options")
        && let Some(options) = meta()
    {
        return Some(options);
    }
    match (group, version) {
        ("apiextensions", "v1") => Definition::find(&format!("{APIEXTENSIONS}.{kind}")),
        _ => Definition::find(&format!("{PREFIX}api.{group}.{version}.{kind}")),
    }
    .or_else(|| meta().filter(|_| api_version == "v1"))
}

/// `runtime.Unknown`.
#[derive(Default)]
struct Envelope<'a> {
    api_version: String,
    kind: String,
    raw: &'a [u8],
}

impl<'a> Envelope<'a> {
    fn read(mut body: &'a [u8]) -> Result<Self, String> {
        let mut envelope = Self::default();
        while let Some((number, wire)) = next(&mut body)? {
            match number {
                1 => envelope.read_type(wire.bytes()?)?,
                2 => envelope.raw = wire.bytes()?,
                3 if !wire.bytes()?.is_empty() => return Err("its content is encoded".to_owned()),
                _ => {}
            }
        }
        Ok(envelope)
    }

    fn read_type(&mut self, mut bytes: &[u8]) -> Result<(), String> {
        while let Some((number, wire)) = next(&mut bytes)? {
            match number {
                1 => self.api_version = wire.text()?,
                2 => self.kind = wire.text()?,
                _ => {}
            }
        }
        Ok(())
    }
}

/// Reads messages, and counts what it makes of them.
#[derive(Default)]
struct Reader {
    depth: usize,
    census: Census,
}

impl Reader {
    /// Reads the fields of a message, numbered as in `message`, into an object of a definition.
    fn read_message(
        &mut self,
        object: &mut Map<String, Value>,
        definition: &Definition,
        message: &str,
        mut bytes: &[u8],
    ) -> Result<(), String> {
        self.depth += 1;
        if self.depth > DEPTH_MAX {
            return Err(TOO_DEEP.to_owned());
        }
        let short = message.strip_prefix(PREFIX).unwrap_or(message);
        let names = NUMBERS.get(short);
        if names.is_none() && !bytes.is_empty() {
            return Err(format!("the numbers of {short} are not known: send it as JSON"));
        }
        while let Some((number, wire)) = next(&mut bytes)? {
            let Some(name) = names.and_then(|names| names.get(&number)) else { continue };
            if let Some(embedded) = name.strip_prefix('*') {
                self.read_message(object, definition, embedded, wire.bytes()?)?;
            } else if let Some(property) = definition.property(name) {
                self.read_field(object, definition, property, wire)?;
            }
        }
        self.depth -= 1;
        Ok(())
    }

    fn read_field(
        &mut self,
        object: &mut Map<String, Value>,
        definition: &Definition,
        property: &Property,
        wire: Wire<'_>,
    ) -> Result<(), String> {
        let name = &*property.name;
        if let Some(union) = Union::of(definition, name) {
            return self.read_union(object, name, union, wire.bytes()?);
        }
        match &property.kind {
            Type::List(inner) => {
                let list = object.entry(name).or_insert_with(|| json!([]));
                let item = self.read_value(inner, wire)?.unwrap_or(Value::Null);
                list.as_array_mut().expect("a list stays one").push(item);
            }
            Type::Map(inner) => {
                let map = object.entry(name).or_insert_with(|| json!({}));
                let (key, value) = self.read_entry(inner, wire.bytes()?)?;
                map.as_object_mut().expect("a map stays one").insert(key, value);
            }
            kind => {
                let value = self.read_value(kind, wire)?;
                if let Some(value) = value.filter(|value| property.is_required || !is_empty(property, value)) {
                    object.insert(name.to_owned(), value);
                }
            }
        }
        Ok(())
    }

    fn read_entry(&mut self, inner: &Type, mut bytes: &[u8]) -> Result<(String, Value), String> {
        let (mut key, mut value) = (String::new(), None);
        while let Some((number, wire)) = next(&mut bytes)? {
            match number {
                1 => key = wire.text()?,
                2 => value = self.read_value(inner, wire)?,
                _ => {}
            }
        }
        Ok((key, value.unwrap_or_else(|| json!(""))))
    }

    fn read_union(
        &mut self,
        object: &mut Map<String, Value>,
        name: &str,
        union: Union,
        mut bytes: &[u8],
    ) -> Result<(), String> {
        self.census.object()?;
        if union != Union::MapOfSchemaOrStrings {
            let branch = self.read_branch(union, bytes)?;
            object.insert(name.to_owned(), branch);
            return Ok(());
        }
        let (mut key, mut branch) = (String::new(), json!([]));
        while let Some((number, wire)) = next(&mut bytes)? {
            match number {
                1 => key = wire.text()?,
                2 => branch = self.read_branch(union, wire.bytes()?)?,
                _ => {}
            }
        }
        let map = object.entry(name).or_insert_with(|| json!({}));
        map.as_object_mut().expect("a map stays one").insert(key, branch);
        Ok(())
    }

    /// Which of its forms a field of a schema has.
    fn read_branch(&mut self, union: Union, mut bytes: &[u8]) -> Result<Value, String> {
        let mut branch = match union {
            Union::Empty => json!({}),
            Union::SchemaOrBool => json!(false),
            Union::SchemaOrList | Union::MapOfSchemaOrStrings => json!([]),
        };
        while let Some((number, wire)) = next(&mut bytes)? {
            self.census.value()?;
            match (union, number, &mut branch) {
                (Union::SchemaOrBool, 1, Value::Bool(allows)) => *allows = wire.integer()? != 0,
                (Union::SchemaOrBool, 2, _) | (Union::SchemaOrList | Union::MapOfSchemaOrStrings, 1, _) => {
                    branch = self.read_schema(wire.bytes()?)?;
                }
                (Union::SchemaOrList, 2, Value::Array(list)) => list.push(self.read_schema(wire.bytes()?)?),
                (Union::MapOfSchemaOrStrings, 2, Value::Array(list)) => list.push(json!(wire.text()?)),
                _ => {}
            }
        }
        Ok(branch)
    }

    fn read_schema(&mut self, bytes: &[u8]) -> Result<Value, String> {
        let definition = Union::schema().get();
        let mut object = Map::new();
        self.read_message(&mut object, definition, &definition.name, bytes)?;
        Ok(Value::Object(object))
    }

    /// A value of a type; `None` for a time that is not set.
    fn read_value(&mut self, kind: &Type, wire: Wire<'_>) -> Result<Option<Value>, String> {
        self.census.value()?;
        Ok(Some(match kind {
            Type::String => json!(wire.text()?),
            Type::Bool => json!(wire.integer()? != 0),
            Type::Int32 | Type::Int64 => json!(wire.integer()?),
            Type::Number => json!(wire.double()?),
            Type::Bytes => json!(BASE64.encode(wire.bytes()?)),
            Type::Time => return time(wire.bytes()?, 0),
            Type::MicroTime => return time(wire.bytes()?, 6),
            Type::Quantity => json!(only(wire.bytes()?)?.map_or(Ok(String::new()), Wire::text)?),
            Type::IntOrString => int_or_string(wire.bytes()?)?,
            Type::Any => match only(wire.bytes()?)? {
                Some(raw) => {
                    let value = read::parse_json(raw.bytes()?).map_err(|err| err.to_string())?.value;
                    if self.depth + Size::of(&value).depth > DEPTH_MAX {
                        return Err(TOO_DEEP.to_owned());
                    }
                    self.census.all(&value)?;
                    value
                }
                None => return Ok(None),
            },
            Type::Ref(_) | Type::Object(_) => {
                let definition = kind.object().expect("it is an object's type");
                if let Some(plain) = &definition.value {
                    return self.read_value(plain, wire);
                }
                self.census.object()?;
                let mut object = Map::new();
                self.read_message(&mut object, definition, &definition.name, wire.bytes()?)?;
                Value::Object(object)
            }
            // As an item of a list or a map it is a message with the items in it.
            Type::List(inner) => {
                let (mut items, mut bytes) = (Vec::new(), wire.bytes()?);
                while let Some((number, item)) = next(&mut bytes)? {
                    if number == 1 {
                        items.extend(self.read_value(inner, item)?);
                    }
                }
                Value::Array(items)
            }
            Type::Map(_) => return Err("a map in a list or a map has no protobuf form".to_owned()),
        }))
    }
}

/// Whether Go would leave a value out of JSON.
fn is_empty(property: &Property, value: &Value) -> bool {
    // Of the numbers that may be texts only this one is no pointer.
    let is_pointer = property.kind == Type::IntOrString && property.name != "targetPort";
    if is_pointer || POINTERS.contains(&&*property.name) {
        return false;
    }
    match value {
        Value::String(text) => text.is_empty(),
        Value::Bool(is) => !is,
        Value::Number(number) => number.as_i64() == Some(0),
        _ => false,
    }
}

/// The field of a message that has one.
fn only(mut bytes: &[u8]) -> Result<Option<Wire<'_>>, String> {
    let mut only = None;
    while let Some((number, wire)) = next(&mut bytes)? {
        if number == 1 {
            only = Some(wire);
        }
    }
    Ok(only)
}

fn time(mut bytes: &[u8], digits: usize) -> Result<Option<Value>, String> {
    let (mut secs, mut nanos) = (None, 0);
    while let Some((number, wire)) = next(&mut bytes)? {
        match number {
            1 => secs = Some(wire.integer()?),
            2 => nanos = i32::try_from(wire.integer()?).map_err(|_| "a time has too many nanoseconds")?,
            _ => {}
        }
    }
    let Some(secs) = secs else { return Ok(None) };
    let time = Timestamp::new(secs, nanos).map_err(|err| err.to_string())?;
    Ok(Some(json!(format!("{time:.digits$}"))))
}

/// Source: `IntOrString` of `k8s.io/apimachinery/pkg/util/intstr/generated.proto`.
fn int_or_string(mut bytes: &[u8]) -> Result<Value, String> {
    let (mut is_text, mut int, mut text) = (false, 0, String::new());
    while let Some((number, wire)) = next(&mut bytes)? {
        match number {
            1 => is_text = wire.integer()? == 1,
            2 => int = wire.integer()?,
            3 => text = wire.text()?,
            _ => {}
        }
    }
    Ok(if is_text { json!(text) } else { json!(int) })
}

/// A field's value on the wire.
#[derive(Clone, Copy)]
pub(super) enum Wire<'a> {
    Varint(u64),
    Fixed(u64),
    Bytes(&'a [u8]),
    /// A form that no field of Kubernetes has: 32 bits, or a group of fields.
    Foreign,
}

impl<'a> Wire<'a> {
    pub(super) fn bytes(self) -> Result<&'a [u8], String> {
        match self {
            Self::Bytes(bytes) => Ok(bytes),
            Self::Varint(_) | Self::Fixed(_) | Self::Foreign => Err("a number stands where bytes should".to_owned()),
        }
    }

    fn text(self) -> Result<String, String> {
        String::from_utf8(self.bytes()?.to_vec()).map_err(|_| "a text is not UTF-8".to_owned())
    }

    fn integer(self) -> Result<i64, String> {
        match self {
            // Negative numbers are written as 64 bits whatever their type.
            Self::Varint(n) => Ok(n.cast_signed()),
            Self::Bytes(_) | Self::Fixed(_) | Self::Foreign => {
                Err("bytes stand where a whole number should".to_owned())
            }
        }
    }

    fn double(self) -> Result<f64, String> {
        match self {
            Self::Fixed(bits) => Ok(f64::from_bits(bits)),
            Self::Varint(_) | Self::Bytes(_) | Self::Foreign => {
                Err("another type stands where a number should".to_owned())
            }
        }
    }
}

/// Takes the next field off a message: its number and its value.
pub(super) fn next<'a>(bytes: &mut &'a [u8]) -> Result<Option<(u32, Wire<'a>)>, String> {
    if bytes.is_empty() {
        return Ok(None);
    }
    let (number, kind) = key(bytes)?;
    let wire = match kind {
        0 => Wire::Varint(varint(bytes)?),
        1 => Wire::Fixed(u64::from_le_bytes(take(bytes, 8)?.try_into().expect("it took eight"))),
        2 => {
            let length = usize::try_from(varint(bytes)?).map_err(|_| "a field is too long")?;
            Wire::Bytes(take(bytes, length)?)
        }
        3 => {
            skip_group(bytes)?;
            Wire::Foreign
        }
        5 => {
            take(bytes, 4)?;
            Wire::Foreign
        }
        other => return Err(format!("field {number} has wire type {other}")),
    };
    Ok(Some((number, wire)))
}

/// The number of a field and its wire type.
fn key(bytes: &mut &[u8]) -> Result<(u32, u64), String> {
    let key = varint(bytes)?;
    let number = u32::try_from(key >> 3).map_err(|_| "a field has too large a number")?;
    if number == 0 {
        return Err("a field has the number 0".to_owned());
    }
    Ok((number, key & 7))
}

/// Skips what is left of a group whose start was read. Source: `skipGenerated` of `generated.pb.go` in each group.
fn skip_group(bytes: &mut &[u8]) -> Result<(), String> {
    let mut depth = 1_usize;
    while depth > 0 {
        let (number, kind) = key(bytes)?;
        match kind {
            0 => drop(varint(bytes)?),
            1 => drop(take(bytes, 8)?),
            2 => {
                let length = usize::try_from(varint(bytes)?).map_err(|_| "a field is too long")?;
                take(bytes, length)?;
            }
            3 => depth += 1,
            4 => depth -= 1,
            5 => drop(take(bytes, 4)?),
            other => return Err(format!("field {number} has wire type {other}")),
        }
    }
    Ok(())
}

fn take<'a>(bytes: &mut &'a [u8], length: usize) -> Result<&'a [u8], String> {
    let (taken, rest) = bytes.split_at_checked(length).ok_or("it ends in the middle of a field")?;
    *bytes = rest;
    Ok(taken)
}

fn varint(bytes: &mut &[u8]) -> Result<u64, String> {
    let mut value = 0;
    for shift in (0..64).step_by(7) {
        let byte = take(bytes, 1)?[0];
        value |= u64::from(byte & 0x7f) << shift;
        if byte & 0x80 == 0 {
            return Ok(value);
        }
    }
    Err("a number is longer than 64 bits".to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;
    use expect_test::expect;

    /// A field of bytes.
    fn field(number: u8, content: impl AsRef<[u8]>) -> Vec<u8> {
        let content = content.as_ref();
        let length = u8::try_from(content.len()).unwrap();
        assert!(length < 128 && number < 16);
        [&[number << 3 | 2, length], content].concat()
    }

    /// A field that is a small number.
    fn int(number: u8, value: u8) -> Vec<u8> {
        vec![number << 3, value]
    }

    fn body(api_version: &str, kind: &str, raw: &[u8]) -> Vec<u8> {
        let type_meta = [field(1, api_version), field(2, kind)].concat();
        [MAGIC.to_vec(), field(1, type_meta), field(2, raw), field(3, ""), field(4, "")].concat()
    }

    #[test]
    fn an_object_reads_as_its_json() {
        let labels = field(11, [field(1, "app"), field(2, "web")].concat());
        let created = field(8, "");
        let metadata = [field(1, "web"), field(2, ""), field(3, ""), int(7, 0), created, labels].concat();
        let port = [field(1, ""), int(3, 80), field(4, "TCP")].concat();
        let requests = field(2, [field(1, "cpu"), field(2, field(1, "100m"))].concat());
        let env =
            [field(1, "KEY"), field(2, ""), field(3, field(3, [field(1, field(1, "cm")), field(2, "k")].concat()))];
        let container = [field(1, "c"), field(2, "app:1"), field(6, port), field(7, env.concat()), field(8, requests)];
        let volume = [field(1, "v"), field(2, field(2, ""))].concat();
        let pod_spec = [field(1, volume), field(2, container.concat()), int(4, 0)].concat();
        let template = [field(1, field(1, "")), field(2, pod_spec)].concat();
        let surge = [int(1, 0), int(2, 0), field(3, "")].concat();
        let rolling = [field(1, [int(1, 1), int(2, 0), field(3, "25%")].concat()), field(2, surge)].concat();
        let strategy = field(4, [field(1, "RollingUpdate"), field(2, rolling)].concat());
        let spec = [int(1, 0), field(3, template), strategy, int(5, 0), int(7, 0)].concat();
        let raw = [field(1, metadata), field(2, &spec[..])].concat();
        let type_meta = [field(1, "apps/v1"), field(2, "Deployment")].concat();
        let mut bytes = [MAGIC.to_vec(), field(1, type_meta)].concat();
        bytes.extend([
            2 << 3 | 2,
            u8::try_from(raw.len() & 0x7f).unwrap() | 0x80,
            u8::try_from(raw.len() >> 7).unwrap(),
        ]);
        bytes.extend(raw);
        expect![[r#"
            apiVersion: apps/v1
            kind: Deployment
            metadata:
              labels:
                app: web
              name: web
            spec:
              replicas: 0
              strategy:
                rollingUpdate:
                  maxSurge: 0
                  maxUnavailable: 25%
                type: RollingUpdate
              template:
                metadata: {}
                spec:
                  containers:
                  - env:
                    - name: KEY
                      valueFrom:
                        configMapKeyRef:
                          key: k
                          name: cm
                    image: app:1
                    name: c
                    ports:
                    - containerPort: 80
                      protocol: TCP
                    resources:
                      requests:
                        cpu: 100m
                  terminationGracePeriodSeconds: 0
                  volumes:
                  - emptyDir: {}
                    name: v
        "#]]
        .assert_eq(&serde_yaml::to_string(&parse(&bytes).unwrap()).unwrap());
    }

    #[test]
    fn times_bytes_and_options_have_their_forms() {
        let time = field(8, [vec![1 << 3, 0x80, 0xde, 0xd9, 0xca, 0x06], int(2, 0)].concat());
        let secret = [field(1, time), field(2, [field(1, "k"), field(2, [0, 255])].concat())].concat();
        let secret = parse(&body("v1", "Secret", &secret)).unwrap();
        assert_eq!(secret["metadata"]["creationTimestamp"], "2026-01-01T12:56:32Z");
        assert_eq!(secret["data"], json!({ "k": "AP8=" }));
        let options = parse(&body("policy/v1", "DeleteOptions", &int(1, 0))).unwrap();
        assert_eq!(options, json!({ "apiVersion": "policy/v1", "kind": "DeleteOptions", "gracePeriodSeconds": 0 }));
    }

    /// What client-go 0.23 sends for a Namespace: number 15 of ObjectMeta was `clusterName` until Kubernetes 1.24, and was always sent.
    #[test]
    fn a_namespace_of_a_client_from_before_1_24_is_read() {
        let empty = [2, 3, 4, 5, 6].map(|number| field(number, "")).concat();
        let metadata = [field(1, "old"), empty, int(7, 0), field(8, ""), field(15, "")].concat();
        let raw = [field(1, metadata), field(2, ""), field(3, field(1, ""))].concat();
        let namespace = json!({
            "apiVersion": "v1", "kind": "Namespace", "metadata": { "name": "old" }, "spec": {}, "status": {},
        });
        assert_eq!(parse(&body("v1", "Namespace", &raw)).unwrap(), namespace);
    }

    #[test]
    fn what_has_no_number_is_skipped_whatever_its_form() {
        // Fields of number 100, of every wire type.
        let key = |wire_type: u8| [0xa0 | wire_type, 6];
        let group = [&key(3)[..], &int(1, 7), &field(2, "x"), &[3 << 3 | 3, 3 << 3 | 4], &key(4)].concat();
        let fixed = [&key(1)[..], &[7; 8], &key(5), &[7; 4]].concat();
        let strange = [group, fixed, [&key(0)[..], &[1]].concat(), [&key(2)[..], &[1, 9]].concat()].concat();
        let entry = [&strange, &field(1, "k")[..], &strange, &field(2, "v")].concat();
        let metadata = field(1, [&strange, &field(1, "a")[..], &strange].concat());
        let raw = [&metadata[..], &field(2, entry), &int(9, 1)].concat();
        let map = json!({ "apiVersion": "v1", "kind": "ConfigMap", "metadata": { "name": "a" }, "data": { "k": "v" } });
        let type_meta = [&strange, &field(1, "v1")[..], &field(2, "ConfigMap")].concat();
        let mut bytes = [MAGIC, &strange, &field(1, type_meta), &[2 << 3 | 2]].concat();
        bytes.extend([u8::try_from(raw.len() & 0x7f).unwrap() | 0x80, u8::try_from(raw.len() >> 7).unwrap()]);
        bytes.extend([raw, strange].concat());
        assert_eq!(parse(&bytes).unwrap(), map);
        let deep = [vec![12 << 3 | 3; 100_000], vec![12 << 3 | 4; 100_000]].concat();
        assert_eq!(next(&mut &deep[..]).unwrap().map(|(number, _)| number), Some(12));
    }

    #[test]
    fn what_cannot_be_read_is_refused_with_the_reason() {
        for (bytes, why) in [
            (b"{}".to_vec(), "it does not begin with \"k8s\\0\""),
            (body("v9", "Pod", &[]), "no kind \"Pod\" is known in version \"v9\""),
            (body("v1", "Pod", &int(1, 1)), "a number stands where bytes should"),
            (body("v1", "Pod", &[1 << 3 | 3, 1 << 3 | 4]), "a number stands where bytes should"),
            (body("v1", "Pod", &[9 << 3 | 3, 1 << 3, 7]), "it ends in the middle of a field"),
            (body("v1", "Pod", &[9 << 3 | 4]), "field 9 has wire type 4"),
            (body("v1", "Pod", &[9 << 3 | 7]), "field 9 has wire type 7"),
            (body("v1", "Pod", &int(0, 1)), "a field has the number 0"),
            (body("v1", "Pod", &[2 << 3 | 2, 9]), "it ends in the middle of a field"),
            (body("v1", "Pod", &field(1, field(1, [255]))), "a text is not UTF-8"),
        ] {
            assert_eq!(parse(&bytes).unwrap_err(), why);
        }
    }

    #[test]
    fn the_numbers_are_of_fields_that_exist_and_no_field_has_none() {
        let mut without = Vec::new();
        for (message, names) in NUMBERS.iter() {
            let Some(definition) = Definition::find(&format!("{PREFIX}{message}")) else { continue };
            let own = names.values().filter(|name| !name.starts_with('*'));
            own.for_each(|name| assert!(definition.property(name).is_some(), "{message} has no {name}"));
            let numbered = |name: &str| ["apiVersion", "kind"].contains(&name) || write::place(message, name).is_some();
            let missing = definition.properties.iter().filter(|p| !numbered(&p.name));
            without.extend(missing.map(|p| format!("{message}.{}", p.name)));
        }
        assert_eq!(without, [""; 0]);
    }
}

//! A kind whose objects are JSON, because few parts of the program read them: its schema says what is in them, and what is special about it are
//! small functions. Compiled-in kinds of this form and kinds that are added while the program runs differ in who owns their facts.
//!
//! Clients see no difference to a typed [`Kind`](super::kind::Kind): fields that the schema has not are dropped, and fields that it
//! requires are there with their type's zero, as Go writes them.
//!
//! Called by the pipeline through [`ErasedKind`]. **Not here**: the rows themselves (`kinds`).

mod owned_info;

use super::{
    field::FieldError,
    kind::{ErasedKind, KindInfo, ScaleView, Scope},
    names,
    object::{DynObject, Untyped},
    schema::{self, structure::Definition},
    selector::{Fields, LabelSelector},
    table,
};
/// For [`typed_json_kind`], which other crates use.
pub use crate::base::json::read;
use crate::base::{json::typed, ordered::CollectOrdered as _};
use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::LabelSelector as ApiSelector;
use owned_info::OwnedInfo;
use serde_json::{Map, Value, json};
use std::{any::Any, borrow::Cow, sync::Arc};

/// Names the type by which controllers read and write the objects of a kind that is served from its schema: a row of the table, the marker
/// type for [`TypedKind`](crate::api::kind::TypedKind), and the objects' type.
#[macro_export]
macro_rules! typed_json_kind {
    ($(#[$doc:meta])* $vis:vis $row:path => $marker:ident: $object:ty) => {
        $(#[$doc])*
        #[derive(Clone, Copy, Debug)]
        $vis struct $marker;

        impl $crate::api::kind::TypedKind for $marker {
            type Object = $object;
            const IS_SHARED: bool = false;

            fn erased() -> &'static dyn $crate::api::kind::ErasedKind {
                &$row
            }
            fn read(stored: &[u8]) -> Result<$object, serde_json::Error> {
                $crate::api::json_kind::read(stored)
            }
            fn pack(obj: $object) -> Box<dyn $crate::api::object::DynObject> {
                let json = $crate::api::object::untyped(&obj);
                $crate::api::kind::ErasedKind::decode(&$row, json).expect("a type of the API fits its own schema")
            }
        }
    };
}
pub use typed_json_kind;

/// A kind that is served from its schema.
#[derive(Debug)]
pub struct JsonKind {
    facts: Facts,
    rules: Rules,
}

#[derive(Debug)]
enum Facts {
    Constant(KindInfo<'static>),
    Owned(OwnedFacts),
}

/// What is special about a kind. [`Rules::PLAIN`] is what most kinds want. Functions take objects that fit the schema, and are called in the
/// order of [`Kind`](super::kind::Kind).
#[derive(Clone, Copy, Debug)]
pub struct Rules {
    /// Fills what the user left out.
    pub set_defaults: fn(&mut Untyped),
    /// Clears or sets what a create may not say, beside the status.
    pub prepare_create: fn(&mut Untyped),
    /// Sets what depends on the name of a new object.
    pub on_named: fn(&mut Untyped),
    /// Keeps what an update may not change, beside the status.
    pub prepare_update: fn(&mut Untyped, &Untyped),
    /// All that is wrong with an object, whoever wrote it.
    pub validate: fn(&Untyped) -> Vec<FieldError>,
    /// All that is wrong with a new object beside what `validate` finds.
    pub validate_create: fn(&Untyped) -> Vec<FieldError>,
    /// All that is wrong with a change.
    pub validate_update: fn(&Untyped, &Untyped) -> Vec<FieldError>,
    /// All that is wrong with a change of the status.
    pub validate_status: fn(&Untyped, &Untyped) -> Vec<FieldError>,
    /// What a client should be warned of when it writes this object.
    pub warnings: fn(&Untyped) -> Vec<String>,
    /// The cells of one printed row.
    pub row: fn(&Untyped, Timestamp) -> Vec<Value>,
    /// What is wrong with a name.
    pub validate_name: fn(&str) -> Vec<String>,
    /// Whether `metadata.generation` counts changes of all but metadata and status.
    pub has_generation: bool,
    /// Whether replacing an object that does not exist creates it.
    pub creates_on_update: bool,
    /// Where the numbers of `scale` are, if the kind has it.
    pub scale: Option<ScalePaths>,
    /// Fields that selectors may use, by their paths: `spec.nodeName`.
    pub selectable: &'static [&'static str],
    /// For a view of another kind's objects: how they are written as its own, and back.
    pub view: Option<View>,
}

/// How a view's objects and those that are stored become each other.
#[derive(Clone, Copy, Debug)]
pub struct View {
    /// Makes the JSON that is stored from JSON of this kind.
    pub to_stored: fn(Value) -> Value,
    /// Makes JSON of this kind from the JSON that is stored.
    pub from_stored: fn(Value) -> Value,
    /// What selectors of the stored kind may use: a write through the view must not take it away.
    pub fields: fn(&Untyped) -> Fields<'static>,
}

/// Where an object keeps what `scale` shows, as dotted paths.
#[derive(Clone, Copy, Debug)]
pub struct ScalePaths {
    /// The wanted number.
    pub spec_replicas: &'static str,
    /// The number there is.
    pub status_replicas: &'static str,
    /// The pods' selector: a label selector, or its text.
    pub selector: &'static str,
}

impl Rules {
    /// Nothing is special.
    pub const PLAIN: Self = Self {
        set_defaults: |_| {},
        prepare_create: |_| {},
        on_named: |_| {},
        prepare_update: |_, _| {},
        validate: |_| Vec::new(),
        validate_create: |_| Vec::new(),
        validate_update: |_, _| Vec::new(),
        validate_status: |_, _| Vec::new(),
        warnings: |_| Vec::new(),
        row: |obj, now| vec![table::name(&obj.metadata), table::age(&obj.metadata, now)],
        validate_name: names::dns1123_subdomain,
        has_generation: false,
        creates_on_update: false,
        scale: None,
        selectable: &[],
        view: None,
    };
}

/// What a kind that is added is called, and what its objects are.
#[derive(Clone, Debug)]
pub struct Naming {
    /// The API group.
    pub group: String,
    /// The version, e.g. `v1`.
    pub version: String,
    /// The kind, e.g. `Widget`.
    pub kind: String,
    /// The plural in URLs.
    pub plural: String,
    /// The singular.
    pub singular: String,
    /// Short names for clients.
    pub short_names: Vec<String>,
    /// Categories for clients.
    pub categories: Vec<String>,
    /// Where objects live.
    pub scope: Scope,
    /// Whether it has the `status` sub-resource.
    pub has_status: bool,
}

impl Naming {
    /// The name of its definition: the group backwards, the version, the kind, as in `com.example.v1.Widget`.
    fn definition(&self) -> String {
        let group: Vec<&str> = self.group.rsplit('.').collect();
        format!("{}.{}.{}", group.join("."), self.version, self.kind)
    }
}

/// The facts of a kind that is added; it owns them.
struct OwnedFacts {
    info: OwnedInfo,
    definition: Definition,
    published: Vec<(String, String)>,
}

impl std::fmt::Debug for OwnedFacts {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.info.get().fmt(f)
    }
}

impl OwnedFacts {
    fn new(naming: Naming, schema: &Value) -> Self {
        let name = naming.definition();
        let gvk = json!({ "group": naming.group, "version": naming.version, "kind": naming.kind });
        let definition = schema::added::definition(&name, schema);
        let published = schema::added::published(&name, schema, &gvk);
        Self { info: OwnedInfo::new(naming, name), definition, published }
    }
}

impl JsonKind {
    /// A kind that is compiled in; `cargo schemas` packs its schema.
    pub const fn new(info: KindInfo<'static>, rules: Rules) -> Self {
        Self { facts: Facts::Constant(info), rules }
    }

    /// A kind that is added while the program runs. `schema` is its OpenAPI v3 schema, as in a CustomResourceDefinition.
    pub fn added(naming: Naming, schema: &Value, rules: Rules) -> Self {
        Self { facts: Facts::Owned(OwnedFacts::new(naming, schema)), rules }
    }
}

fn cast(obj: &dyn DynObject) -> &Untyped {
    obj.as_any().downcast_ref().expect("an object reached the hooks of another kind")
}

fn cast_mut(obj: &mut dyn DynObject) -> &mut Untyped {
    obj.as_any_mut().downcast_mut().expect("an object reached the hooks of another kind")
}

const STATUS_FIELD: &str = "status";

/// Moves a field from one object to another, or its absence.
fn take_over(field: &str, new: &mut Map<String, Value>, old: &Map<String, Value>) {
    match old.get(field) {
        Some(value) => drop(new.insert(field.to_owned(), value.clone())),
        None => drop(new.remove(field)),
    }
}

impl ErasedKind for JsonKind {
    fn info(&self) -> &KindInfo<'_> {
        match &self.facts {
            Facts::Constant(info) => info,
            Facts::Owned(facts) => facts.info.get(),
        }
    }
    fn definition(&self) -> &Definition {
        match &self.facts {
            Facts::Constant(info) => schema::packed(info.schema),
            Facts::Owned(facts) => &facts.definition,
        }
    }
    fn published(&self) -> &[(String, String)] {
        match &self.facts {
            Facts::Constant(_) => &[],
            Facts::Owned(facts) => &facts.published,
        }
    }
    fn decode(&self, mut json: Value) -> Result<Box<dyn DynObject>, serde_json::Error> {
        schema::complete(self.definition(), &mut json);
        if let Value::Object(fields) = &mut json {
            let info = self.info();
            fields.insert("apiVersion".to_owned(), json!(info.api_version()));
            fields.insert("kind".to_owned(), json!(info.kind));
        }
        Ok(Box::new(typed::<Untyped>(json)?))
    }
    fn decode_bytes(&self, json: &[u8]) -> Result<Box<dyn DynObject>, serde_json::Error> {
        Ok(Box::new(read::<Untyped>(&self.served_bytes(json)?)?))
    }
    fn decode_shared(&self, json: &[u8]) -> Result<Arc<dyn Any + Send + Sync>, serde_json::Error> {
        Ok(Arc::new(read::<Untyped>(&self.served_bytes(json)?)?))
    }
    fn shared_dyn<'a>(&self, shared: &'a (dyn Any + Send + Sync)) -> &'a dyn DynObject {
        shared.downcast_ref::<Untyped>().expect("an entry's key names its kind")
    }
    fn set_defaults(&self, obj: &mut dyn DynObject) {
        (self.rules.set_defaults)(cast_mut(obj));
    }
    fn prepare_create(&self, obj: &mut dyn DynObject) {
        let obj = cast_mut(obj);
        if self.info().has_status() {
            obj.rest.remove(STATUS_FIELD);
            // Kinds of the API have one from the start, as Go writes a struct that is not a pointer.
            let of_status = self.definition().property(STATUS_FIELD).and_then(|status| status.kind.object());
            if let (Facts::Constant(_), Some(definition)) = (&self.facts, of_status) {
                let mut status = json!({});
                schema::complete(definition, &mut status);
                obj.rest.insert(STATUS_FIELD.to_owned(), status);
            }
        }
        (self.rules.prepare_create)(obj);
    }
    fn on_named(&self, obj: &mut dyn DynObject) {
        (self.rules.on_named)(cast_mut(obj));
    }
    fn validate(&self, obj: &dyn DynObject) -> Vec<FieldError> {
        (self.rules.validate)(cast(obj))
    }
    fn validate_create(&self, obj: &dyn DynObject) -> Vec<FieldError> {
        (self.rules.validate_create)(cast(obj))
    }
    fn prepare_update(&self, new: &mut dyn DynObject, old: &dyn DynObject) {
        let (new, old) = (cast_mut(new), cast(old));
        if self.info().has_status() {
            take_over(STATUS_FIELD, &mut new.rest, &old.rest);
        }
        (self.rules.prepare_update)(new, old);
    }
    fn validate_update(&self, new: &dyn DynObject, old: &dyn DynObject) -> Vec<FieldError> {
        (self.rules.validate_update)(cast(new), cast(old))
    }
    fn prepare_status(&self, new: &mut dyn DynObject, old: &dyn DynObject) {
        let (new, old) = (cast_mut(new), cast(old));
        let status = new.rest.remove(STATUS_FIELD);
        new.rest.clone_from(&old.rest);
        new.rest.remove(STATUS_FIELD);
        new.rest.extend(status.map(|status| (STATUS_FIELD.to_owned(), status)));
    }
    fn validate_status(&self, new: &dyn DynObject, old: &dyn DynObject) -> Vec<FieldError> {
        (self.rules.validate_status)(cast(new), cast(old))
    }
    fn has_generation(&self) -> bool {
        self.rules.has_generation
    }
    fn same_spec(&self, new: &dyn DynObject, old: &dyn DynObject) -> bool {
        let but_status = |obj: &Untyped| -> Map<String, Value> {
            obj.rest
                .iter()
                .filter(|(name, _)| *name != STATUS_FIELD)
                .map(|(k, v)| (k.clone(), v.clone()))
                .collect_ordered()
        };
        but_status(cast(new)) == but_status(cast(old))
    }
    fn selectable_fields(&self, obj: &dyn DynObject) -> Fields<'_> {
        let obj = cast(obj);
        if let Some(view) = self.rules.view {
            return (view.fields)(obj);
        }
        self.rules.selectable.iter().map(|path| (*path, text_at(&obj.rest, path))).collect()
    }
    fn row(&self, obj: &dyn DynObject, now: Timestamp) -> Vec<Value> {
        (self.rules.row)(cast(obj), now)
    }
    fn scale(&self, obj: &dyn DynObject) -> Option<ScaleView> {
        let (paths, fields) = (self.rules.scale?, &cast(obj).rest);
        let number = |path| at(fields, path).and_then(Value::as_i64).and_then(|n| i32::try_from(n).ok()).unwrap_or(0);
        Some(ScaleView {
            spec_replicas: number(paths.spec_replicas),
            status_replicas: number(paths.status_replicas),
            selector: at(fields, paths.selector).map(selector_text).unwrap_or_default(),
        })
    }
    fn set_scale(&self, obj: &mut dyn DynObject, replicas: i32) {
        if let Some(paths) = self.rules.scale {
            set_at(&mut cast_mut(obj).rest, paths.spec_replicas, json!(replicas));
        }
    }
    fn returns_deleted(&self) -> bool {
        false
    }
    fn grace_period_secs(&self, _obj: &dyn DynObject) -> Option<i64> {
        None
    }
    fn blocks_removal(&self, _obj: &dyn DynObject) -> bool {
        false
    }
    fn on_marked(&self, _obj: &mut dyn DynObject) {}
    fn warnings(&self, obj: &dyn DynObject) -> Vec<String> {
        (self.rules.warnings)(cast(obj))
    }
    fn creates_on_update(&self) -> bool {
        self.rules.creates_on_update
    }
    fn validate_name(&self, name: &str) -> Vec<String> {
        (self.rules.validate_name)(name)
    }
    fn validate_name_prefix(&self, prefix: &str) -> Vec<String> {
        (self.rules.validate_name)(&names::mask_trailing_dash(prefix))
    }
    fn field_labels(&self) -> Cow<'_, [(&str, &str)]> {
        self.rules.selectable.iter().map(|path| (*path, *path)).collect()
    }
    fn stored_bytes(&self, obj: &dyn DynObject) -> Vec<u8> {
        let json = obj.to_json();
        let Some(view) = self.rules.view else { return json };
        let value = serde_json::from_slice(&json).expect("an object's own JSON parses");
        (view.to_stored)(value).to_string().into_bytes()
    }
    fn served_bytes<'a>(&self, stored: &'a [u8]) -> Result<Cow<'a, [u8]>, serde_json::Error> {
        let Some(view) = self.rules.view else { return Ok(Cow::Borrowed(stored)) };
        let value = serde_json::from_slice(stored)?;
        Ok(Cow::Owned((view.from_stored)(value).to_string().into_bytes()))
    }
}

/// The value at a dotted path.
pub fn at<'a>(fields: &'a Map<String, Value>, path: &str) -> Option<&'a Value> {
    let (first, rest) = path.split_once('.').map_or((path, ""), |(first, rest)| (first, rest));
    let value = fields.get(first)?;
    if rest.is_empty() { Some(value) } else { at(value.as_object()?, rest) }
}

/// The text at a dotted path, or that of a number or truth value; empty when there is none.
pub fn text_at(fields: &Map<String, Value>, path: &str) -> String {
    match at(fields, path) {
        Some(Value::String(text)) => text.clone(),
        Some(value @ (Value::Number(_) | Value::Bool(_))) => value.to_string(),
        _ => String::new(),
    }
}

/// Sets the value at a dotted path; objects on the way are made.
pub fn set_at(fields: &mut Map<String, Value>, path: &str, value: Value) {
    match path.split_once('.') {
        None => drop(fields.insert(path.to_owned(), value)),
        Some((first, rest)) => {
            let inner = fields.entry(first).or_insert_with(|| json!({}));
            if let Value::Object(inner) = inner {
                set_at(inner, rest, value);
            }
        }
    }
}

/// Sets the value at a dotted path if there is none.
pub fn default_at(fields: &mut Map<String, Value>, path: &str, value: impl Into<Value>) {
    if at(fields, path).is_none() {
        set_at(fields, path, value.into());
    }
}

/// A label selector as text; text stays.
fn selector_text(selector: &Value) -> String {
    if let Value::String(text) = selector {
        return text.clone();
    }
    let parsed = typed::<ApiSelector>(selector.clone()).ok().and_then(|s| LabelSelector::from_api(&s).ok());
    parsed.map(|s| s.to_string()).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn widget() -> JsonKind {
        let naming = Naming {
            group: "example.com".into(),
            version: "v1".into(),
            kind: "Widget".into(),
            plural: "widgets".into(),
            singular: "widget".into(),
            short_names: vec!["wd".into()],
            categories: Vec::new(),
            scope: Scope::Namespaced,
            has_status: true,
        };
        let schema = json!({ "type": "object", "required": ["spec"], "properties": {
            "spec": { "type": "object", "required": ["size"], "properties": {
                "size": { "type": "integer" }, "tags": { "type": "array", "items": { "type": "string" } },
            } },
            "status": { "type": "object", "properties": { "phase": { "type": "string" } } },
        } });
        JsonKind::added(naming, &schema, Rules { has_generation: true, ..Rules::PLAIN })
    }

    #[test]
    fn an_added_kind_owns_its_facts() {
        let kind = widget();
        let info = kind.info();
        assert_eq!((info.resource(), info.schema), ("widgets.example.com".to_owned(), "com.example.v1.Widget"));
        assert_eq!((info.short_names, info.has_status()), (&["wd"][..], true));
        assert_eq!(kind.published()[0].0, "com.example.v1.Widget");
        assert!(kind.definition().property("spec").is_some());
    }

    #[test]
    fn fields_are_those_of_the_schema_and_the_status_is_apart() {
        let kind = widget();
        let decode = |json: Value| kind.decode(json).unwrap();
        let mut obj = decode(json!({ "metadata": { "name": "a" }, "spec": { "odd": 1 }, "status": { "phase": "x" } }));
        let read = |obj: &dyn DynObject| -> Value { serde_json::from_slice(&obj.to_json()).unwrap() };
        assert_eq!(read(&*obj)["spec"], json!({ "size": 0 }));
        kind.prepare_create(&mut *obj);
        assert_eq!(read(&*obj).get("status"), None);
        let mut new = decode(json!({ "metadata": { "name": "a" }, "spec": { "size": 2 }, "status": { "phase": "y" } }));
        kind.prepare_status(&mut *new, &*obj);
        assert_eq!((&read(&*new)["spec"], &read(&*new)["status"]), (&json!({ "size": 0 }), &json!({ "phase": "y" })));
        let mut next = decode(json!({ "metadata": { "name": "a" }, "spec": { "size": 2 } }));
        assert!(!kind.same_spec(&*next, &*new));
        kind.prepare_update(&mut *next, &*new);
        assert_eq!(read(&*next)["status"], json!({ "phase": "y" }));
    }

    #[test]
    fn paths_lead_into_objects() {
        let mut fields = json!({ "spec": { "n": 3 } }).as_object().unwrap().clone();
        assert_eq!((text_at(&fields, "spec.n"), text_at(&fields, "spec.n.m")), ("3".to_owned(), String::new()));
        default_at(&mut fields, "spec.n", 4);
        default_at(&mut fields, "status.phase", "x");
        assert_eq!(Value::from(fields), json!({ "spec": { "n": 3 }, "status": { "phase": "x" } }));
    }
}

//! What a kind is: the facts that discovery, routing, printing and validation need, and the hooks that make it special.
//!
//! [`Kind`] is typed and is what a kind's file implements; [`ErasedKind`] is the same thing without the type, which the one
//! pipeline, the server and the table work with. A blanket impl gives the second from the first.
//!
//! **Not here**: reading and writing (`registry`), the list of kinds (`kinds`).
//! **Source** of the hook names: `k8s.io/apiserver/pkg/registry/rest/{create,update,delete}.go`, v1.37.

use super::{
    field::FieldError,
    names,
    object::{DynObject, Object},
    schema::{self, structure::Definition},
    selector::Fields,
    table::Column,
};
use crate::base::json;
use jiff::Timestamp;
use serde_json::Value;
use std::{any::Any, borrow::Cow, cmp::Ordering, marker::PhantomData, ops::Deref, sync::Arc};

/// Where a kind's objects live.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Scope {
    /// In a namespace.
    Namespaced,
    /// In the cluster.
    Cluster,
}

/// The facts about a kind. Those of a kind that is compiled in are constants; a kind that is added owns what they point to
/// ([`JsonKind`](super::json_kind::JsonKind)).
#[derive(Clone, Copy, Debug)]
pub struct KindInfo<'a> {
    /// The API group; empty for core.
    pub group: &'a str,
    /// The version, e.g. `v1`.
    pub version: &'a str,
    /// The kind, e.g. `Deployment`.
    pub kind: &'a str,
    /// The plural in URLs, e.g. `deployments`.
    pub plural: &'a str,
    /// The singular, e.g. `deployment`.
    pub singular: &'a str,
    /// Short names for clients, e.g. `deploy`.
    pub short_names: &'a [&'a str],
    /// Categories for clients, e.g. `all`.
    pub categories: &'a [&'a str],
    /// Where objects live.
    pub scope: Scope,
    /// Main-resource verbs: those of [`ALL_VERBS`] unless the kind has fewer.
    pub verbs: &'a [&'a str],
    /// Sub-resources, e.g. `status`, `scale`, `log`.
    pub subresources: &'a [Subresource<'a>],
    /// Printed columns.
    pub columns: &'a [Column<'a>],
    /// The stored kind that this one is a view of: `(group, plural)`. `None`: its own.
    pub stored_as: Option<(&'a str, &'a str)>,
    /// The OpenAPI definition, e.g. `io.k8s.api.apps.v1.Deployment`.
    pub schema: &'a str,
}

/// A sub-resource as discovery lists it.
#[derive(Clone, Copy, Debug)]
pub struct Subresource<'a> {
    /// The last part of the URL, e.g. `scale`.
    pub name: &'a str,
    /// Group, version and kind of the body; `None` when they are the parent's.
    pub body: Option<(&'a str, &'a str, &'a str)>,
    /// Its verbs.
    pub verbs: &'a [&'a str],
    /// What the query of a GET may say, for OpenAPI.
    pub parameters: &'a [Parameter<'a>],
}

/// Name, type and meaning of a parameter in a query.
pub type Parameter<'a> = (&'a str, &'a str, &'a str);

impl<'a> Subresource<'a> {
    /// A sub-resource whose body is the parent's.
    pub const fn own(name: &'a str, verbs: &'a [&'a str]) -> Self {
        Self { name, body: None, verbs, parameters: &[] }
    }

    /// A sub-resource whose body is of this group, version and kind.
    pub const fn of(name: &'a str, body: (&'a str, &'a str, &'a str), verbs: &'a [&'a str]) -> Self {
        Self { name, body: Some(body), verbs, parameters: &[] }
    }
}

/// The `status` sub-resource.
pub const STATUS: Subresource<'static> = Subresource::own("status", &["get", "patch", "update"]);
/// The `scale` sub-resource.
pub const SCALE: Subresource<'static> =
    Subresource::of("scale", ("autoscaling", "v1", "Scale"), &["get", "patch", "update"]);
/// The verbs of what is passed on to a pod.
pub const PROXY_VERBS: &[&str] = &["create", "delete", "get", "patch", "update"];
/// The columns of a kind that has none of its own.
pub const PLAIN_COLUMNS: &[Column<'static>] = &[Column::name(), Column::age()];
/// Every main-resource verb.
pub const ALL_VERBS: &[&str] = &["create", "delete", "deletecollection", "get", "list", "patch", "update", "watch"];

impl KindInfo<'static> {
    /// The facts of a kind with nothing special: group, version and kind; plural and singular. Every verb, and [`PLAIN_COLUMNS`].
    pub const fn of(
        (group, version, kind): (&'static str, &'static str, &'static str),
        (plural, singular): (&'static str, &'static str),
        scope: Scope,
        schema: &'static str,
    ) -> Self {
        Self {
            group,
            version,
            kind,
            plural,
            singular,
            short_names: &[],
            categories: &[],
            scope,
            verbs: ALL_VERBS,
            subresources: &[],
            columns: PLAIN_COLUMNS,
            stored_as: None,
            schema,
        }
    }
}

impl KindInfo<'_> {
    /// `group/version`, or just the version for core.
    pub fn api_version(&self) -> String {
        if self.group.is_empty() { self.version.to_owned() } else { format!("{}/{}", self.group, self.version) }
    }

    /// Where its objects of all namespaces are served, e.g. `/apis/apps/v1/deployments`.
    pub fn path(&self) -> String {
        let root = if self.group.is_empty() { "/api" } else { "/apis" };
        format!("{root}/{}/{}", self.api_version(), self.plural)
    }

    /// `plural.group`, as Kubernetes names a resource in messages, e.g. `deployments.apps`.
    pub fn resource(&self) -> String {
        if self.group.is_empty() { self.plural.to_owned() } else { format!("{}.{}", self.plural, self.group) }
    }

    /// `Kind.group`, as Kubernetes names a kind in messages, e.g. `Deployment.apps`.
    pub fn qualified_kind(&self) -> String {
        if self.group.is_empty() { self.kind.to_owned() } else { format!("{}.{}", self.kind, self.group) }
    }

    /// Whether objects live in namespaces.
    pub fn is_namespaced(&self) -> bool {
        self.scope == Scope::Namespaced
    }

    /// Whether it has a `status` sub-resource, and so keeps status and spec apart on writes.
    pub fn has_status(&self) -> bool {
        self.subresources.iter().any(|s| s.name == "status")
    }
}

/// The scale of an object, for the `scale` sub-resource.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ScaleView {
    /// `spec.replicas`.
    pub spec_replicas: i32,
    /// `status.replicas`.
    pub status_replicas: i32,
    /// The pods' selector, as query text.
    pub selector: String,
}

/// A kind of object. Methods have the defaults that most kinds want; a kind's file overrides what is special.
///
/// Hooks take typed objects, do no I/O and are called in this order. Create: `set_defaults`, `prepare_create`, `validate`,
/// `validate_create`.
/// Update: `set_defaults`, `prepare_update`, `validate`, `validate_update`. Status: `set_defaults`, `prepare_status`, `validate_status`.
pub trait Kind: Send + Sync + 'static {
    /// The type of its objects.
    type Object: Object;
    /// Its facts.
    const INFO: KindInfo<'static>;

    /// Fills what the user left out.
    fn set_defaults(_obj: &mut Self::Object) {}
    /// Clears what a create may not set (status).
    fn prepare_create(_obj: &mut Self::Object) {}
    /// All that is wrong with an object, whoever wrote it. Metadata is checked by the pipeline.
    fn validate(_obj: &Self::Object) -> Vec<FieldError> {
        Vec::new()
    }
    /// All that is wrong with a new object beside what [`Kind::validate`] finds.
    fn validate_create(_obj: &Self::Object) -> Vec<FieldError> {
        Vec::new()
    }
    /// Keeps what an update of the main resource may not change (status).
    fn prepare_update(_new: &mut Self::Object, _old: &Self::Object) {}
    /// All that is wrong with a change.
    fn validate_update(_new: &Self::Object, _old: &Self::Object) -> Vec<FieldError> {
        Vec::new()
    }
    /// Keeps what an update of `status` may not change (all but status).
    fn prepare_status(_new: &mut Self::Object, _old: &Self::Object) {}
    /// All that is wrong with a status change.
    fn validate_status(_new: &Self::Object, _old: &Self::Object) -> Vec<FieldError> {
        Vec::new()
    }
    /// Keeps what a write of a facet may not change: all but what the sub-resource of this name shows.
    fn prepare_facet(_facet: &str, _new: &mut Self::Object, _old: &Self::Object) {}
    /// All that is wrong with a change of a facet.
    fn validate_facet(_facet: &str, _new: &Self::Object, _old: &Self::Object) -> Vec<FieldError> {
        Vec::new()
    }
    /// Whether who writes the status may change annotations with it, as a node's agent may those of its Pods. The rest of the metadata
    /// is never changed so. Source: `PrepareForUpdate` of the strategies of the status in pkg/registry/{core/pod,apps/deployment}/strategy.go,
    /// v1.37.
    fn status_annotates() -> bool {
        false
    }
    /// Whether `metadata.generation` counts: true when the kind has a spec that controllers observe.
    fn has_generation() -> bool {
        Self::INFO.has_status()
    }
    /// Whether two objects have the same spec, so that `metadata.generation` stays.
    fn same_spec(_new: &Self::Object, _old: &Self::Object) -> bool {
        true
    }
    /// Fields beside `metadata.name` and `metadata.namespace` that selectors may use.
    fn selectable_fields(_obj: &Self::Object) -> Fields<'static> {
        Fields::new()
    }
    /// The cells of one printed row, in the order of `INFO.columns`.
    fn row(obj: &Self::Object, now: Timestamp) -> Vec<Value>;
    /// How the object scales; `None` when the kind has no `scale`.
    fn scale(_obj: &Self::Object) -> Option<ScaleView> {
        None
    }
    /// Sets the wanted number of replicas.
    fn set_scale(_obj: &mut Self::Object, _replicas: i32) {}
    /// Whether a delete that removes an object answers with it, and not with a `Status`.
    /// Source: `ReturnDeletedObject` of the kinds' stores in pkg/registry.
    fn returns_deleted() -> bool {
        false
    }
    /// Grace period in seconds when a delete does not give one; `None`: objects go at once.
    fn grace_period_secs(_obj: &Self::Object) -> Option<i64> {
        None
    }
    /// Whether something of the kind's own (a namespace's content) keeps a deleted object from going.
    fn blocks_removal(_obj: &Self::Object) -> bool {
        false
    }
    /// Says in the object that it has been marked for deletion.
    fn on_marked(_obj: &mut Self::Object) {}
    /// What a client should be warned of when it writes this object.
    fn warnings(_obj: &Self::Object) -> Vec<String> {
        Vec::new()
    }
    /// Whether replacing an object that does not exist creates it. Source: `AllowCreateOnUpdate` of the kinds' strategies.
    fn creates_on_update() -> bool {
        false
    }
    /// What a client should be told of a field that it sent and that the kind has not, by the field's path, beside that there is none.
    fn explain_unknown(_path: &str) -> Option<String> {
        None
    }
    /// What is wrong with a name. A `generateName` prefix is checked by [`ErasedKind::validate_name_prefix`].
    fn validate_name(name: &str) -> Vec<String> {
        names::dns1123_subdomain(name)
    }
    /// The labels that field selectors may use beside `metadata.name` and `metadata.namespace`, each with the key in the stored
    /// kind's [`Kind::selectable_fields`] that it means. They differ only for a view.
    fn field_labels() -> &'static [(&'static str, &'static str)] {
        &[]
    }
    /// For a view (`INFO.stored_as`): makes the JSON that is stored from JSON of this kind.
    fn to_stored(json: Value) -> Value {
        json
    }
    /// For a view (`INFO.stored_as`): makes JSON of this kind from the JSON that is stored.
    fn from_stored(json: Value) -> Value {
        json
    }
}

/// A kind whose objects the program itself reads and writes as values of a type: every [`Kind`], and the kinds served from their schema
/// ([`JsonKind`](super::json_kind::JsonKind)) that have a controller. Hooks of the latter see JSON all the same.
pub trait TypedKind: Send + Sync + 'static {
    /// The type of its objects.
    type Object: Object;
    /// Whether what the pipeline keeps decoded beside stored bytes is of that type.
    const IS_SHARED: bool;

    /// The row of the table of kinds.
    fn erased() -> &'static dyn ErasedKind;
    /// Reads stored bytes.
    ///
    /// # Errors
    /// When the bytes are none of the kind.
    fn read(stored: &[u8]) -> Result<Self::Object, serde_json::Error>;
    /// The object as the kind's hooks take it.
    fn pack(obj: Self::Object) -> Box<dyn DynObject>;
}

impl<K: Kind> TypedKind for K {
    type Object = K::Object;
    const IS_SHARED: bool = K::INFO.stored_as.is_none();

    fn erased() -> &'static dyn ErasedKind {
        const { &Erased::<K>::NEW }
    }
    fn read(stored: &[u8]) -> Result<K::Object, serde_json::Error> {
        read_stored::<K>(stored)
    }
    fn pack(obj: K::Object) -> Box<dyn DynObject> {
        Box::new(obj)
    }
}

/// Reads stored bytes as an object of this kind; a view converts them.
pub fn read_stored<K: Kind>(stored: &[u8]) -> Result<K::Object, serde_json::Error> {
    if K::INFO.stored_as.is_none() {
        return json::read(stored);
    }
    json::typed(K::from_stored(serde_json::from_slice(stored)?))
}

/// A [`Kind`] without its type. Objects passed in must be of this kind; anything else is a bug and panics.
pub trait ErasedKind: Send + Sync {
    /// Its facts.
    fn info(&self) -> &KindInfo<'_>;
    /// What its fields are.
    fn definition(&self) -> &Definition;
    /// Definitions of its own for OpenAPI documents, by name, as JSON; those of compiled-in kinds are packed.
    fn published(&self) -> &[(String, String)] {
        &[]
    }
    /// Reads JSON into a typed object; unknown fields are dropped (the caller has reported them).
    fn decode(&self, json: Value) -> Result<Box<dyn DynObject>, serde_json::Error>;
    /// Reads stored bytes into a typed object; a view converts them.
    fn decode_bytes(&self, json: &[u8]) -> Result<Box<dyn DynObject>, serde_json::Error>;
    /// [`ErasedKind::decode_bytes`], to be shared: [`ErasedKind::shared_dyn`] reads it.
    fn decode_shared(&self, json: &[u8]) -> Result<Arc<dyn Any + Send + Sync>, serde_json::Error>;
    /// The object that [`ErasedKind::decode_shared`] made.
    fn shared_dyn<'a>(&self, shared: &'a (dyn Any + Send + Sync)) -> &'a dyn DynObject;
    /// See [`Kind::set_defaults`].
    fn set_defaults(&self, obj: &mut dyn DynObject);
    /// See [`Kind::prepare_create`].
    fn prepare_create(&self, obj: &mut dyn DynObject);
    /// See [`Kind::explain_unknown`].
    fn explain_unknown(&self, _path: &str) -> Option<String> {
        None
    }
    /// Sets what depends on the name of a new object, once it has one.
    fn on_named(&self, _obj: &mut dyn DynObject) {}
    /// See [`Kind::validate`].
    fn validate(&self, obj: &dyn DynObject) -> Vec<FieldError>;
    /// See [`Kind::validate_create`].
    fn validate_create(&self, obj: &dyn DynObject) -> Vec<FieldError>;
    /// See [`Kind::prepare_update`].
    fn prepare_update(&self, new: &mut dyn DynObject, old: &dyn DynObject);
    /// See [`Kind::validate_update`].
    fn validate_update(&self, new: &dyn DynObject, old: &dyn DynObject) -> Vec<FieldError>;
    /// See [`Kind::prepare_status`].
    fn prepare_status(&self, new: &mut dyn DynObject, old: &dyn DynObject);
    /// See [`Kind::validate_status`].
    fn validate_status(&self, new: &dyn DynObject, old: &dyn DynObject) -> Vec<FieldError>;
    /// See [`Kind::prepare_facet`].
    fn prepare_facet(&self, _facet: &str, _new: &mut dyn DynObject, _old: &dyn DynObject) {}
    /// See [`Kind::validate_facet`].
    fn validate_facet(&self, _facet: &str, _new: &dyn DynObject, _old: &dyn DynObject) -> Vec<FieldError> {
        Vec::new()
    }
    /// See [`Kind::status_annotates`].
    fn status_annotates(&self) -> bool {
        false
    }
    /// See [`Kind::has_generation`].
    fn has_generation(&self) -> bool;
    /// See [`Kind::same_spec`].
    fn same_spec(&self, new: &dyn DynObject, old: &dyn DynObject) -> bool;
    /// See [`Kind::selectable_fields`].
    fn selectable_fields(&self, obj: &dyn DynObject) -> Fields<'_>;
    /// See [`Kind::row`].
    fn row(&self, obj: &dyn DynObject, now: Timestamp) -> Vec<Value>;
    /// See [`Kind::scale`].
    fn scale(&self, obj: &dyn DynObject) -> Option<ScaleView>;
    /// See [`Kind::set_scale`].
    fn set_scale(&self, obj: &mut dyn DynObject, replicas: i32);
    /// See [`Kind::returns_deleted`].
    fn returns_deleted(&self) -> bool;
    /// See [`Kind::grace_period_secs`].
    fn grace_period_secs(&self, obj: &dyn DynObject) -> Option<i64>;
    /// See [`Kind::blocks_removal`].
    fn blocks_removal(&self, obj: &dyn DynObject) -> bool;
    /// See [`Kind::on_marked`].
    fn on_marked(&self, obj: &mut dyn DynObject);
    /// See [`Kind::warnings`].
    fn warnings(&self, obj: &dyn DynObject) -> Vec<String>;
    /// See [`Kind::creates_on_update`].
    fn creates_on_update(&self) -> bool;
    /// See [`Kind::validate_name`].
    fn validate_name(&self, name: &str) -> Vec<String>;
    /// What is wrong with a `generateName` prefix: the rules of the name, but it may end in `-`.
    fn validate_name_prefix(&self, prefix: &str) -> Vec<String>;
    /// See [`Kind::field_labels`].
    fn field_labels(&self) -> Cow<'_, [(&str, &str)]>;
    /// The bytes to store for an object: its JSON, or for a view the JSON of the stored kind.
    fn stored_bytes(&self, obj: &dyn DynObject) -> Vec<u8>;
    /// The bytes to serve for stored bytes: the same, or for a view the JSON of this kind.
    fn served_bytes<'a>(&self, stored: &'a [u8]) -> Result<Cow<'a, [u8]>, serde_json::Error>;
}

impl std::fmt::Debug for dyn ErasedKind {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.info().kind)
    }
}

/// A kind that is served: one of the program's own, or one that was added while it runs.
#[derive(Clone)]
pub enum KindRef {
    /// It is compiled in.
    BuiltIn(&'static dyn ErasedKind),
    /// It was added, and goes with its last user.
    Added(Arc<dyn ErasedKind>),
}

impl Deref for KindRef {
    type Target = dyn ErasedKind;

    fn deref(&self) -> &Self::Target {
        match self {
            Self::BuiltIn(kind) => *kind,
            Self::Added(kind) => &**kind,
        }
    }
}

impl KindRef {
    /// What no two kinds share.
    fn id(&self) -> (&str, &str, &str) {
        let info = self.info();
        (info.group, info.plural, info.version)
    }
}

impl std::fmt::Debug for KindRef {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.info().resource())
    }
}

impl PartialEq for KindRef {
    fn eq(&self, other: &Self) -> bool {
        self.id() == other.id()
    }
}

impl Eq for KindRef {}

impl PartialOrd for KindRef {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for KindRef {
    fn cmp(&self, other: &Self) -> Ordering {
        self.id().cmp(&other.id())
    }
}

/// The erased form of a kind: `&Erased::<Pods>::NEW` is a row of the table.
#[derive(Debug)]
pub struct Erased<K>(PhantomData<fn() -> K>);

impl<K> Erased<K> {
    /// The value that stands for the kind.
    pub const NEW: Self = Self(PhantomData);
}

fn cast<K: Kind>(obj: &dyn DynObject) -> &K::Object {
    obj.as_any().downcast_ref().expect("an object reached the hooks of another kind")
}

fn cast_mut<K: Kind>(obj: &mut dyn DynObject) -> &mut K::Object {
    obj.as_any_mut().downcast_mut().expect("an object reached the hooks of another kind")
}

impl<K: Kind> ErasedKind for Erased<K> {
    fn info(&self) -> &KindInfo<'_> {
        const { &K::INFO }
    }
    fn definition(&self) -> &Definition {
        schema::packed(K::INFO.schema)
    }
    fn decode(&self, json: Value) -> Result<Box<dyn DynObject>, serde_json::Error> {
        Ok(Box::new(json::typed::<K::Object>(json)?))
    }
    fn explain_unknown(&self, path: &str) -> Option<String> {
        K::explain_unknown(path)
    }
    fn decode_bytes(&self, json: &[u8]) -> Result<Box<dyn DynObject>, serde_json::Error> {
        Ok(Box::new(read_stored::<K>(json)?))
    }
    fn decode_shared(&self, json: &[u8]) -> Result<Arc<dyn Any + Send + Sync>, serde_json::Error> {
        Ok(Arc::new(read_stored::<K>(json)?))
    }
    fn shared_dyn<'a>(&self, shared: &'a (dyn Any + Send + Sync)) -> &'a dyn DynObject {
        shared.downcast_ref::<K::Object>().expect("an entry's key names its kind")
    }
    fn set_defaults(&self, obj: &mut dyn DynObject) {
        K::set_defaults(cast_mut::<K>(obj));
    }
    fn prepare_create(&self, obj: &mut dyn DynObject) {
        K::prepare_create(cast_mut::<K>(obj));
    }
    fn validate(&self, obj: &dyn DynObject) -> Vec<FieldError> {
        K::validate(cast::<K>(obj))
    }
    fn validate_create(&self, obj: &dyn DynObject) -> Vec<FieldError> {
        K::validate_create(cast::<K>(obj))
    }
    fn prepare_update(&self, new: &mut dyn DynObject, old: &dyn DynObject) {
        K::prepare_update(cast_mut::<K>(new), cast::<K>(old));
    }
    fn validate_update(&self, new: &dyn DynObject, old: &dyn DynObject) -> Vec<FieldError> {
        K::validate_update(cast::<K>(new), cast::<K>(old))
    }
    fn prepare_status(&self, new: &mut dyn DynObject, old: &dyn DynObject) {
        K::prepare_status(cast_mut::<K>(new), cast::<K>(old));
    }
    fn validate_status(&self, new: &dyn DynObject, old: &dyn DynObject) -> Vec<FieldError> {
        K::validate_status(cast::<K>(new), cast::<K>(old))
    }
    fn prepare_facet(&self, facet: &str, new: &mut dyn DynObject, old: &dyn DynObject) {
        K::prepare_facet(facet, cast_mut::<K>(new), cast::<K>(old));
    }
    fn validate_facet(&self, facet: &str, new: &dyn DynObject, old: &dyn DynObject) -> Vec<FieldError> {
        K::validate_facet(facet, cast::<K>(new), cast::<K>(old))
    }
    fn status_annotates(&self) -> bool {
        K::status_annotates()
    }
    fn has_generation(&self) -> bool {
        K::has_generation()
    }
    fn same_spec(&self, new: &dyn DynObject, old: &dyn DynObject) -> bool {
        K::same_spec(cast::<K>(new), cast::<K>(old))
    }
    fn selectable_fields(&self, obj: &dyn DynObject) -> Fields<'_> {
        K::selectable_fields(cast::<K>(obj))
    }
    fn row(&self, obj: &dyn DynObject, now: Timestamp) -> Vec<Value> {
        K::row(cast::<K>(obj), now)
    }
    fn scale(&self, obj: &dyn DynObject) -> Option<ScaleView> {
        K::scale(cast::<K>(obj))
    }
    fn set_scale(&self, obj: &mut dyn DynObject, replicas: i32) {
        K::set_scale(cast_mut::<K>(obj), replicas);
    }
    fn returns_deleted(&self) -> bool {
        K::returns_deleted()
    }
    fn grace_period_secs(&self, obj: &dyn DynObject) -> Option<i64> {
        K::grace_period_secs(cast::<K>(obj))
    }
    fn blocks_removal(&self, obj: &dyn DynObject) -> bool {
        K::blocks_removal(cast::<K>(obj))
    }
    fn on_marked(&self, obj: &mut dyn DynObject) {
        K::on_marked(cast_mut::<K>(obj));
    }
    fn warnings(&self, obj: &dyn DynObject) -> Vec<String> {
        K::warnings(cast::<K>(obj))
    }
    fn creates_on_update(&self) -> bool {
        K::creates_on_update()
    }
    fn validate_name(&self, name: &str) -> Vec<String> {
        K::validate_name(name)
    }
    fn validate_name_prefix(&self, prefix: &str) -> Vec<String> {
        K::validate_name(&names::mask_trailing_dash(prefix))
    }
    fn field_labels(&self) -> Cow<'_, [(&str, &str)]> {
        Cow::Borrowed(K::field_labels())
    }
    fn stored_bytes(&self, obj: &dyn DynObject) -> Vec<u8> {
        let json = obj.to_json();
        if K::INFO.stored_as.is_none() {
            return json;
        }
        let value = serde_json::from_slice(&json).expect("an object's own JSON parses");
        serde_json::to_vec(&K::to_stored(value)).expect("a JSON value has string keys only")
    }
    fn served_bytes<'a>(&self, stored: &'a [u8]) -> Result<Cow<'a, [u8]>, serde_json::Error> {
        if K::INFO.stored_as.is_none() {
            return Ok(Cow::Borrowed(stored));
        }
        let value = K::from_stored(serde_json::from_slice(stored)?);
        serde_json::to_vec(&value).map(Cow::Owned)
    }
}

//! What the tests of kinds share: YAML in, text out.

use crate::api::{field::FieldError, kind::Kind};
use jiff::Timestamp;

/// When rows are printed.
pub(super) const NOW: &str = "2026-03-01T12:00:00Z";

pub(super) fn now() -> Timestamp {
    NOW.parse().unwrap()
}

/// The object as a client sent it.
pub(super) fn read<K: Kind>(yaml: &str) -> K::Object {
    crate::testing::from_yaml(yaml).unwrap()
}

/// The object as it is before validation at its creation.
pub(super) fn created<K: Kind>(yaml: &str) -> K::Object {
    let mut obj = read::<K>(yaml);
    K::set_defaults(&mut obj);
    K::prepare_create(&mut obj);
    obj
}

/// The created object as YAML.
pub(super) fn created_yaml<K: Kind>(yaml: &str) -> String {
    serde_yaml::to_string(&created::<K>(yaml)).unwrap()
}

/// What is wrong with the created object, one line each.
pub(super) fn causes<K: Kind>(yaml: &str) -> String {
    let obj = created::<K>(yaml);
    let mut errs = K::validate(&obj);
    errs.extend(K::validate_create(&obj));
    lines(&errs)
}

/// What is wrong with changing one object to another, one line each.
pub(super) fn update_causes<K: Kind>(old: &str, new: &str) -> String {
    let old = created::<K>(old);
    let mut new = read::<K>(new);
    K::set_defaults(&mut new);
    K::prepare_update(&mut new, &old);
    let mut errs = K::validate(&new);
    errs.extend(K::validate_update(&new, &old));
    lines(&errs)
}

/// One line for each cause.
pub(super) fn lines(errs: &[FieldError]) -> String {
    errs.iter().flat_map(|e| [e.to_string(), "\n".to_owned()]).collect()
}

/// The printed row, cell by cell.
pub(super) fn row<K: Kind>(yaml: &str) -> String {
    let cells = K::row(&read::<K>(yaml), now());
    let text = |v: &serde_json::Value| v.as_str().map_or_else(|| v.to_string(), str::to_owned);
    cells.iter().map(text).collect::<Vec<_>>().join(" | ")
}

/// The same for kinds that are served from their schema.
pub(super) mod json {
    use crate::api::{
        json_kind::JsonKind,
        kind::ErasedKind as _,
        object::DynObject,
        schema::{self, read},
    };

    fn read(kind: &JsonKind, yaml: &str) -> Box<dyn DynObject> {
        let mut value = read::parse_yaml(yaml.as_bytes()).unwrap().value;
        let found = schema::check(kind.definition(), &value);
        assert_eq!((found.unknown, found.error), (Vec::new(), None), "{yaml}");
        if value.get("metadata").is_none() {
            value["metadata"] = serde_json::json!({});
        }
        schema::normalize(kind.definition(), &mut value);
        kind.decode(value).unwrap()
    }

    /// The object as it is before validation at its creation.
    pub(in crate::api::kinds) fn created(kind: &JsonKind, yaml: &str) -> Box<dyn DynObject> {
        let mut obj = read(kind, yaml);
        kind.set_defaults(&mut *obj);
        kind.prepare_create(&mut *obj);
        kind.on_named(&mut *obj);
        obj
    }

    /// The created object as YAML.
    pub(in crate::api::kinds) fn created_yaml(kind: &JsonKind, yaml: &str) -> String {
        let mut value: serde_json::Value = serde_json::from_slice(&created(kind, yaml).to_json()).unwrap();
        for field in ["apiVersion", "kind"] {
            value.as_object_mut().unwrap().remove(field);
        }
        serde_yaml::to_string(&value).unwrap()
    }

    /// What is wrong with the created object, one line each.
    pub(in crate::api::kinds) fn causes(kind: &JsonKind, yaml: &str) -> String {
        let obj = created(kind, yaml);
        let mut errs = kind.validate(&*obj);
        errs.extend(kind.validate_create(&*obj));
        super::lines(&errs)
    }

    /// What is wrong with changing one object to another, one line each.
    pub(in crate::api::kinds) fn update_causes(kind: &JsonKind, old: &str, new: &str) -> String {
        let (old, mut new) = (created(kind, old), created(kind, new));
        kind.prepare_update(&mut *new, &*old);
        let mut errs = kind.validate(&*new);
        errs.extend(kind.validate_update(&*new, &*old));
        super::lines(&errs)
    }

    /// What is wrong with changing the status of one object to that of another, one line each.
    pub(in crate::api::kinds) fn status_causes(kind: &JsonKind, old: &str, new: &str) -> String {
        let (old, mut new) = (read(kind, old), read(kind, new));
        kind.prepare_status(&mut *new, &*old);
        super::lines(&kind.validate_status(&*new, &*old))
    }

    /// The printed row, cell by cell.
    pub(in crate::api::kinds) fn row(kind: &JsonKind, yaml: &str) -> String {
        let cells = kind.row(&*read(kind, yaml), super::now());
        let text = |v: &serde_json::Value| v.as_str().map_or_else(|| v.to_string(), str::to_owned);
        cells.iter().map(text).collect::<Vec<_>>().join(" | ")
    }
}

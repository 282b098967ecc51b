//! An object of any kind in memory: the erased form that one pipeline can carry for every kind.

use super::meta::ObjectKey;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use serde::{Deserialize, Serialize, de::DeserializeOwned};
use serde_json::{Map, Value};
use std::{any::Any, fmt};

/// A typed Kubernetes object: any `k8s_openapi` type with metadata, or one of our own.
pub trait Object: Any + Clone + fmt::Debug + Serialize + DeserializeOwned + Send + Sync {
    /// The object's metadata.
    fn meta(&self) -> &ObjectMeta;
    /// The object's metadata, to change.
    fn meta_mut(&mut self) -> &mut ObjectMeta;
}

impl<T> Object for T
where
    T: k8s_openapi::Metadata<Ty = ObjectMeta> + Any + Clone + fmt::Debug + Serialize + DeserializeOwned + Send + Sync,
{
    fn meta(&self) -> &ObjectMeta {
        self.metadata()
    }
    fn meta_mut(&mut self) -> &mut ObjectMeta {
        self.metadata_mut()
    }
}

/// An object of which nothing but the metadata is read.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Untyped {
    /// Its metadata.
    #[serde(default)]
    pub metadata: ObjectMeta,
    /// All else, `apiVersion` and `kind` included.
    #[serde(flatten)]
    pub rest: Map<String, Value>,
}

impl Object for Untyped {
    fn meta(&self) -> &ObjectMeta {
        &self.metadata
    }
    fn meta_mut(&mut self) -> &mut ObjectMeta {
        &mut self.metadata
    }
}

/// Makes something typed JSON, by way of its text, so that the program has one writer of each type.
pub fn untyped<T: Serialize>(object: &T) -> Value {
    let text = serde_json::to_vec(object).expect("a type of the API has string keys only");
    serde_json::from_slice(&text).expect("what was just written is JSON")
}

/// What is wrong, without the place in a text that nobody sees.
pub fn without_place(err: &serde_json::Error) -> String {
    let text = err.to_string();
    let place = format!(" at line {} column {}", err.line(), err.column());
    text.strip_suffix(&place).map_or_else(|| text.clone(), str::to_owned)
}

/// An [`Object`] whose type only its own kind knows.
pub trait DynObject: Any + Send + Sync {
    /// The object's metadata.
    fn meta(&self) -> &ObjectMeta;
    /// The object's metadata, to change.
    fn meta_mut(&mut self) -> &mut ObjectMeta;
    /// The object as JSON text, `apiVersion` and `kind` included.
    fn to_json(&self) -> Vec<u8>;
    /// A copy.
    fn clone_dyn(&self) -> Box<dyn DynObject>;
    /// For down-casting.
    fn as_any(&self) -> &dyn Any;
    /// For down-casting, to change.
    fn as_any_mut(&mut self) -> &mut dyn Any;
}

/// Who it is: what is in it would need the code to show every type of the API.
impl fmt::Debug for dyn DynObject {
    fn fmt(&self, to: &mut fmt::Formatter<'_>) -> fmt::Result {
        ObjectKey::of(self.meta()).fmt(to)
    }
}

impl<T: Object> DynObject for T {
    fn meta(&self) -> &ObjectMeta {
        Object::meta(self)
    }
    fn meta_mut(&mut self) -> &mut ObjectMeta {
        Object::meta_mut(self)
    }
    fn to_json(&self) -> Vec<u8> {
        serde_json::to_vec(self).expect("an API object has string keys only")
    }
    fn clone_dyn(&self) -> Box<dyn DynObject> {
        Box::new(self.clone())
    }
    fn as_any(&self) -> &dyn Any {
        self
    }
    fn as_any_mut(&mut self) -> &mut dyn Any {
        self
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::json::typed;
    use k8s_openapi::api::core::v1::ConfigMap;
    use serde_json::json;

    #[test]
    fn json_becomes_typed_and_json_again() {
        let json =
            json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "a"}, "data": {"k": "v\n\u{1F600}"}});
        let map: ConfigMap = typed(json.clone()).unwrap();
        assert_eq!(map.data.as_ref().unwrap()["k"], "v\n\u{1F600}");
        assert_eq!(untyped(&map), json);
    }

    #[test]
    fn an_error_has_no_place_in_a_text_that_nobody_sees() {
        let err = typed::<ConfigMap>(json!({"kind": "ConfigMap", "data": 5})).unwrap_err();
        assert_eq!(without_place(&err), "invalid type: integer `5`, expected a map");
    }
}

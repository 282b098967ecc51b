//! Builders that tests share. What needs a room above `base` is with that room's crate (`engine.rs`, `registry.rs`), and brings these along.

pub mod ports;
pub mod samples;

use http::{HeaderMap, HeaderName, HeaderValue};
use serde::de::DeserializeOwned;

/// An object from YAML. It goes through a JSON value, so that the compiler makes no reader of YAML for every kind.
pub fn from_yaml<T: DeserializeOwned>(text: &str) -> Result<T, String> {
    let value: serde_json::Value = serde_yaml::from_str(text).map_err(|err| err.to_string())?;
    serde_json::from_value(value).map_err(|err| err.to_string())
}

/// Headers, in this order.
pub fn headers(pairs: &[(&str, &str)]) -> HeaderMap {
    let pair = |(name, value): &(&str, &str)| {
        (name.parse::<HeaderName>().expect("a name"), HeaderValue::from_str(value).expect("a value"))
    };
    let mut all = HeaderMap::new();
    all.extend(pairs.iter().map(pair));
    all
}

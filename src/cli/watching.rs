//! Waits for what objects become: a list of them, and then what a watch tells.
//!
//! **Invariants**: nothing is asked for again and again; a watch that ends or has fallen behind begins anew, with a list.

use crate::{
    base::ordered::Map,
    client::{Client, ClientError, WatchEvent},
};
use http::StatusCode;
use serde_json::Value;
use std::time::Duration;
use tokio::time::timeout;

/// Objects by namespace and name.
pub(super) type Objects = Map<(String, String), Value>;

/// A string of an object; empty where there is none.
pub(super) fn text<'a>(value: &'a Value, path: &str) -> &'a str {
    value.pointer(path).and_then(Value::as_str).unwrap_or_default()
}

/// A number of an object; zero where there is none.
pub(super) fn number(value: &Value, path: &str) -> i64 {
    value.pointer(path).and_then(Value::as_i64).unwrap_or_default()
}

/// A condition of an object.
pub(super) fn condition<'a>(object: &'a Value, kind: &str) -> Option<&'a Value> {
    object.pointer("/status/conditions")?.as_array()?.iter().find(|condition| condition["type"] == kind)
}

/// Whether a condition of an object is true.
pub(super) fn is_true(object: &Value, kind: &str) -> bool {
    condition(object, kind).is_some_and(|condition| condition["status"] == "True")
}

fn key(object: &Value) -> (String, String) {
    (text(object, "/metadata/namespace").to_owned(), text(object, "/metadata/name").to_owned())
}

/// Looks at a collection whenever it has changed, until `look` has seen enough; `None`: not within that time.
pub(super) async fn until<T>(
    client: &Client,
    collection: &str,
    within: Duration,
    look: impl FnMut(&Objects) -> Option<T>,
) -> Result<Option<T>, ClientError> {
    match timeout(within, follow(client, collection, look)).await {
        Ok(found) => found.map(Some),
        Err(_) => Ok(None),
    }
}

async fn follow<T>(
    client: &Client,
    collection: &str,
    mut look: impl FnMut(&Objects) -> Option<T>,
) -> Result<T, ClientError> {
    loop {
        let mut list = client.get(collection).await?;
        let items = list["items"].as_array_mut().map(std::mem::take).unwrap_or_default();
        let mut objects: Objects = items.into_iter().map(|object| (key(&object), object)).collect();
        if let Some(found) = look(&objects) {
            return Ok(found);
        }
        let mut lines = client.watch(collection, text(&list, "/metadata/resourceVersion")).await?;
        loop {
            match lines.next().await {
                Ok(Some(WatchEvent::Set(object))) => drop(objects.insert(key(&object), object)),
                Ok(Some(WatchEvent::Gone(object))) => drop(objects.remove(&key(&object))),
                Ok(Some(WatchEvent::Bookmark(_))) => continue,
                Ok(None) => break,
                Err(err) if err.code() == Some(StatusCode::GONE) => break,
                Err(err) => return Err(err),
            }
            if let Some(found) = look(&objects) {
                return Ok(found);
            }
        }
    }
}

//! JSON patch, RFC 6902: a list of operations, all or none of which take effect.
//!
//! **Source**: `gopkg.in/evanphx/json-patch.v4`, as used by Kubernetes v1.37. Like there, and unlike the RFC, an index may count
//! from the end (`-1`), a field that is not there may be replaced, and no operation takes the whole document as its target.

use super::PatchError;
use crate::api::bounds::{DEPTH_MAX, Size};
use serde_json::{Map, Value};

/// The most operations of one patch. Source: `maxJSONPatchOperations` of handlers/patch.go.
const OPERATIONS_MAX: usize = 10_000;
/// The most values that the operations of one patch may look at or shift, so that ten thousand of them on a large object end soon.
const WORK_MAX: usize = 20_000_000;
/// The most bytes that copies may add, so that a small patch cannot make a huge object. Source: `AccumulatedCopySizeLimit`.
const COPIED_BYTES_MAX: usize = 3 * 1024 * 1024;

/// The object after the patch.
pub fn apply(current: Value, patch: Value) -> Result<Value, PatchError> {
    let Value::Array(operations) = patch else {
        let kind = crate::api::schema::go_kind(&patch);
        return Err(PatchError::Malformed(format!(
            "json: cannot unmarshal {kind} into Go value of type jsonpatch.Patch"
        )));
    };
    if operations.len() > OPERATIONS_MAX {
        return Err(PatchError::TooManyOperations { max: OPERATIONS_MAX, actual: operations.len() });
    }
    let mut patched = Patched { object: current, copied_bytes: 0, work: 0 };
    for operation in &operations {
        patched.run(Operation::read(operation)?)?;
    }
    Ok(patched.object)
}

/// An operation as it is written. Members that its kind does not use are ignored.
struct Operation<'p> {
    kind: &'p str,
    path: Option<&'p str>,
    from: Option<&'p str>,
    value: Option<&'p Value>,
}

impl<'p> Operation<'p> {
    fn read(operation: &'p Value) -> Result<Self, PatchError> {
        let Value::Object(members) = operation else {
            let kind = crate::api::schema::go_kind(operation);
            return Err(PatchError::Malformed(format!(
                "json: cannot unmarshal {kind} into Go value of type jsonpatch.Operation"
            )));
        };
        let text = |name: &str| members.get(name).and_then(Value::as_str);
        Ok(Self {
            kind: text("op").unwrap_or("unknown"),
            path: text("path"),
            from: text("from"),
            value: members.get("value"),
        })
    }

    fn path(&self) -> Result<&'p str, PatchError> {
        self.path.ok_or_else(|| misfit("", format!("{} operation failed to decode path: missing value", self.kind)))
    }

    fn from(&self) -> Result<&'p str, PatchError> {
        self.from.ok_or_else(|| misfit("", format!("{} operation failed to decode from: missing value", self.kind)))
    }

    fn value(&self) -> Value {
        self.value.cloned().unwrap_or_default()
    }
}

fn misfit(at: &str, why: impl Into<String>) -> PatchError {
    PatchError::DoesNotFit { at: at.to_owned(), why: why.into() }
}

struct Patched {
    object: Value,
    copied_bytes: usize,
    work: usize,
}

impl Patched {
    fn run(&mut self, operation: Operation<'_>) -> Result<(), PatchError> {
        let path = operation.path()?;
        match operation.kind {
            "add" => self.add("add", path, operation.value()),
            "remove" => self.remove("remove", path).map(drop),
            "replace" => self.replace(path, operation.value()),
            "move" => {
                let value = self.remove("move", operation.from()?)?;
                self.add("move", path, value)
            }
            "copy" => self.copy(operation.from()?, path),
            "test" => self.test(path, operation.value),
            other => Err(misfit(path, format!("Unexpected kind: {other}"))),
        }
    }

    /// The object or list that has the last step of the path, and that step, unescaped.
    fn parent(&mut self, path: &str, kind: &str) -> Result<(&mut Value, String), PatchError> {
        let missing = || {
            let what = match kind {
                "move" | "copy" => format!("doc is missing from path: {path}"),
                "test" => format!("is missing path: {path}"),
                "replace" => format!("doc is missing path: {path}"),
                _ => format!("doc is missing path: {path:?}"),
            };
            misfit(path, format!("{kind} operation does not apply: {what}: missing value"))
        };
        let steps = path.strip_prefix('/').ok_or_else(missing)?;
        let (parents, last) = match steps.rsplit_once('/') {
            Some((parents, last)) => (Some(parents), last),
            None => (None, steps),
        };
        let mut at = &mut self.object;
        for step in parents.into_iter().flat_map(|p| p.split('/')) {
            let step = unescape(step);
            at = match at {
                Value::Object(fields) => fields.get_mut(&step),
                Value::Array(items) => index(&step, items.len()).and_then(|i| items.get_mut(i)),
                _ => None,
            }
            .ok_or_else(missing)?;
        }
        if at.is_object() || at.is_array() { Ok((at, unescape(last))) } else { Err(missing()) }
    }

    /// Counts what an operation costs.
    fn spend(&mut self, work: usize) -> Result<(), PatchError> {
        self.work = self.work.saturating_add(work);
        if self.work > WORK_MAX {
            return Err(PatchError::TooMuchWork);
        }
        Ok(())
    }

    /// Whether a value may stand at a path: what it makes may not nest deeper than what can be read.
    fn fits(&mut self, path: &str, value: &Value) -> Result<(), PatchError> {
        let size = Size::of(value);
        self.spend(size.values)?;
        let depth = path.matches('/').count().saturating_add(size.depth);
        if depth > DEPTH_MAX {
            return Err(misfit(path, format!("the value nests {depth} levels deep, more than {DEPTH_MAX}")));
        }
        Ok(())
    }

    fn add(&mut self, kind: &str, path: &str, value: Value) -> Result<(), PatchError> {
        self.fits(path, &value)?;
        let (parent, key) = self.parent(path, if kind == "add" { kind } else { "add" })?;
        let mut shifted = 0;
        match parent {
            Value::Array(items) if key == "-" => items.push(value),
            Value::Array(items) => {
                // One past the end is a place for a new item too.
                let at = index(&key, items.len() + 1).ok_or_else(|| bad_index(kind, path, &key))?;
                shifted = items.len() - at;
                items.insert(at, value);
            }
            parent => {
                fields_of(parent).insert(key, value);
            }
        }
        self.spend(shifted)
    }

    fn remove(&mut self, kind: &str, path: &str) -> Result<Value, PatchError> {
        let (parent, key) = self.parent(path, kind)?;
        match parent {
            Value::Array(items) => match index(&key, items.len()) {
                Some(at) if at < items.len() => {
                    let (removed, shifted) = (items.remove(at), items.len() - at);
                    self.spend(shifted)?;
                    Ok(removed)
                }
                _ => Err(bad_index(kind, path, &key)),
            },
            parent => fields_of(parent).remove(&key).ok_or_else(|| {
                misfit(
                    path,
                    format!(
                        "error in {kind} for path: '{path}': Unable to remove nonexistent key: {key}: missing value"
                    ),
                )
            }),
        }
    }

    /// A field need not be there to be replaced, but an item must.
    fn replace(&mut self, path: &str, value: Value) -> Result<(), PatchError> {
        self.fits(path, &value)?;
        let (parent, key) = self.parent(path, "replace")?;
        match parent {
            Value::Array(items) => match index(&key, items.len()) {
                Some(at) if at < items.len() => items[at] = value,
                _ => {
                    let why = format!("replace operation does not apply: doc is missing key: {path}: missing value");
                    return Err(misfit(path, why));
                }
            },
            parent => {
                fields_of(parent).insert(key, value);
            }
        }
        Ok(())
    }

    fn get(&mut self, kind: &str, path: &str) -> Result<Option<&Value>, PatchError> {
        let (parent, key) = self.parent(path, kind)?;
        match parent {
            Value::Array(items) => match index(&key, items.len()) {
                Some(at) if at < items.len() => Ok(items.get(at)),
                _ => Err(bad_index(kind, path, &key)),
            },
            parent => Ok(fields_of(parent).get(&key)),
        }
    }

    fn copy(&mut self, from: &str, path: &str) -> Result<(), PatchError> {
        let value = self.get("copy", from)?.cloned().ok_or_else(|| {
            misfit(from, format!("error in copy for from: '{from}': unable to get nonexistent key: missing value"))
        })?;
        self.copied_bytes = self.copied_bytes.saturating_add(value.to_string().len());
        if self.copied_bytes > COPIED_BYTES_MAX {
            let why = format!(
                "Unable to complete the copy, the accumulated size increase of copy is {}, exceeding the limit {COPIED_BYTES_MAX}",
                self.copied_bytes
            );
            return Err(misfit(path, why));
        }
        self.add("copy", path, value)
    }

    /// An absent field equals null, as in Go. It costs no more than the patch's own value is large.
    fn test(&mut self, path: &str, wanted: Option<&Value>) -> Result<(), PatchError> {
        let found = self.get("test", path)?.unwrap_or(&Value::Null);
        if found == wanted.unwrap_or(&Value::Null) {
            return Ok(());
        }
        Err(misfit(path, format!("testing value {path} failed: test failed")))
    }
}

fn fields_of(parent: &mut Value) -> &mut Map<String, Value> {
    parent.as_object_mut().expect("a parent is an object or a list")
}

fn bad_index(kind: &str, path: &str, key: &str) -> PatchError {
    let why = match key.parse::<i64>() {
        Ok(_) => format!("Unable to access invalid index: {key}: invalid index referenced"),
        Err(_) => format!("value was not a proper array index: '{key}': strconv.Atoi: parsing {key:?}: invalid syntax"),
    };
    misfit(path, format!("error in {kind} for path: '{path}': {why}"))
}

/// The place in a list of `len` items; negative numbers count from the end.
fn index(key: &str, len: usize) -> Option<usize> {
    let number: i64 = key.parse().ok()?;
    match usize::try_from(number) {
        Ok(at) => (at < len).then_some(at),
        Err(_) => len.checked_sub(usize::try_from(number.unsigned_abs()).ok()?),
    }
}

fn unescape(step: &str) -> String {
    if step.contains('~') { step.replace("~1", "/").replace("~0", "~") } else { step.to_owned() }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use serde_json::json;

    #[track_caller]
    fn check(current: Value, patch: Value, expected: Result<Value, &str>) {
        let result = apply(current, patch).map_err(|err| err.to_string());
        assert_eq!(result, expected.map_err(str::to_owned));
    }

    #[test]
    fn every_operation_works() {
        let doc = || json!({"a": {"b": [1, 2, 3]}, "c/d": {"~": 1}, "e": null});
        for (patch, expected) in [
            (json!([{"op": "add", "path": "/x", "value": {"y": 1}}]), ("/x/y", json!(1))),
            (json!([{"op": "add", "path": "/x"}]), ("/x", json!(null))),
            (json!([{"op": "add", "path": "/a/b/-", "value": 4}]), ("/a/b", json!([1, 2, 3, 4]))),
            (json!([{"op": "add", "path": "/a/b/0", "value": 0}]), ("/a/b", json!([0, 1, 2, 3]))),
            (json!([{"op": "add", "path": "/a/b/3", "value": 4}]), ("/a/b", json!([1, 2, 3, 4]))),
            (json!([{"op": "add", "path": "/a/b/-1", "value": 4}]), ("/a/b", json!([1, 2, 3, 4]))),
            (json!([{"op": "remove", "path": "/a/b/1"}]), ("/a/b", json!([1, 3]))),
            (json!([{"op": "remove", "path": "/a/b/-1"}]), ("/a/b", json!([1, 2]))),
            (json!([{"op": "replace", "path": "/a/b/1", "value": 9}]), ("/a/b", json!([1, 9, 3]))),
            (json!([{"op": "replace", "path": "/c~1d/~0", "value": 2}]), ("/c~1d/~0", json!(2))),
            (json!([{"op": "replace", "path": "/new", "value": 2}]), ("/new", json!(2))),
            (json!([{"op": "move", "from": "/a/b/0", "path": "/a/b/2"}]), ("/a/b", json!([2, 3, 1]))),
            (json!([{"op": "move", "from": "/a", "path": "/z"}]), ("/z", json!({"b": [1, 2, 3]}))),
            (json!([{"op": "copy", "from": "/a/b/0", "path": "/f"}]), ("/f", json!(1))),
            (json!([{"op": "test", "path": "/a/b", "value": [1, 2, 3]}]), ("/e", json!(null))),
            (json!([{"op": "test", "path": "/nothing"}]), ("/e", json!(null))),
            (json!([]), ("/a/b/0", json!(1))),
        ] {
            let patched = apply(doc(), patch.clone()).unwrap_or_else(|err| panic!("{patch}: {err}"));
            assert_eq!(patched.pointer(expected.0), Some(&expected.1), "{patch}");
        }
        let moved = apply(doc(), json!([{"op": "move", "from": "/a", "path": "/z"}])).expect("a is there");
        assert_eq!(moved.get("a"), None);
    }

    #[test]
    fn what_does_not_fit_says_where_and_why() {
        let doc = json!({"spec": {"replicas": 1, "list": [1]}});
        for (patch, error) in [
            (
                json!([{"op": "test", "path": "/spec/replicas", "value": 2}]),
                "testing value /spec/replicas failed: test failed",
            ),
            (
                json!([{"op": "add", "path": "/metadata/annotations/x", "value": "y"}]),
                "add operation does not apply: doc is missing path: \"/metadata/annotations/x\": missing value",
            ),
            (
                json!([{"op": "remove", "path": "/spec/x"}]),
                "error in remove for path: '/spec/x': Unable to remove nonexistent key: x: missing value",
            ),
            (
                json!([{"op": "replace", "path": "/spec/list/7", "value": 1}]),
                "replace operation does not apply: doc is missing key: /spec/list/7: missing value",
            ),
            (
                json!([{"op": "replace", "path": "/x/y", "value": 1}]),
                "replace operation does not apply: doc is missing path: /x/y: missing value",
            ),
            (
                json!([{"op": "add", "path": "spec/x", "value": 1}]),
                "add operation does not apply: doc is missing path: \"spec/x\": missing value",
            ),
            (
                json!([{"op": "remove", "path": "/spec/list/1"}]),
                "error in remove for path: '/spec/list/1': Unable to access invalid index: 1: invalid index referenced",
            ),
            (
                json!([{"op": "add", "path": "/spec/list/x", "value": 1}]),
                "error in add for path: '/spec/list/x': value was not a proper array index: 'x': strconv.Atoi: parsing \
                 \"x\": invalid syntax",
            ),
            (
                json!([{"op": "copy", "from": "/x/y", "path": "/z"}]),
                "copy operation does not apply: doc is missing from path: /x/y: missing value",
            ),
            (json!([{"op": "jump", "path": "/spec"}]), "Unexpected kind: jump"),
            (json!([{"op": "add"}]), "add operation failed to decode path: missing value"),
            (json!({"op": "add"}), "json: cannot unmarshal object into Go value of type jsonpatch.Patch"),
            (json!(["add"]), "json: cannot unmarshal string into Go value of type jsonpatch.Operation"),
        ] {
            check(doc.clone(), patch, Err(error));
        }
    }

    #[test]
    fn patches_are_bounded() {
        let many = vec![json!({"op": "test", "path": "/x"}); OPERATIONS_MAX + 1];
        check(json!({}), Value::Array(many), Err("The allowed maximum operations in a JSON patch is 10000, got 10001"));
        let copies = vec![json!({"op": "copy", "from": "/a", "path": "/a/-"}); 40];
        let error = apply(json!({"a": ["some text"]}), Value::Array(copies)).expect_err("it doubles each time");
        assert!(error.to_string().starts_with("Unable to complete the copy"), "{error}");
    }

    #[test]
    fn a_value_copied_into_itself_does_not_nest_without_end() {
        let into_leaf =
            |levels: usize| json!({"op": "copy", "from": "/a", "path": format!("/a{}", "/a".repeat(levels))});
        let mut doc = json!({});
        for _ in 0..50 {
            doc = json!({ "a": doc });
        }
        // Each copy doubles the depth; before it was bounded, eight of them ended the process.
        let patch = json!([into_leaf(49), into_leaf(98), into_leaf(196), into_leaf(392)]);
        let error = apply(doc.clone(), patch).expect_err("it is too deep").to_string();
        assert_eq!(error, "the value nests 198 levels deep, more than 100");
        let moved = json!([{"op": "add", "path": "/b", "value": {}}, {"op": "move", "from": "/a", "path": "/b/c"}]);
        assert!(Size::of(&apply(doc.clone(), moved).expect("it is deep, but not too deep")).depth <= DEPTH_MAX);
        let replaced = json!([{"op": "replace", "path": format!("/a{}", "/a".repeat(48)), "value": doc.clone()}]);
        apply(doc.clone(), replaced).expect("one hundred levels");
        let deeper = json!([{"op": "replace", "path": format!("/a{}", "/a".repeat(48)), "value": {"a": doc.clone()}}]);
        apply(doc, deeper).expect_err("one hundred and one levels");
    }

    #[test]
    fn ten_thousand_operations_on_a_long_list_end_soon() {
        let doc = json!({ "a": vec![0; 100_000], "b": {} });
        let shifts = vec![json!({"op": "remove", "path": "/a/0"}); OPERATIONS_MAX];
        assert_eq!(apply(doc.clone(), Value::Array(shifts)), Err(PatchError::TooMuchWork));
        let there = json!({"op": "move", "from": "/a", "path": "/b/a"});
        let back = json!({"op": "move", "from": "/b/a", "path": "/a"});
        let moves: Vec<Value> = [there, back].into_iter().cycle().take(OPERATIONS_MAX).collect();
        assert_eq!(apply(doc, Value::Array(moves)), Err(PatchError::TooMuchWork));
    }

    proptest! {
        #[test]
        fn adding_then_removing_changes_nothing(
            items in prop::collection::vec(0..9i64, 0..5), at in 0..6usize, value in 0..9i64,
        ) {
            let doc = json!({ "list": items.clone() });
            let path = format!("/list/{at}");
            let patch = json!([{"op": "add", "path": path, "value": value}, {"op": "remove", "path": path}]);
            prop_assert_eq!(apply(doc.clone(), patch), if at <= items.len() { Ok(doc) } else {
                Err(bad_index("add", &path, &at.to_string()))
            });
        }

        #[test]
        fn a_move_is_a_copy_and_a_removal(key in "[a-c]", to in "[d-f]") {
            let doc = json!({"a": 1, "b": [2], "c": {"d": 3}});
            let (from, path) = (format!("/{key}"), format!("/{to}"));
            let moved = apply(doc.clone(), json!([{"op": "move", "from": from, "path": path}]));
            let copied = json!([{"op": "copy", "from": from, "path": path}, {"op": "remove", "path": from}]);
            prop_assert_eq!(moved, apply(doc, copied));
        }
    }
}

//! Bounded fuzzing of every decoder: whatever comes in, nothing panics, and what comes out is bounded in size and depth by what came
//! in. `PROPTEST_CASES` says how many inputs of each sort are tried.

use super::{
    bounds::{DEPTH_MAX, Size},
    kind::ErasedKind,
    kinds::KINDS,
    patch::{json, merge, strategic},
    quantity::Quantity,
    schema::{
        self, protobuf, read,
        structure::{Definition, Type},
    },
    selector::{FieldSelector, LabelSelector},
};
use crate::base::rng::Rng;
use proptest::{prelude::*, sample::Index};
use serde_json::{Map, Value, json};

const POD: &str = "io.k8s.api.core.v1.Pod";

const JSON: &[u8] = br#"{"apiVersion":"v1","kind":"Pod","metadata":{"name":"a","labels":{"b":"c"},"ownerReferences":[{"uid":"u"}],
"finalizers":["d/e"]},"spec":{"containers":[{"name":"x","image":"i","env":[{"name":"A","value":"$(B)"},{"name":"B"}],
"ports":[{"containerPort":80}],"resources":{"limits":{"cpu":"100m","memory":1e9}}}],"terminationGracePeriodSeconds":30}}"#;

const YAML: &[u8] = b"apiVersion: v1\nkind: Pod\nmetadata: &m\n  name: a\n  labels: {b: c, 0644: yes}\nspec:\n  containers:\n  - &c\n    name: x
    command: [sh, -c, |-\n      echo\n    ]\n  - <<: *c\n    name: y\n  - *c\n  other: *m\n  bin: !!binary aGk=\n---\nb: !!int '7'\n";

/// A Pod with a name, a label, a container with a port and a request, and a grace period.
const PROTOBUF: &[u8] = b"k8s\0\x0a\x09\x0a\x02v1\x12\x03Pod\x12\x3e\x0a\x0c\x0a\x01a\x5a\x06\x0a\x01b\x12\x01c\
\x12\x2e\x12\x2a\x0a\x01x\x12\x01i\x32\x07\x0a\x00\x18\x50\x22\x03TCP\x3a\x04\x0a\x01A\x12\x00\x42\x0f\x12\x0d\x0a\x03cpu\x12\x06\x0a\x04100m\x20\x1e\x1a\x00";

/// Words that mean something to one decoder or another.
const WORDS: &[&[u8]] = &[
    b"[",
    b"]",
    b"{",
    b"}",
    b"\"a\":",
    b"\"",
    b",",
    b":",
    b"&a ",
    b"*a",
    b"<<: *c",
    b"!!binary ",
    b"!!int ",
    b"\n- ",
    b"\n  ",
    b"? ",
    b"|",
    b">",
    b"#",
    b"---\n",
    b"%YAML 1.1\n",
    b"\\u0000",
    b"\\ud800",
    b"\xff",
    b"\0",
    b"9223372036854775808",
    b"-9223372036854775808",
    b"1e999",
    b"-0",
    b"null",
    b"true",
    b"~",
    b"0x",
    b"\x12\x80\x80\x80\x80\x08",
    b"\x0a\x02\x0a\x00",
    b"\xff\xff\xff\xff\xff\xff\xff\xff\xff\x7f",
    b"\x2a\x00",
    b"k8s\0",
    "\u{2028}é".as_bytes(),
];

#[derive(Clone, Debug)]
enum Mutation {
    Flip(Index, u8),
    Cut(Index, Index),
    Double(Index, Index),
    Insert(Index, Index, usize),
}

fn mutation() -> impl Strategy<Value = Mutation> {
    prop_oneof![
        (any::<Index>(), any::<u8>()).prop_map(|(at, bits)| Mutation::Flip(at, bits)),
        (any::<Index>(), any::<Index>()).prop_map(|(a, b)| Mutation::Cut(a, b)),
        (any::<Index>(), any::<Index>()).prop_map(|(a, b)| Mutation::Double(a, b)),
        (any::<Index>(), any::<Index>(), prop_oneof![Just(1usize), 1..5usize, 90..400usize])
            .prop_map(|(at, word, times)| Mutation::Insert(at, word, times)),
    ]
}

/// A text that was good once.
fn mutated(seed: &'static [u8]) -> impl Strategy<Value = Vec<u8>> {
    prop::collection::vec(mutation(), 0..10).prop_map(|mutations| {
        let mut text = seed.to_vec();
        for mutation in mutations {
            mutate(&mut text, &mutation);
            text.truncate(64 * 1024);
        }
        text
    })
}

fn mutate(text: &mut Vec<u8>, mutation: &Mutation) {
    let place = |index: &Index, len: usize| index.index(len + 1);
    let range = |a: &Index, b: &Index, len: usize| {
        let (a, b) = (place(a, len), place(b, len));
        a.min(b)..a.max(b)
    };
    match mutation {
        Mutation::Flip(at, bits) if !text.is_empty() => {
            let at = at.index(text.len());
            text[at] ^= bits;
        }
        Mutation::Flip(..) => {}
        Mutation::Cut(a, b) => drop(text.drain(range(a, b, text.len()))),
        Mutation::Double(a, b) => {
            let range = range(a, b, text.len());
            let (end, copy) = (range.end, text[range].to_vec());
            text.splice(end..end, copy);
        }
        Mutation::Insert(at, word, times) => {
            let at = place(at, text.len());
            text.splice(at..at, word.get(WORDS).repeat(*times));
        }
    }
}

/// What any value must be, whoever made it; it can be written and read again.
fn check_bounded(value: &Value, bytes_max: usize) {
    let size = Size::of(value);
    assert!(size.depth <= DEPTH_MAX, "{} levels", size.depth);
    assert!(size.bytes <= bytes_max, "{} bytes, more than {bytes_max}", size.bytes);
    let text = value.to_string();
    let read = serde_json::from_str::<Value>(&text).expect("what was written reads back");
    assert_eq!(Size::of(&read).values, size.values);
}

/// Does all that a body goes through.
fn pass_through(value: Value) {
    let Some(kind) = KINDS.iter().find(|k| k.info().schema == POD) else { panic!("pods are served") };
    let findings = schema::check(schema::packed(POD), &value);
    assert!(findings.unknown.len() <= 100);
    if findings.error.is_some() {
        return;
    }
    live(*kind, value);
}

/// Does all that a kind does with an object of its own, right or wrong.
fn live(kind: &dyn ErasedKind, mut value: Value) {
    let now = "2026-01-01T00:00:00Z".parse().unwrap();
    schema::normalize(kind.definition(), &mut value);
    let Ok(mut obj) = kind.decode(value) else { return };
    kind.set_defaults(&mut *obj);
    kind.prepare_create(&mut *obj);
    drop((kind.validate(&*obj), kind.validate_create(&*obj), kind.warnings(&*obj)));
    drop((kind.selectable_fields(&*obj), kind.row(&*obj, now), kind.scale(&*obj)));
    let old = obj.clone_dyn();
    kind.prepare_update(&mut *obj, &*old);
    drop((kind.validate_update(&*obj, &*old), kind.validate_status(&*obj, &*old), kind.grace_period_secs(&*obj)));
    assert!(kind.decode_bytes(&kind.stored_bytes(&*obj)).is_ok());
}

proptest! {
    #[test]
    fn json_is_bounded(text in mutated(JSON)) {
        if let Ok(document) = read::parse_json(&text) {
            check_bounded(&document.value, 64 * text.len() + 1024);
            pass_through(document.value);
        }
    }

    #[test]
    fn yaml_is_bounded(text in mutated(YAML)) {
        if let Ok(document) = read::parse_yaml(&text) {
            check_bounded(&document.value, 64 * text.len() + 9 * 1024 * 1024);
            pass_through(document.value);
        }
        drop(read::parse_yaml_documents(&text));
    }

    #[test]
    fn protobuf_is_bounded(text in mutated(PROTOBUF)) {
        if let Ok(value) = protobuf::parse(&text) {
            check_bounded(&value, 256 * text.len() + 1024);
            pass_through(value);
        }
    }

    #[test]
    fn a_deep_body_of_any_sort_is_refused_or_bounded(word in any::<Index>(), times in 1..200_000usize) {
        let text = word.get(WORDS).repeat(times);
        for value in [read::parse_json(&text), read::parse_yaml(&text)].into_iter().flatten() {
            check_bounded(&value.value, 64 * text.len() + 9 * 1024 * 1024);
        }
        drop(protobuf::parse(&[PROTOBUF, &text].concat()));
    }

    #[test]
    fn json_patches_are_bounded(operations in prop::collection::vec(operation(), 0..12)) {
        let object = json!({ "a": { "b": [1, { "c": "d" }], "a": {} }, "l": [[], [0]], "~/": "x" });
        let patch = Value::Array(operations);
        let sizes = Size::of(&object).bytes + Size::of(&patch).bytes;
        if let Ok(patched) = json::apply(object, patch) {
            check_bounded(&patched, sizes + 64 * 3 * 1024 * 1024);
        }
    }

    #[test]
    fn merge_and_strategic_patches_are_bounded(object in patch_value(), patch in patch_value()) {
        let sizes = Size::of(&object).bytes + Size::of(&patch).bytes;
        if let Ok(patched) = merge::apply(object.clone(), patch.clone()) {
            check_bounded(&patched, sizes);
        }
        if let Ok(patched) = strategic::apply(object, patch, schema::packed(POD)) {
            check_bounded(&patched, sizes);
        }
    }

    #[test]
    fn selectors_are_bounded(text in "[a-c=!(),<> inot./\"\\\\é-]{0,40}|\\PC{0,20}") {
        if let Ok(selector) = LabelSelector::parse(&text) {
            let shown = selector.to_string();
            prop_assert!(shown.len() <= 4 * text.len() + 16);
            prop_assert!(LabelSelector::parse(&shown).is_ok(), "{shown}");
            selector.matches(&crate::base::ordered::Map::from([("a", "b".to_owned())]));
        }
        if let Ok(selector) = FieldSelector::parse(&text) {
            prop_assert!(selector.to_string().len() <= 4 * text.len() + 16);
        }
    }

    #[test]
    fn quantities_are_bounded(text in "[+-]?[0-9.]{0,60}([eE][0-9+-]{0,20}|[a-zA-Z]{0,3})|\\PC{0,20}") {
        if let Ok(quantity) = Quantity::parse(&text) {
            let shown = quantity.to_string();
            prop_assert!(shown.len() <= 64, "{shown}");
            prop_assert!(Quantity::parse(&shown).is_ok(), "{shown}");
            let sum = quantity.plus(quantity).rounded_to_millis();
            prop_assert!(sum.whole() >= sum.whole().min(quantity.whole()) && sum.millis() == sum.plus(Quantity::ZERO).millis());
            prop_assert!(quantity.nanos() == i64::MIN || quantity.nanos() == i64::MAX || quantity.is_negative() == (quantity.nanos() < 0));
        }
    }

    #[test]
    fn any_object_of_any_kind_with_any_numbers_is_judged_without_a_panic(kind in any::<Index>(), seed in any::<u64>()) {
        let kind = *kind.get(KINDS);
        let mut object = object_of(kind.info().schema, 7, &Rng::seeded(seed));
        object["metadata"]["name"] = json!("a");
        if schema::check(kind.definition(), &object).error.is_none() {
            live(kind, object);
        }
    }
}

fn operation() -> impl Strategy<Value = Value> {
    const PATHS: &[&str] = &[
        "",
        "/",
        "/a",
        "/a/b",
        "/a/b/0",
        "/a/b/-",
        "/a/b/-1",
        "/a/b/1/c",
        "/a/a",
        "/a/a/a",
        "/a/a/a/a/a/a",
        "/l",
        "/l/0",
        "/l/0/0",
        "/~0~1",
        "/x/y",
        "a",
        "/l/99999999999999999999",
        "/l/01",
    ];
    const KINDS: &[&str] = &["add", "remove", "replace", "move", "copy", "test", "other"];
    let path = || any::<Index>().prop_map(|i| *i.get(PATHS));
    let kind = any::<Index>().prop_map(|i| *i.get(KINDS));
    (kind, path(), path(), any::<Index>()).prop_map(|(op, path, from, depth)| {
        let deep = (0..depth.index(60)).fold(json!(1), |value, _| json!([value]));
        json!({ "op": op, "path": path, "from": from, "value": deep })
    })
}

/// Objects and patches with the directives at all the wrong places.
fn patch_value() -> impl Strategy<Value = Value> {
    const NAMES: &[&str] = &[
        "metadata",
        "spec",
        "containers",
        "ports",
        "env",
        "name",
        "containerPort",
        "finalizers",
        "volumes",
        "$patch",
        "$retainKeys",
        "$setElementOrder/containers",
        "$setElementOrder/finalizers",
        "$deleteFromPrimitiveList/finalizers",
        "labels",
    ];
    const TEXTS: &[&str] = &["a", "b", "delete", "replace", "merge", "spec", ""];
    let leaf = prop_oneof![
        any::<Index>().prop_map(|i| json!(*i.get(TEXTS))),
        Just(Value::Null),
        (0..3i64).prop_map(Value::from),
        Just(json!(true)),
    ];
    let name = || any::<Index>().prop_map(|i| (*i.get(NAMES)).to_owned());
    let value = leaf.prop_recursive(5, 48, 5, move |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..5).prop_map(Value::from),
            prop::collection::btree_map(name(), inner, 0..5).prop_map(|m| Value::Object(m.into_iter().collect())),
        ]
    });
    prop::collection::btree_map(any::<Index>().prop_map(|i| (*i.get(NAMES)).to_owned()), value, 0..5)
        .prop_map(|m| Value::Object(m.into_iter().collect()))
}

/// An object of a definition, with some of its fields and the numbers that arithmetic fears.
fn object_of(definition: &str, depth: usize, rng: &Rng) -> Value {
    let definition = Definition::find(definition).expect("it is published");
    value_of_definition(definition, depth, rng)
}

fn value_of_definition(definition: &Definition, depth: usize, rng: &Rng) -> Value {
    if let Some(kind) = &definition.value {
        return value_of(kind, depth, rng);
    }
    let mut fields = Map::new();
    for property in &definition.properties {
        if depth > 0 && (property.is_required || rng.one_in(2)) {
            fields.insert(property.name.to_string(), value_of(&property.kind, depth - 1, rng));
        }
    }
    Value::Object(fields)
}

fn value_of(kind: &Type, depth: usize, rng: &Rng) -> Value {
    const INT64: [i64; 8] = [0, 1, -1, 30, i64::MAX, i64::MIN, i64::MAX - 1, 4_294_967_296];
    const INT32: [i32; 8] = [0, 1, -1, 30, i32::MAX, i32::MIN, i32::MAX - 1, 65_536];
    const QUANTITIES: [&str; 8] = ["0", "1", "100m", "9223372036854775807", "-9223372036854775808", "9E", "1n", "1Ki"];
    const TEXTS: [&str; 12] = [
        "",
        "a",
        "10.0.0.1",
        "Always",
        "TCP",
        "ClusterIP",
        "/a/../b",
        "9223372036854775807",
        "200%",
        "9223372036854775807%",
        "$(A)",
        "metadata.name",
    ];
    const TIMES: [&str; 3] = ["0001-01-01T00:00:00Z", "9999-12-30T22:00:00Z", "2026-01-01T00:00:00Z"];
    fn pick<T: Copy>(of: &[T], rng: &Rng) -> T {
        of[usize::try_from(rng.between(0, of.len() as u64)).expect("small")]
    }
    match kind {
        Type::Bool => json!(rng.one_in(2)),
        Type::Int32 => json!(pick(&INT32, rng)),
        Type::Int64 => json!(pick(&INT64, rng)),
        Type::Number => json!(1e300),
        Type::Bytes => json!("aGk="),
        Type::Time => json!(pick(&TIMES, rng)),
        Type::MicroTime => json!("9999-12-30T22:00:00.000000Z"),
        Type::Quantity => json!(pick(&QUANTITIES, rng)),
        Type::IntOrString if rng.one_in(2) => json!(pick(&INT32, rng)),
        Type::String | Type::IntOrString => json!(pick(&TEXTS, rng)),
        Type::Any => json!({}),
        Type::Ref(id) => value_of_definition(id.get(), depth, rng),
        Type::Object(definition) => value_of_definition(definition, depth, rng),
        Type::List(inner) => (0..rng.between(0, 3)).map(|_| value_of(inner, depth, rng)).collect(),
        Type::Map(inner) => {
            let keys = ["a", "cpu", "memory", "A"].iter().filter(|_| rng.one_in(2));
            Value::Object(keys.map(|key| ((*key).to_owned(), value_of(inner, depth, rng))).collect())
        }
    }
}

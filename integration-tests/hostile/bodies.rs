//! Bodies that are no objects: JSON, YAML and protobuf that break rules, or grow when they are read.

use super::case::{CONFIG_MAPS, Case};

const YAML: &str = "application/yaml";
const PROTOBUF: &str = "application/vnd.kubernetes.protobuf";

/// A ConfigMap with this member after its metadata.
fn config_map(rest: &str) -> String {
    format!(r#"{{"apiVersion":"v1","kind":"ConfigMap","metadata":{{"name":"hostile"}}{rest}}}"#)
}

/// A ConfigMap with this metadata.
fn with_metadata(metadata: &str) -> String {
    format!(r#"{{"apiVersion":"v1","kind":"ConfigMap","metadata":{metadata}}}"#)
}

/// JSON that is broken, or not an object.
pub fn json() -> Vec<Case> {
    let deep = |open: &str, close: &str, n: usize| open.repeat(n) + &close.repeat(n);
    let broken: Vec<(&str, Vec<u8>)> = vec![
        ("nothing", Vec::new()),
        ("null", b"null".to_vec()),
        ("a list", b"[]".to_vec()),
        ("a number", b"1".to_vec()),
        ("a text", b"\"x\"".to_vec()),
        ("an open object", b"{".to_vec()),
        ("an open text", br#"{"kind":"#.to_vec()),
        ("NaN", br#"{"data": NaN}"#.to_vec()),
        ("two objects", (config_map("") + &config_map("")).into_bytes()),
        ("rubbish after it", (config_map("") + "x").into_bytes()),
        ("a comma too many", br#"{"kind":"ConfigMap",}"#.to_vec()),
        ("a lone surrogate as name", with_metadata(r#"{"name":"\ud800"}"#).into_bytes()),
        ("bytes that are no text", b"{\"kind\":\"\xff\xfe\"}".to_vec()),
        ("NUL in a key", config_map(r#","data":{"a\u0000":"b"}"#).into_bytes()),
        ("a mark of byte order", b"\xef\xbb\xbf[".to_vec()),
        ("100,000 open lists", "[".repeat(100_000).into_bytes()),
        ("100,000 lists", deep("[", "]", 100_000).into_bytes()),
        ("100,000 objects", deep(r#"{"a":"#, "}", 100_000).into_bytes()),
        ("1,000 objects in data", config_map(&format!(r#","data":{}"#, deep(r#"{"a":"#, "}", 1_000))).into_bytes()),
        ("a number beyond all", config_map(r#","immutable":1e999999"#).into_bytes()),
        ("a number of a million digits", format!("{{\"a\":{}}}", "9".repeat(1_000_000)).into_bytes()),
        ("a truth as name", with_metadata(r#"{"name":true}"#).into_bytes()),
        ("a list as metadata", with_metadata("[]").into_bytes()),
        ("another kind", br#"{"apiVersion":"v1","kind":"Secret","metadata":{"name":"x"}}"#.to_vec()),
        ("another group", br#"{"apiVersion":"apps/v1","kind":"ConfigMap","metadata":{"name":"x"}}"#.to_vec()),
        ("a kind that is a number", br#"{"apiVersion":"v1","kind":3,"metadata":{"name":"x"}}"#.to_vec()),
        ("a body of 3 MiB and more", config_map(&format!(r#","data":{{"a":"{}"}}"#, "x".repeat(3 << 20))).into_bytes()),
        (
            "a body above what is stored",
            config_map(&format!(r#","data":{{"a":"{}"}}"#, "x".repeat(1_100_000))).into_bytes(),
        ),
        ("data that is a number", config_map(r#","data":{"a":1}"#).into_bytes()),
        ("binary data that is no base64", config_map(r#","binaryData":{"a":"!"}"#).into_bytes()),
        ("a key with a slash", config_map(r#","data":{"a/b":"c"}"#).into_bytes()),
        ("a key with dots alone", config_map(r#","data":{"..":"c"}"#).into_bytes()),
        ("a key of 254 letters", config_map(&format!(r#","data":{{"{}":"c"}}"#, "k".repeat(254))).into_bytes()),
    ];
    broken.into_iter().map(|(name, body)| Case::json(format!("JSON: {name}"), CONFIG_MAPS, body)).collect()
}

/// Names, labels and the like that no object may have.
pub fn metadata() -> Vec<Case> {
    let names = ["", "A", "a/b", "..", ".", "a b", "-a", "a-", "a..b", "ä", "a%2fb", "a\\u0000", "a\\n"];
    let names = names.iter().map(|n| (format!("the name {n:?}"), format!(r#"{{"name":"{n}"}}"#)));
    let twenty_thousand: Vec<String> = (0..20_000).map(|n| format!(r#""-bad{n}-":"-v-""#)).collect();
    let others = [
        ("no name", "{}".to_owned()),
        ("a name of 254 letters", format!(r#"{{"name":"{}"}}"#, "a".repeat(254))),
        ("a name of a million letters", format!(r#"{{"name":"{}"}}"#, "a".repeat(1_000_000))),
        ("another namespace", r#"{"name":"x","namespace":"kube-system"}"#.to_owned()),
        ("a label with two slashes", r#"{"name":"x","labels":{"a/b/c":"d"}}"#.to_owned()),
        ("a label without a name", r#"{"name":"x","labels":{"a/":"d"}}"#.to_owned()),
        ("a label of 64 letters", format!(r#"{{"name":"x","labels":{{"a":"{}"}}}}"#, "v".repeat(64))),
        ("a label with a line end", r#"{"name":"x","labels":{"a":"b\n"}}"#.to_owned()),
        ("20,000 bad labels", format!(r#"{{"name":"x","labels":{{{}}}}}"#, twenty_thousand.join(","))),
        ("annotations above 256 KiB", format!(r#"{{"name":"x","annotations":{{"a":"{}"}}}}"#, "v".repeat(262_200))),
        ("an annotation with a bad name", r#"{"name":"x","annotations":{"a b":"c"}}"#.to_owned()),
        ("a finalizer without a domain", r#"{"name":"x","finalizers":["mine"]}"#.to_owned()),
        ("an owner without a uid", r#"{"name":"x","ownerReferences":[{"apiVersion":"v1","kind":"Pod","name":"p"}]}"#.to_owned()),
        ("two controllers", r#"{"name":"x","ownerReferences":[{"apiVersion":"v1","kind":"Pod","name":"p","uid":"1","controller":true},{"apiVersion":"v1","kind":"Pod","name":"q","uid":"2","controller":true}]}"#.to_owned()),
        ("a time that is none", r#"{"name":"x","creationTimestamp":"yesterday"}"#.to_owned()),
        ("a revision to begin with", r#"{"name":"x","resourceVersion":"1"}"#.to_owned()),
        ("a generated name that is bad", r#"{"generateName":"-A"}"#.to_owned()),
    ];
    let others = others.into_iter().map(|(name, metadata)| (name.to_owned(), metadata));
    names
        .chain(others)
        .map(|(name, metadata)| Case::json(format!("metadata: {name}"), CONFIG_MAPS, with_metadata(&metadata)))
        .collect()
}

/// Nine anchors, each ten times the one before: a kilobyte that means a billion.
fn laughs() -> String {
    let mut text = "a0: &a0 [x, x, x, x, x, x, x, x, x, x]\n".to_owned();
    for n in 1..9 {
        let all = vec![format!("*a{}", n - 1); 10].join(", ");
        text += &format!("a{n}: &a{n} [{all}]\n");
    }
    text
}

/// An anchor in an anchor, many thousand deep.
fn nested_anchors(n: usize) -> String {
    (0..n).map(|at| format!("&a{at} [")).collect::<String>() + &"]".repeat(n)
}

/// Anchors side by side, each holding the one before twice.
fn doubling_anchors(n: usize) -> String {
    let first = "a0: &a0 {k: v}\n".to_owned();
    (1..n).fold(first, |text, at| text + &format!("a{at}: &a{at} {{l: *a{before}, r: *a{before}}}\n", before = at - 1))
}

/// YAML that is broken, or grows when it is read.
pub fn yaml() -> Vec<Case> {
    let head = "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: hostile}\n";
    let cases = [
        ("a billion laughs", head.to_owned() + &laughs()),
        ("anchors in anchors", format!("{head}data: {}", nested_anchors(20_000))),
        ("anchors that double", head.to_owned() + &doubling_anchors(40)),
        ("an alias of nothing", format!("{head}data: *nothing")),
        ("an alias of itself", format!("{head}data: &a [*a]")),
        ("a merge of a scalar", format!("{head}data:\n  <<: 3\n")),
        ("a tag of a language", format!("{head}data: !!python/object/apply:os.system ['true']")),
        ("a tab as indent", "kind:\n\t- a".to_owned()),
        ("100,000 open lists", format!("{head}data: {}", "[".repeat(100_000))),
        ("100,000 lists", format!("{head}data: {}{}", "[".repeat(100_000), "]".repeat(100_000))),
        ("100,000 dashes", format!("{head}data: {}", "- ".repeat(100_000))),
        ("10,000 keys that are asked", format!("{head}data: {}", "? ".repeat(10_000))),
        ("an open quote", format!("{head}data: \"")),
        ("a directive", "%YAML 9.9\n---\na: b".to_owned()),
        ("a list as key", format!("{head}data: {{[a, b]: c}}")),
        ("the same key twice", "apiVersion: v1\nkind: [\nkind: ConfigMap".to_owned()),
        ("nothing but comments", "# a\n# b\n".to_owned()),
        ("one long scalar", format!("{head}data: {}", "x".repeat(1_000_000))),
    ];
    cases.into_iter().map(|(name, body)| Case::post(format!("YAML: {name}"), CONFIG_MAPS, YAML, body)).collect()
}

/// A protobuf field of bytes after its key.
fn delimited(key: u8, content: &[u8]) -> Vec<u8> {
    let mut bytes = vec![key];
    let mut length = content.len();
    while length >= 0x80 {
        bytes.push(u8::try_from(length & 0x7f).unwrap() | 0x80);
        length >>= 7;
    }
    bytes.push(u8::try_from(length).unwrap());
    bytes.extend_from_slice(content);
    bytes
}

/// Protobuf that is broken, or claims more than it holds.
pub fn protobuf() -> Vec<Case> {
    // runtime.Unknown: type meta (1) of v1 ConfigMap, then the raw object (2).
    let meta = delimited(0x0a, b"\x0a\x02v1\x12\x09ConfigMap");
    let unknown = |raw: &[u8]| [b"k8s\x00", &meta[..], &delimited(0x12, raw)].concat();
    let nested = (0..2_000).fold(Vec::new(), |inner, _| delimited(0x0a, &inner));
    let cases: Vec<(&str, Vec<u8>)> = vec![
        ("nothing", Vec::new()),
        ("the mark alone", b"k8s\x00".to_vec()),
        ("another mark", b"k8t\x00\x0a\x00".to_vec()),
        ("JSON", b"{}".to_vec()),
        ("a length beyond its end", b"k8s\x00\x0a\xff\xff\xff\xff\x0f".to_vec()),
        ("a number that never ends", [b"k8s\x00\x0a".as_slice(), &[0xff; 64]].concat()),
        ("a wire type that is none", b"k8s\x00\x0f".to_vec()),
        ("field zero", b"k8s\x00\x00".to_vec()),
        ("an open group", b"k8s\x00\x0b".to_vec()),
        ("an object that is rubbish", unknown(&[0xff; 100])),
        ("an object cut short", unknown(b"\x0a\x7f\x0a")),
        ("objects in objects", unknown(&nested)),
        ("a name that is no text", unknown(b"\x0a\x04\x0a\x02\xff\xfe")),
        ("an object without a name", unknown(b"")),
    ];
    cases.into_iter().map(|(name, body)| Case::post(format!("protobuf: {name}"), CONFIG_MAPS, PROTOBUF, body)).collect()
}

//! Patches that break rules, or grow when they are applied.

use super::case::{Case, PODS, VICTIM};

const JSON: &str = "application/json-patch+json";
const MERGE: &str = "application/merge-patch+json";
const STRATEGIC: &str = "application/strategic-merge-patch+json";

/// Each operation copies all that is there beside itself.
fn doubling(n: usize) -> String {
    let ops: Vec<String> =
        (0..n).map(|at| format!(r#"{{"op":"copy","from":"/metadata","path":"/metadata/c{at}"}}"#)).collect();
    format!("[{}]", ops.join(","))
}

/// Each operation copies a value into its own leaf, so that depth doubles.
fn into_own_leaf(n: usize) -> String {
    let mut ops = vec![r#"{"op":"add","path":"/data","value":{"a":{}}}"#.to_owned()];
    let mut leaf = "/data/a".to_owned();
    for _ in 0..n {
        ops.push(format!(r#"{{"op":"copy","from":"/data","path":"{leaf}/a"}}"#));
        leaf = format!("{leaf}{}", "/a".repeat(leaf.matches("/a").count()));
    }
    format!("[{}]", ops.join(","))
}

/// JSON patches.
pub fn json() -> Vec<Case> {
    let add = |path: &str, value: &str| format!(r#"[{{"op":"add","path":"{path}","value":{value}}}]"#);
    let many = vec![r#"{"op":"test","path":"/kind","value":"ConfigMap"}"#; 10_001].join(",");
    let deep = "{\"a\":".repeat(5_000) + "1" + &"}".repeat(5_000);
    let cases = [
        ("nothing", String::new()),
        ("an object", "{}".into()),
        ("a list of numbers", "[1]".into()),
        ("an operation that is none", r#"[{"op":"explode","path":"/data"}]"#.into()),
        ("no path", r#"[{"op":"remove"}]"#.into()),
        ("a path without a slash", add("data", "{}")),
        ("a path with a bad escape", r#"[{"op":"remove","path":"/~2"}]"#.into()),
        ("an index far out", add("/metadata/finalizers/99999999999999999999", "\"a.b/c\"")),
        ("an index with a sign", add("/metadata/finalizers/-1", "\"a.b/c\"")),
        ("removal of what is not there", r#"[{"op":"remove","path":"/data/none"}]"#.into()),
        ("removal of all", r#"[{"op":"remove","path":""}]"#.into()),
        ("a text as whole", add("", "\"x\"")),
        ("a move into its own child", r#"[{"op":"move","from":"/metadata","path":"/metadata/labels/x"}]"#.into()),
        ("copies that double", doubling(30)),
        ("a copy into its own leaf, eight times", into_own_leaf(8)),
        ("a copy into its own leaf, fourteen times", into_own_leaf(14)),
        ("10,001 operations", format!("[{many}]")),
        ("a value 5,000 deep", add("/data", &deep)),
        ("another name", add("/metadata/name", "\"other\"")),
        ("another kind", add("/kind", "\"Secret\"")),
        ("a test that fails", r#"[{"op":"test","path":"/kind","value":"Pod"}]"#.into()),
    ];
    let dry = Case {
        path: format!("{VICTIM}?dryRun=All"),
        ..Case::patch("a dry copy into its own leaf", JSON, into_own_leaf(8))
    };
    let all = cases.into_iter().map(|(name, body)| Case::patch(format!("JSON patch: {name}"), JSON, body));
    all.chain([dry]).collect()
}

/// Merge patches, and content types that are none.
pub fn merge() -> Vec<Case> {
    let deep = "{\"a\":".repeat(100_000) + "1" + &"}".repeat(100_000);
    let cases = [
        ("nothing", MERGE, String::new()),
        ("a list", MERGE, "[]".into()),
        ("a text", MERGE, "\"x\"".into()),
        ("100,000 objects", MERGE, deep.clone()),
        ("1,000 objects", MERGE, format!("{{\"data\":{}1{}}}", "{\"a\":".repeat(1_000), "}".repeat(1_000))),
        ("another uid", MERGE, r#"{"metadata":{"uid":"x"}}"#.into()),
        ("a revision of the past", MERGE, r#"{"metadata":{"resourceVersion":"1"}}"#.into()),
        ("plain JSON", "application/json", "{}".into()),
        ("a type that is none", "text/plain; charset=x", "{}".into()),
        ("100,000 objects", STRATEGIC, deep),
    ];
    cases.into_iter().map(|(name, kind, body)| Case::patch(format!("merge patch: {name}"), kind, body)).collect()
}

/// Strategic merge patches of a pod that waits for its schedule.
pub fn strategic() -> Vec<Case> {
    let containers = |entry: &str| format!(r#"{{"spec":{{"containers":{entry}}}}}"#);
    let thousands: Vec<String> = (0..10_000).map(|n| format!(r#"{{"name":"c{n}","image":"i"}}"#)).collect();
    let cases = [
        ("an order that is none", containers(r#"[{"$patch":"explode","name":"c"}]"#)),
        ("a container without its key", containers(r#"[{"image":"i"}]"#)),
        ("containers that are a text", containers("\"x\"")),
        ("containers that are numbers", containers("[1,2]")),
        ("keys to keep that are no list", r#"{"spec":{"$retainKeys":"x"}}"#.into()),
        ("an order of elements that is no list", r#"{"spec":{"$setElementOrder/containers":3}}"#.into()),
        (
            "an order that lacks its own",
            r#"{"spec":{"$setElementOrder/containers":[{"name":"z"}],"containers":[{"name":"y","image":"i"}]}}"#.into(),
        ),
        ("deletion from a list that is none", r#"{"metadata":{"$deleteFromPrimitiveList/finalizers":{"a":1}}}"#.into()),
        ("10,000 containers", containers(&format!("[{}]", thousands.join(",")))),
    ];
    let path = format!("{PODS}/victim");
    cases
        .into_iter()
        .map(|(name, body)| Case {
            path: path.clone(),
            ..Case::patch(format!("strategic patch: {name}"), STRATEGIC, body)
        })
        .collect()
}

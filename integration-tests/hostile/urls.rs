//! Paths, questions and headers that break rules.

use super::case::{CONFIG_MAPS, Case, PODS, VICTIM};

/// The largest number that a client can send in 64 bits.
const MOST: &str = "9223372036854775807";

/// Paths that lead nowhere.
pub fn paths() -> Vec<Case> {
    let paths = [
        "/api/v1/namespaces/default/configmaps/../../../../etc/passwd".to_owned(),
        "/api/v1/namespaces/default/configmaps/%2e%2e%2f%2e%2e%2fetc%2fpasswd".into(),
        "/api/v1/namespaces/default/configmaps/%00".into(),
        "/api/v1/namespaces/default/configmaps/%ff%fe".into(),
        "/api/v1/namespaces/default/configmaps/a%0d%0aX: y".replace(' ', "%20"),
        "/api/v1/namespaces/%2f/configmaps".into(),
        format!("/api/v1/namespaces/{}/configmaps/x", "n".repeat(10_000)),
        format!("/api/v1/{}", "a/".repeat(5_000)),
        "/api/v9/pods".into(),
        "/apis/none.invalid/v1/things".into(),
        "/apis/apps/v1/namespaces/default/deployments/x/scale/more/and/more".into(),
        "/api/v1/namespaces/default/pods/victim/none".into(),
        "//api//v1//pods//".into(),
        "/healthz/../../etc".into(),
        "/openapi/v3/../../../etc/passwd".into(),
        "/logs/../../etc/passwd".into(),
        "/debug/pprof/heap".into(),
    ];
    paths
        .into_iter()
        .map(|path| Case::get(format!("path: {}", path.chars().take(80).collect::<String>()), path))
        .collect()
}

/// Questions with values that are none.
pub fn queries() -> Vec<Case> {
    let values: Vec<String> = (0..3_000).map(|n| format!("v{n}")).collect();
    let selector = |text: &str| {
        let encoded: String = form_urlencoded::byte_serialize(text.as_bytes()).collect();
        format!("labelSelector={encoded}")
    };
    let refused = [
        selector("a in (b"),
        selector("a notin"),
        selector("a,,b"),
        selector("=="),
        selector("!"),
        selector("a>b"),
        selector(&"(".repeat(20_000)),
        selector(&"a in (b),".repeat(3_000)),
        selector("-bad-=x"),
        selector("a=\0"),
        "fieldSelector=spec.none%3D1".into(),
        "fieldSelector=%3D%3D%3D".into(),
        "limit=abc".into(),
        "limit=99999999999999999999".into(),
        "continue=rubbish".into(),
        "continue=eyJ2IjoibWV0YS5rOHMuaW8vdjEiLCJydiI6LTEsInN0YXJ0IjoiLi4vLi4vIn0".into(),
        "resourceVersion=abc".into(),
        "resourceVersion=-1".into(),
        "resourceVersion=99999999999999999999".into(),
        "resourceVersionMatch=Exact".into(),
        "resourceVersionMatch=Bogus&resourceVersion=1".into(),
        "watch=true&resourceVersion=abc".into(),
        "watch=true&sendInitialEvents=true".into(),
        "watch=true&timeoutSeconds=abc".into(),
    ];
    let answered = [
        selector("a in ()"),
        format!("limit=-{MOST}"),
        format!("limit={MOST}"),
        format!("timeoutSeconds={MOST}"),
        format!("timeoutSeconds=-{MOST}"),
        selector(&format!("a in ({})", values.join(","))),
        format!("pretty={}", "x".repeat(10_000)),
        "a=b&".repeat(2_000),
        "%".into(),
        "%ff=%fe".into(),
        "watch=maybe&timeoutSeconds=1".into(),
    ];
    let list = |q: String| {
        Case::get(format!("list: {}", q.chars().take(80).collect::<String>()), format!("{CONFIG_MAPS}?{q}"))
    };
    let log = |q: String| Case::get(format!("log: {q}"), format!("{PODS}/victim/log?{q}")).answered();
    let logs = [
        format!("sinceSeconds={MOST}"),
        "sinceSeconds=-1".into(),
        "sinceSeconds=0".into(),
        format!("tailLines={MOST}"),
        "tailLines=-1".into(),
        "limitBytes=0".into(),
        format!("limitBytes={MOST}"),
        "sinceTime=yesterday".into(),
        "sinceTime=9999-12-31T23:59:59Z".into(),
        "sinceTime=0000-01-01T00:00:00Z".into(),
        "container=none".into(),
        "container=..%2f..%2fetc".into(),
        "previous=maybe".into(),
        "follow=maybe".into(),
        "stream=Neither".into(),
    ];
    let all = refused.into_iter().map(list).chain(answered.into_iter().map(|q| list(q).answered()));
    all.chain(logs.into_iter().map(log)).collect()
}

/// Deletions and writes with options that are none.
pub fn options() -> Vec<Case> {
    let delete = |body: &str| Case { method: "DELETE", ..Case::json(format!("delete: {body}"), VICTIM, body) };
    let bodies = [
        r#"{"gracePeriodSeconds":"x"}"#,
        r#"{"propagationPolicy":"Bogus"}"#,
        r#"{"propagationPolicy":"Orphan","orphanDependents":true}"#,
        r#"{"preconditions":{"uid":"another"}}"#,
        r#"{"preconditions":{"resourceVersion":"1"}}"#,
        r#"{"dryRun":["Some"]}"#,
        r#"{"kind":"Bogus","apiVersion":"v1"}"#,
        "[",
    ];
    let object = r#"{"apiVersion":"v1","kind":"ConfigMap","metadata":{"name":"hostile"}}"#;
    let queries =
        ["dryRun=Some", "fieldValidation=Bogus", "fieldManager=%00", &format!("fieldManager={}", "m".repeat(129))].map(
            |q| {
                Case::json(
                    format!("create: {}", q.chars().take(40).collect::<String>()),
                    &format!("{CONFIG_MAPS}?{q}"),
                    object,
                )
            },
        );
    let url = ["gracePeriodSeconds=abc", "propagationPolicy=Bogus", "dryRun=Some"]
        .map(|q| Case { method: "DELETE", ..Case::json(format!("delete: {q}"), &format!("{VICTIM}?{q}"), Vec::new()) });
    let dry = |grace: String| {
        let body = format!(r#"{{"gracePeriodSeconds":{grace},"dryRun":["All"]}}"#);
        Case { path: format!("{PODS}/victim"), ..delete(&body) }.answered()
    };
    let methods = ["TRACE", "CONNECT", "PROPFIND", "BREW"].map(|method| Case {
        method,
        path: VICTIM.into(),
        ..Case::get(format!("the method {method}"), "")
    });
    let methods = methods.into_iter().filter(|case| case.method != "CONNECT");
    bodies
        .map(delete)
        .into_iter()
        .chain(queries)
        .chain(url)
        .chain([dry(MOST.to_owned()), dry(format!("-{MOST}")), dry("-1".to_owned())])
        .chain(methods)
        .collect()
}

/// Headers that claim to be another, or mean nothing.
pub fn headers() -> Vec<Case> {
    let list = |name: &str| Case::get(format!("header: {name}"), PODS);
    let token = |name: &str, token: String| {
        // The connection has a certificate, so a token that means nothing changes nothing, or is refused: never a fault.
        list(name).header("authorization", token).answered()
    };
    vec![
        list("another user").header("impersonate-user", "nobody"),
        list("a group without a user").header("impersonate-group", "system:masters"),
        list("an extra without a user").header("impersonate-extra-a", "b"),
        list("a uid without a user").header("impersonate-uid", "x"),
        list("another service account").header("impersonate-user", "system:serviceaccount:default:default"),
        list("another user of a plain group").header("impersonate-user", "x").header("impersonate-group", "people"),
        token("an empty token", "Bearer ".into()),
        token("a token that is none", "Bearer rubbish".into()),
        token("an unsigned token", "Bearer eyJhbGciOiJub25lIn0.eyJzdWIiOiJzeXN0ZW06YWRtaW4ifQ.".into()),
        token("a token of 60 KB", format!("Bearer {}", "x".repeat(60_000))),
        token("a name and a password", "Basic cm9vdDpyb290".into()),
        list("an answer that nobody knows").header("accept", "application/x-nothing"),
        list("an answer with a weight that is none").header("accept", "application/json;q=x").answered(),
        list("a table of a version that is none").header("accept", "application/json;as=Table;v=v9;g=meta.k8s.io"),
        list("a range").header("range", "bytes=0-99999999999").answered(),
        list("an encoding that is none").header("accept-encoding", "zip;q=9,*;q=0").answered(),
        list("a long list of answers").header("accept", "text/x,".repeat(5_000)).answered(),
        Case::post("a body in an encoding", CONFIG_MAPS, "application/json", b"\x1f\x8b\x08\x00".to_vec())
            .header("content-encoding", "gzip"),
        Case::post("a body of a type with rubbish", CONFIG_MAPS, "application/json; charset=\"", b"{}".to_vec()),
        Case::post("a form", CONFIG_MAPS, "application/x-www-form-urlencoded", b"a=b".to_vec()),
    ]
}

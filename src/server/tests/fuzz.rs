//! Requests that nobody would send: whatever is in them gets an answer, and none is the server's fault.
//!
//! Every decoder is behind this door: URLs, queries and selectors, media types, JSON, YAML, protobuf and patches. Texts are taken from a
//! corpus and broken in a few places, from a seed that a failure prints.
//! `SKIFF_FUZZ_REQUESTS=1000000 cargo test --lib fuzz` runs for as long as one likes, `SKIFF_FUZZ_SEED` runs one seed again.

use super::*;
use crate::{api::schema::protobuf::any_document, base::rng::Rng};

/// Requests of a run in CI; each seed begins with an empty server.
const REQUESTS: u64 = 3_000;
const REQUESTS_PER_SEED: u64 = 250;

const METHODS: &[&str] = &["GET", "POST", "PUT", "PATCH", "DELETE", "HEAD", "OPTIONS"];
const URLS: &[&str] = &[
    "/api/v1/namespaces/default/configmaps/a",
    "/api/v1/namespaces/default/configmaps?labelSelector=a%20in%20(b,c),!d,e%3D%3Df&fieldSelector=metadata.name!%3Dx&limit=2",
    "/api/v1/namespaces/default/configmaps?watch=1&resourceVersion=3&allowWatchBookmarks=true&timeoutSeconds=1",
    "/api/v1/configmaps?sendInitialEvents=true&resourceVersionMatch=NotOlderThan&watch=true&timeoutSeconds=1",
    "/api/v1/configmaps?continue=eyJ2IjoibWV0YS5rOHMuaW8vdjEiLCJydiI6MSwic3RhcnQiOiJjb3JlL2NvbmZpZ21hcHMvZGVmYXVsdC9hIn0&limit=1",
    "/api/v1/namespaces/default/pods/p/log?tailLines=2&sinceTime=2026-01-01T00:00:00Z&follow=false",
    "/api/v1/namespaces/default/pods/p/status?fieldManager=x&fieldValidation=Strict&dryRun=All",
    "/apis/apps/v1/namespaces/default/deployments/web/scale",
    "/apis/apps/v1/namespaces/default/deployments?fieldManager=fuzz&force=true",
    "/apis/apps/v1/namespaces/default/deployments/web?fieldManager=fuzz&force=true",
    "/apis/admissionregistration.k8s.io/v1/validatingwebhookconfigurations/a?pretty=true",
    "/api/v1/watch/namespaces/default/configmaps/a?timeoutSeconds=1",
    "/apis/authorization.k8s.io/v1/selfsubjectaccessreviews",
    "/apis/apiextensions.k8s.io/v1/customresourcedefinitions",
    "/openapi/v3/apis/apps/v1?hash=0",
    "/apis/apps/v1",
    "/readyz/store?verbose&exclude=a",
];
const TYPES: &[&str] = &[
    "application/json",
    "application/yaml",
    "application/vnd.kubernetes.protobuf",
    "application/merge-patch+json",
    "application/json-patch+json",
    "application/strategic-merge-patch+json",
    "application/apply-patch+yaml",
];
const ACCEPTS: &[&str] = &[
    "application/json",
    "application/yaml;q=0.9,*/*;q=0.1",
    "application/vnd.kubernetes.protobuf",
    "application/vnd.kubernetes.protobuf;stream=watch",
    "application/json;as=Table;v=v1;g=meta.k8s.io",
    "application/vnd.kubernetes.protobuf;as=PartialObjectMetadataList;v=v1;g=meta.k8s.io",
    "application/json;g=apidiscovery.k8s.io;v=v2;as=APIGroupDiscoveryList",
];
const BODIES: &[&str] = &[
    r#"{"apiVersion":"v1","kind":"ConfigMap","metadata":{"name":"a","labels":{"a":"b"}},"data":{"k":"v"},"binaryData":{"b":"AP8="}}"#,
    r#"{"apiVersion":"apps/v1","kind":"Deployment","metadata":{"name":"web"},"spec":{"replicas":2,"selector":{"matchLabels":{"a":"b"}},"template":{"metadata":{"labels":{"a":"b"}},"spec":{"containers":[{"name":"c","image":"i","ports":[{"containerPort":80}],"resources":{"limits":{"cpu":"100m"}},"livenessProbe":{"httpGet":{"port":"http"}}}]}}}}"#,
    r#"{"apiVersion":"autoscaling/v1","kind":"Scale","metadata":{"name":"web"},"spec":{"replicas":3}}"#,
    r#"{"metadata":{"labels":{"$patch":"replace","x":null}},"spec":{"template":{"spec":{"containers":[{"name":"c","$patch":"delete"}],"$setElementOrder/containers":[{"name":"c"}]}}}}"#,
    r#"[{"op":"test","path":"/data/k","value":"v"},{"op":"move","from":"/data/k","path":"/data/~1n"},{"op":"copy","from":"","path":"/data/-"}]"#,
    r#"{"kind":"DeleteOptions","apiVersion":"v1","gracePeriodSeconds":0,"propagationPolicy":"Orphan","preconditions":{"uid":"x"}}"#,
    r#"{"spec":{"resourceAttributes":{"verb":"get","resource":"pods"}}}"#,
    "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: &a b, labels: {<<: *a}}\ndata:\n  k: |\n    text\n  n: !!str 7\n---\n",
    r#"{"apiVersion":"admissionregistration.k8s.io/v1","kind":"ValidatingWebhookConfiguration","metadata":{"name":"a"},"webhooks":[{"name":"a.b.c","clientConfig":{"url":"https://x/y"},"rules":[{"operations":["*"],"apiGroups":["*"],"apiVersions":["*"],"resources":["*/*"]}],"sideEffects":"None","admissionReviewVersions":["v1"]}]}"#,
];
const WORDS: &[&str] = &[
    "%2F",
    "%00",
    "%",
    "..",
    "/",
    "?",
    "&",
    "=",
    "!=",
    ",",
    ";",
    "{",
    "}",
    "[",
    "]",
    "\"",
    "\\u0000",
    "null",
    "-1",
    "0",
    "1e999",
    "99999999999999999999",
    "é",
    "\u{feff}",
    "~0",
    "~1",
    "$patch",
    "*",
    "metadata",
    ": ",
    "- ",
    "\n",
    "\0",
    "&a",
    "*a",
    "!!binary",
];

/// Breaks a text in a few places.
fn broken(text: &[u8], others: &[&str], rng: &Rng) -> Vec<u8> {
    let mut text = text.to_vec();
    let place = |text: &[u8]| usize::try_from(rng.between(0, text.len() as u64 + 1)).unwrap();
    for _ in 0..rng.between(0, 4) {
        let (a, b) = (place(&text), place(&text));
        let span = a.min(b)..a.max(b).min(a.min(b) + 24);
        let other = one(others, rng).as_bytes();
        let new: Vec<u8> = match rng.between(0, 6) {
            0 => Vec::new(),
            1 => vec![u8::try_from(rng.between(0, 256)).unwrap(); 1 + span.len() / 4],
            2 => text[span.clone()].repeat(2),
            3 => other[place(other)..].iter().copied().take(40).collect(),
            4 => text[span.clone()].iter().rev().copied().collect(),
            _ => one(WORDS, rng).as_bytes().to_vec(),
        };
        text.splice(span, new);
    }
    text
}

fn one<'a>(of: &[&'a str], rng: &Rng) -> &'a str {
    of[usize::try_from(rng.between(0, of.len() as u64)).unwrap()]
}

fn request(rng: &Rng) -> Option<http::Request<Full<Bytes>>> {
    let url = String::from_utf8(broken(one(URLS, rng).as_bytes(), URLS, rng)).ok()?;
    let mut body = broken(one(BODIES, rng).as_bytes(), BODIES, rng);
    let mut content_type = one(TYPES, rng).to_owned();
    if rng.one_in(3)
        && let Ok(Some(document)) = any_document(one(BODIES, rng).as_bytes())
    {
        body = broken(&document, BODIES, rng);
        TYPES[2].clone_into(&mut content_type);
    }
    let accept = String::from_utf8(broken(one(ACCEPTS, rng).as_bytes(), ACCEPTS, rng)).ok()?;
    let request = http::Request::builder().method(one(METHODS, rng)).uri(url.trim_end_matches('#'));
    let request = request.header("content-type", content_type).header("accept", accept).header("user-agent", "fuzz/1");
    request.body(Full::new(body.into())).ok()
}

async fn run(seed: u64) {
    let desk = Desk::open().await;
    let rng = Rng::seeded(seed);
    desk.pod("p").await;
    for n in 0..REQUESTS_PER_SEED {
        let Some(request) = request(&rng) else { continue };
        let shown = format!("seed {seed}, request {n}: {request:?}");
        let peer = Peer { user: Some(admin()), address: "fuzz".to_owned(), ticket: None, room: None, alive: None };
        let response = handle(desk.state.clone(), peer, desk.drain.clone(), request).await;
        let code = response.status().as_u16();
        assert!(code < 500 || code == 504, "{code} for {shown}");
        // A stream that goes on is left; what ends is read to its end.
        let body = tokio::time::timeout(Duration::from_secs(5), response.into_body().collect()).await;
        assert!(!matches!(body, Ok(Err(_))), "its answer broke off: {shown}");
    }
    assert_eq!(desk.get("/api/v1/configmaps").await.code, 200, "seed {seed}");
}

#[tokio::test(start_paused = true)]
async fn whatever_is_asked_has_an_answer_that_is_no_fault_of_the_server() {
    let number = |name: &str| std::env::var(name).ok().and_then(|text| text.parse::<u64>().ok());
    if let Some(seed) = number("SKIFF_FUZZ_SEED") {
        return run(seed).await;
    }
    let first = Rng::from_system().between(0, u64::MAX / 2);
    for seed in 0..number("SKIFF_FUZZ_REQUESTS").unwrap_or(REQUESTS) / REQUESTS_PER_SEED {
        run(first + seed).await;
    }
}

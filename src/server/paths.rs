//! Answers the plain paths: discovery, OpenAPI, version, health, metrics.
//!
//! Called by `handle`. May call `discovery`, `documents`, `health`, `api::schema::openapi`.

use super::{
    ServerState, discovery,
    documents::Documents,
    health,
    media::{self, Format, Offer, Output, Protobuf, Shape},
    oauth,
    request::Request,
    respond::{self, Response, full, respond},
};
use crate::{
    api::{
        kinds::Kinds,
        schema::{openapi, swagger},
        status::ApiError,
    },
    store,
};
use bytes::Bytes;
use http::{HeaderValue, Method, header};
use serde_json::{Value, json};

const AGGREGATED: &str = "application/json;g=apidiscovery.k8s.io;v=v2;as=APIGroupDiscoveryList";

/// What clients call OpenAPI v2 in protobuf: with the dot that the first servers wrote, and without.
const PROTOBUF_V2: [&str; 2] = [
    "application/com.github.proto-openapi.spec.v2.v1.0+protobuf",
    "application/com.github.proto-openapi.spec.v2@v1.0+protobuf",
];

/// Answers a request for a plain path.
pub(super) fn answer(state: &ServerState, request: &Request, path: &str) -> Result<Response, ApiError> {
    if let ("/skiff/dashboard", &Method::POST) = (path, &request.method) {
        return dashboard(state, request);
    }
    let documents = state.documents();
    let kinds = documents.kinds();
    if !matches!(request.method, Method::GET | Method::HEAD) {
        return Err(if is_known(kinds, path) { ApiError::MethodNotAllowed } else { ApiError::NoSuchResource });
    }
    let parts: Vec<&str> = path.trim_matches('/').split('/').collect();
    match parts.as_slice() {
        [""] => in_any_case(request, &discovery::paths(kinds)),
        ["version"] => in_any_case(request, &discovery::version()),
        ["api"] => groups(request, &documents, true, || discovery::core_versions(kinds, &host(request))),
        ["apis"] => groups(request, &documents, false, || discovery::group_list(kinds)),
        ["apis", group] => found(request, discovery::group(kinds, group)),
        ["api", version] => found(request, discovery::resources(kinds, "", version)),
        ["apis", group, version] => found(request, discovery::resources(kinds, group, version)),
        ["openapi", "v2"] => Ok(openapi_v2(request, &documents)),
        ["openapi", "v3"] => in_any_case(request, &openapi::index(documents.hashes())),
        ["openapi", "v3", name @ ..] => openapi(request, &documents, &name.join("/")),
        [".well-known", "oauth-authorization-server"] if oauth::is_served(kinds) => {
            in_any_case(request, &oauth::metadata(&host(request)))
        }
        ["oauth", "authorize"] if oauth::is_served(kinds) => Ok(oauth::refusal(&host(request))),
        ["oauth", "token", "implicit"] if oauth::is_served(kinds) => Ok(respond::text(200, oauth::NO_PASSWORDS)),
        [".well-known", "openid-configuration"] => plain(request, &state.tokens().issuer_document()),
        ["openid", "v1", "jwks"] => plain(request, &state.tokens().key_set()),
        // What `skiff snapshot save` keeps; who may read every Secret and no one else may.
        ["skiff", "snapshot"] => Ok(snapshot(state)),
        ["metrics"] => Ok(respond::text(200, state.metrics_text())),
        [endpoint @ ("healthz" | "livez" | "readyz")] => health(state, request, endpoint, None),
        [endpoint @ ("healthz" | "livez" | "readyz"), check] => health(state, request, endpoint, Some(check)),
        _ => Err(ApiError::NoSuchResource),
    }
}

/// A link into the dashboard, for `skiff open`: whoever may do anything at all may have one, and no one else.
fn dashboard(state: &ServerState, request: &Request) -> Result<Response, ApiError> {
    let why = "the dashboard is not served: start skiff without `--dashboard-address none`";
    let dashboard = state.dashboard().ok_or_else(|| ApiError::BadRequest(why.to_owned()))?;
    in_any_case(request, &json!({ "url": dashboard.link() }))
}

/// Everything that the store holds at its revision.
fn snapshot(state: &ServerState) -> Response {
    let all = store::snapshot::encode(&state.registry().store().range(""));
    respond(200, "application/octet-stream", full(all))
}

fn is_known(kinds: &Kinds, path: &str) -> bool {
    discovery::paths(kinds)["paths"].as_array().is_some_and(|paths| paths.iter().any(|p| p == path))
}

/// The host and port that a client asked for.
fn host(request: &Request) -> String {
    let asked = request.host().and_then(|host| host.to_str().ok().map(str::to_owned));
    asked.unwrap_or_else(|| "localhost".to_owned())
}

fn plain(request: &Request, document: &Value) -> Result<Response, ApiError> {
    let output = media::negotiate(&request.headers, request.query.text("pretty"), Offer::Plain, Protobuf::All)?;
    respond::value(200, output, document)
}

/// What is no object of the API is JSON, whatever else the client would rather have. Source: `WriteRawJSON` of responsewriters.
fn in_any_case(request: &Request, document: &Value) -> Result<Response, ApiError> {
    let wished = media::negotiate(&request.headers, request.query.text("pretty"), Offer::Plain, Protobuf::Metadata);
    let output = wished.unwrap_or(Output { format: Format::Json, shape: Shape::Object });
    respond::value(200, output, document)
}

fn found(request: &Request, document: Option<Value>) -> Result<Response, ApiError> {
    plain(request, &document.ok_or(ApiError::NoSuchResource)?)
}

/// The groups, in one document with all their resources when the client takes that.
fn groups(
    request: &Request,
    documents: &Documents,
    is_core: bool,
    list: impl Fn() -> Value,
) -> Result<Response, ApiError> {
    let output = media::negotiate(&request.headers, request.query.text("pretty"), Offer::Discovery, Protobuf::All)?;
    let mut response = if output.shape == Shape::Aggregated {
        let document = documents.aggregated(is_core);
        unless_same(request, &document.etag, AGGREGATED, || document.json.clone())
    } else {
        respond::value(200, output, &list())?
    };
    response.headers_mut().insert(header::VARY, HeaderValue::from_static("Accept"));
    Ok(response)
}

/// A document, or 304 when the client has it.
fn unless_same(request: &Request, etag: &str, content_type: &'static str, json: impl FnOnce() -> Bytes) -> Response {
    let has_it = request.headers.get(header::IF_NONE_MATCH).is_some_and(|tag| tag.as_bytes() == etag.as_bytes());
    let mut response =
        if has_it { respond(304, content_type, full("")) } else { respond(200, content_type, full(json())) };
    if let Ok(tag) = HeaderValue::from_str(etag) {
        response.headers_mut().insert(header::ETAG, tag);
    }
    response
}

/// All groups in one document, as protobuf when the client takes that.
fn openapi_v2(request: &Request, documents: &Documents) -> Response {
    let accepts = request.headers.get_all(header::ACCEPT).iter().filter_map(|v| v.to_str().ok());
    let takes_protobuf = accepts.flat_map(|v| v.split(',')).any(|v| PROTOBUF_V2.contains(&v.trim()));
    let ([json, protobuf], kinds) = (documents.swagger_hashes(), documents.kinds());
    let mut response = if takes_protobuf {
        unless_same(request, &format!("\"{protobuf}\""), PROTOBUF_V2[0], || swagger::protobuf(kinds))
    } else {
        unless_same(request, &format!("\"{json}\""), "application/json", || swagger::json(kinds))
    };
    response.headers_mut().insert(header::VARY, HeaderValue::from_static("Accept"));
    response
}

fn openapi(request: &Request, documents: &Documents, name: &str) -> Result<Response, ApiError> {
    let hash = documents.hashes().get(name).ok_or(ApiError::NoSuchResource)?;
    let document = || openapi::document(documents.kinds(), name).expect("what has a hash has a document");
    let mut response = unless_same(request, &format!("\"{hash}\""), "application/json", document);
    // The index names a document with its hash, so that what is under that URL never changes.
    // Source: `k8s.io/kube-openapi/pkg/handler3/handler.go`.
    let keep = if request.query.text("hash") == *hash { "public, immutable" } else { "no-cache, private" };
    response.headers_mut().insert(header::CACHE_CONTROL, HeaderValue::from_static(keep));
    Ok(response)
}

fn health(state: &ServerState, request: &Request, endpoint: &str, one: Option<&str>) -> Result<Response, ApiError> {
    // Being alive needs nothing but an answer; only readiness asks the rest.
    let report = if endpoint == "readyz" { state.ready() } else { health::ReadyReport::default() };
    health::answer(endpoint, one, &request.query, &report).ok_or(ApiError::NoSuchResource)
}

/// The answer to a body-less success, e.g. of a delete.
pub(super) fn success(code: u16, format: Format, details: &Value) -> Result<Response, ApiError> {
    let output = Output { format, shape: Shape::Object };
    let mut status = json!({ "kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Success" });
    if !details.is_null() {
        status["details"] = details.clone();
    }
    if code != 200 {
        status["code"] = json!(code);
    }
    respond::value(code, output, &status)
}

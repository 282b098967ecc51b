//! Makes HTTP responses: bodies from bytes or streams, `Status` objects, warnings.
//!
//! Called by everything in `server` that answers. Pure but for the stream it is given.

use super::{
    media::{Format, Output, Shape, pretty},
    pace::{self, PIECE_BYTES, Room},
};
use crate::{
    api::{schema::protobuf::any_document, status::ApiError},
    base::ordered::Set,
};
use bytes::Bytes;
use futures::{Stream, TryStreamExt as _};
use http::{HeaderValue, StatusCode, header};
use http_body_util::{BodyExt as _, Full, StreamBody, combinators::UnsyncBoxBody};
use hyper::body::{Body as _, Frame};
use std::{convert::Infallible, io};

/// A response's body.
pub type Body = UnsyncBoxBody<Bytes, io::Error>;
/// A response.
pub type Response = http::Response<Body>;

/// A body of bytes.
pub fn full(bytes: impl Into<Bytes>) -> Body {
    Full::new(bytes.into()).map_err(|never: Infallible| match never {}).boxed_unsync()
}

/// A body of chunks; each goes to the client at once.
pub fn streamed(chunks: impl Stream<Item = io::Result<Bytes>> + Send + 'static) -> Body {
    StreamBody::new(chunks.map_ok(Frame::data)).boxed_unsync()
}

/// The same answer without its body, for HEAD: the length stays said.
pub fn without_body(response: Response) -> Response {
    let (mut head, body) = response.into_parts();
    if let (Some(length), false) = (body.size_hint().exact(), head.headers.contains_key(header::CONTENT_LENGTH)) {
        head.headers.insert(header::CONTENT_LENGTH, HeaderValue::from(length));
    }
    Response::from_parts(head, full(Bytes::new()))
}

/// The same answer, which keeps something for as long as its body is sent.
pub fn holding(response: Response, held: impl Send + 'static) -> Response {
    response.map(|body| {
        let frames = body.map_frame(move |frame| {
            let _held = &held;
            frame
        });
        frames.boxed_unsync()
    })
}

/// The same answer, which goes out at the pace at which its peer takes it, where it is large or goes on for long.
pub(super) fn paced(response: Response, room: Option<Room>) -> Response {
    let is_small = response.body().size_hint().exact().is_some_and(|bytes| bytes <= PIECE_BYTES as u64);
    if is_small { response } else { response.map(|body| pace::paced(body, room).boxed_unsync()) }
}

/// A response of this code and type.
pub fn respond(code: u16, content_type: &'static str, body: Body) -> Response {
    let mut response = Response::new(body);
    *response.status_mut() = StatusCode::from_u16(code).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static(content_type));
    // Source: `WithCacheControl` of the API server: nothing of the API may be kept by a proxy.
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-cache, private"));
    response
}

/// Plain text.
pub fn text(code: u16, text: impl Into<String>) -> Response {
    let mut response = respond(code, "text/plain; charset=utf-8", full(text.into()));
    response.headers_mut().insert(header::X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    response
}

/// JSON text in the format that the client takes. As from Kubernetes, text ends with a line end.
pub fn object(code: u16, output: Output, json: impl Into<Bytes>) -> Result<Response, ApiError> {
    let json: Bytes = json.into();
    let body: Bytes = match output.format {
        Format::Json => [&json[..], b"\n"].concat().into(),
        Format::PrettyJson => pretty(&json).into(),
        Format::Yaml => yaml(&json)?.into(),
        Format::Protobuf => protobuf(&json)?.into(),
    };
    Ok(respond(code, output.format.content_type(), full(body)))
}

/// Source of the text: `errNotMarshalable` in protobuf.go.
fn protobuf(json: &[u8]) -> Result<Vec<u8>, ApiError> {
    let written = any_document(json).map_err(|why| cannot_write_protobuf(&why))?;
    written.ok_or_else(|| {
        let why =
            "object does not implement the protobuf marshalling interface and cannot be encoded to a protobuf message";
        ApiError::NotAcceptable(why.to_owned())
    })
}

/// The error of an object whose stored form is not what its schema says.
pub(super) fn cannot_write_protobuf(why: &str) -> ApiError {
    ApiError::Internal(format!("cannot write protobuf: {why}"))
}

fn yaml(json: &[u8]) -> Result<String, ApiError> {
    let internal = |err: &dyn std::fmt::Display| ApiError::Internal(format!("cannot write YAML: {err}"));
    let value: serde_json::Value = serde_json::from_slice(json).map_err(|e| internal(&e))?;
    serde_yaml::to_string(&value).map_err(|e| internal(&e))
}

/// A JSON value in the format that the client takes.
pub fn value(code: u16, output: Output, value: &serde_json::Value) -> Result<Response, ApiError> {
    object(code, output, value.to_string())
}

/// The `Status` of an error, in the format that the client takes.
pub fn failure(err: &ApiError, format: Format) -> Response {
    let output = Output { format, shape: Shape::Object };
    let json = err.to_status().to_string();
    let mut response = object(err.code(), output, json.clone())
        .unwrap_or_else(|_unprintable| respond(err.code(), "application/json", full(json)));
    if err.retry_after_secs().is_some() {
        response.headers_mut().insert(header::RETRY_AFTER, HeaderValue::from_static("1"));
    }
    response
}

/// Adds `Warning` headers. Source: `NewWarningHeader` in `k8s.io/apimachinery/pkg/util/net/http.go`.
pub fn warn(response: &mut Response, warnings: &[String]) {
    for text in bounded(warnings) {
        // A header is one line; whatever else is in a warning came from a client's field names.
        let clean: String = text.chars().map(|c| if c.is_control() { ' ' } else { c }).collect();
        let quoted = clean.replace('\\', "\\\\").replace('"', "\\\"");
        if let Ok(header) = HeaderValue::from_bytes(format!("299 - \"{quoted}\"").as_bytes()) {
            response.headers_mut().append(header::WARNING, header);
        }
    }
}

/// Runes of all warnings of a response, and of one where all would be more.
/// Source: `truncateAtTotalRunes` and `truncateItemRunes` in `k8s.io/apiserver/pkg/endpoints/filters/warning.go`, v1.37.
const WARNINGS_MAX: usize = 4 * 1024;
const WARNING_CUT: usize = 256;
/// Warnings of a response: clients read no more than 100 headers.
const N_WARNINGS_MAX: usize = 64;

/// The warnings, each once; cut and counted where they are too many.
fn bounded(warnings: &[String]) -> Vec<String> {
    let mut seen = Set::new();
    let all: Vec<&String> = warnings.iter().filter(|text| !text.is_empty() && seen.insert(text.as_str())).collect();
    let n_runes: usize = all.iter().map(|text| text.chars().count()).sum();
    if n_runes <= WARNINGS_MAX && all.len() <= N_WARNINGS_MAX {
        return all.into_iter().cloned().collect();
    }
    let mut written = 0;
    let mut cut: Vec<String> = Vec::new();
    for text in &all {
        let text: String = text.chars().take(WARNING_CUT).collect();
        written += text.chars().count();
        if written > WARNINGS_MAX || cut.len() == N_WARNINGS_MAX {
            break;
        }
        cut.push(text);
    }
    if cut.len() < all.len() {
        cut.push(format!("{} more warnings are not shown", all.len() - cut.len()));
    }
    cut
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn warnings_are_quoted_and_stay_on_one_line() {
        let mut response = text(200, "");
        warn(&mut response, &["unknown field \"spec.a\\b\"".to_owned(), "two\nlines".to_owned()]);
        let got: Vec<_> = response.headers().get_all(header::WARNING).iter().map(|h| h.to_str().unwrap()).collect();
        assert_eq!(got, [r#"299 - "unknown field \"spec.a\\b\"""#, "299 - \"two lines\""]);
    }

    #[test]
    fn warnings_are_bounded_in_size_and_number() {
        let texts = |n: usize, length: usize| (0..n).map(|i| format!("{i:0>length$}")).collect::<Vec<_>>();
        assert_eq!(bounded(&texts(16, 256)), texts(16, 256));
        let long = bounded(&texts(3, 2000));
        assert!(long.iter().all(|text| text.len() == WARNING_CUT) && long.len() == 3);
        let many = bounded(&texts(5000, 4));
        assert_eq!((many.len(), many.last().unwrap().as_str()), (65, "4936 more warnings are not shown"));
        let both = bounded(&texts(5000, 5000));
        assert_eq!((both.len(), both.last().unwrap().as_str()), (17, "4984 more warnings are not shown"));
        assert_eq!(bounded(&["é".repeat(5000), String::new(), "é".repeat(5000)]), ["é".repeat(WARNING_CUT)]);
    }

    #[tokio::test]
    async fn an_error_is_a_status_in_the_clients_format() {
        let response = failure(&ApiError::MethodNotAllowed, Format::Yaml);
        assert_eq!(response.status(), 405);
        assert_eq!(response.headers()[header::CONTENT_TYPE], "application/yaml");
        let body = response.into_body().collect().await.unwrap().to_bytes();
        assert!(std::str::from_utf8(&body).unwrap().contains("reason: MethodNotAllowed\n"));
    }
}

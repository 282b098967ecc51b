//! Bodies that clients send: media types, text to value, value to checked typed object. Pure.
//!
//! Called by `verbs`. **Not here**: what clients take back (`media`), the field checks themselves (`api::schema`).
//! **Source** of the texts: `k8s.io/apiserver/pkg/endpoints/handlers/{create,rest}.go`, v1.37.

use super::options::FieldValidation;
use crate::api::{
    kind::ErasedKind,
    object::{DynObject, without_place},
    schema::{self, document::Document, read},
    status::ApiError,
};
use crate::base::json::typed;
use http::{HeaderMap, header::CONTENT_TYPE};
use serde::de::DeserializeOwned;
use serde_json::{Value, json};

/// The largest body. Source: `MaxRequestBodyBytes` in `k8s.io/apiserver/pkg/server/config.go`.
pub const BODY_BYTES_MAX: usize = 3 * 1024 * 1024;

/// How a body is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BodyFormat {
    /// JSON.
    Json,
    /// YAML.
    Yaml,
    /// Kubernetes' protobuf.
    Protobuf,
}

/// The media type of a body, without parameters; empty when there is none.
pub fn content_type(headers: &HeaderMap) -> &str {
    let text = headers.get(CONTENT_TYPE).and_then(|v| v.to_str().ok()).unwrap_or_default();
    text.split(';').next().unwrap_or_default().trim()
}

/// How an object's body is written. Without a type it is JSON.
pub fn body_format(headers: &HeaderMap) -> Result<BodyFormat, ApiError> {
    match content_type(headers) {
        "" | "application/json" => Ok(BodyFormat::Json),
        "application/yaml" => Ok(BodyFormat::Yaml),
        "application/vnd.kubernetes.protobuf" => Ok(BodyFormat::Protobuf),
        _ => Err(ApiError::UnsupportedMediaType(
            "the body of the request was in an unknown format - accepted media types include: application/json, \
             application/yaml, application/vnd.kubernetes.protobuf"
                .to_owned(),
        )),
    }
}

/// Reads text into a value. `what` is the kind that is expected.
pub fn parse(format: BodyFormat, bytes: &[u8], what: &str) -> Result<Document, ApiError> {
    let read = match format {
        BodyFormat::Json => read::parse_json(bytes),
        BodyFormat::Yaml => read::parse_yaml(bytes),
        BodyFormat::Protobuf => return parse_protobuf(bytes, what),
    };
    read.map_err(|err| {
        ApiError::BadRequest(format!(
            "the object provided is unrecognized (must be of type {what}): couldn't get version/kind; json parse error: {err} ({})",
            summary(bytes)
        ))
    })
}

fn parse_protobuf(bytes: &[u8], what: &str) -> Result<Document, ApiError> {
    match schema::protobuf::parse(bytes) {
        Ok(value) => Ok(Document { value, duplicates: Vec::new(), line: 1 }),
        Err(why) => Err(ApiError::BadRequest(format!(
            "the object provided is unrecognized (must be of type {what}): cannot read the protobuf body: {why}"
        ))),
    }
}

/// The beginning of a body that cannot be read. Source: `summarizeData` in rest.go.
fn summary(bytes: &[u8]) -> String {
    const SHOWN_MAX: usize = 30;
    let (shown, more) = match bytes.get(..SHOWN_MAX) {
        Some(shown) if bytes.len() > SHOWN_MAX => (shown, " ..."),
        _ => (bytes, ""),
    };
    match bytes.first() {
        None => "<empty>".to_owned(),
        Some(b'{') => format!("{}{more}", String::from_utf8_lossy(shown)),
        Some(_) => shown.iter().fold(String::new(), |s, b| s + &format!("{b:02x}")) + more,
    }
}

/// Reads a small body of another kind than the resource's, such as `Scale` or `Binding`, whose unknown fields do not matter.
pub fn decode_plain<T: DeserializeOwned>(
    format: BodyFormat,
    bytes: &[u8],
    kind: &str,
    version: &str,
) -> Result<T, ApiError> {
    let document = parse(format, bytes, kind)?;
    check_kind(&document.value, kind, &[version])?;
    typed(document.value).map_err(|err| cannot_be_handled(version, kind, &without_place(&err)))
}

/// Refuses a body that says it is something else.
pub fn check_kind(value: &Value, kind: &str, versions: &[&str]) -> Result<(), ApiError> {
    let text = |field: &str| value.get(field).and_then(Value::as_str).unwrap_or_default();
    let (given_version, given_kind) = (text("apiVersion"), text("kind"));
    let wanted = versions.first().copied().unwrap_or_default();
    if !given_version.is_empty() && !versions.contains(&given_version) {
        return Err(ApiError::BadRequest(format!(
            "the API version in the data ({given_version}) does not match the expected API version ({wanted})"
        )));
    }
    if !given_kind.is_empty() && given_kind != kind {
        let short = wanted.rsplit('/').next().unwrap_or_default();
        return Err(ApiError::BadRequest(format!(
            "{given_kind} in version {short:?} cannot be handled as a {kind}: no kind {kind:?} is in the data"
        )));
    }
    Ok(())
}

fn cannot_be_handled(api_version: &str, kind: &str, why: &str) -> ApiError {
    let version = api_version.rsplit('/').next().unwrap_or_default();
    ApiError::BadRequest(schema::cannot_be_handled(version, kind, why))
}

/// Reads an object of a kind, checks its fields and makes it typed. Warnings are added for fields that were dropped.
pub fn decode(
    kind: &dyn ErasedKind,
    format: BodyFormat,
    bytes: &[u8],
    validation: FieldValidation,
    warnings: &mut Vec<String>,
) -> Result<Box<dyn DynObject>, ApiError> {
    let info = kind.info();
    let document = parse(format, bytes, info.kind)?;
    check_kind(&document.value, info.kind, &[&info.api_version()])?;
    to_object(kind, document.value, &document.duplicates, validation, warnings)
        .map_err(|why| ApiError::BadRequest(schema::cannot_be_handled(info.version, info.kind, &why)))
}

/// Checks a value's fields and makes it typed. The error is the reason alone, for the caller to frame.
pub fn to_object(
    kind: &dyn ErasedKind,
    mut value: Value,
    duplicates: &[String],
    validation: FieldValidation,
    warnings: &mut Vec<String>,
) -> Result<Box<dyn DynObject>, String> {
    let info = kind.info();
    let findings = schema::check(kind.definition(), &value);
    if let Some(why) = findings.error {
        return Err(why);
    }
    if validation != FieldValidation::Ignore {
        warnings.extend(findings.unknown.iter().filter_map(|path| kind.explain_unknown(path)));
    }
    match validation {
        FieldValidation::Ignore => {}
        FieldValidation::Warn => warnings.extend(schema::strict_sentences(&findings.unknown, duplicates)),
        FieldValidation::Strict => {
            if let Some(why) = schema::strict_error(&findings.unknown, duplicates) {
                return Err(why);
            }
        }
    }
    schema::normalize(kind.definition(), &mut value);
    if let Value::Object(fields) = &mut value {
        fields.insert("apiVersion".to_owned(), json!(info.api_version()));
        fields.insert("kind".to_owned(), json!(info.kind));
    }
    kind.decode(value).map_err(|err| without_place(&err))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bodies_are_json_yaml_or_protobuf() {
        let mut headers = HeaderMap::new();
        assert_eq!(body_format(&headers), Ok(BodyFormat::Json));
        let mut of = |text: &'static str| {
            headers.insert(CONTENT_TYPE, text.parse().unwrap());
            body_format(&headers).map_err(|e| (e.code(), e.to_string()))
        };
        assert_eq!(of("application/json; charset=utf-8"), Ok(BodyFormat::Json));
        assert_eq!(of("application/yaml"), Ok(BodyFormat::Yaml));
        assert_eq!(of("application/vnd.kubernetes.protobuf"), Ok(BodyFormat::Protobuf));
        let (code, text) = of("text/plain").unwrap_err();
        assert_eq!(code, 415);
        assert!(text.contains("accepted media types include: application/json, application/yaml, "), "{text}");
    }

    #[test]
    fn a_body_of_another_kind_is_refused() {
        let check = |body: Value| check_kind(&body, "Pod", &["v1"]).map_err(|e| e.to_string());
        assert_eq!(check(json!({})), Ok(()));
        assert_eq!(check(json!({ "apiVersion": "v1", "kind": "Pod" })), Ok(()));
        assert_eq!(
            check(json!({ "apiVersion": "apps/v1", "kind": "Pod" })).unwrap_err(),
            "the API version in the data (apps/v1) does not match the expected API version (v1)"
        );
        assert_eq!(
            check(json!({ "kind": "Service" })).unwrap_err(),
            "Service in version \"v1\" cannot be handled as a Pod: no kind \"Pod\" is in the data"
        );
    }

    #[test]
    fn an_unreadable_body_is_summed_up() {
        assert_eq!(summary(b""), "<empty>");
        assert_eq!(summary(b"{\"a\""), "{\"a\"");
        assert_eq!(summary(&[b'{'; 40]), format!("{} ...", "{".repeat(30)));
        assert_eq!(summary(b"ab"), "6162");
    }
}

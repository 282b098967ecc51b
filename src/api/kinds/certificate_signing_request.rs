//! `CertificateSigningRequest`, certificates.k8s.io/v1.
//!
//! **Not here**: who may approve and who asked (`server/verbs/privileges`), the signature (`controllers/certificate_signing`).
//! **Source**: `pkg/apis/certificates/validation/validation.go`, `pkg/registry/certificates/certificates/strategy.go`, v1.37.

use super::json::{self, Errors};
use crate::api::{
    field::FieldError,
    json_kind::{JsonKind, Rules, at, text_at},
    kind::{KindInfo, STATUS, Scope, Subresource},
    object::Untyped,
    table::{self, Column, NONE},
};
use base64::{Engine as _, prelude::BASE64_STANDARD};
use jiff::Timestamp;
use serde_json::{Value, json};

const APPROVAL: Subresource<'static> = Subresource::own("approval", &["get", "patch", "update"]);
const SECS_MIN: i64 = 600;
const USAGES: &[&str] = &[
    "any",
    "cert sign",
    "client auth",
    "code signing",
    "content commitment",
    "crl sign",
    "data encipherment",
    "decipher only",
    "digital signature",
    "email protection",
    "encipher only",
    "ipsec end system",
    "ipsec tunnel",
    "ipsec user",
    "key agreement",
    "key encipherment",
    "microsoft sgc",
    "netscape sgc",
    "ocsp signing",
    "s/mime",
    "server auth",
    "signing",
    "timestamping",
];

/// The kind `CertificateSigningRequest`.
pub static CERTIFICATE_SIGNING_REQUESTS: JsonKind = JsonKind::new(
    KindInfo {
        short_names: &["csr"],
        subresources: &[APPROVAL, STATUS],
        columns: &[
            Column::name(),
            Column::age(),
            Column::text("SignerName", "Who is asked to sign."),
            Column::text("Requestor", "Who asked."),
            Column::text("RequestedDuration", "For how long the certificate is asked."),
            Column::text("Condition", "What was decided."),
        ],
        ..KindInfo::of(
            ("certificates.k8s.io", "v1", "CertificateSigningRequest"),
            ("certificatesigningrequests", "certificatesigningrequest"),
            Scope::Cluster,
            "io.k8s.api.certificates.v1.CertificateSigningRequest",
        )
    },
    Rules {
        validate,
        validate_update: |new, old| json::immutable(&new.rest, &old.rest, "spec", "updates to the spec are forbidden"),
        row,
        selectable: &["spec.signerName"],
        ..Rules::PLAIN
    },
);

fn validate(obj: &Untyped) -> Errors {
    let mut errs = Errors::new();
    let fields = &obj.rest;
    if request_pem(fields).is_none() {
        let why = "PEM block type must be CERTIFICATE REQUEST";
        errs.push(FieldError::invalid("spec.request", text_at(fields, "spec.request"), why));
    }
    if json::items(fields, "spec.usages").is_empty() {
        errs.push(FieldError::required("spec.usages", ""));
    }
    json::all_of(&mut errs, fields, "spec.usages", USAGES);
    signer_name(&mut errs, &text_at(fields, "spec.signerName"));
    let secs = at(fields, "spec.expirationSeconds").and_then(Value::as_i64);
    if let Some(secs) = secs.filter(|secs| *secs < SECS_MIN) {
        errs.push(FieldError::invalid(
            "spec.expirationSeconds",
            secs,
            "may not specify a duration less than 600 seconds (10 minutes)",
        ));
    }
    errs
}

fn signer_name(errs: &mut Errors, name: &str) {
    const PATH: &str = "spec.signerName";
    if name.is_empty() {
        errs.push(FieldError::required(PATH, ""));
        return;
    }
    if name == "kubernetes.io/legacy-unknown" {
        errs.push(FieldError::invalid(PATH, name, "the legacy signerName is not allowed via this API version"));
        return;
    }
    match name.split_once('/') {
        Some((domain, path)) if domain.contains('.') && !path.is_empty() && !path.contains('/') => {
            json::subdomain(errs, PATH, domain);
        }
        _ => errs.push(FieldError::invalid(
            PATH,
            name,
            "must be a fully qualified domain and path of the form 'example.com/signer-name'",
        )),
    }
}

/// The request, if it is PEM of the right sort.
pub fn request_pem(fields: &serde_json::Map<String, Value>) -> Option<String> {
    let bytes = BASE64_STANDARD.decode(text_at(fields, "spec.request")).ok()?;
    let text = String::from_utf8(bytes).ok()?;
    let body = text.trim_start().strip_prefix("-----BEGIN CERTIFICATE REQUEST-----")?;
    let (body, rest) = body.split_once("-----END CERTIFICATE REQUEST-----")?;
    let base64: String = body.split_whitespace().collect();
    (rest.trim().is_empty() && BASE64_STANDARD.decode(base64).is_ok()).then_some(text)
}

/// Whether a condition of this type is among those of a request.
pub fn has_condition(fields: &serde_json::Map<String, Value>, wanted: &str) -> bool {
    json::objects(fields, "status.conditions").any(|condition| text_at(condition, "type") == wanted)
}

fn row(obj: &Untyped, now: Timestamp) -> Vec<Value> {
    let fields = &obj.rest;
    let duration = at(fields, "spec.expirationSeconds").and_then(Value::as_u64).map(table::human_duration);
    vec![
        table::name(&obj.metadata),
        table::age(&obj.metadata, now),
        json::or_none(fields, "spec.signerName"),
        json!(text_at(fields, "spec.username")),
        json!(duration.unwrap_or_else(|| NONE.to_owned())),
        json!(state(fields)),
    ]
}

/// Source: `extractCSRStatus` in pkg/printers/internalversion/printers.go.
fn state(fields: &serde_json::Map<String, Value>) -> String {
    let mut state = match (has_condition(fields, "Denied"), has_condition(fields, "Approved")) {
        (true, _) => "Denied".to_owned(),
        (false, true) => "Approved".to_owned(),
        (false, false) => "Pending".to_owned(),
    };
    if has_condition(fields, "Failed") {
        state.push_str(",Failed");
    }
    if !text_at(fields, "status.certificate").is_empty() {
        state.push_str(",Issued");
    }
    state
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::api::kinds::testing::json::{causes, row};
    use expect_test::expect;

    #[test]
    fn what_is_wrong_is_named() {
        expect![[r#"
            spec.request: Invalid value: "eA==": PEM block type must be CERTIFICATE REQUEST
            spec.usages[0]: Unsupported value: "play": supported values: "any", "cert sign", "client auth", "code signing", "content commitment", "crl sign", "data encipherment", "decipher only", "digital signature", "email protection", "encipher only", "ipsec end system", "ipsec tunnel", "ipsec user", "key agreement", "key encipherment", "microsoft sgc", "netscape sgc", "ocsp signing", "s/mime", "server auth", "signing", "timestamping"
            spec.signerName: Invalid value: "me": must be a fully qualified domain and path of the form 'example.com/signer-name'
            spec.expirationSeconds: Invalid value: 5: may not specify a duration less than 600 seconds (10 minutes)
        "#]]
        .assert_eq(&causes(
            &CERTIFICATE_SIGNING_REQUESTS,
            "spec: {request: eA==, usages: [play], signerName: me, expirationSeconds: 5}",
        ));
    }

    #[test]
    fn rows_read_as_in_kubernetes() {
        let csr = "metadata: {name: c}\nspec: {request: eA==, signerName: a.b/c, username: jane, expirationSeconds: 86400}\nstatus: {certificate: eA==, conditions: [{type: Approved, status: 'True'}]}";
        assert_eq!(row(&CERTIFICATE_SIGNING_REQUESTS, csr), "c | <unknown> | a.b/c | jane | 24h | Approved,Issued");
    }
}

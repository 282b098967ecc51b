//! Requests for certificates that were approved are signed, for the signers that Kubernetes has.
//!
//! Unlike there, nothing approves the requests of kubelets by itself, since none comes.
//! **Source**: `pkg/controller/certificates/signer/signer.go`, v1.37.

use super::runtime::{Action, Controller, Decision, Trigger};
use crate::{
    api::{kind::KindRef, kinds::certificate_signing_request::CERTIFICATE_SIGNING_REQUESTS, meta::ObjectKey},
    base::clock::whole_seconds,
    registry::{Registry, pipeline::Part},
    store::Entry,
};
use base64::{Engine as _, prelude::BASE64_STANDARD};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use serde_json::{Value, json};
use std::sync::Arc;

const KIND: KindRef = KindRef::BuiltIn(&CERTIFICATE_SIGNING_REQUESTS);
const CLIENT: &str = "kubernetes.io/kube-apiserver-client";
const KUBELET_CLIENT: &str = "kubernetes.io/kube-apiserver-client-kubelet";
const KUBELET_SERVING: &str = "kubernetes.io/kubelet-serving";
const YEAR_SECS: i64 = 365 * 24 * 3600;

/// What a certificate is asked for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Wish {
    /// The request, PEM.
    pub request: String,
    /// For how many seconds.
    pub secs: i64,
    /// Whether it is for servers, and not for clients.
    pub is_serving: bool,
    /// Whether it is a node's.
    pub is_of_node: bool,
}

/// Signs with the cluster's CA.
pub trait Signer: Send + Sync + 'static {
    /// The certificate, PEM.
    ///
    /// # Errors
    /// The request is none that this CA signs; the text says why.
    fn sign(&self, wish: &Wish) -> Result<String, String>;
}

/// A request, and what came of signing it, where it is to be signed.
#[derive(Clone, Debug)]
pub struct Observed {
    request: Value,
    signed: Option<Result<String, String>>,
    now: Time,
}

/// The controller.
#[derive(Clone)]
pub struct CertificateSigning {
    /// Who signs.
    pub signer: Arc<dyn Signer>,
}

impl std::fmt::Debug for CertificateSigning {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("CertificateSigning").finish_non_exhaustive()
    }
}

impl Controller for CertificateSigning {
    /// A request's name.
    type Key = String;
    type Observed = Observed;

    fn name(&self) -> &'static str {
        "certificatesigningrequest-signing-controller"
    }

    fn triggers(&self) -> Vec<Trigger<String>> {
        vec![Trigger::on_erased(KIND, |_, _, after, keys| {
            keys.extend(after.and_then(|entry| read(entry)["metadata"]["name"].as_str().map(str::to_owned)));
        })]
    }

    fn observe(&self, registry: &Registry, name: &String) -> Option<Observed> {
        let request = read(&*registry.entry(&CERTIFICATE_SIGNING_REQUESTS, &ObjectKey::new("", name))?);
        let signed = wish(&request).map(|wish| wish.and_then(|wish| self.signer.sign(&wish)));
        Some(Observed { request, signed, now: Time(whole_seconds(registry.clock().now())) })
    }

    fn decide(&self, observed: &Observed) -> Decision {
        let mut decision = Decision::rest();
        let Some(signed) = &observed.signed else { return decision };
        let mut request = observed.request.clone();
        let why = match signed {
            Ok(certificate) => {
                request["status"]["certificate"] = json!(BASE64_STANDARD.encode(certificate));
                "it is approved"
            }
            Err(message) => {
                let failed = json!({
                    "type": "Failed", "status": "True", "reason": "SignerValidationFailure", "message": message,
                    "lastUpdateTime": observed.now, "lastTransitionTime": observed.now,
                });
                request["status"]["conditions"].as_array_mut().expect("what is approved has conditions").push(failed);
                "it is approved and cannot be signed"
            }
        };
        let object = KIND.decode(request).expect("a stored request with another status fits the schema");
        decision.then(Action::Update { kind: KIND, part: Part::Status, object }.because(why));
        decision
    }
}

/// What is to be signed; `None`: nothing, for now or by others.
fn wish(request: &Value) -> Option<Result<Wish, String>> {
    let conditions = request["status"]["conditions"].as_array().map_or(&[][..], Vec::as_slice);
    let has = |wanted: &str| conditions.iter().any(|condition| condition["type"] == wanted);
    let has_certificate = request["status"]["certificate"].as_str().is_some_and(|text| !text.is_empty());
    if !has("Approved") || has("Denied") || has("Failed") || has_certificate {
        return None;
    }
    let (is_serving, is_of_node) = match request["spec"]["signerName"].as_str()? {
        CLIENT => (false, false),
        KUBELET_CLIENT => (false, true),
        KUBELET_SERVING => (true, true),
        _ => return None,
    };
    let usages = request["spec"]["usages"].as_array().into_iter().flatten().filter_map(Value::as_str);
    if let Err(why) = check_usages(usages, is_serving) {
        return Some(Err(why));
    }
    let pem = BASE64_STANDARD.decode(request["spec"]["request"].as_str()?).ok()?;
    let request_pem = String::from_utf8(pem).ok()?;
    let secs = request["spec"]["expirationSeconds"].as_i64().unwrap_or(YEAR_SECS).min(YEAR_SECS);
    Some(Ok(Wish { request: request_pem, secs, is_serving, is_of_node }))
}

fn check_usages<'u>(usages: impl Iterator<Item = &'u str>, is_serving: bool) -> Result<(), String> {
    let needed = if is_serving { "server auth" } else { "client auth" };
    let mut has_needed = false;
    for usage in usages {
        has_needed |= usage == needed;
        if ![needed, "digital signature", "key encipherment"].contains(&usage) {
            return Err(format!("usages did not match: {usage:?} is not one that this signer gives"));
        }
    }
    if has_needed { Ok(()) } else { Err(format!("usages did not match: {needed:?} is missing")) }
}

fn read(entry: &Entry) -> Value {
    serde_json::from_slice(&entry.value).expect("stored objects are JSON")
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Stamp;

    impl Signer for Stamp {
        fn sign(&self, wish: &Wish) -> Result<String, String> {
            if wish.request == "bad" { Err("no".to_owned()) } else { Ok(format!("{} {}", wish.request, wish.secs)) }
        }
    }

    fn outcome(yaml: &str) -> String {
        let request: Value = crate::testing::from_yaml(yaml).unwrap();
        let signed = wish(&request).map(|wish| wish.and_then(|wish| Stamp.sign(&wish)));
        let observed = Observed { request, signed, now: Time(jiff::Timestamp::UNIX_EPOCH) };
        let text = CertificateSigning { signer: Arc::new(Stamp) }.decide(&observed).to_text();
        match observed.signed {
            None => text,
            Some(signed) => format!("{text} {signed:?}"),
        }
    }

    #[test]
    fn what_is_approved_is_signed_once_by_the_signers_of_kubernetes() {
        let request = |signer: &str, usages: &str, pem: &str, status: &str| {
            let pem = BASE64_STANDARD.encode(pem);
            format!(
                "metadata: {{name: r}}\nspec: {{signerName: {signer}, usages: [{usages}], request: {pem}, expirationSeconds: 700}}\n\
                 status: {{{status}}}"
            )
        };
        let approved = "conditions: [{type: Approved, status: 'True'}]";
        let signed = "update status of CertificateSigningRequest r (it is approved) Ok(\"pem 700\")";
        assert_eq!(outcome(&request(CLIENT, "client auth", "pem", approved)), signed);
        assert_eq!(outcome(&request(CLIENT, "client auth", "pem", "")), "");
        assert_eq!(outcome(&request("me.io/x", "client auth", "pem", approved)), "");
        assert_eq!(outcome(&request(CLIENT, "client auth", "pem", &format!("{approved}, certificate: eA=="))), "");
        let failed = "update status of CertificateSigningRequest r (it is approved and cannot be signed)";
        assert_eq!(outcome(&request(CLIENT, "client auth", "bad", approved)), format!("{failed} Err(\"no\")"));
        let missing = "Err(\"usages did not match: \\\"client auth\\\" is missing\")";
        assert_eq!(outcome(&request(CLIENT, "digital signature", "pem", approved)), format!("{failed} {missing}"));
    }
}

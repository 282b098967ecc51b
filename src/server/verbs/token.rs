//! The `token` of a service account: issues one (`kubectl create token`).
//!
//! **Source**: `pkg/registry/core/serviceaccount/storage/token.go`, `pkg/apis/authentication/validation/validation.go`, v1.37.

use super::{Call, reviews};
use crate::{
    api::{
        field::FieldError,
        kind::Kind,
        kinds::{node::Nodes, pod::Pods, secret::Secrets, service_account::ServiceAccounts},
        meta::ObjectKey,
        object::Object as _,
        status::ApiError,
    },
    identity::tokens::{Bound, DEFAULT_SECS, Named, Wish, bound_to},
    registry::pipeline::decoded,
    server::{
        codec,
        media::Offer,
        respond::{self, Response},
    },
};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use serde::Deserialize;
use serde_json::json;
use std::sync::Arc;

const KIND: &str = "TokenRequest";
const SECS_MIN: i64 = 600;
const SECS_MAX: i64 = 1 << 32;

/// What is asked for.
#[derive(Deserialize, Default)]
#[serde(rename_all = "camelCase", default)]
struct Spec {
    audiences: Vec<String>,
    expiration_seconds: Option<i64>,
    bound_object_ref: Option<Reference>,
}

#[derive(Deserialize, Default)]
#[serde(rename_all = "camelCase", default)]
struct Reference {
    kind: String,
    api_version: String,
    name: String,
    uid: String,
}

/// Issues a token.
pub(super) fn create(call: &Call<'_>) -> Result<Response, ApiError> {
    let dry_run = call.writing("CreateOptions")?.write.dry_run;
    let format = codec::body_format(&call.request.headers)?;
    let mut request = codec::parse(format, &call.request.body, KIND)?.value;
    codec::check_kind(&request, KIND, &["authentication.k8s.io/v1"])?;
    let spec: Spec = reviews::spec(&request)?;
    let secs = spec.expiration_seconds.unwrap_or(DEFAULT_SECS);
    check_secs(&call.info.name, secs)?;
    let account = decoded::<ServiceAccounts>(&*call.entry()?);
    let bound = spec.bound_object_ref.map(|of| bound(call, &of, account.metadata.name.as_deref())).transpose()?;
    if let Some(node) = call.user.node() {
        is_for_a_pod_of(call, node, bound.as_ref())?;
    }
    let audiences = spec.audiences.into_iter().filter(|a| !a.is_empty()).collect();
    let wish = Wish { audiences, secs, bound };
    let issued = call.state.tokens().issue(&account, &wish);
    request["apiVersion"] = json!("authentication.k8s.io/v1");
    request["kind"] = json!(KIND);
    request["metadata"]["name"] = json!(call.info.name);
    request["metadata"]["namespace"] = json!(call.info.namespace);
    request["metadata"]["creationTimestamp"] =
        json!(Time(crate::base::clock::whole_seconds(call.registry().clock().now())));
    request["spec"]["expirationSeconds"] = json!(secs);
    if wish.audiences.is_empty() {
        request["spec"]["audiences"] = json!([crate::identity::tokens::ISSUER]);
    }
    let token = if dry_run { String::new() } else { issued.token };
    request["status"] = json!({ "token": token, "expirationTimestamp": Time(issued.expires_at) });
    respond::value(201, call.output(Offer::Plain)?, &request)
}

/// A node asks for tokens of its pods alone. Source: `admitServiceAccount` of noderestriction/admission.go.
fn is_for_a_pod_of(call: &Call<'_>, node: &str, bound: Option<&Bound>) -> Result<(), ApiError> {
    let why = match bound {
        Some(Bound::Pod(_, on)) => {
            let is_own = on.as_ref().is_some_and(|on| on.name == node);
            (!is_own).then_some("node requested token bound to a pod scheduled on a different node")
        }
        _ => Some("node requested token not bound to a pod"),
    };
    let refusal = |why: &str| ApiError::Forbidden {
        resource: "serviceaccounts".to_owned(),
        name: call.info.name.clone(),
        why: why.to_owned(),
    };
    why.map_or(Ok(()), |why| Err(refusal(why)))
}

fn check_secs(name: &str, secs: i64) -> Result<(), ApiError> {
    let why = match secs {
        ..SECS_MIN => "may not specify a duration less than 10 minutes",
        secs if secs > SECS_MAX => "may not specify a duration larger than 2^32 seconds",
        _ => return Ok(()),
    };
    Err(ApiError::Invalid {
        kind: format!("{KIND}.authentication.k8s.io"),
        name: name.to_owned(),
        causes: vec![FieldError::invalid("spec.expirationSeconds", secs, why)],
    })
}

/// What the token is to be bound to, which must be there.
fn bound(call: &Call<'_>, of: &Reference, account: Option<&str>) -> Result<Bound, ApiError> {
    let namespace = &call.info.namespace;
    match (&*of.api_version, &*of.kind) {
        ("v1", "Pod") => {
            let pod = found::<Pods>(call, namespace, of)?;
            let runs_as = pod.spec.as_ref().and_then(|s| s.service_account_name.as_deref());
            if runs_as != account {
                let why = "cannot bind token for serviceaccount to pod running with different serviceaccount name";
                let account = account.unwrap_or_default();
                return Err(ApiError::BadRequest(format!("{why}: {account:?}")));
            }
            Ok(bound_to(&pod))
        }
        ("v1", "Secret") => found::<Secrets>(call, namespace, of).map(|secret| Bound::Secret(name(&*secret))),
        ("v1", "Node") => found::<Nodes>(call, "", of).map(|node| Bound::Node(name(&*node))),
        (version, kind) => Err(ApiError::BadRequest(format!(
            "cannot bind token to object of type {version}, Kind={kind}: a Pod, a Secret or a Node of v1 can be"
        ))),
    }
}

fn name(object: &impl crate::api::object::Object) -> Named {
    let meta = object.meta();
    Named { name: meta.name.clone().unwrap_or_default(), uid: meta.uid.clone().unwrap_or_default() }
}

fn found<K: Kind>(call: &Call<'_>, namespace: &str, of: &Reference) -> Result<Arc<K::Object>, ApiError> {
    let found = call.registry().api::<K>().get(&ObjectKey::new(namespace, &of.name));
    let found = found.ok_or_else(|| ApiError::not_found(&K::INFO, &of.name))?;
    let uid = found.meta().uid.clone().unwrap_or_default();
    if of.uid.is_empty() || of.uid == uid {
        return Ok(found);
    }
    Err(ApiError::Conflict {
        resource: K::INFO.resource(),
        name: of.name.clone(),
        why: format!("the UID in the bound object reference ({}) does not match the UID in record ({uid})", of.uid),
    })
}

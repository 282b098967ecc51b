//! Answers who calls and what they may do: `kubectl auth whoami` and `kubectl auth can-i`, by the server's own authorizer.
//!
//! **Source**: `pkg/registry/{authentication/selfsubjectreview,authorization/selfsubjectaccessreview,
//! authorization/selfsubjectrulesreview}/rest.go` and `pkg/apis/authorization/validation/validation.go`, v1.37.

use super::Call;
use crate::{
    api::{field::FieldError, object, status::ApiError},
    server::{
        codec,
        media::Offer,
        respond::{self, Response},
        route::{RequestInfo, ResourceInfo, Verb},
    },
};
use k8s_openapi::api::authorization::v1::{ResourceAttributes, SelfSubjectAccessReview, SelfSubjectRulesReview};
use serde_json::{Value, json};

/// Answers who calls.
pub(super) fn who(call: &Call<'_>) -> Result<Response, ApiError> {
    let mut review = question(call)?;
    let user = &call.user;
    review["status"] = json!({ "userInfo": { "username": user.name, "groups": user.groups } });
    answer(call, &review)
}

/// Answers whether the caller may do something.
pub(super) fn access(call: &Call<'_>) -> Result<Response, ApiError> {
    let mut review = question(call)?;
    let asked: SelfSubjectAccessReview = typed(call, &review)?;
    let request = match (asked.spec.resource_attributes, asked.spec.non_resource_attributes) {
        (Some(of), None) => RequestInfo::Resource(resource(of)),
        (None, Some(of)) => RequestInfo::Path { path: of.path.unwrap_or_default(), verb: of.verb.unwrap_or_default() },
        (Some(_), Some(_)) => {
            let why = "cannot be specified in combination with resourceAttributes";
            let given = &review["spec"]["nonResourceAttributes"];
            return Err(invalid(call, FieldError::invalid("spec.nonResourceAttributes", given, why)));
        }
        (None, None) => {
            let why = "exactly one of nonResourceAttributes or resourceAttributes must be specified";
            return Err(invalid(call, FieldError::invalid("spec.resourceAttributes", Value::Null, why)));
        }
    };
    review["status"] = json!({ "allowed": call.state.authorizer().allows(&call.user, &request) });
    answer(call, &review)
}

/// Answers what the caller may do in a namespace.
pub(super) fn rules(call: &Call<'_>) -> Result<Response, ApiError> {
    let mut review = question(call)?;
    let asked: SelfSubjectRulesReview = typed(call, &review)?;
    let namespace = asked.spec.namespace.unwrap_or_default();
    if namespace.is_empty() {
        return Err(ApiError::BadRequest("no namespace on request".to_owned()));
    }
    review["status"] = json!(call.state.authorizer().rules(&call.user, &namespace));
    answer(call, &review)
}

/// The body, if it is of the kind that is asked.
fn question(call: &Call<'_>) -> Result<Value, ApiError> {
    let info = call.kind.info();
    let format = codec::body_format(&call.request.headers)?;
    let mut review = codec::parse(format, &call.request.body, info.kind)?.value;
    codec::check_kind(&review, info.kind, &[&info.api_version()])?;
    if !review.is_object() {
        return Err(ApiError::BadRequest(format!("the body is no {}", info.kind)));
    }
    review["apiVersion"] = json!(info.api_version());
    review["kind"] = json!(info.kind);
    Ok(review)
}

fn typed<T: serde::de::DeserializeOwned>(call: &Call<'_>, review: &Value) -> Result<T, ApiError> {
    let info = call.kind.info();
    object::typed(review).map_err(|err| {
        let why = object::without_place(&err);
        ApiError::BadRequest(crate::api::schema::cannot_be_handled(info.version, info.kind, &why))
    })
}

fn resource(of: ResourceAttributes) -> ResourceInfo {
    let name = of.name.unwrap_or_default();
    ResourceInfo {
        verb: Verb::of_word(of.verb.as_deref().unwrap_or_default()),
        group: of.group.unwrap_or_default(),
        version: of.version.unwrap_or_default(),
        namespace: of.namespace.unwrap_or_default(),
        resource: of.resource.unwrap_or_default(),
        subresource: of.subresource.unwrap_or_default(),
        is_collection: name.is_empty(),
        name,
        rest: Vec::new(),
    }
}

fn invalid(call: &Call<'_>, cause: FieldError) -> ApiError {
    ApiError::invalid(call.kind.info(), "", vec![cause])
}

fn answer(call: &Call<'_>, review: &Value) -> Result<Response, ApiError> {
    respond::value(201, call.output(Offer::Plain)?, review)
}

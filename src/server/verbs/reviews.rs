//! Answers who somebody is and what they may do: `kubectl auth whoami` and `kubectl auth can-i`, and what others ask about those who
//! call them, by the server's own rules and tokens.
//!
//! **Source**: `pkg/registry/{authentication/{selfsubjectreview,tokenreview},authorization}/*/rest.go` and
//! `pkg/apis/authorization/validation/validation.go`, v1.37.

use super::Call;
use crate::{
    api::{field::FieldError, status::ApiError},
    base::ordered::Map,
    identity::{
        User,
        rule::{Attributes, On, PolicyRule},
        tokens::ISSUER,
    },
    server::{
        codec,
        media::Offer,
        respond::{self, Response},
    },
};
use serde::{Deserialize, de::DeserializeOwned};
use serde_json::{Value, json};

/// Answers who calls.
pub(super) fn who(call: &Call<'_>) -> Result<Response, ApiError> {
    let mut review = question(call)?;
    review["status"] = json!({ "userInfo": call.user.to_json() });
    answer(call, &review)
}

/// What a token is shown for.
#[derive(Deserialize, Default)]
#[serde(default)]
struct Shown {
    token: String,
    audiences: Vec<String>,
}

/// Answers whose token this is.
pub(super) fn token(call: &Call<'_>) -> Result<Response, ApiError> {
    let mut review = question(call)?;
    let Shown { token, mut audiences } = spec(&review)?;
    if token.is_empty() {
        return Err(ApiError::BadRequest("token is required for TokenReview in authentication".to_owned()));
    }
    if audiences.is_empty() {
        audiences.push(ISSUER.to_owned());
    }
    review["status"] = match call.state.tokens().user(&token, &audiences) {
        Ok((user, good)) => json!({ "authenticated": true, "user": user.to_json(), "audiences": good }),
        Err(why) => json!({ "user": {}, "error": why.to_string() }),
    };
    answer(call, &review)
}

/// What is asked about, and about whom.
#[derive(Deserialize, Default)]
#[serde(rename_all = "camelCase", default)]
struct Asked {
    resource_attributes: Option<OfResource>,
    non_resource_attributes: Option<OfPath>,
    user: String,
    groups: Vec<String>,
    extra: Map<String, Vec<String>>,
    uid: String,
}

#[derive(Deserialize, Default)]
#[serde(default)]
struct OfResource {
    namespace: String,
    verb: String,
    group: String,
    resource: String,
    subresource: String,
    name: String,
}

#[derive(Deserialize, Default)]
#[serde(default)]
struct OfPath {
    path: String,
    verb: String,
}

/// Answers whether the caller may do something.
pub(super) fn own_access(call: &Call<'_>) -> Result<Response, ApiError> {
    let review = question(call)?;
    let asked = spec(&review)?;
    verdict(call, review, &asked, &call.user)
}

/// Answers whether somebody may do something.
pub(super) fn access(call: &Call<'_>) -> Result<Response, ApiError> {
    let review = question(call)?;
    let asked: Asked = spec(&review)?;
    let user = named(call, &asked)?;
    verdict(call, review, &asked, &user)
}

/// Answers whether somebody may do something in the namespace of the path.
pub(super) fn local_access(call: &Call<'_>) -> Result<Response, ApiError> {
    let review = question(call)?;
    let asked: Asked = spec(&review)?;
    let namespace = &call.info.namespace;
    if asked.resource_attributes.as_ref().is_some_and(|of| of.namespace != *namespace) {
        let why = "spec.resourceAttributes.namespace must match namespace";
        return Err(ApiError::BadRequest(format!("{why}: {namespace}")));
    }
    let user = named(call, &asked)?;
    verdict(call, review, &asked, &user)
}

/// The user that a question is about.
fn named(call: &Call<'_>, asked: &Asked) -> Result<User, ApiError> {
    if asked.user.is_empty() && asked.groups.is_empty() {
        let why = "at least one of user or group must be specified";
        return Err(invalid(call, FieldError::invalid("spec.user", &asked.user, why)));
    }
    let Asked { user, groups, extra, uid, .. } = asked;
    Ok(User { name: user.clone(), uid: uid.clone(), groups: groups.clone(), extra: extra.clone() })
}

fn verdict(call: &Call<'_>, mut review: Value, asked: &Asked, user: &User) -> Result<Response, ApiError> {
    let attributes = match (&asked.resource_attributes, &asked.non_resource_attributes) {
        (Some(of), None) => {
            let OfResource { namespace, verb, group, resource, subresource, name } = of;
            Attributes { verb, on: On::Resource { group, resource, subresource, namespace, name, node: "" } }
        }
        (None, Some(OfPath { path, verb })) => Attributes { verb, on: On::Path(path) },
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
    let verdict = call.state.rbac().verdict(user, &attributes);
    review["status"] = json!({ "allowed": verdict.is_allowed });
    if !verdict.reason.is_empty() {
        review["status"]["reason"] = json!(verdict.reason);
    }
    answer(call, &review)
}

/// Answers what the caller may do in a namespace.
pub(super) fn rules(call: &Call<'_>) -> Result<Response, ApiError> {
    let mut review = question(call)?;
    let namespace = review["spec"]["namespace"].as_str().unwrap_or_default().to_owned();
    if namespace.is_empty() {
        return Err(ApiError::BadRequest("no namespace on request".to_owned()));
    }
    let rules = call.state.rbac().rules(&call.user, &namespace);
    let (of_paths, of_resources): (Vec<PolicyRule>, Vec<PolicyRule>) =
        rules.into_iter().partition(|rule| !rule.non_resource_urls.is_empty());
    review["status"] = json!({ "resourceRules": of_resources, "nonResourceRules": of_paths, "incomplete": false });
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
    let found = crate::api::schema::check(call.kind.definition(), &review);
    if let Some(why) = found.error {
        return Err(ApiError::BadRequest(crate::api::schema::cannot_be_handled(info.version, info.kind, &why)));
    }
    review["apiVersion"] = json!(info.api_version());
    review["kind"] = json!(info.kind);
    Ok(review)
}

/// What is asked; the question fits its schema.
pub(super) fn spec<T: DeserializeOwned + Default>(review: &Value) -> Result<T, ApiError> {
    match review.get("spec") {
        None | Some(Value::Null) => Ok(T::default()),
        Some(spec) => T::deserialize(without_nulls(spec.clone())).map_err(|err| ApiError::BadRequest(err.to_string())),
    }
}

/// Null is what is not said.
fn without_nulls(mut spec: Value) -> Value {
    if let Value::Object(fields) = &mut spec {
        fields.retain(|_, value| !value.is_null());
        fields.values_mut().for_each(|value| *value = without_nulls(value.take()));
    }
    spec
}

fn invalid(call: &Call<'_>, cause: FieldError) -> ApiError {
    ApiError::invalid(call.kind.info(), "", vec![cause])
}

fn answer(call: &Call<'_>, review: &Value) -> Result<Response, ApiError> {
    respond::value(201, call.output(Offer::Plain)?, review)
}

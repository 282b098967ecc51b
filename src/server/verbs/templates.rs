//! Processes templates: what is sent comes back with its parameters' values and its objects made. Nothing is stored.
//!
//! **Source**: github.com/openshift/openshift-apiserver, `pkg/template/apiserver/registry/template/strategy.go` and its `rest.go`, release 4.20.

use super::Call;
use crate::{
    api::{
        kind::ErasedKind as _,
        kinds::template::TEMPLATES,
        object::Untyped,
        status::ApiError,
        template::{self, API_VERSION, KIND},
    },
    server::{
        codec,
        media::Offer,
        options::FieldValidation,
        respond::{self, Response},
    },
};
use serde_json::json;

/// Answers with what is made of a template.
pub(super) fn process(call: &Call<'_>) -> Result<Response, ApiError> {
    let format = codec::body_format(&call.request.headers)?;
    let mut dropped = Vec::new();
    let sent = codec::decode(&TEMPLATES, format, &call.request.body, FieldValidation::Warn, &mut dropped)?;
    dropped.into_iter().for_each(|warning| call.told.add(Some(warning)));
    let sent = sent.as_any().downcast_ref::<Untyped>().expect("a kind that is served from its schema");
    let name = sent.metadata.name.clone().unwrap_or_default();
    let invalid = |causes| ApiError::invalid(TEMPLATES.info(), &name, causes);
    let wrong = TEMPLATES.validate(sent);
    if !wrong.is_empty() {
        return Err(invalid(wrong));
    }
    let mut made = json!(sent);
    let rng = call.registry().rng();
    let mut draw = |bound: usize| usize::try_from(rng.between(0, bound as u64)).expect("below a usize");
    template::process(&mut made, &mut draw).map_err(invalid)?;
    made["apiVersion"] = json!(API_VERSION);
    made["kind"] = json!(KIND);
    respond::value(201, call.output(Offer::Plain)?, &made)
}

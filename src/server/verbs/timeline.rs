//! The `timeline` of a pod: how its containers ended and came back.

use super::Call;
use crate::{
    api::{object::untyped, status::ApiError},
    server::{media::Offer, respond, respond::Response},
};

/// Answers with what the node agent remembers.
pub(super) fn get(call: &Call<'_>) -> Result<Response, ApiError> {
    let timeline = call.state.streams().timeline(&call.key())?;
    respond::value(200, call.output(Offer::Plain)?, &untyped(&timeline))
}

//! The `timeline` of a pod: how its containers ended and came back.

use super::Call;
use crate::{
    api::{object::untyped, status::ApiError},
    server::{media::Offer, respond, respond::Response},
};
use std::time::Duration;

/// How long whoever asks waits for what the data plane has to add.
const PATIENCE: Duration = Duration::from_millis(500);

/// Answers with what the node agent remembers, and when clients were first served and what they lost, if the data
/// plane answers.
pub(super) async fn get(call: &Call<'_>) -> Result<Response, ApiError> {
    let mut timeline = call.state.streams().timeline(&call.key())?;
    if let Some(endpoints) = call.state.traffic().next(PATIENCE).await {
        timeline.note_served(&endpoints);
        timeline.note_lost(&endpoints);
    }
    respond::value(200, call.output(Offer::Plain)?, &untyped(&timeline))
}

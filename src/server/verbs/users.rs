//! Says who calls, to clients of OpenShift: `users/~`.

use super::Call;
use crate::{
    api::{kinds::user::API_VERSION, status::ApiError},
    server::{
        media::Offer,
        respond::{self, Response},
    },
};
use serde_json::json;

/// Answers with the caller, who is asked for as `~` or by name; skiff knows of nobody else.
pub(super) fn who(call: &Call<'_>) -> Result<Response, ApiError> {
    let (asked, user) = (&*call.info.name, &call.user);
    if asked != "~" && asked != user.name {
        return Err(ApiError::not_found(call.kind.info(), asked));
    }
    let user = json!({
        "kind": "User",
        "apiVersion": API_VERSION,
        "metadata": { "name": user.name, "creationTimestamp": null },
        "identities": [],
        "groups": user.groups,
    });
    respond::value(200, call.output(Offer::Plain)?, &user)
}

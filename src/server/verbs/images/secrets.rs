//! `imagestreams/NAME/secrets`: the Secrets of the namespace with which images are pulled. The stream's name is not looked at.
//!
//! **Source**: `pkg/image/apiserver/registry/imagesecret/rest.go` of openshift-apiserver.

use super::super::{Call, read};
use crate::{
    api::{
        kind::{Erased, KindRef},
        kinds::secret::Secrets,
        status::ApiError,
    },
    registry::pipeline::decoded,
    server::respond::Response,
    store::Entry,
};

/// What is listed.
static SECRETS: Erased<Secrets> = Erased::NEW;

/// An annotation with which a Secret is left out.
const EXCLUDED: &str = "openshift.io/image.excludeSecret";

/// Answers with a list of Secrets.
pub(in crate::server::verbs) fn get(call: &mut Call<'_>) -> Result<Response, ApiError> {
    call.kind = KindRef::BuiltIn(&SECRETS);
    read::list_of(call, &pulls)
}

/// Whether images are pulled with a Secret.
fn pulls(entry: &Entry) -> bool {
    let secret = decoded::<Secrets>(entry);
    let is_excluded =
        secret.metadata.annotations.as_ref().and_then(|all| all.get(EXCLUDED)).is_some_and(|v| v == "true");
    let is_of_images =
        matches!(secret.type_.as_deref(), Some("kubernetes.io/dockercfg" | "kubernetes.io/dockerconfigjson"));
    is_of_images && !is_excluded
}

//! Projects as OpenShift's clients ask for them: a wish becomes a namespace whose requester may do everything in it, and a project that is
//! deleted goes as its namespace does.
//!
//! **Source**: github.com/openshift/openshift-apiserver, `pkg/project/apiserver/registry/projectrequest/delegated/{delegated,sample_template}.go`,
//! release 4.20.

use super::{Call, delete};
use crate::{
    api::{
        field::FieldError,
        kind::{Erased, ErasedKind as _, KindRef},
        kinds::{
            namespace::Namespaces,
            project::{API_VERSION, DESCRIPTION, DISPLAY_NAME, PROJECTS, REQUESTER},
            rbac::ROLE_BINDINGS,
        },
        rollout::annotate,
        status::ApiError,
    },
    registry::pipeline::WriteOptions,
    server::{codec, media::Offer, paths, respond::Response, route::Verb},
};
use k8s_openapi::{api::core::v1::Namespace, apimachinery::pkg::apis::meta::v1::ObjectMeta};
use serde::Deserialize;
use serde_json::{Value, json};

/// A namespace is what is stored.
static NAMESPACES: Erased<Namespaces> = Erased::NEW;

/// A wish for a project.
#[derive(Deserialize, Default)]
#[serde(rename_all = "camelCase", default)]
struct ProjectRequest {
    metadata: ObjectMeta,
    display_name: String,
    description: String,
}

/// Answers what is asked of a project.
pub(super) async fn answer(call: &mut Call<'_>) -> Result<Response, ApiError> {
    if call.info.verb == Verb::Delete {
        // Its content goes first.
        let format = call.output(Offer::Plain)?.format;
        call.kind = KindRef::BuiltIn(&NAMESPACES);
        delete::one(call).await?;
        return paths::success(200, format, &Value::Null);
    }
    call.plain().await
}

/// Grants a wish for a project; or says that wishes are taken.
pub(super) async fn request(call: &mut Call<'_>) -> Result<Response, ApiError> {
    if call.info.verb == Verb::List {
        return paths::success(200, call.output(Offer::Plain)?.format, &Value::Null);
    }
    let format = codec::body_format(&call.request.headers)?;
    let wish: ProjectRequest = codec::decode_plain(format, &call.request.body, "ProjectRequest", API_VERSION)?;
    let name = wish.metadata.name.clone().unwrap_or_default();
    if name.is_empty() {
        let causes = vec![FieldError::required("metadata.name", "name or generateName is required")];
        return Err(ApiError::Invalid { kind: "ProjectRequest.project.openshift.io".to_owned(), name, causes });
    }
    let writing = call.writing("CreateOptions")?;
    let requester = call.user.name.clone();
    let namespace = Box::new(namespace(wish, &requester));
    let made = call.registry().create(&NAMESPACES, "", namespace, &writing.write).await;
    let entry = made.map_err(|err| match err {
        ApiError::AlreadyExists { name, is_going, .. } => {
            ApiError::AlreadyExists { resource: "projects.project.openshift.io".to_owned(), name, is_going }
        }
        other => other,
    })?;
    if !writing.write.dry_run {
        let admin = ROLE_BINDINGS.decode(admin(&name, &requester)).expect("it fits the schema");
        call.registry().create(&ROLE_BINDINGS, &name, admin, &WriteOptions::default()).await?;
    }
    call.kind = KindRef::BuiltIn(&PROJECTS);
    call.object(201, &entry)
}

fn namespace(wish: ProjectRequest, requester: &str) -> Namespace {
    let mut metadata = wish.metadata;
    for (key, value) in [(DISPLAY_NAME, &*wish.display_name), (DESCRIPTION, &*wish.description), (REQUESTER, requester)]
    {
        annotate(&mut metadata, key, value);
    }
    Namespace { metadata, ..Namespace::default() }
}

/// Whoever wished for a project may do everything in it.
fn admin(namespace: &str, requester: &str) -> Value {
    json!({
        "metadata": { "name": "admin", "namespace": namespace },
        "roleRef": { "apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": "admin" },
        "subjects": [{ "apiGroup": "rbac.authorization.k8s.io", "kind": "User", "name": requester }],
    })
}

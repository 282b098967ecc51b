//! Projects as OpenShift's clients ask for them: a wish becomes a namespace whose requester may do everything in it, and a project that is
//! deleted goes as its namespace does.
//!
//! **Source**: github.com/openshift/openshift-apiserver, `pkg/project/apiserver/registry/projectrequest/delegated/{delegated,sample_template}.go`,
//! release 4.20.

use super::{Call, delete, read, watch};
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
    identity::rule::{Attributes, On},
    registry::pipeline::WriteOptions,
    server::{codec, media::Offer, paths, respond::Response, route::Verb},
    store::Entry,
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

/// Answers what is asked of a project. Everybody may list projects and sees those whose namespace they may read.
pub(super) async fn answer(call: &mut Call<'_>) -> Result<Response, ApiError> {
    match call.info.verb {
        Verb::Delete => {
            // Its content goes first.
            let format = call.output(Offer::Plain)?.format;
            call.kind = KindRef::BuiltIn(&NAMESPACES);
            delete::one(call).await?;
            paths::success(200, format, &Value::Null)
        }
        Verb::List => read::list_of(call, &visible(call)),
        Verb::Watch => {
            let is_shown = Box::new(visible(call));
            watch::start_of(call, is_shown)
        }
        _ => call.plain().await,
    }
}

/// Whether the caller may read a namespace. **Source**: `pkg/project/auth/{cache,reviewer}.go`.
fn visible(call: &Call<'_>) -> impl Fn(&Entry) -> bool + Send + use<> {
    let (rbac, user) = (call.state.rbac().clone(), call.user.clone());
    move |entry: &Entry| {
        let name = entry.key.rsplit('/').next().unwrap_or_default();
        let on = On::Resource { group: "", resource: "namespaces", subresource: "", namespace: name, name, node: "" };
        rbac.verdict(&user, &Attributes { verb: "get", on }).is_allowed
    }
}

/// Grants a wish for a project; or says whether the caller may have wishes, which clients ask by a list.
pub(super) async fn request(call: &mut Call<'_>) -> Result<Response, ApiError> {
    if call.info.verb == Verb::List {
        may_wish(call)?;
        return paths::success(200, call.output(Offer::Plain)?.format, &Value::Null);
    }
    let format = codec::body_format(&call.request.headers)?;
    let wish: ProjectRequest = codec::decode_plain(format, &call.request.body, "ProjectRequest", API_VERSION)?;
    let name = wish.metadata.name.clone().unwrap_or_default();
    let causes = check(&wish, &name);
    if !causes.is_empty() {
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

/// Refuses who may not wish for a project. **Source**: `List` in `delegated.go`.
fn may_wish(call: &Call<'_>) -> Result<(), ApiError> {
    let info = call.kind.info();
    let (group, resource) = (info.group, info.plural);
    let on = On::Resource { group, resource, subresource: "", namespace: "", name: "", node: "" };
    if call.state.rbac().verdict(&call.user, &Attributes { verb: "create", on }).is_allowed {
        return Ok(());
    }
    let why = "you may not request a new project via this API".to_owned();
    Err(ApiError::Forbidden { resource: info.resource(), name: String::new(), why })
}

/// What is wrong with a wish beside what is wrong with the namespace. **Source**: `ValidateProject`.
fn check(wish: &ProjectRequest, name: &str) -> Vec<FieldError> {
    let mut errs = Vec::new();
    match name.len() {
        0 => errs.push(FieldError::required("metadata.name", "name or generateName is required")),
        1 => errs.push(FieldError::invalid("metadata.name", name, "must be at least 2 characters long")),
        _ => {}
    }
    if wish.display_name.contains(['\n', '\t']) {
        let path = format!("metadata.annotations[{DISPLAY_NAME}]");
        errs.push(FieldError::invalid(path, &wish.display_name, "may not contain a new line or tab"));
    }
    errs
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

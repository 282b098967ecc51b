//! Reads and writes of objects: finds the kind and the sub-resource, checks that they have the verb, and does it.
//!
//! Called by `handle`. May call `registry`. One file per sort of verb; `subresources` is the table of what is more than a part of an
//! object, with a file for each; `not_yet` knows what Kubernetes has beyond all that.
//!
//! **Source**: `k8s.io/apiserver/pkg/endpoints/installer.go` and `handlers/`, v1.37.

mod apply;
mod binding;
mod components;
mod delete;
mod deployment_config;
mod deployment_log;
mod eviction;
pub use eviction::evict;
mod exec;
mod images;
mod log;
mod metrics;
mod node_proxy;
mod not_yet;
mod past;
mod patch;
mod privileges;
mod projects;
mod proxy;
mod read;
mod reviews;
mod scale;
mod subresources;
mod templates;
mod timeline;
mod token;
mod traffic;
mod users;
mod views;
mod watch;
mod write;

pub(super) use subresources::{is_passed_on, is_stream};

use super::{
    ServerState, codec,
    handle::error_format,
    media::{self, Offer, Output},
    options::{self, Writing},
    print::{self, Printer},
    request::Request,
    respond::{self, Response},
    route::{Query, ResourceInfo, Verb},
};
use crate::{
    api::{
        kind::KindRef,
        kinds::{Kinds, pod},
        managed::Writer,
        meta::ObjectKey,
        object::DynObject,
        status::ApiError,
    },
    base::task::Drain,
    identity::User,
    registry::{
        Registry,
        pipeline::{Part, Warnings, with_decoded},
    },
    store::Entry,
};
use http::header::USER_AGENT;
use std::sync::Arc;
use tokio::sync::watch as channel;

/// A call on a kind that is served, with a verb that it has.
pub(super) struct Call<'a> {
    pub(super) state: &'a ServerState,
    pub(super) drain: Drain,
    /// Who calls.
    pub(super) user: User,
    pub(super) kind: KindRef,
    /// The table that the kind was found in, and its changes since.
    pub(super) kinds: channel::Receiver<Arc<Kinds>>,
    pub(super) info: ResourceInfo,
    pub(super) request: Request,
    /// What the client is told beside the answer.
    pub(super) warnings: Vec<String>,
    /// What the registry has to say of what is written.
    pub(super) told: Warnings,
}

/// Answers a request for a resource.
pub(super) async fn answer(
    state: &ServerState,
    drain: Drain,
    user: User,
    info: ResourceInfo,
    request: Request,
) -> Result<Response, ApiError> {
    let mut kinds = state.registry().kinds_watch();
    let kind = find(&kinds.borrow_and_update(), &info)?;
    let mut call =
        Call { state, drain, user, kind, kinds, info, request, warnings: Vec::new(), told: Warnings::collecting() };
    let outcome = call.run().await;
    call.warnings.extend(call.told.take());
    // Warnings belong to refusals too: they may be the reason.
    let format = error_format(&call.request.headers);
    let mut response = match outcome {
        Ok(response) => response,
        Err(err) => respond::failure(&err, format),
    };
    respond::warn(&mut response, &call.warnings);
    Ok(response)
}

/// The kind that a request names, if its path and verb fit the kind.
fn find(kinds: &Kinds, info: &ResourceInfo) -> Result<KindRef, ApiError> {
    let kind = kinds.by_plural(&info.group, &info.version, &info.resource).ok_or_else(|| not_yet::resource(info))?;
    let row = kind.info();
    // A namespace's own path has the form of a path in that namespace.
    let is_in_namespace = !info.namespace.is_empty() && (row.plural, row.group) != ("namespaces", "");
    let needs_namespace = row.is_namespaced() && !info.is_collection;
    if is_in_namespace != row.is_namespaced() && (is_in_namespace || needs_namespace) {
        return Err(ApiError::NoSuchResource);
    }
    let verbs = if info.subresource.is_empty() {
        row.verbs
    } else {
        let sub = row.subresources.iter().find(|s| s.name == info.subresource).ok_or(ApiError::NoSuchResource)?;
        if !info.rest.is_empty() && !subresources::find(info).is_some_and(|row| row.takes_path) {
            return Err(ApiError::NoSuchResource);
        }
        sub.verbs
    };
    let is_allowed = verbs.contains(&info.verb.as_str()) && fits_path(info, row.is_namespaced());
    if is_allowed || is_passed_on(info) {
        Ok(kind.clone())
    } else {
        Err(not_yet::verb(info).unwrap_or(ApiError::MethodNotAllowed))
    }
}

/// Objects are made and deleted together in one namespace, and single objects are not made by name.
fn fits_path(info: &ResourceInfo, is_namespaced: bool) -> bool {
    let has_place = !is_namespaced || !info.namespace.is_empty();
    match info.verb {
        Verb::Create => has_place && (info.is_collection || !info.subresource.is_empty()),
        Verb::DeleteCollection => has_place && info.is_collection,
        Verb::Get | Verb::Update | Verb::Patch | Verb::Delete => !info.is_collection,
        Verb::List | Verb::Watch => info.is_collection,
        Verb::Other => false,
    }
}

impl Call<'_> {
    async fn run(&mut self) -> Result<Response, ApiError> {
        match subresources::find(&self.info) {
            Some(row) => (row.answer)(self).await,
            None => self.plain().await,
        }
    }

    /// Reads or writes the object, or the part of it that the path names.
    async fn plain(&mut self) -> Result<Response, ApiError> {
        match self.info.verb {
            Verb::Get => read::get(self),
            Verb::List => read::list(self),
            Verb::Watch => watch::start(self),
            Verb::Create => write::create(self).await,
            Verb::Update => write::update(self).await,
            Verb::Patch if self.is_apply() => apply::apply(self).await,
            Verb::Patch => patch::patch(self).await,
            Verb::Delete => delete::one(self).await,
            Verb::DeleteCollection => delete::collection(self).await,
            Verb::Other => Err(ApiError::MethodNotAllowed),
        }
    }

    pub(super) fn registry(&self) -> &Registry {
        self.state.registry()
    }

    pub(super) fn query(&self) -> &Query {
        &self.request.query
    }

    /// The object that the path names.
    pub(super) fn key(&self) -> ObjectKey {
        let namespace = if self.kind.info().is_namespaced() { self.info.namespace.as_str() } else { "" };
        ObjectKey::new(namespace, &self.info.name)
    }

    fn entry(&self) -> Result<Arc<Entry>, ApiError> {
        let key = self.key();
        self.registry().entry(&*self.kind, &key).ok_or_else(|| ApiError::not_found(self.kind.info(), &key.name))
    }

    fn is_apply(&self) -> bool {
        self.info.verb == Verb::Patch && codec::content_type(&self.request.headers) == apply::MEDIA_TYPE
    }

    /// The options of a write, and in whose name it is made: the client says, or its program's name stands for it.
    pub(super) fn writing(&self, what: &'static str) -> Result<Writing, ApiError> {
        let mut writing = options::writing(what, self.query(), self.is_apply())?;
        let name = if writing.manager.is_empty() { self.program() } else { writing.manager.clone() };
        writing.write.warnings = self.told.clone();
        writing.write.writer = Some(Writer {
            name,
            subresource: self.info.subresource.clone(),
            api_version: self.kind.info().api_version(),
        });
        Ok(writing)
    }

    /// The name of the client's program. Source: `prefixFromUserAgent` in handlers/create.go.
    fn program(&self) -> String {
        const BYTES_MAX: usize = 128;
        let agent = self.request.headers.get(USER_AGENT).and_then(|v| v.to_str().ok()).unwrap_or_default();
        let name = agent.split('/').next().unwrap_or_default();
        name.chars().filter(|c| !c.is_control()).take(BYTES_MAX).collect()
    }

    /// Refuses what becomes of an entry where the caller lacks a privilege for it, or completes it with who the caller is.
    ///
    /// # Errors
    /// `Forbidden`, in Kubernetes' words.
    fn review(&self, new: &mut dyn DynObject, entry: Option<&Entry>) -> Result<(), ApiError> {
        let Some(review) = privileges::find(self.kind.info(), &self.user) else { return Ok(()) };
        let asker = privileges::Asker::of(self);
        let Some(entry) = entry else { return review(&asker, new, None) };
        let reviewed = with_decoded(&*self.kind, entry, true, |old| review(&asker, new, Some(old)));
        reviewed.map_err(|err| ApiError::Internal(format!("a stored object cannot be read: {err}")))?
    }

    fn part(&self) -> Part {
        match &*self.info.subresource {
            "status" | "approval" => Part::Status,
            pod::EPHEMERAL_CONTAINERS => Part::Facet(pod::EPHEMERAL_CONTAINERS),
            pod::RESIZE => Part::Facet(pod::RESIZE),
            _ => Part::Main,
        }
    }

    pub(super) fn output(&self, offer: Offer) -> Result<Output, ApiError> {
        media::negotiate(&self.request.headers, self.query().text("pretty"), offer, print::protobuf_of(&self.kind))
    }

    pub(super) fn printer(&self, output: Output) -> Result<Printer, ApiError> {
        Printer::new(self.kind.clone(), output.shape, self.query(), self.registry().clock().now())
    }

    /// One object as the answer.
    fn object(&self, code: u16, entry: &Entry) -> Result<Response, ApiError> {
        let output = self.output(Offer::Objects)?;
        respond::object(code, output, self.printer(output)?.single(entry)?)
    }
}

//! What an API call can fail with, and the `metav1.Status` it becomes. The only such mapping.
//!
//! **Source** of the texts: `k8s.io/apimachinery/pkg/api/errors/errors.go`, v1.37. kubectl and oc users read them.

use super::{field::FieldError, kind::KindInfo};
use crate::base::ordered::Map;
use serde_json::{Value, json};

/// What a caller can do about an error.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ErrorClass {
    /// Try again later, with back-off.
    Retry,
    /// The world moved: read again, decide again.
    Conflict,
    /// The request is wrong; trying again does not help.
    Invalid,
    /// The object is not there.
    NotFound,
    /// Nothing can be done.
    Fatal,
}

/// Why an API call failed. `Display` is the message that clients see.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ApiError {
    /// 404: the object does not exist.
    #[error("{resource} {name:?} not found")]
    NotFound {
        /// `plural.group`.
        resource: String,
        /// The object's name.
        name: String,
    },
    /// 404: the URL names nothing that the server has.
    #[error("the server could not find the requested resource")]
    NoSuchResource,
    /// 404: Kubernetes has it and skiff does not, so that a client's user is told more than that nothing is there.
    #[error("skiff does not serve {0} yet")]
    NotServed(String),
    /// 409: an object of that name exists, or has not gone yet.
    #[error("{}{resource} {name:?} already exists", if *.is_going { "object is being deleted: " } else { "" })]
    AlreadyExists {
        /// `plural.group`.
        resource: String,
        /// The object's name.
        name: String,
        /// Whether it is being deleted, so that the name will be free.
        is_going: bool,
    },
    /// 409: the object changed since it was read, or its state forbids the call.
    #[error("Operation cannot be fulfilled on {resource} {name:?}: {why}")]
    Conflict {
        /// `plural.group`.
        resource: String,
        /// The object's name.
        name: String,
        /// Why.
        why: String,
    },
    /// 409: an apply changes fields that others own.
    #[error("{}", apply_conflict_text(.0))]
    ApplyConflict(Vec<Conflicting>),
    /// 422: fields are wrong; all of them are named.
    #[error("{kind} {name:?} is invalid: {}", causes_text(.causes))]
    Invalid {
        /// `Kind.group`.
        kind: String,
        /// The object's name.
        name: String,
        /// What is wrong.
        causes: Vec<FieldError>,
    },
    /// 400: the request cannot be understood.
    #[error("{0}")]
    BadRequest(String),
    /// 401: who is calling is not known.
    #[error("Unauthorized")]
    Unauthorized,
    /// 403: the caller may not, or the state of the object's surroundings forbids it.
    #[error("{}forbidden: {why}", forbidden_text(resource, name))]
    Forbidden {
        /// `plural.group`.
        resource: String,
        /// The object's name; may be empty.
        name: String,
        /// Why.
        why: String,
    },
    /// 405: the resource does not have this verb.
    #[error("the server does not allow this method on the requested resource")]
    MethodNotAllowed,
    /// 406: no media type that the client takes, or a form that the answer cannot have.
    #[error("{0}")]
    NotAcceptable(String),
    /// 415: a body that the server cannot read.
    #[error("{0}")]
    UnsupportedMediaType(String),
    /// 413: the body is too big.
    #[error("Request entity too large: limit is {0}")]
    TooLarge(usize),
    /// 413: the object would be larger than the store keeps.
    #[error("Request entity too large: the object has {bytes} bytes, the limit is {max}")]
    ObjectTooLarge {
        /// How large it is.
        bytes: usize,
        /// The most allowed.
        max: usize,
    },
    /// 431: the head of the request is too big.
    #[error("the head of the request is too large: limit is {0} bytes")]
    HeadTooLarge(usize),
    /// 429: more requests are under way than the server takes.
    #[error("Too many requests, please try again later.")]
    TooManyRequests,
    /// 429: a budget does not let the pod go now.
    #[error("Cannot evict pod as it would violate the pod's disruption budget.")]
    OverBudget {
        /// Which budget, and what it needs.
        cause: String,
        /// How soon to try again, in seconds, if that can be said.
        retry_after_secs: Option<u32>,
    },
    /// 413: a patch has more operations than allowed.
    #[error("Request entity too large: {0}")]
    TooManyOperations(String),
    /// 422: a patch does not fit the object. Kubernetes' message keeps the reason to itself; here it is the cause.
    #[error("the server rejected our request due to an error in our request")]
    Unprocessable {
        /// Where the patch does not fit.
        at: String,
        /// Why.
        why: String,
    },
    /// 410: the wanted revision is no longer known, or not yet.
    #[error("{0}")]
    Expired(String),
    /// 410: the revision of a list's first page is no longer known; the token goes on with what is there now.
    /// Source: `inconsistentContinue` in storage/etcd3/errors.go.
    #[error(
        "The provided continue parameter is too old to display a consistent list result. You can start a new list without the \
         continue parameter, or use the continue token in this response to retrieve the remainder of the results. Continuing with \
         the provided token results in an inconsistent list - objects that were created, modified, or deleted between the time the \
         first chunk was returned and now may show up in the list."
    )]
    PageExpired {
        /// The token to go on with.
        token: String,
    },
    /// 504 with a hint to retry: the wanted revision has not happened yet.
    #[error("Timeout: Too large resource version: {wanted}, current: {current}")]
    FutureRevision {
        /// What the client asked for.
        wanted: u64,
        /// What the store has.
        current: u64,
    },
    /// 501-like refusals of what skiff does not do (yet): a 4xx, so that clients stop and say so.
    #[error("skiff does not support {0}")]
    Unsupported(String),
    /// 504: the server gave the call up.
    #[error("Timeout: {0}")]
    Timeout(String),
    /// 503: try again.
    #[error("{0}")]
    Unavailable(String),
    /// 503: who was asked for does not answer. Clients are not told to try again: they would, for long, and say nothing meanwhile.
    #[error("{0}")]
    Unreachable(String),
    /// 500: what the client sees; the cause is in the log.
    #[error("Internal error occurred: {0}")]
    Internal(String),
}

/// A field that somebody else owns with another value.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Conflicting {
    /// Who: `"kubectl" using apps/v1`.
    pub manager: String,
    /// Which, e.g. `.spec.replicas`.
    pub path: String,
}

/// Source: `getConflictMessage` in apimachinery/pkg/util/managedfields/internal/conflict.go.
fn apply_conflict_text(conflicts: &[Conflicting]) -> String {
    if let [Conflicting { manager, path }] = conflicts {
        return format!("Apply failed with 1 conflict: conflict with {manager}: {path}");
    }
    let mut of_manager: Map<&str, Vec<&str>> = Map::new();
    conflicts.iter().for_each(|c| of_manager.entry(&c.manager).or_default().push(&c.path));
    let lines = of_manager.into_iter().flat_map(|(manager, paths)| {
        std::iter::once(format!("conflicts with {manager}:")).chain(paths.into_iter().map(|path| format!("- {path}")))
    });
    format!("Apply failed with {} conflicts: {}", conflicts.len(), lines.collect::<Vec<_>>().join("\n"))
}

/// What is forbidden, as far as it has a name. Source: `NewForbidden`.
fn forbidden_text(resource: &str, name: &str) -> String {
    match (resource, name) {
        ("", _) => String::new(),
        (resource, "") => format!("{resource} is "),
        (resource, name) => format!("{resource} {name:?} is "),
    }
}

/// No more causes than this are told one by one: an object may have tens of thousands of wrong fields.
pub const CAUSES_MAX: usize = 100;

/// How many causes are not told.
fn untold(causes: &[FieldError]) -> Option<String> {
    let more = causes.len().checked_sub(CAUSES_MAX).filter(|more| *more > 0)?;
    Some(format!("and {more} more errors"))
}

fn causes_text(causes: &[FieldError]) -> String {
    match causes {
        [one] => one.to_string(),
        many => {
            let told = many.iter().take(CAUSES_MAX).map(ToString::to_string).chain(untold(many));
            format!("[{}]", told.collect::<Vec<_>>().join(", "))
        }
    }
}

impl ApiError {
    /// The object of that kind and name is not there.
    pub fn not_found(info: &KindInfo<'_>, name: &str) -> Self {
        Self::NotFound { resource: info.resource(), name: name.to_owned() }
    }

    /// The object changed since it was read.
    pub fn modified(info: &KindInfo<'_>, name: &str) -> Self {
        Self::Conflict {
            resource: info.resource(),
            name: name.to_owned(),
            why: "the object has been modified; please apply your changes to the latest version and try again".into(),
        }
    }

    /// Fields are wrong.
    pub fn invalid(info: &KindInfo<'_>, name: &str, causes: Vec<FieldError>) -> Self {
        Self::Invalid { kind: info.qualified_kind(), name: name.to_owned(), causes }
    }

    /// What the caller can do about it.
    pub fn class(&self) -> ErrorClass {
        match self {
            Self::NotFound { .. } | Self::NoSuchResource | Self::NotServed(_) => ErrorClass::NotFound,
            Self::AlreadyExists { .. }
            | Self::Conflict { .. }
            | Self::ApplyConflict(_)
            | Self::Expired(_)
            | Self::PageExpired { .. } => ErrorClass::Conflict,
            Self::Unavailable(_)
            | Self::Unreachable(_)
            | Self::Timeout(_)
            | Self::TooManyRequests
            | Self::OverBudget { .. }
            | Self::FutureRevision { .. }
            | Self::Internal(_) => ErrorClass::Retry,
            Self::Invalid { .. }
            | Self::BadRequest(_)
            | Self::Unauthorized
            | Self::Forbidden { .. }
            | Self::MethodNotAllowed
            | Self::NotAcceptable(_)
            | Self::UnsupportedMediaType(_)
            | Self::TooLarge(_)
            | Self::HeadTooLarge(_)
            | Self::TooManyOperations(_)
            | Self::ObjectTooLarge { .. }
            | Self::Unprocessable { .. }
            | Self::Unsupported(_) => ErrorClass::Invalid,
        }
    }

    /// The HTTP status code.
    pub fn code(&self) -> u16 {
        self.code_and_reason().0
    }

    fn code_and_reason(&self) -> (u16, &'static str) {
        match self {
            Self::NotFound { .. } | Self::NoSuchResource | Self::NotServed(_) => (404, "NotFound"),
            Self::AlreadyExists { .. } => (409, "AlreadyExists"),
            Self::Conflict { .. } | Self::ApplyConflict(_) => (409, "Conflict"),
            Self::Invalid { .. } | Self::Unprocessable { .. } => (422, "Invalid"),
            Self::BadRequest(_) | Self::Unsupported(_) => (400, "BadRequest"),
            Self::Unauthorized => (401, "Unauthorized"),
            Self::Forbidden { .. } => (403, "Forbidden"),
            Self::MethodNotAllowed => (405, "MethodNotAllowed"),
            Self::NotAcceptable(_) => (406, "NotAcceptable"),
            Self::UnsupportedMediaType(_) => (415, "UnsupportedMediaType"),
            Self::TooLarge(_) | Self::TooManyOperations(_) | Self::ObjectTooLarge { .. } => {
                (413, "RequestEntityTooLarge")
            }
            Self::TooManyRequests | Self::OverBudget { .. } => (429, "TooManyRequests"),
            Self::HeadTooLarge(_) => (431, "RequestEntityTooLarge"),
            Self::Expired(_) | Self::PageExpired { .. } => (410, "Expired"),
            Self::FutureRevision { .. } | Self::Timeout(_) => (504, "Timeout"),
            Self::Unavailable(_) | Self::Unreachable(_) => (503, "ServiceUnavailable"),
            Self::Internal(_) => (500, "InternalError"),
        }
    }

    /// How soon the call may be tried again, if the error says so.
    pub fn retry_after_secs(&self) -> Option<u32> {
        if let Self::OverBudget { retry_after_secs, .. } = self {
            return *retry_after_secs;
        }
        matches!(self, Self::Unavailable(_) | Self::FutureRevision { .. } | Self::TooManyRequests).then_some(1)
    }

    /// The `metav1.Status` that clients get.
    pub fn to_status(&self) -> Value {
        let (code, reason) = self.code_and_reason();
        let mut status = json!({
            "kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Failure",
            "message": self.to_string(), "reason": reason, "code": code,
        });
        if let Some(details) = self.details() {
            status["details"] = details;
        }
        if let Self::PageExpired { token } = self {
            status["metadata"]["continue"] = json!(token);
        }
        status
    }

    fn details(&self) -> Option<Value> {
        let of = |resource: &str, name: &str| {
            let (kind, group) = resource.split_once('.').unwrap_or((resource, ""));
            let mut d = json!({});
            if !kind.is_empty() {
                d["kind"] = json!(kind);
            }
            if !name.is_empty() {
                d["name"] = json!(name);
            }
            if !group.is_empty() {
                d["group"] = json!(group);
            }
            d
        };
        match self {
            Self::NotFound { resource, name }
            | Self::AlreadyExists { resource, name, .. }
            | Self::Conflict { resource, name, .. }
            | Self::Forbidden { resource, name, .. } => Some(of(resource, name)),
            Self::Invalid { kind, name, causes } => {
                let mut d = of(kind, name);
                d["causes"] = causes
                    .iter()
                    .take(CAUSES_MAX)
                    .map(|c| json!({ "reason": c.reason(), "message": c.body(), "field": c.path }))
                    .collect();
                Some(d)
            }
            Self::ApplyConflict(conflicts) => {
                let cause = |c: &Conflicting| {
                    let message = format!("conflict with {}", c.manager);
                    json!({ "reason": "FieldManagerConflict", "message": message, "field": c.path })
                };
                Some(json!({ "causes": conflicts.iter().map(cause).collect::<Vec<_>>() }))
            }
            Self::Unprocessable { at, why } => {
                Some(json!({ "causes": [{ "reason": "FieldValueInvalid", "message": why, "field": at }] }))
            }
            Self::FutureRevision { .. } => Some(json!({
                "causes": [{ "reason": "ResourceVersionTooLarge", "message": "Too large resource version" }],
                "retryAfterSeconds": 1,
            })),
            Self::TooManyRequests => Some(json!({ "retryAfterSeconds": 1 })),
            Self::OverBudget { cause, retry_after_secs } => {
                let mut details = json!({ "causes": [{ "reason": "DisruptionBudget", "message": cause }] });
                if let Some(secs) = retry_after_secs {
                    details["retryAfterSeconds"] = json!(secs);
                }
                Some(details)
            }
            Self::NoSuchResource
            | Self::NotServed(_)
            | Self::BadRequest(_)
            | Self::Unauthorized
            | Self::MethodNotAllowed
            | Self::NotAcceptable(_)
            | Self::UnsupportedMediaType(_)
            | Self::TooLarge(_)
            | Self::TooManyOperations(_)
            | Self::ObjectTooLarge { .. }
            | Self::HeadTooLarge(_)
            | Self::Expired(_)
            | Self::PageExpired { .. }
            | Self::Unsupported(_)
            | Self::Timeout(_)
            | Self::Unavailable(_)
            | Self::Unreachable(_)
            | Self::Internal(_) => None,
        }
    }
}

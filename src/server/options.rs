//! Reads the options of requests: what a list or watch wants, how a write or delete is done. Pure.
//!
//! Called by `verbs`. **Not here**: the path (`route`), media types (`media`).
//! **Source**: `k8s.io/apimachinery/pkg/apis/meta/{internalversion,v1}/validation/validation.go`, v1.37.

use super::route::Query;
use crate::{
    api::{
        field::FieldError,
        kind::ErasedKind,
        meta::Revision,
        selector::{FieldSelector, LabelSelector},
        status::ApiError,
    },
    base::json,
    registry::pipeline::{DeleteOptions, Propagation, Selection, WriteOptions},
};
use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::DeleteOptions as ApiDeleteOptions;
use serde::{Deserialize, Serialize};

/// Which revision a list shows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum At {
    /// The newest.
    Newest,
    /// The newest; the client does not care, so that nothing need be cut into pages.
    Any,
    /// The newest, but not before this one.
    NotOlderThan(Revision),
    /// Exactly this one.
    Exactly(Revision),
}

/// Options of a list.
#[derive(Clone, Debug, PartialEq)]
pub struct ListOptions {
    /// Which objects.
    pub selection: Selection,
    /// At which revision.
    pub at: At,
    /// The most items of one answer; 0 is all.
    pub limit: usize,
    /// Where the last page ended.
    pub after: Option<Continue>,
}

/// Options of a watch.
#[derive(Clone, Debug, PartialEq)]
pub struct WatchOptions {
    /// Which objects.
    pub selection: Selection,
    /// Changes after this revision; 0 from any.
    pub from: Revision,
    /// Whether the present objects are sent first, and how their end is shown.
    pub initial: Initial,
    /// Whether the client takes bookmarks.
    pub bookmarks: bool,
    /// When the client wants it to end.
    pub timeout_secs: Option<u64>,
}

/// What a watch begins with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Initial {
    /// The present objects, because no revision was given.
    Objects,
    /// The present objects, then a bookmark that says so.
    ObjectsThenBookmark,
    /// The changes after this revision.
    Changes,
}

/// Where a list goes on: a revision and the last key that was sent.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Continue {
    v: String,
    /// The revision of the whole list; negative: whatever is there now.
    pub rv: i64,
    /// The last key that was sent.
    pub start: String,
}

const TOKEN_VERSION: &str = "meta.k8s.io/v1";

impl Continue {
    /// Goes on after this key.
    pub fn new(revision: Revision, last_key: &str) -> Self {
        let rv = i64::try_from(revision.0).unwrap_or(i64::MAX);
        Self { v: TOKEN_VERSION.to_owned(), rv, start: last_key.to_owned() }
    }

    /// Goes on in what is there now, for a list whose revision is no longer known.
    /// Source: `handleCompactedErrorForPaging` in storage/etcd3/errors.go.
    #[must_use]
    pub fn regardless(&self) -> Self {
        Self { rv: -1, ..self.clone() }
    }

    /// At which revision it goes on.
    fn at(&self) -> At {
        u64::try_from(self.rv).map_or(At::Newest, |revision| At::Exactly(Revision(revision)))
    }

    /// The token that clients send back.
    pub fn token(&self) -> String {
        URL_SAFE_NO_PAD.encode(serde_json::to_vec(self).expect("a token has string keys only"))
    }

    fn parse(token: &str) -> Result<Self, ApiError> {
        let invalid =
            || ApiError::BadRequest("continue key is not valid: encoded key is not a token of this server".into());
        let bytes = URL_SAFE_NO_PAD.decode(token.trim_end_matches('=')).map_err(|_err| invalid())?;
        let read: Self = json::read(&bytes).map_err(|_err| invalid())?;
        // Keys are paths below a kind's prefix. Source: `DecodeContinue` in apiserver/pkg/storage/continue.go.
        let leads_out = read.start.split('/').any(|part| matches!(part, "." | ".."));
        if read.v == TOKEN_VERSION && !leads_out { Ok(read) } else { Err(invalid()) }
    }
}

/// Reads the options of a list.
pub fn list_options(kind: &dyn ErasedKind, query: &Query) -> Result<ListOptions, ApiError> {
    let selection = selection(kind, query, None)?;
    let (version, matching) = (query.text("resourceVersion"), query.text("resourceVersionMatch"));
    let token = query.text("continue");
    let mut causes = Vec::new();
    if !matching.is_empty() {
        check_match(matching, version, token, &mut causes);
        if matching == "Exact" && version == "0" {
            let why = "resourceVersionMatch \"exact\" is forbidden for resourceVersion \"0\"";
            causes.push(FieldError::forbidden("resourceVersionMatch", why));
        }
    }
    if query.get("sendInitialEvents").is_some() {
        causes.push(FieldError::forbidden("sendInitialEvents", "sendInitialEvents is forbidden for list"));
    }
    reject("ListOptions", causes)?;
    number(query, "timeoutSeconds")?;
    let limit = usize::try_from(number(query, "limit")?.unwrap_or(0)).unwrap_or(0);
    if !token.is_empty() {
        if !matches!(version, "" | "0") {
            return Err(ApiError::BadRequest("specifying resource version is not allowed when using continue".into()));
        }
        let after = Continue::parse(token)?;
        return Ok(ListOptions { selection, at: after.at(), limit, after: Some(after) });
    }
    let at = match (revision(version)?, matching) {
        (None, _) => At::Newest,
        (Some(Revision(0)), _) => At::Any,
        (Some(r), "Exact") => At::Exactly(r),
        // Before there was a match parameter, a limited list was an exact one.
        (Some(r), "") if limit > 0 => At::Exactly(r),
        (Some(r), _) => At::NotOlderThan(r),
    };
    Ok(ListOptions { selection, at, limit, after: None })
}

/// Reads the options of a watch. `name` is the object that the path names, if any.
pub fn watch_options(kind: &dyn ErasedKind, query: &Query, name: Option<&str>) -> Result<WatchOptions, ApiError> {
    let selection = selection(kind, query, name)?;
    let (version, matching) = (query.text("resourceVersion"), query.text("resourceVersionMatch"));
    let sends_initial = query.get("sendInitialEvents").map(|_| query.is_true("sendInitialEvents"));
    let mut causes = Vec::new();
    if sends_initial.is_some() && matching != "NotOlderThan" {
        let why = "sendInitialEvents requires setting resourceVersionMatch to NotOlderThan";
        causes.push(FieldError::forbidden("resourceVersionMatch", why));
    }
    if !matching.is_empty() {
        if sends_initial.is_none() {
            let why = "resourceVersionMatch is forbidden for watch unless sendInitialEvents is provided";
            causes.push(FieldError::forbidden("resourceVersionMatch", why));
        }
        if matching != "NotOlderThan" {
            causes.push(FieldError::not_supported("resourceVersionMatch", matching, &["NotOlderThan"]));
        }
    }
    if !matching.is_empty() && !query.text("continue").is_empty() {
        let why = "resourceVersionMatch is forbidden when continue is provided";
        causes.push(FieldError::forbidden("resourceVersionMatch", why));
    }
    reject("ListOptions", causes)?;
    let from = revision(version)?.unwrap_or_default();
    let initial = match sends_initial {
        Some(true) => Initial::ObjectsThenBookmark,
        None if from == Revision(0) => Initial::Objects,
        Some(false) | None => Initial::Changes,
    };
    let timeout_secs = number(query, "timeoutSeconds")?.and_then(|n| u64::try_from(n).ok()).filter(|n| *n > 0);
    Ok(WatchOptions { selection, from, initial, bookmarks: query.is_true("allowWatchBookmarks"), timeout_secs })
}

fn check_match(matching: &str, version: &str, token: &str, causes: &mut Vec<FieldError>) {
    let mut forbid = |why: &str| causes.push(FieldError::forbidden("resourceVersionMatch", why));
    if version.is_empty() {
        forbid("resourceVersionMatch is forbidden unless resourceVersion is provided");
    }
    if !token.is_empty() {
        forbid("resourceVersionMatch is forbidden when continue is provided");
    }
    if !matches!(matching, "Exact" | "NotOlderThan") {
        causes.push(FieldError::not_supported("resourceVersionMatch", matching, &["Exact", "NotOlderThan", ""]));
    }
}

/// Which objects a request picks by label, by field and by the name in its path.
pub fn selection(kind: &dyn ErasedKind, query: &Query, name: Option<&str>) -> Result<Selection, ApiError> {
    let bad = |err: &dyn std::fmt::Display| ApiError::BadRequest(err.to_string());
    let labels = LabelSelector::parse(query.text("labelSelector")).map_err(|e| bad(&e))?;
    let known = kind.field_labels();
    let own: Vec<&str> = known.iter().map(|(label, _)| *label).collect();
    let fields = FieldSelector::parse(query.text("fieldSelector")).map_err(|e| bad(&e))?;
    fields.check_supported(&own).map_err(|e| bad(&e))?;
    let stored = |label: &str| known.iter().find(|(l, _)| *l == label).map(|(_, key)| *key);
    let mut fields = fields.renamed(stored);
    if let Some(name) = name {
        // Source: `ListResource` in apiserver/pkg/endpoints/handlers/get.go.
        if fields.required("metadata.name").is_some_and(|wanted| wanted != name) {
            return Err(ApiError::BadRequest("fieldSelector metadata.name doesn't match requested name".to_owned()));
        }
        fields = fields.and_equals("metadata.name", name);
    }
    Ok(Selection { labels, fields })
}

/// The revision that a text names; `None` when it is empty.
pub fn revision(text: &str) -> Result<Option<Revision>, ApiError> {
    if text.is_empty() {
        return Ok(None);
    }
    text.parse().map(|n| Some(Revision(n))).map_err(|_err| {
        ApiError::BadRequest(format!(
            "resourceVersion: Invalid value: {text:?}: strconv.ParseUint: parsing {text:?}: invalid syntax"
        ))
    })
}

/// A whole number of the query, or the refusal of anything else.
pub fn number(query: &Query, name: &str) -> Result<Option<i64>, ApiError> {
    let text = query.text(name);
    if text.is_empty() {
        return Ok(None);
    }
    let bad = || ApiError::BadRequest(format!("strconv.ParseInt: parsing {text:?}: invalid syntax"));
    text.parse().map(Some).map_err(|_err| bad())
}

/// What to do about fields that a kind does not have.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FieldValidation {
    /// Drop them.
    Ignore,
    /// Drop them and say so.
    Warn,
    /// Refuse the object.
    Strict,
}

/// Options of a create, update or patch.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Writing {
    /// What the registry must know.
    pub write: WriteOptions,
    /// What becomes of unknown fields.
    pub validation: FieldValidation,
    /// The manager that the client names; empty when it names none.
    pub manager: String,
}

/// Reads the options of a write; `what` is `CreateOptions`, `UpdateOptions` or `PatchOptions`.
pub fn writing(what: &'static str, query: &Query, is_apply: bool) -> Result<Writing, ApiError> {
    let mut causes = Vec::new();
    let dry_run = dry_run(query.all("dryRun"), &mut causes);
    let validation = match query.text("fieldValidation") {
        "" | "Warn" => FieldValidation::Warn,
        "Ignore" => FieldValidation::Ignore,
        "Strict" => FieldValidation::Strict,
        other => {
            causes.push(FieldError::not_supported("fieldValidation", other, &["", "Ignore", "Strict", "Warn"]));
            FieldValidation::Warn
        }
    };
    let manager = query.text("fieldManager");
    if manager.len() > 128 {
        let kind = crate::api::field::FieldErrorKind::TooLong(128);
        causes.push(FieldError { path: "fieldManager".into(), kind, detail: String::new() });
    }
    for (at, c) in manager.char_indices().filter(|(_, c)| c.is_control()).take(1) {
        let why = format!("invalid character U+{:04X} (at position {at})", u32::from(c));
        causes.push(FieldError::invalid("fieldManager", manager, why));
    }
    if is_apply && manager.is_empty() {
        causes.push(FieldError::required("fieldManager", "is required for apply patch"));
    }
    if what == "PatchOptions" && !is_apply && query.get("force").is_some() {
        causes.push(FieldError::forbidden("force", "may not be specified for non-apply patch"));
    }
    reject(what, causes)?;
    Ok(Writing { write: WriteOptions { dry_run, ..WriteOptions::default() }, validation, manager: manager.to_owned() })
}

fn dry_run<'a>(values: impl Iterator<Item = &'a str>, causes: &mut Vec<FieldError>) -> bool {
    let values: Vec<&str> = values.filter(|v| !v.is_empty()).collect();
    for value in values.iter().filter(|v| **v != "All") {
        causes.push(FieldError::not_supported("dryRun", value, &["All"]));
    }
    !values.is_empty()
}

/// Reads the options of a delete from the query.
pub fn delete_options_of_query(query: &Query) -> Result<ApiDeleteOptions, ApiError> {
    let list = |name| Some(query.all(name).map(str::to_owned).collect::<Vec<_>>()).filter(|l| !l.is_empty());
    Ok(ApiDeleteOptions {
        dry_run: list("dryRun"),
        grace_period_seconds: number(query, "gracePeriodSeconds")?,
        orphan_dependents: query.get("orphanDependents").map(|_| query.is_true("orphanDependents")),
        propagation_policy: query.get("propagationPolicy").map(str::to_owned),
        ..Default::default()
    })
}

/// Checks the options of a delete.
pub fn delete_options(given: ApiDeleteOptions) -> Result<DeleteOptions, ApiError> {
    let mut causes = Vec::new();
    let path = "propagationPolicy";
    let propagation = match given.propagation_policy.as_deref() {
        None => {
            given.orphan_dependents.map(|orphan| if orphan { Propagation::Orphan } else { Propagation::Background })
        }
        Some("Orphan") => Some(Propagation::Orphan),
        Some("Foreground") => Some(Propagation::Foreground),
        Some("Background") => Some(Propagation::Background),
        Some(other) => {
            causes.push(FieldError::not_supported(path, other, &["Foreground", "Background", "Orphan", "nil"]));
            None
        }
    };
    if let (Some(_), Some(policy)) = (given.orphan_dependents, &given.propagation_policy) {
        let why = "orphanDependents and deletionPropagation cannot be both set";
        causes.insert(0, FieldError::invalid(path, policy, why));
    }
    let dry_run = dry_run(given.dry_run.iter().flatten().map(String::as_str), &mut causes);
    reject("DeleteOptions", causes)?;
    let preconditions = given.preconditions.unwrap_or_default();
    Ok(DeleteOptions {
        grace_period_secs: given.grace_period_seconds,
        propagation,
        uid: preconditions.uid,
        resource_version: preconditions.resource_version,
        dry_run,
    })
}

fn reject(kind: &str, causes: Vec<FieldError>) -> Result<(), ApiError> {
    if causes.is_empty() {
        return Ok(());
    }
    Err(ApiError::Invalid { kind: format!("{kind}.meta.k8s.io"), name: String::new(), causes })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::api::{
        kind::Erased,
        kinds::{config_map::ConfigMaps, pod::Pods},
    };

    proptest::proptest! {
        /// Whatever stands in a URL is read or refused, by every reader of URLs.
        #[test]
        fn no_url_is_too_strange(
            path in "(/|[a-z%0-9.]|api|apis|v1|pods|watch|namespaces|\\PC){0,40}",
            names in proptest::collection::vec(proptest::sample::select(&NAMES[..]), 0..6),
            values in proptest::collection::vec("(-?[0-9]{1,25}|true|=|,|!|\\(|\\)|in|notin|%[0-9a-f]{0,2}|\\PC){0,8}", 6),
        ) {
            let pairs: Vec<String> = names.iter().zip(&values).map(|(name, value)| format!("{name}={value}")).collect();
            let query = Query::parse(&pairs.join("&"));
            let kind = &Erased::<Pods>::NEW;
            drop(crate::server::route::route(&http::Method::GET, &path, &query));
            drop(list_options(kind, &query));
            drop(watch_options(kind, &query, None));
            drop(selection(kind, &query, Some("x")));
            drop(writing("CreateOptions", &query, false));
            drop(delete_options_of_query(&query).and_then(delete_options));
            drop(number(&query, "limit"));
        }
    }

    /// Every name that a reader of URLs knows.
    const NAMES: [&str; 14] = [
        "labelSelector",
        "fieldSelector",
        "limit",
        "continue",
        "resourceVersion",
        "resourceVersionMatch",
        "watch",
        "timeoutSeconds",
        "sendInitialEvents",
        "dryRun",
        "fieldManager",
        "fieldValidation",
        "gracePeriodSeconds",
        "propagationPolicy",
    ];

    fn list(query: &str) -> String {
        match list_options(&Erased::<Pods>::NEW, &Query::parse(query)) {
            Ok(o) => format!("{:?} limit {} after {:?}", o.at, o.limit, o.after.map(|c| c.start)),
            Err(e) => format!("{} {e}", e.code()),
        }
    }

    #[test]
    fn a_token_that_leads_out_of_its_kind_is_refused() {
        for start in ["..", "../../secrets/a", "a/../b", "./a"] {
            let token = Continue::new(Revision(1), start).regardless().token();
            assert!(list(&format!("continue={token}")).starts_with("400 continue key is not valid"), "{start}");
        }
        let token = Continue::new(Revision(1), "default/a..b").regardless().token();
        assert!(list(&format!("continue={token}")).starts_with("Newest"));
    }

    #[test]
    fn the_revision_of_a_list_follows_kubernetes_table() {
        for (query, want) in [
            ("", "Newest limit 0 after None"),
            ("resourceVersion=0&limit=500", "Any limit 500 after None"),
            ("resourceVersion=7", "NotOlderThan(Revision(7)) limit 0 after None"),
            ("resourceVersion=7&limit=5", "Exactly(Revision(7)) limit 5 after None"),
            (
                "resourceVersion=7&limit=5&resourceVersionMatch=NotOlderThan",
                "NotOlderThan(Revision(7)) limit 5 after None",
            ),
            ("resourceVersion=7&resourceVersionMatch=Exact", "Exactly(Revision(7)) limit 0 after None"),
            (
                "resourceVersionMatch=Exact",
                "422 ListOptions.meta.k8s.io \"\" is invalid: resourceVersionMatch: Forbidden: \
                 resourceVersionMatch is forbidden unless resourceVersion is provided",
            ),
            (
                "resourceVersion=0&resourceVersionMatch=Exact",
                "422 ListOptions.meta.k8s.io \"\" is invalid: resourceVersionMatch: Forbidden: \
                 resourceVersionMatch \"exact\" is forbidden for resourceVersion \"0\"",
            ),
            (
                "resourceVersion=1&resourceVersionMatch=x",
                "422 ListOptions.meta.k8s.io \"\" is invalid: resourceVersionMatch: Unsupported value: \"x\": \
                 supported values: \"Exact\", \"NotOlderThan\", \"\"",
            ),
            ("limit=x", "400 strconv.ParseInt: parsing \"x\": invalid syntax"),
            ("continue=%21", "400 continue key is not valid: encoded key is not a token of this server"),
        ] {
            assert_eq!(list(query), want, "{query}");
        }
    }

    #[test]
    fn a_token_leads_to_where_it_was_given() {
        let token = Continue::new(Revision(9), "core/pods/a/b").token();
        let want = "Exactly(Revision(9)) limit 2 after Some(\"core/pods/a/b\")";
        assert_eq!(list(&format!("limit=2&continue={token}")), want);
        assert_eq!(
            list(&format!("resourceVersion=8&continue={token}")),
            "400 specifying resource version is not allowed when using continue"
        );
    }

    #[test]
    fn a_watch_begins_as_it_is_asked_to() {
        let read = |query: &str| match watch_options(&Erased::<Pods>::NEW, &Query::parse(query), None) {
            Ok(o) => format!("{} {:?}", o.from, o.initial),
            Err(e) => format!("{} {e}", e.code()),
        };
        assert_eq!(read(""), "0 Objects");
        assert_eq!(read("resourceVersion=0"), "0 Objects");
        assert_eq!(read("resourceVersion=7"), "7 Changes");
        assert_eq!(read("sendInitialEvents=true&resourceVersionMatch=NotOlderThan"), "0 ObjectsThenBookmark");
        assert_eq!(read("sendInitialEvents=false&resourceVersionMatch=NotOlderThan"), "0 Changes");
        assert_eq!(
            read("sendInitialEvents=true"),
            "422 ListOptions.meta.k8s.io \"\" is invalid: resourceVersionMatch: Forbidden: \
             sendInitialEvents requires setting resourceVersionMatch to NotOlderThan"
        );
        assert_eq!(
            read("resourceVersionMatch=NotOlderThan"),
            "422 ListOptions.meta.k8s.io \"\" is invalid: resourceVersionMatch: Forbidden: \
             resourceVersionMatch is forbidden for watch unless sendInitialEvents is provided"
        );
    }

    #[test]
    fn unknown_field_labels_are_refused() {
        let read =
            |kind: &dyn ErasedKind, query: &str| selection(kind, &Query::parse(query), None).unwrap_err().to_string();
        assert_eq!(read(&Erased::<Pods>::NEW, "fieldSelector=spec.x=1"), "field label not supported: spec.x");
        assert_eq!(
            read(&Erased::<ConfigMaps>::NEW, "fieldSelector=spec.x=1"),
            "\"spec.x\" is not a known field selector: only \"metadata.name\", \"metadata.namespace\""
        );
    }

    #[test]
    fn a_delete_says_what_is_wrong_with_its_options() {
        let read = |query: &str| {
            delete_options(delete_options_of_query(&Query::parse(query)).unwrap()).map_err(|e| e.to_string())
        };
        assert_eq!(read("propagationPolicy=Foreground").unwrap().propagation, Some(Propagation::Foreground));
        assert_eq!(read("orphanDependents=true").unwrap().propagation, Some(Propagation::Orphan));
        assert_eq!(read("gracePeriodSeconds=0").unwrap().grace_period_secs, Some(0));
        assert!(read("dryRun=All").unwrap().dry_run);
        assert_eq!(
            read("dryRun=Some").unwrap_err(),
            "DeleteOptions.meta.k8s.io \"\" is invalid: dryRun: Unsupported value: \"Some\": supported values: \"All\""
        );
    }

    #[test]
    fn a_write_is_lenient_unless_told_otherwise() {
        let read = |query: &str| writing("PatchOptions", &Query::parse(query), false).map_err(|e| e.to_string());
        assert_eq!(read("").unwrap().validation, FieldValidation::Warn);
        assert_eq!(read("fieldValidation=Strict").unwrap().validation, FieldValidation::Strict);
        assert_eq!(
            read("force=true").unwrap_err(),
            "PatchOptions.meta.k8s.io \"\" is invalid: force: Forbidden: may not be specified for non-apply patch"
        );
    }
}

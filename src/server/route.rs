//! Reads a request line: which verb on which resource, or which plain path. Pure.
//!
//! Called by `handle` before anything else. May call nothing.
//!
//! **Not here**: whether the resource exists (`verbs`), whether the caller may (`auth`), what the query's values mean (`options`).
//! **Source**: `k8s.io/apiserver/pkg/endpoints/request/requestinfo.go`, v1.37.

use http::Method;
use percent_encoding::percent_decode_str;

/// What a request wants to do to a resource.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Verb {
    /// Read one object.
    Get,
    /// Read a collection.
    List,
    /// Follow a collection or an object.
    Watch,
    /// Make an object.
    Create,
    /// Replace an object.
    Update,
    /// Change an object.
    Patch,
    /// Delete an object.
    Delete,
    /// Delete a collection.
    DeleteCollection,
    /// A method that no resource has.
    Other,
}

impl Verb {
    /// The word that Kubernetes uses in discovery, messages and access rules.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Get => "get",
            Self::List => "list",
            Self::Watch => "watch",
            Self::Create => "create",
            Self::Update => "update",
            Self::Patch => "patch",
            Self::Delete => "delete",
            Self::DeleteCollection => "deletecollection",
            Self::Other => "",
        }
    }

    fn of_method(method: &Method) -> Self {
        match method.as_str() {
            "GET" | "HEAD" => Self::Get,
            "POST" => Self::Create,
            "PUT" => Self::Update,
            "PATCH" => Self::Patch,
            "DELETE" => Self::Delete,
            _ => Self::Other,
        }
    }
}

/// A request for a resource.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ResourceInfo {
    /// What to do.
    pub verb: Verb,
    /// The API group; empty for core.
    pub group: String,
    /// The API version.
    pub version: String,
    /// The namespace; empty for all, or for none.
    pub namespace: String,
    /// The plural of the kind.
    pub resource: String,
    /// The sub-resource; empty for the object itself.
    pub subresource: String,
    /// The object's name; empty for a collection. For a collection whose field selector names one object, that name: access rules
    /// go by it.
    pub name: String,
    /// Whether the path is a collection's (so `name`, if any, is from the selector).
    pub is_collection: bool,
    /// The node that the field selector of a collection names with `spec.nodeName`; empty for none.
    pub node: String,
    /// What follows the sub-resource.
    pub rest: Vec<String>,
}

impl ResourceInfo {
    /// The namespace that access rules go by: a project is in itself, as a namespace is.
    /// **Source**: `project_request_info_resolver.go` of openshift/kubernetes.
    pub fn place(&self) -> &str {
        let is_project = (&*self.group, &*self.resource) == ("project.openshift.io", "projects");
        if is_project { &self.name } else { &self.namespace }
    }
}

/// What a request is about.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum RequestInfo {
    /// A plain path, such as `/version` or `/apis`.
    Path {
        /// The decoded path.
        path: String,
        /// The method in lower case: the verb of access rules.
        verb: String,
    },
    /// A resource.
    Resource(ResourceInfo),
}

/// A request's query, in the order of the URL.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Query(Vec<(String, String)>);

impl Query {
    /// Reads the text after `?`.
    pub fn parse(text: &str) -> Self {
        Self(form_urlencoded::parse(text.as_bytes()).into_owned().collect())
    }

    /// The first value of a parameter; empty when there is none, as most of Kubernetes' options read it.
    pub fn text(&self, name: &str) -> &str {
        self.get(name).unwrap_or_default()
    }

    /// The first value of a parameter.
    pub fn get(&self, name: &str) -> Option<&str> {
        self.0.iter().find(|(k, _)| k == name).map(|(_, v)| v.as_str())
    }

    /// Every value of a parameter.
    pub fn all<'a>(&'a self, name: &'a str) -> impl Iterator<Item = &'a str> {
        self.0.iter().filter(move |(k, _)| k == name).map(|(_, v)| v.as_str())
    }

    /// A yes-or-no parameter: absent, `0` and `false` are no, anything else is yes.
    ///
    /// Source: `Convert_Slice_string_To_bool` in `k8s.io/apimachinery/pkg/runtime/conversion.go`.
    pub fn is_true(&self, name: &str) -> bool {
        self.get(name).is_some_and(|v| v != "0" && !v.eq_ignore_ascii_case("false"))
    }
}

/// Reads method, path and query. The error is the text of a 400.
pub fn route(method: &Method, path: &str, query: &Query) -> Result<RequestInfo, String> {
    let decoded = percent_decode_str(path).decode_utf8().map_err(|_err| format!("the path {path:?} is not UTF-8"))?;
    let parts: Vec<&str> = decoded.trim_matches('/').split('/').collect();
    let plain = || RequestInfo::Path { path: decoded.to_string(), verb: method.as_str().to_lowercase() };
    let (group, rest) = match parts.as_slice() {
        ["api", rest @ ..] if rest.len() >= 2 => ("", rest),
        ["apis", group, rest @ ..] if rest.len() >= 2 => (*group, rest),
        _ => return Ok(plain()),
    };
    let (version, rest) = (rest[0], &rest[1..]);
    resource(method, group, version, rest, query)
        .map(RequestInfo::Resource)
        .ok_or_else(|| format!("unable to determine kind and namespace from url, {decoded}"))
}

fn resource(method: &Method, group: &str, version: &str, parts: &[&str], query: &Query) -> Option<ResourceInfo> {
    let is_watch_path = parts[0] == "watch";
    let mut verb = Verb::of_method(method);
    let mut parts = parts;
    if is_watch_path {
        parts = &parts[1..];
        if parts.is_empty() {
            return None;
        }
        verb = if verb == Verb::Get { Verb::Watch } else { Verb::Other };
    }
    let mut namespace = "";
    if parts[0] == "namespaces" && parts.len() > 1 {
        namespace = parts[1];
        // `/namespaces/x/status` is the namespace's own sub-resource, `/namespaces/x/pods` is a collection in it.
        if parts.len() > 2 && !matches!(parts[2], "status" | "finalize") {
            parts = &parts[2..];
        }
    }
    let at = |i: usize| parts.get(i).copied().unwrap_or_default();
    let mut name = at(1).to_owned();
    let mut node = String::new();
    let is_collection = name.is_empty() || is_watch_path;
    if name.is_empty() {
        verb = match verb {
            Verb::Get if query.is_true("watch") => Verb::Watch,
            Verb::Get => Verb::List,
            Verb::Delete => Verb::DeleteCollection,
            other => other,
        };
        if matches!(verb, Verb::List | Verb::Watch) {
            let selector = query.text("fieldSelector");
            name = named_by_selector(selector, "metadata.name").unwrap_or_default();
            node = named_by_selector(selector, "spec.nodeName").unwrap_or_default();
        }
    }
    Some(ResourceInfo {
        verb,
        group: group.to_owned(),
        version: version.to_owned(),
        namespace: namespace.to_owned(),
        resource: at(0).to_owned(),
        subresource: at(2).to_owned(),
        name,
        node,
        is_collection,
        rest: parts.iter().skip(3).map(|p| (*p).to_owned()).collect(),
    })
}

/// The name that a field selector asks for, e.g. with `metadata.name=x`.
fn named_by_selector(selector: &str, wanted: &str) -> Option<String> {
    selector.split(',').find_map(|term| {
        let (field, value) = term.split_once('=')?;
        let value = value.strip_prefix('=').unwrap_or(value);
        let is_plain = !value.is_empty() && value != "." && value != ".." && !value.contains(['/', '%', '\\']);
        (field == wanted && is_plain).then(|| value.to_owned())
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    /// `verb group/version namespace resource name subresource`, with `-` for what is empty.
    fn line(method: &str, url: &str) -> String {
        let (path, query) = url.split_once('?').unwrap_or((url, ""));
        let method = Method::from_bytes(method.as_bytes()).unwrap();
        let or_dash = |s: &str| if s.is_empty() { "-".to_owned() } else { s.to_owned() };
        match route(&method, path, &Query::parse(query)) {
            Ok(RequestInfo::Path { path, verb }) => format!("{verb} {path}"),
            Ok(RequestInfo::Resource(r)) => [
                r.verb.as_str(),
                &format!("{}/{}", r.group, r.version),
                &r.namespace,
                &r.resource,
                &r.name,
                &r.subresource,
            ]
            .map(or_dash)
            .join(" "),
            Err(err) => format!("400 {err}"),
        }
    }

    #[test]
    fn requests_are_read_as_kubernetes_reads_them() {
        for (method, url, want) in [
            ("GET", "/", "get /"),
            ("GET", "/version", "get /version"),
            ("GET", "/api", "get /api"),
            ("GET", "/api/v1", "get /api/v1"),
            ("GET", "/apis/apps", "get /apis/apps"),
            ("GET", "/apis/apps/v1", "get /apis/apps/v1"),
            ("POST", "/healthz", "post /healthz"),
            ("GET", "/other/v1/pods", "get /other/v1/pods"),
            ("GET", "/api/v1/namespaces", "list /v1 - namespaces - -"),
            ("GET", "/api/v1/namespaces/x", "get /v1 x namespaces x -"),
            ("PUT", "/api/v1/namespaces/x/status", "update /v1 x namespaces x status"),
            ("PUT", "/api/v1/namespaces/x/finalize", "update /v1 x namespaces x finalize"),
            ("GET", "/api/v1/namespaces/x/pods", "list /v1 x pods - -"),
            ("HEAD", "/api/v1/namespaces/x/pods/p", "get /v1 x pods p -"),
            ("GET", "/api/v1/namespaces/x/pods/p/log?follow=true", "get /v1 x pods p log"),
            ("POST", "/api/v1/namespaces/x/pods/p/exec?command=ls", "create /v1 x pods p exec"),
            ("POST", "/api/v1/namespaces/x/pods", "create /v1 x pods - -"),
            ("GET", "/api/v1/pods?watch=true", "watch /v1 - pods - -"),
            ("GET", "/api/v1/pods?watch=1", "watch /v1 - pods - -"),
            ("GET", "/api/v1/pods?watch", "watch /v1 - pods - -"),
            ("GET", "/api/v1/pods?watch=False", "list /v1 - pods - -"),
            ("GET", "/api/v1/pods?watch=0", "list /v1 - pods - -"),
            ("GET", "/api/v1/namespaces/x/pods?fieldSelector=metadata.name%3Dp", "list /v1 x pods p -"),
            ("GET", "/api/v1/pods?fieldSelector=a%3Db,metadata.name%3D%3Dp", "list /v1 - pods p -"),
            ("GET", "/api/v1/pods?fieldSelector=metadata.name%21%3Dp", "list /v1 - pods - -"),
            ("GET", "/api/v1/watch/pods", "watch /v1 - pods - -"),
            ("GET", "/api/v1/watch/namespaces/x/pods/p", "watch /v1 x pods p -"),
            ("POST", "/api/v1/watch/pods", "- /v1 - pods - -"),
            ("GET", "/api/v1/watch", "400 unable to determine kind and namespace from url, /api/v1/watch"),
            ("DELETE", "/apis/apps/v1/namespaces/x/deployments", "deletecollection apps/v1 x deployments - -"),
            ("DELETE", "/apis/apps/v1/namespaces/x/deployments/d", "delete apps/v1 x deployments d -"),
            ("PATCH", "/apis/apps/v1/namespaces/x/deployments/d/scale", "patch apps/v1 x deployments d scale"),
            ("GET", "/apis/g/v1/things/a%3Ab", "get g/v1 - things a:b -"),
            ("OPTIONS", "/api/v1/pods", "- /v1 - pods - -"),
        ] {
            assert_eq!(line(method, url), want, "{method} {url}");
        }
    }

    #[test]
    fn a_flag_is_true_unless_it_says_no() {
        let q = Query::parse("a&b=0&c=FALSE&d=x&e=true");
        assert_eq!(["a", "b", "c", "d", "e", "f"].map(|n| q.is_true(n)), [true, false, false, true, true, false]);
    }

    #[test]
    fn a_parameter_may_come_more_than_once() {
        let q = Query::parse("command=ls&command=-l&x=1+2%2F");
        assert_eq!(q.all("command").collect::<Vec<_>>(), ["ls", "-l"]);
        assert_eq!(q.text("x"), "1 2/");
    }
}

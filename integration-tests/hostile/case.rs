//! One hostile request, and what may come of it.

use http::Request;

/// What may come of a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Wanted {
    /// A Status with a code from 400 to 499.
    Refused,
    /// An answer that is not a fault of the server: below 500.
    Answered,
}

/// A hostile request.
pub struct Case {
    /// What it tries.
    pub name: String,
    /// The method.
    pub method: &'static str,
    /// The path and the query.
    pub path: String,
    /// Headers beside the content's type.
    pub headers: Vec<(String, String)>,
    /// The type of the content.
    pub content_type: &'static str,
    /// The content.
    pub body: Vec<u8>,
    /// What may come of it.
    pub wanted: Wanted,
}

/// Where most cases are sent.
pub const CONFIG_MAPS: &str = "/api/v1/namespaces/default/configmaps";
/// Where pods are sent.
pub const PODS: &str = "/api/v1/namespaces/default/pods";
/// An object that is there, for patches and bad questions.
pub const VICTIM: &str = "/api/v1/namespaces/default/configmaps/victim";

impl Case {
    /// A create that must be refused.
    pub fn post(name: impl Into<String>, path: &str, content_type: &'static str, body: impl Into<Vec<u8>>) -> Self {
        Self {
            name: name.into(),
            method: "POST",
            path: path.to_owned(),
            headers: Vec::new(),
            content_type,
            body: body.into(),
            wanted: Wanted::Refused,
        }
    }

    /// A create in JSON that must be refused.
    pub fn json(name: impl Into<String>, path: &str, body: impl Into<Vec<u8>>) -> Self {
        Self::post(name, path, "application/json", body)
    }

    /// A patch that must be refused.
    pub fn patch(name: impl Into<String>, kind: &'static str, body: impl Into<Vec<u8>>) -> Self {
        Self { method: "PATCH", ..Self::post(name, VICTIM, kind, body) }
    }

    /// A question that must be refused.
    pub fn get(name: impl Into<String>, path: impl Into<String>) -> Self {
        Self { method: "GET", path: path.into(), ..Self::json(name, "", Vec::new()) }
    }

    /// The same, with a header.
    pub fn header(mut self, name: &str, value: impl Into<String>) -> Self {
        self.headers.push((name.to_owned(), value.into()));
        self
    }

    /// The same, where an answer is all that is asked.
    pub fn answered(mut self) -> Self {
        self.wanted = Wanted::Answered;
        self
    }

    /// The request.
    pub fn request(&self) -> Request<Vec<u8>> {
        let mut request = Request::builder().method(self.method).uri(&self.path);
        if self.method != "GET" {
            request = request.header("content-type", self.content_type);
        }
        for (name, value) in &self.headers {
            request = request.header(name, value);
        }
        request.body(self.body.clone()).unwrap_or_else(|err| panic!("{}: {err}", self.name))
    }
}

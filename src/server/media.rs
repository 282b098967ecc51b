//! Media types: what a client will take (`Accept`), and in what shape. Pure.
//!
//! Called by `handle` and `discovery`. **Not here**: bodies that clients send (`codec`).
//! **Source**: `k8s.io/apiserver/pkg/endpoints/handlers/negotiation/negotiate.go`, v1.37.

use crate::{api::status::ApiError, base::ordered::SortList as _};
use http::{HeaderMap, header::ACCEPT};

/// How an answer is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Format {
    /// JSON, on one line.
    Json,
    /// JSON for people.
    PrettyJson,
    /// YAML.
    Yaml,
    /// Kubernetes' protobuf.
    Protobuf,
}

impl Format {
    /// The `Content-Type`.
    pub fn content_type(self) -> &'static str {
        match self {
            Self::Json | Self::PrettyJson => "application/json",
            Self::Yaml => "application/yaml",
            Self::Protobuf => "application/vnd.kubernetes.protobuf",
        }
    }
}

/// What an endpoint can write as protobuf.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Protobuf {
    /// All that it answers but tables.
    All,
    /// Metadata alone: objects of kinds that are added while the server runs have no numbers for their fields.
    Metadata,
}

/// What an answer holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Shape {
    /// The object or list itself.
    Object,
    /// A `Table` for printing, of this `meta.k8s.io` version.
    Table(MetaVersion),
    /// Metadata alone, of this `meta.k8s.io` version.
    Metadata(MetaVersion),
    /// Discovery in one document.
    Aggregated,
}

/// A version of the group `meta.k8s.io`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum MetaVersion {
    /// `v1`.
    V1,
    /// `v1beta1`.
    V1Beta1,
}

impl MetaVersion {
    /// The `apiVersion` text.
    pub fn api_version(self) -> &'static str {
        match self {
            Self::V1 => "meta.k8s.io/v1",
            Self::V1Beta1 => "meta.k8s.io/v1beta1",
        }
    }
}

/// What the client gets.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Output {
    /// How it is written.
    pub format: Format,
    /// What it holds.
    pub shape: Shape,
}

/// What an endpoint can give beside the plain object.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Offer {
    /// Nothing.
    Plain,
    /// Tables and metadata, of one object.
    Objects,
    /// The same, of a list.
    Lists,
    /// The same of single objects, as a stream of JSON events.
    Events,
    /// Aggregated discovery.
    Discovery,
}

/// What a 406 names. Source: `MediaTypesForSerializer` in negotiate.go.
fn accepted(offer: Offer, protobuf: Protobuf) -> &'static str {
    match (offer, protobuf) {
        (Offer::Events, _) => "application/json;stream=watch, application/vnd.kubernetes.protobuf;stream=watch",
        (_, Protobuf::All) => "application/json, application/yaml, application/vnd.kubernetes.protobuf",
        (_, Protobuf::Metadata) => "application/json, application/yaml",
    }
}

struct Clause<'a> {
    kind: &'a str,
    params: Vec<(&'a str, &'a str)>,
    quality: f32,
}

impl<'a> Clause<'a> {
    fn parse(text: &'a str) -> Self {
        let mut parts = text.split(';').map(str::trim);
        let kind = parts.next().unwrap_or_default();
        let params: Vec<_> =
            parts.filter_map(|p| p.split_once('=')).map(|(k, v)| (k.trim(), v.trim().trim_matches('"'))).collect();
        let quality = params.iter().find(|(k, _)| *k == "q").and_then(|(_, v)| v.parse().ok()).unwrap_or(1.0);
        Self { kind, params, quality }
    }

    fn param(&self, name: &str) -> &'a str {
        self.params.iter().find(|(k, _)| *k == name).map_or("", |(_, v)| v)
    }

    fn format(&self) -> Option<Format> {
        match self.kind {
            "*/*" | "application/*" | "application/json" => Some(Format::Json),
            "application/yaml" => Some(Format::Yaml),
            "application/vnd.kubernetes.protobuf" => Some(Format::Protobuf),
            _ => None,
        }
    }

    /// Whether metadata of one object is asked of a list, or the other way round. Events are taken either way, as clients ask.
    fn is_of_other_number(&self, offer: Offer) -> bool {
        matches!(
            (self.param("as"), offer),
            ("PartialObjectMetadata", Offer::Lists) | ("PartialObjectMetadataList", Offer::Objects)
        )
    }

    /// Source of the texts: `asPartialObjectMetadata…` in handlers/response.go.
    fn other_number(&self, offer: Offer) -> ApiError {
        let is = if offer == Offer::Lists { "is a list" } else { "is not a list" };
        ApiError::NotAcceptable(format!("you requested {}, but the requested object {is}", self.param("as")))
    }

    fn shape(&self, offer: Offer) -> Option<Shape> {
        let meta = || match (self.param("g"), self.param("v")) {
            ("meta.k8s.io", "v1") => Some(MetaVersion::V1),
            ("meta.k8s.io", "v1beta1") => Some(MetaVersion::V1Beta1),
            _ => None,
        };
        match (self.param("as"), offer) {
            ("", _) => Some(Shape::Object),
            ("Table", Offer::Objects | Offer::Lists | Offer::Events) => meta().map(Shape::Table),
            ("PartialObjectMetadata" | "PartialObjectMetadataList", Offer::Objects | Offer::Lists | Offer::Events) => {
                meta().map(Shape::Metadata)
            }
            ("APIGroupDiscoveryList", Offer::Discovery) => {
                (self.param("g") == "apidiscovery.k8s.io" && self.param("v") == "v2").then_some(Shape::Aggregated)
            }
            _ => None,
        }
    }
}

/// Whether what a client wishes has the form it wishes: tables are for printing, and aggregated discovery is JSON.
fn is_written(output: Output, offer: Offer, protobuf: Protobuf) -> bool {
    match (output.format, output.shape) {
        (Format::Yaml, _) => offer != Offer::Events,
        (Format::Protobuf, Shape::Object) => protobuf == Protobuf::All,
        (Format::Protobuf, Shape::Table(_) | Shape::Aggregated) => false,
        _ => true,
    }
}

/// What to answer with: the first of the client's wishes, best first, that the endpoint can give.
pub fn negotiate(headers: &HeaderMap, pretty: &str, offer: Offer, protobuf: Protobuf) -> Result<Output, ApiError> {
    let accept: Vec<&str> = headers.get_all(ACCEPT).iter().filter_map(|v| v.to_str().ok()).collect();
    let accept = accept.join(",");
    let mut clauses: Vec<Clause<'_>> = accept.split(',').filter(|c| !c.trim().is_empty()).map(Clause::parse).collect();
    clauses.sort_list_by(|a, b| b.quality.total_cmp(&a.quality));
    let wish = clauses.iter().find_map(|c| {
        let output = Output { format: c.format()?, shape: c.shape(offer)? };
        is_written(output, offer, protobuf).then_some((c, output))
    });
    let output = match wish {
        Some((clause, Output { shape: Shape::Metadata(_), .. })) if clause.is_of_other_number(offer) => {
            return Err(clause.other_number(offer));
        }
        Some((_, output)) => output,
        None if clauses.is_empty() => Output { format: Format::Json, shape: Shape::Object },
        None => {
            let types = accepted(offer, protobuf);
            return Err(ApiError::NotAcceptable(format!("only the following media types are accepted: {types}")));
        }
    };
    let is_pretty = output.format == Format::Json && offer != Offer::Events && wants_pretty(headers, pretty);
    Ok(if is_pretty { Output { format: Format::PrettyJson, ..output } } else { output })
}

/// Asked for, or a person's tool: a browser, curl, wget.
fn wants_pretty(headers: &HeaderMap, pretty: &str) -> bool {
    if !pretty.is_empty() {
        return matches!(pretty, "1" | "t" | "T" | "TRUE" | "true" | "True");
    }
    let agent = headers.get(http::header::USER_AGENT).and_then(|v| v.to_str().ok()).unwrap_or_default();
    ["curl", "Wget", "Mozilla/5.0"].iter().any(|tool| agent.starts_with(tool))
}

/// JSON text with a line per member, indented by two spaces; order and spelling of values stay.
pub fn pretty(json: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(json.len() * 2);
    let mut depth = 0usize;
    let mut in_string = false;
    let mut escaped = false;
    let line = |out: &mut Vec<u8>, depth: usize| {
        out.push(b'\n');
        out.resize(out.len() + depth * 2, b' ');
    };
    for (i, &b) in json.iter().enumerate() {
        if in_string {
            out.push(b);
            in_string = escaped || b != b'"';
            escaped = !escaped && b == b'\\';
            continue;
        }
        let is_empty =
            || json[i + 1..].iter().find(|c| !c.is_ascii_whitespace()).is_some_and(|c| matches!(c, b'}' | b']'));
        match b {
            b'{' | b'[' => {
                depth += 1;
                out.push(b);
                if !is_empty() {
                    line(&mut out, depth);
                }
            }
            b'}' | b']' => {
                depth = depth.saturating_sub(1);
                if !matches!(out.last(), Some(b'{' | b'[')) {
                    line(&mut out, depth);
                }
                out.push(b);
            }
            b',' => {
                out.push(b);
                line(&mut out, depth);
            }
            b':' => out.extend_from_slice(b": "),
            b' ' | b'\n' | b'\r' | b'\t' => {}
            _ => {
                in_string = b == b'"';
                out.push(b);
            }
        }
    }
    out.push(b'\n');
    out
}

#[cfg(test)]
mod tests {
    use super::*;
    use http::header::USER_AGENT;

    fn got(accept: &str, offer: Offer) -> String {
        of(accept, offer, Protobuf::All)
    }

    fn of(accept: &str, offer: Offer, protobuf: Protobuf) -> String {
        let mut headers = HeaderMap::new();
        if !accept.is_empty() {
            headers.insert(ACCEPT, accept.parse().unwrap());
        }
        match negotiate(&headers, "", offer, protobuf) {
            Ok(o) => format!("{:?} {:?}", o.format, o.shape),
            Err(e) => format!("{} {e}", e.code()),
        }
    }

    const KUBECTL_GET: &str = "application/json;as=Table;v=v1;g=meta.k8s.io,application/json;as=Table;v=v1beta1;g=meta.k8s.io,application/json";
    const KUBECTL_DISCOVERY: &str = "application/json;g=apidiscovery.k8s.io;v=v2;as=APIGroupDiscoveryList,application/json;g=apidiscovery.k8s.io;v=v2beta1;as=APIGroupDiscoveryList,application/json";

    #[test]
    fn the_first_wish_that_can_be_met_is_met() {
        let refusal = "406 only the following media types are accepted: application/json, application/yaml, \
                       application/vnd.kubernetes.protobuf";
        let no_stream = "406 only the following media types are accepted: application/json;stream=watch, \
                         application/vnd.kubernetes.protobuf;stream=watch";
        for (accept, offer, want) in [
            ("", Offer::Objects, "Json Object"),
            ("*/*", Offer::Plain, "Json Object"),
            ("application/*", Offer::Plain, "Json Object"),
            ("application/yaml", Offer::Objects, "Yaml Object"),
            ("application/yaml", Offer::Events, no_stream),
            ("application/vnd.kubernetes.protobuf,application/json", Offer::Objects, "Protobuf Object"),
            ("application/vnd.kubernetes.protobuf", Offer::Lists, "Protobuf Object"),
            ("application/vnd.kubernetes.protobuf;stream=watch", Offer::Events, "Protobuf Object"),
            ("application/vnd.kubernetes.protobuf;as=Table;v=v1;g=meta.k8s.io", Offer::Lists, refusal),
            (
                "application/vnd.kubernetes.protobuf;as=PartialObjectMetadataList;v=v1;g=meta.k8s.io",
                Offer::Lists,
                "Protobuf Metadata(V1)",
            ),
            ("application/json;q=0.1, application/yaml;q=0.9", Offer::Objects, "Yaml Object"),
            ("text/html,application/xml;q=0.9,*/*;q=0.8", Offer::Plain, "Json Object"),
            (KUBECTL_GET, Offer::Objects, "Json Table(V1)"),
            (KUBECTL_GET, Offer::Plain, "Json Object"),
            ("application/json;as=Table;g=meta.k8s.io;v=v1beta1", Offer::Events, "Json Table(V1Beta1)"),
            ("application/json;as=Table;g=meta.k8s.io;v=v2", Offer::Objects, refusal),
            ("application/json;as=PartialObjectMetadataList;g=meta.k8s.io;v=v1", Offer::Lists, "Json Metadata(V1)"),
            ("application/json;as=PartialObjectMetadata;g=meta.k8s.io;v=v1", Offer::Objects, "Json Metadata(V1)"),
            ("application/json;as=PartialObjectMetadata;g=meta.k8s.io;v=v1", Offer::Events, "Json Metadata(V1)"),
            (
                "application/json;as=PartialObjectMetadataList;g=meta.k8s.io;v=v1",
                Offer::Objects,
                "406 you requested PartialObjectMetadataList, but the requested object is not a list",
            ),
            (
                "application/json;as=PartialObjectMetadata;g=meta.k8s.io;v=v1,application/json",
                Offer::Lists,
                "406 you requested PartialObjectMetadata, but the requested object is a list",
            ),
            (KUBECTL_DISCOVERY, Offer::Discovery, "Json Aggregated"),
            (KUBECTL_DISCOVERY, Offer::Plain, "Json Object"),
            ("application/json;stream=watch", Offer::Events, "Json Object"),
        ] {
            assert_eq!(got(accept, offer), want, "{accept} {offer:?}");
        }
    }

    #[test]
    fn kinds_without_numbers_are_protobuf_in_their_metadata_alone() {
        let of = |accept| of(accept, Offer::Objects, Protobuf::Metadata);
        let only = "application/vnd.kubernetes.protobuf";
        assert_eq!(of(only), "406 only the following media types are accepted: application/json, application/yaml");
        assert_eq!(of("application/vnd.kubernetes.protobuf,application/json"), "Json Object");
        let metadata = "application/vnd.kubernetes.protobuf;as=PartialObjectMetadata;v=v1;g=meta.k8s.io";
        assert_eq!(of(metadata), "Protobuf Metadata(V1)");
    }

    #[test]
    fn people_get_pretty_text_and_programs_do_not() {
        let mut headers = HeaderMap::new();
        let format = |h: &HeaderMap, p: &str| negotiate(h, p, Offer::Plain, Protobuf::All).unwrap().format;
        assert_eq!(format(&headers, ""), Format::Json);
        assert_eq!(format(&headers, "true"), Format::PrettyJson);
        headers.insert(USER_AGENT, "curl/8.0".parse().unwrap());
        assert_eq!(format(&headers, ""), Format::PrettyJson);
        assert_eq!(format(&headers, "false"), Format::Json);
    }

    #[test]
    fn pretty_text_is_what_serde_prints() {
        for text in [
            r#"{"a":{},"b":[],"c":[1,{"d":"x{},:[\"\\"}],"e":null}"#,
            "[]",
            "\"just \\\" text\"",
            r#"{"a":{"b":{"c":[[1,2],[3.50]]}}}"#,
        ] {
            let value: serde_json::Value = serde_json::from_str(text).unwrap();
            let want = serde_json::to_string_pretty(&value).unwrap() + "\n";
            let got = String::from_utf8(pretty(text.as_bytes())).unwrap();
            // serde prints 3.50 as 3.5; ours keeps the spelling.
            assert_eq!(got.replace("3.50", "3.5"), want);
        }
    }
}

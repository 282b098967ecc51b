//! One rule of a role: which verbs on what. Pure.
//!
//! **Source**: `pkg/apis/rbac/v1/evaluation_helpers.go`, v1.37.

use serde::{Deserialize, Serialize};
use std::fmt;

const ALL: &str = "*";

/// A rule, as roles have it.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Deserialize, Serialize)]
#[serde(rename_all = "camelCase", default)]
pub struct PolicyRule {
    /// API groups; `*` is all.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub api_groups: Vec<String>,
    /// Paths that are no resources; `*` at the end stands for whatever follows.
    #[serde(rename = "nonResourceURLs", skip_serializing_if = "Vec::is_empty")]
    pub non_resource_urls: Vec<String>,
    /// Names of objects; none is all.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub resource_names: Vec<String>,
    /// Resources, with their sub-resource behind a slash; `*` is all.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub resources: Vec<String>,
    /// Verbs; `*` is all.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub verbs: Vec<String>,
}

/// What somebody wants to do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Attributes<'a> {
    /// The verb, e.g. `get`, or a word that Kubernetes knows from rules alone, such as `bind`.
    pub verb: &'a str,
    /// On what.
    pub on: On<'a>,
}

/// What somebody wants to do something to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum On<'a> {
    /// A path that is no resource.
    Path(&'a str),
    /// A resource.
    Resource {
        /// The API group; empty for core.
        group: &'a str,
        /// The plural.
        resource: &'a str,
        /// The sub-resource; empty for the object itself.
        subresource: &'a str,
        /// The namespace; empty for all, or for none.
        namespace: &'a str,
        /// The object's name; empty for none in particular.
        name: &'a str,
        /// The node whose pods a list or watch selects; empty for none in particular.
        node: &'a str,
    },
}

impl<'a> Attributes<'a> {
    /// The namespace that it happens in; empty for none.
    pub fn namespace(&self) -> &'a str {
        match self.on {
            On::Resource { namespace, .. } => namespace,
            On::Path(_) => "",
        }
    }
}

impl PolicyRule {
    /// A rule that grants everything on all resources.
    pub fn everything() -> Self {
        let all = || vec![ALL.to_owned()];
        Self { api_groups: all(), resources: all(), verbs: all(), ..Self::default() }
    }

    /// A rule that grants everything on all paths.
    pub fn every_path() -> Self {
        Self { non_resource_urls: vec![ALL.to_owned()], verbs: vec![ALL.to_owned()], ..Self::default() }
    }

    /// Whether it grants this.
    pub fn grants(&self, asked: &Attributes<'_>) -> bool {
        if !has(&self.verbs, asked.verb) {
            return false;
        }
        match asked.on {
            On::Path(path) => self.non_resource_urls.iter().any(|url| url_covers(url, path)),
            On::Resource { group, resource, subresource, name, .. } => {
                has(&self.api_groups, group)
                    && self.resources.iter().any(|of| resource_covers(of, resource, subresource))
                    && (self.resource_names.is_empty() || self.resource_names.iter().any(|n| n == name))
            }
        }
    }

    /// Whether it grants all that a rule of one verb on one thing does. Source: `ruleCovers` in pkg/registry/rbac/validation.
    pub(super) fn covers(&self, part: &Self) -> bool {
        let all_in = |own: &[String], wanted: &[String]| wanted.iter().all(|w| has(own, w));
        let names = self.resource_names.is_empty()
            || (!part.resource_names.is_empty() && part.resource_names.iter().all(|n| self.resource_names.contains(n)));
        let resources = part.resources.iter().all(|wanted| {
            let (resource, subresource) = wanted.split_once('/').unwrap_or((wanted, ""));
            self.resources.iter().any(|of| resource_covers(of, resource, subresource))
        });
        let urls = part
            .non_resource_urls
            .iter()
            .all(|wanted| self.non_resource_urls.iter().any(|own| url_covers(own, wanted)));
        all_in(&self.verbs, &part.verbs) && all_in(&self.api_groups, &part.api_groups) && resources && names && urls
    }

    /// The rules of one verb on one thing each that together are this one. Source: `BreakdownRule`.
    pub(super) fn parts(&self) -> Vec<Self> {
        let mut parts = Vec::new();
        for verb in &self.verbs {
            for group in &self.api_groups {
                for resource in &self.resources {
                    let part = |names: Vec<String>| Self {
                        api_groups: vec![group.clone()],
                        resources: vec![resource.clone()],
                        verbs: vec![verb.clone()],
                        resource_names: names,
                        ..Self::default()
                    };
                    if self.resource_names.is_empty() {
                        parts.push(part(Vec::new()));
                    }
                    parts.extend(self.resource_names.iter().map(|name| part(vec![name.clone()])));
                }
            }
            let of_url = |url: &String| Self {
                non_resource_urls: vec![url.clone()],
                verbs: vec![verb.clone()],
                ..Self::default()
            };
            parts.extend(self.non_resource_urls.iter().map(of_url));
        }
        parts
    }
}

fn has(words: &[String], wanted: &str) -> bool {
    words.iter().any(|w| w == ALL || w == wanted)
}

fn resource_covers(of: &str, resource: &str, subresource: &str) -> bool {
    if of == ALL {
        return true;
    }
    match of.split_once('/') {
        None => subresource.is_empty() && of == resource,
        Some((r, s)) => !subresource.is_empty() && s == subresource && (r == ALL || r == resource),
    }
}

fn url_covers(of: &str, path: &str) -> bool {
    of == path || of.strip_suffix(ALL).is_some_and(|start| path.starts_with(start))
}

/// As refusals show it. Source: `CompactString` in pkg/apis/rbac/v1/helpers.go.
impl fmt::Display for PolicyRule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let fields = [
            ("APIGroups", &self.api_groups),
            ("NonResourceURLs", &self.non_resource_urls),
            ("ResourceNames", &self.resource_names),
            ("Resources", &self.resources),
            ("Verbs", &self.verbs),
        ];
        let shown = fields.into_iter().filter(|(_, words)| !words.is_empty());
        let shown = shown.map(|(name, words)| format!("{name}:{}", quoted(words))).collect::<Vec<_>>();
        write!(f, "{{{}}}", shown.join(", "))
    }
}

/// Words as Go prints a list of quoted ones.
pub(super) fn quoted(words: &[String]) -> String {
    format!("[{}]", words.iter().map(|w| format!("{w:?}")).collect::<Vec<_>>().join(" "))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rule(yaml: &str) -> PolicyRule {
        serde_yaml::from_str(yaml).unwrap()
    }

    fn on<'a>(group: &'a str, resource: &'a str, subresource: &'a str, name: &'a str) -> On<'a> {
        On::Resource { group, resource, subresource, namespace: "x", name, node: "" }
    }

    #[test]
    fn a_rule_grants_what_its_words_say() {
        let pods = "{verbs: [get], apiGroups: [''], resources: [pods]}";
        let logs = "{verbs: ['*'], apiGroups: [''], resources: [pods/log]}";
        let scales = "{verbs: [update], apiGroups: ['*'], resources: ['*/scale']}";
        let named = "{verbs: [get], apiGroups: [''], resources: [secrets], resourceNames: [a]}";
        let all = "{verbs: ['*'], apiGroups: ['*'], resources: ['*']}";
        for (text, verb, on, want) in [
            (pods, "get", on("", "pods", "", "p"), true),
            (pods, "list", on("", "pods", "", ""), false),
            (pods, "get", on("apps", "pods", "", ""), false),
            (pods, "get", on("", "pods", "log", "p"), false),
            (logs, "get", on("", "pods", "log", "p"), true),
            (logs, "get", on("", "pods", "", "p"), false),
            (scales, "update", on("apps", "deployments", "scale", "d"), true),
            (scales, "update", on("apps", "deployments", "", "d"), false),
            (named, "get", on("", "secrets", "", "a"), true),
            (named, "get", on("", "secrets", "", "b"), false),
            (named, "get", on("", "secrets", "", ""), false),
            (all, "delete", on("x.io", "things", "status", "t"), true),
            (all, "get", On::Path("/metrics"), false),
            ("{verbs: [get], nonResourceURLs: [/api/*]}", "get", On::Path("/api/v1"), true),
            ("{verbs: [get], nonResourceURLs: [/api/*]}", "get", On::Path("/apis"), false),
            ("{verbs: [get], nonResourceURLs: ['*']}", "get", On::Path("/"), true),
            ("{verbs: [get], nonResourceURLs: [/version]}", "get", On::Path("/version"), true),
        ] {
            assert_eq!(rule(text).grants(&Attributes { verb, on }), want, "{text}: {verb} {on:?}");
        }
    }

    #[test]
    fn a_rule_prints_as_kubernetes_prints_it() {
        let text = "{verbs: [get, list], apiGroups: [''], resources: [pods], resourceNames: [a]}";
        let shown = r#"{APIGroups:[""], ResourceNames:["a"], Resources:["pods"], Verbs:["get" "list"]}"#;
        assert_eq!(rule(text).to_string(), shown);
    }
}

//! The names that a shell offers: kinds, objects, namespaces and clusters, as they are at the moment.
//!
//! Asked while somebody types: whatever cannot be had within a second is not offered, and nothing is said about it.

use crate::{
    api::{kind::ErasedKind, kinds::KINDS},
    app::data_dir::DataDir,
    base::{ordered::SortList as _, runtime::block_on},
    cli::{
        cluster::ClusterArgs,
        kubectl::resource::{collection, kind},
        watching::text,
    },
    client::Client,
};
use clap::Parser as _;
use clap_complete::engine::{ArgValueCompleter, CompletionCandidate};
use serde_json::Value;
use std::{ffi::OsStr, time::Duration};
use tokio::time::timeout;

/// How long somebody who types waits.
const PATIENCE: Duration = Duration::from_secs(1);

/// Offers what a function knows of the line; what does not begin as typed goes.
fn offering(offers: fn(&Line, &str) -> Vec<String>) -> ArgValueCompleter {
    ArgValueCompleter::new(move |typed: &OsStr| -> Vec<CompletionCandidate> {
        let Some(typed) = typed.to_str() else { return Vec::new() };
        let offered = offers(&Line::typed(), typed).into_iter();
        offered.filter(|name| name.starts_with(typed)).map(CompletionCandidate::new).collect()
    })
}

/// Clusters of this machine.
pub(in crate::cli) fn clusters() -> ArgValueCompleter {
    offering(|_, _| DataDir::known_clusters())
}

/// Namespaces.
pub(in crate::cli) fn namespaces() -> ArgValueCompleter {
    offering(|line, _| line.names_of("namespaces"))
}

/// Pods.
pub(in crate::cli) fn pods() -> ArgValueCompleter {
    offering(|line, _| line.names_of("pods"))
}

/// DeploymentConfigs, as `dc/NAME`.
pub(in crate::cli) fn deployment_configs() -> ArgValueCompleter {
    offering(|line, _| line.names_of("deploymentconfigs").into_iter().map(|name| format!("dc/{name}")).collect())
}

/// Kinds, then the names of the kind that was typed; `KIND/NAME` as well.
pub(in crate::cli) fn objects() -> ArgValueCompleter {
    offering(|line, typed| match typed.split_once('/') {
        Some((of, _)) => line.slashed(of),
        None => line.last_kind().map_or_else(kinds, |kind| line.names_of(kind)),
    })
}

/// Pods, or `KIND/NAME` of what has pods.
pub(in crate::cli) fn pods_or() -> ArgValueCompleter {
    offering(|line, typed| match typed.split_once('/') {
        Some((of, _)) => line.slashed(of),
        None => line.names_of("pods").into_iter().chain(WITH_PODS.map(|kind| format!("{kind}/"))).collect(),
    })
}

/// Kinds whose pods are looked up by their selector.
const WITH_PODS: [&str; 5] = ["deployment", "statefulset", "daemonset", "service", "deploymentconfig"];

fn kinds() -> Vec<String> {
    let mut names: Vec<String> = KINDS.iter().map(|kind| kind.info().plural.to_owned()).collect();
    names.sort_list();
    names.dedup();
    names
}

/// The command line, as far as it is typed.
struct Line(Vec<String>);

impl Line {
    /// The shell says it behind `--`.
    fn typed() -> Self {
        Self(std::env::args().skip_while(|word| word != "--").skip(1).collect())
    }

    /// The value of a flag.
    fn flag(&self, short: &str, long: &str) -> Option<&str> {
        let after = self.0.windows(2).find(|pair| pair[0] == short || pair[0] == long).map(|pair| pair[1].as_str());
        after.or_else(|| self.0.iter().find_map(|word| word.strip_prefix(long)?.strip_prefix('=')))
    }

    /// The kind that stands before what is typed, behind the verb, when it is one that is not named with its object.
    fn last_kind(&self) -> Option<&'static str> {
        let verb = self.0.iter().position(|word| word == "kubectl").map_or(1, |at| at + 2);
        let typed = self.0.len().saturating_sub(1);
        let words = self.0.get(verb..typed)?.iter().filter(|word| !word.starts_with('-') && !word.contains('/'));
        words.filter_map(|word| kind(word).ok()).map(|kind| kind.info().plural).next()
    }

    /// The objects of a kind, as `KIND/NAME`.
    fn slashed(&self, of: &str) -> Vec<String> {
        let Ok(found) = kind(of) else { return Vec::new() };
        self.names(found).into_iter().map(|name| format!("{of}/{name}")).collect()
    }

    fn names_of(&self, word: &str) -> Vec<String> {
        kind(word).map(|kind| self.names(kind)).unwrap_or_default()
    }

    /// The names of a kind's objects, in the namespace of the line.
    fn names(&self, kind: &'static dyn ErasedKind) -> Vec<String> {
        let namespace = self.flag("-n", "--namespace").unwrap_or("default");
        let path = collection(kind.info(), Some(namespace));
        let found = self.client().and_then(|client| list(&client, &path));
        let items = found.as_ref().and_then(|list| list["items"].as_array()).into_iter().flatten();
        items.map(|object| text(object, "/metadata/name").to_owned()).collect()
    }

    fn client(&self) -> Option<Client> {
        let flags = ["--name", "--data-dir"].map(|flag| Some(format!("{flag}={}", self.flag(flag, flag)?)));
        let words = ["skiff".to_owned()].into_iter().chain(flags.into_iter().flatten());
        OfCluster::try_parse_from(words).ok()?.cluster.client().ok()
    }
}

/// What of the line says which cluster is meant.
#[derive(clap::Parser)]
struct OfCluster {
    #[command(flatten)]
    cluster: ClusterArgs,
}

fn list(client: &Client, path: &str) -> Option<Value> {
    block_on(async { timeout(PATIENCE, client.get(path)).await.ok()?.ok() }).ok()?
}

#[cfg(test)]
mod tests {
    use super::*;

    fn line(text: &str) -> Line {
        Line(text.split(' ').map(str::to_owned).collect())
    }

    #[test]
    fn the_line_says_which_namespace_and_kind_are_meant() {
        assert_eq!(line("skiff kubectl get pods -n shop ").flag("-n", "--namespace"), Some("shop"));
        assert_eq!(line("skiff kubectl get pods --namespace=shop ").flag("-n", "--namespace"), Some("shop"));
        assert_eq!(line("skiff kubectl get deploy we").last_kind(), Some("deployments"));
        assert_eq!(line("skiff kubectl get -A de").last_kind(), None);
        assert_eq!(line("kubectl get svc web ").last_kind(), Some("services"));
        assert_eq!(line("skiff kubectl get pod/a po").last_kind(), None);
    }

    #[test]
    fn kinds_are_offered_once_each() {
        let kinds = kinds();
        assert!(kinds.contains(&"pods".to_owned()) && kinds.contains(&"deploymentconfigs".to_owned()));
        assert_eq!(kinds.iter().filter(|name| *name == "events").count(), 1);
    }
}

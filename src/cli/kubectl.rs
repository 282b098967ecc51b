//! `skiff kubectl`, and skiff called as `kubectl`: the everyday verbs, for those who have no kubectl at hand.
//!
//! Lists are printed as the server prints them (its tables). What this does not know it refuses, and names the real kubectl: nothing is
//! accepted and ignored.
//! **Source** of what is said: kubectl v1.37.

mod explain;
mod forward;
pub(super) mod resource;
mod streams;
mod verbs;

use super::{
    apply,
    cluster::ClusterArgs,
    completion::offers,
    exit::{Class, of_class},
    output,
};
use crate::base::runtime::block_on;
use anyhow::anyhow;
use resource::{Named, Scope};
use std::path::PathBuf;

/// The name under which skiff is kubectl.
pub(super) const PROGRAM: &str = "kubectl";

/// Arguments of `skiff kubectl`.
#[derive(Debug, clap::Args)]
#[command(
    disable_help_subcommand = true,
    after_help = "Examples:\n  skiff kubectl get pods -A\n  skiff kubectl logs -f deployment/web\n  ln -s $(command -v skiff) ~/bin/kubectl"
)]
pub(super) struct Args {
    #[command(flatten)]
    cluster: ClusterArgs,
    /// The namespace
    #[arg(short, long, global = true, default_value = "default", add = offers::namespaces())]
    namespace: String,
    #[command(subcommand)]
    verb: Verb,
}

/// Called by the name of kubectl.
#[derive(Debug, clap::Parser)]
#[command(name = PROGRAM, about = "The everyday verbs of kubectl, by skiff", disable_help_subcommand = true)]
pub(super) struct Alone {
    #[command(flatten)]
    pub(super) args: Args,
}

#[derive(Debug, clap::Subcommand)]
pub(super) enum Verb {
    /// Show objects
    #[command(after_help = "Examples:\n  skiff kubectl get deploy,pods -o wide\n  skiff kubectl get pod web-0 -o yaml")]
    Get {
        /// KIND, KIND,KIND, KIND NAME… or KIND/NAME…
        #[arg(required = true, value_name = "WHAT", add = offers::objects())]
        what: Vec<String>,
        #[arg(short, long, value_enum)]
        output: Option<Format>,
        /// Those whose labels match
        #[arg(short = 'l', long)]
        selector: Option<String>,
        /// In all namespaces
        #[arg(short = 'A', long)]
        all_namespaces: bool,
    },
    /// Show all of an object, and its events
    #[command(after_help = "Example:\n  skiff kubectl describe pod web-0")]
    Describe {
        /// KIND NAME… or KIND/NAME…
        #[arg(required = true, value_name = "WHAT", add = offers::objects())]
        what: Vec<String>,
    },
    /// Create what is in manifests, or change it to that
    #[command(after_help = "Example:\n  skiff kubectl apply -f manifests")]
    Apply {
        /// Files, folders, or - for standard input
        #[arg(short = 'f', long = "filename", required = true)]
        files: Vec<PathBuf>,
    },
    /// Delete objects, and wait until they are gone
    #[command(after_help = "Examples:\n  skiff kubectl delete pod web-0\n  skiff kubectl delete -f manifests")]
    Delete {
        /// KIND NAME… or KIND/NAME…
        #[arg(value_name = "WHAT", add = offers::objects(), required_unless_present = "files")]
        what: Vec<String>,
        /// What is in these manifests
        #[arg(short = 'f', long = "filename", conflicts_with = "what")]
        files: Vec<PathBuf>,
        /// Return at once
        #[arg(long)]
        no_wait: bool,
    },
    /// Print what a container prints
    #[command(
        after_help = "Examples:\n  skiff kubectl logs web-0 -f --tail 10\n  skiff kubectl logs deployment/web -c app --previous"
    )]
    Logs {
        /// A pod, or KIND/NAME of what has pods
        #[arg(value_name = "POD|KIND/NAME", add = offers::pods_or())]
        what: String,
        /// Its container [default: the first]
        #[arg(short, long)]
        container: Option<String>,
        /// Go on with what comes
        #[arg(short, long)]
        follow: bool,
        /// Of the run before
        #[arg(short, long)]
        previous: bool,
        /// Only the last lines
        #[arg(long, value_name = "LINES")]
        tail: Option<u32>,
    },
    /// Run a command in a container
    #[command(
        after_help = "Examples:\n  skiff kubectl exec web-0 -- env\n  skiff kubectl exec -it deployment/web -c app -- sh"
    )]
    Exec {
        /// A pod, or KIND/NAME of what has pods
        #[arg(value_name = "POD|KIND/NAME", add = offers::pods_or())]
        what: String,
        #[command(flatten)]
        connected: Connected,
        /// The command and its arguments
        #[arg(last = true, required = true)]
        command: Vec<String>,
    },
    /// Connect with the program that a container runs
    #[command(after_help = "Example:\n  skiff kubectl attach -it web-0")]
    Attach {
        /// A pod, or KIND/NAME of what has pods
        #[arg(value_name = "POD|KIND/NAME", add = offers::pods_or())]
        what: String,
        #[command(flatten)]
        connected: Connected,
    },
    /// Lead ports of this machine to those of a pod or a Service
    #[command(
        after_help = "Examples:\n  skiff kubectl port-forward web-0 8080:80\n  skiff kubectl port-forward service/web :http"
    )]
    PortForward {
        /// A pod, or KIND/NAME of what has pods
        #[arg(value_name = "POD|KIND/NAME", add = offers::pods_or())]
        what: String,
        /// LOCAL:REMOTE, :REMOTE for any local port, or one number for both
        #[arg(required = true, value_name = "PORTS")]
        ports: Vec<String>,
        /// Where to listen
        #[arg(long, default_value = "127.0.0.1")]
        address: std::net::IpAddr,
    },
    /// Explain a kind and its fields
    #[command(
        after_help = "Examples:\n  skiff kubectl explain pod\n  skiff kubectl explain deployment.spec.strategy --recursive"
    )]
    Explain {
        /// KIND, or KIND.FIELD.FIELD…
        #[arg(value_name = "KIND.FIELD")]
        what: String,
        /// Fields of fields as well, without their descriptions
        #[arg(long)]
        recursive: bool,
    },
    /// Set how many pods there are to be
    #[command(after_help = "Example:\n  skiff kubectl scale deployment/web --replicas 3")]
    Scale {
        /// KIND/NAME or KIND NAME
        #[arg(required = true, value_name = "WHAT", add = offers::objects())]
        what: Vec<String>,
        #[arg(long)]
        replicas: u32,
    },
    /// Follow, restart, pause, resume or undo the rollout of a Deployment
    #[command(
        after_help = "Examples:\n  skiff kubectl rollout status deployment/web\n  skiff kubectl rollout undo deployment/web"
    )]
    Rollout {
        #[arg(value_enum)]
        step: Step,
        /// KIND/NAME or KIND NAME
        #[arg(required = true, value_name = "WHAT", add = offers::objects())]
        what: Vec<String>,
    },
    /// Set the image, or variables, of containers
    #[command(
        after_help = "Examples:\n  skiff kubectl set image deployment/web app=web:2\n  skiff kubectl set env deployment/web LEVEL=debug OLD-"
    )]
    Set {
        #[arg(value_enum)]
        part: Part,
        /// KIND/NAME
        #[arg(value_name = "KIND/NAME", add = offers::objects())]
        what: String,
        /// CONTAINER=IMAGE…, or NAME=VALUE… and NAME- to unset
        #[arg(required = true, value_name = "CHANGE")]
        changes: Vec<String>,
    },
    /// Wait for a condition of an object, or for its end
    #[command(after_help = "Example:\n  skiff kubectl wait deployment/web --for condition=Available --timeout 30")]
    Wait {
        /// KIND/NAME or KIND NAME
        #[arg(required = true, value_name = "WHAT", add = offers::objects())]
        what: Vec<String>,
        /// condition=NAME, or delete
        #[arg(long = "for", value_name = "WHAT_FOR")]
        until: String,
        /// Seconds
        #[arg(long, default_value_t = 30)]
        timeout: u64,
    },
    /// Show what nodes or pods use
    #[command(after_help = "Example:\n  skiff kubectl top pods")]
    Top {
        #[arg(value_enum)]
        what: Measured,
    },
    #[command(external_subcommand)]
    Other(Vec<String>),
}

/// How a user and a container's program are connected.
#[derive(Debug, clap::Args)]
pub(super) struct Connected {
    /// Its container [default: the first]
    #[arg(short, long)]
    container: Option<String>,
    /// Pass standard input on
    #[arg(short = 'i', long)]
    stdin: bool,
    /// As on a terminal
    #[arg(short, long)]
    tty: bool,
}

impl From<Connected> for streams::Wish {
    fn from(Connected { container, stdin, tty }: Connected) -> Self {
        Self { container, stdin, tty }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub(super) enum Format {
    Wide,
    Name,
    Json,
    Yaml,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub(super) enum Step {
    Status,
    Restart,
    Pause,
    Resume,
    Undo,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub(super) enum Part {
    Image,
    Env,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub(super) enum Measured {
    #[value(alias = "node", alias = "no")]
    Nodes,
    #[value(alias = "pod", alias = "po")]
    Pods,
}

pub(super) fn run(args: Args) -> anyhow::Result<()> {
    block_on(run_verb(args))?
}

async fn run_verb(args: Args) -> anyhow::Result<()> {
    // What is named wrong is told before any cluster is asked.
    let scope = || anyhow::Ok(Scope { client: args.cluster.client()?, namespace: args.namespace.clone() });
    match args.verb {
        Verb::Get { what, output, selector, all_namespaces } => {
            let asked = resource::asked(&what)?;
            verbs::get(&scope()?, &asked, verbs::Shown { format: output, selector, all_namespaces }).await
        }
        Verb::Describe { what } => {
            let named = resource::named(&what)?;
            verbs::describe(&scope()?, &named).await
        }
        Verb::Apply { files } => {
            let docs = apply::read_all(&files)?;
            apply::apply_all(&args.cluster.access()?, docs).await
        }
        Verb::Delete { what, files, no_wait } => {
            let named = if files.is_empty() { resource::named(&what)? } else { of_files(&files)? };
            verbs::delete(&scope()?, &named, !no_wait).await
        }
        Verb::Logs { what, container, follow, previous, tail } => {
            let query = verbs::LogQuery { container, follow, previous, tail };
            let of = resource::pod_or(&what)?;
            verbs::logs(&scope()?, &of, &query).await
        }
        Verb::Exec { what, connected, command } => {
            let of = resource::pod_or(&what)?;
            streams::exec(&scope()?, &of, &connected.into(), &command).await
        }
        Verb::Attach { what, connected } => {
            let of = resource::pod_or(&what)?;
            streams::attach(&scope()?, &of, &connected.into()).await
        }
        Verb::PortForward { what, ports, address } => {
            let of = resource::pod_or(&what)?;
            let pairs = ports.iter().map(|word| forward::pair(word)).collect::<anyhow::Result<Vec<_>>>()?;
            forward::forward(scope()?, of, &pairs, address).await
        }
        Verb::Explain { what, recursive } => {
            let (kind, fields) = explain::asked(&what)?;
            explain::explain(&scope()?, kind, &fields, recursive).await
        }
        Verb::Scale { what, replicas } => {
            let named = resource::named(&what)?;
            verbs::scale(&scope()?, &named, replicas).await
        }
        Verb::Rollout { step, what } => {
            let named = resource::named(&what)?;
            verbs::rollout(&scope()?, &named, step).await
        }
        Verb::Set { part, what, changes } => {
            let named = resource::named(&[what])?;
            verbs::set(&scope()?, &named, part, &changes).await
        }
        Verb::Wait { what, until, timeout } => {
            let named = resource::named(&what)?;
            verbs::wait(&scope()?, &named, &until, timeout).await
        }
        Verb::Top { what } => verbs::top(&scope()?, what).await,
        Verb::Other(words) => Err(unknown(words.first().map(String::as_str).unwrap_or_default())),
    }
}

/// The objects of manifests, the last first.
fn of_files(files: &[PathBuf]) -> anyhow::Result<Vec<Named>> {
    let docs = apply::read_all(files)?;
    docs.iter().rev().map(|doc| resource::of_object(doc.value())).collect()
}

fn unknown(verb: &str) -> anyhow::Error {
    of_class(
        Class::Usage,
        anyhow!(
            "skiff's kubectl does not know {verb:?}: the real kubectl does (https://kubernetes.io/docs/tasks/tools/)"
        ),
    )
}

/// Prints what kubectl would print of a change.
fn told(named: &Named, what: &str) {
    output::line(format!("{named} {what}"));
}

//! `skiff promote`: what runs here, applied to another cluster by server-side apply, after a look at what would change there.
//!
//! What belongs to this cluster alone is left out (addresses, node ports, volumes, what controllers and tools wrote) or translated
//! (`portable`). Nothing is changed before it was shown, and asked about.
//!
//! **Not here**: pushing images; those that the target cannot pull are named.

mod portable;
mod push;

use super::{
    cluster::ClusterArgs,
    exit::{Class, of_class},
    kubeconfig, output,
    watching::text,
};
use crate::{
    base::runtime::block_on,
    client::{Client, ClientError, Kubeconfig, PatchKind},
};
use anyhow::{Context as _, anyhow, bail};
use http::StatusCode;
use portable::{Moved, Of, Target, path_of};
use serde_json::Value;
use std::{
    io::{BufRead as _, IsTerminal as _},
    path::PathBuf,
};

/// By which name fields are owned at the target.
const MANAGER: &str = "skiff-promote";
/// How many changed fields of an object are shown.
const SHOWN_MAX: usize = 8;

/// Arguments of `skiff promote`.
#[derive(Debug, clap::Args)]
#[command(
    after_help = "Examples:\n  skiff promote --context staging --dry-run\n  skiff promote --context staging -n shop --push registry.example.com/shop --yes"
)]
pub(super) struct Args {
    #[command(flatten)]
    cluster: ClusterArgs,
    /// The context of the other cluster
    #[arg(long, value_name = "NAME")]
    context: String,
    /// The kubeconfig that has it [default: the first of $KUBECONFIG, else ~/.kube/config]
    #[arg(long, value_name = "FILE")]
    kubeconfig: Option<PathBuf>,
    /// Only what is in these namespaces [default: all but those of the system]
    #[arg(short, long, value_delimiter = ',')]
    namespace: Vec<String>,
    /// Push images that are on this machine alone to this registry, and name them so there: HOST[:PORT][/PATH]
    #[arg(long, value_name = "REGISTRY", value_parser = push::registry)]
    push: Option<String>,
    /// Show what would change, and change nothing
    #[arg(long)]
    dry_run: bool,
    /// Apply without asking
    #[arg(short, long, conflicts_with = "dry_run")]
    yes: bool,
}

pub(super) fn run(args: &Args) -> anyhow::Result<()> {
    block_on(promote(args))?
}

async fn promote(args: &Args) -> anyhow::Result<()> {
    let here = args.cluster.client()?;
    let there = target(args)?;
    let mut source = Of::look(&here, &args.namespace).await?;
    for image in push::known_to_registries(&args.cluster.name, &source.unsure()).await? {
        source.note_pulled(&image);
    }
    let known =
        Target::look(&there, &source).await.with_context(|| format!("the cluster of the context {}", args.context))?;
    let mut moved = portable::moved(&source, &known);
    let pushed = args.push.as_ref().map(|registry| push::names(registry, &moved.local_images)).unwrap_or_default();
    moved.rename_images(&pushed);
    if moved.objects.is_empty() {
        output::done("there is nothing to promote");
        return Ok(());
    }
    let changes = changes(&there, &moved.objects, &known).await?;
    show(&changes, &moved);
    pushed.iter().for_each(|(from, to)| output::line(format!(" ^ the image {from} is pushed as {to}")));
    let n = changes.iter().filter(|change| change.is_one()).count();
    if args.dry_run || n == 0 {
        output::line(if n == 0 {
            "Nothing is to be changed there."
        } else {
            "Nothing was changed: this was a dry run."
        });
        return Ok(());
    }
    if !args.yes && !is_wanted(n, &args.context)? {
        output::line("Nothing was changed: --yes applies it.");
        return Ok(());
    }
    // Nothing is applied that could not be pulled.
    push::all(&args.cluster.name, &pushed).await?;
    let failed = apply(&there, &changes).await;
    output::done(format!(
        "{} of {n} objects are applied to the cluster of the context {}",
        n - failed.len(),
        args.context
    ));
    match failed.len() {
        0 => Ok(()),
        _ => bail!("not applied:\n  {}", failed.join("\n  ")),
    }
}

/// A client of the target, as the context says.
fn target(args: &Args) -> anyhow::Result<Client> {
    let path = args.kubeconfig.clone().map_or_else(kubeconfig::default_path, Ok)?;
    let read = || -> anyhow::Result<Client> {
        let content = std::fs::read_to_string(&path)?;
        Ok(Client::new(&Kubeconfig::of_context(&content, &args.context, &|file| std::fs::read(file))?)?)
    };
    read().with_context(|| path.display().to_string()).map_err(|err| of_class(Class::Input, err))
}

/// What an apply would do with an object.
struct Change {
    object: Value,
    name: String,
    what: What,
}

enum What {
    Created,
    /// The fields that change.
    Changed(Vec<String>),
    Unchanged,
    /// It would be refused, for this reason.
    Refused(String),
}

impl Change {
    fn is_one(&self) -> bool {
        matches!(self.what, What::Created | What::Changed(_))
    }
}

async fn changes(there: &Client, objects: &[Value], known: &Target) -> anyhow::Result<Vec<Change>> {
    let mut changes = Vec::new();
    for object in objects {
        let what = change(there, object, known).await?;
        changes.push(Change { object: object.clone(), name: portable::called(object), what });
    }
    Ok(changes)
}

async fn change(there: &Client, object: &Value, known: &Target) -> anyhow::Result<What> {
    let path = path_of(object).context("an object of a kind that is promoted")?;
    let live = match there.get(&path).await {
        Ok(live) => Some(live),
        Err(err) if err.code() == Some(StatusCode::NOT_FOUND) => None,
        Err(err) => return Err(err.into()),
    };
    // Nothing can be tried in a namespace that is not there yet.
    if live.is_none() && !known.has_namespace(text(object, "/metadata/namespace")) {
        return Ok(What::Created);
    }
    match there.patch(&applied(&path, true), PatchKind::Apply, object).await {
        Ok(after) => Ok(match live {
            None => What::Created,
            Some(live) => {
                let fields = portable::differences(&live, &after);
                if fields.is_empty() { What::Unchanged } else { What::Changed(fields) }
            }
        }),
        Err(ClientError::Refused { message, .. }) => Ok(What::Refused(message)),
        Err(err) => Err(err.into()),
    }
}

fn applied(path: &str, is_trial: bool) -> String {
    let trial = if is_trial { "&dryRun=All" } else { "" };
    format!("{path}?fieldManager={MANAGER}&force=true{trial}")
}

fn show(changes: &[Change], moved: &Moved) {
    for change in changes {
        match &change.what {
            What::Created => output::line(format!(" + {}", change.name)),
            What::Changed(fields) => {
                output::line(format!(" ~ {}", change.name));
                fields.iter().take(SHOWN_MAX).for_each(|field| output::line(format!("     {field}")));
                if fields.len() > SHOWN_MAX {
                    output::line(format!("     and {} fields more", fields.len() - SHOWN_MAX));
                }
            }
            What::Unchanged => output::line(format!(" = {}", change.name)),
            What::Refused(why) => output::warning(format!("{} would be refused: {why}", change.name)),
        }
    }
    moved.notes.iter().for_each(output::warning);
    for image in &moved.local_images {
        output::warning(format!(
            "the image {image} is on this machine alone: --push REGISTRY pushes it where that cluster pulls from, and names it so"
        ));
    }
}

/// Whether whoever looks on wants it. Where nobody does, nothing is changed.
fn is_wanted(n: usize, context: &str) -> anyhow::Result<bool> {
    if !std::io::stdin().is_terminal() {
        return Ok(false);
    }
    output::raw(&format!("Apply {n} objects to the cluster of the context {context}? [y/N] "));
    let mut answer = String::new();
    std::io::stdin().lock().read_line(&mut answer)?;
    Ok(matches!(answer.trim(), "y" | "yes"))
}

/// Applies what is to change; why the rest could not be.
async fn apply(there: &Client, changes: &[Change]) -> Vec<String> {
    let mut failed = Vec::new();
    for change in changes.iter().filter(|change| change.is_one()) {
        let Some(path) = path_of(&change.object) else { continue };
        if let Err(err) = there.patch(&applied(&path, false), PatchKind::Apply, &change.object).await {
            failed.push(format!("{}: {:#}", change.name, anyhow!(err)));
        }
    }
    failed
}

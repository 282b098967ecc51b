//! `skiff demo load`: gives the engine the demo images, made from this binary.

use super::output;
use crate::engine::{docker::DockerEngine, self_image};

/// Arguments of `skiff demo`.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:\n  skiff demo load")]
pub(super) struct Args {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, clap::Subcommand)]
enum Command {
    /// Make the demo images; images of those names that you already have stay as they are
    #[command(after_help = "Example:\n  skiff demo load")]
    Load,
}

pub(super) fn run(args: &Args) -> anyhow::Result<()> {
    let Command::Load = args.command;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let made = runtime.block_on(async {
        let engine = DockerEngine::connect("skiff").await?;
        self_image::ensure_demo_images(&engine).await
    })?;
    for image in made {
        output::done(format!("{image} is made"));
    }
    Ok(())
}

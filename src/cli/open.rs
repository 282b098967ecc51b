//! `skiff open`: a new link into the dashboard of a cluster that runs, printed, and opened where there is a browser.

use super::{cluster::ClusterArgs, output};
use crate::{base::runtime::block_on, client::Client};
use anyhow::Context as _;
use serde_json::json;
use std::{
    env,
    process::{Command, Stdio},
};

/// Where the API gives links.
const LINKS: &str = "/skiff/dashboard";

/// Arguments of `skiff open`.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:\n  skiff open\n  skiff open --print    # the link alone")]
pub(super) struct Args {
    #[command(flatten)]
    cluster: ClusterArgs,
    /// Print the link, and open nothing
    #[arg(long)]
    print: bool,
}

pub(super) fn run(args: &Args) -> anyhow::Result<()> {
    let client = args.cluster.client()?;
    let url = block_on(link(&client))?
        .with_context(|| format!("the cluster {} gives no link into its dashboard", args.cluster.name))?;
    output::line(&url);
    if !args.print {
        launch(&url);
    }
    Ok(())
}

/// A new link into the dashboard.
pub(super) async fn link(client: &Client) -> anyhow::Result<String> {
    let answer = client.post(LINKS, &json!({})).await?;
    Ok(answer["url"].as_str().context("the API's answer has no link: is another skiff running?")?.to_owned())
}

/// Opens a link, where there is a desktop.
pub(super) fn launch(url: &str) {
    let Some(program) = opener(cfg!(target_os = "macos"), |name| env::var_os(name).is_some()) else { return };
    // Whoever has no such program has the link.
    let launched =
        Command::new(program).arg(url).stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()).spawn();
    if launched.is_err() {
        output::note(format!("{program} is not installed: open the link by hand"));
    }
}

/// The program that opens links, where there is a desktop.
fn opener(is_mac: bool, is_set: impl Fn(&str) -> bool) -> Option<&'static str> {
    if is_mac {
        return Some("open");
    }
    ["DISPLAY", "WAYLAND_DISPLAY"].into_iter().any(is_set).then_some("xdg-open")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_link_is_opened_where_there_is_a_desktop() {
        assert_eq!(opener(true, |_| false), Some("open"));
        assert_eq!(opener(false, |name| name == "WAYLAND_DISPLAY"), Some("xdg-open"));
        assert_eq!(opener(false, |_| false), None, "a server");
    }
}

//! `skiff kubeconfig`: prints the cluster's kubeconfig, or merges it into the user's; for the administrator, or for another user.

use super::{cluster::ClusterArgs, kubeconfig, output};
use crate::{
    app::{access::Access, data_dir::DataDir},
    base::clock::Clock,
    server::tls,
};
use anyhow::bail;

/// Arguments of `skiff kubeconfig`.
#[derive(Debug, clap::Args)]
#[command(
    after_help = "Examples:\n  skiff kubeconfig > kubeconfig.yaml\n  skiff kubeconfig --merge --user ann --group ops --group dev"
)]
pub(super) struct Args {
    #[command(flatten)]
    cluster: ClusterArgs,
    /// Merge it into your kubeconfig and make it the current context, instead of printing it
    #[arg(long)]
    merge: bool,
    /// For this user, with a new client certificate, instead of the administrator: may what roles grant
    #[arg(long, value_name = "NAME")]
    user: Option<String>,
    /// The user's group; may be repeated
    #[arg(long = "group", value_name = "GROUP", requires = "user")]
    groups: Vec<String>,
}

pub(super) fn run(args: &Args) -> anyhow::Result<()> {
    let path = args.cluster.data_dir()?;
    let dir = DataDir::at(&path);
    let admin = args.cluster.access()?;
    let access = match &args.user {
        Some(user) => for_user(admin, &dir, user, &args.groups)?,
        None => admin,
    };
    if !args.merge {
        output::raw(&access.kubeconfig());
        return Ok(());
    }
    let path = kubeconfig::default_path()?;
    kubeconfig::add(&path, &access)?;
    output::done(format!("context {} is in {}", access.name, path.display()));
    Ok(())
}

/// The same cluster for somebody else, under a name that says who.
fn for_user(admin: Access, dir: &DataDir, user: &str, groups: &[String]) -> anyhow::Result<Access> {
    if user.is_empty() || groups.iter().any(String::is_empty) {
        bail!("a user and a group have names");
    }
    let issued = tls::issue_client(&dir.pki(), user, groups, &Clock::system())?;
    let name = format!("{user}@{}", admin.name);
    Ok(Access { name, cert_pem: issued.cert_pem, key_pem: issued.key_pem, ..admin })
}

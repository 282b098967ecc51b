//! Tells the program of which commit it is, where that is known: `skiff version` and `GET /version` say it.
//!
//! Only a release looks: otherwise each commit would compile the crate again. `SKIFF_GIT_COMMIT` says it where there is no git.

use std::{env, process::Command};

fn main() {
    println!("cargo::rerun-if-changed=build.rs");
    println!("cargo::rerun-if-env-changed=SKIFF_GIT_COMMIT");
    let given = env::var("SKIFF_GIT_COMMIT").ok();
    let commit = given.or_else(|| (env::var("PROFILE").as_deref() == Ok("release")).then(of_git).flatten());
    println!("cargo::rustc-env=SKIFF_GIT_COMMIT={}", commit.unwrap_or_default());
}

fn of_git() -> Option<String> {
    // Every commit, and every change of branch, is a line there.
    println!("cargo::rerun-if-changed={}", git(&["rev-parse", "--git-path", "logs/HEAD"])?);
    git(&["rev-parse", "HEAD"])
}

fn git(args: &[&str]) -> Option<String> {
    let out = Command::new("git").args(args).output().ok().filter(|out| out.status.success())?;
    Some(String::from_utf8(out.stdout).ok()?.trim().to_owned()).filter(|said| !said.is_empty())
}

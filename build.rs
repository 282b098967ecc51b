//! Tells the program of which commit it is, where that is known: `skiff version` and `GET /version` say it. And has the linker keep one of
//! several functions that are the same.
//!
//! Only a release does either: otherwise each commit would compile the whole crate again. `SKIFF_GIT_COMMIT` says it where there is no git.

use std::{env, path::Path, process::Command};

fn main() {
    println!("cargo::rerun-if-changed=build.rs");
    println!("cargo::rerun-if-env-changed=SKIFF_GIT_COMMIT");
    let given = env::var("SKIFF_GIT_COMMIT").ok();
    let is_release = env::var("PROFILE").as_deref() == Ok("release");
    if is_release && links_with_lld() {
        // Readers of lists, maps of the same sizes, what frees them: a thirtieth of the program. Nothing compares addresses of functions.
        println!("cargo::rustc-link-arg-bins=-Wl,--icf=all");
    }
    let commit = given.or_else(|| is_release.then(of_git).flatten());
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

/// Whether the linker is the one that rustc brings for this target: others do not know the option.
fn links_with_lld() -> bool {
    let var = |name| env::var(name).unwrap_or_default();
    let (target, flags) = (var("TARGET"), var("CARGO_ENCODED_RUSTFLAGS"));
    let is_chosen = ["linker=", "link-self-contained", "fuse-ld"].iter().any(|word| flags.contains(word));
    let sysroot = Command::new(var("RUSTC")).args(["--print", "sysroot"]).output();
    let sysroot = sysroot.map(|out| String::from_utf8_lossy(&out.stdout).trim().to_owned()).unwrap_or_default();
    let lld = Path::new(&sysroot).join("lib/rustlib").join(&target).join("bin/gcc-ld/ld.lld");
    target == "x86_64-unknown-linux-gnu" && !is_chosen && var("RUSTC_LINKER").is_empty() && lld.exists()
}

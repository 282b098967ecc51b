//! Has the linker keep one of several functions that are the same, in a release.

use std::{env, path::Path, process::Command};

fn main() {
    println!("cargo::rerun-if-changed=build.rs");
    if env::var("PROFILE").as_deref() == Ok("release") && links_with_lld() {
        // Readers of lists, maps of the same sizes, what frees them: a thirtieth of the program. Nothing compares addresses of functions.
        println!("cargo::rustc-link-arg-bins=-Wl,--icf=all");
    }
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

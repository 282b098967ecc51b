//! What the packed schemas were made from, as sums: so that a test sees stale files without compiling their generator.
//!
//! Used by the generator (`schemas/main.rs`), which writes `sums.txt`, and by the tests of `schema`, which compare it.

use sha2::{Digest as _, Sha256};
use std::{fs, path::Path};

/// Where the packed files are.
pub(crate) const FOLDER: &str = "src/api/schema/packed";

/// The generator and what it adds to k8s-openapi's types.
const SOURCES: [&str; 4] = ["schemas/main.rs", "schemas/openshift.yaml", "schemas/own.rs", "src/api/schema/facts.rs"];

/// Libraries whose version decides what is written.
const LIBRARIES: [&str; 4] = ["flate2", "k8s-openapi", "miniz_oxide", "schemars"];

/// The sums, one `what: sum` line each. `top` is the top of the repository.
pub(crate) fn of(top: &Path, structure: &[u8], definitions: &[u8]) -> String {
    let read = |name: &str| {
        fs::read_to_string(top.join(name))
            .unwrap_or_else(|err| panic!("cannot read {name} in {}: {err}", top.display()))
    };
    let lock = read("Cargo.lock");
    let mut lines: Vec<String> = SOURCES.iter().map(|name| line(name, read(name).as_bytes())).collect();
    for library in LIBRARIES {
        let start = format!("name = \"{library}\"\n");
        let mut found = lock.split("[[package]]\n").filter(|package| package.starts_with(&start));
        let version = found.next().and_then(|package| package.lines().nth(1)).unwrap_or("absent");
        lines.push(format!("{library}: {version}"));
    }
    lines.extend([line("structure.txt", structure), line("definitions.z", definitions)]);
    lines.push(String::new());
    lines.join("\n")
}

fn line(name: &str, content: &[u8]) -> String {
    let sum: String = Sha256::digest(content).iter().map(|byte| format!("{byte:02x}")).collect();
    format!("{name}: {sum}")
}

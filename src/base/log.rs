//! What is logged: which parts of the program may say what. Pure.
//!
//! Called by the binary, which sets up the log.

/// What is logged when nobody asks for more: what a person should look at.
const DEFAULT: &str = "warn";
/// Libraries that print the bodies of requests and replies, values of Secrets and private keys among them: nobody can ask them to.
const SILENT: [&str; 5] = ["bollard", "h2", "hyper", "hyper_util", "rustls"];

/// What the file of a control plane has when nobody asks for more: what a user would recognise, too.
pub const OF_FILE: &str = "info";

/// The filter of the log, in the words of `tracing_subscriber`'s `Targets`: what was asked for, and silence where silence is due.
pub fn directives(asked: Option<&str>) -> String {
    let asked = asked.filter(|text| !text.trim().is_empty()).unwrap_or(DEFAULT);
    let target = |part: &str| part.trim().split(['=', '[', ':']).next().unwrap_or_default().trim().to_owned();
    let is_allowed = |part: &&str| !SILENT.contains(&target(part).as_str());
    let silent = SILENT.map(|library| format!("{library}=warn"));
    asked.split(',').filter(is_allowed).map(of_crate).chain(silent).collect::<Vec<_>>().join(",")
}

/// A part that names a room as the sources do (`skiff::node::agent=debug`), with the crate that the room is compiled in.
fn of_crate(part: &str) -> String {
    let Some(rest) = part.trim().strip_prefix("skiff::") else { return part.to_owned() };
    let crate_of = match rest.split([':', '=', '[']).next().unwrap_or_default() {
        room @ ("api" | "base" | "controllers" | "engine" | "net" | "node" | "registry" | "server") => room,
        "identity" | "store" => "registry",
        _ => return part.to_owned(),
    };
    format!("skiff_{crate_of}::{rest}")
}

#[cfg(test)]
mod tests {
    use super::*;
    use tracing_subscriber::filter::{LevelFilter, Targets};

    #[test]
    fn libraries_that_print_bodies_are_silent_whatever_is_asked_for() {
        for asked in [
            None,
            Some("debug"),
            Some("trace"),
            Some("bollard=trace, bollard::docker=trace,hyper[x]=debug,skiff=debug"),
        ] {
            let text = directives(asked);
            for library in SILENT {
                let of_library: Vec<&str> =
                    text.split(',').filter(|part| part.trim().starts_with(&format!("{library}="))).collect();
                assert_eq!(of_library, [format!("{library}=warn")], "{text}");
            }
            assert!(!text.contains("bollard::"), "{text}");
            text.parse::<Targets>().unwrap();
        }
        let level = |asked| directives(asked).parse::<Targets>().unwrap().default_level();
        assert_eq!(level(Some("debug")), Some(LevelFilter::DEBUG));
        assert_eq!(level(None), Some(LevelFilter::WARN));
    }

    #[test]
    fn a_room_is_asked_for_by_the_name_that_the_sources_have() {
        let asked =
            "warn, skiff::node::agent=debug,skiff::store=trace,skiff::cli::up=info,skiff::nodes=info,skiff=info";
        let of = |name: &str, rest: &str| format!("skiff_{name}::{rest}");
        let told = [
            "warn".to_owned(),
            of("node", "node::agent=debug"),
            of("registry", "store=trace"),
            "skiff::cli::up=info,skiff::nodes=info,skiff=info,".to_owned(),
        ];
        let text = directives(Some(asked));
        assert!(text.starts_with(&told.join(",")), "{text}");
        let filter = text.parse::<Targets>().unwrap();
        assert!(filter.would_enable(&of("node", "node::agent::worker"), &tracing::Level::DEBUG));
        assert!(filter.would_enable(&of("registry", "store::hub"), &tracing::Level::TRACE));
        assert!(!filter.would_enable(&of("registry", "registry"), &tracing::Level::DEBUG));
        // This very file is in the room that it says.
        assert!(module_path!().starts_with(directives(Some("skiff::base")).split(',').next().unwrap()));
    }
}

//! What a command ends with: a code for each class of failure, so that scripts can tell them apart.
//!
//! A class is what must change before the same command can work: the command line, the input, the machine, the cluster. It is found in
//! the causes of an error; who knows it better than the causes say so marks the error ([`of_class`]).

use crate::{client::ClientError, engine::EngineError};
use std::fmt;

/// A class of failures.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Class {
    /// Something else failed.
    Failed = 1,
    /// The command line, or the settings file, says what cannot be.
    Usage = 2,
    /// The container engine cannot be used.
    Engine = 3,
    /// There is no such cluster, or it does not run.
    Cluster = 4,
    /// A file that was named cannot be read, or is not what it must be.
    Input = 5,
    /// The API server refuses it.
    Refused = 6,
}

/// Each code, and what it says.
pub(super) const TABLE: [(u8, &str); 7] = [
    (0, "done"),
    (Class::Failed as u8, "failed"),
    (Class::Usage as u8, "the command line, or the settings file, is wrong"),
    (Class::Engine as u8, "Docker cannot be used: not installed, not running, or not permitted"),
    (Class::Cluster as u8, "there is no such cluster, or it does not run"),
    (Class::Input as u8, "a file that was named cannot be read, or is not what it must be"),
    (Class::Refused as u8, "the API server refuses it: not found, not allowed, not valid"),
];

/// A command in a container has ended with this code, and so does the one that ran it.
#[derive(Debug, thiserror::Error)]
#[error("command terminated with exit code {0}")]
pub(super) struct Terminated(pub(super) u8);

/// An error whose class is known.
#[derive(Debug)]
struct Marked {
    class: Class,
    err: anyhow::Error,
}

impl fmt::Display for Marked {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:#}", self.err)
    }
}

impl std::error::Error for Marked {}

/// The same error, of this class.
pub(super) fn of_class(class: Class, err: anyhow::Error) -> anyhow::Error {
    Marked { class, err }.into()
}

/// The code that an error ends with.
pub(super) fn code(err: &anyhow::Error) -> u8 {
    err.downcast_ref().map_or_else(|| class(err) as u8, |Terminated(code)| *code)
}

/// The class of an error.
fn class(err: &anyhow::Error) -> Class {
    err.chain().find_map(class_of_cause).unwrap_or(Class::Failed)
}

fn class_of_cause(cause: &(dyn std::error::Error + 'static)) -> Option<Class> {
    if let Some(marked) = cause.downcast_ref::<Marked>() {
        return Some(marked.class);
    }
    if let Some(EngineError::Unreachable(_)) = cause.downcast_ref::<EngineError>() {
        return Some(Class::Engine);
    }
    match cause.downcast_ref::<ClientError>()? {
        ClientError::Connect { .. } => Some(Class::Cluster),
        ClientError::Refused { .. } => Some(Class::Refused),
        _ => None,
    }
}

/// What to do about an error that does not say so itself.
pub(super) fn hint(err: &anyhow::Error) -> Option<&'static str> {
    let is_away =
        |cause: &(dyn std::error::Error + 'static)| matches!(cause.downcast_ref(), Some(ClientError::Connect { .. }));
    err.chain().any(is_away).then_some("the cluster does not run: `skiff up` starts it, and takes over what it left")
}

/// The codes, as help tells them.
pub(super) fn help() -> String {
    let lines = TABLE.iter().map(|(code, says)| format!("  {code}  {says}"));
    format!("Exit codes:\n{}", lines.collect::<Vec<_>>().join("\n"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use anyhow::Context as _;

    #[test]
    fn a_class_is_found_below_any_context() {
        let away = || anyhow::Error::new(EngineError::Unreachable("Docker is not running".into()));
        let refused = || ClientError::Refused { code: http::StatusCode::NOT_FOUND, message: "no".into() };
        assert_eq!(class(&away().context("a").context("b")), Class::Engine);
        assert_eq!(class(&Err::<(), _>(refused()).context("a").unwrap_err()), Class::Refused);
        assert_eq!(class(&anyhow::anyhow!("else")), Class::Failed);
        let marked = of_class(Class::Input, anyhow::anyhow!("a").context("b"));
        assert_eq!(format!("{:#}", marked.context("c")), "c: b: a");
        assert_eq!(class(&of_class(Class::Usage, away())), Class::Usage, "who marks it knows better");
    }

    #[test]
    fn every_class_has_its_line() {
        let codes: Vec<u8> = TABLE.iter().map(|(code, _)| *code).collect();
        assert_eq!(codes, [0, 1, 2, 3, 4, 5, 6]);
    }
}

//! Prints an error with all its sources on one line: what we were doing, then why it failed, down to the root.

use std::error::Error;

/// The error and its sources, joined by `: `. A source whose text the line already ends with is not repeated.
pub fn chain(err: &(dyn Error + 'static)) -> String {
    let mut line = err.to_string();
    let mut next = err.source();
    while let Some(source) = next {
        let text = source.to_string();
        if !line.ends_with(&text) {
            line.push_str(": ");
            line.push_str(&text);
        }
        next = source.source();
    }
    line
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Debug, thiserror::Error)]
    #[error("cannot open the store")]
    struct Outer(#[source] std::io::Error);

    #[test]
    fn every_source_is_named_once() {
        let err = Outer(std::io::Error::other("disk is full"));
        assert_eq!(chain(&err), "cannot open the store: disk is full");
    }
}

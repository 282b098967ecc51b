//! Values that no log may show.
//!
//! **Invariants**: what is printed of one, by whatever holds it, is never the value; who wants that must ask by name.

use std::fmt;

/// A value that is not printed.
#[derive(Clone, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Secret<T>(T);

impl<T> Secret<T> {
    /// Hides a value.
    pub const fn new(value: T) -> Self {
        Self(value)
    }

    /// The value. Whoever takes it answers for where it goes.
    pub const fn reveal(&self) -> &T {
        &self.0
    }
}

impl<T> fmt::Debug for Secret<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("***")
    }
}

/// An environment variable: its name, and its value, which may come from a Secret.
pub type Variable = (String, Secret<String>);

/// A variable whose value is known to the caller.
pub fn variable(name: &str, value: String) -> Variable {
    (name.to_owned(), Secret::new(value))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_secret_is_not_printed() {
        let held = variable("PASSWORD", "s3cr3t".to_owned());
        assert_eq!(format!("{held:?}"), "(\"PASSWORD\", ***)");
        assert_eq!(held.1.reveal(), "s3cr3t");
    }
}

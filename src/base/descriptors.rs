//! How many descriptors this process may have open.
//!
//! Every role that serves raises the limit once, at its start, and shares what it gets among its clients.

use rustix::process::{Resource, getrlimit, setrlimit};

/// Raises the soft limit to the hard one: the usual soft limit is for programs that may still use `select`. Refused: the limit stays.
pub fn raise_limit() {
    let mut limit = getrlimit(Resource::Nofile);
    limit.current = limit.maximum;
    setrlimit(Resource::Nofile, limit).ok();
}

/// The limit now.
pub fn limit() -> u64 {
    getrlimit(Resource::Nofile).current.unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_limit_can_be_raised_and_read() {
        let before = limit();
        raise_limit();
        assert!(limit() >= before && limit() > 64);
    }
}

//! The names of a cluster's nodes: they are one machine and one engine, shown as several so that what depends on nodes can be tried.
//!
//! The first has the cluster's name, the others that name and their number: `skiff`, `skiff-2`, `skiff-3`.

/// The most nodes that a cluster shows: each has an object that is written anew every few minutes.
pub const NODES_MAX: u32 = 20;

/// The name of the node of this number; the first is 1.
pub fn name(cluster: &str, number: u32) -> String {
    if number <= 1 { cluster.to_owned() } else { format!("{cluster}-{number}") }
}

/// The number of the node of this name; `None`: it is none of the cluster's.
pub fn number(cluster: &str, node: &str) -> Option<u32> {
    if node == cluster {
        return Some(1);
    }
    let digits = node.strip_prefix(cluster)?.strip_prefix('-')?;
    let number = digits.parse().ok().filter(|number| *number > 1)?;
    (name(cluster, number) == node).then_some(number)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_tells_its_number() {
        for n in [1, 2, 13] {
            assert_eq!(number("dev", &name("dev", n)), Some(n));
        }
        for other in ["", "dev-", "dev-1", "dev-02", "dev-x", "dev2", "prod-2"] {
            assert_eq!(number("dev", other), None, "{other}");
        }
    }
}

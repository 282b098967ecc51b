//! The certificates that the router shows: the content of the Secret `kube-system/skiff-router`.
//!
//! Written by the control plane, which has the authority's key and may read Secrets; read by the data plane, which has and may neither.

use crate::base::ordered::Map;
use serde::{Deserialize, Serialize};
use std::fmt;

/// The key of the Secret's data under which they are, as JSON.
pub const DATA_KEY: &str = "certificates.json";

/// A certificate with its key, PEM.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Pair {
    /// The certificate, and those between it and the authority.
    pub certificate: String,
    /// Its key.
    pub key: String,
}

impl fmt::Debug for Pair {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Pair").finish_non_exhaustive()
    }
}

/// All certificates.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct Certificates {
    /// Copies of the Secrets that Ingresses and Routes name, by namespace and name with a slash between.
    pub by_secret: Map<String, Pair>,
    /// Those that the cluster's authority made, by host; `*.` stands for one label.
    pub by_host: Map<String, Pair>,
}

impl Certificates {
    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.by_secret.is_empty() && self.by_host.is_empty()
    }

    /// The one that the authority made for a host.
    pub fn for_host(&self, host: &str) -> Option<&Pair> {
        let above = || host.split_once('.').and_then(|(_, above)| self.by_host.get(&format!("*.{above}")));
        self.by_host.get(host).or_else(above)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_host_has_its_own_certificate_or_that_of_its_wildcard() {
        let pair = |text: &str| Pair { certificate: text.to_owned(), key: String::new() };
        let by_host = [("a.b", pair("a")), ("*.b", pair("any"))].map(|(host, pair)| (host.to_owned(), pair));
        let all = Certificates { by_host: by_host.into(), ..Certificates::default() };
        let of = |host: &str| all.for_host(host).map(|pair| pair.certificate.as_str());
        assert_eq!([of("a.b"), of("c.b"), of("b"), of("x.a.b")], [Some("a"), Some("any"), None, None]);
        let text = serde_json::to_string(&all).unwrap();
        assert_eq!(serde_json::from_str::<Certificates>(&text).unwrap(), all);
        assert!(!format!("{all:?}").contains("any"), "keys are in no log");
    }
}

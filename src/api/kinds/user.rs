//! `User`, user.openshift.io/v1: who calls, as OpenShift's clients ask for it. Nothing of it is stored: skiff keeps no list of users.
//!
//! **Source**: github.com/openshift/openshift-apiserver, `pkg/user/apiserver/registry/user`, release 4.20.

use crate::api::{
    json_kind::{JsonKind, Rules},
    kind::{KindInfo, Scope},
    names,
};

/// The group and version.
pub const API_VERSION: &str = "user.openshift.io/v1";

/// The kind `User`.
pub static USERS: JsonKind = JsonKind::new(
    KindInfo {
        verbs: &["get"],
        ..KindInfo::of(
            ("user.openshift.io", "v1", "User"),
            ("users", "user"),
            Scope::Cluster,
            "com.github.openshift.api.user.v1.User",
        )
    },
    Rules { validate_name: names::path_segment, ..Rules::PLAIN },
);

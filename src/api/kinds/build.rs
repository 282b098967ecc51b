//! `BuildConfig` and `Build`, build.openshift.io/v1: there are none, and none can be made. They are served so that whoever lists them is told
//! so, and whoever makes one (`oc new-build`, `oc new-app` with sources, many a template) is told what to do instead.
//!
//! **Not here**: the refusal (`server/verbs/not_yet`).

use crate::api::{
    json_kind::{JsonKind, Rules},
    kind::{KindInfo, Scope},
};

const READ: &[&str] = &["get", "list", "watch"];

/// The kind `BuildConfig`.
pub static BUILD_CONFIGS: JsonKind = JsonKind::new(
    KindInfo {
        short_names: &["bc"],
        verbs: READ,
        ..KindInfo::of(
            ("build.openshift.io", "v1", "BuildConfig"),
            ("buildconfigs", "buildconfig"),
            Scope::Namespaced,
            "com.github.openshift.api.build.v1.BuildConfig",
        )
    },
    Rules::PLAIN,
);

/// The kind `Build`.
pub static BUILDS: JsonKind = JsonKind::new(
    KindInfo {
        verbs: READ,
        ..KindInfo::of(
            ("build.openshift.io", "v1", "Build"),
            ("builds", "build"),
            Scope::Namespaced,
            "com.github.openshift.api.build.v1.Build",
        )
    },
    Rules::PLAIN,
);

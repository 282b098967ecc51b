//! `PodTimeline`, skiff.dev/v1: how a pod's containers ended and came back. Answered by the node agent, and never stored.
//!
//! **Not here**: what it holds ([`timeline`](crate::api::timeline)), the answer (`server/verbs/timeline`).

use crate::api::{
    json_kind::{JsonKind, Rules},
    kind::{KindInfo, Scope, Subresource},
};

/// The pods of this group: they have a timeline, and nothing else.
pub static POD_TIMELINES: JsonKind = JsonKind::new(
    KindInfo {
        verbs: &[],
        subresources: &[Subresource::own("timeline", &["get"])],
        ..KindInfo::of(
            ("skiff.dev", "v1", "PodTimeline"),
            ("pods", "pod"),
            Scope::Namespaced,
            "dev.skiff.v1.PodTimeline",
        )
    },
    Rules::PLAIN,
);

//! Questions that are posted and answered, and never stored: who am I, and what may I do.
//!
//! **Not here**: the answers (`server/verbs/reviews`).
//! **Source**: `pkg/registry/{authentication,authorization}`, v1.37.

use crate::api::{
    kind::{Kind, KindInfo, Scope},
    object::Untyped,
    table::{self, Column},
};
use jiff::Timestamp;
use serde_json::Value;

const COLUMNS: &[Column<'_>] = &[Column::name(), Column::age()];

/// What a question's row has in common.
const fn review(
    group: &'static str,
    kind: &'static str,
    plural: &'static str,
    singular: &'static str,
) -> KindInfo<'static> {
    KindInfo {
        group,
        version: "v1",
        kind,
        plural,
        singular,
        short_names: &[],
        categories: &[],
        scope: Scope::Cluster,
        verbs: &["create"],
        subresources: &[],
        columns: COLUMNS,
        stored_as: None,
        schema: "",
    }
}

fn row(obj: &Untyped, now: Timestamp) -> Vec<Value> {
    vec![table::name(&obj.metadata), table::age(&obj.metadata, now)]
}

/// The kind `SelfSubjectReview`: who am I.
#[derive(Debug)]
pub struct SelfSubjectReviews;

impl Kind for SelfSubjectReviews {
    type Object = Untyped;
    const INFO: KindInfo<'static> = KindInfo {
        schema: "io.k8s.api.authentication.v1.SelfSubjectReview",
        ..review("authentication.k8s.io", "SelfSubjectReview", "selfsubjectreviews", "selfsubjectreview")
    };

    fn row(obj: &Untyped, now: Timestamp) -> Vec<Value> {
        row(obj, now)
    }
}

/// The kind `SelfSubjectAccessReview`: may I do this.
#[derive(Debug)]
pub struct SelfSubjectAccessReviews;

impl Kind for SelfSubjectAccessReviews {
    type Object = Untyped;
    const INFO: KindInfo<'static> = KindInfo {
        schema: "io.k8s.api.authorization.v1.SelfSubjectAccessReview",
        ..review(
            "authorization.k8s.io",
            "SelfSubjectAccessReview",
            "selfsubjectaccessreviews",
            "selfsubjectaccessreview",
        )
    };

    fn row(obj: &Untyped, now: Timestamp) -> Vec<Value> {
        row(obj, now)
    }
}

/// The kind `SelfSubjectRulesReview`: what may I do.
#[derive(Debug)]
pub struct SelfSubjectRulesReviews;

impl Kind for SelfSubjectRulesReviews {
    type Object = Untyped;
    const INFO: KindInfo<'static> = KindInfo {
        schema: "io.k8s.api.authorization.v1.SelfSubjectRulesReview",
        ..review("authorization.k8s.io", "SelfSubjectRulesReview", "selfsubjectrulesreviews", "selfsubjectrulesreview")
    };

    fn row(obj: &Untyped, now: Timestamp) -> Vec<Value> {
        row(obj, now)
    }
}

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

/// Every question: its group, kind, plural, singular and schema.
const REVIEWS: [[&str; 5]; 3] = [
    [
        "authentication.k8s.io",
        "SelfSubjectReview",
        "selfsubjectreviews",
        "selfsubjectreview",
        "io.k8s.api.authentication.v1.SelfSubjectReview",
    ],
    [
        "authorization.k8s.io",
        "SelfSubjectAccessReview",
        "selfsubjectaccessreviews",
        "selfsubjectaccessreview",
        "io.k8s.api.authorization.v1.SelfSubjectAccessReview",
    ],
    [
        "authorization.k8s.io",
        "SelfSubjectRulesReview",
        "selfsubjectrulesreviews",
        "selfsubjectrulesreview",
        "io.k8s.api.authorization.v1.SelfSubjectRulesReview",
    ],
];

/// The kind of a question, by its place in the table.
#[derive(Debug)]
pub struct Review<const PLACE: usize>;

/// The kind `SelfSubjectReview`: who am I.
pub type SelfSubjectReviews = Review<0>;
/// The kind `SelfSubjectAccessReview`: may I do this.
pub type SelfSubjectAccessReviews = Review<1>;
/// The kind `SelfSubjectRulesReview`: what may I do.
pub type SelfSubjectRulesReviews = Review<2>;

impl<const PLACE: usize> Kind for Review<PLACE> {
    type Object = Untyped;
    const INFO: KindInfo<'static> = {
        let [group, kind, plural, singular, schema] = REVIEWS[PLACE];
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
            schema,
        }
    };

    fn row(obj: &Untyped, now: Timestamp) -> Vec<Value> {
        vec![table::name(&obj.metadata), table::age(&obj.metadata, now)]
    }
}

//! Questions that are posted and answered, and never stored: who is this, and what may they do.
//!
//! **Not here**: the answers (`server/verbs/reviews`).
//! **Source**: `pkg/registry/{authentication,authorization}`, v1.37.

use crate::api::{
    json_kind::{JsonKind, Rules},
    kind::{KindInfo, Scope},
};

/// A question: its group; kind, plural and singular; where it is asked; and its schema.
const fn review(group: &'static str, names: [&'static str; 3], scope: Scope, schema: &'static str) -> JsonKind {
    let [kind, plural, singular] = names;
    let info = KindInfo::of((group, "v1", kind), (plural, singular), scope, schema);
    JsonKind::new(KindInfo { verbs: &["create"], ..info }, Rules::PLAIN)
}

/// The kind `SelfSubjectReview`: who am I.
pub static SELF_SUBJECT_REVIEWS: JsonKind = review(
    "authentication.k8s.io",
    ["SelfSubjectReview", "selfsubjectreviews", "selfsubjectreview"],
    Scope::Cluster,
    "io.k8s.api.authentication.v1.SelfSubjectReview",
);

/// The kind `TokenReview`: whose token is this.
pub static TOKEN_REVIEWS: JsonKind = review(
    "authentication.k8s.io",
    ["TokenReview", "tokenreviews", "tokenreview"],
    Scope::Cluster,
    "io.k8s.api.authentication.v1.TokenReview",
);

/// The kind `LocalSubjectAccessReview`: may they do this in this namespace.
pub static LOCAL_SUBJECT_ACCESS_REVIEWS: JsonKind = review(
    "authorization.k8s.io",
    ["LocalSubjectAccessReview", "localsubjectaccessreviews", "localsubjectaccessreview"],
    Scope::Namespaced,
    "io.k8s.api.authorization.v1.LocalSubjectAccessReview",
);

/// The kind `SelfSubjectAccessReview`: may I do this.
pub static SELF_SUBJECT_ACCESS_REVIEWS: JsonKind = review(
    "authorization.k8s.io",
    ["SelfSubjectAccessReview", "selfsubjectaccessreviews", "selfsubjectaccessreview"],
    Scope::Cluster,
    "io.k8s.api.authorization.v1.SelfSubjectAccessReview",
);

/// The kind `SelfSubjectRulesReview`: what may I do.
pub static SELF_SUBJECT_RULES_REVIEWS: JsonKind = review(
    "authorization.k8s.io",
    ["SelfSubjectRulesReview", "selfsubjectrulesreviews", "selfsubjectrulesreview"],
    Scope::Cluster,
    "io.k8s.api.authorization.v1.SelfSubjectRulesReview",
);

/// The kind `SubjectAccessReview`: may they do this.
pub static SUBJECT_ACCESS_REVIEWS: JsonKind = review(
    "authorization.k8s.io",
    ["SubjectAccessReview", "subjectaccessreviews", "subjectaccessreview"],
    Scope::Cluster,
    "io.k8s.api.authorization.v1.SubjectAccessReview",
);

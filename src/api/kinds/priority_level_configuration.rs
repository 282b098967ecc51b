//! `PriorityLevelConfiguration`, flowcontrol.apiserver.k8s.io/v1.
//!
//! **Source**: `pkg/apis/flowcontrol/validation/validation.go`, `pkg/apis/flowcontrol/v1/defaults.go`, and for those of every cluster
//! `k8s.io/apiserver/pkg/apis/flowcontrol/bootstrap/default.go`, v1.37.

use super::json::{self, Errors};
use crate::api::{
    field::FieldError,
    json_kind::{JsonKind, Rules, at, default_at, text_at},
    kind::{KindInfo, STATUS, Scope},
    object::Untyped,
    table::{self, Column, NONE},
};
use jiff::Timestamp;
use serde_json::{Map, Value, json};

const EXEMPT: &str = "exempt";
const LIMITED: &str = "spec.limited";
const QUEUING: &str = "spec.limited.limitResponse.queuing";
const QUEUES_MAX: i64 = 10_000_000;
/// Bits of the hash that deals a flow its queues. Source: `MaxHashBits` in shufflesharding.go.
const HASH_BITS: f64 = 60.0;

/// The kind `PriorityLevelConfiguration`.
pub static PRIORITY_LEVEL_CONFIGURATIONS: JsonKind = JsonKind::new(
    KindInfo {
        columns: &[
            Column::name(),
            Column::text("Type", "Whether its requests may have to wait."),
            Column::number("NominalConcurrencyShares", "Its share of the requests that are under way."),
            Column::number("Queues", "In how many queues they wait."),
            Column::number("HandSize", "In how many of them one flow may."),
            Column::number("QueueLengthLimit", "How many in each."),
            Column::age(),
        ],
        subresources: &[STATUS],
        ..KindInfo::of(
            ("flowcontrol.apiserver.k8s.io", "v1", "PriorityLevelConfiguration"),
            ("prioritylevelconfigurations", "prioritylevelconfiguration"),
            Scope::Cluster,
            "io.k8s.api.flowcontrol.v1.PriorityLevelConfiguration",
        )
    },
    Rules { set_defaults, validate, warnings, row, has_generation: true, ..Rules::PLAIN },
);

/// What a client should know that writes one of these or a FlowSchema.
pub(super) fn warnings(_obj: &Untyped) -> Vec<String> {
    vec!["skiff bounds requests by one rule for all: this object is stored, and orders nobody's requests".to_owned()]
}

/// The levels of every cluster.
pub fn mandatory() -> [Value; 2] {
    [
        json!({
            "metadata": { "name": EXEMPT },
            "spec": { "type": "Exempt", "exempt": { "nominalConcurrencyShares": 0, "lendablePercent": 0 } },
        }),
        json!({
            "metadata": { "name": "catch-all" },
            "spec": { "type": "Limited", "limited": {
                "nominalConcurrencyShares": 5, "lendablePercent": 0, "limitResponse": { "type": "Reject" },
            } },
        }),
    ]
}

/// Objects of every cluster are as they are.
pub(super) fn is_fixed(obj: &Untyped, mandatory: &[Value]) -> Option<FieldError> {
    let name = obj.metadata.name.as_deref().unwrap_or_default();
    let fixed = mandatory.iter().find(|fixed| fixed["metadata"]["name"] == name)?;
    let spec = obj.rest.get("spec");
    let why = || format!("spec of '{name}' must equal the fixed value");
    (spec != fixed.get("spec")).then(|| FieldError::invalid("spec", spec, why()))
}

fn set_defaults(obj: &mut Untyped) {
    let fields = &mut obj.rest;
    if json::has(fields, "spec.exempt") {
        default_at(fields, "spec.exempt.nominalConcurrencyShares", 0);
        default_at(fields, "spec.exempt.lendablePercent", 0);
    }
    if json::has(fields, LIMITED) {
        default_at(fields, "spec.limited.nominalConcurrencyShares", 30);
        default_at(fields, "spec.limited.lendablePercent", 0);
    }
    if json::has(fields, QUEUING) {
        for (field, value) in [("queues", 64), ("handSize", 8), ("queueLengthLimit", 50)] {
            let path = format!("{QUEUING}.{field}");
            if number(fields, &path) == 0 {
                crate::api::json_kind::set_at(fields, &path, json!(value));
            }
        }
    }
}

fn number(fields: &Map<String, Value>, path: &str) -> i64 {
    at(fields, path).and_then(Value::as_i64).unwrap_or(0)
}

fn validate(obj: &Untyped) -> Errors {
    let mut errs = Errors::new();
    let (fields, kind) = (&obj.rest, text_at(&obj.rest, "spec.type"));
    if (obj.metadata.name.as_deref() == Some(EXEMPT)) != (kind == "Exempt") {
        let why = "type must be 'Exempt' if and only if name is 'exempt'";
        errs.push(FieldError::invalid("spec.type", &kind, why));
    }
    match &*kind {
        "Exempt" => {
            if json::has(fields, LIMITED) {
                errs.push(FieldError::forbidden(LIMITED, "must be nil if the type is not Limited"));
            }
            check_share(&mut errs, fields, "spec.exempt");
        }
        "Limited" => {
            if json::has(fields, "spec.exempt") {
                errs.push(FieldError::forbidden("spec.exempt", "must be nil if the type is Limited"));
            }
            if json::has(fields, LIMITED) {
                check_limited(&mut errs, fields);
            } else {
                errs.push(FieldError::required(LIMITED, "must not be empty when type is Limited"));
            }
        }
        _ => errs.push(FieldError::not_supported("spec.type", &kind, &["Exempt", "Limited"])),
    }
    errs.extend(is_fixed(obj, &mandatory()));
    errs
}

fn check_share(errs: &mut Errors, fields: &Map<String, Value>, above: &str) {
    let shares = format!("{above}.nominalConcurrencyShares");
    if number(fields, &shares) < 0 {
        errs.push(FieldError::invalid(&shares, number(fields, &shares), "must be a non-negative integer"));
    }
    let lendable = format!("{above}.lendablePercent");
    if !(0..=100).contains(&number(fields, &lendable)) {
        let why = "must be between 0 and 100, inclusive";
        errs.push(FieldError::invalid(&lendable, number(fields, &lendable), why));
    }
}

fn check_limited(errs: &mut Errors, fields: &Map<String, Value>) {
    check_share(errs, fields, LIMITED);
    let borrowing = format!("{LIMITED}.borrowingLimitPercent");
    if number(fields, &borrowing) < 0 {
        let why = "if specified, must be a non-negative integer";
        errs.push(FieldError::invalid(&borrowing, number(fields, &borrowing), why));
    }
    let kind = text_at(fields, "spec.limited.limitResponse.type");
    match (&*kind, json::has(fields, QUEUING)) {
        ("Reject", true) => {
            errs.push(FieldError::forbidden(QUEUING, "must be nil if limited.limitResponse.type is not Limited"));
        }
        ("Queue", false) => {
            errs.push(FieldError::required(QUEUING, "must not be empty if limited.limitResponse.type is Limited"));
        }
        ("Queue", true) => check_queues(errs, fields),
        ("Reject", false) => {}
        _ => errs.push(FieldError::not_supported("spec.limited.limitResponse.type", &kind, &["Queue", "Reject"])),
    }
}

fn check_queues(errs: &mut Errors, fields: &Map<String, Value>) {
    let path = |field| format!("{QUEUING}.{field}");
    let [queues, hand, length] = ["queues", "handSize", "queueLengthLimit"].map(|field| number(fields, &path(field)));
    if length <= 0 {
        errs.push(FieldError::invalid(path("queueLengthLimit"), length, "must be positive"));
    }
    if queues <= 0 {
        errs.push(FieldError::invalid(path("queues"), queues, "must be positive"));
    } else if queues > QUEUES_MAX {
        errs.push(FieldError::invalid(path("queues"), queues, format!("must not be greater than {QUEUES_MAX}")));
    }
    if hand <= 0 {
        errs.push(FieldError::invalid(path("handSize"), hand, "must be positive"));
    } else if hand > queues {
        let why = format!("should not be greater than queues ({queues})");
        errs.push(FieldError::invalid(path("handSize"), hand, why));
    } else if entropy_bits(queues, hand) > HASH_BITS {
        let why = format!(
            "required entropy bits of deckSize {queues} and handSize {hand} should not be greater than {HASH_BITS}"
        );
        errs.push(FieldError::invalid(path("handSize"), hand, why));
    }
}

/// How many bits it takes to deal a hand. Source: `RequiredEntropyBits` in shufflesharding.go.
fn entropy_bits(deck: i64, hand: i64) -> f64 {
    let cards = i32::try_from(deck).unwrap_or(i32::MAX);
    let hand = i32::try_from(hand).unwrap_or(i32::MAX);
    // One card takes a bit at least, so that more cards than there are bits need not be counted.
    let bits = (0..hand).take(1000).map(|dealt| f64::from(cards - dealt).max(1.0).log2());
    bits.sum::<f64>().ceil()
}

fn row(obj: &Untyped, now: Timestamp) -> Vec<Value> {
    let cell = |path: &str| at(&obj.rest, path).cloned().unwrap_or_else(|| json!(NONE));
    vec![
        table::name(&obj.metadata),
        json!(text_at(&obj.rest, "spec.type")),
        cell("spec.limited.nominalConcurrencyShares"),
        cell(&format!("{QUEUING}.queues")),
        cell(&format!("{QUEUING}.handSize")),
        cell(&format!("{QUEUING}.queueLengthLimit")),
        table::age(&obj.metadata, now),
    ]
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::api::kinds::testing::json::{causes, created_yaml, row};
    use expect_test::expect;

    #[test]
    fn what_is_wrong_is_named() {
        let of = |spec: &str| causes(&PRIORITY_LEVEL_CONFIGURATIONS, &format!("metadata: {{name: a}}\nspec: {spec}"));
        expect![[r#"
            spec.type: Invalid value: "Exempt": type must be 'Exempt' if and only if name is 'exempt'
            spec.limited: Forbidden: must be nil if the type is not Limited
        "#]]
        .assert_eq(&of("{type: Exempt, limited: {limitResponse: {type: Reject}}}"));
        assert_eq!(of("{type: Limited}"), "spec.limited: Required value: must not be empty when type is Limited\n");
        expect![[r#"
            spec.limited.lendablePercent: Invalid value: 101: must be between 0 and 100, inclusive
            spec.limited.limitResponse.queuing.handSize: Invalid value: 65: should not be greater than queues (64)
        "#]]
        .assert_eq(&of(
            "{type: Limited, limited: {lendablePercent: 101, limitResponse: {type: Queue, queuing: {handSize: 65}}}}",
        ));
        let many = of("{type: Limited, limited: {limitResponse: {type: Queue, queuing: {queues: 128, handSize: 9}}}}");
        assert!(
            many.ends_with("required entropy bits of deckSize 128 and handSize 9 should not be greater than 60\n"),
            "{many}"
        );
    }

    #[test]
    fn those_of_every_cluster_are_right_and_cannot_be_changed() {
        for level in mandatory() {
            assert_eq!(causes(&PRIORITY_LEVEL_CONFIGURATIONS, &level.to_string()), "", "{level}");
        }
        let changed = "metadata: {name: catch-all}\nspec: {type: Limited, limited: {limitResponse: {type: Reject}}}";
        let causes = causes(&PRIORITY_LEVEL_CONFIGURATIONS, changed);
        assert!(causes.ends_with("spec of 'catch-all' must equal the fixed value\n"), "{causes}");
    }

    #[test]
    fn defaults_are_filled_in_and_a_row_reads_as_in_kubernetes() {
        let level = "metadata: {name: a}\nspec: {type: Limited, limited: {limitResponse: {type: Queue, queuing: {}}}}";
        let made = created_yaml(&PRIORITY_LEVEL_CONFIGURATIONS, level);
        assert_eq!(row(&PRIORITY_LEVEL_CONFIGURATIONS, &made), "a | Limited | 30 | 64 | 8 | 50 | <unknown>");
        let exempt = mandatory()[0].to_string();
        let shown = row(&PRIORITY_LEVEL_CONFIGURATIONS, &exempt);
        assert_eq!(shown, "exempt | Exempt | <none> | <none> | <none> | <none> | <unknown>");
    }
}

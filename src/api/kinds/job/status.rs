//! What is wrong with a change of a job's status. Jobs may be run by controllers that are not Kubernetes' own (`spec.managedBy`), and what
//! clients rely on holds for those too.
//!
//! A rule whose fields did not change is not looked at: it may be broken for a moment after somebody changed the spec.
//!
//! **Source**: `ValidateJobStatusUpdate`, pkg/apis/batch/validation/validation.go; `getStatusValidationOptions`,
//! pkg/registry/batch/job/strategy.go, v1.37.

use super::{
    policies::{count_indexes, overlap},
    spec::is_indexed,
};
use crate::api::{
    field::FieldError,
    json_kind::at,
    kinds::{check, json::Errors},
    object::Untyped,
};
use crate::base::json::typed;
use k8s_openapi::api::batch::v1::{JobSpec, JobStatus};

/// What is wrong with the status of `new`.
pub(super) fn check_update(new: &Untyped, old: &Untyped) -> Errors {
    let status = |obj: &Untyped| -> JobStatus {
        at(&obj.rest, "status").and_then(|status| typed(status.clone()).ok()).unwrap_or_default()
    };
    let spec: JobSpec = at(&new.rest, "spec").and_then(|spec| typed(spec.clone()).ok()).unwrap_or_default();
    let change = Change { spec, new: status(new), old: status(old) };
    let mut errs = change.numbers();
    errs.extend(change.uncounted());
    errs.extend(change.conditions());
    errs.extend(change.times());
    errs.extend(change.ended());
    errs.extend(change.indexes());
    errs
}

struct Change {
    spec: JobSpec,
    new: JobStatus,
    old: JobStatus,
}

fn has(status: &JobStatus, type_: &str) -> bool {
    status.conditions.iter().flatten().any(|c| c.type_ == type_ && c.status == "True")
}

fn is_finished(status: &JobStatus) -> bool {
    has(status, "Complete") || has(status, "Failed")
}

fn wrong(field: &str, why: impl Into<String>) -> FieldError {
    FieldError::invalid_whole(format!("status.{field}"), why)
}

impl Change {
    /// Whether what this reads of a status is another than before.
    fn moves<T: PartialEq>(&self, of: impl Fn(&JobStatus) -> T) -> bool {
        of(&self.new) != of(&self.old)
    }

    fn numbers(&self) -> Errors {
        let (new, old) = (&self.new, &self.old);
        let mut errs = Errors::new();
        let numbers = [
            ("active", new.active),
            ("succeeded", new.succeeded),
            ("failed", new.failed),
            ("ready", new.ready),
            ("terminating", new.terminating),
        ];
        for (field, number) in numbers {
            check::non_negative(&mut errs, format!("status.{field}"), number);
        }
        let moves = self.moves(|s| (s.ready, s.active));
        if let Some(ready) = new.ready.filter(|ready| moves && *ready > new.active.unwrap_or(0)) {
            errs.push(FieldError::invalid("status.ready", ready, "cannot set more ready pods than active"));
        }
        let may_shrink = is_indexed(&self.spec) && self.spec.completions == self.spec.parallelism;
        let counters =
            [("failed", new.failed, old.failed, true), ("succeeded", new.succeeded, old.succeeded, !may_shrink)];
        for (field, new, old, is_fixed) in counters {
            if is_fixed && new.unwrap_or(0) < old.unwrap_or(0) {
                let why = format!("cannot decrease the {field} counter");
                errs.push(FieldError::invalid(format!("status.{field}"), new.unwrap_or(0), why));
            }
        }
        errs
    }

    fn uncounted(&self) -> Errors {
        let noted = self.new.uncounted_terminated_pods.clone().unwrap_or_default();
        let named = |field: &str, uids: Option<Vec<String>>| {
            let path = |i: usize| format!("status.uncountedTerminatedPods.{field}[{i}]");
            uids.unwrap_or_default().into_iter().enumerate().map(|(i, uid)| (path(i), uid)).collect::<Vec<_>>()
        };
        let mut all = named("succeeded", noted.succeeded);
        all.extend(named("failed", noted.failed));
        let wrong = all.iter().enumerate().filter_map(|(n, (path, uid))| match uid.as_str() {
            "" => Some(FieldError::invalid(path, uid, "must not be empty")),
            uid if all[..n].iter().any(|(_, before)| before == uid) => Some(FieldError::duplicate(path, uid)),
            _ => None,
        });
        wrong.collect()
    }

    fn conditions(&self) -> Errors {
        let (new, old) = (&self.new, &self.old);
        let changes = |type_: &str| has(new, type_) != has(old, type_);
        let both = |one: &str, other: &str| has(new, one) && has(new, other);
        let (complete, failed) = (changes("Complete"), changes("Failed"));
        let rules = [
            ((complete || failed) && both("Complete", "Failed"), "cannot set Complete=True and Failed=true conditions"),
            (
                (complete || changes("FailureTarget")) && both("Complete", "FailureTarget"),
                "cannot set Complete=True and FailureTarget=true conditions",
            ),
            (
                failed && has(new, "Failed") && !has(new, "FailureTarget"),
                "cannot set Failed=True condition without the FailureTarget=true condition",
            ),
            (
                complete && has(new, "Complete") && !has(new, "SuccessCriteriaMet"),
                "cannot set Complete=True condition without the SuccessCriteriaMet=true condition",
            ),
            (both("SuccessCriteriaMet", "Failed"), "cannot set SuccessCriteriaMet=True and Failed=true conditions"),
            (
                both("SuccessCriteriaMet", "FailureTarget"),
                "cannot set SuccessCriteriaMet=True and FailureTarget=true conditions",
            ),
            (
                self.spec.success_policy.is_some() && has(new, "Complete") && !has(new, "SuccessCriteriaMet"),
                "cannot set Complete=True for Job with SuccessPolicy unless SuccessCriteriaMet=True",
            ),
            (
                has(old, "SuccessCriteriaMet") && !has(new, "SuccessCriteriaMet"),
                "cannot disable the SuccessCriteriaMet=True condition",
            ),
            (
                has(old, "Complete") && !has(old, "SuccessCriteriaMet") && has(new, "SuccessCriteriaMet"),
                "cannot set SuccessCriteriaMet=True for Job already has Complete=true conditions",
            ),
        ];
        let broken = rules.into_iter().filter(|(is_broken, _)| *is_broken);
        let mut errs: Errors = broken.map(|(_, why)| wrong("conditions", why)).collect();
        for type_ in ["Failed", "Complete", "FailureTarget"] {
            if has(old, type_) && !has(new, type_) {
                errs.push(wrong("conditions", format!("cannot disable the terminal {type_}=True condition")));
            }
        }
        errs
    }

    fn times(&self) -> Errors {
        let (new, old) = (&self.new, &self.old);
        let starts = self.moves(|s| s.start_time.clone());
        let completes = self.moves(|s| s.completion_time.clone()) || self.moves(|s| has(s, "Complete"));
        let (is_complete, at) = (has(new, "Complete"), new.completion_time.as_ref());
        let mut errs = Errors::new();
        if completes && at.is_some() && !is_complete {
            let why = "cannot set completionTime when there is no Complete=True condition";
            errs.push(FieldError::invalid("status.completionTime", at, why));
        }
        if completes && at.is_none() && is_complete {
            let why = "completionTime is required for Complete jobs";
            errs.push(FieldError::required("status.completionTime", why));
        }
        let is_before = at.zip(new.start_time.as_ref()).is_some_and(|(end, start)| end.0 < start.0);
        if (starts || self.moves(|s| s.completion_time.clone())) && is_before {
            errs.push(FieldError::invalid("status.completionTime", at, "must be equal to or after `startTime`"));
        }
        if at.is_some() && old.completion_time.is_some() && self.moves(|s| s.completion_time.clone()) {
            errs.push(FieldError::invalid("status.completionTime", at, "field is immutable"));
        }
        // A job that is resumed begins anew.
        let is_suspended = self.spec.suspend == Some(true) || has(old, "Suspended");
        if starts && old.start_time.is_some() && !is_suspended {
            let why = "startTime cannot be removed for unsuspended job";
            errs.push(FieldError::required("status.startTime", why));
        }
        errs
    }

    /// What a job that has ended has no more.
    fn ended(&self) -> Errors {
        let new = &self.new;
        let mut errs = Errors::new();
        if !is_finished(new) {
            return errs;
        }
        let ends = self.moves(is_finished);
        let active = new.active.unwrap_or(0);
        if (ends || self.moves(|s| s.active)) && active > 0 {
            errs.push(FieldError::invalid("status.active", active, "active>0 is invalid for finished job"));
        }
        let terminating = new.terminating.unwrap_or(0);
        if (ends || self.moves(|s| s.terminating)) && terminating > 0 {
            let why = "terminating>0 is invalid for finished job";
            errs.push(FieldError::invalid("status.terminating", terminating, why));
        }
        if (ends || self.moves(|s| s.start_time.clone())) && new.start_time.is_none() {
            errs.push(FieldError::required("status.startTime", "startTime is required for finished job"));
        }
        let noted = new.uncounted_terminated_pods.as_ref();
        let is_noted = noted.is_some_and(|n| [&n.failed, &n.succeeded].into_iter().flatten().any(|l| !l.is_empty()));
        if (ends || self.moves(|s| s.uncounted_terminated_pods.clone())) && is_noted {
            let why = "must be empty for finished job";
            errs.push(FieldError::invalid("status.uncountedTerminatedPods", noted, why));
        }
        errs
    }

    fn indexes(&self) -> Errors {
        let (spec, mut errs) = (&self.spec, Errors::new());
        let completed = self.new.completed_indexes.as_deref().unwrap_or_default();
        let failed = self.new.failed_indexes.as_deref();
        let (is_new_completed, is_new_failed) =
            (self.moves(|s| s.completed_indexes.clone()), self.moves(|s| s.failed_indexes.clone()));
        let mut invalid = |field: &str, text: &str, why: String| {
            errs.push(FieldError::invalid(format!("status.{field}"), text, why));
        };
        let read = |text: &str| spec.completions.and_then(|n| count_indexes(text, n).err());
        if let Some(why) = read(completed).filter(|_| is_new_completed) {
            invalid("completedIndexes", completed, format!("error parsing completedIndexes: {why}"));
        }
        if is_new_completed && !completed.is_empty() && !is_indexed(spec) {
            let why = "cannot set non-empty completedIndexes when non-indexed completion mode";
            invalid("completedIndexes", completed, why.to_owned());
        }
        let Some(failed) = failed else { return errs };
        let limits = spec.backoff_limit_per_index.is_some();
        if let Some(why) = read(failed).filter(|_| is_new_failed && limits) {
            invalid("failedIndexes", failed, format!("error parsing failedIndexes: {why}"));
        }
        if is_new_failed && !limits {
            let why = "cannot set non-null failedIndexes when backoffLimitPerIndex is null";
            invalid("failedIndexes", failed, why.to_owned());
        }
        let shared = spec.completions.and_then(|n| overlap(completed, failed, n));
        if let Some(index) = shared.filter(|_| is_new_completed || is_new_failed) {
            let why = format!("failedIndexes and completedIndexes overlap at index: {index}");
            invalid("failedIndexes", failed, why);
        }
        errs
    }
}

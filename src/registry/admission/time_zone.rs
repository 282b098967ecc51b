//! The time zone of a CronJob must be one that this machine knows. That is no step of Kubernetes' admission, but a part of its validation, which
//! reads files; what a kind says of itself reads none here.
//!
//! **Source**: `validateTimeZone`, pkg/apis/batch/validation/validation.go, v1.37.

use crate::{
    api::{
        field::FieldError,
        json_kind::text_at,
        kind::{ErasedKind as _, KindInfo},
        kinds::cron_job::{CRON_JOBS, TIME_ZONE, unknown_time_zone},
        object::{DynObject, Untyped},
        status::ApiError,
    },
    base::time_zone,
};

/// Refuses a zone that there is not. One that was good once may stay.
pub(super) fn review(info: &KindInfo<'_>, old: Option<&dyn DynObject>, new: &dyn DynObject) -> Result<(), ApiError> {
    if info.resource() != CRON_JOBS.info().resource() {
        return Ok(());
    }
    let zone_of = |obj: &dyn DynObject| {
        obj.as_any().downcast_ref::<Untyped>().map(|cron| text_at(&cron.rest, TIME_ZONE)).unwrap_or_default()
    };
    let zone = zone_of(new);
    if old.is_some_and(|old| zone_of(old) == zone) || time_zone::load(&zone).is_ok() {
        return Ok(());
    }
    let cause = FieldError::invalid(TIME_ZONE, &zone, unknown_time_zone(&zone));
    Err(ApiError::invalid(info, new.meta().name.as_deref().unwrap_or_default(), vec![cause]))
}

#[cfg(test)]
mod tests {
    use crate::{
        api::{kinds::cron_job::CronJobs, meta::ObjectKey},
        testing,
    };

    fn cron(zone: &str) -> k8s_openapi::api::batch::v1::CronJob {
        let text = format!(
            "{{metadata: {{name: c, namespace: default}}, spec: {{schedule: '@daily', timeZone: {zone}, jobTemplate: {{spec: {{template: \
             {{spec: {{restartPolicy: Never, containers: [{{name: c, image: i}}]}}}}}}}}}}}}"
        );
        testing::from_yaml(&text).unwrap()
    }

    #[tokio::test(start_paused = true)]
    async fn a_zone_that_the_machine_does_not_know_is_refused() {
        let registry = testing::registry().await;
        let api = registry.api::<CronJobs>();
        let refused = api.create(cron("Continent/Nowhere")).await.unwrap_err().to_string();
        let why = "spec.timeZone: Invalid value: \"Continent/Nowhere\": unknown time zone Continent/Nowhere";
        assert!(refused.contains(why), "{refused}");
        api.create(cron("UTC")).await.unwrap();
        let key = ObjectKey::new("default", "c");
        let moved = api.modify(&key, |cron| cron.spec.time_zone = Some("Mars/Olympus".into())).await;
        assert!(moved.unwrap_err().to_string().contains("unknown time zone Mars/Olympus"));
        api.modify(&key, |cron| cron.spec.suspend = Some(true)).await.unwrap();
    }
}
